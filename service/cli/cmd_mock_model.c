/* sluice mock-model [SCENARIO]: serves a scenario over HTTP as an OpenAI-compatible server, so that
 * the whole path from a provider's socket on can be driven without a key. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/conf.h"
#include "runtime/base/mem.h"
#include "service/cli/cli.h"
#include "service/cli/mock_conn.h"

/* What is served when no file is named. */
static const char builtin_scenario[] = "turns:\n"
                                       "  - steps:\n"
                                       "      - text: \"You said: {{input}}. This text comes from "
                                       "a scenario, a few characters at a time.\"\n"
                                       "        pace: {unit: words, size: 1, delay_ms: 20}\n";

struct mock_command {
    struct sl_cli cli;
    struct sl_mock mock;
    struct sl_limits limits;
    struct sl_scenario *scenario;
    struct sl_net_listener *listener;
    const char *listen, *port_file, *api_key;
    bool is_quiet;
};

static enum sl_status load_scenario(struct mock_command *command, const char *path)
{
    struct sl_conf *conf = NULL;
    struct sl_error err = { 0 };
    if (path == NULL) {
        return sl_scenario_parse(
            sl_slice_str(builtin_scenario), "builtin", &command->scenario, &err);
    }
    if (sl_conf_read(path, &conf, &err) != SL_OK) {
        sl_cli_complain("%s", err.text);
        return SL_NOT_FOUND;
    }
    const enum sl_status status = sl_scenario_from_conf(conf, &command->scenario);
    for (size_t i = 0; i < sl_conf_n_errors(conf); i++) {
        sl_cli_complain("%s", sl_conf_error_at(conf, i));
    }
    sl_conf_free(conf);
    return status;
}

static void on_signal(struct sl_cli *cli, void *user_data)
{
    struct mock_command *command = user_data;
    sl_net_listener_close(SL_TAKE(command->listener), NULL, NULL);
    sl_mock_close(&command->mock);
    sl_cli_stop(cli, SL_EXIT_DONE);
}

static enum sl_status write_address(const char *path, const char *address)
{
    char beside[4096];
    (void)snprintf(beside, sizeof(beside), "%s.new", path);
    FILE *file = fopen(beside, "we");
    if (file == NULL || fprintf(file, "%s\n", address) < 0 || fclose(file) != 0 ||
        rename(beside, path) != 0) {
        sl_cli_complain("cannot write %s: %s", path, strerrordesc_np(errno));
        return SL_FAILED_PRECONDITION;
    }
    return SL_OK;
}

static enum sl_status listen_mock(struct mock_command *command)
{
    struct sl_error err = { 0 };
    command->mock = (struct sl_mock){ .loop = command->cli.loop,
                                      .scenario = command->scenario,
                                      .limits = &command->limits,
                                      .api_key = command->api_key,
                                      .is_quiet = command->is_quiet };
    sl_mock_init(&command->mock);
    const struct sl_net_listen_options options = { .address = command->listen,
                                                   .limits = &command->limits,
                                                   .loops = &command->cli.loop,
                                                   .n_loops = 1,
                                                   .send_buffer_bytes = 65536,
                                                   .on_accept = sl_mock_accept,
                                                   .user_data = &command->mock };
    const enum sl_status status = sl_net_listen(&options, &command->listener, &err);
    if (status != SL_OK) {
        sl_cli_complain("%s", err.text);
        return status;
    }
    const char *address = sl_net_listener_address(command->listener);
    (void)fprintf(stderr, "mock-model: http://%s/v1\n", address);
    return command->port_file == NULL ? SL_OK : write_address(command->port_file, address);
}

static int run_mock_model(int argc, char **argv)
{
    struct mock_command command = { .listen = "127.0.0.1:8088" };
    struct sl_cli_options options;
    if (sl_cli_parse(&options, &sl_cmd_mock_model, &command, &argc, argv) != SL_OK ||
        !sl_cli_takes(argc, argv, NULL, 1)) {
        return sl_cli_usage(&sl_cmd_mock_model);
    }
    sl_limits_init(&command.limits);
    if (load_scenario(&command, argc == 1 ? argv[0] : NULL) != SL_OK) {
        return SL_EXIT_USAGE;
    }
    int exit_code = SL_EXIT_ERROR;
    if (sl_cli_open_loop(&command.cli, &options) == SL_OK && listen_mock(&command) == SL_OK) {
        command.cli.on_signal = on_signal;
        command.cli.user_data = &command;
        exit_code = sl_cli_run(&command.cli);
    }
    sl_cli_close(&command.cli);
    sl_scenario_free(command.scenario);
    return exit_code;
}

#define FLAG(name, kind, field, value, text)                                                       \
    {                                                                                              \
        name, kind, offsetof(struct mock_command, field), value, text                              \
    }
static const struct sl_cli_flag flags[] = {
    FLAG("--listen", SL_CLI_TEXT, listen, "ADDR:PORT", "listen here (127.0.0.1:8088)"),
    FLAG("--port-file", SL_CLI_TEXT, port_file, "FILE", "write the address there"),
    FLAG("--api-key", SL_CLI_TEXT, api_key, "KEY", "refuse other keys"),
    FLAG("--quiet", SL_CLI_SWITCH, is_quiet, NULL, "no line per request"),
};
#undef FLAG

const struct sl_cli_command sl_cmd_mock_model = {
    .name = "mock-model",
    .arguments = "[SCENARIO]",
    .text = "serve a scenario as an OpenAI-compatible server",
    .run = run_mock_model,
    .flags = flags,
    .n_flags = SL_COUNT(flags),
    .words = "<files>",
};
