/* Unary calls, metadata and statuses. */
#include "tests/judge/interop/cases.h"

#include <string.h>

enum { PICKS = 20, ID_BYTES = 256 };

static const char initial_key[] = "x-grpc-test-echo-initial";
static const char initial_value[] = "test_initial_metadata_value";
static const char trailing_key[] = "x-grpc-test-echo-trailing-bin";
static const char trailing_value[] = "\xAB\xAB\xAB";

uint8_t case_zeros[PAYLOAD_MAX_BYTES];

/* ---- What other cases use -------------------------------------------------------------------- */

struct sl_client_call_options case_options(void)
{
    return (struct sl_client_call_options){ .struct_size = sizeof(struct sl_client_call_options),
                                            .timeout_ms = CASE_TIMEOUT_MS };
}

void case_payload(Grpc__Testing__Payload *payload, size_t n_bytes)
{
    grpc__testing__payload__init(payload);
    payload->body = (ProtobufCBinaryData){ .len = n_bytes, .data = case_zeros };
}

void case_request(
    Grpc__Testing__SimpleRequest *request,
    Grpc__Testing__Payload *payload,
    size_t n_out,
    size_t n_in)
{
    grpc__testing__simple_request__init(request);
    case_payload(payload, n_out);
    request->payload = payload;
    request->response_size = (int32_t)n_in;
}

enum sl_status case_unary(
    struct sl_channel *channel,
    const Grpc__Testing__SimpleRequest *request,
    Grpc__Testing__SimpleResponse **ret_reply,
    struct sl_client_call **ret_call)
{
    const struct sl_client_call_options options = case_options();
    return TEST_SERVICE(unary_call__call)(channel, &options, request, ret_reply, ret_call);
}

bool case_ended(const struct sl_client_call *call, enum sl_status status, const char *message)
{
    const struct sl_error *err = sl_client_call_error(call);
    EXPECT(
        sl_client_call_status(call) == status, "status %d in place of %d: %s",
        (int)sl_client_call_status(call), (int)status, err->text);
    EXPECT(
        message == NULL || strcmp(err->text, message) == 0, "message \"%s\" in place of \"%s\"",
        err->text, message);
    return true;
}

bool case_large_unary(struct sl_channel *channel, size_t n_out, size_t n_in)
{
    Grpc__Testing__Payload payload;
    Grpc__Testing__SimpleRequest request;
    case_request(&request, &payload, n_out, n_in);
    Grpc__Testing__SimpleResponse *reply;
    struct sl_client_call *call;
    const enum sl_status status = case_unary(channel, &request, &reply, &call);
    EXPECT(call != NULL, "no memory for a call");
    const bool is_right =
        status == SL_OK && reply->payload != NULL && reply->payload->body.len == n_in;
    if (!is_right) {
        (void)fprintf(
            stderr, "status %d, %zu bytes: %s\n", (int)status,
            status == SL_OK && reply->payload != NULL ? reply->payload->body.len : 0,
            sl_client_call_error(call)->text);
    }
    (void)sl_client_call_free(call);
    return is_right;
}

/* ---- Unary ----------------------------------------------------------------------------------- */

/* A method that takes nothing and gives nothing, as it is generated. */
typedef enum sl_status empty_fn(
    struct sl_channel *channel,
    const struct sl_client_call_options *options,
    const Grpc__Testing__Empty *request,
    Grpc__Testing__Empty **ret_reply,
    struct sl_client_call **ret_call);

static enum sl_status call_empty(
    const struct world *world,
    empty_fn *method,
    Grpc__Testing__Empty **ret_reply,
    struct sl_client_call **ret_call)
{
    const struct sl_client_call_options options = case_options();
    Grpc__Testing__Empty request;
    grpc__testing__empty__init(&request);
    return method(world->channel, &options, &request, ret_reply, ret_call);
}

bool case_empty_unary(struct world *world)
{
    Grpc__Testing__Empty *reply;
    struct sl_client_call *call;
    const enum sl_status status = call_empty(world, TEST_SERVICE(empty_call__call), &reply, &call);
    EXPECT(call != NULL && status == SL_OK, "status %d", (int)status);
    EXPECT(protobuf_c_message_get_packed_size(&reply->base) == 0, "the answer is not empty");
    (void)sl_client_call_free(call);
    return true;
}

