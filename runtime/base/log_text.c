#include "runtime/base/log_text.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <strings.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/utf8.h"

enum { MAX_SECRETS = 512, LEAST_SECRET_BYTES = 8, LEAST_KEY_BYTES = 20, LONGEST_NUMBER = 15 };

/* Written under the lock; read by every line, without it: an item is there before it is counted,
 * and none is ever taken away. */
static struct {
    pthread_mutex_t lock;
    struct sl_slice items[MAX_SECRETS];
    atomic_size_t n;
} secrets = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- Secrets --------------------------------------------------------------------------------- */

/* False: it is known already. */
static bool is_new(const char *text)
{
    const size_t n = atomic_load_explicit(&secrets.n, memory_order_relaxed);
    for (size_t i = 0; i < n; i++) {
        if (sl_slice_equals(secrets.items[i], text)) {
            return false;
        }
    }
    return true;
}

static void add_text(const char *text)
{
    (void)pthread_mutex_lock(&secrets.lock);
    const size_t n = atomic_load_explicit(&secrets.n, memory_order_relaxed);
    char *copy = n < MAX_SECRETS && is_new(text) ? sl_strdup(text) : NULL;
    if (copy != NULL) {
        secrets.items[n] = sl_slice_str(copy);
        atomic_store_explicit(&secrets.n, n + 1, memory_order_release);
    }
    (void)pthread_mutex_unlock(&secrets.lock);
}

void sl_log_add_secret(const char *secret)
{
    const size_t size = strlen(secret);
    if (size < LEAST_SECRET_BYTES) {
        return;
    }
    /* Also as it looks in quotes; quoted before it is known, or it would be masked. */
    const size_t room_bytes = 4 * size + 3;
    char *quoted = sl_alloc(room_bytes);
    if (quoted != NULL) {
        (void)sl_log_quote(sl_slice_of(secret, size), quoted, room_bytes);
        quoted[strlen(quoted) - 1] = '\0'; /* without the quotes */
        if (strcmp(quoted + 1, secret) != 0) {
            add_text(quoted + 1);
        }
        sl_free(quoted);
    }
    add_text(secret);
}

static bool is_word(uint8_t byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || byte == '-' || byte == '_';
}

static bool is_token(uint8_t byte)
{
    return is_word(byte) || (byte != 0 && strchr(".~+/=", byte) != NULL);
}

static size_t known_secret_at(struct sl_slice rest, bool is_cut)
{
    size_t longest = 0;
    const size_t n = atomic_load_explicit(&secrets.n, memory_order_acquire);
    for (size_t i = 0; i < n; i++) {
        const struct sl_slice secret = secrets.items[i];
        const bool is_beginning = is_cut && rest.size < secret.size;
        const size_t size = is_beginning ? rest.size : secret.size;
        if (size > longest && size <= rest.size && memcmp(rest.data, secret.data, size) == 0) {
            longest = size;
        }
    }
    return longest;
}

/* "sk-" and at least 20 characters, at the start of a word. */
static size_t key_at(struct sl_slice text, size_t at)
{
    const struct sl_slice rest = sl_slice_of(text.data + at, text.size - at);
    if (rest.size < 3 || memcmp(rest.data, "sk-", 3) != 0 ||
        (at > 0 && is_word(text.data[at - 1]))) {
        return 0;
    }
    size_t n = 3;
    while (n < rest.size && is_word(rest.data[n])) {
        n++;
    }
    return n - 3 < LEAST_KEY_BYTES ? 0 : n;
}

/* What follows "Bearer ". */
static size_t bearer_at(struct sl_slice text, size_t at)
{
    static const char word[] = "bearer ";
    const size_t word_size = sizeof(word) - 1;
    if (at < word_size || text.data[at - 1] != ' ' ||
        strncasecmp((const char *)text.data + at - word_size, word, word_size) != 0) {
        return 0;
    }
    size_t n = 0;
    while (at + n < text.size && is_token(text.data[at + n])) {
        n++;
    }
    return n;
}

