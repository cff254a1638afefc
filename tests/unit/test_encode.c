/* The hand packer gives the bytes of protobuf-c, and is read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/exec/encode.h"
#include "tests/fake/fake_loop.h"

static struct sl_fake_loop loop;
static struct sl_event_channel *by_hand, *by_library;

static int open_channels(void **state)
{
    (void)state;
    const struct sl_event_channel_options options = { .mark_bytes = 65536,
                                                      .mark_events = 100,
                                                      .window_bytes = 1 << 24 };
    sl_fake_loop_init(&loop);
    return sl_event_channel_new(&loop.base, &options, &by_hand) == SL_OK &&
                   sl_event_channel_new(&loop.base, &options, &by_library) == SL_OK
               ? 0
               : -1;
}

static int close_channels(void **state)
{
    (void)state;
    by_hand = sl_event_channel_unref(by_hand);
    by_library = sl_event_channel_unref(by_library);
    sl_fake_loop_done(&loop);
    return 0;
}

static bool keep_last(void *user_data, uint64_t sequence, struct sl_slice event)
{
    struct sl_slice *last = user_data;
    (void)sequence;
    *last = event;
    return true;
}

static struct sl_slice last_of(struct sl_event_channel *channel)
{
    struct sl_slice last = sl_slice_of(NULL, 0);
    const uint64_t sequence = sl_event_channel_last_sequence(channel);
    sl_event_channel_visit(channel, sequence, sequence, keep_last, &last);
    return last;
}

/* Appends the same text to both. */
static void append(enum sl_encode_text kind, uint64_t wall_ms, char *text)
{
    struct sl_encoded hand, library;
    Sluice__V1__TextDelta delta;
    sluice__v1__text_delta__init(&delta);
    Sluice__V1__Thinking thinking;
    sluice__v1__thinking__init(&thinking);
    Sluice__V1__StreamEvent event;
    sluice__v1__stream_event__init(&event);
    delta.delta = text;
    thinking.content = text;
    if (kind == SL_ENCODE_TEXT_DELTA) {
        event.event_case = SL_EVENT(TEXT_DELTA);
        event.text_delta = &delta;
    } else {
        event.event_case = SL_EVENT(THINKING);
        event.thinking = &thinking;
    }
    assert_int_equal(sl_encode_text(by_hand, kind, wall_ms, sl_slice_str(text), &hand), SL_OK);
    assert_int_equal(sl_encode_event(by_library, wall_ms, &event, &library), SL_OK);
    const struct sl_slice a = last_of(by_hand);
    const struct sl_slice b = last_of(by_library);
    assert_int_equal(a.size, b.size);
    assert_memory_equal(a.data, b.data, a.size);
    assert_int_equal(hand.size_bytes, a.size);
    assert_int_equal(library.size_bytes, b.size);
    assert_int_equal(hand.is_full, library.is_full);

    enum sl_encode_text read_kind = SL_ENCODE_TEXT_DELTA;
    struct sl_slice read_text;
    assert_true(sl_encode_text_of(a, &read_kind, &read_text));
    assert_int_equal(read_kind, kind);
    assert_true(sl_slice_equals(read_text, text));
    const struct sl_slice bare =
        sl_slice_of(a.data + SL_EVENT_PREFIX_BYTES, a.size - SL_EVENT_PREFIX_BYTES);
    assert_true(sl_encode_text_of(bare, &read_kind, &read_text));
    assert_true(sl_slice_equals(read_text, text));
}

static void both_packers_give_the_same_bytes(void **state)
{
    (void)state;
    static const size_t sizes[] = { 1, 2, 120, 125, 126, 127, 128, 129, 16380, 16384, 65536 };
    static const uint64_t times[] = { 0, 1, 127, 128, UINT64_C(1700000000000), UINT64_MAX };
    char *text = sl_alloc(65537);
    assert_non_null(text);
    for (size_t i = 0; i < SL_COUNT(sizes); i++) {
        for (size_t k = 0; k < SL_COUNT(times); k++) {
            memset(text, 'a' + (int)i, sizes[i]);
            text[sizes[i]] = '\0';
            append(SL_ENCODE_TEXT_DELTA, times[k], text);
            append(SL_ENCODE_THINKING, times[k], text);
        }
    }
    (void)sl_free(text);
}

static void sequences_grow_over_every_width(void **state)
{
    (void)state;
    char text[] = "x";
    for (int i = 0; i < 20000; i++) {
        append(SL_ENCODE_TEXT_DELTA, 1, text);
    }
    assert_int_equal(sl_event_channel_last_sequence(by_hand), 20000);
}

static void other_events_are_no_text(void **state)
{
    (void)state;
    struct sl_encoded encoded;
    Sluice__V1__IterationStart start;
    sluice__v1__iteration_start__init(&start);
    Sluice__V1__StreamEvent event;
    sluice__v1__stream_event__init(&event);
    event.event_case = SL_EVENT(ITERATION_START);
    event.iteration_start = &start;
    start.iteration = 1;
    assert_int_equal(sl_encode_event(by_library, 5, &event, &encoded), SL_OK);
    enum sl_encode_text kind = SL_ENCODE_TEXT_DELTA;
    struct sl_slice text;
    assert_false(sl_encode_text_of(last_of(by_library), &kind, &text));
    assert_false(sl_encode_text_of(sl_slice_of(NULL, 0), &kind, &text));
}

static void a_truncated_event_is_no_text(void **state)
{
    (void)state;
    struct sl_encoded encoded;
    assert_int_equal(
        sl_encode_text(by_hand, SL_ENCODE_TEXT_DELTA, 77, sl_slice_str("hello"), &encoded), SL_OK);
    const struct sl_slice whole = last_of(by_hand);
    for (size_t size = 0; size < whole.size; size++) {
        uint8_t *copy = sl_alloc(size);
        enum sl_encode_text kind = SL_ENCODE_TEXT_DELTA;
        struct sl_slice text;
        assert_non_null(copy);
        memcpy(copy, whole.data, size);
        assert_false(sl_encode_text_of(sl_slice_of(copy, size), &kind, &text));
        (void)sl_free(copy);
    }
}

static void nothing_is_appended_after_the_end(void **state)
{
    (void)state;
    struct sl_encoded encoded;
    sl_event_channel_end(by_hand);
    assert_int_equal(
        sl_encode_text(by_hand, SL_ENCODE_TEXT_DELTA, 1, sl_slice_str("x"), &encoded),
        SL_CANCELLED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            both_packers_give_the_same_bytes, open_channels, close_channels),
        cmocka_unit_test_setup_teardown(
            sequences_grow_over_every_width, open_channels, close_channels),
        cmocka_unit_test_setup_teardown(other_events_are_no_text, open_channels, close_channels),
        cmocka_unit_test_setup_teardown(
            a_truncated_event_is_no_text, open_channels, close_channels),
        cmocka_unit_test_setup_teardown(
            nothing_is_appended_after_the_end, open_channels, close_channels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
