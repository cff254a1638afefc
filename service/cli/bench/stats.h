/* What was seen of the calls: times, statuses, sequences. Each thread has its own; they are merged
 * at the end. No I/O. */
#ifndef SL_SERVICE_CLI_BENCH_STATS_H
#define SL_SERVICE_CLI_BENCH_STATS_H

#include <stdbool.h>

#include "runtime/base/slice.h"
#include "runtime/base/status.h"
#include "service/cli/histogram.h"

enum { SL_BENCH_N_STATUS = 17, SL_BENCH_REASONS_MAX = 32, SL_BENCH_REASON_BYTES = 64 };

/* All in nanoseconds. */
enum sl_bench_time {
    SL_BENCH_FIRST, /* from the due time of a call to its first message */
    SL_BENCH_GAP,   /* between two messages of a call */
    SL_BENCH_LAG,   /* from the stamp in a message to its arrival */
    SL_BENCH_CALL,  /* from the due time of a call to its end, when that is OK */
    SL_BENCH_LATE,  /* from the due time of a call to its start, when nothing but us was in the way
                     */
    SL_BENCH_N_TIMES
};

struct sl_bench_reason {
    char name[SL_BENCH_REASON_BYTES];
    uint64_t n;
};

/* All zero is empty. */
struct sl_bench_stats {
    struct sl_histogram times[SL_BENCH_N_TIMES];
    uint64_t by_status[SL_BENCH_N_STATUS]; /* calls that ended, but for the next two */
    uint64_t n_cancelled;                  /* by --cancel-after */
    uint64_t n_unfinished;                 /* cut because the time was over, or by a signal */
    uint64_t n_gaps;                       /* sequence numbers that are missing */
    uint64_t n_duplicates;                 /* that came again, or too late */
    uint64_t n_starved;                    /* started late because no stream was free */
    struct sl_bench_reason reasons[SL_BENCH_REASONS_MAX]; /* the last one: all others */
    size_t n_reasons;
    char first_error[300];
};

/* Starts late by more than this are the client's fault. */
#define SL_BENCH_LATE_NS UINT64_C(10000000)

/* A call that ended: its status, `details` (google.rpc.Status) and `text`. */
void sl_bench_stats_end(
    struct sl_bench_stats *stats, enum sl_status status, struct sl_slice details, const char *text);
void sl_bench_stats_merge(struct sl_bench_stats *stats, const struct sl_bench_stats *other);
/* Calls that are counted. */
uint64_t sl_bench_stats_n_calls(const struct sl_bench_stats *stats);
uint64_t sl_bench_stats_n_errors(const struct sl_bench_stats *stats);

/* What `*next`, 1 at the start of a call, says about a sequence number that came; 0 has none. */
void sl_bench_stats_sequence(struct sl_bench_stats *stats, uint64_t *next, uint64_t sequence);

/* A sluice.v1.StreamEvent is looked at, not decoded. Its sequence; 0: it has none, or is none. */
uint64_t sl_bench_event_sequence(struct sl_slice message);
/* The time in the stamp of its text delta, "INDEX NANOSECONDS ...". False: there is none. */
bool sl_bench_event_stamp(struct sl_slice message, uint64_t *ret_ns);

#endif
