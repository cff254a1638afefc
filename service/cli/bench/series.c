#include "service/cli/bench/series.h"

static void add(struct sl_bench_point *sum, const struct sl_bench_point *point)
{
    sum->seconds += point->seconds;
    sum->n_messages += point->n_messages;
    sum->n_calls += point->n_calls;
    sum->n_errors += point->n_errors;
}

static void halve(struct sl_bench_series *series)
{
    for (size_t i = 0; i < series->n / 2; i++) {
        struct sl_bench_point sum = series->points[2 * i];
        add(&sum, &series->points[2 * i + 1]);
        series->points[i] = sum;
    }
    series->n /= 2;
    series->n_pooled *= 2;
}

void sl_bench_series_add(struct sl_bench_series *series, const struct sl_bench_point *point)
{
    series->n_pooled = series->n_pooled == 0 ? 1 : series->n_pooled;
    if (series->n > 0 && series->n_last < series->n_pooled) {
        add(&series->points[series->n - 1], point);
        series->n_last++;
        return;
    }
    if (series->n == SL_BENCH_POINTS_MAX) {
        halve(series);
    }
    series->points[series->n++] = *point;
    series->n_last = 1;
}
