/* Models over HTTP: timers, limits, backpressure, cancel, connections. */
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/test_http_world.h"

/* ---- Timers and limits ------------------------------------------------------------------------
 */

static void silence_trips_the_timers(void **state)
{
    static const struct sl_fake_http_answer answers[] = {
        { "", 0, 0, SL_FAKE_HANG, 0, NULL },
        { HEAD, sizeof(HEAD) - 1, 0, SL_FAKE_HANG, 0, NULL },
        { HEAD CHUNK("\"content\":\"a\"", "null"),
          sizeof(HEAD CHUNK("\"content\":\"a\"", "null")) - 1, 0, SL_FAKE_HANG, 0, NULL },
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

/* A socket that listens, and takes nobody any more: the kernel drops what wants to connect. */
struct deaf {
    int listener;
    int waiting[16];
    size_t n_waiting;
    uint16_t port;
};

static void open_deaf(struct deaf *deaf)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t size = sizeof(address);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *deaf = (struct deaf){ .listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
    assert_true(deaf->listener >= 0);
    assert_int_equal(bind(deaf->listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(deaf->listener, 0), 0);
    assert_int_equal(getsockname(deaf->listener, (struct sockaddr *)&address, &size), 0);
    deaf->port = ntohs(address.sin_port);
    /* On loopback a connect is through at once, or the queue is full. */
    bool is_full = false;
    while (!is_full && deaf->n_waiting < SL_COUNT(deaf->waiting)) {
        const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct pollfd ready = { .fd = fd, .events = POLLOUT };
        assert_true(fd >= 0);
        (void)connect(fd, (struct sockaddr *)&address, size);
        deaf->waiting[deaf->n_waiting++] = fd;
        is_full = poll(&ready, 1, 100) == 0;
    }
    assert_true(is_full);
}

static void close_deaf(const struct deaf *deaf)
{
    for (size_t i = 0; i < deaf->n_waiting; i++) {
        (void)close(deaf->waiting[i]);
    }
    (void)close(deaf->listener);
}

/* PM-1.3 connect: TCP and TLS together. */
static void a_connection_that_does_not_come_is_unreachable(void **state)
{
    static const struct sl_fake_http_answer answer = { "", 0, 0, SL_FAKE_HANG, 0, NULL };
    struct world *world = *state;
    struct deaf deaf;
    open_deaf(&deaf);
    world->server.answers = &answer;
    world->server.n_answers = 1;
    world->limits.model_connect = 40;
    for (int is_tls = 0; is_tls < 2; is_tls++) {
        (void)snprintf(
            base_url, sizeof(base_url), "%s://127.0.0.1:%u/v1", is_tls ? "https" : "http",
            is_tls ? world->server.port : deaf.port);
        set_limits(world);
        test_sink_done(&world->sink);
        test_sink_init(&world->sink);
        start(world);
        run(world);
        expect(world, "fail PROVIDER_UNREACHABLE retryable\n");
        assert_int_equal(world->sink.end.n_requests, 0);
        assert_int_equal(world->sink.end.request_bytes, 0);
        assert_non_null(strcasestr(world->sink.end.message, "timeout"));
        world->turn = sl_model_turn_free(world->turn);
    }
    assert_int_equal(world->server.n_connections, 1);
    assert_int_equal(world->server.n_requests, 0);
    close_deaf(&deaf);
}

static void pings_without_content_are_no_progress(void **state)
{
    static const struct sl_fake_http_answer answer = {
        HEAD, sizeof(HEAD) - 1, 0, SL_FAKE_KEEP, 0, ": ping\n\n",
    };
    struct world *world = *state;
    world->limits.model_no_progress = 40;
    set_limits(world);
    ask(world, &answer, 1);
    expect(world, "fail PROVIDER_TIMEOUT retryable\n");
}

static void the_runs_time_is_the_last_word(void **state)
{
    static const struct sl_fake_http_answer answer = { "", 0, 0, SL_FAKE_HANG, 0, NULL };
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
        { HEAD "data: ", sizeof(HEAD "data: ") - 1, 0, SL_FAKE_KEEP, 0,
          "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" },
        { HEAD, sizeof(HEAD) - 1, 0, SL_FAKE_KEEP, 0,
          "data: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n" },
        { HEAD, sizeof(HEAD) - 1, 0, SL_FAKE_KEEP, 0,
          ": pingpingpingpingpingpingpingpingping\n\n" },
        { "HTTP/1.1 200 OK\r\n", 17, 0, SL_FAKE_KEEP, 0, "x-header: aaaaaaaaaaaaaaaaaaaaaaaa\r\n" },
        { "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", 51, 0, SL_FAKE_KEEP, 0,
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
        "HTTP/1.1 400 Bad\r\n\r\n", 20, 0, SL_FAKE_KEEP, 0, "aaaaaaaaaaaaaaaaaaaaaaaa",
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
    /* The answer was cut: whether the arguments are an object is looked at by who takes them. */
    expect(world, "text <>\ncall a f CUT\nfinish MAX_TOKENS\n");
    assert_int_equal(world->sink.end.received_bytes, 900002);
    sl_buf_done(&bytes);
}

static void a_large_event_that_is_too_deep_is_refused(void **state)
{
    struct world *world = *state;
    struct sl_buf bytes;
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_model_json_depth);
    sl_buf_init(&bytes, 8 << 20);
    world->limits.model_json_depth = 8;
    set_limits(world);
    assert_int_equal(sl_buf_add_str(&bytes, HEAD "data: {\"x\":[[[[[[[[0"), SL_OK);
    for (int i = 0; i < 150000; i++) {
        assert_int_equal(sl_buf_add_str(&bytes, ",0"), SL_OK);
    }
    assert_int_equal(sl_buf_add_str(&bytes, "]]]]]]]]}\n\n"), SL_OK);
    ask_text(world, sl_buf_cstr(&bytes));
    expect(world, "fail PROVIDER_LIMIT\n");
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_model_json_depth), n_before + 1);
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
        0,
        CHUNK("\"content\":\"0123456789\"", "null"),
    };
    struct world *world = *state;
    world->limits.model_idle = 1000;
    world->limits.model_no_progress = 1000;
    set_limits(world);
    world->server.answers = &answer;
    world->server.n_answers = 1;
    world->server.send_buffer = 16384;
    world->sink.full_after = 100;
    start(world);
    wait_ms(world, 1500); /* longer than the timers: they stand still */
    assert_false(world->sink.is_over);
    const size_t n_texts = world->sink.n_texts;
    assert_in_range(n_texts, 100, 400);
    uint64_t n_sent = 0; /* the kernels may still move what the window allows; then it is closed */
    for (int i = 0; i < 100 && n_sent != world->server.n_sent; i++) {
        n_sent = world->server.n_sent;
        wait_ms(world, 100);
    }
    assert_int_equal(world->server.n_sent, n_sent);
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

/* PM-1.3: the first byte is there, and was not taken. */
static void a_full_reader_stops_the_first_byte_timer(void **state)
{
    static const char bytes[] = HEAD CHUNK("\"content\":\"a\"", "\"stop\"") DONE;
    static const struct sl_fake_http_answer answer = {
        bytes, sizeof(bytes) - 1, 0, SL_FAKE_CLOSE, 0, NULL,
    };
    struct world *world = *state;
    world->limits.model_first_byte = 60;
    set_limits(world);
    world->server.answers = &answer;
    world->server.n_answers = 1;
    world->sink.n_texts = world->sink.full_after = 1;
    start(world);
    wait_ms(world, 300);
    assert_false(world->sink.is_over);
    assert_int_equal(world->server.n_requests, 1);
    world->sink.full_after = 0;
    sl_model_turn_resume(world->turn);
    run(world);
    expect(world, "text a\nfinish END_TURN\n");
}

static void a_cancel_closes_the_socket(void **state)
{
    static const struct sl_fake_http_answer answer = {
        HEAD CHUNK("\"content\":\"a\"", "null"),
        sizeof(HEAD CHUNK("\"content\":\"a\"", "null")) - 1,
        0,
        SL_FAKE_HANG,
        0,
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
    static const struct sl_fake_http_answer answer = { "", 0, 0, SL_FAKE_HANG, 0, NULL };
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
    static const struct sl_fake_http_answer answer = { "", 0, 0, SL_FAKE_HANG, 0, NULL };
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
        CASE(silence_trips_the_timers),
        CASE(a_connection_that_does_not_come_is_unreachable),
        CASE(pings_without_content_are_no_progress),
        CASE(the_runs_time_is_the_last_word),
        CASE(endless_answers_end_at_the_limits),
        CASE(a_request_over_its_limit_is_not_sent),
        CASE(an_error_body_is_cut_at_its_limit),
        CASE(a_large_event_is_parsed_elsewhere_and_in_order),
        CASE(a_large_event_that_is_too_deep_is_refused),
        CASE(a_turn_may_go_while_its_document_is_parsed),
        CASE(a_full_reader_holds_the_provider_back),
        CASE(a_full_reader_stops_the_first_byte_timer),
        CASE(a_cancel_closes_the_socket),
        CASE(a_turn_may_be_freed_before_anything_happened),
        CASE(a_connection_is_used_again_after_a_whole_answer),
        CASE(who_comes_too_late_waits_at_the_gate),
#undef CASE
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
