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
struct sl_call_status sl_refuse_standing(enum sl_identity_standing standing)
{
    static const struct sl_call_status unknown = { .struct_size = sizeof(unknown),
                                                   .code = SL_UNAUTHENTICATED,
                                                   .message = SL_IDENTIFY_REFUSAL,
                                                   .reason = "UNAUTHENTICATED" };
    struct sl_call_status forbidden = { .struct_size = sizeof(forbidden),
                                        .code = SL_PERMISSION_DENIED,
                                        .message = "this caller may not run this agent",
                                        .reason = "FORBIDDEN" };
    if (standing == SL_IDENTITY_OTHER_TENANT) {
        forbidden.message = "this run is another tenant's";
    }
    return standing == SL_IDENTITY_GONE ? unknown : forbidden;
}

enum sl_status sl_refuse_caller(struct sl_call *call, enum sl_status verdict)
{
    const bool is_known = verdict == SL_PERMISSION_DENIED;
    const struct sl_call_status status =
        sl_refuse_standing(is_known ? SL_IDENTITY_NO_RIGHT : SL_IDENTITY_GONE);
    if (is_known) {
        SL_METRIC_ADD(sluice_refusals, 1, "run", status.reason);
    }
    return sl_refuse(call, &status);
}
