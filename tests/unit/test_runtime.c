/* The door with everything behind it: built-in agents on real loops, one or two. */
#include "tests/unit/test_runtime_rig.h"

/* ---- Tests ------------------------------------------------------------------------------------
 */

static void count_text(const Sluice__V1__StreamEvent *event, void *user_data)
{
    struct sl_buf *text = user_data;
    if (event->event_case == SL_EVENT(TEXT_DELTA)) {
        assert_int_equal(sl_buf_add_str(text, event->text_delta->delta), SL_OK);
    } else if (event->event_case == SL_EVENT(DONE)) {
        assert_string_equal(event->done->content, sl_buf_cstr(text));
    }
}

static void echo_says_its_input(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader reader = { .max_take = 7 };
        struct sl_buf text;
        sl_buf_init(&text, 1000);
        open_runtime(n, "");
        const struct sl_run_spec spec = spec_of("echo", "one two three");
        start(&reader, &spec);
        wait_until(&reader.is_last);
        assert_int_equal(each_event(&reader, count_text, &text), 4 + 3);
        assert_string_equal(sl_buf_cstr(&text), "one two three");
        assert_int_equal(sl_run_stream_ending(reader.stream)->status, SL_OK);
        assert_int_equal(sl_run_stream_sequence(reader.stream), 7);
        assert_true(sl_run_stream_at_border(reader.stream));
        finish(&reader);
        close_runtime();
        sl_buf_done(&text);
    }
}

static void load_gives_exactly_what_was_ordered(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader readers[8] = { { .max_take = 0 } };
        open_runtime(n, "");
        for (size_t i = 0; i < SL_COUNT(readers); i++) {
            const struct sl_run_spec spec = spec_of("load", "{\"events\":2000,\"bytes\":100}");
            start(&readers[i], &spec);
        }
        for (size_t i = 0; i < SL_COUNT(readers); i++) {
            wait_until(&readers[i].is_last);
            assert_int_equal(each_event(&readers[i], NULL, NULL), 2004);
            assert_int_equal(sl_run_stream_sequence(readers[i].stream), 2004);
            finish(&readers[i]);
        }
        struct sl_runtime_stats stats;
        sl_runtime_stats(runtime, &stats);
        assert_int_equal(stats.runs_started, SL_COUNT(readers));
        assert_true(stats.events >= 2004 * SL_COUNT(readers));
        close_runtime();
    }
}

/* AL-2.2: the number of events is a formula, with every knob that adds some. */
static void load_has_as_many_events_as_its_knobs_say(void **state)
{
    static const struct {
        const char *input;
        size_t n_events;
    } rows[] = {
        { "events=0", 4 },
        { "events=0 thinking=2", 4 + 2 },
        { "events=3 thinking=5", 3 + 4 + 5 },
        { "events=3 tools=1", 3 + 4 + 2 * 1 + 2 },
        { "events=3 tools=64 thinking=1 seed=9 stamp", 3 + 4 + 1 + 2 * 64 + 2 },
        { "events=5 fail_after=2 tools=2", 2 + 4 + 2 * 2 + 2 },
    };
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        open_runtime(n, "");
        for (size_t i = 0; i < SL_COUNT(rows); i++) {
            struct reader reader = { .max_take = 0 };
            const struct sl_run_spec spec = spec_of("load", rows[i].input);
            start(&reader, &spec);
            wait_until(&reader.is_last);
            assert_int_equal(each_event(&reader, NULL, NULL), rows[i].n_events);
            finish(&reader);
        }
        close_runtime();
    }
}

struct demo {
    size_t n_iterations, n_starts, n_completes, n_thinking, n_text, n_open, n_most_open;
};

static void look_at_demo(const Sluice__V1__StreamEvent *event, void *user_data)
{
    struct demo *demo = user_data;
    switch ((int)event->event_case) {
    case SL_EVENT(ITERATION_START):
        demo->n_iterations++;
        break;
    case SL_EVENT(TOOL_CALL_START):
        demo->n_starts++;
        demo->n_open++;
        demo->n_most_open = demo->n_open > demo->n_most_open ? demo->n_open : demo->n_most_open;
        break;
    case SL_EVENT(TOOL_CALL_COMPLETE):
        demo->n_completes++;
        demo->n_open--;
        assert_true(event->tool_call_complete->success);
        assert_int_equal(event->tool_call_complete->result_json[0], '{');
        break;
    case SL_EVENT(THINKING):
        demo->n_thinking++;
        break;
    case SL_EVENT(TEXT_DELTA):
        demo->n_text++;
        break;
    case SL_EVENT(DONE):
        assert_int_equal(event->done->usage->model_calls, 3);
        assert_false(event->done->usage->estimated);
        assert_int_equal(event->done->input_tokens, 182 + 291 + 377);
        assert_non_null(strstr(event->done->content, "You said: good morning"));
        break;
    default:
        break;
    }
}

