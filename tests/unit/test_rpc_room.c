/* Replies and messages for clients that do not read, over two HTTP/2 endpoints in memory: what
 * waits is bounded for a connection and for the process, and nothing is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/metrics.h"
#include "runtime/base/send_total.h"
#include "service/rpc/call_impl.h"
#include "service/rpc/compress.h"
#include "service/rpc/frame.h"
#include "service/rpc/server_core.h"
#include "tests/unit/test_rpc_rig.h"

enum { N_CALLS = 40, REPLY_BYTES = 100000, CONNECTION_BYTES = 250000, SLACK_BYTES = 100000 };

struct bench {
    struct sl_server *server;
    struct sl_limits limits;
    struct rpc_peer peer, other;
    struct rpc_stream *streams[N_CALLS];
    size_t n_started;       /* handlers */
    size_t n_collected;     /* requests */
    size_t n_writable;      /* times that `stream` was told */
    struct sl_call *stream; /* that hangs */
};

static const uint8_t large[REPLY_BYTES];

static enum sl_status answer(struct sl_call *call, struct sl_slice request, void *user_data)
{
    struct bench *bench = user_data;
    (void)request;
    bench->n_started++;
    return sl_call_reply_bytes(call, sl_slice_of(large, sizeof(large)));
}

/* The same by a send. */
static enum sl_status answer_early(struct sl_call *call, struct sl_slice request, void *user_data)
{
    struct bench *bench = user_data;
    (void)request;
    bench->n_started++;
    SL_TRY(sl_call_send_bytes(call, sl_slice_of(large, sizeof(large))));
    return SL_OK;
}

static enum sl_status answer_shortly(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)user_data;
    return sl_call_reply_bytes(call, request);
}

static void on_writable(struct sl_call *call, void *user_data)
{
    struct bench *bench = user_data;
    bench->n_writable++;
    (void)call;
}

static void on_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    struct bench *bench = user_data;
    (void)end;
    bench->stream = NULL;
    sl_call_finishf(call, SL_CANCELLED, "gone");
}

static enum sl_status hang(struct sl_call *call, struct sl_slice request, void *user_data)
{
    static const struct sl_call_callbacks callbacks = { .on_writable = on_writable,
                                                        .on_ended = on_ended };
    struct bench *bench = user_data;
    (void)request;
    sl_call_set_callbacks(call, &callbacks, bench);
    bench->stream = call;
    return SL_PENDING;
}

/* Takes what comes when it is told, and answers at the end. */
static void collect_on(struct sl_call *call, void *user_data)
{
    struct bench *bench = user_data;
    struct sl_slice message;
    enum sl_status status;
    while ((status = sl_call_recv_bytes(call, &message)) == SL_OK) {
        bench->n_collected++;
    }
    if (status == SL_END) {
        assert_int_equal(sl_call_reply_bytes(call, sl_slice_str("all")), SL_OK);
        sl_call_finishf(call, SL_OK, "%s", "");
    }
}

static enum sl_status collect(struct sl_call *call, struct sl_slice request, void *user_data)
{
    static const struct sl_call_callbacks callbacks = { .on_readable = collect_on,
                                                        .on_ended = on_ended };
    struct bench *bench = user_data;
    (void)request;
    bench->n_started++;
    sl_call_set_callbacks(call, &callbacks, bench);
    return SL_PENDING;
}

static int set_up(void **state)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    assert_non_null(bench);
    sl_limits_init(&bench->limits);
    bench->limits.connection_send = CONNECTION_BYTES;
    *state = bench;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;
    rpc_peer_close(&bench->peer);
    rpc_peer_close(&bench->other);
    for (size_t i = 0; i < N_CALLS; i++) {
        rpc_stream_free(bench->streams[i]);
    }
    bench->server = sl_server_free(bench->server);
    assert_int_equal(sl_send_total_bytes(), 0);
    free(bench);
    return 0;
}

static void open_server(struct bench *bench)
{
    bench->server = new_server(&bench->limits);
    add_raw(bench->server, "/t.S/Answer", SL_UNARY, answer, bench);
    add_raw(bench->server, "/t.S/AnswerEarly", SL_UNARY, answer_early, bench);
    add_raw(bench->server, "/t.S/Short", SL_UNARY, answer_shortly, bench);
    add_raw(bench->server, "/t.S/Hang", SL_SERVER_STREAMING, hang, bench);
    add_raw(bench->server, "/t.S/Collect", SL_CLIENT_STREAMING, collect, bench);
}

