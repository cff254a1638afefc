/* Calls without memory, and the bounds of what is queued, over two HTTP/2 endpoints in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/base/send_total.h"
#include "service/rpc/call.h"
#include "service/rpc/server_core.h"
#include "tests/fake/fake_loop.h"
#include "tests/unit/test_rpc_rig.h"

enum { MAX_CALLS = 300, BLOCK_BYTES = 1000 };

struct bench {
    struct sl_server *server;
    struct rpc_peer peer;
    struct sl_limits limits;
    struct sl_fake_loop loop;
    struct sl_call *calls[MAX_CALLS]; /* of the handlers that are pending */
    size_t n_calls, n_ended, n_lost;
    struct rpc_stream *streams[MAX_CALLS];
    size_t fail_at;
    bool fails_on;
};

static const uint8_t block[100000];

static void on_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    struct bench *bench = user_data;
    bench->n_ended++;
    bench->n_lost += end->kind == SL_CALL_LOST;
    for (size_t i = 0; i < bench->n_calls; i++) {
        bench->calls[i] = bench->calls[i] == call ? NULL : bench->calls[i];
    }
    sl_call_finishf(call, SL_CANCELLED, "gone");
}

static enum sl_status hang(struct sl_call *call, struct sl_slice request, void *user_data)
{
    static const struct sl_call_callbacks callbacks = { .on_ended = on_ended };
    struct bench *bench = user_data;
    (void)request;
    sl_call_set_callbacks(call, &callbacks, bench);
    SL_TRY(sl_call_send_bytes(call, sl_slice_str("first")));
    if (bench->n_calls < MAX_CALLS) {
        bench->calls[bench->n_calls++] = call;
    }
    return SL_PENDING;
}

/* The same, without an answer so far. */
static enum sl_status hang_silently(struct sl_call *call, struct sl_slice request, void *user_data)
{
    static const struct sl_call_callbacks callbacks = { .on_ended = on_ended };
    struct bench *bench = user_data;
    (void)request;
    sl_call_set_callbacks(call, &callbacks, bench);
    bench->calls[bench->n_calls++] = call;
    return SL_PENDING;
}

/* The same, with headers. */
static enum sl_status hang_open(struct sl_call *call, struct sl_slice request, void *user_data)
{
    SL_TRY(sl_call_send_headers(call));
    return hang_silently(call, request, user_data);
}

static enum sl_status echo(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)user_data;
    return sl_call_reply_bytes(call, request);
}

/* Three messages, and a status with details. */
static enum sl_status spell(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)user_data;
    for (size_t i = 0; i < 3; i++) {
        SL_TRY(sl_call_send_bytes(call, request));
    }
    const struct sl_call_status status = { .code = SL_ABORTED,
                                           .message = "enough of it",
                                           .reason = "ENOUGH" };
    return sl_call_fail(call, &status);
}

static int set_up(void **state)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    assert_non_null(bench);
    sl_limits_init(&bench->limits);
    sl_fake_loop_init(&bench->loop);
    *state = bench;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;
    rpc_peer_close(&bench->peer);
    bench->server = sl_server_free(bench->server);
    sl_fake_loop_done(&bench->loop);
    free(bench);
    return 0;
}

static void open_server(struct bench *bench)
{
    bench->server = new_server(&bench->limits);
    struct sl_server *server = bench->server;
    add_raw(server, "/t.S/Hang", SL_SERVER_STREAMING, hang, bench);
    add_raw(server, "/t.S/Spell", SL_SERVER_STREAMING, spell, bench);
    add_raw(server, "/t.S/Echo", SL_UNARY, echo, bench);
    add_raw(server, "/t.S/Open", SL_SERVER_STREAMING, hang_open, bench);
    add_raw(server, "/t.S/Silent", SL_UNARY, hang_silently, bench);
}

/* `n` streams that run, on the fake loop. */
static void open_streams_of(struct bench *bench, const char *path, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bench->streams[i] = rpc_unary(&bench->peer, path, NULL, "");
    }
    assert_int_equal(bench->n_calls, n);
}

static void open_streams(struct bench *bench, size_t n)
{
    open_streams_of(bench, "/t.S/Hang", n);
}

static void free_streams(struct bench *bench, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        rpc_stream_free(bench->streams[i]);
        bench->streams[i] = NULL;
    }
}

static size_t count_lines(const char *log, const char *part)
{
    size_t n = 0;
    for (const char *at = log; (at = strstr(at, part)) != NULL; at++) {
        n++;
    }
    return n;
}

