/* Execute, ExecuteStreaming and StartRun: the bridge between a call and the run that it started. A
 * request id that is known leads to the run that it started before: the call then follows that one,
 * and its end means nothing to it. */
#ifndef SL_SERVICE_API_EXECUTE_H
#define SL_SERVICE_API_EXECUTE_H

#include "proto/sluice/v1/runtime.pb-c.h"
#include "runtime/runtime.h"
#include "service/api/identify.h"
#include "service/rpc/rpc.h"

/* Starts the run and gives SL_PENDING; the call is finished when the run's log has been sent
 * (streaming) or its terminal event has come (`reply` set). Otherwise the status to end the call
 * with: FORBIDDEN, whether the agent exists or not, when the caller may not run it. Thread: the
 * call's loop. */
SL_CHECK enum sl_status sl_execute_start(
    struct sl_runtime *runtime,
    struct sl_identify *identify,
    struct sl_call *call,
    const Sluice__V1__ExecuteRequest *request,
    Sluice__V1__ExecuteResponse *reply);

/* The same for a run that has no reader: the call ends once the run exists. One that waits for a
 * slot when its caller goes is not started. */
SL_CHECK enum sl_status sl_execute_detached(
    struct sl_runtime *runtime,
    struct sl_identify *identify,
    struct sl_call *call,
    const Sluice__V1__ExecuteRequest *request,
    Sluice__V1__StartRunResponse *reply);

/* ---- For Converse, whose start is a message ----------------------------------------------------
 */

/* What the request and the call ask for. Borrows from both. Fails: as sl_convert_request(). */
SL_CHECK enum sl_status sl_execute_make_spec(
    struct sl_call *call,
    const Sluice__V1__ExecuteRequest *request,
    const struct sl_limits *limits,
    struct sl_run_spec *ret_spec,
    struct sl_error *err);
/* How a call ends that no run could be started for. Borrows `err`. Counts it. */
struct sl_call_status sl_execute_refusal(const struct sl_error *err);
/* The runtime has its own copy of what it keeps. */
void sl_execute_wipe_credentials(const Sluice__V1__ExecuteRequest *request);
/* Whose run it is, where callers are known. */
void sl_execute_log_owner(const struct sl_call *call, const char *run_id);

#endif
