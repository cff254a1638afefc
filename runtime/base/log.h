// install: off
/* Structured log lines: one event per line, logfmt or JSON, level and subject checked before the
 * arguments are evaluated.
 *
 *   ts=2026-11-22T10:00:00.123Z level=info subject=rpc call=17 msg="opened" method=/sluice.v1…
 *
 * The format string is a logfmt line without the first three fields ("run=%s msg=\"ended\"
 * code=%s"). Values from outside go through SL_LOG_QUOTE, which escapes them. Lines go to a
 * descriptor that is never waited for: what cannot be written at once is dropped and counted. */
// install: on
#ifndef SL_RUNTIME_BASE_LOG_H
#define SL_RUNTIME_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/slice.h"
#include "runtime/base/status.h"

/* Where the lines of the log go: one event per line, logfmt. */

enum sl_log_level { SL_ERROR, SL_WARN, SL_INFO, SL_DEBUG };
// install: off
enum sl_log_format { SL_LOG_LOGFMT, SL_LOG_JSON };

#define SL_LOG_SUBJECT_MAP(X)                                                                      \
    X(BASE, "base")                                                                                \
    X(MODEL, "model")                                                                              \
    X(TOOL, "tool")                                                                                \
    X(STORE, "store")                                                                              \
    X(EXEC, "exec")                                                                                \
    X(NET, "net")                                                                                  \
    X(H2, "h2")                                                                                    \
    X(RPC, "rpc")                                                                                  \
    X(API, "api")                                                                                  \
    X(MAIN, "main")

#define SL_LOG_SUBJECT_ENUM(name, text) SL_LOG_##name,
enum sl_log_subject { SL_LOG_SUBJECT_MAP(SL_LOG_SUBJECT_ENUM) };
#undef SL_LOG_SUBJECT_ENUM

/* Where lines go, and which. Call once, before threads exist. `write_fd` stays the caller's; -1: no
 * output. The start is: stderr, INFO, logfmt. */
void sl_log_setup(int write_fd, enum sl_log_level level, enum sl_log_format format);
// install: on
/* Lines go to `sink` instead of the descriptor, which is stderr in the beginning; NULL: to the
 * descriptor. The gRPC library itself has no line above SL_DEBUG. Before threads exist. */
void sl_log_set_sink(void (*sink)(const char *line, size_t size, void *user_data), void *user_data);
/* Which lines go out from now on. Thread: any. */
void sl_log_set_level(enum sl_log_level level);
// install: off
bool sl_log_is_on(enum sl_log_level level, enum sl_log_subject subject);
uint64_t sl_log_dropped(void);

/* A secret that must never appear: every line is searched for it and it is replaced by "***".
 * Copies it; the same one again costs nothing. Texts under 8 bytes are ignored, and so is what
 * comes after 512 of them. Thread: any. */
void sl_log_add_secret(const char *secret);

#define sl_log(level, subject, ...)                                                                \
    do {                                                                                           \
        if (sl_log_is_on((level), (subject))) {                                                    \
            sl_log_write((level), (subject), __VA_ARGS__);                                         \
        }                                                                                          \
    } while (0)

SL_PRINTF(3, 4)
void sl_log_write(enum sl_log_level level, enum sl_log_subject subject, const char *fmt, ...);

/* `text`, escaped and in quotes, cut to the room: control characters, quotes, backslashes and bytes
 * that are not UTF-8 become \xNN. Gives `room`. `room_bytes` >= 3. */
const char *sl_log_quote(struct sl_slice text, char *room, size_t room_bytes);

/* For one argument of sl_log: SL_LOG_QUOTE(sl_slice_str(name)). */
#define SL_LOG_QUOTE(slice) sl_log_quote((slice), (char[256]){ 0 }, 256)

// install: on
#endif
