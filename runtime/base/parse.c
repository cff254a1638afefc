#include "runtime/base/parse.h"

#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

static bool is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

/* The number that `text` begins with and how many digits it has. False: over 64 bits. */
static bool read_digits(struct sl_slice text, uint64_t *ret_value, size_t *ret_n_digits)
{
    uint64_t value = 0;
    size_t n = 0;
    bool fits = true;
    for (; n < text.size && is_digit(text.data[n]); n++) {
        fits = fits && !__builtin_mul_overflow(value, UINT64_C(10), &value) &&
               !__builtin_add_overflow(value, (uint64_t)(text.data[n] - '0'), &value);
    }
    *ret_value = value;
    *ret_n_digits = n;
    return fits;
}

enum sl_status sl_parse_u64(struct sl_slice text, uint64_t min, uint64_t max, uint64_t *ret_value)
{
    uint64_t value = 0;
    size_t n_digits = 0;
    const bool fits = read_digits(text, &value, &n_digits);
    if (n_digits == 0 || n_digits != text.size) {
        return SL_INVALID_ARGUMENT;
    }
    if (!fits || value < min || value > max) {
        return SL_OUT_OF_RANGE;
    }
    *ret_value = value;
    return SL_OK;
}

enum sl_status sl_parse_i64(struct sl_slice text, int64_t min, int64_t max, int64_t *ret_value)
{
    const bool is_negative = text.size > 0 && text.data[0] == '-';
    if (is_negative) {
        text = sl_slice_of(text.data + 1, text.size - 1);
    }
    uint64_t size = 0;
    SL_TRY(sl_parse_u64(text, 0, (uint64_t)INT64_MAX + (is_negative ? 1 : 0), &size));
    const int64_t value = (int64_t)(is_negative ? 0 - size : size);
    if (value < min || value > max) {
        return SL_OUT_OF_RANGE;
    }
    *ret_value = value;
    return SL_OK;
}

/* Skips digits; false: none. */
static bool skip_digits(struct sl_slice text, size_t *at)
{
    const size_t begin = *at;
    while (*at < text.size && is_digit(text.data[*at])) {
        (*at)++;
    }
    return *at > begin;
}

static bool is_decimal(struct sl_slice text)
{
    size_t at = 0;
    if (at < text.size && (text.data[at] == '-' || text.data[at] == '+')) {
        at++;
    }
    if (!skip_digits(text, &at)) {
        return false;
    }
    if (at < text.size && text.data[at] == '.') {
        at++;
        if (!skip_digits(text, &at)) {
            return false;
        }
    }
    if (at < text.size && (text.data[at] == 'e' || text.data[at] == 'E')) {
        at++;
        if (at < text.size && (text.data[at] == '-' || text.data[at] == '+')) {
            at++;
        }
        if (!skip_digits(text, &at)) {
            return false;
        }
    }
    return at == text.size;
}

static locale_t c_locale;

static void make_c_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

enum sl_status sl_parse_double(struct sl_slice text, double *ret_value)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    char copy[128];
    if (text.size >= sizeof(copy) || !is_decimal(text)) {
        return SL_INVALID_ARGUMENT;
    }
    memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    (void)pthread_once(&once, make_c_locale);
    const double value =
        c_locale == (locale_t)0 ? strtod(copy, NULL) : strtod_l(copy, NULL, c_locale);
    if (!isfinite(value)) {
        return SL_OUT_OF_RANGE;
    }
    *ret_value = value;
    return SL_OK;
}

struct unit {
    const char *name;
    uint64_t factor;
};

/* A number with one of `units`, which ends with a NULL name; no unit: factor 1. */
static enum sl_status
parse_with_unit(struct sl_slice text, const struct unit *units, uint64_t max, uint64_t *ret_value)
{
    uint64_t value = 0;
    size_t n_digits = 0;
    const bool fits = read_digits(text, &value, &n_digits);
    if (n_digits == 0) {
        return SL_INVALID_ARGUMENT;
    }
    const struct sl_slice suffix = sl_slice_of(text.data + n_digits, text.size - n_digits);
    uint64_t factor = suffix.size == 0 ? 1 : 0;
    for (; factor == 0 && units->name != NULL; units++) {
        factor = sl_slice_equals(suffix, units->name) ? units->factor : 0;
    }
    if (factor == 0) {
        return SL_INVALID_ARGUMENT;
    }
    if (!fits || __builtin_mul_overflow(value, factor, &value) || value > max) {
        return SL_OUT_OF_RANGE;
    }
    *ret_value = value;
    return SL_OK;
}

