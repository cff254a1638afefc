#include "runtime/base/loop_uv.h"

#include <stdatomic.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/mem.h"

struct sl_loop_uv {
    struct sl_loop base;
    uv_loop_t uv;
    uv_async_t wake;
    uv_timer_t alarm;     /* the earliest sl_timer */
    uv_poll_t precise;    /* the same, of a precise loop: a timerfd */
    int precise_fd;       /* -1: not precise */
    uv_timer_t step_end;  /* bounds the wait of a step */
    uv_prepare_t prepare; /* before the wait */
    uv_check_t check;     /* after the wait and the I/O callbacks */
    uv_idle_t idle;       /* while it is active, the loop does not wait */
    bool is_running;      /* inside run or step */
    atomic_bool must_stop;
};

/* Which loop this thread turns, just now; sl_loop_current() also says which it did last. */
static _Thread_local const struct sl_loop_uv *turning;

static struct sl_loop_uv *from_base(struct sl_loop *loop)
{
    return SL_CONTAINER(loop, struct sl_loop_uv, base);
}

static uint64_t read_wall_ms(void)
{
    struct timespec now = { 0 };
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / SL_NS_PER_MS;
}

/* ---- Backend --------------------------------------------------------------------------------- */

static void do_nothing(uv_idle_t *idle)
{
    (void)idle;
}

static void wake(struct sl_loop *loop)
{
    struct sl_loop_uv *self = from_base(loop);
    if (turning == self) {
        (void)uv_idle_start(&self->idle, do_nothing); /* saves the system call */
    } else {
        (void)uv_async_send(&self->wake);
    }
}

static void on_alarm(uv_timer_t *timer)
{
    struct sl_loop_uv *self = timer->data;
    self->base.loop.armed_ns = SL_NEVER_NS; /* the timers themselves fire in on_check */
}

static void on_step_end(uv_timer_t *timer)
{
    (void)timer; /* it has ended the wait */
}

static void on_precise(uv_poll_t *poll, int status, int events)
{
    struct sl_loop_uv *self = poll->data;
    uint64_t n_expired;
    (void)status;
    (void)events;
    (void)!read(self->precise_fd, &n_expired, sizeof(n_expired));
    self->base.loop.armed_ns = SL_NEVER_NS; /* the timers themselves fire in on_check */
}

