/* Each write of the SQLite store, inside a transaction that somebody else begins and commits.
 *
 * A write looks before it changes anything: one that is refused leaves no trace, so that its
 * neighbours in the transaction go on. */
#include <stdio.h>
#include <sys/statvfs.h>

#include "runtime/base/crc32c.h"
#include "runtime/base/mem.h"
#include "runtime/store/pairs.h"
#include "runtime/store/sqlite_private.h"

enum { METADATA_BYTES = 2 * 1024 * 1024, DIGEST_BYTES = 64, SPACE_LOOK_MS = 1000 };

#define STATEMENT(name)                                                                            \
    int rc = SQLITE_OK;                                                                            \
    sqlite3_stmt *statement = sl_sqlite_statement(&store->writer.db, SL_SQL_##name, &rc);          \
    if (statement == NULL) {                                                                       \
        return rc;                                                                                 \
    }

static int refuse(struct sl_store_request *request, enum sl_status status, const char *why)
{
    request->status = status;
    request->why = why;
    return SQLITE_OK;
}

/* ---- Beginning ---------------------------------------------------------------------------------
 */

static bool is_space_low(struct sl_sqlite *store)
{
    const unsigned least = store->options.min_free_percent;
    const uint64_t now_ns = sl_sqlite_now_ns();
    if (store->writer.space_looked_ns == 0 ||
        now_ns - store->writer.space_looked_ns > SPACE_LOOK_MS * SL_NS_PER_MS) {
        struct statvfs look = { 0 };
        store->writer.space_looked_ns = now_ns;
        store->writer.is_space_low = least <= 100 && statvfs(store->files.path, &look) == 0 &&
                                     look.f_bavail < look.f_blocks / 100 * least;
    }
    return store->writer.is_space_low;
}

static int add_run(
    struct sl_sqlite *store,
    const struct sl_store_run *run,
    struct sl_slice metadata,
    bool *ret_is_new,
    uint64_t *ret_number)
{
    STATEMENT(ADD_RUN)
    sl_sqlite_bind_text(statement, 1, run->run_id);
    sl_sqlite_bind_text(statement, 2, run->tenant);
    sl_sqlite_bind_text(statement, 3, run->agent);
    sl_sqlite_bind_text(statement, 4, run->session_id);
    sl_sqlite_bind_text(statement, 5, run->request_id);
    sl_sqlite_bind_bytes(statement, 6, run->digest);
    sl_sqlite_bind_number(statement, 7, run->durability);
    sl_sqlite_bind_number(statement, 8, run->on_disconnect);
    sl_sqlite_bind_number(statement, 9, run->created_ms);
    sl_sqlite_bind_bytes(statement, 10, metadata);
    sl_sqlite_bind_text(statement, 11, store->options.node);
    sl_sqlite_bind_number(statement, 12, SL_STORE_STATE_RUNNING);
    rc = sl_sqlite_run(statement);
    *ret_is_new = sqlite3_changes(store->writer.db.db) == 1;
    *ret_number = (uint64_t)sqlite3_last_insert_rowid(store->writer.db.db);
    return rc;
}

static int add_head(struct sl_sqlite *store, uint64_t number, size_t n_bytes)
{
    STATEMENT(ADD_HEAD)
    sl_sqlite_bind_number(statement, 1, number);
    sl_sqlite_bind_number(statement, 2, store->base.epoch);
    sl_sqlite_bind_number(statement, 3, n_bytes);
    store->writer.kept_change += (int64_t)n_bytes;
    return sl_sqlite_run(statement);
}

static int put_resume(struct sl_sqlite *store, uint64_t number, struct sl_slice bytes)
{
    STATEMENT(PUT_RESUME)
    sl_sqlite_bind_number(statement, 1, number);
    sl_sqlite_bind_bytes(statement, 2, bytes);
    sl_sqlite_bind_number(statement, 3, sl_crc32c(0, bytes));
    return sl_sqlite_run(statement);
}

/* The run was not added: an earlier try was committed, whatever it was told (G6). */
static int find_begun(
    struct sl_sqlite *store,
    const struct sl_store_run *run,
    bool *ret_is_begun,
    uint64_t *ret_number)
{
    STATEMENT(FIND_BEGUN)
    sl_sqlite_bind_text(statement, 1, run->run_id);
    sl_sqlite_bind_text(statement, 2, run->tenant);
    sl_sqlite_bind_number(statement, 3, store->base.epoch);
    rc = sqlite3_step(statement);
    *ret_is_begun = rc == SQLITE_ROW;
    if (rc == SQLITE_ROW) {
        *ret_number = sl_sqlite_number(statement, 0);
    }
    (void)sqlite3_reset(statement);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* Or because of its request_id, or its own id. */
static int find_request(struct sl_sqlite *store, struct sl_store_begin *begin)
{
    STATEMENT(FIND_REQUEST)
    sl_sqlite_bind_text(statement, 1, begin->run->tenant);
    sl_sqlite_bind_text(statement, 2, begin->run->request_id);
    rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW) {
        const struct sl_slice found = sl_sqlite_bytes(statement, 0);
        (void)snprintf(
            begin->found_run_id, sizeof(begin->found_run_id), "%.*s", SL_SLICE_FMT(found));
        begin->found_same = sl_slice_equals(
                                sl_sqlite_bytes(statement, 1),
                                begin->run->agent == NULL ? "" : begin->run->agent) &&
                            sl_slice_equal(sl_sqlite_bytes(statement, 2), begin->run->digest);
        rc = refuse(&begin->request, SL_ALREADY_EXISTS, NULL);
    } else if (rc == SQLITE_DONE) {
        rc = refuse(&begin->request, SL_INTERNAL, "the id of the run is taken");
    }
    (void)sqlite3_reset(statement);
    return rc;
}

static int add_rest(struct sl_sqlite *store, const struct sl_store_run *run, uint64_t number)
{
    int rc = add_head(store, number, run->context.size);
    if (rc == SQLITE_OK && run->context.size > 0) {
        rc = sl_sqlite_context_add(store, number, run);
    }
    if (rc == SQLITE_OK && run->resume.size > 0) {
        rc = put_resume(store, number, run->resume);
    }
    return rc;
}

static int begin_run(struct sl_sqlite *store, struct sl_store_begin *begin)
{
    if (is_space_low(store)) {
        return refuse(&begin->request, SL_RESOURCE_EXHAUSTED, "too little room on the disk");
    }
    struct sl_buf metadata;
    sl_buf_init(&metadata, METADATA_BYTES);
    if (begin->run->digest.size > DIGEST_BYTES ||
        sl_store_pairs_write(&metadata, begin->run->metadata, begin->run->n_metadata) != SL_OK) {
        sl_buf_done(&metadata);
        return refuse(
            &begin->request, SL_RESOURCE_EXHAUSTED,
            "no memory for the metadata, or too much of it");
    }
    bool is_new = false;
    bool is_begun = false;
    uint64_t number = 0;
    int rc = add_run(store, begin->run, sl_buf_slice(&metadata), &is_new, &number);
    sl_buf_done(&metadata);
    if (rc == SQLITE_OK && is_new) {
        rc = add_rest(store, begin->run, number);
    } else if (rc == SQLITE_OK) {
        rc = find_begun(store, begin->run, &is_begun, &number);
        if (rc == SQLITE_OK && !is_begun) {
            return find_request(store, begin);
        }
    }
    begin->log->number = number; /* for the appends behind it in the same transaction */
    begin->log->epoch = store->base.epoch;
    return rc;
}

/* ---- Events ------------------------------------------------------------------------------------
 */

struct step { /* how the head of a run is to move */
    const struct sl_store_log *log;
    const struct sl_store_range *ranges;
    size_t n_ranges;
    uint64_t first_sequence, last_sequence;
    size_t n_bytes;
    bool rests, ends;
};

/* Has this row, with these bytes. */
static int
has_row(struct sl_sqlite *store, uint64_t number, const struct sl_store_row *row, bool *ret_has)
{
    STATEMENT(GET_ROW)
    sl_sqlite_bind_number(statement, 1, number);
    sl_sqlite_bind_number(statement, 2, row->last_sequence);
    rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW) {
        *ret_has = sl_sqlite_number(statement, 0) == row->first_sequence &&
                   sl_slice_equal(sl_sqlite_bytes(statement, 2), row->bytes);
    }
    (void)sqlite3_reset(statement);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* Is all of it there already? Then an earlier try was committed, whatever it was told (G6). */
static int has_step(struct sl_sqlite *store, const struct step *step, bool *ret_has)
{
    struct sl_store_cutter cutter;
    struct sl_store_row row;
    sl_store_cutter_init(
        &cutter, step->ranges, step->n_ranges, step->first_sequence, store->writer.scratch);
    int rc = SQLITE_OK;
    bool has = step->n_ranges > 0;
    while (has && rc == SQLITE_OK && sl_store_cutter_next(&cutter, &row)) {
        has = false;
        rc = has_row(store, step->log->number, &row, &has);
    }
    *ret_has = has;
    return rc;
}

/* The head did not move: why? */
static int
explain(struct sl_sqlite *store, struct sl_store_request *request, const struct step *step)
{
    STATEMENT(GET_HEAD)
    sl_sqlite_bind_number(statement, 1, step->log->number);
    rc = sqlite3_step(statement);
    const uint64_t epoch = sl_sqlite_number(statement, 0);
    const uint64_t last_sequence = sl_sqlite_number(statement, 1);
    (void)sqlite3_reset(statement);
    if (rc == SQLITE_DONE) {
        return refuse(request, SL_NOT_FOUND, "there is no such run");
    }
    if (rc != SQLITE_ROW) {
        return rc;
    }
    if (epoch != step->log->epoch) {
        return refuse(request, SL_ABORTED, "another owner has the run");
    }
    bool has = false;
    rc = last_sequence >= step->last_sequence ? has_step(store, step, &has) : SQLITE_OK;
    if (rc == SQLITE_OK && !has) {
        return refuse(request, SL_FAILED_PRECONDITION, "the events do not follow what is stored");
    }
    return rc;
}

static int move_head(struct sl_sqlite *store, const struct step *step)
{
    STATEMENT(MOVE_HEAD)
    sl_sqlite_bind_number(statement, 1, step->log->number);
    sl_sqlite_bind_number(statement, 2, step->log->epoch);
    sl_sqlite_bind_number(statement, 3, step->first_sequence - 1);
    sl_sqlite_bind_number(statement, 4, step->last_sequence);
    sl_sqlite_bind_number(statement, 5, step->n_bytes);
    sl_sqlite_bind_number(statement, 6, step->rests ? 1 : 0);
    sl_sqlite_bind_number(statement, 7, step->ends ? 1 : 0);
    return sl_sqlite_run(statement);
}

static int add_row(struct sl_sqlite *store, uint64_t number, const struct sl_store_row *row)
{
    STATEMENT(ADD_EVENTS)
    sl_sqlite_bind_number(statement, 1, number);
    sl_sqlite_bind_number(statement, 2, row->first_sequence);
    sl_sqlite_bind_number(statement, 3, row->last_sequence);
    sl_sqlite_bind_bytes(statement, 4, row->bytes);
    sl_sqlite_bind_number(statement, 5, sl_store_row_crc(number, row));
    return sl_sqlite_run(statement);
}

static int add_rows(struct sl_sqlite *store, const struct step *step)
{
    struct sl_store_cutter cutter;
    struct sl_store_row row;
    sl_store_cutter_init(
        &cutter, step->ranges, step->n_ranges, step->first_sequence, store->writer.scratch);
    int rc = SQLITE_OK;
    while (rc == SQLITE_OK && sl_store_cutter_next(&cutter, &row)) {
        rc = add_row(store, step->log->number, &row);
    }
    store->writer.kept_change += (int64_t)step->n_bytes;
    return rc;
}

/* One run's head moves over these events, or the request says why not. `*ret_is_new`: they were
 * not there before. */
static int take_step(
    struct sl_sqlite *store, struct sl_store_request *request, struct step *step, bool *ret_is_new)
{
    uint64_t n_events = 0;
    if (!sl_store_count_ranges(step->ranges, step->n_ranges, &n_events, &step->n_bytes) ||
        step->first_sequence == 0 || n_events != step->last_sequence + 1 - step->first_sequence) {
        return refuse(request, SL_INTERNAL, "the ranges are not the events that they should be");
    }
    int rc = move_head(store, step);
    if (rc != SQLITE_OK) {
        return rc;
    }
    if (sqlite3_changes(store->writer.db.db) == 1) {
        *ret_is_new = true;
        return add_rows(store, step);
    }
    return explain(store, request, step);
}

static int set_state(struct sl_sqlite *store, uint64_t number, enum sl_store_state state)
{
    STATEMENT(SET_STATE)
    sl_sqlite_bind_number(statement, 1, number);
    sl_sqlite_bind_number(statement, 2, state);
    return sl_sqlite_run(statement);
}

static int set_lost(struct sl_sqlite *store, uint64_t number, uint64_t after_sequence)
{
    STATEMENT(SET_LOST)
    sl_sqlite_bind_number(statement, 1, number);
    sl_sqlite_bind_number(statement, 2, after_sequence);
    return sl_sqlite_run(statement);
}

static int append(struct sl_sqlite *store, struct sl_store_append *append)
{
    struct step step = {
        .log = append->log,
        .ranges = append->ranges,
        .n_ranges = append->n_ranges,
        .first_sequence = append->first_sequence,
        .last_sequence = append->last_sequence,
        .rests = append->rests,
    };
    bool is_new = false;
    int rc = take_step(store, &append->request, &step, &is_new);
    if (rc == SQLITE_OK && is_new && append->state != SL_STORE_STATE_ANY) {
        rc = set_state(store, append->log->number, append->state);
    }
    if (rc == SQLITE_OK && is_new && append->has_lost) {
        rc = set_lost(store, append->log->number, append->first_sequence - 1);
    }
    if (rc == SQLITE_OK && is_new && append->resume.size > 0) {
        rc = put_resume(store, append->log->number, append->resume);
    }
    return rc;
}

/* ---- Conversations, and the end ----------------------------------------------------------------
 */

/* What the write of this conversation adds to all of them. */
static int count_session(struct sl_sqlite *store, const struct sl_store_session *session)
{
    STATEMENT(GET_SESSION_SIZE)
    sl_sqlite_bind_text(statement, 1, session->tenant);
    sl_sqlite_bind_text(statement, 2, session->agent);
    sl_sqlite_bind_text(statement, 3, session->session_id);
    rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW) {
        store->writer.session_bytes_change -= (int64_t)sl_sqlite_number(statement, 0);
    } else if (rc == SQLITE_DONE) {
        store->writer.n_sessions_change++;
    }
    (void)sqlite3_reset(statement);
    store->writer.session_bytes_change += (int64_t)session->messages.size;
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int put_session(struct sl_sqlite *store, const struct sl_store_session *session)
{
    const int counted = count_session(store, session);
    if (counted != SQLITE_OK) {
        return counted;
    }
    STATEMENT(PUT_SESSION)
    sl_sqlite_bind_text(statement, 1, session->tenant);
    sl_sqlite_bind_text(statement, 2, session->agent);
    sl_sqlite_bind_text(statement, 3, session->session_id);
    sl_sqlite_bind_bytes(statement, 4, session->messages);
    sl_sqlite_bind_number(statement, 5, sl_crc32c(0, session->messages));
    sl_sqlite_bind_number(statement, 6, sl_sqlite_wall_ms(store));
    return sl_sqlite_run(statement);
}

static int take_context(struct sl_sqlite *store, const struct sl_store_save *save)
{
    const uint64_t number = save->log->number;
    const struct sl_slice messages = save->session->messages;
    const int rc = sl_sqlite_context_put(store, number, save->context_sequence, false, messages);
    return rc == SQLITE_OK ? sl_sqlite_context_set_session(store, number, messages) : rc;
}

static int save(struct sl_sqlite *store, struct sl_store_save *save)
{
    if (save->log != NULL && save->log->durability != SL_STORE_NONE) {
        STATEMENT(GET_HEAD)
        sl_sqlite_bind_number(statement, 1, save->log->number);
        rc = sqlite3_step(statement);
        const uint64_t epoch = sl_sqlite_number(statement, 0);
        (void)sqlite3_reset(statement);
        if (rc == SQLITE_DONE) {
            return refuse(&save->request, SL_NOT_FOUND, "there is no such run");
        }
        if (rc != SQLITE_ROW) {
            return rc;
        }
        if (epoch != save->log->epoch) {
            return refuse(&save->request, SL_ABORTED, "another owner has the run");
        }
    }
    int rc = put_session(store, save->session);
    if (rc == SQLITE_OK && save->log != NULL && save->context_sequence > 0) {
        rc = take_context(store, save);
    }
    return rc;
}

static int set_ended(struct sl_sqlite *store, const struct sl_store_end *end)
{
    STATEMENT(SET_ENDED)
    sl_sqlite_bind_number(statement, 1, end->log->number);
    sl_sqlite_bind_number(statement, 2, end->state);
    sl_sqlite_bind_number(statement, 3, end->ended_ms > 0 ? end->ended_ms : 1);
    return sl_sqlite_run(statement);
}

static int drop_resume(struct sl_sqlite *store, uint64_t number)
{
    STATEMENT(DROP_RESUME)
    sl_sqlite_bind_number(statement, 1, number);
    return sl_sqlite_run(statement);
}

static int put_session_of_end(struct sl_sqlite *store, const struct sl_store_end *end)
{
    bool owns = true;
    if (end->session_if_own) {
        const int rc = sl_sqlite_context_owns_session(store, end->log->number, end->session, &owns);
        if (rc != SQLITE_OK) {
            return rc;
        }
    }
    return owns ? put_session(store, end->session) : SQLITE_OK;
}

static int end_run(struct sl_sqlite *store, struct sl_store_end *end)
{
    struct step step = {
        .log = end->log,
        .ranges = &end->range,
        .n_ranges = 1,
        .first_sequence = end->sequence,
        .last_sequence = end->sequence,
        .ends = true,
    };
    bool is_new = false;
    int rc = take_step(store, &end->request, &step, &is_new);
    if (rc != SQLITE_OK || !is_new) {
        return rc;
    }
    rc = set_ended(store, end);
    if (rc == SQLITE_OK) {
        rc = drop_resume(store, end->log->number);
    }
    if (rc == SQLITE_OK && end->has_lost) {
        rc = set_lost(store, end->log->number, end->sequence - 1);
    }
    if (rc == SQLITE_OK && end->session != NULL) {
        rc = put_session_of_end(store, end);
    }
    if (rc == SQLITE_OK && end->context.size > 0) {
        rc = sl_sqlite_context_put(store, end->log->number, end->sequence, true, end->context);
    }
    return rc;
}

/* ---- Recovery ----------------------------------------------------------------------------------
 */

static int
find_orphan(struct sl_sqlite *store, struct sl_store_recover *recover, uint64_t *ret_number)
{
    STATEMENT(NEXT_ORPHAN)
    sl_sqlite_bind_number(statement, 1, store->writer.recover_after);
    sl_sqlite_bind_number(statement, 2, store->base.epoch);
    sl_sqlite_bind_number(statement, 3, store->writer.unsure_to);
    rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW) {
        *ret_number = sl_sqlite_fill_numbers(statement, &recover->run);
        rc = sl_sqlite_fill_run(statement, &recover->request.memory, &recover->run) ? SQLITE_OK
                                                                                    : SQLITE_NOMEM;
    } else if (rc == SQLITE_DONE) {
        rc = refuse(&recover->request, SL_END, NULL);
    }
    (void)sqlite3_reset(statement);
    return rc;
}

