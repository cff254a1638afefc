/* The watchdog over loops that turn only when the test lets them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/log.h"
#include "service/watchdog.h"
#include "tests/fake/fake_loop.h"

enum { N_LOOPS = 3, PERIODS = 8, SEEN_BYTES = 4096 };

static struct sl_fake_loop fakes[N_LOOPS];
static struct sl_watchdog watchdog;
static uint64_t now_ms;
static char seen[SEEN_BYTES]; /* of the log */
static size_t n_seen;

static void sink(const char *line, size_t size, void *user_data)
{
    (void)user_data;
    if (n_seen + size < sizeof(seen)) {
        memcpy(seen + n_seen, line, size);
        n_seen += size;
    }
}

static int set_up(void **state)
{
    (void)state;
    struct sl_loop *loops[N_LOOPS];
    for (size_t i = 0; i < N_LOOPS; i++) {
        sl_fake_loop_init(&fakes[i]);
        loops[i] = &fakes[i].base;
    }
    memset(seen, 0, sizeof(seen));
    n_seen = 0;
    now_ms = 1000;
    sl_log_set_sink(sink, NULL);
    assert_int_equal(sl_watchdog_init(&watchdog, loops, N_LOOPS), SL_OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_LOOPS; i++) {
        fakes[i].holds_jobs = false;
        (void)sl_fake_loop_run(&fakes[i]);
        sl_fake_loop_done(&fakes[i]);
    }
    sl_watchdog_done(&watchdog);
    sl_log_set_sink(NULL, NULL);
    return 0;
}

/* All but this one. */
static void turn_all_but(size_t hung)
{
    for (size_t i = 0; i < N_LOOPS; i++) {
        assert_true(i == hung || sl_fake_loop_run(&fakes[i]));
    }
}

static enum sl_watchdog_verdict tick(void)
{
    const int wait_ms = sl_watchdog_wait_ms(&watchdog, now_ms);
    assert_true(wait_ms >= 0);
    now_ms += (uint64_t)wait_ms;
    return sl_watchdog_tick(&watchdog, now_ms);
}

static void it_is_off_until_somebody_wants_it(void **state)
{
    (void)state;
    sl_watchdog_set(&watchdog, 0, 0);
    assert_int_equal(sl_watchdog_wait_ms(&watchdog, now_ms), -1);
    assert_int_equal(sl_watchdog_tick(&watchdog, now_ms), SL_WATCHDOG_QUIET);
    assert_false(sl_loop_has_work(&fakes[0].base));
}

static void a_period_is_an_eighth_of_the_shorter_time(void **state)
{
    (void)state;
    static const struct {
        uint64_t manager_ms, limit_ms;
        int wait_ms;
        uint64_t n_most;
    } cases[] = { { 10000, 0, 1250, 8 },
                  { 0, 800, 100, 8 },
                  { 10000, 60000, 1250, 48 },
                  { 10000, 4000, 500, 8 },
                  { 8, 0, 10, 8 } };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        sl_watchdog_set(&watchdog, cases[i].manager_ms, cases[i].limit_ms);
        assert_int_equal(sl_watchdog_wait_ms(&watchdog, now_ms), 0);
        (void)sl_watchdog_tick(&watchdog, now_ms);
        turn_all_but(N_LOOPS);
        assert_int_equal(sl_watchdog_wait_ms(&watchdog, now_ms), cases[i].wait_ms);
        assert_int_equal(watchdog.n_most, cases[i].n_most);
    }
}

static void it_is_alive_while_every_loop_and_the_pool_answer(void **state)
{
    (void)state;
    sl_watchdog_set(&watchdog, 8000, 0);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(tick(), SL_WATCHDOG_ALIVE);
        assert_int_equal(sl_watchdog_tick(&watchdog, now_ms), SL_WATCHDOG_QUIET); /* not due */
        turn_all_but(N_LOOPS);
    }
    assert_int_equal(fakes[0].n_jobs, 100);
    assert_int_equal(fakes[1].n_jobs, 0);
    assert_string_equal(seen, "");
}

