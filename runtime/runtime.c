#include "runtime/runtime.h"

#include <stdio.h>
#include <string.h>

#include "runtime/account.h"
#include "runtime/base/mem.h"
#include "runtime/known.h"
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
        sl_loop_post(runtime->loops[0].base, &runtime->idle_task);
    }
}

static void hold_runtime(void *user_data)
{
    sl_runtime_hold(user_data);
}

static void release_runtime(void *user_data)
{
    sl_runtime_release(user_data);
}

static void run_idle(struct sl_task *task)
{
    struct sl_runtime *runtime = SL_CONTAINER(task, struct sl_runtime, idle_task);
    runtime->on_idle(runtime->user_data);
}

static void run_stop(struct sl_task *task)
{
    struct sl_runtime_loop *at = SL_CONTAINER(task, struct sl_runtime_loop, stop_task);
    const struct sl_ending ending = sl_ending_error(SLUICE__V1__ERROR_CODE__ERROR_CODE_DRAINING);
    at->loop.is_stopping = true;
    if (at->base->index == 0) {
        sl_lease_stop(at->runtime->lease);
    }
    sl_record_room_stop(&at->loop.records);
    SL_LIST_EACH(node, &at->loop.streams) {
        const struct sl_run_stream *stream = SL_CONTAINER(node, struct sl_run_stream, run.node);
        if (!sl_run_park(stream->run.run)) {
            sl_run_cancel(stream->run.run, &ending);
        }
    }
    sl_known_stop_loop(at);
    if (at->loop.current != NULL) {
        sl_generation_unref(SL_TAKE(at->loop.current));
    }
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
    /* Held, so that the runtime outlives this loop. */
    sl_runtime_hold(runtime);
    for (size_t i = 0; i < runtime->n_loops; i++) {
        sl_loop_post(runtime->loops[i].base, &runtime->loops[i].stop_task);
    }
    sl_runtime_release(runtime);
}

static struct sl_directory_options directory_options(const struct sl_limits *limits, size_t n_loops)
{
    return (struct sl_directory_options){
        .n_loops = (uint32_t)n_loops,
        .max_runs = limits->runs,
        .max_waiting = limits->run_queue,
        .max_tenant_runs = limits->runs_per_tenant,
        .max_session_queue = limits->session_queue,
        .request_keep_ns = limits->window_keep * SL_NS_PER_MS,
    };
}

static void keep_sessions(struct sl_runtime *runtime, const struct sl_limits *limits)
{
    sl_store_memory_keep(runtime->memory, limits->sessions, limits->sessions_total);
}

/* ---- Agents ------------------------------------------------------------------------------------
 */

void sl_runtime_configure(
    struct sl_runtime *runtime, struct sl_conf *conf, const struct sl_conf_node *top)
{
    sl_generation_configure(runtime->newest, conf, top);
}

enum sl_status sl_runtime_load_agents(
    struct sl_runtime *runtime,
    const char *path,
    void (*on_problem)(const char *line, void *user_data),
    void *user_data,
    struct sl_error *err)
{
    return sl_generation_load_agents(runtime->newest, path, on_problem, user_data, err);
}

static const struct sl_generation *
current(const struct sl_runtime *runtime, const struct sl_loop *loop)
{
    const struct sl_runtime_loop *at = &runtime->loops[loop == NULL ? 0 : loop->index];
    SL_ON_LOOP(at->base);
    return at->loop.current;
}

size_t sl_runtime_n_agents(const struct sl_runtime *runtime, const struct sl_loop *loop)
{
    const struct sl_generation *generation = current(runtime, loop);
    return generation == NULL ? 0 : generation->n_infos;
}

const struct sl_agent_info *
sl_runtime_agent_at(const struct sl_runtime *runtime, const struct sl_loop *loop, size_t index)
{
    const struct sl_generation *generation = current(runtime, loop);
    return generation != NULL && index < generation->n_infos ? &generation->infos[index] : NULL;
}

