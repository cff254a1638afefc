/* One call of `sluice bench`: sent, read, timed, cancelled. */
#include <stdio.h>

#include "runtime/base/mem.h"
#include "service/cli/bench/usage.h"
#include "service/cli/bench/worker.h"

enum { RETRY_MS = 100, SLOW_READS_MAX = 1024 };

static const struct sl_bench_plan *plan_of(const struct sl_bench_slot *slot)
{
    return slot->worker->shared->plan;
}

static struct sl_histogram *times_of(const struct sl_bench_slot *slot, enum sl_bench_time time)
{
    return &slot->worker->stats.times[time];
}

/* ---- The end -----------------------------------------------------------------------------------
 */

/* Nothing ever came from the server, and this call says why. */
static void tell_unreachable(struct sl_bench_slot *slot, const struct sl_error *err)
{
    struct sl_bench_worker *worker = slot->worker;
    if (worker->unreachable_text[0] == '\0') {
        (void)snprintf(worker->unreachable_text, sizeof(worker->unreachable_text), "%s", err->text);
        sl_loop_post(worker->shared->home, &worker->unreachable);
    }
}

static void note_reached(struct sl_bench_slot *slot)
{
    _Atomic bool *has_reached = &slot->worker->shared->has_reached;
    if (!atomic_load_explicit(has_reached, memory_order_relaxed)) {
        atomic_store(has_reached, true);
    }
}

/* Whether the connection failed, and not the call. */
static bool is_of_transport(enum sl_status status, const struct sl_error *err)
{
    return status == SL_UNAVAILABLE && err->origin == SL_ORIGIN_TRANSPORT;
}

static void count_end(struct sl_bench_slot *slot, enum sl_status status, const struct sl_error *err)
{
    struct sl_bench_worker *worker = slot->worker;
    const bool is_ours = status == SL_CANCELLED && err->origin == SL_ORIGIN_LOCAL;
    sl_bench_count(&worker->n_ended, 1);
    if (status == SL_END) {
        sl_bench_count(&worker->n_ok, 1);
    } else if (!is_ours) {
        sl_bench_count(&worker->n_errors, 1);
    }
    if (!slot->is_counted) {
        return;
    }
    if (is_ours && slot->is_cancelled) {
        worker->stats.n_cancelled++;
    } else if (is_ours) {
        worker->stats.n_unfinished++;
    } else {
        sl_bench_stats_end(&worker->stats, status, sl_client_call_details(slot->call), err->text);
    }
    if (status == SL_END) {
        sl_histogram_add(times_of(slot, SL_BENCH_CALL), sl_bench_now_ns() - slot->due_ns);
    }
}

static void end_call(struct sl_bench_slot *slot, enum sl_status status)
{
    const struct sl_error *err = sl_client_call_error(slot->call);
    sl_timer_stop(&slot->timer);
    sl_timer_stop(&slot->read);
    slot->has_ended = true;
    count_end(slot, status, err);
    sl_bench_count(&slot->worker->n_open, UINT64_MAX); /* one less */
    if (!is_of_transport(status, err)) {
        note_reached(slot);
        sl_loop_defer(slot->worker->loop, &slot->restart);
        return;
    }
    sl_bench_count(&slot->worker->n_lost, 1);
    if (!atomic_load(&slot->worker->shared->has_reached)) {
        tell_unreachable(slot, err);
    }
    sl_timer_start_ms(&slot->timer, RETRY_MS);
}

static void run_restart(struct sl_task *task)
{
    struct sl_bench_slot *slot = SL_CONTAINER(task, struct sl_bench_slot, restart);
    slot->call = sl_client_call_free(slot->call);
    sl_bench_worker_release(slot);
}

/* ---- Messages ----------------------------------------------------------------------------------
 */

/* What one read brought: it is counted once, and has one time. */
struct batch {
    uint64_t now_ns, n, n_bytes;
};

static void take_message(
    struct sl_bench_slot *slot,
    const struct sl_bench_plan *plan,
    struct sl_slice message,
    struct batch *batch)
{
    batch->n++;
    batch->n_bytes += message.size;
    if (plan->is_run) {
        sl_bench_stats_sequence(
            &slot->worker->stats, &slot->next_sequence, sl_bench_event_sequence(message));
    }
    uint64_t stamp_ns;
    if (plan->has_stamps && sl_bench_event_stamp(message, &stamp_ns)) {
        /* another machine's clock may be ahead of ours; then there is no lag to speak of */
        sl_histogram_add(
            times_of(slot, SL_BENCH_LAG), batch->now_ns > stamp_ns ? batch->now_ns - stamp_ns : 0);
    }
}

