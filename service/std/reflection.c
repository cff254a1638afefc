#include "service/std/reflection.h"

#include <assert.h>
#include <stdint.h>

#include "proto/grpc/reflection/v1/reflection.sl.h"
#include "proto/grpc/reflection/v1alpha/reflection.sl.h"
#include "runtime/base/arena.h"
#include "runtime/base/mem.h"
#include "service/rpc/rpc.h"
#include "service/std/descriptors.h"

typedef Grpc__Reflection__V1__ServerReflectionRequest request_message;
typedef Grpc__Reflection__V1__ServerReflectionResponse response_message;

#define REQUEST(member)  GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##member
#define RESPONSE(member) GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##member

enum { STREAM_MAGIC = 0x5245464C };

/* One call, from its start until it is finished. */
struct stream {
    uint32_t magic;
    struct sl_call *call;
    const struct sl_server *server;
    struct sl_descriptors descriptors;
    bool *is_sent; /* by file */
    /* The answer that could not be sent yet, in `scratch`; NULL: none. Its request is the last that
     * was received, and stays valid until the next. */
    response_message *pending;
    struct sl_arena scratch;
};

static struct stream *stream_free(struct stream *stream)
{
    sl_descriptors_done(&stream->descriptors);
    sl_arena_done(&stream->scratch);
    (void)sl_free(stream->is_sent);
    stream->magic = 0;
    return sl_free(stream);
}

