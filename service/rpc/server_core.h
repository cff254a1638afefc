/* The part of a server that needs no sockets: what is registered, limits, counters. Registration
 * happens before the first connection; afterwards all but the counters and `is_refusing` is
 * constant, and any thread may read it. */
#ifndef SL_SERVICE_RPC_SERVER_CORE_H
#define SL_SERVICE_RPC_SERVER_CORE_H

#include <stdatomic.h>

#include "service/rpc/plain.h"
#include "service/rpc/pool_call.h"
#include "service/rpc/routes.h"
#include "service/rpc/server.h"

#define SL_RPC_COUNTER_MAP(X)                                                                      \
    X(connections)                                                                                 \
    X(connections_total)                                                                           \
    X(streams)                                                                                     \
    X(calls_started)                                                                               \
    X(calls_finished)                                                                              \
    X(calls_running)                                                                               \
    X(messages_in)                                                                                 \
    X(messages_out)                                                                                \
    X(bytes_in)                                                                                    \
    X(bytes_out)                                                                                   \
    X(connection_bytes)                                                                            \
    X(attacks)                                                                                     \
    X(at_stream_limit)

/* The counters of one loop; gauges go down by adding the two's complement. */
struct sl_rpc_counters {
#define SL_RPC_COUNTER_FIELD(name) _Atomic uint64_t name;
    SL_RPC_COUNTER_MAP(SL_RPC_COUNTER_FIELD)
#undef SL_RPC_COUNTER_FIELD
    _Atomic uint64_t calls_by_status[17];
    char padding[64]; /* two loops never write to one cache line */
};

#define SL_RPC_COUNT(counters, name, n)                                                            \
    ((void)atomic_fetch_add_explicit(&(counters)->name, (uint64_t)(n), memory_order_relaxed))

/* Limits as they were when a connection came. Counted, constant. */
struct sl_limits_shot {
    atomic_size_t n_refs;
    struct sl_limits limits;
};

struct sl_runner; /* listeners and loops: server.c */

struct sl_server {
    struct sl_loop **loops;
    size_t n_loops; /* 0: the server makes its own */
    bool allow_pings_without_calls;
    bool is_reset_loss; /* of the listeners to come */
    size_t n_pool_threads;
    struct sl_pool *pool; /* of server.c; NULL: none */
    struct sl_routes routes;
    struct sl_interceptor *interceptors;
    size_t n_interceptors;
    bool sees_messages; /* one of them does */
    sl_plain_fn *plain; /* NULL: requests that are not gRPC are refused */
    void *plain_user;
    const struct sl_service_desc **services;
    size_t n_services;
    const struct sl_metadatum *error_info; /* borrowed */
    size_t n_error_info;                   /* 0: errors have an ErrorInfo only where one is given */
    struct sl_rpc_counters *counters;      /* one per loop, at least one */
    size_t n_counters;
    atomic_bool is_refusing;
    struct {
        pthread_mutex_t lock;
        struct sl_limits_shot *limits; /* of new connections */
        bool is_stop_owed;             /* sl_server_stop() came before there was a runner */
        uint64_t stop_timeout_ms;
    } shared;
    /* Set by server.c, so that the core needs no sockets. */
    struct sl_runner *runner;
    void (*free_runner)(struct sl_runner *runner);
    char padding[64];        /* what is constant stays in the caches of all loops */
    atomic_size_t n_running; /* tasks that have a place, of all connections */
    /* In requests that are not complete, of all connections; each hands over steps of 4 KiB. */
    _Atomic uint64_t received_bytes;
};

/* The counters for connections of this loop (NULL: without a loop). */
struct sl_rpc_counters *
sl_server_counters(const struct sl_server *server, const struct sl_loop *loop);

/* `reason`, when all errors of this server have one; NULL otherwise. */
const char *sl_server_reason(const struct sl_server *server, const char *reason);
/* Gives an error status what it lacks (ST-6), borrowed from the server. */
void sl_server_explain(const struct sl_server *server, struct sl_call_status *status);

/* A call of this route begins, while fewer than `max` run (0: any number); false: it may not. It
 * keeps its place until its task has returned. Control methods and health need none. Thread: any.
 */
bool sl_server_take_place(struct sl_server *server, const struct sl_route *route, uint64_t max);
void sl_server_give_place(struct sl_server *server, const struct sl_route *route);

/* The limits of new connections, with a reference. Thread: any. */
struct sl_limits_shot *sl_server_limits(struct sl_server *server);
struct sl_limits_shot *sl_limits_shot_unref(struct sl_limits_shot *shot);
/* NULL: the defaults. Fails: SL_RESOURCE_EXHAUSTED; SL_INVALID_ARGUMENT the window of a connection
 * is not larger than that of a stream. Thread: any. */
SL_CHECK enum sl_status
sl_server_set_limits(struct sl_server *server, const struct sl_limits *limits);

#endif
