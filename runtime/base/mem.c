#include "runtime/base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>

static _Atomic(sl_mem_gate_fn *) gate;

void sl_mem_set_gate(sl_mem_gate_fn *may_allocate)
{
    atomic_store(&gate, may_allocate);
}

static bool is_allowed(size_t size)
{
    if (size > PTRDIFF_MAX) {
        return false; /* no allocator has it, and the sanitizers' complain */
    }
    sl_mem_gate_fn *may_allocate = atomic_load_explicit(&gate, memory_order_relaxed);
    return may_allocate == NULL || may_allocate(size);
}

void *sl_alloc(size_t size)
{
    return is_allowed(size) ? malloc(size == 0 ? 1 : size) : NULL;
}

void *sl_calloc(size_t n, size_t size)
{
    size_t total = 0;
    if (__builtin_mul_overflow(n, size, &total) || !is_allowed(total)) {
        return NULL;
    }
    return calloc(1, total == 0 ? 1 : total);
}

void *sl_realloc(void *block, size_t size)
{
    return is_allowed(size) ? realloc(block, size == 0 ? 1 : size) : NULL;
}

void *sl_free(void *block)
{
    free(block);
    return NULL;
}

char *sl_strdup(const char *text)
{
    return sl_strndup(text, strlen(text));
}

char *sl_strndup(const char *text, size_t size)
{
    if (size == SIZE_MAX) {
        return NULL;
    }
    char *copy = sl_alloc(size + 1);
    if (copy != NULL) {
        if (size > 0) {
            memcpy(copy, text, size);
        }
        copy[size] = '\0';
    }
    return copy;
}
