/* A connection to a SQLite database with its prepared statements, and the few ways in which the
 * store uses both. One thread at a time. */
#ifndef SL_RUNTIME_STORE_SQLITE_DB_H
#define SL_RUNTIME_STORE_SQLITE_DB_H

#include <sqlite3.h>

#include "runtime/base/arena.h"
#include "runtime/store/sqlite_sql.h"

struct sl_sqlite_db {
    sqlite3 *db; /* NULL: closed */
    sqlite3_stmt *statements[SL_SQL_COUNT];
    uint64_t busy_until_ns; /* a read that takes longer is given up; 0: none is under way */
};

enum sl_sqlite_role { SL_SQLITE_WRITER, SL_SQLITE_READER };

/* Opens an existing database. `vfs`: NULL is the system's. Gives SQLite's code; without SQLITE_OK
 * nothing is open. */
SL_CHECK int sl_sqlite_db_open(
    struct sl_sqlite_db *db,
    const char *path,
    const char *vfs,
    enum sl_sqlite_role role,
    bool is_normal);
/* Harmless when it is closed. */
void sl_sqlite_db_close(struct sl_sqlite_db *db);

/* What SQLite's codes mean for a request. */
enum sl_status sl_sqlite_status(int rc);
/* A static text. */
const char *sl_sqlite_text(int rc);
/* The fault is the disk's or the file's, not the statement's: what follows would fail as well. */
bool sl_sqlite_is_outage(int rc);

/* A statement with nothing bound. NULL: it cannot be prepared; `*ret_rc` says why. */
sqlite3_stmt *sl_sqlite_statement(struct sl_sqlite_db *db, enum sl_sql sql, int *ret_rc);
void sl_sqlite_bind_number(sqlite3_stmt *statement, int index, uint64_t number);
/* `text` and `bytes` must stay until the statement is reset; NULL is "". */
void sl_sqlite_bind_text(sqlite3_stmt *statement, int index, const char *text);
void sl_sqlite_bind_bytes(sqlite3_stmt *statement, int index, struct sl_slice bytes);
/* Runs one that gives no rows, and resets it. */
SL_CHECK int sl_sqlite_run(sqlite3_stmt *statement);
/* Prepares, runs and resets one without parameters. */
SL_CHECK int sl_sqlite_do(struct sl_sqlite_db *db, enum sl_sql sql);
/* Runs SQL that is not kept. */
SL_CHECK int sl_sqlite_exec(struct sl_sqlite_db *db, const char *sql);

uint64_t sl_sqlite_number(sqlite3_stmt *statement, int column);
/* Valid until the next step or reset. */
struct sl_slice sl_sqlite_bytes(sqlite3_stmt *statement, int column);
/* A copy. NULL: no memory. */
SL_CHECK const char *sl_sqlite_text_of(sqlite3_stmt *statement, int column, struct sl_arena *arena);
/* An empty slice of nothing when there is no memory for it; then the arena says is_refused. */
struct sl_slice sl_sqlite_copy_of(sqlite3_stmt *statement, int column, struct sl_arena *arena);

/* Monotonic time. */
uint64_t sl_sqlite_now_ns(void);

#endif
