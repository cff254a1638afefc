/* A reader that reads from the store what memory has not, or not any more: an observer, or one that
 * spills (stream_slow.c).
 *
 *
 *   sl_stored_open ─▶ look ─▶ on_started ┐           page ─▶ taken ─▶ page …
 *   sl_stored_fall (it fell behind) ─────┴─▶ page ─▶ caught up ─▶ back to the log, if there is one
 *                                                     └─▶ the end was in the page
 *
 * One page at a time, asked for when the one before is taken, so at the reader's pace. The bytes
 * are those of the log. Everything happens on the reader's loop but the way back, which goes
 * through the run's (rejoin). */
#ifndef SL_RUNTIME_STORED_H
#define SL_RUNTIME_STORED_H

#include "runtime/runtime_private.h"

struct sl_stored;

/* Memory does not have what `stream` wants, an observer that is not started: `fallback` is what to
 * say if the store has not got it either. on_started comes. */
void sl_stored_open(struct sl_run_stream *stream, const struct sl_run_refusal *fallback);
/* A reader fell below the log's window at `stream`'s sequence: it reads on from the store; if that
 * has nothing of the run, on_lost comes with `fallback`. Not from inside a function of the
 * reader's. False: no memory. */
SL_CHECK bool sl_stored_fall(struct sl_run_stream *stream, const struct sl_run_refusal *fallback);

/* As those of the stream. */
size_t sl_stored_ready(struct sl_stored *stored, size_t max, bool *ret_is_last);
void sl_stored_take(struct sl_stored *stored, uint8_t *dst, size_t n);
bool sl_stored_at_border(const struct sl_stored *stored);
uint64_t sl_stored_sequence(const struct sl_stored *stored);
const struct sl_run_ending *sl_stored_ending(const struct sl_stored *stored);
/* The reader goes, or reads from the log again. Accepts NULL; gives NULL. */
struct sl_stored *sl_stored_close(struct sl_stored *stored);

#endif
