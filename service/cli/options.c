#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "runtime/base/utf8.h"
#include "service/cli/cli.h"
#include "service/cli/text.h"
#include "service/config.h"

enum {
    COMPLAINT_BYTES = 2048,
    TIMEOUT_MAX_MS = 86400000,
    RETRIES_MAX = 4,
    /* Longer than the pause before a connection is tried again. */
    RETRY_FIRST_MS = 1500,
    RETRY_MOST_MS = 30000
};

void sl_cli_complain(const char *fmt, ...)
{
    char text[COMPLAINT_BYTES];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    (void)fputs("sluice: ", stderr);
    sl_text_put_line(stderr, text, sizeof(text));
    (void)fputc('\n', stderr);
}

static const char *from_environment(const char *name, const char *otherwise)
{
    const char *value = getenv(name); /* NOLINT(concurrency-mt-unsafe): nobody calls setenv */
    return value != NULL && value[0] != '\0' ? value : otherwise;
}

void sl_cli_terminal(bool *ret_is_terminal, bool *ret_has_colours)
{
    const bool is_dumb = strcmp(from_environment("TERM", "dumb"), "dumb") == 0;
    *ret_is_terminal = isatty(STDOUT_FILENO) == 1 && !is_dumb;
    *ret_has_colours = *ret_is_terminal && from_environment("NO_COLOR", NULL) == NULL;
}

static enum sl_status load_environment(struct sl_cli_options *options)
{
    const char *is_tls = from_environment("SLUICE_TLS", "false");

    options->address = from_environment("SLUICE_ADDR", "127.0.0.1:50051");
    options->ca_file = from_environment("SLUICE_CA", NULL);
    options->cert_file = from_environment("SLUICE_CERT", NULL);
    options->key_file = from_environment("SLUICE_KEY", NULL);
    options->bearer_file = from_environment("SLUICE_KEY_FILE", NULL);
    options->is_tls = strcmp(is_tls, "true") == 0;
    if (!options->is_tls && strcmp(is_tls, "false") != 0) {
        sl_cli_complain("SLUICE_TLS: '%s' is not true or false", is_tls);
        return SL_INVALID_ARGUMENT;
    }
    return SL_OK;
}

/* ---- Flags -------------------------------------------------------------------------------------
 */

#define COMMON(name, kind, field, value, text)                                                     \
    {                                                                                              \
        name, kind, offsetof(struct sl_cli_options, field), value, text                            \
    }
static const struct sl_cli_flag common_flags[] = {
    COMMON("--json", SL_CLI_SWITCH, is_json, NULL, "JSON, one object a line"),
    COMMON(
        "--addr",
        SL_CLI_TEXT,
        address,
        "ADDR:PORT",
        "the server (SLUICE_ADDR; 127.0.0.1:50051); also unix:PATH"),
    COMMON("--tls", SL_CLI_SWITCH, is_tls, NULL, "use TLS (SLUICE_TLS=true)"),
    COMMON(
        "--ca",
        SL_CLI_TEXT,
        ca_file,
        "FILE",
        "trust these certificates instead of the system's (SLUICE_CA)"),
    COMMON("--cert", SL_CLI_TEXT, cert_file, "FILE", "the client's certificate (SLUICE_CERT)"),
    COMMON("--key", SL_CLI_TEXT, key_file, "FILE", "its private key (SLUICE_KEY)"),
    COMMON(
        "--key-file",
        SL_CLI_TEXT,
        bearer_file,
        "FILE",
        "send the bearer key in it (SLUICE_KEY_FILE)"),
    COMMON(
        "--server-name",
        SL_CLI_TEXT,
        server_name,
        "NAME",
        "the name to check the certificate against"),
    COMMON("--skip-verify", SL_CLI_SWITCH, skip_verify, NULL, "accept any certificate"),
    COMMON(
        "--timeout", SL_CLI_TEXT, timeout_text, "DURATION", "deadline of the call: 500ms, 30s, 5m"),
    COMMON(
        "--retry",
        SL_CLI_TEXT,
        retry_text,
        "N",
        "try up to 4 times more when the server is not there or refuses"),
};
#undef COMMON

