/* AL-8: readers that do not hold their runs back, SPILL and DISCONNECT. */
#include <unistd.h>

#include <sqlite3.h>

#include "runtime/base/event_log.h"
#include "runtime/base/metrics.h"
#include "runtime/known.h"
#include "tests/unit/test_runtime_rig.h"

static const char agents[] = "name: rec\nprovider: load\nmodel: load\nmemory: None\n"
                             "---\n"
                             "name: spiller\nprovider: load\nmodel: load\nmemory: None\n"
                             "slow_consumer: SPILL\n"
                             "---\n"
                             "name: cutter\nprovider: load\nmodel: load\nmemory: None\n"
                             "slow_consumer: DISCONNECT\n";

enum { N_EVENTS = 20004, WINDOW = 65536, SLOW_MS = 100, MOST_BYTES = 2097152 };
#define LONG_INPUT "{\"events\":20000,\"bytes\":100}"
#define SLOW_INPUT "{\"events\":20000,\"bytes\":100,\"rate\":20000}"

static char folder[64], path[96];
static bool is_lost, is_slow, is_reading;
static struct sl_run_refusal loss;

static int new_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/sluice-slow-XXXXXX");
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/runs.db", folder);
    store_path = path;
    return 0;
}

static void remove_store(void)
{
    static const char *const endings[] = { "", "-wal", "-shm", ".lock" };
    for (size_t i = 0; i < SL_COUNT(endings); i++) {
        char name[128];
        (void)snprintf(name, sizeof(name), "%s%s", path, endings[i]);
        (void)unlink(name);
    }
}

static int remove_folder(void **state)
{
    (void)state;
    remove_store();
    return rmdir(folder);
}

static void open_with_agents(size_t n)
{
    char name[128];
    struct sl_error err = { .text = "" };
    (void)snprintf(name, sizeof(name), "%s/a.yaml", folder);
    FILE *file = fopen(name, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(agents, 1, sizeof(agents) - 1, file), sizeof(agents) - 1);
    assert_int_equal(fclose(file), 0);
    is_lost = is_slow = is_reading = false;
    sl_limits_init(&limits);
    limits.window = WINDOW;
    limits.slow_consumer = SLOW_MS;
    prepare_runtime(n, "");
    assert_int_equal(sl_runtime_load_agents(runtime, name, fail_on_problem, NULL, &err), SL_OK);
    assert_int_equal(unlink(name), 0);
    if (n > 1) {
        assert_int_equal(pthread_create(&second_thread, NULL, run_second, loops[1]), 0);
    }
}

/* With two loops the next run begins on the other one. */
static void open_with_run_elsewhere(size_t n, struct reader *blocker)
{
    const struct sl_run_spec hang = spec_of("load", "{\"hang\":true}");
    open_with_agents(n);
    *blocker = (struct reader){ .max_take = 0 };
    start(blocker, &hang);
    wait_until(&blocker->is_started);
}

static void close_with_run_elsewhere(struct reader *blocker)
{
    sl_run_stream_close(blocker->stream, SL_RUN_CLOSE_RESET, 8);
    sl_buf_done(&blocker->bytes);
    close_runtime();
    remove_store();
}

/* ---- Readers -----------------------------------------------------------------------------------
 */

static void
on_lost(struct sl_run_stream *stream, const struct sl_run_refusal *refusal, void *user_data)
{
    (void)stream;
    (void)user_data;
    assert_false(is_lost);
    is_lost = true;
    loss = *refusal;
}

static void on_slow(struct sl_run_stream *stream, void *user_data)
{
    const struct reader *reader = user_data;
    assert_ptr_equal(stream, reader->stream);
    assert_false(is_slow);
    is_slow = true;
}

/* It reads when it is told to. */
static void note_started(
    struct sl_run_stream *stream,
    const char *run_id,
    const struct sl_run_refusal *refusal,
    void *user_data)
{
    struct reader *reader = user_data;
    (void)stream;
    reader->is_started = true;
    (void)snprintf(reader->run_id, sizeof(reader->run_id), "%s", run_id);
    if (refusal != NULL) {
        reader->refusal = *refusal;
        reader->is_refused = true;
    } else if (is_reading) {
        read_some(reader);
    }
}

