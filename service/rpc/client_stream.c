/* A call on the wire: its request headers and body, and what comes back. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "service/rpc/client_impl.h"
#include "service/rpc/status.h"

enum { HTTP_OK = 200, NUMBER_BYTES = 12 };

/* ---- The end --------------------------------------------------------------------------------- */

void sl_client_call_credit(struct sl_client_call *call)
{
    const size_t n = sl_frame_reader_take_credit(&call->own.reader);
    if (n > 0 && call->own.stream != NULL) {
        sl_h2_stream_consume(call->own.stream, n);
    }
}

/* Everything that an end does but for the text. */
static void settle(struct sl_client_call *call, enum sl_status status, bool is_dropped)
{
    struct sl_channel *channel = call->own.channel;
    call->own.status = status;
    call->own.error.status = status;
    call->own.is_dropped = is_dropped;
    sl_timer_stop(&call->own.deadline);
    sl_client_retry_done(call);
    if (channel != NULL) {
        sl_list_remove(&call->own.node);
        sl_list_add_last(&channel->own.others, &call->own.node);
    }
    sl_buf_done(&call->own.out);
    call->own.out_at = 0;
    if (is_dropped) {
        sl_frame_reader_done(&call->own.reader);
        sl_client_call_credit(call);
    }
    if (channel != NULL) {
        if (status == SL_OK) {
            sl_client_throttle_succeed(&channel->own.throttle);
        }
        sl_client_chain_end(call);
    }
    sl_client_call_notify(call, true, true);
}

void sl_client_call_end(
    struct sl_client_call *call,
    enum sl_status status,
    enum sl_error_origin origin,
    bool is_dropped,
    const char *fmt,
    ...)
{
    if (call->own.status != SL_PENDING) {
        return;
    }
    char text[sizeof(call->own.error.text)];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    (void)sl_fail(&call->own.error, status, "%s", text);
    call->own.error.origin = origin;
    settle(call, status, is_dropped);
    if (call->own.stream != NULL) {
        sl_h2_stream_reset(call->own.stream, SL_H2_CANCEL);
    }
}

static void end_without_memory(struct sl_client_call *call)
{
    sl_client_call_end(
        call, SL_RESOURCE_EXHAUSTED, SL_ORIGIN_LOCAL, true, "no memory for the answer");
}

/* ---- The request ----------------------------------------------------------------------------- */

static size_t body_ready(struct sl_h2_body *body, size_t max, bool *ret_is_last)
{
    const struct sl_client_call *call = SL_CONTAINER(body, struct sl_client_call, own.body);
    if (call->own.retry.is_decided) { /* the old stream, which is being reset */
        *ret_is_last = false;
        return 0;
    }
    const size_t left = call->own.out.size - call->own.out_at;
    *ret_is_last = call->own.is_send_closed && left <= max;
    return left < max ? left : max;
}

static void body_take(struct sl_h2_body *body, uint8_t *dst, size_t n)
{
    struct sl_client_call *call = SL_CONTAINER(body, struct sl_client_call, own.body);
    if (n == 0) {
        return;
    }
    memcpy(dst, call->own.out.data + call->own.out_at, n);
    call->own.out_at += n;
    if (!call->own.is_kept && call->own.out_at == call->own.out.size) {
        sl_buf_clear(&call->own.out);
        call->own.out_at = 0;
    }
    if (call->own.is_send_full &&
        call->own.out.size - call->own.out_at <= SL_CLIENT_QUEUE_BYTES / 2) {
        call->own.is_send_full = false;
        sl_client_call_notify(call, false, true);
    }
}

void sl_client_call_init_body(struct sl_client_call *call)
{
    call->own.body = (struct sl_h2_body){ .ready = body_ready, .take = body_take };
}

