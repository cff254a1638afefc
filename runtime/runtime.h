/* The door of the runtime: agents, and runs of them. Nothing outside of runtime/ sees more than
 * this.
 *
 *   sl_runtime_new ─▶ _configure, _load_agents ─▶ sl_run_start … ─▶ _stop ─▶ _free
 *        a reload: draft_new ─▶ draft_… ─▶ draft_commit, for the runs that start from then on
 *
 * A run is the executor of a stream. It lives on one of the loops (that of its reader, unless that
 * loop has over twice the runs of the least loaded one); its reader may be on another. Run ids,
 * request ids and admission counts stand in one locked directory, the only thing that loops share.
 */
#ifndef SL_RUNTIME_RUNTIME_H
#define SL_RUNTIME_RUNTIME_H

#include "runtime/base/account.h"
#include "runtime/base/limits.h"
#include "runtime/base/loop.h"
#include "runtime/base/random.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"

struct sl_runtime;
struct sl_run_stream; /* a reader of a run */
struct sl_generation; /* what one reading of the configuration made */
struct sl_conf;
struct sl_conf_node;

struct sl_runtime_options {
    struct sl_loop *const *loops; /* libuv loops that somebody else runs; borrowed */
    size_t n_loops;
    const struct sl_limits *limits; /* copied */
    /* Asked again with each reload; both must outlive the runtime. */
    const char *(*env)(const char *name);
    const char *const *environment; /* of the daemon, for tools */
    const char *launcher; /* copied; program that starts tools; NULL: process tools are refused */
};

SL_CHECK enum sl_status sl_runtime_new(
    const struct sl_runtime_options *options,
    struct sl_runtime **ret_runtime,
    struct sl_error *err);
/* Where runs are recorded: a SQLite database on a local disk. 0: the store's default. */
struct sl_runtime_store {
    const char *path;
    bool is_normal;               /* a power cut may take the last commits */
    bool quarantine;              /* a damaged database is moved aside, and an empty one begun */
    uint64_t keep_ms, keep_bytes; /* of runs that have ended; 0: for ever */
    unsigned min_free_percent;    /* of the file system: no new runs below; over 100: no look */
};

/* Opens it in place of the memory: blocks. Once, after sl_runtime_configure() and before the loops
 * run. Fails, with one line: SL_FAILED_PRECONDITION another process has it, it is on a network's
 * file system, or a newer version made it; SL_DATA_LOSS it is damaged; SL_UNAVAILABLE it cannot be
 * read or written; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_runtime_open_store(
    struct sl_runtime *runtime, const struct sl_runtime_store *options, struct sl_error *err);

/* Takes up the runs of the store that rest, and ends the others whose owner is gone: WORKER_LOST
 * (AL-5.27). on_done comes once, on `loop`, with SL_OK also when there were none, or with what the
 * store says; until then all loops have to turn. Once, after sl_runtime_open_store() and before
 * anybody is served. Thread: `loop`. Fails:
 * SL_RESOURCE_EXHAUSTED; nothing comes then. */
SL_CHECK enum sl_status sl_runtime_recover(
    struct sl_runtime *runtime,
    struct sl_loop *loop,
    void (*on_done)(enum sl_status status, void *user_data),
    void *user_data);

/* Reads its keys of the configuration's top map (may be NULL): providers, default_provider, tools,
 * builtin_agents, and adds the built-in agents: all of them, unless that list says which. Mistakes
 * are recorded in `conf`. Once, before the agents are loaded and the loops run. */
void sl_runtime_configure(
    struct sl_runtime *runtime, struct sl_conf *conf, const struct sl_conf_node *top);
/* Loads every *.yaml and *.yml of the folder (or one file). A broken file is left out: `on_problem`
 * gets one line "file:line:column: path: message" for each mistake, and the others load. Fails:
 * SL_NOT_FOUND the folder. Before the loops run. */
SL_CHECK enum sl_status sl_runtime_load_agents(
    struct sl_runtime *runtime,
    const char *path,
    void (*on_problem)(const char *line, void *user_data),
    void *user_data,
    struct sl_error *err);

/* ---- Agents ------------------------------------------------------------------------------------
 */

struct sl_agent_tool {
    const char *name, *description, *parameters_json;
};

struct sl_agent_info {
    const char *name, *version, *model, *provider;
    size_t n_labels, n_annotations;
    const char *const *label_keys, *const *label_values;
    const char *const *annotation_keys, *const *annotation_values;
    size_t n_tools;
    const struct sl_agent_tool *tools;
    size_t n_problems;
    const char *const *problems;
};

