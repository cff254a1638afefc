/* Who is next, and how long it takes (reliability 5.1, RL-O1, RL-O4). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/directory_queue.h"

enum { START_MS = 1000 };

static struct sl_directory_queue queue;
static struct sl_queue_line acme, beta, ceta;
static struct sl_ticket tickets[16];

static int set_up(void **state)
{
    (void)state;
    sl_directory_queue_init(&queue);
    sl_queue_line_init(&acme);
    sl_queue_line_init(&beta);
    sl_queue_line_init(&ceta);
    sl_directory_queue_tick(&queue, START_MS * SL_NS_PER_MS);
    for (size_t i = 0; i < SL_COUNT(tickets); i++) {
        tickets[i] = (struct sl_ticket){ .state = SL_TICKET_WAITING };
    }
    return 0;
}

static void add(size_t i, struct sl_queue_line *line)
{
    sl_directory_queue_add(&queue, line, &tickets[i]);
}

static void tick(uint64_t ms)
{
    sl_directory_queue_tick(&queue, (START_MS + ms) * SL_NS_PER_MS);
}

/* -1: nobody. */
static int next_of(uint64_t max_runs)
{
    const struct sl_ticket *ticket = sl_directory_queue_next(&queue, max_runs);
    return ticket == NULL ? -1 : (int)(ticket - tickets);
}

static void of_one_tenant_the_first_is_first(void **state)
{
    (void)state;
    assert_int_equal(next_of(10), -1);
    add(0, &acme);
    add(1, &acme);
    add(2, &acme);
    sl_directory_queue_remove(&queue, &tickets[1]);
    assert_int_equal(next_of(10), 0);
    assert_int_equal(next_of(10), 2);
    assert_int_equal(next_of(10), -1);
}

/* RL-O4: how many one has sent is no reason for another to wait. */
static void tenants_take_turns(void **state)
{
    (void)state;
    add(0, &acme);
    add(1, &acme);
    add(2, &acme);
    add(3, &acme);
    add(4, &beta);
    add(5, &beta);
    add(6, &ceta);
    static const int expected[] = { 0, 4, 6, 1, 5, 2, 3, -1 };
    for (size_t i = 0; i < SL_COUNT(expected); i++) {
        assert_int_equal(next_of(100), expected[i]);
    }
}

/* A tenant that leaves the queue and comes again is behind the others. */
static void a_turn_is_not_kept(void **state)
{
    (void)state;
    add(0, &acme);
    add(1, &beta);
    add(2, &beta);
    assert_int_equal(next_of(100), 0);
    add(3, &acme);
    assert_int_equal(next_of(100), 1);
    assert_int_equal(next_of(100), 3);
    assert_int_equal(next_of(100), 2);
}

static void who_has_half_of_the_slots_waits_for_the_others(void **state)
{
    (void)state;
    acme.n_running = 5;
    add(0, &acme);
    add(1, &beta);
    add(2, &beta);
    assert_int_equal(next_of(10), 1);
    assert_int_equal(next_of(10), 2);
    assert_int_equal(next_of(10), 0); /* nobody else waits */
    add(3, &acme);
    add(4, &beta);
    acme.n_running = 4;
    assert_int_equal(next_of(10), 3); /* less than half */
}

static void a_slot_is_not_left_empty_because_all_have_their_half(void **state)
{
    (void)state;
    acme.n_running = beta.n_running = 1;
    add(0, &acme);
    add(1, &beta);
    assert_int_equal(next_of(3), 0);
    acme.n_running = beta.n_running = 0;
    add(2, &acme);
    assert_int_equal(next_of(1), 1); /* half of one is one */
}

/* ---- A slow queue -----------------------------------------------------------------------------
 */

