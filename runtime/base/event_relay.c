#include "runtime/base/event_relay.h"

#include "runtime/base/event_log.h"
#include "runtime/base/mem.h"

enum { MAX_RANGES = 32 };

/* Committed bytes of one segment, with a reference. */
struct range {
    struct sl_segment *segment;
    uint32_t from, to;
};

struct ranges {
    struct range items[MAX_RANGES];
    size_t n;
};

struct sl_event_relay {
    struct sl_loop *reader_loop;
    struct sl_loop *owner_loop;
    void (*on_readable)(void *user_data);
    void *user_data;
    struct sl_task owner_task; /* credit has come */
    struct sl_task close_task; /* on the owner's loop: the reader has gone */
    struct sl_task reader_task;
    struct sl_task free_task; /* on the reader's loop: the owner knows */
    struct {
        struct sl_event_cursor cursor;
        uint64_t in_flight_bytes;
        bool is_finished; /* the end was told, or the loss */
    } owner;
    struct {
        struct ranges ranges;
        size_t ready_bytes;
        size_t consumed_bytes; /* not given back yet */
        uint64_t event_left;   /* bytes of the event that is being taken */
        uint64_t sequence;
        struct sl_task wake;
        bool wants_wake;
        bool has_started, is_ended, is_lost;
        uint64_t floor; /* when it is lost */
        bool is_owner_blocked;
        bool is_closed;
    } reader;
    struct {
        pthread_mutex_t lock;
        struct ranges ranges; /* on the way */
        uint64_t first_sequence;
        size_t returned_bytes;
        bool has_started, is_ended, is_lost;
        uint64_t floor;
        bool is_owner_blocked; /* it has more, and waits for credit */
        bool is_reader_posted, is_owner_posted;
    } shared;
};

static void lock(struct sl_event_relay *relay)
{
    (void)pthread_mutex_lock(&relay->shared.lock);
}

static void unlock(struct sl_event_relay *relay)
{
    (void)pthread_mutex_unlock(&relay->shared.lock);
}

/* Adds a range and its reference; a neighbour of the last one only makes that longer. */
static bool add_range(struct ranges *ranges, struct range range)
{
    struct range *last = ranges->n == 0 ? NULL : &ranges->items[ranges->n - 1];
    if (last != NULL && last->segment == range.segment && last->to == range.from) {
        last->to = range.to;
        sl_segment_unref(range.segment);
        return true;
    }
    if (ranges->n == MAX_RANGES) {
        return false;
    }
    ranges->items[ranges->n++] = range;
    return true;
}

static void remove_first(struct ranges *ranges, size_t n)
{
    ranges->n -= n;
    memmove(ranges->items, ranges->items + n, ranges->n * sizeof(ranges->items[0]));
}

static void drop_ranges(struct ranges *ranges)
{
    for (size_t i = 0; i < ranges->n; i++) {
        sl_segment_unref(ranges->items[i].segment);
    }
    ranges->n = 0;
}

/* ---- The owner's end ------------------------------------------------------------------------- */

/* Takes from the log what credit and `room` allow. False: there is more. */
static bool collect(struct sl_event_relay *relay, struct ranges *batch, size_t room)
{
    struct sl_event_cursor *cursor = &relay->owner.cursor;
    while (batch->n < room) {
        const uint64_t in_flight = relay->owner.in_flight_bytes;
        const size_t left =
            in_flight < SL_RELAY_CREDIT_BYTES ? (size_t)(SL_RELAY_CREDIT_BYTES - in_flight) : 0;
        struct sl_segment *segment = NULL;
        const struct sl_slice bytes = sl_event_cursor_peek(cursor, left, true, &segment);
        if (bytes.size == 0) {
            return true;
        }
        if (bytes.size > left && in_flight > 0) {
            return false;
        }
        const uint32_t from = (uint32_t)(bytes.data - segment->bytes);
        (void)add_range(
            batch, (struct range){ .segment = sl_segment_ref(segment),
                                   .from = from,
                                   .to = from + (uint32_t)bytes.size });
        relay->owner.in_flight_bytes += bytes.size;
        sl_event_cursor_skip(cursor, bytes.size); /* may bring new events, through on_writable */
    }
    return false;
}

