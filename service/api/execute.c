#include "service/api/execute.h"

#include "runtime/base/buf.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "service/api/convert.h"
#include "service/api/follow.h"
#include "service/api/refuse.h"

enum { PREFIX_BYTES = 5, TAKE_BYTES = 4096 };

/* One call and its run. Lies in the call's arena: it lives until the call is finished. */
struct execution {
    struct sl_follow follow;                   /* what the callbacks get */
    Sluice__V1__ExecuteResponse *reply;        /* Execute */
    Sluice__V1__StartRunResponse *start_reply; /* StartRun; both NULL: ExecuteStreaming */
    struct sl_buf event; /* Execute: prefix and bytes of the event being read */
};

static struct execution *of_follow(struct sl_follow *follow)
{
    return SL_CONTAINER(follow, struct execution, follow);
}

static bool is_streaming(const struct execution *execution)
{
    return execution->reply == NULL && execution->start_reply == NULL;
}

static void free_event(struct sl_follow *follow)
{
    sl_buf_done(&of_follow(follow)->event);
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
    size_t n = sl_run_stream_ready(execution->follow.stream, TAKE_BYTES, ret_is_last);
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
        sl_run_stream_take(execution->follow.stream, room, take);
        sl_buf_commit(event, take);
        n = sl_run_stream_ready(execution->follow.stream, TAKE_BYTES, ret_is_last);
    }
    return SL_OK;
}

/* Moves RunDone from the terminal event into the reply. The event lives in the call's arena from
 * here on. */
static enum sl_status fill_reply(struct execution *execution)
{
    struct sl_arena *arena = sl_call_arena(execution->follow.call);
    const struct sl_slice bytes =
        sl_slice_of(execution->event.data + PREFIX_BYTES, execution->event.size - PREFIX_BYTES);
    struct sl_error err;
    void *message;
    SL_TRY(sl_codec_proto.decode(
        sl_call_limits(execution->follow.call), &sluice__v1__stream_event__descriptor, bytes, arena,
        &message, &err));
    Sluice__V1__StreamEvent *event = message;
    if (event->event_case != SLUICE__V1__STREAM_EVENT__EVENT_DONE) {
        return SL_INTERNAL;
    }
    execution->reply->result = event->done;
    execution->reply->run_id = sl_arena_dup(arena, sl_slice_str(execution->follow.run_id));
    return execution->reply->run_id == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
}

static void read_unary(struct execution *execution)
{
    bool is_last = false;
    enum sl_status status = read_events(execution, &is_last);
    if (status == SL_OK && !is_last) {
        return;
    }
    if (status == SL_OK && sl_run_stream_ending(execution->follow.stream)->status == SL_OK) {
        status = fill_reply(execution);
    }
    if (status == SL_OK) {
        sl_follow_finish_read(&execution->follow);
        return;
    }
    struct sl_metadatum info;
    struct sl_call_status failure = { .code = status,
                                      .message = "the reply cannot be built",
                                      .reason = "OUT_OF_MEMORY" };
    sl_refuse_say_started(&failure, &info, true);
    sl_follow_finish(&execution->follow, SL_RUN_CLOSE_READ, 0, &failure);
}

/* ---- What the run says -------------------------------------------------------------------------
 */

void sl_execute_log_owner(const struct sl_call *call, const char *run_id)
{
    const struct sl_call_identity *caller = sl_call_identity(call);
    if (caller != NULL) {
        sl_log(
            SL_INFO, SL_LOG_API, "run=%s msg=\"owned\" principal=%s tenant=%s", run_id,
            SL_LOG_QUOTE(sl_slice_str(caller->principal)),
            SL_LOG_QUOTE(sl_slice_str(caller->tenant)));
    }
}

/* The run exists: its log is read from here on, or its id is all that was wanted. */
static void go_on(struct execution *execution)
{
    struct sl_follow *follow = &execution->follow;
    if (execution->reply != NULL) {
        read_unary(execution); /* asks for on_readable */
        return;
    }
    struct sl_metadatum info;
    struct sl_call_status status = { .code = SL_OK, .reason = "OUT_OF_MEMORY" };
    execution->start_reply->run_id =
        sl_arena_dup(sl_call_arena(follow->call), sl_slice_str(follow->run_id));
    if (execution->start_reply->run_id == NULL) {
        sl_follow_fail(follow, SL_RESOURCE_EXHAUSTED, "the reply cannot be built");
        return;
    }
    sl_refuse_say_started(&status, &info, true);
    sl_follow_finish(follow, SL_RUN_CLOSE_LOST, 0, &status); /* the run goes on without it */
}

