/* What a store keeps of a run's conversation, and of whose session it may write at the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "tests/fake/store_rig.h"

static struct sl_store_rig rig;

static int new_rig(void **state)
{
    (void)state;
    sl_store_rig_init(&rig);
    sl_store_rig_open(&rig);
    return 0;
}

static int end_rig(void **state)
{
    (void)state;
    sl_store_rig_done(&rig);
    return 0;
}

/* With the store closed. */
static void run_sql(const char *sql)
{
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(rig.path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static uint64_t kept_bytes(void)
{
    struct sl_store_stats stats;
    sl_store_stats(rig.store, &stats);
    return stats.kept_bytes;
}

/* ---- Runs --------------------------------------------------------------------------------------
 */

static struct sl_store_log begin(const char *run_id, const char *context, bool keeps_session)
{
    struct sl_store_run run = sl_store_rig_run(run_id);
    struct sl_store_log log = { 0 };
    run.session_id = "s1";
    run.context = sl_slice_str(context);
    run.keeps_session = keeps_session;
    assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_OK);
    assert_int_equal(sl_store_rig_append(&rig, &log, 1, 5), SL_OK);
    return log;
}

static void save(struct sl_store_log *log, const char *messages, uint64_t context_sequence)
{
    const struct sl_store_session session = { "acme", "helper", "s1", sl_slice_str(messages) };
    struct sl_store_save request = { .request = sl_store_rig_request(&rig),
                                     .log = log,
                                     .session = &session,
                                     .context_sequence = context_sequence };
    assert_int_equal(
        sl_store_rig_wait(&rig, &request.request, sl_store_save(rig.store, &request)), SL_OK);
}

/* With event 6 of the run. `messages`: of the session; NULL: none. */
static void
end_with(struct sl_store_log *log, const char *context, const char *messages, bool session_if_own)
{
    struct sl_segment *segment = sl_store_rig_events(6, 1, 100, 0);
    const struct sl_store_session session = { "acme", "helper", "s1", sl_slice_str(messages) };
    struct sl_store_end end = {
        .request = sl_store_rig_request(&rig),
        .log = log,
        .sequence = 6,
        .range = { .segment = segment, .to = segment->used },
        .state = SL_STORE_STATE_DONE,
        .ended_ms = 1,
        .session = messages == NULL ? NULL : &session,
        .session_if_own = session_if_own,
        .context = sl_slice_str(context),
    };
    assert_int_equal(
        sl_store_rig_wait(&rig, &end.request, sl_store_end_run(rig.store, &end)), SL_OK);
    (void)sl_segment_unref(segment);
}

static void check_context(
    const char *run_id, enum sl_store_context state, uint64_t sequence, const char *context)
{
    struct sl_store_get get = { .request = sl_store_rig_request(&rig),
                                .run_id = run_id,
                                .wants_context = true };
    assert_int_equal(sl_store_rig_wait(&rig, &get.request, sl_store_get(rig.store, &get)), SL_OK);
    assert_int_equal(get.run.context_state, state);
    assert_int_equal(get.run.context_sequence, sequence);
    assert_true(sl_slice_equals(get.run.context, context));
    sl_store_request_done(&get.request);
}

static void check_session(const char *messages)
{
    struct sl_store_load load = { .request = sl_store_rig_request(&rig),
                                  .tenant = "acme",
                                  .agent = "helper",
                                  .session_id = "s1" };
    const enum sl_status status =
        sl_store_rig_wait(&rig, &load.request, sl_store_load(rig.store, &load));
    assert_int_equal(status, messages == NULL ? SL_NOT_FOUND : SL_OK);
    assert_true(sl_slice_equals(load.messages, messages == NULL ? "" : messages));
    sl_store_request_done(&load.request);
}

static void recover(struct sl_store_recover *found, struct sl_store_log *log)
{
    *found = (struct sl_store_recover){ .request = sl_store_rig_request(&rig), .log = log };
    assert_int_equal(
        sl_store_rig_wait(&rig, &found->request, sl_store_recover(rig.store, found)), SL_OK);
}

static void reopen(void)
{
    sl_store_rig_close(&rig);
    sl_store_rig_open(&rig);
}

/* ---- What is kept ------------------------------------------------------------------------------
 */

static void a_conversation_is_kept_from_the_beginning_to_the_end(void **state)
{
    (void)state;
    struct sl_store_log log = begin("r1", "hello", false);
    struct sl_store_log other = begin("r2", "", false);
    check_context("r1", SL_STORE_CONTEXT_BASE, 0, "hello");
    check_context("r2", SL_STORE_CONTEXT_NONE, 0, "");
    end_with(&log, "hello, and good bye", NULL, false);
    end_with(&other, "", NULL, false);
    reopen();
    check_context("r1", SL_STORE_CONTEXT_FINAL, 6, "hello, and good bye");
    check_context("r2", SL_STORE_CONTEXT_NONE, 0, "");
    check_session(NULL);
    struct sl_store_get get; /* it is large: only who asks for it gets it */
    assert_int_equal(sl_store_rig_get(&rig, &get, "r1"), SL_OK);
    assert_int_equal(get.run.context.size, 0);
    sl_store_request_done(&get.request);
}

static void a_session_that_is_saved_is_the_runs_conversation(void **state)
{
    (void)state;
    struct sl_store_log log = begin("r1", "hello", true);
    save(&log, "hello, tool", 4);
    check_context("r1", SL_STORE_CONTEXT_BASE, 4, "hello, tool");
    save(&log, "of another store", 0); /* not its own */
    check_context("r1", SL_STORE_CONTEXT_BASE, 4, "hello, tool");
    reopen();
    struct sl_store_recover found;
    recover(&found, &log);
    assert_int_equal(found.run.context_sequence, 4);
    assert_true(sl_slice_equals(found.run.context, "hello, tool"));
    sl_store_request_done(&found.request);
    end_with(&log, "hello, tool, end", NULL, false);
    check_context("r1", SL_STORE_CONTEXT_FINAL, 6, "hello, tool, end");
}

static void its_bytes_are_the_runs(void **state)
{
    (void)state;
    struct sl_store_log log = begin("r1", "hello", true);
    assert_int_equal(kept_bytes(), 5 * 105 + 5);
    save(&log, "hello, tool", 4);
    assert_int_equal(kept_bytes(), 5 * 105 + 11);
    end_with(&log, "hi", NULL, false);
    assert_int_equal(kept_bytes(), 6 * 105 + 2);
    struct sl_store_log late = begin("r2", "", false);
    end_with(&late, "late", NULL, false);
    assert_int_equal(kept_bytes(), 12 * 105 + 6);
    sl_store_rig_close(&rig);
    rig.options.keep_bytes = 1260; /* the last six bytes push the oldest run out */
    sl_store_rig_open(&rig);
    struct sl_store_stats stats = { .runs_removed = 0 };
    for (int i = 0; stats.runs_removed < 1; i++) {
        assert_true(i < 10000);
        sl_loop_uv_step(rig.uv, 2);
        sl_store_stats(rig.store, &stats);
    }
    assert_int_equal(kept_bytes(), 6 * 105 + 4);
    sl_store_rig_close(&rig);
    run_sql("CREATE TEMP TABLE t AS SELECT 1 / (count(*) = 1) FROM contexts WHERE run = 2");
}

/* ---- Sessions of a run whose owner is gone: AL-5.27 --------------------------------------------
 */

static void who_ends_it_for_another_writes_the_session_that_it_left(void **state)
{
    (void)state;
    static const struct {
        bool keeps, was_there, was_saved;
        const char *meanwhile; /* somebody wrote that after the run; NULL: nobody */
        const char *expected;
    } cases[] = {
        { true, false, false, NULL, "cut" },  { true, true, false, NULL, "cut" },
        { true, true, true, NULL, "cut" },    { true, false, true, NULL, "cut" },
        { true, true, false, "new", "new" },  { true, true, true, "new", "new" },
        { true, false, false, "new", "new" }, { false, true, false, NULL, "old" },
        { false, false, false, NULL, NULL },
    };
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        struct sl_store_recover found;
        if (i > 0) {
            new_rig(NULL);
        }
        if (cases[i].was_there) {
            save(NULL, "old", 0);
        }
        struct sl_store_log log = begin("r1", "hello", cases[i].keeps);
        if (cases[i].was_saved) {
            save(&log, "hello, tool", 4);
        }
        if (cases[i].meanwhile != NULL) {
            save(NULL, cases[i].meanwhile, 0);
        }
        reopen();
        recover(&found, &log);
        sl_store_request_done(&found.request);
        end_with(&log, "whole", "cut", true);
        check_session(cases[i].expected);
        check_context("r1", SL_STORE_CONTEXT_FINAL, 6, "whole");
        if (i + 1 < SL_COUNT(cases)) {
            end_rig(NULL);
        }
    }
}

