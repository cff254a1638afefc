/* What is counted of calls and their messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "service/cli/bench/stats.h"
#include "service/rpc/status.h"

static struct sl_bench_stats stats, others;
static uint64_t next;

static int set_up(void **state)
{
    (void)state;
    memset(&stats, 0, sizeof(stats));
    memset(&others, 0, sizeof(others));
    next = 1;
    return 0;
}

/* ---- Sequences ---------------------------------------------------------------------------------
 */

static void see(const uint64_t *sequences, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        sl_bench_stats_sequence(&stats, &next, sequences[i]);
    }
}

#define SEE(...)                                                                                   \
    see((const uint64_t[]){ __VA_ARGS__ }, SL_COUNT(((const uint64_t[]){ __VA_ARGS__ })))

static void assert_seen(uint64_t n_gaps, uint64_t n_duplicates)
{
    assert_int_equal(stats.n_gaps, n_gaps);
    assert_int_equal(stats.n_duplicates, n_duplicates);
}

static void a_sequence_in_order_has_neither_gaps_nor_duplicates(void **state)
{
    (void)state;
    SEE(1, 2, 0, 3, 0, 0, 4); /* heartbeats have none */
    assert_seen(0, 0);
}

static void each_missing_number_is_a_gap(void **state)
{
    (void)state;
    SEE(1, 2, 5, 6, 8);
    assert_seen(3, 0);
    next = 1;
    SEE(3); /* the first two never came */
    assert_seen(5, 0);
}

static void what_comes_again_or_too_late_is_a_duplicate(void **state)
{
    (void)state;
    SEE(1, 2, 2, 3, 1, 4);
    assert_seen(0, 2);
    SEE(6, 5, 7); /* 5 was missed, and came late */
    assert_seen(1, 3);
}

/* ---- Events ------------------------------------------------------------------------------------
 */

#define BYTES(text) sl_slice_of(text, sizeof(text) - 1)

static void the_sequence_is_found_wherever_it_stands(void **state)
{
    (void)state;
    assert_int_equal(sl_bench_event_sequence(BYTES("\x08\x05")), 5);
    assert_int_equal(sl_bench_event_sequence(BYTES("\x08\xAC\x02\x10\x01")), 300);
    assert_int_equal(sl_bench_event_sequence(BYTES("\x10\x01\x52\x00\x08\x07")), 7);
    assert_int_equal(
        sl_bench_event_sequence(BYTES("\x11\1\2\3\4\5\6\7\x08\x1D\1\2\3\4\x08\x09")), 9);
    assert_int_equal(sl_bench_event_sequence(BYTES("")), 0);
    assert_int_equal(sl_bench_event_sequence(BYTES("\x10\x01")), 0);
}

static void what_is_no_event_has_no_sequence(void **state)
{
    (void)state;
    assert_int_equal(sl_bench_event_sequence(BYTES("\x08")), 0);
    assert_int_equal(
        sl_bench_event_sequence(BYTES("\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01")), 0);
    assert_int_equal(sl_bench_event_sequence(BYTES("\x52\x7F\x08\x01")), 0);
    assert_int_equal(sl_bench_event_sequence(BYTES("\x0B\x08\x01")), 0);
    /* what stands behind the message is not part of it */
    assert_int_equal(sl_bench_event_sequence(sl_slice_of("\x52\x02\x01\x01\x08\x09", 2)), 0);
}

static void a_stamp_is_read_from_a_text_delta(void **state)
{
    (void)state;
    uint64_t ns = 0;
    assert_true(sl_bench_event_stamp(
        BYTES("\x08\x03\x52\x0B\x0A\x09"
              "0 123 abc"),
        &ns));
    assert_int_equal(ns, 123);
    assert_true(sl_bench_event_stamp(
        BYTES("\x52\x09\x0A\x07"
              "17 42 x"),
        &ns));
    assert_int_equal(ns, 42);
}

static void other_text_has_no_stamp(void **state)
{
    (void)state;
    static const char *const texts[] = { "hello w", "1 2", "12 x 34", " 12 13 ", "1  23 4", "" };
    uint64_t ns = 77;
    for (size_t i = 0; i < SL_COUNT(texts); i++) {
        char message[64];
        const int size = (int)strlen(texts[i]);
        const int n =
            snprintf(message, sizeof(message), "%c%c%c%c%s", 0x52, size + 2, 0x0A, size, texts[i]);
        assert_false(sl_bench_event_stamp(sl_slice_of(message, (size_t)n), &ns));
    }
    assert_false(sl_bench_event_stamp(
        BYTES("\x6A\x05\x0A\x03"
              "1 2"),
        &ns));
    assert_int_equal(ns, 77);
}

