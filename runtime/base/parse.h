/* Text to numbers: the whole text, the range and the sign are checked. No locale, no white space.
 */
#ifndef SL_RUNTIME_BASE_PARSE_H
#define SL_RUNTIME_BASE_PARSE_H

#include <stdint.h>

#include "runtime/base/slice.h"
#include "runtime/base/status.h"

/* Fails: SL_INVALID_ARGUMENT not decimal digits (a '-' first where signed); SL_OUT_OF_RANGE outside
 * [min, max]. */
SL_CHECK enum sl_status
sl_parse_u64(struct sl_slice text, uint64_t min, uint64_t max, uint64_t *ret_value);
SL_CHECK enum sl_status
sl_parse_i64(struct sl_slice text, int64_t min, int64_t max, int64_t *ret_value);
/* A decimal number with optional sign, fraction and exponent; not inf, not nan. */
SL_CHECK enum sl_status sl_parse_double(struct sl_slice text, double *ret_value);
/* "256KiB", "4MiB", "1GiB", "512", "512B": bytes. */
SL_CHECK enum sl_status sl_parse_bytes(struct sl_slice text, uint64_t max, uint64_t *ret_bytes);
/* "250ms", "10s", "5m", "2h"; a bare number has the unit milliseconds. */
SL_CHECK enum sl_status sl_parse_duration_ms(struct sl_slice text, uint64_t max, uint64_t *ret_ms);
/* "127.0.0.1:80", "[::1]:0", "host:80", "unix:/path". `host` and `*ret_port`; for unix the path and
 * 0. */
SL_CHECK enum sl_status sl_parse_address(
    struct sl_slice text, char *host, size_t host_bytes, uint16_t *ret_port, bool *ret_is_unix);
/* Levenshtein distance, cut at `limit` + 1: for "did you mean". */
unsigned sl_parse_distance(const char *a, const char *b, unsigned limit);

#endif
