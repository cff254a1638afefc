/* One connection of HTTP/1.1: requests one after the other, answers in their order. */
#include <stdio.h>

#include "runtime/base/mem.h"
#include "service/ops/ops_impl.h"

static void feed(struct sl_ops_http *http, struct sl_slice bytes);

/* ---- Answers -----------------------------------------------------------------------------------
 */

static void give_up(struct sl_ops_http *http)
{
    http->is_closing = true;
    sl_net_conn_close(http->net, true);
}

/* A whole answer, and what follows: the next request, or the end. */
static void
answer(struct sl_ops_http *http, const char *status, const char *type, struct sl_slice body)
{
    if (!http->keeps_alive || http->ops->own.is_stopping) {
        http->is_closing = true;
    }
    const bool is_405 = strncmp(status, "405", 3) == 0;
    enum sl_status added = sl_buf_addf(
        &http->out,
        "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n%s%s\r\n",
        status, type, body.size, is_405 ? "Allow: GET, HEAD\r\n" : "",
        http->is_closing ? "Connection: close\r\n" : "");
    if (added == SL_OK && !http->is_head) {
        added = sl_buf_add(&http->out, body);
    }
    if (added != SL_OK) {
        give_up(http);
        return;
    }
    http->is_answering = false;
    sl_timer_start_ms(&http->timer, SL_OPS_IDLE_MS);
    sl_net_conn_want_write(http->net);
}

static void answer_text(struct sl_ops_http *http, const char *status, const char *text)
{
    answer(http, status, "text/plain; charset=utf-8", sl_slice_str(text));
}

static void answer_metrics(struct sl_ops_http *http)
{
    struct sl_buf body;
    sl_buf_init(&body, SL_METRIC_TEXT_BYTES);
    if (sl_ops_collect(http->ops, &body) == SL_OK) {
        answer(http, "200 OK", "text/plain; version=0.0.4; charset=utf-8", sl_buf_slice(&body));
    } else {
        answer_text(http, "503 Service Unavailable", "no memory for the metrics\n");
    }
    sl_buf_done(&body);
}

static void answer_dump(struct sl_ops_http *http)
{
    struct sl_buf body;
    sl_buf_init(&body, SL_OPS_BODY_MAX_BYTES);
    if (sl_ops_dump(http->ops, &body) == SL_OK) {
        answer(http, "200 OK", "application/json", sl_buf_slice(&body));
    } else {
        answer_text(http, "503 Service Unavailable", "the dump is too large\n");
    }
    sl_buf_done(&body);
}

static void answer_ready(struct sl_ops_http *http)
{
    const char *why = atomic_load(&http->ops->why_unready);
    char text[128];
    (void)snprintf(text, sizeof(text), "%s\n", why == NULL ? "ready" : why);
    answer_text(http, why == NULL ? "200 OK" : "503 Service Unavailable", text);
}

static void answer_health(struct sl_ops_http *http, size_t n_missing)
{
    char text[128];
    if (n_missing == 0) {
        answer_text(http, "200 OK", "ok\n");
        return;
    }
    (void)snprintf(
        text, sizeof(text), "%zu of %zu loops did not answer within %d ms\n", n_missing,
        http->ops->n_loops, SL_OPS_ANSWER_MS);
    answer_text(http, "503 Service Unavailable", text);
}

/* Bytes that came behind the request that is answered now. */
static void go_on(struct sl_ops_http *http)
{
    struct sl_buf held = http->waiting;
    sl_buf_init(&http->waiting, SL_OPS_WAITING_BYTES);
    if (!http->is_closing && held.size > 0) {
        feed(http, sl_buf_slice(&held));
    }
    sl_buf_done(&held);
}

void sl_ops_http_answered(struct sl_ops_http *http, size_t n_missing)
{
    sl_list_init(&http->node);
    switch (http->want) {
    case SL_OPS_WANT_HEALTH:
        answer_health(http, n_missing);
        break;
    case SL_OPS_WANT_METRICS:
        answer_metrics(http);
        break;
    case SL_OPS_WANT_DUMP:
        answer_dump(http);
        break;
    }
    go_on(http);
}

/* ---- Requests ----------------------------------------------------------------------------------
 */

/* The target without its query. */
static struct sl_slice path_of(const struct sl_http1_request *request)
{
    size_t n = 0;
    while (n < request->target.size && request->target.data[n] != '?') {
        n++;
    }
    return sl_slice_of(request->target.data, n);
}

static void ask(struct sl_ops_http *http, enum sl_ops_want want)
{
    http->want = want;
    sl_timer_stop(&http->timer);
    sl_ops_ask(http->ops, http);
}

