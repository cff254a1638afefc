/* The lease of this process on its runs (RL-4.2): the store gives it for a while, and is asked
 * again in time. A process that could not renew it starts no tool and no model request, because
 * somebody else may have its runs; what it writes all the same the store's epoch refuses.
 *
 *   start ─▶ renew ─▶ answered: good for two thirds of the lease, from the moment before it asked
 *              ▲         │ one that never ends: it is not asked for again
 *              └─ 5 s ◀──┘ failed: what was good stays so until it is over
 *
 * Asked on the first loop; each loop has a part, where runs wait until it is good again. */
#ifndef SL_RUNTIME_EXEC_LEASE_H
#define SL_RUNTIME_EXEC_LEASE_H

#include "runtime/base/list.h"
#include "runtime/base/loop.h"
#include "runtime/store/store.h"

enum { SL_LEASE_RENEW_MS = 5000 };

struct sl_lease;
struct sl_lease_part;

struct sl_lease_options {
    struct sl_store *store;
    struct sl_loop *const *loops;
    size_t n_loops;
    /* Around whatever is under way: the lease must not be freed meanwhile. Thread: any loop. */
    void (*hold)(void *user_data);
    void (*release)(void *user_data);
    void *user_data;
};

/* Not good before it is started. Owns: the caller; sl_lease_free(). Fails: SL_RESOURCE_EXHAUSTED.
 */
SL_CHECK enum sl_status
sl_lease_new(const struct sl_lease_options *options, struct sl_lease **ret_lease);
/* Asks for the first time; a store whose leases do not end answers at once, and nothing more is
 * done. Thread: the first loop, or any before the loops run. */
void sl_lease_start(struct sl_lease *lease);
/* It is not renewed any more. Thread: the first loop. Accepts NULL. */
void sl_lease_stop(struct sl_lease *lease);
/* Accepts NULL; gives NULL. After the stop, when nothing is held. */
struct sl_lease *sl_lease_free(struct sl_lease *lease);
struct sl_lease_part *sl_lease_at(struct sl_lease *lease, size_t loop);

/* One that waits: embedded in its owner, all zero in the beginning. */
struct sl_lease_waiter {
    struct sl_list node;
    void (*on_good)(struct sl_lease_waiter *waiter); /* from a task, once */
    /* The lease's. */
    struct sl_lease_part *part;
    bool is_waiting;
};

/* True: it is good now, or `part` is NULL. False: on_good comes when it is. It may be said again
 * while it waits. Thread: the part's loop. */
SL_CHECK bool sl_lease_await(struct sl_lease_part *part, struct sl_lease_waiter *waiter);
/* Harmless if it does not wait. Thread: the same. */
void sl_lease_forget(struct sl_lease_waiter *waiter);

#endif
