/* Decides what a run asks for, for `--approve all` and `--approve ask`: DecideApproval by name, so
 * that it works on every stream that shows the run, and one that is refused ends none. Thread: that
 * of the command's loop. */
#ifndef SL_SERVICE_CLI_APPROVE_H
#define SL_SERVICE_CLI_APPROVE_H

#include "proto/sluice/v1/runtime.pb-c.h"
#include "service/cli/cli.h"

enum { SL_CLI_APPROVE_CALLS = 16 };

/* All zero but `cli` and, maybe, the next two is the start. */
struct sl_cli_approve {
    struct sl_cli *cli;
    /* Around a line on stderr; NULL: nothing stands in its way. */
    void (*on_line)(bool is_written, void *user_data);
    void *user_data;
    struct sl_client_call *calls[SL_CLI_APPROVE_CALLS]; /* NULL: free */
};

/* What goes wrong is a line on stderr; the call then waits for somebody else. */
void sl_cli_approve_send(
    struct sl_cli_approve *approve, const char *run_id, const Sluice__V1__ApprovalAnswer *answer);
/* The answer that lets it run; borrows. */
Sluice__V1__ApprovalAnswer sl_cli_approve_answer(const Sluice__V1__ApprovalRequested *requested);
void sl_cli_approve_done(struct sl_cli_approve *approve);

#endif
