/* Generated code against a library that only records what it is asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "c_package.sl.h"
#include "custom_options.sl.h"
#include "dir/odd-name.v1.sl.h"
#include "keywords.sl.h"
#include "names.sl.h"
#include "no_generate.sl.h"
#include "no_package.sl.h"
#include "tables_only.sl.h"

/* ---- The library ----------------------------------------------------------------------------- */

static struct {
    struct sl_call *call; /* what every function must be given */
    enum sl_status request_status, reply_status, recv_status, send_status;
    void *message; /* what request, reply and recv give */
    const void *sent;
    struct sl_call_status failed;
    /* registration */
    const struct sl_service_desc *service;
    sl_method_start_fn *const *starts;
    const void *handlers;
    void *user_data;
    const struct sl_service_options *options;
    /* client */
    struct sl_client_call *client_call;
    const struct sl_method_desc *method;
    enum sl_status open_status, client_send_status, client_recv_status;
    unsigned int n_closed, n_freed, n_cancelled;
} fake;

enum sl_status sl_call_request(struct sl_call *call, const void **ret_message)
{
    assert_ptr_equal(call, fake.call);
    *ret_message = fake.message;
    return fake.request_status;
}

enum sl_status sl_call_reply(struct sl_call *call, void **ret_message)
{
    assert_ptr_equal(call, fake.call);
    *ret_message = fake.message;
    return fake.reply_status;
}

enum sl_status sl_call_recv(struct sl_call *call, void **ret_message)
{
    assert_ptr_equal(call, fake.call);
    if (fake.recv_status == SL_OK) {
        *ret_message = fake.message;
    }
    return fake.recv_status;
}

enum sl_status sl_call_send(struct sl_call *call, const void *message)
{
    assert_ptr_equal(call, fake.call);
    fake.sent = message;
    return fake.send_status;
}

enum sl_status sl_call_fail(struct sl_call *call, const struct sl_call_status *given)
{
    assert_ptr_equal(call, fake.call);
    fake.failed = *given;
    return given->code;
}

enum sl_status sl_server_add_service_with(
    struct sl_server *server,
    const struct sl_service_desc *service,
    sl_method_start_fn *const *starts,
    const void *handlers,
    void *user_data,
    const struct sl_service_options *options)
{
    fake.options = options;
    (void)server;
    fake.service = service;
    fake.starts = starts;
    fake.handlers = handlers;
    fake.user_data = user_data;
    return SL_OK;
}

enum sl_status sl_client_unary(
    struct sl_channel *channel,
    const struct sl_method_desc *method,
    const struct sl_client_call_options *options,
    const void *request,
    void **ret_reply,
    struct sl_client_call **ret_call)
{
    (void)channel;
    (void)options;
    fake.method = method;
    fake.sent = request;
    *ret_reply = fake.message;
    *ret_call = fake.client_call;
    return fake.client_recv_status;
}

enum sl_status sl_client_call_open(
    struct sl_channel *channel,
    const struct sl_method_desc *method,
    const struct sl_client_call_options *options,
    struct sl_client_call **ret_call)
{
    (void)channel;
    (void)options;
    fake.method = method;
    if (fake.open_status == SL_OK) {
        *ret_call = fake.client_call;
    }
    return fake.open_status;
}

enum sl_status sl_client_call_send(struct sl_client_call *call, const void *message)
{
    assert_ptr_equal(call, fake.client_call);
    fake.sent = message;
    return fake.client_send_status;
}

void sl_client_call_close_send(struct sl_client_call *call)
{
    assert_ptr_equal(call, fake.client_call);
    fake.n_closed++;
}

enum sl_status sl_client_call_recv(struct sl_client_call *call, void **ret_message)
{
    assert_ptr_equal(call, fake.client_call);
    if (fake.client_recv_status == SL_OK) {
        *ret_message = fake.message;
    }
    return fake.client_recv_status;
}

enum sl_status sl_client_call_finish(struct sl_client_call *call, void **ret_reply)
{
    return sl_client_call_recv(call, ret_reply);
}

void sl_client_call_cancel(struct sl_client_call *call)
{
    assert_ptr_equal(call, fake.client_call);
    fake.n_cancelled++;
}

struct sl_client_call *sl_client_call_free(struct sl_client_call *call)
{
    (void)call;
    fake.n_freed++;
    return NULL;
}

static char call_room, client_call_room;
static MyPkg__V1Beta__HTTPRequest a_request = MY_PKG__V1_BETA__HTTPREQUEST__INIT;

static int setup(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof(fake));
    fake.call = (struct sl_call *)(void *)&call_room;
    fake.client_call = (struct sl_client_call *)(void *)&client_call_room;
    fake.message = &a_request;
    return 0;
}

