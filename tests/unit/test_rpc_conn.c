/* Who ends a call, and when: resets, losses, deadlines, the timers of a connection, the drain. */
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
#include "tests/fake/fake_loop.h"
#include "tests/unit/test_rpc_rig.h"

struct bench {
    struct sl_server *server;
    struct rpc_peer peer;
    struct sl_limits limits;
    struct sl_call *call;
    size_t n_started, n_ended, n_statuses;
    struct sl_call_end end;
    enum sl_status last_status;
    bool finishes; /* on_ended finishes at once, with ABORTED */
};

static void on_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    struct bench *bench = user_data;
    assert_ptr_equal(call, bench->call);
    bench->n_ended++;
    bench->end = *end;
    if (bench->finishes) {
        bench->call = NULL;
        sl_call_finishf(call, SL_ABORTED, "by myself");
    }
}

static enum sl_status hang(struct sl_call *call, struct sl_slice request, void *user_data)
{
    static const struct sl_call_callbacks callbacks = { .on_ended = on_ended };
    (void)request;
    struct bench *bench = user_data;
    bench->n_started++;
    bench->call = call;
    sl_call_set_callbacks(call, &callbacks, bench);
    return SL_PENDING;
}

static void note_end(struct sl_call *call, enum sl_status status, void *user_data)
{
    (void)call;
    struct bench *bench = user_data;
    bench->n_statuses++;
    bench->last_status = status;
}

static void open_bench(struct bench *bench)
{
    const struct sl_interceptor watcher = { .on_end = note_end, .user_data = bench };
    bench->server = new_server(&bench->limits);
    add_raw(bench->server, "/t.S/Hang", SL_SERVER_STREAMING, hang, bench);
    add_raw(bench->server, "/t.S/Chat", SL_BIDIRECTIONAL, hang, bench);
    assert_int_equal(sl_server_add_interceptor(bench->server, &watcher), SL_OK);
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

static void assert_ended(struct bench *bench, enum sl_call_end_kind kind, enum sl_status status)
{
    assert_int_equal(bench->n_ended, 1);
    assert_int_equal(bench->end.kind, kind);
    assert_int_equal(bench->n_statuses, 1);
    assert_int_equal(bench->last_status, status);
}

static void finish(struct bench *bench)
{
    struct sl_call *call = bench->call;
    bench->call = NULL;
    sl_call_finishf(call, SL_INTERNAL, "late");
    const struct sl_server_stats stats = stats_of(bench->server);
    assert_int_equal(stats.calls_running, 0);
    assert_int_equal(stats.calls_started, stats.calls_finished);
}

/* A message that fills the client's window and stops in its middle. */
static void block_stream(struct bench *bench)
{
    static uint8_t block[400000];
    assert_int_equal(sl_call_send_bytes(bench->call, sl_slice_of(block, sizeof(block))), SL_OK);
    rpc_pump(&bench->peer);
}

static void open_slow_reader(struct bench *bench)
{
    open_bench(bench);
    bench->peer.client->keeps_credit = true;
}

/* ---- By the client --------------------------------------------------------------------------- */

static void reset_is_told_with_its_code(void **state) /* CN-1, CN-5 */
{
    struct bench *bench = *state;
    open_bench(bench);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "x");
    sl_h2_stream_reset(stream->stream, SL_H2_ENHANCE_YOUR_CALM);
    rpc_pump(&bench->peer);
    assert_ended(bench, SL_CALL_RESET, SL_CANCELLED);
    assert_int_equal(bench->end.code, SL_H2_ENHANCE_YOUR_CALM);
    assert_true(sl_call_is_ended(bench->call));
    assert_int_equal(sl_call_send_bytes(bench->call, sl_slice_str("x")), SL_CANCELLED);
    finish(bench);
    assert_int_equal(bench->n_statuses, 1);
    rpc_stream_free(stream);
}

