/* Do the loops still turn? Each is asked again and again, and so is the pool, through the first
 * loop.
 *
 *   main: tick ─post─▶ every loop: answers;  the first one ─job─▶ the pool ─▶ answers
 *   main: tick: all answered? alive.  Nobody for `limit_ms`: hung, and the caller aborts (I7)
 *
 * Time is counted in ticks of the caller, each at least a period apart: a process that was stopped,
 * or got no CPU, has missed one tick and not the whole time (X10). Thread: one, not a loop's. */
#ifndef SL_SERVICE_WATCHDOG_H
#define SL_SERVICE_WATCHDOG_H

#include <stdatomic.h>

#include "runtime/base/loop.h"
#include "runtime/base/status.h"

struct sl_watchdog_loop {
    struct sl_watchdog *watchdog;
    struct sl_loop *loop;
    struct sl_task task;
    atomic_bool has_answered;
};

/* All zero is one that is off. It must outlive the loops. */
struct sl_watchdog {
    struct sl_watchdog_loop *loops;
    size_t n_loops;
    struct sl_job job;
    bool is_job_out; /* thread: the first loop */
    atomic_bool has_pool_answered;
    uint64_t period_ms; /* 0: off */
    uint64_t n_most;    /* ticks without an answer that mean hung; 0: never */
    uint64_t n_missed;
    uint64_t due_ms; /* of the next tick */
};

enum sl_watchdog_verdict {
    SL_WATCHDOG_QUIET, /* no tick was due, or an answer is waited for */
    SL_WATCHDOG_ALIVE, /* all have answered since the last time */
    SL_WATCHDOG_HUNG   /* somebody has not for the whole time; it was logged */
};

/* Owns: the caller; sl_watchdog_done(). Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_watchdog_init(struct sl_watchdog *watchdog, struct sl_loop *const *loops, size_t n_loops);
/* `manager_ms`: what the service manager allows between two signs of life (0: it does not ask);
 * `limit_ms`: after how long it is hung (0: what the manager allows, if it asks). A period is an
 * eighth of the shorter one. Any number of times. */
void sl_watchdog_set(struct sl_watchdog *watchdog, uint64_t manager_ms, uint64_t limit_ms);
/* Until the next tick; -1: there is none. */
int sl_watchdog_wait_ms(const struct sl_watchdog *watchdog, uint64_t now_ms);
enum sl_watchdog_verdict sl_watchdog_tick(struct sl_watchdog *watchdog, uint64_t now_ms);
/* After the loops are freed. */
void sl_watchdog_done(struct sl_watchdog *watchdog);

#endif
