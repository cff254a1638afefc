/* The inside of the operations port.
 *
 *   ops.c    life, listener, the choice of protocol     http.c   requests and answers
 *   round.c  asks the loops                             collect.c, dump.c   what is told */
#ifndef SL_SERVICE_OPS_OPS_IMPL_H
#define SL_SERVICE_OPS_OPS_IMPL_H

#include <stdatomic.h>

#include "runtime/base/buf.h"
#include "runtime/base/list.h"
#include "runtime/base/loop_uv.h"
#include "runtime/base/metrics.h"
#include "runtime/runtime.h"
#include "service/gateway/http1.h"
#include "service/net/net.h"
#include "service/ops/ops.h"
#include "service/rpc/rpc.h"

enum {
    SL_OPS_CONNECTIONS = 64,
    SL_OPS_ANSWER_MS = 1000,          /* the loops have so long */
    SL_OPS_HEAD_MS = 10000,           /* a request, from its first byte to its last */
    SL_OPS_IDLE_MS = 120000,          /* between two requests */
    SL_OPS_BODY_BYTES = 1024,         /* of a request; nobody needs one */
    SL_OPS_WAITING_BYTES = 64 * 1024, /* requests behind the one that is being answered */
    SL_OPS_DUMP_BYTES = 16 << 20,     /* of one loop */
    SL_OPS_BODY_MAX_BYTES = 32 << 20, /* of an answer */
    SL_OPS_LAG_MS = 100
};

/* Each has all of those before it. */
enum sl_ops_want { SL_OPS_WANT_HEALTH, SL_OPS_WANT_METRICS, SL_OPS_WANT_DUMP };

/* One of the daemon's loops, and the question that goes there and back. */
struct sl_ops_loop {
    struct sl_ops *ops;
    struct sl_loop *loop;
    struct sl_task ask, answer, watch;
    struct {         /* of the ops loop */
        bool is_out; /* the question has not come back */
        uint64_t round;
    } own;
    enum sl_ops_want want;           /* set before the question goes */
    struct sl_runtime_memory memory; /* as it was asked for last */
    _Atomic uint64_t memory_bytes;   /* the sum of it */
    struct sl_buf dump;
    bool is_dump_cut;
    struct sl_timer lag_timer; /* of the daemon's loop */
    const struct sl_series *lag;
    _Atomic uint64_t last_lag_ns;
};

struct sl_ops {
    const struct sl_limits *limits;
    struct sl_limits own_limits; /* fewer connections */
    struct sl_server *server;
    struct sl_runtime *runtime;
    bool has_dump;
    _Atomic(const char *) why_unready;
    struct sl_loop_uv *uv;
    struct sl_loop *loop;
    struct sl_server *grpc;
    struct sl_net_listener *listener;
    char address[SL_NET_NAME_BYTES];
    pthread_t thread;
    bool has_thread;
    struct sl_task stop;
    size_t n_loops;
    struct sl_ops_loop *loops;
    struct { /* of the ops loop */
        struct sl_list conns;
        size_t n_conns; /* whose memory, or whose calls, are still there */
        bool is_stopping, is_listener_closed;
        struct sl_list waiting; /* connections whose answer needs the loops */
        struct sl_list asked;   /* those of the round that goes on */
        uint64_t round;
        size_t n_missing; /* loops that have not answered in this round */
        bool is_asking;
        enum sl_ops_want want;
        struct sl_timer timer;
    } own;
};

/* ---- http.c ------------------------------------------------------------------------------------
 */

/* A connection that speaks HTTP/1.1. */
struct sl_ops_http {
    struct sl_ops *ops;
    struct sl_net_conn *net;
    struct sl_http1 http1;
    struct sl_buf out, waiting;
    size_t n_sent;       /* of `out` */
    struct sl_list node; /* in own.waiting or own.asked */
    enum sl_ops_want want;
    bool is_head, keeps_alive; /* of the request that is being answered */
    bool is_answering, is_reading, is_closing;
    struct sl_timer timer;
};

void sl_ops_http_init(struct sl_ops_http *http, struct sl_ops *ops, struct sl_net_conn *net);
void sl_ops_http_done(struct sl_ops_http *http);
void sl_ops_http_bytes(struct sl_ops_http *http, struct sl_slice bytes);
size_t sl_ops_http_pull(struct sl_ops_http *http, uint8_t *room, size_t room_bytes);
/* The round that it waited for is over: `n_missing` loops have not answered. */
void sl_ops_http_answered(struct sl_ops_http *http, size_t n_missing);

/* ---- round.c -----------------------------------------------------------------------------------
 */

void sl_ops_round_init(struct sl_ops *ops);
void sl_ops_round_done(struct sl_ops *ops);
/* Starts the lag timers of the daemon's loops. */
void sl_ops_watch(struct sl_ops *ops);
/* sl_ops_http_answered() follows, not inside this call. */
void sl_ops_ask(struct sl_ops *ops, struct sl_ops_http *http);

/* ---- collect.c, dump.c -------------------------------------------------------------------------
 */

/* All metrics, with what others count brought up to date. */
SL_CHECK enum sl_status sl_ops_collect(struct sl_ops *ops, struct sl_buf *out);
/* Memory of runs, as the loops have said last. */
uint64_t sl_ops_runs_memory(const struct sl_ops *ops);
/* What one loop has, as JSON; on that loop. */
SL_CHECK enum sl_status sl_ops_dump_loop(struct sl_ops_loop *at, struct sl_buf *out);
/* All of it, from the parts of the loops that have answered. */
SL_CHECK enum sl_status sl_ops_dump(struct sl_ops *ops, struct sl_buf *out);

#endif
