/* A growable block of bytes with a maximum, taken at init. */
#ifndef SL_RUNTIME_BASE_BUF_H
#define SL_RUNTIME_BASE_BUF_H

#include <stdarg.h>

#include "runtime/base/slice.h"
#include "runtime/base/status.h"

struct sl_buf {
    uint8_t *data; /* NULL while nothing was ever added */
    size_t size;
    size_t capacity;
    size_t max_bytes;
};

/* `max_bytes` > 0. Allocates nothing. */
void sl_buf_init(struct sl_buf *buf, size_t max_bytes);
/* All of these fail with SL_RESOURCE_EXHAUSTED over the maximum or without memory, and then leave
 * the buffer as it was. */
SL_CHECK enum sl_status sl_buf_add(struct sl_buf *buf, struct sl_slice bytes);
SL_CHECK enum sl_status sl_buf_add_str(struct sl_buf *buf, const char *text);
SL_CHECK enum sl_status sl_buf_add_byte(struct sl_buf *buf, uint8_t byte);
SL_PRINTF(2, 3) SL_CHECK enum sl_status sl_buf_addf(struct sl_buf *buf, const char *fmt, ...);
/* Room for `size` more bytes behind the content; count them with sl_buf_commit. */
SL_CHECK enum sl_status sl_buf_reserve(struct sl_buf *buf, size_t size, uint8_t **ret_room);
void sl_buf_commit(struct sl_buf *buf, size_t size);
/* Removes the first `size` bytes. */
void sl_buf_consume(struct sl_buf *buf, size_t size);
struct sl_slice sl_buf_slice(const struct sl_buf *buf);
/* The content, terminated by a NUL that is not counted. NULL: no memory. */
SL_CHECK const char *sl_buf_cstr(struct sl_buf *buf);
/* Gives the content as a terminated block that the caller frees with sl_free(). NULL: no memory. */
SL_CHECK char *sl_buf_take(struct sl_buf *buf);
/* Empties it and keeps the memory. */
void sl_buf_clear(struct sl_buf *buf);
void sl_buf_done(struct sl_buf *buf);

#endif
