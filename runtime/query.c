#include "runtime/base/mem.h"
#include "runtime/exec/encode.h"
#include "runtime/exec/session_codec.h"
#include "runtime/exec/terminal.h"
#include "runtime/query_private.h"
#include "runtime/queued.h"

enum { CONTEXT_BYTES = 256 * 1024 * 1024 }; /* of one that is read, with all its structures */

static void unref_query(struct sl_run_query *query)
{
    if (atomic_fetch_sub_explicit(&query->n_refs, 1, memory_order_acq_rel) == 1) {
        sl_store_request_done(&query->stored.get.request);
        sl_store_request_done(&query->stored.list.request);
        sl_arena_done(&query->arena);
        (void)sl_free(query);
    }
}

static void run_home(struct sl_task *task)
{
    struct sl_run_query *query = SL_CONTAINER(task, struct sl_run_query, task);
    sl_runtime_release(query->runtime);
    if (query->is_closed) {
        unref_query(query);
        return;
    }
    query->is_answered = true;
    query->on_answer(&query->answer, query->user_data);
}

void sl_query_go_home(struct sl_run_query *query, enum sl_status status)
{
    query->answer.status = status;
    query->answer.runs = query->infos;
    query->answer.next_page_token = query->token;
    if (status != SL_OK) {
        query->answer.n_runs = 0;
    }
    query->task.run = run_home;
    sl_loop_post(query->home, &query->task);
}

void sl_query_go_to(struct sl_run_query *query, uint32_t loop)
{
    query->list.loop = loop;
    sl_loop_post(query->runtime->loops[loop].base, &query->task);
}

/* ---- The store ---------------------------------------------------------------------------------
 */

struct sl_store_request sl_query_request(struct sl_run_query *query, sl_store_done_fn *on_done)
{
    return (struct sl_store_request){ .loop = query->home, .on_done = on_done };
}

enum sl_status sl_query_status_of_store(enum sl_status status)
{
    return status == SL_NOT_FOUND || status == SL_RESOURCE_EXHAUSTED || status == SL_CANCELLED
               ? status
               : SL_UNAVAILABLE;
}

static enum sl_run_stage stage_of(enum sl_store_state state)
{
    switch (state) {
    case SL_STORE_STATE_DONE:
        return SL_RUN_STAGE_DONE;
    case SL_STORE_STATE_FAILED:
        return SL_RUN_STAGE_FAILED;
    case SL_STORE_STATE_CANCELLED:
        return SL_RUN_STAGE_CANCELLED;
    case SL_STORE_STATE_ANY:
    case SL_STORE_STATE_QUEUED:
    case SL_STORE_STATE_RUNNING:
    case SL_STORE_STATE_WAITING:
        break;
    }
    return SL_RUN_STAGE_RUNNING;
}

/* One that is damaged says nothing: a reader of the run is told. */
static void fill_terminal(const struct sl_store_run *run, struct sl_run_info *info)
{
    struct sl_terminal terminal;
    if (run->terminal.size <= SL_EVENT_PREFIX_BYTES) {
        return;
    }
    const struct sl_slice event = sl_slice_of(
        run->terminal.data + SL_EVENT_PREFIX_BYTES, run->terminal.size - SL_EVENT_PREFIX_BYTES);
    if (sl_terminal_read(event, &terminal) == SL_OK) {
        info->terminal = event;
        info->usage = sl_run_info_usage(&terminal.used);
    }
}

enum sl_status sl_query_fill_stored(
    const struct sl_store_run *run, struct sl_arena *arena, struct sl_run_info *ret_info)
{
    struct sl_run_pair *pairs = sl_arena_calloc(arena, run->n_metadata + 1, sizeof(*pairs));
    if (pairs == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < run->n_metadata; i++) {
        pairs[i] = (struct sl_run_pair){ run->metadata[i].key, run->metadata[i].value };
    }
    *ret_info = (struct sl_run_info){
        .run_id = run->run_id,
        .agent = run->agent,
        .session_id = run->session_id == NULL ? "" : run->session_id,
        .stage = stage_of(run->state),
        .created_at_ms = run->created_ms,
        .ended_at_ms = run->ended_ms,
        .last_sequence = run->last_sequence,
        .metadata = pairs,
        .n_metadata = run->n_metadata,
    };
    fill_terminal(run, ret_info);
    return SL_OK;
}

static enum sl_status
read_context(struct sl_slice bytes, struct sl_arena *arena, struct sl_run_info *info)
{
    struct sl_history history;
    sl_history_init(&history, CONTEXT_BYTES);
    enum sl_status status = sl_session_read(bytes, &history);
    if (status == SL_OK) {
        status = sl_run_info_fill_context(&history, arena, info);
    } else if (status == SL_UNIMPLEMENTED) {
        info->context_absent = "a newer version of this server wrote it";
        status = SL_OK;
    }
    sl_history_done(&history);
    return status;
}

