# Tests of tool.
add_library(sl_tool_rig STATIC fake/tool_rig.c)
target_link_libraries(sl_tool_rig PUBLIC sl_tool sl_fake ${CMOCKA})
add_library(sl_tool_fake_http OBJECT fake/tool_http.c) # objects: in place of the real client
target_link_libraries(sl_tool_fake_http PUBLIC sl_core)
add_executable(tool_victim fake/tool_victim.c)
target_link_libraries(tool_victim PRIVATE sl_options)
set_target_properties(tool_victim PROPERTIES SL_UNMEASURED ON)

string(MD5 build_hash ${CMAKE_BINARY_DIR})
sl_add_test(tool_process sl_tool_rig)
target_compile_definitions(test_tool_process PRIVATE SL_LAUNCHER="$<TARGET_FILE:sluice-exec>"
  SL_VICTIM_BUILT="$<TARGET_FILE:tool_victim>" SL_VICTIM="/tmp/sluice-victim-${build_hash}")
add_dependencies(test_tool_process sluice-exec tool_victim)
set_tests_properties(unit.tool_process PROPERTIES TIMEOUT 120)
sl_add_test(tool_limits sl_tool_rig)
target_compile_definitions(test_tool_limits PRIVATE SL_LAUNCHER="$<TARGET_FILE:sluice-exec>"
  SL_VICTIM_BUILT="$<TARGET_FILE:tool_victim>" SL_VICTIM="/tmp/sluice-victim-limits-${build_hash}")
add_dependencies(test_tool_limits sluice-exec tool_victim)

sl_add_test(tool_call sl_tool_rig)
sl_add_test(tool_registry sl_tool_rig)
sl_add_test(tool_http sl_tool_fake_http sl_tool_rig)
sl_add_test(tool_http_real sl_tool_rig)
sl_add_test(tool_schema sl_tool)
sl_add_test(tool_output sl_tool)
sl_add_test(tool_egress sl_tool)
sl_add_test(tool_timezone sl_tool)

sl_add_fuzzer(json_schema_args FOREIGN sl_tool)
sl_add_fuzzer(tool_output_utf8 sl_tool)
sl_add_fuzzer(url_ssrf FOREIGN sl_tool PkgConfig::CURL)
