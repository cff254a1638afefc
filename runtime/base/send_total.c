#include "runtime/base/send_total.h"

#include <stdatomic.h>

static atomic_uint_least64_t total;

void sl_send_total_set(uint64_t *share, uint64_t bytes)
{
    /* A decrease is an addition of the two's complement. */
    (void)atomic_fetch_add_explicit(&total, bytes - *share, memory_order_relaxed);
    *share = bytes;
}

uint64_t sl_send_total_bytes(void)
{
    return atomic_load_explicit(&total, memory_order_relaxed);
}

bool sl_send_total_is_over(uint64_t max_bytes)
{
    return sl_send_total_bytes() > max_bytes;
}