/* The conversation, or why there is none. Fails: SL_DATA_LOSS; SL_RESOURCE_EXHAUSTED. */
static enum sl_status
fill_context(const struct sl_store_run *run, struct sl_arena *arena, struct sl_run_info *info)
{
    const bool is_whole = run->context_state == SL_STORE_CONTEXT_FINAL ||
                          (run->context_state == SL_STORE_CONTEXT_BASE && run->ended_ms == 0);
    if (run->context_state == SL_STORE_CONTEXT_DAMAGED) {
        return SL_DATA_LOSS;
    }
    if (is_whole) {
        return read_context(run->context, arena, info);
    }
    info->context_absent = "it is not in the store: larger than limits.run_context, or an older "
                           "version of this server recorded the run";
    return SL_OK;
}

static enum sl_status fill_got(struct sl_run_query *query)
{
    const struct sl_store_run *run = &query->stored.get.run;
    query->answer.n_runs = 1;
    query->infos = sl_arena_calloc(&query->arena, 1, sizeof(*query->infos));
    if (query->infos == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    SL_TRY(sl_query_fill_stored(run, &query->arena, &query->infos[0]));
    return query->ask.kind == SL_RUN_ASK_CONTEXT
               ? fill_context(run, &query->arena, &query->infos[0])
               : SL_OK;
}

static void got(struct sl_run_query *query, enum sl_status status)
{
    sl_query_go_home(query, status == SL_OK ? fill_got(query) : sl_query_status_of_store(status));
}

static void on_got(struct sl_store_request *request)
{
    got(SL_CONTAINER(request, struct sl_run_query, stored.get.request), request->status);
}

/* At home: a run that is in the store only is not cancelled, it has ended. */
static void run_get(struct sl_task *task)
{
    struct sl_run_query *query = SL_CONTAINER(task, struct sl_run_query, task);
    query->stored.get = (struct sl_store_get){
        .request = sl_query_request(query, on_got),
        .run_id = query->ask.run_id,
        .tenant = query->ask.tenant,
        .wants_context = query->ask.kind == SL_RUN_ASK_CONTEXT,
    };
    const enum sl_status status = sl_store_get(query->runtime->store, &query->stored.get);
    if (status != SL_PENDING) {
        got(query, status);
    }
}

static bool is_said(const struct sl_run_query *query)
{
    return query->ask.kind >= SL_RUN_ASK_DECIDE;
}

/* Memory has not got the run. What is said goes to one that runs. */
void sl_query_ask_store(struct sl_run_query *query)
{
    if (!query->runtime->has_store || is_said(query)) {
        sl_query_go_home(query, SL_NOT_FOUND);
        return;
    }
    query->task.run = run_get;
    sl_loop_post(query->home, &query->task);
}

/* ---- One run -----------------------------------------------------------------------------------
 */

/* False: it has to wait for room. */
static bool say(struct sl_run_query *query, const struct sl_known_run *known)
{
    const enum sl_status status = sl_run_say(&query->ask, known, &query->arena, &query->answer);
    if (status != SL_AGAIN) {
        sl_query_go_home(query, status);
    }
    return status != SL_AGAIN;
}

void sl_run_queries_retry(struct sl_list *waiters, const struct sl_known_run *known)
{
    SL_LIST_EACH(node, waiters) {
        struct sl_run_query *query = SL_CONTAINER(node, struct sl_run_query, waiter_node);
        enum sl_status status = SL_AGAIN;
        if (is_said(query)) {
            status = sl_run_say(&query->ask, known, &query->arena, &query->answer);
        }
        if (status != SL_AGAIN) {
            sl_list_remove(node);
            sl_query_go_home(query, status);
        }
    }
}

static enum sl_status fill_one(struct sl_run_query *query, const struct sl_known_run *known)
{
    const bool wants_context = query->ask.kind == SL_RUN_ASK_CONTEXT;
    query->answer.n_runs = 1;
    query->infos = sl_arena_calloc(&query->arena, 1, sizeof(*query->infos));
    if (query->infos == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    if (query->ask.kind == SL_RUN_ASK_CANCEL) {
        query->infos[0] =
            (struct sl_run_info){ .run_id = query->ask.run_id, .stage = sl_run_info_stage(known) };
        return SL_OK;
    }
    return sl_run_info_fill(known, wants_context, &query->arena, &query->infos[0]);
}

static void answer_one(struct sl_run_query *query, const struct sl_known_run *known)
{
    if (is_said(query)) {
        (void)say(query, known); /* of a run that is ending none waits */
    } else {
        sl_query_go_home(query, fill_one(query, known));
    }
}

void sl_run_queries_tell(struct sl_list *waiters, const struct sl_known_run *known)
{
    SL_LIST_EACH(node, waiters) {
        sl_list_remove(node);
        answer_one(SL_CONTAINER(node, struct sl_run_query, waiter_node), known);
    }
}

/* On the run's loop. */
static void run_one(struct sl_task *task)
{
    struct sl_run_query *query = SL_CONTAINER(task, struct sl_run_query, task);
    struct sl_runtime_loop *at = &query->runtime->loops[query->list.loop];
    struct sl_known_run *known = sl_known_find(at, query->ask.run_id, query->ask.tenant);
    if (known == NULL) {
        sl_query_ask_store(query);
        return;
    }
    if (is_said(query)) {
        if (!say(query, known)) {
            sl_list_add_last(&known->waiters, &query->waiter_node);
        }
        return;
    }
    if (query->ask.kind == SL_RUN_ASK_CANCEL && !known->has_ended) {
        const struct sl_ending ending = sl_ending_cancelled(SL_CANCEL_REASON(CANCEL_RPC));
        sl_run_cancel(known->run, &ending);
    }
    if (query->ask.wants_end && !known->has_ended) {
        sl_list_add_last(&known->waiters, &query->waiter_node);
        return;
    }
    answer_one(query, known);
}

/* On the run's loop, where the query has been: it may wait there. */
static void run_close(struct sl_task *task)
{
    struct sl_run_query *query = SL_CONTAINER(task, struct sl_run_query, close_task);
    struct sl_runtime *runtime = query->runtime;
    if (!sl_list_is_empty(&query->waiter_node)) {
        sl_list_remove(&query->waiter_node);
        sl_query_go_home(query, SL_CANCELLED);
    }
    unref_query(query);
    sl_runtime_release(runtime);
}

/* ---- Asking ------------------------------------------------------------------------------------
 */

bool sl_query_ask_run(struct sl_run_query *query)
{
    uint32_t loop = 0;
    if (!sl_directory_find_run(query->runtime->directory, query->ask.run_id, &loop)) {
        return false;
    }
    query->task.run = run_one;
    query->may_wait = query->ask.wants_end || query->ask.kind == SL_RUN_ASK_USER_INPUT;
    sl_query_go_to(query, loop);
    return true;
}

static void begin_one(struct sl_run_query *query)
{
    if (!sl_query_ask_run(query) && (is_said(query) || !sl_queued_ask(query))) {
        sl_query_ask_store(query);
    }
}

/* NULL becomes "". False: no memory. */
static bool keep_text(struct sl_run_query *query, const char **text)
{
    *text = sl_arena_dup(&query->arena, sl_slice_str(*text));
    return *text != NULL;
}

static bool keep_slice(struct sl_run_query *query, struct sl_slice *text)
{
    const char *copy = sl_arena_dup(&query->arena, *text);
    *text = sl_slice_of(copy, copy == NULL ? 0 : text->size);
    return copy != NULL;
}

static bool keep_said(struct sl_run_query *query)
{
    struct sl_run_ask *ask = &query->ask;
    return keep_text(query, &ask->principal) && keep_text(query, &ask->approval_id) &&
           keep_text(query, &ask->comment) && keep_text(query, &ask->tool_id) &&
           keep_slice(query, &ask->digest) && keep_slice(query, &ask->text) &&
           keep_slice(query, &ask->error);
}

enum sl_status sl_run_ask(
    struct sl_runtime *runtime,
    struct sl_loop *loop,
    const struct sl_run_ask *ask,
    sl_run_answer_fn *on_answer,
    void *user_data,
    struct sl_run_query **ret_query)
{
    SL_ON_LOOP(loop);
    if (runtime->loops[loop->index].loop.current == NULL) {
        return SL_UNAVAILABLE;
    }
    struct sl_run_query *query = sl_calloc(1, sizeof(*query));
    if (query == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    query->runtime = runtime;
    query->home = loop;
    query->ask = *ask;
    query->on_answer = on_answer;
    query->user_data = user_data;
    query->close_task.run = run_close;
    atomic_init(&query->n_refs, 1);
    sl_list_init(&query->waiter_node);
    sl_arena_init(&query->arena, 0);
    enum sl_status status = SL_RESOURCE_EXHAUSTED;
    sl_runtime_hold(runtime); /* this loop's part of it is there now */
    if (keep_said(query) && keep_text(query, &query->ask.run_id) &&
        keep_text(query, &query->ask.tenant) && keep_text(query, &query->ask.agent) &&
        keep_text(query, &query->ask.session_id) && keep_text(query, &query->ask.page_token)) {
        status = SL_OK;
        if (ask->kind == SL_RUN_ASK_LIST) {
            status = sl_query_begin_list(query);
        } else {
            begin_one(query);
        }
    }
    if (status != SL_OK) {
        sl_runtime_release(runtime);
        unref_query(query);
        return status;
    }
    *ret_query = query;
    return SL_OK;
}

struct sl_run_query *sl_run_query_close(struct sl_run_query *query)
{
    if (query == NULL) {
        return NULL;
    }
    SL_ON_LOOP(query->home);
    if (query->is_answered) {
        unref_query(query);
        return NULL;
    }
    query->is_closed = true;
    if (query->stored.get.request.store != NULL) {
        sl_store_take_back(&query->stored.get.request);
    }
    if (query->stored.list.request.store != NULL) {
        sl_store_take_back(&query->stored.list.request);
    }
    if (query->may_wait) {
        sl_runtime_hold(query->runtime);
        (void)atomic_fetch_add_explicit(&query->n_refs, 1, memory_order_relaxed);
        sl_loop_post(query->runtime->loops[query->list.loop].base, &query->close_task);
    }
    return NULL;
}
