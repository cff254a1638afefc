#include "runtime/store/pairs.h"

/* Keys and values in turn, each with its NUL: neither has one inside. */

enum sl_status
sl_store_pairs_write(struct sl_buf *buf, const struct sl_store_pair *pairs, size_t n_pairs)
{
    for (size_t i = 0; i < n_pairs; i++) {
        SL_TRY(sl_buf_add(buf, sl_slice_of(pairs[i].key, strlen(pairs[i].key) + 1)));
        SL_TRY(sl_buf_add(buf, sl_slice_of(pairs[i].value, strlen(pairs[i].value) + 1)));
    }
    return SL_OK;
}

enum sl_status sl_store_pairs_read(
    struct sl_slice block,
    struct sl_arena *arena,
    const struct sl_store_pair **ret_pairs,
    size_t *ret_n_pairs)
{
    size_t n_texts = 0;
    for (size_t i = 0; i < block.size; i++) {
        n_texts += block.data[i] == 0 ? 1 : 0;
    }
    if (n_texts % 2 != 0 || (block.size > 0 && block.data[block.size - 1] != 0)) {
        return SL_DATA_LOSS;
    }
    if (n_texts == 0) {
        *ret_pairs = NULL;
        *ret_n_pairs = 0;
        return SL_OK;
    }
    struct sl_store_pair *pairs = sl_arena_calloc(arena, n_texts / 2, sizeof(*pairs));
    const char *text = sl_arena_dup(arena, block);
    if (pairs == NULL || text == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < n_texts / 2; i++) {
        pairs[i].key = text;
        text += strlen(text) + 1;
        pairs[i].value = text;
        text += strlen(text) + 1;
    }
    *ret_pairs = pairs;
    *ret_n_pairs = n_texts / 2;
    return SL_OK;
}
