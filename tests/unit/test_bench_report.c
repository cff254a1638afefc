/* The report of a fixed input: each figure, and each form in which it is written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "service/cli/bench/report.h"

enum { TEXT_BYTES = 262144 };

static const uint64_t MS = 1000000;

static struct sl_bench_report report;
static struct sl_bench_plan plan;
static char text[TEXT_BYTES];

static int set_up(void **state)
{
    (void)state;
    memset(&report, 0, sizeof(report));
    plan =
        (struct sl_bench_plan){ .options = { .address = "127.0.0.1:50051" },
                                .n_streams = 10,
                                .n_connections = 2,
                                .n_threads = 1,
                                .is_run = true,
                                .method = { .path = "/pkg.Svc/M", .kind = SL_SERVER_STREAMING } };
    report.plan = &plan;
    report.seconds = 4;
    report.n_messages = 1000000;
    report.n_bytes = 50000000;
    report.n_ended = 200;
    report.stats.by_status[SL_OK] = 195;
    report.stats.by_status[SL_UNAVAILABLE] = 5;
    (void)snprintf(
        report.stats.first_error, sizeof(report.stats.first_error), "UNAVAILABLE: \x1b[31m<&>");
    for (uint64_t i = 1; i <= 1000; i++) {
        sl_histogram_add(&report.stats.times[SL_BENCH_FIRST], i * MS / 10);
    }
    sl_histogram_add(&report.stats.times[SL_BENCH_CALL], 50 * MS);
    report.has_server = true;
    report.server = (struct sl_bench_usage){ 0.25, 0.75, 50000 };
    report.client = (struct sl_bench_usage){ 1, 1, 10000 };
    report.busy = 0.5;
    return 0;
}

static double figure(const char *name)
{
    double value = -1;
    assert_true(sl_bench_figure_exists(name));
    assert_true(sl_bench_figure(&report, name, &value));
    return value;
}

static void assert_figure(const char *name, double wanted, double precision)
{
    const double value = figure(name);
    if (value < wanted * (1 - precision) || value > wanted * (1 + precision)) {
        fail_msg("%s is %f, not %f", name, value, wanted);
    }
}

static void figures_are_what_the_input_says(void **state)
{
    (void)state;
    const double exact = 1e-9, bucket = 1.0 / 128;
    assert_figure("messages_per_s", 250000, exact);
    assert_figure("bytes_per_s", 12500000, exact);
    assert_figure("calls_per_s", 50, exact);
    assert_figure("calls", 200, exact);
    assert_figure("errors", 5, exact);
    assert_figure("error_pct", 2.5, exact);
    assert_figure("cpu_us_per_message", 1, exact);
    assert_figure("rss_mb", 51.2, exact);
    assert_figure("client_cpu_s", 2, exact);
    assert_figure("client_busy_pct", 50, exact);
    assert_figure("p50_first_ms", 50, bucket);
    assert_figure("p90_first_ms", 90, bucket);
    assert_figure("p99_first_ms", 99, bucket);
    assert_figure("p999_first_ms", 99.9, bucket);
    assert_figure("p9999_first_ms", 100, bucket);
    assert_figure("max_first_ms", 100, exact);
    assert_figure("mean_first_ms", 50.05, exact);
    assert_figure("max_call_ms", 50, exact);
    assert_int_equal(figure("gaps"), 0);
}

static void what_was_not_measured_has_no_value(void **state)
{
    (void)state;
    static const char *const names[] = { "p50_lag_ms",     "max_gap_ms",         "stream_limit",
                                         "starved_starts", "cpu_us_per_message", "rss_mb",
                                         "gaps",           "duplicates" };
    report.has_server = false;
    plan.is_run = false;
    for (size_t i = 0; i < SL_COUNT(names); i++) {
        double value;
        assert_true(sl_bench_figure_exists(names[i]));
        assert_false(sl_bench_figure(&report, names[i], &value));
    }
    assert_false(sl_bench_figure_exists("p98_first_ms"));
    assert_false(sl_bench_figure_exists("p99_"));
    assert_false(sl_bench_figure_exists(""));
}

static void every_listed_name_exists_and_stands_once(void **state)
{
    (void)state;
    char rooms[200][SL_BENCH_NAME_BYTES];
    size_t n = 0;
    const char *name;
    for (; (name = sl_bench_figure_name(n, rooms[n])) != NULL; n++) {
        assert_true(n < SL_COUNT(rooms) - 1);
        assert_true(sl_bench_figure_exists(name));
        (void)memmove(rooms[n], name, strlen(name) + 1);
        for (size_t i = 0; i < n; i++) {
            assert_string_not_equal(rooms[i], rooms[n]);
        }
    }
    assert_true(n > 40);
}

static void add_gate(const char *expression)
{
    struct sl_error err;
    assert_int_equal(
        sl_bench_gate_parse(expression, sl_bench_figure_exists, &plan.gates[plan.n_gates++], &err),
        SL_OK);
}

static void gates_judge_by_the_figures(void **state)
{
    (void)state;
    char why[SL_BENCH_REMARK_BYTES];
    add_gate("errors>4");
    add_gate("errors>5");
    add_gate("p99_lag_ms>1000");
    assert_true(sl_bench_gate_is_broken(&report, 0, why));
    assert_string_equal(why, "errors>4: errors is 5");
    assert_false(sl_bench_gate_is_broken(&report, 1, why));
    assert_true(sl_bench_gate_is_broken(&report, 2, why));
    assert_string_equal(why, "p99_lag_ms>1000: p99_lag_ms was not measured");
}

/* ---- Remarks ----------------------------------------------------------------------------------
 */

