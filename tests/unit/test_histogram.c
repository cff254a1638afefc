/* Latencies of `sluice bench`: what comes out is right to the width of a bucket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "service/cli/histogram.h"

static struct sl_histogram histogram;

static int set_up(void **state)
{
    (void)state;
    memset(&histogram, 0, sizeof(histogram));
    return 0;
}

static void an_empty_histogram_says_nothing(void **state)
{
    (void)state;
    assert_int_equal(sl_histogram_at(&histogram, 0), 0);
    assert_int_equal(sl_histogram_at(&histogram, 0.5), 0);
    assert_int_equal(sl_histogram_at(&histogram, 1), 0);
}

static void small_values_are_exact(void **state)
{
    (void)state;
    for (uint64_t value = 1; value <= 100; value++) {
        sl_histogram_add(&histogram, value);
    }
    assert_int_equal(histogram.n, 100);
    assert_int_equal(sl_histogram_at(&histogram, 0), 1);
    assert_int_equal(sl_histogram_at(&histogram, 0.01), 1);
    assert_int_equal(sl_histogram_at(&histogram, 0.5), 50);
    assert_int_equal(sl_histogram_at(&histogram, 0.9), 90);
    assert_int_equal(sl_histogram_at(&histogram, 1), 100);
}

static void a_single_value_is_every_share(void **state)
{
    (void)state;
    sl_histogram_add(&histogram, 123456789);
    assert_int_equal(sl_histogram_at(&histogram, 0), 123456789);
    assert_int_equal(sl_histogram_at(&histogram, 0.99), 123456789);
    assert_int_equal(sl_histogram_at(&histogram, 1), 123456789);
}

/* The value is the lower of two, so the top of its bucket is what comes out. */
static void assert_near(uint64_t value)
{
    memset(&histogram, 0, sizeof(histogram));
    sl_histogram_add(&histogram, value);
    sl_histogram_add(&histogram, UINT64_MAX);
    const uint64_t found = sl_histogram_at(&histogram, 0.5);
    assert_true(found >= value);
    assert_true((double)(found - value) <= (double)value / 128);
}

static void every_size_is_right_to_a_128th(void **state)
{
    (void)state;
    for (unsigned power = 0; power < 63; power++) {
        const uint64_t value = UINT64_C(1) << power;
        assert_near(value);
        assert_near(value + 1);
        assert_near(value + value / 2);
        assert_near(value * 2 - 1);
    }
}

static void zero_and_the_greatest_number_have_a_place(void **state)
{
    (void)state;
    sl_histogram_add(&histogram, 0);
    sl_histogram_add(&histogram, UINT64_MAX);
    assert_int_equal(histogram.n, 2);
    assert_int_equal(histogram.max, UINT64_MAX);
    assert_int_equal(sl_histogram_at(&histogram, 0.5), 0);
    assert_int_equal(sl_histogram_at(&histogram, 1), UINT64_MAX);
}

static void shares_do_not_fall(void **state)
{
    (void)state;
    uint64_t value = 1;
    for (int i = 0; i < 10000; i++) {
        value = value * UINT64_C(6364136223846793005) + 1442695040888963407;
        sl_histogram_add(&histogram, value >> (i % 64));
    }
    uint64_t before = 0;
    for (int i = 0; i <= 1000; i++) {
        const uint64_t now = sl_histogram_at(&histogram, i / 1000.0);
        assert_true(now >= before);
        before = now;
    }
    assert_int_equal(before, histogram.max);
}

static void minimum_and_mean_are_exact(void **state)
{
    (void)state;
    assert_int_equal(histogram.min, 0);
    assert_true(sl_histogram_mean(&histogram) <= 0);
    sl_histogram_add(&histogram, 1000001);
    sl_histogram_add(&histogram, 3000003);
    sl_histogram_add(&histogram, 2000002);
    assert_int_equal(histogram.min, 1000001);
    assert_int_equal(histogram.max, 3000003);
    assert_true(
        sl_histogram_mean(&histogram) >= 2000002 && sl_histogram_mean(&histogram) <= 2000002);
}

static void many_at_once_are_as_one_after_the_other(void **state)
{
    (void)state;
    static struct sl_histogram single;
    memset(&single, 0, sizeof(single));
    for (int i = 0; i < 1000; i++) {
        sl_histogram_add(&single, 77777);
    }
    sl_histogram_add_n(&histogram, 5, 0);
    assert_int_equal(histogram.n, 0);
    sl_histogram_add_n(&histogram, 77777, 1000);
    assert_memory_equal(&histogram, &single, sizeof(single));
}

static void merged_is_as_if_all_were_added_to_one(void **state)
{
    (void)state;
    static struct sl_histogram parts[2], empty;
    memset(parts, 0, sizeof(parts));
    for (uint64_t i = 0; i < 2000; i++) {
        const uint64_t value = i * i * 37 + 1;
        sl_histogram_add(&parts[i % 2], value);
        sl_histogram_add(&histogram, value);
    }
    sl_histogram_merge(&parts[0], &parts[1]);
    assert_memory_equal(&parts[0], &histogram, sizeof(histogram));
    sl_histogram_merge(&parts[0], &empty);
    assert_memory_equal(&parts[0], &histogram, sizeof(histogram));
    sl_histogram_merge(&empty, &histogram);
    assert_memory_equal(&empty, &histogram, sizeof(histogram));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_empty_histogram_says_nothing, set_up),
        cmocka_unit_test_setup(small_values_are_exact, set_up),
        cmocka_unit_test_setup(a_single_value_is_every_share, set_up),
        cmocka_unit_test_setup(every_size_is_right_to_a_128th, set_up),
        cmocka_unit_test_setup(zero_and_the_greatest_number_have_a_place, set_up),
        cmocka_unit_test_setup(shares_do_not_fall, set_up),
        cmocka_unit_test_setup(minimum_and_mean_are_exact, set_up),
        cmocka_unit_test_setup(many_at_once_are_as_one_after_the_other, set_up),
        cmocka_unit_test_setup(merged_is_as_if_all_were_added_to_one, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
