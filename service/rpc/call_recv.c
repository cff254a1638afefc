/* What a call receives: the one request of a unary or server-streaming method, or messages one at a
 * time. Bytes are given back to flow control when they enter the message that is being put together
 * (FC-1); what comes behind a message that nobody has asked for keeps the window closed. */
#include "runtime/base/mem.h"
#include "service/rpc/call_impl.h"

enum { MESSAGE_FACTOR = 16, MESSAGE_BYTES = 64 * 1024, FULL_RETRY_MS = 1000 };

#define SHOWN_TEXT "the message is not accepted"

/* ---- Windows and memory ---------------------------------------------------------------------- */

static void give_back(struct sl_call *call, size_t n)
{
    if (n == 0) {
        return;
    }
    if (call->stream != NULL) {
        sl_h2_stream_consume(call->stream, n);
    } else if (call->conn->h2 != NULL) {
        sl_h2_session_consume(call->conn->h2, n);
    }
}

static void give_credit(struct sl_call *call)
{
    give_back(call, sl_frame_reader_take_credit(call->in.reader));
}

void sl_call_recv_done(struct sl_call *call)
{
    sl_list_remove(&call->in_gaps);
    if (call->in.reader == NULL) {
        return;
    }
    if (call->in.reader->is_held && call->in.bytes.data == NULL) {
        call->in.bytes = sl_frame_reader_take(call->in.reader); /* the handler may be reading it */
        call->in.is_left = sl_call_is_streaming_in(call);
    }
    sl_frame_reader_done(call->in.reader);
    give_credit(call);
    sl_call_count_received(call);
    call->in.reader = sl_free(call->in.reader);
}

static bool make_reader(struct sl_call *call)
{
    if (call->in.reader != NULL) {
        return true;
    }
    call->in.reader = sl_alloc(sizeof(*call->in.reader));
    if (call->in.reader == NULL) {
        return false;
    }
    sl_frame_reader_init(call->in.reader, (size_t)call->conn->limits->message_recv);
    if (call->in.encoding.data != NULL) {
        sl_frame_reader_set_encoding(call->in.reader, call->in.encoding);
    }
    return true;
}

/* A method that takes one request waits for the client until it half-closes. In a stream a message
 * must be unfinished; and while one is held it is us who keep the window closed. */
static bool is_clients_turn(const struct sl_call *call)
{
    const struct sl_frame_reader *reader = call->in.reader;
    if (!sl_call_is_streaming_in(call)) {
        return !call->is_half_closed;
    }
    return reader != NULL && !reader->is_held && sl_frame_reader_is_inside(reader);
}

void sl_call_watch_gap(struct sl_call *call)
{
    sl_list_remove(&call->in_gaps);
    if (is_clients_turn(call)) {
        const bool is_first = sl_list_is_empty(&call->conn->gaps);
        call->in.gap_since_ns = sl_conn_now_ns(call->conn);
        sl_list_add_last(&call->conn->gaps, &call->in_gaps);
        if (is_first) {
            sl_conn_timers_arm(call->conn);
        }
    }
}

/* ---- The one request ------------------------------------------------------------------------- */

static void refuse_with(struct sl_call *call, enum sl_status code, const char *text)
{
    const struct sl_error err = { .status = code };
    sl_call_refuse(
        call, &(struct sl_call_status){
                  .code = code, .message = text, .reason = sl_call_fault_reason(call, &err) });
}

static void refuse_fault(struct sl_call *call, const struct sl_error *err)
{
    sl_call_refuse(
        call, &(struct sl_call_status){ .code = err->status,
                                        .message = err->text,
                                        .reason = sl_call_fault_reason(call, err) });
}

/* Holds the request as soon as it is complete; refuses what cannot become one (FR-3, FR-7). */
static bool take_request(struct sl_call *call)
{
    struct sl_frame_reader *reader = call->in.reader;
    if (!call->has_request && sl_frame_reader_status(reader) != SL_AGAIN) {
        struct sl_error err = { 0 };
        const enum sl_status status = sl_frame_reader_next(reader, &call->in.request, &err);
        if (status == SL_OK) {
            call->has_request = true;
            call->is_packed = sl_frame_reader_is_compressed(reader);
            SL_RPC_COUNT(call->conn->counters, messages_in, 1);
            sl_metric_add(call->route->metrics.received, 1);
            const enum sl_status shown = sl_call_show_in(call, call->in.request);
            if (shown != SL_OK) {
                refuse_with(call, shown, SHOWN_TEXT);
                return false;
            }
        } else if (status != SL_AGAIN && status != SL_END) {
            err.status = status;
            refuse_fault(call, &err);
            return false;
        }
    }
    if (call->has_request && sl_frame_reader_n_unread(reader) >= SL_FRAME_PREFIX_BYTES) {
        refuse_with(call, SL_UNIMPLEMENTED, "the method takes one request message, not more");
        return false;
    }
    return true;
}

