/* Secrets that stand in files: read without a buffer of stdio, which nobody would overwrite. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "service/cli/cli.h"

static enum sl_status read_to_end(int fd, char *room, size_t room_bytes, size_t *ret_size)
{
    size_t size = 0;
    ssize_t n = 1;
    while (n != 0 && size < room_bytes) {
        n = read(fd, room + size, room_bytes - size);
        if (n < 0 && errno != EINTR) {
            return SL_INVALID_ARGUMENT;
        }
        size += n > 0 ? (size_t)n : 0;
    }
    *ret_size = size;
    return size == room_bytes ? SL_RESOURCE_EXHAUSTED : SL_OK;
}

enum sl_status sl_cli_read_secret(const char *path, char *room, size_t room_bytes, size_t *ret_size)
{
    const int fd = path == NULL ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return SL_INVALID_ARGUMENT;
    }
    size_t size = 0;
    const enum sl_status status = read_to_end(fd, room, room_bytes, &size);
    if (path != NULL) {
        (void)close(fd);
    }
    if (status != SL_OK) {
        explicit_bzero(room, room_bytes);
        return status;
    }
    size -= size > 0 && room[size - 1] == '\n';
    size -= size > 0 && room[size - 1] == '\r';
    *ret_size = size;
    return SL_OK;
}
