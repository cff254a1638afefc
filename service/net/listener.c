/* Accepting: one listening socket, polled on the first loop; each accepted socket is handed to the
 * loop that has the fewest connections (CM-11). */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/loop_uv.h"
#include "runtime/base/metrics.h"
#include "service/net/census.h"
#include "service/net/conn_impl.h"

enum {
    LISTENER_MAGIC = 0x6E6C6973,
    BACKLOG = 1024,
    ACCEPTS_PER_WAKE = 64,
    PAUSE_MS = 100, /* without descriptors: CM-12 */
    SILENCE_MS = 30000,
    SLACK_MS = 10000 /* the timers of `stall` and of keepalive come first, and say why */
};

struct sl_net_listener {
    uint32_t magic;
    _Atomic uint32_t n_refs; /* the owner, each connection, each socket on its way to its loop */
    struct sl_net_listen_options options;
    struct sl_loop **loops;
    _Atomic uint64_t *n_conns_of_loop;
    uv_poll_t poll;
    struct sl_timer pause;
    int fd;
    bool owns_path; /* a unix socket that must be removed */
    char address[SL_NET_NAME_BYTES];
    uint16_t port;
    void (*on_closed)(void *user_data);
    void *on_closed_user;
    atomic_bool is_closed;
    _Atomic uint64_t n_conns;
    struct {
        pthread_mutex_t lock;
        struct sl_net_tls *tls;
        struct sl_limits limits;
    } shared;
};

/* A socket on its way to its loop. */
struct handover {
    struct sl_task task;
    struct sl_net_listener *listener;
    size_t loop_index;
    int fd;
    struct sl_net_address from;
    struct sl_net_tls *tls;
    uint64_t handshake_ms, linger_ms, stall_ms;
    unsigned tcp_timeout_ms;
};

static void unref(struct sl_net_listener *listener)
{
    if (atomic_fetch_sub(&listener->n_refs, 1) > 1) {
        return;
    }
    (void)sl_net_tls_unref(listener->shared.tls);
    (void)sl_net_census_unref(listener->options.census);
    (void)pthread_mutex_destroy(&listener->shared.lock);
    (void)sl_free(listener->loops);
    (void)sl_free(listener->n_conns_of_loop);
    listener->magic = 0;
    (void)sl_free(listener);
}

/* ---- Counting -------------------------------------------------------------------------------- */

/* False: over a limit, or no memory. */
static bool admit(struct sl_net_listener *listener, const uint8_t key[SL_NET_KEY_BYTES])
{
    (void)pthread_mutex_lock(&listener->shared.lock);
    const bool is_admitted =
        sl_net_census_enter(listener->options.census, key, &listener->shared.limits);
    (void)pthread_mutex_unlock(&listener->shared.lock);
    if (is_admitted) {
        (void)atomic_fetch_add(&listener->n_conns, 1);
    }
    return is_admitted;
}

void sl_net_listener_release(
    struct sl_net_listener *listener, size_t loop_index, const uint8_t key[SL_NET_KEY_BYTES])
{
    sl_net_census_leave(listener->options.census, key);
    (void)atomic_fetch_sub(&listener->n_conns_of_loop[loop_index], 1);
    (void)atomic_fetch_sub(&listener->n_conns, 1);
    unref(listener);
}

static size_t least_loaded(const struct sl_net_listener *listener)
{
    size_t best = 0;
    for (size_t i = 1; i < listener->options.n_loops; i++) {
        if (atomic_load(&listener->n_conns_of_loop[i]) <
            atomic_load(&listener->n_conns_of_loop[best])) {
            best = i;
        }
    }
    return best;
}

/* ---- A new connection, on its loop ------------------------------------------------------------
 */

static void start_conn(struct sl_net_conn *conn, const struct handover *handover)
{
    const struct sl_net_listen_options *options = &handover->listener->options;
    const struct sl_net_callbacks *callbacks = NULL;
    void *user_data = NULL;
    if (!options->on_accept(conn, conn->loop, options->user_data, &callbacks, &user_data)) {
        sl_net_conn_free(conn);
        return;
    }
    conn->callbacks = callbacks;
    conn->user_data = user_data;
    if (conn->state == SL_NET_ENDED) {
        return; /* closed by the owner already; on_end follows */
    }
    if (conn->tls != NULL) {
        sl_timer_start_ms(&conn->timer, handover->handshake_ms);
    }
    sl_net_conn_connected(conn, NULL);
}

