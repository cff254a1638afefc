/* The store of durability NONE: of runs, the log's window is all there is. Conversations are kept
 * while there is room, those that were used last. */
#include <pthread.h>

#include "runtime/base/map.h"
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/store/store.h"

struct session {
    UT_hash_handle hh;
    struct sl_list node; /* of all, unused for longest first */
    struct sl_slice messages;
    size_t key_bytes;
    uint8_t bytes[]; /* the key, then the messages */
};

struct memory_store {
    struct sl_store base;
    struct {
        pthread_mutex_t lock;
        uint64_t max_sessions, max_bytes;
        uint64_t n_sessions, n_bytes;
        struct session *sessions;
        struct sl_list used;
    } shared;
};

static struct memory_store *of_base(struct sl_store *store)
{
    return SL_CONTAINER(store, struct memory_store, base);
}

/* ---- Conversations -----------------------------------------------------------------------------
 */

/* uthash is macros, which the linter counts. */
// NOLINTBEGIN(readability-function-cognitive-complexity,readability-function-size)
static struct session *
find_session(const struct memory_store *store, const uint8_t *key, size_t key_bytes)
{
    struct session *session = NULL;
    HASH_FIND(hh, store->shared.sessions, key, key_bytes, session);
    return session;
}

static bool add_session(struct memory_store *store, struct session *session)
{
    sl_map_oom = false;
    HASH_ADD(hh, store->shared.sessions, bytes, session->key_bytes, session);
    return !sl_map_oom;
}

static void delete_session(struct memory_store *store, struct session *session)
{
    HASH_DELETE(hh, store->shared.sessions, session);
}
// NOLINTEND(readability-function-cognitive-complexity,readability-function-size)

static size_t cost_of(const struct session *session)
{
    return sizeof(*session) + session->key_bytes + session->messages.size;
}

static void count(struct memory_store *store)
{
    atomic_store_explicit(
        &store->base.counts.sessions, store->shared.n_sessions, memory_order_relaxed);
    atomic_store_explicit(
        &store->base.counts.session_bytes, store->shared.n_bytes, memory_order_relaxed);
}

static void forget(struct memory_store *store, struct session *session)
{
    delete_session(store, session);
    sl_list_remove(&session->node);
    store->shared.n_sessions--;
    store->shared.n_bytes -= cost_of(session);
    (void)sl_free(session);
}

/* So that what is kept is within the limits. */
static void make_room(struct memory_store *store)
{
    struct sl_list *oldest = sl_list_first(&store->shared.used);
    while (oldest != NULL && (store->shared.n_sessions > store->shared.max_sessions ||
                              store->shared.n_bytes > store->shared.max_bytes)) {
        sl_limit_reached(
            store->shared.n_sessions > store->shared.max_sessions ? SL_LIMIT_sessions
                                                                  : SL_LIMIT_sessions_total);
        (void)atomic_fetch_add_explicit(
            &store->base.counts.sessions_removed, 1, memory_order_relaxed);
        forget(store, SL_CONTAINER(oldest, struct session, node));
        oldest = sl_list_first(&store->shared.used);
    }
    count(store);
}

/* The three names, each with its NUL, and room for the messages. NULL: no memory. */
static struct session *make_session(const char *const names[3], struct sl_slice messages)
{
    size_t key_bytes = 0;
    for (size_t i = 0; i < 3; i++) {
        key_bytes += strlen(names[i]) + 1;
    }
    struct session *session = sl_calloc(1, sizeof(*session) + key_bytes + messages.size);
    if (session == NULL) {
        return NULL;
    }
    sl_list_init(&session->node);
    for (size_t i = 0; i < 3; i++) {
        const size_t size = strlen(names[i]) + 1;
        memcpy(session->bytes + session->key_bytes, names[i], size);
        session->key_bytes += size;
    }
    if (messages.size > 0) {
        memcpy(session->bytes + key_bytes, messages.data, messages.size);
    }
    session->messages = sl_slice_of(session->bytes + key_bytes, messages.size);
    return session;
}

/* Takes `fresh`. */
static enum sl_status put(struct memory_store *store, struct session *fresh)
{
    if (store->shared.max_sessions == 0 || cost_of(fresh) > store->shared.max_bytes) {
        const bool is_off = store->shared.max_sessions == 0;
        (void)sl_free(fresh);
        return is_off ? SL_UNIMPLEMENTED : SL_RESOURCE_EXHAUSTED;
    }
    struct session *old = find_session(store, fresh->bytes, fresh->key_bytes);
    if (old != NULL) {
        forget(store, old);
    }
    if (!add_session(store, fresh)) {
        count(store);
        (void)sl_free(fresh);
        return SL_RESOURCE_EXHAUSTED;
    }
    sl_list_add_last(&store->shared.used, &fresh->node);
    store->shared.n_sessions++;
    store->shared.n_bytes += cost_of(fresh);
    make_room(store);
    return SL_OK;
}

