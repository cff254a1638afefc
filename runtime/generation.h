/* What one reading of the configuration made: limits, providers, tools, agents. Constant once it is
 * committed, so that a reload changes nothing for the runs that are there.
 *
 *   new ─▶ configure, load agents ─▶ commit ─post─▶ current one of each loop ◀─ runs that start
 *   the one before: its last run is gone ─▶ each loop closes its part ─▶ freed
 *
 * References: each loop whose current one it is, and each run that has or waits for a slot. */
#ifndef SL_RUNTIME_GENERATION_H
#define SL_RUNTIME_GENERATION_H

#include <stdatomic.h>

#include "runtime/base/list.h"
#include "runtime/exec/agent.h"
#include "runtime/exec/run.h"
#include "runtime/runtime.h"

/* The part of a generation that lives on one loop. */
struct sl_generation_loop {
    struct sl_generation *generation;
    struct sl_run_env env;
    struct sl_task swap_task;  /* makes it the loop's current one */
    struct sl_task close_task; /* nobody uses it any more */
    int n_closing; /* parts that were told to close and have not said that they are. Thread: loop */
};

struct sl_generation {
    struct sl_runtime *runtime;
    struct sl_list node; /* of those that are committed; under the runtime's lock */
    atomic_size_t n_refs;
    atomic_size_t n_open; /* loops that have not closed their part */
    struct sl_task free_task;
    struct sl_limits limits;
    struct sl_models *models;
    struct sl_tools *tools;
    struct sl_agents *agents;
    size_t n_infos;
    struct sl_agent_info *infos;
    struct sl_generation_loop *loops;
};

/* Nothing configured yet. Owns: the caller, until it is committed; sl_generation_drop(). Thread:
 * any. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_generation_new(
    struct sl_runtime *runtime,
    const struct sl_limits *limits,
    struct sl_generation **ret_generation,
    struct sl_error *err);
/* As sl_runtime_configure() and sl_runtime_load_agents(). */
void sl_generation_configure(
    struct sl_generation *generation, struct sl_conf *conf, const struct sl_conf_node *top);
SL_CHECK enum sl_status sl_generation_load_agents(
    struct sl_generation *generation,
    const char *path,
    void (*on_problem)(const char *line, void *user_data),
    void *user_data,
    struct sl_error *err);
/* Frees one that no loop uses: it was never committed, or all is over. Accepts NULL; gives NULL. */
struct sl_generation *sl_generation_drop(struct sl_generation *generation);
/* Every loop's current one from now on: at once before the loops run (`is_first`), else as soon as
 * each loop comes to it. */
void sl_generation_commit(struct sl_generation *generation, bool is_first);

/* Thread: any. */
void sl_generation_ref(struct sl_generation *generation);
/* The last one closes it on every loop and frees it, and gives its hold on the runtime back. */
void sl_generation_unref(struct sl_generation *generation);

#endif
