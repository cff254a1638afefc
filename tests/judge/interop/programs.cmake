# sl_interop_server, sl_interop_client: grpc.testing.TestService, whose protos come with Debian's grpc-proto.
sluice_generate(TARGET judge_interop_proto
  PROTOS grpc/testing/test.proto grpc/testing/messages.proto grpc/testing/empty.proto
  IMPORT_DIRS ${GRPC_PROTO_DIR})
set_target_properties(judge_interop_proto PROPERTIES EXCLUDE_FROM_ALL TRUE)

add_executable(sl_interop_server EXCLUDE_FROM_ALL serve.c interop/flags.c interop/server.c interop/output.c)
target_link_libraries(sl_interop_server PRIVATE sl_rpc judge_interop_proto)
add_executable(sl_interop_client EXCLUDE_FROM_ALL interop/flags.c interop/client.c interop/cases.c
  interop/cases_stream.c interop/cases_compressed.c interop/cases_soak.c interop/cases_bad.c)
target_link_libraries(sl_interop_client PRIVATE sl_rpc judge_interop_proto)
add_dependencies(judge_programs sl_interop_server sl_interop_client)
