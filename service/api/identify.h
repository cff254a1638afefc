/* The interceptor that finds out who calls (OP-2), and what its answer is good for. Where nothing
 * is configured there is one tenant, and everybody may do everything. */
#ifndef SL_SERVICE_API_IDENTIFY_H
#define SL_SERVICE_API_IDENTIFY_H

#include "service/identity/identity.h"
#include "service/rpc/rpc.h"

struct sl_identify;

/* Registers the interceptor. `identity` may be NULL; referenced. Before the server starts. Owns:
 * the caller; sl_identify_free() after the server. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_identify_new(
    struct sl_server *server, struct sl_identity *identity, struct sl_identify **ret_identify);
/* For the calls that come from now on. Thread: any. */
void sl_identify_set(struct sl_identify *identify, struct sl_identity *identity);
struct sl_identify *sl_identify_free(struct sl_identify *identify);

/* The table in use; NULL: nothing is configured. Owns: the caller, a reference;
 * sl_identity_unref(). Thread: any. */
struct sl_identity *sl_identify_take(struct sl_identify *identify);

/* What whoever is not known is told. */
#define SL_IDENTIFY_REFUSAL "a valid key or client certificate is needed"

/* Asks the table in use, which may be a later one than that of the call's headers: a key that went
 * meanwhile starts nothing. SL_UNAUTHENTICATED: nobody knows him (any more); counted and logged.
 * SL_PERMISSION_DENIED: not this agent, which may be any text. Thread: the call's loop. */
SL_CHECK enum sl_status
sl_identify_may_run(struct sl_identify *identify, const struct sl_call *call, const char *agent);
/* The same for what is no start: SL_OK or SL_UNAUTHENTICATED. Whose run it is, the runtime knows.
 */
SL_CHECK enum sl_status sl_identify_check(struct sl_identify *identify, const struct sl_call *call);
/* Is it shown to the caller: may he list it, and run it in some way? One table
 * (sl_identify_take()) for all of a page. Thread: the call's loop. */
bool sl_identify_may_see(
    const struct sl_identity *identity, const struct sl_call *call, const char *agent);

#endif
