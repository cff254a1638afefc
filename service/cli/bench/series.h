/* Throughput over time: a bounded number of points; when they are used up, two become one. */
#ifndef SL_SERVICE_CLI_BENCH_SERIES_H
#define SL_SERVICE_CLI_BENCH_SERIES_H

#include <stddef.h>
#include <stdint.h>

enum { SL_BENCH_POINTS_MAX = 600 };

struct sl_bench_point {
    double seconds; /* its length */
    double n_messages, n_calls, n_errors;
};

/* All zero is empty. */
struct sl_bench_series {
    struct sl_bench_point points[SL_BENCH_POINTS_MAX];
    size_t n;
    size_t n_pooled; /* samples in a full point; 0 is 1 */
    size_t n_last;   /* in the last point */
};

/* Adds what one more sample, of `point->seconds`, has seen. */
void sl_bench_series_add(struct sl_bench_series *series, const struct sl_bench_point *point);

#endif
