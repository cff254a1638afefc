#include "service/std/health.h"

#include <assert.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "proto/grpc/health/v1/health.sl.h"
#include "runtime/base/list.h"
#include "runtime/base/mem.h"
#include "service/rpc/rpc.h"

/* More names than this are not listed (SV-3). */
enum { LIST_MAX = 100 };

enum { WATCHER_MAGIC = 0x57415443 };

typedef Grpc__Health__V1__HealthCheckResponse__ServingStatus serving;

#define UNKNOWN_NAME GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN
#define SERVING      GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
#define NOT_SERVING  GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING

/* One name. They are few, one per service, and never removed. */
struct entry {
    struct sl_list node;
    serving state;
    char name[];
};

struct sl_health {
    struct sl_grpc__health__v1__health__handlers handlers;
    struct {
        pthread_mutex_t lock;
        struct sl_list entries;
        size_t n_entries;
        struct sl_list watchers;
        bool is_shut;
    } shared;
};

/* One Watch call, from its start until it is finished; then until a task that is still posted has
 * run. */
struct watcher {
    uint32_t magic;
    struct sl_health *health;
    struct sl_loop *call_loop; /* NULL at level 1 */
    const char *name;          /* in the call's arena */
    struct {
        struct sl_call *call; /* NULL: finished */
        bool has_sent;
        serving sent;
    } loop;
    struct { /* under the table's lock */
        struct sl_list node;
        serving state;
        bool is_last; /* the end follows this state */
        bool is_posted;
    } shared;
    struct sl_task task;
};

static struct entry *entry_of(struct sl_list *node)
{
    return SL_CONTAINER(node, struct entry, node);
}

/* NULL: unknown. */
static struct entry *find(const struct sl_health *health, const char *name)
{
    SL_LIST_EACH(node, &health->shared.entries) {
        if (strcmp(entry_of(node)->name, name) == 0) {
            return entry_of(node);
        }
    }
    return NULL;
}

static serving state_of(const struct sl_health *health, const char *name)
{
    const struct entry *entry = find(health, name);
    return entry == NULL ? UNKNOWN_NAME : entry->state;
}

/* ---- Watch: the call's loop ------------------------------------------------------------------ */

/* Takes the watcher out of the table; it goes at once, or when its task has run. */
static void detach(struct watcher *watcher)
{
    pthread_mutex_lock(&watcher->health->shared.lock);
    sl_list_remove(&watcher->shared.node);
    const bool is_posted = watcher->shared.is_posted;
    pthread_mutex_unlock(&watcher->health->shared.lock);
    watcher->loop.call = NULL;
    if (!is_posted) {
        watcher->magic = 0;
        (void)sl_free(watcher);
    }
}

static const char *end_message(enum sl_status status)
{
    return status == SL_UNAVAILABLE ? "the server is shutting down" : NULL;
}

static void finish(struct watcher *watcher, enum sl_status status)
{
    struct sl_call *call = watcher->loop.call;
    detach(watcher);
    sl_call_finish(
        call, &(struct sl_call_status){ .code = status, .message = end_message(status) });
}

/* Sends the newest state if the client has not got it. SL_OK: that is done; SL_AGAIN: on_writable;
 * otherwise what the call must end with. */
static enum sl_status send_state(struct watcher *watcher)
{
    pthread_mutex_lock(&watcher->health->shared.lock);
    const serving state = watcher->shared.state;
    const bool is_last = watcher->shared.is_last;
    pthread_mutex_unlock(&watcher->health->shared.lock);
    if (!watcher->loop.has_sent || watcher->loop.sent != state) {
        Grpc__Health__V1__HealthCheckResponse response =
            GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
        response.status = state;
        SL_TRY(sl_grpc__health__v1__health__watch__send(
            sl_grpc__health__v1__health__watch__view(watcher->loop.call), &response));
        watcher->loop.has_sent = true;
        watcher->loop.sent = state;
    }
    return is_last ? SL_UNAVAILABLE : SL_OK;
}

/* The watcher may be gone afterwards. */
static void update(struct watcher *watcher)
{
    const enum sl_status status = send_state(watcher);
    if (status != SL_OK && status != SL_AGAIN) {
        finish(watcher, status);
    }
}

static void on_posted(struct sl_task *task)
{
    struct watcher *watcher = SL_CONTAINER(task, struct watcher, task);
    assert(watcher->magic == WATCHER_MAGIC);
    if (watcher->loop.call == NULL) {
        watcher->magic = 0;
        (void)sl_free(watcher);
        return;
    }
    pthread_mutex_lock(&watcher->health->shared.lock);
    watcher->shared.is_posted = false;
    pthread_mutex_unlock(&watcher->health->shared.lock);
    update(watcher);
}

static void on_writable(struct sl_call *call, void *user_data)
{
    struct watcher *watcher = (struct watcher *)user_data;
    (void)call;
    assert(watcher->magic == WATCHER_MAGIC);
    update(watcher);
}