const struct sl_limits *
sl_runtime_limits(const struct sl_runtime *runtime, const struct sl_loop *loop)
{
    const struct sl_generation *generation = current(runtime, loop);
    return generation == NULL ? NULL : &generation->limits;
}

/* ---- Reload ------------------------------------------------------------------------------------
 */

enum sl_status sl_runtime_draft_new(
    struct sl_runtime *runtime,
    const struct sl_limits *limits,
    struct sl_generation **ret_draft,
    struct sl_error *err)
{
    return sl_generation_new(runtime, limits, ret_draft, err);
}

void sl_runtime_draft_configure(
    struct sl_generation *draft, struct sl_conf *conf, const struct sl_conf_node *top)
{
    sl_generation_configure(draft, conf, top);
}

enum sl_status sl_runtime_draft_load_agents(
    struct sl_generation *draft,
    const char *path,
    void (*on_problem)(const char *line, void *user_data),
    void *user_data,
    struct sl_error *err)
{
    return sl_generation_load_agents(draft, path, on_problem, user_data, err);
}

struct sl_generation *sl_runtime_draft_drop(struct sl_generation *draft)
{
    return sl_generation_drop(draft);
}

static const struct sl_agent_info *
find_info(const struct sl_generation *generation, const char *name)
{
    size_t i = 0;
    while (i < generation->n_infos && strcmp(generation->infos[i].name, name) != 0) {
        i++;
    }
    return i < generation->n_infos ? &generation->infos[i] : NULL;
}

void sl_runtime_draft_check(
    const struct sl_generation *draft,
    void (*on_problem)(const char *line, void *user_data),
    void *user_data)
{
    for (size_t i = 0; i < draft->n_infos; i++) {
        const struct sl_agent_info *fresh = &draft->infos[i];
        const struct sl_agent_info *old =
            fresh->n_problems == 0 ? NULL : find_info(draft->runtime->newest, fresh->name);
        if (old != NULL && old->n_problems == 0) {
            char line[512];
            (void)snprintf(
                line, sizeof(line), "agent '%s' could not run any more: %s", fresh->name,
                fresh->problems[0]);
            on_problem(line, user_data);
        }
    }
}

/* Both lists are in the order of the names. */
static void compare(
    const struct sl_generation *old,
    const struct sl_generation *fresh,
    struct sl_runtime_change *ret_change)
{
    *ret_change = (struct sl_runtime_change){ .n_agents = fresh->n_infos };
    size_t i = 0;
    size_t k = 0;
    while (i < old->n_infos || k < fresh->n_infos) {
        const int order = i == old->n_infos     ? 1
                          : k == fresh->n_infos ? -1
                                                : strcmp(old->infos[i].name, fresh->infos[k].name);
        ret_change->n_removed += order < 0;
        ret_change->n_added += order > 0;
        ret_change->n_changed +=
            order == 0 && strcmp(old->infos[i].version, fresh->infos[k].version) != 0;
        i += order <= 0;
        k += order >= 0;
    }
}

static void admit_waiting(struct sl_runtime *runtime)
{
    struct sl_ticket *ticket = sl_directory_admit_waiting(runtime->directory);
    while (ticket != NULL) {
        struct sl_run_stream *stream = sl_run_stream_of(ticket);
        sl_loop_post(stream->reader_loop, &stream->admit_task);
        ticket = sl_directory_admit_waiting(runtime->directory);
    }
}

void sl_runtime_draft_commit(struct sl_generation *draft, struct sl_runtime_change *ret_change)
{
    struct sl_runtime *runtime = draft->runtime;
    compare(runtime->newest, draft, ret_change);
    const struct sl_directory_options directory = directory_options(&draft->limits, 0);
    sl_directory_set_options(runtime->directory, &directory);
    admit_waiting(runtime);
    sl_tool_slots_set_max(runtime->slots, draft->limits.tools);
    keep_sessions(runtime, &draft->limits);
    sl_generation_commit(draft, false);
}

