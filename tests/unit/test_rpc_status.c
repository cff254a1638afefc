#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "service/rpc/status.h"

static struct sl_arena arena;

static int setup(void **state)
{
    (void)state;
    sl_arena_init(&arena, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sl_arena_done(&arena);
    return 0;
}

static void codes_are_decimal_without_zeros_rs_4_st_3(void **state)
{
    (void)state;
    assert_true(sl_slice_equals(sl_rpc_status_text(SL_OK), "0"));
    assert_true(sl_slice_equals(sl_rpc_status_text(SL_UNAUTHENTICATED), "16"));
    assert_true(sl_slice_equals(sl_rpc_status_text(SL_AGAIN), "2"));
    assert_true(sl_slice_equals(sl_rpc_status_text((enum sl_status)17), "2"));
    assert_int_equal(sl_rpc_status_parse(sl_slice_str("0")), SL_OK);
    assert_int_equal(sl_rpc_status_parse(sl_slice_str("14")), SL_UNAVAILABLE);
    static const char *const bad[] = { "", "17", "-1", "00", "01", "1 ", "x", "999999999999" };
    for (size_t i = 0; i < SL_COUNT(bad); i++) {
        assert_int_equal(sl_rpc_status_parse(sl_slice_str(bad[i])), SL_UNKNOWN);
    }
}

static void encode(const char *text, size_t max_bytes, const char *expected)
{
    struct sl_slice wire;
    assert_int_equal(sl_rpc_message_encode(sl_slice_str(text), max_bytes, &arena, &wire), SL_OK);
    assert_true(sl_slice_equals(wire, expected));
}

static void messages_are_percent_encoded_rs_6(void **state)
{
    (void)state;
    encode("", 100, "");
    encode("plain ~", 100, "plain ~");
    encode("100%\n", 100, "100%25%0A");
    encode("\xC3\xA4\x7F", 100, "%C3%A4%7F");
    encode("a\xFF", 100, "a%EF%BF%BD");
    encode(" two  words ", 100, "%20two  words%20"); /* outer blanks are not legal in HTTP/2 */
    encode("  ", 100, "%20%20");
    encode(" ", 100, "%20");
}

static void messages_are_cut_between_characters_rs_9(void **state)
{
    (void)state;
    encode("abcdef", 3, "abc");
    encode("ab\xC3\xA4", 7, "ab");
    encode("ab\xC3\xA4", 8, "ab%C3%A4");
    encode("\xE2\x82\xAC", 8, "");
    encode("%%%", 7, "%25%25");
    encode("abc", 0, "");
    encode("ab  cd", 4, "ab");
    encode(" a", 3, "");
    encode("   a", 3, "");
}

static void decode(const char *wire, const char *expected)
{
    struct sl_slice text;
    assert_int_equal(sl_rpc_message_decode(sl_slice_str(wire), &arena, &text), SL_OK);
    assert_string_equal((const char *)text.data, expected);
    assert_int_equal(text.size, strlen(expected));
}

static void bad_escapes_stay_as_they_are_rs_6(void **state)
{
    (void)state;
    decode("", "");
    decode("100%25%0A", "100%\n");
    decode("%c3%A4", "\xC3\xA4");
    decode("%", "%");
    decode("%4", "%4");
    decode("%zz%41", "%zzA");
    decode("%%41", "%A");
    struct sl_slice text;
    assert_int_equal(sl_rpc_message_decode(sl_slice_of("%41", 2), &arena, &text), SL_OK);
    assert_string_equal((const char *)text.data, "%4"); /* what lies behind is not looked at */
    decode("%FF", "\xEF\xBF\xBD");
    decode("%00", "\xEF\xBF\xBD");
}

static void every_message_comes_back(void **state)
{
    (void)state;
    char text[] = { 'x', 0, 'y', '\0' };
    for (int byte = 1; byte < 128; byte++) {
        text[1] = (char)byte;
        struct sl_slice wire;
        struct sl_slice back;
        assert_int_equal(sl_rpc_message_encode(sl_slice_str(text), 100, &arena, &wire), SL_OK);
        assert_int_equal(sl_rpc_message_decode(wire, &arena, &back), SL_OK);
        assert_string_equal((const char *)back.data, text);
    }
}

static void details_come_back_rs_5_st_6(void **state)
{
    (void)state;
    const struct sl_metadatum info[] = {
        { sl_slice_str("run_started"), sl_slice_str("false") },
        { sl_slice_str("last_sequence"), sl_slice_str("17") },
    };
    const struct sl_call_status status = {
        .code = SL_UNAVAILABLE,
        .message = "draining",
        .reason = "DRAINING",
        .info = info,
        .n_info = 2,
        .retry_delay_ms = 1500,
    };
    struct sl_slice bytes;
    assert_int_equal(sl_rpc_details_encode(&status, &arena, &bytes), SL_OK);
    struct sl_rpc_details details;
    assert_int_equal(sl_rpc_details_decode(bytes, &arena, &details), SL_OK);
    assert_int_equal(details.code, SL_UNAVAILABLE);
    assert_true(sl_slice_equals(details.message, "draining"));
    assert_true(sl_slice_equals(details.reason, "DRAINING"));
    assert_true(sl_slice_equals(details.domain, "sluice.v1"));
    assert_int_equal(details.n_info, 2);
    assert_true(sl_slice_equals(details.info[1].key, "last_sequence"));
    assert_true(sl_slice_equals(details.info[1].value, "17"));
    assert_true(details.has_retry);
    assert_int_equal(details.retry_delay_ms, 1500);
    for (size_t size = 1; size < bytes.size; size++) {
        const enum sl_status cut =
            sl_rpc_details_decode(sl_slice_of(bytes.data, size), &arena, &details);
        assert_true(cut == SL_OK || cut == SL_INTERNAL);
    }
}

static void details_have_the_bytes_that_others_write(void **state)
{
    (void)state;
    static const char expected[] =
        "\x08\x08\x12\x01m\x1A\x36\x0A\x28type.googleapis.com/google.rpc.ErrorInfo"
        "\x12\x0A\x0A\x01R\x12\x01"
        "D\x1A\x02\x0A\0";
    const struct sl_metadatum info[] = { { { 0 }, { 0 } } };
    const struct sl_call_status status = {
        .code = SL_RESOURCE_EXHAUSTED,
        .message = "m",
        .reason = "R",
        .domain = "D",
        .info = info,
        .n_info = 1,
    };
    struct sl_slice bytes;
    assert_int_equal(sl_rpc_details_encode(&status, &arena, &bytes), SL_OK);
    /* The empty value is written, too: 1A 04 0A 00 12 00. */
    assert_int_equal(bytes.size, sizeof(expected) - 1 + 2);
    assert_memory_equal(bytes.data, "\x08\x08\x12\x01m\x1A\x38\x0A\x28", 9);
    assert_memory_equal(bytes.data + 9, expected + 9, 40);
}

static void nothing_to_say_is_empty(void **state)
{
    (void)state;
    const struct sl_call_status status = { .code = SL_INTERNAL, .message = "m" };
    struct sl_slice bytes;
    assert_int_equal(sl_rpc_details_encode(&status, &arena, &bytes), SL_OK);
    assert_int_equal(bytes.size, 0);
}

static void details_of_the_handler_keep_all_but_code_and_message_rs_5(void **state)
{
    (void)state;
    const struct sl_call_status status = {
        .code = SL_ABORTED,
        .message = "bad \xFF",
        .details = sl_slice_str("\x08\x03\x12\x03old\x1A\x05\x12\x03xyz\x20\x07"),
    };
    struct sl_slice bytes;
    assert_int_equal(sl_rpc_details_encode(&status, &arena, &bytes), SL_OK);
    assert_true(sl_slice_equals(
        bytes, "\x08\x0A\x12\x07"
               "bad \xEF\xBF\xBD\x1A\x05\x12\x03xyz\x20\x07"));
    const struct sl_call_status broken = { .details = sl_slice_str("\x1A\x05x") };
    assert_int_equal(sl_rpc_details_encode(&broken, &arena, &bytes), SL_INVALID_ARGUMENT);
}

static void foreign_details_are_read_with_care(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        enum sl_status status;
    } cases[] = {
        { "", SL_OK },
        { "\x1A\x02\x0A\x05", SL_INTERNAL },
        { "\x1A\x03\x0A\x01x", SL_OK }, /* another type */
        { "\x0B\x0C", SL_INTERNAL },    /* a group */
        { "\x25\x01\x01\x01\x01\x31\x01\x01\x01\x01\x01\x01\x01\x01", SL_OK },
        { "\x08\x80", SL_INTERNAL },
    };
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        struct sl_rpc_details details;
        assert_int_equal(
            sl_rpc_details_decode(sl_slice_str(cases[i].bytes), &arena, &details), cases[i].status);
    }
}

