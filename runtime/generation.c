#include "runtime/generation.h"

#include "runtime/base/conf.h"
#include "runtime/base/mem.h"
#include "runtime/exec/agent_builtin.h"
#include "runtime/known.h"
#include "runtime/runtime_private.h"

/* ---- Agents ------------------------------------------------------------------------------------
 */

static void free_infos(struct sl_generation *generation)
{
    for (size_t i = 0; i < generation->n_infos; i++) {
        (void)sl_free(sl_unconst(generation->infos[i].tools));
        (void)sl_free(sl_unconst(generation->infos[i].problems));
    }
    generation->infos = sl_free(generation->infos);
    generation->n_infos = 0;
}

static enum sl_status fill_info(struct sl_agent_info *info, const struct sl_agent *agent)
{
    *info = (struct sl_agent_info){
        .name = agent->name,
        .version = agent->version,
        .model = agent->model,
        .provider = agent->provider,
        .n_labels = agent->n_labels,
        .label_keys = agent->label_keys,
        .label_values = agent->label_values,
        .n_annotations = agent->n_annotations,
        .annotation_keys = agent->annotation_keys,
        .annotation_values = agent->annotation_values,
    };
    struct sl_agent_tool *tools = sl_calloc(agent->n_tools + 1, sizeof(*tools));
    const char **problems = sl_calloc(1, sizeof(*problems));
    if (tools == NULL || problems == NULL) {
        (void)sl_free(tools);
        (void)sl_free(problems);
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < agent->n_tools; i++) {
        tools[i] = (struct sl_agent_tool){
            .name = agent->chat_tools[i].name,
            .description = agent->chat_tools[i].description,
            .parameters_json = agent->chat_tools[i].parameters_json,
        };
    }
    problems[0] = agent->problem;
    info->n_tools = agent->n_tools;
    info->tools = tools;
    info->n_problems = agent->problem == NULL ? 0 : 1;
    info->problems = problems;
    return SL_OK;
}

