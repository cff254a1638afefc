/* The text forms of times, bytes, numbers and field masks in protojson. */
#include <math.h>
#include <stdio.h>

#include "runtime/base/base64.h"
#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "service/schema/json_impl.h"

enum { NANOS = 1000000000 };

/* Years 1 to 9999. */
#define MIN_TIMESTAMP (-INT64_C(62135596800))
#define MAX_TIMESTAMP INT64_C(253402300799)
/* About 10,000 years. */
#define MAX_DURATION INT64_C(315576000000)

/* ---- Times ------------------------------------------------------------------------------------
 */

/* Days since 1970-01-01 in the Gregorian calendar. March is the first month of its year here, so
 * that a leap day is the last of one. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    const int64_t y = month <= 2 ? year - 1 : year;
    const int64_t m = month <= 2 ? month + 9 : month - 3;
    const int64_t day_of_year = (153 * m + 2) / 5 + day - 1;
    return 365 * y + y / 4 - y / 100 + y / 400 + day_of_year - 719468;
}

/* Only for days of the years 1 to 9999. */
static void date_of(int64_t days, int64_t *ret_year, int64_t *ret_month, int64_t *ret_day)
{
    const int64_t shifted = days + 719468;
    const int64_t era = shifted / 146097;
    const int64_t day_of_era = shifted % 146097;
    const int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    const int64_t day_of_year =
        day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const int64_t m = (5 * day_of_year + 2) / 153;
    *ret_day = day_of_year - (153 * m + 2) / 5 + 1;
    *ret_month = m < 10 ? m + 3 : m - 9;
    *ret_year = year_of_era + 400 * era + (*ret_month <= 2);
}

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int64_t days_in(int64_t year, int64_t month)
{
    static const int8_t days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    return month == 2 && is_leap(year) ? 29 : days[month - 1];
}

/* Exactly `n` digits from the front of `rest`. */
static bool take_digits(struct sl_slice *rest, size_t n, int64_t *ret_value)
{
    if (rest->size < n ||
        sl_parse_i64(sl_slice_of(rest->data, n), 0, INT32_MAX, ret_value) != SL_OK ||
        rest->data[0] == '-') {
        return false;
    }
    *rest = sl_slice_of(rest->data + n, rest->size - n);
    return true;
}

static bool take_byte(struct sl_slice *rest, const char *one_of)
{
    if (rest->size == 0 || rest->data[0] == '\0' || strchr(one_of, rest->data[0]) == NULL) {
        return false;
    }
    *rest = sl_slice_of(rest->data + 1, rest->size - 1);
    return true;
}

/* ".5" and so on, when it is there. */
static bool take_fraction(struct sl_slice *rest, int32_t *ret_nanos)
{
    int32_t nanos = 0;
    int32_t unit = NANOS;
    if (take_byte(rest, ".")) {
        while (rest->size > 0 && rest->data[0] >= '0' && rest->data[0] <= '9' && unit > 1) {
            unit /= 10;
            nanos += (rest->data[0] - '0') * unit;
            *rest = sl_slice_of(rest->data + 1, rest->size - 1);
        }
        if (unit == NANOS) {
            return false;
        }
    }
    *ret_nanos = nanos;
    return true;
}

/* "Z" or "+01:00" to the end. */
static bool take_offset(struct sl_slice *rest, int64_t *ret_seconds)
{
    int64_t hours = 0;
    int64_t minutes = 0;
    *ret_seconds = 0;
    if (take_byte(rest, "Zz")) {
        return rest->size == 0;
    }
    const bool is_minus = rest->size > 0 && rest->data[0] == '-';
    if (!take_byte(rest, "+-") || !take_digits(rest, 2, &hours) || !take_byte(rest, ":") ||
        !take_digits(rest, 2, &minutes) || rest->size != 0 || hours > 23 || minutes > 59) {
        return false;
    }
    *ret_seconds = (is_minus ? -1 : 1) * (hours * 3600 + minutes * 60);
    return true;
}

