/* A run and its record: how the run begins, what it waits for, and how its end gets into the store,
 * or does not (AL-5.1). */
#include <stdio.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/exec/run_private.h"
#include "runtime/exec/session_codec.h"

static bool is_sync(const struct sl_run *run)
{
    return run->settings.durability == SL_STORE_SYNC;
}

static enum sl_store_state state_of(const struct sl_ending *ending)
{
    return ending->code == SL_CODE(UNSPECIFIED) ? SL_STORE_STATE_DONE
           : ending->code == SL_CODE(CANCELLED) ? SL_STORE_STATE_CANCELLED
                                                : SL_STORE_STATE_FAILED;
}

/* ---- The conversation --------------------------------------------------------------------------
 */

/* As it is kept with the run. Empty: it is larger than that may be, or there is no memory; a run
 * does not fail for it. Owns: the caller. */
static void write_context(const struct sl_run *run, struct sl_buf *ret_bytes)
{
    const struct sl_history *history = &run->history;
    sl_buf_init(ret_bytes, (size_t)run->env->limits->run_context);
    if (sl_session_write(history->messages, history->n_messages, ret_bytes) != SL_OK) {
        sl_limit_reached(SL_LIMIT_run_context);
        sl_log(
            SL_WARN, SL_LOG_EXEC, "run=%s msg=\"its conversation is too large to be stored\"",
            run->run_id);
        sl_buf_done(ret_bytes);
    }
}

/* ---- The end without a record ------------------------------------------------------------------
 */

/* Gives the record up; with a tail that says the run's ending it closes the run in the store, when
 * that is possible again. NULL: no memory for one. Owns: the caller. */
static struct sl_segment *leave_record(struct sl_run *run)
{
    struct sl_segment *segment = sl_run_make_tail(run);
    struct sl_buf context;
    write_context(run, &context);
    const struct sl_record_tail tail = {
        .segment = segment == NULL ? NULL : sl_segment_ref(segment),
        .state = state_of(run->options.ending),
        .sent = sl_event_channel_shown_sequence(run->channel),
        .context = &context,
    };
    run->record = sl_record_give_up(run->record, segment == NULL ? NULL : &tail);
    sl_buf_done(&context);
    return segment;
}

/* Row 28 of AL-5: the RunError has no sequence, and follows what readers have. */
static void end_unavailable(struct sl_run *run)
{
    if (run->options.ending->code != SL_CODE(STORE_UNAVAILABLE)) {
        *run->options.ending = sl_ending_error(SL_CODE(STORE_UNAVAILABLE));
    }
    struct sl_segment *tail = leave_record(run);
    sl_event_channel_cut(run->channel);
    if (tail != NULL) { /* without memory the stream's status has to say it */
        run->options.ending->is_unlogged =
            sl_event_channel_append_tail(run->channel, sl_slice_of(tail->bytes, tail->used));
    }
    sl_segment_unref(tail);
    sl_run_close(run);
}

/* RL-G10: the new owner writes how it ends. */
static void end_fenced(struct sl_run *run)
{
    *run->options.ending = sl_ending_error(SL_CODE(WORKER_LOST));
    sl_ending_say(run->options.ending, "Another server has the run now");
    run->record = sl_record_give_up(run->record, NULL);
    sl_event_channel_cut(run->channel);
    sl_run_close(run);
}

static void end_unrecorded(struct sl_run *run)
{
    run->is_recording = false;
    if (run->record_fault == SL_RECORD_FENCED) {
        end_fenced(run);
    } else {
        end_unavailable(run);
    }
}

/* ---- What the record says ----------------------------------------------------------------------
 */

static void tell_begun(struct sl_run *run, const struct sl_record_answer *answer)
{
    run->options.on_begun(run->options.user_data, answer);
}

static void on_begun(void *user_data, const struct sl_record_answer *answer)
{
    struct sl_run *run = user_data;
    run->is_starting = false;
    if (answer->status == SL_OK) {
        if (!is_sync(run)) {
            sl_event_channel_show_all(run->channel);
        }
        sl_run_go(run);
        tell_begun(run, answer);
        return;
    }
    /* The store may have it all the same: it is closed there. */
    struct sl_record_answer kept = *answer;
    char found_run_id[SL_ID_BYTES] = "";
    (void)snprintf(found_run_id, sizeof(found_run_id), "%s", answer->found_run_id);
    kept.found_run_id = found_run_id;
    *run->options.ending = sl_ending_error(SL_CODE(STORE_UNAVAILABLE));
    sl_segment_unref(leave_record(run));
    tell_begun(run, &kept);
}

static void on_stored(void *user_data)
{
    struct sl_run *run = user_data;
    if (!run->is_claimed) {
        run->when_stored(run);
    }
}

static void on_rested(void *user_data)
{
    struct sl_run *run = user_data;
    if (run->rest.is_written) {
        sl_run_park_stored(run);
    }
}

static void on_fault(void *user_data, enum sl_record_fault fault)
{
    struct sl_run *run = user_data;
    run->record_fault = fault;
    if (run->is_recording) {
        end_unrecorded(run);
    } else if (run->rest.is_written) {
        sl_run_park_failed(run);
    } else {
        sl_run_fail(
            run, fault == SL_RECORD_FENCED ? SL_CODE(WORKER_LOST) : SL_CODE(STORE_UNAVAILABLE));
    }
}

