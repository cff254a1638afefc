#include "service/api/converse.h"

#include "proto/sluice/v1/runtime.pb-c.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "service/api/decide.h"
#include "service/api/execute.h"
#include "service/api/follow.h"
#include "service/api/refuse.h"

/* One call and its run. Lies in the call's arena: it lives until the call is finished. */
struct conversation {
    struct sl_follow follow; /* what the callbacks get; its stream is NULL until `start` came */
    struct sl_runtime *runtime;
    struct sl_identify *identify;
    struct sl_run_query *query; /* the message that is on its way */
    bool is_open;               /* the run exists */
    bool is_read;               /* END_STREAM came */
    bool has_unheard;           /* input that came after the last iteration */
    bool is_over;               /* the call is finished, or about to be */
};

static struct conversation *of_follow(struct sl_follow *follow)
{
    return SL_CONTAINER(follow, struct conversation, follow);
}

/* ---- The end -----------------------------------------------------------------------------------
 */

static void on_finish(struct sl_follow *follow)
{
    struct conversation *conversation = of_follow(follow);
    conversation->is_over = true;
    conversation->query = sl_run_query_close(conversation->query);
}

/* The client's fault, or its caller's: the stream ends, which is to the run what a lost connection
 * is (AL-7.1). Nothing of the conversation may be touched afterwards. */
static void fail(
    struct conversation *conversation, enum sl_status code, const char *message, const char *reason)
{
    struct sl_metadatum info;
    struct sl_call_status status = { .code = code, .message = message, .reason = reason };
    if (conversation->is_open) {
        sl_follow_say_place(&conversation->follow, &status);
    } else {
        sl_refuse_say_started(&status, &info, false);
    }
    sl_follow_finish(&conversation->follow, SL_RUN_CLOSE_LOST, 0, &status);
}

static void fail_invalid(struct conversation *conversation, const char *message)
{
    fail(conversation, SL_INVALID_ARGUMENT, message, "INVALID_REQUEST");
}

/* Everything of the run was read. An input that it did not hear is told only now, and only when
 * nothing worse is. */
static void on_finished(struct sl_call_source *source)
{
    struct sl_follow *follow =
        sl_unconst((const char *)source - offsetof(struct sl_follow, source));
    struct conversation *conversation = of_follow(follow);
    if (conversation->has_unheard && sl_run_stream_ending(follow->stream)->status == SL_OK) {
        struct sl_metadatum info;
        struct sl_call_status status = { .code = SL_FAILED_PRECONDITION,
                                         .message =
                                             "the run is done; user_input came after its last "
                                             "iteration",
                                         .reason = "INPUT_REFUSED" };
        sl_refuse_say_started(&status, &info, true);
        sl_follow_finish(follow, SL_RUN_CLOSE_READ, 0, &status);
        return;
    }
    sl_follow_finish_read(follow);
}

/* ---- Messages ----------------------------------------------------------------------------------
 */

static void read_more(struct conversation *conversation);

/* The run's word on a message. What only came too late changes nothing: the run's events tell how
 * it went. */
static void on_answer(const struct sl_run_answer *answer, void *user_data)
{
    struct conversation *conversation = user_data;
    const enum sl_status status = answer->status;
    const bool is_bad = status == SL_INVALID_ARGUMENT || status == SL_PERMISSION_DENIED ||
                        status == SL_RESOURCE_EXHAUSTED ||
                        (status == SL_NOT_FOUND && answer->reason != NULL);
    if (conversation->is_over || sl_call_is_ended(conversation->follow.call)) {
        conversation->query = sl_run_query_close(conversation->query);
        return;
    }
    if (is_bad) {
        struct sl_run_query *query = SL_TAKE(conversation->query); /* which has the text */
        const bool is_full = status == SL_RESOURCE_EXHAUSTED;
        fail(
            conversation, status, is_full ? "out of memory" : answer->text,
            is_full ? "SERVER_FULL" : answer->reason);
        (void)sl_run_query_close(query);
        return;
    }
    conversation->has_unheard |=
        answer->reason != NULL && strcmp(answer->reason, "INPUT_REFUSED") == 0;
    conversation->query = sl_run_query_close(conversation->query);
    read_more(conversation);
}