static void on_started(
    struct sl_run_stream *stream,
    const char *run_id,
    const struct sl_run_refusal *refusal,
    void *user_data)
{
    struct sl_follow *follow = user_data;
    struct execution *execution = of_follow(follow);
    if (refusal == NULL && !sl_run_stream_is_observer(stream)) {
        sl_execute_log_owner(follow->call, run_id);
    }
    if (is_streaming(execution)) {
        sl_follow_run_callbacks.on_started(stream, run_id, refusal, follow);
        return;
    }
    if (refusal != NULL) {
        sl_follow_refuse(follow, refusal);
        return;
    }
    const enum sl_status status = sl_follow_open(follow, run_id);
    if (status == SL_OK) {
        go_on(execution);
    } else if (!sl_call_is_ended(follow->call)) {
        sl_follow_fail(follow, status, "the headers cannot be sent");
    }
}

static void on_readable(struct sl_run_stream *stream, void *user_data)
{
    struct execution *execution = of_follow(user_data);
    if (execution->reply != NULL) {
        read_unary(execution);
    } else {
        sl_follow_run_callbacks.on_readable(stream, user_data);
    }
}

static void on_heartbeat(struct sl_run_stream *stream, struct sl_slice message, void *user_data)
{
    if (is_streaming(of_follow(user_data))) {
        sl_follow_run_callbacks.on_heartbeat(stream, message, user_data);
    }
}

/* ---- The start ---------------------------------------------------------------------------------
 */

static uint64_t deadline_of(const struct sl_call *call)
{
    const uint64_t remaining_ns = sl_call_remaining_ns(call);
    if (remaining_ns == SL_NEVER_NS) {
        return SL_NEVER_NS;
    }
    return sl_loop_now_ns(sl_call_loop(call)) + remaining_ns;
}

void sl_execute_wipe_credentials(const Sluice__V1__ExecuteRequest *request)
{
    for (size_t i = 0; i < request->n_credentials; i++) {
        char *value = request->credentials[i]->value;
        if (value != NULL) {
            explicit_bzero(value, strlen(value));
        }
    }
}

struct sl_call_status sl_execute_refusal(const struct sl_error *err)
{
    const struct sl_call_status status = { .code = err->status,
                                           .message = err->text,
                                           .reason = err->status == SL_INVALID_ARGUMENT
                                                         ? "INVALID_REQUEST"
                                                     : err->status == SL_UNAVAILABLE
                                                         ? "DRAINING"
                                                         : "SERVER_FULL" };
    SL_METRIC_ADD(sluice_refusals, 1, "run", status.reason);
    return status;
}

static enum sl_status fail_request(struct sl_call *call, const struct sl_error *err)
{
    const struct sl_call_status status = sl_execute_refusal(err);
    return sl_refuse(call, &status);
}

/* StartRun has no stream: the run is detached from its beginning. */
static enum sl_status detach(struct sl_run_spec *spec, struct sl_error *err)
{
    if (spec->on_disconnect == SL_RUN_CANCEL) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT,
            "options.on_disconnect: StartRun has no stream whose loss could cancel the run");
    }
    if (spec->on_disconnect == SL_RUN_DISCONNECT_DEFAULT) {
        if (spec->detach_ttl_ms != 0) {
            return sl_fail(
                err, SL_INVALID_ARGUMENT,
                "options.detach_ttl_ms: only with on_disconnect DETACH_FOR");
        }
        spec->on_disconnect = SL_RUN_DETACH;
    }
    return SL_OK;
}

