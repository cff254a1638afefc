/* What the files of a run share: its inside, and who may call whom.
 *
 *   run.c ─▶ step.c ─▶ tools.c ─▶ step.c …       all of them ─▶ emit.c, finish.c, park.c
 *                         └─▶ approve.c, client_call.c ─▶ tools.c */
#ifndef SL_RUNTIME_EXEC_RUN_PRIVATE_H
#define SL_RUNTIME_EXEC_RUN_PRIVATE_H

#include "runtime/base/buf.h"
#include "runtime/base/metrics.h"
#include "runtime/exec/approval.h"
#include "runtime/exec/arguments.h"
#include "runtime/exec/budget.h"
#include "runtime/exec/client_result.h"
#include "runtime/exec/collect.h"
#include "runtime/exec/encode.h"
#include "runtime/exec/lease.h"
#include "runtime/exec/order.h"
#include "runtime/exec/record.h"
#include "runtime/exec/resume.h"
#include "runtime/exec/run.h"
#include "runtime/exec/session.h"

enum sl_run_state {
    SL_RUN_STATE_NEW,
    SL_RUN_STATE_READY, /* between iterations */
    SL_RUN_STATE_MODEL,
    SL_RUN_STATE_TOOLS,
    SL_RUN_STATE_CLOSING, /* the ending is claimed */
    SL_RUN_STATE_ENDED
};

enum { SL_TOOL_ID_BYTES = 24, SL_MODEL_NAME_BYTES = 128, SL_PROGRESS_BYTES = 4096 };

enum sl_tool_slot_state {
    SL_SLOT_UNREAD, /* nobody knows of it yet; its arguments are being read, or wait for it */
    SL_SLOT_ASKED,
    SL_SLOT_PENDING,  /* it waits for a decision */
    SL_SLOT_APPROVED, /* it may run, and waits for room */
    SL_SLOT_RUNNING,
    SL_SLOT_CLIENT, /* the client runs it */
    SL_SLOT_DONE
};

/* Live output of a tool that was not sent yet: at most ten events a second (AL-2.2). */
struct sl_tool_progress {
    struct sl_timer timer;
    bool is_stderr; /* of what is held */
    struct sl_buf held;
    uint64_t next_ns; /* when the next event may go */
};

/* One call of the current iteration. */
struct sl_tool_slot {
    struct sl_run *run;
    enum sl_tool_slot_state state;
    char tool_id[SL_TOOL_ID_BYTES];
    /* In the history's arena. */
    const char *name;
    const char *provider_id;    /* "": none */
    const char *call_id;        /* for the model: the provider's if it is of use, else ours */
    const char *arguments;      /* as the model sent them, clean */
    const char *arguments_json; /* a JSON object, whatever the model sent */
    const char *opaque_json;    /* NULL: none */
    char *result;               /* for the model; owned; NULL: not there yet */
    bool is_error;
    bool is_cut;               /* UNREAD: no call unless the arguments are an object */
    uint64_t over_bytes;       /* > 0: the arguments had more than so many; this is the beginning */
    struct sl_tool_call *call; /* RUNNING */
    uint8_t digest[SL_SHA256_BYTES]; /* of the canonical arguments */
    struct sl_approval *approval;    /* NULL: none was asked for */
    struct sl_timer wait_timer;      /* PENDING, CLIENT */
    uint64_t client_since_ns;        /* CLIENT */
    struct sl_client_result early;   /* came before the call began */
    struct sl_tool_progress progress;
};

struct sl_run {
    /* Up to turn.facts: touched with each event, so on few lines of the cache. */
    const struct sl_run_env *env;
    struct sl_event_channel *channel;
    bool is_claimed;
    bool is_begun; /* RunStarted is in the log */
    bool is_paused;
    bool is_order_off;
    bool is_reader_gone; /* and the run goes on */
    bool is_observed;
    enum sl_run_state state;
    uint64_t last_event_ns;
    uint64_t event_bytes;
    size_t max_delta_bytes;
    struct sl_task resume_task;
    struct sl_run_settings settings;
    struct sl_buf hold; /* text that waits to be merged */
    struct sl_collect collect;