static bool refuse_all(size_t size)
{
    (void)size;
    return false;
}

/* From here on the connection gets no memory. */
static void take_memory(struct bench *bench)
{
    bench->peer.fail_at = 1;
    bench->peer.fails_on = true;
}

static void give_memory(struct bench *bench)
{
    bench->peer.fail_at = 0;
}

static void finish_all(struct bench *bench)
{
    sl_mem_set_gate(refuse_all);
    for (size_t i = 0; i < bench->n_calls; i++) {
        if (bench->calls[i] != NULL) {
            sl_call_finishf(bench->calls[i], SL_RESOURCE_EXHAUSTED, "no memory");
        }
    }
    bench->n_calls = 0;
    sl_mem_set_gate(NULL);
}

/* ---- The end of a call ----------------------------------------------------------------------- */

static void ends_get_through_without_memory(void **state) /* NG-21 */
{
    struct bench *bench = *state;
    open_server(bench);
    rpc_peer_open(&bench->peer, bench->server, &bench->loop.base);
    open_streams(bench, MAX_CALLS);
    (void)rpc_log(&bench->peer);
    struct sl_reserve *reserve = sl_loop_reserve(&bench->loop.base);
    void *others = sl_reserve_alloc(reserve, SL_RESERVE_BYTES / 2, 0); /* of the same loop */
    take_memory(bench);
    finish_all(bench);
    rpc_pump(&bench->peer);
    const char *log = rpc_log(&bench->peer);
    assert_int_equal(count_lines(log, "trailers grpc-status=8"), MAX_CALLS);
    assert_int_equal(count_lines(log, "closed done 0"), MAX_CALLS);
    assert_int_equal(bench->n_ended, 0);
    free_streams(bench, MAX_CALLS);
    sl_reserve_free(reserve, others);

    for (size_t i = 0; i < 20; i++) { /* the connection lives, but takes nothing on */
        rpc_stream_free(rpc_unary(&bench->peer, "/t.S/Echo", NULL, "now?"));
    }
    assert_int_equal(count_lines(rpc_log(&bench->peer), "closed unprocessed 7"), 20);
    assert_false(bench->peer.is_over);

    give_memory(bench);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Echo", NULL, "now?");
    struct sl_slice message;
    assert_true(rpc_next(stream, &message));
    assert_true(sl_slice_equals(message, "now?"));
    assert_int_equal(count_lines(rpc_log(&bench->peer), "trailers grpc-status=0"), 1);
    rpc_stream_free(stream);
    rpc_peer_close(&bench->peer);
    assert_int_equal(reserve->n_blocks, 0);
}

static void ends_behind_headers_take_turns_at_the_reserve(void **state) /* NG-21 */
{
    struct bench *bench = *state;
    open_server(bench);
    rpc_peer_open(&bench->peer, bench->server, &bench->loop.base);
    open_streams_of(bench, "/t.S/Open", MAX_CALLS);
    (void)rpc_log(&bench->peer);
    struct sl_reserve *reserve = sl_loop_reserve(&bench->loop.base);
    void *others = sl_reserve_alloc(reserve, SL_RESERVE_BYTES / 2, 0);
    take_memory(bench);
    finish_all(bench);
    rpc_pump(&bench->peer);
    assert_int_equal(count_lines(rpc_log(&bench->peer), "trailers grpc-status=8"), MAX_CALLS);
    free_streams(bench, MAX_CALLS);
    rpc_peer_close(&bench->peer);
    sl_reserve_free(reserve, others);
}

static void a_call_without_an_answer_ends_without_memory_too(void **state) /* NG-21, RS-2 */
{
    struct bench *bench = *state;
    open_server(bench);
    rpc_peer_open(&bench->peer, bench->server, &bench->loop.base);
    open_streams_of(bench, "/t.S/Silent", 20);
    (void)rpc_log(&bench->peer);
    take_memory(bench);
    finish_all(bench);
    rpc_pump(&bench->peer);
    const char *log = rpc_log(&bench->peer);
    assert_int_equal(
        count_lines(log, ":status=200 content-type=application/grpc grpc-status=8 end"), 20);
    assert_int_equal(count_lines(log, "closed done 0"), 20);
    free_streams(bench, 20);
}

