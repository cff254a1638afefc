#include "service/api/execute.h"

#include <inttypes.h>
#include <stdio.h>

#include "runtime/base/buf.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "service/api/convert.h"

enum { PREFIX_BYTES = 5, TAKE_BYTES = 4096, PLACE_INFOS = 2, DRAIN_RETRY_MS = 1000 };

/* One call and its run. Lies in the call's arena: it lives until the call is finished. */
struct execution {
    struct sl_call *call;
    struct sl_run_stream *stream;
    struct sl_call_source source;       /* streaming: the run's log */
    Sluice__V1__ExecuteResponse *reply; /* unary: NULL when streaming */
    struct sl_buf event;                /* unary: prefix and bytes of the event being read */
    const char *run_id;
    struct sl_metadatum place[PLACE_INFOS]; /* see fill_place() */
    char sequence[24];
};

/* Ends call and stream. Nothing of `execution` may be touched afterwards. */
static void finish(
    struct execution *execution,
    enum sl_run_close how,
    uint32_t code,
    const struct sl_call_status *status)
{
    struct sl_call *call = execution->call;
    struct sl_run_stream *stream = SL_TAKE(execution->stream);
    sl_buf_done(&execution->event);
    sl_call_finish(call, status); /* copies what points into the stream */
    sl_run_stream_close(stream, how, code);
}

/* A failure's status with its ErrorInfo; `run_started` is always said (ST-6). */
static void fill_status(struct sl_call_status *status, struct sl_metadatum *info, bool run_started)
{
    info->key = sl_slice_str("run_started");
    info->value = sl_slice_str(run_started ? "true" : "false");
    status->info = info;
    status->n_info = 1;
}

/* How far the client has come, for a stream that ends before its run (FC-9). */
static void fill_place(struct execution *execution)
{
    const bool is_started = execution->run_id != NULL;
    const uint64_t sequence = sl_run_stream_sequence(execution->stream);
    (void)snprintf(execution->sequence, sizeof(execution->sequence), "%" PRIu64, sequence);
    execution->place[0] = (struct sl_metadatum){ sl_slice_str("run_started"),
                                                 sl_slice_str(is_started ? "true" : "false") };
    execution->place[1] =
        (struct sl_metadatum){ sl_slice_str("last_sequence"), sl_slice_str(execution->sequence) };
}

static void refuse(struct execution *execution, const struct sl_run_refusal *refusal)
{
    struct sl_metadatum info;
    struct sl_call_status status = { .code = refusal->status,
                                     .message = refusal->text,
                                     .reason = refusal->reason,
                                     .retry_delay_ms = refusal->retry_after_ms };
    if (status.code == SL_UNAVAILABLE && status.retry_delay_ms == 0) {
        status.retry_delay_ms = DRAIN_RETRY_MS; /* RT-1 */
    }
    fill_status(&status, &info, false);
    finish(execution, SL_RUN_CLOSE_READ, 0, &status);
}

/* The run has ended and everything of it was read. */
static void finish_read(struct execution *execution)
{
    const struct sl_run_ending *ending = sl_run_stream_ending(execution->stream);
    struct sl_metadatum info;
    struct sl_call_status status = { .code = ending->status, .reason = "OUT_OF_MEMORY" };
    fill_status(&status, &info, true); /* also of success: a reply may fail to leave */
    if (ending->status != SL_OK) {
        status.message = ending->message;
        status.reason = ending->reason;
        status.retry_delay_ms = ending->retry_after_ms;
    }
    finish(execution, SL_RUN_CLOSE_READ, 0, &status);
}

/* ---- Streaming: the log is the call's source ---------------------------------------------------
 */

static struct execution *of_source(const struct sl_call_source *source)
{
    return sl_unconst((const char *)source - offsetof(struct execution, source));
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
    struct execution *execution = of_source(source);
    if (execution->stream != NULL) {
        sl_run_stream_share(execution->stream, n_streams);
    }
}

