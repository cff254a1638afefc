/* Asks every loop at once, and waits for at most SL_OPS_ANSWER_MS.
 *
 *   ops loop: ask ──post──▶ each loop: (its part of the dump) ──post──▶ ops loop: one less
 *
 * A loop that hangs keeps its question; it is not asked again before that has come back. */
#include <inttypes.h>
#include <stdio.h>

#include "runtime/base/mem.h"
#include "service/ops/ops_impl.h"

static void start_round(struct sl_ops *ops);

static void end_round(struct sl_ops *ops)
{
    ops->own.is_asking = false;
    sl_timer_stop(&ops->own.timer);
    const size_t n_missing = ops->own.n_missing;
    struct sl_list *node = sl_list_first(&ops->own.asked);
    while (node != NULL) {
        sl_list_remove(node);
        sl_ops_http_answered(SL_CONTAINER(node, struct sl_ops_http, node), n_missing);
        node = sl_list_first(&ops->own.asked);
    }
    start_round(ops);
}

static void ask_loop(struct sl_ops_loop *at)
{
    at->own.is_out = true;
    at->own.round = at->ops->own.round;
    at->want = at->ops->own.want;
    sl_loop_post(at->loop, &at->ask);
}

static void run_answer(struct sl_task *task)
{
    struct sl_ops_loop *at = SL_CONTAINER(task, struct sl_ops_loop, answer);
    struct sl_ops *ops = at->ops;
    at->own.is_out = false;
    if (!ops->own.is_asking) {
        return; /* nobody waits for it any more */
    }
    if (at->own.round != ops->own.round) {
        ask_loop(at); /* it came too late for the last round */
        return;
    }
    ops->own.n_missing--;
    if (ops->own.n_missing == 0) {
        end_round(ops);
    }
}

static void look_at_memory(struct sl_ops_loop *at)
{
    struct sl_runtime_memory *memory = &at->memory;
    sl_runtime_memory(at->ops->runtime, at->loop, memory);
    atomic_store_explicit(
        &at->memory_bytes, memory->runs + memory->waiting + memory->kept + memory->records,
        memory_order_relaxed);
}

/* On the daemon's loop. */
static void run_ask(struct sl_task *task)
{
    struct sl_ops_loop *at = SL_CONTAINER(task, struct sl_ops_loop, ask);
    if (at->want >= SL_OPS_WANT_METRICS) {
        look_at_memory(at);
    }
    if (at->want == SL_OPS_WANT_DUMP) {
        sl_buf_clear(&at->dump);
        at->is_dump_cut = sl_ops_dump_loop(at, &at->dump) != SL_OK;
    }
    sl_loop_post(at->ops->loop, &at->answer);
}

static void on_timer(void *user_data)
{
    end_round(user_data);
}

/* Gives what the most demanding of them wants. */
static enum sl_ops_want take_waiting(struct sl_ops *ops)
{
    enum sl_ops_want want = SL_OPS_WANT_HEALTH;
    SL_LIST_EACH(node, &ops->own.waiting) {
        struct sl_ops_http *http = SL_CONTAINER(node, struct sl_ops_http, node);
        want = http->want > want ? http->want : want;
        sl_list_remove(node);
        sl_list_add_last(&ops->own.asked, node);
    }
    return want;
}

static void start_round(struct sl_ops *ops)
{
    if (ops->own.is_asking || sl_list_is_empty(&ops->own.waiting)) {
        return;
    }
    ops->own.want = take_waiting(ops);
    ops->own.is_asking = true;
    ops->own.round++;
    ops->own.n_missing = ops->n_loops;
    sl_timer_start_ms(&ops->own.timer, SL_OPS_ANSWER_MS);
    for (size_t i = 0; i < ops->n_loops; i++) {
        struct sl_ops_loop *at = &ops->loops[i];
        if (!at->own.is_out) {
            ask_loop(at);
        }
    }
}

void sl_ops_ask(struct sl_ops *ops, struct sl_ops_http *http)
{
    sl_list_add_last(&ops->own.waiting, &http->node);
    start_round(ops);
}

/* ---- Lag ---------------------------------------------------------------------------------------
 */

/* How late it fires is how long the loop was busy. */
static void on_lag_timer(void *user_data)
{
    struct sl_ops_loop *at = user_data;
    const uint64_t now_ns = sl_loop_now_ns(at->loop);
    const uint64_t due_ns = atomic_load_explicit(&at->last_lag_ns, memory_order_relaxed);
    sl_metric_observe(at->lag, now_ns > due_ns ? now_ns - due_ns : 0);
    const uint64_t next_ns = now_ns + SL_OPS_LAG_MS * SL_NS_PER_MS;
    atomic_store_explicit(&at->last_lag_ns, next_ns, memory_order_relaxed);
    sl_timer_start(&at->lag_timer, next_ns);
}

static void run_watch(struct sl_task *task)
{
    struct sl_ops_loop *at = SL_CONTAINER(task, struct sl_ops_loop, watch);
    const uint64_t due_ns = sl_loop_now_ns(at->loop) + SL_OPS_LAG_MS * SL_NS_PER_MS;
    sl_timer_init(&at->lag_timer, at->loop, on_lag_timer, at);
    atomic_store_explicit(&at->last_lag_ns, due_ns, memory_order_relaxed);
    sl_timer_start(&at->lag_timer, due_ns);
}

void sl_ops_watch(struct sl_ops *ops)
{
    for (size_t i = 0; i < ops->n_loops; i++) {
        sl_loop_post(ops->loops[i].loop, &ops->loops[i].watch);
    }
}

/* ---- Life --------------------------------------------------------------------------------------
 */

void sl_ops_round_init(struct sl_ops *ops)
{
    sl_list_init(&ops->own.waiting);
    sl_list_init(&ops->own.asked);
    sl_timer_init(&ops->own.timer, ops->loop, on_timer, ops);
    for (size_t i = 0; i < ops->n_loops; i++) {
        struct sl_ops_loop *at = &ops->loops[i];
        char name[16];
        (void)snprintf(name, sizeof(name), "%" PRIu32, (uint32_t)i);
        const char *const values[] = { name };
        at->ops = ops;
        at->ask.run = run_ask;
        at->answer.run = run_answer;
        at->watch.run = run_watch;
        at->lag = sl_metric_series(SL_M_sluice_loop_lag_seconds, values);
        sl_buf_init(&at->dump, SL_OPS_DUMP_BYTES);
    }
}

void sl_ops_round_done(struct sl_ops *ops)
{
    for (size_t i = 0; i < ops->n_loops; i++) {
        sl_buf_done(&ops->loops[i].dump);
    }
}