/* ---- Life --------------------------------------------------------------------------------------
 */

static enum sl_status
make_loops(struct sl_runtime *runtime, const struct sl_runtime_options *options)
{
    runtime->bases = sl_calloc(options->n_loops, sizeof(struct sl_loop *));
    runtime->loops = sl_calloc(options->n_loops, sizeof(*runtime->loops));
    if (runtime->bases == NULL || runtime->loops == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    runtime->n_loops = options->n_loops;
    for (size_t i = 0; i < runtime->n_loops; i++) {
        struct sl_runtime_loop *at = &runtime->loops[i];
        assert(options->loops[i]->index == i);
        runtime->bases[i] = options->loops[i];
        at->runtime = runtime;
        at->base = options->loops[i];
        at->stop_task.run = run_stop;
        sl_list_init(&at->loop.streams);
        sl_list_init(&at->loop.queued);
        sl_known_init_loop(at);
        sl_record_room_init(&at->loop.records);
        at->loop.records.hold = hold_runtime;
        at->loop.records.release = release_runtime;
        at->loop.records.user_data = runtime;
    }
    return SL_OK;
}

static enum sl_status make_parts(
    struct sl_runtime *runtime, const struct sl_runtime_options *options, struct sl_error *err)
{
    const struct sl_directory_options directory =
        directory_options(options->limits, options->n_loops);
    runtime->env = options->env;
    runtime->environment = options->environment;
    if (options->launcher != NULL) {
        runtime->launcher = sl_strdup(options->launcher);
        if (runtime->launcher == NULL) {
            return SL_RESOURCE_EXHAUSTED;
        }
    }
    SL_TRY(make_loops(runtime, options));
    SL_TRY(sl_directory_new(&directory, &runtime->directory));
    SL_TRY(sl_store_memory_new(&runtime->store));
    SL_TRY(sl_store_memory_new(&runtime->memory));
    keep_sessions(runtime, options->limits);
    SL_TRY(sl_tool_slots_new(options->limits->tools, &runtime->slots));
    struct sl_generation *first;
    SL_TRY(sl_generation_new(runtime, options->limits, &first, err));
    sl_generation_commit(first, true);
    return SL_OK;
}

enum sl_status sl_runtime_new(
    const struct sl_runtime_options *options, struct sl_runtime **ret_runtime, struct sl_error *err)
{
    struct sl_runtime *runtime = sl_calloc(1, sizeof(*runtime));
    if (runtime == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for the runtime");
    }
    atomic_init(&runtime->n_holds, 0);
    runtime->idle_task.run = run_idle;
    sl_list_init(&runtime->shared.generations);
    (void)pthread_mutex_init(&runtime->shared.lock, NULL);
    (void)sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for the runtime");
    const enum sl_status status = make_parts(runtime, options, err);
    if (status != SL_OK) {
        (void)sl_runtime_free(runtime);
        return status;
    }
    *ret_runtime = runtime;
    return SL_OK;
}

struct sl_runtime *sl_runtime_free(struct sl_runtime *runtime)
{
    if (runtime == NULL) {
        return NULL;
    }
    SL_LIST_EACH(node, &runtime->shared.generations) {
        sl_list_remove(node);
        (void)sl_generation_drop(SL_CONTAINER(node, struct sl_generation, node));
    }
    runtime->slots = sl_tool_slots_free(runtime->slots);
    runtime->memory = sl_store_free(runtime->memory);
    runtime->store = sl_store_free(runtime->store);
    runtime->lease = sl_lease_free(runtime->lease);
    runtime->directory = sl_directory_free(runtime->directory);
    (void)pthread_mutex_destroy(&runtime->shared.lock);
    runtime->loops = sl_free(runtime->loops);
    runtime->bases = sl_free(runtime->bases);
    runtime->launcher = sl_free(runtime->launcher);
    return sl_free(runtime);
}

/* ---- Looking -----------------------------------------------------------------------------------
 */

void sl_runtime_each_run(
    const struct sl_runtime *runtime,
    const struct sl_loop *loop,
    void (*visit)(const struct sl_run_view *run, void *user_data),
    void *user_data)
{
    SL_ON_LOOP(loop);
    const struct sl_runtime_loop *at = &runtime->loops[loop->index];
    SL_LIST_EACH(node, &at->loop.streams) {
        const struct sl_run_stream *stream = SL_CONTAINER(node, struct sl_run_stream, run.node);
        struct sl_run_look look;
        sl_run_look(stream->run.run, &look);
        struct sl_run_view view = {
            .run_id = stream->run_id,
            .agent = look.agent,
            .peer = look.peer,
            .state = look.state,
            .on_disconnect = look.on_disconnect,
            .age_ms = look.age_ms,
            .iteration = look.iteration,
            .unread_events = look.unread.events,
            .unread_bytes = look.unread.bytes,
            .is_paused = look.is_paused,
            .is_detached = look.is_detached,
        };
        sl_run_stream_account(stream, &view.memory);
        visit(&view, user_data);
    }
}

struct child_visit {
    void (*visit)(const struct sl_child_view *child, void *user_data);
    void *user_data;
};

static void visit_child(const struct sl_tool_child *child, void *user_data)
{
    const struct child_visit *to = user_data;
    const struct sl_child_view view = { .pid = child->pid,
                                        .tool = child->tool,
                                        .call = child->key,
                                        .age_ms = child->age_ms,
                                        .is_unreaped = child->is_unreaped };
    to->visit(&view, to->user_data);
}

void sl_runtime_each_child(
    struct sl_runtime *runtime,
    const struct sl_loop *loop,
    void (*visit)(const struct sl_child_view *child, void *user_data),
    void *user_data)
{
    struct child_visit to = { .visit = visit, .user_data = user_data };
    (void)pthread_mutex_lock(&runtime->shared.lock);
    SL_LIST_EACH(node, &runtime->shared.generations) {
        const struct sl_generation *generation = SL_CONTAINER(node, struct sl_generation, node);
        sl_tools_each_child(generation->tools, loop, visit_child, &to);
    }
    (void)pthread_mutex_unlock(&runtime->shared.lock);
}

static uint64_t read_relaxed(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void sl_runtime_stats(struct sl_runtime *runtime, struct sl_runtime_stats *ret_stats)
{
    struct sl_directory_counts counts;
    sl_directory_count(runtime->directory, &counts);
    *ret_stats = (struct sl_runtime_stats){
        .runs_started = counts.started,
        .runs_ended = counts.ended,
        .runs_running = counts.running,
        .runs_waiting = counts.waiting,
        .runs_queued = counts.queued,
        .runs_refused = counts.refused,
        .runs_kept = read_relaxed(&runtime->n_kept),
        .kept_bytes = read_relaxed(&runtime->kept_bytes),
    };
    struct sl_store_stats memory;
    sl_store_stats(runtime->memory, &memory);
    ret_stats->sessions = memory.sessions;
    ret_stats->session_bytes = memory.session_bytes;
    ret_stats->sessions_removed = memory.sessions_removed;
    (void)pthread_mutex_lock(&runtime->shared.lock);
    SL_LIST_EACH(node, &runtime->shared.generations) {
        const struct sl_generation *generation = SL_CONTAINER(node, struct sl_generation, node);
        ret_stats->tool_children += sl_tools_n_children(generation->tools);
        ret_stats->generations++;
    }
    (void)pthread_mutex_unlock(&runtime->shared.lock);
    for (size_t i = 0; i < runtime->n_loops; i++) {
        const struct sl_exec_stats *stats = &runtime->loops[i].stats;
        ret_stats->events += read_relaxed(&stats->events);
        ret_stats->event_bytes += read_relaxed(&stats->event_bytes);
        ret_stats->model_turns += read_relaxed(&stats->model_turns);
        ret_stats->tool_calls += read_relaxed(&stats->tool_calls);
    }
}
