/* What happens to the text of a log line, without any output: secrets, size, JSON. Used by log.c.
 */
#ifndef SL_RUNTIME_BASE_LOG_TEXT_H
#define SL_RUNTIME_BASE_LOG_TEXT_H

#include "runtime/base/slice.h"

/* Length of the secret at byte `at` of `text`; 0: there is none. `is_cut`: the text went on, so
 * that a secret of which only the beginning is left counts too. A secret is one of
 * sl_log_add_secret(), or looks like one: "sk-" and 20 or more characters, the token behind "Bearer
 * ", a PEM block. */
size_t sl_log_text_secret_at(struct sl_slice text, size_t at, bool is_cut);

/* Copies `text` with "***" for each secret into `room`, which is as large as the text; gives the
 * size. */
size_t sl_log_text_scrub(struct sl_slice text, bool is_cut, char *room);

/* Makes one line of at most `max` bytes of `text`, in place: control characters become blanks, and
 * what had to be cut ends in " cut=true" with its quotes closed. Gives the new size. `text` has
 * room for `max` bytes even when it is shorter; `max` >= 64. */
size_t sl_log_text_tidy(char *text, size_t size, size_t max, bool is_cut);

/* Writes the pairs of a logfmt line as the rest of a JSON object that has members already:
 * `,"key":…}`. Numbers, true and false keep their type; a word without '=' is true; pairs that do
 * not fit are replaced by "cut":true. Gives the size written, at most `room_bytes` (>= 64). */
size_t sl_log_text_to_json(struct sl_slice line, char *room, size_t room_bytes);

#endif
