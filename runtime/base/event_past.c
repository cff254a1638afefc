/* A foreground cursor that does not hold the producer back (AL-8: SPILL, DISCONNECT): when it is
 * past its mark is only noted. */
#include "runtime/base/event_log.h"
#include "runtime/base/metrics.h"

void sl_event_channel_spill(
    struct sl_event_channel *channel, void (*on_past)(void *user_data), void *user_data)
{
    SL_ON_LOOP(channel->loop);
    assert(channel->foreground == NULL && !channel->spill.is_on);
    channel->spill.is_on = true;
    channel->spill.on_past = on_past;
    channel->spill.user_data = user_data;
}

void sl_event_channel_spill_end(struct sl_event_channel *channel)
{
    SL_ON_LOOP(channel->loop);
    channel->spill.on_past = NULL;
}

uint64_t sl_event_channel_past_since(const struct sl_event_channel *channel)
{
    return channel->spill.since_ns;
}

uint64_t sl_event_channel_n_spills(const struct sl_event_channel *channel)
{
    return channel->spill.n;
}

static void note_past(struct sl_event_channel *channel)
{
    if (!channel->spill.is_behind) {
        channel->spill.is_behind = true;
        channel->spill.n++;
        SL_METRIC_ADD(sluice_slow_consumers, 1, "spill");
    }
    if (channel->spill.since_ns == 0) {
        channel->spill.since_ns = sl_loop_now_ns(channel->loop);
        if (channel->spill.on_past != NULL) {
            channel->spill.on_past(channel->spill.user_data);
        }
    }
}

/* What counts is what it could have taken: a slow store is not a slow reader. One event always
 * fits. While there is no cursor it reads from the store, and is as far behind as it was. */
void sl_event_channel_look_past(struct sl_event_channel *channel)
{
    const struct sl_event_cursor *cursor = channel->foreground;
    if (!channel->spill.is_on || cursor == NULL) {
        return;
    }
    const uint64_t bytes = channel->shown_end - cursor->position;
    const uint64_t events = sl_event_channel_shown_sequence(channel) - cursor->sequence;
    const uint64_t most_bytes = sl_event_channel_mark(channel);
    const uint64_t most_events = channel->options.mark_events;
    if ((bytes >= most_bytes && events > 1) || events >= most_events) {
        note_past(channel);
        return;
    }
    channel->spill.since_ns = 0;
    if (bytes <= most_bytes / 2 && events <= most_events / 2) {
        channel->spill.is_behind = false;
    }
}
