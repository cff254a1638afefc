#include "runtime/known.h"

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/exec/account.h"
#include "runtime/exec/encode.h"
#include "runtime/query.h"

/* ---- Room --------------------------------------------------------------------------------------
 */

uint32_t sl_window_share(const struct sl_limits *limits)
{
    const uint64_t share = limits->window_total / 2 / limits->runs;
    return (uint32_t)(share < limits->window ? share : limits->window);
}

uint32_t sl_known_reserve_window(const struct sl_run_stream *stream)
{
    const struct sl_limits *limits = &stream->generation->limits;
    _Atomic uint64_t *reserved = &stream->runtime->reserved_bytes;
    const uint64_t window = limits->window;
    if (stream->start.settings.on_disconnect == SL_DISCONNECT(CANCEL) ||
        window <= sl_window_share(limits)) {
        return 0;
    }
    const uint64_t before = atomic_fetch_add_explicit(reserved, window, memory_order_relaxed);
    if (before + window > limits->window_total / 2) {
        sl_limit_reached(SL_LIMIT_window_total);
        sl_known_release_window(stream->runtime, window);
        return 0;
    }
    return (uint32_t)window;
}

void sl_known_release_window(struct sl_runtime *runtime, uint64_t reserved_bytes)
{
    (void)atomic_fetch_sub_explicit(&runtime->reserved_bytes, reserved_bytes, memory_order_relaxed);
}

static void release_window(struct sl_known_run *known)
{
    sl_known_release_window(known->at->runtime, known->reserved_bytes);
    known->reserved_bytes = 0;
}

/* What the logs of runs that have ended may hold: what the windows of the running ones leave. */
static uint64_t room_for_ended(struct sl_runtime *runtime, const struct sl_limits *limits)
{
    struct sl_directory_counts counts;
    sl_directory_count(runtime->directory, &counts);
    const uint64_t running = counts.running * sl_window_share(limits) +
                             atomic_load_explicit(&runtime->reserved_bytes, memory_order_relaxed);
    return running < limits->window_total ? limits->window_total - running : 0;
}

static void add_kept(struct sl_known_run *known)
{
    struct sl_runtime *runtime = known->at->runtime;
    (void)atomic_fetch_add_explicit(
        &runtime->kept_bytes, known->end.kept_bytes, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&runtime->n_kept, 1, memory_order_relaxed);
    sl_list_add_last(&known->at->loop.kept, &known->ended_node);
}

static void remove_kept(struct sl_known_run *known)
{
    struct sl_runtime *runtime = known->at->runtime;
    if (sl_list_is_empty(&known->ended_node)) {
        return;
    }
    sl_list_remove(&known->ended_node);
    (void)atomic_fetch_sub_explicit(
        &runtime->kept_bytes, known->end.kept_bytes, memory_order_relaxed);
    (void)atomic_fetch_sub_explicit(&runtime->n_kept, 1, memory_order_relaxed);
}

/* ---- The end of a known run --------------------------------------------------------------------
 */

static void let_walks_pass(const struct sl_known_run *known)
{
    SL_LIST_EACH(node, &known->at->loop.walks) {
        struct sl_known_walk *walk = SL_CONTAINER(node, struct sl_known_walk, node);
        if (walk->next == &known->node) {
            walk->next = known->node.previous;
        }
    }
}

static void forget(struct sl_known_run *known)
{
    SL_LIST_EACH(node, &known->readers) { /* they read on; the log goes with the last of them */
        struct sl_run_stream *stream = SL_CONTAINER(node, struct sl_run_stream, run.reader_node);
        sl_list_remove(node);
        stream->run.known = NULL;
    }
    sl_run_queries_tell(&known->waiters, known);
    release_window(known);
    remove_kept(known);
    let_walks_pass(known);
    sl_list_remove(&known->node);
    sl_directory_remove_run(known->at->runtime->directory, &known->entry);
    sl_history_done(&known->end.history);
    sl_approvals_done(&known->end.approvals);
    known->channel = sl_event_channel_unref(known->channel);
    (void)sl_free(known);
}

struct sl_known_run *sl_known_drop(struct sl_known_run *known)
{
    if (known != NULL) {
        forget(known);
    }
    return NULL;
}

