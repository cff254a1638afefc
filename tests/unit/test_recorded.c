/* Runs of a runtime that has a store: what is in it, and what it knows when a request comes again.
 */
#include "runtime/base/metrics.h"
#include "tests/fake/store_rig.h"
#include "tests/unit/test_runtime_rig.h"

/* One agent that leaves it to the server, and one that does not. */
static const char agents[] = "name: rec\nprovider: load\nmodel: load\nmemory: None\n"
                             "---\n"
                             "name: sure\nprovider: load\nmodel: load\nmemory: None\n"
                             "durability: SYNC\n";

static struct sl_store_rig files;

static void load_agents(void)
{
    char path[SL_RIG_PATH_BYTES + 16];
    struct sl_error err = { .text = "" };
    (void)snprintf(path, sizeof(path), "%s/a.yaml", files.folder);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(agents, 1, sizeof(agents) - 1, file), sizeof(agents) - 1);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(sl_runtime_load_agents(runtime, path, fail_on_problem, NULL, &err), SL_OK);
}

/* As sl_runtime_open_store() does, before the loops run. */
static void use_store(struct sl_store *store)
{
    (void)sl_store_free(runtime->store);
    runtime->store = store;
    for (size_t i = 0; i < n_loops; i++) {
        runtime->newest->loops[i].env.store = store;
    }
}

static void start_second(size_t n)
{
    if (n > 1) {
        assert_int_equal(pthread_create(&second_thread, NULL, run_second, loops[1]), 0);
    }
}

