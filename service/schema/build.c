/* FileDescriptorProto to the pool's own structs. Nothing is looked up yet: that is link.c. */
#include <stdio.h>

#include "runtime/base/mem.h"
#include "service/schema/schema_impl.h"

enum syntax { PROTO2, PROTO3, EDITIONS };

enum { MAX_NAME_BYTES = 512 };

struct build {
    struct sl_schema *schema;
    const char *file;
    enum syntax syntax;
    struct sl_error *err;
};

static enum sl_status out_of_memory(const struct build *build)
{
    return sl_fail(
        build->err, SL_RESOURCE_EXHAUSTED, "%.100s: no memory for its types", build->file);
}

static enum sl_status wrong(const struct build *build, const char *name, const char *what)
{
    return sl_fail(build->err, SL_INVALID_ARGUMENT, "%.80s: %.80s: %s", build->file, name, what);
}

static void *take_room(const struct build *build, size_t n, size_t size)
{
    return sl_arena_calloc(&build->schema->arena, n == 0 ? 1 : n, size);
}

static char *copy(const struct build *build, const char *text)
{
    return sl_arena_dup(&build->schema->arena, sl_slice_str(text));
}

/* ---- Names ------------------------------------------------------------------------------------
 */

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* "name", or with `has_dots` "a.b.c", with an optional first dot. */
static bool is_name(const char *text, bool has_dots)
{
    const size_t size = text == NULL ? 0 : strlen(text);
    bool is_start = true;
    if (size == 0 || size > MAX_NAME_BYTES) {
        return false;
    }
    for (size_t i = has_dots && text[0] == '.' ? 1 : 0; i < size; i++) {
        const bool is_digit = text[i] >= '0' && text[i] <= '9';
        if (text[i] == '.' && has_dots && !is_start) {
            is_start = true;
        } else if (is_letter(text[i]) || (is_digit && !is_start)) {
            is_start = false;
        } else {
            return false;
        }
    }
    return !is_start;
}

/* "scope.name", or "name" when the scope is empty. NULL: no memory. */
static const char *join(const struct build *build, const char *scope, const char *name)
{
    const size_t size = strlen(scope) + strlen(name) + 2;
    char *room = sl_arena_alloc(&build->schema->arena, size);
    if (room != NULL) {
        (void)snprintf(room, size, "%s%s%s", scope, scope[0] == '\0' ? "" : ".", name);
    }
    return room;
}

/* foo_bar becomes fooBar, as protoc does it. */
static const char *json_name_of(const struct build *build, const char *name)
{
    char *room = sl_arena_alloc(&build->schema->arena, strlen(name) + 1);
    size_t size = 0;
    bool is_upper = false;
    for (size_t i = 0; room != NULL && name[i] != '\0'; i++) {
        if (name[i] == '_') {
            is_upper = true;
            continue;
        }
        room[size] = name[i];
        if (is_upper && name[i] >= 'a' && name[i] <= 'z') {
            room[size] = (char)(name[i] - 'a' + 'A');
        }
        size++;
        is_upper = false;
    }
    if (room != NULL) {
        room[size] = '\0';
    }
    return room;
}

/* A new name in the pool; the first of two wins in C, so a second one is refused. */
static enum sl_status add_symbol(
    const struct build *build,
    const char *name,
    struct sl_schema_message *message,
    struct sl_schema_enum *enumeration)
{
    struct sl_schema_symbol *symbol = sl_pool_find_symbol(build->schema, sl_slice_str(name));
    if (symbol != NULL) {
        return wrong(build, name, "is defined twice");
    }
    symbol = take_room(build, 1, sizeof(*symbol));
    if (symbol == NULL) {
        return out_of_memory(build);
    }
    symbol->name = name;
    symbol->message = message;
    symbol->enumeration = enumeration;
    return sl_pool_add_symbol(build->schema, symbol) ? SL_OK : out_of_memory(build);
}

/* ---- Enums ------------------------------------------------------------------------------------
 */

