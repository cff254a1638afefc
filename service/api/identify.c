#include <inttypes.h>
#include <time.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "service/api/identify_impl.h"
#include "service/api/recheck.h"

/* More values of one header than that are as wrong as two. */
enum { MAX_VALUES = 2 };

struct sl_identity *sl_identify_take_newest(struct sl_identify *identify, uint64_t *ret_generation)
{
    *ret_generation = 0;
    if (!atomic_load_explicit(&identify->is_on, memory_order_acquire)) {
        return NULL;
    }
    (void)pthread_mutex_lock(&identify->shared.lock);
    struct sl_identity *identity = sl_identity_ref(identify->shared.identity);
    *ret_generation = identify->shared.generation;
    (void)pthread_mutex_unlock(&identify->shared.lock);
    return identity;
}

struct sl_identity *sl_identify_take(struct sl_identify *identify)
{
    uint64_t generation;
    return sl_identify_take_newest(identify, &generation);
}

void sl_identify_set(struct sl_identify *identify, struct sl_identity *identity)
{
    (void)pthread_mutex_lock(&identify->shared.lock);
    struct sl_identity *old = identify->shared.identity;
    identify->shared.identity = sl_identity_ref(identity);
    identify->shared.generation++;
    atomic_store_explicit(&identify->is_on, identity != NULL, memory_order_release);
    (void)pthread_mutex_unlock(&identify->shared.lock);
    (void)sl_identity_unref(old);
}

/* ---- Who ---------------------------------------------------------------------------------------
 */

/* "pkg.Service" of "/pkg.Service/Method". */
static struct sl_slice service_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL || slash == path ? sl_slice_str("")
                                          : sl_slice_of(path + 1, (size_t)(slash - path) - 1);
}

/* The key was needed once; nothing of the call shows it from here on. */
static void wipe(const struct sl_slice *values, size_t n_values)
{
    for (size_t i = 0; i < n_values; i++) {
        explicit_bzero(sl_unconst(values[i].data), values[i].size);
    }
}

static enum sl_identity_fault find(
    const struct sl_identity *identity, struct sl_call *call, struct sl_identity_caller *ret_caller)
{
    const struct sl_metadata *metadata = sl_call_metadata(call);
    struct sl_slice values[MAX_VALUES];
    size_t n = 0;
    while (n < MAX_VALUES && sl_metadata_get(metadata, "authorization", n, &values[n])) {
        n++;
    }
    const struct sl_identity_proof proof = { .authorization = values,
                                             .n_authorization = n,
                                             .names = sl_call_peer_names(call) };
    const enum sl_identity_fault fault = sl_identity_find(identity, &proof, time(NULL), ret_caller);
    struct sl_slice value;
    wipe(values, n);
    for (; n >= MAX_VALUES && sl_metadata_get(metadata, "authorization", n, &value); n++) {
        wipe(&value, 1);
    }
    return fault;
}

