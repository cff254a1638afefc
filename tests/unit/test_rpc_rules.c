/* Rules of calls that belong to no single part: every end is told once, when a deadline's clock
 * starts, which statuses are the library's own, what of a request a handler may see. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "service/rpc/call.h"
#include "service/rpc/conn_impl.h"
#include "tests/unit/test_rpc_rig.h"

enum { CALLS = 3 };

struct bench {
    struct sl_server *server;
    struct rpc_peer peer;
    struct sl_limits limits;
    struct sl_call *calls[8];
    size_t n_calls;
    size_t n_ended[8]; /* per call */
    enum sl_call_end_kind last_end;
    uint32_t attempts;
    bool has_attempts_key;
    char value[16384];
};

/* ---- Handlers -------------------------------------------------------------------------------- */

static void on_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    struct bench *bench = user_data;
    bench->last_end = end->kind;
    for (size_t i = 0; i < bench->n_calls; i++) {
        bench->n_ended[i] += bench->calls[i] == call;
    }
}

static enum sl_status hang(struct sl_call *call, struct sl_slice request, void *user_data)
{
    static const struct sl_call_callbacks callbacks = { .on_ended = on_ended };
    (void)request;
    struct bench *bench = user_data;
    assert_true(bench->n_calls < SL_COUNT(bench->calls));
    bench->calls[bench->n_calls++] = call;
    sl_call_set_callbacks(call, &callbacks, bench);
    return SL_PENDING;
}

/* The request's first letter is the status. */
static enum sl_status answer(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)user_data;
    const enum sl_status status = (enum sl_status)(request.size == 0 ? 0 : request.data[0] - 'a');
    return status == SL_OK ? sl_call_reply_bytes(call, request) : status;
}

static enum sl_status no_reply(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)call;
    (void)request;
    (void)user_data;
    return SL_OK;
}

/* Says more than there is to say. */
static enum sl_status fine(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)request;
    (void)user_data;
    const struct sl_call_status status = {
        .code = SL_OK, .message = "fine", .reason = "FINE", .retry_delay_ms = 5
    };
    return sl_call_add_trailer(call, sl_slice_str("x"), sl_slice_str("y")) == SL_OK
               ? sl_call_fail(call, &status)
               : SL_INTERNAL;
}

static enum sl_status look(struct sl_call *call, struct sl_slice request, void *user_data)
{
    struct bench *bench = user_data;
    struct sl_slice value = { 0 };
    bench->attempts = sl_call_previous_attempts(call);
    bench->has_attempts_key =
        sl_metadata_get(sl_call_metadata(call), "grpc-previous-rpc-attempts", 0, &value);
    if (sl_metadata_get(sl_call_metadata(call), "x", 0, &value)) {
        (void)snprintf(bench->value, sizeof(bench->value), "%.*s", SL_SLICE_FMT(value));
    }
    return sl_call_reply_bytes(call, request);
}

/* ---- Benches --------------------------------------------------------------------------------- */

/* Its client has not heard of the limit for headers, and so does not keep it. */
static void open_server(struct bench *bench)
{
    bench->server = new_server(&bench->limits);
    add_raw(bench->server, "/t.S/Hang", SL_SERVER_STREAMING, hang, bench);
    add_raw(bench->server, "/t.S/Chat", SL_BIDIRECTIONAL, hang, bench);
    add_raw(bench->server, "/t.S/Answer", SL_UNARY, answer, bench);
    add_raw(bench->server, "/t.S/Fine", SL_SERVER_STREAMING, fine, bench);
    add_raw(bench->server, "/t.S/Look", SL_UNARY, look, bench);
    add_raw(bench->server, "/t.S/NoReply", SL_UNARY, no_reply, bench);
    rpc_peer_open_with(&bench->peer, bench->server, NULL, h2_side_new());
}

static void open_bench(struct bench *bench)
{
    open_server(bench);
    rpc_pump(&bench->peer);
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
    for (size_t i = 0; i < bench->n_calls; i++) {
        sl_call_finishf(bench->calls[i], SL_OK, "late");
    }
    bench->server = sl_server_free(bench->server);
    free(bench);
    return 0;
}

