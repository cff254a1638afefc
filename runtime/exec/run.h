/* One run: one execution of one agent on one input (AL-1), on one loop.
 *
 *   NEW ─▶ READY ─▶ MODEL ─▶ TOOLS ─▶ READY …      iterations (step.c, tools.c)
 *            └────────┴────────┴─▶ CLOSING ─▶ ENDED   sl_run_finish (finish.c)
 *
 * A run ends on its own, always with one terminal event, and only when nothing of it is alive. */
#ifndef SL_RUNTIME_EXEC_RUN_H
#define SL_RUNTIME_EXEC_RUN_H

#include <stdatomic.h>

#include "runtime/base/credentials.h"
#include "runtime/base/event_channel.h"
#include "runtime/base/limits.h"
#include "runtime/base/loop.h"
#include "runtime/base/random.h"
#include "runtime/exec/agent.h"
#include "runtime/exec/approval.h"
#include "runtime/exec/budget.h"
#include "runtime/exec/ending.h"
#include "runtime/exec/history.h"
#include "runtime/exec/lease.h"
#include "runtime/exec/record.h"
#include "runtime/store/store.h"

struct sl_resume;

/* Written on the loop, read anywhere. */
struct sl_exec_stats {
    _Atomic uint64_t events, event_bytes, model_turns, tool_calls;
};

/* What all runs of a loop share. Constant while runs use it. */
struct sl_run_env {
    struct sl_loop *loop;
    const struct sl_limits *limits;
    struct sl_models *models;
    struct sl_tools *tools;
    struct sl_store *store;
    struct sl_lease_part *lease;    /* NULL: what is started needs none */
    struct sl_record_room *records; /* NULL: as of sl_record_options */
    struct sl_exec_stats *stats;
    uint32_t window_bytes; /* of each run's log, unless its settings have one */
};

/* What the agent, the request and the server's limits agreed on. */
struct sl_run_settings {
    uint32_t max_iterations;
    uint64_t run_timeout_ms;
    uint64_t call_deadline_ns; /* of the stream that starts it; SL_NEVER_NS: none */
    uint32_t heartbeat_ms;     /* 0: none */
    Sluice__V1__OnDisconnect on_disconnect;
    uint64_t detach_ttl_ms;
    bool cancel_on_reset;
    bool tool_call_deltas, omit_content;
    uint32_t min_flush_ms, max_delta_bytes; /* 0: no merging; the limit */
    uint32_t mark_bytes, mark_events;
    uint32_t window_bytes;    /* 0: the environment's */
    uint64_t max_tokens;      /* 0: no bound */
    uint64_t max_cost_micros; /* 0: no bound */
    uint64_t max_tool_calls;
    enum sl_store_durability durability; /* that the environment's store has */
};

struct sl_run_options {
    const struct sl_run_env *env;
    const struct sl_agent *agent;
    const struct sl_run_settings *settings; /* copied */
    const char *run_id;                     /* copied */
    struct sl_history *history; /* with the input; its content is taken when _new succeeds */
    const char *input;          /* in the history's arena */
    const char *peer;           /* for the log; in the history's arena */
    /* Of whom, and which conversation: for the store. NULL: "", and none. The first as long as the
     * run, the second in the history's arena, which has the conversation so far. */
    const char *tenant, *session_id;
    const char *request_id; /* for the store, until _begin returns; NULL: "", as the next */
    struct sl_slice digest;
    uint64_t after_sequence;              /* of a run that is taken up: its last event; else 0 */
    struct sl_store *session_store;       /* where it is kept; with a session */
    const struct sl_store_pair *metadata; /* for the store; in the history's arena */
    size_t n_metadata;
    /* NULL, or where they are: taken when _new succeeds, overwritten when the run is freed. */
    struct sl_credentials **credentials;
    const char *caller; /* who starts it, in the history's arena; "" or NULL: not known */
    /* Tools that the client runs; counted, and borrowed as long as the run. */
    struct sl_tool **client_tools;
    size_t n_client_tools;
    /* May be NULL: inputs that waited are in the conversation now, and there is room for others. */
    void (*on_inputs_taken)(void *user_data);
    /* Nothing went out for heartbeat_ms: a StreamEvent without prefix, valid in the call. */
    void (*on_heartbeat)(void *user_data, struct sl_slice message);
    /* After _begin said SL_PENDING, once, unless it is SL_OK never from inside a function of the
     * run: the run goes on, or was refused and may be freed from inside. */
    void (*on_begun)(void *user_data, const struct sl_record_answer *answer);
    struct sl_ending *ending; /* where it is written; stays as long as the run */
    /* What is kept of the conversation is stored, and nobody has seen the terminal event: the
     * session is free. NULL: nobody waits for it. */
    void (*on_settled)(void *user_data);
    /* The terminal event is in the log, which ends right after this. */
    void (*on_ending)(void *user_data, const struct sl_ending *ending);
    /* Everything is over; the run may be freed from inside. Never from inside a function of the
     * run. */
    void (*on_ended)(void *user_data);
    void *user_data;
};

struct sl_run;

