/* AL-8: readers that do not hold their runs back: SPILL, and what may be asked for. */
#include <sqlite3.h>

#include "tests/unit/test_query_rig.h"
#include "tests/unit/test_slow_rig.h"

/* ---- SPILL -------------------------------------------------------------------------------------
 */

static const enum sl_run_durability both[] = { SL_RUN_DURABILITY_ASYNC, SL_RUN_DURABILITY_SYNC };

static void a_run_goes_to_its_end_while_nobody_reads(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        for (size_t i = 0; i < SL_COUNT(both); i++) {
            struct reader blocker;
            struct reader slow = { .max_take = 0 };
            struct reader late = { .max_take = 0 };
            struct sl_run_spec spec = slow_spec(LONG_INPUT, SL_RUN_SLOW_SPILL);
            const uint64_t n_spills = n_actions("spill");
            open_with_run_elsewhere(n, &blocker);
            spec.durability = both[i];
            start_slow(&slow, &spec);
            /* What is not stored yet, and the mark; it had 3.4 MB. */
            assert_true(wait_for_end(1) < MOST_BYTES);
            assert_int_equal(sl_run_stream_sequence(slow.stream), 0);
            assert_true(n_actions("spill") > n_spills);
            read_to_end(&slow);
            assert_int_equal(sl_run_stream_sequence(slow.stream), N_EVENTS);
            assert_int_equal(sl_run_stream_ending(slow.stream)->status, SL_OK);
            assert_true(sl_run_stream_at_border(slow.stream));
            assert_false(is_lost || is_slow);
            check_whole(&slow, N_EVENTS);
            finish(&slow);
            attach(&late, slow.run_id, N_EVENTS); /* nothing is left of the one before */
            wait_until(&late.is_last);
            finish(&late);
            close_with_run_elsewhere(&blocker);
        }
    }
}

/* The same reader with PAUSE holds its run back: what is above is not for another reason. */
static void a_reader_that_pauses_holds_its_run_back(void **state)
{
    (void)state;
    struct reader slow = { .max_take = 0 };
    const struct sl_run_spec spec = slow_spec(LONG_INPUT, SL_RUN_SLOW_PAUSE);
    open_with_agents(1);
    start_slow(&slow, &spec);
    for (int i = 0; i < 200; i++) {
        sl_loop_uv_step(loops[0], 1);
    }
    assert_int_equal(n_ended(), 0);
    read_to_end(&slow);
    check_whole(&slow, N_EVENTS);
    finish(&slow);
    close_runtime();
}

/* Below the window and back, several times in one run. */
static void a_reader_goes_to_the_store_and_comes_back(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader blocker;
        struct reader slow = { .max_take = 0 };
        struct reader fast = { .max_take = 0 };
        const struct sl_run_spec spec = slow_spec(SLOW_INPUT, SL_RUN_SLOW_SPILL);
        open_with_run_elsewhere(n, &blocker);
        start_slow(&slow, &spec);
        is_reading = true;
        attach(&fast, slow.run_id, 0);
        for (uint64_t until = 4000; until <= 16000; until += 4000) {
            is_reading = true;
            read_some(&slow);
            for (int i = 0; sl_run_stream_sequence(slow.stream) < until - 3900; i++) {
                assert_true(i < MAX_STEPS);
                step();
            }
            is_reading = false;
            for (int i = 0; sl_run_stream_sequence(fast.stream) < until; i++) {
                assert_true(i < MAX_STEPS);
                step();
                read_some(&fast);
            }
        }
        read_to_end(&slow);
        assert_int_equal(sl_run_stream_ending(slow.stream)->status, SL_OK);
        assert_false(is_lost);
        check_whole(&slow, N_EVENTS);
        finish(&fast);
        finish(&slow);
        close_with_run_elsewhere(&blocker);
    }
}

/* Back at the log it has its mark again, each time. */
static void a_reader_that_comes_back_is_watched_again(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader blocker;
        struct reader slow = { .max_take = 0 };
        struct reader fast = { .max_take = 0 };
        const uint64_t n_spills = n_actions("spill");
        const struct sl_run_spec spec =
            slow_spec("{\"events\":1000000,\"bytes\":100,\"rate\":20000}", SL_RUN_SLOW_SPILL);
        open_with_run_elsewhere(n, &blocker);
        start_slow(&slow, &spec);
        attach(&fast, slow.run_id, 0);
        for (int n_rounds = 0; n_rounds < 3; n_rounds++) {
            const uint64_t sequence = sl_run_stream_sequence(slow.stream);
            is_reading = false;
            for (int i = 0; sl_run_stream_sequence(fast.stream) < sequence + 4500; i++) {
                assert_true(i < MAX_STEPS);
                step();
                read_some(&fast);
            }
            is_reading = true;
            read_some(&slow);
            for (int i = 0; slow.stream->reader.stored == NULL; i++) {
                assert_true(i < MAX_STEPS);
                step();
            }
            for (int i = 0; slow.stream->reader.stored != NULL; i++) {
                assert_true(i < MAX_STEPS);
                step();
            }
        }
        assert_true(n_actions("spill") >= n_spills + 3);
        assert_false(is_lost);
        sl_run_stream_close(slow.stream, SL_RUN_CLOSE_RESET, 8);
        sl_run_stream_close(fast.stream, SL_RUN_CLOSE_READ, 0);
        sl_buf_done(&slow.bytes);
        sl_buf_done(&fast.bytes);
        close_with_run_elsewhere(&blocker);
    }
}

