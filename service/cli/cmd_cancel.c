/* sluice cancel RUN_ID: CancelRun, and where the run stands then. */
#include <stdio.h>

#include "proto/sluice/v1/runtime.sl.h"
#include "runtime/base/mem.h"
#include "service/cli/ask.h"
#include "service/cli/cli.h"
#include "service/cli/message_json.h"
#include "service/cli/run_print.h"
#include "service/cli/text.h"

struct cancel_command {
    struct sl_cli cli;
    const char *reason;
    bool must_wait;
};

static void on_reply(const void *message, void *user_data)
{
    const struct cancel_command *command = user_data;
    const Sluice__V1__CancelRunResponse *reply = message;
    if (command->cli.options.is_json) {
        json_t *json = sl_message_to_json(&reply->base);
        sl_text_put_json(stdout, json);
        json_decref(json);
    } else {
        char state[SL_RUN_STATE_BYTES];
        sl_run_state_name(reply->state, state);
        (void)puts(state);
    }
}

static int cancel_run(struct cancel_command *command, const char *run_id)
{
    struct sl_cli_ask ask = { .cli = &command->cli, .on_reply = on_reply, .user_data = command };
    const struct sl_client_call_options options = sl_cli_ask_options(&ask);
    struct sl_sluice__v1__agent_runtime__cancel_run__reader *reader = NULL;
    Sluice__V1__CancelRunRequest request;
    sluice__v1__cancel_run_request__init(&request);
    request.run_id = sl_unconst(run_id);
    request.wait = command->must_wait;
    if (command->reason != NULL) {
        request.reason = sl_unconst(command->reason);
    }
    const enum sl_status status = sl_sluice__v1__agent_runtime__cancel_run__open(
        command->cli.channel, &options, &request, &reader);
    return sl_cli_ask_wait(
        &ask, status, sl_sluice__v1__agent_runtime__cancel_run__client_call(reader));
}

static enum sl_status check_command(const struct cancel_command *command, const char *run_id)
{
    if (command->reason != NULL) {
        SL_TRY(sl_cli_check_text("--reason", sl_slice_str(command->reason)));
    }
    return sl_cli_check_text("RUN_ID", sl_slice_str(run_id));
}

static int run_cancel(int argc, char **argv)
{
    static const char *const required[] = { "RUN_ID", NULL };
    struct cancel_command command = { 0 };
    struct sl_cli_options options;
    if (sl_cli_parse(&options, &sl_cmd_cancel, &command, &argc, argv) != SL_OK ||
        !sl_cli_takes(argc, argv, required, 1)) {
        return sl_cli_usage(&sl_cmd_cancel);
    }
    int exit_code = SL_EXIT_USAGE;
    if (check_command(&command, argv[0]) == SL_OK && sl_cli_open(&command.cli, &options) == SL_OK) {
        exit_code = cancel_run(&command, argv[0]);
    }
    sl_cli_close(&command.cli);
    return exit_code;
}

static const struct sl_cli_flag flags[] = {
    { "--wait", SL_CLI_SWITCH, offsetof(struct cancel_command, must_wait), NULL,
      "until the run has ended" },
    { "--reason", SL_CLI_TEXT, offsetof(struct cancel_command, reason), "TEXT",
      "why, for the server's log" },
};

const struct sl_cli_command sl_cmd_cancel = {
    .name = "cancel",
    .arguments = "RUN_ID",
    .text = "cancel a run, and print its state",
    .run = run_cancel,
    .flags = flags,
    .n_flags = SL_COUNT(flags),
    .is_remote = true,
    .words = "<runs>",
};
