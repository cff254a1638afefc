/* Which requests become calls, and what the others are told: ADM-1 to ADM-16, in their order. */
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
#include "service/rpc/call_impl.h"
#include "service/rpc/server_core.h"
#include "tests/unit/test_rpc_rig.h"

struct bench {
    struct sl_server *server;
    struct rpc_peer peer;
    struct sl_limits limits;
    size_t n_started, n_seen, n_ended;
    enum sl_status verdict, last_status;
    struct sl_call *pending[8];
    char path[128];
};

static enum sl_status echo(struct sl_call *call, struct sl_slice request, void *user_data)
{
    struct bench *bench = user_data;
    bench->n_started++;
    (void)snprintf(bench->path, sizeof(bench->path), "%s", sl_call_path(call));
    return sl_call_reply_bytes(call, request);
}

static enum sl_status hang(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)request;
    struct bench *bench = user_data;
    bench->pending[bench->n_started++] = call;
    return SL_PENDING;
}

static enum sl_status judge(struct sl_call *call, void *user_data)
{
    struct bench *bench = user_data;
    bench->n_seen++;
    if (bench->verdict == SL_OK) {
        return SL_OK;
    }
    const struct sl_call_status status = { .code = bench->verdict,
                                           .message = "no key",
                                           .reason = "UNAUTHENTICATED" };
    return sl_call_fail(call, &status);
}

static void note_end(struct sl_call *call, enum sl_status status, void *user_data)
{
    struct bench *bench = user_data;
    bench->n_ended++;
    bench->last_status = status;
    if (sl_call_add_trailer(call, sl_slice_str("x-end"), sl_slice_str("seen")) != SL_OK) {
        bench->n_ended += 100;
    }
}

static int set_up(void **state)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    assert_non_null(bench);
    sl_limits_init(&bench->limits);
    bench->limits.runs_per_connection = 2;
    bench->limits.observers_per_connection = 1;
    bench->limits.control_calls_per_connection = 1;
    bench->server = new_server(&bench->limits);
    struct sl_server *server = bench->server;
    add_raw(server, "/t.S/Echo", SL_UNARY, echo, bench);
    assert_int_equal(sl_server_set_control(server, "/t.S/Control"), SL_OK);
    add_raw(server, "/t.S/Control", SL_SERVER_STREAMING, hang, bench);
    assert_int_equal(sl_server_set_class(server, "/t.S/Observe", SL_CLASS_OBSERVER), SL_OK);
    add_raw(server, "/t.S/Observe", SL_SERVER_STREAMING, hang, bench);
    add_raw(server, "/t.S/Hang", SL_SERVER_STREAMING, hang, bench);
    *state = bench;
    return 0;
}

static void open_peer(struct bench *bench)
{
    rpc_peer_open(&bench->peer, bench->server, NULL);
    (void)rpc_log(&bench->peer);
}

static int tear_down(void **state)
{
    struct bench *bench = *state;
    rpc_peer_close(&bench->peer);
    bench->server = sl_server_free(bench->server);
    free(bench);
    return 0;
}

/* The answer to a request with these fields; it never starts a handler. */
static const char *refusal(struct bench *bench, const char *path, const char *const *extra)
{
    const size_t n_started = bench->n_started;
    struct rpc_stream *stream = rpc_unary(&bench->peer, path, extra, "x");
    assert_true(stream->is_closed);
    assert_int_equal(stream->in.size, 0);
    rpc_stream_free(stream);
    rpc_pump(&bench->peer);
    assert_int_equal(bench->n_started, n_started);
    struct sl_server_stats stats;
    sl_server_stats(bench->server, &stats);
    assert_int_equal(stats.streams, 0);
    return rpc_log(&bench->peer);
}

static void assert_refusal(
    struct bench *bench, const char *path, const char *const *extra, const char *expected)
{
    const char *log = refusal(bench, path, extra);
    if (strstr(log, expected) == NULL) {
        fail_msg("expected\n%s\nin\n%s", expected, log);
    }
}

