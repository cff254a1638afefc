/* The figures by their names, and what they are worth. */
#include <inttypes.h>
#include <math.h>

#include "runtime/base/mem.h"
#include "service/cli/bench/report.h"

static const double ns_per_ms = 1e6, busy_limit = 0.9;
static const double not_measured = (double)NAN;
/* Of a thousand starts so many may be late before the client is called the bottleneck. */
enum { LATE_PER_MILLE = 10 };

/* ---- Names -------------------------------------------------------------------------------------
 */

static const struct {
    const char *prefix;
    double share; /* below 0: the mean */
} shares[] = {
    { "mean_", -1 },    { "p50_", 0.5 },      { "p90_", 0.9 }, { "p99_", 0.99 },
    { "p999_", 0.999 }, { "p9999_", 0.9999 }, { "max_", 1 },
};

static const char *const suffixes[SL_BENCH_N_TIMES] = { "first_ms", "gap_ms", "lag_ms", "call_ms",
                                                        "late_ms" };

const char *sl_bench_time_suffix(enum sl_bench_time time)
{
    return suffixes[time];
}

/* Gives not_measured (no number equals it) where there is nothing to say. */
typedef double(figure_fn)(const struct sl_bench_report *report);

static double per_second(const struct sl_bench_report *report, uint64_t n)
{
    return report->seconds > 0 ? (double)n / report->seconds : not_measured;
}

static double seconds(const struct sl_bench_report *report)
{
    return report->seconds;
}

static double calls(const struct sl_bench_report *report)
{
    return (double)sl_bench_stats_n_calls(&report->stats);
}

static double calls_per_s(const struct sl_bench_report *report)
{
    return per_second(report, report->n_ended);
}

static double messages(const struct sl_bench_report *report)
{
    return (double)report->n_messages;
}

static double messages_per_s(const struct sl_bench_report *report)
{
    return per_second(report, report->n_messages);
}

static double bytes(const struct sl_bench_report *report)
{
    return (double)report->n_bytes;
}

static double bytes_per_s(const struct sl_bench_report *report)
{
    return per_second(report, report->n_bytes);
}

static double errors(const struct sl_bench_report *report)
{
    return (double)sl_bench_stats_n_errors(&report->stats);
}

static double error_pct(const struct sl_bench_report *report)
{
    const double n = calls(report);
    return n > 0 ? errors(report) * 100 / n : not_measured;
}

static double cancelled(const struct sl_bench_report *report)
{
    return (double)report->stats.n_cancelled;
}

static double unfinished(const struct sl_bench_report *report)
{
    return (double)report->stats.n_unfinished;
}

static double gaps(const struct sl_bench_report *report)
{
    return report->plan->is_run ? (double)report->stats.n_gaps : not_measured;
}

static double duplicates(const struct sl_bench_report *report)
{
    return report->plan->is_run ? (double)report->stats.n_duplicates : not_measured;
}

static double open_max(const struct sl_bench_report *report)
{
    return (double)report->n_open_max;
}

static double limit_waits(const struct sl_bench_report *report)
{
    return (double)report->n_limit_waits;
}

static double stream_limit(const struct sl_bench_report *report)
{
    return report->n_limit_waits > 0 ? (double)report->stream_limit : not_measured;
}

static double starved_starts(const struct sl_bench_report *report)
{
    return report->plan->rate > 0 ? (double)report->stats.n_starved : not_measured;
}

static double user_s(const struct sl_bench_report *report)
{
    return report->has_server ? report->server.user_s : not_measured;
}

static double system_s(const struct sl_bench_report *report)
{
    return report->has_server ? report->server.system_s : not_measured;
}

static double cpu_us_per_message(const struct sl_bench_report *report)
{
    return report->has_server && report->n_messages > 0
               ? (report->server.user_s + report->server.system_s) * 1e6 /
                     (double)report->n_messages
               : not_measured;
}

static double rss_mb(const struct sl_bench_report *report)
{
    return report->has_server ? (double)report->server.rss_peak_kib * 1024 / 1e6 : not_measured;
}

