/* The threads that read. Each has its own connection, and answers one request at a time. */
#include "runtime/base/crc32c.h"
#include "runtime/base/mem.h"
#include "runtime/store/pairs.h"
#include "runtime/store/sqlite_private.h"

enum {
    PAGE_BYTES = 1024 * 1024, /* of a list, terminal events included, but for its first run */
    PAGE_SCAN = 20000         /* runs that are looked at for one */
};

/* ---- One run -----------------------------------------------------------------------------------
 */

enum {
    COLUMN_NUMBER,
    COLUMN_RUN_ID,
    COLUMN_TENANT,
    COLUMN_AGENT,
    COLUMN_SESSION_ID,
    COLUMN_REQUEST_ID,
    COLUMN_DIGEST,
    COLUMN_DURABILITY,
    COLUMN_ON_DISCONNECT,
    COLUMN_CREATED_MS,
    COLUMN_METADATA,
    COLUMN_NODE,
    COLUMN_STATE,
    COLUMN_ENDED_MS,
    COLUMN_EPOCH,
    COLUMN_LAST_SEQUENCE,
    COLUMN_FLOOR,
    COLUMN_RECOVERED_AFTER,
    COLUMN_RESTS
};

uint64_t sl_sqlite_fill_numbers(sqlite3_stmt *statement, struct sl_store_run *ret_run)
{
    ret_run->durability = (enum sl_store_durability)sl_sqlite_number(statement, COLUMN_DURABILITY);
    ret_run->on_disconnect = (uint32_t)sl_sqlite_number(statement, COLUMN_ON_DISCONNECT);
    ret_run->created_ms = sl_sqlite_number(statement, COLUMN_CREATED_MS);
    ret_run->state = (enum sl_store_state)sl_sqlite_number(statement, COLUMN_STATE);
    ret_run->ended_ms = sl_sqlite_number(statement, COLUMN_ENDED_MS);
    ret_run->epoch = sl_sqlite_number(statement, COLUMN_EPOCH);
    ret_run->last_sequence = sl_sqlite_number(statement, COLUMN_LAST_SEQUENCE);
    ret_run->floor = sl_sqlite_number(statement, COLUMN_FLOOR);
    ret_run->is_recovered = sqlite3_column_type(statement, COLUMN_RECOVERED_AFTER) != SQLITE_NULL;
    ret_run->recovered_after = sl_sqlite_number(statement, COLUMN_RECOVERED_AFTER);
    ret_run->is_rested = sl_sqlite_number(statement, COLUMN_RESTS) != 0;
    return sl_sqlite_number(statement, COLUMN_NUMBER);
}

bool sl_sqlite_fill_run(
    sqlite3_stmt *statement, struct sl_arena *arena, struct sl_store_run *ret_run)
{
    (void)sl_sqlite_fill_numbers(statement, ret_run);
    ret_run->run_id = sl_sqlite_text_of(statement, COLUMN_RUN_ID, arena);
    ret_run->tenant = sl_sqlite_text_of(statement, COLUMN_TENANT, arena);
    ret_run->agent = sl_sqlite_text_of(statement, COLUMN_AGENT, arena);
    ret_run->session_id = sl_sqlite_text_of(statement, COLUMN_SESSION_ID, arena);
    ret_run->request_id = sl_sqlite_text_of(statement, COLUMN_REQUEST_ID, arena);
    ret_run->node = sl_sqlite_text_of(statement, COLUMN_NODE, arena);
    ret_run->digest = sl_sqlite_copy_of(statement, COLUMN_DIGEST, arena);
    /* Damaged metadata is no reason to hide the run. */
    return sl_store_pairs_read(
               sl_sqlite_bytes(statement, COLUMN_METADATA), arena, &ret_run->metadata,
               &ret_run->n_metadata) != SL_RESOURCE_EXHAUSTED &&
           !arena->is_refused;
}