static void reset_in_the_same_read_starts_nothing(void **state) /* AT-1 */
{
    struct bench *bench = *state;
    open_bench(bench);
    static struct h2_wire wire;
    uint8_t block[256];
    h2_wire_clear(&wire);
    size_t n = h2_hpack(block, ":method", "POST");
    n += h2_hpack(block + n, ":scheme", "http");
    n += h2_hpack(block + n, ":path", "/t.S/Hang");
    n += h2_hpack(block + n, ":authority", "x");
    n += h2_hpack(block + n, "content-type", "application/grpc");
    h2_wire_frame(&wire, 1, 4, 1, block, n);
    h2_wire_frame(&wire, 0, 1, 1, "\0\0\0\0\0", 5);
    h2_wire_reset(&wire, 1, 8);
    assert_int_equal(
        sl_conn_feed(
            bench->peer.conn, sl_slice_of(wire.bytes, wire.size), bench->peer.now_ns, NULL),
        SL_OK);
    assert_int_equal(bench->n_started, 0);
    assert_int_equal(bench->n_statuses, 1);
}

static void lost_connection_ends_every_call_before_it_goes(void **state) /* CN-2, NG-19 */
{
    struct bench *bench = *state;
    open_bench(bench);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "x");
    rpc_stream_free(stream);
    sl_conn_lost(bench->peer.conn);
    assert_ended(bench, SL_CALL_LOST, SL_CANCELLED);
    assert_true(sl_conn_wants_close(bench->peer.conn));
    rpc_peer_close(&bench->peer);
    assert_int_equal(sl_call_send_bytes(bench->call, sl_slice_str("x")), SL_UNAVAILABLE);
    assert_string_equal(sl_call_peer(bench->call), "memory"); /* valid until it finishes */
    finish(bench);
}

static void half_close_is_no_cancellation(void **state) /* CN-3 */
{
    struct bench *bench = *state;
    open_bench(bench);
    struct rpc_stream *stream = rpc_open(&bench->peer, "/t.S/Chat", NULL);
    rpc_end(stream);
    rpc_pump(&bench->peer);
    assert_int_equal(bench->n_started, 1);
    assert_int_equal(bench->n_ended, 0);
    struct sl_slice message;
    assert_int_equal(sl_call_recv_bytes(bench->call, &message), SL_END);
    finish(bench);
    rpc_pump(&bench->peer);
    assert_log(&bench->peer, "grpc-status=13 grpc-message=late end");
    rpc_stream_free(stream);
}

/* ---- Deadlines ------------------------------------------------------------------------------- */

static void deadline_ends_the_stream_without_the_handler(void **state) /* DL-4 */
{
    struct bench *bench = *state;
    open_bench(bench);
    const char *const extra[] = { "grpc-timeout", "50m", NULL };
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", extra, "x");
    uint64_t timeout_ns = 0;
    assert_true(sl_call_timeout_ns(bench->call, &timeout_ns));
    assert_int_equal(timeout_ns, 50 * SL_NS_PER_MS);
    rpc_advance_ms(&bench->peer, 49);
    assert_int_equal(sl_call_remaining_ns(bench->call), SL_NS_PER_MS);
    assert_int_equal(bench->n_ended, 0);
    assert_int_equal(
        sl_conn_due_ns(bench->peer.conn), bench->peer.now_ns + SL_NS_PER_MS); /* DL-5 */
    rpc_advance_ms(&bench->peer, 1);
    assert_ended(bench, SL_CALL_DEADLINE, SL_DEADLINE_EXCEEDED);
    assert_log(&bench->peer, "response :status=200 content-type=application/grpc grpc-status=4");
    assert_int_equal(sl_call_remaining_ns(bench->call), 0);
    assert_int_equal(sl_call_send_bytes(bench->call, sl_slice_str("x")), SL_DEADLINE_EXCEEDED);
    finish(bench);
    rpc_stream_free(stream);
}

static void deadline_fires_while_the_request_is_uploading(void **state) /* DL-3 */
{
    struct bench *bench = *state;
    open_bench(bench);
    const char *const extra[] = { "grpc-timeout", "1S", NULL };
    struct rpc_stream *stream = rpc_open(&bench->peer, "/t.S/Hang", extra);
    rpc_send_raw(stream, "\0\0\0\0\5ab", 7);
    rpc_pump(&bench->peer);
    rpc_advance_ms(&bench->peer, 1000);
    assert_log(&bench->peer, "grpc-status=4");
    assert_true(stream->is_closed);
    assert_int_equal(bench->n_started, 0);
    rpc_stream_free(stream);
}

static void deadline_inside_a_message_resets(void **state) /* DL-3, DL-4 */
{
    struct bench *bench = *state;
    open_slow_reader(bench);
    const char *const extra[] = { "grpc-timeout", "1S", NULL };
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", extra, "x");
    block_stream(bench);
    rpc_advance_ms(&bench->peer, 1000);
    assert_log(&bench->peer, "1 closed reset 8\n");
    assert_ended(bench, SL_CALL_DEADLINE, SL_DEADLINE_EXCEEDED);
    finish(bench);
    rpc_stream_free(stream);
}