enum sl_status sl_execute_make_spec(
    struct sl_call *call,
    const Sluice__V1__ExecuteRequest *request,
    const struct sl_limits *limits,
    struct sl_run_spec *ret_spec,
    struct sl_error *err)
{
    SL_TRY(sl_convert_request(request, limits, sl_call_arena(call), ret_spec, err));
    const struct sl_call_identity *caller = sl_call_identity(call);
    ret_spec->tenant = caller == NULL ? NULL : caller->tenant;
    ret_spec->principal = caller == NULL ? NULL : caller->principal;
    ret_spec->deadline_ns = deadline_of(call);
    ret_spec->n_connection_streams = sl_call_n_streams(call);
    ret_spec->peer = sl_call_peer(call);
    return SL_OK;
}

static enum sl_status make_spec(
    const struct execution *execution,
    const Sluice__V1__ExecuteRequest *request,
    const struct sl_limits *limits,
    struct sl_run_spec *spec,
    struct sl_error *err)
{
    SL_TRY(sl_execute_make_spec(execution->follow.call, request, limits, spec, err));
    if (spec->n_client_tools > 0) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT,
            "options.client_tools: only with Converse, where the client can answer");
    }
    if (execution->start_reply != NULL) {
        SL_TRY(detach(spec, err));
        spec->has_no_stream = true;
    }
    spec->wants_only_end = !is_streaming(execution);
    return SL_OK;
}

static enum sl_status start(
    struct sl_runtime *runtime,
    struct sl_identify *identify,
    struct sl_call *call,
    const Sluice__V1__ExecuteRequest *request,
    const struct execution *kind,
    struct sl_error *err)
{
    const struct sl_limits *limits = sl_runtime_limits(runtime, sl_call_loop(call));
    if (limits == NULL) {
        return sl_fail(err, SL_UNAVAILABLE, "the server is going down");
    }
    struct execution *execution = sl_arena_calloc(sl_call_arena(call), 1, sizeof(*execution));
    if (execution == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "out of memory");
    }
    *execution = *kind;
    sl_follow_init(&execution->follow, call);
    execution->follow.on_finish = free_event;
    struct sl_run_spec spec;
    SL_TRY(make_spec(execution, request, limits, &spec, err));
    sl_buf_init(&execution->event, limits->event + PREFIX_BYTES);
    struct sl_run_callbacks callbacks = sl_follow_run_callbacks;
    callbacks.on_started = on_started;
    callbacks.on_readable = on_readable;
    callbacks.on_heartbeat = on_heartbeat;
    callbacks.user_data = &execution->follow;
    const char *agent = request->agent[0] == '\0' ? NULL : request->agent; /* lives in the call */
    if (sl_recheck_start(&execution->follow.recheck, identify, agent) != SL_OK) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "out of memory");
    }
    if (sl_run_start(runtime, sl_call_loop(call), &spec, &callbacks, &execution->follow.stream) !=
        SL_OK) {
        sl_recheck_stop(&execution->follow.recheck);
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "out of memory");
    }
    sl_call_set_callbacks(call, &sl_follow_call_callbacks, &execution->follow);
    return SL_PENDING;
}

static enum sl_status check_and_start(
    struct sl_runtime *runtime,
    struct sl_identify *identify,
    struct sl_call *call,
    const Sluice__V1__ExecuteRequest *request,
    const struct execution *kind)
{
    struct sl_error err;
    const enum sl_status verdict =
        request->agent[0] == '\0' ? SL_OK : sl_identify_may_run(identify, call, request->agent);
    if (verdict != SL_OK) {
        sl_execute_wipe_credentials(request);
        return sl_refuse_caller(call, verdict);
    }
    const enum sl_status status = start(runtime, identify, call, request, kind, &err);
    sl_execute_wipe_credentials(request);
    return status == SL_PENDING ? SL_PENDING : fail_request(call, &err);
}

enum sl_status sl_execute_start(
    struct sl_runtime *runtime,
    struct sl_identify *identify,
    struct sl_call *call,
    const Sluice__V1__ExecuteRequest *request,
    Sluice__V1__ExecuteResponse *reply)
{
    const struct execution kind = { .reply = reply };
    return check_and_start(runtime, identify, call, request, &kind);
}

enum sl_status sl_execute_detached(
    struct sl_runtime *runtime,
    struct sl_identify *identify,
    struct sl_call *call,
    const Sluice__V1__ExecuteRequest *request,
    Sluice__V1__StartRunResponse *reply)
{
    const struct execution kind = { .start_reply = reply };
    return check_and_start(runtime, identify, call, request, &kind);
}
