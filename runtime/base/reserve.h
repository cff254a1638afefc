/* Memory that is held back for the time when the allocator has none: an end must get through then
 * (grpc.md NG-21). One for each loop; whoever has to say an end asks here after sl_alloc() refused.
 *
 *   piece: [head|used ####][head|free ............][head|used ##]      first fit, neighbours join
 *
 * Most blocks go back within a turn, a few stay as long as a connection. So when much is in use,
 * sl_reserve_fill() adds a piece, and a piece that is empty again goes, unless it is the last.
 *
 * All zero is an empty reserve. Thread: the owner's; nothing is locked. */
#ifndef SL_RUNTIME_BASE_RESERVE_H
#define SL_RUNTIME_BASE_RESERVE_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/status.h"

enum {
    SL_RESERVE_BYTES = 64 * 1024,    /* of a piece */
    SL_RESERVE_LEAST = 48 * 1024,    /* free: enough to take on something new */
    SL_RESERVE_FOR_ENDS = 32 * 1024, /* never given to what is still coming in */
    SL_RESERVE_PIECES = 8
};

struct sl_reserve_piece;

struct sl_reserve {
    struct sl_reserve_piece *pieces;
    size_t n_pieces;
    size_t free_bytes; /* of all pieces, heads included */
    size_t n_blocks;   /* in use */
};

/* Makes sure that SL_RESERVE_LEAST bytes are free. Fails: SL_RESOURCE_EXHAUSTED there is no memory
 * for it, or there are SL_RESERVE_PIECES pieces: take on nothing new. */
SL_CHECK enum sl_status sl_reserve_fill(struct sl_reserve *reserve);
/* NULL when no room is left, or when less than `keep` bytes would be. */
SL_CHECK void *sl_reserve_alloc(struct sl_reserve *reserve, size_t size, size_t keep);
/* True when `block` came from here. */
bool sl_reserve_has(const struct sl_reserve *reserve, const void *block);
/* Usable bytes of a block that came from here. */
size_t sl_reserve_size(const void *block);
void sl_reserve_free(struct sl_reserve *reserve, void *block);
/* Every block must have been given back. */
void sl_reserve_done(struct sl_reserve *reserve);

#endif