static void open_recorded(size_t n)
{
    struct sl_store *store = NULL;
    struct sl_error err = { .text = "" };
    prepare_runtime(n, "");
    load_agents();
    if (sl_store_sqlite_new(&files.options, &store, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
    use_store(store);
    start_second(n);
}

/* With two loops the next run begins on the other one. */
static void block_first_loop(struct reader *blocker)
{
    const struct sl_run_spec hang = spec_of("load", "{\"hang\":true}");
    start(blocker, &hang);
    wait_until(&blocker->is_started);
}

static void unblock(struct reader *blocker)
{
    sl_run_stream_close(blocker->stream, SL_RUN_CLOSE_RESET, 8);
    sl_buf_done(&blocker->bytes);
}

static bool is_taking = true;

static void on_started_perhaps(
    struct sl_run_stream *stream,
    const char *run_id,
    const struct sl_run_refusal *refusal,
    void *user_data)
{
    struct reader *reader = user_data;
    if (is_taking || refusal != NULL) {
        on_started(stream, run_id, refusal, user_data);
    } else {
        reader->is_started = true;
    }
}

static void on_readable_perhaps(struct sl_run_stream *stream, void *user_data)
{
    if (is_taking) {
        on_readable(stream, user_data);
    }
}

static void attach(struct reader *reader, const char *run_id)
{
    const struct sl_run_callbacks callbacks = { .on_started = on_started_perhaps,
                                                .on_readable = on_readable_perhaps,
                                                .user_data = reader };
    const struct sl_run_attach_spec spec = { .run_id = run_id };
    *reader = (struct reader){ .max_take = reader->max_take };
    sl_buf_init(&reader->bytes, LOG_BYTES);
    assert_int_equal(sl_run_attach(runtime, bases[0], &spec, &callbacks, &reader->stream), SL_OK);
}

/* The store has exactly these bytes. */
static void check_stored(const char *run_id, const struct sl_buf *bytes, enum sl_store_state state)
{
    size_t at = 0;
    uint64_t after = 0;
    enum sl_store_state found = SL_STORE_STATE_ANY;
    while (true) {
        struct sl_store_read read = { .request = sl_store_rig_request(&files),
                                      .run_id = run_id,
                                      .after_sequence = after };
        assert_int_equal(
            sl_store_rig_wait(&files, &read.request, sl_store_read(files.store, &read)), SL_OK);
        const size_t size = read.bytes.size;
        assert_true(at + size <= bytes->size);
        if (size > 0) {
            assert_memory_equal(bytes->data + at, read.bytes.data, size);
        }
        at += size;
        after = read.last_sequence;
        found = read.run.state;
        sl_store_request_done(&read.request);
        if (size == 0) {
            break;
        }
    }
    assert_int_equal(at, bytes->size);
    assert_int_equal(found, state);
}

static const enum sl_run_durability recorded[] = { SL_RUN_DURABILITY_DEFAULT,
                                                   SL_RUN_DURABILITY_ASYNC,
                                                   SL_RUN_DURABILITY_SYNC };

/* AL-2.1, RL-I1: on one loop and on two, for the first reader and another one. */
static void the_store_has_what_readers_get(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(recorded) * MAX_LOOPS; i++) {
        struct reader blocker = { .max_take = 0 };
        struct reader first = { .max_take = 700 };
        struct reader second = { .max_take = 0 };
        const enum sl_run_durability durability = recorded[i % SL_COUNT(recorded)];
        sl_limits_init(&limits);
        sl_store_rig_init(&files);
        open_recorded(1 + i / SL_COUNT(recorded));
        block_first_loop(&blocker);
        struct sl_run_spec spec = spec_of("rec", "{\"events\":3000,\"bytes\":100}");
        spec.durability = durability;
        spec.on_disconnect = SL_RUN_DETACH; /* keeps the whole window */
        start(&first, &spec);
        wait_until(&first.is_started);
        assert_false(first.is_refused);
        attach(&second, first.run_id);
        wait_until(&first.is_last);
        wait_until(&second.is_last);
        assert_int_equal(each_event(&first, NULL, NULL), 3004);
        assert_int_equal(sl_run_stream_ending(first.stream)->status, SL_OK);
        assert_int_equal(second.bytes.size, first.bytes.size);
        assert_memory_equal(second.bytes.data, first.bytes.data, first.bytes.size);
        const struct sl_buf bytes = first.bytes;
        sl_buf_init(&first.bytes, LOG_BYTES);
        finish(&first);
        finish(&second);
        unblock(&blocker);
        close_runtime();
        sl_store_rig_open(&files);
        check_stored(first.run_id, &bytes, SL_STORE_STATE_DONE);
        struct sl_buf done = bytes;
        sl_buf_done(&done);
        sl_store_rig_done(&files);
    }
}

/* Cancelled by the end of the server, with its reason; nothing is left open. */
static void a_run_that_is_cut_by_the_end_is_recorded(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader blocker = { .max_take = 0 };
        struct reader reader = { .max_take = 0 };
        sl_limits_init(&limits);
        sl_store_rig_init(&files);
        open_recorded(n);
        block_first_loop(&blocker);
        const struct sl_run_spec spec = spec_of("sure", "{\"hang\":true}");
        start(&reader, &spec);
        wait_until(&reader.is_started);
        stop_runtime();
        wait_until(&reader.is_last);
        (void)each_event(&reader, NULL, NULL);
        assert_string_equal(sl_run_stream_ending(reader.stream)->reason, "DRAINING");
        assert_int_equal(sl_store_n_open(runtime->store), 0);
        const struct sl_buf bytes = reader.bytes;
        sl_buf_init(&reader.bytes, LOG_BYTES);
        finish(&reader);
        unblock(&blocker);
        free_runtime();
        sl_store_rig_open(&files);
        check_stored(reader.run_id, &bytes, SL_STORE_STATE_FAILED);
        struct sl_buf done = bytes;
        sl_buf_done(&done);
        sl_store_rig_done(&files);
    }
}

