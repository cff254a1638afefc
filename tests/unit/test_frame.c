#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "service/rpc/frame.h"

enum { LIMIT = 1000 };

/* A stream of three messages: "abc", empty, and one of LIMIT bytes. */
struct wire {
    uint8_t bytes[5 + 3 + 5 + 5 + LIMIT];
};

static void make_wire(struct wire *wire)
{
    uint8_t *at = wire->bytes;
    sl_frame_write_prefix(at, false, 3);
    at[5] = 'a';
    at[6] = 'b';
    at[7] = 'c';
    sl_frame_write_prefix(at + 8, false, 0);
    sl_frame_write_prefix(at + 13, false, LIMIT);
    memset(at + 18, 'x', LIMIT);
}

static void check_third(struct sl_slice message)
{
    assert_int_equal(message.size, LIMIT);
    for (size_t i = 0; i < message.size; i++) {
        assert_int_equal(message.data[i], 'x');
    }
}

/* Feeds in pieces of `step` bytes, taking messages as they come. */
static void read_in_steps(const struct wire *wire, size_t step)
{
    struct sl_frame_reader reader;
    sl_frame_reader_init(&reader, LIMIT);
    size_t n_messages = 0;
    size_t credit = 0;
    for (size_t at = 0; at < sizeof(wire->bytes); at += step) {
        const size_t left = sizeof(wire->bytes) - at;
        sl_frame_reader_feed(&reader, sl_slice_of(wire->bytes + at, left < step ? left : step));
        struct sl_slice message;
        while (sl_frame_reader_status(&reader) == SL_OK) {
            assert_int_equal(sl_frame_reader_next(&reader, &message, NULL), SL_OK);
            n_messages++;
            if (n_messages == 1) {
                assert_true(sl_slice_equals(message, "abc"));
            } else if (n_messages == 2) {
                assert_int_equal(message.size, 0);
            } else {
                check_third(message);
            }
        }
        assert_int_equal(sl_frame_reader_next(&reader, &message, NULL), SL_AGAIN);
        credit += sl_frame_reader_take_credit(&reader);
    }
    assert_int_equal(n_messages, 3);
    assert_int_equal(credit, sizeof(wire->bytes));
    sl_frame_reader_end(&reader);
    assert_int_equal(sl_frame_reader_status(&reader), SL_END);
    struct sl_slice message;
    assert_int_equal(sl_frame_reader_next(&reader, &message, NULL), SL_END);
    sl_frame_reader_done(&reader);
}

static void frame_borders_mean_nothing_fr_1_fr_5(void **state)
{
    (void)state;
    struct wire wire;
    make_wire(&wire);
    for (size_t step = 1; step <= sizeof(wire.bytes); step += step < 30 ? 1 : 97) {
        read_in_steps(&wire, step);
    }
    read_in_steps(&wire, sizeof(wire.bytes));
}

static void an_end_inside_a_message_is_internal_fr_6(void **state)
{
    (void)state;
    struct wire wire;
    make_wire(&wire);
    for (size_t size = 0; size < 60; size++) {
        struct sl_frame_reader reader;
        sl_frame_reader_init(&reader, LIMIT);
        sl_frame_reader_feed(&reader, sl_slice_of(wire.bytes, size));
        sl_frame_reader_end(&reader);
        struct sl_slice message;
        enum sl_status status;
        while ((status = sl_frame_reader_next(&reader, &message, NULL)) == SL_OK) {
        }
        const bool is_border = size == 0 || size == 8 || size == 13;
        assert_int_equal(status, is_border ? SL_END : SL_INTERNAL);
        assert_int_equal(sl_frame_reader_status(&reader), status);
        assert_int_equal(sl_frame_reader_next(&reader, &message, NULL), status);
        sl_frame_reader_done(&reader);
    }
}

static enum sl_status judge_prefix(const uint8_t prefix[5], const char *encoding)
{
    struct sl_frame_reader reader;
    sl_frame_reader_init(&reader, LIMIT);
    sl_frame_reader_set_encoding(&reader, sl_slice_str(encoding));
    sl_frame_reader_feed(&reader, sl_slice_of(prefix, 5));
    const enum sl_status status = sl_frame_reader_status(&reader);
    assert_int_equal(sl_frame_reader_take_credit(&reader), 5);
    assert_null(reader.message.data);
    sl_frame_reader_done(&reader);
    return status;
}

