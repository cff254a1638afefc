/* Servers that do what they may, but seldom do (http2-interop-test-descriptions.md of grpc/grpc):
 * bad_server.py. Its own checks are about what it sees of us. */
#include <string.h>

#include "tests/judge/interop/cases.h"

enum { N_AT_ONCE = 10 };

/* GOAWAY comes behind the first answer: the second call goes over another connection. */
bool case_goaway(struct world *world)
{
    for (int i = 0; i < 2; i++) {
        EXPECT(
            case_large_unary(world->channel, REQUEST_BYTES, RESPONSE_BYTES), "call %d failed", i);
    }
    return true;
}

/* The stream is reset before its end: there is no answer, whatever came of it. */
static bool fails(const struct world *world)
{
    Grpc__Testing__SimpleRequest request;
    grpc__testing__simple_request__init(&request);
    request.response_size = RESPONSE_BYTES;
    Grpc__Testing__SimpleResponse *reply;
    struct sl_client_call *call;
    const enum sl_status status = case_unary(world->channel, &request, &reply, &call);
    EXPECT(call != NULL, "no memory for a call");
    EXPECT(status == SL_CANCELLED, "status %d, where the server reset with CANCEL", (int)status);
    (void)sl_client_call_free(call);
    return true;
}

bool case_rst_after_header(struct world *world)
{
    return fails(world);
}

bool case_rst_during_data(struct world *world)
{
    return fails(world);
}

bool case_rst_after_data(struct world *world)
{
    return fails(world);
}

bool case_ping(struct world *world)
{
    return case_large_unary(world->channel, REQUEST_BYTES, RESPONSE_BYTES);
}

/* More in padding than a window holds: it must be given back. */
bool case_data_frame_padding(struct world *world)
{
    return case_large_unary(world->channel, REQUEST_BYTES, RESPONSE_BYTES);
}

/* The server allows one stream; calls wait for each other. */
bool case_max_streams(struct world *world)
{
    EXPECT(case_large_unary(world->channel, 1, 1), "the first call failed");
    struct TEST_SERVICE(unary_call__reader) * readers[N_AT_ONCE];
    for (size_t i = 0; i < N_AT_ONCE; i++) {
        const struct sl_client_call_options options = case_options();
        Grpc__Testing__SimpleRequest request;
        grpc__testing__simple_request__init(&request);
        request.response_size = RESPONSE_BYTES;
        EXPECT(
            TEST_SERVICE(unary_call__open)(world->channel, &options, &request, &readers[i]) ==
                SL_OK,
            "call %zu was not opened", i);
    }
    for (size_t i = 0; i < N_AT_ONCE; i++) {
        Grpc__Testing__SimpleResponse *reply;
        EXPECT(TEST_SERVICE(unary_call__next)(readers[i], &reply) == SL_OK, "call %zu failed", i);
        EXPECT(
            TEST_SERVICE(unary_call__next)(readers[i], &reply) == SL_END, "call %zu ended ill", i);
        (void)TEST_SERVICE(unary_call__free)(readers[i]);
    }
    return true;
}

/* ---- The judge's own question ---------------------------------------------------------------- */

bool case_no_call_left(struct world *world)
{
    static const struct sl_method_desc stats = { .path = "/sluice.judge.Server/Stats",
                                                 .kind = SL_UNARY };
    static const char none[] = "0 running, ";
    const struct sl_client_call_options options = case_options();
    struct sl_client_call *call;
    struct sl_slice answer;
    EXPECT(sl_client_call_open(world->channel, &stats, &options, &call) == SL_OK, "no memory");
    EXPECT(sl_client_call_send_bytes(call, sl_slice_of(NULL, 0)) == SL_OK, "not sent");
    sl_client_call_close_send(call);
    EXPECT(sl_client_call_recv_bytes(call, &answer) == SL_OK, "no answer");
    (void)printf("%.*s\n", SL_SLICE_FMT(answer));
    EXPECT(
        answer.size >= strlen(none) && memcmp(answer.data, none, strlen(none)) == 0,
        "calls are left");
    (void)sl_client_call_free(call);
    return true;
}