/* ---- Handlers -------------------------------------------------------------------------------- */

static enum sl_status get_url_for(
    struct sl_call *call,
    const MyPkg__V1Beta__HTTPRequest *request,
    MyPkg__V1Beta__HTTPRequest__InnerURL *reply,
    void *user_data)
{
    assert_ptr_equal(call, fake.call);
    assert_ptr_equal(request, fake.message);
    assert_ptr_equal(reply, fake.message);
    assert_ptr_equal(user_data, &fake);
    return SL_DATA_LOSS;
}

static enum sl_status foo_bar(
    struct sl_call *call,
    const MyPkg__V1Beta__HTTPRequest__InnerURL__DeepestOne *request,
    struct sl_my_pkg__v1_beta__agent_api__foo__bar2_x__sender *out,
    void *user_data)
{
    (void)call;
    (void)user_data;
    assert_ptr_equal(request, fake.message);
    MyPkg__V1Beta__Reply2 event;
    my_pkg__v1_beta__reply_2__init(&event);
    fake.send_status = SL_AGAIN;
    assert_int_equal(sl_my_pkg__v1_beta__agent_api__foo__bar2_x__send(out, &event), SL_AGAIN);
    assert_ptr_equal(fake.sent, &event);
    fake.sent = NULL;
    return SL_PENDING;
}

static enum sl_status lower(
    struct sl_call *call,
    struct sl_my_pkg__v1_beta__agent_api__lower__receiver *in,
    MyPkg__V1Beta__HTTPRequest *reply,
    void *user_data)
{
    (void)call;
    (void)user_data;
    assert_ptr_equal(reply, fake.message);
    MyPkg__V1Beta__Reply2 *message = NULL;
    assert_int_equal(sl_my_pkg__v1_beta__agent_api__lower__recv(in, &message), SL_OK);
    assert_ptr_equal(message, fake.message);
    return SL_OK;
}

static enum sl_status
x(struct sl_call *call, struct sl_my_pkg__v1_beta__agent_api__x__stream *io, void *user_data)
{
    (void)call;
    (void)user_data;
    MyPkg__V1Beta__HTTPRequest *message = NULL;
    fake.recv_status = SL_END;
    assert_int_equal(sl_my_pkg__v1_beta__agent_api__x__recv(io, &message), SL_END);
    assert_null(message);
    return SL_OK;
}

static const struct sl_my_pkg__v1_beta__agent_api__handlers all = {
    .struct_size = sizeof(all),
    .get_urlfor = get_url_for,
    .foo__bar2_x = foo_bar,
    .lower = lower,
    .x = x,
};

static enum sl_status
start(size_t index, const struct sl_my_pkg__v1_beta__agent_api__handlers *handlers)
{
    assert_int_equal(sl_my_pkg__v1_beta__agent_api__register(NULL, handlers, &fake), SL_OK);
    assert_ptr_equal(fake.handlers, handlers);
    return fake.starts[index](fake.call, fake.handlers, fake.user_data);
}

/* ---- Server ---------------------------------------------------------------------------------- */

static void each_kind_of_handler_gets_its_messages_and_views_GC_4(void **state) /* PB-10 */
{
    (void)state;
    assert_int_equal(start(0, &all), SL_DATA_LOSS);
    assert_int_equal(start(1, &all), SL_PENDING);
    assert_int_equal(start(2, &all), SL_OK);
    assert_int_equal(start(3, &all), SL_OK);
}

static void how_handlers_run_is_chosen_when_they_are_registered_GC_5(void **state)
{
    (void)state;
    const struct sl_service_options options = { .struct_size = sizeof(options), .on_pool = true };
    assert_int_equal(
        sl_my_pkg__v1_beta__agent_api__register_with(NULL, &all, &fake, &options), SL_OK);
    assert_ptr_equal(fake.options, &options);
    assert_ptr_equal(fake.service, &sl_my_pkg__v1_beta__agent_api__service);
    assert_ptr_equal(fake.handlers, &all);
    assert_ptr_equal(fake.user_data, &fake);
    assert_int_equal(sl_my_pkg__v1_beta__nothing__register_with(NULL, NULL, NULL, NULL), SL_OK);
    assert_null(fake.options);
}

static void a_handler_that_is_null_is_unimplemented_GC_4(void **state)
{
    (void)state;
    struct sl_my_pkg__v1_beta__agent_api__handlers some = all;
    some.foo__bar2_x = NULL;
    assert_int_equal(start(1, &some), SL_UNIMPLEMENTED);
    assert_string_equal(
        fake.failed.message,
        "method Foo_Bar2X is not implemented by service my_pkg.v1Beta.AgentAPI");
}