/* A reader of its store that leaves, at each step of the way. */
static void a_reader_may_go_at_any_time(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader blocker;
        open_with_run_elsewhere(n, &blocker);
        for (uint64_t n_steps = 0; n_steps < 8; n_steps++) {
            struct reader slow = { .max_take = 5000 };
            struct sl_run_spec spec =
                slow_spec("{\"events\":3000,\"bytes\":100}", SL_RUN_SLOW_SPILL);
            spec.on_disconnect = SL_RUN_DETACH;
            is_reading = false;
            start_slow(&slow, &spec);
            (void)wait_for_end(n_steps + (n_steps % 2));
            is_reading = true;
            read_some(&slow);
            for (uint64_t i = 0; i < n_steps; i++) {
                sl_loop_uv_step(loops[0], 1);
            }
            sl_run_stream_close(slow.stream, SL_RUN_CLOSE_LOST, 0);
            sl_buf_done(&slow.bytes);
            (void)wait_for_end(n_steps + 1);
        }
        close_with_run_elsewhere(&blocker);
    }
}

/* AL-6.8: the store has the last event; whether the run had heard everything, it says itself, as
 * long as it is known. */
static void input_that_came_too_late_is_told(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        for (int is_kept = 0; is_kept <= 1; is_kept++) {
            struct reader blocker;
            struct reader slow = { .max_take = 0 };
            const struct sl_run_spec spec = slow_spec(SLOW_INPUT, SL_RUN_SLOW_SPILL);
            open_with_run_elsewhere(n, &blocker);
            runtime->newest->limits.window_keep = is_kept ? 120000 : 0;
            start_slow(&slow, &spec);
            const struct sl_run_ask ask = { .kind = SL_RUN_ASK_USER_INPUT,
                                            .run_id = slow.run_id,
                                            .text = sl_slice_str("and then?") };
            assert_int_equal(ask_for(&ask), SL_OK);
            end_asking();
            (void)wait_for_end(1);
            read_to_end(&slow);
            assert_int_equal(each_event(&slow, NULL, NULL), N_EVENTS);
            const struct sl_run_ending *ending = sl_run_stream_ending(slow.stream);
            assert_int_equal(ending->status, is_kept ? SL_FAILED_PRECONDITION : SL_OK);
            assert_string_equal(ending->reason, is_kept ? "INPUT_REFUSED" : "");
            finish(&slow);
            close_with_run_elsewhere(&blocker);
        }
    }
}

/* on_disconnect is what it is without SPILL. */
static void a_lost_reader_cancels_as_before(void **state)
{
    (void)state;
    struct reader slow = { .max_take = 0 };
    struct reader late = { .max_take = 0 };
    const struct sl_run_spec spec =
        slow_spec("{\"events\":3000,\"bytes\":100,\"hang\":true}", SL_RUN_SLOW_SPILL);
    open_with_agents(1);
    start_slow(&slow, &spec);
    sl_run_stream_close(slow.stream, SL_RUN_CLOSE_LOST, 0);
    (void)wait_for_end(1);
    is_reading = true;
    attach(&late, slow.run_id, 0);
    wait_until(&late.is_last);
    assert_int_equal(sl_run_stream_ending(late.stream)->status, SL_CANCELLED);
    finish(&late);
    sl_buf_done(&slow.bytes);
    close_runtime();
}

/* Who wants only the end, and who has no stream (StartRun: it is SPILL whatever is asked for). */
static void one_without_a_stream_is_not_in_the_way(void **state)
{
    (void)state;
    struct reader slow = { .max_take = 0 };
    struct sl_run_spec spec = slow_spec(LONG_INPUT, SL_RUN_SLOW_DEFAULT);
    open_with_agents(1);
    for (int i = 0; i <= SL_RUN_SLOW_DISCONNECT; i++) {
        is_reading = false;
        spec.slow_consumer = (enum sl_run_slow_consumer)i;
        spec.has_no_stream = spec.wants_only_end = true;
        start_slow(&slow, &spec);
        (void)wait_for_end(2 * (uint64_t)i + 1);
        finish(&slow);
        spec.has_no_stream = false;
        is_reading = true;
        start_slow(&slow, &spec);
        wait_until(&slow.is_last);
        assert_int_equal(sl_run_stream_ending(slow.stream)->status, SL_OK);
        finish(&slow);
        (void)wait_for_end(2 * (uint64_t)i + 2);
    }
    assert_false(is_slow || is_lost);
    close_runtime();
}