static enum sl_status add_enum(
    const struct build *build, const char *scope, const Google__Protobuf__EnumDescriptorProto *from)
{
    if (!is_name(from->name, false) || from->n_value == 0) {
        return wrong(build, scope, "an enum without a name or without values");
    }
    struct sl_schema_enum *to = take_room(build, 1, sizeof(*to));
    struct sl_schema_enum_value *values = take_room(build, from->n_value, sizeof(*values));
    const char *name = join(build, scope, from->name);
    if (to == NULL || values == NULL || name == NULL) {
        return out_of_memory(build);
    }
    for (size_t i = 0; i < from->n_value; i++) {
        if (!is_name(from->value[i]->name, false)) {
            return wrong(build, name, "a value without a name");
        }
        values[i].name = copy(build, from->value[i]->name);
        values[i].number = from->value[i]->number;
        if (values[i].name == NULL) {
            return out_of_memory(build);
        }
    }
    to->name = name;
    to->values = values;
    to->n_values = from->n_value;
    to->is_closed = build->syntax == PROTO2;
    to->is_null = strcmp(name, "google.protobuf.NullValue") == 0;
    return add_symbol(build, name, NULL, to);
}

/* ---- Fields -----------------------------------------------------------------------------------
 */

static bool has_type_name(enum sl_schema_type type)
{
    return type == SL_TYPE_MESSAGE || type == SL_TYPE_GROUP || type == SL_TYPE_ENUM;
}

static bool can_be_packed(enum sl_schema_type type)
{
    return type != SL_TYPE_STRING && type != SL_TYPE_BYTES && type != SL_TYPE_MESSAGE &&
           type != SL_TYPE_GROUP;
}

static bool is_presence_known(
    const struct build *build,
    const Google__Protobuf__FieldDescriptorProto *from,
    enum sl_schema_type type)
{
    return build->syntax != PROTO3 || type == SL_TYPE_MESSAGE || type == SL_TYPE_GROUP ||
           from->has_oneof_index || from->extendee != NULL;
}

static const char *fault_of(const Google__Protobuf__FieldDescriptorProto *from, size_t n_oneofs)
{
    if (!from->has_number || from->number < 1 || from->number > SL_SCHEMA_MAX_FIELD) {
        return "its number is not from 1 to 536870911";
    }
    if (!from->has_type || (int)from->type < SL_TYPE_DOUBLE || (int)from->type > SL_TYPE_SINT64) {
        return "its type is none that there is";
    }
    if (has_type_name((enum sl_schema_type)from->type) && !is_name(from->type_name, true)) {
        return "the name of its type is missing or no name";
    }
    if (from->has_oneof_index &&
        (from->oneof_index < 0 || (size_t)from->oneof_index >= n_oneofs ||
         from->label == GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__LABEL__LABEL_REPEATED)) {
        return "it is in a oneof where it cannot be";
    }
    return NULL;
}

static enum sl_status read_field(
    const struct build *build,
    const char *scope,
    const Google__Protobuf__FieldDescriptorProto *from,
    size_t n_oneofs,
    struct sl_schema_field *to)
{
    if (!is_name(from->name, false)) {
        return wrong(build, scope, "a field without a name");
    }
    const char *fault = fault_of(from, n_oneofs);
    if (fault != NULL) {
        const char *name = join(build, scope, from->name);
        return name == NULL ? out_of_memory(build) : wrong(build, name, fault);
    }
    const enum sl_schema_type type = (enum sl_schema_type)from->type;
    const bool is_packed = from->options != NULL && from->options->has_packed
                               ? from->options->packed
                               : build->syntax != PROTO2;
    to->number = (uint32_t)from->number;
    to->type = type;
    to->is_repeated =
        from->label == GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__LABEL__LABEL_REPEATED;
    to->is_required =
        from->label == GOOGLE__PROTOBUF__FIELD_DESCRIPTOR_PROTO__LABEL__LABEL_REQUIRED;
    to->is_packed = to->is_repeated && is_packed && can_be_packed(type);
    to->has_presence = !to->is_repeated && is_presence_known(build, from, type);
    to->is_utf8 = type == SL_TYPE_STRING;
    to->oneof = from->has_oneof_index && !from->proto3_optional ? from->oneof_index : -1;
    to->scope = scope;
    to->name = copy(build, from->name);
    to->json_name = from->json_name != NULL && from->json_name[0] != '\0'
                        ? copy(build, from->json_name)
                        : json_name_of(build, from->name);
    to->type_name = has_type_name(type) ? copy(build, from->type_name) : NULL;
    return to->name == NULL || to->json_name == NULL ||
                   (to->type_name == NULL && has_type_name(type))
               ? out_of_memory(build)
               : SL_OK;
}

