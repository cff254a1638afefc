/* The operations port: what a kubelet, Prometheus and people with curl ask. It runs nothing.
 *
 *   first bytes "PRI " ─▶ HTTP/2: grpc.health.v1, every other path is UNIMPLEMENTED
 *   anything else ──────▶ HTTP/1.1: GET or HEAD /healthz, /readyz, /metrics, /debug/dump
 *
 * It has a loop and a thread of its own, so that a scrape costs the other loops nothing and a loop
 * that hangs is seen: /healthz asks every loop, and answers 200 when all have answered within a
 * second. */
#ifndef SL_SERVICE_OPS_OPS_H
#define SL_SERVICE_OPS_OPS_H

#include "runtime/base/limits.h"
#include "runtime/base/loop.h"
#include "runtime/base/status.h"

struct sl_ops;
struct sl_runtime;
struct sl_server;

struct sl_ops_options {
    const char *address; /* "HOST:PORT", "unix:PATH"; plaintext */
    bool has_dump;       /* /debug/dump: loopback and unix sockets only */
    const struct sl_limits *limits;
    struct sl_loop *const *loops; /* the daemon's */
    size_t n_loops;
    struct sl_server *server;   /* whose connections are counted and shown */
    struct sl_runtime *runtime; /* whose runs are */
};

/* Listens; answers come once it was started. Borrows loops, server and runtime until
 * sl_ops_close(). Owns: the caller; sl_ops_close(), then sl_ops_free(). Fails: as sl_net_listen();
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_ops_new(const struct sl_ops_options *options, struct sl_ops **ret_ops, struct sl_error *err);
/* The server behind its HTTP/2, for registering health, before the start. */
struct sl_server *sl_ops_server(struct sl_ops *ops);
/* The real address. */
const char *sl_ops_address(const struct sl_ops *ops);
/* Starts the thread, and the watch over the loops' lag. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_ops_start(struct sl_ops *ops, struct sl_error *err);
/* What /readyz says: NULL: ready; otherwise why not (a constant text). At first: "starting".
 * Accepts NULL. Thread: any. */
void sl_ops_set_unready(struct sl_ops *ops, const char *why);
/* Ends its connections and its thread. When the daemon's loops do not run any more, or have nothing
 * left to do. Accepts NULL. */
void sl_ops_close(struct sl_ops *ops);
/* After the daemon's loops are freed: a question that was on its way to one of them may have come
 * back. Accepts NULL; gives NULL. */
struct sl_ops *sl_ops_free(struct sl_ops *ops);

#endif
