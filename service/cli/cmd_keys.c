/* sluice keys hash|new PRINCIPAL TENANT: a line for the server's file of keys. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "runtime/base/base64.h"
#include "runtime/base/crypto.h"
#include "runtime/base/mem.h"
#include "runtime/base/random.h"
#include "service/cli/cli.h"
#include "service/identity/keys.h"

enum { LEAST_BYTES = 16, RANDOM_BYTES = 32, KEY_BYTES = 64 };

struct keys_command {
    const char *agents, *expires, *out;
};

static void on_problem(const char *line, void *user_data)
{
    (void)user_data;
    const char *text = strstr(line, ": "); /* the file is none */
    sl_cli_complain("%s", text == NULL ? line : text + 2);
}

/* The line, after the server's own reader had a look at it. */
static int print_line(const struct keys_command *command, char **names, struct sl_slice key)
{
    char hex[SL_SHA256_HEX_BYTES];
    char line[SL_KEY_LINE_BYTES + 1];
    struct sl_keys *keys = NULL;
    if (sl_sha256_hex(key, hex) != SL_OK) {
        return SL_EXIT_ERROR;
    }
    const int n = snprintf(
        line, sizeof(line), "sha256:%s %s %s%s%s%s%s", hex, names[0], names[1],
        command->agents == NULL ? "" : " agents=", command->agents == NULL ? "" : command->agents,
        command->expires == NULL ? "" : " expires=",
        command->expires == NULL ? "" : command->expires);
    if (n < 0 || (size_t)n >= sizeof(line)) {
        sl_cli_complain("the line is longer than %d bytes", SL_KEY_LINE_BYTES);
        return SL_EXIT_USAGE;
    }
    const enum sl_status status =
        sl_keys_parse(sl_slice_of(line, (size_t)n), "", 1, on_problem, NULL, &keys);
    (void)sl_keys_free(keys);
    if (status != SL_OK) {
        return SL_EXIT_USAGE;
    }
    if (puts(line) < 0 || fflush(stdout) != 0) { /* nobody may do without the line */
        sl_cli_complain("standard output: cannot be written (%s)", strerrordesc_np(errno));
        return SL_EXIT_ERROR;
    }
    return SL_EXIT_DONE;
}

/* Of standard input, without the line end. */
static int hash(const struct keys_command *command, char **names)
{
    char key[SL_CLI_KEY_BYTES + SL_CLI_SECRET_MORE];
    size_t size = 0;
    bool is_key = sl_cli_read_secret(NULL, key, sizeof(key), &size) == SL_OK &&
                  size >= LEAST_BYTES && size <= SL_CLI_KEY_BYTES;
    for (size_t i = 0; is_key && i < size; i++) {
        is_key = key[i] > ' ' && key[i] <= '~';
    }
    int exit_code = SL_EXIT_ERROR;
    if (is_key) {
        exit_code = print_line(command, names, sl_slice_of(key, size));
    } else {
        sl_cli_complain(
            "standard input: expected one key of %d to %d visible characters", LEAST_BYTES,
            SL_CLI_KEY_BYTES);
    }
    explicit_bzero(key, sizeof(key));
    return exit_code;
}

/* "sluice_" and 256 random bits. */
static size_t make_key(char room[KEY_BYTES])
{
    static const char prefix[] = "sluice_";
    const size_t n_prefix = sizeof(prefix) - 1;
    uint8_t bytes[RANDOM_BYTES];
    sl_random_bytes(bytes, sizeof(bytes));
    memcpy(room, prefix, n_prefix);
    sl_base64_encode(sl_slice_of(bytes, sizeof(bytes)), room + n_prefix);
    explicit_bzero(bytes, sizeof(bytes));
    const size_t size = n_prefix + sl_base64_size(sizeof(bytes));
    for (size_t i = n_prefix; i < size; i++) {
        room[i] = (char)(room[i] == '+' ? '-' : room[i] == '/' ? '_' : room[i]);
    }
    return size;
}

/* 0, or the errno. */
static int write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        const ssize_t n = write(fd, data, size);
        if (n < 0 && errno != EINTR) {
            return errno;
        }
        data += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* Only for its owner, and never over another one; whole, or not at all. */
static bool write_key(const char *path, const char *key, size_t size)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int code = fd < 0 ? errno : write_all(fd, key, size);
    code = fd >= 0 && code == 0 ? write_all(fd, "\n", 1) : code;
    if (fd >= 0) {
        const int failed = close(fd) != 0 ? errno : 0;
        code = code == 0 ? failed : code;
        if (code != 0) {
            (void)unlink(path);
        }
    }
    if (code != 0) {
        sl_cli_complain("%s: cannot be written (%s)", path, strerrordesc_np(code));
    }
    return code == 0;
}

static int make(const struct keys_command *command, char **names)
{
    char key[KEY_BYTES];
    if (command->out == NULL) {
        sl_cli_complain("--out is missing: the file that gets the key");
        return SL_EXIT_USAGE;
    }
    const size_t size = make_key(key);
    int exit_code = SL_EXIT_ERROR;
    if (write_key(command->out, key, size)) {
        exit_code = print_line(command, names, sl_slice_of(key, size));
        if (exit_code != SL_EXIT_DONE) {
            (void)unlink(command->out);
        }
    }
    explicit_bzero(key, sizeof(key));
    return exit_code;
}

static int run_keys(int argc, char **argv)
{
    static const char *const required[] = { "hash or new", "PRINCIPAL", "TENANT", NULL };
    struct keys_command command = { 0 };
    struct sl_cli_options options;
    if (sl_cli_parse(&options, &sl_cmd_keys, &command, &argc, argv) != SL_OK ||
        !sl_cli_takes(argc, argv, required, 3)) {
        return sl_cli_usage(&sl_cmd_keys);
    }
    if (strcmp(argv[0], "hash") == 0) {
        return hash(&command, argv + 1);
    }
    return strcmp(argv[0], "new") == 0 ? make(&command, argv + 1) : sl_cli_usage(&sl_cmd_keys);
}

#define FLAG(name, kind, field, value, text)                                                       \
    {                                                                                              \
        name, kind, offsetof(struct keys_command, field), value, text                              \
    }
static const struct sl_cli_flag flags[] = {
    FLAG("--out", SL_CLI_TEXT, out, "FILE", "new: the file that gets the key, for its owner only"),
    FLAG("--agents", SL_CLI_TEXT, agents, "NAMES", "only these agents: a,b,team-*"),
    FLAG("--expires", SL_CLI_TEXT, expires, "TIME", "2027-01-31, or 2027-01-31T12:00:00Z"),
};
#undef FLAG

const struct sl_cli_command sl_cmd_keys = {
    .name = "keys",
    .arguments = "hash|new PRINCIPAL TENANT",
    .text = "a line for sluiced's file of bearer keys",
    .run = run_keys,
    .flags = flags,
    .n_flags = SL_COUNT(flags),
    .words = "hash new",
    .notes =
        "hash reads a key from standard input; new makes one. The line, on standard output, "
        "has the\n"
        "key's SHA-256 and goes into the file that identity.keys of the configuration names.\n",
};