static void begin_cancel(struct sl_bench_slot *slot)
{
    sl_timer_start(&slot->timer, sl_bench_now_ns() + plan_of(slot)->cancel_ms * SL_NS_PER_MS);
}

static void count_batch(struct sl_bench_slot *slot, const struct batch *batch)
{
    if (batch->n == 0) {
        return;
    }
    if (slot->has_message) {
        sl_histogram_add(times_of(slot, SL_BENCH_GAP), batch->now_ns - slot->last_ns);
    } else {
        slot->has_message = true;
        note_reached(slot);
        if (slot->is_counted) {
            sl_histogram_add(times_of(slot, SL_BENCH_FIRST), batch->now_ns - slot->due_ns);
        }
        if (slot->will_cancel) {
            begin_cancel(slot);
        }
    }
    sl_histogram_add_n(times_of(slot, SL_BENCH_GAP), 0, batch->n - 1);
    slot->last_ns = batch->now_ns;
    sl_bench_count(&slot->worker->n_messages, batch->n);
    sl_bench_count(&slot->worker->n_bytes, batch->n_bytes);
}

static void read_all(struct sl_bench_slot *slot)
{
    const struct sl_bench_plan *plan = plan_of(slot);
    struct batch batch = { .now_ns = sl_bench_now_ns() };
    struct sl_slice message;
    enum sl_status status = sl_client_call_recv_bytes(slot->call, &message);
    while (status == SL_OK) {
        take_message(slot, plan, message, &batch);
        status = sl_client_call_recv_bytes(slot->call, &message);
    }
    count_batch(slot, &batch);
    if (status != SL_AGAIN) {
        end_call(slot, status);
    }
}

/* Reads what is due. What is not read is not given back to flow control: the server waits. */
static void read_slowly(struct sl_bench_slot *slot)
{
    const struct sl_bench_plan *plan = plan_of(slot);
    const uint64_t now_ns = sl_bench_now_ns();
    for (unsigned i = 0; i < SLOW_READS_MAX && slot->read_due_ns <= now_ns; i++) {
        struct sl_slice message;
        struct batch batch = { .now_ns = now_ns };
        const enum sl_status status = sl_client_call_recv_bytes(slot->call, &message);
        if (status == SL_AGAIN) {
            slot->read_due_ns = 0; /* what comes next is read at once; nothing is made up for */
            return;
        }
        if (status != SL_OK) {
            end_call(slot, status);
            return;
        }
        take_message(slot, plan, message, &batch);
        count_batch(slot, &batch);
        slot->read_due_ns =
            (slot->read_due_ns == 0 ? now_ns : slot->read_due_ns) + SL_NS_PER_S / plan->read_rate;
    }
    sl_timer_start(&slot->read, slot->read_due_ns);
}

static void on_read(void *user_data)
{
    struct sl_bench_slot *slot = user_data;
    read_slowly(slot);
}

static void on_readable(struct sl_client_call *call, void *user_data)
{
    struct sl_bench_slot *slot = user_data;
    if (!slot->is_slow || slot->is_cancelled || sl_client_call_status(call) == SL_CANCELLED) {
        read_all(slot);
    } else if (!sl_timer_is_running(&slot->read)) {
        read_slowly(slot);
    }
}

/* ---- The start ---------------------------------------------------------------------------------
 */

static bool is_request_stream(const struct sl_bench_plan *plan)
{
    return plan->method.kind == SL_CLIENT_STREAMING || plan->method.kind == SL_BIDIRECTIONAL;
}

static void send_requests(struct sl_bench_slot *slot)
{
    const struct sl_bench_plan *plan = plan_of(slot);
    const uint64_t n = is_request_stream(plan) ? plan->n_messages : 1;
    while (slot->n_sent < n) {
        const uint64_t at = slot->first_request + slot->n_sent;
        const struct sl_slice request = plan->requests[at % plan->n_requests];
        if (sl_client_call_send_bytes(slot->call, request) != SL_OK) {
            return; /* goes on when there is room; otherwise the call's end says why */
        }
        slot->n_sent++;
    }
    sl_client_call_close_send(slot->call);
}

