/* Execute and ExecuteStreaming as clients see them: server, runtime and client on one loop, joined
 * by a socket. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/sluice/v1/events.pb-c.h"
#include "proto/sluice/v1/runtime.sl.h"
#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "runtime/exec/order.h"
#include "runtime/runtime.h"
#include "service/api/api.h"
#include "service/rpc/client.h"
#include "service/rpc/server.h"
#include "service/rpc/status.h"
#include "tests/wire/rpc_peer.h"

enum { MAX_STEPS = 1000, MAX_SHORT_STEPS = 1000000, EXECUTE = 0, EXECUTE_STREAMING = 1 };

static struct sl_limits limits;
static struct sl_loop_uv *uv_loop;
static struct sl_loop *loop;
static struct sl_runtime *runtime;
static struct sl_server *server;
static struct sl_api *api;
static struct sl_channel *channel;
static const char *address;
static bool is_drained, is_idle;
static struct sl_arena arena;

/* ---- The bench ------------------------------------------------------------------------------- */

static const char *no_env(const char *name)
{
    (void)name;
    return NULL;
}

static void step(void)
{
    sl_loop_uv_step(uv_loop, 20);
}

/* `window_bytes` of a stream; 0: as usual. */
static void open_channel(uint32_t window_bytes)
{
    struct sl_error err = { .text = "" };
    const struct sl_channel_options options = { .struct_size = sizeof(options),
                                                .loop = loop,
                                                .stream_window_bytes = window_bytes };
    assert_int_equal(sl_channel_new(address, &options, &channel, &err), SL_OK);
}

/* With `limits`, which a test may have changed. */
static void open_bench(void)
{
    struct sl_error err = { .text = "" };
    assert_int_equal(sl_loop_uv_new(0, &uv_loop), SL_OK);
    loop = sl_loop_uv_base(uv_loop);
    static const char *const environment[] = { "PATH=/usr/bin:/bin", NULL };
    const struct sl_runtime_options runtime_options = {
        .loops = &loop, .n_loops = 1, .limits = &limits, .env = no_env, .environment = environment
    };
    assert_int_equal(sl_runtime_new(&runtime_options, &runtime, &err), SL_OK);
    sl_runtime_configure(runtime, NULL, NULL);
    const struct sl_server_options server_options = {
        .struct_size = sizeof(server_options), .limits = &limits, .loops = &loop, .n_loops = 1
    };
    assert_int_equal(sl_server_new(&server_options, &server), SL_OK);
    const struct sl_api_options api_options = {
        .server = server,
        .runtime = runtime,
    };
    assert_int_equal(sl_api_new(&api_options, &api), SL_OK);
    assert_int_equal(sl_server_listen(server, "127.0.0.1:0", NULL, &address, &err), SL_OK);
    open_channel(0);
}

static int set_up(void **state)
{
    (void)state;
    sl_limits_init(&limits);
    sl_arena_init(&arena, 1 << 20);
    is_drained = is_idle = false;
    return 0;
}

static void on_drained(void *user_data)
{
    (void)user_data;
    is_drained = true;
}

static void on_idle(void *user_data)
{
    (void)user_data;
    is_idle = true;
}

static void wait_for(const bool *flag)
{
    for (int n = 0; !*flag; n++) {
        step();
        assert_true(n < MAX_STEPS);
    }
}

static int tear_down(void **state)
{
    (void)state;
    channel = sl_channel_free(channel);
    if (!is_drained) {
        sl_server_stop(server, 0, on_drained, NULL);
    }
    if (!is_idle) {
        sl_runtime_stop(runtime, on_idle, NULL);
    }
    wait_for(&is_drained);
    wait_for(&is_idle);
    struct sl_runtime_stats stats;
    sl_runtime_stats(runtime, &stats);
    assert_int_equal(stats.runs_running, 0);
    assert_int_equal(stats.runs_started, stats.runs_ended);
    server = sl_server_free(server);
    api = sl_api_free(api);
    runtime = sl_runtime_free(runtime);
    while (sl_loop_drain(loop)) {
    }
    uv_loop = sl_loop_uv_free(uv_loop);
    sl_arena_done(&arena);
    return 0;
}

/* ---- A client -------------------------------------------------------------------------------- */