static enum sl_status add_extension(
    const struct build *build,
    const char *scope,
    const Google__Protobuf__FieldDescriptorProto *from)
{
    struct sl_schema_extension *to = take_room(build, 1, sizeof(*to));
    if (to == NULL) {
        return out_of_memory(build);
    }
    SL_TRY(read_field(build, scope, from, 0, &to->field));
    if (!is_name(from->extendee, true)) {
        return wrong(build, to->field.name, "an extension of nothing");
    }
    const char *full = join(build, scope, from->name);
    const size_t size = full == NULL ? 0 : strlen(full) + 3;
    char *bracketed = sl_arena_alloc(&build->schema->arena, size + 1);
    to->extendee = copy(build, from->extendee);
    if (full == NULL || bracketed == NULL || to->extendee == NULL) {
        return out_of_memory(build);
    }
    (void)snprintf(bracketed, size, "[%s]", full);
    to->field.name = bracketed;
    to->field.json_name = bracketed;
    to->scope = scope;
    to->next = build->schema->extensions;
    build->schema->extensions = to;
    return SL_OK;
}

/* ---- Messages ---------------------------------------------------------------------------------
 */

static void set_known(struct sl_schema_message *message)
{
    static const struct {
        const char *name;
        enum sl_schema_known known;
        enum sl_schema_type wrapped;
    } table[] = {
        { "Any", SL_KNOWN_ANY, 0 },
        { "Timestamp", SL_KNOWN_TIMESTAMP, 0 },
        { "Duration", SL_KNOWN_DURATION, 0 },
        { "FieldMask", SL_KNOWN_FIELD_MASK, 0 },
        { "Struct", SL_KNOWN_STRUCT, 0 },
        { "Value", SL_KNOWN_VALUE, 0 },
        { "ListValue", SL_KNOWN_LIST, 0 },
        { "DoubleValue", SL_KNOWN_WRAPPER, SL_TYPE_DOUBLE },
        { "FloatValue", SL_KNOWN_WRAPPER, SL_TYPE_FLOAT },
        { "Int64Value", SL_KNOWN_WRAPPER, SL_TYPE_INT64 },
        { "UInt64Value", SL_KNOWN_WRAPPER, SL_TYPE_UINT64 },
        { "Int32Value", SL_KNOWN_WRAPPER, SL_TYPE_INT32 },
        { "UInt32Value", SL_KNOWN_WRAPPER, SL_TYPE_UINT32 },
        { "BoolValue", SL_KNOWN_WRAPPER, SL_TYPE_BOOL },
        { "StringValue", SL_KNOWN_WRAPPER, SL_TYPE_STRING },
        { "BytesValue", SL_KNOWN_WRAPPER, SL_TYPE_BYTES },
    };
    static const char package[] = "google.protobuf.";
    const size_t n = sizeof(package) - 1;
    for (size_t i = 0; strncmp(message->name, package, n) == 0 && i < SL_COUNT(table); i++) {
        if (strcmp(message->name + n, table[i].name) == 0) {
            message->known = table[i].known;
            message->wrapped = table[i].wrapped;
        }
    }
}

