#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/event_relay.h"
#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "runtime/base/random.h"
#include "tests/fake/fake_loop.h"

/* ---- Events whose bytes can be checked --------------------------------------------------------
 */

static bool emit(struct sl_event_channel *channel, size_t size)
{
    uint8_t *room = NULL;
    assert_int_equal(sl_event_channel_reserve(channel, size, &room), SL_OK);
    const size_t payload = size - SL_EVENT_PREFIX_BYTES;
    const uint8_t prefix[SL_EVENT_PREFIX_BYTES] = { 0, (uint8_t)(payload >> 24),
                                                    (uint8_t)(payload >> 16),
                                                    (uint8_t)(payload >> 8), (uint8_t)payload };
    memcpy(room, prefix, sizeof(prefix));
    memset(
        room + sizeof(prefix), (int)((sl_event_channel_last_sequence(channel) + 1) & 0x7F),
        payload);
    return sl_event_channel_commit(channel, size);
}

struct checker {
    uint64_t n_events;
    size_t n_prefix;
    size_t payload;
};

static void check(struct checker *checker, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (checker->n_prefix < SL_EVENT_PREFIX_BYTES) {
            checker->payload = checker->payload << 8 | bytes[i];
            checker->n_prefix++;
        } else {
            assert_int_equal(bytes[i], (checker->n_events + 1) & 0x7F);
            checker->payload--;
        }
        if (checker->n_prefix == SL_EVENT_PREFIX_BYTES && checker->payload == 0) {
            checker->n_events++;
            checker->n_prefix = 0;
        }
    }
}

/* ---- Both ends in one thread, turn by turn ----------------------------------------------------
 */

struct fixture {
    struct sl_fake_loop owner, reader;
    struct sl_event_channel *channel;
    struct sl_event_relay *relay;
    struct checker checker;
    int n_readable, n_writable;
};

static void count_readable(void *user_data)
{
    ((struct fixture *)user_data)->n_readable++;
}

static void count_writable(void *user_data)
{
    ((struct fixture *)user_data)->n_writable++;
}

static void start(struct fixture *fixture, uint32_t mark_bytes, uint32_t window_bytes)
{
    *fixture = (struct fixture){ .n_readable = 0 };
    sl_fake_loop_init(&fixture->owner);
    sl_fake_loop_init(&fixture->reader);
    const struct sl_event_channel_options options = { .mark_bytes = mark_bytes,
                                                      .mark_events = 100000,
                                                      .window_bytes = window_bytes,
                                                      .on_writable = count_writable,
                                                      .user_data = fixture };
    assert_int_equal(
        sl_event_channel_new(&fixture->owner.base, &options, &fixture->channel), SL_OK);
    assert_int_equal(
        sl_event_relay_new(
            &fixture->reader.base, &fixture->owner.base, count_readable, fixture, &fixture->relay),
        SL_OK);
}

static void run_both(struct fixture *fixture)
{
    for (int i = 0; i < 10; i++) {
        assert_true(sl_fake_loop_run(&fixture->owner));
        assert_true(sl_fake_loop_run(&fixture->reader));
    }
}

/* Reads what is there now, in pieces of `step`. */
static size_t read_now(struct fixture *fixture, size_t step, bool *ret_is_last)
{
    uint8_t room[8192];
    size_t total = 0;
    size_t n = 0;
    bool was_last = false;
    while ((n = sl_event_relay_ready(fixture->relay, step, ret_is_last)) > 0) {
        assert_false(was_last); /* nothing comes behind the end */
        was_last = *ret_is_last;
        sl_event_relay_take(fixture->relay, room, n);
        check(&fixture->checker, room, n);
        assert_int_equal(sl_event_relay_at_border(fixture->relay), fixture->checker.n_prefix == 0);
        total += n;
    }
    return total;
}

static void stop(struct fixture *fixture)
{
    sl_event_relay_close(fixture->relay);
    fixture->channel = sl_event_channel_unref(fixture->channel);
    run_both(fixture);
    sl_fake_loop_done(&fixture->owner);
    sl_fake_loop_done(&fixture->reader);
}