static enum sl_status
add_text(struct sl_header_list *list, struct sl_arena *arena, const char *name, const char *text)
{
    const struct sl_slice value = sl_slice_str(text);
    const char *copy = sl_arena_dup(arena, value);
    return copy == NULL ? SL_RESOURCE_EXHAUSTED
                        : sl_header_list_add(list, arena, name, sl_slice_of(copy, value.size));
}

static enum sl_status
add_attempts(struct sl_client_call *call, struct sl_arena *arena, struct sl_header_list *list)
{
    char text[NUMBER_BYTES];
    if (call->own.retry.n_retries == 0) {
        return SL_OK;
    }
    (void)snprintf(text, sizeof(text), "%" PRIu32, call->own.retry.n_retries);
    return add_text(list, arena, "grpc-previous-rpc-attempts", text);
}

static enum sl_status
add_timeout(struct sl_client_call *call, struct sl_arena *arena, struct sl_header_list *list)
{
    if (call->own.deadline_ns == SL_NEVER_NS) {
        return SL_OK;
    }
    char text[SL_TIMEOUT_TEXT_BYTES];
    const uint64_t left_ns =
        sl_deadline_remaining(call->own.deadline_ns, sl_loop_now_ns(call->loop));
    (void)sl_timeout_format(left_ns, text);
    return add_text(list, arena, "grpc-timeout", text);
}

static enum sl_status make_headers(
    struct sl_client_call *call,
    const struct sl_client_conn *conn,
    struct sl_arena *arena,
    struct sl_header_list *list)
{
    const struct sl_channel *channel = call->own.channel;
    const struct {
        const char *name, *value;
    } fixed[] = {
        { ":method", "POST" },
        { ":scheme", sl_client_conn_is_tls(conn) ? "https" : "http" },
        { ":path", call->method->path },
        { ":authority", channel->authority },
        { "te", "trailers" },
        { "content-type", "application/grpc" },
        { "user-agent", channel->user_agent },
        { "grpc-accept-encoding", SL_ENCODINGS_ACCEPTED },
    };
    for (size_t i = 0; i < SL_COUNT(fixed); i++) {
        SL_TRY(sl_header_list_add(list, arena, fixed[i].name, sl_slice_str(fixed[i].value)));
    }
    if (call->encoding != SL_ENCODING_IDENTITY) {
        const struct sl_slice name = sl_slice_str(sl_encoding_name(call->encoding));
        SL_TRY(sl_header_list_add(list, arena, "grpc-encoding", name));
    }
    SL_TRY(add_timeout(call, arena, list));
    SL_TRY(add_attempts(call, arena, list));
    if (channel->authorization != NULL) {
        const struct sl_slice value = sl_slice_str(channel->authorization);
        SL_TRY(sl_header_list_add(list, arena, "authorization", value));
    }
    return sl_header_list_add_metadata(
        list, arena, call->own.metadata.items, call->own.metadata.n_items);
}

enum sl_status sl_client_call_start(struct sl_client_call *call, struct sl_client_conn *conn)
{
    struct sl_header_list list = { 0 };
    struct sl_arena *arena = &call->own.message_arena; /* there is no message yet */
    sl_arena_done(arena);
    if (make_headers(call, conn, arena, &list) != SL_OK) {
        sl_client_call_end(
            call, SL_RESOURCE_EXHAUSTED, SL_ORIGIN_LOCAL, true, "no memory for the request");
        return SL_OK;
    }
    const enum sl_status status = sl_h2_request(
        sl_client_conn_session(conn), list.items, list.n_items, &call->own.body, call,
        &call->own.stream);
    if (status == SL_AGAIN || status == SL_UNAVAILABLE) {
        return status;
    }
    if (status != SL_OK) {
        sl_client_call_end(
            call, SL_RESOURCE_EXHAUSTED, SL_ORIGIN_LOCAL, true,
            "the request headers of %zu bytes cannot be sent: too large for the server, or no "
            "memory",
            sl_header_list_bytes(&list));
        return SL_OK;
    }
    call->own.conn = conn;
    call->own.is_end_sent = false; /* an earlier attempt's stream has come to its end before */
    sl_list_remove(&call->own.node);
    sl_list_add_last(&call->own.channel->own.others, &call->own.node);
    return SL_OK;
}