static struct sl_known_run *oldest_kept(const struct sl_runtime_loop *at)
{
    struct sl_list *node = sl_list_first(&at->loop.kept);
    return node == NULL ? NULL : SL_CONTAINER(node, struct sl_known_run, ended_node);
}

static void forget_old(struct sl_runtime_loop *at)
{
    struct sl_known_run *oldest = oldest_kept(at);
    while (oldest != NULL && oldest->end.forget_ns <= sl_loop_now_ns(at->base)) {
        forget(oldest);
        oldest = oldest_kept(at);
    }
    if (oldest != NULL) {
        sl_timer_start(&at->loop.forget_timer, oldest->end.forget_ns);
    } else {
        sl_timer_stop(&at->loop.forget_timer);
    }
}

static void on_forget_timer(void *user_data)
{
    forget_old(user_data);
}

static bool is_over(const struct sl_runtime *runtime, uint64_t max_bytes)
{
    return atomic_load_explicit(&runtime->kept_bytes, memory_order_relaxed) > max_bytes;
}

static void make_own_room(struct sl_runtime_loop *at, uint64_t max_bytes)
{
    struct sl_known_run *oldest = oldest_kept(at);
    while (oldest != NULL && is_over(at->runtime, max_bytes)) {
        sl_limit_reached(SL_LIMIT_window_total);
        forget(oldest);
        oldest = oldest_kept(at);
    }
}

static void run_make_room(struct sl_task *task)
{
    struct sl_runtime_loop *at = SL_CONTAINER(task, struct sl_runtime_loop, room_task);
    struct sl_runtime *runtime = at->runtime;
    atomic_store(&at->is_room_sent, false); /* first: what comes now is seen, or sent again */
    if (at->loop.current != NULL) {         /* otherwise nothing is kept */
        make_own_room(at, room_for_ended(runtime, &at->loop.current->limits));
    }
    sl_runtime_release(runtime);
}

/* Each loop makes room among its own, and asks the others when that is not enough. */
static void make_room(struct sl_runtime_loop *at, const struct sl_limits *limits)
{
    struct sl_runtime *runtime = at->runtime;
    if (!is_over(runtime, 0)) {
        return;
    }
    const uint64_t max_bytes = room_for_ended(runtime, limits);
    make_own_room(at, max_bytes);
    for (size_t i = 0; i < runtime->n_loops && is_over(runtime, max_bytes); i++) {
        struct sl_runtime_loop *other = &runtime->loops[i];
        if (other != at && !atomic_exchange(&other->is_room_sent, true)) {
            sl_runtime_hold(runtime);
            sl_loop_post(other->base, &other->room_task);
        }
    }
}

/* ---- Life --------------------------------------------------------------------------------------
 */