static void every_byte_arrives_in_order_and_the_end_is_told(void **state)
{
    (void)state;
    for (size_t step = 1; step < 8192; step = step * 3 + 1) {
        struct fixture fixture;
        uint64_t seed = step;
        bool is_last = false;
        start(&fixture, 1 << 20, 0);
        assert_int_equal(
            sl_event_relay_attach(fixture.relay, fixture.channel, SL_CURSOR_FOREGROUND, 0), SL_OK);
        for (int i = 0; i < 300; i++) {
            const size_t largest = i % 50 == 49 ? 40000 : 300;
            (void)emit(fixture.channel, 5 + sl_random_next(&seed) % largest);
            if (i % 7 == 0) {
                run_both(&fixture);
                (void)read_now(&fixture, step, &is_last);
                assert_false(is_last);
            }
        }
        sl_event_channel_end(fixture.channel);
        while (!is_last) {
            run_both(&fixture);
            (void)read_now(&fixture, step, &is_last);
        }
        assert_int_equal(fixture.checker.n_events, 300);
        assert_int_equal(sl_event_relay_sequence(fixture.relay), 300);
        stop(&fixture);
    }
}

static void it_starts_behind_the_event_that_was_asked_for(void **state)
{
    (void)state;
    struct fixture fixture;
    bool is_last = false;
    start(&fixture, 4096, 1 << 20);
    for (int i = 0; i < 100; i++) {
        (void)emit(fixture.channel, 50);
    }
    assert_int_equal(
        sl_event_relay_attach(fixture.relay, fixture.channel, SL_CURSOR_OBSERVER, 101),
        SL_OUT_OF_RANGE);
    assert_int_equal(
        sl_event_relay_attach(fixture.relay, fixture.channel, SL_CURSOR_OBSERVER, 40), SL_OK);
    fixture.checker.n_events = 40;
    run_both(&fixture);
    assert_int_equal(read_now(&fixture, 999, &is_last), 3000);
    assert_int_equal(sl_event_relay_sequence(fixture.relay), 100);
    stop(&fixture);
}

static void no_more_than_the_credit_is_on_the_way(void **state)
{
    (void)state;
    struct fixture fixture;
    bool is_last = false;
    start(&fixture, 100000, 0);
    assert_int_equal(
        sl_event_relay_attach(fixture.relay, fixture.channel, SL_CURSOR_FOREGROUND, 0), SL_OK);
    size_t emitted = 0;
    while (!emit(fixture.channel, 1000)) {
        emitted += 1000;
        run_both(&fixture);
    }
    emitted += 1000;
    assert_true(emitted >= 100000 + SL_RELAY_CREDIT_BYTES - 1000);
    assert_true(emitted <= 100000 + SL_RELAY_CREDIT_BYTES);
    size_t total = 0;
    while (total < emitted) {
        const size_t n = read_now(&fixture, 4096, &is_last);
        assert_true(n > 0 && n <= SL_RELAY_CREDIT_BYTES);
        total += n;
        run_both(&fixture);
    }
    assert_int_equal(fixture.n_writable, 1);
    stop(&fixture);
}

static void an_event_above_the_credit_goes_through_after_small_ones(void **state)
{
    (void)state;
    struct fixture fixture;
    bool is_last = false;
    start(&fixture, 4 << 20, 0);
    assert_int_equal(
        sl_event_relay_attach(fixture.relay, fixture.channel, SL_CURSOR_FOREGROUND, 0), SL_OK);
    (void)emit(fixture.channel, 100);
    run_both(&fixture);
    assert_int_equal(read_now(&fixture, 4096, &is_last), 100); /* read, its credit not yet given */
    (void)emit(fixture.channel, 1000000);
    (void)emit(fixture.channel, 100);
    run_both(&fixture);
    assert_int_equal(read_now(&fixture, 4096, &is_last), 1000000);
    run_both(&fixture);
    assert_int_equal(read_now(&fixture, 4096, &is_last), 100);
    stop(&fixture);
}

