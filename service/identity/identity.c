#include "service/identity/identity.h"

#include <strings.h>

#include "runtime/base/crypto.h"
#include "runtime/base/mem.h"
#include "service/identity/pattern.h"
#include "service/identity/table.h"

_Static_assert(SL_IDENTITY_DIGEST_BYTES == (int)SL_KEY_DIGEST_BYTES, "one digest");

/* ---- Life --------------------------------------------------------------------------------------
 */

struct sl_identity *sl_identity_ref(struct sl_identity *identity)
{
    if (identity != NULL) {
        (void)atomic_fetch_add(&identity->n_refs, 1);
    }
    return identity;
}

struct sl_identity *sl_identity_unref(struct sl_identity *identity)
{
    if (identity != NULL && atomic_fetch_sub(&identity->n_refs, 1) == 1) {
        identity->keys = sl_keys_free(identity->keys);
        sl_arena_done(&identity->arena);
        (void)sl_free(identity);
    }
    return NULL;
}

bool sl_identity_has_keys(const struct sl_identity *identity)
{
    return identity != NULL && identity->keys != NULL;
}

bool sl_identity_has_access(const struct sl_identity *identity)
{
    return identity != NULL && identity->has_access;
}

/* ---- Keys --------------------------------------------------------------------------------------
 */

static struct sl_slice strip(struct sl_slice text)
{
    while (text.size > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text = sl_slice_of(text.data + 1, text.size - 1);
    }
    while (text.size > 0 && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t')) {
        text.size--;
    }
    return text;
}

/* The key of "Bearer KEY"; false: it is no such thing. */
static bool take_token(struct sl_slice value, struct sl_slice *ret_token)
{
    static const char scheme[] = "bearer";
    const size_t n = sizeof(scheme) - 1;
    value = strip(value);
    if (value.size <= n || strncasecmp((const char *)value.data, scheme, n) != 0 ||
        (value.data[n] != ' ' && value.data[n] != '\t')) {
        return false;
    }
    *ret_token = strip(sl_slice_of(value.data + n, value.size - n));
    bool is_token = ret_token->size > 0 && ret_token->size <= SL_IDENTITY_TOKEN_BYTES;
    for (size_t i = 0; is_token && i < ret_token->size; i++) {
        is_token = ret_token->data[i] > ' ' && ret_token->data[i] < 0x7f;
    }
    return is_token;
}

enum sl_identity_fault sl_identity_find_key(
    const struct sl_identity *identity,
    const uint8_t digest[SL_IDENTITY_DIGEST_BYTES],
    int64_t now_s,
    struct sl_identity_caller *ret_caller)
{
    const struct sl_key *key = identity->keys == NULL ? NULL : sl_keys_find(identity->keys, digest);
    if (key == NULL) {
        return SL_IDENTITY_UNKNOWN;
    }
    if (now_s >= key->expires_s) {
        return SL_IDENTITY_EXPIRED;
    }
    *ret_caller = (struct sl_identity_caller){ .principal = key->principal,
                                               .tenant = key->tenant,
                                               .agents = key->agents,
                                               .n_agents = key->n_agents,
                                               .expires_s = key->expires_s,
                                               .has_key = true };
    memcpy(ret_caller->digest, digest, sizeof(ret_caller->digest));
    return SL_IDENTITY_KNOWN;
}

static enum sl_identity_fault find_bearer(
    const struct sl_identity *identity,
    const struct sl_identity_proof *proof,
    int64_t now_s,
    struct sl_identity_caller *ret_caller)
{
    struct sl_slice token;
    uint8_t digest[SL_SHA256_BYTES];
    if (proof->n_authorization != 1 || !take_token(proof->authorization[0], &token)) {
        return SL_IDENTITY_MALFORMED;
    }
    if (sl_sha256(token, digest) != SL_OK) {
        return SL_IDENTITY_BROKEN;
    }
    return sl_identity_find_key(identity, digest, now_s, ret_caller);
}

/* ---- Certificates ------------------------------------------------------------------------------
 */

static bool is_uri(const char *name)
{
    return strncmp(name, "uri:", 4) == 0;
}