static void content_type_decides_first(void **state) /* ADM-4, ADM-5 */
{
    struct bench *bench = *state;
    open_peer(bench);
    static const char *const others[] = { "application/grpc-web", "application/grpcfoo",
                                          "application/json", "" };
    for (size_t i = 0; i < 4; i++) {
        const char *const extra[] = { "content-type", others[i], NULL };
        const char *log = refusal(bench, "/no.Such/Method", extra);
        if (strstr(log, " response :status=415 end\n") == NULL) {
            fail_msg("%s: %s", others[i], log);
        }
    }
    const char *const thrift[] = { "content-type", "application/grpc+thrift", NULL };
    assert_refusal(
        bench, "/t.S/Echo", thrift,
        ":status=200 content-type=application/grpc+thrift grpc-status=12 grpc-message=unknown "
        "message format \"thrift\"");
}

static void headers_over_the_soft_limit_are_refused_politely(void **state) /* ADM-1 */
{
    struct bench *bench = *state;
    rpc_peer_open_with(&bench->peer, bench->server, NULL, h2_side_new()); /* knows no limit yet */
    static char large[9000];
    memset(large, 'x', sizeof(large) - 1);
    const char *const extra[] = { "x-large", large, NULL };
    assert_refusal(
        bench, "/t.S/Echo", extra, ":status=200 content-type=application/grpc grpc-status=8");
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Echo", NULL, "still usable");
    assert_non_null(strstr(rpc_log(&bench->peer), "grpc-status=0"));
    rpc_stream_free(stream);
}

static void malformed_timeout_and_base64_are_http_400(void **state) /* ADM-6, DL-1 */
{
    struct bench *bench = *state;
    open_peer(bench);
    static const char *const bad[] = { "1", "S", "1s", "-1S", "123456789S", "1 S", "" };
    for (size_t i = 0; i < 7; i++) {
        const char *const extra[] = { "grpc-timeout", bad[i], NULL };
        assert_refusal(
            bench, "/t.S/Echo", extra, ":status=400 content-type=application/grpc grpc-status=13");
    }
    const char *const binary[] = { "x-bin", "a$", NULL };
    assert_refusal(
        bench, "/t.S/Echo", binary, ":status=400 content-type=application/grpc grpc-status=13");
}

static void only_post_is_a_call(void **state) /* ADM-10 */
{
    struct bench *bench = *state;
    open_peer(bench);
    const char *const extra[] = { ":method", "GET", NULL };
    assert_refusal(
        bench, "/t.S/Echo", extra, ":status=405 content-type=application/grpc grpc-status=13");
}

static void path_is_canonical_or_unknown(void **state) /* ADM-11, AT-17 */
{
    struct bench *bench = *state;
    open_peer(bench);
    const char *const scheme[] = { ":scheme", "grpc", NULL };
    static const char *const bad[] = { "t.S/Echo", "/Echo", "/t.S/", "/", "//", "*" };
    for (size_t i = 0; i < 6; i++) {
        assert_refusal(bench, bad[i], scheme, "grpc-status=12 grpc-message=malformed method name");
    }
    static const char *const folded[] = { "//t.S/Echo", "/t.S//Echo", "/t.S/Echo/", "/t.S/%45cho" };
    for (size_t i = 0; i < 4; i++) {
        (void)refusal(bench, folded[i], scheme);
    }
}

static void deadline_that_has_passed_starts_nothing(void **state) /* ADM-12 */
{
    struct bench *bench = *state;
    open_peer(bench);
    const char *const extra[] = { "grpc-timeout", "0n", NULL };
    assert_refusal(bench, "/t.S/Echo", extra, "grpc-status=4");
    assert_refusal(bench, "/no.Such/Method", extra, "grpc-status=4");  /* before ADM-13 */
    assert_refusal(bench, "/no.such.method", extra, "grpc-status=12"); /* ADM-11 is earlier */
}

