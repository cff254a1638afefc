/* The server's sockets: listeners, connections on several loops, and the drain that ends them.
 *
 *   sl_net ─▶ accept (loop with the fewest) ─▶ sl_conn ─▶ calls
 *   stop ─post─▶ each loop: drain its connections ─post─▶ loops[0]: all gone ─▶ on_drained
 *
 * What is registered lives in server_core.c. */
#include "service/rpc/server.h"

#include "runtime/base/list.h"
#include "runtime/base/log.h"
#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "service/net/census.h"
#include "service/net/net.h"
#include "service/rpc/conn_impl.h"
#include "service/rpc/pool.h"
#include "service/rpc/server_core.h"

/* What is left of a server that is freed gets this long: the two seconds that a drain without time
 * gives to handlers and to their last words, and one to linger. */
#define FREE_NS UINT64_C(3000000000)

enum { FREE_STEP_MS = 100 };

/* One loop's connections. */
struct runner_loop {
    struct sl_runner *runner;
    struct sl_loop *loop;
    struct sl_task drain_task;  /* shared.is_posted guards it */
    struct sl_task report_task; /* posted to loops[0] once */
    struct {
        struct sl_list conns;
        struct sl_list unwinding; /* sockets that are closed, whose calls are still there */
        size_t n_conns;           /* whose memory, or whose calls, are still there */
        bool is_draining;
        bool has_reported;
    } own; /* this loop only */
};

struct listener {
    struct sl_net_listener *net;
    struct sl_runner *runner;
    size_t index; /* in the order of sl_server_listen() */
    bool is_reset_loss;
    struct listener *next;
};

/* New settings on their way to the listeners. */
struct reload {
    struct sl_task task;
    struct sl_runner *runner;
    struct sl_limits limits;
    size_t n_tls;
    struct sl_net_tls *tls[];
};

struct sl_runner {
    struct sl_server *server;
    struct sl_loop_uv *own_loop; /* NULL: foreign loops */
    struct sl_loop **loops;
    struct runner_loop *of_loop;
    size_t n_loops;
    size_t n_listens; /* that were asked for; before the loops run */
    struct sl_net_census *census;
    atomic_bool is_stopping;
    struct {
        struct listener *listeners;
        size_t n_listeners; /* that are not closed */
        size_t n_drained;
        bool is_drained;
    } first; /* loops[0] only */
    struct {
        pthread_mutex_t lock;
        uint64_t timeout_ms;
        bool *is_posted; /* per loop: its drain_task */
        void (*on_drained)(void *user_data);
        void *user_data;
    } shared;
};

/* A connection with its socket. */
struct socket {
    struct sl_list node;
    struct runner_loop *home;
    struct sl_net_conn *net;
    struct sl_conn *conn; /* NULL: the TLS handshake goes on */
    bool is_reset_loss;
    bool is_http1; /* in place of the preface came a request of HTTP/1.x, not answered yet */
};

/* ---- The end --------------------------------------------------------------------------------- */

static void check_all_drained(struct sl_runner *runner)
{
    if (runner->first.is_drained || runner->first.n_drained < runner->n_loops ||
        runner->first.n_listeners > 0) {
        return;
    }
    runner->first.is_drained = true;
    (void)pthread_mutex_lock(&runner->shared.lock);
    void (*on_drained)(void *user_data) = runner->shared.on_drained;
    void *user_data = runner->shared.user_data;
    (void)pthread_mutex_unlock(&runner->shared.lock);
    if (runner->own_loop != NULL) {
        sl_loop_uv_stop(runner->own_loop);
    }
    if (on_drained != NULL) {
        on_drained(user_data);
    }
}

static void run_report(struct sl_task *task)
{
    struct runner_loop *home = SL_CONTAINER(task, struct runner_loop, report_task);
    home->runner->first.n_drained++;
    check_all_drained(home->runner);
}

