# sl_h2spec_server: HTTP/2 without gRPC.
add_executable(sl_h2spec_server EXCLUDE_FROM_ALL serve.c h2spec/server.c)
target_link_libraries(sl_h2spec_server PRIVATE sl_rpc)
add_dependencies(judge_programs sl_h2spec_server)
