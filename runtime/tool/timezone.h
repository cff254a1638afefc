/* How far a time zone is from UTC at a moment, without touching TZ or any other state of the
 * process. */
#ifndef SL_RUNTIME_TOOL_TIMEZONE_H
#define SL_RUNTIME_TOOL_TIMEZONE_H

#include <stdint.h>

#include "runtime/base/slice.h"
#include "runtime/base/status.h"

/* `zone`: "UTC", "GMT", "Z", "+02:00", "-0330", or a name of the system's zone database
 * ("Europe/Berlin"). Reads one small file for a name. Thread: any. Fails: SL_INVALID_ARGUMENT, with
 * words for the model. */
SL_CHECK enum sl_status
sl_timezone_offset(const char *zone, int64_t unix_s, int *ret_offset_s, struct sl_error *err);

/* The same from the bytes of a TZif file (RFC 8536). Fails: SL_INVALID_ARGUMENT it is none. */
SL_CHECK enum sl_status sl_timezone_read(struct sl_slice file, int64_t unix_s, int *ret_offset_s);

#endif