/* By name, in order. None once the runtime stops. Constant until the task of the loop that asks has
 * returned: a reload may replace them then. Thread: loop, one of the runtime's (NULL: the first,
 * which does not run). */
size_t sl_runtime_n_agents(const struct sl_runtime *runtime, const struct sl_loop *loop);
const struct sl_agent_info *
sl_runtime_agent_at(const struct sl_runtime *runtime, const struct sl_loop *loop, size_t index);
/* Of the runs that start now; NULL once the runtime stops. As long, and the same thread. */
const struct sl_limits *
sl_runtime_limits(const struct sl_runtime *runtime, const struct sl_loop *loop);

/* ---- Reload ------------------------------------------------------------------------------------
 */

/* A configuration that nobody uses yet. It is read and checked away from the loops, and changes
 * nothing until it is committed. Owns: the caller, until _commit or _drop. Thread: one at a time,
 * and none that is a loop's. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_runtime_draft_new(
    struct sl_runtime *runtime,
    const struct sl_limits *limits,
    struct sl_generation **ret_draft,
    struct sl_error *err);
/* As sl_runtime_configure(), sl_runtime_load_agents(). */
void sl_runtime_draft_configure(
    struct sl_generation *draft, struct sl_conf *conf, const struct sl_conf_node *top);
SL_CHECK enum sl_status sl_runtime_draft_load_agents(
    struct sl_generation *draft,
    const char *path,
    void (*on_problem)(const char *line, void *user_data),
    void *user_data,
    struct sl_error *err);
/* One line for each agent that can run now and could not any more: its provider's key is gone. */
void sl_runtime_draft_check(
    const struct sl_generation *draft,
    void (*on_problem)(const char *line, void *user_data),
    void *user_data);
/* Accepts NULL; gives NULL. */
struct sl_generation *sl_runtime_draft_drop(struct sl_generation *draft);

struct sl_runtime_change {
    size_t n_agents; /* that there are now */
    size_t n_added, n_removed, n_changed;
};

/* Runs that start from now on get it; those that are there, or wait for a slot, keep what they
 * have, which is freed with the last of them. Not after sl_runtime_stop(). Never fails. */
void sl_runtime_draft_commit(struct sl_generation *draft, struct sl_runtime_change *ret_change);

/* ---- Starting a run ----------------------------------------------------------------------------
 */

enum sl_run_on_disconnect {
    SL_RUN_DISCONNECT_DEFAULT,
    SL_RUN_CANCEL,
    SL_RUN_DETACH,
    SL_RUN_DETACH_FOR
};

enum sl_run_session_policy { /* when the session has a run */
                             SL_RUN_SESSION_REJECT,
                             SL_RUN_SESSION_ENQUEUE,  /* wait for its end */
                             SL_RUN_SESSION_INTERRUPT /* cancel it, and wait for its end */
};

/* What of a run outlives the server (reliability 4.1): the numbers of sluice.v1.Durability.
 * DEFAULT: the agent's; if that says nothing ASYNC where there is a store, else NONE. */
enum sl_run_durability {
    SL_RUN_DURABILITY_DEFAULT,
    SL_RUN_DURABILITY_NONE,
    SL_RUN_DURABILITY_ASYNC,
    SL_RUN_DURABILITY_SYNC
};

/* What happens when the stream that starts a run is read too slowly (AL-8): the numbers of
 * sluice.v1.SlowConsumer. DEFAULT: the agent's; if that says nothing PAUSE. The others need a
 * store.
 */
enum sl_run_slow_consumer {
    SL_RUN_SLOW_DEFAULT,
    SL_RUN_SLOW_PAUSE,     /* it holds the run back */
    SL_RUN_SLOW_SPILL,     /* the run goes on, and the stream is read on from the store */
    SL_RUN_SLOW_DISCONNECT /* the same, until on_slow */
};

enum sl_run_role { SL_RUN_SYSTEM, SL_RUN_USER, SL_RUN_ASSISTANT, SL_RUN_TOOL };

struct sl_run_call {
    const char *id, *name, *arguments_json;
};

struct sl_run_pair {
    const char *key, *value;
};

struct sl_run_message {
    enum sl_run_role role;
    struct sl_slice content;
    const struct sl_run_call *calls;
    size_t n_calls;
    const char *call_id, *tool_name;
    bool is_error;
};

