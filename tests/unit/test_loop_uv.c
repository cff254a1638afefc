#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"

enum { MAX_STEPS = 10000 };

struct counter {
    struct sl_task task;
    struct sl_loop_uv *loop;
    int n_runs;
    int stop_after;
};

static void count(struct sl_task *task)
{
    struct counter *self = SL_CONTAINER(task, struct counter, task);
    self->n_runs++;
    if (self->n_runs == self->stop_after) {
        sl_loop_uv_stop(self->loop);
    } else if (self->stop_after > 0) {
        sl_loop_post(sl_loop_uv_base(self->loop), task);
    }
}

static void start(struct sl_loop_uv **ret_loop)
{
    assert_int_equal(sl_loop_uv_new(3, ret_loop), SL_OK);
    assert_int_equal(sl_loop_uv_base(*ret_loop)->index, 3);
    assert_ptr_equal(sl_loop_uv_handle(sl_loop_uv_base(*ret_loop))->data, NULL);
}

static void a_task_that_posts_itself_never_lets_the_loop_sleep(void **state)
{
    (void)state;
    struct counter counter = { .task = { .run = count }, .stop_after = 1000 };
    start(&counter.loop);
    sl_loop_post(sl_loop_uv_base(counter.loop), &counter.task);
    sl_loop_uv_run(counter.loop);
    assert_int_equal(counter.n_runs, 1000);
    counter.stop_after = 1010;
    sl_loop_post(sl_loop_uv_base(counter.loop), &counter.task);
    sl_loop_uv_run(counter.loop); /* a second run is allowed */
    assert_int_equal(counter.n_runs, 1010);
    assert_null(sl_loop_uv_free(counter.loop));
    assert_null(sl_loop_uv_free(NULL));
}

static void a_stop_before_the_run_is_not_forgotten(void **state)
{
    (void)state;
    struct sl_loop_uv *loop = NULL;
    start(&loop);
    sl_loop_uv_stop(loop);
    sl_loop_uv_run(loop);
    (void)sl_loop_uv_free(loop);
}

static uint64_t fired_at_ns;

static void note_time(void *user_data)
{
    fired_at_ns = sl_loop_now_ns(sl_loop_uv_base(user_data));
}

static void fire_some(struct sl_loop_uv *loop)
{
    struct sl_timer timer;
    sl_timer_init(&timer, sl_loop_uv_base(loop), note_time, loop);
    for (uint64_t i = 1; i <= 20; i++) {
        const uint64_t due_ns = uv_hrtime() + i * 137777;
        const uint64_t n_turns = sl_loop_uv_base(loop)->loop.n_turns;
        fired_at_ns = 0;
        sl_timer_start(&timer, due_ns);
        assert_in_range(sl_loop_uv_timeout(loop), 0, 4);
        for (int k = 0; k < MAX_STEPS && fired_at_ns == 0; k++) {
            sl_loop_uv_step(loop, -1);
        }
        assert_true(fired_at_ns >= due_ns);
        assert_true(
            sl_loop_uv_base(loop)->loop.n_turns <= n_turns + 4); /* it slept, and did not spin */
        assert_true(uv_hrtime() >= due_ns);
    }
    assert_int_equal(sl_loop_uv_timeout(loop), -1);
}

static void a_timer_is_never_early(void **state)
{
    (void)state;
    struct sl_loop_uv *loop = NULL;
    start(&loop);
    fire_some(loop);
    (void)sl_loop_uv_free(loop);
}

static void a_timer_of_a_precise_loop_is_never_early(void **state)
{
    (void)state;
    struct sl_loop_uv *loop = NULL;
    start(&loop);
    assert_int_equal(sl_loop_uv_set_precise(loop), SL_OK);
    fire_some(loop);
    (void)sl_loop_uv_free(loop);
}

