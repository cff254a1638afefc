/* A queue of bytes in a chain of blocks: what waits to be sent, and what came in and is not used.
 *
 *   first ─▶ [░░####] ─▶ [######] ─▶ [###   ] ◀─ last          reserve and commit behind, take
 * before
 *
 * Blocks have 1 KiB, or 16 KiB once the queue is long; a larger piece gets a block of its own.
 * Small blocks go back to a pool that all queues of a connection share, so that a short message
 * costs no allocation. One thread. All zero is an empty queue, and an empty pool. */
#ifndef SL_SERVICE_RPC_CHAIN_H
#define SL_SERVICE_RPC_CHAIN_H

#include "runtime/base/slice.h"
#include "runtime/base/status.h"

struct sl_chain_block;

struct sl_chain_pool {
    struct sl_chain_block *blocks;
    size_t n_blocks;
};

struct sl_chain {
    struct sl_chain_block *first, *last;
    size_t size; /* bytes in it */
};

/* Room for `size` contiguous bytes behind the content, which sl_chain_commit() counts. NULL: no
 * memory. */
SL_CHECK uint8_t *sl_chain_reserve(struct sl_chain *chain, struct sl_chain_pool *pool, size_t size);
/* `size` may be less than what was reserved. */
void sl_chain_commit(struct sl_chain *chain, size_t size);
/* Appends a copy; it may be spread over blocks. Fails: SL_RESOURCE_EXHAUSTED, and nothing was
 * appended. */
SL_CHECK enum sl_status
sl_chain_add(struct sl_chain *chain, struct sl_chain_pool *pool, struct sl_slice bytes);
/* The first contiguous bytes; empty: the queue is. */
struct sl_slice sl_chain_peek(const struct sl_chain *chain);
/* Removes the first `size` bytes, `size` <= chain->size. */
void sl_chain_skip(struct sl_chain *chain, struct sl_chain_pool *pool, size_t size);
/* The same, copied to `dst`. */
void sl_chain_take(struct sl_chain *chain, struct sl_chain_pool *pool, uint8_t *dst, size_t size);
void sl_chain_done(struct sl_chain *chain, struct sl_chain_pool *pool);
void sl_chain_pool_done(struct sl_chain_pool *pool);

#endif