static void many_segments_with_little_in_each_get_through(void **state)
{
    (void)state;
    struct fixture fixture;
    uint8_t *room = NULL;
    bool is_last = false;
    size_t total = 0;
    start(&fixture, 4 << 20, 0);
    assert_int_equal(
        sl_event_relay_attach(fixture.relay, fixture.channel, SL_CURSOR_FOREGROUND, 0), SL_OK);
    for (int i = 0; i < 500; i++) {
        assert_int_equal(sl_event_channel_reserve(fixture.channel, 20000, &room), SL_OK);
        (void)emit(fixture.channel, 30); /* the next one does not fit into the same segment */
    }
    sl_event_channel_end(fixture.channel);
    for (int i = 0; i < 100 && !is_last; i++) {
        run_both(&fixture);
        total += read_now(&fixture, 4096, &is_last);
    }
    assert_int_equal(total, 15000);
    assert_true(is_last);
    stop(&fixture);
}

static void the_reader_is_woken_only_when_it_waits(void **state)
{
    (void)state;
    struct fixture fixture;
    bool is_last = false;
    start(&fixture, 1 << 20, 0);
    assert_int_equal(
        sl_event_relay_attach(fixture.relay, fixture.channel, SL_CURSOR_FOREGROUND, 0), SL_OK);
    (void)emit(fixture.channel, 50);
    run_both(&fixture);
    assert_int_equal(fixture.n_readable, 0);
    assert_int_equal(read_now(&fixture, 4096, &is_last), 50);
    for (int i = 0; i < 5; i++) {
        (void)emit(fixture.channel, 50);
    }
    run_both(&fixture);
    assert_int_equal(fixture.n_readable, 1);
    (void)emit(fixture.channel, 50);
    run_both(&fixture);
    assert_int_equal(fixture.n_readable, 1);
    stop(&fixture);
}

static void a_lost_observer_is_told(void **state)
{
    (void)state;
    struct fixture fixture;
    bool is_last = false;
    start(&fixture, 4096, 8192);
    assert_int_equal(
        sl_event_relay_attach(fixture.relay, fixture.channel, SL_CURSOR_OBSERVER, 0), SL_OK);
    for (int i = 0; i < 10000; i++) {
        assert_false(emit(fixture.channel, 100));
        if (i % 100 == 0) {
            run_both(&fixture);
        }
    }
    for (int i = 0; i < 10; i++) {
        (void)read_now(&fixture, 4096, &is_last);
        run_both(&fixture);
    }
    assert_true(sl_event_relay_is_lost(fixture.relay));
    assert_false(is_last);
    assert_true(sl_event_relay_at_border(fixture.relay));
    assert_true(fixture.checker.n_events < 10000);
    stop(&fixture);
}

static void closing_with_bytes_on_the_way_leaks_nothing(void **state)
{
    (void)state;
    for (int turns = 0; turns < 4; turns++) {
        struct fixture fixture;
        start(&fixture, 100, 0);
        assert_int_equal(
            sl_event_relay_attach(fixture.relay, fixture.channel, SL_CURSOR_FOREGROUND, 0), SL_OK);
        (void)emit(fixture.channel, 500);
        for (int i = 0; i < turns; i++) {
            sl_fake_loop_turn(i % 2 == 0 ? &fixture.owner : &fixture.reader);
        }
        stop(&fixture);
    }
}

static void without_a_log_it_only_closes(void **state)
{
    (void)state;
    struct fixture fixture;
    bool is_last = true;
    start(&fixture, 100, 0);
    assert_int_equal(sl_event_relay_ready(fixture.relay, 10, &is_last), 0);
    assert_false(is_last);
    stop(&fixture);
}

/* ---- Two threads ------------------------------------------------------------------------------
 */

enum { N_EVENTS = 20000 };

struct producer {
    struct sl_loop_uv *loop;
    struct sl_event_channel *channel;
    struct sl_event_relay *relay;
    struct sl_task attach;
    struct sl_task emit;
    uint64_t seed;
    uint64_t n_emitted;
    bool is_held;
};

struct consumer {
    struct sl_loop_uv *loop;
    struct sl_event_relay *relay;
    struct checker checker;
    uint64_t seed;
};