static void demo_shows_what_a_run_looks_like(void **state)
{
    (void)state;
    struct reader reader = { .max_take = 0 };
    struct demo demo = { .n_iterations = 0 };
    open_runtime(1, "");
    const struct sl_run_spec spec = spec_of("demo", "good morning");
    start(&reader, &spec);
    wait_until(&reader.is_last);
    (void)each_event(&reader, look_at_demo, &demo);
    assert_int_equal(demo.n_iterations, 3);
    assert_int_equal(demo.n_starts, 3);
    assert_int_equal(demo.n_completes, 3);
    assert_int_equal(demo.n_most_open, 2);
    assert_true(demo.n_thinking > 5);
    assert_true(demo.n_text > 30);
    finish(&reader);
    close_runtime();
}

static void check_ending(const struct sl_run_spec *spec, const char *reason)
{
    struct reader reader = { .max_take = 0 };
    start(&reader, spec);
    wait_until(&reader.is_last);
    assert_string_equal(sl_run_stream_ending(reader.stream)->reason, reason);
    finish(&reader);
}

static void a_request_may_only_narrow_what_its_run_may_spend(void **state)
{
    (void)state;
    open_runtime(1, "");
    struct sl_run_spec spec = spec_of("demo", "x"); /* three iterations, three calls */
    spec.has_max_tool_calls = true;
    spec.max_tool_calls = 1;
    check_ending(&spec, "BUDGET_EXCEEDED");
    spec.max_tool_calls = 1000000;
    check_ending(&spec, "");
    spec = spec_of("demo", "x");
    spec.has_max_tokens = true;
    spec.max_tokens = 1;
    check_ending(&spec, "BUDGET_EXCEEDED");
    spec = spec_of("load", "{\"hang\":true}");
    spec.has_run_timeout = true;
    spec.run_timeout_ms = 20;
    check_ending(&spec, "DEADLINE_EXCEEDED");
    close_runtime();
}

/* The first four have a slot, the others wait for one. */
static void check_stopped(struct reader *readers, size_t n_readers)
{
    for (size_t i = 0; i < n_readers; i++) {
        wait_until(&readers[i].is_started);
        assert_int_equal(readers[i].is_refused, i >= 4);
        if (readers[i].is_refused) {
            assert_string_equal(readers[i].refusal.reason, "DRAINING");
        } else {
            wait_until(&readers[i].is_last);
            assert_int_equal(sl_run_stream_ending(readers[i].stream)->status, SL_ABORTED);
            assert_string_equal(sl_run_stream_ending(readers[i].stream)->reason, "DRAINING");
        }
        finish(&readers[i]);
    }
}

/* AL-5.26 */
static void a_stop_ends_everything(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader readers[6] = { { .max_take = 0 } };
        sl_limits_init(&limits);
        limits.runs = 4;
        open_runtime(n, "");
        const struct sl_run_spec hang = spec_of("load", "{\"hang\":true}");
        for (size_t i = 0; i < SL_COUNT(readers); i++) {
            start(&readers[i], &hang);
        }
        for (size_t i = 0; i < 4; i++) {
            wait_until(&readers[i].is_started);
        }
        sl_runtime_refuse_new(runtime);
        check_refusal(&hang, SL_UNAVAILABLE, "DRAINING", "down");
        stop_runtime();
        check_stopped(readers, SL_COUNT(readers));
        free_runtime();
    }
}

