#include "service/schema/schema.h"

#include <stdio.h>

#include "runtime/base/mem.h"
#include "service/rpc/codec.h"
#include "service/schema/schema_impl.h"

enum { MAX_NAME_BYTES = 1024 };

enum sl_status sl_schema_new(struct sl_schema **ret_schema)
{
    struct sl_schema *schema = sl_calloc(1, sizeof(*schema));
    if (schema == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    sl_arena_init(&schema->arena, SL_SCHEMA_MAX_BYTES);
    schema->last_service = &schema->services;
    *ret_schema = schema;
    return SL_OK;
}

struct sl_schema *sl_schema_free(struct sl_schema *schema)
{
    if (schema != NULL) {
        sl_pool_clear(schema);
        sl_arena_done(&schema->arena);
        (void)sl_free(schema);
    }
    return NULL;
}

bool sl_schema_has_file(const struct sl_schema *schema, const char *file_name)
{
    return sl_pool_find_file(schema->files, file_name) != NULL;
}

const char *sl_schema_import_at(const struct sl_schema *schema, size_t index)
{
    const struct sl_schema_file *file = schema->imports;
    for (size_t i = 0; file != NULL && i < index; i++) {
        file = file->hh.next;
    }
    return file == NULL ? NULL : file->name;
}

/* ---- Files ------------------------------------------------------------------------------------
 */

/* Checks the bytes and unpacks them into `arena`: protobuf-c itself knows no depth. */
static enum sl_status unpack(
    const ProtobufCMessageDescriptor *type,
    struct sl_slice bytes,
    struct sl_arena *arena,
    void **ret_message,
    struct sl_error *err)
{
    struct sl_limits limits;
    sl_limits_init(&limits);
    limits.message_recv = SL_SCHEMA_MAX_BYTES;
    limits.message_depth = SL_SCHEMA_DEPTH;
    limits.message_tags = 16777216; /* comments have many */
    const enum sl_status status =
        sl_codec_proto.decode(&limits, type, bytes, arena, ret_message, err);
    if (status != SL_OK && status != SL_RESOURCE_EXHAUSTED) {
        if (err != NULL) {
            err->status = SL_INVALID_ARGUMENT;
        }
        return SL_INVALID_ARGUMENT;
    }
    return status;
}

enum sl_status
sl_schema_add_file(struct sl_schema *schema, struct sl_slice bytes, struct sl_error *err)
{
    struct sl_arena arena;
    void *file = NULL;
    sl_arena_init(&arena, SL_SCHEMA_MAX_BYTES);
    enum sl_status status =
        unpack(&google__protobuf__file_descriptor_proto__descriptor, bytes, &arena, &file, err);
    if (status == SL_OK) {
        status = sl_schema_build_file(schema, file, err);
    }
    sl_arena_done(&arena);
    return status;
}

enum sl_status
sl_schema_add_set(struct sl_schema *schema, struct sl_slice bytes, struct sl_error *err)
{
    struct sl_arena arena;
    void *message = NULL;
    sl_arena_init(&arena, SL_SCHEMA_MAX_BYTES);
    enum sl_status status =
        unpack(&google__protobuf__file_descriptor_set__descriptor, bytes, &arena, &message, err);
    const Google__Protobuf__FileDescriptorSet *set = message;
    for (size_t i = 0; status == SL_OK && i < set->n_file; i++) {
        status = sl_schema_build_file(schema, set->file[i], err);
    }
    sl_arena_done(&arena);
    return status;
}

/* ---- Services and methods ---------------------------------------------------------------------
 */

const char *sl_schema_service_at(const struct sl_schema *schema, size_t index)
{
    const struct sl_schema_service *service = schema->services;
    for (size_t i = 0; service != NULL && i < index; i++) {
        service = service->next;
    }
    return service == NULL ? NULL : service->name;
}

static struct sl_schema_service *find_service(const struct sl_schema *schema, struct sl_slice name)
{
    struct sl_schema_service *service = schema->services;
    while (service != NULL && !sl_slice_equals(name, service->name)) {
        service = service->next;
    }
    return service;
}

static const char *without_dot(const char *type_name)
{
    return type_name[0] == '.' ? type_name + 1 : type_name;
}

bool sl_schema_method_at(
    const struct sl_schema *schema,
    const char *service,
    size_t index,
    struct sl_schema_method_name *ret_name)
{
    const struct sl_schema_service *found = find_service(schema, sl_slice_str(service));
    if (found == NULL || index >= found->n_methods) {
        return false;
    }
    const struct sl_method_desc *desc = &found->methods[index].desc;
    *ret_name = (struct sl_schema_method_name){ .name = desc->name,
                                                .request = without_dot(found->requests[index]),
                                                .response = without_dot(found->responses[index]),
                                                .kind = desc->kind };
    return true;
}

/* Appends ", name" to a sentence that has its own end. */
static void add_name(char *text, size_t text_bytes, const char *name)
{
    const size_t n = strlen(text);
    (void)snprintf(text + n, text_bytes - n, "%s%s", n == 0 ? "" : ", ", name);
}

static enum sl_status
no_service(const struct sl_schema *schema, struct sl_slice name, struct sl_error *err)
{
    char there[160] = "";
    for (const struct sl_schema_service *at = schema->services; at != NULL; at = at->next) {
        add_name(there, sizeof(there), at->name);
    }
    const int size = name.size > 60 ? 60 : (int)name.size;
    return sl_fail(
        err, SL_NOT_FOUND, "no service '%.*s'; there is %s", size, (const char *)name.data,
        there[0] == '\0' ? "none" : there);
}

static enum sl_status
no_method(const struct sl_schema_service *service, const char *name, struct sl_error *err)
{
    char there[120] = "";
    for (size_t i = 0; i < service->n_methods; i++) {
        add_name(there, sizeof(there), service->methods[i].desc.name);
    }
    return sl_fail(
        err, SL_NOT_FOUND, "%.60s has no method '%.40s'; it has %s", service->name, name,
        there[0] == '\0' ? "none" : there);
}

static enum sl_status link_method(
    struct sl_schema *schema,
    const struct sl_schema_service *service,
    size_t index,
    struct sl_error *err)
{
    struct sl_schema_method *method = &service->methods[index];
    const char *names[2] = { service->requests[index], service->responses[index] };
    struct sl_schema_message *found[2] = { NULL, NULL };
    for (size_t i = 0; i < SL_COUNT(names); i++) {
        const struct sl_schema_symbol *symbol = sl_schema_lookup(schema, names[i], service->name);
        if (symbol == NULL || symbol->message == NULL) {
            return sl_fail(
                err, SL_FAILED_PRECONDITION, "%.80s: its type %.80s is in none of the files",
                method->desc.path, names[i]);
        }
        found[i] = symbol->message;
        SL_TRY(sl_schema_link(schema, found[i], err));
    }
    method->request = found[0];
    method->response = found[1];
    return SL_OK;
}

enum sl_status sl_schema_find_method(
    struct sl_schema *schema,
    const char *name,
    const struct sl_schema_method **ret_method,
    struct sl_error *err)
{
    const char *text = name[0] == '/' ? name + 1 : name;
    const char *cut = strrchr(text, '/');
    cut = cut == NULL ? strrchr(text, '.') : cut;
    if (cut == NULL || strlen(text) > MAX_NAME_BYTES) {
        return no_service(schema, sl_slice_str(text), err);
    }
    const struct sl_slice service_name = sl_slice_of(text, (size_t)(cut - text));
    const struct sl_schema_service *service = find_service(schema, service_name);
    if (service == NULL) {
        return no_service(schema, service_name, err);
    }
    size_t i = 0;
    while (i < service->n_methods && strcmp(service->methods[i].desc.name, cut + 1) != 0) {
        i++;
    }
    if (i == service->n_methods) {
        return no_method(service, cut + 1, err);
    }
    SL_TRY(link_method(schema, service, i, err));
    *ret_method = &service->methods[i];
    return SL_OK;
}

enum sl_status sl_schema_find_message(
    struct sl_schema *schema,
    struct sl_slice name,
    const struct sl_schema_message **ret_message,
    struct sl_error *err)
{
    struct sl_schema_symbol *symbol = sl_pool_find_symbol(schema, name);
    if (symbol == NULL || symbol->message == NULL) {
        const int size = name.size > 100 ? 100 : (int)name.size;
        return sl_fail(err, SL_NOT_FOUND, "no message '%.*s'", size, (const char *)name.data);
    }
    SL_TRY(sl_schema_link(schema, symbol->message, err));
    *ret_message = symbol->message;
    return SL_OK;
}

const char *sl_schema_message_name(const struct sl_schema_message *message)
{
    return message->name;
}
