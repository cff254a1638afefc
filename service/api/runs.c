/* A question to the runtime and its answer:
 *
 *   handler ─▶ sl_run_ask ─▶ on_answer: reply (borrows from the answer), finish, close the query
 *                  └─▶ the client goes, or the server: close, finish */
#include "service/api/runs.h"

#include <inttypes.h>
#include <stdio.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "service/api/refuse.h"
#include "service/api/run_message.h"

enum { PAGE_DEFAULT = 100, PAGE_MAX = 1000 };

/* One call and its question. Lies in the call's arena: it lives until the call is finished. */
struct question {
    struct sl_call *call;
    struct sl_run_query *query;
    struct sl_run_ask ask;
    /* One of them. */
    Sluice__V1__GetRunResponse *get_reply;
    Sluice__V1__ListRunsResponse *list_reply;
    Sluice__V1__CancelRunResponse *cancel_reply;
};

/* Nothing of `question` may be touched afterwards. */
static void finish(struct question *question, const struct sl_call_status *given, bool is_started)
{
    struct sl_run_query *query = SL_TAKE(question->query);
    struct sl_metadatum info;
    struct sl_call_status status = *given;
    sl_refuse_say_started(&status, &info, is_started);
    sl_call_finish(question->call, &status); /* packs the reply, which points into the answer */
    (void)sl_run_query_close(query);
}

static void fail(struct question *question, enum sl_status code)
{
    const struct sl_call_status status = { .code = code,
                                           .message = "the reply cannot be built",
                                           .reason = "OUT_OF_MEMORY" };
    finish(question, &status, true);
}

static void refuse_answer(struct question *question, enum sl_status code)
{
    struct sl_call_status status = { .code = code,
                                     .message = "out of memory",
                                     .reason = "SERVER_FULL" };
    if (code == SL_NOT_FOUND) { /* the same words for a run that is another tenant's */
        status.message = "there is no such run";
        status.reason = "RUN_NOT_FOUND";
    } else if (code == SL_INVALID_ARGUMENT) {
        status.message = "page_token: not a token of this server";
        status.reason = "INVALID_REQUEST";
    } else if (code == SL_UNAVAILABLE) {
        status.message = "the store cannot be read";
        status.reason = "STORE_UNAVAILABLE";
    } else if (code == SL_DATA_LOSS) { /* what else is known of the run is not */
        status.message = "the conversation of the run is damaged in the store";
        status.reason = "DATA_LOSS";
    }
    finish(question, &status, false);
}

/* ---- Replies -----------------------------------------------------------------------------------
 */

static enum sl_status reply_get(const struct question *question, const struct sl_run_answer *answer)
{
    struct sl_call *call = question->call;
    SL_TRY(sl_run_message_fill(
        &answer->runs[0], sl_call_limits(call), sl_call_arena(call), &question->get_reply->run));
    if (question->ask.kind != SL_RUN_ASK_CONTEXT) {
        return SL_OK;
    }
    return sl_run_message_fill_context(&answer->runs[0], sl_call_arena(call), question->get_reply);
}

static enum sl_status
reply_list(const struct question *question, const struct sl_run_answer *answer)
{
    struct sl_call *call = question->call;
    struct sl_arena *arena = sl_call_arena(call);
    Sluice__V1__ListRunsResponse *reply = question->list_reply;
    reply->runs = sl_arena_calloc(arena, answer->n_runs + 1, sizeof(Sluice__V1__Run *));
    if (reply->runs == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < answer->n_runs; i++) {
        SL_TRY(sl_run_message_fill(&answer->runs[i], sl_call_limits(call), arena, &reply->runs[i]));
        reply->n_runs = i + 1;
    }
    reply->next_page_token = sl_unconst(answer->next_page_token);
    return SL_OK;
}

