/* What processes used: of this one, two ways that must agree. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "service/cli/bench/usage.h"

static void proc_and_getrusage_agree(void **state)
{
    (void)state;
    struct sl_bench_usage usage = { 0 };
    struct sl_error err = { 0 };
    volatile uint64_t work = 0;
    for (int i = 0; i < 100000000 && sl_bench_usage_own().user_s < 0.1; i++) {
        work += (uint64_t)i;
    }
    assert_true(work > 0);
    const struct sl_bench_usage before = sl_bench_usage_own();
    assert_int_equal(sl_bench_usage_read((uint64_t)getpid(), &usage, &err), SL_OK);
    const struct sl_bench_usage after = sl_bench_usage_own();
    const double cpu = usage.user_s + usage.system_s; /* right to two ticks */
    assert_true(cpu >= before.user_s + before.system_s - 0.03);
    assert_true(cpu <= after.user_s + after.system_s + 0.03);
    assert_true(usage.rss_peak_kib > 1000);
}

static void a_process_that_is_not_there_is_told(void **state)
{
    (void)state;
    struct sl_bench_usage usage = { .user_s = 1 };
    struct sl_error err = { 0 };
    assert_int_equal(sl_bench_usage_read(2147483646, &usage, &err), SL_UNAVAILABLE);
    assert_non_null(strstr(err.text, "--pid: /proc/2147483646/stat is not readable: No such"));
    assert_true(usage.user_s >= 1);
}

static void clocks_go_on(void **state)
{
    (void)state;
    const uint64_t cpu_ns = sl_bench_usage_thread_ns(), now_ns = sl_bench_now_ns();
    assert_true(cpu_ns > 0);
    assert_true(now_ns > 0);
    assert_true(sl_bench_usage_thread_ns() >= cpu_ns);
    assert_true(sl_bench_now_ns() >= now_ns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(proc_and_getrusage_agree),
        cmocka_unit_test(a_process_that_is_not_there_is_told),
        cmocka_unit_test(clocks_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