static void unknown_service_and_method_have_distinct_texts(void **state) /* ADM-13 */
{
    struct bench *bench = *state;
    open_peer(bench);
    assert_refusal(
        bench, "/t.Other/Echo", NULL,
        ":status=200 content-type=application/grpc grpc-status=12 "
        "grpc-message=unknown service t.Other");
    assert_refusal(bench, "/t.S/Other", NULL, "grpc-message=unknown method Other for service t.S");
}

static void unknown_encoding_is_refused_before_any_message(void **state) /* ADM-15 */
{
    struct bench *bench = *state;
    open_peer(bench);
    const char *const extra[] = { "grpc-encoding", "snappy", NULL };
    const char *log = refusal(bench, "/t.S/Echo", extra);
    assert_non_null(strstr(log, "grpc-status=12"));
    assert_non_null(strstr(log, "\"snappy\" is not supported"));
    assert_non_null(strstr(log, "grpc-accept-encoding=identity,deflate,gzip"));
    struct rpc_stream *stream = rpc_open(&bench->peer, "/t.S/Echo", extra);
    rpc_pump(&bench->peer);
    assert_non_null(strstr(rpc_log(&bench->peer), "grpc-status=12"));
    rpc_stream_free(stream);
}

static void fallback_gets_what_nobody_registered(void **state) /* EM-4 */
{
    struct bench *bench = *state;
    add_raw(bench->server, NULL, SL_UNARY, echo, bench);
    assert_int_equal(
        sl_server_add_raw(bench->server, NULL, SL_UNARY, echo, bench), SL_ALREADY_EXISTS);
    open_peer(bench);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/a.b.C/D", NULL, "x");
    assert_non_null(strstr(rpc_log(&bench->peer), "grpc-status=0"));
    assert_string_equal(bench->path, "/a.b.C/D");
    rpc_stream_free(stream);
    assert_refusal(bench, "bad", (const char *const[]){ ":scheme", "x", NULL }, "grpc-status=12");
}

static void missing_te_is_accepted(void **state) /* ADM-14 */
{
    struct bench *bench = *state;
    open_peer(bench);
    const char *const extra[] = { "te", "trailers", "grpc-timeout", "99999999H", NULL };
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Echo", extra, "x");
    assert_non_null(strstr(rpc_log(&bench->peer), "grpc-status=0"));
    rpc_stream_free(stream);
}

static void quota_counts_tasks_and_not_streams(void **state) /* ADM-9, NG-2, RT-4 */
{
    struct bench *bench = *state;
    open_peer(bench);
    struct rpc_stream *streams[2];
    for (size_t i = 0; i < 2; i++) {
        streams[i] = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "x");
    }
    assert_int_equal(bench->n_started, 2);
    rpc_stream_free(streams[0]); /* reset: the task has not returned */
    rpc_pump(&bench->peer);
    struct rpc_stream *refused = rpc_unary(&bench->peer, "/t.S/Echo", NULL, "x");
    assert_non_null(strstr(rpc_log(&bench->peer), "5 closed unprocessed 7\n"));
    rpc_stream_free(refused);
    struct rpc_stream *control = rpc_unary(&bench->peer, "/t.S/Control", NULL, "x");
    assert_int_equal(bench->n_started, 3);
    struct rpc_stream *second = rpc_unary(&bench->peer, "/t.S/Control", NULL, "x");
    assert_non_null(strstr(rpc_log(&bench->peer), "9 closed unprocessed 7\n"));
    for (size_t i = 0; i < 3; i++) {
        assert_true(sl_call_is_ended(bench->pending[i]) == (i == 0));
        sl_call_finishf(bench->pending[i], SL_OK, "%s", "");
    }
    rpc_pump(&bench->peer);
    (void)rpc_log(&bench->peer);
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Echo", NULL, "x");
    assert_non_null(strstr(rpc_log(&bench->peer), "grpc-status=0"));
    rpc_stream_free(stream);
    rpc_stream_free(streams[1]);
    rpc_stream_free(control);
    rpc_stream_free(second);
}