static struct sl_store_row row_of(sqlite3_stmt *statement)
{
    return (struct sl_store_row){
        .first_sequence = sl_sqlite_number(statement, 0),
        .last_sequence = sl_sqlite_number(statement, 1),
        .bytes = sl_sqlite_bytes(statement, 2),
    };
}

/* Its last event, if it has ended; nothing, if that is damaged: a read will say so. */
static int read_terminal(
    struct sl_sqlite_db *db, uint64_t number, struct sl_arena *arena, struct sl_store_run *run)
{
    int rc = SQLITE_OK;
    if (run->ended_ms == 0) {
        return SQLITE_OK;
    }
    sqlite3_stmt *statement = sl_sqlite_statement(db, SL_SQL_GET_ROW, &rc);
    if (statement == NULL) {
        return rc;
    }
    sl_sqlite_bind_number(statement, 1, number);
    sl_sqlite_bind_number(statement, 2, run->last_sequence);
    rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW) {
        const struct sl_store_row row = row_of(statement);
        const uint32_t crc = (uint32_t)sl_sqlite_number(statement, 3);
        if (row.first_sequence == row.last_sequence && sl_store_row_is_sound(number, &row, crc)) {
            run->terminal = sl_sqlite_copy_of(statement, 2, arena);
        }
    }
    (void)sqlite3_reset(statement);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE && (rc & 0xFF) != SQLITE_CORRUPT) {
        return rc;
    }
    return arena->is_refused ? SQLITE_NOMEM : SQLITE_OK;
}

static bool is_tenant(sqlite3_stmt *statement, const char *tenant)
{
    return tenant == NULL || sl_slice_equals(sl_sqlite_bytes(statement, COLUMN_TENANT), tenant);
}

/* ---- Events ------------------------------------------------------------------------------------
 */

/* The rows so far, and the next one. */
struct gathering {
    uint64_t number, expected; /* sequence */
    size_t max_bytes, n_bytes;
    uint8_t *room;
    uint64_t first_sequence, last_sequence;
};

/* False: no more fits. */
static bool gather(struct gathering *so_far, const struct sl_store_row *row, struct sl_arena *arena)
{
    const size_t room_bytes = so_far->max_bytes - so_far->n_bytes;
    const struct sl_store_row part = sl_store_row_part(
        row, so_far->expected - 1, so_far->n_bytes == 0 ? so_far->max_bytes : room_bytes);
    if (so_far->room == NULL) {
        /* One event may be larger than the maximum: then it is alone. */
        so_far->room = sl_arena_alloc(
            arena, part.bytes.size > so_far->max_bytes ? part.bytes.size : so_far->max_bytes);
        so_far->first_sequence = part.first_sequence;
    } else if (part.bytes.size > room_bytes) {
        return false;
    }
    if (so_far->room == NULL) {
        return false; /* the arena says it */
    }
    memcpy(so_far->room + so_far->n_bytes, part.bytes.data, part.bytes.size);
    so_far->n_bytes += part.bytes.size;
    so_far->last_sequence = part.last_sequence;
    so_far->expected = part.last_sequence + 1;
    return part.last_sequence == row->last_sequence && so_far->n_bytes < so_far->max_bytes;
}