/* ---- CN-7 ------------------------------------------------------------------------------------ */

struct end_way {
    void (*end)(struct bench *bench, struct rpc_stream **streams);
    enum sl_call_end_kind kind;
};

static void by_resets(struct bench *bench, struct rpc_stream **streams)
{
    for (size_t i = 0; i < CALLS; i++) {
        sl_h2_stream_reset(streams[i]->stream, SL_H2_CANCEL);
    }
    rpc_pump(&bench->peer);
}

static void feed(struct bench *bench, const void *bytes, size_t size)
{
    struct sl_error err;
    const struct sl_slice all = sl_slice_of(bytes, size);
    bench->peer.is_over |= sl_conn_feed(bench->peer.conn, all, bench->peer.now_ns, &err) != SL_OK;
}

/* DATA after END_STREAM: nghttp2 ends the connection. */
static void by_a_fault(struct bench *bench, struct rpc_stream **streams)
{
    (void)streams;
    feed(bench, "\0\0\1\0\0\0\0\0\0x", 10);
    rpc_pump(&bench->peer);
}

/* Our own budget ends it. */
static void by_a_flood(struct bench *bench, struct rpc_stream **streams)
{
    (void)streams;
    for (int i = 0; i < 5; i++) {
        feed(bench, "\0\0\10\6\0\0\0\0\0xxxxxxxx", 17);
    }
    rpc_pump(&bench->peer);
}

static void by_the_loss_of_the_socket(struct bench *bench, struct rpc_stream **streams)
{
    (void)streams;
    sl_conn_lost(bench->peer.conn);
}

static void by_their_deadlines(struct bench *bench, struct rpc_stream **streams)
{
    (void)streams;
    rpc_advance_ms(&bench->peer, 5000);
}

static void by_the_drain(struct bench *bench, struct rpc_stream **streams)
{
    (void)streams;
    sl_conn_drain(bench->peer.conn, 0);
    rpc_advance_ms(&bench->peer, 1);
}

/* However the streams close, and whatever follows, each handler is told once. */
static void expect_told_once(struct bench *bench, const struct end_way *way)
{
    const char *const extra[] = { "grpc-timeout", "4S", NULL };
    struct rpc_stream *streams[CALLS];
    open_bench(bench);
    for (size_t i = 0; i < CALLS; i++) {
        streams[i] = rpc_unary(&bench->peer, "/t.S/Hang", extra, "x");
    }
    assert_int_equal(bench->n_calls, CALLS);
    way->end(bench, streams);
    for (size_t i = 0; i < CALLS; i++) {
        assert_int_equal(bench->n_ended[i], 1);
        assert_true(way->kind == SL_CALL_DRAIN || sl_call_is_ended(bench->calls[i]));
    }
    assert_int_equal(bench->last_end, way->kind);
    for (int i = 0; i < 10; i++) {
        rpc_advance_ms(&bench->peer, 60000); /* deadlines, stalls, the end of the drain */
    }
    for (size_t i = 0; i < CALLS; i++) {
        rpc_stream_free(streams[i]);
    }
    rpc_peer_close(&bench->peer);
    for (size_t i = 0; i < CALLS; i++) {
        assert_int_equal(bench->n_ended[i], 1);
        sl_call_finishf(bench->calls[i], SL_OK, "late");
    }
    assert_int_equal(stats_of(bench->server).calls_running, 0);
    bench->n_calls = 0;
    memset(bench->n_ended, 0, sizeof(bench->n_ended));
    bench->server = sl_server_free(bench->server);
}

static void every_end_of_a_stream_is_told_once(void **state) /* CN-7, CN-5, NG-9 */
{
    static const struct end_way ways[] = {
        { by_resets, SL_CALL_RESET },
        { by_a_fault, SL_CALL_LOST },
        { by_a_flood, SL_CALL_LOST },
        { by_the_loss_of_the_socket, SL_CALL_LOST },
        { by_their_deadlines, SL_CALL_DEADLINE },
        { by_the_drain, SL_CALL_DRAIN },
    };
    for (size_t i = 0; i < SL_COUNT(ways); i++) {
        expect_told_once(*state, &ways[i]);
    }
}

