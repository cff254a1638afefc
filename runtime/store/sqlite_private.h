/* The inside of the SQLite store.
 *
 *   loops ──▶ writes ──▶ writer ═▶ database + WAL        it alone writes and checkpoints (S7)
 *         ──▶ reads  ──▶ readers ═▶  (read only)
 *   loops ◀── sl_loop_post ── answers
 *
 *   PATH        the database            PATH-wal, PATH-shm   SQLite's
 *   PATH.lock   held as long as the store is open (S8); its one byte says whether the last store
 *               was closed in order, and so whether there must be a WAL (S4)
 *   PATH.new    a database in the making; renamed when it is whole */
#ifndef SL_RUNTIME_STORE_SQLITE_PRIVATE_H
#define SL_RUNTIME_STORE_SQLITE_PRIVATE_H

#include <pthread.h>
#include <sys/stat.h>

#include "runtime/store/queue.h"
#include "runtime/store/rows.h"
#include "runtime/store/sqlite_db.h"
#include "runtime/store/store.h"

enum { SL_SQLITE_READERS = 16 };

/* ---- Schema (sqlite_schema.c) ------------------------------------------------------------------
 * Step n makes version n of version n - 1. Within a minor version of the program steps only add. */

struct sl_sqlite_schema {
    const char *const *steps;
    uint32_t n_steps;
    uint32_t min_reader; /* the oldest version that can use what this one leaves behind */
};

extern const struct sl_sqlite_schema sl_sqlite_schema;

/* Makes the tables of an empty database, or moves an older one forward, in one transaction. Fails:
 * as sl_store_sqlite_new(); `path` is for the message. */
SL_CHECK enum sl_status sl_sqlite_schema_apply(
    struct sl_sqlite_db *db,
    const struct sl_sqlite_schema *schema,
    const char *path,
    struct sl_error *err);
/* Takes the next epoch. Gives SQLite's code. */
SL_CHECK int sl_sqlite_schema_next_epoch(struct sl_sqlite_db *db, uint64_t *ret_epoch);

/* ---- Files (sqlite_files.c) --------------------------------------------------------------------
 */

struct sl_sqlite_files {
    char *path, *wal_path, *shm_path, *lock_path, *new_path;
    int lock_fd; /* -1: not held */
    dev_t device;
    ino_t inode;
};

/* Makes the names, looks at the file system and takes the lock. Fails: as sl_store_sqlite_new();
 * sl_sqlite_files_done() in any case. */
SL_CHECK enum sl_status
sl_sqlite_files_init(struct sl_sqlite_files *files, const char *path, struct sl_error *err);
void sl_sqlite_files_done(struct sl_sqlite_files *files);
/* NULL, or the name of a file system that is shared by machines; of statfs' number. */
const char *sl_sqlite_shared_file_system(unsigned long type);
/* Is there a database? Fails: SL_DATA_LOSS parts of one are there, or the file is none. */
SL_CHECK enum sl_status sl_sqlite_files_check(
    const struct sl_sqlite_files *files, bool *ret_is_there, struct sl_error *err);
/* The database is open (or was closed in order, with an empty WAL). */
SL_CHECK enum sl_status
sl_sqlite_files_mark(struct sl_sqlite_files *files, bool is_open, struct sl_error *err);
/* What lies at the path now is the database, from here on. */
SL_CHECK enum sl_status
sl_sqlite_files_identify(struct sl_sqlite_files *files, struct sl_error *err);
/* It still does (S8). */
bool sl_sqlite_files_are_same(const struct sl_sqlite_files *files);
/* Renames the database and what belongs to it. `ret_name` is where it went, a static part of it. */
SL_CHECK enum sl_status
sl_sqlite_files_quarantine(struct sl_sqlite_files *files, struct sl_error *err);
/* Makes an empty database of this schema, whole or not at all. */
SL_CHECK enum sl_status sl_sqlite_files_create(
    const struct sl_sqlite_files *files,
    const char *vfs,
    const struct sl_sqlite_schema *schema,
    struct sl_error *err);

/* ---- The store ---------------------------------------------------------------------------------
 */

struct sl_sqlite;

struct sl_sqlite_reader {
    struct sl_sqlite *store;
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock; /* of the connection: the writer closes it after a fault of the disk */
    struct sl_sqlite_db db;
};

