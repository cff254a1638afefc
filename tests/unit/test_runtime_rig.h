/* A runtime with its built-in agents on real loops, one or two, and readers of its runs. */
#ifndef SL_TESTS_UNIT_TEST_RUNTIME_RIG_H
#define SL_TESTS_UNIT_TEST_RUNTIME_RIG_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/sluice/v1/events.pb-c.h"
#include "runtime/base/buf.h"
#include "runtime/base/conf.h"
#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "runtime/exec/encode.h"
#include "runtime/exec/order.h"
#include "runtime/runtime_private.h"

enum { MAX_LOOPS = 2, MAX_STEPS = 200000, LOG_BYTES = 256 * 1024 * 1024 };

/* What a reader has seen. */
struct reader {
    struct sl_run_stream *stream;
    struct sl_buf bytes;
    bool is_started, is_last;
    bool has_heartbeat;
    bool is_gone;
    uint64_t n_running_when_gone;
    size_t n_readable;
    struct sl_run_refusal refusal;
    bool is_refused;
    size_t max_take; /* at a time; 0: everything */
    char run_id[SL_ID_BYTES];
};

static struct sl_loop_uv *loops[MAX_LOOPS];
static struct sl_loop *bases[MAX_LOOPS];
static size_t n_loops;
static pthread_t second_thread;
static struct sl_limits limits;
static struct sl_runtime *runtime;
static const char *store_path; /* NULL: runs are in memory only */
static bool is_idle;

static inline const char *no_env(const char *name)
{
    (void)name;
    return NULL;
}

static inline void *run_second(void *argument)
{
    sl_loop_uv_run(argument);
    return NULL;
}

static inline void fail_on_problem(const char *line, void *user_data)
{
    (void)user_data;
    fail_msg("%s", line);
}

static inline void configure(const char *yaml)
{
    struct sl_conf *conf = NULL;
    assert_int_equal(sl_conf_parse(sl_slice_str(yaml), "sluice.yaml", &conf), SL_OK);
    const struct sl_conf_node *top =
        sl_conf_n_documents(conf) == 0 ? NULL : sl_conf_document(conf, 0);
    sl_runtime_configure(runtime, conf, top);
    if (top != NULL) {
        sl_conf_end(conf, top);
    }
    if (sl_conf_n_errors(conf) > 0) {
        fail_msg("%s", sl_conf_error_at(conf, 0));
    }
    (void)sl_conf_free(conf);
}

