/* Calls as handlers and clients see them, over two HTTP/2 endpoints in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/metrics.h"
#include "service/rpc/call.h"
#include "service/rpc/headers.h"
#include "service/rpc/status.h"
#include "tests/unit/test_rpc_rig.h"

#define TEXT(text) sl_slice_str(text)

/* What a test's handlers share. */
struct bench {
    struct sl_server *server;
    struct rpc_peer peer;
    struct sl_limits limits;
    struct sl_call *call; /* of the handler that is pending */
    size_t n_started, n_readable, n_writable, n_ended, n_finished_source;
    struct sl_call_end end;
    size_t fail_at;
    bool fails_on;
    char seen[4096]; /* what handlers received */
};

static void see(struct bench *bench, struct sl_slice text)
{
    const size_t at = strlen(bench->seen);
    (void)snprintf(bench->seen + at, sizeof(bench->seen) - at, "[%.*s]", SL_SLICE_FMT(text));
}

/* ---- Handlers -------------------------------------------------------------------------------- */

static enum sl_status echo(struct sl_call *call, struct sl_slice request, void *user_data)
{
    struct bench *bench = user_data;
    bench->n_started++;
    see(bench, request);
    return sl_call_reply_bytes(call, request);
}

static enum sl_status fail_richly(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)user_data;
    char text[64];
    (void)snprintf(text, sizeof(text), "no \"%.*s\" \xC3\xA4 %%", SL_SLICE_FMT(request));
    const struct sl_call_status status = {
        .code = SL_NOT_FOUND, .message = text, .reason = "AGENT_NOT_FOUND", .retry_delay_ms = 1500
    };
    return sl_call_fail(call, &status);
}

/* With a text that is longer than grpc-message may be. */
static enum sl_status fail_at_length(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)request;
    (void)user_data;
    static char text[6000];
    memset(text, '%', sizeof(text) - 1);
    return sl_call_fail(
        call,
        &(struct sl_call_status){ .code = SL_ABORTED, .message = text, .reason = "TOO_LONG" });
}

static enum sl_status answer(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)call;
    (void)user_data;
    return (enum sl_status)(int)(request.size == 0 ? 0 : request.data[0] - 'a');
}

/* Sends each letter of the request as a message. */
static enum sl_status spell(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)user_data;
    for (size_t i = 0; i < request.size; i++) {
        if (sl_call_send_bytes(call, sl_slice_of(request.data + i, 1)) != SL_OK) {
            return SL_INTERNAL;
        }
    }
    return SL_OK;
}

static enum sl_status with_metadata(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)request;
    (void)user_data;
    struct sl_slice value;
    for (size_t i = 0; sl_metadata_get(sl_call_metadata(call), "x-in", i, &value); i++) {
        if (sl_call_add_header(call, TEXT("x-out"), value) != SL_OK ||
            sl_call_add_trailer(call, TEXT("x-bytes-bin"), value) != SL_OK) {
            return SL_INTERNAL;
        }
    }
    return sl_call_add_header(call, TEXT("grpc-x"), TEXT("1")) == SL_INVALID_ARGUMENT ? SL_OK
                                                                                      : SL_INTERNAL;
}

static void on_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    struct bench *bench = user_data;
    assert_ptr_equal(call, bench->call);
    bench->n_ended++;
    bench->end = *end;
}

static void on_readable(struct sl_call *call, void *user_data)
{
    (void)call;
    struct bench *bench = user_data;
    bench->n_readable++;
}

static void on_writable(struct sl_call *call, void *user_data)
{
    (void)call;
    struct bench *bench = user_data;
    bench->n_writable++;
}

/* Leaves everything to the test. */
static enum sl_status hang(struct sl_call *call, struct sl_slice request, void *user_data)
{
    static const struct sl_call_callbacks callbacks = { .on_readable = on_readable,
                                                        .on_writable = on_writable,
                                                        .on_ended = on_ended };
    struct bench *bench = user_data;
    bench->n_started++;
    bench->call = call;
    see(bench, request);
    sl_call_set_callbacks(call, &callbacks, bench);
    return SL_PENDING;
}

