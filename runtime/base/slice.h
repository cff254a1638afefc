/* A borrowed range of bytes. Passed by value; never owns what it points to. */
#ifndef SL_RUNTIME_BASE_SLICE_H
#define SL_RUNTIME_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct sl_slice {
    const uint8_t *data;
    size_t size;
};

/* The `size` bytes at `data`, which may be NULL when there are none. */
static inline struct sl_slice sl_slice_of(const void *data, size_t size)
{
    return (struct sl_slice){ .data = (const uint8_t *)data, .size = size };
}

/* `text` may be NULL: empty. */
static inline struct sl_slice sl_slice_str(const char *text)
{
    return sl_slice_of(text, text == NULL ? 0 : strlen(text));
}

/* The same size and the same bytes. */
static inline bool sl_slice_equal(struct sl_slice a, struct sl_slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* The same as a text. */
static inline bool sl_slice_equals(struct sl_slice a, const char *text)
{
    return sl_slice_equal(a, sl_slice_str(text));
}

/* For printf's "%.*s". */
#define SL_SLICE_FMT(s) (int)(s).size, (const char *)(s).data

#endif