static enum sl_status build_infos(struct sl_generation *generation)
{
    free_infos(generation);
    const size_t n = sl_agents_size(generation->agents);
    generation->infos = sl_calloc(n == 0 ? 1 : n, sizeof(*generation->infos));
    if (generation->infos == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (const struct sl_agent *agent = sl_agents_first(generation->agents); agent != NULL;
         agent = agent->next) {
        SL_TRY(fill_info(&generation->infos[generation->n_infos], agent));
        generation->n_infos++;
    }
    return SL_OK;
}

static void add_builtin(
    struct sl_generation *generation,
    struct sl_conf *conf,
    const struct sl_conf_node *node,
    const char *name)
{
    struct sl_error err = { .status = SL_OK };
    if (sl_agents_add_builtin(generation->agents, name, &err) != SL_OK) {
        sl_conf_error(conf, node, "%s", err.text);
    }
}

void sl_generation_configure(
    struct sl_generation *generation, struct sl_conf *conf, const struct sl_conf_node *top)
{
    sl_models_configure(generation->models, conf, top);
    sl_tools_configure(generation->tools, conf, top);
    const struct sl_conf_node *list = sl_conf_get_list(conf, top, "builtin_agents", SL_OPTIONAL);
    if (list == NULL) {
        for (size_t i = 0; i < sl_agent_n_builtins; i++) {
            add_builtin(generation, conf, top, sl_agent_builtins[i].name);
        }
    } else {
        for (size_t i = 0; i < sl_conf_size(list); i++) {
            const struct sl_conf_node *node = sl_conf_at(list, i);
            add_builtin(generation, conf, node, sl_conf_text(node));
        }
    }
    if (build_infos(generation) != SL_OK) {
        sl_conf_error(conf, top, "no memory for the agents");
    }
}

enum sl_status sl_generation_load_agents(
    struct sl_generation *generation,
    const char *path,
    void (*on_problem)(const char *line, void *user_data),
    void *user_data,
    struct sl_error *err)
{
    SL_TRY(sl_agents_add_path(generation->agents, path, on_problem, user_data, err));
    return build_infos(generation) == SL_OK
               ? SL_OK
               : sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for the agents");
}

/* ---- The end -----------------------------------------------------------------------------------
 */

struct sl_generation *sl_generation_drop(struct sl_generation *generation)
{
    if (generation == NULL) {
        return NULL;
    }
    free_infos(generation);
    generation->agents = sl_agents_free(generation->agents);
    generation->tools = sl_tools_free(generation->tools);
    generation->models = sl_models_free(generation->models);
    generation->loops = sl_free(generation->loops);
    return sl_free(generation);
}

static void run_free(struct sl_task *task)
{
    struct sl_generation *generation = SL_CONTAINER(task, struct sl_generation, free_task);
    struct sl_runtime *runtime = generation->runtime;
    (void)pthread_mutex_lock(&runtime->shared.lock);
    sl_list_remove(&generation->node);
    (void)pthread_mutex_unlock(&runtime->shared.lock);
    (void)sl_generation_drop(generation);
    sl_runtime_release(runtime);
}

/* The last loop's part closed: freed by a task, because the parts are still on the stack. */
static void on_part_closed(void *user_data)
{
    struct sl_generation_loop *at = user_data;
    struct sl_generation *generation = at->generation;
    if (--at->n_closing == 0 &&
        atomic_fetch_sub_explicit(&generation->n_open, 1, memory_order_acq_rel) == 1) {
        sl_loop_post(generation->runtime->loops[0].base, &generation->free_task);
    }
}

static void run_close(struct sl_task *task)
{
    struct sl_generation_loop *at = SL_CONTAINER(task, struct sl_generation_loop, close_task);
    /* One more than there are parts, so that one which closes at once does not end it. */
    at->n_closing = 3;
    sl_models_close_loop(at->generation->models, at->env.loop, on_part_closed, at);
    sl_tools_close_loop(at->generation->tools, at->env.loop, on_part_closed, at);
    on_part_closed(at);
}

void sl_generation_ref(struct sl_generation *generation)
{
    (void)atomic_fetch_add_explicit(&generation->n_refs, 1, memory_order_relaxed);
}

void sl_generation_unref(struct sl_generation *generation)
{
    if (atomic_fetch_sub_explicit(&generation->n_refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    /* Once the last loop is told, it may be gone. */
    const size_t n_loops = generation->runtime->n_loops;
    struct sl_generation_loop *loops = generation->loops;
    for (size_t i = 0; i < n_loops; i++) {
        sl_loop_post(loops[i].env.loop, &loops[i].close_task);
    }
}

/* ---- Life --------------------------------------------------------------------------------------
 */

/* Runs that start on this loop from now on belong to it; those of the one before keep theirs. */
static void run_swap(struct sl_task *task)
{
    struct sl_generation_loop *at = SL_CONTAINER(task, struct sl_generation_loop, swap_task);
    struct sl_runtime_loop *home = &at->generation->runtime->loops[at->env.loop->index];
    if (home->loop.is_stopping) {
        sl_generation_unref(at->generation);
        return;
    }
    struct sl_generation *old = home->loop.current;
    home->loop.current = at->generation;
    if (old != NULL) {
        sl_generation_unref(old);
    }
}

static enum sl_status make_loops(struct sl_generation *generation)
{
    struct sl_runtime *runtime = generation->runtime;
    generation->loops = sl_calloc(runtime->n_loops, sizeof(*generation->loops));
    if (generation->loops == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < runtime->n_loops; i++) {
        struct sl_generation_loop *at = &generation->loops[i];
        at->generation = generation;
        at->swap_task.run = run_swap;
        at->close_task.run = run_close;
        at->env = (struct sl_run_env){
            .records = &runtime->loops[i].loop.records,
            .loop = runtime->loops[i].base,
            .limits = &generation->limits,
            .models = generation->models,
            .tools = generation->tools,
            .store = runtime->store,
            .lease = runtime->lease == NULL ? NULL : sl_lease_at(runtime->lease, i),
            .stats = &runtime->loops[i].stats,
            .window_bytes = sl_window_share(&generation->limits),
        };
    }
    return SL_OK;
}

static enum sl_status make_parts(struct sl_generation *generation, struct sl_error *err)
{
    struct sl_runtime *runtime = generation->runtime;
    const struct sl_models_options models = {
        .loops = runtime->bases,
        .n_loops = runtime->n_loops,
        .limits = &generation->limits,
        .env = runtime->env,
    };
    const struct sl_tools_options tools = {
        .loops = runtime->bases,
        .n_loops = runtime->n_loops,
        .limits = &generation->limits,
        .launcher = runtime->launcher,
        .environment = runtime->environment,
        .slots = runtime->slots,
    };
    SL_TRY(sl_models_new(&models, &generation->models, err));
    SL_TRY(sl_tools_new(&tools, &generation->tools, err));
    const struct sl_agents_options agents = {
        .models = generation->models,
        .tools = generation->tools,
        .limits = &generation->limits,
    };
    SL_TRY(sl_agents_new(&agents, &generation->agents));
    return make_loops(generation);
}

enum sl_status sl_generation_new(
    struct sl_runtime *runtime,
    const struct sl_limits *limits,
    struct sl_generation **ret_generation,
    struct sl_error *err)
{
    (void)sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for the runtime");
    struct sl_generation *generation = sl_calloc(1, sizeof(*generation));
    if (generation == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    generation->runtime = runtime;
    generation->limits = *limits;
    generation->free_task.run = run_free;
    atomic_init(&generation->n_refs, runtime->n_loops);
    atomic_init(&generation->n_open, runtime->n_loops);
    const enum sl_status status = make_parts(generation, err);
    if (status != SL_OK) {
        (void)sl_generation_drop(generation);
        return status;
    }
    *ret_generation = generation;
    return SL_OK;
}

void sl_generation_commit(struct sl_generation *generation, bool is_first)
{
    struct sl_runtime *runtime = generation->runtime;
    sl_runtime_hold(runtime);
    (void)pthread_mutex_lock(&runtime->shared.lock);
    sl_list_add_last(&runtime->shared.generations, &generation->node);
    (void)pthread_mutex_unlock(&runtime->shared.lock);
    runtime->newest = generation;
    for (size_t i = 0; i < runtime->n_loops; i++) {
        if (is_first) {
            runtime->loops[i].loop.current = generation;
        } else {
            sl_loop_post(runtime->loops[i].base, &generation->loops[i].swap_task);
        }
    }
}
