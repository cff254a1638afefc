/* protoc-gen-sluice-pb-c: protoc-gen-c for files with proto3 `optional` (PB-8).
 *
 *   protoc --plugin=protoc-gen-sluice-pb-c --sluice-pb-c_out=DIR x.proto
 *     ->  DIR/x.pb-c.h, DIR/x.pb-c.c
 *
 * protoc-gen-c refuses such files. Clearing the flag `proto3_optional` is enough: protoc has
 * already put each of these fields into a oneof of its own, `_x`, so that presence is x's case
 * there. This program clears it, runs the `protoc-gen-c` found in PATH on the result and hands its
 * answer on, marked as knowing the feature.
 *
 * The parameter "no_services" leaves protoc-gen-c's services out. They know nothing of streams, are
 * not used by protoc-gen-sluice-c's, and do not compile when a method has a keyword's name
 * ("Register", "Continue"). Other parameters go through. */
#include <errno.h>
#include <fcntl.h>
#include <google/protobuf/compiler/plugin.pb-c.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "codegen/plugin_io.h"
#include "codegen/text.h"

#define PROGRAM "protoc-gen-c"

static void clear_fields(Google__Protobuf__FieldDescriptorProto **fields, size_t n_fields)
{
    for (size_t i = 0; i < n_fields; i++) {
        fields[i]->has_proto3_optional = 0;
        fields[i]->proto3_optional = 0;
    }
}

/* As deep as the messages are nested in the file; protoc bounds that. */
static void clear_message(Google__Protobuf__DescriptorProto *message) // NOLINT(misc-no-recursion)
{
    clear_fields(message->field, message->n_field);
    clear_fields(message->extension, message->n_extension);
    for (size_t i = 0; i < message->n_nested_type; i++) {
        clear_message(message->nested_type[i]);
    }
}

static void drop_services(Google__Protobuf__FileDescriptorProto *file)
{
    for (size_t i = 0; i < file->n_service; i++) {
        google__protobuf__service_descriptor_proto__free_unpacked(file->service[i], NULL);
    }
    free(file->service);
    file->service = NULL;
    file->n_service = 0;
}

/* Takes our own parameter out of the list; true: it was there. */
static bool take_no_services(char *parameters)
{
    static const char name[] = "no_services";
    bool is_found = false;
    char *out = parameters;
    for (char *in = parameters; in != NULL && *in != '\0';) {
        const size_t size = strcspn(in, ",");
        const size_t step = size + (in[size] == ',' ? 1 : 0);
        if (size == sizeof(name) - 1 && memcmp(in, name, size) == 0) {
            is_found = true;
        } else {
            memmove(out, in, step);
            out += step;
        }
        in += step;
    }
    if (out != NULL) {
        *out = '\0';
    }
    return is_found;
}

static void clear_request(Google__Protobuf__Compiler__CodeGeneratorRequest *request)
{
    const bool no_services = take_no_services(request->parameter);
    for (size_t i = 0; i < request->n_proto_file; i++) {
        Google__Protobuf__FileDescriptorProto *file = request->proto_file[i];
        clear_fields(file->extension, file->n_extension);
        for (size_t k = 0; k < file->n_message_type; k++) {
            clear_message(file->message_type[k]);
        }
        if (no_services) {
            drop_services(file);
        }
    }
}

/* Gives a descriptor that reads as the cleared request; -1: `why` says what failed. A file and not
 * a pipe, so that the child may write before it has read everything. */
static int open_cleared(const struct sl_text *input, struct sl_text *why)
{
    Google__Protobuf__Compiler__CodeGeneratorRequest *request =
        google__protobuf__compiler__code_generator_request__unpack(
            NULL, input->size, (const uint8_t *)input->data);
    if (request == NULL) {
        sl_text_add(why, "stdin is no CodeGeneratorRequest; protoc must run this program");
        return -1;
    }
    clear_request(request);
    const size_t size =
        google__protobuf__compiler__code_generator_request__get_packed_size(request);
    uint8_t *bytes = malloc(size + 1);
    int fd = bytes == NULL ? -1 : memfd_create("request", MFD_CLOEXEC);
    if (fd >= 0) {
        (void)google__protobuf__compiler__code_generator_request__pack(request, bytes);
        if (!sl_plugin_write(fd, bytes, size) || lseek(fd, 0, SEEK_SET) != 0) {
            (void)close(fd);
            fd = -1;
        }
    }
    if (fd < 0) {
        sl_text_addf(why, "the request cannot be passed on: %s", sl_plugin_errno(errno));
    }
    free(bytes);
    google__protobuf__compiler__code_generator_request__free_unpacked(request, NULL);
    return fd;
}

