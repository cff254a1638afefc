/* Whole calls between our client and our server, over sockets. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/tests/unit/rpc_types.pb-c.h"
#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "service/rpc/client.h"
#include "service/rpc/server.h"
#include "service/rpc/status.h"

enum { BIG_BYTES = 3 * 1024 * 1024, STREAM_MESSAGES = 1000, DRAIN_MS = 200 };

#define METHOD(method_path, method_kind)                                                           \
    {                                                                                              \
        .path = (method_path), .name = "Method", .kind = (method_kind),                            \
        .request_type = &sluice__test__types__descriptor,                                          \
        .response_type = &sluice__test__types__descriptor                                          \
    }

static const struct sl_method_desc echo = METHOD("/test.Service/Echo", SL_UNARY);
static const struct sl_method_desc count = METHOD("/test.Service/Count", SL_SERVER_STREAMING);
static const struct sl_method_desc hang = METHOD("/test.Service/Hang", SL_UNARY);
static const struct sl_method_desc talk = METHOD("/test.Service/Talk", SL_BIDIRECTIONAL);
static const struct sl_method_desc failing = METHOD("/test.Service/Fail", SL_UNARY);
static const struct sl_method_desc flaky = METHOD("/test.Service/Flaky", SL_UNARY);

struct host {
    struct sl_server *server;
    const char *address;
    pthread_t thread;
};

static struct host host;
static struct sl_channel *channel;

/* ---- Handlers -------------------------------------------------------------------------------- */

/* The request comes back; so does the header "x-bin", in headers and trailers. */
static enum sl_status on_echo(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)user_data;
    struct sl_slice value;
    if (sl_metadata_get(sl_call_metadata(call), "x-bin", 0, &value)) {
        SL_TRY(sl_call_add_header(call, sl_slice_str("x-bin"), value));
        SL_TRY(sl_call_add_trailer(call, sl_slice_str("y-bin"), value));
    }
    if (sl_metadata_get(sl_call_metadata(call), "authorization", 0, &value)) {
        SL_TRY(sl_call_add_header(call, sl_slice_str("x-seen"), value));
    }
    if (sl_metadata_get(sl_call_metadata(call), "encoding", 0, &value)) {
        const bool is_gzip = sl_slice_equals(value, "gzip");
        SL_TRY(sl_call_set_encoding(call, is_gzip ? "gzip" : NULL));
    }
    return sl_call_reply_bytes(call, request);
}

static size_t n_counted;

/* SL_AGAIN: on_writable goes on. */
static enum sl_status send_some(struct sl_call *call)
{
    for (; n_counted < STREAM_MESSAGES; n_counted++) {
        const uint8_t message[3] = { 0x08, (uint8_t)(0x80 | (n_counted & 0x7F)),
                                     (uint8_t)(n_counted >> 7) };
        SL_TRY(sl_call_send_bytes(call, sl_slice_of(message, 3)));
    }
    return SL_OK;
}

static void send_more(struct sl_call *call, void *user_data)
{
    (void)user_data;
    const enum sl_status status = send_some(call);
    if (status != SL_AGAIN) {
        sl_call_finishf(call, status, "%s", "");
    }
}

static void on_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    (void)end;
    (void)user_data;
    sl_call_finishf(call, SL_CANCELLED, "gone");
}

static const struct sl_call_callbacks sending = { .on_writable = send_more, .on_ended = on_ended };

static enum sl_status on_count(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)request;
    (void)user_data;
    n_counted = 0;
    sl_call_set_callbacks(call, &sending, NULL);
    const enum sl_status status = send_some(call);
    return status == SL_AGAIN ? SL_PENDING : status;
}

static enum sl_status on_hang(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)request;
    (void)user_data;
    static const struct sl_call_callbacks hanging = { .on_ended = on_ended };
    sl_call_set_callbacks(call, &hanging, NULL);
    return SL_PENDING;
}

