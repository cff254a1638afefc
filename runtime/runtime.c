#include "runtime/runtime.h"

#include <stdio.h>

#include "runtime/base/conf.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/exec/agent_builtin.h"
#include "runtime/runtime_private.h"

/* ---- Idle --------------------------------------------------------------------------------------
 */

void sl_runtime_hold(struct sl_runtime *runtime)
{
    (void)atomic_fetch_add_explicit(&runtime->n_holds, 1, memory_order_relaxed);
}

void sl_runtime_release(struct sl_runtime *runtime)
{
    if (atomic_fetch_sub_explicit(&runtime->n_holds, 1, memory_order_acq_rel) == 1) {
        sl_loop_post(runtime->loops[0].env.loop, &runtime->idle_task);
    }
}

static void run_idle(struct sl_task *task)
{
    struct sl_runtime *runtime = SL_CONTAINER(task, struct sl_runtime, idle_task);
    runtime->on_idle(runtime->user_data);
}

static void on_part_closed(void *user_data)
{
    struct sl_runtime_loop *at = user_data;
    if (--at->loop.n_closing == 0) {
        sl_runtime_release(at->runtime);
    }
}

void sl_runtime_loop_check(struct sl_runtime_loop *at)
{
    if (!at->loop.is_stopping || !sl_list_is_empty(&at->loop.streams) || at->loop.n_closing != 0) {
        return;
    }
    /* One more than there are parts, so that one which closes at once does not end it. */
    at->loop.n_closing = 3;
    sl_models_close_loop(at->runtime->models, at->env.loop, on_part_closed, at);
    sl_tools_close_loop(at->runtime->tools, at->env.loop, on_part_closed, at);
    on_part_closed(at);
}

static void run_stop(struct sl_task *task)
{
    struct sl_runtime_loop *at = SL_CONTAINER(task, struct sl_runtime_loop, stop_task);
    const struct sl_ending ending = sl_ending_error(SLUICE__V1__ERROR_CODE__ERROR_CODE_DRAINING);
    at->loop.is_stopping = true;
    SL_LIST_EACH(node, &at->loop.streams) {
        const struct sl_run_stream *stream = SL_CONTAINER(node, struct sl_run_stream, run.node);
        sl_run_cancel(stream->run.run, &ending);
    }
    sl_runtime_loop_check(at);
}

/* Whoever waits for a slot gets none any more, and is told. */
void sl_runtime_refuse_new(struct sl_runtime *runtime)
{
    sl_directory_drain(runtime->directory);
    struct sl_ticket *ticket = sl_directory_take_waiting(runtime->directory);
    while (ticket != NULL) {
        struct sl_run_stream *stream = sl_run_stream_of(ticket);
        sl_loop_post(stream->reader_loop, &stream->admit_task);
        ticket = sl_directory_take_waiting(runtime->directory);
    }
}

void sl_runtime_stop(struct sl_runtime *runtime, void (*on_idle)(void *user_data), void *user_data)
{
    runtime->on_idle = on_idle;
    runtime->user_data = user_data;
    sl_runtime_refuse_new(runtime);
    /* Each loop has a hold until it has closed, so the runtime outlives this loop. */
    const size_t n_loops = runtime->n_loops;
    struct sl_runtime_loop *loops = runtime->loops;
    sl_runtime_hold(runtime);
    for (size_t i = 0; i < n_loops; i++) {
        sl_loop_post(loops[i].env.loop, &loops[i].stop_task);
    }
    sl_runtime_release(runtime);
}

/* ---- Agents ------------------------------------------------------------------------------------
 */

