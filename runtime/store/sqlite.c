/* The SQLite store: how it opens, takes requests and closes. */
#include <signal.h>
#include <time.h>

#include "runtime/base/mem.h"
#include "runtime/store/sqlite_private.h"

enum {
    QUEUE_BYTES = 16 * 1024 * 1024,
    RUN_BYTES = 1024 * 1024,
    READERS = 2,
    MIN_FREE_PERCENT = 5,
    CHECKED_PAGES = 16384 /* a database up to so many is checked page by page when it opens */
};

static struct sl_sqlite *from_base(struct sl_store *store)
{
    return SL_CONTAINER(store, struct sl_sqlite, base);
}

static uint64_t wall_ms(void)
{
    struct timespec now = { 0 };
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / SL_NS_PER_MS;
}

uint64_t sl_sqlite_wall_ms(const struct sl_sqlite *store)
{
    return store->opened_wall_ms + (sl_sqlite_now_ns() - store->opened_ns) / SL_NS_PER_MS;
}

/* ---- Requests ----------------------------------------------------------------------------------
 */

static enum sl_status submit_append(struct sl_sqlite *store, struct sl_store_append *append)
{
    size_t n_bytes = append->resume.size;
    for (uint32_t i = 0; i < append->n_ranges; i++) {
        n_bytes += append->ranges[i].to - append->ranges[i].from;
        (void)sl_segment_ref(append->ranges[i].segment);
    }
    append->request.charged_bytes = n_bytes;
    const enum sl_status status =
        sl_store_queue_put_charged(&store->writes, &append->request, append->log);
    if (status != SL_PENDING && status != SL_AGAIN) {
        for (uint32_t i = 0; i < append->n_ranges; i++) {
            (void)sl_segment_unref(append->ranges[i].segment);
        }
    }
    return status;
}

static bool is_kept(const struct sl_store_log *log)
{
    return log->durability != SL_STORE_NONE;
}

/* What the others bring counts for the size of a transaction, and for no bound: there is one of
 * them for each run. */
static enum sl_status
submit_write(struct sl_sqlite *store, struct sl_store_request *request, size_t n_bytes)
{
    request->charged_bytes = n_bytes;
    sl_store_queue_put(&store->writes, request);
    return SL_PENDING;
}

static enum sl_status submit_end(struct sl_sqlite *store, struct sl_store_end *end)
{
    const size_t n_bytes =
        end->range.to - end->range.from + (end->session == NULL ? 0 : end->session->messages.size);
    (void)sl_segment_ref(end->range.segment);
    return submit_write(store, &end->request, n_bytes);
}

static enum sl_status sqlite_submit(struct sl_store *base, struct sl_store_request *request)
{
    struct sl_sqlite *store = from_base(base);
    switch (request->kind) {
    case SL_STORE_BEGIN: {
        const struct sl_store_begin *begin = SL_CONTAINER(request, struct sl_store_begin, request);
        return is_kept(begin->log) ? submit_write(store, request, begin->run->resume.size) : SL_OK;
    }
    case SL_STORE_APPEND: {
        struct sl_store_append *append = SL_CONTAINER(request, struct sl_store_append, request);
        return is_kept(append->log) ? submit_append(store, append) : SL_OK;
    }
    case SL_STORE_END: {
        struct sl_store_end *end = SL_CONTAINER(request, struct sl_store_end, request);
        return is_kept(end->log) ? submit_end(store, end) : SL_OK;
    }
    case SL_STORE_SAVE:
        return submit_write(
            store, request,
            SL_CONTAINER(request, struct sl_store_save, request)->session->messages.size);
    case SL_STORE_RECOVER:
        return submit_write(store, request, 0);
    case SL_STORE_RENEW:
        SL_CONTAINER(request, struct sl_store_renew, request)->lease_ms = 0;
        return SL_OK;
    case SL_STORE_READ:
    case SL_STORE_GET:
    case SL_STORE_LIST:
    case SL_STORE_LOAD:
        break;
    }
    sl_store_queue_put(&store->reads, request);
    return SL_PENDING;
}

static bool sqlite_take_back(struct sl_store *base, struct sl_store_request *request)
{
    const bool is_read = request->kind == SL_STORE_READ || request->kind == SL_STORE_GET ||
                         request->kind == SL_STORE_LIST || request->kind == SL_STORE_LOAD;
    return is_read && sl_store_queue_remove(&from_base(base)->reads, request);
}

static bool sqlite_has_durability(const struct sl_store *store, enum sl_store_durability durability)
{
    (void)store;
    (void)durability;
    return true;
}

/* ---- Closing -----------------------------------------------------------------------------------
 */

