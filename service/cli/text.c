#include "service/cli/text.h"

#include <stdlib.h>
#include <string.h>

enum { CELL_MAX_BYTES = 200 };

/* Bytes of the control character at `at`: 0 none, 1, or 2 (C1 in UTF-8: C2 80 to C2 9F). Line end
 * and tab are none. */
static size_t control_bytes(const unsigned char *at)
{
    if (at[0] == 0xC2 && at[1] >= 0x80 && at[1] <= 0x9F) {
        return 2;
    }
    return *at == 0x7F || (*at < 0x20 && *at != '\n' && *at != '\t') ? 1 : 0;
}

/* Bytes of the character at `at`; 1 where no character begins. Stays inside the text. */
static size_t character_bytes(const unsigned char *at)
{
    size_t n = 1;
    while (at[0] >= 0xC0 && n < 4 && (at[n] & 0xC0) == 0x80) {
        n++;
    }
    return n;
}

/* Writes the character at `at`, and gives its bytes. */
static size_t put_character(FILE *out, const unsigned char *at, bool is_line)
{
    const size_t control = control_bytes(at);
    if (at[0] == '\r' && at[1] == '\n') {
        return 1; /* a line end of two characters */
    }
    if (control > 0) {
        (void)fputc('.', out);
        return control;
    }
    if (is_line && (*at == '\n' || *at == '\t')) {
        (void)fputc(' ', out);
        return 1;
    }
    const size_t n = character_bytes(at);
    (void)fwrite(at, 1, n, out);
    return n;
}

void sl_text_put(FILE *out, const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    while (*at != '\0') {
        at += put_character(out, at, false);
    }
}

void sl_text_put_line(FILE *out, const char *text, size_t max_bytes)
{
    const unsigned char *const start = (const unsigned char *)text;
    const unsigned char *at = start;
    while (*at != '\0' && (size_t)(at - start) + character_bytes(at) <= max_bytes) {
        at += put_character(out, at, true);
    }
    if (*at != '\0') {
        (void)fputs("…", out);
    }
}

size_t sl_text_put_columns(FILE *out, const char *text, size_t max_columns)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t n_columns = 0;
    while (*at != '\0') {
        const size_t wide = *at < 0x80 ? 1 : 2;
        if (n_columns + wide > max_columns) {
            break;
        }
        n_columns += wide;
        at += put_character(out, at, true);
    }
    return n_columns;
}

void sl_text_put_cell(FILE *out, const char *text, size_t width)
{
    sl_text_put_line(out, text, CELL_MAX_BYTES);
    for (size_t n = strlen(text); n < width; n++) {
        (void)fputc(' ', out);
    }
    (void)fputc(' ', out);
}

void sl_text_put_json(FILE *out, const json_t *json)
{
    char *text = json == NULL ? NULL : json_dumps(json, JSON_COMPACT | JSON_PRESERVE_ORDER);
    if (text == NULL) {
        return;
    }
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0';) {
        const size_t control = control_bytes(at);
        if (control > 0) {
            (void)fprintf(out, "\\u%04X", (unsigned)at[control - 1]);
            at += control;
        } else {
            (void)fputc(*at++, out);
        }
    }
    (void)fputc('\n', out);
    free(text);
}
