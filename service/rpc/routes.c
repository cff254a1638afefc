#include "service/rpc/routes.h"

#include "runtime/base/mem.h"

struct sl_route_service {
    UT_hash_handle hh;
    size_t size;
    char name[];
};

bool sl_routes_split(
    struct sl_slice path, struct sl_slice *ret_service, struct sl_slice *ret_method)
{
    size_t slash = path.size;
    while (slash > 0 && path.data[slash - 1] != '/') {
        slash--;
    }
    /* `slash` is behind the last one; the first byte must be another one. */
    if (path.size == 0 || path.data[0] != '/' || slash < 3 || slash == path.size) {
        return false;
    }
    if (memchr(path.data, 0, path.size) != NULL) {
        return false;
    }
    *ret_service = sl_slice_of(path.data + 1, slash - 2);
    *ret_method = sl_slice_of(path.data + slash, path.size - slash);
    return true;
}

const struct sl_route *sl_routes_get(const struct sl_routes *routes, struct sl_slice path)
{
    struct sl_route *route = NULL;
    HASH_FIND(hh, routes->by_path, path.data, path.size, route);
    return route;
}

static struct sl_route_service *find_service(const struct sl_routes *routes, struct sl_slice name)
{
    struct sl_route_service *service = NULL;
    HASH_FIND(hh, routes->services, name.data, name.size, service);
    return service;
}

static enum sl_status add_service(struct sl_routes *routes, struct sl_slice name)
{
    if (find_service(routes, name) != NULL) {
        return SL_OK;
    }
    struct sl_route_service *service = sl_calloc(1, sizeof(*service) + name.size);
    if (service == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    service->size = name.size;
    memcpy(service->name, name.data, name.size);
    sl_map_oom = false;
    HASH_ADD(hh, routes->services, name, name.size, service);
    if (sl_map_oom) {
        (void)sl_free(service);
        return SL_RESOURCE_EXHAUSTED;
    }
    return SL_OK;
}

/* The entry of a path, made when there is none. NULL: no memory. */
static struct sl_route *get_entry(struct sl_routes *routes, struct sl_slice path)
{
    struct sl_route *route = NULL;
    HASH_FIND(hh, routes->by_path, path.data, path.size, route);
    if (route != NULL) {
        return route;
    }
    route = sl_calloc(1, sizeof(*route) + path.size + 1);
    if (route == NULL) {
        return NULL;
    }
    char *copy = (char *)(route + 1);
    memcpy(copy, path.data, path.size);
    route->path = copy;
    sl_map_oom = false;
    HASH_ADD_KEYPTR(hh, routes->by_path, route->path, path.size, route);
    if (sl_map_oom) {
        (void)sl_free(route);
        return NULL;
    }
    return route;
}

static void set_target(struct sl_route *entry, const struct sl_route *route)
{
    entry->method = route->method;
    entry->kind = route->kind;
    entry->start = route->start;
    entry->raw = route->raw;
    entry->handlers = route->handlers;
    entry->user_data = route->user_data;
    entry->is_registered = true;
}

enum sl_status sl_routes_add(struct sl_routes *routes, const struct sl_route *route)
{
    if (route->path == NULL) {
        if (routes->has_fallback) {
            return SL_ALREADY_EXISTS;
        }
        set_target(&routes->fallback, route);
        routes->fallback.path = "";
        routes->has_fallback = true;
        return SL_OK;
    }
    const struct sl_slice path = sl_slice_str(route->path);
    struct sl_slice service;
    struct sl_slice method;
    if (!sl_routes_split(path, &service, &method)) {
        return SL_INVALID_ARGUMENT;
    }
    SL_TRY(add_service(routes, service));
    struct sl_route *entry = get_entry(routes, path);
    if (entry == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    if (entry->is_registered) {
        return SL_ALREADY_EXISTS;
    }
    set_target(entry, route);
    entry->is_exempt = sl_slice_equals(service, "grpc.health.v1.Health");
    return SL_OK;
}

enum sl_status sl_routes_set_control(struct sl_routes *routes, const char *path)
{
    struct sl_slice service;
    struct sl_slice method;
    if (!sl_routes_split(sl_slice_str(path), &service, &method)) {
        return SL_INVALID_ARGUMENT;
    }
    struct sl_route *entry = get_entry(routes, sl_slice_str(path));
    if (entry == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    entry->is_control = true;
    return SL_OK;
}

enum sl_route_result sl_routes_find(
    const struct sl_routes *routes, struct sl_slice path, const struct sl_route **ret_route)
{
    struct sl_slice service;
    struct sl_slice method;
    if (!sl_routes_split(path, &service, &method)) {
        return SL_ROUTE_BAD_PATH;
    }
    const struct sl_route *route = sl_routes_get(routes, path);
    const bool is_served = route != NULL && route->is_registered;
    if (is_served && (route->start != NULL || route->raw != NULL)) {
        *ret_route = route;
        return SL_ROUTE_FOUND;
    }
    if (!is_served && routes->has_fallback) {
        *ret_route = &routes->fallback;
        return SL_ROUTE_FOUND;
    }
    return find_service(routes, service) == NULL ? SL_ROUTE_NO_SERVICE : SL_ROUTE_NO_METHOD;
}

void sl_routes_done(struct sl_routes *routes)
{
    struct sl_route *route = NULL;
    struct sl_route *next_route = NULL;
    HASH_ITER(hh, routes->by_path, route, next_route) {
        HASH_DEL(routes->by_path, route);
        (void)sl_free(route);
    }
    struct sl_route_service *service = NULL;
    struct sl_route_service *next_service = NULL;
    HASH_ITER(hh, routes->services, service, next_service) {
        HASH_DEL(routes->services, service);
        (void)sl_free(service);
    }
    *routes = (struct sl_routes){ 0 };
}
