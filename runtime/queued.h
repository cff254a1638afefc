/* Runs that wait for their sessions or for a slot: they live with their readers. Lists show them,
 * and whoever has the id can look at them and drop them. */
#ifndef SL_RUNTIME_QUEUED_H
#define SL_RUNTIME_QUEUED_H

#include "runtime/base/arena.h"
#include "runtime/runtime_private.h"

struct sl_run_query;

/* Thread of all but the last: the reader's loop. It may be said again, when it has its turn and
 * waits for a slot. */
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

/* Asks all loops for the one run that `query` wants; whoever has not got it by then asks the store.
 * False: nobody waits. Thread: the query's home. */
bool sl_queued_ask(struct sl_run_query *query);

#endif