static void read_perhaps(struct sl_run_stream *stream, void *user_data)
{
    if (is_reading) {
        on_readable(stream, user_data);
    }
}

static struct sl_run_callbacks callbacks_of(struct reader *reader)
{
    return (struct sl_run_callbacks){ .on_started = note_started,
                                      .on_readable = read_perhaps,
                                      .on_heartbeat = on_heartbeat,
                                      .on_lost = on_lost,
                                      .on_slow = on_slow,
                                      .on_gone = on_gone,
                                      .user_data = reader };
}

static void start_slow(struct reader *reader, const struct sl_run_spec *spec)
{
    const struct sl_run_callbacks callbacks = callbacks_of(reader);
    *reader = (struct reader){ .max_take = reader->max_take };
    sl_buf_init(&reader->bytes, LOG_BYTES);
    assert_int_equal(sl_run_start(runtime, bases[0], spec, &callbacks, &reader->stream), SL_OK);
    wait_until(&reader->is_started);
    assert_false(reader->is_refused);
}

static void attach(struct reader *reader, const char *run_id, uint64_t after_sequence)
{
    const struct sl_run_callbacks callbacks = callbacks_of(reader);
    const struct sl_run_attach_spec spec = { .run_id = run_id, .after_sequence = after_sequence };
    *reader = (struct reader){ .max_take = reader->max_take };
    sl_buf_init(&reader->bytes, LOG_BYTES);
    assert_int_equal(sl_run_attach(runtime, bases[0], &spec, &callbacks, &reader->stream), SL_OK);
    wait_until(&reader->is_started);
}

static void read_to_end(struct reader *reader)
{
    is_reading = true;
    read_some(reader);
    wait_until(&reader->is_last);
}

static uint64_t n_ended(void)
{
    struct sl_runtime_stats stats;
    sl_runtime_stats(runtime, &stats);
    return stats.runs_ended;
}

static void note_log_bytes(const struct sl_run_view *run, void *user_data)
{
    uint64_t *most = user_data;
    *most = run->log_bytes > *most ? run->log_bytes : *most;
    assert_false(strcmp(run->agent, "rec") == 0 && run->is_paused && run->unread_bytes == 0);
}

/* Nobody reads. Gives the most that a log on the first loop has held. */
static uint64_t wait_for_end(uint64_t n)
{
    uint64_t most = 0;
    for (int n_steps = 0; n_ended() < n; n_steps++) {
        assert_true(n_steps < MAX_STEPS);
        step();
        sl_runtime_each_run(runtime, bases[0], note_log_bytes, &most);
    }
    return most;
}

/* The whole of it, from the store and from the log, as anybody else gets it. */
static void check_whole(const struct reader *reader, size_t n_events)
{
    struct reader other = { .max_take = 0 };
    assert_int_equal(each_event(reader, NULL, NULL), n_events);
    attach(&other, reader->run_id, 0);
    read_to_end(&other);
    assert_int_equal(other.bytes.size, reader->bytes.size);
    assert_memory_equal(other.bytes.data, reader->bytes.data, reader->bytes.size);
    finish(&other);
}

static struct sl_run_spec slow_spec(const char *input, enum sl_run_slow_consumer slow_consumer)
{
    struct sl_run_spec spec = spec_of("rec", input);
    spec.slow_consumer = slow_consumer;
    return spec;
}

static uint64_t n_actions(const char *action)
{
    const char *const labels[] = { action };
    return sl_metric_value(sl_metric_series(SL_M_sluice_slow_consumers, labels));
}

/* ---- SPILL -------------------------------------------------------------------------------------
 */

static const enum sl_run_durability both[] = { SL_RUN_DURABILITY_ASYNC, SL_RUN_DURABILITY_SYNC };