static void a_handler_beyond_the_callers_struct_is_not_read_GC_4(void **state)
{
    (void)state;
    struct sl_my_pkg__v1_beta__agent_api__handlers shorter = all;
    shorter.struct_size = offsetof(struct sl_my_pkg__v1_beta__agent_api__handlers, lower);
    assert_int_equal(start(1, &shorter), SL_PENDING);
    assert_int_equal(start(2, &shorter), SL_UNIMPLEMENTED);
    assert_int_equal(start(3, &shorter), SL_UNIMPLEMENTED);
    shorter.struct_size = 0;
    assert_int_equal(start(0, &shorter), SL_UNIMPLEMENTED);
}

static void a_request_that_cannot_be_read_ends_the_call_before_the_handler(void **state)
{
    (void)state;
    fake.request_status = SL_INTERNAL;
    assert_int_equal(start(0, &all), SL_INTERNAL);
    assert_int_equal(start(1, &all), SL_INTERNAL);
    fake.request_status = SL_OK;
    fake.reply_status = SL_RESOURCE_EXHAUSTED;
    assert_int_equal(start(0, &all), SL_RESOURCE_EXHAUSTED);
    assert_int_equal(start(2, &all), SL_RESOURCE_EXHAUSTED);
}

static void tables_say_what_the_file_says_GC_7(void **state) /* PB-10 */
{
    (void)state;
    const struct sl_service_desc *service = &sl_my_pkg__v1_beta__agent_api__service;
    const struct sl_method_desc *methods = service->methods;
    assert_string_equal(service->name, "my_pkg.v1Beta.AgentAPI");
    assert_int_equal(service->n_methods, 4);
    assert_ptr_equal(service->file, &sl_names_proto__file);
    assert_ptr_equal(methods, sl_my_pkg__v1_beta__agent_api__methods);
    assert_string_equal(methods[0].path, "/my_pkg.v1Beta.AgentAPI/GetURLFor");
    assert_string_equal(methods[0].name, "GetURLFor");
    assert_int_equal(methods[0].kind, SL_UNARY);
    assert_int_equal(methods[0].idempotency, SL_IDEMPOTENCY_UNKNOWN);
    assert_ptr_equal(methods[0].request_type, &my_pkg__v1_beta__httprequest__descriptor);
    assert_ptr_equal(
        methods[0].response_type, &my_pkg__v1_beta__httprequest__inner_url__descriptor);
    assert_int_equal(methods[1].kind, SL_SERVER_STREAMING);
    assert_int_equal(methods[2].kind, SL_CLIENT_STREAMING);
    assert_int_equal(methods[2].idempotency, SL_IDEMPOTENT);
    assert_int_equal(methods[3].kind, SL_BIDIRECTIONAL);
    assert_int_equal(methods[3].idempotency, SL_NO_SIDE_EFFECTS);
    assert_int_equal(sl_my_pkg__v1_beta__nothing__service.n_methods, 0);
    assert_int_equal(sl_my_pkg__v1_beta__nothing__register(NULL, NULL, NULL), SL_OK);
    assert_string_equal(sl_sl__service.name, "Sl");
    assert_string_equal(SL_SL__CALL__PATH, "/Sl/Call");
    assert_string_equal(sl_acme__out_v2__store__service.name, "acme.inside.v1.Store");
    assert_ptr_equal(
        sl_acme__out_v2__store__methods[0].response_type, &acme__out_v2__ask__again__descriptor);
    assert_string_equal(
        SL_CLASS__REGISTER__SWITCH__REGISTER__PATH, "/class.register.Switch/Register");
}

/* The bytes begin with field 1, the file's name. */
static void assert_table(const struct sl_file_desc *file, const char *name, size_t n_imports)
{
    assert_string_equal(file->name, name);
    assert_true(file->bytes.size > strlen(name) + 2);
    assert_int_equal(file->bytes.data[0], 0x0a);
    assert_int_equal(file->bytes.data[1], strlen(name));
    assert_memory_equal(file->bytes.data + 2, name, strlen(name));
    assert_int_equal(file->n_imports, n_imports);
}

