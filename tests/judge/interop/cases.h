/* The test cases of gRPC's interop clients (interop-test-descriptions.md of grpc/grpc), each a
 * function that gives false, and says why on stderr, when the server did not do as it must. */
#ifndef SL_TESTS_JUDGE_INTEROP_CASES_H
#define SL_TESTS_JUDGE_INTEROP_CASES_H

#include <stdio.h>

#include "grpc/testing/test.sl.h"
#include "runtime/base/mem.h"
#include "tests/judge/interop/flags.h"

struct world {
    const struct flag *flags;
    struct sl_channel *channel;
};

typedef bool(case_fn)(struct world *world);

/* In a function that gives false when something is wrong. */
#define EXPECT(is_right, ...)                                                                      \
    do {                                                                                           \
        if (!(is_right)) {                                                                         \
            (void)fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                  \
            (void)fprintf(stderr, __VA_ARGS__);                                                    \
            (void)fputc('\n', stderr);                                                             \
            return false;                                                                          \
        }                                                                                          \
    } while (0)

/* Generated names of the service's methods, without what they all begin with. */
#define TEST_SERVICE(name) sl_grpc__testing__test_service__##name

/* Bodies of the sizes that the descriptions give. */
enum {
    REQUEST_BYTES = 271828,
    RESPONSE_BYTES = 314159,
    PAYLOAD_MAX_BYTES = 1024 * 1024,
    CASE_TIMEOUT_MS = 60000,
    CASE_RESPONSES_MAX = 4
};
extern uint8_t case_zeros[PAYLOAD_MAX_BYTES];

/* ---- client.c -------------------------------------------------------------------------------- */

/* As the flags say. NULL: it cannot be; said on stderr. */
struct sl_channel *case_channel(const struct flag *flags);

/* ---- cases.c --------------------------------------------------------------------------------- */

/* Options of a call that may take as long as a case. */
struct sl_client_call_options case_options(void);
void case_payload(Grpc__Testing__Payload *payload, size_t n_bytes);
/* A request with a payload of `n_out` bytes, which asks for one of `n_in`. It borrows `payload`. */
void case_request(
    Grpc__Testing__SimpleRequest *request,
    Grpc__Testing__Payload *payload,
    size_t n_out,
    size_t n_in);
/* UnaryCall with the usual options. Its status; `ret_call` is NULL when there is no memory. */
enum sl_status case_unary(
    struct sl_channel *channel,
    const Grpc__Testing__SimpleRequest *request,
    Grpc__Testing__SimpleResponse **ret_reply,
    struct sl_client_call **ret_call);
/* True when the call ended so; `message` NULL: with any. */
bool case_ended(const struct sl_client_call *call, enum sl_status status, const char *message);
/* One UnaryCall with payloads of these sizes, checked. */
bool case_large_unary(struct sl_channel *channel, size_t n_out, size_t n_in);

case_fn case_empty_unary, case_large_unary_once, case_custom_metadata, case_status_code_and_message,
    case_special_status_message, case_unimplemented_method, case_unimplemented_service,
    case_pick_first_unary;

/* ---- cases_stream.c -------------------------------------------------------------------------- */

typedef struct TEST_SERVICE(streaming_output_call__reader) case_output;
/* StreamingOutputCall that asks for these responses, CASE_RESPONSES_MAX at most. */
bool case_open_output(
    struct world *world,
    Grpc__Testing__ResponseParameters *wanted,
    size_t n_wanted,
    case_output **ret_output);
/* Response `i` of a stream has so many bytes. */
bool case_has_size(
    const Grpc__Testing__StreamingOutputCallResponse *response, size_t i, int32_t size);

case_fn case_client_streaming, case_server_streaming, case_ping_pong, case_empty_stream,
    case_timeout_on_sleeping_server, case_cancel_after_begin, case_cancel_after_first_response;

/* ---- cases_compressed.c ---------------------------------------------------------------------- */

case_fn case_client_compressed_unary, case_server_compressed_unary,
    case_client_compressed_streaming, case_server_compressed_streaming;

/* ---- cases_soak.c ---------------------------------------------------------------------------- */

case_fn case_rpc_soak, case_channel_soak;

/* ---- cases_bad.c ----------------------------------------------------------------------------- */

case_fn case_goaway, case_rst_after_header, case_rst_during_data, case_rst_after_data, case_ping,
    case_max_streams, case_data_frame_padding;
/* Of our own server, which tells how many calls it has. */
case_fn case_no_call_left;

#endif
