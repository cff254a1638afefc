/* Calls of a client that a handler makes for the call that it serves: they take over its deadline
 * and end with it. Both sides of both calls live in one process, on a clock of the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "tests/wire/client_rig.h"
#include "tests/wire/rpc_peer.h"

static const struct sl_method_desc back = { .path = "/test.Service/Back",
                                            .name = "Back",
                                            .kind = SL_UNARY };

static struct client_rig rig;
static struct rpc_peer peer;

/* The front's call and what it makes; the back's, as its handler sees it. */
static struct {
    struct sl_call *call;
    struct sl_client_call *child;
    uint64_t child_timeout_ms;
    enum sl_status opened;
    bool finishes_at_once;
    bool opens_when_ended;
} front;
static struct {
    struct sl_call *call;
    uint64_t timeout_ns;
    bool is_ended;
    enum sl_call_end_kind how;
} behind;

static void open_child(struct sl_call *call)
{
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = front.child_timeout_ms,
                                                    .parent = call };
    front.opened = sl_client_call_open(rig.channel, &back, &options, &front.child);
    if (front.opened == SL_OK) {
        (void)!sl_client_call_send_bytes(front.child, sl_slice_str("x"));
        sl_client_call_close_send(front.child);
    }
}

static void on_front_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    (void)end;
    (void)user_data;
    if (front.opens_when_ended) {
        open_child(call);
    }
    sl_call_finishf(call, SL_CANCELLED, "%s", "");
    front.call = NULL;
}

static enum sl_status on_front(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)request;
    (void)user_data;
    static const struct sl_call_callbacks callbacks = { .on_ended = on_front_ended };
    sl_call_set_callbacks(call, &callbacks, NULL);
    front.call = call;
    if (!front.opens_when_ended) {
        open_child(call);
    }
    return front.finishes_at_once ? SL_OK : SL_PENDING;
}

static void on_back_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    (void)user_data;
    behind.is_ended = true;
    behind.how = end->kind;
    behind.call = NULL;
    sl_call_finishf(call, SL_CANCELLED, "%s", "");
}

static enum sl_status on_back(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)request;
    (void)user_data;
    static const struct sl_call_callbacks callbacks = { .on_ended = on_back_ended };
    sl_call_set_callbacks(call, &callbacks, NULL);
    behind.call = call;
    behind.timeout_ns = 0;
    (void)sl_call_timeout_ns(call, &behind.timeout_ns);
    return SL_PENDING;
}

