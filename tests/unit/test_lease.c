/* The lease of a process on its runs: when it is renewed, how long it is good, and what a run does
 * not start without it (RL-4.2). */
#include "runtime/exec/lease.h"
#include "tests/unit/test_record_rig.h"

enum { LEASE_MS = 15000, GOOD_MS = 10000 };

static struct sl_lease *lease;
static size_t n_held;
static size_t n_good;

static void hold(void *user_data)
{
    (void)user_data;
    n_held++;
}

static void release(void *user_data)
{
    (void)user_data;
    assert_true(n_held > 0);
    n_held--;
}

static void make_lease(struct sl_loop *loop)
{
    const struct sl_lease_options options = {
        .store = &store.base, .loops = &loop, .n_loops = 1, .hold = hold, .release = release
    };
    assert_int_equal(sl_lease_new(&options, &lease), SL_OK);
}

/* ---- The lease alone ---------------------------------------------------------------------------
 */

static struct sl_fake_loop loop;

static void open_lease(uint64_t lease_ms)
{
    sl_fake_loop_init(&loop);
    sl_fake_store_init(&store);
    store.lease_ms = lease_ms;
    make_lease(&loop.base);
    sl_lease_start(lease);
    assert_true(sl_fake_loop_run(&loop));
}

static void close_lease(void)
{
    sl_lease_stop(lease);
    assert_true(sl_fake_loop_run(&loop));
    assert_int_equal(n_held, 0);
    lease = sl_lease_free(lease);
    sl_fake_store_done(&store);
    sl_fake_loop_done(&loop);
}

static void on_good(struct sl_lease_waiter *waiter)
{
    (void)waiter;
    n_good++;
}

static bool is_good(void)
{
    struct sl_lease_waiter waiter = { .on_good = on_good };
    const bool is_it = sl_lease_await(sl_lease_at(lease, 0), &waiter);
    sl_lease_forget(&waiter);
    return is_it;
}

static void a_lease_is_renewed_every_five_seconds(void **state)
{
    (void)state;
    open_lease(LEASE_MS);
    assert_int_equal(store.n_renews, 1);
    assert_true(is_good());
    for (size_t i = 2; i < 10; i++) {
        sl_fake_loop_advance_ms(&loop, SL_LEASE_RENEW_MS - 1);
        assert_int_equal(store.n_renews, i - 1);
        sl_fake_loop_advance_ms(&loop, 1);
        assert_int_equal(store.n_renews, i);
        assert_true(is_good());
    }
    close_lease();
}

static void a_lease_that_does_not_end_costs_nothing(void **state)
{
    (void)state;
    open_lease(0);
    assert_int_equal(store.n_renews, 1);
    sl_fake_loop_advance_ms(&loop, UINT64_C(10) * LEASE_MS);
    assert_int_equal(store.n_renews, 1);
    assert_true(is_good());
    close_lease();
}

static void a_lease_counts_from_the_moment_before_the_question(void **state)
{
    (void)state;
    open_lease(LEASE_MS);
    store.holds = true;
    sl_fake_loop_advance_ms(&loop, SL_LEASE_RENEW_MS);
    assert_int_equal(store.n_pending, 1);
    sl_fake_loop_advance_ms(&loop, 4000); /* the answer takes so long */
    assert_true(is_good());
    sl_fake_store_answer(&store);
    assert_true(sl_fake_loop_run(&loop));
    store.renew_failure = SL_UNAVAILABLE;
    store.holds = false;
    sl_fake_loop_advance_ms(&loop, GOOD_MS - 4000 - 1);
    assert_true(is_good());
    sl_fake_loop_advance_ms(&loop, 1);
    assert_false(is_good());
    close_lease();
}

static void who_waits_goes_on_when_it_is_renewed(void **state)
{
    struct sl_lease_waiter waiters[3] = { { .on_good = on_good },
                                          { .on_good = on_good },
                                          { .on_good = on_good } };
    (void)state;
    n_good = 0;
    open_lease(LEASE_MS);
    store.renew_failure = SL_UNAVAILABLE;
    sl_fake_loop_advance_ms(&loop, GOOD_MS);
    for (size_t i = 0; i < SL_COUNT(waiters); i++) {
        assert_false(sl_lease_await(sl_lease_at(lease, 0), &waiters[i]));
        assert_false(sl_lease_await(sl_lease_at(lease, 0), &waiters[i])); /* once all the same */
    }
    sl_lease_forget(&waiters[1]);
    sl_fake_loop_advance_ms(&loop, SL_LEASE_RENEW_MS);
    assert_int_equal(n_good, 0);
    store.renew_failure = SL_OK;
    sl_fake_loop_advance_ms(&loop, SL_LEASE_RENEW_MS);
    assert_int_equal(n_good, 2);
    assert_true(is_good());
    close_lease();
}

/* ---- A run -------------------------------------------------------------------------------------
 */

static void start_leased(void)
{
    prepare(SL_STORE_ASYNC);
    store.lease_ms = LEASE_MS;
    make_lease(&rig.loop.base);
    rig.env.lease = sl_lease_at(lease, 0);
    sl_lease_start(lease);
    sl_exec_rig_turn(&rig);
    sl_exec_rig_start(&rig, "hello");
    assert_string_equal(trace(), "run a|start 1/10");
}

static void finish_leased(void)
{
    sl_lease_stop(lease);
    sl_exec_rig_turn(&rig);
    finish();
    assert_int_equal(n_held, 0);
    lease = sl_lease_free(lease);
}

/* What is stored goes on; only the lease does not. */
static void lose_lease(void)
{
    store.renew_failure = SL_UNAVAILABLE;
    sl_exec_rig_advance_ms(&rig, GOOD_MS);
}

static void find_lease(void)
{
    store.renew_failure = SL_OK;
    sl_exec_rig_advance_ms(&rig, SL_LEASE_RENEW_MS);
}

static void without_the_lease_no_tool_begins_and_no_request(void **state)
{
    (void)state;
    start_leased();
    lose_lease();
    sl_fake_model_call(&rig.models, "p1", "add", "{}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    (void)trace();
    assert_int_equal(rig.tools.n_started, 0);
    find_lease();
    assert_int_equal(rig.tools.n_started, 1);
    lose_lease();
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
    assert_null(strstr(trace(), "start 2/10"));
    find_lease();
    assert_non_null(strstr(trace(), "start 2/10"));
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    sl_exec_rig_turn(&rig);
    assert_int_equal(rig.ending.status, SL_OK);
    finish_leased();
}

static void a_run_that_waits_for_the_lease_can_be_cancelled(void **state)
{
    (void)state;
    start_leased();
    lose_lease();
    sl_fake_model_call(&rig.models, "p1", "add", "{}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    (void)trace();
    cancel();
    sl_exec_rig_turn(&rig);
    assert_true(rig.has_ended);
    assert_int_equal(rig.ending.status, SL_CANCELLED);
    assert_int_equal(rig.tools.n_started, 0);
    find_lease(); /* nobody waits any more */
    assert_int_equal(rig.tools.n_started, 0);
    finish_leased();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lease_is_renewed_every_five_seconds),
        cmocka_unit_test(a_lease_that_does_not_end_costs_nothing),
        cmocka_unit_test(a_lease_counts_from_the_moment_before_the_question),
        cmocka_unit_test(who_waits_goes_on_when_it_is_renewed),
        cmocka_unit_test(without_the_lease_no_tool_begins_and_no_request),
        cmocka_unit_test(a_run_that_waits_for_the_lease_can_be_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