static void deferred_tasks_run_before_the_loop_waits(void **state)
{
    (void)state;
    struct counter counter = { .task = { .run = count } };
    start(&counter.loop);
    struct sl_loop *base = sl_loop_uv_base(counter.loop);
    sl_loop_uv_step(counter.loop, 0);
    assert_int_equal(sl_loop_uv_timeout(counter.loop), -1);
    sl_loop_defer(base, &counter.task);
    assert_int_equal(sl_loop_uv_timeout(counter.loop), 0);
    sl_loop_uv_step(counter.loop, 0);
    assert_int_equal(counter.n_runs, 1);
    (void)sl_loop_uv_free(counter.loop);
}

struct pipe_test {
    struct sl_loop_uv *loop;
    int fds[2];
    struct sl_task write;
    struct sl_task deferred;
    uint64_t written_at_ns;
    int n_reads;
    int n_deferred;
};

static void write_byte(struct sl_task *task)
{
    struct pipe_test *self = SL_CONTAINER(task, struct pipe_test, write);
    self->written_at_ns = uv_hrtime();
    assert_int_equal(write(self->fds[1], "x", 1), 1);
}

static void after_read(struct sl_task *task)
{
    struct pipe_test *self = SL_CONTAINER(task, struct pipe_test, deferred);
    self->n_deferred++;
    assert_int_equal(self->n_deferred, self->n_reads);
    if (self->n_reads == 3) {
        sl_loop_uv_stop(self->loop);
    } else {
        sl_loop_post(sl_loop_uv_base(self->loop), &self->write);
    }
}

/* An I/O callback of somebody's own libuv handle. */
static void on_pipe(uv_poll_t *poll, int status, int events)
{
    struct pipe_test *self = poll->data;
    struct sl_loop *base = sl_loop_uv_base(self->loop);
    char byte = 0;
    (void)events;
    assert_int_equal(status, 0);
    assert_int_equal(read(self->fds[0], &byte, 1), 1);
    assert_true(
        sl_loop_now_ns(base) >= self->written_at_ns); /* the wait has not stopped the clock */
    assert_true(sl_loop_now_ns(base) == sl_loop_now_ns(base));
    self->n_reads++;
    sl_loop_defer(base, &self->deferred);
}

static void io_callbacks_may_defer_and_see_a_fresh_clock(void **state)
{
    (void)state;
    struct pipe_test test = { .write = { .run = write_byte }, .deferred = { .run = after_read } };
    uv_poll_t poll;
    start(&test.loop);
    struct sl_loop *base = sl_loop_uv_base(test.loop);
    assert_int_equal(pipe(test.fds), 0);
    assert_int_equal(uv_poll_init(sl_loop_uv_handle(base), &poll, test.fds[0]), 0);
    poll.data = &test;
    assert_int_equal(uv_poll_start(&poll, UV_READABLE, on_pipe), 0);
    sl_loop_post(base, &test.write);
    sl_loop_uv_run(test.loop);
    assert_int_equal(test.n_deferred, 3);
    uv_close((uv_handle_t *)&poll, NULL);
    (void)sl_loop_uv_free(test.loop);
    (void)close(test.fds[0]);
    (void)close(test.fds[1]);
}

static void a_step_waits_no_longer_than_told(void **state)
{
    (void)state;
    struct sl_loop_uv *loop = NULL;
    start(&loop);
    const uint64_t begin_ns = uv_hrtime();
    sl_loop_uv_step(loop, 0);
    sl_loop_uv_step(loop, 5);
    assert_true(uv_hrtime() - begin_ns < 10 * SL_NS_PER_S);
    assert_true(sl_loop_uv_fd(loop) >= 0);
    assert_true(sl_loop_now_ns(sl_loop_uv_base(loop)) >= begin_ns);
    assert_true(sl_loop_wall_ms(sl_loop_uv_base(loop)) > UINT64_C(1600000000000));
    (void)sl_loop_uv_free(loop);
}

enum { N_THREADS = 3, N_POSTS = 2000 };

struct poster {
    pthread_t thread;
    struct sl_loop *loop;
    struct counter *tasks;
};

static int n_posted_runs;

