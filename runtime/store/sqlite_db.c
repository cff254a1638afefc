#include "runtime/store/sqlite_db.h"

#include <time.h>

#include "runtime/base/loop.h"
#include "runtime/base/mem.h"
#include "runtime/store/store.h"

enum {
    BUSY_MS = 2000,             /* another process holds the lock (S3) */
    READ_MS = 1000,             /* a reader's transaction (S6) */
    STEPS_BETWEEN_LOOKS = 10000 /* of SQLite's machine, at the clock */
};

static const char *const sql_texts[] = {
#define SQL_TEXT(name, text) [SL_SQL_##name] = (text),
    SL_SQL_MAP(SQL_TEXT)
#undef SQL_TEXT
};

uint64_t sl_sqlite_now_ns(void)
{
    struct timespec now = { 0 };
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SL_NS_PER_S + (uint64_t)now.tv_nsec;
}

/* ---- Codes -------------------------------------------------------------------------------------
 */

enum sl_status sl_sqlite_status(int rc)
{
    switch (rc & 0xFF) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return SL_OK;
    case SQLITE_NOMEM:
    case SQLITE_FULL:
    case SQLITE_TOOBIG:
        return SL_RESOURCE_EXHAUSTED;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return SL_DATA_LOSS;
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_MISUSE:
    case SQLITE_RANGE:
        return SL_INTERNAL;
    default:
        return SL_UNAVAILABLE;
    }
}

const char *sl_sqlite_text(int rc)
{
    return sqlite3_errstr(rc);
}

bool sl_sqlite_is_outage(int rc)
{
    switch (rc & 0xFF) {
    case SQLITE_NOMEM:
    case SQLITE_TOOBIG:
    case SQLITE_CORRUPT:
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_MISUSE:
    case SQLITE_RANGE:
    case SQLITE_ERROR:
        return false;
    default:
        return true;
    }
}

/* ---- Connections -------------------------------------------------------------------------------
 */

static int give_up_reading(void *user_data)
{
    const struct sl_sqlite_db *db = user_data;
    return db->busy_until_ns > 0 && sl_sqlite_now_ns() > db->busy_until_ns;
}

/* S7: one connection writes and checkpoints, itself and when it says so; the others do neither. */
static int set_up(struct sl_sqlite_db *db, enum sl_sqlite_role role, bool is_normal)
{
    (void)sqlite3_extended_result_codes(db->db, 1);
    (void)sqlite3_busy_timeout(db->db, BUSY_MS);
    (void)sqlite3_db_config(db->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(db->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    (void)sqlite3_db_config(db->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    int rc = sl_sqlite_exec(
        db,
        "PRAGMA wal_autocheckpoint = 0; PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY");
    if (rc == SQLITE_OK && role == SL_SQLITE_READER) {
        sqlite3_progress_handler(db->db, STEPS_BETWEEN_LOOKS, give_up_reading, db);
        rc = sl_sqlite_exec(db, "PRAGMA query_only = ON; PRAGMA cache_size = -512");
    } else if (rc == SQLITE_OK) {
        rc = sl_sqlite_exec(
            db, is_normal ? "PRAGMA synchronous = NORMAL; PRAGMA secure_delete = FAST"
                          : "PRAGMA synchronous = FULL; PRAGMA secure_delete = FAST");
    }
    return rc;
}

int sl_sqlite_db_open(
    struct sl_sqlite_db *db,
    const char *path,
    const char *vfs,
    enum sl_sqlite_role role,
    bool is_normal)
{
    *db = (struct sl_sqlite_db){ 0 };
    int rc = sqlite3_open_v2(
        path, &db->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, vfs);
    if (rc == SQLITE_OK) {
        rc = set_up(db, role, is_normal);
    }
    if (rc != SQLITE_OK) {
        sl_sqlite_db_close(db);
    }
    return rc;
}

void sl_sqlite_db_close(struct sl_sqlite_db *db)
{
    for (int i = 0; i < SL_SQL_COUNT; i++) {
        (void)sqlite3_finalize(db->statements[i]);
        db->statements[i] = NULL;
    }
    (void)sqlite3_close_v2(db->db);
    db->db = NULL;
}

/* ---- Statements --------------------------------------------------------------------------------
 */

sqlite3_stmt *sl_sqlite_statement(struct sl_sqlite_db *db, enum sl_sql sql, int *ret_rc)
{
    if (db->statements[sql] == NULL) {
        *ret_rc = sqlite3_prepare_v3(
            db->db, sql_texts[sql], -1, SQLITE_PREPARE_PERSISTENT, &db->statements[sql], NULL);
    } else {
        (void)sqlite3_reset(db->statements[sql]);
        (void)sqlite3_clear_bindings(db->statements[sql]);
        *ret_rc = SQLITE_OK;
    }
    return *ret_rc == SQLITE_OK ? db->statements[sql] : NULL;
}

void sl_sqlite_bind_number(sqlite3_stmt *statement, int index, uint64_t number)
{
    (void)sqlite3_bind_int64(statement, index, (sqlite3_int64)number);
}

void sl_sqlite_bind_text(sqlite3_stmt *statement, int index, const char *text)
{
    (void)sqlite3_bind_text(statement, index, text == NULL ? "" : text, -1, SQLITE_STATIC);
}

void sl_sqlite_bind_bytes(sqlite3_stmt *statement, int index, struct sl_slice bytes)
{
    (void)sqlite3_bind_blob64(
        statement, index, bytes.size == 0 ? (const void *)"" : bytes.data, bytes.size,
        SQLITE_STATIC);
}

int sl_sqlite_run(sqlite3_stmt *statement)
{
    int rc = sqlite3_step(statement);
    while (rc == SQLITE_ROW) {
        rc = sqlite3_step(statement);
    }
    (void)sqlite3_reset(statement);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

int sl_sqlite_do(struct sl_sqlite_db *db, enum sl_sql sql)
{
    int rc = SQLITE_OK;
    sqlite3_stmt *statement = sl_sqlite_statement(db, sql, &rc);
    if (statement != NULL) {
        if (sql == SL_SQL_BEGIN_READ) {
            db->busy_until_ns = sl_sqlite_now_ns() + READ_MS * SL_NS_PER_MS;
        }
        rc = sl_sqlite_run(statement);
    }
    return rc;
}

int sl_sqlite_exec(struct sl_sqlite_db *db, const char *sql)
{
    return sqlite3_exec(db->db, sql, NULL, NULL, NULL);
}

uint64_t sl_sqlite_number(sqlite3_stmt *statement, int column)
{
    return (uint64_t)sqlite3_column_int64(statement, column);
}

struct sl_slice sl_sqlite_bytes(sqlite3_stmt *statement, int column)
{
    const void *data = sqlite3_column_blob(statement, column);
    return sl_slice_of(data, (size_t)sqlite3_column_bytes(statement, column));
}

const char *sl_sqlite_text_of(sqlite3_stmt *statement, int column, struct sl_arena *arena)
{
    return sl_arena_dup(arena, sl_sqlite_bytes(statement, column));
}

struct sl_slice sl_sqlite_copy_of(sqlite3_stmt *statement, int column, struct sl_arena *arena)
{
    const struct sl_slice bytes = sl_sqlite_bytes(statement, column);
    const char *copy = sl_arena_dup(arena, bytes);
    return copy == NULL ? sl_slice_of(NULL, 0) : sl_slice_of(copy, bytes.size);
}
