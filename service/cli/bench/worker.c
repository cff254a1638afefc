/* Which call is due when, in which slot.
 *
 * Closed loop: each slot makes its calls one behind the other; the first is due at once, or with
 * --ramp spread over it. Open loop: call n is due when the rate says so, whatever the others do,
 * and worker k of N makes the calls k, k + N, k + 2N. */
#include "service/cli/bench/worker.h"

#include <math.h>

#include "runtime/base/mem.h"
#include "service/cli/bench/usage.h"

enum { STARTS_A_TURN = 1024, CLOSE_STEPS = 100 };

static const double ns_per_s = 1e9, ms_per_s = 1e3;

/* ---- The end -----------------------------------------------------------------------------------
 */

static bool may_start(const struct sl_bench_worker *worker)
{
    const struct sl_bench_plan *plan = worker->shared->plan;
    return !worker->is_over &&
           (plan->n_runs == 0 || atomic_load(&worker->shared->n_started) < plan->n_runs);
}

bool sl_bench_worker_take_run(struct sl_bench_worker *worker)
{
    const struct sl_bench_plan *plan = worker->shared->plan;
    return !worker->is_over &&
           (plan->n_runs == 0 || atomic_fetch_add(&worker->shared->n_started, 1) < plan->n_runs);
}

static void end_measuring(struct sl_bench_worker *worker)
{
    if (worker->cpu_to_ns == 0) {
        worker->cpu_to_ns = sl_bench_usage_thread_ns();
    }
}

static void check_done(struct sl_bench_worker *worker)
{
    if (!worker->is_done && worker->n_busy == 0 && !may_start(worker)) {
        worker->is_done = true;
        sl_timer_stop(&worker->pace);
        end_measuring(worker);
        sl_loop_post(worker->shared->home, &worker->done);
    }
}

/* ---- Open loop ---------------------------------------------------------------------------------
 */

/* When call `n` is due: at a rate that rises from 0 during the ramp, n = rate * t^2 / (2 * ramp).
 */
static uint64_t due_of(const struct sl_bench_worker *worker, uint64_t n)
{
    const struct sl_bench_plan *plan = worker->shared->plan;
    const double rate = (double)plan->rate, ramp_s = (double)plan->ramp_ms / ms_per_s;
    const double n_in_ramp = rate * ramp_s / 2, count = (double)n;
    const double due_s =
        count < n_in_ramp ? sqrt(2 * count * ramp_s / rate) : ramp_s + (count - n_in_ramp) / rate;
    return worker->shared->begin_ns + (uint64_t)(due_s * ns_per_s);
}

static struct sl_bench_slot *take_slot(struct sl_bench_worker *worker)
{
    struct sl_bench_slot *slot = worker->free_slots;
    if (slot != NULL) {
        worker->free_slots = slot->next_free;
    }
    return slot;
}

static void start_due(
    struct sl_bench_worker *worker, struct sl_bench_slot *slot, uint64_t due_ns, uint64_t now_ns)
{
    if (worker->is_measuring && worker->is_starved) {
        worker->stats.n_starved++;
    } else if (worker->is_measuring) {
        sl_histogram_add(&worker->stats.times[SL_BENCH_LATE], now_ns - due_ns);
    }
    worker->n_busy++;
    sl_bench_slot_start(slot, due_ns);
}

/* Starts what is due. When no slot is free, the next one that is goes on here. */
static void pace_open(struct sl_bench_worker *worker)
{
    const struct sl_bench_shared *shared = worker->shared;
    for (unsigned i = 0; i < STARTS_A_TURN; i++) {
        const uint64_t n = worker->index + worker->next * shared->plan->n_threads;
        const uint64_t due_ns = due_of(worker, n), now_ns = sl_bench_now_ns();
        if (due_ns > now_ns) {
            worker->is_starved = false;
            sl_timer_start(&worker->pace, due_ns);
            return;
        }
        if (worker->free_slots == NULL) {
            worker->is_starved = true;
            return;
        }
        if (!sl_bench_worker_take_run(worker)) {
            check_done(worker);
            return;
        }
        worker->next++;
        start_due(worker, take_slot(worker), due_ns, now_ns);
    }
    sl_timer_start(&worker->pace, 0); /* the rest in the next turn */
}

/* ---- Closed loop -------------------------------------------------------------------------------
 */

/* The slot's place among those of all workers. */
static uint64_t global_index(const struct sl_bench_worker *worker, uint64_t local)
{
    /* connection c is worker c % N's; slot s is on connection s % C */
    const struct sl_bench_plan *plan = worker->shared->plan;
    const uint64_t round = local / worker->n_channels, at = local % worker->n_channels;
    return round * plan->n_connections + at * plan->n_threads + worker->index;
}