static void quota_counts_tasks_whose_deadline_has_passed(void **state) /* NG-2 */
{
    struct bench *bench = *state;
    open_peer(bench);
    const char *const soon[] = { "grpc-timeout", "50m", NULL };
    struct rpc_stream *streams[2];
    for (size_t i = 0; i < 2; i++) {
        streams[i] = rpc_unary(&bench->peer, "/t.S/Hang", soon, "x");
    }
    rpc_advance_ms(&bench->peer, 60);
    assert_true(streams[0]->is_closed && streams[1]->is_closed);
    (void)rpc_log(&bench->peer);
    struct rpc_stream *refused = rpc_unary(&bench->peer, "/t.S/Echo", NULL, "x");
    assert_non_null(strstr(rpc_log(&bench->peer), "5 closed unprocessed 7\n"));
    sl_call_finishf(bench->pending[0], SL_OK, "%s", "");
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Echo", NULL, "x");
    assert_non_null(strstr(rpc_log(&bench->peer), "grpc-status=0"));
    sl_call_finishf(bench->pending[1], SL_OK, "%s", "");
    rpc_stream_free(refused);
    rpc_stream_free(stream);
    rpc_stream_free(streams[0]);
    rpc_stream_free(streams[1]);
}

static size_t largest_bytes;

static bool note_size(size_t size)
{
    largest_bytes = size > largest_bytes ? size : largest_bytes;
    return true;
}

/* The largest block that a request with this field costs. */
static size_t cost_of(struct sl_conn *conn, uint32_t id, const char *const *field)
{
    static const char *const usual[][2] = { { ":method", "POST" },
                                            { ":scheme", "http" },
                                            { ":path", "/t.S/Hang" },
                                            { ":authority", "x" },
                                            { "content-type", "application/grpc" },
                                            { "grpc-timeout", "5S" } };
    static struct h2_wire wire;
    static uint8_t room[1 << 17];
    uint8_t block[512];
    size_t n = 0;
    for (size_t i = 0; i < 6; i++) {
        const bool is_other = strcmp(usual[i][0], field[0]) == 0;
        n += h2_hpack(block + n, usual[i][0], is_other ? field[1] : usual[i][1]);
    }
    h2_wire_clear(&wire);
    h2_wire_frame(&wire, 1, 4, id, block, n);
    largest_bytes = 0;
    sl_mem_set_gate(note_size);
    const enum sl_status fed =
        sl_conn_feed(conn, sl_slice_of(wire.bytes, wire.size), 2 * SL_NS_PER_S, NULL);
    sl_mem_set_gate(NULL);
    assert_int_equal(fed, SL_OK);
    (void)sl_conn_pull(conn, room, sizeof(room), 2 * SL_NS_PER_S);
    return largest_bytes;
}

static void refused_request_costs_no_more_than_a_stream(void **state) /* ADM-16 */
{
    struct bench *bench = *state;
    static const char *const refused[][2] = {
        { "content-type", "text/html" }, { "content-type", "application/grpc+x" },
        { "grpc-timeout", "soon" },      { ":method", "PUT" },
        { ":path", "/nowhere" },         { ":path", "/t.S/Nothing" },
        { ":path", "/no.Service/x" },    { "grpc-timeout", "0n" },
    };
    open_peer(bench);
    struct sl_conn *conn = NULL;
    assert_int_equal(sl_conn_new(bench->server, NULL, &conn), SL_OK);
    static struct h2_wire wire;
    h2_wire_clear(&wire);
    h2_wire_magic(&wire);
    h2_wire_frame(&wire, 4, 0, 0, NULL, 0);
    assert_int_equal(
        sl_conn_feed(conn, sl_slice_of(wire.bytes, wire.size), SL_NS_PER_S, NULL), SL_OK);
    for (size_t i = 0; i < SL_COUNT(refused); i++) {
        assert_true(cost_of(conn, (uint32_t)(2 * i + 1), refused[i]) <= sizeof(struct sl_call));
    }
    assert_int_equal(bench->n_started, 0);
    (void)sl_conn_free(conn);
}

