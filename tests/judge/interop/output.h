/* The calls of grpc.testing.TestService that answer with a stream: what the requests ask for, one
 * response after the other, each after its pause.
 *
 *   recv ─▶ list of responses ─▶ timer ─▶ send          HalfDuplexCall sends when all requests came
 */
#ifndef SL_TESTS_JUDGE_INTEROP_OUTPUT_H
#define SL_TESTS_JUDGE_INTEROP_OUTPUT_H

#include "grpc/testing/messages.pb-c.h"
#include "service/rpc/rpc.h"

/* Zeros for payloads, as many as anybody may ask for. */
enum { OUTPUT_MAX_BYTES = 16 * 1024 * 1024 };
extern uint8_t output_zeros[OUTPUT_MAX_BYTES];

enum output_kind {
    OUTPUT_OF_REQUEST, /* one request, which is given */
    OUTPUT_AT_ONCE,    /* requests come in the stream, and are answered one by one */
    OUTPUT_AT_END
};

/* Takes the call over: gives SL_PENDING, or what failed. */
enum sl_status output_start(
    struct sl_call *call,
    enum output_kind kind,
    const Grpc__Testing__StreamingOutputCallRequest *request);

#endif