/* AL-7.1 */
static void a_reset_ends_a_run_on_any_loop(void **state)
{
    (void)state;
    struct reader readers[6] = { { .max_take = 0 } };
    struct sl_runtime_stats stats;
    open_runtime(2, "");
    const struct sl_run_spec hang = spec_of("load", "{\"hang\":true}");
    for (size_t i = 0; i < SL_COUNT(readers); i++) {
        start(&readers[i], &hang);
    }
    for (size_t i = 0; i < SL_COUNT(readers); i++) {
        wait_until(&readers[i].is_started);
        sl_run_stream_close(readers[i].stream, SL_RUN_CLOSE_RESET, 8);
        sl_buf_done(&readers[i].bytes);
    }
    do {
        step();
        sl_runtime_stats(runtime, &stats);
    } while (stats.runs_running > 0);
    assert_int_equal(stats.runs_ended, SL_COUNT(readers));
    /* One that is closed before it has begun. */
    for (size_t i = 0; i < SL_COUNT(readers); i++) {
        start(&readers[i], &hang);
        sl_run_stream_close(readers[i].stream, SL_RUN_CLOSE_RESET, 8);
        sl_buf_done(&readers[i].bytes);
    }
    close_runtime();
}

static void a_reader_that_leaves_hears_when_its_run_is_dead(void **state)
{
    (void)state;
    const struct sl_run_spec hang = spec_of("load", "{\"hang\":true}");
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader readers[4] = { { .max_take = 0 } };
        open_runtime(n, "");
        for (size_t i = 0; i < SL_COUNT(readers); i++) {
            start(&readers[i], &hang);
            if (i % 2 == 0) { /* the others leave before their run has begun */
                wait_until(&readers[i].is_started);
            }
            sl_run_stream_leave(readers[i].stream, SL_RUN_CLOSE_RESET, 8);
            assert_false(readers[i].is_gone);
            wait_until(&readers[i].is_gone);
            assert_int_equal(readers[i].n_running_when_gone, 0);
            sl_buf_done(&readers[i].bytes);
        }
        close_runtime();
    }
}

/* AL-2.2 */
static void heartbeats_reach_a_reader_on_another_loop(void **state)
{
    (void)state;
    struct reader readers[3] = { { .max_take = 0 } };
    open_runtime(2, "");
    struct sl_run_spec hang = spec_of("load", "{\"hang\":true}");
    hang.has_heartbeat = true;
    hang.heartbeat_ms = 1000;
    for (size_t i = 0; i < SL_COUNT(readers); i++) {
        start(&readers[i], &hang);
    }
    for (size_t i = 0; i < SL_COUNT(readers); i++) {
        wait_until(&readers[i].has_heartbeat);
        sl_run_stream_close(readers[i].stream, SL_RUN_CLOSE_LOST, 0);
        sl_buf_done(&readers[i].bytes);
    }
    close_runtime();
}

/* AL-8 */
static void a_slow_reader_loses_nothing(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader readers[3] = { { .max_take = 1000 }, { .max_take = 999 }, { .max_take = 1 } };
        open_runtime(n, "");
        struct sl_run_spec spec = spec_of("load", "{\"events\":3000,\"bytes\":50}");
        spec.has_buffer_bytes = true;
        spec.buffer_bytes = 4096;
        for (size_t i = 0; i < SL_COUNT(readers); i++) {
            start(&readers[i], &spec);
        }
        for (size_t i = 0; i < SL_COUNT(readers); i++) {
            wait_until(&readers[i].is_last);
            assert_int_equal(each_event(&readers[i], NULL, NULL), 3004);
            finish(&readers[i]);
        }
        close_runtime();
    }
}

static void on_start_only(
    struct sl_run_stream *stream,
    const char *run_id,
    const struct sl_run_refusal *refusal,
    void *user_data)
{
    bool *is_started = user_data;
    (void)stream;
    (void)run_id;
    assert_null(refusal);
    *is_started = true;
}

static void ignore_readable(struct sl_run_stream *stream, void *user_data)
{
    (void)stream;
    (void)user_data;
}

/* Asks the run's loop how far the run is ahead of its reader. */
struct probe {
    struct sl_task ask, answer;
    struct sl_run_stream *stream;
    uint64_t lag;
    bool has_answer;
};

static void answer_probe(struct sl_task *task)
{
    SL_CONTAINER(task, struct probe, answer)->has_answer = true;
}

static void ask_probe(struct sl_task *task)
{
    struct probe *probe = SL_CONTAINER(task, struct probe, ask);
    probe->lag = sl_event_channel_lag(sl_run_channel(probe->stream->run.run)).bytes;
    sl_loop_post(probe->stream->reader_loop, &probe->answer);
}

static uint64_t lag_of(struct sl_run_stream *stream)
{
    struct probe probe = { .ask.run = ask_probe, .answer.run = answer_probe, .stream = stream };
    sl_loop_post(stream->owner->base, &probe.ask);
    wait_until(&probe.has_answer);
    return probe.lag;
}

