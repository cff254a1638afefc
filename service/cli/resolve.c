#include "service/cli/resolve.h"

#include <errno.h>
#include <stdio.h>

#include "proto/grpc/reflection/v1/reflection.sl.h"
#include "proto/grpc/reflection/v1alpha/reflection.sl.h"
#include "runtime/base/base64.h"
#include "runtime/base/mem.h"

enum { MAX_PROTOSET_BYTES = 256 * 1024 * 1024, MAX_FILES = 10000, DEFAULT_TIMEOUT_MS = 20000 };
enum { MAX_HEADER_BYTES = 64 * 1024 };

/* ---- Files ------------------------------------------------------------------------------------
 */

enum sl_status sl_cli_read_file(const char *path, struct sl_buf *buf, struct sl_error *err)
{
    const bool is_stdin = strcmp(path, "-") == 0;
    FILE *file = is_stdin ? stdin : fopen(path, "rbe");
    if (file == NULL) {
        return sl_fail(err, SL_NOT_FOUND, "%.150s: cannot be read (errno %d)", path, errno);
    }
    uint8_t block[16384];
    size_t n = 0;
    enum sl_status status = SL_OK;
    while (status == SL_OK && (n = fread(block, 1, sizeof(block), file)) > 0) {
        status = sl_buf_add(buf, sl_slice_of(block, n));
    }
    if (status != SL_OK) {
        (void)sl_fail(err, status, "%.150s: over %zu bytes", path, buf->max_bytes);
    } else if (ferror(file) != 0) {
        status = sl_fail(err, SL_NOT_FOUND, "%.150s: cannot be read", path);
    }
    if (!is_stdin) {
        (void)fclose(file);
    }
    return status;
}

enum sl_status
sl_cli_read_protoset(const char *path, struct sl_schema *schema, struct sl_error *err)
{
    struct sl_buf bytes;
    struct sl_error inner = { .text = "" };
    sl_buf_init(&bytes, MAX_PROTOSET_BYTES);
    enum sl_status status = sl_cli_read_file(path, &bytes, err);
    if (status == SL_OK) {
        status = sl_schema_add_set(schema, sl_buf_slice(&bytes), &inner);
        if (status != SL_OK) {
            (void)sl_fail(err, status, "%.100s: no FileDescriptorSet: %.120s", path, inner.text);
        }
    }
    sl_buf_done(&bytes);
    return status;
}

/* ---- Reflection -------------------------------------------------------------------------------
 */

/* One conversation: the question, then every import that is not there yet. */
struct reflection {
    const struct sl_cli_source *source;
    struct sl_schema *schema;
    struct sl_error *err;
    struct sl_client_call *call;
    const char *symbol;   /* NULL: list the services */
    struct sl_buf *names; /* of the services */
    size_t n_imports;     /* looked at */
    bool is_import;       /* an import is being asked for: its absence is not the end */
    bool is_done;
    enum sl_status status;
};

typedef Grpc__Reflection__V1__ServerReflectionRequest request_t;
typedef Grpc__Reflection__V1__ServerReflectionResponse response_t;

static void finish(struct reflection *reflection, enum sl_status status)
{
    reflection->is_done = true;
    reflection->status = status;
    sl_cli_stop(reflection->source->cli, SL_EXIT_DONE);
}

static enum sl_status ask(struct reflection *reflection, const char *file)
{
    request_t request;
    grpc__reflection__v1__server_reflection_request__init(&request);
    if (file != NULL) {
        request.message_request_case =
            GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME;
        request.file_by_filename = sl_unconst(file);
    } else if (reflection->symbol != NULL) {
        request.message_request_case =
            GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL;
        request.file_containing_symbol = sl_unconst(reflection->symbol);
    } else {
        request.message_request_case =
            GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES;
        request.list_services = sl_unconst("");
    }
    return sl_client_call_send(reflection->call, &request);
}

/* Asks for the next import that is missing, or ends. */
static void ask_more(struct reflection *reflection)
{
    const char *name = NULL;
    do {
        name = reflection->n_imports >= MAX_FILES
                   ? NULL
                   : sl_schema_import_at(reflection->schema, reflection->n_imports++);
    } while (name != NULL && sl_schema_has_file(reflection->schema, name));
    if (name == NULL) {
        finish(reflection, SL_OK);
        return;
    }
    reflection->is_import = true;
    const enum sl_status status = ask(reflection, name);
    if (status != SL_OK && status != SL_AGAIN) { /* on_readable tells why */
        finish(reflection, sl_fail(reflection->err, status, "the reflection call ended"));
    }
}

