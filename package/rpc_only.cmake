# -DSLUICE_RPC_ONLY=ON: the rooms that the gRPC library is made of, its generators, and its package.
foreach(room runtime/base service/net service/h2 service/rpc service/std package)
  add_subdirectory(${room})
endforeach()
