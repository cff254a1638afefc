/* A message format (EM-5). protobuf-c is the built-in one, behind a scanner that refuses what would
 * cost too much to decode. */
#ifndef SL_SERVICE_RPC_CODEC_H
#define SL_SERVICE_RPC_CODEC_H

#include "runtime/base/arena.h"
#include "runtime/base/limits.h"
#include "runtime/base/status.h"

/* `type` is the method table's. All functions: any thread, no state. */
struct sl_codec {
    size_t struct_size;
    const char *subtype; /* "proto" */
    /* Checks and decodes; the message lives in `arena`. Fails: SL_INTERNAL; SL_RESOURCE_EXHAUSTED.
     */
    enum sl_status (*decode)(
        const struct sl_limits *limits,
        const void *type,
        struct sl_slice bytes,
        struct sl_arena *arena,
        void **ret_message,
        struct sl_error *err);
    size_t (*encoded_size)(const void *message);
    /* Writes exactly encoded_size() bytes at `room`. */
    void (*encode)(const void *message, uint8_t *room);
    /* An initialised message in the arena. NULL: no memory. */
    void *(*create)(const void *type, struct sl_arena *arena);
};

// install: off
extern const struct sl_codec sl_codec_proto;
// install: on

#endif
