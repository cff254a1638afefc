/* Which messages of a call are compressed, one by one, and how the other side learns of it. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/tests/unit/rpc_types.pb-c.h"
#include "runtime/base/mem.h"
#include "service/rpc/client.h"
#include "service/rpc/server.h"

enum { TEXT_BYTES = 2000, DRAIN_MS = 200, THREADS = 2, BURST = 100 };

#define METHOD(method_path, method_kind)                                                           \
    {                                                                                              \
        .path = (method_path), .name = "Method", .kind = (method_kind),                            \
        .request_type = &sluice__test__types__descriptor,                                          \
        .response_type = &sluice__test__types__descriptor                                          \
    }

static const struct sl_method_desc on_loop[] = {
    METHOD("/test.Service/Tell", SL_UNARY),
    METHOD("/test.Service/Talk", SL_BIDIRECTIONAL),
};
static const struct sl_method_desc on_pool[] = {
    METHOD("/test.Pool/Tell", SL_UNARY),
    METHOD("/test.Pool/Talk", SL_BIDIRECTIONAL),
    METHOD("/test.Pool/Burst", SL_SERVER_STREAMING),
};

static struct sl_server *server;
static pthread_t thread;
static struct sl_channel *channel;
static char text[TEXT_BYTES];

/* ---- Handlers: they answer with 1 when the request came compressed, and 2 when not ------------
 */

static void fill(Sluice__Test__Types *message, bool is_compressed)
{
    message->number = is_compressed ? 1 : 2;
    message->text = text; /* worth compressing */
}

static enum sl_status on_tell(struct sl_call *call, const void *handlers, void *user_data)
{
    (void)handlers;
    (void)user_data;
    void *reply;
    struct sl_slice value;
    SL_TRY(sl_call_reply(call, &reply));
    SL_TRY(sl_call_set_encoding(call, "gzip"));
    sl_call_set_compressing(call, !sl_metadata_get(sl_call_metadata(call), "plainly", 0, &value));
    fill(reply, sl_call_is_compressed(call));
    return SL_OK;
}

/* Each answer is sent as its request came, which is how the client can tell. */
static void on_readable(struct sl_call *call, void *user_data)
{
    (void)user_data;
    void *request;
    enum sl_status status;
    while ((status = sl_call_recv(call, &request)) == SL_OK) {
        Sluice__Test__Types answer;
        sluice__test__types__init(&answer);
        fill(&answer, sl_call_is_compressed(call));
        sl_call_set_compressing(call, ((const Sluice__Test__Types *)request)->number == 1);
        status = sl_call_send(call, &answer);
        if (status != SL_OK) {
            break;
        }
    }
    if (status != SL_AGAIN) {
        sl_call_finishf(call, status == SL_END ? SL_OK : status, "%s", "");
    }
}

static void on_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    (void)end;
    (void)user_data;
    sl_call_finishf(call, SL_CANCELLED, "gone");
}

static enum sl_status on_talk(struct sl_call *call, const void *handlers, void *user_data)
{
    (void)handlers;
    (void)user_data;
    static const struct sl_call_callbacks callbacks = { .on_readable = on_readable,
                                                        .on_ended = on_ended };
    SL_TRY(sl_call_set_encoding(call, "gzip"));
    sl_call_set_callbacks(call, &callbacks, NULL);
    return SL_PENDING;
}

/* ---- The same, where they may block ------------------------------------------------------------
 */

static enum sl_status on_pool_talk(struct sl_call *call, const void *handlers, void *user_data)
{
    (void)handlers;
    (void)user_data;
    void *request;
    enum sl_status status;
    SL_TRY(sl_call_set_encoding(call, "gzip"));
    while ((status = sl_call_recv(call, &request)) == SL_OK) {
        Sluice__Test__Types answer;
        sluice__test__types__init(&answer);
        fill(&answer, sl_call_is_compressed(call));
        sl_call_set_compressing(call, ((const Sluice__Test__Types *)request)->number == 1);
        SL_TRY(sl_call_send(call, &answer));
    }
    return status == SL_END ? SL_OK : status;
}

/* Does not wait for one message to leave before the next: every other one is compressed. */
static enum sl_status on_burst(struct sl_call *call, const void *handlers, void *user_data)
{
    (void)handlers;
    (void)user_data;
    SL_TRY(sl_call_set_encoding(call, "gzip"));
    for (int i = 0; i < BURST; i++) {
        Sluice__Test__Types answer;
        sluice__test__types__init(&answer);
        fill(&answer, i % 2 == 0);
        sl_call_set_compressing(call, i % 2 == 0);
        SL_TRY(sl_call_send(call, &answer));
    }
    return SL_OK;
}

/* ---- The two ends ---------------------------------------------------------------------------- */

static void *run(void *user_data)
{
    struct sl_error err;
    return sl_server_run(user_data, &err) == SL_OK ? NULL : user_data;
}

