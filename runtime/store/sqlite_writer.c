/* The thread that writes: group commit, checkpoints, and what happens when the disk fails. */
#include "runtime/base/mem.h"
#include "runtime/store/sqlite_private.h"

enum {
    BATCH_BYTES = 1024 * 1024, /* of one transaction */
    BATCH_REQUESTS = 4096,
    CHECKPOINT_PAGES = 1000,
    REOPEN_MS = 100, /* after a fault of the disk */
    RETAIN_MS = 1000
};

/* ---- Checkpoints -------------------------------------------------------------------------------
 */

static int note_wal(void *user_data, sqlite3 *db, const char *name, int n_pages)
{
    struct sl_sqlite *store = user_data;
    (void)db;
    (void)name;
    store->writer.wal_pages = (uint64_t)n_pages;
    return SQLITE_OK;
}

void sl_sqlite_watch_wal(struct sl_sqlite *store)
{
    (void)sqlite3_wal_hook(store->writer.db.db, note_wal, store);
}

static uint64_t page_bytes(struct sl_sqlite *store)
{
    uint64_t bytes = 0;
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(store->writer.db.db, "PRAGMA page_size", -1, &statement, NULL) ==
            SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW) {
        bytes = sl_sqlite_number(statement, 0);
    }
    (void)sqlite3_finalize(statement);
    return bytes;
}

static void show_wal(struct sl_sqlite *store, uint64_t n_pages)
{
    atomic_store_explicit(
        &store->base.counts.wal_bytes, n_pages * page_bytes(store), memory_order_relaxed);
}

int sl_sqlite_checkpoint(struct sl_sqlite *store, bool all)
{
    if (!sl_sqlite_files_are_same(&store->files)) {
        store->writer.is_replaced = true;
        return SQLITE_READONLY_DBMOVED;
    }
    int n_pages = 0;
    int n_copied = 0;
    const int rc = sqlite3_wal_checkpoint_v2(
        store->writer.db.db, NULL, all ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE,
        &n_pages, &n_copied);
    if (rc == SQLITE_OK) {
        show_wal(store, n_pages > n_copied ? (uint64_t)(n_pages - n_copied) : 0);
        store->writer.wal_pages = 0;
    }
    return rc;
}

/* ---- Faults of the disk ------------------------------------------------------------------------
 */

/* S2: after a fault nobody knows what the pages in memory and on the disk are. Everything is closed
 * and read again, before the next use. */
static void close_all(struct sl_sqlite *store)
{
    sl_sqlite_readers_close(store);
    sl_sqlite_db_close(&store->writer.db);
    store->writer.reopen_ns = sl_sqlite_now_ns() + REOPEN_MS * SL_NS_PER_MS;
}

static int open_all(struct sl_sqlite *store)
{
    if (store->writer.db.db != NULL) {
        return SQLITE_OK;
    }
    if (sl_sqlite_now_ns() < store->writer.reopen_ns) {
        return SQLITE_IOERR;
    }
    if (!sl_sqlite_files_are_same(&store->files)) {
        store->writer.is_replaced = true;
        return SQLITE_READONLY_DBMOVED;
    }
    int rc = sl_sqlite_db_open(
        &store->writer.db, store->files.path, store->vfs, SL_SQLITE_WRITER,
        store->options.is_normal);
    if (rc == SQLITE_OK) {
        sl_sqlite_watch_wal(store);
        rc = sl_sqlite_readers_open(store);
    }
    if (rc != SQLITE_OK) {
        close_all(store);
    }
    return rc;
}

static bool must_close(int rc)
{
    switch (rc & 0xFF) {
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_NOTADB:
    case SQLITE_PROTOCOL:
        return true;
    default:
        return false;
    }
}

/* ---- One transaction ---------------------------------------------------------------------------
 */

static void count_commit(struct sl_sqlite *store, uint64_t begun_ns, bool is_done)
{
    const uint64_t took_ns = sl_sqlite_now_ns() - begun_ns;
    if (is_done) {
        (void)atomic_fetch_add_explicit(&store->base.counts.commits, 1, memory_order_relaxed);
        (void)atomic_fetch_add_explicit(
            &store->base.counts.commit_ns, took_ns, memory_order_relaxed);
        if (took_ns >
            atomic_load_explicit(&store->base.counts.longest_commit_ns, memory_order_relaxed)) {
            atomic_store_explicit(
                &store->base.counts.longest_commit_ns, took_ns, memory_order_relaxed);
        }
    } else {
        (void)atomic_fetch_add_explicit(
            &store->base.counts.failed_commits, 1, memory_order_relaxed);
    }
    atomic_store_explicit(&store->base.counts.is_failing, !is_done, memory_order_relaxed);
}

void sl_sqlite_show_kept(struct sl_sqlite *store)
{
    atomic_store_explicit(
        &store->base.counts.kept_bytes, store->writer.kept_bytes, memory_order_relaxed);
    atomic_store_explicit(
        &store->base.counts.sessions, store->writer.n_sessions, memory_order_relaxed);
    atomic_store_explicit(
        &store->base.counts.session_bytes, store->writer.session_bytes, memory_order_relaxed);
}

