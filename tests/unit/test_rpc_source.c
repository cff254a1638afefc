/* Bodies that the handler owns, heartbeats between their messages, compression, and typed calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/tests/unit/rpc_types.pb-c.h"
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "service/rpc/call.h"
#include "service/rpc/compress.h"
#include "tests/unit/test_rpc_rig.h"

enum { LOG_BYTES = 1 << 20 };

/* A log of framed messages, as a run has one. */
struct source {
    struct sl_call_source base;
    uint8_t bytes[LOG_BYTES];
    size_t size, at, border;
    bool is_ended;
    size_t n_finished;
    size_t n_streams; /* told last */
    struct sl_metadatum info;
};

struct bench {
    struct sl_server *server;
    struct rpc_peer peer;
    struct sl_limits limits;
    struct sl_call *call;
    struct source source;
    size_t n_ended;
    const char *encoding;
};

static void append(struct source *source, const void *message, size_t size)
{
    const uint8_t prefix[] = { 0, (uint8_t)(size >> 24), (uint8_t)(size >> 16),
                               (uint8_t)(size >> 8), (uint8_t)size };
    assert_true(sizeof(source->bytes) - source->size >= size + sizeof(prefix));
    memcpy(source->bytes + source->size, prefix, sizeof(prefix));
    memcpy(source->bytes + source->size + sizeof(prefix), message, size);
    source->size += size + sizeof(prefix);
}

static size_t ready(struct sl_call_source *base, size_t max, bool *ret_is_last)
{
    const struct source *source = SL_CONTAINER(base, struct source, base);
    const size_t left = source->size - source->at;
    const size_t n = left < max ? left : max;
    *ret_is_last = source->is_ended && n == left;
    return n;
}

static void take(struct sl_call_source *base, uint8_t *dst, size_t n)
{
    struct source *source = SL_CONTAINER(base, struct source, base);
    assert_true(n <= source->size - source->at);
    memcpy(dst, source->bytes + source->at, n);
    source->at += n;
}

static bool at_border(const struct sl_call_source *base)
{
    (void)base;
    return true;
}

static void on_streams(struct sl_call_source *base, size_t n_streams)
{
    SL_CONTAINER(base, struct source, base)->n_streams = n_streams;
}

static struct bench *bench_of(struct sl_call_source *base)
{
    struct source *source = SL_CONTAINER(base, struct source, base);
    return SL_CONTAINER(source, struct bench, source);
}

static void on_finished(struct sl_call_source *base)
{
    struct bench *bench = bench_of(base);
    struct sl_call *call = bench->call;
    bench->source.n_finished++;
    bench->call = NULL;
    sl_call_finishf(call, SL_ABORTED, "the run is over");
}

static size_t
end_info(const struct sl_call *call, const struct sl_metadatum **ret_info, void *user_data)
{
    static const struct sl_metadatum info = { .key = { (const uint8_t *)"last_sequence", 13 },
                                              .value = { (const uint8_t *)"7", 1 } };
    (void)call;
    (void)user_data;
    *ret_info = &info;
    return 1;
}

static void on_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    (void)end;
    struct bench *bench = user_data;
    bench->n_ended++;
    sl_call_finishf(call, SL_OK, "%s", "");
}

static enum sl_status follow(struct sl_call *call, struct sl_slice request, void *user_data)
{
    static const struct sl_call_callbacks callbacks = { .on_ended = on_ended,
                                                        .end_info = end_info };
    (void)request;
    struct bench *bench = user_data;
    bench->call = call;
    bench->source.base = (struct sl_call_source){ .ready = ready,
                                                  .take = take,
                                                  .at_border = at_border,
                                                  .on_finished = on_finished,
                                                  .on_streams = on_streams };
    sl_call_set_callbacks(call, &callbacks, bench);
    if (bench->encoding != NULL) {
        assert_int_equal(sl_call_set_encoding(call, bench->encoding), SL_OK);
    }
    assert_int_equal(sl_call_set_source(call, &bench->source.base), SL_OK);
    return SL_PENDING;
}