static int gather_all(
    struct sl_sqlite_db *db, struct gathering *so_far, struct sl_arena *arena, bool *ret_is_sound)
{
    int rc = SQLITE_OK;
    sqlite3_stmt *statement = sl_sqlite_statement(db, SL_SQL_GET_EVENTS, &rc);
    if (statement == NULL) {
        return rc;
    }
    sl_sqlite_bind_number(statement, 1, so_far->number);
    sl_sqlite_bind_number(statement, 2, so_far->expected - 1);
    while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
        const struct sl_store_row row = row_of(statement);
        const uint32_t crc = (uint32_t)sl_sqlite_number(statement, 3);
        if (!sl_store_row_is_sound(so_far->number, &row, crc) ||
            row.first_sequence > so_far->expected) {
            *ret_is_sound = so_far->n_bytes > 0; /* what is before it can be given */
            break;
        }
        if (!gather(so_far, &row, arena)) {
            break;
        }
    }
    (void)sqlite3_reset(statement);
    if (rc == SQLITE_DONE && so_far->n_bytes == 0) {
        *ret_is_sound = false;
    }
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int find_run(
    struct sl_sqlite_db *db, struct sl_store_read *read, uint64_t *ret_number, bool *ret_is_there)
{
    int rc = SQLITE_OK;
    sqlite3_stmt *statement = sl_sqlite_statement(db, SL_SQL_GET_RUN, &rc);
    if (statement == NULL) {
        return rc;
    }
    sl_sqlite_bind_text(statement, 1, read->run_id);
    rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW && is_tenant(statement, read->tenant)) {
        *ret_is_there = true;
        *ret_number = sl_sqlite_fill_numbers(statement, &read->run);
    }
    (void)sqlite3_reset(statement);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int read_events(struct sl_sqlite_db *db, struct sl_store_read *read, enum sl_status *ret)
{
    uint64_t number = 0;
    bool is_there = false;
    read->bytes = sl_slice_of(NULL, 0);
    read->first_sequence = read->last_sequence = 0;
    int rc = find_run(db, read, &number, &is_there);
    if (rc != SQLITE_OK || !is_there) {
        *ret = SL_NOT_FOUND;
        return rc;
    }
    if (read->after_sequence >= read->run.last_sequence) {
        return SQLITE_OK; /* nothing yet, or nothing more */
    }
    if (read->after_sequence + 1 < read->run.floor) {
        *ret = SL_OUT_OF_RANGE;
        return SQLITE_OK;
    }
    const bool is_default = read->max_bytes == 0 || read->max_bytes > SL_STORE_READ_BYTES;
    struct gathering so_far = {
        .number = number,
        .expected = read->after_sequence + 1,
        .max_bytes = is_default ? SL_STORE_READ_BYTES : read->max_bytes,
    };
    bool is_sound = true;
    rc = gather_all(db, &so_far, &read->request.memory, &is_sound);
    if ((rc & 0xFF) == SQLITE_CORRUPT || (rc == SQLITE_OK && !is_sound)) {
        *ret = SL_DATA_LOSS;
        return SQLITE_OK;
    }
    if (rc == SQLITE_OK && read->request.memory.is_refused) {
        return SQLITE_NOMEM;
    }
    read->bytes = sl_slice_of(so_far.room, so_far.n_bytes);
    read->first_sequence = so_far.first_sequence;
    read->last_sequence = so_far.last_sequence;
    return rc;
}

/* ---- Runs --------------------------------------------------------------------------------------
 */

static int get_run(struct sl_sqlite_db *db, struct sl_store_get *get, enum sl_status *ret)
{
    const bool by_id = get->run_id != NULL;
    struct sl_arena *arena = &get->request.memory;
    int rc = SQLITE_OK;
    sqlite3_stmt *statement =
        sl_sqlite_statement(db, by_id ? SL_SQL_GET_RUN : SL_SQL_GET_RUN_OF_REQUEST, &rc);
    if (statement == NULL) {
        return rc;
    }
    sl_sqlite_bind_text(statement, 1, by_id ? get->run_id : get->tenant);
    if (!by_id) {
        sl_sqlite_bind_text(statement, 2, get->request_id);
    }
    *ret = SL_NOT_FOUND;
    uint64_t number = 0;
    get->run = (struct sl_store_run){ 0 };
    rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW && is_tenant(statement, get->tenant)) {
        *ret = SL_OK;
        number = sl_sqlite_fill_numbers(statement, &get->run);
        rc = sl_sqlite_fill_run(statement, arena, &get->run) ? SQLITE_ROW : SQLITE_NOMEM;
    }
    (void)sqlite3_reset(statement);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
        return rc;
    }
    if (*ret != SL_OK) {
        return SQLITE_OK;
    }
    rc = read_terminal(db, number, arena, &get->run);
    return rc == SQLITE_OK && get->wants_context
               ? sl_sqlite_context_read(db, number, arena, &get->run)
               : rc;
}

