/* Sessions of runs (AL-6.6): the wait for one, and the conversation before a run begins: what is
 * stored, what is given, the input. */
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/base/utf8.h"
#include "runtime/exec/encode.h"
#include "runtime/exec/session_codec.h"
#include "runtime/known.h"
#include "runtime/queued.h"

/* Until one of those that wait may be gone: nobody knows. */
enum { SESSION_RETRY_MS = 1000 };

/* A session that is being loaded. */
struct loading {
    struct sl_store_load load;
    struct sl_run_stream *stream;
    void (*on_done)(struct sl_run_stream *stream);
};

struct sl_store *
sl_run_session_store(const struct sl_runtime *runtime, const struct sl_agent *agent)
{
    const bool is_durable = sl_store_has(runtime->store, SL_STORE_ASYNC);
    return agent->memory == SL_MEMORY_STORE && is_durable ? runtime->store : runtime->memory;
}

static void refuse(struct sl_run_stream *stream, enum sl_status status)
{
    enum { SHOWN_BYTES = 64 };
    const char *id = stream->start.session_id;
    const int size = (int)sl_utf8_cut(sl_slice_str(id), SHOWN_BYTES);
    switch ((int)status) {
    case SL_DATA_LOSS:
        sl_run_refuse(
            stream, SL_DATA_LOSS, "DATA_LOSS",
            "the stored conversation of session '%.*s' is damaged; context_mode REPLACE begins it "
            "anew",
            size, id);
        break;
    case SL_UNIMPLEMENTED:
        sl_run_refuse(
            stream, SL_FAILED_PRECONDITION, "SESSION_FORMAT",
            "a newer version of this server wrote session '%.*s'", size, id);
        break;
    case SL_RESOURCE_EXHAUSTED:
        sl_run_refuse(
            stream, SL_RESOURCE_EXHAUSTED, "SERVER_FULL", "no memory for session '%.*s'", size, id);
        break;
    default: /* there is no run yet: the caller may try again */
        sl_run_refuse(
            stream, SL_UNAVAILABLE, "STORE_UNAVAILABLE", "session '%.*s' cannot be read now", size,
            id);
        break;
    }
}

static enum sl_status begin_turn(struct sl_run_stream *stream, size_t n_given)
{
    struct sl_history *history = &stream->start.history;
    SL_TRY(sl_history_put_stored(history, n_given));
    SL_TRY(sl_history_begin_turn(history, sl_slice_str(stream->start.input)));
    if (history->n_repairs > 0) {
        SL_METRIC_ADD(sluice_history_repairs, history->n_repairs, NULL);
    }
    return SL_OK;
}

/* SL_NOT_FOUND: the session is new. */
static void
take(struct sl_run_stream *stream, enum sl_status status, struct sl_slice messages, const char *why)
{
    const size_t n_given = stream->start.history.n_messages;
    if (status == SL_OK) {
        status = sl_session_read(messages, &stream->start.history);
    }
    if (status == SL_OK || status == SL_NOT_FOUND) {
        status = begin_turn(stream, n_given);
    }
    if (status == SL_OK) {
        return;
    }
    sl_log(
        SL_ERROR, SL_LOG_EXEC, "run=%s msg=\"session not loaded\" session=%s status=%s detail=%s",
        stream->run_id, SL_LOG_QUOTE(sl_slice_str(stream->start.session_id)),
        sl_status_name(status), SL_LOG_QUOTE(sl_slice_str(why == NULL ? "" : why)));
    refuse(stream, status);
}

static void finish(struct loading *loading, enum sl_status status, const char *why)
{
    struct sl_run_stream *stream = loading->stream;
    void (*on_done)(struct sl_run_stream *) = loading->on_done;
    if (!sl_run_stream_is_closed(stream)) {
        take(stream, status, loading->load.messages, why);
    }
    sl_store_request_done(&loading->load.request);
    (void)sl_free(loading);
    on_done(stream);
}

static void on_loaded(struct sl_store_request *request)
{
    struct loading *loading = SL_CONTAINER(request, struct loading, load.request);
    finish(loading, request->status, request->why);
}

