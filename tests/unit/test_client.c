/* The client against a server that only the test has in hand, frame by frame. Whole calls against
 * our own server: test_client_server.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/tests/unit/rpc_types.pb-c.h"
#include "runtime/base/mem.h"
#include "service/rpc/client_impl.h"
#include "tests/fake/raw_peer.h"

#define BYTES(text)                                                                                \
    {                                                                                              \
        (const uint8_t *)(text), sizeof(text) - 1                                                  \
    }

/* HEADERS of stream 1 with :status 200 (88) and content-type (0F 10 10 application/grpc). */
#define OK_HEADERS                                                                                 \
    "\0\0\x14\1\4\0\0\0\1\x88\x0F\x10\x10"                                                         \
    "application/grpc"
/* Trailers: grpc-status as a literal field. */
#define TRAILERS(digit)                                                                            \
    "\0\0\x0F\1\5\0\0\0\1\x00\x0B"                                                                 \
    "grpc-status"                                                                                  \
    "\x01" digit
/* DATA of stream 1: an empty message. */
#define EMPTY_MESSAGE "\0\0\5\0\0\0\0\0\1\0\0\0\0\0"

static const struct sl_method_desc unary = {
    .path = "/test.Service/Unary",
    .name = "Unary",
    .kind = SL_UNARY,
    .request_type = &sluice__test__types__descriptor,
    .response_type = &sluice__test__types__descriptor,
};
static const struct sl_method_desc streaming = {
    .path = "/test.Service/Stream",
    .name = "Stream",
    .kind = SL_SERVER_STREAMING,
    .request_type = &sluice__test__types__descriptor,
    .response_type = &sluice__test__types__descriptor,
};

static struct raw_peer peer;
static struct sl_channel *channel;
static struct sl_limits limits;

static void start(const struct raw_script *scripts, size_t n_scripts, uint64_t keepalive_ms)
{
    raw_peer_start(&peer, scripts, n_scripts);
    sl_limits_init(&limits);
    limits.preface = 300;
    limits.keepalive_timeout = 200;
    const struct sl_channel_options options = {
        .struct_size = sizeof(options),
        .limits = &limits,
        .keepalive_ms = keepalive_ms,
    };
    assert_int_equal(sl_channel_new(peer.address, &options, &channel, NULL), SL_OK);
}

static void stop(void)
{
    channel = sl_channel_free(channel);
    raw_peer_stop(&peer);
}

/* A unary call with a deadline far away; gives its call. */
static struct sl_client_call *call_once(enum sl_status expected)
{
    Sluice__Test__Types request;
    sluice__test__types__init(&request);
    request.number = 7;
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = 20000 };
    struct sl_client_call *call;
    void *reply;
    const enum sl_status status =
        sl_client_unary(channel, &unary, &options, &request, &reply, &call);
    if (status != expected) {
        print_error("%s\n", sl_client_call_error(call)->text);
    }
    assert_int_equal(status, expected);
    return call;
}

static void check_answer(const struct raw_script *script, enum sl_status status, const char *text)
{
    start(script, 1, 0);
    struct sl_client_call *call = call_once(status);
    if (strstr(sl_client_call_error(call)->text, text) == NULL) {
        print_error("got \"%s\", wanted \"%s\"\n", sl_client_call_error(call)->text, text);
    }
    assert_non_null(strstr(sl_client_call_error(call)->text, text));
    assert_int_equal(sl_client_call_error(call)->status, status);
    (void)sl_client_call_free(call);
    stop();
}

static void a_whole_answer_is_ok(void **state)
{
    (void)state;
    const struct raw_script script = { raw_settings, BYTES(OK_HEADERS EMPTY_MESSAGE TRAILERS("0")),
                                       true };
    start(&script, 1, 0);
    struct sl_client_call *call = call_once(SL_OK);
    assert_int_equal(sl_client_call_status(call), SL_OK);
    assert_non_null(sl_client_call_headers(call));
    (void)sl_client_call_free(call);
    assert_int_equal(atomic_load(&peer.n_resets), 0);
    stop();
}

static void an_early_hint_is_skipped_st_5(void **state)
{
    (void)state;
    const struct raw_script script = { raw_settings,
                                       BYTES("\0\0\5\1\4\0\0\0\1\x08\x03"
                                             "103" OK_HEADERS EMPTY_MESSAGE TRAILERS("0")),
                                       true };
    start(&script, 1, 0);
    struct sl_client_call *call = call_once(SL_OK);
    assert_int_equal(sl_client_call_status(call), SL_OK);
    (void)sl_client_call_free(call);
    stop();
}