/* A run that waits goes on, too. */
static bool is_in_state(enum sl_store_state state, enum sl_store_state wanted)
{
    return wanted == SL_STORE_STATE_ANY || state == wanted ||
           (wanted == SL_STORE_STATE_RUNNING && state == SL_STORE_STATE_WAITING);
}

static bool is_wanted(sqlite3_stmt *statement, const struct sl_store_list *list)
{
    return (list->agent == NULL || list->agent[0] == '\0' ||
            sl_slice_equals(sl_sqlite_bytes(statement, COLUMN_AGENT), list->agent)) &&
           (list->session_id == NULL || list->session_id[0] == '\0' ||
            sl_slice_equals(sl_sqlite_bytes(statement, COLUMN_SESSION_ID), list->session_id)) &&
           is_in_state((enum sl_store_state)sl_sqlite_number(statement, COLUMN_STATE), list->state);
}

static int list_rows(
    struct sl_sqlite_db *db, sqlite3_stmt *statement, struct sl_store_list *list, size_t page_size)
{
    struct sl_arena *arena = &list->request.memory;
    uint64_t number = 0;
    int rc = SQLITE_OK;
    for (int n_seen = 0; (rc = sqlite3_step(statement)) == SQLITE_ROW; n_seen++) {
        if (list->n_runs == page_size || n_seen == PAGE_SCAN || arena->used_bytes > PAGE_BYTES) {
            list->next = number;
            return SQLITE_OK;
        }
        number = sl_sqlite_number(statement, COLUMN_NUMBER);
        if (!is_wanted(statement, list)) {
            continue;
        }
        struct sl_store_run *run = &list->runs[list->n_runs];
        if (!sl_sqlite_fill_run(statement, arena, run)) {
            return SQLITE_NOMEM;
        }
        run->number = number;
        rc = read_terminal(db, number, arena, run);
        if (rc != SQLITE_OK) {
            return rc;
        }
        list->n_runs++;
    }
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int list_runs(struct sl_sqlite_db *db, struct sl_store_list *list)
{
    const size_t page_size = list->page_size == 0              ? 1
                             : list->page_size > SL_STORE_PAGE ? SL_STORE_PAGE
                                                               : list->page_size;
    list->n_runs = 0;
    list->next = 0;
    list->runs = sl_arena_calloc(&list->request.memory, page_size, sizeof(*list->runs));
    if (list->runs == NULL) {
        return SQLITE_NOMEM;
    }
    int rc = SQLITE_OK;
    sqlite3_stmt *statement = sl_sqlite_statement(db, SL_SQL_LIST_RUNS, &rc);
    if (statement == NULL) {
        return rc;
    }
    sl_sqlite_bind_text(statement, 1, list->tenant);
    sl_sqlite_bind_number(statement, 2, list->before == 0 ? INT64_MAX : list->before);
    rc = list_rows(db, statement, list, page_size);
    (void)sqlite3_reset(statement);
    return rc;
}

/* ---- Conversations -----------------------------------------------------------------------------
 */

static int load(struct sl_sqlite_db *db, struct sl_store_load *load, enum sl_status *ret)
{
    int rc = SQLITE_OK;
    sqlite3_stmt *statement = sl_sqlite_statement(db, SL_SQL_GET_SESSION, &rc);
    if (statement == NULL) {
        return rc;
    }
    sl_sqlite_bind_text(statement, 1, load->tenant);
    sl_sqlite_bind_text(statement, 2, load->agent);
    sl_sqlite_bind_text(statement, 3, load->session_id);
    load->messages = sl_slice_of(NULL, 0);
    *ret = SL_NOT_FOUND;
    rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW) {
        const bool is_sound =
            sl_crc32c(0, sl_sqlite_bytes(statement, 0)) == sl_sqlite_number(statement, 1);
        *ret = is_sound ? SL_OK : SL_DATA_LOSS;
        if (is_sound) {
            load->messages = sl_sqlite_copy_of(statement, 0, &load->request.memory);
        }
    }
    (void)sqlite3_reset(statement);
    if (load->request.memory.is_refused) {
        return SQLITE_NOMEM;
    }
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* ---- The thread --------------------------------------------------------------------------------
 */

static int
answer_from(struct sl_sqlite_db *db, struct sl_store_request *request, enum sl_status *ret_status)
{
    switch (request->kind) {
    case SL_STORE_READ:
        return read_events(db, SL_CONTAINER(request, struct sl_store_read, request), ret_status);
    case SL_STORE_GET:
        return get_run(db, SL_CONTAINER(request, struct sl_store_get, request), ret_status);
    case SL_STORE_LIST:
        return list_runs(db, SL_CONTAINER(request, struct sl_store_list, request));
    case SL_STORE_LOAD:
        return load(db, SL_CONTAINER(request, struct sl_store_load, request), ret_status);
    case SL_STORE_BEGIN:
    case SL_STORE_APPEND:
    case SL_STORE_END:
    case SL_STORE_SAVE:
    case SL_STORE_RECOVER:
    case SL_STORE_RENEW:
        break;
    }
    *ret_status = SL_INTERNAL;
    return SQLITE_OK;
}

/* One view of the database from the first statement to the last. */
static enum sl_status read_one(struct sl_sqlite_reader *reader, struct sl_store_request *request)
{
    enum sl_status status = SL_OK;
    int rc = reader->db.db == NULL ? SQLITE_IOERR : sl_sqlite_do(&reader->db, SL_SQL_BEGIN_READ);
    if (rc == SQLITE_OK) {
        rc = answer_from(&reader->db, request, &status);
        (void)!sl_sqlite_do(&reader->db, SL_SQL_ROLLBACK);
        reader->db.busy_until_ns = 0;
    }
    if (rc != SQLITE_OK) {
        status = sl_sqlite_status(rc);
        request->why = sl_sqlite_text(rc);
    }
    return status;
}

void *sl_sqlite_reader_main(void *user_data)
{
    struct sl_sqlite_reader *reader = user_data;
    struct sl_list one;
    sl_list_init(&one);
    while (sl_store_queue_take(&reader->store->reads, 0, 1, UINT64_MAX, &one)) {
        struct sl_list *node = sl_list_first(&one);
        struct sl_store_request *request = SL_CONTAINER(node, struct sl_store_request, node);
        sl_list_remove(node);
        request->why = NULL;
        (void)pthread_mutex_lock(&reader->lock);
        const enum sl_status status = read_one(reader, request);
        (void)pthread_mutex_unlock(&reader->lock);
        sl_store_answer(request, status, request->why);
    }
    return NULL;
}

int sl_sqlite_readers_open(struct sl_sqlite *store)
{
    int rc = SQLITE_OK;
    for (unsigned i = 0; i < store->n_readers && rc == SQLITE_OK; i++) {
        struct sl_sqlite_reader *reader = &store->readers[i];
        (void)pthread_mutex_lock(&reader->lock);
        rc = sl_sqlite_db_open(&reader->db, store->files.path, store->vfs, SL_SQLITE_READER, false);
        (void)pthread_mutex_unlock(&reader->lock);
    }
    return rc;
}

void sl_sqlite_readers_close(struct sl_sqlite *store)
{
    for (unsigned i = 0; i < store->n_readers; i++) {
        struct sl_sqlite_reader *reader = &store->readers[i];
        (void)pthread_mutex_lock(&reader->lock);
        sl_sqlite_db_close(&reader->db);
        (void)pthread_mutex_unlock(&reader->lock);
    }
}