static void the_prefix_alone_is_judged_fr_2_fr_3(void **state)
{
    (void)state;
    assert_int_equal(judge_prefix((const uint8_t[5]){ 2, 0, 0, 0, 1 }, ""), SL_INTERNAL);
    assert_int_equal(judge_prefix((const uint8_t[5]){ 0xFF, 0, 0, 0, 1 }, "gzip"), SL_INTERNAL);
    assert_int_equal(judge_prefix((const uint8_t[5]){ 1, 0, 0, 0, 1 }, ""), SL_INTERNAL);
    assert_int_equal(judge_prefix((const uint8_t[5]){ 1, 0, 0, 0, 1 }, "identity"), SL_INTERNAL);
    assert_int_equal(judge_prefix((const uint8_t[5]){ 1, 0, 0, 0, 1 }, "gzip"), SL_AGAIN);
    assert_int_equal(judge_prefix((const uint8_t[5]){ 1, 0, 0, 0, 1 }, "br"), SL_UNIMPLEMENTED);
    assert_int_equal(
        judge_prefix((const uint8_t[5]){ 0, 0xFF, 0xFF, 0xFF, 0xFF }, ""), SL_RESOURCE_EXHAUSTED);
    assert_int_equal(
        judge_prefix((const uint8_t[5]){ 0, 0, 0, 3, 0xE9 }, ""), SL_RESOURCE_EXHAUSTED);
    assert_int_equal(judge_prefix((const uint8_t[5]){ 0, 0, 0, 3, 0xE8 }, ""), SL_AGAIN);
}

static void a_declared_length_is_not_allocated_before_it_comes(void **state)
{
    (void)state;
    struct sl_frame_reader reader;
    sl_frame_reader_init(&reader, (size_t)1 << 30);
    sl_frame_reader_feed(
        &reader, sl_slice_of(
                     "\0\x3F\xFF\xFF\xFF"
                     "abc",
                     8));
    assert_int_equal(sl_frame_reader_status(&reader), SL_AGAIN);
    assert_true(reader.message.capacity < 4096);
    assert_true(sl_frame_reader_is_inside(&reader));
    sl_frame_reader_done(&reader);
}

static void the_unknown_encoding_is_named(void **state)
{
    (void)state;
    struct sl_frame_reader reader;
    sl_frame_reader_init(&reader, LIMIT);
    sl_frame_reader_set_encoding(&reader, sl_slice_str("snappy\x01"));
    sl_frame_reader_feed(&reader, sl_slice_of("\1\0\0\0\0", 5));
    struct sl_slice message;
    struct sl_error err;
    assert_int_equal(sl_frame_reader_next(&reader, &message, &err), SL_UNIMPLEMENTED);
    assert_non_null(strstr(err.text, "\"snappy?\""));
    sl_frame_reader_done(&reader);
}

static void bytes_behind_a_held_message_are_not_credited_fc_1(void **state)
{
    (void)state;
    struct wire wire;
    make_wire(&wire);
    struct sl_frame_reader reader;
    sl_frame_reader_init(&reader, LIMIT);
    sl_frame_reader_feed(&reader, sl_slice_of(wire.bytes, sizeof(wire.bytes)));
    assert_int_equal(sl_frame_reader_take_credit(&reader), 8);
    assert_int_equal(sl_frame_reader_n_unread(&reader), sizeof(wire.bytes) - 8);
    struct sl_slice message;
    assert_int_equal(sl_frame_reader_next(&reader, &message, NULL), SL_OK);
    assert_int_equal(sl_frame_reader_take_credit(&reader), 0);
    sl_frame_reader_feed(&reader, sl_slice_str("more")); /* the held message must not move */
    assert_true(sl_slice_equals(message, "abc"));
    assert_int_equal(sl_frame_reader_next(&reader, &message, NULL), SL_OK);
    assert_int_equal(message.size, 0);
    assert_int_equal(sl_frame_reader_take_credit(&reader), 5);
    assert_int_equal(sl_frame_reader_next(&reader, &message, NULL), SL_OK);
    check_third(message);
    assert_int_equal(sl_frame_reader_take_credit(&reader), 5 + LIMIT);
    assert_int_equal(sl_frame_reader_next(&reader, &message, NULL), SL_AGAIN);
    assert_int_equal(sl_frame_reader_take_credit(&reader), 4);
    sl_frame_reader_done(&reader);
    assert_int_equal(sl_frame_reader_take_credit(&reader), 0);
}

