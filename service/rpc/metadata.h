/* Metadata: the custom headers and trailers of a call (grpc.md 2.4). Keys are lower case; repeated
 * keys keep their order; "-bin" values are raw bytes here and base64 on the wire. */
#ifndef SL_SERVICE_RPC_METADATA_H
#define SL_SERVICE_RPC_METADATA_H

#include "runtime/base/arena.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"

struct sl_metadatum {
    struct sl_slice key, value;
};

/* An ordered list in an arena. All zero is an empty list. */
struct sl_metadata {
    struct sl_metadatum *items;
    size_t n_items, capacity;
};

/* Appends a copy. Fails: SL_INVALID_ARGUMENT a key that is not [0-9a-z_.-]+, begins "grpc-", is a
 * pseudo-header or connection-specific (MD-5), or an ASCII value with bytes outside 0x20-0x7E;
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_metadata_add(
    struct sl_metadata *metadata,
    struct sl_arena *arena,
    struct sl_slice key,
    struct sl_slice value);
/* What sl_metadata_add() checks, without adding. */
SL_CHECK enum sl_status sl_metadata_check(struct sl_slice key, struct sl_slice value);
// install: off
/* Appends a copy of what a peer sent, unchecked; key and value are terminated in the arena. Fails:
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_metadata_append(
    struct sl_metadata *metadata,
    struct sl_arena *arena,
    struct sl_slice key,
    struct sl_slice value);
// install: on
/* The value of the n-th entry with this key (0: the first); false: there is none. */
bool sl_metadata_get(
    const struct sl_metadata *metadata, const char *key, size_t n, struct sl_slice *ret_value);

#endif
