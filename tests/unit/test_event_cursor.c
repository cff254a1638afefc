#include "runtime/base/event_log.h"
#include "runtime/base/metrics.h"
#include "tests/unit/test_event_rig.h"

static void a_cursor_opens_behind_any_event_that_is_held(void **state)
{
    (void)state;
    struct fixture fixture;
    start(&fixture, 4096, 1000, 1 << 20);
    size_t sizes[301] = { 0 };
    for (size_t i = 1; i <= 300; i++) {
        sizes[i] = 5 + i * 13 % 200;
        (void)emit(fixture.channel, sizes[i]);
    }
    assert_int_equal(sl_event_channel_floor(fixture.channel), 1);
    for (uint64_t after = 0; after <= 300; after++) {
        struct sl_event_cursor cursor;
        bool is_last = false;
        size_t expected = 0;
        for (size_t i = after + 1; i <= 300; i++) {
            expected += sizes[i];
        }
        assert_int_equal(
            sl_event_cursor_open(&cursor, fixture.channel, SL_CURSOR_OBSERVER, after, on_readable),
            SL_OK);
        assert_int_equal(cursor.sequence, after);
        assert_int_equal(read_all(&cursor, 777, &is_last), expected);
        assert_int_equal(cursor.sequence, 300);
        sl_event_cursor_close(&cursor);
    }
    struct sl_event_cursor beyond;
    assert_int_equal(
        sl_event_cursor_open(&beyond, fixture.channel, SL_CURSOR_OBSERVER, 301, on_readable),
        SL_OUT_OF_RANGE);
    assert_int_equal(
        sl_event_cursor_open(&beyond, fixture.channel, SL_CURSOR_OBSERVER, UINT64_MAX, on_readable),
        SL_OUT_OF_RANGE);
    stop(&fixture);
}

static void the_window_is_kept_and_what_is_older_goes(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor cursor;
    const size_t window = 100000;
    start(&fixture, 4096, 1000, (uint32_t)window);
    for (int i = 0; i < MANY; i++) {
        (void)emit(fixture.channel, 100);
        assert_true(sl_event_channel_bytes(fixture.channel) <= window + 49152);
    }
    const uint64_t floor = sl_event_channel_floor(fixture.channel);
    assert_true(floor > 1);
    assert_true((MANY - floor + 1) * 100 >= window);
    assert_int_equal(
        sl_event_cursor_open(&cursor, fixture.channel, SL_CURSOR_OBSERVER, floor - 2, on_readable),
        SL_OUT_OF_RANGE);
    assert_int_equal(
        sl_event_cursor_open(&cursor, fixture.channel, SL_CURSOR_OBSERVER, floor - 1, on_readable),
        SL_OK);
    sl_event_cursor_close(&cursor);
    stop(&fixture);
}

static void without_a_window_only_the_last_segment_stays(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor cursor;
    bool is_last = false;
    start(&fixture, 4 << 20, 10000, 0);
    assert_int_equal(
        sl_event_cursor_open(&cursor, fixture.channel, SL_CURSOR_FOREGROUND, 0, on_readable),
        SL_OK);
    for (int i = 0; i < 1000; i++) {
        (void)emit(fixture.channel, 1000);
    }
    assert_true(sl_event_channel_bytes(fixture.channel) > 1000000);
    assert_int_equal(read_all(&cursor, 4096, &is_last), 1000000);
    assert_true(sl_event_channel_bytes(fixture.channel) <= 16384);
    sl_event_cursor_close(&cursor);
    stop(&fixture);
}

static void an_observer_that_falls_behind_is_lost_at_an_event_border(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor cursor;
    uint8_t room[64];
    bool is_last = true;
    start(&fixture, 4096, 1000, 8192);
    assert_int_equal(
        sl_event_cursor_open(&cursor, fixture.channel, SL_CURSOR_OBSERVER, 0, on_readable), SL_OK);
    (void)emit(fixture.channel, 100);
    sl_event_cursor_take(&cursor, room, 50); /* in the middle of event 1 */
    for (int i = 0; i < MANY; i++) {
        assert_false(emit(fixture.channel, 100)); /* it holds nothing back */
    }
    assert_false(cursor.is_lost);
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_window);
    (void)read_all(&cursor, 64, &is_last);
    assert_true(cursor.is_lost);
    assert_false(is_last);
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_window), n_before + 1);
    assert_true(sl_event_cursor_at_border(&cursor));
    assert_true(cursor.sequence >= 1 && cursor.sequence < MANY);
    sl_event_channel_end(fixture.channel);
    assert_int_equal(sl_event_cursor_ready(&cursor, 1, &is_last), 0);
    assert_false(is_last);
    sl_event_cursor_close(&cursor);
    assert_int_equal(
        sl_event_cursor_open(&cursor, fixture.channel, SL_CURSOR_OBSERVER, 0, on_readable),
        SL_OUT_OF_RANGE);
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_window), n_before + 2);
    stop(&fixture);
}

