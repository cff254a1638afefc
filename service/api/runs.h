/* GetRun, ListRuns and CancelRun: what is asked of runs that somebody started. */
#ifndef SL_SERVICE_API_RUNS_H
#define SL_SERVICE_API_RUNS_H

#include "proto/sluice/v1/runtime.pb-c.h"
#include "runtime/runtime.h"
#include "service/api/identify.h"
#include "service/rpc/rpc.h"

/* Each gives SL_PENDING and finishes the call when the runtime has answered, or the status to end
 * it with at once. Runs of other tenants are unknown; agents that the caller may not run have no
 * say. Thread: the call's loop. */

SL_CHECK enum sl_status sl_runs_get(
    struct sl_runtime *runtime,
    struct sl_identify *identify,
    struct sl_call *call,
    const Sluice__V1__GetRunRequest *request,
    Sluice__V1__GetRunResponse *reply);

/* A page has at most page_size runs (100 when 0, at most 1,000), and fewer when they are large. */
SL_CHECK enum sl_status sl_runs_list(
    struct sl_runtime *runtime,
    struct sl_identify *identify,
    struct sl_call *call,
    const Sluice__V1__ListRunsRequest *request,
    Sluice__V1__ListRunsResponse *reply);

/* What was asked for is done also when the client goes before the answer. */
SL_CHECK enum sl_status sl_runs_cancel(
    struct sl_runtime *runtime,
    struct sl_identify *identify,
    struct sl_call *call,
    const Sluice__V1__CancelRunRequest *request,
    Sluice__V1__CancelRunResponse *reply);

#endif
