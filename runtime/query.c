#include "runtime/query.h"

#include <inttypes.h>
#include <stdio.h>

#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "runtime/exec/encode.h"
#include "runtime/queued.h"

/* A page is cut where the runs of it would be more than this: a reply has to hold it. */
enum { PAGE_BYTES = 2 * 1024 * 1024, RUN_BYTES = 256, TOKEN_BYTES = 64, ID_SIZE = SL_ID_BYTES - 1 };

/* Runs that are looked at before others have their turn on the loop. */
enum { RUNS_PER_TASK = 1000 };

/* A run's place in the list: newest first, and by id where two began at once. */
struct place {
    uint64_t created_ms;
    char run_id[SL_ID_BYTES];
};

/* One that is on the page, perhaps. */
struct entry {
    struct place place;
    uint32_t loop;
    uint64_t bytes;
};

struct sl_run_query {
    struct sl_runtime *runtime;
    struct sl_loop *home;
    struct sl_task task;       /* to the next loop, and home */
    struct sl_task close_task; /* after it, to the loop where it may wait */
    atomic_uint n_refs;        /* the asker's, until it is home; that of the close */
    struct sl_run_ask ask;
    sl_run_answer_fn *on_answer;
    void *user_data;
    struct sl_list waiter_node;
    bool is_closed, is_answered; /* thread: home */
    bool may_wait;               /* for the end of a run, or room, on list.loop; thread: home */

    struct sl_arena arena;
    struct sl_run_answer answer;
    struct sl_run_info *infos;
    struct {
        uint32_t loop;   /* where it is now */
        bool is_walking; /* through the runs of that loop */
        struct sl_known_walk walk;
        bool is_second_round;
        bool has_start;
        struct place start; /* the page begins behind it */
        struct entry *entries;
        size_t n_entries;
        uint64_t page_bytes;
        bool has_more;
    } list;
    char token[TOKEN_BYTES];
};