/* Starts a call that stays. */
static struct rpc_stream *begin(struct bench *bench, const char *path)
{
    const size_t n_started = bench->n_started;
    struct rpc_stream *stream = rpc_unary(&bench->peer, path, NULL, "x");
    assert_false(stream->is_closed);
    assert_int_equal(bench->n_started, n_started + 1);
    return stream;
}

static void assert_full(struct bench *bench, const char *path, enum sl_limit limit)
{
    const uint64_t n_reached = sl_limit_n_reached(limit);
    const size_t n_started = bench->n_started;
    (void)rpc_log(&bench->peer);
    struct rpc_stream *stream = rpc_unary(&bench->peer, path, NULL, "x");
    assert_non_null(strstr(rpc_log(&bench->peer), "closed unprocessed 7\n"));
    rpc_stream_free(stream);
    assert_int_equal(bench->n_started, n_started);
    assert_int_equal(sl_limit_n_reached(limit), n_reached + 1);
}

/* A class that is full, whichever it is, is in nobody else's way. */
static void each_class_has_a_quota_of_its_own(void **state) /* ADM-9 */
{
    static const struct {
        const char *path;
        size_t n_places;
        enum sl_limit limit;
    } classes[] = { { "/t.S/Hang", 2, SL_LIMIT_runs_per_connection },
                    { "/t.S/Observe", 1, SL_LIMIT_observers_per_connection },
                    { "/t.S/Control", 1, SL_LIMIT_control_calls_per_connection } };
    struct bench *bench = *state;
    open_peer(bench);
    for (size_t first = 0; first < SL_COUNT(classes); first++) {
        struct rpc_stream *streams[4];
        size_t n_streams = 0;
        bench->n_started = 0;
        for (size_t i = 0; i < SL_COUNT(classes); i++) {
            const size_t at = (first + i) % SL_COUNT(classes);
            for (size_t k = 0; k < classes[at].n_places; k++) {
                streams[n_streams++] = begin(bench, classes[at].path);
            }
            assert_full(bench, classes[at].path, classes[at].limit);
        }
        struct sl_server_stats stats;
        sl_server_stats(bench->server, &stats);
        assert_int_equal(stats.at_stream_limit, 1);
        assert_int_equal(atomic_load(&bench->server->n_running), 3);
        for (size_t i = 0; i < n_streams; i++) {
            sl_call_finishf(bench->pending[i], SL_OK, "%s", "");
        }
        rpc_pump(&bench->peer);
        sl_server_stats(bench->server, &stats);
        assert_int_equal(stats.at_stream_limit, 0);
        assert_int_equal(atomic_load(&bench->server->n_running), 0);
        for (size_t i = 0; i < n_streams; i++) {
            rpc_stream_free(streams[i]);
        }
    }
}

/* What a connection has too many of is what the gauge tells of, observers too. */
static void connection_without_places_for_observers_is_at_its_limit(void **state) /* OP-3 */
{
    struct bench *bench = *state;
    open_peer(bench);
    struct sl_server_stats stats;
    struct rpc_stream *control = begin(bench, "/t.S/Control");
    sl_server_stats(bench->server, &stats);
    assert_int_equal(stats.at_stream_limit, 0);
    struct rpc_stream *observer = begin(bench, "/t.S/Observe");
    sl_server_stats(bench->server, &stats);
    assert_int_equal(stats.at_stream_limit, 1);
    sl_call_finishf(bench->pending[0], SL_OK, "%s", "");
    sl_call_finishf(bench->pending[1], SL_OK, "%s", "");
    rpc_pump(&bench->peer);
    sl_server_stats(bench->server, &stats);
    assert_int_equal(stats.at_stream_limit, 0);
    rpc_stream_free(control);
    rpc_stream_free(observer);
}

