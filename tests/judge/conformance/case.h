/* One case of the client's: a ClientCompatRequest, the call that it asks for, and what came of it.
 * Everything happens on the loop of its channel. */
#ifndef SL_TESTS_JUDGE_CONFORMANCE_CASE_H
#define SL_TESTS_JUDGE_CONFORMANCE_CASE_H

#include <connectrpc/conformance/v1/client_compat.pb-c.h>

#include "runtime/base/loop.h"
#include "service/rpc/rpc.h"
#include "tests/judge/conformance/common.h"

typedef Connectrpc__Conformance__V1__ClientCompatRequest case_request;
typedef Connectrpc__Conformance__V1__ClientCompatResponse case_response;

struct judge_case;
/* Gets the answer, which is gone afterwards, as is the case. */
typedef void(judge_case_fn)(const case_response *response, void *user_data);

/* Unpacks a request. Owns: judge_case_start(), or judge_case_free(). NULL: no memory, or it does
 * not parse. */
struct judge_case *judge_case_new(struct sl_slice bytes);
const case_request *judge_case_request(const struct judge_case *self);
/* Makes the call. on_done comes in any case, perhaps inside this function. */
void judge_case_start(
    struct judge_case *self, struct sl_channel *channel, judge_case_fn *on_done, void *user_data);
/* Ends a case without a call: an error of the client's. */
void judge_case_fail(
    struct judge_case *self, const char *why, judge_case_fn *on_done, void *user_data);

#endif
