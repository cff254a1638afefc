/* Observers of runs: who comes later, from another loop, too late, or is too slow. */
#include "runtime/base/metrics.h"
#include "tests/unit/test_runtime_rig.h"

static bool is_lost;
static struct sl_run_refusal loss;

static void
on_lost(struct sl_run_stream *stream, const struct sl_run_refusal *refusal, void *user_data)
{
    (void)stream;
    (void)user_data;
    assert_false(is_lost);
    is_lost = true;
    loss = *refusal;
}

static void do_not_read(struct sl_run_stream *stream, void *user_data)
{
    (void)stream;
    (void)user_data;
}

static void
attach_as(struct reader *reader, const char *run_id, uint64_t after_sequence, const char *tenant)
{
    const struct sl_run_callbacks callbacks = { .on_started = on_started,
                                                .on_readable = on_readable,
                                                .on_heartbeat = on_heartbeat,
                                                .on_lost = on_lost,
                                                .user_data = reader };
    const struct sl_run_attach_spec spec = { .run_id = run_id,
                                             .after_sequence = after_sequence,
                                             .tenant = tenant };
    *reader = (struct reader){ .max_take = reader->max_take };
    sl_buf_init(&reader->bytes, LOG_BYTES);
    assert_int_equal(sl_run_attach(runtime, bases[0], &spec, &callbacks, &reader->stream), SL_OK);
    assert_false(reader->is_started); /* never from inside */
}

static void attach(struct reader *reader, const char *run_id, uint64_t after_sequence)
{
    attach_as(reader, run_id, after_sequence, NULL);
}

static void
check_refused(const char *run_id, uint64_t after_sequence, const char *tenant, const char *reason)
{
    struct reader reader = { .max_take = 0 };
    attach_as(&reader, run_id, after_sequence, tenant);
    wait_until(&reader.is_started);
    assert_true(reader.is_refused);
    assert_string_equal(reader.refusal.reason, reason);
    loss = reader.refusal;
    finish(&reader);
}

/* With two loops the next run begins on the other one. */
static void open_with_run_elsewhere(size_t n, struct reader *blocker)
{
    const struct sl_run_spec hang = spec_of("load", "{\"hang\":true}");
    open_runtime(n, "");
    start(blocker, &hang);
    wait_until(&blocker->is_started);
}

static void close_with_run_elsewhere(struct reader *blocker)
{
    sl_run_stream_close(blocker->stream, SL_RUN_CLOSE_RESET, 8);
    sl_buf_done(&blocker->bytes);
    close_runtime();
}

/* AL-2.1, RL-I1: while it runs and afterwards, from the start and from the middle. */
static void every_reader_gets_the_same_bytes(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader blocker = { .max_take = 0 };
        struct reader first = { .max_take = 7 };
        struct reader early = { .max_take = 0 };
        struct reader late = { .max_take = 11 };
        sl_limits_init(&limits);
        limits.runs = 4; /* so that a window holds all of it */
        open_with_run_elsewhere(n, &blocker);
        const struct sl_run_spec spec =
            spec_of("load", "{\"events\":300,\"bytes\":100,\"rate\":1000}");
        start(&first, &spec);
        wait_until(&first.is_started);
        attach(&early, first.run_id, 0);
        wait_until(&early.is_last);
        wait_until(&first.is_last);
        assert_int_equal(each_event(&first, NULL, NULL), 304);
        assert_int_equal(early.bytes.size, first.bytes.size);
        assert_memory_equal(early.bytes.data, first.bytes.data, first.bytes.size);
        assert_int_equal(sl_run_stream_ending(early.stream)->status, SL_OK);
        attach(&late, first.run_id, 200);
        wait_until(&late.is_last);
        assert_int_equal(sl_run_stream_sequence(late.stream), 304);
        assert_int_equal(sl_run_stream_ending(late.stream)->status, SL_OK);
        assert_in_range(late.bytes.size, 1, first.bytes.size);
        assert_memory_equal(
            late.bytes.data, first.bytes.data + first.bytes.size - late.bytes.size,
            late.bytes.size);
        finish(&late);
        finish(&early);
        finish(&first);
        close_with_run_elsewhere(&blocker);
    }
}

