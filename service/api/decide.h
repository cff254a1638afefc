/* DecideApproval: somebody's answer to a call that waits for it, from any connection (AL-6.7). */
#ifndef SL_SERVICE_API_DECIDE_H
#define SL_SERVICE_API_DECIDE_H

#include "proto/sluice/v1/runtime.pb-c.h"
#include "runtime/runtime.h"
#include "service/api/identify.h"
#include "service/rpc/rpc.h"

/* Gives SL_PENDING and finishes the call when the run has answered, or the status to end it with at
 * once. Thread: the call's loop. */
SL_CHECK enum sl_status sl_decide_approval(
    struct sl_runtime *runtime,
    struct sl_identify *identify,
    struct sl_call *call,
    const Sluice__V1__DecideApprovalRequest *request,
    Sluice__V1__DecideApprovalResponse *reply);

/* What is asked of the run for this answer. Borrows. Fails: SL_INVALID_ARGUMENT; `err` says what is
 * wrong with it. */
SL_CHECK enum sl_status sl_decide_ask(
    const struct sl_call *call,
    const char *run_id,
    const Sluice__V1__ApprovalAnswer *answer,
    struct sl_run_ask *ret_ask,
    struct sl_error *err);

#endif
