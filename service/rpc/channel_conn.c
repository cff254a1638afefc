/* Channels without I/O: their time and their bytes come from the user. */
#include "service/rpc/channel_conn.h"

#include "runtime/base/mem.h"
#include "runtime/base/sized.h"
#include "service/rpc/client_transport.h"

enum { MAX_PULLS = 16 };

struct core_transport {
    struct sl_client_transport base;
    struct sl_loop loop;                  /* waits for nothing: timers and tasks only */
    const struct sl_channel_conn *inside; /* whose feed or pull runs */
    bool is_inside;
    bool is_released; /* the channel is gone */
};

struct sl_channel_conn {
    struct core_transport *transport;
    struct sl_client_conn *conn;
    void (*on_output)(void *user_data);
    void *user_data;
    uint64_t last_read_ns;
    bool is_closing; /* what can be pulled goes out */
    bool is_over;
};

static struct core_transport *from_base(struct sl_client_transport *base)
{
    return SL_CONTAINER(base, struct core_transport, base);
}

/* ---- Time ------------------------------------------------------------------------------------ */

static void ignore_wake(struct sl_loop *loop)
{
    (void)loop;
}

static void ignore_arm(struct sl_loop *loop, uint64_t due_ns)
{
    (void)loop;
    (void)due_ns;
}

static const struct sl_loop_backend no_backend = { .wake = ignore_wake, .arm = ignore_arm };

static void
begin(struct core_transport *transport, const struct sl_channel_conn *inside, uint64_t now_ns)
{
    transport->is_inside = true;
    transport->inside = inside;
    sl_loop_turn_begin(&transport->loop, now_ns, 0);
}

/* The channel may have gone meanwhile, and the transport goes with it. */
static void end(struct core_transport *transport)
{
    transport->is_inside = false;
    transport->inside = NULL;
    if (transport->is_released) {
        sl_loop_done(&transport->loop);
        (void)sl_free(transport);
    }
}

static uint64_t due_ns(const struct core_transport *transport)
{
    return transport->loop.loop.deferred_first != NULL ? 0 : sl_loop_next_due_ns(&transport->loop);
}

/* ---- From the channel ------------------------------------------------------------------------ */

static void want_write(void *link)
{
    const struct sl_channel_conn *conn = link;
    if (conn->transport->inside != conn && conn->on_output != NULL) {
        conn->on_output(conn->user_data);
    }
}

static void close_link(void *link, bool now)
{
    struct sl_channel_conn *conn = link;
    const bool was_closing = conn->is_closing;
    conn->is_closing = true;
    conn->is_over |= now;
    if (now || !was_closing) {
        want_write(conn);
    }
}

static uint64_t last_read_ns(const void *link)
{
    const struct sl_channel_conn *conn = link;
    return conn->last_read_ns;
}

static void free_transport(struct sl_client_transport *base)
{
    struct core_transport *transport = from_base(base);
    transport->is_released = true;
    if (!transport->is_inside) {
        end(transport);
    }
}

static const struct sl_client_transport_ops no_io = {
    .want_write = want_write,
    .close = close_link,
    .last_read_ns = last_read_ns,
    .free = free_transport,
};

/* ---- Channels -------------------------------------------------------------------------------- */

enum sl_status sl_channel_new_core(
    const struct sl_channel_options *options,
    uint64_t now_ns,
    struct sl_channel **ret_channel,
    struct sl_error *err)
{
    struct sl_channel_options all;
    SL_TRY(sl_channel_read_options(options, &all, err));
    if (all.authority == NULL || all.loop != NULL || all.tls != NULL) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT,
            "a channel without I/O needs an authority, and has no loop and no TLS");
    }
    struct core_transport *transport = sl_calloc(1, sizeof(*transport));
    if (transport == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for a channel");
    }
    sl_loop_init(&transport->loop, &no_backend, 0);
    sl_loop_set_time(&transport->loop, now_ns, 0, false);
    transport->base = (struct sl_client_transport){
        .ops = &no_io, .loop = &transport->loop, .owns_loop = true, .has_calls_time = true
    };
    return sl_channel_make(&transport->base, all.authority, all.authority, &all, ret_channel, err);
}

/* NULL: the channel has I/O of ours. */
static struct core_transport *transport_of(const struct sl_channel *channel)
{
    struct sl_client_transport *base = sl_channel_transport(channel);
    return base->ops == &no_io ? from_base(base) : NULL;
}