static int set_up(void **state)
{
    (void)state;
    static const struct sl_service_desc service = { .name = "test.Service",
                                                    .methods = on_loop,
                                                    .n_methods = SL_COUNT(on_loop) };
    static const struct sl_service_desc pool_service = { .name = "test.Pool",
                                                         .methods = on_pool,
                                                         .n_methods = SL_COUNT(on_pool) };
    static sl_method_start_fn *const starts[] = { on_tell, on_talk };
    static sl_method_start_fn *const pool_starts[] = { on_tell, on_pool_talk, on_burst };
    static const struct sl_service_options blocks = { .struct_size = sizeof(blocks),
                                                      .on_pool = true };
    static const struct sl_server_options options = { .struct_size = sizeof(options),
                                                      .n_pool_threads = THREADS };
    memset(text, 'x', sizeof(text) - 1);
    const char *address = NULL;
    assert_int_equal(sl_server_new(&options, &server), SL_OK);
    assert_int_equal(sl_server_add_service(server, &service, starts, NULL, NULL), SL_OK);
    assert_int_equal(
        sl_server_add_service_with(server, &pool_service, pool_starts, NULL, NULL, &blocks), SL_OK);
    assert_int_equal(sl_server_listen(server, "127.0.0.1:0", NULL, &address, NULL), SL_OK);
    assert_int_equal(pthread_create(&thread, NULL, run, server), 0);
    assert_int_equal(sl_channel_new(address, NULL, &channel, NULL), SL_OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    channel = sl_channel_free(channel);
    sl_server_stop(server, DRAIN_MS, NULL, NULL);
    assert_int_equal(pthread_join(thread, NULL), 0);
    server = sl_server_free(server);
    return 0;
}

static void assert_told(
    const struct sl_method_desc *tell,
    const char *encoding,
    bool is_plain_answer,
    int number,
    bool is_compressed)
{
    const struct sl_metadatum plainly = { sl_slice_str("plainly"), sl_slice_str("yes") };
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .encoding = encoding,
                                                    .metadata = &plainly,
                                                    .n_metadata = is_plain_answer ? 1 : 0 };
    Sluice__Test__Types request;
    sluice__test__types__init(&request);
    request.text = text;
    struct sl_client_call *call;
    void *reply;
    assert_int_equal(sl_client_unary(channel, tell, &options, &request, &reply, &call), SL_OK);
    assert_int_equal(((const Sluice__Test__Types *)reply)->number, number);
    assert_int_equal(sl_client_call_is_compressed(call), is_compressed);
    (void)sl_client_call_free(call);
}

static void unary_call_knows_what_came_compressed(void **state)
{
    (void)state;
    const struct sl_method_desc *const methods[] = { &on_loop[0], &on_pool[0] };
    for (size_t i = 0; i < SL_COUNT(methods); i++) {
        assert_told(methods[i], "gzip", false, 1, true);
        assert_told(methods[i], NULL, false, 2, true);
        assert_told(methods[i], "gzip", true, 1, false);
        assert_told(methods[i], NULL, true, 2, false);
    }
}

static void assert_talk(const struct sl_method_desc *talk)
{
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .encoding = "gzip" };
    struct sl_client_call *call;
    assert_int_equal(sl_client_call_open(channel, talk, &options, &call), SL_OK);
    static const struct {
        bool is_out, is_back; /* compressed */
    } turns[] = {
        { true, true }, { false, true }, { false, false }, { true, false }, { true, true }
    };
    for (size_t i = 0; i < SL_COUNT(turns); i++) {
        Sluice__Test__Types request;
        sluice__test__types__init(&request);
        request.text = text;
        request.number = turns[i].is_back ? 1 : 2;
        sl_client_call_set_compressing(call, turns[i].is_out);
        assert_int_equal(sl_client_call_send(call, &request), SL_OK);
        void *answer;
        assert_int_equal(sl_client_call_recv(call, &answer), SL_OK);
        assert_int_equal(((const Sluice__Test__Types *)answer)->number, turns[i].is_out ? 1 : 2);
        assert_int_equal(sl_client_call_is_compressed(call), turns[i].is_back);
    }
    sl_client_call_close_send(call);
    void *nothing;
    assert_int_equal(sl_client_call_recv(call, &nothing), SL_END);
    (void)sl_client_call_free(call);
}

static void each_message_of_a_stream_is_compressed_or_not(void **state)
{
    (void)state;
    assert_talk(&on_loop[1]);
    assert_talk(&on_pool[1]);
}

/* What waits for the loop is sent as it was given, whatever was set behind it. */
static void a_burst_from_the_pool_is_sent_as_it_was_given(void **state)
{
    (void)state;
    struct sl_client_call *call;
    void *answer;
    assert_int_equal(sl_client_call_open(channel, &on_pool[2], NULL, &call), SL_OK);
    assert_int_equal(sl_client_call_send_bytes(call, sl_slice_str("")), SL_OK);
    sl_client_call_close_send(call);
    for (int i = 0; i < BURST; i++) {
        assert_int_equal(sl_client_call_recv(call, &answer), SL_OK);
        assert_int_equal(
            ((const Sluice__Test__Types *)answer)->number,
            sl_client_call_is_compressed(call) ? 1 : 2);
    }
    assert_int_equal(sl_client_call_recv(call, &answer), SL_END);
    (void)sl_client_call_free(call);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unary_call_knows_what_came_compressed),
        cmocka_unit_test(each_message_of_a_stream_is_compressed_or_not),
        cmocka_unit_test(a_burst_from_the_pool_is_sent_as_it_was_given),
    };
    return cmocka_run_group_tests_name("rpc_compressing", tests, set_up, tear_down);
}
