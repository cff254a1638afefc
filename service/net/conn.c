#include <errno.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/base/loop_uv.h"
#include "runtime/base/metrics.h"
#include "service/net/conn_impl.h"
#include "service/net/net.h"

enum {
    CONN_MAGIC = 0x6E636F6E,
    READS_PER_WAKE = 4,     /* then others have their turn */
    PULLS_PER_TURN = 2,     /* 256 KiB */
    ROOM_SMALL = 32 * 1024, /* for a socket that is slow: less is kept */
    MAX_UNSENT = 2 * SL_NET_BLOCK_BYTES,
    DRAIN_STALL_MS = 10000, /* a closing connection whose socket takes nothing */
    NOTSENT_LOWAT_BYTES = 64 * 1024
};

void sl_net_socket_tune(int fd, unsigned timeout_ms)
{
    const int one = 1;
    const int lowat = NOTSENT_LOWAT_BYTES;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof(lowat));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
}

/* ---- Ends ------------------------------------------------------------------------------------ */

static void on_poll_closed(uv_handle_t *handle)
{
    (void)sl_free(handle->data);
}

static void drop_fd(struct sl_net_conn *conn)
{
    if (conn->poll != NULL) {
        conn->poll->conn = NULL;
        uv_close((uv_handle_t *)&conn->poll->uv, on_poll_closed);
        conn->poll = NULL;
    }
    if (conn->fd >= 0) {
        (void)close(conn->fd); /* allowed from uv_close() on */
        conn->fd = -1;
    }
    conn->events = 0;
}

void sl_net_conn_free(struct sl_net_conn *conn)
{
    sl_timer_stop(&conn->timer);
    sl_loop_undefer(conn->loop, &conn->flush);
    sl_loop_undefer(conn->loop, &conn->end);
    drop_fd(conn);
    sl_net_connecting_free(conn->connecting);
    SSL_free(conn->ssl);
    (void)sl_net_tls_unref(conn->tls);
    (void)sl_free(conn->unsent.data);
    (void)sl_free(conn->peer_cert_bytes);
    sl_net_scratch_unref(conn->scratch);
    if (conn->listener != NULL) {
        sl_net_listener_release(conn->listener, conn->listener_loop, conn->address_key);
    }
    conn->magic = 0;
    (void)sl_free(conn);
}

/* Never above debug: probes of load balancers connect and say nothing (CM-8). */
static void log_handshake(const struct sl_net_conn *conn, const char *fault)
{
    if (conn->is_handshake_failed && conn->listener != NULL) {
        sl_log(
            SL_DEBUG, SL_LOG_NET, "msg=\"TLS handshake failed\" peer=%s reason=%s", conn->peer,
            SL_LOG_QUOTE(sl_slice_str(fault == NULL ? conn->what : fault)));
    }
}

static void run_end(struct sl_task *task)
{
    struct sl_net_conn *conn = SL_CONTAINER(task, struct sl_net_conn, end);
    struct sl_error err = { .status = SL_OK };
    const char *fault = conn->sys_errno != 0          ? uv_strerror(-conn->sys_errno)
                        : conn->how == SL_NET_END_TLS ? sl_net_tls_fault(conn)
                                                      : NULL;
    (void)sl_fail(
        &err, SL_UNAVAILABLE, "%s: %s%s%s", conn->peer, conn->what, fault == NULL ? "" : ": ",
        fault == NULL ? "" : fault);
    log_handshake(conn, fault);
    err.origin = SL_ORIGIN_TRANSPORT;
    err.sys_errno = conn->sys_errno;
    err.tls_error = conn->tls_error;
    if (conn->callbacks != NULL) {
        conn->callbacks->on_end(conn, conn->how, &err, conn->user_data);
    }
    sl_net_conn_free(conn);
}

void sl_net_conn_end(struct sl_net_conn *conn, enum sl_net_end how, int sys_errno, const char *what)
{
    if (conn->state == SL_NET_ENDED) {
        return;
    }
    if (conn->state == SL_NET_HANDSHAKE && conn->tls != NULL && how != SL_NET_END_CLOSED) {
        conn->is_handshake_failed = true;
        SL_METRIC_ADD(sluice_tls_handshake_failures, 1, NULL);
    }
    conn->state = SL_NET_ENDED;
    conn->how = how;
    conn->sys_errno = sys_errno;
    conn->what = what;
    sl_timer_stop(&conn->timer);
    sl_loop_undefer(conn->loop, &conn->flush);
    drop_fd(conn);
    sl_loop_defer(conn->loop, &conn->end);
}

