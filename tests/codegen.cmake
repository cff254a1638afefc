# Tests of codegen.
sl_add_test(codegen_names sl_codegen)
sl_add_test(codegen_wire sl_codegen)
sl_add_test(codegen_model sl_codegen)
sl_add_test(codegen_proto sl_options sl_proto)

# What the generators make of the golden files, compiled and called.
sluice_generate(TARGET sl_golden_proto
  PROTOS names.proto keywords.proto no_package.proto c_package.proto c_package_of_none.proto
    custom_options.proto tables_only.proto dir/odd-name.v1.proto google/protobuf/empty.proto
    google/protobuf/any.proto google/protobuf/timestamp.proto
  IMPORT_DIRS ${CMAKE_CURRENT_SOURCE_DIR}/golden/codegen/proto
  OUTPUT_DIR ${CMAKE_CURRENT_BINARY_DIR}/golden_proto)
sluice_generate(TARGET sl_golden_tables
  PROTOS no_generate.proto
  IMPORT_DIRS ${CMAKE_CURRENT_SOURCE_DIR}/golden/codegen/proto
  OUTPUT_DIR ${CMAKE_CURRENT_BINARY_DIR}/golden_proto
  NO_MESSAGES)
target_link_libraries(sl_golden_proto PUBLIC sl_golden_tables)
sl_add_test(codegen_generated sl_options sl_golden_proto)

add_test(NAME golden.codegen COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/golden/codegen/run.sh ${CMAKE_SOURCE_DIR}
  $<TARGET_FILE_DIR:protoc-gen-sluice-c> ${CMAKE_C_COMPILER} ${CMAKE_CURRENT_BINARY_DIR}/golden_codegen)
set_tests_properties(golden.codegen PROPERTIES LABELS unit TIMEOUT 120)
