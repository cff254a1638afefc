/* The inside of a table of identities, for load.c and identity.c. */
#ifndef SL_SERVICE_IDENTITY_TABLE_H
#define SL_SERVICE_IDENTITY_TABLE_H

#include <stdatomic.h>

#include "runtime/base/arena.h"
#include "service/identity/identity.h"
#include "service/identity/keys.h"

struct sl_identity_names {
    const char *const *items;
    size_t n_items;
};

/* A name of a certificate and whose it is. */
struct sl_san_rule {
    const char *pattern;   /* with its kind: "dns:*.example.org" */
    size_t kind_bytes;     /* of "dns:" */
    const char *principal; /* NULL: the name, without its kind */
    const char *tenant;
};

struct sl_access_rule {
    struct sl_identity_names tenants, principals, agents, methods;
};

struct sl_identity {
    _Atomic uint32_t n_refs;
    struct sl_arena arena;
    struct sl_keys *keys; /* NULL: none are configured */
    struct sl_san_rule *sans;
    size_t n_sans;
    bool has_access; /* rules of access were given */
    struct sl_access_rule *access;
    size_t n_access;
    bool is_health_open, is_reflection_open;
};

#endif