/* RL-C18, RL-C19 */
static void what_is_not_there_is_refused(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader blocker = { .max_take = 0 };
        struct reader reader = { .max_take = 0 };
        char unknown[SL_ID_BYTES];
        open_with_run_elsewhere(n, &blocker);
        struct sl_run_spec spec = spec_of("load", "{\"events\":2000,\"bytes\":100}");
        spec.tenant = "acme";
        start(&reader, &spec);
        wait_until(&reader.is_last);
        sl_random_id(unknown);
        check_refused(unknown, 0, "acme", "RUN_NOT_FOUND");
        assert_int_equal(loss.status, SL_NOT_FOUND);
        const struct sl_run_refusal refusal = loss;
        check_refused(reader.run_id, 0, "beta", "RUN_NOT_FOUND");
        assert_string_equal(loss.text, refusal.text); /* the same as for an unknown one */
        check_refused(reader.run_id, 0, NULL, "RUN_NOT_FOUND");
        check_refused("", 0, "acme", "RUN_NOT_FOUND");
        check_refused("0123", 0, "acme", "RUN_NOT_FOUND");
        check_refused(reader.run_id, 2005, "acme", "BEYOND_LOG");
        assert_int_equal(loss.status, SL_OUT_OF_RANGE);
        assert_int_equal(loss.last_sequence, 2004);
        check_refused(reader.run_id, 0, "acme", "BELOW_RETENTION");
        assert_int_equal(loss.status, SL_OUT_OF_RANGE);
        assert_in_range(loss.floor, 2, 2004);
        check_refused(reader.run_id, loss.floor - 2, "acme", "BELOW_RETENTION");
        struct reader late = { .max_take = 0 };
        attach_as(&late, reader.run_id, loss.floor - 1, "acme"); /* the first that is there */
        wait_until(&late.is_last);
        finish(&late);
        attach_as(&late, reader.run_id, 2004, "acme"); /* nothing but the end */
        wait_until(&late.is_started);
        read_some(&late);
        assert_true(late.is_last);
        assert_int_equal(late.bytes.size, 0);
        finish(&late);
        finish(&reader);
        close_with_run_elsewhere(&blocker);
    }
}

/* AL-7.1: its reset, its loss and its slowness are its own. */
static void an_observer_changes_nothing(void **state)
{
    static const enum sl_run_close hows[] = { SL_RUN_CLOSE_RESET, SL_RUN_CLOSE_LOST,
                                              SL_RUN_CLOSE_DEADLINE };
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader blocker = { .max_take = 0 };
        struct reader reader = { .max_take = 0 };
        open_with_run_elsewhere(n, &blocker);
        const struct sl_run_spec spec = spec_of("load", "{\"events\":100,\"rate\":500}");
        start(&reader, &spec);
        wait_until(&reader.is_started);
        for (size_t i = 0; i < SL_COUNT(hows); i++) {
            struct reader observer = { .max_take = 0 };
            attach(&observer, reader.run_id, 0);
            if (i > 0) { /* the first one goes before it has begun */
                wait_until(&observer.is_started);
                assert_true(sl_run_stream_is_observer(observer.stream));
                assert_true(sl_run_stream_outlives(observer.stream, hows[i]));
            }
            sl_run_stream_close(observer.stream, hows[i], 8);
            sl_buf_done(&observer.bytes);
        }
        wait_until(&reader.is_last);
        assert_int_equal(sl_run_stream_ending(reader.stream)->status, SL_OK);
        finish(&reader);
        close_with_run_elsewhere(&blocker);
    }
}

static void note_started(
    struct sl_run_stream *stream,
    const char *run_id,
    const struct sl_run_refusal *refusal,
    void *user_data)
{
    struct reader *reader = user_data;
    assert_null(refusal);
    reader->stream = stream;
    reader->is_started = true;
    (void)snprintf(reader->run_id, sizeof(reader->run_id), "%s", run_id);
}