    struct { /* the model's response */
        struct sl_model_turn *handle;
        struct sl_usage_facts facts;
        bool is_open; /* IterationStart is out, IterationComplete is not */
        enum sl_model_phase phase;
        uint32_t n_retries;      /* begun, the pause before included */
        const char *opaque_json; /* in the history's arena; NULL: none */
        enum sl_model_finish finish;
        bool is_waiting; /* the answer is complete, and arguments are still being read */
        Sluice__V1__StopReason stop;      /* of the answer, when it is complete */
        struct sl_output_job *output_job; /* reads it */
        bool is_violation;                /* it does not fit the agent's output schema */
        char *violation;                  /* why; NULL: there was no memory to keep it */
        bool is_recorded;                 /* the answer is in the history */
        const char *failure;     /* the code that it failed with, static; NULL: it did not */
        struct sl_budget before; /* the calls that were counted before this answer */
        /* In the history's arena; NULL: not said. */
        const char *raw, *answered_model;
    } turn;

    const struct sl_agent *agent;
    struct sl_run_options options; /* callbacks and texts */
    struct sl_store_log store_log; /* of durability NONE */
    struct sl_record *record;      /* of the others, while it is recorded; else NULL */
    enum sl_record_fault record_fault;
    bool is_starting;  /* _begin said SL_PENDING, and on_begun has not come */
    bool is_recording; /* the terminal event is in the log, and on its way into the store */
    bool must_hurry;   /* it was stopped */
    void (*when_stored)(struct sl_run *run);
    struct sl_lease_waiter lease; /* run_lease.c */
    void (*when_leased)(struct sl_run *run);
    struct sl_session_keeper session;
    char run_id[SL_ID_BYTES];
    uint64_t started_ns, deadline_ns;
    struct sl_history history;
    struct sl_credentials *credentials; /* NULL: none */
    struct sl_budget budget;
    uint32_t iteration, attempt;
    uint32_t n_restarts, n_output_retries;
    Sluice__V1__StopReason last_stop;
    struct {             /* park.c */
        bool is_resting; /* it waits for a decision, and the store is told */
        bool is_waking;  /* until the store knows that this is over */
        bool is_parking; /* it ends here, to go on elsewhere */
        bool is_written; /* what it takes to go on is on its way into the store */
        Sluice__Store__V1__ResumePoint point;
    } rest;

    struct { /* the calls of the iteration, in call order */
        struct sl_tool_slot **slots;
        size_t n_slots, capacity;
        size_t n_read;                /* the first ones are not UNREAD */
        struct sl_arguments_job *job; /* reads the next one */
        size_t n_begun;               /* the first ones were started or answered */
        size_t n_running, n_client, n_pending, n_approved;
        uint32_t n_executed; /* that were started, in the run */
        size_t n_recorded;   /* the results of the first ones are in the history */
        bool must_wait;      /* some of them had to wait for others */
        uint32_t n_minted;   /* in the run */
        enum sl_budget_verdict verdict;
    } tools;

    struct sl_approvals approvals;
    struct { /* what the client of a Converse stream brings */
        struct sl_tool **tools;
        size_t n_tools;                  /* 0 also once it is gone */
        struct sl_chat_tool *chat_tools; /* the agent's, then the client's; NULL: the agent's */
        const char **inputs;             /* wait for the next iteration; in the history's arena */
        size_t n_inputs;
    } client;

    struct sl_timer flush_timer, deadline_timer, heartbeat_timer, detach_timer;
    struct sl_task ended_task;

    uint64_t progress_dropped_bytes;
    uint64_t n_pauses, paused_since_ns, paused_ns;
    uint32_t reset_code;

    struct { /* run_metrics.c */
        bool is_detached, is_measured;
        uint64_t claimed_ns, request_ns;
        uint64_t chunk_ns; /* 0: no chunk yet */
        const struct sl_series *per_chunk;
    } counted;

    struct sl_event_order order; /* debug builds */
};

/* The only way to change the state; asserts that the change is in the table. */
void sl_run_set_state(struct sl_run *run, enum sl_run_state state);
/* Copies as much of `text` as fits, clean and terminated. */
void sl_run_copy_name(char *room, size_t room_bytes, const char *text);
/* Milliseconds until the deadline, at least 1. */
uint64_t sl_run_remaining_ms(const struct sl_run *run);
uint64_t sl_run_elapsed_ms(const struct sl_run *run);

/* ---- emit.c: all that goes into the log. False: no memory, and the run is ending. ---------------
 */
