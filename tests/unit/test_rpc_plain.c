/* Requests of another protocol on the port of gRPC (plain.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "service/rpc/call.h"
#include "service/rpc/plain.h"
#include "service/rpc/server_core.h"
#include "tests/unit/test_rpc_rig.h"

enum { PAGE_BYTES = 300000 };

struct bench {
    struct sl_server *server;
    struct rpc_peer peer;
    uint8_t page[PAGE_BYTES];
    size_t n_asked;
    bool is_unwilling;
};

static bool
answer(const struct sl_plain_request *request, struct sl_plain_reply *ret_reply, void *user_data)
{
    struct bench *bench = user_data;
    bench->n_asked++;
    if (bench->is_unwilling || !sl_slice_equals(request->path, "/page")) {
        return false;
    }
    ret_reply->content_type = "text/html";
    ret_reply->body = sl_slice_of(bench->page, sizeof(bench->page));
    return true;
}

static enum sl_status echo(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)user_data;
    return sl_call_reply_bytes(call, request);
}

static int set_up(void **state)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    assert_non_null(bench);
    memset(bench->page, 'p', sizeof(bench->page));
    assert_int_equal(sl_server_new(NULL, &bench->server), SL_OK);
    add_raw(bench->server, "/t.S/Echo", SL_UNARY, echo, NULL);
    sl_server_set_plain(bench->server, answer, bench);
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

static const char *const get_page[] = { ":method", "GET", "content-type", "text/plain", NULL };
static const char *const head_page[] = { ":method", "HEAD", "content-type", "text/plain", NULL };
static const char *const post_page[] = { "content-type", "application/json", NULL };

static void page_is_given_whole(void **state)
{
    struct bench *bench = *state;
    const char *const *const requests[] = { get_page, post_page };
    for (size_t i = 0; i < 2; i++) {
        struct rpc_stream *stream = rpc_unary(&bench->peer, "/page", requests[i], "a body");
        assert_log(&bench->peer, ":status=200 content-type=text/html content-length=300000\n");
        assert_int_equal(stream->in.size, PAGE_BYTES);
        assert_memory_equal(stream->in.data, bench->page, PAGE_BYTES);
        assert_true(stream->is_closed);
        rpc_stream_free(stream);
    }
}

static void head_has_no_body(void **state)
{
    struct bench *bench = *state;
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/page", head_page, "");
    assert_log(&bench->peer, ":status=200 content-type=text/html content-length=300000 end\n");
    assert_int_equal(stream->in.size, 0);
    rpc_stream_free(stream);
}

static void answer_waits_for_the_end_of_the_request(void **state)
{
    struct bench *bench = *state;
    struct rpc_stream *stream = rpc_open(&bench->peer, "/page", post_page);
    rpc_send(stream, "half", 4);
    rpc_pump(&bench->peer);
    assert_string_equal(rpc_log(&bench->peer), "");
    rpc_end(stream);
    rpc_pump(&bench->peer);
    assert_log(&bench->peer, ":status=200");
    rpc_stream_free(stream);
}

static void what_nobody_wants_is_415(void **state) /* ADM-4 */
{
    struct bench *bench = *state;
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/other", post_page, "x");
    assert_log(&bench->peer, ":status=415 end\n");
    rpc_stream_free(stream);
    bench->is_unwilling = true;
    stream = rpc_unary(&bench->peer, "/page", get_page, "x");
    assert_log(&bench->peer, ":status=415 end\n");
    rpc_stream_free(stream);
}

static void calls_of_grpc_are_not_asked_about(void **state)
{
    struct bench *bench = *state;
    struct rpc_stream *stream = rpc_unary(&bench->peer, "/t.S/Echo", NULL, "x");
    assert_log(&bench->peer, "grpc-status=0");
    assert_int_equal(bench->n_asked, 0);
    rpc_stream_free(stream);
}

static void streams_that_end_early_leave_nothing_behind(void **state)
{
    struct bench *bench = *state;
    struct rpc_stream *reset = rpc_open(&bench->peer, "/page", post_page);
    rpc_pump(&bench->peer);
    rpc_stream_free(reset); /* RST_STREAM before its end */
    rpc_pump(&bench->peer);
    struct rpc_stream *open = rpc_open(&bench->peer, "/page", post_page);
    rpc_pump(&bench->peer);
    assert_int_equal(stats_of(bench->server).streams, 1);
    sl_conn_lost(bench->peer.conn); /* LeakSanitizer sees what is left */
    assert_int_equal(stats_of(bench->server).streams, 0);
    rpc_stream_free(open);
}