/* A message that the queue did not take yet. */
struct talker {
    struct sl_slice held;
    bool has_held;
};

/* SL_AGAIN: there is nothing to read, or no room to write. */
static enum sl_status answer_next(struct sl_call *call, struct talker *talker)
{
    if (!talker->has_held) {
        SL_TRY(sl_call_recv_bytes(call, &talker->held));
        talker->has_held = true;
    }
    SL_TRY(sl_call_send_bytes(call, talker->held));
    talker->has_held = false;
    return SL_OK;
}

static void talk_on(struct sl_call *call, void *user_data)
{
    enum sl_status status;
    do {
        status = answer_next(call, user_data);
    } while (status == SL_OK);
    if (status != SL_AGAIN) {
        sl_call_finishf(call, status == SL_END ? SL_OK : status, "%s", "");
    }
}

static enum sl_status on_talk(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)request;
    (void)user_data;
    static const struct sl_call_callbacks talking = { .on_readable = talk_on,
                                                      .on_writable = talk_on,
                                                      .on_ended = on_ended };
    struct talker *talker = sl_arena_calloc(sl_call_arena(call), 1, sizeof(*talker));
    if (talker == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    sl_call_set_callbacks(call, &talking, talker);
    return SL_PENDING;
}

static enum sl_status on_fail(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)request;
    (void)user_data;
    const struct sl_metadatum info = { sl_slice_str("run_started"), sl_slice_str("false") };
    const struct sl_call_status status = {
        .code = SL_FAILED_PRECONDITION,
        .message = "h\xC3\xA4lf 100%",
        .reason = "SESSION_BUSY",
        .info = &info,
        .n_info = 1,
    };
    return sl_call_fail(call, &status);
}

/* Unavailable until the third try. */
static enum sl_status on_flaky(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)user_data;
    const struct sl_call_status status = { .code = SL_UNAVAILABLE, .retry_delay_ms = 1 };
    return sl_call_previous_attempts(call) < 2 ? sl_call_fail(call, &status)
                                               : sl_call_reply_bytes(call, request);
}

/* ---- The two ends ---------------------------------------------------------------------------- */

static void *run(void *argument)
{
    struct host *self = argument;
    struct sl_error err = { 0 };
    if (sl_server_run(self->server, &err) != SL_OK) {
        print_error("%s\n", err.text);
    }
    return NULL;
}

static void start_host(const char *address)
{
    static const struct {
        const struct sl_method_desc *method;
        sl_raw_fn *handler;
    } routes[] = {
        { &echo, on_echo }, { &count, on_count },  { &hang, on_hang },
        { &talk, on_talk }, { &failing, on_fail }, { &flaky, on_flaky },
    };
    const struct sl_server_options options = { .struct_size = sizeof(options) };
    struct sl_error err = { 0 };
    assert_int_equal(sl_server_new(&options, &host.server), SL_OK);
    for (size_t i = 0; i < SL_COUNT(routes); i++) {
        assert_int_equal(
            sl_server_add_raw(
                host.server, routes[i].method->path, routes[i].method->kind, routes[i].handler,
                NULL),
            SL_OK);
    }
    if (sl_server_listen(host.server, address, NULL, &host.address, &err) != SL_OK) {
        print_error("%s\n", err.text);
        fail();
    }
    assert_int_equal(pthread_create(&host.thread, NULL, run, &host), 0);
}

static void stop_host(void)
{
    sl_server_stop(host.server, DRAIN_MS, NULL, NULL);
    assert_int_equal(pthread_join(host.thread, NULL), 0);
    host.server = sl_server_free(host.server);
}

