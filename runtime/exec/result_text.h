/* What the model gets of a tool call (AL-6.3). */
#ifndef SL_RUNTIME_EXEC_RESULT_TEXT_H
#define SL_RUNTIME_EXEC_RESULT_TEXT_H

#include "runtime/base/status.h"
#include "runtime/tool/tool.h"

/* Of a success the result; of a failure an object that says what went wrong, with what there is.
 * Thread: any. Owns: the caller. NULL: no memory. */
SL_CHECK char *sl_result_text(const struct sl_tool_result *result);

#endif
