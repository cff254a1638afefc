/* Latencies in logarithmic buckets: 64 a power of two, so a value is right to 1.6 %, from 1 ns to
 * hours, in one fixed block. */
#ifndef SL_SERVICE_CLI_HISTOGRAM_H
#define SL_SERVICE_CLI_HISTOGRAM_H

#include <stdint.h>

enum { SL_HISTOGRAM_BUCKETS = 64 * 58 };

struct sl_histogram {
    uint64_t n, max, buckets[SL_HISTOGRAM_BUCKETS];
};

void sl_histogram_add(struct sl_histogram *histogram, uint64_t value);
/* The value that `share` (0 to 1) of all are at or below; 0 when there are none. */
uint64_t sl_histogram_at(const struct sl_histogram *histogram, double share);

#endif
