/* The report as text, as JSON, and the histograms as CSV. */
#include <inttypes.h>

#include <jansson.h>

#include "runtime/base/mem.h"
#include "service/cli/bench/report.h"
#include "service/cli/text.h"

enum { NAME_COLUMNS = 20, TEXT_MAX = 400 };

static const char *const titles[SL_BENCH_N_TIMES] = { "first message", "gap", "lag", "call",
                                                      "late start" };

/* ---- Text --------------------------------------------------------------------------------------
 */

/* A figure, 0 when it was not measured. */
static double figure(const struct sl_bench_report *report, const char *name)
{
    double value = 0;
    return sl_bench_figure(report, name, &value) ? value : 0;
}

static const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

static void write_head(const struct sl_bench_report *report, FILE *out)
{
    const struct sl_bench_plan *plan = report->plan;
    const uint64_t n = sl_bench_stats_n_calls(&report->stats);
    (void)fprintf(
        out, "%s on %s, %" PRIu64 " thread%s, ", plan->method.path + 1, plan->options.address,
        plan->n_threads, plural(plan->n_threads));
    if (plan->rate > 0) {
        (void)fprintf(out, "open loop: %" PRIu64 " a second\n", plan->rate);
    } else {
        (void)fputs("closed loop\n", out);
    }
    (void)fprintf(
        out,
        "%" PRIu64 " %s%s on %" PRIu64 " stream%s and %" PRIu64
        " connection%s in %.2f s (%.1f a second, at most %" PRIu64 " open)\n",
        n, plan->is_run ? "run" : "call", plural(n), plan->n_streams, plural(plan->n_streams),
        plan->n_connections, plural(plan->n_connections), report->seconds,
        figure(report, "calls_per_s"), report->n_open_max);
    (void)fprintf(
        out, "%" PRIu64 " message%s (%.0f a second), %.1f MB (%.2f MB a second)\n\n",
        report->n_messages, plural(report->n_messages), figure(report, "messages_per_s"),
        (double)report->n_bytes / 1e6, figure(report, "bytes_per_s") / 1e6);
}

static void write_times(const struct sl_bench_report *report, enum sl_bench_time time, FILE *out)
{
    static const double shares[] = { 0.5, 0.9, 0.99, 0.999, 0.9999, 1 };
    const struct sl_histogram *histogram = &report->stats.times[time];
    if (histogram->n == 0) {
        return;
    }
    (void)fprintf(out, "%-*s", NAME_COLUMNS, titles[time]);
    for (size_t i = 0; i < SL_COUNT(shares); i++) {
        (void)fprintf(out, " %10.3f", (double)sl_histogram_at(histogram, shares[i]) / 1e6);
    }
    (void)fprintf(out, " %10.3f %12" PRIu64 "\n", sl_histogram_mean(histogram) / 1e6, histogram->n);
}

static void write_all_times(const struct sl_bench_report *report, FILE *out)
{
    (void)fprintf(
        out, "%-*s %10s %10s %10s %10s %10s %10s %10s %12s\n", NAME_COLUMNS, "milliseconds", "p50",
        "p90", "p99", "p99.9", "p99.99", "max", "mean", "samples");
    for (int i = 0; i < SL_BENCH_N_TIMES; i++) {
        write_times(report, (enum sl_bench_time)i, out);
    }
    (void)fputc('\n', out);
}

static void write_count(const char *name, uint64_t n, FILE *out)
{
    if (n > 0) {
        (void)fprintf(out, "%-*s %" PRIu64 "\n", NAME_COLUMNS, name, n);
    }
}

static void write_ends(const struct sl_bench_report *report, FILE *out)
{
    const struct sl_bench_stats *stats = &report->stats;
    for (size_t i = 0; i < SL_BENCH_N_STATUS; i++) {
        write_count(sl_status_name((enum sl_status)i), stats->by_status[i], out);
    }
    for (size_t i = 0; i < stats->n_reasons; i++) {
        (void)fputs("  ", out);
        sl_text_put_line(out, stats->reasons[i].name, SL_BENCH_REASON_BYTES);
        (void)fprintf(out, " %" PRIu64 "\n", stats->reasons[i].n);
    }
    write_count("cancelled by us", stats->n_cancelled, out);
    write_count("unfinished", stats->n_unfinished, out);
    if (report->plan->is_run) {
        (void)fprintf(
            out, "%-*s %" PRIu64 " gaps, %" PRIu64 " duplicates\n", NAME_COLUMNS, "sequences",
            stats->n_gaps, stats->n_duplicates);
    }
    if (stats->first_error[0] != '\0') {
        (void)fprintf(out, "%-*s ", NAME_COLUMNS, "first error");
        sl_text_put_line(out, stats->first_error, TEXT_MAX);
        (void)fputc('\n', out);
    }
}

static void write_usage(const struct sl_bench_report *report, FILE *out)
{
    if (report->has_server) {
        (void)fprintf(
            out, "%-*s CPU %.2f s user, %.2f s system, %.3f us a message; peak %.1f MB\n",
            NAME_COLUMNS, "server", report->server.user_s, report->server.system_s,
            figure(report, "cpu_us_per_message"), figure(report, "rss_mb"));
    }
    (void)fprintf(
        out, "%-*s CPU %.2f s; its busiest loop %.0f %%; peak %.1f MB\n", NAME_COLUMNS, "client",
        figure(report, "client_cpu_s"), report->busy * 100, figure(report, "client_rss_mb"));
}