static void deadline_at_a_border_sends_trailers(void **state) /* DL-4 */
{
    struct bench *bench = *state;
    open_bench(bench);
    const char *const extra[] = { "grpc-timeout", "1S", NULL };
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", extra, "x");
    assert_int_equal(sl_call_send_bytes(bench->call, sl_slice_str("one")), SL_OK);
    rpc_pump(&bench->peer);
    rpc_advance_ms(&bench->peer, 1000);
    assert_log(&bench->peer, "1 trailers grpc-status=4 grpc-message=the deadline has passed end");
    finish(bench);
    rpc_stream_free(stream);
}

static void deadline_holds_after_the_handler_finished(void **state) /* DL-3, CN-5 */
{
    struct bench *bench = *state;
    open_slow_reader(bench);
    const char *const extra[] = { "grpc-timeout", "1S", NULL };
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", extra, "x");
    block_stream(bench);
    finish(bench);
    rpc_advance_ms(&bench->peer, 1000);
    assert_log(&bench->peer, "1 closed reset 8\n");
    assert_int_equal(bench->n_ended, 0);
    assert_int_equal(bench->n_statuses, 1);
    const struct sl_server_stats stats = stats_of(bench->server);
    assert_int_equal(stats.calls_finished, 1); /* CN-5: once, as the handler said */
    assert_int_equal(stats.calls_by_status[SL_DEADLINE_EXCEEDED], 0);
    rpc_stream_free(stream);
}

/* ---- Timers ---------------------------------------------------------------------------------- */

static void stalled_stream_ends_inside_a_message_with_a_reset(void **state) /* FC-9 */
{
    struct bench *bench = *state;
    open_slow_reader(bench);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "x");
    block_stream(bench);
    for (int i = 0; i < 3; i++) {
        rpc_advance_ms(&bench->peer, 19999);
    }
    assert_int_equal(bench->n_ended, 0);
    rpc_advance_ms(&bench->peer, 3);
    assert_log(&bench->peer, "1 closed reset 11\n");
    assert_ended(bench, SL_CALL_LOST, SL_RESOURCE_EXHAUSTED);
    finish(bench);
    rpc_stream_free(stream);
}

static void stalled_stream_ends_at_a_border_with_trailers(void **state) /* FC-9 */
{
    struct bench *bench = *state;
    bench->limits.keepalive_time = 600000;
    open_slow_reader(bench);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "x");
    static uint8_t block[300000];
    const size_t window = (size_t)bench->peer.client->limits.stream_window;
    assert_int_equal(sl_call_send_bytes(bench->call, sl_slice_of(block, window - 5)), SL_OK);
    rpc_pump(&bench->peer);
    assert_int_equal(sl_call_send_bytes(bench->call, sl_slice_str("blocked")), SL_OK);
    rpc_advance_ms(&bench->peer, 60000);
    assert_log(
        &bench->peer, "1 trailers grpc-status=8 grpc-message=the client does not read its stream "
                      "grpc-status-details-bin=");
    assert_ended(bench, SL_CALL_LOST, SL_RESOURCE_EXHAUSTED);
    finish(bench);
    rpc_stream_free(stream);
}

static void quiet_stream_is_not_stalled(void **state)
{
    struct bench *bench = *state;
    open_bench(bench);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "x");
    assert_int_equal(sl_call_send_bytes(bench->call, sl_slice_str("one")), SL_OK);
    rpc_pump(&bench->peer);
    for (int i = 0; i < 20; i++) {
        rpc_advance_ms(&bench->peer, 20000);
    }
    assert_int_equal(bench->n_ended, 0);
    finish(bench);
    rpc_pump(&bench->peer);
    rpc_stream_free(stream);
}

