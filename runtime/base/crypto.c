#include "runtime/base/crypto.h"

#include <openssl/evp.h>

enum sl_status sl_sha256(struct sl_slice bytes, uint8_t digest[SL_SHA256_BYTES])
{
    unsigned size = 0;
    /* libcrypto fails here only without memory, or without its default provider. */
    if (EVP_Digest(
            bytes.size == 0 ? "" : (const void *)bytes.data, bytes.size, digest, &size,
            EVP_sha256(), NULL) != 1 ||
        size != SL_SHA256_BYTES) {
        return SL_RESOURCE_EXHAUSTED;
    }
    return SL_OK;
}

enum sl_status sl_sha256_hex(struct sl_slice bytes, char hex[SL_SHA256_HEX_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t digest[SL_SHA256_BYTES];
    SL_TRY(sl_sha256(bytes, digest));
    for (size_t i = 0; i < sizeof(digest); i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    hex[SL_SHA256_HEX_BYTES - 1] = '\0';
    return SL_OK;
}