static void a_run_goes_to_its_end_while_nobody_reads(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        for (size_t i = 0; i < SL_COUNT(both); i++) {
            struct reader blocker;
            struct reader slow = { .max_take = 0 };
            struct reader late = { .max_take = 0 };
            struct sl_run_spec spec = slow_spec(LONG_INPUT, SL_RUN_SLOW_SPILL);
            const uint64_t n_spills = n_actions("spill");
            open_with_run_elsewhere(n, &blocker);
            spec.durability = both[i];
            start_slow(&slow, &spec);
            /* What is not stored yet, and the mark; it had 3.4 MB. */
            assert_true(wait_for_end(1) < MOST_BYTES);
            assert_int_equal(sl_run_stream_sequence(slow.stream), 0);
            assert_true(n_actions("spill") > n_spills);
            read_to_end(&slow);
            assert_int_equal(sl_run_stream_sequence(slow.stream), N_EVENTS);
            assert_int_equal(sl_run_stream_ending(slow.stream)->status, SL_OK);
            assert_true(sl_run_stream_at_border(slow.stream));
            assert_false(is_lost || is_slow);
            check_whole(&slow, N_EVENTS);
            finish(&slow);
            attach(&late, slow.run_id, N_EVENTS); /* nothing is left of the one before */
            wait_until(&late.is_last);
            finish(&late);
            close_with_run_elsewhere(&blocker);
        }
    }
}

/* The same reader with PAUSE holds its run back: what is above is not for another reason. */
static void a_reader_that_pauses_holds_its_run_back(void **state)
{
    (void)state;
    struct reader slow = { .max_take = 0 };
    const struct sl_run_spec spec = slow_spec(LONG_INPUT, SL_RUN_SLOW_PAUSE);
    open_with_agents(1);
    start_slow(&slow, &spec);
    for (int i = 0; i < 200; i++) {
        sl_loop_uv_step(loops[0], 1);
    }
    assert_int_equal(n_ended(), 0);
    read_to_end(&slow);
    check_whole(&slow, N_EVENTS);
    finish(&slow);
    close_runtime();
}

/* Below the window and back, several times in one run. */
static void a_reader_goes_to_the_store_and_comes_back(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader blocker;
        struct reader slow = { .max_take = 0 };
        struct reader fast = { .max_take = 0 };
        const struct sl_run_spec spec = slow_spec(SLOW_INPUT, SL_RUN_SLOW_SPILL);
        open_with_run_elsewhere(n, &blocker);
        start_slow(&slow, &spec);
        is_reading = true;
        attach(&fast, slow.run_id, 0);
        const uint64_t n_spills = n_actions("spill");
        for (uint64_t until = 4000; until <= 16000; until += 4000) {
            is_reading = true;
            read_some(&slow);
            for (int i = 0; sl_run_stream_sequence(slow.stream) < until - 3900; i++) {
                assert_true(i < MAX_STEPS);
                step();
            }
            is_reading = false;
            for (int i = 0; sl_run_stream_sequence(fast.stream) < until; i++) {
                assert_true(i < MAX_STEPS);
                step();
                read_some(&fast);
            }
        }
        read_to_end(&slow);
        assert_int_equal(sl_run_stream_ending(slow.stream)->status, SL_OK);
        assert_false(is_lost);
        assert_true(
            n_actions("spill") >= n_spills + 3); /* each time that it was back, it fell again */
        check_whole(&slow, N_EVENTS);
        finish(&fast);
        finish(&slow);
        close_with_run_elsewhere(&blocker);
    }
}

/* A reader of its store that leaves, at each step of the way. */
static void a_reader_may_go_at_any_time(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader blocker;
        open_with_run_elsewhere(n, &blocker);
        for (uint64_t n_steps = 0; n_steps < 8; n_steps++) {
            struct reader slow = { .max_take = 5000 };
            struct sl_run_spec spec =
                slow_spec("{\"events\":3000,\"bytes\":100}", SL_RUN_SLOW_SPILL);
            spec.on_disconnect = SL_RUN_DETACH;
            is_reading = false;
            start_slow(&slow, &spec);
            (void)wait_for_end(n_steps + (n_steps % 2));
            is_reading = true;
            read_some(&slow);
            for (uint64_t i = 0; i < n_steps; i++) {
                sl_loop_uv_step(loops[0], 1);
            }
            sl_run_stream_close(slow.stream, SL_RUN_CLOSE_LOST, 0);
            sl_buf_done(&slow.bytes);
            (void)wait_for_end(n_steps + 1);
        }
        close_with_run_elsewhere(&blocker);
    }
}

