#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/random.h"
#include "service/rpc/chain.h"

enum { BYTES = 1 << 18 };

static void what_goes_in_comes_out_in_order(void **state)
{
    (void)state;
    static uint8_t in[BYTES];
    static uint8_t out[BYTES];
    struct sl_chain chain = { 0 };
    struct sl_chain_pool pool = { 0 };
    uint64_t seed = 7;
    size_t n_in = 0;
    size_t n_out = 0;
    for (size_t i = 0; i < BYTES; i++) {
        in[i] = (uint8_t)sl_random_next(&seed);
    }
    while (n_out < BYTES) {
        size_t n = (size_t)(sl_random_next(&seed) % 3000);
        n = n > BYTES - n_in ? BYTES - n_in : n;
        if (sl_random_next(&seed) % 2 == 0) {
            assert_int_equal(sl_chain_add(&chain, &pool, sl_slice_of(in + n_in, n)), SL_OK);
        } else {
            uint8_t *room = sl_chain_reserve(&chain, &pool, n + 10);
            assert_non_null(room);
            memcpy(room, in + n_in, n);
            sl_chain_commit(&chain, n);
        }
        n_in += n;
        assert_int_equal(chain.size, n_in - n_out);
        n = (size_t)(sl_random_next(&seed) % 2900);
        n = n > chain.size ? chain.size : n;
        sl_chain_take(&chain, &pool, out + n_out, n);
        n_out += n;
    }
    assert_memory_equal(in, out, BYTES);
    assert_int_equal(sl_chain_peek(&chain).size, 0);
    sl_chain_done(&chain, &pool);
    sl_chain_pool_done(&pool);
}

static void small_blocks_are_used_again(void **state)
{
    (void)state;
    struct sl_chain chain = { 0 };
    struct sl_chain_pool pool = { 0 };
    assert_int_equal(sl_chain_add(&chain, &pool, sl_slice_str("one")), SL_OK);
    const uint8_t *first = sl_chain_peek(&chain).data;
    assert_int_equal(pool.n_blocks, 0);
    sl_chain_skip(&chain, &pool, 3);
    assert_int_equal(pool.n_blocks, 1);
    assert_int_equal(sl_chain_add(&chain, &pool, sl_slice_str("two")), SL_OK);
    assert_ptr_equal(sl_chain_peek(&chain).data, first);
    assert_true(sl_slice_equals(sl_chain_peek(&chain), "two"));
    sl_chain_done(&chain, &pool);
    sl_chain_pool_done(&pool);
    assert_int_equal(pool.n_blocks, 0);
}

static void unused_room_is_given_back(void **state)
{
    (void)state;
    struct sl_chain chain = { 0 };
    struct sl_chain_pool pool = { 0 };
    assert_non_null(sl_chain_reserve(&chain, &pool, 100000));
    assert_int_equal(chain.size, 0);
    assert_int_equal(sl_chain_peek(&chain).size, 0);
    assert_int_equal(sl_chain_add(&chain, &pool, sl_slice_str("x")), SL_OK);
    assert_true(sl_slice_equals(sl_chain_peek(&chain), "x"));
    sl_chain_done(&chain, &pool);
    sl_chain_pool_done(&pool);
}

static bool refuse(size_t size)
{
    (void)size;
    return false;
}

static void without_memory_nothing_changes(void **state)
{
    (void)state;
    static uint8_t block[5000];
    struct sl_chain chain = { 0 };
    struct sl_chain_pool pool = { 0 };
    assert_int_equal(sl_chain_add(&chain, &pool, sl_slice_str("held")), SL_OK);
    sl_mem_set_gate(refuse);
    const enum sl_status status = sl_chain_add(&chain, &pool, sl_slice_of(block, sizeof(block)));
    const uint8_t *room = sl_chain_reserve(&chain, &pool, sizeof(block));
    sl_mem_set_gate(NULL);
    assert_int_equal(status, SL_RESOURCE_EXHAUSTED);
    assert_null(room);
    assert_true(sl_slice_equals(sl_chain_peek(&chain), "held"));
    assert_int_equal(chain.size, 4);
    sl_chain_done(&chain, &pool);
    sl_chain_pool_done(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_goes_in_comes_out_in_order),
        cmocka_unit_test(small_blocks_are_used_again),
        cmocka_unit_test(unused_room_is_given_back),
        cmocka_unit_test(without_memory_nothing_changes),
    };
    return cmocka_run_group_tests_name("chain", tests, NULL, NULL);
}