static void an_observer_that_keeps_up_needs_no_window(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor cursor;
    bool is_last = false;
    size_t total = 0;
    start(&fixture, 65536, 1000, 0);
    assert_int_equal(
        sl_event_cursor_open(&cursor, fixture.channel, SL_CURSOR_OBSERVER, 0, on_readable), SL_OK);
    for (int i = 0; i < 1000; i++) {
        for (int k = 0; k < 60; k++) {
            (void)emit(fixture.channel, 1000);
        }
        total += read_all(&cursor, 4096, &is_last);
    }
    assert_int_equal(total, 60000000);
    assert_false(cursor.is_lost);
    sl_event_cursor_close(&cursor);
    stop(&fixture);
}

static void a_peek_gives_whole_events_of_one_segment(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor cursor;
    struct sl_segment *segment = NULL;
    uint8_t room[64];
    start(&fixture, 1 << 20, 1000, 0);
    assert_int_equal(
        sl_event_cursor_open(&cursor, fixture.channel, SL_CURSOR_FOREGROUND, 0, on_readable),
        SL_OK);
    assert_int_equal(sl_event_cursor_peek(&cursor, 100, true, &segment).size, 0);
    assert_true(cursor.wants_wake);
    for (int i = 0; i < 3; i++) {
        (void)emit(fixture.channel, 100);
    }
    assert_int_equal(sl_event_cursor_peek(&cursor, 10, true, &segment).size, 100);
    assert_int_equal(sl_event_cursor_peek(&cursor, 10, false, &segment).size, 10);
    assert_int_equal(sl_event_cursor_peek(&cursor, 250, true, &segment).size, 200);
    assert_int_equal(sl_event_cursor_peek(&cursor, 250, false, &segment).size, 250);
    sl_event_cursor_take(&cursor, room, 40);
    assert_int_equal(sl_event_cursor_peek(&cursor, 70, true, &segment).size, 60);
    sl_event_cursor_skip(&cursor, 60);
    assert_int_equal(cursor.sequence, 1);
    assert_int_equal(sl_event_cursor_peek(&cursor, 1000, true, &segment).size, 200);
    sl_segment_ref(segment); /* as a socket does */
    sl_event_cursor_skip(&cursor, 200);
    assert_int_equal(cursor.sequence, 3);
    sl_event_cursor_close(&cursor);
    stop(&fixture);
    assert_int_equal(segment->bytes[SL_EVENT_PREFIX_BYTES], 1); /* it outlives the channel */
    sl_segment_unref(segment);
}

static void cursors_outlive_the_last_reference_and_see_the_end(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor cursor;
    bool is_last = false;
    start(&fixture, 1 << 20, 1000, 0);
    assert_int_equal(
        sl_event_cursor_open(&cursor, fixture.channel, SL_CURSOR_OBSERVER, 0, on_readable), SL_OK);
    assert_int_equal(sl_event_cursor_ready(&cursor, 1, &is_last), 0);
    (void)emit(fixture.channel, 50);
    fixture.channel = sl_event_channel_unref(fixture.channel);
    assert_true(sl_fake_loop_run(&fixture.fake));
    assert_int_equal(fixture.n_readable, 1);
    assert_int_equal(read_all(&cursor, 100, &is_last), 50);
    assert_true(is_last);
    sl_event_cursor_close(&cursor);
    sl_event_cursor_close(&cursor); /* harmless */
    stop(&fixture);
}

static struct sl_event_cursor *victims[3];

/* Frees them too, so that AddressSanitizer sees any later look at them. */
static void close_all(struct sl_event_cursor *cursor)
{
    (void)cursor;
    current->n_readable++;
    for (size_t i = 0; i < SL_COUNT(victims); i++) {
        sl_event_cursor_close(victims[i]);
        victims[i] = sl_free(victims[i]);
    }
    current->channel = sl_event_channel_unref(current->channel);
}