/* CM-13: neither side of a plain request may wait for ever. */
static void silence_is_ended(void **state)
{
    struct bench *bench = *state;
    struct sl_limits limits;
    sl_limits_init(&limits);
    struct rpc_stream *half = rpc_open(&bench->peer, "/page", post_page);
    rpc_send(half, "half", 4);
    rpc_pump(&bench->peer);
    rpc_advance_ms(&bench->peer, limits.stall - 1);
    assert_false(half->is_closed);
    rpc_advance_ms(&bench->peer, 1);
    assert_true(half->is_closed);
    rpc_stream_free(half);

    bench->peer.client->keeps_credit = true; /* the windows hold less than the page */
    struct rpc_stream *unread = rpc_unary(&bench->peer, "/page", post_page, "x");
    assert_true(unread->in.size < PAGE_BYTES);
    rpc_advance_ms(&bench->peer, limits.stall - 1);
    assert_false(unread->is_closed);
    rpc_advance_ms(&bench->peer, 1);
    assert_true(unread->is_closed);
    rpc_stream_free(unread);
}

/* CM-13: a reply has the whole time, however long its request took. */
static void a_reply_has_the_whole_time(void **state)
{
    struct bench *bench = *state;
    struct sl_limits limits;
    sl_limits_init(&limits);
    struct rpc_stream *slow = rpc_open(&bench->peer, "/page", post_page);
    rpc_pump(&bench->peer);
    bench->peer.client->keeps_credit = true;
    struct rpc_stream *unread[5]; /* use up the connection's window */
    for (size_t i = 0; i < SL_COUNT(unread); i++) {
        unread[i] = rpc_unary(&bench->peer, "/page", post_page, "x");
    }
    assert_int_equal(unread[4]->in.size, 0);
    rpc_advance_ms(&bench->peer, limits.stall - 1);
    rpc_end(slow);
    rpc_pump(&bench->peer);
    rpc_advance_ms(&bench->peer, limits.stall - 1);
    assert_true(unread[0]->is_closed);
    assert_false(slow->is_closed);
    rpc_advance_ms(&bench->peer, 1);
    assert_true(slow->is_closed);
    for (size_t i = 0; i < SL_COUNT(unread); i++) {
        rpc_stream_free(unread[i]);
    }
    rpc_stream_free(slow);
}

/* CM-4: a request that is not gRPC's is use, too. */
static void a_connection_with_a_plain_request_is_not_idle(void **state)
{
    struct bench *bench = *state;
    struct sl_limits limits;
    sl_server_default_limits(&limits);
    limits.connection_idle = 5000;
    assert_int_equal(sl_server_set_limits(bench->server, &limits), SL_OK);
    rpc_peer_close(&bench->peer);
    rpc_peer_open(&bench->peer, bench->server, NULL);
    struct rpc_stream *open = rpc_open(&bench->peer, "/page", head_page);
    rpc_pump(&bench->peer);
    rpc_advance_ms(&bench->peer, 20000);
    rpc_end(open);
    rpc_pump(&bench->peer);
    assert_true(open->is_closed);
    rpc_advance_ms(&bench->peer, 4999);
    assert_null(strstr(rpc_log(&bench->peer), "goaway"));
    rpc_advance_ms(&bench->peer, 1);
    assert_non_null(strstr(rpc_log(&bench->peer), "goaway"));
    rpc_stream_free(open);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(page_is_given_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(head_has_no_body, set_up, tear_down),
        cmocka_unit_test_setup_teardown(answer_waits_for_the_end_of_the_request, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_nobody_wants_is_415, set_up, tear_down),
        cmocka_unit_test_setup_teardown(calls_of_grpc_are_not_asked_about, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            streams_that_end_early_leave_nothing_behind, set_up, tear_down),
        cmocka_unit_test_setup_teardown(silence_is_ended, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reply_has_the_whole_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_connection_with_a_plain_request_is_not_idle, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("rpc_plain", tests, NULL, NULL);
}
