/* Calls whose handler runs on a thread of the pool (GC-5), and may block there.
 *
 *   loop:  start ─▶ pool ─ ─ ─ ─ ─ ─ ─ order ─▶ runs it, now or when there is room ─▶ finish
 *   pool:             handler ─▶ sl_call_send() ─post─┘   waits for the answer   ─▶ returns ┘
 *
 * The loop owns the call all the time. What the handler asks of it is an order: it is handed over,
 * and the handler waits until the loop has carried it out, so that the two never touch the call at
 * once. Only what a stream sends is collected in an outbox, so that a handler waits for room and
 * not for each message. Requests are decoded and replies are built on the handler's side, in an
 * arena of its own.
 *
 * The threads themselves are pool.h's: the core makes none. */
#ifndef SL_SERVICE_RPC_POOL_CALL_H
#define SL_SERVICE_RPC_POOL_CALL_H

#include "runtime/base/list.h"
#include "service/rpc/call.h"

/* Work for a pool, embedded in its owner, which must not go before `done`. */
struct sl_pool_work {
    struct sl_list node;
    void (*run)(struct sl_pool_work *work);  /* on a thread of the pool */
    void (*done)(struct sl_pool_work *work); /* the same thread, behind it: it is free again */
};

/* Threads, as the core knows them. Thread of both: any. */
struct sl_pool {
    /* False: no thread is free and `most_waiting` wait already. */
    bool (*add)(struct sl_pool *pool, struct sl_pool_work *work, uint64_t most_waiting);
    /* True: it had not begun and never will. */
    bool (*take_back)(struct sl_pool *pool, struct sl_pool_work *work);
};

struct sl_pool_call;

/* Hands a call to the pool of its server, or ends it. Thread: the loop. */
void sl_pool_call_start(struct sl_call *call);

/* True on the thread where the handler of `pooled` runs, until it returns. */
bool sl_pool_call_is_here(const struct sl_pool_call *pooled);

/* ---- The functions of call.h, for the handler's thread. -----------------------------------------
 */

struct sl_arena *sl_pool_call_arena(struct sl_pool_call *pooled);
bool sl_pool_call_timeout_ns(const struct sl_pool_call *pooled, uint64_t *ret_timeout_ns);
uint64_t sl_pool_call_remaining_ns(struct sl_pool_call *pooled);
size_t sl_pool_call_n_streams(struct sl_pool_call *pooled);
bool sl_pool_call_is_ended(struct sl_pool_call *pooled);
bool sl_pool_call_is_idle(struct sl_pool_call *pooled);
enum sl_status sl_pool_call_request(struct sl_pool_call *pooled, const void **ret_message);
enum sl_status sl_pool_call_reply(struct sl_pool_call *pooled, void **ret_message);
enum sl_status sl_pool_call_reply_bytes(struct sl_pool_call *pooled, struct sl_slice message);
enum sl_status sl_pool_call_recv(struct sl_pool_call *pooled, void **ret_message);
enum sl_status sl_pool_call_recv_bytes(struct sl_pool_call *pooled, struct sl_slice *ret_message);
bool sl_pool_call_is_compressed(const struct sl_pool_call *pooled);
/* Counts for what is sent behind it; what waits already is sent as it was given. */
void sl_pool_call_set_compressing(struct sl_pool_call *pooled, bool is_compressing);
struct sl_message *sl_pool_call_take(struct sl_pool_call *pooled);
enum sl_status sl_pool_call_set_encoding(struct sl_pool_call *pooled, const char *encoding);
enum sl_status
sl_pool_call_add_header(struct sl_pool_call *pooled, struct sl_slice key, struct sl_slice value);
enum sl_status
sl_pool_call_add_trailer(struct sl_pool_call *pooled, struct sl_slice key, struct sl_slice value);
enum sl_status sl_pool_call_send_headers(struct sl_pool_call *pooled);
enum sl_status sl_pool_call_send(struct sl_pool_call *pooled, const void *message);
enum sl_status sl_pool_call_send_bytes(struct sl_pool_call *pooled, struct sl_slice message);
enum sl_status sl_pool_call_fail(struct sl_pool_call *pooled, const struct sl_call_status *status);
enum sl_status sl_pool_call_wait_ms(struct sl_pool_call *pooled, uint64_t wait_ms);

#endif
