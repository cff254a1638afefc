#include "runtime/model/delta_scan.h"

enum { SKIP_DEPTH = 4, NUMBER_DIGITS = 15 };

struct scan {
    const uint8_t *at, *end;
    uint8_t *room; /* for texts with escapes; enough for all of them */
};

static void skip_blanks(struct scan *scan)
{
    while (scan->at < scan->end &&
           (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\t' || *scan->at == '\r')) {
        scan->at++;
    }
}

/* Takes the character, with the blanks before it. */
static bool take(struct scan *scan, uint8_t c)
{
    skip_blanks(scan);
    if (scan->at == scan->end || *scan->at != c) {
        return false;
    }
    scan->at++;
    return true;
}

static bool take_word(struct scan *scan, const char *word)
{
    const size_t n = strlen(word);
    if ((size_t)(scan->end - scan->at) < n || memcmp(scan->at, word, n) != 0) {
        return false;
    }
    scan->at += n;
    return true;
}

/* ---- Strings -----------------------------------------------------------------------------------
 */

/* The place of the next quote, backslash or control character. */
static const uint8_t *find_special(const uint8_t *at, const uint8_t *end)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    while (end - at >= 8) {
        uint64_t word = 0;
        memcpy(&word, at, sizeof(word));
        const uint64_t quote = word ^ (ones * '"');
        const uint64_t slash = word ^ (ones * '\\');
        if ((((word - ones * 0x20) | (quote - ones) | (slash - ones)) & ~word & (ones << 7)) != 0) {
            break;
        }
        at += 8;
    }
    while (at < end && *at >= 0x20 && *at != '"' && *at != '\\') {
        at++;
    }
    return at;
}

/* Value of four hex digits; -1: they are none. */
static int32_t read_hex4(const struct scan *scan, const uint8_t *at)
{
    int32_t value = 0;
    if (scan->end - at < 4) {
        return -1;
    }
    for (size_t i = 0; i < 4; i++) {
        const uint8_t c = at[i];
        if (c >= '0' && c <= '9') {
            value = value * 16 + (c - '0');
        } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
            value = value * 16 + ((c | 0x20) - 'a' + 10);
        } else {
            return -1;
        }
    }
    return value;
}

