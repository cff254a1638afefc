/* The end of a run (AL-4.11, AL-5): the only code that writes a terminal event. */
#include <inttypes.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/utf8.h"
#include "runtime/exec/run_metrics.h"
#include "runtime/exec/run_private.h"

/* Room for the other fields of RunDone, so that it is not over the limit of an event. */
enum { DONE_OVERHEAD_BYTES = 1024 };

/* ---- The terminal event ------------------------------------------------------------------------
 */

/* The text of the last iteration, cut to what RunDone may have. NULL: no memory. */
static const char *final_text(struct sl_run *run)
{
    const struct sl_limits *limits = run->env->limits;
    struct sl_collect *collect = &run->collect;
    const uint64_t room = limits->event - DONE_OVERHEAD_BYTES;
    const size_t max = (size_t)(limits->final_text < room ? limits->final_text : room);
    sl_collect_finish(collect);
    if (collect->text.size > max) {
        collect->text.size = sl_utf8_cut(sl_buf_slice(&collect->text), max);
        collect->is_truncated = true;
        sl_limit_reached(SL_LIMIT_final_text);
    }
    return collect->text.size == 0 ? "" : sl_buf_cstr(&collect->text);
}

static bool emit_done(struct sl_run *run)
{
    Sluice__V1__Usage usage = sl_run_usage_message(&run->budget.used);
    Sluice__V1__RunDone done;
    sluice__v1__run_done__init(&done);
    if (!run->settings.omit_content && !run->collect.is_off) {
        const char *content = final_text(run);
        done.content = sl_pb_text(content == NULL ? "" : content);
        done.content_truncated =
            run->collect.is_truncated || run->collect.is_out_of_memory || content == NULL;
    }
    done.total_iterations = run->iteration;
    done.execution_time_ms = sl_run_elapsed_ms(run);
    done.input_tokens = usage.input_tokens;
    done.output_tokens = usage.output_tokens;
    done.stop_reason = run->options.ending->stop_reason;
    done.usage = &usage;
    Sluice__V1__StreamEvent event;
    sluice__v1__stream_event__init(&event);
    event.event_case = SL_EVENT(DONE);
    event.done = &done;
    return sl_run_emit(run, &event);
}

struct error_event {
    Sluice__V1__StreamEvent event;
    Sluice__V1__RunError error;
    Sluice__V1__Usage usage;
};

/* The event points into `it`. */
static Sluice__V1__StreamEvent *fill_error(const struct sl_run *run, struct error_event *it)
{
    Sluice__V1__RunError *error = &it->error;
    const struct sl_ending *ending = run->options.ending;
    it->usage = sl_run_usage_message(&run->budget.used);
    sluice__v1__run_error__init(error);
    error->message = sl_pb_text(ending->message);
    error->code = ending->code;
    error->retryable = ending->is_retryable;
    if (ending->has_retry_after) {
        error->_retry_after_ms_case = SLUICE__V1__RUN_ERROR___RETRY_AFTER_MS_RETRY_AFTER_MS;
        error->retry_after_ms = ending->retry_after_ms;
    }
    error->provider_status = ending->provider_status;
    error->cancel_reason = ending->cancel_reason;
    error->error_id = sl_pb_text(ending->error_id);
    error->total_iterations = run->iteration;
    error->execution_time_ms = sl_run_elapsed_ms(run);
    error->usage = &it->usage;
    sluice__v1__stream_event__init(&it->event);
    it->event.event_case = SL_EVENT(ERROR);
    it->event.error = error;
    return &it->event;
}

bool sl_run_emit_terminal(struct sl_run *run)
{
    struct error_event it;
    return run->options.ending->code == SL_CODE(UNSPECIFIED)
               ? emit_done(run)
               : sl_run_emit(run, fill_error(run, &it));
}

struct sl_segment *sl_run_make_tail(const struct sl_run *run)
{
    struct error_event it;
    return sl_encode_tail(sl_loop_wall_ms(run->env->loop), fill_error(run, &it));
}

/* The text of the last answer, or what came of it, ends the conversation (AL-5, column "history").
 * One that does not fit is left out: nobody is asked any more. */
static void record_text(struct sl_run *run)
{
    struct sl_collect *collect = &run->collect;
    if (run->turn.is_recorded || collect->is_off ||
        run->options.ending->code == SL_CODE(CONTENT_FILTER)) {
        return;
    }
    sl_collect_finish(collect);
    const struct sl_chat_message message = { .role = SL_CHAT_ASSISTANT,
                                             .content = sl_buf_slice(&collect->text) };
    if (message.content.size > 0 && !collect->is_truncated && !collect->is_out_of_memory) {
        (void)!sl_history_add(&run->history, &message);
    }
}

/* Calls that are in the conversation do not stay without results (AL-6.6). */
static void record_results(struct sl_run *run)
{
    if (run->turn.is_recorded) {
        (void)sl_run_tools_record(run); /* as many as fit */
    }
    sl_history_end(&run->history);
}