/* Nothing of the conversation may be touched when it gives false. */
static bool ask(struct conversation *conversation, const struct sl_run_ask *question)
{
    struct sl_call *call = conversation->follow.call;
    const enum sl_status verdict = sl_identify_check(conversation->identify, call);
    if (verdict != SL_OK) { /* his key went meanwhile */
        fail(conversation, verdict, SL_IDENTIFY_REFUSAL, "UNAUTHENTICATED");
        return false;
    }
    const enum sl_status status = sl_run_ask(
        conversation->runtime, sl_call_loop(call), question, on_answer, conversation,
        &conversation->query);
    if (status == SL_RESOURCE_EXHAUSTED) {
        fail(conversation, status, "out of memory", "SERVER_FULL");
        return false;
    }
    return true; /* UNAVAILABLE: the run is being ended, too */
}

static bool
take_approval(struct conversation *conversation, const Sluice__V1__ApprovalAnswer *answer)
{
    struct sl_run_ask question;
    struct sl_error err = { .text = "" };
    if (sl_decide_ask(
            conversation->follow.call, conversation->follow.run_id, answer, &question, &err) !=
        SL_OK) {
        fail_invalid(conversation, err.text);
        return false;
    }
    return ask(conversation, &question);
}

static void log_cancel(const struct conversation *conversation, const char *reason)
{
    const struct sl_call *call = conversation->follow.call;
    const struct sl_call_identity *caller = sl_call_identity(call);
    sl_log(
        SL_INFO, SL_LOG_API, "run=%s msg=\"cancel\" peer=%s principal=%s reason=%s",
        conversation->follow.run_id, SL_LOG_QUOTE(sl_slice_str(sl_call_peer(call))),
        SL_LOG_QUOTE(sl_slice_str(caller == NULL ? "" : caller->principal)),
        SL_LOG_QUOTE(sl_slice_str(reason)));
}

/* What only the stream may say that started the run. */
static bool feed(struct conversation *conversation, struct sl_run_ask *question)
{
    const struct sl_call_identity *caller = sl_call_identity(conversation->follow.call);
    if (conversation->follow.is_observer) {
        const char *reason = "NOT_THE_STARTER";
        fail(
            conversation, SL_FAILED_PRECONDITION,
            "only the stream that started the run can give results and input", reason);
        return false;
    }
    question->tenant = caller == NULL ? NULL : caller->tenant;
    question->run_id = conversation->follow.run_id;
    return ask(conversation, question);
}

static bool
take_message(struct conversation *conversation, const Sluice__V1__ConverseRequest *message)
{
    const struct sl_call_identity *caller = sl_call_identity(conversation->follow.call);
    struct sl_run_ask question = { .kind = SL_RUN_ASK_CANCEL };
    switch (message->message_case) {
    case SLUICE__V1__CONVERSE_REQUEST__MESSAGE_CANCEL:
        log_cancel(conversation, message->cancel->reason);
        question.tenant = caller == NULL ? NULL : caller->tenant;
        question.run_id = conversation->follow.run_id;
        return ask(conversation, &question);
    case SLUICE__V1__CONVERSE_REQUEST__MESSAGE_APPROVAL:
        return take_approval(conversation, message->approval);
    case SLUICE__V1__CONVERSE_REQUEST__MESSAGE_TOOL_RESULT:
        question.kind = SL_RUN_ASK_TOOL_RESULT;
        question.tool_id = message->tool_result->tool_id;
        question.text = sl_slice_str(message->tool_result->result_json);
        question.error = sl_slice_str(message->tool_result->error);
        return feed(conversation, &question);
    case SLUICE__V1__CONVERSE_REQUEST__MESSAGE_USER_INPUT:
        question.kind = SL_RUN_ASK_USER_INPUT;
        question.text = sl_slice_str(message->user_input->text);
        return feed(conversation, &question);
    case SLUICE__V1__CONVERSE_REQUEST__MESSAGE_START:
        fail_invalid(conversation, "start: only the first message is one");
        return false;
    case SLUICE__V1__CONVERSE_REQUEST__MESSAGE__NOT_SET:
    case _SLUICE__V1__CONVERSE_REQUEST__MESSAGE__CASE_IS_INT_SIZE:
        break;
    }
    fail_invalid(conversation, "message: one that this server knows must be set");
    return false;
}

