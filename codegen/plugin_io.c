#include "codegen/plugin_io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *sl_plugin_errno(int number)
{
    const char *text = strerrordesc_np(number);
    return text == NULL ? "unknown error" : text;
}

bool sl_plugin_read(int fd, struct sl_text *text)
{
    char block[16 * 1024];
    for (;;) {
        const ssize_t size = read(fd, block, sizeof(block));
        if (size == 0) {
            return !text->has_failed;
        }
        if (size < 0 && errno == EINTR) {
            continue;
        }
        if (size < 0) {
            return false;
        }
        sl_text_add_bytes(text, block, (size_t)size);
        if (text->has_failed) {
            errno = ENOMEM;
            return false;
        }
    }
}

bool sl_plugin_write(int fd, const void *bytes, size_t size)
{
    const char *rest = bytes;
    while (size > 0) {
        const ssize_t written = write(fd, rest, size);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written < 0) {
            return false;
        }
        rest += written;
        size -= (size_t)written;
    }
    return true;
}

bool sl_plugin_respond(int fd, const Google__Protobuf__Compiler__CodeGeneratorResponse *response)
{
    const size_t size =
        google__protobuf__compiler__code_generator_response__get_packed_size(response);
    uint8_t *bytes = malloc(size + 1);
    if (bytes == NULL) {
        return false;
    }
    (void)google__protobuf__compiler__code_generator_response__pack(response, bytes);
    const bool is_written = sl_plugin_write(fd, bytes, size);
    free(bytes);
    return is_written;
}

bool sl_plugin_respond_error(int fd, const char *text)
{
    Google__Protobuf__Compiler__CodeGeneratorResponse response =
        GOOGLE__PROTOBUF__COMPILER__CODE_GENERATOR_RESPONSE__INIT;
    char *copy = strdup(text); /* protobuf-c's strings are not const */
    if (copy == NULL) {
        return false;
    }
    response.error = copy;
    response.has_supported_features = 1;
    response.supported_features = SL_PLUGIN_FEATURES;
    const bool is_written = sl_plugin_respond(fd, &response);
    free(copy);
    return is_written;
}