static void source_finished(struct sl_call_source *source)
{
    finish_read(of_source(source));
}

static size_t
end_info(const struct sl_call *call, const struct sl_metadatum **ret_info, void *user_data)
{
    struct execution *execution = user_data;
    (void)call;
    fill_place(execution);
    *ret_info = execution->place;
    return PLACE_INFOS;
}

/* ---- Unary: the last event is the reply --------------------------------------------------------
 */

static size_t event_size(const uint8_t *prefix)
{
    return (size_t)prefix[1] << 24 | (size_t)prefix[2] << 16 | (size_t)prefix[3] << 8 | prefix[4];
}

/* Reads on until the log has no more now. `*ret_is_last`: the event in the buffer is the terminal
 * one. */
static enum sl_status read_events(struct execution *execution, bool *ret_is_last)
{
    struct sl_buf *event = &execution->event;
    size_t n = sl_run_stream_ready(execution->stream, TAKE_BYTES, ret_is_last);
    while (n > 0) {
        const bool has_prefix = event->size >= PREFIX_BYTES;
        size_t missing = PREFIX_BYTES - event->size;
        if (has_prefix) {
            missing = PREFIX_BYTES + event_size(event->data) - event->size;
        }
        if (missing == 0) { /* a whole event, and another one behind it */
            sl_buf_clear(event);
            missing = PREFIX_BYTES;
        }
        uint8_t *room;
        const size_t take = missing < n ? missing : n;
        SL_TRY(sl_buf_reserve(event, take, &room));
        sl_run_stream_take(execution->stream, room, take);
        sl_buf_commit(event, take);
        n = sl_run_stream_ready(execution->stream, TAKE_BYTES, ret_is_last);
    }
    return SL_OK;
}

/* Moves RunDone from the terminal event into the reply. The event lives in the call's arena from
 * here on. */
static enum sl_status fill_reply(struct execution *execution)
{
    struct sl_arena *arena = sl_call_arena(execution->call);
    const struct sl_slice bytes =
        sl_slice_of(execution->event.data + PREFIX_BYTES, execution->event.size - PREFIX_BYTES);
    struct sl_error err;
    void *message;
    SL_TRY(sl_codec_proto.decode(
        sl_call_limits(execution->call), &sluice__v1__stream_event__descriptor, bytes, arena,
        &message, &err));
    Sluice__V1__StreamEvent *event = message;
    if (event->event_case != SLUICE__V1__STREAM_EVENT__EVENT_DONE) {
        return SL_INTERNAL;
    }
    execution->reply->result = event->done;
    execution->reply->run_id = sl_arena_dup(arena, sl_slice_str(execution->run_id));
    return execution->reply->run_id == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
}

static void read_unary(struct execution *execution)
{
    bool is_last = false;
    enum sl_status status = read_events(execution, &is_last);
    if (status == SL_OK && !is_last) {
        return;
    }
    if (status == SL_OK && sl_run_stream_ending(execution->stream)->status == SL_OK) {
        status = fill_reply(execution);
    }
    if (status == SL_OK) {
        finish_read(execution);
        return;
    }
    struct sl_metadatum info;
    struct sl_call_status failure = { .code = status,
                                      .message = "the reply cannot be built",
                                      .reason = "OUT_OF_MEMORY" };
    fill_status(&failure, &info, true);
    finish(execution, SL_RUN_CLOSE_READ, 0, &failure);
}

/* ---- What the run says -------------------------------------------------------------------------
 */

/* Whose run it is, where callers are known. */
static void log_owner(const struct execution *execution)
{
    const struct sl_call_identity *caller = sl_call_identity(execution->call);
    if (caller != NULL) {
        sl_log(
            SL_INFO, SL_LOG_API, "run=%s msg=\"owned\" principal=%s tenant=%s", execution->run_id,
            SL_LOG_QUOTE(sl_slice_str(caller->principal)),
            SL_LOG_QUOTE(sl_slice_str(caller->tenant)));
    }
}

