/* Tools: what an agent may call, and one call of one.
 *
 *   sl_tools           every tool of the process (builtin, process, http)
 *     └ sl_tool_call   one call with its attempts, on one loop ─▶ on_done, exactly once
 *
 * A call is over only when nothing of it is alive: the process group is dead and reaped, the
 * transfer gone. */
#ifndef SL_RUNTIME_TOOL_TOOL_H
#define SL_RUNTIME_TOOL_TOOL_H

#include "runtime/base/limits.h"
#include "runtime/base/loop.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"

struct sl_tools;
struct sl_tool; /* counted; constant */
struct sl_tool_call;
struct sl_conf;
struct sl_conf_node;
struct sl_credentials;

/* The names of sluice.v1.ToolErrorCode. */
enum sl_tool_code {
    SL_TOOL_OK,
    SL_TOOL_INVALID_ARGS,
    SL_TOOL_UNKNOWN_TOOL,
    SL_TOOL_DENIED,
    SL_TOOL_APPROVAL_EXPIRED,
    SL_TOOL_TIMEOUT,
    SL_TOOL_CANCELLED,
    SL_TOOL_EXIT_NONZERO,
    SL_TOOL_KILLED,
    SL_TOOL_SPAWN_FAILED,
    SL_TOOL_OUTPUT_LIMIT,
    SL_TOOL_OUT_OF_MEMORY,
    SL_TOOL_HTTP_ERROR,
    SL_TOOL_MCP_DISCONNECTED,
    SL_TOOL_MCP_PROTOCOL,
    SL_TOOL_MCP_TOOL_ERROR,
    SL_TOOL_NOT_RUN,
    SL_TOOL_OUTCOME_UNKNOWN,
    SL_TOOL_INTERNAL
};

/* "TIMEOUT" */
const char *sl_tool_code_name(enum sl_tool_code code);

enum sl_tool_policy { SL_TOOL_ALLOW, SL_TOOL_DENY, SL_TOOL_ASK };

struct sl_tool_info {
    const char *name, *description, *parameters_json;
    uint64_t timeout_ms;
    uint64_t max_output_bytes; /* the model's copy */
    bool is_idempotent;
    enum sl_tool_policy policy;
    /* Credentials of the request that it gets, and cannot do without; NULL-terminated; NULL: none.
     */
    const char *const *forward;
};

/* How a call went. Texts are clean UTF-8, valid in on_done. */
struct sl_tool_result {
    enum sl_tool_code code; /* OK: success */
    const char *error;      /* "": none */
    /* JSON text: what the tool gave; for the model and for the event (which cuts it). Also on
     * failure, with what there is; "": nothing. */
    struct sl_slice result_json;
    bool is_truncated;
    uint64_t result_bytes; /* before any cut */
    uint32_t attempts;
    bool has_exit_code;
    int exit_code;
    uint64_t execution_time_ms; /* first attempt to last, back-off included */
};

struct sl_tool_call_options {
    struct sl_tool *tool;
    struct sl_slice arguments_json; /* as the model sent it: checked here (INVALID_ARGS) */
    const char *run_id, *tool_id;   /* idempotency key "run_id:tool_id" */
    uint64_t remaining_ms;          /* of the run: no attempt lives longer */
    /* What the run's request brought; NULL: nothing. Borrowed until on_done. */
    const struct sl_credentials *credentials;
    bool is_approved; /* with policy ask: somebody who may has said yes to these arguments */
    /* Exactly once, never from inside a function of the call. The call is freed by its owner after
     * it. */
    void (*on_done)(
        struct sl_tool_call *call, const struct sl_tool_result *result, void *user_data);
    /* Live output of a process, clean UTF-8; may be NULL. */
    void (*on_output)(
        struct sl_tool_call *call, bool is_stderr, struct sl_slice text, void *user_data);
    void *user_data;
};

/* Starts (or queues, when the process has limits.tools calls running) a call. Copies the options'
 * texts. Owns: the caller; sl_tool_call_free(). Thread: loop. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_tool_call_start(
    struct sl_tools *tools,
    struct sl_loop *loop,
    const struct sl_tool_call_options *options,
    struct sl_tool_call **ret_call);
/* SIGTERM at once, SIGKILL after limits.tool_kill, then on_done(CANCELLED). Any number of times. */
void sl_tool_call_cancel(struct sl_tool_call *call);
/* Memory of the call, its arguments' text and what is kept of its output. Not there: JSON trees.
 * Thread: loop. */
