/* JSON of model providers: jansson, made safe for what strangers send (PM-1.6). */
#ifndef SL_RUNTIME_MODEL_JSON_H
#define SL_RUNTIME_MODEL_JSON_H

#include <jansson.h>

#include "runtime/base/buf.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"

/* Parses one document. Nesting is counted before jansson recurses; lone surrogate escapes become
 * \ufffd; integers of more than 64 bits become reals. NUL may be inside strings: sl_json_text().
 * Gives: json_decref(). Thread: any.
 * Fails: SL_INVALID_ARGUMENT not JSON; SL_OUT_OF_RANGE deeper than `max_depth`;
 * SL_RESOURCE_EXHAUSTED no memory. */
SL_CHECK enum sl_status
sl_json_parse(struct sl_slice text, size_t max_depth, json_t **ret_document);

/* True when `text` is a JSON object that sl_json_parse() takes. */
bool sl_json_is_object(struct sl_slice text, size_t max_depth);

/* The string's bytes; empty when `value` is NULL or no string. */
struct sl_slice sl_json_slice(const json_t *value);

/* The string as C text for logs and names; NULL when it is none, empty, or has a NUL inside. */
const char *sl_json_cstr(const json_t *value);

/* The string with NUL replaced by U+FFFD; `scratch` is used when there is one. Fails:
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_json_text(const json_t *value, struct sl_buf *scratch, struct sl_slice *ret_text);

#endif
