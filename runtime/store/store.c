#include "runtime/store/store.h"

#include "runtime/base/mem.h"

/* Of what one answer holds: an event of the largest size, and the texts around it. */
enum { ANSWER_BYTES = 24 * 1024 * 1024 };

struct sl_store *sl_store_free(struct sl_store *store)
{
    if (store != NULL) {
        store->ops->free(store);
    }
    return NULL;
}

/* ---- Runs that are open ------------------------------------------------------------------------
 */

static void log_opened(struct sl_store *store, struct sl_store_log *log)
{
    log->is_open = true;
    (void)atomic_fetch_add_explicit(&store->n_open, 1, memory_order_relaxed);
}

void sl_store_log_drop(struct sl_store *store, struct sl_store_log *log)
{
    if (log->is_open) {
        log->is_open = false;
        (void)atomic_fetch_sub_explicit(&store->n_open, 1, memory_order_relaxed);
    }
}

static void run_answer(struct sl_task *task)
{
    struct sl_store_request *request = SL_CONTAINER(task, struct sl_store_request, task);
    request->on_done(request);
}

static struct sl_store_log *log_of(struct sl_store_request *request)
{
    switch (request->kind) {
    case SL_STORE_BEGIN:
        return SL_CONTAINER(request, struct sl_store_begin, request)->log;
    case SL_STORE_RECOVER:
        return SL_CONTAINER(request, struct sl_store_recover, request)->log;
    case SL_STORE_END:
        return SL_CONTAINER(request, struct sl_store_end, request)->log;
    case SL_STORE_APPEND:
    case SL_STORE_SAVE:
    case SL_STORE_RENEW:
    case SL_STORE_READ:
    case SL_STORE_GET:
    case SL_STORE_LIST:
    case SL_STORE_LOAD:
        break;
    }
    return NULL;
}

/* Nobody else looks at the log until the answer is there. */
static void count_open(struct sl_store_request *request)
{
    if (request->kind == SL_STORE_END) {
        sl_store_log_drop(request->store, log_of(request));
    } else if (log_of(request) != NULL) {
        log_opened(request->store, log_of(request));
    }
}

void sl_store_answer(struct sl_store_request *request, enum sl_status status, const char *why)
{
    request->status = status;
    request->why = why;
    if (status == SL_OK) {
        count_open(request);
    }
    request->task.run = run_answer;
    sl_loop_post(request->loop, &request->task);
}

void sl_store_request_done(struct sl_store_request *request)
{
    sl_arena_done(&request->memory);
}

/* ---- Asking ------------------------------------------------------------------------------------
 */

static enum sl_status
submit(struct sl_store *store, struct sl_store_request *request, enum sl_store_kind kind)
{
    request->store = store;
    request->kind = kind;
    request->charged_bytes = 0;
    request->is_queued = false;
    sl_list_init(&request->node);
    sl_arena_init(&request->memory, ANSWER_BYTES);
    const enum sl_status status = store->ops->submit(store, request);
    if (status == SL_OK) {
        count_open(request);
    }
    return status;
}

enum sl_status sl_store_begin_run(struct sl_store *store, struct sl_store_begin *begin)
{
    struct sl_store_log *log = begin->log;
    *log = (struct sl_store_log){ .durability = begin->run->durability };
    if (!sl_store_has(store, log->durability)) {
        return SL_UNIMPLEMENTED;
    }
    return submit(store, &begin->request, SL_STORE_BEGIN);
}

enum sl_status sl_store_append(struct sl_store *store, struct sl_store_append *append)
{
    return submit(store, &append->request, SL_STORE_APPEND);
}

enum sl_status sl_store_end_run(struct sl_store *store, struct sl_store_end *end)
{
    return submit(store, &end->request, SL_STORE_END);
}

enum sl_status sl_store_save(struct sl_store *store, struct sl_store_save *save)
{
    return submit(store, &save->request, SL_STORE_SAVE);
}

enum sl_status sl_store_recover(struct sl_store *store, struct sl_store_recover *recover)
{
    *recover->log = (struct sl_store_log){ .durability = SL_STORE_ASYNC };
    return submit(store, &recover->request, SL_STORE_RECOVER);
}

enum sl_status sl_store_renew(struct sl_store *store, struct sl_store_renew *renew)
{
    return submit(store, &renew->request, SL_STORE_RENEW);
}

enum sl_status sl_store_read(struct sl_store *store, struct sl_store_read *read)
{
    return submit(store, &read->request, SL_STORE_READ);
}

enum sl_status sl_store_get(struct sl_store *store, struct sl_store_get *get)
{
    return submit(store, &get->request, SL_STORE_GET);
}

enum sl_status sl_store_list(struct sl_store *store, struct sl_store_list *list)
{
    return submit(store, &list->request, SL_STORE_LIST);
}

enum sl_status sl_store_load(struct sl_store *store, struct sl_store_load *load)
{
    return submit(store, &load->request, SL_STORE_LOAD);
}

void sl_store_take_back(struct sl_store_request *request)
{
    if (request->store->ops->take_back(request->store, request)) {
        sl_store_answer(request, SL_CANCELLED, NULL);
    }
}

/* ---- Looking -----------------------------------------------------------------------------------
 */

bool sl_store_has(const struct sl_store *store, enum sl_store_durability durability)
{
    return store->ops->has_durability(store, durability);
}

size_t sl_store_n_open(const struct sl_store *store)
{
    return atomic_load_explicit(&store->n_open, memory_order_relaxed);
}

uint64_t sl_store_epoch(const struct sl_store *store)
{
    return store->epoch;
}

void sl_store_stats(const struct sl_store *store, struct sl_store_stats *ret_stats)
{
#define LOAD(field) atomic_load_explicit(&store->counts.field, memory_order_relaxed)
    *ret_stats = (struct sl_store_stats){
        .queued_bytes = LOAD(queued_bytes),
        .queued_requests = LOAD(queued_requests),
        .commits = LOAD(commits),
        .failed_commits = LOAD(failed_commits),
        .commit_ns = LOAD(commit_ns),
        .longest_commit_ns = LOAD(longest_commit_ns),
        .appends = LOAD(appends),
        .event_bytes = LOAD(event_bytes),
        .wal_bytes = LOAD(wal_bytes),
        .kept_bytes = LOAD(kept_bytes),
        .runs_removed = LOAD(runs_removed),
        .sessions = LOAD(sessions),
        .session_bytes = LOAD(session_bytes),
        .sessions_removed = LOAD(sessions_removed),
        .is_failing = LOAD(is_failing),
    };
#undef LOAD
}

enum sl_status sl_store_check_cursor(const struct sl_store_run *run, uint64_t after_sequence)
{
    if (after_sequence + 1 < run->floor) {
        return SL_OUT_OF_RANGE;
    }
    /* What was sent of a SYNC run was stored before. */
    const uint64_t certain =
        run->durability == SL_STORE_SYNC ? run->last_sequence : run->recovered_after;
    if (run->is_recovered && after_sequence > certain) {
        return SL_DATA_LOSS;
    }
    if (after_sequence > run->last_sequence) {
        return run->ended_ms > 0 ? SL_OUT_OF_RANGE : SL_AGAIN;
    }
    return SL_OK;
}
