/* Reads messages of sluice.test.Plain, each behind its length (4 bytes, big-endian), and answers
 * for each with one status byte and the message as protobuf-c packs it again, behind its length.
 * For prescan_python.py. */
#include <stdio.h>
#include <stdlib.h>

#include "proto/tests/unit/rpc_types.pb-c.h"
#include "service/rpc/codec.h"

enum { MAX_BYTES = 1 << 22 };

static bool read_message(uint8_t *room, size_t *ret_size)
{
    uint8_t head[4];
    if (fread(head, 1, sizeof(head), stdin) != sizeof(head)) {
        return false;
    }
    *ret_size = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
    return *ret_size <= MAX_BYTES && fread(room, 1, *ret_size, stdin) == *ret_size;
}

static bool answer(enum sl_status status, const uint8_t *bytes, size_t size)
{
    const uint8_t head[5] = { (uint8_t)status, (uint8_t)(size >> 24), (uint8_t)(size >> 16),
                              (uint8_t)(size >> 8), (uint8_t)size };
    return fwrite(head, 1, sizeof(head), stdout) == sizeof(head) &&
           fwrite(bytes, 1, size, stdout) == size;
}

static bool judge(const struct sl_limits *limits, const uint8_t *bytes, size_t size)
{
    struct sl_arena arena;
    sl_arena_init(&arena, 0);
    void *message;
    const enum sl_status status = sl_codec_proto.decode(
        limits, &sluice__test__plain__descriptor, sl_slice_of(bytes, size), &arena, &message, NULL);
    size_t packed_size = 0;
    uint8_t *packed = NULL;
    if (status == SL_OK) {
        packed_size = sl_codec_proto.encoded_size(message);
        packed = sl_arena_alloc(&arena, packed_size);
        if (packed == NULL) {
            abort();
        }
        sl_codec_proto.encode(message, packed);
    }
    const bool is_said = answer(status, packed == NULL ? bytes : packed, packed_size);
    sl_arena_done(&arena);
    return is_said;
}

int main(void)
{
    struct sl_limits limits;
    sl_limits_init(&limits);
    uint8_t *room = malloc(MAX_BYTES);
    size_t size;
    while (room != NULL && read_message(room, &size)) {
        if (!judge(&limits, room, size)) {
            break;
        }
    }
    free(room);
    return 0;
}
