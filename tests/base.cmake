# Tests of runtime/base, and the fakes that other rooms' tests share.
add_library(sl_fake STATIC fake/fake_loop.c)
target_link_libraries(sl_fake PUBLIC sl_core)

sl_add_test(status sl_core)
sl_add_test(utf8 sl_core)
sl_add_test(loop sl_fake)
sl_add_test(loop_uv sl_base)
sl_add_test(event_channel sl_fake)
sl_add_test(event_relay sl_fake sl_base)
sl_add_fuzzer(utf8 sl_core)
