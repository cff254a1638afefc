/* The whole way of a model's answer: socket, HTTP, SSE, chunks; and every way it can break. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/base/loop_uv.h"
#include "tests/fake/fake_http_server.h"
#include "tests/unit/test_model_sink.h"

#define HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
#define CHUNK(delta, finish)                                                                       \
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m-1\",\"choices\":"      \
    "[{\"index\":0,\"delta\":{" delta "},\"finish_reason\":" finish "}]}\n\n"
#define USAGE                                                                                      \
    "data: {\"object\":\"chat.completion.chunk\",\"model\":\"m-1\",\"choices\":[],\"usage\":"      \
    "{\"prompt_tokens\":9,\"completion_tokens\":4,\"prompt_tokens_details\":{\"cached_tokens\":3}" \
    "}}\n\n"
#define DONE "data: [DONE]\n\n"
#define STORY                                                                                      \
    CHUNK("\"role\":\"assistant\",\"content\":\"\"", "null")                                       \
    CHUNK("\"content\":\"Hel\"", "null")                                                           \
    CHUNK("\"content\":\"lo \\ud83d\\ude00\xC3\xA9\"", "null")                                     \
    CHUNK("", "\"stop\"")
#define STORY_LOG "text Hello \xF0\x9F\x98\x80\xC3\xA9\n"

struct world {
    struct sl_loop_uv *uv;
    struct sl_loop *loop;
    struct sl_fake_http server;
    struct sl_limits limits;
    struct sl_models *models;
    struct sl_model_turn *turn;
    struct test_sink sink;
    bool is_closed;
};

static char base_url[64];

static const char *env(const char *name)
{
    if (strcmp(name, "OPENAI_BASE_URL") == 0) {
        return base_url;
    }
    return strcmp(name, "OPENAI_API_KEY") == 0 ? "key-of-the-test" : NULL;
}

static void open_models(struct world *world)
{
    struct sl_loop *loops[] = { world->loop };
    const struct sl_models_options options = {
        .loops = loops,
        .n_loops = 1,
        .limits = &world->limits,
        .env = env,
    };
    assert_int_equal(sl_models_new(&options, &world->models, NULL), SL_OK);
}

static void on_closed(void *user_data)
{
    struct world *world = user_data;
    world->is_closed = true;
}

static void close_models(struct world *world)
{
    world->is_closed = false;
    sl_models_close_loop(world->models, world->loop, on_closed, world);
    assert_false(world->is_closed);
    for (int i = 0; i < 100 && !world->is_closed; i++) {
        sl_loop_uv_step(world->uv, 20);
    }
    assert_true(world->is_closed);
    world->models = sl_models_free(world->models);
}

static int set_up(void **state)
{
    static struct world world;
    (void)signal(SIGPIPE, SIG_IGN);
    world = (struct world){ .turn = NULL };
    assert_int_equal(sl_loop_uv_new(0, &world.uv), SL_OK);
    world.loop = sl_loop_uv_base(world.uv);
    sl_loop_uv_step(world.uv, 0); /* the loop's thread is this one */
    sl_fake_http_open(&world.server, sl_loop_uv_handle(world.loop));
    (void)snprintf(base_url, sizeof(base_url), "%s", world.server.url);
    sl_limits_init(&world.limits);
    world.limits.model_retries = 0;
    test_sink_init(&world.sink);
    open_models(&world);
    *state = &world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    world->turn = sl_model_turn_free(world->turn);
    assert_int_equal(sl_models_n_turns(world->models), 0);
    close_models(world);
    sl_fake_http_close(&world->server);
    sl_loop_uv_step(world->uv, 0);
    sl_loop_uv_free(world->uv);
    test_sink_done(&world->sink);
    return 0;
}

/* Other limits for the models of this test. */
static void set_limits(struct world *world)
{
    close_models(world);
    open_models(world);
}

static void start_with(struct world *world, struct sl_model_request *request)
{
    const struct sl_model_sink sink = test_sink_of(&world->sink);
    struct sl_error error = { .text = "" };
    request->provider = "openai";
    request->model = "m";
    request->run_id = "run";
    request->iteration = 1;
    request->remaining_ms = request->remaining_ms == 0 ? 20000 : request->remaining_ms;
    if (sl_model_turn_start(world->models, world->loop, request, &sink, &world->turn, &error) !=
        SL_OK) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(world->sink.n_chunks, 0);
}