static void on_ended_finish(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    (void)end;
    (void)user_data;
    sl_call_finishf(call, SL_CANCELLED, "gone");
}

/* What returns as soon as its client has gone, such as Watch of the health service. */
static enum sl_status watch(struct sl_call *call, struct sl_slice request, void *user_data)
{
    static const struct sl_call_callbacks callbacks = { .on_ended = on_ended_finish };
    (void)request;
    struct bench *bench = user_data;
    bench->n_started++;
    sl_call_set_callbacks(call, &callbacks, bench);
    const enum sl_status status = sl_call_send_bytes(call, sl_slice_str("x"));
    return status == SL_OK ? SL_PENDING : status;
}

/* A client cancels its call and starts the next, and both leave in one write. */
static void call_that_replaces_a_cancelled_one_is_not_refused(void **state) /* NG-2, ADM-9 */
{
    struct bench *bench = *state;
    struct sl_server *server = bench->server;
    assert_int_equal(sl_server_set_control(server, "/t.S/Watch"), SL_OK);
    add_raw(server, "/t.S/Watch", SL_SERVER_STREAMING, watch, bench);
    add_raw(server, "/t.S/Follow", SL_SERVER_STREAMING, watch, bench);
    open_peer(bench);
    struct rpc_stream *run = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "x");
    static const char *const paths[] = { "/t.S/Watch", "/t.S/Follow" };
    for (size_t i = 0; i < 200; i++) {
        struct rpc_stream *old = rpc_unary(&bench->peer, paths[i / 100], NULL, "x");
        rpc_stream_free(old);
        struct rpc_stream *next = rpc_unary(&bench->peer, paths[i / 100], NULL, "x");
        assert_false(next->is_closed);
        rpc_stream_free(next);
        rpc_pump(&bench->peer);
    }
    assert_int_equal(bench->n_started, 401);
    assert_null(strstr(rpc_log(&bench->peer), "unprocessed"));
    sl_call_finishf(bench->pending[0], SL_OK, "%s", "");
    rpc_pump(&bench->peer);
    rpc_stream_free(run);
}

/* The answer of `peer` to a call of this path. */
static const char *ask(struct rpc_peer *peer, const char *path)
{
    (void)rpc_log(peer);
    struct rpc_stream *stream = rpc_unary(peer, path, NULL, "x");
    rpc_stream_free(stream);
    return rpc_log(peer);
}

