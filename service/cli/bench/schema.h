/* --call: any method, by its descriptors. */
#ifndef SL_SERVICE_CLI_BENCH_SCHEMA_H
#define SL_SERVICE_CLI_BENCH_SCHEMA_H

#include "service/cli/bench/plan.h"

/* Fills the plan's method and requests from --call, --data and --protoset, or from what the server
 * says of itself by reflection (over `cli`). Gives SL_EXIT_DONE, or another exit status after a
 * line on stderr.
 */
int sl_bench_schema_make(struct sl_bench_plan *plan, struct sl_cli *cli);

#endif
