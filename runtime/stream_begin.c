/* A start that the store has refused. */
#include <stdio.h>

#include "runtime/exec/encode.h"
#include "runtime/known.h"

enum { STORE_RETRY_MS = 1000 };

void sl_run_stream_refuse_begin(struct sl_run_stream *stream, const struct sl_record_answer *answer)
{
    if (answer->status == SL_ALREADY_EXISTS) {
        sl_run_refuse(
            stream, SL_ALREADY_EXISTS, "REQUEST_ID_REUSED",
            "another request with this request_id started run %s", answer->found_run_id);
    } else if (answer->status == SL_RESOURCE_EXHAUSTED) {
        sl_run_refuse(
            stream, SL_RESOURCE_EXHAUSTED, "SERVER_FULL", "the store has no room for a run");
        stream->refusal.retry_after_ms = (int64_t)stream->generation->limits.run_wait;
    } else if (answer->status == SL_CANCELLED) {
        sl_run_refuse(stream, SL_CANCELLED, "CANCELLED", "cancelled before it began");
    } else if (answer->status == SL_ABORTED) { /* no other ending of that status comes so early */
        sl_run_refuse(stream, SL_UNAVAILABLE, "DRAINING", "the server is going down");
    } else {
        sl_run_refuse(
            stream, SL_UNAVAILABLE, "STORE_UNAVAILABLE", "the store cannot record a run now");
        stream->refusal.retry_after_ms = STORE_RETRY_MS;
    }
}

/* On the reader's loop. */
static void run_follow_found(struct sl_task *task)
{
    struct sl_run_stream *stream = SL_CONTAINER(task, struct sl_run_stream, begin_task);
    struct sl_runtime *runtime = stream->runtime;
    char run_id[SL_ID_BYTES];
    uint32_t loop = 0;
    (void)snprintf(run_id, sizeof(run_id), "%s", stream->run_id);
    if (!sl_run_stream_is_closed(stream)) {
        if (stream->is_remote) {
            sl_event_relay_close(SL_TAKE(stream->reader.relay)); /* to the log that is none */
        }
        stream->attach.wants_only_end = stream->start.wants_only_end;
        stream->attach.is_repeat = stream->attach.was_over = true;
        if (sl_directory_find_run(runtime->directory, run_id, &loop) ||
            runtime->follow_stored == NULL) {
            sl_run_observe(stream, run_id);
        } else {
            runtime->follow_stored(stream, run_id);
        }
    }
    sl_run_stream_unref(stream);
    sl_runtime_release(runtime);
}

/* Those who have found it meanwhile, and wait for it, are told that it is over. */
void sl_run_stream_end_known(struct sl_run_stream *stream, enum sl_status status)
{
    const struct sl_ending ending =
        status == SL_CANCELLED
            ? sl_ending_cancelled(SLUICE__V1__CANCEL_REASON__CANCEL_REASON_CANCEL_RPC)
            : sl_ending_error(SLUICE__V1__ERROR_CODE__ERROR_CODE_STORE_UNAVAILABLE);
    sl_known_ending(stream->run.known, &ending);
}

void sl_run_stream_follow_found(struct sl_run_stream *stream)
{
    stream->begin_task.run = run_follow_found;
    sl_loop_post(stream->reader_loop, &stream->begin_task);
}
