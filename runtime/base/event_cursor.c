#include "runtime/base/event_log.h"
#include "runtime/base/metrics.h"

/* Log offset behind the last byte of the segment. */
static uint64_t end_of(const struct sl_segment *segment)
{
    return segment->base + segment->used;
}

/* The same, as far as readers get. */
static uint64_t end_in(const struct sl_event_cursor *cursor, const struct sl_segment *segment)
{
    const uint64_t end = end_of(segment);
    const uint64_t shown_end = cursor->channel->shown_end;
    return end < shown_end ? end : shown_end;
}

void sl_event_cursor_set_waiting(struct sl_event_cursor *cursor, bool is_waiting)
{
    if (cursor->wants_wake != is_waiting) {
        cursor->wants_wake = is_waiting;
        cursor->channel->n_waiting += is_waiting ? 1U : -1U;
    }
}

static void move_to(struct sl_event_cursor *cursor, struct sl_segment *segment)
{
    struct sl_segment *left = cursor->segment;
    cursor->segment = sl_segment_ref(segment);
    sl_segment_unref(left);
}

/* Puts the cursor into the segment that has its next byte. False: there is none. */
static bool find_segment(struct sl_event_cursor *cursor)
{
    struct sl_segment *segment = cursor->segment;
    if (segment != NULL && cursor->position < end_of(segment)) {
        return true;
    }
    /* From the next one, unless this one has left the log. */
    segment = segment == NULL || segment->next == NULL ? cursor->channel->first : segment->next;
    while (segment != NULL && cursor->position >= end_of(segment)) {
        segment = segment->next;
    }
    if (segment == NULL || cursor->position < segment->base) {
        return false;
    }
    move_to(cursor, segment);
    return true;
}

/* Bytes from here to the end, or to the gap in front of a cursor that fell behind. */
static uint64_t count_available(const struct sl_event_cursor *cursor)
{
    const struct sl_event_channel *channel = cursor->channel;
    const uint64_t floor = sl_event_channel_floor_offset(channel);
    if (cursor->position >= floor) {
        return channel->shown_end - cursor->position;
    }
    if (cursor->segment == NULL) {
        return 0;
    }
    const uint64_t end = end_of(cursor->segment);
    return (end == floor ? channel->shown_end : end) - cursor->position;
}

/* Notes that there was nothing to give. */
static void wait_or_lose(struct sl_event_cursor *cursor)
{
    if (cursor->position < sl_event_channel_floor_offset(cursor->channel)) {
        if (!cursor->is_lost) {
            sl_limit_reached(SL_LIMIT_window);
        }
        cursor->is_lost = true;
    } else {
        sl_event_cursor_set_waiting(cursor, !cursor->channel->is_ended);
    }
}

/* Finds the place behind event `after_sequence`, which is held or the one before. */
static void seek(struct sl_event_cursor *cursor, uint64_t after_sequence)
{
    struct sl_event_channel *channel = cursor->channel;
    struct sl_segment *segment = channel->first;
    cursor->sequence = after_sequence;
    if (after_sequence == channel->last_sequence) {
        cursor->position = cursor->event_end = channel->end - channel->tail_bytes;
        return;
    }
    while (segment->next != NULL && segment->next->first_sequence <= after_sequence + 1) {
        segment = segment->next;
    }
    uint32_t at = 0;
    for (uint64_t n = segment->first_sequence; n <= after_sequence; n++) {
        at += (uint32_t)sl_event_size(segment->bytes + at);
    }
    cursor->position = cursor->event_end = segment->base + at;
    move_to(cursor, segment);
}

enum sl_status sl_event_cursor_open(
    struct sl_event_cursor *cursor,
    struct sl_event_channel *channel,
    enum sl_cursor_kind kind,
    uint64_t after_sequence,
    void (*on_readable)(struct sl_event_cursor *cursor))
{
    SL_ON_LOOP(channel->loop);
    if (after_sequence > sl_event_channel_shown_sequence(channel)) {
        return SL_OUT_OF_RANGE;
    }
    if (after_sequence + 1 < sl_event_channel_floor(channel)) {
        sl_limit_reached(SL_LIMIT_window);
        return SL_OUT_OF_RANGE;
    }
    if (kind == SL_CURSOR_FOREGROUND && channel->foreground != NULL) {
        return SL_ALREADY_EXISTS;
    }
    *cursor =
        (struct sl_event_cursor){ .channel = channel, .kind = kind, .on_readable = on_readable };
    seek(cursor, after_sequence);
    sl_event_channel_add_cursor(channel, cursor);
    sl_event_cursor_set_waiting(cursor, kind == SL_CURSOR_RECORD);
    return SL_OK;
}

void sl_event_cursor_close(struct sl_event_cursor *cursor)
{
    struct sl_event_channel *channel = cursor->channel;
    if (channel == NULL) {
        return;
    }
    SL_ON_LOOP(channel->loop);
    sl_event_cursor_set_waiting(cursor, false);
    cursor->segment = sl_segment_unref(cursor->segment);
    cursor->channel = NULL;
    sl_event_channel_remove_cursor(channel, cursor);
}

size_t sl_event_cursor_ready(struct sl_event_cursor *cursor, size_t max, bool *ret_is_last)
{
    const uint64_t available = count_available(cursor);
    const size_t ready = available < max ? (size_t)available : max;
    *ret_is_last = false;
    if (available == 0) {
        wait_or_lose(cursor);
    }
    if (!cursor->is_lost) {
        *ret_is_last =
            cursor->channel->is_ended && cursor->position + ready == cursor->channel->shown_end;
    }
    return ready;
}

