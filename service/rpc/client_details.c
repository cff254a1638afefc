/* The details of an error, read for the user of a call. */
#include "service/rpc/client_impl.h"
#include "service/rpc/status.h"

const struct sl_error_info *sl_client_call_error_info(struct sl_client_call *call)
{
    struct sl_rpc_details details;
    if (call->own.error_info != NULL) {
        return call->own.error_info;
    }
    if (call->own.details.size == 0 ||
        sl_rpc_details_decode(call->own.details, &call->own.arena, &details) != SL_OK) {
        return NULL;
    }
    struct sl_error_info *info = sl_arena_calloc(&call->own.arena, 1, sizeof(*info));
    if (info != NULL) {
        *info = (struct sl_error_info){ .reason = details.reason,
                                        .domain = details.domain,
                                        .info = details.info,
                                        .n_info = details.n_info,
                                        .retry_delay_ms = details.retry_delay_ms };
    }
    call->own.error_info = info;
    return info;
}