static void stop_threads(struct sl_sqlite *store)
{
    sl_store_queue_close(&store->writes);
    sl_store_queue_close(&store->reads);
    for (unsigned i = 0; i < store->n_readers; i++) {
        if (store->readers[i].has_thread) {
            (void)pthread_join(store->readers[i].thread, NULL);
        }
    }
    if (store->writer.has_thread) {
        (void)pthread_join(store->writer.thread, NULL);
    }
}

/* Only once everything is in the database itself the next start may do without the WAL. */
static void close_in_order(struct sl_sqlite *store)
{
    if (store->writer.db.db == NULL) {
        return;
    }
    if (!store->writer.is_replaced && sl_sqlite_checkpoint(store, true) == SQLITE_OK &&
        sl_sqlite_files_mark(&store->files, false, NULL) == SL_OK) {
        (void)sqlite3_db_config(store->writer.db.db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    }
    sl_sqlite_db_close(&store->writer.db);
}

static void free_store(struct sl_sqlite *store)
{
    for (unsigned i = 0; i < store->n_readers; i++) {
        (void)pthread_mutex_destroy(&store->readers[i].lock);
    }
    sl_store_queue_done(&store->writes);
    sl_store_queue_done(&store->reads);
    sl_sqlite_files_done(&store->files);
    (void)sl_free(store->writer.scratch);
    (void)sl_free(sl_unconst(store->options.path));
    (void)sl_free(sl_unconst(store->options.node));
    (void)sl_free(store);
}

static void sqlite_free(struct sl_store *base)
{
    struct sl_sqlite *store = from_base(base);
    stop_threads(store);
    sl_sqlite_readers_close(store);
    close_in_order(store);
    free_store(store);
}

static const struct sl_store_ops sqlite_ops = {
    .submit = sqlite_submit,
    .take_back = sqlite_take_back,
    .has_durability = sqlite_has_durability,
    .free = sqlite_free,
};

/* ---- Opening -----------------------------------------------------------------------------------
 */

static enum sl_status fail_rc(const struct sl_sqlite *store, int rc, struct sl_error *err)
{
    return sl_fail(err, sl_sqlite_status(rc), "%s: %s", store->files.path, sl_sqlite_text(rc));
}

static int read_number(struct sl_sqlite *store, const char *sql, uint64_t *ret_number)
{
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(store->writer.db.db, sql, -1, &statement, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(statement);
        if (rc == SQLITE_ROW) {
            *ret_number = sl_sqlite_number(statement, 0);
            rc = SQLITE_OK;
        }
    }
    (void)sqlite3_finalize(statement);
    return rc;
}

static enum sl_status check_pages(struct sl_sqlite *store, struct sl_error *err)
{
    uint64_t n_pages = 0;
    int rc = read_number(store, "PRAGMA page_count", &n_pages);
    if (rc != SQLITE_OK) {
        return fail_rc(store, rc, err);
    }
    if (n_pages > CHECKED_PAGES) {
        return SL_OK;
    }
    sqlite3_stmt *statement = NULL;
    enum sl_status status = SL_OK;
    rc = sqlite3_prepare_v2(store->writer.db.db, "PRAGMA quick_check(1)", -1, &statement, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(statement);
    }
    if (rc != SQLITE_ROW) {
        status = fail_rc(store, rc, err);
    } else if (!sl_slice_equals(sl_sqlite_bytes(statement, 0), "ok")) {
        status = sl_fail(err, SL_DATA_LOSS, "%s: the database is damaged", store->files.path);
    }
    (void)sqlite3_finalize(statement);
    return status;
}

/* The writer's connection, the newest schema, a new epoch. */
static enum sl_status open_database(struct sl_sqlite *store, struct sl_error *err)
{
    int rc = sl_sqlite_db_open(
        &store->writer.db, store->files.path, store->vfs, SL_SQLITE_WRITER,
        store->options.is_normal);
    if (rc != SQLITE_OK) {
        return fail_rc(store, rc, err);
    }
    SL_TRY(check_pages(store, err));
    SL_TRY(sl_sqlite_schema_apply(&store->writer.db, store->schema, store->files.path, err));
    uint64_t nothing = 0;
    rc = read_number(store, "PRAGMA journal_mode = WAL", &nothing);
    if (rc == SQLITE_OK) {
        rc = sl_sqlite_schema_next_epoch(&store->writer.db, &store->base.epoch);
    }
    if (rc == SQLITE_OK) {
        rc = read_number(
            store, "SELECT coalesce(sum(bytes), 0) FROM heads", &store->writer.kept_bytes);
    }
    if (rc == SQLITE_OK) {
        rc = read_number(store, "SELECT count(*) FROM sessions", &store->writer.n_sessions);
    }
    if (rc == SQLITE_OK) {
        rc = read_number(
            store, "SELECT coalesce(sum(length(messages)), 0) FROM sessions",
            &store->writer.session_bytes);
    }
    if (rc != SQLITE_OK) {
        return fail_rc(store, rc, err);
    }
    sl_sqlite_show_kept(store);
    SL_TRY(sl_sqlite_files_identify(&store->files, err));
    return sl_sqlite_files_mark(&store->files, true, err);
}

static enum sl_status open_or_create(struct sl_sqlite *store, struct sl_error *err)
{
    bool is_there = false;
    SL_TRY(sl_sqlite_files_check(&store->files, &is_there, err));
    if (!is_there) {
        SL_TRY(sl_sqlite_files_create(&store->files, store->vfs, store->schema, err));
    }
    return open_database(store, err);
}

static enum sl_status open_files(struct sl_sqlite *store, struct sl_error *err)
{
    SL_TRY(sl_sqlite_files_init(&store->files, store->options.path, err));
    enum sl_status status = open_or_create(store, err);
    if (status == SL_DATA_LOSS && store->options.quarantine) {
        sl_sqlite_db_close(&store->writer.db);
        SL_TRY(sl_sqlite_files_quarantine(&store->files, err));
        status = open_or_create(store, err);
    }
    if (status != SL_OK) {
        sl_sqlite_db_close(&store->writer.db);
        return status;
    }
    sl_sqlite_watch_wal(store);
    const int rc = sl_sqlite_readers_open(store);
    return rc == SQLITE_OK ? SL_OK : fail_rc(store, rc, err);
}

/* Signals are for the threads that wait for them. */
static bool start_threads(struct sl_sqlite *store)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    store->writer.has_thread =
        pthread_create(&store->writer.thread, NULL, sl_sqlite_writer_main, store) == 0;
    bool is_started = store->writer.has_thread;
    for (unsigned i = 0; i < store->n_readers && is_started; i++) {
        struct sl_sqlite_reader *reader = &store->readers[i];
        reader->has_thread =
            pthread_create(&reader->thread, NULL, sl_sqlite_reader_main, reader) == 0;
        is_started = reader->has_thread;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return is_started;
}

static size_t or_else(size_t value, size_t otherwise)
{
    return value == 0 ? otherwise : value;
}

/* NULL: no memory. */
static struct sl_sqlite *new_store(const struct sl_store_sqlite_options *options)
{
    struct sl_sqlite *store = sl_calloc(1, sizeof(*store));
    if (store == NULL) {
        return NULL;
    }
    store->base.ops = &sqlite_ops;
    store->files.lock_fd = -1;
    store->options = *options;
    store->options.min_free_percent =
        options->min_free_percent == 0 ? MIN_FREE_PERCENT : options->min_free_percent;
    store->options.path = sl_strdup(options->path);
    store->options.node = sl_strdup(options->node == NULL ? "" : options->node);
    store->writer.scratch = sl_alloc(SL_STORE_READ_BYTES);
    const bool has_writes = sl_store_queue_init(
                                &store->writes, or_else(options->max_queue_bytes, QUEUE_BYTES),
                                or_else(options->max_run_bytes, RUN_BYTES)) == SL_OK;
    const bool has_reads = sl_store_queue_init(&store->reads, 0, 0) == SL_OK;
    store->n_readers = (unsigned)or_else(options->n_readers, READERS);
    store->n_readers = store->n_readers > SL_SQLITE_READERS ? SL_SQLITE_READERS : store->n_readers;
    for (unsigned i = 0; i < store->n_readers; i++) {
        store->readers[i].store = store;
        (void)pthread_mutex_init(&store->readers[i].lock, NULL);
    }
    if (!has_writes || !has_reads || store->options.path == NULL || store->options.node == NULL ||
        store->writer.scratch == NULL) {
        free_store(store);
        return NULL;
    }
    store->opened_wall_ms = wall_ms();
    store->opened_ns = sl_sqlite_now_ns();
    return store;
}

enum sl_status sl_sqlite_new(
    const struct sl_store_sqlite_options *options,
    const struct sl_sqlite_schema *schema,
    const char *vfs,
    struct sl_store **ret_store,
    struct sl_error *err)
{
    struct sl_sqlite *store = new_store(options);
    if (store == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "%s: no memory", options->path);
    }
    store->schema = schema;
    store->vfs = vfs;
    enum sl_status status = open_files(store, err);
    if (status == SL_OK && !start_threads(store)) {
        status = sl_fail(err, SL_RESOURCE_EXHAUSTED, "%s: no thread can be started", options->path);
    }
    if (status != SL_OK) {
        sqlite_free(&store->base);
        return status;
    }
    *ret_store = &store->base;
    return SL_OK;
}

enum sl_status sl_store_sqlite_new(
    const struct sl_store_sqlite_options *options,
    struct sl_store **ret_store,
    struct sl_error *err)
{
    return sl_sqlite_new(options, &sl_sqlite_schema, NULL, ret_store, err);
}