static int setup(void **state)
{
    (void)state;
    start_host("127.0.0.1:0");
    const struct sl_channel_options options = { .struct_size = sizeof(options),
                                                .user_agent = "test" };
    assert_int_equal(sl_channel_new(host.address, &options, &channel, NULL), SL_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    channel = sl_channel_free(channel);
    stop_host();
    return 0;
}

/* ---- Blocking -------------------------------------------------------------------------------- */

static void unary_call(const struct sl_client_call_options *options, char *text)
{
    Sluice__Test__Types request;
    sluice__test__types__init(&request);
    request.text = text;
    struct sl_client_call *call;
    void *reply;
    assert_int_equal(sl_client_unary(channel, &echo, options, &request, &reply, &call), SL_OK);
    assert_string_equal(((const Sluice__Test__Types *)reply)->text, text);
    (void)sl_client_call_free(call);
}

static void unary_calls_come_back_with_metadata(void **state)
{
    (void)state;
    const struct sl_metadatum metadata = { sl_slice_str("x-bin"), sl_slice_of("\0\xFF,", 3) };
    const struct sl_client_call_options options = {
        .struct_size = sizeof(options), .timeout_ms = 20000, .metadata = &metadata, .n_metadata = 1
    };
    Sluice__Test__Types request;
    sluice__test__types__init(&request);
    request.number = 42;
    struct sl_client_call *call;
    void *reply;
    assert_int_equal(sl_client_unary(channel, &echo, &options, &request, &reply, &call), SL_OK);
    assert_int_equal(((const Sluice__Test__Types *)reply)->number, 42);
    struct sl_slice value;
    assert_true(sl_metadata_get(sl_client_call_headers(call), "x-bin", 0, &value));
    assert_true(sl_slice_equal(value, sl_slice_of("\0\xFF,", 3)));
    assert_true(sl_metadata_get(sl_client_call_trailers(call), "y-bin", 0, &value));
    assert_true(sl_slice_equal(value, sl_slice_of("\0\xFF,", 3)));
    (void)sl_client_call_free(call);
}

static void a_channel_sends_its_authorization_with_each_call(void **state)
{
    (void)state;
    char value[] = "Bearer planted";
    struct sl_error err = { .text = "" };
    struct sl_channel_options options = { .struct_size = sizeof(options), .authorization = value };
    struct sl_channel *own = NULL;
    assert_int_equal(sl_channel_new(host.address, &options, &own, &err), SL_OK);
    memset(value, 'x', sizeof(value) - 1); /* it was copied */
    Sluice__Test__Types request;
    sluice__test__types__init(&request);
    for (int i = 0; i < 2; i++) {
        struct sl_client_call *call;
        void *reply;
        struct sl_slice seen;
        assert_int_equal(sl_client_unary(own, &echo, NULL, &request, &reply, &call), SL_OK);
        assert_true(sl_metadata_get(sl_client_call_headers(call), "x-seen", 0, &seen));
        assert_true(sl_slice_equals(seen, "Bearer planted"));
        (void)sl_client_call_free(call);
    }
    (void)sl_channel_free(own);
    options.authorization = "Bearer a\nb";
    assert_int_equal(sl_channel_new(host.address, &options, &own, &err), SL_INVALID_ARGUMENT);
    assert_null(strstr(err.text, "Bearer"));
}

static void many_unary_calls_share_a_connection(void **state)
{
    (void)state;
    char text[] = "hello";
    for (int i = 0; i < 300; i++) {
        unary_call(NULL, text);
    }
    struct sl_server_stats stats;
    sl_server_stats(host.server, &stats);
    assert_int_equal(stats.connections_total, 1);
}

static void compressed_messages_go_both_ways_fr_10(void **state)
{
    (void)state;
    const struct sl_metadatum metadata = { sl_slice_str("encoding"), sl_slice_str("gzip") };
    const struct sl_client_call_options options = {
        .struct_size = sizeof(options), .encoding = "gzip", .metadata = &metadata, .n_metadata = 1
    };
    char text[20001];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    unary_call(&options, text);
    struct sl_server_stats stats;
    sl_server_stats(host.server, &stats);
    assert_true(stats.bytes_in < 5000);
    assert_true(stats.bytes_out < 5000);
}

static void an_answer_may_be_compressed_as_its_request_is_fr_9(void **state)
{
    (void)state;
    static const char *const encodings[] = { "deflate", "gzip", NULL };
    const struct sl_metadatum metadata = { sl_slice_str("encoding"), sl_slice_str("yours") };
    char text[20001];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    for (size_t i = 0; i < SL_COUNT(encodings); i++) {
        const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                        .encoding = encodings[i],
                                                        .metadata = &metadata,
                                                        .n_metadata = 1 };
        unary_call(&options, text);
        struct sl_server_stats stats;
        sl_server_stats(host.server, &stats);
        assert_int_equal(stats.bytes_out >= sizeof(text), encodings[i] == NULL);
    }
}

