/* Runs that lost their owner, and runs that are removed. */
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

/* ---- Recovery ----------------------------------------------------------------------------------
 */

static enum sl_status recover(struct sl_store_recover *recover, struct sl_store_log *log)
{
    *recover = (struct sl_store_recover){ .request = sl_store_rig_request(&rig), .log = log };
    return sl_store_rig_wait(&rig, &recover->request, sl_store_recover(rig.store, recover));
}

/* Begins a run and leaves it. */
static struct sl_store_log
leave_run(const char *run_id, enum sl_store_durability durability, const char *resume, bool rests)
{
    struct sl_store_run run = sl_store_rig_run(run_id);
    struct sl_store_log log = { 0 };
    run.durability = durability;
    run.resume = sl_slice_str("first");
    assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_OK);
    struct sl_segment *segment = sl_store_rig_events(1, 5, 100, 0);
    struct sl_store_append append = {
        .request = sl_store_rig_request(&rig),
        .log = &log,
        .first_sequence = 1,
        .last_sequence = 5,
        .ranges = { { .segment = segment, .to = segment->used } },
        .n_ranges = 1,
        .resume = sl_slice_str(resume),
        .state = rests ? SL_STORE_STATE_WAITING : SL_STORE_STATE_ANY,
        .rests = rests,
    };
    assert_int_equal(
        sl_store_rig_wait(&rig, &append.request, sl_store_append(rig.store, &append)), SL_OK);
    (void)sl_segment_unref(segment);
    return log;
}

/* RL-X1, the store's part of it; RL-G10 */
static void a_run_without_its_owner_is_claimed_once(void **state)
{
    (void)state;
    struct sl_store_log log = { 0 };
    struct sl_store_recover found;
    enum sl_status status = SL_OK;
    rig.options.node = "one";
    sl_store_rig_open(&rig);
    assert_int_equal(recover(&found, &log), SL_END);
    struct sl_store_log old = leave_run("r1", SL_STORE_ASYNC, "second", false);
    assert_int_equal(recover(&found, &log), SL_END); /* its owner lives */
    sl_store_rig_close(&rig);
    rig.options.node = "two";
    sl_store_rig_open(&rig);
    assert_int_equal(recover(&found, &log), SL_OK);
    assert_string_equal(found.run.run_id, "r1");
    assert_true(sl_slice_equals(found.run.resume, "second"));
    assert_true(found.run.is_recovered);
    assert_int_equal(found.run.recovered_after, 5);
    assert_int_equal(found.run.epoch, 2);
    assert_int_equal(log.stored, 5);
    assert_int_equal(sl_store_n_open(rig.store), 1);
    sl_store_request_done(&found.request);
    struct sl_store_log other = { 0 };
    assert_int_equal(recover(&found, &other), SL_END);

    /* Whoever had it before can write nothing. */
    assert_int_equal(sl_store_rig_append(&rig, &old, 6, 1), SL_ABORTED);
    assert_int_equal(sl_store_rig_end(&rig, &old, 6, 1), SL_ABORTED);
    struct sl_store_session session = { "acme", "helper", "s1", sl_slice_str("x") };
    struct sl_store_save save = { .request = sl_store_rig_request(&rig),
                                  .log = &old,
                                  .session = &session };
    assert_int_equal(
        sl_store_rig_wait(&rig, &save.request, sl_store_save(rig.store, &save)), SL_ABORTED);

    assert_int_equal(sl_store_rig_end(&rig, &log, 6, 1), SL_OK);
    assert_int_equal(sl_store_n_open(rig.store), 0);
    struct sl_store_get get;
    assert_int_equal(sl_store_rig_get(&rig, &get, "r1"), SL_OK);
    assert_string_equal(get.run.node, "two");
    assert_int_equal(sl_store_check_cursor(&get.run, 5), SL_OK);
    assert_int_equal(sl_store_check_cursor(&get.run, 6), SL_DATA_LOSS);
    sl_store_request_done(&get.request);
    assert_int_equal(sl_store_rig_read_all(&rig, "r1", &status), 6);
}

/* A crash between the claim and the end: the first loss counts. */
static void a_second_crash_does_not_hide_the_first_loss(void **state)
{
    (void)state;
    struct sl_store_log log = { 0 };
    struct sl_store_recover found;
    sl_store_rig_open(&rig);
    (void)leave_run("r1", SL_STORE_ASYNC, "", false);
    for (int i = 0; i < 2; i++) {
        sl_store_rig_close(&rig);
        sl_store_rig_open(&rig);
        assert_int_equal(recover(&found, &log), SL_OK);
        assert_int_equal(found.run.recovered_after, 5);
        sl_store_request_done(&found.request);
        assert_int_equal(sl_store_rig_append(&rig, &log, log.stored + 1, 2), SL_OK);
    }
    struct sl_store_get get;
    assert_int_equal(sl_store_rig_get(&rig, &get, "r1"), SL_OK);
    assert_int_equal(get.run.recovered_after, 5);
    assert_int_equal(get.run.last_sequence, 9);
    sl_store_request_done(&get.request);
}

