#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"

static void sizes_that_overflow_are_refused(void **state)
{
    (void)state;
    volatile size_t huge = SIZE_MAX / 2 + 2;
    assert_null(sl_calloc(huge, 2));
    assert_null(sl_strndup("x", SIZE_MAX));
}

static void nothing_is_a_valid_block(void **state)
{
    (void)state;
    void *block = sl_alloc(0);
    assert_non_null(block);
    void *larger = sl_realloc(block, 0);
    assert_non_null(larger);
    assert_null(sl_free(larger));
    char *zeros = sl_calloc(0, 8);
    assert_non_null(zeros);
    assert_null(sl_free(zeros));
    assert_null(sl_free(NULL));
}

static void copies_are_terminated(void **state)
{
    (void)state;
    char *a = sl_strdup("abc");
    char *b = sl_strndup("abc", 2);
    char *c = sl_strndup(NULL, 0);
    assert_string_equal(a, "abc");
    assert_string_equal(b, "ab");
    assert_string_equal(c, "");
    char *taken = SL_TAKE(a);
    assert_null(a);
    sl_free(taken);
    sl_free(b);
    sl_free(c);
}

static size_t largest;

static bool allow_small(size_t size)
{
    return size <= largest;
}

static void the_gate_makes_allocations_fail(void **state)
{
    (void)state;
    largest = 10;
    sl_mem_set_gate(allow_small);
    assert_null(sl_alloc(11));
    assert_null(sl_calloc(1, 11));
    assert_null(sl_realloc(NULL, 11));
    char *block = sl_alloc(10);
    assert_non_null(block);
    sl_mem_set_gate(NULL);
    block = sl_realloc(block, 100);
    assert_non_null(block);
    sl_free(block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(nothing_is_a_valid_block),
        cmocka_unit_test(copies_are_terminated),
        cmocka_unit_test(the_gate_makes_allocations_fail),
    };
    return cmocka_run_group_tests_name("mem", tests, NULL, NULL);
}
