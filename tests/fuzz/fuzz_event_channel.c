/* Property: whatever is emitted, read, opened and closed in any order, every cursor sees exactly
 * the bytes that follow its start, in order, until it is lost; the foreground is never lost; the
 * producer is told to go on whenever it was told to stop and the foreground has read everything. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/event_channel.h"
#include "runtime/base/mem.h"
#include "tests/fake/fake_loop.h"
#include "tests/fuzz/fuzz.h"

enum { N_CURSORS = 3, MAX_EVENTS = 4000, ROOM_BYTES = 70000 };

struct reader {
    struct sl_event_cursor cursor;
    bool is_open;
    uint64_t offset; /* of the next byte, in the log as the model has it */
    int n_woken;
};

static struct {
    struct sl_fake_loop fake;
    struct sl_event_channel *channel;
    struct reader readers[N_CURSORS];
    uint64_t offsets[MAX_EVENTS + 1]; /* [n]: log offset behind event n */
    uint64_t n_events;
    bool is_held;
} model;

static void require(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

static void on_writable(void *user_data)
{
    (void)user_data;
    require(model.is_held);
    model.is_held = false;
}

static void on_readable(struct sl_event_cursor *cursor)
{
    struct reader *reader = SL_CONTAINER(cursor, struct reader, cursor);
    require(reader->is_open);
    reader->n_woken++;
}

/* The byte of the log at `offset`: a function of the place alone, but for the prefixes. */
static uint8_t byte_at(uint64_t offset)
{
    return (uint8_t)(offset * 31 >> 3);
}

static void emit(size_t size, size_t slack)
{
    uint8_t *room = NULL;
    if (model.n_events == MAX_EVENTS || sl_event_channel_is_ended(model.channel)) {
        return;
    }
    require(sl_event_channel_reserve(model.channel, size + slack, &room) == SL_OK);
    const uint64_t offset = model.offsets[model.n_events];
    const size_t payload = size - SL_EVENT_PREFIX_BYTES;
    for (size_t i = 0; i < size; i++) {
        room[i] = byte_at(offset + i);
    }
    room[1] = (uint8_t)(payload >> 24);
    room[2] = (uint8_t)(payload >> 16);
    room[3] = (uint8_t)(payload >> 8);
    room[4] = (uint8_t)payload;
    model.n_events++;
    model.offsets[model.n_events] = offset + size;
    if (sl_event_channel_commit(model.channel, size)) {
        model.is_held = true;
    }
    require(sl_event_channel_last_sequence(model.channel) == model.n_events);
}

/* Number of the event that the byte at `offset` belongs to. */
static uint64_t event_of(uint64_t offset)
{
    uint64_t low = 1;
    uint64_t high = model.n_events;
    while (low < high) {
        const uint64_t middle = (low + high) / 2;
        low = model.offsets[middle] <= offset ? middle + 1 : low;
        high = model.offsets[middle] <= offset ? high : middle;
    }
    return low;
}

static void check_bytes(struct reader *reader, const uint8_t *bytes, size_t n)
{
    uint64_t event = n == 0 ? 1 : event_of(reader->offset);
    for (size_t i = 0; i < n; i++) {
        const uint64_t offset = reader->offset + i;
        event += model.offsets[event] <= offset ? 1 : 0;
        const bool is_length = offset - model.offsets[event - 1] - 1 < 4;
        require(is_length || bytes[i] == byte_at(offset));
    }
    reader->offset += n;
    const struct sl_event_cursor *cursor = &reader->cursor;
    require(
        cursor->sequence <= model.n_events && model.offsets[cursor->sequence] <= reader->offset);
    require(
        cursor->sequence == model.n_events || model.offsets[cursor->sequence + 1] > reader->offset);
    require(
        sl_event_cursor_at_border(cursor) == (model.offsets[cursor->sequence] == reader->offset));
}

static void read_some(struct reader *reader, size_t max, bool by_peek)
{
    static uint8_t room[ROOM_BYTES];
    bool is_last = false;
    struct sl_segment *segment = NULL;
    if (!reader->is_open) {
        return;
    }
    if (by_peek) {
        const struct sl_slice bytes =
            sl_event_cursor_peek(&reader->cursor, max, (max & 1) != 0, &segment);
        if (bytes.size > 0) {
            sl_event_cursor_skip(&reader->cursor, bytes.size);
            check_bytes(reader, bytes.data, bytes.size); /* held: a segment is kept by its cursor */
        }
        require((max & 1) == 0 || bytes.size == 0 || sl_event_cursor_at_border(&reader->cursor));
        return;
    }
    const size_t n = sl_event_cursor_ready(&reader->cursor, max, &is_last);
    require(n <= max);
    sl_event_cursor_take(&reader->cursor, room, n);
    check_bytes(reader, room, n);
    const bool is_at_end = reader->offset == model.offsets[model.n_events];
    require(is_last == (is_at_end && sl_event_channel_is_ended(model.channel)));
    require(n > 0 || is_at_end || reader->cursor.is_lost || max == 0);
    require(reader->cursor.kind == SL_CURSOR_OBSERVER || !reader->cursor.is_lost);
    if (reader->cursor.kind == SL_CURSOR_FOREGROUND && is_at_end) {
        require(sl_fake_loop_run(&model.fake)); /* a changed mark is told at the end of the turn */
        require(!model.is_held);
    }
}

static void open_or_close(struct reader *reader, enum sl_cursor_kind kind, uint8_t place)
{
    if (reader->is_open) {
        sl_event_cursor_close(&reader->cursor);
        reader->is_open = false;
        return;
    }
    const uint64_t floor = sl_event_channel_floor(model.channel);
    const uint64_t after = floor - 1 + place % (model.n_events + 2 - floor);
    const enum sl_status status =
        sl_event_cursor_open(&reader->cursor, model.channel, kind, after, on_readable);
    require(status == SL_OK || (status == SL_ALREADY_EXISTS && kind == SL_CURSOR_FOREGROUND));
    if (status == SL_OK) {
        reader->is_open = true;
        reader->offset = model.offsets[after];
    }
}

static void step(uint8_t op, uint8_t argument)
{
    struct reader *reader = &model.readers[op / 8 % N_CURSORS];
    switch (op % 8) {
    case 0:
    case 1:
        emit(SL_EVENT_PREFIX_BYTES + (size_t)argument, op & 0x80 ? 700 : 0);
        break;
    case 2:
        emit(SL_EVENT_PREFIX_BYTES + (size_t)argument * 256, 0);
        break;
    case 3:
    case 4:
        read_some(reader, op & 0x80 ? (size_t)argument * 200 : argument, (op & 0x40) != 0);
        break;
    case 5:
        open_or_close(reader, op & 0x40 ? SL_CURSOR_FOREGROUND : SL_CURSOR_OBSERVER, argument);
        break;
    case 6:
        require(sl_fake_loop_run(&model.fake));
        break;
    default:
        if (argument == 0) {
            sl_event_channel_end(model.channel);
            model.is_held = false;
        } else {
            sl_event_channel_set_mark(model.channel, argument * 64U, argument);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    memset(&model, 0, sizeof(model));
    sl_fake_loop_init(&model.fake);
    const struct sl_event_channel_options options = { .mark_bytes = 1U + data[0] * 64U,
                                                      .mark_events = 1U + data[1],
                                                      .window_bytes = data[0] % 4 * 8192U,
                                                      .on_writable = on_writable };
    require(sl_event_channel_new(&model.fake.base, &options, &model.channel) == SL_OK);
    for (size_t i = 2; i + 1 < size; i += 2) {
        step(data[i], data[i + 1]);
    }
    const bool gives_up_first = (data[1] & 1) != 0;
    if (gives_up_first) {
        model.channel = sl_event_channel_unref(model.channel);
    }
    for (size_t i = 0; i < N_CURSORS; i++) {
        if (model.readers[i].is_open) {
            sl_event_cursor_close(&model.readers[i].cursor);
        }
    }
    require(sl_fake_loop_run(&model.fake));
    require(!model.is_held || gives_up_first);
    model.channel = sl_event_channel_unref(model.channel);
    sl_fake_loop_done(&model.fake);
    return 0;
}