static size_t put_utf8(int32_t c, uint8_t *room)
{
    if (c < 0x80) {
        room[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        room[0] = (uint8_t)(0xC0 | (c >> 6));
        room[1] = (uint8_t)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        room[0] = (uint8_t)(0xE0 | (c >> 12));
        room[1] = (uint8_t)(0x80 | ((c >> 6) & 0x3F));
        room[2] = (uint8_t)(0x80 | (c & 0x3F));
        return 3;
    }
    room[0] = (uint8_t)(0xF0 | (c >> 18));
    room[1] = (uint8_t)(0x80 | ((c >> 12) & 0x3F));
    room[2] = (uint8_t)(0x80 | ((c >> 6) & 0x3F));
    room[3] = (uint8_t)(0x80 | (c & 0x3F));
    return 4;
}

/* \uXXXX, behind the u. Half a pair and NUL become U+FFFD. */
static bool take_unicode(struct scan *scan, uint8_t **room)
{
    int32_t c = read_hex4(scan, scan->at);
    if (c < 0) {
        return false;
    }
    scan->at += 4;
    if (c >= 0xD800 && c <= 0xDBFF && scan->end - scan->at >= 6 && scan->at[0] == '\\' &&
        scan->at[1] == 'u') {
        const int32_t low = read_hex4(scan, scan->at + 2);
        if (low >= 0xDC00 && low <= 0xDFFF) {
            scan->at += 6;
            c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
        }
    }
    if (c == 0 || (c >= 0xD800 && c <= 0xDFFF)) {
        c = 0xFFFD;
    }
    *room += put_utf8(c, *room);
    return true;
}

/* An escape, behind its backslash. */
static bool take_escape(struct scan *scan, uint8_t **room)
{
    static const char names[] = "\"\\/bfnrt";
    static const char values[] = "\"\\/\b\f\n\r\t";
    if (scan->at == scan->end) {
        return false;
    }
    const uint8_t c = *scan->at++;
    if (c == 'u') {
        return take_unicode(scan, room);
    }
    const char *name = c == 0 ? NULL : strchr(names, c);
    if (name == NULL) {
        return false;
    }
    *(*room)++ = (uint8_t)values[name - names];
    return true;
}

/* The rest of a string with escapes, of which [`start`, at) has none. */
static bool take_escaped(struct scan *scan, const uint8_t *start, struct sl_slice *ret_text)
{
    uint8_t *room = scan->room;
    const size_t n_plain = (size_t)(scan->at - start);
    memcpy(room, start, n_plain);
    room += n_plain;
    while (scan->at < scan->end && *scan->at != '"') {
        if (*scan->at != '\\') {
            return false; /* a control character */
        }
        scan->at++;
        if (!take_escape(scan, &room)) {
            return false;
        }
        const uint8_t *next = find_special(scan->at, scan->end);
        memcpy(room, scan->at, (size_t)(next - scan->at));
        room += next - scan->at;
        scan->at = next;
    }
    if (scan->at == scan->end) {
        return false;
    }
    scan->at++;
    *ret_text = sl_slice_of(scan->room, (size_t)(room - scan->room));
    scan->room = room;
    return true;
}

/* A string; `*ret_text` is what it means. */
static bool take_string(struct scan *scan, struct sl_slice *ret_text)
{
    if (!take(scan, '"')) {
        return false;
    }
    const uint8_t *start = scan->at;
    scan->at = find_special(scan->at, scan->end);
    if (scan->at < scan->end && *scan->at == '"') {
        *ret_text = sl_slice_of(start, (size_t)(scan->at - start));
        scan->at++;
        return true;
    }
    return scan->at < scan->end && take_escaped(scan, start, ret_text);
}

/* ---- Values that do not matter ------------------------------------------------------------------
 */

static size_t take_digits(struct scan *scan)
{
    const uint8_t *start = scan->at;
    while (scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9') {
        scan->at++;
    }
    return (size_t)(scan->at - start);
}

/* Short ones only, so that nothing can overflow; no exponents. */
static bool skip_number(struct scan *scan)
{
    if (*scan->at == '-') {
        scan->at++;
    }
    const bool is_zero = scan->at < scan->end && *scan->at == '0';
    const size_t n = take_digits(scan);
    if (n == 0 || n > NUMBER_DIGITS || (is_zero && n > 1)) {
        return false;
    }
    if (scan->at < scan->end && *scan->at == '.') {
        scan->at++;
        const size_t n_fraction = take_digits(scan);
        if (n_fraction == 0 || n_fraction > NUMBER_DIGITS) {
            return false;
        }
    }
    return scan->at == scan->end || (*scan->at != 'e' && *scan->at != 'E');
}

static bool skip_scalar(struct scan *scan)
{
    struct sl_slice text;
    skip_blanks(scan);
    if (scan->at == scan->end) {
        return false;
    }
    switch (*scan->at) {
    case '"':
        return take_string(scan, &text);
    case 'n':
        return take_word(scan, "null");
    case 't':
        return take_word(scan, "true");
    case 'f':
        return take_word(scan, "false");
    default:
        return skip_number(scan);
    }
}

/* A key without escapes: with them it could be any other, and jansson decides. */
static bool take_key(struct scan *scan, struct sl_slice *ret_key)
{
    const uint8_t *room = scan->room;
    return take_string(scan, ret_key) && room == scan->room && take(scan, ':');
}

/* Opens what stands here, as far as it goes, and skips the first scalar inside. `*kinds` has a bit
 * per level, 1: an object. */
static bool skip_one(struct scan *scan, uint64_t *kinds, unsigned *depth)
{
    struct sl_slice key;
    skip_blanks(scan);
    while (scan->at < scan->end && (*scan->at == '{' || *scan->at == '[')) {
        const bool is_object = *scan->at == '{';
        if (*depth == SKIP_DEPTH) {
            return false;
        }
        scan->at++;
        if (take(scan, is_object ? '}' : ']')) {
            return true;
        }
        *kinds = (*kinds << 1) | is_object;
        (*depth)++;
        if (is_object && !take_key(scan, &key)) {
            return false;
        }
        skip_blanks(scan);
    }
    return skip_scalar(scan);
}

/* Any value, with all that is inside. The levels are counted, not called. */
static bool skip_value(struct scan *scan)
{
    struct sl_slice key;
    uint64_t kinds = 0;
    unsigned depth = 0;
    if (!skip_one(scan, &kinds, &depth)) {
        return false;
    }
    while (depth > 0) {
        const bool is_object = (kinds & 1) != 0;
        if (take(scan, ',')) {
            if ((is_object && !take_key(scan, &key)) || !skip_one(scan, &kinds, &depth)) {
                return false;
            }
        } else if (take(scan, is_object ? '}' : ']')) {
            kinds >>= 1;
            depth--;
        } else {
            return false;
        }
    }
    return true;
}

/* ---- The chunk
 * ----------------------------------------------------------------------------------- */

static bool take_null(struct scan *scan)
{
    skip_blanks(scan);
    return take_word(scan, "null");
}

/* A string, or null. A string that was there before is not recognised: jansson decides. */
static bool take_text(struct scan *scan, struct sl_slice *text, bool *has_text)
{
    if (*has_text) {
        return false;
    }
    *has_text = true;
    return take_null(scan) || take_string(scan, text);
}

struct found {
    struct sl_slice content, reasoning, other_reasoning;
    bool has_content, has_reasoning, has_other, has_choices, has_delta, has_finish;
};

/* True: the key means something to the slow way. */
static bool is_one_of(struct sl_slice key, const char *const *names)
{
    for (; *names != NULL; names++) {
        if (sl_slice_equals(key, *names)) {
            return true;
        }
    }
    return false;
}

/* No calls, no details: null or an empty list. */
static bool take_nothing(struct scan *scan)
{
    return take_null(scan) || (take(scan, '[') && take(scan, ']'));
}

static bool read_delta_key(struct scan *scan, struct sl_slice key, struct found *found)
{
    if (sl_slice_equals(key, "content")) {
        return take_text(scan, &found->content, &found->has_content);
    }
    if (sl_slice_equals(key, "reasoning_content")) {
        return take_text(scan, &found->reasoning, &found->has_reasoning);
    }
    if (sl_slice_equals(key, "reasoning")) {
        return take_text(scan, &found->other_reasoning, &found->has_other);
    }
    if (sl_slice_equals(key, "tool_calls") || sl_slice_equals(key, "reasoning_details")) {
        return take_nothing(scan);
    }
    return sl_slice_equals(key, "refusal") ? take_null(scan) : skip_value(scan);
}

typedef bool(read_key_fn)(struct scan *scan, struct sl_slice key, struct found *found);

/* An object whose keys `read_key` takes. */
static bool read_object(struct scan *scan, read_key_fn *read_key, struct found *found)
{
    struct sl_slice key;
    if (!take(scan, '{')) {
        return false;
    }
    if (take(scan, '}')) {
        return true;
    }
    do {
        if (!take_key(scan, &key) || !read_key(scan, key, found)) {
            return false;
        }
    } while (take(scan, ','));
    return take(scan, '}');
}

static bool read_choice_key(struct scan *scan, struct sl_slice key, struct found *found)
{
    static const char *const others[] = { "message", "usage", NULL };
    if (sl_slice_equals(key, "delta")) {
        const bool is_second = found->has_delta;
        found->has_delta = true;
        return !is_second && read_object(scan, read_delta_key, found);
    }
    if (sl_slice_equals(key, "finish_reason")) {
        struct sl_slice text = { 0 };
        return take_text(scan, &text, &found->has_finish) && text.size == 0;
    }
    return is_one_of(key, others) ? take_null(scan) : skip_value(scan);
}

/* A list of exactly one choice. */
static bool read_choices(struct scan *scan, struct found *found)
{
    const bool is_second = found->has_choices;
    found->has_choices = true;
    return !is_second && take(scan, '[') && read_object(scan, read_choice_key, found) &&
           take(scan, ']');
}

static bool read_top_key(struct scan *scan, struct sl_slice key, struct found *found)
{
    static const char *const others[] = { "error", "usage", "x_groq", NULL };
    if (sl_slice_equals(key, "choices")) {
        return read_choices(scan, found);
    }
    if (sl_slice_equals(key, "object")) {
        struct sl_slice text = { 0 };
        return take_string(scan, &text) && !sl_slice_equals(text, "error");
    }
    return is_one_of(key, others) ? take_null(scan) : skip_value(scan);
}

bool sl_delta_scan(struct sl_slice json, struct sl_buf *scratch, struct sl_delta *ret_delta)
{
    struct scan scan = { .at = json.data, .end = json.data + json.size };
    struct found found = { .has_content = false };
    sl_buf_clear(scratch);
    /* A text with escapes is never longer than it was. */
    if (json.size == 0 || sl_buf_reserve(scratch, json.size, &scan.room) != SL_OK ||
        !read_object(&scan, read_top_key, &found) || !found.has_delta) {
        return false;
    }
    skip_blanks(&scan);
    if (scan.at != scan.end) {
        return false;
    }
    /* Servers that use both names say the same in both. */
    const bool has_both = found.reasoning.size > 0 && found.other_reasoning.size > 0;
    if (has_both && !sl_slice_equal(found.reasoning, found.other_reasoning)) {
        return false;
    }
    ret_delta->content = found.content;
    ret_delta->reasoning = found.reasoning.size > 0 ? found.reasoning : found.other_reasoning;
    return true;
}
