/* Both versions of reflection as clients see them, over two HTTP/2 endpoints in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "custom_options.sl.h"
#include "names.sl.h"
#include "proto/grpc/reflection/v1/reflection.sl.h"
#include "proto/grpc/reflection/v1alpha/reflection.sl.h"
#include "runtime/base/mem.h"
#include "service/std/health.h"
#include "service/std/reflection.h"
#include "tests/unit/test_rpc_rig.h"

#define V1_PATH        SL_GRPC__REFLECTION__V1__SERVER_REFLECTION__SERVER_REFLECTION_INFO__PATH
#define V1ALPHA_PATH   SL_GRPC__REFLECTION__V1ALPHA__SERVER_REFLECTION__SERVER_REFLECTION_INFO__PATH
#define ASK(member)    GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##member
#define ANSWER(member) GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##member

typedef Grpc__Reflection__V1__ServerReflectionRequest request_message;
typedef Grpc__Reflection__V1__ServerReflectionResponse response_message;

struct bench {
    struct sl_server *server;
    struct sl_health *health;
    struct rpc_peer peer;
    struct rpc_stream *stream;
};

static int set_up(void **state)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    assert_non_null(bench);
    const struct sl_server_options options = { .struct_size = sizeof(options) };
    assert_int_equal(sl_server_new(&options, &bench->server), SL_OK);
    assert_int_equal(sl_health_new(&bench->health), SL_OK);
    assert_int_equal(sl_reflection_register(bench->server), SL_OK);
    assert_int_equal(sl_health_register(bench->health, bench->server), SL_OK);
    assert_int_equal(sl_my_pkg__v1_beta__agent_api__register(bench->server, NULL, NULL), SL_OK);
    assert_int_equal(sl_custom__options__custom__register(bench->server, NULL, NULL), SL_OK);
    rpc_peer_open(&bench->peer, bench->server, NULL);
    bench->stream = rpc_open(&bench->peer, V1_PATH, NULL);
    *state = bench;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;
    rpc_stream_free(bench->stream);
    rpc_peer_close(&bench->peer);
    bench->server = sl_server_free(bench->server);
    bench->health = sl_health_free(bench->health);
    free(bench);
    return 0;
}

/* ---- Asking ---------------------------------------------------------------------------------- */

static void ask(struct bench *bench, const request_message *request)
{
    uint8_t bytes[512];
    assert_true(
        grpc__reflection__v1__server_reflection_request__get_packed_size(request) <= sizeof(bytes));
    const size_t size = grpc__reflection__v1__server_reflection_request__pack(request, bytes);
    rpc_send(bench->stream, bytes, size);
    rpc_pump(&bench->peer);
}

static response_message *next_response(struct bench *bench)
{
    struct sl_slice bytes;
    if (!rpc_next(bench->stream, &bytes)) {
        return NULL;
    }
    response_message *response =
        grpc__reflection__v1__server_reflection_response__unpack(NULL, bytes.size, bytes.data);
    assert_non_null(response);
    return response;
}

static void response_free(response_message *response)
{
    grpc__reflection__v1__server_reflection_response__free_unpacked(response, NULL);
}

/* One question with a text, and its answer. */
static response_message *ask_text(struct bench *bench, int kind, const char *text)
{
    request_message request;
    grpc__reflection__v1__server_reflection_request__init(&request);
    char copy[128];
    assert_true(strlen(text) < sizeof(copy));
    memcpy(copy, text, strlen(text) + 1);
    char host[] = "the.host";
    request.host = host;
    request.message_request_case =
        (Grpc__Reflection__V1__ServerReflectionRequest__MessageRequestCase)kind;
    request.list_services = copy; /* every text shares the place */
    ask(bench, &request);
    response_message *response = next_response(bench);
    assert_non_null(response);
    assert_string_equal(response->valid_host, "the.host");
    assert_int_equal(response->original_request->message_request_case, kind);
    assert_string_equal(response->original_request->list_services, text);
    return response;
}

static response_message *ask_extension(struct bench *bench, const char *type, int32_t number)
{
    Grpc__Reflection__V1__ExtensionRequest extension;
    grpc__reflection__v1__extension_request__init(&extension);
    char copy[128];
    assert_true(strlen(type) < sizeof(copy));
    memcpy(copy, type, strlen(type) + 1);
    extension.containing_type = copy;
    extension.extension_number = number;
    request_message request;
    grpc__reflection__v1__server_reflection_request__init(&request);
    request.message_request_case = ASK(FILE_CONTAINING_EXTENSION);
    request.file_containing_extension = &extension;
    ask(bench, &request);
    response_message *response = next_response(bench);
    assert_non_null(response);
    const request_message *original = response->original_request; /* SV-6 */
    assert_int_equal(original->message_request_case, ASK(FILE_CONTAINING_EXTENSION));
    assert_string_equal(original->file_containing_extension->containing_type, type);
    assert_int_equal(original->file_containing_extension->extension_number, number);
    return response;
}

