#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/tests/unit/rpc_types.pb-c.h"
#include "runtime/base/mem.h"
#include "service/rpc/prescan.h"

static struct sl_limits limits;
static struct sl_arena arena;
static struct sl_error last_error;

static int setup(void **state)
{
    (void)state;
    sl_limits_init(&limits);
    sl_arena_init(&arena, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sl_arena_done(&arena);
    return 0;
}

/* The bytes lie in a block of exactly their size, so that reading behind them is seen. */
static enum sl_status scan(struct sl_slice bytes, struct sl_slice *ret_bytes)
{
    uint8_t *exact = sl_alloc(bytes.size);
    assert_non_null(exact);
    if (bytes.size > 0) {
        memcpy(exact, bytes.data, bytes.size);
    }
    struct sl_slice checked = { 0 };
    const enum sl_status status = sl_prescan(
        &limits, &sluice__test__types__descriptor, sl_slice_of(exact, bytes.size), &arena, &checked,
        &last_error);
    if (status == SL_OK) {
        const char *copy = sl_arena_dup(&arena, checked);
        assert_non_null(copy);
        *ret_bytes = sl_slice_of(copy, checked.size);
    }
    sl_free(exact);
    return status;
}

#define BYTES(text) sl_slice_of("" text, sizeof(text) - 1)

static enum sl_status judge(struct sl_slice bytes)
{
    struct sl_slice ignored;
    return scan(bytes, &ignored);
}

static void check_cut(struct sl_slice bytes, struct sl_slice expected)
{
    struct sl_slice checked = { 0 };
    assert_int_equal(scan(bytes, &checked), SL_OK);
    assert_int_equal(checked.size, expected.size);
    assert_memory_equal(checked.data, expected.data, expected.size);
}

static void right_fields_of_every_type_pass_unchanged(void **state)
{
    (void)state;
    static const struct sl_slice cases[] = {
        { 0 },
        { (const uint8_t *)"\x08\x01", 2 },
        { (const uint8_t *)"\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", 11 },
        { (const uint8_t *)"\x1D\1\2\3\4", 5 },
        { (const uint8_t *)"\x21\1\2\3\4\5\6\7\1", 9 },
        { (const uint8_t *)"\x3A\2hi", 4 },
        { (const uint8_t *)"\x42\2\xFF\0", 4 },
        { (const uint8_t *)"\x4A\2\x08\x01", 4 },
        { (const uint8_t *)"\x4A\0", 2 },
        { (const uint8_t *)"\x52\3\x01\x96\x01", 5 }, /* packed */
        { (const uint8_t *)"\x50\1\x50\2", 4 },       /* the same, unpacked */
        { (const uint8_t *)"\x62\2\1\2", 4 },         /* declared unpacked, sent packed */
        { (const uint8_t *)"\x5A\x08\1\2\3\4\5\6\7\1", 10 },
        { (const uint8_t *)"\x9A\1\4\1\2\3\4", 7 },
        { (const uint8_t *)"\x7A\6\x0A\1k\x12\1v", 8 },    /* map entry */
        { (const uint8_t *)"\x80\x7D\x05", 3 },            /* field 2000 */
        { (const uint8_t *)"\xC0\x3E\x05\xC2\x3E\1x", 7 }, /* field 1000: unknown */
        { (const uint8_t *)"\xC5\x3E\1\2\3\4\xC1\x3E\1\2\3\4\5\6\7\1", 16 },
    };
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        check_cut(cases[i], cases[i]);
    }
}

