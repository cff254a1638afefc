/* grpc.testing.TestService on our library, which interop clients of others call.
 *   sl_interop_server [--port=N] [--use_tls=true --cert_file=F --key_file=F]
 * Prints its port. A method of its own, which no client of gRPC's calls, tells in words what became
 * of the calls: /sluice.judge.Server/Stats. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "grpc/testing/test.sl.h"
#include "runtime/base/mem.h"
#include "tests/judge/interop/flags.h"
#include "tests/judge/interop/output.h"
#include "tests/judge/serve.h"

enum { STATS_BYTES = 1024 };

static char server_id[32];

/* ---- What all methods do --------------------------------------------------------------------- */

/* Two entries of the request's metadata come back, one before the answer and one behind it. */
static enum sl_status echo_metadata(struct sl_call *call)
{
    static const char initial[] = "x-grpc-test-echo-initial";
    static const char trailing[] = "x-grpc-test-echo-trailing-bin";
    const struct sl_metadata *metadata = sl_call_metadata(call);
    struct sl_slice value;
    if (sl_metadata_get(metadata, initial, 0, &value)) {
        SL_TRY(sl_call_add_header(call, sl_slice_str(initial), value));
    }
    if (sl_metadata_get(metadata, trailing, 0, &value)) {
        SL_TRY(sl_call_add_trailer(call, sl_slice_str(trailing), value));
    }
    return SL_OK;
}

static bool is_as_expected(const struct sl_call *call, const Grpc__Testing__BoolValue *expected)
{
    return expected == NULL || (expected->value != 0) == sl_call_is_compressed(call);
}

static enum sl_status refuse_compression(struct sl_call *call)
{
    const struct sl_call_status status = { .code = SL_INVALID_ARGUMENT,
                                           .message = "the request is not compressed as expected" };
    return sl_call_fail(call, &status);
}

/* ---- One answer ------------------------------------------------------------------------------ */

static enum sl_status on_empty_call(
    struct sl_call *call,
    const Grpc__Testing__Empty *request,
    Grpc__Testing__Empty *reply,
    void *user_data)
{
    (void)request;
    (void)reply;
    (void)user_data;
    return echo_metadata(call);
}

static enum sl_status
add_payload(struct sl_call *call, Grpc__Testing__SimpleResponse *reply, size_t n_bytes)
{
    reply->payload = sl_arena_alloc(sl_call_arena(call), sizeof(*reply->payload));
    if (reply->payload == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    grpc__testing__payload__init(reply->payload);
    reply->payload->body = (ProtobufCBinaryData){ .len = n_bytes, .data = output_zeros };
    return SL_OK;
}

static enum sl_status on_unary_call(
    struct sl_call *call,
    const Grpc__Testing__SimpleRequest *request,
    Grpc__Testing__SimpleResponse *reply,
    void *user_data)
{
    (void)user_data;
    SL_TRY(echo_metadata(call));
    if (!is_as_expected(call, request->expect_compressed)) {
        return refuse_compression(call);
    }
    if (request->response_status != NULL && request->response_status->code != 0) {
        const struct sl_call_status status = { .code =
                                                   (enum sl_status)request->response_status->code,
                                               .message = request->response_status->message };
        return sl_call_fail(call, &status);
    }
    if (request->response_size < 0 || request->response_size > OUTPUT_MAX_BYTES) {
        return SL_INVALID_ARGUMENT;
    }
    if (request->response_compressed != NULL) {
        SL_TRY(sl_call_set_encoding(call, "gzip"));
        sl_call_set_compressing(call, request->response_compressed->value != 0);
    }
    if (request->fill_server_id) {
        reply->server_id = server_id;
    }
    return add_payload(call, reply, (size_t)request->response_size);
}

/* ---- Many requests, one answer --------------------------------------------------------------- */

struct input {
    Grpc__Testing__StreamingInputCallResponse *reply;
};

static enum sl_status add_up(struct sl_call *call, struct input *input)
{
    for (;;) {
        void *message;
        const enum sl_status status = sl_call_recv(call, &message);
        if (status != SL_OK) {
            return status;
        }
        const Grpc__Testing__StreamingInputCallRequest *request = message;
        if (!is_as_expected(call, request->expect_compressed)) {
            return SL_INVALID_ARGUMENT;
        }
        if (request->payload != NULL) {
            input->reply->aggregated_payload_size += (int32_t)request->payload->body.len;
        }
    }
}

static void on_input(struct sl_call *call, void *user_data)
{
    const enum sl_status status = add_up(call, user_data);
    if (status != SL_AGAIN) {
        sl_call_finishf(call, status == SL_END ? SL_OK : status, "%s", "");
    }
}

static void on_input_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    (void)end;
    (void)user_data;
    sl_call_finishf(call, SL_UNAVAILABLE, "%s", "");
}

