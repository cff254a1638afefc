#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/parse.h"

static void unsigned_numbers_are_checked_whole(void **state)
{
    (void)state;
    uint64_t value = 5;
    static const char *const bad[] = { "", " 1", "1 ", "+1", "-1", "0x1", "1a", "a", "1.0" };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(
            sl_parse_u64(sl_slice_str(bad[i]), 0, UINT64_MAX, &value), SL_INVALID_ARGUMENT);
    }
    assert_int_equal(
        sl_parse_u64(sl_slice_str("18446744073709551616"), 0, UINT64_MAX, &value), SL_OUT_OF_RANGE);
    assert_int_equal(
        sl_parse_u64(sl_slice_str("99999999999999999999999x"), 0, UINT64_MAX, &value),
        SL_INVALID_ARGUMENT);
    assert_int_equal(sl_parse_u64(sl_slice_str("9"), 10, 20, &value), SL_OUT_OF_RANGE);
    assert_int_equal(sl_parse_u64(sl_slice_str("21"), 10, 20, &value), SL_OUT_OF_RANGE);
    assert_int_equal(value, 5);
    assert_int_equal(
        sl_parse_u64(sl_slice_str("18446744073709551615"), 0, UINT64_MAX, &value), SL_OK);
    assert_true(value == UINT64_MAX);
    assert_int_equal(sl_parse_u64(sl_slice_str("0007"), 0, 10, &value), SL_OK);
    assert_int_equal(value, 7);
}

static void signed_numbers_reach_both_ends(void **state)
{
    (void)state;
    int64_t value = 0;
    assert_int_equal(
        sl_parse_i64(sl_slice_str("-9223372036854775808"), INT64_MIN, INT64_MAX, &value), SL_OK);
    assert_true(value == INT64_MIN);
    assert_int_equal(
        sl_parse_i64(sl_slice_str("9223372036854775807"), INT64_MIN, INT64_MAX, &value), SL_OK);
    assert_true(value == INT64_MAX);
    assert_int_equal(
        sl_parse_i64(sl_slice_str("9223372036854775808"), INT64_MIN, INT64_MAX, &value),
        SL_OUT_OF_RANGE);
    assert_int_equal(
        sl_parse_i64(sl_slice_str("-9223372036854775809"), INT64_MIN, INT64_MAX, &value),
        SL_OUT_OF_RANGE);
    assert_int_equal(
        sl_parse_i64(sl_slice_str("-"), INT64_MIN, INT64_MAX, &value), SL_INVALID_ARGUMENT);
    assert_int_equal(
        sl_parse_i64(sl_slice_str("--1"), INT64_MIN, INT64_MAX, &value), SL_INVALID_ARGUMENT);
    assert_int_equal(sl_parse_i64(sl_slice_str("-5"), -4, 4, &value), SL_OUT_OF_RANGE);
}

static void decimals_have_a_strict_form(void **state)
{
    (void)state;
    double value = 7;
    static const char *const bad[] = { "",    ".5",  "5.", "inf", "nan",  "0x1p3", "1e",
                                       "1e+", "1,5", "1 ", "--1", "1e5x", "e5",    "+" };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(sl_parse_double(sl_slice_str(bad[i]), &value), SL_INVALID_ARGUMENT);
    }
    char digits[300];
    memset(digits, '1', sizeof(digits));
    assert_int_equal(
        sl_parse_double(sl_slice_of(digits, sizeof(digits)), &value), SL_INVALID_ARGUMENT);
    assert_int_equal(sl_parse_double(sl_slice_str("1e999"), &value), SL_OUT_OF_RANGE);
    assert_true(value == 7);
    assert_int_equal(sl_parse_double(sl_slice_str("-1.25e2"), &value), SL_OK);
    assert_true(value == -125);
    assert_int_equal(sl_parse_double(sl_slice_str("+0.5E-1"), &value), SL_OK);
    assert_true(value == 0.05);
}

