/* How the arguments of a tool call are gathered, whoever sends them. */
#ifndef SL_RUNTIME_MODEL_CALL_ARGUMENTS_H
#define SL_RUNTIME_MODEL_CALL_ARGUMENTS_H

#include "runtime/base/buf.h"
#include "runtime/model/model.h"

/* Adds a fragment to `arguments`, whose max_bytes is the limit. With the first fragment that does
 * not fit `*is_over` becomes true, and just the beginning is kept: at most SL_CALL_HEAD_BYTES, cut
 * between characters. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_call_arguments_add(struct sl_buf *arguments, struct sl_slice fragment, bool *is_over);

#endif