static void http_without_grpc_has_a_status_st_5(void **state)
{
    (void)state;
    static const struct raw_script scripts[] = {
        { BYTES("\0\0\0\4\0\0\0\0\0"), BYTES("\0\0\1\1\5\0\0\0\1\x8D"), true },
        { BYTES("\0\0\0\4\0\0\0\0\0"), BYTES("\0\0\1\1\5\0\0\0\1\x8C"), true },
        { BYTES("\0\0\0\4\0\0\0\0\0"), BYTES("\0\0\1\1\5\0\0\0\1\x8E"), true },
        { BYTES("\0\0\0\4\0\0\0\0\0"), BYTES("\0\0\1\1\4\0\0\0\1\x88"), true },
    };
    check_answer(&scripts[0], SL_UNIMPLEMENTED, "HTTP status 404");
    check_answer(&scripts[1], SL_INTERNAL, "HTTP status 400");
    check_answer(&scripts[2], SL_UNKNOWN, "HTTP status 500");
    check_answer(&scripts[3], SL_UNKNOWN, "HTTP status 200, content-type \"\"");
}

static void resets_have_a_status_st_4(void **state)
{
    (void)state;
#define RESET(code) "\0\0\4\3\0\0\0\0\1\0\0\0" code
    static const struct raw_script scripts[] = {
        { BYTES("\0\0\0\4\0\0\0\0\0"), BYTES(RESET("\x08")), true },
        { BYTES("\0\0\0\4\0\0\0\0\0"), BYTES(RESET("\x0B")), true },
        { BYTES("\0\0\0\4\0\0\0\0\0"), BYTES(RESET("\x02")), true },
    };
    check_answer(&scripts[0], SL_CANCELLED, "CANCEL (8)");
    check_answer(&scripts[1], SL_RESOURCE_EXHAUSTED, "ENHANCE_YOUR_CALM (11)");
    check_answer(&scripts[2], SL_INTERNAL, "INTERNAL_ERROR (2)");
}

static void a_missing_end_is_told(void **state)
{
    (void)state;
    static const struct raw_script scripts[] = {
        { BYTES("\0\0\0\4\0\0\0\0\0"), BYTES(OK_HEADERS EMPTY_MESSAGE "\0\0\0\0\1\0\0\0\1"), true },
        { BYTES("\0\0\0\4\0\0\0\0\0"),
          BYTES(OK_HEADERS "\0\0\5\0\0\0\0\0\1\0\0\0\0\5" TRAILERS("0")), true },
        { BYTES("\0\0\0\4\0\0\0\0\0"),
          BYTES(OK_HEADERS "\0\0\5\0\0\0\0\0\1\0\0\0\0\5" TRAILERS("9")), true },
    };
    check_answer(&scripts[0], SL_UNKNOWN, "without trailers");
    check_answer(&scripts[1], SL_INTERNAL, "inside a message");
    check_answer(&scripts[2], SL_FAILED_PRECONDITION, "");
}

/* compression.md: what a server compresses with an encoding that nobody offered is its fault. */
static void an_answer_in_an_unknown_encoding_is_internal(void **state)
{
    (void)state;
    static const struct raw_script script = { BYTES("\0\0\0\4\0\0\0\0\0"),
                                              BYTES("\0\0\x27\1\4\0\0\0\1\x88\x0F\x10\x10"
                                                    "application/grpc"
                                                    "\x00\x0D"
                                                    "grpc-encoding"
                                                    "\x03"
                                                    "foo"
                                                    "\0\0\6\0\0\0\0\0\1\1\0\0\0\1"
                                                    "a" TRAILERS("0")),
                                              true };
    check_answer(&script, SL_INTERNAL, "\"foo\" is not supported");
}

static void a_unary_answer_is_exactly_one_message(void **state)
{
    (void)state;
    static const struct raw_script scripts[] = {
        { BYTES("\0\0\0\4\0\0\0\0\0"), BYTES(OK_HEADERS TRAILERS("0")), true },
        { BYTES("\0\0\0\4\0\0\0\0\0"), BYTES(OK_HEADERS EMPTY_MESSAGE EMPTY_MESSAGE TRAILERS("0")),
          true },
    };
    check_answer(&scripts[0], SL_UNIMPLEMENTED, "without a message");
    check_answer(&scripts[1], SL_UNIMPLEMENTED, "more than one message");
}

