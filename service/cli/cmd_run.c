/* sluice run AGENT [INPUT]: ExecuteStreaming, shown live. */
#include <stdio.h>
#include <unistd.h>

#include "proto/sluice/v1/runtime.sl.h"
#include "runtime/base/buf.h"
#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "service/cli/cli.h"
#include "service/cli/message_json.h"
#include "service/cli/view.h"

enum { INPUT_MAX_BYTES = 4 * 1024 * 1024 };

struct run_command {
    struct sl_cli cli;
    struct sl_client_call *call;
    struct sl_view view;
    bool has_view;
    bool is_cancelled;
    const char *max_iterations, *request_id;
    bool has_tool_deltas;
    struct sl_buf input;
};

static void print_json(const Sluice__V1__StreamEvent *event)
{
    json_t *json = sl_event_to_json(event);
    if (json != NULL) {
        (void)json_dumpf(json, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
        (void)putchar('\n');
        (void)fflush(stdout);
        json_decref(json);
    }
}

static void show(struct run_command *command, const Sluice__V1__StreamEvent *event)
{
    if (command->cli.options.is_json) {
        print_json(event);
    } else {
        sl_view_event(&command->view, event);
    }
}

static void on_readable(struct sl_client_call *call, void *user_data)
{
    struct run_command *command = user_data;
    void *message;
    enum sl_status status = sl_client_call_recv(call, &message);
    while (status == SL_OK) {
        show(command, message);
        status = sl_client_call_recv(call, &message);
    }
    if (status == SL_AGAIN) {
        return;
    }
    if (command->has_view) {
        sl_view_done(&command->view);
    }
    if (status == SL_END) {
        sl_cli_stop(&command->cli, SL_EXIT_DONE);
    } else if (command->is_cancelled) {
        sl_cli_complain("cancelled");
        sl_cli_stop(&command->cli, SL_EXIT_CANCELLED);
    } else {
        sl_cli_stop(&command->cli, sl_cli_report(call));
    }
}

static void on_signal(struct sl_cli *cli, void *user_data)
{
    struct run_command *command = user_data;
    (void)cli;
    command->is_cancelled = true;
    sl_client_call_cancel(command->call); /* on_readable tells the end */
}

/* INPUT "-" is read from stdin. */
static enum sl_status read_input(struct run_command *command, const char *word)
{
    sl_buf_init(&command->input, INPUT_MAX_BYTES);
    if (strcmp(word, "-") != 0) {
        return sl_buf_add_str(&command->input, word);
    }
    uint8_t block[4096];
    size_t n;
    while ((n = fread(block, 1, sizeof(block), stdin)) > 0) {
        SL_TRY(sl_buf_add(&command->input, sl_slice_of(block, n)));
    }
    return SL_OK;
}

static enum sl_status open_call(struct run_command *command, const char *agent)
{
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = command->cli.options.timeout_ms,
                                                    .on_readable = on_readable,
                                                    .user_data = command };
    struct sl_sluice__v1__agent_runtime__execute_streaming__reader *reader;
    Sluice__V1__RunOptions run;
    sluice__v1__run_options__init(&run);
    Sluice__V1__ExecuteRequest request;
    sluice__v1__execute_request__init(&request);
    uint64_t max_iterations;
    if (command->max_iterations != NULL) {
        if (sl_parse_u64(sl_slice_str(command->max_iterations), 1, 1000, &max_iterations) !=
            SL_OK) {
            sl_cli_complain("--max-iterations: a number from 1 to 1000");
            return SL_INVALID_ARGUMENT;
        }
        run._max_iterations_case = SLUICE__V1__RUN_OPTIONS___MAX_ITERATIONS_MAX_ITERATIONS;
        run.max_iterations = (uint32_t)max_iterations;
    }
    run.tool_call_deltas = command->has_tool_deltas;
    request.agent = sl_unconst(agent);
    request.input = sl_unconst(sl_buf_cstr(&command->input));
    request.options = &run;
    if (command->request_id != NULL) {
        request.request_id = sl_unconst(command->request_id);
    }
    if (request.input == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    SL_TRY(sl_sluice__v1__agent_runtime__execute_streaming__open(
        command->cli.channel, &options, &request, &reader));
    command->call = sl_sluice__v1__agent_runtime__execute_streaming__client_call(reader);
    return SL_OK;
}

static int run_agent(struct run_command *command, const char *agent, const char *input)
{
    const enum sl_status status = read_input(command, input);
    if (status != SL_OK) {
        sl_cli_complain("the input is over %d bytes", INPUT_MAX_BYTES);
        return SL_EXIT_USAGE;
    }
    const enum sl_status opened = open_call(command, agent);
    if (opened != SL_OK) {
        return opened == SL_INVALID_ARGUMENT ? SL_EXIT_USAGE : SL_EXIT_ERROR;
    }
    if (!command->cli.options.is_json) {
        sl_view_init(&command->view, stdout, isatty(STDOUT_FILENO) == 1, command->cli.loop);
        command->has_view = true;
    }
    command->cli.on_signal = on_signal;
    command->cli.user_data = command;
    return sl_cli_run(&command->cli);
}

int sl_cmd_run(int argc, char **argv)
{
    struct run_command command = { 0 };
    struct sl_cli_options options;
    const struct sl_cli_flag flags[] = {
        { "--max-iterations", &command.max_iterations, NULL },
        { "--request-id", &command.request_id, NULL },
        { "--tool-deltas", NULL, &command.has_tool_deltas },
    };
    if (sl_cli_parse(&options, true, flags, SL_COUNT(flags), &argc, argv) != SL_OK || argc < 1 ||
        argc > 2) {
        sl_cli_complain("usage: sluice run AGENT [INPUT] [--max-iterations N] [--request-id ID] "
                        "[--tool-deltas] [OPTIONS]");
        return SL_EXIT_USAGE;
    }
    int exit_code = SL_EXIT_ERROR;
    if (sl_cli_open(&command.cli, &options) == SL_OK) {
        exit_code = run_agent(&command, argv[0], argc == 2 ? argv[1] : "");
    }
    command.call = sl_client_call_free(command.call);
    sl_cli_close(&command.cli);
    sl_buf_done(&command.input);
    return exit_code;
}
