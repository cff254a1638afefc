/* Converse: a run with a live request side (AL-6.8).
 *
 *   start ─▶ sl_run_start ─▶ the run's events, as of ExecuteStreaming
 *   then one message after the other: recv ─▶ sl_run_ask ─▶ its answer ─▶ recv … ─▶ END_STREAM
 *
 * No more than one message is on its way to the run: what the client sends besides stays where the
 * windows of HTTP/2 hold it. */
#ifndef SL_SERVICE_API_CONVERSE_H
#define SL_SERVICE_API_CONVERSE_H

#include "runtime/runtime.h"
#include "service/api/identify.h"
#include "service/rpc/rpc.h"

/* Gives SL_PENDING, or the status to end the call with at once. Thread: the call's loop. */
SL_CHECK enum sl_status
sl_converse_start(struct sl_runtime *runtime, struct sl_identify *identify, struct sl_call *call);

#endif