static void write_remarks(const struct sl_bench_report *report, FILE *out)
{
    char remarks[SL_BENCH_REMARKS_MAX][SL_BENCH_REMARK_BYTES];
    const size_t n = sl_bench_remarks(report, remarks);
    for (size_t i = 0; i < n; i++) {
        (void)fprintf(out, "%s%s\n", i == 0 ? "\n" : "", remarks[i]);
    }
}

void sl_bench_write_text(const struct sl_bench_report *report, FILE *out)
{
    write_head(report, out);
    write_all_times(report, out);
    write_ends(report, out);
    write_usage(report, out);
    write_remarks(report, out);
}

/* ---- JSON --------------------------------------------------------------------------------------
 */

static void set(json_t *json, const char *name, json_t *value)
{
    (void)json_object_set_new(json, name, value);
}

/* Whole numbers as such. */
static json_t *number(double value)
{
    const bool is_whole = value >= 0 && value < 9e15 && (double)(uint64_t)value >= value;
    return is_whole ? json_integer((json_int_t)value) : json_real(value);
}

static void set_figures(json_t *json, const struct sl_bench_report *report)
{
    char room[SL_BENCH_NAME_BYTES];
    const char *name;
    for (size_t i = 0; (name = sl_bench_figure_name(i, room)) != NULL; i++) {
        double value;
        set(json, name, sl_bench_figure(report, name, &value) ? number(value) : json_null());
    }
}

static json_t *statuses_of(const struct sl_bench_stats *stats)
{
    json_t *json = json_object();
    for (size_t i = 0; i < SL_BENCH_N_STATUS; i++) {
        if (stats->by_status[i] > 0) {
            set(json, sl_status_name((enum sl_status)i),
                json_integer((json_int_t)stats->by_status[i]));
        }
    }
    return json;
}

static json_t *reasons_of(const struct sl_bench_stats *stats)
{
    json_t *json = json_object();
    for (size_t i = 0; i < stats->n_reasons; i++) {
        set(json, stats->reasons[i].name, json_integer((json_int_t)stats->reasons[i].n));
    }
    return json;
}

static json_t *remarks_of(const struct sl_bench_report *report)
{
    char remarks[SL_BENCH_REMARKS_MAX][SL_BENCH_REMARK_BYTES];
    const size_t n = sl_bench_remarks(report, remarks);
    json_t *json = json_array();
    for (size_t i = 0; i < n; i++) {
        (void)json_array_append_new(json, json_string(remarks[i]));
    }
    return json;
}

static json_t *failed_of(const struct sl_bench_report *report)
{
    json_t *json = json_array();
    for (size_t i = 0; i < report->plan->n_gates; i++) {
        char text[SL_BENCH_REMARK_BYTES];
        if (sl_bench_gate_is_broken(report, i, text)) {
            (void)json_array_append_new(json, json_string(report->plan->gates[i].text));
        }
    }
    return json;
}

void sl_bench_write_json(const struct sl_bench_report *report, FILE *out)
{
    const struct sl_bench_plan *plan = report->plan;
    json_t *json = json_object();
    set(json, "method", json_string(plan->method.path + 1));
    set(json, "streams", json_integer((json_int_t)plan->n_streams));
    set(json, "connections", json_integer((json_int_t)plan->n_connections));
    set(json, "threads", json_integer((json_int_t)plan->n_threads));
    set(json, "rate", plan->rate > 0 ? json_integer((json_int_t)plan->rate) : json_null());
    set_figures(json, report);
    set(json, "status", statuses_of(&report->stats));
    set(json, "reasons", reasons_of(&report->stats));
    set(json, "first_error",
        report->stats.first_error[0] != '\0' ? json_string(report->stats.first_error)
                                             : json_null());
    set(json, "client_is_bottleneck", json_boolean(sl_bench_is_client_limited(report)));
    set(json, "remarks", remarks_of(report));
    set(json, "failed", failed_of(report));
    sl_text_put_json(out, json);
    json_decref(json);
}

/* ---- CSV ---------------------------------------------------------------------------------------
 */

static void write_buckets(const struct sl_bench_report *report, enum sl_bench_time time, FILE *out)
{
    const struct sl_histogram *histogram = &report->stats.times[time];
    uint64_t n = 0;
    for (uint32_t i = 0; i < SL_HISTOGRAM_BUCKETS; i++) {
        if (histogram->buckets[i] == 0) {
            continue;
        }
        n += histogram->buckets[i];
        const uint64_t top = sl_histogram_top(i);
        const uint64_t value = top < histogram->max ? top : histogram->max;
        (void)fprintf(
            out, "%s,%.6f,%" PRIu64 ",%.9f\n", sl_bench_time_suffix(time), (double)value / 1e6,
            histogram->buckets[i], (double)n * 100 / (double)histogram->n);
    }
}

void sl_bench_write_histogram(const struct sl_bench_report *report, FILE *out)
{
    (void)fputs("time,value_ms,count,percentile\n", out);
    for (int i = 0; i < SL_BENCH_N_TIMES; i++) {
        write_buckets(report, (enum sl_bench_time)i, out);
    }
}
