#include "service/ops/ops.h"

#include <stdio.h>

#include "runtime/base/mem.h"
#include "service/ops/ops_impl.h"

/* The start of HTTP/2's preface that no request of HTTP/1.1 has: there is no method PRI. */
#define PREFACE "PRI "

enum protocol { UNKNOWN, HTTP1, HTTP2 };

struct conn {
    struct sl_list node;
    struct sl_ops *ops;
    struct sl_net_conn *net;
    enum protocol protocol;
    uint8_t first[sizeof(PREFACE) - 1]; /* while UNKNOWN */
    size_t n_first;
    struct sl_timer timer; /* while UNKNOWN */
    struct sl_conn *grpc;  /* HTTP2 */
    struct sl_ops_http http;
};

static void check_stopped(struct sl_ops *ops)
{
    if (ops->own.is_stopping && ops->own.n_conns == 0 && ops->own.is_listener_closed) {
        sl_loop_uv_stop(ops->uv);
    }
}

static void on_released(void *user_data)
{
    struct sl_ops *ops = user_data;
    ops->own.n_conns--;
    check_stopped(ops);
}

/* ---- HTTP/2 ------------------------------------------------------------------------------------
 */

static void on_output(void *user_data)
{
    struct conn *conn = user_data;
    sl_net_conn_want_write(conn->net);
}

static void feed_grpc(struct conn *conn, struct sl_slice bytes)
{
    if (sl_conn_feed(conn->grpc, bytes, sl_loop_now_ns(conn->ops->loop), NULL) != SL_OK) {
        sl_net_conn_close(conn->net, false); /* what is left to say is still pulled */
        return;
    }
    sl_net_conn_pause_read(conn->net, sl_conn_is_congested(conn->grpc));
    sl_net_conn_want_write(conn->net);
}

static size_t pull_grpc(struct conn *conn, uint8_t *room, size_t room_bytes)
{
    const uint64_t now_ns = sl_loop_now_ns(conn->ops->loop);
    const size_t n = sl_conn_pull(conn->grpc, room, room_bytes, now_ns);
    sl_net_conn_pause_read(conn->net, sl_conn_is_congested(conn->grpc));
    if (n == 0 && sl_conn_wants_close(conn->grpc)) {
        sl_net_conn_close(conn->net, false);
    }
    return n;
}

static bool start_grpc(struct conn *conn)
{
    const struct sl_conn_options options = { .struct_size = sizeof(options),
                                             .peer = sl_net_conn_peer(conn->net),
                                             .loop = conn->ops->loop,
                                             .on_output = on_output,
                                             .user_data = conn };
    return sl_conn_new(conn->ops->grpc, &options, &conn->grpc) == SL_OK;
}

/* ---- Connections -------------------------------------------------------------------------------
 */

static void begin(struct conn *conn, enum protocol protocol)
{
    sl_timer_stop(&conn->timer);
    conn->protocol = protocol;
    const struct sl_slice first = sl_slice_of(conn->first, conn->n_first);
    if (protocol == HTTP1) {
        sl_ops_http_init(&conn->http, conn->ops, conn->net);
        sl_ops_http_bytes(&conn->http, first);
    } else if (start_grpc(conn)) {
        feed_grpc(conn, first);
    } else {
        conn->protocol = UNKNOWN;
        sl_net_conn_close(conn->net, true);
    }
}

/* Gives how many bytes it took; the protocol is known when there are any left. */
static size_t look_at(struct conn *conn, struct sl_slice bytes)
{
    for (size_t i = 0; i < bytes.size; i++) {
        conn->first[conn->n_first++] = bytes.data[i];
        if (bytes.data[i] != (uint8_t)PREFACE[conn->n_first - 1]) {
            begin(conn, HTTP1);
            return i + 1;
        }
        if (conn->n_first == sizeof(conn->first)) {
            begin(conn, HTTP2);
            return i + 1;
        }
    }
    return bytes.size;
}

