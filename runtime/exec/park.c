/* A run between two processes (reliability 3.7, 4.2): it rests while it waits for a decision, is
 * parked at the end of a drain, and is taken up by the next start.
 *
 *   [waits] ─ sl_run_rest ─▶ the store has what it takes ─ a decision ─▶ sl_run_wake ─▶ goes on
 *   sl_run_park ─▶ the model and tools are dead ─▶ the store has what it takes ─▶ ended, here
 *                                    └─ it cannot ─▶ an ending as every other (AL-5.26)
 *   sl_run_take_up ─▶ goes on where it was */
#include <inttypes.h>
#include <stdio.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/exec/run_metrics.h"
#include "runtime/exec/run_private.h"

/* ---- Rest --------------------------------------------------------------------------------------
 */

/* What it takes to go on may be as large as all that waits for the store. */
static enum sl_status
write_resume(const struct sl_run *run, Sluice__Store__V1__ResumePoint point, struct sl_buf *buf)
{
    sl_buf_init(buf, run->env->limits->store_queue);
    const enum sl_status status = sl_resume_write(run, point, buf);
    if (status != SL_OK) {
        sl_buf_done(buf);
        sl_log(SL_WARN, SL_LOG_EXEC, "run=%s msg=\"too large to be taken up again\"", run->run_id);
    }
    return status;
}

static bool may_outlive(const struct sl_run *run)
{
    return run->record != NULL && run->record_fault == SL_RECORD_SOUND &&
           run->settings.on_disconnect != SL_DISCONNECT(CANCEL);
}

void sl_run_rest(struct sl_run *run)
{
    struct sl_buf resume;
    if (!may_outlive(run) || write_resume(run, SL_RESUME_POINT(TOOLS), &resume) != SL_OK) {
        return; /* it goes with its server */
    }
    run->rest.is_resting = true;
    sl_record_let_rest(run->record, SL_STORE_STATE_WAITING, &resume);
}

static void run_woken(struct sl_run *run)
{
    run->rest.is_waking = false;
    sl_run_tools_go_on(run);
}

bool sl_run_wake(struct sl_run *run)
{
    if (run->rest.is_resting) {
        run->rest.is_resting = false;
        run->rest.is_waking = !sl_record_wake(run->record);
        run->when_stored = run_woken;
    }
    return !run->rest.is_waking;
}

void sl_run_forget_rest(struct sl_run *run)
{
    if (run->rest.is_resting) {
        run->rest.is_resting = false;
        (void)sl_record_wake(run->record);
    }
}

/* ---- Parking -----------------------------------------------------------------------------------
 */

static void stop_timers(struct sl_run *run)
{
    sl_timer_stop(&run->deadline_timer);
    sl_timer_stop(&run->flush_timer);
    sl_timer_stop(&run->detach_timer);
    for (size_t i = 0; i < run->tools.n_slots; i++) {
        if (run->tools.slots[i]->state == SL_SLOT_PENDING) {
            sl_timer_stop(&run->tools.slots[i]->wait_timer);
        }
    }
}

/* Between two iterations it may wait, to begin the last one again. */
static void set_point(struct sl_run *run)
{
    const bool is_again =
        run->state == SL_RUN_STATE_MODEL ||
        (run->state == SL_RUN_STATE_READY && run->last_stop == SL_STOP_REASON(INTERRUPTED));
    run->rest.point = is_again                           ? SL_RESUME_POINT(AGAIN)
                      : run->state == SL_RUN_STATE_TOOLS ? SL_RESUME_POINT(TOOLS)
                                                         : SL_RESUME_POINT(NEXT);
}

/* It ends here, unless the store cannot have it, as by row 26. */
static void claim(struct sl_run *run)
{
    run->is_claimed = true;
    run->rest.is_parking = true;
    *run->options.ending = sl_ending_error(SL_CODE(DRAINING));
    sl_ending_say(run->options.ending, "The server is going down: the run goes on with the next");
    sl_run_count_claim(run);
    sl_run_set_state(run, SL_RUN_STATE_CLOSING);
}

