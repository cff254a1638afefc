/* JSON Schema, as much of it as tools use (AL-6.1): type, properties, required,
 * additionalProperties, enum, const, items, minimum, maximum, exclusiveMinimum, exclusiveMaximum,
 * min/maxLength, min/maxItems, min/maxProperties, anyOf, oneOf, allOf, not, and local $ref.
 * Annotations (title, description, default, examples, format, $defs, …) say nothing about validity.
 *
 * Both the schema and the value may be hostile: nesting ends at SL_SCHEMA_MAX_DEPTH, and the work
 * of one validation at SL_SCHEMA_MAX_STEPS, so that references in a circle and alternatives of
 * alternatives end in an error. A remote $ref is never fetched. Nothing here changes a schema or a
 * value: jansson's iterators do not take const. */
#ifndef SL_RUNTIME_TOOL_SCHEMA_H
#define SL_RUNTIME_TOOL_SCHEMA_H

#include <jansson.h>

#include "runtime/base/slice.h"
#include "runtime/base/status.h"

enum { SL_SCHEMA_MAX_DEPTH = 64, SL_SCHEMA_MAX_STEPS = 200000 };

/* Looks at the schema itself: it uses known keywords only, with values of the right kind, and its
 * references lead somewhere. `err` names the place ("/properties/count: …"). Thread: any. Fails:
 * SL_INVALID_ARGUMENT. */
SL_CHECK enum sl_status sl_schema_check(json_t *schema, struct sl_error *err);

/* Fits `value` the schema? `err` names the place in the value and what was wanted, for the model to
 * read. Thread: any. Fails: SL_INVALID_ARGUMENT. */
SL_CHECK enum sl_status sl_schema_validate(json_t *schema, json_t *value, struct sl_error *err);

/* Text to a JSON object: empty (or blank) text is {}; at most `max_bytes`, SL_SCHEMA_MAX_DEPTH
 * deep, no key twice, no NUL. Gives: json_decref(). Fails: SL_INVALID_ARGUMENT;
 * SL_RESOURCE_EXHAUSTED no memory. */
SL_CHECK enum sl_status sl_schema_parse_object(
    struct sl_slice text, size_t max_bytes, json_t **ret_object, struct sl_error *err);

#endif
