/* The event log of one run, and how far each of its subscribers has come.
 *
 *   segment ──▶ segment ──▶ segment         512 B, growing to 16 KiB; a larger event gets its own
 *   [1 2 3 4]   [5 6 … 90]  [91 92 ░░░]  ◀── the run packs the next event here: _reserve, _commit
 *                  ▲            ▲
 *                  │            └── cursor of the foreground stream: holds the run back
 *                  └── cursor of an observer: falls behind → the store, or below the window
 *
 * An event is one contiguous range of one segment (5-byte gRPC prefix + StreamEvent bytes) and
 * never changes after commit. Segments are counted; sockets and the store take ranges of many
 * events. Nothing is allocated per event.
 *
 * A segment goes when the window (the last `window_bytes`), the foreground cursor and the observers
 * that are near have moved on. Near is within the window, and within `mark_bytes` where the window
 * is smaller. An observer that is further behind finishes the segment in which it is and is then
 * lost.
 *
 * One producer. Everything here happens on `loop`; a subscriber on another loop is a remote cursor
 * (event_relay.h), which uses a local one on the owner's side. */
#ifndef SL_RUNTIME_BASE_EVENT_CHANNEL_H
#define SL_RUNTIME_BASE_EVENT_CHANNEL_H

#include <stdatomic.h>

#include "runtime/base/loop.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"

enum { SL_EVENT_PREFIX_BYTES = 5 };

/* A counted block of the log. `used` grows only by the producer; what is committed is constant. */
struct sl_segment {
    atomic_uint n_refs;
    uint32_t capacity;
    uint32_t used;
    struct sl_segment *next; /* owner loop only */
    uint64_t base;           /* log offset of byte 0 */
    uint64_t first_sequence; /* of the event at byte 0 */
    uint8_t bytes[];
};

/* An empty segment with at least `capacity` bytes and one reference. NULL: no memory. Thread: any.
 */
SL_CHECK struct sl_segment *sl_segment_new(uint32_t capacity);
struct sl_segment *sl_segment_ref(struct sl_segment *segment);
/* Gives NULL; accepts NULL. Thread: any. */
struct sl_segment *sl_segment_unref(struct sl_segment *segment);

struct sl_event_channel_options {
    uint32_t mark_bytes;   /* foreground mark: 4 KiB to 4 MiB; it may be changed later */
    uint32_t mark_events;  /* 1 to 10,000 */
    uint32_t window_bytes; /* kept for observers that come later; 0: nothing */
    /* With more than this in all send queues of the process the mark is SL_SEND_LEAST_MARK; 0: the
     * log is not counted. */
    uint64_t send_total_bytes;
    uint64_t
        after_sequence;   /* the log begins behind this event, which is not held; 0: at the first */
    uint32_t spare_bytes; /* held back from the start, for sl_event_channel_open_spare(); 0: none */
    /* The foreground cursor fell to half of both marks after commit said "stop". Called from a
     * cursor's take or skip, or at the end of a turn in which it was closed or the mark changed. */
    void (*on_writable)(void *user_data);
    void *user_data;
};

struct sl_event_channel;
struct sl_event_cursor;

/* A place between two events. */
struct sl_event_place {
    uint64_t offset;   /* in the log */
    uint64_t sequence; /* of the event before it */
};

/* Committed bytes of one segment. */
struct sl_event_range {
    struct sl_segment *segment;
    uint32_t from, to;
};

/* Owns: the caller; sl_event_channel_unref(). Thread: loop. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_event_channel_new(
    struct sl_loop *loop,
    const struct sl_event_channel_options *options,
    struct sl_event_channel **ret_channel);
struct sl_event_channel *sl_event_channel_ref(struct sl_event_channel *channel);
/* Gives NULL; accepts NULL. With the last reference the log ends where it is: cursors that are
 * still open are told (on_readable), read the rest and see its end; the memory goes with the last
 * of them. */
struct sl_event_channel *sl_event_channel_unref(struct sl_event_channel *channel);

/* The producer goes: on_writable is never called again. */
void sl_event_channel_detach_producer(struct sl_event_channel *channel);