/* Ends the call itself; what comes behind that must change nothing. */
static enum sl_status finish_inside(struct sl_call *call, struct sl_slice request, void *user_data)
{
    struct bench *bench = user_data;
    char *text = sl_arena_dup(sl_call_arena(call), request);
    sl_call_finishf(call, SL_ABORTED, "said %s", text);
    sl_call_finishf(call, SL_INTERNAL, "twice");
    see(bench, TEXT(text));
    return request.size == 0 ? SL_PENDING : SL_NOT_FOUND;
}

/* Sends back what it receives, one message for each event. */
static void echo_readable(struct sl_call *call, void *user_data)
{
    struct bench *bench = user_data;
    struct sl_slice message;
    bench->n_readable++;
    const enum sl_status status = sl_call_recv_bytes(call, &message);
    if (status == SL_OK) {
        see(bench, message);
        const enum sl_status sent = sl_call_send_bytes(call, message);
        if (sent != SL_OK) {
            sl_call_finish(call, &(struct sl_call_status){ .code = sent });
        }
    } else if (status == SL_END) {
        sl_call_finish(call, &(struct sl_call_status){ .code = SL_OK });
    } else if (status != SL_AGAIN) {
        sl_call_finish(call, &(struct sl_call_status){ .code = status });
    }
}

static void chat_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    (void)end;
    (void)user_data;
    sl_call_finish(call, &(struct sl_call_status){ .code = SL_CANCELLED });
}

static enum sl_status chat(struct sl_call *call, struct sl_slice request, void *user_data)
{
    static const struct sl_call_callbacks callbacks = { .on_readable = echo_readable,
                                                        .on_ended = chat_ended };
    (void)request;
    struct bench *bench = user_data;
    bench->n_started++;
    sl_call_set_callbacks(call, &callbacks, bench);
    const enum sl_status status = sl_call_send_headers(call);
    return status == SL_OK ? SL_PENDING : status;
}

/* ---- Setting up ------------------------------------------------------------------------------ */

static void open_server(struct bench *bench)
{
    bench->server = new_server(&bench->limits);
    add_raw(bench->server, "/t.S/Echo", SL_UNARY, echo, bench);
    add_raw(bench->server, "/t.S/Fail", SL_UNARY, fail_richly, bench);
    add_raw(bench->server, "/t.S/FailAtLength", SL_UNARY, fail_at_length, bench);
    add_raw(bench->server, "/t.S/Answer", SL_SERVER_STREAMING, answer, bench);
    add_raw(bench->server, "/t.S/Spell", SL_SERVER_STREAMING, spell, bench);
    add_raw(bench->server, "/t.S/Metadata", SL_SERVER_STREAMING, with_metadata, bench);
    add_raw(bench->server, "/t.S/Hang", SL_SERVER_STREAMING, hang, bench);
    add_raw(bench->server, "/t.S/HangUnary", SL_UNARY, hang, bench);
    add_raw(bench->server, "/t.S/HangChat", SL_BIDIRECTIONAL, hang, bench);
    add_raw(bench->server, "/t.S/Inside", SL_UNARY, finish_inside, bench);
    add_raw(bench->server, "/t.S/Chat", SL_BIDIRECTIONAL, chat, bench);
    rpc_peer_open(&bench->peer, bench->server, NULL);
    (void)rpc_log(&bench->peer);
}

static int set_up(void **state)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    assert_non_null(bench);
    sl_limits_init(&bench->limits);
    *state = bench;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;
    rpc_peer_close(&bench->peer);
    bench->server = sl_server_free(bench->server);
    free(bench);
    return 0;
}

static void assert_no_message(struct rpc_stream *stream)
{
    struct sl_slice message;
    assert_false(rpc_next(stream, &message));
}

