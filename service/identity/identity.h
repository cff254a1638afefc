/* Who calls, and what he may: bearer keys and names of client certificates become a principal and
 * its tenant; rules say which agents they may run.
 *
 *   configuration ─▶ sl_identity_load ─▶ table, constant and counted; a reload makes a new one
 *   call ─▶ sl_identity_find ─▶ principal, tenant ─▶ sl_identity_may(method, agent)
 *
 *   identity:
 *     keys: /etc/sluice/keys                  # keys.h
 *     certificates:                           # the first that fits counts
 *       - {san: "uri:spiffe://example.org/billing", principal: billing, tenant: acme}
 *       - {san: "dns:*.jobs.example.org", tenant: acme}     # the principal is the name itself
 *     open: [health]                          # needs no identity; also: reflection
 *   access:                                   # none: everybody who is known may run every agent
 *     - {tenants: [acme], principals: ["*"], agents: ["billing-*"], methods: [ListAgents]} */
#ifndef SL_SERVICE_IDENTITY_IDENTITY_H
#define SL_SERVICE_IDENTITY_IDENTITY_H

#include "runtime/base/conf.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"

enum {
    SL_IDENTITY_RULES = 1000,    /* of each of the two lists */
    SL_IDENTITY_PATTERNS = 1000, /* of one list of a rule */
    SL_IDENTITY_TOKEN_BYTES = 4096,
    SL_IDENTITY_DIGEST_BYTES = 32
};

struct sl_identity;

struct sl_identity_options {
    struct sl_conf *conf;           /* mistakes of its keys are recorded there */
    const struct sl_conf_node *top; /* NULL: nothing is configured */
    uint64_t max_keys;
    bool has_client_certificates; /* some listener asks for them */
};

/* `*ret_identity` is NULL when nothing is configured. Owns: the caller; sl_identity_unref().
 * Thread: any. Fails: SL_FAILED_PRECONDITION a mistake: those of the key file are told, those of
 * the configuration recorded; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_identity_load(
    const struct sl_identity_options *options,
    void (*on_problem)(const char *line, void *user_data),
    void *user_data,
    struct sl_identity **ret_identity);
/* Both accept NULL. Thread: any. */
struct sl_identity *sl_identity_ref(struct sl_identity *identity);
struct sl_identity *sl_identity_unref(struct sl_identity *identity);

/* False for NULL. */
bool sl_identity_has_keys(const struct sl_identity *identity);
/* Are there rules, be it none at all (`access: []`)? False for NULL. */
bool sl_identity_has_access(const struct sl_identity *identity);

/* What of a call tells who makes it. */
struct sl_identity_proof {
    const struct sl_slice *authorization; /* the values of the header `authorization` */
    size_t n_authorization;
    /* Of the client's certificate that was checked: "uri:…", "dns:…", "email:…", each terminated,
     * an empty one at the end. NULL: there is no certificate. */
    const char *names;
};

/* Strings live as long as the table, or as the names. */
struct sl_identity_caller {
    const char *principal, *tenant;
    const char *const *agents; /* of the key; none: no narrowing */
    size_t n_agents;
    int64_t expires_s; /* Unix time; INT64_MAX: never */
    bool has_key;      /* and this is its digest; else a certificate's name was it */
    uint8_t digest[SL_IDENTITY_DIGEST_BYTES];
};

/* Why nobody was found; for counters and the log, never for the client. */
enum sl_identity_fault {
    SL_IDENTITY_KNOWN,
    SL_IDENTITY_MISSING,     /* neither a key nor a certificate */
    SL_IDENTITY_MALFORMED,   /* not one `Bearer KEY` */
    SL_IDENTITY_UNKNOWN,     /* no such key */
    SL_IDENTITY_EXPIRED,     /* there was one */
    SL_IDENTITY_CERTIFICATE, /* no rule for its names, or several URIs */
    SL_IDENTITY_BROKEN       /* no memory */
};
/* "missing"; "" for KNOWN. */
const char *sl_identity_fault_name(enum sl_identity_fault fault);

/* A header decides alone where keys are configured: a wrong key is not made good by a certificate.
 * `now_s`: Unix time. Thread: any. */
enum sl_identity_fault sl_identity_find(
    const struct sl_identity *identity,
    const struct sl_identity_proof *proof,
    int64_t now_s,
    struct sl_identity_caller *ret_caller);

/* The same of a key that was seen before, by its digest. Thread: any. */
enum sl_identity_fault sl_identity_find_key(
    const struct sl_identity *identity,
    const uint8_t digest[SL_IDENTITY_DIGEST_BYTES],
    int64_t now_s,
    struct sl_identity_caller *ret_caller);

/* Does this service (name with its package) answer callers that are not known? */
bool sl_identity_is_open(const struct sl_identity *identity, struct sl_slice service);

/* May the caller use `method` ("ExecuteStreaming") on `agent`? Whether the agent exists has no say.
 */
bool sl_identity_may(
    const struct sl_identity *identity,
    const struct sl_identity_caller *caller,
    const char *method,
    const char *agent);

/* Somebody who was known when something began that goes on. */
struct sl_identity_past {
    struct sl_identity_caller caller; /* as he was known then */
    const char *names;                /* of sl_identity_proof */
    const char *method;
    const char *agent; /* NULL: it needs no right to one */
};

/* How he stands now, the best first. */
enum sl_identity_standing {
    SL_IDENTITY_STANDS,
    SL_IDENTITY_NO_RIGHT,     /* to the agent */
    SL_IDENTITY_OTHER_TENANT, /* he is known, and belongs to another one */
    SL_IDENTITY_GONE          /* nothing leads to this principal any more */
};
/* "agent", "tenant", "principal"; "" for STANDS. */
const char *sl_identity_standing_name(enum sl_identity_standing standing);

/* His key or certificate decides, while it still leads to him; then whatever else does, so that a
 * key can be replaced under what runs. `*ret_expires_s`: until when the answer is good, if he
 * stands. Takes time in proportion to the number of keys. Thread: any. */
enum sl_identity_standing sl_identity_ask_again(
    const struct sl_identity *identity,
    const struct sl_identity_past *past,
    int64_t now_s,
    int64_t *ret_expires_s);

#endif