/* on_disconnect is what it is without SPILL. */
static void a_lost_reader_cancels_as_before(void **state)
{
    (void)state;
    struct reader slow = { .max_take = 0 };
    struct reader late = { .max_take = 0 };
    const struct sl_run_spec spec =
        slow_spec("{\"events\":3000,\"bytes\":100,\"hang\":true}", SL_RUN_SLOW_SPILL);
    open_with_agents(1);
    start_slow(&slow, &spec);
    sl_run_stream_close(slow.stream, SL_RUN_CLOSE_LOST, 0);
    (void)wait_for_end(1);
    is_reading = true;
    attach(&late, slow.run_id, 0);
    wait_until(&late.is_last);
    assert_int_equal(sl_run_stream_ending(late.stream)->status, SL_CANCELLED);
    finish(&late);
    sl_buf_done(&slow.bytes);
    close_runtime();
}

/* Who wants only the end, and who has no stream (StartRun: it is SPILL whatever is asked for). */
static void one_without_a_stream_is_not_in_the_way(void **state)
{
    (void)state;
    struct reader slow = { .max_take = 0 };
    struct sl_run_spec spec = slow_spec(LONG_INPUT, SL_RUN_SLOW_DEFAULT);
    open_with_agents(1);
    for (int i = 0; i <= SL_RUN_SLOW_DISCONNECT; i++) {
        is_reading = false;
        spec.slow_consumer = (enum sl_run_slow_consumer)i;
        spec.has_no_stream = spec.wants_only_end = true;
        start_slow(&slow, &spec);
        (void)wait_for_end(2 * (uint64_t)i + 1);
        finish(&slow);
        spec.has_no_stream = false;
        is_reading = true;
        start_slow(&slow, &spec);
        wait_until(&slow.is_last);
        assert_int_equal(sl_run_stream_ending(slow.stream)->status, SL_OK);
        finish(&slow);
        (void)wait_for_end(2 * (uint64_t)i + 2);
    }
    assert_false(is_slow || is_lost);
    close_runtime();
}

/* Observers, and runs without a reader, go on as before: nothing but the store holds them back. */
static void nobody_holds_back_a_run_that_he_attached_to(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        for (size_t i = 0; i < SL_COUNT(both); i++) {
            struct reader blocker;
            struct reader first = { .max_take = 0 };
            struct reader late = { .max_take = 0 };
            struct sl_run_spec spec = slow_spec(LONG_INPUT, SL_RUN_SLOW_PAUSE);
            open_with_run_elsewhere(n, &blocker);
            spec.durability = both[i];
            spec.on_disconnect = SL_RUN_DETACH;
            start_slow(&first, &spec);
            attach(&late, first.run_id, 0);
            sl_run_stream_close(first.stream, SL_RUN_CLOSE_LOST, 0);
            (void)wait_for_end(1);
            read_to_end(&late);
            check_whole(&late, N_EVENTS);
            assert_false(is_lost);
            finish(&late);
            sl_buf_done(&first.bytes);
            close_with_run_elsewhere(&blocker);
        }
    }
}

/* The same without a record: one that falls below the window hears of it. */
static void without_a_store_an_observer_that_falls_behind_is_told(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader blocker;
        struct reader first = { .max_take = 0 };
        struct reader late = { .max_take = 0 };
        struct sl_run_spec spec = slow_spec(LONG_INPUT, SL_RUN_SLOW_PAUSE);
        open_with_run_elsewhere(n, &blocker);
        spec.durability = SL_RUN_DURABILITY_NONE;
        spec.on_disconnect = SL_RUN_DETACH;
        start_slow(&first, &spec);
        attach(&late, first.run_id, 0);
        sl_run_stream_close(first.stream, SL_RUN_CLOSE_LOST, 0);
        (void)wait_for_end(1);
        is_reading = true;
        if (late.is_refused) { /* it came too late for the first event already */
            loss = late.refusal;
        } else {
            read_some(&late);
            wait_until(&is_lost);
        }
        assert_int_equal(loss.status, SL_OUT_OF_RANGE);
        assert_string_equal(loss.reason, "BELOW_RETENTION");
        finish(&late);
        sl_buf_done(&first.bytes);
        close_with_run_elsewhere(&blocker);
    }
}

/* ---- The store fails ---------------------------------------------------------------------------
 */

static const struct sl_store_ops *real_ops;

static enum sl_status submit_no_reads(struct sl_store *store, struct sl_store_request *request)
{
    return request->kind == SL_STORE_READ ? SL_UNAVAILABLE : real_ops->submit(store, request);
}