static void in_a_slow_queue_the_newest_is_first(void **state)
{
    (void)state;
    add(0, &acme);
    add(1, &acme);
    tick(501);
    tick(5501);
    add(2, &acme);
    assert_false(tickets[2].is_short); /* slow for 5,000 ms, and not longer */
    tick(5502);
    add(3, &acme);
    assert_true(tickets[3].is_short);
    assert_int_equal(next_of(10), 3);
    assert_int_equal(next_of(10), 2);
    assert_int_equal(next_of(10), 1);
    add(4, &acme);
    assert_true(tickets[4].is_short); /* until nobody waits */
    assert_int_equal(next_of(10), 4);
    assert_int_equal(next_of(10), 0);
    add(5, &acme);
    add(6, &acme);
    assert_false(tickets[5].is_short);
    assert_int_equal(next_of(10), 5);
}

static void a_queue_that_moves_is_not_slow(void **state)
{
    (void)state;
    add(0, &acme);
    tick(501);
    add(1, &acme);
    assert_int_equal(next_of(10), 0);
    tick(1001); /* exactly 500 ms */
    tick(6002);
    add(2, &acme);
    assert_false(tickets[2].is_short); /* it has been slow since 6,002 */
    assert_int_equal(next_of(10), 1);
}

/* Tenants take turns all the same. */
static void newest_first_is_within_a_tenant(void **state)
{
    (void)state;
    add(0, &acme);
    add(1, &beta);
    tick(501);
    tick(5502);
    add(2, &acme);
    add(3, &beta);
    static const int expected[] = { 2, 3, 0, 1 };
    for (size_t i = 0; i < SL_COUNT(expected); i++) {
        assert_int_equal(next_of(10), expected[i]);
    }
}

static void clocks_of_loops_may_differ(void **state)
{
    (void)state;
    tick(100);
    add(0, &acme);
    tick(50);
    add(1, &acme);
    assert_int_equal(tickets[1].since_ns, (START_MS + 100) * SL_NS_PER_MS);
    assert_int_equal(next_of(10), 0);
}

/* ---- How long ---------------------------------------------------------------------------------
 */

static void free_at(uint64_t ms)
{
    tick(ms);
    sl_directory_queue_freed(&queue);
}

static void the_wait_follows_the_time_between_free_slots(void **state)
{
    (void)state;
    add(0, &acme);
    assert_int_equal(sl_directory_queue_wait_ms(&queue, 1), 0);
    free_at(0);
    assert_int_equal(sl_directory_queue_wait_ms(&queue, 1), 0); /* one is no gap */
    free_at(80);
    assert_int_equal(sl_directory_queue_wait_ms(&queue, 0), 80);
    assert_int_equal(sl_directory_queue_wait_ms(&queue, 9), 800);
    free_at(240); /* a gap of 160: 7/8 of 80 and 1/8 of 160 */
    assert_int_equal(sl_directory_queue_wait_ms(&queue, 0), 90);
    assert_true(sl_directory_queue_wait_ms(&queue, UINT64_MAX - 1) == UINT64_MAX);
}

static void a_time_without_a_queue_is_no_gap(void **state)
{
    (void)state;
    add(0, &acme);
    free_at(0);
    free_at(80);
    assert_int_equal(next_of(10), 0);
    free_at(100);
    add(1, &acme);
    free_at(100000);
    assert_int_equal(sl_directory_queue_wait_ms(&queue, 0), 80);
    free_at(100080);
    assert_int_equal(sl_directory_queue_wait_ms(&queue, 0), 80);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup(name, set_up)
    const struct CMUnitTest tests[] = {
        CASE(of_one_tenant_the_first_is_first),
        CASE(tenants_take_turns),
        CASE(a_turn_is_not_kept),
        CASE(who_has_half_of_the_slots_waits_for_the_others),
        CASE(a_slot_is_not_left_empty_because_all_have_their_half),
        CASE(in_a_slow_queue_the_newest_is_first),
        CASE(a_queue_that_moves_is_not_slow),
        CASE(newest_first_is_within_a_tenant),
        CASE(clocks_of_loops_may_differ),
        CASE(the_wait_follows_the_time_between_free_slots),
        CASE(a_time_without_a_queue_is_no_gap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