/* FR-8: END_STREAM has come. */
static void complete_request(struct sl_call *call)
{
    if (!call->has_request) {
        refuse_with(call, SL_UNIMPLEMENTED, "the method takes one request message, there was none");
        return;
    }
    if (sl_frame_reader_n_unread(call->in.reader) > 0) {
        refuse_with(call, SL_INTERNAL, "the request stream ended inside a message");
        return;
    }
    sl_call_recv_done(call); /* keeps the request's bytes */
    sl_call_raise(call, SL_EVENT_START);
}

static void refuse_for_room(struct sl_call *call)
{
    sl_call_refuse(
        call,
        &(struct sl_call_status){ .code = SL_RESOURCE_EXHAUSTED,
                                  .message = "too many bytes of unfinished requests are held",
                                  .reason = sl_server_reason(call->conn->server, "SERVER_FULL"),
                                  .retry_delay_ms = FULL_RETRY_MS });
}

/* ---- Events of the stream -------------------------------------------------------------------- */

static bool is_wanted(const struct sl_call *call)
{
    return call->stage != SL_STAGE_FINISHED && !call->is_cut && !call->is_closing &&
           sl_call_check_open(call) == SL_OK && !call->is_half_closed;
}

void sl_call_on_data(struct sl_call *call, struct sl_slice bytes)
{
    if (!is_wanted(call)) {
        give_back(call, bytes.size);
        return;
    }
    if (!make_reader(call)) {
        give_back(call, bytes.size);
        sl_call_refuse(
            call,
            &(struct sl_call_status){ .code = SL_RESOURCE_EXHAUSTED, .message = "out of memory" });
        return;
    }
    sl_frame_reader_feed(call->in.reader, bytes);
    if (sl_call_is_streaming_in(call)) {
        /* Bytes behind a message that the handler still holds move on only when it asks again. */
        if (sl_frame_reader_status(call->in.reader) != SL_AGAIN ||
            sl_frame_reader_n_unread(call->in.reader) > 0) {
            sl_call_raise(call, SL_EVENT_READABLE);
        }
    } else if (!take_request(call)) {
        return;
    }
    sl_call_count_received(call); /* also what decompression has made of it */
    if (!sl_call_has_receive_room(call)) {
        refuse_for_room(call);
        return;
    }
    give_credit(call);
    sl_call_watch_gap(call);
}

void sl_call_on_end_stream(struct sl_call *call)
{
    if (!is_wanted(call)) {
        call->is_half_closed = true;
        return;
    }
    call->is_half_closed = true;
    if (call->in.reader != NULL) {
        sl_frame_reader_end(call->in.reader);
    }
    if (sl_call_is_streaming_in(call)) {
        sl_call_watch_gap(call);
        sl_call_raise(call, SL_EVENT_READABLE);
    } else if (call->in.reader == NULL || take_request(call)) {
        sl_list_remove(&call->in_gaps);
        complete_request(call);
    }
}

/* ---- The handler's side ---------------------------------------------------------------------- */

enum sl_status sl_call_keep_fault(struct sl_call *call, const struct sl_error *err)
{
    if (call->fault == NULL) {
        call->fault = sl_arena_alloc(&call->arena, sizeof(*call->fault));
    }
    if (call->fault != NULL) {
        *call->fault = *err;
    }
    return err->status;
}

enum sl_status sl_call_decode(
    const struct sl_call *call,
    struct sl_slice bytes,
    struct sl_arena *arena,
    void **ret_message,
    struct sl_error *err)
{
    if (call->route->method == NULL) {
        return SL_FAILED_PRECONDITION; /* raw methods have no types (EM-4) */
    }
    err->status = sl_codec_proto.decode(
        call->conn->limits, call->route->method->request_type, bytes, arena, ret_message, err);
    return err->status;
}

static enum sl_status
decode(struct sl_call *call, struct sl_slice bytes, struct sl_arena *arena, void **ret_message)
{
    struct sl_error err = { 0 };
    const enum sl_status status = sl_call_decode(call, bytes, arena, ret_message, &err);
    return err.status == SL_OK ? status : sl_call_keep_fault(call, &err);
}