/* What the model did not say to its end is no call, and no part of a loop. */
static void forget_counted(struct sl_run *run)
{
    const struct sl_usage used = run->budget.used;
    run->budget = run->turn.before;
    run->budget.used = used;
}

bool sl_run_park(struct sl_run *run)
{
    SL_ON_LOOP(run->env->loop);
    const bool can_go_on = !run->is_claimed && !run->is_starting && run->is_begun &&
                           may_outlive(run) && run->credentials == NULL;
    if (!can_go_on || !sl_run_emit_held(run)) {
        return false;
    }
    set_point(run);
    stop_timers(run);
    sl_run_forget_rest(run);
    const bool is_cut = run->state == SL_RUN_STATE_MODEL;
    claim(run);
    sl_run_stop_model(run);
    sl_run_tools_park(run, is_cut);
    if (is_cut) {
        forget_counted(run);
    }
    sl_run_finish_go_on(run);
    return true;
}

static bool is_all_waiting(const struct sl_run *run)
{
    return run->rest.point == SL_RESUME_POINT(TOOLS) && run->tools.n_pending > 0 &&
           run->tools.n_approved == 0;
}

void sl_run_park_settled(struct sl_run *run)
{
    struct sl_buf resume;
    if (run->record_fault != SL_RECORD_SOUND || run->is_order_off ||
        write_resume(run, run->rest.point, &resume) != SL_OK) {
        sl_run_park_failed(run);
        return;
    }
    run->rest.is_written = true;
    sl_record_hurry(run->record);
    sl_record_let_rest(
        run->record, is_all_waiting(run) ? SL_STORE_STATE_WAITING : SL_STORE_STATE_RUNNING,
        &resume);
}

void sl_run_park_stored(struct sl_run *run)
{
    run->record = sl_record_give_up(run->record, NULL);
    sl_event_channel_show_all(run->channel);
    run->options.ending->is_parked = true;
    sl_history_end(&run->history); /* for who looks at it until it is gone */
    sl_run_close(run);
}

/* Nobody will take it up: it ends after all. */
static void end_after_all(struct sl_run *run, const struct sl_ending *ending)
{
    run->rest.is_parking = run->rest.is_written = false;
    *run->options.ending = *ending;
    sl_run_tools_cancel(run, SL_TOOL_CANCELLED);
    sl_run_finish_go_on(run);
}

void sl_run_park_failed(struct sl_run *run)
{
    const struct sl_ending ending = sl_ending_error(SL_CODE(DRAINING));
    end_after_all(run, &ending);
}

bool sl_run_park_cancel(struct sl_run *run, const struct sl_ending *ending)
{
    if (!run->rest.is_parking || run->rest.is_written) {
        return false;
    }
    end_after_all(run, ending);
    return true;
}

/* ---- Taking up ---------------------------------------------------------------------------------
 */

/* The clock of the wall goes on while nobody has the run. */
static void restore_times(struct sl_run *run, const Sluice__Store__V1__Resume *message)
{
    const uint64_t now_ns = sl_loop_now_ns(run->env->loop);
    const uint64_t wall_ms = sl_loop_wall_ms(run->env->loop);
    const uint64_t begun_ms = message->started_at_ms;
    const uint64_t elapsed_ms = wall_ms > begun_ms ? wall_ms - begun_ms : 0;
    const uint64_t most_ms = run->settings.run_timeout_ms;
    uint64_t left_ms = message->deadline_ms > wall_ms ? message->deadline_ms - wall_ms : 0;
    left_ms = left_ms > most_ms ? most_ms : left_ms;      /* the clock was set back */
    run->started_ns = now_ns - elapsed_ms * SL_NS_PER_MS; /* differences to it are right */
    run->deadline_ns = now_ns + left_ms * SL_NS_PER_MS;
}

