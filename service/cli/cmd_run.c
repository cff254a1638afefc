/* sluice run AGENT [INPUT]: ExecuteStreaming, shown live; or StartRun, which only gives the run's
 * id.
 */
#include <stdio.h>

#include "proto/sluice/v1/runtime.sl.h"
#include "runtime/base/buf.h"
#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "runtime/base/random.h"
#include "service/cli/ask.h"
#include "service/cli/cli.h"
#include "service/cli/follow.h"
#include "service/cli/message_json.h"
#include "service/cli/pairs.h"
#include "service/cli/text.h"

enum approve { APPROVE_NONE, APPROVE_ALL, APPROVE_ASK };

enum { INPUT_MAX_BYTES = 4 * 1024 * 1024, TTL_MIN_MS = 1000, TTL_MAX_MS = 86400000 };

struct run_command {
    struct sl_cli cli;
    struct sl_cli_follow follow;
    const char *max_iterations, *request_id, *on_disconnect_text, *session_id, *policy_text;
    const char *approve_text;
    enum approve approve;
    char own_id[SL_ID_BYTES];
    uint64_t n_iterations; /* 0: the agent's */
    Sluice__V1__OnDisconnect on_disconnect;
    Sluice__V1__SessionPolicy policy;
    uint64_t detach_ttl_ms;
    bool has_tool_deltas, is_detached, is_json;
    struct sl_cli_list metadata_words, credential_words;
    struct sl_cli_pairs metadata, credentials;
    struct sl_buf input;
};

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
    return sl_cli_check_text("INPUT", sl_buf_slice(input));
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

static void fill_options(const struct run_command *command, Sluice__V1__RunOptions *run)
{
    sluice__v1__run_options__init(run);
    if (command->n_iterations > 0) {
        run->_max_iterations_case = SLUICE__V1__RUN_OPTIONS___MAX_ITERATIONS_MAX_ITERATIONS;
        run->max_iterations = (uint32_t)command->n_iterations;
    }
    run->tool_call_deltas = command->has_tool_deltas;
    run->on_disconnect = command->on_disconnect;
    run->detach_ttl_ms = command->detach_ttl_ms;
    run->session_policy = command->policy;
    if (!command->is_detached) { /* Ctrl-C is a reset, and it means the run */
        run->_cancel_on_reset_case = SLUICE__V1__RUN_OPTIONS___CANCEL_ON_RESET_CANCEL_ON_RESET;
        run->cancel_on_reset = true;
    }
}

