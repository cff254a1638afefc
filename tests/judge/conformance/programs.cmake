# What connectconformance talks to. Its protos come with it: without ./run judge conformance there is nothing to build.
set(protos ${CMAKE_SOURCE_DIR}/build/judge/conformance/v1.0.5)
if(NOT EXISTS ${protos}/connectrpc/conformance/v1/service.proto)
  return()
endif()

sluice_generate(TARGET conformance_types
  PROTOS
    google/protobuf/any.proto
    google/protobuf/empty.proto
    google/protobuf/struct.proto
    connectrpc/conformance/v1/config.proto
    connectrpc/conformance/v1/service.proto
    connectrpc/conformance/v1/client_compat.proto
    connectrpc/conformance/v1/server_compat.proto
    tests/judge/conformance/status.proto
  IMPORT_DIRS ${protos} ${CMAKE_SOURCE_DIR}
  OUTPUT_DIR ${CMAKE_BINARY_DIR}/conformance
  LINK sl_rpc)

add_library(conformance_common STATIC ${CMAKE_CURRENT_LIST_DIR}/common.c)
target_link_libraries(conformance_common PUBLIC sl_options conformance_types)

add_executable(sl_conformance_server ${CMAKE_CURRENT_LIST_DIR}/server.c ${CMAKE_CURRENT_LIST_DIR}/service.c)
target_link_libraries(sl_conformance_server PRIVATE conformance_common)
add_executable(sl_conformance_client ${CMAKE_CURRENT_LIST_DIR}/client.c ${CMAKE_CURRENT_LIST_DIR}/case.c)
target_link_libraries(sl_conformance_client PRIVATE conformance_common)

set(programs sl_conformance_server sl_conformance_client)
set_target_properties(conformance_types conformance_common ${programs} PROPERTIES EXCLUDE_FROM_ALL TRUE)
add_dependencies(judge_programs ${programs})