static void run_handover(struct sl_task *task)
{
    struct handover *handover = SL_CONTAINER(task, struct handover, task);
    struct sl_net_listener *listener = handover->listener;
    struct sl_loop *loop = listener->loops[handover->loop_index];
    uint8_t key[SL_NET_KEY_BYTES];
    sl_net_address_key(&handover->from, key);
    struct sl_net_conn *conn =
        atomic_load(&listener->is_closed) ? NULL : sl_net_conn_new(loop, handover->linger_ms);
    if (conn == NULL || sl_net_conn_adopt(conn, handover->fd) != SL_OK) {
        if (conn != NULL) {
            sl_net_conn_free(conn);
        }
        (void)close(handover->fd);
        (void)sl_net_tls_unref(handover->tls);
        sl_net_listener_release(listener, handover->loop_index, key);
        (void)sl_free(handover);
        return;
    }
    conn->stall_ms = handover->stall_ms;
    conn->listener = listener; /* takes the reference and the counts */
    conn->listener_loop = handover->loop_index;
    memcpy(conn->address_key, key, sizeof(key));
    conn->tls = handover->tls;
    sl_net_address_format(&handover->from, conn->peer, sizeof(conn->peer));
    start_conn(conn, handover);
    (void)sl_free(handover);
}

/* CM-1: the system gives a peer up that is gone, and not one that has still time to read (CM-13).
 * Keepalive may be slower than that. */
static unsigned tcp_timeout_ms(const struct sl_limits *limits)
{
    const uint64_t silence_ms =
        limits->keepalive_time < SILENCE_MS ? limits->keepalive_time : SILENCE_MS;
    const uint64_t keepalive_ms = silence_ms + limits->keepalive_timeout;
    const uint64_t most_ms = keepalive_ms > limits->stall ? keepalive_ms : limits->stall;
    return (unsigned)(most_ms + SLACK_MS);
}

/* What may change while it listens, as it is now. */
static void take_settings(struct sl_net_listener *listener, struct handover *handover)
{
    (void)pthread_mutex_lock(&listener->shared.lock);
    handover->tls = listener->shared.tls == NULL ? NULL : sl_net_tls_ref(listener->shared.tls);
    handover->handshake_ms = listener->shared.limits.handshake;
    handover->linger_ms = listener->shared.limits.linger;
    handover->stall_ms = listener->shared.limits.stall;
    handover->tcp_timeout_ms = tcp_timeout_ms(&listener->shared.limits);
    (void)pthread_mutex_unlock(&listener->shared.lock);
}

/* Counts the socket and sends it to its loop; closes it when that is not possible. */
static void hand_over(struct sl_net_listener *listener, int fd, const struct sl_net_address *from)
{
    uint8_t key[SL_NET_KEY_BYTES];
    sl_net_address_key(from, key);
    struct handover *handover = sl_calloc(1, sizeof(*handover));
    if (handover == NULL || !admit(listener, key)) {
        (void)sl_free(handover);
        (void)close(fd);
        return;
    }
    const size_t index = least_loaded(listener);
    (void)atomic_fetch_add(&listener->n_conns_of_loop[index], 1);
    (void)atomic_fetch_add(&listener->n_refs, 1);
    handover->task.run = run_handover;
    handover->listener = listener;
    handover->loop_index = index;
    handover->fd = fd;
    handover->from = *from;
    take_settings(listener, handover);
    if (from->as.any.sa_family != AF_UNIX) {
        sl_net_socket_tune(fd, handover->tcp_timeout_ms);
    }
    if (index == 0) {
        run_handover(&handover->task);
    } else {
        sl_loop_post(listener->loops[index], &handover->task);
    }
}

/* ---- Accepting ------------------------------------------------------------------------------- */

static void on_readable(uv_poll_t *poll, int status, int events);

static void resume(void *user_data)
{
    struct sl_net_listener *listener = user_data;
    (void)uv_poll_start(&listener->poll, UV_READABLE, on_readable);
}