static void end_by_errno(struct sl_net_conn *conn, int error)
{
    if (conn->state == SL_NET_DRAINING || conn->state == SL_NET_LINGER) {
        sl_net_conn_end(conn, SL_NET_END_CLOSED, 0, "closed");
    } else {
        sl_net_conn_end(conn, SL_NET_END_RESET, error, "connection lost");
    }
}

static void end_by_tls(struct sl_net_conn *conn, const char *what)
{
    conn->scratch->n_cipher = 0; /* nothing of it may reach another connection */
    if (conn->state == SL_NET_DRAINING || conn->state == SL_NET_LINGER) {
        sl_net_conn_end(conn, SL_NET_END_CLOSED, 0, "closed");
    } else {
        sl_net_conn_end(conn, SL_NET_END_TLS, 0, what);
    }
}

/* ---- Events ---------------------------------------------------------------------------------- */

static void read_socket(struct sl_net_conn *conn);

/* The socket is lost with `error`. What came before is read first: an alert of TLS says more. */
static void end_by_socket(struct sl_net_conn *conn, int error)
{
    conn->lost_errno = error;
    read_socket(conn);
    end_by_errno(conn, error);
}

/* libuv says EBADF of every fault of a socket, and has stopped polling. */
static int fault_of(const struct sl_net_conn *conn)
{
    int error = 0;
    socklen_t size = sizeof(error);
    const bool is_known = getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0;
    return is_known && error != 0 ? error : ECONNRESET;
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    const struct sl_net_poll *poll = handle->data;
    struct sl_net_conn *conn = poll->conn;
    if (conn == NULL) {
        return;
    }
    assert(conn->magic == CONN_MAGIC);
    if (status < 0) {
        end_by_socket(conn, fault_of(conn));
        return;
    }
    if ((events & UV_WRITABLE) != 0) {
        sl_loop_defer(conn->loop, &conn->flush);
    }
    if ((events & UV_READABLE) != 0) {
        read_socket(conn);
    }
}

static void wait_for(struct sl_net_conn *conn, int events)
{
    if (conn->poll == NULL || conn->events == events) {
        return;
    }
    conn->events = events;
    if (events == 0) {
        (void)uv_poll_stop(&conn->poll->uv);
    } else if (uv_poll_start(&conn->poll->uv, events, on_poll) != 0) {
        sl_net_conn_end(conn, SL_NET_END_RESET, 0, "the descriptor cannot be polled");
    }
}

static void update_events(struct sl_net_conn *conn)
{
    if (conn->state == SL_NET_ENDED || conn->state == SL_NET_CONNECTING) {
        return;
    }
    const bool reads = !conn->is_paused || conn->state != SL_NET_OPEN;
    wait_for(conn, (reads ? UV_READABLE : 0) | (conn->wants_writable ? UV_WRITABLE : 0));
}

/* ---- Output ---------------------------------------------------------------------------------- */

static size_t n_unsent(const struct sl_net_conn *conn)
{
    return conn->unsent.size - conn->unsent.sent;
}

/* CM-13: the peer reads nothing. While it closes, DRAIN_STALL_MS holds. */
static void watch_stall(struct sl_net_conn *conn)
{
    if (conn->state == SL_NET_OPEN && conn->stall_ms > 0) {
        sl_timer_start_ms(&conn->timer, conn->stall_ms);
    }
}

/* Keeps what the socket did not take. */
static bool keep(struct sl_net_conn *conn, const uint8_t *data, size_t size)
{
    const size_t left = n_unsent(conn);
    if (size > MAX_UNSENT - left) {
        end_by_errno(conn, ENOBUFS);
        return false;
    }
    if (conn->unsent.sent > 0) {
        memmove(conn->unsent.data, conn->unsent.data + conn->unsent.sent, left);
        conn->unsent.sent = 0;
        conn->unsent.size = left;
    }
    if (left + size > conn->unsent.capacity) {
        uint8_t *moved = sl_realloc(conn->unsent.data, left + size);
        if (moved == NULL) {
            end_by_errno(conn, ENOMEM);
            return false;
        }
        conn->unsent.data = moved;
        conn->unsent.capacity = left + size;
    }
    memcpy(conn->unsent.data + left, data, size);
    conn->unsent.size = left + size;
    conn->wants_writable = true;
    if (left == 0) {
        watch_stall(conn);
    }
    update_events(conn);
    return true;
}

