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

enum {
    SL_CLI_KEY_BYTES = 4096,
    SL_CLI_SECRET_MORE = 3 /* a line end, and a byte that shows that there is more */
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
    uint64_t n_retries;      /* --retry; 0: none */
    bool is_json;            /* --json */
    const char *timeout_text, *retry_text;
    const char *bearer_file;                                  /* --key-file, SLUICE_KEY_FILE */
    char authorization[SL_CLI_KEY_BYTES + sizeof("Bearer ")]; /* "": none */
};

/* What may be given more than once. */
enum { SL_CLI_LIST_MAX = 64 };
struct sl_cli_list {
    const char *items[SL_CLI_LIST_MAX];
    size_t n_items;
};

/* Where an option's value goes: a bool, a `const char *`, or a struct sl_cli_list. */
enum sl_cli_flag_kind { SL_CLI_SWITCH, SL_CLI_TEXT, SL_CLI_LIST };

/* One option of a command: `--name VALUE`, `--name=VALUE`, or a switch. */
struct sl_cli_flag {
    const char *name;
    enum sl_cli_flag_kind kind;
    size_t offset;     /* in what the command gives sl_cli_parse() */
    const char *value; /* "N", "FILE" (completed as one); NULL: a switch */
    const char *text;
};

/* A command, for the parser, for --help and for completion. Constant. */
struct sl_cli_command {
    const char *name, *arguments, *text;
    int (*run)(int argc, char **argv); /* without the program's name and the command's */
    const struct sl_cli_flag *flags;
    size_t n_flags;
    bool is_remote;    /* has the options of every command that calls a server */
    const char *words; /* what the first argument can be, separated by spaces; NULL: anything.
                        * "<agents>", "<runs>", "<methods>", "<files>": completion finds them */
    const char *notes; /* more lines for --help; may be NULL */
};

/* Fills options from the environment, then options and `into` from `argv`; what is no flag is moved
 * to the front of argv and counted. Fails: SL_INVALID_ARGUMENT, after a line on stderr. */
SL_CHECK enum sl_status sl_cli_parse(
    struct sl_cli_options *options,
    const struct sl_cli_command *command,
    void *into,
    int *argc,
    char **argv);
/* All of a file (NULL: standard input), without the line end behind it. The room has
 * SL_CLI_SECRET_MORE bytes more than the secret may have, and is the caller's to overwrite. Fails,
 * with nothing in the room: SL_INVALID_ARGUMENT it cannot be read; SL_RESOURCE_EXHAUSTED it goes on
 * behind the room. */
SL_CHECK enum sl_status
sl_cli_read_secret(const char *path, char *room, size_t room_bytes, size_t *ret_size);
/* For the channel; NULL: no key was given. */
const char *sl_cli_authorization(const struct sl_cli_options *options);
/* One line on stderr about how the command is used, after the one that says what is wrong; gives
 * the exit code. */
int sl_cli_usage(const struct sl_cli_command *command);
/* --help, on stdout. */
void sl_cli_print_help(const struct sl_cli_command *command);
/* The options of every command that calls a server. */
const struct sl_cli_flag *sl_cli_common_flags(size_t *ret_n);

/* The words of a command that are no flags: the `required` ones (names, ended by NULL; NULL: none)
 * and at most `max` in all. False after a line on stderr that names what is missing or too much. */
bool sl_cli_takes(int argc, char **argv, const char *const *required, int max);

/* A `string` of protobuf: what is none is refused in words of the command line. Fails:
 * SL_INVALID_ARGUMENT, after a line on stderr that begins with `what`. */
SL_CHECK enum sl_status sl_cli_check_text(const char *what, struct sl_slice text);

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
int sl_cli_report_error(enum sl_status status, const struct sl_error *err);
/* The exit code alone. */
int sl_cli_exit_code(enum sl_status status, const struct sl_error *err);

/* "sluice: ..." on stderr, as one line: what a server says cannot move the cursor. */
SL_PRINTF(1, 2) void sl_cli_complain(const char *fmt, ...);

/* The commands. */
extern const struct sl_cli_command sl_cmd_run, sl_cmd_agents, sl_cmd_health, sl_cmd_call,
    sl_cmd_frame, sl_cmd_proto, sl_cmd_config, sl_cmd_check_events, sl_cmd_mock_model, sl_cmd_bench,
    sl_cmd_completion, sl_cmd_keys, sl_cmd_attach, sl_cmd_cancel, sl_cmd_runs, sl_cmd_approve;
/* All of them, as --help lists them; NULL ends it (main.c). */
extern const struct sl_cli_command *const sl_cli_commands[];

#endif