bool sl_run_emit(struct sl_run *run, Sluice__V1__StreamEvent *event);
bool sl_run_emit_text(struct sl_run *run, enum sl_encode_text kind, struct sl_slice text);
/* Sends what waits to be merged. */
bool sl_run_emit_held(struct sl_run *run);
/* Fills a generated usage. */
Sluice__V1__Usage sl_run_usage_message(const struct sl_usage *usage);
bool sl_run_emit_iteration_complete(struct sl_run *run, Sluice__V1__StopReason stop_reason);

/* ---- step.c ------------------------------------------------------------------------------------
 */
/* The answer is complete, and every call of it is read. */
void sl_run_answered(struct sl_run *run);
/* The answer was read, and is taken: IterationComplete, and what follows from it. */
void sl_run_complete(struct sl_run *run);
/* Adds what the model has said and asked for to the conversation. False: the run is ending. */
bool sl_run_record_answer(struct sl_run *run);
/* The gate (AL-4.4), and the next request to the model. */
void sl_run_next_iteration(struct sl_run *run);
/* Drops what the next request may not have of the conversation. */
void sl_run_prune(struct sl_run *run);
/* The same iteration from its beginning: nothing of its answer counts. */
void sl_run_repeat_iteration(struct sl_run *run);

/* ---- restart.c ---------------------------------------------------------------------------------
 */
/* The model has failed so, and its turn is freed. True: the iteration is complete, and begun again
 * if the gate lets it through. */
bool sl_run_restart(struct sl_run *run, const struct sl_ending *ending);

/* ---- answer.c ----------------------------------------------------------------------------------
 */
/* Looks whether the answer fits the agent's output schema. False: the pool does so, and
 * sl_run_complete() follows; or the run is ending. */
bool sl_run_answer_read(struct sl_run *run);
/* It does not, and its iteration is complete. */
void sl_run_answer_misfits(struct sl_run *run);

/* ---- tools.c -----------------------------------------------------------------------------------
 */
/* The model asked for a call: ToolCallStart, when its arguments are read. */
void sl_run_tool_asked(struct sl_run *run, const struct sl_model_chunk *chunk);
/* Runs the calls of the iteration, then goes on with the next one. */
void sl_run_tools_begin(struct sl_run *run);
/* Answers every call that was not started with `code`, and cancels the running ones. */
void sl_run_tools_cancel(struct sl_run *run, enum sl_tool_code code);
/* The run will go on elsewhere: cancels the running calls, and answers those whose end nobody will
 * know; with `is_cut` all of them, for the answer that has them is not whole. */
void sl_run_tools_park(struct sl_run *run, bool is_cut);
/* Makes the calls of a run that is taken up. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_run_tools_restore(struct sl_run *run, const Sluice__Store__V1__Resume *message);
/* Adds the results to the conversation, in call order. False: one is not there, or does not fit;
 * those before it are added, and only once. */
bool sl_run_tools_record(struct sl_run *run);
void sl_run_tools_clear(struct sl_run *run);
/* Starts what there is room for, or goes on when every call is answered. Nothing when the run is
 * ending. */
void sl_run_tools_go_on(struct sl_run *run);
/* The call is over, for the client and for the model. Nothing when it was over already. */
void sl_run_slot_answer(struct sl_tool_slot *slot, const struct sl_tool_result *result);
SL_PRINTF(3, 4)
void sl_run_slot_fail(struct sl_tool_slot *slot, enum sl_tool_code code, const char *fmt, ...);
/* NULL: the run has none of this name. */
struct sl_tool *sl_run_find_tool(const struct sl_run *run, const char *name, bool *ret_is_client);
/* The tools of the next request. */
const struct sl_chat_tool *sl_run_chat_tools(const struct sl_run *run, size_t *ret_n);

/* ---- approve.c ---------------------------------------------------------------------------------
 */
/* The call needs a decision: ApprovalRequested, or a failure when nobody could decide. */
void sl_run_approval_ask(struct sl_tool_slot *slot);
/* Of a PENDING one: the run ends. */
void sl_run_approval_cancel(struct sl_tool_slot *slot);
/* Makes the approvals of a run that is taken up. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_run_approvals_restore(struct sl_run *run, const Sluice__Store__V1__Resume *message);
/* Of a PENDING one: waits as long as it may still. */
void sl_run_approval_wait(struct sl_tool_slot *slot);

/* ---- client_call.c -----------------------------------------------------------------------------
 */
/* Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_run_client_init(struct sl_run *run);
void sl_run_client_done(struct sl_run *run);
/* The call is the client's from here on. */
void sl_run_client_begin(struct sl_tool_slot *slot, struct sl_tool *tool);
/* Frees what came early. */
void sl_run_client_forget(struct sl_tool_slot *slot);
/* The client is gone, and the run goes on: what it had to answer, nobody answers. */
void sl_run_client_gone(struct sl_run *run);
/* Adds what the user said meanwhile to the conversation. False: the run is ending. */
bool sl_run_inputs_take(struct sl_run *run);

/* ---- finish.c ----------------------------------------------------------------------------------
 */
/* The only way to end a run: the first cause wins, later ones are dropped (AL-4.11). */
void sl_run_finish(struct sl_run *run, const struct sl_ending *ending);
void sl_run_fail(struct sl_run *run, Sluice__V1__ErrorCode code);
/* Something does not go into the history: it has reached its bound, or there is no memory. */
void sl_run_fail_full(struct sl_run *run);
/* A tool call is over while the run is ending. */
void sl_run_finish_go_on(struct sl_run *run);
/* Ends the model's response, and the iteration with it. */
void sl_run_stop_model(struct sl_run *run);
/* The conversation is stored. */
void sl_run_settled(struct sl_run *run);
/* The terminal event, in the log or, as RunError, outside of it. */
bool sl_run_emit_terminal(struct sl_run *run);
SL_CHECK struct sl_segment *sl_run_make_tail(const struct sl_run *run);
/* Everything of the run is over, and readers have what they get. */
void sl_run_close(struct sl_run *run);

/* ---- run.c ------------------------------------------------------------------------------------
 */
/* Its timers run, and it counts as one that goes on. */
void sl_run_begin_life(struct sl_run *run);
/* The model is not held back any more. */
void sl_run_end_pause(struct sl_run *run);
/* RunStarted is in the log, or in the store: the first iteration. */
void sl_run_go(struct sl_run *run);

/* ---- run_record.c: of a run that is recorded ----------------------------------------------------
 */
/* RunStarted is in the log. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_run_record_begin(struct sl_run *run);
/* It is to end before it has begun. */
void sl_run_record_refuse(struct sl_run *run, const struct sl_ending *ending);
/* Tools and requests to the model may begin. False: `when_leased` is called when they may, unless
 * the run ends before (run_lease.c). */
bool sl_run_lease_wait(struct sl_run *run, void (*when_leased)(struct sl_run *run));
/* What is in the log is stored, or need not be. False: `when_stored` is called when it is, unless
 * the run ends before. */
bool sl_run_record_wait(struct sl_run *run, void (*when_stored)(struct sl_run *run));
/* Everything is dead: ends the log and its record. */
void sl_run_record_conclude(struct sl_run *run);
/* Somebody waits for the end. */
void sl_run_record_hurry(struct sl_run *run);
/* Its end was asked for, and waits for nobody for long (AL-7.3). Of one whose ending is claimed. */
bool sl_run_is_stopped(const struct sl_run *run);
/* Of a run that is taken up: `log` is taken. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_run_record_take_up(struct sl_run *run, struct sl_store_log *log);

/* ---- resume.c, park.c --------------------------------------------------------------------------
 */
/* What it takes to go on from `point`. Fails: SL_RESOURCE_EXHAUSTED over the maximum of `buf`, or
 * without memory. */
SL_CHECK enum sl_status
sl_resume_write(const struct sl_run *run, Sluice__Store__V1__ResumePoint point, struct sl_buf *buf);
/* Every open call waits for a decision: the store is told, so that the run survives its server. */
void sl_run_rest(struct sl_run *run);
/* True: the run does not rest, and something may be done. False: sl_run_tools_go_on() comes when
 * the store knows. */
bool sl_run_wake(struct sl_run *run);
/* It ends: what was said of a rest is void. */
void sl_run_forget_rest(struct sl_run *run);
/* Of one that is parking: everything of it is dead; it is stored; the store cannot. */
void sl_run_park_settled(struct sl_run *run);
void sl_run_park_stored(struct sl_run *run);
void sl_run_park_failed(struct sl_run *run);
/* Cancelled while it is parked: it ends so, unless what the next process needs is on its way to the
 * store already (false). */
bool sl_run_park_cancel(struct sl_run *run, const struct sl_ending *ending);

#endif