static double client_cpu_s(const struct sl_bench_report *report)
{
    return report->client.user_s + report->client.system_s;
}

static double client_busy_pct(const struct sl_bench_report *report)
{
    return report->busy * 100;
}

static double client_rss_mb(const struct sl_bench_report *report)
{
    return (double)report->client.rss_peak_kib * 1024 / 1e6;
}

static const struct {
    const char *name;
    figure_fn *get;
} figures[] = {
    { "seconds", seconds },
    { "calls", calls },
    { "calls_per_s", calls_per_s },
    { "messages", messages },
    { "messages_per_s", messages_per_s },
    { "bytes", bytes },
    { "bytes_per_s", bytes_per_s },
    { "errors", errors },
    { "error_pct", error_pct },
    { "cancelled", cancelled },
    { "unfinished", unfinished },
    { "gaps", gaps },
    { "duplicates", duplicates },
    { "open_max", open_max },
    { "limit_waits", limit_waits },
    { "stream_limit", stream_limit },
    { "starved_starts", starved_starts },
    { "user_s", user_s },
    { "system_s", system_s },
    { "cpu_us_per_message", cpu_us_per_message },
    { "rss_mb", rss_mb },
    { "client_cpu_s", client_cpu_s },
    { "client_busy_pct", client_busy_pct },
    { "client_rss_mb", client_rss_mb },
};

/* ---- Values ------------------------------------------------------------------------------------
 */

static bool find_share(const char *name, size_t *ret_share, enum sl_bench_time *ret_time)
{
    for (size_t i = 0; i < SL_COUNT(shares) * SL_BENCH_N_TIMES; i++) {
        const size_t share = i / SL_BENCH_N_TIMES, time = i % SL_BENCH_N_TIMES;
        const size_t size = strlen(shares[share].prefix);
        if (strncmp(name, shares[share].prefix, size) == 0 &&
            strcmp(name + size, suffixes[time]) == 0) {
            *ret_share = share;
            *ret_time = (enum sl_bench_time)time;
            return true;
        }
    }
    return false;
}

static figure_fn *find_figure(const char *name)
{
    for (size_t i = 0; i < SL_COUNT(figures); i++) {
        if (strcmp(figures[i].name, name) == 0) {
            return figures[i].get;
        }
    }
    return NULL;
}

bool sl_bench_figure_exists(const char *name)
{
    size_t share;
    enum sl_bench_time time;
    return find_share(name, &share, &time) || find_figure(name) != NULL;
}

bool sl_bench_figure(const struct sl_bench_report *report, const char *name, double *ret_value)
{
    size_t share;
    enum sl_bench_time time;
    figure_fn *get = find_figure(name);
    double value = not_measured;
    if (get != NULL) {
        value = get(report);
    } else if (find_share(name, &share, &time) && report->stats.times[time].n > 0) {
        const struct sl_histogram *histogram = &report->stats.times[time];
        value =
            (shares[share].share < 0 ? sl_histogram_mean(histogram)
                                     : (double)sl_histogram_at(histogram, shares[share].share)) /
            ns_per_ms;
    }
    if (isnan(value)) {
        return false;
    }
    *ret_value = value;
    return true;
}

const char *sl_bench_figure_name(size_t index, char room[SL_BENCH_NAME_BYTES])
{
    if (index < SL_COUNT(figures)) {
        return figures[index].name;
    }
    index -= SL_COUNT(figures);
    if (index >= SL_COUNT(shares) * SL_BENCH_N_TIMES) {
        return NULL;
    }
    (void)snprintf(
        room, SL_BENCH_NAME_BYTES, "%s%s", shares[index % SL_COUNT(shares)].prefix,
        suffixes[index / SL_COUNT(shares)]);
    return room;
}

