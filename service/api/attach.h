/* Attach: an observer of a run that somebody else started. */
#ifndef SL_SERVICE_API_ATTACH_H
#define SL_SERVICE_API_ATTACH_H

#include "proto/sluice/v1/runtime.pb-c.h"
#include "runtime/runtime.h"
#include "service/api/identify.h"
#include "service/rpc/rpc.h"

/* Gives SL_PENDING; the call ends as its run does. Whose run it is decides alone: agents that the
 * caller may not run (any more) have no say. Otherwise the status to end the call with. Thread: the
 * call's loop. */
SL_CHECK enum sl_status sl_attach_start(
    struct sl_runtime *runtime,
    struct sl_identify *identify,
    struct sl_call *call,
    const Sluice__V1__AttachRequest *request);

#endif
