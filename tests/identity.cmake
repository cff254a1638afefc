# Tests of identity.
sl_add_test(identity sl_identity)
sl_add_test(keys sl_identity)
sl_add_test(standing sl_identity)
sl_add_fuzzer(keys sl_identity)
