#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "service/h2/police.h"

static const uint64_t ms = 1000000;
static const uint64_t s = 1000000000;

static struct sl_limits limits;

static struct sl_h2_police fresh(bool allow_pings_without_calls)
{
    struct sl_h2_police police;
    sl_limits_init(&limits);
    sl_h2_police_init(&police, &limits, allow_pings_without_calls);
    return police;
}

static void a_bucket_gives_its_burst_and_then_its_rate(void **state)
{
    (void)state;
    struct sl_h2_bucket bucket;
    sl_h2_bucket_init(&bucket, 10, 5);
    for (int i = 0; i < 10; i++) {
        assert_true(sl_h2_bucket_take(&bucket, s));
    }
    assert_false(sl_h2_bucket_take(&bucket, s));
    assert_false(sl_h2_bucket_take(&bucket, s + 199 * ms));
    assert_true(sl_h2_bucket_take(&bucket, s + 201 * ms));
    assert_false(sl_h2_bucket_take(&bucket, s + 202 * ms));
    for (int i = 0; i < 10; i++) { /* never more than the burst */
        assert_true(sl_h2_bucket_take(&bucket, 1000 * s));
    }
    assert_false(sl_h2_bucket_take(&bucket, 1000 * s));
}

/* AT-1: the honest case of the specification. */
static void five_thousand_cancels_in_thirty_seconds_are_honest(void **state)
{
    (void)state;
    struct sl_h2_police police = fresh(true);
    for (uint64_t i = 0; i < 5000; i++) {
        assert_null(sl_h2_police_early_reset(&police, s + i * 6 * ms));
    }
}

static void rapid_resets_use_the_budget_up(void **state)
{
    (void)state;
    struct sl_h2_police police = fresh(true);
    for (uint64_t i = 0; i < limits.reset_burst; i++) {
        assert_null(sl_h2_police_early_reset(&police, s));
    }
    assert_string_equal(sl_h2_police_early_reset(&police, s), "rapid_reset");
}

static void pings_with_a_call_need_the_interval(void **state)
{
    (void)state;
    struct sl_h2_police police = fresh(false);
    assert_null(sl_h2_police_ping(&police, s, true));
    assert_null(sl_h2_police_ping(&police, 12 * s, true));
    assert_null(sl_h2_police_ping(&police, 13 * s, true)); /* strike 1 */
    assert_null(sl_h2_police_ping(&police, 14 * s, true)); /* strike 2 */
    assert_ptr_equal(sl_h2_police_ping(&police, 15 * s, true), sl_h2_fault_pings);
}

/* CM-2 */
static void pings_without_calls_need_two_hours_unless_allowed(void **state)
{
    (void)state;
    struct sl_h2_police strict = fresh(false);
    struct sl_h2_police lax = fresh(true);
    for (uint64_t i = 0; i < 3; i++) {
        assert_null(sl_h2_police_ping(&strict, s + i * 20 * s, false));
    }
    assert_ptr_equal(sl_h2_police_ping(&strict, 61 * s, false), sl_h2_fault_pings);
    for (uint64_t i = 0; i < 100; i++) {
        assert_null(sl_h2_police_ping(&lax, s + i * 20 * s, false));
    }
    strict = fresh(false);
    for (uint64_t i = 0; i < 100; i++) {
        assert_null(sl_h2_police_ping(&strict, s + i * 7200 * s, false));
    }
}

/* CM-3: bandwidth estimators send a PING for nearly every burst of DATA. */
static void a_ping_for_each_burst_of_data_is_honest(void **state)
{
    (void)state;
    struct sl_h2_police police = fresh(false);
    for (uint64_t i = 0; i < 10000; i++) {
        sl_h2_police_sent(&police, 1000, false);
        assert_null(sl_h2_police_ping(&police, s + i * ms, true));
    }
}

static void data_makes_the_next_ping_valid(void **state)
{
    (void)state;
    struct sl_h2_police police = fresh(false);
    assert_null(sl_h2_police_ping(&police, s, true));
    sl_h2_police_sent(&police, 1000, false);
    for (uint64_t i = 1; i <= 3; i++) { /* a valid one and two strikes */
        assert_null(sl_h2_police_ping(&police, s + i * ms, true));
    }
    assert_ptr_equal(sl_h2_police_ping(&police, s + 4 * ms, true), sl_h2_fault_pings);
}

static void window_updates_are_earned_by_data(void **state)
{
    (void)state;
    struct sl_h2_police police = fresh(true);
    for (int i = 0; i < 1000; i++) {
        sl_h2_police_sent(&police, 16384, false);
        for (int k = 0; k < 20; k++) {
            assert_null(sl_h2_police_window_update(&police));
        }
    }
    for (int i = 0; i < 100; i++) {
        assert_null(sl_h2_police_window_update(&police));
    }
    assert_string_equal(sl_h2_police_window_update(&police), "window_update_flood");
    sl_h2_police_stream(&police);
    assert_null(sl_h2_police_window_update(&police));
    assert_null(sl_h2_police_window_update(&police));
    assert_non_null(sl_h2_police_window_update(&police));
    sl_h2_police_sent(&police, 1, true); /* AT-11 */
    sl_h2_police_sent(&police, 0, false);
    assert_non_null(sl_h2_police_window_update(&police));
}

enum { END_STREAM = 1, PADDED = 8 };

