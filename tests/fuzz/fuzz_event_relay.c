/* Property: whatever is emitted, read, opened, closed and turned in any order on either loop, every
 * remote reader sees exactly the bytes that follow its start, in order, until it is lost; at most
 * its credit (or one larger event) waits for it; a reader that found nothing is woken once there is
 * something; once both loops are at rest, nobody misses a byte, the end, or the room that was
 * made. Nothing is left behind (LeakSanitizer).
 *
 * Input: three bytes of options, then pairs of operation and argument. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/event_relay.h"
#include "runtime/base/mem.h"
#include "tests/fake/fake_loop.h"
#include "tests/fuzz/fuzz.h"

enum { N_READERS = 3, MAX_EVENTS = 4000, MAX_LOG_BYTES = 1 << 20, MAX_ROUNDS = 1000 };

struct reader {
    struct sl_event_relay *relay; /* NULL: closed */
    struct sl_task attach;
    struct sl_event_relay *attaching; /* the task is under way */
    struct sl_task close;
    bool is_closing; /* the task is under way */
    enum sl_cursor_kind kind;
    uint8_t place;
    bool is_attached;
    bool is_waiting; /* the last look found nothing */
    bool is_ended;   /* the end was told */
    bool is_lost;
    uint64_t offset; /* of the next byte, in the log as the model has it */
    uint64_t sequence;
};

