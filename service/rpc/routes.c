#include "service/rpc/routes.h"

#include "runtime/base/mem.h"

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

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Bytes first, then length: the paths of a service are neighbours. */
static int compare(struct sl_slice a, struct sl_slice b)
{
    const size_t size = least(a.size, b.size);
    const int order = size == 0 ? 0 : memcmp(a.data, b.data, size);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

/* Index of the first route that is not before `path`. */
static size_t lower_bound(const struct sl_routes *routes, struct sl_slice path)
{
    size_t from = 0;
    size_t to = routes->n_routes;
    while (from < to) {
        const size_t middle = from + (to - from) / 2;
        if (compare(sl_slice_str(routes->by_path[middle]->path), path) < 0) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return from;
}

static struct sl_route *find(const struct sl_routes *routes, struct sl_slice path)
{
    const size_t at = lower_bound(routes, path);
    if (at == routes->n_routes || !sl_slice_equals(path, routes->by_path[at]->path)) {
        return NULL;
    }
    return routes->by_path[at];
}

const struct sl_route *sl_routes_get(const struct sl_routes *routes, struct sl_slice path)
{
    return find(routes, path);
}

/* `prefix` is "/service/", as the path has it. */
static bool has_service(const struct sl_routes *routes, struct sl_slice prefix)
{
    for (size_t i = lower_bound(routes, prefix); i < routes->n_routes; i++) {
        const struct sl_slice path = sl_slice_str(routes->by_path[i]->path);
        struct sl_slice service;
        struct sl_slice method;
        if (!sl_slice_equal(sl_slice_of(path.data, least(path.size, prefix.size)), prefix)) {
            return false;
        }
        if (routes->by_path[i]->is_registered && sl_routes_split(path, &service, &method) &&
            service.size + 2 == prefix.size) {
            return true;
        }
    }
    return false;
}

/* The path is canonical: "/service/method". */
static void split_copy(struct sl_route *route, struct sl_slice path)
{
    char *copy = (char *)(route + 1) + path.size + 1;
    struct sl_slice service = { 0 };
    struct sl_slice method = { 0 };
    (void)sl_routes_split(path, &service, &method);
    memcpy(copy, service.data, service.size);
    memcpy(copy + service.size + 1, method.data, method.size);
    route->metrics.service = copy;
    route->metrics.method = copy + service.size + 1;
}

/* The entry of a path, made when there is none. NULL: no memory. */
static struct sl_route *get_entry(struct sl_routes *routes, struct sl_slice path)
{
    struct sl_route *route = find(routes, path);
    if (route != NULL || path.data == NULL) {
        return route;
    }
    struct sl_route **by_path =
        sl_realloc(routes->by_path, (routes->n_routes + 1) * sizeof(struct sl_route *));
    if (by_path == NULL) {
        return NULL;
    }
    routes->by_path = by_path;
    /* Behind it: the path, and once more in two parts, for the labels of what is counted. */
    route = sl_calloc(1, sizeof(*route) + 2 * (path.size + 1));
    if (route == NULL) {
        return NULL;
    }
    char *copy = (char *)(route + 1);
    memcpy(copy, path.data, path.size);
    route->path = copy;
    split_copy(route, path);
    const size_t at = lower_bound(routes, path);
    memmove(by_path + at + 1, by_path + at, (routes->n_routes - at) * sizeof(struct sl_route *));
    by_path[at] = route;
    routes->n_routes++;
    return route;
}

static void set_target(struct sl_route *entry, const struct sl_route *route)
{
    entry->method = route->method;
    entry->kind = route->kind;
    entry->is_on_pool = route->is_on_pool;
    entry->start = route->start;
    entry->raw = route->raw;
    entry->handlers = route->handlers;
    entry->user_data = route->user_data;
    entry->is_registered = true;
    if (route->start != NULL || route->raw != NULL) {
        sl_call_metrics_init(
            &entry->metrics, entry->kind, entry->metrics.service, entry->metrics.method);
    }
}

enum sl_status sl_routes_add(struct sl_routes *routes, const struct sl_route *route)
{
    if (route->path == NULL) {
        if (routes->has_fallback) {
            return SL_ALREADY_EXISTS;
        }
        /* What clients call things is not bounded. */
        routes->fallback.metrics.service = routes->fallback.metrics.method = "other";
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

enum sl_status
sl_routes_set_class(struct sl_routes *routes, const char *path, enum sl_call_class call_class)
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
    entry->call_class = call_class;
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
    const struct sl_slice prefix = sl_slice_of(path.data, service.size + 2);
    return has_service(routes, prefix) ? SL_ROUTE_NO_METHOD : SL_ROUTE_NO_SERVICE;
}

void sl_routes_done(struct sl_routes *routes)
{
    for (size_t i = 0; i < routes->n_routes; i++) {
        (void)sl_free(routes->by_path[i]);
    }
    (void)sl_free(routes->by_path);
    *routes = (struct sl_routes){ 0 };
}