static void count_posted(struct sl_task *task)
{
    struct counter *self = SL_CONTAINER(task, struct counter, task);
    n_posted_runs++;
    if (n_posted_runs == N_THREADS * N_POSTS) {
        sl_loop_uv_stop(self->loop);
    }
}

static void *post_all(void *argument)
{
    struct poster *self = argument;
    for (int i = 0; i < N_POSTS; i++) {
        sl_loop_post(self->loop, &self->tasks[i].task);
    }
    return NULL;
}

static void posts_of_many_threads_all_arrive(void **state)
{
    (void)state;
    static struct counter tasks[N_THREADS][N_POSTS];
    struct poster posters[N_THREADS];
    struct sl_loop_uv *loop = NULL;
    n_posted_runs = 0;
    start(&loop);
    for (int t = 0; t < N_THREADS; t++) {
        for (int i = 0; i < N_POSTS; i++) {
            tasks[t][i] = (struct counter){ .task = { .run = count_posted }, .loop = loop };
        }
        posters[t] = (struct poster){ .loop = sl_loop_uv_base(loop), .tasks = tasks[t] };
        assert_int_equal(pthread_create(&posters[t].thread, NULL, post_all, &posters[t]), 0);
    }
    sl_loop_uv_run(loop);
    for (int t = 0; t < N_THREADS; t++) {
        assert_int_equal(pthread_join(posters[t].thread, NULL), 0);
    }
    assert_int_equal(n_posted_runs, N_THREADS * N_POSTS);
    (void)sl_loop_uv_free(loop);
}

static sem_t posted_ran;

static void *run_loop(void *argument)
{
    sl_loop_uv_run(argument);
    return NULL;
}

static void wake_main(struct sl_task *task)
{
    (void)task;
    (void)sem_post(&posted_ran);
}

/* A thread that has stepped a loop, and leaves it to another one, is no part of it any more. */
static void a_post_wakes_a_loop_that_this_thread_has_stepped(void **state)
{
    (void)state;
    struct sl_loop_uv *loop;
    start(&loop);
    sl_loop_uv_step(loop, 0);
    assert_int_equal(sem_init(&posted_ran, 0, 0), 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_loop, loop), 0);
    for (int i = 0; i < 20; i++) {
        struct sl_task task = { .run = wake_main };
        sl_loop_post(sl_loop_uv_base(loop), &task);
        struct timespec end;
        assert_int_equal(clock_gettime(CLOCK_REALTIME, &end), 0);
        end.tv_sec += 20;
        assert_int_equal(sem_timedwait(&posted_ran, &end), 0);
    }
    sl_loop_uv_stop(loop);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(sem_destroy(&posted_ran), 0);
    (void)sl_loop_uv_free(loop);
}

static void what_is_queued_runs_when_the_loop_is_freed(void **state)
{
    (void)state;
    struct counter posted = { .task = { .run = count } };
    struct counter deferred = { .task = { .run = count } };
    struct sl_timer timer;
    struct sl_loop_uv *loop = NULL;
    start(&loop);
    sl_loop_post(sl_loop_uv_base(loop), &posted.task);
    sl_loop_defer(sl_loop_uv_base(loop), &deferred.task);
    sl_timer_init(&timer, sl_loop_uv_base(loop), note_time, loop);
    sl_timer_start_ms(&timer, 100000); /* timers just do not fire any more */
    (void)sl_loop_uv_free(loop);
    assert_int_equal(posted.n_runs, 1);
    assert_int_equal(deferred.n_runs, 1);
}

/* ---- Jobs of the pool ------------------------------------------------------------------------ */

/* One job more than the pool has threads. */
enum { BUSY_JOBS = 5 };

struct work {
    struct sl_job job;
    pthread_t ran_on;
    int n_runs, n_done, again;
    pthread_mutex_t *gate; /* held by the test; NULL: none */
};

