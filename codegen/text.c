#include "codegen/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Makes room for `size` more bytes and the terminator. */
static bool reserve(struct sl_text *text, size_t size)
{
    if (text->has_failed || size >= SL_TEXT_MAX - text->size) {
        text->has_failed = true;
        return false;
    }
    size_t capacity = text->capacity == 0 ? 256 : text->capacity;
    while (capacity <= text->size + size) {
        capacity *= 2;
    }
    if (capacity == text->capacity) {
        return true;
    }
    char *data = realloc(text->data, capacity);
    if (data == NULL) {
        text->has_failed = true;
        return false;
    }
    text->data = data;
    text->capacity = capacity;
    return true;
}

void sl_text_done(struct sl_text *text)
{
    free(text->data);
    *text = (struct sl_text){ 0 };
}

void sl_text_add_bytes(struct sl_text *text, const void *bytes, size_t size)
{
    if (!reserve(text, size)) {
        return;
    }
    if (size > 0) {
        memcpy(text->data + text->size, bytes, size);
    }
    text->size += size;
    text->data[text->size] = '\0';
}

void sl_text_add(struct sl_text *text, const char *addition)
{
    sl_text_add_bytes(text, addition, strlen(addition));
}

void sl_text_addf(struct sl_text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (size < 0 || !reserve(text, (size_t)size)) {
        text->has_failed = true;
        return;
    }
    va_start(arguments, format);
    (void)vsnprintf(text->data + text->size, (size_t)size + 1, format, arguments);
    va_end(arguments);
    text->size += (size_t)size;
}

const char *sl_text_get(const struct sl_text *text)
{
    return text->data == NULL ? "" : text->data;
}

char *sl_text_take(struct sl_text *text)
{
    sl_text_add(text, ""); /* an empty text is a terminated one too */
    if (text->has_failed) {
        sl_text_done(text);
        return NULL;
    }
    char *data = text->data;
    *text = (struct sl_text){ 0 };
    return data;
}