/* Observers, and runs without a reader, go on as before: nothing but the store holds them back. */
static void nobody_holds_back_a_run_that_he_attached_to(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        for (size_t i = 0; i < SL_COUNT(both); i++) {
            struct reader blocker;
            struct reader first = { .max_take = 0 };
            struct reader late = { .max_take = 0 };
            struct sl_run_spec spec = slow_spec(LONG_INPUT, SL_RUN_SLOW_PAUSE);
            open_with_run_elsewhere(n, &blocker);
            spec.durability = both[i];
            spec.on_disconnect = SL_RUN_DETACH;
            start_slow(&first, &spec);
            attach(&late, first.run_id, 0);
            sl_run_stream_close(first.stream, SL_RUN_CLOSE_LOST, 0);
            (void)wait_for_end(1);
            read_to_end(&late);
            check_whole(&late, N_EVENTS);
            assert_false(is_lost);
            finish(&late);
            sl_buf_done(&first.bytes);
            close_with_run_elsewhere(&blocker);
        }
    }
}

/* The same without a record: one that falls below the window hears of it. */
static void without_a_store_an_observer_that_falls_behind_is_told(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader blocker;
        struct reader first = { .max_take = 0 };
        struct reader late = { .max_take = 0 };
        struct sl_run_spec spec = slow_spec(LONG_INPUT, SL_RUN_SLOW_PAUSE);
        open_with_run_elsewhere(n, &blocker);
        spec.durability = SL_RUN_DURABILITY_NONE;
        spec.on_disconnect = SL_RUN_DETACH;
        start_slow(&first, &spec);
        attach(&late, first.run_id, 0);
        sl_run_stream_close(first.stream, SL_RUN_CLOSE_LOST, 0);
        (void)wait_for_end(1);
        is_reading = true;
        if (late.is_refused) { /* it came too late for the first event already */
            loss = late.refusal;
        } else {
            read_some(&late);
            wait_until(&is_lost);
        }
        assert_int_equal(loss.status, SL_OUT_OF_RANGE);
        assert_string_equal(loss.reason, "BELOW_RETENTION");
        finish(&late);
        sl_buf_done(&first.bytes);
        close_with_run_elsewhere(&blocker);
    }
}

/* ---- The store fails ---------------------------------------------------------------------------
 */

static const struct sl_store_ops *real_ops;

static enum sl_status submit_no_reads(struct sl_store *store, struct sl_store_request *request)
{
    return request->kind == SL_STORE_READ ? SL_UNAVAILABLE : real_ops->submit(store, request);
}

/* AL-5.1: once the stream has begun, it is never UNAVAILABLE. */
static void a_store_that_cannot_be_read_ends_the_stream(void **state)
{
    (void)state;
    struct reader slow = { .max_take = 0 };
    struct sl_run_spec spec = slow_spec(LONG_INPUT, SL_RUN_SLOW_SPILL);
    spec.on_disconnect = SL_RUN_DETACH;
    open_with_agents(1);
    struct sl_store_ops ops = *runtime->store->ops;
    real_ops = runtime->store->ops;
    ops.submit = submit_no_reads;
    start_slow(&slow, &spec);
    (void)wait_for_end(1);
    runtime->store->ops = &ops;
    is_reading = true;
    read_some(&slow);
    wait_until(&is_lost);
    assert_int_equal(loss.status, SL_ABORTED);
    assert_string_equal(loss.reason, "STORE_UNAVAILABLE");
    assert_false(slow.is_last);
    runtime->store->ops = real_ops;
    finish(&slow);
    close_runtime();
}

static void a_damaged_store_ends_the_stream(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader blocker;
        struct reader slow = { .max_take = 0 };
        const struct sl_run_spec spec = slow_spec(LONG_INPUT, SL_RUN_SLOW_SPILL);
        sqlite3 *db = NULL;
        open_with_run_elsewhere(n, &blocker);
        start_slow(&slow, &spec);
        (void)wait_for_end(1);
        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(
            sqlite3_exec(
                db,
                "UPDATE events SET crc = crc + 1 WHERE last_sequence ="
                " (SELECT max(last_sequence) FROM events WHERE last_sequence < 15000)",
                NULL, NULL, NULL),
            SQLITE_OK);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
        is_reading = true;
        read_some(&slow);
        wait_until(&is_lost);
        assert_int_equal(loss.status, SL_DATA_LOSS);
        assert_in_range(sl_run_stream_sequence(slow.stream), 1, 14999);
        assert_false(slow.is_last);
        finish(&slow);
        close_with_run_elsewhere(&blocker);
    }
}

