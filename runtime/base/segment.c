#include "runtime/base/event_channel.h"
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"

static uint64_t size_of(const struct sl_segment *segment)
{
    return sizeof(*segment) + segment->capacity;
}

struct sl_segment *sl_segment_new(uint32_t capacity)
{
    struct sl_segment *segment = sl_alloc(sizeof(*segment) + capacity);
    if (segment != NULL) {
        atomic_init(&segment->n_refs, 1);
        segment->capacity = capacity;
        segment->used = 0;
        segment->next = NULL;
        segment->base = 0;
        segment->first_sequence = 0;
        SL_METRIC_ADD(sluice_log_bytes, size_of(segment), NULL);
    }
    return segment;
}

struct sl_segment *sl_segment_ref(struct sl_segment *segment)
{
    (void)atomic_fetch_add_explicit(&segment->n_refs, 1, memory_order_relaxed);
    return segment;
}

struct sl_segment *sl_segment_unref(struct sl_segment *segment)
{
    if (segment != NULL &&
        atomic_fetch_sub_explicit(&segment->n_refs, 1, memory_order_acq_rel) == 1) {
        SL_METRIC_ADD(sluice_log_bytes, -size_of(segment), NULL);
        sl_free(segment);
    }
    return NULL;
}