static void unref_query(struct sl_run_query *query)
{
    if (atomic_fetch_sub_explicit(&query->n_refs, 1, memory_order_acq_rel) == 1) {
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

static void go_home(struct sl_run_query *query, enum sl_status status)
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

/* ---- One run -----------------------------------------------------------------------------------
 */

static bool is_said(const struct sl_run_query *query)
{
    return query->ask.kind >= SL_RUN_ASK_DECIDE;
}

/* False: it has to wait for room. */
static bool say(struct sl_run_query *query, const struct sl_known_run *known)
{
    const enum sl_status status = sl_run_say(&query->ask, known, &query->arena, &query->answer);
    if (status != SL_AGAIN) {
        go_home(query, status);
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
            go_home(query, status);
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
        go_home(query, fill_one(query, known));
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
        go_home(query, SL_NOT_FOUND);
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
        go_home(query, SL_CANCELLED);
    }
    unref_query(query);
    sl_runtime_release(runtime);
}

/* ---- A list: which ones ------------------------------------------------------------------------
 */

/* < 0: `a` stands before `b`. */
static int compare(const struct place *a, const struct place *b)
{
    if (a->created_ms != b->created_ms) {
        return a->created_ms > b->created_ms ? -1 : 1;
    }
    return strcmp(b->run_id, a->run_id);
}

static struct place place_of(const struct sl_known_run *known)
{
    struct place place = { .created_ms = known->created_ms };
    memcpy(place.run_id, known->entry.run_id, sizeof(place.run_id));
    return place;
}

static bool add_size(void *user_data, uint64_t sequence, struct sl_slice event)
{
    uint64_t *bytes = user_data;
    (void)sequence;
    *bytes += event.size;
    return false;
}

/* About what the run takes in a reply. */
static uint64_t measure(const struct sl_known_run *known)
{
    uint64_t bytes = RUN_BYTES;
    if (known->has_ended) {
        const uint64_t last = sl_event_channel_last_sequence(known->channel);
        sl_event_channel_visit(known->channel, last, last, add_size, &bytes);
    }
    for (size_t i = 0; i < known->n_metadata; i++) {
        bytes += strlen(known->metadata[i].key) + strlen(known->metadata[i].value);
    }
    return bytes;
}

static bool fits(const struct sl_run_query *query, const struct sl_known_run *known)
{
    const struct sl_run_ask *ask = &query->ask;
    const struct place place = place_of(known);
    return strcmp(known->tenant, ask->tenant) == 0 &&
           (ask->agent[0] == '\0' || strcmp(known->agent, ask->agent) == 0) &&
           (ask->session_id[0] == '\0' ||
            (known->session_id != NULL && strcmp(known->session_id, ask->session_id) == 0)) &&
           (ask->stage == SL_RUN_STAGE_ANY || ask->stage == sl_run_info_stage(known)) &&
           (!query->list.has_start || compare(&query->list.start, &place) < 0);
}

/* One more than the page has is looked for: then there is another page. `known`: NULL, or the run
 * that has to be measured. */
static void
add_entry(struct sl_run_query *query, struct entry entry, const struct sl_known_run *known)
{
    struct entry *entries = query->list.entries;
    const size_t max = query->ask.page_size + 1;
    size_t i = query->list.n_entries;
    entry.loop = query->list.loop;
    if (i == max && compare(&entries[i - 1].place, &entry.place) < 0) {
        return;
    }
    entry.bytes = known != NULL ? measure(known) : entry.bytes;
    i -= i == max ? 1 : 0; /* the last one falls out */
    query->list.n_entries = i + 1;
    while (i > 0 && compare(&entry.place, &entries[i - 1].place) < 0) {
        entries[i] = entries[i - 1];
        i--;
    }
    entries[i] = entry;
}

/* Those whose readers are here. */
static void look_through_queue(struct sl_run_query *query, struct sl_runtime_loop *at)
{
    SL_LIST_EACH(node, &at->loop.queued) {
        const struct sl_run_stream *stream =
            SL_CONTAINER(node, struct sl_run_stream, reader.queued_node);
        struct entry entry = { .place.created_ms = stream->reader.queued_ms,
                               .bytes = sl_queued_bytes(stream) };
        memcpy(entry.place.run_id, stream->run_id, sizeof(entry.place.run_id));
        if (sl_queued_fits(stream, &query->ask) &&
            (!query->list.has_start || compare(&query->list.start, &entry.place) < 0)) {
            add_entry(query, entry, NULL);
        }
    }
}

/* All runs of the loop, for the clock may have been set back while they began. False: it goes on in
 * another task. */
static bool look_through(struct sl_run_query *query, struct sl_runtime_loop *at)
{
    struct sl_known_walk *walk = &query->list.walk;
    if (!query->list.is_walking) {
        sl_known_walk_begin(walk, at);
    }
    query->list.is_walking = true;
    for (size_t i = 0; i < RUNS_PER_TASK && query->list.is_walking; i++) {
        const struct sl_known_run *known = sl_known_walk_on(walk, at);
        query->list.is_walking = known != NULL;
        if (known != NULL && fits(query, known)) {
            const struct entry entry = { .place = place_of(known) };
            add_entry(query, entry, known);
        }
    }
    if (!query->list.is_walking) {
        look_through_queue(query, at);
    }
    return !query->list.is_walking;
}

/* The page ends where it is full, or its runs are too large. */
static void cut_page(struct sl_run_query *query)
{
    const size_t max = query->ask.page_size;
    uint64_t bytes = 0;
    size_t n = 0;
    while (n < query->list.n_entries && n < max) {
        const uint64_t more = query->list.entries[n].bytes;
        if (n > 0 && bytes + more > PAGE_BYTES) {
            break;
        }
        bytes += more;
        n++;
    }
    query->list.has_more = n < query->list.n_entries;
    query->list.n_entries = n;
    query->list.page_bytes = bytes;
}

/* ---- A list: what of them ----------------------------------------------------------------------
 */

/* False: the run has grown since it was measured (it has ended, say), and the page ends before it.
 */
static bool fits_still(struct sl_run_query *query, const struct sl_known_run *known, size_t i)
{
    const uint64_t bytes = measure(known);
    const uint64_t before = query->list.entries[i].bytes;
    const uint64_t grown = bytes > before ? bytes - before : 0;
    if (i > 0 && grown > 0 && query->list.page_bytes + grown > PAGE_BYTES) {
        query->list.n_entries = i;
        query->list.has_more = true;
        return false;
    }
    query->list.page_bytes += grown;
    return true;
}

/* One of the page; it may have been forgotten meanwhile. */
static enum sl_status fill_entry(struct sl_run_query *query, struct sl_runtime_loop *at, size_t i)
{
    const char *run_id = query->list.entries[i].place.run_id;
    const struct sl_known_run *known = sl_known_find(at, run_id, query->ask.tenant);
    const struct sl_run_stream *queued =
        known != NULL ? NULL : sl_queued_find(at, run_id, query->ask.tenant);
    if (queued != NULL) {
        return sl_queued_fill(queued, &query->arena, &query->infos[i]);
    }
    if (known == NULL || !fits_still(query, known, i)) {
        return SL_OK;
    }
    return sl_run_info_fill(known, false, &query->arena, &query->infos[i]);
}

static enum sl_status fill_page(struct sl_run_query *query, struct sl_runtime_loop *at)
{
    enum sl_status status = SL_OK;
    for (size_t i = 0; i < query->list.n_entries && status == SL_OK; i++) {
        if (query->list.entries[i].loop == query->list.loop) {
            status = fill_entry(query, at, i);
        }
    }
    return status;
}

/* The next page begins behind the last run of this one. */
static void make_token(struct sl_run_query *query)
{
    if (query->list.has_more && query->list.n_entries > 0) {
        const struct place *last = &query->list.entries[query->list.n_entries - 1].place;
        (void)snprintf(
            query->token, sizeof(query->token), "%" PRIu64 ".%s", last->created_ms, last->run_id);
    }
}

static void close_gaps(struct sl_run_query *query)
{
    for (size_t i = 0; i < query->list.n_entries; i++) {
        if (query->infos[i].run_id != NULL) {
            query->infos[query->answer.n_runs++] = query->infos[i];
        }
    }
}

static void go_to_loop(struct sl_run_query *query, uint32_t loop)
{
    query->list.loop = loop;
    sl_loop_post(query->runtime->loops[loop].base, &query->task);
}

static void run_list(struct sl_task *task)
{
    struct sl_run_query *query = SL_CONTAINER(task, struct sl_run_query, task);
    struct sl_runtime_loop *at = &query->runtime->loops[query->list.loop];
    enum sl_status status = SL_OK;
    if (query->list.is_second_round) {
        status = fill_page(query, at);
    } else if (!look_through(query, at)) {
        go_to_loop(query, query->list.loop);
        return;
    }
    const bool is_last_loop = query->list.loop + 1 == query->runtime->n_loops;
    if (status != SL_OK) {
        go_home(query, status);
    } else if (!is_last_loop) {
        go_to_loop(query, query->list.loop + 1);
    } else if (query->list.is_second_round) {
        make_token(query);
        close_gaps(query);
        go_home(query, SL_OK);
    } else {
        cut_page(query);
        query->list.is_second_round = true;
        go_to_loop(query, 0);
    }
}

/* ---- Asking ------------------------------------------------------------------------------------
 */

/* "MILLISECONDS.RUN_ID" of the last run of the page before. */
static bool parse_token(struct sl_run_query *query, const char *token)
{
    const char *dot = strchr(token, '.');
    struct place *start = &query->list.start;
    if (dot == NULL || strlen(dot + 1) != ID_SIZE ||
        sl_parse_u64(
            sl_slice_of(token, (size_t)(dot - token)), 0, UINT64_MAX, &start->created_ms) !=
            SL_OK) {
        return false;
    }
    memcpy(start->run_id, dot + 1, SL_ID_BYTES);
    query->list.has_start = true;
    return true;
}

static enum sl_status begin_list(struct sl_run_query *query)
{
    const char *token = query->ask.page_token;
    if (token[0] != '\0' && !parse_token(query, token)) {
        go_home(query, SL_INVALID_ARGUMENT);
        return SL_OK;
    }
    const size_t n = query->ask.page_size + 1;
    query->list.entries = sl_arena_calloc(&query->arena, n, sizeof(*query->list.entries));
    query->infos = sl_arena_calloc(&query->arena, n, sizeof(*query->infos));
    if (query->list.entries == NULL || query->infos == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    query->task.run = run_list;
    go_to_loop(query, 0);
    return SL_OK;
}

static void begin_one(struct sl_run_query *query)
{
    uint32_t loop = 0;
    if (!sl_directory_find_run(query->runtime->directory, query->ask.run_id, &loop)) {
        go_home(query, SL_NOT_FOUND);
        return;
    }
    query->task.run = run_one;
    query->may_wait = query->ask.wants_end || query->ask.kind == SL_RUN_ASK_USER_INPUT;
    go_to_loop(query, loop);
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
            status = begin_list(query);
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
    if (query->may_wait) {
        sl_runtime_hold(query->runtime);
        (void)atomic_fetch_add_explicit(&query->n_refs, 1, memory_order_relaxed);
        sl_loop_post(query->runtime->loops[query->list.loop].base, &query->close_task);
    }
    return NULL;
}