static void check_drained(struct runner_loop *home)
{
    if (home->own.is_draining && home->own.n_conns == 0 && !home->own.has_reported) {
        home->own.has_reported = true;
        sl_loop_post(home->runner->loops[0], &home->report_task);
    }
}

/* The connection and all its calls are gone. */
static void on_released(void *user_data)
{
    struct socket *socket = user_data;
    struct runner_loop *home = socket->home;
    sl_list_remove(&socket->node);
    (void)sl_free(socket);
    home->own.n_conns--;
    check_drained(home);
}

static void on_listener_closed(void *user_data)
{
    struct listener *listener = user_data;
    struct sl_runner *runner = listener->runner;
    (void)sl_free(listener);
    runner->first.n_listeners--;
    check_all_drained(runner);
}

static void close_listeners(struct sl_runner *runner)
{
    while (runner->first.listeners != NULL) {
        struct listener *listener = runner->first.listeners;
        runner->first.listeners = listener->next;
        sl_net_listener_close(listener->net, on_listener_closed, listener);
    }
}

static void drain_socket(struct socket *socket, uint64_t timeout_ms)
{
    if (socket->conn == NULL) {
        sl_net_conn_close(socket->net, true);
    } else {
        sl_conn_drain(socket->conn, timeout_ms);
    }
}

static void run_drain(struct sl_task *task)
{
    struct runner_loop *home = SL_CONTAINER(task, struct runner_loop, drain_task);
    struct sl_runner *runner = home->runner;
    (void)pthread_mutex_lock(&runner->shared.lock);
    runner->shared.is_posted[home - runner->of_loop] = false;
    const uint64_t timeout_ms = runner->shared.timeout_ms;
    (void)pthread_mutex_unlock(&runner->shared.lock);
    home->own.is_draining = true;
    SL_LIST_EACH(node, &home->own.conns) {
        drain_socket(SL_CONTAINER(node, struct socket, node), timeout_ms);
    }
    if (home == runner->of_loop) {
        close_listeners(runner);
    }
    check_drained(home);
}

/* ---- Connections ----------------------------------------------------------------------------- */

static void on_output(void *user_data)
{
    struct socket *socket = user_data;
    sl_net_conn_want_write(socket->net);
}

static void on_open(struct sl_net_conn *net, void *user_data)
{
    struct socket *socket = user_data;
    struct runner_loop *home = socket->home;
    struct sl_conn_options options = { .struct_size = sizeof(options),
                                       .peer = sl_net_conn_peer(net),
                                       .loop = home->loop,
                                       .on_output = on_output,
                                       .user_data = socket };
    const struct sl_slice cert = sl_net_conn_peer_cert(net);
    char *names = NULL;
    enum sl_status status = cert.size == 0 ? SL_OK : sl_net_cert_names(cert, &names);
    if (status == SL_OK) {
        options.peer_names = names;
        status = sl_conn_new(home->runner->server, &options, &socket->conn);
    }
    (void)sl_free(names);
    if (status != SL_OK) {
        sl_net_conn_close(net, true);
        return;
    }
    sl_conn_set_released(socket->conn, on_released, socket);
    socket->conn->is_reset_loss = socket->is_reset_loss;
    /* Our SETTINGS wait for the client's preface: whoever speaks HTTP/1.1 gets its answer clean. */
}

/* True when the first line ends as a request line of HTTP/1.x does. To anything else that is no
 * preface, words of HTTP/1.1 would be broken frames (RFC 9113, 3.4). */
static bool is_http1_request(struct sl_slice bytes)
{
    static const char *const versions[] = { " HTTP/1.1", " HTTP/1.0" };
    const uint8_t *end = bytes.size == 0 ? NULL : memchr(bytes.data, '\n', bytes.size);
    size_t n = end == NULL ? 0 : (size_t)(end - bytes.data);
    n -= n > 0 && bytes.data[n - 1] == '\r' ? 1 : 0;
    for (size_t i = 0; i < SL_COUNT(versions); i++) {
        const size_t size = strlen(versions[i]);
        if (n > size && memcmp(bytes.data + n - size, versions[i], size) == 0) {
            return true;
        }
    }
    return false;
}