/* A client that reads nothing until it is told. */
static void open_silent(struct bench *bench, struct rpc_peer *peer)
{
    struct h2_side *client = h2_side_new();
    client->limits.stream_window = 65535;
    client->limits.connection_window = 65535;
    client->keeps_credit = true;
    rpc_peer_open_with(peer, bench->server, NULL, client);
    rpc_pump(peer);
}

static void read_all(struct rpc_peer *peer, struct rpc_stream *const *streams, size_t n)
{
    peer->client->keeps_credit = false;
    for (size_t i = 0; i < n; i++) {
        if (!streams[i]->is_closed) {
            sl_h2_stream_consume(streams[i]->stream, streams[i]->in.size);
        }
    }
    rpc_pump(peer);
}

static void fill(struct bench *bench, const char *path)
{
    for (size_t i = 0; i < N_CALLS; i++) {
        bench->streams[i] = rpc_unary(&bench->peer, path, NULL, "x");
    }
}

/* ---- One call ---------------------------------------------------------------------------------
 */

/* Queues messages until there is no room; gives how many. */
static size_t send_all(struct bench *bench, size_t size)
{
    size_t n = 0;
    while (sl_call_send_bytes(bench->stream, sl_slice_of(large, size)) == SL_OK) {
        n++;
        rpc_pump(&bench->peer);
    }
    return n;
}

/* A client that reads in steps: the stream is told when half of its queue is left, not earlier. */
static void check_low_mark(struct bench *bench, size_t size)
{
    bench->limits.connection_send = 4194304;
    open_server(bench);
    open_silent(bench, &bench->peer);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "x");
    bench->streams[0] = stream;
    (void)send_all(bench, size);
    const struct sl_call *call = bench->stream;
    const size_t most_bytes = bench->limits.buffer / 2;
    const size_t most_messages = bench->limits.buffer_events / 2;
    size_t n_high = 0;
    while (bench->n_writable == 0) {
        n_high += call->out.queue.size > most_bytes || call->out.n_queued > most_messages;
        sl_h2_stream_consume(stream->stream, 40000);
        rpc_pump(&bench->peer);
        const bool is_low =
            call->out.queue.size <= most_bytes && call->out.n_queued <= most_messages;
        assert_int_equal(bench->n_writable, is_low ? 1 : 0);
    }
    assert_true(n_high > 1); /* it was asked on the way */
}

static void a_stream_is_told_of_room_at_half_its_bytes(void **state) /* FC-3 */
{
    check_low_mark(*state, 20000);
}

static void a_stream_is_told_of_room_at_half_its_messages(void **state) /* FC-3 */
{
    struct bench *bench = *state;
    bench->limits.buffer_events = 12;
    check_low_mark(bench, 20000);
}

static void a_share_is_never_less_than_4_kib(void **state) /* FC-3 */
{
    struct bench *bench = *state;
    bench->limits.connection_send = 16384;
    open_server(bench);
    open_silent(bench, &bench->peer);
    for (size_t i = 0; i < 8; i++) {
        bench->streams[i] = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "x");
    }
    /* The connection's window first, which is everybody's. */
    assert_int_equal(send_all(bench, 1000), (65535 + 4096) / 1005);
}

/* ---- One connection -------------------------------------------------------------------------- */

static void check_held_back(struct bench *bench, const char *path)
{
    open_server(bench);
    open_silent(bench, &bench->peer);
    const uint64_t empty_bytes = sl_conn_memory_bytes(bench->peer.conn);
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_connection_send);
    fill(bench, path);
    assert_int_equal(bench->n_started, 4); /* the window takes 64 KiB of them */
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_connection_send), n_before + N_CALLS - 4);
    assert_in_range(
        sl_conn_memory_bytes(bench->peer.conn) - empty_bytes, CONNECTION_BYTES,
        CONNECTION_BYTES + REPLY_BYTES + SLACK_BYTES);
    rpc_advance_ms(&bench->peer, 1000); /* they ask again, and are counted once */
    assert_int_equal(bench->n_started, 4);
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_connection_send), n_before + N_CALLS - 4);
    read_all(&bench->peer, bench->streams, N_CALLS);
    assert_int_equal(bench->n_started, N_CALLS);
    for (size_t i = 0; i < N_CALLS; i++) {
        struct sl_slice reply;
        assert_true(rpc_next(bench->streams[i], &reply));
        assert_int_equal(reply.size, REPLY_BYTES);
        assert_true(bench->streams[i]->is_closed);
    }
    assert_int_equal(stats_of(bench->server).calls_running, 0);
}

static void replies_that_are_not_read_hold_further_calls_back(void **state)
{
    check_held_back(*state, "/t.S/Answer");
}

