/* How SQLite finds what the statements ask for: no question may look at every row there is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/fake/store_rig.h"

static struct sl_store_rig rig;
static sqlite3 *db;

static int open_schema(void **state)
{
    (void)state;
    sl_store_rig_init(&rig);
    sl_store_rig_open(&rig);
    sl_store_rig_close(&rig);
    assert_int_equal(sqlite3_open(rig.path, &db), SQLITE_OK);
    return 0;
}

static int close_schema(void **state)
{
    (void)state;
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    sl_store_rig_done(&rig);
    return 0;
}

/* The steps of the plan, one a line. */
static const char *plan_of(const char *sql)
{
    static char plan[1024];
    char text[2048];
    sqlite3_stmt *statement = NULL;
    int size = 0;
    (void)snprintf(text, sizeof(text), "EXPLAIN QUERY PLAN %s", sql);
    assert_int_equal(sqlite3_prepare_v2(db, text, -1, &statement, NULL), SQLITE_OK);
    plan[0] = '\0';
    while (sqlite3_step(statement) == SQLITE_ROW) {
        size += snprintf(
            plan + size, sizeof(plan) - (size_t)size, "%s\n", sqlite3_column_text(statement, 3));
        assert_in_range(size, 0, sizeof(plan) - 1);
    }
    assert_int_equal(sqlite3_finalize(statement), SQLITE_OK);
    return plan;
}

static const char *const texts[] = {
#define TEXT(name, text) [SL_SQL_##name] = (text),
    SL_SQL_MAP(TEXT)
#undef TEXT
};

static void each_question_uses_the_index_that_is_meant_for_it(void **state)
{
    (void)state;
    static const struct {
        enum sl_sql sql;
        const char *index;
    } rows[] = {
        { SL_SQL_FIND_REQUEST, "INDEX runs_of_request (tenant=? AND request_id=?)" },
        { SL_SQL_GET_RUN_OF_REQUEST, "INDEX runs_of_request (tenant=? AND request_id=?)" },
        { SL_SQL_GET_RUN, "(run_id=?)" },
        { SL_SQL_LIST_RUNS, "INDEX runs_of_tenant (tenant=? AND number<?)" },
        { SL_SQL_NEXT_ORPHAN, "INDEX runs_open (number>?)" },
        { SL_SQL_OLDEST_ENDED, "INDEX runs_ended (ended_ms>?)" },
        { SL_SQL_GET_EVENTS, "INDEX events_of_run (run=? AND last_sequence>?)" },
        { SL_SQL_GET_ROW, "INDEX events_of_run (run=? AND last_sequence=?)" },
    };
    for (size_t i = 0; i < SL_COUNT(rows); i++) {
        if (strstr(plan_of(texts[rows[i].sql]), rows[i].index) == NULL) {
            fail_msg("%s\n%s", texts[rows[i].sql], plan_of(texts[rows[i].sql]));
        }
    }
}

/* In the order of an index is no look at all of them: each of these takes the first. */
static void no_statement_looks_at_every_row(void **state)
{
    (void)state;
    for (int sql = SL_SQL_ROLLBACK + 1; sql < SL_SQL_COUNT; sql++) {
        const char *plan = plan_of(texts[sql]);
        const bool is_sorted = strstr(plan, "TEMP B-TREE") != NULL;
        const bool is_all =
            strstr(plan, "SCAN ") != NULL && strstr(plan, "USING INDEX sessions_by_age") == NULL;
        if (is_sorted || is_all) {
            fail_msg("%s\n%s", texts[sql], plan);
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_schema, close_schema)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_question_uses_the_index_that_is_meant_for_it),
        TEST(no_statement_looks_at_every_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
