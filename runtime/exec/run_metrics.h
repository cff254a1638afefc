/* What is counted of runs, model answers and tool calls (metrics.h). Label values are names of
 * loaded agents, providers and tools, and codes. */
#ifndef SL_RUNTIME_EXEC_RUN_METRICS_H
#define SL_RUNTIME_EXEC_RUN_METRICS_H

#include "runtime/exec/run_private.h"

/* RunStarted is in the log. */
void sl_run_count_begin(const struct sl_run *run);
/* The ending is claimed; what follows until the end is the time that it took. */
void sl_run_count_claim(struct sl_run *run);
/* The terminal event is in the log, or could not be. */
void sl_run_count_end(struct sl_run *run);
/* It goes on in another process. */
void sl_run_count_parked(struct sl_run *run);
/* The reader is gone and the run goes on. */
void sl_run_count_detached(struct sl_run *run);

/* `n` runs more, or less, wait for their readers. */
void sl_run_count_paused(int n);

/* A request goes to the model. */
void sl_run_count_request(struct sl_run *run);
/* A piece of its answer. */
void sl_run_count_chunk(struct sl_run *run);
/* The answer is over, with this usage. */
void sl_run_count_answer(struct sl_run *run, const struct sl_usage *usage);

/* A tool call is over. `name` as the model gave it. */
void sl_run_count_tool(
    const struct sl_run *run, const char *name, const struct sl_tool_result *result);

#endif