static enum sl_status save(struct memory_store *store, const struct sl_store_session *session)
{
    const char *const names[] = { session->tenant, session->agent, session->session_id };
    struct session *fresh = make_session(names, session->messages);
    if (fresh == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    (void)pthread_mutex_lock(&store->shared.lock);
    const enum sl_status status = put(store, fresh);
    (void)pthread_mutex_unlock(&store->shared.lock);
    return status;
}

static enum sl_status
take(struct memory_store *store, const struct session *key, struct sl_store_load *load)
{
    struct session *session = find_session(store, key->bytes, key->key_bytes);
    if (session == NULL) {
        return SL_NOT_FOUND;
    }
    const char *copy = sl_arena_dup(&load->request.memory, session->messages);
    if (copy == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    load->messages = sl_slice_of(copy, session->messages.size);
    sl_list_remove(&session->node);
    sl_list_add_last(&store->shared.used, &session->node);
    return SL_OK;
}

static enum sl_status load(struct memory_store *store, struct sl_store_load *load)
{
    const char *const names[] = { load->tenant, load->agent, load->session_id };
    struct session *key = make_session(names, sl_slice_of(NULL, 0));
    if (key == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    (void)pthread_mutex_lock(&store->shared.lock);
    const enum sl_status status = take(store, key, load);
    (void)pthread_mutex_unlock(&store->shared.lock);
    (void)sl_free(key);
    return status;
}

void sl_store_memory_keep(struct sl_store *store, uint64_t max_sessions, uint64_t max_bytes)
{
    struct memory_store *memory = of_base(store);
    (void)pthread_mutex_lock(&memory->shared.lock);
    memory->shared.max_sessions = max_sessions;
    memory->shared.max_bytes = max_bytes;
    make_room(memory);
    (void)pthread_mutex_unlock(&memory->shared.lock);
}

/* ---- The store ---------------------------------------------------------------------------------
 */

static enum sl_status memory_submit(struct sl_store *store, struct sl_store_request *request)
{
    switch (request->kind) {
    case SL_STORE_RECOVER:
        return SL_END;
    case SL_STORE_RENEW:
        SL_CONTAINER(request, struct sl_store_renew, request)->lease_ms = 0;
        return SL_OK;
    case SL_STORE_READ:
    case SL_STORE_GET:
        return SL_NOT_FOUND;
    case SL_STORE_LOAD:
        return load(of_base(store), SL_CONTAINER(request, struct sl_store_load, request));
    case SL_STORE_LIST:
        SL_CONTAINER(request, struct sl_store_list, request)->n_runs = 0;
        SL_CONTAINER(request, struct sl_store_list, request)->next = 0;
        return SL_OK;
    case SL_STORE_BEGIN:
    case SL_STORE_APPEND:
    case SL_STORE_END:
        return SL_OK;
    case SL_STORE_SAVE:
        return save(of_base(store), SL_CONTAINER(request, struct sl_store_save, request)->session);
    }
    return SL_UNIMPLEMENTED;
}

static bool memory_take_back(struct sl_store *store, struct sl_store_request *request)
{
    (void)store;
    (void)request;
    return false;
}

static bool memory_has_durability(const struct sl_store *store, enum sl_store_durability durability)
{
    (void)store;
    return durability == SL_STORE_NONE;
}

static void memory_free(struct sl_store *store)
{
    struct memory_store *memory = of_base(store);
    while (memory->shared.sessions != NULL) {
        forget(memory, memory->shared.sessions);
    }
    (void)pthread_mutex_destroy(&memory->shared.lock);
    (void)sl_free(memory);
}

static const struct sl_store_ops memory_ops = {
    .submit = memory_submit,
    .take_back = memory_take_back,
    .has_durability = memory_has_durability,
    .free = memory_free,
};

enum sl_status sl_store_memory_new(struct sl_store **ret_store)
{
    struct memory_store *store = sl_calloc(1, sizeof(*store));
    if (store == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    store->base.ops = &memory_ops;
    sl_list_init(&store->shared.used);
    (void)pthread_mutex_init(&store->shared.lock, NULL);
    *ret_store = &store->base;
    return SL_OK;
}