/* ---- DL-2 ------------------------------------------------------------------------------------ */

static void a_deadline_counts_from_the_end_of_the_header_block(void **state) /* DL-2 */
{
    struct bench *bench = *state;
    open_bench(bench);
    const char *const extra[] = { "grpc-timeout", "100m", NULL };
    struct rpc_stream *stream = rpc_open(&bench->peer, "/t.S/Chat", extra);
    const size_t n = h2_side_pull(bench->peer.client);
    feed(bench, bench->peer.client->room, n - 1);
    bench->peer.now_ns += 70 * SL_NS_PER_MS;
    assert_int_equal(bench->n_calls, 0);
    feed(bench, bench->peer.client->room + n - 1, 1);
    assert_int_equal(bench->n_calls, 1);
    assert_int_equal(sl_call_remaining_ns(bench->calls[0]), 100 * SL_NS_PER_MS);
    bench->peer.now_ns -= 50 * SL_NS_PER_MS; /* a clock that goes back changes nothing */
    feed(bench, "", 0);
    assert_int_equal(sl_call_remaining_ns(bench->calls[0]), 100 * SL_NS_PER_MS);
    rpc_advance_ms(&bench->peer, 50 + 99);
    assert_int_equal(bench->n_ended[0], 0);
    rpc_advance_ms(&bench->peer, 1);
    assert_int_equal(bench->n_ended[0], 1);
    assert_int_equal(bench->last_end, SL_CALL_DEADLINE);
    assert_log(&bench->peer, "grpc-status=4");
    rpc_stream_free(stream);
}

/* ---- RT-3, MD-6 ------------------------------------------------------------------------------ */

/* What was set before goes with an end that is not the handler's. */
static void a_deadline_takes_the_metadata_along(void **state) /* RS-2, RS-4 */
{
    struct bench *bench = *state;
    open_bench(bench);
    const char *const extra[] = { "grpc-timeout", "50m", NULL };
    const struct sl_slice key = sl_slice_str("x-key");
    for (size_t i = 0; i < 3; i++) {
        struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", extra, "x");
        struct sl_call *call = bench->calls[i];
        if (i > 0) {
            assert_int_equal(sl_call_add_header(call, key, sl_slice_str("h")), SL_OK);
        }
        if (i > 1) {
            assert_int_equal(sl_call_send_headers(call), SL_OK);
        }
        assert_int_equal(sl_call_add_trailer(call, key, sl_slice_str("t")), SL_OK);
        rpc_advance_ms(&bench->peer, 50);
        const char *log = rpc_log(&bench->peer);
        const char *status = strstr(log, "grpc-status=4");
        const char *header = strstr(log, "x-key=h\n");
        assert_non_null(status);
        assert_non_null(strstr(status, "x-key=t end\n"));
        assert_true(i == 0 ? header == NULL : header != NULL && header < status);
        assert_int_equal(bench->last_end, SL_CALL_DEADLINE);
        assert_true(stream->is_closed);
        rpc_stream_free(stream);
    }
}

static void metadata_that_the_client_does_not_take_is_left_out(void **state) /* RS-9 */
{
    struct bench *bench = *state;
    open_server(bench);
    rpc_peer_close(&bench->peer);
    struct h2_side *client = h2_side_new();
    client->limits.header_list_soft = 400;
    rpc_peer_open_with(&bench->peer, bench->server, NULL, client);
    rpc_pump(&bench->peer);
    const char *const extra[] = { "grpc-timeout", "50m", NULL };
    static const char large[400] = "x";
    const struct sl_slice key = sl_slice_str("x-bin");
    const struct sl_slice value = sl_slice_of(large, sizeof(large));
    for (size_t i = 0; i < 2; i++) {
        struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", extra, "x");
        struct sl_call *call = bench->calls[i];
        assert_int_equal(
            i == 0 ? sl_call_add_header(call, key, value) : sl_call_send_headers(call), SL_OK);
        assert_int_equal(sl_call_add_trailer(call, key, value), SL_OK);
        rpc_advance_ms(&bench->peer, 50);
        assert_log(&bench->peer, "grpc-status=4");
        rpc_stream_free(stream);
    }
}