/* What a client asked for. All zero but `agent` is valid. Borrowed for the call, copied. Options
 * may only tighten the agent's and the server's limits; which of them were given is said by has_*.
 */
struct sl_run_spec {
    const char *agent;
    struct sl_slice input;
    const struct sl_run_message *messages; /* context, before the input */
    size_t n_messages;
    /* NULL or "": none. At most 128 bytes. The conversation of the tenant and the agent with this
     * id comes before the context, and is stored with what the run adds to it. */
    const char *session_id;
    enum sl_run_session_policy session_policy;
    bool replaces_session; /* the context stands for what is stored */
    /* NULL or "": none. At most 128 bytes. A second start with the same one and the same content
     * follows the first run from its beginning, as sl_run_attach() does
     * (sl_run_stream_is_observer), while that is known: until limits.window_keep after its end. */
    const char *request_id;
    /* The reader wants only the last event: of a run that is known already, the events before may
     * be gone. */
    bool wants_only_end;
    /* Within limits.metadata and limits.metadata_size; keys are not empty. Goes into the run's
     * record in the store. */
    const struct sl_run_pair *metadata;
    size_t n_metadata;
    /* Within limits.credentials and limits.credentials_size. Values reach only the tools that
     * forward them; they are overwritten at the end of the run. The caller's copy is the caller's
     * to overwrite. */
    const struct sl_run_pair *credentials;
    size_t n_credentials;
    uint64_t deadline_ns; /* of the call, on the loops' clock; SL_NEVER_NS or 0: none */
    bool has_max_iterations, has_run_timeout, has_heartbeat, has_buffer_bytes, has_buffer_events;
    bool has_max_tokens, has_max_tool_calls, has_max_cost, has_cancel_on_reset;
    uint32_t max_iterations, heartbeat_ms, buffer_bytes, buffer_events, max_tool_calls;
    uint64_t run_timeout_ms, max_tokens, max_cost_micros, detach_ttl_ms;
    enum sl_run_on_disconnect on_disconnect;
    enum sl_run_durability durability;
    enum sl_run_slow_consumer slow_consumer;
    bool has_no_stream; /* the reader goes as soon as the run exists: with a store it is SPILL */
    bool cancel_on_reset;
    bool tool_call_deltas, omit_content;
    uint32_t min_flush_ms, max_delta_bytes;
    /* Tools that the client runs itself (AL-6.8), within limits.client_tools and
     * limits.client_tools_size; only of a stream on which it can answer. */
    const struct sl_agent_tool *client_tools;
    size_t n_client_tools;
    size_t n_connection_streams; /* active streams of the connection: the mark (AL-8) */
    const char *peer;            /* for the log */
    const char *tenant; /* whose run it is: request ids and counts are the tenant's; NULL: the one
                         * there is without identities */
    const char *principal; /* who starts it: he may not approve its calls; NULL: not known */
};

/* Why a run was not started (AL-5.3). */
struct sl_run_refusal {
    enum sl_status status;
    const char *reason; /* "AGENT_NOT_FOUND" */
    char text[256];
    int64_t retry_after_ms; /* 0: none */
    /* OUT_OF_RANGE: what is there; 0: not said. */
    uint64_t floor, last_sequence;
};

/* How a run ended: for the status of its stream. Valid as long as the stream. */
struct sl_run_ending {
    enum sl_status status; /* OK: RunDone */
    const char *reason;    /* ErrorCode without its prefix; "" when OK */
    const char *message;
    int64_t retry_after_ms; /* 0: none */
    bool is_unlogged;       /* the last event that was read has no sequence */
};

/* Called on the reader's loop, never from inside a function of the stream. */
struct sl_run_callbacks {
    /* The run exists (RunStarted is in its log, and stored unless its durability is NONE), or it
     * was refused: then the stream gives nothing and must be closed. `run_id` is valid as long as
     * the stream. */
    void (*on_started)(
        struct sl_run_stream *stream,
        const char *run_id,
        const struct sl_run_refusal *refusal,
        void *user_data);
    /* Bytes are ready after _ready said 0, or the log ended. */
    void (*on_readable)(struct sl_run_stream *stream, void *user_data);
    /* A heartbeat is due and nothing is unread: `message` is a StreamEvent without prefix, to be
     * sent now or never. */
    void (*on_heartbeat)(struct sl_run_stream *stream, struct sl_slice message, void *user_data);
    /* Of an observer, or one with slow_consumer SPILL or DISCONNECT: it fell below what is kept of
     * the log, or the store cannot be read, and it will get nothing more. NULL: of none that can.
     */
    void (*on_lost)(
        struct sl_run_stream *stream, const struct sl_run_refusal *refusal, void *user_data);
    /* Of one with slow_consumer DISCONNECT: it was past its mark for limits.slow_consumer. The run
     * goes on without it, whatever it does now; its stream is to be ended. NULL: it is SPILL. */
    void (*on_slow)(struct sl_run_stream *stream, void *user_data);
    /* After sl_run_stream_leave(): the run is over and nothing of it is alive, or it never began.
     */
    void (*on_gone)(void *user_data);
    void *user_data;
};