const struct sl_cli_flag *sl_cli_common_flags(size_t *ret_n)
{
    *ret_n = SL_COUNT(common_flags);
    return common_flags;
}

/* Where flags of two tables store what they are given. */
struct parser {
    const struct sl_cli_command *command;
    struct sl_cli_options *options;
    void *into;
};

static const struct sl_cli_flag *
find_in(const struct sl_cli_flag *flags, size_t n_flags, const char *word, size_t name_bytes)
{
    for (size_t i = 0; i < n_flags; i++) {
        if (strlen(flags[i].name) == name_bytes && strncmp(flags[i].name, word, name_bytes) == 0) {
            return &flags[i];
        }
    }
    return NULL;
}

/* The flag, and the place of its value. A command's own ones win. */
static const struct sl_cli_flag *
find_flag(const struct parser *parser, const char *word, size_t name_bytes, void **ret_place)
{
    const struct sl_cli_command *command = parser->command;
    const struct sl_cli_flag *flag = find_in(command->flags, command->n_flags, word, name_bytes);
    char *base = parser->into;
    if (flag == NULL) {
        const size_t n_common = command->is_remote ? SL_COUNT(common_flags) : 0;
        flag = find_in(common_flags, n_common, word, name_bytes);
        base = (char *)parser->options;
    }
    *ret_place = flag == NULL ? NULL : base + flag->offset;
    return flag;
}

static enum sl_status add_to_list(struct sl_cli_list *list, const char *name, const char *value)
{
    if (list->n_items == SL_CLI_LIST_MAX) {
        sl_cli_complain("%s: given more than %d times", name, SL_CLI_LIST_MAX);
        return SL_INVALID_ARGUMENT;
    }
    list->items[list->n_items++] = value;
    return SL_OK;
}

/* Takes argv[*i], and its value when it has one. */
static enum sl_status take_flag(struct parser *parser, int argc, char **argv, int *i)
{
    const char *word = argv[*i];
    const char *equals = strchr(word, '=');
    const size_t name_bytes = equals == NULL ? strlen(word) : (size_t)(equals - word);
    void *place = NULL;
    const struct sl_cli_flag *flag = find_flag(parser, word, name_bytes, &place);
    if (flag == NULL) {
        sl_cli_complain("%s: no such option", word);
        return SL_INVALID_ARGUMENT;
    }
    const bool is_switch = flag->kind == SL_CLI_SWITCH;
    if (is_switch && equals != NULL) {
        sl_cli_complain("%s: takes no value", flag->name);
        return SL_INVALID_ARGUMENT;
    }
    if (!is_switch && equals == NULL && *i + 1 >= argc) {
        sl_cli_complain("%s: its value is missing", word);
        return SL_INVALID_ARGUMENT;
    }
    if (is_switch) {
        *(bool *)place = true;
        return SL_OK;
    }
    const char *value = equals != NULL ? equals + 1 : argv[++*i];
    if (flag->kind == SL_CLI_LIST) {
        return add_to_list(place, flag->name, value);
    }
    *(const char **)place = value;
    return SL_OK;
}

static enum sl_status take_words(struct parser *parser, int *argc, char **argv)
{
    int n_words = 0;
    bool is_flag_time = true;
    for (int i = 0; i < *argc; i++) {
        if (!is_flag_time || argv[i][0] != '-' || argv[i][1] == '\0') {
            argv[n_words++] = argv[i];
            continue;
        }
        if (strcmp(argv[i], "--") == 0) {
            is_flag_time = false;
            continue;
        }
        SL_TRY(take_flag(parser, *argc, argv, &i));
    }
    *argc = n_words;
    return SL_OK;
}

static void print_flags(const struct sl_cli_flag *flags, size_t n_flags)
{
    enum { COLUMN = 24 };
    for (size_t i = 0; i < n_flags; i++) {
        const char *value = flags[i].value == NULL ? "" : flags[i].value;
        const int width = COLUMN - (int)strlen(flags[i].name) - 1;
        (void)printf("  %s %-*s %s\n", flags[i].name, width < 0 ? 0 : width, value, flags[i].text);
    }
}

