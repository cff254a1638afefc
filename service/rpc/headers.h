/* Header lists of HTTP/2 to and from what gRPC means by them (grpc.md 2.3, 2.4). */
#ifndef SL_SERVICE_RPC_HEADERS_H
#define SL_SERVICE_RPC_HEADERS_H

#include "runtime/base/arena.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"
#include "service/h2/h2.h"
#include "service/rpc/compress.h"
#include "service/rpc/metadata.h"

/* ---- In -------------------------------------------------------------------------------------- */

/* The fields that the protocol itself uses. Slices point into the scanned fields; data NULL: not
 * there. The first of a repeated field counts. */
struct sl_headers {
    struct sl_slice method, scheme, path;
    struct sl_slice authority; /* :authority, else host (ADM-7) */
    struct sl_slice content_type, te, user_agent;
    struct sl_slice timeout;  /* grpc-timeout, not parsed */
    struct sl_slice encoding; /* grpc-encoding */
    struct sl_slice previous_attempts;
    struct sl_slice http_status, grpc_status, grpc_message, details, pushback; /* responses */
    sl_encoding_set accepted;                                                  /* FR-10 */
    size_t n_authorities; /* :authority fields; n_hosts: host (ADM-3) */
    size_t n_hosts;
    bool is_bad_base64; /* some -bin value does not decode (ADM-6) */
};

/* Sorts a list out. Allocates nothing, keeps nothing, never fails. */
void sl_headers_scan(
    const struct sl_h2_header *fields, size_t n_fields, struct sl_headers *ret_headers);

/* Appends copies of what is metadata: no pseudo-headers, connection-specific fields, te,
 * content-type, host, and no "grpc-" but the four of ADM-17. -bin values are split at commas and
 * decoded (MD-1, MD-2); ASCII values lose outer spaces and tabs (MD-3). Keys with bytes outside
 * [0-9a-z_.-] are dropped. Fails: SL_INTERNAL base64; SL_RESOURCE_EXHAUSTED the arena. */
SL_CHECK enum sl_status sl_headers_decode_metadata(
    const struct sl_h2_header *fields,
    size_t n_fields,
    struct sl_arena *arena,
    struct sl_metadata *metadata);

/* One base64 value (not a list), in the arena: grpc-status-details-bin. Fails: SL_INTERNAL;
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_headers_decode_bin(struct sl_slice text, struct sl_arena *arena, struct sl_slice *ret_bytes);

enum sl_content_type {
    SL_CONTENT_GRPC,       /* application/grpc, or +proto; subtype is "proto" */
    SL_CONTENT_GRPC_OTHER, /* application/grpc+X: ADM-5 */
    SL_CONTENT_NOT_GRPC    /* ADM-4 */
};
/* Without case, parameters ignored. `*ret_subtype`: X, or "proto". */
enum sl_content_type sl_headers_content_type(struct sl_slice value, struct sl_slice *ret_subtype);

/* What of a received value may be sent back: without outer blanks; empty when a byte is outside
 * 0x20-0x7E (AT-20). */
struct sl_slice sl_headers_sendable(struct sl_slice value);

/* ---- Out ------------------------------------------------------------------------------------- */

/* A list that is being made, in an arena. All zero is empty. */
struct sl_header_list {
    struct sl_h2_header *items;
    size_t n_items, capacity;
};

/* Appends without copying: name and value must live as long as the list. Fails:
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_header_list_add(
    struct sl_header_list *list, struct sl_arena *arena, const char *name, struct sl_slice value);
/* The same with base64 of `bytes`, unpadded (MD-2). */
SL_CHECK enum sl_status sl_header_list_add_bin(
    struct sl_header_list *list, struct sl_arena *arena, const char *name, struct sl_slice bytes);
/* Appends metadata as it goes onto the wire: -bin in base64, ASCII values trimmed and every byte
 * outside 0x20-0x7E replaced by '?' (MD-3); authorization, cookies and API keys are secret (NG-17).
 * Names and clean values are borrowed. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_header_list_add_metadata(
    struct sl_header_list *list,
    struct sl_arena *arena,
    const struct sl_metadatum *items,
    size_t n_items);
/* Sum of name + value + 32, as SETTINGS_MAX_HEADER_LIST_SIZE counts (RS-9). */
size_t sl_header_list_bytes(const struct sl_header_list *list);

#endif
