/* ListAgents. */
#ifndef SL_SERVICE_API_AGENTS_H
#define SL_SERVICE_API_AGENTS_H

#include "proto/sluice/v1/runtime.pb-c.h"
#include "runtime/runtime.h"
#include "service/rpc/rpc.h"

/* Fills one page: at most page_size agents (100 when 0, at most 1,000), by name. The page token is
 * the number of the first agent. Gives the status of the call. Thread: any. */
SL_CHECK enum sl_status sl_agents_list(
    const struct sl_runtime *runtime,
    struct sl_call *call,
    const Sluice__V1__ListAgentsRequest *request,
    Sluice__V1__ListAgentsResponse *reply);

#endif
