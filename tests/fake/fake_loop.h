/* A loop without a kernel: its clock stands still until the test moves it, and its turns run inside
 * the calls below. Hand `&fake.base` to whatever wants a struct sl_loop. */
#ifndef SL_TESTS_FAKE_FAKE_LOOP_H
#define SL_TESTS_FAKE_FAKE_LOOP_H

#include "runtime/base/loop.h"

/* The clock at the start: not 0, so that a forgotten time shows. */
#define SL_FAKE_START_NS      (UINT64_C(1000) * SL_NS_PER_S)
#define SL_FAKE_START_WALL_MS UINT64_C(1700000000000)

struct sl_fake_loop {
    struct sl_loop base;
    uint64_t now_ns;
    uint64_t n_wakes;    /* how often somebody ended the wait */
    struct sl_job *jobs; /* that are not done, in order */
    size_t n_jobs;       /* that were ever offloaded */
    bool holds_jobs;     /* they wait for the test; else the next turn does them */
};

void sl_fake_loop_init(struct sl_fake_loop *fake);
/* Runs what is still posted or deferred, then ends the loop. */
void sl_fake_loop_done(struct sl_fake_loop *fake);

/* One turn: posted tasks, due timers, deferred tasks. */
void sl_fake_loop_turn(struct sl_fake_loop *fake);

/* Jobs of the pool, where the test holds them: `begin` runs what has not begun, and they are not
 * done yet; `end` ends all of them. */
void sl_fake_loop_begin_jobs(struct sl_fake_loop *fake);
void sl_fake_loop_end_jobs(struct sl_fake_loop *fake);

/* Runs turns until nothing is posted or deferred and no timer is due. The clock does not move.
 * False: still busy after 100,000 turns, which is a loop without an end. */
bool sl_fake_loop_run(struct sl_fake_loop *fake);

/* Moves the clock by `ms`, stopping at each timer on the way to run it and all that follows. */
void sl_fake_loop_advance_ms(struct sl_fake_loop *fake, uint64_t ms);
void sl_fake_loop_advance_ns(struct sl_fake_loop *fake, uint64_t ns);

#endif
