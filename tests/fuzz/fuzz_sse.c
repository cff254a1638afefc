/* Property: a stream gives the same events and the same ending whole, split at any one place, and a
 * byte at a time, also when the reader stops after each event; nothing passes the limits. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/model/sse.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_LINE = 200, MAX_EVENT = 300 };

struct events {
    struct sl_buf log;
    bool stops;
};

static void must(bool is_good)
{
    if (!is_good) {
        abort();
    }
}

static bool on_event(void *user_data, const struct sl_sse_event *event)
{
    struct events *events = user_data;
    const uint8_t head[] = { (uint8_t)event->is_raw, (uint8_t)event->is_cut,
                             (uint8_t)(event->data.size >> 8), (uint8_t)event->data.size,
                             (uint8_t)event->name.size };
    must(event->is_raw || event->data.size <= (size_t)MAX_EVENT * 3);
    must(sl_buf_add(&events->log, sl_slice_of(head, sizeof(head))) == SL_OK);
    must(sl_buf_add(&events->log, event->name) == SL_OK);
    must(sl_buf_add(&events->log, event->data) == SL_OK);
    return !events->stops;
}

static enum sl_status feed(struct sl_sse *sse, struct events *events, struct sl_slice bytes)
{
    uint8_t *copy = malloc(bytes.size == 0 ? 1 : bytes.size);
    enum sl_status status = SL_OK;
    must(copy != NULL);
    if (bytes.size > 0) {
        memcpy(copy, bytes.data, bytes.size);
    }
    struct sl_slice rest = sl_slice_of(copy, bytes.size);
    do {
        size_t used = 0;
        status = sl_sse_feed(sse, rest, on_event, events, &used);
        must(used <= rest.size);
        rest = sl_slice_of(rest.data + used, rest.size - used);
    } while (status == SL_AGAIN);
    free(copy);
    return status;
}

static void run(struct sl_slice text, size_t cut, size_t piece, bool stops, struct events *events)
{
    struct sl_sse sse;
    enum sl_status status = SL_OK;
    events->stops = stops;
    sl_buf_init(&events->log, 1 << 26);
    sl_sse_init(&sse, MAX_LINE, MAX_EVENT);
    for (size_t at = 0; at < text.size && status == SL_OK;) {
        size_t n = at < cut ? cut - at : text.size - at;
        n = n > piece ? piece : n;
        status = feed(&sse, events, sl_slice_of(text.data + at, n));
        at += n;
    }
    if (status == SL_OK) {
        do {
            status = sl_sse_finish(&sse, on_event, events);
        } while (status == SL_AGAIN);
    }
    const uint8_t last = (uint8_t)status;
    must(sl_buf_add_byte(&events->log, last) == SL_OK);
    sl_sse_done(&sse);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 4096) {
        return 0;
    }
    const struct sl_slice text = sl_slice_of(data + 1, size - 1);
    const size_t cut = data[0] % size;
    struct events whole;
    struct events other[3];
    run(text, 0, SIZE_MAX, false, &whole);
    run(text, cut, SIZE_MAX, false, &other[0]);
    run(text, 0, 1, false, &other[1]);
    run(text, cut, 7, true, &other[2]);
    for (size_t i = 0; i < SL_COUNT(other); i++) {
        must(sl_slice_equal(sl_buf_slice(&whole.log), sl_buf_slice(&other[i].log)));
        sl_buf_done(&other[i].log);
    }
    sl_buf_done(&whole.log);
    return 0;
}
