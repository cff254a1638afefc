#include "runtime/exec/lease.h"

#include <assert.h>
#include <stdatomic.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"

struct sl_lease_part {
    struct sl_lease *lease;
    struct sl_loop *loop;
    struct sl_list waiters;
    struct sl_task task;
    atomic_bool is_sent;
};

struct sl_lease {
    struct sl_lease_options options;
    atomic_uint_least64_t good_until_ns; /* SL_NEVER_NS: it does not end */
    atomic_size_t n_waiting;
    struct { /* first loop */
        struct sl_timer timer;
        struct sl_store_renew renew;
        uint64_t asked_ns;
        bool is_stopped, is_failing;
    } first;
    size_t n_parts;
    struct sl_lease_part parts[];
};

/* ---- Waiting -----------------------------------------------------------------------------------
 */

static bool is_good(const struct sl_lease_part *part)
{
    const uint64_t until_ns = atomic_load(&part->lease->good_until_ns);
    return until_ns == SL_NEVER_NS || sl_loop_now_ns(part->loop) < until_ns;
}

void sl_lease_forget(struct sl_lease_waiter *waiter)
{
    if (waiter->is_waiting) {
        waiter->is_waiting = false;
        sl_list_remove(&waiter->node);
        (void)atomic_fetch_sub(&waiter->part->lease->n_waiting, 1);
    }
}

bool sl_lease_await(struct sl_lease_part *part, struct sl_lease_waiter *waiter)
{
    if (part == NULL || is_good(part)) {
        return true;
    }
    SL_ON_LOOP(part->loop);
    if (waiter->is_waiting) {
        return false;
    }
    waiter->is_waiting = true;
    waiter->part = part;
    sl_list_add_last(&part->waiters, &waiter->node);
    (void)atomic_fetch_add(&part->lease->n_waiting, 1);
    if (is_good(part)) { /* since then, and whoever renewed it did not see this one wait */
        sl_lease_forget(waiter);
        return true;
    }
    return false;
}

/* Who waits again, because it is over already, comes behind the others: each is told once. */
static void run_wake(struct sl_task *task)
{
    struct sl_lease_part *part = SL_CONTAINER(task, struct sl_lease_part, task);
    struct sl_lease *lease = part->lease;
    atomic_store(&part->is_sent, false); /* first: what comes now is seen, or sent again */
    struct sl_list *node;
    while (is_good(part) && (node = sl_list_first(&part->waiters)) != NULL) {
        struct sl_lease_waiter *waiter = SL_CONTAINER(node, struct sl_lease_waiter, node);
        sl_lease_forget(waiter);
        waiter->on_good(waiter);
    }
    lease->options.release(lease->options.user_data);
}

static void wake_all(struct sl_lease *lease)
{
    for (size_t i = 0; i < lease->n_parts; i++) {
        struct sl_lease_part *part = &lease->parts[i];
        if (!atomic_exchange(&part->is_sent, true)) {
            lease->options.hold(lease->options.user_data);
            sl_loop_post(part->loop, &part->task);
        }
    }
}

/* ---- Renewing ----------------------------------------------------------------------------------
 */

static void note_failure(struct sl_lease *lease, enum sl_status status)
{
    if (!lease->first.is_failing) {
        const char *why = lease->first.renew.request.why;
        sl_log(
            SL_WARN, SL_LOG_EXEC, "msg=\"lease not renewed\" status=%s why=\"%s\"",
            sl_status_name(status), why == NULL ? "" : why);
    }
    lease->first.is_failing = true;
}

/* The owner counts from the moment before it asked, and stops before the store would let others
 * have its runs. */
static void take_answer(struct sl_lease *lease, enum sl_status status)
{
    const uint64_t lease_ms = lease->first.renew.lease_ms;
    const bool is_endless = status == SL_UNIMPLEMENTED || (status == SL_OK && lease_ms == 0);
    if (status != SL_OK && !is_endless) {
        note_failure(lease, status);
        return;
    }
    lease->first.is_failing = false;
    const uint64_t good_ms = lease_ms - lease_ms / 3;
    const uint64_t until_ns =
        is_endless ? SL_NEVER_NS : lease->first.asked_ns + good_ms * SL_NS_PER_MS;
    lease->first.is_stopped = lease->first.is_stopped || is_endless;
    atomic_store(&lease->good_until_ns, until_ns);
    if (atomic_load(&lease->n_waiting) > 0) {
        wake_all(lease);
    }
}

/* One question at a time: a store that is slow is not asked more often. */
static void answered(struct sl_lease *lease, enum sl_status status)
{
    take_answer(lease, status);
    if (!lease->first.is_stopped) {
        sl_timer_start(
            &lease->first.timer, lease->first.asked_ns + SL_LEASE_RENEW_MS * SL_NS_PER_MS);
    }
}

static void on_renewed(struct sl_store_request *request)
{
    struct sl_lease *lease = SL_CONTAINER(request, struct sl_lease, first.renew.request);
    answered(lease, request->status);
    lease->options.release(lease->options.user_data);
}

void sl_lease_start(struct sl_lease *lease)
{
    struct sl_loop *loop = lease->parts[0].loop;
    lease->first.asked_ns = sl_loop_now_ns(loop);
    lease->first.renew =
        (struct sl_store_renew){ .request = { .loop = loop, .on_done = on_renewed } };
    lease->options.hold(lease->options.user_data);
    const enum sl_status status = sl_store_renew(lease->options.store, &lease->first.renew);
    if (status != SL_PENDING) {
        answered(lease, status);
        lease->options.release(lease->options.user_data);
    }
}

static void on_timer(void *user_data)
{
    sl_lease_start(user_data);
}

void sl_lease_stop(struct sl_lease *lease)
{
    if (lease != NULL) {
        SL_ON_LOOP(lease->parts[0].loop);
        lease->first.is_stopped = true;
        sl_timer_stop(&lease->first.timer);
    }
}

/* ---- Life --------------------------------------------------------------------------------------
 */

enum sl_status sl_lease_new(const struct sl_lease_options *options, struct sl_lease **ret_lease)
{
    const size_t bytes = options->n_loops * sizeof(struct sl_lease_part);
    struct sl_lease *lease = sl_calloc(1, sizeof(*lease) + bytes);
    if (lease == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    lease->options = *options;
    lease->n_parts = options->n_loops;
    atomic_init(&lease->n_waiting, 0);
    atomic_init(&lease->good_until_ns, 0);
    for (size_t i = 0; i < options->n_loops; i++) {
        struct sl_lease_part *part = &lease->parts[i];
        part->lease = lease;
        part->loop = options->loops[i];
        part->task.run = run_wake;
        atomic_init(&part->is_sent, false);
        sl_list_init(&part->waiters);
    }
    sl_timer_init(&lease->first.timer, options->loops[0], on_timer, lease);
    *ret_lease = lease;
    return SL_OK;
}

struct sl_lease *sl_lease_free(struct sl_lease *lease)
{
    assert(lease == NULL || atomic_load(&lease->n_waiting) == 0);
    return sl_free(lease);
}

struct sl_lease_part *sl_lease_at(struct sl_lease *lease, size_t loop)
{
    return &lease->parts[loop];
}