/* Descriptors or memory are used up: the backlog waits, nothing spins. */
static void pause_accepting(struct sl_net_listener *listener, int error)
{
    const bool is_full = error == EMFILE || error == ENFILE;
    SL_METRIC_ADD(sluice_accept_pauses, 1, is_full ? "descriptors" : "memory");
    (void)uv_poll_stop(&listener->poll);
    sl_timer_start_ms(&listener->pause, PAUSE_MS);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct sl_net_listener *listener = poll->data;
    assert(listener->magic == LISTENER_MAGIC);
    for (int i = 0; i < ACCEPTS_PER_WAKE && !atomic_load(&listener->is_closed); i++) {
        struct sl_net_address from;
        memset(&from, 0, sizeof(from));
        from.size = sizeof(from.as);
        const int fd =
            accept4(listener->fd, &from.as.any, &from.size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            hand_over(listener, fd, &from);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pause_accepting(listener, errno);
            return;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } /* else: that one connection is gone (accept(2)); the next one */
    }
}

/* ---- Listening ------------------------------------------------------------------------------- */

static enum sl_status
fail_listen(struct sl_error *err, const struct sl_net_listen_options *options, int error)
{
    const enum sl_status status = error == EADDRINUSE                 ? SL_ALREADY_EXISTS
                                  : error == EACCES || error == EPERM ? SL_PERMISSION_DENIED
                                  : error == EMFILE || error == ENFILE || error == ENOMEM
                                      ? SL_RESOURCE_EXHAUSTED
                                      : SL_INVALID_ARGUMENT;
    (void)sl_fail(err, status, "cannot listen on '%s': %s", options->address, uv_strerror(-error));
    if (err != NULL) {
        err->sys_errno = error;
    }
    return status;
}

/* True: a socket file whose server is gone; it is removed. Never another kind of file. */
static bool remove_stale_path(const struct sl_net_address *address)
{
    struct stat info;
    if (address->as.any.sa_family != AF_UNIX || lstat(address->as.unix_path.sun_path, &info) != 0 ||
        !S_ISSOCK(info.st_mode)) {
        return false;
    }
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return false;
    }
    const bool is_stale =
        connect(fd, &address->as.any, address->size) != 0 && errno == ECONNREFUSED;
    (void)close(fd);
    return is_stale && unlink(address->as.unix_path.sun_path) == 0;
}

static int bind_and_listen(int fd, const struct sl_net_address *address)
{
    const int on = 1;
    const int off = 0;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (address->as.any.sa_family == AF_INET6) {
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    }
    int error = bind(fd, &address->as.any, address->size) == 0 ? 0 : errno;
    if (error == EADDRINUSE && remove_stale_path(address)) {
        error = bind(fd, &address->as.any, address->size) == 0 ? 0 : errno;
    }
    if (error != 0) {
        return error;
    }
    return listen(fd, BACKLOG) == 0 ? 0 : errno;
}

/* The real address, as text and port. */
static void note_address(struct sl_net_listener *listener, const struct sl_net_target *target)
{
    struct sl_net_address real;
    memset(&real, 0, sizeof(real));
    real.size = sizeof(real.as);
    if (target->is_unix || getsockname(listener->fd, &real.as.any, &real.size) != 0) {
        (void)snprintf(
            listener->address, sizeof(listener->address), "%s", listener->options.address);
        return;
    }
    sl_net_address_format(&real, listener->address, sizeof(listener->address));
    listener->port =
        ntohs(real.as.any.sa_family == AF_INET6 ? real.as.v6.sin6_port : real.as.v4.sin_port);
}

static enum sl_status open_socket(
    struct sl_net_listener *listener, const struct sl_net_target *target, struct sl_error *err)
{
    struct sl_net_address address;
    const enum sl_status status = sl_net_address_of(target, &address);
    if (status != SL_OK) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "cannot listen on '%s': %s", listener->options.address,
            target->is_unix ? "the path is too long" : "the host must be a numeric address");
    }
    listener->fd = socket(address.as.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener->fd < 0) {
        return fail_listen(err, &listener->options, errno);
    }
    if (listener->options.send_buffer_bytes > 0) { /* accepted sockets inherit it */
        const int size = (int)listener->options.send_buffer_bytes;
        (void)setsockopt(listener->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    }
    const int error = bind_and_listen(listener->fd, &address);
    if (error != 0) {
        (void)close(listener->fd);
        return fail_listen(err, &listener->options, error);
    }
    listener->owns_path = target->is_unix;
    note_address(listener, target);
    return SL_OK;
}

