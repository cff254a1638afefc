#include "service/api/decide.h"

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "service/api/refuse.h"

enum { DECIDED_INFOS = 4 };

/* One call and its question. Lies in the call's arena: it lives until the call is finished. */
struct decision {
    struct sl_call *call;
    struct sl_run_query *query;
    Sluice__V1__DecideApprovalResponse *reply;
};

/* Nothing of `decision` may be touched afterwards. */
static void finish(struct decision *decision, const struct sl_call_status *status)
{
    struct sl_run_query *query = SL_TAKE(decision->query);
    sl_call_finish(decision->call, status); /* copies what points into the answer */
    (void)sl_run_query_close(query);
}

static void finish_plain(
    struct decision *decision, enum sl_status code, const char *message, const char *reason)
{
    struct sl_metadatum info;
    struct sl_call_status status = { .code = code, .message = message, .reason = reason };
    sl_refuse_say_started(&status, &info, false);
    finish(decision, &status);
}

static struct sl_metadatum pair(const char *key, const char *value)
{
    return (struct sl_metadatum){ sl_slice_str(key), sl_slice_str(value) };
}

/* A refusal of the run; of a second decision the first one is told. */
static void refuse(struct decision *decision, const struct sl_run_answer *answer)
{
    static const char *const names[] = { "", "APPROVED", "DENIED", "EXPIRED", "CANCELLED" };
    struct sl_metadatum infos[DECIDED_INFOS] = { pair("run_started", "true") };
    struct sl_call_status status = { .code = answer->status,
                                     .message = answer->text,
                                     .reason = answer->reason,
                                     .info = infos,
                                     .n_info = 1 };
    if (answer->decision != SL_RUN_DECISION_NONE) {
        infos[1] = pair("decision", names[answer->decision]);
        infos[2] = pair("decided_by", answer->decided_by);
        infos[3] = pair("comment", answer->comment);
        status.n_info = DECIDED_INFOS;
    }
    finish(decision, &status);
}

static void on_answer(const struct sl_run_answer *answer, void *user_data)
{
    struct decision *decision = user_data;
    if (answer->status == SL_RESOURCE_EXHAUSTED) {
        finish_plain(decision, answer->status, "out of memory", "SERVER_FULL");
    } else if (answer->status != SL_OK && answer->reason == NULL) {
        finish_plain(decision, SL_NOT_FOUND, "there is no such run", "RUN_NOT_FOUND");
    } else if (answer->status != SL_OK) {
        refuse(decision, answer);
    } else {
        struct sl_metadatum info;
        struct sl_call_status status = { .code = SL_OK, .reason = "OUT_OF_MEMORY" };
        decision->reply->decision = (Sluice__V1__ApprovalDecision)answer->decision;
        sl_refuse_say_started(&status, &info, true);
        finish(decision, &status);
    }
}

static void on_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    (void)call;
    if (end->kind == SL_CALL_DRAIN) {
        finish_plain(user_data, SL_UNAVAILABLE, "the server is going down", "DRAINING");
    } else {
        finish_plain(user_data, SL_CANCELLED, NULL, NULL); /* nobody reads it */
    }
}

enum sl_status sl_decide_ask(
    const struct sl_call *call,
    const char *run_id,
    const Sluice__V1__ApprovalAnswer *answer,
    struct sl_run_ask *ret_ask,
    struct sl_error *err)
{
    const int wanted = (int)answer->decision; /* an enum field of proto3 may hold any number */
    if (answer->approval_id[0] == '\0') {
        return sl_fail(err, SL_INVALID_ARGUMENT, "answer.approval_id: must be given");
    }
    if (wanted != SLUICE__V1__APPROVAL_DECISION__APPROVAL_DECISION_APPROVED &&
        wanted != SLUICE__V1__APPROVAL_DECISION__APPROVAL_DECISION_DENIED) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "answer.decision: must be APPROVED or DENIED");
    }
    const struct sl_call_identity *caller = sl_call_identity(call);
    *ret_ask = (struct sl_run_ask){
        .kind = SL_RUN_ASK_DECIDE,
        .tenant = caller == NULL ? NULL : caller->tenant,
        .run_id = run_id,
        .principal = caller == NULL ? NULL : caller->principal,
        .approval_id = answer->approval_id,
        .digest = sl_slice_of(answer->arguments_digest.data, answer->arguments_digest.len),
        .is_approved = wanted == SLUICE__V1__APPROVAL_DECISION__APPROVAL_DECISION_APPROVED,
        .comment = answer->comment,
    };
    return SL_OK;
}

static enum sl_status
refuse_now(struct sl_call *call, enum sl_status code, const char *message, const char *reason)
{
    const struct sl_call_status status = { .code = code, .message = message, .reason = reason };
    return sl_refuse(call, &status);
}

enum sl_status sl_decide_approval(
    struct sl_runtime *runtime,
    struct sl_identify *identify,
    struct sl_call *call,
    const Sluice__V1__DecideApprovalRequest *request,
    Sluice__V1__DecideApprovalResponse *reply)
{
    static const struct sl_call_callbacks call_callbacks = { .on_ended = on_ended };
    const enum sl_status verdict = sl_identify_check(identify, call);
    struct sl_error err = { .text = "" };
    struct sl_run_ask ask;
    if (verdict != SL_OK) {
        return sl_refuse_caller(call, verdict);
    }
    if (request->run_id[0] == '\0' || request->answer == NULL) {
        return refuse_now(
            call, SL_INVALID_ARGUMENT, "run_id and answer must be given", "INVALID_REQUEST");
    }
    if (sl_decide_ask(call, request->run_id, request->answer, &ask, &err) != SL_OK) {
        return refuse_now(call, SL_INVALID_ARGUMENT, err.text, "INVALID_REQUEST");
    }
    struct decision *decision = sl_arena_calloc(sl_call_arena(call), 1, sizeof(*decision));
    if (decision == NULL) {
        return refuse_now(call, SL_RESOURCE_EXHAUSTED, "out of memory", "SERVER_FULL");
    }
    decision->call = call;
    decision->reply = reply;
    const enum sl_status status =
        sl_run_ask(runtime, sl_call_loop(call), &ask, on_answer, decision, &decision->query);
    if (status == SL_UNAVAILABLE) {
        return refuse_now(call, status, "the server is going down", "DRAINING");
    }
    if (status != SL_OK) {
        return refuse_now(call, SL_RESOURCE_EXHAUSTED, "out of memory", "SERVER_FULL");
    }
    sl_call_set_callbacks(call, &call_callbacks, decision);
    return SL_PENDING;
}