/* Nothing that runs, no slot, and the whole window. */
static void assert_idle(struct bench *bench)
{
    const struct sl_server_stats stats = stats_of(bench->server);
    assert_int_equal(stats.calls_running, 0);
    assert_int_equal(stats.streams, 0);
    assert_int_equal(stats.calls_started, stats.calls_finished);
    assert_true(sl_h2_session_send_window(bench->peer.client->session) > 500000);
}

/* ---- Unary ----------------------------------------------------------------------------------- */

static void unary_call_gets_its_reply(void **state)
{
    struct bench *bench = *state;
    open_server(bench);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Echo", NULL, "hello");
    assert_message(stream, "hello");
    assert_string_equal(bench->seen, "[hello]");
    assert_log(&bench->peer, "1 response :status=200 content-type=application/grpc\n");
    assert_true(stream->is_closed);
    rpc_stream_free(stream);
    stream = rpc_unary(&bench->peer, "/t.S/Echo", NULL, "");
    assert_message(stream, ""); /* FR-5 */
    assert_log(&bench->peer, "3 trailers grpc-status=0 end\n");
    rpc_stream_free(stream);
    assert_idle(bench);
    const struct sl_server_stats stats = stats_of(bench->server);
    assert_int_equal(stats.calls_by_status[0], 2);
    assert_int_equal(stats.messages_in, 2);
    assert_int_equal(stats.messages_out, 2);
}

static void every_split_of_the_bytes_gives_the_same(void **state)
{
    struct bench *bench = *state;
    open_server(bench);
    bench->peer.step = 1;
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Spell", NULL, "abc");
    assert_message(stream, "a");
    assert_message(stream, "b");
    assert_message(stream, "c");
    assert_no_message(stream);
    assert_log(&bench->peer, "1 trailers grpc-status=0 end\n");
    rpc_stream_free(stream);
    assert_idle(bench);
}

static void error_is_trailers_only_with_details(void **state) /* RS-2, RS-5, RS-6 */
{
    struct bench *bench = *state;
    open_server(bench);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Fail", NULL, "x");
    const char *log = rpc_log(&bench->peer);
    assert_non_null(strstr(
        log, "1 response :status=200 content-type=application/grpc grpc-status=5 "
             "grpc-message=no \"x\" %C3%A4 %25 grpc-retry-pushback-ms=1500 "
             "grpc-status-details-bin="));
    assert_non_null(strstr(log, " end\n1 end\n"));
    assert_null(strstr(log, "1 data"));
    rpc_stream_free(stream);
    assert_idle(bench);
}

static void details_go_when_the_peer_takes_small_headers_only(void **state) /* RS-9 */
{
    struct bench *bench = *state;
    open_server(bench);
    static const size_t limits[] = { 1000, 300, 100 };
    static const char *const expected[] = { "grpc-status-details-bin=", "", "1 closed reset 2" };
    for (size_t i = 0; i < 3; i++) {
        struct h2_side *client = h2_side_new();
        client->limits.header_list_soft = limits[i];
        rpc_peer_close(&bench->peer);
        rpc_peer_open_with(&bench->peer, bench->server, NULL, client);
        rpc_pump(&bench->peer);
        struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Fail", NULL, "x");
        const char *log = rpc_log(&bench->peer);
        if (i == 1) {
            assert_non_null(strstr(log, "grpc-status=5 grpc-message=no \"x\""));
            assert_null(strstr(log, "details"));
        } else {
            assert_non_null(strstr(log, expected[i]));
        }
        rpc_stream_free(stream);
    }
}

/* The text behind `name` in a line of the log. */
static struct sl_slice logged(const char *log, const char *name)
{
    const char *text = strstr(log, name);
    assert_non_null(text);
    text += strlen(name);
    return sl_slice_of(text, strcspn(text, " \n"));
}

