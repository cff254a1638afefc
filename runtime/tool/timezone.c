#include "runtime/tool/timezone.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/mem.h"

#define ZONE_FOLDER "/usr/share/zoneinfo/"

enum { FILE_MAX_BYTES = 65536, HEADER_BYTES = 44, DAY_S = 86400 };

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* "+02:00", "+0200", "-03" */
static bool read_offset(const char *text, int *ret_offset_s)
{
    if ((*text != '+' && *text != '-') || !is_digit(text[1]) || !is_digit(text[2])) {
        return false;
    }
    const int hours = (text[1] - '0') * 10 + (text[2] - '0');
    const char *rest = text + 3;
    rest += *rest == ':';
    int minutes = 0;
    if (*rest != '\0') {
        if (!is_digit(rest[0]) || !is_digit(rest[1]) || rest[2] != '\0') {
            return false;
        }
        minutes = (rest[0] - '0') * 10 + (rest[1] - '0');
    }
    if (hours > 14 || minutes > 59) {
        return false;
    }
    const int offset_s = (hours * 60 + minutes) * 60;
    *ret_offset_s = *text == '-' ? -offset_s : offset_s;
    return true;
}

/* ---- Zone files: RFC 8536 -----------------------------------------------------------------------
 */

static int64_t read_be(const uint8_t *at, size_t n)
{
    uint64_t value = (at[0] & 0x80U) != 0 ? UINT64_MAX : 0;
    for (size_t i = 0; i < n; i++) {
        value = value << 8 | at[i];
    }
    return (int64_t)value;
}

struct header {
    size_t n_ut, n_std, n_leap, n_times, n_types, n_chars;
    size_t time_bytes;
    size_t body_bytes;
};

static bool read_header(struct sl_slice file, size_t at, size_t time_bytes, struct header *ret)
{
    if (file.size < at || file.size - at < HEADER_BYTES || memcmp(file.data + at, "TZif", 4) != 0) {
        return false;
    }
    size_t counts[6];
    for (size_t i = 0; i < SL_COUNT(counts); i++) {
        const int64_t count = read_be(file.data + at + 20 + i * 4, 4);
        if (count < 0 || count > FILE_MAX_BYTES) {
            return false;
        }
        counts[i] = (size_t)count;
    }
    *ret = (struct header){ .n_ut = counts[0],
                            .n_std = counts[1],
                            .n_leap = counts[2],
                            .n_times = counts[3],
                            .n_types = counts[4],
                            .n_chars = counts[5],
                            .time_bytes = time_bytes };
    ret->body_bytes = ret->n_times * (time_bytes + 1) + ret->n_types * 6 + ret->n_chars +
                      ret->n_leap * (time_bytes + 4) + ret->n_std + ret->n_ut;
    return ret->n_types > 0 && file.size - at - HEADER_BYTES >= ret->body_bytes;
}

/* ---- The rule behind the last transition: "CET-1CEST,M3.5.0,M10.5.0/3" --------------------------
 */

struct rule {
    int kind; /* 'M', 'J' or 'n' */
    int month, week, day;
    int time_s;
};

static bool read_number(const char **text, int most, int *ret)
{
    int value = 0;
    const char *p = *text;
    if (!is_digit(*p)) {
        return false;
    }
    for (; is_digit(*p); p++) {
        value = value * 10 + (*p - '0');
        if (value > most) {
            return false;
        }
    }
    *text = p;
    *ret = value;
    return true;
}

