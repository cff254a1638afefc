/* Streams, deadlines and cancellation. */
#include "tests/judge/interop/cases.h"

static const int32_t sizes_out[] = { 27182, 8, 1828, 45904 };
static const int32_t sizes_in[] = { 31415, 9, 2653, 58979 };

enum { N_SIZES = 4, SUM_OUT = 27182 + 8 + 1828 + 45904 };

bool case_client_streaming(struct world *world)
{
    const struct sl_client_call_options options = case_options();
    struct TEST_SERVICE(streaming_input_call__writer) * writer;
    EXPECT(
        TEST_SERVICE(streaming_input_call__open)(world->channel, &options, &writer) == SL_OK,
        "no call");
    for (size_t i = 0; i < N_SIZES; i++) {
        Grpc__Testing__Payload payload;
        Grpc__Testing__StreamingInputCallRequest request;
        grpc__testing__streaming_input_call_request__init(&request);
        case_payload(&payload, (size_t)sizes_out[i]);
        request.payload = &payload;
        EXPECT(TEST_SERVICE(streaming_input_call__write)(writer, &request) == SL_OK, "not sent");
    }
    TEST_SERVICE(streaming_input_call__close_send)(writer);
    Grpc__Testing__StreamingInputCallResponse *reply;
    EXPECT(TEST_SERVICE(streaming_input_call__next)(writer, &reply) == SL_OK, "no answer");
    EXPECT(
        reply->aggregated_payload_size == SUM_OUT, "a sum of %d in place of %d",
        reply->aggregated_payload_size, SUM_OUT);
    EXPECT(TEST_SERVICE(streaming_input_call__next)(writer, &reply) == SL_END, "no end");
    (void)TEST_SERVICE(streaming_input_call__free)(writer);
    return true;
}

bool case_open_output(
    struct world *world,
    Grpc__Testing__ResponseParameters *wanted,
    size_t n_wanted,
    case_output **ret_output)
{
    const struct sl_client_call_options options = case_options();
    Grpc__Testing__ResponseParameters *list[CASE_RESPONSES_MAX];
    EXPECT(n_wanted <= SL_COUNT(list), "too many responses");
    for (size_t i = 0; i < n_wanted; i++) {
        list[i] = &wanted[i];
    }
    Grpc__Testing__StreamingOutputCallRequest request;
    grpc__testing__streaming_output_call_request__init(&request);
    request.n_response_parameters = n_wanted;
    request.response_parameters = list;
    EXPECT(
        TEST_SERVICE(streaming_output_call__open)(world->channel, &options, &request, ret_output) ==
            SL_OK,
        "no call");
    return true;
}

bool case_has_size(
    const Grpc__Testing__StreamingOutputCallResponse *response, size_t i, int32_t size)
{
    EXPECT(
        response->payload != NULL && response->payload->body.len == (size_t)size,
        "response %zu does not have %d bytes", i, size);
    return true;
}

bool case_server_streaming(struct world *world)
{
    Grpc__Testing__ResponseParameters wanted[N_SIZES];
    for (size_t i = 0; i < N_SIZES; i++) {
        grpc__testing__response_parameters__init(&wanted[i]);
        wanted[i].size = sizes_in[i];
    }
    case_output *reader;
    EXPECT(case_open_output(world, wanted, N_SIZES, &reader), "not opened");
    Grpc__Testing__StreamingOutputCallResponse *response;
    for (size_t i = 0; i < N_SIZES; i++) {
        EXPECT(
            TEST_SERVICE(streaming_output_call__next)(reader, &response) == SL_OK,
            "no response %zu", i);
        EXPECT(case_has_size(response, i, sizes_in[i]), "wrong");
    }
    EXPECT(TEST_SERVICE(streaming_output_call__next)(reader, &response) == SL_END, "no end");
    (void)TEST_SERVICE(streaming_output_call__free)(reader);
    return true;
}

/* ---- Both ways ------------------------------------------------------------------------------- */

typedef struct TEST_SERVICE(full_duplex_call__duplex) duplex_call;

static bool open_duplex(struct world *world, uint64_t timeout_ms, duplex_call **ret_duplex)
{
    struct sl_client_call_options options = case_options();
    options.timeout_ms = timeout_ms;
    EXPECT(
        TEST_SERVICE(full_duplex_call__open)(world->channel, &options, ret_duplex) == SL_OK,
        "no call");
    return true;
}