static void do_work(struct sl_job *job)
{
    struct work *work = SL_CONTAINER(job, struct work, job);
    work->n_runs++;
    work->ran_on = pthread_self();
    if (work->gate != NULL) {
        (void)pthread_mutex_lock(work->gate);
        (void)pthread_mutex_unlock(work->gate);
    }
}

static void work_done(struct sl_job *job)
{
    struct work *work = SL_CONTAINER(job, struct work, job);
    assert_true(sl_loop_is_current(job->loop));
    work->n_done++;
    if (work->again > 0) {
        work->again--;
        sl_loop_offload(job->loop, job);
    }
}

static void a_job_runs_on_the_pool_and_is_done_on_the_loop(void **state)
{
    (void)state;
    struct sl_loop_uv *loop = NULL;
    struct work work = { .job = { .run = do_work, .on_done = work_done }, .again = 1 };
    start(&loop);
    sl_loop_uv_step(loop, 0);
    sl_loop_offload(sl_loop_uv_base(loop), &work.job);
    assert_int_equal(work.n_done, 0);
    for (int i = 0; i < MAX_STEPS && work.n_done < 2; i++) {
        sl_loop_uv_step(loop, 100);
    }
    assert_int_equal(work.n_runs, 2);
    assert_int_equal(work.n_done, 2);
    assert_false(work.job.is_skipped);
    assert_int_equal(pthread_equal(work.ran_on, pthread_self()), 0);
    sl_loop_offload(sl_loop_uv_base(loop), &work.job);
    (void)sl_loop_uv_free(loop); /* waits for it */
    assert_int_equal(work.n_done, 3);
}

static void a_job_that_was_taken_back_in_time_does_not_run(void **state)
{
    (void)state;
    struct sl_loop_uv *loop = NULL;
    struct work busy[BUSY_JOBS];
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread looks yet */
    assert_int_equal(setenv("UV_THREADPOOL_SIZE", "4", 1), 0);
    start(&loop);
    sl_loop_uv_step(loop, 0);
    (void)pthread_mutex_lock(&gate);
    for (int i = 0; i < BUSY_JOBS; i++) {
        busy[i] = (struct work){ .job = { .run = do_work, .on_done = work_done }, .gate = &gate };
        sl_loop_offload(sl_loop_uv_base(loop), &busy[i].job);
    }
    sl_job_take_back(&busy[BUSY_JOBS - 1].job); /* all threads wait at the gate */
    for (int i = 0; i < MAX_STEPS && busy[BUSY_JOBS - 1].n_done == 0; i++) {
        sl_loop_uv_step(loop, 100);
    }
    (void)pthread_mutex_unlock(&gate);
    assert_int_equal(busy[BUSY_JOBS - 1].n_done, 1);
    assert_int_equal(busy[BUSY_JOBS - 1].n_runs, 0);
    assert_true(busy[BUSY_JOBS - 1].job.is_skipped);
    (void)sl_loop_uv_free(loop);
    for (int i = 0; i < BUSY_JOBS - 1; i++) {
        assert_int_equal(busy[i].n_done, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_task_that_posts_itself_never_lets_the_loop_sleep),
        cmocka_unit_test(a_stop_before_the_run_is_not_forgotten),
        cmocka_unit_test(a_timer_is_never_early),
        cmocka_unit_test(a_timer_of_a_precise_loop_is_never_early),
        cmocka_unit_test(deferred_tasks_run_before_the_loop_waits),
        cmocka_unit_test(io_callbacks_may_defer_and_see_a_fresh_clock),
        cmocka_unit_test(a_step_waits_no_longer_than_told),
        cmocka_unit_test(posts_of_many_threads_all_arrive),
        cmocka_unit_test(a_post_wakes_a_loop_that_this_thread_has_stepped),
        cmocka_unit_test(what_is_queued_runs_when_the_loop_is_freed),
        cmocka_unit_test(a_job_that_was_taken_back_in_time_does_not_run),
        cmocka_unit_test(a_job_runs_on_the_pool_and_is_done_on_the_loop),
    };
    return cmocka_run_group_tests_name("loop_uv", tests, NULL, NULL);
}
