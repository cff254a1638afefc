/* Properties: nothing above the limit comes out; what comes out can be packed and unpacked again;
 * any input survives packing and unpacking.
 *
 * Input: encoding and limit (1 byte), the bytes. */
#include <stdlib.h>

#include "service/rpc/compress.h"
#include "tests/fuzz/fuzz.h"

enum { BUFFER_BYTES = 1 << 22 };

static void check_round_trip(enum sl_encoding encoding, struct sl_slice plain)
{
    struct sl_buf packed;
    struct sl_buf back;
    sl_buf_init(&packed, BUFFER_BYTES);
    sl_buf_init(&back, BUFFER_BYTES);
    if (sl_compress(encoding, plain, &packed) != SL_OK ||
        sl_decompress(encoding, sl_buf_slice(&packed), plain.size, &back, NULL) != SL_OK ||
        !sl_slice_equal(sl_buf_slice(&back), plain)) {
        abort();
    }
    if (plain.size > 0 && encoding != SL_ENCODING_IDENTITY) {
        sl_buf_clear(&back);
        if (sl_decompress(encoding, sl_buf_slice(&packed), plain.size - 1, &back, NULL) !=
            SL_RESOURCE_EXHAUSTED) {
            abort();
        }
    }
    sl_buf_done(&packed);
    sl_buf_done(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > BUFFER_BYTES / 4) {
        return 0;
    }
    const enum sl_encoding encoding = (enum sl_encoding)(data[0] % 3);
    const size_t limit = (size_t)1 << (data[0] / 3 % 20);
    const struct sl_slice bytes = sl_slice_of(data + 1, size - 1);
    struct sl_buf out;
    sl_buf_init(&out, BUFFER_BYTES);
    const enum sl_status status = sl_decompress(encoding, bytes, limit, &out, NULL);
    if (out.size > limit ||
        (status != SL_OK && status != SL_INTERNAL && status != SL_RESOURCE_EXHAUSTED)) {
        abort();
    }
    if (status == SL_OK) {
        check_round_trip(encoding, sl_buf_slice(&out));
    }
    check_round_trip(encoding, bytes);
    sl_buf_done(&out);
    return 0;
}