/* Makes a run that has not begun. Owns: the caller; sl_run_free(). Thread: the loop. Fails:
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_run_new(const struct sl_run_options *options, struct sl_run **ret_run);
/* Its log; the foreground reader is attached before _begin. */
struct sl_event_channel *sl_run_channel(struct sl_run *run);
/* How far the run may be ahead of its reader, instead of settings.mark_bytes. Thread: loop. */
void sl_run_set_mark(struct sl_run *run, uint32_t mark_bytes);
/* Appends RunStarted and goes on by itself; on_ended comes once. SL_PENDING: it goes on once
 * RunStarted is stored (ASYNC, SYNC), and on_begun tells. Fails: SL_RESOURCE_EXHAUSTED no memory
 * for RunStarted; SL_UNIMPLEMENTED the store refuses; there is no run then. */
SL_CHECK enum sl_status sl_run_begin(struct sl_run *run);
/* Ends it early, unless it is ending already; then it waits no longer for the store than a stopped
 * run does. One that has not begun yet is refused: on_begun comes, with SL_CANCELLED. */
void sl_run_cancel(struct sl_run *run, const struct sl_ending *ending);

/* ---- From one process to the next (reliability 3.7, 4.2) ----------------------------------------
 */

/* Instead of _begin: goes on where a run was that rests in the store, which is `log`; taken. What
 * it was started with is in the options, as far as the store and `resume` have it. Fails:
 * SL_RESOURCE_EXHAUSTED; it may be freed then, and the log is still the caller's. */
SL_CHECK enum sl_status
sl_run_take_up(struct sl_run *run, const struct sl_resume *resume, struct sl_store_log *log);
/* The process ends: the run stops where it is, and goes on with whoever takes it up. on_ending and
 * on_ended come as ever, with an ending that says so (is_parked) unless the store cannot take it.
 * False: it cannot be done, or it is ending. */
bool sl_run_park(struct sl_run *run);

/* How the foreground stream went. */
enum sl_run_gone {
    SL_RUN_GONE_READ,  /* all was read: no influence */
    SL_RUN_GONE_RESET, /* RST_STREAM */
    SL_RUN_GONE_LOST,  /* lost connection, or stalled */
    SL_RUN_GONE_DEADLINE,
    SL_RUN_GONE_SLOW, /* slow_consumer DISCONNECT: CANCEL becomes DETACH */
    SL_RUN_GONE_DRAIN
};

/* The foreground stream is gone; on_disconnect and cancel_on_reset decide (AL-7.1). `code`: that of
 * RST_STREAM, for the log. */
void sl_run_reader_gone(struct sl_run *run, enum sl_run_gone how, uint32_t code);

/* Somebody follows it, or nobody does any more: DETACH_FOR counts the time in which nobody is
 * there. Thread: loop. */
void sl_run_set_observed(struct sl_run *run, bool is_observed);

/* ---- What comes from outside, by its stream or another call. Thread: loop. ---------------------
 */

/* The one decision about a call that waits (AL-6.7). Fails: SL_NOT_FOUND no such approval;
 * SL_FAILED_PRECONDITION it is decided; SL_PERMISSION_DENIED not by him; SL_INVALID_ARGUMENT the
 * digest is another's, or the comment too long; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_run_decide(struct sl_run *run, const struct sl_approval_answer *answer, struct sl_error *err);
/* Every open call waits for a decision. */
bool sl_run_is_waiting_approval(const struct sl_run *run);
const struct sl_approvals *sl_run_approvals(const struct sl_run *run);
/* After on_ended. Owns: the caller; sl_approvals_done(). */
struct sl_approvals sl_run_take_approvals(struct sl_run *run);

/* What the client's tool gave; the first result of a call counts, and one for a call that is over
 * is ignored. Fails: SL_INVALID_ARGUMENT no such call, or not the client's; SL_RESOURCE_EXHAUSTED.
 */
SL_CHECK enum sl_status sl_run_tool_result(
    struct sl_run *run,
    const char *tool_id,
    struct sl_slice result,
    struct sl_slice error,
    struct sl_error *err);
/* Goes into the conversation before the next iteration. Fails: SL_AGAIN limits.user_inputs wait
 * already; SL_FAILED_PRECONDITION there will be no next iteration; SL_INVALID_ARGUMENT its size;
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_run_user_input(struct sl_run *run, struct sl_slice text, struct sl_error *err);
/* The run has ended, or will, without what the user said last. */
bool sl_run_has_unheard_input(const struct sl_run *run);

/* The limits that it was started with. */
const struct sl_limits *sl_run_limits(const struct sl_run *run);
/* Its conversation and what it has used, so far; valid until it goes on. Thread: loop. */
const struct sl_history *sl_run_history(const struct sl_run *run);
const struct sl_usage *sl_run_usage(const struct sl_run *run);
/* After on_ended: takes both. Owns: the caller; sl_history_done(). */
void sl_run_take_rest(
    struct sl_run *run, struct sl_history *ret_history, struct sl_usage *ret_used);

/* The store has it: its durability is not NONE. From _begin on. Thread: loop. */
bool sl_run_is_recorded(const struct sl_run *run);

/* How it is now, for people; texts are valid as long as the run. Thread: loop. */
struct sl_run_look {
    const char *agent, *peer, *state, *on_disconnect;
    uint64_t age_ms;
    uint32_t iteration;
    struct sl_event_lag unread;
    bool is_paused, is_detached;
};
void sl_run_look(const struct sl_run *run, struct sl_run_look *ret_look);

/* Before _begin, or after on_ended. Accepts NULL; gives NULL. */
struct sl_run *sl_run_free(struct sl_run *run);

#endif
