/* Property: a repaired text is valid, needs no second repair, and is the text itself when that was
 * valid; a valid text cut anywhere by sl_utf8_cut is valid on both sides. */
#include <stdlib.h>

#include "runtime/base/utf8.h"
#include "tests/fuzz/fuzz.h"

static void require(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

static bool is_valid(struct sl_slice text)
{
    struct sl_utf8 state = { 0 };
    return sl_utf8_feed(&state, text) == SL_OK && sl_utf8_finish(&state) == SL_OK;
}

static bool has_nul(struct sl_slice text)
{
    return text.size > 0 && memchr(text.data, 0, text.size) != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct sl_slice text = sl_slice_of(data, size);
    uint8_t *room = malloc(sl_utf8_repaired_max(size) + 1);
    uint8_t *again = malloc(3 * sl_utf8_repaired_max(size) + 1);
    require(room != NULL && again != NULL);
    const struct sl_slice repaired = sl_slice_of(room, sl_utf8_repair(text, room));
    require(repaired.size <= sl_utf8_repaired_max(size));
    require(is_valid(repaired) && !has_nul(repaired) && sl_utf8_is_clean(repaired));
    require(sl_slice_equal(repaired, sl_slice_of(again, sl_utf8_repair(repaired, again))));
    const bool is_clean = is_valid(text) && !has_nul(text);
    require(sl_utf8_is_clean(text) == is_clean);
    require(sl_slice_equal(text, repaired) == is_clean);
    for (size_t max = 0; max <= repaired.size + 1; max++) {
        const size_t cut = sl_utf8_cut(repaired, max);
        require(cut <= max && cut + 4 > (max < repaired.size ? max : repaired.size));
        require(max > 64 || is_valid(sl_slice_of(room, cut)));
        require(sl_utf8_cut(text, max) <= max);
    }
    free(room);
    free(again);
    return 0;
}