static size_t count_listed(const char *tenant, enum sl_store_state state)
{
    struct sl_store_list list = {
        .request = sl_store_rig_request(&rig), .tenant = tenant, .state = state, .page_size = 10
    };
    assert_int_equal(
        sl_store_rig_wait(&rig, &list.request, sl_store_list(rig.store, &list)), SL_OK);
    const size_t n_runs = list.n_runs;
    sl_store_request_done(&list.request);
    return n_runs;
}

static void a_run_at_rest_has_lost_nothing(void **state)
{
    (void)state;
    struct sl_store_log log = { 0 };
    struct sl_store_recover found;
    sl_store_rig_open(&rig);
    (void)leave_run("r1", SL_STORE_ASYNC, "", true);
    sl_store_rig_close(&rig);
    sl_store_rig_open(&rig);
    assert_int_equal(recover(&found, &log), SL_OK);
    assert_false(found.run.is_recovered);
    assert_true(found.run.is_rested);
    assert_int_equal(found.run.state, SL_STORE_STATE_WAITING);
    assert_true(sl_slice_equals(found.run.resume, "first"));
    sl_store_request_done(&found.request);
    assert_int_equal(count_listed(sl_store_rig_run("r1").tenant, SL_STORE_STATE_RUNNING), 1);
    assert_int_equal(count_listed(sl_store_rig_run("r1").tenant, SL_STORE_STATE_WAITING), 1);
    assert_int_equal(count_listed(sl_store_rig_run("r1").tenant, SL_STORE_STATE_DONE), 0);
    assert_int_equal(sl_store_rig_append(&rig, &log, 6, 2), SL_OK);
    struct sl_store_get get;
    assert_int_equal(sl_store_rig_get(&rig, &get, "r1"), SL_OK);
    assert_false(get.run.is_recovered || get.run.is_rested);
    sl_store_request_done(&get.request);
}

static void several_claims_at_once_get_different_runs(void **state)
{
    (void)state;
    enum { N = 20 };
    static struct sl_store_log logs[N + 5];
    static struct sl_store_recover found[N + 5];
    sl_store_rig_open(&rig);
    for (int i = 0; i < N; i++) {
        char run_id[16];
        (void)snprintf(run_id, sizeof(run_id), "r%d", i);
        (void)leave_run(run_id, SL_STORE_SYNC, "", false);
    }
    sl_store_rig_close(&rig);
    sl_store_rig_open(&rig);
    for (size_t i = 0; i < SL_COUNT(found); i++) {
        found[i] =
            (struct sl_store_recover){ .request = sl_store_rig_request(&rig), .log = &logs[i] };
        assert_int_equal(sl_store_recover(rig.store, &found[i]), SL_PENDING);
    }
    for (size_t i = 0; i < SL_COUNT(found); i++) {
        const enum sl_status status = sl_store_rig_wait(&rig, &found[i].request, SL_PENDING);
        assert_int_equal(status, i < N ? SL_OK : SL_END);
        if (i < N) {
            char run_id[16];
            (void)snprintf(run_id, sizeof(run_id), "r%zu", i);
            assert_string_equal(found[i].run.run_id, run_id);
        }
        sl_store_request_done(&found[i].request);
    }
    assert_int_equal(sl_store_n_open(rig.store), N);
    for (size_t i = 0; i < N; i++) {
        sl_store_log_drop(rig.store, &logs[i]);
    }
    assert_int_equal(sl_store_n_open(rig.store), 0);
}

