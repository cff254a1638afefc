/* Which runs begin, which wait, and which are refused (AL-4 step 1, AL-5.3). */
#include "runtime/base/metrics.h"
#include "tests/unit/test_runtime_rig.h"

#define CHECK_INVALID(text, ...)                                                                   \
    do {                                                                                           \
        struct sl_run_spec invalid = spec_of("echo", "x");                                         \
        invalid = (struct sl_run_spec){                                                            \
            .agent = "echo", .input = sl_slice_str("x"), .n_connection_streams = 1, __VA_ARGS__    \
        };                                                                                         \
        check_refusal(&invalid, SL_INVALID_ARGUMENT, "INVALID_REQUEST", text);                     \
    } while (0)

/* AL-5.3 */
static void a_bad_request_is_refused_with_its_reason(void **state)
{
    (void)state;
    sl_limits_init(&limits);
    limits.input = 30;
    limits.context = 10;
    open_runtime(1, "");
    struct sl_run_spec spec = spec_of("nobody", "x");
    check_refusal(&spec, SL_NOT_FOUND, "AGENT_NOT_FOUND", "nobody");
    spec = spec_of("", "x");
    check_refusal(&spec, SL_INVALID_ARGUMENT, "INVALID_REQUEST", "agent");
    spec = spec_of("echo", "1234567890123456789012345678901");
    check_refusal(&spec, SL_INVALID_ARGUMENT, "INVALID_REQUEST", "input is larger than 30");
    spec = spec_of("load", "colour=red");
    check_refusal(&spec, SL_INVALID_ARGUMENT, "INVALID_REQUEST", "colour");
    spec = spec_of("load", "refuse=AGENT_DISABLED");
    check_refusal(&spec, SL_FAILED_PRECONDITION, "AGENT_DISABLED", "as ordered");
    spec = spec_of("load", "refuse=DRAINING");
    check_refusal(&spec, SL_UNAVAILABLE, "DRAINING", "as ordered");
    CHECK_INVALID("keeps no sessions (memory: None)", .session_id = "s");
    CHECK_INVALID("session_id must be text", .session_id = "\xff");
    CHECK_INVALID(
        "of at most 128 bytes",
        .session_id = "0123456789012345678901234567890123456789012345678901234567890123456789"
                      "01234567890123456789012345678901234567890123456789012345678");
    CHECK_INVALID("max_iterations", .has_max_iterations = true, .max_iterations = 0);
    CHECK_INVALID("max_iterations", .has_max_iterations = true, .max_iterations = 1001);
    CHECK_INVALID("agent 'echo' has no prices", .has_max_cost = true, .max_cost_micros = 5);
    CHECK_INVALID("run_timeout_ms", .has_run_timeout = true, .run_timeout_ms = 0);
    CHECK_INVALID("heartbeat_ms", .has_heartbeat = true, .heartbeat_ms = 999);
    CHECK_INVALID("heartbeat_ms", .has_heartbeat = true, .heartbeat_ms = 60001);
    CHECK_INVALID("buffer_bytes", .has_buffer_bytes = true, .buffer_bytes = 4095);
    CHECK_INVALID("buffer_events", .has_buffer_events = true, .buffer_events = 0);
    CHECK_INVALID("min_flush_ms", .min_flush_ms = 10001);
    CHECK_INVALID("max_delta_bytes", .max_delta_bytes = 63);
    CHECK_INVALID("max_tokens", .has_max_tokens = true, .max_tokens = 0);
    CHECK_INVALID("detach_ttl_ms", .on_disconnect = SL_RUN_DETACH_FOR);
    CHECK_INVALID("detach_ttl_ms", .on_disconnect = SL_RUN_CANCEL, .detach_ttl_ms = 1000);
    char id[200];
    memset(id, 'x', sizeof(id) - 1);
    id[sizeof(id) - 1] = '\0';
    CHECK_INVALID("request_id", .request_id = id);
    const struct sl_run_call call = { .id = "c", .name = "n", .arguments_json = "[]" };
    const struct sl_run_message bad_arguments = { .role = SL_RUN_ASSISTANT,
                                                  .calls = &call,
                                                  .n_calls = 1 };
    CHECK_INVALID("arguments_json", .messages = &bad_arguments, .n_messages = 1);
    const struct sl_run_message no_id = { .role = SL_RUN_TOOL };
    CHECK_INVALID("tool_call_id", .messages = &no_id, .n_messages = 1);
    const struct sl_run_message wrong_calls = { .role = SL_RUN_USER, .calls = &call, .n_calls = 1 };
    CHECK_INVALID("ASSISTANT", .messages = &wrong_calls, .n_messages = 1);
    const struct sl_run_message no_role = { .role = (enum sl_run_role)7 };
    CHECK_INVALID("role", .messages = &no_role, .n_messages = 1);
    const struct sl_run_message long_message = { .role = SL_RUN_USER,
                                                 .content = sl_slice_str("12345678901") };
    CHECK_INVALID("context is larger", .messages = &long_message, .n_messages = 1);
    struct sl_runtime_stats stats;
    sl_runtime_stats(runtime, &stats);
    assert_int_equal(stats.runs_started, 0);
    assert_true(stats.runs_refused > 20);
    close_runtime();
}

