/* sluice: the command line client. */
#include <stdio.h>

#include "runtime/base/mem.h"
#include "runtime/base/version.h"
#include "service/cli/cli.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    bool is_remote;
    const char *arguments, *text, *options;
} commands[] = {
    { "run", sl_cmd_run, true, "AGENT [INPUT]",
      "run an agent and show its events; INPUT - reads stdin",
      "  --max-iterations N    at most this many, for this run\n"
      "  --request-id ID       a second run with the same id is refused\n"
      "  --tool-deltas         events tool_call_delta\n" },
    { "agents", sl_cmd_agents, true, "", "list the server's agents", "" },
    { "health", sl_cmd_health, true, "[SERVICE]", "ask grpc.health.v1 how the server is", "" },
    { "check-events", sl_cmd_check_events, false, "[FILE]",
      "prove the order of a recorded event stream",
      "  --may-be-cut          the terminal event may be missing, as after a deadline\n" },
    { "mock-model", sl_cmd_mock_model, false, "[SCENARIO]",
      "serve a scenario as an OpenAI-compatible server",
      "  --listen ADDR:PORT    default 127.0.0.1:8088; port 0 takes a free one\n"
      "  --port-file FILE      gets the address once it listens\n"
      "  --api-key KEY         answers 401 to any other key\n"
      "  --quiet               no line for each request\n" },
    { "bench", sl_cmd_bench, true, "", "measure a server with many streams",
      "  --agent NAME          what each stream runs (load)\n"
      "  --input TEXT          its input\n"
      "  --streams N           streams at a time (1)\n"
      "  --connections N       over so many connections (1)\n"
      "  --runs N              stop after so many runs\n"
      "  --duration DURATION   or after this time (10s)\n"
      "  --rate N              start so many runs a second\n" },
};

static const char common_options[] =
    "  --addr ADDR:PORT      the server (SLUICE_ADDR; 127.0.0.1:50051); also unix:PATH\n"
    "  --tls                 use TLS (SLUICE_TLS=true); each of the next five means it, too\n"
    "  --ca FILE             trust these certificates instead of the system's (SLUICE_CA)\n"
    "  --cert FILE           the client's certificate (SLUICE_CERT)\n"
    "  --key FILE            its key (SLUICE_KEY)\n"
    "  --server-name NAME    the name that the certificate must have\n"
    "  --skip-verify         accept any certificate\n"
    "  --timeout DURATION    deadline of the call: 500ms, 30s, 5m\n"
    "  --json                JSON, one object a line\n";

static void print_usage(FILE *out)
{
    (void)fputs("usage: sluice COMMAND [OPTIONS]\n\n", out);
    for (size_t i = 0; i < SL_COUNT(commands); i++) {
        (void)fprintf(
            out, "  %-13s %-15s %s\n", commands[i].name, commands[i].arguments, commands[i].text);
    }
    (void)fprintf(
        out,
        "\n  sluice COMMAND --help  the options of a command\n"
        "\nEvery command that calls a server:\n%s"
        "\nExit status: 0 done, 1 error, 2 usage, 3 server unreachable, 130 cancelled.\n",
        common_options);
}

static void print_help(size_t index)
{
    const char *arguments = commands[index].arguments;
    (void)printf(
        "usage: sluice %s%s%s [OPTIONS]\n\n%s\n\n%s%s", commands[index].name,
        arguments[0] == '\0' ? "" : " ", arguments, commands[index].text, commands[index].options,
        commands[index].is_remote ? common_options : "");
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

static int run_command(size_t index, int argc, char **argv)
{
    int exit_code = SL_EXIT_DONE;
    if (wants_help(argc, argv)) {
        print_help(index);
    } else {
        exit_code = commands[index].run(argc, argv);
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
    for (size_t i = 0; argc >= 2 && i < SL_COUNT(commands); i++) {
        if (strcmp(commands[i].name, argv[1]) == 0) {
            return run_command(i, argc - 2, argv + 2);
        }
    }
    if (argc >= 2) {
        sl_cli_complain("no command '%s'; see sluice --help", argv[1]);
    } else {
        print_usage(stderr);
    }
    return SL_EXIT_USAGE;
}
