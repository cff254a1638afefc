/* What came out: figures, what they are worth, and the forms in which they are written. */
#ifndef SL_SERVICE_CLI_BENCH_REPORT_H
#define SL_SERVICE_CLI_BENCH_REPORT_H

#include <stdio.h>

#include "service/cli/bench/plan.h"
#include "service/cli/bench/series.h"
#include "service/cli/bench/stats.h"
#include "service/cli/bench/usage.h"

struct sl_bench_report {
    const struct sl_bench_plan *plan;
    struct sl_bench_stats stats;
    double seconds; /* that were measured: rates and CPU times are of these; the rest is of all */
    uint64_t n_messages, n_bytes, n_ended; /* in this time */
    bool has_server;                       /* /proc could be read, before and after */
    struct sl_bench_usage server, client;  /* in this time; rss_peak_kib: until its end */
    double busy;                           /* share of this time in which the busiest loop worked */
    uint64_t n_limit_waits;                /* calls that had to wait for the server's limit */
    uint64_t stream_limit;                 /* of a connection, when it was reached */
    uint64_t n_open_max;                   /* no more calls were open in the same moment */
    bool is_interrupted, is_lost;
    struct sl_bench_series series;
};

/* ---- figures.c ------------------------------------------------------------------------------- */

/* Whether there is a figure of this name: those of docs/load-testing.md. */
bool sl_bench_figure_exists(const char *name);
/* Its value; false: it was not measured, or there is none of this name. */
bool sl_bench_figure(const struct sl_bench_report *report, const char *name, double *ret_value);
/* The i-th figure's name, in the order of the report; NULL: there are no more. */
const char *sl_bench_figure_name(size_t index, char room[SL_BENCH_NAME_BYTES]);
/* "first_ms" and the like: the end of the names of a time's figures. */
const char *sl_bench_time_suffix(enum sl_bench_time time);

enum { SL_BENCH_REMARKS_MAX = 8, SL_BENCH_REMARK_BYTES = 240 };

/* Sentences that a reader of the figures must know. Gives their number. */
size_t sl_bench_remarks(
    const struct sl_bench_report *report,
    char remarks[SL_BENCH_REMARKS_MAX][SL_BENCH_REMARK_BYTES]);
/* True when the figures are those of the client: its loop was busy, or late. */
bool sl_bench_is_client_limited(const struct sl_bench_report *report);
/* Whether the i-th gate of the plan fails. A figure that was not measured does. `text` says what it
 * was. */
bool sl_bench_gate_is_broken(
    const struct sl_bench_report *report, size_t index, char text[SL_BENCH_REMARK_BYTES]);

/* ---- write.c, plot.c ------------------------------------------------------------------------- */

void sl_bench_write_text(const struct sl_bench_report *report, FILE *out);
/* One object in one line. */
void sl_bench_write_json(const struct sl_bench_report *report, FILE *out);
/* CSV: a line for each bucket that is not empty. */
void sl_bench_write_histogram(const struct sl_bench_report *report, FILE *out);
/* An SVG picture: latencies by percentile, throughput over time. */
void sl_bench_write_plot(const struct sl_bench_report *report, FILE *out);

#endif
