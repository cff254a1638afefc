/* What a run does not start while the process has no lease (RL-4.2): tools, and requests to the
 * model. */
#include "runtime/exec/run_private.h"

static void on_good(struct sl_lease_waiter *waiter)
{
    struct sl_run *run = SL_CONTAINER(waiter, struct sl_run, lease);
    run->when_leased(run); /* which does nothing for a run that has ended meanwhile */
}

bool sl_run_lease_wait(struct sl_run *run, void (*when_leased)(struct sl_run *run))
{
    if (run->env->lease == NULL) {
        return true;
    }
    run->lease.on_good = on_good;
    run->when_leased = when_leased;
    return sl_lease_await(run->env->lease, &run->lease);
}
