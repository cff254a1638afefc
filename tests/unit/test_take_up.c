/* Runs that rest in a real store go on with the next runtime: known to everybody, in their slots,
 * with their sessions and requests; and those that cannot are ended (reliability 3.7, RL-X1). */
#include "tests/fake/store_rig.h"
#include "tests/unit/test_query_rig.h"

static const char agents[] = "name: rec\nprovider: load\nmodel: load\nmemory: Store\n"
                             "---\n"
                             "name: sure\nprovider: load\nmodel: load\nmemory: None\n"
                             "durability: SYNC\n";

static struct sl_store_rig rig;

static int new_rig(void **state)
{
    (void)state;
    sl_limits_init(&limits);
    sl_store_rig_init(&rig);
    store_path = rig.path;
    return 0;
}

static int end_rig(void **state)
{
    (void)state;
    sl_store_rig_done(&rig);
    return 0;
}

/* ---- A server ----------------------------------------------------------------------------------
 */

struct outcome {
    bool is_done;
    enum sl_status status;
};

static void on_recovered(enum sl_status status, void *user_data)
{
    struct outcome *outcome = user_data;
    outcome->is_done = true;
    outcome->status = status;
}

/* As sluiced starts; gives how many runs were ended. */
static uint64_t open_server(size_t n)
{
    char path[SL_RIG_PATH_BYTES + 16];
    struct sl_error err = { .text = "" };
    struct outcome outcome = { .is_done = false };
    struct sl_runtime_store_stats stats;
    (void)snprintf(path, sizeof(path), "%s/a.yaml", rig.folder);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_int_equal(fwrite(agents, 1, sizeof(agents) - 1, file), sizeof(agents) - 1);
    assert_int_equal(fclose(file), 0);
    prepare_runtime(n, "");
    assert_int_equal(sl_runtime_load_agents(runtime, path, fail_on_problem, NULL, &err), SL_OK);
    if (n > 1) {
        assert_int_equal(pthread_create(&second_thread, NULL, run_second, loops[1]), 0);
    }
    assert_int_equal(sl_runtime_recover(runtime, bases[0], on_recovered, &outcome), SL_OK);
    wait_until(&outcome.is_done);
    assert_int_equal(outcome.status, SL_OK);
    sl_runtime_store_stats(runtime, &stats);
    return stats.runs_recovered;
}

static void close_server(void)
{
    end_asking();
    close_runtime();
}

static const struct sl_run_info *ask(enum sl_run_ask_kind kind, const char *run_id, bool wants_end)
{
    const struct sl_run_ask question = { .kind = kind, .run_id = run_id, .wants_end = wants_end };
    assert_int_equal(ask_for(&question), SL_OK);
    return &answer.runs[0];
}

static void attach(struct reader *reader, const char *run_id, uint64_t after_sequence)
{
    const struct sl_run_callbacks callbacks = { .on_started = on_started,
                                                .on_readable = on_readable,
                                                .on_heartbeat = on_heartbeat,
                                                .user_data = reader };
    const struct sl_run_attach_spec spec = { .run_id = run_id, .after_sequence = after_sequence };
    *reader = (struct reader){ .max_take = 0 };
    sl_buf_init(&reader->bytes, LOG_BYTES);
    assert_int_equal(sl_run_attach(runtime, bases[0], &spec, &callbacks, &reader->stream), SL_OK);
    wait_until(&reader->is_started);
}

/* Starts a run that does not end by itself, and parks it. Gives the events that its reader saw. */
static uint64_t park_run(struct sl_run_spec spec, size_t n, char ret_run_id[SL_ID_BYTES])
{
    struct reader reader = { .max_take = 0 };
    spec.on_disconnect = SL_RUN_DETACH;
    assert_int_equal(open_server(n), 0);
    start(&reader, &spec);
    wait_until(&reader.is_started);
    assert_false(reader.is_refused);
    memcpy(ret_run_id, reader.run_id, SL_ID_BYTES);
    stop_runtime();
    wait_until(&reader.is_last);
    const struct sl_run_ending *ending = sl_run_stream_ending(reader.stream);
    assert_int_equal(ending->status, SL_ABORTED);
    assert_string_equal(ending->reason, "DRAINING");
    const uint64_t n_seen = sl_run_stream_sequence(reader.stream);
    finish(&reader);
    free_runtime();
    return n_seen;
}