static void on_started(
    struct sl_run_stream *stream,
    const char *run_id,
    const struct sl_run_refusal *refusal,
    void *user_data)
{
    struct execution *execution = user_data;
    (void)stream;
    if (refusal != NULL) {
        refuse(execution, refusal);
        return;
    }
    execution->run_id = run_id;
    log_owner(execution);
    enum sl_status status =
        sl_call_add_header(execution->call, sl_slice_str("sluice-run-id"), sl_slice_str(run_id));
    if (status == SL_OK && execution->reply == NULL) {
        status = sl_call_set_source(execution->call, &execution->source);
    }
    if (status != SL_OK && !sl_call_is_ended(execution->call)) {
        const struct sl_call_status failure = { .code = status,
                                                .message = "the stream cannot be opened",
                                                .reason = "OUT_OF_MEMORY",
                                                .info = execution->place,
                                                .n_info = PLACE_INFOS };
        fill_place(execution);
        finish(execution, SL_RUN_CLOSE_LOST, 0, &failure);
    } else if (status == SL_OK && execution->reply != NULL) {
        read_unary(execution); /* asks for on_readable */
    }
}

static void on_readable(struct sl_run_stream *stream, void *user_data)
{
    struct execution *execution = user_data;
    (void)stream;
    if (execution->reply != NULL) {
        read_unary(execution);
    } else {
        sl_call_resume(execution->call);
    }
}

static void on_heartbeat(struct sl_run_stream *stream, struct sl_slice message, void *user_data)
{
    struct execution *execution = user_data;
    (void)stream;
    if (execution->reply == NULL && sl_call_is_idle(execution->call)) {
        (void)!sl_call_send_bytes(execution->call, message); /* now or never: skipped, not queued */
    }
}

/* ---- What the call says ------------------------------------------------------------------------
 */

/* The run that the client left is over: the call's slot is free (NG-2). */
static void on_gone(void *user_data)
{
    struct execution *execution = user_data;
    const struct sl_call_status status = { .code = SL_CANCELLED };
    finish(execution, SL_RUN_CLOSE_READ, 0, &status);
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
    struct execution *execution = user_data;
    if (end->kind == SL_CALL_DRAIN) {
        const struct sl_call_status status = { .code = SL_ABORTED,
                                               .message = "the server is going down",
                                               .reason = "DRAINING",
                                               .info = execution->place,
                                               .n_info = PLACE_INFOS };
        fill_place(execution);
        finish(execution, SL_RUN_CLOSE_DRAIN, end->code, &status);
        return;
    }
    if (sl_run_stream_outlives(execution->stream, how[end->kind])) {
        const struct sl_call_status status = { .code = SL_CANCELLED }; /* nobody reads it */
        finish(execution, how[end->kind], end->code, &status);
        return;
    }
    sl_run_stream_leave(SL_TAKE(execution->stream), how[end->kind], end->code);
}

static uint64_t deadline_of(const struct sl_call *call)
{
    const uint64_t remaining_ns = sl_call_remaining_ns(call);
    if (remaining_ns == SL_NEVER_NS) {
        return SL_NEVER_NS;
    }
    return sl_loop_now_ns(sl_call_loop(call)) + remaining_ns;
}

/* The runtime has its own copy of what it keeps. */
static void wipe_credentials(const Sluice__V1__ExecuteRequest *request)
{
    for (size_t i = 0; i < request->n_credentials; i++) {
        char *value = request->credentials[i]->value;
        if (value != NULL) {
            explicit_bzero(value, strlen(value));
        }
    }
}

