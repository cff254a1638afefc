/* What a table says of somebody whom an earlier one knew. */
#include "service/identity/table.h"

static enum sl_identity_standing judge(
    const struct sl_identity *identity,
    const struct sl_identity_caller *caller,
    const struct sl_identity_past *past)
{
    if (strcmp(caller->tenant, past->caller.tenant) != 0) {
        return SL_IDENTITY_OTHER_TENANT;
    }
    return past->agent == NULL || sl_identity_may(identity, caller, past->method, past->agent)
               ? SL_IDENTITY_STANDS
               : SL_IDENTITY_NO_RIGHT;
}

/* The key or the certificate itself; false: it is nobody's any more, or somebody else's. */
static bool find_own(
    const struct sl_identity *identity,
    const struct sl_identity_past *past,
    int64_t now_s,
    struct sl_identity_caller *ret_caller)
{
    const struct sl_identity_proof proof = { .names = past->names };
    const enum sl_identity_fault fault =
        past->caller.has_key
            ? sl_identity_find_key(identity, past->caller.digest, now_s, ret_caller)
            : sl_identity_find(identity, &proof, now_s, ret_caller);
    return fault == SL_IDENTITY_KNOWN && strcmp(ret_caller->principal, past->caller.principal) == 0;
}

/* The best so far, and for how long. */
struct best {
    enum sl_identity_standing standing;
    int64_t expires_s;
};

static void offer(
    const struct sl_identity *identity,
    const struct sl_identity_caller *caller,
    const struct sl_identity_past *past,
    struct best *best)
{
    const enum sl_identity_standing standing = judge(identity, caller, past);
    if (standing < best->standing) {
        *best = (struct best){ standing, caller->expires_s };
    } else if (standing == best->standing && caller->expires_s > best->expires_s) {
        best->expires_s = caller->expires_s;
    }
}

/* Another key of his, or another rule that names him: a rotation. */
static struct best
find_others(const struct sl_identity *identity, const struct sl_identity_past *past, int64_t now_s)
{
    struct best best = { .standing = SL_IDENTITY_GONE };
    const size_t n_keys = sl_keys_count(identity->keys);
    for (size_t i = 0; i < n_keys; i++) {
        const struct sl_key *key = sl_keys_at(identity->keys, i);
        if (now_s < key->expires_s && strcmp(key->principal, past->caller.principal) == 0) {
            const struct sl_identity_caller caller = { .principal = key->principal,
                                                       .tenant = key->tenant,
                                                       .agents = key->agents,
                                                       .n_agents = key->n_agents,
                                                       .expires_s = key->expires_s };
            offer(identity, &caller, past, &best);
        }
    }
    for (size_t i = 0; i < identity->n_sans; i++) {
        const struct sl_san_rule *rule = &identity->sans[i];
        if (rule->principal != NULL && strcmp(rule->principal, past->caller.principal) == 0) {
            const struct sl_identity_caller caller = { .principal = rule->principal,
                                                       .tenant = rule->tenant,
                                                       .expires_s = INT64_MAX };
            offer(identity, &caller, past, &best);
        }
    }
    return best;
}

enum sl_identity_standing sl_identity_ask_again(
    const struct sl_identity *identity,
    const struct sl_identity_past *past,
    int64_t now_s,
    int64_t *ret_expires_s)
{
    struct sl_identity_caller caller;
    if (find_own(identity, past, now_s, &caller)) {
        *ret_expires_s = caller.expires_s;
        return judge(identity, &caller, past);
    }
    const struct best best = find_others(identity, past, now_s);
    *ret_expires_s = best.expires_s;
    return best.standing;
}

const char *sl_identity_standing_name(enum sl_identity_standing standing)
{
    switch (standing) {
    case SL_IDENTITY_STANDS:
        break;
    case SL_IDENTITY_NO_RIGHT:
        return "agent";
    case SL_IDENTITY_OTHER_TENANT:
        return "tenant";
    case SL_IDENTITY_GONE:
        return "principal";
    }
    return "";
}