static void details_say_what_the_message_says(void **state) /* RS-5 */
{
    struct bench *bench = *state;
    open_server(bench);
    rpc_peer_close(&bench->peer);
    struct h2_side *client = h2_side_new();
    client->limits.header_list_soft = client->limits.header_list_hard = 60000;
    rpc_peer_open_with(&bench->peer, bench->server, NULL, client);
    rpc_pump(&bench->peer);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/FailAtLength", NULL, "");
    const char *log = rpc_log(&bench->peer);
    struct sl_arena arena;
    sl_arena_init(&arena, 1 << 20);
    struct sl_slice message;
    struct sl_slice bytes;
    struct sl_rpc_details details;
    assert_int_equal(sl_rpc_message_decode(logged(log, "grpc-message="), &arena, &message), SL_OK);
    assert_in_range(message.size, 1000, 5000); /* it was cut */
    assert_int_equal(sl_headers_decode_bin(logged(log, "details-bin="), &arena, &bytes), SL_OK);
    assert_int_equal(sl_rpc_details_decode(bytes, &arena, &details), SL_OK);
    assert_int_equal(details.code, SL_ABORTED);
    assert_true(sl_slice_equal(details.message, message));
    assert_true(sl_slice_equals(details.reason, "TOO_LONG"));
    sl_arena_done(&arena);
    rpc_stream_free(stream);
}

static void a_long_message_is_shortened_for_small_headers(void **state) /* RS-9 */
{
    struct bench *bench = *state;
    open_server(bench);
    static const size_t limits[] = { 9000, 1000, 160 };
    static const size_t most[] = { 8192, 256, 0 };
    for (size_t i = 0; i < 3; i++) {
        struct h2_side *client = h2_side_new();
        client->limits.header_list_soft = limits[i];
        rpc_peer_close(&bench->peer);
        rpc_peer_open_with(&bench->peer, bench->server, NULL, client);
        rpc_pump(&bench->peer);
        struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/FailAtLength", NULL, "");
        const char *log = rpc_log(&bench->peer);
        assert_true(sl_slice_equals(logged(log, "grpc-status="), "10"));
        assert_null(strstr(log, "details-bin="));
        if (most[i] > 0) {
            assert_in_range(logged(log, "grpc-message=").size, most[i] - 3, most[i]);
        } else {
            assert_null(strstr(log, "grpc-message="));
        }
        rpc_stream_free(stream);
    }
}

static void status_outside_the_list_is_unknown(void **state) /* ST-3 */
{
    struct bench *bench = *state;
    open_server(bench);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Answer", NULL, "r"); /* 17 */
    assert_log(&bench->peer, "grpc-status=2");
    rpc_stream_free(stream);
    stream = rpc_unary(&bench->peer, "/t.S/Answer", NULL, "a");
    assert_log(
        &bench->peer, "3 response :status=200 content-type=application/grpc grpc-status=0 end\n");
    rpc_stream_free(stream);
}

static void metadata_comes_and_goes_in_order(void **state)
{
    struct bench *bench = *state;
    open_server(bench);
    const char *const extra[] = { "x-in", "one", "x-in", " two ", NULL };
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Metadata", extra, "");
    const char *log = rpc_log(&bench->peer);
    assert_non_null(strstr(log, "x-out=one x-out=two\n"));
    assert_non_null(strstr(log, "trailers grpc-status=0 x-bytes-bin=b25l x-bytes-bin=dHdv end\n"));
    rpc_stream_free(stream);
}

static void content_type_is_repeated(void **state)
{
    struct bench *bench = *state;
    open_server(bench);
    const char *const extra[] = { "content-type", "application/grpc+PROTO;a=b", NULL };
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Echo", extra, "x");
    assert_log(&bench->peer, "content-type=application/grpc+PROTO;a=b\n");
    rpc_stream_free(stream);
}

/* ---- Wrong requests -------------------------------------------------------------------------- */

