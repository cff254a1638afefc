#include "codegen/service.h"

#include <stdlib.h>
#include <string.h>

/* What the load of one service needs at every step. */
struct loader {
    struct sl_service *service;
    const struct sl_model *model;
    const struct sl_proto *proto;
    struct sl_text *why;
    size_t index; /* of the service in its file */
};

/* Keeps the text as a string of the service; NULL: no memory. */
static const char *keep(struct sl_service *service, struct sl_text *text)
{
    char *string = sl_text_take(text);
    if (string != NULL) {
        service->strings[service->n_strings++] = string;
    }
    return string;
}

static void set(struct sl_variable **next, const char *name, const char *value)
{
    **next = (struct sl_variable){ .name = name, .value = value };
    (*next)++;
}

static enum sl_service_kind kind_of(const Google__Protobuf__MethodDescriptorProto *method)
{
    const bool from_client = method->has_client_streaming && method->client_streaming;
    const bool from_server = method->has_server_streaming && method->server_streaming;
    if (from_client) {
        return from_server ? SL_SERVICE_BIDIRECTIONAL : SL_SERVICE_CLIENT_STREAMING;
    }
    return from_server ? SL_SERVICE_SERVER_STREAMING : SL_SERVICE_UNARY;
}

static const char *kind_name(enum sl_service_kind kind)
{
    switch (kind) {
    case SL_SERVICE_UNARY:
        return "SL_UNARY";
    case SL_SERVICE_CLIENT_STREAMING:
        return "SL_CLIENT_STREAMING";
    case SL_SERVICE_SERVER_STREAMING:
        return "SL_SERVER_STREAMING";
    case SL_SERVICE_BIDIRECTIONAL:
        return "SL_BIDIRECTIONAL";
    }
    return "";
}

static const char *idempotency_name(const Google__Protobuf__MethodDescriptorProto *method)
{
    if (method->options == NULL || !method->options->has_idempotency_level) {
        return "SL_IDEMPOTENCY_UNKNOWN";
    }
    const Google__Protobuf__MethodOptions__IdempotencyLevel level =
        method->options->idempotency_level;
    if (level == GOOGLE__PROTOBUF__METHOD_OPTIONS__IDEMPOTENCY_LEVEL__NO_SIDE_EFFECTS) {
        return "SL_NO_SIDE_EFFECTS";
    }
    if (level == GOOGLE__PROTOBUF__METHOD_OPTIONS__IDEMPOTENCY_LEVEL__IDEMPOTENT) {
        return "SL_IDEMPOTENT";
    }
    return "SL_IDEMPOTENCY_UNKNOWN";
}

/* The C type and the function prefix of a message. */
static bool add_type(
    const struct loader *loader,
    struct sl_variable **next,
    const char *const names[2],
    const char *type_name)
{
    const struct sl_proto *proto =
        type_name == NULL ? NULL : sl_model_find_type(loader->model, type_name);
    if (proto == NULL) {
        sl_text_addf(
            loader->why, "type %s is not in the request", type_name == NULL ? "" : type_name);
        return false;
    }
    if (proto->is_suppressed) {
        sl_text_addf(
            loader->why,
            "%s: %s is used by a service, but %s has (pb_c_file).no_generate, so it has no C type",
            loader->proto->file->name, type_name, proto->file->name);
        return false;
    }
    const enum sl_name_style styles[2] = { SL_NAME_TYPE, SL_NAME_LOWER };
    for (size_t i = 0; i < 2; i++) {
        struct sl_text text = { 0 };
        sl_proto_add_name(proto, &text, styles[i], *type_name == '.' ? type_name + 1 : type_name);
        const char *value = keep(loader->service, &text);
        if (value == NULL) {
            return false;
        }
        set(next, names[i], value);
    }
    return true;
}

static bool
add_names(const struct loader *loader, struct sl_variable **next, const char *name, size_t index)
{
    struct sl_text texts[4] = { { 0 } };
    sl_name_add_part(&texts[0], SL_NAME_LOWER, name);
    sl_name_add_part(&texts[1], SL_NAME_UPPER, name);
    sl_name_add_part(&texts[2], SL_NAME_LOWER, name);
    if (sl_name_is_reserved(sl_text_get(&texts[2]))) {
        sl_text_add(&texts[2], "_");
    }
    sl_text_addf(&texts[3], "%zu", index);
    static const char *const names[] = { "m", "M", "member", "index" };
    bool is_good = true;
    for (size_t i = 0; i < 4; i++) {
        const char *value = keep(loader->service, &texts[i]);
        is_good = is_good && value != NULL;
        set(next, names[i], value);
    }
    set(next, "method", name);
    return is_good;
}

