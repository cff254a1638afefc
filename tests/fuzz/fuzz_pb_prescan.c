/* Property: what the pre-scanner accepts, protobuf-c unpacks (unless over its budget of memory),
 * and what it gives is accepted again, unchanged. A message that was unpacked packs into something
 * that is accepted, too. */
#include <stdlib.h>

#include "proto/tests/unit/rpc_types.pb-c.h"
#include "service/rpc/codec.h"
#include "service/rpc/prescan.h"
#include "tests/fuzz/fuzz.h"

static const ProtobufCMessageDescriptor *const type = &sluice__test__plain__descriptor;

static void check_packed(
    const struct sl_limits *limits, const ProtobufCMessage *message, struct sl_arena *arena)
{
    const size_t size = sl_codec_proto.encoded_size(message);
    uint8_t *room = sl_arena_alloc(arena, size);
    struct sl_slice checked;
    if (room == NULL) {
        abort();
    }
    sl_codec_proto.encode(message, room);
    const struct sl_slice bytes = sl_slice_of(room, size);
    if (sl_prescan(limits, type, bytes, arena, &checked, NULL) != SL_OK ||
        !sl_slice_equal(checked, bytes)) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_limits limits;
    sl_limits_init(&limits);
    struct sl_arena arena;
    sl_arena_init(&arena, 0);
    const struct sl_slice bytes = sl_slice_of(data, size);
    struct sl_slice checked;
    struct sl_slice again;
    void *message;
    const enum sl_status scanned = sl_prescan(&limits, type, bytes, &arena, &checked, NULL);
    const enum sl_status decoded =
        sl_codec_proto.decode(&limits, type, bytes, &arena, &message, NULL);
    if (scanned != SL_OK) {
        if (decoded != scanned) {
            abort();
        }
    } else {
        if (sl_prescan(&limits, type, checked, &arena, &again, NULL) != SL_OK ||
            !sl_slice_equal(checked, again) || again.data != checked.data || checked.size > size) {
            abort();
        }
        if (decoded != SL_OK && decoded != SL_RESOURCE_EXHAUSTED) {
            abort();
        }
        if (decoded == SL_OK) {
            check_packed(&limits, message, &arena);
        }
    }
    sl_arena_done(&arena);
    return 0;
}
