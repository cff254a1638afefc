# Tests of h2.
add_library(h2_pair STATIC wire/h2_pair.c)
target_link_libraries(h2_pair PUBLIC sl_h2)
sl_add_test(h2_session h2_pair)
sl_add_test(h2_police sl_h2)
sl_add_test(h2_attack h2_pair)
sl_add_test(h2_rules h2_pair PkgConfig::NGHTTP2)
sl_add_fuzzer(h2_server FOREIGN sl_h2)
