/* A call's status on the wire: grpc-status, grpc-message, grpc-status-details-bin (RS-4 to RS-6),
 * and what stands for a status when there is none (ST-4, ST-5). No state; any thread. */
#ifndef SL_SERVICE_RPC_STATUS_H
#define SL_SERVICE_RPC_STATUS_H

#include "runtime/base/arena.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"
#include "service/rpc/call.h"
#include "service/rpc/metadata.h"

/* "13" for SL_INTERNAL; a number that may not be on the wire becomes UNKNOWN's (ST-3). */
struct sl_slice sl_rpc_status_text(enum sl_status code);
/* grpc-status as received: 0 to 16, anything else is SL_UNKNOWN. */
enum sl_status sl_rpc_status_parse(struct sl_slice text);
/* The status of a code that a handler gave: 0 to 16, else UNKNOWN (ST-3). */
enum sl_status sl_rpc_status_clamp(enum sl_status code);

/* `text` itself, or, when it is no clean UTF-8, a repaired copy in `arena`. Fails:
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_rpc_text_repair(struct sl_slice text, struct sl_arena *arena, struct sl_slice *ret_text);
/* grpc-message: U+FFFD for invalid UTF-8, then percent-encoding; a copy in `arena`, at most
 * `max_bytes` long, never cut inside a character (RS-6, RS-9). Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_rpc_message_encode(
    struct sl_slice text, size_t max_bytes, struct sl_arena *arena, struct sl_slice *ret_wire);
/* The reverse; a bad "%zz" stays as it is. Invalid UTF-8 becomes U+FFFD. The copy in `arena` is
 * terminated. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_rpc_message_decode(struct sl_slice wire, struct sl_arena *arena, struct sl_slice *ret_text);

/* google.rpc.Status in bytes (not base64), with code and message, ErrorInfo when `reason` is set,
 * and RetryInfo when retry_delay_ms > 0. When `details` is set: those bytes, with their code and
 * message replaced by the status's own (RS-5). Invalid UTF-8 is repaired. Empty when there is
 * nothing beside code and message. Fails: SL_RESOURCE_EXHAUSTED; SL_INVALID_ARGUMENT `details`
 * does not parse. */
SL_CHECK enum sl_status sl_rpc_details_encode(
    const struct sl_call_status *status, struct sl_arena *arena, struct sl_slice *ret_details);

/* What a google.rpc.Status says. Unknown details are skipped. */
struct sl_rpc_details {
    int32_t code;
    struct sl_slice message;
    struct sl_slice reason, domain; /* of the first ErrorInfo; empty: none */
    struct sl_metadatum *info;      /* ErrorInfo.metadata, in the order of the wire */
    size_t n_info;
    bool has_retry; /* RetryInfo */
    int64_t retry_delay_ms;
};

/* Slices point into `bytes`; `info` is in `arena`. Fails: SL_INTERNAL not a google.rpc.Status;
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_rpc_details_decode(
    struct sl_slice bytes, struct sl_arena *arena, struct sl_rpc_details *ret_details);

/* Client: HTTP status without grpc-status (ST-5). */
enum sl_status sl_rpc_status_of_http(unsigned http_status);
/* Client: RST_STREAM's code (ST-4). */
enum sl_status sl_rpc_status_of_reset(uint32_t h2_code);

#endif
