#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "service/rpc/metadata.h"

static struct sl_arena arena;
static struct sl_metadata metadata;

static int setup(void **state)
{
    (void)state;
    sl_arena_init(&arena, 0);
    metadata = (struct sl_metadata){ 0 };
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sl_arena_done(&arena);
    return 0;
}

static enum sl_status add(const char *key, const char *value)
{
    return sl_metadata_add(&metadata, &arena, sl_slice_str(key), sl_slice_str(value));
}

static void repeated_keys_keep_their_order_md_1(void **state)
{
    (void)state;
    assert_int_equal(add("a", "1"), SL_OK);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(add("b_.-9", "x"), SL_OK);
    }
    assert_int_equal(add("a", "2"), SL_OK);
    struct sl_slice value;
    assert_true(sl_metadata_get(&metadata, "a", 0, &value));
    assert_true(sl_slice_equals(value, "1"));
    assert_true(sl_metadata_get(&metadata, "a", 1, &value));
    assert_true(sl_slice_equals(value, "2"));
    assert_false(sl_metadata_get(&metadata, "a", 2, &value));
    assert_false(sl_metadata_get(&metadata, "c", 0, &value));
    assert_int_equal(metadata.n_items, 22);
}

static void values_are_copies_with_a_length_md_4(void **state)
{
    (void)state;
    char value[] = { 'a', 0, (char)0xFF };
    assert_int_equal(
        sl_metadata_add(&metadata, &arena, sl_slice_str("x-bin"), sl_slice_of(value, 3)), SL_OK);
    value[0] = 'z';
    struct sl_slice back;
    assert_true(sl_metadata_get(&metadata, "x-bin", 0, &back));
    assert_int_equal(back.size, 3);
    assert_memory_equal(back.data, "a\0\xFF", 3);
}

static void reserved_and_illegal_keys_are_refused_md_5(void **state)
{
    (void)state;
    static const char *const bad[] = { "",
                                       "A",
                                       "grpc-status",
                                       ":path",
                                       "a b",
                                       "a\xE4",
                                       "te",
                                       "content-type",
                                       "connection",
                                       "host",
                                       "a:",
                                       "a\n",
                                       "content-length",
                                       "upgrade",
                                       "grpc-x-bin",
                                       "keep-alive",
                                       "transfer-encoding",
                                       "proxy-connection" };
    for (size_t i = 0; i < SL_COUNT(bad); i++) {
        assert_int_equal(add(bad[i], "x"), SL_INVALID_ARGUMENT);
    }
    assert_int_equal(add("grpc", "x"), SL_OK);
    assert_int_equal(add("user-agent", "x"), SL_OK);
    assert_int_equal(metadata.n_items, 2);
}

static void ascii_values_are_printable_md_3(void **state)
{
    (void)state;
    assert_int_equal(add("a", " ~"), SL_OK);
    assert_int_equal(add("a", ""), SL_OK);
    assert_int_equal(add("a", "\xC3\xA4"), SL_INVALID_ARGUMENT);
    assert_int_equal(add("a", "x\r\ny: z"), SL_INVALID_ARGUMENT);
    assert_int_equal(add("a", "\x7F"), SL_INVALID_ARGUMENT);
    assert_int_equal(add("-bin", "\xC3\xA4"), SL_OK);
}

static void a_full_arena_is_reported(void **state)
{
    (void)state;
    arena.max_bytes = 1;
    assert_int_equal(add("a", "b"), SL_RESOURCE_EXHAUSTED);
    assert_int_equal(metadata.n_items, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(repeated_keys_keep_their_order_md_1, setup, teardown),
        cmocka_unit_test_setup_teardown(values_are_copies_with_a_length_md_4, setup, teardown),
        cmocka_unit_test_setup_teardown(
            reserved_and_illegal_keys_are_refused_md_5, setup, teardown),
        cmocka_unit_test_setup_teardown(ascii_values_are_printable_md_3, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_arena_is_reported, setup, teardown),
    };
    return cmocka_run_group_tests_name("metadata", tests, NULL, NULL);
}
