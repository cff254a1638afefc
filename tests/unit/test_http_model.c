/* The whole way of a model's answer: socket, HTTP, SSE, chunks; and every way it can break. */
#include "tests/unit/test_http_world.h"

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

/* The line that is not complete, and the arguments of a call that is not. */
static void a_turn_counts_with_what_it_has_read(void **state)
{
    static char bytes[12001];
    static const char call[] = HEAD CHUNK(
        "\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\","
        "\"arguments\":\"{\\\"a\\\":1\"}}]",
        "null") "data: ";
    struct world *world = *state;
    memset(bytes, 'x', sizeof(bytes) - 1);
    memcpy(bytes, call, sizeof(call) - 1);
    const struct sl_fake_http_answer answer = { .bytes = bytes,
                                                .size = sizeof(bytes) - 1,
                                                .end = SL_FAKE_HANG };
    world->server.answers = &answer;
    world->server.n_answers = 1;
    start(world);
    const uint64_t before = sl_model_turn_bytes(world->turn);
    assert_true(before > 60); /* the request */
    for (int i = 0; i < 500 && sl_model_turn_bytes(world->turn) < before + 11000; i++) {
        sl_loop_uv_step(world->uv, 20);
    }
    assert_in_range(sl_model_turn_bytes(world->turn), before + 11000, before + 60000);
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
        { .bytes = HEAD STORY,
          .size = sizeof(HEAD STORY) - 1,
          .end = SL_FAKE_RESET,
          .reset_delay_ms = 150 },
        { .bytes = HEAD STORY, .size = sizeof(HEAD STORY) - 1, .end = SL_FAKE_HANG },
    };
    world->limits.model_end_grace = 500;
    set_limits(world);
    for (size_t i = 0; i < SL_COUNT(answers); i++) {
        ask(world, &answers[i], 1);
        expect(world, STORY_LOG "finish END_TURN\n");
    }
}

/* ---- Cuts (reliability P8) --------------------------------------------------------------------
 */

/* Bytes up to which the answer is not whole. */
static size_t finish_of(const char *bytes)
{
    return (size_t)(strstr(bytes, "\"stop\"}]}") - bytes) + strlen("\"stop\"}]}");
}

static void cut(struct world *world, const char *bytes, size_t n, enum sl_fake_http_end end)
{
    const struct sl_fake_http_answer answer = {
        .bytes = bytes,
        .size = n,
        .end = end,
        .reset_delay_ms = 1,
    };
    ask(world, &answer, 1);
    const bool is_finish = world->sink.end.kind == SL_CHUNK_FINISH;
    const bool is_whole = n >= finish_of(bytes);
    if (is_finish && !is_whole) {
        fail_msg("%zu bytes were taken for a whole answer", n);
    }
    if (end == SL_FAKE_RESET) {
        return; /* may overtake bytes that were sent before it */
    }
    const bool is_truncated = world->sink.fault == SL_FAULT_PROVIDER_TRUNCATED;
    if (is_finish != is_whole || (n >= sizeof(HEAD) - 1 && !is_whole && !is_truncated)) {
        fail_msg("%zu bytes: %s", n, test_sink_log(&world->sink));
    }
}

/* AL-2.3: who reads the estimate must not be told that nothing came. */
static void what_came_before_a_fault_is_counted(void **state)
{
    static const char *const answers[] = {
        HEAD CHUNK("\"content\":\"Hello\"", "null"),
        HEAD CHUNK("\"reasoning_content\":\"Hello\"", "null"),
        HEAD CHUNK(
            "\"content\":\"Hello\"", "null") "data: {\"error\":{\"type\":\"server_error\"}}\n\n",
        HEAD CHUNK(
            "\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":"
            "{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":\"}}]",
            "null"),
    };
    struct world *world = *state;
    for (size_t i = 0; i < SL_COUNT(answers); i++) {
        ask_text(world, answers[i]);
        assert_int_equal(world->sink.end.kind, SL_CHUNK_FAIL);
        assert_int_equal(world->sink.end.received_bytes, 5);
        assert_true(world->sink.end.request_bytes > 20);
    }
}

