#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/random.h"
#include "runtime/store/pairs.h"
#include "runtime/store/rows.h"
#include "tests/fake/store_rig.h"

static uint8_t scratch[SL_STORE_READ_BYTES];

/* Random events in random segments, cut into rows: together they are what was put in, each is whole
 * and within its bound. */
static void rows_are_the_ranges_in_other_pieces(void **state)
{
    (void)state;
    uint64_t seed = 20261128;
    for (int round = 0; round < 300; round++) {
        struct sl_store_range ranges[SL_STORE_RANGES];
        const size_t n_ranges = 1 + sl_random_next(&seed) % SL_STORE_RANGES;
        uint64_t next = 7;
        uint8_t *whole = sl_alloc((size_t)SL_STORE_RANGES * 100000);
        size_t n_whole = 0;
        assert_non_null(whole);
        for (size_t i = 0; i < n_ranges; i++) {
            const size_t size = sl_random_next(&seed) % 10 == 0
                                    ? 70000 + sl_random_next(&seed) % 20000
                                    : sl_random_next(&seed) % 900;
            const size_t n_events = size > 900 ? 1 : sl_random_next(&seed) % 20;
            ranges[i].segment = sl_store_rig_events(next, n_events, size, 0);
            ranges[i].from = 0;
            ranges[i].to = ranges[i].segment->used;
            memcpy(whole + n_whole, ranges[i].segment->bytes, ranges[i].to);
            n_whole += ranges[i].to;
            next += n_events;
        }
        uint64_t n_events = 0;
        size_t n_bytes = 0;
        assert_true(sl_store_count_ranges(ranges, n_ranges, &n_events, &n_bytes));
        assert_int_equal(n_events, next - 7);
        assert_int_equal(n_bytes, n_whole);

        struct sl_store_cutter cutter;
        struct sl_store_row row;
        uint64_t expected = 7;
        size_t n_seen = 0;
        sl_store_cutter_init(&cutter, ranges, n_ranges, 7, scratch);
        while (sl_store_cutter_next(&cutter, &row)) {
            assert_int_equal(row.first_sequence, expected);
            assert_true(
                row.bytes.size <= SL_STORE_READ_BYTES || row.first_sequence == row.last_sequence);
            assert_memory_equal(row.bytes.data, whole + n_seen, row.bytes.size);
            assert_true(sl_store_row_is_sound(3, &row, sl_store_row_crc(3, &row)));
            assert_false(sl_store_row_is_sound(4, &row, sl_store_row_crc(3, &row)));
            n_seen += row.bytes.size;
            expected = row.last_sequence + 1;
        }
        assert_int_equal(n_seen, n_whole);
        assert_int_equal(expected, next);
        for (size_t i = 0; i < n_ranges; i++) {
            (void)sl_segment_unref(ranges[i].segment);
        }
        (void)sl_free(whole);
    }
}

static void each_flipped_bit_of_a_row_shows(void **state)
{
    (void)state;
    struct sl_segment *segment = sl_store_rig_events(5, 3, 10, 0);
    const struct sl_store_row row = { 5, 7, sl_slice_of(segment->bytes, segment->used) };
    const uint32_t crc = sl_store_row_crc(9, &row);
    assert_true(sl_store_row_is_sound(9, &row, crc));
    for (size_t bit = 0; bit < (size_t)segment->used * 8; bit++) {
        segment->bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
        assert_false(sl_store_row_is_sound(9, &row, crc));
        segment->bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    const struct sl_store_row moved = { 6, 8, row.bytes };
    assert_false(sl_store_row_is_sound(9, &moved, crc));
    const struct sl_store_row longer = { 5, 8, row.bytes };
    assert_false(sl_store_row_is_sound(9, &longer, sl_store_row_crc(9, &longer)));
    (void)sl_segment_unref(segment);
}

static void half_an_event_is_none(void **state)
{
    (void)state;
    struct sl_segment *segment = sl_store_rig_events(1, 2, 10, 0);
    uint64_t n_events = 0;
    for (size_t size = 0; size <= segment->used; size++) {
        const bool is_whole = size % 15 == 0;
        n_events = 99;
        assert_int_equal(
            sl_store_count_events(sl_slice_of(segment->bytes, size), &n_events), is_whole);
        assert_int_equal(n_events, is_whole ? size / 15 : 99);
    }
    (void)sl_segment_unref(segment);
}

static void metadata_comes_back(void **state)
{
    (void)state;
    static const struct sl_store_pair pairs[] = { { "a", "" }, { "team", "docs" }, { "x", "y" } };
    struct sl_buf buf;
    struct sl_arena arena = { 0 };
    const struct sl_store_pair *read = NULL;
    size_t n_read = 0;
    sl_buf_init(&buf, 100);
    assert_int_equal(sl_store_pairs_write(&buf, pairs, SL_COUNT(pairs)), SL_OK);
    assert_int_equal(sl_store_pairs_read(sl_buf_slice(&buf), &arena, &read, &n_read), SL_OK);
    assert_int_equal(n_read, SL_COUNT(pairs));
    for (size_t i = 0; i < n_read; i++) {
        assert_string_equal(read[i].key, pairs[i].key);
        assert_string_equal(read[i].value, pairs[i].value);
    }
    for (size_t size = 0; size < buf.size; size++) { /* cut: an error, or fewer of them */
        const enum sl_status status =
            sl_store_pairs_read(sl_slice_of(buf.data, size), &arena, &read, &n_read);
        assert_true(status == SL_DATA_LOSS || (status == SL_OK && n_read < SL_COUNT(pairs)));
    }
    sl_arena_done(&arena);
    sl_buf_done(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_the_ranges_in_other_pieces),
        cmocka_unit_test(each_flipped_bit_of_a_row_shows),
        cmocka_unit_test(half_an_event_is_none),
        cmocka_unit_test(metadata_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
