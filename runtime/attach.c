/* A reader that comes later, or from elsewhere: an observer of a run (AL-1).
 *
 *   reader's loop                                       run's loop
 *   sl_run_attach ─▶ sl_run_observe ──attach_task──▶ find, join
 *        on_started ◀──────────────── started_task ◀──┘
 *        _ready, _take ◀═══════ cursor, or relay ═════  log
 *        _close ────────────────────── close_task ───▶ nothing but a count
 *
 * What memory has not may be in the store: stored.h. */
#include <inttypes.h>
#include <stdio.h>

#include "runtime/known.h"
#include "runtime/stored.h"

enum { PENDING_RETRY_MS = 250 };

/* ---- On the run's loop -------------------------------------------------------------------------
 */

/* A repeat hears what its request id is worth now. One whose run was there, or about to begin, a
 * moment ago asks again: the directory may say something else then. */
static void refuse_unknown(struct sl_run_stream *stream)
{
    if (!stream->attach.is_repeat) {
        sl_run_refuse(stream, SL_NOT_FOUND, "RUN_NOT_FOUND", "there is no such run");
    } else if (stream->attach.was_over) {
        sl_run_refuse(
            stream, SL_ALREADY_EXISTS, "REQUEST_ID_REUSED",
            "this request was run %s, which has ended and is not kept any more", stream->run_id);
    } else {
        sl_run_refuse(
            stream, SL_UNAVAILABLE, "REQUEST_PENDING",
            "the same request waits for a slot, or is about to begin");
        stream->refusal.retry_after_ms = PENDING_RETRY_MS;
    }
}

static void refuse_range(struct sl_run_stream *stream, const struct sl_event_channel *channel)
{
    const uint64_t floor = sl_event_channel_floor(channel);
    const uint64_t last = sl_event_channel_shown_sequence(channel);
    const uint64_t after = stream->attach.after_sequence;
    if (after > last) {
        sl_run_refuse(
            stream, SL_OUT_OF_RANGE, "BEYOND_LOG",
            "the run's last event is %" PRIu64 ", and after_sequence %" PRIu64, last, after);
    } else {
        sl_run_refuse(
            stream, SL_OUT_OF_RANGE, "BELOW_RETENTION",
            "the oldest event that is kept is %" PRIu64 ", and after_sequence %" PRIu64, floor,
            after);
    }
    stream->refusal.floor = floor;
    stream->refusal.last_sequence = last;
}

static void attach(struct sl_run_stream *stream)
{
    struct sl_known_run *known = sl_known_find(stream->owner, stream->run_id, stream->tenant);
    if (known == NULL) {
        refuse_unknown(stream);
        stream->attach.wants_store = stream->runtime->has_store;
        return;
    }
    if (stream->attach.wants_only_end) {
        stream->attach.after_sequence = sl_event_channel_floor(known->channel) - 1;
    }
    const enum sl_status status = sl_run_stream_join(
        stream, known->channel, SL_CURSOR_OBSERVER, stream->attach.after_sequence);
    if (status == SL_OUT_OF_RANGE) {
        refuse_range(stream, known->channel);
        stream->attach.wants_store =
            stream->runtime->has_store && stream->attach.after_sequence < stream->refusal.floor;
        if (stream->attach.wants_store && sl_known_is_recorded(known)) {
            sl_known_add_reader(known, stream); /* it is there, wherever it reads (AL-7.1) */
        }
    } else if (status != SL_OK) {
        sl_run_refuse(stream, SL_RESOURCE_EXHAUSTED, "SERVER_FULL", "no memory for a reader");
    } else {
        sl_known_add_reader(known, stream);
    }
}

static void run_attach(struct sl_task *task)
{
    struct sl_run_stream *stream = SL_CONTAINER(task, struct sl_run_stream, attach_task);
    struct sl_runtime *runtime = stream->runtime;
    if (!sl_run_stream_is_closed(stream)) {
        attach(stream);
    }
    if (stream->attach.wants_store) {
        sl_loop_post(stream->reader_loop, &stream->store_task);
        return;
    }
    sl_run_stream_tell_later(stream);
    sl_run_stream_unref(stream);
    sl_runtime_release(runtime);
}

void sl_run_observer_part(struct sl_run_stream *stream)
{
    if (stream->is_observer) {
        sl_known_remove_reader(stream);
    }
}

