/* The report as a picture: latencies by percentile, and throughput over time. SVG by hand: two
 * charts, one below the other, on a white ground. */
#include <inttypes.h>
#include <math.h>

#include "runtime/base/mem.h"
#include "service/cli/bench/report.h"

enum { WIDTH = 860, HEIGHT = 720, LEFT = 84, RIGHT = 150, CHART_HEIGHT = 230, FIRST_TOP = 78 };
enum { SECOND_TOP = 412, CHART_WIDTH = WIDTH - LEFT - RIGHT };

/* ---- Charts ------------------------------------------------------------------------------------
 */

/* Where a value of an axis stands, 0 to 1. */
struct axis {
    double least, most;
    bool is_log;
};

static double place(const struct axis *axis, double value)
{
    const double share = axis->is_log ? log10(value / axis->least) / log10(axis->most / axis->least)
                                      : (value - axis->least) / (axis->most - axis->least);
    return share < 0 ? 0 : share > 1 ? 1 : share;
}

static double x_of(double share)
{
    return LEFT + share * CHART_WIDTH;
}

static double y_of(double top, double share)
{
    return top + CHART_HEIGHT - share * CHART_HEIGHT;
}

static void text(FILE *out, double x, double y, const char *attributes, const char *words)
{
    (void)fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, attributes);
    for (; *words != '\0'; words++) {
        if (*words == '<' || *words == '>' || *words == '&') {
            (void)fprintf(out, "&#%d;", *words);
        } else {
            (void)fputc((unsigned char)*words < 0x20 ? ' ' : *words, out);
        }
    }
    (void)fputs("</text>\n", out);
}

static void line(FILE *out, double x1, double y1, double x2, double y2)
{
    (void)fprintf(
        out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#d9dde3\"/>\n", x1, y1,
        x2, y2);
}

static void grid_across(FILE *out, double top, double share, const char *words)
{
    line(out, LEFT, y_of(top, share), LEFT + CHART_WIDTH, y_of(top, share));
    text(out, LEFT - 8, y_of(top, share) + 4, "text-anchor=\"end\"", words);
}

static void grid_down(FILE *out, double top, double share, const char *words)
{
    line(out, x_of(share), top, x_of(share), top + CHART_HEIGHT);
    text(out, x_of(share), top + CHART_HEIGHT + 18, "text-anchor=\"middle\"", words);
}

/* 1, 2 or 5 times a power of ten: at most six steps up to `most`. */
static double step_of(double most)
{
    const double wanted = most > 0 ? most / 6 : 1;
    const double power = pow(10, floor(log10(wanted)));
    const double head = wanted / power;
    return power * (head <= 1 ? 1 : head <= 2 ? 2 : head <= 5 ? 5 : 10);
}

/* ---- Latency by percentile ---------------------------------------------------------------------
 */

/* The axis of percentiles is that of "one in so many": 1, 10, 100, ... each as far from the other.
 */
static const struct {
    double one_in;
    const char *words;
} ticks[] = {
    { 1, "0" },         { 2, "50 %" },        { 10, "90 %" },         { 100, "99 %" },
    { 1000, "99.9 %" }, { 10000, "99.99 %" }, { 100000, "99.999 %" }, { 1000000, "99.9999 %" }
};

static const struct {
    const char *name, *colour;
} curves[SL_BENCH_N_TIMES] = {
    { "first message", "#1f6feb" }, { "gap", "#d1730b" },        { "lag", "#2d9d5c" },
    { "call", "#8b48c8" },          { "late start", "#8a8f98" },
};

/* Only what stands for milliseconds of the server: late starts are there when they matter. */
static bool is_shown(const struct sl_bench_report *report, int time)
{
    const struct sl_histogram *histogram = &report->stats.times[time];
    return histogram->n > 0 && (time != SL_BENCH_LATE || histogram->max > SL_BENCH_LATE_NS);
}

/* What is below a microsecond is drawn as one: an axis of powers has no zero. */
static double shown_ms(uint64_t ns)
{
    return ns < 1000 ? 0.001 : (double)ns / 1e6;
}

