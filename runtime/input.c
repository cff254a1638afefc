/* What is said to a run from outside: a decision, the result of a client's tool, further input. */
#include <stdio.h>

#include "runtime/base/mem.h"
#include "runtime/query.h"

_Static_assert(
    (int)SL_RUN_APPROVED == (int)SL_DECISION(APPROVED) &&
        (int)SL_RUN_DECISION_CANCELLED == (int)SL_DECISION(CANCELLED),
    "decisions have the numbers of the API");

static const struct sl_approvals *approvals_of(const struct sl_known_run *known)
{
    return known->run != NULL ? sl_run_approvals(known->run) : &known->end.approvals;
}

static enum sl_status fill_decision(
    const struct sl_approval *approval, struct sl_arena *arena, struct sl_run_answer *answer)
{
    const char *by = approval->decided_by == NULL ? "" : approval->decided_by;
    const char *comment = approval->comment == NULL ? "" : approval->comment;
    answer->decision = (enum sl_run_decision)approval->decision;
    answer->decided_by = sl_arena_dup(arena, sl_slice_str(by));
    answer->comment = sl_arena_dup(arena, sl_slice_str(comment));
    return answer->decided_by == NULL || answer->comment == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
}

static enum sl_status decide(
    const struct sl_run_ask *ask,
    const struct sl_known_run *known,
    struct sl_arena *arena,
    struct sl_run_answer *answer,
    struct sl_error *err)
{
    struct sl_approval *approval = NULL;
    enum sl_status status =
        sl_approvals_find_open(approvals_of(known), ask->approval_id, &approval, err);
    if (status == SL_OK && known->run == NULL) {
        status = sl_fail(err, SL_NOT_FOUND, "the run has ended");
    } else if (status == SL_OK) {
        const struct sl_approval_answer given = { .approval_id = ask->approval_id,
                                                  .digest = ask->digest,
                                                  .is_approved = ask->is_approved,
                                                  .principal = ask->principal,
                                                  .comment = ask->comment };
        status = sl_run_decide(known->run, &given, err);
    }
    if (status == SL_NOT_FOUND) {
        answer->reason = "APPROVAL_NOT_FOUND";
    } else if (status == SL_FAILED_PRECONDITION) {
        answer->reason = "APPROVAL_DECIDED";
    } else if (status == SL_PERMISSION_DENIED) {
        answer->reason = "FORBIDDEN";
    }
    if (status == SL_OK || status == SL_FAILED_PRECONDITION) {
        SL_TRY(fill_decision(approval, arena, answer));
    }
    return status;
}

enum sl_status sl_run_say(
    const struct sl_run_ask *ask,
    const struct sl_known_run *known,
    struct sl_arena *arena,
    struct sl_run_answer *answer)
{
    struct sl_error err = { .text = "" };
    enum sl_status status = SL_OK;
    answer->reason = "INVALID_REQUEST";
    if (ask->kind == SL_RUN_ASK_DECIDE) {
        status = decide(ask, known, arena, answer, &err);
    } else if (ask->kind == SL_RUN_ASK_TOOL_RESULT && known->run != NULL) {
        status = sl_run_tool_result(known->run, ask->tool_id, ask->text, ask->error, &err);
    } else if (ask->kind == SL_RUN_ASK_USER_INPUT) {
        status = known->run == NULL ? sl_fail(&err, SL_FAILED_PRECONDITION, "the run has ended")
                                    : sl_run_user_input(known->run, ask->text, &err);
        if (status == SL_FAILED_PRECONDITION) {
            answer->reason = "INPUT_REFUSED";
        }
    } /* otherwise a result that comes too late */
    (void)snprintf(answer->text, sizeof(answer->text), "%s", err.text);
    return status;
}