static enum sl_status
take_files(struct reflection *reflection, const Grpc__Reflection__V1__FileDescriptorResponse *files)
{
    for (size_t i = 0; i < files->n_file_descriptor_proto; i++) {
        const ProtobufCBinaryData *file = &files->file_descriptor_proto[i];
        SL_TRY(sl_schema_add_file(
            reflection->schema, sl_slice_of(file->data, file->len), reflection->err));
    }
    return SL_OK;
}

static enum sl_status
take_services(struct reflection *reflection, const Grpc__Reflection__V1__ListServiceResponse *list)
{
    for (size_t i = 0; i < list->n_service; i++) {
        if (sl_buf_addf(reflection->names, "%s\n", list->service[i]->name) != SL_OK) {
            return sl_fail(reflection->err, SL_RESOURCE_EXHAUSTED, "too many services");
        }
    }
    return SL_OK;
}

static enum sl_status take_answer(struct reflection *reflection, const response_t *answer)
{
    switch ((int)answer->message_response_case) {
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE:
        return take_files(reflection, answer->file_descriptor_response);
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE:
        return take_services(reflection, answer->list_services_response);
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE:
        if (reflection->is_import) {
            return SL_OK; /* a type that is missing is named when it is needed */
        }
        return sl_fail(
            reflection->err, SL_NOT_FOUND, "the server does not know %s: %.150s",
            reflection->symbol == NULL ? "its services" : reflection->symbol,
            answer->error_response->error_message);
    default:
        return sl_fail(
            reflection->err, SL_INTERNAL, "reflection answers something that was not asked");
    }
}

static void on_readable(struct sl_client_call *call, void *user_data)
{
    struct reflection *reflection = user_data;
    void *message = NULL;
    enum sl_status status = SL_OK;
    while (!reflection->is_done && (status = sl_client_call_recv(call, &message)) == SL_OK) {
        status = take_answer(reflection, message);
        if (status != SL_OK) {
            finish(reflection, status);
            return;
        }
        ask_more(reflection);
    }
    if (reflection->is_done || status == SL_AGAIN) {
        return;
    }
    if (status == SL_END) {
        finish(
            reflection, sl_fail(reflection->err, SL_INTERNAL, "the reflection call ended early"));
        return;
    }
    *reflection->err = *sl_client_call_error(call);
    finish(reflection, status);
}

/* One try with one of the two versions: their messages are the same on the wire. */
static enum sl_status converse(struct reflection *reflection, const struct sl_method_desc *method)
{
    const struct sl_cli_source *source = reflection->source;
    const uint64_t timeout_ms = source->cli->options.timeout_ms;
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = timeout_ms == 0
                                                                      ? DEFAULT_TIMEOUT_MS
                                                                      : timeout_ms,
                                                    .metadata = source->metadata,
                                                    .n_metadata = source->n_metadata,
                                                    .on_readable = on_readable,
                                                    .user_data = reflection };
    reflection->is_done = false;
    reflection->is_import = false;
    const enum sl_status opened =
        sl_client_call_open(source->cli->channel, method, &options, &reflection->call);
    if (opened != SL_OK) {
        return sl_fail(reflection->err, opened, "the reflection call cannot be made");
    }
    const enum sl_status sent = ask(reflection, NULL);
    if (sent == SL_OK || sent == SL_AGAIN ||
        sl_client_call_status(reflection->call) != SL_PENDING) {
        (void)sl_cli_run(source->cli);
    }
    if (!reflection->is_done) { /* a signal ended the loop */
        reflection->status = sl_fail(reflection->err, SL_CANCELLED, "cancelled");
    }
    reflection->call = sl_client_call_free(reflection->call);
    return reflection->status;
}

static enum sl_status reflect(struct reflection *reflection)
{
    struct sl_method_desc method = sl_grpc__reflection__v1__server_reflection__methods[0];
    enum sl_status status = converse(reflection, &method);
    if (status == SL_UNIMPLEMENTED) {
        method.path = sl_grpc__reflection__v1alpha__server_reflection__methods[0].path;
        status = converse(reflection, &method);
    }
    if (status == SL_UNIMPLEMENTED) {
        return sl_fail(
            reflection->err, SL_UNIMPLEMENTED,
            "the server has no reflection: give its types with --protoset FILE");
    }
    return status;
}

/* ---- Both -------------------------------------------------------------------------------------
 */