/* The table may be gone before the call. */
static enum sl_status
keep(struct sl_call *call, const struct sl_identity_caller *caller, uint64_t generation)
{
    struct sl_arena *arena = sl_call_arena(call);
    struct sl_identify_known *known = sl_arena_calloc(arena, 1, sizeof(*known));
    const char **scopes = sl_arena_calloc(arena, caller->n_agents, sizeof(*scopes));
    if (known == NULL || scopes == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    known->generation = generation;
    known->expires_s = caller->expires_s;
    known->has_key = caller->has_key;
    memcpy(known->digest, caller->digest, sizeof(known->digest));
    struct sl_call_identity *identity = &known->who;
    identity->principal = sl_arena_dup(arena, sl_slice_str(caller->principal));
    identity->tenant = sl_arena_dup(arena, sl_slice_str(caller->tenant));
    identity->scopes = scopes;
    for (size_t i = 0; i < caller->n_agents; i++) {
        scopes[i] = sl_arena_dup(arena, sl_slice_str(caller->agents[i]));
        if (scopes[i] == NULL) {
            return SL_RESOURCE_EXHAUSTED;
        }
        identity->n_scopes = i + 1;
    }
    if (identity->principal == NULL || identity->tenant == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    sl_call_set_identity(call, identity);
    return SL_OK;
}

static void tell(const struct sl_call *call, enum sl_identity_fault fault)
{
    const char *why = sl_identity_fault_name(fault);
    SL_METRIC_ADD(sluice_authentication_failures, 1, why);
    sl_log(
        SL_DEBUG, SL_LOG_API, "call=%" PRIu64 " msg=\"not authenticated\" why=%s peer=%s",
        sl_call_id(call), why, SL_LOG_QUOTE(sl_slice_str(sl_call_peer(call))));
}

/* The client is not told which part was wrong. */
static enum sl_status refuse(struct sl_call *call, enum sl_identity_fault fault)
{
    static const struct sl_call_status status = { .struct_size = sizeof(status),
                                                  .code = SL_UNAUTHENTICATED,
                                                  .message = SL_IDENTIFY_REFUSAL,
                                                  .reason = "UNAUTHENTICATED" };
    tell(call, fault);
    return sl_call_fail(call, &status);
}

static enum sl_status
identify(const struct sl_identity *identity, uint64_t generation, struct sl_call *call)
{
    struct sl_identity_caller caller = { 0 };
    const enum sl_identity_fault fault = find(identity, call, &caller);
    if (fault == SL_IDENTITY_KNOWN) {
        return keep(call, &caller, generation);
    }
    if (sl_identity_is_open(identity, service_of(sl_call_path(call)))) {
        return SL_OK;
    }
    return refuse(call, fault);
}

static enum sl_status on_start(struct sl_call *call, void *user_data)
{
    uint64_t generation;
    struct sl_identity *identity = sl_identify_take_newest(user_data, &generation);
    if (identity == NULL) {
        return SL_OK;
    }
    const enum sl_status status = identify(identity, generation, call);
    (void)sl_identity_unref(identity);
    return status;
}

/* ---- What he may -------------------------------------------------------------------------------
 */

const struct sl_identify_known *sl_identify_known(const struct sl_call *call)
{
    const struct sl_call_identity *who = sl_call_identity(call);
    return who == NULL ? NULL : SL_CONTAINER(sl_unconst(who), struct sl_identify_known, who);
}

struct sl_identity_caller sl_identify_caller(const struct sl_identify_known *known)
{
    struct sl_identity_caller caller = { .principal = known->who.principal,
                                         .tenant = known->who.tenant,
                                         .agents = known->who.scopes,
                                         .n_agents = known->who.n_scopes,
                                         .expires_s = known->expires_s,
                                         .has_key = known->has_key };
    memcpy(caller.digest, known->digest, sizeof(caller.digest));
    return caller;
}

/* The same caller in a table that may have come after the call's headers. */
static enum sl_identity_fault find_again(
    const struct sl_identity *identity,
    uint64_t generation,
    const struct sl_call *call,
    struct sl_identity_caller *ret_caller)
{
    const struct sl_identify_known *known = sl_identify_known(call);
    if (known == NULL) { /* the call began when nothing was configured */
        return SL_IDENTITY_MISSING;
    }
    const struct sl_call_identity *who = &known->who;
    const int64_t now_s = time(NULL);
    *ret_caller = sl_identify_caller(known);
    if (known->generation == generation) {
        return now_s < known->expires_s ? SL_IDENTITY_KNOWN : SL_IDENTITY_EXPIRED;
    }
    const struct sl_identity_proof proof = { .names = sl_call_peer_names(call) };
    const enum sl_identity_fault fault =
        known->has_key ? sl_identity_find_key(identity, known->digest, now_s, ret_caller)
                       : sl_identity_find(identity, &proof, now_s, ret_caller);
    const bool is_same = strcmp(ret_caller->principal, who->principal) == 0 &&
                         strcmp(ret_caller->tenant, who->tenant) == 0;
    return fault == SL_IDENTITY_KNOWN && !is_same ? SL_IDENTITY_UNKNOWN : fault;
}

/* `agent` NULL: he must only be known. */
static enum sl_status
ask(struct sl_identify *identify, const struct sl_call *call, const char *agent)
{
    uint64_t generation;
    struct sl_identity_caller caller;
    struct sl_identity *identity = sl_identify_take_newest(identify, &generation);
    if (identity == NULL) {
        return SL_OK;
    }
    enum sl_status status = SL_OK;
    const enum sl_identity_fault fault = find_again(identity, generation, call, &caller);
    if (fault != SL_IDENTITY_KNOWN) {
        tell(call, fault);
        status = SL_UNAUTHENTICATED;
    } else if (
        agent != NULL &&
        !sl_identity_may(identity, &caller, strrchr(sl_call_path(call), '/') + 1, agent)) {
        status = SL_PERMISSION_DENIED;
    }
    (void)sl_identity_unref(identity);
    return status;
}

enum sl_status
sl_identify_may_run(struct sl_identify *identify, const struct sl_call *call, const char *agent)
{
    return ask(identify, call, agent);
}

enum sl_status sl_identify_check(struct sl_identify *identify, const struct sl_call *call)
{
    return ask(identify, call, NULL);
}

bool sl_identify_may_see(
    const struct sl_identity *identity, const struct sl_call *call, const char *agent)
{
    const struct sl_identify_known *known = sl_identify_known(call);
    if (identity == NULL) {
        return true;
    }
    if (known == NULL) {
        return false;
    }
    const struct sl_identity_caller caller = sl_identify_caller(known);
    return sl_identity_may(identity, &caller, "ListAgents", agent) &&
           (sl_identity_may(identity, &caller, "ExecuteStreaming", agent) ||
            sl_identity_may(identity, &caller, "Execute", agent) ||
            sl_identity_may(identity, &caller, "StartRun", agent));
}

/* ---- Life --------------------------------------------------------------------------------------
 */

enum sl_status sl_identify_new(
    struct sl_server *server, struct sl_identity *identity, struct sl_identify **ret_identify)
{
    struct sl_identify *identify = sl_calloc(1, sizeof(*identify));
    if (identify == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    const struct sl_interceptor interceptor = { .struct_size = sizeof(interceptor),
                                                .on_start = on_start,
                                                .user_data = identify };
    (void)pthread_mutex_init(&identify->shared.lock, NULL);
    sl_identify_set(identify, identity);
    if (sl_server_add_interceptor(server, &interceptor) != SL_OK) {
        (void)sl_identify_free(identify);
        return SL_RESOURCE_EXHAUSTED;
    }
    *ret_identify = identify;
    return SL_OK;
}

struct sl_identify *sl_identify_free(struct sl_identify *identify)
{
    if (identify != NULL) {
        sl_recheck_free_loops(identify);
        (void)sl_identity_unref(identify->shared.identity);
        (void)pthread_mutex_destroy(&identify->shared.lock);
        (void)sl_free(identify);
    }
    return NULL;
}
