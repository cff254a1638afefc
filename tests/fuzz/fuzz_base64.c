/* Property: what is encoded is decoded to the same bytes, and a text that is decoded is, but for
 * its padding, what its bytes encode to: no two texts mean the same. */
#include <stdlib.h>

#include "runtime/base/base64.h"
#include "tests/fuzz/fuzz.h"

static void require(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

/* Exactly as large as promised, so that AddressSanitizer sees a byte too many. */
static void *make_room(size_t size)
{
    void *room = malloc(size == 0 ? 1 : size);
    require(room != NULL);
    return room;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t decoded_size = 0;
    char *text = make_room(sl_base64_size(size));
    sl_base64_encode(sl_slice_of(data, size), text);
    uint8_t *back = make_room(sl_base64_size(size) * 3 / 4);
    require(
        sl_base64_decode(sl_slice_of(text, sl_base64_size(size)), back, &decoded_size) == SL_OK);
    require(sl_slice_equal(sl_slice_of(data, size), sl_slice_of(back, decoded_size)));
    free(text);
    free(back);

    uint8_t *decoded = make_room(size * 3 / 4);
    if (sl_base64_decode(sl_slice_of(data, size), decoded, &decoded_size) == SL_OK) {
        const size_t text_size = sl_base64_size(decoded_size);
        char *again = make_room(text_size);
        sl_base64_encode(sl_slice_of(decoded, decoded_size), again);
        require(text_size <= size && size - text_size <= 2);
        require(text_size == 0 || memcmp(again, data, text_size) == 0);
        for (size_t i = text_size; i < size; i++) {
            require(data[i] == '=');
        }
        free(again);
    }
    free(decoded);
    return 0;
}