/* Bytes that the socket took. After an error it takes none, and the flush ends the connection. */
static size_t send_some(struct sl_net_conn *conn, const uint8_t *data, size_t size)
{
    ssize_t n;
    do {
        n = send(conn->fd, data, size, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        conn->last_write_ns = sl_loop_now_ns(conn->loop);
        return (size_t)n;
    }
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
        conn->lost_errno = errno;
        sl_loop_defer(conn->loop, &conn->flush);
    }
    return 0;
}

/* True: all of it is with the socket; false: the rest is kept, or the connection is at its end. */
static bool put_out(struct sl_net_conn *conn, const uint8_t *data, size_t size)
{
    if (conn->lost_errno != 0) {
        return false;
    }
    if (n_unsent(conn) > 0) {
        (void)keep(conn, data, size);
        return false;
    }
    const size_t n = send_some(conn, data, size);
    conn->was_cut = n < size;
    if (n < size && conn->lost_errno == 0) {
        (void)keep(conn, data + n, size - n);
    }
    return n == size;
}

static bool put_out_unsent(struct sl_net_conn *conn)
{
    const size_t left = n_unsent(conn);
    if (left == 0) {
        return true;
    }
    const size_t n = send_some(conn, conn->unsent.data + conn->unsent.sent, left);
    conn->unsent.sent += n;
    if (n > 0) {
        watch_stall(conn);
    }
    if (n < left) {
        return false;
    }
    if (conn->state == SL_NET_OPEN) {
        sl_timer_stop(&conn->timer);
    }
    conn->unsent.data = sl_free(conn->unsent.data);
    conn->unsent.size = conn->unsent.sent = conn->unsent.capacity = 0;
    return true;
}

static bool put_out_cipher(struct sl_net_conn *conn)
{
    struct sl_net_scratch *scratch = conn->scratch;
    const size_t n = scratch->n_cipher;
    scratch->n_cipher = 0;
    return n == 0 || put_out(conn, scratch->cipher, n);
}

static bool put_out_block(struct sl_net_conn *conn, size_t size)
{
    if (conn->ssl == NULL) {
        return put_out(conn, conn->scratch->out, size);
    }
    if (sl_net_tls_write(conn, conn->scratch->out, size) != SL_NET_TLS_OK) {
        end_by_tls(conn, "TLS cannot encrypt");
        return false;
    }
    return put_out_cipher(conn);
}

/* Everything was sent and the owner has no more: CM-7. */
static void start_linger(struct sl_net_conn *conn)
{
    if (conn->ssl != NULL) {
        sl_net_tls_shutdown(conn);
        (void)put_out_cipher(conn); /* what does not fit is lost: close_notify is a courtesy */
        if (conn->state == SL_NET_ENDED) {
            return;
        }
    }
    conn->state = SL_NET_LINGER;
    conn->wants_writable = false;
    update_events(conn);
    (void)shutdown(conn->fd, SHUT_WR);
    sl_timer_start_ms(&conn->timer, conn->linger_ms);
}

/* True: the owner has nothing more now. */
static bool pull_and_send(struct sl_net_conn *conn)
{
    for (int i = 0; i < PULLS_PER_TURN; i++) {
        const size_t room_bytes = conn->was_cut ? ROOM_SMALL : SL_NET_BLOCK_BYTES;
        const size_t n =
            conn->callbacks->on_pull(conn, conn->scratch->out, room_bytes, conn->user_data);
        if (conn->state == SL_NET_ENDED) {
            return false;
        }
        if (n == 0) {
            return true;
        }
        if (!put_out_block(conn, n)) {
            return false;
        }
    }
    conn->wants_writable = true; /* goes on in the next turn, after the others */
    update_events(conn);
    return false;
}

static void run_flush(struct sl_task *task)
{
    struct sl_net_conn *conn = SL_CONTAINER(task, struct sl_net_conn, flush);
    if (conn->lost_errno != 0) {
        end_by_socket(conn, conn->lost_errno);
        return;
    }
    const size_t before = n_unsent(conn);
    const bool is_clear = put_out_unsent(conn);
    if (conn->state == SL_NET_DRAINING && n_unsent(conn) < before) {
        sl_timer_start_ms(&conn->timer, DRAIN_STALL_MS);
    }
    if (!is_clear || (conn->state != SL_NET_OPEN && conn->state != SL_NET_DRAINING)) {
        if (conn->state == SL_NET_HANDSHAKE && is_clear) {
            conn->wants_writable = false;
            update_events(conn);
        }
        return;
    }
    if (!pull_and_send(conn)) {
        return;
    }
    if (conn->state == SL_NET_DRAINING) {
        start_linger(conn);
    } else {
        conn->wants_writable = false;
        update_events(conn);
    }
}