bool sl_timestamp_parse(struct sl_slice text, int64_t *ret_seconds, int32_t *ret_nanos)
{
    int64_t year = 0;
    int64_t month = 0;
    int64_t day = 0;
    int64_t hour = 0;
    int64_t minute = 0;
    int64_t second = 0;
    int64_t offset = 0;
    if (!take_digits(&text, 4, &year) || !take_byte(&text, "-") || !take_digits(&text, 2, &month) ||
        !take_byte(&text, "-") || !take_digits(&text, 2, &day) || !take_byte(&text, "Tt")) {
        return false;
    }
    if (!take_digits(&text, 2, &hour) || !take_byte(&text, ":") ||
        !take_digits(&text, 2, &minute) || !take_byte(&text, ":") ||
        !take_digits(&text, 2, &second) || !take_fraction(&text, ret_nanos) ||
        !take_offset(&text, &offset)) {
        return false;
    }
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > days_in(year, month) || hour > 23 ||
        minute > 59 || second > 59) {
        return false;
    }
    *ret_seconds = days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset;
    return *ret_seconds >= MIN_TIMESTAMP && *ret_seconds <= MAX_TIMESTAMP;
}

/* 0, 3, 6 or 9 digits. */
static void print_fraction(int64_t nanos, char *room, size_t room_bytes)
{
    room[0] = '\0';
    if (nanos % 1000000 == 0 && nanos != 0) {
        (void)snprintf(room, room_bytes, ".%03d", (int)(nanos / 1000000));
    } else if (nanos % 1000 == 0 && nanos != 0) {
        (void)snprintf(room, room_bytes, ".%06d", (int)(nanos / 1000));
    } else if (nanos != 0) {
        (void)snprintf(room, room_bytes, ".%09d", (int)nanos);
    }
}

bool sl_timestamp_print(int64_t seconds, int64_t nanos, char room[SL_TIME_TEXT_BYTES])
{
    if (seconds < MIN_TIMESTAMP || seconds > MAX_TIMESTAMP || nanos < 0 || nanos >= NANOS) {
        return false;
    }
    const int64_t shifted = seconds - MIN_TIMESTAMP; /* not negative */
    const int64_t days = shifted / 86400 + MIN_TIMESTAMP / 86400;
    const int rest = (int)(shifted % 86400);
    int64_t year = 0;
    int64_t month = 0;
    int64_t day = 0;
    char fraction[12];
    date_of(days, &year, &month, &day);
    print_fraction(nanos, fraction, sizeof(fraction));
    (void)snprintf(
        room, SL_TIME_TEXT_BYTES, "%04d-%02d-%02dT%02d:%02d:%02d%sZ", (int)year, (int)month,
        (int)day, rest / 3600, rest / 60 % 60, rest % 60, fraction);
    return true;
}

bool sl_duration_parse(struct sl_slice text, int64_t *ret_seconds, int32_t *ret_nanos)
{
    const bool is_minus = take_byte(&text, "-");
    size_t n = 0;
    int64_t seconds = 0;
    int32_t nanos = 0;
    while (n < text.size && text.data[n] >= '0' && text.data[n] <= '9') {
        n++;
    }
    if (sl_parse_i64(sl_slice_of(text.data, n), 0, MAX_DURATION, &seconds) != SL_OK) {
        return false;
    }
    text = sl_slice_of(text.data + n, text.size - n);
    if (!take_fraction(&text, &nanos) || !take_byte(&text, "s") || text.size != 0) {
        return false;
    }
    if (seconds == MAX_DURATION && nanos != 0) {
        return false;
    }
    *ret_seconds = is_minus ? -seconds : seconds;
    *ret_nanos = is_minus ? -nanos : nanos;
    return true;
}

bool sl_duration_print(int64_t seconds, int64_t nanos, char room[SL_TIME_TEXT_BYTES])
{
    if (seconds < -MAX_DURATION || seconds > MAX_DURATION || nanos <= -NANOS || nanos >= NANOS ||
        (seconds < 0 && nanos > 0) || (seconds > 0 && nanos < 0) ||
        ((seconds == MAX_DURATION || seconds == -MAX_DURATION) && nanos != 0)) {
        return false;
    }
    char fraction[12];
    print_fraction(nanos < 0 ? -nanos : nanos, fraction, sizeof(fraction));
    (void)snprintf(
        room, SL_TIME_TEXT_BYTES, "%s%lld%ss", seconds < 0 || nanos < 0 ? "-" : "",
        (long long)(seconds < 0 ? -seconds : seconds), fraction);
    return true;
}

