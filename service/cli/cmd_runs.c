/* sluice runs: ListRuns, all pages, as a table; sluice runs RUN_ID: GetRun. */
#include <stdio.h>
#include <time.h>

#include "proto/sluice/v1/runtime.sl.h"
#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "service/cli/ask.h"
#include "service/cli/cli.h"
#include "service/cli/message_json.h"
#include "service/cli/run_print.h"
#include "service/cli/text.h"

enum { LIMIT_MAX = 1000000, PAGE_MAX = 1000, PAGES_MAX = 1000000, TOKEN_BYTES = 4096 };

struct runs_command {
    struct sl_cli cli;
    const char *agent, *session_id, *state_text, *limit_text;
    bool has_context, has_head;
    Sluice__V1__RunState state;
    uint64_t limit, n_runs;
    char page_token[TOKEN_BYTES]; /* "": that was the last page */
};

static uint64_t now_ms(void)
{
    struct timespec now = { 0 };
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- A list ------------------------------------------------------------------------------------
 */

static void print_run(const struct runs_command *command, const Sluice__V1__Run *run)
{
    if (!command->cli.options.is_json) {
        sl_run_print_row(stdout, run, now_ms());
        return;
    }
    json_t *json = sl_message_to_json(&run->base);
    sl_text_put_json(stdout, json);
    json_decref(json);
}

static void on_page(const void *reply, void *user_data)
{
    struct runs_command *command = user_data;
    const Sluice__V1__ListRunsResponse *page = reply;
    if (!command->has_head && !command->cli.options.is_json) {
        sl_run_print_head(stdout);
    }
    command->has_head = true;
    for (size_t i = 0; i < page->n_runs && command->n_runs < command->limit; i++) {
        print_run(command, page->runs[i]);
        command->n_runs++;
    }
    (void)snprintf(command->page_token, TOKEN_BYTES, "%s", page->next_page_token);
}

static int list_page(struct runs_command *command)
{
    struct sl_cli_ask ask = { .cli = &command->cli, .on_reply = on_page, .user_data = command };
    const struct sl_client_call_options options = sl_cli_ask_options(&ask);
    const uint64_t n_wanted = command->limit - command->n_runs;
    struct sl_sluice__v1__agent_runtime__list_runs__reader *reader = NULL;
    Sluice__V1__ListRunsRequest request;
    sluice__v1__list_runs_request__init(&request);
    request.page_size = n_wanted > PAGE_MAX ? PAGE_MAX : (uint32_t)n_wanted;
    request.page_token = command->page_token;
    request.state = command->state;
    if (command->agent != NULL) {
        request.agent = sl_unconst(command->agent);
    }
    if (command->session_id != NULL) {
        request.session_id = sl_unconst(command->session_id);
    }
    const enum sl_status status = sl_sluice__v1__agent_runtime__list_runs__open(
        command->cli.channel, &options, &request, &reader);
    return sl_cli_ask_wait(
        &ask, status, sl_sluice__v1__agent_runtime__list_runs__client_call(reader));
}

static int list_runs(struct runs_command *command)
{
    int exit_code = SL_EXIT_DONE;
    for (size_t i = 0; i < PAGES_MAX; i++) {
        exit_code = list_page(command);
        if (exit_code != SL_EXIT_DONE || command->page_token[0] == '\0' ||
            command->n_runs >= command->limit) {
            break;
        }
    }
    return exit_code;
}

/* ---- One run -----------------------------------------------------------------------------------
 */

/* The run, as in the list, with its conversation as one more member. */
static void print_json(const Sluice__V1__GetRunResponse *reply)
{
    json_t *json = sl_message_to_json(&reply->run->base);
    if (json != NULL && reply->context != NULL) {
        (void)json_object_set_new(json, "context", sl_message_to_json(&reply->context->base));
    } else if (json != NULL && reply->context_absent[0] != '\0') {
        (void)json_object_set_new(json, "context_absent", json_string(reply->context_absent));
    }
    sl_text_put_json(stdout, json);
    json_decref(json);
}

static void on_run(const void *message, void *user_data)
{
    const struct runs_command *command = user_data;
    const Sluice__V1__GetRunResponse *reply = message;
    if (reply->run == NULL) {
        return; /* a server that is not ours */
    }
    if (command->cli.options.is_json) {
        print_json(reply);
        return;
    }
    sl_run_print_page(stdout, reply->run, now_ms());
    if (reply->context != NULL) {
        sl_run_print_context(stdout, reply->context);
    } else if (reply->context_absent[0] != '\0') {
        sl_cli_complain("no conversation: %s", reply->context_absent);
    }
}

static int show_run(struct runs_command *command, const char *run_id)
{
    struct sl_cli_ask ask = { .cli = &command->cli, .on_reply = on_run, .user_data = command };
    const struct sl_client_call_options options = sl_cli_ask_options(&ask);
    struct sl_sluice__v1__agent_runtime__get_run__reader *reader = NULL;
    Sluice__V1__GetRunRequest request;
    sluice__v1__get_run_request__init(&request);
    request.run_id = sl_unconst(run_id);
    request.include_context = command->has_context;
    const enum sl_status status = sl_sluice__v1__agent_runtime__get_run__open(
        command->cli.channel, &options, &request, &reader);
    return sl_cli_ask_wait(
        &ask, status, sl_sluice__v1__agent_runtime__get_run__client_call(reader));
}

/* ------------------------------------------------------------------------------------------------
 */

static enum sl_status check_list(struct runs_command *command)
{
    command->limit = LIMIT_MAX;
    if (command->limit_text != NULL &&
        sl_parse_u64(sl_slice_str(command->limit_text), 1, LIMIT_MAX, &command->limit) != SL_OK) {
        sl_cli_complain(
            "--limit: '%s' is not a number from 1 to %d", command->limit_text, LIMIT_MAX);
        return SL_INVALID_ARGUMENT;
    }
    if (command->state_text != NULL &&
        sl_run_state_find(command->state_text, &command->state) != SL_OK) {
        sl_cli_complain(
            "--state: '%s' is not running, waiting_approval, done, failed or cancelled",
            command->state_text);
        return SL_INVALID_ARGUMENT;
    }
    if (command->has_context) {
        sl_cli_complain("--context: of one run: give its RUN_ID");
        return SL_INVALID_ARGUMENT;
    }
    return command->agent == NULL ? SL_OK
                                  : sl_cli_check_text("--agent", sl_slice_str(command->agent));
}

static enum sl_status check_run(const struct runs_command *command, const char *run_id)
{
    if (command->agent != NULL || command->state_text != NULL || command->limit_text != NULL) {
        sl_cli_complain("--agent, --state and --limit choose from the list: there is a RUN_ID");
        return SL_INVALID_ARGUMENT;
    }
    return sl_cli_check_text("RUN_ID", sl_slice_str(run_id));
}

static int run_runs(int argc, char **argv)
{
    struct runs_command command = { 0 };
    struct sl_cli_options options;
    if (sl_cli_parse(&options, &sl_cmd_runs, &command, &argc, argv) != SL_OK ||
        !sl_cli_takes(argc, argv, NULL, 1)) {
        return sl_cli_usage(&sl_cmd_runs);
    }
    const bool is_list = argc == 0;
    int exit_code = SL_EXIT_USAGE;
    if ((is_list ? check_list(&command) : check_run(&command, argv[0])) == SL_OK &&
        sl_cli_open(&command.cli, &options) == SL_OK) {
        exit_code = is_list ? list_runs(&command) : show_run(&command, argv[0]);
    }
    sl_cli_close(&command.cli);
    return exit_code;
}

#define FLAG(name, kind, field, value, text)                                                       \
    {                                                                                              \
        name, kind, offsetof(struct runs_command, field), value, text                              \
    }
static const struct sl_cli_flag flags[] = {
    FLAG("--agent", SL_CLI_TEXT, agent, "NAME", "runs of this agent"),
    FLAG("--session", SL_CLI_TEXT, session_id, "ID", "runs of this session"),
    FLAG(
        "--state",
        SL_CLI_TEXT,
        state_text,
        "STATE",
        "running, waiting_approval, done, failed or cancelled"),
    FLAG("--limit", SL_CLI_TEXT, limit_text, "N", "at most so many; without it: all"),
    FLAG("--context", SL_CLI_SWITCH, has_context, NULL, "with RUN_ID: its conversation, too"),
};
#undef FLAG

const struct sl_cli_command sl_cmd_runs = {
    .name = "runs",
    .arguments = "[RUN_ID]",
    .text = "list the server's runs, or show one",
    .run = run_runs,
    .flags = flags,
    .n_flags = SL_COUNT(flags),
    .is_remote = true,
    .words = "<runs>",
};
