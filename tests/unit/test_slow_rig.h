/* Runs that are recorded, and readers of them who read when they are told to. */
#ifndef SL_TESTS_UNIT_TEST_SLOW_RIG_H
#define SL_TESTS_UNIT_TEST_SLOW_RIG_H

#include <unistd.h>

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

static inline int new_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/sluice-slow-XXXXXX");
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/runs.db", folder);
    store_path = path;
    return 0;
}

static inline void remove_store(void)
{
    static const char *const endings[] = { "", "-wal", "-shm", ".lock" };
    for (size_t i = 0; i < SL_COUNT(endings); i++) {
        char name[128];
        (void)snprintf(name, sizeof(name), "%s%s", path, endings[i]);
        (void)unlink(name);
    }
}

static inline int remove_folder(void **state)
{
    (void)state;
    remove_store();
    return rmdir(folder);
}

static inline void open_with_agents(size_t n)
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
static inline void open_with_run_elsewhere(size_t n, struct reader *blocker)
{
    const struct sl_run_spec hang = spec_of("load", "{\"hang\":true}");
    open_with_agents(n);
    *blocker = (struct reader){ .max_take = 0 };
    start(blocker, &hang);
    wait_until(&blocker->is_started);
}

static inline void close_with_run_elsewhere(struct reader *blocker)
{
    sl_run_stream_close(blocker->stream, SL_RUN_CLOSE_RESET, 8);
    sl_buf_done(&blocker->bytes);
    close_runtime();
    remove_store();
}

/* ---- Readers -----------------------------------------------------------------------------------
 */

static inline void
on_lost(struct sl_run_stream *stream, const struct sl_run_refusal *refusal, void *user_data)
{
    (void)stream;
    (void)user_data;
    assert_false(is_lost);
    is_lost = true;
    loss = *refusal;
}

static inline void on_slow(struct sl_run_stream *stream, void *user_data)
{
    const struct reader *reader = user_data;
    assert_ptr_equal(stream, reader->stream);
    assert_false(is_slow);
    is_slow = true;
}

/* It reads when it is told to. */
static inline void note_started(
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

static inline void read_perhaps(struct sl_run_stream *stream, void *user_data)
{
    if (is_reading) {
        on_readable(stream, user_data);
    }
}

static inline struct sl_run_callbacks callbacks_of(struct reader *reader)
{
    return (struct sl_run_callbacks){ .on_started = note_started,
                                      .on_readable = read_perhaps,
                                      .on_heartbeat = on_heartbeat,
                                      .on_lost = on_lost,
                                      .on_slow = on_slow,
                                      .on_gone = on_gone,
                                      .user_data = reader };
}

static inline void start_slow(struct reader *reader, const struct sl_run_spec *spec)
{
    const struct sl_run_callbacks callbacks = callbacks_of(reader);
    *reader = (struct reader){ .max_take = reader->max_take };
    sl_buf_init(&reader->bytes, LOG_BYTES);
    assert_int_equal(sl_run_start(runtime, bases[0], spec, &callbacks, &reader->stream), SL_OK);
    wait_until(&reader->is_started);
    assert_false(reader->is_refused);
}

static inline void attach(struct reader *reader, const char *run_id, uint64_t after_sequence)
{
    const struct sl_run_callbacks callbacks = callbacks_of(reader);
    const struct sl_run_attach_spec spec = { .run_id = run_id, .after_sequence = after_sequence };
    *reader = (struct reader){ .max_take = reader->max_take };
    sl_buf_init(&reader->bytes, LOG_BYTES);
    assert_int_equal(sl_run_attach(runtime, bases[0], &spec, &callbacks, &reader->stream), SL_OK);
    wait_until(&reader->is_started);
}

static inline void read_to_end(struct reader *reader)
{
    is_reading = true;
    read_some(reader);
    wait_until(&reader->is_last);
}

static inline uint64_t n_ended(void)
{
    struct sl_runtime_stats stats;
    sl_runtime_stats(runtime, &stats);
    return stats.runs_ended;
}

static inline void note_log_bytes(const struct sl_run_view *run, void *user_data)
{
    uint64_t *most = user_data;
    *most = run->memory.log > *most ? run->memory.log : *most;
    assert_false(strcmp(run->agent, "rec") == 0 && run->is_paused && run->unread_bytes == 0);
}

/* Nobody reads. Gives the most that a log on the first loop has held. */
static inline uint64_t wait_for_end(uint64_t n)
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
static inline void check_whole(const struct reader *reader, size_t n_events)
{
    struct reader other = { .max_take = 0 };
    assert_int_equal(each_event(reader, NULL, NULL), n_events);
    attach(&other, reader->run_id, 0);
    read_to_end(&other);
    assert_int_equal(other.bytes.size, reader->bytes.size);
    assert_memory_equal(other.bytes.data, reader->bytes.data, reader->bytes.size);
    finish(&other);
}

static inline struct sl_run_spec
slow_spec(const char *input, enum sl_run_slow_consumer slow_consumer)
{
    struct sl_run_spec spec = spec_of("rec", input);
    spec.slow_consumer = slow_consumer;
    return spec;
}

static inline uint64_t n_actions(const char *action)
{
    const char *const labels[] = { action };
    return sl_metric_value(sl_metric_series(SL_M_sluice_slow_consumers, labels));
}

#endif