/* Sends one request that asks for a response of `n_in` bytes; 0: for none. */
static enum sl_status ask(duplex_call *duplex, int32_t n_out, int32_t n_in)
{
    Grpc__Testing__Payload payload;
    Grpc__Testing__ResponseParameters wanted;
    Grpc__Testing__ResponseParameters *list[] = { &wanted };
    Grpc__Testing__StreamingOutputCallRequest request;
    grpc__testing__response_parameters__init(&wanted);
    wanted.size = n_in;
    grpc__testing__streaming_output_call_request__init(&request);
    case_payload(&payload, (size_t)n_out);
    request.payload = &payload;
    request.n_response_parameters = n_in > 0 ? 1 : 0;
    request.response_parameters = list;
    return TEST_SERVICE(full_duplex_call__write)(duplex, &request);
}

bool case_ping_pong(struct world *world)
{
    duplex_call *duplex;
    Grpc__Testing__StreamingOutputCallResponse *response;
    EXPECT(open_duplex(world, CASE_TIMEOUT_MS, &duplex), "not opened");
    for (size_t i = 0; i < N_SIZES; i++) {
        EXPECT(ask(duplex, sizes_out[i], sizes_in[i]) == SL_OK, "request %zu not sent", i);
        EXPECT(
            TEST_SERVICE(full_duplex_call__next)(duplex, &response) == SL_OK, "no response %zu", i);
        EXPECT(case_has_size(response, i, sizes_in[i]), "wrong");
    }
    TEST_SERVICE(full_duplex_call__close_send)(duplex);
    EXPECT(TEST_SERVICE(full_duplex_call__next)(duplex, &response) == SL_END, "no end");
    (void)TEST_SERVICE(full_duplex_call__free)(duplex);
    return true;
}

bool case_empty_stream(struct world *world)
{
    duplex_call *duplex;
    Grpc__Testing__StreamingOutputCallResponse *response;
    EXPECT(open_duplex(world, CASE_TIMEOUT_MS, &duplex), "not opened");
    TEST_SERVICE(full_duplex_call__close_send)(duplex);
    EXPECT(TEST_SERVICE(full_duplex_call__next)(duplex, &response) == SL_END, "no end");
    (void)TEST_SERVICE(full_duplex_call__free)(duplex);
    return true;
}

bool case_timeout_on_sleeping_server(struct world *world)
{
    duplex_call *duplex;
    Grpc__Testing__StreamingOutputCallResponse *response;
    EXPECT(open_duplex(world, 1, &duplex), "not opened");
    const enum sl_status sent = ask(duplex, sizes_out[0], 0);
    EXPECT(sent == SL_OK || sent == SL_DEADLINE_EXCEEDED, "sending gave %d", (int)sent);
    EXPECT(
        TEST_SERVICE(full_duplex_call__next)(duplex, &response) == SL_DEADLINE_EXCEEDED &&
            case_ended(
                TEST_SERVICE(full_duplex_call__client_call)(duplex), SL_DEADLINE_EXCEEDED, NULL),
        "the deadline did not pass");
    (void)TEST_SERVICE(full_duplex_call__free)(duplex);
    return true;
}

/* ---- Cancellation ---------------------------------------------------------------------------- */

bool case_cancel_after_begin(struct world *world)
{
    const struct sl_client_call_options options = case_options();
    struct TEST_SERVICE(streaming_input_call__writer) * writer;
    EXPECT(
        TEST_SERVICE(streaming_input_call__open)(world->channel, &options, &writer) == SL_OK,
        "no call");
    TEST_SERVICE(streaming_input_call__cancel)(writer);
    Grpc__Testing__StreamingInputCallResponse *reply;
    EXPECT(TEST_SERVICE(streaming_input_call__next)(writer, &reply) == SL_CANCELLED, "no cancel");
    EXPECT(
        case_ended(TEST_SERVICE(streaming_input_call__client_call)(writer), SL_CANCELLED, NULL),
        "wrong end");
    (void)TEST_SERVICE(streaming_input_call__free)(writer);
    return true;
}

bool case_cancel_after_first_response(struct world *world)
{
    duplex_call *duplex;
    Grpc__Testing__StreamingOutputCallResponse *response;
    EXPECT(open_duplex(world, CASE_TIMEOUT_MS, &duplex), "not opened");
    EXPECT(ask(duplex, sizes_out[0], sizes_in[0]) == SL_OK, "not sent");
    EXPECT(TEST_SERVICE(full_duplex_call__next)(duplex, &response) == SL_OK, "no response");
    EXPECT(case_has_size(response, 0, sizes_in[0]), "wrong");
    TEST_SERVICE(full_duplex_call__cancel)(duplex);
    EXPECT(TEST_SERVICE(full_duplex_call__next)(duplex, &response) == SL_CANCELLED, "no cancel");
    (void)TEST_SERVICE(full_duplex_call__free)(duplex);
    return true;
}