/* What follows the name of a header that carries a key or a cookie, as it stands or as JSON: up to
 * the end of the line, a comma or a quote. The names are endings: x-api-key, set-cookie and so on
 * too. */
static size_t header_at(struct sl_slice text, size_t at)
{
    static const char *const names[] = { "authorization", "api-key", "cookie" };
    size_t end = at;
    if (at == 0 || strchr(" \":,\r\n", text.data[at]) != NULL) {
        return 0;
    }
    end -= text.data[end - 1] == '"';
    while (end > 0 && text.data[end - 1] == ' ') {
        end--;
    }
    if (end == 0 || text.data[end - 1] != ':') {
        return 0;
    }
    end--;
    end -= end > 0 && text.data[end - 1] == '"';
    for (size_t i = 0; i < SL_COUNT(names); i++) {
        const size_t n = strlen(names[i]);
        if (end >= n && strncasecmp((const char *)text.data + end - n, names[i], n) == 0) {
            size_t size = 0;
            while (at + size < text.size && strchr("\",\r\n", text.data[at + size]) == NULL) {
                size++;
            }
            return size;
        }
    }
    return 0;
}

/* A block from "-----BEGIN" to the end of its END line, or of the text. */
static size_t pem_at(struct sl_slice rest)
{
    static const char begin[] = "-----BEGIN ";
    static const char end[] = "-----END ";
    if (rest.size < sizeof(begin) - 1 || rest.data[0] != '-' ||
        memcmp(rest.data, begin, sizeof(begin) - 1) != 0) {
        return 0;
    }
    const uint8_t *last = memmem(rest.data, rest.size, end, sizeof(end) - 1);
    if (last == NULL) {
        return rest.size;
    }
    const size_t n = (size_t)(last - rest.data) + sizeof(end) - 1;
    const uint8_t *dashes = memmem(rest.data + n, rest.size - n, "-----", 5);
    return dashes == NULL ? rest.size : (size_t)(dashes - rest.data) + 5;
}

size_t sl_log_text_secret_at(struct sl_slice text, size_t at, bool is_cut)
{
    const struct sl_slice rest = sl_slice_of(text.data + at, text.size - at);
    const size_t sizes[] = { known_secret_at(rest, is_cut), key_at(text, at), bearer_at(text, at),
                             header_at(text, at), pem_at(rest) };
    size_t longest = 0;
    for (size_t i = 0; i < SL_COUNT(sizes); i++) {
        longest = sizes[i] > longest ? sizes[i] : longest;
    }
    return longest;
}

size_t sl_log_text_scrub(struct sl_slice text, bool is_cut, char *room)
{
    size_t read = 0;
    size_t written = 0;
    while (read < text.size) {
        const size_t n = sl_log_text_secret_at(text, read, is_cut);
        if (n == 0) {
            room[written++] = (char)text.data[read++];
            continue;
        }
        const size_t mask = n < 3 ? n : 3; /* never longer than what it hides */
        memcpy(room + written, "***", mask);
        written += mask;
        read += n;
    }
    return written;
}

/* ---- One line -------------------------------------------------------------------------------- */

/* Control characters become blanks, bytes that are not UTF-8 question marks. */
static void clean(char *text, size_t size)
{
    for (size_t i = 0; i < size;) {
        const uint8_t byte = (uint8_t)text[i];
        if (byte >= 0x20 && byte < 0x7F) {
            i++; /* nearly all of it */
            continue;
        }
        bool is_good = false;
        const size_t n = sl_utf8_measure(sl_slice_of(text + i, size - i), &is_good);
        if (byte < 0x20 || byte == 0x7F) {
            text[i] = ' ';
        } else if (!is_good) {
            memset(text + i, '?', n);
        }
        i += n;
    }
}

/* Where the text must be cut so that it does not end inside an escape; tells whether quotes are
 * open. */
