/* The inside of the client: a channel has connections, a connection has streams of calls.
 *
 *   client.c         the channel: which connection takes a call, backoff, the end
 *   client_conn.c    one connection: HTTP/2 session, keepalive
 *   client_stream.c  what happens to a call on the wire
 *   client_call.c    what the user does with a call
 *   client_retry.c   whether and when a call is tried again
 *   client_chain.c   interceptors
 *   client_config.c  the service config: what holds for which method
 *   client_net.c, channel_conn.c   who brings the bytes (client_transport.h)
 *
 * Everything here belongs to the channel's loop. */
#ifndef SL_SERVICE_RPC_CLIENT_IMPL_H
#define SL_SERVICE_RPC_CLIENT_IMPL_H

#include "runtime/base/arena.h"
#include "runtime/base/buf.h"
#include "runtime/base/limits.h"
#include "runtime/base/list.h"
#include "runtime/base/loop.h"
#include "service/h2/h2.h"
#include "service/rpc/call_watch.h"
#include "service/rpc/client.h"
#include "service/rpc/client_throttle.h"
#include "service/rpc/client_transport.h"
#include "service/rpc/deadline.h"
#include "service/rpc/frame.h"
#include "service/rpc/headers.h"

enum {
    SL_CLIENT_QUEUE_BYTES = 256 * 1024, /* queued output of a call; one message always fits */
    SL_CLIENT_SENT_BYTES = 64 * 1024    /* sent bytes that may lie before what is queued */
};

/* How far a call got that failed before response headers came. */
enum sl_client_failure {
    SL_CLIENT_UNSENT,      /* it never left */
    SL_CLIENT_UNPROCESSED, /* the server's library refused it: no handler has seen it */
    SL_CLIENT_FAILED       /* anything else: a policy decides */
};

struct sl_client_conn;

/* Of a time that the user gave: longer ones become the longest. */
static inline uint64_t sl_client_ms_to_ns(uint64_t ms)
{
    return ms > SL_TIMEOUT_MAX_NS / SL_NS_PER_MS ? SL_TIMEOUT_MAX_NS : ms * SL_NS_PER_MS;
}

struct sl_channel {
    uint32_t magic;
    char *target, *authority, *user_agent;
    char *authorization; /* of each call; NULL: none */
    struct sl_limits limits;
    bool is_retry_disabled;
    bool pings_without_calls;
    size_t retry_call_bytes, retry_channel_bytes;
    struct sl_method_config *methods;
    size_t n_methods;
    struct sl_client_interceptor *interceptors;
    size_t n_interceptors;
    struct sl_client_transport *transport;
    struct sl_loop *loop; /* the transport's */
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
        struct sl_client_throttle throttle;
        bool is_freed;
    } own;
};

struct sl_client_retry {
    const struct sl_retry_policy *policy; /* NULL: none */
    size_t kept_bytes;                    /* counted in the channel's retry_bytes */
    uint32_t n_retries;                   /* grpc-previous-rpc-attempts */
    uint32_t n_backoffs;                  /* since the server last said how long to wait */
    bool is_transparent_used;
    bool is_decided; /* the next attempt begins at due_ns, when the stream is gone */
    uint64_t due_ns;
    struct sl_timer timer;
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
        bool is_kept;        /* not committed: sent bytes stay in `out` */
        bool has_waited;     /* for the server's limit of streams */
        bool is_send_closed; /* sl_client_call_close_send() */
        bool is_send_full;   /* on_writable is owed */
        bool is_end_sent;    /* END_STREAM is out */
        bool is_plain;       /* what is queued now is not compressed */
        bool is_packed;      /* the last message received was compressed */
        struct sl_frame_reader reader;
        struct sl_client_retry retry;
        struct sl_metadata metadata; /* of the request */
        struct sl_metadata headers, trailers;
        bool has_headers;
        bool is_dropped;   /* ended here: what was received is not given any more */
        bool is_end_given; /* the user was told that the call is over */
        size_t n_messages;
        enum sl_status status; /* SL_PENDING: not over */
        struct sl_error error;
        struct sl_slice details;
        const struct sl_error_info *error_info; /* decoded when it was first asked for */
        uint64_t deadline_ns;
        struct sl_timer deadline;
        struct sl_task notify;
        struct sl_call_watch watch; /* of the parent */
        size_t n_intercepted;
        bool is_starting; /* inside on_start of interceptors */
        bool owes_readable, owes_writable;
        bool is_user_gone; /* freed; the stream still refers to it */
    } own;
};

/* ---- client.c -------------------------------------------------------------------------------- */

