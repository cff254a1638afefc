#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/loop.h"
#include "service/rpc/deadline.h"

static uint64_t parse(const char *text)
{
    uint64_t timeout_ns = 0;
    assert_int_equal(sl_timeout_parse(sl_slice_str(text), &timeout_ns), SL_OK);
    return timeout_ns;
}

static void every_unit_is_understood_dl_1(void **state)
{
    (void)state;
    assert_int_equal(parse("1n"), 1);
    assert_int_equal(parse("7u"), 7000);
    assert_int_equal(parse("250m"), 250 * SL_NS_PER_MS);
    assert_int_equal(parse("10S"), 10 * SL_NS_PER_S);
    assert_int_equal(parse("2M"), 120 * SL_NS_PER_S);
    assert_int_equal(parse("1H"), 3600 * SL_NS_PER_S);
    assert_int_equal(parse("0S"), 0);
    assert_int_equal(parse("00000001S"), SL_NS_PER_S);
}

static void the_largest_timeout_clamps_dl_1(void **state)
{
    (void)state;
    assert_true(parse("99999999H") == SL_TIMEOUT_MAX_NS);
    assert_int_equal(parse("99999999S"), 99999999 * SL_NS_PER_S);
}

static void malformed_timeouts_are_refused_adm_6(void **state)
{
    (void)state;
    static const char *const bad[] = { "",     "S",          "1",   "1s", "-1S",
                                       "+1S",  " 1S",        "1S ", "1h", "1.5S",
                                       "0x1S", "123456789S", "1SS", "S1", "1\xC2\xB5" };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint64_t untouched = 42;
        assert_int_equal(sl_timeout_parse(sl_slice_str(bad[i]), &untouched), SL_INVALID_ARGUMENT);
        assert_int_equal(untouched, 42);
    }
}

static void formatting_picks_the_finest_unit_and_rounds_up(void **state)
{
    (void)state;
    static const struct {
        uint64_t ns;
        const char *text;
    } cases[] = {
        { 0, "0n" },
        { 99999999, "99999999n" },
        { 100000000, "100000u" },
        { 100000001, "100001u" },
        { 10 * SL_NS_PER_S, "10000000u" },
        { 200 * SL_NS_PER_S, "200000m" },
        { 31536000 * SL_NS_PER_S, "31536000S" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char room[SL_TIMEOUT_TEXT_BYTES];
        const size_t size = sl_timeout_format(cases[i].ns, room);
        assert_string_equal(room, cases[i].text);
        assert_int_equal(size, strlen(room));
    }
}

static void what_is_formatted_is_never_shorter_when_parsed(void **state)
{
    (void)state;
    for (uint64_t ns = 1; ns < SL_TIMEOUT_MAX_NS / 3; ns = ns * 3 + 1) {
        char room[SL_TIMEOUT_TEXT_BYTES];
        (void)sl_timeout_format(ns, room);
        const uint64_t back = parse(room);
        assert_true(back >= ns);
        assert_true(back - ns <= ns / 10000);
    }
    char room[SL_TIMEOUT_TEXT_BYTES];
    (void)sl_timeout_format(UINT64_MAX, room);
    assert_string_equal(room, "5124096H");
    assert_true(parse(room) >= SL_TIMEOUT_MAX_NS / 2);
}

static void deadlines_never_overflow(void **state)
{
    (void)state;
    assert_int_equal(sl_deadline_after(5, 10), 15);
    assert_true(sl_deadline_after(UINT64_MAX - 10, 100) < SL_NEVER_NS);
    assert_true(sl_deadline_after(SL_NEVER_NS, 1) < SL_NEVER_NS);
    assert_true(sl_deadline_after(1, UINT64_MAX) < SL_NEVER_NS);
    assert_int_equal(sl_deadline_remaining(15, 10), 5);
    assert_int_equal(sl_deadline_remaining(15, 15), 0);
    assert_int_equal(sl_deadline_remaining(15, 16), 0);
    assert_true(sl_deadline_remaining(SL_NEVER_NS, 16) == SL_NEVER_NS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_unit_is_understood_dl_1),
        cmocka_unit_test(the_largest_timeout_clamps_dl_1),
        cmocka_unit_test(malformed_timeouts_are_refused_adm_6),
        cmocka_unit_test(formatting_picks_the_finest_unit_and_rounds_up),
        cmocka_unit_test(what_is_formatted_is_never_shorter_when_parsed),
        cmocka_unit_test(deadlines_never_overflow),
    };
    return cmocka_run_group_tests_name("deadline", tests, NULL, NULL);
}