static void free_infos(struct sl_runtime *runtime)
{
    for (size_t i = 0; i < runtime->n_infos; i++) {
        (void)sl_free(sl_unconst(runtime->infos[i].tools));
        (void)sl_free(sl_unconst(runtime->infos[i].problems));
    }
    runtime->infos = sl_free(runtime->infos);
    runtime->n_infos = 0;
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

static enum sl_status build_infos(struct sl_runtime *runtime)
{
    free_infos(runtime);
    const size_t n = sl_agents_size(runtime->agents);
    runtime->infos = sl_calloc(n == 0 ? 1 : n, sizeof(*runtime->infos));
    if (runtime->infos == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (const struct sl_agent *agent = sl_agents_first(runtime->agents); agent != NULL;
         agent = agent->next) {
        SL_TRY(fill_info(&runtime->infos[runtime->n_infos], agent));
        runtime->n_infos++;
    }
    return SL_OK;
}

static void add_builtin(
    struct sl_runtime *runtime,
    struct sl_conf *conf,
    const struct sl_conf_node *node,
    const char *name)
{
    struct sl_error err = { .status = SL_OK };
    if (sl_agents_add_builtin(runtime->agents, name, &err) != SL_OK) {
        sl_conf_error(conf, node, "%s", err.text);
    }
}

void sl_runtime_configure(
    struct sl_runtime *runtime, struct sl_conf *conf, const struct sl_conf_node *top)
{
    sl_models_configure(runtime->models, conf, top);
    sl_tools_configure(runtime->tools, conf, top);
    const struct sl_conf_node *list = sl_conf_get_list(conf, top, "builtin_agents", SL_OPTIONAL);
    if (list == NULL) {
        for (size_t i = 0; i < sl_agent_n_builtins; i++) {
            add_builtin(runtime, conf, top, sl_agent_builtins[i].name);
        }
    } else {
        for (size_t i = 0; i < sl_conf_size(list); i++) {
            const struct sl_conf_node *node = sl_conf_at(list, i);
            add_builtin(runtime, conf, node, sl_conf_text(node));
        }
    }
    if (build_infos(runtime) != SL_OK) {
        sl_conf_error(conf, top, "no memory for the agents");
    }
}

enum sl_status sl_runtime_load_agents(
    struct sl_runtime *runtime,
    const char *path,
    void (*on_problem)(const char *line, void *user_data),
    void *user_data,
    struct sl_error *err)
{
    SL_TRY(sl_agents_add_path(runtime->agents, path, on_problem, user_data, err));
    return build_infos(runtime) == SL_OK
               ? SL_OK
               : sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for the agents");
}

size_t sl_runtime_n_agents(const struct sl_runtime *runtime)
{
    return runtime->n_infos;
}

const struct sl_agent_info *sl_runtime_agent_at(const struct sl_runtime *runtime, size_t index)
{
    return index < runtime->n_infos ? &runtime->infos[index] : NULL;
}

/* ---- Life --------------------------------------------------------------------------------------
 */

/* A fixed share of what all windows together may have, so that no account is needed. */
static uint32_t window_share(const struct sl_limits *limits)
{
    const uint64_t share = limits->window_total / limits->runs;
    return (uint32_t)(share < limits->window ? share : limits->window);
}

static void init_loops(struct sl_runtime *runtime, const struct sl_runtime_options *options)
{
    for (size_t i = 0; i < runtime->n_loops; i++) {
        struct sl_runtime_loop *at = &runtime->loops[i];
        at->runtime = runtime;
        at->env = (struct sl_run_env){
            .loop = options->loops[i],
            .limits = &runtime->limits,
            .models = runtime->models,
            .tools = runtime->tools,
            .store = runtime->store,
            .stats = &at->stats,
            .window_bytes = window_share(&runtime->limits),
        };
        at->stop_task.run = run_stop;
        sl_list_init(&at->loop.streams);
    }
}

static enum sl_status make_parts(
    struct sl_runtime *runtime, const struct sl_runtime_options *options, struct sl_error *err)
{
    const struct sl_models_options models = {
        .loops = options->loops,
        .n_loops = options->n_loops,
        .limits = &runtime->limits,
        .env = options->env,
    };
    const struct sl_tools_options tools = {
        .loops = options->loops,
        .n_loops = options->n_loops,
        .limits = &runtime->limits,
        .launcher = options->launcher,
        .environment = options->environment,
    };
    const struct sl_directory_options directory = {
        .n_loops = (uint32_t)options->n_loops,
        .max_runs = runtime->limits.runs,
        .max_waiting = runtime->limits.run_queue,
        .request_keep_ns = runtime->limits.window_keep * SL_NS_PER_MS,
    };
    runtime->loops = sl_calloc(options->n_loops, sizeof(*runtime->loops));
    if (runtime->loops == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    runtime->n_loops = options->n_loops;
    SL_TRY(sl_directory_new(&directory, &runtime->directory));
    SL_TRY(sl_store_memory_new(&runtime->store));
    SL_TRY(sl_models_new(&models, &runtime->models, err));
    SL_TRY(sl_tools_new(&tools, &runtime->tools, err));
    const struct sl_agents_options agents = {
        .models = runtime->models,
        .tools = runtime->tools,
        .limits = &runtime->limits,
    };
    return sl_agents_new(&agents, &runtime->agents);
}

enum sl_status sl_runtime_new(
    const struct sl_runtime_options *options, struct sl_runtime **ret_runtime, struct sl_error *err)
{
    struct sl_runtime *runtime = sl_calloc(1, sizeof(*runtime));
    if (runtime == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for the runtime");
    }
    for (size_t i = 0; i < options->n_loops; i++) {
        assert(options->loops[i]->index == i);
    }
    runtime->limits = *options->limits;
    atomic_init(&runtime->n_holds, options->n_loops);
    runtime->idle_task.run = run_idle;
    (void)sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for the runtime");
    const enum sl_status status = make_parts(runtime, options, err);
    if (status != SL_OK) {
        (void)sl_runtime_free(runtime);
        return status;
    }
    init_loops(runtime, options);
    *ret_runtime = runtime;
    return SL_OK;
}

struct sl_runtime *sl_runtime_free(struct sl_runtime *runtime)
{
    if (runtime == NULL) {
        return NULL;
    }
    free_infos(runtime);
    runtime->agents = sl_agents_free(runtime->agents);
    runtime->tools = sl_tools_free(runtime->tools);
    runtime->models = sl_models_free(runtime->models);
    runtime->store = sl_store_free(runtime->store);
    runtime->directory = sl_directory_free(runtime->directory);
    runtime->loops = sl_free(runtime->loops);
    return sl_free(runtime);
}

static uint64_t read_relaxed(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void sl_runtime_stats(const struct sl_runtime *runtime, struct sl_runtime_stats *ret_stats)
{
    struct sl_directory_counts counts;
    sl_directory_count(runtime->directory, &counts);
    *ret_stats = (struct sl_runtime_stats){
        .runs_started = counts.started,
        .runs_ended = counts.ended,
        .runs_running = counts.running,
        .runs_waiting = counts.waiting,
        .runs_refused = counts.refused,
        .tool_children = sl_tools_n_children(runtime->tools),
    };
    for (size_t i = 0; i < runtime->n_loops; i++) {
        const struct sl_exec_stats *stats = &runtime->loops[i].stats;
        ret_stats->events += read_relaxed(&stats->events);
        ret_stats->event_bytes += read_relaxed(&stats->event_bytes);
        ret_stats->model_turns += read_relaxed(&stats->model_turns);
        ret_stats->tool_calls += read_relaxed(&stats->tool_calls);
    }
}
