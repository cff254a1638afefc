/* How long a record waits for its store, how often it asks, and what is left to say when the run is
 * gone. */
#include "tests/unit/test_record_rig.h"

/* RL-G1: the second outage is asked about as often as the first, however long that was. */
static void each_outage_is_met_with_short_delays(void **state)
{
    (void)state;
    start(SL_STORE_ASYNC);
    size_t n_asked[2];
    for (size_t i = 0; i < SL_COUNT(n_asked); i++) {
        store.failure = SL_UNAVAILABLE;
        sl_fake_model_text(&rig.models, "text");
        (void)trace();
        const size_t n_before = store.n_appends;
        sl_exec_rig_advance_ms(&rig, 1000);
        n_asked[i] = store.n_appends - n_before;
        sl_exec_rig_advance_ms(&rig, 20000);
        store.failure = SL_OK;
        sl_exec_rig_advance_ms(&rig, 3000);
        (void)trace();
    }
    assert_in_range(n_asked[0], 2, 8);
    assert_in_range(n_asked[1], 2, 8);
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    sl_exec_rig_turn(&rig);
    check_same_bytes();
    finish();
}

/* AL-7.3: all that a stopped run has to store takes no longer than that, however many appends it
 * is. */
static void a_stopped_run_waits_once_and_not_for_each_append(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both); i++) {
        const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_store_retry);
        start(both[i]);
        store.holds = true;
        sl_fake_model_text(&rig.models, "one");
        (void)trace();
        sl_fake_model_text(&rig.models, "two");
        cancel();
        (void)trace();
        sl_exec_rig_advance_ms(&rig, 2000);
        cancel(); /* again: that begins no new wait */
        const size_t n_appends = store.n_appends;
        (void)answer();
        assert_int_equal(store.n_appends, n_appends + 1); /* the rest is under way */
        sl_exec_rig_advance_ms(&rig, SL_RECORD_STOP_MS - 2000 - 1);
        assert_false(rig.has_ended);
        sl_exec_rig_advance_ms(&rig, 1);
        assert_true(rig.has_ended);
        assert_string_equal(rig.ending.reason, "STORE_UNAVAILABLE");
        assert_int_equal(sl_limit_n_reached(SL_LIMIT_store_retry), n_before); /* it was not that */
        store.holds = false;
        sl_fake_store_answer(&store);
        sl_exec_rig_turn(&rig);
        assert_true(store.is_ended);
        finish();
    }
}

static void end_by(Sluice__V1__ErrorCode code)
{
    if (code == SL_CODE(DEADLINE_EXCEEDED)) {
        sl_exec_rig_advance_ms(&rig, 1000);
        return;
    }
    const struct sl_ending ending = code == SL_CODE(CANCELLED)
                                        ? sl_ending_cancelled(SL_CANCEL_REASON(CANCEL_RPC))
                                        : sl_ending_error(code);
    sl_run_cancel(rig.run, &ending);
}

/* AL-7.3: whoever ends it has an end soon, also without the store. */
static void whatever_stops_a_run_has_no_patience(void **state)
{
    (void)state;
    static const Sluice__V1__ErrorCode codes[] = { SL_CODE(CANCELLED), SL_CODE(DEADLINE_EXCEEDED),
                                                   SL_CODE(DRAINING) };
    for (size_t i = 0; i < SL_COUNT(codes); i++) {
        prepare(SL_STORE_SYNC);
        rig.settings.run_timeout_ms = 1000;
        sl_exec_rig_start(&rig, "hello");
        (void)trace();
        store.holds = true;
        sl_fake_model_text(&rig.models, "one");
        (void)trace();
        end_by(codes[i]);
        sl_exec_rig_advance_ms(&rig, SL_RECORD_STOP_MS - 1);
        assert_false(rig.has_ended);
        sl_exec_rig_advance_ms(&rig, 1);
        assert_true(rig.has_ended);
        (void)trace();
        store.holds = false;
        sl_fake_store_answer(&store);
        sl_exec_rig_turn(&rig);
        finish();
    }
}

/* AL-5.1: the end of a run that is gone is tried as long as limits.store_retry says. */
static void what_is_left_to_say_is_said_when_the_store_is_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both); i++) {
        start(both[i]);
        store.failure = SL_UNAVAILABLE;
        sl_fake_model_text(&rig.models, "one");
        sl_exec_rig_turn(&rig);
        sl_exec_rig_advance_ms(&rig, 30000);
        assert_true(rig.has_ended);
        sl_exec_rig_advance_ms(&rig, 20000);
        assert_false(store.is_ended);
        store.failure = SL_OK;
        sl_exec_rig_advance_ms(&rig, 3000);
        check_closed(5, both[i] == SL_STORE_ASYNC);
        finish();
    }
}

/* AL-5.28: the session stays as it is stored. */
static void an_end_that_says_so_leaves_the_session_alone(void **state)
{
    (void)state;
    prepare(SL_STORE_ASYNC);
    rig.session_id = "s1";
    rig.session_store = &store.base;
    sl_exec_rig_start(&rig, "hello");
    (void)trace();
    sl_fake_model_text(&rig.models, "one");
    (void)trace();
    store.holds = true;
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    while (store.n_ends == 0) {
        sl_exec_rig_turn(&rig);
        if (store.n_ends == 0) {
            sl_fake_store_answer(&store);
        }
    }
    store.holds = false;
    store.failure = SL_UNAVAILABLE;
    sl_fake_store_answer(&store);
    sl_exec_rig_advance_ms(&rig, 30000);
    assert_true(rig.has_ended);
    (void)trace();
    store.failure = SL_OK;
    sl_exec_rig_advance_ms(&rig, 3000);
    check_closed(5, false);
    assert_string_equal(store.messages, "");
    finish();
}

/* AL-7.3: a conversation that the store does not take; its log is there until it does. */
static void a_cancel_does_not_wait_for_ever_for_a_conversation(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both); i++) {
        prepare(both[i]);
        rig.session_id = "s1";
        rig.session_store = &store.base;
        sl_exec_rig_start(&rig, "hello");
        store.holds_saves = true;
        sl_fake_model_call(&rig.models, "c1", "add", "{}");
        sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, "x");
        sl_exec_rig_turn(&rig);
        sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "{}");
        sl_exec_rig_turn(&rig);
        assert_int_equal(store.n_pending, 1);
        cancel();
        sl_exec_rig_advance_ms(&rig, SL_RECORD_STOP_MS - 1);
        assert_false(rig.has_ended);
        sl_exec_rig_advance_ms(&rig, 1);
        assert_true(rig.has_ended);
        assert_int_equal(rig.ending.code, SL_CODE(CANCELLED)); /* which is stored */
        assert_true(store.is_ended);
        assert_int_equal(store.state, SL_STORE_STATE_CANCELLED);
        sl_fake_store_answer(&store);
        sl_exec_rig_turn(&rig);
        assert_int_equal(store.saved_durability, both[i]);
        finish();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_outage_is_met_with_short_delays),
        cmocka_unit_test(a_stopped_run_waits_once_and_not_for_each_append),
        cmocka_unit_test(whatever_stops_a_run_has_no_patience),
        cmocka_unit_test(what_is_left_to_say_is_said_when_the_store_is_back),
        cmocka_unit_test(an_end_that_says_so_leaves_the_session_alone),
        cmocka_unit_test(a_cancel_does_not_wait_for_ever_for_a_conversation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