static struct sl_client_call *
open_call(int method, const Sluice__V1__ExecuteRequest *request, uint64_t timeout_ms)
{
    struct sl_client_call *call = NULL;
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = timeout_ms };
    assert_int_equal(
        sl_client_call_open(
            channel, &sl_sluice__v1__agent_runtime__methods[method], &options, &call),
        SL_OK);
    assert_int_equal(sl_client_call_send(call, request), SL_OK);
    sl_client_call_close_send(call);
    return call;
}

static struct sl_client_call *start(int method, const char *agent, const char *input)
{
    Sluice__V1__ExecuteRequest request = SLUICE__V1__EXECUTE_REQUEST__INIT;
    request.agent = sl_unconst(agent);
    request.input = sl_unconst(input);
    return open_call(method, &request, 0);
}

/* The next message; otherwise how the call ended. */
static enum sl_status next(struct sl_client_call *call, void **ret_message)
{
    enum sl_status status = sl_client_call_recv(call, ret_message);
    for (int n = 0; status == SL_AGAIN; n++) {
        step();
        status = sl_client_call_recv(call, ret_message);
        assert_true(n < MAX_STEPS);
    }
    return status;
}

static Sluice__V1__StreamEvent *next_event(struct sl_client_call *call)
{
    void *message = NULL;
    assert_int_equal(next(call, &message), SL_OK);
    return message;
}

static enum sl_status wait_end(struct sl_client_call *call)
{
    void *message = NULL;
    enum sl_status status = SL_OK;
    while (status == SL_OK) {
        status = next(call, &message);
    }
    return status;
}

static struct sl_rpc_details details_of(const struct sl_client_call *call)
{
    struct sl_rpc_details details;
    const struct sl_slice bytes = sl_client_call_details(call);
    assert_true(bytes.size > 0);
    assert_int_equal(sl_rpc_details_decode(bytes, &arena, &details), SL_OK);
    assert_int_equal(details.code, sl_client_call_status(call));
    assert_true(sl_slice_equals(details.domain, "sluice.v1"));
    return details;
}

