#include "runtime/model/retry.h"

#include <math.h>
#include <strings.h>

#include "runtime/base/parse.h"

enum { BUDGET_MILLI = 10000, RETRY_MILLI = 1000, SUCCESS_MILLI = 100, LEAST_MILLI = 5000 };

void sl_retry_budget_init(struct sl_retry_budget *budget)
{
    atomic_init(&budget->milli, BUDGET_MILLI);
}

bool sl_retry_budget_take(struct sl_retry_budget *budget)
{
    int now = atomic_load(&budget->milli);
    while (now > LEAST_MILLI) {
        if (atomic_compare_exchange_weak(&budget->milli, &now, now - RETRY_MILLI)) {
            return true;
        }
    }
    return false;
}

void sl_retry_budget_succeed(struct sl_retry_budget *budget)
{
    int now = atomic_load(&budget->milli);
    while (now < BUDGET_MILLI) {
        const int next = now > BUDGET_MILLI - SUCCESS_MILLI ? BUDGET_MILLI : now + SUCCESS_MILLI;
        if (atomic_compare_exchange_weak(&budget->milli, &now, next)) {
            return;
        }
    }
}

/* ---- Dates ----------------------------------------------------------------------------------- */

struct reader {
    struct sl_slice rest;
    bool is_bad;
};

struct date {
    int64_t year, month, day, hour, minute, second;
};

static bool skip(struct reader *reader, const char *text)
{
    const size_t n = strlen(text);
    if (reader->rest.size < n || memcmp(reader->rest.data, text, n) != 0) {
        return false;
    }
    reader->rest = sl_slice_of(reader->rest.data + n, reader->rest.size - n);
    return true;
}

static void expect(struct reader *reader, const char *text)
{
    if (!skip(reader, text)) {
        reader->is_bad = true;
    }
}

/* Exactly `n` digits; a blank may stand for the first of two (asctime). */
static int64_t read_digits(struct reader *reader, size_t n, bool may_be_blank)
{
    int64_t value = 0;
    for (size_t i = 0; i < n; i++) {
        const uint8_t c = i < reader->rest.size ? reader->rest.data[i] : 0;
        if (c >= '0' && c <= '9') {
            value = value * 10 + (c - '0');
        } else if (!(i == 0 && may_be_blank && c == ' ')) {
            reader->is_bad = true;
            return 0;
        }
    }
    reader->rest = sl_slice_of(reader->rest.data + n, reader->rest.size - n);
    return value;
}