/* Asks for a run; on_started tells how it went (a slot may be waited for, at most limits.run_wait).
 * Owns: the caller; sl_run_stream_close(). Thread: `loop`, one of the runtime's. Fails:
 * SL_RESOURCE_EXHAUSTED no memory; every other refusal comes through on_started. */
SL_CHECK enum sl_status sl_run_start(
    struct sl_runtime *runtime,
    struct sl_loop *loop,
    const struct sl_run_spec *spec,
    const struct sl_run_callbacks *callbacks,
    struct sl_run_stream **ret_stream);

/* The next bytes of the log: framed StreamEvents (5-byte gRPC prefix each). As sl_event_cursor_*.
 */
size_t sl_run_stream_ready(struct sl_run_stream *stream, size_t max, bool *ret_is_last);
void sl_run_stream_take(struct sl_run_stream *stream, uint8_t *dst, size_t n);
bool sl_run_stream_at_border(const struct sl_run_stream *stream);
/* The reader's connection has so many active streams now: the run may be ahead of him as far as his
 * share of it allows (AL-8). Thread: the reader's loop. */
void sl_run_stream_share(struct sl_run_stream *stream, size_t n_connection_streams);
/* Last event that was taken whole. */
uint64_t sl_run_stream_sequence(const struct sl_run_stream *stream);
/* Valid once _ready said is_last. */
const struct sl_run_ending *sl_run_stream_ending(const struct sl_run_stream *stream);

/* True for one that follows a run which somebody else started: it paces nothing, and its end means
 * nothing to the run. Valid from on_started on. */
bool sl_run_stream_is_observer(const struct sl_run_stream *stream);

/* Why the reader went before the end. */
enum sl_run_close {
    SL_RUN_CLOSE_READ,  /* everything was read; no influence */
    SL_RUN_CLOSE_RESET, /* RST_STREAM: cancels, if cancel_on_reset (CLIENT_RESET) */
    SL_RUN_CLOSE_LOST, /* connection lost or stalled: on_disconnect decides (CLIENT_DISCONNECTED) */
    SL_RUN_CLOSE_DEADLINE, /* the call's deadline */
    SL_RUN_CLOSE_DRAIN     /* the server goes down */
};

/* Will the run go on if its reader goes like that? As the request and the agent say. Thread: the
 * reader's loop. */
bool sl_run_stream_outlives(const struct sl_run_stream *stream, enum sl_run_close how);

/* The reader goes; a run that is cancelled by it ends on its own (AL-7.3). `code`: the
 * RST_STREAM's. After this no callback comes. Accepts NULL. */
void sl_run_stream_close(struct sl_run_stream *stream, enum sl_run_close how, uint32_t code);

/* The same, for a reader that holds something until everything of the run is dead (NG-2): on_gone
 * follows, exactly once. */
void sl_run_stream_leave(struct sl_run_stream *stream, enum sl_run_close how, uint32_t code);

/* ---- Runs that somebody started ----------------------------------------------------------------
 * A run is known from its first event until limits.window_keep after its last, or until there is
 * no room for it any more (limits.window_total). */

struct sl_run_attach_spec {
    const char *run_id;
    uint64_t after_sequence;
    const char *tenant; /* as of sl_run_spec */
};

/* Follows a run: its events behind `after_sequence`, then those to come, the same bytes for each
 * reader. It never holds the run back, and its end means nothing to the run but that DETACH_FOR
 * counts who is there. on_started tells how it went: NOT_FOUND (RUN_NOT_FOUND: unknown, or another
 * tenant's), OUT_OF_RANGE (BELOW_RETENTION with the floor; BEYOND_LOG with the last sequence).
 * on_gone never comes. Owns, thread, fails: as sl_run_start(). */