static void a_lost_connection_names_address_and_cause(void **state)
{
    (void)state;
    static const struct raw_script script = { BYTES("\0\0\0\4\0\0\0\0\0"), BYTES(OK_HEADERS),
                                              false };
    check_answer(&script, SL_UNAVAILABLE, "127.0.0.1:");
}

static void what_is_no_http_2_server_is_told(void **state)
{
    (void)state;
    static const struct raw_script scripts[] = {
        { BYTES("HTTP/1.1 400 Bad Request\r\n\r\n"), { 0 }, true },
        { { 0 }, { 0 }, true }, /* says nothing at all */
    };
    check_answer(&scripts[0], SL_UNAVAILABLE, "127.0.0.1:");
    check_answer(&scripts[1], SL_UNAVAILABLE, "no HTTP/2 SETTINGS");
}

static void nobody_listens_and_the_next_call_fails_at_once(void **state)
{
    (void)state;
    const struct raw_script script = { 0 };
    raw_peer_start(&peer, &script, 1);
    raw_peer_stop(&peer); /* the port is free again */
    assert_int_equal(sl_channel_new(peer.address, NULL, &channel, NULL), SL_OK);
    for (int i = 0; i < 2; i++) {
        struct sl_client_call *call = call_once(SL_UNAVAILABLE);
        assert_non_null(strstr(sl_client_call_error(call)->text, peer.address));
        assert_non_null(strstr(sl_client_call_error(call)->text, "refused"));
        assert_int_equal(sl_client_call_error(call)->origin, SL_ORIGIN_TRANSPORT);
        (void)sl_client_call_free(call);
    }
    channel = sl_channel_free(channel);
}

static void no_connection_is_tried_during_the_backoff(void **state)
{
    (void)state;
    const struct raw_script script = { BYTES("HTTP/1.1 400 Bad Request\r\n\r\n"), { 0 }, true };
    start(&script, 1, 0);
    for (int i = 0; i < 3; i++) {
        (void)sl_client_call_free(call_once(SL_UNAVAILABLE));
    }
    stop();
    assert_int_equal(atomic_load(&peer.n_connections), 1);
}

static size_t n_allowed;
static bool refuse_after(size_t size)
{
    (void)size;
    return n_allowed > 0 && n_allowed-- > 0;
}

static enum sl_status call_with_little_memory(size_t n_allocations)
{
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = 1000,
                                                    .encoding = "gzip" };
    Sluice__Test__Types request;
    sluice__test__types__init(&request);
    request.number = 7;
    const struct sl_method_config all = { .struct_size = sizeof(all),
                                          .name = "/test.Service/",
                                          .timeout_ms = 1000 };
    const struct sl_service_config config = { .struct_size = sizeof(config),
                                              .methods = &all,
                                              .n_methods = 1 };
    const struct sl_client_interceptor nothing = { .struct_size = sizeof(nothing) };
    const struct sl_channel_options channel_options = { .struct_size = sizeof(channel_options),
                                                        .service_config = &config,
                                                        .interceptors = &nothing,
                                                        .n_interceptors = 1 };
    struct sl_client_call *call = NULL;
    void *reply;
    channel = NULL;
    n_allowed = n_allocations;
    sl_mem_set_gate(refuse_after);
    enum sl_status status = sl_channel_new(peer.address, &channel_options, &channel, NULL);
    if (status == SL_OK) {
        status = sl_client_unary(channel, &unary, &options, &request, &reply, &call);
    }
    (void)sl_client_call_free(call);
    channel = sl_channel_free(channel);
    sl_mem_set_gate(NULL);
    return status;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    const struct raw_script script = { raw_settings, BYTES(OK_HEADERS EMPTY_MESSAGE TRAILERS("0")),
                                       true };
    raw_peer_start(&peer, &script, 1);
    size_t k = 0;
    for (enum sl_status status = SL_INTERNAL; status != SL_OK; k++) {
        status = call_with_little_memory(k);
        const bool is_explained = status == SL_OK || status == SL_RESOURCE_EXHAUSTED ||
                                  status == SL_UNAVAILABLE || status == SL_INTERNAL;
        if (!is_explained) {
            print_error("allocation %zu: %s\n", k, sl_status_name(status));
        }
        assert_true(is_explained);
        assert_true(k < 1000);
    }
    assert_true(k > 20);
    raw_peer_stop(&peer);
}

