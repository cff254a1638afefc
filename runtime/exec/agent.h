/* Agents: what a YAML file says about one (AL-9), checked and ready to run. Constant once loaded.
 *
 *   agents (all of the process, by name) ─▶ agent ─▶ tools, provider, settings */
#ifndef SL_RUNTIME_EXEC_AGENT_H
#define SL_RUNTIME_EXEC_AGENT_H

#include "proto/sluice/v1/events.pb-c.h"
#include "runtime/base/arena.h"
#include "runtime/base/conf.h"
#include "runtime/base/limits.h"
#include "runtime/base/status.h"
#include "runtime/exec/output.h"
#include "runtime/model/model.h"
#include "runtime/store/store.h"
#include "runtime/tool/tool.h"

/* What a reader does to its run that is behind its mark (AL-8). */
enum sl_slow_consumer { SL_SLOW_PAUSE, SL_SLOW_SPILL, SL_SLOW_DISCONNECT };

/* Where sessions are kept. */
enum sl_agent_memory {
    SL_MEMORY_STORE, /* in the daemon's store, if it has one that outlives the process */
    SL_MEMORY_PROCESS,
    SL_MEMORY_NONE /* nowhere: there are none */
};

enum { SL_AGENT_NAME_BYTES = 63, SL_AGENT_VERSION_CHARS = 16 };

struct sl_agent {
    struct sl_agent *next; /* of the agents, by name */
    struct sl_arena arena; /* of all that follows */
    const char *name;
    const char *version; /* 16 hex digits: a hash of the definition */
    const char *model, *provider;
    struct sl_model_price price; /* of the model */
    const char *instructions;    /* NULL: none */
    size_t n_labels, n_annotations;
    const char **label_keys, **label_values;
    const char **annotation_keys, **annotation_values;
    size_t n_tools;
    struct sl_tool **tools;          /* counted */
    struct sl_chat_tool *chat_tools; /* the same, for requests */
    const char *problem;             /* why it cannot run; NULL: it can */

    const double *temperature, *top_p; /* NULL: not sent */
    uint64_t max_tokens;               /* 0: not sent */
    size_t n_stop;
    const char **stop;
    const char *reasoning_effort; /* NULL: not sent */
    bool hides_reasoning;

    struct sl_output output; /* what its last answer must look like */

    enum sl_agent_memory memory;
    uint64_t max_context_messages, max_context_tokens; /* 0: no bound */
    uint64_t max_iterations;
    uint64_t run_timeout_ms;
    uint64_t parallel_tools;
    uint64_t heartbeat_ms; /* 0: none */
    Sluice__V1__OnDisconnect on_disconnect;
    uint64_t detach_ttl_ms;
    bool has_durability; /* otherwise what the server has */
    enum sl_store_durability durability;
    enum sl_slow_consumer slow_consumer;
    bool tool_call_deltas;
    bool restart_interrupted; /* an answer that was cut off is asked for again */
    uint64_t budget_tokens, budget_tool_calls, budget_cost_micros; /* 0: no bound */

    size_t n_approvers;     /* who may decide about calls of tools with policy ask (AL-6.7) */
    const char **approvers; /* principals; "*": every one that is known */
    uint64_t approval_timeout_ms;
    bool approval_self; /* whoever started the run may, too */

    bool is_never_recorded; /* the built-in agents echo and load */
    bool omits_content;     /* RunDone.content stays empty: the built-in agent load */
};

struct sl_agents;

struct sl_agents_options {
    struct sl_models *models; /* borrowed by these three */
    struct sl_tools *tools;
    const struct sl_limits *limits;
};

typedef void(sl_agent_problem_fn)(const char *line, void *user_data);

/* Owns: the caller; sl_agents_free(). Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_agents_new(const struct sl_agents_options *options, struct sl_agents **ret_agents);
/* Accepts NULL; gives NULL. No run may use them any more. */
struct sl_agents *sl_agents_free(struct sl_agents *agents);

/* Reads one document into an agent. Mistakes are recorded in `conf`; with any, `*ret_agent` is
 * NULL. Owns: the caller; sl_agent_free(). Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_agent_from_conf(
    const struct sl_agents_options *options,
    struct sl_conf *conf,
    const struct sl_conf_node *document,
    struct sl_agent **ret_agent);
struct sl_agent *sl_agent_free(struct sl_agent *agent);

/* Takes all agents of a YAML text, or none when it has a mistake: `on_problem` gets one line for
 * each. Fails: SL_RESOURCE_EXHAUSTED; SL_INVALID_ARGUMENT there was a mistake. */
SL_CHECK enum sl_status sl_agents_add_yaml(
    struct sl_agents *agents,
    struct sl_slice yaml,
    const char *file,
    sl_agent_problem_fn *on_problem,
    void *user_data);
/* The same for a file, or for every *.yaml and *.yml of a folder, in the order of their names; a
 * broken file is left out. Fails: SL_RESOURCE_EXHAUSTED; SL_NOT_FOUND, SL_PERMISSION_DENIED the
 * path. */
SL_CHECK enum sl_status sl_agents_add_path(
    struct sl_agents *agents,
    const char *path,
    sl_agent_problem_fn *on_problem,
    void *user_data,
    struct sl_error *err);
/* Adds the built-in agent demo, echo or load. Fails: SL_RESOURCE_EXHAUSTED; SL_NOT_FOUND another
 * name; SL_ALREADY_EXISTS. */
SL_CHECK enum sl_status
sl_agents_add_builtin(struct sl_agents *agents, const char *name, struct sl_error *err);

/* By name. */
size_t sl_agents_size(const struct sl_agents *agents);
const struct sl_agent *sl_agents_first(const struct sl_agents *agents);
/* NULL: there is none of exactly this name. */
const struct sl_agent *sl_agents_find(const struct sl_agents *agents, const char *name);

#endif
