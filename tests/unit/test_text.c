/* Text from outside cannot move the cursor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "service/cli/text.h"

static FILE *out;
static char *seen;
static size_t n_seen;

static int set_up(void **state)
{
    (void)state;
    out = open_memstream(&seen, &n_seen);
    return out == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)fclose(out);
    free(seen);
    return 0;
}

static void assert_seen(const char *expected)
{
    (void)fflush(out);
    assert_string_equal(seen, expected);
}

static void every_control_character_is_a_dot(void **state)
{
    (void)state;
    for (int c = 1; c < 0x20; c++) {
        const char text[] = { (char)c, '\0' };
        sl_text_put(out, c == '\n' || c == '\t' ? "." : text);
    }
    sl_text_put(out, "\x7f");
    assert_seen("................................");
    for (int c = 0x80; c < 0xA0; c++) {
        const char text[] = { (char)0xC2, (char)c, '\0' };
        sl_text_put(out, text);
    }
    assert_seen("................................................................");
}

static void lines_tabs_and_languages_stay(void **state)
{
    (void)state;
    sl_text_put(out, "a\tb\r\nc ä€漢🙂\xC2\xA0.");
    assert_seen("a\tb\nc ä€漢🙂\xC2\xA0.");
}

static void a_line_is_one_line(void **state)
{
    (void)state;
    sl_text_put_line(out, "a\nb\tc\r\nd", 100);
    assert_seen("a b c d");
}

static void a_line_is_cut_between_characters(void **state)
{
    (void)state;
    sl_text_put_line(out, "€€€", 8);
    sl_text_put_line(out, "abc", 3);
    sl_text_put_line(out, "abcd", 3);
    sl_text_put_line(out, "\xC2\x9B", 1);
    assert_seen("€€…abcabc……");
}

static void text_that_is_no_utf8_stays_inside_its_end(void **state)
{
    (void)state;
    sl_text_put_line(out, "\xF0\x9F", 100);
    sl_text_put_line(out, "\xE2", 100);
    sl_text_put(out, "\xC2");
    assert_seen("\xF0\x9F\xE2\xC2");
}

static void columns_count_what_is_wide_twice(void **state)
{
    (void)state;
    assert_int_equal(sl_text_put_columns(out, "ab漢字", 5), 4);
    assert_int_equal(sl_text_put_columns(out, "abc", 2), 2);
    assert_int_equal(sl_text_put_columns(out, "abc", 0), 0);
    assert_seen("ab漢ab");
}

static void json_escapes_what_a_terminal_obeys(void **state)
{
    (void)state;
    json_t *json = json_pack("[s]", "\x1b[2J\x7f\xC2\x9B ä");
    sl_text_put_json(out, json);
    json_decref(json);
    assert_seen("[\"\\u001B[2J\\u007F\\u009B ä\"]\n");
    json = json_loads("\"\\u009b\"", JSON_DECODE_ANY, NULL);
    assert_string_equal(json_string_value(json), "\xC2\x9B");
    json_decref(json);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(every_control_character_is_a_dot),
        CASE(lines_tabs_and_languages_stay),
        CASE(a_line_is_one_line),
        CASE(a_line_is_cut_between_characters),
        CASE(text_that_is_no_utf8_stays_inside_its_end),
        CASE(columns_count_what_is_wide_twice),
        CASE(json_escapes_what_a_terminal_obeys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