static void the_deadline_holds_without_the_server_dl_3(void **state)
{
    (void)state;
    const struct raw_script script = { raw_settings, { 0 }, true };
    start(&script, 1, 0);
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = 50 };
    Sluice__Test__Types request;
    sluice__test__types__init(&request);
    struct sl_client_call *call;
    void *reply;
    assert_int_equal(
        sl_client_unary(channel, &unary, &options, &request, &reply, &call), SL_DEADLINE_EXCEEDED);
    assert_int_equal(sl_client_call_error(call)->origin, SL_ORIGIN_LOCAL);
    (void)sl_client_call_free(call);
    stop();
    assert_int_equal(atomic_load(&peer.n_resets), 1);
}

static void the_deadline_holds_while_connecting_takes_long(void **state)
{
    (void)state;
    const struct raw_script script = { { 0 }, { 0 }, true };
    start(&script, 1, 0);
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = 30,
                                                    .wait_for_ready = true };
    struct sl_client_call *call;
    assert_int_equal(sl_client_call_open(channel, &streaming, &options, &call), SL_OK);
    void *message;
    assert_int_equal(sl_client_call_recv(call, &message), SL_DEADLINE_EXCEEDED);
    (void)sl_client_call_free(call);
    stop();
}

static void cancel_resets_the_stream_and_any_number_is_harmless(void **state)
{
    (void)state;
    const struct raw_script script = { raw_settings, BYTES(OK_HEADERS EMPTY_MESSAGE), true };
    start(&script, 1, 0);
    struct sl_client_call *call;
    assert_int_equal(sl_client_call_open(channel, &streaming, NULL, &call), SL_OK);
    assert_int_equal(sl_client_call_send_bytes(call, sl_slice_str("")), SL_OK);
    sl_client_call_close_send(call);
    void *message;
    assert_int_equal(sl_client_call_recv(call, &message), SL_OK);
    assert_int_equal(sl_client_call_status(call), SL_PENDING);
    sl_client_call_cancel(call);
    sl_client_call_cancel(call);
    assert_int_equal(sl_client_call_recv(call, &message), SL_CANCELLED);
    assert_int_equal(sl_client_call_send_bytes(call, sl_slice_str("")), SL_CANCELLED);
    (void)sl_client_call_free(call);
    stop();
    assert_int_equal(atomic_load(&peer.n_resets), 1);
}

/* A user who cancels before he has asked for the end sees that, whatever has arrived. */
static void cancel_counts_until_the_end_was_asked_for(void **state)
{
    (void)state;
    const struct raw_script script = { raw_settings,
                                       BYTES(OK_HEADERS EMPTY_MESSAGE EMPTY_MESSAGE TRAILERS("0")),
                                       true };
    for (int n_read = 1; n_read <= 3; n_read++) {
        start(&script, 1, 0);
        struct sl_client_call *call;
        assert_int_equal(sl_client_call_open(channel, &streaming, NULL, &call), SL_OK);
        sl_client_call_close_send(call);
        while (sl_client_call_status(call) == SL_PENDING) {
            sl_channel_step(channel, true);
        }
        void *message;
        for (int i = 0; i < n_read; i++) {
            assert_int_equal(sl_client_call_recv(call, &message), i < 2 ? SL_OK : SL_END);
        }
        sl_client_call_cancel(call);
        const enum sl_status expected = n_read < 3 ? SL_CANCELLED : SL_END;
        assert_int_equal(sl_client_call_recv(call, &message), expected);
        assert_int_equal(sl_client_call_status(call), n_read < 3 ? SL_CANCELLED : SL_OK);
        (void)sl_client_call_free(call);
        stop();
    }
}

static void what_was_refused_is_sent_again_once_rt_4(void **state)
{
    (void)state;
    static const struct raw_script scripts[] = {
        /* GOAWAY with last stream 0, then everything else on a new connection. */
        { BYTES("\0\0\0\4\0\0\0\0\0"), BYTES("\0\0\x08\7\0\0\0\0\0\0\0\0\0\0\0\0\0"), true },
        { BYTES("\0\0\0\4\0\0\0\0\0"), BYTES(OK_HEADERS EMPTY_MESSAGE TRAILERS("0")), true },
    };
    start(scripts, 2, 0);
    (void)sl_client_call_free(call_once(SL_OK));
    assert_int_equal(atomic_load(&peer.n_connections), 2);
    stop();
    start(scripts, 1, 0); /* the second connection says the same */
    (void)sl_client_call_free(call_once(SL_UNAVAILABLE));
    assert_int_equal(atomic_load(&peer.n_connections), 2);
    stop();
}

