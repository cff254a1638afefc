/* What is removed: runs that have ended and conversations, the oldest first, a little at a time, so
 * that appends do not wait for it. A run goes from its beginning; its floor says how far that has
 * come. */
#include "runtime/store/sqlite_private.h"

enum { STEP_ROWS = 64, STEP_BYTES = 1024 * 1024 };

#define STATEMENT(name)                                                                            \
    int rc = SQLITE_OK;                                                                            \
    sqlite3_stmt *statement = sl_sqlite_statement(&store->writer.db, SL_SQL_##name, &rc);          \
    if (statement == NULL) {                                                                       \
        return rc;                                                                                 \
    }

static int find_oldest(struct sl_sqlite *store, uint64_t *ret_number, uint64_t *ret_ended_ms)
{
    STATEMENT(OLDEST_ENDED)
    rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW) {
        *ret_number = sl_sqlite_number(statement, 0);
        *ret_ended_ms = sl_sqlite_number(statement, 1);
    }
    (void)sqlite3_reset(statement);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

struct part { /* the oldest rows of a run */
    uint64_t last_sequence, n_bytes;
    bool is_all; /* with the run's conversation */
};

static int look_at_part(struct sl_sqlite *store, uint64_t number, struct part *ret_part)
{
    STATEMENT(LOOK_EVENTS)
    sl_sqlite_bind_number(statement, 1, number);
    sl_sqlite_bind_number(statement, 2, STEP_ROWS + 1);
    *ret_part = (struct part){ .is_all = true };
    int n_rows = 0;
    while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
        const uint64_t n_bytes = sl_sqlite_number(statement, 1);
        if (n_rows == STEP_ROWS || (n_rows > 0 && ret_part->n_bytes + n_bytes > STEP_BYTES)) {
            ret_part->is_all = false;
            break;
        }
        ret_part->last_sequence = sl_sqlite_number(statement, 0);
        ret_part->n_bytes += n_bytes;
        n_rows++;
    }
    (void)sqlite3_reset(statement);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
        return rc;
    }
    uint64_t context_bytes = 0;
    rc = ret_part->is_all ? sl_sqlite_context_size(store, number, &context_bytes) : SQLITE_OK;
    ret_part->n_bytes += context_bytes;
    return rc;
}

static int
run_with(struct sl_sqlite *store, enum sl_sql sql, uint64_t number, uint64_t second, uint64_t third)
{
    int rc = SQLITE_OK;
    sqlite3_stmt *statement = sl_sqlite_statement(&store->writer.db, sql, &rc);
    if (statement == NULL) {
        return rc;
    }
    sl_sqlite_bind_number(statement, 1, number);
    if (sqlite3_bind_parameter_count(statement) > 1) {
        sl_sqlite_bind_number(statement, 2, second);
    }
    if (sqlite3_bind_parameter_count(statement) > 2) {
        sl_sqlite_bind_number(statement, 3, third);
    }
    return sl_sqlite_run(statement);
}

static int drop_part(struct sl_sqlite *store, uint64_t number, const struct part *part)
{
    int rc = run_with(store, SL_SQL_DROP_EVENTS, number, part->last_sequence, 0);
    if (rc == SQLITE_OK && !part->is_all) {
        return run_with(store, SL_SQL_SET_FLOOR, number, part->last_sequence + 1, part->n_bytes);
    }
    if (rc == SQLITE_OK) {
        rc = run_with(store, SL_SQL_DROP_RESUME, number, 0, 0);
    }
    if (rc == SQLITE_OK) {
        rc = run_with(store, SL_SQL_DROP_HEAD, number, 0, 0);
    }
    if (rc == SQLITE_OK) {
        rc = run_with(store, SL_SQL_DROP_RUN, number, 0, 0);
    }
    return rc;
}