/* ErrorInfo.metadata; NULL `value`: must not be there. */
static void assert_info(const struct sl_rpc_details *details, const char *key, const char *value)
{
    for (size_t i = 0; i < details->n_info; i++) {
        if (sl_slice_equals(details->info[i].key, key)) {
            assert_non_null(value);
            assert_true(sl_slice_equals(details->info[i].value, value));
            return;
        }
    }
    assert_null(value);
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

/* Waits until a count is what it should be. */
static void wait_count(uint64_t (*count)(void), uint64_t expected)
{
    for (int n = 0; count() != expected; n++) {
        step();
        assert_true(n < MAX_STEPS);
    }
}

static void get_run_id(struct sl_client_call *call, char *room, size_t room_bytes)
{
    struct sl_slice value;
    const struct sl_metadata *headers = sl_client_call_headers(call);
    assert_non_null(headers);
    assert_true(sl_metadata_get(headers, "sluice-run-id", 0, &value));
    (void)snprintf(room, room_bytes, "%.*s", SL_SLICE_FMT(value));
    assert_int_equal(strlen(room), 32);
}

/* ---- Runs that go well ----------------------------------------------------------------------- */

static void a_stream_has_the_runs_events_in_order_and_its_id(void **state)
{
    (void)state;
    open_bench();
    struct sl_client_call *call = start(EXECUTE_STREAMING, "echo", "one two three");
    struct sl_event_order order = { .state = SL_ORDER_NEW };
    struct sl_error err = { .text = "" };
    char run_id[64] = "";
    void *message = NULL;
    size_t n = 0;
    enum sl_status status = next(call, &message);
    for (; status == SL_OK; n++, status = next(call, &message)) {
        const Sluice__V1__StreamEvent *event = message;
        if (sl_event_order_check(&order, event, &err) != SL_OK) {
            fail_msg("%s", err.text);
        }
        if (n == 0) {
            get_run_id(call, run_id, sizeof(run_id));
            assert_string_equal(event->run_started->run_id, run_id);
        }
    }
    assert_int_equal(status, SL_END);
    assert_int_equal(n, 7);
    assert_int_equal(sl_event_order_finish(&order, &err), SL_OK);
    assert_int_equal(sl_client_call_details(call).size, 0);
    sl_event_order_done(&order);
    sl_client_call_free(call);
}

static void a_long_stream_arrives_whole(void **state)
{
    (void)state;
    open_bench();
    struct sl_client_call *call =
        start(EXECUTE_STREAMING, "load", "{\"events\":3000,\"bytes\":1000}");
    void *message = NULL;
    uint64_t n = 0;
    while (next(call, &message) == SL_OK) {
        const Sluice__V1__StreamEvent *event = message;
        assert_int_equal(event->sequence, ++n);
    }
    assert_int_equal(n, 3004);
    assert_int_equal(sl_client_call_status(call), SL_OK);
    sl_client_call_free(call);
}

static void a_reply_is_the_end_of_the_run_and_its_id(void **state)
{
    (void)state;
    open_bench();
    struct sl_client_call *call = start(EXECUTE, "echo", "one two three");
    void *message = NULL;
    assert_int_equal(next(call, &message), SL_OK);
    const Sluice__V1__ExecuteResponse *reply = message;
    char run_id[64] = "";
    get_run_id(call, run_id, sizeof(run_id));
    assert_string_equal(reply->run_id, run_id);
    assert_non_null(reply->result);
    assert_string_equal(reply->result->content, "one two three");
    assert_int_equal(reply->result->total_iterations, 1);
    assert_int_equal(wait_end(call), SL_END);
    sl_client_call_free(call);
}

static void a_reply_waits_for_a_run_of_many_events(void **state)
{
    (void)state;
    open_bench();
    struct sl_client_call *call = start(EXECUTE, "load", "{\"events\":5000,\"bytes\":200}");
    void *message = NULL;
    assert_int_equal(next(call, &message), SL_OK);
    const Sluice__V1__ExecuteResponse *reply = message;
    assert_non_null(reply->result);
    assert_int_equal(wait_end(call), SL_END);
    sl_client_call_free(call);
}

/* ---- Refusals -------------------------------------------------------------------------------- */

static void check_refusal(
    int method,
    const Sluice__V1__ExecuteRequest *request,
    enum sl_status status,
    const char *reason,
    const char *text)
{
    struct sl_client_call *call = open_call(method, request, 0);
    assert_int_equal(wait_end(call), status);
    const struct sl_rpc_details details = details_of(call);
    assert_true(sl_slice_equals(details.reason, reason));
    assert_info(&details, "run_started", "false");
    if (strstr(sl_client_call_error(call)->text, text) == NULL) {
        fail_msg("'%s' is not in '%s'", text, sl_client_call_error(call)->text);
    }
    sl_client_call_free(call);
}

static void a_refusal_says_why_and_that_nothing_was_started(void **state)
{
    (void)state;
    open_bench();
    for (int method = EXECUTE; method <= EXECUTE_STREAMING; method++) {
        Sluice__V1__ExecuteRequest request = SLUICE__V1__EXECUTE_REQUEST__INIT;
        check_refusal(method, &request, SL_INVALID_ARGUMENT, "INVALID_REQUEST", "agent");
        request.agent = sl_unconst("nobody");
        check_refusal(method, &request, SL_NOT_FOUND, "AGENT_NOT_FOUND", "nobody");
        request.agent = sl_unconst("load");
        request.input = sl_unconst("{\"colour\":1}");
        check_refusal(method, &request, SL_INVALID_ARGUMENT, "INVALID_REQUEST", "colour");
        request.input = sl_unconst("");
        request.session_id = sl_unconst("s"); /* memory: None */
        check_refusal(method, &request, SL_INVALID_ARGUMENT, "INVALID_REQUEST", "session_id");
    }
    assert_int_equal(n_calls(), 0);
    sl_runtime_refuse_new(runtime);
    Sluice__V1__ExecuteRequest request = SLUICE__V1__EXECUTE_REQUEST__INIT;
    request.agent = sl_unconst("echo");
    check_refusal(EXECUTE_STREAMING, &request, SL_UNAVAILABLE, "DRAINING", "");
    struct sl_runtime_stats stats;
    sl_runtime_stats(runtime, &stats);
    assert_int_equal(stats.runs_started, 0);
}

static void a_full_server_refuses_after_the_wait(void **state)
{
    (void)state;
    limits.runs = 1;
    limits.run_wait = 20;
    open_bench();
    struct sl_client_call *first = start(EXECUTE_STREAMING, "load", "{\"hang\":true}");
    (void)next_event(first);
    Sluice__V1__ExecuteRequest request = SLUICE__V1__EXECUTE_REQUEST__INIT;
    request.agent = sl_unconst("echo");
    check_refusal(EXECUTE, &request, SL_RESOURCE_EXHAUSTED, "SERVER_FULL", "");
    sl_client_call_free(first);
}

/* ---- Runs that fail -------------------------------------------------------------------------- */

static void a_run_that_fails_ends_its_call_with_its_reason(void **state)
{
    (void)state;
    limits.model_retries = 0;
    open_bench();
    for (int method = EXECUTE; method <= EXECUTE_STREAMING; method++) {
        struct sl_client_call *call =
            start(method, "load", "{\"events\":10,\"fail_after\":3,\"code\":\"PROVIDER_AUTH\"}");
        void *message = NULL;
        int last = 0;
        enum sl_status status;
        while ((status = next(call, &message)) == SL_OK) {
            last = (int)((const Sluice__V1__StreamEvent *)message)->event_case;
        }
        assert_int_equal(last, method == EXECUTE ? 0 : SLUICE__V1__STREAM_EVENT__EVENT_ERROR);
        assert_true(status != SL_OK && status != SL_END);
        const struct sl_rpc_details details = details_of(call);
        assert_true(sl_slice_equals(details.reason, "PROVIDER_AUTH"));
        assert_info(&details, "run_started", "true");
        char run_id[64];
        get_run_id(call, run_id, sizeof(run_id));
        sl_client_call_free(call);
    }
}

/* The last event of what came in; the number of events. */
static uint64_t read_events(struct rpc_stream *stream, Sluice__V1__StreamEvent **ret_last)
{
    struct sl_slice bytes;
    uint64_t n = 0;
    *ret_last = NULL;
    while (rpc_next(stream, &bytes)) {
        if (*ret_last != NULL) {
            sluice__v1__stream_event__free_unpacked(*ret_last, NULL);
        }
        *ret_last = sluice__v1__stream_event__unpack(NULL, bytes.size, bytes.data);
        assert_non_null(*ret_last);
        assert_int_equal((*ret_last)->sequence, ++n);
    }
    return n;
}

/* NG-21, AL-5.30: with all allocations failing, a run that streams has its last event and its
 * trailers. The client is joined in memory, so that it keeps its own. */
static void a_run_without_memory_has_its_event_and_its_trailers(void **state)
{
    (void)state;
    struct rpc_peer peer;
    open_bench();
    rpc_peer_open(&peer, server, loop);
    Sluice__V1__ExecuteRequest request = SLUICE__V1__EXECUTE_REQUEST__INIT;
    request.agent = sl_unconst("load");
    request.input = sl_unconst("{\"events\":100000,\"bytes\":20,\"rate\":20000}");
    uint8_t bytes[256];
    const size_t size = sluice__v1__execute_request__pack(&request, bytes);
    struct rpc_stream *stream = rpc_open(&peer, "/sluice.v1.AgentRuntime/ExecuteStreaming", NULL);
    rpc_send(stream, bytes, size);
    rpc_end(stream);
    for (int n = 0; stream->in.size < 20000; n++) {
        rpc_pump(&peer);
        step();
        assert_true(n < MAX_SHORT_STEPS);
    }
    peer.fail_at = 1; /* from here on there is no memory */
    peer.fails_on = true;
    for (int n = 0; !stream->is_closed; n++) {
        rpc_enter(&peer);
        step();
        rpc_leave();
        rpc_pump(&peer);
        assert_true(n < MAX_SHORT_STEPS);
    }
    Sluice__V1__StreamEvent *last = NULL;
    assert_true(read_events(stream, &last) > 10);
    if (last == NULL) {
        fail();
        return;
    }
    assert_int_equal(last->event_case, SLUICE__V1__STREAM_EVENT__EVENT_ERROR);
    assert_int_equal(last->error->code, SLUICE__V1__ERROR_CODE__ERROR_CODE_OUT_OF_MEMORY);
    sluice__v1__stream_event__free_unpacked(last, NULL);
    assert_non_null(strstr(rpc_log(&peer), "trailers grpc-status=8"));
    assert_false(sl_conn_wants_close(peer.conn));
    rpc_stream_free(stream);
    rpc_peer_close(&peer);
}

/* A short run whose n-th allocation fails, and all that follow when `fails_on`. */
static void run_with_failure(size_t fail_at, bool fails_on)
{
    struct rpc_peer peer;
    rpc_peer_open(&peer, server, loop);
    Sluice__V1__ExecuteRequest request = SLUICE__V1__EXECUTE_REQUEST__INIT;
    request.agent = sl_unconst("echo");
    request.input = sl_unconst("one two");
    uint8_t bytes[64];
    const size_t size = sluice__v1__execute_request__pack(&request, bytes);
    peer.fail_at = fail_at == 0 ? 0 : rpc_n_allocations() + fail_at;
    peer.fails_on = fails_on;
    struct rpc_stream *stream = rpc_open(&peer, "/sluice.v1.AgentRuntime/ExecuteStreaming", NULL);
    rpc_send(stream, bytes, size);
    rpc_end(stream);
    rpc_pump(&peer);
    for (int n = 0; !stream->is_closed && !sl_conn_wants_close(peer.conn); n++) {
        rpc_enter(&peer);
        step();
        rpc_leave();
        rpc_pump(&peer);
        assert_true(n < MAX_STEPS);
    }
    const char *log = rpc_log(&peer);
    assert_true(
        sl_conn_wants_close(peer.conn) || strstr(log, "grpc-status=0 end") != NULL ||
        strstr(log, "grpc-status=8 ") != NULL || strstr(log, "closed unprocessed 7") != NULL);
    rpc_stream_free(stream);
    rpc_peer_close(&peer);
    wait_count(n_running, 0);
    wait_count(n_calls, 0);
}

/* LR-10, NG-21: the call ends with RESOURCE_EXHAUSTED, or in order, or the connection is closed. */
static void any_allocation_of_a_run_may_fail_once_or_for_ever(void **state)
{
    (void)state;
    open_bench();
    run_with_failure(0, false);
    const size_t n = rpc_n_allocations();
    assert_in_range(n, 20, 1000);
    for (size_t i = 1; i <= n; i++) {
        run_with_failure(i, false);
        run_with_failure(i, true);
    }
}

static void a_deadline_ends_run_and_call(void **state)
{
    (void)state;
    open_bench();
    for (int method = EXECUTE; method <= EXECUTE_STREAMING; method++) {
        Sluice__V1__ExecuteRequest request = SLUICE__V1__EXECUTE_REQUEST__INIT;
        request.agent = sl_unconst("load");
        request.input = sl_unconst("{\"hang\":true}");
        struct sl_client_call *call = open_call(method, &request, 150);
        assert_int_equal(wait_end(call), SL_DEADLINE_EXCEEDED);
        wait_count(n_running, 0);
        wait_count(n_calls, 0);
        sl_client_call_free(call);
    }
}

static void a_reset_cancels_the_run_and_frees_the_slot_after_it(void **state)
{
    (void)state;
    limits.runs_per_connection = 1;
    open_bench();
    for (int method = EXECUTE; method <= EXECUTE_STREAMING; method++) {
        struct sl_client_call *call = start(method, "load", "{\"hang\":true}");
        wait_count(n_running, 1);
        assert_int_equal(n_calls(), 1);
        sl_client_call_cancel(call);
        assert_int_equal(wait_end(call), SL_CANCELLED);
        wait_count(n_calls, 0);
        assert_int_equal(n_running(), 0); /* the run went first */
        sl_client_call_free(call);
    }
    struct sl_client_call *call = start(EXECUTE, "echo", "again");
    assert_int_equal(wait_end(call), SL_END);
    sl_client_call_free(call);
}

static void a_client_that_goes_cancels_its_runs(void **state)
{
    (void)state;
    open_bench();
    struct sl_client_call *streaming = start(EXECUTE_STREAMING, "load", "{\"hang\":true}");
    struct sl_client_call *unary = start(EXECUTE, "load", "{\"hang\":true}");
    wait_count(n_running, 2);
    sl_client_call_free(streaming);
    sl_client_call_free(unary);
    channel = sl_channel_free(channel);
    wait_count(n_calls, 0);
    assert_int_equal(n_running(), 0);
    open_channel(0);
    struct sl_client_call *call = start(EXECUTE, "echo", "again");
    assert_int_equal(wait_end(call), SL_END);
    sl_client_call_free(call);
}

static void a_detached_run_lives_on_and_holds_no_slot(void **state)
{
    (void)state;
    limits.runs_per_connection = 1;
    open_bench();
    Sluice__V1__RunOptions options = SLUICE__V1__RUN_OPTIONS__INIT;
    Sluice__V1__ExecuteRequest request = SLUICE__V1__EXECUTE_REQUEST__INIT;
    request.agent = sl_unconst("load");
    request.input = sl_unconst("{\"hang\":true}");
    request.options = &options;
    options.on_disconnect = SLUICE__V1__ON_DISCONNECT__ON_DISCONNECT_DETACH;
    options._cancel_on_reset_case = SLUICE__V1__RUN_OPTIONS___CANCEL_ON_RESET_CANCEL_ON_RESET;
    options.cancel_on_reset = 0;
    struct sl_client_call *call = open_call(EXECUTE_STREAMING, &request, 0);
    (void)next_event(call);
    sl_client_call_cancel(call);
    wait_count(n_calls, 0);
    assert_int_equal(n_running(), 1);
    sl_client_call_free(call);
    call = start(EXECUTE, "echo", "beside it");
    assert_int_equal(wait_end(call), SL_END);
    sl_client_call_free(call);
    assert_int_equal(n_running(), 1);
}

/* ---- Ends that the server makes -------------------------------------------------------------- */

/* The bytes of a run's first events on the wire: always the same. */
static uint32_t measure(const char *input, int n_events)
{
    struct sl_client_call *call = start(EXECUTE_STREAMING, "load", input);
    size_t size = 0;
    for (int i = 0; i < n_events; i++) {
        size += 5 + sluice__v1__stream_event__get_packed_size(next_event(call));
    }
    sl_client_call_free(call);
    wait_count(n_calls, 0);
    return (uint32_t)size;
}

/* Gives how the call ended that was not read for a while. */
static enum sl_status stall(struct sl_client_call *call, uint64_t *ret_sequence)
{
    void *message = NULL;
    wait_count(n_calls, 1);
    wait_count(n_calls, 0);
    enum sl_status status;
    while ((status = next(call, &message)) == SL_OK) {
        *ret_sequence = ((const Sluice__V1__StreamEvent *)message)->sequence;
    }
    wait_count(n_running, 0);
    return status;
}

static void a_client_that_does_not_read_learns_how_far_it_came_FC_9(void **state)
{
    static const char input[] = "{\"events\":100000,\"bytes\":1000}";
    (void)state;
    limits.stall = 100;
    open_bench();
    const uint32_t window_bytes = measure(input, 100);
    channel = sl_channel_free(channel);
    open_channel(window_bytes); /* it ends between two messages */
    uint64_t sequence = 0;
    struct sl_client_call *call = start(EXECUTE_STREAMING, "load", input);
    assert_int_equal(stall(call, &sequence), SL_RESOURCE_EXHAUSTED);
    assert_int_equal(sequence, 100);
    const struct sl_rpc_details details = details_of(call);
    assert_true(sl_slice_equals(details.reason, "STALLED"));
    assert_info(&details, "run_started", "true");
    assert_info(&details, "last_sequence", "100");
    sl_client_call_free(call);
}

static void a_stall_inside_of_a_message_is_a_reset_FC_9(void **state)
{
    static const char input[] = "{\"events\":100000,\"bytes\":1000}";
    (void)state;
    limits.stall = 100;
    open_bench();
    const uint32_t window_bytes = measure(input, 100) + 500;
    channel = sl_channel_free(channel);
    open_channel(window_bytes);
    uint64_t sequence = 0;
    struct sl_client_call *call = start(EXECUTE_STREAMING, "load", input);
    assert_int_equal(stall(call, &sequence), SL_RESOURCE_EXHAUSTED);
    assert_int_equal(sequence, 100);
    assert_int_equal(sl_client_call_details(call).size, 0);
    sl_client_call_free(call);
}

static void a_drain_ends_calls_with_how_far_they_came(void **state)
{
    (void)state;
    limits.drain_ping = 10;
    open_bench();
    struct sl_client_call *streaming = start(EXECUTE_STREAMING, "load", "{\"hang\":true}");
    struct sl_client_call *unary = start(EXECUTE, "load", "{\"hang\":true}");
    uint64_t sequence = 0;
    for (int i = 0; i < 3; i++) { /* started, iteration, the one delta */
        sequence = next_event(streaming)->sequence;
    }
    assert_int_equal(sequence, 3);
    wait_count(n_running, 2);
    sl_server_stop(server, 20, on_drained, NULL);
    assert_int_equal(wait_end(streaming), SL_ABORTED);
    struct sl_rpc_details details = details_of(streaming);
    assert_true(sl_slice_equals(details.reason, "DRAINING"));
    assert_info(&details, "run_started", "true");
    assert_info(&details, "last_sequence", "3");
    assert_int_equal(wait_end(unary), SL_ABORTED);
    details = details_of(unary);
    assert_true(sl_slice_equals(details.reason, "DRAINING"));
    assert_info(&details, "run_started", "true");
    sl_client_call_free(streaming);
    sl_client_call_free(unary);
}

static void a_run_that_still_waits_was_not_started_when_the_server_drains(void **state)
{
    (void)state;
    limits.drain_ping = 10;
    limits.runs = 1;
    limits.run_wait = 60000;
    open_bench();
    struct sl_client_call *first = start(EXECUTE_STREAMING, "load", "{\"hang\":true}");
    (void)next_event(first);
    struct sl_client_call *waiting = start(EXECUTE_STREAMING, "echo", "x");
    wait_count(n_calls, 2);
    sl_server_stop(server, 20, on_drained, NULL);
    assert_int_equal(wait_end(waiting), SL_ABORTED);
    const struct sl_rpc_details details = details_of(waiting);
    assert_info(&details, "run_started", "false");
    sl_client_call_free(first);
    sl_client_call_free(waiting);
}

static void a_runtime_that_stops_tells_the_readers_first(void **state)
{
    (void)state;
    open_bench();
    struct sl_client_call *call = start(EXECUTE_STREAMING, "load", "{\"hang\":true}");
    (void)next_event(call);
    sl_runtime_stop(runtime, on_idle, NULL);
    void *message = NULL;
    int code = 0;
    uint64_t sequence = 0;
    while (next(call, &message) == SL_OK) {
        const Sluice__V1__StreamEvent *event = message;
        sequence = event->sequence;
        code = event->event_case == SLUICE__V1__STREAM_EVENT__EVENT_ERROR ? (int)event->error->code
                                                                          : 0;
    }
    assert_int_equal(code, SLUICE__V1__ERROR_CODE__ERROR_CODE_DRAINING);
    assert_int_equal(sl_client_call_status(call), SL_ABORTED);
    const struct sl_rpc_details details = details_of(call); /* AL-5.2 */
    assert_info(&details, "run_started", "true");
    char last[32];
    (void)snprintf(last, sizeof(last), "%" PRIu64, sequence);
    assert_info(&details, "last_sequence", last);
    sl_client_call_free(call);
    wait_for(&is_idle);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_stream_has_the_runs_events_in_order_and_its_id),
        CASE(a_long_stream_arrives_whole),
        CASE(a_reply_is_the_end_of_the_run_and_its_id),
        CASE(a_reply_waits_for_a_run_of_many_events),
        CASE(a_refusal_says_why_and_that_nothing_was_started),
        CASE(a_full_server_refuses_after_the_wait),
        CASE(a_run_that_fails_ends_its_call_with_its_reason),
        CASE(a_run_without_memory_has_its_event_and_its_trailers),
        CASE(any_allocation_of_a_run_may_fail_once_or_for_ever),
        CASE(a_deadline_ends_run_and_call),
        CASE(a_deadline_ends_run_and_call),
        CASE(a_reset_cancels_the_run_and_frees_the_slot_after_it),
        CASE(a_client_that_goes_cancels_its_runs),
        CASE(a_detached_run_lives_on_and_holds_no_slot),
        CASE(a_client_that_does_not_read_learns_how_far_it_came_FC_9),
        CASE(a_stall_inside_of_a_message_is_a_reset_FC_9),
        CASE(a_drain_ends_calls_with_how_far_they_came),
        CASE(a_run_that_still_waits_was_not_started_when_the_server_drains),
        CASE(a_runtime_that_stops_tells_the_readers_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