static void resets_have_a_status_st_4(void **state)
{
    (void)state;
    assert_int_equal(sl_rpc_status_of_reset(7), SL_UNAVAILABLE);
    assert_int_equal(sl_rpc_status_of_reset(8), SL_CANCELLED);
    assert_int_equal(sl_rpc_status_of_reset(11), SL_RESOURCE_EXHAUSTED);
    assert_int_equal(sl_rpc_status_of_reset(12), SL_PERMISSION_DENIED);
    assert_int_equal(sl_rpc_status_of_reset(0), SL_INTERNAL);
    assert_int_equal(sl_rpc_status_of_reset(2), SL_INTERNAL);
    assert_int_equal(sl_rpc_status_of_reset(12345), SL_INTERNAL);
}

static void http_has_a_status_st_5(void **state)
{
    (void)state;
    static const struct {
        unsigned http;
        enum sl_status status;
    } cases[] = {
        { 400, SL_INTERNAL },          { 431, SL_UNKNOWN },       { 401, SL_UNAUTHENTICATED },
        { 403, SL_PERMISSION_DENIED }, { 404, SL_UNIMPLEMENTED }, { 429, SL_UNAVAILABLE },
        { 502, SL_UNAVAILABLE },       { 503, SL_UNAVAILABLE },   { 504, SL_UNAVAILABLE },
        { 200, SL_UNKNOWN },           { 500, SL_UNKNOWN },       { 0, SL_UNKNOWN },
    };
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        assert_int_equal(sl_rpc_status_of_http(cases[i].http), cases[i].status);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(codes_are_decimal_without_zeros_rs_4_st_3, setup, teardown),
        cmocka_unit_test_setup_teardown(messages_are_percent_encoded_rs_6, setup, teardown),
        cmocka_unit_test_setup_teardown(messages_are_cut_between_characters_rs_9, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_escapes_stay_as_they_are_rs_6, setup, teardown),
        cmocka_unit_test_setup_teardown(every_message_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(details_come_back_rs_5_st_6, setup, teardown),
        cmocka_unit_test_setup_teardown(details_have_the_bytes_that_others_write, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_to_say_is_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(
            details_of_the_handler_keep_all_but_code_and_message_rs_5, setup, teardown),
        cmocka_unit_test_setup_teardown(foreign_details_are_read_with_care, setup, teardown),
        cmocka_unit_test_setup_teardown(resets_have_a_status_st_4, setup, teardown),
        cmocka_unit_test_setup_teardown(http_has_a_status_st_5, setup, teardown),
    };
    return cmocka_run_group_tests_name("rpc_status", tests, NULL, NULL);
}