static bool add_comment(const struct loader *loader, struct sl_variable **next, size_t index)
{
    struct sl_text text = { 0 };
    const char *comment = sl_proto_method_comment(loader->proto, loader->index, index);
    if (comment != NULL && *comment != '\0') {
        sl_name_add_comment(&text, comment);
    }
    const char *value = keep(loader->service, &text);
    set(next, "comment", value);
    return value != NULL;
}

static bool load_method(
    const struct loader *loader,
    size_t index,
    const Google__Protobuf__MethodDescriptorProto *descriptor)
{
    struct sl_service_method *method = &loader->service->methods[index];
    struct sl_variable *next = method->variables;
    for (size_t i = 0; i < SL_SERVICE_N_SHARED; i++) {
        *next++ = loader->service->variables[i];
    }
    method->kind = kind_of(descriptor);
    set(&next, "kind", kind_name(method->kind));
    set(&next, "idempotency", idempotency_name(descriptor));
    if (!add_comment(loader, &next, index)) {
        return false;
    }
    static const char *const request[2] = { "Req", "req" };
    static const char *const reply[2] = { "Rep", "rep" };
    return add_names(loader, &next, descriptor->name, index) &&
           add_type(loader, &next, request, descriptor->input_type) &&
           add_type(loader, &next, reply, descriptor->output_type);
}

static const char *value_of(const struct sl_variable *variables, const char *name)
{
    while (strcmp(variables->name, name) != 0) {
        variables++;
    }
    return variables->value;
}

/* protoc sees "GetURL" and "GetUrl", C sees "get_url" twice. */
static bool check_clashes(const struct loader *loader)
{
    const struct sl_service *service = loader->service;
    for (size_t i = 0; i < service->n_methods; i++) {
        const struct sl_variable *one = service->methods[i].variables;
        for (size_t k = 0; k < i; k++) {
            const struct sl_variable *other = service->methods[k].variables;
            if (strcmp(value_of(one, "member"), value_of(other, "member")) == 0) {
                sl_text_addf(
                    loader->why, "%s: methods %s and %s of service %s have the same name in C, %s",
                    loader->proto->file->name, value_of(other, "method"), value_of(one, "method"),
                    value_of(one, "service"), value_of(one, "m"));
                return false;
            }
        }
    }
    return true;
}

static bool load_service_names(const struct loader *loader, const char *name)
{
    struct sl_service *service = loader->service;
    const char *package = loader->proto->file->package == NULL ? "" : loader->proto->file->package;
    struct sl_text full = { 0 };
    sl_text_addf(&full, "%s%s%s", package, *package == '\0' ? "" : ".", name);
    struct sl_text lower = { 0 };
    struct sl_text upper = { 0 };
    sl_text_add(&lower, "sl_");
    sl_proto_add_name(loader->proto, &lower, SL_NAME_LOWER, sl_text_get(&full));
    sl_text_add(&upper, "SL_");
    sl_proto_add_name(loader->proto, &upper, SL_NAME_UPPER, sl_text_get(&full));
    struct sl_variable *next = service->variables;
    set(&next, "svc", keep(service, &lower));
    set(&next, "SVC", keep(service, &upper));
    set(&next, "service", keep(service, &full));
    return service->n_strings == 3;
}

bool sl_service_load(
    struct sl_service *service,
    const struct sl_model *model,
    const struct sl_proto *proto,
    const Google__Protobuf__ServiceDescriptorProto *descriptor,
    struct sl_text *why)
{
    size_t index = 0;
    while (proto->file->service[index] != descriptor) {
        index++;
    }
    const struct loader loader = {
        .service = service, .model = model, .proto = proto, .why = why, .index = index
    };
    *service = (struct sl_service){ .n_methods = descriptor->n_method };
    service->methods = calloc(service->n_methods + 1, sizeof(*service->methods));
    service->strings = calloc(service->n_methods + 1, SL_SERVICE_N_VARIABLES * sizeof(char *));
    bool is_good = service->methods != NULL && service->strings != NULL &&
                   load_service_names(&loader, descriptor->name);
    for (size_t i = 0; is_good && i < service->n_methods; i++) {
        is_good = load_method(&loader, i, descriptor->method[i]);
    }
    is_good = is_good && check_clashes(&loader);
    if (!is_good && why->size == 0) {
        sl_text_add(why, "no memory");
    }
    return is_good;
}

const char *sl_service_variable(const struct sl_service *service, const char *name)
{
    return value_of(service->variables, name);
}

void sl_service_done(struct sl_service *service)
{
    for (size_t i = 0; i < service->n_strings; i++) {
        free(service->strings[i]);
    }
    free(service->strings);
    free(service->methods);
    *service = (struct sl_service){ 0 };
}
