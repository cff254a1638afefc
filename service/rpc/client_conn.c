/* One connection of a channel. */
#include <inttypes.h>
#include <stdio.h>

#include "runtime/base/mem.h"
#include "service/rpc/client_impl.h"

enum { CONN_MAGIC = 0x63636F6E, DEBUG_BYTES = 48 };

enum conn_state {
    CONN_CONNECTING,
    CONN_GREETING, /* connected; the peer's SETTINGS are missing */
    CONN_READY,
    CONN_DRAINING, /* no new streams */
    CONN_CLOSING
};

struct sl_client_conn {
    uint32_t magic;
    struct sl_channel *channel;
    struct sl_list node;
    void *link;                    /* the transport's */
    struct sl_h2_session *session; /* NULL before CONN_GREETING */
    enum conn_state state;
    bool was_ready;
    bool is_tls;

    bool was_used;         /* the HEADERS of one went out */
    struct sl_timer timer; /* SETTINGS, then keepalive */
    uint64_t ping_ns;      /* a PING of ours that nothing was received after; 0: none */
    bool has_goaway;
    uint32_t goaway_code;
    char goaway_debug[DEBUG_BYTES];
    struct sl_error error; /* why it ends; status SL_OK: not known (yet) */
};

static const struct sl_client_transport_ops *ops_of(const struct sl_client_conn *conn)
{
    return conn->channel->transport->ops;
}

struct sl_client_conn *sl_client_conn_of_node(struct sl_list *node)
{
    return SL_CONTAINER(node, struct sl_client_conn, node);
}

bool sl_client_conn_is_ready(const struct sl_client_conn *conn)
{
    return conn->state == CONN_READY;
}

struct sl_h2_session *sl_client_conn_session(const struct sl_client_conn *conn)
{
    return conn->session;
}

bool sl_client_conn_is_tls(const struct sl_client_conn *conn)
{
    return conn->is_tls;
}

const struct sl_error *sl_client_conn_error(const struct sl_client_conn *conn)
{
    return &conn->error;
}

void sl_client_conn_note_used(struct sl_client_conn *conn)
{
    conn->was_used = true;
}

void sl_client_conn_explain(const struct sl_client_conn *conn, struct sl_error *err)
{
    const char *fault = conn->session == NULL ? NULL : sl_h2_session_fault(conn->session);
    if (conn->has_goaway && conn->goaway_code != SL_H2_NO_ERROR) {
        (void)sl_fail(
            err, SL_UNAVAILABLE,
            "%s: the server ended the connection: GOAWAY with code %" PRIu32 " \"%s\"",
            conn->channel->target, conn->goaway_code, conn->goaway_debug);
    } else if (conn->error.status != SL_OK) {
        *err = conn->error;
    } else if (fault != NULL) {
        (void)sl_fail(err, SL_UNAVAILABLE, "%s: HTTP/2 failed: %s", conn->channel->target, fault);
    } else {
        (void)sl_fail(err, SL_UNAVAILABLE, "%s: connection lost", conn->channel->target);
    }
    err->origin = SL_ORIGIN_TRANSPORT;
}

/* Keeps the first reason. */
static void set_error(struct sl_client_conn *conn, const char *what)
{
    if (conn->error.status == SL_OK) {
        (void)sl_fail(&conn->error, SL_UNAVAILABLE, "%s: %s", conn->channel->target, what);
        conn->error.origin = SL_ORIGIN_TRANSPORT;
    }
}

void sl_client_conn_close(struct sl_client_conn *conn, bool now)
{
    if (conn->state < CONN_CLOSING) {
        if (conn->session != NULL && !now) {
            sl_h2_session_goaway(conn->session, false, SL_H2_NO_ERROR, "");
        }
        conn->state = CONN_CLOSING;
        sl_timer_stop(&conn->timer);
    }
    ops_of(conn)->close(conn->link, now);
}

static void close_if_done(struct sl_client_conn *conn)
{
    if (conn->state == CONN_DRAINING && sl_h2_session_n_streams(conn->session) == 0) {
        sl_client_conn_close(conn, false);
    }
}

void sl_client_conn_drain(struct sl_client_conn *conn)
{
    if (conn->state == CONN_READY) {
        struct sl_error why;
        sl_client_conn_explain(conn, &why);
        conn->state = CONN_DRAINING;
        const bool is_used = conn->was_used || sl_h2_session_n_streams(conn->session) > 0;
        sl_channel_on_draining(conn->channel, conn, is_used, &why);
        close_if_done(conn);
    }
}

/* ---- Keepalive ------------------------------------------------------------------------------- */

