/* A remote cursor: reads the log of a run whose loop is another one.
 *
 *   owner's loop                                reader's loop
 *   cursor ─▶ (segment, from, to)* ──post──▶ ranges ─▶ _ready, _take
 *          ◀────────────── credit ──post──
 *
 * The owner posts at most once a turn and keeps at most 64 KiB (one event always fits) on the way.
 * Segments are counted, so no byte is copied between the loops. */
#ifndef SL_RUNTIME_BASE_EVENT_RELAY_H
#define SL_RUNTIME_BASE_EVENT_RELAY_H

#include "runtime/base/event_channel.h"

enum { SL_RELAY_CREDIT_BYTES = 64 * 1024 };

struct sl_event_relay;

/* Makes the reader's end; nothing flows before _attach. on_readable is called on the reader's loop,
 * at the end of a turn that brought something after _ready said 0. Owns: the reader; end it with
 * _close. Thread: reader. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_event_relay_new(
    struct sl_loop *reader,
    struct sl_loop *owner,
    void (*on_readable)(void *user_data),
    void *user_data,
    struct sl_event_relay **ret_relay);

/* Joins it to a log. Called once, from a task that the reader posted to the owner's loop before it
 * calls _close. What is on the way counts as read for the mark of a foreground cursor.
 * Thread: owner. Fails: as sl_event_cursor_open; the relay then stays without a log. */
SL_CHECK enum sl_status sl_event_relay_attach(
    struct sl_event_relay *relay,
    struct sl_event_channel *channel,
    enum sl_cursor_kind kind,
    uint64_t after_sequence);

/* As sl_event_cursor_ready and _take. Thread: reader. */
size_t sl_event_relay_ready(struct sl_event_relay *relay, size_t max, bool *ret_is_last);
void sl_event_relay_take(struct sl_event_relay *relay, uint8_t *dst, size_t n);
/* The observer fell below the window: _ready stays 0 from here on. */
bool sl_event_relay_is_lost(const struct sl_event_relay *relay);
/* Then: sequence of the oldest event that was held when it fell. */
uint64_t sl_event_relay_floor(const struct sl_event_relay *relay);
bool sl_event_relay_at_border(const struct sl_event_relay *relay);
uint64_t sl_event_relay_sequence(const struct sl_event_relay *relay);

/* Memory of any relay, but for the segments that are on the way. Thread: any. */
size_t sl_event_relay_memory(void);

/* The reader goes: on_readable is not called again. Both ends are freed when the other loop has
 * heard of it, so both loops must be alive, or be drained (sl_loop_drain) before they are freed.
 * Thread: reader. */
void sl_event_relay_close(struct sl_event_relay *relay);

#endif