static void malformed_bytes_are_internal_ws_1(void **state)
{
    (void)state;
    static const struct sl_slice cases[] = {
        { (const uint8_t *)"\x08", 1 },                                              /* no value */
        { (const uint8_t *)"\x08\x80", 2 },                                          /* cut off */
        { (const uint8_t *)"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 12 }, /* 11 bytes */
        { (const uint8_t *)"\x88\x80\x80\x80\x80\x00\x01", 7 },                      /* long tag */
        { (const uint8_t *)"\x00\x01", 2 },                                          /* field 0 */
        { (const uint8_t *)"\x02\x01x", 3 },
        { (const uint8_t *)"\x88\x80\x80\x80\x20\x01", 6 }, /* field 2^29 and more */
        { (const uint8_t *)"\x0E\x01", 2 },                 /* wire type 6 */
        { (const uint8_t *)"\x0F\x01", 2 },
        { (const uint8_t *)"\x0E", 1 }, /* nothing behind it */
        { (const uint8_t *)"\xC7\x3E", 2 },
        { (const uint8_t *)"\x1D\1\2\3", 4 },
        { (const uint8_t *)"\x21\1\2\3\4\5\6\7", 8 },
        { (const uint8_t *)"\x3A\3hi", 4 },
        { (const uint8_t *)"\x3A\xFF\xFF\xFF\xFF\x7Fhi", 8 },
        { (const uint8_t *)"\x3A\x82\x80\x80\x80\x80\0hi", 9 }, /* length of 6 bytes */
        { (const uint8_t *)"\x4A\2\x08", 3 },
        { (const uint8_t *)"\x4A\1\x08\x01", 4 }, /* a field over the end of its message */
        { (const uint8_t *)"\x52\1\x80", 3 },     /* packed, cut inside a varint */
        { (const uint8_t *)"\x5A\x07\1\2\3\4\5\6\7", 9 },
        { (const uint8_t *)"\x0C", 1 },                   /* the end of a group that never began */
        { (const uint8_t *)"\xC3\x3E", 2 },               /* a group without end */
        { (const uint8_t *)"\xC3\x3E\xCC\x3E", 4 },       /* another group's end */
        { (const uint8_t *)"\x4A\2\xC3\x3E\xC4\x3E", 6 }, /* a group over the end of its message */
    };
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        assert_int_equal(judge(cases[i]), SL_INTERNAL);
    }
}

static void the_message_and_the_field_are_named(void **state)
{
    (void)state;
    assert_int_equal(judge(BYTES("\x4A\4\x4A\2\x08\x80")), SL_INTERNAL);
    assert_string_equal(
        last_error.text,
        "message sluice.test.Types does not parse: a varint is cut off in field child.child");
    assert_int_equal(judge(BYTES("\x4A\5\x6A\3\xED\xA0\x80")), SL_INTERNAL);
    assert_string_equal(last_error.text, "string field child.texts is not valid UTF-8");
}

static void strings_are_utf_8_without_nul_ws_4(void **state)
{
    (void)state;
    assert_int_equal(judge(BYTES("\x3A\2\xC3\xA4")), SL_OK);
    assert_int_equal(judge(BYTES("\x3A\2\xC0\x80")), SL_INTERNAL);
    assert_int_equal(judge(BYTES("\x3A\1\xC3")), SL_INTERNAL);
    assert_int_equal(judge(BYTES("\x3A\4\xF4\x90\x80\x80")), SL_INTERNAL);
    assert_int_equal(judge(BYTES("\x3A\3a\0b")), SL_INTERNAL);
    assert_non_null(strstr(last_error.text, "NUL"));
    assert_int_equal(judge(BYTES("\x7A\5\x0A\1\xFF\x12\0")), SL_INTERNAL); /* key of a map */
    assert_non_null(strstr(last_error.text, "labels.key"));
    assert_int_equal(judge(BYTES("\x8A\1\1\xFF")), SL_INTERNAL); /* member of a oneof */
    assert_int_equal(judge(BYTES("\x42\3a\0\xFF")), SL_OK);      /* bytes may hold anything */
    assert_int_equal(judge(BYTES("\xC2\x3E\3a\0\xFF")), SL_OK);  /* so may unknown fields */
}

