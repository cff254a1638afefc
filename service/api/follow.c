#include "service/api/follow.h"

#include <inttypes.h>
#include <stdio.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "service/api/refuse.h"

enum { DRAIN_RETRY_MS = 1000, PLACE_INFOS = 2 };

/* ---- How it ends -------------------------------------------------------------------------------
 */

void sl_follow_finish(
    struct sl_follow *follow,
    enum sl_run_close how,
    uint32_t code,
    const struct sl_call_status *status)
{
    struct sl_call *call = follow->call;
    struct sl_run_stream *stream = SL_TAKE(follow->stream);
    sl_recheck_stop(&follow->recheck);
    if (follow->on_finish != NULL) {
        follow->on_finish(follow);
    }
    sl_call_finish(call, status); /* copies what points into the stream */
    sl_run_stream_close(stream, how, code);
}

static struct sl_metadatum number(const char *key, uint64_t value, char *room)
{
    (void)snprintf(room, SL_FOLLOW_NUMBER_BYTES, "%" PRIu64, value);
    return (struct sl_metadatum){ sl_slice_str(key), sl_slice_str(room) };
}

static void fill_place_at(struct sl_follow *follow, uint64_t sequence)
{
    const bool is_started = follow->run_id != NULL;
    follow->info[0] = (struct sl_metadatum){ sl_slice_str("run_started"),
                                             sl_slice_str(is_started ? "true" : "false") };
    follow->info[1] = number("last_sequence", sequence, follow->sequence);
}

/* How far the client has come, for a stream that ends before its run (FC-9). */
static void fill_place(struct sl_follow *follow)
{
    fill_place_at(follow, sl_run_stream_sequence(follow->stream));
}

void sl_follow_say_place(struct sl_follow *follow, struct sl_call_status *status)
{
    fill_place(follow);
    status->info = follow->info;
    status->n_info = PLACE_INFOS;
}

/* Of a run that is there, the log's bounds are told: a gap is never silent. */
void sl_follow_refuse(struct sl_follow *follow, const struct sl_run_refusal *refusal)
{
    struct sl_call_status status = { .code = refusal->status,
                                     .message = refusal->text,
                                     .reason = refusal->reason,
                                     .retry_delay_ms = refusal->retry_after_ms };
    if (status.code == SL_UNAVAILABLE && status.retry_delay_ms == 0) {
        status.retry_delay_ms = DRAIN_RETRY_MS; /* RT-1 */
    }
    sl_refuse_say_started(&status, follow->info, refusal->status == SL_OUT_OF_RANGE);
    if (refusal->floor != 0) {
        follow->info[status.n_info++] = number("floor", refusal->floor, follow->floor);
    }
    if (refusal->last_sequence != 0) {
        follow->info[status.n_info++] =
            number("last_sequence", refusal->last_sequence, follow->sequence);
    }
    sl_follow_finish(follow, SL_RUN_CLOSE_READ, 0, &status);
}

void sl_follow_finish_read(struct sl_follow *follow)
{
    const struct sl_run_ending *ending = sl_run_stream_ending(follow->stream);
    struct sl_metadatum info;
    struct sl_call_status status = { .code = ending->status, .reason = "OUT_OF_MEMORY" };
    if (ending->status == SL_ABORTED) { /* whoever has the run next, or its store, has the rest */
        const uint64_t n_read = sl_run_stream_sequence(follow->stream);
        fill_place_at(follow, n_read - (ending->is_unlogged && n_read > 0 ? 1 : 0));
        status.info = follow->info;
        status.n_info = PLACE_INFOS;
    } else {
        sl_refuse_say_started(&status, &info, true); /* also of success: a reply may not leave */
    }
    if (ending->status != SL_OK) {
        status.message = ending->message;
        status.reason = ending->reason;
        status.retry_delay_ms = ending->retry_after_ms;
    }
    sl_follow_finish(follow, SL_RUN_CLOSE_READ, 0, &status);
}

void sl_follow_fail(struct sl_follow *follow, enum sl_status code, const char *message)
{
    const struct sl_call_status failure = { .code = code,
                                            .message = message,
                                            .reason = "OUT_OF_MEMORY",
                                            .info = follow->info,
                                            .n_info = PLACE_INFOS };
    fill_place(follow);
    sl_follow_finish(follow, SL_RUN_CLOSE_LOST, 0, &failure);
}

