/* What a kind of tool (builtin, process, http) implements, and what registry.c and call.c share.
 *
 *   call ──start──▶ attempt ──on_end, exactly once, later──▶ call ──free──▶
 *            │                    ▲
 *            └──stop (cancel, timeout): ends soon, everything of it dead
 *
 * A builtin that needs no waiting has only `run`. */
#ifndef SL_RUNTIME_TOOL_KIND_H
#define SL_RUNTIME_TOOL_KIND_H

#include <jansson.h>

#include "runtime/base/arena.h"
#include "runtime/base/credentials.h"
#include "runtime/base/list.h"
#include "runtime/tool/egress.h"
#include "runtime/tool/process.h"
#include "runtime/tool/tool.h"

struct sl_http;

/* How an attempt ended. All zero: OK with nothing to say. */
struct sl_tool_outcome {
    enum sl_tool_code code;
    char error[240];
    json_t *result;        /* owned by who holds the outcome; NULL: none */
    uint64_t result_bytes; /* of output, before any cut */
    bool is_truncated;
    bool is_retryable; /* when the tool is idempotent */
    bool has_exit_code;
    int exit_code;
    bool is_unreaped; /* a process that does not die; it has taken over the call's slot */
};

struct sl_attempt {
    const struct sl_tool_kind *kind;
    struct sl_tool_call *call;
};

struct sl_attempt_options {
    struct sl_tool_call *call;
    struct sl_tools *tools;
    struct sl_loop *loop;
    const struct sl_tool *tool;
    json_t *arguments;                        /* checked; borrowed as long as the attempt */
    const char *key;                          /* idempotency key; borrowed */
    const struct sl_credentials *credentials; /* has all of info.forward; borrowed */
    uint64_t timeout_ms;                      /* when the call will stop the attempt */
    bool wants_output;
};

struct sl_tool_kind {
    const char *name;
    bool takes_credentials;
    /* At once, without an attempt. NULL: `start`. */
    void (*run)(const struct sl_attempt_options *options, struct sl_tool_outcome *outcome);
    /* Begins; sl_attempt_ended() follows, never from inside. Fails: fills `outcome` and gives NULL.
     */
    struct sl_attempt *(*start)(
        const struct sl_attempt_options *options, struct sl_tool_outcome *outcome);
    /* Makes it end soon. Any number of times. */
    void (*stop)(struct sl_attempt *attempt);
    /* Memory of it. */
    uint64_t (*bytes)(struct sl_attempt *attempt);
    /* After sl_attempt_ended() or from inside it. */
    void (*free)(struct sl_attempt *attempt);
};

/* For kinds: the end (takes outcome's result), and live output. */
void sl_attempt_ended(struct sl_attempt *attempt, struct sl_tool_outcome *outcome);
void sl_attempt_output(struct sl_attempt *attempt, bool is_stderr, struct sl_slice text);

SL_PRINTF(3, 4)
void sl_outcome_fail(struct sl_tool_outcome *outcome, enum sl_tool_code code, const char *fmt, ...);

/* ---- A tool -------------------------------------------------------------------------------------
 */

/* How a process tool is started: words, no shell. */
struct sl_process_template {
    const char *const *argv; /* a word that is {{name}} is an argument's place; NULL-terminated */
    const char *cwd;
    const char *const *environment; /* complete but for the idempotency key; NULL-terminated */
    bool has_arguments_on_stdin;
    bool allows_dashes; /* an argument's text may begin with '-' */
};

struct sl_tool {
    struct sl_tool_info info;
    const struct sl_tool_kind *kind;
    json_t *parameters; /* constant */
    struct sl_arena arena;
    struct sl_process_template process;   /* process only */
    const struct sl_egress_rules *egress; /* http only: the daemon's */
    struct sl_egress_rules
        *narrow_egress;      /* http only: this entry's, both must agree; NULL: none */
    uint64_t max_body_bytes; /* http only */
    size_t max_arguments_bytes;
    int n_refs; /* atomic */
};

/* A tool without a name yet, one reference. NULL: no memory. */
SL_CHECK struct sl_tool *sl_tool_new(const struct sl_tool_kind *kind);

/* ---- All tools ----------------------------------------------------------------------------------
 */

struct sl_tools_loop {
    struct sl_tools *tools;
    struct sl_loop *loop;
    struct sl_http *http; /* made with the first request */
    struct sl_process_room room;
    void (*on_closed)(void *user_data);
    void *user_data;
    struct sl_task task;
    bool is_http_closing;
};

struct sl_tools {
    const struct sl_limits *limits;
    const char *launcher;
    const char *path, *lang, *time_zone; /* what tools get of the daemon's environment */
    struct sl_arena arena;
    struct sl_tools_loop *loops;
    size_t n_loops;
    enum sl_tool_policy default_policy;
    struct sl_egress_rules egress;
    uint64_t http_max_body_bytes;
    size_t n_calls;    /* atomic */
    size_t n_children; /* atomic */
    struct sl_tool_slots *slots;
    bool owns_slots;
};

/* What limits.tools counts. All sets of tools of a process share one. */
struct sl_tool_slots {
    pthread_mutex_t lock;
    size_t max, n_running;
    struct sl_list waiting; /* calls, in order */
};

/* The loop's part; NULL: not one of the loops. */
struct sl_tools_loop *sl_tools_loop_of(struct sl_tools *tools, const struct sl_loop *loop);

/* A slot of limits.tools: gives it to the call that waits longest, if any. Thread: any. */
void sl_tools_give_back_slot(struct sl_tools *tools);

/* Looks whether a loop that is being closed has nothing left. Thread: loop. */
void sl_tools_loop_check(struct sl_tools_loop *at);

extern const struct sl_tool_kind sl_tool_kind_current_time;
extern const struct sl_tool_kind sl_tool_kind_system_info;
extern const struct sl_tool_kind sl_tool_kind_http;
extern const struct sl_tool_kind sl_tool_kind_process;
extern const struct sl_tool_kind sl_tool_kind_client; /* never started */

#endif
