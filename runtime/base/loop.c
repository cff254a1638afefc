#include "runtime/base/loop.h"

#include <stddef.h>

#include "runtime/base/timer_heap.h"

/* Few enough timers that what each of them touched is still in the cache when the turn ends. */
enum { MAX_ROUNDS = 16, MAX_FIRED = 256 };

static _Thread_local struct sl_loop *current;

/* ---- Time ------------------------------------------------------------------------------------ */

static void refresh_time(const struct sl_loop *loop)
{
    if (loop->loop.is_time_stale && loop->backend->refresh != NULL) {
        loop->backend->refresh(loop->loop.self);
    }
}

uint64_t sl_loop_now_ns(const struct sl_loop *loop)
{
    SL_ON_LOOP(loop);
    refresh_time(loop);
    return loop->loop.now_ns;
}

uint64_t sl_loop_wall_ms(const struct sl_loop *loop)
{
    SL_ON_LOOP(loop);
    refresh_time(loop);
    return loop->loop.wall_ms;
}

/* ---- Tasks ----------------------------------------------------------------------------------- */

void sl_loop_post(struct sl_loop *loop, struct sl_task *task)
{
    task->next = NULL;
    (void)pthread_mutex_lock(&loop->shared.lock);
    const bool was_empty = loop->shared.first == NULL;
    if (was_empty) {
        loop->shared.first = task;
    } else {
        loop->shared.last->next = task;
    }
    loop->shared.last = task;
    if (was_empty) {
        loop->backend->wake(loop); /* under the lock, so that the loop cannot be freed meanwhile */
    }
    (void)pthread_mutex_unlock(&loop->shared.lock);
}

void sl_loop_defer(struct sl_loop *loop, struct sl_task *task)
{
    SL_ON_LOOP(loop);
    if (task->is_queued) {
        return;
    }
    task->is_queued = true;
    task->next = NULL;
    task->previous = loop->loop.deferred_last;
    if (task->previous == NULL) {
        loop->loop.deferred_first = task;
    } else {
        task->previous->next = task;
    }
    loop->loop.deferred_last = task;
}

void sl_loop_undefer(struct sl_loop *loop, struct sl_task *task)
{
    SL_ON_LOOP(loop);
    if (!task->is_queued) {
        return;
    }
    if (task->previous != NULL) {
        task->previous->next = task->next;
    } else if (loop->loop.round_first == task) {
        loop->loop.round_first = task->next;
    } else {
        loop->loop.deferred_first = task->next;
    }
    if (task->next != NULL) {
        task->next->previous = task->previous;
    } else if (loop->loop.round_last == task) {
        loop->loop.round_last = task->previous;
    } else {
        loop->loop.deferred_last = task->previous;
    }
    task->next = task->previous = NULL;
    task->is_queued = false;
}

/* Runs the tasks that were deferred before this call. */
static void run_round(struct sl_loop *loop)
{
    loop->loop.round_first = loop->loop.deferred_first;
    loop->loop.round_last = loop->loop.deferred_last;
    loop->loop.deferred_first = loop->loop.deferred_last = NULL;
    while (loop->loop.round_first != NULL) {
        struct sl_task *task = loop->loop.round_first;
        sl_loop_undefer(loop, task);
        task->run(task);
    }
}

/* Runs the tasks that were posted before this call. */
static bool run_posted(struct sl_loop *loop)
{
    (void)pthread_mutex_lock(&loop->shared.lock);
    struct sl_task *task = loop->shared.first;
    loop->shared.first = loop->shared.last = NULL;
    (void)pthread_mutex_unlock(&loop->shared.lock);
    const bool had_some = task != NULL;
    while (task != NULL) {
        struct sl_task *next =
            task->next; /* the task may be posted again, or freed, by its own run */
        task->next = NULL;
        task->run(task);
        task = next;
    }
    return had_some;
}

void sl_loop_offload(struct sl_loop *loop, struct sl_job *job)
{
    SL_ON_LOOP(loop);
    job->loop = loop;
    job->next = NULL;
    job->is_skipped = false;
    loop->backend->offload(loop, job);
}

void sl_job_take_back(struct sl_job *job)
{
    SL_ON_LOOP(job->loop);
    job->loop->backend->take_back(job);
}

bool sl_loop_is_current(const struct sl_loop *loop)
{
    return !loop->loop.has_thread || pthread_equal(loop->loop.thread, pthread_self()) != 0;
}

struct sl_loop *sl_loop_current(void)
{
    return current;
}

bool sl_loop_has_work(struct sl_loop *loop)
{
    (void)pthread_mutex_lock(&loop->shared.lock);
    const bool has_posted = loop->shared.first != NULL;
    (void)pthread_mutex_unlock(&loop->shared.lock);
    return has_posted || loop->loop.deferred_first != NULL;
}

bool sl_loop_drain(struct sl_loop *loop)
{
    sl_loop_enter(loop);
    bool had_some = false;
    while (sl_loop_has_work(loop)) {
        had_some = true;
        (void)run_posted(loop);
        run_round(loop);
    }
    return had_some;
}

/* ---- Timers ---------------------------------------------------------------------------------- */

void sl_timer_init(
    struct sl_timer *timer, struct sl_loop *loop, sl_timer_fn *on_fire, void *user_data)
{
    *timer = (struct sl_timer){
        .loop = loop, .on_fire = on_fire, .user_data = user_data, .due_ns = SL_NEVER_NS
    };
}

