/* What interceptors of a server see of messages, and what they may do (OP-1). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "proto/tests/unit/rpc_types.pb-c.h"
#include "runtime/base/mem.h"
#include "service/rpc/call.h"
#include "tests/wire/rpc_peer.h"

static struct sl_server *server;
static struct rpc_peer peer;
static char trace[512];
static enum sl_status verdict;
static enum sl_status received;

static void note(const char *who, const char *what, struct sl_slice message)
{
    const size_t size = strlen(trace);
    (void)snprintf(
        trace + size, sizeof(trace) - size, "%s.%s(%.*s) ", who, what, SL_SLICE_FMT(message));
}

static enum sl_status on_start(struct sl_call *call, void *user_data)
{
    (void)user_data;
    SL_TRY(sl_call_add_header(call, sl_slice_str("x-head"), sl_slice_str("1")));
    return sl_call_add_trailer(call, sl_slice_str("x-tail"), sl_slice_str("2"));
}

static enum sl_status on_message_in(struct sl_call *call, struct sl_slice message, void *user_data)
{
    (void)call;
    note(user_data, "in", message);
    return sl_slice_equals(message, "bad") ? verdict : SL_OK;
}

static void on_message_out(struct sl_call *call, struct sl_slice message, void *user_data)
{
    (void)call;
    note(user_data, "out", message);
}

/* ---- Handlers -------------------------------------------------------------------------------- */

static enum sl_status echo(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)user_data;
    return sl_call_reply_bytes(call, request);
}

static void on_readable(struct sl_call *call, void *user_data)
{
    (void)user_data;
    struct sl_slice bytes;
    while ((received = sl_call_recv_bytes(call, &bytes)) == SL_OK) {
        const enum sl_status sent = sl_call_send_bytes(call, bytes);
        assert_int_equal(sent, SL_OK);
    }
    if (received == SL_END) {
        Sluice__Test__Types last = SLUICE__TEST__TYPES__INIT;
        char text[] = "typed";
        last.text = text;
        assert_int_equal(sl_call_send(call, &last), SL_OK);
        sl_call_finishf(call, SL_OK, "%s", "");
    } else if (received != SL_AGAIN) {
        sl_call_finish(call, &(struct sl_call_status){ .code = received });
    }
}

static enum sl_status talk(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)request;
    (void)user_data;
    static const struct sl_call_callbacks callbacks = { .on_readable = on_readable };
    sl_call_set_callbacks(call, &callbacks, NULL);
    if (sl_metadata_get(sl_call_metadata(call), "x-gzip", 0, &request)) {
        SL_TRY(sl_call_set_encoding(call, "gzip"));
    }
    return SL_PENDING;
}

/* ---- The bench ------------------------------------------------------------------------------- */

static int setup(void **state)
{
    (void)state;
    static char first[] = "a";
    static char second[] = "b";
    const struct sl_server_options options = { .struct_size = sizeof(options) };
    const struct sl_interceptor chain[] = {
        { .on_start = on_start,
          .on_message_in = on_message_in,
          .on_message_out = on_message_out,
          .user_data = first },
        { .on_message_in = on_message_in, .on_message_out = on_message_out, .user_data = second },
    };
    trace[0] = '\0';
    verdict = SL_OK;
    assert_int_equal(sl_server_new(&options, &server), SL_OK);
    assert_int_equal(sl_server_add_raw(server, "/t.S/Echo", SL_UNARY, echo, NULL), SL_OK);
    assert_int_equal(sl_server_add_raw(server, "/t.S/Talk", SL_BIDIRECTIONAL, talk, NULL), SL_OK);
    for (size_t i = 0; i < SL_COUNT(chain); i++) {
        assert_int_equal(sl_server_add_interceptor(server, &chain[i]), SL_OK);
    }
    rpc_peer_open(&peer, server, NULL);
    (void)rpc_log(&peer);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rpc_peer_close(&peer);
    server = sl_server_free(server);
    return 0;
}

static void messages_are_shown_in_order_and_in_reverse(void **state)
{
    (void)state;
    struct rpc_stream *stream = rpc_unary(&peer, "/t.S/Echo", NULL, "hello");
    assert_string_equal(trace, "a.in(hello) b.in(hello) b.out(hello) a.out(hello) ");
    const char *log = rpc_log(&peer);
    assert_non_null(strstr(log, "x-head=1"));
    assert_non_null(strstr(log, "trailers grpc-status=0 x-tail=2 end"));
    rpc_stream_free(stream);
}

static void messages_of_streams_are_shown_uncompressed(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        static const char *const zipped[] = { "grpc-accept-encoding", "gzip", "x-gzip", "1", NULL };
        trace[0] = '\0';
        struct rpc_stream *stream = rpc_open(&peer, "/t.S/Talk", i == 1 ? zipped : NULL);
        rpc_send(stream, "one", 3);
        rpc_pump(&peer);
        assert_string_equal(trace, "a.in(one) b.in(one) b.out(one) a.out(one) ");
        rpc_end(stream);
        rpc_pump(&peer);
        assert_non_null(strstr(trace, "typed) a.out("));
        assert_true(stream->is_closed);
        rpc_stream_free(stream);
    }
}

static void an_interceptor_may_refuse_a_request(void **state)
{
    (void)state;
    verdict = SL_PERMISSION_DENIED;
    struct rpc_stream *stream = rpc_unary(&peer, "/t.S/Echo", NULL, "bad");
    assert_string_equal(trace, "a.in(bad) ");
    assert_non_null(strstr(rpc_log(&peer), "grpc-status=7 grpc-message=the message is not"));
    rpc_stream_free(stream);
}

static void an_interceptor_may_refuse_a_message_of_a_stream(void **state)
{
    (void)state;
    verdict = SL_PERMISSION_DENIED;
    struct rpc_stream *stream = rpc_open(&peer, "/t.S/Talk", NULL);
    rpc_send(stream, "good", 4);
    rpc_send(stream, "bad", 3);
    rpc_pump(&peer);
    assert_int_equal(received, SL_PERMISSION_DENIED);
    assert_string_equal(trace, "a.in(good) b.in(good) b.out(good) a.out(good) a.in(bad) ");
    assert_non_null(strstr(rpc_log(&peer), "grpc-status=7 grpc-message=the message is not"));
    rpc_stream_free(stream);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(messages_are_shown_in_order_and_in_reverse),
        T(messages_of_streams_are_shown_uncompressed),
        T(an_interceptor_may_refuse_a_request),
        T(an_interceptor_may_refuse_a_message_of_a_stream),
    };
    return cmocka_run_group_tests_name("rpc_interceptor", tests, NULL, NULL);
}