static void what_was_never_read_is_credited_at_the_end(void **state)
{
    (void)state;
    struct wire wire;
    make_wire(&wire);
    struct sl_frame_reader reader;
    sl_frame_reader_init(&reader, LIMIT);
    sl_frame_reader_feed(&reader, sl_slice_of(wire.bytes, 100));
    assert_int_equal(sl_frame_reader_take_credit(&reader), 8);
    sl_frame_reader_done(&reader);
    assert_int_equal(sl_frame_reader_take_credit(&reader), 92);
    sl_frame_reader_feed(&reader, sl_slice_of(wire.bytes, 7));
    assert_int_equal(sl_frame_reader_take_credit(&reader), 7);
    sl_frame_reader_done(&reader);
}

static void a_fault_behind_a_held_message_shows_and_leaves_the_message(void **state)
{
    (void)state;
    struct sl_frame_reader reader;
    sl_frame_reader_init(&reader, LIMIT);
    sl_frame_reader_feed(&reader, sl_slice_of("\0\0\0\0\1a", 6));
    struct sl_slice message;
    assert_int_equal(sl_frame_reader_next(&reader, &message, NULL), SL_OK);
    sl_frame_reader_feed(&reader, sl_slice_of("\0\xFF\0\0", 4));
    assert_int_equal(sl_frame_reader_status(&reader), SL_AGAIN);
    assert_true(sl_frame_reader_is_inside(&reader));
    sl_frame_reader_feed(&reader, sl_slice_of("\0zz", 3));
    assert_int_equal(sl_frame_reader_status(&reader), SL_RESOURCE_EXHAUSTED);
    assert_true(sl_slice_equals(message, "a"));
    assert_int_equal(sl_frame_reader_take_credit(&reader), 6);
    struct sl_error err;
    assert_int_equal(sl_frame_reader_next(&reader, &message, &err), SL_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(err.text, "limit of 1000 bytes"));
    assert_int_equal(sl_frame_reader_take_credit(&reader), 7);
    sl_frame_reader_feed(&reader, sl_slice_str("thrown away"));
    assert_int_equal(sl_frame_reader_take_credit(&reader), 11);
    sl_frame_reader_done(&reader);
}

static void feed_compressed(struct sl_frame_reader *reader, struct sl_slice plain)
{
    struct sl_buf packed;
    sl_buf_init(&packed, 100000);
    assert_int_equal(sl_compress(SL_ENCODING_GZIP, plain, &packed), SL_OK);
    uint8_t prefix[5];
    sl_frame_write_prefix(prefix, true, (uint32_t)packed.size);
    sl_frame_reader_feed(reader, sl_slice_of(prefix, 5));
    sl_frame_reader_feed(reader, sl_buf_slice(&packed));
    sl_buf_done(&packed);
}

static void compressed_and_plain_messages_may_mix(void **state)
{
    (void)state;
    struct sl_frame_reader reader;
    sl_frame_reader_init(&reader, LIMIT);
    sl_frame_reader_set_encoding(&reader, sl_slice_str("gzip"));
    feed_compressed(&reader, sl_slice_str("hello hello hello"));
    sl_frame_reader_feed(&reader, sl_slice_of("\0\0\0\0\1a", 6));
    feed_compressed(&reader, sl_slice_str(""));
    struct sl_slice message;
    assert_int_equal(sl_frame_reader_next(&reader, &message, NULL), SL_OK);
    assert_true(sl_slice_equals(message, "hello hello hello"));
    assert_int_equal(sl_frame_reader_next(&reader, &message, NULL), SL_OK);
    assert_true(sl_slice_equals(message, "a"));
    assert_int_equal(sl_frame_reader_next(&reader, &message, NULL), SL_OK);
    assert_int_equal(message.size, 0);
    sl_frame_reader_done(&reader);
}

