#include "service/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/base/parse.h"

enum { MESSAGE_BYTES = 1024, WAIT_US = 100000, US_PER_MS = 1000 };

/* "/path" or "@name", an abstract one. */
static bool set_address(struct sl_notify *notify, const char *path)
{
    const size_t size = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || size < 2 ||
        size >= sizeof(notify->address.sun_path)) {
        return false;
    }
    notify->address.sun_family = AF_UNIX;
    memcpy(notify->address.sun_path, path, size);
    if (path[0] == '@') {
        notify->address.sun_path[0] = '\0';
    }
    notify->address_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
    return true;
}

/* WATCHDOG_PID, when it is there, says whom it is meant for. */
static uint64_t read_watchdog_ms(const char *(*env)(const char *name))
{
    const char *text = env("WATCHDOG_USEC");
    const char *pid_text = env("WATCHDOG_PID");
    uint64_t us;
    uint64_t pid = (uint64_t)getpid();
    if (text == NULL || sl_parse_u64(sl_slice_str(text), US_PER_MS, UINT64_MAX, &us) != SL_OK ||
        (pid_text != NULL && sl_parse_u64(sl_slice_str(pid_text), 0, UINT64_MAX, &pid) != SL_OK) ||
        pid != (uint64_t)getpid()) {
        return 0;
    }
    return us / US_PER_MS;
}

void sl_notify_open(struct sl_notify *notify, const char *(*env)(const char *name))
{
    *notify = (struct sl_notify){ .is_on = false };
    const char *path = env("NOTIFY_SOCKET");
    if (path == NULL || path[0] == '\0') {
        return;
    }
    const struct timeval wait = { .tv_usec = WAIT_US };
    const int fd = set_address(notify, path) ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) != 0) {
        if (fd >= 0) {
            (void)close(fd);
        }
        sl_log(
            SL_WARN, SL_LOG_MAIN, "msg=\"NOTIFY_SOCKET cannot be used\" path=%s",
            SL_LOG_QUOTE(sl_slice_str(path)));
        return;
    }
    notify->fd = fd;
    notify->is_on = true;
    notify->watchdog_ms = read_watchdog_ms(env);
}

void sl_notify_send(const struct sl_notify *notify, const char *fmt, ...)
{
    char message[MESSAGE_BYTES];
    if (!notify->is_on) {
        return;
    }
    va_list ap;
    va_start(ap, fmt);
    const int size = vsnprintf(message, sizeof(message), fmt, ap);
    va_end(ap);
    const size_t most = sizeof(message) - 1;
    const size_t bytes = size < 0 ? 0 : (size_t)size > most ? most : (size_t)size;
    if (sendto(
            notify->fd, message, bytes, MSG_NOSIGNAL, (const struct sockaddr *)&notify->address,
            notify->address_bytes) < 0) {
        sl_log(SL_WARN, SL_LOG_MAIN, "msg=\"the service manager was not told\" errno=%d", errno);
    }
}

void sl_notify_close(struct sl_notify *notify)
{
    if (notify->is_on) {
        (void)close(notify->fd);
    }
    *notify = (struct sl_notify){ .is_on = false };
}