/* Hands over what the log has, and whether it ends there. */
static void pump(struct sl_event_relay *relay)
{
    struct sl_event_cursor *cursor = &relay->owner.cursor;
    if (cursor->channel == NULL || relay->owner.is_finished) {
        return;
    }
    struct ranges batch = { .n = 0 };
    lock(relay);
    const size_t room = MAX_RANGES - relay->shared.ranges.n;
    unlock(relay);
    const bool is_all = collect(relay, &batch, room);
    bool is_last = false;
    if (is_all) {
        (void)sl_event_cursor_ready(cursor, 0, &is_last); /* asks only for the end */
    }
    relay->owner.is_finished = is_last || cursor->is_lost;
    lock(relay);
    for (size_t i = 0; i < batch.n; i++) {
        (void)add_range(&relay->shared.ranges, batch.items[i]); /* the reader only made more room */
    }
    relay->shared.is_ended = is_last;
    relay->shared.is_lost = cursor->is_lost;
    relay->shared.floor = cursor->is_lost ? sl_event_channel_floor(cursor->channel) : 0;
    relay->shared.is_owner_blocked = !is_all;
    const bool is_worth_it = batch.n > 0 || relay->owner.is_finished || !is_all;
    const bool must_post = is_worth_it && !relay->shared.is_reader_posted;
    relay->shared.is_reader_posted |= must_post;
    unlock(relay);
    if (must_post) {
        sl_loop_post(relay->reader_loop, &relay->reader_task);
    }
}

static void on_cursor_readable(struct sl_event_cursor *cursor)
{
    pump(SL_CONTAINER(cursor, struct sl_event_relay, owner.cursor));
}

static void run_owner_task(struct sl_task *task)
{
    struct sl_event_relay *relay = SL_CONTAINER(task, struct sl_event_relay, owner_task);
    lock(relay);
    relay->shared.is_owner_posted = false;
    relay->owner.in_flight_bytes -= relay->shared.returned_bytes;
    relay->shared.returned_bytes = 0;
    unlock(relay);
    pump(relay);
}

static void run_close_task(struct sl_task *task)
{
    struct sl_event_relay *relay = SL_CONTAINER(task, struct sl_event_relay, close_task);
    sl_event_cursor_close(&relay->owner.cursor);
    sl_loop_post(relay->reader_loop, &relay->free_task);
}

enum sl_status sl_event_relay_attach(
    struct sl_event_relay *relay,
    struct sl_event_channel *channel,
    enum sl_cursor_kind kind,
    uint64_t after_sequence)
{
    SL_ON_LOOP(relay->owner_loop);
    SL_TRY(sl_event_cursor_open(
        &relay->owner.cursor, channel, kind, after_sequence, on_cursor_readable));
    lock(relay);
    relay->shared.first_sequence = after_sequence;
    relay->shared.has_started = true;
    unlock(relay);
    pump(relay);
    return SL_OK;
}

/* ---- The reader's end ------------------------------------------------------------------------ */

/* Tells the owner what has been read, when it is worth a message or the owner waits for it. */
static void return_credit(struct sl_event_relay *relay, bool has_made_room)
{
    const bool is_awaited =
        relay->reader.is_owner_blocked && (relay->reader.consumed_bytes > 0 || has_made_room);
    if (!is_awaited && relay->reader.consumed_bytes < SL_RELAY_CREDIT_BYTES / 2) {
        return;
    }
    lock(relay);
    relay->shared.returned_bytes += relay->reader.consumed_bytes;
    const bool must_post = !relay->shared.is_owner_posted;
    relay->shared.is_owner_posted = true;
    unlock(relay);
    relay->reader.consumed_bytes = 0;
    if (must_post) {
        sl_loop_post(relay->owner_loop, &relay->owner_task);
    }
}

/* Moves what is on the way into the reader's own list. */
static void pull(struct sl_event_relay *relay)
{
    size_t n = 0;
    lock(relay);
    while (n < relay->shared.ranges.n) {
        const struct range range = relay->shared.ranges.items[n];
        if (!add_range(&relay->reader.ranges, range)) {
            break;
        }
        relay->reader.ready_bytes += range.to - range.from;
        n++;
    }
    remove_first(&relay->shared.ranges, n);
    if (relay->shared.has_started && !relay->reader.has_started) {
        relay->reader.has_started = true;
        relay->reader.sequence = relay->shared.first_sequence;
    }
    const bool is_all = relay->shared.ranges.n == 0;
    relay->reader.is_ended = relay->shared.is_ended && is_all;
    relay->reader.is_lost = relay->shared.is_lost && is_all;
    relay->reader.floor = relay->shared.floor;
    relay->reader.is_owner_blocked = relay->shared.is_owner_blocked;
    unlock(relay);
    return_credit(relay, n > 0);
}

static bool has_news(const struct sl_event_relay *relay)
{
    return relay->reader.ready_bytes > 0 || relay->reader.is_ended || relay->reader.is_lost;
}

static void run_reader_task(struct sl_task *task)
{
    struct sl_event_relay *relay = SL_CONTAINER(task, struct sl_event_relay, reader_task);
    lock(relay);
    relay->shared.is_reader_posted = false;
    unlock(relay);
    if (relay->reader.is_closed) {
        return;
    }
    pull(relay);
    if (relay->reader.wants_wake && has_news(relay)) {
        sl_loop_defer(relay->reader_loop, &relay->reader.wake);
    }
}

