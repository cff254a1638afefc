/* Handlers that block on the pool (GC-5), over sockets, with our own client. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "proto/tests/unit/rpc_types.pb-c.h"
#include "runtime/base/mem.h"
#include "service/rpc/rpc.h"
#include "service/rpc/status.h"

enum {
    WAIT_S = 20,
    THREADS = 2,
    MESSAGES = 500,
    MESSAGE_BYTES = 4096,
    BUSY_CALLS = 12,
    ECHOES = 200
};

#define METHOD(method_name, method_kind)                                                           \
    {                                                                                              \
        .path = "/test.Pool/" method_name, .name = (method_name), .kind = (method_kind),           \
        .request_type = &sluice__test__types__descriptor,                                          \
        .response_type = &sluice__test__types__descriptor                                          \
    }

enum method { ECHO, COUNT, SUM, TALK, FAIL, LISTEN, FLOOD, SLEEP, GATE, LATER, N_METHODS };

static const struct sl_method_desc methods[N_METHODS] = {
    [ECHO] = METHOD("Echo", SL_UNARY),
    [COUNT] = METHOD("Count", SL_SERVER_STREAMING),
    [SUM] = METHOD("Sum", SL_CLIENT_STREAMING),
    [TALK] = METHOD("Talk", SL_BIDIRECTIONAL),
    [FAIL] = METHOD("Fail", SL_UNARY),
    [LISTEN] = METHOD("Listen", SL_BIDIRECTIONAL),
    [FLOOD] = METHOD("Flood", SL_SERVER_STREAMING),
    [SLEEP] = METHOD("Sleep", SL_UNARY),
    [GATE] = METHOD("Gate", SL_UNARY),
    [LATER] = METHOD("Later", SL_UNARY),
};
static const struct sl_service_desc service = { .name = "test.Pool",
                                                .methods = methods,
                                                .n_methods = N_METHODS };

/* ---- What handlers tell the test --------------------------------------------------------------
 */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int n_begun, n_ended;
    enum sl_status last; /* what the blocked function gave */
    bool is_open;        /* the gate */
    bool is_ended;       /* what sl_call_is_ended() says behind it */
} seen = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static struct timespec soon(void)
{
    struct timespec until = { 0 };
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S;
    return until;
}

static void forget(void)
{
    (void)pthread_mutex_lock(&seen.lock);
    seen.n_begun = seen.n_ended = 0;
    seen.last = SL_OK;
    seen.is_open = seen.is_ended = false;
    (void)pthread_mutex_unlock(&seen.lock);
}

static void note_begun(void)
{
    (void)pthread_mutex_lock(&seen.lock);
    seen.n_begun++;
    (void)pthread_cond_broadcast(&seen.changed);
    (void)pthread_mutex_unlock(&seen.lock);
}

static void note_ended(struct sl_call *call, enum sl_status status)
{
    const bool is_ended = sl_call_is_ended(call);
    (void)pthread_mutex_lock(&seen.lock);
    seen.n_ended++;
    seen.last = status;
    seen.is_ended = is_ended;
    (void)pthread_cond_broadcast(&seen.changed);
    (void)pthread_mutex_unlock(&seen.lock);
}

static void open_gate(void)
{
    (void)pthread_mutex_lock(&seen.lock);
    seen.is_open = true;
    (void)pthread_cond_broadcast(&seen.changed);
    (void)pthread_mutex_unlock(&seen.lock);
}

static int await(const int *counter, int value)
{
    const struct timespec until = soon();
    (void)pthread_mutex_lock(&seen.lock);
    while (*counter < value && pthread_cond_timedwait(&seen.changed, &seen.lock, &until) == 0) {
    }
    const int found = *counter;
    (void)pthread_mutex_unlock(&seen.lock);
    return found;
}

static enum sl_status last_seen(void)
{
    assert_true(await(&seen.n_ended, 1) >= 1);
    (void)pthread_mutex_lock(&seen.lock);
    const enum sl_status status = seen.last;
    assert_true(seen.is_ended);
    (void)pthread_mutex_unlock(&seen.lock);
    return status;
}

/* ---- Handlers, written as one would in a program without loops --------------------------------
 */

