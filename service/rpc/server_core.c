#include "service/rpc/server_core.h"

#include "runtime/base/mem.h"
#include "runtime/base/sized.h"

static enum sl_status copy_loops(struct sl_server *server, const struct sl_server_options *options)
{
    if (options->n_loops == 0) {
        return SL_OK;
    }
    server->loops = sl_calloc(options->n_loops, sizeof(struct sl_loop *));
    if (server->loops == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    server->n_loops = options->n_loops;
    for (size_t i = 0; i < options->n_loops; i++) {
        server->loops[i] = options->loops[i];
    }
    return SL_OK;
}

/* ---- Limits ------------------------------------------------------------------------------------
 */

void sl_server_default_limits(struct sl_limits *limits)
{
    sl_limits_init(limits);
    limits->streams_per_connection = limits->runs_per_connection = 256;
    /* sluiced has none: its tasks are runs, which `runs` and `run_queue` bound, and a place is
     * taken before anybody knows whether the run may wait for one. */
    limits->running_calls = 1024;
    limits->keepalive_time = UINT64_C(7200000);
    limits->ping_interval = 300000;
    limits->connection_age = 0;
}

struct sl_limits_shot *sl_limits_shot_unref(struct sl_limits_shot *shot)
{
    if (shot != NULL && atomic_fetch_sub_explicit(&shot->n_refs, 1, memory_order_acq_rel) == 1) {
        (void)sl_free(shot);
    }
    return NULL;
}

struct sl_limits_shot *sl_server_limits(struct sl_server *server)
{
    (void)pthread_mutex_lock(&server->shared.lock);
    struct sl_limits_shot *shot = server->shared.limits;
    (void)atomic_fetch_add_explicit(&shot->n_refs, 1, memory_order_relaxed);
    (void)pthread_mutex_unlock(&server->shared.lock);
    return shot;
}

enum sl_status sl_server_set_limits(struct sl_server *server, const struct sl_limits *limits)
{
    if (limits != NULL && limits->connection_window <= limits->stream_window) {
        return SL_INVALID_ARGUMENT; /* FC-2: one upload that stalls would stop the others */
    }
    struct sl_limits_shot *shot = sl_alloc(sizeof(*shot));
    if (shot == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    atomic_init(&shot->n_refs, 1);
    if (limits == NULL) {
        sl_server_default_limits(&shot->limits);
    } else {
        shot->limits = *limits;
    }
    (void)pthread_mutex_lock(&server->shared.lock);
    struct sl_limits_shot *old = server->shared.limits;
    server->shared.limits = shot;
    (void)pthread_mutex_unlock(&server->shared.lock);
    (void)sl_limits_shot_unref(old);
    return SL_OK;
}

/* ---- Places ------------------------------------------------------------------------------------
 */

bool sl_server_take_place(struct sl_server *server, const struct sl_route *route, uint64_t max)
{
    if (!sl_route_is_counted(route)) {
        return true;
    }
    const size_t n = atomic_fetch_add_explicit(&server->n_running, 1, memory_order_relaxed);
    if (max == 0 || n < max) {
        return true;
    }
    sl_server_give_place(server, route);
    return false;
}

void sl_server_give_place(struct sl_server *server, const struct sl_route *route)
{
    if (sl_route_is_counted(route)) {
        (void)atomic_fetch_sub_explicit(&server->n_running, 1, memory_order_relaxed);
    }
}

/* ---- Life --------------------------------------------------------------------------------------
 */

enum sl_status sl_server_new(const struct sl_server_options *options, struct sl_server **ret_server)
{
    struct sl_server_options all = { 0 };
    if (options != NULL &&
        !sl_sized_read(&all, sizeof(all), options, options->struct_size, sizeof(*options))) {
        return SL_INVALID_ARGUMENT;
    }
    options = &all;
    struct sl_server *server = sl_calloc(1, sizeof(*server));
    if (server == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    (void)pthread_mutex_init(&server->shared.lock, NULL);
    server->allow_pings_without_calls = options->allow_pings_without_calls;
    server->n_pool_threads = options->n_pool_threads;
    enum sl_status status = sl_server_set_limits(server, options->limits);
    if (status == SL_OK) {
        status = copy_loops(server, options);
    }
    server->n_counters = server->n_loops == 0 ? 1 : server->n_loops;
    server->counters = sl_calloc(server->n_counters, sizeof(*server->counters));
    if (server->counters == NULL) {
        status = SL_RESOURCE_EXHAUSTED;
    }
    if (status != SL_OK) {
        (void)sl_server_free(server);
        return status;
    }
    *ret_server = server;
    return SL_OK;
}

struct sl_server *sl_server_free(struct sl_server *server)
{
    if (server == NULL) {
        return NULL;
    }
    if (server->runner != NULL) {
        server->free_runner(server->runner);
    }
    (void)sl_limits_shot_unref(server->shared.limits);
    (void)pthread_mutex_destroy(&server->shared.lock);
    sl_routes_done(&server->routes);
    (void)sl_free(server->interceptors);
    (void)sl_free(server->services);
    (void)sl_free(server->counters);
    (void)sl_free(server->loops);
    return sl_free(server);
}

static enum sl_status
append_service(struct sl_server *server, const struct sl_service_desc *service)
{
    const size_t size = (server->n_services + 1) * sizeof(struct sl_service_desc *);
    const struct sl_service_desc **services = sl_realloc(server->services, size);
    if (services == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    services[server->n_services++] = service;
    server->services = services;
    return SL_OK;
}

static bool is_on_pool(const struct sl_service_options *options)
{
    struct sl_service_options all = { 0 };
    if (options != NULL) {
        (void)sl_sized_read(&all, sizeof(all), options, options->struct_size, sizeof(*options));
    }
    return all.on_pool;
}

enum sl_status sl_server_add_service(
    struct sl_server *server,
    const struct sl_service_desc *service,
    sl_method_start_fn *const *starts,
    const void *handlers,
    void *user_data)
{
    return sl_server_add_service_with(server, service, starts, handlers, user_data, NULL);
}

enum sl_status sl_server_add_service_with(
    struct sl_server *server,
    const struct sl_service_desc *service,
    sl_method_start_fn *const *starts,
    const void *handlers,
    void *user_data,
    const struct sl_service_options *options)
{
    if (is_on_pool(options) && server->n_pool_threads == 0) {
        return SL_FAILED_PRECONDITION;
    }
    for (size_t i = 0; i < service->n_methods; i++) {
        const struct sl_route *known =
            sl_routes_get(&server->routes, sl_slice_str(service->methods[i].path));
        if (known != NULL && known->is_registered) {
            return SL_ALREADY_EXISTS;
        }
    }
    for (size_t i = 0; i < service->n_methods; i++) {
        const struct sl_method_desc *method = &service->methods[i];
        const struct sl_route route = { .path = method->path,
                                        .method = method,
                                        .kind = method->kind,
                                        .start = starts[i],
                                        .handlers = handlers,
                                        .user_data = user_data,
                                        .is_on_pool = is_on_pool(options) };
        SL_TRY(sl_routes_add(&server->routes, &route));
    }
    return append_service(server, service);
}

enum sl_status sl_server_add_raw(
    struct sl_server *server,
    const char *path,
    enum sl_method_kind kind,
    sl_raw_fn *handler,
    void *user_data)
{
    return sl_server_add_raw_with(server, path, kind, handler, user_data, NULL);
}

enum sl_status sl_server_add_raw_with(
    struct sl_server *server,
    const char *path,
    enum sl_method_kind kind,
    sl_raw_fn *handler,
    void *user_data,
    const struct sl_service_options *options)
{
    if (is_on_pool(options) && server->n_pool_threads == 0) {
        return SL_FAILED_PRECONDITION;
    }
    const struct sl_route route = { .path = path,
                                    .kind = kind,
                                    .raw = handler,
                                    .user_data = user_data,
                                    .is_on_pool = is_on_pool(options) };
    return sl_routes_add(&server->routes, &route);
}

enum sl_status
sl_server_add_interceptor(struct sl_server *server, const struct sl_interceptor *interceptor)
{
    struct sl_interceptor all;
    if (!sl_sized_read(
            &all, sizeof(all), interceptor, interceptor->struct_size, sizeof(*interceptor))) {
        return SL_INVALID_ARGUMENT;
    }
    const size_t size = (server->n_interceptors + 1) * sizeof(all);
    struct sl_interceptor *interceptors = sl_realloc(server->interceptors, size);
    if (interceptors == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    interceptors[server->n_interceptors++] = all;
    server->sees_messages |= all.on_message_in != NULL || all.on_message_out != NULL;
    server->interceptors = interceptors;
    return SL_OK;
}

void sl_server_take_resets_for_losses(struct sl_server *server, bool is_reset_loss)
{
    server->is_reset_loss = is_reset_loss;
}

enum sl_status
sl_server_set_class(struct sl_server *server, const char *path, enum sl_call_class call_class)
{
    return sl_routes_set_class(&server->routes, path, call_class);
}

enum sl_status sl_server_set_control(struct sl_server *server, const char *path)
{
    return sl_server_set_class(server, path, SL_CLASS_CONTROL);
}

void sl_server_set_error_info(
    struct sl_server *server, const struct sl_metadatum *info, size_t n_info)
{
    server->error_info = info;
    server->n_error_info = n_info;
}

const char *sl_server_reason(const struct sl_server *server, const char *reason)
{
    return server->n_error_info > 0 ? reason : NULL;
}

/* For errors whose maker has no better word. */
static const char *reason_of(enum sl_status code)
{
    static const struct {
        enum sl_status code;
        const char *reason;
    } reasons[] = {
        { SL_CANCELLED, "CANCELLED" },
        { SL_UNKNOWN, "INTERNAL" },
        { SL_DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED" },
        { SL_PERMISSION_DENIED, "FORBIDDEN" },
        { SL_RESOURCE_EXHAUSTED, "SERVER_FULL" },
        { SL_INTERNAL, "INTERNAL" },
        { SL_UNAVAILABLE, "DRAINING" },
        { SL_UNAUTHENTICATED, "UNAUTHENTICATED" },
    };
    for (size_t i = 0; i < SL_COUNT(reasons); i++) {
        if (reasons[i].code == code) {
            return reasons[i].reason;
        }
    }
    return "INVALID_REQUEST";
}

void sl_server_explain(const struct sl_server *server, struct sl_call_status *status)
{
    if (server->n_error_info == 0 || status->code == SL_OK || status->details.size > 0) {
        return;
    }
    if (status->reason == NULL) {
        status->reason = reason_of(status->code);
    }
    if (status->n_info == 0) {
        status->info = server->error_info;
        status->n_info = server->n_error_info;
    }
}

size_t sl_server_n_services(const struct sl_server *server)
{
    return server->n_services;
}

const struct sl_service_desc *sl_server_service_at(const struct sl_server *server, size_t index)
{
    return index < server->n_services ? server->services[index] : NULL;
}

void sl_server_refuse_new(struct sl_server *server)
{
    atomic_store(&server->is_refusing, true);
}

struct sl_rpc_counters *
sl_server_counters(const struct sl_server *server, const struct sl_loop *loop)
{
    for (size_t i = 0; loop != NULL && i < server->n_loops; i++) {
        if (server->loops[i] == loop) {
            return &server->counters[i];
        }
    }
    return &server->counters[0];
}

void sl_server_stats_sized(
    const struct sl_server *server, struct sl_server_stats *ret_stats, size_t struct_size)
{
    struct sl_server_stats sum = { 0 };
    for (size_t i = 0; i < server->n_counters; i++) {
        struct sl_rpc_counters *from = &server->counters[i];
#define SL_RPC_COUNTER_SUM(name)                                                                   \
    sum.name += atomic_load_explicit(&from->name, memory_order_relaxed);
        SL_RPC_COUNTER_MAP(SL_RPC_COUNTER_SUM)
#undef SL_RPC_COUNTER_SUM
        for (size_t k = 0; k < SL_COUNT(from->calls_by_status); k++) {
            sum.calls_by_status[k] +=
                atomic_load_explicit(&from->calls_by_status[k], memory_order_relaxed);
        }
    }
    (void)sl_sized_read(ret_stats, struct_size, &sum, sizeof(sum), sizeof(sum));
}