static struct sl_net_listener *new_listener(const struct sl_net_listen_options *options)
{
    struct sl_net_listener *listener = sl_calloc(1, sizeof(*listener));
    struct sl_loop **loops = sl_calloc(options->n_loops, sizeof(struct sl_loop *));
    _Atomic uint64_t *counts = sl_calloc(options->n_loops, sizeof(*counts));
    struct sl_net_census *census =
        options->census == NULL ? sl_net_census_new() : sl_net_census_ref(options->census);
    if (listener == NULL || loops == NULL || counts == NULL || census == NULL) {
        (void)sl_net_census_unref(census);
        (void)sl_free(listener);
        (void)sl_free(loops);
        (void)sl_free(counts);
        return NULL;
    }
    memcpy(loops, options->loops, options->n_loops * sizeof(struct sl_loop *));
    listener->magic = LISTENER_MAGIC;
    listener->options = *options;
    listener->options.census = census;
    listener->loops = loops;
    listener->n_conns_of_loop = counts;
    atomic_store(&listener->n_refs, 1);
    (void)pthread_mutex_init(&listener->shared.lock, NULL);
    listener->shared.limits = *options->limits;
    listener->options.limits = NULL;
    listener->shared.tls = options->tls == NULL ? NULL : sl_net_tls_ref(options->tls);
    sl_timer_init(&listener->pause, loops[0], resume, listener);
    return listener;
}

enum sl_status sl_net_listen(
    const struct sl_net_listen_options *options,
    struct sl_net_listener **ret_listener,
    struct sl_error *err)
{
    struct sl_net_target target;
    SL_TRY(sl_net_target_parse(options->address, &target, err));
    struct sl_net_listener *listener = new_listener(options);
    if (listener == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for a listener");
    }
    const enum sl_status status = open_socket(listener, &target, err);
    if (status != SL_OK) {
        unref(listener);
        return status;
    }
    const int rc =
        uv_poll_init(sl_loop_uv_handle(listener->loops[0]), &listener->poll, listener->fd);
    if (rc != 0) {
        (void)close(listener->fd);
        unref(listener);
        return fail_listen(err, options, -rc);
    }
    listener->options.address = listener->address; /* the caller's text may go */
    listener->poll.data = listener;
    resume(listener);
    *ret_listener = listener;
    return SL_OK;
}

const char *sl_net_listener_address(const struct sl_net_listener *listener)
{
    return listener->address;
}

uint16_t sl_net_listener_port(const struct sl_net_listener *listener)
{
    return listener->port;
}

void sl_net_listener_set_tls(struct sl_net_listener *listener, struct sl_net_tls *tls)
{
    struct sl_net_tls *fresh = tls == NULL ? NULL : sl_net_tls_ref(tls);
    (void)pthread_mutex_lock(&listener->shared.lock);
    struct sl_net_tls *old = listener->shared.tls;
    listener->shared.tls = fresh;
    (void)pthread_mutex_unlock(&listener->shared.lock);
    (void)sl_net_tls_unref(old);
}

void sl_net_listener_set_limits(struct sl_net_listener *listener, const struct sl_limits *limits)
{
    (void)pthread_mutex_lock(&listener->shared.lock);
    listener->shared.limits = *limits;
    (void)pthread_mutex_unlock(&listener->shared.lock);
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct sl_net_listener *listener = handle->data;
    if (listener->on_closed != NULL) {
        listener->on_closed(listener->on_closed_user);
    }
    unref(listener);
}

void sl_net_listener_close(
    struct sl_net_listener *listener, void (*on_closed)(void *user_data), void *user_data)
{
    SL_ON_LOOP(listener->loops[0]);
    atomic_store(&listener->is_closed, true);
    listener->on_closed = on_closed;
    listener->on_closed_user = user_data;
    sl_timer_stop(&listener->pause);
    uv_close((uv_handle_t *)&listener->poll, on_poll_closed);
    (void)close(listener->fd);
    if (listener->owns_path) {
        (void)unlink(listener->address + strlen("unix:"));
    }
}

size_t sl_net_listener_n_conns(const struct sl_net_listener *listener)
{
    return atomic_load(&listener->n_conns);
}