/* AL-7.1: who holds a stream on the run is there, also while he reads what only the store has. */
static void detach_for_counts_who_reads_from_the_store(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader blocker = { .max_take = 0 };
        struct reader first = { .max_take = 0 };
        struct reader late = { .max_take = 0 };
        struct sl_runtime_stats stats;
        sl_limits_init(&limits);
        limits.window = 4096;
        sl_store_rig_init(&files);
        open_recorded(n);
        runtime->has_store = true;
        block_first_loop(&blocker);
        struct sl_run_spec spec = spec_of("rec", "{\"events\":2500,\"bytes\":100,\"rate\":1000}");
        spec.on_disconnect = SL_RUN_DETACH_FOR;
        spec.detach_ttl_ms = 1000; /* much less than the run takes from there */
        start(&first, &spec);
        for (int n_steps = 0; first.bytes.size < 65536; n_steps++) {
            assert_true(n_steps < MAX_STEPS);
            step();
        }
        is_taking = false;
        attach(&late, first.run_id);
        wait_until(&late.is_started);
        assert_false(late.is_refused);
        sl_run_stream_close(first.stream, SL_RUN_CLOSE_LOST, 0);
        sl_buf_done(&first.bytes);
        int n_steps = 0;
        do {
            step();
            sl_runtime_stats(runtime, &stats);
            assert_true(n_steps++ < MAX_STEPS);
        } while (stats.runs_running > 1);
        is_taking = true;
        read_some(&late);
        wait_until(&late.is_last);
        assert_int_equal(sl_run_stream_ending(late.stream)->status, SL_OK);
        assert_int_equal(each_event(&late, NULL, NULL), 2504);
        finish(&late);
        unblock(&blocker);
        close_runtime();
        sl_store_rig_done(&files);
    }
}

/* ---- The request again -------------------------------------------------------------------------
 */

static char followed[SL_ID_BYTES];

static void note_follow(struct sl_run_stream *stream, const char *run_id)
{
    (void)snprintf(followed, sizeof(followed), "%s", run_id);
    sl_run_refuse(stream, SL_UNAVAILABLE, "TEST", "the test was asked");
    sl_run_stream_tell_later(stream);
}

static void ask_again(const struct sl_run_spec *spec, const char *reason)
{
    struct reader blocker = { .max_take = 0 };
    struct reader reader = { .max_take = 0 };
    block_first_loop(&blocker);
    start(&reader, spec);
    wait_until(&reader.is_started);
    assert_true(reader.is_refused);
    assert_string_equal(reader.refusal.reason, reason);
    finish(&reader);
    unblock(&blocker);
}

/* AL-5.3: a request id that only the store knows. */
static void a_request_that_the_store_knows_does_not_start_a_run(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader reader = { .max_take = 0 };
        struct sl_run_spec spec = spec_of("rec", "{\"events\":3}");
        sl_limits_init(&limits);
        sl_store_rig_init(&files);
        open_recorded(n);
        spec.request_id = "once";
        start(&reader, &spec);
        wait_until(&reader.is_last);
        finish(&reader);
        close_runtime();
        open_recorded(n);
        ask_again(&spec, "REQUEST_ID_REUSED"); /* nobody can follow it */
        runtime->follow_stored = note_follow;
        ask_again(&spec, "TEST");
        assert_string_equal(followed, reader.run_id);
        followed[0] = '\0';
        spec.input = sl_slice_str("{\"events\":4}");
        ask_again(&spec, "REQUEST_ID_REUSED");
        spec.input = sl_slice_str("{\"events\":3}");
        spec.durability = SL_RUN_DURABILITY_SYNC;
        ask_again(&spec, "REQUEST_ID_REUSED");
        assert_string_equal(followed, "");
        close_runtime();
        sl_store_rig_done(&files);
    }
}

/* A reader that goes while the store is asked leaves nothing behind. */
static void a_reader_may_go_before_the_store_has_answered(void **state)
{
    (void)state;
    for (size_t i = 0; i < (size_t)50 * MAX_LOOPS; i++) {
        struct reader blocker = { .max_take = 0 };
        struct reader reader = { .max_take = 0 };
        sl_limits_init(&limits);
        sl_store_rig_init(&files);
        open_recorded(1 + i % MAX_LOOPS);
        block_first_loop(&blocker);
        const struct sl_run_spec spec = spec_of("sure", "{\"hang\":true}");
        start(&reader, &spec);
        for (size_t n = 0; n < i / MAX_LOOPS % 5; n++) {
            sl_loop_uv_step(loops[0], 0);
        }
        sl_run_stream_close(reader.stream, SL_RUN_CLOSE_RESET, 8);
        sl_buf_done(&reader.bytes);
        unblock(&blocker);
        close_runtime();
        sl_store_rig_done(&files);
    }
}

