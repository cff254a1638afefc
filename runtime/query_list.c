/* A list of runs, newest first: those that only memory has, and those of the store.
 *
 *   loop 0 ─ 1 ─ … (which ones) ─▶ home: the store's, and the page is chosen
 *                                  ─▶ loop 0 ─ 1 ─ … (what memory knows of them) ─▶ home
 *
 * Each of the two is in an order of its own that new runs do not shift, and a page's token has a
 * place in both: so each run is there once, whatever else happens. */
#include <inttypes.h>
#include <stdio.h>

#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "runtime/exec/encode.h"
#include "runtime/query_private.h"
#include "runtime/queued.h"

/* A page is cut where the runs of it would be more than this: a reply has to hold it. */
enum { PAGE_BYTES = 2 * 1024 * 1024, RUN_BYTES = 256, ID_SIZE = SL_ID_BYTES - 1 };
/* Runs that are looked at before others have their turn on the loop. */
enum { RUNS_PER_TASK = 1000 };
enum { NO_MORE = 1 }; /* numbers of the store begin with it */
static const uint32_t NO_LOOP =
    UINT32_MAX; /* memory knows nothing of it, or no more than the store */

/* One that is on the page, perhaps. */
struct sl_query_entry {
    struct sl_query_place place;
    const struct sl_store_run *stored; /* NULL: only memory has it */
    uint32_t loop;
    uint64_t bytes;
};

/* ---- Which ones: memory ------------------------------------------------------------------------
 */

/* < 0: `a` stands before `b`. */
static int compare(const struct sl_query_place *a, const struct sl_query_place *b)
{
    if (a->created_ms != b->created_ms) {
        return a->created_ms > b->created_ms ? -1 : 1;
    }
    return strcmp(b->run_id, a->run_id);
}

static struct sl_query_place place_of(const struct sl_known_run *known)
{
    struct sl_query_place place = { .created_ms = known->created_ms };
    memcpy(place.run_id, known->entry.run_id, sizeof(place.run_id));
    return place;
}

static uint64_t measure_pairs(const struct sl_store_pair *pairs, size_t n_pairs)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < n_pairs; i++) {
        bytes += strlen(pairs[i].key) + strlen(pairs[i].value);
    }
    return bytes;
}

/* About what the run takes in a reply. */
static uint64_t measure(const struct sl_known_run *known)
{
    uint64_t bytes = RUN_BYTES + measure_pairs(known->metadata, known->n_metadata);
    if (known->has_ended) {
        bytes += sl_event_channel_last_event(known->channel).size;
    }
    return bytes;
}

static bool fits(const struct sl_run_query *query, const struct sl_known_run *known)
{
    const struct sl_run_ask *ask = &query->ask;
    const struct sl_query_place place = place_of(known);
    return strcmp(known->tenant, ask->tenant) == 0 &&
           (ask->agent[0] == '\0' || strcmp(known->agent, ask->agent) == 0) &&
           (ask->session_id[0] == '\0' ||
            (known->session_id != NULL && strcmp(known->session_id, ask->session_id) == 0)) &&
           (ask->stage == SL_RUN_STAGE_ANY || ask->stage == sl_run_info_stage(known)) &&
           !sl_known_is_recorded(known) && compare(&query->list.start, &place) < 0;
}

/* One more than the page has is looked for: then there is another page. `known`: NULL, or the run
 * that has to be measured. */
static void
add_entry(struct sl_run_query *query, struct sl_query_entry entry, const struct sl_known_run *known)
{
    struct sl_query_entry *entries = query->list.memory;
    const size_t max = query->ask.page_size + 1;
    size_t i = query->list.n_memory;
    entry.loop = query->list.loop;
    if (i == max && compare(&entries[i - 1].place, &entry.place) < 0) {
        return;
    }
    entry.bytes = known != NULL ? measure(known) : entry.bytes;
    i -= i == max ? 1 : 0; /* the last one falls out */
    query->list.n_memory = i + 1;
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
        struct sl_query_entry entry = { .place.created_ms = stream->reader.queued_ms,
                                        .bytes = sl_queued_bytes(stream) };
        memcpy(entry.place.run_id, stream->run_id, sizeof(entry.place.run_id));
        if (sl_queued_fits(stream, &query->ask) && compare(&query->list.start, &entry.place) < 0) {
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
            const struct sl_query_entry entry = { .place = place_of(known) };
            add_entry(query, entry, known);
        }
    }
    if (!query->list.is_walking) {
        look_through_queue(query, at);
    }
    return !query->list.is_walking;
}