static void without_a_reserve_the_connection_is_closed(void **state) /* NG-21 */
{
    struct bench *bench = *state;
    void *taken[SL_RESERVE_BYTES / 32 + 1];
    size_t n_taken = 0;
    open_server(bench);
    rpc_peer_open(&bench->peer, bench->server, &bench->loop.base);
    open_streams(bench, 10);
    struct sl_reserve *reserve = sl_loop_reserve(&bench->loop.base);
    while ((taken[n_taken] = sl_reserve_alloc(reserve, 16, 0)) != NULL) {
        n_taken++;
    }
    take_memory(bench);
    bench->n_calls--; /* the last one goes on */
    finish_all(bench);
    rpc_pump(&bench->peer);
    assert_int_equal(bench->n_ended, 1);
    assert_int_equal(bench->n_lost, 1);
    assert_true(sl_conn_wants_close(bench->peer.conn));
    assert_string_equal(sl_conn_fault(bench->peer.conn), "no_memory");
    assert_int_equal(count_lines(rpc_log(&bench->peer), "goaway 2 no_memory"), 1);
    struct sl_server_stats stats;
    sl_server_stats(bench->server, &stats);
    assert_int_equal(stats.calls_running, 0);
    free_streams(bench, 10);
    while (n_taken > 0) {
        sl_reserve_free(reserve, taken[--n_taken]);
    }
}

/* What comes in uses up its half of the reserve; then the connection goes, and all is given back.
 */
static void requests_without_memory_do_not_use_up_the_reserve(void **state) /* NG-21 */
{
    struct bench *bench = *state;
    open_server(bench);
    rpc_peer_open(&bench->peer, bench->server, &bench->loop.base);
    struct rpc_peer other;
    rpc_peer_open(&other, bench->server, &bench->loop.base);
    open_streams(bench, 10);
    other.fail_at = 1;
    other.fails_on = true;
    other.client->is_silent = true;
    const struct sl_reserve *reserve = sl_loop_reserve(&bench->loop.base);
    for (size_t i = 0; i < 1000 && !other.is_over; i++) {
        rpc_stream_free(rpc_unary(&other, "/t.S/Echo", NULL, "now?"));
        assert_true(reserve->free_bytes >= SL_RESERVE_FOR_ENDS / 2);
    }
    (void)rpc_log(&bench->peer);
    take_memory(bench);
    finish_all(bench);
    rpc_pump(&bench->peer);
    assert_int_equal(count_lines(rpc_log(&bench->peer), "trailers grpc-status=8"), 10);
    free_streams(bench, 10);
    rpc_peer_close(&other);
}

/* ---- Each allocation ------------------------------------------------------------------------- */

enum scenario { UNARY, STREAM, RESET };

/* One call. True: the client saw its end, or the connection was closed. */
static bool run_scenario(struct bench *bench, enum scenario scenario)
{
    static const char *const paths[] = {
        [UNARY] = "/t.S/Echo", [STREAM] = "/t.S/Spell", [RESET] = "/t.S/Hang"
    };
    static const char *const extra[] = { "x-in", "one", "grpc-timeout", "10S", NULL };
    bench->n_calls = 0;
    rpc_peer_open_with(&bench->peer, bench->server, NULL, h2_side_new());
    bench->peer.fail_at = bench->fail_at;
    bench->peer.fails_on = bench->fails_on;
    rpc_pump(&bench->peer);
    struct rpc_stream *stream = rpc_unary(&bench->peer, paths[scenario], extra, "hello");
    if (scenario == RESET && stream->stream != NULL) {
        sl_h2_stream_reset(stream->stream, SL_H2_CANCEL);
        rpc_pump(&bench->peer);
    }
    const bool is_ended = stream->is_closed || sl_conn_wants_close(bench->peer.conn);
    rpc_stream_free(stream);
    return is_ended;
}

static bool has_known_end(const char *log)
{
    static const char *const ends[] = { "grpc-status=", "closed unprocessed 7", "closed ours 8" };
    for (size_t i = 0; i < SL_COUNT(ends); i++) {
        if (strstr(log, ends[i]) != NULL) {
            return true;
        }
    }
    return false;
}

