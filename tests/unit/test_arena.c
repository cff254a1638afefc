#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/arena.h"
#include "runtime/base/mem.h"

static void blocks_are_aligned_and_do_not_overlap(void **state)
{
    (void)state;
    struct sl_arena arena = { .max_bytes = 0 };
    uint8_t *blocks[500];
    for (size_t i = 0; i < SL_COUNT(blocks); i++) {
        const size_t size = i * 37 % 3000;
        blocks[i] = sl_arena_alloc(&arena, size);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        memset(blocks[i], (int)(i & 0xFF), size);
    }
    for (size_t i = 0; i < SL_COUNT(blocks); i++) {
        for (size_t k = 0; k < i * 37 % 3000; k++) {
            assert_int_equal(blocks[i][k], i & 0xFF);
        }
    }
    sl_arena_done(&arena);
    assert_int_equal(arena.used_bytes, 0);
}

static void the_maximum_is_never_exceeded(void **state)
{
    (void)state;
    struct sl_arena arena;
    sl_arena_init(&arena, 10000);
    size_t total = 0;
    while (sl_arena_alloc(&arena, 100) != NULL) {
        total += 100;
        assert_true(arena.used_bytes <= 10000);
    }
    assert_true(arena.is_refused);
    assert_true(total > 8000); /* and nearly all of it can be used */
    sl_arena_done(&arena);
    assert_false(arena.is_refused);
    assert_null(sl_arena_alloc(&arena, 10000));
    void *small = sl_arena_alloc(&arena, 1);
    assert_non_null(small);
    sl_arena_done(&arena);
}

static void a_large_request_does_not_waste_the_block_before_it(void **state)
{
    (void)state;
    struct sl_arena arena = { .max_bytes = 0 };
    char *a = sl_arena_alloc(&arena, 16);
    void *large = sl_arena_alloc(&arena, 1000000);
    char *b = sl_arena_alloc(&arena, 16);
    assert_non_null(large);
    assert_ptr_equal(b, a + 16);
    sl_arena_done(&arena);
}

/* What an idle stream may cost (performance.md 4) leaves no room for empty blocks. */
static void little_takes_little_and_blocks_double(void **state)
{
    (void)state;
    struct sl_arena arena = { .max_bytes = 0 };
    assert_non_null(sl_arena_alloc(&arena, 16));
    assert_true(arena.used_bytes <= 256);
    for (size_t used = 16; used < 100000; used += 16) {
        assert_non_null(sl_arena_alloc(&arena, 16));
        assert_true(arena.used_bytes <= 256 + 2 * used + used / 4);
    }
    sl_arena_done(&arena);
}

static void impossible_sizes_are_refused(void **state)
{
    (void)state;
    struct sl_arena arena = { .max_bytes = 0 };
    assert_null(sl_arena_alloc(&arena, SIZE_MAX));
    assert_null(sl_arena_alloc(&arena, SIZE_MAX - 20));
    assert_null(sl_arena_calloc(&arena, SIZE_MAX / 2, 3));
    assert_null(sl_arena_dup(&arena, sl_slice_of("x", SIZE_MAX)));
    assert_true(arena.is_refused);
    sl_arena_done(&arena);
}

static void copies_are_terminated_and_cleared_blocks_are_clear(void **state)
{
    (void)state;
    struct sl_arena arena = { .max_bytes = 4096 };
    assert_string_equal(sl_arena_dup(&arena, sl_slice_of("abc", 2)), "ab");
    assert_string_equal(sl_arena_dup(&arena, sl_slice_of(NULL, 0)), "");
    const uint8_t *zeros = sl_arena_calloc(&arena, 10, 10);
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(zeros[i], 0);
    }
    sl_arena_done(&arena);
}

static bool refuse_all(size_t size)
{
    (void)size;
    return false;
}

static void without_memory_it_is_refused(void **state)
{
    (void)state;
    struct sl_arena arena = { .max_bytes = 4096 };
    sl_mem_set_gate(refuse_all);
    assert_null(sl_arena_alloc(&arena, 1));
    sl_mem_set_gate(NULL);
    assert_true(arena.is_refused);
    assert_int_equal(arena.used_bytes, 0);
    sl_arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_aligned_and_do_not_overlap),
        cmocka_unit_test(the_maximum_is_never_exceeded),
        cmocka_unit_test(a_large_request_does_not_waste_the_block_before_it),
        cmocka_unit_test(little_takes_little_and_blocks_double),
        cmocka_unit_test(impossible_sizes_are_refused),
        cmocka_unit_test(copies_are_terminated_and_cleared_blocks_are_clear),
        cmocka_unit_test(without_memory_it_is_refused),
    };
    return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