/* ---- Who is recorded ---------------------------------------------------------------------------
 */

static void a_full_disk_takes_no_new_run(void **state)
{
    (void)state;
    sl_limits_init(&limits);
    sl_store_rig_init(&files);
    files.options.min_free_percent = 100;
    open_recorded(1);
    const struct sl_run_spec spec = spec_of("rec", "{\"events\":3}");
    check_refusal(&spec, SL_RESOURCE_EXHAUSTED, "SERVER_FULL", "no room for a run");
    close_runtime();
    sl_store_rig_done(&files);
}

static void
check_durability(const char *agent, enum sl_run_durability asked, enum sl_store_durability expected)
{
    struct reader reader = { .max_take = 0 };
    struct sl_run_spec spec = spec_of(agent, strcmp(agent, "echo") == 0 ? "hi" : "{\"events\":1}");
    spec.durability = asked;
    start(&reader, &spec);
    wait_until(&reader.is_last);
    assert_int_equal(reader.stream->start.settings.durability, expected);
    finish(&reader);
}

/* RL-4.1 */
static void the_request_decides_then_the_agent_then_the_server(void **state)
{
    (void)state;
    sl_limits_init(&limits);
    sl_store_rig_init(&files);
    open_recorded(1);
    check_durability("rec", SL_RUN_DURABILITY_DEFAULT, SL_STORE_ASYNC);
    check_durability("rec", SL_RUN_DURABILITY_NONE, SL_STORE_NONE);
    check_durability("rec", SL_RUN_DURABILITY_SYNC, SL_STORE_SYNC);
    check_durability("sure", SL_RUN_DURABILITY_DEFAULT, SL_STORE_SYNC);
    check_durability("sure", SL_RUN_DURABILITY_ASYNC, SL_STORE_ASYNC);
    check_durability("sure", SL_RUN_DURABILITY_NONE, SL_STORE_NONE);
    check_durability("echo", SL_RUN_DURABILITY_DEFAULT, SL_STORE_NONE);
    check_durability("load", SL_RUN_DURABILITY_NONE, SL_STORE_NONE);
    struct sl_run_spec spec = spec_of("echo", "hi");
    spec.durability = SL_RUN_DURABILITY_ASYNC;
    check_refusal(&spec, SL_INVALID_ARGUMENT, "INVALID_REQUEST", "never recorded");
    close_runtime();
    sl_store_rig_done(&files);
}

static void without_a_store_nobody_gets_a_record(void **state)
{
    (void)state;
    sl_limits_init(&limits);
    sl_store_rig_init(&files);
    prepare_runtime(1, "");
    load_agents();
    check_durability("rec", SL_RUN_DURABILITY_DEFAULT, SL_STORE_NONE);
    check_durability("sure", SL_RUN_DURABILITY_NONE, SL_STORE_NONE);
    struct sl_run_spec spec = spec_of("rec", "{}");
    spec.durability = SL_RUN_DURABILITY_ASYNC;
    check_refusal(&spec, SL_INVALID_ARGUMENT, "INVALID_REQUEST", "no store for ASYNC");
    spec.durability = SL_RUN_DURABILITY_SYNC;
    check_refusal(&spec, SL_INVALID_ARGUMENT, "INVALID_REQUEST", "no store for SYNC");
    spec = spec_of("sure", "{}");
    check_refusal(&spec, SL_FAILED_PRECONDITION, "AGENT_DISABLED", "'sure' wants durability SYNC");
    close_runtime();
    sl_store_rig_done(&files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_store_has_what_readers_get),
        cmocka_unit_test(a_run_that_is_cut_by_the_end_is_recorded),
        cmocka_unit_test(detach_for_counts_who_reads_from_the_store),
        cmocka_unit_test(a_request_that_the_store_knows_does_not_start_a_run),
        cmocka_unit_test(a_reader_may_go_before_the_store_has_answered),
        cmocka_unit_test(a_full_disk_takes_no_new_run),
        cmocka_unit_test(the_request_decides_then_the_agent_then_the_server),
        cmocka_unit_test(without_a_store_nobody_gets_a_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
