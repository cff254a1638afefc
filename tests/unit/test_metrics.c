#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"

/* All of it, terminated; free it. */
static char *scrape(void)
{
    struct sl_buf out;
    sl_buf_init(&out, SL_METRIC_TEXT_BYTES);
    assert_int_equal(sl_metrics_write(&out), SL_OK);
    char *text = sl_buf_take(&out);
    assert_non_null(text);
    return text;
}

static void assert_has(const char *text, const char *line)
{
    if (strstr(text, line) == NULL) {
        fail_msg("not there: %s", line);
    }
}

static const struct sl_series *run_series(const char *agent, const char *code)
{
    const char *const values[] = { agent, code };
    return sl_metric_series(SL_M_sluice_runs, values);
}

static void a_counter_is_written_with_help_type_and_suffix(void **state)
{
    (void)state;
    sl_metric_add(run_series("echo", "OK"), 3);
    sl_metric_add(run_series("echo", "OK"), 4);
    char *text = scrape();
    assert_has(
        text, "# HELP sluice_runs_total Runs that have ended; code OK is RunDone.\n"
              "# TYPE sluice_runs_total counter\n"
              "sluice_runs_total{agent=\"echo\",code=\"OK\"} 7\n");
    assert_has(text, "\nsluice_log_dropped_total 0\n");
    assert_has(text, "\nsluice_limits_reached_total{limit=\"runs\"} 0\n");
    (void)sl_free(text);
}

static void label_values_are_escaped(void **state)
{
    (void)state;
    sl_metric_add(run_series("a\"b\\c\nd", NULL), 1);
    char *text = scrape();
    assert_has(text, "\nsluice_runs_total{agent=\"a\\\"b\\\\c\\nd\",code=\"\"} 1\n");
    (void)sl_free(text);
}

static void a_label_value_that_is_too_long_is_cut(void **state)
{
    (void)state;
    char longest[4 * SL_METRIC_LABEL_BYTES];
    memset(longest, '"', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    const struct sl_series *series = run_series(longest, longest);
    assert_true(strlen(series->labels) < SL_METRIC_LABEL_BYTES);
    assert_ptr_equal(series, run_series(longest, longest));
}

static void a_gauge_may_go_down_and_be_set(void **state)
{
    (void)state;
    SL_METRIC_ADD(sluice_runs_active, 2, "echo");
    SL_METRIC_ADD(sluice_runs_active, -5, "echo");
    SL_METRIC_SET(sluice_connections, 8, NULL);
    SL_METRIC_SET(sluice_connections, 5, NULL);
    char *text = scrape();
    assert_has(text, "\nsluice_runs_active{agent=\"echo\"} -3\n");
    assert_has(text, "\nsluice_connections 5\n");
    (void)sl_free(text);
}

static void a_histogram_is_cumulative_and_counts_itself(void **state)
{
    (void)state;
    const uint64_t ms = 1000000;
    const uint64_t values[] = { 0, 5 * ms, 5 * ms + 1, 10 * ms, 7200000 * ms };
    for (size_t i = 0; i < SL_COUNT(values); i++) {
        SL_METRIC_OBSERVE(sluice_run_duration_seconds, values[i], NULL);
    }
    char *text = scrape();
    assert_has(
        text, "# TYPE sluice_run_duration_seconds histogram\n"
              "sluice_run_duration_seconds_bucket{le=\"0.005\"} 2\n"
              "sluice_run_duration_seconds_bucket{le=\"0.01\"} 4\n");
    assert_has(
        text, "sluice_run_duration_seconds_bucket{le=\"3600\"} 4\n"
              "sluice_run_duration_seconds_bucket{le=\"+Inf\"} 5\n"
              "sluice_run_duration_seconds_sum 7200.020000001\n"
              "sluice_run_duration_seconds_count 5\n");
    (void)sl_free(text);
}

static void a_limit_has_a_counter(void **state)
{
    (void)state;
    sl_limit_reached(SL_LIMIT_heartbeat);
    sl_limit_reached(SL_LIMIT_heartbeat);
    char *text = scrape();
    assert_has(text, "\nsluice_limits_reached_total{limit=\"heartbeat\"} 2\n");
    (void)sl_free(text);
}

enum { THREADS = 40, ADDS = 2000 }; /* more threads than shards */

static void *count_in_thread(void *user_data)
{
    const char *agents[] = { "thread-a", "thread-b", "thread-c" };
    (void)user_data;
    for (int i = 0; i < ADDS; i++) {
        sl_metric_add(run_series(agents[i % 3], "OK"), 1);
        SL_METRIC_OBSERVE(sluice_cancel_duration_seconds, (uint64_t)i, NULL);
    }
    return NULL;
}

static void nothing_is_lost_between_threads(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, count_in_thread, NULL), 0);
    }
    char *meanwhile = scrape();
    (void)sl_free(meanwhile);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    const uint64_t n = sl_metric_value(run_series("thread-a", "OK")) +
                       sl_metric_value(run_series("thread-b", "OK")) +
                       sl_metric_value(run_series("thread-c", "OK"));
    assert_int_equal(n, THREADS * ADDS);
    const struct sl_series *histogram = sl_metric_series(SL_M_sluice_cancel_duration_seconds, NULL);
    assert_int_equal(sl_metric_value(histogram), THREADS * ADDS);
}

/* The last test: it uses the room of its metric up. */
static void too_many_label_values_are_other(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * SL_METRIC_SERIES; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "agent-%d", i);
        SL_METRIC_ADD(sluice_runs_detached, 1, name);
    }
    const char *const other[] = { "other" };
    const uint64_t n = sl_metric_value(sl_metric_series(SL_M_sluice_runs_detached, other));
    assert_int_equal(n, SL_METRIC_SERIES + 1);
    char *text = scrape();
    assert_has(text, "\nsluice_runs_detached{agent=\"other\"} 1025\n");
    (void)sl_free(text);
}

/* Names as Prometheus and its linter want them: "promtool check metrics". */
static void every_metric_is_well_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_METRIC_COUNT; i++) {
        const struct sl_metric_info *info = &sl_metric_infos[i];
        const size_t size = strlen(info->name);
        const bool has_total = size > 6 && strcmp(info->name + size - 6, "_total") == 0;
        assert_int_equal(strspn(info->name, "abcdefghijklmnopqrstuvwxyz_"), size);
        assert_int_equal(has_total, info->kind == SL_METRIC_COUNTER);
        assert_true(!has_total || strstr(info->name, "_total") == info->name + size - 6);
        assert_int_equal(info->unit == SL_METRIC_NS, strstr(info->name, "_seconds") != NULL);
        assert_int_equal(info->kind == SL_METRIC_HISTOGRAM, info->n_bounds > 0);
        assert_true(strcspn(info->text, "\n\\") == strlen(info->text));
        for (uint32_t k = 1; k < info->n_bounds; k++) {
            assert_true(info->bounds[k - 1] < info->bounds[k]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_counter_is_written_with_help_type_and_suffix),
        cmocka_unit_test(label_values_are_escaped),
        cmocka_unit_test(a_label_value_that_is_too_long_is_cut),
        cmocka_unit_test(a_gauge_may_go_down_and_be_set),
        cmocka_unit_test(a_histogram_is_cumulative_and_counts_itself),
        cmocka_unit_test(a_limit_has_a_counter),
        cmocka_unit_test(nothing_is_lost_between_threads),
        cmocka_unit_test(every_metric_is_well_named),
        cmocka_unit_test(too_many_label_values_are_other),
    };
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