/* The run goes on until it is as far ahead as it may be, and an event. */
static void assert_stops_at(struct sl_run_stream *stream, uint64_t mark)
{
    for (int i = 0; i < 10000 && lag_of(stream) < mark; i++) {
    }
    for (int i = 0; i < 10; i++) {
        assert_in_range(lag_of(stream), mark, mark + 2048);
    }
}

static void take(struct sl_run_stream *stream, size_t n)
{
    uint8_t room[1024];
    bool is_last = false;
    while (n > 0) {
        const size_t size = n < sizeof(room) ? n : sizeof(room);
        assert_int_equal(sl_run_stream_ready(stream, size, &is_last), size);
        sl_run_stream_take(stream, room, size);
        n -= size;
    }
}

/* AL-8, FC-3: on its own loop and on another. */
static void the_mark_follows_the_streams_of_the_connection(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct sl_run_stream *streams[2];
        bool is_started[2] = { false };
        size_t n_remote = 0;
        open_runtime(n, "");
        struct sl_run_spec spec = spec_of("load", "{\"events\":100000,\"bytes\":1000}");
        spec.n_connection_streams = 1024;
        for (size_t i = 0; i < 2; i++) {
            const struct sl_run_callbacks callbacks = { .on_started = on_start_only,
                                                        .on_readable = ignore_readable,
                                                        .user_data = &is_started[i] };
            assert_int_equal(
                sl_run_start(runtime, bases[0], &spec, &callbacks, &streams[i]), SL_OK);
            wait_until(&is_started[i]);
            n_remote += streams[i]->is_remote;
            assert_stops_at(streams[i], 4096);
            sl_run_stream_share(streams[i], 64);
            assert_stops_at(streams[i], 65536);
            sl_run_stream_share(streams[i], 1);
            assert_stops_at(streams[i], limits.buffer);
            sl_run_stream_share(streams[i], 32);
            if (!streams[i]->is_remote) { /* half of the old mark is not half of the new one */
                take(streams[i], 140000);
                assert_stops_at(streams[i], limits.buffer - 140000);
            }
        }
        assert_int_equal(n_remote, n - 1);
        for (size_t i = 0; i < 2; i++) {
            sl_run_stream_close(streams[i], SL_RUN_CLOSE_LOST, 0);
        }
        close_runtime();
    }
}

static void builtin_agents_can_be_left_out(void **state)
{
    (void)state;
    open_runtime(1, "builtin_agents: [echo]\n");
    assert_int_equal(sl_runtime_n_agents(runtime, bases[0]), 1);
    assert_string_equal(sl_runtime_agent_at(runtime, bases[0], 0)->name, "echo");
    close_runtime();
    open_runtime(1, "builtin_agents: []\n");
    assert_int_equal(sl_runtime_n_agents(runtime, bases[0]), 0);
    close_runtime();
    open_runtime(1, "");
    assert_int_equal(sl_runtime_n_agents(runtime, bases[0]), 3);
    const struct sl_agent_info *demo = sl_runtime_agent_at(runtime, bases[0], 0);
    assert_string_equal(demo->name, "demo");
    assert_int_equal(demo->n_tools, 2);
    assert_int_equal(strlen(demo->version), 16);
    assert_null(sl_runtime_agent_at(runtime, bases[0], 3));
    struct sl_error err = { .text = "" };
    assert_int_equal(
        sl_runtime_load_agents(runtime, "/nowhere/agents", fail_on_problem, NULL, &err),
        SL_NOT_FOUND);
    close_runtime();
}

int main(void)
{
    sl_limits_init(&limits);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(echo_says_its_input),
        cmocka_unit_test(load_gives_exactly_what_was_ordered),
        cmocka_unit_test(load_has_as_many_events_as_its_knobs_say),
        cmocka_unit_test(demo_shows_what_a_run_looks_like),
        cmocka_unit_test(a_request_may_only_narrow_what_its_run_may_spend),
        cmocka_unit_test(a_stop_ends_everything),
        cmocka_unit_test(a_reset_ends_a_run_on_any_loop),
        cmocka_unit_test(a_reader_that_leaves_hears_when_its_run_is_dead),
        cmocka_unit_test(heartbeats_reach_a_reader_on_another_loop),
        cmocka_unit_test(a_slow_reader_loses_nothing),
        cmocka_unit_test(the_mark_follows_the_streams_of_the_connection),
        cmocka_unit_test(builtin_agents_can_be_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
