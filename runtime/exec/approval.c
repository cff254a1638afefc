#include "runtime/exec/approval.h"

#include <string.h>

#include "runtime/base/mem.h"

struct sl_approval *
sl_approvals_add(struct sl_approvals *approvals, const uint8_t digest[SL_SHA256_BYTES])
{
    struct sl_approval *approval = sl_calloc(1, sizeof(*approval));
    if (approval != NULL) {
        sl_random_id(approval->approval_id);
        memcpy(approval->digest, digest, SL_SHA256_BYTES);
        approval->next = approvals->first;
        approvals->first = approval;
    }
    return approval;
}

struct sl_approval *sl_approvals_find(const struct sl_approvals *approvals, const char *id)
{
    struct sl_approval *approval = approvals->first;
    while (approval != NULL && strcmp(approval->approval_id, id) != 0) {
        approval = approval->next;
    }
    return approval;
}

enum sl_status sl_approvals_find_open(
    const struct sl_approvals *approvals,
    const char *id,
    struct sl_approval **ret_approval,
    struct sl_error *err)
{
    *ret_approval = sl_approvals_find(approvals, id);
    if (*ret_approval == NULL) {
        return sl_fail(err, SL_NOT_FOUND, "the run has no such approval");
    }
    if ((*ret_approval)->decision != SL_DECISION(UNSPECIFIED)) {
        return sl_fail(err, SL_FAILED_PRECONDITION, "the approval is decided already");
    }
    return SL_OK;
}

void sl_approvals_done(struct sl_approvals *approvals)
{
    struct sl_approval *approval = SL_TAKE(approvals->first);
    while (approval != NULL) {
        struct sl_approval *next = approval->next;
        (void)sl_free(approval->decided_by);
        (void)sl_free(approval->comment);
        (void)sl_free(approval);
        approval = next;
    }
}

bool sl_approval_is_possible(const struct sl_agent *agent, const char *caller)
{
    return agent->approval_self || (agent->n_approvers > 0 && caller[0] != '\0');
}

bool sl_approval_may_decide(const struct sl_agent *agent, const char *caller, const char *principal)
{
    if (strcmp(caller, principal) == 0) {
        return agent->approval_self;
    }
    for (size_t i = 0; i < agent->n_approvers; i++) {
        const bool is_anybody = strcmp(agent->approvers[i], "*") == 0;
        if (principal[0] != '\0' && (is_anybody || strcmp(agent->approvers[i], principal) == 0)) {
            return true;
        }
    }
    return false;
}

enum sl_status sl_approval_set(
    struct sl_approval *approval,
    Sluice__V1__ApprovalDecision decision,
    const char *decided_by,
    const char *comment)
{
    char *by = sl_strdup(decided_by);
    char *words = sl_strdup(comment);
    if (by == NULL || words == NULL) {
        (void)sl_free(by);
        (void)sl_free(words);
        return SL_RESOURCE_EXHAUSTED;
    }
    approval->decided_by = by;
    approval->comment = words;
    approval->decision = decision;
    return SL_OK;
}
