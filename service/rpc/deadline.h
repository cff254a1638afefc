/* grpc-timeout (DL-1) and deadlines. No state; any thread. */
#ifndef SL_SERVICE_RPC_DEADLINE_H
#define SL_SERVICE_RPC_DEADLINE_H

#include <stdint.h>

#include "runtime/base/slice.h"
#include "runtime/base/status.h"

/* Longer timeouts become this (about 146 years): now + timeout cannot overflow. */
#define SL_TIMEOUT_MAX_NS (UINT64_MAX / 4)

enum { SL_TIMEOUT_TEXT_BYTES = 10 };

/* 1 to 8 digits and one of H M S m u n. Fails: SL_INVALID_ARGUMENT anything else (ADM-6). */
SL_CHECK enum sl_status sl_timeout_parse(struct sl_slice text, uint64_t *ret_timeout_ns);
/* Writes a terminated text in the finest unit that fits 8 digits, rounded up: the server may not
 * give up before the client does. Gives its length. */
size_t sl_timeout_format(uint64_t timeout_ns, char room[SL_TIMEOUT_TEXT_BYTES]);
/* now + timeout, never SL_NEVER_NS. */
uint64_t sl_deadline_after(uint64_t now_ns, uint64_t timeout_ns);
/* Nanoseconds that are left; 0: passed; SL_NEVER_NS stays itself. */
uint64_t sl_deadline_remaining(uint64_t deadline_ns, uint64_t now_ns);

#endif