static void unary_method_needs_exactly_one_message(void **state) /* FR-7 */
{
    struct bench *bench = *state;
    open_server(bench);
    struct rpc_stream *none = rpc_open(&bench->peer, "/t.S/Echo", NULL);
    rpc_end(none);
    rpc_pump(&bench->peer);
    assert_log(&bench->peer, "grpc-status=12");
    struct rpc_stream *two = rpc_open(&bench->peer, "/t.S/Echo", NULL);
    rpc_send(two, "a", 1);
    rpc_send(two, "b", 1); /* refused before the end */
    rpc_pump(&bench->peer);
    assert_log(&bench->peer, "grpc-status=12");
    assert_true(two->is_closed);
    assert_int_equal(bench->n_started, 0); /* FR-8 */
    rpc_stream_free(none);
    rpc_stream_free(two);
    assert_idle(bench);
}

static void request_that_ends_inside_a_message_is_internal(void **state) /* FR-6 */
{
    struct bench *bench = *state;
    open_server(bench);
    static const char *const starts[] = { "\0", "\0\0\0\0\5abc", "\0\0\0\0\1a\0\0" };
    static const size_t sizes[] = { 1, 8, 8 };
    for (size_t i = 0; i < 3; i++) {
        struct rpc_stream *stream = rpc_open(&bench->peer, "/t.S/Echo", NULL);
        rpc_send_raw(stream, starts[i], sizes[i]);
        rpc_end(stream);
        rpc_pump(&bench->peer);
        assert_log(&bench->peer, "grpc-status=13");
        rpc_stream_free(stream);
    }
    assert_int_equal(bench->n_started, 0);
}

static void too_large_a_request_is_refused_from_its_prefix(void **state) /* FR-3 */
{
    struct bench *bench = *state;
    bench->limits.message_recv = 1024;
    open_server(bench);
    struct rpc_stream *stream = rpc_open(&bench->peer, "/t.S/Echo", NULL);
    rpc_send_raw(stream, "\0\0\0\4\1", 5); /* 1025 */
    rpc_pump(&bench->peer);
    assert_log(&bench->peer, "grpc-status=8");
    assert_true(stream->is_closed);
    rpc_stream_free(stream);
    char fits[1024];
    memset(fits, 'x', sizeof(fits));
    stream = rpc_open(&bench->peer, "/t.S/Echo", NULL);
    rpc_send(stream, fits, sizeof(fits));
    rpc_end(stream);
    rpc_pump(&bench->peer);
    assert_log(&bench->peer, "grpc-status=0"); /* inclusive */
    rpc_stream_free(stream);
    assert_idle(bench);
}

static void early_refusal_gives_the_window_back(void **state) /* FC-1, RS-7 */
{
    struct bench *bench = *state;
    open_server(bench);
    static uint8_t block[200000];
    for (size_t i = 0; i < 50; i++) {
        struct rpc_stream *stream = rpc_open(&bench->peer, "/t.S/Echo", NULL);
        rpc_send(stream, "", 0);
        rpc_send(stream, block, sizeof(block)); /* a second message: refused */
        rpc_pump(&bench->peer);
        assert_true(stream->is_closed);
        rpc_stream_free(stream);
    }
    rpc_pump(&bench->peer);
    assert_idle(bench);
}

static void compressed_message_without_encoding_is_internal(void **state) /* FR-2 */
{
    struct bench *bench = *state;
    open_server(bench);
    struct rpc_stream *stream = rpc_open(&bench->peer, "/t.S/Echo", NULL);
    rpc_send_raw(stream, "\1\0\0\0\1a", 6);
    rpc_end(stream);
    rpc_pump(&bench->peer);
    assert_log(&bench->peer, "grpc-status=13");
    rpc_stream_free(stream);
    const char *const extra[] = { "grpc-encoding", "identity", NULL };
    stream = rpc_open(&bench->peer, "/t.S/Echo", extra);
    rpc_send_raw(stream, "\1\0\0\0\1a", 6);
    rpc_pump(&bench->peer);
    assert_log(&bench->peer, "grpc-status=13");
    rpc_stream_free(stream);
}

/* ---- Streams --------------------------------------------------------------------------------- */