static void on_answer(const struct sl_run_answer *answer, void *user_data)
{
    struct question *question = user_data;
    enum sl_status status = SL_OK;
    if (answer->status != SL_OK) {
        refuse_answer(question, answer->status);
        return;
    }
    if (question->list_reply != NULL) {
        status = reply_list(question, answer);
    } else if (question->get_reply != NULL) {
        status = reply_get(question, answer);
    } else {
        question->cancel_reply->state = sl_run_message_state(answer->runs[0].stage);
    }
    if (status != SL_OK) {
        fail(question, status);
        return;
    }
    const struct sl_call_status done = { .code = SL_OK, .reason = "OUT_OF_MEMORY" };
    finish(question, &done, true); /* also of success: a reply may fail to leave */
}

/* ---- The call ----------------------------------------------------------------------------------
 */

static void on_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    (void)call;
    const struct sl_call_status gone = { .code = SL_CANCELLED }; /* nobody reads it */
    const struct sl_call_status draining = { .code = SL_UNAVAILABLE,
                                             .message = "the server is going down",
                                             .reason = "DRAINING" };
    finish(user_data, end->kind == SL_CALL_DRAIN ? &draining : &gone, false);
}

static enum sl_status fail_ask(struct sl_call *call, enum sl_status code)
{
    const bool is_stopping = code == SL_UNAVAILABLE;
    const struct sl_call_status status = { .code = code,
                                           .message = is_stopping ? "the server is going down"
                                                                  : "out of memory",
                                           .reason = is_stopping ? "DRAINING" : "SERVER_FULL" };
    return sl_refuse(call, &status);
}

static enum sl_status refuse_request(struct sl_call *call, const char *message)
{
    const struct sl_call_status status = { .code = SL_INVALID_ARGUMENT,
                                           .message = message,
                                           .reason = "INVALID_REQUEST" };
    return sl_refuse(call, &status);
}

/* `given` with the call's tenant; the rest of it is the call's, and so is what its request has. */
static enum sl_status ask(struct sl_runtime *runtime, const struct question *given)
{
    static const struct sl_call_callbacks call_callbacks = { .on_ended = on_ended };
    struct sl_call *call = given->call;
    struct question *question = sl_arena_alloc(sl_call_arena(call), sizeof(*question));
    if (question == NULL) {
        return fail_ask(call, SL_RESOURCE_EXHAUSTED);
    }
    const struct sl_call_identity *caller = sl_call_identity(call);
    *question = *given;
    question->ask.tenant = caller == NULL ? NULL : caller->tenant;
    const enum sl_status status = sl_run_ask(
        runtime, sl_call_loop(call), &question->ask, on_answer, question, &question->query);
    if (status != SL_OK) {
        return fail_ask(call, status);
    }
    sl_call_set_callbacks(call, &call_callbacks, question);
    return SL_PENDING;
}

/* ---- The methods -------------------------------------------------------------------------------
 */

enum sl_status sl_runs_get(
    struct sl_runtime *runtime,
    struct sl_identify *identify,
    struct sl_call *call,
    const Sluice__V1__GetRunRequest *request,
    Sluice__V1__GetRunResponse *reply)
{
    const enum sl_status verdict = sl_identify_check(identify, call);
    if (verdict != SL_OK) {
        return sl_refuse_caller(call, verdict);
    }
    if (request->run_id[0] == '\0') {
        return refuse_request(call, "run_id: must be given");
    }
    const struct question question = {
        .call = call,
        .ask = { .kind = request->include_context ? SL_RUN_ASK_CONTEXT : SL_RUN_ASK_GET,
                 .run_id = request->run_id },
        .get_reply = reply
    };
    return ask(runtime, &question);
}

/* For operators: who ended it. The id is what the client says it is. */
static void log_cancel(const struct sl_call *call, const Sluice__V1__CancelRunRequest *request)
{
    const struct sl_call_identity *caller = sl_call_identity(call);
    sl_log(
        SL_INFO, SL_LOG_API, "run=%s msg=\"cancel\" peer=%s principal=%s reason=%s",
        SL_LOG_QUOTE(sl_slice_str(request->run_id)), SL_LOG_QUOTE(sl_slice_str(sl_call_peer(call))),
        SL_LOG_QUOTE(sl_slice_str(caller == NULL ? "" : caller->principal)),
        SL_LOG_QUOTE(sl_slice_str(request->reason)));
}

