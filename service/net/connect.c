/* Connections that we open: name look-up, then its addresses, the families in turns. Each address
 * has a short time for itself; then the next is tried beside it (RFC 8305), and the first that
 * answers wins. One timer of the connection bounds all of it. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "runtime/base/loop_uv.h"
#include "service/net/conn_impl.h"

enum { LINGER_MS = 1000, NEXT_TRY_MS = 250, MAX_ADDRESSES = 16, TCP_TIMEOUT_MS = 50000 };

/* A look-up outlives its connection until libuv has called back. */
struct lookup {
    uv_getaddrinfo_t uv;
    struct sl_net_connecting *owner; /* NULL: nobody waits any more */
};

/* A socket that is not connected yet. Its handle outlives it until libuv has closed it. */
struct attempt {
    uv_poll_t uv;
    struct sl_net_connecting *owner; /* NULL: closing */
    int fd;
    struct sl_net_address address;
};

struct sl_net_connecting {
    struct sl_net_conn *conn;
    struct lookup *lookup;
    struct sl_net_address addresses[MAX_ADDRESSES]; /* in the order of trying */
    size_t n_addresses, n_tried;
    struct attempt *attempts[MAX_ADDRESSES]; /* of each address; NULL: none, or over */
    size_t n_attempts;
    struct sl_timer next;
    int last_errno;
    char server_name[SL_NET_HOST_BYTES];
};

/* ---- One address ----------------------------------------------------------------------------- */

static void on_attempt_closed(uv_handle_t *handle)
{
    (void)sl_free(handle->data);
}

/* Gives the descriptor away: the caller's to use or to close. */
static int end_attempt(struct sl_net_connecting *connecting, struct attempt *attempt)
{
    for (size_t i = 0; i < connecting->n_tried; i++) {
        if (connecting->attempts[i] == attempt) {
            connecting->attempts[i] = NULL;
        }
    }
    connecting->n_attempts--;
    attempt->owner = NULL;
    uv_close((uv_handle_t *)&attempt->uv, on_attempt_closed);
    return attempt->fd;
}

static void drop_attempts(struct sl_net_connecting *connecting)
{
    for (size_t i = 0; i < connecting->n_tried; i++) {
        if (connecting->attempts[i] != NULL) {
            (void)close(end_attempt(connecting, connecting->attempts[i]));
        }
    }
}

void sl_net_connecting_free(struct sl_net_connecting *connecting)
{
    if (connecting == NULL) {
        return;
    }
    if (connecting->lookup != NULL) {
        connecting->lookup->owner = NULL;
        (void)uv_cancel((uv_req_t *)&connecting->lookup->uv); /* or it ends in its own time */
    }
    sl_timer_stop(&connecting->next);
    drop_attempts(connecting);
    (void)sl_free(connecting);
}

static void try_next(struct sl_net_connecting *connecting);

static void win(struct sl_net_connecting *connecting, struct attempt *attempt)
{
    struct sl_net_conn *conn = connecting->conn;
    sl_net_address_format(&attempt->address, conn->peer, sizeof(conn->peer));
    const int fd = end_attempt(connecting, attempt);
    if (sl_net_conn_adopt(conn, fd) != SL_OK) {
        (void)close(fd);
        sl_net_conn_end(conn, SL_NET_END_RESET, ENOMEM, "cannot connect");
        return;
    }
    conn->connecting = NULL;
    sl_net_conn_connected(conn, connecting->server_name);
    sl_net_connecting_free(connecting);
}