/* ---- Ends --------------------------------------------------------------------------------------
 */

static void end_with_reason(const char *reason)
{
    struct sl_arena arena;
    struct sl_slice details;
    const struct sl_call_status status = {
        .code = SL_RESOURCE_EXHAUSTED, .message = "no", .reason = reason, .domain = "test"
    };
    sl_arena_init(&arena, 0);
    assert_int_equal(sl_rpc_details_encode(&status, &arena, &details), SL_OK);
    sl_bench_stats_end(&stats, SL_RESOURCE_EXHAUSTED, details, "no");
    sl_arena_done(&arena);
}

static void ends_are_counted_by_status_and_reason(void **state)
{
    (void)state;
    sl_bench_stats_end(&stats, SL_END, sl_slice_str(NULL), "");
    sl_bench_stats_end(&stats, SL_OK, sl_slice_str(NULL), "");
    sl_bench_stats_end(&stats, SL_INTERNAL, sl_slice_str("\xFF\xFF"), "broken");
    end_with_reason("SERVER_FULL");
    end_with_reason("DRAINING");
    end_with_reason("SERVER_FULL");
    stats.n_cancelled = 10;
    stats.n_unfinished = 5;
    assert_int_equal(stats.by_status[SL_OK], 2);
    assert_int_equal(stats.by_status[SL_INTERNAL], 1);
    assert_int_equal(stats.by_status[SL_RESOURCE_EXHAUSTED], 3);
    assert_int_equal(sl_bench_stats_n_errors(&stats), 4);
    assert_int_equal(sl_bench_stats_n_calls(&stats), 21);
    assert_int_equal(stats.n_reasons, 2);
    assert_string_equal(stats.reasons[0].name, "SERVER_FULL");
    assert_int_equal(stats.reasons[0].n, 2);
    assert_string_equal(stats.first_error, "INTERNAL: broken");
}

static void reasons_without_end_take_no_memory_without_end(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        char name[200];
        (void)snprintf(name, sizeof(name), "REASON_%d_%0100d", i, 0);
        end_with_reason(name);
    }
    assert_int_equal(stats.n_reasons, SL_BENCH_REASONS_MAX);
    assert_string_equal(stats.reasons[SL_BENCH_REASONS_MAX - 1].name, "(others)");
    assert_int_equal(stats.reasons[SL_BENCH_REASONS_MAX - 1].n, 100 - SL_BENCH_REASONS_MAX + 1);
    assert_int_equal(strlen(stats.reasons[0].name), SL_BENCH_REASON_BYTES - 1);
}

static void merged_stats_are_the_sum(void **state)
{
    (void)state;
    end_with_reason("A");
    end_with_reason("B");
    others = stats;
    others.n_gaps = 3;
    others.n_duplicates = 4;
    others.n_cancelled = 5;
    others.n_unfinished = 6;
    others.n_starved = 7;
    sl_histogram_add(&others.times[SL_BENCH_CALL], 1000);
    memset(&stats, 0, sizeof(stats));
    end_with_reason("B");
    sl_bench_stats_merge(&stats, &others);
    assert_seen(3, 4);
    assert_int_equal(stats.n_cancelled, 5);
    assert_int_equal(stats.n_unfinished, 6);
    assert_int_equal(stats.n_starved, 7);
    assert_int_equal(stats.times[SL_BENCH_CALL].n, 1);
    assert_int_equal(stats.by_status[SL_RESOURCE_EXHAUSTED], 3);
    assert_string_equal(stats.reasons[0].name, "B");
    assert_int_equal(stats.reasons[0].n, 2);
    assert_int_equal(stats.reasons[1].n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_sequence_in_order_has_neither_gaps_nor_duplicates, set_up),
        cmocka_unit_test_setup(each_missing_number_is_a_gap, set_up),
        cmocka_unit_test_setup(what_comes_again_or_too_late_is_a_duplicate, set_up),
        cmocka_unit_test_setup(the_sequence_is_found_wherever_it_stands, set_up),
        cmocka_unit_test_setup(what_is_no_event_has_no_sequence, set_up),
        cmocka_unit_test_setup(a_stamp_is_read_from_a_text_delta, set_up),
        cmocka_unit_test_setup(other_text_has_no_stamp, set_up),
        cmocka_unit_test_setup(ends_are_counted_by_status_and_reason, set_up),
        cmocka_unit_test_setup(reasons_without_end_take_no_memory_without_end, set_up),
        cmocka_unit_test_setup(merged_stats_are_the_sum, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
