/* The transfers themselves, as the http tool uses them. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "runtime/model/http.h"
#include "tests/fake/fake_http_server.h"

struct world {
    struct sl_loop_uv *uv;
    struct sl_loop *loop;
    struct sl_fake_http server;
    struct sl_limits limits;
    struct sl_http *http;
    struct sl_http_request *request;
    struct sl_buf body;
    struct sl_http_result result;
    bool is_over, is_closed, stops, must_allow;
    int n_asked;
    int n_allowed; /* the guard refuses all that come after so many; 0: none */
    bool refuses_ipv6, has_refused_ipv6;
    char address[64];
    uint16_t port;
    char x_value[32];
    uint32_t status;
};

static void on_headers(struct sl_http_request *request, uint32_t status, void *user_data)
{
    struct world *world = user_data;
    const char *value = sl_http_header(request, "x-value");
    world->status = status;
    (void)snprintf(world->x_value, sizeof(world->x_value), "%s", value == NULL ? "" : value);
}

static bool on_body(struct sl_http_request *request, struct sl_slice bytes, void *user_data)
{
    struct world *world = user_data;
    (void)request;
    assert_int_equal(sl_buf_add(&world->body, bytes), SL_OK);
    return !world->stops;
}

static void
on_end(struct sl_http_request *request, const struct sl_http_result *result, void *user_data)
{
    struct world *world = user_data;
    assert_false(world->is_over);
    world->is_over = true;
    world->result = *result;
    world->request = sl_http_request_free(request);
}

static bool allow(const char *address, uint16_t port, void *user_data)
{
    struct world *world = user_data;
    (void)snprintf(world->address, sizeof(world->address), "%s", address);
    world->port = port;
    world->n_asked++;
    if (world->refuses_ipv6 && strchr(address, ':') != NULL) {
        world->has_refused_ipv6 = true;
        return false;
    }
    return world->must_allow && (world->n_allowed == 0 || world->n_asked <= world->n_allowed);
}

static int set_up(void **state)
{
    static struct world world;
    (void)signal(SIGPIPE, SIG_IGN);
    world = (struct world){ .must_allow = true };
    assert_int_equal(sl_loop_uv_new(0, &world.uv), SL_OK);
    world.loop = sl_loop_uv_base(world.uv);
    sl_loop_uv_step(world.uv, 0);
    sl_fake_http_open(&world.server, sl_loop_uv_handle(world.loop));
    sl_limits_init(&world.limits);
    sl_buf_init(&world.body, 1 << 24);
    assert_int_equal(sl_http_new(world.loop, &world.limits, &world.http, NULL), SL_OK);
    *state = &world;
    return 0;
}

static void on_closed(void *user_data)
{
    struct world *world = user_data;
    world->is_closed = true;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    world->request = sl_http_request_free(world->request);
    assert_int_equal(sl_http_n_requests(world->http), 0);
    sl_http_close(world->http, on_closed, world);
    assert_false(world->is_closed);
    for (int i = 0; i < 100 && !world->is_closed; i++) {
        sl_loop_uv_step(world->uv, 20);
    }
    assert_true(world->is_closed);
    sl_fake_http_close(&world->server);
    sl_loop_uv_step(world->uv, 0);
    sl_loop_uv_free(world->uv);
    sl_buf_done(&world->body);
    return 0;
}

static enum sl_status start(struct world *world, struct sl_http_options *options)
{
    static const struct sl_http_callbacks callbacks = {
        .on_headers = on_headers,
        .on_body = on_body,
        .on_end = on_end,
    };
    options->method = options->method == NULL ? "GET" : options->method;
    options->url = options->url == NULL ? world->server.url : options->url;
    return sl_http_start(world->http, options, &callbacks, world, &world->request, NULL);
}