static enum sl_status on_streaming_input_call(
    struct sl_call *call,
    struct sl_grpc__testing__test_service__streaming_input_call__receiver *in,
    Grpc__Testing__StreamingInputCallResponse *reply,
    void *user_data)
{
    (void)in;
    (void)user_data;
    static const struct sl_call_callbacks callbacks = { .on_readable = on_input,
                                                        .on_ended = on_input_ended };
    struct input *input = sl_arena_calloc(sl_call_arena(call), 1, sizeof(*input));
    if (input == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    input->reply = reply;
    sl_call_set_callbacks(call, &callbacks, input);
    return echo_metadata(call) == SL_OK ? SL_PENDING : SL_INTERNAL;
}

/* ---- Streams of answers ---------------------------------------------------------------------- */

static enum sl_status on_streaming_output_call(
    struct sl_call *call,
    const Grpc__Testing__StreamingOutputCallRequest *request,
    struct sl_grpc__testing__test_service__streaming_output_call__sender *out,
    void *user_data)
{
    (void)out;
    (void)user_data;
    SL_TRY(echo_metadata(call));
    return output_start(call, OUTPUT_OF_REQUEST, request);
}

static enum sl_status on_full_duplex_call(
    struct sl_call *call,
    struct sl_grpc__testing__test_service__full_duplex_call__stream *io,
    void *user_data)
{
    (void)io;
    (void)user_data;
    SL_TRY(echo_metadata(call));
    return output_start(call, OUTPUT_AT_ONCE, NULL);
}

static enum sl_status on_half_duplex_call(
    struct sl_call *call,
    struct sl_grpc__testing__test_service__half_duplex_call__stream *io,
    void *user_data)
{
    (void)io;
    (void)user_data;
    SL_TRY(echo_metadata(call));
    return output_start(call, OUTPUT_AT_END, NULL);
}

/* ---- The judge's own question ---------------------------------------------------------------- */

/* This call is the one that is not counted. */
static enum sl_status on_stats(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)request;
    struct sl_server_stats stats;
    sl_server_stats(user_data, &stats);
    char text[STATS_BYTES];
    size_t n = (size_t)snprintf(
        text, sizeof(text), "%" PRIu64 " running, connections %" PRIu64 ", calls %" PRIu64,
        stats.calls_running - 1, stats.connections_total, stats.calls_started - 1);
    for (size_t i = 0; i < SL_COUNT(stats.calls_by_status); i++) {
        if (stats.calls_by_status[i] > 0) {
            n += (size_t)snprintf(
                text + n, sizeof(text) - n, ", status %zu: %" PRIu64, i, stats.calls_by_status[i]);
        }
    }
    return sl_call_reply_bytes(call, sl_slice_of(text, n));
}

/* ---- The program ----------------------------------------------------------------------------- */

static enum sl_status add_services(struct sl_server *server)
{
    static const struct sl_grpc__testing__test_service__handlers handlers = {
        .struct_size = sizeof(handlers),
        .empty_call = on_empty_call,
        .unary_call = on_unary_call,
        .cacheable_unary_call = on_unary_call,
        .streaming_output_call = on_streaming_output_call,
        .streaming_input_call = on_streaming_input_call,
        .full_duplex_call = on_full_duplex_call,
        .half_duplex_call = on_half_duplex_call,
    };
    SL_TRY(sl_grpc__testing__test_service__register(server, &handlers, NULL));
    return sl_server_add_raw(server, "/sluice.judge.Server/Stats", SL_UNARY, on_stats, server);
}

static enum sl_status make_server(struct sl_server **ret_server)
{
    struct sl_limits *limits;
    SL_TRY(sl_limits_new(&limits));
    SL_TRY(sl_limits_set(limits, "message_recv", OUTPUT_MAX_BYTES, NULL));
    const struct sl_server_options options = { .struct_size = sizeof(options), .limits = limits };
    const enum sl_status status = sl_server_new(&options, ret_server);
    (void)sl_limits_free(limits);
    return status == SL_OK ? add_services(*ret_server) : status;
}

int main(int argc, char **argv)
{
    struct flag flags[] = { { "port", "0" },
                            { "use_tls", "false" },
                            { "cert_file", NULL },
                            { "key_file", NULL },
                            { NULL, NULL } };
    if (!flags_parse(flags, argc, argv)) {
        return EXIT_FAILURE;
    }
    (void)snprintf(server_id, sizeof(server_id), "sluice-%ld", (long)getpid());
    struct sl_server *server;
    if (make_server(&server) != SL_OK) {
        (void)fprintf(stderr, "no memory for a server\n");
        return EXIT_FAILURE;
    }
    const bool is_tls = flags_bool(flags, "use_tls");
    const struct judge_serve_options serve = {
        .cert_file = is_tls ? flags_text(flags, "cert_file") : NULL,
        .key_file = is_tls ? flags_text(flags, "key_file") : NULL,
        .port = (uint16_t)flags_number(flags, "port"),
    };
    return judge_serve(server, &serve);
}