/* ---- What goes on ------------------------------------------------------------------------------
 */

static void everybody_finds_it_as_it_was(void **state)
{
    (void)state;
    for (size_t i = 0; i < (size_t)2 * MAX_LOOPS; i++) {
        const size_t n = 1 + i / 2;
        const struct sl_run_pair pairs[] = { { "team", "blue" } };
        struct reader rest = { .max_take = 0 };
        struct reader whole = { .max_take = 0 };
        char run_id[SL_ID_BYTES];
        struct sl_run_spec spec = spec_of(i % 2 == 0 ? "rec" : "sure", "{\"hang\":true}");
        spec.request_id = "once";
        spec.session_id = i % 2 == 0 ? "s" : NULL;
        spec.metadata = pairs;
        spec.n_metadata = 1;
        const uint64_t n_seen = park_run(spec, n, run_id);
        assert_int_equal(open_server(n), 0);
        const struct sl_run_info *info = ask(SL_RUN_ASK_GET, run_id, false);
        assert_int_equal(info->stage, SL_RUN_STAGE_RUNNING);
        assert_string_equal(info->session_id, i % 2 == 0 ? "s" : "");
        assert_int_equal(info->n_metadata, 1);
        assert_string_equal(info->metadata[0].value, "blue");
        assert_true(info->last_sequence >= n_seen);
        attach(&rest, run_id, n_seen);
        assert_false(rest.is_refused);
        attach(&whole, run_id, 0);
        assert_false(whole.is_refused);
        if (i % 2 == 0) { /* the session is its own, AL-6.6 */
            struct sl_run_spec other = spec_of("rec", "{}");
            other.session_id = "s";
            check_refusal(&other, SL_ABORTED, "SESSION_BUSY", "has a run");
        }
        spec.on_disconnect = SL_RUN_DETACH;
        struct reader again = { .max_take = 0 };
        start(&again, &spec); /* AL-5.3 */
        wait_until(&again.is_started);
        assert_false(again.is_refused);
        assert_string_equal(again.run_id, run_id);
        (void)ask(SL_RUN_ASK_CANCEL, run_id, true);
        assert_int_equal(answer.runs[0].stage, SL_RUN_STAGE_CANCELLED);
        wait_until(&rest.is_last);
        wait_until(&whole.is_last);
        wait_until(&again.is_last);
        (void)each_event(&whole, NULL, NULL);
        assert_int_equal(again.bytes.size, whole.bytes.size);
        const size_t n_before = whole.bytes.size - rest.bytes.size;
        assert_memory_equal(whole.bytes.data + n_before, rest.bytes.data, rest.bytes.size);
        finish(&rest);
        finish(&whole);
        finish(&again);
        close_server();
        (void)end_rig(state);
        (void)new_rig(state);
    }
}

/* They were admitted before, and count. */
static void no_bound_keeps_them_out(void **state)
{
    char run_id[SL_ID_BYTES];
    struct sl_runtime_stats stats;
    (void)state;
    for (size_t i = 0; i < 3; i++) { /* and those before are parked again */
        (void)park_run(spec_of("rec", "{\"hang\":true}"), 1, run_id);
    }
    limits.runs = 1;
    limits.run_queue = 0;
    limits.runs_per_tenant = 1;
    assert_int_equal(open_server(1), 0);
    sl_runtime_stats(runtime, &stats);
    assert_int_equal(stats.runs_running, 3);
    const struct sl_run_spec spec = spec_of("rec", "{}");
    check_refusal(&spec, SL_RESOURCE_EXHAUSTED, "TENANT_LIMIT", "as many runs");
    close_server();
}