static void pace_closed(struct sl_bench_worker *worker)
{
    const struct sl_bench_plan *plan = worker->shared->plan;
    const uint64_t ramp_ns = plan->ramp_ms * SL_NS_PER_MS;
    while (worker->next < worker->n_slots) {
        const double share = (double)global_index(worker, worker->next) / (double)plan->n_streams;
        const uint64_t due_ns = worker->shared->begin_ns + (uint64_t)(share * (double)ramp_ns);
        const uint64_t now_ns = sl_bench_now_ns();
        if (due_ns > now_ns) {
            sl_timer_start(&worker->pace, due_ns);
            return;
        }
        if (!sl_bench_worker_take_run(worker)) {
            break;
        }
        worker->n_busy++;
        sl_bench_slot_start(&worker->slots[worker->next++], now_ns);
    }
    check_done(worker);
}

static void on_pace(void *user_data)
{
    struct sl_bench_worker *worker = user_data;
    if (worker->shared->plan->rate > 0) {
        pace_open(worker);
    } else {
        pace_closed(worker);
    }
}

void sl_bench_worker_release(struct sl_bench_slot *slot)
{
    struct sl_bench_worker *worker = slot->worker;
    if (worker->shared->plan->rate == 0 && sl_bench_worker_take_run(worker)) {
        sl_bench_slot_start(slot, sl_bench_now_ns());
        return;
    }
    worker->n_busy--;
    slot->next_free = worker->free_slots;
    worker->free_slots = slot;
    if (worker->is_starved && !worker->is_over) {
        pace_open(worker);
    }
    check_done(worker);
}

/* ---- Orders of the main thread -----------------------------------------------------------------
 */

static struct sl_bench_worker *worker_of(struct sl_task *task, enum sl_bench_order order)
{
    return SL_CONTAINER(task - order, struct sl_bench_worker, orders[0]);
}

static void run_begin(struct sl_task *task)
{
    struct sl_bench_worker *worker = worker_of(task, SL_BENCH_BEGIN);
    worker->is_measuring = worker->shared->plan->warmup_ms == 0;
    worker->cpu_from_ns = sl_bench_usage_thread_ns();
    on_pace(worker);
}

static void run_measure(struct sl_task *task)
{
    struct sl_bench_worker *worker = worker_of(task, SL_BENCH_MEASURE);
    worker->is_measuring = true;
    worker->cpu_from_ns = sl_bench_usage_thread_ns();
    worker->cpu_to_ns = worker->is_done ? worker->cpu_from_ns : 0;
    memset(&worker->stats, 0, sizeof(worker->stats));
}

static void run_over(struct sl_task *task)
{
    struct sl_bench_worker *worker = worker_of(task, SL_BENCH_OVER);
    worker->is_over = true;
    sl_timer_stop(&worker->pace);
    end_measuring(worker);
    check_done(worker);
}

static void run_cut(struct sl_task *task)
{
    struct sl_bench_worker *worker = worker_of(task, SL_BENCH_CUT);
    for (size_t i = 0; i < worker->n_slots; i++) {
        sl_bench_slot_cancel(&worker->slots[i]);
    }
}

/* Everything that belongs to the loop goes on its thread. */
static void run_stop(struct sl_task *task)
{
    struct sl_bench_worker *worker = worker_of(task, SL_BENCH_STOP);
    sl_loop_uv_stop(worker->uv_loop);
}

static void close_all(struct sl_bench_worker *worker)
{
    sl_timer_stop(&worker->pace);
    for (size_t i = 0; i < worker->n_slots; i++) {
        sl_bench_slot_done(&worker->slots[i]);
    }
    for (size_t i = 0; i < worker->n_channels; i++) {
        const struct sl_channel_stats stats = sl_channel_stats(worker->channels[i]);
        worker->n_limit_waits += stats.n_limit_waits;
        worker->stream_limit = stats.n_limit_waits > 0 ? stats.stream_limit : worker->stream_limit;
        worker->channels[i] = sl_channel_free(worker->channels[i]);
    }
    worker->n_slots = worker->n_channels = 0;
    for (int i = 0; i < CLOSE_STEPS; i++) { /* let closing handles go */
        sl_loop_uv_step(worker->uv_loop, 0);
    }
}

static void *run_thread(void *user_data)
{
    struct sl_bench_worker *worker = user_data;
    sl_loop_uv_run(worker->uv_loop);
    close_all(worker);
    return NULL;
}