/* ---- Which ones: the page ----------------------------------------------------------------------
 */

static struct sl_query_entry entry_of(struct sl_run_query *query, const struct sl_store_run *run)
{
    struct sl_query_entry entry = { .place.created_ms = run->created_ms,
                                    .stored = run,
                                    .bytes = RUN_BYTES + run->terminal.size +
                                             measure_pairs(run->metadata, run->n_metadata) };
    (void)snprintf(entry.place.run_id, sizeof(entry.place.run_id), "%s", run->run_id);
    if (run->ended_ms > 0 ||
        !sl_directory_find_run(query->runtime->directory, run->run_id, &entry.loop)) {
        entry.loop = NO_LOOP;
    }
    return entry;
}

/* How far the page has come in memory's runs and in the store's. */
struct merge {
    size_t n_memory, n_stored;
};

/* False: there is no next one, or it is on a page of the store that was not read yet. */
static bool
take_next(struct sl_run_query *query, struct merge *merge, struct sl_query_entry *ret_entry)
{
    const struct sl_store_list *stored = &query->stored.list;
    const struct sl_query_entry *entry =
        merge->n_memory < query->list.n_memory ? &query->list.memory[merge->n_memory] : NULL;
    const struct sl_store_run *run =
        merge->n_stored < stored->n_runs ? &stored->runs[merge->n_stored] : NULL;
    if (run == NULL && (entry == NULL || stored->next != 0)) {
        return false;
    }
    if (run == NULL || (entry != NULL && entry->place.created_ms >= run->created_ms)) {
        *ret_entry = *entry;
        merge->n_memory++;
    } else {
        *ret_entry = entry_of(query, run);
        merge->n_stored++;
    }
    return true;
}

