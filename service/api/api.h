/* The handlers of sluice.v1.AgentRuntime: requests become run specs, runs become streams of events.
 *
 *   ExecuteStreaming: sl_run_start ─▶ on_started: headers, the run's log becomes the call's source
 *   Execute:          the same run; its terminal event becomes the reply
 *   StartRun:         the same run, without a reader
 *   Attach:           sl_run_attach ─▶ as ExecuteStreaming, and the run does not care
 *   CancelRun, GetRun, ListRuns: sl_run_ask ─▶ the answer becomes the reply
 *
 * Methods that are not built answer UNIMPLEMENTED, by themselves: their handlers are NULL. */
#ifndef SL_SERVICE_API_API_H
#define SL_SERVICE_API_API_H

#include <stdbool.h>

#include "runtime/base/status.h"

struct sl_api;
struct sl_health;
struct sl_identity;
struct sl_runtime;
struct sl_server;

/* A name in grpc.health: is the configuration that was read last the one in use? */
#define SL_API_CONFIG_NAME "sluice.config"

struct sl_api_options {
    struct sl_server *server;
    struct sl_runtime *runtime;
    bool has_reflection;
    struct sl_identity *identity; /* who may call; referenced. NULL: everybody */
};

/* Registers AgentRuntime, grpc.health.v1 (serving), and reflection v1 and v1alpha when asked for.
 * Before the server starts. Owns: the caller; sl_api_free() after the server. Borrows `server` and
 * `runtime`. Fails: SL_RESOURCE_EXHAUSTED, SL_ALREADY_EXISTS. */
SL_CHECK enum sl_status sl_api_new(const struct sl_api_options *options, struct sl_api **ret_api);

/* Whether the last reload of the configuration took: the state of SL_API_CONFIG_NAME in
 * grpc.health. Thread: any. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_api_set_config_state(struct sl_api *api, bool is_good);

/* Who may call from now on; streams of whoever may not go on end within about a second, runs go on
 * as after a lost connection. NULL: everybody. Thread: any. */
void sl_api_set_identity(struct sl_api *api, struct sl_identity *identity);

/* The same health table on another server, which runs nothing else. Before it starts; it must be
 * freed before the API. Fails: as sl_api_new(). */
SL_CHECK enum sl_status sl_api_serve_health(struct sl_api *api, struct sl_server *server);

/* All health names become NOT_SERVING, for good (SV-4). Thread: any. */
void sl_api_shutdown(struct sl_api *api);

struct sl_api *sl_api_free(struct sl_api *api);

#endif