/* `depth` messages inside the root. */
static struct sl_slice nest(size_t depth)
{
    uint8_t *room = sl_arena_alloc(&arena, depth * 6 + 16);
    assert_non_null(room);
    uint8_t *at = room + depth * 6 + 16;
    size_t size = 0;
    for (size_t i = 0; i < depth; i++) {
        size_t length = size;
        uint8_t text[5];
        size_t n = 0;
        do {
            text[n++] = (uint8_t)((length & 0x7F) | (length > 0x7F ? 0x80 : 0));
            length >>= 7;
        } while (length > 0);
        at -= n;
        memcpy(at, text, n);
        *--at = 0x4A;
        size += n + 1;
    }
    return sl_slice_of(at, size);
}

static void depth_is_limited_ws_2(void **state)
{
    (void)state;
    assert_int_equal(judge(nest(100)), SL_OK);
    assert_int_equal(judge(nest(101)), SL_INTERNAL);
    assert_int_equal(judge(nest(10000)), SL_INTERNAL);
    limits.message_depth = 1000;
    assert_int_equal(judge(nest(1000)), SL_OK);
    assert_int_equal(judge(nest(1001)), SL_INTERNAL);
    limits.message_depth = 127;
    assert_int_equal(judge(nest(127)), SL_OK);
    assert_int_equal(judge(nest(128)), SL_INTERNAL);
}

static void unknown_groups_count_as_depth_ws_2(void **state)
{
    (void)state;
    uint8_t groups[202];
    memset(groups, 0x0B, 101); /* field 1, group */
    memset(groups + 101, 0x0C, 101);
    assert_int_equal(judge(sl_slice_of(groups + 1, 200)), SL_OK);
    assert_int_equal(judge(sl_slice_of(groups, 202)), SL_INTERNAL);
}

static void tags_are_limited_ws_3(void **state)
{
    (void)state;
    limits.message_tags = 64;
    uint8_t tags[130];
    for (size_t i = 0; i < sizeof(tags); i += 2) {
        tags[i] = 0x08;
        tags[i + 1] = 1;
    }
    assert_int_equal(judge(sl_slice_of(tags, 128)), SL_OK);
    assert_int_equal(judge(sl_slice_of(tags, 130)), SL_RESOURCE_EXHAUSTED);
}

static void groups_are_cut_out_ws_5(void **state)
{
    (void)state;
    check_cut(BYTES("\xC3\x3E\xC4\x3E"), BYTES(""));
    check_cut(
        BYTES("\x08\1\xC3\x3E\x08\2\x12\1x\x1D\1\2\3\4\x21\1\2\3\4\5\6\7\1\xC4\x3E\x28\1"),
        BYTES("\x08\1\x28\1"));
    /* Groups in groups, and a known field that comes as a group. */
    check_cut(BYTES("\x0B\x13\x14\x0C\x08\5"), BYTES("\x08\5"));
}

static void known_fields_of_a_wrong_wire_type_are_cut_out_ws_5(void **state)
{
    (void)state;
    check_cut(BYTES("\x0A\2hi\x28\1"), BYTES("\x28\1")); /* int32 as bytes */
    check_cut(BYTES("\x38\1\x28\1"), BYTES("\x28\1"));   /* string as varint */
    check_cut(BYTES("\x4D\1\2\3\4"), BYTES(""));         /* message as fixed32 */
    check_cut(BYTES("\x18\1\x25\1\2\3\4\x2D\1\2\3\4"), BYTES(""));
    check_cut(BYTES("\x6D\1\2\3\4\x6A\1a"), BYTES("\x6A\1a")); /* repeated string */
    check_cut(BYTES("\x55\1\2\3\4\x50\1"), BYTES("\x50\1"));   /* repeated int32 */
}

