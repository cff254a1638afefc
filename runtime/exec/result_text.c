#include "runtime/exec/result_text.h"

#include <stdlib.h>

#include <jansson.h>

#include "runtime/base/buf.h"
#include "runtime/base/mem.h"

enum { MAX_RESULT_BYTES = 64 * 1024 * 1024 };

/* Owns: the caller. NULL: no memory. */
static char *describe_failure(const struct sl_tool_result *result)
{
    json_t *error = json_pack(
        "{s:{s:s,s:s}}", "error", "code", sl_tool_code_name(result->code), "message",
        result->error == NULL ? "" : result->error);
    char *text = error == NULL ? NULL : json_dumps(error, JSON_COMPACT);
    json_decref(error);
    struct sl_buf buf;
    sl_buf_init(&buf, MAX_RESULT_BYTES);
    enum sl_status status = SL_RESOURCE_EXHAUSTED;
    if (text != NULL && result->result_json.size == 0) {
        status = sl_buf_add_str(&buf, text);
    } else if (text != NULL) {
        status = sl_buf_add(&buf, sl_slice_of(text, strlen(text) - 1)); /* without its '}' */
        if (status == SL_OK) {
            status = sl_buf_add_str(&buf, ",\"partial\":");
        }
        if (status == SL_OK) {
            status = sl_buf_add(&buf, result->result_json);
        }
        if (status == SL_OK) {
            status = sl_buf_add_byte(&buf, '}');
        }
    }
    free(text);
    char *described = status == SL_OK ? sl_buf_take(&buf) : NULL;
    sl_buf_done(&buf);
    return described;
}

char *sl_result_text(const struct sl_tool_result *result)
{
    if (result->code != SL_TOOL_OK) {
        return describe_failure(result);
    }
    if (result->result_json.size == 0) {
        return sl_strdup("null");
    }
    return sl_strndup((const char *)result->result_json.data, result->result_json.size);
}