void sl_cli_print_help(const struct sl_cli_command *command)
{
    (void)printf(
        "usage: sluice %s%s%s [OPTIONS]\n\n%s\n", command->name,
        command->arguments[0] == '\0' ? "" : " ", command->arguments, command->text);
    if (command->notes != NULL) {
        (void)printf("\n%s", command->notes);
    }
    if (command->n_flags > 0) {
        (void)putchar('\n');
        print_flags(command->flags, command->n_flags);
    }
    if (command->is_remote) {
        (void)printf("\nEvery command that calls a server:\n");
        print_flags(common_flags, SL_COUNT(common_flags));
    }
}

int sl_cli_usage(const struct sl_cli_command *command)
{
    sl_cli_complain(
        "usage: sluice %s%s%s [OPTIONS]; sluice %s --help lists them", command->name,
        command->arguments[0] == '\0' ? "" : " ", command->arguments, command->name);
    return SL_EXIT_USAGE;
}

static enum sl_status check_address(const struct sl_cli_options *options)
{
    char host[256];
    uint16_t port;
    bool is_unix;
    if (sl_parse_address(sl_slice_str(options->address), host, sizeof(host), &port, &is_unix) ==
        SL_OK) {
        return SL_OK;
    }
    const bool is_given = strcmp(options->address, from_environment("SLUICE_ADDR", "")) != 0;
    sl_cli_complain(
        "%s: '%s' is not HOST:PORT, [IPv6]:PORT or unix:PATH", is_given ? "--addr" : "SLUICE_ADDR",
        options->address);
    return SL_INVALID_ARGUMENT;
}

/* What needs TLS turns it on. */
static enum sl_status check_tls(struct sl_cli_options *options)
{
    options->is_tls = options->is_tls || options->ca_file != NULL || options->cert_file != NULL ||
                      options->key_file != NULL || options->server_name != NULL ||
                      options->skip_verify;
    if ((options->cert_file == NULL) != (options->key_file == NULL)) {
        sl_cli_complain(
            "%s: a certificate and its key belong together, --cert and --key",
            options->cert_file == NULL ? options->key_file : options->cert_file);
        return SL_INVALID_ARGUMENT;
    }
    return SL_OK;
}

/* ---- The bearer key ----------------------------------------------------------------------------
 */

const char *sl_cli_authorization(const struct sl_cli_options *options)
{
    return options->authorization[0] == '\0' ? NULL : options->authorization;
}

/* The file's only line, without the white space behind it. 0: it is no key. */
static size_t read_key(const char *path, char *room, size_t room_bytes)
{
    size_t size = 0;
    if (sl_cli_read_secret(path, room, room_bytes, &size) != SL_OK) {
        return 0;
    }
    while (size > 0 && strchr(" \t\r\n", room[size - 1]) != NULL && room[size - 1] != '\0') {
        size--;
    }
    for (size_t i = 0; i < size; i++) {
        if (room[i] <= ' ' || room[i] > '~') {
            return 0;
        }
    }
    return size > SL_CLI_KEY_BYTES ? 0 : size;
}

/* A key goes to this machine, or through TLS to whoever has the certificate. */
static enum sl_status load_key(struct sl_cli_options *options)
{
    if (options->bearer_file == NULL) {
        return SL_OK;
    }
    const bool is_local = sl_config_is_local(options->address);
    if (options->skip_verify && !is_local) {
        sl_cli_complain(
            "--key-file: with --skip-verify anybody could be %s and get the key: use --ca",
            options->address);
        return SL_INVALID_ARGUMENT;
    }
    if (!options->is_tls && !is_local) {
        sl_cli_complain(
            "--key-file: the key would cross the network in plaintext to %s: use --tls",
            options->address);
        return SL_INVALID_ARGUMENT;
    }
    char room[SL_CLI_KEY_BYTES + SL_CLI_SECRET_MORE];
    const size_t size = read_key(options->bearer_file, room, sizeof(room));
    if (size == 0) {
        explicit_bzero(room, sizeof(room));
        sl_cli_complain(
            "--key-file: %s: not one line with a key of at most %d visible characters",
            options->bearer_file, SL_CLI_KEY_BYTES);
        return SL_INVALID_ARGUMENT;
    }
    (void)snprintf(
        options->authorization, sizeof(options->authorization), "Bearer %.*s", (int)size, room);
    explicit_bzero(room, sizeof(room));
    return SL_OK;
}