/* Its first reader reads nothing by himself: until the test reads, the run stands, at less than
 * the window holds. */
static void start_held(struct reader *reader)
{
    const struct sl_run_spec spec = spec_of("load", "{\"events\":20000,\"bytes\":100}");
    const struct sl_run_callbacks callbacks = { .on_started = note_started,
                                                .on_readable = do_not_read,
                                                .user_data = reader };
    sl_buf_init(&reader->bytes, LOG_BYTES);
    assert_int_equal(sl_run_start(runtime, bases[0], &spec, &callbacks, &reader->stream), SL_OK);
    wait_until(&reader->is_started);
}

static void read_to_the_end(struct reader *reader)
{
    read_some(reader);
    for (int n_steps = 0; !reader->is_last; n_steps++) {
        assert_true(n_steps < MAX_STEPS);
        step();
        read_some(reader);
    }
}

/* AL-8: it holds nothing back, and hears how far it fell. */
static void a_slow_observer_is_lost_and_told_the_floor(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader blocker = { .max_take = 0 };
        struct reader reader = { .max_take = 0 };
        is_lost = false;
        sl_limits_init(&limits);
        limits.runs = 256; /* windows of 512 KiB: more than is under way between two loops */
        open_with_run_elsewhere(n, &blocker);
        start_held(&reader);
        struct reader observer = { .max_take = 0 };
        const struct sl_run_attach_spec to = { .run_id = reader.run_id };
        const struct sl_run_callbacks callbacks = { .on_started = note_started,
                                                    .on_readable = do_not_read,
                                                    .on_lost = on_lost,
                                                    .user_data = &observer };
        sl_buf_init(&observer.bytes, LOG_BYTES);
        assert_int_equal(
            sl_run_attach(runtime, bases[0], &to, &callbacks, &observer.stream), SL_OK);
        wait_until(&observer.is_started);
        read_to_the_end(&reader); /* it does not wait for the other one */
        finish(&reader);
        for (int n_steps = 0; !is_lost; n_steps++) {
            assert_true(n_steps < MAX_STEPS);
            read_some(&observer);
            assert_false(observer.is_last);
            step();
        }
        assert_int_equal(loss.status, SL_OUT_OF_RANGE);
        assert_string_equal(loss.reason, "BELOW_RETENTION");
        assert_in_range(loss.floor, sl_run_stream_sequence(observer.stream) + 2, 20004);
        finish(&observer);
        close_with_run_elsewhere(&blocker);
    }
}

/* A stop ends the run for all of its readers. */
static void a_stop_is_seen_by_observers(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader blocker = { .max_take = 0 };
        struct reader reader = { .max_take = 0 };
        struct reader observer = { .max_take = 0 };
        open_with_run_elsewhere(n, &blocker);
        const struct sl_run_spec spec = spec_of("load", "{\"hang\":true}");
        start(&reader, &spec);
        wait_until(&reader.is_started);
        attach(&observer, reader.run_id, 0);
        wait_until(&observer.is_started);
        stop_runtime();
        wait_until(&observer.is_last);
        assert_int_equal(sl_run_stream_ending(observer.stream)->status, SL_ABORTED);
        struct reader late = { .max_take = 0 };
        attach(&late, reader.run_id, 0);
        wait_until(&late.is_started);
        assert_string_equal(late.refusal.reason, "DRAINING");
        finish(&late);
        finish(&observer);
        finish(&reader);
        finish(&blocker);
        free_runtime();
    }
}

/* Waits until the run is not known any more. */
static bool is_forgotten(const char *run_id)
{
    struct reader reader = { .max_take = 0 };
    attach(&reader, run_id, 0);
    wait_until(&reader.is_started);
    const bool is_unknown =
        reader.is_refused && strcmp(reader.refusal.reason, "RUN_NOT_FOUND") == 0;
    finish(&reader);
    return is_unknown;
}