/* ---- Life --------------------------------------------------------------------------------------
 */

static enum sl_status open_channels(struct sl_bench_worker *worker, struct sl_error *err)
{
    const struct sl_bench_plan *plan = worker->shared->plan;
    const struct sl_channel_options options = {
        .struct_size = sizeof(options),
        .loop = worker->loop,
        .tls = worker->shared->tls,
        .authority = plan->options.server_name,
        .stream_window_bytes = (uint32_t)plan->window_bytes,
        .authorization = sl_cli_authorization(&plan->options),
    };
    /* connections index, index + N, index + 2N, ... */
    const size_t n = (plan->n_connections - worker->index + plan->n_threads - 1) / plan->n_threads;
    worker->channels = sl_calloc(n, sizeof(struct sl_channel *));
    if (worker->channels == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for %zu connections", n);
    }
    for (; worker->n_channels < n; worker->n_channels++) {
        struct sl_channel **place = &worker->channels[worker->n_channels];
        SL_TRY(sl_channel_new(plan->options.address, &options, place, err));
    }
    return SL_OK;
}

static enum sl_status make_slots(struct sl_bench_worker *worker, struct sl_error *err)
{
    const struct sl_bench_plan *plan = worker->shared->plan;
    size_t n = 0;
    while (global_index(worker, n) < plan->n_streams) {
        n++;
    }
    worker->slots = sl_calloc(n == 0 ? 1 : n, sizeof(worker->slots[0]));
    if (worker->slots == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for %zu streams", n);
    }
    worker->n_slots = n;
    for (size_t i = n; i-- > 0;) {
        struct sl_bench_slot *slot = &worker->slots[i];
        struct sl_channel *channel = worker->channels[i % worker->n_channels];
        sl_bench_slot_init(slot, worker, channel, global_index(worker, i));
        slot->next_free = worker->free_slots;
        worker->free_slots = slot;
    }
    return SL_OK;
}

static enum sl_status init_worker(struct sl_bench_worker *worker, struct sl_error *err)
{
    if (sl_loop_uv_new((uint32_t)worker->index, &worker->uv_loop) != SL_OK ||
        sl_loop_uv_set_precise(worker->uv_loop) != SL_OK) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "cannot start an event loop");
    }
    worker->loop = sl_loop_uv_base(worker->uv_loop);
    static void (*const runs[SL_BENCH_N_ORDERS])(
        struct sl_task *) = { run_begin, run_measure, run_over, run_cut, run_stop };
    for (size_t i = 0; i < SL_BENCH_N_ORDERS; i++) {
        worker->orders[i].run = runs[i];
    }
    worker->done.run = worker->shared->on_done;
    worker->unreachable.run = worker->shared->on_unreachable;
    sl_timer_init(&worker->pace, worker->loop, on_pace, worker);
    SL_TRY(open_channels(worker, err));
    return make_slots(worker, err);
}

enum sl_status sl_bench_worker_new(
    struct sl_bench_shared *shared,
    uint64_t index,
    struct sl_bench_worker **ret_worker,
    struct sl_error *err)
{
    struct sl_bench_worker *worker = sl_calloc(1, sizeof(*worker));
    if (worker == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for a thread");
    }
    worker->shared = shared;
    worker->index = index;
    const enum sl_status status = init_worker(worker, err);
    if (status != SL_OK) {
        (void)sl_bench_worker_free(worker);
        return status;
    }
    *ret_worker = worker;
    return SL_OK;
}

enum sl_status sl_bench_worker_start(struct sl_bench_worker *worker)
{
    sl_bench_worker_tell(worker, SL_BENCH_BEGIN);
    return pthread_create(&worker->thread, NULL, run_thread, worker) == 0 ? SL_OK
                                                                          : SL_RESOURCE_EXHAUSTED;
}

void sl_bench_worker_tell(struct sl_bench_worker *worker, enum sl_bench_order order)
{
    sl_loop_post(worker->loop, &worker->orders[order]);
}

void sl_bench_worker_join(struct sl_bench_worker *worker)
{
    (void)pthread_join(worker->thread, NULL);
}

struct sl_bench_worker *sl_bench_worker_free(struct sl_bench_worker *worker)
{
    if (worker == NULL) {
        return NULL;
    }
    if (worker->uv_loop != NULL) {
        close_all(worker);
    }
    worker->uv_loop = sl_loop_uv_free(worker->uv_loop);
    (void)sl_free(worker->slots);
    (void)sl_free(worker->channels);
    return sl_free(worker);
}