/* What comes behind the loss is an append, and the end; or the end alone. */
static void end_with_loss(const char *run_id, bool by_append)
{
    const struct sl_store_run run = sl_store_rig_run(run_id);
    struct sl_store_log log = { 0 };
    assert_int_equal(sl_store_rig_begin(&rig, &log, &run), SL_OK);
    assert_int_equal(sl_store_rig_append(&rig, &log, 1, 4), SL_OK);
    struct sl_segment *segment = sl_store_rig_events(5, 1, 100, 0);
    struct sl_store_append append = {
        .request = sl_store_rig_request(&rig),
        .log = &log,
        .first_sequence = 5,
        .last_sequence = 5,
        .ranges = { { .segment = segment, .to = segment->used } },
        .n_ranges = 1,
        .has_lost = true,
    };
    if (by_append) {
        assert_int_equal(
            sl_store_rig_wait(&rig, &append.request, sl_store_append(rig.store, &append)), SL_OK);
    }
    struct sl_store_end end = {
        .request = sl_store_rig_request(&rig),
        .log = &log,
        .sequence = by_append ? 6 : 5,
        .range = { .segment = segment, .to = segment->used },
        .state = SL_STORE_STATE_FAILED,
        .ended_ms = 1,
        .has_lost = true,
    };
    assert_int_equal(
        sl_store_rig_wait(&rig, &end.request, sl_store_end_run(rig.store, &end)), SL_OK);
    (void)sl_segment_unref(segment);
    struct sl_store_get get;
    assert_int_equal(sl_store_rig_get(&rig, &get, run_id), SL_OK);
    assert_true(get.run.is_recovered);
    assert_int_equal(get.run.recovered_after, 4);
    sl_store_request_done(&get.request);
}

/* AL-5.28: what was sent and could not be stored is lost, and the end says so. */
static void an_end_can_say_that_events_were_lost(void **state)
{
    (void)state;
    sl_store_rig_open(&rig);
    for (int by_append = 0; by_append < 2; by_append++) {
        end_with_loss(by_append ? "r2" : "r1", by_append);
    }
}

/* ---- Retention ---------------------------------------------------------------------------------
 */

/* Asks until the store has removed so many runs. */
static void wait_removed(uint64_t n_runs)
{
    struct sl_store_stats stats = { 0 };
    for (int i = 0; stats.runs_removed < n_runs; i++) {
        assert_true(i < 10000);
        sl_loop_uv_step(rig.uv, 2);
        sl_store_stats(rig.store, &stats);
    }
}

static void runs_that_are_too_old_go_and_open_ones_stay(void **state)
{
    (void)state;
    enum sl_status status = SL_OK;
    struct sl_store_get get;
    sl_store_rig_open(&rig);
    const uint64_t now_ms = sl_sqlite_wall_ms(SL_CONTAINER(rig.store, struct sl_sqlite, base));
    (void)leave_run("open", SL_STORE_SYNC, "", false);
    sl_store_rig_whole_run(&rig, "old", 3000, now_ms - 7200000);
    sl_store_rig_whole_run(&rig, "older", 1, now_ms - 9000000);
    sl_store_rig_whole_run(&rig, "young", 3, now_ms);
    sl_store_rig_close(&rig);
    rig.options.keep_ms = 3600000;
    sl_store_rig_open(&rig);
    wait_removed(2);
    assert_int_equal(sl_store_rig_get(&rig, &get, "old"), SL_NOT_FOUND);
    assert_int_equal(sl_store_rig_get(&rig, &get, "older"), SL_NOT_FOUND);
    assert_int_equal(sl_store_rig_read_all(&rig, "young", &status), 3);
    assert_int_equal(sl_store_rig_read_all(&rig, "open", &status), 5);
    struct sl_store_stats stats;
    sl_store_stats(rig.store, &stats);
    assert_int_equal(stats.kept_bytes, 8 * 105);
    sl_store_rig_close(&rig);
    run_sql(
        "CREATE TEMP TABLE t AS SELECT 1 / (count(*) = 3) FROM events"); /* rows of the others */
}

/* The oldest run goes from its beginning, as far as it takes. */
static void over_the_bound_the_oldest_events_go(void **state)
{
    (void)state;
    struct sl_store_get get;
    sl_store_rig_open(&rig);
    sl_store_rig_whole_run(&rig, "first", 30000, 1000); /* 3.15 MB */
    sl_store_rig_whole_run(&rig, "second", 10, 2000);
    sl_store_rig_close(&rig);
    rig.options.keep_bytes = 1500000;
    sl_store_rig_open(&rig);
    struct sl_store_stats stats = { .kept_bytes = UINT64_MAX };
    for (int i = 0; stats.kept_bytes > rig.options.keep_bytes; i++) {
        assert_true(i < 10000);
        sl_loop_uv_step(rig.uv, 2);
        sl_store_stats(rig.store, &stats);
    }
    assert_int_equal(stats.runs_removed, 0);
    assert_int_equal(sl_store_rig_get(&rig, &get, "first"), SL_OK);
    const uint64_t floor = get.run.floor;
    assert_in_range(floor, 15000, 29999);
    sl_store_request_done(&get.request);
    struct sl_store_read read = { .request = sl_store_rig_request(&rig),
                                  .run_id = "first",
                                  .after_sequence = floor - 2 };
    assert_int_equal(
        sl_store_rig_wait(&rig, &read.request, sl_store_read(rig.store, &read)), SL_OUT_OF_RANGE);
    assert_int_equal(read.run.floor, floor);
    read = (struct sl_store_read){ .request = sl_store_rig_request(&rig),
                                   .run_id = "first",
                                   .after_sequence = floor - 1 };
    assert_int_equal(
        sl_store_rig_wait(&rig, &read.request, sl_store_read(rig.store, &read)), SL_OK);
    assert_int_equal(read.first_sequence, floor);
    sl_store_request_done(&read.request);
    sl_store_rig_close(&rig);
    rig.options.keep_bytes = 500;
    sl_store_rig_open(&rig);
    wait_removed(2);
    sl_store_stats(rig.store, &stats);
    assert_int_equal(stats.kept_bytes, 0);
}

