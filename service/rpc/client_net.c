/* Channels on sockets: addresses, TLS, and the loop that a thread turns while it waits. */
#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "service/net/net.h"
#include "service/rpc/client.h"
#include "service/rpc/client_transport.h"

enum { CONNECT_TIMEOUT_MS = 20000, HOST_BYTES = 256 };

struct net_transport {
    struct sl_client_transport base;
    struct sl_loop_uv *own_loop; /* NULL: the user's loop */
    struct sl_net_tls *tls;      /* NULL: h2c */
    char *server_name;           /* that the certificate must have; NULL: the host of the target */
    uint64_t connect_timeout_ms;
};

static struct net_transport *from_base(struct sl_client_transport *base)
{
    return SL_CONTAINER(base, struct net_transport, base);
}

/* ---- From the socket ------------------------------------------------------------------------- */

static void on_open(struct sl_net_conn *net, void *user_data)
{
    sl_client_conn_on_open(user_data, sl_net_conn_is_tls(net));
}

static void on_bytes(struct sl_net_conn *net, struct sl_slice bytes, void *user_data)
{
    (void)net;
    sl_client_conn_on_bytes(user_data, bytes);
}

static size_t on_pull(struct sl_net_conn *net, uint8_t *room, size_t room_bytes, void *user_data)
{
    (void)net;
    return sl_client_conn_pull(user_data, room, room_bytes);
}

static void
on_end(struct sl_net_conn *net, enum sl_net_end how, const struct sl_error *err, void *user_data)
{
    (void)net;
    sl_client_conn_on_end(user_data, how == SL_NET_END_CLOSED ? NULL : err);
}

static const struct sl_net_callbacks callbacks = {
    .on_open = on_open,
    .on_bytes = on_bytes,
    .on_pull = on_pull,
    .on_end = on_end,
};

/* ---- From the channel ------------------------------------------------------------------------ */

static enum sl_status open_link(
    struct sl_client_transport *base,
    struct sl_client_conn *conn,
    const char *target,
    void **ret_link,
    struct sl_error *err)
{
    const struct net_transport *transport = from_base(base);
    const struct sl_net_connect_options options = {
        .address = target,
        .tls = transport->tls,
        .server_name = transport->server_name,
        .timeout_ms = transport->connect_timeout_ms,
    };
    struct sl_net_conn *net = NULL;
    SL_TRY(sl_net_connect(base->loop, &options, &callbacks, conn, &net, err));
    *ret_link = net;
    return SL_OK;
}

static void want_write(void *link)
{
    sl_net_conn_want_write(link);
}

static void close_link(void *link, bool now)
{
    sl_net_conn_close(link, now);
}

static uint64_t last_read_ns(const void *link)
{
    return sl_net_conn_last_read_ns(link);
}

static void step(struct sl_client_transport *base, bool may_wait)
{
    sl_loop_uv_step(from_base(base)->own_loop, may_wait ? -1 : 0);
}

static void free_transport(struct sl_client_transport *base)
{
    struct net_transport *transport = from_base(base);
    (void)sl_net_tls_unref(transport->tls);
    (void)sl_loop_uv_free(transport->own_loop);
    (void)sl_free(transport->server_name);
    (void)sl_free(transport);
}

static const struct sl_client_transport_ops foreign_loop = {
    .open = open_link,
    .want_write = want_write,
    .close = close_link,
    .last_read_ns = last_read_ns,
    .free = free_transport,
};

static const struct sl_client_transport_ops private_loop = {
    .open = open_link,
    .want_write = want_write,
    .close = close_link,
    .last_read_ns = last_read_ns,
    .step = step,
    .free = free_transport,
};

/* ---- Life ------------------------------------------------------------------------------------ */

static enum sl_status set_loop(struct net_transport *transport, struct sl_loop *loop)
{
    transport->base.ops = &foreign_loop;
    transport->base.loop = loop;
    if (loop == NULL) {
        SL_TRY(sl_loop_uv_new(0, &transport->own_loop));
        transport->base.ops = &private_loop;
        transport->base.loop = sl_loop_uv_base(transport->own_loop);
        transport->base.owns_loop = true;
    }
    return SL_OK;
}

/* The authority that requests carry; an own one names the certificate. */
static enum sl_status set_target(
    struct net_transport *transport,
    const char *target,
    const char *authority,
    const char **ret_authority,
    struct sl_error *err)
{
    char host[HOST_BYTES];
    uint16_t port;
    bool is_unix;
    if (sl_parse_address(sl_slice_str(target), host, sizeof(host), &port, &is_unix) != SL_OK) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT,
            "'%s' is no address: host:port, [ipv6]:port or unix:/path is expected", target);
    }
    authority = authority == NULL && is_unix ? "localhost" : authority;
    *ret_authority = authority == NULL ? target : authority;
    if (authority == NULL) {
        return SL_OK;
    }
    /* an authority without a port is a host alone */
    const bool has_port =
        sl_parse_address(sl_slice_str(authority), host, sizeof(host), &port, &is_unix) == SL_OK;
    transport->server_name = sl_strdup(has_port ? host : authority);
    return transport->server_name == NULL
               ? sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for a channel")
               : SL_OK;
}

enum sl_status sl_channel_new(
    const char *target,
    const struct sl_channel_options *options,
    struct sl_channel **ret_channel,
    struct sl_error *err)
{
    struct sl_channel_options all;
    SL_TRY(sl_channel_read_options(options, &all, err));
    struct net_transport *transport = sl_calloc(1, sizeof(*transport));
    if (transport == NULL || set_loop(transport, all.loop) != SL_OK) {
        (void)sl_free(transport);
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for a channel");
    }
    transport->tls = all.tls == NULL ? NULL : sl_net_tls_ref(all.tls);
    transport->connect_timeout_ms =
        all.connect_timeout_ms > 0 ? all.connect_timeout_ms : CONNECT_TIMEOUT_MS;
    const char *authority = NULL;
    const enum sl_status status = set_target(transport, target, all.authority, &authority, err);
    if (status != SL_OK) {
        free_transport(&transport->base);
        return status;
    }
    return sl_channel_make(&transport->base, target, authority, &all, ret_channel, err);
}