static void arm_keepalive(struct sl_client_conn *conn)
{
    const uint64_t keepalive_ms = conn->channel->own.keepalive_ms;
    if (keepalive_ms == 0 || conn->state < CONN_READY || conn->state == CONN_CLOSING) {
        return;
    }
    const struct sl_limits *limits = &conn->channel->limits;
    sl_timer_start(
        &conn->timer, conn->ping_ns != 0
                          ? conn->ping_ns + limits->keepalive_timeout * SL_NS_PER_MS
                          : ops_of(conn)->last_read_ns(conn->link) + keepalive_ms * SL_NS_PER_MS);
}

/* A PING after silence, while calls are open unless the user allows it always; any byte is an
 * answer (CM-1). */
static void check_keepalive(struct sl_client_conn *conn)
{
    const uint64_t now_ns = sl_loop_now_ns(conn->channel->loop);
    const uint64_t read_ns = ops_of(conn)->last_read_ns(conn->link);
    const struct sl_limits *limits = &conn->channel->limits;
    if (conn->ping_ns != 0 && read_ns < conn->ping_ns &&
        now_ns - conn->ping_ns >= limits->keepalive_timeout * SL_NS_PER_MS) {
        set_error(conn, "the server does not answer (keepalive)");
        sl_client_conn_close(conn, true);
        return;
    }
    if (conn->ping_ns != 0 && read_ns >= conn->ping_ns) {
        conn->ping_ns = 0;
    }
    const bool is_silent = now_ns - read_ns >= conn->channel->own.keepalive_ms * SL_NS_PER_MS;
    if (conn->ping_ns == 0 && is_silent) {
        if (sl_h2_session_n_streams(conn->session) == 0 && !conn->channel->pings_without_calls) {
            sl_timer_start_ms(&conn->timer, conn->channel->own.keepalive_ms);
            return;
        }
        if (sl_h2_session_ping(conn->session, now_ns) != SL_OK) {
            set_error(conn, "no PING can be sent");
            sl_client_conn_close(conn, true);
            return;
        }
        conn->ping_ns = now_ns;
    }
    arm_keepalive(conn);
}

static void on_timer(void *user_data)
{
    struct sl_client_conn *conn = user_data;
    if (conn->state == CONN_GREETING) {
        set_error(conn, "no HTTP/2 SETTINGS from the server in time");
        sl_client_conn_close(conn, true);
    } else if (conn->state == CONN_READY || conn->state == CONN_DRAINING) {
        check_keepalive(conn);
    }
}

/* ---- From the HTTP/2 session ----------------------------------------------------------------- */

static void
on_headers(void *session_user, struct sl_h2_stream *stream, const struct sl_h2_headers *headers)
{
    (void)session_user;
    struct sl_client_call *call = sl_h2_stream_user(stream);
    sl_client_call_on_headers(call, headers);
}

static void on_data(void *session_user, struct sl_h2_stream *stream, struct sl_slice bytes)
{
    (void)session_user;
    struct sl_client_call *call = sl_h2_stream_user(stream);
    sl_client_call_on_data(call, bytes);
}

static void on_end_stream(void *session_user, struct sl_h2_stream *stream)
{
    (void)session_user;
    struct sl_client_call *call = sl_h2_stream_user(stream);
    sl_client_call_on_end_stream(call);
}

static void
on_closed(void *session_user, struct sl_h2_stream *stream, enum sl_h2_close how, uint32_t code)
{
    struct sl_client_conn *conn = session_user;
    struct sl_client_call *call = sl_h2_stream_user(stream);
    sl_client_call_on_closed(call, how, code);
    close_if_done(conn);
    if (!sl_list_is_empty(&conn->channel->own.waiting)) {
        sl_channel_wake(conn->channel); /* a stream less: another may begin */
    }
}

static void on_sent_end(void *session_user, struct sl_h2_stream *stream)
{
    (void)session_user;
    struct sl_client_call *call = sl_h2_stream_user(stream);
    call->own.is_end_sent = true;
}

static void on_goaway(void *session_user, uint32_t code, struct sl_slice debug)
{
    struct sl_client_conn *conn = session_user;
    conn->has_goaway = true;
    conn->goaway_code = code;
    const size_t size = debug.size < DEBUG_BYTES ? debug.size : DEBUG_BYTES - 1;
    for (size_t i = 0; i < size; i++) {
        const uint8_t byte = debug.data[i];
        conn->goaway_debug[i] = (char)(byte >= 0x20 && byte <= 0x7E ? byte : '?');
    }
    conn->goaway_debug[size] = '\0';
    /* RT-5: the server finds our PINGs too frequent. */
    if (code == SL_H2_ENHANCE_YOUR_CALM && sl_slice_equals(debug, "too_many_pings")) {
        sl_channel_calm_keepalive(conn->channel);
    }
    sl_client_conn_drain(conn);
}

static void on_output(void *session_user)
{
    const struct sl_client_conn *conn = session_user;
    ops_of(conn)->want_write(conn->link);
}