/* ---- Bytes ------------------------------------------------------------------------------------
 */

json_t *sl_bytes_to_json(struct sl_slice bytes)
{
    const size_t size = sl_base64_size(bytes.size);
    const size_t padded = (size + 3) / 4 * 4;
    char *text = sl_alloc(padded + 1);
    if (text == NULL) {
        return NULL;
    }
    sl_base64_encode(bytes, text);
    memset(text + size, '=', padded - size);
    json_t *json = json_stringn(text, padded);
    (void)sl_free(text);
    return json;
}

enum sl_status sl_bytes_from_text(struct sl_slice text, uint8_t **ret_bytes, size_t *ret_size)
{
    char *standard = sl_strndup((const char *)text.data, text.size);
    uint8_t *bytes = sl_alloc(text.size * 3 / 4 + 1);
    enum sl_status status = standard == NULL || bytes == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
    for (size_t i = 0; status == SL_OK && i < text.size; i++) {
        if (standard[i] == '-' || standard[i] == '_') {
            standard[i] = standard[i] == '-' ? '+' : '/';
        }
    }
    if (status == SL_OK) {
        status = sl_base64_decode(sl_slice_of(standard, text.size), bytes, ret_size);
    }
    (void)sl_free(standard);
    if (status != SL_OK) {
        (void)sl_free(bytes);
        return status;
    }
    *ret_bytes = bytes;
    return SL_OK;
}

/* ---- Numbers ----------------------------------------------------------------------------------
 */

json_t *sl_double_to_json(double value)
{
    if (isnan(value)) {
        return json_string("NaN");
    }
    if (isinf(value)) {
        return json_string(value > 0 ? "Infinity" : "-Infinity");
    }
    return json_real(value);
}

/* The double with the fewest digits that gives this float again. */
json_t *sl_float_to_json(float value)
{
    enum { LEAST_DIGITS = 6, MOST_DIGITS = 9 };
    double shortest = (double)value;
    for (int digits = LEAST_DIGITS; isfinite(value) && digits <= MOST_DIGITS; digits++) {
        char text[32];
        (void)snprintf(text, sizeof(text), "%.*g", digits, (double)value);
        double read = 0;
        if (sl_parse_double(sl_slice_str(text), &read) == SL_OK && isfinite((float)read) &&
            (float)read == value) {
            shortest = read;
            break;
        }
    }
    return sl_double_to_json(shortest);
}

/* ---- Field masks ------------------------------------------------------------------------------
 */

bool sl_mask_path_to_json(struct sl_slice path, struct sl_buf *out)
{
    bool is_upper = false;
    for (size_t i = 0; i < path.size; i++) {
        uint8_t byte = path.data[i];
        const bool is_small = byte >= 'a' && byte <= 'z';
        if ((byte >= 'A' && byte <= 'Z') || byte == ',' || (is_upper && !is_small)) {
            return false;
        }
        if (byte == '_') {
            is_upper = true;
            continue;
        }
        byte = (uint8_t)(is_upper ? byte - 'a' + 'A' : byte);
        is_upper = false;
        if (sl_buf_add_byte(out, byte) != SL_OK) {
            return false;
        }
    }
    return !is_upper;
}

bool sl_mask_path_from_json(struct sl_slice path, struct sl_buf *out)
{
    for (size_t i = 0; i < path.size; i++) {
        const uint8_t byte = path.data[i];
        const bool is_upper = byte >= 'A' && byte <= 'Z';
        if (byte == '_' || (is_upper && sl_buf_add_byte(out, '_') != SL_OK) ||
            sl_buf_add_byte(out, (uint8_t)(is_upper ? byte - 'A' + 'a' : byte)) != SL_OK) {
            return false;
        }
    }
    return path.size > 0;
}
