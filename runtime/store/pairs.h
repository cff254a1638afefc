/* The metadata of a run as one block of bytes, and back. */
#ifndef SL_RUNTIME_STORE_PAIRS_H
#define SL_RUNTIME_STORE_PAIRS_H

#include "runtime/store/store.h"

/* Fails: SL_RESOURCE_EXHAUSTED over the maximum of `buf`, or without memory. */
SL_CHECK enum sl_status
sl_store_pairs_write(struct sl_buf *buf, const struct sl_store_pair *pairs, size_t n_pairs);
/* Fails: SL_DATA_LOSS this is no such block; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_store_pairs_read(
    struct sl_slice block,
    struct sl_arena *arena,
    const struct sl_store_pair **ret_pairs,
    size_t *ret_n_pairs);

#endif
