#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codegen/wire.h"

/* Field 1 varint 300, field 2 "abc", field 3 fixed32, field 4 fixed64, field 2047 varint 0. */
static const uint8_t message[] = { 0x08, 0xac, 0x02, 0x12, 3, 'a', 'b', 'c', 0x1d, 1,    2,    3, 4,
                                   0x21, 1,    2,    3,    4, 5,   6,   7,   8,    0xf8, 0x7f, 0 };

static void fields_come_in_order_with_their_bytes(void **state)
{
    (void)state;
    struct sl_wire wire = { .data = message, .size = sizeof(message) };
    struct sl_wire_field field;
    assert_true(sl_wire_next(&wire, &field));
    assert_int_equal(field.number, 1);
    assert_int_equal(field.value, 300);
    assert_ptr_equal(field.whole, message);
    assert_int_equal(field.whole_size, 3);
    assert_true(sl_wire_next(&wire, &field));
    assert_int_equal(field.type, SL_WIRE_LEN);
    assert_int_equal(field.size, 3);
    assert_memory_equal(field.data, "abc", 3);
    assert_int_equal(field.whole_size, 5);
    assert_true(sl_wire_next(&wire, &field));
    assert_int_equal(field.type, SL_WIRE_I32);
    assert_true(sl_wire_next(&wire, &field));
    assert_int_equal(field.type, SL_WIRE_I64);
    assert_true(sl_wire_next(&wire, &field));
    assert_int_equal(field.number, 2047);
    assert_false(sl_wire_next(&wire, &field));
    assert_false(wire.is_broken);
}

/* Whether the bytes are read to a clean end, in a block of exactly their size. */
static bool is_whole(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + 1);
    assert_non_null(copy);
    memcpy(copy + 1, data, size);
    struct sl_wire wire = { .data = copy + 1, .size = size };
    struct sl_wire_field field;
    while (sl_wire_next(&wire, &field)) {
    }
    free(copy);
    return !wire.is_broken;
}

static void a_message_cut_inside_a_field_is_broken(void **state)
{
    (void)state;
    static const size_t borders[] = { 0, 3, 8, 13, 22, 25 };
    for (size_t size = 0; size <= sizeof(message); size++) {
        bool is_border = false;
        for (size_t i = 0; i < sizeof(borders) / sizeof(borders[0]); i++) {
            is_border = is_border || borders[i] == size;
        }
        assert_int_equal(is_whole(message, size), is_border);
    }
}

static void faults_are_seen(void **state)
{
    (void)state;
    static const uint8_t group[] = { 0x0b, 0x0c };
    static const uint8_t number_0[] = { 0x00, 0x00 };
    static const uint8_t long_varint[] = { 0x08, 0x80, 0x80, 0x80, 0x80, 0x80,
                                           0x80, 0x80, 0x80, 0x80, 0x80, 0x01 };
    static const uint8_t huge_length[] = { 0x0a, 0xff, 0xff, 0xff, 0xff, 0xff,
                                           0xff, 0xff, 0xff, 0xff, 0x01 };
    static const uint8_t huge_number[] = { 0x80, 0x80, 0x80, 0x80, 0x10, 0x00 };
    assert_false(is_whole(group, sizeof(group)));
    assert_false(is_whole(number_0, sizeof(number_0)));
    assert_false(is_whole(long_varint, sizeof(long_varint)));
    assert_false(is_whole(huge_length, sizeof(huge_length)));
    assert_false(is_whole(huge_number, sizeof(huge_number)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_come_in_order_with_their_bytes),
        cmocka_unit_test(a_message_cut_inside_a_field_is_broken),
        cmocka_unit_test(faults_are_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
