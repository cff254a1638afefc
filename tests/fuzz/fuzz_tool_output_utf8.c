/* Property: whatever a tool writes, in whatever pieces, its text is clean, within the bound, the
 * same for any pieces, and the whole repaired text when nothing is cut; live output, put together,
 * is the repaired text. Bytes 0 to 2 of the input choose edge, limit and size of the pieces. */
#include <stdlib.h>

#include "runtime/base/mem.h"
#include "runtime/base/utf8.h"
#include "runtime/tool/output.h"
#include "tests/fuzz/fuzz.h"

enum { NOTE_BYTES = 64 };

static void must(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

static bool
take(struct sl_slice bytes, size_t edge, size_t max_bytes, size_t step, struct sl_buf *text)
{
    struct sl_output output;
    bool is_cut = false;
    sl_output_init(&output, edge);
    for (size_t at = 0; at < bytes.size; at += step) {
        const size_t left = bytes.size - at;
        must(
            sl_output_add(&output, sl_slice_of(bytes.data + at, left < step ? left : step)) ==
            SL_OK);
    }
    must(sl_output_text(&output, max_bytes, text, &is_cut) == SL_OK);
    sl_output_done(&output);
    return is_cut;
}

static void add_live(struct sl_slice text, void *user_data)
{
    must(text.size <= (size_t)3 * SL_OUTPUT_LIVE_BYTES && sl_utf8_is_clean(text));
    must(sl_buf_add(user_data, text) == SL_OK);
}

static void check_live(struct sl_slice bytes, size_t step, struct sl_slice expected)
{
    struct sl_output_live live = { 0 };
    struct sl_buf text;
    sl_buf_init(&text, expected.size + 1);
    for (size_t at = 0; at < bytes.size; at += step) {
        const size_t left = bytes.size - at;
        sl_output_live_add(
            &live, sl_slice_of(bytes.data + at, left < step ? left : step), false, add_live, &text);
    }
    sl_output_live_add(&live, (struct sl_slice){ 0 }, true, add_live, &text);
    must(sl_slice_equal(sl_buf_slice(&text), expected));
    sl_buf_done(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3) {
        return 0;
    }
    const size_t edge = 4 + data[0] % 60U;
    const size_t max_bytes = 4 + data[1];
    const size_t step = 1 + data[2];
    const struct sl_slice bytes = sl_slice_of(data + 3, size - 3);
    struct sl_buf one;
    struct sl_buf other;
    sl_buf_init(&one, 65536);
    sl_buf_init(&other, 65536);
    const bool is_cut = take(bytes, edge, max_bytes, step, &one);
    must(take(bytes, edge, max_bytes, bytes.size + 1, &other) == is_cut);
    must(sl_slice_equal(sl_buf_slice(&one), sl_buf_slice(&other)));
    must(sl_utf8_is_clean(sl_buf_slice(&one)));
    must(one.size <= 3 * max_bytes + NOTE_BYTES);
    must(is_cut == (bytes.size > max_bytes || bytes.size > 2 * edge));
    uint8_t *repaired = sl_alloc(sl_utf8_repaired_max(bytes.size));
    must(repaired != NULL);
    const struct sl_slice whole = sl_slice_of(repaired, sl_utf8_repair(bytes, repaired));
    must(is_cut || sl_slice_equal(sl_buf_slice(&one), whole));
    check_live(bytes, step, whole);
    sl_free(repaired);
    sl_buf_done(&one);
    sl_buf_done(&other);
    return 0;
}
