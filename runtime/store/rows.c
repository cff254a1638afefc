#include "runtime/store/rows.h"

#include "runtime/base/crc32c.h"
#include "runtime/base/event_log.h"

size_t sl_store_event_size(struct sl_slice bytes)
{
    if (bytes.size < SL_EVENT_PREFIX_BYTES) {
        return 0;
    }
    const size_t size = sl_event_size(bytes.data);
    return size <= bytes.size ? size : 0;
}

bool sl_store_count_events(struct sl_slice bytes, uint64_t *ret_n_events)
{
    uint64_t n_events = 0;
    while (bytes.size > 0) {
        const size_t size = sl_store_event_size(bytes);
        if (size == 0) {
            return false;
        }
        bytes = sl_slice_of(bytes.data + size, bytes.size - size);
        n_events++;
    }
    *ret_n_events = n_events;
    return true;
}

static struct sl_slice slice_of(const struct sl_store_range *range, uint32_t from, uint32_t to)
{
    return sl_slice_of(range->segment->bytes + from, to - from);
}

bool sl_store_count_ranges(
    const struct sl_store_range *ranges, size_t n_ranges, uint64_t *ret_n_events, size_t *ret_bytes)
{
    uint64_t n_events = 0;
    size_t n_bytes = 0;
    for (size_t i = 0; i < n_ranges; i++) {
        uint64_t n_here = 0;
        if (ranges[i].from > ranges[i].to || ranges[i].to > ranges[i].segment->capacity ||
            !sl_store_count_events(slice_of(&ranges[i], ranges[i].from, ranges[i].to), &n_here)) {
            return false;
        }
        n_events += n_here;
        n_bytes += ranges[i].to - ranges[i].from;
    }
    *ret_n_events = n_events;
    *ret_bytes = n_bytes;
    return true;
}

/* ---- Cutting -----------------------------------------------------------------------------------
 */

/* Over ranges that are used up. */
static void settle(struct sl_store_cutter *cutter)
{
    while (cutter->at < cutter->n_ranges && cutter->offset == cutter->ranges[cutter->at].to) {
        cutter->at++;
        if (cutter->at < cutter->n_ranges) {
            cutter->offset = cutter->ranges[cutter->at].from;
        }
    }
}

void sl_store_cutter_init(
    struct sl_store_cutter *cutter,
    const struct sl_store_range *ranges,
    size_t n_ranges,
    uint64_t first_sequence,
    uint8_t *scratch) // NOLINT(readability-non-const-parameter): rows are put together there
{
    *cutter = (struct sl_store_cutter){
        .ranges = ranges,
        .n_ranges = n_ranges,
        .scratch = scratch,
        .next_sequence = first_sequence,
        .offset = n_ranges > 0 ? ranges[0].from : 0,
    };
    settle(cutter);
}

bool sl_store_cutter_next(struct sl_store_cutter *cutter, struct sl_store_row *ret_row)
{
    if (cutter->at == cutter->n_ranges) {
        return false;
    }
    const size_t begun_at = cutter->at;
    const uint8_t *begin = cutter->ranges[begun_at].segment->bytes + cutter->offset;
    bool is_copied = false;
    size_t n_bytes = 0;
    uint64_t n_events = 0;
    while (cutter->at < cutter->n_ranges) {
        const struct sl_store_range *range = &cutter->ranges[cutter->at];
        const struct sl_slice rest = slice_of(range, cutter->offset, range->to);
        const size_t size = sl_event_size(rest.data);
        if (n_events > 0 && n_bytes + size > SL_STORE_READ_BYTES) {
            break;
        }
        if (!is_copied && cutter->at != begun_at) {
            memcpy(cutter->scratch, begin, n_bytes);
            is_copied = true;
        }
        if (is_copied) {
            memcpy(cutter->scratch + n_bytes, rest.data, size);
        }
        n_bytes += size;
        n_events++;
        cutter->offset += (uint32_t)size;
        settle(cutter);
    }
    *ret_row = (struct sl_store_row){
        .first_sequence = cutter->next_sequence,
        .last_sequence = cutter->next_sequence + n_events - 1,
        .bytes = sl_slice_of(is_copied ? cutter->scratch : begin, n_bytes),
    };
    cutter->next_sequence += n_events;
    return true;
}

/* ---- Checking ----------------------------------------------------------------------------------
 */

static void put_number(uint8_t room[8], uint64_t number)
{
    for (int i = 0; i < 8; i++) {
        room[i] = (uint8_t)(number >> 8 * i);
    }
}

uint32_t sl_store_row_crc(uint64_t run_number, const struct sl_store_row *row)
{
    uint8_t head[24];
    put_number(head, run_number);
    put_number(head + 8, row->first_sequence);
    put_number(head + 16, row->last_sequence);
    return sl_crc32c(sl_crc32c(0, sl_slice_of(head, sizeof(head))), row->bytes);
}

bool sl_store_row_is_sound(uint64_t run_number, const struct sl_store_row *row, uint32_t crc)
{
    uint64_t n_events = 0;
    return sl_store_row_crc(run_number, row) == crc && row->first_sequence > 0 &&
           row->first_sequence <= row->last_sequence &&
           sl_store_count_events(row->bytes, &n_events) &&
           n_events == row->last_sequence - row->first_sequence + 1;
}

struct sl_store_row
sl_store_row_part(const struct sl_store_row *row, uint64_t after_sequence, size_t max_bytes)
{
    struct sl_slice rest = row->bytes;
    uint64_t sequence = row->first_sequence;
    while (rest.size > 0 && sequence <= after_sequence) {
        const size_t size = sl_event_size(rest.data);
        rest = sl_slice_of(rest.data + size, rest.size - size);
        sequence++;
    }
    struct sl_store_row part = { .first_sequence = sequence, .last_sequence = sequence - 1 };
    size_t n_bytes = 0;
    while (n_bytes < rest.size) {
        const size_t size = sl_event_size(rest.data + n_bytes);
        if (n_bytes > 0 && n_bytes + size > max_bytes) {
            break;
        }
        n_bytes += size;
        part.last_sequence++;
    }
    part.bytes = sl_slice_of(rest.data, n_bytes);
    return part;
}