bool sl_cli_takes(int argc, char **argv, const char *const *required, int max)
{
    int n = 0;
    for (; required != NULL && required[n] != NULL; n++) {
        if (argc <= n) {
            sl_cli_complain("%s is missing", required[n]);
            return false;
        }
    }
    if (argc > max) {
        sl_cli_complain("'%s' is one word too many", argv[max]);
        return false;
    }
    return true;
}

enum sl_status sl_cli_check_text(const char *what, struct sl_slice text)
{
    if (text.size == 0 || sl_utf8_is_clean(text)) {
        return SL_OK;
    }
    sl_cli_complain("%s: not a text: it is not valid UTF-8, or has a NUL", what);
    return SL_INVALID_ARGUMENT;
}

enum sl_status sl_cli_parse(
    struct sl_cli_options *options,
    const struct sl_cli_command *command,
    void *into,
    int *argc,
    char **argv)
{
    struct parser parser = { .command = command, .options = options, .into = into };
    *options = (struct sl_cli_options){ 0 };
    if (command->is_remote) {
        SL_TRY(load_environment(options));
    }
    SL_TRY(take_words(&parser, argc, argv));
    const char *timeout = options->timeout_text;
    if (timeout != NULL &&
        sl_parse_duration_ms(sl_slice_str(timeout), TIMEOUT_MAX_MS, &options->timeout_ms) !=
            SL_OK) {
        sl_cli_complain(
            "--timeout: '%s' is not a duration such as 500ms, 30s or 5m, up to 24h", timeout);
        return SL_INVALID_ARGUMENT;
    }
    if (options->retry_text != NULL &&
        sl_parse_u64(sl_slice_str(options->retry_text), 0, RETRIES_MAX, &options->n_retries) !=
            SL_OK) {
        sl_cli_complain(
            "--retry: '%s' is not a number from 0 to %d", options->retry_text, RETRIES_MAX);
        return SL_INVALID_ARGUMENT;
    }
    if (command->is_remote) {
        SL_TRY(check_address(options));
        SL_TRY(check_tls(options));
        SL_TRY(load_key(options));
    }
    return SL_OK;
}

/* ---- Loop, signals, channel ---------------------------------------------------------------------
 */

static void run_signal_task(struct sl_task *task)
{
    struct sl_cli *cli = SL_CONTAINER(task, struct sl_cli, signal_task);
    cli->n_signals++;
    if (cli->on_signal != NULL && cli->n_signals == 1) {
        cli->on_signal(cli, cli->user_data);
    } else {
        sl_cli_stop(cli, SL_EXIT_CANCELLED);
    }
}

static sigset_t stop_signals(void)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    return set;
}

/* The first signal asks the command to end; the second ends the program. */
static void *wait_signals(void *user_data)
{
    struct sl_cli *cli = user_data;
    const sigset_t set = stop_signals();
    int number;
    if (sigwait(&set, &number) == 0) {
        sl_loop_post(cli->loop, &cli->signal_task);
    }
    if (sigwait(&set, &number) == 0) {
        const char *restore = atomic_load(&cli->restore);
        if (restore != NULL) {
            (void)!write(STDOUT_FILENO, restore, strlen(restore));
        }
        _exit(SL_EXIT_CANCELLED);
    }
    return NULL;
}

static enum sl_status start_signals(struct sl_cli *cli)
{
    const sigset_t set = stop_signals();
    (void)signal(SIGPIPE, SIG_IGN);
    cli->signal_task.run = run_signal_task;
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0 ||
        pthread_create(&cli->signal_thread, NULL, wait_signals, cli) != 0) {
        return SL_RESOURCE_EXHAUSTED;
    }
    cli->has_signal_thread = true;
    return SL_OK;
}

