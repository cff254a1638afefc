#include "codegen/model.h"

#include <stdlib.h>
#include <string.h>

#include "codegen/wire.h"

enum {
    REQUEST_PROTO_FILE = 15,
    FILE_SOURCE_CODE_INFO = 9,
    OPTION_PB_C = 1019, /* (pb_c_file) of protobuf-c.proto */
    PB_C_NO_GENERATE = 1,
    PB_C_C_PACKAGE = 6,
};

/* One ProtobufCFileOptions; a later one adds to an earlier. False: no memory or broken. */
static bool read_pb_c(struct sl_proto *proto, const uint8_t *data, size_t size)
{
    struct sl_wire wire = { .data = data, .size = size };
    struct sl_wire_field field;
    while (sl_wire_next(&wire, &field)) {
        if (field.number == PB_C_NO_GENERATE && field.type == SL_WIRE_VARINT) {
            proto->is_suppressed = field.value != 0;
        }
        if (field.number == PB_C_C_PACKAGE && field.type == SL_WIRE_LEN) {
            free(proto->c_package);
            proto->c_package = strndup((const char *)field.data, field.size);
            if (proto->c_package == NULL) {
                return false;
            }
        }
    }
    return !wire.is_broken;
}

/* Custom options arrive as unknown fields (GC-8), LEN ones with their length in front. */
static bool read_options(struct sl_proto *proto)
{
    const Google__Protobuf__FileOptions *options = proto->file->options;
    for (size_t i = 0; options != NULL && i < options->base.n_unknown_fields; i++) {
        const ProtobufCMessageUnknownField *unknown = &options->base.unknown_fields[i];
        if (unknown->tag != OPTION_PB_C ||
            unknown->wire_type != PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED) {
            continue;
        }
        size_t prefix = 0;
        while (prefix < unknown->len && (unknown->data[prefix] & 0x80) != 0) {
            prefix++;
        }
        prefix++;
        if (prefix > unknown->len ||
            !read_pb_c(proto, unknown->data + prefix, unknown->len - prefix)) {
            return false;
        }
    }
    return true;
}

/* Finds the raw bytes of each file: the n-th field 15 is proto_file[n]. */
static bool read_protos(struct sl_model *model, const struct sl_text *bytes)
{
    struct sl_wire wire = { .data = (const uint8_t *)bytes->data, .size = bytes->size };
    struct sl_wire_field field;
    size_t n = 0;
    while (sl_wire_next(&wire, &field)) {
        if (field.number != REQUEST_PROTO_FILE || field.type != SL_WIRE_LEN) {
            continue;
        }
        if (n == model->n_protos) {
            return false;
        }
        struct sl_proto *proto = &model->protos[n];
        proto->file = model->request->proto_file[n];
        proto->bytes = field.data;
        proto->size = field.size;
        n++;
        if (proto->file->name == NULL || !read_options(proto)) {
            return false;
        }
    }
    return !wire.is_broken && n == model->n_protos;
}

bool sl_model_load(struct sl_model *model, const struct sl_text *bytes, struct sl_text *why)
{
    *model = (struct sl_model){ 0 };
    model->request = google__protobuf__compiler__code_generator_request__unpack(
        NULL, bytes->size, (const uint8_t *)bytes->data);
    if (model->request == NULL) {
        sl_text_add(why, "stdin is no CodeGeneratorRequest; protoc must run this program");
        return false;
    }
    model->n_protos = model->request->n_proto_file;
    model->protos = calloc(model->n_protos + 1, sizeof(*model->protos));
    if (model->protos == NULL || !read_protos(model, bytes)) {
        sl_text_add(why, "the request's files cannot be read");
        return false;
    }
    return true;
}

void sl_model_done(struct sl_model *model)
{
    for (size_t i = 0; model->protos != NULL && i < model->n_protos; i++) {
        free(model->protos[i].c_package);
    }
    free(model->protos);
    google__protobuf__compiler__code_generator_request__free_unpacked(model->request, NULL);
    *model = (struct sl_model){ 0 };
}

