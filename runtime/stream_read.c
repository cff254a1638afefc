/* What the reader of a run asks of his stream: events, how far he is, and how it ended. */
#include "runtime/exec/encode.h"
#include "runtime/runtime_private.h"
#include "runtime/stored.h"

size_t sl_run_stream_ready(struct sl_run_stream *stream, size_t max, bool *ret_is_last)
{
    *ret_is_last = false;
    if (!stream->reader.is_started) {
        stream->reader.wants_early = true;
        return 0;
    }
    if (stream->reader.stored != NULL) {
        return sl_stored_ready(stream->reader.stored, max, ret_is_last);
    }
    const size_t ready = stream->is_remote
                             ? sl_event_relay_ready(stream->reader.relay, max, ret_is_last)
                             : sl_event_cursor_ready(&stream->reader.cursor, max, ret_is_last);
    if (ready == 0 && (stream->is_observer || sl_run_stream_spills(stream))) {
        sl_run_stream_check_lost(stream);
    }
    return ready;
}

void sl_run_stream_take(struct sl_run_stream *stream, uint8_t *dst, size_t n)
{
    if (stream->reader.stored != NULL) {
        sl_stored_take(stream->reader.stored, dst, n);
    } else if (stream->is_remote) {
        sl_event_relay_take(stream->reader.relay, dst, n);
    } else {
        sl_event_cursor_take(&stream->reader.cursor, dst, n);
    }
}

void sl_run_stream_share(struct sl_run_stream *stream, size_t n_connection_streams)
{
    SL_ON_LOOP(stream->reader_loop);
    const uint32_t mark_bytes = sl_run_mark_bytes(stream, n_connection_streams);
    if (!stream->reader.is_started || stream->is_observer ||
        mark_bytes == atomic_load(&stream->mark_bytes)) {
        return;
    }
    atomic_store(&stream->mark_bytes, mark_bytes);
    if (!stream->is_remote && stream->run.run != NULL) {
        sl_run_set_mark(stream->run.run, mark_bytes);
    } else if (stream->is_remote && !atomic_exchange(&stream->is_mark_sent, true)) {
        sl_run_stream_ref(stream);
        sl_loop_post(stream->owner->base, &stream->mark_task);
    }
}

bool sl_run_stream_at_border(const struct sl_run_stream *stream)
{
    if (!stream->reader.is_started) {
        return true;
    }
    if (stream->reader.stored != NULL) {
        return sl_stored_at_border(stream->reader.stored);
    }
    return stream->is_remote ? sl_event_relay_at_border(stream->reader.relay)
                             : sl_event_cursor_at_border(&stream->reader.cursor);
}

uint64_t sl_run_stream_sequence(const struct sl_run_stream *stream)
{
    if (!stream->reader.is_started) {
        return 0;
    }
    if (stream->reader.stored != NULL) {
        return sl_stored_sequence(stream->reader.stored);
    }
    return stream->is_remote ? sl_event_relay_sequence(stream->reader.relay)
                             : stream->reader.cursor.sequence;
}

bool sl_run_stream_is_observer(const struct sl_run_stream *stream)
{
    return stream->is_observer;
}

const struct sl_run_ending *sl_run_stream_ending(const struct sl_run_stream *stream)
{
    return stream->reader.stored != NULL ? sl_stored_ending(stream->reader.stored)
                                         : &stream->public_ending;
}

bool sl_run_stream_outlives(const struct sl_run_stream *stream, enum sl_run_close how)
{
    const struct sl_run_settings *settings = &stream->start.settings;
    const bool is_detached = settings->on_disconnect == SL_DISCONNECT(DETACH) ||
                             settings->on_disconnect == SL_DISCONNECT(DETACH_FOR);
    if (stream->is_observer || stream->reader.is_cut) {
        return true;
    }
    switch (how) {
    case SL_RUN_CLOSE_READ:
        return true;
    case SL_RUN_CLOSE_RESET:
        return is_detached && !settings->cancel_on_reset;
    case SL_RUN_CLOSE_LOST:
    case SL_RUN_CLOSE_DEADLINE:
        return is_detached;
    case SL_RUN_CLOSE_DRAIN:
        return false;
    }
    return false;
}
