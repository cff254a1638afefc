/* Latencies in logarithmic buckets: 128 a power of two, so that a value is right to 1/128 (0.8 %),
 * from 1 ns to centuries, in one fixed block. Values below 128 are exact. All zero is empty. */
#ifndef SL_SERVICE_CLI_HISTOGRAM_H
#define SL_SERVICE_CLI_HISTOGRAM_H

#include <stdint.h>

enum { SL_HISTOGRAM_BUCKETS = 128 * 58 };

struct sl_histogram {
    uint64_t n, min, max; /* min is 0 while there are none */
    double sum;
    uint64_t buckets[SL_HISTOGRAM_BUCKETS];
};

void sl_histogram_add(struct sl_histogram *histogram, uint64_t value);
/* The same value `n` times; 0 is harmless. */
void sl_histogram_add_n(struct sl_histogram *histogram, uint64_t value, uint64_t n);
/* Adds everything that `other` has. */
void sl_histogram_merge(struct sl_histogram *histogram, const struct sl_histogram *other);
/* The value that `share` (0 to 1) of all are at or below: the greatest of its bucket, never above
 * max; 0 when there are none. */
uint64_t sl_histogram_at(const struct sl_histogram *histogram, double share);
/* 0 when there are none. Exact, not by buckets. */
double sl_histogram_mean(const struct sl_histogram *histogram);
/* The greatest value of bucket `bucket`, below SL_HISTOGRAM_BUCKETS. */
uint64_t sl_histogram_top(uint32_t bucket);

#endif