static enum sl_status fill_request(
    struct run_command *command,
    const char *agent,
    Sluice__V1__RunOptions *run,
    Sluice__V1__ExecuteRequest *request)
{
    fill_options(command, run);
    sluice__v1__execute_request__init(request);
    request->agent = sl_unconst(agent);
    request->input = sl_unconst(sl_buf_cstr(&command->input));
    request->options = run;
    if (command->session_id != NULL) {
        request->session_id = sl_unconst(command->session_id);
    }
    if (command->request_id != NULL) {
        request->request_id = sl_unconst(command->request_id);
    } else if (command->cli.options.n_retries > 0) {
        /* The first try may have begun, and its answer was lost. */
        sl_random_id(command->own_id);
        request->request_id = command->own_id;
    }
    if (request->input == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    SL_TRY(fill_metadata(request, &command->metadata, &command->metadata.arena));
    return fill_credentials(request, &command->credentials, &command->credentials.arena);
}

static int follow_run(struct run_command *command, const Sluice__V1__ExecuteRequest *request)
{
    struct sl_cli_follow *follow = &command->follow;
    struct sl_sluice__v1__agent_runtime__execute_streaming__reader *reader;
    sl_cli_follow_init(follow, &command->cli);
    follow->owns_run = true;
    follow->approves_all = command->approve == APPROVE_ALL;
    follow->asks = command->approve == APPROVE_ASK;
    follow->may_attach =
        command->on_disconnect == SLUICE__V1__ON_DISCONNECT__ON_DISCONNECT_DETACH ||
        command->on_disconnect == SLUICE__V1__ON_DISCONNECT__ON_DISCONNECT_DETACH_FOR;
    const struct sl_client_call_options options = sl_cli_follow_options(follow);
    if (sl_sluice__v1__agent_runtime__execute_streaming__open(
            command->cli.channel, &options, request, &reader) != SL_OK) {
        sl_cli_complain("out of memory");
        return SL_EXIT_ERROR;
    }
    follow->call = sl_sluice__v1__agent_runtime__execute_streaming__client_call(reader);
    return sl_cli_run(&command->cli);
}

/* ---- --detach ----------------------------------------------------------------------------------
 */

static void on_started(const void *reply, void *user_data)
{
    const struct run_command *command = user_data;
    const Sluice__V1__StartRunResponse *started = reply;
    if (command->cli.options.is_json) {
        json_t *json = sl_message_to_json(&started->base);
        sl_text_put_json(stdout, json);
        json_decref(json);
    } else {
        sl_text_put_line(stdout, started->run_id, SL_CLI_RUN_ID_BYTES);
        (void)putchar('\n');
    }
}

static int start_run(struct run_command *command, const Sluice__V1__ExecuteRequest *request)
{
    struct sl_cli_ask ask = { .cli = &command->cli, .on_reply = on_started, .user_data = command };
    const struct sl_client_call_options options = sl_cli_ask_options(&ask);
    struct sl_sluice__v1__agent_runtime__start_run__reader *reader = NULL;
    const enum sl_status status = sl_sluice__v1__agent_runtime__start_run__open(
        command->cli.channel, &options, request, &reader);
    return sl_cli_ask_wait(
        &ask, status, sl_sluice__v1__agent_runtime__start_run__client_call(reader));
}

/* ------------------------------------------------------------------------------------------------
 */

static int run_agent(struct run_command *command, const char *agent)
{
    Sluice__V1__RunOptions run;
    Sluice__V1__ExecuteRequest request;
    if (fill_request(command, agent, &run, &request) != SL_OK) {
        sl_cli_complain("out of memory");
        return SL_EXIT_ERROR;
    }
    return command->is_detached ? start_run(command, &request) : follow_run(command, &request);
}

/* cancel, detach or detach-for:DURATION. */
static enum sl_status check_on_disconnect(struct run_command *command)
{
    static const char detach_for[] = "detach-for:";
    const char *text = command->on_disconnect_text;
    if (text == NULL) {
        return SL_OK;
    }
    if (strcmp(text, "cancel") == 0) {
        command->on_disconnect = SLUICE__V1__ON_DISCONNECT__ON_DISCONNECT_CANCEL;
    } else if (strcmp(text, "detach") == 0) {
        command->on_disconnect = SLUICE__V1__ON_DISCONNECT__ON_DISCONNECT_DETACH;
    } else if (
        strncmp(text, detach_for, strlen(detach_for)) == 0 &&
        sl_parse_duration_ms(
            sl_slice_str(text + strlen(detach_for)), TTL_MAX_MS, &command->detach_ttl_ms) ==
            SL_OK &&
        command->detach_ttl_ms >= TTL_MIN_MS) {
        command->on_disconnect = SLUICE__V1__ON_DISCONNECT__ON_DISCONNECT_DETACH_FOR;
    } else {
        sl_cli_complain(
            "--on-disconnect: '%s' is not cancel, detach or detach-for:DURATION (1s to 24h)", text);
        return SL_INVALID_ARGUMENT;
    }
    if (command->is_detached &&
        command->on_disconnect == SLUICE__V1__ON_DISCONNECT__ON_DISCONNECT_CANCEL) {
        sl_cli_complain(
            "--on-disconnect: with --detach there is no stream whose loss could cancel");
        return SL_INVALID_ARGUMENT;
    }
    return SL_OK;
}

/* What to do when the session has a run. */
static enum sl_status check_session(struct run_command *command)
{
    static const char *const names[] = { "reject", "enqueue", "interrupt" };
    static const Sluice__V1__SessionPolicy policies[] = {
        SLUICE__V1__SESSION_POLICY__SESSION_POLICY_REJECT,
        SLUICE__V1__SESSION_POLICY__SESSION_POLICY_ENQUEUE,
        SLUICE__V1__SESSION_POLICY__SESSION_POLICY_INTERRUPT,
    };
    if (command->session_id != NULL) {
        SL_TRY(sl_cli_check_text("--session", sl_slice_str(command->session_id)));
    }
    if (command->policy_text == NULL) {
        return SL_OK;
    }
    if (command->session_id == NULL) {
        sl_cli_complain("--session-policy: only with --session");
        return SL_INVALID_ARGUMENT;
    }
    for (size_t i = 0; i < SL_COUNT(names); i++) {
        if (strcmp(command->policy_text, names[i]) == 0) {
            command->policy = policies[i];
            return SL_OK;
        }
    }
    sl_cli_complain(
        "--session-policy: '%s' is not reject, enqueue or interrupt", command->policy_text);
    return SL_INVALID_ARGUMENT;
}

/* Who decides the calls that ask. Without --approve it is the person at the terminal, if there is
 * one. */
static enum sl_status check_approve(struct run_command *command, bool is_stdin_input)
{
    static const char *const names[] = { "none", "all", "ask" }; /* enum approve */
    const char *text = command->approve_text;
    const bool can_ask = !command->is_json && !is_stdin_input && sl_cli_lines_has_person();
    if (text == NULL) {
        command->approve = can_ask && !command->is_detached ? APPROVE_ASK : APPROVE_NONE;
        return SL_OK;
    }
    if (command->is_detached) {
        sl_cli_complain("--approve: with --detach nobody is there to approve");
        return SL_INVALID_ARGUMENT;
    }
    for (size_t i = 0; i < SL_COUNT(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            command->approve = (enum approve)i;
        }
    }
    if (strcmp(text, names[command->approve]) != 0) {
        sl_cli_complain("--approve: '%s' is not ask, all or none", text);
        return SL_INVALID_ARGUMENT;
    }
    if (command->approve == APPROVE_ASK && !can_ask) {
        sl_cli_complain(
            "--approve: ask needs a terminal for questions and answers, without --json and "
            "INPUT -");
        return SL_INVALID_ARGUMENT;
    }
    return SL_OK;
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
    SL_TRY(check_on_disconnect(command));
    SL_TRY(check_session(command));
    SL_TRY(check_approve(command, argc == 2 && strcmp(argv[1], "-") == 0));
    SL_TRY(sl_cli_check_text("AGENT", sl_slice_str(argv[0])));
    if (command->request_id != NULL) {
        SL_TRY(sl_cli_check_text("--request-id", sl_slice_str(command->request_id)));
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
    command.is_json = options.is_json;
    if (check_command(&command, argc, argv) == SL_OK &&
        sl_cli_open(&command.cli, &options) == SL_OK) {
        exit_code = run_agent(&command, argv[0]);
    }
    sl_cli_follow_done(&command.follow);
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
    FLAG("--session", SL_CLI_TEXT, session_id, "ID", "go on with this conversation"),
    FLAG(
        "--session-policy",
        SL_CLI_TEXT,
        policy_text,
        "WHAT",
        "when the session has a run: reject, enqueue, interrupt"),
    FLAG("--request-id", SL_CLI_TEXT, request_id, "ID", "a repeated start follows the first run"),
    FLAG(
        "--on-disconnect",
        SL_CLI_TEXT,
        on_disconnect_text,
        "WHAT",
        "when the connection is lost: cancel, detach, detach-for:30s"),
    FLAG(
        "--approve",
        SL_CLI_TEXT,
        approve_text,
        "WHAT",
        "calls that ask: ask you (default on a terminal), all, none: others do"),
    FLAG("--detach", SL_CLI_SWITCH, is_detached, NULL, "start it, print its id, and go"),
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
