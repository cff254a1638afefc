#include "runtime/base/metrics.h"
#include "tests/unit/test_event_rig.h"

/* Follows the bytes of a log and knows what must come. */
struct follower {
    uint64_t sequence;
    size_t n_prefix;
    size_t payload;
};

static void follow(struct follower *follower, uint8_t byte)
{
    if (follower->n_prefix < SL_EVENT_PREFIX_BYTES) {
        follower->payload = follower->payload << 8 | byte;
        follower->n_prefix++;
    } else {
        assert_int_equal(byte, (follower->sequence + 1) & 0x7F);
        follower->payload--;
    }
    if (follower->n_prefix == SL_EVENT_PREFIX_BYTES && follower->payload == 0) {
        follower->sequence++;
        follower->n_prefix = 0;
    }
}

static void check_steps(size_t step)
{
    struct fixture fixture;
    struct sl_event_cursor cursor;
    struct follower follower = { .sequence = 0 };
    uint8_t room[64];
    bool is_last = false;
    start(&fixture, 4 << 20, 10000, 0);
    assert_int_equal(
        sl_event_cursor_open(&cursor, fixture.channel, SL_CURSOR_FOREGROUND, 0, on_readable),
        SL_OK);
    for (size_t i = 0; i < 500; i++) {
        assert_false(emit(fixture.channel, 5 + i * 7 % 90));
    }
    sl_event_channel_end(fixture.channel);
    while (!is_last) {
        const size_t n = sl_event_cursor_ready(&cursor, step, &is_last);
        assert_true(n > 0);
        sl_event_cursor_take(&cursor, room, n);
        for (size_t i = 0; i < n; i++) {
            follow(&follower, room[i]);
        }
        assert_int_equal(cursor.sequence, follower.sequence);
        assert_int_equal(sl_event_cursor_at_border(&cursor), follower.n_prefix == 0);
    }
    assert_int_equal(follower.sequence, 500);
    sl_event_cursor_close(&cursor);
    stop(&fixture);
}

static void what_is_committed_is_read_in_order(void **state)
{
    (void)state;
    for (size_t step = 1; step < 40; step++) {
        check_steps(step);
    }
}

static void the_memory_of_the_logs_is_counted(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor cursor;
    const struct sl_series *series = sl_metric_series(SL_M_sluice_log_bytes, NULL);
    const uint64_t before = sl_metric_value(series);
    start(&fixture, 4096, 10, 10000);
    assert_int_equal(
        sl_event_cursor_open(&cursor, fixture.channel, SL_CURSOR_OBSERVER, 0, on_readable), SL_OK);
    for (int i = 0; i < 1000; i++) {
        (void)emit(fixture.channel, 100);
        assert_int_equal(sl_metric_value(series) - before, sl_event_channel_bytes(fixture.channel));
    }
    sl_event_cursor_close(&cursor);
    stop(&fixture);
    assert_int_equal(sl_metric_value(series), before);
}

static void reserve_fails_after_the_log_ended(void **state)
{
    (void)state;
    struct fixture fixture;
    uint8_t *room = NULL;
    start(&fixture, 4096, 10, 0);
    (void)emit(fixture.channel, 10);
    sl_event_channel_end(fixture.channel);
    assert_true(sl_event_channel_is_ended(fixture.channel));
    assert_int_equal(sl_event_channel_reserve(fixture.channel, 10, &room), SL_CANCELLED);
    stop(&fixture);
}

static void a_full_foreground_stops_the_producer_and_half_frees_it(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor cursor;
    uint8_t room[4096];
    start(&fixture, 1000, 1000, 0);
    assert_int_equal(
        sl_event_cursor_open(&cursor, fixture.channel, SL_CURSOR_FOREGROUND, 0, on_readable),
        SL_OK);
    for (int i = 0; i < 9; i++) {
        assert_false(emit(fixture.channel, 100));
    }
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_buffer);
    assert_true(emit(fixture.channel, 100));
    assert_true(emit(fixture.channel, 100)); /* soft: nothing is refused */
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_buffer), n_before + 1);
    assert_true(sl_event_channel_is_full(fixture.channel));
    sl_event_cursor_take(&cursor, room, 599);
    assert_int_equal(fixture.n_writable, 0);
    sl_event_cursor_take(&cursor, room, 1);
    assert_int_equal(fixture.n_writable, 1);
    assert_false(sl_event_channel_is_full(fixture.channel));
    sl_event_cursor_take(&cursor, room, 500);
    assert_int_equal(fixture.n_writable, 1);
    sl_event_cursor_close(&cursor);
    stop(&fixture);
}