/* The page ends where it is full, or its runs are too large. */
static enum sl_status choose_page(struct sl_run_query *query)
{
    const size_t max = query->ask.page_size;
    struct sl_query_entry *page = sl_arena_calloc(&query->arena, max, sizeof(*page));
    struct merge merge = { .n_memory = 0 };
    uint64_t bytes = 0;
    size_t n = 0;
    if (page == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    while (n < max && take_next(query, &merge, &page[n]) &&
           (n == 0 || bytes + page[n].bytes <= PAGE_BYTES)) {
        bytes += page[n].bytes;
        n++;
    }
    query->list.page = page;
    query->list.n_page = n;
    query->list.page_bytes = bytes;
    return SL_OK;
}

/* The next page begins behind this one, in both. */
static void make_token(struct sl_run_query *query)
{
    const struct sl_store_list *stored = &query->stored.list;
    const struct sl_query_place *last = &query->list.start;
    uint64_t before = query->list.before;
    struct merge merge = { .n_memory = 0 };
    for (size_t i = 0; i < query->list.n_page; i++) {
        if (query->list.page[i].stored != NULL) {
            before = stored->runs[merge.n_stored++].number;
        } else {
            last = &query->list.memory[merge.n_memory++].place;
        }
    }
    const bool has_stored = merge.n_stored < stored->n_runs;
    if (!has_stored) {
        before = stored->next == 0 ? NO_MORE : stored->next;
    }
    if (has_stored || stored->next != 0 || merge.n_memory < query->list.n_memory) {
        (void)snprintf(
            query->token, sizeof(query->token), "%" PRIu64 ".%s.%" PRIu64, last->created_ms,
            last->run_id, before);
    }
}

/* ---- What of them ------------------------------------------------------------------------------
 */

/* What the store says of those that are there; memory may know more, and alone knows who waits for
 * a decision. */
static enum sl_status fill_stored(struct sl_run_query *query)
{
    enum sl_status status = SL_OK;
    for (size_t i = 0; i < query->list.n_page && status == SL_OK; i++) {
        const struct sl_store_run *run = query->list.page[i].stored;
        if (run != NULL && query->ask.stage != SL_RUN_STAGE_WAITING_APPROVAL) {
            status = sl_query_fill_stored(run, &query->arena, &query->infos[i]);
        }
    }
    return status;
}

/* False: the run has grown since it was measured (it has ended, say), and the page ends before it.
 */
static bool fits_still(struct sl_run_query *query, const struct sl_known_run *known, size_t i)
{
    const uint64_t bytes = measure(known);
    const uint64_t before = query->list.page[i].bytes;
    const uint64_t grown = bytes > before ? bytes - before : 0;
    if (i > 0 && grown > 0 && query->list.page_bytes + grown > PAGE_BYTES) {
        query->list.n_page = i;
        return false;
    }
    query->list.page_bytes += grown;
    return true;
}

/* It has begun since it was seen waiting for its session, and the store has it on this page. */
static bool is_listed(const struct sl_run_query *query, const char *run_id)
{
    bool is_it = false;
    for (size_t i = 0; i < query->list.n_page && !is_it; i++) {
        const struct sl_store_run *run = query->list.page[i].stored;
        is_it = run != NULL && strcmp(run->run_id, run_id) == 0;
    }
    return is_it;
}

/* One that the store has. If it has ended since the store was asked, it stands as the store had it:
 * it was asked for by that. */
static enum sl_status
fill_both(struct sl_run_query *query, const struct sl_known_run *known, size_t i)
{
    const enum sl_run_stage stage = query->ask.stage;
    if (known == NULL || known->has_ended || !fits_still(query, known, i)) {
        return SL_OK;
    }
    if (stage != SL_RUN_STAGE_ANY && stage != sl_run_info_stage(known)) {
        query->infos[i] = (struct sl_run_info){ .run_id = NULL };
        return SL_OK;
    }
    return sl_run_info_fill(known, false, &query->arena, &query->infos[i]);
}

/* One of the page; it may have been forgotten meanwhile. */
static enum sl_status fill_entry(struct sl_run_query *query, struct sl_runtime_loop *at, size_t i)
{
    const struct sl_query_entry *entry = &query->list.page[i];
    const char *run_id = entry->stored != NULL ? entry->stored->run_id : entry->place.run_id;
    const struct sl_known_run *known = sl_known_find(at, run_id, query->ask.tenant);
    if (entry->stored != NULL) {
        return fill_both(query, known, i);
    }
    const struct sl_run_stream *queued =
        known != NULL ? NULL : sl_queued_find(at, run_id, query->ask.tenant);
    if (queued != NULL) {
        return sl_queued_fill(queued, &query->arena, &query->infos[i]);
    }
    if (known == NULL || (sl_known_is_recorded(known) && is_listed(query, run_id)) ||
        !fits_still(query, known, i)) {
        return SL_OK;
    }
    return sl_run_info_fill(known, false, &query->arena, &query->infos[i]);
}

static enum sl_status fill_page(struct sl_run_query *query, struct sl_runtime_loop *at)
{
    enum sl_status status = SL_OK;
    for (size_t i = 0; i < query->list.n_page && status == SL_OK; i++) {
        if (query->list.page[i].loop == query->list.loop) {
            status = fill_entry(query, at, i);
        }
    }
    return status;
}

static void close_gaps(struct sl_run_query *query)
{
    for (size_t i = 0; i < query->list.n_page; i++) {
        if (query->infos[i].run_id != NULL) {
            query->infos[query->answer.n_runs++] = query->infos[i];
        }
    }
}

/* ---- The way -----------------------------------------------------------------------------------
 */

static void run_list(struct sl_task *task);

static void go_on_with_page(struct sl_run_query *query)
{
    enum sl_status status = choose_page(query);
    if (status == SL_OK) {
        status = fill_stored(query);
    }
    if (status != SL_OK) {
        sl_query_go_home(query, status);
        return;
    }
    query->list.is_second_round = true;
    query->task.run = run_list;
    sl_query_go_to(query, 0);
}

static void store_listed(struct sl_run_query *query, enum sl_status status)
{
    if (status == SL_OK) {
        go_on_with_page(query);
    } else {
        sl_query_go_home(query, sl_query_status_of_store(status));
    }
}

static void on_listed(struct sl_store_request *request)
{
    store_listed(SL_CONTAINER(request, struct sl_run_query, stored.list.request), request->status);
}

static enum sl_store_state state_of(enum sl_run_stage stage)
{
    static const enum sl_store_state states[] = {
        [SL_RUN_STAGE_ANY] = SL_STORE_STATE_ANY,
        [SL_RUN_STAGE_QUEUED] = SL_STORE_STATE_QUEUED,
        [SL_RUN_STAGE_RUNNING] = SL_STORE_STATE_RUNNING,
        [SL_RUN_STAGE_WAITING_APPROVAL] = SL_STORE_STATE_RUNNING, /* which of them, memory knows */
        [SL_RUN_STAGE_DONE] = SL_STORE_STATE_DONE,
        [SL_RUN_STAGE_FAILED] = SL_STORE_STATE_FAILED,
        [SL_RUN_STAGE_CANCELLED] = SL_STORE_STATE_CANCELLED,
    };
    return states[stage];
}

/* At home. */
static void run_store(struct sl_task *task)
{
    struct sl_run_query *query = SL_CONTAINER(task, struct sl_run_query, task);
    const size_t page_size = query->ask.page_size;
    query->stored.list = (struct sl_store_list){
        .request = sl_query_request(query, on_listed),
        .tenant = query->ask.tenant,
        .agent = query->ask.agent,
        .session_id = query->ask.session_id,
        .state = state_of(query->ask.stage),
        .page_size = page_size < SL_STORE_PAGE ? page_size : SL_STORE_PAGE,
        .before = query->list.before,
    };
    const enum sl_status status = sl_store_list(query->runtime->store, &query->stored.list);
    if (status != SL_PENDING) {
        store_listed(query, status);
    }
}

static void end_round(struct sl_run_query *query)
{
    if (query->list.is_second_round) {
        make_token(query);
        close_gaps(query);
        sl_query_go_home(query, SL_OK);
    } else if (query->runtime->has_store) {
        query->task.run = run_store;
        sl_query_go_to(query, query->home->index);
    } else {
        go_on_with_page(query);
    }
}

static void run_list(struct sl_task *task)
{
    struct sl_run_query *query = SL_CONTAINER(task, struct sl_run_query, task);
    struct sl_runtime_loop *at = &query->runtime->loops[query->list.loop];
    enum sl_status status = SL_OK;
    if (query->list.is_second_round) {
        status = fill_page(query, at);
    } else if (!look_through(query, at)) {
        sl_query_go_to(query, query->list.loop);
        return;
    }
    if (status != SL_OK) {
        sl_query_go_home(query, status);
    } else if (query->list.loop + 1 == query->runtime->n_loops) {
        end_round(query);
    } else {
        sl_query_go_to(query, query->list.loop + 1);
    }
}

/* ---- The start ---------------------------------------------------------------------------------
 */

static bool parse_number(const char *from, const char *to, uint64_t *ret_number)
{
    return sl_parse_u64(sl_slice_of(from, (size_t)(to - from)), 0, UINT64_MAX, ret_number) == SL_OK;
}

/* "MILLISECONDS.RUN_ID.NUMBER": where the page before ended, among memory's runs and the store's.
 */
static bool parse_token(struct sl_run_query *query, const char *token)
{
    struct sl_query_place *start = &query->list.start;
    const char *dot = strchr(token, '.');
    if (dot == NULL || strlen(dot) < ID_SIZE + 3 || dot[1 + ID_SIZE] != '.' ||
        memchr(dot + 1, '.', ID_SIZE) != NULL || !parse_number(token, dot, &start->created_ms) ||
        !parse_number(dot + ID_SIZE + 2, token + strlen(token), &query->list.before)) {
        return false;
    }
    memcpy(start->run_id, dot + 1, ID_SIZE);
    start->run_id[ID_SIZE] = '\0';
    return true;
}

enum sl_status sl_query_begin_list(struct sl_run_query *query)
{
    const char *token = query->ask.page_token;
    query->list.start.created_ms = UINT64_MAX; /* newer than any */
    memset(query->list.start.run_id, '0', ID_SIZE);
    if (token[0] != '\0' && !parse_token(query, token)) {
        sl_query_go_home(query, SL_INVALID_ARGUMENT);
        return SL_OK;
    }
    const size_t n = query->ask.page_size + 1;
    query->list.memory = sl_arena_calloc(&query->arena, n, sizeof(*query->list.memory));
    query->infos = sl_arena_calloc(&query->arena, n, sizeof(*query->infos));
    if (query->list.memory == NULL || query->infos == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    query->task.run = run_list;
    sl_query_go_to(query, 0);
    return SL_OK;
}