static void imports_are_linked_and_carried_tables_are_there_once_GC_7(void **state)
{
    (void)state;
    assert_table(&sl_c_package_proto__file, "c_package.proto", 3);
    assert_table(sl_c_package_proto__file.imports[0], "google/protobuf/empty.proto", 0);
    assert_ptr_equal(sl_c_package_proto__file.imports[1], &sl_names_proto__file);
    const struct sl_file_desc *pb_c = sl_c_package_proto__file.imports[2];
    assert_table(pb_c, "protobuf-c/protobuf-c.proto", 1);
    assert_table(&sl_custom_options_proto__file, "custom_options.proto", 1);
    const struct sl_file_desc *hidden = sl_custom_options_proto__file.imports[0];
    assert_ptr_equal(hidden, &sl_no_generate_proto__file);
    assert_table(hidden, "no_generate.proto", 2);
    assert_ptr_equal(hidden->imports[0], pb_c->imports[0]);
    assert_ptr_equal(hidden->imports[1], pb_c);
    assert_table(&sl_tables_only_proto__file, "tables_only.proto", 2);
    assert_table(sl_tables_only_proto__file.imports[0], "google/protobuf/any.proto", 0);
}

static bool contains(struct sl_slice bytes, const char *text)
{
    return memmem(bytes.data, bytes.size, text, strlen(text)) != NULL;
}

static void tables_keep_custom_options_and_drop_comments_GC_7(void **state)
{
    (void)state;
    assert_true(contains(sl_custom_options_proto__file.bytes, "kept \" as it is"));
    assert_false(contains(sl_names_proto__file.bytes, "every kind of method"));
}

/* ---- Client ---------------------------------------------------------------------------------- */

static void a_unary_call_gives_the_reply_or_the_status_GC_11(void **state)
{
    (void)state;
    MyPkg__V1Beta__HTTPRequest__InnerURL *reply = NULL;
    struct sl_client_call *call = NULL;
    assert_int_equal(
        sl_my_pkg__v1_beta__agent_api__get_urlfor__call(NULL, NULL, &a_request, &reply, &call),
        SL_OK);
    assert_ptr_equal(reply, fake.message);
    assert_ptr_equal(call, fake.client_call);
    assert_ptr_equal(fake.sent, &a_request);
    assert_ptr_equal(fake.method, &sl_my_pkg__v1_beta__agent_api__methods[0]);
    reply = NULL;
    fake.client_recv_status = SL_NOT_FOUND;
    assert_int_equal(
        sl_my_pkg__v1_beta__agent_api__get_urlfor__call(NULL, NULL, &a_request, &reply, &call),
        SL_NOT_FOUND);
    assert_null(reply);
}

static void a_server_stream_is_opened_with_its_request_and_read_to_its_end_GC_11(void **state)
{
    (void)state;
    MyPkg__V1Beta__HTTPRequest__InnerURL__DeepestOne request;
    my_pkg__v1_beta__httprequest__inner_url__deepest_one__init(&request);
    struct sl_my_pkg__v1_beta__agent_api__foo__bar2_x__reader *reader = NULL;
    assert_int_equal(
        sl_my_pkg__v1_beta__agent_api__foo__bar2_x__open(NULL, NULL, &request, &reader), SL_OK);
    assert_ptr_equal(fake.sent, &request);
    assert_int_equal(fake.n_closed, 1);
    assert_ptr_equal(
        sl_my_pkg__v1_beta__agent_api__foo__bar2_x__client_call(reader), fake.client_call);
    MyPkg__V1Beta__Reply2 *event = NULL;
    assert_int_equal(sl_my_pkg__v1_beta__agent_api__foo__bar2_x__next(reader, &event), SL_OK);
    assert_ptr_equal(event, fake.message);
    fake.client_recv_status = SL_END;
    assert_int_equal(sl_my_pkg__v1_beta__agent_api__foo__bar2_x__next(reader, &event), SL_END);
    sl_my_pkg__v1_beta__agent_api__foo__bar2_x__cancel(reader);
    assert_int_equal(fake.n_cancelled, 1);
    assert_null(sl_my_pkg__v1_beta__agent_api__foo__bar2_x__free(reader));
    assert_int_equal(fake.n_freed, 1);
    fake.sent = NULL;
}

static void a_request_that_is_not_queued_leaves_no_call_behind(void **state)
{
    (void)state;
    MyPkg__V1Beta__Reply2 request;
    my_pkg__v1_beta__reply_2__init(&request);
    struct sl_my_pkg__v1_beta__http2_gateway3__http2__reader *reader = NULL;
    fake.client_send_status = SL_AGAIN;
    assert_int_equal(
        sl_my_pkg__v1_beta__http2_gateway3__http2__open(NULL, NULL, &request, &reader),
        SL_RESOURCE_EXHAUSTED);
    assert_null(reader);
    assert_int_equal(fake.n_freed, 1);
    fake.open_status = SL_INVALID_ARGUMENT;
    assert_int_equal(
        sl_my_pkg__v1_beta__http2_gateway3__http2__open(NULL, NULL, &request, &reader),
        SL_INVALID_ARGUMENT);
    assert_null(reader);
    assert_int_equal(fake.n_freed, 1);
    fake.sent = NULL;
}

