#include <inttypes.h>
#include <stdio.h>

#include "runtime/store/sqlite_private.h"

/* What a run is stands in `runs` and hardly changes; what each append changes stands in `heads`,
 * whose rows are small, because an update writes the whole row anew. */
static const char *const steps[] = {
    "CREATE TABLE store (id INTEGER PRIMARY KEY CHECK (id = 1), schema INTEGER NOT NULL,"
    " min_reader INTEGER NOT NULL, epoch INTEGER NOT NULL);"
    "INSERT INTO store (id, schema, min_reader, epoch) VALUES (1, 1, 1, 0);"
    "CREATE TABLE runs (number INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE,"
    " tenant TEXT NOT NULL, agent TEXT NOT NULL, session_id TEXT NOT NULL,"
    " request_id TEXT NOT NULL, digest BLOB NOT NULL, durability INTEGER NOT NULL,"
    " on_disconnect INTEGER NOT NULL, created_ms INTEGER NOT NULL, metadata BLOB NOT NULL,"
    " node TEXT NOT NULL, state INTEGER NOT NULL, ended_ms INTEGER NOT NULL DEFAULT 0);"
    "CREATE INDEX runs_of_tenant ON runs (tenant, number);"
    "CREATE UNIQUE INDEX runs_of_request ON runs (tenant, request_id) WHERE request_id <> '';"
    "CREATE INDEX runs_open ON runs (number) WHERE ended_ms = 0;"
    "CREATE INDEX runs_ended ON runs (ended_ms, number) WHERE ended_ms > 0;"
    "CREATE TABLE heads (run INTEGER PRIMARY KEY, epoch INTEGER NOT NULL,"
    " last_sequence INTEGER NOT NULL DEFAULT 0, floor INTEGER NOT NULL DEFAULT 1,"
    " bytes INTEGER NOT NULL DEFAULT 0, rests INTEGER NOT NULL DEFAULT 0,"
    " is_over INTEGER NOT NULL DEFAULT 0, recovered_after INTEGER);"
    "CREATE TABLE events (run INTEGER NOT NULL, first_sequence INTEGER NOT NULL,"
    " last_sequence INTEGER NOT NULL, bytes BLOB NOT NULL, crc INTEGER NOT NULL);"
    "CREATE UNIQUE INDEX events_of_run ON events (run, last_sequence);"
    "CREATE TABLE resumes (run INTEGER PRIMARY KEY, bytes BLOB NOT NULL, crc INTEGER NOT NULL);"
    "CREATE TABLE sessions (tenant TEXT NOT NULL, agent TEXT NOT NULL, session_id TEXT NOT NULL,"
    " messages BLOB NOT NULL, crc INTEGER NOT NULL, updated_ms INTEGER NOT NULL,"
    " PRIMARY KEY (tenant, agent, session_id));"
    "CREATE INDEX sessions_by_age ON sessions (updated_ms);",
    /* A version that does not know of conversations removes runs as well, and numbers come again:
     * hence the trigger. session_crc: of the session as the run knows it; NULL: there is none. */
    "CREATE TABLE contexts (run INTEGER PRIMARY KEY, sequence INTEGER NOT NULL,"
    " is_final INTEGER NOT NULL, keeps_session INTEGER NOT NULL, session_crc INTEGER,"
    " crc INTEGER NOT NULL, bytes BLOB NOT NULL);"
    "CREATE TRIGGER contexts_go AFTER DELETE ON runs"
    " BEGIN DELETE FROM contexts WHERE run = old.number; END;",
};

const struct sl_sqlite_schema sl_sqlite_schema = {
    .steps = steps,
    .n_steps = SL_COUNT(steps),
    .min_reader = 1,
};

/* "SLUI": so that no other program's database is taken for a store. */
#define APPLICATION_ID UINT32_C(0x534C5549)

