/* sluice: the command line client. */
#include <stdio.h>

#include "runtime/base/mem.h"
#include "runtime/base/version.h"
#include "service/cli/cli.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *arguments, *text;
} commands[] = {
    { "run", sl_cmd_run, "AGENT [INPUT]", "run an agent and show its events; INPUT - reads stdin" },
    { "agents", sl_cmd_agents, "", "list the server's agents" },
    { "health", sl_cmd_health, "[SERVICE]", "ask grpc.health.v1 how the server is" },
    { "check-events", sl_cmd_check_events, "[FILE]", "prove the order of a recorded event stream" },
    { "mock-model", sl_cmd_mock_model, "[SCENARIO]",
      "serve a scenario as an OpenAI-compatible server" },
    { "bench", sl_cmd_bench, "", "measure a server with many streams" },
};

static void print_usage(FILE *out)
{
    (void)fputs("usage: sluice COMMAND [OPTIONS]\n\n", out);
    for (size_t i = 0; i < SL_COUNT(commands); i++) {
        (void)fprintf(
            out, "  %-13s %-15s %s\n", commands[i].name, commands[i].arguments, commands[i].text);
    }
    (void)fputs(
        "\n"
        "Every command that calls a server:\n"
        "  --addr ADDR:PORT      the server (SLUICE_ADDR; 127.0.0.1:50051); also unix:PATH\n"
        "  --tls                 use TLS (SLUICE_TLS=true)\n"
        "  --ca FILE             trust these certificates instead of the system's (SLUICE_CA)\n"
        "  --cert FILE, --key FILE  the client's certificate (SLUICE_CERT, SLUICE_KEY)\n"
        "  --server-name NAME    the name to check the certificate against\n"
        "  --skip-verify         accept any certificate\n"
        "  --timeout DURATION    deadline of the call: 500ms, 30s, 5m\n"
        "  --json                JSON, one object a line\n"
        "\n"
        "Exit status: 0 done, 1 error, 2 usage, 3 server unreachable, 130 cancelled.\n",
        out);
}

int main(int argc, char **argv)
{
    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)) {
        print_usage(stdout);
        return SL_EXIT_DONE;
    }
    if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
        (void)puts("sluice " SL_VERSION);
        return SL_EXIT_DONE;
    }
    for (size_t i = 0; argc >= 2 && i < SL_COUNT(commands); i++) {
        if (strcmp(commands[i].name, argv[1]) == 0) {
            return commands[i].run(argc - 2, argv + 2);
        }
    }
    print_usage(stderr);
    if (argc >= 2) {
        sl_cli_complain("no command '%s'", argv[1]);
    }
    return SL_EXIT_USAGE;
}
