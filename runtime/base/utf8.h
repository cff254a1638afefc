/* UTF-8 checker (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF.
 *
 * Bytes may arrive in any split: feed each piece, then finish. All zero is the start state. */
#ifndef SL_RUNTIME_BASE_UTF8_H
#define SL_RUNTIME_BASE_UTF8_H

#include "runtime/base/slice.h"
#include "runtime/base/status.h"

struct sl_utf8 {
    uint8_t missing; /* continuation bytes still to come */
    uint8_t low;     /* least and greatest value of the next one */
    uint8_t high;
};

/* Takes the next bytes. Thread: any, one at a time. Fails: SL_INVALID_ARGUMENT at the first bad
 * byte; the state is then of no use. */
SL_CHECK enum sl_status sl_utf8_feed(struct sl_utf8 *state, struct sl_slice bytes);

/* Fails: SL_INVALID_ARGUMENT when a character is unfinished. */
SL_CHECK enum sl_status sl_utf8_finish(const struct sl_utf8 *state);

/* Bytes that a repaired copy of `text` can need at most. */
size_t sl_utf8_repaired_max(size_t text_size);

/* Copies `text`, with U+FFFD for each maximal invalid part and for each NUL, and gives the size
 * written (no terminator). `room` holds sl_utf8_repaired_max(). Valid text without NUL is a plain
 * copy. */
size_t sl_utf8_repair(struct sl_slice text, uint8_t *room);

/* True when `text` is valid UTF-8 without NUL: the fast way out of a repair. */
bool sl_utf8_is_clean(struct sl_slice text);

/* Bytes of the character that `text` (not empty) begins with, or, with `*ret_is_good` false, of the
 * maximal invalid part. NUL is invalid. */
size_t sl_utf8_measure(struct sl_slice text, bool *ret_is_good);

/* The greatest n <= max at which `text` can be cut without splitting a character. */
size_t sl_utf8_cut(struct sl_slice text, size_t max);

#endif
