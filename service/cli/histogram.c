#include "service/cli/histogram.h"

enum { STEP_BITS = 7, STEPS = 1 << STEP_BITS };

/* Values below 128 have a bucket each; above, the top 8 bits choose it. */
static uint32_t bucket_of(uint64_t value)
{
    if (value < STEPS) {
        return (uint32_t)value;
    }
    const uint32_t power = 63 - (uint32_t)__builtin_clzll(value);
    const uint32_t step = (uint32_t)(value >> (power - STEP_BITS)) & (STEPS - 1);
    return (power - STEP_BITS + 1) * STEPS + step;
}

uint64_t sl_histogram_top(uint32_t bucket)
{
    if (bucket < STEPS) {
        return bucket;
    }
    const uint32_t power = bucket / STEPS - 1;
    return ((uint64_t)(bucket % STEPS + STEPS + 1) << power) - 1; /* the last one wraps to ~0 */
}

void sl_histogram_add_n(struct sl_histogram *histogram, uint64_t value, uint64_t n)
{
    if (n == 0) {
        return;
    }
    histogram->min = histogram->n == 0 || value < histogram->min ? value : histogram->min;
    histogram->max = value > histogram->max ? value : histogram->max;
    histogram->n += n;
    histogram->sum += (double)value * (double)n;
    histogram->buckets[bucket_of(value)] += n;
}

void sl_histogram_add(struct sl_histogram *histogram, uint64_t value)
{
    sl_histogram_add_n(histogram, value, 1);
}

void sl_histogram_merge(struct sl_histogram *histogram, const struct sl_histogram *other)
{
    if (other->n == 0) {
        return;
    }
    histogram->min = histogram->n == 0 || other->min < histogram->min ? other->min : histogram->min;
    histogram->max = other->max > histogram->max ? other->max : histogram->max;
    histogram->n += other->n;
    histogram->sum += other->sum;
    for (uint32_t i = 0; i < SL_HISTOGRAM_BUCKETS; i++) {
        histogram->buckets[i] += other->buckets[i];
    }
}

uint64_t sl_histogram_at(const struct sl_histogram *histogram, double share)
{
    const double wanted = share * (double)histogram->n;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < SL_HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen > 0 && (double)seen >= wanted) {
            const uint64_t top = sl_histogram_top(i);
            return top < histogram->max ? top : histogram->max;
        }
    }
    return histogram->max;
}

double sl_histogram_mean(const struct sl_histogram *histogram)
{
    return histogram->n == 0 ? 0 : histogram->sum / (double)histogram->n;
}
