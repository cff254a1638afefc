/* sluice run AGENT [INPUT]: ExecuteStreaming, shown live. */
#include <stdatomic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "proto/sluice/v1/runtime.sl.h"
#include "runtime/base/buf.h"
#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "runtime/base/random.h"
#include "runtime/base/utf8.h"
#include "service/cli/cli.h"
#include "service/cli/message_json.h"
#include "service/cli/pairs.h"
#include "service/cli/text.h"
#include "service/cli/view.h"

enum { INPUT_MAX_BYTES = 4 * 1024 * 1024 };

struct run_command {
    struct sl_cli cli;
    struct sl_client_call *call;
    struct sl_view view;
    bool has_view;
    bool is_cancelled, is_given_up;
    const char *max_iterations, *request_id;
    char own_id[SL_ID_BYTES];
    uint64_t n_iterations; /* 0: the agent's */
    bool has_tool_deltas;
    struct sl_cli_list metadata_words, credential_words;
    struct sl_cli_pairs metadata, credentials;
    struct sl_buf input;
};

static size_t columns_of_stdout(void)
{
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

static void print_json(const Sluice__V1__StreamEvent *event)
{
    json_t *json = sl_event_to_json(event);
    sl_text_put_json(stdout, json);
    (void)fflush(stdout);
    json_decref(json);
}

/* Nobody reads on: the run is given up, too. main() tells of it. */
static void give_up(struct run_command *command)
{
    if (!command->is_given_up) {
        command->is_given_up = true;
        sl_client_call_cancel(command->call);
    }
}

static void show(struct run_command *command, const Sluice__V1__StreamEvent *event)
{
    if (command->cli.options.is_json) {
        print_json(event);
    } else {
        sl_view_event(&command->view, event);
    }
    if (ferror(stdout) != 0) {
        give_up(command);
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
    } else if (command->is_given_up) {
        sl_cli_stop(&command->cli, SL_EXIT_ERROR);
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

/* A `string` of protobuf: what is none is refused here, in words of the command line. */
static enum sl_status check_text(const char *what, struct sl_slice text)
{
    if (text.size == 0 || sl_utf8_is_clean(text)) {
        return SL_OK;
    }
    sl_cli_complain("%s: not a text: it is not valid UTF-8, or has a NUL", what);
    return SL_INVALID_ARGUMENT;
}

/* INPUT "-" is read from stdin. Fails after a line on stderr. */
static enum sl_status read_input(struct run_command *command, const char *word)
{
    struct sl_buf *input = &command->input;
    const bool is_stdin = strcmp(word, "-") == 0;
    uint8_t block[4096];
    sl_buf_init(input, INPUT_MAX_BYTES);
    enum sl_status status = is_stdin ? SL_OK : sl_buf_add_str(input, word);
    size_t n;
    while (status == SL_OK && is_stdin && (n = fread(block, 1, sizeof(block), stdin)) > 0) {
        status = sl_buf_add(input, sl_slice_of(block, n));
    }
    if (status != SL_OK) {
        sl_cli_complain("INPUT: over %d bytes", INPUT_MAX_BYTES);
        return status;
    }
    if (is_stdin && ferror(stdin) != 0) {
        sl_cli_complain("INPUT: standard input cannot be read");
        return SL_INVALID_ARGUMENT;
    }
    return check_text("INPUT", sl_buf_slice(input));
}

static enum sl_status fill_metadata(
    Sluice__V1__ExecuteRequest *request, const struct sl_cli_pairs *pairs, struct sl_arena *arena)
{
    typedef Sluice__V1__ExecuteRequest__MetadataEntry entry_t;
    entry_t *entries = sl_arena_calloc(arena, pairs->n_items, sizeof(*entries));
    request->metadata = sl_arena_calloc(arena, pairs->n_items, sizeof(entry_t *));
    if (entries == NULL || request->metadata == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < pairs->n_items; i++) {
        sluice__v1__execute_request__metadata_entry__init(&entries[i]);
        entries[i].key = sl_unconst(pairs->items[i].name);
        entries[i].value = pairs->items[i].value;
        request->metadata[i] = &entries[i];
    }
    request->n_metadata = pairs->n_items;
    return SL_OK;
}

static enum sl_status fill_credentials(
    Sluice__V1__ExecuteRequest *request, const struct sl_cli_pairs *pairs, struct sl_arena *arena)
{
    typedef Sluice__V1__ExecuteRequest__CredentialsEntry entry_t;
    entry_t *entries = sl_arena_calloc(arena, pairs->n_items, sizeof(*entries));
    request->credentials = sl_arena_calloc(arena, pairs->n_items, sizeof(entry_t *));
    if (entries == NULL || request->credentials == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < pairs->n_items; i++) {
        sluice__v1__execute_request__credentials_entry__init(&entries[i]);
        entries[i].key = sl_unconst(pairs->items[i].name);
        entries[i].value = pairs->items[i].value;
        request->credentials[i] = &entries[i];
    }
    request->n_credentials = pairs->n_items;
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
    if (command->n_iterations > 0) {
        run._max_iterations_case = SLUICE__V1__RUN_OPTIONS___MAX_ITERATIONS_MAX_ITERATIONS;
        run.max_iterations = (uint32_t)command->n_iterations;
    }
    run.tool_call_deltas = command->has_tool_deltas;
    request.agent = sl_unconst(agent);
    request.input = sl_unconst(sl_buf_cstr(&command->input));
    request.options = &run;
    if (command->request_id != NULL) {
        request.request_id = sl_unconst(command->request_id);
    } else if (command->cli.options.n_retries > 0) {
        /* The first try may have begun, and its answer was lost. */
        sl_random_id(command->own_id);
        request.request_id = command->own_id;
    }
    if (request.input == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    SL_TRY(fill_metadata(&request, &command->metadata, &command->metadata.arena));
    SL_TRY(fill_credentials(&request, &command->credentials, &command->credentials.arena));
    SL_TRY(sl_sluice__v1__agent_runtime__execute_streaming__open(
        command->cli.channel, &options, &request, &reader));
    command->call = sl_sluice__v1__agent_runtime__execute_streaming__client_call(reader);
    return SL_OK;
}

static void open_view(struct run_command *command)
{
    struct sl_view_style style = { .columns = columns_of_stdout };
    sl_cli_terminal(&style.is_terminal, &style.has_colours);
    if (style.has_colours) {
        atomic_store(&command->cli.restore, "\x1b[0m\n");
    }
    sl_view_init(&command->view, stdout, &style, command->cli.loop);
    command->has_view = true;
}

static int run_agent(struct run_command *command, const char *agent)
{
    if (open_call(command, agent) != SL_OK) {
        sl_cli_complain("out of memory");
        return SL_EXIT_ERROR;
    }
    if (!command->cli.options.is_json) {
        open_view(command);
    }
    command->cli.on_signal = on_signal;
    command->cli.user_data = command;
    return sl_cli_run(&command->cli);
}

/* What is wrong with the command line is told before anything is connected. */
static enum sl_status check_command(struct run_command *command, int argc, char **argv)
{
    if (command->max_iterations != NULL &&
        sl_parse_u64(sl_slice_str(command->max_iterations), 1, 1000, &command->n_iterations) !=
            SL_OK) {
        sl_cli_complain(
            "--max-iterations: '%s' is not a number from 1 to 1000", command->max_iterations);
        return SL_INVALID_ARGUMENT;
    }
    SL_TRY(check_text("AGENT", sl_slice_str(argv[0])));
    if (command->request_id != NULL) {
        SL_TRY(check_text("--request-id", sl_slice_str(command->request_id)));
    }
    SL_TRY(sl_cli_read_pairs(&command->metadata_words, "--metadata", &command->metadata));
    SL_TRY(sl_cli_read_secrets(&command->credential_words, "--credential", &command->credentials));
    return read_input(command, argc == 2 ? argv[1] : "");
}

static int run_run(int argc, char **argv)
{
    static const char *const required[] = { "AGENT", NULL };
    struct run_command command = { 0 };
    struct sl_cli_options options;
    if (sl_cli_parse(&options, &sl_cmd_run, &command, &argc, argv) != SL_OK ||
        !sl_cli_takes(argc, argv, required, 2)) {
        return sl_cli_usage(&sl_cmd_run);
    }
    int exit_code = SL_EXIT_USAGE;
    if (check_command(&command, argc, argv) == SL_OK &&
        sl_cli_open(&command.cli, &options) == SL_OK) {
        exit_code = run_agent(&command, argv[0]);
    }
    command.call = sl_client_call_free(command.call);
    sl_cli_close(&command.cli);
    sl_buf_done(&command.input);
    sl_cli_pairs_done(&command.metadata);
    sl_cli_pairs_done(&command.credentials);
    return exit_code;
}

#define FLAG(name, kind, field, value, text)                                                       \
    {                                                                                              \
        name, kind, offsetof(struct run_command, field), value, text                               \
    }
static const struct sl_cli_flag flags[] = {
    FLAG("--max-iterations", SL_CLI_TEXT, max_iterations, "N", "at most this many, for this run"),
    FLAG(
        "--request-id",
        SL_CLI_TEXT,
        request_id,
        "ID",
        "a second run with the same id follows the first"),
    FLAG("--metadata", SL_CLI_LIST, metadata_words, "KEY=VALUE", "kept with the run; repeatable"),
    FLAG(
        "--credential",
        SL_CLI_LIST,
        credential_words,
        "NAME=env:VAR",
        "for the tools that ask for it; also NAME=file:PATH; repeatable"),
    FLAG("--tool-deltas", SL_CLI_SWITCH, has_tool_deltas, NULL, "events tool_call_delta, too"),
};
#undef FLAG

const struct sl_cli_command sl_cmd_run = {
    .name = "run",
    .arguments = "AGENT [INPUT]",
    .text = "run an agent and show its events; INPUT - reads stdin",
    .run = run_run,
    .flags = flags,
    .n_flags = SL_COUNT(flags),
    .is_remote = true,
    .words = "<agents>",
};
