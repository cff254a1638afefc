#include "runtime/base/event_channel.h"

#include "runtime/base/event_log.h"
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/base/send_total.h"

enum { FIRST_BLOCK_BYTES = 512, LAST_BLOCK_BYTES = 16 * 1024 };

/* ---- Segments -------------------------------------------------------------------------------- */

/* Offset of the oldest byte that is held. */
static uint64_t floor_offset(const struct sl_event_channel *channel)
{
    return channel->first == NULL ? channel->end : channel->first->base;
}

/* An observer, and a foreground that spills, keep what is not further behind than this. */
static uint64_t near_bytes(const struct sl_event_channel *channel)
{
    const uint64_t window = channel->options.window_bytes;
    const uint64_t mark = channel->options.mark_bytes;
    return window > mark ? window : mark;
}

static bool keeps_all(const struct sl_event_channel *channel, const struct sl_event_cursor *cursor)
{
    return cursor->kind == SL_CURSOR_RECORD ||
           (cursor->kind == SL_CURSOR_FOREGROUND && !channel->spill.is_on);
}

/* What of the log somebody may still want: from `*ret_needed` on. False: of the oldest segment,
 * too, which is mostly found out at the cursor that had kept it before. So all cursors together
 * look at each other about twice a segment, however many there are. */
static bool find_needed(struct sl_event_channel *channel, uint64_t *ret_needed)
{
    const uint64_t end = channel->end;
    const uint64_t oldest_end = channel->first->next->base;
    const uint64_t window = channel->options.window_bytes;
    const uint64_t near = near_bytes(channel);
    struct sl_event_cursor *const begin =
        channel->keeper != NULL ? channel->keeper : channel->cursors;
    struct sl_event_cursor *cursor = begin;
    *ret_needed = window < end ? end - window : 0;
    while (cursor != NULL && *ret_needed >= oldest_end) {
        const bool counts = keeps_all(channel, cursor) || end - cursor->position <= near;
        if (counts && cursor->position < *ret_needed) {
            *ret_needed = cursor->position;
            channel->keeper = cursor;
        }
        cursor = cursor->next != NULL ? cursor->next : channel->cursors;
        cursor = cursor == begin ? NULL : cursor;
    }
    return *ret_needed >= oldest_end;
}

void sl_event_channel_trim(struct sl_event_channel *channel)
{
    uint64_t needed;
    if (channel->first == channel->last || !find_needed(channel, &needed)) {
        return; /* the last one is always kept */
    }
    while (channel->first != channel->last && channel->first->next->base <= needed) {
        struct sl_segment *oldest = channel->first;
        channel->first = oldest->next;
        channel->held_bytes -= sizeof(*oldest) + oldest->capacity;
        oldest->next = NULL; /* a cursor may still be in it */
        sl_segment_unref(oldest);
    }
}

static void drop_open(struct sl_event_channel *channel)
{
    if (channel->open != NULL) {
        channel->held_bytes -= sizeof(*channel->open) + channel->open->capacity;
        channel->open = sl_segment_unref(channel->open);
    }
}

