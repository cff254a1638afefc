#include "runtime/model/json_write.h"

#include <stdarg.h>
#include <stdio.h>

#include "runtime/base/mem.h"
#include "runtime/base/utf8.h"

void sl_json_put_bytes(struct sl_json_out *out, struct sl_slice bytes)
{
    if (out->status != SL_OK) {
        return;
    }
    out->status = bytes.size > out->buf->max_bytes - out->buf->size ? SL_OUT_OF_RANGE
                                                                    : sl_buf_add(out->buf, bytes);
}

void sl_json_put(struct sl_json_out *out, const char *text)
{
    sl_json_put_bytes(out, sl_slice_str(text));
}

void sl_json_putf(struct sl_json_out *out, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof(text)) {
        out->status = out->status == SL_OK ? SL_OUT_OF_RANGE : out->status;
        return;
    }
    sl_json_put_bytes(out, sl_slice_of(text, (size_t)n));
}

/* Bytes up to the first one that must be escaped. */
static size_t count_plain(struct sl_slice text)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    size_t i = 0;
    while (text.size - i >= sizeof(uint64_t)) {
        uint64_t word = 0;
        memcpy(&word, text.data + i, sizeof(word));
        const uint64_t quote = word ^ (ones * '"');
        const uint64_t slash = word ^ (ones * '\\');
        /* Each term has a top bit where a byte is below 0x20, a quote or a backslash; false alarms
         * only cost the slow way. */
        if ((((word - ones * 0x20) | (quote - ones) | (slash - ones)) & ~word & (ones << 7)) != 0) {
            break;
        }
        i += sizeof(word);
    }
    while (i < text.size && text.data[i] >= 0x20 && text.data[i] != '"' && text.data[i] != '\\') {
        i++;
    }
    return i;
}

static void put_escape(struct sl_json_out *out, uint8_t c)
{
    static const char named[] = "\"\\\n\r\t";
    static const char names[] = "\"\\nrt";
    static const char digits[] = "0123456789abcdef";
    const char *at = c == 0 ? NULL : strchr(named, c);
    if (at != NULL) {
        const char text[] = { '\\', names[at - named] };
        sl_json_put_bytes(out, sl_slice_of(text, sizeof(text)));
    } else {
        const char text[] = { '\\', 'u', '0', '0', digits[c >> 4], digits[c & 15] };
        sl_json_put_bytes(out, sl_slice_of(text, sizeof(text)));
    }
}

static void put_clean(struct sl_json_out *out, struct sl_slice text)
{
    while (text.size > 0 && out->status == SL_OK) {
        const size_t n = count_plain(text);
        sl_json_put_bytes(out, sl_slice_of(text.data, n));
        if (n < text.size) {
            put_escape(out, text.data[n]);
        }
        const size_t used = n < text.size ? n + 1 : n;
        text = sl_slice_of(text.data + used, text.size - used);
    }
}

void sl_json_put_escaped(struct sl_json_out *out, struct sl_slice text)
{
    if (out->status != SL_OK || sl_utf8_is_clean(text)) {
        put_clean(out, text);
        return;
    }
    if (text.size > out->buf->max_bytes) {
        out->status = SL_OUT_OF_RANGE;
        return;
    }
    uint8_t *room = sl_alloc(sl_utf8_repaired_max(text.size));
    if (room == NULL) {
        out->status = SL_RESOURCE_EXHAUSTED;
        return;
    }
    put_clean(out, sl_slice_of(room, sl_utf8_repair(text, room)));
    sl_free(room);
}

void sl_json_put_string(struct sl_json_out *out, struct sl_slice text)
{
    sl_json_put(out, "\"");
    sl_json_put_escaped(out, text);
    sl_json_put(out, "\"");
}

void sl_json_put_cstr(struct sl_json_out *out, const char *text)
{
    sl_json_put_string(out, sl_slice_str(text));
}
