# Tests of service/gateway.
sl_add_test(http1 sl_http1)
sl_add_fuzzer(http1_head sl_http1)