/* AL-8: the high-water marks of a run. */
static void the_most_that_was_unread_is_known(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor cursor;
    struct sl_event_cursor observer;
    uint8_t room[4096];
    start(&fixture, 1000, 1000, 1 << 20);
    assert_int_equal(
        sl_event_cursor_open(&cursor, fixture.channel, SL_CURSOR_FOREGROUND, 0, on_readable),
        SL_OK);
    assert_int_equal(
        sl_event_cursor_open(&observer, fixture.channel, SL_CURSOR_OBSERVER, 0, on_readable),
        SL_OK);
    for (int i = 0; i < 12; i++) {
        (void)!emit(fixture.channel, 100);
    }
    sl_event_cursor_take(&cursor, room, 1150);
    (void)!emit(fixture.channel, 100);
    (void)!emit(fixture.channel, 1000);
    sl_event_cursor_take(&cursor, room, 1150);
    sl_event_cursor_take(&observer, room, 100);
    for (int i = 0; i < 13; i++) {
        (void)!emit(fixture.channel, 10);
    }
    sl_event_cursor_close(&cursor); /* seen by nobody until here */
    (void)!emit(fixture.channel, 100);
    const struct sl_event_lag most = sl_event_channel_most_lag(fixture.channel);
    assert_int_equal(most.bytes, 1200);
    assert_int_equal(most.events, 13);
    sl_event_cursor_close(&observer);
    stop(&fixture);
}

static void the_mark_counts_events_too(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor cursor;
    uint8_t room[64];
    start(&fixture, 1 << 20, 4, 0);
    assert_int_equal(
        sl_event_cursor_open(&cursor, fixture.channel, SL_CURSOR_FOREGROUND, 0, on_readable),
        SL_OK);
    for (int i = 0; i < 3; i++) {
        assert_false(emit(fixture.channel, 6));
    }
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_buffer_events);
    assert_true(emit(fixture.channel, 6));
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_buffer_events), n_before + 1);
    sl_event_cursor_take(&cursor, room, 11); /* one event and a piece of the next */
    assert_int_equal(fixture.n_writable, 0);
    sl_event_cursor_take(&cursor, room, 1);
    assert_int_equal(fixture.n_writable, 1);
    sl_event_cursor_close(&cursor);
    stop(&fixture);
}

static void one_event_always_fits(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor cursor;
    uint8_t *room = NULL;
    bool is_last = false;
    start(&fixture, 4096, 1, 0);
    assert_int_equal(
        sl_event_cursor_open(&cursor, fixture.channel, SL_CURSOR_FOREGROUND, 0, on_readable),
        SL_OK);
    assert_int_equal(sl_event_channel_reserve(fixture.channel, 3 << 20, &room), SL_OK);
    assert_true(emit(fixture.channel, 3 << 20));
    assert_int_equal(read_all(&cursor, 4096, &is_last), 3 << 20);
    assert_int_equal(fixture.n_writable, 1);
    sl_event_cursor_close(&cursor);
    stop(&fixture);
}

static void a_changed_mark_frees_the_producer_at_the_end_of_the_turn(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor cursor;
    start(&fixture, 100, 1000, 0);
    assert_int_equal(
        sl_event_cursor_open(&cursor, fixture.channel, SL_CURSOR_FOREGROUND, 0, on_readable),
        SL_OK);
    assert_true(emit(fixture.channel, 200));
    sl_event_channel_set_mark(fixture.channel, 400, 1000);
    assert_int_equal(fixture.n_writable, 0);
    assert_true(sl_fake_loop_run(&fixture.fake));
    assert_int_equal(fixture.n_writable, 1);
    sl_event_cursor_close(&cursor);
    stop(&fixture);
}