#define HANDLER(name)                                                                              \
    static enum sl_status name(                                                                    \
        struct sl_call *call, __attribute__((unused)) const void *handlers,                        \
        __attribute__((unused)) void *user_data)

HANDLER(on_echo)
{
    const void *request = NULL;
    void *reply = NULL;
    SL_TRY(sl_call_request(call, &request));
    SL_TRY(sl_call_reply(call, &reply));
    struct sl_slice value;
    if (sl_metadata_get(sl_call_metadata(call), "x-key", 0, &value)) {
        SL_TRY(sl_call_add_header(call, sl_slice_str("x-head"), value));
        SL_TRY(sl_call_add_trailer(call, sl_slice_str("x-tail"), value));
        SL_TRY(sl_call_set_encoding(call, "gzip"));
    }
    uint64_t timeout_ns = 0;
    if (sl_call_timeout_ns(call, &timeout_ns) && sl_call_remaining_ns(call) > timeout_ns) {
        return SL_INTERNAL;
    }
    Sluice__Test__Types *out = reply;
    out->text = sl_arena_dup(
        sl_call_arena(call), sl_slice_str(((const Sluice__Test__Types *)request)->text));
    out->number = (int32_t)sl_call_n_streams(call);
    return out->text == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
}

HANDLER(on_count)
{
    uint8_t raw[MESSAGE_BYTES] = { 0 };
    Sluice__Test__Types message;
    sluice__test__types__init(&message);
    message.raw = (ProtobufCBinaryData){ .len = sizeof(raw), .data = raw };
    SL_TRY(sl_call_send_headers(call));
    for (int32_t i = 0; i < MESSAGES; i++) {
        message.number = i;
        SL_TRY(sl_call_send(call, &message));
        note_begun();
    }
    return SL_OK;
}

HANDLER(on_sum)
{
    void *reply = NULL;
    void *message = NULL;
    struct sl_message *taken = NULL;
    SL_TRY(sl_call_reply(call, &reply));
    Sluice__Test__Types *out = reply;
    enum sl_status status = SL_OK;
    while ((status = sl_call_recv(call, &message)) == SL_OK) {
        const Sluice__Test__Types *in = message;
        out->number += in->number;
        if (in->text[0] != '\0') { /* is the reply's, and outlives the next recv (EM-3) */
            (void)sl_message_free(taken);
            taken = sl_message_take(call);
            out->text = sl_arena_dup(sl_call_arena(call), sl_slice_str(in->text));
        }
    }
    (void)sl_message_free(taken);
    return status == SL_END ? SL_OK : status;
}

HANDLER(on_talk)
{
    void *message = NULL;
    enum sl_status status = SL_OK;
    while ((status = sl_call_recv(call, &message)) == SL_OK) {
        SL_TRY(sl_call_send(call, message));
    }
    return status == SL_END ? SL_OK : status;
}

HANDLER(on_fail)
{
    const struct sl_metadatum info = { sl_slice_str("key"), sl_slice_str("value") };
    const struct sl_call_status status = { .code = SL_NOT_FOUND,
                                           .message = "no such thing",
                                           .reason = "MISSING",
                                           .domain = "example.com",
                                           .info = &info,
                                           .n_info = 1 };
    return sl_call_fail(call, &status);
}

/* Blocks in recv. */
HANDLER(on_listen)
{
    void *message = NULL;
    SL_TRY(sl_call_send_headers(call));
    note_begun();
    note_ended(call, sl_call_recv(call, &message));
    return SL_ABORTED;
}

/* Blocks in send, when the client does not read. */
HANDLER(on_flood)
{
    uint8_t raw[MESSAGE_BYTES] = { 0 };
    enum sl_status status = SL_OK;
    note_begun();
    while (status == SL_OK) {
        status = sl_call_send_bytes(call, sl_slice_of(raw, sizeof(raw)));
    }
    note_ended(call, status);
    return SL_ABORTED;
}

HANDLER(on_sleep)
{
    note_begun();
    if (sl_call_wait_ms(call, 1) != SL_OK) {
        return SL_INTERNAL;
    }
    const enum sl_status status = sl_call_wait_ms(call, UINT64_MAX);
    note_ended(call, status);
    return status;
}