static int64_t read_month(struct reader *reader)
{
    static const char *const names[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
    for (int64_t i = 0; i < 12; i++) {
        if (skip(reader, names[i])) {
            return i + 1;
        }
    }
    reader->is_bad = true;
    return 1;
}

static void read_time(struct reader *reader, struct date *date)
{
    date->hour = read_digits(reader, 2, false);
    expect(reader, ":");
    date->minute = read_digits(reader, 2, false);
    expect(reader, ":");
    date->second = read_digits(reader, 2, false);
}

/* "Sun, 06 Nov 1994 08:49:37 GMT", behind the comma. */
static void read_fixdate(struct reader *reader, struct date *date)
{
    date->day = read_digits(reader, 2, false);
    expect(reader, " ");
    date->month = read_month(reader);
    expect(reader, " ");
    date->year = read_digits(reader, 4, false);
    expect(reader, " ");
    read_time(reader, date);
    expect(reader, " GMT");
}

/* "Sunday, 06-Nov-94 08:49:37 GMT", behind the comma. Two digits mean 1970 to 2069. */
static void read_rfc850(struct reader *reader, struct date *date)
{
    date->day = read_digits(reader, 2, false);
    expect(reader, "-");
    date->month = read_month(reader);
    expect(reader, "-");
    date->year = read_digits(reader, 2, false);
    date->year += date->year < 70 ? 2000 : 1900;
    expect(reader, " ");
    read_time(reader, date);
    expect(reader, " GMT");
}

/* "Sun Nov  6 08:49:37 1994", behind the day's name. */
static void read_asctime(struct reader *reader, struct date *date)
{
    date->month = read_month(reader);
    expect(reader, " ");
    date->day = read_digits(reader, 2, true);
    expect(reader, " ");
    read_time(reader, date);
    expect(reader, " ");
    date->year = read_digits(reader, 4, false);
}

/* Days since 1970-01-01 in the Gregorian calendar: years begin in March, so that the leap day is
 * the last of its year. */
static int64_t count_days(const struct date *date)
{
    const int64_t year = date->month <= 2 ? date->year - 1 : date->year;
    const int64_t month = date->month <= 2 ? date->month + 9 : date->month - 3;
    const int64_t in_year = (153 * month + 2) / 5 + date->day - 1;
    return year * 365 + year / 4 - year / 100 + year / 400 + in_year - 719468;
}

static bool is_sane(const struct date *date)
{
    return date->day >= 1 && date->day <= 31 && date->hour <= 23 && date->minute <= 59 &&
           date->second <= 60;
}

enum sl_status sl_retry_date_parse(struct sl_slice text, int64_t *ret_seconds)
{
    static const char *const days[] = { "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun" };
    static const char *const tails[] = { "day", "sday", "nesday", "rsday", "day", "urday", "day" };
    struct reader reader = { .rest = text };
    struct date date = { 0 };
    size_t day = 0;
    while (day < 7 && !skip(&reader, days[day])) {
        day++;
    }
    if (day == 7) {
        return SL_INVALID_ARGUMENT;
    }
    if (skip(&reader, ", ")) {
        read_fixdate(&reader, &date);
    } else if (skip(&reader, " ")) {
        read_asctime(&reader, &date);
    } else {
        expect(&reader, tails[day]);
        expect(&reader, ", ");
        read_rfc850(&reader, &date);
    }
    if (reader.is_bad || reader.rest.size > 0 || !is_sane(&date)) {
        return SL_INVALID_ARGUMENT;
    }
    *ret_seconds = count_days(&date) * 86400 + date.hour * 3600 + date.minute * 60 + date.second;
    return SL_OK;
}

/* ---- Waits ----------------------------------------------------------------------------------- */

static bool read_number(struct sl_slice text, double unit_ms, int64_t *ret_ms)
{
    double value = 0;
    if (sl_parse_double(text, &value) != SL_OK || value < 0 || !isfinite(value)) {
        return false;
    }
    const double ms = ceil(value * unit_ms);
    *ret_ms = ms >= 9e18 ? INT64_MAX : (int64_t)ms;
    return true;
}

static struct sl_slice trim(const char *text)
{
    struct sl_slice slice = sl_slice_str(text);
    while (slice.size > 0 && (slice.data[0] == ' ' || slice.data[0] == '\t')) {
        slice = sl_slice_of(slice.data + 1, slice.size - 1);
    }
    while (slice.size > 0 &&
           (slice.data[slice.size - 1] == ' ' || slice.data[slice.size - 1] == '\t')) {
        slice.size--;
    }
    return slice;
}

bool sl_retry_after_parse(
    const char *after_ms, const char *after, uint64_t wall_ms, int64_t *ret_ms)
{
    int64_t seconds = 0;
    if (after_ms != NULL && read_number(trim(after_ms), 1, ret_ms)) {
        return true;
    }
    if (after == NULL) {
        return false;
    }
    if (read_number(trim(after), 1000, ret_ms)) {
        return true;
    }
    if (sl_retry_date_parse(trim(after), &seconds) != SL_OK) {
        return false;
    }
    const int64_t wait_ms = seconds * 1000 - (int64_t)wall_ms;
    if (wait_ms < 0) {
        return false;
    }
    *ret_ms = wait_ms;
    return true;
}

uint64_t sl_retry_backoff_ms(unsigned n, uint64_t random)
{
    const uint64_t base = n >= 4 ? 8000 : UINT64_C(500) << n;
    return base - random % (base / 4 + 1);
}

enum sl_retry_answer sl_retry_decide(
    const struct sl_retry_question *question, struct sl_retry_budget *budget, uint64_t *ret_wait_ms)
{
    bool is_wanted = question->is_retryable;
    if (question->should_retry != NULL && strcasecmp(question->should_retry, "true") == 0) {
        is_wanted = true;
    } else if (question->should_retry != NULL && strcasecmp(question->should_retry, "false") == 0) {
        is_wanted = false;
    }
    if (!is_wanted || question->has_output || question->n_retries >= question->max_retries) {
        return SL_RETRY_NO;
    }
    const bool is_asked = question->asked_ms >= 0;
    const uint64_t wait_ms = is_asked ? (uint64_t)question->asked_ms
                                      : sl_retry_backoff_ms(question->n_retries, question->random);
    if (is_asked && (wait_ms > question->max_wait_ms || wait_ms >= question->remaining_ms)) {
        *ret_wait_ms = wait_ms;
        return SL_RETRY_TOO_LONG;
    }
    if (wait_ms >= question->remaining_ms || !sl_retry_budget_take(budget)) {
        return SL_RETRY_NO;
    }
    *ret_wait_ms = wait_ms;
    return SL_RETRY_WAIT;
}
