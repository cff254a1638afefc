/* The flags of `sluice bench`. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "service/cli/bench/plan.h"

enum { WORDS = 80 };

static struct sl_bench_plan plan;
static const struct sl_cli_command command = {
    .name = "bench", .flags = sl_bench_flags, .n_flags = SL_BENCH_N_FLAGS, .is_remote = true
};

static enum sl_status parse(const char *const *list)
{
    char *words[WORDS];
    int n = 0;
    for (; list[n] != NULL; n++) {
        assert_true(n < WORDS);
        words[n] = sl_unconst(list[n]);
    }
    return sl_bench_plan_init(&plan, &command, n, words);
}

#define PARSE(...) parse((const char *const[]){ __VA_ARGS__, NULL })

static int tear_down(void **state)
{
    (void)state;
    sl_bench_plan_done(&plan);
    return 0;
}

static void without_anything_the_defaults_hold(void **state)
{
    (void)state;
    assert_int_equal(parse((const char *const[]){ NULL }), SL_OK);
    assert_string_equal(plan.agent, "load");
    assert_int_equal(plan.n_streams, 1);
    assert_int_equal(plan.n_connections, 1);
    assert_int_equal(plan.n_threads, 1);
    assert_int_equal(plan.duration_ms, 10000);
    assert_int_equal(plan.rate + plan.n_runs + plan.warmup_ms + plan.ramp_ms + plan.pid, 0);
    assert_false(plan.has_cancel);
}

static void every_flag_is_taken(void **state)
{
    (void)state;
    assert_int_equal(
        PARSE(
            "--streams", "300", "--connections=20", "--threads", "4", "--rate", "50", "--ramp",
            "10s", "--warmup", "2s", "--duration", "1m", "--runs", "7", "--cancel-after", "200:10",
            "--read-rate", "25:50%", "--window", "64KiB", "--gzip", "--timeout", "3s", "--pid",
            "42", "--histogram", "h.csv", "--plot", "p.svg"),
        SL_OK);
    assert_int_equal(plan.n_streams, 300);
    assert_int_equal(plan.n_connections, 20);
    assert_int_equal(plan.n_threads, 4);
    assert_int_equal(plan.rate, 50);
    assert_int_equal(plan.ramp_ms, 10000);
    assert_int_equal(plan.warmup_ms, 2000);
    assert_int_equal(plan.duration_ms, 60000);
    assert_int_equal(plan.n_runs, 7);
    assert_true(plan.has_cancel);
    assert_int_equal(plan.cancel_ms, 200);
    assert_int_equal(plan.cancel_pct, 10);
    assert_int_equal(plan.read_rate, 25);
    assert_int_equal(plan.read_pct, 50);
    assert_int_equal(plan.window_bytes, 65536);
    assert_true(plan.is_gzip);
    assert_int_equal(plan.options.timeout_ms, 3000);
    assert_int_equal(plan.pid, 42);
    assert_string_equal(plan.histogram_file, "h.csv");
    assert_string_equal(plan.plot_file, "p.svg");
}

static void headers_and_gates_may_be_repeated(void **state)
{
    (void)state;
    assert_int_equal(
        PARSE(
            "--header", "x-a: 1", "--fail-if", "errors>0", "--header=x-b:two words ",
            "--fail-if=p99_first_ms>20"),
        SL_OK);
    assert_int_equal(plan.metadata.n_items, 2);
    assert_true(sl_slice_equals(plan.metadata.items[0].key, "x-a"));
    assert_true(sl_slice_equals(plan.metadata.items[1].value, "two words"));
    assert_int_equal(plan.n_gates, 2);
    assert_string_equal(plan.gates[1].name, "p99_first_ms");
}

static void numbers_fit_together(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--threads", "3", "--streams", "10"), SL_OK);
    assert_int_equal(plan.n_connections, 3); /* each thread has one */
    sl_bench_plan_done(&plan);
    assert_int_equal(PARSE("--streams", "2", "--connections", "10"), SL_OK);
    assert_int_equal(plan.n_connections, 2); /* none without a stream */
    sl_bench_plan_done(&plan);
    assert_int_equal(PARSE("--rate", "10"), SL_OK);
    assert_int_equal(plan.n_streams, 10000); /* an open loop is not to be held back */
    sl_bench_plan_done(&plan);
    assert_int_equal(PARSE("--runs", "10"), SL_OK);
    assert_int_equal(plan.duration_ms, 0); /* until they are over */
    sl_bench_plan_done(&plan);
    assert_int_equal(PARSE("--cancel-after", "2s"), SL_OK);
    assert_int_equal(plan.cancel_ms, 2000);
    assert_int_equal(plan.cancel_pct, 100);
}

static void what_is_wrong_is_refused(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        { "--streams", "0", NULL },
        { "--streams", "200001", NULL },
        { "--connections", "x", NULL },
        { "--threads", "65", NULL },
        { "--rate", "0", NULL },
        { "--duration", "soon", NULL },
        { "--duration", "0s", NULL },
        { "--warmup", "-1s", NULL },
        { "--ramp", "", NULL },
        { "--cancel-after", ":10", NULL },
        { "--cancel-after", "5:101", NULL },
        { "--read-rate", "0", NULL },
        { "--read-rate", "5:x", NULL },
        { "--window", "0", NULL },
        { "--window", "4GiB", NULL },
        { "--pid", "0", NULL },
        { "--header", "no colon", NULL },
        { "--header", ": x", NULL },
        { "--header", "grpc-x: 1", NULL },
        { "--header", NULL, NULL },
        { "--fail-if", "x>1", NULL },
        { "--fail-if", NULL, NULL },
        { "--data", "{}", NULL },
        { "--messages", "3", NULL },
        { "--no-such", "3", NULL },
        { "word", NULL, NULL },
    };
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        assert_int_equal(parse(cases[i]), SL_INVALID_ARGUMENT);
        sl_bench_plan_done(&plan);
    }
    assert_int_equal(PARSE("--threads", "3", "--streams", "2"), SL_INVALID_ARGUMENT);
    assert_int_equal(
        PARSE("--threads", "3", "--streams", "9", "--connections", "2"), SL_INVALID_ARGUMENT);
    assert_int_equal(PARSE("--call", "a.B/C", "--agent", "load"), SL_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(without_anything_the_defaults_hold, tear_down),
        cmocka_unit_test_teardown(every_flag_is_taken, tear_down),
        cmocka_unit_test_teardown(headers_and_gates_may_be_repeated, tear_down),
        cmocka_unit_test_teardown(numbers_fit_together, tear_down),
        cmocka_unit_test_teardown(what_is_wrong_is_refused, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