static struct sl_timer **heap_of(const struct sl_timer *timer)
{
    struct sl_loop *loop = timer->loop;
    const bool is_late = loop->loop.is_firing && timer->late_firing == loop->loop.n_firings;
    return is_late ? &loop->loop.late : &loop->loop.timers;
}

void sl_timer_start(struct sl_timer *timer, uint64_t due_ns)
{
    struct sl_loop *loop = timer->loop;
    SL_ON_LOOP(loop);
    sl_timer_stop(timer);
    timer->due_ns = due_ns;
    if (due_ns != SL_NEVER_NS) {
        const bool is_late = loop->loop.is_firing && due_ns <= loop->loop.now_ns;
        timer->late_firing = is_late ? loop->loop.n_firings : 0;
        sl_timer_heap_add(heap_of(timer), timer);
    }
}

void sl_timer_start_ms(struct sl_timer *timer, uint64_t delay_ms)
{
    const uint64_t now_ns = sl_loop_now_ns(timer->loop);
    const bool is_endless = delay_ms > (SL_NEVER_NS - 1 - now_ns) / SL_NS_PER_MS;
    sl_timer_start(timer, is_endless ? SL_NEVER_NS - 1 : now_ns + delay_ms * SL_NS_PER_MS);
}

void sl_timer_stop(struct sl_timer *timer)
{
    if (sl_timer_is_running(timer)) {
        SL_ON_LOOP(timer->loop);
        sl_timer_heap_remove(heap_of(timer), timer);
        timer->due_ns = SL_NEVER_NS;
    }
}

bool sl_timer_is_running(const struct sl_timer *timer)
{
    return timer->due_ns != SL_NEVER_NS;
}

static void fire_timers(struct sl_loop *loop)
{
    if (loop->loop.armed_ns <= loop->loop.now_ns) {
        loop->loop.armed_ns = SL_NEVER_NS; /* the backend's own alarm is over */
    }
    loop->loop.is_firing = true;
    loop->loop.n_firings++;
    for (int i = 0; i < MAX_FIRED && sl_loop_next_due_ns(loop) <= loop->loop.now_ns; i++) {
        struct sl_timer *timer = loop->loop.timers;
        sl_timer_heap_remove(&loop->loop.timers, timer);
        timer->due_ns = SL_NEVER_NS;
        timer->on_fire(timer->user_data); /* may free the timer */
    }
    loop->loop.is_firing = false;
    sl_timer_heap_join(&loop->loop.timers, &loop->loop.late);
}

uint64_t sl_loop_next_due_ns(const struct sl_loop *loop)
{
    return loop->loop.timers == NULL ? SL_NEVER_NS : loop->loop.timers->due_ns;
}

/* ---- For backends ---------------------------------------------------------------------------- */

void sl_loop_init(struct sl_loop *loop, const struct sl_loop_backend *backend, uint32_t index)
{
    *loop = (struct sl_loop){ .backend = backend, .index = index };
    loop->loop.self = loop;
    loop->loop.armed_ns = SL_NEVER_NS;
    loop->loop.is_time_stale = backend->refresh != NULL;
    (void)pthread_mutex_init(&loop->shared.lock, NULL);
}

void sl_loop_done(struct sl_loop *loop)
{
    if (current == loop) {
        current = NULL;
    }
    sl_reserve_done(&loop->loop.reserve);
    (void)pthread_mutex_destroy(&loop->shared.lock);
}

struct sl_reserve *sl_loop_reserve(struct sl_loop *loop)
{
    return &loop->loop.reserve;
}

void sl_loop_enter(struct sl_loop *loop)
{
    loop->loop.thread = pthread_self();
    loop->loop.has_thread = true;
    current = loop;
}

void sl_loop_set_time(struct sl_loop *loop, uint64_t now_ns, uint64_t wall_ms, bool is_stale)
{
    if (now_ns > loop->loop.now_ns) {
        loop->loop.now_ns = now_ns;
    }
    loop->loop.wall_ms = wall_ms;
    loop->loop.is_time_stale = is_stale;
}

void sl_loop_turn_wait(struct sl_loop *loop)
{
    loop->loop.is_time_stale = loop->backend->refresh != NULL;
}

void sl_loop_turn_begin(struct sl_loop *loop, uint64_t now_ns, uint64_t wall_ms)
{
    SL_ON_LOOP(loop);
    sl_loop_set_time(loop, now_ns, wall_ms, false);
    loop->loop.n_turns++;
}

void sl_loop_turn_work(struct sl_loop *loop)
{
    SL_ON_LOOP(loop);
    (void)run_posted(loop);
    fire_timers(loop);
}

void sl_loop_turn_end(struct sl_loop *loop)
{
    SL_ON_LOOP(loop);
    for (int i = 0; i < MAX_ROUNDS && loop->loop.deferred_first != NULL; i++) {
        run_round(loop);
    }
    if (loop->loop.deferred_first != NULL) {
        loop->backend->wake(loop);
    }
    const uint64_t due_ns = sl_loop_next_due_ns(loop);
    if (due_ns != loop->loop.armed_ns) {
        loop->loop.armed_ns = due_ns;
        loop->backend->arm(loop, due_ns);
    }
}