static void silence_inside_a_request_message_ends_the_call(void **state) /* CM-13, AT-14 */
{
    struct bench *bench = *state;
    bench->limits.message_gap = 1000;
    open_bench(bench);
    struct rpc_stream *stream = rpc_open(&bench->peer, "/t.S/Hang", NULL);
    rpc_send_raw(stream, "\0\0\0\0\5", 5);
    rpc_pump(&bench->peer);
    rpc_advance_ms(&bench->peer, 900);
    rpc_send_raw(stream, "a", 1);
    rpc_pump(&bench->peer);
    rpc_advance_ms(&bench->peer, 999);
    assert_false(stream->is_closed);
    rpc_advance_ms(&bench->peer, 1);
    assert_log(&bench->peer, "grpc-status=8 grpc-message=silence inside a request message");
    assert_true(stream->is_closed);
    rpc_stream_free(stream);
    struct rpc_stream *chat = rpc_open(&bench->peer, "/t.S/Chat", NULL);
    rpc_send(chat, "whole", 5); /* between messages there is no timer */
    rpc_pump(&bench->peer);
    rpc_advance_ms(&bench->peer, 5000);
    assert_false(chat->is_closed);
    finish(bench);
    rpc_pump(&bench->peer);
    rpc_stream_free(chat);
}

static void silence_before_the_request_is_complete_ends_the_call(void **state) /* CM-13, NG-8 */
{
    struct bench *bench = *state;
    bench->limits.message_gap = 1000;
    open_bench(bench);
    struct rpc_stream *stream = rpc_open(&bench->peer, "/t.S/Hang", NULL);
    rpc_pump(&bench->peer);
    rpc_advance_ms(&bench->peer, 999);
    assert_false(stream->is_closed);
    rpc_send(stream, "whole", 5); /* and no END_STREAM */
    rpc_pump(&bench->peer);
    rpc_advance_ms(&bench->peer, 999);
    assert_false(stream->is_closed);
    rpc_advance_ms(&bench->peer, 1);
    assert_log(&bench->peer, "grpc-status=8 grpc-message=silence inside a request message");
    assert_int_equal(bench->n_started, 0);
    rpc_stream_free(stream);
    stream = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "x");
    rpc_advance_ms(&bench->peer, 5000); /* now it is the handler's turn */
    assert_int_equal(bench->n_ended, 0);
    finish(bench);
    rpc_pump(&bench->peer);
    rpc_stream_free(stream);
}

static void silence_is_ours_while_the_handler_holds_a_message(void **state) /* CM-13 */
{
    struct bench *bench = *state;
    bench->limits.message_gap = 1000;
    open_bench(bench);
    struct rpc_stream *chat = rpc_open(&bench->peer, "/t.S/Chat", NULL);
    rpc_send(chat, "whole", 5);
    rpc_pump(&bench->peer);
    struct sl_slice message;
    assert_int_equal(sl_call_recv_bytes(bench->call, &message), SL_OK);
    rpc_send_raw(chat, "\0\0\0\0\5ab", 7);
    rpc_pump(&bench->peer);
    rpc_advance_ms(&bench->peer, 5000);
    assert_int_equal(bench->n_ended, 0);
    assert_int_equal(sl_call_recv_bytes(bench->call, &message), SL_AGAIN);
    rpc_advance_ms(&bench->peer, 1000);
    assert_ended(bench, SL_CALL_LOST, SL_RESOURCE_EXHAUSTED);
    finish(bench);
    rpc_stream_free(chat);
}

static void silent_peer_is_asked_and_then_given_up(void **state) /* CM-1 */
{
    struct bench *bench = *state;
    bench->limits.keepalive_time = 1000;
    bench->limits.keepalive_timeout = 500;
    open_bench(bench);
    rpc_advance_ms(&bench->peer, 10000);
    assert_null(strstr(rpc_log(&bench->peer), "goaway")); /* no call is open: no PING so soon */
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "x");
    for (int i = 0; i < 10; i++) {
        rpc_advance_ms(&bench->peer, 1000); /* the client answers each PING */
    }
    assert_int_equal(bench->n_ended, 0);
    static uint8_t room[H2_ROOM_BYTES];
    bench->peer.now_ns += 1000 * SL_NS_PER_MS;
    assert_int_equal(
        sl_conn_feed(bench->peer.conn, (struct sl_slice){ 0 }, bench->peer.now_ns, NULL), SL_OK);
    const size_t n = sl_conn_pull(bench->peer.conn, room, sizeof(room), bench->peer.now_ns);
    assert_int_equal(h2_count_frames(room, n, 6), 1); /* and it is lost on the way */
    bench->peer.now_ns += 500 * SL_NS_PER_MS;
    (void)!sl_conn_feed(bench->peer.conn, (struct sl_slice){ 0 }, bench->peer.now_ns, NULL);
    assert_ended(bench, SL_CALL_LOST, SL_CANCELLED);
    assert_true(sl_conn_wants_close(bench->peer.conn));
    rpc_stream_free(stream);
    finish(bench);
}