static void on_bytes(struct sl_net_conn *net, struct sl_slice bytes, void *user_data)
{
    struct socket *socket = user_data;
    if (socket->conn == NULL) {
        return;
    }
    const uint64_t now_ns = sl_loop_now_ns(socket->home->loop);
    if (sl_conn_feed(socket->conn, bytes, now_ns, NULL) != SL_OK) {
        const char *fault = sl_conn_fault(socket->conn);
        socket->is_http1 =
            fault != NULL && strcmp(fault, "bad_preface") == 0 && is_http1_request(bytes);
        sl_net_conn_close(net, false); /* what is left to say is still pulled */
        return;
    }
    sl_net_conn_pause_read(net, sl_conn_is_congested(socket->conn));
    sl_net_conn_want_write(net);
}

/* CM-10. */
static size_t answer_http1(struct socket *socket, uint8_t *room)
{
    static const char text[] = "HTTP/1.1 400 Bad Request\r\n"
                               "Content-Type: text/plain\r\n"
                               "Content-Length: 33\r\n"
                               "Connection: close\r\n\r\n"
                               "This port speaks gRPC on HTTP/2.\n";
    if (!socket->is_http1) {
        return 0;
    }
    socket->is_http1 = false;
    memcpy(room, text, sizeof(text) - 1);
    return sizeof(text) - 1;
}

static size_t on_pull(struct sl_net_conn *net, uint8_t *room, size_t room_bytes, void *user_data)
{
    struct socket *socket = user_data;
    if (socket->conn == NULL) {
        return 0;
    }
    size_t n = sl_conn_pull(socket->conn, room, room_bytes, sl_loop_now_ns(socket->home->loop));
    sl_net_conn_pause_read(net, sl_conn_is_congested(socket->conn));
    if (n == 0) {
        n = answer_http1(socket, room);
    }
    if (n == 0 && sl_conn_wants_close(socket->conn)) {
        sl_net_conn_close(net, false);
    }
    return n;
}

static void
on_end(struct sl_net_conn *net, enum sl_net_end how, const struct sl_error *err, void *user_data)
{
    (void)net;
    (void)how;
    (void)err;
    struct socket *socket = user_data;
    socket->net = NULL;
    sl_list_remove(&socket->node);
    sl_list_add_last(&socket->home->own.unwinding, &socket->node);
    if (socket->conn != NULL) {
        (void)sl_conn_free(socket->conn); /* on_released comes with its last call */
    } else {
        on_released(socket);
    }
}

static struct runner_loop *home_of(struct sl_runner *runner, const struct sl_loop *loop)
{
    for (size_t i = 0; i < runner->n_loops; i++) {
        if (runner->loops[i] == loop) {
            return &runner->of_loop[i];
        }
    }
    return NULL;
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
    const struct listener *listener = user_data;
    struct sl_runner *runner = listener->runner;
    struct runner_loop *home = home_of(runner, loop);
    struct socket *socket = NULL;
    if (home != NULL && !home->own.is_draining && !atomic_load(&runner->is_stopping)) {
        socket = sl_calloc(1, sizeof(*socket));
    }
    if (socket == NULL) {
        return false;
    }
    socket->home = home;
    socket->net = net;
    socket->is_reset_loss = listener->is_reset_loss;
    sl_list_add_last(&home->own.conns, &socket->node);
    home->own.n_conns++;
    *ret_callbacks = &callbacks;
    *ret_conn_user = socket;
    return true;
}

static void look(const struct socket *socket, struct sl_conn_view *view)
{
    const struct sl_conn *conn = socket->conn;
    *view = (struct sl_conn_view){ .peer = sl_net_conn_peer(socket->net),
                                   .is_tls = sl_net_conn_is_tls(socket->net) };
    if (conn != NULL) {
        view->n_streams = conn->h2 == NULL ? 0 : sl_h2_session_n_streams(conn->h2);
        for (size_t i = 0; i < SL_CLASS_COUNT; i++) {
            view->n_running += conn->n_running[i];
        }
        view->age_ms = (sl_loop_now_ns(socket->home->loop) - conn->created_ns) / SL_NS_PER_MS;
        view->queued_bytes = conn->queued_bytes;
        view->memory_bytes = sl_conn_memory_bytes(conn);
    }
}