/* ---- Input ----------------------------------------------------------------------------------- */

static void open_conn(struct sl_net_conn *conn)
{
    conn->state = SL_NET_OPEN;
    sl_timer_stop(&conn->timer);
    conn->last_read_ns = conn->last_write_ns = sl_loop_now_ns(conn->loop);
    update_events(conn);
    conn->callbacks->on_open(conn, conn->user_data);
}

/* True: the handshake is done. */
static bool shake_hands(struct sl_net_conn *conn)
{
    const enum sl_net_tls_result result = sl_net_tls_handshake(conn);
    (void)put_out_cipher(conn); /* also the alert of a failure */
    if (conn->state == SL_NET_ENDED) {
        return false;
    }
    if (result == SL_NET_TLS_FAILED || result == SL_NET_TLS_END) {
        end_by_tls(conn, "the TLS handshake failed");
        return false;
    }
    if (result == SL_NET_TLS_WAIT) {
        return false;
    }
    open_conn(conn);
    return conn->state == SL_NET_OPEN;
}

static void end_by_record(struct sl_net_conn *conn)
{
    if (sl_net_tls_is_flooded(conn)) {
        SL_METRIC_ADD(sluice_faults, 1, "renegotiation_flood");
        end_by_tls(conn, "the peer asks for TLS renegotiation again and again");
    } else {
        end_by_tls(
            conn,
            sl_net_tls_is_refused(conn) ? "the peer refused TLS" : "a TLS record is not valid");
    }
}

static void deliver_decrypted(struct sl_net_conn *conn)
{
    if (conn->state == SL_NET_HANDSHAKE && !shake_hands(conn)) {
        return;
    }
    while (conn->state == SL_NET_OPEN) {
        size_t n = 0;
        const enum sl_net_tls_result result = sl_net_tls_read(conn, &n);
        (void)put_out_cipher(conn); /* answers to key updates, alerts */
        if (conn->state != SL_NET_OPEN || result == SL_NET_TLS_WAIT) {
            return;
        }
        if (result == SL_NET_TLS_END) {
            sl_net_conn_end(conn, SL_NET_END_FIN, 0, "closed by the peer");
            return;
        }
        if (result == SL_NET_TLS_FAILED) {
            end_by_record(conn);
            return;
        }
        conn->callbacks->on_bytes(conn, sl_slice_of(conn->scratch->plain, n), conn->user_data);
    }
}

static void deliver(struct sl_net_conn *conn, size_t size)
{
    const struct sl_slice bytes = sl_slice_of(conn->scratch->in, size);
    if (conn->state == SL_NET_DRAINING || conn->state == SL_NET_LINGER) {
        return; /* discarded */
    }
    if (conn->ssl == NULL) {
        conn->callbacks->on_bytes(conn, bytes, conn->user_data);
        return;
    }
    conn->tls_in = bytes;
    deliver_decrypted(conn);
    conn->tls_in = sl_slice_of(NULL, 0);
}

static void read_socket(struct sl_net_conn *conn)
{
    for (int i = 0; i < READS_PER_WAKE && conn->state != SL_NET_ENDED; i++) {
        if (conn->is_paused && conn->state == SL_NET_OPEN) {
            return;
        }
        const ssize_t n = recv(conn->fd, conn->scratch->in, SL_NET_READ_BYTES, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            if (errno != EAGAIN && errno != EWOULDBLOCK) {
                end_by_errno(conn, errno);
            }
            return;
        }
        if (n == 0 && conn->lost_errno != 0) {
            return; /* that says more */
        }
        if (n == 0) {
            const bool is_ours = conn->state == SL_NET_DRAINING || conn->state == SL_NET_LINGER;
            sl_net_conn_end(
                conn, is_ours ? SL_NET_END_CLOSED : SL_NET_END_FIN, 0, "closed by the peer");
            return;
        }
        conn->last_read_ns = sl_loop_now_ns(conn->loop);
        deliver(conn, (size_t)n);
        if ((size_t)n < SL_NET_READ_BYTES) {
            return; /* the socket is empty: saves the call that says so */
        }
    }
}

