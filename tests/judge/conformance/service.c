/* Every call has an answer: what the first request asks for, and how far it has come. go_on() takes
 * it as far as it can be taken now; SL_AGAIN: a callback or the timer goes on. */
#include "tests/judge/conformance/service.h"

#include <connectrpc/conformance/v1/service.sl.h>

#include "tests/judge/conformance/common.h"

#define SERVICE(name) sl_connectrpc__conformance__v1__conformance_service__##name
#define TYPE(name)    Connectrpc__Conformance__V1__##name

typedef TYPE(ConformancePayload) judge_payload;
typedef TYPE(ConformancePayload__RequestInfo) judge_info;

/* What is asked for; of a call with one answer, too. */
struct definition {
    bool is_given;
    judge_header **headers, **trailers;
    size_t n_headers, n_trailers;
    const ProtobufCBinaryData *data; /* one for each response */
    size_t n_data;
    const judge_error *error;
    uint32_t delay_ms; /* before each response */
};

struct answer {
    struct sl_call *call;
    /* Receives one message. As sl_call_recv(). NULL: the method takes one request. */
    enum sl_status (*receive)(struct answer *answer, const ProtobufCMessage **ret_message);
    /* The reply's field, of a method with one answer; NULL: send. */
    judge_payload **reply;
    enum sl_status (*send)(struct answer *answer, judge_payload *payload);
    struct definition definition;
    judge_any **requests; /* those that no response has told of */
    size_t n_requests, capacity;
    bool is_full_duplex;
    bool is_input_over;
    bool is_owed; /* a request of a full-duplex call waits for its response */
    bool has_first;
    bool is_due; /* the delay before the next response is over */
    size_t n_sent;
    struct sl_timer delay;
    struct sl_call_status status;
};

/* ---- What was received ----------------------------------------------------------------------- */