static void a_status_of_0_says_nothing_more(void **state) /* RS-4 */
{
    struct bench *bench = *state;
    open_bench(bench);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Fine", NULL, "x");
    assert_log(&bench->peer, "content-type=application/grpc grpc-status=0 x=y end\n");
    rpc_stream_free(stream);
}

/* One upload that stalls may not stop the others. */
static void the_window_of_a_connection_is_larger_than_a_streams(void **state) /* FC-2 */
{
    struct bench *bench = *state;
    open_bench(bench);
    bench->limits.stream_window = bench->limits.connection_window;
    const struct sl_server_options options = { .struct_size = sizeof(options),
                                               .limits = &bench->limits };
    struct sl_server *server = NULL;
    assert_int_equal(sl_server_new(&options, &server), SL_INVALID_ARGUMENT);
    assert_null(server);
    assert_int_equal(sl_server_set_limits(bench->server, &bench->limits), SL_INVALID_ARGUMENT);
    bench->limits.stream_window--;
    assert_int_equal(sl_server_set_limits(bench->server, &bench->limits), SL_OK);
}

static void the_number_of_earlier_attempts_reaches_the_handler(void **state) /* RT-3, ADM-17 */
{
    struct bench *bench = *state;
    static const struct {
        const char *text;
        uint32_t attempts;
    } cases[] = { { "3", 3 }, { "0", 0 }, { "x", 0 }, { "-1", 0 }, { "99999999999", 0 } };
    open_bench(bench);
    bench->attempts = 77;
    rpc_stream_free(rpc_unary(&bench->peer, "/t.S/Look", NULL, "x"));
    assert_int_equal(bench->attempts, 0);
    assert_false(bench->has_attempts_key);
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        const char *const extra[] = { "grpc-previous-rpc-attempts", cases[i].text, NULL };
        bench->attempts = 77;
        rpc_stream_free(rpc_unary(&bench->peer, "/t.S/Look", extra, "x"));
        assert_int_equal(bench->attempts, cases[i].attempts);
        assert_true(bench->has_attempts_key);
    }
}

/* The list is what is bounded: one value may take what the other fields leave. */
static void one_value_may_fill_the_list_and_no_more(void **state) /* MD-6, ADM-1 */
{
    struct bench *bench = *state;
    static char value[9000];
    open_server(bench);
    const char *const extra[] = { "x", value, NULL };
    memset(value, 'v', 8192);
    rpc_stream_free(rpc_unary(&bench->peer, "/t.S/Look", extra, "x"));
    assert_log(&bench->peer, "grpc-status=8");
    assert_string_equal(bench->value, "");
    value[7500] = '\0';
    rpc_stream_free(rpc_unary(&bench->peer, "/t.S/Look", extra, "x"));
    assert_int_equal(strlen(bench->value), 7500);
}

static void too_many_fields_reset_the_call(void **state) /* MD-6 */
{
    struct bench *bench = *state;
    bench->limits.header_fields = 16;
    open_bench(bench);
    const char *extra[2 * 11 + 1] = { NULL };
    for (size_t i = 0; i < 10; i++) { /* 6 fields are there anyway */
        extra[2 * i] = "x";
        extra[2 * i + 1] = "v";
    }
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Look", extra, "x");
    assert_log(&bench->peer, "grpc-status=0");
    rpc_stream_free(stream);
    extra[20] = "x";
    extra[21] = "v";
    stream = rpc_unary(&bench->peer, "/t.S/Look", extra, "x");
    assert_log(&bench->peer, "closed reset 2\n"); /* INTERNAL_ERROR */
    rpc_stream_free(stream);
}

/* ---- ST-1, ST-2 ------------------------------------------------------------------------------ */