void sl_run_load_session(
    struct sl_run_stream *stream, void (*on_done)(struct sl_run_stream *stream))
{
    const struct sl_slice nothing = sl_slice_of(NULL, 0);
    if (stream->start.session_id == NULL) {
        on_done(stream);
        return;
    }
    struct loading *loading =
        stream->start.replaces_session ? NULL : sl_calloc(1, sizeof(*loading));
    if (loading == NULL) {
        take(
            stream, stream->start.replaces_session ? SL_NOT_FOUND : SL_RESOURCE_EXHAUSTED, nothing,
            NULL);
        on_done(stream);
        return;
    }
    *loading = (struct loading){
        .load = { .request = { .loop = stream->owner->base, .on_done = on_loaded },
                  .tenant = stream->tenant,
                  .agent = stream->start.agent->name,
                  .session_id = stream->start.session_id },
        .stream = stream,
        .on_done = on_done,
    };
    const enum sl_status status = sl_store_load(stream->start.session_store, &loading->load);
    if (status != SL_PENDING) {
        finish(loading, status, NULL);
    }
}

/* ---- One run at a time -------------------------------------------------------------------------
 */

void sl_run_refuse_session(struct sl_run_stream *stream, bool is_full)
{
    if (!is_full) {
        sl_run_refuse(
            stream, SL_ABORTED, "SESSION_BUSY", "this session has a run that has not ended");
        return;
    }
    sl_limit_reached(SL_LIMIT_session_queue);
    sl_run_refuse(
        stream, SL_RESOURCE_EXHAUSTED, "SESSION_FULL", "as many runs wait for this session as may");
    stream->refusal.retry_after_ms = SESSION_RETRY_MS;
}

void sl_run_leave_session(struct sl_run_stream *stream)
{
    struct sl_ticket *next =
        sl_directory_leave_session(stream->runtime->directory, &stream->ticket);
    if (next != NULL) {
        struct sl_run_stream *waiting = sl_run_stream_of(next);
        sl_loop_post(waiting->reader_loop, &waiting->admit_task);
    }
}

static void cancel_for_session(struct sl_run *run)
{
    const struct sl_ending ending = sl_ending_cancelled(SL_CANCEL_REASON(SESSION_INTERRUPTED));
    sl_run_cancel(run, &ending);
}

/* Somebody wants the session of the run that is here. */
static void run_interrupt(struct sl_task *task)
{
    struct sl_run_stream *stream = SL_CONTAINER(task, struct sl_run_stream, interrupt_task);
    struct sl_runtime *runtime = stream->runtime;
    const struct sl_known_run *known = sl_known_find(
        &runtime->loops[stream->interrupt_loop], stream->interrupt_id, stream->tenant);
    if (known != NULL && known->run != NULL) {
        cancel_for_session(known->run);
    }
    sl_run_stream_unref(stream);
    sl_runtime_release(runtime);
}

void sl_run_heed_session(const struct sl_run_stream *stream)
{
    if (sl_directory_is_interrupted(stream->runtime->directory, &stream->ticket)) {
        cancel_for_session(stream->run.run);
    }
}

/* Until the run that has the session is over; the one that wants it at once cancels that. If it has
 * not begun, it looks for itself when it does. */
void sl_run_wait_for_session(struct sl_run_stream *stream, const char *interrupted_id)
{
    struct sl_runtime *runtime = stream->runtime;
    const uint64_t deadline_ns = stream->start.settings.call_deadline_ns;
    stream->reader.is_waiting = true;
    stream->reader.is_queued = true;
    sl_queued_begin(stream);
    if (deadline_ns != SL_NEVER_NS) {
        sl_timer_start(&stream->reader.wait_timer, deadline_ns);
    }
    if (interrupted_id[0] != '\0' &&
        sl_directory_find_run(runtime->directory, interrupted_id, &stream->interrupt_loop)) {
        memcpy(stream->interrupt_id, interrupted_id, sizeof(stream->interrupt_id));
        sl_runtime_hold(runtime); /* this loop's part of it is there now */
        sl_run_stream_ref(stream);
        stream->interrupt_task.run = run_interrupt;
        sl_loop_post(runtime->loops[stream->interrupt_loop].base, &stream->interrupt_task);
    }
}
