/* The door with everything behind it: built-in agents on real loops, one or two. */
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
#include "runtime/runtime.h"

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
static bool is_idle;

static const char *no_env(const char *name)
{
    (void)name;
    return NULL;
}

static void *run_second(void *argument)
{
    sl_loop_uv_run(argument);
    return NULL;
}

static void fail_on_problem(const char *line, void *user_data)
{
    (void)user_data;
    fail_msg("%s", line);
}

static void configure(const char *yaml)
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

/* `limits` may be changed before. */
static void open_runtime(size_t n, const char *yaml)
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
    if (n > 1) {
        assert_int_equal(pthread_create(&second_thread, NULL, run_second, loops[1]), 0);
    }
}

static void step(void)
{
    sl_loop_uv_step(loops[0], 50);
}

static void wait_until(const bool *flag)
{
    for (int n_steps = 0; !*flag; n_steps++) {
        step();
        assert_true(n_steps < MAX_STEPS);
    }
}

static void on_idle(void *user_data)
{
    (void)user_data;
    is_idle = true;
}

static void stop_runtime(void)
{
    sl_runtime_stop(runtime, on_idle, NULL);
    wait_until(&is_idle);
}

static void free_runtime(void)
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

static void close_runtime(void)
{
    stop_runtime();
    free_runtime();
}

/* ---- A reader ---------------------------------------------------------------------------------
 */

static void read_some(struct reader *reader)
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

static void on_started(
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

static void on_readable(struct sl_run_stream *stream, void *user_data)
{
    struct reader *reader = user_data;
    assert_ptr_equal(stream, reader->stream);
    reader->n_readable++;
    read_some(reader);
}

static void on_gone(void *user_data)
{
    struct reader *reader = user_data;
    struct sl_runtime_stats stats;
    assert_false(reader->is_gone);
    sl_runtime_stats(runtime, &stats);
    reader->n_running_when_gone = stats.runs_running;
    reader->is_gone = true;
}

static void on_heartbeat(struct sl_run_stream *stream, struct sl_slice message, void *user_data)
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

static void start(struct reader *reader, const struct sl_run_spec *spec)
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

static void finish(struct reader *reader)
{
    sl_run_stream_close(reader->stream, SL_RUN_CLOSE_READ, 0);
    sl_buf_done(&reader->bytes);
}

/* Calls `visit` with each event; checks their order. Gives how many there are. */
static size_t each_event(
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

static struct sl_run_spec spec_of(const char *agent, const char *input)
{
    return (struct sl_run_spec){
        .agent = agent, .input = sl_slice_str(input), .n_connection_streams = 1, .peer = "test"
    };
}

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

static void check_refusal(
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
    finish(&reader);
}

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
    CHECK_INVALID("session", .session_id = "s");
    CHECK_INVALID("max_iterations", .has_max_iterations = true, .max_iterations = 0);
    CHECK_INVALID("max_iterations", .has_max_iterations = true, .max_iterations = 1001);
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

/* AL-5.3 */
static void a_request_id_starts_one_run(void **state)
{
    (void)state;
    struct reader reader = { .max_take = 0 };
    open_runtime(1, "");
    struct sl_run_spec spec = spec_of("echo", "hello");
    spec.request_id = "order-1";
    start(&reader, &spec);
    wait_until(&reader.is_started);
    check_refusal(&spec, SL_ALREADY_EXISTS, "REQUEST_ID_REUSED", reader.run_id);
    wait_until(&reader.is_last);
    check_refusal(&spec, SL_ALREADY_EXISTS, "REQUEST_ID_REUSED", reader.run_id);
    finish(&reader);
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
    check_refusal(&hang, SL_RESOURCE_EXHAUSTED, "SERVER_FULL", "waiting");
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
    check_refusal(&hang, SL_RESOURCE_EXHAUSTED, "SERVER_FULL", "in time");
    sl_run_stream_close(reader.stream, SL_RUN_CLOSE_LOST, 0);
    sl_buf_done(&reader.bytes);
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

static void builtin_agents_can_be_left_out(void **state)
{
    (void)state;
    open_runtime(1, "builtin_agents: [echo]\n");
    assert_int_equal(sl_runtime_n_agents(runtime), 1);
    assert_string_equal(sl_runtime_agent_at(runtime, 0)->name, "echo");
    close_runtime();
    open_runtime(1, "builtin_agents: []\n");
    assert_int_equal(sl_runtime_n_agents(runtime), 0);
    close_runtime();
    open_runtime(1, "");
    assert_int_equal(sl_runtime_n_agents(runtime), 3);
    const struct sl_agent_info *demo = sl_runtime_agent_at(runtime, 0);
    assert_string_equal(demo->name, "demo");
    assert_int_equal(demo->n_tools, 2);
    assert_int_equal(strlen(demo->version), 16);
    assert_null(sl_runtime_agent_at(runtime, 3));
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
        cmocka_unit_test(a_bad_request_is_refused_with_its_reason),
        cmocka_unit_test(a_request_may_only_narrow_what_its_run_may_spend),
        cmocka_unit_test(a_request_id_starts_one_run),
        cmocka_unit_test(runs_over_the_limit_wait_their_turn),
        cmocka_unit_test(the_wait_for_a_slot_ends),
        cmocka_unit_test(a_stop_ends_everything),
        cmocka_unit_test(a_reset_ends_a_run_on_any_loop),
        cmocka_unit_test(a_reader_that_leaves_hears_when_its_run_is_dead),
        cmocka_unit_test(heartbeats_reach_a_reader_on_another_loop),
        cmocka_unit_test(a_slow_reader_loses_nothing),
        cmocka_unit_test(builtin_agents_can_be_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