SL_CHECK enum sl_status sl_run_attach(
    struct sl_runtime *runtime,
    struct sl_loop *loop,
    const struct sl_run_attach_spec *spec,
    const struct sl_run_callbacks *callbacks,
    struct sl_run_stream **ret_stream);

enum sl_run_stage { /* where a run stands */
                    SL_RUN_STAGE_ANY,
                    SL_RUN_STAGE_QUEUED, /* it waits for its session; only lists have it */
                    SL_RUN_STAGE_RUNNING,
                    SL_RUN_STAGE_WAITING_APPROVAL, /* every open call waits for a decision */
                    SL_RUN_STAGE_DONE,
                    SL_RUN_STAGE_FAILED,
                    SL_RUN_STAGE_CANCELLED
};

struct sl_run_usage {
    uint64_t input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens;
    uint32_t model_calls;
    bool is_estimated, has_cost;
    uint64_t cost_micros;
    char currency[4]; /* "" without a cost */
};

struct sl_run_info {
    const char *run_id, *agent;
    const char *session_id; /* "": none */
    enum sl_run_stage stage;
    uint64_t created_at_ms, ended_at_ms; /* Unix; 0: it has not ended */
    uint64_t last_sequence;
    struct sl_slice terminal; /* its last event, a StreamEvent without prefix; empty: not ended */
    struct sl_run_usage usage;
    const struct sl_run_pair *metadata;
    size_t n_metadata;
    /* SL_RUN_ASK_CONTEXT: the conversation as it is. The contents are terminated. */
    const struct sl_run_message *messages;
    size_t n_messages;
    const char *context_absent; /* why there is none, a static text; NULL: it is there */
};

enum sl_run_ask_kind {
    SL_RUN_ASK_GET,     /* one run */
    SL_RUN_ASK_CONTEXT, /* with its conversation */
    SL_RUN_ASK_CANCEL,  /* cancels it (AL-7.2), and tells where it stands: run_id and stage */
    SL_RUN_ASK_LIST,    /* newest first */
    /* Said to a run; the answer has no run, but what came of it. */
    SL_RUN_ASK_DECIDE,      /* about a call that waits (AL-6.7) */
    SL_RUN_ASK_TOOL_RESULT, /* of a client's tool (AL-6.8) */
    /* Further input; when limits.user_inputs wait already, the answer comes when there is room. */
    SL_RUN_ASK_USER_INPUT
};

struct sl_run_ask {
    enum sl_run_ask_kind kind;
    const char *tenant;      /* as of sl_run_spec */
    const char *run_id;      /* not of LIST */
    bool wants_end;          /* CANCEL: answer when the run has ended */
    const char *principal;   /* DECIDE: who; NULL: not known */
    const char *approval_id; /* DECIDE, as the next three */
    struct sl_slice digest;
    bool is_approved;
    const char *comment;
    const char *tool_id;         /* TOOL_RESULT */
    struct sl_slice text, error; /* TOOL_RESULT; USER_INPUT has a text only */
    /* LIST; NULL or "" and ANY: all. */
    const char *agent, *session_id;
    enum sl_run_stage stage;
    size_t page_size;       /* 1 to 1,000 */
    const char *page_token; /* of the answer before; NULL or "": the first page */
};

enum sl_run_decision { /* numbers of sluice.v1.ApprovalDecision */
                       SL_RUN_DECISION_NONE,
                       SL_RUN_APPROVED,
                       SL_RUN_DENIED,
                       SL_RUN_EXPIRED,
                       SL_RUN_DECISION_CANCELLED
};

/* Valid until the query is closed. */
struct sl_run_answer {
    /* NOT_FOUND: unknown, or another tenant's; INVALID_ARGUMENT: no such page token; UNAVAILABLE:
     * the store cannot be read; RESOURCE_EXHAUSTED. Of what was said to a run also, with `reason`:
     * NOT_FOUND, FAILED_PRECONDITION, PERMISSION_DENIED, INVALID_ARGUMENT. */
    enum sl_status status;
    const char *reason; /* "APPROVAL_DECIDED"; NULL: the run is not known */
    char text[240];     /* for people, with `reason` */
    /* DECIDE: how it was decided, now or before; NONE: it was not. */
    enum sl_run_decision decision;
    const char *decided_by, *comment;
    const struct sl_run_info *runs;
    size_t n_runs;
    const char *next_page_token; /* "": this is the last */
};

struct sl_run_query;
typedef void(sl_run_answer_fn)(const struct sl_run_answer *answer, void *user_data);

