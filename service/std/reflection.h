/* grpc.reflection.v1 and v1alpha: tells clients which services there are and how their messages
 * look (grpc.md SV-5 to SV-7). Answers come from the tables of the registered services. */
#ifndef SL_SERVICE_STD_REFLECTION_H
#define SL_SERVICE_STD_REFLECTION_H

#include "runtime/base/status.h"

struct sl_server;

/* Serves both versions. Services that are registered later are shown too. Before the server starts.
 * Owns: nothing. Fails: SL_ALREADY_EXISTS; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_reflection_register(struct sl_server *server);

#endif
