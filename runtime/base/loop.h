// install: off
/* The event loop as the rest of the program sees it: time, timers, and work handed over.
 *
 *   turn:  posted tasks ─▶ due timers, I/O ─▶ deferred tasks ─▶ wait
 *
 * Timers, tasks and the order of a turn are written once, here. A backend only waits: loop_uv.h
 * waits with libuv, tests/fake/fake_loop.h with a clock that the test moves. Sockets and processes
 * are not part of it: service/net, runtime/model/http and runtime/tool/process use libuv
 * themselves.
 *
 * What takes too long for a loop is a job, done by a thread of the pool that all loops share.
 *
 * Nothing here allocates: tasks, timers and jobs are embedded in their owners. */
// install: on
#ifndef SL_RUNTIME_BASE_LOOP_H
#define SL_RUNTIME_BASE_LOOP_H

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/reserve.h"

/* Time, timers, and work handed over. Nothing here allocates: tasks and timers are embedded in
 * their owners, and their fields but for `run` are the library's. */

#define SL_NS_PER_MS UINT64_C(1000000)
#define SL_NS_PER_S  UINT64_C(1000000000)
#define SL_NEVER_NS  UINT64_MAX

struct sl_loop;

/* A piece of work, embedded in its owner. It may be queued again from its own `run`; its owner must
 * not go before it has run. */
struct sl_task {
    struct sl_task *next, *previous; /* previous: of deferred tasks only */
    void (*run)(struct sl_task *task);
    bool is_queued; /* of sl_loop_defer; posted tasks do not use it */
};

typedef void(sl_timer_fn)(void *user_data);

/* One shot. All zero is not a valid timer: sl_timer_init(). */
struct sl_timer {
    struct sl_loop *loop;
    sl_timer_fn *on_fire;
    void *user_data;
    uint64_t due_ns;                             /* SL_NEVER_NS: not running */
    struct sl_timer *child, *sibling, *previous; /* pairing heap */
    uint64_t late_firing;                        /* the firing in which it was put into `late` */
};

// install: off
/* JSON documents over this size are parsed and written by jobs (PM-1.6). */
enum { SL_JOB_DOCUMENT_BYTES = 262144, SL_JOB_ROOM_BYTES = 192 };

/* A piece of work for the pool, embedded in its owner, which must not go before `on_done`. */
struct sl_job {
    void (*run)(struct sl_job *job);     /* on the pool: touches nothing that a loop may change */
    void (*on_done)(struct sl_job *job); /* on the loop; the job may go, or be offloaded again */
    struct sl_loop *loop;
    struct sl_job *next; /* for backends */
    bool is_skipped;     /* taken back before it began: `run` was not called */
    _Alignas(max_align_t) unsigned char room[SL_JOB_ROOM_BYTES]; /* for backends */
};

/* What a backend does. */
struct sl_loop_backend {
    /* Makes the wait of the loop end. Any thread. */
    void (*wake)(struct sl_loop *loop);
    /* The wait must end at `due_ns` (sl_loop_now_ns' clock; SL_NEVER_NS: no timer). Loop's thread.
     */
    void (*arm)(struct sl_loop *loop, uint64_t due_ns);
    /* Takes the time anew with sl_loop_set_time: asked when somebody wants to know it after a wait
     * and before the next turn has begun. May be NULL when time does not pass in a wait. Loop's
     * thread. */
    void (*refresh)(struct sl_loop *loop);
    /* Both of sl_loop_offload and sl_job_take_back. NULL where no job is ever offloaded. Loop's
     * thread. */
    void (*offload)(struct sl_loop *loop, struct sl_job *job);
    void (*take_back)(struct sl_job *job);
};

struct sl_loop {
    const struct sl_loop_backend *backend;
    uint32_t index; /* 0 to n_loops - 1 */
    struct {
        pthread_t thread;
        bool has_thread;
        struct sl_loop *self; /* so that a look at the clock of a const loop can refresh it */
        uint64_t now_ns;      /* monotonic; taken once a turn */
        uint64_t wall_ms;     /* Unix time; taken once a turn */
        bool is_time_stale;   /* the loop waits, or has waited: ask the backend */
        bool is_firing;
        uint64_t n_firings;
        struct sl_timer *timers;
        struct sl_timer *late; /* started while timers fire and due already: for the next turn */
        uint64_t armed_ns;     /* what the backend was told; SL_NEVER_NS: nothing */
        struct sl_task *deferred_first, *deferred_last;
        struct sl_task *round_first, *round_last; /* deferred tasks of the round that runs */
        uint64_t n_turns;
        struct sl_reserve reserve; /* for the ends of what lives here */
    } loop;
    struct {
        pthread_mutex_t lock;
        struct sl_task *first, *last;
    } shared;
};

