#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/random.h"

static void identifiers_are_hex_and_differ(void **state)
{
    (void)state;
    char ids[50][SL_ID_BYTES];
    for (int i = 0; i < 50; i++) {
        sl_random_id(ids[i]);
        assert_int_equal(strlen(ids[i]), SL_ID_BYTES - 1);
        assert_int_equal(strspn(ids[i], "0123456789abcdef"), SL_ID_BYTES - 1);
        for (int k = 0; k < i; k++) {
            assert_string_not_equal(ids[i], ids[k]);
        }
    }
}

static void numbers_below_n_are_below_n_and_all_come(void **state)
{
    (void)state;
    int seen[7] = { 0 };
    for (int i = 0; i < 7000; i++) {
        const uint64_t value = sl_random_below(7);
        assert_true(value < 7);
        seen[value]++;
    }
    for (int i = 0; i < 7; i++) {
        assert_in_range(seen[i], 700, 1300); /* ten standard deviations */
    }
    assert_int_equal(sl_random_below(1), 0);
    (void)sl_random_below(UINT64_MAX);
}

static void blocks_of_every_size_are_filled(void **state)
{
    (void)state;
    uint8_t block[1024];
    for (size_t size = 0; size <= 600; size += 7) {
        memset(block, 0, sizeof(block));
        sl_random_bytes(block, size);
        size_t n_zero = 0;
        for (size_t i = 0; i < size; i++) {
            n_zero += block[i] == 0 ? 1 : 0;
        }
        assert_true(n_zero <= size / 8 + 4);
        assert_int_equal(block[size], 0);
    }
}

static void the_deterministic_generator_is_splitmix64(void **state)
{
    (void)state;
    uint64_t seed = 1234567;
    assert_int_equal(sl_random_next(&seed), UINT64_C(6457827717110365317));
    assert_int_equal(sl_random_next(&seed), UINT64_C(3203168211198807973));
    assert_int_equal(sl_random_next(&seed), UINT64_C(9817491932198370423));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(identifiers_are_hex_and_differ),
        cmocka_unit_test(numbers_below_n_are_below_n_and_all_come),
        cmocka_unit_test(blocks_of_every_size_are_filled),
        cmocka_unit_test(the_deterministic_generator_is_splitmix64),
    };
    return cmocka_run_group_tests_name("random", tests, NULL, NULL);
}
