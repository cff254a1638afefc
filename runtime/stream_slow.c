/* A reader that does not hold its run back (AL-8, slow_consumer SPILL and DISCONNECT):
 *
 *   [near: the log] ─ below the window ─▶ [behind: the store] ─ caught up ─▶ [near]     stored.h
 *     DISCONNECT, past the mark for limits.slow_consumer ─▶ the run goes on without it, on_slow
 *
 * All but the last step is on the run's loop. */
#include "runtime/base/metrics.h"
#include "runtime/exec/encode.h"
#include "runtime/runtime_private.h"

/* On the reader's loop. */
static void run_slow(struct sl_task *task)
{
    struct sl_run_stream *stream = SL_CONTAINER(task, struct sl_run_stream, slow_task);
    if (!sl_run_stream_is_closed(stream)) {
        stream->reader.is_cut = true;
        stream->callbacks.on_slow(stream, stream->callbacks.user_data);
    }
    sl_run_stream_unref(stream);
}

/* What its reader does from now on means nothing to the run. */
static void cut(struct sl_run_stream *stream)
{
    stream->run.is_cut = true;
    sl_limit_reached(SL_LIMIT_slow_consumer);
    SL_METRIC_ADD(sluice_slow_consumers, 1, "disconnect");
    if (stream->run.run != NULL) {
        sl_run_reader_gone(stream->run.run, SL_RUN_GONE_SLOW, 0);
    }
    sl_run_stream_ref(stream);
    stream->slow_task.run = run_slow;
    sl_loop_post(stream->reader_loop, &stream->slow_task);
}

/* It may have been near meanwhile, and fallen behind again. */
static void on_slow_timer(void *user_data)
{
    struct sl_run_stream *stream = user_data;
    const uint64_t since_ns = sl_event_channel_past_since(stream->run.channel);
    const uint64_t due_ns = since_ns + stream->run.slow_ms * SL_NS_PER_MS;
    if (since_ns == 0 || sl_run_stream_is_closed(stream)) {
        return; /* on_past starts it again */
    }
    if (sl_loop_now_ns(stream->owner->base) < due_ns) {
        sl_timer_start(&stream->run.slow_timer, due_ns);
    } else {
        cut(stream);
    }
}

static void on_past(void *user_data)
{
    struct sl_run_stream *stream = user_data;
    if (!stream->run.is_cut && !sl_timer_is_running(&stream->run.slow_timer)) {
        sl_timer_start_ms(&stream->run.slow_timer, stream->run.slow_ms);
    }
}

bool sl_run_stream_spills(const struct sl_run_stream *stream)
{
    return stream->slow_consumer == SL_SLOW_SPILL || stream->slow_consumer == SL_SLOW_DISCONNECT;
}

void sl_run_stream_spill(struct sl_run_stream *stream)
{
    struct sl_event_channel *channel = sl_run_channel(stream->run.run);
    if (!sl_run_stream_spills(stream)) {
        return;
    }
    if (stream->slow_consumer == SL_SLOW_SPILL || stream->callbacks.on_slow == NULL) {
        sl_event_channel_spill(channel, NULL, NULL);
        return;
    }
    stream->run.slow_ms = stream->generation->limits.slow_consumer;
    stream->run.channel = sl_event_channel_ref(channel);
    sl_timer_init(&stream->run.slow_timer, stream->owner->base, on_slow_timer, stream);
    sl_event_channel_spill(channel, on_past, stream);
}

void sl_run_stream_spill_end(struct sl_run_stream *stream)
{
    if (stream->run.channel != NULL) {
        sl_timer_stop(&stream->run.slow_timer);
        sl_event_channel_spill_end(stream->run.channel);
        stream->run.channel = sl_event_channel_unref(stream->run.channel);
    }
}
