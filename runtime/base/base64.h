/* Standard base64 (RFC 4648, section 4). Part of sl_core: no library behind it. */
#ifndef SL_RUNTIME_BASE_BASE64_H
#define SL_RUNTIME_BASE_BASE64_H

#include "runtime/base/slice.h"
#include "runtime/base/status.h"

/* Characters that `size` bytes need without padding. */
size_t sl_base64_size(size_t size);
/* Writes exactly sl_base64_size() characters, no padding, no NUL. */
void sl_base64_encode(struct sl_slice bytes, char *room);
/* Accepts padded and unpadded text. `room` must hold text.size * 3 / 4 bytes.
 * Fails: SL_INVALID_ARGUMENT another character, a wrong length, or bits set behind the end. */
SL_CHECK enum sl_status sl_base64_decode(struct sl_slice text, uint8_t *room, size_t *ret_size);

#endif
