/* ADM-1 to ADM-16: what a request's headers must be, in this order. Nothing is allocated for a
 * request before all of it has passed; refusals are made on the stack. (ADM-2 and ADM-8 are the
 * session's.) */
#include <stdio.h>

#include "runtime/base/metrics.h"
#include "runtime/base/parse.h"
#include "service/rpc/call_impl.h"
#include "service/rpc/deadline.h"

enum { TEXT_BYTES = 320, SHOWN_BYTES = 100, PREVIOUS_MAX = 1000000, FULL_RETRY_MS = 1000 };

/* What is known of a request while it is judged. */
struct request {
    struct sl_conn *conn;
    struct sl_h2_stream *stream;
    const struct sl_h2_headers *headers;
    struct sl_headers parsed;
    const struct sl_route *route; /* by its exact path; NULL: none */
    uint64_t timeout_ns;
    char text[TEXT_BYTES];
    struct sl_refusal refusal;
};

/* ---- Answers; each gives false, so that a check can return it -------------------------------- */

static void count(const char *why)
{
    SL_METRIC_ADD(sluice_refusals, 1, "request", why);
}

/* `why` is for the counter. */
static bool refuse(struct request *request, const char *why, enum sl_status code, const char *text)
{
    count(why);
    struct sl_call_status *status = &request->refusal.status;
    status->code = code;
    status->message = text;
    if (status->reason == NULL && code != SL_DEADLINE_EXCEEDED) {
        status->reason = sl_server_reason(request->conn->server, "INVALID_REQUEST");
    }
    if (request->refusal.http_status == NULL) {
        request->refusal.http_status = "200";
    }
    sl_refusal_send(request->conn, request->stream, &request->refusal);
    return false;
}

static bool
refuse_http(struct request *request, const char *why, const char *http_status, const char *text)
{
    request->refusal.http_status = http_status;
    return refuse(request, why, SL_INTERNAL, text);
}

static int shown(struct sl_slice text)
{
    return text.size < SHOWN_BYTES ? (int)text.size : SHOWN_BYTES;
}

/* `fmt` has one %.*s; the text comes from the peer, and is cut. Control characters are escaped when
 * it is sent (RS-6). */
#define SHOW(request, fmt, slice)                                                                  \
    ((void)snprintf((request)->text, TEXT_BYTES, fmt, shown(slice), (const char *)(slice).data),   \
     (request)->text)

/* ---- Checks, in the order of the table --------------------------------------------------------
 */

/* ADM-1, ADM-3 to ADM-6. */
static bool check_form(struct request *request)
{
    const struct sl_headers *parsed = &request->parsed;
    if (request->headers->is_over_soft) {
        sl_limit_reached(SL_LIMIT_header_list_soft);
        return refuse(
            request, "header_list", SL_RESOURCE_EXHAUSTED, "the request headers are too large");
    }
    if (parsed->n_authorities > 1 || parsed->n_hosts > 1) {
        return refuse_http(request, "authority", "400", "more than one :authority or host");
    }
    struct sl_slice subtype;
    const enum sl_content_type type = sl_headers_content_type(parsed->content_type, &subtype);
    if (type == SL_CONTENT_NOT_GRPC) {
        if (sl_plain_admit(request->conn, request->stream, parsed)) {
            return false; /* another protocol's, which somebody answers */
        }
        request->refusal.is_http_only = true;
        return refuse_http(request, "content_type", "415", NULL);
    }
    request->refusal.content_type = sl_headers_sendable(parsed->content_type);
    if (type == SL_CONTENT_GRPC_OTHER) {
        return refuse(
            request, "message_format", SL_UNIMPLEMENTED,
            SHOW(request, "unknown message format \"%.*s\"", subtype));
    }
    if (parsed->timeout.data != NULL &&
        sl_timeout_parse(parsed->timeout, &request->timeout_ns) != SL_OK) {
        return refuse_http(request, "timeout", "400", "malformed grpc-timeout");
    }
    if (parsed->is_bad_base64) {
        return refuse_http(request, "base64", "400", "malformed base64 in a -bin header");
    }
    return true;
}

static uint64_t quota_of(const struct sl_limits *limits, enum sl_call_class call_class)
{
    switch (call_class) {
    case SL_CLASS_OBSERVER:
        return limits->observers_per_connection;
    case SL_CLASS_CONTROL:
        return limits->control_calls_per_connection;
    case SL_CLASS_TASK:
    case SL_CLASS_COUNT:
        break;
    }
    return limits->runs_per_connection;
}

bool sl_conn_is_full(const struct sl_conn *conn, enum sl_call_class call_class)
{
    return conn->n_running[call_class] >= quota_of(conn->limits, call_class);
}

