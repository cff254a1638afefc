/* sluice call METHOD [JSON]: any method of any gRPC server. */
#include <stdio.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "service/cli/call_list.h"
#include "service/cli/call_output.h"
#include "service/cli/json_input.h"
#include "service/cli/resolve.h"

struct call_command {
    const char *protoset;
    struct sl_cli_list headers;
    bool shows_headers, is_gzip, has_defaults, is_described;

    struct sl_cli cli;
    struct sl_arena arena;
    struct sl_metadata metadata;
    struct sl_schema *schema;
    const struct sl_schema_method *method;
    struct sl_json_input input;
    struct sl_client_call *call;
    struct sl_buf message;       /* encoded, and not sent yet */
    bool has_message, is_closed; /* nothing more to send */
    bool is_indented, is_cancelled, has_shown_headers, is_over;
};

/* ---- Sending ----------------------------------------------------------------------------------
 */

static void stop(struct call_command *command, int exit_code)
{
    command->is_over = true;
    sl_cli_stop(&command->cli, exit_code);
}

static bool is_many(const struct sl_schema_method *method)
{
    return method->desc.kind == SL_CLIENT_STREAMING || method->desc.kind == SL_BIDIRECTIONAL;
}

/* A value that cannot be sent ends the call: the server would wait for more. */
static void refuse_input(struct call_command *command, const struct sl_error *err)
{
    sl_cli_complain("%s", err->text);
    command->is_closed = true;
    if (command->call != NULL) {
        sl_client_call_cancel(command->call);
    }
    stop(command, SL_EXIT_USAGE);
}

/* The next message, encoded. SL_AGAIN: stdin has none yet; SL_END: that was all. */
static enum sl_status next_message(struct call_command *command, struct sl_error *err)
{
    json_t *json = NULL;
    SL_TRY(sl_json_input_next(&command->input, &json, err));
    sl_buf_clear(&command->message);
    const enum sl_status status =
        sl_schema_encode(command->method->request, json, &command->message, err);
    json_decref(json);
    command->has_message = status == SL_OK;
    return status;
}

static void send_more(struct call_command *command)
{
    struct sl_error err = { .text = "out of memory" };
    enum sl_status status = SL_OK;
    while (!command->is_closed && status == SL_OK) {
        if (!command->has_message) {
            status = next_message(command, &err);
        }
        if (command->has_message) {
            status = sl_client_call_send_bytes(command->call, sl_buf_slice(&command->message));
            command->has_message = status == SL_AGAIN;
            command->is_closed = status != SL_OK && status != SL_AGAIN; /* the call is over */
        } else if (status == SL_END) {
            command->is_closed = true;
            sl_client_call_close_send(command->call);
        } else if (status != SL_AGAIN) {
            refuse_input(command, &err);
        }
    }
}

static void on_writable(struct sl_client_call *call, void *user_data)
{
    (void)call;
    send_more(user_data);
}

static void on_input(void *user_data)
{
    struct call_command *command = user_data;
    if (command->call != NULL && !command->is_over) {
        send_more(command);
    }
}

/* ---- Receiving --------------------------------------------------------------------------------
 */

static enum sl_status show(struct call_command *command, struct sl_slice bytes)
{
    struct sl_error err = { .text = "out of memory" };
    json_t *json = NULL;
    const struct sl_schema_message *type = command->method->response;
    enum sl_status status = command->has_defaults ? sl_schema_decode_all(type, bytes, &json, &err)
                                                  : sl_schema_decode(type, bytes, &json, &err);
    if (status == SL_OK) {
        status = sl_call_print_json(json, command->is_indented);
    }
    if (status != SL_OK) {
        sl_cli_complain("%s: %s", sl_schema_message_name(type), err.text);
    }
    json_decref(json);
    return status;
}

static void show_headers(struct call_command *command)
{
    const struct sl_metadata *headers = sl_client_call_headers(command->call);
    if (command->shows_headers && !command->has_shown_headers && headers != NULL) {
        command->has_shown_headers = true;
        sl_call_print_metadata(headers);
    }
}

static int report_end(struct call_command *command)
{
    const struct sl_client_call *call = command->call;
    const enum sl_status status = sl_client_call_status(call);
    const struct sl_error *err = sl_client_call_error(call);
    if (command->is_cancelled) {
        sl_cli_complain("cancelled");
        return SL_EXIT_CANCELLED;
    }
    json_t *details = sl_call_details(command->schema, sl_client_call_details(call));
    sl_call_print_status(status, err->text, details, command->cli.options.is_json);
    json_decref(details);
    return sl_cli_exit_code(status, err);
}