/* Waiting calls are looked at once, at the end of this turn. */
void sl_channel_wake(struct sl_channel *channel);
/* True: it has a private loop, and functions that have to wait turn it. */
bool sl_channel_may_wait(const struct sl_channel *channel);
/* Makes the calling thread that of a private loop: the channel may have come from another one. */
void sl_channel_enter(const struct sl_channel *channel);
/* One turn of a private loop that waits until something happens; without `may_wait` not at all. */
void sl_channel_step(struct sl_channel *channel, bool may_wait);
/* From connections: it takes calls now; it takes no more (GOAWAY); it is gone. One that goes
 * without having carried a call, while calls wait, counts as a failure to connect: else a server
 * that greets and leaves would be asked again without a pause. */
void sl_channel_on_ready(struct sl_channel *channel);
void sl_channel_on_draining(
    struct sl_channel *channel,
    const struct sl_client_conn *conn,
    bool is_used,
    const struct sl_error *err);
void sl_channel_on_gone(
    struct sl_channel *channel,
    const struct sl_client_conn *conn,
    bool was_ready,
    bool was_used,
    const struct sl_error *err);
/* The server finds the PINGs too frequent (A8). */
void sl_channel_calm_keepalive(struct sl_channel *channel);

/* ---- client_conn.c --------------------------------------------------------------------------- */

/* Starts to connect; the channel is told. Owns itself until it is gone. Fails: SL_INVALID_ARGUMENT,
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_client_conn_open(
    struct sl_channel *channel, struct sl_client_conn **ret_conn, struct sl_error *err);
/* The same with a link that is there; sl_client_conn_on_open() follows. Fails:
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_client_conn_adopt(struct sl_channel *channel, void *link, struct sl_client_conn **ret_conn);
bool sl_client_conn_is_tls(const struct sl_client_conn *conn);
bool sl_client_conn_is_ready(const struct sl_client_conn *conn);
struct sl_h2_session *sl_client_conn_session(const struct sl_client_conn *conn);
/* The HEADERS of a call went out on it. */
void sl_client_conn_note_used(struct sl_client_conn *conn);
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

/* ---- client_retry.c -------------------------------------------------------------------------- */

/* Before the first attempt; `policy` may be NULL. */
void sl_client_retry_init(struct sl_client_call *call, const struct sl_retry_policy *policy);
/* The call is over. */
void sl_client_retry_done(struct sl_client_call *call);
/* More was queued: it is kept too, or the call is committed. */
void sl_client_retry_count(struct sl_client_call *call);
/* No further attempt will be made: what was sent need not be kept. */
void sl_client_retry_commit(struct sl_client_call *call);
/* An attempt failed with `status`, and own.trailers are its. True: the call will be tried again,
 * and the caller leaves it alone. */
bool sl_client_retry_wants(
    struct sl_client_call *call, enum sl_status status, enum sl_client_failure how);
/* The stream of a failed attempt is gone. */
void sl_client_retry_go(struct sl_client_call *call);

/* ---- client_chain.c -------------------------------------------------------------------------- */

/* Fails: with what an interceptor gave. */
SL_CHECK enum sl_status sl_client_chain_start(struct sl_client_call *call, struct sl_error *err);
void sl_client_chain_headers(struct sl_client_call *call);
void sl_client_chain_message(struct sl_client_call *call, struct sl_slice message, bool is_in);
void sl_client_chain_end(struct sl_client_call *call);

/* ---- client_config.c ------------------------------------------------------------------------- */

/* Fails: SL_INVALID_ARGUMENT, SL_RESOURCE_EXHAUSTED; sl_client_config_done() in any case. */
SL_CHECK enum sl_status sl_client_config_copy(
    struct sl_channel *channel, const struct sl_service_config *given, struct sl_error *err);
void sl_client_config_done(struct sl_channel *channel);
/* What holds for this method; NULL: nothing. */
const struct sl_method_config *
sl_client_config_find(const struct sl_channel *channel, const char *path);

/* ---- client_call.c --------------------------------------------------------------------------- */

/* The user's callbacks are owed; they run at the end of this turn. */
void sl_client_call_notify(struct sl_client_call *call, bool is_readable, bool is_writable);
/* Frees a call that its user gave up, when no stream refers to it any more. */
void sl_client_call_release(struct sl_client_call *call);
/* The deadline is at most so far away. */
void sl_client_call_limit_deadline(struct sl_client_call *call, uint64_t timeout_ns);
/* The channel goes. */
void sl_client_call_orphan(struct sl_client_call *call);

#endif