/* ---- The answer ------------------------------------------------------------------------------ */

static unsigned parse_http_status(struct sl_slice text)
{
    uint64_t status = 0;
    return sl_parse_u64(text, 100, 999, &status) == SL_OK ? (unsigned)status : 0;
}

/* True: the method has one answer, and the stream ends without. */
static bool lacks_answer(struct sl_client_call *call)
{
    const enum sl_method_kind kind = call->method->kind;
    if ((kind != SL_UNARY && kind != SL_CLIENT_STREAMING) || call->own.n_messages > 0) {
        return false;
    }
    sl_frame_reader_end(&call->own.reader);
    return sl_frame_reader_status(&call->own.reader) == SL_END;
}

/* The status that the server sent, with its text and details. */
static void
end_by_peer(struct sl_client_call *call, const struct sl_headers *headers, enum sl_status status)
{
    struct sl_slice message = sl_slice_of("", 0);
    if (status == SL_OK && lacks_answer(call)) {
        sl_client_call_end(
            call, SL_UNIMPLEMENTED, SL_ORIGIN_PEER, false,
            "the server answered OK without a message");
        return;
    }
    if (headers->grpc_message.data != NULL &&
        sl_rpc_message_decode(headers->grpc_message, &call->own.arena, &message) != SL_OK) {
        end_without_memory(call);
        return;
    }
    struct sl_slice details = { 0 };
    if (headers->details.data != NULL &&
        sl_headers_decode_bin(headers->details, &call->own.arena, &details) == SL_OK) {
        call->own.details = details;
    }
    (void)sl_fail(&call->own.error, status, "%.*s", SL_SLICE_FMT(message));
    call->own.error.origin = SL_ORIGIN_PEER;
    settle(call, status, false);
}

/* A header block that cannot be gRPC's (ST-5). */
static void end_by_http(struct sl_client_call *call, const struct sl_headers *headers)
{
    const unsigned http_status = parse_http_status(headers->http_status);
    const enum sl_status status = sl_rpc_status_of_http(http_status);
    if (sl_client_retry_wants(call, status, SL_CLIENT_FAILED)) {
        sl_h2_stream_reset(call->own.stream, SL_H2_CANCEL);
        return;
    }
    struct sl_slice type = headers->content_type;
    type.size = type.size > 60 ? 60 : type.size;
    sl_client_call_end(
        call, status, SL_ORIGIN_PEER, true,
        "the answer is not gRPC: HTTP status %u, content-type \"%.*s\"", http_status,
        SL_SLICE_FMT(type));
}

static void finish_from(
    struct sl_client_call *call,
    const struct sl_h2_headers *block,
    const struct sl_headers *headers)
{
    const bool has_status = headers->grpc_status.data != NULL;
    const enum sl_status status =
        has_status ? sl_rpc_status_parse(headers->grpc_status) : SL_UNKNOWN;
    if (sl_headers_decode_metadata(
            block->fields, block->n_fields, &call->own.arena, &call->own.trailers) ==
        SL_RESOURCE_EXHAUSTED) {
        end_without_memory(call);
        return;
    }
    if (status != SL_OK && sl_client_retry_wants(call, status, SL_CLIENT_FAILED)) {
        return;
    }
    call->own.has_headers = true;
    if (has_status) {
        end_by_peer(call, headers, status);
    } else {
        sl_client_call_end(
            call, SL_UNKNOWN, SL_ORIGIN_PEER, false,
            "the server sent trailers without grpc-status");
    }
}

