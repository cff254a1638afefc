/* What the server and the client of connectconformance share: messages behind a length on stdin and
 * stdout, and headers, errors and details as the judge spells them.
 *
 * Everything that these functions give lives in the arena that they were given. */
#ifndef SL_TESTS_JUDGE_CONFORMANCE_COMMON_H
#define SL_TESTS_JUDGE_CONFORMANCE_COMMON_H

#include <connectrpc/conformance/v1/service.pb-c.h>

#include "runtime/base/arena.h"
#include "runtime/base/buf.h"
#include "service/rpc/metadata.h"

typedef Connectrpc__Conformance__V1__Header judge_header;
typedef Connectrpc__Conformance__V1__Error judge_error;
typedef Google__Protobuf__Any judge_any;

enum { JUDGE_MESSAGE_MAX = 16 * 1024 * 1024 };

/* Headers as the judge writes them: one entry for each name, with its values in order. */
struct judge_headers {
    judge_header **items;
    size_t n_items;
};

/* Reads one message: 4 bytes of length (big-endian), then the message. SL_OK; SL_END no further
 * one. Fails: SL_UNAVAILABLE the descriptor or a length over the maximum; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status judge_read(int fd, struct sl_buf *ret_message);
/* Writes one. Fails: SL_UNAVAILABLE, SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status judge_write(int fd, const ProtobufCMessage *message);

/* -bin values become base64. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status judge_headers_of(
    const struct sl_metadata *metadata, struct sl_arena *arena, struct judge_headers *ret_headers);
/* The reverse: -bin values are decoded; one that is no base64 is taken as it is. Fails: as
 * sl_metadata_add(). */
SL_CHECK enum sl_status judge_metadata_of(
    judge_header *const *headers,
    size_t n_headers,
    struct sl_arena *arena,
    struct sl_metadata *ret_metadata);

/* An Any of `message`. NULL: no memory. */
judge_any *judge_pack(const ProtobufCMessage *message, struct sl_arena *arena);
/* An Any of what was received already encoded; copies `bytes`. NULL: no memory. */
judge_any *
judge_any_of(const ProtobufCMessageDescriptor *type, struct sl_slice bytes, struct sl_arena *arena);

/* google.rpc.Status with the details of `error` and, when `extra` is not NULL, that one more.
 * Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status judge_details_of(
    const judge_error *error,
    judge_any *extra,
    struct sl_arena *arena,
    struct sl_slice *ret_details);

/* The PEM text of a bytes field. NULL: no memory. */
char *judge_text_of(ProtobufCBinaryData bytes, struct sl_arena *arena);

/* For protobuf-c: what it unpacks lives in the arena. */
ProtobufCAllocator judge_allocator(struct sl_arena *arena);

#endif