static void a_silent_server_is_given_up_after_a_ping(void **state)
{
    (void)state;
    const struct raw_script script = { raw_settings, BYTES(OK_HEADERS), true };
    start(&script, 1, 100);
    struct sl_client_call *call = call_once(SL_UNAVAILABLE);
    assert_non_null(strstr(sl_client_call_error(call)->text, "keepalive"));
    assert_int_equal(atomic_load(&peer.n_pings), 1);
    (void)sl_client_call_free(call);
    stop();
}

static void calls_outlive_their_channel(void **state)
{
    (void)state;
    const struct raw_script script = { raw_settings, BYTES(OK_HEADERS EMPTY_MESSAGE), true };
    start(&script, 1, 0);
    struct sl_client_call *calls[2];
    assert_int_equal(sl_client_call_open(channel, &streaming, NULL, &calls[0]), SL_OK);
    sl_client_call_close_send(calls[0]);
    void *message;
    assert_int_equal(sl_client_call_recv(calls[0], &message), SL_OK);
    assert_int_equal(sl_client_call_open(channel, &streaming, NULL, &calls[1]), SL_OK);
    stop();
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sl_client_call_status(calls[i]), SL_CANCELLED);
        assert_int_equal(sl_client_call_recv(calls[i], &message), SL_CANCELLED);
        assert_int_equal(sl_client_call_send_bytes(calls[i], sl_slice_str("x")), SL_CANCELLED);
        sl_client_call_close_send(calls[i]);
        sl_client_call_cancel(calls[i]);
        (void)sl_client_call_free(calls[i]);
    }
}

static void wrong_arguments_are_refused(void **state)
{
    (void)state;
    struct sl_error err;
    static const char *const bad[] = { "", "nothing", "127.0.0.1:99999", ":1:", "unix:" };
    for (size_t i = 0; i < SL_COUNT(bad); i++) {
        assert_int_equal(sl_channel_new(bad[i], NULL, &channel, &err), SL_INVALID_ARGUMENT);
    }
    const struct sl_channel_options no_size = { 0 };
    assert_int_equal(sl_channel_new("127.0.0.1:1", &no_size, &channel, &err), SL_INVALID_ARGUMENT);
    assert_int_equal(sl_channel_new("127.0.0.1:1", NULL, &channel, &err), SL_OK);
    const struct sl_metadatum reserved = { sl_slice_str("grpc-status"), sl_slice_str("0") };
    const struct sl_client_call_options cases[] = {
        { 0 },
        { .struct_size = sizeof(cases[0]), .encoding = "brotli" },
        { .struct_size = sizeof(cases[0]), .metadata = &reserved, .n_metadata = 1 },
    };
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        struct sl_client_call *call;
        assert_int_equal(
            sl_client_call_open(channel, &unary, &cases[i], &call), SL_INVALID_ARGUMENT);
    }
    channel = sl_channel_free(channel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_answer_is_ok),
        cmocka_unit_test(an_early_hint_is_skipped_st_5),
        cmocka_unit_test(http_without_grpc_has_a_status_st_5),
        cmocka_unit_test(resets_have_a_status_st_4),
        cmocka_unit_test(a_missing_end_is_told),
        cmocka_unit_test(an_answer_in_an_unknown_encoding_is_internal),
        cmocka_unit_test(a_unary_answer_is_exactly_one_message),
        cmocka_unit_test(a_lost_connection_names_address_and_cause),
        cmocka_unit_test(what_is_no_http_2_server_is_told),
        cmocka_unit_test(nobody_listens_and_the_next_call_fails_at_once),
        cmocka_unit_test(no_connection_is_tried_during_the_backoff),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(the_deadline_holds_without_the_server_dl_3),
        cmocka_unit_test(the_deadline_holds_while_connecting_takes_long),
        cmocka_unit_test(cancel_resets_the_stream_and_any_number_is_harmless),
        cmocka_unit_test(cancel_counts_until_the_end_was_asked_for),
        cmocka_unit_test(what_was_refused_is_sent_again_once_rt_4),
        cmocka_unit_test(a_silent_server_is_given_up_after_a_ping),
        cmocka_unit_test(calls_outlive_their_channel),
        cmocka_unit_test(wrong_arguments_are_refused),
    };
    return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}