static void start(struct world *world)
{
    static const struct sl_chat_message message = {
        .role = SL_CHAT_USER,
        .content = { .data = (const uint8_t *)"Hi", .size = 2 },
    };
    struct sl_model_request request = { .messages = &message, .n_messages = 1 };
    start_with(world, &request);
}

/* Turns the loop until the answer is over, at most ten seconds. */
static void run(struct world *world)
{
    const uint64_t end_ns = sl_loop_now_ns(world->loop) + 10 * SL_NS_PER_S;
    while (!world->sink.is_over && sl_loop_now_ns(world->loop) < end_ns) {
        sl_loop_uv_step(world->uv, 100);
    }
    assert_true(world->sink.is_over);
}

/* Turns the loop for so long. */
static void wait_ms(struct world *world, uint64_t ms)
{
    const uint64_t end_ns = sl_loop_now_ns(world->loop) + ms * SL_NS_PER_MS;
    while (sl_loop_now_ns(world->loop) < end_ns) {
        sl_loop_uv_step(world->uv, 10);
    }
}

static void ask(struct world *world, const struct sl_fake_http_answer *answers, size_t n)
{
    world->server.answers = answers;
    world->server.n_answers = n;
    world->server.n_requests = 0;
    test_sink_done(&world->sink);
    test_sink_init(&world->sink);
    start(world);
    run(world);
    world->turn = sl_model_turn_free(world->turn);
}

static void ask_text(struct world *world, const char *bytes)
{
    const struct sl_fake_http_answer answer = {
        .bytes = bytes,
        .size = strlen(bytes),
        .end = SL_FAKE_CLOSE,
    };
    ask(world, &answer, 1);
}

static void expect(struct world *world, const char *log)
{
    assert_string_equal(test_sink_log(&world->sink), log);
}

/* ---- Answers ----------------------------------------------------------------------------------
 */

static void an_answer_comes_whole(void **state)
{
    struct world *world = *state;
    ask_text(world, HEAD STORY USAGE DONE);
    expect(world, STORY_LOG "usage 9 4 3 0\nfinish END_TURN\n");
    assert_int_equal(world->sink.end.n_requests, 1);
    assert_int_equal(world->sink.end.received_bytes, 12);
    assert_true(world->sink.end.request_bytes > 20);
}

static void any_size_of_pieces_gives_the_same(void **state)
{
    static const size_t sizes[] = { 1, 2, 3, 5, 7, 64, 1000 };
    static const char bytes[] = HEAD STORY USAGE DONE;
    struct world *world = *state;
    for (size_t i = 0; i < SL_COUNT(sizes); i++) {
        const struct sl_fake_http_answer answer = {
            .bytes = bytes,
            .size = sizeof(bytes) - 1,
            .piece = sizes[i],
            .end = SL_FAKE_CLOSE,
        };
        ask(world, &answer, 1);
        expect(world, STORY_LOG "usage 9 4 3 0\nfinish END_TURN\n");
    }
}