/* The next message. SL_OK: it is there; SL_AGAIN: none is, or the call is over. */
static enum sl_status receive(struct conversation *conversation, const void **ret_message)
{
    void *message = NULL;
    const enum sl_status status = sl_call_recv(conversation->follow.call, &message);
    *ret_message = message;
    if (status == SL_END) {
        conversation->is_read = true;
        return SL_AGAIN;
    }
    if (status != SL_OK && status != SL_AGAIN) {
        if (!sl_call_is_ended(conversation->follow.call)) {
            fail(conversation, status, "the message cannot be read", "INVALID_REQUEST");
        }
        return SL_AGAIN;
    }
    return status;
}

static void read_more(struct conversation *conversation)
{
    const void *message = NULL;
    bool goes_on = true;
    while (goes_on && conversation->query == NULL && !conversation->is_read &&
           !sl_call_is_ended(conversation->follow.call) &&
           receive(conversation, &message) == SL_OK) {
        goes_on = take_message(conversation, message);
    }
}

/* ---- The run -----------------------------------------------------------------------------------
 */

static void on_started(
    struct sl_run_stream *stream,
    const char *run_id,
    const struct sl_run_refusal *refusal,
    void *user_data)
{
    struct sl_follow *follow = user_data;
    struct conversation *conversation = of_follow(follow);
    if (refusal != NULL) {
        sl_follow_refuse(follow, refusal);
        return;
    }
    if (!sl_run_stream_is_observer(stream)) {
        sl_execute_log_owner(follow->call, run_id);
    }
    enum sl_status status = sl_follow_open(follow, run_id);
    if (status == SL_OK) {
        status = sl_call_set_source(follow->call, &follow->source);
    }
    if (status != SL_OK && !sl_call_is_ended(follow->call)) {
        sl_follow_fail(follow, status, "the stream cannot be opened");
    } else if (status == SL_OK) {
        conversation->is_open = true;
        read_more(conversation);
    }
}

static enum sl_status begin(
    struct conversation *conversation,
    const Sluice__V1__ExecuteRequest *request,
    struct sl_error *err)
{
    struct sl_call *call = conversation->follow.call;
    const struct sl_limits *limits = sl_runtime_limits(conversation->runtime, sl_call_loop(call));
    struct sl_run_spec spec;
    if (limits == NULL) {
        return sl_fail(err, SL_UNAVAILABLE, "the server is going down");
    }
    SL_TRY(sl_execute_make_spec(call, request, limits, &spec, err));
    struct sl_run_callbacks callbacks = sl_follow_run_callbacks;
    callbacks.on_started = on_started;
    callbacks.user_data = &conversation->follow;
    /* The message goes before the run does. */
    const char *agent = sl_arena_dup(sl_call_arena(call), sl_slice_str(request->agent));
    struct sl_recheck *recheck = &conversation->follow.recheck;
    if (agent == NULL ||
        sl_recheck_start(recheck, conversation->identify, agent[0] == '\0' ? NULL : agent) !=
            SL_OK) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "out of memory");
    }
    if (sl_run_start(
            conversation->runtime, sl_call_loop(call), &spec, &callbacks,
            &conversation->follow.stream) != SL_OK) {
        sl_recheck_stop(recheck);
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "out of memory");
    }
    return SL_OK;
}