static void on_writable(struct sl_client_call *call, void *user_data)
{
    struct sl_bench_slot *slot = user_data;
    if (sl_client_call_status(call) == SL_PENDING) {
        send_requests(slot);
    }
}

/* Of a hundred calls so many as the plan says, evenly spread. */
static bool take_cancel(struct sl_bench_worker *worker)
{
    worker->cancel_share += worker->shared->plan->has_cancel ? worker->shared->plan->cancel_pct : 0;
    if (worker->cancel_share < 100) {
        return false;
    }
    worker->cancel_share -= 100;
    return true;
}

void sl_bench_slot_start(struct sl_bench_slot *slot, uint64_t due_ns)
{
    struct sl_bench_worker *worker = slot->worker;
    const struct sl_bench_plan *plan = plan_of(slot);
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = plan->options.timeout_ms,
                                                    .metadata = plan->metadata.items,
                                                    .n_metadata = plan->metadata.n_items,
                                                    .encoding = plan->is_gzip ? "gzip" : NULL,
                                                    .on_readable = on_readable,
                                                    .on_writable = on_writable,
                                                    .user_data = slot };
    slot->due_ns = due_ns;
    slot->read_due_ns = slot->n_sent = 0;
    slot->next_sequence = 1;
    slot->first_request = is_request_stream(plan) ? 0 : worker->n_requests++;
    slot->has_message = slot->is_cancelled = slot->has_ended = false;
    slot->is_counted = worker->is_measuring;
    slot->will_cancel = take_cancel(worker);
    if (sl_client_call_open(slot->channel, &plan->method, &options, &slot->call) != SL_OK) {
        slot->call = NULL;
        sl_bench_count(&worker->n_ended, 1);
        sl_bench_count(&worker->n_errors, 1);
        sl_bench_stats_end(
            &worker->stats, SL_RESOURCE_EXHAUSTED, sl_slice_str(NULL), "no memory for a call");
        sl_timer_start_ms(&slot->timer, RETRY_MS);
        return;
    }
    sl_bench_count(&worker->n_open, 1);
    const uint64_t n_open = atomic_load_explicit(&worker->n_open, memory_order_relaxed);
    worker->n_open_max = n_open > worker->n_open_max ? n_open : worker->n_open_max;
    send_requests(slot);
}

void sl_bench_slot_cancel(struct sl_bench_slot *slot)
{
    if (slot->call == NULL || slot->has_ended) {
        return;
    }
    if (sl_client_call_status(slot->call) == SL_PENDING) {
        sl_client_call_cancel(slot->call);
    } else {
        read_all(slot); /* it is over, only its slow reader is not */
    }
}

/* With a call that is open its cancel is due; otherwise the next try. */
static void on_timer(void *user_data)
{
    struct sl_bench_slot *slot = user_data;
    if (slot->call == NULL || slot->has_ended) {
        run_restart(&slot->restart);
    } else if (sl_client_call_status(slot->call) == SL_PENDING) {
        slot->is_cancelled = true;
        sl_client_call_cancel(slot->call);
    }
}

/* Of a hundred slots so many as the plan says, evenly spread. */
static bool is_slow(const struct sl_bench_plan *plan, uint64_t global_index)
{
    return plan->read_rate > 0 &&
           (global_index + 1) * plan->read_pct / 100 > global_index * plan->read_pct / 100;
}

void sl_bench_slot_init(
    struct sl_bench_slot *slot,
    struct sl_bench_worker *worker,
    struct sl_channel *channel,
    uint64_t global_index)
{
    *slot = (struct sl_bench_slot){ .worker = worker,
                                    .channel = channel,
                                    .restart = { .run = run_restart },
                                    .is_slow = is_slow(worker->shared->plan, global_index) };
    sl_timer_init(&slot->timer, worker->loop, on_timer, slot);
    sl_timer_init(&slot->read, worker->loop, on_read, slot);
}

void sl_bench_slot_done(struct sl_bench_slot *slot)
{
    sl_timer_stop(&slot->timer);
    sl_timer_stop(&slot->read);
    sl_loop_undefer(slot->worker->loop, &slot->restart);
    slot->call = sl_client_call_free(slot->call);
}