static void on_readable(struct sl_client_call *call, void *user_data)
{
    struct call_command *command = user_data;
    struct sl_slice bytes;
    enum sl_status status = SL_OK;
    while (!command->is_over && (status = sl_client_call_recv_bytes(call, &bytes)) == SL_OK) {
        show_headers(command);
        if (show(command, bytes) != SL_OK) {
            sl_client_call_cancel(call);
            stop(command, SL_EXIT_ERROR);
        }
    }
    if (command->is_over || status == SL_AGAIN) {
        return;
    }
    show_headers(command);
    if (command->shows_headers) {
        sl_call_print_metadata(sl_client_call_trailers(call));
    }
    stop(command, status == SL_END ? SL_EXIT_DONE : report_end(command));
}

static void on_signal(struct sl_cli *cli, void *user_data)
{
    struct call_command *command = user_data;
    command->is_cancelled = true;
    if (command->call == NULL) {
        sl_cli_stop(cli, SL_EXIT_CANCELLED);
    } else {
        sl_client_call_cancel(command->call); /* on_readable tells the end */
    }
}

/* ---- The command ------------------------------------------------------------------------------
 */

/* `word`: NULL, "-", "@FILE" or JSON. */
static enum sl_status open_input(struct call_command *command, const char *word)
{
    struct sl_error err = { .text = "out of memory" };
    struct sl_buf text;
    if (word == NULL && !is_many(command->method)) {
        word = "{}";
    }
    if (word == NULL || strcmp(word, "-") == 0) {
        return sl_json_input_open_stdin(&command->input, command->cli.loop, on_input, command);
    }
    if (word[0] != '@') {
        return sl_json_input_open_text(&command->input, sl_slice_str(word));
    }
    sl_buf_init(&text, SL_JSON_INPUT_MAX_BYTES);
    enum sl_status status = sl_cli_read_file(word + 1, &text, &err);
    if (status == SL_OK) {
        status = sl_json_input_open_text(&command->input, sl_buf_slice(&text));
    }
    if (status != SL_OK) {
        sl_cli_complain("%s", err.text);
    }
    sl_buf_done(&text);
    return status;
}

/* A method that takes one message must get exactly one, and nothing is sent before that is sure. */
static enum sl_status check_single(struct call_command *command)
{
    struct sl_error err = { .text = "out of memory" };
    enum sl_status status = SL_AGAIN;
    json_t *more = NULL;
    if (is_many(command->method)) {
        return SL_OK;
    }
    while ((status = next_message(command, &err)) == SL_AGAIN) {
        sl_loop_uv_step(command->cli.uv_loop, -1);
        if (command->cli.n_signals > 0) {
            return SL_CANCELLED;
        }
    }
    if (status == SL_END) {
        (void)sl_fail(&err, SL_INVALID_ARGUMENT, "the input is empty");
    }
    while (status == SL_OK &&
           (status = sl_json_input_next(&command->input, &more, &err)) == SL_AGAIN) {
        sl_loop_uv_step(command->cli.uv_loop, -1);
        status = command->cli.n_signals > 0 ? SL_CANCELLED : SL_OK;
    }
    if (status == SL_OK) {
        (void)sl_fail(
            &err, SL_INVALID_ARGUMENT, "%s takes one message, and the input has more",
            command->method->desc.path);
    }
    json_decref(more);
    if (status == SL_END && command->has_message) {
        return SL_OK;
    }
    if (status != SL_CANCELLED) {
        sl_cli_complain("%s", err.text);
        return SL_INVALID_ARGUMENT;
    }
    return status;
}

static int converse(struct call_command *command)
{
    const struct sl_client_call_options options = {
        .struct_size = sizeof(options),
        .timeout_ms = command->cli.options.timeout_ms,
        .metadata = command->metadata.items,
        .n_metadata = command->metadata.n_items,
        .encoding = command->is_gzip ? "gzip" : NULL,
        .on_readable = on_readable,
        .on_writable = on_writable,
        .user_data = command,
    };
    if (sl_client_call_open(
            command->cli.channel, &command->method->desc, &options, &command->call) != SL_OK) {
        sl_cli_complain("the call cannot be made");
        return SL_EXIT_ERROR;
    }
    send_more(command);
    return command->is_over ? command->cli.exit_code : sl_cli_run(&command->cli);
}