static enum sl_status read_oneofs(
    const struct build *build,
    const Google__Protobuf__DescriptorProto *from,
    struct sl_schema_message *to)
{
    const char **oneofs = take_room(build, from->n_oneof_decl, sizeof(*oneofs));
    if (oneofs == NULL) {
        return out_of_memory(build);
    }
    for (size_t i = 0; i < from->n_oneof_decl; i++) {
        if (!is_name(from->oneof_decl[i]->name, false)) {
            return wrong(build, to->name, "a oneof without a name");
        }
        oneofs[i] = copy(build, from->oneof_decl[i]->name);
        if (oneofs[i] == NULL) {
            return out_of_memory(build);
        }
    }
    to->oneofs = oneofs;
    to->n_oneofs = from->n_oneof_decl;
    return SL_OK;
}

static enum sl_status add_message(
    const struct build *build, const char *scope, const Google__Protobuf__DescriptorProto *from);

/* What is defined inside a message. As deep as unpacking allowed: 100. */
static enum sl_status add_nested(
    const struct build *build, const char *scope, const Google__Protobuf__DescriptorProto *from)
{
    for (size_t i = 0; i < from->n_nested_type; i++) {
        SL_TRY(add_message(build, scope, from->nested_type[i]));
    }
    for (size_t i = 0; i < from->n_enum_type; i++) {
        SL_TRY(add_enum(build, scope, from->enum_type[i]));
    }
    for (size_t i = 0; i < from->n_extension; i++) {
        SL_TRY(add_extension(build, scope, from->extension[i]));
    }
    return SL_OK;
}

static enum sl_status add_message(
    const struct build *build, const char *scope, const Google__Protobuf__DescriptorProto *from)
{
    if (!is_name(from->name, false) || from->n_field > SL_SCHEMA_MAX_FIELDS) {
        return wrong(build, scope, "a message without a name, or with too many fields");
    }
    struct sl_schema_message *to = take_room(build, 1, sizeof(*to));
    const char *name = join(build, scope, from->name);
    struct sl_schema_field *fields = take_room(build, from->n_field, sizeof(*fields));
    if (to == NULL || name == NULL || fields == NULL) {
        return out_of_memory(build);
    }
    to->schema = build->schema;
    to->name = name;
    to->is_map_entry = from->options != NULL && from->options->map_entry;
    set_known(to);
    SL_TRY(read_oneofs(build, from, to));
    for (size_t i = 0; i < from->n_field; i++) {
        SL_TRY(read_field(build, name, from->field[i], from->n_oneof_decl, &fields[i]));
    }
    to->fields = fields;
    to->n_fields = from->n_field;
    SL_TRY(add_symbol(build, name, to, NULL));
    return add_nested(build, name, from);
}

/* ---- Services ---------------------------------------------------------------------------------
 */

static enum sl_method_kind kind_of(const Google__Protobuf__MethodDescriptorProto *from)
{
    if (from->client_streaming) {
        return from->server_streaming ? SL_BIDIRECTIONAL : SL_CLIENT_STREAMING;
    }
    return from->server_streaming ? SL_SERVER_STREAMING : SL_UNARY;
}

static enum sl_status read_method(
    const struct build *build,
    const Google__Protobuf__MethodDescriptorProto *from,
    struct sl_schema_service *service,
    size_t index)
{
    if (!is_name(from->name, false) || !is_name(from->input_type, true) ||
        !is_name(from->output_type, true)) {
        return wrong(build, service->name, "a method without a name or types");
    }
    const size_t path_bytes = strlen(service->name) + strlen(from->name) + 3;
    char *path = sl_arena_alloc(&build->schema->arena, path_bytes);
    const char *request = copy(build, from->input_type);
    const char *response = copy(build, from->output_type);
    if (path == NULL || request == NULL || response == NULL) {
        return out_of_memory(build);
    }
    (void)snprintf(path, path_bytes, "/%s/%s", service->name, from->name);
    struct sl_method_desc *desc = &service->methods[index].desc;
    desc->path = path;
    desc->name = path + strlen(service->name) + 2;
    desc->kind = kind_of(from);
    if (from->options != NULL) {
        desc->idempotency = (enum sl_idempotency)from->options->idempotency_level;
    }
    service->requests[index] = request;
    service->responses[index] = response;
    return SL_OK;
}

