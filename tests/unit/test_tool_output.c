#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/utf8.h"
#include "runtime/tool/output.h"

static char text[1U << 16U];

/* What is kept of `bytes`, given in pieces of `step`. */
static bool keep(struct sl_slice bytes, size_t edge, size_t step, size_t max_bytes)
{
    struct sl_output output;
    struct sl_buf buf;
    bool is_cut = false;
    sl_output_init(&output, edge);
    sl_buf_init(&buf, sizeof text);
    for (size_t at = 0; at < bytes.size; at += step) {
        const size_t left = bytes.size - at;
        assert_int_equal(
            sl_output_add(&output, sl_slice_of(bytes.data + at, left < step ? left : step)), SL_OK);
    }
    assert_int_equal(output.total_bytes, bytes.size);
    assert_int_equal(sl_output_text(&output, max_bytes, &buf, &is_cut), SL_OK);
    assert_true(sl_utf8_is_clean(sl_buf_slice(&buf)));
    (void)snprintf(text, sizeof text, "%.*s", SL_SLICE_FMT(sl_buf_slice(&buf)));
    sl_buf_done(&buf);
    sl_output_done(&output);
    return is_cut;
}

static void short_output_is_kept_whole(void **state)
{
    (void)state;
    for (size_t step = 1; step < 20; step++) {
        assert_false(keep(sl_slice_str("0123456789abcdef"), 8, step, 100));
        assert_string_equal(text, "0123456789abcdef");
    }
    assert_false(keep(sl_slice_str(""), 8, 1, 100));
    assert_string_equal(text, "");
}

static void output_takes_both_edges_and_not_before_it_needs_them(void **state)
{
    enum { EDGE = 4096 };
    static uint8_t bytes[EDGE];
    struct sl_output output;
    (void)state;
    memset(bytes, 'x', sizeof(bytes));
    sl_output_init(&output, EDGE);
    assert_int_equal(sl_output_memory(&output), 0);
    assert_int_equal(sl_output_add(&output, sl_slice_of(bytes, EDGE)), SL_OK);
    const size_t head = sl_output_memory(&output);
    assert_true(head >= EDGE);
    assert_int_equal(sl_output_add(&output, sl_slice_of(bytes, 1)), SL_OK);
    assert_int_equal(sl_output_memory(&output), head + EDGE);
    sl_output_done(&output);
}

/* AL-6.4 */
static void long_output_keeps_both_ends(void **state)
{
    (void)state;
    for (size_t step = 1; step < 30; step++) {
        assert_true(keep(sl_slice_str("0123456789abcdefghijklmnopqrstuvwxyz"), 8, step, 100));
        assert_string_equal(text, "01234567\n[... 20 bytes omitted ...]\nstuvwxyz");
    }
}

/* AL-6.4 */
static void the_model_s_limit_cuts_further(void **state)
{
    (void)state;
    assert_true(keep(sl_slice_str("0123456789abcdefghijklmnopqrstuvwxyz"), 8, 3, 8));
    assert_string_equal(text, "0123\n[... 28 bytes omitted ...]\nwxyz");
    assert_true(keep(sl_slice_str("0123456789abcdef"), 32, 3, 8));
    assert_string_equal(text, "0123\n[... 8 bytes omitted ...]\ncdef");
}

/* AL-6.4 */
static void no_character_is_cut_in_two(void **state)
{
    (void)state;
    /* 3 bytes each: no edge of 8 falls between two */
    static const char euros[] = "\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC"
                                "\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC\xE2\x82\xAC";
    assert_true(keep(sl_slice_str(euros), 8, 5, 100));
    assert_string_equal(
        text, "\xE2\x82\xAC\xE2\x82\xAC\n[... 18 bytes omitted ...]\n\xE2\x82\xAC\xE2\x82\xAC");
}

/* AL-6.4 */
static void bad_bytes_and_nul_are_replaced(void **state)
{
    (void)state;
    assert_false(keep(
        sl_slice_of(
            "a\0b\xFF\x80"
            "c",
            6),
        8, 1, 100));
    assert_string_equal(
        text, "a\xEF\xBF\xBD"
              "b\xEF\xBF\xBD\xEF\xBF\xBD"
              "c");
}

static void add_live(struct sl_slice piece, void *user_data)
{
    struct sl_buf *buf = user_data;
    assert_true(sl_utf8_is_clean(piece));
    assert_int_equal(sl_buf_add(buf, piece), SL_OK);
}

static void live_output_is_the_same_in_any_pieces(void **state)
{
    (void)state;
    static const char mixed[] = "a\xE2\x82\xAC\xF0\x9F\x98\x80\xC3\xA4"
                                "b\xFF\xE2\x82"
                                "c\xF0\x9F";
    const size_t size = sizeof mixed - 1;
    uint8_t expected[256];
    const size_t expected_size = sl_utf8_repair(sl_slice_of(mixed, size), expected);
    for (size_t step = 1; step <= size; step++) {
        struct sl_output_live live = { 0 };
        struct sl_buf buf;
        sl_buf_init(&buf, 1024);
        for (size_t at = 0; at < size; at += step) {
            const size_t left = size - at;
            sl_output_live_add(
                &live, sl_slice_of(mixed + at, left < step ? left : step), false, add_live, &buf);
        }
        sl_output_live_add(&live, (struct sl_slice){ 0 }, true, add_live, &buf);
        assert_true(sl_slice_equal(sl_buf_slice(&buf), sl_slice_of(expected, expected_size)));
        sl_buf_done(&buf);
    }
}

static bool allow_none(size_t size)
{
    (void)size;
    return false;
}

static void no_memory_is_told_and_counted(void **state)
{
    (void)state;
    struct sl_output output;
    sl_output_init(&output, 8);
    sl_mem_set_gate(allow_none);
    const enum sl_status status = sl_output_add(&output, sl_slice_str("abc"));
    sl_mem_set_gate(NULL);
    assert_int_equal(status, SL_RESOURCE_EXHAUSTED);
    assert_int_equal(output.total_bytes, 3);
    sl_output_done(&output);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_output_is_kept_whole),
        cmocka_unit_test(output_takes_both_edges_and_not_before_it_needs_them),
        cmocka_unit_test(long_output_keeps_both_ends),
        cmocka_unit_test(the_model_s_limit_cuts_further),
        cmocka_unit_test(no_character_is_cut_in_two),
        cmocka_unit_test(bad_bytes_and_nul_are_replaced),
        cmocka_unit_test(live_output_is_the_same_in_any_pieces),
        cmocka_unit_test(no_memory_is_told_and_counted),
    };
    return cmocka_run_group_tests_name("tool_output", tests, NULL, NULL);
}
