/* A run as a person wants to see it: a row of a table, or a page of its own. */
#ifndef SL_SERVICE_CLI_RUN_PRINT_H
#define SL_SERVICE_CLI_RUN_PRINT_H

#include <stdio.h>

#include "proto/sluice/v1/runtime.pb-c.h"
#include "runtime/base/status.h"

enum { SL_RUN_STATE_BYTES = 32 };

/* "running", or the number of a state that is newer than this program. */
void sl_run_state_name(Sluice__V1__RunState state, char room[SL_RUN_STATE_BYTES]);
/* Fails: SL_INVALID_ARGUMENT there is none of this name. */
SL_CHECK enum sl_status sl_run_state_find(const char *name, Sluice__V1__RunState *ret_state);

void sl_run_print_head(FILE *out);
/* A run that goes on has lasted until `now_ms` (Unix). */
void sl_run_print_row(FILE *out, const Sluice__V1__Run *run, uint64_t now_ms);
void sl_run_print_page(FILE *out, const Sluice__V1__Run *run, uint64_t now_ms);
/* Its conversation, one message behind the other. */
void sl_run_print_context(FILE *out, const Sluice__V1__Context *context);

#endif