static void on_response(
    struct sl_client_call *call,
    const struct sl_h2_headers *block,
    const struct sl_headers *headers)
{
    struct sl_slice subtype;
    const bool is_grpc =
        sl_headers_content_type(headers->content_type, &subtype) != SL_CONTENT_NOT_GRPC;
    const bool has_status = headers->grpc_status.data != NULL && block->is_end;
    if (!has_status && (!is_grpc || parse_http_status(headers->http_status) != HTTP_OK)) {
        end_by_http(call, headers);
        return;
    }
    if (block->is_end) {
        finish_from(call, block, headers); /* Trailers-Only: all of it counts as trailers */
        return;
    }
    call->own.has_headers = true;
    sl_client_retry_commit(call);
    sl_frame_reader_set_encoding(&call->own.reader, headers->encoding);
    if (sl_headers_decode_metadata(
            block->fields, block->n_fields, &call->own.arena, &call->own.headers) ==
        SL_RESOURCE_EXHAUSTED) {
        end_without_memory(call);
        return;
    }
    sl_client_chain_headers(call);
    sl_client_call_notify(call, true, false);
}

/* Nothing that still comes on this stream is of interest. */
static bool is_done_with(const struct sl_client_call *call)
{
    return call->own.status != SL_PENDING || call->own.retry.is_decided;
}

void sl_client_call_on_headers(struct sl_client_call *call, const struct sl_h2_headers *headers)
{
    if (is_done_with(call) || headers->kind == SL_H2_INFORMATIONAL) {
        return;
    }
    if (headers->is_over_soft) {
        sl_client_call_end(
            call, SL_RESOURCE_EXHAUSTED, SL_ORIGIN_PEER, true,
            "response headers of %zu bytes are over the limit of %" PRIu64 " bytes",
            headers->list_bytes, call->own.channel->limits.header_list_soft);
        return;
    }
    struct sl_headers scanned;
    sl_headers_scan(headers->fields, headers->n_fields, &scanned);
    if (headers->kind == SL_H2_RESPONSE) {
        on_response(call, headers, &scanned);
    } else {
        finish_from(call, headers, &scanned);
    }
}

void sl_client_call_on_data(struct sl_client_call *call, struct sl_slice bytes)
{
    if (is_done_with(call)) {
        sl_h2_stream_consume(call->own.stream, bytes.size); /* late: nobody wants it */
        return;
    }
    sl_frame_reader_feed(&call->own.reader, bytes);
    sl_client_call_credit(call);
    if (sl_frame_reader_status(&call->own.reader) != SL_AGAIN) {
        sl_client_call_notify(call, true, false);
    }
}

void sl_client_call_on_end_stream(struct sl_client_call *call)
{
    if (!call->own.retry.is_decided) {
        sl_frame_reader_end(&call->own.reader);
        sl_client_call_end(
            call, SL_UNKNOWN, SL_ORIGIN_PEER, false,
            "the server ended the stream without trailers");
    }
    if (!call->own.is_end_sent) { /* what we still had to say is of no use (NG-1) */
        sl_h2_stream_reset(call->own.stream, SL_H2_NO_ERROR);
    }
}

static const char *name_of_reset(uint32_t code)
{
    static const char *const names[] = { "NO_ERROR",
                                         "PROTOCOL_ERROR",
                                         "INTERNAL_ERROR",
                                         "FLOW_CONTROL_ERROR",
                                         "SETTINGS_TIMEOUT",
                                         "STREAM_CLOSED",
                                         "FRAME_SIZE_ERROR",
                                         "REFUSED_STREAM",
                                         "CANCEL",
                                         "COMPRESSION_ERROR",
                                         "CONNECT_ERROR",
                                         "ENHANCE_YOUR_CALM",
                                         "INADEQUATE_SECURITY",
                                         "HTTP_1_1_REQUIRED" };
    return code < SL_COUNT(names) ? names[code] : "unknown code";
}

