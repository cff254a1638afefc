#include "service/rpc/compress.h"

#include <stdint.h>

#include <zlib.h>

#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"

enum {
    WINDOW_BITS = 15,
    GZIP_BITS = 16 + WINDOW_BITS, /* zlib's way to say "with a gzip header" */
    MEMORY_LEVEL = 8,
    STEP_BYTES = 16 * 1024
};

static const char *const names[] = { "identity", "gzip", "deflate" };

enum sl_encoding sl_encoding_parse(struct sl_slice name)
{
    if (name.size == 0) {
        return SL_ENCODING_IDENTITY;
    }
    for (size_t i = 0; i < SL_COUNT(names); i++) {
        if (sl_slice_equals(name, names[i])) {
            return (enum sl_encoding)i;
        }
    }
    return SL_ENCODING_UNKNOWN;
}

const char *sl_encoding_name(enum sl_encoding encoding)
{
    return (size_t)encoding < SL_COUNT(names) ? names[encoding] : "?";
}

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t';
}

static struct sl_slice trim(struct sl_slice text)
{
    while (text.size > 0 && is_blank(text.data[0])) {
        text.data++;
        text.size--;
    }
    while (text.size > 0 && is_blank(text.data[text.size - 1])) {
        text.size--;
    }
    return text;
}

sl_encoding_set sl_encoding_set_add(sl_encoding_set set, struct sl_slice accept_encoding)
{
    size_t from = 0;
    for (size_t at = 0; at <= accept_encoding.size; at++) {
        if (at == accept_encoding.size || accept_encoding.data[at] == ',') {
            const struct sl_slice name = trim(sl_slice_of(accept_encoding.data + from, at - from));
            const enum sl_encoding encoding = sl_encoding_parse(name);
            if (encoding != SL_ENCODING_UNKNOWN) {
                set |= 1U << (unsigned)encoding;
            }
            from = at + 1;
        }
    }
    return set;
}

/* zlib's memory goes through our gate. */
static voidpf zlib_alloc(voidpf opaque, uInt n_items, uInt size)
{
    (void)opaque;
    return sl_calloc(n_items, size);
}

static void zlib_free(voidpf opaque, voidpf block)
{
    (void)opaque;
    (void)sl_free(block);
}

/* zlib's struct lacks const; it does not write through this pointer. */
static void set_input(z_stream *stream, struct sl_slice bytes)
{
    union {
        const uint8_t *in;
        uint8_t *out;
    } pointer = { .in = bytes.data };
    stream->next_in = pointer.out;
    stream->avail_in = (uInt)bytes.size;
}

static enum sl_status deflate_into(z_stream *stream, struct sl_buf *out)
{
    for (;;) {
        const size_t bound = deflateBound(stream, stream->avail_in);
        const size_t room_bytes = bound < STEP_BYTES ? bound : STEP_BYTES;
        uint8_t *room;
        SL_TRY(sl_buf_reserve(out, room_bytes, &room));
        stream->next_out = room;
        stream->avail_out = (uInt)room_bytes;
        const int result = deflate(stream, Z_FINISH);
        sl_buf_commit(out, room_bytes - stream->avail_out);
        if (result == Z_STREAM_END) {
            return SL_OK;
        }
        if (result != Z_OK && result != Z_BUF_ERROR) {
            return SL_RESOURCE_EXHAUSTED;
        }
    }
}

enum sl_status sl_compress(enum sl_encoding encoding, struct sl_slice plain, struct sl_buf *out)
{
    if (encoding == SL_ENCODING_IDENTITY) {
        return sl_buf_add(out, plain);
    }
    if (encoding == SL_ENCODING_UNKNOWN) {
        return SL_UNIMPLEMENTED;
    }
    if (plain.size > INT32_MAX) {
        return SL_RESOURCE_EXHAUSTED;
    }
    z_stream stream = { .zalloc = zlib_alloc, .zfree = zlib_free };
    const int bits = encoding == SL_ENCODING_GZIP ? GZIP_BITS : WINDOW_BITS;
    if (deflateInit2(
            &stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, bits, MEMORY_LEVEL, Z_DEFAULT_STRATEGY) !=
        Z_OK) {
        return SL_RESOURCE_EXHAUSTED;
    }
    const size_t size_before = out->size;
    set_input(&stream, plain);
    const enum sl_status status = deflate_into(&stream, out);
    (void)deflateEnd(&stream);
    if (status != SL_OK) {
        out->size = size_before;
    }
    return status;
}