/* A typed unary handler, as generated code calls it: doubles the number. */
static enum sl_status double_it(struct sl_call *call, const void *handlers, void *user_data)
{
    (void)handlers;
    const struct bench *bench = user_data;
    const void *raw_request = NULL;
    void *raw_reply = NULL;
    SL_TRY(sl_call_request(call, &raw_request));
    SL_TRY(sl_call_reply(call, &raw_reply));
    const Sluice__Test__Types *request = raw_request;
    Sluice__Test__Types *reply = raw_reply;
    if (bench->encoding != NULL) {
        SL_TRY(sl_call_set_encoding(call, bench->encoding));
    }
    reply->number = request->number * 2;
    reply->text = request->text;
    return SL_OK;
}

/* A typed chat: sums up, and answers each message. */
static void sum_readable(struct sl_call *call, void *user_data)
{
    int32_t *sum = user_data;
    void *raw = NULL;
    enum sl_status status;
    while ((status = sl_call_recv(call, &raw)) == SL_OK) {
        const Sluice__Test__Types *message = raw;
        *sum += message->number;
        Sluice__Test__Types reply;
        sluice__test__types__init(&reply);
        reply.number = *sum;
        assert_int_equal(sl_call_send(call, &reply), SL_OK);
    }
    if (status != SL_AGAIN) {
        sl_call_finish(call, &(struct sl_call_status){ .code = status == SL_END ? SL_OK : status });
    }
}

static enum sl_status sum_up(struct sl_call *call, const void *handlers, void *user_data)
{
    static const struct sl_call_callbacks callbacks = { .on_readable = sum_readable };
    (void)handlers;
    (void)user_data;
    int32_t *sum = sl_arena_calloc(sl_call_arena(call), 1, sizeof(*sum));
    assert_non_null(sum);
    sl_call_set_callbacks(call, &callbacks, sum);
    return SL_PENDING;
}

static const struct sl_method_desc methods[] = {
    { .path = "/sluice.test.S/Double",
      .name = "Double",
      .kind = SL_UNARY,
      .request_type = &sluice__test__types__descriptor,
      .response_type = &sluice__test__types__descriptor },
    { .path = "/sluice.test.S/Sum",
      .name = "Sum",
      .kind = SL_BIDIRECTIONAL,
      .request_type = &sluice__test__types__descriptor,
      .response_type = &sluice__test__types__descriptor },
};
static const struct sl_service_desc service = { .name = "sluice.test.S",
                                                .methods = methods,
                                                .n_methods = 2 };

static int set_up(void **state)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    assert_non_null(bench);
    sl_limits_init(&bench->limits);
    bench->server = new_server(&bench->limits);
    add_raw(bench->server, "/t.S/Follow", SL_SERVER_STREAMING, follow, bench);
    static sl_method_start_fn *const starts[] = { double_it, sum_up };
    assert_int_equal(sl_server_add_service(bench->server, &service, starts, NULL, bench), SL_OK);
    assert_ptr_equal(sl_server_service_at(bench->server, 0), &service);
    rpc_peer_open(&bench->peer, bench->server, NULL);
    (void)rpc_log(&bench->peer);
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

/* ---- Sources --------------------------------------------------------------------------------- */

static void source_is_pulled_as_it_grows(void **state)
{
    struct bench *bench = *state;
    append(&bench->source, "one", 3);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Follow", NULL, "x");
    assert_message(stream, "one");
    assert_true(sl_call_is_idle(bench->call));
    append(&bench->source, "two", 3);
    append(&bench->source, "", 0);
    assert_false(sl_call_is_idle(bench->call));
    sl_call_resume(bench->call);
    rpc_pump(&bench->peer);
    assert_message(stream, "two");
    assert_message(stream, "");
    bench->source.is_ended = true;
    sl_call_resume(bench->call);
    rpc_pump(&bench->peer);
    assert_int_equal(bench->source.n_finished, 1);
    assert_log(&bench->peer, "1 trailers grpc-status=10 grpc-message=the run is over end");
    rpc_stream_free(stream);
}

static void source_that_ends_at_once_is_finished(void **state)
{
    struct bench *bench = *state;
    bench->source.is_ended = true;
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Follow", NULL, "x");
    assert_int_equal(bench->source.n_finished, 1);
    assert_log(&bench->peer, "1 trailers grpc-status=10");
    rpc_stream_free(stream);
}

