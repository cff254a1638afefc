/* A log that is recorded: what its readers do not get yet, and how it ends without a record. */
#include "runtime/base/event_log.h"
#include "runtime/base/mem.h"

struct sl_event_place sl_event_channel_head(const struct sl_event_channel *channel)
{
    return (struct sl_event_place){ .offset = channel->end, .sequence = channel->last_sequence };
}

uint64_t sl_event_channel_shown_sequence(const struct sl_event_channel *channel)
{
    return channel->is_hiding ? channel->shown.sequence : channel->last_sequence;
}

void sl_event_channel_show(struct sl_event_channel *channel, struct sl_event_place place)
{
    SL_ON_LOOP(channel->loop);
    channel->is_hiding = true;
    channel->shown = place;
    channel->shown_end = place.offset;
    sl_event_channel_look_past(channel);
    sl_event_channel_wake_later(channel);
}

void sl_event_channel_show_all(struct sl_event_channel *channel)
{
    SL_ON_LOOP(channel->loop);
    channel->is_hiding = false;
    channel->shown_end = channel->end;
    sl_event_channel_look_past(channel);
    sl_event_channel_wake_later(channel);
}

/* Takes a segment, of which nothing is left, off the log's end. */
static void drop_last(struct sl_event_channel *channel, struct sl_segment *before)
{
    struct sl_segment *last = channel->last;
    channel->held_bytes -= sizeof(*last) + last->capacity;
    channel->last = before;
    if (before == NULL) {
        channel->first = NULL;
    } else {
        before->next = NULL;
    }
    sl_segment_unref(last);
}

static struct sl_segment *find_before(const struct sl_event_channel *channel)
{
    struct sl_segment *before = NULL;
    for (struct sl_segment *segment = channel->first; segment != channel->last;
         segment = segment->next) {
        before = segment;
    }
    return before;
}

void sl_event_channel_cut(struct sl_event_channel *channel)
{
    SL_ON_LOOP(channel->loop);
    const struct sl_event_place place = channel->shown;
    const bool has_hidden = channel->is_hiding && place.offset < channel->end;
    channel->is_hiding = false;
    if (!has_hidden) {
        return;
    }
    while (channel->last != NULL && channel->last->base >= place.offset) {
        drop_last(channel, find_before(channel));
    }
    if (channel->last != NULL) {
        channel->last->used = (uint32_t)(place.offset - channel->last->base);
    }
    channel->end = place.offset;
    channel->last_sequence = place.sequence;
}

bool sl_event_channel_append_tail(struct sl_event_channel *channel, struct sl_slice event)
{
    /* Whoever has a reference still reads what was cut: this goes elsewhere. */
    if (!sl_event_channel_open_new(channel, event.size) && !sl_event_channel_open_spare(channel)) {
        return false;
    }
    if (event.size > channel->open->capacity) {
        return false;
    }
    memcpy(channel->open->bytes, event.data, event.size);
    (void)!sl_event_channel_commit(channel, event.size);
    channel->last_sequence--;
    channel->tail_bytes = event.size;
    return true;
}

struct sl_slice sl_event_channel_last_event(const struct sl_event_channel *channel)
{
    const struct sl_segment *segment = channel->last;
    struct sl_slice event = { .data = NULL };
    for (uint32_t at = 0; segment != NULL && at < segment->used; at += (uint32_t)event.size) {
        event = sl_slice_of(segment->bytes + at, sl_event_size(segment->bytes + at));
    }
    return event;
}

void sl_event_channel_hold(struct sl_event_channel *channel, bool is_held)
{
    SL_ON_LOOP(channel->loop);
    if (channel->is_ended || channel->is_held == is_held) {
        return;
    }
    channel->is_held = is_held;
    if (is_held) {
        channel->is_full = true;
        channel->must_tell_writable = false;
    } else {
        sl_event_channel_release_later(channel);
    }
}
