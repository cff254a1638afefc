/* All statements of the SQLite store. The tables are in sqlite_schema.c. An index of a part of the
 * rows is used only where the statement says the index's own condition, word for word. */
#ifndef SL_RUNTIME_STORE_SQLITE_SQL_H
#define SL_RUNTIME_STORE_SQLITE_SQL_H

/* What sl_sqlite_fill_run() reads, in this order. */
#define SL_SQL_RUN                                                                                 \
    "r.number, r.run_id, r.tenant, r.agent, r.session_id, r.request_id, r.digest, r.durability, "  \
    "r.on_disconnect, r.created_ms, r.metadata, r.node, r.state, r.ended_ms, h.epoch, "            \
    "h.last_sequence, h.floor, h.recovered_after, h.rests "                                        \
    "FROM runs AS r JOIN heads AS h ON h.run = r.number "

#define SL_SQL_MAP(X)                                                                              \
    /* transactions */                                                                             \
    X(BEGIN_WRITE, "BEGIN IMMEDIATE")                                                              \
    X(BEGIN_READ, "BEGIN")                                                                         \
    X(COMMIT, "COMMIT")                                                                            \
    X(ROLLBACK, "ROLLBACK")                                                                        \
    /* runs */                                                                                     \
    X(ADD_RUN,                                                                                     \
      "INSERT INTO runs (run_id, tenant, agent, session_id, request_id, digest, durability, "      \
      "on_disconnect, created_ms, metadata, node, state) "                                         \
      "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT DO NOTHING")         \
    X(ADD_HEAD, "INSERT INTO heads (run, epoch, bytes) VALUES (?1, ?2, ?3)")                       \
    X(ADD_BYTES, "UPDATE heads SET bytes = bytes + ?2 WHERE run = ?1")                             \
    X(FIND_BEGUN,                                                                                  \
      "SELECT r.number FROM runs AS r JOIN heads AS h ON h.run = r.number "                        \
      "WHERE r.run_id = ?1 AND r.tenant = ?2 AND h.epoch = ?3 AND h.last_sequence = 0")            \
    X(FIND_REQUEST, "SELECT run_id, agent, digest FROM runs "                                      \
                    "WHERE tenant = ?1 AND request_id = ?2 AND request_id <> ''")                  \
    X(PUT_RESUME, "INSERT INTO resumes (run, bytes, crc) VALUES (?1, ?2, ?3) "                     \
                  "ON CONFLICT (run) DO UPDATE SET bytes = excluded.bytes, crc = excluded.crc")    \
    X(GET_RESUME, "SELECT bytes, crc FROM resumes WHERE run = ?1")                                 \
    X(DROP_RESUME, "DELETE FROM resumes WHERE run = ?1")                                           \
    X(SET_STATE, "UPDATE runs SET state = ?2 WHERE number = ?1")                                   \
    X(SET_ENDED, "UPDATE runs SET state = ?2, ended_ms = ?3 WHERE number = ?1")                    \
    /* events */                                                                                   \
    X(MOVE_HEAD,                                                                                   \
      "UPDATE heads SET last_sequence = ?4, bytes = bytes + ?5, rests = ?6, is_over = ?7 "         \
      "WHERE run = ?1 AND epoch = ?2 AND last_sequence = ?3 AND is_over = 0")                      \
    X(GET_HEAD, "SELECT epoch, last_sequence, is_over FROM heads WHERE run = ?1")                  \
    X(SET_LOST, "UPDATE heads SET recovered_after = coalesce(recovered_after, ?2) WHERE run = ?1") \
    X(ADD_EVENTS, "INSERT INTO events (run, first_sequence, last_sequence, bytes, crc) "           \
                  "VALUES (?1, ?2, ?3, ?4, ?5)")                                                   \
    X(GET_EVENTS, "SELECT first_sequence, last_sequence, bytes, crc FROM events "                  \
                  "WHERE run = ?1 AND last_sequence > ?2 ORDER BY last_sequence")                  \
    X(GET_ROW, "SELECT first_sequence, last_sequence, bytes, crc FROM events "                     \
               "WHERE run = ?1 AND last_sequence = ?2")                                            \
    /* asking */                                                                                   \
    X(GET_RUN, "SELECT " SL_SQL_RUN "WHERE r.run_id = ?1")                                         \
    X(GET_RUN_OF_REQUEST, "SELECT " SL_SQL_RUN "WHERE r.tenant = ?1 AND r.request_id = ?2 "        \
                          "AND r.request_id <> ''")                                                \
    X(LIST_RUNS,                                                                                   \
      "SELECT " SL_SQL_RUN "WHERE r.tenant = ?1 AND r.number < ?2 ORDER BY r.number DESC")         \
    /* recovery */                                                                                 \
    X(NEXT_ORPHAN, "SELECT " SL_SQL_RUN "WHERE r.ended_ms = 0 AND r.number > ?1 "                  \
                   "AND (h.epoch < ?2 OR r.number <= ?3) ORDER BY r.number LIMIT 1")               \
    X(CLAIM,                                                                                       \
      "UPDATE heads SET epoch = ?2, recovered_after = CASE WHEN rests THEN recovered_after "       \
      "ELSE coalesce(recovered_after, last_sequence) END WHERE run = ?1")                          \
    X(SET_NODE, "UPDATE runs SET node = ?2 WHERE number = ?1")                                     \
    /* conversations of runs */                                                                    \
    X(ADD_CONTEXT,                                                                                 \
      "INSERT INTO contexts (run, sequence, is_final, keeps_session, session_crc, crc, bytes) "    \
      "VALUES (?1, 0, 0, ?2, (SELECT crc FROM sessions "                                           \
      "WHERE tenant = ?3 AND agent = ?4 AND session_id = ?5), ?6, ?7)")                            \
    X(PUT_CONTEXT,                                                                                 \
      "INSERT INTO contexts (run, sequence, is_final, keeps_session, crc, bytes) "                 \
      "VALUES (?1, ?2, ?3, 0, ?4, ?5) ON CONFLICT (run) DO UPDATE SET "                            \
      "sequence = excluded.sequence, is_final = excluded.is_final, crc = excluded.crc, "           \
      "bytes = excluded.bytes")                                                                    \
    X(GET_CONTEXT, "SELECT sequence, is_final, crc, bytes FROM contexts WHERE run = ?1")           \
    X(GET_CONTEXT_SIZE, "SELECT length(bytes) FROM contexts WHERE run = ?1")                       \
    X(SET_OWN_SESSION, "UPDATE contexts SET session_crc = ?2 WHERE run = ?1")                      \
    X(HAS_OWN_SESSION,                                                                             \
      "SELECT 1 FROM contexts AS c LEFT JOIN sessions AS s ON s.tenant = ?2 AND s.agent = ?3 "     \
      "AND s.session_id = ?4 "                                                                     \
      "WHERE c.run = ?1 AND c.keeps_session = 1 AND c.session_crc IS s.crc")                       \
    /* sessions */                                                                                 \
    X(PUT_SESSION,                                                                                 \
      "INSERT INTO sessions (tenant, agent, session_id, messages, crc, updated_ms) "               \
      "VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (tenant, agent, session_id) DO UPDATE SET "     \
      "messages = excluded.messages, crc = excluded.crc, updated_ms = excluded.updated_ms")        \
    X(GET_SESSION,                                                                                 \
      "SELECT messages, crc FROM sessions WHERE tenant = ?1 AND agent = ?2 AND session_id = ?3")   \
    X(GET_SESSION_SIZE, "SELECT length(messages) FROM sessions "                                   \
                        "WHERE tenant = ?1 AND agent = ?2 AND session_id = ?3")                    \
    /* retention */                                                                                \
    X(OLDEST_SESSION,                                                                              \
      "SELECT rowid, updated_ms, length(messages) FROM sessions ORDER BY updated_ms LIMIT 1")      \
    X(DROP_SESSION, "DELETE FROM sessions WHERE rowid = ?1")                                       \
    X(OLDEST_ENDED,                                                                                \
      "SELECT number, ended_ms FROM runs WHERE ended_ms > 0 ORDER BY ended_ms, number LIMIT 1")    \
    X(DROP_EVENTS, "DELETE FROM events WHERE run = ?1 AND last_sequence <= ?2")                    \
    X(LOOK_EVENTS, "SELECT last_sequence, length(bytes) FROM events WHERE run = ?1 "               \
                   "ORDER BY last_sequence LIMIT ?2")                                              \
    X(SET_FLOOR, "UPDATE heads SET floor = ?2, bytes = bytes - ?3 WHERE run = ?1")                 \
    X(DROP_HEAD, "DELETE FROM heads WHERE run = ?1")                                               \
    X(DROP_RUN, "DELETE FROM runs WHERE number = ?1")

enum sl_sql {
#define SL_SQL_ENUM(name, text) SL_SQL_##name,
    SL_SQL_MAP(SL_SQL_ENUM)
#undef SL_SQL_ENUM
        SL_SQL_COUNT
};

#endif