static void on_writable(uv_poll_t *uv, int status, int events)
{
    (void)events;
    struct attempt *attempt = uv->data;
    struct sl_net_connecting *connecting = attempt->owner;
    int error = 0;
    socklen_t size = sizeof(error);
    if (connecting == NULL || connecting->conn->state != SL_NET_CONNECTING) {
        return;
    }
    if (getsockopt(attempt->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
        error = errno;
    }
    if (error == 0 && status < 0) { /* libuv's own words tell less than the socket */
        error = -status;
    }
    if (error == 0) {
        win(connecting, attempt);
        return;
    }
    connecting->last_errno = error;
    sl_net_address_format(
        &attempt->address, connecting->conn->peer, sizeof(connecting->conn->peer));
    (void)close(end_attempt(connecting, attempt));
    try_next(connecting);
}

/* Fails: 0, or errno. The attempt owns `fd` when this succeeds. */
static int begin_attempt(
    struct sl_net_connecting *connecting,
    size_t index,
    const struct sl_net_address *address,
    int fd)
{
    struct attempt *attempt = sl_calloc(1, sizeof(*attempt));
    if (attempt == NULL) {
        return ENOMEM;
    }
    if (uv_poll_init(sl_loop_uv_handle(connecting->conn->loop), &attempt->uv, fd) != 0) {
        (void)sl_free(attempt);
        return ENOMEM;
    }
    attempt->uv.data = attempt;
    attempt->owner = connecting;
    attempt->fd = fd;
    attempt->address = *address;
    connecting->attempts[index] = attempt;
    connecting->n_attempts++;
    (void)uv_poll_start(&attempt->uv, UV_WRITABLE, on_writable);
    return 0;
}

/* True: the answer will come as an event. */
static bool try_address(struct sl_net_connecting *connecting, size_t index)
{
    const struct sl_net_address *address = &connecting->addresses[index];
    struct sl_net_conn *conn = connecting->conn;
    const int family = address->as.any.sa_family;
    const int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        connecting->last_errno = errno;
        return false;
    }
    if (family != AF_UNIX) {
        sl_net_socket_tune(fd, TCP_TIMEOUT_MS);
    }
    sl_net_address_format(address, conn->peer, sizeof(conn->peer));
    const bool has_begun =
        connect(fd, &address->as.any, address->size) == 0 || errno == EINPROGRESS;
    const int error = has_begun ? begin_attempt(connecting, index, address, fd) : errno;
    if (error != 0) {
        connecting->last_errno = error;
        (void)close(fd);
    }
    return error == 0;
}

/* ---- All addresses --------------------------------------------------------------------------- */

static void try_next(struct sl_net_connecting *connecting)
{
    bool has_begun = false;
    while (!has_begun && connecting->n_tried < connecting->n_addresses) {
        has_begun = try_address(connecting, connecting->n_tried++);
    }
    if (connecting->n_attempts == 0) {
        sl_net_conn_end(
            connecting->conn, SL_NET_END_RESET, connecting->last_errno, "cannot connect");
    } else if (connecting->n_tried < connecting->n_addresses) {
        sl_timer_start_ms(&connecting->next, NEXT_TRY_MS);
    }
}

static void on_next(void *user_data)
{
    struct sl_net_connecting *connecting = user_data;
    if (connecting->conn->state == SL_NET_CONNECTING) {
        try_next(connecting);
    }
}

/* The next address whose family is, or is not, this one. */
static const struct addrinfo *skip_to(const struct addrinfo *info, int family, bool is_same)
{
    while (info != NULL && (info->ai_family == family) != is_same) {
        info = info->ai_next;
    }
    return info;
}

static void add_address(struct sl_net_connecting *connecting, const struct addrinfo *info)
{
    struct sl_net_address *address = &connecting->addresses[connecting->n_addresses++];
    memcpy(&address->as, info->ai_addr, info->ai_addrlen);
    address->size = info->ai_addrlen;
}

/* The look-up's order, but the first family and the others take turns: one that does not work costs
 * one try and not all. */
static void set_addresses(struct sl_net_connecting *connecting, const struct addrinfo *found)
{
    const int family = found == NULL ? AF_UNSPEC : found->ai_family;
    const struct addrinfo *same = found;
    const struct addrinfo *other = skip_to(found, family, false);
    while ((same != NULL || other != NULL) && connecting->n_addresses < MAX_ADDRESSES) {
        if (same != NULL) {
            add_address(connecting, same);
            same = skip_to(same->ai_next, family, true);
        }
        if (other != NULL && connecting->n_addresses < MAX_ADDRESSES) {
            add_address(connecting, other);
            other = skip_to(other->ai_next, family, false);
        }
    }
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
    set_addresses(connecting, found);
    uv_freeaddrinfo(found);
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
    const enum sl_status status = sl_net_address_of(target, &connecting->addresses[0]);
    if (status == SL_NOT_FOUND) {
        return look_up(connecting, target);
    }
    SL_TRY(status);
    connecting->n_addresses = 1;
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
    sl_timer_init(&connecting->next, loop, on_next, connecting);
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