/* Gives room for the next event: at least `size_bytes` (prefix included), contiguous. The producer
 * packs from `*ret_room` on and may use less than it asked for. Owns: the channel; valid until
 * commit or the next reserve. Thread: loop. Fails: SL_CANCELLED once the log has ended;
 * SL_RESOURCE_EXHAUSTED no memory for a segment. */
SL_CHECK enum sl_status
sl_event_channel_reserve(struct sl_event_channel *channel, size_t size_bytes, uint8_t **ret_room);

/* The next events lie in the spare room, as far as it reaches: for an end that must get through
 * without memory. False: there is none, or it was opened before. Thread: loop. */
bool sl_event_channel_open_spare(struct sl_event_channel *channel);

/* Appends `size_bytes` of what was reserved; it is event number sl_event_channel_last_sequence()
 * + 1. The mark is soft, so that nothing already read from the model is lost: the event is in the
 * log, and `true` tells the producer to stop reading until on_writable. Subscribers are woken once
 * a turn. Thread: loop. Never fails. */
SL_CHECK bool sl_event_channel_commit(struct sl_event_channel *channel, size_t size_bytes);

/* The last event was the terminal one: nothing can be reserved after this; cursors end behind it.
 */
void sl_event_channel_end(struct sl_event_channel *channel);

/* ---- A log that is recorded --------------------------------------------------------------------
 */

/* Behind the last event. */
struct sl_event_place sl_event_channel_head(const struct sl_event_channel *channel);
/* Readers get nothing behind `place` from now on; it is not before what they may have got already.
 * A record's cursor is taken from by sl_event_cursor_collect() alone, which gives everything. */
void sl_event_channel_show(struct sl_event_channel *channel, struct sl_event_place place);
/* Readers get everything again. */
void sl_event_channel_show_all(struct sl_event_channel *channel);
/* Drops what readers do not get. The bytes stay as they are for whoever has a reference: nothing
 * may follow but a tail, and the end. */
void sl_event_channel_cut(struct sl_event_channel *channel);
/* Appends the last event, with its prefix, of a log that cannot be recorded: it has no sequence
 * (AL-5.1). False: no memory, also no spare room. */
bool sl_event_channel_append_tail(struct sl_event_channel *channel, struct sl_slice event);
/* Stops the producer whatever the foreground cursor does, as a mark does, or no longer. */
void sl_event_channel_hold(struct sl_event_channel *channel, bool is_held);
/* Sequence of the last event that readers may get. */
uint64_t sl_event_channel_shown_sequence(const struct sl_event_channel *channel);
/* The last event of a log that has ended, with its prefix; empty: it is not held. */
struct sl_slice sl_event_channel_last_event(const struct sl_event_channel *channel);

bool sl_event_channel_is_ended(const struct sl_event_channel *channel);
/* True while the foreground cursor is above its mark, or the producer is held back. */
bool sl_event_channel_is_full(const struct sl_event_channel *channel);
uint64_t sl_event_channel_last_sequence(const struct sl_event_channel *channel);
/* Sequence of the oldest event that a new cursor can still get; 1 when nothing was dropped. */
uint64_t sl_event_channel_floor(const struct sl_event_channel *channel);
/* What the foreground cursor had not read yet, at most so far. */
struct sl_event_lag {
    uint64_t bytes, events;
};
struct sl_event_lag sl_event_channel_lag(const struct sl_event_channel *channel); /* now */
struct sl_event_lag sl_event_channel_most_lag(struct sl_event_channel *channel);
/* Bytes of all segments held, for the account of the run. */
size_t sl_event_channel_bytes(const struct sl_event_channel *channel);
void sl_event_channel_set_mark(
    struct sl_event_channel *channel, uint32_t mark_bytes, uint32_t mark_events);

/* ---- A foreground that does not hold the producer back (AL-8) -----------------------------------
 */

/* From now on, and before there is a foreground cursor: its mark stops nobody. One that falls
 * further behind than the window and the mark is lost as an observer is. `on_past` (may be NULL) is
 * called, from inside of whatever does it, each time it comes past its mark. Thread: loop. */
void sl_event_channel_spill(
    struct sl_event_channel *channel, void (*on_past)(void *user_data), void *user_data);
