/* What main asks of the operating system: processors, signals, descriptors, files beside it. */
#ifndef SL_SERVICE_SYSTEM_H
#define SL_SERVICE_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

/* At least 1. */
size_t sl_system_n_cores(void);
/* As many descriptors as the system allows: each connection and each model transfer is one. */
void sl_system_raise_descriptor_limit(void);
/* Threads made from now on have a stack of at least 1 MiB, whatever the limit of stacks was at the
 * start: they unpack messages (PB-1). Before threads exist. */
void sl_system_raise_stacks(void);
/* Monotonic time in microseconds, and in milliseconds. */
uint64_t sl_system_now_us(void);
uint64_t sl_system_now_ms(void);

/* SIGTERM, SIGINT and SIGHUP, and SIGUSR1 and SIGUSR2, which nobody wants but which would end us:
 * blocked in this thread and so in every later one, and read from the descriptor that is given;
 * SIGPIPE is ignored. Before threads exist. -1: that is not possible. */
int sl_system_take_signals(void);
/* SIGTERM or SIGINT. */
bool sl_system_is_stop(int signal_number);

/* The program that starts tools: beside this one, or where it is installed. Gives `room` (at least
 * 64 bytes), or NULL: it is not there. */
const char *sl_system_find_launcher(char *room, size_t room_bytes);
/* One line, written beside and renamed, so that a reader never sees half of it. `path` NULL:
 * nothing. Fails: SL_FAILED_PRECONDITION. */
SL_CHECK enum sl_status
sl_system_write_line(const char *path, const char *line, struct sl_error *err);

#endif