static void connection_without_preface_is_closed(void **state) /* CM-13 */
{
    struct bench *bench = *state;
    open_bench(bench);
    struct sl_conn *conn = NULL;
    assert_int_equal(sl_conn_new(bench->server, NULL, &conn), SL_OK);
    const uint64_t now_ns = bench->peer.now_ns;
    const struct sl_slice nothing = { 0 };
    assert_int_equal(sl_conn_feed(conn, sl_slice_str("PRI * HTTP"), now_ns, NULL), SL_OK);
    assert_int_equal(sl_conn_due_ns(conn), now_ns + 10000 * SL_NS_PER_MS);
    assert_int_equal(sl_conn_feed(conn, nothing, now_ns + 9999 * SL_NS_PER_MS, NULL), SL_OK);
    assert_false(sl_conn_wants_close(conn));
    (void)!sl_conn_feed(conn, nothing, now_ns + 10000 * SL_NS_PER_MS, NULL);
    assert_true(sl_conn_wants_close(conn));
    conn = sl_conn_free(conn);
}

static void unfinished_header_block_closes_the_connection(void **state) /* AT-4, CM-13 */
{
    struct bench *bench = *state;
    open_bench(bench);
    static struct h2_wire wire;
    uint8_t block[64];
    h2_wire_clear(&wire);
    h2_wire_frame(&wire, 1, 0, 1, block, h2_hpack(block, ":method", "POST"));
    const struct sl_slice nothing = { 0 };
    struct sl_conn *conn = bench->peer.conn;
    const uint64_t now_ns = bench->peer.now_ns + 3000 * SL_NS_PER_MS;
    assert_int_equal(sl_conn_feed(conn, sl_slice_of(wire.bytes, wire.size), now_ns, NULL), SL_OK);
    assert_int_equal(sl_conn_feed(conn, nothing, now_ns + 9999 * SL_NS_PER_MS, NULL), SL_OK);
    assert_false(sl_conn_wants_close(conn));
    (void)!sl_conn_feed(conn, nothing, now_ns + 10000 * SL_NS_PER_MS, NULL);
    assert_true(sl_conn_wants_close(conn));
}

/* Each read ends inside a header block, as those of a busy client may, but each time inside another
 * one. */
static void header_blocks_one_after_the_other_have_their_own_time(void **state) /* CM-13 */
{
    struct bench *bench = *state;
    static struct h2_wire wire;
    const size_t cut = 12; /* the frame's head, and little more */
    open_bench(bench);
    h2_wire_clear(&wire);
    h2_wire_request(&wire, 1, true);
    const size_t size = wire.size;
    for (uint32_t i = 1; i < 6; i++) {
        h2_wire_request(&wire, 1 + 2 * i, true);
    }
    assert_int_equal(wire.size, 6 * size);
    struct sl_conn *conn = bench->peer.conn;
    uint64_t now_ns = bench->peer.now_ns;
    for (size_t at = 0; at + size < wire.size; at += size) {
        const struct sl_slice bytes =
            sl_slice_of(wire.bytes + at + (at == 0 ? 0 : cut), size + (at == 0 ? cut : 0));
        now_ns += 4000 * SL_NS_PER_MS;
        assert_int_equal(sl_conn_feed(conn, bytes, now_ns, NULL), SL_OK);
        assert_false(sl_conn_wants_close(conn));
    }
    const struct sl_slice nothing = { 0 };
    (void)!sl_conn_feed(conn, nothing, now_ns + 9999 * SL_NS_PER_MS, NULL);
    assert_false(sl_conn_wants_close(conn));
    (void)!sl_conn_feed(conn, nothing, now_ns + 10000 * SL_NS_PER_MS, NULL);
    assert_true(sl_conn_wants_close(conn));
}

