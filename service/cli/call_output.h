/* What `sluice call` prints: messages, headers, and the end of a call that failed. */
#ifndef SL_SERVICE_CLI_CALL_OUTPUT_H
#define SL_SERVICE_CLI_CALL_OUTPUT_H

#include <jansson.h>

#include "service/rpc/rpc.h"
#include "service/schema/schema.h"

/* On stdout, and at once; indented or in one line. */
SL_CHECK enum sl_status sl_call_print_json(const json_t *json, bool is_indented);
/* "< key: value" on stderr; the values of -bin keys as base64. NULL: none. */
void sl_call_print_metadata(const struct sl_metadata *metadata);
/* The details of a status (grpc-status-details-bin), those that `schema` (may be NULL) or the
 * well-known ones know in words, the others as base64: a list. NULL: there are none, or they do not
 * parse. Gives: json_decref(). */
SL_CHECK json_t *sl_call_details(struct sl_schema *schema, struct sl_slice bytes);
/* On stderr: "NOT_FOUND: message" and a line for each detail, or one line of JSON. */
void sl_call_print_status(
    enum sl_status status, const char *message, const json_t *details, bool is_json);

#endif