/* Makes a segment for the next event; it joins the log with its first commit. */
static enum sl_status open_segment(struct sl_event_channel *channel, size_t size_bytes)
{
    const size_t head = sizeof(struct sl_segment);
    size_t block = channel->next_block_bytes;
    if (size_bytes > UINT32_MAX / 2) {
        return SL_RESOURCE_EXHAUSTED;
    }
    while (block < LAST_BLOCK_BYTES && block - head < size_bytes) {
        block *= 2;
    }
    if (block - head < size_bytes) {
        block = size_bytes + head;
    }
    struct sl_segment *segment = sl_segment_new((uint32_t)(block - head));
    if (segment == NULL) { /* memory is short: just this event, then */
        block = size_bytes + head;
        segment = sl_segment_new((uint32_t)size_bytes);
    }
    if (segment == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    drop_open(channel); /* nothing was ever committed to it */
    channel->open = segment;
    channel->held_bytes += block;
    channel->next_block_bytes = block * 2 < LAST_BLOCK_BYTES ? block * 2 : LAST_BLOCK_BYTES;
    return SL_OK;
}

bool sl_event_channel_open_new(struct sl_event_channel *channel, size_t size_bytes)
{
    return open_segment(channel, size_bytes) == SL_OK;
}

/* The open segment becomes the last one of the log. */
static void join_open(struct sl_event_channel *channel)
{
    struct sl_segment *segment = SL_TAKE(channel->open);
    segment->base = channel->end;
    segment->first_sequence = channel->last_sequence + 1;
    if (channel->last == NULL) {
        channel->first = segment;
    } else {
        channel->last->next = segment;
    }
    channel->last = segment;
    sl_event_channel_trim(channel);
}

/* ---- Wake-ups -------------------------------------------------------------------------------- */

void sl_event_channel_wake_later(struct sl_event_channel *channel)
{
    if (channel->n_waiting > 0 || channel->must_tell_writable) {
        sl_loop_defer(channel->loop, &channel->wake);
    }
}

static void free_if_unused(struct sl_event_channel *channel)
{
    if (channel->n_refs > 0 || channel->cursors != NULL || channel->is_waking) {
        return;
    }
    sl_loop_undefer(channel->loop, &channel->wake);
    drop_open(channel);
    channel->spare = sl_segment_unref(channel->spare);
    while (channel->first != NULL) {
        struct sl_segment *next = channel->first->next;
        channel->first->next = NULL; /* a socket may still have it */
        sl_segment_unref(channel->first);
        channel->first = next;
    }
    sl_free(channel);
}

static void tell_writable(struct sl_event_channel *channel)
{
    channel->must_tell_writable = false;
    if (channel->options.on_writable != NULL && !channel->is_ended) {
        channel->options.on_writable(channel->options.user_data);
    }
}

/* Tells each waiting cursor once, even if its callback brings new events about: those are for the
 * next round. Callbacks may close any cursor and give up the channel. */
static void run_wake(struct sl_task *task)
{
    struct sl_event_channel *channel = SL_CONTAINER(task, struct sl_event_channel, wake);
    channel->is_waking = true;
    if (channel->must_tell_writable) {
        tell_writable(channel);
    }
    struct sl_event_cursor *cursor = channel->cursors;
    while (cursor != NULL) {
        channel->next_to_wake = cursor->next;
        const bool is_record = cursor->kind == SL_CURSOR_RECORD;
        const bool has_news = cursor->position < channel->shown_end || channel->is_ended ||
                              (is_record && cursor->position < channel->end);
        if (cursor->wants_wake && has_news) {
            sl_event_cursor_set_waiting(cursor, is_record);
            cursor->on_readable(cursor);
        }
        cursor = channel->next_to_wake;
    }
    channel->is_waking = false;
    free_if_unused(channel);
}

/* ---- Life ------------------------------------------------------------------------------------ */

enum sl_status sl_event_channel_new(
    struct sl_loop *loop,
    const struct sl_event_channel_options *options,
    struct sl_event_channel **ret_channel)
{
    SL_ON_LOOP(loop);
    struct sl_event_channel *channel = sl_calloc(1, sizeof(*channel));
    if (channel == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    if (options->spare_bytes > 0) {
        channel->spare = sl_segment_new(options->spare_bytes);
        if (channel->spare == NULL) {
            (void)sl_free(channel);
            return SL_RESOURCE_EXHAUSTED;
        }
    }
    channel->loop = loop;
    channel->options = *options;
    channel->n_refs = 1;
    channel->last_sequence = options->after_sequence;
    channel->wake.run = run_wake;
    channel->next_block_bytes = FIRST_BLOCK_BYTES;
    *ret_channel = channel;
    return SL_OK;
}

struct sl_event_channel *sl_event_channel_ref(struct sl_event_channel *channel)
{
    SL_ON_LOOP(channel->loop);
    channel->n_refs++;
    return channel;
}

struct sl_event_channel *sl_event_channel_unref(struct sl_event_channel *channel)
{
    if (channel == NULL) {
        return NULL;
    }
    SL_ON_LOOP(channel->loop);
    channel->n_refs--;
    if (channel->n_refs == 0) {
        sl_event_channel_detach_producer(channel);
        sl_event_channel_end(channel);
        free_if_unused(channel);
    }
    return NULL;
}

void sl_event_channel_detach_producer(struct sl_event_channel *channel)
{
    channel->options.on_writable = NULL;
    channel->must_tell_writable = false;
}

/* ---- The producer ---------------------------------------------------------------------------- */

enum sl_status
sl_event_channel_reserve(struct sl_event_channel *channel, size_t size_bytes, uint8_t **ret_room)
{
    SL_ON_LOOP(channel->loop);
    if (channel->is_ended) {
        return SL_CANCELLED;
    }
    struct sl_segment *segment = channel->open != NULL ? channel->open : channel->last;
    if (segment == NULL || segment->capacity - segment->used < size_bytes) {
        SL_TRY(open_segment(channel, size_bytes));
        segment = channel->open;
    }
    *ret_room = segment->bytes + segment->used;
    return SL_OK;
}

uint64_t sl_event_channel_mark(const struct sl_event_channel *channel)
{
    const struct sl_event_channel_options *options = &channel->options;
    const bool is_short = options->mark_bytes > SL_SEND_LEAST_MARK &&
                          options->send_total_bytes > 0 &&
                          sl_send_total_is_over(options->send_total_bytes);
    return is_short ? SL_SEND_LEAST_MARK : options->mark_bytes;
}

static void note_unread(struct sl_event_channel *channel)
{
    const struct sl_event_cursor *cursor = channel->foreground;
    if (channel->options.send_total_bytes > 0) {
        const uint64_t unread = cursor == NULL ? 0 : channel->end - cursor->position;
        const bool is_in_store = channel->spill.is_on && unread > near_bytes(channel);
        sl_send_total_note(&channel->send_share, is_in_store ? 0 : unread);
    }
}

static bool
is_above_mark(const struct sl_event_channel *channel, const struct sl_event_cursor *cursor)
{
    return channel->end - cursor->position >= sl_event_channel_mark(channel) ||
           channel->last_sequence - cursor->sequence >= channel->options.mark_events;
}

/* Which of them has stopped the producer. */
static void count_mark(const struct sl_event_channel *channel, const struct sl_event_cursor *cursor)
{
    const uint64_t bytes = channel->end - cursor->position;
    sl_limit_reached(
        bytes >= channel->options.mark_bytes      ? SL_LIMIT_buffer
        : bytes >= sl_event_channel_mark(channel) ? SL_LIMIT_send_total
                                                  : SL_LIMIT_buffer_events);
}

bool sl_event_channel_open_spare(struct sl_event_channel *channel)
{
    SL_ON_LOOP(channel->loop);
    if (channel->spare == NULL || channel->is_ended) {
        return false;
    }
    drop_open(channel);
    channel->open = SL_TAKE(channel->spare);
    channel->held_bytes += sizeof(*channel->open) + channel->open->capacity;
    return true;
}

bool sl_event_channel_commit(struct sl_event_channel *channel, size_t size_bytes)
{
    SL_ON_LOOP(channel->loop);
    if (channel->open != NULL) {
        join_open(channel);
    }
    struct sl_segment *segment = channel->last;
    assert(size_bytes <= segment->capacity - segment->used);
    assert(sl_event_size(segment->bytes + segment->used) == size_bytes);
    segment->used += (uint32_t)size_bytes;
    channel->end += size_bytes;
    if (!channel->is_hiding) {
        channel->shown_end = channel->end;
    }
    channel->last_sequence++;
    if (channel->n_waiting > 0) {
        sl_loop_defer(channel->loop, &channel->wake);
    }
    note_unread(channel);
    const struct sl_event_cursor *cursor = channel->foreground;
    if (channel->spill.is_on) {
        sl_event_channel_look_past(channel);
    } else if (cursor != NULL && !channel->is_full && is_above_mark(channel, cursor)) {
        channel->is_full = true;
        count_mark(channel, cursor);
        channel->must_tell_writable = false; /* "go on" was not said yet, and is no longer true */
    }
    return channel->is_full;
}

void sl_event_channel_end(struct sl_event_channel *channel)
{
    SL_ON_LOOP(channel->loop);
    if (!channel->is_ended) {
        channel->is_ended = true;
        channel->is_full = channel->is_held = false;
        drop_open(channel);
        channel->spare = sl_segment_unref(channel->spare);
        sl_event_channel_wake_later(channel);
    }
}

bool sl_event_channel_is_ended(const struct sl_event_channel *channel)
{
    return channel->is_ended;
}

bool sl_event_channel_is_full(const struct sl_event_channel *channel)
{
    return channel->is_full;
}

uint64_t sl_event_channel_last_sequence(const struct sl_event_channel *channel)
{
    return channel->last_sequence;
}

uint64_t sl_event_channel_floor(const struct sl_event_channel *channel)
{
    return channel->first == NULL ? channel->last_sequence + 1 : channel->first->first_sequence;
}

void sl_event_channel_note_lag(struct sl_event_channel *channel)
{
    const struct sl_event_cursor *cursor = channel->foreground;
    if (cursor == NULL) {
        return;
    }
    const uint64_t bytes = channel->end - cursor->position;
    const uint64_t events = channel->last_sequence - cursor->sequence;
    struct sl_event_lag *most = &channel->most;
    most->bytes = bytes > most->bytes ? bytes : most->bytes;
    most->events = events > most->events ? events : most->events;
}

struct sl_event_lag sl_event_channel_lag(const struct sl_event_channel *channel)
{
    const struct sl_event_cursor *cursor = channel->foreground;
    return cursor == NULL
               ? (struct sl_event_lag){ 0 }
               : (struct sl_event_lag){ .bytes = channel->end - cursor->position,
                                        .events = channel->last_sequence - cursor->sequence };
}

struct sl_event_lag sl_event_channel_most_lag(struct sl_event_channel *channel)
{
    SL_ON_LOOP(channel->loop);
    sl_event_channel_note_lag(channel);
    return channel->most;
}

size_t sl_event_channel_bytes(const struct sl_event_channel *channel)
{
    return channel->held_bytes;
}

/* Frees the producer when the foreground cursor is at half of both marks, or gone. */
static bool release(struct sl_event_channel *channel)
{
    const struct sl_event_cursor *cursor = channel->foreground;
    if (!channel->is_full || channel->is_held) {
        return false;
    }
    if (cursor != NULL && !channel->spill.is_on &&
        (channel->end - cursor->position > sl_event_channel_mark(channel) / 2 ||
         channel->last_sequence - cursor->sequence > channel->options.mark_events / 2)) {
        return false;
    }
    channel->is_full = false;
    return true;
}

void sl_event_channel_release_later(struct sl_event_channel *channel)
{
    if (release(channel)) {
        channel->must_tell_writable = true;
        sl_event_channel_wake_later(channel);
    }
}

void sl_event_channel_set_mark(
    struct sl_event_channel *channel, uint32_t mark_bytes, uint32_t mark_events)
{
    SL_ON_LOOP(channel->loop);
    channel->options.mark_bytes = mark_bytes;
    channel->options.mark_events = mark_events;
    sl_event_channel_look_past(channel);
    sl_event_channel_release_later(channel);
}

void sl_event_channel_visit(
    struct sl_event_channel *channel,
    uint64_t from,
    uint64_t to,
    bool (*visit)(void *user_data, uint64_t sequence, struct sl_slice event),
    void *user_data)
{
    SL_ON_LOOP(channel->loop);
    for (const struct sl_segment *segment = channel->first; segment != NULL;
         segment = segment->next) {
        if (segment->next != NULL && segment->next->first_sequence <= from) {
            continue;
        }
        uint64_t sequence = segment->first_sequence;
        for (uint32_t at = 0; at < segment->used; sequence++) {
            const size_t size = sl_event_size(segment->bytes + at);
            if (sequence > to) {
                return;
            }
            if (sequence >= from &&
                !visit(user_data, sequence, sl_slice_of(segment->bytes + at, size))) {
                return;
            }
            at += (uint32_t)size;
        }
    }
}

/* ---- For the cursors ------------------------------------------------------------------------- */

uint64_t sl_event_channel_floor_offset(const struct sl_event_channel *channel)
{
    return floor_offset(channel);
}

void sl_event_channel_moved(struct sl_event_channel *channel, bool is_foreground)
{
    if (!is_foreground) {
        return;
    }
    note_unread(channel);
    sl_event_channel_look_past(channel);
    if (release(channel)) {
        tell_writable(channel);
    }
}

void sl_event_channel_add_cursor(struct sl_event_channel *channel, struct sl_event_cursor *cursor)
{
    cursor->previous = NULL;
    cursor->next = channel->cursors;
    if (cursor->next != NULL) {
        cursor->next->previous = cursor;
    }
    channel->cursors = cursor;
    if (cursor->kind == SL_CURSOR_FOREGROUND) {
        channel->foreground = cursor;
        note_unread(channel);
        sl_event_channel_look_past(channel);
    }
}

void sl_event_channel_remove_cursor(
    struct sl_event_channel *channel, struct sl_event_cursor *cursor)
{
    if (channel->next_to_wake == cursor) {
        channel->next_to_wake = cursor->next;
    }
    if (channel->keeper == cursor) {
        channel->keeper = cursor->next;
    }
    if (cursor->previous == NULL) {
        channel->cursors = cursor->next;
    } else {
        cursor->previous->next = cursor->next;
    }
    if (cursor->next != NULL) {
        cursor->next->previous = cursor->previous;
    }
    if (channel->foreground == cursor) {
        sl_event_channel_note_lag(channel);
        channel->foreground = NULL;
        note_unread(channel);
        sl_event_channel_release_later(channel);
    }
    sl_event_channel_trim(channel);
    free_if_unused(channel);
}
