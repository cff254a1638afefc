/* Timers: an intrusive pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986). `previous` is the
 * left sibling, or the parent of a first child; a root has none. Nothing here is recursive. */
#include "runtime/base/timer_heap.h"

static struct sl_timer *meld(struct sl_timer *a, struct sl_timer *b)
{
    if (a == NULL || b == NULL) {
        return a == NULL ? b : a;
    }
    if (b->due_ns < a->due_ns) {
        struct sl_timer *const other = a;
        a = b;
        b = other;
    }
    b->previous = a;
    b->sibling = a->child;
    if (a->child != NULL) {
        a->child->previous = b;
    }
    a->child = b;
    return a;
}

/* Makes one heap of the siblings from `first` on: melds pairs from the left, then all from the
 * right. */
static struct sl_timer *meld_siblings(struct sl_timer *first)
{
    struct sl_timer *pairs = NULL; /* a stack through `sibling` */
    while (first != NULL) {
        struct sl_timer *a = first;
        struct sl_timer *b = a->sibling;
        first = b == NULL ? NULL : b->sibling;
        a->sibling = a->previous = NULL;
        if (b != NULL) {
            b->sibling = b->previous = NULL;
        }
        struct sl_timer *pair = meld(a, b);
        pair->sibling = pairs;
        pairs = pair;
    }
    struct sl_timer *heap = NULL;
    while (pairs != NULL) {
        struct sl_timer *pair = pairs;
        pairs = pair->sibling;
        pair->sibling = NULL;
        heap = meld(heap, pair);
    }
    return heap;
}

void sl_timer_heap_add(struct sl_timer **heap, struct sl_timer *timer)
{
    timer->child = timer->sibling = timer->previous = NULL;
    *heap = meld(*heap, timer);
}

void sl_timer_heap_join(struct sl_timer **heap, struct sl_timer **other)
{
    *heap = meld(*heap, *other);
    *other = NULL;
}

void sl_timer_heap_remove(struct sl_timer **heap, struct sl_timer *timer)
{
    struct sl_timer *rest = meld_siblings(timer->child);
    if (timer == *heap) {
        *heap = rest;
    } else {
        if (timer->previous->child == timer) {
            timer->previous->child = timer->sibling;
        } else {
            timer->previous->sibling = timer->sibling;
        }
        if (timer->sibling != NULL) {
            timer->sibling->previous = timer->previous;
        }
        *heap = meld(*heap, rest);
    }
    timer->child = timer->sibling = timer->previous = NULL;
}