static void on_bytes(struct sl_net_conn *net, struct sl_slice bytes, void *user_data)
{
    (void)net;
    struct conn *conn = user_data;
    if (conn->protocol == UNKNOWN) {
        const size_t n = look_at(conn, bytes);
        bytes = sl_slice_of(bytes.data + n, bytes.size - n);
    }
    if (bytes.size == 0) {
        return;
    }
    if (conn->protocol == HTTP1) {
        sl_ops_http_bytes(&conn->http, bytes);
    } else if (conn->protocol == HTTP2) {
        feed_grpc(conn, bytes);
    }
}

static size_t on_pull(struct sl_net_conn *net, uint8_t *room, size_t room_bytes, void *user_data)
{
    (void)net;
    struct conn *conn = user_data;
    switch (conn->protocol) {
    case UNKNOWN:
        break;
    case HTTP1:
        return sl_ops_http_pull(&conn->http, room, room_bytes);
    case HTTP2:
        return pull_grpc(conn, room, room_bytes);
    }
    return 0;
}

static void
on_end(struct sl_net_conn *net, enum sl_net_end how, const struct sl_error *err, void *user_data)
{
    (void)net;
    (void)how;
    (void)err;
    struct conn *conn = user_data;
    struct sl_ops *ops = conn->ops;
    sl_timer_stop(&conn->timer);
    sl_list_remove(&conn->node);
    if (conn->protocol == HTTP1) {
        sl_ops_http_done(&conn->http);
    }
    (void)sl_conn_free(conn->grpc);
    (void)sl_free(conn);
    on_released(ops);
}

static void on_open(struct sl_net_conn *net, void *user_data)
{
    (void)net;
    (void)user_data;
}

static void on_first_timer(void *user_data)
{
    struct conn *conn = user_data;
    sl_net_conn_close(conn->net, true);
}

static bool on_accept(
    struct sl_net_conn *net,
    struct sl_loop *loop,
    void *user_data,
    const struct sl_net_callbacks **ret_callbacks,
    void **ret_conn_user)
{
    static const struct sl_net_callbacks callbacks = {
        .on_open = on_open, .on_bytes = on_bytes, .on_pull = on_pull, .on_end = on_end
    };
    struct sl_ops *ops = user_data;
    struct conn *conn = ops->own.is_stopping ? NULL : sl_calloc(1, sizeof(*conn));
    if (conn == NULL) {
        return false;
    }
    conn->ops = ops;
    conn->net = net;
    sl_timer_init(&conn->timer, loop, on_first_timer, conn);
    sl_timer_start_ms(&conn->timer, SL_OPS_HEAD_MS);
    sl_list_add_last(&ops->own.conns, &conn->node);
    ops->own.n_conns++;
    *ret_callbacks = &callbacks;
    *ret_conn_user = conn;
    return true;
}

/* ---- The end -----------------------------------------------------------------------------------
 */

static void on_listener_closed(void *user_data)
{
    struct sl_ops *ops = user_data;
    ops->own.is_listener_closed = true;
    check_stopped(ops);
}

static void run_stop(struct sl_task *task)
{
    struct sl_ops *ops = SL_CONTAINER(task, struct sl_ops, stop);
    ops->own.is_stopping = true;
    sl_timer_stop(&ops->own.timer);
    sl_net_listener_close(ops->listener, on_listener_closed, ops);
    SL_LIST_EACH(node, &ops->own.conns) {
        sl_net_conn_close(SL_CONTAINER(node, struct conn, node)->net, true);
    }
}

static void *run_thread(void *user_data)
{
    struct sl_ops *ops = user_data;
    sl_loop_uv_run(ops->uv);
    return NULL;
}

void sl_ops_close(struct sl_ops *ops)
{
    if (ops == NULL) {
        return;
    }
    sl_loop_post(ops->loop, &ops->stop);
    if (ops->has_thread) {
        (void)pthread_join(ops->thread, NULL);
    } else {
        sl_loop_uv_run(ops->uv);
    }
    for (size_t i = 0; i < ops->n_loops; i++) {
        ops->loops[i].want = SL_OPS_WANT_HEALTH; /* a question that a stopped loop never saw */
    }
    ops->grpc = sl_server_free(ops->grpc);
}

