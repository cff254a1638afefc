/* What memory a run takes now. Costs a walk over its calls and texts, so only when somebody asks.
 * Not there: what libraries and the pool's jobs have (JSON trees, transfers). */
#ifndef SL_RUNTIME_EXEC_ACCOUNT_H
#define SL_RUNTIME_EXEC_ACCOUNT_H

#include "runtime/base/account.h"
#include "runtime/exec/record.h"
#include "runtime/exec/run.h"

/* All parts but `readers`, which is 0. Thread: the run's loop. */
void sl_run_account(const struct sl_run *run, struct sl_account *ret_account);
/* Bytes of the records that have no run any more, with the segments that only they have. Thread:
 * the loop. */
uint64_t sl_record_room_bytes(const struct sl_record_room *room);
/* Bytes of a conversation. */
uint64_t sl_history_memory(const struct sl_history *history);

#endif