/* AL-5.1: once the stream has begun, it is never UNAVAILABLE. */
static void a_store_that_cannot_be_read_ends_the_stream(void **state)
{
    (void)state;
    struct reader slow = { .max_take = 0 };
    struct sl_run_spec spec = slow_spec(LONG_INPUT, SL_RUN_SLOW_SPILL);
    spec.on_disconnect = SL_RUN_DETACH;
    open_with_agents(1);
    struct sl_store_ops ops = *runtime->store->ops;
    real_ops = runtime->store->ops;
    ops.submit = submit_no_reads;
    start_slow(&slow, &spec);
    (void)wait_for_end(1);
    runtime->store->ops = &ops;
    is_reading = true;
    read_some(&slow);
    wait_until(&is_lost);
    assert_int_equal(loss.status, SL_ABORTED);
    assert_string_equal(loss.reason, "STORE_UNAVAILABLE");
    assert_false(slow.is_last);
    runtime->store->ops = real_ops;
    finish(&slow);
    close_runtime();
}

static void a_damaged_store_ends_the_stream(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader blocker;
        struct reader slow = { .max_take = 0 };
        const struct sl_run_spec spec = slow_spec(LONG_INPUT, SL_RUN_SLOW_SPILL);
        sqlite3 *db = NULL;
        open_with_run_elsewhere(n, &blocker);
        start_slow(&slow, &spec);
        (void)wait_for_end(1);
        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(
            sqlite3_exec(
                db,
                "UPDATE events SET crc = crc + 1 WHERE last_sequence ="
                " (SELECT max(last_sequence) FROM events WHERE last_sequence < 15000)",
                NULL, NULL, NULL),
            SQLITE_OK);
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
        is_reading = true;
        read_some(&slow);
        wait_until(&is_lost);
        assert_int_equal(loss.status, SL_DATA_LOSS);
        assert_in_range(sl_run_stream_sequence(slow.stream), 1, 14999);
        assert_false(slow.is_last);
        finish(&slow);
        close_with_run_elsewhere(&blocker);
    }
}

/* ---- DISCONNECT --------------------------------------------------------------------------------
 */

/* limits.slow_consumer: the run goes on, whatever on_disconnect says, and Attach has the rest. */
static void a_reader_that_stays_behind_is_cut_and_its_run_goes_on(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader blocker;
        struct reader slow = { .max_take = 0 };
        struct reader late = { .max_take = 0 };
        const struct sl_run_spec spec = slow_spec(SLOW_INPUT, SL_RUN_SLOW_DISCONNECT);
        const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_slow_consumer);
        const uint64_t n_cut = n_actions("disconnect");
        open_with_run_elsewhere(n, &blocker);
        is_reading = true;
        start_slow(&slow, &spec);
        for (int i = 0; sl_run_stream_sequence(slow.stream) < 100; i++) {
            assert_true(i < MAX_STEPS);
            step();
        }
        is_reading = false;
        wait_until(&is_slow);
        assert_int_equal(n_ended(), 0);
        assert_int_equal(sl_limit_n_reached(SL_LIMIT_slow_consumer), n_before + 1);
        assert_int_equal(n_actions("disconnect"), n_cut + 1);
        assert_true(sl_run_stream_outlives(slow.stream, SL_RUN_CLOSE_LOST));
        assert_true(sl_run_stream_outlives(slow.stream, SL_RUN_CLOSE_RESET));
        const uint64_t sequence = sl_run_stream_sequence(slow.stream);
        attach(&late, slow.run_id, 1); /* who comes and goes means nothing to it */
        sl_run_stream_close(slow.stream, SL_RUN_CLOSE_RESET, 8);
        sl_run_stream_close(late.stream, SL_RUN_CLOSE_LOST, 0);
        sl_buf_done(&late.bytes);
        attach(&late, slow.run_id, sequence);
        read_to_end(&late);
        assert_int_equal(sl_run_stream_sequence(late.stream), N_EVENTS);
        assert_int_equal(sl_run_stream_ending(late.stream)->status, SL_OK);
        finish(&late);
        sl_buf_done(&slow.bytes);
        close_with_run_elsewhere(&blocker);
    }
}

