/* sluice approve RUN_ID APPROVAL_ID: DecideApproval. A decision is for exact arguments: they are
 * looked up in the run's events, and shown, unless their digest is given. */
#include <stdio.h>

#include "proto/sluice/v1/runtime.sl.h"
#include "runtime/base/crypto.h"
#include "runtime/base/mem.h"
#include "service/cli/ask.h"
#include "service/cli/cli.h"
#include "service/cli/message_json.h"
#include "service/cli/text.h"

enum { SHOWN_BYTES = 4096, HEX_BASE = 16 };

struct approve_command {
    struct sl_cli cli;
    const char *comment, *digest_text;
    bool is_denied;
    const char *approval_id;
    struct sl_client_call *call; /* Attach */
    uint8_t digest[SL_SHA256_BYTES];
    bool has_digest;
};

/* ---- The arguments -----------------------------------------------------------------------------
 */

static void note_event(struct approve_command *command, const Sluice__V1__StreamEvent *event)
{
    if (event->event_case != SLUICE__V1__STREAM_EVENT__EVENT_APPROVAL_REQUESTED) {
        return;
    }
    const Sluice__V1__ApprovalRequested *requested = event->approval_requested;
    if (strcmp(requested->approval_id, command->approval_id) != 0 ||
        requested->arguments_digest.len != SL_SHA256_BYTES) {
        return;
    }
    memcpy(command->digest, requested->arguments_digest.data, SL_SHA256_BYTES);
    command->has_digest = true;
    if (!command->cli.options.is_json) {
        sl_text_put_line(stdout, requested->tool_name, SHOWN_BYTES);
        (void)putchar(' ');
        sl_text_put_line(stdout, requested->arguments_json, SHOWN_BYTES);
        (void)putchar('\n');
    }
}

static void on_readable(struct sl_client_call *call, void *user_data)
{
    struct approve_command *command = user_data;
    void *message;
    enum sl_status status = SL_AGAIN;
    while (!command->has_digest && (status = sl_client_call_recv(call, &message)) == SL_OK) {
        note_event(command, message);
    }
    if (command->has_digest) {
        sl_cli_stop(&command->cli, SL_EXIT_DONE);
    } else if (status == SL_END) {
        sl_cli_complain("the run has no approval '%s'", command->approval_id);
        sl_cli_stop(&command->cli, SL_EXIT_ERROR);
    } else if (status != SL_AGAIN) {
        sl_cli_stop(&command->cli, sl_cli_report(call));
    }
}

/* Reads the run's events until the one that asks. */
static int find_arguments(struct approve_command *command, const char *run_id)
{
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = command->cli.options.timeout_ms,
                                                    .on_readable = on_readable,
                                                    .user_data = command };
    struct sl_sluice__v1__agent_runtime__attach__reader *reader;
    Sluice__V1__AttachRequest request;
    sluice__v1__attach_request__init(&request);
    request.run_id = sl_unconst(run_id);
    if (sl_sluice__v1__agent_runtime__attach__open(
            command->cli.channel, &options, &request, &reader) != SL_OK) {
        sl_cli_complain("out of memory");
        return SL_EXIT_ERROR;
    }
    command->call = sl_sluice__v1__agent_runtime__attach__client_call(reader);
    const int exit_code = sl_cli_run(&command->cli);
    command->call = sl_client_call_free(command->call);
    return exit_code;
}

/* ---- The decision ------------------------------------------------------------------------------
 */

static void on_reply(const void *message, void *user_data)
{
    const struct approve_command *command = user_data;
    const Sluice__V1__DecideApprovalResponse *reply = message;
    if (command->cli.options.is_json) {
        json_t *json = sl_message_to_json(&reply->base);
        sl_text_put_json(stdout, json);
        json_decref(json);
    } else {
        (void)puts(command->is_denied ? "denied" : "approved");
    }
}