static void a_wake_up_may_close_every_cursor_and_the_channel(void **state)
{
    (void)state;
    struct fixture fixture;
    bool is_last = false;
    start(&fixture, 1 << 20, 1000, 0);
    for (size_t i = 0; i < SL_COUNT(victims); i++) {
        victims[i] = sl_calloc(1, sizeof(*victims[i]));
        assert_non_null(victims[i]);
        assert_int_equal(
            sl_event_cursor_open(victims[i], fixture.channel, SL_CURSOR_OBSERVER, 0, close_all),
            SL_OK);
        assert_int_equal(sl_event_cursor_ready(victims[i], 1, &is_last), 0);
    }
    (void)emit(fixture.channel, 50);
    assert_true(sl_fake_loop_run(&fixture.fake));
    assert_int_equal(fixture.n_readable, 1);
    stop(&fixture);
}

/* What is held begins in the segment with the least position. */
static void check_held(
    const struct fixture *fixture, const struct sl_event_cursor *cursors, size_t n, uint64_t window)
{
    const struct sl_event_channel *channel = fixture->channel;
    uint64_t needed = channel->end < window ? 0 : channel->end - window;
    for (size_t i = 0; i < n; i++) {
        const bool is_open = cursors[i].channel != NULL;
        needed = is_open && cursors[i].position < needed ? cursors[i].position : needed;
    }
    assert_true(channel->first->base <= needed);
    if (channel->first != channel->last) {
        assert_true(channel->first->next->base + (1 << 15) > needed);
    }
}

static void what_any_of_many_readers_wants_is_kept(void **state)
{
    enum { READERS = 40, ROUNDS = 4000, WINDOW = 2000 };
    static struct sl_event_cursor cursors[READERS];
    uint32_t random = 1;
    (void)state;
    struct fixture fixture;
    start(&fixture, 4 << 20, 1000000, WINDOW);
    for (size_t i = 0; i < READERS; i++) {
        assert_int_equal(
            sl_event_cursor_open(&cursors[i], fixture.channel, SL_CURSOR_OBSERVER, 0, on_readable),
            SL_OK);
    }
    for (size_t round = 0; round < ROUNDS; round++) {
        random = random * 1664525 + 1013904223;
        struct sl_event_cursor *cursor = &cursors[(random >> 8) % READERS];
        (void)emit(fixture.channel, 200);
        if (cursor->channel != NULL && random >> 26 == 0 && round > ROUNDS / 2) {
            sl_event_cursor_close(cursor);
        } else if (cursor->channel != NULL) {
            bool is_last = false;
            const size_t n = sl_event_cursor_ready(cursor, random >> 18, &is_last);
            sl_event_cursor_skip(cursor, n);
            assert_false(cursor->is_lost);
        }
        check_held(&fixture, cursors, READERS, WINDOW);
    }
    for (size_t i = 0; i < READERS; i++) {
        sl_event_cursor_close(&cursors[i]);
    }
    check_held(&fixture, cursors, READERS, WINDOW);
    stop(&fixture);
}

static bool note_event(void *user_data, uint64_t sequence, struct sl_slice event)
{
    uint64_t *sum = user_data;
    *sum += sequence;
    assert_int_equal(event.size, 5 + sequence % 50);
    return sequence != 15;
}

static void a_visit_sees_the_events_asked_for(void **state)
{
    (void)state;
    struct fixture fixture;
    uint64_t sum = 0;
    start(&fixture, 1 << 20, 1000, 1 << 20);
    for (size_t i = 1; i <= 100; i++) {
        (void)emit(fixture.channel, 5 + i % 50);
    }
    sl_event_channel_visit(fixture.channel, 40, 99, note_event, &sum);
    assert_int_equal(sum, 4170);
    sum = 0;
    sl_event_channel_visit(fixture.channel, 0, UINT64_MAX, note_event, &sum);
    assert_int_equal(sum, 15 * 16 / 2); /* stopped by its own answer */
    stop(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cursor_opens_behind_any_event_that_is_held),
        cmocka_unit_test(the_window_is_kept_and_what_is_older_goes),
        cmocka_unit_test(without_a_window_only_the_last_segment_stays),
        cmocka_unit_test(an_observer_that_falls_behind_is_lost_at_an_event_border),
        cmocka_unit_test(an_observer_that_keeps_up_needs_no_window),
        cmocka_unit_test(a_peek_gives_whole_events_of_one_segment),
        cmocka_unit_test(cursors_outlive_the_last_reference_and_see_the_end),
        cmocka_unit_test(a_wake_up_may_close_every_cursor_and_the_channel),
        cmocka_unit_test(what_any_of_many_readers_wants_is_kept),
        cmocka_unit_test(a_visit_sees_the_events_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