static int
read_numbers(struct sl_sqlite_db *db, const char *sql, uint64_t *ret_first, uint64_t *ret_second)
{
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(db->db, sql, -1, &statement, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(statement);
        if (rc == SQLITE_ROW) {
            *ret_first = sl_sqlite_number(statement, 0);
            *ret_second = sl_sqlite_number(statement, 1);
            rc = SQLITE_OK;
        } else if (rc == SQLITE_DONE) {
            rc = SQLITE_NOTADB; /* a store without its row */
        }
    }
    (void)sqlite3_finalize(statement);
    return rc;
}

static int
move_forward(struct sl_sqlite_db *db, const struct sl_sqlite_schema *schema, uint64_t from_version)
{
    int rc = sl_sqlite_do(db, SL_SQL_BEGIN_WRITE);
    for (uint64_t i = from_version; i < schema->n_steps && rc == SQLITE_OK; i++) {
        rc = sl_sqlite_exec(db, schema->steps[i]);
    }
    char text[128];
    (void)snprintf(
        text, sizeof(text), "UPDATE store SET schema = %" PRIu32 ", min_reader = %" PRIu32,
        schema->n_steps, schema->min_reader);
    if (rc == SQLITE_OK) {
        rc = sl_sqlite_exec(db, text);
    }
    if (rc == SQLITE_OK && from_version == 0) {
        (void)snprintf(text, sizeof(text), "PRAGMA application_id = %" PRIu32, APPLICATION_ID);
        rc = sl_sqlite_exec(db, text);
    }
    if (rc == SQLITE_OK) {
        rc = sl_sqlite_do(db, SL_SQL_COMMIT);
    }
    if (sqlite3_get_autocommit(db->db) == 0) {
        (void)!sl_sqlite_do(db, SL_SQL_ROLLBACK);
    }
    return rc;
}

static enum sl_status fail_rc(struct sl_error *err, const char *path, int rc)
{
    return sl_fail(err, sl_sqlite_status(rc), "%s: %s", path, sl_sqlite_text(rc));
}

enum sl_status sl_sqlite_schema_apply(
    struct sl_sqlite_db *db,
    const struct sl_sqlite_schema *schema,
    const char *path,
    struct sl_error *err)
{
    uint64_t application = 0;
    uint64_t tables = 0;
    int rc = read_numbers(
        db,
        "SELECT application_id, (SELECT count(*) FROM sqlite_master) FROM pragma_application_id",
        &application, &tables);
    if (rc != SQLITE_OK) {
        return fail_rc(err, path, rc);
    }
    if (tables > 0 && application != APPLICATION_ID) {
        return sl_fail(err, SL_DATA_LOSS, "%s: this is no store of sluiced", path);
    }
    uint64_t version = 0;
    uint64_t min_reader = 0;
    if (tables > 0) {
        rc = read_numbers(db, "SELECT schema, min_reader FROM store", &version, &min_reader);
        if (rc != SQLITE_OK) {
            return fail_rc(err, path, rc);
        }
    }
    if (min_reader > schema->n_steps) {
        return sl_fail(
            err, SL_FAILED_PRECONDITION,
            "%s: a newer sluiced made this store: it has version %" PRIu64
            " and can be used from version %" PRIu64 " on, and this is version %" PRIu32,
            path, version, min_reader, schema->n_steps);
    }
    if (version < schema->n_steps) {
        rc = move_forward(db, schema, version);
    }
    return rc == SQLITE_OK ? SL_OK : fail_rc(err, path, rc);
}

int sl_sqlite_schema_next_epoch(struct sl_sqlite_db *db, uint64_t *ret_epoch)
{
    int rc = sl_sqlite_exec(db, "UPDATE store SET epoch = epoch + 1");
    uint64_t nothing = 0;
    if (rc == SQLITE_OK) {
        rc = read_numbers(db, "SELECT epoch, 0 FROM store", ret_epoch, &nothing);
    }
    return rc;
}