static void server_has_places_for_all_connections_together(void **state) /* NG-2, RT-1, OP-3 */
{
    struct bench *bench = *state;
    struct rpc_peer other;
    const char *const labels[] = { "request", "server_full" };
    const struct sl_series *refusals = sl_metric_series(SL_M_sluice_refusals, labels);
    bench->limits.running_calls = 2;
    assert_int_equal(sl_server_set_limits(bench->server, &bench->limits), SL_OK);
    add_raw(bench->server, "/grpc.health.v1.Health/Check", SL_UNARY, echo, bench);
    open_peer(bench);
    rpc_peer_open(&other, bench->server, NULL);
    const uint64_t n_reached = sl_limit_n_reached(SL_LIMIT_running_calls);
    const uint64_t n_refused = sl_metric_value(refusals);
    struct rpc_stream *first = rpc_unary(&bench->peer, "/t.S/Hang", NULL, "x");
    struct rpc_stream *second = rpc_unary(&other, "/t.S/Hang", NULL, "x");
    assert_int_equal(bench->n_started, 2);

    const char *log = ask(&other, "/t.S/Echo");
    assert_non_null(strstr(log, "grpc-status=8"));
    assert_non_null(strstr(log, "grpc-message=too many calls run on this server"));
    assert_non_null(strstr(log, "grpc-retry-pushback-ms=1000"));
    assert_int_equal(bench->n_started, 2);
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_running_calls), n_reached + 1);
    assert_int_equal(sl_metric_value(refusals), n_refused + 1);
    assert_non_null(strstr(ask(&other, "/grpc.health.v1.Health/Check"), "grpc-status=0"));
    struct rpc_stream *control = rpc_unary(&other, "/t.S/Control", NULL, "x");
    assert_int_equal(bench->n_started, 4);

    rpc_stream_free(first); /* reset: the task has not returned */
    rpc_pump(&bench->peer);
    assert_non_null(strstr(ask(&other, "/t.S/Echo"), "grpc-status=8"));
    sl_call_finishf(bench->pending[0], SL_OK, "%s", "");
    for (size_t i = 0; i < 3; i++) { /* a place that is free is free for everybody, each time */
        assert_non_null(
            strstr(ask(i % 2 == 0 ? &other : &bench->peer, "/t.S/Echo"), "grpc-status=0"));
    }
    sl_call_finishf(bench->pending[1], SL_OK, "%s", "");
    sl_call_finishf(bench->pending[3], SL_OK, "%s", "");
    rpc_pump(&other);
    rpc_stream_free(second);
    rpc_stream_free(control);
    rpc_peer_close(&other);
    assert_int_equal(atomic_load(&bench->server->n_running), 0);
}

/* What never becomes a task gives its place back, too. */
static void refused_calls_leave_no_places_behind(void **state) /* NG-2 */
{
    struct bench *bench = *state;
    const struct sl_interceptor interceptor = { .on_start = judge, .user_data = bench };
    bench->limits.running_calls = 1;
    assert_int_equal(sl_server_set_limits(bench->server, &bench->limits), SL_OK);
    assert_int_equal(sl_server_add_interceptor(bench->server, &interceptor), SL_OK);
    open_peer(bench);
    bench->verdict = SL_UNAUTHENTICATED;
    for (size_t i = 0; i < 5; i++) {
        assert_non_null(strstr(ask(&bench->peer, "/t.S/Echo"), "grpc-status=16"));
        assert_non_null(strstr(ask(&bench->peer, "/no.Such/Method"), "grpc-status=12"));
    }
    bench->verdict = SL_OK;
    assert_non_null(strstr(ask(&bench->peer, "/t.S/Echo"), "grpc-status=0"));
    assert_int_equal(atomic_load(&bench->server->n_running), 0);
}

static void server_that_refuses_new_calls_says_draining(void **state) /* CM-6, RT-1 */
{
    struct bench *bench = *state;
    add_raw(bench->server, "/grpc.health.v1.Health/Check", SL_UNARY, echo, bench);
    open_peer(bench);
    sl_server_refuse_new(bench->server);
    const char *log = refusal(bench, "/t.S/Echo", NULL);
    assert_non_null(strstr(log, "grpc-status=14"));
    assert_non_null(strstr(log, "grpc-retry-pushback-ms=1000"));
    assert_non_null(strstr(log, "grpc-status-details-bin="));
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/grpc.health.v1.Health/Check", NULL, "x");
    assert_non_null(strstr(rpc_log(&bench->peer), "grpc-status=0"));
    rpc_stream_free(stream);
    stream = rpc_unary(&bench->peer, "/t.S/Control", NULL, "x");
    assert_int_equal(bench->n_started, 2);
    sl_call_finishf(bench->pending[1], SL_OK, "%s", "");
    rpc_pump(&bench->peer);
    rpc_stream_free(stream);
}