static void messages_larger_than_every_window_pass(void **state)
{
    (void)state;
    char *text = sl_alloc(BIG_BYTES + 1);
    assert_non_null(text);
    memset(text, 'x', BIG_BYTES);
    text[BIG_BYTES] = '\0';
    for (int i = 0; i < 3; i++) {
        unary_call(NULL, text);
    }
    (void)sl_free(text);
}

static void a_stream_is_read_to_its_end(void **state)
{
    (void)state;
    struct sl_client_call *call;
    assert_int_equal(sl_client_call_open(channel, &count, NULL, &call), SL_OK);
    assert_int_equal(sl_client_call_send_bytes(call, sl_slice_str("")), SL_OK);
    sl_client_call_close_send(call);
    void *message;
    for (int i = 0; i < STREAM_MESSAGES; i++) {
        assert_int_equal(sl_client_call_recv(call, &message), SL_OK);
        assert_int_equal(((const Sluice__Test__Types *)message)->number, i);
    }
    assert_int_equal(sl_client_call_recv(call, &message), SL_END);
    assert_int_equal(sl_client_call_recv(call, &message), SL_END);
    assert_int_equal(sl_client_call_status(call), SL_OK);
    (void)sl_client_call_free(call);
}

static void two_streams_are_read_in_turns(void **state)
{
    (void)state;
    struct sl_client_call *calls[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sl_client_call_open(channel, &talk, NULL, &calls[i]), SL_OK);
    }
    for (int n = 0; n < 50; n++) {
        for (int i = 0; i < 2; i++) {
            char text[16];
            (void)snprintf(text, sizeof(text), "%d-%d", i, n);
            struct sl_slice message;
            assert_int_equal(sl_client_call_send_bytes(calls[i], sl_slice_str(text)), SL_OK);
            assert_int_equal(sl_client_call_recv_bytes(calls[i], &message), SL_OK);
            assert_true(sl_slice_equals(message, text));
        }
    }
    for (int i = 0; i < 2; i++) {
        struct sl_slice message;
        sl_client_call_close_send(calls[i]);
        assert_int_equal(sl_client_call_recv_bytes(calls[i], &message), SL_END);
        assert_int_equal(sl_client_call_send_bytes(calls[i], sl_slice_str("late")), SL_END);
        (void)sl_client_call_free(calls[i]);
    }
}

static void a_status_comes_with_its_details_rs_5(void **state)
{
    (void)state;
    Sluice__Test__Types request;
    sluice__test__types__init(&request);
    struct sl_client_call *call;
    void *reply;
    assert_int_equal(
        sl_client_unary(channel, &failing, NULL, &request, &reply, &call), SL_FAILED_PRECONDITION);
    assert_string_equal(sl_client_call_error(call)->text, "h\xC3\xA4lf 100%");
    assert_int_equal(sl_client_call_error(call)->origin, SL_ORIGIN_PEER);
    struct sl_arena arena;
    sl_arena_init(&arena, 0);
    struct sl_rpc_details details;
    assert_int_equal(sl_rpc_details_decode(sl_client_call_details(call), &arena, &details), SL_OK);
    assert_true(sl_slice_equals(details.reason, "SESSION_BUSY"));
    assert_true(sl_slice_equals(details.info[0].key, "run_started"));
    sl_arena_done(&arena);
    const struct sl_error_info *info = sl_client_call_error_info(call);
    assert_non_null(info);
    assert_true(sl_slice_equals(info->reason, "SESSION_BUSY"));
    assert_true(sl_slice_equals(info->domain, "sluice.v1"));
    assert_int_equal(info->n_info, 1);
    assert_true(sl_slice_equals(info->info[0].value, "false"));
    (void)sl_client_call_free(call);
}