static void arm_precise(const struct sl_loop_uv *self, uint64_t due_ns)
{
    struct itimerspec when = { 0 }; /* all zero: stopped */
    if (due_ns != SL_NEVER_NS) {
        const uint64_t at_ns = due_ns > 0 ? due_ns : 1;
        when.it_value.tv_sec = (time_t)(at_ns / SL_NS_PER_S);
        when.it_value.tv_nsec = (long)(at_ns % SL_NS_PER_S);
    }
    (void)timerfd_settime(self->precise_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static void arm(struct sl_loop *loop, uint64_t due_ns)
{
    struct sl_loop_uv *self = from_base(loop);
    if (self->precise_fd >= 0) {
        arm_precise(self, due_ns);
        return;
    }
    if (due_ns == SL_NEVER_NS) {
        (void)uv_timer_stop(&self->alarm);
        return;
    }
    if (due_ns <= loop->loop.now_ns && self->is_running) {
        /* Due already: the next turn comes at once, not at the next whole millisecond. */
        (void)uv_idle_start(&self->idle, do_nothing);
        return;
    }
    /* libuv counts whole milliseconds of the same clock: rounded up, it is never early. */
    const uint64_t due_ms = due_ns / SL_NS_PER_MS + (due_ns % SL_NS_PER_MS == 0 ? 0 : 1);
    const uint64_t now_ms = uv_now(&self->uv);
    (void)uv_timer_start(&self->alarm, on_alarm, due_ms > now_ms ? due_ms - now_ms : 0, 0);
}

static void refresh(struct sl_loop *loop)
{
    /* Outside a run nobody says when a turn ends, so the time is read each time. */
    sl_loop_set_time(loop, uv_hrtime(), read_wall_ms(), !from_base(loop)->is_running);
}

_Static_assert(sizeof(uv_work_t) <= SL_JOB_ROOM_BYTES, "a job has room for libuv's part of it");

static uv_work_t *work_of(struct sl_job *job)
{
    return (uv_work_t *)(void *)job->room;
}

static void run_job(uv_work_t *work)
{
    struct sl_job *job = work->data;
    job->run(job);
}

static void job_done(uv_work_t *work, int status)
{
    struct sl_job *job = work->data;
    job->is_skipped = status != 0;
    job->on_done(job);
}

static void offload(struct sl_loop *loop, struct sl_job *job)
{
    uv_work_t *work = work_of(job);
    work->data = job;
    /* It fails only for want of a function. */
    (void)uv_queue_work(&from_base(loop)->uv, work, run_job, job_done);
}

static void take_back(struct sl_job *job)
{
    (void)uv_cancel((uv_req_t *)work_of(job));
}

static const struct sl_loop_backend uv_backend = {
    .wake = wake,
    .arm = arm,
    .refresh = refresh,
    .offload = offload,
    .take_back = take_back,
};

/* ---- One turn -------------------------------------------------------------------------------- */

static void on_wake(uv_async_t *async)
{
    (void)async; /* it has ended the wait; the rest happens in on_check */
}

static void stop_if_told(struct sl_loop_uv *self)
{
    if (atomic_load(&self->must_stop)) {
        uv_stop(&self->uv);
    }
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct sl_loop_uv *self = prepare->data;
    sl_loop_turn_end(
        &self->base); /* what libuv's timers and close callbacks deferred, before the wait */
    sl_loop_turn_wait(&self->base);
}

static void on_check(uv_check_t *check)
{
    struct sl_loop_uv *self = check->data;
    (void)uv_idle_stop(&self->idle);
    if (self->base.loop.is_time_stale) {
        refresh(&self->base);
    }
    sl_loop_turn_begin(&self->base, self->base.loop.now_ns, self->base.loop.wall_ms);
    sl_loop_turn_work(&self->base);
    sl_loop_turn_end(&self->base);
    stop_if_told(self);
}

/* ---- Public ---------------------------------------------------------------------------------- */

static void init_handles(struct sl_loop_uv *self)
{
    (void)uv_timer_init(&self->uv, &self->alarm);
    (void)uv_timer_init(&self->uv, &self->step_end);
    (void)uv_prepare_init(&self->uv, &self->prepare);
    (void)uv_check_init(&self->uv, &self->check);
    (void)uv_idle_init(&self->uv, &self->idle);
    self->wake.data = self->alarm.data = self->step_end.data = self;
    self->prepare.data = self->check.data = self->idle.data = self;
    (void)uv_prepare_start(&self->prepare, on_prepare);
    (void)uv_check_start(&self->check, on_check);
}

enum sl_status sl_loop_uv_new(uint32_t index, struct sl_loop_uv **ret_loop)
{
    struct sl_loop_uv *self = sl_calloc(1, sizeof(*self));
    if (self == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    if (uv_loop_init(&self->uv) != 0) {
        sl_free(self);
        return SL_RESOURCE_EXHAUSTED;
    }
    if (uv_async_init(&self->uv, &self->wake, on_wake) != 0) {
        (void)uv_loop_close(&self->uv);
        sl_free(self);
        return SL_RESOURCE_EXHAUSTED;
    }
    init_handles(self);
    self->precise_fd = -1;
    sl_loop_init(&self->base, &uv_backend, index);
    *ret_loop = self;
    return SL_OK;
}

enum sl_status sl_loop_uv_set_precise(struct sl_loop_uv *loop)
{
    const int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (fd < 0) {
        return SL_RESOURCE_EXHAUSTED;
    }
    if (uv_poll_init(&loop->uv, &loop->precise, fd) != 0) {
        (void)close(fd);
        return SL_RESOURCE_EXHAUSTED;
    }
    loop->precise.data = loop;
    loop->precise_fd = fd;
    (void)uv_poll_start(&loop->precise, UV_READABLE, on_precise);
    return SL_OK;
}

struct sl_loop *sl_loop_uv_base(struct sl_loop_uv *loop)
{
    return &loop->base;
}

uv_loop_t *sl_loop_uv_handle(struct sl_loop *loop)
{
    assert(loop->backend == &uv_backend);
    return &from_base(loop)->uv;
}

static void turn(struct sl_loop_uv *loop, uv_run_mode mode)
{
    const struct sl_loop_uv *outer = turning;
    sl_loop_enter(&loop->base);
    loop->is_running = true;
    turning = loop;
    (void)uv_run(&loop->uv, mode);
    turning = outer;
    loop->is_running = false;
    sl_loop_turn_wait(&loop->base);
}

void sl_loop_uv_run(struct sl_loop_uv *loop)
{
    while (!atomic_load(&loop->must_stop)) {
        turn(loop, UV_RUN_DEFAULT);
    }
    atomic_store(&loop->must_stop, false);
}

void sl_loop_uv_step(struct sl_loop_uv *loop, int timeout_ms)
{
    if (timeout_ms > 0) {
        uv_update_time(&loop->uv);
        (void)uv_timer_start(&loop->step_end, on_step_end, (uint64_t)timeout_ms, 0);
    }
    turn(loop, timeout_ms == 0 ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    (void)uv_timer_stop(&loop->step_end);
}

int sl_loop_uv_fd(struct sl_loop_uv *loop)
{
    return uv_backend_fd(&loop->uv);
}

int sl_loop_uv_timeout(struct sl_loop_uv *loop)
{
    if (sl_loop_has_work(&loop->base)) {
        return 0;
    }
    uv_update_time(&loop->uv);
    int timeout_ms = uv_backend_timeout(&loop->uv);
    const uint64_t due_ns = sl_loop_next_due_ns(&loop->base);
    if (due_ns != SL_NEVER_NS) {
        /* It may have been started since the last step, so that libuv does not know it. */
        const uint64_t now_ns = uv_hrtime();
        const uint64_t left_ns = due_ns > now_ns ? due_ns - now_ns : 0;
        const uint64_t left_ms = left_ns / SL_NS_PER_MS + (left_ns % SL_NS_PER_MS == 0 ? 0 : 1);
        if (timeout_ms < 0 || left_ms < (uint64_t)timeout_ms) {
            timeout_ms = left_ms > INT32_MAX ? INT32_MAX : (int)left_ms;
        }
    }
    return timeout_ms;
}

void sl_loop_uv_stop(struct sl_loop_uv *loop)
{
    atomic_store(&loop->must_stop, true);
    (void)uv_async_send(&loop->wake);
}

static void close_handle(uv_handle_t *handle)
{
    if (uv_is_closing(handle) == 0) {
        uv_close(handle, NULL);
    }
}

struct sl_loop_uv *sl_loop_uv_free(struct sl_loop_uv *loop)
{
    if (loop == NULL) {
        return NULL;
    }
    (void)sl_loop_drain(&loop->base);
    (void)uv_prepare_stop(&loop->prepare);
    (void)uv_check_stop(&loop->check);
    close_handle((uv_handle_t *)&loop->prepare);
    close_handle((uv_handle_t *)&loop->check);
    close_handle((uv_handle_t *)&loop->idle);
    close_handle((uv_handle_t *)&loop->alarm);
    close_handle((uv_handle_t *)&loop->step_end);
    close_handle((uv_handle_t *)&loop->wake);
    if (loop->precise_fd >= 0) {
        (void)uv_poll_stop(&loop->precise);
        close_handle((uv_handle_t *)&loop->precise);
    }
    while (uv_run(&loop->uv, UV_RUN_ONCE) != 0) {
        (void)sl_loop_drain(&loop->base); /* close callbacks of others may have deferred work */
    }
    (void)sl_loop_drain(&loop->base);
    const int rc = uv_loop_close(&loop->uv);
    assert(rc == 0);
    (void)rc;
    if (loop->precise_fd >= 0) {
        (void)close(loop->precise_fd);
    }
    sl_loop_done(&loop->base);
    return sl_free(loop);
}