/* ---- Damage, and other versions ----------------------------------------------------------------
 */

/* RL-S4 */
static void a_damaged_conversation_is_the_loss_of_its_run_only(void **state)
{
    (void)state;
    static const char *const damages[] = {
        "UPDATE contexts SET bytes = 'jello' WHERE run = 1",
        "UPDATE contexts SET sequence = 5 WHERE run = 1",
        "UPDATE contexts SET is_final = 0 WHERE run = 1",
        "UPDATE contexts SET crc = (SELECT crc FROM contexts WHERE run = 2) WHERE run = 1",
    };
    for (size_t i = 0; i < SL_COUNT(damages); i++) {
        if (i > 0) {
            end_rig(NULL);
            new_rig(NULL);
        }
        struct sl_store_log log = begin("r1", "hello", false);
        struct sl_store_log other = begin("r2", "hello", false);
        end_with(&log, "hello", NULL, false);
        end_with(&other, "hello", NULL, false);
        sl_store_rig_close(&rig);
        run_sql(damages[i]);
        sl_store_rig_open(&rig);
        enum sl_status status = SL_OK;
        check_context("r1", SL_STORE_CONTEXT_DAMAGED, 0, "");
        check_context("r2", SL_STORE_CONTEXT_FINAL, 6, "hello");
        assert_int_equal(sl_store_rig_read_all(&rig, "r1", &status), 6);
        assert_int_equal(status, SL_OK);
    }
}