static void assert_remark(const char *words)
{
    char remarks[SL_BENCH_REMARKS_MAX][SL_BENCH_REMARK_BYTES];
    const size_t n = sl_bench_remarks(&report, remarks);
    for (size_t i = 0; i < n; i++) {
        if (strstr(remarks[i], words) != NULL) {
            return;
        }
    }
    fail_msg("no remark says '%s'", words);
}

static void a_sound_measurement_has_no_remarks(void **state)
{
    (void)state;
    char remarks[SL_BENCH_REMARKS_MAX][SL_BENCH_REMARK_BYTES];
    sl_histogram_add_n(&report.stats.times[SL_BENCH_LATE], 9 * MS, 1000);
    assert_int_equal(sl_bench_remarks(&report, remarks), 0);
    assert_false(sl_bench_is_client_limited(&report));
}

static void a_busy_or_late_client_is_named_as_the_bottleneck(void **state)
{
    (void)state;
    report.busy = 0.91;
    assert_true(sl_bench_is_client_limited(&report));
    assert_remark("The CLIENT was the bottleneck: its loop was busy 91 %");
    report.busy = 0.5;
    sl_histogram_add_n(&report.stats.times[SL_BENCH_LATE], 0, 98);
    sl_histogram_add_n(&report.stats.times[SL_BENCH_LATE], 11 * MS, 1);
    assert_true(sl_bench_is_client_limited(&report));
    assert_remark("1 of 99 calls were started over 10 ms late");
    sl_histogram_add_n(&report.stats.times[SL_BENCH_LATE], 0, 1);
    assert_false(sl_bench_is_client_limited(&report)); /* one in a hundred moves no p99 */
    assert_remark("at most 11.0 ms");
}

static void limits_that_were_reached_are_named(void **state)
{
    (void)state;
    report.n_limit_waits = 30;
    report.stream_limit = 100;
    report.stats.n_starved = 4;
    report.stats.n_unfinished = 3;
    report.is_lost = report.is_interrupted = true;
    assert_remark("30 calls waited because a connection may have 100");
    assert_remark("4 calls were due while all 10 streams were in use");
    assert_remark("3 calls were not over");
    assert_remark("The server went away");
    assert_remark("Interrupted");
}

/* ---- Forms ------------------------------------------------------------------------------------
 */

static const char *written(void (*write_it)(const struct sl_bench_report *report, FILE *out))
{
    FILE *file = fmemopen(text, sizeof(text), "w");
    assert_non_null(file);
    write_it(&report, file);
    assert_int_equal(fclose(file), 0);
    assert_true(strlen(text) + 1 < sizeof(text));
    return text;
}

