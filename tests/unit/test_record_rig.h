/* A recorded run on a fake loop, with a fake store. */
#ifndef SL_TESTS_UNIT_TEST_RECORD_RIG_H
#define SL_TESTS_UNIT_TEST_RECORD_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/event_log.h"
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/exec/encode.h"
#include "tests/fake/exec_rig.h"
#include "tests/fake/fake_store.h"

#define AGENT "name: a\nmodel: m\nheartbeat_ms: 0\ntools: [add]\n"

static struct sl_exec_rig rig;
static struct sl_fake_store store;

static inline void prepare(enum sl_store_durability durability)
{
    sl_exec_rig_init(&rig, AGENT);
    sl_fake_store_init(&store);
    (void)sl_store_free(rig.store);
    rig.store = rig.env.store = &store.base;
    rig.settings.durability = durability;
}

static inline const char *trace(void)
{
    sl_exec_rig_turn(&rig);
    return sl_exec_rig_trace(&rig);
}

static inline const char *answer(void)
{
    sl_fake_store_answer(&store);
    return trace();
}

static inline void start(enum sl_store_durability durability)
{
    prepare(durability);
    sl_exec_rig_start(&rig, "hello");
    assert_true(rig.has_begun);
    assert_string_equal(trace(), "run a|start 1/10");
}

static inline void finish(void)
{
    sl_exec_rig_done(&rig);
    sl_fake_store_done(&store);
}

static inline void check_same_bytes(void)
{
    assert_int_equal(store.bytes.size, rig.bytes.size);
    assert_memory_equal(store.bytes.data, rig.bytes.data, rig.bytes.size);
}

static inline void cancel(void)
{
    const struct sl_ending ending = sl_ending_cancelled(SL_CANCEL_REASON(CANCEL_RPC));
    sl_run_cancel(rig.run, &ending);
}

static const enum sl_store_durability both[] = { SL_STORE_ASYNC, SL_STORE_SYNC };

/* The last event of what the store has. */
static inline Sluice__V1__StreamEvent *last_stored(void)
{
    size_t at = 0;
    size_t size = 0;
    for (; at < store.bytes.size; at += size) {
        const uint8_t *bytes = store.bytes.data + at;
        size = SL_EVENT_PREFIX_BYTES + ((size_t)bytes[1] << 24 | (size_t)bytes[2] << 16 |
                                        (size_t)bytes[3] << 8 | (size_t)bytes[4]);
    }
    assert_int_equal(at, store.bytes.size);
    return sluice__v1__stream_event__unpack(
        NULL, size - SL_EVENT_PREFIX_BYTES, store.bytes.data + at - size + SL_EVENT_PREFIX_BYTES);
}

/* AL-3.3: nothing is open in it at its end. */
static inline void check_stored_order(void)
{
    struct sl_event_order order = { 0 };
    struct sl_error err = { .text = "" };
    for (size_t at = 0; at < store.bytes.size;) {
        const size_t size = sl_event_size(store.bytes.data + at);
        Sluice__V1__StreamEvent *event = sluice__v1__stream_event__unpack(
            NULL, size - SL_EVENT_PREFIX_BYTES, store.bytes.data + at + SL_EVENT_PREFIX_BYTES);
        assert_non_null(event);
        const enum sl_status status = sl_event_order_check(&order, event, &err);
        sluice__v1__stream_event__free_unpacked(event, NULL);
        assert_string_equal(err.text, "");
        assert_int_equal(status, SL_OK);
        at += size;
    }
    assert_int_equal(sl_event_order_finish(&order, &err), SL_OK);
    sl_event_order_done(&order);
}

static inline void check_closed(uint64_t sequence, bool has_lost)
{
    check_stored_order();
    assert_true(store.is_ended);
    assert_int_equal(store.stored, sequence);
    assert_int_equal(store.state, SL_STORE_STATE_FAILED);
    assert_int_equal(store.has_lost, has_lost);
    Sluice__V1__StreamEvent *event = last_stored();
    assert_non_null(event);
    assert_int_equal(event->sequence, sequence);
    assert_int_equal(event->event_case, SL_EVENT(ERROR));
    assert_int_equal(event->error->code, SL_CODE(STORE_UNAVAILABLE));
    assert_non_null(event->error->usage);
    sluice__v1__stream_event__free_unpacked(event, NULL);
}

#endif