uint64_t sl_tool_call_bytes(const struct sl_tool_call *call);
/* Only after on_done (or from inside it). Accepts NULL; gives NULL. */
struct sl_tool_call *sl_tool_call_free(struct sl_tool_call *call);

/* ---- Registry ----------------------------------------------------------------------------------
 */

struct sl_tool_slots; /* calls that may run at once, in all sets of tools that share it */

/* Owns: the caller; it must outlive the tools. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_tool_slots_new(uint64_t max, struct sl_tool_slots **ret_slots);
/* Fewer: calls that run go on. More: those that wait begin. Thread: any. */
void sl_tool_slots_set_max(struct sl_tool_slots *slots, uint64_t max);
/* Accepts NULL; gives NULL. */
struct sl_tool_slots *sl_tool_slots_free(struct sl_tool_slots *slots);

struct sl_tools_options {
    struct sl_loop *const *loops;
    size_t n_loops;
    struct sl_tool_slots *slots;    /* borrowed; NULL: limits.tools of its own */
    const struct sl_limits *limits; /* borrowed */
    const char *launcher;           /* path of the program that starts tools */
    const char *const
        *environment; /* "NAME=value", NULL-terminated: the daemon's, for the allow-list */
};

/* Builtins are there from the start: current_time, system_info, http_request (alias http). Owns:
 * the caller. */
SL_CHECK enum sl_status sl_tools_new(
    const struct sl_tools_options *options, struct sl_tools **ret_tools, struct sl_error *err);
/* Reads `tools:` of the configuration's top map: default_policy, http_request {allow_hosts, …}.
 * Mistakes are recorded in `conf`. */
void sl_tools_configure(
    struct sl_tools *tools, struct sl_conf *conf, const struct sl_conf_node *top);
/* One entry of an agent's `tools:` list (AL-9: "name", {name, source, …}, {type:
 * Shell|HTTP|Process, …}). Gives a counted tool, or NULL after recording what is wrong at the
 * entry's line and column. NULL without a new error: the entry says `enabled: false`. */
struct sl_tool *
sl_tools_from_conf(struct sl_tools *tools, struct sl_conf *conf, const struct sl_conf_node *entry);
/* A tool that the client of a run has (AL-6.8): it is never started here, but its arguments are
 * checked, and it follows default_policy. Owns: the caller, a reference. Fails:
 * SL_INVALID_ARGUMENT: `err` says what is wrong with it; SL_RESOURCE_EXHAUSTED. Thread: any. */
SL_CHECK enum sl_status sl_tools_add_client(
    const struct sl_tools *tools,
    const char *name,
    const char *description,
    const char *parameters_json,
    struct sl_tool **ret_tool,
    struct sl_error *err);
struct sl_tool *sl_tool_ref(struct sl_tool *tool);
struct sl_tool *sl_tool_unref(struct sl_tool *tool);
const struct sl_tool_info *sl_tool_info(const struct sl_tool *tool);
/* Checks arguments as a call would: a JSON object that fits the tool's schema. `err` says what is
 * wrong, for the model. Fails: SL_INVALID_ARGUMENT. */
SL_CHECK enum sl_status sl_tool_check_arguments(
    const struct sl_tool *tool, struct sl_slice arguments_json, struct sl_error *err);
void sl_tools_close_loop(
    struct sl_tools *tools,
    struct sl_loop *loop,
    void (*on_closed)(void *user_data),
    void *user_data);
struct sl_tools *sl_tools_free(struct sl_tools *tools);
/* Visits the processes on this loop that are not reaped; texts are valid in the call. Thread: the
 * loop. */
struct sl_tool_child {
    int pid;
    const char *tool, *key; /* the call's idempotency key */
    uint64_t age_ms;
    bool is_unreaped;
};
void sl_tools_each_child(
    struct sl_tools *tools,
    const struct sl_loop *loop,
    void (*visit)(const struct sl_tool_child *child, void *user_data),
    void *user_data);
/* Calls that run or wait, and child processes that are not reaped, for gauges and leak checks. */
size_t sl_tools_n_calls(const struct sl_tools *tools);
size_t sl_tools_n_children(const struct sl_tools *tools);

#endif
