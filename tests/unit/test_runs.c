/* StartRun, Attach, CancelRun, GetRun and ListRuns where memory is short: server, runtime and
 * client on one loop, joined in memory. What they do otherwise is tested from outside (e2e). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/sluice/v1/runtime.sl.h"
#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "runtime/runtime.h"
#include "service/api/api.h"
#include "service/rpc/server.h"
#include "tests/wire/rpc_peer.h"

enum { MAX_STEPS = 100000, REQUEST_BYTES = 256, ID_BYTES = 33 };

#define PATH(name) "/sluice.v1.AgentRuntime/" name

static struct sl_limits limits;
static struct sl_loop_uv *uv_loop;
static struct sl_loop *loop;
static struct sl_runtime *runtime;
static struct sl_server *server;
static struct sl_api *api;
static bool is_drained, is_idle;
static char run_id[ID_BYTES]; /* of a run that has ended, and is kept */

/* ---- The bench ------------------------------------------------------------------------------- */

static const char *no_env(const char *name)
{
    (void)name;
    return NULL;
}

static void set_flag(void *user_data)
{
    *(bool *)user_data = true;
}

static void step(void)
{
    sl_loop_uv_step(uv_loop, 20);
}

/* A request of one method. */
struct request {
    const char *path;
    uint8_t bytes[REQUEST_BYTES];
    size_t size;
};

static struct request start_request(const char *input)
{
    struct request request = { .path = PATH("StartRun") };
    Sluice__V1__ExecuteRequest message = SLUICE__V1__EXECUTE_REQUEST__INIT;
    message.agent = sl_unconst("load");
    message.input = sl_unconst(input);
    request.size = sluice__v1__execute_request__pack(&message, request.bytes);
    return request;
}

static struct rpc_stream *send_request(struct rpc_peer *peer, const struct request *request)
{
    struct rpc_stream *stream = rpc_open(peer, request->path, NULL);
    rpc_send(stream, request->bytes, request->size);
    rpc_end(stream);
    rpc_pump(peer);
    for (int n = 0; !stream->is_closed && !sl_conn_wants_close(peer->conn); n++) {
        rpc_enter(peer);
        step();
        rpc_leave();
        rpc_pump(peer);
        assert_true(n < MAX_STEPS);
    }
    return stream;
}

static uint64_t n_running(void)
{
    struct sl_runtime_stats stats;
    sl_runtime_stats(runtime, &stats);
    return stats.runs_running;
}

static uint64_t n_calls(void)
{
    struct sl_server_stats stats;
    sl_server_stats(server, &stats);
    return stats.calls_running;
}

static void wait_zero(uint64_t (*count)(void))
{
    for (int n = 0; count() != 0; n++) {
        step();
        assert_true(n < MAX_STEPS);
    }
}

/* Starts a run and waits for its end. */
static void keep_run(void)
{
    struct rpc_peer peer;
    struct sl_slice bytes;
    const struct request request = start_request("{\"events\":3}");
    rpc_peer_open(&peer, server, loop);
    struct rpc_stream *stream = send_request(&peer, &request);
    assert_true(rpc_next(stream, &bytes));
    Sluice__V1__StartRunResponse *reply =
        sluice__v1__start_run_response__unpack(NULL, bytes.size, bytes.data);
    assert_non_null(reply);
    (void)snprintf(run_id, sizeof(run_id), "%s", reply->run_id);
    sluice__v1__start_run_response__free_unpacked(reply, NULL);
    rpc_stream_free(stream);
    rpc_peer_close(&peer);
    wait_zero(n_running);
}

static int set_up(void **state)
{
    (void)state;
    struct sl_error err = { .text = "" };
    static const char *const environment[] = { "PATH=/usr/bin:/bin", NULL };
    sl_limits_init(&limits);
    limits.runs = 100;
    is_drained = is_idle = false;
    assert_int_equal(sl_loop_uv_new(0, &uv_loop), SL_OK);
    loop = sl_loop_uv_base(uv_loop);
    const struct sl_runtime_options runtime_options = {
        .loops = &loop, .n_loops = 1, .limits = &limits, .env = no_env, .environment = environment
    };
    assert_int_equal(sl_runtime_new(&runtime_options, &runtime, &err), SL_OK);
    sl_runtime_configure(runtime, NULL, NULL);
    const struct sl_server_options server_options = {
        .struct_size = sizeof(server_options), .limits = &limits, .loops = &loop, .n_loops = 1
    };
    assert_int_equal(sl_server_new(&server_options, &server), SL_OK);
    const struct sl_api_options api_options = { .server = server, .runtime = runtime };
    assert_int_equal(sl_api_new(&api_options, &api), SL_OK);
    keep_run();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sl_server_stop(server, 0, set_flag, &is_drained);
    sl_runtime_stop(runtime, set_flag, &is_idle);
    for (int n = 0; !is_drained || !is_idle; n++) {
        step();
        assert_true(n < MAX_STEPS);
    }
    server = sl_server_free(server);
    api = sl_api_free(api);
    runtime = sl_runtime_free(runtime);
    while (sl_loop_drain(loop)) {
    }
    uv_loop = sl_loop_uv_free(uv_loop);
    return 0;
}