static void our_own_servers_pushback_is_followed_rt_5(void **state)
{
    (void)state;
    const struct sl_method_config all = { .struct_size = sizeof(all),
                                          .retry = { .max_attempts = 3,
                                                     .initial_backoff_ms =
                                                         3600000, /* the server says less */
                                                     .max_backoff_ms = 3600000,
                                                     .backoff_multiplier = 1,
                                                     .retryable = SL_RETRY_ON(SL_UNAVAILABLE) } };
    const struct sl_service_config config = { .struct_size = sizeof(config),
                                              .methods = &all,
                                              .n_methods = 1 };
    const struct sl_channel_options options = { .struct_size = sizeof(options),
                                                .service_config = &config };
    struct sl_channel *own;
    assert_int_equal(sl_channel_new(host.address, &options, &own, NULL), SL_OK);
    Sluice__Test__Types request;
    sluice__test__types__init(&request);
    request.number = 42;
    struct sl_client_call *call;
    void *reply;
    assert_int_equal(sl_client_unary(own, &flaky, NULL, &request, &reply, &call), SL_OK);
    assert_int_equal(((const Sluice__Test__Types *)reply)->number, 42);
    assert_int_equal(sl_client_call_previous_attempts(call), 2);
    (void)sl_client_call_free(call);
    assert_int_equal(sl_channel_stats(own).n_retries, 2);
    own = sl_channel_free(own);
    assert_int_equal(
        sl_client_unary(channel, &flaky, NULL, &request, &reply, &call), SL_UNAVAILABLE);
    (void)sl_client_call_free(call);
}

static void ipv6_is_an_address_too(void **state)
{
    (void)state;
    start_host("[::1]:0");
    assert_int_equal(sl_channel_new(host.address, NULL, &channel, NULL), SL_OK);
    char text[] = "colons";
    unary_call(NULL, text);
    channel = sl_channel_free(channel);
    stop_host();
}

static void an_unknown_method_is_unimplemented(void **state)
{
    (void)state;
    static const struct sl_method_desc nothing = METHOD("/test.Service/Nothing", SL_UNARY);
    Sluice__Test__Types request;
    sluice__test__types__init(&request);
    struct sl_client_call *call;
    void *reply;
    assert_int_equal(
        sl_client_unary(channel, &nothing, NULL, &request, &reply, &call), SL_UNIMPLEMENTED);
    assert_null(sl_client_call_error_info(call));
    (void)sl_client_call_free(call);
}

static void a_deadline_ends_both_ends(void **state)
{
    (void)state;
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = 30 };
    Sluice__Test__Types request;
    sluice__test__types__init(&request);
    struct sl_client_call *call;
    void *reply;
    assert_int_equal(
        sl_client_unary(channel, &hang, &options, &request, &reply, &call), SL_DEADLINE_EXCEEDED);
    (void)sl_client_call_free(call);
    char text[] = "the connection lives";
    unary_call(NULL, text);
}

static void a_call_that_is_dropped_frees_its_slot(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        struct sl_client_call *call;
        assert_int_equal(sl_client_call_open(channel, &hang, NULL, &call), SL_OK);
        assert_int_equal(sl_client_call_send_bytes(call, sl_slice_str("")), SL_OK);
        sl_client_call_close_send(call);
        (void)sl_client_call_free(call);
    }
    char text[] = "still here";
    unary_call(NULL, text);
}