/* ---- The log is the call's source --------------------------------------------------------------
 */

static struct sl_follow *of_source(const struct sl_call_source *source)
{
    return sl_unconst((const char *)source - offsetof(struct sl_follow, source));
}

static size_t source_ready(struct sl_call_source *source, size_t max, bool *ret_is_last)
{
    return sl_run_stream_ready(of_source(source)->stream, max, ret_is_last);
}

static void source_take(struct sl_call_source *source, uint8_t *dst, size_t n)
{
    sl_run_stream_take(of_source(source)->stream, dst, n);
}

static bool source_at_border(const struct sl_call_source *source)
{
    return sl_run_stream_at_border(of_source(source)->stream);
}

static void source_streams(struct sl_call_source *source, size_t n_streams)
{
    const struct sl_follow *follow = of_source(source);
    if (follow->stream != NULL && !follow->is_observer) { /* an observer holds nothing back */
        sl_run_stream_share(follow->stream, n_streams);
    }
}

static void source_finished(struct sl_call_source *source)
{
    sl_follow_finish_read(of_source(source));
}

/* ---- Who follows ------------------------------------------------------------------------------
 */

static void log_revoked(const struct sl_follow *follow, enum sl_identity_standing why)
{
    const struct sl_call_identity *caller = sl_call_identity(follow->call);
    sl_log(
        SL_INFO, SL_LOG_API, "run=%s msg=\"stream revoked\" why=%s peer=%s principal=%s",
        follow->run_id == NULL ? "-" : follow->run_id, sl_identity_standing_name(why),
        SL_LOG_QUOTE(sl_slice_str(sl_call_peer(follow->call))),
        SL_LOG_QUOTE(sl_slice_str(caller == NULL ? "" : caller->principal)));
}

/* For the run it is as if his connection were lost: he did not ask for its end (AL-7.1). */
static void on_revoked(struct sl_recheck *recheck, enum sl_identity_standing why)
{
    struct sl_follow *follow = SL_CONTAINER(recheck, struct sl_follow, recheck);
    if (sl_call_is_ended(follow->call)) {
        return; /* on_ended is on its way */
    }
    struct sl_call_status status = sl_refuse_standing(why);
    log_revoked(follow, why);
    fill_place(follow);
    status.info = follow->info;
    status.n_info = PLACE_INFOS;
    sl_follow_finish(follow, SL_RUN_CLOSE_LOST, 0, &status);
}

void sl_follow_init(struct sl_follow *follow, struct sl_call *call)
{
    *follow = (struct sl_follow){ .call = call,
                                  .source = { .ready = source_ready,
                                              .take = source_take,
                                              .at_border = source_at_border,
                                              .on_finished = source_finished,
                                              .on_streams = source_streams } };
    sl_recheck_init(&follow->recheck, call, on_revoked);
}

/* ---- What the run says -------------------------------------------------------------------------
 */

static void log_observer(const struct sl_follow *follow)
{
    const struct sl_call_identity *caller = sl_call_identity(follow->call);
    sl_log(
        SL_INFO, SL_LOG_API, "run=%s msg=\"attached\" peer=%s principal=%s", follow->run_id,
        SL_LOG_QUOTE(sl_slice_str(sl_call_peer(follow->call))),
        SL_LOG_QUOTE(sl_slice_str(caller == NULL ? "" : caller->principal)));
}

enum sl_status sl_follow_open(struct sl_follow *follow, const char *run_id)
{
    const bool was_observer = follow->is_observer;
    follow->run_id = run_id;
    follow->is_observer = sl_run_stream_is_observer(follow->stream);
    if (follow->is_observer) {
        log_observer(follow);
    }
    if (follow->is_observer &&
        !was_observer) { /* by its request id, which the client may not know */
        SL_TRY(
            sl_call_add_header(follow->call, sl_slice_str("sluice-attached"), sl_slice_str("1")));
    }
    return sl_call_add_header(follow->call, sl_slice_str("sluice-run-id"), sl_slice_str(run_id));
}

