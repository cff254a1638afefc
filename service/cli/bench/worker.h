/* One thread of `sluice bench`: a loop, its share of the connections and of the streams.
 *
 *   bench.c    the main thread: when what begins and ends
 *   worker.c   which call is due when, in which slot
 *   slot.c     one call: sent, read, timed, cancelled
 *
 * A worker belongs to its thread between _start() and _join(), but for what is atomic. */
#ifndef SL_SERVICE_CLI_BENCH_WORKER_H
#define SL_SERVICE_CLI_BENCH_WORKER_H

#include <pthread.h>
#include <stdatomic.h>

#include "runtime/base/loop_uv.h"
#include "service/cli/bench/plan.h"
#include "service/cli/bench/stats.h"

struct sl_bench_worker;

/* What all workers of a bench have in common. */
struct sl_bench_shared {
    const struct sl_bench_plan *plan;
    struct sl_net_tls *tls; /* NULL: none */
    struct sl_loop *home;   /* of the main thread */
    uint64_t begin_ns;
    _Atomic uint64_t n_started;            /* calls, for --runs */
    _Atomic bool has_reached;              /* some call got something from the server */
    void (*on_done)(struct sl_task *done); /* on the home loop: no call is open or to come */
    void (*on_unreachable)(struct sl_task *unreachable); /* the same: there is no server */
};

/* What the main thread tells a worker: the warm-up is over; no more calls; cancel those that are
 * open; end. Each once. */
enum sl_bench_order {
    SL_BENCH_BEGIN, /* by sl_bench_worker_start() */
    SL_BENCH_MEASURE,
    SL_BENCH_OVER,
    SL_BENCH_CUT,
    SL_BENCH_STOP,
    SL_BENCH_N_ORDERS
};

/* A place that one call after the other takes. */
struct sl_bench_slot {
    struct sl_bench_worker *worker;
    struct sl_channel *channel;
    struct sl_client_call *call; /* NULL: free, or waiting to try again */
    struct sl_bench_slot *next_free;
    struct sl_task restart;
    struct sl_timer timer; /* of the cancel; without a call of the next try */
    struct sl_timer read;  /* of a slow reader's next message */
    uint64_t due_ns, last_ns, read_due_ns;
    uint64_t next_sequence, first_request, n_sent;
    bool is_slow;
    bool has_message;
    bool is_counted; /* it began when the warm-up was over */
    bool will_cancel, is_cancelled;
    bool has_ended; /* its call has, and is not freed yet */
};

struct sl_bench_worker {
    struct sl_bench_shared *shared;
    uint64_t index;
    pthread_t thread;
    struct sl_loop_uv *uv_loop;
    struct sl_loop *loop;
    struct sl_channel **channels;
    size_t n_channels;
    struct sl_bench_slot *slots, *free_slots;
    size_t n_slots;
    struct sl_task orders[SL_BENCH_N_ORDERS];
    struct sl_task done, unreachable; /* news for the main thread */
    char unreachable_text[SL_BENCH_REASON_BYTES * 4];
    struct sl_timer pace;
    uint64_t next;       /* start of the open loop, or slot of the closed one, that is due next */
    uint64_t n_busy;     /* slots that have a call, or will have one again */
    uint64_t n_requests; /* calls begun: each with one request sends the next one */
    uint64_t cancel_share;
    bool is_measuring, is_over, is_done, is_starved;
    uint64_t cpu_from_ns, cpu_to_ns; /* of the thread, while it was measured */
    struct sl_bench_stats stats;
    uint64_t n_open_max;
    uint64_t n_limit_waits, stream_limit; /* of its channels, at the end */
    /* Written here, read by the main thread at any time. Never reset. */
    _Atomic uint64_t n_messages, n_bytes, n_ended, n_ok, n_errors, n_open;
    _Atomic uint64_t n_lost; /* of the errors: the connection failed */
};

/* Makes a worker; no thread yet. Fails: SL_INVALID_ARGUMENT, SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_bench_worker_new(
    struct sl_bench_shared *shared,
    uint64_t index,
    struct sl_bench_worker **ret_worker,
    struct sl_error *err);
/* Starts its thread, and its calls. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_bench_worker_start(struct sl_bench_worker *worker);
/* Thread: any, once it was started. */
void sl_bench_worker_tell(struct sl_bench_worker *worker, enum sl_bench_order order);
/* Waits for its thread, which ends after SL_BENCH_STOP. */
void sl_bench_worker_join(struct sl_bench_worker *worker);
/* Its thread has ended, or was never started. Accepts NULL; gives NULL. */
struct sl_bench_worker *sl_bench_worker_free(struct sl_bench_worker *worker);

/* ---- Between worker.c and slot.c --------------------------------------------------------------
 */

/* Whether there may be one more call; takes it from --runs. */
bool sl_bench_worker_take_run(struct sl_bench_worker *worker);
/* The slot has no call any more: it gets the next one, now or when one is due. */
void sl_bench_worker_release(struct sl_bench_slot *slot);

void sl_bench_slot_init(
    struct sl_bench_slot *slot,
    struct sl_bench_worker *worker,
    struct sl_channel *channel,
    uint64_t global_index);
/* Makes a call that was due at `due_ns`. */
void sl_bench_slot_start(struct sl_bench_slot *slot, uint64_t due_ns);
void sl_bench_slot_cancel(struct sl_bench_slot *slot);
void sl_bench_slot_done(struct sl_bench_slot *slot);

/* Adds to a counter that only this thread writes. */
static inline void sl_bench_count(_Atomic uint64_t *counter, uint64_t n)
{
    const uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, value + n, memory_order_relaxed);
}

#endif
