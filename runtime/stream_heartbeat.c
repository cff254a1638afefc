/* Heartbeats of a run on their way to all who read it, on its own loop and on others. */
#include "runtime/base/mem.h"
#include "runtime/known.h"
#include "runtime/runtime_private.h"

/* A heartbeat on its way to another loop. */
struct heartbeat {
    struct sl_task task;
    struct sl_run_stream *stream;
    size_t size_bytes;
    uint8_t bytes[];
};

static void tell_heartbeat(struct sl_run_stream *stream, struct sl_slice message)
{
    bool is_last = false;
    if (sl_run_stream_is_closed(stream) || !stream->reader.is_started ||
        stream->reader.stored != NULL || sl_run_stream_ready(stream, 1, &is_last) > 0 || is_last ||
        !sl_run_stream_at_border(stream)) {
        return; /* skipped, never queued */
    }
    stream->callbacks.on_heartbeat(stream, message, stream->callbacks.user_data);
}

static void run_heartbeat(struct sl_task *task)
{
    struct heartbeat *heartbeat = SL_CONTAINER(task, struct heartbeat, task);
    struct sl_run_stream *stream = heartbeat->stream;
    tell_heartbeat(stream, sl_slice_of(heartbeat->bytes, heartbeat->size_bytes));
    (void)sl_free(heartbeat);
    sl_run_stream_unref(stream);
}

static void send_heartbeat(struct sl_run_stream *stream, struct sl_slice message)
{
    if (!stream->is_remote) {
        tell_heartbeat(stream, message);
        return;
    }
    struct heartbeat *heartbeat = sl_alloc(sizeof(*heartbeat) + message.size);
    if (heartbeat == NULL || sl_run_stream_is_closed(stream)) {
        (void)sl_free(heartbeat);
        return; /* the next one will do */
    }
    heartbeat->task = (struct sl_task){ .run = run_heartbeat };
    heartbeat->stream = stream;
    heartbeat->size_bytes = message.size;
    memcpy(heartbeat->bytes, message.data, message.size);
    sl_run_stream_ref(stream);
    sl_loop_post(stream->reader_loop, &heartbeat->task);
}

void sl_run_stream_heartbeat(void *user_data, struct sl_slice message)
{
    struct sl_run_stream *stream = user_data;
    struct sl_known_run *known = stream->run.known;
    SL_LIST_EACH(node, &known->readers) {
        send_heartbeat(SL_CONTAINER(node, struct sl_run_stream, run.reader_node), message);
    }
    send_heartbeat(stream, message);
}