static void ask(struct world *world, struct sl_http_options *options, const char *answer)
{
    const struct sl_fake_http_answer answers[] = {
        { .bytes = answer, .size = strlen(answer), .end = SL_FAKE_CLOSE },
    };
    world->server.answers = answers;
    world->server.n_answers = 1;
    world->is_over = false;
    sl_buf_clear(&world->body);
    assert_int_equal(start(world, options), SL_OK);
    for (int i = 0; i < 500 && !world->is_over; i++) {
        sl_loop_uv_step(world->uv, 20);
    }
    assert_true(world->is_over);
}

#define OK_ANSWER "HTTP/1.1 200 OK\r\nX-Value:  a b \r\nContent-Length: 2\r\n\r\nhi"

static void methods_bodies_and_headers_arrive(void **state)
{
    static const char *const headers[] = { "X-One: 1", NULL };
    static const char *const methods[] = { "GET", "POST", "PUT", "DELETE", "PATCH" };
    struct world *world = *state;
    for (size_t i = 0; i < SL_COUNT(methods); i++) {
        struct sl_http_options options = { .method = methods[i], .headers = headers };
        options.body = sl_slice_str(i == 0 ? "" : "body");
        ask(world, &options, OK_ANSWER);
        const char *request = sl_fake_http_request(&world->server);
        assert_memory_equal(request, methods[i], strlen(methods[i]));
        assert_non_null(strstr(request, "\r\nX-One: 1\r\n"));
        assert_int_equal(strstr(request, "\r\n\r\nbody") != NULL, i > 0);
        assert_int_equal(world->result.end, SL_HTTP_DONE);
        assert_int_equal(world->result.status, 200);
        assert_int_equal(world->status, 200);
        assert_string_equal(world->x_value, "a b");
        assert_true(sl_slice_equals(sl_buf_slice(&world->body), "hi"));
        assert_true(world->result.got_bytes && world->result.was_sent);
    }
}

static void headers_of_an_interim_answer_do_not_count(void **state)
{
    struct world *world = *state;
    ask(world, &(struct sl_http_options){ .method = "GET" },
        "HTTP/1.1 103 Early\r\nX-Value: no\r\n\r\nHTTP/1.1 204 None\r\n\r\n");
    assert_int_equal(world->status, 204);
    assert_string_equal(world->x_value, "");
}