/* The second loop does not run yet. `limits` may be changed before. */
static inline void prepare_runtime(size_t n, const char *yaml)
{
    struct sl_error err = { .text = "" };
    n_loops = n;
    is_idle = false;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(sl_loop_uv_new((uint32_t)i, &loops[i]), SL_OK);
        bases[i] = sl_loop_uv_base(loops[i]);
    }
    static const char *const environment[] = { "PATH=/usr/bin:/bin", NULL };
    const struct sl_runtime_options options = {
        .loops = bases, .n_loops = n, .limits = &limits, .env = no_env, .environment = environment
    };
    if (sl_runtime_new(&options, &runtime, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
    configure(yaml);
    const struct sl_runtime_store store = { .path = store_path };
    if (store_path != NULL && sl_runtime_open_store(runtime, &store, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
}

static inline void open_runtime(size_t n, const char *yaml)
{
    prepare_runtime(n, yaml);
    if (n > 1) {
        assert_int_equal(pthread_create(&second_thread, NULL, run_second, loops[1]), 0);
    }
}

static inline void step(void)
{
    sl_loop_uv_step(loops[0], 50);
}

static inline void wait_until(const bool *flag)
{
    for (int n_steps = 0; !*flag; n_steps++) {
        step();
        assert_true(n_steps < MAX_STEPS);
    }
}

static inline void on_idle(void *user_data)
{
    (void)user_data;
    is_idle = true;
}

static inline void stop_runtime(void)
{
    sl_runtime_stop(runtime, on_idle, NULL);
    wait_until(&is_idle);
}

static inline void free_runtime(void)
{
    struct sl_runtime_stats stats;
    sl_runtime_stats(runtime, &stats);
    assert_int_equal(stats.runs_running, 0);
    assert_int_equal(stats.runs_waiting, 0);
    assert_int_equal(stats.runs_started, stats.runs_ended);
    if (n_loops > 1) {
        sl_loop_uv_stop(loops[1]);
        assert_int_equal(pthread_join(second_thread, NULL), 0);
    }
    runtime = sl_runtime_free(runtime);
    bool has_work = true;
    while (has_work) {
        has_work = false;
        for (size_t i = 0; i < n_loops; i++) {
            has_work |= sl_loop_drain(bases[i]);
        }
    }
    for (size_t i = 0; i < n_loops; i++) {
        (void)sl_loop_uv_free(loops[i]);
    }
    sl_limits_init(&limits);
}

static inline void close_runtime(void)
{
    stop_runtime();
    free_runtime();
}

/* ---- A reader ---------------------------------------------------------------------------------
 */

static inline void read_some(struct reader *reader)
{
    const size_t max = reader->max_take == 0 ? SIZE_MAX : reader->max_take;
    for (;;) {
        uint8_t *room = NULL;
        const size_t n = sl_run_stream_ready(reader->stream, max, &reader->is_last);
        if (n == 0) {
            return;
        }
        assert_int_equal(sl_buf_reserve(&reader->bytes, n, &room), SL_OK);
        sl_run_stream_take(reader->stream, room, n);
        sl_buf_commit(&reader->bytes, n);
        if (reader->is_last) {
            return;
        }
    }
}

static inline void on_started(
    struct sl_run_stream *stream,
    const char *run_id,
    const struct sl_run_refusal *refusal,
    void *user_data)
{
    struct reader *reader = user_data;
    assert_false(reader->is_started);
    reader->is_started = true;
    reader->stream = stream;
    (void)snprintf(reader->run_id, sizeof(reader->run_id), "%s", run_id);
    if (refusal != NULL) {
        reader->refusal = *refusal;
        reader->is_refused = true;
        return;
    }
    read_some(reader);
}

static inline void on_readable(struct sl_run_stream *stream, void *user_data)
{
    struct reader *reader = user_data;
    assert_ptr_equal(stream, reader->stream);
    reader->n_readable++;
    read_some(reader);
}

static inline void on_gone(void *user_data)
{
    struct reader *reader = user_data;
    struct sl_runtime_stats stats;
    assert_false(reader->is_gone);
    sl_runtime_stats(runtime, &stats);
    reader->n_running_when_gone = stats.runs_running;
    reader->is_gone = true;
}

static inline void
on_heartbeat(struct sl_run_stream *stream, struct sl_slice message, void *user_data)
{
    struct reader *reader = user_data;
    (void)stream;
    Sluice__V1__StreamEvent *event =
        sluice__v1__stream_event__unpack(NULL, message.size, message.data);
    assert_non_null(event);
    assert_int_equal(event->event_case, SL_EVENT(HEARTBEAT));
    sluice__v1__stream_event__free_unpacked(event, NULL);
    reader->has_heartbeat = true;
}

static inline void start(struct reader *reader, const struct sl_run_spec *spec)
{
    const struct sl_run_callbacks callbacks = { .on_started = on_started,
                                                .on_readable = on_readable,
                                                .on_heartbeat = on_heartbeat,
                                                .on_gone = on_gone,
                                                .user_data = reader };
    *reader = (struct reader){ .max_take = reader->max_take };
    sl_buf_init(&reader->bytes, LOG_BYTES);
    assert_int_equal(sl_run_start(runtime, bases[0], spec, &callbacks, &reader->stream), SL_OK);
    assert_false(reader->is_started); /* never from inside */
}

static inline void finish(struct reader *reader)
{
    sl_run_stream_close(reader->stream, SL_RUN_CLOSE_READ, 0);
    sl_buf_done(&reader->bytes);
}

/* Calls `visit` with each event; checks their order. Gives how many there are. */
static inline size_t each_event(
    const struct reader *reader,
    void (*visit)(const Sluice__V1__StreamEvent *event, void *user_data),
    void *user_data)
{
    struct sl_event_order order = { .state = SL_ORDER_NEW };
    struct sl_error err = { .text = "" };
    size_t n = 0;
    for (size_t at = 0; at < reader->bytes.size; n++) {
        const uint8_t *bytes = reader->bytes.data + at;
        const size_t size = (size_t)bytes[1] << 24 | (size_t)bytes[2] << 16 |
                            (size_t)bytes[3] << 8 | (size_t)bytes[4];
        Sluice__V1__StreamEvent *event = sluice__v1__stream_event__unpack(NULL, size, bytes + 5);
        assert_non_null(event);
        if (sl_event_order_check(&order, event, &err) != SL_OK) {
            fail_msg("%s", err.text);
        }
        if (visit != NULL) {
            visit(event, user_data);
        }
        sluice__v1__stream_event__free_unpacked(event, NULL);
        at += SL_EVENT_PREFIX_BYTES + size;
    }
    if (sl_event_order_finish(&order, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
    sl_event_order_done(&order);
    return n;
}

static inline struct sl_run_spec spec_of(const char *agent, const char *input)
{
    return (struct sl_run_spec){
        .agent = agent, .input = sl_slice_str(input), .n_connection_streams = 1, .peer = "test"
    };
}

/* Gives the delay after which to come again. */
static inline int64_t check_refusal(
    const struct sl_run_spec *spec, enum sl_status status, const char *reason, const char *text)
{
    struct reader reader = { .max_take = 0 };
    start(&reader, spec);
    wait_until(&reader.is_started);
    assert_true(reader.is_refused);
    assert_int_equal(reader.refusal.status, status);
    assert_string_equal(reader.refusal.reason, reason);
    if (strstr(reader.refusal.text, text) == NULL) {
        fail_msg("'%s' is not in '%s'", text, reader.refusal.text);
    }
    bool is_last = false;
    assert_int_equal(sl_run_stream_ready(reader.stream, 10, &is_last), 0);
    assert_false(is_last);
    const int64_t retry_ms = reader.refusal.retry_after_ms;
    finish(&reader);
    return retry_ms;
}

#endif