static void interceptors_may_end_a_call_and_see_its_status(void **state) /* OP-1 */
{
    struct bench *bench = *state;
    const struct sl_interceptor interceptor = { .on_start = judge,
                                                .on_end = note_end,
                                                .user_data = bench };
    const struct sl_interceptor watcher = { .on_end = note_end, .user_data = bench };
    assert_int_equal(sl_server_add_interceptor(bench->server, &interceptor), SL_OK);
    assert_int_equal(sl_server_add_interceptor(bench->server, &watcher), SL_OK);
    open_peer(bench);
    bench->verdict = SL_UNAUTHENTICATED;
    const char *log = refusal(bench, "/t.S/Echo", NULL);
    assert_non_null(strstr(log, "grpc-status=16 grpc-message=no key grpc-status-details-bin="));
    assert_non_null(strstr(log, "x-end=seen end\n"));
    assert_int_equal(bench->n_ended, 1); /* the second never saw the call */
    assert_int_equal(bench->last_status, SL_UNAUTHENTICATED);
    bench->verdict = SL_OK;
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Echo", NULL, "x");
    assert_non_null(
        strstr(rpc_log(&bench->peer), "trailers grpc-status=0 x-end=seen x-end=seen end\n"));
    assert_int_equal(bench->n_ended, 3);
    assert_int_equal(bench->last_status, SL_OK);
    rpc_stream_free(stream);
    (void)refusal(bench, "/t.Other/Echo", NULL);
    assert_int_equal(bench->n_seen, 2); /* only canonical, registered paths */
}

static void registering_twice_is_refused(void **state)
{
    struct bench *bench = *state;
    assert_int_equal(
        sl_server_add_raw(bench->server, "/t.S/Echo", SL_UNARY, echo, bench), SL_ALREADY_EXISTS);
    assert_int_equal(
        sl_server_add_raw(bench->server, "no path", SL_UNARY, echo, bench), SL_INVALID_ARGUMENT);
    static const struct sl_method_desc methods[] = { { .path = "/t.S/Echo", .name = "Echo" },
                                                     { .path = "/t.S/New", .name = "New" } };
    static const struct sl_service_desc service = { .name = "t.S",
                                                    .methods = methods,
                                                    .n_methods = 2 };
    static sl_method_start_fn *const starts[2] = { NULL, NULL };
    assert_int_equal(
        sl_server_add_service(bench->server, &service, starts, NULL, NULL), SL_ALREADY_EXISTS);
    assert_int_equal(sl_server_n_services(bench->server), 0);
    open_peer(bench);
    assert_refusal(bench, "/t.S/New", NULL, "unknown method New for service t.S");
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(content_type_decides_first),
        CASE(headers_over_the_soft_limit_are_refused_politely),
        CASE(malformed_timeout_and_base64_are_http_400),
        CASE(only_post_is_a_call),
        CASE(path_is_canonical_or_unknown),
        CASE(deadline_that_has_passed_starts_nothing),
        CASE(unknown_service_and_method_have_distinct_texts),
        CASE(unknown_encoding_is_refused_before_any_message),
        CASE(fallback_gets_what_nobody_registered),
        CASE(missing_te_is_accepted),
        CASE(quota_counts_tasks_and_not_streams),
        CASE(quota_counts_tasks_whose_deadline_has_passed),
        CASE(refused_request_costs_no_more_than_a_stream),
        CASE(each_class_has_a_quota_of_its_own),
        CASE(connection_without_places_for_observers_is_at_its_limit),
        CASE(call_that_replaces_a_cancelled_one_is_not_refused),
        CASE(server_has_places_for_all_connections_together),
        CASE(refused_calls_leave_no_places_behind),
        CASE(server_that_refuses_new_calls_says_draining),
        CASE(interceptors_may_end_a_call_and_see_its_status),
        CASE(registering_twice_is_refused),
    };
#undef CASE
    return cmocka_run_group_tests_name("rpc_admission", tests, NULL, NULL);
}