/* Blocks where nobody can wake it but the test. */
HANDLER(on_gate)
{
    note_begun();
    const struct timespec until = soon();
    (void)pthread_mutex_lock(&seen.lock);
    while (!seen.is_open && pthread_cond_timedwait(&seen.changed, &seen.lock, &until) == 0) {
    }
    (void)pthread_mutex_unlock(&seen.lock);
    void *reply = NULL;
    SL_TRY(sl_call_reply(call, &reply));
    note_ended(call, SL_OK);
    return SL_OK;
}

static void *finish_elsewhere(void *user_data)
{
    sl_call_finishf(user_data, SL_DATA_LOSS, "from elsewhere");
    return NULL;
}

/* Only its return ends a call on the pool, and "later" is no status there (ST-3). */
HANDLER(on_later)
{
    struct sl_call_source source = { 0 };
    pthread_t thread;
    sl_call_finishf(call, SL_DATA_LOSS, "%s", "too early");
    if (pthread_create(&thread, NULL, finish_elsewhere, call) == 0) {
        (void)pthread_join(thread, NULL);
    }
    sl_call_set_callbacks(call, NULL, NULL);
    const bool is_refused = sl_call_set_source(call, &source) == SL_FAILED_PRECONDITION;
    return is_refused && sl_call_is_idle(call) ? SL_PENDING : SL_INTERNAL;
}

static sl_method_start_fn *const starts[N_METHODS] = {
    [ECHO] = on_echo, [COUNT] = on_count,   [SUM] = on_sum,     [TALK] = on_talk,
    [FAIL] = on_fail, [LISTEN] = on_listen, [FLOOD] = on_flood, [SLEEP] = on_sleep,
    [GATE] = on_gate, [LATER] = on_later,
};

/* ---- The two ends ---------------------------------------------------------------------------- */

static struct {
    struct sl_server *server;
    const char *address;
    pthread_t thread;
} host;
static struct sl_channel *channel;

static enum sl_status on_loop(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)user_data;
    if (sl_call_wait_ms(call, 0) != SL_FAILED_PRECONDITION) {
        return SL_INTERNAL;
    }
    return sl_call_reply_bytes(call, request);
}

static enum sl_status on_raw(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)user_data;
    void *message = NULL;
    if (sl_call_reply(call, &message) != SL_FAILED_PRECONDITION) {
        return SL_INTERNAL;
    }
    return sl_call_reply_bytes(call, request);
}

static void *run(void *unused)
{
    (void)unused;
    return sl_server_run(host.server, NULL) == SL_OK ? &host : NULL;
}

static void start_host(size_t n_threads, uint64_t pool_queue)
{
    static const struct sl_service_options on_pool = { .struct_size = sizeof(on_pool),
                                                       .on_pool = true };
    struct sl_limits limits;
    sl_limits_init(&limits);
    limits.pool_queue = pool_queue;
    const struct sl_server_options options = { .struct_size = sizeof(options),
                                               .limits = &limits,
                                               .n_pool_threads = n_threads };
    forget();
    assert_int_equal(sl_server_new(&options, &host.server), SL_OK);
    assert_int_equal(
        sl_server_add_service_with(host.server, &service, starts, NULL, NULL, &on_pool), SL_OK);
    assert_int_equal(
        sl_server_add_raw(host.server, "/test.Loop/Echo", SL_UNARY, on_loop, NULL), SL_OK);
    assert_int_equal(
        sl_server_add_raw_with(host.server, "/test.Raw/Echo", SL_UNARY, on_raw, NULL, &on_pool),
        SL_OK);
    assert_int_equal(
        sl_server_listen(host.server, "127.0.0.1:0", NULL, &host.address, NULL), SL_OK);
    assert_int_equal(pthread_create(&host.thread, NULL, run, NULL), 0);
    assert_int_equal(sl_channel_new(host.address, NULL, &channel, NULL), SL_OK);
}

static void stop_host(uint64_t drain_ms)
{
    sl_server_stop(host.server, drain_ms, NULL, NULL);
    assert_int_equal(pthread_join(host.thread, NULL), 0);
    host.server = sl_server_free(host.server);
}

static int setup(void **state)
{
    (void)state;
    start_host(THREADS, 1000);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    open_gate();
    channel = sl_channel_free(channel);
    if (host.server != NULL) {
        stop_host(0);
    }
    return 0;
}