/* ---- On the reader's loop ----------------------------------------------------------------------
 */

/* Memory has not got what it wants: what it would have been refused with is said if the store has
 * not got it either. */
static void ask_store(struct sl_run_stream *stream)
{
    const struct sl_run_refusal fallback = stream->refusal;
    stream->is_refused = false;
    sl_stored_open(stream, &fallback);
}

static void run_store(struct sl_task *task)
{
    struct sl_run_stream *stream = SL_CONTAINER(task, struct sl_run_stream, store_task);
    struct sl_runtime *runtime = stream->runtime;
    if (!sl_run_stream_is_closed(stream)) {
        ask_store(stream);
    }
    sl_run_stream_unref(stream);
    sl_runtime_release(runtime);
}

/* It fell below the window: told by a task, because it is found out inside a function of his. */
static void run_lost(struct sl_task *task)
{
    struct sl_run_stream *stream = SL_CONTAINER(task, struct sl_run_stream, lost_task);
    struct sl_run_refusal refusal = { .status = SL_OUT_OF_RANGE, .reason = "BELOW_RETENTION" };
    refusal.floor = stream->is_remote ? sl_event_relay_floor(stream->reader.relay)
                                      : sl_event_channel_floor(stream->reader.cursor.channel);
    (void)snprintf(
        refusal.text, sizeof(refusal.text),
        "the reader was too slow: the oldest event that is kept is %" PRIu64, refusal.floor);
    if (!stream->runtime->has_store || !sl_stored_fall(stream, &refusal)) {
        stream->callbacks.on_lost(stream, &refusal, stream->callbacks.user_data);
    }
}

void sl_run_stream_check_lost(struct sl_run_stream *stream)
{
    const bool is_lost = stream->is_remote ? sl_event_relay_is_lost(stream->reader.relay)
                                           : stream->reader.cursor.is_lost;
    if (is_lost && stream->callbacks.on_lost != NULL) {
        stream->lost_task.run = run_lost;
        sl_loop_defer(stream->reader_loop, &stream->lost_task);
    }
}

void sl_run_observe(struct sl_run_stream *stream, const char *run_id)
{
    struct sl_runtime *runtime = stream->runtime;
    uint32_t loop = 0;
    stream->is_observer = true;
    stream->attach_task.run = run_attach;
    stream->store_task.run = run_store;
    (void)snprintf(stream->run_id, sizeof(stream->run_id), "%s", run_id);
    if (!sl_directory_find_run(runtime->directory, run_id, &loop)) {
        stream->owner = NULL; /* of a repeat: it is on no loop any more */
        stream->is_remote = false;
        refuse_unknown(stream);
        if (runtime->has_store) {
            ask_store(stream);
        } else {
            sl_run_stream_tell_later(stream);
        }
        return;
    }
    stream->owner = &runtime->loops[loop];
    stream->is_remote = stream->owner->base != stream->reader_loop;
    if (stream->is_remote && sl_run_stream_open_relay(stream) != SL_OK) {
        sl_run_refuse(stream, SL_RESOURCE_EXHAUSTED, "SERVER_FULL", "no memory for a reader");
        sl_run_stream_tell_later(stream);
        return;
    }
    sl_runtime_hold(runtime); /* this loop's part of it is there now */
    sl_run_stream_ref(stream);
    sl_loop_post(stream->owner->base, &stream->attach_task);
}

enum sl_status sl_run_attach(
    struct sl_runtime *runtime,
    struct sl_loop *loop,
    const struct sl_run_attach_spec *spec,
    const struct sl_run_callbacks *callbacks,
    struct sl_run_stream **ret_stream)
{
    SL_ON_LOOP(loop);
    struct sl_run_stream *stream = sl_run_stream_new(runtime, loop, spec->tenant, callbacks);
    if (stream == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    stream->attach.after_sequence = spec->after_sequence;
    if (runtime->loops[loop->index].loop.current == NULL) {
        sl_run_refuse(stream, SL_UNAVAILABLE, "DRAINING", "the server is going down");
        sl_run_stream_tell_later(stream);
    } else {
        sl_run_observe(stream, spec->run_id);
    }
    *ret_stream = stream;
    return SL_OK;
}
