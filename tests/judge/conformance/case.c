/* What a case does is in step(): it goes as far as it can, and is called again by the call's
 * callbacks and by the timer. */
#include "tests/judge/conformance/case.h"

#include <connectrpc/conformance/v1/service.sl.h>
#include <stdio.h>
#include <tests/judge/conformance/status.pb-c.h>

#include "runtime/base/mem.h"

#define TYPE(name) Connectrpc__Conformance__V1__##name

typedef TYPE(ClientCompatRequest__Cancel) judge_cancel;
typedef TYPE(ClientResponseResult) judge_result;
typedef TYPE(ConformancePayload) judge_payload;

enum { N_METHODS = 6, PATH_BYTES = 256 };

enum phase {
    SENDING,   /* the next request */
    ANSWERING, /* full duplex: a request waits for its response */
    CLOSING,   /* our side, and cancelling around it */
    RECEIVING  /* what is left */
};

struct judge_case {
    struct sl_arena arena;
    case_request *request;
    judge_case_fn *on_done;
    void *user_data;
    const struct sl_method_desc *method;
    struct sl_client_call *call;
    struct sl_timer timer;
    bool is_due; /* it has fired for what comes next */
    enum phase phase;
    size_t n_sent;
    judge_result result;
    size_t payload_capacity;
};

static void step(struct judge_case *self);

/* ---- Life ------------------------------------------------------------------------------------ */

static struct judge_case *free_case(struct judge_case *self)
{
    if (self->timer.loop != NULL) {
        sl_timer_stop(&self->timer);
    }
    self->call = sl_client_call_free(self->call);
    sl_arena_done(&self->arena);
    return sl_free(self);
}

struct judge_case *judge_case_new(struct sl_slice bytes)
{
    struct judge_case *self = sl_calloc(1, sizeof(*self));
    if (self == NULL) {
        return NULL;
    }
    sl_arena_init(&self->arena, 0);
    connectrpc__conformance__v1__client_response_result__init(&self->result);
    ProtobufCAllocator allocator = judge_allocator(&self->arena);
    self->request = connectrpc__conformance__v1__client_compat_request__unpack(
        &allocator, bytes.size, bytes.data);
    return self->request == NULL ? free_case(self) : self;
}

const case_request *judge_case_request(const struct judge_case *self)
{
    return self->request;
}

void judge_case_fail(
    struct judge_case *self, const char *why, judge_case_fn *on_done, void *user_data)
{
    case_response response;
    TYPE(ClientErrorResult) error;
    connectrpc__conformance__v1__client_compat_response__init(&response);
    connectrpc__conformance__v1__client_error_result__init(&error);
    error.message = sl_arena_dup(&self->arena, sl_slice_str(why));
    response.test_name = self->request->test_name;
    response.result_case = CONNECTRPC__CONFORMANCE__V1__CLIENT_COMPAT_RESPONSE__RESULT_ERROR;
    response.error = &error;
    on_done(&response, user_data);
    (void)free_case(self);
}

/* ---- The answer ------------------------------------------------------------------------------ */

static const judge_payload *payload_of(const ProtobufCMessage *message)
{
    const ProtobufCMessageDescriptor *type = message->descriptor;
    if (type == &connectrpc__conformance__v1__unary_response__descriptor) {
        return ((const TYPE(UnaryResponse) *)message)->payload;
    }
    if (type == &connectrpc__conformance__v1__client_stream_response__descriptor) {
        return ((const TYPE(ClientStreamResponse) *)message)->payload;
    }
    if (type == &connectrpc__conformance__v1__server_stream_response__descriptor) {
        return ((const TYPE(ServerStreamResponse) *)message)->payload;
    }
    if (type == &connectrpc__conformance__v1__bidi_stream_response__descriptor) {
        return ((const TYPE(BidiStreamResponse) *)message)->payload;
    }
    return NULL;
}

/* A copy that stays; an empty payload where there is none. NULL: no memory. */
static judge_payload *copy_payload(const judge_payload *payload, struct sl_arena *arena)
{
    static const judge_payload empty = CONNECTRPC__CONFORMANCE__V1__CONFORMANCE_PAYLOAD__INIT;
    const judge_any *any = judge_pack(payload == NULL ? &empty.base : &payload->base, arena);
    ProtobufCAllocator allocator = judge_allocator(arena);
    return any == NULL ? NULL
                       : connectrpc__conformance__v1__conformance_payload__unpack(
                             &allocator, any->value.len, any->value.data);
}

