/* The interceptors of a channel around its calls. */
#include "service/rpc/client_impl.h"

enum sl_status sl_client_chain_start(struct sl_client_call *call, struct sl_error *err)
{
    const struct sl_channel *channel = call->own.channel;
    call->own.is_starting = true;
    enum sl_status status = SL_OK;
    while (status == SL_OK && call->own.n_intercepted < channel->n_interceptors) {
        const struct sl_client_interceptor *one = &channel->interceptors[call->own.n_intercepted];
        *err = (struct sl_error){ 0 };
        status = one->on_start == NULL ? SL_OK : one->on_start(call, err, one->user_data);
        call->own.n_intercepted += status == SL_OK;
    }
    call->own.is_starting = false;
    return status;
}

void sl_client_chain_headers(struct sl_client_call *call)
{
    for (size_t i = call->own.n_intercepted; i > 0; i--) {
        const struct sl_client_interceptor *one = &call->own.channel->interceptors[i - 1];
        if (one->on_headers != NULL) {
            one->on_headers(call, &call->own.headers, one->user_data);
        }
    }
}

void sl_client_chain_message(struct sl_client_call *call, struct sl_slice message, bool is_in)
{
    const struct sl_channel *channel = call->own.channel;
    const size_t n = channel == NULL ? 0 : channel->n_interceptors;
    for (size_t i = 0; i < n; i++) {
        const struct sl_client_interceptor *one = &channel->interceptors[is_in ? n - 1 - i : i];
        if (is_in && one->on_message_in != NULL) {
            one->on_message_in(call, message, one->user_data);
        }
        if (!is_in && one->on_message_out != NULL) {
            one->on_message_out(call, message, one->user_data);
        }
    }
}

void sl_client_chain_end(struct sl_client_call *call)
{
    for (size_t i = call->own.n_intercepted; i > 0; i--) {
        const struct sl_client_interceptor *one = &call->own.channel->interceptors[i - 1];
        if (one->on_end != NULL) {
            one->on_end(call, call->own.status, one->user_data);
        }
    }
}

/* ---- What on_start may do -------------------------------------------------------------------- */

enum sl_status
sl_client_call_add_metadata(struct sl_client_call *call, struct sl_slice key, struct sl_slice value)
{
    return call->own.is_starting
               ? sl_metadata_add(&call->own.metadata, &call->own.arena, key, value)
               : SL_FAILED_PRECONDITION;
}

enum sl_status sl_client_call_limit_time(struct sl_client_call *call, uint64_t timeout_ms)
{
    if (!call->own.is_starting) {
        return SL_FAILED_PRECONDITION;
    }
    sl_client_call_limit_deadline(call, sl_client_ms_to_ns(timeout_ms));
    return SL_OK;
}
