/* sluice attach RUN_ID: follows a run that somebody started, shown as `sluice run` shows its own.
 */
#include <stdio.h>

#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "service/cli/cli.h"
#include "service/cli/follow.h"

struct attach_command {
    struct sl_cli cli;
    struct sl_cli_follow follow;
    const char *after_text;
    uint64_t after;
};

static enum sl_status check_command(struct attach_command *command, const char *run_id)
{
    if (command->after_text != NULL &&
        sl_parse_u64(sl_slice_str(command->after_text), 0, INT64_MAX, &command->after) != SL_OK) {
        sl_cli_complain("--after: '%s' is not the sequence of an event", command->after_text);
        return SL_INVALID_ARGUMENT;
    }
    if (strlen(run_id) >= SL_CLI_RUN_ID_BYTES) {
        sl_cli_complain("RUN_ID: over %d bytes", SL_CLI_RUN_ID_BYTES - 1);
        return SL_INVALID_ARGUMENT;
    }
    return sl_cli_check_text("RUN_ID", sl_slice_str(run_id));
}

static int follow_run(struct attach_command *command, const char *run_id)
{
    struct sl_cli_follow *follow = &command->follow;
    sl_cli_follow_init(follow, &command->cli);
    follow->may_attach = true;
    follow->sequence = command->after;
    (void)snprintf(follow->run_id, sizeof(follow->run_id), "%s", run_id);
    sl_cli_follow_attach(follow);
    return sl_cli_run(&command->cli);
}

static int run_attach(int argc, char **argv)
{
    static const char *const required[] = { "RUN_ID", NULL };
    struct attach_command command = { 0 };
    struct sl_cli_options options;
    if (sl_cli_parse(&options, &sl_cmd_attach, &command, &argc, argv) != SL_OK ||
        !sl_cli_takes(argc, argv, required, 1)) {
        return sl_cli_usage(&sl_cmd_attach);
    }
    int exit_code = SL_EXIT_USAGE;
    if (check_command(&command, argv[0]) == SL_OK && sl_cli_open(&command.cli, &options) == SL_OK) {
        exit_code = follow_run(&command, argv[0]);
    }
    sl_cli_follow_done(&command.follow);
    sl_cli_close(&command.cli);
    return exit_code;
}

static const struct sl_cli_flag flags[] = {
    { "--after", SL_CLI_TEXT, offsetof(struct attach_command, after_text), "N",
      "only the events behind this sequence" },
};

const struct sl_cli_command sl_cmd_attach = {
    .name = "attach",
    .arguments = "RUN_ID",
    .text = "follow a run; Ctrl-C does not end it",
    .run = run_attach,
    .flags = flags,
    .n_flags = SL_COUNT(flags),
    .is_remote = true,
    .words = "<runs>",
};