static void a_reply_by_a_send_counts_as_well(void **state)
{
    check_held_back(*state, "/t.S/AnswerEarly");
}

static void a_call_that_is_held_back_can_be_reset_and_passes_its_deadline(void **state)
{
    struct bench *bench = *state;
    static const char *const soon[] = { "grpc-timeout", "50m", NULL };
    open_server(bench);
    open_silent(bench, &bench->peer);
    for (size_t i = 0; i < 6; i++) {
        bench->streams[i] = rpc_unary(&bench->peer, "/t.S/Answer", i == 5 ? soon : NULL, "x");
    }
    assert_int_equal(bench->n_started, 4);
    sl_h2_stream_reset(bench->streams[4]->stream, SL_H2_CANCEL);
    rpc_pump(&bench->peer);
    (void)rpc_log(&bench->peer);
    rpc_advance_ms(&bench->peer, 60);
    assert_log(&bench->peer, "grpc-status=4");
    read_all(&bench->peer, bench->streams, 4);
    assert_int_equal(bench->n_started, 4);
    assert_int_equal(stats_of(bench->server).calls_running, 0);
}

static void a_connection_goes_away_with_calls_that_are_held_back(void **state)
{
    struct bench *bench = *state;
    open_server(bench);
    open_silent(bench, &bench->peer);
    fill(bench, "/t.S/Answer");
    rpc_peer_close(&bench->peer);
    assert_int_equal(bench->n_started, 4);
    assert_int_equal(stats_of(bench->server).calls_running, 0);
}

static void a_client_that_reads_nothing_loses_its_replies_in_time(void **state) /* FC-9 */
{
    struct bench *bench = *state;
    bench->limits.stall = 1000;
    open_server(bench);
    open_silent(bench, &bench->peer);
    fill(bench, "/t.S/Answer");
    for (size_t i = 0; i < N_CALLS; i++) { /* those held back start, and are cut in their turn */
        rpc_advance_ms(&bench->peer, 1100);
    }
    assert_int_equal(bench->n_started, N_CALLS);
    assert_int_equal(stats_of(bench->server).calls_running, 0);
    assert_int_equal(sl_send_total_bytes(), 0);
}

static void a_held_back_call_is_told_of_requests_that_came_before_its_start(void **state)
{
    struct bench *bench = *state;
    open_server(bench);
    open_silent(bench, &bench->peer);
    for (size_t i = 0; i < 4; i++) {
        bench->streams[i] = rpc_unary(&bench->peer, "/t.S/Answer", NULL, "x");
    }
    struct rpc_stream *stream = rpc_open(&bench->peer, "/t.S/Collect", NULL);
    rpc_send(stream, "a", 1);
    rpc_pump(&bench->peer);
    rpc_send(stream, "b", 1);
    rpc_end(stream);
    rpc_pump(&bench->peer);
    assert_int_equal(bench->n_started, 4);
    read_all(&bench->peer, bench->streams, 4);
    assert_int_equal(bench->n_started, 5);
    assert_int_equal(bench->n_collected, 2);
    assert_message(stream, "all");
    assert_true(stream->is_closed);
    rpc_stream_free(stream);
}

static void a_call_without_a_reply_is_not_held_back(void **state)
{
    struct bench *bench = *state;
    open_server(bench);
    open_silent(bench, &bench->peer);
    for (size_t i = 0; i < 5; i++) {
        bench->streams[i] = rpc_unary(&bench->peer, "/t.S/Answer", NULL, "x");
    }
    assert_int_equal(bench->n_started, 4);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "x");
    assert_non_null(bench->stream);
    rpc_peer_close(&bench->peer);
    rpc_stream_free(stream);
}

/* Or those that come later would always be first, and who waits would wait for the clock. */
static void a_held_back_call_starts_as_soon_as_there_is_room(void **state)
{
    struct bench *bench = *state;
    size_t n_consumed[4] = { 0 };
    open_server(bench);
    open_silent(bench, &bench->peer);
    for (size_t i = 0; i < 6; i++) {
        bench->streams[i] = rpc_unary(&bench->peer, "/t.S/Answer", NULL, "x");
    }
    assert_int_equal(bench->n_started, 4);
    for (size_t round = 0; round < 2; round++) { /* 64 KiB each */
        for (size_t i = 0; i < 4; i++) {
            const size_t n_new = bench->streams[i]->in.size - n_consumed[i];
            n_consumed[i] += n_new;
            sl_h2_stream_consume(bench->streams[i]->stream, n_new);
        }
        rpc_pump(&bench->peer);
    }
    assert_int_equal(bench->n_started, 5);
}