static size_t find_cut(const char *text, size_t size, bool *ret_is_quoted)
{
    bool is_quoted = false;
    size_t i = 0;
    while (i < size) {
        size_t n = 1;
        if (is_quoted && text[i] == '\\') {
            n = i + 1 < size && text[i + 1] == 'x' ? 4 : 2;
        } else if (text[i] == '"') {
            is_quoted = !is_quoted;
        }
        if (n > size - i) {
            break;
        }
        i += n;
    }
    *ret_is_quoted = is_quoted;
    return i;
}

size_t sl_log_text_tidy(char *text, size_t size, size_t max, bool is_cut)
{
    static const char tail[] = " cut=true";
    clean(text, size);
    if (size <= max && !is_cut) {
        return size;
    }
    const size_t most = max - sizeof(tail); /* the tail, and a quote in the place of its NUL */
    bool is_quoted = false;
    size = find_cut(text, sl_utf8_cut(sl_slice_of(text, size), most), &is_quoted);
    if (is_quoted) {
        text[size++] = '"';
    }
    memcpy(text + size, tail, sizeof(tail) - 1);
    return size + sizeof(tail) - 1;
}

/* ---- Text with a bound ----------------------------------------------------------------------- */

struct writer {
    char *room;
    size_t capacity;
    size_t size;
    bool is_full;
};

static void put(struct writer *out, const void *bytes, size_t size)
{
    if (out->is_full || size > out->capacity - out->size) {
        out->is_full = true;
        return;
    }
    memcpy(out->room + out->size, bytes, size);
    out->size += size;
}

static void put_hex(struct writer *out, const char *prefix, uint8_t byte)
{
    static const char digits[] = "0123456789ABCDEF";
    char text[8];
    const int n =
        snprintf(text, sizeof(text), "%s%c%c", prefix, digits[byte >> 4], digits[byte & 15]);
    put(out, text, n < 0 ? 0 : (size_t)n);
}

/* True for what a terminal may obey: C0, DEL, and C1 as UTF-8. */
static bool is_control(struct sl_slice character)
{
    const uint8_t first = character.data[0];
    return first < 0x20 || first == 0x7F || (first == 0xC2 && character.data[1] < 0xA0);
}

/* One character of `text` as it looks in quotes; gives its size. */
static size_t quote_one(struct writer *out, struct sl_slice text)
{
    bool is_good = false;
    const size_t n = sl_utf8_measure(text, &is_good);
    const size_t before = out->size;
    if (!is_good || is_control(text)) {
        for (size_t i = 0; i < n; i++) {
            put_hex(out, "\\x", text.data[i]);
        }
    } else {
        if (text.data[0] == '"' || text.data[0] == '\\') {
            put(out, "\\", 1);
        }
        put(out, text.data, n);
    }
    if (out->is_full) {
        out->size = before;
    }
    return n;
}

