/* A log that is recorded: what is hidden, kept, cut off and held back. */
#include "tests/unit/test_event_rig.h"

static struct fixture fixture;
static struct sl_event_cursor reader, record;

static void start_recorded(uint32_t window_bytes)
{
    start(&fixture, 1024 * 1024, 100000, window_bytes);
    assert_int_equal(
        sl_event_cursor_open(&reader, fixture.channel, SL_CURSOR_FOREGROUND, 0, on_readable),
        SL_OK);
    assert_int_equal(
        sl_event_cursor_open(&record, fixture.channel, SL_CURSOR_RECORD, 0, on_readable), SL_OK);
}

static void stop_recorded(void)
{
    sl_event_cursor_close(&reader);
    sl_event_cursor_close(&record);
    stop(&fixture);
}

static void hide(void)
{
    sl_event_channel_show(fixture.channel, sl_event_channel_head(fixture.channel));
}

static void readers_get_what_is_shown(void **state)
{
    (void)state;
    bool is_last = false;
    struct sl_segment *segment = NULL;
    start_recorded(0);
    (void)emit(fixture.channel, 100);
    hide();
    const struct sl_event_place shown = sl_event_channel_head(fixture.channel);
    (void)emit(fixture.channel, 50);
    assert_int_equal(sl_event_cursor_ready(&reader, SIZE_MAX, &is_last), 100);
    assert_int_equal(sl_event_cursor_peek(&reader, SIZE_MAX, false, &segment).size, 100);
    assert_int_equal(sl_event_cursor_peek(&reader, SIZE_MAX, true, &segment).size, 100);
    assert_int_equal(sl_event_channel_shown_sequence(fixture.channel), 1);
    assert_int_equal(read_all(&reader, 7, &is_last), 100);
    assert_int_equal(sl_event_cursor_peek(&reader, SIZE_MAX, true, &segment).size, 0);
    sl_event_channel_end(fixture.channel);
    assert_int_equal(sl_event_cursor_ready(&reader, SIZE_MAX, &is_last), 0);
    assert_true(is_last); /* what was not shown never is */
    sl_event_channel_show(
        fixture.channel,
        (struct sl_event_place){ .offset = shown.offset + 50, .sequence = shown.sequence + 1 });
    assert_int_equal(read_all(&reader, 7, &is_last), 50);
    assert_true(is_last);
    stop_recorded();
}

static void readers_are_told_when_more_is_shown(void **state)
{
    (void)state;
    bool is_last = false;
    start_recorded(0);
    sl_event_cursor_close(&record);
    hide();
    assert_int_equal(sl_event_cursor_ready(&reader, SIZE_MAX, &is_last), 0);
    (void)emit(fixture.channel, 50);
    assert_true(sl_fake_loop_run(&fixture.fake));
    assert_int_equal(fixture.n_readable, 0);
    sl_event_channel_show_all(fixture.channel);
    assert_true(sl_fake_loop_run(&fixture.fake));
    assert_int_equal(fixture.n_readable, 1);
    assert_int_equal(read_all(&reader, 7, &is_last), 50);
    stop_recorded();
}

/* However small the window is, and with nobody else who reads. */
static void what_a_record_has_not_passed_is_kept(void **state)
{
    (void)state;
    struct sl_event_range ranges[4];
    struct sl_event_place behind;
    start_recorded(0);
    sl_event_cursor_close(&reader);
    sl_event_channel_set_mark(fixture.channel, 4096, 100000); /* an observer would be lost */
    for (int i = 0; i < 1000; i++) {
        (void)emit(fixture.channel, 100);
    }
    assert_int_equal(sl_event_channel_floor(fixture.channel), 1);
    uint64_t at = 0;
    uint64_t sequence = 0;
    size_t n = 1;
    while (n > 0) {
        n = sl_event_cursor_collect(
            &record, sl_event_channel_head(fixture.channel), 5000, ranges, SL_COUNT(ranges),
            &behind);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(ranges[i].segment->base + ranges[i].from, at);
            at += ranges[i].to - ranges[i].from;
        }
        assert_int_equal(behind.offset, at);
        assert_int_equal(behind.sequence * 100, at);
        assert_true(n == 0 || behind.sequence > sequence);
        sequence = behind.sequence;
        const uint64_t kept = sl_event_channel_floor(fixture.channel);
        assert_true(kept <= record.sequence + 1);
        sl_event_cursor_pass(&record, behind);
    }
    assert_int_equal(sequence, 1000);
    assert_true(sl_event_channel_floor(fixture.channel) > 800);
    stop_recorded();
}

