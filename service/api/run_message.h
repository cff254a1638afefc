/* What the runtime knows of a run, as messages of sluice.v1. */
#ifndef SL_SERVICE_API_RUN_MESSAGE_H
#define SL_SERVICE_API_RUN_MESSAGE_H

#include "proto/sluice/v1/runtime.pb-c.h"
#include "runtime/base/arena.h"
#include "runtime/runtime.h"

/* Both borrow from `info`; the rest lies in `arena`. Fail: SL_RESOURCE_EXHAUSTED; SL_INTERNAL what
 * should be the last event is no message. */
SL_CHECK enum sl_status sl_run_message_fill(
    const struct sl_run_info *info,
    const struct sl_limits *limits,
    struct sl_arena *arena,
    Sluice__V1__Run **ret_run);
/* Fills `context`, or `context_absent`. */
SL_CHECK enum sl_status sl_run_message_fill_context(
    const struct sl_run_info *info, struct sl_arena *arena, Sluice__V1__GetRunResponse *reply);

Sluice__V1__RunState sl_run_message_state(enum sl_run_stage stage);

#endif