void sl_server_each_conn(
    const struct sl_server *server,
    const struct sl_loop *loop,
    void (*visit)(const struct sl_conn_view *conn, void *user_data),
    void *user_data)
{
    SL_ON_LOOP(loop);
    struct runner_loop *home = server->runner == NULL ? NULL : home_of(server->runner, loop);
    if (home == NULL) {
        return;
    }
    SL_LIST_EACH(node, &home->own.conns) {
        struct sl_conn_view view;
        look(SL_CONTAINER(node, struct socket, node), &view);
        visit(&view, user_data);
    }
}

/* ---- The runner ------------------------------------------------------------------------------ */

static void release_runner(struct sl_runner *runner)
{
    runner->server->pool = sl_pool_free(runner->server->pool);
    (void)sl_loop_uv_free(runner->own_loop);
    (void)sl_net_census_unref(runner->census);
    (void)pthread_mutex_destroy(&runner->shared.lock);
    (void)sl_free(runner->shared.is_posted);
    (void)sl_free(runner->of_loop);
    (void)sl_free(runner->loops);
    (void)sl_free(runner);
}

/* Clients that do not go and handlers that do not finish have had their time. */
static void give_up_rest(struct runner_loop *home)
{
    size_t n_handlers = 0;
    SL_LIST_EACH(node, &home->own.conns) {
        sl_net_conn_close(SL_CONTAINER(node, struct socket, node)->net, true);
    }
    (void)sl_loop_drain(home->loop);
    SL_LIST_EACH(node, &home->own.unwinding) {
        n_handlers += sl_conn_give_up_handlers(SL_CONTAINER(node, struct socket, node)->conn);
    }
    if (n_handlers > 0) {
        sl_log(
            SL_WARN, SL_LOG_RPC, "msg=\"handlers did not finish, their calls are freed\" n=%zu",
            n_handlers);
    }
}

/* With its own loop nobody else can end what is left: so it happens here, in bounded time. */
static void free_runner(struct sl_runner *runner)
{
    if (runner->own_loop != NULL && !runner->first.is_drained) {
        struct runner_loop *home = &runner->of_loop[0];
        sl_server_stop(runner->server, 0, NULL, NULL);
        sl_loop_uv_step(runner->own_loop, 0);
        const uint64_t until_ns = sl_loop_now_ns(home->loop) + FREE_NS;
        while (!runner->first.is_drained && sl_loop_now_ns(home->loop) < until_ns) {
            sl_loop_uv_step(runner->own_loop, FREE_STEP_MS);
        }
    }
    /* Handlers on the pool use what is freed next, so this ends when the last of them returns. */
    while (runner->own_loop != NULL && runner->server->pool != NULL &&
           sl_pool_is_busy(runner->server->pool)) {
        sl_loop_uv_step(runner->own_loop, FREE_STEP_MS);
    }
    /* Nobody may use a call from here on: this is the last step before the memory goes. */
    if (runner->own_loop != NULL) {
        sl_loop_uv_step(runner->own_loop, 0); /* what the last of them has left */
        give_up_rest(&runner->of_loop[0]);
    }
    release_runner(runner);
}