/* Asks all loops, or the run's. on_answer comes once on `loop`, never from inside a function of the
 * query, unless that is closed before. Owns: the caller; sl_run_query_close(). Thread: `loop`.
 * Fails: SL_RESOURCE_EXHAUSTED; SL_UNAVAILABLE the runtime is stopping. */
SL_CHECK enum sl_status sl_run_ask(
    struct sl_runtime *runtime,
    struct sl_loop *loop,
    const struct sl_run_ask *ask,
    sl_run_answer_fn *on_answer,
    void *user_data,
    struct sl_run_query **ret_query);
/* Before the answer: nobody wants it any more. What was asked for is done all the same. Accepts
 * NULL; gives NULL. Thread: the loop that asked. */
struct sl_run_query *sl_run_query_close(struct sl_run_query *query);

/* ---- The whole ---------------------------------------------------------------------------------
 */

struct sl_runtime_stats {
    uint64_t runs_started, runs_ended, runs_running, runs_waiting, runs_refused;
    uint64_t runs_queued;                               /* that wait for their sessions */
    uint64_t sessions, session_bytes, sessions_removed; /* that are kept in memory */
    uint64_t events, event_bytes, model_turns, tool_calls, tool_children;
    uint64_t runs_kept, kept_bytes; /* that have ended, and can still be asked for */
    uint64_t generations; /* readings of the configuration that some run still uses, or will */
};

/* How it is with the store; all zero without one that lasts. Thread: any. */
struct sl_runtime_store_stats {
    bool is_there;
    bool is_failing; /* its last commit failed */
    uint64_t queued_bytes, queued_requests, commits, failed_commits, commit_ns, longest_commit_ns;
    uint64_t appends, event_bytes, wal_bytes, kept_bytes, runs_open, runs_removed;
    uint64_t runs_recovered; /* at the start */
};
void sl_runtime_store_stats(
    const struct sl_runtime *runtime, struct sl_runtime_store_stats *ret_stats);

/* A sum over the loops. Thread: any. */
void sl_runtime_stats(struct sl_runtime *runtime, struct sl_runtime_stats *ret_stats);

/* One run, looked at from outside; texts are valid in the call. No content, no secrets. */
struct sl_run_view {
    const char *run_id, *agent, *peer;
    const char *state;         /* "ready", "model", "tools", "approval", "closing" */
    const char *on_disconnect; /* "cancel", "detach", "detach_for" */
    uint64_t age_ms;
    uint32_t iteration;
    uint64_t unread_events, unread_bytes; /* by its reader; 0 once that is gone */
    struct sl_account memory;
    bool is_paused, is_detached;
};
/* A tool's process that is not reaped. */
struct sl_child_view {
    int pid;
    const char *tool, *call; /* "RUN:TOOL_ID" */
    uint64_t age_ms;
    bool is_unreaped; /* killed, given up, and still there */
};
/* Bytes of runs on one loop. */
struct sl_runtime_memory {
    uint64_t runs;    /* that go on, with their readers */
    uint64_t waiting; /* for their sessions or a slot, which they do on their reader's loop */
    uint64_t kept;    /* that have ended, as kept_bytes, with their readers */
    uint64_t records; /* that have something to say to the store, and no run any more */
};
/* Takes a walk over all of them. Thread: the loop. */
void sl_runtime_memory(
    const struct sl_runtime *runtime,
    const struct sl_loop *loop,
    struct sl_runtime_memory *ret_memory);
/* What lives on this loop. Thread: the loop. */
void sl_runtime_each_run(
    const struct sl_runtime *runtime,
    const struct sl_loop *loop,
    void (*visit)(const struct sl_run_view *run, void *user_data),
    void *user_data);
void sl_runtime_each_child(
    struct sl_runtime *runtime,
    const struct sl_loop *loop,
    void (*visit)(const struct sl_child_view *child, void *user_data),
    void *user_data);

/* New runs, and those that wait for a slot, are refused with DRAINING from now on. Thread: any. */
void sl_runtime_refuse_new(struct sl_runtime *runtime);
/* Parks all runs that the next process can take up, and ends the others with DRAINING; on_idle (on
 * loops[0]) when none is left and all loops are clean of the runtime's handles. Once. Thread: any.
 */
void sl_runtime_stop(struct sl_runtime *runtime, void (*on_idle)(void *user_data), void *user_data);
/* After on_idle, or when the loops never ran. */
struct sl_runtime *sl_runtime_free(struct sl_runtime *runtime);

#endif
