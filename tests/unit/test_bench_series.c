/* Throughput over time: bounded, and nothing is lost when points become one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "service/cli/bench/series.h"

static struct sl_bench_series series;

static double sum_of_messages(void)
{
    double sum = 0;
    for (size_t i = 0; i < series.n; i++) {
        sum += series.points[i].n_messages;
    }
    return sum;
}

static void add(uint64_t n_messages)
{
    const struct sl_bench_point point = {
        .seconds = 0.5, .n_messages = (double)n_messages, .n_calls = 2, .n_errors = 1
    };
    sl_bench_series_add(&series, &point);
}

static void each_sample_is_a_point_while_there_is_room(void **state)
{
    (void)state;
    memset(&series, 0, sizeof(series));
    for (uint64_t i = 1; i <= SL_BENCH_POINTS_MAX; i++) {
        add(i);
    }
    assert_int_equal(series.n, SL_BENCH_POINTS_MAX);
    assert_int_equal(series.points[0].n_messages, 1);
    assert_int_equal(series.points[SL_BENCH_POINTS_MAX - 1].n_messages, SL_BENCH_POINTS_MAX);
}

static void a_long_run_has_coarser_points_and_the_same_sum(void **state)
{
    (void)state;
    memset(&series, 0, sizeof(series));
    uint64_t sum = 0;
    for (uint64_t i = 1; i <= 10000; i++) {
        add(i);
        sum += i;
        assert_in_range(series.n, 1, SL_BENCH_POINTS_MAX);
        assert_int_equal(sum_of_messages(), sum);
    }
    double seconds = 0;
    for (size_t i = 0; i < series.n; i++) {
        const struct sl_bench_point *point = &series.points[i];
        seconds += point->seconds;
        assert_int_equal(point->n_calls, point->seconds * 4);
        assert_int_equal(point->n_errors, point->seconds * 2);
        if (i + 1 < series.n) { /* all but the last have the same length */
            assert_int_equal(point->seconds * 2, series.points[0].seconds * 2);
        }
    }
    assert_int_equal(seconds, 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_sample_is_a_point_while_there_is_room),
        cmocka_unit_test(a_long_run_has_coarser_points_and_the_same_sum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