/* `n` DATA frames, byte by byte. */
static void feed_data(
    struct sl_h2_tracker *tracker, const char *payload, size_t size, uint8_t flags, uint64_t n)
{
    uint8_t frame[16] = { 0, 0, (uint8_t)size, 0, flags, 0, 0, 0, 1 };
    memcpy(frame + 9, payload, size);
    for (uint64_t i = 0; i < n; i++) {
        for (size_t k = 0; k < 9 + size; k++) {
            (void)sl_h2_tracker_feed(tracker, sl_slice_of(frame + k, 1));
        }
    }
}

static void empty_frames_count_only_in_a_row(void **state)
{
    (void)state;
    const uint64_t max = 100;
    struct sl_h2_tracker tracker = { .max_empty = max };
    for (uint64_t i = 0; i < 100; i++) {
        feed_data(&tracker, "", 0, 0, max);
        feed_data(&tracker, "x", 1, 0, 1);
    }
    assert_null(tracker.over_budget);
    feed_data(&tracker, "", 0, 0, max + 1);
    assert_string_equal(tracker.over_budget, "empty_frames");
}

static void padding_is_not_payload(void **state)
{
    (void)state;
    const uint64_t max = 100;
    struct sl_h2_tracker tracker = { .max_empty = max };
    feed_data(&tracker, "\0x", 2, PADDED, 10 * max);
    feed_data(&tracker, "\2x\0\0", 4, PADDED, 10 * max);
    assert_null(tracker.over_budget);
    feed_data(&tracker, "\2\0\0", 3, PADDED, max);
    assert_null(tracker.over_budget);
    feed_data(&tracker, "\0", 1, PADDED, 1);
    assert_string_equal(tracker.over_budget, "empty_frames");
}

static void each_request_may_end_in_one_empty_frame(void **state)
{
    (void)state;
    const uint64_t max = 100;
    const uint8_t head[] = { 0, 0, 0, 1, 4, 0, 0, 0, 1 };
    struct sl_h2_tracker tracker = { .max_empty = max };
    for (uint64_t i = 0; i < 1000; i++) {
        sl_h2_tracker_feed(&tracker, sl_slice_of(head, sizeof(head)));
    }
    feed_data(&tracker, "", 0, END_STREAM, 1000 + max);
    assert_null(tracker.over_budget);
    feed_data(&tracker, "", 0, END_STREAM, 1);
    assert_string_equal(tracker.over_budget, "empty_frames");
}

static void priority_frames_are_counted_by_streams(void **state)
{
    (void)state;
    struct sl_h2_police police = fresh(true);
    sl_h2_police_stream(&police);
    for (uint64_t i = 0; i < 2 * limits.priority_per_stream; i++) {
        assert_null(sl_h2_police_priority(&police));
    }
    assert_string_equal(sl_h2_police_priority(&police), "priority_flood");
}

static void settings_have_a_burst_and_a_rate(void **state)
{
    (void)state;
    struct sl_h2_police police = fresh(true);
    for (uint64_t i = 0; i < limits.settings_burst; i++) {
        assert_null(sl_h2_police_settings(&police, s));
    }
    assert_string_equal(sl_h2_police_settings(&police, s), "settings_flood");
    assert_null(sl_h2_police_settings(&police, s + 150 * ms));
}

/* A HEADERS frame of 3 bytes without END_HEADERS, a CONTINUATION with it, a DATA frame. */
static const uint8_t frames[] = { 0, 0, 3, 1, 0,   0, 0, 0, 1, 'a', 'b', 'c', 0, 0, 1,   9,  4,
                                  0, 0, 0, 1, 'd', 0, 0, 2, 0, 0,   0,   0,   0, 1, 'e', 'f' };

static void the_tracker_sees_an_unfinished_header_block(void **state)
{
    (void)state;
    for (size_t skip = 0; skip <= 24; skip += 24) {
        struct sl_h2_tracker tracker = { .skip = (uint32_t)skip };
        const uint8_t magic[24] = { 'P' };
        sl_h2_tracker_feed(&tracker, sl_slice_of(magic, skip));
        for (size_t i = 0; i < sizeof(frames); i++) {
            sl_h2_tracker_feed(&tracker, sl_slice_of(frames + i, 1));
            assert_int_equal(sl_h2_tracker_in_headers(&tracker), i >= 8 && i < 21);
        }
        assert_int_equal(tracker.n_frames, 3);
    }
    struct sl_h2_tracker whole = { .skip = 0 };
    sl_h2_tracker_feed(&whole, sl_slice_of(frames, sizeof(frames)));
    assert_false(sl_h2_tracker_in_headers(&whole));
    assert_int_equal(whole.n_frames, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_gives_its_burst_and_then_its_rate),
        cmocka_unit_test(five_thousand_cancels_in_thirty_seconds_are_honest),
        cmocka_unit_test(rapid_resets_use_the_budget_up),
        cmocka_unit_test(pings_with_a_call_need_the_interval),
        cmocka_unit_test(pings_without_calls_need_two_hours_unless_allowed),
        cmocka_unit_test(a_ping_for_each_burst_of_data_is_honest),
        cmocka_unit_test(data_makes_the_next_ping_valid),
        cmocka_unit_test(window_updates_are_earned_by_data),
        cmocka_unit_test(empty_frames_count_only_in_a_row),
        cmocka_unit_test(padding_is_not_payload),
        cmocka_unit_test(each_request_may_end_in_one_empty_frame),
        cmocka_unit_test(priority_frames_are_counted_by_streams),
        cmocka_unit_test(settings_have_a_burst_and_a_rate),
        cmocka_unit_test(the_tracker_sees_an_unfinished_header_block),
    };
    return cmocka_run_group_tests_name("h2_police", tests, NULL, NULL);
}