static void closing_the_foreground_frees_the_producer_but_not_inside_close(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor cursor;
    start(&fixture, 100, 10, 0);
    assert_int_equal(
        sl_event_cursor_open(&cursor, fixture.channel, SL_CURSOR_FOREGROUND, 0, on_readable),
        SL_OK);
    assert_true(emit(fixture.channel, 200));
    sl_event_cursor_close(&cursor);
    assert_int_equal(fixture.n_writable, 0);
    assert_false(emit(fixture.channel, 200)); /* nobody holds it back any more */
    assert_true(sl_fake_loop_run(&fixture.fake));
    assert_int_equal(fixture.n_writable, 1);
    stop(&fixture);
}

static void a_producer_that_is_stopped_again_is_not_told_to_go_on(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor cursor;
    uint8_t room[1024];
    start(&fixture, 100, 1000, 0);
    assert_int_equal(
        sl_event_cursor_open(&cursor, fixture.channel, SL_CURSOR_FOREGROUND, 0, on_readable),
        SL_OK);
    assert_true(emit(fixture.channel, 200));
    sl_event_channel_set_mark(fixture.channel, 400, 1000);
    assert_true(emit(fixture.channel, 200)); /* full again before the turn has ended */
    assert_true(sl_fake_loop_run(&fixture.fake));
    assert_int_equal(fixture.n_writable, 0);
    sl_event_cursor_take(&cursor, room, 400);
    assert_int_equal(fixture.n_writable, 1);
    sl_event_cursor_close(&cursor);
    stop(&fixture);
}

static void a_detached_producer_is_never_called(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor cursor;
    start(&fixture, 100, 10, 0);
    assert_int_equal(
        sl_event_cursor_open(&cursor, fixture.channel, SL_CURSOR_FOREGROUND, 0, on_readable),
        SL_OK);
    assert_true(emit(fixture.channel, 200));
    sl_event_cursor_close(&cursor);
    sl_event_channel_detach_producer(fixture.channel);
    assert_true(sl_fake_loop_run(&fixture.fake));
    assert_int_equal(fixture.n_writable, 0);
    stop(&fixture);
}

static void a_second_foreground_is_refused(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor a;
    struct sl_event_cursor b;
    start(&fixture, 100, 10, 0);
    assert_int_equal(
        sl_event_cursor_open(&a, fixture.channel, SL_CURSOR_FOREGROUND, 0, on_readable), SL_OK);
    assert_int_equal(
        sl_event_cursor_open(&b, fixture.channel, SL_CURSOR_FOREGROUND, 0, on_readable),
        SL_ALREADY_EXISTS);
    sl_event_cursor_close(&a);
    assert_int_equal(
        sl_event_cursor_open(&b, fixture.channel, SL_CURSOR_FOREGROUND, 0, on_readable), SL_OK);
    sl_event_cursor_close(&b);
    stop(&fixture);
}

static void subscribers_are_woken_once_a_turn_and_only_when_they_wait(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor cursor;
    bool is_last = false;
    start(&fixture, 1 << 20, 1000, 0);
    assert_int_equal(
        sl_event_cursor_open(&cursor, fixture.channel, SL_CURSOR_FOREGROUND, 0, on_readable),
        SL_OK);
    (void)emit(fixture.channel, 20);
    assert_true(sl_fake_loop_run(&fixture.fake));
    assert_int_equal(fixture.n_readable, 0); /* it never asked */
    assert_int_equal(read_all(&cursor, 100, &is_last), 20);
    assert_false(is_last);
    for (int i = 0; i < 5; i++) {
        (void)emit(fixture.channel, 20);
        assert_int_equal(fixture.n_readable, 0);
    }
    assert_true(sl_fake_loop_run(&fixture.fake));
    assert_int_equal(fixture.n_readable, 1);
    (void)emit(fixture.channel, 20);
    assert_true(sl_fake_loop_run(&fixture.fake));
    assert_int_equal(fixture.n_readable, 1); /* it has not read to the end */
    assert_int_equal(read_all(&cursor, 100, &is_last), 120);
    sl_event_channel_end(fixture.channel);
    assert_true(sl_fake_loop_run(&fixture.fake));
    assert_int_equal(fixture.n_readable, 2);
    assert_int_equal(sl_event_cursor_ready(&cursor, 1, &is_last), 0);
    assert_true(is_last);
    sl_event_cursor_close(&cursor);
    stop(&fixture);
}