bool sl_bench_gate_is_broken(
    const struct sl_bench_report *report, size_t index, char text[SL_BENCH_REMARK_BYTES])
{
    const struct sl_bench_gate *gate = &report->plan->gates[index];
    double value;
    if (!sl_bench_figure(report, gate->name, &value)) {
        (void)snprintf(
            text, SL_BENCH_REMARK_BYTES, "%s: %s was not measured", gate->text, gate->name);
        return true;
    }
    (void)snprintf(text, SL_BENCH_REMARK_BYTES, "%s: %s is %.6g", gate->text, gate->name, value);
    return sl_bench_gate_fails(gate, value);
}

/* ---- What they are worth -----------------------------------------------------------------------
 */

/* Starts that were late by the client's fault, and all that had a due time. */
static uint64_t n_late(const struct sl_bench_report *report)
{
    const struct sl_histogram *late = &report->stats.times[SL_BENCH_LATE];
    uint64_t n = 0;
    for (uint32_t i = 0; i < SL_HISTOGRAM_BUCKETS; i++) {
        n += sl_histogram_top(i) > SL_BENCH_LATE_NS ? late->buckets[i] : 0;
    }
    return n;
}

static bool is_late(const struct sl_bench_report *report)
{
    return n_late(report) * 1000 > report->stats.times[SL_BENCH_LATE].n * LATE_PER_MILLE;
}

bool sl_bench_is_client_limited(const struct sl_bench_report *report)
{
    return report->busy > busy_limit || is_late(report);
}

/* A remark in the next free place. */
#define REMARK(...)                                                                                \
    do {                                                                                           \
        if (n < SL_BENCH_REMARKS_MAX) {                                                            \
            (void)snprintf(remarks[n++], SL_BENCH_REMARK_BYTES, __VA_ARGS__);                      \
        }                                                                                          \
    } while (0)

static size_t client_remarks(
    const struct sl_bench_report *report,
    size_t n,
    char remarks[SL_BENCH_REMARKS_MAX][SL_BENCH_REMARK_BYTES])
{
    const uint64_t late = n_late(report);
    if (report->busy > busy_limit) {
        REMARK(
            "The CLIENT was the bottleneck: its loop was busy %.0f %% of the time. The figures are "
            "not the server's; give it more --threads and --connections, and cores.",
            report->busy * 100);
    }
    if (is_late(report)) {
        REMARK(
            "The CLIENT was the bottleneck: %" PRIu64 " of %" PRIu64
            " calls were started over 10 ms late. The figures are not the server's.",
            late, report->stats.times[SL_BENCH_LATE].n);
    } else if (late > 0) {
        REMARK(
            "Calls that were started over 10 ms late: %" PRIu64 ", at most %.1f ms. The highest "
            "percentiles may be the client's.",
            late, (double)report->stats.times[SL_BENCH_LATE].max / ns_per_ms);
    }
    return n;
}

size_t sl_bench_remarks(
    const struct sl_bench_report *report, char remarks[SL_BENCH_REMARKS_MAX][SL_BENCH_REMARK_BYTES])
{
    size_t n = client_remarks(report, 0, remarks);
    if (report->n_limit_waits > 0) {
        REMARK(
            "The server's limit of streams was reached: %" PRIu64
            " calls waited because a connection may have %" PRIu64
            " (MAX_CONCURRENT_STREAMS). Waiting is in the figures; use more --connections.",
            report->n_limit_waits, report->stream_limit);
    }
    if (report->stats.n_starved > 0) {
        REMARK(
            "%" PRIu64 " calls were due while all %" PRIu64
            " streams were in use, and waited (it is in the figures): the server is behind the "
            "rate, or --streams is too small.",
            report->stats.n_starved, report->plan->n_streams);
    }
    if (report->stats.n_unfinished > 0) {
        REMARK(
            "%" PRIu64 " calls were not over when the time was, and were cut.",
            report->stats.n_unfinished);
    }
    if (report->is_lost) {
        REMARK("The server went away: nothing was received in the last ten seconds.");
    }
    if (report->is_interrupted) {
        REMARK("Interrupted: the figures are those of the time until then.");
    }
    return n;
}

#undef REMARK
