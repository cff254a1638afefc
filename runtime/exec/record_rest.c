/* A record that rests: what the store is told, and what readers may get meanwhile. */
#include "runtime/exec/record_private.h"

/* From here on nobody gets more than the store has. */
static void add_rest(struct sl_record *record)
{
    struct sl_store_append *append = &record->append;
    record->rest.sent = record->rest.resume;
    sl_buf_init(&record->rest.resume, record->rest.sent.max_bytes);
    record->rest.is_wanted = false;
    record->rest.is_there = true;
    append->rests = true;
    append->state = record->rest.state;
    append->resume = sl_buf_slice(&record->rest.sent);
    if (record->log.durability != SL_STORE_SYNC) {
        sl_event_channel_show(record->cursor.channel, record->sent);
    }
}

bool sl_record_add_state(struct sl_record *record)
{
    struct sl_store_append *append = &record->append;
    append->state = SL_STORE_STATE_ANY;
    append->rests = false;
    if (record->is_alone) {
        return false;
    }
    const struct sl_event_place head = sl_event_channel_head(record->cursor.channel);
    if (record->rest.is_wanted && record->sent.offset == head.offset) {
        add_rest(record);
        return true;
    }
    if (record->rest.is_there) {
        append->state = SL_STORE_STATE_RUNNING;
    }
    return record->rest.is_there && record->rest.is_wake_asked;
}

/* Readers get what they would have got without it. */
void sl_record_rest_ended(struct sl_record *record)
{
    record->rest.is_there = false;
    if (record->log.durability == SL_STORE_SYNC) {
        return;
    }
    if (record->has_end) {
        sl_event_channel_show(record->cursor.channel, record->until);
    } else {
        sl_event_channel_show_all(record->cursor.channel);
    }
}

void sl_record_tell_stored(struct sl_record *record, bool has_rested)
{
    const bool is_awake = record->rest.is_wake_asked && !record->rest.is_there;
    const bool is_awaited = record->awaited != 0 && record->stored >= record->awaited;
    record->rest.is_wake_asked = record->rest.is_wake_asked && !is_awake;
    record->awaited = is_awaited ? 0 : record->awaited;
    sl_record_go_on(record);
    if (is_awaited || is_awake) {
        record->callbacks.on_stored(record->callbacks.user_data);
    } else if (has_rested && record->callbacks.on_rested != NULL) {
        record->callbacks.on_rested(record->callbacks.user_data);
    }
}

/* ---- For the run -------------------------------------------------------------------------------
 */

enum sl_status sl_record_take_up(
    const struct sl_record_options *options,
    struct sl_store_log *log,
    struct sl_record **ret_record)
{
    struct sl_record *record = sl_record_make(options, log->stored);
    if (record == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    record->log = *log;
    *log = (struct sl_store_log){ .durability = SL_STORE_NONE };
    record->state = SL_RECORD_OPEN;
    record->has_begun = true;
    record->stored = record->log.stored;
    record->rest.is_there = true;
    sl_event_channel_show(options->channel, sl_event_channel_head(options->channel));
    *ret_record = record;
    return SL_OK;
}

void sl_record_let_rest(struct sl_record *record, enum sl_store_state state, struct sl_buf *resume)
{
    sl_buf_done(&record->rest.resume);
    record->rest.resume = *resume;
    sl_buf_init(resume, resume->max_bytes);
    record->rest.state = state;
    record->rest.is_wanted = true;
    record->rest.is_wake_asked = false;
    sl_record_go_on(record);
}

bool sl_record_wake(struct sl_record *record)
{
    record->rest.is_wanted = false;
    record->rest.is_wake_asked = record->rest.is_there;
    sl_record_go_on(record);
    return !record->rest.is_wake_asked;
}

bool sl_record_is_resting(const struct sl_record *record)
{
    return record->rest.is_there;
}