/* ST-4: a deadline that has passed is the better reason for a CANCEL of the server's. */
static void end_by_reset(struct sl_client_call *call, uint32_t code)
{
    const enum sl_status status = sl_rpc_status_of_reset(code);
    if (code == SL_H2_CANCEL && sl_loop_now_ns(call->loop) >= call->own.deadline_ns) {
        sl_client_call_end(
            call, SL_DEADLINE_EXCEEDED, SL_ORIGIN_LOCAL, true, "the deadline has passed");
    } else if (!sl_client_retry_wants(call, status, SL_CLIENT_FAILED)) {
        sl_client_call_end(
            call, status, SL_ORIGIN_PEER, false, "the server reset the stream: %s (%" PRIu32 ")",
            name_of_reset(code), code);
    }
}

static void end_by_loss(
    struct sl_client_call *call, const struct sl_client_conn *conn, enum sl_client_failure failure)
{
    struct sl_error why;
    if (!sl_client_retry_wants(call, SL_UNAVAILABLE, failure)) {
        sl_client_conn_explain(conn, &why);
        sl_client_call_end(call, SL_UNAVAILABLE, SL_ORIGIN_TRANSPORT, false, "%.200s", why.text);
    }
}

/* We reset it ourselves, for what the server did. */
static void end_by_fault(struct sl_client_call *call, bool is_over_hard, uint32_t code)
{
    const struct sl_limits *limits = &call->own.channel->limits;
    if (is_over_hard) {
        sl_client_call_end(
            call, SL_RESOURCE_EXHAUSTED, SL_ORIGIN_PEER, false,
            "response headers are over the limit of %" PRIu64 " bytes and %" PRIu64 " fields",
            limits->header_list_hard, limits->header_fields);
    } else {
        sl_client_call_end(
            call, SL_INTERNAL, SL_ORIGIN_PEER, false,
            "the server broke the HTTP/2 protocol on this stream: %s", name_of_reset(code));
    }
}

static void end_by_close(
    struct sl_client_call *call,
    const struct sl_client_conn *conn,
    const struct sl_h2_stream *stream,
    enum sl_h2_close how,
    uint32_t code)
{
    const bool is_sent = sl_h2_stream_is_sent(stream);
    switch (how) {
    case SL_H2_CLOSED_UNPROCESSED:
        if (!sl_client_retry_wants(
                call, SL_UNAVAILABLE, is_sent ? SL_CLIENT_UNPROCESSED : SL_CLIENT_UNSENT)) {
            sl_client_call_end(
                call, SL_UNAVAILABLE, SL_ORIGIN_PEER, false, "the server refused the stream");
        }
        break;
    case SL_H2_CLOSED_RESET:
        end_by_reset(call, code);
        break;
    case SL_H2_CLOSED_LOST:
        end_by_loss(call, conn, is_sent ? SL_CLIENT_FAILED : SL_CLIENT_UNSENT);
        break;
    case SL_H2_CLOSED_OURS:
    case SL_H2_CLOSED_DONE:
        end_by_fault(call, sl_h2_stream_is_over_hard(stream), code);
        break;
    }
}

void sl_client_call_on_closed(struct sl_client_call *call, enum sl_h2_close how, uint32_t code)
{
    struct sl_client_conn *conn = call->own.conn;
    /* What lies here unread is in our memory now: the connection's window gets it back. */
    sl_h2_session_consume(
        sl_client_conn_session(conn), sl_frame_reader_n_unread(&call->own.reader));
    const struct sl_h2_stream *stream = call->own.stream;
    call->own.stream = NULL;
    call->own.conn = NULL;
    if (sl_h2_stream_is_sent(stream)) {
        sl_client_conn_note_used(conn);
    }
    if (call->own.retry.is_decided) {
        sl_client_retry_go(call);
    } else if (call->own.status == SL_PENDING) {
        end_by_close(call, conn, stream, how, code);
    }
    sl_client_call_release(call);
}
