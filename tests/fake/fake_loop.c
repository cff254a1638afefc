#include "tests/fake/fake_loop.h"

#include "runtime/base/mem.h"

enum { MAX_TURNS = 100000 };

static void wake(struct sl_loop *loop)
{
    struct sl_fake_loop *fake = SL_CONTAINER(loop, struct sl_fake_loop, base);
    (void)__atomic_add_fetch(&fake->n_wakes, 1, __ATOMIC_RELAXED);
}

static void arm(struct sl_loop *loop, uint64_t due_ns)
{
    (void)loop; /* _run and _advance look at the timers themselves */
    (void)due_ns;
}

static void offload(struct sl_loop *loop, struct sl_job *job)
{
    struct sl_fake_loop *fake = SL_CONTAINER(loop, struct sl_fake_loop, base);
    struct sl_job **at = &fake->jobs;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = job;
    job->room[0] = 0; /* 1: it has begun */
    fake->n_jobs++;
}

static void take_back(struct sl_job *job)
{
    job->is_skipped = job->room[0] == 0;
}

static const struct sl_loop_backend fake_backend = {
    .wake = wake,
    .arm = arm,
    .offload = offload,
    .take_back = take_back,
};

void sl_fake_loop_begin_jobs(struct sl_fake_loop *fake)
{
    for (struct sl_job *job = fake->jobs; job != NULL; job = job->next) {
        if (job->room[0] == 0 && !job->is_skipped) {
            job->room[0] = 1;
            job->run(job);
        }
    }
}

void sl_fake_loop_end_jobs(struct sl_fake_loop *fake)
{
    sl_fake_loop_begin_jobs(fake);
    struct sl_job *job = SL_TAKE(fake->jobs);
    while (job != NULL) {
        struct sl_job *next = job->next;
        job->on_done(job);
        job = next;
    }
}

static void begin(struct sl_fake_loop *fake)
{
    const uint64_t passed_ns = fake->now_ns - SL_FAKE_START_NS;
    sl_loop_turn_begin(&fake->base, fake->now_ns, SL_FAKE_START_WALL_MS + passed_ns / SL_NS_PER_MS);
}

void sl_fake_loop_init(struct sl_fake_loop *fake)
{
    *fake = (struct sl_fake_loop){ .now_ns = SL_FAKE_START_NS };
    sl_loop_init(&fake->base, &fake_backend, 0);
    sl_loop_enter(&fake->base);
    begin(fake);
}

void sl_fake_loop_done(struct sl_fake_loop *fake)
{
    while (fake->jobs != NULL) {
        sl_fake_loop_end_jobs(fake);
    }
    (void)sl_loop_drain(&fake->base);
    sl_loop_done(&fake->base);
}

void sl_fake_loop_turn(struct sl_fake_loop *fake)
{
    sl_loop_enter(&fake->base);
    begin(fake);
    if (!fake->holds_jobs) {
        sl_fake_loop_end_jobs(fake);
    }
    sl_loop_turn_work(&fake->base);
    sl_loop_turn_end(&fake->base);
}

static bool is_busy(struct sl_fake_loop *fake)
{
    return (fake->jobs != NULL && !fake->holds_jobs) || sl_loop_has_work(&fake->base) ||
           sl_loop_next_due_ns(&fake->base) <= fake->now_ns;
}

bool sl_fake_loop_run(struct sl_fake_loop *fake)
{
    for (int i = 0; i < MAX_TURNS && is_busy(fake); i++) {
        sl_fake_loop_turn(fake);
    }
    return !is_busy(fake);
}

void sl_fake_loop_advance_ns(struct sl_fake_loop *fake, uint64_t ns)
{
    const uint64_t end_ns = fake->now_ns + ns;
    bool is_quiet = sl_fake_loop_run(fake);
    while (is_quiet && sl_loop_next_due_ns(&fake->base) <= end_ns) {
        fake->now_ns = sl_loop_next_due_ns(&fake->base);
        is_quiet = sl_fake_loop_run(fake);
    }
    fake->now_ns = end_ns;
    sl_fake_loop_turn(fake);
}

void sl_fake_loop_advance_ms(struct sl_fake_loop *fake, uint64_t ms)
{
    sl_fake_loop_advance_ns(fake, ms * SL_NS_PER_MS);
}