static int read_resume(struct sl_sqlite *store, struct sl_store_recover *recover, uint64_t number)
{
    STATEMENT(GET_RESUME)
    sl_sqlite_bind_number(statement, 1, number);
    rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW) {
        /* A damaged one cannot be used: the run will be closed. */
        const bool is_sound =
            sl_crc32c(0, sl_sqlite_bytes(statement, 0)) == sl_sqlite_number(statement, 1);
        if (is_sound) {
            recover->run.resume = sl_sqlite_copy_of(statement, 0, &recover->request.memory);
        }
        rc = recover->request.memory.is_refused ? SQLITE_NOMEM : SQLITE_OK;
    } else if (rc == SQLITE_DONE) {
        rc = SQLITE_OK;
    }
    (void)sqlite3_reset(statement);
    return rc;
}

static int claim(struct sl_sqlite *store, uint64_t number)
{
    STATEMENT(CLAIM)
    sl_sqlite_bind_number(statement, 1, number);
    sl_sqlite_bind_number(statement, 2, store->base.epoch);
    return sl_sqlite_run(statement);
}

static int set_node(struct sl_sqlite *store, uint64_t number)
{
    STATEMENT(SET_NODE)
    sl_sqlite_bind_number(statement, 1, number);
    sl_sqlite_bind_text(statement, 2, store->options.node);
    return sl_sqlite_run(statement);
}