bool case_large_unary_once(struct world *world)
{
    return case_large_unary(world->channel, REQUEST_BYTES, RESPONSE_BYTES);
}

bool case_pick_first_unary(struct world *world)
{
    char first[ID_BYTES] = "";
    for (int i = 0; i < PICKS; i++) {
        Grpc__Testing__SimpleRequest request;
        grpc__testing__simple_request__init(&request);
        request.response_size = 1;
        request.fill_server_id = true;
        Grpc__Testing__SimpleResponse *reply;
        struct sl_client_call *call;
        const enum sl_status status = case_unary(world->channel, &request, &reply, &call);
        EXPECT(call != NULL && status == SL_OK, "status %d", (int)status);
        if (i == 0) {
            (void)snprintf(first, sizeof(first), "%s", reply->server_id);
        }
        EXPECT(
            first[0] != '\0' && strcmp(first, reply->server_id) == 0,
            "call %d went to server \"%s\", the first one to \"%s\"", i, reply->server_id, first);
        (void)sl_client_call_free(call);
    }
    return true;
}

/* ---- Metadata -------------------------------------------------------------------------------- */

static bool has_echo(struct sl_client_call *call)
{
    struct sl_slice value;
    const struct sl_metadata *headers = sl_client_call_headers(call);
    EXPECT(
        headers != NULL && sl_metadata_get(headers, initial_key, 0, &value) &&
            sl_slice_equals(value, initial_value),
        "%s did not come back in the headers", initial_key);
    EXPECT(
        sl_metadata_get(sl_client_call_trailers(call), trailing_key, 0, &value) &&
            sl_slice_equals(value, trailing_value),
        "%s did not come back in the trailers", trailing_key);
    return true;
}

static bool echo_in_unary(struct world *world, const struct sl_client_call_options *options)
{
    Grpc__Testing__Payload payload;
    Grpc__Testing__SimpleRequest request;
    case_request(&request, &payload, REQUEST_BYTES, RESPONSE_BYTES);
    Grpc__Testing__SimpleResponse *reply;
    struct sl_client_call *call;
    const enum sl_status status =
        TEST_SERVICE(unary_call__call)(world->channel, options, &request, &reply, &call);
    EXPECT(call != NULL && status == SL_OK, "status %d", (int)status);
    EXPECT(has_echo(call), "UnaryCall does not echo");
    (void)sl_client_call_free(call);
    return true;
}

static bool echo_in_stream(struct world *world, const struct sl_client_call_options *options)
{
    struct TEST_SERVICE(full_duplex_call__duplex) * duplex;
    Grpc__Testing__Payload payload;
    Grpc__Testing__ResponseParameters wanted;
    Grpc__Testing__ResponseParameters *list[] = { &wanted };
    Grpc__Testing__StreamingOutputCallRequest request;
    Grpc__Testing__StreamingOutputCallResponse *response;
    grpc__testing__response_parameters__init(&wanted);
    wanted.size = RESPONSE_BYTES;
    grpc__testing__streaming_output_call_request__init(&request);
    case_payload(&payload, REQUEST_BYTES);
    request.payload = &payload;
    request.n_response_parameters = 1;
    request.response_parameters = list;
    EXPECT(
        TEST_SERVICE(full_duplex_call__open)(world->channel, options, &duplex) == SL_OK, "no call");
    EXPECT(TEST_SERVICE(full_duplex_call__write)(duplex, &request) == SL_OK, "not sent");
    TEST_SERVICE(full_duplex_call__close_send)(duplex);
    EXPECT(TEST_SERVICE(full_duplex_call__next)(duplex, &response) == SL_OK, "no response");
    EXPECT(TEST_SERVICE(full_duplex_call__next)(duplex, &response) == SL_END, "no end");
    EXPECT(
        has_echo(TEST_SERVICE(full_duplex_call__client_call)(duplex)),
        "FullDuplexCall does not echo");
    (void)TEST_SERVICE(full_duplex_call__free)(duplex);
    return true;
}

