#include "runtime/exec/terminal.h"

#include <stdio.h>

#include "runtime/exec/encode.h"

struct sl_usage sl_terminal_usage(const Sluice__V1__Usage *usage)
{
    if (usage == NULL) {
        return (struct sl_usage){ 0 };
    }
    struct sl_usage used = {
        .input_tokens = usage->input_tokens,
        .output_tokens = usage->output_tokens,
        .cache_read_tokens = usage->cache_read_tokens,
        .cache_write_tokens = usage->cache_write_tokens,
        .reasoning_tokens = usage->reasoning_tokens,
        .model_calls = usage->model_calls,
        .is_estimated = usage->estimated,
        .has_cost = usage->_cost_micros_case == SLUICE__V1__USAGE___COST_MICROS_COST_MICROS,
    };
    if (used.has_cost) {
        used.cost_micros = usage->cost_micros;
        (void)snprintf(used.currency, sizeof(used.currency), "%s", usage->currency);
    }
    return used;
}

/* Code, status, words and all are the event's; the status of a code does not change. */
static struct sl_ending ending_of(const Sluice__V1__RunError *error)
{
    struct sl_ending ending = sl_ending_error(error->code);
    ending.cancel_reason = error->cancel_reason;
    ending.is_retryable = error->retryable;
    ending.has_retry_after =
        error->_retry_after_ms_case == SLUICE__V1__RUN_ERROR___RETRY_AFTER_MS_RETRY_AFTER_MS;
    ending.retry_after_ms = ending.has_retry_after ? error->retry_after_ms : 0;
    ending.provider_status = error->provider_status;
    sl_ending_say(&ending, "%s", error->message);
    (void)snprintf(ending.error_id, sizeof(ending.error_id), "%s", error->error_id);
    return ending;
}

enum sl_status sl_terminal_read(struct sl_slice event, struct sl_terminal *ret_terminal)
{
    Sluice__V1__StreamEvent *message =
        sluice__v1__stream_event__unpack(NULL, event.size, event.data);
    enum sl_status status = SL_OK;
    if (message != NULL && message->event_case == SL_EVENT(DONE)) {
        ret_terminal->ending = sl_ending_done(message->done->stop_reason);
        ret_terminal->used = sl_terminal_usage(message->done->usage);
    } else if (message != NULL && message->event_case == SL_EVENT(ERROR)) {
        ret_terminal->ending = ending_of(message->error);
        ret_terminal->used = sl_terminal_usage(message->error->usage);
    } else {
        status = SL_DATA_LOSS;
    }
    if (message != NULL) {
        sluice__v1__stream_event__free_unpacked(message, NULL);
    }
    return status;
}