static void old_connection_is_told_to_go(void **state) /* CM-4 */
{
    struct bench *bench = *state;
    bench->limits.connection_age = 100000;
    open_bench(bench);
    rpc_advance_ms(&bench->peer, 89999);
    assert_string_equal(rpc_log(&bench->peer), "");
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "x");
    rpc_advance_ms(&bench->peer, 20001);
    assert_log(&bench->peer, "goaway 0 max_age");
    assert_false(sl_conn_wants_close(bench->peer.conn));
    assert_int_equal(bench->n_ended, 0); /* calls go on */
    finish(bench);
    rpc_pump(&bench->peer);
    assert_log(&bench->peer, "grpc-status=13");
    assert_true(sl_conn_wants_close(bench->peer.conn));
    rpc_stream_free(stream);
}

static void old_connection_is_closed_after_its_grace(void **state) /* CM-4 */
{
    struct bench *bench = *state;
    bench->limits.connection_age = 10000;
    bench->limits.connection_grace = 3000;
    open_bench(bench);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "x");
    rpc_advance_ms(&bench->peer, 11001);
    assert_log(&bench->peer, "goaway 0 max_age");
    rpc_advance_ms(&bench->peer, 2999);
    assert_int_equal(bench->n_ended, 0);
    rpc_advance_ms(&bench->peer, 1);
    assert_ended(bench, SL_CALL_LOST, SL_CANCELLED);
    assert_true(sl_conn_wants_close(bench->peer.conn));
    finish(bench);
    rpc_stream_free(stream);
}

static void idle_connection_is_told_to_go(void **state) /* CM-4 */
{
    struct bench *bench = *state;
    bench->limits.connection_idle = 5000;
    open_bench(bench);
    rpc_advance_ms(&bench->peer, 4000);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "x");
    rpc_advance_ms(&bench->peer, 20000); /* it has a call */
    finish(bench);
    rpc_pump(&bench->peer);
    rpc_advance_ms(&bench->peer, 4999);
    assert_null(strstr(rpc_log(&bench->peer), "goaway"));
    static uint8_t room[H2_ROOM_BYTES];
    size_t n = 0;
    for (uint64_t ms = 1; ms <= 5000; ms += 4999) { /* the first GOAWAY and its PING are lost */
        bench->peer.now_ns += ms * SL_NS_PER_MS;
        (void)!sl_conn_feed(bench->peer.conn, (struct sl_slice){ 0 }, bench->peer.now_ns, NULL);
        n = sl_conn_pull(bench->peer.conn, room, sizeof(room), bench->peer.now_ns);
    }
    size_t size = 0;
    const uint8_t *goaway = h2_find_frame(room, n, 7, &size);
    assert_non_null(goaway);
    assert_memory_equal(goaway + 8, "max_idle", 8);
    assert_true(sl_conn_wants_close(bench->peer.conn));
    rpc_stream_free(stream);
}

static void silent_peer_without_calls_is_asked_too(void **state) /* CM-1 */
{
    struct bench *bench = *state;
    bench->limits.keepalive_idle = 60000;
    bench->limits.keepalive_timeout = 500;
    bench->limits.connection_age = 0;
    open_bench(bench);
    static uint8_t room[H2_ROOM_BYTES];
    bench->peer.now_ns += 59999 * SL_NS_PER_MS;
    (void)!sl_conn_feed(bench->peer.conn, (struct sl_slice){ 0 }, bench->peer.now_ns, NULL);
    assert_int_equal(sl_conn_pull(bench->peer.conn, room, sizeof(room), bench->peer.now_ns), 0);
    bench->peer.now_ns += SL_NS_PER_MS;
    (void)!sl_conn_feed(bench->peer.conn, (struct sl_slice){ 0 }, bench->peer.now_ns, NULL);
    const size_t n = sl_conn_pull(bench->peer.conn, room, sizeof(room), bench->peer.now_ns);
    assert_int_equal(h2_count_frames(room, n, 6), 1);
    bench->peer.now_ns += 500 * SL_NS_PER_MS;
    (void)!sl_conn_feed(bench->peer.conn, (struct sl_slice){ 0 }, bench->peer.now_ns, NULL);
    assert_true(sl_conn_wants_close(bench->peer.conn));
}

/* ---- Drain ----------------------------------------------------------------------------------- */