static void the_text_has_everything_and_cannot_move_the_cursor(void **state)
{
    (void)state;
    static const char *const words[] = {
        "pkg.Svc/M on 127.0.0.1:50051, 1 thread, closed loop",
        "200 runs on 10 streams and 2 connections in 4.00 s (50.0 a second",
        "1000000 messages (250000 a second), 50.0 MB (12.50 MB a second)",
        "first message",
        "0 gaps, 0 duplicates",
        "UNAVAILABLE          5",
        "CPU 0.25 s user, 0.75 s system, 1.000 us a message",
        "busiest loop 50 %"
    };
    const char *found = written(sl_bench_write_text);
    for (size_t i = 0; i < SL_COUNT(words); i++) {
        if (strstr(found, words[i]) == NULL) {
            fail_msg("'%s' is not in:\n%s", words[i], found);
        }
    }
    assert_null(strchr(found, '\x1b'));
}

static void the_json_has_every_figure_by_its_name(void **state)
{
    (void)state;
    add_gate("errors>4");
    json_t *json = json_loads(written(sl_bench_write_json), JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    char room[SL_BENCH_NAME_BYTES];
    const char *name;
    for (size_t i = 0; (name = sl_bench_figure_name(i, room)) != NULL; i++) {
        double value;
        const json_t *member = json_object_get(json, name);
        assert_non_null(member);
        assert_int_equal(json_is_null(member), !sl_bench_figure(&report, name, &value));
    }
    assert_int_equal(json_integer_value(json_object_get(json, "messages")), 1000000);
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(json, "status"), "UNAVAILABLE")), 5);
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(json, "failed"), 0)), "errors>4");
    assert_true(json_is_false(json_object_get(json, "client_is_bottleneck")));
    json_decref(json);
}

/* The n-th of the fields of a line, from 0. */
static struct sl_slice field_of(const char *line, int n)
{
    for (; n > 0; n--) {
        line = strchr(line, ',') + 1;
    }
    return sl_slice_of(line, strcspn(line, ",\n"));
}

static double number_of(const char *line, int n)
{
    double value;
    assert_int_equal(sl_parse_double(field_of(line, n), &value), SL_OK);
    return value;
}

static void the_histograms_add_up_to_all_samples(void **state)
{
    (void)state;
    const char *at = written(sl_bench_write_histogram);
    double n_first = 0, last_ms = 0;
    assert_int_equal(strncmp(at, "time,value_ms,count,percentile\n", 31), 0);
    while ((at = strchr(at, '\n')) != NULL && *++at != '\0') {
        if (sl_slice_equals(field_of(at, 0), "first_ms")) {
            n_first += number_of(at, 2);
            assert_true(number_of(at, 1) > last_ms);
            assert_true(number_of(at, 3) >= n_first / 10 - 0.001);
            assert_true(number_of(at, 3) <= n_first / 10 + 0.001);
            last_ms = number_of(at, 1);
        }
    }
    assert_int_equal(n_first, 1000);
    assert_true(last_ms >= 100 && last_ms <= 100);
}

static void the_picture_is_drawn_also_of_nothing(void **state)
{
    (void)state;
    assert_non_null(strstr(written(sl_bench_write_plot), "first message"));
    const struct sl_bench_point point = { 0.1, 1000, 2, 0 };
    sl_bench_series_add(&report.series, &point);
    report.busy = 1;
    assert_non_null(strstr(written(sl_bench_write_plot), "The CLIENT was the bottleneck"));
    memset(&report.stats, 0, sizeof(report.stats));
    memset(&report.series, 0, sizeof(report.series));
    const char *found = written(sl_bench_write_plot);
    assert_non_null(strstr(found, "</svg>"));
    assert_null(strstr(found, "nan"));
    assert_null(strstr(found, "inf"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(figures_are_what_the_input_says, set_up),
        cmocka_unit_test_setup(what_was_not_measured_has_no_value, set_up),
        cmocka_unit_test_setup(every_listed_name_exists_and_stands_once, set_up),
        cmocka_unit_test_setup(gates_judge_by_the_figures, set_up),
        cmocka_unit_test_setup(a_sound_measurement_has_no_remarks, set_up),
        cmocka_unit_test_setup(a_busy_or_late_client_is_named_as_the_bottleneck, set_up),
        cmocka_unit_test_setup(limits_that_were_reached_are_named, set_up),
        cmocka_unit_test_setup(the_text_has_everything_and_cannot_move_the_cursor, set_up),
        cmocka_unit_test_setup(the_json_has_every_figure_by_its_name, set_up),
        cmocka_unit_test_setup(the_histograms_add_up_to_all_samples, set_up),
        cmocka_unit_test_setup(the_picture_is_drawn_also_of_nothing, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