static enum sl_status from_zlib(int result, const z_stream *stream, struct sl_error *err)
{
    if (result == Z_MEM_ERROR) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory to decompress a message");
    }
    return sl_fail(
        err, SL_INTERNAL, "compressed message is corrupt: %s",
        stream->msg == NULL ? "it ends too early" : stream->msg);
}

/* Inflates into `out` until the end of the input; `*left`: bytes that the plain text may still
 * have. At 0, one scratch byte finds out whether there is more. */
static enum sl_status
inflate_some(z_stream *stream, size_t *left, struct sl_buf *out, int *ret_result)
{
    uint8_t scratch;
    uint8_t *room = &scratch;
    size_t room_bytes = 1;
    if (*left > 0) {
        room_bytes = *left < STEP_BYTES ? *left : STEP_BYTES;
        SL_TRY(sl_buf_reserve(out, room_bytes, &room));
    }
    stream->next_out = room;
    stream->avail_out = (uInt)room_bytes;
    *ret_result = inflate(stream, Z_NO_FLUSH);
    const size_t n_out = room_bytes - stream->avail_out;
    if (room == &scratch) {
        return n_out == 0 ? SL_OK : SL_OUT_OF_RANGE;
    }
    sl_buf_commit(out, n_out);
    *left -= n_out;
    return SL_OK;
}

static enum sl_status inflate_all(
    z_stream *stream, bool may_repeat, size_t max_bytes, struct sl_buf *out, struct sl_error *err)
{
    size_t left = max_bytes;
    for (;;) {
        int result;
        const enum sl_status status = inflate_some(stream, &left, out, &result);
        if (status == SL_OUT_OF_RANGE) {
            sl_limit_reached(SL_LIMIT_message_recv);
            return sl_fail(
                err, SL_RESOURCE_EXHAUSTED,
                "message is larger than the limit of %zu bytes after decompression", max_bytes);
        }
        if (status != SL_OK) {
            return sl_fail(err, status, "no memory to decompress a message");
        }
        if (result == Z_STREAM_END) {
            if (stream->avail_in == 0) {
                return SL_OK;
            }
            if (!may_repeat || inflateReset(stream) != Z_OK) {
                return sl_fail(err, SL_INTERNAL, "compressed message goes on behind its end");
            }
        } else if (result != Z_OK) {
            return from_zlib(result, stream, err);
        }
    }
}

enum sl_status sl_decompress(
    enum sl_encoding encoding,
    struct sl_slice packed,
    size_t max_bytes,
    struct sl_buf *out,
    struct sl_error *err)
{
    if (encoding == SL_ENCODING_UNKNOWN) {
        return sl_fail(err, SL_UNIMPLEMENTED, "unknown message encoding");
    }
    if (encoding == SL_ENCODING_IDENTITY ? packed.size > max_bytes : packed.size > INT32_MAX) {
        return sl_fail(
            err, SL_RESOURCE_EXHAUSTED, "message is larger than the limit of %zu bytes", max_bytes);
    }
    if (encoding == SL_ENCODING_IDENTITY) {
        return sl_buf_add(out, packed);
    }
    z_stream stream = { .zalloc = zlib_alloc, .zfree = zlib_free };
    const bool is_gzip = encoding == SL_ENCODING_GZIP;
    if (inflateInit2(&stream, is_gzip ? GZIP_BITS : WINDOW_BITS) != Z_OK) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory to decompress a message");
    }
    set_input(&stream, packed);
    const enum sl_status status = inflate_all(&stream, is_gzip, max_bytes, out, err);
    (void)inflateEnd(&stream);
    return status;
}
