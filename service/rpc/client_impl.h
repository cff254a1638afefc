/* The inside of the client: a channel has connections, a connection has streams of calls.
 *
 *   client.c         the channel: which connection takes a call, backoff, the end
 *   client_conn.c    one connection: socket, HTTP/2 session, keepalive
 *   client_stream.c  what happens to a call on the wire
 *   client_call.c    what the user does with a call
 *
 * Everything here belongs to the channel's loop. */
#ifndef SL_SERVICE_RPC_CLIENT_IMPL_H
#define SL_SERVICE_RPC_CLIENT_IMPL_H

#include "runtime/base/arena.h"
#include "runtime/base/buf.h"
#include "runtime/base/limits.h"
#include "runtime/base/list.h"
#include "runtime/base/loop.h"
#include "runtime/base/loop_uv.h"
#include "service/h2/h2.h"
#include "service/net/net.h"
#include "service/rpc/client.h"
#include "service/rpc/frame.h"
#include "service/rpc/headers.h"

enum {
    SL_CLIENT_QUEUE_BYTES = 256 * 1024, /* queued output of a call; one message always fits */
    SL_CLIENT_REPLAY_BYTES = 64 * 1024  /* kept for a retry of what was never processed */
};

struct sl_client_conn;

struct sl_channel {
    uint32_t magic;
    char *target, *authority, *user_agent;
    char *server_name;      /* that the certificate must have; NULL: the host of the target */
    struct sl_net_tls *tls; /* NULL: h2c */
    struct sl_limits limits;
    uint64_t connect_timeout_ms;
    struct sl_loop *loop;
    struct sl_loop_uv *own_loop; /* NULL: the user's loop */
    struct {
        struct sl_list waiting; /* calls without a stream, in order */
        struct sl_list others;  /* calls with one, and ended ones */
        struct sl_list conns;
        struct sl_client_conn *current; /* takes new calls, perhaps not connected yet */
        struct sl_task start;           /* brings waiting calls on their way */
        struct sl_timer retry;
        uint64_t keepalive_ms; /* 0: none */
        uint64_t retry_ns;     /* no new try before */
        unsigned n_failures;   /* in a row */
        struct sl_error failure;
        struct sl_channel_stats stats;
        bool is_freed;
    } own;
};

struct sl_client_call {
    uint32_t magic;
    const struct sl_method_desc *method;
    struct sl_client_call_options options; /* its strings and metadata are in the arena */
    enum sl_encoding encoding;
    struct sl_loop *loop;
    struct {
        struct sl_channel *channel; /* NULL: freed */
        struct sl_list node;        /* waiting or others */
        struct sl_h2_stream *stream;
        struct sl_client_conn *conn; /* of the stream */
        struct sl_h2_body body;
        struct sl_arena arena;         /* headers, trailers, details: the life of the call */
        struct sl_arena message_arena; /* the last message */
        struct sl_buf out;
        size_t out_at;
        bool is_kept;        /* sent bytes stay in `out`: the call may have to start again */
        bool is_retried;     /* it did */
        bool has_waited;     /* for the server's limit of streams */
        bool is_send_closed; /* sl_client_call_close_send() */
        bool is_send_full;   /* on_writable is owed */
        bool is_end_sent;    /* END_STREAM is out */
        struct sl_frame_reader reader;
        struct sl_metadata headers, trailers;
        bool has_headers;
        bool is_dropped;   /* ended here: what was received is not given any more */
        bool is_end_given; /* the user was told that the call is over */
        size_t n_messages;
        enum sl_status status; /* SL_PENDING: not over */
        struct sl_error error;
        struct sl_slice details;
        uint64_t deadline_ns;
        struct sl_timer deadline;
        struct sl_task notify;
        bool owes_readable, owes_writable;
        bool is_user_gone; /* freed; the stream still refers to it */
    } own;
};

/* ---- client.c -------------------------------------------------------------------------------- */

/* Waiting calls are looked at once, at the end of this turn. */
void sl_channel_wake(struct sl_channel *channel);
/* Makes the calling thread that of a private loop: the channel may have come from another one. */
void sl_channel_enter(const struct sl_channel *channel);
/* One turn of a private loop that waits until something happens; without `may_wait` not at all. */
void sl_channel_step(struct sl_channel *channel, bool may_wait);
/* From connections: it takes calls now; it takes no more (GOAWAY); it is gone. */
void sl_channel_on_ready(struct sl_channel *channel);
void sl_channel_on_draining(struct sl_channel *channel, const struct sl_client_conn *conn);
void sl_channel_on_gone(
    struct sl_channel *channel,
    const struct sl_client_conn *conn,
    bool was_ready,
    const struct sl_error *err);

/* ---- client_conn.c --------------------------------------------------------------------------- */

/* Starts to connect; the channel is told. Owns itself until it is gone. Fails: SL_INVALID_ARGUMENT,
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_client_conn_open(
    struct sl_channel *channel, struct sl_client_conn **ret_conn, struct sl_error *err);
bool sl_client_conn_is_ready(const struct sl_client_conn *conn);
struct sl_h2_session *sl_client_conn_session(const struct sl_client_conn *conn);
/* Why its streams ended: one sentence, naming the address. */
void sl_client_conn_explain(const struct sl_client_conn *conn, struct sl_error *err);
/* It takes no more calls, and ends with its last one. */
void sl_client_conn_drain(struct sl_client_conn *conn);
/* Ends it: what is queued goes out first, unless `now`. */
void sl_client_conn_close(struct sl_client_conn *conn, bool now);
struct sl_client_conn *sl_client_conn_of_node(struct sl_list *node);

/* ---- client_stream.c ------------------------------------------------------------------------- */

/* Opens the call's stream. SL_OK also when the call failed for itself. Fails: SL_AGAIN no stream
 * can be opened now; SL_UNAVAILABLE none will ever be on this connection. */
SL_CHECK enum sl_status
sl_client_call_start(struct sl_client_call *call, struct sl_client_conn *conn);
/* Ends the call here, once; the first end counts. `is_dropped`: messages that were not received by
 * the user are thrown away. */
SL_PRINTF(5, 6)
void sl_client_call_end(
    struct sl_client_call *call,
    enum sl_status status,
    enum sl_error_origin origin,
    bool is_dropped,
    const char *fmt,
    ...);
void sl_client_call_on_headers(struct sl_client_call *call, const struct sl_h2_headers *headers);
void sl_client_call_on_data(struct sl_client_call *call, struct sl_slice bytes);
void sl_client_call_on_end_stream(struct sl_client_call *call);
void sl_client_call_on_closed(struct sl_client_call *call, enum sl_h2_close how, uint32_t code);
/* Gives bytes that were taken back to flow control. */
void sl_client_call_credit(struct sl_client_call *call);
void sl_client_call_init_body(struct sl_client_call *call);

/* ---- client_call.c --------------------------------------------------------------------------- */

/* The user's callbacks are owed; they run at the end of this turn. */
void sl_client_call_notify(struct sl_client_call *call, bool is_readable, bool is_writable);
/* Frees a call that its user gave up, when no stream refers to it any more. */
void sl_client_call_release(struct sl_client_call *call);
/* The channel goes. */
void sl_client_call_orphan(struct sl_client_call *call);

#endif