static void a_cut_at_any_byte_is_never_taken_for_an_end(void **state)
{
    static const char bytes[] = HEAD STORY DONE;
    for (size_t n = 0; n < sizeof(bytes); n++) {
        cut(*state, bytes, n, SL_FAKE_CLOSE);
        cut(*state, bytes, n, SL_FAKE_RESET);
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
        { "200 OK\r\nContent-Type: application/jsonl", "{}", "fail PROVIDER_PROTOCOL\n" },
        { "200 OK\r\nContent-Type: Text/Event-Stream ; charset=utf-8",
          "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}", "finish END_TURN\n" },
        { "200 OK", "x", "fail PROVIDER_PROTOCOL\n" },
        { "400 Bad", "{\"error\":{\"type\":\"billing_error\"}}", "fail PROVIDER_QUOTA\n" },
        { "400 Bad", "{\"error\":{\"code\":\"invalid_api_key\"}}", "fail PROVIDER_AUTH\n" },
        { "400 Bad", "{\"error\":{\"type\":\"invalid_request_error\"}}",
          "fail PROVIDER_REJECTED\n" },
        { "401 Who", "{\"error\":{\"code\":\"rate_limit_exceeded\"}}", "fail PROVIDER_AUTH\n" },
        { "429 Slow", "{\"error\":{\"type\":\"invalid_request_error\"}}",
          "fail PROVIDER_RATE_LIMITED retryable\n" },
        { "404 Not", "{\"error\":{\"code\":\"context_length_exceeded\"}}",
          "fail PROVIDER_REJECTED\n" },
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
        /* PM-1.5.6: bare JSON without an error is ignored, also when it is none. */
        { "200 OK\r\nContent-Type: text/event-stream",
          "{\"x\":1}\n\n{broken\n\n[]\n\ndata: {\"choices\":[{\"finish_reason\":\"stop\"}]}\n\n",
          "finish END_TURN\n" },
        { "200 OK\r\nContent-Type: text/event-stream",
          "[{\"error\":{\"code\":503,\"status\":\"UNAVAILABLE\"}}]\n\n",
          "fail PROVIDER_OVERLOADED retryable\n" },
        { "200 OK\r\nContent-Type: text/event-stream",
          "event: error\ndata: {\"type\":\"server_error\"}\n\n",
          "fail PROVIDER_OVERLOADED retryable\n" },
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

/* PM-1.8: where the words of an error are looked for, and how many of them are kept. */
static void the_words_of_an_error_are_for_the_log(void **state)
{
    static const char *const bodies[] = {
        "{\"error\":{\"message\":\"words\"},\"message\":\"no\"}",
        "{\"error\":{},\"message\":\"words\",\"detail\":\"no\"}",
        "{\"error\":\"words\",\"detail\":\"no\"}",
        "{\"detail\":\"words\"}",
    };
    struct world *world = *state;
    char bytes[2048];
    for (size_t i = 0; i < SL_COUNT(bodies); i++) {
        (void)snprintf(
            bytes, sizeof(bytes), "HTTP/1.1 400 Bad\r\nConnection: close\r\n\r\n%s", bodies[i]);
        ask_text(world, bytes);
        assert_string_equal(world->sink.end.message, "words");
    }
    (void)snprintf(
        bytes, sizeof(bytes),
        "HTTP/1.1 400 Bad\r\nConnection: close\r\n\r\n{\"error\":\"key-of-the-test x-api-key: k "
        "%0600d\"}",
        0);
    ask_text(world, bytes);
    assert_true(strlen(world->sink.end.message) <= 500);
    assert_null(strstr(world->sink.end.message, "key-of-the-test"));
    assert_memory_equal(world->sink.end.message, "*** x-api-key: ***", 18);
    ask_text(world, "HTTP/1.1 400 Bad\r\nConnection: close\r\n\r\n<html>x</html>");
    assert_string_equal(world->sink.end.message, "HTTP status 400");
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
        (bytes), sizeof(bytes) - 1, 0, SL_FAKE_KEEP, 0, NULL                                       \
    }

static void a_failed_request_is_sent_again(void **state)
{
    static const struct sl_fake_http_answer answers[] = {
        KEPT(BUSY("Retry-After-Ms: 5\r\n")),
        KEPT(BUSY("Retry-After: 0.01\r\n")),
        { HEAD STORY DONE, sizeof(HEAD STORY DONE) - 1, 0, SL_FAKE_CLOSE, 0, NULL },
    };
    struct world *world = *state;
    world->limits.model_retries = 2;
    set_limits(world);
    ask(world, answers, 3);
    expect(world, STORY_LOG "finish END_TURN\n");
    assert_int_equal(world->server.n_requests, 3);
    assert_int_equal(world->sink.n_retry_waits, 2);
    assert_int_equal(world->sink.retried, SL_FAULT_PROVIDER_OVERLOADED);
    assert_int_equal(world->sink.end.n_requests, 3);
    assert_true(world->sink.end.request_bytes < 300); /* the two refusals used nothing */
}

/* PM-1.7: ten tokens, one a retry, none at five or below; the next run finds what is left. */
static void the_budget_of_the_entry_bounds_all_retries(void **state)
{
    static const struct sl_fake_http_answer answers[] = { KEPT(BUSY("Retry-After-Ms: 1\r\n")) };
    struct world *world = *state;
    world->limits.model_retries = 4;
    set_limits(world);
    ask(world, answers, 1);
    assert_int_equal(world->server.n_requests, 5);
    ask(world, answers, 1);
    assert_int_equal(world->server.n_requests, 2);
    ask(world, answers, 1);
    assert_int_equal(world->server.n_requests, 1);
    expect(world, "fail PROVIDER_OVERLOADED retryable\n");
}

/* PM-1.7: an overload may be the first event of a 200 stream. */
static void an_overload_inside_the_stream_is_tried_again(void **state)
{
    static const char busy[] =
        HEAD "data: {\"error\":{\"type\":\"overloaded_error\",\"details\":[{\"@type\":"
             "\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"0.01s\"}]}}\n\n";
    static const struct sl_fake_http_answer answers[] = {
        { busy, sizeof(busy) - 1, 0, SL_FAKE_CLOSE, 0, NULL },
        { HEAD STORY DONE, sizeof(HEAD STORY DONE) - 1, 0, SL_FAKE_CLOSE, 0, NULL },
    };
    struct world *world = *state;
    world->limits.model_retries = 2;
    set_limits(world);
    ask(world, answers, 2);
    expect(world, STORY_LOG "finish END_TURN\n");
    assert_int_equal(world->server.n_requests, 2);
    assert_int_equal(world->sink.n_retry_waits, 1);
}

/* PM-1.7: Gemini says in the body when to come again; a header is asked first. */
static void a_delay_in_the_body_counts_as_retry_after(void **state)
{
#define GEMINI(head)                                                                               \
    "HTTP/1.1 429 Slow\r\n" head                                                                   \
    "Connection: close\r\n\r\n[{\"error\":{\"details\":[7,{\"@type\":"                             \
    "\"x\"},{\"retryDelay\":\"61.5s\"}]}}]"
    struct world *world = *state;
    world->limits.model_retries = 2;
    set_limits(world);
    ask_text(world, GEMINI(""));
    expect(world, "fail PROVIDER_RATE_LIMITED retryable\n");
    assert_int_equal(world->sink.end.retry_after_ms, 61500);
    assert_int_equal(world->server.n_requests, 1);
    ask_text(world, GEMINI("Retry-After: 70\r\n"));
    assert_int_equal(world->sink.end.retry_after_ms, 70000);
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

/* PM-1.7: a failure that no retry could have changed, and a wait that only the run has no time for,
 * reach no limit. */
static void a_limit_of_retries_is_counted_when_it_is_the_cause(void **state)
{
    static const struct sl_fake_http_answer busy[] = { KEPT(BUSY("Retry-After-Ms: 1\r\n")) };
    static const struct sl_fake_http_answer refused[] = {
        KEPT(BUSY("Retry-After-Ms: 1\r\n")),
        KEPT("HTTP/1.1 401 Who\r\nContent-Length: 0\r\n\r\n")
    };
    static const struct sl_fake_http_answer slow[] = { KEPT(BUSY("Retry-After: 50\r\n")) };
    static const struct sl_fake_http_answer slower[] = { KEPT(BUSY("Retry-After: 61\r\n")) };
    struct world *world = *state;
    const uint64_t n_retries = sl_limit_n_reached(SL_LIMIT_model_retries);
    const uint64_t n_waits = sl_limit_n_reached(SL_LIMIT_model_retry_after);
    world->limits.model_retries = 1;
    set_limits(world);
    ask(world, refused, 2);
    expect(world, "fail PROVIDER_AUTH\n");
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_model_retries), n_retries);
    ask(world, busy, 1);
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_model_retries), n_retries + 1);
    world->server.answers = slow;
    test_sink_done(&world->sink);
    test_sink_init(&world->sink);
    start_with(world, &(struct sl_model_request){ .remaining_ms = 20000 });
    run(world);
    world->turn = sl_model_turn_free(world->turn);
    expect(world, "fail PROVIDER_RATE_LIMITED retryable\n");
    assert_int_equal(world->sink.end.retry_after_ms, 50000);
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_model_retry_after), n_waits);
    ask(world, slower, 1);
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_model_retry_after), n_waits + 1);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        CASE(an_answer_comes_whole),
        CASE(any_size_of_pieces_gives_the_same),
        CASE(the_request_is_as_the_vendors_want_it),
        CASE(a_turn_counts_with_what_it_has_read),
        CASE(a_json_reply_gives_the_same_chunks),
        CASE(a_missing_end_mark_after_the_finish_reason_is_no_fault),
        CASE(what_came_before_a_fault_is_counted),
        CASE(a_cut_at_any_byte_is_never_taken_for_an_end),
        CASE(a_chunked_answer_that_is_cut_is_truncated),
        CASE(done_without_a_finish_reason_is_truncated),
        CASE(each_status_has_its_fault),
        CASE(the_words_of_an_error_are_for_the_log),
        CASE(an_answer_that_is_not_http_is_a_fault_of_the_protocol),
        CASE(a_closed_port_is_unreachable),
        CASE(a_failed_request_is_sent_again),
        CASE(the_budget_of_the_entry_bounds_all_retries),
        CASE(an_overload_inside_the_stream_is_tried_again),
        CASE(a_delay_in_the_body_counts_as_retry_after),
        CASE(a_long_wait_is_handed_up),
        CASE(a_limit_of_retries_is_counted_when_it_is_the_cause),
        CASE(the_provider_may_forbid_a_retry),
        CASE(nothing_is_sent_again_after_a_word),
        CASE(a_cancel_ends_the_wait_before_a_retry),
#undef CASE
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