/* The limits metadata, metadata_size, credentials and credentials_size; a refusal has no value in
 * it. */
static void metadata_and_credentials_are_bounded(void **state)
{
    (void)state;
    static const struct sl_run_pair three[] = { { "a", "1" }, { "b", "2" }, { "c", "345" } };
    static const struct sl_run_pair no_key = { "", "x" };
    static const struct sl_run_pair no_name = { "a b", "x" };
    static const struct sl_run_pair no_value = { "a", "" };
    static const struct sl_run_pair no_text = { "a", "x\xFF" };
    struct reader reader = { .max_take = 0 };
    sl_limits_init(&limits);
    limits.metadata = limits.credentials = 3;
    limits.metadata_size = limits.credentials_size = 8;
    open_runtime(1, "");
    struct sl_run_spec spec = spec_of("echo", "hello");
    spec.metadata = spec.credentials = three;
    spec.n_metadata = spec.n_credentials = 3;
    start(&reader, &spec);
    wait_until(&reader.is_last);
    finish(&reader);
    close_runtime();
    limits.metadata_size = 7;
    open_runtime(1, "");
    CHECK_INVALID("metadata: 8 bytes", .metadata = three, .n_metadata = 3);
    CHECK_INVALID("metadata: a key is empty", .metadata = &no_key, .n_metadata = 1);
    CHECK_INVALID("credentials: a name", .credentials = &no_name, .n_credentials = 1);
    CHECK_INVALID("credentials: a value", .credentials = &no_value, .n_credentials = 1);
    CHECK_INVALID("credentials: a value", .credentials = &no_text, .n_credentials = 1);
    close_runtime();
    limits.metadata = limits.credentials = 2;
    open_runtime(1, "");
    CHECK_INVALID("metadata: 3 entries, at most 2", .metadata = three, .n_metadata = 3);
    CHECK_INVALID("credentials: 3 entries, at most 2", .credentials = three, .n_credentials = 3);
    close_runtime();
    limits.credentials_size = 7;
    open_runtime(1, "");
    CHECK_INVALID("credentials: 8 bytes", .credentials = three, .n_credentials = 3);
    close_runtime();
}

/* protobuf-c keeps what a client gives twice; every other implementation shows the last one. */
static void of_a_name_that_is_there_twice_the_last_one_counts(void **state) /* PB-11 */
{
    (void)state;
    static const struct sl_run_pair pairs[] = { { "a", "1" }, { "b", "2" }, { "a", "3" } };
    const struct sl_run_spec spec = { .metadata = pairs, .n_metadata = 3 };
    struct sl_run_stream stream = { .start = { .n_metadata = 0 } };
    sl_history_init(&stream.start.history, 1000);
    assert_int_equal(sl_run_copy_pairs(&stream, &spec), SL_OK);
    assert_int_equal(stream.start.n_metadata, 2);
    assert_string_equal(stream.start.metadata[0].key, "b");
    assert_string_equal(stream.start.metadata[1].key, "a");
    assert_string_equal(stream.start.metadata[1].value, "3");
    sl_history_done(&stream.start.history);
}

/* The limits window and window_total: half of it is shared out. */
static void a_run_keeps_its_share_of_all_windows(void **state)
{
    (void)state;
    sl_limits_init(&limits);
    limits.runs = 4;
    limits.window = 3000;
    limits.window_total = 8192;
    open_runtime(1, "");
    assert_int_equal(runtime->newest->loops[0].env.window_bytes, 1024);
    close_runtime();
    limits.window = 100;
    open_runtime(1, "");
    assert_int_equal(runtime->newest->loops[0].env.window_bytes, 100);
    close_runtime();
    sl_limits_init(&limits);
}