static int recover(struct sl_sqlite *store, struct sl_store_recover *recover)
{
    uint64_t number = 0;
    sl_arena_done(&recover->request.memory); /* of a try that was rolled back */
    recover->run = (struct sl_store_run){ 0 };
    int rc = find_orphan(store, recover, &number);
    if (rc != SQLITE_OK || recover->request.status == SL_END) {
        return rc;
    }
    rc = claim(store, number);
    if (rc == SQLITE_OK) {
        rc = set_node(store, number);
    }
    if (rc == SQLITE_OK) {
        rc = read_resume(store, recover, number);
    }
    if (rc == SQLITE_OK) {
        rc = sl_sqlite_context_read(
            &store->writer.db, number, &recover->request.memory, &recover->run);
    }
    if (!recover->run.is_rested && !recover->run.is_recovered) {
        recover->run.is_recovered = true;
        recover->run.recovered_after = recover->run.last_sequence;
    }
    recover->run.epoch = store->base.epoch;
    *recover->log = (struct sl_store_log){
        .durability = recover->run.durability,
        .number = number,
        .epoch = store->base.epoch,
        .stored = recover->run.last_sequence,
    };
    store->writer.recover_after = number;
    return rc;
}

/* ---- All of them -------------------------------------------------------------------------------
 */

