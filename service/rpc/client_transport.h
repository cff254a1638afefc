/* What a channel stands on: who brings the bytes of its connections, and whose time it has.
 *
 *   client_net.c      sockets and TLS, on the user's loop or on a private one
 *   channel_conn.c    the user's own hands (channel_conn.h)
 *
 * The channel's thread for everything here. */
#ifndef SL_SERVICE_RPC_CLIENT_TRANSPORT_H
#define SL_SERVICE_RPC_CLIENT_TRANSPORT_H

#include "runtime/base/loop.h"
#include "service/rpc/client.h"

struct sl_client_conn;
struct sl_client_transport;

/* A link is the transport's half of one connection. */
struct sl_client_transport_ops {
    /* Starts to connect: sl_client_conn_on_open() or _on_end() follows, never inside this call.
     * NULL: connections are given with sl_channel_adopt(). Fails: SL_INVALID_ARGUMENT,
     * SL_RESOURCE_EXHAUSTED. */
    enum sl_status (*open)(
        struct sl_client_transport *transport,
        struct sl_client_conn *conn,
        const char *target,
        void **ret_link,
        struct sl_error *err);
    /* sl_client_conn_pull() is wanted, soon and not inside this call. */
    void (*want_write)(void *link);
    /* What can be pulled goes out first, unless `now`; then sl_client_conn_on_end(), never inside
     * this call. Harmless when it is ending. */
    void (*close)(void *link, bool now);
    uint64_t (*last_read_ns)(const void *link);
    /* One turn of a private loop; waits until something happens, if it may. NULL: nobody waits. */
    void (*step)(struct sl_client_transport *transport, bool may_wait);
    /* The channel goes. */
    void (*free)(struct sl_client_transport *transport);
};

/* Embedded in that of the kind. */
struct sl_client_transport {
    const struct sl_client_transport_ops *ops;
    struct sl_loop *loop;
    bool owns_loop;      /* it goes with the channel; its calls may live longer */
    bool has_calls_time; /* the loop is nobody's who serves: its time comes from the user */
};

/* ---- client.c: for those who make channels --------------------------------------------------- */

/* Copies the options that were given; NULL: all zero. Fails: SL_INVALID_ARGUMENT. */
SL_CHECK enum sl_status sl_channel_read_options(
    const struct sl_channel_options *options, struct sl_channel_options *ret, struct sl_error *err);
/* `target` is what errors name. Owns: takes the transport, also when it fails. Fails:
 * SL_INVALID_ARGUMENT, SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_channel_make(
    struct sl_client_transport *transport,
    const char *target,
    const char *authority,
    const struct sl_channel_options *options,
    struct sl_channel **ret_channel,
    struct sl_error *err);
struct sl_client_transport *sl_channel_transport(const struct sl_channel *channel);
/* A connection is there that nobody asked for. Fails: SL_ALREADY_EXISTS there is one;
 * SL_FAILED_PRECONDITION the channel was freed; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_channel_adopt(struct sl_channel *channel, void *link, struct sl_client_conn **ret_conn);
/* None can be had: calls fail, unless they wait, and for a while none is wanted. */
void sl_channel_note_failure(struct sl_channel *channel, const char *why);
/* Calls wait for one. */
bool sl_channel_is_waiting(const struct sl_channel *channel);

/* ---- client_conn.c: what happens to a link --------------------------------------------------- */

/* Bytes pass now. */
void sl_client_conn_on_open(struct sl_client_conn *conn, bool is_tls);
void sl_client_conn_on_bytes(struct sl_client_conn *conn, struct sl_slice bytes);
/* Fills `room` with what to send and gives its size; 0: nothing now. */
size_t sl_client_conn_pull(struct sl_client_conn *conn, uint8_t *room, size_t room_bytes);
/* The link is gone, and so is the connection afterwards. `err` NULL: we closed it, or nobody knows
 * why. */
void sl_client_conn_on_end(struct sl_client_conn *conn, const struct sl_error *err);
/* Why it ends; status SL_OK: not known (yet). */
const struct sl_error *sl_client_conn_error(const struct sl_client_conn *conn);

#endif
