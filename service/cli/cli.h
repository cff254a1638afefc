/* What the commands of `sluice` share: options, the connection to a server, exit codes.
 *
 * A command runs on one loop in the main thread. SIGINT and SIGTERM are taken by a thread that only
 * posts to it, so that a command can cancel its call before it ends. */
#ifndef SL_SERVICE_CLI_CLI_H
#define SL_SERVICE_CLI_CLI_H

#include <pthread.h>

#include "runtime/base/loop_uv.h"
#include "service/net/net.h"
#include "service/rpc/rpc.h"

enum {
    SL_EXIT_DONE = 0,
    SL_EXIT_ERROR = 1,
    SL_EXIT_USAGE = 2,
    SL_EXIT_UNREACHABLE = 3,
    SL_EXIT_CANCELLED = 130
};

/* Options of every command that talks to a server: flags over environment over defaults. */
struct sl_cli_options {
    const char *address; /* --addr, SLUICE_ADDR; 127.0.0.1:50051 */
    bool is_tls;         /* --tls, SLUICE_TLS=true; also given by any of the next five */
    const char *ca_file, *cert_file,
        *key_file;           /* --ca, --cert, --key; SLUICE_CA, SLUICE_CERT, SLUICE_KEY */
    const char *server_name; /* --server-name */
    bool skip_verify;        /* --skip-verify */
    uint64_t timeout_ms;     /* --timeout; 0: none */
    bool is_json;            /* --json */
};

/* One option of a command: `--name VALUE`, `--name=VALUE`, or a switch (`text` NULL). */
struct sl_cli_flag {
    const char *name;
    const char **text;
    bool *is_on;
};

/* Fills options from the environment, then from `argv`; what is no flag is moved to the front of
 * argv and counted. `flags` (n_flags) are the command's own. With `is_remote` false none is
 * common. Fails: SL_INVALID_ARGUMENT, after a line on stderr. */
SL_CHECK enum sl_status sl_cli_parse(
    struct sl_cli_options *options,
    bool is_remote,
    const struct sl_cli_flag *flags,
    size_t n_flags,
    int *argc,
    char **argv);

/* The words of a command that are no flags: the `required` ones (names, ended by NULL; NULL: none)
 * and at most `max` in all. False after a line on stderr that names what is missing or too much. */
bool sl_cli_takes(int argc, char **argv, const char *const *required, int max);

/* The loop, its signals, and a channel. */
struct sl_cli {
    struct sl_cli_options options;
    struct sl_loop_uv *uv_loop;
    struct sl_loop *loop;
    struct sl_net_tls *tls;
    struct sl_channel *channel;
    struct sl_task signal_task;
    pthread_t signal_thread;
    bool has_signal_thread;
    int n_signals;
    _Atomic(const char *)
        restore; /* written to stdout when a second signal ends the program; NULL: nothing */
    void (*on_signal)(struct sl_cli *cli, void *user_data); /* on the loop */
    void *user_data;
    int exit_code;
};

/* Makes loop and channel; nothing is connected yet. A line on stderr when it fails, most often for
 * the fault of an option: SL_EXIT_USAGE. */
SL_CHECK enum sl_status sl_cli_open(struct sl_cli *cli, const struct sl_cli_options *options);
/* The loop alone, for commands that serve. */
SL_CHECK enum sl_status sl_cli_open_loop(struct sl_cli *cli, const struct sl_cli_options *options);
/* Runs the loop until sl_cli_stop(). Gives the exit code. */
int sl_cli_run(struct sl_cli *cli);
void sl_cli_stop(struct sl_cli *cli, int exit_code);
void sl_cli_close(struct sl_cli *cli);

/* Whether stdout is a terminal whose cursor can be moved (not TERM=dumb), and wants colours (not
 * NO_COLOR). */
void sl_cli_terminal(bool *ret_is_terminal, bool *ret_has_colours);

/* "STATUS: message" on stderr; gives the exit code. */
int sl_cli_report(const struct sl_client_call *call);

/* "sluice: ..." on stderr, as one line: what a server says cannot move the cursor. */
SL_PRINTF(1, 2) void sl_cli_complain(const char *fmt, ...);

/* The commands. `argv` without the program's name. */
int sl_cmd_run(int argc, char **argv);
int sl_cmd_agents(int argc, char **argv);
int sl_cmd_health(int argc, char **argv);
int sl_cmd_check_events(int argc, char **argv);
int sl_cmd_mock_model(int argc, char **argv);
int sl_cmd_bench(int argc, char **argv);

#endif