struct sl_sqlite {
    struct sl_store base;
    struct sl_store_sqlite_options options; /* path and node: owned copies */
    const struct sl_sqlite_schema *schema;
    const char *vfs;
    struct sl_sqlite_files files;
    uint64_t opened_wall_ms, opened_ns; /* the store's clock (S9) */
    struct sl_store_queue writes, reads;
    struct sl_sqlite_reader readers[SL_SQLITE_READERS];
    unsigned n_readers;

    struct { /* the writer's thread only, but for the time in which the store opens and closes */
        pthread_t thread;
        bool has_thread;
        struct sl_sqlite_db db;
        bool is_replaced;       /* the file at the path is another one: for ever */
        uint64_t reopen_ns;     /* after a fault: not before; 0: there was none */
        uint64_t recover_after; /* runs up to this number were claimed */
        uint64_t unsure_to;     /* runs from there up to this one perhaps: nobody has them */
        int64_t kept_change;    /* of kept_bytes, by the transaction that is open */
        uint64_t kept_bytes;
        int64_t n_sessions_change, session_bytes_change; /* the same, of conversations */
        uint64_t n_sessions, session_bytes;
        uint64_t wal_pages;
        uint64_t space_looked_ns;
        bool is_space_low;
        uint8_t *scratch; /* SL_STORE_READ_BYTES */
    } writer;
};

/* The constructor behind sl_store_sqlite_new(), for tests of other schemas and file systems. */
SL_CHECK enum sl_status sl_sqlite_new(
    const struct sl_store_sqlite_options *options,
    const struct sl_sqlite_schema *schema,
    const char *vfs,
    struct sl_store **ret_store,
    struct sl_error *err);

/* Unix time by a clock that nobody moves while the store is open. */
uint64_t sl_sqlite_wall_ms(const struct sl_sqlite *store);

/* Opens, and closes, the connections of the readers. Gives SQLite's code. */
SL_CHECK int sl_sqlite_readers_open(struct sl_sqlite *store);
void sl_sqlite_readers_close(struct sl_sqlite *store);
void *sl_sqlite_reader_main(void *user_data);
void *sl_sqlite_writer_main(void *user_data);
/* Copies the WAL into the database. `all`: to its end, and empties it. Gives SQLite's code. */
SL_CHECK int sl_sqlite_checkpoint(struct sl_sqlite *store, bool all);
/* After sl_sqlite_db_open() of the writer. */
void sl_sqlite_watch_wal(struct sl_sqlite *store);

/* Does a write inside the open transaction. The request's status says how it went; the code, if
 * it is not SQLITE_OK, that the transaction cannot be committed (sqlite_write.c). */
SL_CHECK int sl_sqlite_write(struct sl_sqlite *store, struct sl_store_request *request);
/* Conversations of runs (sqlite_context.c). The first three: inside the open transaction. */
SL_CHECK int
sl_sqlite_context_add(struct sl_sqlite *store, uint64_t number, const struct sl_store_run *run);
SL_CHECK int sl_sqlite_context_put(
    struct sl_sqlite *store,
    uint64_t number,
    uint64_t sequence,
    bool is_final,
    struct sl_slice bytes);
SL_CHECK int sl_sqlite_context_size(struct sl_sqlite *store, uint64_t number, uint64_t *ret_size);
/* What a run that is ended may write over: see sl_store_end.session_if_own. */
SL_CHECK int sl_sqlite_context_owns_session(
    struct sl_sqlite *store,
    uint64_t number,
    const struct sl_store_session *session,
    bool *ret_owns);
SL_CHECK int
sl_sqlite_context_set_session(struct sl_sqlite *store, uint64_t number, struct sl_slice messages);
/* Fills what an answer has of it. */
SL_CHECK int sl_sqlite_context_read(
    struct sl_sqlite_db *db, uint64_t number, struct sl_arena *arena, struct sl_store_run *ret_run);

/* The transaction with this write is committed, or it is not (sqlite_write.c). */
void sl_sqlite_settle(struct sl_sqlite *store, struct sl_store_request *request, bool is_written);

/* Columns of SL_SQL_RUN. False: no memory. */
bool sl_sqlite_fill_run(
    sqlite3_stmt *statement, struct sl_arena *arena, struct sl_store_run *ret_run);
/* Those that are numbers. Gives the run's. */
uint64_t sl_sqlite_fill_numbers(sqlite3_stmt *statement, struct sl_store_run *ret_run);

/* For those who look at the store from outside. */
void sl_sqlite_show_kept(struct sl_sqlite *store);

/* Removes a little of what is too old or too much, in a transaction of its own. True: there is
 * more (sqlite_retention.c). */
bool sl_sqlite_retain(struct sl_sqlite *store);

#endif
