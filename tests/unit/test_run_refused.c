/* A start that the store refuses, or does not answer. */
#include "tests/unit/test_record_rig.h"

static void a_start_that_the_store_refuses_is_no_run(void **state)
{
    (void)state;
    static const enum sl_status refusals[] = { SL_RESOURCE_EXHAUSTED, SL_UNAVAILABLE,
                                               SL_ALREADY_EXISTS };
    for (size_t i = 0; i < SL_COUNT(refusals); i++) {
        prepare(SL_STORE_ASYNC);
        store.begin_failure = refusals[i];
        store.found_run_id = refusals[i] == SL_ALREADY_EXISTS ? "other" : NULL;
        store.found_same = true;
        sl_exec_rig_start(&rig, "hello");
        assert_true(rig.is_refused);
        assert_int_equal(rig.refused_status, refusals[i]);
        assert_string_equal(rig.found_run_id, refusals[i] == SL_ALREADY_EXISTS ? "other" : "");
        assert_string_equal(trace(), "");
        assert_false(sl_fake_model_is_asked(&rig.models));
        finish();
    }
}

static void a_start_does_not_wait_for_a_store_that_hangs(void **state)
{
    (void)state;
    for (int is_append = 0; is_append < 2; is_append++) {
        prepare(SL_STORE_SYNC);
        store.holds = true;
        sl_exec_rig_start(&rig, "hello");
        if (is_append == 1) {
            (void)answer();
        }
        sl_exec_rig_advance_ms(&rig, 4999);
        assert_false(rig.is_refused);
        sl_exec_rig_advance_ms(&rig, 1);
        assert_true(rig.is_refused);
        assert_int_equal(rig.refused_status, SL_UNAVAILABLE);
        /* What comes of it later has an end. */
        store.holds = false;
        sl_fake_store_answer(&store);
        sl_exec_rig_turn(&rig);
        check_closed(2, false);
        finish();
    }
}

static void a_cancel_before_the_beginning_is_a_refusal(void **state)
{
    (void)state;
    prepare(SL_STORE_SYNC);
    store.holds = true;
    sl_exec_rig_start(&rig, "hello");
    cancel();
    assert_false(rig.is_refused); /* never from inside */
    sl_exec_rig_turn(&rig);
    assert_true(rig.is_refused);
    assert_int_equal(rig.refused_status, SL_CANCELLED);
    store.holds = false;
    sl_fake_store_answer(&store);
    sl_exec_rig_turn(&rig);
    assert_true(store.is_ended);
    assert_int_equal(store.state, SL_STORE_STATE_CANCELLED);
    assert_int_equal(store.stored, 2);
    finish();
}

/* RL-G6, RL-X1: no run is "running" for ever, and a repeat of the request is not led to it. */
static void a_beginning_that_was_stored_all_the_same_has_an_end(void **state)
{
    (void)state;
    static const enum sl_status failures[] = { SL_UNAVAILABLE, SL_RESOURCE_EXHAUSTED };
    for (size_t i = 0; i < SL_COUNT(failures) * 2; i++) {
        prepare(i % 2 == 0 ? SL_STORE_ASYNC : SL_STORE_SYNC);
        store.begin_failure = failures[i / 2];
        store.failure = SL_UNAVAILABLE; /* of the look, too, for a while */
        store.lies = true;
        sl_exec_rig_start(&rig, "hello");
        assert_true(rig.is_refused);
        assert_int_equal(rig.refused_status, failures[i / 2]);
        sl_exec_rig_advance_ms(&rig, 500);
        assert_true(store.is_begun);
        assert_int_equal(store.n_begins, 1);
        assert_true(store.n_looks > 1);
        store.failure = SL_OK;              /* and the beginning fails once more */
        sl_exec_rig_advance_ms(&rig, 4000); /* at most 3 s from one try to the next */
        assert_true(store.n_begins > 1);
        assert_int_equal(store.stored, 0);
        store.begin_failure = SL_OK;
        sl_exec_rig_advance_ms(&rig, 5000);
        check_closed(2, false);
        finish(); /* no timer is left */
    }
}

/* One that is not there is not made: its request may come again. */
static void a_beginning_that_was_not_stored_leaves_nothing(void **state)
{
    (void)state;
    prepare(SL_STORE_ASYNC);
    store.begin_failure = SL_UNAVAILABLE;
    sl_exec_rig_start(&rig, "hello");
    assert_true(rig.is_refused);
    store.begin_failure = SL_OK;
    sl_exec_rig_turn(&rig);
    assert_int_equal(store.n_looks, 1);
    assert_int_equal(store.n_begins, 1);
    assert_false(store.is_begun);
    finish(); /* no timer is left */
}

/* The store stays away: what is alone gives up after limits.store_retry. */
static void nobody_looks_for_a_beginning_for_ever(void **state)
{
    (void)state;
    prepare(SL_STORE_ASYNC);
    store.begin_failure = store.failure = SL_UNAVAILABLE;
    sl_exec_rig_start(&rig, "hello");
    assert_true(rig.is_refused);
    sl_exec_rig_advance_ms(&rig, 34000);
    const size_t n_looks = store.n_looks;
    assert_in_range(n_looks, 8, 60);
    sl_exec_rig_advance_ms(&rig, 34000);
    assert_int_equal(store.n_looks, n_looks);
    finish(); /* no timer is left */
}

static void a_reader_may_leave_a_start_that_is_refused(void **state)
{
    (void)state;
    prepare(SL_STORE_SYNC);
    rig.settings.on_disconnect = SL_DISCONNECT(DETACH_FOR);
    rig.settings.cancel_on_reset = false;
    rig.settings.detach_ttl_ms = 60000;
    rig.settings.mark_events = 1;
    const char *const labels[] = { "a" };
    const struct sl_series *detached = sl_metric_series(SL_M_sluice_runs_detached, labels);
    const struct sl_series *paused = sl_metric_series(SL_M_sluice_stream_paused, NULL);
    const uint64_t n_detached = sl_metric_value(detached);
    const uint64_t n_paused = sl_metric_value(paused);
    store.holds = true;
    store.begin_failure = SL_UNAVAILABLE;
    sl_exec_rig_start(&rig, "hello");
    sl_exec_rig_part(&rig, SL_RUN_GONE_LOST);
    assert_false(rig.is_refused);
    (void)answer();
    assert_true(rig.is_refused);
    (void)answer(); /* that it has no such run */
    assert_int_equal(sl_metric_value(detached), n_detached);
    assert_int_equal(sl_metric_value(paused), n_paused);
    finish(); /* no timer is left */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_start_that_the_store_refuses_is_no_run),
        cmocka_unit_test(a_start_does_not_wait_for_a_store_that_hangs),
        cmocka_unit_test(a_cancel_before_the_beginning_is_a_refusal),
        cmocka_unit_test(a_beginning_that_was_stored_all_the_same_has_an_end),
        cmocka_unit_test(a_beginning_that_was_not_stored_leaves_nothing),
        cmocka_unit_test(nobody_looks_for_a_beginning_for_ever),
        cmocka_unit_test(a_reader_may_leave_a_start_that_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