static void a_redirect_is_not_followed(void **state)
{
    struct world *world = *state;
    ask(world, &(struct sl_http_options){ .method = "GET" },
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(world->result.end, SL_HTTP_DONE);
    assert_int_equal(world->result.status, 302);
    assert_int_equal(world->server.n_requests, 1);
}

static void the_guard_sees_the_address_and_may_refuse(void **state)
{
    struct world *world = *state;
    char url[64];
    (void)snprintf(url, sizeof(url), "http://localhost:%u/", world->server.port);
    struct sl_http_options options = { .url = world->server.url, .allow_address = allow };
    ask(world, &options, OK_ANSWER);
    assert_string_equal(world->address, "127.0.0.1");
    assert_int_equal(world->port, world->server.port);
    ask(world, &options, OK_ANSWER);
    assert_int_equal(world->server.n_connections, 2); /* never one that was not checked */
    world->must_allow = false;
    ask(world, &options, OK_ANSWER);
    assert_int_equal(world->result.end, SL_HTTP_DENIED);
    assert_int_equal(world->server.n_connections, 2);
    options.url = url; /* a name, resolved to more than one address */
    ask(world, &options, OK_ANSWER);
    assert_int_equal(world->result.end, SL_HTTP_DENIED);
    assert_false(world->result.was_sent);
}

/* Reliability 8.4: the check is repeated when the connection stands. */
static void the_guard_is_asked_again_before_anything_is_sent(void **state)
{
    struct world *world = *state;
    struct sl_http_options options = { .url = world->server.url, .allow_address = allow };
    world->n_allowed = 1;
    ask(world, &options, OK_ANSWER);
    assert_int_equal(world->n_asked, 2);
    assert_int_equal(world->result.end, SL_HTTP_DENIED);
    assert_false(world->result.was_sent);
    assert_int_equal(world->server.n_requests, 0);
}

/* Where "localhost" is ::1 as well, which comes first. */
static void one_bad_address_refuses_the_host(void **state)
{
    struct world *world = *state;
    char url[64];
    (void)snprintf(url, sizeof(url), "http://localhost:%u/", world->server.port);
    struct sl_http_options options = { .url = url, .allow_address = allow };
    world->refuses_ipv6 = true;
    ask(world, &options, OK_ANSWER);
    assert_int_equal(world->result.end, world->has_refused_ipv6 ? SL_HTTP_DENIED : SL_HTTP_DONE);
    assert_int_equal(world->server.n_requests, world->has_refused_ipv6 ? 0 : 1);
}

static void a_guarded_transfer_takes_no_connection_that_is_open(void **state)
{
    const struct sl_fake_http_answer answer = {
        .bytes = OK_ANSWER,
        .size = sizeof(OK_ANSWER) - 1,
        .end = SL_FAKE_KEEP,
    };
    struct world *world = *state;
    world->server.answers = &answer;
    world->server.n_answers = 1;
    for (int is_guarded = 0; is_guarded < 2; is_guarded++) {
        struct sl_http_options options = { .allow_address = is_guarded ? allow : NULL };
        world->is_over = false;
        world->must_allow = false;
        assert_int_equal(start(world, &options), SL_OK);
        for (int i = 0; i < 100 && !world->is_over; i++) {
            sl_loop_uv_step(world->uv, 20);
        }
        assert_true(world->is_over);
        assert_int_equal(world->result.end, is_guarded ? SL_HTTP_DENIED : SL_HTTP_DONE);
    }
    assert_int_equal(world->server.n_requests, 1);
}

static void what_cannot_be_sent_is_refused_at_once(void **state)
{
    static const char *const bad_headers[] = { "A: b\r\nC: d", NULL };
    static const char *const urls[] = {
        "", "x", "ftp://127.0.0.1/", "file:///etc/passwd", "http://", "http://a b/",
    };
    struct world *world = *state;
    struct sl_http_options options = { .headers = bad_headers };
    assert_int_equal(start(world, &options), SL_INVALID_ARGUMENT);
    options = (struct sl_http_options){ .method = "GET / HTTP/1.1\r\nX: y" };
    assert_int_equal(start(world, &options), SL_INVALID_ARGUMENT);
    options = (struct sl_http_options){ .allow_address = allow, .proxy = "env" };
    assert_int_equal(start(world, &options), SL_INVALID_ARGUMENT);
    for (size_t i = 0; i < SL_COUNT(urls); i++) {
        options = (struct sl_http_options){ .url = urls[i] };
        if (start(world, &options) != SL_INVALID_ARGUMENT) {
            fail_msg("taken: %s", urls[i]);
        }
    }
}

/* PM-1.1: no proxy stands before this machine's own servers. */
static void loopback_is_never_asked_through_a_proxy(void **state)
{
    static const char *const proxies[] = { "env", "http://127.0.0.1:1" };
    struct world *world = *state;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread looks yet */
    assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
    for (size_t i = 0; i < SL_COUNT(proxies); i++) {
        ask(world, &(struct sl_http_options){ .proxy = proxies[i] }, OK_ANSWER);
        assert_int_equal(world->result.end, SL_HTTP_DONE);
    }
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread looks yet */
    assert_int_equal(unsetenv("http_proxy"), 0);
}

/* PM-1.2: a tool that inherited the socket would keep it open after a cancel. */
static void a_socket_is_not_inherited(void **state)
{
    const struct sl_fake_http_answer answer = { .bytes = "", .end = SL_FAKE_HANG };
    struct world *world = *state;
    size_t n_found = 0;
    world->server.answers = &answer;
    world->server.n_answers = 1;
    assert_int_equal(start(world, &(struct sl_http_options){ .method = "GET" }), SL_OK);
    for (int i = 0; i < 100 && world->server.n_requests == 0; i++) {
        sl_loop_uv_step(world->uv, 20);
    }
    for (int fd = 0; fd < 256; fd++) {
        struct sockaddr_in peer = { .sin_family = AF_UNSPEC };
        socklen_t size = sizeof(peer);
        if (getpeername(fd, (struct sockaddr *)&peer, &size) == 0 && peer.sin_family == AF_INET &&
            ntohs(peer.sin_port) == world->server.port) {
            n_found++;
            assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
        }
    }
    assert_int_equal(n_found, 1);
}

static void a_body_over_its_limit_ends_the_transfer(void **state)
{
    struct world *world = *state;
    ask(world, &(struct sl_http_options){ .max_body_bytes = 1 }, OK_ANSWER);
    assert_int_equal(world->result.end, SL_HTTP_LIMIT);
    ask(world, &(struct sl_http_options){ .max_body_bytes = 2 }, OK_ANSWER);
    assert_int_equal(world->result.end, SL_HTTP_DONE);
}

static void the_total_timer_fires(void **state)
{
    struct world *world = *state;
    const struct sl_fake_http_answer answer = { .bytes = "", .end = SL_FAKE_HANG };
    struct sl_http_options options = { .total_ms = 30 };
    world->server.answers = &answer;
    world->server.n_answers = 1;
    assert_int_equal(start(world, &options), SL_OK);
    for (int i = 0; i < 100 && !world->is_over; i++) {
        sl_loop_uv_step(world->uv, 20);
    }
    assert_int_equal(world->result.end, SL_HTTP_TIMEOUT);
    assert_string_equal(world->result.timer, "total");
}

static void after_on_body_said_stop_nothing_comes(void **state)
{
    const struct sl_fake_http_answer answer = {
        .bytes = OK_ANSWER,
        .size = sizeof(OK_ANSWER) - 1,
        .end = SL_FAKE_KEEP,
    };
    struct world *world = *state;
    struct sl_http_options options = { .method = "GET" };
    world->stops = true;
    world->server.answers = &answer;
    world->server.n_answers = 1;
    assert_int_equal(start(world, &options), SL_OK);
    for (int i = 0; i < 20; i++) {
        sl_loop_uv_step(world->uv, 10);
    }
    assert_int_equal(world->body.size, 2);
    assert_false(world->is_over);
    assert_int_equal(sl_http_n_requests(world->http), 1);
}

static void a_name_that_is_not_there_is_unreachable(void **state)
{
    struct world *world = *state;
    ask(world, &(struct sl_http_options){ .url = "http://nowhere.invalid/" }, "");
    assert_int_equal(world->result.end, SL_HTTP_UNREACHABLE);
}

/* The resolver's thread may still run: the free must not wait for it, and the close must not hang.
 */
static void a_free_while_a_name_is_resolved_does_not_block(void **state)
{
    struct world *world = *state;
    for (int i = 0; i < 5; i++) {
        struct sl_http_options options = { .url = "http://nowhere.invalid/" };
        assert_int_equal(start(world, &options), SL_OK);
        for (int j = 0; j < i; j++) {
            sl_loop_uv_step(world->uv, 0);
        }
        world->request = sl_http_request_free(world->request);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        CASE(methods_bodies_and_headers_arrive),
        CASE(headers_of_an_interim_answer_do_not_count),
        CASE(a_redirect_is_not_followed),
        CASE(the_guard_sees_the_address_and_may_refuse),
        CASE(a_guarded_transfer_takes_no_connection_that_is_open),
        CASE(the_guard_is_asked_again_before_anything_is_sent),
        CASE(one_bad_address_refuses_the_host),
        CASE(what_cannot_be_sent_is_refused_at_once),
        CASE(loopback_is_never_asked_through_a_proxy),
        CASE(a_socket_is_not_inherited),
        CASE(a_body_over_its_limit_ends_the_transfer),
        CASE(the_total_timer_fires),
        CASE(after_on_body_said_stop_nothing_comes),
        CASE(a_name_that_is_not_there_is_unreachable),
        CASE(a_free_while_a_name_is_resolved_does_not_block),
#undef CASE
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
