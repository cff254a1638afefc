/* ListAgents. */
#ifndef SL_SERVICE_API_AGENTS_H
#define SL_SERVICE_API_AGENTS_H

#include "proto/sluice/v1/runtime.pb-c.h"
#include "runtime/runtime.h"
#include "service/api/identify.h"
#include "service/rpc/rpc.h"

/* Fills one page of the agents that the caller may run: at most page_size (100 when 0, at most
 * 1,000), by name. The page token is the number of the first one. Gives the status of the call.
 * Thread: any. */
SL_CHECK enum sl_status sl_agents_list(
    const struct sl_runtime *runtime,
    struct sl_identify *identify,
    struct sl_call *call,
    const Sluice__V1__ListAgentsRequest *request,
    Sluice__V1__ListAgentsResponse *reply);

#endif