static int setup(void **state)
{
    (void)state;
    memset(&front, 0, sizeof(front));
    memset(&behind, 0, sizeof(behind));
    front.opened = SL_PENDING;
    client_rig_init(&rig);
    const struct sl_server_options options = { .struct_size = sizeof(options) };
    assert_int_equal(sl_server_new(&options, &rig.server), SL_OK);
    assert_int_equal(
        sl_server_add_raw(rig.server, "/test.Service/Front", SL_UNARY, on_front, NULL), SL_OK);
    assert_int_equal(sl_server_add_raw(rig.server, back.path, SL_UNARY, on_back, NULL), SL_OK);
    client_rig_channel(&rig, NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    (void)sl_client_call_free(front.child);
    client_rig_turn(&rig);
    rpc_peer_close(&peer);
    client_rig_done(&rig);
    (void)sl_server_free(rig.server);
    return 0;
}

/* Everything that can happen now, in both connections. */
static void turn(void)
{
    for (int i = 0; i < 4; i++) {
        rpc_pump(&peer);
        client_rig_turn(&rig);
    }
}

static struct rpc_stream *call_front(const char *timeout)
{
    const char *extra[] = { "grpc-timeout", timeout, NULL };
    rpc_peer_open(&peer, rig.server, &rig.loop.base);
    struct rpc_stream *stream =
        rpc_unary(&peer, "/test.Service/Front", timeout == NULL ? NULL : extra, "x");
    turn();
    return stream;
}

static void the_earlier_deadline_counts_dl_5(void **state)
{
    (void)state;
    front.child_timeout_ms = 900;
    struct rpc_stream *stream = call_front("500m");
    assert_int_equal(front.opened, SL_OK);
    assert_int_equal(behind.timeout_ns, 500 * SL_NS_PER_MS);
    client_rig_advance_ms(&rig, 499);
    assert_int_equal(sl_client_call_status(front.child), SL_PENDING);
    client_rig_advance_ms(&rig, 1);
    const enum sl_status status = sl_client_call_status(front.child);
    assert_true(status == SL_DEADLINE_EXCEEDED || status == SL_CANCELLED);
    rpc_stream_free(stream);
}

static void a_childs_own_deadline_may_be_earlier(void **state)
{
    (void)state;
    front.child_timeout_ms = 100;
    struct rpc_stream *stream = call_front("500m");
    assert_int_equal(behind.timeout_ns, 100 * SL_NS_PER_MS);
    client_rig_advance_ms(&rig, 100);
    assert_int_equal(sl_client_call_status(front.child), SL_DEADLINE_EXCEEDED);
    assert_non_null(front.call);
    rpc_stream_free(stream);
}

static void without_a_deadline_there_is_none_to_take_over(void **state)
{
    (void)state;
    struct rpc_stream *stream = call_front(NULL);
    assert_int_equal(behind.timeout_ns, 0);
    client_rig_advance_ms(&rig, 10000);
    assert_int_equal(sl_client_call_status(front.child), SL_PENDING);
    rpc_stream_free(stream);
}

static void who_cancels_the_parent_cancels_the_child_too(void **state)
{
    (void)state;
    struct rpc_stream *stream = call_front(NULL);
    assert_non_null(behind.call);
    rpc_stream_free(stream); /* RST_STREAM */
    turn();
    assert_null(front.call);
    assert_int_equal(sl_client_call_status(front.child), SL_CANCELLED);
    assert_int_equal(sl_client_call_error(front.child)->origin, SL_ORIGIN_LOCAL);
    assert_true(behind.is_ended);
    assert_int_equal(behind.how, SL_CALL_RESET);
}

static void the_parents_lost_connection_cancels_the_child_too(void **state)
{
    (void)state;
    struct rpc_stream *stream = call_front(NULL);
    sl_conn_lost(peer.conn);
    turn();
    assert_int_equal(sl_client_call_status(front.child), SL_CANCELLED);
    assert_true(behind.is_ended);
    rpc_stream_free(stream);
}

static void a_handler_that_finishes_leaves_no_child_behind(void **state)
{
    (void)state;
    front.finishes_at_once = true;
    struct rpc_stream *stream = call_front(NULL);
    assert_true(stream->is_closed);
    assert_int_equal(sl_client_call_status(front.child), SL_CANCELLED);
    assert_null(behind.call);
    rpc_stream_free(stream);
}

static void a_child_may_go_before_its_parent(void **state)
{
    (void)state;
    struct rpc_stream *stream = call_front(NULL);
    front.child = sl_client_call_free(front.child);
    turn();
    assert_true(behind.is_ended);
    rpc_stream_free(stream);
    turn();
    assert_null(front.call);
}

static void a_parent_that_is_over_has_only_cancelled_children(void **state)
{
    (void)state;
    front.opens_when_ended = true;
    struct rpc_stream *stream = call_front(NULL);
    rpc_stream_free(stream);
    turn();
    assert_int_equal(front.opened, SL_OK);
    assert_int_equal(sl_client_call_status(front.child), SL_CANCELLED);
    assert_int_equal(rig.n_connects, 0);
}

static void a_parent_on_another_loop_is_refused(void **state)
{
    (void)state;
    rpc_peer_open(&peer, rig.server, NULL); /* level 1: it has none */
    struct rpc_stream *stream = rpc_unary(&peer, "/test.Service/Front", NULL, "x");
    assert_int_equal(front.opened, SL_FAILED_PRECONDITION);
    rpc_stream_free(stream);
    rpc_pump(&peer);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(the_earlier_deadline_counts_dl_5),
        T(a_childs_own_deadline_may_be_earlier),
        T(without_a_deadline_there_is_none_to_take_over),
        T(who_cancels_the_parent_cancels_the_child_too),
        T(the_parents_lost_connection_cancels_the_child_too),
        T(a_handler_that_finishes_leaves_no_child_behind),
        T(a_child_may_go_before_its_parent),
        T(a_parent_that_is_over_has_only_cancelled_children),
        T(a_parent_on_another_loop_is_refused),
    };
    return cmocka_run_group_tests_name("rpc_client_parent", tests, NULL, NULL);
}
