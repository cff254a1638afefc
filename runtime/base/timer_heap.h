/* The order of timers, used by loop.c: an intrusive pairing heap. A heap is the pointer to its
 * earliest timer; NULL: empty. Adding costs a comparison, removing log n amortised, and nothing is
 * allocated. */
#ifndef SL_RUNTIME_BASE_TIMER_HEAP_H
#define SL_RUNTIME_BASE_TIMER_HEAP_H

#include "runtime/base/loop.h"

/* `timer` is in no heap. */
void sl_timer_heap_add(struct sl_timer **heap, struct sl_timer *timer);
/* Moves all of `other` into `heap`. */
void sl_timer_heap_join(struct sl_timer **heap, struct sl_timer **other);
/* `timer` is in `heap`. */
void sl_timer_heap_remove(struct sl_timer **heap, struct sl_timer *timer);

#endif
