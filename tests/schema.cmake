# Tests of schema.
set(SL_SCHEMA_SET ${CMAKE_CURRENT_BINARY_DIR}/schema_types.pb)
add_custom_command(OUTPUT ${SL_SCHEMA_SET}
  COMMAND ${PROTOC} --descriptor_set_out=${SL_SCHEMA_SET} --include_imports -I ${CMAKE_SOURCE_DIR}
    -I ${PROTOBUF_PROTO_DIR} tests/unit/schema_types.proto
  DEPENDS ${CMAKE_SOURCE_DIR}/tests/unit/schema_types.proto ${CMAKE_SOURCE_DIR}/tests/unit/schema_types2.proto
  VERBATIM)
add_custom_target(schema_types ALL DEPENDS ${SL_SCHEMA_SET})

sl_add_test(schema sl_schema)
target_compile_definitions(test_schema PRIVATE SCHEMA_SET="${SL_SCHEMA_SET}")
add_dependencies(test_schema schema_types)
add_executable(schema_convert unit/schema_convert.c)
target_link_libraries(schema_convert PRIVATE sl_schema)
add_test(NAME unit.schema_python COMMAND ${DEBIAN_PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/unit/schema_python.py
  ${SL_SCHEMA_SET} $<TARGET_FILE:schema_convert>)
set_tests_properties(unit.schema_python PROPERTIES LABELS unit TIMEOUT 120)
sl_add_fuzzer(proto_json sl_schema)
add_dependencies(replay_proto_json schema_types)
target_compile_definitions(replay_proto_json PRIVATE SCHEMA_SET="${SL_SCHEMA_SET}")
if(SL_FUZZ)
  add_dependencies(fuzz_proto_json schema_types)
  target_compile_definitions(fuzz_proto_json PRIVATE SCHEMA_SET="${SL_SCHEMA_SET}")
endif()
sl_add_fuzzer(schema_set sl_schema)