static void a_unix_socket_is_an_address_too(void **state)
{
    (void)state;
    char address[64];
    (void)snprintf(address, sizeof(address), "unix:/tmp/sl_client_%d.sock", (int)getpid());
    start_host(address);
    assert_int_equal(sl_channel_new(address, NULL, &channel, NULL), SL_OK);
    char text[] = "through a file";
    unary_call(NULL, text);
    channel = sl_channel_free(channel);
    stop_host();
}

static void a_call_can_wait_for_its_server(void **state)
{
    (void)state;
    start_host("127.0.0.1:0");
    char address[64];
    (void)snprintf(address, sizeof(address), "%s", host.address);
    assert_int_equal(sl_channel_new(address, NULL, &channel, NULL), SL_OK);
    char text[] = "first";
    unary_call(NULL, text);
    stop_host(); /* GOAWAY: the channel needs a new connection */
    start_host(address);
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = 20000,
                                                    .wait_for_ready = true };
    unary_call(&options, text);
    channel = sl_channel_free(channel);
    stop_host();
}

/* ---- On a loop of the user's ----------------------------------------------------------------- */

struct watcher {
    int n_messages;
    size_t n_sent;
    bool is_over;
    enum sl_status status;
};

static void on_readable(struct sl_client_call *call, void *user_data)
{
    struct watcher *watcher = user_data;
    for (;;) {
        void *message;
        const enum sl_status status = sl_client_call_recv(call, &message);
        if (status == SL_AGAIN) {
            return;
        }
        if (status != SL_OK) {
            watcher->is_over = true;
            watcher->status = status;
            return;
        }
        watcher->n_messages++;
    }
}

static void step_until_over(struct sl_loop_uv *loop, const struct watcher *watcher)
{
    for (int i = 0; i < 100000 && !watcher->is_over; i++) {
        sl_loop_uv_step(loop, 100);
    }
    assert_true(watcher->is_over);
}

/* A freed channel has a timer until its last connection is gone. */
static void step_until_closed(struct sl_loop_uv *loop)
{
    for (int i = 0; i < 1000 && sl_loop_uv_timeout(loop) >= 0; i++) {
        sl_loop_uv_step(loop, 100);
    }
    assert_int_equal(sl_loop_uv_timeout(loop), -1);
}

static void nothing_blocks_on_a_foreign_loop(void **state)
{
    (void)state;
    struct sl_loop_uv *loop;
    assert_int_equal(sl_loop_uv_new(0, &loop), SL_OK);
    struct sl_channel *own;
    const struct sl_channel_options options = { .struct_size = sizeof(options),
                                                .loop = sl_loop_uv_base(loop) };
    assert_int_equal(sl_channel_new(host.address, &options, &own, NULL), SL_OK);
    struct watcher watchers[3] = { 0 };
    struct sl_client_call *calls[3];
    for (int i = 0; i < 3; i++) {
        const struct sl_client_call_options call_options = { .struct_size = sizeof(call_options),
                                                             .on_readable = on_readable,
                                                             .user_data = &watchers[i] };
        assert_int_equal(
            sl_client_call_open(own, i == 2 ? &failing : &echo, &call_options, &calls[i]), SL_OK);
        assert_int_equal(sl_client_call_send_bytes(calls[i], sl_slice_str("\x08\x05")), SL_OK);
        sl_client_call_close_send(calls[i]);
        void *message;
        assert_int_equal(sl_client_call_recv(calls[i], &message), SL_AGAIN);
        assert_ptr_equal(sl_client_call_user(calls[i]), &watchers[i]);
    }
    for (int i = 0; i < 3; i++) {
        step_until_over(loop, &watchers[i]);
        assert_int_equal(watchers[i].n_messages, i == 2 ? 0 : 1);
        assert_int_equal(watchers[i].status, i == 2 ? SL_FAILED_PRECONDITION : SL_END);
        (void)sl_client_call_free(calls[i]);
    }
    (void)sl_channel_free(own);
    step_until_closed(loop);
    (void)sl_loop_uv_free(loop);
}