static void heartbeats_go_between_messages(void **state)
{
    struct bench *bench = *state;
    bench->peer.client->keeps_credit = true;
    static uint8_t block[300000];
    memset(block, 'z', sizeof(block));
    append(&bench->source, "first", 5);
    append(&bench->source, block, sizeof(block));
    append(&bench->source, "last", 4);
    bench->source.is_ended = true;
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Follow", NULL, "x");
    assert_message(stream, "first");
    /* The source is inside its second message, and the window is closed. */
    assert_int_equal(sl_call_send_bytes(bench->call, sl_slice_str("beat")), SL_OK);
    sl_h2_stream_consume(stream->stream, stream->in.size);
    rpc_pump(&bench->peer);
    struct sl_slice message;
    assert_true(rpc_next(stream, &message));
    assert_int_equal(message.size, sizeof(block));
    bool has_beat = false;
    bool has_last = false;
    while (rpc_next(stream, &message)) {
        has_beat |= sl_slice_equals(message, "beat");
        has_last |= sl_slice_equals(message, "last");
    }
    assert_true(has_beat && has_last);
    assert_int_equal(bench->source.n_finished, 1);
    rpc_stream_free(stream);
}

/* FC-3: each stream has its share of what the connection may have queued. */
static void source_hears_when_the_streams_double_or_halve(void **state)
{
    static const size_t told[] = { 1, 2, 2, 4, 4, 4, 4, 8 };
    struct bench *bench = *state;
    struct rpc_stream *streams[8];
    for (size_t i = 0; i < 8; i++) {
        streams[i] = i == 0 ? rpc_unary(&bench->peer, "/t.S/Follow", NULL, "x")
                            : rpc_open(&bench->peer, "/t.S/Follow", NULL);
        rpc_pump(&bench->peer);
        assert_int_equal(bench->source.n_streams, told[i]);
    }
    for (size_t i = 8; i-- > 1;) {
        rpc_stream_free(streams[i]);
        rpc_pump(&bench->peer);
        assert_int_equal(bench->source.n_streams, i > 4 ? 8 : i > 2 ? 4 : i);
    }
    rpc_stream_free(streams[0]);
    rpc_pump(&bench->peer);
}

static void queued_messages_go_before_the_source(void **state)
{
    struct bench *bench = *state;
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Follow", NULL, "x");
    append(&bench->source, "event", 5);
    assert_int_equal(sl_call_send_bytes(bench->call, sl_slice_str("beat")), SL_OK);
    rpc_pump(&bench->peer);
    assert_message(stream, "beat");
    assert_message(stream, "event");
    rpc_stream_free(stream);
    rpc_pump(&bench->peer);
    assert_int_equal(bench->n_ended, 1);
}

static void every_window_gives_the_same_messages(void **state)
{
    struct bench *bench = *state;
    char text[16];
    for (int i = 0; i < 2000; i++) {
        const int n = snprintf(text, sizeof(text), "m%d", i);
        append(&bench->source, text, (size_t)n);
    }
    bench->source.is_ended = true;
    bench->peer.client->keeps_credit = true;
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Follow", NULL, "x");
    for (int i = 0; i < 2000; i++) {
        (void)snprintf(text, sizeof(text), "m%d", i);
        assert_message(stream, text);
    }
    assert_int_equal(stats_of(bench->server).messages_out, 2000);
    rpc_stream_free(stream);
}

static void stalled_source_tells_how_far_it_came(void **state) /* FC-9 */
{
    struct bench *bench = *state;
    bench->peer.client->keeps_credit = true;
    static uint8_t block[300000];
    const size_t window = (size_t)bench->peer.client->limits.stream_window;
    append(&bench->source, block, window - 5);
    append(&bench->source, "blocked", 7);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Follow", NULL, "x");
    rpc_advance_ms(&bench->peer, 30000);
    rpc_advance_ms(&bench->peer, 30000);
    const char *log = rpc_log(&bench->peer);
    /* base64 of …"last_sequence" may begin at any of three places. */
    assert_true(
        strstr(log, "bGFzdF9zZXF1ZW5jZ") != NULL || strstr(log, "xhc3Rfc2VxdWVuY2") != NULL ||
        strstr(log, "sYXN0X3NlcXVlbmNl") != NULL);
    assert_int_equal(bench->n_ended, 1);
    rpc_stream_free(stream);
}

