/* Who is connected: how many connections there are, and how many of each address. Listeners that
 * share one have their limits together (CM-12). */
#ifndef SL_SERVICE_NET_CENSUS_H
#define SL_SERVICE_NET_CENSUS_H

#include "runtime/base/limits.h"
#include "service/net/address.h"

struct sl_net_census; /* counted */

/* With one reference. NULL: no memory. Thread of all: any. */
SL_CHECK struct sl_net_census *sl_net_census_new(void);
struct sl_net_census *sl_net_census_ref(struct sl_net_census *census);
/* Accepts NULL; gives NULL. */
struct sl_net_census *sl_net_census_unref(struct sl_net_census *census);
/* Counts a connection; false: it is over a limit, which is told, or there is no memory. `limits`:
 * connections, connections_per_address. */
SL_CHECK bool sl_net_census_enter(
    struct sl_net_census *census,
    const uint8_t key[SL_NET_KEY_BYTES],
    const struct sl_limits *limits);
/* One that entered has gone. */
void sl_net_census_leave(struct sl_net_census *census, const uint8_t key[SL_NET_KEY_BYTES]);

#endif