enum sl_status sl_cli_load_symbol(
    const struct sl_cli_source *source,
    struct sl_schema *schema,
    struct sl_slice symbol,
    struct sl_error *err)
{
    if (source->protoset != NULL) {
        return sl_cli_read_protoset(source->protoset, schema, err);
    }
    char *name = sl_strndup((const char *)symbol.data, symbol.size);
    if (name == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "out of memory");
    }
    struct reflection reflection = {
        .source = source, .schema = schema, .err = err, .symbol = name
    };
    const enum sl_status status = reflect(&reflection);
    (void)sl_free(name);
    return status;
}

enum sl_status sl_cli_list_services(
    const struct sl_cli_source *source,
    struct sl_schema *schema,
    struct sl_buf *names,
    struct sl_error *err)
{
    struct reflection reflection = {
        .source = source, .schema = schema, .err = err, .names = names
    };
    if (source->protoset == NULL) {
        return reflect(&reflection);
    }
    SL_TRY(sl_cli_read_protoset(source->protoset, schema, err));
    const char *name = NULL;
    for (size_t i = 0; (name = sl_schema_service_at(schema, i)) != NULL; i++) {
        if (sl_buf_addf(names, "%s\n", name) != SL_OK) {
            return sl_fail(err, SL_RESOURCE_EXHAUSTED, "too many services");
        }
    }
    return SL_OK;
}

/* The service's part of a method's name. */
static struct sl_slice service_of(const char *name)
{
    const char *text = name[0] == '/' ? name + 1 : name;
    const char *cut = strrchr(text, '/');
    cut = cut == NULL ? strrchr(text, '.') : cut;
    return sl_slice_of(text, cut == NULL ? strlen(text) : (size_t)(cut - text));
}

enum sl_status sl_cli_find_method(
    const struct sl_cli_source *source,
    struct sl_schema *schema,
    const char *name,
    const struct sl_schema_method **ret_method,
    struct sl_error *err)
{
    SL_TRY(sl_cli_load_symbol(source, schema, service_of(name), err));
    return sl_schema_find_method(schema, name, ret_method, err);
}

/* ---- Headers ----------------------------------------------------------------------------------
 */

static struct sl_slice trim(struct sl_slice text)
{
    while (text.size > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text = sl_slice_of(text.data + 1, text.size - 1);
    }
    while (text.size > 0 && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t')) {
        text.size--;
    }
    return text;
}

/* Keys are lower case on the wire; people write them as they like. */
static struct sl_slice lower(struct sl_arena *arena, struct sl_slice key)
{
    char *copy = sl_arena_dup(arena, key);
    for (size_t i = 0; copy != NULL && i < key.size; i++) {
        copy[i] = (char)(copy[i] >= 'A' && copy[i] <= 'Z' ? copy[i] - 'A' + 'a' : copy[i]);
    }
    return sl_slice_of(copy, copy == NULL ? 0 : key.size);
}

static enum sl_status
read_header(const char *text, struct sl_arena *arena, struct sl_metadata *metadata)
{
    const char *colon = strchr(text, ':');
    if (colon == NULL) {
        return SL_INVALID_ARGUMENT;
    }
    const struct sl_slice key = lower(arena, trim(sl_slice_of(text, (size_t)(colon - text))));
    struct sl_slice value = trim(sl_slice_str(colon + 1));
    if (key.size > 4 && memcmp(key.data + key.size - 4, "-bin", 4) == 0) {
        uint8_t *bytes = sl_arena_alloc(arena, value.size * 3 / 4 + 1);
        if (bytes == NULL) {
            return SL_RESOURCE_EXHAUSTED;
        }
        SL_TRY(sl_base64_decode(value, bytes, &value.size));
        value.data = bytes;
    }
    return sl_metadata_add(metadata, arena, key, value);
}

enum sl_status sl_cli_read_headers(
    const struct sl_cli_list *list, struct sl_arena *arena, struct sl_metadata *ret_metadata)
{
    sl_arena_init(arena, MAX_HEADER_BYTES);
    for (size_t i = 0; i < list->n_items; i++) {
        const enum sl_status status = read_header(list->items[i], arena, ret_metadata);
        if (status != SL_OK) {
            sl_cli_complain(
                "--header '%.60s': %s", list->items[i],
                status == SL_RESOURCE_EXHAUSTED ? "too large"
                                                : "not 'key: value' with a key of a-z, 0-9, '-', "
                                                  "'_', '.' that is not gRPC's own "
                                                  "(-bin: base64)");
            return status;
        }
    }
    return SL_OK;
}
