#include "service/identity/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/arena.h"
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/base/parse.h"
#include "service/identity/pattern.h"

enum { MAX_PROBLEMS = 50, PROBLEM_BYTES = 512, FIRST_CAPACITY = 16 };

typedef uint8_t digest_t[SL_KEY_DIGEST_BYTES];

struct sl_keys {
    struct sl_arena arena; /* of texts */
    digest_t *digests;     /* one behind the other, for sl_keys_find() */
    struct sl_key *keys;
    size_t n_keys, capacity;
};

/* Where the reading is. */
struct reader {
    struct sl_keys *keys;
    const char *file;
    sl_keys_problem_fn *on_problem;
    void *user_data;
    uint64_t max_keys;
    bool is_over; /* there are more: counted once */
    int line;
    size_t n_problems;
    struct sl_slice rest; /* of the line */
    size_t n_taken;       /* bytes of the line before `rest` */
};

/* A word and where it begins, counted from 1. */
struct word {
    struct sl_slice text;
    size_t column;
};

SL_PRINTF(3, 4)
static enum sl_status problem(struct reader *reader, size_t column, const char *fmt, ...)
{
    char text[PROBLEM_BYTES / 2];
    char line[PROBLEM_BYTES];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    (void)snprintf(
        line, sizeof(line), "%.200s:%d:%zu: %s", reader->file, reader->line, column, text);
    if (++reader->n_problems <= MAX_PROBLEMS) {
        reader->on_problem(line, reader->user_data);
    }
    return SL_FAILED_PRECONDITION;
}

/* ---- Words -------------------------------------------------------------------------------------
 */

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t';
}

static void skip(struct reader *reader, size_t n)
{
    reader->rest = sl_slice_of(reader->rest.data + n, reader->rest.size - n);
    reader->n_taken += n;
}

