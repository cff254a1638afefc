/* The inside of a connection, for the files that make it up: conn.c (life, feed and pull),
 * conn_timers.c (every wait has a timer, CM-13), admission.c (ADM-1 to ADM-16), call*.c.
 *
 *   sl_h2 callbacks ─▶ conn.c ─▶ admission.c ─▶ new call
 *                          └───▶ call_recv.c / call_end.c
 *   events of calls ─▶ ready list ─▶ handlers, at the end of feed, or deferred on the loop
 *
 * The memory stays until the owner has freed the connection and every handler has finished. */
#ifndef SL_SERVICE_RPC_CONN_IMPL_H
#define SL_SERVICE_RPC_CONN_IMPL_H

#include "runtime/base/list.h"
#include "service/h2/h2.h"
#include "service/rpc/chain.h"
#include "service/rpc/conn.h"
#include "service/rpc/server_core.h"

enum sl_drain_step {
    SL_DRAIN_NONE,
    SL_DRAIN_ANNOUNCED, /* GOAWAY(2^31-1) and a PING are out; calls are still accepted */
    SL_DRAIN_FINAL,     /* GOAWAY(last id) is out; what runs may finish */
    SL_DRAIN_ENDING,    /* time is over: handlers were told SL_CALL_DRAIN */
    SL_DRAIN_FORCED     /* whatever was left has been ended */
};

struct sl_conn {
    struct sl_server *server;
    struct sl_limits_shot *shot;
    const struct sl_limits *limits; /* in the shot: the server's when it came */
    struct sl_rpc_counters *counters;
    struct sl_h2_session *h2; /* NULL: freed */
    struct sl_loop *loop;     /* the user's, or own_loop */
    struct sl_loop *own_loop; /* without a loop of the user's: only its timers and tasks are used */
    char *peer;
    char *peer_names; /* NULL: no certificate */
    void (*on_output)(void *user_data);
    void *user_data;
    void (*on_released)(void *user_data); /* the memory goes: every handler has finished */
    void *released_user;

    size_t n_refs;  /* the owner, and each call */
    bool is_dead;   /* nothing will be read or written any more */
    bool is_inside; /* in feed or pull: the caller asks for output anyway */
    bool is_attack_counted, is_fault_counted;
    bool is_at_limit;   /* counted as at_stream_limit */
    bool is_reset_loss; /* a RST_STREAM of the peer's is the end of somebody's connection */
    uint64_t now_ns;    /* as given by the last feed or pull */

    struct sl_list calls;     /* that have a stream */
    struct sl_list unwinding; /* the others: their handlers have not finished */
    struct sl_list plains;    /* streams that are not gRPC's (plain.c), by their last progress */
    size_t n_running[SL_CLASS_COUNT]; /* tasks, also of streams that are gone (NG-2) */
    size_t n_counted;                 /* streams that the gauge knows of */
    size_t n_told;                    /* streams that the sources know of */
    uint64_t n_counted_bytes;         /* the same of sl_conn_memory_bytes() */
    struct sl_chain_pool pool;
    uint64_t queued_bytes;   /* in the send queues of its calls */
    uint64_t reply_bytes;    /* the same, of methods that have one reply */
    uint64_t send_share;     /* of the process's (send_total.h) */
    uint64_t received_bytes; /* in requests of its calls that are not complete */
    uint64_t received_share; /* of the server's */

    struct sl_call *ready_first, *ready_last; /* calls with events */
    struct sl_task ready_task;

    /* Timers: lists are in the order of the last progress, so only their heads are looked at. */
    struct sl_timer tick;
    struct sl_list stalled; /* calls with queued output */
    struct sl_list gaps;    /* calls inside a request message */
    struct sl_list waiting; /* calls that want room besides their own (call_room.c) */
    uint64_t room_due_ns;   /* when they ask again; SL_NEVER_NS: nobody does */
    uint64_t created_ns, last_read_ns;
    uint64_t headers_since_ns; /* SL_NEVER_NS: no header block is open */
    uint64_t n_header_blocks;  /* which one */
    uint64_t ping_sent_ns;     /* SL_NEVER_NS: no keepalive PING is unanswered */
    uint64_t age_due_ns;       /* SL_NEVER_NS: no limit */
    uint64_t grace_due_ns;     /* of an aged connection; SL_NEVER_NS: none */
    uint64_t idle_since_ns;    /* while it has no call */
    enum sl_drain_step drain;
    const char *drain_why;
    uint64_t drain_step_ns;  /* when the next step is due */
    uint64_t drain_force_ns; /* SL_NEVER_NS: never */
};

/* Something to write appeared, or the connection wants to be closed. */
void sl_conn_notify(struct sl_conn *conn);
/* Runs the events of calls. Not from inside a handler. */
void sl_conn_dispatch(struct sl_conn *conn);
/* Runs those of the calls whose stream is gone; the others wait. Not from inside a handler. */
void sl_conn_dispatch_ended(struct sl_conn *conn);
/* It may have no further call of this class (ADM-9). */
bool sl_conn_is_full(const struct sl_conn *conn, enum sl_call_class call_class);
void sl_conn_ref(struct sl_conn *conn);
/* The last one releases the memory. */
void sl_conn_unref(struct sl_conn *conn);
/* Called when the memory goes, for server.c. */
void sl_conn_set_released(
    struct sl_conn *conn, void (*on_released)(void *user_data), void *user_data);
/* Of a freed connection: handlers that have not finished are given up and their calls' records go.
 * Gives how many they were. The connection is gone afterwards. */
size_t sl_conn_give_up_handlers(struct sl_conn *conn);
uint64_t sl_conn_now_ns(const struct sl_conn *conn);

/* The connection ends because of what the peer did; the first reason counts. NULL: nothing. */
void sl_conn_count_fault(struct sl_conn *conn, const char *reason);

/* ---- conn_timers.c --------------------------------------------------------------------------- */

/* Begins all timers now. At level 1 the first feed or pull tells what time it is. */
void sl_conn_timers_init(struct sl_conn *conn);
/* Something changed that may bring a timer nearer. */
void sl_conn_timers_arm(struct sl_conn *conn);
void sl_conn_ping_acked(struct sl_conn *conn, uint64_t payload);

/* ---- call_room.c ----------------------------------------------------------------------------- */

/* Calls that wait for room ask again. */
void sl_conn_ask_again(struct sl_conn *conn);

/* ---- plain.c --------------------------------------------------------------------------------- */

struct sl_headers;
/* False: nobody wants a request that is not gRPC's. */
bool sl_plain_admit(
    struct sl_conn *conn, struct sl_h2_stream *stream, const struct sl_headers *parsed);
/* Of a stream that has no call; both may find that it is not theirs. */
void sl_plain_on_end_stream(struct sl_conn *conn, struct sl_h2_stream *stream);
void sl_plain_on_closed(struct sl_conn *conn, struct sl_h2_stream *stream);
/* When the one without progress longest has had its time (CM-13); SL_NEVER_NS: there is none. */
uint64_t sl_plain_due_ns(const struct sl_conn *conn);
/* Resets those whose time is over. */
void sl_plain_end_due(struct sl_conn *conn, uint64_t now_ns);

/* ---- admission.c ----------------------------------------------------------------------------- */

/* A request's header block: refuses it, or makes a call of it. */
void sl_conn_admit(
    struct sl_conn *conn, struct sl_h2_stream *stream, const struct sl_h2_headers *headers);

#endif
