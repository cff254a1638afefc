#include "service/api/refuse.h"

#include "runtime/base/metrics.h"
#include "service/api/identify.h"

void sl_refuse_say_started(
    struct sl_call_status *status, struct sl_metadatum *info, bool is_started)
{
    info->key = sl_slice_str("run_started");
    info->value = sl_slice_str(is_started ? "true" : "false");
    status->info = info;
    status->n_info = 1;
}

enum sl_status sl_refuse(struct sl_call *call, const struct sl_call_status *why)
{
    struct sl_metadatum info;
    struct sl_call_status status = *why;
    sl_refuse_say_started(&status, &info, false);
    return sl_call_fail(call, &status);
}

/* Whether there is such an agent is not told to whom it is none of his business. */
enum sl_status sl_refuse_caller(struct sl_call *call, enum sl_status verdict)
{
    const bool is_known = verdict == SL_PERMISSION_DENIED;
    const struct sl_call_status status = { .struct_size = sizeof(status),
                                           .code = verdict,
                                           .message = is_known
                                                          ? "this caller may not run this agent"
                                                          : SL_IDENTIFY_REFUSAL,
                                           .reason = is_known ? "FORBIDDEN" : "UNAUTHENTICATED" };
    if (is_known) {
        SL_METRIC_ADD(sluice_refusals, 1, "run", status.reason);
    }
    return sl_refuse(call, &status);
}
