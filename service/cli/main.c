/* sluice: the command line client. */
#include <stdio.h>

#include "runtime/base/mem.h"
#include "runtime/base/version.h"
#include "service/cli/cli.h"

const struct sl_cli_command *const sl_cli_commands[] = {
    &sl_cmd_run,        &sl_cmd_attach, &sl_cmd_cancel,
    &sl_cmd_approve,    &sl_cmd_runs,   &sl_cmd_agents,
    &sl_cmd_health,     &sl_cmd_call,   &sl_cmd_frame,
    &sl_cmd_proto,      &sl_cmd_config, &sl_cmd_check_events,
    &sl_cmd_mock_model, &sl_cmd_bench,  &sl_cmd_keys,
    &sl_cmd_completion, NULL,
};

static void print_usage(FILE *out)
{
    (void)fputs("usage: sluice COMMAND [OPTIONS]\n\n", out);
    for (size_t i = 0; sl_cli_commands[i] != NULL; i++) {
        const struct sl_cli_command *command = sl_cli_commands[i];
        (void)fprintf(out, "  %-13s %-17s %s\n", command->name, command->arguments, command->text);
    }
    (void)fputs(
        "\n  sluice COMMAND --help  the options of a command\n"
        "\nThe server of a command is --addr ADDR:PORT or SLUICE_ADDR (127.0.0.1:50051).\n"
        "\nExit status: 0 done, 1 error, 2 usage, 3 server unreachable, 130 cancelled.\n",
        out);
}

/* `--help` among the words before "--". */
static bool wants_help(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return true;
        }
    }
    return false;
}

static int run_command(const struct sl_cli_command *command, int argc, char **argv)
{
    int exit_code = SL_EXIT_DONE;
    if (wants_help(argc, argv)) {
        sl_cli_print_help(command);
    } else {
        exit_code = command->run(argc, argv);
    }
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        sl_cli_complain("cannot write to standard output");
        return exit_code == SL_EXIT_DONE ? SL_EXIT_ERROR : exit_code;
    }
    return exit_code;
}

int main(int argc, char **argv)
{
    if (argc >= 2 && ((strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
                       strcmp(argv[1], "help") == 0))) {
        print_usage(stdout);
        return SL_EXIT_DONE;
    }
    if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
        (void)puts("sluice " SL_VERSION);
        return SL_EXIT_DONE;
    }
    for (size_t i = 0; argc >= 2 && sl_cli_commands[i] != NULL; i++) {
        if (strcmp(sl_cli_commands[i]->name, argv[1]) == 0) {
            return run_command(sl_cli_commands[i], argc - 2, argv + 2);
        }
    }
    if (argc >= 2) {
        sl_cli_complain("no command '%s'; see sluice --help", argv[1]);
    } else {
        print_usage(stderr);
    }
    return SL_EXIT_USAGE;
}
