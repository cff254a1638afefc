/* The door of the gRPC layer: server, calls, client, and the tables of generated code. */
#ifndef SL_SERVICE_RPC_RPC_H
#define SL_SERVICE_RPC_RPC_H

// IWYU pragma: begin_exports
#include "service/rpc/call.h"
#include "service/rpc/channel_conn.h"
#include "service/rpc/client.h"
#include "service/rpc/codec.h"
#include "service/rpc/conn.h"
#include "service/rpc/limits.h"
#include "service/rpc/metadata.h"
#include "service/rpc/methods.h"
#include "service/rpc/plain.h"
#include "service/rpc/server.h"
// IWYU pragma: end_exports

#endif
