/* What is kept of the conversation of a run: as it began, as it was when its session was saved, and
 * in the end the whole one. Its bytes count as the run's. */
#include "runtime/base/crc32c.h"
#include "runtime/store/sqlite_private.h"

enum { COLUMN_SEQUENCE, COLUMN_IS_FINAL, COLUMN_CRC, COLUMN_BYTES };

#define STATEMENT(name)                                                                            \
    int rc = SQLITE_OK;                                                                            \
    sqlite3_stmt *statement = sl_sqlite_statement(&store->writer.db, SL_SQL_##name, &rc);          \
    if (statement == NULL) {                                                                       \
        return rc;                                                                                 \
    }

/* Over what the row says, too, so that one in a wrong place shows. */
static uint32_t crc_of(uint64_t number, uint64_t sequence, bool is_final, struct sl_slice bytes)
{
    uint8_t head[17];
    for (int i = 0; i < 8; i++) {
        head[i] = (uint8_t)(number >> 8 * i);
        head[8 + i] = (uint8_t)(sequence >> 8 * i);
    }
    head[16] = is_final;
    return sl_crc32c(sl_crc32c(0, sl_slice_of(head, sizeof(head))), bytes);
}

int sl_sqlite_context_add(struct sl_sqlite *store, uint64_t number, const struct sl_store_run *run)
{
    STATEMENT(ADD_CONTEXT)
    sl_sqlite_bind_number(statement, 1, number);
    sl_sqlite_bind_number(statement, 2, run->keeps_session ? 1 : 0);
    sl_sqlite_bind_text(statement, 3, run->tenant);
    sl_sqlite_bind_text(statement, 4, run->agent);
    sl_sqlite_bind_text(statement, 5, run->session_id);
    sl_sqlite_bind_number(statement, 6, crc_of(number, 0, false, run->context));
    sl_sqlite_bind_bytes(statement, 7, run->context);
    return sl_sqlite_run(statement);
}

int sl_sqlite_context_size(struct sl_sqlite *store, uint64_t number, uint64_t *ret_size)
{
    STATEMENT(GET_CONTEXT_SIZE)
    sl_sqlite_bind_number(statement, 1, number);
    rc = sqlite3_step(statement);
    *ret_size = rc == SQLITE_ROW ? sl_sqlite_number(statement, 0) : 0;
    (void)sqlite3_reset(statement);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int add_bytes(struct sl_sqlite *store, uint64_t number, int64_t change)
{
    STATEMENT(ADD_BYTES)
    sl_sqlite_bind_number(statement, 1, number);
    sl_sqlite_bind_number(statement, 2, (uint64_t)change);
    store->writer.kept_change += change;
    return sl_sqlite_run(statement);
}

static int
put(struct sl_sqlite *store,
    uint64_t number,
    uint64_t sequence,
    bool is_final,
    struct sl_slice bytes)
{
    STATEMENT(PUT_CONTEXT)
    sl_sqlite_bind_number(statement, 1, number);
    sl_sqlite_bind_number(statement, 2, sequence);
    sl_sqlite_bind_number(statement, 3, is_final ? 1 : 0);
    sl_sqlite_bind_number(statement, 4, crc_of(number, sequence, is_final, bytes));
    sl_sqlite_bind_bytes(statement, 5, bytes);
    return sl_sqlite_run(statement);
}

int sl_sqlite_context_put(
    struct sl_sqlite *store,
    uint64_t number,
    uint64_t sequence,
    bool is_final,
    struct sl_slice bytes)
{
    uint64_t before = 0;
    int rc = sl_sqlite_context_size(store, number, &before);
    if (rc == SQLITE_OK) {
        rc = put(store, number, sequence, is_final, bytes);
    }
    return rc == SQLITE_OK ? add_bytes(store, number, (int64_t)bytes.size - (int64_t)before) : rc;
}

int sl_sqlite_context_set_session(
    struct sl_sqlite *store, uint64_t number, struct sl_slice messages)
{
    STATEMENT(SET_OWN_SESSION)
    sl_sqlite_bind_number(statement, 1, number);
    sl_sqlite_bind_number(statement, 2, sl_crc32c(0, messages));
    return sl_sqlite_run(statement);
}

int sl_sqlite_context_owns_session(
    struct sl_sqlite *store,
    uint64_t number,
    const struct sl_store_session *session,
    bool *ret_owns)
{
    STATEMENT(HAS_OWN_SESSION)
    sl_sqlite_bind_number(statement, 1, number);
    sl_sqlite_bind_text(statement, 2, session->tenant);
    sl_sqlite_bind_text(statement, 3, session->agent);
    sl_sqlite_bind_text(statement, 4, session->session_id);
    rc = sqlite3_step(statement);
    *ret_owns = rc == SQLITE_ROW;
    (void)sqlite3_reset(statement);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static void
take(sqlite3_stmt *statement, uint64_t number, struct sl_arena *arena, struct sl_store_run *run)
{
    const struct sl_slice bytes = sl_sqlite_bytes(statement, COLUMN_BYTES);
    const uint64_t sequence = sl_sqlite_number(statement, COLUMN_SEQUENCE);
    const bool is_final = sl_sqlite_number(statement, COLUMN_IS_FINAL) != 0;
    if (crc_of(number, sequence, is_final, bytes) != sl_sqlite_number(statement, COLUMN_CRC)) {
        return;
    }
    run->context = sl_sqlite_copy_of(statement, COLUMN_BYTES, arena);
    run->context_sequence = sequence;
    run->context_state = is_final ? SL_STORE_CONTEXT_FINAL : SL_STORE_CONTEXT_BASE;
}

int sl_sqlite_context_read(
    struct sl_sqlite_db *db, uint64_t number, struct sl_arena *arena, struct sl_store_run *ret_run)
{
    int rc = SQLITE_OK;
    sqlite3_stmt *statement = sl_sqlite_statement(db, SL_SQL_GET_CONTEXT, &rc);
    if (statement == NULL) {
        return rc;
    }
    sl_sqlite_bind_number(statement, 1, number);
    rc = sqlite3_step(statement);
    const bool is_there = rc == SQLITE_ROW;
    const bool is_broken = (rc & 0xFF) == SQLITE_CORRUPT; /* it is the loss of this run only */
    ret_run->context_state =
        is_there || is_broken ? SL_STORE_CONTEXT_DAMAGED : SL_STORE_CONTEXT_NONE;
    if (is_there) {
        take(statement, number, arena, ret_run);
    }
    (void)sqlite3_reset(statement);
    if (arena->is_refused) {
        return SQLITE_NOMEM;
    }
    return is_there || is_broken || rc == SQLITE_DONE ? SQLITE_OK : rc;
}