/* The next word of the line; empty at its end. */
static struct word next_word(struct reader *reader)
{
    size_t n = 0;
    while (n < reader->rest.size && is_space(reader->rest.data[n])) {
        n++;
    }
    skip(reader, n);
    n = 0;
    while (n < reader->rest.size && !is_space(reader->rest.data[n])) {
        n++;
    }
    const struct word word = { .text = sl_slice_of(reader->rest.data, n),
                               .column = reader->n_taken + 1 };
    skip(reader, n);
    return word;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum sl_status read_digest(struct reader *reader, const struct word *word, digest_t digest)
{
    static const char scheme[] = "sha256:";
    const size_t n_scheme = sizeof(scheme) - 1;
    bool is_right = word->text.size == n_scheme + 2 * (size_t)SL_KEY_DIGEST_BYTES &&
                    memcmp(word->text.data, scheme, n_scheme) == 0;
    for (size_t i = 0; is_right && i < SL_KEY_DIGEST_BYTES; i++) {
        const int high = hex_digit(word->text.data[n_scheme + 2 * i]);
        const int low = hex_digit(word->text.data[n_scheme + 2 * i + 1]);
        is_right = high >= 0 && low >= 0;
        digest[i] = is_right ? (uint8_t)(high << 4 | low) : 0;
    }
    return is_right ? SL_OK
                    : problem(
                          reader, word->column,
                          "expected sha256: and 64 hex digits (0-9, a-f) of a key's hash; `sluice "
                          "keys hash` makes the line");
}

static enum sl_status read_name(struct reader *reader, const char *what, const char **ret_name)
{
    const struct word word = next_word(reader);
    if (word.text.size == 0) {
        return problem(reader, word.column, "the %s is missing", what);
    }
    if (!sl_identity_is_name(word.text)) {
        return problem(
            reader, word.column, "the %s is not 1 to %d letters, digits or any of . _ : / @ + = -",
            what, SL_IDENTITY_NAME_BYTES);
    }
    *ret_name = sl_arena_dup(&reader->keys->arena, word.text);
    return *ret_name == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
}

/* ---- Settings behind the names -----------------------------------------------------------------
 */

static bool
take_number(struct sl_slice *text, size_t n_digits, char behind, uint64_t max, int *ret_value)
{
    uint64_t value = 0;
    if (text->size < n_digits ||
        sl_parse_u64(sl_slice_of(text->data, n_digits), 0, max, &value) != SL_OK) {
        return false;
    }
    *text = sl_slice_of(text->data + n_digits, text->size - n_digits);
    *ret_value = (int)value;
    if (behind == '\0') {
        return true;
    }
    if (text->size == 0 || text->data[0] != (uint8_t)behind) {
        return false;
    }
    *text = sl_slice_of(text->data + 1, text->size - 1);
    return true;
}

/* "2027-01-31", or "2027-01-31T12:00:00Z". */
static bool parse_time(struct sl_slice text, int64_t *ret_s)
{
    struct tm tm = { 0 };
    struct tm again;
    int year = 0;
    int month = 0;
    if (!take_number(&text, 4, '-', 9999, &year) || !take_number(&text, 2, '-', 12, &month) ||
        !take_number(&text, 2, '\0', 31, &tm.tm_mday)) {
        return false;
    }
    if (text.size > 0) {
        if (text.data[0] != 'T') {
            return false;
        }
        text = sl_slice_of(text.data + 1, text.size - 1);
        if (!take_number(&text, 2, ':', 23, &tm.tm_hour) ||
            !take_number(&text, 2, ':', 59, &tm.tm_min) ||
            !take_number(&text, 2, 'Z', 59, &tm.tm_sec) || text.size > 0) {
            return false;
        }
    }
    tm.tm_year = year - 1900;
    tm.tm_mon = month - 1;
    const int day = tm.tm_mday;
    const time_t seconds = timegm(&tm);
    if (year < 1970 || month < 1 || day < 1 || gmtime_r(&seconds, &again) == NULL ||
        again.tm_mday != day) { /* 31st of February */
        return false;
    }
    *ret_s = seconds;
    return true;
}

static enum sl_status
read_agents(struct reader *reader, struct sl_slice list, size_t column, struct sl_key *key)
{
    const char **patterns =
        sl_arena_calloc(&reader->keys->arena, SL_KEY_PATTERNS, sizeof(*patterns));
    if (patterns == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (bool has_more = true; has_more;) {
        size_t n = 0;
        while (n < list.size && list.data[n] != ',') {
            n++;
        }
        const struct sl_slice pattern = sl_slice_of(list.data, n);
        if (!sl_pattern_is_valid(pattern)) {
            return problem(
                reader, column,
                "agents: names separated by commas, with at most one * at the begin or the end");
        }
        if (key->n_agents == SL_KEY_PATTERNS) {
            return problem(reader, column, "agents: more than %d names", SL_KEY_PATTERNS);
        }
        patterns[key->n_agents] = sl_arena_dup(&reader->keys->arena, pattern);
        if (patterns[key->n_agents++] == NULL) {
            return SL_RESOURCE_EXHAUSTED;
        }
        has_more = n < list.size;
        list = sl_slice_of(list.data + n + has_more, list.size - n - has_more);
    }
    key->agents = patterns;
    return SL_OK;
}

static bool takes(struct sl_slice *text, const char *name)
{
    const size_t n = strlen(name);
    if (text->size < n || memcmp(text->data, name, n) != 0) {
        return false;
    }
    *text = sl_slice_of(text->data + n, text->size - n);
    return true;
}

static enum sl_status
read_expiry(struct reader *reader, struct sl_slice text, size_t column, struct sl_key *key)
{
    return parse_time(text, &key->expires_s)
               ? SL_OK
               : problem(
                     reader, column,
                     "expires: a day such as 2027-01-31, or a moment such as 2027-01-31T12:00:00Z");
}

static enum sl_status read_settings(struct reader *reader, struct sl_key *key)
{
    bool has_expiry = false;
    struct word word = next_word(reader);
    for (; word.text.size > 0; word = next_word(reader)) {
        struct sl_slice value = word.text;
        enum sl_status status = SL_OK;
        if (key->n_agents == 0 && takes(&value, "agents=")) {
            status = read_agents(reader, value, word.column, key);
        } else if (!has_expiry && takes(&value, "expires=")) {
            has_expiry = true;
            status = read_expiry(reader, value, word.column, key);
        } else {
            status =
                problem(reader, word.column, "expected agents=… or expires=…, each at most once");
        }
        SL_TRY(status);
    }
    return SL_OK;
}

/* ---- Lines -------------------------------------------------------------------------------------
 */

static enum sl_status make_room(struct sl_keys *keys)
{
    if (keys->n_keys < keys->capacity) {
        return SL_OK;
    }
    const size_t capacity = keys->capacity == 0 ? FIRST_CAPACITY : 2 * keys->capacity;
    digest_t *digests = sl_realloc(keys->digests, capacity * sizeof(*digests));
    keys->digests = digests == NULL ? keys->digests : digests;
    struct sl_key *list = sl_realloc(keys->keys, capacity * sizeof(*list));
    keys->keys = list == NULL ? keys->keys : list;
    if (digests == NULL || list == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    keys->capacity = capacity;
    return SL_OK;
}

static enum sl_status read_key(struct reader *reader, const struct word *first)
{
    struct sl_keys *keys = reader->keys;
    struct sl_key key = { .expires_s = INT64_MAX, .line = reader->line };
    digest_t digest;
    SL_TRY(read_digest(reader, first, digest));
    SL_TRY(read_name(reader, "principal", &key.principal));
    SL_TRY(read_name(reader, "tenant", &key.tenant));
    SL_TRY(read_settings(reader, &key));
    if (keys->n_keys >= reader->max_keys) {
        if (!reader->is_over) {
            reader->is_over = true;
            sl_limit_reached(SL_LIMIT_keys);
        }
        return problem(
            reader, 1, "more than %llu keys (limit `keys`)", (unsigned long long)reader->max_keys);
    }
    SL_TRY(make_room(keys));
    memcpy(keys->digests[keys->n_keys], digest, sizeof(digest));
    keys->keys[keys->n_keys++] = key;
    return SL_OK;
}

static enum sl_status read_line(struct reader *reader, struct sl_slice line)
{
    reader->line++;
    if (line.size > 0 && line.data[line.size - 1] == '\r') {
        line.size--;
    }
    if (line.size > SL_KEY_LINE_BYTES) {
        return problem(
            reader, SL_KEY_LINE_BYTES + 1, "the line is longer than %d bytes", SL_KEY_LINE_BYTES);
    }
    reader->rest = line;
    reader->n_taken = 0;
    const struct word first = next_word(reader);
    if (first.text.size == 0 || first.text.data[0] == '#') {
        return SL_OK;
    }
    return read_key(reader, &first);
}

/* For the search of keys that are there twice. */
struct sorted {
    const uint8_t *digest;
    int line;
};

static int compare(const void *a, const void *b)
{
    const struct sorted *one = a;
    const struct sorted *other = b;
    const int order = memcmp(one->digest, other->digest, SL_KEY_DIGEST_BYTES);
    return order != 0 ? order : one->line - other->line;
}

static enum sl_status check_twins(struct reader *reader)
{
    const struct sl_keys *keys = reader->keys;
    if (keys->n_keys < 2) {
        return SL_OK;
    }
    struct sorted *sorted = sl_calloc(keys->n_keys, sizeof(*sorted));
    if (sorted == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < keys->n_keys; i++) {
        sorted[i] = (struct sorted){ keys->digests[i], keys->keys[i].line };
    }
    qsort(sorted, keys->n_keys, sizeof(*sorted), compare);
    for (size_t i = 1; i < keys->n_keys; i++) {
        if (memcmp(sorted[i].digest, sorted[i - 1].digest, SL_KEY_DIGEST_BYTES) == 0) {
            reader->line = sorted[i].line;
            (void)problem(reader, 1, "the key of line %d again", sorted[i - 1].line);
        }
    }
    (void)sl_free(sorted);
    return SL_OK;
}

static enum sl_status read_all(struct reader *reader, struct sl_slice text)
{
    while (text.size > 0) {
        const uint8_t *newline = memchr(text.data, '\n', text.size);
        const size_t n = newline == NULL ? text.size : (size_t)(newline - text.data);
        if (read_line(reader, sl_slice_of(text.data, n)) == SL_RESOURCE_EXHAUSTED) {
            return SL_RESOURCE_EXHAUSTED;
        }
        const size_t n_taken = n + (newline != NULL);
        text = sl_slice_of(text.data + n_taken, text.size - n_taken);
    }
    SL_TRY(check_twins(reader));
    return reader->n_problems == 0 ? SL_OK : SL_FAILED_PRECONDITION;
}

enum sl_status sl_keys_parse(
    struct sl_slice text,
    const char *file,
    uint64_t max_keys,
    sl_keys_problem_fn *on_problem,
    void *user_data,
    struct sl_keys **ret_keys)
{
    struct sl_keys *keys = sl_calloc(1, sizeof(*keys));
    if (keys == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    struct reader reader = { .keys = keys,
                             .file = file,
                             .on_problem = on_problem,
                             .user_data = user_data,
                             .max_keys = max_keys };
    const enum sl_status status = read_all(&reader, text);
    if (status != SL_OK) {
        (void)sl_keys_free(keys);
        return status;
    }
    *ret_keys = keys;
    return SL_OK;
}

/* ---- The file ----------------------------------------------------------------------------------
 */

/* Gives what is wrong with the open file; NULL: nothing. */
static const char *judge(const struct stat *info)
{
    if (!S_ISREG(info->st_mode)) {
        return "not a file";
    }
    if (info->st_size > SL_KEY_FILE_BYTES) {
        return "larger than 4 MiB";
    }
    return (info->st_mode & S_IWOTH) != 0 ? "everybody may write it" : NULL;
}

/* The content; what grows meanwhile is left out. NULL: `*ret_why`. */
static char *load(const char *path, size_t *ret_size, const char **ret_why)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat info;
    char *text = NULL;
    *ret_why = strerrordesc_np(errno);
    if (fd < 0) {
        return NULL;
    }
    *ret_why = fstat(fd, &info) != 0 ? "cannot be read" : judge(&info);
    if (*ret_why == NULL) {
        text = sl_alloc((size_t)info.st_size + 1);
        *ret_why = text == NULL ? "no memory" : NULL;
    }
    size_t size = 0;
    ssize_t n = 1;
    while (text != NULL && n > 0 && size < (size_t)info.st_size) {
        n = read(fd, text + size, (size_t)info.st_size - size);
        size += n > 0 ? (size_t)n : 0;
    }
    (void)close(fd);
    if (text != NULL && n < 0) {
        *ret_why = "cannot be read";
        text = sl_free(text);
    }
    *ret_size = size;
    return text;
}

enum sl_status sl_keys_read(
    const char *path,
    uint64_t max_keys,
    sl_keys_problem_fn *on_problem,
    void *user_data,
    struct sl_keys **ret_keys)
{
    size_t size = 0;
    const char *why = NULL;
    char *text = load(path, &size, &why);
    if (text == NULL) {
        char line[PROBLEM_BYTES];
        (void)snprintf(
            line, sizeof(line), "%.200s: %s", path, why == NULL ? "cannot be read" : why);
        on_problem(line, user_data);
        return SL_FAILED_PRECONDITION;
    }
    if (size > 0 && text[size - 1] != '\n') { /* somebody is writing it, or it was cut */
        char line[PROBLEM_BYTES];
        (void)snprintf(line, sizeof(line), "%.200s: the last line is not complete", path);
        on_problem(line, user_data);
        (void)sl_free(text);
        return SL_FAILED_PRECONDITION;
    }
    const enum sl_status status =
        sl_keys_parse(sl_slice_of(text, size), path, max_keys, on_problem, user_data, ret_keys);
    (void)sl_free(text);
    return status;
}

struct sl_keys *sl_keys_free(struct sl_keys *keys)
{
    if (keys != NULL) {
        sl_arena_done(&keys->arena);
        (void)sl_free(keys->digests);
        (void)sl_free(keys->keys);
        (void)sl_free(keys);
    }
    return NULL;
}

/* ---- Looking up --------------------------------------------------------------------------------
 */

size_t sl_keys_count(const struct sl_keys *keys)
{
    return keys == NULL ? 0 : keys->n_keys;
}

const struct sl_key *sl_keys_at(const struct sl_keys *keys, size_t index)
{
    return &keys->keys[index];
}

/* All ones when the digests are equal, else 0. Without a branch: all words count before anything is
 * known of the first. */
static size_t mask_of(const uint8_t *a, const uint8_t *b)
{
    uint64_t difference = 0;
    for (size_t i = 0; i < SL_KEY_DIGEST_BYTES; i += sizeof(uint64_t)) {
        uint64_t one;
        uint64_t other;
        memcpy(&one, a + i, sizeof(one));
        memcpy(&other, b + i, sizeof(other));
        difference |= one ^ other;
    }
    __asm__ volatile("" : "+r"(difference)); /* no compiler looks at how it came about */
    const uint64_t is_different = (difference | (0 - difference)) >> 63;
    return (size_t)(is_different - 1);
}

const struct sl_key *
sl_keys_find(const struct sl_keys *keys, const uint8_t digest[SL_KEY_DIGEST_BYTES])
{
    size_t found = 0; /* index and 1; each digest is there once */
    for (size_t i = 0; i < keys->n_keys; i++) {
        found |= mask_of(keys->digests[i], digest) & (i + 1);
    }
    return found == 0 ? NULL : &keys->keys[found - 1];
}
