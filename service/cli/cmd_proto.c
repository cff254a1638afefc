/* sluice proto export: the API's .proto files, or their descriptors. Needs no server. */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "runtime/base/mem.h"
#include "service/cli/cli.h"
#include "service/cli/embedded.h"

enum { MAX_PATH_BYTES = 4096, MAX_SET_BYTES = 16 * 1024 * 1024 };

struct proto_command {
    const char *protoset;
};

static enum sl_status write_file(const char *path, struct sl_slice text)
{
    FILE *file = fopen(path, "wbe");
    const bool is_written = file != NULL && fwrite(text.data, 1, text.size, file) == text.size;
    const int fault = errno;
    if ((file != NULL && fclose(file) != 0) || !is_written) {
        sl_cli_complain("%s: cannot be written (errno %d)", path, fault);
        return SL_FAILED_PRECONDITION;
    }
    (void)printf("%s\n", path);
    return SL_OK;
}

/* The folders of `path`, which is cut at each '/' for a moment. */
static enum sl_status make_folders(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        const bool is_there = mkdir(path, 0777) == 0 || errno == EEXIST;
        if (!is_there) {
            sl_cli_complain("%s: cannot be made (errno %d)", path, errno);
        }
        *slash = '/';
        if (!is_there) {
            return SL_FAILED_PRECONDITION;
        }
    }
    return SL_OK;
}

static enum sl_status export_files(const char *folder)
{
    for (size_t i = 0; i < sl_embedded_n_protos; i++) {
        const struct sl_embedded_proto *proto = &sl_embedded_protos[i];
        char path[MAX_PATH_BYTES];
        const int n = snprintf(path, sizeof(path), "%s/%s", folder, proto->name);
        if (n < 0 || (size_t)n >= sizeof(path)) {
            sl_cli_complain("the folder's name is too long");
            return SL_INVALID_ARGUMENT;
        }
        SL_TRY(make_folders(path));
        SL_TRY(write_file(path, proto->text));
    }
    return SL_OK;
}

static enum sl_status export_set(const char *path)
{
    struct sl_buf set;
    sl_buf_init(&set, MAX_SET_BYTES);
    enum sl_status status = sl_embedded_set(&set);
    if (status != SL_OK) {
        sl_cli_complain("out of memory");
    } else {
        status = write_file(path, sl_buf_slice(&set));
    }
    sl_buf_done(&set);
    return status;
}

static int run_proto(int argc, char **argv)
{
    struct proto_command command = { 0 };
    struct sl_cli_options options;
    const enum sl_status parsed = sl_cli_parse(&options, &sl_cmd_proto, &command, &argc, argv);
    if (parsed != SL_OK || argc < 1 || strcmp(argv[0], "export") != 0 || argc > 2 ||
        (argc == 1 && command.protoset == NULL)) {
        return sl_cli_usage(&sl_cmd_proto);
    }
    enum sl_status status = argc == 2 ? export_files(argv[1]) : SL_OK;
    if (status == SL_OK && command.protoset != NULL) {
        status = export_set(command.protoset);
    }
    return status == SL_OK ? SL_EXIT_DONE : SL_EXIT_ERROR;
}

static const struct sl_cli_flag flags[] = {
    { "--protoset", SL_CLI_TEXT, offsetof(struct proto_command, protoset), "FILE",
      "write a FileDescriptorSet there, for tools that take one" },
};

const struct sl_cli_command sl_cmd_proto = {
    .name = "proto",
    .arguments = "export [DIR]",
    .text = "write the API's .proto files, or their descriptors",
    .run = run_proto,
    .flags = flags,
    .n_flags = SL_COUNT(flags),
    .words = "export",
};