static struct sl_client_call *open_call(enum method method, uint64_t timeout_ms)
{
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = timeout_ms };
    struct sl_client_call *call = NULL;
    assert_int_equal(sl_client_call_open(channel, &methods[method], &options, &call), SL_OK);
    if (methods[method].kind == SL_UNARY || methods[method].kind == SL_SERVER_STREAMING) {
        assert_int_equal(sl_client_call_send_bytes(call, sl_slice_str("")), SL_OK);
        sl_client_call_close_send(call);
    }
    return call;
}

static enum sl_status call_to_end(struct sl_client_call *call)
{
    struct sl_slice message;
    enum sl_status status = SL_OK;
    while ((status = sl_client_call_recv_bytes(call, &message)) == SL_OK) {
    }
    (void)sl_client_call_free(call);
    return status;
}

static uint64_t n_running(void)
{
    struct sl_server_stats stats;
    sl_server_stats(host.server, &stats);
    return stats.calls_running;
}

/* ---- The four kinds -------------------------------------------------------------------------- */

static void unary_handlers_reply_with_metadata_and_compression(void **state)
{
    (void)state;
    const struct sl_metadatum metadata = { sl_slice_str("x-key"), sl_slice_str("value") };
    const struct sl_client_call_options options = {
        .struct_size = sizeof(options), .timeout_ms = 20000, .metadata = &metadata, .n_metadata = 1
    };
    char text[2000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    Sluice__Test__Types request;
    sluice__test__types__init(&request);
    request.text = text;
    struct sl_client_call *call = NULL;
    void *reply = NULL;
    struct sl_slice value;
    assert_int_equal(
        sl_client_unary(channel, &methods[ECHO], &options, &request, &reply, &call), SL_OK);
    assert_string_equal(((const Sluice__Test__Types *)reply)->text, text);
    assert_int_equal(((const Sluice__Test__Types *)reply)->number, 1);
    assert_true(sl_metadata_get(sl_client_call_headers(call), "x-head", 0, &value));
    assert_true(sl_slice_equals(value, "value"));
    assert_true(sl_metadata_get(sl_client_call_trailers(call), "x-tail", 0, &value));
    (void)sl_client_call_free(call);
    struct sl_server_stats stats;
    sl_server_stats(host.server, &stats);
    assert_true(stats.bytes_out < sizeof(text));
}

static void a_request_that_does_not_parse_is_internal_fr_11(void **state)
{
    (void)state;
    struct sl_client_call *call = NULL;
    struct sl_slice message;
    assert_int_equal(sl_client_call_open(channel, &methods[ECHO], NULL, &call), SL_OK);
    assert_int_equal(sl_client_call_send_bytes(call, sl_slice_str("\xFF")), SL_OK);
    sl_client_call_close_send(call);
    assert_int_equal(sl_client_call_recv_bytes(call, &message), SL_INTERNAL);
    assert_true(strlen(sl_client_call_error(call)->text) > 0); /* which fault it was */
    (void)sl_client_call_free(call);
}

/* A call that another kind of handler answers; what was sent before it has arrived, too. */
static void echo_raw(const char *path)
{
    const struct sl_method_desc method = { .path = path, .name = "Echo", .kind = SL_UNARY };
    struct sl_client_call *call = NULL;
    struct sl_slice message;
    assert_int_equal(sl_client_call_open(channel, &method, NULL, &call), SL_OK);
    assert_int_equal(sl_client_call_send_bytes(call, sl_slice_str("hi")), SL_OK);
    sl_client_call_close_send(call);
    assert_int_equal(sl_client_call_recv_bytes(call, &message), SL_OK);
    assert_true(sl_slice_equals(message, "hi"));
    assert_int_equal(call_to_end(call), SL_END);
}

static void server_streams_wait_for_the_reader(void **state)
{
    (void)state;
    struct sl_client_call *call = open_call(COUNT, 0);
    void *message = NULL;
    for (int i = 0; i < ECHOES; i++) { /* time for the handler to run into the wall */
        echo_raw("/test.Loop/Echo");
    }
    const int n_sent = await(&seen.n_begun, 1);
    assert_true(n_sent > 0 && n_sent < MESSAGES); /* 2 MB: eight times what may be queued */
    for (int i = 0; i < MESSAGES; i++) {
        assert_int_equal(sl_client_call_recv(call, &message), SL_OK);
        assert_int_equal(((const Sluice__Test__Types *)message)->number, i);
    }
    assert_int_equal(sl_client_call_recv(call, &message), SL_END);
    (void)sl_client_call_free(call);
}

static void client_streams_are_read_to_their_end(void **state)
{
    (void)state;
    struct sl_client_call *call = open_call(SUM, 0);
    char hello[] = "hello";
    Sluice__Test__Types message;
    sluice__test__types__init(&message);
    char *const empty = message.text;
    for (int32_t i = 1; i <= 100; i++) {
        message.number = i;
        message.text = i == 50 ? hello : empty;
        assert_int_equal(sl_client_call_send(call, &message), SL_OK);
    }
    sl_client_call_close_send(call);
    void *reply = NULL;
    assert_int_equal(sl_client_call_recv(call, &reply), SL_OK);
    assert_int_equal(((const Sluice__Test__Types *)reply)->number, 5050);
    assert_string_equal(((const Sluice__Test__Types *)reply)->text, "hello");
    assert_int_equal(sl_client_call_recv(call, &reply), SL_END);
    (void)sl_client_call_free(call);
}

static void two_talks_go_on_at_once(void **state)
{
    (void)state;
    struct sl_client_call *calls[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        calls[i] = open_call(TALK, 0);
    }
    Sluice__Test__Types message;
    sluice__test__types__init(&message);
    void *reply = NULL;
    for (int32_t n = 0; n < 100; n++) {
        for (size_t i = 0; i < THREADS; i++) {
            message.number = n;
            assert_int_equal(sl_client_call_send(calls[i], &message), SL_OK);
            assert_int_equal(sl_client_call_recv(calls[i], &reply), SL_OK);
            assert_int_equal(((const Sluice__Test__Types *)reply)->number, n);
        }
    }
    for (size_t i = 0; i < THREADS; i++) {
        sl_client_call_close_send(calls[i]);
        assert_int_equal(call_to_end(calls[i]), SL_END);
    }
}

static void an_error_keeps_its_details_rs_5(void **state)
{
    (void)state;
    struct sl_client_call *call = open_call(FAIL, 0);
    struct sl_slice message;
    assert_int_equal(sl_client_call_recv_bytes(call, &message), SL_NOT_FOUND);
    assert_string_equal(sl_client_call_error(call)->text, "no such thing");
    struct sl_arena arena;
    struct sl_rpc_details details;
    sl_arena_init(&arena, 0);
    assert_int_equal(sl_rpc_details_decode(sl_client_call_details(call), &arena, &details), SL_OK);
    assert_true(sl_slice_equals(details.reason, "MISSING"));
    assert_true(sl_slice_equals(details.info[0].value, "value"));
    sl_arena_done(&arena);
    (void)sl_client_call_free(call);
}

static void handlers_on_the_loop_serve_beside_the_pool(void **state)
{
    (void)state;
    struct sl_client_call *busy[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        busy[i] = open_call(GATE, 0);
    }
    echo_raw("/test.Loop/Echo"); /* while the pool is full */
    open_gate();
    echo_raw("/test.Raw/Echo");
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(call_to_end(busy[i]), SL_END);
    }
}