static enum sl_status add_payload(struct judge_case *self, const ProtobufCMessage *message)
{
    judge_result *result = &self->result;
    if (result->n_payloads == self->payload_capacity) {
        const size_t capacity = self->payload_capacity * 2 + 4;
        judge_payload **larger =
            (judge_payload **)sl_arena_calloc(&self->arena, capacity, sizeof(judge_payload *));
        if (larger == NULL) {
            return SL_RESOURCE_EXHAUSTED;
        }
        for (size_t i = 0; i < result->n_payloads; i++) {
            larger[i] = result->payloads[i];
        }
        result->payloads = larger;
        self->payload_capacity = capacity;
    }
    judge_payload *payload = copy_payload(payload_of(message), &self->arena);
    if (payload == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    result->payloads[result->n_payloads++] = payload;
    return SL_OK;
}

/* NULL: no memory. */
static judge_error *make_error(struct judge_case *self)
{
    judge_error *error = sl_arena_alloc(&self->arena, sizeof(*error));
    const struct sl_error *given = sl_client_call_error(self->call);
    if (error == NULL) {
        return NULL;
    }
    connectrpc__conformance__v1__error__init(error);
    error->code = (TYPE(Code))sl_client_call_status(self->call);
    error->_message_case = CONNECTRPC__CONFORMANCE__V1__ERROR___MESSAGE_MESSAGE;
    error->message = sl_arena_dup(&self->arena, sl_slice_str(given->text));
    const struct sl_slice bytes = sl_client_call_details(self->call);
    ProtobufCAllocator allocator = judge_allocator(&self->arena);
    const Sluice__Judge__Status *details =
        sluice__judge__status__unpack(&allocator, bytes.size, bytes.data);
    if (details != NULL) {
        error->details = details->details;
        error->n_details = details->n_details;
    }
    return error;
}

static enum sl_status fill_result(struct judge_case *self)
{
    static const struct sl_metadata nothing = { 0 };
    judge_result *result = &self->result;
    struct judge_headers headers, trailers;
    const struct sl_metadata *received = sl_client_call_headers(self->call);
    SL_TRY(judge_headers_of(received == NULL ? &nothing : received, &self->arena, &headers));
    SL_TRY(judge_headers_of(sl_client_call_trailers(self->call), &self->arena, &trailers));
    result->response_headers = headers.items;
    result->n_response_headers = headers.n_items;
    result->response_trailers = trailers.items;
    result->n_response_trailers = trailers.n_items;
    if (sl_client_call_status(self->call) == SL_OK) {
        return SL_OK;
    }
    if (self->method->kind == SL_UNARY || self->method->kind == SL_CLIENT_STREAMING) {
        result->n_payloads = 0; /* there is an answer, or an error */
    }
    result->error = make_error(self);
    return result->error == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
}

static void finish(struct judge_case *self)
{
    if (fill_result(self) != SL_OK) {
        judge_case_fail(self, "no memory", self->on_done, self->user_data);
        return;
    }
    case_response response;
    connectrpc__conformance__v1__client_compat_response__init(&response);
    response.test_name = self->request->test_name;
    response.result_case = CONNECTRPC__CONFORMANCE__V1__CLIENT_COMPAT_RESPONSE__RESULT_RESPONSE;
    response.response = &self->result;
    self->on_done(&response, self->user_data);
    (void)free_case(self);
}

/* ---- Steps: SL_OK, go on; SL_AGAIN, wait for a callback; SL_END, the case is over -------------
 */

static enum sl_status wait(struct judge_case *self, uint32_t delay_ms)
{
    if (delay_ms > 0 && !self->is_due) {
        if (!sl_timer_is_running(&self->timer)) {
            sl_timer_start_ms(&self->timer, delay_ms);
        }
        return SL_AGAIN;
    }
    self->is_due = false;
    return SL_OK;
}

/* The request as its method's type, so that the client encodes it again. */
static enum sl_status send_request(struct judge_case *self, const judge_any *any)
{
    ProtobufCAllocator allocator = judge_allocator(&self->arena);
    const ProtobufCMessage *message = protobuf_c_message_unpack(
        self->method->request_type, &allocator, any->value.len, any->value.data);
    return message == NULL ? SL_INTERNAL : sl_client_call_send(self->call, message);
}

static void note_unsent(struct judge_case *self)
{
    self->result.num_unsent_requests = (int32_t)(self->request->n_request_messages - self->n_sent);
}

static enum sl_status send_next(struct judge_case *self)
{
    const case_request *request = self->request;
    if (self->n_sent == request->n_request_messages) {
        self->phase = CLOSING;
        return SL_OK;
    }
    SL_TRY(wait(self, request->request_delay_ms));
    const enum sl_status status = send_request(self, request->request_messages[self->n_sent]);
    if (status == SL_AGAIN) {
        self->is_due = true; /* it has waited */
        return SL_AGAIN;
    }
    if (status != SL_OK) {
        note_unsent(self);
        self->phase = RECEIVING;
        return SL_OK;
    }
    self->n_sent++;
    if (request->stream_type ==
        CONNECTRPC__CONFORMANCE__V1__STREAM_TYPE__STREAM_TYPE_FULL_DUPLEX_BIDI_STREAM) {
        self->phase = ANSWERING;
    }
    return SL_OK;
}

static enum sl_status close_side(struct judge_case *self)
{
    const judge_cancel *cancel = self->request->cancel;
    if (cancel == NULL ||
        cancel->cancel_timing_case ==
            CONNECTRPC__CONFORMANCE__V1__CLIENT_COMPAT_REQUEST__CANCEL__CANCEL_TIMING_AFTER_NUM_RESPONSES) {
        sl_client_call_close_send(self->call);
    } else if (
        cancel->cancel_timing_case ==
        CONNECTRPC__CONFORMANCE__V1__CLIENT_COMPAT_REQUEST__CANCEL__CANCEL_TIMING_BEFORE_CLOSE_SEND) {
        sl_client_call_cancel(self->call);
    } else {
        const bool has_delay =
            cancel->cancel_timing_case ==
            CONNECTRPC__CONFORMANCE__V1__CLIENT_COMPAT_REQUEST__CANCEL__CANCEL_TIMING_AFTER_CLOSE_SEND_MS;
        sl_client_call_close_send(self->call);
        SL_TRY(wait(self, has_delay ? cancel->after_close_send_ms : 0));
        sl_client_call_cancel(self->call);
    }
    self->phase = RECEIVING;
    return SL_OK;
}

static enum sl_status receive_next(struct judge_case *self)
{
    const judge_cancel *cancel = self->request->cancel;
    void *message = NULL;
    const enum sl_status status = sl_client_call_recv(self->call, &message);
    if (status == SL_AGAIN) {
        return SL_AGAIN;
    }
    if (status != SL_OK) {
        if (self->phase == ANSWERING) {
            note_unsent(self);
        }
        return SL_END;
    }
    if (add_payload(self, message) != SL_OK) {
        sl_client_call_cancel(self->call);
    }
    if (cancel != NULL &&
        cancel->cancel_timing_case ==
            CONNECTRPC__CONFORMANCE__V1__CLIENT_COMPAT_REQUEST__CANCEL__CANCEL_TIMING_AFTER_NUM_RESPONSES &&
        cancel->after_num_responses == self->result.n_payloads) {
        sl_client_call_cancel(self->call);
    }
    self->phase = self->phase == ANSWERING ? SENDING : RECEIVING;
    return SL_OK;
}

static void step(struct judge_case *self)
{
    enum sl_status status = SL_OK;
    while (status == SL_OK) {
        switch (self->phase) {
        case SENDING:
            status = send_next(self);
            break;
        case CLOSING:
            status = close_side(self);
            break;
        case ANSWERING:
        case RECEIVING:
            status = receive_next(self);
            break;
        }
    }
    if (status == SL_END) {
        finish(self);
    }
}

static void on_event(struct sl_client_call *call, void *user_data)
{
    (void)call;
    step(user_data);
}

static void on_timer(void *user_data)
{
    struct judge_case *self = user_data;
    self->is_due = true;
    step(self);
}

/* ---- The call -------------------------------------------------------------------------------- */

static const struct sl_method_desc *find_method(const case_request *request)
{
    const struct sl_method_desc *methods =
        sl_connectrpc__conformance__v1__conformance_service__methods;
    char path[PATH_BYTES];
    const bool has_service = request->_service_case != 0;
    (void)snprintf(
        path, sizeof(path), "/%s/%s",
        has_service ? request->service : "connectrpc.conformance.v1.ConformanceService",
        request->_method_case != 0 ? request->method : "");
    for (size_t i = 0; i < N_METHODS; i++) {
        if (strcmp(methods[i].path, path) == 0) {
            return &methods[i];
        }
    }
    return NULL;
}

static const char *encoding_of(const case_request *request)
{
    if (request->compression == CONNECTRPC__CONFORMANCE__V1__COMPRESSION__COMPRESSION_GZIP) {
        return "gzip";
    }
    return request->compression == CONNECTRPC__CONFORMANCE__V1__COMPRESSION__COMPRESSION_DEFLATE
               ? "deflate"
               : NULL;
}

static enum sl_status open_call(struct judge_case *self, struct sl_channel *channel)
{
    const case_request *request = self->request;
    struct sl_metadata metadata = { 0 };
    SL_TRY(judge_metadata_of(
        request->request_headers, request->n_request_headers, &self->arena, &metadata));
    const struct sl_client_call_options options = {
        .struct_size = sizeof(options),
        .timeout_ms = request->_timeout_ms_case != 0 ? request->timeout_ms : 0,
        .metadata = metadata.items,
        .n_metadata = metadata.n_items,
        .encoding = encoding_of(request),
        .on_readable = on_event,
        .on_writable = on_event,
        .user_data = self,
    };
    return sl_client_call_open(channel, self->method, &options, &self->call);
}

void judge_case_start(
    struct judge_case *self, struct sl_channel *channel, judge_case_fn *on_done, void *user_data)
{
    self->on_done = on_done;
    self->user_data = user_data;
    self->method = find_method(self->request);
    if (self->method == NULL) {
        judge_case_fail(self, "unknown method", on_done, user_data);
        return;
    }
    if (open_call(self, channel) != SL_OK) {
        judge_case_fail(self, "the call cannot be opened", on_done, user_data);
        return;
    }
    sl_timer_init(&self->timer, sl_loop_current(), on_timer, self);
    step(self);
}