/* Also of a run that is over by then. */
static void a_reader_that_stays_behind_is_cut_after_the_end_too(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        for (int is_kept = 0; is_kept <= 1; is_kept++) {
            struct reader blocker;
            struct reader slow = { .max_take = 0 };
            const struct sl_run_spec spec =
                slow_spec("{\"events\":5000,\"bytes\":100}", SL_RUN_SLOW_DISCONNECT);
            open_with_run_elsewhere(n, &blocker);
            runtime->newest->limits.window_keep = is_kept ? 120000 : 0;
            start_slow(&slow, &spec);
            (void)wait_for_end(1);
            wait_until(&is_slow);
            finish(&slow);
            close_with_run_elsewhere(&blocker);
        }
    }
}

static void pass_time(uint64_t ms)
{
    const uint64_t until_ns = sl_loop_now_ns(bases[0]) + ms * SL_NS_PER_MS;
    while (sl_loop_now_ns(bases[0]) < until_ns) {
        sl_loop_uv_step(loops[0], 1);
    }
}

/* What counts is one time without a break: it is past its mark twenty times. */
static void a_reader_that_reads_in_time_is_not_cut(void **state)
{
    (void)state;
    struct reader slow = { .max_take = 0 };
    struct sl_run_spec spec =
        slow_spec("{\"events\":600,\"bytes\":100,\"rate\":300}", SL_RUN_SLOW_DISCONNECT);
    spec.has_buffer_events = true;
    spec.buffer_events = 10;
    const uint64_t n_spills = n_actions("spill");
    open_with_agents(1);
    runtime->newest->limits.slow_consumer = 1500;
    start_slow(&slow, &spec);
    while (!slow.is_last) {
        pass_time(50);
        read_some(&slow);
    }
    assert_false(is_slow || is_lost);
    assert_true(n_actions("spill") > n_spills + 1);
    check_whole(&slow, 604);
    finish(&slow);
    close_runtime();
}

/* The time is over, and there is nothing that it has not read. */
static void a_reader_that_has_caught_up_is_not_cut(void **state)
{
    (void)state;
    struct reader slow = { .max_take = 0 };
    struct sl_run_spec spec = slow_spec("{\"hang\":true}", SL_RUN_SLOW_DISCONNECT);
    spec.has_buffer_events = true;
    spec.buffer_events = 1;
    const uint64_t n_spills = n_actions("spill");
    open_with_agents(1);
    runtime->newest->limits.slow_consumer = 1000;
    start_slow(&slow, &spec);
    while (sl_run_stream_sequence(slow.stream) < 3) {
        step();
        read_some(&slow);
    }
    assert_true(n_actions("spill") > n_spills);
    is_reading = true;
    pass_time(1500);
    assert_false(is_slow);
    sl_run_stream_close(slow.stream, SL_RUN_CLOSE_LOST, 0);
    sl_buf_done(&slow.bytes);
    close_runtime();
}

/* DETACH_FOR counts from then: nobody holds a stream on the run. */
static void a_run_without_its_reader_has_its_time_to_live(void **state)
{
    (void)state;
    struct reader slow = { .max_take = 0 };
    struct reader late = { .max_take = 0 };
    struct sl_run_spec spec =
        slow_spec("{\"events\":100000,\"bytes\":100,\"rate\":10000}", SL_RUN_SLOW_DISCONNECT);
    spec.on_disconnect = SL_RUN_DETACH_FOR;
    spec.detach_ttl_ms = 1000;
    open_with_agents(1);
    start_slow(&slow, &spec);
    wait_until(&is_slow);
    sl_run_stream_close(slow.stream, SL_RUN_CLOSE_LOST, 0);
    (void)wait_for_end(1);
    is_reading = true;
    attach(&late, slow.run_id, 0);
    wait_until(&late.is_last);
    assert_int_equal(sl_run_stream_ending(late.stream)->status, SL_CANCELLED);
    finish(&late);
    sl_buf_done(&slow.bytes);
    close_runtime();
}

/* ---- What may be asked for ---------------------------------------------------------------------
 */

static void check_runs(const struct sl_run_spec *spec, enum sl_slow_consumer expected)
{
    struct reader reader = { .max_take = 0 };
    is_reading = true;
    start_slow(&reader, spec);
    assert_int_equal(reader.stream->slow_consumer, expected);
    wait_until(&reader.is_last);
    finish(&reader);
}