static const struct sl_h2_callbacks session_callbacks = {
    .on_headers = on_headers,
    .on_data = on_data,
    .on_end_stream = on_end_stream,
    .on_closed = on_closed,
    .on_sent_end = on_sent_end,
    .on_goaway = on_goaway,
    .on_output = on_output,
};

/* ---- From the transport ---------------------------------------------------------------------- */

void sl_client_conn_on_open(struct sl_client_conn *conn, bool is_tls)
{
    const struct sl_h2_options options = { .is_client = true, .limits = &conn->channel->limits };
    conn->is_tls = is_tls;
    if (sl_h2_session_new(&options, &session_callbacks, conn, &conn->session) != SL_OK) {
        set_error(conn, "no memory for a connection");
        sl_client_conn_close(conn, true);
        return;
    }
    conn->state = CONN_GREETING;
    sl_timer_start_ms(&conn->timer, conn->channel->limits.preface);
    ops_of(conn)->want_write(conn->link);
}

void sl_client_conn_on_bytes(struct sl_client_conn *conn, struct sl_slice bytes)
{
    struct sl_error err;
    const uint64_t now_ns = sl_loop_now_ns(conn->channel->loop);
    if (conn->session == NULL) {
        return;
    }
    if (sl_h2_session_feed(conn->session, bytes, now_ns, &err) != SL_OK) {
        set_error(conn, err.text);
        conn->state = CONN_CLOSING;
        sl_timer_stop(&conn->timer);
        ops_of(conn)->close(conn->link, false); /* our GOAWAY goes out */
        return;
    }
    if (conn->state == CONN_GREETING && sl_h2_session_is_ready(conn->session)) {
        conn->state = CONN_READY;
        conn->was_ready = true;
        sl_timer_stop(&conn->timer);
        arm_keepalive(conn);
        sl_channel_on_ready(conn->channel);
    } else if (conn->ping_ns != 0) {
        conn->ping_ns = 0;
        arm_keepalive(conn);
    }
    if (conn->state == CONN_READY && !sl_list_is_empty(&conn->channel->own.waiting) &&
        sl_h2_session_has_room(conn->session)) {
        sl_channel_wake(conn->channel); /* SETTINGS may have raised the limit of streams */
    }
    ops_of(conn)->want_write(conn->link);
}

size_t sl_client_conn_pull(struct sl_client_conn *conn, uint8_t *room, size_t room_bytes)
{
    if (conn->session == NULL) {
        return 0;
    }
    const size_t n =
        sl_h2_session_pull(conn->session, room, room_bytes, sl_loop_now_ns(conn->channel->loop));
    if (n == 0 && conn->state < CONN_CLOSING && sl_h2_session_wants_close(conn->session)) {
        conn->state = CONN_CLOSING;
        sl_timer_stop(&conn->timer);
        ops_of(conn)->close(conn->link, false);
    }
    return n;
}

void sl_client_conn_on_end(struct sl_client_conn *conn, const struct sl_error *err)
{
    struct sl_channel *channel = conn->channel;
    if (err != NULL && conn->error.status == SL_OK) {
        conn->error = *err;
    }
    conn->state = CONN_CLOSING;
    sl_timer_stop(&conn->timer);
    struct sl_error why;
    sl_client_conn_explain(conn, &why);
    (void)sl_h2_session_free(conn->session); /* ends the streams that are left */
    sl_list_remove(&conn->node);
    sl_channel_on_gone(channel, conn, conn->was_ready, conn->was_used, &why);
    conn->magic = 0;
    (void)sl_free(conn);
}

/* ---- Life ------------------------------------------------------------------------------------ */

static struct sl_client_conn *new_conn(struct sl_channel *channel)
{
    struct sl_client_conn *conn = sl_calloc(1, sizeof(*conn));
    if (conn != NULL) {
        conn->magic = CONN_MAGIC;
        conn->channel = channel;
        sl_list_init(&conn->node);
        sl_timer_init(&conn->timer, channel->loop, on_timer, conn);
    }
    return conn;
}

enum sl_status sl_client_conn_open(
    struct sl_channel *channel, struct sl_client_conn **ret_conn, struct sl_error *err)
{
    struct sl_client_conn *conn = new_conn(channel);
    if (conn == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for a connection");
    }
    struct sl_client_transport *transport = channel->transport;
    const enum sl_status status =
        transport->ops->open(transport, conn, channel->target, &conn->link, err);
    if (status != SL_OK) {
        (void)sl_free(conn);
        return status;
    }
    sl_list_add_last(&channel->own.conns, &conn->node);
    *ret_conn = conn;
    return SL_OK;
}

enum sl_status
sl_client_conn_adopt(struct sl_channel *channel, void *link, struct sl_client_conn **ret_conn)
{
    struct sl_client_conn *conn = new_conn(channel);
    if (conn == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    conn->link = link;
    sl_list_add_last(&channel->own.conns, &conn->node);
    *ret_conn = conn;
    return SL_OK;
}
