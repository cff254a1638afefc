/* Connections that we open: name look-up, then each address in turn until one answers. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "runtime/base/loop_uv.h"
#include "service/net/conn_impl.h"

enum { LINGER_MS = 1000 };

/* A look-up outlives its connection until libuv has called back. */
struct lookup {
    uv_getaddrinfo_t uv;
    struct sl_net_connecting *owner; /* NULL: nobody waits any more */
};

struct sl_net_connecting {
    struct sl_net_conn *conn;
    struct lookup *lookup;
    struct addrinfo *found; /* of the look-up; NULL: `address` alone */
    const struct addrinfo *next;
    struct sl_net_address address;
    bool has_address; /* not tried yet */
    int last_errno;
    char server_name[SL_NET_HOST_BYTES];
};

void sl_net_connecting_free(struct sl_net_connecting *connecting)
{
    if (connecting == NULL) {
        return;
    }
    if (connecting->lookup != NULL) {
        connecting->lookup->owner = NULL;
        (void)uv_cancel((uv_req_t *)&connecting->lookup->uv); /* or it ends in its own time */
    }
    uv_freeaddrinfo(connecting->found);
    (void)sl_free(connecting);
}

static bool next_address(struct sl_net_connecting *connecting, struct sl_net_address *ret_address)
{
    if (connecting->has_address) {
        connecting->has_address = false;
        *ret_address = connecting->address;
        return true;
    }
    const struct addrinfo *info = connecting->next;
    if (info == NULL) {
        return false;
    }
    connecting->next = info->ai_next;
    memset(ret_address, 0, sizeof(*ret_address));
    memcpy(&ret_address->as, info->ai_addr, info->ai_addrlen);
    ret_address->size = info->ai_addrlen;
    return true;
}

/* True: the answer will come as an event. */
static bool try_address(struct sl_net_connecting *connecting, const struct sl_net_address *address)
{
    struct sl_net_conn *conn = connecting->conn;
    const int family = address->as.any.sa_family;
    const int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        connecting->last_errno = errno;
        return false;
    }
    if (family != AF_UNIX) {
        sl_net_socket_tune(fd);
    }
    sl_net_address_format(address, conn->peer, sizeof(conn->peer));
    if (connect(fd, &address->as.any, address->size) != 0 && errno != EINPROGRESS) {
        connecting->last_errno = errno;
        (void)close(fd);
        return false;
    }
    if (sl_net_conn_adopt(conn, fd) != SL_OK) {
        connecting->last_errno = ENOMEM;
        (void)close(fd);
        return false;
    }
    sl_net_conn_wait_for(conn, UV_WRITABLE);
    return true;
}

static void try_next(struct sl_net_connecting *connecting)
{
    struct sl_net_address address;
    while (next_address(connecting, &address)) {
        if (try_address(connecting, &address)) {
            return;
        }
    }
    sl_net_conn_end(connecting->conn, SL_NET_END_RESET, connecting->last_errno, "cannot connect");
}

void sl_net_connecting_writable(struct sl_net_conn *conn)
{
    struct sl_net_connecting *connecting = conn->connecting;
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
        error = errno;
    }
    if (error != 0) {
        connecting->last_errno = error;
        sl_net_conn_drop_fd(conn);
        try_next(connecting);
        return;
    }
    conn->connecting = NULL;
    sl_net_conn_connected(conn, connecting->server_name);
    sl_net_connecting_free(connecting);
}

static void on_found(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct lookup *lookup = request->data;
    struct sl_net_connecting *connecting = lookup->owner;
    (void)sl_free(lookup);
    if (connecting != NULL) {
        connecting->lookup = NULL;
    }
    if (connecting == NULL || connecting->conn->state != SL_NET_CONNECTING) {
        uv_freeaddrinfo(found);
        return;
    }
    if (status != 0) {
        sl_net_conn_end(
            connecting->conn, SL_NET_END_RESET, -status, "the name cannot be looked up");
        return;
    }
    connecting->found = found;
    connecting->next = found;
    try_next(connecting);
}

static enum sl_status
look_up(struct sl_net_connecting *connecting, const struct sl_net_target *target)
{
    struct lookup *lookup = sl_calloc(1, sizeof(*lookup));
    if (lookup == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
    char port[8];
    (void)snprintf(port, sizeof(port), "%u", target->port);
    lookup->uv.data = lookup;
    lookup->owner = connecting;
    if (uv_getaddrinfo(
            sl_loop_uv_handle(connecting->conn->loop), &lookup->uv, on_found, target->host, port,
            &hints) != 0) {
        (void)sl_free(lookup);
        return SL_RESOURCE_EXHAUSTED;
    }
    connecting->lookup = lookup;
    return SL_OK;
}

/* Numeric addresses and paths need no look-up; what fails at once ends the connection by on_end. */
static enum sl_status begin(struct sl_net_conn *conn, const struct sl_net_target *target)
{
    struct sl_net_connecting *connecting = conn->connecting;
    (void)snprintf(conn->peer, sizeof(conn->peer), "%.60s", target->host);
    const enum sl_status status = sl_net_address_of(target, &connecting->address);
    if (status == SL_NOT_FOUND) {
        return look_up(connecting, target);
    }
    SL_TRY(status);
    connecting->has_address = true;
    try_next(connecting);
    return SL_OK;
}

enum sl_status sl_net_connect(
    struct sl_loop *loop,
    const struct sl_net_connect_options *options,
    const struct sl_net_callbacks *callbacks,
    void *user_data,
    struct sl_net_conn **ret_conn,
    struct sl_error *err)
{
    SL_ON_LOOP(loop);
    struct sl_net_target target;
    SL_TRY(sl_net_target_parse(options->address, &target, err));
    struct sl_net_conn *conn = sl_net_conn_new(loop, LINGER_MS);
    struct sl_net_connecting *connecting = sl_calloc(1, sizeof(*connecting));
    if (conn == NULL || connecting == NULL) {
        if (conn != NULL) {
            sl_net_conn_free(conn);
        }
        (void)sl_free(connecting);
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for a connection");
    }
    conn->connecting = connecting;
    conn->callbacks = callbacks;
    conn->user_data = user_data;
    conn->tls = options->tls == NULL ? NULL : sl_net_tls_ref(options->tls);
    connecting->conn = conn;
    (void)snprintf(
        connecting->server_name, sizeof(connecting->server_name), "%s",
        options->server_name == NULL ? target.host : options->server_name);
    const enum sl_status status = begin(conn, &target);
    if (status != SL_OK) {
        sl_net_conn_free(conn);
        return sl_fail(err, status, "cannot connect to '%s'", options->address);
    }
    if (conn->state == SL_NET_CONNECTING) {
        sl_timer_start_ms(&conn->timer, options->timeout_ms);
    }
    *ret_conn = conn;
    return SL_OK;
}