static void bidirectional_call_answers_as_messages_come(void **state)
{
    struct bench *bench = *state;
    open_server(bench);
    struct rpc_stream *stream = rpc_open(&bench->peer, "/t.S/Chat", NULL);
    rpc_pump(&bench->peer);
    assert_log(&bench->peer, "1 response :status=200"); /* RS-3 */
    rpc_send(stream, "one", 3);
    rpc_pump(&bench->peer);
    assert_message(stream, "one");
    rpc_send(stream, "two", 3);
    rpc_send(stream, "three", 5);
    rpc_send(stream, "", 0);
    rpc_pump(&bench->peer);
    assert_message(stream, "two");
    assert_message(stream, "three");
    assert_message(stream, "");
    rpc_end(stream);
    rpc_pump(&bench->peer);
    assert_log(&bench->peer, "1 trailers grpc-status=0 end\n");
    rpc_stream_free(stream);
    assert_idle(bench);
}

static void large_messages_pass_a_small_window(void **state) /* FC-1 */
{
    struct bench *bench = *state;
    bench->limits.stream_window = 65535;
    open_server(bench);
    static uint8_t block[300000];
    memset(block, 'z', sizeof(block));
    struct rpc_stream *stream = rpc_open(&bench->peer, "/t.S/Chat", NULL);
    rpc_send(stream, block, sizeof(block));
    rpc_send(stream, block, sizeof(block));
    rpc_end(stream);
    rpc_pump(&bench->peer);
    struct sl_slice message;
    assert_true(rpc_next(stream, &message));
    assert_int_equal(message.size, sizeof(block));
    assert_true(rpc_next(stream, &message));
    assert_log(&bench->peer, "grpc-status=0");
    rpc_stream_free(stream);
    assert_idle(bench);
}

static void fault_in_a_stream_reaches_the_handler_with_its_text(void **state)
{
    struct bench *bench = *state;
    open_server(bench);
    struct rpc_stream *stream = rpc_open(&bench->peer, "/t.S/Chat", NULL);
    rpc_send(stream, "one", 3);
    rpc_send_raw(stream, "\7\0\0\0\1a", 6);
    rpc_pump(&bench->peer);
    assert_message(stream, "one");
    assert_log(&bench->peer, "grpc-status=13 grpc-message=message has the unknown flag 7");
    rpc_stream_free(stream);
    assert_idle(bench);
}

static void stream_that_is_not_read_closes_its_window(void **state)
{
    struct bench *bench = *state;
    bench->limits.stream_window = 65535;
    open_server(bench);
    static uint8_t block[40000];
    struct rpc_stream *stream = rpc_open(&bench->peer, "/t.S/HangChat", NULL);
    for (size_t i = 0; i < 10; i++) {
        rpc_send(stream, block, sizeof(block));
    }
    rpc_pump(&bench->peer);
    assert_true(stream->body.sent < 3 * sizeof(block));
    struct sl_slice message;
    size_t n = 0;
    while (sl_call_recv_bytes(bench->call, &message) == SL_OK) {
        n++;
        rpc_pump(&bench->peer);
    }
    assert_int_equal(n, 10);
    assert_int_equal(sl_call_recv_bytes(bench->call, &message), SL_AGAIN);
    sl_call_finishf(bench->call, SL_OK, "%s", "");
    rpc_pump(&bench->peer);
    rpc_stream_free(stream);
    assert_idle(bench);
}

static void taken_message_outlives_the_call(void **state) /* EM-3 */
{
    struct bench *bench = *state;
    open_server(bench);
    struct rpc_stream *stream = rpc_open(&bench->peer, "/t.S/HangChat", NULL);
    rpc_send(stream, "keep me", 7);
    rpc_pump(&bench->peer);
    struct sl_slice bytes;
    assert_int_equal(sl_call_recv_bytes(bench->call, &bytes), SL_OK);
    struct sl_message *message = sl_message_take(bench->call);
    assert_non_null(message);
    sl_call_finishf(bench->call, SL_ABORTED, "done %d", 7);
    rpc_pump(&bench->peer);
    assert_log(&bench->peer, "grpc-status=10 grpc-message=done 7");
    assert_true(sl_slice_equals(bytes, "keep me"));
    (void)sl_message_free(message);
    rpc_stream_free(stream);
}

