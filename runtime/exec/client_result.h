/* What a client says about a call of a tool of its own (AL-6.8), as the run needs it: JSON text
 * within the cap, whatever the client wrote. */
#ifndef SL_RUNTIME_EXEC_CLIENT_RESULT_H
#define SL_RUNTIME_EXEC_CLIENT_RESULT_H

#include "runtime/base/slice.h"
#include "runtime/base/status.h"

enum { SL_CLIENT_ERROR_BYTES = 1024 };

/* All zero: nothing yet. Texts are owned. */
struct sl_client_result {
    bool is_there, is_truncated;
    uint64_t result_bytes; /* before the cut */
    char *result_json;     /* NULL: none */
    char *error;           /* NULL: success */
};

/* `result`: JSON text, or any other, which becomes a JSON string; over `max_bytes` its middle is
 * left out, and it is a string, too. `error`: not empty: the call failed; cut at
 * SL_CLIENT_ERROR_BYTES. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_client_result_make(
    struct sl_slice result,
    struct sl_slice error,
    size_t max_bytes,
    struct sl_client_result *ret_result);
void sl_client_result_done(struct sl_client_result *result);

#endif
