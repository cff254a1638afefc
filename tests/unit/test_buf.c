#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/buf.h"
#include "runtime/base/mem.h"

static void content_grows_up_to_the_maximum_and_no_further(void **state)
{
    (void)state;
    struct sl_buf buf;
    sl_buf_init(&buf, 1000);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(sl_buf_add_byte(&buf, (uint8_t)i), SL_OK);
    }
    assert_int_equal(sl_buf_add_byte(&buf, 0), SL_RESOURCE_EXHAUSTED);
    assert_int_equal(sl_buf_addf(&buf, "%s", "x"), SL_RESOURCE_EXHAUSTED);
    assert_int_equal(sl_buf_add(&buf, sl_slice_of(NULL, 0)), SL_OK);
    assert_int_equal(buf.size, 1000);
    assert_true(buf.capacity <= 1001);
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(buf.data[i], i & 0xFF);
    }
    assert_non_null(sl_buf_cstr(&buf)); /* the terminator is not counted */
    sl_buf_done(&buf);
    sl_buf_done(&buf);
}

static void text_can_be_formatted_and_taken(void **state)
{
    (void)state;
    struct sl_buf buf;
    sl_buf_init(&buf, SIZE_MAX);
    assert_int_equal(sl_buf_addf(&buf, "%d-%s", 12, "ab"), SL_OK);
    assert_int_equal(sl_buf_add_str(&buf, "!"), SL_OK);
    assert_int_equal(sl_buf_addf(&buf, "%s", ""), SL_OK);
    assert_string_equal(sl_buf_cstr(&buf), "12-ab!");
    char *text = sl_buf_take(&buf);
    assert_string_equal(text, "12-ab!");
    assert_int_equal(sl_buf_slice(&buf).size, 0);
    sl_free(text);
    assert_string_equal(sl_buf_cstr(&buf), ""); /* it is usable again */
    sl_buf_done(&buf);
}

static void consumed_bytes_go_from_the_front(void **state)
{
    (void)state;
    struct sl_buf buf;
    uint8_t *room = NULL;
    sl_buf_init(&buf, 100);
    assert_int_equal(sl_buf_reserve(&buf, 10, &room), SL_OK);
    for (uint8_t i = 0; i < 10; i++) {
        room[i] = '0' + i;
    }
    sl_buf_commit(&buf, 8);
    sl_buf_consume(&buf, 3);
    assert_true(sl_slice_equals(sl_buf_slice(&buf), "34567"));
    sl_buf_consume(&buf, 0);
    sl_buf_consume(&buf, 5);
    assert_int_equal(buf.size, 0);
    assert_int_equal(sl_buf_reserve(&buf, 100, &room), SL_OK);
    assert_int_equal(sl_buf_reserve(&buf, 101, &room), SL_RESOURCE_EXHAUSTED);
    assert_int_equal(sl_buf_reserve(&buf, SIZE_MAX, &room), SL_RESOURCE_EXHAUSTED);
    sl_buf_clear(&buf);
    sl_buf_done(&buf);
}

static bool refuse_all(size_t size)
{
    (void)size;
    return false;
}

static void without_memory_the_content_stays(void **state)
{
    (void)state;
    struct sl_buf buf;
    sl_buf_init(&buf, 1000);
    assert_int_equal(sl_buf_add_str(&buf, "abc"), SL_OK);
    char large[500] = { 0 };
    sl_mem_set_gate(refuse_all);
    assert_int_equal(sl_buf_add(&buf, sl_slice_of(large, sizeof(large))), SL_RESOURCE_EXHAUSTED);
    assert_int_equal(sl_buf_addf(&buf, "%500d", 1), SL_RESOURCE_EXHAUSTED);
    sl_mem_set_gate(NULL);
    assert_string_equal(sl_buf_cstr(&buf), "abc");
    sl_buf_done(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(content_grows_up_to_the_maximum_and_no_further),
        cmocka_unit_test(text_can_be_formatted_and_taken),
        cmocka_unit_test(consumed_bytes_go_from_the_front),
        cmocka_unit_test(without_memory_the_content_stays),
    };
    return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