static void a_bomb_is_stopped_at_the_limit_fr_4(void **state)
{
    (void)state;
    static uint8_t zeros[LIMIT + 1];
    struct sl_frame_reader reader;
    sl_frame_reader_init(&reader, LIMIT);
    sl_frame_reader_set_encoding(&reader, sl_slice_str("gzip"));
    feed_compressed(&reader, sl_slice_of(zeros, LIMIT));
    feed_compressed(&reader, sl_slice_of(zeros, LIMIT + 1));
    struct sl_slice message;
    assert_int_equal(sl_frame_reader_next(&reader, &message, NULL), SL_OK);
    assert_int_equal(message.size, LIMIT);
    assert_int_equal(sl_frame_reader_next(&reader, &message, NULL), SL_RESOURCE_EXHAUSTED);
    assert_int_equal(sl_frame_reader_status(&reader), SL_RESOURCE_EXHAUSTED);
    sl_frame_reader_done(&reader);
}

static void a_taken_message_outlives_the_reader(void **state)
{
    (void)state;
    struct sl_frame_reader reader;
    sl_frame_reader_init(&reader, LIMIT);
    sl_frame_reader_feed(&reader, sl_slice_of("\0\0\0\0\3abc\0\0\0\0\1d", 14));
    struct sl_slice first;
    struct sl_slice second;
    assert_int_equal(sl_frame_reader_next(&reader, &first, NULL), SL_OK);
    struct sl_buf taken = sl_frame_reader_take(&reader);
    assert_int_equal(sl_frame_reader_next(&reader, &second, NULL), SL_OK);
    assert_true(sl_slice_equals(second, "d"));
    sl_frame_reader_done(&reader);
    assert_true(sl_slice_equals(first, "abc"));
    sl_buf_done(&taken);
}

static bool refuse_all(size_t size)
{
    (void)size;
    return false;
}

static void no_memory_is_a_fault_and_everything_is_credited(void **state)
{
    (void)state;
    struct sl_frame_reader reader;
    sl_frame_reader_init(&reader, LIMIT);
    sl_mem_set_gate(refuse_all);
    sl_frame_reader_feed(&reader, sl_slice_of("\0\0\0\0\3abc", 8));
    sl_mem_set_gate(NULL);
    assert_int_equal(sl_frame_reader_status(&reader), SL_RESOURCE_EXHAUSTED);
    assert_int_equal(sl_frame_reader_take_credit(&reader), 8);
    sl_frame_reader_done(&reader);

    sl_frame_reader_init(&reader, LIMIT);
    sl_frame_reader_feed(&reader, sl_slice_of("\0\0\0\0\3abc", 8));
    struct sl_slice message;
    assert_int_equal(sl_frame_reader_next(&reader, &message, NULL), SL_OK);
    sl_mem_set_gate(refuse_all);
    sl_frame_reader_feed(&reader, sl_slice_str("behind"));
    sl_mem_set_gate(NULL);
    assert_true(sl_slice_equals(message, "abc"));
    assert_int_equal(sl_frame_reader_next(&reader, &message, NULL), SL_RESOURCE_EXHAUSTED);
    assert_int_equal(sl_frame_reader_take_credit(&reader), 14);
    sl_frame_reader_done(&reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frame_borders_mean_nothing_fr_1_fr_5),
        cmocka_unit_test(an_end_inside_a_message_is_internal_fr_6),
        cmocka_unit_test(the_prefix_alone_is_judged_fr_2_fr_3),
        cmocka_unit_test(a_declared_length_is_not_allocated_before_it_comes),
        cmocka_unit_test(the_unknown_encoding_is_named),
        cmocka_unit_test(bytes_behind_a_held_message_are_not_credited_fc_1),
        cmocka_unit_test(what_was_never_read_is_credited_at_the_end),
        cmocka_unit_test(a_fault_behind_a_held_message_shows_and_leaves_the_message),
        cmocka_unit_test(compressed_and_plain_messages_may_mix),
        cmocka_unit_test(a_bomb_is_stopped_at_the_limit_fr_4),
        cmocka_unit_test(a_taken_message_outlives_the_reader),
        cmocka_unit_test(no_memory_is_a_fault_and_everything_is_credited),
    };
    return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