static void lengths_around_a_cut_are_made_smaller_ws_5(void **state)
{
    (void)state;
    /* child { number 1, group, flag } */
    check_cut(
        BYTES("\x4A\x0A\x08\1\xC3\x3E\x08\2\xC4\x3E\x28\1\x28\1"),
        BYTES("\x4A\4\x08\1\x28\1\x28\1"));
    /* child { child { group } }, the outer length in two bytes */
    check_cut(BYTES("\x4A\x86\x00\x4A\4\xC3\x3E\xC4\x3E\x08\1"), BYTES("\x4A\x82\0\x4A\0\x08\1"));
    /* A message of over 127 bytes that shrinks under that keeps its two bytes of length. */
    uint8_t big[3 + 132];
    memset(big, 0, sizeof(big));
    memcpy(big, "\x4A\x84\x01\x0A\x7F", 5); /* child { number, as 127 bytes */
    big[3 + 129] = 0x28;                    /*         flag } */
    big[3 + 130] = 0x81;
    big[3 + 131] = 0x00;
    check_cut(sl_slice_of(big, sizeof(big)), BYTES("\x4A\x83\0\x28\x81\0"));
}

static void every_truncation_is_judged_without_reading_on(void **state)
{
    (void)state;
    const struct sl_slice whole =
        BYTES("\x08\x96\x01\x3A\2hi\x4A\5\x08\1\x52\1\2\x7A\6\x0A\1k\x12\1v\xC3\x3E\x08\1\xC4\x3E");
    assert_int_equal(judge(whole), SL_OK);
    size_t n_good = 0;
    for (size_t size = 0; size < whole.size; size++) {
        const enum sl_status status = judge(sl_slice_of(whole.data, size));
        assert_true(status == SL_OK || status == SL_INTERNAL);
        n_good += status == SL_OK ? 1 : 0;
    }
    assert_int_equal(n_good, 5); /* the borders of the outer fields */
}

static bool refuse_all(size_t size)
{
    (void)size;
    return false;
}

static void a_copy_without_memory_is_refused(void **state)
{
    (void)state;
    struct sl_arena empty;
    sl_arena_init(&empty, 0);
    struct sl_slice checked;
    sl_mem_set_gate(refuse_all);
    const enum sl_status cut = sl_prescan(
        &limits, &sluice__test__types__descriptor, BYTES("\x0B\x0C"), &empty, &checked, NULL);
    const enum sl_status whole = sl_prescan(
        &limits, &sluice__test__types__descriptor, BYTES("\x08\1"), &empty, &checked, NULL);
    sl_mem_set_gate(NULL);
    assert_int_equal(cut, SL_RESOURCE_EXHAUSTED);
    assert_int_equal(whole, SL_OK);
    sl_arena_done(&empty);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(right_fields_of_every_type_pass_unchanged, setup, teardown),
        cmocka_unit_test_setup_teardown(malformed_bytes_are_internal_ws_1, setup, teardown),
        cmocka_unit_test_setup_teardown(the_message_and_the_field_are_named, setup, teardown),
        cmocka_unit_test_setup_teardown(strings_are_utf_8_without_nul_ws_4, setup, teardown),
        cmocka_unit_test_setup_teardown(depth_is_limited_ws_2, setup, teardown),
        cmocka_unit_test_setup_teardown(unknown_groups_count_as_depth_ws_2, setup, teardown),
        cmocka_unit_test_setup_teardown(tags_are_limited_ws_3, setup, teardown),
        cmocka_unit_test_setup_teardown(groups_are_cut_out_ws_5, setup, teardown),
        cmocka_unit_test_setup_teardown(
            known_fields_of_a_wrong_wire_type_are_cut_out_ws_5, setup, teardown),
        cmocka_unit_test_setup_teardown(
            lengths_around_a_cut_are_made_smaller_ws_5, setup, teardown),
        cmocka_unit_test_setup_teardown(
            every_truncation_is_judged_without_reading_on, setup, teardown),
        cmocka_unit_test_setup_teardown(a_copy_without_memory_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests_name("prescan", tests, NULL, NULL);
}