static enum sl_status open_as(uint32_t n_steps)
{
    static struct sl_sqlite_schema before;
    before = (struct sl_sqlite_schema){ .steps = sl_sqlite_schema.steps,
                                        .n_steps = n_steps,
                                        .min_reader = 1 };
    return sl_sqlite_new(&rig.options, &before, NULL, &rig.store, &rig.err);
}

/* Reliability 4.2. The statements of a version 1 have no conversations; what it would have done is
 * done by hand. */
static void the_first_version_and_this_one_use_each_others_stores(void **state)
{
    (void)state;
    struct sl_store_log log = begin("r1", "hello", true);
    end_with(&log, "hello, end", NULL, false);
    sl_store_rig_close(&rig);
    assert_int_equal(open_as(1), SL_OK); /* nothing in it is too new */
    sl_store_rig_close(&rig);
    run_sql("DELETE FROM events WHERE run = 1; DELETE FROM heads WHERE run = 1;"
            "DELETE FROM runs WHERE number = 1");
    sl_store_rig_open(&rig);
    sl_store_rig_whole_run(&rig, "r2", 3, 1); /* its number is 1 again */
    check_context("r2", SL_STORE_CONTEXT_NONE, 0, "");

    end_rig(NULL);
    sl_store_rig_init(&rig);
    assert_int_equal(open_as(1), SL_OK);
    sl_store_rig_close(&rig);
    run_sql("CREATE TEMP TABLE t AS SELECT 1 / (count(*) = 0) FROM sqlite_master "
            "WHERE name = 'contexts'");
    sl_store_rig_open(&rig);
    log = begin("r1", "hello", true);
    end_with(&log, "hello, end", NULL, false);
    check_context("r1", SL_STORE_CONTEXT_FINAL, 6, "hello, end");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, new_rig, end_rig)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_conversation_is_kept_from_the_beginning_to_the_end),
        TEST(a_session_that_is_saved_is_the_runs_conversation),
        TEST(its_bytes_are_the_runs),
        TEST(who_ends_it_for_another_writes_the_session_that_it_left),
        TEST(a_damaged_conversation_is_the_loss_of_its_run_only),
        TEST(the_first_version_and_this_one_use_each_others_stores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
