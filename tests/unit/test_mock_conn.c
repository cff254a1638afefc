/* `sluice mock-model` over a socket: what it answers, counts, and does with pipelined requests. */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "service/cli/mock_conn.h"

enum { MAX_STEPS = 5000, SEEN_BYTES = 8 * 1024 * 1024, MANY = 4000 };

static struct sl_limits limits;
static struct sl_loop_uv *uv_loop;
static struct sl_net_listener *listener;
static struct sl_mock mock;
static struct sl_scenario *scenario;
static char *seen;
static size_t n_seen;
static bool is_closed; /* the listener */
static int client = -1;

static void step(void)
{
    sl_loop_uv_step(uv_loop, 1);
}

static void open_client(void)
{
    const struct sockaddr_in address = { .sin_family = AF_INET,
                                         .sin_port = htons(sl_net_listener_port(listener)),
                                         .sin_addr = { htonl(INADDR_LOOPBACK) } };
    client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(client >= 0);
    assert_int_equal(connect(client, (const struct sockaddr *)&address, sizeof(address)), 0);
    n_seen = 0;
}

static void open_mock(const char *yaml)
{
    struct sl_error err = { .text = "" };
    sl_limits_init(&limits);
    if (sl_scenario_parse(sl_slice_str(yaml), "test.yaml", &scenario, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(sl_loop_uv_new(0, &uv_loop), SL_OK);
    struct sl_loop *loop = sl_loop_uv_base(uv_loop);
    mock =
        (struct sl_mock){ .loop = loop, .scenario = scenario, .limits = &limits, .is_quiet = true };
    sl_mock_init(&mock);
    const struct sl_net_listen_options options = { .address = "127.0.0.1:0",
                                                   .limits = &limits,
                                                   .loops = &loop,
                                                   .n_loops = 1,
                                                   .on_accept = sl_mock_accept,
                                                   .user_data = &mock };
    assert_int_equal(sl_net_listen(&options, &listener, &err), SL_OK);
    seen = malloc(SEEN_BYTES + 1);
    assert_non_null(seen);
    is_closed = false;
    open_client();
}

static void on_closed(void *user_data)
{
    (void)user_data;
    is_closed = true;
}

static int tear_down(void **state)
{
    (void)state;
    sl_mock_close(&mock);
    sl_net_listener_close(listener, on_closed, NULL);
    for (int n = 0; !is_closed || !sl_list_is_empty(&mock.conns); n++) {
        step();
        assert_true(n < MAX_STEPS);
    }
    assert_int_equal(mock.stats.active, 0);
    (void)close(client);
    while (sl_loop_drain(sl_loop_uv_base(uv_loop))) {
    }
    uv_loop = sl_loop_uv_free(uv_loop);
    scenario = sl_scenario_free(scenario);
    free(seen);
    return 0;
}

/* What has come so far. False: the server closed. */
static bool receive(void)
{
    step();
    for (;;) {
        const ssize_t n = recv(client, seen + n_seen, SEEN_BYTES - n_seen, MSG_DONTWAIT);
        if (n > 0) {
            n_seen += (size_t)n;
            continue;
        }
        seen[n_seen] = '\0';
        return n < 0 && errno == EAGAIN;
    }
}

static void post(const char *bytes, size_t size)
{
    size_t at = 0;
    for (int n_steps = 0; at < size; n_steps++) {
        const ssize_t n = send(client, bytes + at, size - at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if ((n < 0 && errno != EAGAIN) || n_steps == MAX_STEPS) {
            fail_msg("%zu of %zu bytes were sent, errno %d", at, size, errno);
        }
        at += n > 0 ? (size_t)n : 0;
        (void)receive();
    }
}

static void wait_seen(const char *expected)
{
    for (int n = 0; seen == NULL || strstr(seen, expected) == NULL; n++) {
        (void)receive();
        if (n == MAX_STEPS) {
            fail_msg("expected '%s' in\n%s", expected, seen);
        }
    }
}

static void wait_closed(void)
{
    for (int n = 0; receive(); n++) {
        assert_true(n < MAX_STEPS);
    }
}

static void chat(const char *body, const char *fields)
{
    char request[1024];
    const int size = snprintf(
        request, sizeof(request),
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n%sContent-Length: %zu\r\n\r\n%s", fields,
        strlen(body), body);
    assert_true(size > 0 && (size_t)size < sizeof(request));
    post(request, (size_t)size);
}

static size_t count(const char *text)
{
    size_t n = 0;
    for (const char *at = seen; (at = strstr(at, text)) != NULL; at++) {
        n++;
    }
    return n;
}

#define STREAMED                                                                                   \
    "{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"
#define WHOLE     "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"
#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

static const char hello[] = "turns:\n  - steps: [{text: \"Hello {{input}}\"}]\n";

static void an_answer_is_streamed_in_chunks_to_its_end(void **state)
{
    (void)state;
    open_mock(hello);
    chat(STREAMED, "");
    wait_seen("[DONE]");
    wait_seen("\r\n0\r\n\r\n");
    assert_non_null(strstr(seen, "HTTP/1.1 200 OK"));
    assert_non_null(strstr(seen, "text/event-stream"));
    assert_non_null(strstr(seen, "chat.completion.chunk"));
    assert_int_equal(mock.stats.requests, 1);
    assert_int_equal(mock.stats.completed, 1);
    assert_int_equal(mock.stats.aborted, 0);
}

static void a_whole_answer_names_the_model_of_the_scenario(void **state)
{
    (void)state;
    open_mock("model: \"my \\\"m\\\"\"\nturns:\n  - steps:\n      - text: \"a \\\"b\\\"\"\n"
              "      - tool_call: {name: add, arguments: {a: 1}, id: c1, fragments: 3}\n");
    chat(WHOLE, "");
    wait_seen("total_tokens");
    assert_non_null(strstr(seen, "\"model\":\"my \\u0022m\\u0022\""));
    assert_non_null(strstr(seen, "\"content\":\"a \\u0022b\\u0022\""));
    assert_non_null(strstr(seen, "\"finish_reason\":\"tool_calls\""));
    assert_non_null(strstr(seen, "\"id\":\"c1\""));
}

static void requests_come_byte_by_byte_and_ask_to_go_on(void **state)
{
    (void)state;
    open_mock(hello);
    const char request[] =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        "Content-Length: 57\r\n\r\n";
    assert_int_equal(strlen(WHOLE), 57);
    for (size_t i = 0; i + 1 < sizeof(request); i++) {
        post(request + i, 1);
    }
    wait_seen("100 Continue");
    for (size_t i = 0; i < strlen(WHOLE); i++) {
        post(&WHOLE[i], 1);
    }
    wait_seen("Hello hi");
    assert_int_equal(count("100 Continue"), 1);
}

static void what_is_not_served_is_an_error_and_the_connection_lives(void **state)
{
    (void)state;
    open_mock(hello);
    const char other[] = GET("/else");
    post(other, strlen(other));
    wait_seen("404 Not Found");
    chat("{}", "");
    wait_seen("400 Bad Request");
    const char stats[] = GET("/stats");
    post(stats, strlen(stats));
    wait_seen("{\"requests\":0,\"completed\":0,\"aborted\":0,\"active\":0,");
}

static void a_wrong_key_is_401(void **state)
{
    (void)state;
    open_mock(hello);
    mock.api_key = "secret";
    chat(WHOLE, "");
    wait_seen("401 Unauthorized");
    chat(WHOLE, "Authorization: Bearer secret\r\n");
    wait_seen("200 OK");
    assert_int_equal(mock.stats.requests, 1);
}

static void an_error_of_the_scenario_is_an_http_error_that_attempts_get_over(void **state)
{
    (void)state;
    open_mock("turns:\n  - steps:\n      - error: {status: 429, retry_after: 0.5, attempts: 1}\n"
              "      - text: fine\n");
    chat(WHOLE, "");
    wait_seen("HTTP/1.1 429");
    wait_seen("retry-after: 0.5");
    chat(WHOLE, "");
    wait_seen("\"content\":\"fine\"");
}

static void a_cut_closes_without_an_end(void **state)
{
    (void)state;
    open_mock("turns:\n  - steps: [{text: part}, {cut: true}]\n");
    chat(STREAMED, "");
    wait_closed();
    assert_non_null(strstr(seen, "part"));
    assert_null(strstr(seen, "[DONE]"));
    assert_int_equal(mock.stats.aborted, 0);
}

static void a_client_that_leaves_is_counted(void **state)
{
    (void)state;
    open_mock("turns:\n  - steps: [{text: part}, {hang: true}]\n");
    chat(STREAMED, "");
    wait_seen("part");
    assert_int_equal(mock.stats.active, 1);
    (void)close(client);
    client = -1;
    for (int n = 0; mock.stats.active > 0; n++) {
        step();
        assert_true(n < MAX_STEPS);
    }
    assert_int_equal(mock.stats.aborted, 1);
    assert_int_equal(mock.stats.completed, 0);
}

static void a_bad_request_is_answered_and_closed(void **state)
{
    (void)state;
    open_mock(hello);
    const char bad[] = "GARBAGE\r\n\r\n" GET("/stats");
    post(bad, strlen(bad));
    wait_closed();
    assert_int_equal(count("400 Bad Request"), 1);
    assert_null(strstr(seen, "200 OK"));
}

static void nothing_is_answered_behind_the_last_request(void **state)
{
    (void)state;
    open_mock(hello);
    const char requests[] =
        "GET /stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" GET("/models");
    post(requests, strlen(requests));
    wait_closed();
    assert_int_equal(count("200 OK"), 1);
    assert_null(strstr(seen, "\"object\":\"list\""));
}

/* They wait behind an answer, and are then taken one after another without a stack that grows. */
static void many_pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    open_mock("turns:\n  - steps: [{text: slow}, {delay_ms: 50}, {text: end}]\n");
    static const char get[] = GET("/models");
    const size_t get_bytes = strlen(get);
    char *requests = malloc(MANY * get_bytes);
    assert_non_null(requests);
    for (size_t i = 0; i < MANY * get_bytes; i++) {
        requests[i] = get[i % get_bytes];
    }
    chat(STREAMED, "");
    post(requests, MANY * get_bytes);
    free(requests);
    for (int n = 0; count("\"object\":\"list\"") < MANY; n++) {
        for (int i = 0; i < 20; i++) {
            assert_true(receive());
        }
        assert_true(n < MAX_STEPS / 20);
    }
    assert_true(strstr(seen, "[DONE]") < strstr(seen, "\"object\":\"list\""));
    assert_int_equal(count("\"object\":\"list\""), MANY);
}

#define CASE(test) cmocka_unit_test_teardown(test, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(an_answer_is_streamed_in_chunks_to_its_end),
        CASE(a_whole_answer_names_the_model_of_the_scenario),
        CASE(requests_come_byte_by_byte_and_ask_to_go_on),
        CASE(what_is_not_served_is_an_error_and_the_connection_lives),
        CASE(a_wrong_key_is_401),
        CASE(an_error_of_the_scenario_is_an_http_error_that_attempts_get_over),
        CASE(a_cut_closes_without_an_end),
        CASE(a_client_that_leaves_is_counted),
        CASE(a_bad_request_is_answered_and_closed),
        CASE(nothing_is_answered_behind_the_last_request),
        CASE(many_pipelined_requests_are_answered_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