/* ---- Tests ----------------------------------------------------------------------------------- */

/* One call whose n-th allocation fails, and all that follow when `fails_on`. */
static void call_with_failure(const struct request *request, size_t fail_at, bool fails_on)
{
    struct rpc_peer peer;
    rpc_peer_open(&peer, server, loop);
    peer.fail_at = fail_at == 0 ? 0 : rpc_n_allocations() + fail_at;
    peer.fails_on = fails_on;
    struct rpc_stream *stream = send_request(&peer, request);
    const char *log = rpc_log(&peer);
    const bool is_ok = strstr(log, "grpc-status=0 end") != NULL;
    if (!is_ok && !sl_conn_wants_close(peer.conn) && strstr(log, "grpc-status=8 ") == NULL &&
        strstr(log, "closed unprocessed 7") == NULL) {
        fail_msg("%s, allocation %zu: %s", request->path, fail_at, log);
    }
    assert_true(is_ok || fail_at > 0);
    rpc_stream_free(stream);
    rpc_peer_close(&peer);
    wait_zero(n_running);
    wait_zero(n_calls);
}

static void fail_each(const struct request *request)
{
    call_with_failure(request, 0, false);
    const size_t n = rpc_n_allocations();
    assert_in_range(n, 10, 1000);
    for (size_t i = 1; i <= n; i++) {
        call_with_failure(request, i, false);
        call_with_failure(request, i, true);
    }
}

/* LR-10, NG-21: the call ends with RESOURCE_EXHAUSTED, or in order, or the connection is closed. */
static void any_allocation_of_a_start_may_fail_once_or_for_ever(void **state)
{
    (void)state;
    const struct request request = start_request("{\"events\":3}");
    fail_each(&request);
}

static void any_allocation_of_an_observer_may_fail_once_or_for_ever(void **state)
{
    (void)state;
    struct request request = { .path = PATH("Attach") };
    Sluice__V1__AttachRequest message = SLUICE__V1__ATTACH_REQUEST__INIT;
    message.run_id = run_id;
    request.size = sluice__v1__attach_request__pack(&message, request.bytes);
    fail_each(&request);
}

static void any_allocation_of_a_look_may_fail_once_or_for_ever(void **state)
{
    (void)state;
    struct request request = { .path = PATH("GetRun") };
    Sluice__V1__GetRunRequest message = SLUICE__V1__GET_RUN_REQUEST__INIT;
    message.run_id = run_id;
    message.include_context = true;
    request.size = sluice__v1__get_run_request__pack(&message, request.bytes);
    fail_each(&request);
}

static void any_allocation_of_a_list_may_fail_once_or_for_ever(void **state)
{
    (void)state;
    struct request request = { .path = PATH("ListRuns") };
    Sluice__V1__ListRunsRequest message = SLUICE__V1__LIST_RUNS_REQUEST__INIT;
    message.agent = sl_unconst("load");
    request.size = sluice__v1__list_runs_request__pack(&message, request.bytes);
    fail_each(&request);
}

static void any_allocation_of_a_cancel_may_fail_once_or_for_ever(void **state)
{
    (void)state;
    struct request request = { .path = PATH("CancelRun") };
    Sluice__V1__CancelRunRequest message = SLUICE__V1__CANCEL_RUN_REQUEST__INIT;
    message.run_id = run_id;
    message.wait = true;
    request.size = sluice__v1__cancel_run_request__pack(&message, request.bytes);
    fail_each(&request);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            any_allocation_of_a_start_may_fail_once_or_for_ever, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            any_allocation_of_an_observer_may_fail_once_or_for_ever, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            any_allocation_of_a_look_may_fail_once_or_for_ever, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            any_allocation_of_a_list_may_fail_once_or_for_ever, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            any_allocation_of_a_cancel_may_fail_once_or_for_ever, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
