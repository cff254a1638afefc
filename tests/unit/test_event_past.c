/* AL-8: a log whose foreground reader does not hold its run back. */
#include "runtime/base/event_log.h"
#include "runtime/base/metrics.h"
#include "tests/unit/test_event_rig.h"

enum { MARK = 4096, EVENTS = 100, SIZE = 100 };

static int n_past;

static void on_past(void *user_data)
{
    assert_ptr_equal(user_data, current);
    n_past++;
}

static void
start_spilling(struct fixture *fixture, struct sl_event_cursor *cursor, uint32_t window_bytes)
{
    start(fixture, MARK, EVENTS, window_bytes);
    n_past = 0;
    sl_event_channel_spill(fixture->channel, on_past, fixture);
    assert_int_equal(
        sl_event_cursor_open(cursor, fixture->channel, SL_CURSOR_FOREGROUND, 0, on_readable),
        SL_OK);
}

static void emit_n(struct sl_event_channel *channel, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        assert_false(emit(channel, SIZE));
    }
}

static uint64_t n_counted(void)
{
    static const char *const labels[] = { "spill" };
    return sl_metric_value(sl_metric_series(SL_M_sluice_slow_consumers, labels));
}

static void a_reader_that_spills_never_stops_the_producer(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor cursor;
    bool is_last = false;
    const uint64_t n_before = n_counted();
    start_spilling(&fixture, &cursor, 10000);
    for (size_t i = 0; i < MANY; i++) {
        assert_false(emit(fixture.channel, SIZE));
        assert_true(sl_event_channel_bytes(fixture.channel) < 65536);
    }
    assert_false(sl_event_channel_is_full(fixture.channel));
    assert_int_equal(sl_event_channel_n_spills(fixture.channel), 1);
    assert_int_equal(n_counted(), n_before + 1);
    assert_int_equal(fixture.n_writable, 0);
    assert_int_equal(sl_event_channel_most_lag(fixture.channel).events, MANY);
    assert_int_equal(sl_event_cursor_ready(&cursor, SIZE, &is_last), 0); /* it is in the store */
    assert_true(cursor.is_lost);
    assert_false(is_last);
    sl_event_cursor_close(&cursor);
    stop(&fixture);
}

/* Up to its mark, or the window if that is more, it finds everything in memory. */
static void what_is_not_far_behind_is_kept_for_it(void **state)
{
    (void)state;
    for (uint32_t window = 0; window <= 2 * MARK; window += 2 * MARK) {
        struct fixture fixture;
        struct sl_event_cursor cursor;
        bool is_last = false;
        const size_t most = (window > MARK ? window : MARK) / SIZE;
        start_spilling(&fixture, &cursor, window);
        for (int i = 0; i < 20; i++) {
            emit_n(fixture.channel, most);
            assert_int_equal(read_all(&cursor, 1000, &is_last), most * SIZE);
            assert_false(cursor.is_lost);
        }
        sl_event_cursor_close(&cursor);
        stop(&fixture);
    }
}

static void since_when_it_is_past_its_mark_is_known(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor cursor;
    uint8_t room[MARK];
    start_spilling(&fixture, &cursor, 10000);
    emit_n(fixture.channel, 40);
    assert_int_equal(sl_event_channel_past_since(fixture.channel), 0);
    emit_n(fixture.channel, 1); /* 4,100 bytes */
    const uint64_t since_ns = sl_event_channel_past_since(fixture.channel);
    assert_int_equal(since_ns, sl_loop_now_ns(&fixture.fake.base));
    assert_int_equal(n_past, 1);
    sl_fake_loop_advance_ms(&fixture.fake, 10);
    emit_n(fixture.channel, 1);
    assert_int_equal(sl_event_channel_past_since(fixture.channel), since_ns);
    sl_event_cursor_take(&cursor, room, 200);
    assert_int_equal(sl_event_channel_past_since(fixture.channel), 0);
    emit_n(fixture.channel, 2); /* it was not at half of its mark: the same time, once more */
    assert_int_equal(sl_event_channel_past_since(fixture.channel), since_ns + 10 * SL_NS_PER_MS);
    assert_int_equal(n_past, 2);
    assert_int_equal(sl_event_channel_n_spills(fixture.channel), 1);
    sl_event_cursor_take(&cursor, room, 2200);
    emit_n(fixture.channel, 30);
    assert_int_equal(sl_event_channel_n_spills(fixture.channel), 2);
    sl_event_channel_set_mark(fixture.channel, 2 * MARK, EVENTS);
    assert_int_equal(sl_event_channel_past_since(fixture.channel), 0);
    sl_event_channel_set_mark(fixture.channel, MARK, EVENTS);
    assert_true(sl_event_channel_past_since(fixture.channel) > 0);
    sl_event_cursor_close(&cursor);
    stop(&fixture);
}