static int do_writes(struct sl_sqlite *store, struct sl_list *batch)
{
    int rc = sl_sqlite_do(&store->writer.db, SL_SQL_BEGIN_WRITE);
    if (rc != SQLITE_OK) {
        return rc;
    }
    SL_LIST_EACH(node, batch) {
        rc = sl_sqlite_write(store, SL_CONTAINER(node, struct sl_store_request, node));
        if (rc != SQLITE_OK) {
            return rc;
        }
    }
    return sl_sqlite_do(&store->writer.db, SL_SQL_COMMIT);
}

/* The claims of a transaction may be there although it has failed (G6): they are asked for again.
 */
static void note_unsure(struct sl_sqlite *store, uint64_t recover_after)
{
    if (store->writer.recover_after > store->writer.unsure_to) {
        store->writer.unsure_to = store->writer.recover_after;
    }
    store->writer.recover_after = recover_after;
}

/* All of them, or none. */
static int try_batch(struct sl_sqlite *store, struct sl_list *batch)
{
    const uint64_t begun_ns = sl_sqlite_now_ns();
    const uint64_t recover_after = store->writer.recover_after;
    store->writer.kept_change = 0;
    store->writer.n_sessions_change = store->writer.session_bytes_change = 0;
    int rc = store->writer.is_replaced ? SQLITE_READONLY_DBMOVED : open_all(store);
    if (rc == SQLITE_OK) {
        rc = do_writes(store, batch);
    }
    if (rc != SQLITE_OK) {
        note_unsure(store, recover_after);
        if (store->writer.db.db != NULL && sqlite3_get_autocommit(store->writer.db.db) == 0) {
            (void)!sl_sqlite_do(&store->writer.db, SL_SQL_ROLLBACK);
        }
        if (store->writer.db.db != NULL && must_close(rc)) {
            close_all(store);
        }
    } else {
        store->writer.kept_bytes += (uint64_t)store->writer.kept_change;
        store->writer.n_sessions += (uint64_t)store->writer.n_sessions_change;
        store->writer.session_bytes += (uint64_t)store->writer.session_bytes_change;
        sl_sqlite_show_kept(store);
    }
    count_commit(store, begun_ns, rc == SQLITE_OK);
    return rc;
}

static void answer_batch(struct sl_sqlite *store, struct sl_list *batch, int rc)
{
    SL_LIST_EACH(node, batch) {
        struct sl_store_request *request = SL_CONTAINER(node, struct sl_store_request, node);
        sl_list_remove(node);
        if (rc != SQLITE_OK) {
            request->status = sl_sqlite_status(rc);
            request->why = sl_sqlite_text(rc);
        }
        sl_sqlite_settle(store, request, rc == SQLITE_OK);
        sl_store_answer(request, request->status, request->why);
    }
}

static bool is_single(const struct sl_list *batch)
{
    return batch->next == batch->previous;
}

static void run_batch(struct sl_sqlite *store, struct sl_list *batch)
{
    int rc = try_batch(store, batch);
    if (rc == SQLITE_OK || is_single(batch) || sl_sqlite_is_outage(rc)) {
        answer_batch(store, batch, rc);
        return;
    }
    /* One of them cannot be written. Alone, each shows whether it is the one. */
    while (!sl_list_is_empty(batch)) {
        struct sl_list *node = sl_list_first(batch);
        struct sl_list alone;
        sl_list_init(&alone);
        sl_list_remove(node);
        sl_list_add_last(&alone, node);
        rc = try_batch(store, &alone);
        answer_batch(store, &alone, rc);
    }
}

static void look_at_queue(struct sl_sqlite *store)
{
    size_t n_bytes = 0;
    size_t n_requests = 0;
    sl_store_queue_look(&store->writes, &n_bytes, &n_requests);
    atomic_store_explicit(&store->base.counts.queued_bytes, n_bytes, memory_order_relaxed);
    atomic_store_explicit(&store->base.counts.queued_requests, n_requests, memory_order_relaxed);
}

static void checkpoint_if_due(struct sl_sqlite *store)
{
    if (store->writer.db.db == NULL || store->writer.is_replaced) {
        return;
    }
    if (store->writer.wal_pages < CHECKPOINT_PAGES) {
        return;
    }
    const int rc = sl_sqlite_checkpoint(store, false);
    if (must_close(rc)) {
        close_all(store);
    }
}

/* How long the writer may sleep when nothing is asked of it. */
static uint64_t rest_ms(const struct sl_sqlite *store, bool has_more)
{
    if (store->writer.db.db == NULL && !store->writer.is_replaced) {
        return REOPEN_MS; /* readers wait for it */
    }
    if (has_more) {
        return 0;
    }
    return store->options.keep_ms > 0 || store->options.keep_bytes > 0 ? RETAIN_MS : UINT64_MAX;
}

void *sl_sqlite_writer_main(void *user_data)
{
    struct sl_sqlite *store = user_data;
    const bool retains = store->options.keep_ms > 0 || store->options.keep_bytes > 0;
    bool has_more = retains;
    struct sl_list batch;
    sl_list_init(&batch);
    while (sl_store_queue_take(
        &store->writes, BATCH_BYTES, BATCH_REQUESTS, rest_ms(store, has_more), &batch)) {
        if (!sl_list_is_empty(&batch)) {
            look_at_queue(store);
            run_batch(store, &batch);
            look_at_queue(store);
        } else if (!store->writer.is_replaced) {
            (void)!open_all(store);
        }
        checkpoint_if_due(store);
        has_more = retains && store->writer.db.db != NULL && !store->writer.is_replaced &&
                   sl_sqlite_retain(store);
    }
    return NULL;
}
