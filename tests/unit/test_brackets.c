/* The log of a run that ended while the store was away: it is closed in order when the store is
 * back. AL-5.28, AL-3.3.2 */
#include "tests/unit/test_record_rig.h"

static size_t n_stored_of(int event_case)
{
    size_t n = 0;
    for (size_t at = 0; at < store.bytes.size; at += sl_event_size(store.bytes.data + at)) {
        const size_t size = sl_event_size(store.bytes.data + at);
        Sluice__V1__StreamEvent *event = sluice__v1__stream_event__unpack(
            NULL, size - SL_EVENT_PREFIX_BYTES, store.bytes.data + at + SL_EVENT_PREFIX_BYTES);
        assert_non_null(event);
        n += (int)event->event_case == event_case;
        sluice__v1__stream_event__free_unpacked(event, NULL);
    }
    return n;
}

/* The store has two calls that run; then it is away until the run has ended. */
static void end_without_store(enum sl_store_durability durability)
{
    start(durability);
    sl_fake_model_call(&rig.models, "p1", "add", "{}");
    sl_fake_model_call(&rig.models, "p2", "add", "{}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    (void)trace();
    assert_int_equal(rig.tools.n_started, 2);
    assert_int_equal(store.stored, 5);
    store.failure = SL_UNAVAILABLE;
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
    (void)trace();
    sl_exec_rig_advance_ms(&rig, 30000);
    assert_true(rig.has_ended);
    assert_false(store.is_ended);
}

static void what_is_open_in_the_store_is_closed_before_the_end(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both); i++) {
        end_without_store(both[i]);
        store.failure = SL_OK;
        sl_exec_rig_advance_ms(&rig, 4000);
        /* The result that was on its way is there, the other call is closed. */
        check_closed(8, both[i] == SL_STORE_ASYNC);
        assert_int_equal(n_stored_of(SL_EVENT(TOOL_CALL_COMPLETE)), 2);
        assert_int_equal(store.lost_after, both[i] == SL_STORE_ASYNC ? 6 : 0);
        finish();
    }
}

static void a_store_that_goes_again_meanwhile_is_asked_again(void **state)
{
    (void)state;
    static const enum sl_status failures[] = { SL_UNAVAILABLE, SL_RESOURCE_EXHAUSTED };
    for (size_t i = 0; i < SL_COUNT(failures); i++) {
        for (size_t n_answers = 1; n_answers <= 9; n_answers++) {
            end_without_store(SL_STORE_SYNC);
            store.failure = SL_OK;
            store.holds = true;
            sl_exec_rig_advance_ms(&rig, 4000);
            for (size_t n = 1; n < n_answers && store.n_pending > 0; n++) {
                (void)answer();
            }
            store.failure = failures[i];
            if (store.n_pending > 0) {
                (void)answer();
            }
            store.holds = false;
            store.failure = SL_OK;
            if (store.n_pending > 0) {
                (void)answer();
            }
            sl_exec_rig_advance_ms(&rig, 8000);
            check_closed(8, false);
            finish();
        }
    }
}

/* A log that cannot be read is ended all the same: it says itself that it is damaged. */
static void a_damaged_log_has_an_end(void **state)
{
    (void)state;
    end_without_store(SL_STORE_SYNC);
    store.failure = SL_OK;
    store.bytes.data[store.bytes.size - 1] ^= 0xFF;
    store.bytes.data[SL_EVENT_PREFIX_BYTES] ^= 0xFF; /* of the first event */
    sl_exec_rig_advance_ms(&rig, 4000);
    assert_true(store.is_ended);
    assert_int_equal(store.stored, 7);
    finish();
}

/* A server that goes down does not read a long log before. */
static void nobody_reads_on_when_the_room_stops(void **state)
{
    (void)state;
    struct sl_record_room room;
    sl_record_room_init(&room);
    prepare(SL_STORE_SYNC);
    rig.env.records = &room;
    sl_exec_rig_start(&rig, "hello");
    (void)trace();
    store.failure = SL_UNAVAILABLE;
    sl_fake_model_text(&rig.models, "one");
    (void)trace();
    sl_exec_rig_advance_ms(&rig, 30000);
    assert_true(rig.has_ended);
    store.failure = SL_OK;
    store.holds = true;
    sl_exec_rig_advance_ms(&rig, 4000);
    (void)answer(); /* the append; then it reads, one event at a time */
    (void)answer();
    assert_int_equal(store.n_pending, 1);
    sl_record_room_stop(&room);
    assert_false(sl_list_is_empty(&room.alone)); /* as long as the store has its request */
    (void)answer();
    assert_int_equal(store.n_pending, 0);
    assert_true(sl_list_is_empty(&room.alone));
    assert_false(store.is_ended);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_open_in_the_store_is_closed_before_the_end),
        cmocka_unit_test(a_store_that_goes_again_meanwhile_is_asked_again),
        cmocka_unit_test(a_damaged_log_has_an_end),
        cmocka_unit_test(nobody_reads_on_when_the_room_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
