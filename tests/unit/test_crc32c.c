#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/crc32c.h"
#include "runtime/base/mem.h"

/* RFC 3720, B.4. */
static void the_vectors_of_the_standard_hold(void **state)
{
    (void)state;
    uint8_t block[32];
    memset(block, 0, sizeof(block));
    assert_int_equal(sl_crc32c(0, sl_slice_of(block, sizeof(block))), 0x8A9136AA);
    memset(block, 0xFF, sizeof(block));
    assert_int_equal(sl_crc32c(0, sl_slice_of(block, sizeof(block))), 0x62A8AB43);
    for (size_t i = 0; i < sizeof(block); i++) {
        block[i] = (uint8_t)i;
    }
    assert_int_equal(sl_crc32c(0, sl_slice_of(block, sizeof(block))), 0x46DD794E);
    for (size_t i = 0; i < sizeof(block); i++) {
        block[i] = (uint8_t)(31 - i);
    }
    assert_int_equal(sl_crc32c(0, sl_slice_of(block, sizeof(block))), 0x113FDB5C);
    static const uint8_t read_command[48] = {
        0x01, 0xC0, [16] = 0x14, [22] = 0x04, [27] = 0x14, [31] = 0x18, [32] = 0x28, [40] = 0x02,
    };
    assert_int_equal(sl_crc32c(0, sl_slice_of(read_command, sizeof(read_command))), 0xD9963A56);
    assert_int_equal(sl_crc32c(0, sl_slice_str("123456789")), 0xE3069283);
}

static void parts_give_what_the_whole_gives(void **state)
{
    (void)state;
    uint8_t bytes[67];
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(i * 37 + 11);
    }
    const uint32_t whole = sl_crc32c(0, sl_slice_of(bytes, sizeof(bytes)));
    for (size_t cut = 0; cut <= sizeof(bytes); cut++) {
        const uint32_t first = sl_crc32c(0, sl_slice_of(bytes, cut));
        assert_int_equal(sl_crc32c(first, sl_slice_of(bytes + cut, sizeof(bytes) - cut)), whole);
    }
    assert_int_equal(sl_crc32c(0, sl_slice_of(NULL, 0)), 0);
}

static void each_flipped_bit_shows(void **state)
{
    (void)state;
    uint8_t bytes[40] = { 1, 2, 3 };
    const uint32_t whole = sl_crc32c(0, sl_slice_of(bytes, sizeof(bytes)));
    for (size_t bit = 0; bit < sizeof(bytes) * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
        assert_int_not_equal(sl_crc32c(0, sl_slice_of(bytes, sizeof(bytes))), whole);
        bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_vectors_of_the_standard_hold),
        cmocka_unit_test(parts_give_what_the_whole_gives),
        cmocka_unit_test(each_flipped_bit_shows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
