/* Runs that wait for their sessions: they live with their readers, and lists show them. */
#ifndef SL_RUNTIME_QUEUED_H
#define SL_RUNTIME_QUEUED_H

#include "runtime/base/arena.h"
#include "runtime/runtime_private.h"

/* Thread of all: the reader's loop. */
void sl_queued_begin(struct sl_run_stream *stream);
/* Harmless if it does not wait. */
void sl_queued_end(struct sl_run_stream *stream);

/* Does a list ask for it? */
bool sl_queued_fits(const struct sl_run_stream *stream, const struct sl_run_ask *ask);
/* About what it takes in a reply. */
uint64_t sl_queued_bytes(const struct sl_run_stream *stream);
/* NULL: it does not wait, not here, or is another tenant's. */
struct sl_run_stream *
sl_queued_find(const struct sl_runtime_loop *at, const char *run_id, const char *tenant);
/* Copies what is known of it into the arena. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_queued_fill(
    const struct sl_run_stream *stream, struct sl_arena *arena, struct sl_run_info *ret_info);

#endif