static void check_follows(const struct sl_run_spec *spec, const struct reader *first)
{
    struct reader reader = { .max_take = 0 };
    start(&reader, spec);
    wait_until(&reader.is_last);
    assert_true(sl_run_stream_is_observer(reader.stream));
    assert_string_equal(reader.run_id, first->run_id);
    assert_int_equal(sl_run_stream_ending(reader.stream)->status, SL_OK);
    assert_int_equal(reader.bytes.size, first->bytes.size);
    assert_memory_equal(reader.bytes.data, first->bytes.data, first->bytes.size);
    finish(&reader);
}

/* AL-5.3, RT-3, RL-C17 */
static void a_request_id_starts_one_run(void **state)
{
    static const struct sl_run_pair pairs[] = { { "a", "1" }, { "b", "2" }, { "a", "1" } };
    (void)state;
    struct reader reader = { .max_take = 0 };
    open_runtime(2, "");
    struct sl_run_spec spec = spec_of("echo", "hello");
    spec.request_id = "order-1";
    spec.metadata = pairs;
    spec.n_metadata = 2;
    start(&reader, &spec);
    wait_until(&reader.is_last);
    assert_false(sl_run_stream_is_observer(reader.stream));
    check_follows(&spec, &reader);
    spec.metadata = pairs + 1; /* the same map in another order */
    check_follows(&spec, &reader);
    spec.deadline_ns = sl_loop_now_ns(bases[0]) + 60 * SL_NS_PER_S; /* the call's, not the run's */
    check_follows(&spec, &reader);
    spec.input = sl_slice_str("hello!");
    check_refusal(&spec, SL_ALREADY_EXISTS, "REQUEST_ID_REUSED", reader.run_id);
    spec.input = sl_slice_str("hello");
    spec.n_metadata = 1;
    check_refusal(&spec, SL_ALREADY_EXISTS, "REQUEST_ID_REUSED", reader.run_id);
    struct sl_runtime_stats stats;
    sl_runtime_stats(runtime, &stats);
    assert_int_equal(stats.runs_started, 1);
    finish(&reader);
    close_runtime();
}

/* The first one has no run yet, and the second one may come again. */
static void a_request_that_waits_for_a_slot_is_not_started_twice(void **state)
{
    (void)state;
    struct reader hang = { .max_take = 0 };
    struct reader first = { .max_take = 0 };
    sl_limits_init(&limits);
    limits.runs = 1;
    limits.run_wait = 60000;
    open_runtime(1, "");
    const struct sl_run_spec blocker = spec_of("load", "{\"hang\":true}");
    struct sl_run_spec spec = spec_of("echo", "hello");
    spec.request_id = "order-1";
    start(&hang, &blocker);
    wait_until(&hang.is_started);
    start(&first, &spec);
    check_refusal(&spec, SL_UNAVAILABLE, "REQUEST_PENDING", "waits for a slot");
    sl_run_stream_close(hang.stream, SL_RUN_CLOSE_RESET, 8);
    sl_buf_done(&hang.bytes);
    wait_until(&first.is_last);
    check_follows(&spec, &first);
    finish(&first);
    close_runtime();
}

/* It is known for as long as its id is, or until there is no room for it. */
static void a_request_whose_run_is_not_kept_is_not_started_twice(void **state)
{
    (void)state;
    struct reader reader = { .max_take = 0 };
    sl_limits_init(&limits);
    limits.window_total = 0;
    open_runtime(1, "");
    struct sl_run_spec spec = spec_of("echo", "hello");
    spec.request_id = "order-1";
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_window_total);
    start(&reader, &spec);
    wait_until(&reader.is_last);
    finish(&reader);
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_window_total), n_before + 1);
    check_refusal(&spec, SL_ALREADY_EXISTS, "REQUEST_ID_REUSED", "not kept any more");
    close_runtime();
}