static void the_request_is_as_the_vendors_want_it(void **state)
{
    struct world *world = *state;
    ask_text(world, HEAD STORY DONE);
    const char *request = sl_fake_http_request(&world->server);
    assert_non_null(strstr(request, "POST /v1/chat/completions HTTP/1.1\r\n"));
    assert_non_null(strstr(request, "\r\nAuthorization: Bearer key-of-the-test\r\n"));
    assert_non_null(strstr(request, "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(request, "\r\nAccept: text/event-stream\r\n"));
    assert_null(strstr(request, "Expect:"));
    assert_non_null(strstr(
        request,
        "{\"model\":\"m\",\"stream\":true,\"stream_options\":{\"include_usage\":true,"
        "\"include_obfuscation\":false},\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}"));
}

static void a_json_reply_gives_the_same_chunks(void **state)
{
    struct world *world = *state;
    ask_text(
        world,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nConnection: close\r\n"
        "\r\n{\"model\":\"m-1\",\"choices\":[{\"message\":{\"content\":\"Hi\",\"tool_calls\":"
        "[{\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},"
        "\"finish_reason\":\"tool_calls\"}],\"usage\":{\"prompt_tokens\":1,"
        "\"completion_tokens\":2}}");
    expect(world, "text Hi\nusage 1 2 0 0\ncall a f {}\nfinish TOOL_USE\n");
}

static void a_missing_end_mark_after_the_finish_reason_is_no_fault(void **state)
{
    struct world *world = *state;
    const struct sl_fake_http_answer answers[] = {
        { .bytes = HEAD STORY, .size = sizeof(HEAD STORY) - 1, .end = SL_FAKE_CLOSE },
        { .bytes = HEAD STORY, .size = sizeof(HEAD STORY) - 1, .end = SL_FAKE_RESET },
        { .bytes = HEAD STORY, .size = sizeof(HEAD STORY) - 1, .end = SL_FAKE_HANG },
    };
    world->limits.model_end_grace = 30;
    set_limits(world);
    for (size_t i = 0; i < SL_COUNT(answers); i++) {
        ask(world, &answers[i], 1);
        expect(world, STORY_LOG "finish END_TURN\n");
    }
}

/* ---- Cuts (reliability P8) --------------------------------------------------------------------
 */

static void a_cut_at_any_byte_is_never_taken_for_an_end(void **state)
{
    static const char bytes[] = HEAD STORY DONE;
    static const enum sl_fake_http_end ends[] = { SL_FAKE_CLOSE, SL_FAKE_RESET };
    struct world *world = *state;
    const size_t finish = (size_t)(strstr(bytes, "\"stop\"}]}") - bytes) + strlen("\"stop\"}]}");
    for (size_t how = 0; how < SL_COUNT(ends); how++) {
        for (size_t n = 0; n < sizeof(bytes); n++) {
            const struct sl_fake_http_answer answer = {
                .bytes = bytes,
                .size = n,
                .end = ends[how],
            };
            ask(world, &answer, 1);
            const bool is_finish = world->sink.end.kind == SL_CHUNK_FINISH;
            if (n < finish && is_finish) {
                fail_msg("%zu bytes were taken for a whole answer", n);
            }
            if (n >= sizeof(HEAD) - 1 && n < finish &&
                world->sink.fault != SL_FAULT_PROVIDER_TRUNCATED) {
                fail_msg("%zu bytes were: %s", n, test_sink_log(&world->sink));
            }
            /* A reset may overtake bytes that were sent before it. */
            if (n >= finish && ends[how] == SL_FAKE_CLOSE && !is_finish) {
                fail_msg("%zu bytes (%zu): %s", n, finish, test_sink_log(&world->sink));
            }
        }
    }
}

static void a_chunked_answer_that_is_cut_is_truncated(void **state)
{
    struct world *world = *state;
    ask_text(
        world,
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        "fff\r\ndata: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n");
    expect(world, "text a\nfail PROVIDER_TRUNCATED retryable\n");
}

static void done_without_a_finish_reason_is_truncated(void **state)
{
    struct world *world = *state;
    ask_text(world, HEAD CHUNK("\"content\":\"a\"", "null") DONE);
    expect(world, "text a\nfail PROVIDER_TRUNCATED retryable\n");
}

/* ---- Refusals ---------------------------------------------------------------------------------
 */

static void each_status_has_its_fault(void **state)
{
    static const struct {
        const char *head, *body, *log;
    } cases[] = {
        { "301 Moved\r\nLocation: http://127.0.0.1:1/", "", "fail PROVIDER_REJECTED\n" },
        { "400 Bad", "{\"error\":{\"message\":\"no\"}}", "fail PROVIDER_REJECTED\n" },
        { "400 Bad", "{\"error\":{\"code\":\"context_length_exceeded\",\"message\":\"long\"}}",
          "fail CONTEXT_OVERFLOW\n" },
        { "413 Large", "{\"message\":\"the prompt is too long\"}", "fail CONTEXT_OVERFLOW\n" },
        { "401 Who", "{\"error\":\"key\"}", "fail PROVIDER_AUTH\n" },
        { "403 No", "", "fail PROVIDER_AUTH\n" },
        { "402 Pay", "", "fail PROVIDER_QUOTA\n" },
        { "404 Not", "<html>x</html>", "fail PROVIDER_REJECTED\n" },
        { "422 Un", "{\"detail\":\"x\"}", "fail PROVIDER_REJECTED\n" },
        { "429 Slow", "{\"error\":{\"code\":\"insufficient_quota\"}}", "fail PROVIDER_QUOTA\n" },
        { "429 Slow", "", "fail PROVIDER_RATE_LIMITED retryable\n" },
        { "408 Late", "", "fail PROVIDER_OVERLOADED retryable\n" },
        { "409 Clash", "", "fail PROVIDER_OVERLOADED retryable\n" },
        { "500 Oh", "<html>x</html>", "fail PROVIDER_OVERLOADED retryable\n" },
        { "529 Busy", "", "fail PROVIDER_OVERLOADED retryable\n" },
        { "204 Empty", "", "fail PROVIDER_PROTOCOL\n" },
        { "200 OK\r\nContent-Type: text/html", "<html>", "fail PROVIDER_PROTOCOL\n" },
        { "200 OK", "x", "fail PROVIDER_PROTOCOL\n" },
        { "200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip", "x",
          "fail PROVIDER_PROTOCOL\n" },
        { "200 OK\r\nContent-Type: application/json", "{", "fail PROVIDER_PROTOCOL\n" },
        { "200 OK\r\nContent-Type: text/event-stream", "data: {\n\n", "fail PROVIDER_PROTOCOL\n" },
        { "200 OK\r\nContent-Type: text/event-stream",
          "data: {\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n",
          "fail PROVIDER_OVERLOADED retryable\n" },
        { "200 OK\r\nContent-Type: text/event-stream",
          "{\"error\":{\"code\":429,\"message\":\"x\"}}\n",
          "fail PROVIDER_RATE_LIMITED retryable\n" },
    };
    struct world *world = *state;
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        char bytes[1024];
        (void)snprintf(
            bytes, sizeof(bytes), "HTTP/1.1 %s\r\nConnection: close\r\n\r\n%s", cases[i].head,
            cases[i].body);
        ask_text(world, bytes);
        if (strcmp(test_sink_log(&world->sink), cases[i].log) != 0) {
            fail_msg("%s: %s", cases[i].head, test_sink_log(&world->sink));
        }
    }
}

static void an_answer_that_is_not_http_is_a_fault_of_the_protocol(void **state)
{
    struct world *world = *state;
    ask_text(world, "SSH-2.0-OpenSSH\r\n");
    expect(world, "fail PROVIDER_PROTOCOL\n");
}

static void a_closed_port_is_unreachable(void **state)
{
    struct world *world = *state;
    (void)snprintf(base_url, sizeof(base_url), "http://127.0.0.1:1/v1");
    set_limits(world);
    start(world);
    run(world);
    expect(world, "fail PROVIDER_UNREACHABLE retryable\n");
    assert_int_equal(world->sink.end.n_requests, 0);
    assert_int_equal(world->sink.end.request_bytes, 0);
}

/* ---- Retries ----------------------------------------------------------------------------------
 */

#define BUSY(extra) "HTTP/1.1 503 Busy\r\n" extra "Content-Length: 0\r\n\r\n"
#define KEPT(bytes)                                                                                \
    {                                                                                              \
        (bytes), sizeof(bytes) - 1, 0, SL_FAKE_KEEP, NULL                                          \
    }

static void a_failed_request_is_sent_again(void **state)
{
    static const struct sl_fake_http_answer answers[] = {
        KEPT(BUSY("Retry-After-Ms: 5\r\n")),
        KEPT(BUSY("Retry-After: 0.01\r\n")),
        { HEAD STORY DONE, sizeof(HEAD STORY DONE) - 1, 0, SL_FAKE_CLOSE, NULL },
    };
    struct world *world = *state;
    world->limits.model_retries = 2;
    set_limits(world);
    ask(world, answers, 3);
    expect(world, STORY_LOG "finish END_TURN\n");
    assert_int_equal(world->server.n_requests, 3);
    assert_int_equal(world->sink.n_retry_waits, 2);
    assert_int_equal(world->sink.end.n_requests, 3);
    assert_true(world->sink.end.request_bytes < 300); /* the two refusals used nothing */
}

static void a_long_wait_is_handed_up(void **state)
{
    static const struct sl_fake_http_answer answers[] = { KEPT(BUSY("Retry-After: 61\r\n")) };
    struct world *world = *state;
    world->limits.model_retries = 2;
    set_limits(world);
    ask(world, answers, 1);
    expect(world, "fail PROVIDER_RATE_LIMITED retryable\n");
    assert_int_equal(world->sink.end.retry_after_ms, 61000);
    assert_int_equal(world->server.n_requests, 1);
}

static void the_provider_may_forbid_a_retry(void **state)
{
    static const struct sl_fake_http_answer answers[] = { KEPT(BUSY("x-should-retry: false\r\n")) };
    struct world *world = *state;
    world->limits.model_retries = 2;
    set_limits(world);
    ask(world, answers, 1);
    assert_int_equal(world->server.n_requests, 1);
}

static void nothing_is_sent_again_after_a_word(void **state)
{
    struct world *world = *state;
    world->limits.model_retries = 2;
    set_limits(world);
    ask_text(world, HEAD CHUNK("\"content\":\"a\"", "null"));
    expect(world, "text a\nfail PROVIDER_TRUNCATED retryable\n");
    assert_int_equal(world->server.n_requests, 1);
}

static void a_cancel_ends_the_wait_before_a_retry(void **state)
{
    static const struct sl_fake_http_answer answers[] = { KEPT(BUSY("Retry-After: 30\r\n")) };
    struct world *world = *state;
    world->limits.model_retries = 2;
    set_limits(world);
    world->server.answers = answers;
    world->server.n_answers = 1;
    start_with(world, &(struct sl_model_request){ .remaining_ms = 100000 });
    for (int i = 0; i < 100 && world->sink.n_retry_waits == 0; i++) {
        sl_loop_uv_step(world->uv, 20);
    }
    assert_int_equal(world->sink.n_retry_waits, 1);
    world->turn = sl_model_turn_free(world->turn);
    assert_int_equal(world->sink.n_chunks, 0);
}

/* ---- Timers and limits ------------------------------------------------------------------------
 */

static void silence_trips_the_timers(void **state)
{
    static const struct sl_fake_http_answer answers[] = {
        { "", 0, 0, SL_FAKE_HANG, NULL },
        { HEAD, sizeof(HEAD) - 1, 0, SL_FAKE_HANG, NULL },
        { HEAD CHUNK("\"content\":\"a\"", "null"),
          sizeof(HEAD CHUNK("\"content\":\"a\"", "null")) - 1, 0, SL_FAKE_HANG, NULL },
    };
    struct world *world = *state;
    world->limits.model_first_byte = 40;
    world->limits.model_idle = 40;
    set_limits(world);
    ask(world, &answers[0], 1);
    expect(world, "fail PROVIDER_TIMEOUT retryable\n");
    ask(world, &answers[1], 1);
    expect(world, "fail PROVIDER_TIMEOUT retryable\n");
    ask(world, &answers[2], 1);
    expect(world, "text a\nfail PROVIDER_TIMEOUT retryable\n");
}

static void pings_without_content_are_no_progress(void **state)
{
    static const struct sl_fake_http_answer answer = {
        HEAD, sizeof(HEAD) - 1, 0, SL_FAKE_KEEP, ": ping\n\n",
    };
    struct world *world = *state;
    world->limits.model_no_progress = 40;
    set_limits(world);
    ask(world, &answer, 1);
    expect(world, "fail PROVIDER_TIMEOUT retryable\n");
}

static void the_runs_time_is_the_last_word(void **state)
{
    static const struct sl_fake_http_answer answer = { "", 0, 0, SL_FAKE_HANG, NULL };
    struct world *world = *state;
    world->server.answers = &answer;
    world->server.n_answers = 1;
    start_with(world, &(struct sl_model_request){ .remaining_ms = 40 });
    run(world);
    expect(world, "fail DEADLINE_EXCEEDED\n");
}

static void endless_answers_end_at_the_limits(void **state)
{
    static const struct sl_fake_http_answer answers[] = {
        { HEAD "data: ", sizeof(HEAD "data: ") - 1, 0, SL_FAKE_KEEP,
          "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" },
        { HEAD, sizeof(HEAD) - 1, 0, SL_FAKE_KEEP, "data: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n" },
        { HEAD, sizeof(HEAD) - 1, 0, SL_FAKE_KEEP, ": pingpingpingpingpingpingpingpingping\n\n" },
        { "HTTP/1.1 200 OK\r\n", 17, 0, SL_FAKE_KEEP, "x-header: aaaaaaaaaaaaaaaaaaaaaaaa\r\n" },
        { "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", 51, 0, SL_FAKE_KEEP,
          "                                   " },
    };
    struct world *world = *state;
    world->limits.model_line = 2000;
    world->limits.model_event = 4000;
    world->limits.model_stream = 70000;
    world->limits.model_reply = 5000;
    set_limits(world);
    for (size_t i = 0; i < SL_COUNT(answers); i++) {
        ask(world, &answers[i], 1);
        if (strcmp(test_sink_log(&world->sink), "fail PROVIDER_LIMIT\n") != 0) {
            fail_msg("%zu: %s", i, test_sink_log(&world->sink));
        }
    }
}

static void a_request_over_its_limit_is_not_sent(void **state)
{
    struct world *world = *state;
    uint8_t *text = calloc(1, 100000);
    assert_non_null(text);
    memset(text, 'a', 100000);
    const struct sl_chat_message message = { .role = SL_CHAT_USER, .content = { text, 100000 } };
    world->limits.model_request = 65536;
    set_limits(world);
    start_with(world, &(struct sl_model_request){ .messages = &message, .n_messages = 1 });
    run(world);
    expect(world, "fail PROVIDER_LIMIT\n");
    assert_int_equal(world->server.n_requests, 0);
    free(text);
}

static void an_error_body_is_cut_at_its_limit(void **state)
{
    static const struct sl_fake_http_answer answer = {
        "HTTP/1.1 400 Bad\r\n\r\n", 20, 0, SL_FAKE_KEEP, "aaaaaaaaaaaaaaaaaaaaaaaa",
    };
    struct world *world = *state;
    world->limits.model_error_body = 1024;
    set_limits(world);
    ask(world, &answer, 1);
    expect(world, "fail PROVIDER_REJECTED\n");
}

/* ---- Large documents --------------------------------------------------------------------------
 */

/* An event that the scanner does not know, of more than 256 KiB: parsed on the pool while more
 * comes. */
static void a_large_event_is_parsed_elsewhere_and_in_order(void **state)
{
    struct world *world = *state;
    struct sl_buf bytes;
    sl_buf_init(&bytes, 8 << 20);
    assert_int_equal(sl_buf_add_str(&bytes, HEAD CHUNK("\"content\":\"<\"", "null")), SL_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(
            sl_buf_add_str(
                &bytes,
                "data: {\"choices\":[{\"delta\":{\"refusal\":null,\"tool_calls\":[{\"index\":0,"
                "\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\""),
            SL_OK);
        for (int j = 0; j < 30000; j++) {
            assert_int_equal(sl_buf_add_str(&bytes, "0123456789"), SL_OK);
        }
        assert_int_equal(sl_buf_add_str(&bytes, "\"}}]}}]}\n\n"), SL_OK);
    }
    assert_int_equal(
        sl_buf_add_str(&bytes, CHUNK("\"content\":\">\"", "null") CHUNK("", "\"length\"") DONE),
        SL_OK);
    ask_text(world, sl_buf_cstr(&bytes));
    /* The arguments are no JSON, and the answer was cut: the call is dropped. */
    expect(world, "text <>\nfinish MAX_TOKENS\n");
    assert_int_equal(world->sink.end.received_bytes, 900002);
    sl_buf_done(&bytes);
}

static void a_turn_may_go_while_its_document_is_parsed(void **state)
{
    struct world *world = *state;
    struct sl_buf bytes;
    sl_buf_init(&bytes, 8 << 20);
    assert_int_equal(sl_buf_add_str(&bytes, HEAD "data: {\"error\":{\"message\":["), SL_OK);
    for (int j = 0; j < 90000; j++) {
        assert_int_equal(sl_buf_add_str(&bytes, "\"abc\","), SL_OK);
    }
    assert_int_equal(sl_buf_add_str(&bytes, "1]}}\n\n"), SL_OK);
    const struct sl_fake_http_answer answer = {
        .bytes = (const char *)bytes.data,
        .size = bytes.size,
        .end = SL_FAKE_HANG,
    };
    world->server.answers = &answer;
    world->server.n_answers = 1;
    start(world);
    for (int i = 0; i < 200 && world->server.n_sent < bytes.size; i++) {
        sl_loop_uv_step(world->uv, 20);
    }
    sl_loop_uv_step(world->uv, 0);
    world->turn = sl_model_turn_free(world->turn);
    for (int i = 0; i < 10; i++) {
        sl_loop_uv_step(world->uv, 20);
    }
    sl_buf_done(&bytes);
}

/* ---- Backpressure, cancel, connections ----------------------------------------------------------
 */

static void a_full_reader_holds_the_provider_back(void **state)
{
    static const struct sl_fake_http_answer answer = {
        HEAD CHUNK("\"content\":\"a\"", "null"),
        sizeof(HEAD CHUNK("\"content\":\"a\"", "null")) - 1,
        0,
        SL_FAKE_KEEP,
        CHUNK("\"content\":\"0123456789\"", "null"),
    };
    struct world *world = *state;
    world->limits.model_idle = 100;
    world->limits.model_no_progress = 100;
    set_limits(world);
    world->server.answers = &answer;
    world->server.n_answers = 1;
    world->server.send_buffer = 16384;
    world->sink.full_after = 100;
    start(world);
    wait_ms(world, 300); /* longer than the timers: they stand still */
    assert_false(world->sink.is_over);
    const size_t n_texts = world->sink.n_texts;
    assert_in_range(n_texts, 100, 400);
    const uint64_t n_sent = world->server.n_sent;
    wait_ms(world, 100);
    assert_int_equal(world->server.n_sent, n_sent); /* the window is closed */
    assert_int_equal(world->sink.n_texts, n_texts);
    for (size_t goal = 20000; goal <= 60000; goal += 20000) { /* stalls have a history here */
        world->sink.full_after = goal;
        sl_model_turn_resume(world->turn);
        for (int i = 0; i < 20000 && world->sink.n_texts < goal; i++) {
            sl_loop_uv_step(world->uv, 20);
        }
        assert_true(world->sink.n_texts >= goal);
        sl_loop_uv_step(world->uv, 20);
    }
    world->turn = sl_model_turn_free(world->turn);
}

static void a_cancel_closes_the_socket(void **state)
{
    static const struct sl_fake_http_answer answer = {
        HEAD CHUNK("\"content\":\"a\"", "null"),
        sizeof(HEAD CHUNK("\"content\":\"a\"", "null")) - 1,
        0,
        SL_FAKE_HANG,
        NULL,
    };
    struct world *world = *state;
    world->server.answers = &answer;
    world->server.n_answers = 1;
    for (int is_inside = 0; is_inside < 2; is_inside++) {
        test_sink_done(&world->sink);
        test_sink_init(&world->sink);
        world->server.n_peer_ended = 0;
        world->sink.turn = is_inside ? &world->turn : NULL;
        world->sink.free_after = 1;
        start(world);
        for (int i = 0; i < 100 && world->sink.n_texts == 0; i++) {
            sl_loop_uv_step(world->uv, 20);
        }
        assert_int_equal(world->sink.n_texts, 1);
        world->turn = sl_model_turn_free(world->turn);
        for (int i = 0; i < 100 && world->server.n_peer_ended == 0; i++) {
            sl_loop_uv_step(world->uv, 20);
        }
        assert_int_equal(world->server.n_peer_ended, 1);
        assert_int_equal(world->sink.n_chunks, 1);
    }
}

static void a_turn_may_be_freed_before_anything_happened(void **state)
{
    struct world *world = *state;
    static const struct sl_fake_http_answer answer = { "", 0, 0, SL_FAKE_HANG, NULL };
    world->server.answers = &answer;
    world->server.n_answers = 1;
    for (int n = 0; n < 8; n++) {
        start(world);
        for (int i = 0; i < n; i++) {
            sl_loop_uv_step(world->uv, 0);
        }
        world->turn = sl_model_turn_free(world->turn);
    }
    sl_loop_uv_step(world->uv, 20);
    assert_int_equal(world->sink.n_chunks, 0);
}

#define CHUNKED                                                                                    \
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
#define SHORT "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n" DONE

static void a_connection_is_used_again_after_a_whole_answer(void **state)
{
    /* The end mark of the transfer comes in a piece of its own, after [DONE]. */
    char bytes[512];
    struct world *world = *state;
    (void)snprintf(bytes, sizeof(bytes), CHUNKED "%zx\r\n%s\r\n0\r\n\r\n", strlen(SHORT), SHORT);
    const struct sl_fake_http_answer answer = {
        .bytes = bytes,
        .size = strlen(bytes),
        .piece = strlen(bytes) - 5,
        .end = SL_FAKE_KEEP,
    };
    for (int i = 0; i < 5; i++) {
        ask(world, &answer, 1);
        expect(world, "finish END_TURN\n");
        for (int j = 0; j < 5; j++) {
            sl_loop_uv_step(world->uv, 5);
        }
    }
    assert_int_equal(world->server.n_connections, 1);
}

static void who_comes_too_late_waits_at_the_gate(void **state)
{
    static const struct sl_fake_http_answer answer = { "", 0, 0, SL_FAKE_HANG, NULL };
    struct world *world = *state;
    struct sl_model_turn *first = NULL;
    struct sl_model_turn *second = NULL;
    struct sl_model_turn *third = NULL;
    world->limits.model_concurrent = 1;
    set_limits(world);
    world->server.answers = &answer;
    world->server.n_answers = 1;
    start(world);
    first = world->turn;
    start(world);
    second = world->turn;
    start(world);
    third = world->turn;
    for (int i = 0; i < 10; i++) {
        sl_loop_uv_step(world->uv, 10);
    }
    assert_int_equal(world->server.n_requests, 1);
    sl_model_turn_free(second); /* leaves the line */
    sl_model_turn_free(first);
    for (int i = 0; i < 50 && world->server.n_requests < 2; i++) {
        sl_loop_uv_step(world->uv, 10);
    }
    assert_int_equal(world->server.n_requests, 2);
    start(world); /* in the line when the place becomes free, and gone before it knows */
    sl_model_turn_free(third);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        CASE(an_answer_comes_whole),
        CASE(any_size_of_pieces_gives_the_same),
        CASE(the_request_is_as_the_vendors_want_it),
        CASE(a_json_reply_gives_the_same_chunks),
        CASE(a_missing_end_mark_after_the_finish_reason_is_no_fault),
        CASE(a_cut_at_any_byte_is_never_taken_for_an_end),
        CASE(a_chunked_answer_that_is_cut_is_truncated),
        CASE(done_without_a_finish_reason_is_truncated),
        CASE(each_status_has_its_fault),
        CASE(an_answer_that_is_not_http_is_a_fault_of_the_protocol),
        CASE(a_closed_port_is_unreachable),
        CASE(a_failed_request_is_sent_again),
        CASE(a_long_wait_is_handed_up),
        CASE(the_provider_may_forbid_a_retry),
        CASE(nothing_is_sent_again_after_a_word),
        CASE(a_cancel_ends_the_wait_before_a_retry),
        CASE(silence_trips_the_timers),
        CASE(pings_without_content_are_no_progress),
        CASE(the_runs_time_is_the_last_word),
        CASE(endless_answers_end_at_the_limits),
        CASE(a_request_over_its_limit_is_not_sent),
        CASE(an_error_body_is_cut_at_its_limit),
        CASE(a_large_event_is_parsed_elsewhere_and_in_order),
        CASE(a_turn_may_go_while_its_document_is_parsed),
        CASE(a_full_reader_holds_the_provider_back),
        CASE(a_cancel_closes_the_socket),
        CASE(a_turn_may_be_freed_before_anything_happened),
        CASE(a_connection_is_used_again_after_a_whole_answer),
        CASE(who_comes_too_late_waits_at_the_gate),
#undef CASE
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