static void handler_that_finished_its_call_has_no_further_say(void **state)
{
    struct bench *bench = *state;
    open_server(bench);
    static const char *const requests[] = { "it", "" }; /* returns NOT_FOUND, and SL_PENDING */
    for (size_t i = 0; i < 2; i++) {
        struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Inside", NULL, requests[i]);
        assert_log(&bench->peer, "grpc-status=10 grpc-message=said");
        assert_true(stream->is_closed);
        rpc_stream_free(stream);
        assert_idle(bench);
    }
    assert_string_equal(bench->seen, "[it][]");
}

/* ---- Back-pressure --------------------------------------------------------------------------- */

static void queue_is_bounded_and_says_when_there_is_room(void **state) /* FC-3 */
{
    struct bench *bench = *state;
    bench->limits.buffer = 16384;
    struct h2_side *client = h2_side_new();
    client->keeps_credit = true;
    bench->server = new_server(&bench->limits);
    add_raw(bench->server, "/t.S/Hang", SL_SERVER_STREAMING, hang, bench);
    client->limits.stream_window = 65535;
    rpc_peer_open_with(&bench->peer, bench->server, NULL, client);
    rpc_pump(&bench->peer);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "");
    static uint8_t block[3000];
    size_t n = 0;
    while (sl_call_send_bytes(bench->call, sl_slice_of(block, sizeof(block))) == SL_OK) {
        n++;
        rpc_pump(&bench->peer);
    }
    assert_int_equal(n, (65535 + 16384) / 3005);
    assert_int_equal(bench->n_writable, 0);
    sl_h2_stream_consume(stream->stream, 65535);
    rpc_pump(&bench->peer);
    assert_int_equal(bench->n_writable, 1);
    assert_int_equal(sl_call_send_bytes(bench->call, sl_slice_of(block, 1)), SL_OK);
    sl_call_finishf(bench->call, SL_OK, "%s", "");
    rpc_pump(&bench->peer);
    assert_log(&bench->peer, "trailers grpc-status=0 end\n");
    rpc_stream_free(stream);
}

static void one_message_always_fits(void **state) /* FC-3 */
{
    struct bench *bench = *state;
    bench->limits.buffer = 4096;
    open_server(bench);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "");
    static uint8_t block[100000];
    const struct sl_slice large = sl_slice_of(block, sizeof(block));
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_buffer);
    assert_int_equal(sl_call_send_bytes(bench->call, large), SL_OK);
    assert_int_equal(sl_call_send_bytes(bench->call, sl_slice_of(block, 1)), SL_AGAIN);
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_buffer), n_before + 1);
    rpc_pump(&bench->peer);
    assert_int_equal(bench->n_writable, 1);
    sl_call_finishf(bench->call, SL_OK, "%s", "");
    rpc_pump(&bench->peer);
    struct sl_slice message;
    assert_true(rpc_next(stream, &message));
    assert_int_equal(message.size, sizeof(block));
    rpc_stream_free(stream);
    assert_idle(bench);
}

static void queue_is_bounded_in_messages(void **state)
{
    struct bench *bench = *state;
    bench->limits.buffer_events = 10;
    open_server(bench);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "");
    for (size_t i = 0; i < 10; i++) {
        assert_int_equal(sl_call_send_bytes(bench->call, TEXT("m")), SL_OK);
    }
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_buffer_events);
    assert_int_equal(sl_call_send_bytes(bench->call, TEXT("m")), SL_AGAIN);
    assert_int_equal(sl_call_send_bytes(bench->call, TEXT("m")), SL_AGAIN);
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_buffer_events), n_before + 1); /* not each try */
    assert_true(bench->peer.n_output > 0);
    rpc_pump(&bench->peer);
    assert_int_equal(bench->n_writable, 1);
    sl_call_finishf(bench->call, SL_OK, "%s", "");
    rpc_pump(&bench->peer);
    rpc_stream_free(stream);
    assert_idle(bench);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