static void restore_budget(struct sl_run *run, const Sluice__Store__V1__ResumeBudget *message)
{
    struct sl_budget *budget = &run->budget;
    budget->n_calls = message->n_calls;
    budget->n_same = message->n_same;
    memcpy(budget->last_call, message->last_call.data, SL_SHA256_BYTES);
    budget->used = (struct sl_usage){
        .input_tokens = message->input_tokens,
        .output_tokens = message->output_tokens,
        .cache_read_tokens = message->cache_read_tokens,
        .cache_write_tokens = message->cache_write_tokens,
        .reasoning_tokens = message->reasoning_tokens,
        .model_calls = message->model_calls,
        .is_estimated = message->estimated,
        .has_cost = message->has_cost,
        .cost_micros = message->cost_micros,
    };
    (void)snprintf(budget->used.currency, sizeof(budget->used.currency), "%s", message->currency);
}

static enum sl_status restore_inputs(struct sl_run *run, const Sluice__Store__V1__Resume *message)
{
    const size_t max = run->env->limits->user_inputs;
    const size_t capacity = message->n_inputs > max ? message->n_inputs : max;
    if (message->n_inputs == 0) {
        return SL_OK;
    }
    run->client.inputs = sl_calloc(capacity, sizeof(*run->client.inputs));
    if (run->client.inputs == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < message->n_inputs; i++) {
        run->client.inputs[i] = sl_history_text(&run->history, sl_slice_str(message->inputs[i]));
        SL_TRY(run->client.inputs[i] == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK);
        run->client.n_inputs++;
    }
    return SL_OK;
}

static enum sl_status restore(struct sl_run *run, const Sluice__Store__V1__Resume *message)
{
    restore_times(run, message);
    restore_budget(run, message->budget);
    run->iteration = message->iteration;
    run->attempt = message->attempt;
    run->tools.n_minted = message->n_minted;
    run->tools.n_executed = message->n_executed;
    run->n_restarts = message->n_restarts;
    run->n_output_retries = message->n_output_retries;
    SL_TRY(sl_run_approvals_restore(run, message));
    SL_TRY(sl_run_tools_restore(run, message));
    return restore_inputs(run, message);
}

static void go_on(struct sl_run *run, Sluice__Store__V1__ResumePoint point)
{
    if (sl_loop_now_ns(run->env->loop) >= run->deadline_ns) {
        sl_run_fail(run, SL_CODE(DEADLINE_EXCEEDED));
    } else if (point == SL_RESUME_POINT(AGAIN)) {
        run->last_stop = SL_STOP_REASON(INTERRUPTED);
        sl_run_repeat_iteration(run);
    } else if (point == SL_RESUME_POINT(NEXT)) {
        sl_run_next_iteration(run);
    } else if (!sl_run_is_waiting_approval(run)) {
        sl_run_tools_go_on(run);
    }
}

enum sl_status
sl_run_take_up(struct sl_run *run, const struct sl_resume *resume, struct sl_store_log *log)
{
    SL_ON_LOOP(run->env->loop);
    const Sluice__Store__V1__ResumePoint point = resume->message->point;
    const bool is_in_tools = point == SL_RESUME_POINT(TOOLS);
    SL_TRY(restore(run, resume->message));
    SL_TRY(sl_run_record_take_up(run, log));
    sl_event_order_resume(&run->order, run->options.after_sequence);
    run->is_reader_gone = true;
    sl_run_begin_life(run);
    SL_METRIC_ADD(sluice_store_runs_taken_up, 1, NULL);
    sl_log(
        SL_INFO, SL_LOG_EXEC,
        "run=%s msg=\"taken up\" agent=%s version=%s iteration=%" PRIu32 " last=%" PRIu64,
        run->run_id, run->agent->name, run->agent->version, run->iteration,
        run->options.after_sequence);
    sl_run_set_state(run, is_in_tools ? SL_RUN_STATE_TOOLS : SL_RUN_STATE_READY);
    run->rest.is_resting = is_in_tools;
    for (size_t i = 0; i < run->tools.n_slots; i++) {
        if (run->tools.slots[i]->state == SL_SLOT_PENDING) {
            sl_run_approval_wait(run->tools.slots[i]);
        }
    }
    sl_run_set_observed(run, false); /* DETACH_FOR: from now on */
    go_on(run, point);
    return SL_OK;
}