static void it_needs_a_record(void **state)
{
    (void)state;
    static const enum sl_run_slow_consumer slow[] = { SL_RUN_SLOW_SPILL, SL_RUN_SLOW_DISCONNECT };
    open_with_agents(1);
    for (size_t i = 0; i < SL_COUNT(slow); i++) {
        struct sl_run_spec spec = slow_spec("{\"events\":1}", slow[i]);
        check_runs(&spec, i == 0 ? SL_SLOW_SPILL : SL_SLOW_DISCONNECT);
        spec.durability = SL_RUN_DURABILITY_NONE;
        check_refusal(
            &spec, SL_INVALID_ARGUMENT, "INVALID_REQUEST",
            "needs a store: durability ASYNC or SYNC");
        spec.has_no_stream = true;
        check_refusal(&spec, SL_INVALID_ARGUMENT, "INVALID_REQUEST", "needs a store");
        struct sl_run_spec builtin = spec_of("load", "{\"events\":1}");
        builtin.slow_consumer = slow[i];
        check_refusal(&builtin, SL_INVALID_ARGUMENT, "INVALID_REQUEST", "needs a store");
        struct sl_run_spec of_file = spec_of(i == 0 ? "spiller" : "cutter", "{\"events\":1}");
        check_runs(&of_file, i == 0 ? SL_SLOW_SPILL : SL_SLOW_DISCONNECT);
        of_file.durability = SL_RUN_DURABILITY_NONE;
        check_refusal(&of_file, SL_INVALID_ARGUMENT, "INVALID_REQUEST", "with NONE ask for PAUSE");
        of_file.slow_consumer = SL_RUN_SLOW_PAUSE;
        check_runs(&of_file, SL_SLOW_PAUSE);
        of_file.durability = SL_RUN_DURABILITY_SYNC;
        check_runs(&of_file, SL_SLOW_PAUSE);
    }
    close_runtime();
}

static void without_a_store_an_agent_that_wants_it_is_disabled(void **state)
{
    (void)state;
    store_path = NULL;
    open_with_agents(1);
    struct sl_run_spec spec = slow_spec("{\"events\":1}", SL_RUN_SLOW_SPILL);
    check_refusal(&spec, SL_INVALID_ARGUMENT, "INVALID_REQUEST", "needs a store");
    static const char *const names[] = { "spiller", "cutter" };
    for (size_t i = 0; i < SL_COUNT(names); i++) {
        struct sl_run_spec of_file = spec_of(names[i], "{\"events\":1}");
        check_refusal(&of_file, SL_FAILED_PRECONDITION, "AGENT_DISABLED", names[i]);
        of_file.durability = SL_RUN_DURABILITY_NONE;
        check_refusal(&of_file, SL_FAILED_PRECONDITION, "AGENT_DISABLED", names[i]);
        of_file.slow_consumer = SL_RUN_SLOW_PAUSE;
        check_runs(&of_file, SL_SLOW_PAUSE);
    }
    close_runtime();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, new_folder, remove_folder)
        TEST(a_run_goes_to_its_end_while_nobody_reads),
        TEST(a_reader_that_pauses_holds_its_run_back),
        TEST(a_reader_goes_to_the_store_and_comes_back),
        TEST(a_reader_may_go_at_any_time),
        TEST(a_lost_reader_cancels_as_before),
        TEST(one_without_a_stream_is_not_in_the_way),
        TEST(nobody_holds_back_a_run_that_he_attached_to),
        TEST(without_a_store_an_observer_that_falls_behind_is_told),
        TEST(a_store_that_cannot_be_read_ends_the_stream),
        TEST(a_damaged_store_ends_the_stream),
        TEST(a_reader_that_stays_behind_is_cut_and_its_run_goes_on),
        TEST(a_reader_that_stays_behind_is_cut_after_the_end_too),
        TEST(a_reader_that_reads_in_time_is_not_cut),
        TEST(a_reader_that_has_caught_up_is_not_cut),
        TEST(a_run_without_its_reader_has_its_time_to_live),
        TEST(it_needs_a_record),
        TEST(without_a_store_an_agent_that_wants_it_is_disabled),
#undef TEST
    };
    return cmocka_run_group_tests_name("slow", tests, NULL, NULL);
}