static int decide(struct approve_command *command, const char *run_id)
{
    struct sl_cli_ask ask = { .cli = &command->cli, .on_reply = on_reply, .user_data = command };
    const struct sl_client_call_options options = sl_cli_ask_options(&ask);
    struct sl_sluice__v1__agent_runtime__decide_approval__reader *reader = NULL;
    Sluice__V1__ApprovalAnswer answer;
    sluice__v1__approval_answer__init(&answer);
    answer.approval_id = sl_unconst(command->approval_id);
    answer.arguments_digest.data = command->digest;
    answer.arguments_digest.len = SL_SHA256_BYTES;
    answer.decision = command->is_denied
                          ? SLUICE__V1__APPROVAL_DECISION__APPROVAL_DECISION_DENIED
                          : SLUICE__V1__APPROVAL_DECISION__APPROVAL_DECISION_APPROVED;
    if (command->comment != NULL) {
        answer.comment = sl_unconst(command->comment);
    }
    Sluice__V1__DecideApprovalRequest request;
    sluice__v1__decide_approval_request__init(&request);
    request.run_id = sl_unconst(run_id);
    request.answer = &answer;
    const enum sl_status status = sl_sluice__v1__agent_runtime__decide_approval__open(
        command->cli.channel, &options, &request, &reader);
    return sl_cli_ask_wait(
        &ask, status, sl_sluice__v1__agent_runtime__decide_approval__client_call(reader));
}

static int approve(struct approve_command *command, const char *run_id)
{
    const int exit_code = command->has_digest ? SL_EXIT_DONE : find_arguments(command, run_id);
    return exit_code == SL_EXIT_DONE ? decide(command, run_id) : exit_code;
}

/* ---- The command -------------------------------------------------------------------------------
 */

static enum sl_status read_digest(struct approve_command *command)
{
    static const char digits[] = "0123456789abcdef";
    const char *text = command->digest_text;
    bool is_good = strlen(text) == 2 * sizeof(command->digest);
    for (size_t i = 0; i < sizeof(command->digest) && is_good; i++) {
        const char *high = strchr(digits, text[2 * i]);
        const char *low = strchr(digits, text[2 * i + 1]);
        is_good = high != NULL && low != NULL;
        if (is_good) {
            command->digest[i] = (uint8_t)((high - digits) * HEX_BASE + (low - digits));
        }
    }
    if (!is_good) {
        sl_cli_complain("--digest: must be 64 digits of a SHA-256");
        return SL_INVALID_ARGUMENT;
    }
    command->has_digest = true;
    return SL_OK;
}

static enum sl_status check_command(struct approve_command *command, char **argv)
{
    if (command->comment != NULL) {
        SL_TRY(sl_cli_check_text("--comment", sl_slice_str(command->comment)));
    }
    if (command->digest_text != NULL) {
        SL_TRY(read_digest(command));
    }
    SL_TRY(sl_cli_check_text("RUN_ID", sl_slice_str(argv[0])));
    return sl_cli_check_text("APPROVAL_ID", sl_slice_str(argv[1]));
}

static int run_approve(int argc, char **argv)
{
    static const char *const required[] = { "RUN_ID", "APPROVAL_ID", NULL };
    struct approve_command command = { 0 };
    struct sl_cli_options options;
    if (sl_cli_parse(&options, &sl_cmd_approve, &command, &argc, argv) != SL_OK ||
        !sl_cli_takes(argc, argv, required, 2)) {
        return sl_cli_usage(&sl_cmd_approve);
    }
    int exit_code = SL_EXIT_USAGE;
    command.approval_id = argv[1];
    if (check_command(&command, argv) == SL_OK && sl_cli_open(&command.cli, &options) == SL_OK) {
        exit_code = approve(&command, argv[0]);
    }
    sl_cli_close(&command.cli);
    return exit_code;
}

static const struct sl_cli_flag flags[] = {
    { "--deny", SL_CLI_SWITCH, offsetof(struct approve_command, is_denied), NULL,
      "the call must not run" },
    { "--comment", SL_CLI_TEXT, offsetof(struct approve_command, comment), "TEXT",
      "why: for the run's events, and the model when it is denied" },
    { "--digest", SL_CLI_TEXT, offsetof(struct approve_command, digest_text), "HEX",
      "of the arguments; without it they are looked up, and shown" },
};

const struct sl_cli_command sl_cmd_approve = {
    .name = "approve",
    .arguments = "RUN_ID APPROVAL_ID",
    .text = "let a call of a run that waits for it go on, or not",
    .run = run_approve,
    .flags = flags,
    .n_flags = SL_COUNT(flags),
    .is_remote = true,
    .words = "<runs>",
};