bool case_custom_metadata(struct world *world)
{
    const struct sl_metadatum metadata[] = {
        { sl_slice_str(initial_key), sl_slice_str(initial_value) },
        { sl_slice_str(trailing_key), sl_slice_str(trailing_value) },
    };
    struct sl_client_call_options options = case_options();
    options.metadata = metadata;
    options.n_metadata = SL_COUNT(metadata);
    return echo_in_unary(world, &options) && echo_in_stream(world, &options);
}

/* ---- Statuses -------------------------------------------------------------------------------- */

static bool status_of_unary(struct world *world, Grpc__Testing__EchoStatus *wanted)
{
    Grpc__Testing__SimpleRequest request;
    grpc__testing__simple_request__init(&request);
    request.response_status = wanted;
    Grpc__Testing__SimpleResponse *reply;
    struct sl_client_call *call;
    const enum sl_status status = case_unary(world->channel, &request, &reply, &call);
    EXPECT(call != NULL, "no memory for a call");
    const bool is_right = status == (enum sl_status)wanted->code &&
                          case_ended(call, (enum sl_status)wanted->code, wanted->message);
    (void)sl_client_call_free(call);
    return is_right;
}

static bool status_of_stream(struct world *world, Grpc__Testing__EchoStatus *wanted)
{
    const struct sl_client_call_options options = case_options();
    struct TEST_SERVICE(full_duplex_call__duplex) * duplex;
    Grpc__Testing__StreamingOutputCallRequest request;
    Grpc__Testing__StreamingOutputCallResponse *response;
    grpc__testing__streaming_output_call_request__init(&request);
    request.response_status = wanted;
    EXPECT(
        TEST_SERVICE(full_duplex_call__open)(world->channel, &options, &duplex) == SL_OK,
        "no call");
    EXPECT(TEST_SERVICE(full_duplex_call__write)(duplex, &request) == SL_OK, "not sent");
    TEST_SERVICE(full_duplex_call__close_send)(duplex);
    const enum sl_status status = TEST_SERVICE(full_duplex_call__next)(duplex, &response);
    const bool is_right =
        status == (enum sl_status)wanted->code &&
        case_ended(TEST_SERVICE(full_duplex_call__client_call)(duplex), status, wanted->message);
    (void)TEST_SERVICE(full_duplex_call__free)(duplex);
    return is_right;
}

bool case_status_code_and_message(struct world *world)
{
    static char message[] = "test status message";
    Grpc__Testing__EchoStatus wanted;
    grpc__testing__echo_status__init(&wanted);
    wanted.code = SL_UNKNOWN;
    wanted.message = message;
    return status_of_unary(world, &wanted) && status_of_stream(world, &wanted);
}

bool case_special_status_message(struct world *world)
{
    static char message[] = "\t\ntest with whitespace\r\nand Unicode BMP \xE2\x98\xBA and non-BMP "
                            "\xF0\x9F\x98\x88\t\n";
    Grpc__Testing__EchoStatus wanted;
    grpc__testing__echo_status__init(&wanted);
    wanted.code = SL_UNKNOWN;
    wanted.message = message;
    return status_of_unary(world, &wanted);
}

static bool is_unimplemented(const struct world *world, empty_fn *method)
{
    Grpc__Testing__Empty *reply;
    struct sl_client_call *call;
    const enum sl_status status = call_empty(world, method, &reply, &call);
    EXPECT(call != NULL, "no memory for a call");
    const bool is_right = status == SL_UNIMPLEMENTED && case_ended(call, SL_UNIMPLEMENTED, NULL);
    (void)sl_client_call_free(call);
    return is_right;
}

bool case_unimplemented_method(struct world *world)
{
    return is_unimplemented(world, TEST_SERVICE(unimplemented_call__call));
}

bool case_unimplemented_service(struct world *world)
{
    return is_unimplemented(
        world, sl_grpc__testing__unimplemented_service__unimplemented_call__call);
}