static void on_ended(void *user_data)
{
    struct sl_run *run = user_data;
    run->is_recording = false;
    sl_event_channel_show_all(run->channel);
    run->record = sl_record_give_up(run->record, NULL);
    sl_run_close(run);
}

/* ---- The way -----------------------------------------------------------------------------------
 */

/* As the store knows it. */
static struct sl_store_run describe(const struct sl_run *run)
{
    return (struct sl_store_run){
        .run_id = run->run_id,
        .tenant = run->options.tenant,
        .agent = run->agent->name,
        .session_id = run->options.session_id,
        .request_id = run->options.request_id,
        .digest = run->options.digest,
        .durability = run->settings.durability,
        .on_disconnect = run->settings.on_disconnect,
        .created_ms = sl_loop_wall_ms(run->env->loop),
        .metadata = run->options.metadata,
        .n_metadata = run->options.n_metadata,
        .keeps_session = sl_run_session_is_of_end(run),
    };
}

static struct sl_record_options
options_of(struct sl_run *run, const struct sl_store_run *record, struct sl_buf *context)
{
    return (struct sl_record_options){
        .loop = run->env->loop,
        .store = run->env->store,
        .room = run->env->records,
        .channel = run->channel,
        .limits = run->env->limits,
        .run = record,
        .context = context,
        .callbacks = { .on_begun = on_begun,
                       .on_stored = on_stored,
                       .on_rested = on_rested,
                       .on_fault = on_fault,
                       .on_ended = on_ended,
                       .user_data = run },
    };
}

enum sl_status sl_run_record_begin(struct sl_run *run)
{
    struct sl_buf context;
    const struct sl_store_run record = describe(run);
    const struct sl_record_options options = options_of(run, &record, &context);
    sl_run_prune(run); /* what the first request has */
    write_context(run, &context);
    const enum sl_status status = sl_record_new(&options, &run->record);
    sl_buf_done(&context);
    run->is_starting = status == SL_OK;
    return status;
}

enum sl_status sl_run_record_take_up(struct sl_run *run, struct sl_store_log *log)
{
    struct sl_buf context; /* the store has it */
    const struct sl_store_run record = describe(run);
    const struct sl_record_options options = options_of(run, &record, &context);
    sl_buf_init(&context, 1);
    return sl_record_take_up(&options, log, &run->record);
}

static void run_refused(struct sl_task *task)
{
    struct sl_run *run = SL_CONTAINER(task, struct sl_run, ended_task);
    const struct sl_record_answer answer = { .status = run->options.ending->status,
                                             .found_run_id = "" };
    tell_begun(run, &answer);
}

void sl_run_record_refuse(struct sl_run *run, const struct sl_ending *ending)
{
    run->is_starting = false;
    run->is_claimed = true;
    *run->options.ending = *ending;
    sl_segment_unref(leave_record(run));
    run->ended_task.run = run_refused;
    sl_loop_defer(run->env->loop, &run->ended_task);
}

bool sl_run_record_wait(struct sl_run *run, void (*when_stored)(struct sl_run *run))
{
    if (run->record == NULL) {
        return true;
    }
    run->when_stored = when_stored;
    return sl_record_await(run->record, sl_event_channel_last_sequence(run->channel));
}

bool sl_run_is_stopped(const struct sl_run *run)
{
    const Sluice__V1__ErrorCode code = run->options.ending->code;
    return code == SL_CODE(CANCELLED) || code == SL_CODE(DEADLINE_EXCEEDED) ||
           code == SL_CODE(DRAINING) || run->must_hurry || run->rest.is_parking;
}

void sl_run_record_hurry(struct sl_run *run)
{
    run->must_hurry = true;
    sl_run_session_hurry(run);
    if (run->is_recording) {
        sl_record_hurry(run->record);
    }
}

/* What is kept as its session is its conversation, too. */
static void end_record(struct sl_run *run, struct sl_event_place from)
{
    struct sl_buf context;
    struct sl_record_rest rest = { .messages = &run->session.bytes, .is_session = true };
    if (sl_run_session_of_end(run) != NULL) {
        sl_buf_init(&context, 0);
        rest.is_context = sl_run_session_is_context(run);
    } else {
        write_context(run, &context);
        rest = (struct sl_record_rest){ .messages = &context, .is_context = context.size > 0 };
    }
    sl_record_end(run->record, from, state_of(run->options.ending), &rest);
    sl_buf_done(&context);
}

void sl_run_record_conclude(struct sl_run *run)
{
    if (run->record_fault != SL_RECORD_SOUND) {
        end_unrecorded(run);
        return;
    }
    const struct sl_event_place from = sl_event_channel_head(run->channel);
    if (!is_sync(run) && !sl_record_is_resting(run->record)) {
        sl_event_channel_show(run->channel, from); /* the last event is stored first (RL-2.1) */
    }
    if (!sl_run_emit_terminal(run)) {
        /* Not even the spare room was enough: the stream's status has to say it. */
        *run->options.ending = sl_ending_error(SL_CODE(OUT_OF_MEMORY));
        sl_segment_unref(leave_record(run));
        sl_event_channel_cut(run->channel);
        sl_run_close(run);
        return;
    }
    run->is_recording = true;
    end_record(run, from);
    if (sl_run_is_stopped(run)) {
        sl_record_hurry(run->record);
    }
}