/* A request whose body is given byte by byte; freed at once, whatever became of it. */
static void
ask(struct bench *bench, const char *path, const char *const *extra, const void *body, size_t size)
{
    struct rpc_stream *stream = rpc_open(&bench->peer, path, extra);
    rpc_send_raw(stream, body, size);
    rpc_end(stream);
    rpc_pump(&bench->peer);
    rpc_stream_free(stream);
    rpc_pump(&bench->peer);
}

static void ask_with(struct bench *bench, const char *name, const char *value)
{
    const char *const extra[] = { name, value, NULL };
    ask(bench, "/t.S/Answer", extra, "\0\0\0\0\1a", 6);
}

/* Everything that is refused without a handler, or ends against its will. */
static void provoke(struct bench *bench)
{
    static char long_value[9000];
    memset(long_value, 'v', 8192);
    ask_with(bench, "x", long_value);
    ask_with(bench, "content-type", "application/grpc+json");
    ask_with(bench, "grpc-timeout", "1");
    ask_with(bench, "grpc-timeout", "0n");
    ask_with(bench, "a-bin", "!");
    ask_with(bench, ":method", "PUT");
    const char *const encoding[] = { "grpc-encoding", "snappy", NULL };
    ask(bench, "/t.S/Answer", encoding, "\1\0\0\0\1a", 6);
    ask(bench, "/t.S", NULL, "", 0);
    ask(bench, "/u.S/Answer", NULL, "", 0);
    ask(bench, "/t.S/Unknown", NULL, "", 0);
    ask(bench, "/t.S/Answer", NULL, "", 0);                      /* no message */
    ask(bench, "/t.S/Answer", NULL, "\0\0\0\0\0\0\0\0\0\0", 10); /* two */
    ask(bench, "/t.S/Answer", NULL, "\0\0\0\0\2a", 6);           /* half of one */
    ask(bench, "/t.S/Answer", NULL, "\2\0\0\0\1a", 6);           /* no such flag */
    ask(bench, "/t.S/Answer", NULL, "\1\0\0\0\1a", 6);           /* compressed with nothing */
    ask(bench, "/t.S/Answer", NULL, "\0\377\377\377\377", 5);    /* 4 GiB */
    ask(bench, "/t.S/NoReply", NULL, "\0\0\0\0\1a", 6);
    const char *const timeout[] = { "grpc-timeout", "10m", NULL };
    struct rpc_stream *late = rpc_unary(&bench->peer, "/t.S/Hang", timeout, "x");
    rpc_advance_ms(&bench->peer, 10);
    rpc_stream_free(late);
    struct rpc_stream *silent = rpc_open(&bench->peer, "/t.S/Answer", NULL);
    rpc_pump(&bench->peer);
    rpc_advance_ms(&bench->peer, 60000);
    rpc_stream_free(silent);
    sl_server_refuse_new(bench->server);
    ask(bench, "/t.S/Answer", NULL, "\0\0\0\0\1a", 6);
    struct rpc_stream *cancelled = rpc_unary(&bench->peer, "/t.S/Answer", NULL, "x");
    rpc_stream_free(cancelled);
}

static void the_library_has_statuses_of_its_own_and_no_others(void **state) /* ST-1 */
{
    struct bench *bench = *state;
    static const enum sl_status handlers_own[] = {
        SL_INVALID_ARGUMENT, SL_NOT_FOUND,    SL_ALREADY_EXISTS, SL_FAILED_PRECONDITION,
        SL_ABORTED,          SL_OUT_OF_RANGE, SL_DATA_LOSS,
    };
    static const enum sl_status seen[] = { SL_DEADLINE_EXCEEDED, SL_RESOURCE_EXHAUSTED,
                                           SL_UNIMPLEMENTED, SL_INTERNAL, SL_UNAVAILABLE };
    open_server(bench);
    provoke(bench);
    const struct sl_server_stats stats = stats_of(bench->server);
    for (size_t i = 0; i < SL_COUNT(handlers_own); i++) {
        assert_int_equal(stats.calls_by_status[handlers_own[i]], 0);
    }
    for (size_t i = 0; i < SL_COUNT(seen); i++) {
        assert_true(stats.calls_by_status[seen[i]] > 0);
    }
    assert_int_equal(stats.calls_by_status[SL_OK], 0);
}