static void a_loop_that_hangs_is_named_and_never_alive(void **state)
{
    (void)state;
    sl_watchdog_set(&watchdog, 8000, 0);
    assert_int_equal(tick(), SL_WATCHDOG_ALIVE);
    for (int i = 1; i < PERIODS; i++) {
        turn_all_but(2);
        assert_int_equal(tick(), SL_WATCHDOG_QUIET);
        assert_int_equal(strstr(seen, "does not answer") != NULL, i >= PERIODS / 2);
    }
    assert_int_equal(tick(), SL_WATCHDOG_HUNG);
    assert_non_null(strstr(seen, "msg=\"hung\" part=loop loop=2 waited_ms=8000"));
}

static void a_loop_that_comes_back_in_time_is_forgiven(void **state)
{
    (void)state;
    sl_watchdog_set(&watchdog, 8000, 0);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(tick(), SL_WATCHDOG_ALIVE);
        for (int i = 1; i < PERIODS; i++) {
            assert_int_equal(tick(), SL_WATCHDOG_QUIET);
        }
        turn_all_but(N_LOOPS);
    }
    assert_int_equal(tick(), SL_WATCHDOG_ALIVE);
}

static void a_pool_that_hangs_is_named(void **state)
{
    (void)state;
    sl_watchdog_set(&watchdog, 8000, 0);
    fakes[0].holds_jobs = true;
    assert_int_equal(tick(), SL_WATCHDOG_ALIVE);
    for (int i = 1; i < PERIODS; i++) {
        turn_all_but(N_LOOPS);
        assert_int_equal(tick(), SL_WATCHDOG_QUIET);
    }
    turn_all_but(N_LOOPS);
    assert_int_equal(tick(), SL_WATCHDOG_HUNG);
    assert_non_null(strstr(seen, "msg=\"hung\" part=pool"));
    sl_fake_loop_end_jobs(&fakes[0]);
}

static void a_first_loop_that_hangs_is_not_taken_for_the_pool(void **state)
{
    (void)state;
    sl_watchdog_set(&watchdog, 8000, 0);
    fakes[0].holds_jobs = true; /* it hangs between its own answer and the pool's */
    assert_int_equal(tick(), SL_WATCHDOG_ALIVE);
    turn_all_but(N_LOOPS);
    for (int i = 1; i < PERIODS; i++) {
        assert_int_equal(tick(), SL_WATCHDOG_QUIET);
        turn_all_but(0);
    }
    assert_int_equal(tick(), SL_WATCHDOG_HUNG);
    assert_null(strstr(seen, "pool"));
    assert_non_null(strstr(seen, "msg=\"hung\" part=loop loop=0"));
    sl_fake_loop_end_jobs(&fakes[0]);
}

/* X10 */
static void time_in_which_nothing_ran_is_one_tick(void **state)
{
    (void)state;
    sl_watchdog_set(&watchdog, 8000, 0);
    assert_int_equal(tick(), SL_WATCHDOG_ALIVE);
    for (int i = 1; i < PERIODS; i++) {
        now_ms += 3600000;
        assert_int_equal(tick(), SL_WATCHDOG_QUIET);
    }
    turn_all_but(N_LOOPS);
    assert_int_equal(tick(), SL_WATCHDOG_ALIVE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_is_off_until_somebody_wants_it),
        TEST(a_period_is_an_eighth_of_the_shorter_time),
        TEST(it_is_alive_while_every_loop_and_the_pool_answer),
        TEST(a_loop_that_hangs_is_named_and_never_alive),
        TEST(a_loop_that_comes_back_in_time_is_forgiven),
        TEST(a_pool_that_hangs_is_named),
        TEST(a_first_loop_that_hangs_is_not_taken_for_the_pool),
        TEST(time_in_which_nothing_ran_is_one_tick),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
