# Tests of runtime/base.
sl_add_test(status sl_base)
sl_add_test(utf8 sl_base)
sl_add_fuzzer(utf8 sl_base)
