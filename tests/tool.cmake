# Tests of tool.
add_library(sl_fake_tool OBJECT fake/tool_rig.c fake/tool_http.c)
target_link_libraries(sl_fake_tool PUBLIC sl_tool sl_fake ${CMOCKA})
add_executable(tool_victim fake/tool_victim.c)
target_link_libraries(tool_victim PRIVATE sl_options)

sl_add_test(tool_process sl_fake_tool sl_tool)
target_compile_definitions(test_tool_process PRIVATE SL_LAUNCHER="$<TARGET_FILE:sluice-exec>"
  SL_VICTIM="$<TARGET_FILE:tool_victim>")
add_dependencies(test_tool_process sluice-exec tool_victim)
set_tests_properties(unit.tool_process PROPERTIES TIMEOUT 120)

sl_add_test(tool_call sl_fake_tool sl_tool)
sl_add_test(tool_registry sl_fake_tool sl_tool)
sl_add_test(tool_http sl_fake_tool sl_tool)
sl_add_test(tool_schema sl_tool)
sl_add_test(tool_output sl_tool)
sl_add_test(tool_egress sl_tool)
sl_add_test(tool_timezone sl_tool)

sl_add_fuzzer(json_schema_args sl_tool)
sl_add_fuzzer(tool_output_utf8 sl_tool)
sl_add_fuzzer(url_ssrf sl_tool PkgConfig::CURL)
