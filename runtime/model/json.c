#include "runtime/model/json.h"

#include "runtime/base/mem.h"
#include "runtime/base/utf8.h"

/* What one look at a text finds. */
struct look {
    size_t depth, max_depth;
    bool has_lone_surrogate;
};

/* Value of the four hex digits at `at`; -1: there are none. */
static int read_hex4(struct sl_slice text, size_t at)
{
    int value = 0;
    if (text.size - at < 4) {
        return -1;
    }
    for (size_t i = at; i < at + 4; i++) {
        const uint8_t c = text.data[i];
        int digit = -1;
        if (c >= '0' && c <= '9') {
            digit = c - '0';
        } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
            digit = (c | 0x20) - 'a' + 10;
        }
        if (digit < 0) {
            return -1;
        }
        value = value * 16 + digit;
    }
    return value;
}

static bool is_high(int unit)
{
    return unit >= 0xD800 && unit <= 0xDBFF;
}

static bool is_low(int unit)
{
    return unit >= 0xDC00 && unit <= 0xDFFF;
}

/* The escape whose backslash is at `at`: gives its length, and says whether it is half a pair. */
static size_t measure_escape(struct sl_slice text, size_t at, bool *ret_is_lone)
{
    *ret_is_lone = false;
    if (text.size - at < 6 || text.data[at + 1] != 'u') {
        return 2;
    }
    const int unit = read_hex4(text, at + 2);
    if (!is_high(unit) && !is_low(unit)) {
        return 2;
    }
    if (is_high(unit) && text.size - at >= 12 && text.data[at + 6] == '\\' &&
        text.data[at + 7] == 'u' && is_low(read_hex4(text, at + 8))) {
        return 12;
    }
    *ret_is_lone = true;
    return 6;
}

static const uint8_t replacement[] = { '\\', 'u', 'f', 'f', 'f', 'd' };

/* Walks over the string that begins behind its quote; gives the place behind the closing one.
 * `room`, if not NULL, is a copy of the text in which lone surrogates are replaced. */
static size_t walk_string(struct sl_slice text, size_t at, struct look *look, uint8_t *room)
{
    while (at < text.size && text.data[at] != '"') {
        bool is_lone = false;
        size_t n = 1;
        if (text.data[at] == '\\') {
            n = measure_escape(text, at, &is_lone);
        }
        if (is_lone) {
            look->has_lone_surrogate = true;
            if (room != NULL) {
                memcpy(room + at, replacement, sizeof(replacement));
            }
        }
        at += n;
    }
    return at + 1;
}

static void walk(struct sl_slice text, struct look *look, uint8_t *room)
{
    size_t at = 0;
    while (at < text.size) {
        const uint8_t c = text.data[at++];
        if (c == '"') {
            at = walk_string(text, at, look, room);
        } else if (c == '{' || c == '[') {
            look->depth++;
            if (look->depth > look->max_depth) {
                look->max_depth = look->depth;
            }
        } else if ((c == '}' || c == ']') && look->depth > 0) {
            look->depth--;
        }
    }
}

static enum sl_status from_json_error(const json_error_t *error)
{
    return json_error_code(error) == json_error_out_of_memory ? SL_RESOURCE_EXHAUSTED
                                                              : SL_INVALID_ARGUMENT;
}

static enum sl_status load(struct sl_slice text, json_t **ret_document)
{
    const size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL;
    json_error_t error;
    json_t *document = json_loadb((const char *)text.data, text.size, flags, &error);
    if (document == NULL && json_error_code(&error) == json_error_numeric_overflow) {
        document =
            json_loadb((const char *)text.data, text.size, flags | JSON_DECODE_INT_AS_REAL, &error);
    }
    if (document == NULL) {
        return from_json_error(&error);
    }
    *ret_document = document;
    return SL_OK;
}

enum sl_status sl_json_parse(struct sl_slice text, size_t max_depth, json_t **ret_document)
{
    struct look look = { 0 };
    if (text.size == 0) {
        return SL_INVALID_ARGUMENT;
    }
    walk(text, &look, NULL);
    if (look.max_depth > max_depth) {
        return SL_OUT_OF_RANGE;
    }
    if (!look.has_lone_surrogate) {
        return load(text, ret_document);
    }
    uint8_t *copy = sl_alloc(text.size);
    if (copy == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    memcpy(copy, text.data, text.size);
    walk(text, &look, copy);
    const enum sl_status status = load(sl_slice_of(copy, text.size), ret_document);
    sl_free(copy);
    return status;
}

bool sl_json_is_object(struct sl_slice text, size_t max_depth)
{
    json_t *document = NULL;
    if (sl_json_parse(text, max_depth, &document) != SL_OK) {
        return false;
    }
    const bool is_object = json_is_object(document);
    json_decref(document);
    return is_object;
}

struct sl_slice sl_json_slice(const json_t *value)
{
    return json_is_string(value) ? sl_slice_of(json_string_value(value), json_string_length(value))
                                 : sl_slice_of(NULL, 0);
}

const char *sl_json_cstr(const json_t *value)
{
    const struct sl_slice text = sl_json_slice(value);
    if (text.size == 0 || memchr(text.data, 0, text.size) != NULL) {
        return NULL;
    }
    return json_string_value(value);
}

enum sl_status sl_json_text(const json_t *value, struct sl_buf *scratch, struct sl_slice *ret_text)
{
    const struct sl_slice text = sl_json_slice(value);
    if (text.size == 0 || memchr(text.data, 0, text.size) == NULL) {
        *ret_text = text;
        return SL_OK;
    }
    uint8_t *room = NULL;
    sl_buf_clear(scratch);
    SL_TRY(sl_buf_reserve(scratch, sl_utf8_repaired_max(text.size), &room));
    sl_buf_commit(scratch, sl_utf8_repair(text, room));
    *ret_text = sl_buf_slice(scratch);
    return SL_OK;
}
