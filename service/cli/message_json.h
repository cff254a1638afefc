/* Messages as JSON and back, by their descriptors: snake_case names, 64-bit integers as numbers,
 * enum values without the prefix of their enum, bytes as base64. This is the JSON of the CLI
 * (AL-2.1), not protojson. */
#ifndef SL_SERVICE_CLI_MESSAGE_JSON_H
#define SL_SERVICE_CLI_MESSAGE_JSON_H

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>

#include "proto/sluice/v1/events.pb-c.h"
#include "runtime/base/arena.h"
#include "runtime/base/status.h"

/* Every field but unset optional ones. Gives: json_decref(). NULL: no memory. */
SL_CHECK json_t *sl_message_to_json(const ProtobufCMessage *message);

/* An event: "type", "sequence", "timestamp_ms" and the fields of the event itself. NULL: no memory.
 */
SL_CHECK json_t *sl_event_to_json(const Sluice__V1__StreamEvent *event);

/* The other way, in `arena`. An unknown member is an error, and so is a value of the wrong type.
 * Fails: SL_INVALID_ARGUMENT naming the member; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_event_from_json(
    json_t *json,
    struct sl_arena *arena,
    Sluice__V1__StreamEvent **ret_event,
    struct sl_error *err);

#endif