static void start(struct conversation *conversation, const Sluice__V1__ExecuteRequest *request)
{
    struct sl_error err = { .text = "" };
    struct sl_call *call = conversation->follow.call;
    const enum sl_status verdict =
        request->agent[0] == '\0'
            ? SL_OK
            : sl_identify_may_run(conversation->identify, call, request->agent);
    enum sl_status status = verdict;
    if (verdict == SL_OK) {
        status = begin(conversation, request, &err);
    }
    sl_execute_wipe_credentials(request);
    if (verdict != SL_OK) {
        const bool is_known = verdict == SL_PERMISSION_DENIED;
        fail(
            conversation, verdict,
            is_known ? "this caller may not run this agent" : SL_IDENTIFY_REFUSAL,
            is_known ? "FORBIDDEN" : "UNAUTHENTICATED");
    } else if (status != SL_OK) {
        const struct sl_call_status refusal = sl_execute_refusal(&err);
        fail(conversation, refusal.code, refusal.message, refusal.reason);
    } else {
        (void)sl_message_free(sl_message_take(call)); /* a run may last for long */
    }
}

static void read_start(struct conversation *conversation)
{
    const void *bytes = NULL;
    const enum sl_status status = receive(conversation, &bytes);
    if (status == SL_OK) {
        const Sluice__V1__ConverseRequest *message = bytes;
        if (message->message_case == SLUICE__V1__CONVERSE_REQUEST__MESSAGE_START) {
            start(conversation, message->start);
        } else {
            fail_invalid(conversation, "start: must be the first message");
        }
    } else if (conversation->is_read) {
        fail_invalid(conversation, "start: must be the first message, and there was none");
    }
}

/* ---- The call ----------------------------------------------------------------------------------
 */

static void on_readable(struct sl_call *call, void *user_data)
{
    struct conversation *conversation = of_follow(user_data);
    if (sl_call_is_ended(call)) {
        return;
    }
    if (conversation->follow.stream == NULL && !conversation->is_read) {
        read_start(conversation);
    } else if (conversation->is_open) {
        read_more(conversation);
    } /* otherwise it waits for the run */
}

static void on_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    struct conversation *conversation = of_follow(user_data);
    if (conversation->follow.stream == NULL) {
        const bool is_drain = end->kind == SL_CALL_DRAIN;
        fail(
            conversation, is_drain ? SL_UNAVAILABLE : SL_CANCELLED, "the server is going down",
            "DRAINING");
        return;
    }
    sl_follow_call_callbacks.on_ended(call, end, user_data);
}

static size_t
end_info(const struct sl_call *call, const struct sl_metadatum **ret_info, void *user_data)
{
    const struct sl_follow *follow = user_data;
    return follow->stream == NULL ? 0
                                  : sl_follow_call_callbacks.end_info(call, ret_info, user_data);
}

enum sl_status
sl_converse_start(struct sl_runtime *runtime, struct sl_identify *identify, struct sl_call *call)
{
    static const struct sl_call_callbacks callbacks = { .on_readable = on_readable,
                                                        .on_ended = on_ended,
                                                        .end_info = end_info };
    struct conversation *conversation =
        sl_arena_calloc(sl_call_arena(call), 1, sizeof(*conversation));
    if (conversation == NULL) {
        const struct sl_call_status status = { .code = SL_RESOURCE_EXHAUSTED,
                                               .message = "out of memory",
                                               .reason = "SERVER_FULL" };
        return sl_refuse(call, &status);
    }
    sl_follow_init(&conversation->follow, call);
    conversation->follow.source.on_finished = on_finished;
    conversation->follow.on_finish = on_finish;
    conversation->runtime = runtime;
    conversation->identify = identify;
    sl_call_set_callbacks(call, &callbacks, &conversation->follow);
    return SL_PENDING;
}
