#include "service/cli/bench/usage.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/loop.h"
#include "runtime/base/parse.h"

enum { TEXT_BYTES = 4096, STAT_USER = 14, STAT_SYSTEM = 15, STAT_AFTER_NAME = 3 };

static enum sl_status
read_text(uint64_t pid, const char *name, char text[TEXT_BYTES], struct sl_error *err)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%" PRIu64 "/%s", pid, name);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        char why[128] = "";
        return sl_fail(
            err, SL_UNAVAILABLE, "--pid: %s is not readable: %s", path,
            strerror_r(errno, why, sizeof(why)));
    }
    const size_t size = fread(text, 1, TEXT_BYTES - 1, file);
    (void)fclose(file);
    text[size] = '\0';
    return SL_OK;
}

/* The number of `word` words behind `at`, counted from 0; 0: there is none. */
static uint64_t number_at(const char *at, unsigned word)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < word && at != NULL; i++) {
        at = strchr(at, ' ');
        at = at == NULL ? NULL : at + 1;
    }
    if (at == NULL ||
        sl_parse_u64(sl_slice_of(at, strspn(at, "0123456789")), 0, UINT64_MAX, &value) != SL_OK) {
        return 0;
    }
    return value;
}

enum sl_status
sl_bench_usage_read(uint64_t pid, struct sl_bench_usage *ret_usage, struct sl_error *err)
{
    char text[TEXT_BYTES];
    struct sl_bench_usage usage = { 0 };
    const double ticks = (double)sysconf(_SC_CLK_TCK);
    SL_TRY(read_text(pid, "stat", text, err));
    /* the name of the program stands in parentheses, and may hold blanks and parentheses */
    const char *name_end = strrchr(text, ')');
    if (name_end == NULL || name_end[1] == '\0') {
        return sl_fail(err, SL_UNAVAILABLE, "--pid: /proc/%" PRIu64 "/stat makes no sense", pid);
    }
    usage.user_s = (double)number_at(name_end + 2, STAT_USER - STAT_AFTER_NAME) / ticks;
    usage.system_s = (double)number_at(name_end + 2, STAT_SYSTEM - STAT_AFTER_NAME) / ticks;
    SL_TRY(read_text(pid, "status", text, err));
    const char *peak = strstr(text, "VmHWM:");
    if (peak != NULL) {
        peak += strlen("VmHWM:");
        usage.rss_peak_kib = number_at(peak + strspn(peak, " \t"), 0);
    }
    *ret_usage = usage;
    return SL_OK;
}

static double seconds_of(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

struct sl_bench_usage sl_bench_usage_own(void)
{
    struct rusage usage = { 0 };
    (void)getrusage(RUSAGE_SELF, &usage);
    return (struct sl_bench_usage){ .user_s = seconds_of(usage.ru_utime),
                                    .system_s = seconds_of(usage.ru_stime),
                                    .rss_peak_kib = (uint64_t)usage.ru_maxrss };
}

static uint64_t read_clock(clockid_t clock)
{
    struct timespec now = { 0 };
    (void)clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * SL_NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t sl_bench_usage_thread_ns(void)
{
    return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

uint64_t sl_bench_now_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}