/* The handler's word: the time of the limit `stall` is not over. Between two messages, with
 * trailers. */
static void a_source_is_given_up_between_two_messages(void **state) /* FC-9 */
{
    struct bench *bench = *state;
    bench->peer.client->keeps_credit = true;
    static uint8_t block[300000];
    const size_t window = (size_t)bench->peer.client->limits.stream_window;
    append(&bench->source, block, window - 5);
    append(&bench->source, "blocked", 7);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Follow", NULL, "x");
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_stall);
    assert_int_equal(bench->n_ended, 0);
    sl_call_stall(bench->call);
    assert_int_equal(bench->n_ended, 0); /* never from inside */
    rpc_pump(&bench->peer);
    const char *log = rpc_log(&bench->peer);
    assert_non_null(strstr(log, "grpc-status=8"));
    assert_non_null(strstr(log, "the client does not read its stream"));
    assert_int_equal(bench->n_ended, 1);
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_stall), n_before);
    rpc_stream_free(stream);
}

static void a_source_is_given_up_inside_a_message(void **state) /* FC-9 */
{
    struct bench *bench = *state;
    bench->peer.client->keeps_credit = true;
    static uint8_t block[300000];
    append(&bench->source, block, (size_t)bench->peer.client->limits.stream_window);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Follow", NULL, "x");
    struct sl_call *call = bench->call;
    sl_call_stall(call);
    sl_call_stall(call); /* it has ended */
    rpc_pump(&bench->peer);
    assert_non_null(strstr(rpc_log(&bench->peer), "closed reset 11"));
    assert_int_equal(bench->n_ended, 1);
    rpc_stream_free(stream);
}

/* ---- Compression ----------------------------------------------------------------------------- */

/* The next message, unpacked; `*ret_was_packed`: its flag. */
static void
assert_packed(struct rpc_stream *stream, const void *text, size_t size, bool *ret_was_packed)
{
    *ret_was_packed = stream->in.data[stream->at] == 1;
    struct sl_slice message;
    struct sl_buf plain;
    sl_buf_init(&plain, LOG_BYTES);
    assert_true(rpc_next(stream, &message));
    if (*ret_was_packed) {
        assert_int_equal(sl_decompress(SL_ENCODING_GZIP, message, LOG_BYTES, &plain, NULL), SL_OK);
        message = sl_buf_slice(&plain);
    }
    assert_int_equal(message.size, size);
    assert_memory_equal(message.data, text, size);
    sl_buf_done(&plain);
}

static void source_is_framed_anew_when_it_is_compressed(void **state) /* FR-10 */
{
    struct bench *bench = *state;
    bench->encoding = "gzip";
    static uint8_t block[100000];
    memset(block, 'z', sizeof(block));
    append(&bench->source, block, sizeof(block));
    append(&bench->source, "tiny", 4);
    bench->source.is_ended = true;
    const char *const extra[] = { "grpc-accept-encoding", "identity, gzip", NULL };
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Follow", extra, "x");
    const char *log = rpc_log(&bench->peer);
    assert_non_null(strstr(log, "grpc-encoding=gzip"));
    assert_non_null(strstr(log, "trailers grpc-status=10"));
    bool was_packed = false;
    assert_packed(stream, block, sizeof(block), &was_packed);
    assert_true(was_packed);
    assert_packed(stream, "tiny", 4, &was_packed);
    assert_false(was_packed); /* it would not have become smaller */
    rpc_stream_free(stream);
}

static void nothing_is_compressed_unless_the_client_allows_it(void **state) /* FR-10 */
{
    struct bench *bench = *state;
    bench->encoding = "gzip";
    static uint8_t block[10000];
    append(&bench->source, block, sizeof(block));
    bench->source.is_ended = true;
    const char *const extra[] = { "grpc-accept-encoding", "deflate", NULL };
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Follow", extra, "x");
    assert_null(strstr(rpc_log(&bench->peer), "grpc-encoding="));
    assert_int_equal(stream->in.data[0], 0);
    rpc_stream_free(stream);
}

