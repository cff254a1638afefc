/* Readers of runs that are in the store, and repeats of their requests. The test records the runs
 * itself, from what their first readers read. */
#include <unistd.h>

#include <sqlite3.h>

#include "runtime/base/event_log.h"
#include "tests/unit/test_runtime_rig.h"

static char folder[64], path[96];
static bool is_lost;
static struct sl_run_refusal loss;

static int new_folder(void **state)
{
    (void)state;
    sl_limits_init(&limits);
    (void)snprintf(folder, sizeof(folder), "/tmp/sluice-stored-XXXXXX");
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/runs.db", folder);
    store_path = path;
    is_lost = false;
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

/* ---- Recording ---------------------------------------------------------------------------------
 */

/* Of the run that `reader` reads: whole events, in order, one append at a time. */
struct recorder {
    struct reader *reader;
    struct sl_store_log log;
    struct sl_store_append append;
    struct sl_store_end end;
    struct sl_segment *segment;
    size_t at; /* of the reader's bytes */
    uint64_t sequence;
    bool is_busy, is_over;
};

static void on_begun(struct sl_store_request *request)
{
    assert_int_equal(request->status, SL_OK);
    request->on_done = NULL;
}

static void begin_record(struct recorder *recorder, struct reader *reader, struct sl_store_run run)
{
    *recorder = (struct recorder){ .reader = reader };
    run.run_id = reader->run_id;
    run.agent = "load";
    run.tenant = run.tenant == NULL ? "" : run.tenant;
    run.durability = SL_STORE_ASYNC;
    run.created_ms = 1000;
    struct sl_store_begin begin = { .request = { .loop = bases[0], .on_done = on_begun },
                                    .log = &recorder->log,
                                    .run = &run };
    assert_int_equal(sl_store_begin_run(runtime->store, &begin), SL_PENDING);
    while (begin.request.on_done != NULL) {
        step();
    }
}

static void recorded(struct recorder *recorder, const struct sl_store_request *request)
{
    assert_int_equal(request->status, SL_OK);
    recorder->segment = sl_segment_unref(recorder->segment);
    recorder->is_busy = false;
}

static void on_appended(struct sl_store_request *request)
{
    recorded(SL_CONTAINER(request, struct recorder, append.request), request);
}

static void on_ended(struct sl_store_request *request)
{
    struct recorder *recorder = SL_CONTAINER(request, struct recorder, end.request);
    recorded(recorder, request);
    recorder->is_over = true;
}

/* Takes whole events, without the last one if the log is over: that goes with the end. */
static size_t take_events(struct recorder *recorder, uint64_t *ret_n_events, bool is_end)
{
    const struct sl_buf *bytes = &recorder->reader->bytes;
    size_t to = recorder->at;
    *ret_n_events = 0;
    while (to + SL_EVENT_PREFIX_BYTES <= bytes->size) {
        const size_t next = to + sl_event_size(bytes->data + to);
        if (next > bytes->size || (recorder->reader->is_last && next == bytes->size && !is_end)) {
            break;
        }
        to = next;
        (*ret_n_events)++;
    }
    return to - recorder->at;
}

static struct sl_store_range next_range(struct recorder *recorder, size_t size)
{
    recorder->segment = sl_segment_new((uint32_t)size);
    assert_non_null(recorder->segment);
    memcpy(recorder->segment->bytes, recorder->reader->bytes.data + recorder->at, size);
    recorder->segment->used = (uint32_t)size;
    recorder->at += size;
    recorder->is_busy = true;
    return (struct sl_store_range){ .segment = recorder->segment, .to = (uint32_t)size };
}

static void end_record(struct recorder *recorder)
{
    uint64_t n_events = 0;
    const size_t size = take_events(recorder, &n_events, true);
    assert_int_equal(n_events, 1);
    recorder->end = (struct sl_store_end){
        .request = { .loop = bases[0], .on_done = on_ended },
        .log = &recorder->log,
        .sequence = recorder->sequence + 1,
        .range = next_range(recorder, size),
        .state = SL_STORE_STATE_DONE,
        .ended_ms = 2000,
    };
    assert_int_equal(sl_store_end_run(runtime->store, &recorder->end), SL_PENDING);
}

static void record(struct recorder *recorder)
{
    uint64_t n_events = 0;
    if (recorder->is_busy || recorder->is_over) {
        return;
    }
    const size_t size = take_events(recorder, &n_events, false);
    if (n_events == 0 && recorder->reader->is_last) {
        end_record(recorder);
        return;
    }
    if (n_events == 0) {
        return;
    }
    recorder->append = (struct sl_store_append){
        .request = { .loop = bases[0], .on_done = on_appended },
        .log = &recorder->log,
        .first_sequence = recorder->sequence + 1,
        .last_sequence = recorder->sequence + n_events,
        .ranges = { next_range(recorder, size) },
        .n_ranges = 1,
    };
    recorder->sequence += n_events;
    const enum sl_status status = sl_store_append(runtime->store, &recorder->append);
    assert_true(status == SL_PENDING || status == SL_AGAIN);
}

static void record_until(struct recorder *recorder, const bool *flag)
{
    for (int n_steps = 0; !*flag; n_steps++) {
        assert_true(n_steps < MAX_STEPS);
        record(recorder);
        step();
    }
}

/* Waits for what is on its way, and forgets the run, as a crash would. */
static void leave_record(struct recorder *recorder)
{
    while (recorder->is_busy) {
        step();
    }
    sl_store_log_drop(runtime->store, &recorder->log);
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

static bool is_reading = true;

static void read_perhaps(struct sl_run_stream *stream, void *user_data)
{
    if (is_reading) {
        on_readable(stream, user_data);
    }
}

static void
attach_as(struct reader *reader, const char *run_id, uint64_t after_sequence, const char *tenant)
{
    const struct sl_run_callbacks callbacks = { .on_started = on_started,
                                                .on_readable = read_perhaps,
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

/* `part` has the last bytes of `whole`, from the event behind `after_sequence` on. */
static void check_same(const struct reader *whole, const struct reader *part, size_t n_missing)
{
    assert_int_equal(part->bytes.size, whole->bytes.size - n_missing);
    assert_memory_equal(
        part->bytes.data, whole->bytes.data + n_missing, whole->bytes.size - n_missing);
}

static size_t bytes_before(const struct reader *reader, uint64_t after_sequence)
{
    size_t at = 0;
    for (uint64_t i = 0; i < after_sequence; i++) {
        at += sl_event_size(reader->bytes.data + at);
    }
    return at;
}

/* With two loops the next run begins on the other one. */
static void open_with_run_elsewhere(size_t n, struct reader *blocker)
{
    const struct sl_run_spec hang = spec_of("load", "{\"hang\":true}");
    is_reading = true;
    open_runtime(n, "");
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

/* ---- Runs that have ended ----------------------------------------------------------------------
 */

/* Starts `spec`, records all of it, and leaves the reader with the whole of it. */
static void
whole_run(struct reader *reader, const struct sl_run_spec *spec, struct sl_store_run run)
{
    struct recorder recorder;
    *reader = (struct reader){ .max_take = 0 };
    start(reader, spec);
    wait_until(&reader->is_started);
    run.tenant = spec->tenant;
    begin_record(&recorder, reader, run);
    record_until(&recorder, &recorder.is_over);
}

/* I1: below the window and forgotten, from the start, the middle and the end; of its tenant only.
 */
static void what_memory_has_not_comes_from_the_store(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        for (int is_kept = 0; is_kept <= 1; is_kept++) {
            struct reader blocker;
            struct reader first;
            struct reader late = { .max_take = 1000 };
            limits.window_keep = is_kept ? 120000 : 0;
            open_with_run_elsewhere(n, &blocker);
            struct sl_run_spec spec = spec_of("load", "{\"events\":3000,\"bytes\":100}");
            spec.tenant = "acme";
            whole_run(&first, &spec, (struct sl_store_run){ .run_id = NULL });
            assert_int_equal(each_event(&first, NULL, NULL), 3004);
            attach_as(&late, first.run_id, 0, "acme");
            wait_until(&late.is_last);
            check_same(&first, &late, 0);
            assert_int_equal(sl_run_stream_sequence(late.stream), 3004);
            assert_int_equal(sl_run_stream_ending(late.stream)->status, SL_OK);
            assert_true(sl_run_stream_at_border(late.stream));
            finish(&late);
            attach_as(&late, first.run_id, 7, "acme");
            wait_until(&late.is_last);
            check_same(&first, &late, bytes_before(&first, 7));
            finish(&late);
            attach_as(&late, first.run_id, 3004, "acme"); /* nothing but the end */
            wait_until(&late.is_started);
            read_some(&late);
            assert_true(late.is_last);
            assert_int_equal(late.bytes.size, 0);
            assert_int_equal(sl_run_stream_ending(late.stream)->status, SL_OK);
            finish(&late);
            check_refused(first.run_id, 3005, "acme", "BEYOND_LOG");
            assert_int_equal(loss.last_sequence, 3004);
            check_refused(first.run_id, 0, "beta", "RUN_NOT_FOUND");
            const struct sl_run_refusal refusal = loss;
            check_refused("0123456789abcdef0123456789abcdef", 0, "acme", "RUN_NOT_FOUND");
            assert_string_equal(loss.text, refusal.text);
            finish(&first);
            close_with_run_elsewhere(&blocker);
        }
    }
}

/* A run that nobody recorded (durability NONE) is as it was. */
static void a_run_that_the_store_has_not_is_refused_as_before(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader blocker;
        struct reader first = { .max_take = 0 };
        open_with_run_elsewhere(n, &blocker);
        const struct sl_run_spec spec = spec_of("load", "{\"events\":3000,\"bytes\":100}");
        start(&first, &spec);
        wait_until(&first.is_last);
        check_refused(first.run_id, 0, NULL, "BELOW_RETENTION");
        assert_in_range(loss.floor, 2, 3004);
        check_refused(first.run_id, 3005, NULL, "BEYOND_LOG");
        finish(&first);
        close_with_run_elsewhere(&blocker);
    }
}

/* RL-S4: never wrong bytes, and never silence. */
static void a_damaged_row_is_data_loss_for_its_reader(void **state)
{
    (void)state;
    struct reader blocker;
    struct reader first;
    struct reader late = { .max_take = 0 };
    limits.window_keep = 0;
    open_with_run_elsewhere(1, &blocker);
    const struct sl_run_spec spec = spec_of("load", "{\"events\":3000,\"bytes\":100}");
    whole_run(&first, &spec, (struct sl_store_run){ .run_id = NULL });
    sl_run_stream_close(blocker.stream, SL_RUN_CLOSE_RESET, 8);
    sl_buf_done(&blocker.bytes);
    sl_run_stream_close(first.stream, SL_RUN_CLOSE_READ, 0);
    close_runtime();
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(
            db,
            "UPDATE events SET crc = crc + 1 WHERE last_sequence ="
            " (SELECT max(last_sequence) FROM events WHERE last_sequence < 2500)",
            NULL, NULL, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    open_runtime(1, "");
    attach_as(&late, first.run_id, 0, NULL);
    wait_until(&is_lost);
    assert_false(late.is_last);
    assert_int_equal(loss.status, SL_DATA_LOSS);
    assert_string_equal(loss.reason, "DATA_LOSS");
    assert_in_range(sl_run_stream_sequence(late.stream), 1, 2499);
    assert_memory_equal(late.bytes.data, first.bytes.data, late.bytes.size);
    finish(&late);
    sl_buf_done(&first.bytes);
    close_runtime();
}

/* A reader that goes while the store is asked, at each step of it. */
static void a_reader_may_go_at_any_time(void **state)
{
    (void)state;
    struct reader blocker;
    struct reader first;
    limits.window_keep = 0;
    open_with_run_elsewhere(2, &blocker);
    const struct sl_run_spec spec = spec_of("load", "{\"events\":3000,\"bytes\":100}");
    whole_run(&first, &spec, (struct sl_store_run){ .run_id = NULL });
    for (int n_steps = 0; n_steps < 12; n_steps++) {
        struct reader late = { .max_take = 5000 };
        attach_as(&late, first.run_id, 0, NULL);
        for (int i = 0; i < n_steps; i++) {
            sl_loop_uv_step(loops[0], 1);
        }
        sl_run_stream_close(late.stream, SL_RUN_CLOSE_RESET, 8);
        sl_buf_done(&late.bytes);
    }
    finish(&first);
    close_with_run_elsewhere(&blocker);
}

/* ---- Runs that go on ---------------------------------------------------------------------------
 */

/* AL-8, the basis of SPILL: from the store to the log, wherever its window is by then. */
static void a_reader_goes_from_the_store_to_the_log(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader blocker;
        struct reader first = { .max_take = 0 };
        struct reader late = { .max_take = 0 };
        struct recorder recorder;
        open_with_run_elsewhere(n, &blocker);
        const struct sl_run_spec spec =
            spec_of("load", "{\"events\":4000,\"bytes\":100,\"rate\":8000}");
        start(&first, &spec);
        wait_until(&first.is_started);
        begin_record(&recorder, &first, (struct sl_store_run){ .run_id = NULL });
        for (int i = 0; recorder.sequence < 1500; i++) {
            assert_true(i < MAX_STEPS);
            record(&recorder);
            step();
        }
        attach_as(&late, first.run_id, 0, NULL);
        record_until(&recorder, &late.is_last);
        record_until(&recorder, &recorder.is_over);
        assert_int_equal(each_event(&first, NULL, NULL), 4004);
        check_same(&first, &late, 0);
        assert_false(is_lost);
        assert_int_equal(sl_run_stream_ending(late.stream)->status, SL_OK);
        finish(&late);
        finish(&first);
        close_with_run_elsewhere(&blocker);
    }
}

/* It reads nothing until it is far below the window, then everything, and so again. */
static void a_slow_reader_falls_to_the_store_and_comes_back(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader blocker;
        struct reader first = { .max_take = 0 };
        struct reader slow = { .max_take = 0 };
        struct recorder recorder;
        open_with_run_elsewhere(n, &blocker);
        const struct sl_run_spec spec =
            spec_of("load", "{\"events\":12000,\"bytes\":100,\"rate\":12000}");
        start(&first, &spec);
        wait_until(&first.is_started);
        begin_record(&recorder, &first, (struct sl_store_run){ .run_id = NULL });
        attach_as(&slow, first.run_id, 0, NULL);
        record_until(&recorder, &slow.is_started);
        for (uint64_t until = 3000; until <= 9000; until += 3000) {
            is_reading = false;
            for (int i = 0; recorder.sequence < until; i++) {
                assert_true(i < MAX_STEPS);
                record(&recorder);
                step();
            }
            is_reading = true;
            read_some(&slow);
            for (int i = 0; sl_run_stream_sequence(slow.stream) < until; i++) {
                assert_true(i < MAX_STEPS);
                record(&recorder);
                step();
            }
        }
        record_until(&recorder, &slow.is_last);
        record_until(&recorder, &recorder.is_over);
        check_same(&first, &slow, 0);
        assert_false(is_lost);
        finish(&slow);
        finish(&first);
        close_with_run_elsewhere(&blocker);
    }
}

/* ---- After a crash -----------------------------------------------------------------------------
 */

static void on_recovered(enum sl_status status, void *user_data)
{
    assert_int_equal(status, SL_OK);
    *(bool *)user_data = true;
}

/* RL-C19, AL-5.27 */
static void a_reader_comes_back_after_a_crash(void **state)
{
    (void)state;
    struct reader blocker;
    struct reader first = { .max_take = 0 };
    struct reader late = { .max_take = 0 };
    struct recorder recorder;
    bool is_done = false;
    open_with_run_elsewhere(1, &blocker);
    const struct sl_run_spec spec = spec_of("load", "{\"events\":500,\"bytes\":100,\"rate\":1000}");
    start(&first, &spec);
    wait_until(&first.is_started);
    begin_record(&recorder, &first, (struct sl_store_run){ .run_id = NULL });
    for (int i = 0; recorder.sequence < 100; i++) {
        assert_true(i < MAX_STEPS);
        record(&recorder);
        step();
    }
    leave_record(&recorder);
    const uint64_t n_recorded = recorder.sequence;
    wait_until(&first.is_last);
    sl_run_stream_close(first.stream, SL_RUN_CLOSE_READ, 0);
    sl_run_stream_close(blocker.stream, SL_RUN_CLOSE_RESET, 8);
    sl_buf_done(&blocker.bytes);
    close_runtime();
    open_runtime(1, "");
    assert_int_equal(sl_runtime_recover(runtime, bases[0], on_recovered, &is_done), SL_OK);
    wait_until(&is_done);
    attach_as(&late, first.run_id, 0, NULL);
    wait_until(&late.is_last);
    assert_int_equal(each_event(&late, NULL, NULL), n_recorded + 2);
    assert_memory_equal(late.bytes.data, first.bytes.data, recorder.at);
    assert_int_equal(sl_run_stream_ending(late.stream)->status, SL_ABORTED);
    assert_string_equal(sl_run_stream_ending(late.stream)->reason, "WORKER_LOST");
    finish(&late);
    attach_as(&late, first.run_id, n_recorded, NULL); /* all that was certain */
    wait_until(&late.is_last);
    assert_int_equal(sl_run_stream_sequence(late.stream), n_recorded + 2);
    finish(&late);
    check_refused(first.run_id, n_recorded + 1, NULL, "DATA_LOSS"); /* it had other bytes */
    assert_int_equal(loss.status, SL_DATA_LOSS);
    sl_buf_done(&first.bytes);
    close_runtime();
}

/* ---- Repeats -----------------------------------------------------------------------------------
 */

/* With an agent whose runs are recorded. */
static void open_with_agent(size_t n)
{
    static const char agent[] = "name: rec\nprovider: load\nmodel: load\nmemory: None\n";
    char name[128];
    struct sl_error err = { .text = "" };
    (void)snprintf(name, sizeof(name), "%s/a.yaml", folder);
    FILE *file = fopen(name, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(agent, 1, sizeof(agent) - 1, file), sizeof(agent) - 1);
    assert_int_equal(fclose(file), 0);
    is_reading = true;
    prepare_runtime(n, "");
    assert_int_equal(sl_runtime_load_agents(runtime, name, fail_on_problem, NULL, &err), SL_OK);
    assert_int_equal(unlink(name), 0);
    if (n > 1) {
        assert_int_equal(pthread_create(&second_thread, NULL, run_second, loops[1]), 0);
    }
}

/* AL-5.3: after a restart, and when memory has forgotten the run. */
static void a_repeat_of_a_stored_request_follows_its_run(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader first = { .max_take = 0 };
        struct reader again = { .max_take = 0 };
        limits.window_keep = 0;
        open_with_agent(n);
        struct sl_run_spec spec = spec_of("rec", "{\"events\":3000,\"bytes\":100}");
        spec.request_id = "once";
        spec.tenant = "acme";
        start(&first, &spec);
        wait_until(&first.is_last);
        sl_run_stream_close(first.stream, SL_RUN_CLOSE_READ, 0);
        close_runtime();
        open_with_agent(n);
        for (int i = 0; i < 2; i++) {
            start(&again, &spec);
            wait_until(&again.is_last);
            assert_true(sl_run_stream_is_observer(again.stream));
            assert_string_equal(again.run_id, first.run_id);
            check_same(&first, &again, 0);
            finish(&again);
        }
        spec.wants_only_end = true;
        start(&again, &spec);
        wait_until(&again.is_last);
        check_same(&first, &again, bytes_before(&first, 3003));
        assert_int_equal(sl_run_stream_ending(again.stream)->status, SL_OK);
        finish(&again);
        spec.wants_only_end = false;
        spec.input = sl_slice_str("{\"events\":3001,\"bytes\":100}");
        check_refusal(&spec, SL_ALREADY_EXISTS, "REQUEST_ID_REUSED", first.run_id);
        spec.tenant = "beta"; /* which knows nothing of it */
        start(&again, &spec);
        wait_until(&again.is_last);
        assert_false(sl_run_stream_is_observer(again.stream));
        finish(&again);
        sl_buf_done(&first.bytes);
        close_runtime();
        remove_store();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, new_folder, remove_folder)
        TEST(what_memory_has_not_comes_from_the_store),
        TEST(a_run_that_the_store_has_not_is_refused_as_before),
        TEST(a_damaged_row_is_data_loss_for_its_reader),
        TEST(a_reader_may_go_at_any_time),
        TEST(a_reader_goes_from_the_store_to_the_log),
        TEST(a_slow_reader_falls_to_the_store_and_comes_back),
        TEST(a_reader_comes_back_after_a_crash),
        TEST(a_repeat_of_a_stored_request_follows_its_run),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
