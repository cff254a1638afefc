/* Allocation that may fail and must be looked at; see style.md's rule: out of memory is an error
 * that is handed up, never an abort. */
#ifndef SL_RUNTIME_BASE_MEM_H
#define SL_RUNTIME_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/slice.h"
#include "runtime/base/status.h"

/* NULL when there is no memory, or when `n` * `size` overflows. sl_alloc(0) is a valid block. */
SL_CHECK void *sl_alloc(size_t size);
SL_CHECK void *sl_calloc(size_t n, size_t size);
SL_CHECK void *sl_realloc(void *block, size_t size);
/* Accepts NULL; always gives NULL: `x = sl_free(x)`. */
void *sl_free(void *block);
/* A terminated copy. NULL: no memory. */
SL_CHECK char *sl_strdup(const char *text);
/* Copies exactly `size` bytes; `text` may be NULL when there are none. */
SL_CHECK char *sl_strndup(const char *text, size_t size);

/* Asked before every allocation; false makes it fail. For tests that make the k-th allocation fail;
 * NULL: none. Thread: any. */
typedef bool(sl_mem_gate_fn)(size_t size);
void sl_mem_set_gate(sl_mem_gate_fn *may_allocate);

/* For what takes a pointer without const and does not write to it, such as generated structs. */
static inline void *sl_unconst(const void *ptr)
{
    return (void *)(uintptr_t)ptr; // NOLINT(performance-no-int-to-ptr): no other cast is accepted
}

/* Gives the pointer away and forgets it here. */
#define SL_TAKE(ptr)                                                                               \
    __extension__({                                                                                \
        __typeof__(ptr) sl_taken = (ptr);                                                          \
        (ptr) = NULL;                                                                              \
        sl_taken;                                                                                  \
    })

/* The struct that has `member` at `ptr`. */
#define SL_CONTAINER(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define SL_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
