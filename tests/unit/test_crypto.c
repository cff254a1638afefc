#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/crypto.h"

static void the_vectors_of_fips_180_hold(void **state)
{
    (void)state;
    char hex[SL_SHA256_HEX_BYTES];
    assert_int_equal(sl_sha256_hex(sl_slice_of(NULL, 0), hex), SL_OK);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_int_equal(sl_sha256_hex(sl_slice_str("abc"), hex), SL_OK);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_vectors_of_fips_180_hold),
    };
    return cmocka_run_group_tests_name("crypto", tests, NULL, NULL);
}