static void on_timer(void *user_data)
{
    struct sl_net_conn *conn = user_data;
    assert(conn->magic == CONN_MAGIC);
    switch (conn->state) {
    case SL_NET_CONNECTING:
        sl_net_conn_end(conn, SL_NET_END_TIMEOUT, 0, "connecting takes too long");
        return;
    case SL_NET_HANDSHAKE:
        sl_limit_reached(SL_LIMIT_handshake);
        sl_net_conn_end(conn, SL_NET_END_TIMEOUT, 0, "the TLS handshake takes too long");
        return;
    case SL_NET_OPEN:
        sl_limit_reached(SL_LIMIT_stall);
        sl_net_conn_end(conn, SL_NET_END_TIMEOUT, 0, "the peer does not read");
        return;
    case SL_NET_DRAINING:
    case SL_NET_LINGER:
        sl_net_conn_end(conn, SL_NET_END_CLOSED, 0, "closed");
        return;
    case SL_NET_ENDED:
        return;
    }
}

/* ---- Life ------------------------------------------------------------------------------------ */

struct sl_net_conn *sl_net_conn_new(struct sl_loop *loop, uint64_t linger_ms)
{
    struct sl_net_conn *conn = sl_calloc(1, sizeof(*conn));
    if (conn == NULL) {
        return NULL;
    }
    conn->scratch = sl_net_scratch_ref(loop);
    if (conn->scratch == NULL) {
        return sl_free(conn);
    }
    conn->magic = CONN_MAGIC;
    conn->state = SL_NET_CONNECTING;
    conn->loop = loop;
    conn->fd = -1;
    conn->linger_ms = linger_ms;
    conn->flush.run = run_flush;
    conn->end.run = run_end;
    conn->last_read_ns = conn->last_write_ns = sl_loop_now_ns(loop);
    sl_timer_init(&conn->timer, loop, on_timer, conn);
    return conn;
}

enum sl_status sl_net_conn_adopt(struct sl_net_conn *conn, int fd)
{
    struct sl_net_poll *poll = sl_calloc(1, sizeof(*poll));
    if (poll == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    if (uv_poll_init(sl_loop_uv_handle(conn->loop), &poll->uv, fd) != 0) {
        (void)sl_free(poll);
        return SL_RESOURCE_EXHAUSTED;
    }
    poll->uv.data = poll;
    poll->conn = conn;
    conn->poll = poll;
    conn->fd = fd;
    return SL_OK;
}

void sl_net_conn_connected(struct sl_net_conn *conn, const char *server_name)
{
    if (conn->tls == NULL) {
        open_conn(conn);
        return;
    }
    conn->state = SL_NET_HANDSHAKE;
    if (sl_net_tls_attach(conn, server_name) != SL_OK) {
        end_by_tls(conn, "no TLS session can be made");
        return;
    }
    update_events(conn);
    (void)shake_hands(conn); /* a client speaks first */
}

/* ---- For owners ------------------------------------------------------------------------------ */

struct sl_loop *sl_net_conn_loop(const struct sl_net_conn *conn)
{
    return conn->loop;
}

void sl_net_conn_want_write(struct sl_net_conn *conn)
{
    if (conn->state == SL_NET_OPEN && n_unsent(conn) == 0) {
        sl_loop_defer(conn->loop, &conn->flush);
    }
}

void sl_net_conn_pause_read(struct sl_net_conn *conn, bool is_paused)
{
    if (conn->is_paused != is_paused) {
        conn->is_paused = is_paused;
        update_events(conn);
    }
}

size_t sl_net_conn_n_unsent(const struct sl_net_conn *conn)
{
    return n_unsent(conn);
}

uint64_t sl_net_conn_last_write_ns(const struct sl_net_conn *conn)
{
    return conn->last_write_ns;
}

uint64_t sl_net_conn_last_read_ns(const struct sl_net_conn *conn)
{
    return conn->last_read_ns;
}

const char *sl_net_conn_peer(const struct sl_net_conn *conn)
{
    return conn->peer;
}

bool sl_net_conn_is_tls(const struct sl_net_conn *conn)
{
    return conn->tls != NULL;
}

struct sl_slice sl_net_conn_peer_cert(const struct sl_net_conn *conn)
{
    return conn->peer_cert;
}

void sl_net_conn_close(struct sl_net_conn *conn, bool now)
{
    SL_ON_LOOP(conn->loop);
    if (conn->state == SL_NET_ENDED) {
        return;
    }
    if (now || conn->state == SL_NET_CONNECTING || conn->state == SL_NET_HANDSHAKE) {
        sl_net_conn_end(conn, SL_NET_END_CLOSED, 0, "closed");
    } else if (conn->state == SL_NET_OPEN) {
        conn->state = SL_NET_DRAINING;
        sl_timer_start_ms(&conn->timer, DRAIN_STALL_MS);
        update_events(conn);
        sl_loop_defer(conn->loop, &conn->flush);
    }
}
