#include "runtime/exec/collect.h"

#include "runtime/base/utf8.h"
#include "runtime/exec/encode.h"

void sl_collect_init(
    struct sl_collect *collect,
    struct sl_event_channel *channel,
    size_t window_bytes,
    size_t max_text_bytes)
{
    *collect = (struct sl_collect){ .channel = channel, .window_bytes = window_bytes };
    sl_buf_init(&collect->text, max_text_bytes);
    sl_buf_init(&collect->reasoning, max_text_bytes);
}

void sl_collect_done(struct sl_collect *collect)
{
    sl_buf_done(&collect->text);
    sl_buf_done(&collect->reasoning);
}

/* Adds as much as fits, up to a whole character. */
static void add(struct sl_collect *collect, struct sl_buf *buf, struct sl_slice text)
{
    const size_t left = buf->max_bytes - buf->size;
    const bool is_text = buf == &collect->text;
    if (is_text && collect->is_truncated) {
        return; /* nothing behind a gap */
    }
    if (text.size > left) {
        text.size = sl_utf8_cut(text, left);
        collect->is_truncated |= is_text;
    }
    if (text.size > 0 && sl_buf_add(buf, text) != SL_OK) {
        collect->is_out_of_memory = true;
    }
}

static bool visit(void *user_data, uint64_t sequence, struct sl_slice event)
{
    struct sl_collect *collect = user_data;
    enum sl_encode_text kind = SL_ENCODE_TEXT_DELTA;
    struct sl_slice text;
    (void)sequence;
    if (sl_encode_text_of(event, &kind, &text)) {
        add(collect, kind == SL_ENCODE_TEXT_DELTA ? &collect->text : &collect->reasoning, text);
    }
    return true;
}

void sl_collect_finish(struct sl_collect *collect)
{
    const uint64_t last = sl_event_channel_last_sequence(collect->channel);
    if (!collect->is_off && collect->next_sequence <= last) {
        sl_event_channel_visit(collect->channel, collect->next_sequence, last, visit, collect);
    }
    collect->next_sequence = last + 1;
    collect->pending_bytes = 0;
}

void sl_collect_begin(struct sl_collect *collect)
{
    sl_buf_clear(&collect->text);
    sl_buf_clear(&collect->reasoning);
    collect->is_truncated = false;
    collect->next_sequence = sl_event_channel_last_sequence(collect->channel) + 1;
    collect->pending_bytes = 0;
}

/* So that what is pending never exceeds the window, but for one large event; and that one is in the
 * last segment, which the log keeps in any case. */
void sl_collect_before(struct sl_collect *collect, size_t size_bytes)
{
    if (collect->pending_bytes > 0 && collect->pending_bytes + size_bytes > collect->window_bytes) {
        sl_collect_finish(collect);
    }
}

void sl_collect_after(struct sl_collect *collect, size_t size_bytes)
{
    if (!collect->is_off) {
        collect->pending_bytes += size_bytes;
    }
}
