/* Retry throttling (gRFC A6): a count of tokens that failures take and successes give back. No
 * state besides; one thread. */
#ifndef SL_SERVICE_RPC_CLIENT_THROTTLE_H
#define SL_SERVICE_RPC_CLIENT_THROTTLE_H

#include <stdbool.h>
#include <stdint.h>

/* In thousandths of a token. All zero throttles nothing. */
struct sl_client_throttle {
    uint32_t most, ratio, left;
};

/* Full. `max_tokens` 0: throttles nothing. */
void sl_client_throttle_init(
    struct sl_client_throttle *throttle, uint32_t max_tokens, double token_ratio);
/* A call failed with a retryable code, or its server does not want a retry. True: too many have
 * failed, nothing may be retried now. */
bool sl_client_throttle_fail(struct sl_client_throttle *throttle);
void sl_client_throttle_succeed(struct sl_client_throttle *throttle);

#endif
