#include "service/cli/histogram.h"

enum { STEP_BITS = 6, STEPS = 1 << STEP_BITS };

/* Values below 64 have a bucket each; above, the top 7 bits choose it. */
static uint32_t bucket_of(uint64_t value)
{
    if (value < STEPS) {
        return (uint32_t)value;
    }
    const uint32_t power = 63 - (uint32_t)__builtin_clzll(value);
    const uint32_t step = (uint32_t)(value >> (power - STEP_BITS)) & (STEPS - 1);
    const uint32_t bucket = (power - STEP_BITS + 1) * STEPS + step;
    return bucket < SL_HISTOGRAM_BUCKETS ? bucket : SL_HISTOGRAM_BUCKETS - 1;
}

/* The greatest value of a bucket. */
static uint64_t top_of(uint32_t bucket)
{
    if (bucket < STEPS) {
        return bucket;
    }
    if (bucket == SL_HISTOGRAM_BUCKETS - 1) {
        return UINT64_MAX; /* everything beyond has its place here, too */
    }
    const uint32_t power = bucket / STEPS - 1;
    return ((uint64_t)(bucket % STEPS + STEPS + 1) << power) - 1;
}

void sl_histogram_add(struct sl_histogram *histogram, uint64_t value)
{
    histogram->buckets[bucket_of(value)]++;
    histogram->n++;
    histogram->max = value > histogram->max ? value : histogram->max;
}

uint64_t sl_histogram_at(const struct sl_histogram *histogram, double share)
{
    const double wanted = share * (double)histogram->n;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < SL_HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen > 0 && (double)seen >= wanted) {
            const uint64_t top = top_of(i);
            return top < histogram->max ? top : histogram->max;
        }
    }
    return histogram->max;
}