/* Where there is a URI, it is the identity, and there may be only one (SPIFFE). */
static size_t count_uris(const char *names)
{
    size_t n = 0;
    for (const char *name = names; name[0] != '\0'; name += strlen(name) + 1) {
        n += is_uri(name) ? 1 : 0;
    }
    return n;
}

static bool fits(const struct sl_san_rule *rule, const char *names, bool only_uri, const char **ret)
{
    for (const char *name = names; name[0] != '\0'; name += strlen(name) + 1) {
        const size_t n = rule->kind_bytes;
        if ((!only_uri || is_uri(name)) && strncmp(rule->pattern, name, n) == 0 &&
            sl_pattern_matches(rule->pattern + n, name + n)) {
            *ret = name;
            return true;
        }
    }
    return false;
}

static enum sl_identity_fault find_certificate(
    const struct sl_identity *identity, const char *names, struct sl_identity_caller *ret_caller)
{
    const size_t n_uris = count_uris(names);
    const char *name = NULL;
    for (size_t i = 0; n_uris <= 1 && i < identity->n_sans; i++) {
        const struct sl_san_rule *rule = &identity->sans[i];
        if (!fits(rule, names, n_uris == 1, &name)) {
            continue;
        }
        const char *own = strchr(name, ':') + 1;
        *ret_caller =
            (struct sl_identity_caller){ .principal =
                                             rule->principal == NULL ? own : rule->principal,
                                         .tenant = rule->tenant,
                                         .expires_s = INT64_MAX };
        return sl_identity_is_name(sl_slice_str(ret_caller->principal)) ? SL_IDENTITY_KNOWN
                                                                        : SL_IDENTITY_CERTIFICATE;
    }
    return SL_IDENTITY_CERTIFICATE;
}

/* ---- Who ---------------------------------------------------------------------------------------
 */

const char *sl_identity_fault_name(enum sl_identity_fault fault)
{
    switch (fault) {
    case SL_IDENTITY_KNOWN:
        return "";
    case SL_IDENTITY_MISSING:
        return "missing";
    case SL_IDENTITY_MALFORMED:
        return "malformed";
    case SL_IDENTITY_UNKNOWN:
        return "unknown";
    case SL_IDENTITY_EXPIRED:
        return "expired";
    case SL_IDENTITY_CERTIFICATE:
        return "certificate";
    case SL_IDENTITY_BROKEN:
        break;
    }
    return "memory";
}

enum sl_identity_fault sl_identity_find(
    const struct sl_identity *identity,
    const struct sl_identity_proof *proof,
    int64_t now_s,
    struct sl_identity_caller *ret_caller)
{
    if (identity->keys != NULL && proof->n_authorization > 0) {
        return find_bearer(identity, proof, now_s, ret_caller);
    }
    if (identity->n_sans > 0 && proof->names != NULL) {
        return find_certificate(identity, proof->names, ret_caller);
    }
    return SL_IDENTITY_MISSING;
}

bool sl_identity_is_open(const struct sl_identity *identity, struct sl_slice service)
{
    static const char reflection[] = "grpc.reflection.";
    if (sl_slice_equals(service, "grpc.health.v1.Health")) {
        return identity->is_health_open;
    }
    return identity->is_reflection_open && service.size > sizeof(reflection) - 1 &&
           memcmp(service.data, reflection, sizeof(reflection) - 1) == 0;
}

/* ---- What he may -------------------------------------------------------------------------------
 */

/* A list that was not given does not narrow. */
static bool is_in(const struct sl_identity_names *names, const char *text)
{
    return names->items == NULL || sl_pattern_matches_any(names->items, names->n_items, text);
}

bool sl_identity_may(
    const struct sl_identity *identity,
    const struct sl_identity_caller *caller,
    const char *method,
    const char *agent)
{
    if (caller->n_agents > 0 && !sl_pattern_matches_any(caller->agents, caller->n_agents, agent)) {
        return false;
    }
    for (size_t i = 0; i < identity->n_access; i++) {
        const struct sl_access_rule *rule = &identity->access[i];
        if (is_in(&rule->tenants, caller->tenant) && is_in(&rule->principals, caller->principal) &&
            is_in(&rule->agents, agent) && is_in(&rule->methods, method)) {
            return true;
        }
    }
    return !identity->has_access;
}