/* on_past is not called any more. */
void sl_event_channel_spill_end(struct sl_event_channel *channel);
/* Since when the foreground cursor is past its mark, on the loop's clock; 0: it is not. One that
 * was closed there stays there, until the next one is opened. */
uint64_t sl_event_channel_past_since(const struct sl_event_channel *channel);
/* How often it came there, from half of both marks. */
uint64_t sl_event_channel_n_spills(const struct sl_event_channel *channel);

/* Calls `visit` for each event with a sequence in [from, to] that is still held, oldest first: how
 * the final text is built from log ranges. Stops when it returns false. */
void sl_event_channel_visit(
    struct sl_event_channel *channel,
    uint64_t from,
    uint64_t to,
    bool (*visit)(void *user_data, uint64_t sequence, struct sl_slice event),
    void *user_data);

enum sl_cursor_kind {
    SL_CURSOR_FOREGROUND, /* holds the producer back, unless it spills; at most one */
    SL_CURSOR_OBSERVER,   /* never holds anything back; falls out of the window */
    SL_CURSOR_RECORD      /* keeps what it has not passed; woken in each turn with news */
};

/* One subscriber, embedded in its owner. */
struct sl_event_cursor {
    struct sl_event_channel *channel;
    enum sl_cursor_kind kind;
    struct sl_segment *segment; /* referenced; NULL: at the head of an empty log */
    uint64_t position;          /* log offset of the next byte */
    uint64_t event_end;         /* log offset behind the event that is being taken */
    uint64_t sequence;          /* last event that was taken whole */
    bool is_lost;               /* fell below the window */
    struct sl_event_cursor *next, *previous;
    void (*on_readable)(struct sl_event_cursor *cursor);
    bool wants_wake;
};

/* Opens a cursor behind event `after_sequence` (0: from the start). on_readable is called at the
 * end of a turn in which there is something new (or the log ended), after _ready said 0; never from
 * inside a call of the cursor's owner. Thread: loop. Fails: SL_OUT_OF_RANGE below the floor or
 * beyond what readers get; SL_ALREADY_EXISTS a second foreground cursor. */
SL_CHECK enum sl_status sl_event_cursor_open(
    struct sl_event_cursor *cursor,
    struct sl_event_channel *channel,
    enum sl_cursor_kind kind,
    uint64_t after_sequence,
    void (*on_readable)(struct sl_event_cursor *cursor));
/* Accepts a cursor that was never opened (all zero). The producer is no longer held back by it. */
void sl_event_cursor_close(struct sl_event_cursor *cursor);

/* Bytes that can be taken now, at most `max`. `*ret_is_last`: the log ends behind them. */
size_t sl_event_cursor_ready(struct sl_event_cursor *cursor, size_t max, bool *ret_is_last);
/* Copies the next `n` bytes, n <= what _ready said, and counts them as read. */
void sl_event_cursor_take(struct sl_event_cursor *cursor, uint8_t *dst, size_t n);
/* The next contiguous range without a copy: whole events when `whole` is set (at least one, even if
 * it exceeds `max`). `*ret_segment` is borrowed. Empty slice: nothing now. Count it with _skip. */
struct sl_slice sl_event_cursor_peek(
    struct sl_event_cursor *cursor, size_t max, bool whole, struct sl_segment **ret_segment);
void sl_event_cursor_skip(struct sl_event_cursor *cursor, size_t n);
/* Of a record's cursor: whole events from its place to `until`, at most about `max_bytes` and
 * `max_ranges`, without moving it. Segments are borrowed. `*ret_end`: behind the last of them. 0:
 * nothing is there. */
size_t sl_event_cursor_collect(
    struct sl_event_cursor *cursor,
    struct sl_event_place until,
    size_t max_bytes,
    struct sl_event_range *ranges,
    size_t max_ranges,
    struct sl_event_place *ret_end);
/* Moves it there; the window may drop what is before. */
void sl_event_cursor_pass(struct sl_event_cursor *cursor, struct sl_event_place place);

/* True between two events. */
bool sl_event_cursor_at_border(const struct sl_event_cursor *cursor);

#endif
