/* Memory of the runs of a loop: looked up, never kept. */
#ifndef SL_RUNTIME_ACCOUNT_H
#define SL_RUNTIME_ACCOUNT_H

#include "runtime/runtime_private.h"

/* Of the run of `stream`, with its readers, whatever loop they are on. Thread: the run's loop. */
void sl_run_stream_account(const struct sl_run_stream *stream, struct sl_account *ret_account);

#endif