static void any_allocation_may_fail_once_or_for_ever(void **state) /* LR-10, NG-21 */
{
    struct bench *bench = *state;
    open_server(bench);
    for (enum scenario scenario = UNARY; scenario <= RESET; scenario++) {
        bench->fail_at = 0;
        assert_true(run_scenario(bench, scenario));
        const size_t n = rpc_n_allocations();
        rpc_peer_close(&bench->peer);
        assert_in_range(n, 10, 1000);
        for (size_t i = 0; i < 2 * n; i++) {
            bench->fail_at = 1 + i / 2;
            bench->fails_on = i % 2 != 0;
            assert_true(run_scenario(bench, scenario));
            const bool is_over = sl_conn_wants_close(bench->peer.conn);
            assert_true(is_over || has_known_end(rpc_log(&bench->peer)));
            rpc_peer_close(&bench->peer);
            struct sl_server_stats stats;
            sl_server_stats(bench->server, &stats);
            assert_int_equal(stats.calls_running, 0);
            assert_int_equal(atomic_load(&bench->server->n_running), 0);
            assert_int_equal(stats.calls_started, stats.calls_finished);
            assert_int_equal(stats.connection_bytes, 0);
        }
    }
    assert_int_equal(sl_send_total_bytes(), 0);
}

/* ---- Accounts -------------------------------------------------------------------------------- */

static void streams_that_are_remembered_count_as_memory(void **state) /* NG-20 */
{
    struct bench *bench = *state;
    open_server(bench);
    rpc_peer_open(&bench->peer, bench->server, NULL);
    bench->peer.client->is_silent = true;
    const uint64_t fresh = sl_conn_memory_bytes(bench->peer.conn);
    assert_in_range(fresh, 10000, 100000);
    for (size_t i = 0; i < 500; i++) {
        rpc_stream_free(rpc_unary(&bench->peer, "/t.S/Echo", NULL, "x"));
    }
    const uint64_t used = sl_conn_memory_bytes(bench->peer.conn);
    assert_true(used > fresh + 50000);
    struct sl_server_stats stats;
    sl_server_stats(bench->server, &stats);
    assert_in_range(stats.connection_bytes, used - 4096, used + 4096);
}

/* Fills every stream until it takes no more; gives the messages that were taken. */
static size_t fill_queues(struct bench *bench)
{
    size_t n_sent = 0;
    for (size_t i = 0; i < bench->n_calls; i++) {
        while (sl_call_send_bytes(bench->calls[i], sl_slice_of(block, BLOCK_BYTES)) == SL_OK) {
            n_sent++;
        }
    }
    return n_sent;
}

static void open_slow_readers(struct bench *bench, size_t n)
{
    struct h2_side *client = h2_side_new();
    client->limits.stream_window = 65535;
    client->limits.connection_window = 65535;
    client->is_silent = true;
    client->keeps_credit = true;
    open_server(bench);
    rpc_peer_open_with(&bench->peer, bench->server, NULL, client);
    rpc_pump(&bench->peer);
    open_streams(bench, n);
}

/* The client reads everything; each stream gets what was sent on it. */
static void read_all(struct bench *bench, size_t n_sent)
{
    size_t n_received = 0;
    for (size_t i = 0; i < bench->n_calls; i++) {
        sl_call_finishf(bench->calls[i], SL_OK, "%s", "");
    }
    bench->peer.client->keeps_credit = false;
    for (size_t i = 0; i < bench->n_calls; i++) {
        sl_h2_stream_consume(bench->streams[i]->stream, bench->streams[i]->in.size);
    }
    rpc_pump(&bench->peer);
    for (size_t i = 0; i < bench->n_calls; i++) {
        struct sl_slice message;
        assert_true(bench->streams[i]->is_closed);
        while (rpc_next(bench->streams[i], &message)) {
            n_received++;
        }
    }
    assert_int_equal(n_received, n_sent + bench->n_calls); /* hang() sent one on each */
}

static uint64_t queued_bytes(const struct bench *bench, uint64_t empty_bytes)
{
    return sl_conn_memory_bytes(bench->peer.conn) - empty_bytes;
}

