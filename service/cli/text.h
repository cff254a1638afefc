/* Text from outside on its way to a terminal. What models, tools and servers say cannot move the
 * cursor: control characters, those of C1 too, are written as dots. */
#ifndef SL_SERVICE_CLI_TEXT_H
#define SL_SERVICE_CLI_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <jansson.h>

/* As it is, with its lines and tabs. */
void sl_text_put(FILE *out, const char *text);
/* As one line: its line ends and tabs become spaces. Cut behind at most `max_bytes` of it, never
 * inside a character, and then ended by "…". */
void sl_text_put_line(FILE *out, const char *text, size_t max_bytes);
/* As one line of at most `max_columns`; everything outside ASCII is taken to be two wide. Gives the
 * columns that were used. */
size_t sl_text_put_columns(FILE *out, const char *text, size_t max_columns);
/* A cell of a table and a space behind it: as one line, filled up with spaces to `width` bytes.
 * Names are ASCII, and what is not may stand out. */
void sl_text_put_cell(FILE *out, const char *text, size_t width);
/* One line of JSON. JSON leaves DEL and C1 as they are; here they are escaped. */
void sl_text_put_json(FILE *out, const json_t *json);

#endif
