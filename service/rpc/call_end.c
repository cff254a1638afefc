/* How a call ends. Exactly one of finish, reset, loss, deadline and drain decides it (CN-5); the
 * rest finds the outcome set and changes nothing that the handler could see.
 *
 *   settle: the outcome, counters, interceptors      tell: on_ended, once
 *   close:  trailers behind what is queued           cut:  trailers at once, or RST_STREAM */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "runtime/base/mem.h"
#include "runtime/base/sized.h"
#include "service/rpc/call_impl.h"
#include "service/rpc/status.h"

enum {
    REFUSAL_BYTES = 64 * 1024,
    MESSAGE_BYTES = 8192,
    SHORT_BYTES = 256,
    PUSHBACK_BYTES = 24,
    FORMAT_BYTES = 1024
};

/* How much of a status is sent (RS-9). */
enum detail { ALL, NO_DETAILS, SHORT_MESSAGE, NO_MESSAGE };

/* ---- A status as header fields --------------------------------------------------------------- */

static enum sl_status
add_pushback(struct sl_header_list *list, struct sl_arena *arena, int64_t retry_delay_ms)
{
    char *text = sl_arena_alloc(arena, PUSHBACK_BYTES);
    if (text == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    const int64_t most = retry_delay_ms > INT32_MAX ? INT32_MAX : retry_delay_ms;
    const int size =
        snprintf(text, PUSHBACK_BYTES, "%" PRId64, retry_delay_ms < 0 ? INT64_C(-1) : most);
    return sl_header_list_add(
        list, arena, "grpc-retry-pushback-ms", sl_slice_of(text, (size_t)size));
}

/* The details say no more than grpc-message, which may have been cut (RS-5). */
static enum sl_status add_details(
    struct sl_header_list *list,
    struct sl_arena *arena,
    const struct sl_call_status *status,
    struct sl_slice wire_message)
{
    struct sl_call_status sent = *status;
    if (status->message != NULL && 3 * strlen(status->message) > MESSAGE_BYTES) {
        struct sl_slice text = { 0 };
        SL_TRY(sl_rpc_message_decode(wire_message, arena, &text));
        sent.message = (const char *)text.data;
    }
    struct sl_slice details = { 0 };
    if (sl_rpc_details_encode(&sent, arena, &details) != SL_OK || details.size == 0) {
        return SL_OK;
    }
    return sl_header_list_add_bin(list, arena, "grpc-status-details-bin", details);
}

/* RS-4 to RS-6. */
static enum sl_status add_status(
    struct sl_header_list *list,
    struct sl_arena *arena,
    const struct sl_call_status *status,
    enum detail detail)
{
    SL_TRY(sl_header_list_add(list, arena, "grpc-status", sl_rpc_status_text(status->code)));
    if (status->code == SL_OK) {
        return SL_OK;
    }
    struct sl_slice wire = { 0 };
    const size_t most = detail >= SHORT_MESSAGE ? SHORT_BYTES : MESSAGE_BYTES;
    SL_TRY(sl_rpc_message_encode(sl_slice_str(status->message), most, arena, &wire));
    if (wire.size > 0 && detail != NO_MESSAGE) {
        SL_TRY(sl_header_list_add(list, arena, "grpc-message", wire));
    }
    if (status->retry_delay_ms != 0) {
        SL_TRY(add_pushback(list, arena, status->retry_delay_ms));
    }
    return detail == ALL ? add_details(list, arena, status, wire) : SL_OK;
}

/* Status and trailing metadata, made small enough for the peer. `list` may hold fields already.
 * Fails: SL_OUT_OF_RANGE it cannot be; SL_RESOURCE_EXHAUSTED no memory. */
static enum sl_status make_trailers(
    struct sl_header_list *list,
    struct sl_arena *arena,
    const struct sl_call_status *status,
    const struct sl_metadata *trailers,
    size_t most_bytes)
{
    const size_t n_before = list->n_items;
    for (enum detail detail = ALL; detail <= NO_MESSAGE; detail++) {
        list->n_items = n_before;
        SL_TRY(add_status(list, arena, status, detail));
        SL_TRY(sl_header_list_add_metadata(list, arena, trailers->items, trailers->n_items));
        if (sl_header_list_bytes(list) <= most_bytes) {
            return SL_OK;
        }
    }
    return SL_OUT_OF_RANGE;
}

/* What is said of a call that ends without memory: an OK would hide that something is missing. */
static enum sl_status bare_code(enum sl_status code)
{
    return code == SL_OK ? SL_RESOURCE_EXHAUSTED : code;
}

static struct sl_h2_header bare_status(enum sl_status code)
{
    return (struct sl_h2_header){ .name = sl_slice_str("grpc-status"),
                                  .value = sl_rpc_status_text(code) };
}

/* The trailers of a call; without memory they are the status alone (NG-21). */
static enum sl_status
fill_trailers(struct sl_call *call, const struct sl_call_status *status, bool has_metadata)
{
    static const struct sl_metadata nothing = { 0 };
    struct sl_header_list *list = &call->out.trailers;
    const bool is_plain_ok = status->code == SL_OK && call->trailers.n_items == 0;
    *list = (struct sl_header_list){ 0 };
    const enum sl_status made =
        is_plain_ok ? SL_RESOURCE_EXHAUSTED
                    : make_trailers(
                          list, &call->arena, status, has_metadata ? &call->trailers : &nothing,
                          sl_h2_session_header_room(call->conn->h2));
    if (made != SL_RESOURCE_EXHAUSTED) {
        return made;
    }
    call->out.bare_trailer = bare_status(is_plain_ok ? SL_OK : bare_code(status->code));
    *list = (struct sl_header_list){ .items = &call->out.bare_trailer, .n_items = 1 };
    return SL_OK;
}

/* ---- Trailers-Only --------------------------------------------------------------------------- */

/* The fields of a gRPC refusal behind :status. */
static enum sl_status make_refusal(
    struct sl_header_list *list,
    struct sl_arena *arena,
    const struct sl_refusal *refusal,
    const struct sl_metadata *trailers,
    size_t most_bytes)
{
    const struct sl_slice content_type =
        refusal->content_type.size > 0 ? refusal->content_type : sl_slice_str("application/grpc");
    SL_TRY(sl_header_list_add(list, arena, "content-type", content_type));
    if (refusal->lists_encodings) {
        const struct sl_slice accepted = sl_slice_str(SL_ENCODINGS_ACCEPTED);
        SL_TRY(sl_header_list_add(list, arena, "grpc-accept-encoding", accepted));
    }
    return make_trailers(list, arena, &refusal->status, trailers, most_bytes);
}

static enum sl_status respond_richly(
    const struct sl_conn *conn,
    struct sl_h2_stream *stream,
    struct sl_arena *arena,
    const struct sl_refusal *refusal,
    const struct sl_metadata *trailers)
{
    struct sl_header_list list = { 0 };
    SL_TRY(sl_header_list_add(&list, arena, ":status", sl_slice_str(refusal->http_status)));
    if (!refusal->is_http_only) {
        const size_t most_bytes = sl_h2_session_header_room(conn->h2);
        SL_TRY(make_refusal(&list, arena, refusal, trailers, most_bytes));
    }
    return sl_h2_stream_respond(stream, list.items, list.n_items, NULL);
}

/* Without memory it is the status alone (NG-21). */
static enum sl_status respond_only(
    const struct sl_conn *conn,
    struct sl_h2_stream *stream,
    struct sl_arena *arena,
    const struct sl_refusal *refusal,
    const struct sl_metadata *trailers)
{
    const enum sl_status status = respond_richly(conn, stream, arena, refusal, trailers);
    if (status != SL_RESOURCE_EXHAUSTED || refusal->is_http_only) {
        return status;
    }
    const struct sl_h2_header fields[] = {
        { .name = sl_slice_str(":status"), .value = sl_slice_str(refusal->http_status) },
        { .name = sl_slice_str("content-type"), .value = sl_slice_str("application/grpc") },
        bare_status(bare_code(refusal->status.code)),
    };
    return sl_h2_stream_respond(stream, fields, SL_COUNT(fields), NULL);
}

void sl_refusal_send(
    struct sl_conn *conn, struct sl_h2_stream *stream, const struct sl_refusal *refusal)
{
    struct sl_arena arena;
    sl_arena_init(&arena, REFUSAL_BYTES);
    const struct sl_metadata nothing = { 0 };
    struct sl_refusal explained = *refusal;
    sl_server_explain(conn->server, &explained.status);
    SL_RPC_COUNT(conn->counters, calls_by_status[refusal->status.code], 1);
    if (respond_only(conn, stream, &arena, &explained, &nothing) != SL_OK) {
        sl_h2_stream_reset(stream, SL_H2_INTERNAL_ERROR);
    }
    sl_arena_done(&arena);
}

/* ---- The two ways to end a stream -------------------------------------------------------------
 */

static void reset_stream(struct sl_call *call, enum sl_h2_code code)
{
    call->is_cut = true;
    sl_h2_stream_reset(call->stream, code);
}

static bool is_trailers_only(const struct sl_call *call)
{
    return !call->has_headers && call->out.queue.size == 0 && call->headers.n_items == 0;
}

static enum sl_status
respond_trailers_only(struct sl_call *call, const struct sl_call_status *status, bool has_trailers)
{
    const struct sl_refusal refusal = { .http_status = "200",
                                        .content_type = call->content_type,
                                        .status = *status,
                                        .lists_encodings = status->code == SL_UNIMPLEMENTED };
    const struct sl_metadata nothing = { 0 };
    call->is_trailed = true;
    return respond_only(
        call->conn, call->stream, &call->arena, &refusal,
        has_trailers ? &call->trailers : &nothing);
}

/* RS-2, RS-8: headers if they are missing, what is queued, trailers. */
static enum sl_status close_stream(struct sl_call *call, const struct sl_call_status *status)
{
    if (is_trailers_only(call)) {
        return respond_trailers_only(call, status, true);
    }
    if (sl_call_submit_headers(call) != SL_OK) {
        /* Too much header metadata: the status gets through without it (RS-9). */
        sl_call_send_drop(call);
        struct sl_call_status failed = *status;
        if (status->code == SL_OK) {
            failed.code = SL_RESOURCE_EXHAUSTED;
            failed.message = "the response headers are too large";
        }
        return respond_trailers_only(call, &failed, false);
    }
    SL_TRY(fill_trailers(call, status, true));
    sl_call_wake_body(call);
    return SL_OK;
}

/* Ends the stream at once and drops what is queued (DL-4, FC-9). `code`: when a message is on the
 * wire in part, so that trailers would make no sense. */
static void
cut_stream(struct sl_call *call, const struct sl_call_status *status, enum sl_h2_code code)
{
    if (call->stream == NULL || call->is_cut || call->is_trailed) {
        return;
    }
    sl_call_send_drop(call);
    sl_call_recv_done(call);
    if (!call->has_headers && call->headers.n_items > 0) {
        (void)sl_call_submit_headers(call); /* RS-2; too large or no memory: the status alone */
    }
    if (!call->has_headers) {
        call->is_cut = true;
        if (respond_trailers_only(call, status, true) != SL_OK &&
            respond_trailers_only(call, status, false) != SL_OK) {
            reset_stream(call, SL_H2_INTERNAL_ERROR);
        }
        return;
    }
    if (!sl_call_at_border(call) ||
        (fill_trailers(call, status, true) != SL_OK &&
         fill_trailers(call, status, false) != SL_OK) ||
        sl_h2_stream_abort(call->stream, call->out.trailers.items, call->out.trailers.n_items) !=
            SL_OK) {
        reset_stream(call, code);
        return;
    }
    call->is_cut = true;
}

/* ---- Who ended it ---------------------------------------------------------------------------- */

static bool is_decided(const struct sl_call *call)
{
    return call->outcome != SL_OUTCOME_NONE && !call->is_drain_grace;
}

/* sluice_stream_ends_total. */
static const char *end_reason(const struct sl_call *call, enum sl_call_outcome outcome)
{
    switch (outcome) {
    case SL_OUTCOME_LOST:
        return call->is_slow ? "slow" : "lost";
    case SL_OUTCOME_RESET:
        return "reset";
    case SL_OUTCOME_DEADLINE:
        return "deadline";
    case SL_OUTCOME_DRAIN:
        return "drain";
    case SL_OUTCOME_NONE:
    case SL_OUTCOME_COMPLETED:
        break;
    }
    return "done";
}

static void
count_end(const struct sl_call *call, enum sl_call_outcome outcome, enum sl_status status)
{
    struct sl_rpc_counters *counters = call->conn->counters;
    SL_RPC_COUNT(counters, calls_finished, 1);
    SL_RPC_COUNT(counters, calls_by_status[status], 1);
    sl_call_metrics_end(
        &call->route->metrics, status, sl_conn_now_ns(call->conn) - call->started_ns);
    if (call->route->kind == SL_SERVER_STREAMING || call->route->kind == SL_BIDIRECTIONAL) {
        SL_METRIC_ADD(sluice_stream_ends, 1, end_reason(call, outcome));
    }
}

/* Interceptors see the final status while they may still add trailers. */
static void tell_watches(struct sl_call *call)
{
    for (struct sl_list *node; (node = sl_list_first(&call->watches)) != NULL;) {
        struct sl_call_watch *watch = SL_CONTAINER(node, struct sl_call_watch, node);
        sl_list_remove(node);
        watch->on_over(watch);
    }
}

static void settle(struct sl_call *call, enum sl_call_outcome outcome, enum sl_status status)
{
    const struct sl_server *server = call->conn->server;
    for (size_t i = call->n_intercepted; i > 0; i--) {
        const struct sl_interceptor *interceptor = &server->interceptors[i - 1];
        if (interceptor->on_end != NULL) {
            interceptor->on_end(call, status, interceptor->user_data);
        }
    }
    call->n_intercepted = 0;
    call->outcome = outcome;
    call->is_drain_grace = false;
    count_end(call, outcome, status);
    tell_watches(call);
}

/* The handler learns it once; one that was not started never runs. */
static void tell(struct sl_call *call, enum sl_call_end_kind kind, uint32_t code)
{
    if (call->stage == SL_STAGE_REQUEST) {
        call->stage = SL_STAGE_FINISHED;
    }
    if (call->stage == SL_STAGE_FINISHED || call->is_told) {
        return;
    }
    call->end = (struct sl_call_end){ .kind = kind, .code = code };
    sl_call_raise(call, SL_EVENT_ENDED);
}

/* Adds what is known of a call that ends without its handler (ST-6). */
static void explain(struct sl_call *call, struct sl_call_status *status)
{
    const struct sl_call_callbacks *on = &call->callbacks;
    if (call->n_known_info > 0) {
        status->info = call->known_info;
        status->n_info = call->n_known_info;
    } else if (call->stage == SL_STAGE_RUNNING && !call->is_told && on->end_info != NULL) {
        status->n_info = on->end_info(call, &status->info, call->user_data);
    }
    sl_server_explain(call->conn->server, status);
}

/* For endings that come from here and not from the stream. */
static void end_by_us(
    struct sl_call *call,
    enum sl_call_outcome outcome,
    enum sl_call_end_kind kind,
    const struct sl_call_status *given,
    enum sl_h2_code code)
{
    struct sl_call_status explained = *given;
    const struct sl_call_status *status = &explained;
    explain(call, &explained);
    if (!is_decided(call)) {
        settle(call, outcome, status->code);
        call->events = 0;
        tell(call, kind, 0);
    }
    cut_stream(call, status, code);
    sl_call_release(call);
}

void sl_call_on_closed(struct sl_call *call, enum sl_h2_close how, uint32_t code)
{
    call->stream = NULL;
    sl_timer_stop(&call->deadline);
    sl_list_remove(&call->in_conn);
    sl_list_add_last(&call->conn->unwinding, &call->in_conn);
    sl_call_recv_done(call);
    sl_call_send_drop(call);
    if (!is_decided(call)) {
        const bool is_lost =
            how == SL_H2_CLOSED_LOST || (how == SL_H2_CLOSED_RESET && call->conn->is_reset_loss);
        settle(call, is_lost ? SL_OUTCOME_LOST : SL_OUTCOME_RESET, SL_CANCELLED);
        call->events = 0;
        tell(call, is_lost ? SL_CALL_LOST : SL_CALL_RESET, code);
    }
    sl_call_release(call);
}

void sl_call_deadline_passed(struct sl_call *call)
{
    const struct sl_call_status status = { .code = SL_DEADLINE_EXCEEDED,
                                           .message = "the deadline has passed" };
    end_by_us(call, SL_OUTCOME_DEADLINE, SL_CALL_DEADLINE, &status, SL_H2_CANCEL);
}

void sl_call_stall(struct sl_call *call)
{
    call->is_slow = true;
    const struct sl_call_status status = { .code = SL_RESOURCE_EXHAUSTED,
                                           .message = "the client does not read its stream",
                                           .reason = "STALLED" };
    end_by_us(call, SL_OUTCOME_LOST, SL_CALL_LOST, &status, SL_H2_ENHANCE_YOUR_CALM);
}

void sl_call_stalled(struct sl_call *call)
{
    sl_limit_reached(SL_LIMIT_stall);
    sl_call_stall(call);
}

void sl_call_gap_passed(struct sl_call *call)
{
    sl_limit_reached(SL_LIMIT_message_gap);
    const struct sl_call_status status = { .code = SL_RESOURCE_EXHAUSTED,
                                           .message = "silence inside a request message",
                                           .reason =
                                               sl_server_reason(call->conn->server, "STALLED") };
    end_by_us(call, SL_OUTCOME_LOST, SL_CALL_LOST, &status, SL_H2_ENHANCE_YOUR_CALM);
}

/* ---- Drain ----------------------------------------------------------------------------------- */

static const struct sl_call_status draining = { .code = SL_UNAVAILABLE,
                                                .message = "the server is shutting down",
                                                .reason = "DRAINING" };

void sl_call_drain(struct sl_call *call)
{
    if (call->stage == SL_STAGE_REQUEST) {
        struct sl_call_status refusal = draining; /* nothing has begun: RT-1 */
        refusal.retry_delay_ms = SL_DRAIN_RETRY_MS;
        sl_call_refuse(call, &refusal);
    } else if (call->outcome == SL_OUTCOME_NONE) {
        call->outcome = SL_OUTCOME_DRAIN;
        call->is_drain_grace = true;
        tell(call, SL_CALL_DRAIN, 0);
    }
}

void sl_call_force(struct sl_call *call)
{
    end_by_us(call, SL_OUTCOME_DRAIN, SL_CALL_DRAIN, &draining, SL_H2_CANCEL);
}

/* ---- Copies for later --------------------------------------------------------------------------
 */

/* A copy in the call's arena; NULL stays NULL, and so does what there is no memory for. */
static const char *keep(struct sl_call *call, const char *text)
{
    return text == NULL ? NULL : sl_arena_dup(&call->arena, sl_slice_str(text));
}

static struct sl_slice keep_slice(struct sl_call *call, struct sl_slice bytes)
{
    const char *copy = bytes.size == 0 ? NULL : sl_arena_dup(&call->arena, bytes);
    return sl_slice_of(copy, copy == NULL ? 0 : bytes.size);
}

/* NULL: no memory. */
static struct sl_metadatum *
copy_info(struct sl_call *call, const struct sl_metadatum *from, size_t n_info)
{
    struct sl_metadatum *info = sl_arena_calloc(&call->arena, n_info, sizeof(*info));
    for (size_t i = 0; info != NULL && i < n_info; i++) {
        info[i].key = keep_slice(call, from[i].key);
        info[i].value = keep_slice(call, from[i].value);
    }
    return info;
}

/* ---- By the handler -------------------------------------------------------------------------- */

/* The reply of a unary or client-streaming call, queued; not SL_OK: it cannot be sent. */
static enum sl_status queue_reply(struct sl_call *call, struct sl_call_status *status)
{
    if (!sl_call_has_one_reply(call)) {
        return SL_OK;
    }
    if (!call->is_reply_raw && call->out.reply == NULL) {
        status->message = "the handler gave no reply";
        return call->out.n_sent > 0 ? SL_OK : SL_INTERNAL;
    }
    const size_t size = call->is_reply_raw ? call->out.reply_bytes.size
                                           : sl_codec_proto.encoded_size(call->out.reply);
    if (!sl_call_has_reply_room(call, SL_FRAME_PREFIX_BYTES + size)) {
        status->message = "too many bytes wait for clients that do not read them";
        status->reason = sl_server_reason(call->conn->server, "SERVER_FULL");
        return SL_RESOURCE_EXHAUSTED;
    }
    const enum sl_status queued = call->is_reply_raw
                                      ? sl_call_queue_bytes(call, call->out.reply_bytes)
                                      : sl_call_queue_message(call, call->out.reply, size);
    if (queued != SL_OK) {
        status->message = "the reply cannot be sent";
    }
    return queued;
}

const char *sl_call_fault_reason(const struct sl_call *call, const struct sl_error *err)
{
    const char *reason = err->sys_errno == ENOMEM ? "SERVER_FULL" : "INVALID_REQUEST";
    return sl_server_reason(call->conn->server, reason);
}

/* For a stream that is cut after its handler has finished. */
static void keep_info(struct sl_call *call, const struct sl_call_status *status)
{
    if (call->conn->server->n_error_info > 0 && status->n_info > 0) {
        call->known_info = copy_info(call, status->info, status->n_info);
        call->n_known_info = call->known_info == NULL ? 0 : status->n_info;
    }
}

void sl_call_complete(struct sl_call *call, const struct sl_call_status *given)
{
    struct sl_call_status status = *given;
    status.code = sl_rpc_status_clamp(given->code);
    if (status.code == SL_OK) {
        status.code = queue_reply(call, &status);
    } else if (
        status.message == NULL && call->fault != NULL && call->fault->status == status.code) {
        status.message = call->fault->text; /* what recv or request failed with */
        status.reason = sl_call_fault_reason(call, call->fault);
    }
    keep_info(call, &status);
    sl_server_explain(call->conn->server, &status);
    settle(call, SL_OUTCOME_COMPLETED, status.code);
    const bool is_inside_source = call->is_in_source && !sl_call_at_border(call);
    call->out.source = NULL;
    if (call->is_cut || call->stream == NULL) {
        return;
    }
    sl_call_recv_done(call);
    call->is_closing = true;
    if (is_inside_source || close_stream(call, &status) != SL_OK) {
        reset_stream(call, SL_H2_INTERNAL_ERROR);
    }
}

void sl_call_refuse(struct sl_call *call, const struct sl_call_status *status)
{
    if (call->stage == SL_STAGE_RUNNING) {
        end_by_us(call, SL_OUTCOME_LOST, SL_CALL_LOST, status, SL_H2_INTERNAL_ERROR);
        return;
    }
    call->stage = SL_STAGE_FINISHED;
    sl_call_complete(call, status);
    sl_call_release(call);
}

/* What the caller's header knew of it. */
static struct sl_call_status read_status(const struct sl_call_status *given)
{
    struct sl_call_status status;
    (void)sl_sized_read(&status, sizeof(status), given, given->struct_size, sizeof(*given));
    return status;
}

void sl_call_finish(struct sl_call *call, const struct sl_call_status *given)
{
    if (call->pooled != NULL || call->stage != SL_STAGE_RUNNING) {
        return; /* on the pool, the handler's return is the end */
    }
    call->stage = SL_STAGE_FINISHED;
    if (!is_decided(call)) {
        const struct sl_call_status status = read_status(given);
        sl_call_complete(call, &status);
    }
    sl_call_release(call);
}

void sl_call_finishf(struct sl_call *call, enum sl_status code, const char *fmt, ...)
{
    char text[FORMAT_BYTES];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    sl_call_finish(call, &(struct sl_call_status){ .code = code, .message = text });
}

enum sl_status sl_call_fail(struct sl_call *call, const struct sl_call_status *given)
{
    struct sl_pool_call *pooled = sl_call_hand(call);
    if (pooled != NULL) {
        return sl_pool_call_fail(pooled, given);
    }
    const struct sl_call_status all = read_status(given);
    const struct sl_call_status *status = &all;
    struct sl_call_status *failure = &call->failure;
    *failure = (struct sl_call_status){ .code = status->code,
                                        .message = keep(call, status->message),
                                        .reason = keep(call, status->reason),
                                        .domain = keep(call, status->domain),
                                        .retry_delay_ms = status->retry_delay_ms,
                                        .details = keep_slice(call, status->details) };
    struct sl_metadatum *info =
        status->n_info == 0 ? NULL : copy_info(call, status->info, status->n_info);
    failure->info = info;
    failure->n_info = info == NULL ? 0 : status->n_info;
    call->has_failure = true;
    return status->code;
}

enum sl_status sl_call_reply(struct sl_call *call, void **ret_message)
{
    struct sl_pool_call *pooled = sl_call_hand(call);
    if (pooled != NULL) {
        return sl_pool_call_reply(pooled, ret_message);
    }
    if (call->route->method == NULL) {
        return SL_FAILED_PRECONDITION;
    }
    if (call->out.reply == NULL) {
        call->out.reply = sl_codec_proto.create(call->route->method->response_type, &call->arena);
    }
    if (call->out.reply == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    *ret_message = call->out.reply;
    return SL_OK;
}

enum sl_status sl_call_reply_bytes(struct sl_call *call, struct sl_slice message)
{
    struct sl_pool_call *pooled = sl_call_hand(call);
    if (pooled != NULL) {
        return sl_pool_call_reply_bytes(pooled, message);
    }
    call->out.reply_bytes = keep_slice(call, message);
    if (call->out.reply_bytes.size != message.size) {
        return SL_RESOURCE_EXHAUSTED;
    }
    call->is_reply_raw = true;
    return SL_OK;
}