enum sl_status sl_call_request(struct sl_call *call, const void **ret_message)
{
    struct sl_pool_call *pooled = sl_call_hand(call);
    if (pooled != NULL) {
        return sl_pool_call_request(pooled, ret_message);
    }
    if (call->in.decoded == NULL) {
        SL_TRY(decode(call, call->in.request, &call->arena, &call->in.decoded));
    }
    *ret_message = call->in.decoded;
    return SL_OK;
}

struct sl_slice sl_call_request_bytes(const struct sl_call *call)
{
    return call->in.request;
}

enum sl_status sl_call_recv_bytes(struct sl_call *call, struct sl_slice *ret_message)
{
    struct sl_pool_call *pooled = sl_call_hand(call);
    if (pooled != NULL) {
        return sl_pool_call_recv_bytes(pooled, ret_message);
    }
    if (!sl_call_is_streaming_in(call)) {
        return SL_FAILED_PRECONDITION;
    }
    SL_TRY(sl_call_check_open(call));
    if (call->in.reader == NULL) {
        return call->is_half_closed ? SL_END : SL_AGAIN;
    }
    struct sl_error err = { 0 };
    const enum sl_status status = sl_frame_reader_next(call->in.reader, ret_message, &err);
    give_credit(call);
    sl_call_count_received(call);
    sl_call_watch_gap(call);
    if (status == SL_OK) {
        call->is_packed = sl_frame_reader_is_compressed(call->in.reader);
        SL_RPC_COUNT(call->conn->counters, messages_in, 1);
        sl_metric_add(call->route->metrics.received, 1);
        /* A handler that takes one message a time is told of the next. */
        if (call->is_half_closed || sl_frame_reader_n_unread(call->in.reader) > 0) {
            sl_call_raise(call, SL_EVENT_READABLE);
        }
        err.status = sl_call_show_in(call, *ret_message);
        if (err.status == SL_OK) {
            return SL_OK;
        }
        (void)sl_fail(&err, err.status, "%s", SHOWN_TEXT);
        return sl_call_keep_fault(call, &err);
    }
    call->events &= ~(uint32_t)SL_EVENT_READABLE;
    if (status == SL_AGAIN || status == SL_END) {
        return status;
    }
    err.status = status;
    return sl_call_keep_fault(call, &err);
}

bool sl_call_is_compressed(const struct sl_call *call)
{
    const struct sl_pool_call *pooled = sl_call_hand(call);
    return pooled != NULL ? sl_pool_call_is_compressed(pooled) : call->is_packed;
}

enum sl_status sl_call_ready_message(const struct sl_call *call, struct sl_message **message)
{
    if (*message == NULL) {
        *message = sl_calloc(1, sizeof(**message));
    }
    if (*message == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    const size_t most = (size_t)call->conn->limits->message_recv;
    sl_arena_done(&(*message)->arena);
    sl_arena_init(&(*message)->arena, most * MESSAGE_FACTOR + MESSAGE_BYTES);
    return SL_OK;
}

enum sl_status sl_call_recv(struct sl_call *call, void **ret_message)
{
    struct sl_pool_call *pooled = sl_call_hand(call);
    if (pooled != NULL) {
        return sl_pool_call_recv(pooled, ret_message);
    }
    struct sl_slice bytes;
    SL_TRY(sl_call_recv_bytes(call, &bytes));
    SL_TRY(sl_call_ready_message(call, &call->in.message));
    return decode(call, bytes, &call->in.message->arena, ret_message);
}

/* True: `ret_bytes` is the message of the last recv, which may have outlived its stream. */
static bool take_bytes(struct sl_call *call, struct sl_buf *ret_bytes)
{
    if (call->in.reader == NULL && call->in.is_left) {
        *ret_bytes = call->in.bytes;
        sl_buf_init(&call->in.bytes, 0);
        call->in.is_left = false;
        return true;
    }
    if (call->in.reader == NULL || !call->in.reader->is_held) {
        return false;
    }
    *ret_bytes = sl_frame_reader_take(call->in.reader);
    sl_call_count_received(call);
    return true;
}

struct sl_message *sl_message_take(struct sl_call *call)
{
    struct sl_pool_call *pooled = sl_call_hand(call);
    if (pooled != NULL) {
        return sl_pool_call_take(pooled);
    }
    struct sl_message *message = call->in.message;
    if (message == NULL) {
        message = sl_calloc(1, sizeof(*message));
    }
    if (message == NULL || !take_bytes(call, &message->bytes)) {
        call->in.message = message; /* if it is new, for the next */
        return NULL;
    }
    call->in.message = NULL;
    return message;
}

struct sl_message *sl_message_free(struct sl_message *message)
{
    if (message != NULL) {
        sl_arena_done(&message->arena);
        sl_buf_done(&message->bytes);
    }
    return sl_free(message);
}
