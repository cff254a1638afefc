/* CRC-32C (Castagnoli), the checksum of iSCSI (RFC 3720, B.4): over the rows of the store. */
#ifndef SL_RUNTIME_BASE_CRC32C_H
#define SL_RUNTIME_BASE_CRC32C_H

#include <stdint.h>

#include "runtime/base/slice.h"

/* The checksum of what `crc` was given for and `bytes` behind it; `crc` is 0 in the beginning.
 * Thread: any. Never fails. */
uint32_t sl_crc32c(uint32_t crc, struct sl_slice bytes);

#endif