static void drain_takes_two_steps(void **state) /* CM-5 */
{
    struct bench *bench = *state;
    open_bench(bench);
    struct rpc_stream *first = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "x");
    static uint8_t room[H2_ROOM_BYTES];
    sl_conn_drain(bench->peer.conn, 60000);
    assert_true(bench->peer.n_output > 0);
    const size_t n = sl_conn_pull(bench->peer.conn, room, sizeof(room), bench->peer.now_ns);
    size_t size = 0;
    const uint8_t *goaway = h2_find_frame(room, n, 7, &size);
    assert_non_null(goaway);
    assert_memory_equal(goaway, "\x7F\xFF\xFF\xFF\0\0\0\0", 8);
    assert_int_equal(h2_count_frames(room, n, 6), 1);
    struct sl_call *one = bench->call;
    struct rpc_stream *second =
        rpc_unary(&bench->peer, "/t.S/Hang", NULL, "x"); /* still accepted */
    assert_int_equal(bench->n_started, 2);
    assert_int_equal(h2_side_feed(bench->peer.client, room, n), SL_OK);
    rpc_pump(&bench->peer); /* the PING is answered: the second GOAWAY comes */
    const char *log = rpc_log(&bench->peer);
    assert_non_null(strstr(log, "goaway 0 \ngoaway 0 drain\n"));
    assert_int_equal(bench->n_ended, 0);
    sl_call_finishf(one, SL_OK, "%s", "");
    finish(bench);
    rpc_pump(&bench->peer);
    assert_true(sl_conn_wants_close(bench->peer.conn));
    rpc_stream_free(first);
    rpc_stream_free(second);
}

static void quiet_connection_takes_calls_until_it_has_heard_of_the_drain(void **state) /* CM-5 */
{
    struct bench *bench = *state;
    open_bench(bench);
    static uint8_t room[H2_ROOM_BYTES];
    sl_conn_drain(bench->peer.conn, 60000);
    while (sl_conn_pull(bench->peer.conn, room, sizeof(room), bench->peer.now_ns) > 0) {
        /* on its way, and crossed by a call */
    }
    assert_false(sl_conn_wants_close(bench->peer.conn));
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "x");
    assert_int_equal(bench->n_started, 1);
    finish(bench);
    rpc_pump(&bench->peer);
    assert_log(&bench->peer, "grpc-status=13");
    assert_false(sl_conn_wants_close(bench->peer.conn));
    rpc_advance_ms(&bench->peer, 5000);
    assert_log(&bench->peer, "goaway 0 drain");
    assert_true(sl_conn_wants_close(bench->peer.conn));
    rpc_stream_free(stream);
}

static void unanswered_ping_delays_the_drain_by_five_seconds(void **state) /* CM-5 */
{
    struct bench *bench = *state;
    open_bench(bench);
    static uint8_t room[H2_ROOM_BYTES];
    sl_conn_drain(bench->peer.conn, 60000);
    (void)sl_conn_pull(bench->peer.conn, room, sizeof(room), bench->peer.now_ns); /* lost */
    assert_false(sl_conn_wants_close(bench->peer.conn));
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_drain_ping);
    rpc_advance_ms(&bench->peer, 4999);
    assert_false(sl_conn_wants_close(bench->peer.conn));
    rpc_advance_ms(&bench->peer, 1);
    assert_true(sl_conn_wants_close(bench->peer.conn));
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_drain_ping), n_before + 1);
}

static void handler_that_finishes_in_its_last_second_has_its_own_status(void **state) /* CM-6 */
{
    struct bench *bench = *state;
    bench->finishes = true;
    open_bench(bench);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "x");
    sl_conn_drain(bench->peer.conn, 1000);
    rpc_pump(&bench->peer);
    rpc_advance_ms(&bench->peer, 1000);
    assert_log(&bench->peer, "grpc-status=10 grpc-message=by myself");
    assert_ended(bench, SL_CALL_DRAIN, SL_ABORTED);
    assert_true(sl_conn_wants_close(bench->peer.conn));
    rpc_stream_free(stream);
}

static void handler_that_does_not_is_ended_with_unavailable(void **state) /* CM-6 */
{
    struct bench *bench = *state;
    open_bench(bench);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "x");
    struct rpc_stream *upload = rpc_open(&bench->peer, "/t.S/Hang", NULL);
    sl_conn_drain(bench->peer.conn, 0);
    rpc_pump(&bench->peer);
    rpc_advance_ms(&bench->peer, 0);
    assert_int_equal(bench->n_ended, 1);
    assert_int_equal(bench->end.kind, SL_CALL_DRAIN);
    assert_true(upload->is_closed); /* it never started */
    assert_false(stream->is_closed);
    assert_int_equal(sl_call_send_bytes(bench->call, sl_slice_str("last words")), SL_OK);
    rpc_advance_ms(&bench->peer, 1000);
    assert_log(&bench->peer, "1 trailers grpc-status=14 grpc-message=the server is shutting down");
    assert_int_equal(bench->n_ended, 1);
    assert_int_equal(bench->last_status, SL_UNAVAILABLE);
    assert_true(sl_conn_wants_close(bench->peer.conn));
    finish(bench);
    rpc_stream_free(stream);
    rpc_stream_free(upload);
}

