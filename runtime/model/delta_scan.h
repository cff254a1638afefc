/* The text of the hot events of a stream, without a tree. The scanner knows the usual shape of a
 * chat.completion.chunk that carries nothing but text; whatever else comes is not recognised, and
 * goes to jansson unchanged. It never calls an input invalid. No recursion; allocates only when the
 * scratch has to grow. */
#ifndef SL_RUNTIME_MODEL_DELTA_SCAN_H
#define SL_RUNTIME_MODEL_DELTA_SCAN_H

#include "runtime/base/buf.h"
#include "runtime/base/slice.h"

/* Empty texts are not there. Slices lie in the event or in the scratch. */
struct sl_delta {
    struct sl_slice content, reasoning;
};

/* `json` must be clean UTF-8 (no NUL). True: the event carries `*ret_delta` and nothing else that
 * matters. False: ask jansson. */
bool sl_delta_scan(struct sl_slice json, struct sl_buf *scratch, struct sl_delta *ret_delta);

#endif