static void count_full(enum sl_call_class call_class)
{
    switch (call_class) {
    case SL_CLASS_OBSERVER:
        sl_limit_reached(SL_LIMIT_observers_per_connection);
        break;
    case SL_CLASS_CONTROL:
        sl_limit_reached(SL_LIMIT_control_calls_per_connection);
        break;
    case SL_CLASS_TASK:
    case SL_CLASS_COUNT:
        sl_limit_reached(SL_LIMIT_runs_per_connection);
        break;
    }
    count("quota");
}

/* ADM-9: a refused stream was never processed, so clients retry it without asking (RT-4). A place
 * is free when its task has returned (NG-2); one whose stream was reset earlier in the same read
 * gets the chance to return first, or a client that replaces its calls would be refused. */
static bool check_quota(struct request *request)
{
    struct sl_conn *conn = request->conn;
    request->route = sl_routes_get(&conn->server->routes, request->parsed.path);
    const enum sl_call_class call_class =
        request->route == NULL ? SL_CLASS_TASK : request->route->call_class;
    if (sl_conn_is_full(conn, call_class)) {
        sl_conn_dispatch_ended(conn);
    }
    if (sl_conn_is_full(conn, call_class)) {
        count_full(call_class);
        sl_h2_stream_reset(request->stream, SL_H2_REFUSED_STREAM);
        return false;
    }
    return true;
}

/* ADM-11, ADM-13. */
static bool check_route(struct request *request)
{
    const struct sl_slice path = request->parsed.path;
    struct sl_slice service = { 0 };
    struct sl_slice method = { 0 };
    (void)sl_routes_split(path, &service, &method);
    switch (sl_routes_find(&request->conn->server->routes, path, &request->route)) {
    case SL_ROUTE_FOUND:
        return true;
    case SL_ROUTE_BAD_PATH:
        return refuse(
            request, "path", SL_UNIMPLEMENTED,
            SHOW(request, "malformed method name \"%.*s\"", path));
    case SL_ROUTE_NO_SERVICE:
        return refuse(
            request, "service", SL_UNIMPLEMENTED, SHOW(request, "unknown service %.*s", service));
    case SL_ROUTE_NO_METHOD:
        break;
    }
    (void)snprintf(
        request->text, TEXT_BYTES, "unknown method %.*s for service %.*s", shown(method),
        (const char *)method.data, shown(service), (const char *)service.data);
    return refuse(request, "method", SL_UNIMPLEMENTED, request->text);
}

/* ADM-15. Before a message, so that what a stream's handler has done by then need not be undone. */
static bool check_encoding(struct request *request)
{
    const struct sl_slice name = request->parsed.encoding;
    if (sl_encoding_parse(name) != SL_ENCODING_UNKNOWN) {
        return true;
    }
    request->refusal.lists_encodings = true;
    return refuse(
        request, "encoding", SL_UNIMPLEMENTED,
        SHOW(
            request,
            "message encoding \"%.*s\" is not supported; supported are " SL_ENCODINGS_ACCEPTED,
            name));
}

/* ADM-10 to ADM-13, ADM-15, and what a server that drains says. */
static bool check_call(struct request *request)
{
    const struct sl_headers *parsed = &request->parsed;
    if (!sl_slice_equals(parsed->method, "POST")) {
        return refuse_http(request, "http_method", "405", "the HTTP method must be POST");
    }
    struct sl_slice service;
    struct sl_slice method;
    const bool is_canonical = sl_routes_split(parsed->path, &service, &method);
    if (is_canonical && parsed->timeout.data != NULL && request->timeout_ns == 0) {
        return refuse(request, "deadline", SL_DEADLINE_EXCEEDED, "the deadline has passed already");
    }
    if (!check_route(request) || !check_encoding(request)) {
        return false;
    }
    const struct sl_route *route = request->route;
    if (!atomic_load_explicit(&request->conn->server->is_refusing, memory_order_relaxed) ||
        route->call_class == SL_CLASS_CONTROL || route->is_exempt) {
        return true;
    }
    request->refusal.status.reason = "DRAINING";
    request->refusal.status.retry_delay_ms = SL_DRAIN_RETRY_MS;
    return refuse(request, "draining", SL_UNAVAILABLE, "the server is shutting down");
}

static bool take_place(const struct request *request)
{
    const struct sl_conn *conn = request->conn;
    return sl_server_take_place(conn->server, request->route, conn->limits->running_calls);
}

/* The same for all connections. Here a refused stream would be repeated at once, and again be in
 * the way of others: the client hears how long it should wait (RT-1). */
