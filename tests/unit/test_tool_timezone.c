#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/tool/timezone.h"

static void offsets_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *zone;
        int offset_s;
    } table[] = { { "UTC", 0 },        { "Z", 0 },       { "+00:00", 0 },     { "+02:00", 7200 },
                  { "-0330", -12600 }, { "+14", 50400 }, { "-05:45", -20700 } };
    for (size_t i = 0; i < SL_COUNT(table); i++) {
        int offset_s = 99;
        assert_int_equal(sl_timezone_offset(table[i].zone, 0, &offset_s, NULL), SL_OK);
        assert_int_equal(offset_s, table[i].offset_s);
    }
}

static void what_is_no_zone_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = { "",        "Mars/Olympus", "../../etc/passwd", "/etc/passwd",
                                       "+15:00",  "+1",           "+02:60",           "+02:000",
                                       "Europe/", "Europe",       "Europe//Berlin",   "a\nb",
                                       "." };
    for (size_t i = 0; i < SL_COUNT(bad); i++) {
        int offset_s = 99;
        struct sl_error err = { 0 };
        assert_int_equal(sl_timezone_offset(bad[i], 0, &offset_s, &err), SL_INVALID_ARGUMENT);
        assert_int_equal(offset_s, 99);
        assert_true(err.text[0] != '\0');
    }
}

/* A file with a rule only: version 2, one type, no transitions. */
static size_t make_file(uint8_t *file, int32_t offset_s, const char *rule)
{
    static const uint8_t magic[] = { 'T', 'Z', 'i', 'f', '2' };
    size_t size = 0;
    for (int part = 0; part < 2; part++) {
        memset(file + size, 0, 44);
        memcpy(file + size, magic, sizeof magic);
        file[size + 39] = 1; /* types */
        file[size + 43] = 4; /* characters */
        size += 44;
        const uint32_t bits = (uint32_t)offset_s;
        const uint8_t type[] = {
            (uint8_t)(bits >> 24), (uint8_t)(bits >> 16), (uint8_t)(bits >> 8), (uint8_t)bits, 0, 0
        };
        memcpy(file + size, type, sizeof type);
        memset(file + size + sizeof type, 0, 4);
        size += sizeof type + 4;
    }
    file[size++] = '\n';
    for (; *rule != '\0'; rule++) {
        file[size++] = (uint8_t)*rule;
    }
    file[size++] = '\n';
    return size;
}

static int offset_by(const char *rule, int64_t unix_s)
{
    uint8_t file[512];
    int offset_s = 0;
    const size_t size = make_file(file, -1, rule);
    assert_int_equal(sl_timezone_read(sl_slice_of(file, size), unix_s, &offset_s), SL_OK);
    return offset_s;
}

static void rules_switch_at_their_second(void **state)
{
    (void)state;
    static const char berlin[] = "CET-1CEST,M3.5.0,M10.5.0/3";
    assert_int_equal(offset_by(berlin, 1774745999), 3600); /* 2026-03-29T00:59:59Z */
    assert_int_equal(offset_by(berlin, 1774746000), 7200);
    assert_int_equal(offset_by(berlin, 1792889999), 7200); /* 2026-10-25T00:59:59Z */
    assert_int_equal(offset_by(berlin, 1792890000), 3600);
    static const char sydney[] = "AEST-10AEDT,M10.1.0,M4.1.0/3";
    assert_int_equal(offset_by(sydney, 1767225600), 39600); /* 2026-01-01 */
    assert_int_equal(offset_by(sydney, 1782864000), 36000); /* 2026-07-01 */
    assert_int_equal(offset_by("<-03>3", 0), -10800);
    assert_int_equal(offset_by("EST5EDT,J60,J300", 1767225600), -18000);
    assert_int_equal(offset_by("EST5EDT4,59/1:30,300", 1782864000), -14400);
    assert_int_equal(offset_by("nonsense,", 0), -1); /* the last type counts */
}

static void a_file_is_read_or_refused_at_every_length(void **state)
{
    (void)state;
    uint8_t file[512];
    const size_t size = make_file(file, 60, "CET-1");
    for (size_t n = 0; n <= size; n++) {
        uint8_t *copy = sl_alloc(n);
        assert_non_null(copy);
        memcpy(copy, file, n);
        int offset_s = 0;
        (void)(sl_timezone_read(sl_slice_of(copy, n), 0, &offset_s) == SL_OK);
        sl_free(copy);
    }
}

static void names_are_looked_up_where_they_exist(void **state)
{
    (void)state;
    int offset_s = 0;
    assert_int_equal(sl_timezone_offset("Europe/Berlin", 1782864000, &offset_s, NULL), SL_OK);
    assert_int_equal(offset_s, 7200);
    assert_int_equal(sl_timezone_offset("America/New_York", 1767225600, &offset_s, NULL), SL_OK);
    assert_int_equal(offset_s, -18000);
    assert_int_equal(sl_timezone_offset("Asia/Kolkata", 4102444800, &offset_s, NULL), SL_OK);
    assert_int_equal(offset_s, 19800);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offsets_are_read),
        cmocka_unit_test(what_is_no_zone_is_refused),
        cmocka_unit_test(rules_switch_at_their_second),
        cmocka_unit_test(a_file_is_read_or_refused_at_every_length),
        cmocka_unit_test(names_are_looked_up_where_they_exist),
    };
    return cmocka_run_group_tests_name("tool_timezone", tests, NULL, NULL);
}