static int call_method(struct call_command *command, const char *word)
{
    enum sl_status status = open_input(command, word);
    if (status == SL_OK) {
        status = check_single(command);
    }
    if (status != SL_OK) {
        return status == SL_CANCELLED ? SL_EXIT_CANCELLED : SL_EXIT_USAGE;
    }
    command->is_indented = !command->cli.options.is_json && isatty(STDOUT_FILENO) == 1;
    command->cli.on_signal = on_signal;
    command->cli.user_data = command;
    return converse(command);
}

static int run_command(struct call_command *command, int argc, char **argv)
{
    struct sl_error err = { 0 };
    const struct sl_cli_source source = { .cli = &command->cli,
                                          .protoset = command->protoset,
                                          .metadata = command->metadata.items,
                                          .n_metadata = command->metadata.n_items };
    const char *name = argc == 0 ? NULL : argv[0];
    if (name == NULL || strpbrk(name, "/") == NULL || command->is_described) {
        bool is_method = false;
        const int exit_code = sl_call_list(
            &source, command->schema, name, command->is_described, &is_method,
            command->cli.options.is_json);
        if (!is_method) {
            return exit_code;
        }
    }
    const enum sl_status status =
        sl_cli_find_method(&source, command->schema, name, &command->method, &err);
    if (status != SL_OK) {
        return sl_cli_report_error(status, &err);
    }
    return call_method(command, argc == 2 ? argv[1] : NULL);
}

static int run_call(int argc, char **argv)
{
    static struct call_command command;
    struct sl_cli_options options;
    const enum sl_status parsed = sl_cli_parse(&options, &sl_cmd_call, &command, &argc, argv);
    if (parsed != SL_OK || argc > 2) {
        return sl_cli_usage(&sl_cmd_call);
    }
    int exit_code = SL_EXIT_USAGE;
    sl_buf_init(&command.message, SL_JSON_INPUT_MAX_BYTES);
    if (sl_cli_read_headers(&command.headers, &command.arena, &command.metadata) == SL_OK) {
        exit_code = SL_EXIT_ERROR;
        if (sl_cli_open(&command.cli, &options) == SL_OK &&
            sl_schema_new(&command.schema) == SL_OK) {
            exit_code = run_command(&command, argc, argv);
        }
        sl_json_input_done(&command.input);
        command.call = sl_client_call_free(command.call);
        sl_cli_close(&command.cli);
    }
    command.schema = sl_schema_free(command.schema);
    sl_buf_done(&command.message);
    sl_arena_done(&command.arena);
    return exit_code;
}

#define FLAG(name, kind, field, value, text)                                                       \
    {                                                                                              \
        name, kind, offsetof(struct call_command, field), value, text                              \
    }
static const struct sl_cli_flag flags[] = {
    FLAG(
        "--protoset",
        SL_CLI_TEXT,
        protoset,
        "FILE",
        "a FileDescriptorSet, in place of the server's reflection"),
    FLAG(
        "--header",
        SL_CLI_LIST,
        headers,
        "'KEY: VALUE'",
        "metadata, repeatable; base64 for -bin keys"),
    FLAG(
        "--show-headers",
        SL_CLI_SWITCH,
        shows_headers,
        NULL,
        "headers and trailers of the answer, on stderr"),
    FLAG("--gzip", SL_CLI_SWITCH, is_gzip, NULL, "compress what is sent"),
    FLAG("--emit-defaults", SL_CLI_SWITCH, has_defaults, NULL, "show fields that are 0, \"\", []"),
    FLAG(
        "--describe",
        SL_CLI_SWITCH,
        is_described,
        NULL,
        "a method's request as JSON to fill in, instead of calling it"),
};
#undef FLAG

const struct sl_cli_command sl_cmd_call = {
    .name = "call",
    .arguments = "[METHOD [JSON]]",
    .text = "call any method of any gRPC server",
    .run = run_call,
    .flags = flags,
    .n_flags = SL_COUNT(flags),
    .is_remote = true,
    .words = "<methods>",
    .notes =
        "METHOD is pkg.Service/Method; pkg.Service lists its methods, nothing lists the services.\n"
        "JSON is one message, @FILE, or - for stdin (the default of client streaming: one value\n"
        "per message, one after the other). No JSON: {}.\n",
};