static void serve(struct sl_ops_http *http)
{
    const struct sl_http1_request *request = &http->http1.request;
    const struct sl_slice path = path_of(request);
    http->is_answering = true;
    http->is_head = sl_slice_equals(request->method, "HEAD");
    http->keeps_alive = request->keeps_alive;
    const bool is_dump = http->ops->has_dump && sl_slice_equals(path, "/debug/dump");
    const bool is_known = is_dump || sl_slice_equals(path, "/healthz") ||
                          sl_slice_equals(path, "/readyz") || sl_slice_equals(path, "/metrics");
    if (!is_known) {
        answer_text(
            http, "404 Not Found",
            "there are /healthz, /readyz, /metrics and, on loopback, "
            "/debug/dump\n");
    } else if (!http->is_head && !sl_slice_equals(request->method, "GET")) {
        answer_text(http, "405 Method Not Allowed", "GET or HEAD\n");
    } else if (is_dump) {
        ask(http, SL_OPS_WANT_DUMP);
    } else if (sl_slice_equals(path, "/healthz")) {
        ask(http, SL_OPS_WANT_HEALTH);
    } else if (sl_slice_equals(path, "/readyz")) {
        answer_ready(http);
    } else {
        ask(http, SL_OPS_WANT_METRICS);
    }
}

static void refuse(struct sl_ops_http *http, enum sl_status status, const struct sl_error *err)
{
    char text[sizeof(err->text) + 2];
    (void)snprintf(text, sizeof(text), "%s\n", err->text);
    http->is_head = http->keeps_alive = false;
    answer_text(
        http,
        status == SL_UNIMPLEMENTED                     ? "501 Not Implemented"
        : status != SL_RESOURCE_EXHAUSTED              ? "400 Bad Request"
        : http->http1.head.size >= SL_HTTP1_HEAD_BYTES ? "431 Request Header Fields Too Large"
                                                       : "413 Content Too Large",
        text);
}

/* Who asks on and on, and does not read, gets no further answer made. */
static bool is_full(const struct sl_ops_http *http)
{
    return http->out.size - http->n_sent > SL_OPS_WAITING_BYTES;
}

static void wait_with(struct sl_ops_http *http, struct sl_slice bytes)
{
    if (!http->is_closing && bytes.size > 0 && sl_buf_add(&http->waiting, bytes) != SL_OK) {
        give_up(http);
    }
}

static void feed(struct sl_ops_http *http, struct sl_slice bytes)
{
    while (bytes.size > 0 && !http->is_answering && !http->is_closing && !is_full(http)) {
        size_t taken = 0;
        struct sl_error err = { .status = SL_OK };
        if (!http->is_reading) {
            http->is_reading = true;
            sl_timer_start_ms(&http->timer, SL_OPS_HEAD_MS);
        }
        const enum sl_status status = sl_http1_feed(&http->http1, bytes, &taken, &err);
        bytes = sl_slice_of(bytes.data + taken, bytes.size - taken);
        if (status == SL_AGAIN) {
            return;
        }
        if (status != SL_OK) {
            refuse(http, status, &err);
            return;
        }
        http->is_reading = false;
        serve(http);
        sl_http1_next(&http->http1);
    }
    wait_with(http, bytes);
}

void sl_ops_http_bytes(struct sl_ops_http *http, struct sl_slice bytes)
{
    if (http->is_answering || http->waiting.size > 0) {
        wait_with(http, bytes);
    } else if (!http->is_closing) { /* else: what comes behind the last request */
        feed(http, bytes);
    }
}

static size_t take(struct sl_ops_http *http, uint8_t *room, size_t room_bytes)
{
    const size_t left = http->out.size - http->n_sent;
    const size_t n = left < room_bytes ? left : room_bytes;
    if (n > 0) {
        memcpy(room, http->out.data + http->n_sent, n);
        http->n_sent += n;
    }
    return n;
}

size_t sl_ops_http_pull(struct sl_ops_http *http, uint8_t *room, size_t room_bytes)
{
    size_t n = take(http, room, room_bytes);
    if (n > 0) {
        return n;
    }
    sl_buf_done(&http->out);
    sl_buf_init(&http->out, SL_OPS_BODY_MAX_BYTES + SL_OPS_WAITING_BYTES);
    http->n_sent = 0;
    if (http->waiting.size > 0 && !http->is_answering && !http->is_closing) {
        go_on(http);
        n = take(http, room, room_bytes);
    }
    if (n == 0 && http->is_closing) {
        sl_net_conn_close(http->net, false);
    }
    return n;
}

/* ---- Life --------------------------------------------------------------------------------------
 */

static void on_timer(void *user_data)
{
    struct sl_ops_http *http = user_data;
    http->is_closing = true;
    sl_net_conn_close(http->net, true);
}

void sl_ops_http_init(struct sl_ops_http *http, struct sl_ops *ops, struct sl_net_conn *net)
{
    http->ops = ops;
    http->net = net;
    sl_http1_init(&http->http1, SL_OPS_BODY_BYTES);
    sl_buf_init(&http->out, SL_OPS_BODY_MAX_BYTES + SL_OPS_WAITING_BYTES);
    sl_buf_init(&http->waiting, SL_OPS_WAITING_BYTES);
    sl_list_init(&http->node);
    sl_timer_init(&http->timer, ops->loop, on_timer, http);
    sl_timer_start_ms(&http->timer, SL_OPS_HEAD_MS);
}

void sl_ops_http_done(struct sl_ops_http *http)
{
    sl_timer_stop(&http->timer);
    sl_list_remove(&http->node);
    sl_http1_done(&http->http1);
    sl_buf_done(&http->out);
    sl_buf_done(&http->waiting);
}
