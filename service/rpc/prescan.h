/* The wire pre-scanner: looks at every inbound protobuf message before protobuf-c does, which
 * checks neither depth nor UTF-8 and refuses what other implementations skip (grpc.md 1.2, 1.3).
 *
 * No I/O, no recursion, no allocation unless bytes must be cut out or the depth limit is above
 * 128. */
#ifndef SL_SERVICE_RPC_PRESCAN_H
#define SL_SERVICE_RPC_PRESCAN_H

#include <protobuf-c/protobuf-c.h>

#include "runtime/base/arena.h"
#include "runtime/base/limits.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"

/* Checks `bytes` against `type` and gives what may be unpacked: the same bytes, or a copy in
 * `arena` without groups and without known fields of a wrong wire type (WS-5). Limits:
 * message_depth, message_tags. Fails: SL_INTERNAL not well-formed, too deep, or a string that is no
 * UTF-8 or holds NUL, with the path of the field; SL_RESOURCE_EXHAUSTED too many fields, or no
 * memory. */
SL_CHECK enum sl_status sl_prescan(
    const struct sl_limits *limits,
    const ProtobufCMessageDescriptor *type,
    struct sl_slice bytes,
    struct sl_arena *arena,
    struct sl_slice *ret_bytes,
    struct sl_error *err);

#endif
