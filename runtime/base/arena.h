/* Memory that is released all at once: that of a call, a message, a run's start. Blocks double from
 * 1 KiB to 64 KiB; a larger request gets its own. All zero plus a maximum is a valid empty arena.
 */
#ifndef SL_RUNTIME_BASE_ARENA_H
#define SL_RUNTIME_BASE_ARENA_H

#include "runtime/base/slice.h"
#include "runtime/base/status.h"

struct sl_arena;
// install: off
struct sl_arena_block;

struct sl_arena {
    struct sl_arena_block *blocks;
    size_t max_bytes;  /* never holds more than this; 0: no bound but memory */
    size_t used_bytes; /* held now */
    bool is_refused;   /* some request was refused because of max_bytes or memory */
    bool is_full;      /* some request was refused because of max_bytes */
};

void sl_arena_init(struct sl_arena *arena, size_t max_bytes);
// install: on
/* 16-byte aligned, not cleared. NULL: refused. */
SL_CHECK void *sl_arena_alloc(struct sl_arena *arena, size_t size);
/* The same, cleared; NULL also when `n` * `size` overflows. */
SL_CHECK void *sl_arena_calloc(struct sl_arena *arena, size_t n, size_t size);
/* A terminated copy. NULL: refused. */
SL_CHECK char *sl_arena_dup(struct sl_arena *arena, struct sl_slice text);
// install: off
/* Releases everything; the arena is empty and usable again. */
void sl_arena_done(struct sl_arena *arena);
// install: on

#endif