static void run_wake(struct sl_task *task)
{
    struct sl_event_relay *relay = SL_CONTAINER(task, struct sl_event_relay, reader.wake);
    if (relay->reader.wants_wake) {
        relay->reader.wants_wake = false;
        relay->on_readable(relay->user_data);
    }
}

static void run_free_task(struct sl_task *task)
{
    struct sl_event_relay *relay = SL_CONTAINER(task, struct sl_event_relay, free_task);
    drop_ranges(&relay->shared.ranges);
    (void)pthread_mutex_destroy(&relay->shared.lock);
    sl_free(relay);
}

enum sl_status sl_event_relay_new(
    struct sl_loop *reader,
    struct sl_loop *owner,
    void (*on_readable)(void *user_data),
    void *user_data,
    struct sl_event_relay **ret_relay)
{
    SL_ON_LOOP(reader);
    struct sl_event_relay *relay = sl_calloc(1, sizeof(*relay));
    if (relay == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    relay->reader_loop = reader;
    relay->owner_loop = owner;
    relay->on_readable = on_readable;
    relay->user_data = user_data;
    relay->owner_task.run = run_owner_task;
    relay->close_task.run = run_close_task;
    relay->reader_task.run = run_reader_task;
    relay->free_task.run = run_free_task;
    relay->reader.wake.run = run_wake;
    (void)pthread_mutex_init(&relay->shared.lock, NULL);
    *ret_relay = relay;
    return SL_OK;
}

size_t sl_event_relay_ready(struct sl_event_relay *relay, size_t max, bool *ret_is_last)
{
    SL_ON_LOOP(relay->reader_loop);
    if (relay->reader.ready_bytes < max || relay->reader.ready_bytes == 0) {
        pull(relay);
    }
    const size_t ready = relay->reader.ready_bytes < max ? relay->reader.ready_bytes : max;
    *ret_is_last = relay->reader.is_ended && ready == relay->reader.ready_bytes;
    relay->reader.wants_wake = relay->reader.ready_bytes == 0 && !has_news(relay);
    return ready;
}

/* Counts `n` bytes at `bytes` as read; an event begins and ends in one segment. */
static void count_events(struct sl_event_relay *relay, const uint8_t *bytes, uint64_t n)
{
    while (n > 0) {
        if (relay->reader.event_left == 0) {
            relay->reader.event_left = sl_event_size(bytes);
        }
        const uint64_t left = relay->reader.event_left;
        const uint64_t step = left < n ? left : n;
        relay->reader.event_left -= step;
        relay->reader.sequence += relay->reader.event_left == 0 ? 1 : 0;
        bytes += step;
        n -= step;
    }
}

void sl_event_relay_take(struct sl_event_relay *relay, uint8_t *dst, size_t n)
{
    SL_ON_LOOP(relay->reader_loop);
    assert(n <= relay->reader.ready_bytes);
    struct ranges *ranges = &relay->reader.ranges;
    size_t n_empty = 0;
    relay->reader.ready_bytes -= n;
    relay->reader.consumed_bytes += n;
    while (n > 0) {
        struct range *range = &ranges->items[n_empty];
        const uint8_t *bytes = range->segment->bytes + range->from;
        const size_t left = range->to - range->from;
        const size_t size = left < n ? left : n;
        memcpy(dst, bytes, size);
        count_events(relay, bytes, size);
        range->from += (uint32_t)size;
        dst += size;
        n -= size;
        if (range->from == range->to) {
            sl_segment_unref(range->segment);
            n_empty++;
        }
    }
    remove_first(ranges, n_empty);
    return_credit(relay, n_empty > 0);
}

bool sl_event_relay_is_lost(const struct sl_event_relay *relay)
{
    return relay->reader.is_lost && relay->reader.ready_bytes == 0;
}

uint64_t sl_event_relay_floor(const struct sl_event_relay *relay)
{
    return relay->reader.floor;
}

bool sl_event_relay_at_border(const struct sl_event_relay *relay)
{
    return relay->reader.event_left == 0;
}

uint64_t sl_event_relay_sequence(const struct sl_event_relay *relay)
{
    return relay->reader.sequence;
}

void sl_event_relay_close(struct sl_event_relay *relay)
{
    if (relay == NULL) {
        return;
    }
    SL_ON_LOOP(relay->reader_loop);
    relay->reader.is_closed = true;
    sl_loop_undefer(relay->reader_loop, &relay->reader.wake);
    drop_ranges(&relay->reader.ranges);
    sl_loop_post(relay->owner_loop, &relay->close_task);
}

size_t sl_event_relay_memory(void)
{
    return sizeof(struct sl_event_relay);
}