static void the_queues_of_a_connection_are_bounded(void **state) /* FC-3: connection_send */
{
    struct bench *bench = *state;
    const size_t n = 64;
    const uint64_t most = 1048576;
    bench->limits.connection_send = most;
    open_slow_readers(bench, 0);
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_connection_send);
    size_t n_sent = 0;
    uint64_t empty_bytes = 0;
    for (size_t i = 0; i < n; i++) { /* each one takes its share before the next one comes */
        bench->streams[i] = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "");
        rpc_pump(&bench->peer);
        empty_bytes = i == 0 ? sl_conn_memory_bytes(bench->peer.conn) : empty_bytes;
        n_sent += fill_queues(bench);
    }
    const uint64_t slack =
        (uint64_t)n * (4096 + BLOCK_BYTES + 2048); /* the least of each, and nghttp2's part */
    assert_in_range(queued_bytes(bench, empty_bytes), most / 2, most + slack);
    assert_true(sl_limit_n_reached(SL_LIMIT_connection_send) > n_before);
    rpc_pump(&bench->peer);
    for (size_t i = 0; i < n; i++) { /* one message always fits */
        while (sl_call_send_bytes(bench->calls[i], sl_slice_of(block, BLOCK_BYTES)) == SL_OK) {
            n_sent++;
        }
        assert_false(sl_call_is_idle(bench->calls[i]));
    }
    read_all(bench, n_sent);
    assert_int_equal(sl_send_total_bytes(), 0);
    free_streams(bench, n);
}

static void one_large_message_fits_on_each_stream_of_a_full_connection(void **state) /* FC-3 */
{
    struct bench *bench = *state;
    const size_t n = 8;
    bench->limits.connection_send = 65536;
    open_server(bench);
    rpc_peer_open(&bench->peer, bench->server, NULL);
    open_streams(bench, n);
    for (size_t i = 0; i < n; i++) {
        const struct sl_slice large = sl_slice_of(block, sizeof(block));
        assert_int_equal(sl_call_send_bytes(bench->calls[i], large), SL_OK);
        assert_int_equal(sl_call_send_bytes(bench->calls[i], sl_slice_of(block, 1)), SL_AGAIN);
    }
    read_all(bench, n);
    free_streams(bench, n);
}

static void the_queues_of_the_process_are_bounded(void **state) /* AT-13: send_total */
{
    struct bench *bench = *state;
    const size_t n = 50;
    bench->limits.send_total = 65536;
    open_slow_readers(bench, n);
    size_t n_sent = fill_queues(bench);
    rpc_pump(&bench->peer);
    n_sent += fill_queues(bench); /* the windows are full */
    rpc_pump(&bench->peer);
    n_sent += fill_queues(bench);
    assert_in_range(
        sl_send_total_bytes(), 65536 / 2, bench->limits.buffer + 65536 + n * (4096 + BLOCK_BYTES));
    /* Another connection is held back too, but gets each message through. */
    struct rpc_peer other;
    rpc_peer_open(&other, bench->server, NULL);
    const size_t n_before = bench->n_calls;
    struct rpc_stream *stream = rpc_unary(&other, "/t.S/Hang", NULL, "");
    struct sl_call *call = bench->calls[--bench->n_calls];
    assert_int_equal(bench->n_calls + 1, n_before + 1);
    const uint64_t n_reached = sl_limit_n_reached(SL_LIMIT_send_total);
    size_t n_taken = 0;
    while (sl_call_send_bytes(call, sl_slice_of(block, BLOCK_BYTES)) == SL_OK) {
        n_taken++;
    }
    assert_in_range(n_taken, 1, 5);
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_send_total), n_reached + 1);
    rpc_pump(&other);
    assert_int_equal(sl_call_send_bytes(call, sl_slice_of(block, BLOCK_BYTES)), SL_OK);
    /* Once all is read, the marks are what they were. */
    read_all(bench, n_sent);
    rpc_pump(&other);
    assert_int_equal(sl_send_total_bytes(), 0);
    for (n_taken = 0; sl_call_send_bytes(call, sl_slice_of(block, BLOCK_BYTES)) == SL_OK;
         n_taken++) {
    }
    assert_in_range(n_taken, 60, 75);
    sl_call_finishf(call, SL_OK, "%s", "");
    rpc_pump(&other);
    assert_true(stream->is_closed);
    rpc_stream_free(stream);
    rpc_peer_close(&other);
    free_streams(bench, n);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(ends_get_through_without_memory),
        CASE(ends_behind_headers_take_turns_at_the_reserve),
        CASE(a_call_without_an_answer_ends_without_memory_too),
        CASE(without_a_reserve_the_connection_is_closed),
        CASE(requests_without_memory_do_not_use_up_the_reserve),
        CASE(any_allocation_may_fail_once_or_for_ever),
        CASE(streams_that_are_remembered_count_as_memory),
        CASE(the_queues_of_a_connection_are_bounded),
        CASE(one_large_message_fits_on_each_stream_of_a_full_connection),
        CASE(the_queues_of_the_process_are_bounded),
    };
    return cmocka_run_group_tests_name("rpc_memory", tests, NULL, NULL);
}