static enum sl_status fail_request(struct sl_call *call, const struct sl_error *err)
{
    struct sl_metadatum info;
    struct sl_call_status status = { .code = err->status,
                                     .message = err->text,
                                     .reason = err->status == SL_INVALID_ARGUMENT
                                                   ? "INVALID_REQUEST"
                                               : err->status == SL_UNAVAILABLE ? "DRAINING"
                                                                               : "SERVER_FULL" };
    SL_METRIC_ADD(sluice_refusals, 1, "run", status.reason);
    fill_status(&status, &info, false);
    return sl_call_fail(call, &status);
}

/* Whether there is such an agent is not told to whom it is none of his business. */
static enum sl_status forbid(struct sl_call *call, enum sl_status code)
{
    struct sl_metadatum info;
    const bool is_known = code == SL_PERMISSION_DENIED;
    struct sl_call_status status = { .struct_size = sizeof(status),
                                     .code = code,
                                     .message = is_known ? "this caller may not run this agent"
                                                         : SL_IDENTIFY_REFUSAL,
                                     .reason = is_known ? "FORBIDDEN" : "UNAUTHENTICATED" };
    if (is_known) {
        SL_METRIC_ADD(sluice_refusals, 1, "run", status.reason);
    }
    fill_status(&status, &info, false);
    return sl_call_fail(call, &status);
}

enum sl_status sl_execute_start(
    struct sl_runtime *runtime,
    struct sl_identify *identify,
    struct sl_call *call,
    const Sluice__V1__ExecuteRequest *request,
    Sluice__V1__ExecuteResponse *reply)
{
    static const struct sl_call_callbacks call_callbacks = { .on_ended = on_ended,
                                                             .end_info = end_info };
    struct sl_error err;
    struct sl_run_spec spec;
    const struct sl_limits *limits = sl_runtime_limits(runtime, sl_call_loop(call));
    if (limits == NULL) {
        wipe_credentials(request);
        (void)sl_fail(&err, SL_UNAVAILABLE, "the server is going down");
        return fail_request(call, &err);
    }
    const enum sl_status verdict =
        request->agent[0] == '\0' ? SL_OK : sl_identify_may_run(identify, call, request->agent);
    if (verdict != SL_OK) {
        wipe_credentials(request);
        return forbid(call, verdict);
    }
    struct execution *execution = sl_arena_calloc(sl_call_arena(call), 1, sizeof(*execution));
    if (execution == NULL) {
        wipe_credentials(request);
        (void)sl_fail(&err, SL_RESOURCE_EXHAUSTED, "out of memory");
        return fail_request(call, &err);
    }
    if (sl_convert_request(request, limits, sl_call_arena(call), &spec, &err) != SL_OK) {
        wipe_credentials(request);
        return fail_request(call, &err);
    }
    const struct sl_call_identity *caller = sl_call_identity(call);
    spec.tenant = caller == NULL ? NULL : caller->tenant;
    spec.deadline_ns = deadline_of(call);
    spec.n_connection_streams = sl_call_n_streams(call);
    spec.peer = sl_call_peer(call);
    *execution = (struct execution){ .call = call,
                                     .reply = reply,
                                     .source = { .ready = source_ready,
                                                 .take = source_take,
                                                 .at_border = source_at_border,
                                                 .on_finished = source_finished,
                                                 .on_streams = source_streams } };
    sl_buf_init(&execution->event, limits->event + PREFIX_BYTES);
    const struct sl_run_callbacks callbacks = { .on_started = on_started,
                                                .on_readable = on_readable,
                                                .on_heartbeat = on_heartbeat,
                                                .on_gone = on_gone,
                                                .user_data = execution };
    const enum sl_status status =
        sl_run_start(runtime, sl_call_loop(call), &spec, &callbacks, &execution->stream);
    wipe_credentials(request);
    if (status != SL_OK) {
        (void)sl_fail(&err, SL_RESOURCE_EXHAUSTED, "out of memory");
        return fail_request(call, &err);
    }
    sl_call_set_callbacks(call, &call_callbacks, execution);
    return SL_PENDING;
}
