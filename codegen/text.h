/* Text that grows: what the plugins write and read. A failure sticks: after one, nothing is added
 * and has_failed is true, so a writer looks once, at the end. */
#ifndef SL_CODEGEN_TEXT_H
#define SL_CODEGEN_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* More than any descriptor set that protoc can hold (2 GiB) is not accepted. */
#define SL_TEXT_MAX ((size_t)1 << 31)

/* All zero is a valid empty text. */
struct sl_text {
    char *data; /* terminated; NULL while empty */
    size_t size, capacity;
    bool has_failed; /* no memory, or SL_TEXT_MAX */
};

void sl_text_done(struct sl_text *text);
void sl_text_add_bytes(struct sl_text *text, const void *bytes, size_t size);
void sl_text_add(struct sl_text *text, const char *addition);
/* printf. */
__attribute__((format(printf, 2, 3))) void
sl_text_addf(struct sl_text *text, const char *format, ...);
/* The text, never NULL. Valid until the next addition. */
const char *sl_text_get(const struct sl_text *text);
/* Gives the memory; the text is empty afterwards. NULL: no memory. */
char *sl_text_take(struct sl_text *text);

#endif