static bool check_places(struct request *request)
{
    if (take_place(request)) {
        return true;
    }
    sl_conn_dispatch_ended(request->conn);
    if (take_place(request)) {
        return true;
    }
    sl_limit_reached(SL_LIMIT_running_calls);
    request->refusal.status.reason = sl_server_reason(request->conn->server, "SERVER_FULL");
    request->refusal.status.retry_delay_ms = FULL_RETRY_MS;
    return refuse(
        request, "server_full", SL_RESOURCE_EXHAUSTED, "too many calls run on this server");
}

/* ---- The call -------------------------------------------------------------------------------- */

/* Constants for the usual content types, so that nothing is copied. */
static enum sl_status set_content_type(struct sl_call *call, struct sl_slice value)
{
    static const char *const usual[] = { "application/grpc", "application/grpc+proto" };
    if (value.size == 0) {
        value = sl_slice_str(usual[0]); /* it may not be repeated */
    }
    for (size_t i = 0; i < SL_COUNT(usual); i++) {
        if (sl_slice_equals(value, usual[i])) {
            call->content_type = sl_slice_str(usual[i]);
            return SL_OK;
        }
    }
    const char *copy = sl_arena_dup(&call->arena, value);
    call->content_type = sl_slice_of(copy, value.size);
    return copy == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
}

static enum sl_status fill(struct sl_call *call, const struct request *request)
{
    const struct sl_headers *parsed = &request->parsed;
    call->accepted = parsed->accepted;
    uint64_t attempts = 0;
    if (sl_parse_u64(parsed->previous_attempts, 0, PREVIOUS_MAX, &attempts) == SL_OK) {
        call->previous_attempts = (uint32_t)attempts;
    }
    SL_TRY(set_content_type(call, sl_headers_sendable(parsed->content_type)));
    if (parsed->encoding.data != NULL) {
        const enum sl_encoding encoding = sl_encoding_parse(parsed->encoding);
        call->in.encoding = sl_slice_str(sl_encoding_name(encoding));
    }
    if (call->route == &call->conn->server->routes.fallback) {
        call->path = sl_arena_dup(&call->arena, parsed->path);
        if (call->path == NULL) {
            return SL_RESOURCE_EXHAUSTED;
        }
    }
    return sl_headers_decode_metadata(
        request->headers->fields, request->headers->n_fields, &call->arena, &call->metadata);
}

static void start_deadline(struct sl_call *call, const struct request *request)
{
    if (request->parsed.timeout.data == NULL) {
        return;
    }
    call->has_timeout = true;
    call->timeout_ns = request->timeout_ns;
    call->deadline_ns = sl_deadline_after(sl_conn_now_ns(call->conn), request->timeout_ns);
    sl_timer_start(&call->deadline, call->deadline_ns);
}

/* OP-1; false: one of them ended the call. */
static bool run_interceptors(struct sl_call *call)
{
    const struct sl_server *server = call->conn->server;
    for (size_t i = 0; i < server->n_interceptors; i++) {
        const struct sl_interceptor *interceptor = &server->interceptors[i];
        call->n_intercepted = (uint32_t)i + 1;
        if (interceptor->on_start == NULL) {
            continue;
        }
        const enum sl_status status = interceptor->on_start(call, interceptor->user_data);
        if (status != SL_OK) {
            struct sl_call_status refusal = { .code = status };
            if (call->has_failure && call->failure.code == status) {
                refusal = call->failure;
            }
            sl_call_refuse(call, &refusal);
            return false;
        }
    }
    return true;
}

/* The call has its place. */
static void admit(const struct request *request)
{
    struct sl_call *call = sl_call_new(request->conn, request->stream, request->route);
    if (call == NULL) {
        sl_server_give_place(request->conn->server, request->route);
        count("memory");
        sl_h2_stream_reset(request->stream, SL_H2_REFUSED_STREAM);
        return;
    }
    if (fill(call, request) != SL_OK) {
        call->content_type = sl_slice_str("application/grpc");
        sl_call_refuse(
            call,
            &(struct sl_call_status){ .code = SL_RESOURCE_EXHAUSTED, .message = "out of memory" });
        return;
    }
    start_deadline(call, request);
    if (!run_interceptors(call)) {
        return;
    }
    if (sl_call_is_streaming_in(call)) {
        sl_call_raise(call, SL_EVENT_START);
    } else {
        sl_call_watch_gap(call); /* END_STREAM of the headers comes next */
    }
}

void sl_conn_admit(
    struct sl_conn *conn, struct sl_h2_stream *stream, const struct sl_h2_headers *headers)
{
    struct request request = { .conn = conn, .stream = stream, .headers = headers };
    sl_headers_scan(headers->fields, headers->n_fields, &request.parsed);
    if (check_form(&request) && check_quota(&request) && check_call(&request) &&
        check_places(&request)) {
        admit(&request);
    }
}