static void a_run_is_forgotten_when_its_time_is_over(void **state) /* window_keep */
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader blocker = { .max_take = 0 };
        struct reader readers[3] = { { .max_take = 0 } };
        struct sl_runtime_stats stats;
        sl_limits_init(&limits);
        limits.window_keep = 20;
        open_with_run_elsewhere(n, &blocker);
        const struct sl_run_spec spec = spec_of("echo", "one");
        for (size_t i = 0; i < SL_COUNT(readers); i++) {
            start(&readers[i], &spec);
            wait_until(&readers[i].is_last);
        }
        int n_steps = 0;
        for (size_t i = 0; i < SL_COUNT(readers); i++) {
            while (!is_forgotten(readers[i].run_id)) {
                assert_true(n_steps++ < MAX_STEPS);
                step();
            }
            finish(&readers[i]);
        }
        sl_runtime_stats(runtime, &stats);
        assert_int_equal(stats.runs_kept, 0);
        assert_int_equal(stats.kept_bytes, 0);
        close_with_run_elsewhere(&blocker);
    }
}

static void the_oldest_run_makes_room_for_the_next(void **state) /* window_total */
{
    struct reader readers[4] = { { .max_take = 0 } };
    struct sl_runtime_stats stats;
    (void)state;
    sl_limits_init(&limits);
    limits.runs = 1;
    limits.window = 4096;
    limits.window_total = 16384;
    open_runtime(1, "");
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_window_total);
    const struct sl_run_spec spec = spec_of("load", "{\"events\":100,\"bytes\":100}");
    for (size_t i = 0; i < SL_COUNT(readers); i++) {
        start(&readers[i], &spec);
        wait_until(&readers[i].is_last);
        finish(&readers[i]);
        step();
        sl_runtime_stats(runtime, &stats);
        assert_in_range(stats.kept_bytes, 1, limits.window_total);
    }
    assert_true(sl_limit_n_reached(SL_LIMIT_window_total) > n_before);
    assert_true(is_forgotten(readers[0].run_id));
    assert_false(is_forgotten(readers[3].run_id));
    close_runtime();
}

/* What a run that may lose its reader has written can be read again, as far as `window`; while
 * there is room for such windows (the other half of window_total). */
static void a_run_that_may_be_alone_keeps_a_whole_window(void **state)
{
    enum { N = 3, EVENTS = 1000 }; /* about 120 kB */
    struct reader readers[N] = { { .max_take = 0 } };
    struct reader late = { .max_take = 0 };
    (void)state;
    sl_limits_init(&limits);
    limits.window = 204800;
    limits.runs = 1000;
    limits.window_total = limits.window * 2 * (N - 1);
    open_runtime(1, "");
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_window_total);
    struct sl_run_spec spec =
        spec_of("load", "{\"events\":2000,\"bytes\":100,\"burst\":1000,\"rate\":1}");
    spec.on_disconnect = SL_RUN_DETACH;
    for (size_t i = 0; i < N; i++) {
        start(&readers[i], &spec);
        for (int n_steps = 0; sl_run_stream_sequence(readers[i].stream) < EVENTS; n_steps++) {
            assert_true(n_steps < MAX_STEPS);
            step();
        }
    }
    for (size_t i = 0; i + 1 < N; i++) {
        attach(&late, readers[i].run_id, 0);
        for (int n_steps = 0; late.bytes.size < readers[i].bytes.size; n_steps++) {
            assert_true(n_steps < MAX_STEPS);
            step();
        }
        assert_memory_equal(late.bytes.data, readers[i].bytes.data, readers[i].bytes.size);
        sl_run_stream_close(late.stream, SL_RUN_CLOSE_LOST, 0);
        sl_buf_done(&late.bytes);
    }
    check_refused(readers[N - 1].run_id, 0, NULL, "BELOW_RETENTION"); /* it has its share */
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_window_total), n_before + 1);
    assert_int_equal(runtime->reserved_bytes, limits.window * (N - 1));
    stop_runtime();
    assert_int_equal(runtime->reserved_bytes, 0);
    for (size_t i = 0; i < N; i++) {
        finish(&readers[i]);
    }
    free_runtime();
}