/* ---- Conversations -----------------------------------------------------------------------------
 */

static void save_session(const char *session_id, size_t n_bytes)
{
    static char bytes[4096];
    const struct sl_store_session session = { .tenant = "acme",
                                              .agent = "helper",
                                              .session_id = session_id,
                                              .messages = sl_slice_of(bytes, n_bytes) };
    struct sl_store_save save = { .request = sl_store_rig_request(&rig), .session = &session };
    assert_int_equal(
        sl_store_rig_wait(&rig, &save.request, sl_store_save(rig.store, &save)), SL_OK);
}

static enum sl_status load_session(const char *session_id)
{
    struct sl_store_load load = { .request = sl_store_rig_request(&rig),
                                  .tenant = "acme",
                                  .agent = "helper",
                                  .session_id = session_id };
    const enum sl_status status =
        sl_store_rig_wait(&rig, &load.request, sl_store_load(rig.store, &load));
    sl_store_request_done(&load.request);
    return status;
}

static void check_sessions(uint64_t n, uint64_t n_bytes, uint64_t n_removed)
{
    struct sl_store_stats stats = { .sessions = UINT64_MAX };
    for (int i = 0; stats.sessions != n || stats.sessions_removed != n_removed; i++) {
        assert_true(i < 10000);
        sl_loop_uv_step(rig.uv, 2);
        sl_store_stats(rig.store, &stats);
    }
    assert_int_equal(stats.session_bytes, n_bytes);
}

static void conversations_that_are_too_old_go(void **state)
{
    (void)state;
    sl_store_rig_open(&rig);
    save_session("old", 100);
    save_session("young", 200);
    save_session("young", 300);
    check_sessions(2, 400, 0);
    sl_store_rig_close(&rig);
    run_sql("UPDATE sessions SET updated_ms = updated_ms - 7200000 WHERE session_id = 'old'");
    rig.options.keep_ms = 3600000;
    sl_store_rig_open(&rig);
    check_sessions(1, 300, 1);
    assert_int_equal(load_session("old"), SL_NOT_FOUND);
    assert_int_equal(load_session("young"), SL_OK);
}

static void over_the_bound_the_oldest_conversations_go(void **state)
{
    (void)state;
    sl_store_rig_open(&rig);
    save_session("first", 1000);
    save_session("second", 1000);
    save_session("third", 1000);
    sl_store_rig_close(&rig);
    run_sql("UPDATE sessions SET updated_ms = updated_ms - 1000 WHERE session_id <> 'first'");
    run_sql("UPDATE sessions SET updated_ms = updated_ms - 1000 WHERE session_id = 'third'");
    rig.options.keep_bytes = 2500;
    sl_store_rig_open(&rig);
    check_sessions(2, 2000, 1);
    assert_int_equal(load_session("third"), SL_NOT_FOUND);
    save_session("second", 1800); /* now the oldest one is the first */
    check_sessions(1, 1800, 2);
    assert_int_equal(load_session("first"), SL_NOT_FOUND);
    assert_int_equal(load_session("second"), SL_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, new_rig, end_rig)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_run_without_its_owner_is_claimed_once),
        TEST(a_second_crash_does_not_hide_the_first_loss),
        TEST(a_run_at_rest_has_lost_nothing),
        TEST(several_claims_at_once_get_different_runs),
        TEST(an_end_can_say_that_events_were_lost),
        TEST(runs_that_are_too_old_go_and_open_ones_stay),
        TEST(over_the_bound_the_oldest_events_go),
        TEST(conversations_that_are_too_old_go),
        TEST(over_the_bound_the_oldest_conversations_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
