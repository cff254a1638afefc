/* Many large calls, on one channel or each on a channel of its own. */
#include <time.h>

#include "runtime/base/loop.h"
#include "tests/judge/interop/cases.h"

static uint64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / SL_NS_PER_MS;
}

/* Waits until the time for the next call has come. */
static void pace(uint64_t due_ms)
{
    const uint64_t now = now_ms();
    if (due_ms > now) {
        const uint64_t left = due_ms - now;
        const struct timespec pause = { .tv_sec = (time_t)(left / 1000),
                                        .tv_nsec = (long)((left % 1000) * SL_NS_PER_MS) };
        (void)nanosleep(&pause, NULL);
    }
}

/* One call, within its time. */
static bool iterate(const struct world *world, bool is_new_channel)
{
    const struct flag *flags = world->flags;
    const uint64_t start_ms = now_ms();
    struct sl_channel *channel = is_new_channel ? case_channel(flags) : world->channel;
    const bool is_right = channel != NULL && case_large_unary(
                                                 channel, flags_number(flags, "soak_request_size"),
                                                 flags_number(flags, "soak_response_size"));
    if (is_new_channel) {
        (void)sl_channel_free(channel);
    }
    const uint64_t took_ms = now_ms() - start_ms;
    EXPECT(
        took_ms <= flags_number(flags, "soak_per_iteration_max_acceptable_latency_ms"),
        "a call took %llu ms", (unsigned long long)took_ms);
    return is_right;
}

static bool soak(const struct world *world, bool is_new_channel)
{
    const struct flag *flags = world->flags;
    const uint32_t n_iterations = flags_number(flags, "soak_iterations");
    const uint64_t start_ms = now_ms();
    const uint64_t end_ms =
        start_ms + (uint64_t)flags_number(flags, "soak_overall_timeout_seconds") * 1000;
    uint32_t n_done = 0;
    uint32_t n_failed = 0;
    for (; n_done < n_iterations && now_ms() < end_ms; n_done++) {
        pace(start_ms + (uint64_t)n_done * flags_number(flags, "soak_min_time_ms_between_rpcs"));
        n_failed += iterate(world, is_new_channel) ? 0 : 1;
    }
    EXPECT(n_done == n_iterations, "only %u of %u calls in time", n_done, n_iterations);
    EXPECT(
        n_failed <= flags_number(flags, "soak_max_failures"), "%u of %u calls failed", n_failed,
        n_done);
    return true;
}

bool case_rpc_soak(struct world *world)
{
    return soak(world, false);
}

bool case_channel_soak(struct world *world)
{
    return soak(world, true);
}