static void heartbeats_reach_observers(void **state) /* AL-2.2 */
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader blocker = { .max_take = 0 };
        struct reader reader = { .max_take = 0 };
        struct reader observer = { .max_take = 0 };
        open_with_run_elsewhere(n, &blocker);
        struct sl_run_spec spec = spec_of("load", "{\"hang\":true}");
        spec.has_heartbeat = true;
        spec.heartbeat_ms = 1000;
        start(&reader, &spec);
        wait_until(&reader.is_started);
        attach(&observer, reader.run_id, 0);
        wait_until(&observer.has_heartbeat);
        wait_until(&reader.has_heartbeat);
        sl_run_stream_close(observer.stream, SL_RUN_CLOSE_LOST, 0);
        sl_buf_done(&observer.bytes);
        sl_run_stream_close(reader.stream, SL_RUN_CLOSE_RESET, 8);
        sl_buf_done(&reader.bytes);
        close_with_run_elsewhere(&blocker);
    }
}

static void detach_for_counts_the_time_without_observers(void **state) /* AL-7.1 */
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader blocker = { .max_take = 0 };
        struct reader reader = { .max_take = 0 };
        struct reader observer = { .max_take = 0 };
        struct reader second = { .max_take = 0 };
        open_with_run_elsewhere(n, &blocker);
        struct sl_run_spec spec = spec_of("load", "{\"hang\":true}");
        spec.on_disconnect = SL_RUN_DETACH_FOR;
        spec.detach_ttl_ms = 1000;
        spec.has_heartbeat = true;
        spec.heartbeat_ms = 1500; /* longer than the run may be alone */
        start(&reader, &spec);
        wait_until(&reader.is_started);
        attach(&observer, reader.run_id, 0);
        wait_until(&observer.is_started);
        sl_run_stream_close(reader.stream, SL_RUN_CLOSE_LOST, 0);
        sl_buf_done(&reader.bytes);
        wait_until(&observer.has_heartbeat); /* it lives: somebody is there */
        attach(&second, observer.run_id, 0);
        wait_until(&second.is_started);
        sl_run_stream_close(second.stream, SL_RUN_CLOSE_LOST, 0); /* one is left */
        sl_buf_done(&second.bytes);
        observer.has_heartbeat = false;
        wait_until(&observer.has_heartbeat);
        char run_id[SL_ID_BYTES];
        memcpy(run_id, observer.run_id, sizeof(run_id));
        sl_run_stream_close(observer.stream, SL_RUN_CLOSE_RESET, 8);
        sl_buf_done(&observer.bytes);
        struct sl_runtime_stats stats;
        int n_steps = 0;
        do {
            step();
            sl_runtime_stats(runtime, &stats);
            assert_true(n_steps++ < MAX_STEPS);
        } while (stats.runs_running > 1);
        attach(&second, run_id, 0);
        wait_until(&second.is_last);
        assert_int_equal(sl_run_stream_ending(second.stream)->status, SL_CANCELLED);
        finish(&second);
        close_with_run_elsewhere(&blocker);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_reader_gets_the_same_bytes),
        cmocka_unit_test(what_is_not_there_is_refused),
        cmocka_unit_test(an_observer_changes_nothing),
        cmocka_unit_test(a_slow_observer_is_lost_and_told_the_floor),
        cmocka_unit_test(a_stop_is_seen_by_observers),
        cmocka_unit_test(a_run_is_forgotten_when_its_time_is_over),
        cmocka_unit_test(the_oldest_run_makes_room_for_the_next),
        cmocka_unit_test(a_run_that_may_be_alone_keeps_a_whole_window),
        cmocka_unit_test(heartbeats_reach_observers),
        cmocka_unit_test(detach_for_counts_the_time_without_observers),
    };
    sl_limits_init(&limits);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