const struct sl_proto *sl_model_find_proto(const struct sl_model *model, const char *name)
{
    for (size_t i = 0; i < model->n_protos; i++) {
        if (strcmp(model->protos[i].file->name, name) == 0) {
            return &model->protos[i];
        }
    }
    return NULL;
}

/* The rest of "name.rest" or "" of "name"; NULL: it begins otherwise. */
static const char *skip_name(const char *path, const char *name)
{
    const size_t size = strlen(name);
    if (strncmp(path, name, size) != 0) {
        return NULL;
    }
    if (path[size] == '\0') {
        return path + size;
    }
    return path[size] == '.' ? path + size + 1 : NULL;
}

static bool
has_type(Google__Protobuf__DescriptorProto *const *messages, size_t n_messages, const char *path)
{
    size_t i = 0;
    while (i < n_messages) {
        const char *rest = skip_name(path, messages[i]->name);
        if (rest == NULL) {
            i++;
        } else if (*rest == '\0') {
            return true;
        } else { /* names are unique in their scope: only this one can have it */
            path = rest;
            n_messages = messages[i]->n_nested_type;
            messages = messages[i]->nested_type;
            i = 0;
        }
    }
    return false;
}

const struct sl_proto *sl_model_find_type(const struct sl_model *model, const char *type_name)
{
    const char *path = *type_name == '.' ? type_name + 1 : type_name;
    for (size_t i = 0; i < model->n_protos; i++) {
        const Google__Protobuf__FileDescriptorProto *file = model->protos[i].file;
        const char *package = file->package == NULL ? "" : file->package;
        const char *rest = *package == '\0' ? path : skip_name(path, package);
        if (rest != NULL && *rest != '\0' &&
            has_type(file->message_type, file->n_message_type, rest)) {
            return &model->protos[i];
        }
    }
    return NULL;
}

void sl_proto_add_name(
    const struct sl_proto *proto, struct sl_text *text, enum sl_name_style style, const char *name)
{
    const char *package = proto->file->package == NULL ? "" : proto->file->package;
    if (proto->c_package == NULL) {
        sl_name_add_dotted(text, style, name);
        return;
    }
    const char *rest = *package == '\0' ? name : skip_name(name, package);
    sl_name_add_dotted(text, style, proto->c_package);
    sl_text_add(text, *proto->c_package == '\0' ? "" : "__");
    sl_name_add_dotted(text, style, rest == NULL ? name : rest);
}

const char *sl_proto_package(const struct sl_proto *proto)
{
    if (proto->c_package != NULL) {
        return proto->c_package;
    }
    return proto->file->package == NULL ? "" : proto->file->package;
}

const char *sl_proto_method_comment(const struct sl_proto *proto, size_t service, size_t method)
{
    enum { FILE_SERVICE = 6, SERVICE_METHOD = 2, PATH_LENGTH = 4 };
    const Google__Protobuf__SourceCodeInfo *info = proto->file->source_code_info;
    for (size_t i = 0; info != NULL && i < info->n_location; i++) {
        const Google__Protobuf__SourceCodeInfo__Location *location = info->location[i];
        if (location->n_path == PATH_LENGTH && location->path[0] == FILE_SERVICE &&
            (size_t)location->path[1] == service && location->path[2] == SERVICE_METHOD &&
            (size_t)location->path[3] == method) {
            return location->leading_comments;
        }
    }
    return NULL;
}

void sl_proto_add_bytes(const struct sl_proto *proto, struct sl_text *bytes)
{
    struct sl_wire wire = { .data = proto->bytes, .size = proto->size };
    struct sl_wire_field field;
    while (sl_wire_next(&wire, &field)) {
        if (field.number != FILE_SOURCE_CODE_INFO) {
            sl_text_add_bytes(bytes, field.whole, field.whole_size);
        }
    }
    if (wire.is_broken) {
        bytes->has_failed = true;
    }
}
