/* A log on a fake loop, and a reader of it: for the tests of its two halves. */
#ifndef SL_TESTS_UNIT_TEST_EVENT_RIG_H
#define SL_TESTS_UNIT_TEST_EVENT_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/event_channel.h"
#include "runtime/base/mem.h"
#include "runtime/base/send_total.h"
#include "tests/fake/fake_loop.h"

enum { MANY = 100000 };

struct fixture {
    struct sl_fake_loop fake;
    struct sl_event_channel *channel;
    int n_writable;
    int n_readable;
};

static struct fixture *current; /* for callbacks of cursors, which carry no user data */

static inline void on_writable(void *user_data)
{
    struct fixture *fixture = user_data;
    fixture->n_writable++;
}

static inline void on_readable(struct sl_event_cursor *cursor)
{
    (void)cursor;
    current->n_readable++;
}

static inline void
start(struct fixture *fixture, uint32_t mark_bytes, uint32_t mark_events, uint32_t window_bytes)
{
    *fixture = (struct fixture){ .n_writable = 0 };
    current = fixture;
    sl_fake_loop_init(&fixture->fake);
    const struct sl_event_channel_options options = { .mark_bytes = mark_bytes,
                                                      .mark_events = mark_events,
                                                      .window_bytes = window_bytes,
                                                      .on_writable = on_writable,
                                                      .user_data = fixture };
    assert_int_equal(sl_event_channel_new(&fixture->fake.base, &options, &fixture->channel), SL_OK);
}

static inline void stop(struct fixture *fixture)
{
    fixture->channel = sl_event_channel_unref(fixture->channel);
    assert_true(sl_fake_loop_run(&fixture->fake));
    sl_fake_loop_done(&fixture->fake);
}

/* One event of `size` bytes, prefix included, filled with a byte made of its number. */
static inline bool emit(struct sl_event_channel *channel, size_t size)
{
    uint8_t *room = NULL;
    assert_int_equal(sl_event_channel_reserve(channel, size, &room), SL_OK);
    const size_t payload = size - SL_EVENT_PREFIX_BYTES;
    room[0] = 0;
    room[1] = (uint8_t)(payload >> 24);
    room[2] = (uint8_t)(payload >> 16);
    room[3] = (uint8_t)(payload >> 8);
    room[4] = (uint8_t)payload;
    memset(
        room + SL_EVENT_PREFIX_BYTES, (int)((sl_event_channel_last_sequence(channel) + 1) & 0x7F),
        payload);
    return sl_event_channel_commit(channel, size);
}

/* Reads everything there is in pieces of `step`; gives the number of bytes. */
static inline size_t read_all(struct sl_event_cursor *cursor, size_t step, bool *ret_is_last)
{
    uint8_t room[4096];
    size_t total = 0;
    size_t n = 0;
    while ((n = sl_event_cursor_ready(cursor, step, ret_is_last)) > 0) {
        sl_event_cursor_take(cursor, room, n);
        total += n;
    }
    return total;
}

#endif
