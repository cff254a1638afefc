/* Hashes, over libcrypto. Fail only with SL_RESOURCE_EXHAUSTED. Thread: any. */
#ifndef SL_RUNTIME_BASE_CRYPTO_H
#define SL_RUNTIME_BASE_CRYPTO_H

#include "runtime/base/slice.h"
#include "runtime/base/status.h"

enum { SL_SHA256_BYTES = 32, SL_SHA256_HEX_BYTES = 65 };

SL_CHECK enum sl_status sl_sha256(struct sl_slice bytes, uint8_t digest[SL_SHA256_BYTES]);
SL_CHECK enum sl_status sl_sha256_hex(struct sl_slice bytes, char hex[SL_SHA256_HEX_BYTES]);

#endif
