/* sluice frame METHOD JSON: gRPC's 5-byte prefix and the message, for tools that send raw bodies.
 */
#include <stdio.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "service/cli/embedded.h"
#include "service/cli/json_input.h"
#include "service/cli/resolve.h"

enum { PREFIX_BYTES = 5 };

struct frame_command {
    const char *protoset;
    struct sl_cli_list headers;
    struct sl_arena arena;
    struct sl_metadata metadata;
    struct sl_cli_options options;
};

/* By the server's reflection. */
static int ask_server(
    struct frame_command *command,
    struct sl_schema *schema,
    const char *name,
    const struct sl_schema_method **ret_method)
{
    struct sl_error err = { .text = "" };
    struct sl_cli cli;
    int exit_code = SL_EXIT_ERROR;
    if (sl_cli_open(&cli, &command->options) == SL_OK) {
        const struct sl_cli_source source = { .cli = &cli,
                                              .protoset = NULL,
                                              .metadata = command->metadata.items,
                                              .n_metadata = command->metadata.n_items };
        const enum sl_status status = sl_cli_find_method(&source, schema, name, ret_method, &err);
        exit_code = status == SL_OK ? SL_EXIT_DONE : sl_cli_report_error(status, &err);
    }
    sl_cli_close(&cli);
    return exit_code;
}

/* --protoset, else what is built in, else reflection. */
static int find_method(
    struct frame_command *command,
    struct sl_schema *schema,
    const char *name,
    const struct sl_schema_method **ret_method)
{
    struct sl_error err = { .text = "" };
    enum sl_status status = command->protoset != NULL
                                ? sl_cli_read_protoset(command->protoset, schema, &err)
                                : sl_embedded_api(schema, &err);
    if (status == SL_OK) {
        status = sl_schema_find_method(schema, name, ret_method, &err);
    }
    if (status == SL_NOT_FOUND && command->protoset == NULL) {
        return ask_server(command, schema, name, ret_method);
    }
    return status == SL_OK ? SL_EXIT_DONE : sl_cli_report_error(status, &err);
}

static enum sl_status read_input(const char *word, struct sl_buf *text, struct sl_error *err)
{
    if (strcmp(word, "-") == 0 || word[0] == '@') {
        return sl_cli_read_file(word[0] == '@' ? word + 1 : word, text, err);
    }
    return sl_buf_add_str(text, word);
}

/* Prefix and message, appended. */
static enum sl_status add_frame(
    const struct sl_schema_method *method, json_t *json, struct sl_buf *out, struct sl_error *err)
{
    const size_t start = out->size;
    SL_TRY(sl_buf_add(out, sl_slice_of("\0\0\0\0", PREFIX_BYTES)));
    SL_TRY(sl_schema_encode(method->request, json, out, err));
    const size_t size = out->size - start - PREFIX_BYTES;
    for (size_t i = 0; i < 4; i++) {
        out->data[start + 1 + i] = (uint8_t)(size >> (24 - 8 * i));
    }
    return SL_OK;
}

static enum sl_status make_frames(
    const struct sl_schema_method *method,
    const char *word,
    struct sl_buf *out,
    struct sl_error *err)
{
    struct sl_json_input input = { 0 };
    struct sl_buf text;
    sl_buf_init(&text, SL_JSON_INPUT_MAX_BYTES);
    enum sl_status status = read_input(word, &text, err);
    if (status == SL_OK) {
        status = sl_json_input_open_text(&input, sl_buf_slice(&text));
    }
    while (status == SL_OK) {
        json_t *json = NULL;
        status = sl_json_input_next(&input, &json, err);
        if (status == SL_OK) {
            status = add_frame(method, json, out, err);
        }
        json_decref(json);
    }
    sl_json_input_done(&input);
    sl_buf_done(&text);
    return status;
}

static int write_frames(const struct sl_schema_method *method, const char *word)
{
    struct sl_error err = { .text = "out of memory" };
    struct sl_buf out;
    int exit_code = SL_EXIT_DONE;
    sl_buf_init(&out, SL_JSON_INPUT_MAX_BYTES);
    const enum sl_status status = make_frames(method, word, &out, &err);
    if (status != SL_END) {
        sl_cli_complain("%s", err.text);
        exit_code = SL_EXIT_USAGE;
    } else if (fwrite(out.data, 1, out.size, stdout) != out.size || fflush(stdout) != 0) {
        sl_cli_complain("stdout cannot be written");
        exit_code = SL_EXIT_ERROR;
    }
    sl_buf_done(&out);
    return exit_code;
}

static int run_frame(int argc, char **argv)
{
    struct frame_command command = { 0 };
    const struct sl_schema_method *method = NULL;
    struct sl_schema *schema = NULL;
    int exit_code = SL_EXIT_ERROR;
    const enum sl_status parsed =
        sl_cli_parse(&command.options, &sl_cmd_frame, &command, &argc, argv);
    if (parsed != SL_OK || argc != 2) {
        return sl_cli_usage(&sl_cmd_frame);
    }
    if (isatty(STDOUT_FILENO) == 1) {
        sl_cli_complain("frames are binary: send them to a file or a pipe");
        return SL_EXIT_USAGE;
    }
    if (sl_cli_read_headers(&command.headers, &command.arena, &command.metadata) != SL_OK) {
        exit_code = SL_EXIT_USAGE;
    } else if (sl_schema_new(&schema) == SL_OK) {
        exit_code = find_method(&command, schema, argv[0], &method);
    }
    if (method != NULL) {
        exit_code = write_frames(method, argv[1]);
    }
    schema = sl_schema_free(schema);
    sl_arena_done(&command.arena);
    return exit_code;
}

static const struct sl_cli_flag flags[] = {
    { "--protoset", SL_CLI_TEXT, offsetof(struct frame_command, protoset), "FILE",
      "a FileDescriptorSet, in place of sluice.v1 and the server's reflection" },
    { "--header", SL_CLI_LIST, offsetof(struct frame_command, headers), "'KEY: VALUE'",
      "metadata of the reflection call, repeatable" },
};

const struct sl_cli_command sl_cmd_frame = {
    .name = "frame",
    .arguments = "METHOD JSON",
    .text = "write a request's gRPC frame to stdout, for h2load -d",
    .run = run_frame,
    .flags = flags,
    .n_flags = SL_COUNT(flags),
    .is_remote = true,
    .words = "<methods>",
    .notes = "JSON is one message, @FILE, or - for stdin; several values make several frames.\n",
};