static void send_all(struct sl_client_call *call, void *user_data)
{
    struct watcher *watcher = user_data;
    static const uint8_t message[1000];
    while (watcher->n_sent < 2000) {
        const enum sl_status status =
            sl_client_call_send_bytes(call, sl_slice_of(message, sizeof(message)));
        if (status == SL_AGAIN) {
            return;
        }
        assert_int_equal(status, SL_OK);
        watcher->n_sent++;
    }
    sl_client_call_close_send(call);
}

static void on_echoed(struct sl_client_call *call, void *user_data)
{
    struct watcher *watcher = user_data;
    struct sl_slice message;
    enum sl_status status;
    while ((status = sl_client_call_recv_bytes(call, &message)) == SL_OK) {
        watcher->n_messages++;
    }
    watcher->is_over = status != SL_AGAIN;
    watcher->status = status;
}

static void a_full_queue_says_again_and_then_writable(void **state)
{
    (void)state;
    struct sl_loop_uv *loop;
    assert_int_equal(sl_loop_uv_new(0, &loop), SL_OK);
    struct sl_channel *own;
    const struct sl_channel_options options = { .struct_size = sizeof(options),
                                                .loop = sl_loop_uv_base(loop) };
    assert_int_equal(sl_channel_new(host.address, &options, &own, NULL), SL_OK);
    struct watcher watcher = { 0 };
    const struct sl_client_call_options call_options = { .struct_size = sizeof(call_options),
                                                         .on_readable = on_echoed,
                                                         .on_writable = send_all,
                                                         .user_data = &watcher };
    struct sl_client_call *call;
    assert_int_equal(sl_client_call_open(own, &talk, &call_options, &call), SL_OK);
    send_all(call, &watcher);
    assert_true(watcher.n_sent < 2000); /* 2 MB do not fit into the queue */
    step_until_over(loop, &watcher);
    assert_int_equal(watcher.status, SL_END);
    assert_int_equal(watcher.n_messages, 2000);
    /* The channel goes first, then its call, without a turn of the loop between. */
    (void)sl_channel_free(own);
    (void)sl_client_call_free(call);
    step_until_closed(loop);
    (void)sl_loop_uv_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(unary_calls_come_back_with_metadata, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_channel_sends_its_authorization_with_each_call, setup, teardown),
        cmocka_unit_test_setup_teardown(many_unary_calls_share_a_connection, setup, teardown),
        cmocka_unit_test_setup_teardown(compressed_messages_go_both_ways_fr_10, setup, teardown),
        cmocka_unit_test_setup_teardown(
            an_answer_may_be_compressed_as_its_request_is_fr_9, setup, teardown),
        cmocka_unit_test_setup_teardown(messages_larger_than_every_window_pass, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stream_is_read_to_its_end, setup, teardown),
        cmocka_unit_test_setup_teardown(two_streams_are_read_in_turns, setup, teardown),
        cmocka_unit_test_setup_teardown(a_status_comes_with_its_details_rs_5, setup, teardown),
        cmocka_unit_test_setup_teardown(our_own_servers_pushback_is_followed_rt_5, setup, teardown),
        cmocka_unit_test(ipv6_is_an_address_too),
        cmocka_unit_test_setup_teardown(an_unknown_method_is_unimplemented, setup, teardown),
        cmocka_unit_test_setup_teardown(a_deadline_ends_both_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(a_call_that_is_dropped_frees_its_slot, setup, teardown),
        cmocka_unit_test(a_unix_socket_is_an_address_too),
        cmocka_unit_test(a_call_can_wait_for_its_server),
        cmocka_unit_test_setup_teardown(nothing_blocks_on_a_foreign_loop, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_queue_says_again_and_then_writable, setup, teardown),
    };
    return cmocka_run_group_tests_name("client_server", tests, NULL, NULL);
}