enum sl_status sl_cli_open_loop(struct sl_cli *cli, const struct sl_cli_options *options)
{
    *cli = (struct sl_cli){ .options = *options };
    SL_TRY(sl_loop_uv_new(0, &cli->uv_loop));
    cli->loop = sl_loop_uv_base(cli->uv_loop);
    return start_signals(cli);
}

static enum sl_status open_channel(struct sl_cli *cli, struct sl_error *err)
{
    const struct sl_cli_options *options = &cli->options;
    if (options->is_tls) {
        const struct sl_net_tls_options tls = { .cert_file = options->cert_file,
                                                .key_file = options->key_file,
                                                .ca_file = options->ca_file,
                                                .skip_verify = options->skip_verify };
        SL_TRY(sl_net_tls_new_client(&tls, &cli->tls, err));
        if (options->skip_verify) {
            sl_cli_complain("warning: the server's certificate is not checked (--skip-verify)");
        }
    }
    const struct sl_method_config all = { .struct_size = sizeof(all),
                                          .retry = { .max_attempts =
                                                         (uint32_t)options->n_retries + 1,
                                                     .initial_backoff_ms = RETRY_FIRST_MS,
                                                     .max_backoff_ms = RETRY_MOST_MS,
                                                     .backoff_multiplier = 2,
                                                     .retryable = SL_RETRY_ON(SL_UNAVAILABLE) } };
    const struct sl_service_config config = { .struct_size = sizeof(config),
                                              .methods = &all,
                                              .n_methods = 1 };
    const struct sl_channel_options channel = { .struct_size = sizeof(channel),
                                                .loop = cli->loop,
                                                .tls = cli->tls,
                                                .authority = options->server_name,
                                                .service_config =
                                                    options->n_retries > 0 ? &config : NULL,
                                                .authorization = sl_cli_authorization(options) };
    return sl_channel_new(options->address, &channel, &cli->channel, err);
}

enum sl_status sl_cli_open(struct sl_cli *cli, const struct sl_cli_options *options)
{
    struct sl_error err = { 0 };
    enum sl_status status = sl_cli_open_loop(cli, options);
    if (status == SL_OK) {
        status = open_channel(cli, &err);
    } else {
        (void)sl_fail(&err, status, "cannot start the event loop");
    }
    if (status != SL_OK) {
        sl_cli_complain("%s", err.text);
    }
    return status;
}

int sl_cli_run(struct sl_cli *cli)
{
    sl_loop_uv_run(cli->uv_loop);
    return cli->exit_code;
}

void sl_cli_stop(struct sl_cli *cli, int exit_code)
{
    cli->exit_code = exit_code;
    sl_loop_uv_stop(cli->uv_loop);
}

void sl_cli_close(struct sl_cli *cli)
{
    if (cli->has_signal_thread) {
        (void)pthread_cancel(cli->signal_thread);
        (void)pthread_join(cli->signal_thread, NULL);
    }
    cli->channel = sl_channel_free(cli->channel);
    for (int i = 0; cli->uv_loop != NULL && i < 100; i++) { /* let closing handles go */
        sl_loop_uv_step(cli->uv_loop, 0);
    }
    cli->tls = sl_net_tls_unref(cli->tls);
    cli->uv_loop = sl_loop_uv_free(cli->uv_loop);
}

int sl_cli_exit_code(enum sl_status status, const struct sl_error *err)
{
    if (status == SL_UNAVAILABLE && err->origin != SL_ORIGIN_PEER) {
        return SL_EXIT_UNREACHABLE;
    }
    return status == SL_CANCELLED ? SL_EXIT_CANCELLED : SL_EXIT_ERROR;
}

int sl_cli_report(const struct sl_client_call *call)
{
    return sl_cli_report_error(sl_client_call_status(call), sl_client_call_error(call));
}

int sl_cli_report_error(enum sl_status status, const struct sl_error *err)
{
    sl_cli_complain("%s: %s", sl_status_name(status), err->text);
    return sl_cli_exit_code(status, err);
}
