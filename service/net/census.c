#include "service/net/census.h"

#include <pthread.h>
#include <stdatomic.h>

#include "runtime/base/map.h"
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"

/* Connections of one address. */
struct caller {
    uint8_t key[SL_NET_KEY_BYTES];
    uint64_t n_conns;
    UT_hash_handle hh;
};

struct sl_net_census {
    _Atomic uint32_t n_refs;
    struct {
        pthread_mutex_t lock;
        struct caller *callers;
        uint64_t n_conns;
    } shared;
};

struct sl_net_census *sl_net_census_new(void)
{
    struct sl_net_census *census = sl_calloc(1, sizeof(*census));
    if (census != NULL) {
        atomic_store(&census->n_refs, 1);
        (void)pthread_mutex_init(&census->shared.lock, NULL);
    }
    return census;
}

struct sl_net_census *sl_net_census_ref(struct sl_net_census *census)
{
    (void)atomic_fetch_add(&census->n_refs, 1);
    return census;
}

struct sl_net_census *sl_net_census_unref(struct sl_net_census *census)
{
    if (census != NULL && atomic_fetch_sub(&census->n_refs, 1) == 1) {
        (void)pthread_mutex_destroy(&census->shared.lock);
        (void)sl_free(census);
    }
    return NULL;
}

// NOLINTBEGIN(readability-function-cognitive-complexity,readability-function-size): what
// uthash's macros make of one line each

static struct caller *
find_caller(const struct sl_net_census *census, const uint8_t key[SL_NET_KEY_BYTES])
{
    struct caller *caller = NULL;
    HASH_FIND(hh, census->shared.callers, key, SL_NET_KEY_BYTES, caller);
    return caller;
}

/* NULL: no memory. */
static struct caller *add_caller(struct sl_net_census *census, const uint8_t key[SL_NET_KEY_BYTES])
{
    struct caller *caller = sl_calloc(1, sizeof(*caller));
    if (caller == NULL) {
        return NULL;
    }
    memcpy(caller->key, key, SL_NET_KEY_BYTES);
    sl_map_oom = false;
    HASH_ADD(hh, census->shared.callers, key, SL_NET_KEY_BYTES, caller);
    return sl_map_oom ? sl_free(caller) : caller;
}

static void remove_caller(struct sl_net_census *census, struct caller *caller)
{
    HASH_DELETE(hh, census->shared.callers, caller);
    (void)sl_free(caller);
}

// NOLINTEND(readability-function-cognitive-complexity,readability-function-size)

static bool enter(
    struct sl_net_census *census,
    const uint8_t key[SL_NET_KEY_BYTES],
    const struct sl_limits *limits)
{
    if (census->shared.n_conns >= limits->connections) {
        sl_limit_reached(SL_LIMIT_connections);
        return false;
    }
    struct caller *caller = find_caller(census, key);
    if (caller == NULL) {
        caller = add_caller(census, key);
    }
    if (caller == NULL) {
        return false;
    }
    if (caller->n_conns >= limits->connections_per_address) {
        sl_limit_reached(SL_LIMIT_connections_per_address);
        return false;
    }
    caller->n_conns++;
    census->shared.n_conns++;
    return true;
}

bool sl_net_census_enter(
    struct sl_net_census *census,
    const uint8_t key[SL_NET_KEY_BYTES],
    const struct sl_limits *limits)
{
    (void)pthread_mutex_lock(&census->shared.lock);
    const bool has_entered = enter(census, key, limits);
    (void)pthread_mutex_unlock(&census->shared.lock);
    return has_entered;
}

void sl_net_census_leave(struct sl_net_census *census, const uint8_t key[SL_NET_KEY_BYTES])
{
    (void)pthread_mutex_lock(&census->shared.lock);
    struct caller *caller = find_caller(census, key);
    census->shared.n_conns--;
    if (--caller->n_conns == 0) {
        remove_caller(census, caller);
    }
    (void)pthread_mutex_unlock(&census->shared.lock);
}
