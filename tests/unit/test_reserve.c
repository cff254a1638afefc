#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/reserve.h"

static bool refuse_all(size_t size)
{
    (void)size;
    return false;
}

static void blocks_come_from_the_reserve_and_go_back(void **state) /* NG-21 */
{
    (void)state;
    struct sl_reserve reserve = { 0 };
    assert_null(sl_reserve_alloc(&reserve, 1, 0));
    assert_int_equal(sl_reserve_fill(&reserve), SL_OK);
    sl_mem_set_gate(refuse_all);
    uint8_t *first = sl_reserve_alloc(&reserve, 100, 0);
    uint8_t *second = sl_reserve_alloc(&reserve, 0, 0);
    sl_mem_set_gate(NULL);
    assert_non_null(first);
    assert_non_null(second);
    assert_int_equal((uintptr_t)first % 16, 0);
    assert_true(sl_reserve_size(first) >= 100);
    memset(first, 1, sl_reserve_size(first));
    assert_true(sl_reserve_has(&reserve, first));
    assert_false(sl_reserve_has(&reserve, &reserve));
    assert_false(sl_reserve_has(&reserve, NULL));
    sl_reserve_free(&reserve, first);
    sl_reserve_free(&reserve, second);
    assert_int_equal(reserve.free_bytes, SL_RESERVE_BYTES);
    sl_reserve_done(&reserve);
}

static void what_comes_in_leaves_room_for_the_ends(void **state) /* NG-21 */
{
    (void)state;
    struct sl_reserve reserve = { 0 };
    void *blocks[SL_RESERVE_BYTES / 1024];
    size_t n = 0;
    assert_int_equal(sl_reserve_fill(&reserve), SL_OK);
    while ((blocks[n] = sl_reserve_alloc(&reserve, 1000, SL_RESERVE_FOR_ENDS)) != NULL) {
        n++;
    }
    assert_in_range(reserve.free_bytes, SL_RESERVE_FOR_ENDS, SL_RESERVE_FOR_ENDS + 1024);
    void *end = sl_reserve_alloc(&reserve, 1000, 0);
    assert_non_null(end);
    sl_reserve_free(&reserve, end);
    while (n > 0) {
        sl_reserve_free(&reserve, blocks[--n]);
    }
    sl_reserve_done(&reserve);
}

static void a_reserve_in_use_is_filled_with_another_piece(void **state) /* NG-21 */
{
    (void)state;
    struct sl_reserve reserve = { 0 };
    assert_int_equal(sl_reserve_fill(&reserve), SL_OK);
    void *lasting = sl_reserve_alloc(&reserve, 20000, 0);
    sl_mem_set_gate(refuse_all);
    assert_int_equal(sl_reserve_fill(&reserve), SL_RESOURCE_EXHAUSTED);
    sl_mem_set_gate(NULL);
    assert_int_equal(sl_reserve_fill(&reserve), SL_OK);
    assert_int_equal(reserve.n_pieces, 2);
    sl_reserve_free(&reserve, lasting);
    assert_int_equal(reserve.n_pieces, 1);
    assert_int_equal(reserve.free_bytes, SL_RESERVE_BYTES);
    sl_reserve_done(&reserve);
}

static void the_number_of_pieces_is_bounded(void **state)
{
    (void)state;
    struct sl_reserve reserve = { 0 };
    void *blocks[SL_RESERVE_PIECES];
    for (size_t i = 0; i < SL_RESERVE_PIECES; i++) {
        assert_int_equal(sl_reserve_fill(&reserve), SL_OK);
        blocks[i] = sl_reserve_alloc(&reserve, SL_RESERVE_BYTES - 1024, 0);
        assert_non_null(blocks[i]);
    }
    assert_int_equal(sl_reserve_fill(&reserve), SL_RESOURCE_EXHAUSTED);
    for (size_t i = 0; i < SL_RESERVE_PIECES; i++) {
        sl_reserve_free(&reserve, blocks[i]);
    }
    assert_int_equal(reserve.n_pieces, 1);
    sl_reserve_done(&reserve);
}

/* Blocks of all sizes in a changing order never overlap, and all comes back. */
static void blocks_keep_their_bytes(void **state)
{
    (void)state;
    struct sl_reserve reserve = { 0 };
    uint8_t *blocks[64] = { 0 };
    size_t sizes[64] = { 0 };
    uint32_t seed = 1;
    assert_int_equal(sl_reserve_fill(&reserve), SL_OK);
    for (size_t round = 0; round < 20000; round++) {
        seed = seed * 1103515245 + 12345;
        const size_t i = (seed >> 16) % 64;
        if (blocks[i] == NULL) {
            sizes[i] = (seed >> 8) % 1500;
            blocks[i] = sl_reserve_alloc(&reserve, sizes[i], 0);
            if (blocks[i] != NULL) {
                memset(blocks[i], (int)i, sizes[i]);
            }
        } else {
            for (size_t k = 0; k < sizes[i]; k++) {
                assert_int_equal(blocks[i][k], i);
            }
            sl_reserve_free(&reserve, blocks[i]);
            blocks[i] = NULL;
        }
    }
    for (size_t i = 0; i < 64; i++) {
        if (blocks[i] != NULL) {
            sl_reserve_free(&reserve, blocks[i]);
        }
    }
    assert_int_equal(reserve.free_bytes, SL_RESERVE_BYTES);
    void *whole = sl_reserve_alloc(&reserve, SL_RESERVE_BYTES - 16, 0);
    assert_non_null(whole);
    sl_reserve_free(&reserve, whole);
    sl_reserve_done(&reserve);
}

static void free_neighbours_become_one_block(void **state)
{
    (void)state;
    struct sl_reserve reserve = { 0 };
    void *blocks[16];
    assert_int_equal(sl_reserve_fill(&reserve), SL_OK);
    for (size_t i = 0; i < 16; i++) {
        blocks[i] = sl_reserve_alloc(&reserve, SL_RESERVE_BYTES / 16 - 16, 0);
        assert_non_null(blocks[i]);
    }
    for (size_t i = 0; i < 15; i++) {
        sl_reserve_free(&reserve, blocks[i]);
    }
    void *large = sl_reserve_alloc(&reserve, SL_RESERVE_BYTES / 16 * 15 - 16, 0);
    assert_non_null(large);
    sl_reserve_free(&reserve, large);
    sl_reserve_free(&reserve, blocks[15]);
    sl_reserve_done(&reserve);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_come_from_the_reserve_and_go_back),
        cmocka_unit_test(what_comes_in_leaves_room_for_the_ends),
        cmocka_unit_test(a_reserve_in_use_is_filled_with_another_piece),
        cmocka_unit_test(the_number_of_pieces_is_bounded),
        cmocka_unit_test(blocks_keep_their_bytes),
        cmocka_unit_test(free_neighbours_become_one_block),
    };
    return cmocka_run_group_tests_name("reserve", tests, NULL, NULL);
}