static void a_call_that_is_over_at_once_shows_its_status_in_next(void **state)
{
    (void)state;
    MyPkg__V1Beta__Reply2 request;
    my_pkg__v1_beta__reply_2__init(&request);
    MyPkg__V1Beta__Reply2 *reply = NULL;
    struct sl_my_pkg__v1_beta__http2_gateway3__http2__reader *reader = NULL;
    fake.client_send_status = SL_UNAVAILABLE;
    fake.client_recv_status = SL_UNAVAILABLE;
    assert_int_equal(
        sl_my_pkg__v1_beta__http2_gateway3__http2__open(NULL, NULL, &request, &reader), SL_OK);
    assert_int_equal(fake.n_closed, 0);
    assert_int_equal(
        sl_my_pkg__v1_beta__http2_gateway3__http2__next(reader, &reply), SL_UNAVAILABLE);
    fake.sent = NULL;
}

static void a_client_stream_is_finished_with_its_reply_GC_11(void **state)
{
    (void)state;
    struct sl_my_pkg__v1_beta__agent_api__lower__writer *writer = NULL;
    MyPkg__V1Beta__HTTPRequest *reply = NULL;
    assert_int_equal(sl_my_pkg__v1_beta__agent_api__lower__open(NULL, NULL, &writer), SL_OK);
    fake.client_recv_status = SL_ABORTED;
    assert_int_equal(sl_my_pkg__v1_beta__agent_api__lower__finish(writer, &reply), SL_ABORTED);
    assert_null(reply);
    fake.client_recv_status = SL_OK;
    fake.message = &a_request;
    assert_int_equal(sl_my_pkg__v1_beta__agent_api__lower__finish(writer, &reply), SL_OK);
    assert_ptr_equal(reply, &a_request);
}

static void a_bidirectional_call_writes_and_reads_GC_11(void **state)
{
    (void)state;
    struct sl_my_pkg__v1_beta__agent_api__x__duplex *duplex = NULL;
    assert_int_equal(sl_my_pkg__v1_beta__agent_api__x__open(NULL, NULL, &duplex), SL_OK);
    assert_ptr_equal(fake.method, &sl_my_pkg__v1_beta__agent_api__methods[3]);
    assert_int_equal(sl_my_pkg__v1_beta__agent_api__x__write(duplex, &a_request), SL_OK);
    assert_ptr_equal(fake.sent, &a_request);
    assert_int_equal(fake.n_closed, 0);
    sl_my_pkg__v1_beta__agent_api__x__close_send(duplex);
    assert_int_equal(fake.n_closed, 1);
    MyPkg__V1Beta__Reply2 *event = NULL;
    fake.client_recv_status = SL_AGAIN;
    assert_int_equal(sl_my_pkg__v1_beta__agent_api__x__next(duplex, &event), SL_AGAIN);
    assert_null(event);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(each_kind_of_handler_gets_its_messages_and_views_GC_4, setup),
        cmocka_unit_test_setup(how_handlers_run_is_chosen_when_they_are_registered_GC_5, setup),
        cmocka_unit_test_setup(a_handler_that_is_null_is_unimplemented_GC_4, setup),
        cmocka_unit_test_setup(a_handler_beyond_the_callers_struct_is_not_read_GC_4, setup),
        cmocka_unit_test_setup(
            a_request_that_cannot_be_read_ends_the_call_before_the_handler, setup),
        cmocka_unit_test_setup(tables_say_what_the_file_says_GC_7, setup),
        cmocka_unit_test_setup(imports_are_linked_and_carried_tables_are_there_once_GC_7, setup),
        cmocka_unit_test_setup(tables_keep_custom_options_and_drop_comments_GC_7, setup),
        cmocka_unit_test_setup(a_unary_call_gives_the_reply_or_the_status_GC_11, setup),
        cmocka_unit_test_setup(
            a_server_stream_is_opened_with_its_request_and_read_to_its_end_GC_11, setup),
        cmocka_unit_test_setup(a_request_that_is_not_queued_leaves_no_call_behind, setup),
        cmocka_unit_test_setup(a_call_that_is_over_at_once_shows_its_status_in_next, setup),
        cmocka_unit_test_setup(a_client_stream_is_finished_with_its_reply_GC_11, setup),
        cmocka_unit_test_setup(a_bidirectional_call_writes_and_reads_GC_11, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
