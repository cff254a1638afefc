/* A question about runs on its way from loop to loop (sl_run_ask):
 *
 *   home ─▶ the run's loop ─▶ home                    one run; if no loop knows it: the store
 *   home ─▶ loop 0 ─▶ 1 ─ … ─▶ loop 0 ─▶ 1 ─ … ─▶ home   a list: first which ones, then what of
 * them
 */
#ifndef SL_RUNTIME_QUERY_H
#define SL_RUNTIME_QUERY_H

#include "runtime/base/arena.h"
#include "runtime/known.h"

struct sl_run_query;
struct sl_usage;

/* The end of `known` is there: answers those that wait for it, and empties the list. */
void sl_run_queries_tell(struct sl_list *waiters, const struct sl_known_run *known);

/* There is room again for inputs: those that wait with one try once more. */
void sl_run_queries_retry(struct sl_list *waiters, const struct sl_known_run *known);

/* Says what is asked to the run, and fills the answer. SL_AGAIN: it has to wait for room. Texts of
 * the answer are copied into the arena. Thread: the run's loop. */
enum sl_status sl_run_say(
    const struct sl_run_ask *ask,
    const struct sl_known_run *known,
    struct sl_arena *arena,
    struct sl_run_answer *answer);

enum sl_run_stage sl_run_info_stage(const struct sl_known_run *known);
struct sl_run_usage sl_run_info_usage(const struct sl_usage *used);
/* Copies the conversation into the arena. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_run_info_fill_context(
    const struct sl_history *history, struct sl_arena *arena, struct sl_run_info *info);
/* Copies what is known of a run into the arena. Thread: the run's loop. Fails:
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_run_info_fill(
    const struct sl_known_run *known,
    bool wants_context,
    struct sl_arena *arena,
    struct sl_run_info *ret_info);

#endif
