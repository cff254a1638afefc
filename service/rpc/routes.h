/* Which handler a path has (ADM-11, ADM-13): a sorted table. Filled before the server starts,
 * constant afterwards: then any thread may look. */
#ifndef SL_SERVICE_RPC_ROUTES_H
#define SL_SERVICE_RPC_ROUTES_H

#include "service/rpc/call_metrics.h"
#include "service/rpc/server.h"

struct sl_route {
    const char *path;                    /* terminated; the map owns it, with the route */
    const struct sl_method_desc *method; /* NULL: raw */
    enum sl_method_kind kind;
    sl_method_start_fn *start; /* both NULL: not implemented */
    sl_raw_fn *raw;
    const void *handlers;
    void *user_data;
    bool is_registered; /* false: only its class is known so far */
    enum sl_call_class call_class;
    bool is_on_pool;
    bool is_exempt; /* health: admitted while the server refuses new calls, or is full */
    struct sl_call_metrics metrics;
};

/* Its calls take places of the server (running_calls). */
static inline bool sl_route_is_counted(const struct sl_route *route)
{
    return route->call_class != SL_CLASS_CONTROL && !route->is_exempt;
}

/* All zero is empty. */
struct sl_routes {
    struct sl_route **by_path; /* sorted */
    size_t n_routes;
    struct sl_route fallback;
    bool has_fallback;
};

enum sl_route_result {
    SL_ROUTE_FOUND,
    SL_ROUTE_BAD_PATH, /* not "/service/method" */
    SL_ROUTE_NO_SERVICE,
    SL_ROUTE_NO_METHOD
};

/* Copies route->path; NULL: the fallback. Fails: SL_ALREADY_EXISTS; SL_INVALID_ARGUMENT a path that
 * ADM-11 refuses; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_routes_add(struct sl_routes *routes, const struct sl_route *route);
/* Before or after the path is added. Fails: SL_INVALID_ARGUMENT, SL_RESOURCE_EXHAUSTED, as
 * sl_routes_add(). */
SL_CHECK enum sl_status
sl_routes_set_class(struct sl_routes *routes, const char *path, enum sl_call_class call_class);
/* The entry with exactly this path; NULL: none. May be one that is not registered. */
const struct sl_route *sl_routes_get(const struct sl_routes *routes, struct sl_slice path);
/* `*ret_route` is set with FOUND only. */
enum sl_route_result sl_routes_find(
    const struct sl_routes *routes, struct sl_slice path, const struct sl_route **ret_route);
/* Splits at the last slash; false: the path is not canonical. */
bool sl_routes_split(
    struct sl_slice path, struct sl_slice *ret_service, struct sl_slice *ret_method);
void sl_routes_done(struct sl_routes *routes);

#endif