static void a_record_stops_where_it_is_told(void **state)
{
    (void)state;
    struct sl_event_range ranges[8];
    struct sl_event_place behind;
    start_recorded(0);
    for (int i = 0; i < 20; i++) {
        (void)emit(fixture.channel, 100);
    }
    const struct sl_event_place until = sl_event_channel_head(fixture.channel);
    (void)emit(fixture.channel, 100);
    size_t n = sl_event_cursor_collect(&record, until, SIZE_MAX / 2, ranges, 8, &behind);
    assert_true(n > 1);
    assert_int_equal(behind.offset, until.offset);
    assert_int_equal(behind.sequence, 20);
    sl_event_cursor_pass(&record, behind);
    assert_int_equal(sl_event_cursor_collect(&record, until, SIZE_MAX / 2, ranges, 8, &behind), 0);
    n = sl_event_cursor_collect(
        &record, sl_event_channel_head(fixture.channel), SIZE_MAX / 2, ranges, 8, &behind);
    assert_int_equal(n, 1);
    assert_int_equal(ranges[0].to - ranges[0].from, 100);
    assert_int_equal(behind.sequence, 21);
    stop_recorded();
}

/* It looks at each turn, whether it has taken anything or not. */
static void a_record_is_woken_in_each_turn_with_news(void **state)
{
    (void)state;
    start_recorded(0);
    for (int i = 1; i <= 5; i++) {
        (void)emit(fixture.channel, 100);
        (void)emit(fixture.channel, 100);
        assert_true(sl_fake_loop_run(&fixture.fake));
        assert_int_equal(fixture.n_readable, i);
    }
    sl_event_cursor_pass(&record, sl_event_channel_head(fixture.channel));
    assert_true(sl_fake_loop_run(&fixture.fake));
    assert_int_equal(fixture.n_readable, 5);
    stop_recorded();
}

/* At each border of segments, and inside them. */
static void what_is_cut_off_is_gone_for_readers_only(void **state)
{
    (void)state;
    for (int n_shown = 0; n_shown < 40; n_shown++) {
        bool is_last = false;
        struct sl_event_range ranges[8];
        struct sl_event_place behind;
        start_recorded(0);
        hide();
        for (int i = 0; i < 40; i++) {
            (void)emit(fixture.channel, 100);
            if (i + 1 == n_shown) {
                hide();
            }
        }
        const size_t n = sl_event_cursor_collect(
            &record, sl_event_channel_head(fixture.channel), SIZE_MAX / 2, ranges, 8, &behind);
        for (size_t i = 0; i < n; i++) {
            (void)sl_segment_ref(ranges[i].segment);
        }
        sl_event_cursor_close(&record);
        sl_event_channel_cut(fixture.channel);
        assert_int_equal(sl_event_channel_last_sequence(fixture.channel), n_shown);
        const uint8_t tail[60] = { [4] = 55 };
        assert_true(sl_event_channel_append_tail(fixture.channel, sl_slice_of(tail, sizeof(tail))));
        assert_int_equal(sl_event_channel_last_sequence(fixture.channel), n_shown);
        assert_int_equal(sl_event_channel_last_event(fixture.channel).size, 60);
        sl_event_channel_end(fixture.channel);
        uint8_t room[40 * 100 + 60];
        const size_t n_bytes = (size_t)n_shown * 100 + 60;
        assert_int_equal(sl_event_cursor_ready(&reader, SIZE_MAX, &is_last), n_bytes);
        assert_true(is_last);
        sl_event_cursor_take(&reader, room, n_bytes);
        assert_memory_equal(room + n_bytes - 60, tail, 60);
        /* Whoever comes behind the last event gets what has no number. */
        struct sl_event_cursor late;
        assert_int_equal(
            sl_event_cursor_open(
                &late, fixture.channel, SL_CURSOR_OBSERVER, (uint64_t)n_shown, on_readable),
            SL_OK);
        assert_int_equal(read_all(&late, 30, &is_last), 60);
        sl_event_cursor_close(&late);
        /* The bytes of the others are there, and the same. */
        size_t number = 0;
        for (size_t i = 0; i < n; i++) {
            for (uint32_t at = ranges[i].from; at < ranges[i].to; at += 100) {
                number++;
                assert_int_equal(ranges[i].segment->bytes[at + 99], number & 0x7F);
            }
            (void)sl_segment_unref(ranges[i].segment);
        }
        assert_int_equal(number, 40);
        stop_recorded();
    }
}

