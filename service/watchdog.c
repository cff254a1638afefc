#include "service/watchdog.h"

#include <inttypes.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"

enum { PERIODS = 8, MISSED_TO_WARN = PERIODS / 2, LEAST_PERIOD_MS = 10 };

static void run_on_pool(struct sl_job *job)
{
    (void)job;
}

static void on_pool_done(struct sl_job *job)
{
    struct sl_watchdog *watchdog = SL_CONTAINER(job, struct sl_watchdog, job);
    watchdog->is_job_out = false;
    atomic_store(&watchdog->has_pool_answered, true);
}

static void answer(struct sl_task *task)
{
    struct sl_watchdog_loop *at = SL_CONTAINER(task, struct sl_watchdog_loop, task);
    struct sl_watchdog *watchdog = at->watchdog;
    if (at == watchdog->loops && !watchdog->is_job_out) {
        watchdog->is_job_out = true;
        watchdog->job = (struct sl_job){ .run = run_on_pool, .on_done = on_pool_done };
        sl_loop_offload(at->loop, &watchdog->job);
    }
    atomic_store(&at->has_answered, true);
}

enum sl_status
sl_watchdog_init(struct sl_watchdog *watchdog, struct sl_loop *const *loops, size_t n_loops)
{
    *watchdog = (struct sl_watchdog){ .n_loops = n_loops };
    watchdog->loops = sl_calloc(n_loops, sizeof(*watchdog->loops));
    if (watchdog->loops == NULL) {
        watchdog->n_loops = 0;
        return SL_RESOURCE_EXHAUSTED;
    }
    atomic_store(&watchdog->has_pool_answered, true);
    for (size_t i = 0; i < n_loops; i++) {
        struct sl_watchdog_loop *at = &watchdog->loops[i];
        at->watchdog = watchdog;
        at->loop = loops[i];
        at->task.run = answer;
        atomic_store(&at->has_answered, true);
    }
    return SL_OK;
}

void sl_watchdog_set(struct sl_watchdog *watchdog, uint64_t manager_ms, uint64_t limit_ms)
{
    if (limit_ms == 0) {
        limit_ms = manager_ms;
    }
    const uint64_t shorter_ms = manager_ms != 0 && manager_ms < limit_ms ? manager_ms : limit_ms;
    watchdog->period_ms = shorter_ms / PERIODS;
    if (shorter_ms > 0 && watchdog->period_ms < LEAST_PERIOD_MS) {
        watchdog->period_ms = LEAST_PERIOD_MS;
    }
    watchdog->n_most = watchdog->period_ms == 0 ? 0 : limit_ms / watchdog->period_ms;
    if (watchdog->period_ms > 0 && watchdog->n_most < PERIODS) {
        watchdog->n_most = PERIODS;
    }
    watchdog->due_ms = 0;
}

int sl_watchdog_wait_ms(const struct sl_watchdog *watchdog, uint64_t now_ms)
{
    if (watchdog->period_ms == 0) {
        return -1;
    }
    if (watchdog->due_ms <= now_ms) {
        return 0;
    }
    const uint64_t left_ms = watchdog->due_ms - now_ms;
    return left_ms > INT32_MAX ? INT32_MAX : (int)left_ms;
}

/* Who has not answered: a loop, or n_loops for the pool; beyond: nobody. */
static size_t find_silent(const struct sl_watchdog *watchdog)
{
    size_t i = 0;
    while (i < watchdog->n_loops && atomic_load(&watchdog->loops[i].has_answered)) {
        i++;
    }
    return i == watchdog->n_loops && atomic_load(&watchdog->has_pool_answered) ? i + 1 : i;
}

static void tell(const struct sl_watchdog *watchdog, size_t silent, const char *what)
{
    const uint64_t waited_ms = watchdog->n_missed * watchdog->period_ms;
    if (silent == watchdog->n_loops) {
        sl_log(SL_ERROR, SL_LOG_MAIN, "msg=\"%s\" part=pool waited_ms=%" PRIu64, what, waited_ms);
    } else {
        sl_log(
            SL_ERROR, SL_LOG_MAIN, "msg=\"%s\" part=loop loop=%zu waited_ms=%" PRIu64, what, silent,
            waited_ms);
    }
}

static void ask(struct sl_watchdog_loop *at)
{
    atomic_store(&at->has_answered, false);
    sl_loop_post(at->loop, &at->task);
}

static void ask_all(struct sl_watchdog *watchdog)
{
    atomic_store(&watchdog->has_pool_answered, false);
    for (size_t i = 0; i < watchdog->n_loops; i++) {
        ask(&watchdog->loops[i]);
    }
}

enum sl_watchdog_verdict sl_watchdog_tick(struct sl_watchdog *watchdog, uint64_t now_ms)
{
    if (watchdog->period_ms == 0 || now_ms < watchdog->due_ms) {
        return SL_WATCHDOG_QUIET;
    }
    watchdog->due_ms = now_ms + watchdog->period_ms;
    const size_t silent = find_silent(watchdog);
    if (silent > watchdog->n_loops) {
        watchdog->n_missed = 0;
        ask_all(watchdog);
        return SL_WATCHDOG_ALIVE;
    }
    watchdog->n_missed++;
    if (watchdog->n_missed >= watchdog->n_most) {
        tell(watchdog, silent, "hung");
        return SL_WATCHDOG_HUNG;
    }
    if (silent == watchdog->n_loops) {
        ask(watchdog->loops); /* the pool's answer goes through it: which of the two is it? */
    }
    if (watchdog->n_missed == MISSED_TO_WARN) {
        tell(watchdog, silent, "does not answer");
    }
    return SL_WATCHDOG_QUIET;
}

void sl_watchdog_done(struct sl_watchdog *watchdog)
{
    watchdog->loops = sl_free(watchdog->loops);
    watchdog->n_loops = 0;
    watchdog->period_ms = 0;
}