static enum sl_status add_service(
    const struct build *build,
    const char *package,
    const Google__Protobuf__ServiceDescriptorProto *from)
{
    if (!is_name(from->name, false)) {
        return wrong(build, package, "a service without a name");
    }
    struct sl_schema_service *to = take_room(build, 1, sizeof(*to));
    if (to == NULL) {
        return out_of_memory(build);
    }
    to->name = join(build, package, from->name);
    to->methods = take_room(build, from->n_method, sizeof(*to->methods));
    to->requests = take_room(build, from->n_method, sizeof(*to->requests));
    to->responses = take_room(build, from->n_method, sizeof(*to->responses));
    if (to->name == NULL || to->methods == NULL || to->requests == NULL || to->responses == NULL) {
        return out_of_memory(build);
    }
    for (size_t i = 0; i < from->n_method; i++) {
        SL_TRY(read_method(build, from->method[i], to, i));
    }
    to->n_methods = from->n_method;
    *build->schema->last_service = to;
    build->schema->last_service = &to->next;
    return SL_OK;
}

/* ---- The file ---------------------------------------------------------------------------------
 */

static enum sl_status
remember_file(const struct build *build, const char *name, struct sl_schema_file **files)
{
    struct sl_schema_file *file = sl_pool_find_file(*files, name);
    if (file != NULL) {
        return SL_OK;
    }
    file = take_room(build, 1, sizeof(*file));
    char *text = copy(build, name);
    if (file == NULL || text == NULL) {
        return out_of_memory(build);
    }
    file->name = text;
    return sl_pool_add_file(files, file) ? SL_OK : out_of_memory(build);
}

static enum sl_status
remember_files(const struct build *build, const Google__Protobuf__FileDescriptorProto *file)
{
    SL_TRY(remember_file(build, build->file, &build->schema->files));
    for (size_t i = 0; i < file->n_dependency; i++) {
        SL_TRY(remember_file(build, file->dependency[i], &build->schema->imports));
    }
    return SL_OK;
}

static enum syntax syntax_of(const Google__Protobuf__FileDescriptorProto *file)
{
    if (file->syntax == NULL || strcmp(file->syntax, "proto2") == 0) {
        return PROTO2;
    }
    return strcmp(file->syntax, "proto3") == 0 ? PROTO3 : EDITIONS;
}

enum sl_status sl_schema_build_file(
    struct sl_schema *schema,
    const Google__Protobuf__FileDescriptorProto *file,
    struct sl_error *err)
{
    struct build build = { .schema = schema,
                           .file = file->name == NULL ? "" : file->name,
                           .syntax = syntax_of(file),
                           .err = err };
    const char *package = file->package == NULL ? "" : file->package;
    if (build.file[0] == '\0' || strlen(build.file) > MAX_NAME_BYTES) {
        return wrong(&build, "file", "it has no name");
    }
    if (sl_schema_has_file(schema, build.file)) {
        return SL_OK;
    }
    if (package[0] != '\0' && !is_name(package, true)) {
        return wrong(&build, "package", "it is no name");
    }
    package = copy(&build, package);
    if (package == NULL) {
        return out_of_memory(&build);
    }
    SL_TRY(remember_files(&build, file));
    for (size_t i = 0; i < file->n_message_type; i++) {
        SL_TRY(add_message(&build, package, file->message_type[i]));
    }
    for (size_t i = 0; i < file->n_enum_type; i++) {
        SL_TRY(add_enum(&build, package, file->enum_type[i]));
    }
    for (size_t i = 0; i < file->n_extension; i++) {
        SL_TRY(add_extension(&build, package, file->extension[i]));
    }
    for (size_t i = 0; i < file->n_service; i++) {
        SL_TRY(add_service(&build, package, file->service[i]));
    }
    return SL_OK;
}
