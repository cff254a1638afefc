#include "runtime/model/call_arguments.h"

#include "runtime/base/metrics.h"
#include "runtime/base/utf8.h"

enum sl_status
sl_call_arguments_add(struct sl_buf *arguments, struct sl_slice fragment, bool *is_over)
{
    if (*is_over) {
        return SL_OK;
    }
    if (fragment.size <= arguments->max_bytes - arguments->size) {
        return sl_buf_add(arguments, fragment);
    }
    const size_t head =
        arguments->max_bytes < SL_CALL_HEAD_BYTES ? arguments->max_bytes : SL_CALL_HEAD_BYTES;
    if (arguments->size < head) {
        const size_t size = sl_utf8_cut(fragment, head - arguments->size);
        SL_TRY(sl_buf_add(arguments, sl_slice_of(fragment.data, size)));
    } else {
        arguments->size = sl_utf8_cut(sl_buf_slice(arguments), head);
    }
    *is_over = true;
    sl_limit_reached(SL_LIMIT_tool_arguments);
    return SL_OK;
}
