/* Who wants to know when a call of the server's is over: calls of a client that were opened for it.
 * Thread: the call's loop. */
#ifndef SL_SERVICE_RPC_CALL_WATCH_H
#define SL_SERVICE_RPC_CALL_WATCH_H

#include "runtime/base/list.h"
#include "service/rpc/call.h"

/* Embedded in who watches. Runs once, when the call's end is decided, whoever decides it; it is no
 * longer linked then. Must not touch the call. */
struct sl_call_watch {
    struct sl_list node;
    void (*on_over)(struct sl_call_watch *watch);
};

/* Fails: SL_CANCELLED the call is over already, and nothing was linked. */
SL_CHECK enum sl_status sl_call_watch(struct sl_call *call, struct sl_call_watch *watch);
/* Of a watch whose node was made by sl_list_init() or linked; any number of times. */
void sl_call_unwatch(struct sl_call_watch *watch);

#endif