static void latency_axes(const struct sl_bench_report *report, struct axis *x, struct axis *y)
{
    uint64_t n = 10;
    double least = 1e12, most = 0.001;
    for (int i = 0; i < SL_BENCH_N_TIMES; i++) {
        const struct sl_histogram *histogram = &report->stats.times[i];
        if (is_shown(report, i)) {
            n = histogram->n > n ? histogram->n : n;
            least = fmin(least, shown_ms(histogram->min));
            most = fmax(most, shown_ms(histogram->max));
        }
    }
    *x = (struct axis){ 1, fmin(pow(10, ceil(log10((double)n))), 1e6), true };
    *y =
        (struct axis){ pow(10, floor(log10(fmin(least, most)))), pow(10, ceil(log10(most))), true };
    if (y->most <= y->least) {
        y->most = y->least * 10;
    }
}

static void draw_curve(
    const struct sl_bench_report *report,
    int time,
    const struct axis *x,
    const struct axis *y,
    FILE *out)
{
    const struct sl_histogram *histogram = &report->stats.times[time];
    double last_y = 0;
    (void)fprintf(
        out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"",
        curves[time].colour);
    /* a curve ends at its last sample */
    const double end = fmin(x->most, fmax((double)histogram->n, 2));
    for (int i = 0; i <= 200; i++) {
        const double one_in = pow(end, i / 200.0);
        const uint64_t value = sl_histogram_at(histogram, i == 200 ? 1 : 1 - 1 / one_in);
        last_y = y_of(FIRST_TOP, place(y, shown_ms(value)));
        (void)fprintf(out, "%.1f,%.1f ", x_of(place(x, one_in)), last_y);
    }
    (void)fputs("\"/>\n", out);
}

/* Names stand at the right, in the colour of their curve, in the order of the list. */
static void draw_legend(const struct sl_bench_report *report, FILE *out)
{
    double y = FIRST_TOP + 12;
    for (int i = 0; i < SL_BENCH_N_TIMES; i++) {
        if (!is_shown(report, i)) {
            continue;
        }
        char words[64], attributes[64];
        (void)snprintf(attributes, sizeof(attributes), "fill=\"%s\"", curves[i].colour);
        text(out, LEFT + CHART_WIDTH + 12, y, attributes, curves[i].name);
        (void)snprintf(
            words, sizeof(words), "max %.3g ms", (double)report->stats.times[i].max / 1e6);
        text(out, LEFT + CHART_WIDTH + 12, y + 15, "fill=\"#57606a\"", words);
        y += 42;
    }
}

static void draw_latency(const struct sl_bench_report *report, FILE *out)
{
    struct axis x, y;
    latency_axes(report, &x, &y);
    text(out, LEFT, FIRST_TOP - 12, "font-weight=\"bold\"", "Latency by percentile, milliseconds");
    const int n_powers = (int)lround(log10(y.most / y.least));
    for (int i = 0; i <= n_powers; i++) {
        const double ms = y.least * pow(10, i);
        char words[32];
        (void)snprintf(words, sizeof(words), "%g", ms);
        grid_across(out, FIRST_TOP, place(&y, ms), words);
    }
    for (size_t i = 0; i < SL_COUNT(ticks) && ticks[i].one_in <= x.most; i++) {
        grid_down(out, FIRST_TOP, place(&x, ticks[i].one_in), ticks[i].words);
    }
    for (int i = 0; i < SL_BENCH_N_TIMES; i++) {
        if (is_shown(report, i)) {
            draw_curve(report, i, &x, &y, out);
        }
    }
    draw_legend(report, out);
}

/* ---- Throughput over time ----------------------------------------------------------------------
 */

static double rate_of(const struct sl_bench_point *point, bool is_calls)
{
    const double n = is_calls ? point->n_calls : point->n_messages;
    return point->seconds > 0 ? n / point->seconds : 0;
}

static void
throughput_axes(const struct sl_bench_report *report, bool is_calls, struct axis *x, struct axis *y)
{
    double seconds = 0, most = 0;
    for (size_t i = 0; i < report->series.n; i++) {
        seconds += report->series.points[i].seconds;
        most = fmax(most, rate_of(&report->series.points[i], is_calls));
    }
    const double step = step_of(most);
    *x = (struct axis){ 0, seconds > 0 ? seconds : 1, false };
    *y = (struct axis){ 0, fmax(step * ceil(most / step), step), false };
}

