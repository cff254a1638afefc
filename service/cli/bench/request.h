/* What a call of `sluice bench` sends: a run of an agent, or JSON for any method. */
#ifndef SL_SERVICE_CLI_BENCH_REQUEST_H
#define SL_SERVICE_CLI_BENCH_REQUEST_H

#include "service/cli/bench/plan.h"

/* Fills the plan's method and requests; in its arena. With --call the schema is the server's, asked
 * by reflection over `cli`, whose loop is run for it, unless there is a --protoset. Gives
 * SL_EXIT_DONE, or another exit status after a line on stderr. */
int sl_bench_request_make(struct sl_bench_plan *plan, struct sl_cli *cli);

#endif