static bool skip_name(const char **text)
{
    const char *p = *text;
    if (*p == '<') {
        while (*p != '\0' && *p != '>') {
            p++;
        }
        if (*p != '>') {
            return false;
        }
        p++;
    } else {
        while ((*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z')) {
            p++;
        }
    }
    const bool has_name = p - *text >= 3;
    *text = p;
    return has_name;
}

/* [+-]hh[:mm[:ss]] */
static bool read_time(const char **text, int *ret_s)
{
    const bool is_negative = **text == '-';
    *text += **text == '-' || **text == '+';
    int parts[3] = { 0 };
    if (!read_number(text, 167, &parts[0])) {
        return false;
    }
    for (int i = 1; i < 3 && **text == ':'; i++) {
        (*text)++;
        if (!read_number(text, 59, &parts[i])) {
            return false;
        }
    }
    const int s = (parts[0] * 60 + parts[1]) * 60 + parts[2];
    *ret_s = is_negative ? -s : s;
    return true;
}

static bool read_rule(const char **text, struct rule *ret)
{
    struct rule rule = { .time_s = 7200 };
    if (**text != ',') {
        return false;
    }
    (*text)++;
    bool is_good = false;
    if (**text == 'M') {
        rule.kind = 'M';
        (*text)++;
        is_good = read_number(text, 12, &rule.month) && rule.month > 0 && *(*text)++ == '.' &&
                  read_number(text, 5, &rule.week) && rule.week > 0 && *(*text)++ == '.' &&
                  read_number(text, 6, &rule.day);
    } else {
        rule.kind = **text == 'J' ? 'J' : 'n';
        *text += **text == 'J';
        is_good = read_number(text, 365, &rule.day);
    }
    if (is_good && **text == '/') {
        (*text)++;
        is_good = read_time(text, &rule.time_s);
    }
    *ret = rule;
    return is_good;
}

static bool is_leap(int year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/* Days from 1970 to the first of January. */
static int64_t days_before(int year)
{
    const int64_t y = year - 1;
    return y * 365 + y / 4 - y / 100 + y / 400 - 719162;
}

/* Seconds from 1970 to the rule's moment in `year`, on the wall clock. */
static int64_t rule_moment(const struct rule *rule, int year)
{
    static const int before[] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365 };
    int64_t day = days_before(year);
    if (rule->kind == 'J') {
        day += rule->day - 1 + (is_leap(year) && rule->day >= 60);
    } else if (rule->kind == 'n') {
        day += rule->day;
    } else {
        const int extra = is_leap(year) && rule->month > 2;
        const int first = before[rule->month - 1] + extra;
        const int size = before[rule->month] + (is_leap(year) && rule->month >= 2) - first;
        const int week_day = (int)((day + first + 4) % 7); /* 1970 began on a Thursday */
        int in_month = (rule->day - week_day + 7) % 7 + (rule->week - 1) * 7;
        in_month -= in_month >= size ? 7 : 0;
        day += first + in_month;
    }
    return day * DAY_S + rule->time_s;
}

static enum sl_status follow_rules(const char *text, int64_t unix_s, int *ret_offset_s)
{
    int standard_s = 0;
    if (!skip_name(&text) || !read_time(&text, &standard_s)) {
        return SL_INVALID_ARGUMENT;
    }
    standard_s = -standard_s; /* POSIX counts to the west */
    if (*text == '\0') {
        *ret_offset_s = standard_s;
        return SL_OK;
    }
    int summer_s = standard_s + 3600;
    struct rule to_summer;
    struct rule to_standard;
    if (!skip_name(&text)) {
        return SL_INVALID_ARGUMENT;
    }
    if (*text != ',') {
        if (!read_time(&text, &summer_s)) {
            return SL_INVALID_ARGUMENT;
        }
        summer_s = -summer_s;
    }
    if (!read_rule(&text, &to_summer) || !read_rule(&text, &to_standard) || *text != '\0') {
        return SL_INVALID_ARGUMENT;
    }
    const time_t local_s = (time_t)(unix_s + standard_s);
    struct tm tm;
    if (gmtime_r(&local_s, &tm) == NULL || tm.tm_year < 70 || tm.tm_year > 8000) {
        return SL_INVALID_ARGUMENT;
    }
    const int64_t begin_s = rule_moment(&to_summer, tm.tm_year + 1900) - standard_s;
    const int64_t end_s = rule_moment(&to_standard, tm.tm_year + 1900) - summer_s;
    const bool is_summer =
        begin_s < end_s ? unix_s >= begin_s && unix_s < end_s : unix_s >= begin_s || unix_s < end_s;
    *ret_offset_s = is_summer ? summer_s : standard_s;
    return SL_OK;
}

/* The text between the two newlines at the end. */
static bool copy_footer(struct sl_slice rest, char *room, size_t room_bytes)
{
    if (rest.size < 2 || rest.data[0] != '\n') {
        return false;
    }
    const uint8_t *end = memchr(rest.data + 1, '\n', rest.size - 1);
    const size_t size = end == NULL ? 0 : (size_t)(end - rest.data) - 1;
    if (size == 0 || size >= room_bytes || memchr(rest.data + 1, '\0', size) != NULL) {
        return false;
    }
    memcpy(room, rest.data + 1, size);
    room[size] = '\0';
    return true;
}

enum sl_status sl_timezone_read(struct sl_slice file, int64_t unix_s, int *ret_offset_s)
{
    struct header header;
    size_t at = 0;
    if (!read_header(file, 0, 4, &header)) {
        return SL_INVALID_ARGUMENT;
    }
    const bool has_second = file.data[4] >= '2';
    if (has_second) {
        at = HEADER_BYTES + header.body_bytes;
        if (!read_header(file, at, 8, &header)) {
            return SL_INVALID_ARGUMENT;
        }
    }
    const uint8_t *times = file.data + at + HEADER_BYTES;
    const uint8_t *kinds = times + header.n_times * header.time_bytes;
    const uint8_t *types = kinds + header.n_times;
    size_t n = 0; /* transitions that have happened */
    while (n < header.n_times &&
           read_be(times + n * header.time_bytes, header.time_bytes) <= unix_s) {
        n++;
    }
    char footer[128];
    const size_t end = at + HEADER_BYTES + header.body_bytes;
    if (n == header.n_times && has_second &&
        copy_footer(sl_slice_of(file.data + end, file.size - end), footer, sizeof footer) &&
        follow_rules(footer, unix_s, ret_offset_s) == SL_OK) {
        return SL_OK;
    }
    const size_t type = n == 0 ? 0 : kinds[n - 1];
    if (type >= header.n_types) {
        return SL_INVALID_ARGUMENT;
    }
    const int64_t offset_s = read_be(types + type * 6, 4);
    if (offset_s < -DAY_S || offset_s > DAY_S) {
        return SL_INVALID_ARGUMENT;
    }
    *ret_offset_s = (int)offset_s;
    return SL_OK;
}

/* ---- Names --------------------------------------------------------------------------------------
 */

/* Letters, digits, '_', '-', '+' and single slashes inside: no way out of the folder. */
static bool is_zone_name(const char *name)
{
    const size_t size = strlen(name);
    if (size == 0 || size > 64 || name[0] == '/' || name[size - 1] == '/') {
        return false;
    }
    for (const char *p = name; *p != '\0'; p++) {
        const bool is_letter = (*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z');
        if (!is_letter && !is_digit(*p) && *p != '_' && *p != '-' && *p != '+' &&
            (*p != '/' || p[1] == '/')) {
            return false;
        }
    }
    return true;
}

static enum sl_status read_zone(const char *path, int64_t unix_s, int *ret_offset_s)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return SL_NOT_FOUND;
    }
    struct stat stat;
    uint8_t *block = NULL;
    enum sl_status status = SL_INVALID_ARGUMENT;
    if (fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode) && stat.st_size <= FILE_MAX_BYTES) {
        block = sl_alloc((size_t)stat.st_size + 1);
    }
    if (block != NULL) {
        const ssize_t n = read(fd, block, (size_t)stat.st_size);
        if (n > 0) {
            status = sl_timezone_read(sl_slice_of(block, (size_t)n), unix_s, ret_offset_s);
        }
    }
    sl_free(block);
    (void)close(fd);
    return status;
}

enum sl_status
sl_timezone_offset(const char *zone, int64_t unix_s, int *ret_offset_s, struct sl_error *err)
{
    if (strcmp(zone, "UTC") == 0 || strcmp(zone, "GMT") == 0 || strcmp(zone, "Z") == 0) {
        *ret_offset_s = 0;
        return SL_OK;
    }
    if (read_offset(zone, ret_offset_s)) {
        return SL_OK;
    }
    char path[128];
    if (is_zone_name(zone)) {
        (void)snprintf(path, sizeof path, ZONE_FOLDER "%s", zone);
        if (read_zone(path, unix_s, ret_offset_s) == SL_OK) {
            return SL_OK;
        }
    }
    return sl_fail(
        err, SL_INVALID_ARGUMENT,
        "the time zone '%.64s' is not known here: use UTC, an offset like +02:00, or a name like "
        "Europe/Berlin",
        zone);
}