enum sl_status sl_known_begin(struct sl_run_stream *stream)
{
    struct sl_runtime_loop *at = stream->owner;
    const char *agent = stream->start.agent->name;
    const size_t agent_bytes = strlen(agent) + 1;
    const size_t tenant_bytes = strlen(stream->tenant) + 1;
    struct sl_known_run *known = sl_calloc(1, sizeof(*known) + agent_bytes + tenant_bytes);
    if (known == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    memcpy(known->texts, agent, agent_bytes);
    memcpy(known->texts + agent_bytes, stream->tenant, tenant_bytes);
    known->agent = known->texts;
    known->tenant = known->texts + agent_bytes;
    known->at = at;
    known->metadata = stream->start.metadata;
    known->n_metadata = stream->start.n_metadata;
    known->session_id = stream->start.session_id;
    known->created_ms = sl_loop_wall_ms(at->base);
    if (sl_directory_add_run(
            at->runtime->directory, &known->entry, stream->run_id, at->base->index) != SL_OK) {
        (void)sl_free(known);
        return SL_RESOURCE_EXHAUSTED;
    }
    sl_list_init(&known->ended_node);
    sl_list_init(&known->readers);
    sl_list_init(&known->waiters);
    sl_list_add_last(&at->loop.known, &known->node);
    known->reserved_bytes = stream->start.settings.window_bytes;
    known->run = stream->run.run;
    known->channel = sl_event_channel_ref(sl_run_channel(known->run));
    stream->run.known = known;
    make_room(at, &stream->generation->limits);
    return SL_OK;
}

void sl_known_ending(struct sl_known_run *known, const struct sl_ending *ending)
{
    known->has_ended = true;
    known->end.ending = *ending;
    known->end.ended_ms = sl_loop_wall_ms(known->at->base);
    SL_LIST_EACH(node, &known->readers) {
        struct sl_run_stream *stream = SL_CONTAINER(node, struct sl_run_stream, run.reader_node);
        sl_run_stream_set_ending(stream, ending);
    }
}

uint64_t sl_known_memory(const struct sl_known_run *known)
{
    return sl_event_channel_bytes(known->channel) + sl_history_memory(&known->end.history) +
           sizeof(*known);
}

void sl_known_ended(struct sl_known_run *known)
{
    struct sl_runtime_loop *at = known->at;
    const struct sl_limits *limits = sl_run_limits(known->run);
    struct sl_known_end *end = &known->end;
    known->was_recorded = sl_run_is_recorded(known->run);
    sl_run_take_rest(known->run, &end->history, &end->used);
    end->approvals = sl_run_take_approvals(known->run);
    if (at->loop.is_stopping || limits->window_keep == 0) {
        known->run = NULL;
        forget(known); /* who waits for it is told */
        return;
    }
    end->kept_bytes = sl_known_memory(known);
    end->forget_ns = sl_loop_now_ns(at->base) + limits->window_keep * SL_NS_PER_MS;
    release_window(known);
    known->run = NULL;
    sl_run_queries_tell(&known->waiters, known);
    add_kept(known);
    make_room(at, limits);
    forget_old(at);
}

struct sl_known_run *
sl_known_find(struct sl_runtime_loop *at, const char *run_id, const char *tenant)
{
    struct sl_directory_run *entry = sl_directory_run_at(at->runtime->directory, run_id);
    if (entry == NULL || entry->loop != at->base->index) {
        return NULL;
    }
    struct sl_known_run *known = SL_CONTAINER(entry, struct sl_known_run, entry);
    return strcmp(known->tenant, tenant) == 0 ? known : NULL;
}

bool sl_known_is_recorded(const struct sl_known_run *known)
{
    return known->run != NULL ? sl_run_is_recorded(known->run) : known->was_recorded;
}

void sl_known_add_reader(struct sl_known_run *known, struct sl_run_stream *stream)
{
    stream->run.known = known;
    sl_list_add_last(&known->readers, &stream->run.reader_node);
    if (known->run != NULL) {
        sl_run_set_observed(known->run, true);
    }
    if (known->has_ended) {
        sl_run_stream_set_ending(stream, &known->end.ending);
    }
}

void sl_known_remove_reader(struct sl_run_stream *stream)
{
    struct sl_known_run *known = SL_TAKE(stream->run.known);
    if (known == NULL) {
        return;
    }
    sl_list_remove(&stream->run.reader_node);
    if (known->run != NULL && sl_list_is_empty(&known->readers)) {
        sl_run_set_observed(known->run, false);
    }
}

void sl_known_walk_begin(struct sl_known_walk *walk, struct sl_runtime_loop *at)
{
    walk->next = at->loop.known.previous;
    sl_list_add_last(&at->loop.walks, &walk->node);
}

struct sl_known_run *sl_known_walk_on(struct sl_known_walk *walk, struct sl_runtime_loop *at)
{
    struct sl_list *node = walk->next;
    if (node == &at->loop.known) {
        sl_list_remove(&walk->node);
        return NULL;
    }
    walk->next = node->previous;
    return SL_CONTAINER(node, struct sl_known_run, node);
}

void sl_known_init_loop(struct sl_runtime_loop *at)
{
    sl_list_init(&at->loop.known);
    sl_list_init(&at->loop.kept);
    sl_list_init(&at->loop.walks);
    at->room_task.run = run_make_room;
    atomic_init(&at->is_room_sent, false);
    sl_timer_init(&at->loop.forget_timer, at->base, on_forget_timer, at);
}

void sl_known_stop_loop(struct sl_runtime_loop *at)
{
    sl_timer_stop(&at->loop.forget_timer);
    struct sl_known_run *oldest = oldest_kept(at);
    while (oldest != NULL) {
        forget(oldest);
        oldest = oldest_kept(at);
    }
}
