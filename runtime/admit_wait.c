/* How long a request waits for a slot, and when one that got none may come again (reliability 5.1).
 */
#include "runtime/base/random.h"
#include "runtime/directory_queue.h"
#include "runtime/runtime_private.h"

enum { LEAST_RETRY_MS = 100, MOST_RETRY_MS = 60000 };

uint64_t sl_run_wait_ms(const struct sl_run_stream *stream)
{
    const uint64_t wait_ms = stream->generation->limits.run_wait;
    const bool is_short = stream->ticket.is_short && wait_ms > SL_QUEUE_SHORT_WAIT_MS;
    return is_short ? SL_QUEUE_SHORT_WAIT_MS : wait_ms;
}

uint64_t sl_run_spread_ms(uint64_t ms)
{
    return ms - ms / 5 + sl_random_below(ms / 5 * 2 + 1);
}

uint64_t sl_run_retry_ms(const struct sl_run_stream *stream)
{
    const uint64_t run_wait_ms = stream->generation->limits.run_wait;
    const uint64_t wait_ms = sl_directory_wait_ms(stream->runtime->directory, run_wait_ms);
    return sl_run_spread_ms(
        wait_ms < LEAST_RETRY_MS  ? LEAST_RETRY_MS
        : wait_ms > MOST_RETRY_MS ? MOST_RETRY_MS
                                  : wait_ms);
}
