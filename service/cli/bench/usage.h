/* What processes used, as /proc and getrusage say. */
#ifndef SL_SERVICE_CLI_BENCH_USAGE_H
#define SL_SERVICE_CLI_BENCH_USAGE_H

#include <stdint.h>

#include "runtime/base/status.h"

struct sl_bench_usage {
    double user_s, system_s; /* since its start; another process's are right to 10 ms */
    uint64_t rss_peak_kib;   /* the most that was ever resident */
};

/* Of the process `pid`. Fails: SL_UNAVAILABLE /proc has no such process or may not be read. */
SL_CHECK enum sl_status
sl_bench_usage_read(uint64_t pid, struct sl_bench_usage *ret_usage, struct sl_error *err);
/* Of this process. */
struct sl_bench_usage sl_bench_usage_own(void);
/* CPU time of the calling thread in nanoseconds. */
uint64_t sl_bench_usage_thread_ns(void);
/* CLOCK_MONOTONIC in nanoseconds: the clock of stamps and of loops. */
uint64_t sl_bench_now_ns(void);

#endif