static void log_end(const struct sl_run *run)
{
    const struct sl_ending *ending = run->options.ending;
    const struct sl_usage *used = &run->budget.used;
    const struct sl_event_lag most = sl_event_channel_most_lag(run->channel);
    sl_log(
        SL_INFO, SL_LOG_EXEC,
        "run=%s msg=\"%s\" agent=%s status=%s code=%s cancel_reason=%s reset_code=%" PRIu32
        " duration_ms=%" PRIu64 " iterations=%" PRIu32 " tool_calls=%" PRIu64
        " input_tokens=%" PRIu64 " output_tokens=%" PRIu64 " estimated=%s events=%" PRIu64
        " bytes=%" PRIu64 " pauses=%" PRIu64 " paused_ms=%" PRIu64 " spills=%" PRIu64
        " high_events=%" PRIu64 " high_bytes=%" PRIu64 " progress_dropped=%" PRIu64 " error_id=%s",
        run->run_id, ending->is_parked ? "parked" : "ended", run->agent->name,
        sl_status_name(ending->status), ending->reason,
        sl_ending_cancel_name(ending->cancel_reason), run->reset_code, sl_run_elapsed_ms(run),
        run->iteration, run->budget.n_calls, used->input_tokens, used->output_tokens,
        used->is_estimated ? "true" : "false", sl_event_channel_last_sequence(run->channel),
        run->event_bytes, run->n_pauses, run->paused_ns / SL_NS_PER_MS,
        sl_event_channel_n_spills(run->channel), most.events, most.bytes,
        run->progress_dropped_bytes, ending->error_id);
}

void sl_run_close(struct sl_run *run)
{
    sl_timer_stop(&run->heartbeat_timer);
    if (run->options.on_settled != NULL) {
        run->options.on_settled(run->options.user_data);
    }
    sl_run_end_pause(run);
    log_end(run);
    if (run->options.ending->is_parked) {
        sl_run_count_parked(run);
    } else {
        sl_run_count_end(run);
    }
    sl_run_set_state(run, SL_RUN_STATE_ENDED);
    sl_event_channel_detach_producer(run->channel);
    run->options.on_ending(run->options.user_data, run->options.ending);
    sl_event_channel_end(run->channel);
    sl_loop_defer(run->env->loop, &run->ended_task);
}

static void conclude_unrecorded(struct sl_run *run)
{
    if (!sl_run_emit_terminal(run)) {
        /* Not even the spare room was enough: the stream's status has to say it. */
        *run->options.ending = sl_ending_error(SL_CODE(OUT_OF_MEMORY));
    }
    struct sl_store_end end = {
        .log = &run->store_log,
        .sequence = sl_event_channel_last_sequence(run->channel),
    };
    const enum sl_status status = sl_store_end_run(run->env->store, &end); /* NONE: at once */
    if (status != SL_OK) {
        sl_log(SL_ERROR, SL_LOG_EXEC, "run=%s msg=\"not recorded, ignoring\"", run->run_id);
    }
    sl_run_close(run);
}

void sl_run_settled(struct sl_run *run)
{
    if (run->rest.is_parking) {
        sl_run_park_settled(run);
    } else if (run->settings.durability != SL_STORE_NONE) {
        sl_run_record_conclude(run);
    } else {
        conclude_unrecorded(run);
    }
}

/* Everything is dead: the promise of rest can be given (AL-3.3.5). */
static void conclude(struct sl_run *run)
{
    if (!run->rest.is_parking) {
        record_text(run);
        record_results(run);
    }
    if (sl_run_session_settle(run)) {
        sl_run_settled(run);
    }
}

/* ---- The way there -----------------------------------------------------------------------------
 */

/* One that is cut off has used what was sent and received so far. */
void sl_run_stop_model(struct sl_run *run)
{
    if (run->turn.handle != NULL) {
        run->turn.handle = sl_model_turn_free(run->turn.handle);
        /* In a pause the next request is not out yet. */
        run->turn.facts.n_requests =
            run->turn.n_retries + (run->turn.phase == SL_MODEL_RETRY_WAIT ? 0 : 1);
    }
    run->turn.output_job = sl_output_drop(run->turn.output_job);
    if (run->turn.is_open) {
        (void)sl_run_emit_iteration_complete(run, SL_STOP_REASON(INTERRUPTED));
    }
}

/* Calls that were never started: somebody stopped the run, or the model's answer was no good. */
static enum sl_tool_code code_of_open_calls(const struct sl_ending *ending)
{
    const bool is_stopped = ending->code == SL_CODE(CANCELLED) ||
                            ending->code == SL_CODE(DEADLINE_EXCEEDED) ||
                            ending->code == SL_CODE(DRAINING);
    return is_stopped ? SL_TOOL_CANCELLED : SL_TOOL_NOT_RUN;
}

void sl_run_finish(struct sl_run *run, const struct sl_ending *ending)
{
    if (run->is_claimed) {
        return;
    }
    if (run->is_starting) {
        sl_run_record_refuse(run, ending);
        return;
    }
    (void)sl_run_emit_held(run);
    if (run->is_claimed) {
        return; /* there was no memory for it, which is an ending of its own */
    }
    run->is_claimed = true;
    *run->options.ending = *ending;
    sl_run_forget_rest(run);
    sl_run_count_claim(run);
    sl_run_set_state(run, SL_RUN_STATE_CLOSING);
    sl_timer_stop(&run->deadline_timer);
    sl_timer_stop(&run->flush_timer);
    sl_timer_stop(&run->detach_timer);
    sl_run_stop_model(run);
    sl_run_tools_cancel(run, code_of_open_calls(ending));
    sl_run_finish_go_on(run);
}

void sl_run_fail(struct sl_run *run, Sluice__V1__ErrorCode code)
{
    if (!run->is_claimed) {
        const struct sl_ending ending = sl_ending_error(code);
        sl_run_finish(run, &ending);
    }
}

void sl_run_fail_full(struct sl_run *run)
{
    if (!run->history.arena.is_full && !run->collect.is_truncated) {
        sl_run_fail(run, SL_CODE(OUT_OF_MEMORY));
        return;
    }
    struct sl_ending ending = sl_ending_error(SL_CODE(PROVIDER_LIMIT));
    sl_ending_say(&ending, "The conversation is larger than a request may be");
    sl_run_finish(run, &ending);
}

void sl_run_finish_go_on(struct sl_run *run)
{
    if (run->tools.n_running == 0) {
        conclude(run);
    }
}