/* The files of an answer, as "a,b"; their bytes begin with field 1, the name. */
static const char *files_of(const response_message *response)
{
    static char names[1024];
    size_t size = 0;
    names[0] = '\0';
    assert_int_equal(response->message_response_case, ANSWER(FILE_DESCRIPTOR_RESPONSE));
    const Grpc__Reflection__V1__FileDescriptorResponse *files = response->file_descriptor_response;
    for (size_t i = 0; i < files->n_file_descriptor_proto; i++) {
        const ProtobufCBinaryData *bytes = &files->file_descriptor_proto[i];
        assert_true(bytes->len > 2 && bytes->data[0] == 0x0a && bytes->len > bytes->data[1] + 2u);
        const struct sl_slice name = sl_slice_of(bytes->data + 2, bytes->data[1]);
        size += (size_t)snprintf(
            names + size, sizeof(names) - size, "%s%.*s", i == 0 ? "" : ",", SL_SLICE_FMT(name));
        assert_true(size < sizeof(names));
    }
    return names;
}

static void assert_files(response_message *response, const char *expected)
{
    assert_string_equal(files_of(response), expected);
    response_free(response);
}

static void assert_not_found(response_message *response)
{
    assert_int_equal(response->message_response_case, ANSWER(ERROR_RESPONSE));
    assert_int_equal(response->error_response->error_code, 5);
    assert_true(strlen(response->error_response->error_message) > 0);
    response_free(response);
}

/* ---- Tests ----------------------------------------------------------------------------------- */

static void list_services_names_all_of_them_SV_7(void **state)
{
    struct bench *bench = *state;
    response_message *response = ask_text(bench, ASK(LIST_SERVICES), "*");
    assert_int_equal(response->message_response_case, ANSWER(LIST_SERVICES_RESPONSE));
    static const char *const names[] = { "grpc.reflection.v1.ServerReflection",
                                         "grpc.reflection.v1alpha.ServerReflection",
                                         "grpc.health.v1.Health", "my_pkg.v1Beta.AgentAPI",
                                         "custom.options.Custom" };
    const Grpc__Reflection__V1__ListServiceResponse *list = response->list_services_response;
    assert_int_equal(list->n_service, SL_COUNT(names));
    for (size_t i = 0; i < SL_COUNT(names); i++) {
        assert_string_equal(list->service[i]->name, names[i]);
    }
    response_free(response);
}

static void a_file_comes_with_its_imports_once_per_stream_SV_7(void **state)
{
    struct bench *bench = *state;
    const int by_symbol = ASK(FILE_CONTAINING_SYMBOL);
    assert_files(
        ask_text(bench, by_symbol, "custom.options.Holder"),
        "custom_options.proto,no_generate.proto,google/protobuf/descriptor.proto,"
        "protobuf-c/protobuf-c.proto");
    /* What was asked for comes again, its imports do not. */
    assert_files(ask_text(bench, by_symbol, "custom.options.Custom.Get"), "custom_options.proto");
    assert_files(ask_text(bench, by_symbol, "hidden.Mark"), "no_generate.proto");
    assert_files(
        ask_text(bench, ASK(FILE_BY_FILENAME), "google/protobuf/descriptor.proto"),
        "google/protobuf/descriptor.proto");
    /* Another stream has got nothing yet. */
    struct rpc_stream *first = bench->stream;
    bench->stream = rpc_open(&bench->peer, V1_PATH, NULL);
    assert_files(
        ask_text(bench, by_symbol, "hidden.Mark"),
        "no_generate.proto,google/protobuf/descriptor.proto,protobuf-c/protobuf-c.proto");
    rpc_stream_free(first);
}

static void the_bytes_are_those_of_the_table(void **state)
{
    struct bench *bench = *state;
    response_message *response = ask_text(bench, ASK(FILE_BY_FILENAME), "names.proto");
    const ProtobufCBinaryData *bytes =
        &response->file_descriptor_response->file_descriptor_proto[0];
    assert_int_equal(bytes->len, sl_names_proto__file.bytes.size);
    assert_memory_equal(bytes->data, sl_names_proto__file.bytes.data, bytes->len);
    response_free(response);
}

static void extensions_are_found_SV_6(void **state)
{
    struct bench *bench = *state;
    response_message *response = ask_extension(bench, "custom.options.Extended", 101);
    assert_non_null(strstr(files_of(response), "custom_options.proto"));
    response_free(response);
    assert_not_found(ask_extension(bench, "custom.options.Extended", 1));
    assert_not_found(ask_extension(bench, "custom.options.Holder", 101));
    response = ask_text(bench, ASK(ALL_EXTENSION_NUMBERS_OF_TYPE), "custom.options.Extended");
    assert_int_equal(response->message_response_case, ANSWER(ALL_EXTENSION_NUMBERS_RESPONSE));
    const Grpc__Reflection__V1__ExtensionNumberResponse *numbers =
        response->all_extension_numbers_response;
    assert_string_equal(numbers->base_type_name, "custom.options.Extended");
    assert_int_equal(numbers->n_extension_number, 2);
    assert_int_equal(numbers->extension_number[0] + numbers->extension_number[1], 201);
    response_free(response);
    response = ask_text(bench, ASK(ALL_EXTENSION_NUMBERS_OF_TYPE), "custom.options.Holder");
    assert_int_equal(response->all_extension_numbers_response->n_extension_number, 0);
    response_free(response);
}