static void on_started(
    struct sl_run_stream *stream,
    const char *run_id,
    const struct sl_run_refusal *refusal,
    void *user_data)
{
    struct sl_follow *follow = user_data;
    (void)stream;
    if (refusal != NULL) {
        sl_follow_refuse(follow, refusal);
        return;
    }
    enum sl_status status = sl_follow_open(follow, run_id);
    if (status == SL_OK) {
        status = sl_call_set_source(follow->call, &follow->source);
    }
    if (status != SL_OK && !sl_call_is_ended(follow->call)) {
        sl_follow_fail(follow, status, "the stream cannot be opened");
    }
}

static void on_readable(struct sl_run_stream *stream, void *user_data)
{
    const struct sl_follow *follow = user_data;
    (void)stream;
    sl_call_resume(follow->call);
}

static void on_heartbeat(struct sl_run_stream *stream, struct sl_slice message, void *user_data)
{
    const struct sl_follow *follow = user_data;
    (void)stream;
    if (sl_call_is_idle(follow->call)) {
        (void)!sl_call_send_bytes(follow->call, message); /* now or never: skipped, not queued */
    }
}

static void
on_lost(struct sl_run_stream *stream, const struct sl_run_refusal *refusal, void *user_data)
{
    struct sl_follow *follow = user_data;
    (void)stream;
    fill_place(follow);
    follow->info[PLACE_INFOS] = number("floor", refusal->floor, follow->floor);
    const struct sl_call_status status = { .code = refusal->status,
                                           .message = refusal->text,
                                           .reason = refusal->reason,
                                           .info = follow->info,
                                           .n_info = PLACE_INFOS + 1 };
    sl_follow_finish(follow, SL_RUN_CLOSE_LOST, 0, &status);
}

/* The run goes on without it (AL-8): on_ended comes, and is no loss. */
static void on_slow(struct sl_run_stream *stream, void *user_data)
{
    const struct sl_follow *follow = user_data;
    (void)stream;
    sl_call_stall(follow->call);
}

/* The run that the client left is over: the call's slot is free (NG-2). */
static void on_gone(void *user_data)
{
    const struct sl_call_status status = { .code = SL_CANCELLED };
    sl_follow_finish(user_data, SL_RUN_CLOSE_READ, 0, &status);
}

const struct sl_run_callbacks sl_follow_run_callbacks = { .on_started = on_started,
                                                          .on_readable = on_readable,
                                                          .on_heartbeat = on_heartbeat,
                                                          .on_lost = on_lost,
                                                          .on_slow = on_slow,
                                                          .on_gone = on_gone };

/* ---- What the call says ------------------------------------------------------------------------
 */

static size_t
end_info(const struct sl_call *call, const struct sl_metadatum **ret_info, void *user_data)
{
    struct sl_follow *follow = user_data;
    (void)call;
    fill_place(follow);
    *ret_info = follow->info;
    return PLACE_INFOS;
}

static void on_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    static const enum sl_run_close how[] = {
        [SL_CALL_RESET] = SL_RUN_CLOSE_RESET,
        [SL_CALL_LOST] = SL_RUN_CLOSE_LOST,
        [SL_CALL_DEADLINE] = SL_RUN_CLOSE_DEADLINE,
        [SL_CALL_DRAIN] = SL_RUN_CLOSE_DRAIN,
    };
    (void)call;
    struct sl_follow *follow = user_data;
    if (end->kind == SL_CALL_DRAIN) {
        const struct sl_call_status status = { .code = SL_ABORTED,
                                               .message = "the server is going down",
                                               .reason = "DRAINING",
                                               .info = follow->info,
                                               .n_info = PLACE_INFOS };
        fill_place(follow);
        sl_follow_finish(follow, SL_RUN_CLOSE_DRAIN, end->code, &status);
        return;
    }
    if (follow->is_observer || sl_run_stream_outlives(follow->stream, how[end->kind])) {
        const struct sl_call_status status = { .code = SL_CANCELLED }; /* nobody reads it */
        sl_follow_finish(follow, how[end->kind], end->code, &status);
        return;
    }
    sl_recheck_stop(&follow->recheck);
    sl_run_stream_leave(SL_TAKE(follow->stream), how[end->kind], end->code);
}

const struct sl_call_callbacks sl_follow_call_callbacks = { .on_ended = on_ended,
                                                            .end_info = end_info };