void sl_channel_turn(struct sl_channel *channel, uint64_t now_ns)
{
    struct core_transport *transport = transport_of(channel);
    if (transport != NULL) {
        begin(transport, NULL, now_ns);
        sl_loop_turn_work(&transport->loop);
        sl_loop_turn_end(&transport->loop);
        end(transport);
    }
}

uint64_t sl_channel_due_ns(const struct sl_channel *channel)
{
    const struct core_transport *transport = transport_of(channel);
    return transport == NULL ? SL_NEVER_NS : due_ns(transport);
}

bool sl_channel_wants_conn(const struct sl_channel *channel)
{
    return transport_of(channel) != NULL && sl_channel_is_waiting(channel);
}

void sl_channel_conn_failed(struct sl_channel *channel, const char *why, uint64_t now_ns)
{
    struct core_transport *transport = transport_of(channel);
    if (transport != NULL) {
        begin(transport, NULL, now_ns);
        sl_channel_note_failure(channel, why);
        end(transport);
    }
}

/* ---- Connections ----------------------------------------------------------------------------- */

enum sl_status sl_channel_conn_new(
    struct sl_channel *channel,
    const struct sl_channel_conn_options *options,
    uint64_t now_ns,
    struct sl_channel_conn **ret_conn)
{
    struct sl_channel_conn_options all = { 0 };
    if (options != NULL &&
        !sl_sized_read(&all, sizeof(all), options, options->struct_size, sizeof(*options))) {
        return SL_INVALID_ARGUMENT;
    }
    struct core_transport *transport = transport_of(channel);
    if (transport == NULL) {
        return SL_FAILED_PRECONDITION;
    }
    struct sl_channel_conn *conn = sl_calloc(1, sizeof(*conn));
    if (conn == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    conn->transport = transport;
    conn->on_output = all.on_output;
    conn->user_data = all.user_data;
    begin(transport, conn, now_ns);
    conn->last_read_ns = sl_loop_now_ns(&transport->loop);
    const enum sl_status status = sl_channel_adopt(channel, conn, &conn->conn);
    if (status == SL_OK) {
        sl_client_conn_on_open(conn->conn, all.is_tls);
        *ret_conn = conn;
    } else {
        (void)sl_free(conn);
    }
    end(transport);
    return status;
}

enum sl_status sl_channel_conn_feed(
    struct sl_channel_conn *conn, struct sl_slice bytes, uint64_t now_ns, struct sl_error *err)
{
    struct sl_loop *loop = &conn->transport->loop;
    begin(conn->transport, conn, now_ns);
    if (bytes.size > 0) {
        conn->last_read_ns = sl_loop_now_ns(loop); /* timers see that the server lives */
    }
    sl_loop_turn_work(loop);
    if (bytes.size > 0 && !conn->is_closing) {
        sl_client_conn_on_bytes(conn->conn, bytes);
    }
    sl_loop_turn_end(loop);
    end(conn->transport);
    if (!conn->is_closing) {
        return SL_OK;
    }
    const struct sl_error *why = sl_client_conn_error(conn->conn);
    return sl_fail(
        err, SL_UNAVAILABLE, "%s", why->status == SL_OK ? "the connection is over" : why->text);
}

size_t sl_channel_conn_pull(
    struct sl_channel_conn *conn, uint8_t *room, size_t room_bytes, uint64_t now_ns)
{
    struct sl_loop *loop = &conn->transport->loop;
    size_t n = 0;
    bool is_again = true;
    begin(conn->transport, conn, now_ns);
    /* 0 means that there is really nothing, also of what callbacks bring. */
    for (int i = 0; i < MAX_PULLS && n == 0 && is_again && !conn->is_over; i++) {
        sl_loop_turn_end(loop);
        n = sl_client_conn_pull(conn->conn, room, room_bytes);
        is_again = loop->loop.deferred_first != NULL;
    }
    conn->is_over |= conn->is_closing && n == 0;
    end(conn->transport);
    return n;
}

uint64_t sl_channel_conn_due_ns(const struct sl_channel_conn *conn)
{
    return due_ns(conn->transport);
}

bool sl_channel_conn_wants_close(const struct sl_channel_conn *conn)
{
    return conn->is_over;
}

struct sl_channel_conn *sl_channel_conn_free(struct sl_channel_conn *conn)
{
    if (conn == NULL) {
        return NULL;
    }
    struct core_transport *transport = conn->transport;
    begin(transport, conn, 0); /* the time stays */
    sl_client_conn_on_end(conn->conn, NULL);
    (void)sl_free(conn);
    end(transport);
    return NULL;
}