enum sl_status sl_parse_bytes(struct sl_slice text, uint64_t max, uint64_t *ret_bytes)
{
    static const struct unit units[] = { { "B", 1 },
                                         { "KiB", UINT64_C(1) << 10 },
                                         { "MiB", UINT64_C(1) << 20 },
                                         { "GiB", UINT64_C(1) << 30 },
                                         { NULL, 0 } };
    return parse_with_unit(text, units, max, ret_bytes);
}

enum sl_status sl_parse_duration_ms(struct sl_slice text, uint64_t max, uint64_t *ret_ms)
{
    static const struct unit units[] = {
        { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { NULL, 0 }
    };
    return parse_with_unit(text, units, max, ret_ms);
}

static bool is_letter(uint8_t byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}

/* A name or an IPv4 address; inside brackets also what IPv6 addresses and their zones have. */
static bool is_host(struct sl_slice host, bool is_in_brackets)
{
    for (size_t i = 0; i < host.size; i++) {
        const uint8_t byte = host.data[i];
        const bool is_common =
            is_letter(byte) || is_digit(byte) || byte == '.' || byte == '-' || byte == '_';
        if (!is_common && !(is_in_brackets && (byte == ':' || byte == '%'))) {
            return false;
        }
    }
    return host.size > 0;
}

static enum sl_status copy_text(struct sl_slice text, char *room, size_t room_bytes)
{
    if (text.size == 0 || text.size >= room_bytes || memchr(text.data, 0, text.size) != NULL) {
        return SL_INVALID_ARGUMENT;
    }
    memcpy(room, text.data, text.size);
    room[text.size] = '\0';
    return SL_OK;
}

enum sl_status sl_parse_address(
    struct sl_slice text, char *host, size_t host_bytes, uint16_t *ret_port, bool *ret_is_unix)
{
    if (text.size > 5 && memcmp(text.data, "unix:", 5) == 0) {
        struct sl_slice path = sl_slice_of(text.data + 5, text.size - 5);
        if (path.size > 2 && memcmp(path.data, "///", 3) == 0) {
            path = sl_slice_of(path.data + 2, path.size - 2); /* gRPC's other way to write it */
        }
        SL_TRY(copy_text(path, host, host_bytes));
        *ret_port = 0;
        *ret_is_unix = true;
        return SL_OK;
    }
    const uint8_t *colon = text.size == 0 ? NULL : memrchr(text.data, ':', text.size);
    if (colon == NULL) {
        return SL_INVALID_ARGUMENT;
    }
    struct sl_slice name = sl_slice_of(text.data, (size_t)(colon - text.data));
    const struct sl_slice port = sl_slice_of(colon + 1, text.size - name.size - 1);
    const bool is_in_brackets =
        name.size >= 2 && name.data[0] == '[' && name.data[name.size - 1] == ']';
    if (is_in_brackets) {
        name = sl_slice_of(name.data + 1, name.size - 2);
    }
    uint64_t number = 0;
    if (!is_host(name, is_in_brackets) || sl_parse_u64(port, 0, UINT16_MAX, &number) != SL_OK) {
        return SL_INVALID_ARGUMENT;
    }
    SL_TRY(copy_text(name, host, host_bytes));
    *ret_port = (uint16_t)number;
    *ret_is_unix = false;
    return SL_OK;
}

enum { LONGEST_NAME = 64 };

unsigned sl_parse_distance(const char *a, const char *b, unsigned limit)
{
    const size_t a_size = strlen(a);
    const size_t b_size = strlen(b);
    const size_t difference = a_size > b_size ? a_size - b_size : b_size - a_size;
    if (difference > limit || a_size > LONGEST_NAME || b_size > LONGEST_NAME) {
        return a_size == b_size && memcmp(a, b, a_size) == 0 ? 0 : limit + 1;
    }
    unsigned row[LONGEST_NAME + 1];
    for (size_t j = 0; j <= b_size; j++) {
        row[j] = (unsigned)j;
    }
    for (size_t i = 1; i <= a_size; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_size; j++) {
            const unsigned replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
            const unsigned shorter = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = replaced < shorter ? replaced : shorter;
        }
    }
    return row[b_size] > limit ? limit + 1 : row[b_size];
}