static void the_end_is_told_with_the_last_bytes(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor cursor;
    uint8_t room[64];
    bool is_last = true;
    start(&fixture, 1 << 20, 1000, 0);
    (void)emit(fixture.channel, 20);
    sl_event_channel_end(fixture.channel);
    assert_int_equal(
        sl_event_cursor_open(&cursor, fixture.channel, SL_CURSOR_OBSERVER, 0, on_readable), SL_OK);
    assert_int_equal(sl_event_cursor_ready(&cursor, 19, &is_last), 19);
    assert_false(is_last);
    assert_int_equal(sl_event_cursor_ready(&cursor, 20, &is_last), 20);
    assert_true(is_last);
    sl_event_cursor_take(&cursor, room, 20);
    assert_int_equal(cursor.sequence, 1);
    sl_event_cursor_close(&cursor);
    stop(&fixture);
}

static void a_reserve_that_is_not_committed_leaves_nothing(void **state)
{
    (void)state;
    struct fixture fixture;
    struct sl_event_cursor cursor;
    uint8_t *room = NULL;
    bool is_last = false;
    start(&fixture, 1 << 20, 1000, 0);
    assert_int_equal(
        sl_event_cursor_open(&cursor, fixture.channel, SL_CURSOR_FOREGROUND, 0, on_readable),
        SL_OK);
    assert_int_equal(sl_event_channel_reserve(fixture.channel, 100, &room), SL_OK);
    assert_int_equal(sl_event_channel_reserve(fixture.channel, 100000, &room), SL_OK);
    assert_int_equal(sl_event_cursor_ready(&cursor, 10, &is_last), 0);
    (void)emit(fixture.channel, 50);
    (void)emit(fixture.channel, 50);
    assert_int_equal(sl_event_channel_reserve(fixture.channel, 200000, &room), SL_OK);
    (void)emit(fixture.channel, 50);
    assert_int_equal(read_all(&cursor, 4096, &is_last), 150);
    assert_int_equal(cursor.sequence, 3);
    sl_event_cursor_close(&cursor);
    stop(&fixture);
}

static bool refuse_all(size_t size)
{
    (void)size;
    return false;
}

static void without_memory_reserve_fails_and_the_log_goes_on(void **state)
{
    (void)state;
    struct fixture fixture;
    uint8_t *room = NULL;
    struct sl_event_channel *other = NULL;
    const struct sl_event_channel_options options = { .mark_bytes = 1 };
    start(&fixture, 1 << 20, 1000, 0);
    (void)emit(fixture.channel, 50);
    sl_mem_set_gate(refuse_all);
    assert_int_equal(sl_event_channel_reserve(fixture.channel, 1000, &room), SL_RESOURCE_EXHAUSTED);
    assert_int_equal(
        sl_event_channel_new(&fixture.fake.base, &options, &other), SL_RESOURCE_EXHAUSTED);
    assert_int_equal(sl_event_channel_reserve(fixture.channel, 50, &room), SL_OK);
    sl_mem_set_gate(NULL);
    (void)emit(fixture.channel, 1000);
    assert_int_equal(sl_event_channel_last_sequence(fixture.channel), 2);
    stop(&fixture);
}

static void the_spare_room_holds_an_end_without_memory(void **state) /* NG-21 */
{
    (void)state;
    struct sl_fake_loop fake;
    struct sl_event_channel *channel = NULL;
    struct sl_event_cursor cursor;
    uint8_t *room = NULL;
    bool is_last = false;
    sl_fake_loop_init(&fake);
    const struct sl_event_channel_options options = { .mark_bytes = 4096,
                                                      .mark_events = 10,
                                                      .spare_bytes = 1000 };
    assert_int_equal(sl_event_channel_new(&fake.base, &options, &channel), SL_OK);
    (void)emit(channel, 50);
    assert_int_equal(
        sl_event_cursor_open(&cursor, channel, SL_CURSOR_FOREGROUND, 0, on_readable), SL_OK);
    sl_mem_set_gate(refuse_all);
    assert_int_equal(sl_event_channel_reserve(channel, 900, &room), SL_RESOURCE_EXHAUSTED);
    assert_true(sl_event_channel_open_spare(channel));
    (void)emit(channel, 900);
    (void)emit(channel, 100);
    assert_int_equal(sl_event_channel_reserve(channel, 100, &room), SL_RESOURCE_EXHAUSTED);
    assert_false(sl_event_channel_open_spare(channel));
    sl_mem_set_gate(NULL);
    assert_int_equal(read_all(&cursor, 512, &is_last), 1050);
    sl_event_cursor_close(&cursor);
    (void)sl_event_channel_unref(channel);
    sl_fake_loop_done(&fake);
}

