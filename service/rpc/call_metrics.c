#include "service/rpc/call_metrics.h"

#include "runtime/base/mem.h"

/* grpc_code, as Go spells it. */
static const char *const code_names[] = {
    "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
    "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
    "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
    "DataLoss", "Unauthenticated"
};

static const char *const type_names[] = {
    [SL_UNARY] = "unary",
    [SL_CLIENT_STREAMING] = "client_stream",
    [SL_SERVER_STREAMING] = "server_stream",
    [SL_BIDIRECTIONAL] = "bidi_stream",
};

void sl_call_metrics_init(
    struct sl_call_metrics *metrics,
    enum sl_method_kind kind,
    const char *service,
    const char *method)
{
    const char *const values[] = { type_names[kind], service, method };
    *metrics = (struct sl_call_metrics){
        .type = type_names[kind],
        .service = service,
        .method = method,
        .started = sl_metric_series(SL_M_grpc_server_started, values),
        .received = sl_metric_series(SL_M_grpc_server_msg_received, values),
        .sent = sl_metric_series(SL_M_grpc_server_msg_sent, values),
        .seconds = sl_metric_series(SL_M_grpc_server_handling_seconds, values),
    };
}

void sl_call_metrics_end(
    const struct sl_call_metrics *metrics, enum sl_status status, uint64_t duration_ns)
{
    const char *code = (size_t)status < SL_COUNT(code_names) ? code_names[status] : "Unknown";
    SL_METRIC_ADD(grpc_server_handled, 1, metrics->type, metrics->service, metrics->method, code);
    sl_metric_observe(metrics->seconds, duration_ns);
}