static void every_status_of_a_handler_arrives(void **state) /* ST-2 */
{
    struct bench *bench = *state;
    open_bench(bench);
    for (int code = 0; code <= 16; code++) {
        const char text[] = { (char)('a' + code), '\0' };
        char expected[32];
        (void)snprintf(expected, sizeof(expected), "grpc-status=%d end\n", code);
        struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Answer", NULL, text);
        assert_log(&bench->peer, expected);
        assert_int_equal(stats_of(bench->server).calls_by_status[code], 1);
        rpc_stream_free(stream);
    }
}

/* ---- FC-7 ------------------------------------------------------------------------------------ */

static void an_event_asks_for_output_at_once(void **state) /* FC-7 */
{
    struct bench *bench = *state;
    static uint8_t room[H2_ROOM_BYTES];
    open_bench(bench);
    struct rpc_stream *streams[CALLS];
    for (size_t i = 0; i < CALLS; i++) {
        streams[i] = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "x");
        assert_int_equal(sl_call_send_headers(bench->calls[i]), SL_OK);
    }
    rpc_pump(&bench->peer);
    const size_t n_output = bench->peer.n_output;
    for (size_t i = 0; i < CALLS; i++) {
        assert_int_equal(sl_call_send_bytes(bench->calls[i], sl_slice_str("event")), SL_OK);
        assert_true(bench->peer.n_output > n_output); /* not after a delay, nor with the next */
    }
    /* What is ready leaves together. */
    const size_t n = sl_conn_pull(bench->peer.conn, room, sizeof(room), bench->peer.now_ns);
    assert_int_equal(h2_count_frames(room, n, 0), CALLS);
    assert_int_equal(sl_conn_pull(bench->peer.conn, room, sizeof(room), bench->peer.now_ns), 0);
    for (size_t i = 0; i < CALLS; i++) {
        rpc_stream_free(streams[i]);
    }
}

/* ---- CM-1, CM-2, CM-4: the library's own numbers ----------------------------------------------
 */

static void ping(struct bench *bench)
{
    feed(bench, "\0\0\10\6\0\0\0\0\0xxxxxxxx", 17);
    rpc_pump(&bench->peer);
}

/* True: the client was told that it sends too many PINGs. */
static bool is_told_of_pings(struct bench *bench)
{
    return strstr(rpc_log(&bench->peer), "too_many_pings") != NULL;
}

/* How many PINGs with this gap the server bears, of ten. */
static int n_pings(const struct sl_server_options *options, uint64_t gap_ms, bool has_call)
{
    struct bench bench = { .n_calls = 0 };
    assert_int_equal(sl_server_new(options, &bench.server), SL_OK);
    add_raw(bench.server, "/t.S/Hang", SL_SERVER_STREAMING, hang, &bench);
    rpc_peer_open(&bench.peer, bench.server, NULL);
    struct rpc_stream *stream = has_call ? rpc_unary(&bench.peer, "/t.S/Hang", NULL, "x") : NULL;
    int n = 0;
    for (; n < 10; n++) {
        ping(&bench);
        if (is_told_of_pings(&bench)) {
            break;
        }
        bench.peer.now_ns += gap_ms * SL_NS_PER_MS;
    }
    rpc_stream_free(stream);
    rpc_peer_close(&bench.peer);
    for (size_t i = 0; i < bench.n_calls; i++) {
        sl_call_finishf(bench.calls[i], SL_OK, "late");
    }
    bench.server = sl_server_free(bench.server);
    return n;
}

static void the_library_allows_the_pings_of_grfc_a8(void **state) /* CM-2 */
{
    (void)state;
    const struct sl_server_options own = { .struct_size = sizeof(own) };
    assert_int_equal(n_pings(&own, 300000, true), 10);
    assert_int_equal(n_pings(&own, 299999, true), 5); /* every second one is a strike */
    assert_int_equal(n_pings(&own, 75000, true), 3);  /* each but the first */
    assert_int_equal(n_pings(&own, 7200000, false), 10);
    assert_int_equal(n_pings(&own, 7199999, false), 5);
}

