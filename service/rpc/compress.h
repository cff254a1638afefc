/* Message compression (FR-4, FR-9, FR-10): gzip, and deflate, which means zlib (RFC 1950). Each
 * message is compressed by itself. No state; any thread. */
#ifndef SL_SERVICE_RPC_COMPRESS_H
#define SL_SERVICE_RPC_COMPRESS_H

#include "runtime/base/buf.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"

enum sl_encoding {
    SL_ENCODING_IDENTITY,
    SL_ENCODING_GZIP,
    SL_ENCODING_DEFLATE,
    SL_ENCODING_UNKNOWN /* a name that we do not know */
};

/* What we accept, for grpc-accept-encoding. */
#define SL_ENCODINGS_ACCEPTED "identity,deflate,gzip"

/* Empty: identity. Names are compared byte by byte. */
enum sl_encoding sl_encoding_parse(struct sl_slice name);
/* "gzip"; UNKNOWN: "?". */
const char *sl_encoding_name(enum sl_encoding encoding);

/* A set of encodings: bit 1 << encoding. */
typedef uint32_t sl_encoding_set;
/* Adds what one grpc-accept-encoding value allows (a comma list with optional spaces; the header
 * may repeat). Unknown names are ignored; identity is always in. */
sl_encoding_set sl_encoding_set_add(sl_encoding_set set, struct sl_slice accept_encoding);
static inline bool sl_encoding_set_has(sl_encoding_set set, enum sl_encoding encoding)
{
    return encoding == SL_ENCODING_IDENTITY || ((set >> (unsigned)encoding) & 1U) != 0;
}

/* Appends the compressed `plain` (identity: a copy) to `out`. Fails: SL_RESOURCE_EXHAUSTED memory
 * or the buffer's maximum; SL_UNIMPLEMENTED the encoding is UNKNOWN. */
SL_CHECK enum sl_status
sl_compress(enum sl_encoding encoding, struct sl_slice plain, struct sl_buf *out);
/* Appends what `packed` holds to `out`, at most `max_bytes` of it. Fails: SL_RESOURCE_EXHAUSTED
 * more than that, or no memory; SL_INTERNAL corrupt, truncated, or bytes behind the end (further
 * gzip members are part of it and count toward the same limit); SL_UNIMPLEMENTED UNKNOWN. `out` may
 * then hold a part. */
SL_CHECK enum sl_status sl_decompress(
    enum sl_encoding encoding,
    struct sl_slice packed,
    size_t max_bytes,
    struct sl_buf *out,
    struct sl_error *err);

#endif