/* Counts the next `n` bytes, all in the cursor's segment, as read. */
static void advance(struct sl_event_cursor *cursor, uint64_t n)
{
    const struct sl_segment *segment = cursor->segment;
    const uint64_t position = cursor->position + n;
    if (cursor->event_end > cursor->position && cursor->event_end <= position) {
        cursor->sequence++;
    }
    while (cursor->event_end < position) {
        cursor->event_end += sl_event_size(segment->bytes + (cursor->event_end - segment->base));
        cursor->sequence += cursor->event_end <= position ? 1 : 0;
    }
    cursor->position = position;
}

/* `dst` NULL: nothing is copied. */
static void consume(struct sl_event_cursor *cursor, uint8_t *dst, size_t n)
{
    struct sl_event_channel *channel = cursor->channel;
    SL_ON_LOOP(channel->loop);
    if (cursor->kind == SL_CURSOR_FOREGROUND) {
        sl_event_channel_note_lag(channel);
    }
    const struct sl_segment *before = cursor->segment;
    while (n > 0 && find_segment(cursor)) {
        const struct sl_segment *segment = cursor->segment;
        const uint64_t left = end_of(segment) - cursor->position;
        const size_t size = left < n ? (size_t)left : n;
        if (dst != NULL) {
            memcpy(dst, segment->bytes + (cursor->position - segment->base), size);
            dst += size;
        }
        advance(cursor, size);
        n -= size;
    }
    assert(n == 0); /* the caller took more than _ready said */
    if (cursor->segment != before && (before == NULL || before == channel->first)) {
        sl_event_channel_trim(channel);
    }
    sl_event_channel_moved(channel, cursor->kind == SL_CURSOR_FOREGROUND);
}

void sl_event_cursor_take(struct sl_event_cursor *cursor, uint8_t *dst, size_t n)
{
    consume(cursor, dst, n);
}

void sl_event_cursor_skip(struct sl_event_cursor *cursor, size_t n)
{
    consume(cursor, NULL, n);
}

/* Bytes of whole events from the cursor on in its segment: at least one event, then as many as fit.
 */
static size_t measure_whole(const struct sl_event_cursor *cursor, size_t max)
{
    const struct sl_segment *segment = cursor->segment;
    const uint64_t end = end_in(cursor, segment);
    uint64_t whole = cursor->event_end; /* behind the rest of an event of which a part was taken */
    if (whole == cursor->position) {
        whole += sl_event_size(segment->bytes + (whole - segment->base));
    }
    while (whole < end) {
        const uint64_t next = whole + sl_event_size(segment->bytes + (whole - segment->base));
        if (next - cursor->position > max) {
            break;
        }
        whole = next;
    }
    return (size_t)(whole - cursor->position);
}

struct sl_slice sl_event_cursor_peek(
    struct sl_event_cursor *cursor, size_t max, bool whole, struct sl_segment **ret_segment)
{
    if (count_available(cursor) == 0 || !find_segment(cursor)) {
        wait_or_lose(cursor);
        return sl_slice_of(NULL, 0);
    }
    struct sl_segment *segment = cursor->segment;
    const uint64_t left = end_in(cursor, segment) - cursor->position;
    const size_t size = whole ? measure_whole(cursor, max) : left < max ? (size_t)left : max;
    *ret_segment = segment;
    return sl_slice_of(segment->bytes + (cursor->position - segment->base), size);
}

size_t sl_event_cursor_collect(
    struct sl_event_cursor *cursor,
    struct sl_event_place until,
    size_t max_bytes,
    struct sl_event_range *ranges,
    size_t max_ranges,
    struct sl_event_place *ret_end)
{
    size_t n = 0;
    uint64_t at = cursor->position;
    *ret_end = (struct sl_event_place){ .offset = at, .sequence = cursor->sequence };
    if (at >= until.offset || !find_segment(cursor)) {
        return 0;
    }
    const uint64_t most = at + max_bytes;
    for (struct sl_segment *segment = cursor->segment;
         segment != NULL && n < max_ranges && at < until.offset && at < most;
         segment = segment->next) {
        const uint64_t end = end_of(segment);
        const bool is_cut = end >= until.offset;
        ranges[n++] = (struct sl_event_range){
            .segment = segment,
            .from = (uint32_t)(at - segment->base),
            .to = (uint32_t)((is_cut ? until.offset : end) - segment->base),
        };
        at = is_cut ? until.offset : end;
        ret_end->sequence = is_cut                  ? until.sequence
                            : segment->next != NULL ? segment->next->first_sequence - 1
                                                    : cursor->channel->last_sequence;
    }
    ret_end->offset = at;
    return n;
}

void sl_event_cursor_pass(struct sl_event_cursor *cursor, struct sl_event_place place)
{
    SL_ON_LOOP(cursor->channel->loop);
    cursor->position = cursor->event_end = place.offset;
    cursor->sequence = place.sequence;
    (void)find_segment(cursor);
    sl_event_channel_trim(cursor->channel);
}

bool sl_event_cursor_at_border(const struct sl_event_cursor *cursor)
{
    return cursor->position == cursor->event_end;
}