#define SL_ON_LOOP(l) assert(sl_loop_is_current(l))

// install: on
/* Monotonic time of this turn in nanoseconds. Thread: loop. */
uint64_t sl_loop_now_ns(const struct sl_loop *loop);

/* Unix time of this turn in milliseconds. Informative only. Thread: loop. */
uint64_t sl_loop_wall_ms(const struct sl_loop *loop);

/* Hands `task` to the loop; it runs there in the next turn, in the order of posting.
 * Owns: borrowed until it has run. Thread: any. Never fails. */
void sl_loop_post(struct sl_loop *loop, struct sl_task *task);

/* Runs `task` at the end of this turn, before the loop waits: "once for all that this turn brings".
 * A task that is deferred already stays where it is. Thread: loop. Never fails. */
void sl_loop_defer(struct sl_loop *loop, struct sl_task *task);

/* Takes a deferred task out again; harmless when it is not queued. Thread: loop. */
void sl_loop_undefer(struct sl_loop *loop, struct sl_task *task);

// install: off
/* Hands `job` to the pool: `run` there, then `on_done` on the loop, never from inside this call.
 * Owns: borrowed until on_done. The loop is not freed before. Thread: loop. Never fails. */
void sl_loop_offload(struct sl_loop *loop, struct sl_job *job);

/* Nobody wants the job any more: it is skipped if it has not begun. on_done comes in any case,
 * later. Thread: loop. */
void sl_job_take_back(struct sl_job *job);

// install: on
/* True on the loop's own thread, and before the loop has a thread. */
bool sl_loop_is_current(const struct sl_loop *loop);

// install: off
/* The loop that the calling thread entered last; NULL: none. */
struct sl_loop *sl_loop_current(void);

/* Runs what is posted and deferred until nothing is left, without a turn; false: nothing was.
 * Backends call it before they go. Where loops post to each other, drain all of them until none had
 * anything, and free them then. Thread: loop, or any when the loop's thread has ended. */
bool sl_loop_drain(struct sl_loop *loop);

/* The memory that this loop holds back. Thread: loop. */
struct sl_reserve *sl_loop_reserve(struct sl_loop *loop);

// install: on
/* Prepares a timer that does not run. Thread: loop. */
void sl_timer_init(
    struct sl_timer *timer, struct sl_loop *loop, sl_timer_fn *on_fire, void *user_data);

/* Fires once at `due_ns`, or in the next turn when that has passed. A running timer is moved.
 * Thread: loop. Never fails. */
void sl_timer_start(struct sl_timer *timer, uint64_t due_ns);

/* Fires once, `delay_ms` from now. */
void sl_timer_start_ms(struct sl_timer *timer, uint64_t delay_ms);

/* Stops it; harmless when it does not run. After this the owner may go. Thread: loop. */
void sl_timer_stop(struct sl_timer *timer);

/* Thread: loop. */
bool sl_timer_is_running(const struct sl_timer *timer);

// install: off
/* ---- For backends ---------------------------------------------------------------------------- */

void sl_loop_init(struct sl_loop *loop, const struct sl_loop_backend *backend, uint32_t index);
void sl_loop_done(struct sl_loop *loop);

/* Makes the calling thread the loop's. */
void sl_loop_enter(struct sl_loop *loop);

/* Sets the clock inside a turn; `is_stale`: it passes on, ask `refresh` again next time. */
void sl_loop_set_time(struct sl_loop *loop, uint64_t now_ns, uint64_t wall_ms, bool is_stale);

/* Says that the wait begins: the time is stale from here on, until somebody asks or the turn
 * begins. */
void sl_loop_turn_wait(struct sl_loop *loop);

/* Due time of the earliest timer; SL_NEVER_NS: none runs. */
uint64_t sl_loop_next_due_ns(const struct sl_loop *loop);

/* True when a task is posted or deferred. */
bool sl_loop_has_work(struct sl_loop *loop);

/* The three parts of a turn. `begin` takes the time; `work` runs posted tasks and due timers, at
 * most 256, the others are for the next turn; `end` runs deferred tasks until none is left (those
 * that a deferred task adds run too, at most 16 rounds, then the loop is woken) and arms the
 * backend. A backend may call work and end more than once a turn. */
void sl_loop_turn_begin(struct sl_loop *loop, uint64_t now_ns, uint64_t wall_ms);
void sl_loop_turn_work(struct sl_loop *loop);
void sl_loop_turn_end(struct sl_loop *loop);

// install: on
#endif
