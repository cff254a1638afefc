/* The threads of a server's pool (GC-5): as many as its user asked for, made at once, and one queue
 * in front of them. They block all signals but those of a
 * fault of their own (SIGSEGV and the like), for signals are the user's, and have the stack that
 * protobuf-c's recursion needs (PB-1). */
#ifndef SL_SERVICE_RPC_POOL_H
#define SL_SERVICE_RPC_POOL_H

#include "runtime/base/status.h"
#include "service/rpc/pool_call.h"

/* Owns: sl_pool_free(). Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_pool_new(size_t n_threads, struct sl_pool **ret_pool);
/* True while a handler runs or waits. Thread: any. */
bool sl_pool_is_busy(struct sl_pool *pool);
/* Ends the threads; what runs is waited for, and nothing may wait any more. Accepts NULL. */
struct sl_pool *sl_pool_free(struct sl_pool *pool);

#endif
