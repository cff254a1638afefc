#include "runtime/base/buf.h"

#include <stdio.h>

#include "runtime/base/mem.h"

enum { FIRST_CAPACITY = 64 };

void sl_buf_init(struct sl_buf *buf, size_t max_bytes)
{
    *buf = (struct sl_buf){ .max_bytes = max_bytes };
}

/* Makes the block hold `needed` bytes, doubling. The byte for a terminator may exceed the maximum.
 */
static enum sl_status grow(struct sl_buf *buf, size_t needed)
{
    if (needed <= buf->capacity) {
        return SL_OK;
    }
    const size_t most = buf->max_bytes == SIZE_MAX ? SIZE_MAX : buf->max_bytes + 1;
    size_t capacity = buf->capacity < FIRST_CAPACITY ? FIRST_CAPACITY : buf->capacity;
    while (capacity < needed) {
        capacity = capacity > SIZE_MAX / 2 ? SIZE_MAX : capacity * 2;
    }
    if (capacity > most) {
        capacity = most;
    }
    uint8_t *data = sl_realloc(buf->data, capacity);
    if (data == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    buf->data = data;
    buf->capacity = capacity;
    return SL_OK;
}

enum sl_status sl_buf_reserve(struct sl_buf *buf, size_t size, uint8_t **ret_room)
{
    if (size > buf->max_bytes - buf->size) {
        return SL_RESOURCE_EXHAUSTED;
    }
    SL_TRY(grow(buf, buf->size + size > 0 ? buf->size + size : 1));
    *ret_room = buf->data + buf->size;
    return SL_OK;
}

void sl_buf_commit(struct sl_buf *buf, size_t size)
{
    buf->size += size;
}

enum sl_status sl_buf_add(struct sl_buf *buf, struct sl_slice bytes)
{
    if (bytes.size == 0) {
        return SL_OK;
    }
    uint8_t *room = NULL;
    SL_TRY(sl_buf_reserve(buf, bytes.size, &room));
    memcpy(room, bytes.data, bytes.size);
    buf->size += bytes.size;
    return SL_OK;
}

enum sl_status sl_buf_add_str(struct sl_buf *buf, const char *text)
{
    return sl_buf_add(buf, sl_slice_str(text));
}

enum sl_status sl_buf_add_byte(struct sl_buf *buf, uint8_t byte)
{
    return sl_buf_add(buf, sl_slice_of(&byte, 1));
}

enum sl_status sl_buf_addf(struct sl_buf *buf, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const int size = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (size < 0 || (size_t)size > buf->max_bytes - buf->size) {
        return SL_RESOURCE_EXHAUSTED;
    }
    SL_TRY(grow(buf, buf->size + (size_t)size + 1));
    va_start(ap, fmt);
    (void)vsnprintf((char *)buf->data + buf->size, (size_t)size + 1, fmt, ap);
    va_end(ap);
    buf->size += (size_t)size;
    return SL_OK;
}

void sl_buf_consume(struct sl_buf *buf, size_t size)
{
    buf->size -= size;
    if (buf->size > 0 && size > 0) {
        memmove(buf->data, buf->data + size, buf->size);
    }
}

struct sl_slice sl_buf_slice(const struct sl_buf *buf)
{
    return sl_slice_of(buf->data, buf->size);
}

const char *sl_buf_cstr(struct sl_buf *buf)
{
    if (buf->size == SIZE_MAX || grow(buf, buf->size + 1) != SL_OK) {
        return NULL;
    }
    buf->data[buf->size] = '\0';
    return (const char *)buf->data;
}

char *sl_buf_take(struct sl_buf *buf)
{
    if (sl_buf_cstr(buf) == NULL) {
        return NULL;
    }
    char *text = (char *)buf->data;
    sl_buf_init(buf, buf->max_bytes);
    return text;
}

void sl_buf_clear(struct sl_buf *buf)
{
    buf->size = 0;
}

void sl_buf_done(struct sl_buf *buf)
{
    sl_free(buf->data);
    sl_buf_init(buf, buf->max_bytes);
}
