/* What is counted of the calls of one method, under the names that go-grpc-prometheus gave them. */
#ifndef SL_SERVICE_RPC_CALL_METRICS_H
#define SL_SERVICE_RPC_CALL_METRICS_H

#include "runtime/base/metrics.h"
#include "service/rpc/methods.h"

/* Constant once the method is registered. All zero: not registered. */
struct sl_call_metrics {
    const char *type, *service, *method; /* borrowed from the route */
    struct sl_series *started, *received, *sent, *seconds;
};

/* The texts must live as long as the route. */
void sl_call_metrics_init(
    struct sl_call_metrics *metrics,
    enum sl_method_kind kind,
    const char *service,
    const char *method);
/* The call has ended with this status, `duration_ns` after its headers. */
void sl_call_metrics_end(
    const struct sl_call_metrics *metrics, enum sl_status status, uint64_t duration_ns);

#endif
