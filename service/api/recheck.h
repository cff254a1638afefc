/* Open streams are asked again: whoever lost what his stream began with loses the stream, too
 * (reliability.md 8.2). Each loop keeps its own, and looks once a second, while it has any, whether
 * there is a new table of identities or a key has expired; only then they are asked, a few in each
 * turn.
 *
 *   open ─▶ [a new table, an expired key] ─▶ due ─▶ asked: stands ─▶ open
 *                                                   does not ─▶ on_revoked */
#ifndef SL_SERVICE_API_RECHECK_H
#define SL_SERVICE_API_RECHECK_H

#include "runtime/base/list.h"
#include "service/api/identify.h"

struct sl_recheck_loop;

/* One stream; embedded in its owner. */
struct sl_recheck {
    struct sl_list node;
    struct sl_recheck_loop *loop; /* NULL: not started */
    const struct sl_call *call;
    const char *agent; /* NULL: it needs no right to one */
    int64_t expires_s; /* the answer is good until then */
    /* He may go on no more. Called at most once a look, never from inside a function of this file;
     * the owner may stop it and go. */
    void (*on_revoked)(struct sl_recheck *recheck, enum sl_identity_standing why);
};

/* Not started: sl_recheck_stop() is harmless. */
void sl_recheck_init(
    struct sl_recheck *recheck,
    const struct sl_call *call,
    void (*on_revoked)(struct sl_recheck *recheck, enum sl_identity_standing why));

/* From now on, for a call that sl_identify_…() let pass in this turn. `agent`: which he must have
 * the right to use with the call's method; borrowed; NULL: none. Owns: the caller, until
 * sl_recheck_stop(). Thread: the call's loop. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_recheck_start(struct sl_recheck *recheck, struct sl_identify *identify, const char *agent);

/* Can be repeated. Thread: the call's loop. */
void sl_recheck_stop(struct sl_recheck *recheck);

/* For sl_identify_free(): no stream is left. */
void sl_recheck_free_loops(struct sl_identify *identify);

#endif