static struct model {
    struct sl_fake_loop owner, reader;
    struct sl_event_channel *channel; /* NULL: the producer has gone */
    struct reader readers[N_READERS];
    uint64_t offsets[MAX_EVENTS + 2]; /* [n]: log offset behind event n */
    uint64_t n_events;
    bool is_held;
    bool is_ended;
    uint8_t log[MAX_LOG_BYTES];
    uint8_t room[MAX_LOG_BYTES];
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

static void on_readable(void *user_data)
{
    struct reader *reader = user_data;
    require(reader->relay != NULL && reader->is_waiting);
    reader->is_waiting = false;
}

/* ---- The owner's loop ------------------------------------------------------------------------ */

static void emit(size_t size)
{
    uint8_t *room = NULL;
    const uint64_t offset = model.offsets[model.n_events];
    if (model.channel == NULL || model.is_ended || model.n_events == MAX_EVENTS ||
        offset + size > MAX_LOG_BYTES) {
        return;
    }
    require(sl_event_channel_reserve(model.channel, size, &room) == SL_OK);
    const size_t payload = size - SL_EVENT_PREFIX_BYTES;
    memset(room, (int)(offset * 31 >> 3 & 0xFF), size);
    room[0] = 0;
    room[1] = (uint8_t)(payload >> 24);
    room[2] = (uint8_t)(payload >> 16);
    room[3] = (uint8_t)(payload >> 8);
    room[4] = (uint8_t)payload;
    memcpy(model.log + offset, room, size);
    model.n_events++;
    model.offsets[model.n_events] = offset + size;
    model.is_held |= sl_event_channel_commit(model.channel, size);
}

static void run_attach(struct sl_task *task)
{
    struct reader *reader = SL_CONTAINER(task, struct reader, attach);
    struct sl_event_relay *relay = reader->attaching;
    reader->attaching = NULL;
    if (model.channel == NULL) {
        return; /* the run is gone: the relay stays without a log */
    }
    const uint64_t floor = sl_event_channel_floor(model.channel);
    const uint64_t after = floor - 1 + reader->place % (model.n_events + 2 - floor);
    const enum sl_status status = sl_event_relay_attach(relay, model.channel, reader->kind, after);
    require(
        status == SL_OK || (status == SL_ALREADY_EXISTS && reader->kind == SL_CURSOR_FOREGROUND));
    if (status == SL_OK && reader->relay == relay) {
        reader->is_attached = true;
        reader->offset = model.offsets[after];
        reader->sequence = after;
    }
}

static void end_or_give_up(bool gives_up)
{
    model.is_ended = true;
    if (model.channel != NULL && !gives_up) {
        sl_event_channel_end(model.channel);
    }
    if (gives_up) {
        model.channel = sl_event_channel_unref(model.channel);
    }
    model.is_held = false;
}

/* ---- The readers' loop ----------------------------------------------------------------------- */

static void close_now(struct reader *reader)
{
    sl_event_relay_close(reader->relay);
    reader->relay = NULL;
}

static void run_close(struct sl_task *task)
{
    struct reader *reader = SL_CONTAINER(task, struct reader, close);
    reader->is_closing = false;
    close_now(reader);
}

/* Closes at once or, when it `is_late`, in the middle of the reader's next turn. */
static void
open_or_close(struct reader *reader, enum sl_cursor_kind kind, uint8_t place, bool is_late)
{
    if (reader->is_closing) {
        return;
    }
    if (reader->relay != NULL && is_late) {
        reader->is_closing = true;
        sl_loop_post(&model.reader.base, &reader->close);
        return;
    }
    if (reader->relay != NULL) {
        close_now(reader);
        return;
    }
    if (reader->attaching != NULL) {
        return; /* its task is still under way */
    }
    *reader = (struct reader){
        .kind = kind, .place = place, .attach = { .run = run_attach }, .close = { .run = run_close }
    };
    require(
        sl_event_relay_new(
            &model.reader.base, &model.owner.base, on_readable, reader, &reader->relay) == SL_OK);
    reader->attaching = reader->relay;
    sl_loop_post(&model.owner.base, &reader->attach);
}

static void check_bytes(struct reader *reader, size_t n)
{
    require(memcmp(model.room, model.log + reader->offset, n) == 0);
    reader->offset += n;
    while (reader->sequence < model.n_events &&
           model.offsets[reader->sequence + 1] <= reader->offset) {
        reader->sequence++;
    }
    require(sl_event_relay_sequence(reader->relay) == reader->sequence || n == 0);
    require(
        n == 0 || sl_event_relay_at_border(reader->relay) ==
                      (model.offsets[reader->sequence] == reader->offset));
}

/* What waits fits the credit, or is (the rest of) one event. */
static void check_credit(const struct reader *reader, size_t n)
{
    require(
        n <= SL_RELAY_CREDIT_BYTES || reader->offset + n <= model.offsets[reader->sequence + 1]);
}

static size_t read_some(struct reader *reader, size_t max)
{
    bool is_last = false;
    if (reader->relay == NULL) {
        return 0;
    }
    const size_t n = sl_event_relay_ready(reader->relay, max, &is_last);
    require(n <= max && (n == 0 || (reader->is_attached && !reader->is_ended && !reader->is_lost)));
    check_credit(reader, n);
    sl_event_relay_take(reader->relay, model.room, n);
    check_bytes(reader, n);
    const bool is_at_end = reader->offset == model.offsets[model.n_events];
    reader->is_lost = sl_event_relay_is_lost(reader->relay);
    require(!reader->is_lost || (reader->kind == SL_CURSOR_OBSERVER && reader->is_attached));
    require(!is_last || (model.is_ended && is_at_end && reader->is_attached));
    require(!reader->is_ended || is_last);
    reader->is_ended = is_last;
    reader->is_waiting = n == 0 && !is_last && !reader->is_lost;
    return n;
}

/* ---- Both ------------------------------------------------------------------------------------ */

static void step(uint8_t op, uint8_t argument)
{
    struct reader *reader = &model.readers[op / 8 % N_READERS];
    const bool is_odd = (op & 0x40) != 0;
    switch (op % 8) {
    case 0:
    case 1:
        emit(SL_EVENT_PREFIX_BYTES + (size_t)argument * (is_odd ? 100 : 1));
        break;
    case 2:
        emit(SL_EVENT_PREFIX_BYTES + (size_t)argument * (is_odd ? 1024 : 1));
        break;
    case 3:
        (void)read_some(reader, 1 + (is_odd ? (size_t)argument * 1024 : argument));
        break;
    case 4:
        (void)read_some(reader, is_odd ? MAX_LOG_BYTES : 1 + (size_t)argument * 64);
        break;
    case 5:
        open_or_close(
            reader, op & 0x80 ? SL_CURSOR_FOREGROUND : SL_CURSOR_OBSERVER, argument, is_odd);
        break;
    case 6:
        sl_fake_loop_turn(is_odd ? &model.owner : &model.reader);
        break;
    default:
        if (argument < 4) {
            end_or_give_up(argument == 0);
        } else if (model.channel != NULL) {
            sl_event_channel_set_mark(model.channel, argument * 64U, argument);
        }
    }
}

static void rest(void)
{
    bool is_busy = true;
    for (int i = 0; i < MAX_ROUNDS && is_busy; i++) {
        require(sl_fake_loop_run(&model.owner) && sl_fake_loop_run(&model.reader));
        is_busy = sl_loop_has_work(&model.owner.base) || sl_loop_has_work(&model.reader.base);
    }
    require(!is_busy);
}

/* Everybody reads what there is; who found nothing before must have been woken for it. */
static bool read_all(void)
{
    bool is_busy = false;
    for (size_t i = 0; i < N_READERS; i++) {
        struct reader *reader = &model.readers[i];
        if (reader->relay != NULL && !reader->is_waiting && !reader->is_ended && !reader->is_lost) {
            (void)read_some(reader, MAX_LOG_BYTES);
            is_busy = true;
        }
    }
    return is_busy;
}

static void finish(void)
{
    bool has_foreground = false;
    bool is_busy = true;
    rest();
    for (int round = 0; round < MAX_ROUNDS && is_busy; round++) {
        is_busy = read_all();
        rest();
    }
    require(!is_busy);
    for (size_t i = 0; i < N_READERS; i++) {
        const struct reader *reader = &model.readers[i];
        if (reader->relay != NULL && reader->is_attached) {
            has_foreground |= reader->kind == SL_CURSOR_FOREGROUND;
            require(reader->is_lost || reader->offset == model.offsets[model.n_events]);
            require(reader->is_lost || reader->is_ended == model.is_ended);
        }
    }
    require(!model.is_held || !has_foreground);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3) {
        return 0;
    }
    memset(&model, 0, offsetof(struct model, log));
    sl_fake_loop_init(&model.owner);
    sl_fake_loop_init(&model.reader);
    const struct sl_event_channel_options options = { .mark_bytes = 1U + data[0] * 256U,
                                                      .mark_events = 1U + data[1],
                                                      .window_bytes = data[0] % 4 * 8192U,
                                                      .on_writable = on_writable };
    require(sl_event_channel_new(&model.owner.base, &options, &model.channel) == SL_OK);
    for (size_t i = 3; i + 1 < size; i += 2) {
        step(data[i], data[i + 1]);
    }
    if ((data[2] & 1) != 0) {
        finish();
    }
    rest();
    for (size_t i = 0; i < N_READERS; i++) {
        if (model.readers[i].relay != NULL) {
            close_now(&model.readers[i]);
        }
    }
    if ((data[2] & 2) != 0) {
        end_or_give_up(true);
    }
    rest();
    require(!model.is_held);
    model.channel = sl_event_channel_unref(model.channel);
    sl_fake_loop_done(&model.owner);
    sl_fake_loop_done(&model.reader);
    return 0;
}