/* ---- What may be asked for ---------------------------------------------------------------------
 */

static void check_runs(const struct sl_run_spec *spec, enum sl_slow_consumer expected)
{
    struct reader reader = { .max_take = 0 };
    is_reading = true;
    start_slow(&reader, spec);
    assert_int_equal(reader.stream->slow_consumer, expected);
    wait_until(&reader.is_last);
    finish(&reader);
}

static void it_needs_a_record(void **state)
{
    (void)state;
    static const enum sl_run_slow_consumer slow[] = { SL_RUN_SLOW_SPILL, SL_RUN_SLOW_DISCONNECT };
    open_with_agents(1);
    for (size_t i = 0; i < SL_COUNT(slow); i++) {
        struct sl_run_spec spec = slow_spec("{\"events\":1}", slow[i]);
        check_runs(&spec, i == 0 ? SL_SLOW_SPILL : SL_SLOW_DISCONNECT);
        spec.durability = SL_RUN_DURABILITY_NONE;
        check_refusal(
            &spec, SL_INVALID_ARGUMENT, "INVALID_REQUEST",
            "needs a store: durability ASYNC or SYNC");
        spec.has_no_stream = true;
        check_refusal(&spec, SL_INVALID_ARGUMENT, "INVALID_REQUEST", "needs a store");
        struct sl_run_spec builtin = spec_of("load", "{\"events\":1}");
        builtin.slow_consumer = slow[i];
        check_refusal(&builtin, SL_INVALID_ARGUMENT, "INVALID_REQUEST", "needs a store");
        struct sl_run_spec of_file = spec_of(i == 0 ? "spiller" : "cutter", "{\"events\":1}");
        check_runs(&of_file, i == 0 ? SL_SLOW_SPILL : SL_SLOW_DISCONNECT);
        of_file.durability = SL_RUN_DURABILITY_NONE;
        check_refusal(&of_file, SL_INVALID_ARGUMENT, "INVALID_REQUEST", "with NONE ask for PAUSE");
        of_file.slow_consumer = SL_RUN_SLOW_PAUSE;
        check_runs(&of_file, SL_SLOW_PAUSE);
        of_file.durability = SL_RUN_DURABILITY_SYNC;
        check_runs(&of_file, SL_SLOW_PAUSE);
    }
    close_runtime();
}

static void without_a_store_an_agent_that_wants_it_is_disabled(void **state)
{
    (void)state;
    store_path = NULL;
    open_with_agents(1);
    struct sl_run_spec spec = slow_spec("{\"events\":1}", SL_RUN_SLOW_SPILL);
    check_refusal(&spec, SL_INVALID_ARGUMENT, "INVALID_REQUEST", "needs a store");
    static const char *const names[] = { "spiller", "cutter" };
    for (size_t i = 0; i < SL_COUNT(names); i++) {
        struct sl_run_spec of_file = spec_of(names[i], "{\"events\":1}");
        check_refusal(&of_file, SL_FAILED_PRECONDITION, "AGENT_DISABLED", names[i]);
        of_file.durability = SL_RUN_DURABILITY_NONE;
        check_refusal(&of_file, SL_FAILED_PRECONDITION, "AGENT_DISABLED", names[i]);
        of_file.slow_consumer = SL_RUN_SLOW_PAUSE;
        check_runs(&of_file, SL_SLOW_PAUSE);
    }
    close_runtime();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, new_folder, remove_folder)
        TEST(a_run_goes_to_its_end_while_nobody_reads),
        TEST(a_reader_that_pauses_holds_its_run_back),
        TEST(a_reader_goes_to_the_store_and_comes_back),
        TEST(a_reader_that_comes_back_is_watched_again),
        TEST(a_reader_may_go_at_any_time),
        TEST(input_that_came_too_late_is_told),
        TEST(a_lost_reader_cancels_as_before),
        TEST(one_without_a_stream_is_not_in_the_way),
        TEST(nobody_holds_back_a_run_that_he_attached_to),
        TEST(without_a_store_an_observer_that_falls_behind_is_told),
        TEST(a_store_that_cannot_be_read_ends_the_stream),
        TEST(a_damaged_store_ends_the_stream),
        TEST(it_needs_a_record),
        TEST(without_a_store_an_agent_that_wants_it_is_disabled),
#undef TEST
    };
    return cmocka_run_group_tests_name("slow", tests, NULL, NULL);
}