enum sl_status sl_runs_cancel(
    struct sl_runtime *runtime,
    struct sl_identify *identify,
    struct sl_call *call,
    const Sluice__V1__CancelRunRequest *request,
    Sluice__V1__CancelRunResponse *reply)
{
    const enum sl_status verdict = sl_identify_check(identify, call);
    if (verdict != SL_OK) {
        return sl_refuse_caller(call, verdict);
    }
    if (request->run_id[0] == '\0') {
        return refuse_request(call, "run_id: must be given");
    }
    log_cancel(call, request);
    const struct question question = {
        .call = call,
        .ask = { .kind = SL_RUN_ASK_CANCEL, .run_id = request->run_id, .wants_end = request->wait },
        .cancel_reply = reply
    };
    return ask(runtime, &question);
}

/* False: there can be no such run. */
static bool stage_of(Sluice__V1__RunState state, enum sl_run_stage *ret_stage)
{
    switch (state) {
    case SLUICE__V1__RUN_STATE__RUN_STATE_UNSPECIFIED:
        *ret_stage = SL_RUN_STAGE_ANY;
        return true;
    case SLUICE__V1__RUN_STATE__RUN_STATE_RUNNING:
        *ret_stage = SL_RUN_STAGE_RUNNING;
        return true;
    case SLUICE__V1__RUN_STATE__RUN_STATE_WAITING_APPROVAL:
        *ret_stage = SL_RUN_STAGE_WAITING_APPROVAL;
        return true;
    case SLUICE__V1__RUN_STATE__RUN_STATE_DONE:
        *ret_stage = SL_RUN_STAGE_DONE;
        return true;
    case SLUICE__V1__RUN_STATE__RUN_STATE_FAILED:
        *ret_stage = SL_RUN_STAGE_FAILED;
        return true;
    case SLUICE__V1__RUN_STATE__RUN_STATE_CANCELLED:
        *ret_stage = SL_RUN_STAGE_CANCELLED;
        return true;
    case SLUICE__V1__RUN_STATE__RUN_STATE_QUEUED:
        *ret_stage = SL_RUN_STAGE_QUEUED;
        return true;
    case _SLUICE__V1__RUN_STATE_IS_INT_SIZE:
        break;
    }
    return false;
}

enum sl_status sl_runs_list(
    struct sl_runtime *runtime,
    struct sl_identify *identify,
    struct sl_call *call,
    const Sluice__V1__ListRunsRequest *request,
    Sluice__V1__ListRunsResponse *reply)
{
    const enum sl_status verdict = sl_identify_check(identify, call);
    if (verdict != SL_OK) {
        return sl_refuse_caller(call, verdict);
    }
    const int state = (int)request->state; /* an enum field of proto3 may hold any number */
    if (state < 0 || state > SLUICE__V1__RUN_STATE__RUN_STATE_CANCELLED) {
        char text[64];
        (void)snprintf(text, sizeof(text), "state: %d is no value of this enum", state);
        return refuse_request(call, text);
    }
    const uint32_t page_size = request->page_size == 0 ? PAGE_DEFAULT : request->page_size;
    struct question question = { .call = call,
                                 .ask = { .kind = SL_RUN_ASK_LIST,
                                          .agent = request->agent,
                                          .session_id = request->session_id,
                                          .page_size = page_size > PAGE_MAX ? PAGE_MAX : page_size,
                                          .page_token = request->page_token },
                                 .list_reply = reply };
    if (!stage_of(request->state, &question.ask.stage)) {
        return SL_OK; /* nothing fits */
    }
    return ask(runtime, &question);
}