static enum sl_status set_loops(struct sl_runner *runner, const struct sl_server *server)
{
    runner->census = sl_net_census_new();
    if (runner->census == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    if (server->n_loops == 0) {
        SL_TRY(sl_loop_uv_new(0, &runner->own_loop));
    }
    const size_t n_loops = server->n_loops == 0 ? 1 : server->n_loops;
    runner->loops = sl_calloc(n_loops, sizeof(struct sl_loop *));
    runner->of_loop = sl_calloc(n_loops, sizeof(*runner->of_loop));
    runner->shared.is_posted = sl_calloc(n_loops, sizeof(bool));
    if (runner->loops == NULL || runner->of_loop == NULL || runner->shared.is_posted == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    runner->n_loops = n_loops;
    for (size_t i = 0; i < n_loops; i++) {
        struct runner_loop *home = &runner->of_loop[i];
        home->runner = runner;
        home->loop = server->n_loops == 0 ? sl_loop_uv_base(runner->own_loop) : server->loops[i];
        home->drain_task.run = run_drain;
        home->report_task.run = run_report;
        sl_list_init(&home->own.conns);
        sl_list_init(&home->own.unwinding);
        runner->loops[i] = home->loop;
    }
    return SL_OK;
}

static enum sl_status need_runner(struct sl_server *server)
{
    if (server->runner != NULL) {
        return SL_OK;
    }
    struct sl_runner *runner = sl_calloc(1, sizeof(*runner));
    if (runner == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    runner->server = server;
    runner->shared.timeout_ms = UINT64_MAX;
    (void)pthread_mutex_init(&runner->shared.lock, NULL);
    if (set_loops(runner, server) != SL_OK ||
        (server->n_pool_threads > 0 &&
         sl_pool_new(server->n_pool_threads, &server->pool) != SL_OK)) {
        release_runner(runner);
        return SL_RESOURCE_EXHAUSTED;
    }
    server->free_runner = free_runner;
    (void)pthread_mutex_lock(&server->shared.lock);
    server->runner = runner;
    const bool is_stop_owed = server->shared.is_stop_owed;
    const uint64_t timeout_ms = server->shared.stop_timeout_ms;
    (void)pthread_mutex_unlock(&server->shared.lock);
    if (is_stop_owed) {
        sl_server_stop(server, timeout_ms, NULL, NULL);
    }
    return SL_OK;
}

enum sl_status sl_server_listen(
    struct sl_server *server,
    const char *address,
    struct sl_net_tls *tls,
    const char **ret_address,
    struct sl_error *err)
{
    if (need_runner(server) != SL_OK) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for a listener");
    }
    struct sl_runner *runner = server->runner;
    struct listener *listener = sl_calloc(1, sizeof(*listener));
    if (listener == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for a listener");
    }
    listener->runner = runner;
    listener->index = runner->n_listens++;
    listener->is_reset_loss = server->is_reset_loss;
    struct sl_limits_shot *shot = sl_server_limits(server);
    const struct sl_net_listen_options options = { .address = address,
                                                   .tls = tls,
                                                   .limits = &shot->limits,
                                                   .census = runner->census,
                                                   .loops = runner->loops,
                                                   .n_loops = runner->n_loops,
                                                   .on_accept = on_accept,
                                                   .user_data = listener };
    const enum sl_status status = sl_net_listen(&options, &listener->net, err);
    (void)sl_limits_shot_unref(shot);
    if (status != SL_OK) {
        (void)sl_free(listener);
        return status;
    }
    listener->next = runner->first.listeners;
    runner->first.listeners = listener;
    runner->first.n_listeners++;
    if (ret_address != NULL) {
        *ret_address = sl_net_listener_address(listener->net);
    }
    return SL_OK;
}

static void run_reload(struct sl_task *task)
{
    struct reload *reload = SL_CONTAINER(task, struct reload, task);
    const struct sl_runner *runner = reload->runner;
    for (struct listener *it = runner->first.listeners; it != NULL; it = it->next) {
        sl_net_listener_set_limits(it->net, &reload->limits);
        if (it->index < reload->n_tls) {
            sl_net_listener_set_tls(it->net, reload->tls[it->index]);
        }
    }
    for (size_t i = 0; i < reload->n_tls; i++) {
        (void)sl_net_tls_unref(reload->tls[i]);
    }
    (void)sl_free(reload);
}

enum sl_status sl_server_reload(
    struct sl_server *server,
    const struct sl_limits *limits,
    struct sl_net_tls *const *tls,
    size_t n_tls)
{
    (void)pthread_mutex_lock(&server->shared.lock); /* need_runner() may be at work elsewhere */
    struct sl_runner *runner = server->runner;
    (void)pthread_mutex_unlock(&server->shared.lock);
    if (runner == NULL) {
        return sl_server_set_limits(server, limits);
    }
    struct reload *reload = sl_calloc(1, sizeof(*reload) + n_tls * sizeof(struct sl_net_tls *));
    const enum sl_status status =
        reload == NULL ? SL_RESOURCE_EXHAUSTED : sl_server_set_limits(server, limits);
    if (status != SL_OK) {
        (void)sl_free(reload);
        return status;
    }
    reload->task.run = run_reload;
    reload->runner = runner;
    sl_server_default_limits(&reload->limits);
    if (limits != NULL) {
        reload->limits = *limits;
    }
    reload->n_tls = n_tls;
    for (size_t i = 0; i < n_tls; i++) {
        reload->tls[i] = tls[i] == NULL ? NULL : sl_net_tls_ref(tls[i]);
    }
    sl_loop_post(runner->loops[0], &reload->task);
    return SL_OK;
}

/* Levels 2 and 3 need the server's own loop. */
static enum sl_status need_own_loop(struct sl_server *server, struct sl_error *err)
{
    if (need_runner(server) != SL_OK) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for a loop");
    }
    return server->runner->own_loop != NULL
               ? SL_OK
               : sl_fail(err, SL_FAILED_PRECONDITION, "the loops of this server are not its own");
}

enum sl_status sl_server_run(struct sl_server *server, struct sl_error *err)
{
    SL_TRY(need_own_loop(server, err));
    while (!server->runner->first.is_drained) {
        sl_loop_uv_run(server->runner->own_loop);
    }
    return SL_OK;
}

int sl_server_fd(const struct sl_server *server)
{
    const struct sl_runner *runner = server->runner;
    return runner == NULL || runner->own_loop == NULL ? -1 : sl_loop_uv_fd(runner->own_loop);
}

int sl_server_timeout(const struct sl_server *server)
{
    const struct sl_runner *runner = server->runner;
    return runner == NULL || runner->own_loop == NULL ? -1 : sl_loop_uv_timeout(runner->own_loop);
}

enum sl_status sl_server_step(struct sl_server *server, bool *ret_is_drained, struct sl_error *err)
{
    SL_TRY(need_own_loop(server, err));
    sl_loop_uv_step(server->runner->own_loop, 0);
    *ret_is_drained = server->runner->first.is_drained;
    return SL_OK;
}

void sl_server_stop(
    struct sl_server *server,
    uint64_t timeout_ms,
    void (*on_drained)(void *user_data),
    void *user_data)
{
    (void)pthread_mutex_lock(&server->shared.lock);
    struct sl_runner *runner = server->runner;
    if (runner == NULL) {
        server->shared.is_stop_owed = true;
        server->shared.stop_timeout_ms = timeout_ms;
    }
    (void)pthread_mutex_unlock(&server->shared.lock);
    if (runner == NULL) { /* it never listened; if it ever does, it ends at once */
        if (on_drained != NULL) {
            on_drained(user_data);
        }
        return;
    }
    atomic_store(&runner->is_stopping, true);
    (void)pthread_mutex_lock(&runner->shared.lock);
    if (timeout_ms < runner->shared.timeout_ms) {
        runner->shared.timeout_ms = timeout_ms;
    }
    if (runner->shared.on_drained == NULL) {
        runner->shared.on_drained = on_drained;
        runner->shared.user_data = user_data;
    }
    for (size_t i = 0; i < runner->n_loops; i++) {
        if (!runner->shared.is_posted[i]) {
            runner->shared.is_posted[i] = true;
            sl_loop_post(runner->loops[i], &runner->of_loop[i].drain_task);
        }
    }
    (void)pthread_mutex_unlock(&runner->shared.lock);
}