static void drain_ends_although_the_client_reads_nothing(void **state)
{
    struct bench *bench = *state;
    open_slow_reader(bench);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "x");
    block_stream(bench);
    finish(bench);
    sl_conn_drain(bench->peer.conn, 500);
    rpc_pump(&bench->peer);
    for (int i = 0; i < 4 && !sl_conn_wants_close(bench->peer.conn); i++) {
        rpc_advance_ms(&bench->peer, 1000);
    }
    assert_true(sl_conn_wants_close(bench->peer.conn));
    rpc_stream_free(stream);
}

/* ---- With a loop ----------------------------------------------------------------------------- */

static void timers_and_callbacks_are_the_loops(void **state)
{
    struct bench *bench = *state;
    struct sl_fake_loop loop;
    sl_fake_loop_init(&loop);
    bench->server = new_server(&bench->limits);
    add_raw(bench->server, "/t.S/Hang", SL_SERVER_STREAMING, hang, bench);
    rpc_peer_open(&bench->peer, bench->server, &loop.base);
    const char *const extra[] = { "grpc-timeout", "50m", NULL };
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", extra, "x");
    assert_ptr_equal(sl_call_loop(bench->call), &loop.base);
    assert_int_equal(sl_conn_due_ns(bench->peer.conn), SL_NEVER_NS);
    const size_t n_output = bench->peer.n_output;
    sl_fake_loop_advance_ms(&loop, 49);
    assert_int_equal(bench->n_ended, 0);
    sl_fake_loop_advance_ms(&loop, 1);
    assert_int_equal(bench->n_ended, 1);
    assert_true(bench->peer.n_output > n_output);
    rpc_pump(&bench->peer);
    assert_log(&bench->peer, "grpc-status=4");
    rpc_stream_free(stream);
    rpc_peer_close(&bench->peer);
    finish(bench); /* after its connection */
    sl_fake_loop_done(&loop);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(reset_is_told_with_its_code),
        CASE(reset_in_the_same_read_starts_nothing),
        CASE(lost_connection_ends_every_call_before_it_goes),
        CASE(half_close_is_no_cancellation),
        CASE(deadline_ends_the_stream_without_the_handler),
        CASE(deadline_fires_while_the_request_is_uploading),
        CASE(deadline_inside_a_message_resets),
        CASE(deadline_at_a_border_sends_trailers),
        CASE(deadline_holds_after_the_handler_finished),
        CASE(stalled_stream_ends_inside_a_message_with_a_reset),
        CASE(stalled_stream_ends_at_a_border_with_trailers),
        CASE(quiet_stream_is_not_stalled),
        CASE(silence_inside_a_request_message_ends_the_call),
        CASE(silence_before_the_request_is_complete_ends_the_call),
        CASE(silence_is_ours_while_the_handler_holds_a_message),
        CASE(silent_peer_is_asked_and_then_given_up),
        CASE(connection_without_preface_is_closed),
        CASE(unfinished_header_block_closes_the_connection),
        CASE(header_blocks_one_after_the_other_have_their_own_time),
        CASE(old_connection_is_told_to_go),
        CASE(old_connection_is_closed_after_its_grace),
        CASE(idle_connection_is_told_to_go),
        CASE(silent_peer_without_calls_is_asked_too),
        CASE(drain_takes_two_steps),
        CASE(quiet_connection_takes_calls_until_it_has_heard_of_the_drain),
        CASE(unanswered_ping_delays_the_drain_by_five_seconds),
        CASE(handler_that_finishes_in_its_last_second_has_its_own_status),
        CASE(handler_that_does_not_is_ended_with_unavailable),
        CASE(drain_ends_although_the_client_reads_nothing),
        CASE(timers_and_callbacks_are_the_loops),
    };
#undef CASE
    return cmocka_run_group_tests_name("rpc_conn", tests, NULL, NULL);
}