static void what_is_not_there_is_an_error_in_the_stream_SV_6(void **state)
{
    struct bench *bench = *state;
    assert_not_found(ask_text(bench, ASK(FILE_BY_FILENAME), "none.proto"));
    assert_not_found(ask_text(bench, ASK(FILE_CONTAINING_SYMBOL), "none.At.all"));
    assert_not_found(ask_text(bench, ASK(ALL_EXTENSION_NUMBERS_OF_TYPE), "custom.options.Custom"));
    assert_files(ask_text(bench, ASK(FILE_BY_FILENAME), "names.proto"), "names.proto");
    assert_false(bench->stream->is_closed);
    rpc_end(bench->stream);
    rpc_pump(&bench->peer);
    assert_true(bench->stream->is_closed);
    assert_log(&bench->peer, "trailers grpc-status=0 end");
}

static void many_questions_at_once_are_answered_in_order(void **state)
{
    struct bench *bench = *state;
    enum { N_QUESTIONS = 300 };
    bench->peer.client->is_silent = true;
    for (int i = 0; i < N_QUESTIONS; i++) {
        request_message request;
        grpc__reflection__v1__server_reflection_request__init(&request);
        char name[] = "google/protobuf/descriptor.proto";
        char text[] = "*";
        const bool is_list = i % 2 != 0;
        request.message_request_case = is_list ? ASK(LIST_SERVICES) : ASK(FILE_BY_FILENAME);
        request.list_services = is_list ? text : name;
        uint8_t bytes[128];
        const size_t size = grpc__reflection__v1__server_reflection_request__pack(&request, bytes);
        rpc_send(bench->stream, bytes, size);
    }
    rpc_end(bench->stream);
    rpc_pump(&bench->peer);
    for (int i = 0; i < N_QUESTIONS; i++) {
        response_message *response = next_response(bench);
        assert_non_null(response);
        assert_int_equal(
            response->message_response_case,
            i % 2 != 0 ? ANSWER(LIST_SERVICES_RESPONSE) : ANSWER(FILE_DESCRIPTOR_RESPONSE));
        response_free(response);
    }
    assert_null(next_response(bench));
    assert_true(bench->stream->is_closed);
}

static void an_empty_question_ends_the_stream(void **state)
{
    struct bench *bench = *state;
    rpc_send(bench->stream, "", 0);
    rpc_pump(&bench->peer);
    assert_null(next_response(bench));
    assert_true(bench->stream->is_closed);
    assert_log(&bench->peer, "grpc-status=3");
}

static void v1alpha_gives_the_same_answers_SV_5(void **state)
{
    struct bench *bench = *state;
    rpc_stream_free(bench->stream);
    bench->stream = rpc_open(&bench->peer, V1ALPHA_PATH, NULL);
    response_message *response = ask_text(bench, ASK(LIST_SERVICES), "");
    assert_int_equal(response->list_services_response->n_service, 5);
    response_free(response);
    assert_files(
        ask_text(
            bench, ASK(FILE_CONTAINING_SYMBOL), "grpc.reflection.v1alpha.ServerReflectionRequest"),
        "grpc/reflection/v1alpha/reflection.proto");
}

static void a_stream_that_is_cut_leaves_nothing(void **state)
{
    struct bench *bench = *state;
    response_free(ask_text(bench, ASK(LIST_SERVICES), ""));
    rpc_stream_free(bench->stream);
    bench->stream = NULL;
    rpc_pump(&bench->peer);
    struct sl_server_stats stats;
    sl_server_stats(bench->server, &stats);
    assert_int_equal(stats.calls_running, 0);
    bench->stream = rpc_open(&bench->peer, V1_PATH, NULL);
    response_free(ask_text(bench, ASK(LIST_SERVICES), ""));
    sl_conn_lost(bench->peer.conn);
    sl_server_stats(bench->server, &stats);
    assert_int_equal(stats.calls_running, 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(list_services_names_all_of_them_SV_7),
        CASE(a_file_comes_with_its_imports_once_per_stream_SV_7),
        CASE(the_bytes_are_those_of_the_table),
        CASE(extensions_are_found_SV_6),
        CASE(what_is_not_there_is_an_error_in_the_stream_SV_6),
        CASE(many_questions_at_once_are_answered_in_order),
        CASE(an_empty_question_ends_the_stream),
        CASE(v1alpha_gives_the_same_answers_SV_5),
        CASE(a_stream_that_is_cut_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