static void only_the_return_ends_a_call_st_3(void **state)
{
    (void)state;
    assert_int_equal(call_to_end(open_call(LATER, 0)), SL_UNKNOWN);
}

/* ---- Ends that come from outside ------------------------------------------------------------- */

/* The status that the blocked function of `method` gives. */
static enum sl_status cancel_while_blocked(enum method method)
{
    struct sl_client_call *call = open_call(method, 0);
    assert_non_null(sl_client_call_headers(call)); /* the request is on its way, too */
    assert_int_equal(await(&seen.n_begun, 1), 1);
    sl_client_call_cancel(call);
    assert_int_equal(call_to_end(call), SL_CANCELLED);
    return last_seen();
}

static void a_cancel_wakes_recv_cn_4(void **state)
{
    (void)state;
    assert_int_equal(cancel_while_blocked(LISTEN), SL_CANCELLED);
}

static void a_cancel_wakes_send_cn_4(void **state)
{
    (void)state;
    assert_int_equal(cancel_while_blocked(FLOOD), SL_CANCELLED);
}

static enum sl_status deadline_while_blocked(enum method method)
{
    struct sl_client_call *call = open_call(method, 100);
    enum sl_status status = SL_OK;
    struct sl_slice message;
    if (methods[method].kind == SL_SERVER_STREAMING) {
        assert_int_equal(sl_client_call_recv_bytes(call, &message), SL_OK);
        (void)await(&seen.n_ended, 1);
    }
    while ((status = sl_client_call_recv_bytes(call, &message)) == SL_OK) {
    }
    assert_int_equal(status, SL_DEADLINE_EXCEEDED);
    (void)sl_client_call_free(call);
    return last_seen();
}

