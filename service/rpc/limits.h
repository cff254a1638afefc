/* The limits of a server or a channel, by name: for users of the library, to whom the struct is
 * opaque (it has the limits of runs, models and tools too, and grows). */
#ifndef SL_SERVICE_RPC_LIMITS_H
#define SL_SERVICE_RPC_LIMITS_H

#include <stdint.h>

#include "runtime/base/status.h"

struct sl_limits;

/* Gives limits that have their defaults. Owns: the caller; sl_limits_free(). Thread: any.
 * Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_limits_new(struct sl_limits **ret_limits);

/* Sets one, in bytes, milliseconds or pieces: sl_limits_set(limits, "message_recv", 16 << 20,
 * NULL). Whoever takes limits copies them: later changes do not reach it. Thread: the caller's.
 * Fails, naming the limit: SL_NOT_FOUND the library has none of that name; SL_OUT_OF_RANGE. */
SL_CHECK enum sl_status
sl_limits_set(struct sl_limits *limits, const char *name, uint64_t value, struct sl_error *err);

/* One value. Thread: the caller's. Fails: SL_NOT_FOUND. */
SL_CHECK enum sl_status
sl_limits_get(const struct sl_limits *limits, const char *name, uint64_t *ret_value);

/* Accepts NULL; gives NULL. */
struct sl_limits *sl_limits_free(struct sl_limits *limits);

#endif
