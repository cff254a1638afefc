/* AL-8: readers that stay behind, and are cut: DISCONNECT. */
#include "tests/unit/test_slow_rig.h"

/* limits.slow_consumer: the run goes on, whatever on_disconnect says, and Attach has the rest. */
static void a_reader_that_stays_behind_is_cut_and_its_run_goes_on(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader blocker;
        struct reader slow = { .max_take = 0 };
        struct reader late = { .max_take = 0 };
        const struct sl_run_spec spec = slow_spec(SLOW_INPUT, SL_RUN_SLOW_DISCONNECT);
        const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_slow_consumer);
        const uint64_t n_cut = n_actions("disconnect");
        open_with_run_elsewhere(n, &blocker);
        is_reading = true;
        start_slow(&slow, &spec);
        for (int i = 0; sl_run_stream_sequence(slow.stream) < 100; i++) {
            assert_true(i < MAX_STEPS);
            step();
        }
        is_reading = false;
        wait_until(&is_slow);
        assert_int_equal(n_ended(), 0);
        assert_int_equal(sl_limit_n_reached(SL_LIMIT_slow_consumer), n_before + 1);
        assert_int_equal(n_actions("disconnect"), n_cut + 1);
        assert_true(sl_run_stream_outlives(slow.stream, SL_RUN_CLOSE_LOST));
        assert_true(sl_run_stream_outlives(slow.stream, SL_RUN_CLOSE_RESET));
        const uint64_t sequence = sl_run_stream_sequence(slow.stream);
        attach(&late, slow.run_id, 1); /* who comes and goes means nothing to it */
        sl_run_stream_close(slow.stream, SL_RUN_CLOSE_RESET, 8);
        sl_run_stream_close(late.stream, SL_RUN_CLOSE_LOST, 0);
        sl_buf_done(&late.bytes);
        attach(&late, slow.run_id, sequence);
        read_to_end(&late);
        assert_int_equal(sl_run_stream_sequence(late.stream), N_EVENTS);
        assert_int_equal(sl_run_stream_ending(late.stream)->status, SL_OK);
        finish(&late);
        sl_buf_done(&slow.bytes);
        close_with_run_elsewhere(&blocker);
    }
}

/* Also of a run that is over by then. */
static void a_reader_that_stays_behind_is_cut_after_the_end_too(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        for (int is_kept = 0; is_kept <= 1; is_kept++) {
            struct reader blocker;
            struct reader slow = { .max_take = 0 };
            const struct sl_run_spec spec =
                slow_spec("{\"events\":5000,\"bytes\":100}", SL_RUN_SLOW_DISCONNECT);
            open_with_run_elsewhere(n, &blocker);
            runtime->newest->limits.window_keep = is_kept ? 120000 : 0;
            start_slow(&slow, &spec);
            (void)wait_for_end(1);
            wait_until(&is_slow);
            finish(&slow);
            close_with_run_elsewhere(&blocker);
        }
    }
}

static void pass_time(uint64_t ms)
{
    const uint64_t until_ns = sl_loop_now_ns(bases[0]) + ms * SL_NS_PER_MS;
    while (sl_loop_now_ns(bases[0]) < until_ns) {
        sl_loop_uv_step(loops[0], 1);
    }
}

/* What counts is one time without a break: it is past its mark twenty times. */
static void a_reader_that_reads_in_time_is_not_cut(void **state)
{
    (void)state;
    struct reader slow = { .max_take = 0 };
    struct sl_run_spec spec =
        slow_spec("{\"events\":600,\"bytes\":100,\"rate\":300}", SL_RUN_SLOW_DISCONNECT);
    spec.has_buffer_events = true;
    spec.buffer_events = 10;
    const uint64_t n_spills = n_actions("spill");
    open_with_agents(1);
    runtime->newest->limits.slow_consumer = 1500;
    start_slow(&slow, &spec);
    while (!slow.is_last) {
        pass_time(50);
        read_some(&slow);
    }
    assert_false(is_slow || is_lost);
    assert_true(n_actions("spill") > n_spills + 1);
    check_whole(&slow, 604);
    finish(&slow);
    close_runtime();
}

/* The time is over, and there is nothing that it has not read. */
static void a_reader_that_has_caught_up_is_not_cut(void **state)
{
    (void)state;
    struct reader slow = { .max_take = 0 };
    struct sl_run_spec spec = slow_spec("{\"hang\":true}", SL_RUN_SLOW_DISCONNECT);
    spec.has_buffer_events = true;
    spec.buffer_events = 1;
    const uint64_t n_spills = n_actions("spill");
    open_with_agents(1);
    runtime->newest->limits.slow_consumer = 1000;
    start_slow(&slow, &spec);
    while (sl_run_stream_sequence(slow.stream) < 3) {
        step();
        read_some(&slow);
    }
    assert_true(n_actions("spill") > n_spills);
    is_reading = true;
    pass_time(1500);
    assert_false(is_slow);
    sl_run_stream_close(slow.stream, SL_RUN_CLOSE_LOST, 0);
    sl_buf_done(&slow.bytes);
    close_runtime();
}

/* DETACH_FOR counts from then: nobody holds a stream on the run. */
static void a_run_without_its_reader_has_its_time_to_live(void **state)
{
    (void)state;
    struct reader slow = { .max_take = 0 };
    struct reader late = { .max_take = 0 };
    struct sl_run_spec spec =
        slow_spec("{\"events\":100000,\"bytes\":100,\"rate\":10000}", SL_RUN_SLOW_DISCONNECT);
    spec.on_disconnect = SL_RUN_DETACH_FOR;
    spec.detach_ttl_ms = 1000;
    open_with_agents(1);
    start_slow(&slow, &spec);
    wait_until(&is_slow);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, new_folder, remove_folder)
        TEST(a_reader_that_stays_behind_is_cut_and_its_run_goes_on),
        TEST(a_reader_that_stays_behind_is_cut_after_the_end_too),
        TEST(a_reader_that_reads_in_time_is_not_cut),
        TEST(a_reader_that_has_caught_up_is_not_cut),
        TEST(a_run_without_its_reader_has_its_time_to_live),
#undef TEST
    };
    return cmocka_run_group_tests_name("slow_cut", tests, NULL, NULL);
}
