# Tests of the library as a package (docs/library.md).
sl_add_test(sized sl_rpc)
sl_add_test(rpc_limits sl_rpc)