static void sluiced_allows_a_ping_every_ten_seconds(void **state) /* CM-2 */
{
    struct bench *bench = *state;
    const struct sl_server_options sluiced = { .struct_size = sizeof(sluiced),
                                               .limits = &bench->limits,
                                               .allow_pings_without_calls = true };
    for (int has_call = 0; has_call <= 1; has_call++) {
        assert_int_equal(n_pings(&sluiced, 10000, has_call), 10);
        assert_int_equal(n_pings(&sluiced, 9999, has_call), 5);
    }
}

static void the_library_has_the_numbers_of_grpc(void **state) /* CM-1, CM-4, NG-6 */
{
    struct bench *bench = *state;
    static uint8_t room[H2_ROOM_BYTES];
    sl_server_default_limits(&bench->limits);
    open_server(bench);
    const size_t n = sl_conn_pull(bench->peer.conn, room, sizeof(room), bench->peer.now_ns);
    size_t size = 0;
    const uint8_t *settings = h2_find_frame(room, n, 4, &size);
    assert_non_null(settings);
    bool has_limit = false;
    for (size_t at = 0; at + 6 <= size; at += 6) {
        has_limit |= memcmp(settings + at, "\0\3\0\0\1\0", 6) == 0;
    }
    assert_true(has_limit);
    assert_int_equal(bench->limits.keepalive_time, 2 * 3600 * 1000);
    assert_int_equal(bench->limits.keepalive_timeout, 20 * 1000);
    assert_int_equal(bench->limits.connection_age, 0);
    assert_int_equal(bench->limits.connection_idle, 0);
    assert_int_equal(bench->limits.connection_grace, 0);
}

/* Connections that began together do not end together. */
static void ages_are_spread_by_a_tenth(void **state) /* CM-4 */
{
    struct bench *bench = *state;
    const uint64_t age_ns = 100 * SL_NS_PER_S;
    uint64_t first_ns = SL_NEVER_NS;
    uint64_t last_ns = 0;
    bench->limits.connection_age = age_ns / SL_NS_PER_MS;
    open_bench(bench);
    for (int i = 0; i < 200; i++) {
        rpc_peer_close(&bench->peer);
        rpc_peer_open(&bench->peer, bench->server, NULL);
        const struct sl_conn *conn = bench->peer.conn;
        const uint64_t after_ns = conn->age_due_ns - conn->created_ns;
        first_ns = after_ns < first_ns ? after_ns : first_ns;
        last_ns = after_ns > last_ns ? after_ns : last_ns;
    }
    assert_in_range(first_ns, age_ns / 10 * 9, age_ns / 100 * 95);
    assert_in_range(last_ns, age_ns / 100 * 105, age_ns / 10 * 11);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(every_end_of_a_stream_is_told_once),
        CASE(a_deadline_counts_from_the_end_of_the_header_block),
        CASE(a_deadline_takes_the_metadata_along),
        CASE(metadata_that_the_client_does_not_take_is_left_out),
        CASE(a_status_of_0_says_nothing_more),
        CASE(the_window_of_a_connection_is_larger_than_a_streams),
        CASE(the_number_of_earlier_attempts_reaches_the_handler),
        CASE(one_value_may_fill_the_list_and_no_more),
        CASE(too_many_fields_reset_the_call),
        CASE(the_library_has_statuses_of_its_own_and_no_others),
        CASE(every_status_of_a_handler_arrives),
        CASE(an_event_asks_for_output_at_once),
        CASE(the_library_allows_the_pings_of_grfc_a8),
        CASE(sluiced_allows_a_ping_every_ten_seconds),
        CASE(the_library_has_the_numbers_of_grpc),
        CASE(ages_are_spread_by_a_tenth),
    };
    return cmocka_run_group_tests_name("rpc_rules", tests, NULL, NULL);
}