static void sizes_and_times_have_units(void **state)
{
    (void)state;
    uint64_t value = 1;
    assert_int_equal(sl_parse_bytes(sl_slice_str("512"), UINT64_MAX, &value), SL_OK);
    assert_int_equal(value, 512);
    assert_int_equal(sl_parse_bytes(sl_slice_str("512B"), UINT64_MAX, &value), SL_OK);
    assert_int_equal(value, 512);
    assert_int_equal(sl_parse_bytes(sl_slice_str("4MiB"), UINT64_MAX, &value), SL_OK);
    assert_int_equal(value, 4194304);
    assert_int_equal(sl_parse_bytes(sl_slice_str("1GiB"), 1 << 20, &value), SL_OUT_OF_RANGE);
    assert_int_equal(
        sl_parse_bytes(sl_slice_str("17179869184GiB"), UINT64_MAX, &value), SL_OUT_OF_RANGE);
    static const char *const bad[] = { "", "MiB", "4MB", "4mib", "4 MiB", "-4MiB", "1.5MiB", "4K" };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(
            sl_parse_bytes(sl_slice_str(bad[i]), UINT64_MAX, &value), SL_INVALID_ARGUMENT);
    }
    assert_int_equal(sl_parse_duration_ms(sl_slice_str("250"), 1000, &value), SL_OK);
    assert_int_equal(value, 250);
    assert_int_equal(sl_parse_duration_ms(sl_slice_str("250ms"), 1000, &value), SL_OK);
    assert_int_equal(value, 250);
    assert_int_equal(sl_parse_duration_ms(sl_slice_str("10s"), 60000, &value), SL_OK);
    assert_int_equal(value, 10000);
    assert_int_equal(sl_parse_duration_ms(sl_slice_str("2h"), UINT64_MAX, &value), SL_OK);
    assert_int_equal(value, 7200000);
    assert_int_equal(sl_parse_duration_ms(sl_slice_str("2m"), 119999, &value), SL_OUT_OF_RANGE);
    assert_int_equal(
        sl_parse_duration_ms(sl_slice_str("2d"), UINT64_MAX, &value), SL_INVALID_ARGUMENT);
}

static void addresses_have_a_host_and_a_port_or_a_path(void **state)
{
    (void)state;
    char host[32];
    uint16_t port = 1;
    bool is_unix = true;
    static const struct {
        const char *text, *host;
        uint16_t port;
        bool is_unix;
    } good[] = { { "127.0.0.1:80", "127.0.0.1", 80, false },
                 { "[::1]:0", "::1", 0, false },
                 { "[fe80::1%eth0]:65535", "fe80::1%eth0", 65535, false },
                 { "my-host_1.example:50051", "my-host_1.example", 50051, false },
                 { "unix:/run/x.sock", "/run/x.sock", 0, true },
                 { "unix:///run/x.sock", "/run/x.sock", 0, true },
                 { "unix:x", "x", 0, true } };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(
            sl_parse_address(sl_slice_str(good[i].text), host, sizeof(host), &port, &is_unix),
            SL_OK);
        assert_string_equal(host, good[i].host);
        assert_int_equal(port, good[i].port);
        assert_int_equal(is_unix, good[i].is_unix);
    }
    static const char *const bad[] = {
        "",        "host",        ":80",
        "host:",   "host:65536",  "host:-1",
        "::1:80",  "[::1]80",     "[]:80",
        "[::1:80", "a b:80",      "host:8x",
        "unix:",   "http://x:80", "a-name-that-is-longer-than-the-room.example:80"
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(
            sl_parse_address(sl_slice_str(bad[i]), host, sizeof(host), &port, &is_unix),
            SL_INVALID_ARGUMENT);
    }
    assert_int_equal(
        sl_parse_address(sl_slice_of("unix:/a\0b", 9), host, sizeof(host), &port, &is_unix),
        SL_INVALID_ARGUMENT);
}

static void distances_are_those_of_levenshtein_up_to_the_limit(void **state)
{
    (void)state;
    assert_int_equal(sl_parse_distance("name", "name", 2), 0);
    assert_int_equal(sl_parse_distance("nmae", "name", 2), 2);
    assert_int_equal(sl_parse_distance("nam", "name", 2), 1);
    assert_int_equal(sl_parse_distance("", "ab", 2), 2);
    assert_int_equal(sl_parse_distance("kitten", "sitting", 5), 3);
    assert_int_equal(sl_parse_distance("kitten", "sitting", 2), 3);
    assert_int_equal(sl_parse_distance("a", "abcdefgh", 2), 3);
    char text[100];
    memset(text, 'x', sizeof(text));
    text[99] = '\0';
    assert_int_equal(sl_parse_distance(text, text, 2), 0);
    assert_int_equal(sl_parse_distance(text, text + 1, 2), 3); /* too long to be measured */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unsigned_numbers_are_checked_whole),
        cmocka_unit_test(signed_numbers_reach_both_ends),
        cmocka_unit_test(decimals_have_a_strict_form),
        cmocka_unit_test(sizes_and_times_have_units),
        cmocka_unit_test(addresses_have_a_host_and_a_port_or_a_path),
        cmocka_unit_test(distances_are_those_of_levenshtein_up_to_the_limit),
    };
    return cmocka_run_group_tests_name("parse", tests, NULL, NULL);
}