static void the_mark_is_one_of_events_too_and_one_event_fits(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor cursor;
    bool is_last = false;
    start_spilling(&fixture, &cursor, 10000);
    assert_false(emit(fixture.channel, 8192));
    assert_int_equal(sl_event_channel_past_since(fixture.channel), 0);
    (void)read_all(&cursor, 1000, &is_last);
    for (int i = 0; i < EVENTS; i++) {
        assert_int_equal(sl_event_channel_past_since(fixture.channel), 0);
        assert_false(emit(fixture.channel, 10));
    }
    assert_true(sl_event_channel_past_since(fixture.channel) > 0);
    sl_event_cursor_close(&cursor);
    stop(&fixture);
}

/* With SYNC a reader gets what is stored: that it has nothing more is not its fault. */
static void what_is_hidden_from_it_does_not_count(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor cursor;
    start_spilling(&fixture, &cursor, 10000);
    emit_n(fixture.channel, 3);
    sl_event_channel_show(fixture.channel, sl_event_channel_head(fixture.channel));
    emit_n(fixture.channel, 120);
    assert_int_equal(sl_event_channel_past_since(fixture.channel), 0);
    sl_event_channel_show(fixture.channel, sl_event_channel_head(fixture.channel));
    assert_true(sl_event_channel_past_since(fixture.channel) > 0);
    sl_event_cursor_close(&cursor);
    stop(&fixture);
}

/* It reads from the store, and comes back: until then it is as far behind as it was. */
static void one_that_comes_back_is_looked_at_anew(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor cursor;
    start_spilling(&fixture, &cursor, 10000);
    emit_n(fixture.channel, 500);
    const uint64_t since_ns = sl_event_channel_past_since(fixture.channel);
    sl_event_cursor_close(&cursor);
    emit_n(fixture.channel, 500);
    assert_int_equal(sl_event_channel_past_since(fixture.channel), since_ns);
    assert_int_equal(
        sl_event_cursor_open(&cursor, fixture.channel, SL_CURSOR_FOREGROUND, 950, on_readable),
        SL_OK);
    assert_int_equal(sl_event_channel_past_since(fixture.channel), since_ns);
    sl_event_cursor_close(&cursor);
    assert_int_equal(
        sl_event_cursor_open(&cursor, fixture.channel, SL_CURSOR_FOREGROUND, 999, on_readable),
        SL_OK);
    assert_int_equal(sl_event_channel_past_since(fixture.channel), 0);
    emit_n(fixture.channel, 50);
    assert_int_equal(sl_event_channel_n_spills(fixture.channel), 2);
    sl_event_cursor_close(&cursor);
    stop(&fixture);
}

/* Who holds it back all the same is the store (O5). */
static void a_record_holds_the_producer_back_as_before(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor cursor;
    start_spilling(&fixture, &cursor, 10000);
    sl_event_channel_hold(fixture.channel, true);
    assert_true(emit(fixture.channel, SIZE));
    for (int i = 0; i < EVENTS; i++) {
        assert_true(emit(fixture.channel, SIZE));
    }
    sl_event_channel_hold(fixture.channel, false);
    assert_false(sl_event_channel_is_full(fixture.channel)); /* although nobody has read */
    sl_fake_loop_turn(&fixture.fake);
    assert_int_equal(fixture.n_writable, 1);
    sl_event_cursor_close(&cursor);
    stop(&fixture);
}

/* limits.send_total bounds what waits in memory: what is read from the store does not. */
static void what_it_finds_in_the_store_waits_in_no_queue(void **state)
{
    (void)state;
    struct sl_fake_loop fake;
    struct sl_event_channel *channel = NULL;
    struct sl_event_cursor cursor;
    const struct sl_event_channel_options options = { .mark_bytes = 65536,
                                                      .mark_events = 10000,
                                                      .send_total_bytes = 1 << 20 };
    sl_fake_loop_init(&fake);
    assert_int_equal(sl_event_channel_new(&fake.base, &options, &channel), SL_OK);
    sl_event_channel_spill(channel, NULL, NULL);
    assert_int_equal(
        sl_event_cursor_open(&cursor, channel, SL_CURSOR_FOREGROUND, 0, on_readable), SL_OK);
    assert_int_equal(sl_send_total_bytes(), 0);
    emit_n(channel, 600);
    assert_in_range(sl_send_total_bytes(), 1, 65536);
    emit_n(channel, 10000);
    assert_int_equal(sl_send_total_bytes(), 0);
    sl_event_cursor_close(&cursor);
    (void)sl_event_channel_unref(channel);
    sl_fake_loop_done(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_that_spills_never_stops_the_producer),
        cmocka_unit_test(what_is_not_far_behind_is_kept_for_it),
        cmocka_unit_test(since_when_it_is_past_its_mark_is_known),
        cmocka_unit_test(the_mark_is_one_of_events_too_and_one_event_fits),
        cmocka_unit_test(what_is_hidden_from_it_does_not_count),
        cmocka_unit_test(one_that_comes_back_is_looked_at_anew),
        cmocka_unit_test(a_record_holds_the_producer_back_as_before),
        cmocka_unit_test(what_it_finds_in_the_store_waits_in_no_queue),
    };
    return cmocka_run_group_tests_name("event_past", tests, NULL, NULL);
}
