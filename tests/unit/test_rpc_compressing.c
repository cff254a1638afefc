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

enum { TEXT_BYTES = 2000, DRAIN_MS = 200 };

#define METHOD(method_path, method_kind)                                                           \
    {                                                                                              \
        .path = (method_path), .name = "Method", .kind = (method_kind),                            \
        .request_type = &sluice__test__types__descriptor,                                          \
        .response_type = &sluice__test__types__descriptor                                          \
    }

static const struct sl_method_desc tell = METHOD("/test.Service/Tell", SL_UNARY);
static const struct sl_method_desc talk = METHOD("/test.Service/Talk", SL_BIDIRECTIONAL);

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

/* ---- The two ends ---------------------------------------------------------------------------- */

static void *run(void *user_data)
{
    struct sl_error err;
    return sl_server_run(user_data, &err) == SL_OK ? NULL : user_data;
}

static int set_up(void **state)
{
    (void)state;
    static struct sl_method_desc methods[2];
    static const struct sl_service_desc service = { .name = "test.Service",
                                                    .methods = methods,
                                                    .n_methods = 2 };
    static sl_method_start_fn *const starts[] = { on_tell, on_talk };
    methods[0] = tell;
    methods[1] = talk;
    memset(text, 'x', sizeof(text) - 1);
    const char *address = NULL;
    assert_int_equal(sl_server_new(NULL, &server), SL_OK);
    assert_int_equal(sl_server_add_service(server, &service, starts, NULL, NULL), SL_OK);
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

static void assert_told(const char *encoding, bool is_plain_answer, int number, bool is_compressed)
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
    assert_int_equal(sl_client_unary(channel, &tell, &options, &request, &reply, &call), SL_OK);
    assert_int_equal(((const Sluice__Test__Types *)reply)->number, number);
    assert_int_equal(sl_client_call_is_compressed(call), is_compressed);
    (void)sl_client_call_free(call);
}

static void unary_call_knows_what_came_compressed(void **state)
{
    (void)state;
    assert_told("gzip", false, 1, true);
    assert_told(NULL, false, 2, true);
    assert_told("gzip", true, 1, false);
    assert_told(NULL, true, 2, false);
}

static void each_message_of_a_stream_is_compressed_or_not(void **state)
{
    (void)state;
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .encoding = "gzip" };
    struct sl_client_call *call;
    assert_int_equal(sl_client_call_open(channel, &talk, &options, &call), SL_OK);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unary_call_knows_what_came_compressed),
        cmocka_unit_test(each_message_of_a_stream_is_compressed_or_not),
    };
    return cmocka_run_group_tests_name("rpc_compressing", tests, set_up, tear_down);
}
