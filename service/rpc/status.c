#include "service/rpc/status.h"

#include "runtime/base/utf8.h"
#include "service/h2/h2.h"

enum { HIGHEST_CODE = 16 };

/* Not in h2.h's list, because the transport has no use for it. */
enum { H2_INADEQUATE_SECURITY = 12 };

/* ---- grpc-status ----------------------------------------------------------------------------- */

enum sl_status sl_rpc_status_clamp(enum sl_status code)
{
    return (int)code < 0 || (int)code > HIGHEST_CODE ? SL_UNKNOWN : code;
}

struct sl_slice sl_rpc_status_text(enum sl_status code)
{
    static const char *const texts[] = { "0", "1",  "2",  "3",  "4",  "5",  "6",  "7", "8",
                                         "9", "10", "11", "12", "13", "14", "15", "16" };
    return sl_slice_str(texts[sl_rpc_status_clamp(code)]);
}

enum sl_status sl_rpc_status_parse(struct sl_slice text)
{
    for (int code = 0; code <= HIGHEST_CODE; code++) {
        if (sl_slice_equal(text, sl_rpc_status_text((enum sl_status)code))) {
            return (enum sl_status)code;
        }
    }
    return SL_UNKNOWN;
}

enum sl_status sl_rpc_status_of_http(unsigned http_status)
{
    switch (http_status) {
    case 400:
        return SL_INTERNAL;
    case 401:
        return SL_UNAUTHENTICATED;
    case 403:
        return SL_PERMISSION_DENIED;
    case 404:
        return SL_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return SL_UNAVAILABLE;
    default:
        return SL_UNKNOWN;
    }
}

enum sl_status sl_rpc_status_of_reset(uint32_t h2_code)
{
    switch (h2_code) {
    case SL_H2_REFUSED_STREAM:
        return SL_UNAVAILABLE;
    case SL_H2_CANCEL:
        return SL_CANCELLED;
    case SL_H2_ENHANCE_YOUR_CALM:
        return SL_RESOURCE_EXHAUSTED;
    case H2_INADEQUATE_SECURITY:
        return SL_PERMISSION_DENIED;
    default:
        return SL_INTERNAL;
    }
}

/* ---- grpc-message ---------------------------------------------------------------------------- */

enum sl_status
sl_rpc_text_repair(struct sl_slice text, struct sl_arena *arena, struct sl_slice *ret_text)
{
    if (sl_utf8_is_clean(text)) {
        *ret_text = text;
        return SL_OK;
    }
    uint8_t *room = sl_arena_alloc(arena, sl_utf8_repaired_max(text.size));
    if (room == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    *ret_text = sl_slice_of(room, sl_utf8_repair(text, room));
    return SL_OK;
}

/* Sent as it is. Outer blanks are not: HTTP/2 forbids them around a value, and whoever is strict
 * about it drops the field or the stream. */
static bool is_plain_at(struct sl_slice text, size_t at)
{
    const uint8_t byte = text.data[at];
    const bool is_outer = at == 0 || at + 1 == text.size;
    return byte >= 0x20 && byte <= 0x7E && byte != '%' && !(byte == ' ' && is_outer);
}

/* Bytes of `text` whose encoding has at most `max_bytes`, and room for that. */
static size_t measure(struct sl_slice text, size_t max_bytes, size_t *ret_wire_bytes)
{
    size_t wire_bytes = 0;
    size_t n_fit = 0;
    *ret_wire_bytes = 0;
    for (size_t i = 0; i < text.size; i++) {
        const bool is_start = (text.data[i] & 0xC0) != 0x80;
        if (is_start) {
            n_fit = i;
            *ret_wire_bytes = wire_bytes;
        }
        wire_bytes += is_plain_at(text, i) ? 1 : 3;
        if (wire_bytes > max_bytes) {
            while (n_fit > 0 && text.data[n_fit - 1] == ' ') {
                n_fit--; /* it would be the last one now, and take more room */
            }
            return n_fit;
        }
    }
    *ret_wire_bytes = wire_bytes;
    return text.size;
}

enum sl_status sl_rpc_message_encode(
    struct sl_slice text, size_t max_bytes, struct sl_arena *arena, struct sl_slice *ret_wire)
{
    static const char digits[] = "0123456789ABCDEF";
    if (text.size > max_bytes) {
        text.size = sl_utf8_cut(text, max_bytes);
    }
    struct sl_slice clean;
    SL_TRY(sl_rpc_text_repair(text, arena, &clean));
    size_t wire_bytes;
    clean.size = measure(clean, max_bytes, &wire_bytes);
    uint8_t *room = sl_arena_alloc(arena, wire_bytes);
    if (room == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    size_t n = 0;
    for (size_t i = 0; i < clean.size; i++) {
        const uint8_t byte = clean.data[i];
        if (is_plain_at(clean, i)) {
            room[n++] = byte;
        } else {
            room[n++] = '%';
            room[n++] = (uint8_t)digits[byte >> 4];
            room[n++] = (uint8_t)digits[byte & 15];
        }
    }
    *ret_wire = sl_slice_of(room, n);
    return SL_OK;
}

/* -1: no hex digit. */
static int hex_value(uint8_t digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    const uint8_t lower = (uint8_t)(digit | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

enum sl_status
sl_rpc_message_decode(struct sl_slice wire, struct sl_arena *arena, struct sl_slice *ret_text)
{
    uint8_t *room = sl_arena_alloc(arena, wire.size);
    if (room == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    size_t n = 0;
    for (size_t i = 0; i < wire.size; i++) {
        const bool has_two = wire.data[i] == '%' && wire.size - i > 2;
        const int high = has_two ? hex_value(wire.data[i + 1]) : -1;
        const int low = has_two ? hex_value(wire.data[i + 2]) : -1;
        if (high >= 0 && low >= 0) {
            room[n++] = (uint8_t)(high << 4 | low);
            i += 2;
        } else {
            room[n++] = wire.data[i];
        }
    }
    struct sl_slice clean;
    SL_TRY(sl_rpc_text_repair(sl_slice_of(room, n), arena, &clean));
    const char *text = sl_arena_dup(arena, clean);
    if (text == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    *ret_text = sl_slice_of(text, clean.size);
    return SL_OK;
}
