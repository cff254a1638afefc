/* grpc.health.v1: whether the server, and each of its services, can be used (grpc.md SV-1 to SV-4).
 *
 *   sl_health_set("a")  ─▶  state of "a"  ─▶  each watcher of "a"
 *
 * A watcher is posted to the loop of its call, which sends the newest state; states in between are
 * merged. */
#ifndef SL_SERVICE_STD_HEALTH_H
#define SL_SERVICE_STD_HEALTH_H

#include <stdbool.h>

#include "runtime/base/status.h"

struct sl_health;
struct sl_server;

/* Gives a table in which the server as a whole, "", is serving and nothing else is known.
 * Owns: the caller; sl_health_free(). Thread: any. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_health_new(struct sl_health **ret_health);

/* Serves the table, its methods as control methods (ADM-9). Before the server starts; `health` must
 * outlive it. Fails: SL_ALREADY_EXISTS; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_health_register(struct sl_health *health, struct sl_server *server);

/* Sets the state of `name` ("pkg.Service", or "" for the whole), which is known from then on, and
 * tells its watchers. Ignored after sl_health_shutdown(). Thread: any; at level 1 (conn.h without a
 * loop) the connections' only. Fails: SL_RESOURCE_EXHAUSTED a new name without memory. */
SL_CHECK enum sl_status sl_health_set(struct sl_health *health, const char *name, bool is_serving);

/* Everything becomes NOT_SERVING, for good. Watchers are told, and then ended with UNAVAILABLE: a
 * stream that clients keep for ever must not hold up the drain. Any number of times. Thread: as
 * set. */
void sl_health_shutdown(struct sl_health *health);

/* After the server is freed and its loops have run what was posted. `health` may be NULL; gives
 * NULL. */
struct sl_health *sl_health_free(struct sl_health *health);

#endif
