/* connectrpc.conformance.v1.ConformanceService: does what the first request of a call tells it to,
 * and says what it has received. */
#ifndef SL_TESTS_JUDGE_CONFORMANCE_SERVICE_H
#define SL_TESTS_JUDGE_CONFORMANCE_SERVICE_H

#include "service/rpc/rpc.h"

/* Before the server starts. Fails: SL_ALREADY_EXISTS, SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status judge_service_register(struct sl_server *server);

#endif