static int step(struct sl_sqlite *store, bool *ret_is_done, struct part *ret_part)
{
    uint64_t number = 0;
    uint64_t ended_ms = 0;
    int rc = find_oldest(store, &number, &ended_ms);
    const uint64_t now_ms = sl_sqlite_wall_ms(store);
    const bool is_old = store->options.keep_ms > 0 && now_ms > ended_ms &&
                        now_ms - ended_ms > store->options.keep_ms;
    const bool is_much =
        store->options.keep_bytes > 0 && store->writer.kept_bytes > store->options.keep_bytes;
    if (rc != SQLITE_OK || number == 0 || (!is_old && !is_much)) {
        *ret_is_done = true;
        return rc;
    }
    rc = look_at_part(store, number, ret_part);
    if (rc == SQLITE_OK) {
        rc = sl_sqlite_do(&store->writer.db, SL_SQL_BEGIN_WRITE);
    }
    if (rc == SQLITE_OK) {
        rc = drop_part(store, number, ret_part);
    }
    if (rc == SQLITE_OK) {
        rc = sl_sqlite_do(&store->writer.db, SL_SQL_COMMIT);
    }
    return rc;
}

/* ---- Conversations -----------------------------------------------------------------------------
 */

struct oldest_session {
    uint64_t row, updated_ms, n_bytes;
};

static int find_oldest_session(struct sl_sqlite *store, struct oldest_session *ret_oldest)
{
    STATEMENT(OLDEST_SESSION)
    rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW) {
        ret_oldest->row = sl_sqlite_number(statement, 0);
        ret_oldest->updated_ms = sl_sqlite_number(statement, 1);
        ret_oldest->n_bytes = sl_sqlite_number(statement, 2);
    }
    (void)sqlite3_reset(statement);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int step_sessions(struct sl_sqlite *store, bool *ret_is_done)
{
    struct oldest_session oldest = { 0 };
    int rc = find_oldest_session(store, &oldest);
    const uint64_t now_ms = sl_sqlite_wall_ms(store);
    const bool is_old = store->options.keep_ms > 0 && now_ms > oldest.updated_ms &&
                        now_ms - oldest.updated_ms > store->options.keep_ms;
    const bool is_much =
        store->options.keep_bytes > 0 && store->writer.session_bytes > store->options.keep_bytes;
    *ret_is_done = rc != SQLITE_OK || oldest.row == 0 || (!is_old && !is_much);
    if (*ret_is_done) {
        return rc;
    }
    rc = run_with(store, SL_SQL_DROP_SESSION, oldest.row, 0, 0); /* alone in its transaction */
    if (rc == SQLITE_OK) {
        store->writer.n_sessions--;
        store->writer.session_bytes -= oldest.n_bytes;
        (void)atomic_fetch_add_explicit(
            &store->base.counts.sessions_removed, 1, memory_order_relaxed);
    }
    return rc;
}

bool sl_sqlite_retain(struct sl_sqlite *store)
{
    bool is_done = false;
    struct part part = { 0 };
    if (step_sessions(store, &is_done) != SQLITE_OK) {
        return false; /* the next append finds out what the matter is */
    }
    if (!is_done) {
        sl_sqlite_show_kept(store);
        return true;
    }
    is_done = false;
    const int rc = step(store, &is_done, &part);
    if (rc != SQLITE_OK) {
        if (sqlite3_get_autocommit(store->writer.db.db) == 0) {
            (void)!sl_sqlite_do(&store->writer.db, SL_SQL_ROLLBACK);
        }
        return false; /* the next append finds out what the matter is */
    }
    if (is_done) {
        return false;
    }
    store->writer.kept_bytes -=
        part.n_bytes < store->writer.kept_bytes ? part.n_bytes : store->writer.kept_bytes;
    sl_sqlite_show_kept(store);
    if (part.is_all) {
        (void)atomic_fetch_add_explicit(&store->base.counts.runs_removed, 1, memory_order_relaxed);
    }
    return true;
}