static void draw_throughput_grid(const struct axis *x, const struct axis *y, FILE *out)
{
    char words[32];
    const double across = step_of(y->most), down = step_of(x->most);
    const int n_across = (int)lround(y->most / across), n_down = (int)floor(x->most / down + 0.001);
    for (int i = 0; i <= n_across; i++) {
        const double rate = across * i;
        const bool is_large = y->most >= 1e6, is_thousands = !is_large && y->most >= 1e4;
        (void)snprintf(
            words, sizeof(words), "%g%s",
            rate / (is_large       ? 1e6
                    : is_thousands ? 1e3
                                   : 1),
            is_large       ? " M"
            : is_thousands ? " k"
                           : "");
        grid_across(out, SECOND_TOP, place(y, rate), words);
    }
    for (int i = 0; i <= n_down; i++) {
        (void)snprintf(words, sizeof(words), "%g s", down * i);
        grid_down(out, SECOND_TOP, place(x, down * i), words);
    }
}

/* The warm-up is shaded: what is drawn there is not in the figures. */
static void draw_warmup(const struct sl_bench_report *report, const struct axis *x, FILE *out)
{
    const double end = x_of(place(x, (double)report->plan->warmup_ms / 1000));
    if (report->plan->warmup_ms > 0) {
        (void)fprintf(
            out, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"#f0f2f5\"/>\n", LEFT,
            SECOND_TOP, end - LEFT, CHART_HEIGHT);
        text(out, LEFT + 6, SECOND_TOP + 16, "fill=\"#57606a\"", "warm-up");
    }
}

static void draw_throughput(const struct sl_bench_report *report, FILE *out)
{
    struct axis x, y;
    const bool is_calls =
        report->plan->method.kind == SL_UNARY || report->plan->method.kind == SL_CLIENT_STREAMING;
    double seconds = 0;
    throughput_axes(report, is_calls, &x, &y);
    text(
        out, LEFT, SECOND_TOP - 12, "font-weight=\"bold\"",
        is_calls ? "Calls ended a second" : "Messages a second");
    draw_warmup(report, &x, out);
    draw_throughput_grid(&x, &y, out);
    (void)fputs("<polyline fill=\"none\" stroke=\"#1f6feb\" stroke-width=\"2\" points=\"", out);
    for (size_t i = 0; i < report->series.n; i++) {
        const struct sl_bench_point *point = &report->series.points[i];
        const double middle = seconds + point->seconds / 2;
        (void)fprintf(
            out, "%.1f,%.1f ", x_of(place(&x, middle)),
            y_of(SECOND_TOP, place(&y, rate_of(point, is_calls))));
        seconds += point->seconds;
    }
    (void)fputs("\"/>\n", out);
}

/* ---- The picture -------------------------------------------------------------------------------
 */

static void draw_title(const struct sl_bench_report *report, FILE *out)
{
    const struct sl_bench_plan *plan = report->plan;
    char words[256], loop[64] = "closed loop";
    if (plan->rate > 0) {
        (void)snprintf(loop, sizeof(loop), "open loop at %" PRIu64 " calls/s", plan->rate);
    }
    (void)snprintf(words, sizeof(words), "%s on %s", plan->method.path + 1, plan->options.address);
    text(out, LEFT, 26, "font-size=\"16\" font-weight=\"bold\"", words);
    (void)snprintf(
        words, sizeof(words),
        "%" PRIu64 " streams, %" PRIu64 " connections, %s, %.1f s; %" PRIu64 " errors",
        plan->n_streams, plan->n_connections, loop, report->seconds,
        sl_bench_stats_n_errors(&report->stats));
    text(out, LEFT, 45, "fill=\"#57606a\"", words);
}

void sl_bench_write_plot(const struct sl_bench_report *report, FILE *out)
{
    char remarks[SL_BENCH_REMARKS_MAX][SL_BENCH_REMARK_BYTES];
    (void)fprintf(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d "
        "%d\" "
        "font-family=\"sans-serif\" font-size=\"12\" fill=\"#1f2328\">\n"
        "<rect width=\"%d\" height=\"%d\" fill=\"#ffffff\"/>\n",
        WIDTH, HEIGHT, WIDTH, HEIGHT, WIDTH, HEIGHT);
    draw_title(report, out);
    draw_latency(report, out);
    draw_throughput(report, out);
    if (sl_bench_remarks(report, remarks) > 0) { /* the first is the gravest */
        text(out, LEFT, HEIGHT - 12, "fill=\"#b42318\" font-size=\"10\"", remarks[0]);
    }
    (void)fputs("</svg>\n", out);
}
