/* Parts of an answer that go back unchanged, as JSON text: members of tool calls that nobody knows
 * (PM-2.3.5), and reasoning_details (PM-2.4).
 *
 * Writing a large part takes long. sl_opaque_prepare() does it on the pool, for a document that was
 * parsed there, and leaves the texts in the document under a name that no document can bring: it is
 * not UTF-8. */
#ifndef SL_RUNTIME_MODEL_OPENAI_OPAQUE_H
#define SL_RUNTIME_MODEL_OPENAI_OPAQUE_H

#include <jansson.h>

#include "runtime/base/slice.h"
#include "runtime/base/status.h"

/* Writes what sl_opaque_members() and sl_opaque_details() would write, and arguments that are an
 * object, which become their text. Thread: any. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_opaque_prepare(json_t *document);

/* The members of a call that nobody knows, as an object of their texts. Gives: json_decref(). NULL:
 * no memory. */
json_t *sl_opaque_members(json_t *call);

/* The text of `delta.reasoning_details`, a list, as a JSON string. Gives: json_decref(). NULL:
 * there is none (SL_OK) or no memory. */
SL_CHECK enum sl_status sl_opaque_details(json_t *delta, json_t **ret_text);

#endif
