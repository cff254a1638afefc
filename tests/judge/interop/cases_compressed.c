/* Compression, message by message. A server of which the cases are not true says so to the first
 * call of the client's cases: it must refuse a message that is not as it was told to expect. */
#include "tests/judge/interop/cases.h"

enum { FIRST_OUT = 27182, SECOND_OUT = 45904, FIRST_IN = 31415, SECOND_IN = 92653 };

static const struct sl_method_desc *unary_method(void)
{
    return &TEST_SERVICE(methods)[1];
}

static void set_bool(Grpc__Testing__BoolValue *value, bool is_true)
{
    grpc__testing__bool_value__init(value);
    value->value = is_true;
}

/* ---- What the client compresses -------------------------------------------------------------- */

/* A UnaryCall that tells whether it is compressed; gives its status. */
static enum sl_status
unary_told(struct world *world, bool is_said, bool is_compressed, struct sl_client_call **ret_call)
{
    struct sl_client_call_options options = case_options();
    options.encoding = is_compressed ? "gzip" : NULL;
    Grpc__Testing__Payload payload;
    Grpc__Testing__BoolValue said;
    Grpc__Testing__SimpleRequest request;
    set_bool(&said, is_said);
    case_request(&request, &payload, REQUEST_BYTES, RESPONSE_BYTES);
    request.expect_compressed = &said;
    void *reply = NULL;
    const enum sl_status status =
        sl_client_unary(world->channel, unary_method(), &options, &request, &reply, ret_call);
    const Grpc__Testing__SimpleResponse *response = reply;
    return status == SL_OK &&
                   (response->payload == NULL || response->payload->body.len != RESPONSE_BYTES)
               ? SL_DATA_LOSS
               : status;
}

bool case_client_compressed_unary(struct world *world)
{
    static const struct {
        bool is_said, is_compressed;
        enum sl_status status;
    } calls[] = { { true, false, SL_INVALID_ARGUMENT },
                  { true, true, SL_OK },
                  { false, false, SL_OK } };
    for (size_t i = 0; i < SL_COUNT(calls); i++) {
        struct sl_client_call *call;
        const enum sl_status status =
            unary_told(world, calls[i].is_said, calls[i].is_compressed, &call);
        EXPECT(
            status == calls[i].status, "call %zu: status %d in place of %d", i, (int)status,
            (int)calls[i].status);
        (void)sl_client_call_free(call);
    }
    return true;
}

typedef struct TEST_SERVICE(streaming_input_call__writer) input_call;

static bool send_told(input_call *writer, bool is_said, bool is_compressed, size_t n_bytes)
{
    Grpc__Testing__Payload payload;
    Grpc__Testing__BoolValue said;
    Grpc__Testing__StreamingInputCallRequest request;
    set_bool(&said, is_said);
    grpc__testing__streaming_input_call_request__init(&request);
    case_payload(&payload, n_bytes);
    request.payload = &payload;
    request.expect_compressed = &said;
    sl_client_call_set_compressing(
        TEST_SERVICE(streaming_input_call__client_call)(writer), is_compressed);
    EXPECT(TEST_SERVICE(streaming_input_call__write)(writer, &request) == SL_OK, "not sent");
    return true;
}

static bool open_input(struct world *world, input_call **ret_writer)
{
    struct sl_client_call_options options = case_options();
    options.encoding = "gzip";
    EXPECT(
        TEST_SERVICE(streaming_input_call__open)(world->channel, &options, ret_writer) == SL_OK,
        "no call");
    return true;
}

bool case_client_compressed_streaming(struct world *world)
{
    input_call *writer;
    Grpc__Testing__StreamingInputCallResponse *reply;
    EXPECT(open_input(world, &writer), "not opened");
    EXPECT(send_told(writer, true, false, FIRST_OUT), "not sent");
    TEST_SERVICE(streaming_input_call__close_send)(writer);
    EXPECT(
        TEST_SERVICE(streaming_input_call__next)(writer, &reply) == SL_INVALID_ARGUMENT,
        "a message that should be compressed, and is not, was taken");
    (void)TEST_SERVICE(streaming_input_call__free)(writer);

    EXPECT(open_input(world, &writer), "not opened");
    EXPECT(send_told(writer, true, true, FIRST_OUT), "not sent");
    EXPECT(send_told(writer, false, false, SECOND_OUT), "not sent");
    TEST_SERVICE(streaming_input_call__close_send)(writer);
    EXPECT(TEST_SERVICE(streaming_input_call__next)(writer, &reply) == SL_OK, "no answer");
    EXPECT(
        reply->aggregated_payload_size == FIRST_OUT + SECOND_OUT, "a sum of %d",
        reply->aggregated_payload_size);
    (void)TEST_SERVICE(streaming_input_call__free)(writer);
    return true;
}

/* ---- What the server compresses -------------------------------------------------------------- */

bool case_server_compressed_unary(struct world *world)
{
    for (int i = 0; i < 2; i++) {
        const bool is_wanted = i == 0;
        Grpc__Testing__Payload payload;
        Grpc__Testing__BoolValue wanted;
        Grpc__Testing__SimpleRequest request;
        set_bool(&wanted, is_wanted);
        case_request(&request, &payload, REQUEST_BYTES, RESPONSE_BYTES);
        request.response_compressed = &wanted;
        Grpc__Testing__SimpleResponse *reply;
        struct sl_client_call *call;
        const enum sl_status status = case_unary(world->channel, &request, &reply, &call);
        EXPECT(call != NULL && status == SL_OK, "status %d", (int)status);
        EXPECT(
            reply->payload != NULL && reply->payload->body.len == RESPONSE_BYTES, "a wrong size");
        EXPECT(
            sl_client_call_is_compressed(call) == is_wanted, "the answer is %scompressed",
            is_wanted ? "not " : "");
        (void)sl_client_call_free(call);
    }
    return true;
}

bool case_server_compressed_streaming(struct world *world)
{
    static const int32_t sizes[] = { FIRST_IN, SECOND_IN };
    Grpc__Testing__BoolValue compressed[2];
    Grpc__Testing__ResponseParameters wanted[2];
    for (size_t i = 0; i < SL_COUNT(sizes); i++) {
        set_bool(&compressed[i], i == 0);
        grpc__testing__response_parameters__init(&wanted[i]);
        wanted[i].size = sizes[i];
        wanted[i].compressed = &compressed[i];
    }
    case_output *reader;
    EXPECT(case_open_output(world, wanted, SL_COUNT(sizes), &reader), "not opened");
    Grpc__Testing__StreamingOutputCallResponse *response;
    for (size_t i = 0; i < SL_COUNT(sizes); i++) {
        EXPECT(
            TEST_SERVICE(streaming_output_call__next)(reader, &response) == SL_OK,
            "no response %zu", i);
        EXPECT(case_has_size(response, i, sizes[i]), "wrong");
        EXPECT(
            sl_client_call_is_compressed(
                TEST_SERVICE(streaming_output_call__client_call)(reader)) == (i == 0),
            "response %zu is compressed otherwise than asked for", i);
    }
    EXPECT(TEST_SERVICE(streaming_output_call__next)(reader, &response) == SL_END, "no end");
    (void)TEST_SERVICE(streaming_output_call__free)(reader);
    return true;
}
