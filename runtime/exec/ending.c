#include "runtime/exec/ending.h"

#include <stdarg.h>
#include <stdio.h>

#include "runtime/base/mem.h"
#include "runtime/exec/encode.h"

/* AL-5, columns code, gRPC status, retryable. */
#define ENDING_MAP(X)                                                                              \
    X(MAX_ITERATIONS, RESOURCE_EXHAUSTED, false, "Exceeded max iterations")                        \
    X(BUDGET_EXCEEDED, RESOURCE_EXHAUSTED, false, "Budget of the run is spent")                    \
    X(LOOP_DETECTED, RESOURCE_EXHAUSTED, false, "The same tool call was repeated too often")       \
    X(CONTENT_FILTER, FAILED_PRECONDITION, false, "Content filter triggered by model")             \
    X(CONTEXT_OVERFLOW, FAILED_PRECONDITION, false, "The prompt is too long for the model")        \
    X(OUTPUT_INVALID, FAILED_PRECONDITION, false, "The output does not fit its schema")            \
    X(PROVIDER_UNREACHABLE, ABORTED, true, "The model provider cannot be reached")                 \
    X(PROVIDER_TLS, FAILED_PRECONDITION, false, "No trusted connection to the model provider")     \
    X(PROVIDER_AUTH, FAILED_PRECONDITION, false, "The model provider refused our credentials")     \
    X(PROVIDER_REJECTED, FAILED_PRECONDITION, false, "The model provider rejected the request")    \
    X(PROVIDER_RATE_LIMITED, RESOURCE_EXHAUSTED, true, "The model provider limits our rate")       \
    X(PROVIDER_QUOTA, RESOURCE_EXHAUSTED, false, "Our quota at the model provider is used up")     \
    X(PROVIDER_OVERLOADED, ABORTED, true, "The model provider is overloaded or failed")            \
    X(PROVIDER_TIMEOUT, ABORTED, true, "The model provider did not answer in time")                \
    X(PROVIDER_TRUNCATED, ABORTED, true, "The model's answer ended without a finish marker")       \
    X(PROVIDER_PROTOCOL, INTERNAL, false, "The model's answer is malformed")                       \
    X(PROVIDER_LIMIT, RESOURCE_EXHAUSTED, false, "The model's request or answer is over a limit")  \
    X(CANCELLED, CANCELLED, false, "Execution cancelled")                                          \
    X(DEADLINE_EXCEEDED, DEADLINE_EXCEEDED, false, "The run's time is over")                       \
    X(DRAINING, ABORTED, true, "The server is going down")                                         \
    X(WORKER_LOST, ABORTED, true, "The server that owned the run was lost")                        \
    X(STORE_UNAVAILABLE, ABORTED, true, "The store cannot take the run's events")                  \
    X(DATA_LOSS, DATA_LOSS, false, "Events of the run are missing")                                \
    X(OUT_OF_MEMORY, RESOURCE_EXHAUSTED, true, "Memory could not be had for this run")             \
    X(INTERNAL, INTERNAL, false, "Internal error")

static const struct {
    Sluice__V1__ErrorCode code;
    const char *name;
    enum sl_status status;
    bool is_retryable;
    const char *message;
} rows[] = {
#define ENDING_ROW(name, status, is_retryable, message)                                            \
    { SL_CODE(name), #name, SL_##status, is_retryable, message },
    ENDING_MAP(ENDING_ROW)
#undef ENDING_ROW
};

struct sl_ending sl_ending_done(Sluice__V1__StopReason stop_reason)
{
    return (struct sl_ending){ .stop_reason = stop_reason, .status = SL_OK, .reason = "" };
}

void sl_ending_say(struct sl_ending *ending, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(ending->message, sizeof(ending->message), fmt, args);
    va_end(args);
}

struct sl_ending sl_ending_error(Sluice__V1__ErrorCode code)
{
    size_t row = SL_COUNT(rows) - 1; /* INTERNAL */
    for (size_t i = 0; i < SL_COUNT(rows); i++) {
        if (rows[i].code == code) {
            row = i;
            break;
        }
    }
    struct sl_ending ending = {
        .code = rows[row].code,
        .status = rows[row].status,
        .reason = rows[row].name,
        .is_retryable = rows[row].is_retryable,
    };
    sl_ending_say(&ending, "%s", rows[row].message);
    sl_random_id(ending.error_id);
    return ending;
}

struct sl_ending sl_ending_cancelled(Sluice__V1__CancelReason reason)
{
    struct sl_ending ending = sl_ending_error(SL_CODE(CANCELLED));
    ending.cancel_reason = reason;
    ending.is_retryable =
        reason == SL_CANCEL_REASON(CLIENT_DISCONNECTED) || reason == SL_CANCEL_REASON(DETACH_TTL);
    return ending;
}

const char *sl_ending_cancel_name(Sluice__V1__CancelReason reason)
{
    static const char *const names[] = { "",           "CLIENT_RESET",
                                         "CANCEL_RPC", "CLIENT_DISCONNECTED",
                                         "DETACH_TTL", "SESSION_INTERRUPTED" };
    return (size_t)reason < SL_COUNT(names) ? names[reason] : "";
}