/* AL-4, step 1 */
static void runs_over_the_limit_wait_their_turn(void **state)
{
    (void)state;
    struct reader readers[5] = { { .max_take = 0 } };
    sl_limits_init(&limits);
    limits.runs = 2;
    limits.run_queue = 2;
    limits.run_wait = 60000;
    open_runtime(1, "");
    const struct sl_run_spec hang = spec_of("load", "{\"hang\":true}");
    for (size_t i = 0; i < 4; i++) {
        start(&readers[i], &hang);
    }
    /* Nobody knows how long it would wait: as long as it may, and a fifth more or less. */
    int64_t retry_ms[4];
    for (size_t i = 0; i < SL_COUNT(retry_ms); i++) {
        retry_ms[i] = check_refusal(&hang, SL_RESOURCE_EXHAUSTED, "SERVER_FULL", "waiting");
        assert_in_range(retry_ms[i], 48000, 72000);
    }
    assert_false(
        retry_ms[0] == retry_ms[1] && retry_ms[0] == retry_ms[2] && retry_ms[0] == retry_ms[3]);
    wait_until(&readers[0].is_started);
    wait_until(&readers[1].is_started);
    assert_false(readers[2].is_started);
    sl_run_stream_close(readers[0].stream, SL_RUN_CLOSE_RESET, 8);
    sl_buf_done(&readers[0].bytes);
    wait_until(&readers[2].is_started);
    assert_false(readers[2].is_refused);
    sl_run_stream_close(readers[3].stream, SL_RUN_CLOSE_RESET, 8); /* while it waits */
    sl_buf_done(&readers[3].bytes);
    for (size_t i = 1; i < 3; i++) {
        sl_run_stream_close(readers[i].stream, SL_RUN_CLOSE_LOST, 0);
        sl_buf_done(&readers[i].bytes);
    }
    const struct sl_run_spec echo = spec_of("echo", "x");
    start(&readers[4], &echo);
    wait_until(&readers[4].is_last);
    finish(&readers[4]);
    close_runtime();
}

/* AL-4, step 1 */
static void the_wait_for_a_slot_ends(void **state)
{
    (void)state;
    struct reader reader = { .max_take = 0 };
    sl_limits_init(&limits);
    limits.runs = 1;
    limits.run_wait = 20;
    open_runtime(1, "");
    const struct sl_run_spec hang = spec_of("load", "{\"hang\":true}");
    start(&reader, &hang);
    const int64_t retry_ms = check_refusal(&hang, SL_RESOURCE_EXHAUSTED, "SERVER_FULL", "in time");
    assert_in_range(retry_ms, 80, 120); /* never less than 100 ms, and a fifth */
    sl_run_stream_close(reader.stream, SL_RUN_CLOSE_LOST, 0);
    sl_buf_done(&reader.bytes);
    close_runtime();
}

/* Reliability 5.1: whoever comes then is not kept waiting for what he would not get. */
static void the_wait_in_a_slow_queue_is_short(void **state)
{
    (void)state;
    struct sl_generation generation = { .limits = { .run_wait = 10000 } };
    struct sl_run_stream *stream = sl_calloc(1, sizeof(*stream));
    assert_non_null(stream);
    stream->generation = &generation;
    assert_int_equal(sl_run_wait_ms(stream), 10000);
    stream->ticket.is_short = true;
    assert_int_equal(sl_run_wait_ms(stream), 500);
    generation.limits.run_wait = 20;
    assert_int_equal(sl_run_wait_ms(stream), 20);
    (void)sl_free(stream);
}

/* RT-1: those who were refused together do not come together. */
static void delays_are_spread(void **state)
{
    (void)state;
    uint64_t least = UINT64_MAX;
    uint64_t most = 0;
    for (int i = 0; i < 2000; i++) {
        const uint64_t ms = sl_run_spread_ms(1000);
        assert_in_range(ms, 800, 1200);
        least = ms < least ? ms : least;
        most = ms > most ? ms : most;
    }
    assert_true(least < 850 && most > 1150);
    assert_int_equal(sl_run_spread_ms(0), 0);
}

int main(void)
{
    sl_limits_init(&limits);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bad_request_is_refused_with_its_reason),
        cmocka_unit_test(metadata_and_credentials_are_bounded),
        cmocka_unit_test(of_a_name_that_is_there_twice_the_last_one_counts),
        cmocka_unit_test(a_run_keeps_its_share_of_all_windows),
        cmocka_unit_test(a_request_id_starts_one_run),
        cmocka_unit_test(a_request_that_waits_for_a_slot_is_not_started_twice),
        cmocka_unit_test(a_request_whose_run_is_not_kept_is_not_started_twice),
        cmocka_unit_test(runs_over_the_limit_wait_their_turn),
        cmocka_unit_test(the_wait_for_a_slot_ends),
        cmocka_unit_test(the_wait_in_a_slow_queue_is_short),
        cmocka_unit_test(delays_are_spread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
