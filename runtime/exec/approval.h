/* The approvals of a run (AL-6.7): what was asked for, and how each was decided, exactly once.
 * Everything here is in the run's events, too (ApprovalRequested, ApprovalDecided), from which the
 * table can be made again. */
#ifndef SL_RUNTIME_EXEC_APPROVAL_H
#define SL_RUNTIME_EXEC_APPROVAL_H

#include "proto/sluice/v1/events.pb-c.h"
#include "runtime/base/crypto.h"
#include "runtime/base/random.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"
#include "runtime/exec/agent.h"

#define SL_DECISION(name) SLUICE__V1__APPROVAL_DECISION__APPROVAL_DECISION_##name

enum { SL_APPROVAL_COMMENT_BYTES = 4096 };

struct sl_approval {
    struct sl_approval *next;
    char approval_id[SL_ID_BYTES];
    uint8_t digest[SL_SHA256_BYTES];       /* of the canonical arguments */
    uint64_t expires_at_ms;                /* Unix */
    Sluice__V1__ApprovalDecision decision; /* UNSPECIFIED: not yet */
    char *decided_by, *comment;            /* owned; NULL: nobody, none */
};

/* Of one run, the latest first. All zero is empty. */
struct sl_approvals {
    struct sl_approval *first;
};

/* Who decides, and what. Texts are not NULL. */
struct sl_approval_answer {
    const char *approval_id;
    struct sl_slice digest;
    bool is_approved;
    const char *principal; /* "": whoever calls where callers are not known */
    const char *comment;
};

/* A new one, with an id that is hard to guess. NULL: no memory. Owns: the table. */
SL_CHECK struct sl_approval *
sl_approvals_add(struct sl_approvals *approvals, const uint8_t digest[SL_SHA256_BYTES]);
/* NULL: there is none. */
struct sl_approval *sl_approvals_find(const struct sl_approvals *approvals, const char *id);
/* One that can be decided. `*ret_approval` is also set when it is decided already. Fails:
 * SL_NOT_FOUND; SL_FAILED_PRECONDITION it is decided. */
SL_CHECK enum sl_status sl_approvals_find_open(
    const struct sl_approvals *approvals,
    const char *id,
    struct sl_approval **ret_approval,
    struct sl_error *err);
void sl_approvals_done(struct sl_approvals *approvals);

/* Could anybody ever decide about a run of `caller` ("": not known)? */
bool sl_approval_is_possible(const struct sl_agent *agent, const char *caller);
/* May he? The run's own caller only with `approval.self`, whatever else he is; others when they are
 * listed. */
bool sl_approval_may_decide(
    const struct sl_agent *agent, const char *caller, const char *principal);

/* Notes the one decision. `decided_by` and `comment` are copied. Fails: SL_RESOURCE_EXHAUSTED;
 * nothing is decided then. */
SL_CHECK enum sl_status sl_approval_set(
    struct sl_approval *approval,
    Sluice__V1__ApprovalDecision decision,
    const char *decided_by,
    const char *comment);

#endif
