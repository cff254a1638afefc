#include "service/rpc/client_throttle.h"

enum { TOKEN = 1000 };

void sl_client_throttle_init(
    struct sl_client_throttle *throttle, uint32_t max_tokens, double token_ratio)
{
    throttle->most = max_tokens * TOKEN;
    throttle->left = throttle->most;
    throttle->ratio =
        token_ratio < (double)max_tokens ? (uint32_t)(token_ratio * TOKEN + 0.5) : throttle->most;
}

bool sl_client_throttle_fail(struct sl_client_throttle *throttle)
{
    if (throttle->most == 0) {
        return false;
    }
    throttle->left -= throttle->left < TOKEN ? throttle->left : TOKEN;
    return throttle->left <= throttle->most / 2;
}

void sl_client_throttle_succeed(struct sl_client_throttle *throttle)
{
    const uint32_t missing = throttle->most - throttle->left;
    throttle->left += throttle->ratio < missing ? throttle->ratio : missing;
}
