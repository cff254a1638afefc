/* One request and its one reply, for commands that do nothing else meanwhile:
 *
 *   options = sl_cli_ask_options(ask) ─▶ the method's __open() ─▶ sl_cli_ask_wait(ask, …) */
#ifndef SL_SERVICE_CLI_ASK_H
#define SL_SERVICE_CLI_ASK_H

#include "service/cli/cli.h"

/* `cli`, `on_reply` and `user_data` are set by the owner. */
struct sl_cli_ask {
    struct sl_cli *cli;
    void (*on_reply)(const void *reply, void *user_data); /* valid in the call */
    void *user_data;
};

/* For the call; they have the command's --timeout. Borrow `ask`. */
struct sl_client_call_options sl_cli_ask_options(struct sl_cli_ask *ask);
/* Runs the loop until the call's end, frees it, and gives the exit code; a failure is told on
 * stderr. `opened`: what __open() gave; when that is not SL_OK there is no call. Ctrl-C gives it
 * up: SL_EXIT_CANCELLED. May be used again for the next request. */
int sl_cli_ask_wait(struct sl_cli_ask *ask, enum sl_status opened, struct sl_client_call *call);

#endif