struct sl_ops *sl_ops_free(struct sl_ops *ops)
{
    if (ops == NULL) {
        return NULL;
    }
    (void)sl_server_free(ops->grpc);
    (void)sl_loop_uv_free(ops->uv);
    if (ops->loops != NULL) {
        sl_ops_round_done(ops);
    }
    (void)sl_free(ops->loops);
    return sl_free(ops);
}

/* ---- The start ---------------------------------------------------------------------------------
 */

static enum sl_status make_loops(struct sl_ops *ops, const struct sl_ops_options *options)
{
    SL_TRY(sl_loop_uv_new((uint32_t)options->n_loops, &ops->uv));
    ops->loop = sl_loop_uv_base(ops->uv);
    ops->loops = sl_calloc(options->n_loops, sizeof(*ops->loops));
    if (ops->loops == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    ops->n_loops = options->n_loops;
    for (size_t i = 0; i < ops->n_loops; i++) {
        ops->loops[i].loop = options->loops[i];
    }
    sl_ops_round_init(ops);
    const struct sl_server_options grpc = { .struct_size = sizeof(grpc),
                                            .limits = &ops->own_limits,
                                            .loops = &ops->loop,
                                            .n_loops = 1,
                                            .allow_pings_without_calls = true };
    return sl_server_new(&grpc, &ops->grpc);
}

static enum sl_status
fill(struct sl_ops *ops, const struct sl_ops_options *options, struct sl_error *err)
{
    if (make_loops(ops, options) != SL_OK) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for the operations port");
    }
    const struct sl_net_listen_options listen = { .address = options->address,
                                                  .limits = &ops->own_limits,
                                                  .loops = &ops->loop,
                                                  .n_loops = 1,
                                                  .on_accept = on_accept,
                                                  .user_data = ops };
    SL_TRY(sl_net_listen(&listen, &ops->listener, err));
    (void)snprintf(
        ops->address, sizeof(ops->address), "%s", sl_net_listener_address(ops->listener));
    return SL_OK;
}

enum sl_status
sl_ops_new(const struct sl_ops_options *options, struct sl_ops **ret_ops, struct sl_error *err)
{
    struct sl_ops *ops = sl_calloc(1, sizeof(*ops));
    if (ops == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for the operations port");
    }
    ops->own_limits = *options->limits;
    ops->own_limits.connections = SL_OPS_CONNECTIONS;
    ops->own_limits.connections_per_address = SL_OPS_CONNECTIONS;
    ops->server = options->server;
    ops->runtime = options->runtime;
    ops->has_dump = options->has_dump;
    atomic_init(&ops->why_unready, "starting");
    ops->stop.run = run_stop;
    sl_list_init(&ops->own.conns);
    const enum sl_status status = fill(ops, options, err);
    if (status != SL_OK) {
        (void)sl_ops_free(ops);
        return status;
    }
    *ret_ops = ops;
    return SL_OK;
}

struct sl_server *sl_ops_server(struct sl_ops *ops)
{
    return ops->grpc;
}

const char *sl_ops_address(const struct sl_ops *ops)
{
    return ops->address;
}

enum sl_status sl_ops_start(struct sl_ops *ops, struct sl_error *err)
{
    const int failed = pthread_create(&ops->thread, NULL, run_thread, ops);
    if (failed != 0) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "cannot start a thread: errno %d", failed);
    }
    ops->has_thread = true;
    (void)pthread_setname_np(ops->thread, "ops");
    sl_ops_watch(ops);
    return SL_OK;
}

void sl_ops_set_unready(struct sl_ops *ops, const char *why)
{
    if (ops != NULL) {
        atomic_store(&ops->why_unready, why);
    }
}