/* ---- The process ------------------------------------------------------------------------------
 */

/* The first connection takes the process's room. */
static void fill_process(struct bench *bench)
{
    bench->limits.connection_send = UINT64_C(4) * REPLY_BYTES;
    bench->limits.send_total = UINT64_C(2) * REPLY_BYTES;
    open_server(bench);
    open_silent(bench, &bench->peer);
    for (size_t i = 0; i < 2; i++) {
        bench->streams[i] = rpc_unary(&bench->peer, "/t.S/Answer", NULL, "x");
    }
    assert_in_range(sl_send_total_bytes(), REPLY_BYTES, 2 * REPLY_BYTES);
    rpc_peer_open(&bench->other, bench->server, NULL);
}

static void a_large_reply_is_refused_without_room_in_the_process(void **state) /* AT-13 */
{
    struct bench *bench = *state;
    fill_process(bench);
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_send_total);
    struct rpc_stream *refused = rpc_unary(&bench->other, "/t.S/Answer", NULL, "x");
    assert_log(&bench->other, "grpc-status=8");
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_send_total), n_before + 1);
    struct rpc_stream *small = rpc_unary(&bench->other, "/t.S/Short", NULL, "short");
    assert_message(small, "short");
    read_all(&bench->peer, bench->streams, 2);
    struct rpc_stream *taken = rpc_unary(&bench->other, "/t.S/Answer", NULL, "x");
    struct sl_slice reply;
    assert_true(rpc_next(taken, &reply));
    assert_int_equal(reply.size, REPLY_BYTES);
    rpc_stream_free(refused);
    rpc_stream_free(small);
    rpc_stream_free(taken);
}

static void a_large_message_of_a_stream_waits_for_room_in_the_process(void **state) /* AT-13 */
{
    struct bench *bench = *state;
    fill_process(bench);
    struct rpc_stream *stream = rpc_unary(&bench->other, "/t.S/Hang", NULL, "x");
    assert_non_null(bench->stream);
    const struct sl_slice message = sl_slice_of(large, sizeof(large));
    assert_int_equal(sl_call_send_bytes(bench->stream, message), SL_AGAIN);
    assert_int_equal(sl_call_send_bytes(bench->stream, sl_slice_str("short")), SL_OK);
    rpc_pump(&bench->other);
    assert_message(stream, "short");
    assert_int_equal(sl_call_send_bytes(bench->stream, message), SL_AGAIN);
    read_all(&bench->peer, bench->streams, 2);
    bench->n_writable = 0;
    rpc_advance_ms(&bench->other, 150);
    assert_int_equal(bench->n_writable, 1);
    assert_int_equal(sl_call_send_bytes(bench->stream, message), SL_OK);
    sl_call_finishf(bench->stream, SL_OK, "%s", "");
    rpc_pump(&bench->other);
    struct sl_slice received;
    assert_true(rpc_next(stream, &received));
    assert_int_equal(received.size, REPLY_BYTES);
    assert_true(stream->is_closed);
    rpc_stream_free(stream);
}

static void the_first_message_of_all_always_fits(void **state)
{
    struct bench *bench = *state;
    bench->limits.send_total = REPLY_BYTES / 2;
    open_server(bench);
    rpc_peer_open(&bench->peer, bench->server, NULL);
    bench->streams[0] = rpc_unary(&bench->peer, "/t.S/Answer", NULL, "x");
    struct sl_slice reply;
    assert_true(rpc_next(bench->streams[0], &reply));
    assert_int_equal(reply.size, REPLY_BYTES);
}

/* ---- Requests ---------------------------------------------------------------------------------
 */

enum { PART_BYTES = 60000 };

/* A request of which a part has come. */
static struct rpc_stream *begin_upload(struct rpc_peer *peer, const char *path, size_t n_parts)
{
    struct rpc_stream *stream = rpc_open(peer, path, NULL);
    const uint8_t prefix[] = { 0, 0, 0x10, 0, 0 };
    rpc_send_raw(stream, prefix, sizeof(prefix));
    for (size_t i = 0; i < n_parts; i++) {
        rpc_send_raw(stream, large, PART_BYTES);
    }
    rpc_pump(peer);
    return stream;
}

static uint64_t n_received(const struct bench *bench)
{
    return atomic_load(&bench->server->received_bytes);
}

static void open_uploads(struct bench *bench)
{
    bench->limits.receive_total = UINT64_C(3) * PART_BYTES;
    open_server(bench);
    rpc_peer_open(&bench->peer, bench->server, NULL);
    rpc_peer_open(&bench->other, bench->server, NULL);
}