const char *sl_log_quote(struct sl_slice text, char *room, size_t room_bytes)
{
    struct writer out = { .room = room, .capacity = room_bytes - 2, .size = 1 };
    room[0] = '"';
    for (size_t i = 0; i < text.size && !out.is_full;) {
        const size_t secret = sl_log_text_secret_at(text, i, false);
        if (secret > 0) {
            put(&out, "***", 3);
            i += secret;
        } else {
            i += quote_one(&out, sl_slice_of(text.data + i, text.size - i));
        }
    }
    room[out.size] = '"';
    room[out.size + 1] = '\0';
    return room;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static int hex_value(uint8_t byte)
{
    if (byte >= '0' && byte <= '9') {
        return byte - '0';
    }
    const uint8_t lower = byte | 0x20;
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static void put_json_byte(struct writer *out, uint8_t byte)
{
    if (byte < 0x20) {
        put_hex(out, "\\u00", byte);
        return;
    }
    if (byte == '"' || byte == '\\') {
        put(out, "\\", 1);
    }
    put(out, &byte, 1);
}

/* The escape that `text` begins with, as JSON; gives its size. A byte above 0x7F keeps its \xNN. */
static size_t put_json_escape(struct writer *out, struct sl_slice text)
{
    if (text.size >= 4 && text.data[1] == 'x' && hex_value(text.data[2]) >= 0 &&
        hex_value(text.data[3]) >= 0) {
        const uint8_t byte = (uint8_t)(hex_value(text.data[2]) << 4 | hex_value(text.data[3]));
        if (byte < 0x80) {
            put_json_byte(out, byte);
            return 4;
        }
    } else if (text.size >= 2 && (text.data[1] == '"' || text.data[1] == '\\')) {
        put_json_byte(out, text.data[1]);
        return 2;
    }
    put_json_byte(out, '\\');
    return 1;
}

static void put_json_string(struct writer *out, struct sl_slice text, bool has_escapes)
{
    put(out, "\"", 1);
    for (size_t i = 0; i < text.size;) {
        if (has_escapes && text.data[i] == '\\') {
            i += put_json_escape(out, sl_slice_of(text.data + i, text.size - i));
        } else {
            put_json_byte(out, text.data[i++]);
        }
    }
    put(out, "\"", 1);
}

/* A short decimal number as JSON spells it. Long ones are identifiers, and readers would round
 * them. */
static bool is_json_number(struct sl_slice text)
{
    size_t i = text.size > 0 && text.data[0] == '-' ? 1 : 0;
    const size_t first = i;
    size_t n_points = 0;
    for (; i < text.size; i++) {
        if (text.data[i] == '.') {
            n_points++;
            if (i == first || i + 1 == text.size) {
                return false;
            }
        } else if (text.data[i] < '0' || text.data[i] > '9') {
            return false;
        }
    }
    const bool has_leading_zero =
        text.size > first + 1 && text.data[first] == '0' && text.data[first + 1] != '.';
    return text.size > first && text.size <= LONGEST_NUMBER && n_points <= 1 && !has_leading_zero;
}

static void put_json_word(struct writer *out, struct sl_slice word)
{
    if (is_json_number(word) || sl_slice_equals(word, "true") || sl_slice_equals(word, "false")) {
        put(out, word.data, word.size);
    } else {
        put_json_string(out, word, false);
    }
}

static size_t find_byte(struct sl_slice text, size_t from, const char *stops)
{
    while (from < text.size && (text.data[from] == 0 || strchr(stops, text.data[from]) == NULL)) {
        from++;
    }
    return from;
}

static size_t find_quote(struct sl_slice text, size_t from)
{
    while (from < text.size && text.data[from] != '"') {
        from += text.data[from] == '\\' ? 2 : 1;
    }
    return from < text.size ? from : text.size;
}

/* Writes the pair that begins at `at`; gives the place behind it. */
static size_t put_json_pair(struct writer *out, struct sl_slice line, size_t at)
{
    const size_t key_end = find_byte(line, at, " =");
    put(out, ",", 1);
    put_json_string(out, sl_slice_of(line.data + at, key_end - at), false);
    put(out, ":", 1);
    if (key_end == line.size || line.data[key_end] == ' ') {
        put(out, "true", 4);
        return key_end;
    }
    const size_t begin = key_end + 1;
    if (begin < line.size && line.data[begin] == '"') {
        const size_t end = find_quote(line, begin + 1);
        put_json_string(out, sl_slice_of(line.data + begin + 1, end - begin - 1), true);
        return end < line.size ? end + 1 : end;
    }
    const size_t end = find_byte(line, begin, " ");
    put_json_word(out, sl_slice_of(line.data + begin, end - begin));
    return end;
}

size_t sl_log_text_to_json(struct sl_slice line, char *room, size_t room_bytes)
{
    static const char cut[] = ",\"cut\":true}";
    struct writer out = { .room = room, .capacity = room_bytes - (sizeof(cut) - 1) };
    for (size_t at = 0; at < line.size;) {
        if (line.data[at] == ' ') {
            at++;
            continue;
        }
        const size_t before = out.size;
        at = put_json_pair(&out, line, at);
        if (out.is_full) {
            memcpy(room + before, cut, sizeof(cut) - 1);
            return before + sizeof(cut) - 1;
        }
    }
    room[out.size] = '}';
    return out.size + 1;
}