static enum sl_status note_request(struct answer *answer, judge_any *request)
{
    if (request == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    if (answer->n_requests == answer->capacity) {
        const size_t capacity = answer->capacity * 2 + 4;
        judge_any **larger = (judge_any **)sl_arena_calloc(
            sl_call_arena(answer->call), capacity, sizeof(judge_any *));
        if (larger == NULL) {
            return SL_RESOURCE_EXHAUSTED;
        }
        for (size_t i = 0; i < answer->n_requests; i++) {
            larger[i] = answer->requests[i];
        }
        answer->requests = larger;
        answer->capacity = capacity;
    }
    answer->requests[answer->n_requests++] = request;
    return SL_OK;
}

/* `is_whole`: with headers and timeout. NULL: no memory. */
static judge_info *make_info(struct answer *answer, bool is_whole)
{
    struct sl_arena *arena = sl_call_arena(answer->call);
    judge_info *info = sl_arena_alloc(arena, sizeof(*info));
    if (info == NULL) {
        return NULL;
    }
    connectrpc__conformance__v1__conformance_payload__request_info__init(info);
    info->requests = answer->requests;
    info->n_requests = answer->n_requests;
    if (!is_whole) {
        return info;
    }
    struct judge_headers headers = { 0 };
    if (judge_headers_of(sl_call_metadata(answer->call), arena, &headers) != SL_OK) {
        return NULL;
    }
    info->request_headers = headers.items;
    info->n_request_headers = headers.n_items;
    uint64_t timeout_ns;
    if (sl_call_timeout_ns(answer->call, &timeout_ns)) {
        info->_timeout_ms_case =
            CONNECTRPC__CONFORMANCE__V1__CONFORMANCE_PAYLOAD__REQUEST_INFO___TIMEOUT_MS_TIMEOUT_MS;
        info->timeout_ms = (int64_t)(timeout_ns / SL_NS_PER_MS);
    }
    return info;
}

/* ---- What is asked for ----------------------------------------------------------------------- */

static void define_one(struct definition *definition, const TYPE(UnaryResponseDefinition) * given)
{
    static const ProtobufCBinaryData nothing = { 0 };
    definition->data = &nothing; /* there always is one response, unless there is an error */
    definition->n_data = 1;
    if (given == NULL) {
        return;
    }
    definition->is_given = true;
    definition->headers = given->response_headers;
    definition->n_headers = given->n_response_headers;
    definition->trailers = given->response_trailers;
    definition->n_trailers = given->n_response_trailers;
    definition->delay_ms = given->response_delay_ms;
    if (given->response_case ==
        CONNECTRPC__CONFORMANCE__V1__UNARY_RESPONSE_DEFINITION__RESPONSE_ERROR) {
        definition->error = given->error;
        definition->n_data = 0;
    } else if (
        given->response_case ==
        CONNECTRPC__CONFORMANCE__V1__UNARY_RESPONSE_DEFINITION__RESPONSE_RESPONSE_DATA) {
        definition->data = &given->response_data;
    }
}

static void define_many(struct definition *definition, const TYPE(StreamResponseDefinition) * given)
{
    if (given == NULL) {
        return;
    }
    *definition = (struct definition){
        .is_given = true,
        .headers = given->response_headers,
        .n_headers = given->n_response_headers,
        .trailers = given->response_trailers,
        .n_trailers = given->n_response_trailers,
        .data = given->response_data,
        .n_data = given->n_response_data,
        .error = given->error,
        .delay_ms = given->response_delay_ms,
    };
}

typedef enum sl_status(add_fn)(struct sl_call *call, struct sl_slice key, struct sl_slice value);

static enum sl_status
add_all(struct sl_call *call, judge_header *const *headers, size_t n_headers, add_fn *add)
{
    struct sl_metadata metadata = { 0 };
    SL_TRY(judge_metadata_of(headers, n_headers, sl_call_arena(call), &metadata));
    for (size_t i = 0; i < metadata.n_items; i++) {
        SL_TRY(add(call, metadata.items[i].key, metadata.items[i].value));
    }
    return SL_OK;
}

/* Headers of a stream go out before the first delay. Without a response they are left to the end,
 * which may be Trailers-Only then. */
static enum sl_status begin(struct answer *answer)
{
    const struct definition *definition = &answer->definition;
    struct sl_call *call = answer->call;
    SL_TRY(sl_call_set_encoding(call, NULL));
    SL_TRY(add_all(call, definition->headers, definition->n_headers, sl_call_add_header));
    SL_TRY(add_all(call, definition->trailers, definition->n_trailers, sl_call_add_trailer));
    return answer->reply == NULL && definition->n_data > 0 ? sl_call_send_headers(call) : SL_OK;
}

/* ---- Going on -------------------------------------------------------------------------------- */

/* `request` is a copy that lives as long as the call. */
static enum sl_status begin_with(struct answer *answer, const ProtobufCMessage *request)
{
    if (request->descriptor == &connectrpc__conformance__v1__client_stream_request__descriptor) {
        define_one(
            &answer->definition, ((const TYPE(ClientStreamRequest) *)request)->response_definition);
    } else {
        const TYPE(BidiStreamRequest) *first = (const TYPE(BidiStreamRequest) *)request;
        define_many(&answer->definition, first->response_definition);
        answer->is_full_duplex = first->full_duplex != 0;
    }
    return begin(answer);
}

static enum sl_status receive_one(struct answer *answer)
{
    const ProtobufCMessage *message = NULL;
    struct sl_arena *arena = sl_call_arena(answer->call);
    SL_TRY(answer->receive(answer, &message));
    judge_any *any = judge_pack(message, arena);
    SL_TRY(note_request(answer, any));
    if (!answer->has_first) {
        answer->has_first = true;
        ProtobufCAllocator allocator = judge_allocator(arena);
        const ProtobufCMessage *copy = protobuf_c_message_unpack(
            message->descriptor, &allocator, any->value.len, any->value.data);
        SL_TRY(copy == NULL ? SL_RESOURCE_EXHAUSTED : begin_with(answer, copy));
    }
    if (answer->is_full_duplex) {
        answer->is_owed = answer->n_sent < answer->definition.n_data;
        answer->is_input_over = !answer->is_owed;
    }
    return SL_OK;
}

static enum sl_status receive_all(struct answer *answer)
{
    while (!answer->is_input_over && !answer->is_owed) {
        const enum sl_status status = receive_one(answer);
        if (status == SL_END) {
            answer->is_input_over = true;
        } else if (status != SL_OK) {
            return status;
        }
    }
    return SL_OK;
}

static enum sl_status wait(struct answer *answer)
{
    if (answer->is_due || answer->definition.delay_ms == 0) {
        return SL_OK;
    }
    if (!sl_timer_is_running(&answer->delay)) {
        sl_timer_start_ms(&answer->delay, answer->definition.delay_ms);
    }
    return SL_AGAIN;
}

static enum sl_status respond(struct answer *answer)
{
    judge_payload *payload = sl_arena_alloc(sl_call_arena(answer->call), sizeof(*payload));
    if (payload == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    connectrpc__conformance__v1__conformance_payload__init(payload);
    if (answer->n_sent == 0 || answer->is_full_duplex) {
        payload->request_info = make_info(answer, answer->n_sent == 0);
        if (payload->request_info == NULL) {
            return SL_RESOURCE_EXHAUSTED;
        }
    }
    payload->data = answer->definition.data[answer->n_sent];
    if (answer->reply != NULL) {
        *answer->reply = payload;
    } else {
        SL_TRY(answer->send(answer, payload));
    }
    answer->n_sent++;
    answer->is_owed = false;
    answer->is_due = false;
    answer->n_requests = 0;
    return SL_OK;
}

static enum sl_status end(struct answer *answer)
{
    const judge_error *error = answer->definition.error;
    struct sl_arena *arena = sl_call_arena(answer->call);
    if (error == NULL) {
        return SL_OK;
    }
    judge_any *extra = NULL;
    if (answer->n_sent == 0) {
        const judge_info *info = make_info(answer, true);
        extra = info == NULL ? NULL : judge_pack(&info->base, arena);
        if (extra == NULL) {
            return SL_RESOURCE_EXHAUSTED;
        }
    }
    SL_TRY(judge_details_of(error, extra, arena, &answer->status.details));
    if (error->_message_case != CONNECTRPC__CONFORMANCE__V1__ERROR___MESSAGE__NOT_SET) {
        answer->status.message = error->message;
    }
    return (enum sl_status)error->code;
}

static enum sl_status go_on(struct answer *answer)
{
    SL_TRY(receive_all(answer));
    if (!answer->has_first) { /* an empty stream of the client's */
        answer->has_first = true;
        if (answer->reply != NULL) {
            define_one(&answer->definition, NULL);
        }
        SL_TRY(begin(answer));
    }
    while (answer->n_sent < answer->definition.n_data) {
        SL_TRY(wait(answer));
        SL_TRY(respond(answer));
        SL_TRY(receive_all(answer));
    }
    if (answer->reply != NULL && answer->definition.error != NULL) {
        SL_TRY(wait(answer));
    }
    return end(answer);
}

/* ---- Calls ----------------------------------------------------------------------------------- */

static void resume(struct answer *answer)
{
    const enum sl_status status = go_on(answer);
    if (status != SL_AGAIN) {
        sl_timer_stop(&answer->delay);
        answer->status.code = status;
        sl_call_finish(answer->call, &answer->status);
    }
}

static void on_event(struct sl_call *call, void *user_data)
{
    (void)call;
    resume(user_data);
}

static void on_delay(void *user_data)
{
    struct answer *answer = user_data;
    answer->is_due = true;
    resume(answer);
}

static void on_ended(struct sl_call *call, const struct sl_call_end *how, void *user_data)
{
    struct answer *answer = user_data;
    (void)how;
    sl_timer_stop(&answer->delay);
    sl_call_finishf(call, SL_CANCELLED, "%s", "the call is over");
}

static struct answer *make_answer(struct sl_call *call)
{
    static const struct sl_call_callbacks callbacks = { .on_readable = on_event,
                                                        .on_writable = on_event,
                                                        .on_ended = on_ended };
    struct answer *answer = sl_arena_calloc(sl_call_arena(call), 1, sizeof(*answer));
    if (answer != NULL) {
        answer->call = call;
        sl_timer_init(&answer->delay, sl_call_loop(call), on_delay, answer);
        sl_call_set_callbacks(call, &callbacks, answer);
    }
    return answer;
}

/* The handler's result. */
static enum sl_status start(struct answer *answer)
{
    const enum sl_status status = go_on(answer);
    if (status == SL_AGAIN) {
        return SL_PENDING;
    }
    sl_timer_stop(&answer->delay);
    answer->status.code = status;
    return status == SL_OK ? SL_OK : sl_call_fail(answer->call, &answer->status);
}

/* The one request is here already. */
static enum sl_status start_with(struct answer *answer, const ProtobufCMessage *request)
{
    answer->is_input_over = true;
    answer->has_first = true;
    SL_TRY(note_request(
        answer, judge_any_of(
                    request->descriptor, sl_call_request_bytes(answer->call),
                    sl_call_arena(answer->call))));
    SL_TRY(begin(answer));
    return start(answer);
}

static enum sl_status on_unary(
    struct sl_call *call,
    const TYPE(UnaryRequest) * request,
    TYPE(UnaryResponse) * reply,
    void *user_data)
{
    (void)user_data;
    struct answer *answer = make_answer(call);
    if (answer == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    answer->reply = &reply->payload;
    define_one(&answer->definition, request->response_definition);
    return start_with(answer, &request->base);
}

static enum sl_status send_to_stream(struct answer *answer, judge_payload *payload)
{
    TYPE(ServerStreamResponse) response;
    connectrpc__conformance__v1__server_stream_response__init(&response);
    response.payload = payload;
    return SERVICE(server_stream__send)(SERVICE(server_stream__view)(answer->call), &response);
}

static enum sl_status on_server_stream(
    struct sl_call *call,
    const TYPE(ServerStreamRequest) * request,
    struct SERVICE(server_stream__sender) * out,
    void *user_data)
{
    (void)out;
    (void)user_data;
    struct answer *answer = make_answer(call);
    if (answer == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    answer->send = send_to_stream;
    define_many(&answer->definition, request->response_definition);
    return start_with(answer, &request->base);
}

static enum sl_status
receive_from_client(struct answer *answer, const ProtobufCMessage **ret_message)
{
    TYPE(ClientStreamRequest) * request;
    SL_TRY(SERVICE(client_stream__recv)(SERVICE(client_stream__view)(answer->call), &request));
    *ret_message = &request->base;
    return SL_OK;
}

static enum sl_status on_client_stream(
    struct sl_call *call,
    struct SERVICE(client_stream__receiver) * in,
    TYPE(ClientStreamResponse) * reply,
    void *user_data)
{
    (void)in;
    (void)user_data;
    struct answer *answer = make_answer(call);
    if (answer == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    answer->receive = receive_from_client;
    answer->reply = &reply->payload;
    return start(answer);
}

static enum sl_status receive_from_bidi(struct answer *answer, const ProtobufCMessage **ret_message)
{
    TYPE(BidiStreamRequest) * request;
    SL_TRY(SERVICE(bidi_stream__recv)(SERVICE(bidi_stream__view)(answer->call), &request));
    *ret_message = &request->base;
    return SL_OK;
}

static enum sl_status send_to_bidi(struct answer *answer, judge_payload *payload)
{
    TYPE(BidiStreamResponse) response;
    connectrpc__conformance__v1__bidi_stream_response__init(&response);
    response.payload = payload;
    return SERVICE(bidi_stream__send)(SERVICE(bidi_stream__view)(answer->call), &response);
}

static enum sl_status
on_bidi_stream(struct sl_call *call, struct SERVICE(bidi_stream__stream) * io, void *user_data)
{
    (void)io;
    (void)user_data;
    struct answer *answer = make_answer(call);
    if (answer == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    answer->receive = receive_from_bidi;
    answer->send = send_to_bidi;
    return start(answer);
}

enum sl_status judge_service_register(struct sl_server *server)
{
    static const struct SERVICE(handlers) handlers = {
        .struct_size = sizeof(handlers),
        .unary = on_unary,
        .server_stream = on_server_stream,
        .client_stream = on_client_stream,
        .bidi_stream = on_bidi_stream,
    };
    return SERVICE(register)(server, &handlers, NULL);
}
