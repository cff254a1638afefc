# Tests of model.
add_library(sl_fake_http STATIC fake/fake_http_server.c)
target_link_libraries(sl_fake_http PUBLIC sl_base)

sl_add_test(sse sl_model)
sl_add_test(retry sl_model)
sl_add_test(models sl_model sl_fake)
sl_add_test(openai sl_model)
sl_add_test(scenario sl_model)
sl_add_test(builtin_models sl_model sl_fake)
sl_add_test(http sl_model sl_fake_http)
sl_add_test(http_model sl_model sl_fake_http)
sl_add_test(http_flow sl_model sl_fake_http)

sl_add_fuzzer(sse sl_model)
sl_add_fuzzer(openai_delta FOREIGN sl_model)
sl_add_fuzzer(delta_scanner FOREIGN sl_model)
sl_add_fuzzer(retry_after sl_model)
sl_add_fuzzer(scenario FOREIGN sl_model)
