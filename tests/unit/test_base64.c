#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/base64.h"

static void the_vectors_of_rfc_4648_hold(void **state)
{
    (void)state;
    static const char *const plain[] = { "", "f", "fo", "foo", "foob", "fooba", "foobar" };
    static const char *const coded[] = { "", "Zg", "Zm8", "Zm9v", "Zm9vYg", "Zm9vYmE", "Zm9vYmFy" };
    static const char *const padded[] = { "",         "Zg==",     "Zm8=",    "Zm9v",
                                          "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy" };
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
        char room[16] = { 0 };
        uint8_t back[16] = { 0 };
        size_t size = 0;
        assert_int_equal(sl_base64_size(strlen(plain[i])), strlen(coded[i]));
        sl_base64_encode(sl_slice_str(plain[i]), room);
        assert_string_equal(room, coded[i]);
        assert_int_equal(sl_base64_decode(sl_slice_str(coded[i]), back, &size), SL_OK);
        assert_true(sl_slice_equals(sl_slice_of(back, size), plain[i]));
        assert_int_equal(sl_base64_decode(sl_slice_str(padded[i]), back, &size), SL_OK);
        assert_true(sl_slice_equals(sl_slice_of(back, size), plain[i]));
    }
}

static void every_byte_comes_back(void **state)
{
    (void)state;
    uint8_t bytes[256];
    for (size_t size = 0; size <= sizeof(bytes); size++) {
        char room[400];
        uint8_t back[300];
        size_t back_size = 0;
        for (size_t i = 0; i < size; i++) {
            bytes[i] = (uint8_t)(i * 7 + size);
        }
        sl_base64_encode(sl_slice_of(bytes, size), room);
        assert_int_equal(
            sl_base64_decode(sl_slice_of(room, sl_base64_size(size)), back, &back_size), SL_OK);
        assert_int_equal(back_size, size);
        assert_memory_equal(back, bytes, size);
    }
}

static void wrong_text_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = { "A",     "AAAAA",  "Zg=",  "Z===",  "=",      "==",   "====",
                                       "Zg==A", "Zh",     "Zm9",  "Zh==",  "Zm9=",   "Zm-v", "Zm_v",
                                       " Zg==", "Zg==\n", "Z=g=", "Zm9v=", "AAA\xC1" };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint8_t back[16];
        size_t size = 99;
        assert_int_equal(sl_base64_decode(sl_slice_str(bad[i]), back, &size), SL_INVALID_ARGUMENT);
        assert_int_equal(size, 99);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_vectors_of_rfc_4648_hold),
        cmocka_unit_test(every_byte_comes_back),
        cmocka_unit_test(wrong_text_is_refused),
    };
    return cmocka_run_group_tests_name("base64", tests, NULL, NULL);
}