static void on_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    struct watcher *watcher = (struct watcher *)user_data;
    (void)call;
    assert(watcher->magic == WATCHER_MAGIC);
    const enum sl_status status = end->kind == SL_CALL_DRAIN ? SL_UNAVAILABLE : SL_CANCELLED;
    finish(watcher, status);
}

static enum sl_status watch(
    struct sl_call *call,
    const Grpc__Health__V1__HealthCheckRequest *request,
    struct sl_grpc__health__v1__health__watch__sender *out,
    void *user_data)
{
    struct sl_health *health = (struct sl_health *)user_data;
    (void)out;
    struct watcher *watcher = sl_calloc(1, sizeof(*watcher));
    if (watcher == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    watcher->magic = WATCHER_MAGIC;
    watcher->health = health;
    watcher->call_loop = sl_call_loop(call);
    watcher->name = request->service;
    watcher->loop.call = call;
    watcher->task.run = on_posted;
    pthread_mutex_lock(&health->shared.lock);
    watcher->shared.state = state_of(health, watcher->name);
    watcher->shared.is_last = health->shared.is_shut;
    sl_list_add_last(&health->shared.watchers, &watcher->shared.node);
    pthread_mutex_unlock(&health->shared.lock);

    const enum sl_status status = send_state(watcher);
    if (status != SL_OK && status != SL_AGAIN) {
        detach(watcher);
        return sl_call_fail(
            call, &(struct sl_call_status){ .code = status, .message = end_message(status) });
    }
    static const struct sl_call_callbacks callbacks = { .on_writable = on_writable,
                                                        .on_ended = on_ended };
    sl_call_set_callbacks(call, &callbacks, watcher);
    return SL_PENDING;
}

/* ---- Changes: any thread --------------------------------------------------------------------- */

/* With the lock held. Without a loop the caller is on the call's thread, but the call must not be
 * used under the lock: those are collected. */
static void notify(struct watcher *watcher, serving state, bool is_last, struct sl_list *direct)
{
    if (watcher->shared.state == state && watcher->shared.is_last == is_last) {
        return;
    }
    watcher->shared.state = state;
    watcher->shared.is_last = is_last;
    if (watcher->call_loop == NULL) {
        sl_list_remove(&watcher->shared.node);
        sl_list_add_last(direct, &watcher->shared.node);
    } else if (!watcher->shared.is_posted) {
        watcher->shared.is_posted = true;
        sl_loop_post(watcher->call_loop, &watcher->task);
    }
}

static struct watcher *take_direct(struct sl_health *health, struct sl_list *direct)
{
    struct watcher *watcher = NULL;
    pthread_mutex_lock(&health->shared.lock);
    struct sl_list *node = sl_list_first(direct);
    if (node != NULL) {
        sl_list_remove(node);
        sl_list_add_last(&health->shared.watchers, node);
        watcher = SL_CONTAINER(node, struct watcher, shared.node);
    }
    pthread_mutex_unlock(&health->shared.lock);
    return watcher;
}

static void update_direct(struct sl_health *health, struct sl_list *direct)
{
    for (;;) {
        struct watcher *watcher = take_direct(health, direct);
        if (watcher == NULL) {
            return;
        }
        update(watcher);
    }
}

/* Adds a name. NULL: no memory. */
static struct entry *add_entry(struct sl_health *health, const char *name)
{
    const size_t size = strlen(name) + 1;
    struct entry *entry = sl_calloc(1, sizeof(*entry) + size);
    if (entry == NULL) {
        return NULL;
    }
    memcpy(entry->name, name, size);
    sl_list_add_last(&health->shared.entries, &entry->node);
    health->shared.n_entries++;
    return entry;
}

/* With the lock held. */
static enum sl_status
set_state(struct sl_health *health, const char *name, serving state, struct sl_list *direct)
{
    struct entry *entry = find(health, name);
    entry = entry == NULL ? add_entry(health, name) : entry;
    if (entry == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    entry->state = state;
    SL_LIST_EACH(node, &health->shared.watchers) {
        struct watcher *watcher = SL_CONTAINER(node, struct watcher, shared.node);
        if (strcmp(watcher->name, name) == 0) {
            notify(watcher, state, false, direct);
        }
    }
    return SL_OK;
}

enum sl_status sl_health_set(struct sl_health *health, const char *name, bool is_serving)
{
    struct sl_list direct;
    sl_list_init(&direct);
    enum sl_status status = SL_OK;
    pthread_mutex_lock(&health->shared.lock);
    if (!health->shared.is_shut) {
        status = set_state(health, name, is_serving ? SERVING : NOT_SERVING, &direct);
    }
    pthread_mutex_unlock(&health->shared.lock);
    update_direct(health, &direct);
    return status;
}

void sl_health_shutdown(struct sl_health *health)
{
    struct sl_list direct;
    sl_list_init(&direct);
    pthread_mutex_lock(&health->shared.lock);
    health->shared.is_shut = true;
    SL_LIST_EACH(node, &health->shared.entries) {
        entry_of(node)->state = NOT_SERVING;
    }
    SL_LIST_EACH(node, &health->shared.watchers) {
        struct watcher *watcher = SL_CONTAINER(node, struct watcher, shared.node);
        notify(watcher, state_of(health, watcher->name), true, &direct);
    }
    pthread_mutex_unlock(&health->shared.lock);
    update_direct(health, &direct);
}

/* ---- Check and List -------------------------------------------------------------------------- */

static enum sl_status check(
    struct sl_call *call,
    const Grpc__Health__V1__HealthCheckRequest *request,
    Grpc__Health__V1__HealthCheckResponse *reply,
    void *user_data)
{
    struct sl_health *health = (struct sl_health *)user_data;
    pthread_mutex_lock(&health->shared.lock);
    const serving state = state_of(health, request->service);
    pthread_mutex_unlock(&health->shared.lock);
    if (state == UNKNOWN_NAME) {
        return sl_call_fail(
            call, &(struct sl_call_status){ .code = SL_NOT_FOUND,
                                            .message = "no service of this name is known" });
    }
    reply->status = state;
    return SL_OK;
}

/* With the lock held. Names are borrowed: entries are never removed. */
static enum sl_status fill_list(
    const struct sl_health *health,
    struct sl_arena *arena,
    Grpc__Health__V1__HealthListResponse *reply)
{
    reply->statuses = sl_arena_calloc(arena, health->shared.n_entries, sizeof(void *));
    if (reply->statuses == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    SL_LIST_EACH(node, &health->shared.entries) {
        Grpc__Health__V1__HealthListResponse__StatusesEntry *item =
            sl_arena_alloc(arena, sizeof(*item));
        Grpc__Health__V1__HealthCheckResponse *value = sl_arena_alloc(arena, sizeof(*value));
        if (item == NULL || value == NULL) {
            return SL_RESOURCE_EXHAUSTED;
        }
        grpc__health__v1__health_list_response__statuses_entry__init(item);
        grpc__health__v1__health_check_response__init(value);
        value->status = entry_of(node)->state;
        item->key = entry_of(node)->name;
        item->value = value;
        reply->statuses[reply->n_statuses++] = item;
    }
    return SL_OK;
}

static enum sl_status list(
    struct sl_call *call,
    const Grpc__Health__V1__HealthListRequest *request,
    Grpc__Health__V1__HealthListResponse *reply,
    void *user_data)
{
    struct sl_health *health = (struct sl_health *)user_data;
    (void)request;
    pthread_mutex_lock(&health->shared.lock);
    const bool is_too_long = health->shared.n_entries > LIST_MAX;
    const enum sl_status status =
        is_too_long ? SL_OK : fill_list(health, sl_call_arena(call), reply);
    pthread_mutex_unlock(&health->shared.lock);
    if (is_too_long) {
        return sl_call_fail(
            call,
            &(struct sl_call_status){ .code = SL_RESOURCE_EXHAUSTED,
                                      .message = "more than 100 names; ask for one with Check" });
    }
    return status;
}

/* ---- Life ------------------------------------------------------------------------------------ */

enum sl_status sl_health_new(struct sl_health **ret_health)
{
    struct sl_health *health = sl_calloc(1, sizeof(*health));
    if (health == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    if (pthread_mutex_init(&health->shared.lock, NULL) != 0) {
        (void)sl_free(health);
        return SL_RESOURCE_EXHAUSTED;
    }
    sl_list_init(&health->shared.entries);
    sl_list_init(&health->shared.watchers);
    health->handlers = (struct sl_grpc__health__v1__health__handlers){
        .struct_size = sizeof(health->handlers),
        .check = check,
        .list = list,
        .watch = watch,
    };
    const enum sl_status status = sl_health_set(health, "", true);
    if (status != SL_OK) {
        (void)sl_health_free(health);
        return status;
    }
    *ret_health = health;
    return SL_OK;
}

enum sl_status sl_health_register(struct sl_health *health, struct sl_server *server)
{
    SL_TRY(sl_grpc__health__v1__health__register(server, &health->handlers, health));
    const struct sl_service_desc *service = &sl_grpc__health__v1__health__service;
    for (size_t i = 0; i < service->n_methods; i++) {
        SL_TRY(sl_server_set_control(server, service->methods[i].path));
    }
    return SL_OK;
}

struct sl_health *sl_health_free(struct sl_health *health)
{
    if (health == NULL) {
        return NULL;
    }
    assert(sl_list_is_empty(&health->shared.watchers));
    SL_LIST_EACH(node, &health->shared.entries) {
        (void)sl_free(entry_of(node));
    }
    pthread_mutex_destroy(&health->shared.lock);
    return sl_free(health);
}