/* FC-3, AT-13: many readers that do not read; what waits stays near the limit, and none loses
 * anything. */
static void the_logs_of_the_process_share_a_bound(void **state)
{
    (void)state;
    enum { N = 50, LIMIT = 100000, SIZE = 500 };
    struct sl_fake_loop fake;
    struct sl_event_channel *channels[N];
    struct sl_event_cursor cursors[N];
    const struct sl_event_channel_options options = { .mark_bytes = 65536,
                                                      .mark_events = 10000,
                                                      .send_total_bytes = LIMIT };
    sl_fake_loop_init(&fake);
    size_t n_bytes[N] = { 0 };
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_send_total);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(sl_event_channel_new(&fake.base, &options, &channels[i]), SL_OK);
        assert_int_equal(
            sl_event_cursor_open(&cursors[i], channels[i], SL_CURSOR_FOREGROUND, 0, on_readable),
            SL_OK);
        do {
            n_bytes[i] += SIZE;
        } while (!emit(channels[i], SIZE));
    }
    assert_in_range(n_bytes[0], 65536, 65536 + SIZE);
    assert_in_range(n_bytes[N - 1], 4096, 4096 + SIZE);
    assert_in_range(sl_limit_n_reached(SL_LIMIT_send_total), n_before + N - 2, n_before + N - 1);
    assert_in_range(sl_send_total_bytes(), LIMIT, LIMIT + 65536 + N * (4096 + SIZE));
    for (size_t i = 0; i < N; i++) {
        bool is_last = false;
        assert_true(sl_event_channel_is_full(channels[i]));
        assert_int_equal(read_all(&cursors[i], 4096, &is_last), n_bytes[i]);
        assert_false(sl_event_channel_is_full(channels[i]));
    }
    assert_int_equal(sl_send_total_bytes(), 0);
    for (n_bytes[0] = SIZE; !emit(channels[0], SIZE); n_bytes[0] += SIZE) {
    }
    assert_in_range(n_bytes[0], 65536, 65536 + SIZE);
    for (size_t i = 0; i < N; i++) {
        sl_event_cursor_close(&cursors[i]);
        (void)sl_event_channel_unref(channels[i]);
    }
    assert_int_equal(sl_send_total_bytes(), 0);
    sl_fake_loop_done(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_committed_is_read_in_order),
        cmocka_unit_test(the_memory_of_the_logs_is_counted),
        cmocka_unit_test(reserve_fails_after_the_log_ended),
        cmocka_unit_test(a_full_foreground_stops_the_producer_and_half_frees_it),
        cmocka_unit_test(the_most_that_was_unread_is_known),
        cmocka_unit_test(the_mark_counts_events_too),
        cmocka_unit_test(one_event_always_fits),
        cmocka_unit_test(a_changed_mark_frees_the_producer_at_the_end_of_the_turn),
        cmocka_unit_test(closing_the_foreground_frees_the_producer_but_not_inside_close),
        cmocka_unit_test(a_producer_that_is_stopped_again_is_not_told_to_go_on),
        cmocka_unit_test(a_detached_producer_is_never_called),
        cmocka_unit_test(a_second_foreground_is_refused),
        cmocka_unit_test(subscribers_are_woken_once_a_turn_and_only_when_they_wait),
        cmocka_unit_test(the_end_is_told_with_the_last_bytes),
        cmocka_unit_test(a_reserve_that_is_not_committed_leaves_nothing),
        cmocka_unit_test(without_memory_reserve_fails_and_the_log_goes_on),
        cmocka_unit_test(the_spare_room_holds_an_end_without_memory),
        cmocka_unit_test(the_logs_of_the_process_share_a_bound),
    };
    return cmocka_run_group_tests_name("event_channel", tests, NULL, NULL);
}