static void a_producer_can_be_held_back_whatever_the_reader_does(void **state)
{
    (void)state;
    bool is_last = false;
    start_recorded(0);
    sl_event_channel_hold(fixture.channel, true);
    assert_true(sl_event_channel_is_full(fixture.channel));
    assert_true(emit(fixture.channel, 100));
    (void)read_all(&reader, 100, &is_last);
    assert_true(sl_event_channel_is_full(fixture.channel));
    assert_true(sl_fake_loop_run(&fixture.fake));
    assert_int_equal(fixture.n_writable, 0);
    sl_event_channel_hold(fixture.channel, false);
    assert_false(sl_event_channel_is_full(fixture.channel));
    assert_true(sl_fake_loop_run(&fixture.fake));
    assert_int_equal(fixture.n_writable, 1);
    assert_false(emit(fixture.channel, 100));
    stop_recorded();
}

/* Both have to let go, in any order. */
static void a_full_reader_and_a_hold_are_two_things(void **state)
{
    (void)state;
    bool is_last = false;
    start_recorded(0);
    sl_event_channel_set_mark(fixture.channel, 4096, 2);
    assert_false(emit(fixture.channel, 100));
    assert_true(emit(fixture.channel, 100));
    sl_event_channel_hold(fixture.channel, true);
    sl_event_channel_hold(fixture.channel, false);
    assert_true(sl_event_channel_is_full(fixture.channel));
    sl_event_channel_hold(fixture.channel, true);
    (void)read_all(&reader, 200, &is_last);
    assert_true(sl_event_channel_is_full(fixture.channel));
    sl_event_channel_hold(fixture.channel, false);
    assert_false(sl_event_channel_is_full(fixture.channel));
    stop_recorded();
}

/* A run that was taken up: its first events are elsewhere. */
static void a_log_may_begin_behind_an_event(void **state)
{
    bool is_last = false;
    struct sl_event_range ranges[2];
    struct sl_event_place behind;
    const struct sl_event_channel_options options = {
        .mark_bytes = 1024 * 1024, .mark_events = 1000, .window_bytes = 1024, .after_sequence = 41
    };
    (void)state;
    start(&fixture, 4096, 10, 0);
    (void)sl_event_channel_unref(fixture.channel);
    assert_int_equal(sl_event_channel_new(&fixture.fake.base, &options, &fixture.channel), SL_OK);
    assert_int_equal(sl_event_channel_last_sequence(fixture.channel), 41);
    assert_int_equal(sl_event_channel_floor(fixture.channel), 42);
    for (uint64_t after = 40; after <= 42; after += 2) {
        assert_int_equal(
            sl_event_cursor_open(&reader, fixture.channel, SL_CURSOR_OBSERVER, after, on_readable),
            SL_OUT_OF_RANGE);
    }
    assert_int_equal(
        sl_event_cursor_open(&record, fixture.channel, SL_CURSOR_RECORD, 41, on_readable), SL_OK);
    hide();
    (void)emit(fixture.channel, 100);
    assert_int_equal(sl_event_channel_shown_sequence(fixture.channel), 41);
    assert_int_equal(
        sl_event_cursor_open(&reader, fixture.channel, SL_CURSOR_OBSERVER, 41, on_readable), SL_OK);
    assert_int_equal(sl_event_cursor_ready(&reader, SIZE_MAX, &is_last), 0);
    const struct sl_event_place head = sl_event_channel_head(fixture.channel);
    assert_int_equal(sl_event_cursor_collect(&record, head, 1000, ranges, 2, &behind), 1);
    assert_int_equal(behind.sequence, 42);
    sl_event_channel_show_all(fixture.channel);
    assert_int_equal(read_all(&reader, 7, &is_last), 100);
    assert_int_equal(reader.sequence, 42);
    stop_recorded();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_get_what_is_shown),
        cmocka_unit_test(readers_are_told_when_more_is_shown),
        cmocka_unit_test(what_a_record_has_not_passed_is_kept),
        cmocka_unit_test(a_record_stops_where_it_is_told),
        cmocka_unit_test(a_record_is_woken_in_each_turn_with_news),
        cmocka_unit_test(what_is_cut_off_is_gone_for_readers_only),
        cmocka_unit_test(a_producer_can_be_held_back_whatever_the_reader_does),
        cmocka_unit_test(a_full_reader_and_a_hold_are_two_things),
        cmocka_unit_test(a_log_may_begin_behind_an_event),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