/* AL-7.1: the clock of DETACH_FOR begins anew. */
static void nobody_came_back(void **state)
{
    char run_id[SL_ID_BYTES];
    struct reader reader = { .max_take = 0 };
    struct sl_run_spec spec = spec_of("rec", "{\"hang\":true}");
    (void)state;
    spec.detach_ttl_ms = 1000;
    spec.on_disconnect = SL_RUN_DETACH_FOR;
    assert_int_equal(open_server(1), 0);
    start(&reader, &spec);
    wait_until(&reader.is_started);
    memcpy(run_id, reader.run_id, SL_ID_BYTES);
    stop_runtime();
    finish(&reader);
    free_runtime();
    assert_int_equal(open_server(1), 0);
    assert_int_equal(ask(SL_RUN_ASK_GET, run_id, false)->stage, SL_RUN_STAGE_RUNNING);
    for (int n_steps = 0; n_steps < MAX_STEPS; n_steps++) {
        if (ask(SL_RUN_ASK_GET, run_id, false)->stage == SL_RUN_STAGE_CANCELLED) {
            break;
        }
        step();
    }
    attach(&reader, run_id, 0);
    wait_until(&reader.is_last);
    assert_string_equal(sl_run_stream_ending(reader.stream)->reason, "CANCELLED");
    finish(&reader);
    close_server();
}

/* ---- What does not -----------------------------------------------------------------------------
 */

/* Replaces what is kept of the run, as nobody but a test does. */
static void spoil(const char *run_id, struct sl_slice resume)
{
    struct sl_store_log log;
    sl_store_rig_open(&rig);
    struct sl_store_recover recover = { .request = sl_store_rig_request(&rig), .log = &log };
    assert_int_equal(
        sl_store_rig_wait(&rig, &recover.request, sl_store_recover(rig.store, &recover)), SL_OK);
    assert_string_equal(recover.run.run_id, run_id);
    assert_true(recover.run.is_rested);
    struct sl_store_append append = {
        .request = sl_store_rig_request(&rig),
        .log = &log,
        .first_sequence = log.stored + 1,
        .last_sequence = log.stored,
        .resume = resume,
        .rests = true,
    };
    assert_int_equal(
        sl_store_rig_wait(&rig, &append.request, sl_store_append(rig.store, &append)), SL_OK);
    sl_store_request_done(&recover.request);
    sl_store_log_drop(rig.store, &log);
    sl_store_rig_close(&rig);
}

static void what_cannot_be_read_is_ended(void **state)
{
    static const uint8_t newer[] = { 0x08, 0x02 };
    const struct {
        struct sl_slice bytes;
        const char *message;
    } cases[] = {
        { sl_slice_str("no such thing"), "What was kept of the run cannot be read" },
        { sl_slice_of(newer, sizeof(newer)), "A newer server has parked the run" },
    };
    (void)state;
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        struct reader reader = { .max_take = 0 };
        char run_id[SL_ID_BYTES];
        (void)park_run(spec_of("rec", "{\"hang\":true}"), 1, run_id);
        spoil(run_id, cases[i].bytes);
        assert_int_equal(open_server(1), 1);
        attach(&reader, run_id, 0);
        wait_until(&reader.is_last);
        (void)each_event(&reader, NULL, NULL);
        assert_string_equal(sl_run_stream_ending(reader.stream)->reason, "WORKER_LOST");
        assert_string_equal(sl_run_stream_ending(reader.stream)->message, cases[i].message);
        finish(&reader);
        close_server();
        (void)end_rig(state);
        (void)new_rig(state);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(everybody_finds_it_as_it_was, new_rig, end_rig),
        cmocka_unit_test_setup_teardown(no_bound_keeps_them_out, new_rig, end_rig),
        cmocka_unit_test_setup_teardown(nobody_came_back, new_rig, end_rig),
        cmocka_unit_test_setup_teardown(what_cannot_be_read_is_ended, new_rig, end_rig),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