/* ---- Typed calls ----------------------------------------------------------------------------- */

static size_t pack(uint8_t *room, int32_t number, const char *text)
{
    Sluice__Test__Types message;
    sluice__test__types__init(&message);
    char copy[64];
    (void)snprintf(copy, sizeof(copy), "%s", text);
    message.number = number;
    message.text = copy;
    return sluice__test__types__pack(&message, room);
}

static void typed_call_is_decoded_and_encoded(void **state)
{
    struct bench *bench = *state;
    uint8_t room[256];
    struct rpc_stream *stream = rpc_open(&bench->peer, "/sluice.test.S/Double", NULL);
    rpc_send(stream, room, pack(room, 21, "hi"));
    rpc_end(stream);
    rpc_pump(&bench->peer);
    struct sl_slice message;
    assert_true(rpc_next(stream, &message));
    assert_int_equal(message.size, pack(room, 42, "hi"));
    assert_memory_equal(message.data, room, message.size);
    assert_log(&bench->peer, "grpc-status=0");
    rpc_stream_free(stream);
}

static void request_that_does_not_parse_is_internal(void **state) /* FR-11, WS-4 */
{
    struct bench *bench = *state;
    struct rpc_stream *stream =
        rpc_unary(&bench->peer, "/sluice.test.S/Double", NULL, ":\2\xFF\xFF");
    const char *log = rpc_log(&bench->peer);
    if (strstr(log, "grpc-status=13 grpc-message=") == NULL) {
        fail_msg("%s", log);
    }
    assert_non_null(strstr(log, "text")); /* the field's name */
    rpc_stream_free(stream);
}

static void typed_reply_is_compressed(void **state)
{
    struct bench *bench = *state;
    bench->encoding = "gzip";
    uint8_t room[4096];
    char text[64];
    memset(text, 'a', sizeof(text) - 1);
    text[63] = '\0';
    const char *const extra[] = { "grpc-accept-encoding", "gzip", NULL };
    struct rpc_stream *stream = rpc_open(&bench->peer, "/sluice.test.S/Double", extra);
    rpc_send(stream, room, pack(room, 21, text));
    rpc_end(stream);
    rpc_pump(&bench->peer);
    bool was_packed = false;
    assert_packed(stream, room, pack(room, 42, text), &was_packed);
    assert_true(was_packed);
    rpc_stream_free(stream);
}

static void typed_stream_has_a_message_at_a_time(void **state) /* EM-3 */
{
    struct bench *bench = *state;
    uint8_t room[256];
    struct rpc_stream *stream = rpc_open(&bench->peer, "/sluice.test.S/Sum", NULL);
    for (int32_t i = 1; i <= 100; i++) {
        rpc_send(stream, room, pack(room, i, ""));
    }
    rpc_end(stream);
    rpc_pump(&bench->peer);
    struct sl_slice message = { 0 };
    size_t n = 0;
    while (rpc_next(stream, &message)) {
        n++;
    }
    assert_int_equal(n, 100);
    assert_int_equal(message.size, pack(room, 5050, ""));
    assert_memory_equal(message.data, room, message.size);
    assert_log(&bench->peer, "1 trailers grpc-status=0 end");
    rpc_stream_free(stream);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(source_is_pulled_as_it_grows),
        CASE(source_that_ends_at_once_is_finished),
        CASE(heartbeats_go_between_messages),
        CASE(source_hears_when_the_streams_double_or_halve),
        CASE(queued_messages_go_before_the_source),
        CASE(every_window_gives_the_same_messages),
        CASE(stalled_source_tells_how_far_it_came),
        CASE(a_source_is_given_up_between_two_messages),
        CASE(a_source_is_given_up_inside_a_message),
        CASE(source_is_framed_anew_when_it_is_compressed),
        CASE(nothing_is_compressed_unless_the_client_allows_it),
        CASE(typed_call_is_decoded_and_encoded),
        CASE(request_that_does_not_parse_is_internal),
        CASE(typed_reply_is_compressed),
        CASE(typed_stream_has_a_message_at_a_time),
    };
#undef CASE
    return cmocka_run_group_tests_name("rpc_source", tests, NULL, NULL);
}