/* Starts the program with stdin and stdout; gives errno's number. */
static int spawn(int stdin_fd, int stdout_fd, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    int error = posix_spawn_file_actions_init(&actions);
    if (error != 0) {
        return error;
    }
    error = posix_spawn_file_actions_adddup2(&actions, stdin_fd, STDIN_FILENO);
    if (error == 0) {
        error = posix_spawn_file_actions_adddup2(&actions, stdout_fd, STDOUT_FILENO);
    }
    if (error == 0) {
        char program[] = PROGRAM;
        char *const arguments[] = { program, NULL };
        error = posix_spawnp(ret_pid, program, &actions, NULL, arguments, environ);
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    return error;
}

/* Runs the program on `stdin_fd`, fills `output`. */
static bool run_child(int stdin_fd, struct sl_text *output, struct sl_text *why)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        sl_text_addf(why, "pipe: %s", sl_plugin_errno(errno));
        return false;
    }
    pid_t pid = -1;
    const int error = spawn(stdin_fd, ends[1], &pid);
    (void)close(ends[1]);
    if (error != 0) {
        (void)close(ends[0]);
        sl_text_addf(
            why, PROGRAM " cannot be started (package protobuf-c-compiler): %s",
            sl_plugin_errno(error));
        return false;
    }
    const bool is_read = sl_plugin_read(ends[0], output);
    (void)close(ends[0]);
    int status = 0;
    pid_t waited;
    do {
        waited = waitpid(pid, &status, 0);
    } while (waited < 0 && errno == EINTR);
    if (waited == pid && WIFSIGNALED(status)) {
        sl_text_addf(why, PROGRAM " was ended by signal %d", WTERMSIG(status));
        return false;
    }
    if (waited != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        sl_text_add(why, PROGRAM " failed");
        return false;
    }
    if (!is_read) {
        sl_text_add(why, "the answer of " PROGRAM " cannot be read");
    }
    return is_read;
}

/* Hands the child's answer on. */
static bool respond(const struct sl_text *output, struct sl_text *why)
{
    Google__Protobuf__Compiler__CodeGeneratorResponse *response =
        google__protobuf__compiler__code_generator_response__unpack(
            NULL, output->size, (const uint8_t *)output->data);
    if (response == NULL) {
        sl_text_add(why, "the answer of " PROGRAM " is no CodeGeneratorResponse");
        return false;
    }
    response->has_supported_features = 1;
    response->supported_features |= SL_PLUGIN_FEATURES;
    const bool is_written = sl_plugin_respond(STDOUT_FILENO, response);
    google__protobuf__compiler__code_generator_response__free_unpacked(response, NULL);
    if (!is_written) {
        sl_text_addf(why, "stdout: %s", sl_plugin_errno(errno));
    }
    return is_written;
}

int main(void)
{
    struct sl_text input = { 0 };
    struct sl_text output = { 0 };
    struct sl_text why = { 0 };
    bool is_done = false;
    if (!sl_plugin_read(STDIN_FILENO, &input)) {
        sl_text_addf(&why, "stdin: %s", sl_plugin_errno(errno));
    } else {
        const int fd = open_cleared(&input, &why);
        if (fd >= 0) {
            is_done = run_child(fd, &output, &why) && respond(&output, &why);
            (void)close(fd);
        }
    }
    if (!is_done) {
        is_done = sl_plugin_respond_error(STDOUT_FILENO, sl_text_get(&why));
    }
    sl_text_done(&input);
    sl_text_done(&output);
    sl_text_done(&why);
    return is_done ? EXIT_SUCCESS : EXIT_FAILURE;
}