static void check_unfinished_requests(struct bench *bench, const char *path)
{
    open_uploads(bench);
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_receive_total);
    for (size_t i = 0; i < 3; i++) {
        bench->streams[i] = begin_upload(&bench->peer, path, 1);
    }
    assert_int_equal(n_received(bench), 3 * PART_BYTES);
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_receive_total), n_before);
    bench->streams[3] = begin_upload(&bench->other, path, 1);
    assert_log(&bench->other, "grpc-status=8");
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_receive_total), n_before + 1);
    assert_int_equal(n_received(bench), 3 * PART_BYTES);
    bench->streams[4] = rpc_unary(&bench->other, "/t.S/Short", NULL, "short");
    assert_message(bench->streams[4], "short");
    sl_h2_stream_reset(bench->streams[0]->stream, SL_H2_CANCEL);
    rpc_pump(&bench->peer);
    bench->streams[5] = begin_upload(&bench->other, path, 1);
    assert_false(bench->streams[5]->is_closed);
    assert_int_equal(n_received(bench), 3 * PART_BYTES);
    rpc_peer_close(&bench->peer);
    rpc_peer_close(&bench->other);
    assert_int_equal(n_received(bench), 0);
}

static void unfinished_requests_are_bounded(void **state) /* FC-1 */
{
    check_unfinished_requests(*state, "/t.S/Short");
}

static void unfinished_messages_of_a_stream_are_bounded(void **state) /* FC-1 */
{
    check_unfinished_requests(*state, "/t.S/Collect");
}

static void a_complete_request_is_not_counted(void **state)
{
    struct bench *bench = *state;
    open_uploads(bench);
    for (size_t i = 0; i < 6; i++) {
        struct rpc_stream *stream = rpc_open(&bench->peer, "/t.S/Hang", NULL);
        rpc_send(stream, large, PART_BYTES);
        rpc_end(stream);
        rpc_pump(&bench->peer);
        assert_false(stream->is_closed);
        assert_int_equal(n_received(bench), 0);
        bench->streams[i] = stream;
    }
}

/* AT-15: a few bytes that become many, and are held because the client does not end its request. */
static void what_decompression_makes_of_a_request_counts(void **state)
{
    struct bench *bench = *state;
    static const char *const gzip[] = { "grpc-encoding", "gzip", NULL };
    struct sl_buf packed;
    uint8_t prefix[SL_FRAME_PREFIX_BYTES];
    sl_buf_init(&packed, REPLY_BYTES);
    assert_int_equal(
        sl_compress(SL_ENCODING_GZIP, sl_slice_of(large, sizeof(large)), &packed), SL_OK);
    sl_frame_write_prefix(prefix, true, (uint32_t)packed.size);
    open_uploads(bench);
    for (size_t i = 0; i < 3; i++) {
        bench->streams[i] = rpc_open(&bench->peer, "/t.S/Short", gzip);
        rpc_send_raw(bench->streams[i], prefix, sizeof(prefix));
        rpc_send_raw(bench->streams[i], packed.data, packed.size);
        rpc_pump(&bench->peer);
    }
    assert_log(&bench->peer, "grpc-status=8");
    assert_int_equal(n_received(bench), REPLY_BYTES);
    sl_buf_done(&packed);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(a_stream_is_told_of_room_at_half_its_bytes),
        CASE(a_stream_is_told_of_room_at_half_its_messages),
        CASE(a_share_is_never_less_than_4_kib),
        CASE(replies_that_are_not_read_hold_further_calls_back),
        CASE(a_reply_by_a_send_counts_as_well),
        CASE(a_call_that_is_held_back_can_be_reset_and_passes_its_deadline),
        CASE(a_connection_goes_away_with_calls_that_are_held_back),
        CASE(a_client_that_reads_nothing_loses_its_replies_in_time),
        CASE(a_held_back_call_is_told_of_requests_that_came_before_its_start),
        CASE(a_call_without_a_reply_is_not_held_back),
        CASE(a_held_back_call_starts_as_soon_as_there_is_room),
        CASE(a_large_reply_is_refused_without_room_in_the_process),
        CASE(a_large_message_of_a_stream_waits_for_room_in_the_process),
        CASE(the_first_message_of_all_always_fits),
        CASE(unfinished_requests_are_bounded),
        CASE(unfinished_messages_of_a_stream_are_bounded),
        CASE(a_complete_request_is_not_counted),
        CASE(what_decompression_makes_of_a_request_counts),
    };
    return cmocka_run_group_tests_name("rpc_room", tests, NULL, NULL);
}
