/* What event_channel.c and event_cursor.c share: the inside of a log. */
#ifndef SL_RUNTIME_BASE_EVENT_LOG_H
#define SL_RUNTIME_BASE_EVENT_LOG_H

#include "runtime/base/event_channel.h"

struct sl_event_channel {
    struct sl_loop *loop;
    struct sl_event_channel_options options;
    unsigned n_refs;                 /* besides the cursors */
    struct sl_segment *first, *last; /* the log; each has a reference */
    struct sl_segment *open;         /* reserved from, nothing committed yet: not in the log */
    struct sl_segment *spare;        /* for the end without memory; NULL: none, or opened */
    size_t next_block_bytes;
    size_t held_bytes;
    uint64_t send_share; /* of the process's send queues: what the foreground has not read */
    uint64_t end;        /* log offset behind the last byte */
    uint64_t last_sequence;
    uint64_t shown_end;          /* log offset behind what readers get */
    struct sl_event_place shown; /* is_hiding: the same as a place */
    size_t tail_bytes;           /* of the last event, when it has no sequence */
    struct sl_event_lag most;    /* the foreground cursor was behind, when it was last looked at */
    struct sl_event_cursor *cursors;
    struct sl_event_cursor *foreground;
    struct sl_event_cursor *next_to_wake; /* inside the wake task */
    struct sl_event_cursor *keeper;       /* wanted the oldest bytes, when that was looked for */
    unsigned n_waiting;                   /* cursors with wants_wake */
    struct sl_task wake;
    bool is_waking;
    bool is_full;   /* the producer was told to stop */
    bool is_hiding; /* otherwise readers get everything */
    bool is_held;   /* whatever the foreground cursor does */
    bool is_ended;
    bool must_tell_writable;
    struct { /* event_past.c */
        bool is_on;
        bool is_behind;    /* it was past its mark, and not at half of it since */
        uint64_t since_ns; /* it is past its mark; 0: it is not */
        uint64_t n;
        void (*on_past)(void *user_data);
        void *user_data;
    } spill;
};

/* Bytes of the event at `event`: what its gRPC prefix says, and the prefix. */
static inline size_t sl_event_size(const uint8_t *event)
{
    return SL_EVENT_PREFIX_BYTES + ((size_t)event[1] << 24 | (size_t)event[2] << 16 |
                                    (size_t)event[3] << 8 | (size_t)event[4]);
}

/* The next event goes into a new segment. False: no memory. */
bool sl_event_channel_open_new(struct sl_event_channel *channel, size_t size_bytes);
/* The foreground's mark now, in bytes. */
uint64_t sl_event_channel_mark(const struct sl_event_channel *channel);
/* Of one that spills: something was appended, shown or taken, or the mark has changed. */
void sl_event_channel_look_past(struct sl_event_channel *channel);
/* Cursors that wait are told at the end of the turn. */
void sl_event_channel_wake_later(struct sl_event_channel *channel);
/* So is the producer, when nothing holds it back any more. */
void sl_event_channel_release_later(struct sl_event_channel *channel);
void sl_event_channel_trim(struct sl_event_channel *channel);
uint64_t sl_event_channel_floor_offset(const struct sl_event_channel *channel);
/* The foreground cursor takes something, or goes: it is as far behind as it will be. */
void sl_event_channel_note_lag(struct sl_event_channel *channel);
/* A cursor has taken something. May call on_writable. */
void sl_event_channel_moved(struct sl_event_channel *channel, bool is_foreground);
void sl_event_channel_add_cursor(struct sl_event_channel *channel, struct sl_event_cursor *cursor);
/* May free the channel. */
void sl_event_channel_remove_cursor(
    struct sl_event_channel *channel, struct sl_event_cursor *cursor);
void sl_event_cursor_set_waiting(struct sl_event_cursor *cursor, bool is_waiting);

#endif