/* The client's own deadline may reset the stream before the server's has passed. */
static void assert_is_end(enum sl_status status)
{
    assert_true(status == SL_DEADLINE_EXCEEDED || status == SL_CANCELLED);
}

static void a_deadline_wakes_recv_dl_3(void **state)
{
    (void)state;
    assert_is_end(deadline_while_blocked(LISTEN));
}

static void a_deadline_wakes_send_dl_3(void **state)
{
    (void)state;
    assert_int_equal(deadline_while_blocked(FLOOD), SL_DEADLINE_EXCEEDED);
}

static void a_deadline_wakes_who_sleeps_dl_3(void **state)
{
    (void)state;
    assert_is_end(deadline_while_blocked(SLEEP));
}

static void a_slot_is_held_until_the_handler_returns_ng_2(void **state)
{
    (void)state;
    (void)teardown(NULL);
    start_host(1, 1000);
    struct sl_client_call *call = open_call(GATE, 50);
    assert_int_equal(call_to_end(call), SL_DEADLINE_EXCEEDED);
    assert_int_equal(await(&seen.n_begun, 1), 1);
    assert_int_equal(n_running(), 1);
    open_gate();
    assert_int_equal(await(&seen.n_ended, 1), 1);
    assert_int_equal(call_to_end(open_call(GATE, 0)), SL_END); /* behind it on the thread */
    assert_int_equal(n_running(), 0);
}

/* ---- More calls than threads ----------------------------------------------------------------- */

static void calls_wait_for_a_thread(void **state)
{
    (void)state;
    struct sl_client_call *calls[BUSY_CALLS];
    for (size_t i = 0; i < BUSY_CALLS; i++) {
        calls[i] = open_call(GATE, 0);
    }
    struct sl_client_call *late = open_call(SLEEP, 50);
    assert_int_equal(call_to_end(late), SL_DEADLINE_EXCEEDED); /* in the queue: DL-3 */
    echo_raw("/test.Loop/Echo");
    assert_int_equal(await(&seen.n_begun, THREADS), THREADS);
    open_gate();
    for (size_t i = 0; i < BUSY_CALLS; i++) {
        assert_int_equal(call_to_end(calls[i]), SL_END);
    }
    assert_int_equal(await(&seen.n_begun, BUSY_CALLS), BUSY_CALLS); /* and not SLEEP */
}

static void the_queue_is_bounded(void **state)
{
    (void)state;
    (void)teardown(NULL);
    start_host(1, 1); /* the limit pool_queue */
    struct sl_client_call *runs = open_call(GATE, 0);
    struct sl_client_call *waits = open_call(GATE, 0);
    struct sl_client_call *refused = open_call(GATE, 0);
    struct sl_slice message;
    assert_int_equal(sl_client_call_recv_bytes(refused, &message), SL_RESOURCE_EXHAUSTED);
    struct sl_slice pushback;
    assert_true(sl_metadata_get(
        sl_client_call_trailers(refused), "grpc-retry-pushback-ms", 0, &pushback)); /* RT-1 */
    (void)sl_client_call_free(refused);
    open_gate();
    assert_int_equal(call_to_end(runs), SL_END);
    assert_int_equal(call_to_end(waits), SL_END);
}