int sl_sqlite_write(struct sl_sqlite *store, struct sl_store_request *request)
{
    request->status = SL_OK;
    request->why = NULL;
    switch (request->kind) {
    case SL_STORE_BEGIN:
        return begin_run(store, SL_CONTAINER(request, struct sl_store_begin, request));
    case SL_STORE_APPEND:
        return append(store, SL_CONTAINER(request, struct sl_store_append, request));
    case SL_STORE_END:
        return end_run(store, SL_CONTAINER(request, struct sl_store_end, request));
    case SL_STORE_SAVE:
        return save(store, SL_CONTAINER(request, struct sl_store_save, request));
    case SL_STORE_RECOVER:
        return recover(store, SL_CONTAINER(request, struct sl_store_recover, request));
    case SL_STORE_RENEW:
    case SL_STORE_READ:
    case SL_STORE_GET:
    case SL_STORE_LIST:
    case SL_STORE_LOAD:
        break;
    }
    return refuse(request, SL_INTERNAL, "this is no write");
}

static void settle_append(struct sl_sqlite *store, struct sl_store_append *append, bool is_written)
{
    if (is_written && append->request.status == SL_OK) {
        append->log->stored = append->last_sequence;
        (void)atomic_fetch_add_explicit(&store->base.counts.appends, 1, memory_order_relaxed);
        (void)atomic_fetch_add_explicit(
            &store->base.counts.event_bytes, append->request.charged_bytes, memory_order_relaxed);
    }
    for (uint32_t i = 0; i < append->n_ranges; i++) {
        (void)sl_segment_unref(append->ranges[i].segment);
    }
    sl_store_queue_discharge(&store->writes, &append->request, append->log);
}

void sl_sqlite_settle(struct sl_sqlite *store, struct sl_store_request *request, bool is_written)
{
    if (request->kind == SL_STORE_APPEND) {
        settle_append(store, SL_CONTAINER(request, struct sl_store_append, request), is_written);
    } else if (request->kind == SL_STORE_END) {
        struct sl_store_end *end = SL_CONTAINER(request, struct sl_store_end, request);
        (void)sl_segment_unref(end->range.segment);
    } else if (request->kind == SL_STORE_BEGIN && !is_written) {
        SL_CONTAINER(request, struct sl_store_begin, request)->log->number = 0;
    } else if (request->kind == SL_STORE_RECOVER && !is_written) {
        SL_CONTAINER(request, struct sl_store_recover, request)->log->number = 0;
        sl_arena_done(&request->memory);
    }
}