static enum sl_status
stream_new(struct sl_call *call, const struct sl_server *server, struct stream **ret_stream)
{
    struct stream *stream = sl_calloc(1, sizeof(*stream));
    if (stream == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    stream->magic = STREAM_MAGIC;
    stream->call = call;
    stream->server = server;
    sl_arena_init(&stream->scratch, 0); /* what is in it is as large as our own tables */
    enum sl_status status = sl_descriptors_init(&stream->descriptors, server);
    if (status == SL_OK) {
        stream->is_sent = sl_calloc(stream->descriptors.n_files + 1, sizeof(bool));
        status = stream->is_sent == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
    }
    if (status != SL_OK) {
        (void)stream_free(stream);
        return status;
    }
    *ret_stream = stream;
    return SL_OK;
}

/* ---- Answers --------------------------------------------------------------------------------- */

/* protobuf-c has no const, and packing changes nothing. */
static void *borrow(const void *constant)
{
    return sl_unconst(constant);
}

/* A fault of the question is part of the answer (SV-6). */
static enum sl_status
answer_not_found(struct stream *stream, response_message *response, const char *message)
{
    Grpc__Reflection__V1__ErrorResponse *error = sl_arena_alloc(&stream->scratch, sizeof(*error));
    if (error == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    grpc__reflection__v1__error_response__init(error);
    error->error_code = SL_NOT_FOUND;
    error->error_message = (char *)borrow(message);
    response->error_response = error;
    response->message_response_case = RESPONSE(ERROR_RESPONSE);
    return SL_OK;
}

/* The file that was asked for, and what it needs of what this stream has not carried yet (SV-7).
 * `index` n_files: not found. */
static enum sl_status
answer_file(struct stream *stream, response_message *response, size_t index, const char *not_found)
{
    const struct sl_descriptors *all = &stream->descriptors;
    if (index == all->n_files) {
        return answer_not_found(stream, response, not_found);
    }
    Grpc__Reflection__V1__FileDescriptorResponse *files =
        sl_arena_alloc(&stream->scratch, sizeof(*files));
    ProtobufCBinaryData *bytes = sl_arena_calloc(&stream->scratch, all->n_files, sizeof(*bytes));
    size_t *queue = sl_arena_calloc(&stream->scratch, all->n_files, sizeof(*queue));
    if (files == NULL || bytes == NULL || queue == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    grpc__reflection__v1__file_descriptor_response__init(files);
    size_t n_queued = 0;
    queue[n_queued++] = index;
    stream->is_sent[index] = true;
    for (size_t i = 0; i < n_queued; i++) {
        const struct sl_file_desc *file = all->files[queue[i]];
        bytes[i].data = (uint8_t *)borrow(file->bytes.data);
        bytes[i].len = file->bytes.size;
        for (size_t k = 0; k < file->n_imports; k++) {
            const size_t import = sl_descriptors_find_file(all, file->imports[k]);
            if (!stream->is_sent[import]) {
                stream->is_sent[import] = true;
                queue[n_queued++] = import;
            }
        }
    }
    files->file_descriptor_proto = bytes;
    files->n_file_descriptor_proto = n_queued;
    response->file_descriptor_response = files;
    response->message_response_case = RESPONSE(FILE_DESCRIPTOR_RESPONSE);
    return SL_OK;
}

static enum sl_status answer_extension(
    struct stream *stream,
    response_message *response,
    const Grpc__Reflection__V1__ExtensionRequest *extension)
{
    return answer_file(
        stream, response,
        sl_descriptors_find_extension(
            &stream->descriptors, extension->containing_type, extension->extension_number),
        "no file defines this extension");
}

static void count_number(int32_t number, void *user_data)
{
    (void)number;
    (*(size_t *)user_data)++;
}

static void add_number(int32_t number, void *user_data)
{
    Grpc__Reflection__V1__ExtensionNumberResponse *numbers =
        (Grpc__Reflection__V1__ExtensionNumberResponse *)user_data;
    numbers->extension_number[numbers->n_extension_number++] = number;
}

static enum sl_status
answer_numbers(struct stream *stream, response_message *response, const char *type)
{
    if (!sl_descriptors_has_message(&stream->descriptors, type)) {
        return answer_not_found(stream, response, "no message has this name");
    }
    size_t n_numbers = 0;
    sl_descriptors_each_extension(&stream->descriptors, type, count_number, &n_numbers);
    Grpc__Reflection__V1__ExtensionNumberResponse *numbers =
        sl_arena_alloc(&stream->scratch, sizeof(*numbers));
    int32_t *room = sl_arena_calloc(&stream->scratch, n_numbers + 1, sizeof(*room));
    if (numbers == NULL || room == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    grpc__reflection__v1__extension_number_response__init(numbers);
    numbers->base_type_name = (char *)borrow(type);
    numbers->extension_number = room;
    sl_descriptors_each_extension(&stream->descriptors, type, add_number, numbers);
    response->all_extension_numbers_response = numbers;
    response->message_response_case = RESPONSE(ALL_EXTENSION_NUMBERS_RESPONSE);
    return SL_OK;
}

static enum sl_status answer_services(struct stream *stream, response_message *response)
{
    const size_t n_services = sl_server_n_services(stream->server);
    Grpc__Reflection__V1__ListServiceResponse *list =
        sl_arena_alloc(&stream->scratch, sizeof(*list));
    Grpc__Reflection__V1__ServiceResponse **pointers =
        sl_arena_calloc(&stream->scratch, n_services + 1, sizeof(void *));
    Grpc__Reflection__V1__ServiceResponse *services =
        sl_arena_calloc(&stream->scratch, n_services + 1, sizeof(*services));
    if (list == NULL || pointers == NULL || services == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    grpc__reflection__v1__list_service_response__init(list);
    for (size_t i = 0; i < n_services; i++) {
        grpc__reflection__v1__service_response__init(&services[i]);
        services[i].name = (char *)borrow(sl_server_service_at(stream->server, i)->name);
        pointers[i] = &services[i];
    }
    list->service = pointers;
    list->n_service = n_services;
    response->list_services_response = list;
    response->message_response_case = RESPONSE(LIST_SERVICES_RESPONSE);
    return SL_OK;
}

static enum sl_status
fill_response(struct stream *stream, const request_message *request, response_message *response)
{
    const struct sl_descriptors *all = &stream->descriptors;
    switch ((int)request->message_request_case) {
    case REQUEST(FILE_BY_FILENAME):
        return answer_file(
            stream, response, sl_descriptors_find_name(all, request->file_by_filename),
            "no file has this name");
    case REQUEST(FILE_CONTAINING_SYMBOL):
        return answer_file(
            stream, response, sl_descriptors_find_symbol(all, request->file_containing_symbol),
            "no file defines this symbol");
    case REQUEST(FILE_CONTAINING_EXTENSION):
        return answer_extension(stream, response, request->file_containing_extension);
    case REQUEST(ALL_EXTENSION_NUMBERS_OF_TYPE):
        return answer_numbers(stream, response, request->all_extension_numbers_of_type);
    case REQUEST(LIST_SERVICES):
        return answer_services(stream, response);
    default:
        return SL_INVALID_ARGUMENT;
    }
}

static enum sl_status make_response(struct stream *stream, const request_message *request)
{
    sl_arena_done(&stream->scratch);
    response_message *response = sl_arena_alloc(&stream->scratch, sizeof(*response));
    if (response == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    grpc__reflection__v1__server_reflection_response__init(response);
    response->valid_host = request->host;
    response->original_request = (request_message *)borrow(request);
    SL_TRY(fill_response(stream, request, response));
    stream->pending = response;
    return SL_OK;
}

/* ---- The call -------------------------------------------------------------------------------- */

static enum sl_status send_pending(struct stream *stream)
{
    if (stream->pending != NULL) {
        SL_TRY(sl_grpc__reflection__v1__server_reflection__server_reflection_info__send(
            sl_grpc__reflection__v1__server_reflection__server_reflection_info__view(stream->call),
            stream->pending));
        stream->pending = NULL;
    }
    return SL_OK;
}

static enum sl_status serve_next(struct stream *stream)
{
    SL_TRY(send_pending(stream));
    request_message *request = NULL;
    SL_TRY(sl_grpc__reflection__v1__server_reflection__server_reflection_info__recv(
        sl_grpc__reflection__v1__server_reflection__server_reflection_info__view(stream->call),
        &request));
    return make_response(stream, request);
}

/* Answers until there is nothing more to do now. SL_AGAIN: a callback goes on; SL_END: the client
 * has asked everything; otherwise what the call must end with. */
static enum sl_status serve(struct stream *stream)
{
    enum sl_status status = SL_OK;
    while (status == SL_OK) {
        status = serve_next(stream);
    }
    return status;
}

static struct sl_call_status final_status(enum sl_status status)
{
    return (struct sl_call_status){
        .code = status == SL_END ? SL_OK : status,
        .message = status == SL_INVALID_ARGUMENT ? "the request asks for nothing" : NULL,
    };
}

/* The stream may be gone afterwards. */
static void go_on(struct sl_call *call, void *user_data)
{
    struct stream *stream = (struct stream *)user_data;
    assert(stream->magic == STREAM_MAGIC);
    const enum sl_status status = serve(stream);
    if (status == SL_AGAIN) {
        return;
    }
    const struct sl_call_status ending = final_status(status);
    (void)stream_free(stream);
    sl_call_finish(call, &ending);
}

static void on_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    struct stream *stream = (struct stream *)user_data;
    assert(stream->magic == STREAM_MAGIC);
    (void)stream_free(stream);
    sl_call_finish(
        call, &(struct sl_call_status){ .code = end->kind == SL_CALL_DRAIN ? SL_UNAVAILABLE
                                                                           : SL_CANCELLED });
}

/* Both versions have the same wire format, and so the same messages here (SV-5). */
static enum sl_status reflect(
    struct sl_call *call,
    struct sl_grpc__reflection__v1__server_reflection__server_reflection_info__stream *io,
    void *user_data)
{
    (void)io;
    struct stream *stream = NULL;
    SL_TRY(stream_new(call, (const struct sl_server *)user_data, &stream));
    const enum sl_status status = serve(stream);
    if (status != SL_AGAIN) {
        const struct sl_call_status ending = final_status(status);
        (void)stream_free(stream);
        return ending.code == SL_OK ? SL_OK : sl_call_fail(call, &ending);
    }
    static const struct sl_call_callbacks callbacks = { .on_readable = go_on,
                                                        .on_writable = go_on,
                                                        .on_ended = on_ended };
    sl_call_set_callbacks(call, &callbacks, stream);
    return SL_PENDING;
}

static enum sl_status start_v1alpha(struct sl_call *call, const void *handlers, void *user_data)
{
    (void)handlers;
    return reflect(call, NULL, user_data);
}

enum sl_status sl_reflection_register(struct sl_server *server)
{
    static const struct sl_grpc__reflection__v1__server_reflection__handlers handlers = {
        .struct_size = sizeof(handlers),
        .server_reflection_info = reflect,
    };
    static const struct sl_method_desc v1alpha_methods[] = { {
        .path = SL_GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION__SERVER_REFLECTION_INFO__PATH,
        .name = "ServerReflectionInfo",
        .kind = SL_BIDIRECTIONAL,
        .request_type = &grpc__reflection__v1__server_reflection_request__descriptor,
        .response_type = &grpc__reflection__v1__server_reflection_response__descriptor,
    } };
    static const struct sl_service_desc v1alpha = {
        .name = "grpc.reflection.v1alpha.ServerReflection",
        .methods = v1alpha_methods,
        .n_methods = SL_COUNT(v1alpha_methods),
        .file = &sl_grpc__reflection__v1alpha__reflection_proto__file,
    };
    static sl_method_start_fn *const v1alpha_starts[] = { start_v1alpha };
    SL_TRY(sl_grpc__reflection__v1__server_reflection__register(server, &handlers, server));
    return sl_server_add_service(server, &v1alpha, v1alpha_starts, NULL, server);
}