static void a_queue_of_none_still_uses_every_thread(void **state)
{
    (void)state;
    (void)teardown(NULL);
    start_host(THREADS, 0);
    for (int i = 0; i < 50; i++) {
        struct sl_client_call *calls[THREADS];
        for (size_t k = 0; k < THREADS; k++) {
            calls[k] = open_call(SUM, 0);
        }
        for (size_t k = 0; k < THREADS; k++) {
            sl_client_call_close_send(calls[k]);
            assert_int_equal(call_to_end(calls[k]), SL_END);
        }
    }
}

/* ---- The server's end ------------------------------------------------------------------------ */

static void *stop_now(void *unused)
{
    (void)unused;
    stop_host(0);
    return NULL;
}

static void a_drain_wakes_who_is_blocked_and_waits_for_who_runs(void **state)
{
    (void)state;
    struct sl_client_call *listens = open_call(LISTEN, 0);
    struct sl_client_call *runs = open_call(GATE, 0);
    assert_non_null(sl_client_call_headers(listens));
    assert_int_equal(await(&seen.n_begun, 2), 2);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, stop_now, NULL), 0);
    const enum sl_status of_listens = call_to_end(listens); /* its own: CM-6 */
    const enum sl_status blocked = last_seen();
    open_gate();
    const enum sl_status of_runs = call_to_end(runs); /* in the grace second, or behind it */
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(of_listens, SL_ABORTED);
    assert_int_equal(blocked, SL_UNAVAILABLE);
    assert_true(of_runs == SL_END || of_runs == SL_UNAVAILABLE);
    assert_int_equal(await(&seen.n_ended, 2), 2);
}

static void a_drain_ends_who_waits_for_a_thread(void **state)
{
    (void)state;
    struct sl_client_call *runs[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        runs[i] = open_call(GATE, 0);
    }
    struct sl_client_call *waits = open_call(GATE, 0);
    echo_raw("/test.Loop/Echo"); /* the server knows them all */
    assert_int_equal(await(&seen.n_begun, THREADS), THREADS);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, stop_now, NULL), 0);
    const enum sl_status of_waits = call_to_end(waits);
    const int n_begun = await(&seen.n_begun, THREADS);
    open_gate();
    for (size_t i = 0; i < THREADS; i++) {
        (void)call_to_end(runs[i]);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(of_waits, SL_UNAVAILABLE);
    assert_int_equal(n_begun, THREADS);
    assert_int_equal(await(&seen.n_begun, THREADS), THREADS); /* it never began */
}

static void methods_on_the_pool_need_one(void **state)
{
    (void)state;
    static const struct sl_service_options on_pool = { .struct_size = sizeof(on_pool),
                                                       .on_pool = true };
    struct sl_server *server = NULL;
    assert_int_equal(sl_server_new(NULL, &server), SL_OK);
    assert_int_equal(
        sl_server_add_service_with(server, &service, starts, NULL, NULL, &on_pool),
        SL_FAILED_PRECONDITION);
    assert_int_equal(
        sl_server_add_raw_with(server, NULL, SL_UNARY, on_raw, NULL, &on_pool),
        SL_FAILED_PRECONDITION);
    (void)sl_server_free(server);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(unary_handlers_reply_with_metadata_and_compression),
        CASE(a_request_that_does_not_parse_is_internal_fr_11),
        CASE(server_streams_wait_for_the_reader),
        CASE(client_streams_are_read_to_their_end),
        CASE(two_talks_go_on_at_once),
        CASE(an_error_keeps_its_details_rs_5),
        CASE(handlers_on_the_loop_serve_beside_the_pool),
        CASE(only_the_return_ends_a_call_st_3),
        CASE(a_cancel_wakes_recv_cn_4),
        CASE(a_cancel_wakes_send_cn_4),
        CASE(a_deadline_wakes_recv_dl_3),
        CASE(a_deadline_wakes_send_dl_3),
        CASE(a_deadline_wakes_who_sleeps_dl_3),
        CASE(a_slot_is_held_until_the_handler_returns_ng_2),
        CASE(calls_wait_for_a_thread),
        CASE(the_queue_is_bounded),
        CASE(a_queue_of_none_still_uses_every_thread),
        CASE(a_drain_wakes_who_is_blocked_and_waits_for_who_runs),
        CASE(a_drain_ends_who_waits_for_a_thread),
        cmocka_unit_test(methods_on_the_pool_need_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
