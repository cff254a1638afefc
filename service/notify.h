/* What a service manager is told: sd_notify's datagrams, without its library.
 *
 *   NOTIFY_SOCKET=/run/… or @abstract ─▶ READY=1, STATUS=…, RELOADING=1, STOPPING=1, WATCHDOG=1
 *
 * All zero is one that tells nobody. Thread: who opened it. */
#ifndef SL_SERVICE_NOTIFY_H
#define SL_SERVICE_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "runtime/base/status.h"

struct sl_notify {
    bool is_on;
    int fd;
    struct sockaddr_un address;
    socklen_t address_bytes;
    uint64_t watchdog_ms; /* after so long without WATCHDOG=1 the manager kills; 0: never */
};

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID through `env`. Without the first, or with one
 * that cannot be used (which is logged), nobody is told anything. Owns: the caller;
 * sl_notify_close(). Never fails. */
void sl_notify_open(struct sl_notify *notify, const char *(*env)(const char *name));

/* One datagram of "NAME=value" lines, at most 1 KiB. Waits at most 100 ms for a manager that does
 * not read. */
SL_PRINTF(2, 3)
void sl_notify_send(const struct sl_notify *notify, const char *fmt, ...);

void sl_notify_close(struct sl_notify *notify);

#endif