/* A bit of everything. False: the connection did not live that long. */
static bool run_scenario(struct bench *bench)
{
    static const char *const paths[] = { "/t.S/Echo", "/t.S/Fail", "/t.S/Spell", "/t.S/Metadata" };
    static const char *const extra[] = {
        "x-in", "one", "x-in", "two", "grpc-accept-encoding", "gzip", "grpc-timeout", "10S", NULL
    };
    rpc_peer_open_with(&bench->peer, bench->server, NULL, h2_side_new());
    bench->peer.fail_at = bench->fail_at;
    bench->peer.fails_on = bench->fails_on;
    rpc_pump(&bench->peer);
    for (size_t i = 0; i < 4 && !bench->peer.is_over; i++) {
        rpc_stream_free(rpc_unary(&bench->peer, paths[i], extra, "hello"));
    }
    if (!bench->peer.is_over) {
        struct rpc_stream *stream = rpc_open(&bench->peer, "/t.S/Chat", NULL);
        rpc_send(stream, "one", 3);
        rpc_send(stream, "two", 3);
        rpc_pump(&bench->peer);
        rpc_end(stream);
        rpc_pump(&bench->peer);
        rpc_stream_free(stream);
    }
    return !bench->peer.is_over;
}

static void every_allocation_may_fail(void **state) /* LR-10 */
{
    struct bench *bench = *state;
    open_server(bench);
    rpc_peer_close(&bench->peer);
    assert_true(run_scenario(bench));
    const size_t n_allocations = rpc_n_allocations();
    assert_true(n_allocations > 50);
    size_t n_lived = 0;
    for (size_t i = 0; i < 2 * n_allocations; i++) {
        rpc_peer_close(&bench->peer);
        bench->seen[0] = '\0';
        bench->fail_at = 1 + (i < n_allocations ? i : i - n_allocations);
        bench->fails_on = i >= n_allocations;
        n_lived += run_scenario(bench);
        const struct sl_server_stats stats = stats_of(bench->server);
        assert_true(stats.calls_running + stats.calls_finished == stats.calls_started);
    }
    assert_true(n_lived > n_allocations / 4);
    rpc_peer_close(&bench->peer);
    const struct sl_server_stats stats = stats_of(bench->server);
    assert_int_equal(stats.calls_running, 0);
    assert_int_equal(stats.streams, 0);
    rpc_peer_open(&bench->peer, bench->server, NULL);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(unary_call_gets_its_reply),
        CASE(every_split_of_the_bytes_gives_the_same),
        CASE(error_is_trailers_only_with_details),
        CASE(details_go_when_the_peer_takes_small_headers_only),
        CASE(details_say_what_the_message_says),
        CASE(a_long_message_is_shortened_for_small_headers),
        CASE(status_outside_the_list_is_unknown),
        CASE(metadata_comes_and_goes_in_order),
        CASE(content_type_is_repeated),
        CASE(unary_method_needs_exactly_one_message),
        CASE(request_that_ends_inside_a_message_is_internal),
        CASE(too_large_a_request_is_refused_from_its_prefix),
        CASE(early_refusal_gives_the_window_back),
        CASE(compressed_message_without_encoding_is_internal),
        CASE(bidirectional_call_answers_as_messages_come),
        CASE(large_messages_pass_a_small_window),
        CASE(fault_in_a_stream_reaches_the_handler_with_its_text),
        CASE(stream_that_is_not_read_closes_its_window),
        CASE(taken_message_outlives_the_call),
        CASE(handler_that_finished_its_call_has_no_further_say),
        CASE(queue_is_bounded_and_says_when_there_is_room),
        CASE(one_message_always_fits),
        CASE(queue_is_bounded_in_messages),
        CASE(every_allocation_may_fail),
    };
#undef CASE
    return cmocka_run_group_tests_name("rpc_call", tests, NULL, NULL);
}