static void produce(struct sl_task *task)
{
    struct producer *self = SL_CONTAINER(task, struct producer, emit);
    for (int i = 0; i < 50 && !self->is_held && self->n_emitted < N_EVENTS; i++) {
        self->n_emitted++;
        const size_t largest = self->n_emitted % 500 == 0 ? 100000 : 200;
        self->is_held = emit(self->channel, 5 + sl_random_next(&self->seed) % largest);
    }
    if (self->n_emitted == N_EVENTS) {
        sl_event_channel_end(self->channel);
    } else if (!self->is_held) {
        sl_loop_post(sl_loop_uv_base(self->loop), task);
    }
}

static void go_on(void *user_data)
{
    struct producer *self = user_data;
    self->is_held = false;
    sl_loop_post(sl_loop_uv_base(self->loop), &self->emit);
}

static void attach(struct sl_task *task)
{
    struct producer *self = SL_CONTAINER(task, struct producer, attach);
    const struct sl_event_channel_options options = {
        .mark_bytes = 65536, .mark_events = 1000, .on_writable = go_on, .user_data = self
    };
    struct sl_loop *loop = sl_loop_uv_base(self->loop);
    assert_int_equal(sl_event_channel_new(loop, &options, &self->channel), SL_OK);
    assert_int_equal(
        sl_event_relay_attach(self->relay, self->channel, SL_CURSOR_FOREGROUND, 0), SL_OK);
    sl_loop_post(loop, &self->emit);
}

static void consume(void *user_data)
{
    struct consumer *self = user_data;
    uint8_t room[3000];
    bool is_last = false;
    size_t n = 1;
    while (n > 0) {
        const size_t step = 1 + sl_random_next(&self->seed) % sizeof(room);
        n = sl_event_relay_ready(self->relay, step, &is_last);
        sl_event_relay_take(self->relay, room, n);
        check(&self->checker, room, n);
    }
    if (is_last) {
        sl_event_relay_close(self->relay);
        sl_loop_uv_stop(self->loop);
    }
}

static void *run_producer(void *argument)
{
    struct producer *self = argument;
    sl_loop_uv_run(self->loop);
    self->channel = sl_event_channel_unref(self->channel);
    return NULL;
}

static void two_threads_pass_a_whole_run(void **state)
{
    (void)state;
    struct producer producer = { .attach = { .run = attach }, .emit = { .run = produce } };
    struct consumer consumer = { .seed = 7 };
    pthread_t thread;
    assert_int_equal(sl_loop_uv_new(0, &producer.loop), SL_OK);
    assert_int_equal(sl_loop_uv_new(1, &consumer.loop), SL_OK);
    struct sl_loop *owner = sl_loop_uv_base(producer.loop);
    struct sl_loop *reader = sl_loop_uv_base(consumer.loop);
    assert_int_equal(sl_event_relay_new(reader, owner, consume, &consumer, &consumer.relay), SL_OK);
    producer.relay = consumer.relay;
    sl_loop_post(owner, &producer.attach);
    assert_int_equal(pthread_create(&thread, NULL, run_producer, &producer), 0);
    consume(&consumer);
    sl_loop_uv_run(consumer.loop);
    assert_int_equal(consumer.checker.n_events, N_EVENTS);
    sl_loop_uv_stop(producer.loop);
    assert_int_equal(pthread_join(thread, NULL), 0);
    bool has_drained = true;
    while (has_drained) {
        has_drained = sl_loop_drain(owner);
        has_drained |= sl_loop_drain(reader);
    }
    (void)sl_loop_uv_free(producer.loop);
    (void)sl_loop_uv_free(consumer.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_arrives_in_order_and_the_end_is_told),
        cmocka_unit_test(it_starts_behind_the_event_that_was_asked_for),
        cmocka_unit_test(no_more_than_the_credit_is_on_the_way),
        cmocka_unit_test(an_event_above_the_credit_goes_through_after_small_ones),
        cmocka_unit_test(many_segments_with_little_in_each_get_through),
        cmocka_unit_test(the_reader_is_woken_only_when_it_waits),
        cmocka_unit_test(a_lost_observer_is_told),
        cmocka_unit_test(closing_with_bytes_on_the_way_leaks_nothing),
        cmocka_unit_test(without_a_log_it_only_closes),
        cmocka_unit_test(two_threads_pass_a_whole_run),
    };
    return cmocka_run_group_tests_name("event_relay", tests, NULL, NULL);
}
