/* An answer that was cut off is asked for again, when its agent wants that (AL-4.8): the iteration
 * is complete as INTERRUPTED, its calls are not run, and it begins once more with the next attempt.
 * Clients discard what they have of it, and so does the conversation. */
#include <inttypes.h>

#include "runtime/base/log.h"
#include "runtime/base/metrics.h"
#include "runtime/exec/run_private.h"

/* A fault that may pass. Memory is ours, and asking again would need more of it. */
static bool may_pass(const struct sl_ending *ending)
{
    const bool must_wait = ending->has_retry_after && ending->retry_after_ms > 0;
    return ending->is_retryable && ending->code != SL_CODE(OUT_OF_MEMORY) && !must_wait;
}

/* Before anything of the answer has come, the provider's own retries are over (AL-4.5). */
static bool may_restart(const struct sl_run *run, const struct sl_ending *ending)
{
    if (!run->agent->restart_interrupted || run->turn.facts.received_bytes == 0 ||
        !may_pass(ending)) {
        return false;
    }
    if (run->n_restarts >= run->env->limits->restarts) {
        sl_limit_reached(SL_LIMIT_restarts);
        return false;
    }
    return true;
}

/* Calls of the answer that were shown are over before the next attempt; others nobody knows of. */
static void drop_calls(struct sl_run *run)
{
    run->tools.job = sl_arguments_drop(run->tools.job);
    for (size_t i = 0; i < run->tools.n_slots; i++) {
        struct sl_tool_slot *slot = run->tools.slots[i];
        if (slot->state == SL_SLOT_ASKED) {
            sl_run_slot_fail(
                slot, SL_TOOL_NOT_RUN, "%s: not executed: the answer was cut off", slot->name);
        }
    }
}

/* What the model did not say to its end is no call, and no part of a loop. */
static void forget_counted(struct sl_run *run)
{
    const struct sl_usage used = run->budget.used;
    run->budget = run->turn.before;
    run->budget.used = used;
}

bool sl_run_restart(struct sl_run *run, const struct sl_ending *ending)
{
    if (!may_restart(run, ending)) {
        return false;
    }
    run->n_restarts++;
    sl_log(
        SL_INFO, SL_LOG_EXEC,
        "run=%s msg=\"answer cut off, asked for again\" iteration=%" PRIu32 " attempt=%" PRIu32
        " code=%s error_id=%s",
        run->run_id, run->iteration, run->attempt + 1, ending->reason, ending->error_id);
    SL_METRIC_ADD(sluice_iteration_restarts, 1, run->agent->provider, ending->reason);
    if (!sl_run_emit_iteration_complete(run, SL_STOP_REASON(INTERRUPTED))) {
        return true; /* no memory for it, which has ended the run */
    }
    drop_calls(run);
    if (!run->is_claimed) {
        forget_counted(run);
        sl_run_set_state(run, SL_RUN_STATE_READY);
        sl_run_repeat_iteration(run);
    }
    return true;
}
