/* Names with at most one `*`, at the begin or at the end: "billing", "billing-*", "*.example.org",
 * "*". No state; any thread. */
#ifndef SL_SERVICE_IDENTITY_PATTERN_H
#define SL_SERVICE_IDENTITY_PATTERN_H

#include "runtime/base/slice.h"

/* What a principal or a tenant may be called: 1 to 128 bytes of letters, digits and . _ : / @ + = -
 */
enum { SL_IDENTITY_NAME_BYTES = 128 };
bool sl_identity_is_name(struct sl_slice text);

/* Visible ASCII, not empty, and the star stands where it may. */
bool sl_pattern_is_valid(struct sl_slice pattern);
/* `*` stands for any text, the empty one included. */
bool sl_pattern_matches(const char *pattern, const char *text);
bool sl_pattern_matches_any(const char *const *patterns, size_t n_patterns, const char *text);

#endif
