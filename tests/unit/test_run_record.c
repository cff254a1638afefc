/* A run that is recorded: what its reader sees when, and how it ends when the store does not do
 * what it should. */
#include "tests/unit/test_record_rig.h"

/* AL-2.1: the same bytes, now and on every replay. */
static void the_store_gets_the_bytes_that_the_reader_gets(void **state)
{
    (void)state;
    static const struct sl_store_pair pairs[] = { { "team", "blue" } };
    for (size_t i = 0; i < SL_COUNT(both); i++) {
        prepare(both[i]);
        rig.tenant = "t";
        rig.session_id = "s";
        rig.request_id = "r";
        rig.digest = sl_slice_str("d");
        rig.metadata = pairs;
        rig.n_metadata = 1;
        rig.session_store = &store.base;
        sl_exec_rig_start(&rig, "hello");
        assert_string_equal(store.texts, "t a s r d|team=blue");
        assert_int_equal(store.durability, both[i]);
        for (int n = 0; n < 20000; n++) {
            sl_fake_model_text(&rig.models, "0123456789abcdef");
            if (n % 500 == 0) {
                sl_exec_rig_turn(&rig);
            }
        }
        sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
        sl_exec_rig_turn(&rig);
        assert_true(rig.has_ended);
        assert_int_equal(rig.ending.status, SL_OK);
        check_same_bytes();
        assert_true(store.is_ended);
        assert_int_equal(store.state, SL_STORE_STATE_DONE);
        assert_int_equal(store.stored, rig.n_events);
        assert_int_equal(store.ended_ms, SL_FAKE_START_WALL_MS);
        assert_false(store.has_lost);
        assert_true(strncmp(store.messages, "t a s ", 6) == 0 && strlen(store.messages) > 10);
        finish();
    }
}

/* AL-4.2: a start is answered once RunStarted is stored. */
static void a_run_begins_when_its_start_is_stored(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both); i++) {
        prepare(both[i]);
        store.holds = true;
        sl_exec_rig_start(&rig, "hello");
        assert_string_equal(trace(), "");
        assert_string_equal(answer(), ""); /* the run */
        assert_false(rig.has_begun);
        assert_false(sl_fake_model_is_asked(&rig.models));
        assert_string_equal(answer(), both[i] == SL_STORE_SYNC ? "run a" : "run a|start 1/10");
        assert_true(rig.has_begun);
        assert_true(sl_fake_model_is_asked(&rig.models));
        store.holds = false;
        sl_fake_store_answer(&store);
        sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
        finish();
    }
}

/* RL-2.1 */
static void with_sync_an_event_is_stored_before_it_is_seen(void **state)
{
    (void)state;
    start(SL_STORE_SYNC);
    store.holds = true;
    sl_fake_model_text(&rig.models, "one");
    assert_string_equal(trace(), "");
    sl_fake_model_text(&rig.models, "two");
    sl_fake_model_text(&rig.models, "three");
    assert_string_equal(trace(), "");
    assert_int_equal(store.n_pending, 1);
    assert_string_equal(answer(), "text one");
    assert_string_equal(answer(), "text two|text three"); /* in one append */
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    assert_string_equal(trace(), "");
    assert_string_equal(answer(), "complete 1 END_TURN");
    assert_string_equal(answer(), "done onetwothree");
    check_same_bytes();
    finish();
}

/* RL-2.1 */
static void with_async_only_the_last_event_waits(void **state)
{
    (void)state;
    start(SL_STORE_ASYNC);
    store.holds = true;
    sl_fake_model_text(&rig.models, "one");
    assert_string_equal(trace(), "text one");
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    assert_string_equal(trace(), "complete 1 END_TURN");
    assert_string_equal(answer(), "");
    assert_string_equal(answer(), "");
    assert_int_equal(store.n_ends, 1);
    assert_false(rig.has_ended);
    assert_string_equal(answer(), "done one");
    assert_true(rig.has_ended);
    check_same_bytes();
    finish();
}

/* A second reader, from somewhere in the log. */
static struct sl_event_cursor observer;
static size_t n_told;

static void on_observer(struct sl_event_cursor *cursor)
{
    (void)cursor;
    n_told++;
}

static void observers_see_no_more_than_the_first_reader(void **state)
{
    (void)state;
    bool is_last = false;
    start(SL_STORE_SYNC);
    store.holds = true;
    sl_fake_model_text(&rig.models, "one");
    (void)trace();
    struct sl_event_channel *channel = sl_run_channel(rig.run);
    assert_int_equal(sl_event_channel_last_sequence(channel), 3);
    assert_int_equal(sl_event_channel_shown_sequence(channel), 2);
    assert_int_equal(
        sl_event_cursor_open(&observer, channel, SL_CURSOR_OBSERVER, 3, on_observer),
        SL_OUT_OF_RANGE);
    assert_int_equal(
        sl_event_cursor_open(&observer, channel, SL_CURSOR_OBSERVER, 2, on_observer), SL_OK);
    assert_int_equal(sl_event_cursor_ready(&observer, SIZE_MAX, &is_last), 0);
    n_told = 0;
    sl_fake_model_text(&rig.models, "two");
    (void)trace();
    assert_int_equal(n_told, 0);
    (void)answer();
    assert_int_equal(n_told, 1);
    assert_true(sl_event_cursor_ready(&observer, SIZE_MAX, &is_last) > 0);
    store.holds = false;
    sl_fake_store_answer(&store);
    sl_event_cursor_close(&observer);
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    finish();
}

/* AL-6.2 */
static void a_tool_starts_when_its_call_is_stored(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both); i++) {
        start(both[i]);
        store.holds = true;
        sl_fake_model_call(&rig.models, "p1", "add", "{}");
        sl_fake_model_call(&rig.models, "p2", "add", "{}");
        sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
        (void)trace();
        assert_int_equal(rig.tools.n_started, 0);
        while (rig.tools.n_started == 0) {
            (void)answer();
        }
        assert_int_equal(rig.tools.n_started, 2);
        assert_true(store.stored >= 5);
        store.holds = false;
        sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
        sl_fake_tool_done(&rig.tools, 1, SL_TOOL_OK, "1");
        (void)trace();
        sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
        sl_exec_rig_turn(&rig);
        check_same_bytes();
        finish();
    }
}

/* AL-6.2: it was not asked for as far as the store knows. */
static void a_tool_whose_call_is_not_stored_does_not_start(void **state)
{
    (void)state;
    start(SL_STORE_ASYNC);
    store.holds = true;
    sl_fake_model_call(&rig.models, "p1", "add", "{}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    (void)trace();
    cancel();
    assert_string_equal(trace(), "tool tool_1 CANCELLED");
    store.holds = false;
    assert_string_equal(answer(), "error CANCELLED");
    assert_int_equal(rig.tools.n_started, 0);
    check_same_bytes();
    assert_int_equal(store.state, SL_STORE_STATE_CANCELLED);
    finish();
}

/* AL-6.2: also when the end of the client's calls lets the others go on. */
static void a_client_that_goes_starts_no_tool_whose_call_is_not_stored(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both); i++) {
        prepare(both[i]);
        rig.settings.on_disconnect = SL_DISCONNECT(DETACH);
        rig.settings.cancel_on_reset = false;
        rig.client_tools[0] = sl_fake_tool_new(&rig.tools, "mine");
        rig.n_client_tools = 1;
        sl_exec_rig_start(&rig, "hello");
        store.holds = true;
        sl_fake_model_call(&rig.models, "p1", "add", "{}");
        sl_fake_model_call(&rig.models, "p2", "mine", "{}");
        sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
        (void)trace();
        sl_run_reader_gone(rig.run, SL_RUN_GONE_LOST, 0);
        (void)trace();
        assert_int_equal(rig.tools.n_started, 0);
        assert_true(store.stored < 4);
        while (rig.tools.n_started == 0) {
            (void)answer();
        }
        assert_true(store.stored >= 4); /* the calls are behind RunStarted and IterationStart */
        assert_int_equal(rig.tools.n_started, 1);
        store.holds = false;
        while (store.n_pending > 0) {
            sl_fake_store_answer(&store);
        }
        sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
        (void)trace();
        sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
        finish();
    }
}

/* The store has more than it wants: no more before its answer. */
static void a_run_pauses_when_the_store_says_so(void **state)
{
    (void)state;
    start(SL_STORE_ASYNC);
    store.holds = store.says_again = true;
    sl_fake_model_text(&rig.models, "one");
    (void)trace();
    assert_false(sl_fake_model_may_read(&rig.models));
    sl_fake_model_text(&rig.models, "two"); /* was read already */
    (void)trace();
    assert_int_equal(rig.models.n_resumed, 0);
    store.says_again = false;
    (void)answer();
    assert_true(sl_fake_model_may_read(&rig.models));
    assert_int_equal(rig.models.n_resumed, 1);
    store.holds = false;
    sl_fake_store_answer(&store);
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    sl_exec_rig_turn(&rig);
    check_same_bytes();
    finish();
}

static size_t send_until_held(void)
{
    char text[1025];
    size_t n = 0;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    while (sl_fake_model_may_read(&rig.models) && n < 5000) {
        sl_fake_model_text(&rig.models, text);
        (void)trace();
        n++;
    }
    return n;
}

/* AL-8, RL-O5: the log is bounded, with a dead store, too, and nobody who reads. */
static void a_run_without_reader_is_held_back_by_the_store(void **state)
{
    (void)state;
    prepare(SL_STORE_ASYNC);
    rig.settings.on_disconnect = SL_DISCONNECT(DETACH);
    sl_exec_rig_start(&rig, "hello");
    (void)trace();
    sl_exec_rig_part(&rig, SL_RUN_GONE_LOST);
    store.holds = true;
    assert_in_range(send_until_held(), 900, 1100);
    const size_t held = sl_event_channel_bytes(sl_run_channel(rig.run));
    assert_in_range(held, 1024 * 1024, 1200 * 1024);
    /* What is not stored is there, whatever the window. */
    assert_true(rig.env.window_bytes < 20000);
    assert_true(sl_event_channel_floor(sl_run_channel(rig.run)) <= store.stored + 1);
    while (!sl_fake_model_may_read(&rig.models)) {
        (void)answer();
    }
    assert_in_range(rig.models.n_resumed, 0, 1);
    assert_in_range(sl_event_channel_bytes(sl_run_channel(rig.run)), 1, 700 * 1024);
    store.holds = false;
    sl_fake_store_answer(&store);
    (void)trace();
    assert_in_range(sl_event_channel_bytes(sl_run_channel(rig.run)), 1, 64 * 1024);
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    sl_exec_rig_turn(&rig);
    assert_int_equal(store.state, SL_STORE_STATE_DONE);
    finish();
}

/* limits.store_queue_run */
static void a_run_is_held_back_at_the_limit_of_what_waits(void **state)
{
    (void)state;
    prepare(SL_STORE_ASYNC);
    rig.limits.store_queue_run = UINT64_C(128) * 1024;
    rig.settings.on_disconnect = SL_DISCONNECT(DETACH);
    sl_exec_rig_start(&rig, "hello");
    (void)trace();
    sl_exec_rig_part(&rig, SL_RUN_GONE_LOST);
    store.holds = true;
    assert_in_range(send_until_held(), 110, 140); /* of 1 KiB each */
    store.holds = false;
    sl_fake_store_answer(&store);
    (void)trace();
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    sl_exec_rig_turn(&rig);
    assert_int_equal(store.state, SL_STORE_STATE_DONE);
    finish();
}

/* RL-G1: by time as well. */
static void a_run_is_held_back_when_the_store_is_slow(void **state)
{
    (void)state;
    start(SL_STORE_ASYNC);
    store.holds = true;
    sl_fake_model_text(&rig.models, "one");
    (void)trace();
    sl_exec_rig_advance_ms(&rig, 4999);
    assert_true(sl_fake_model_may_read(&rig.models));
    sl_exec_rig_advance_ms(&rig, 1);
    assert_false(sl_fake_model_may_read(&rig.models));
    store.holds = false;
    sl_fake_store_answer(&store);
    (void)trace();
    assert_true(sl_fake_model_may_read(&rig.models));
    sl_exec_rig_advance_ms(&rig, 100000);
    assert_false(rig.has_ended);
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    finish();
}

/* RL-S1 to S3, RL-G1: a fault that passes is not seen. */
static void a_store_that_fails_for_a_while_is_asked_again(void **state)
{
    (void)state;
    static const enum sl_status failures[] = { SL_UNAVAILABLE, SL_RESOURCE_EXHAUSTED };
    for (size_t i = 0; i < SL_COUNT(failures); i++) {
        start(SL_STORE_SYNC);
        store.failure = failures[i];
        sl_fake_model_text(&rig.models, "one");
        assert_string_equal(trace(), "");
        const size_t n_before = store.n_appends;
        sl_exec_rig_advance_ms(&rig, 20000);
        assert_in_range(store.n_appends - n_before, 8, 40);
        assert_string_equal(trace(), "");
        store.failure = SL_OK;
        sl_exec_rig_advance_ms(&rig, 3000);
        assert_string_equal(trace(), "text one");
        sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
        sl_exec_rig_turn(&rig);
        check_same_bytes();
        finish();
    }
}

/* RL-G6: it was stored, and the answer was another one. */
static void an_append_that_was_stored_all_the_same_is_not_there_twice(void **state)
{
    (void)state;
    start(SL_STORE_SYNC);
    store.failure = SL_UNAVAILABLE;
    store.lies = true;
    sl_fake_model_text(&rig.models, "one");
    assert_string_equal(trace(), "");
    store.failure = SL_OK;
    sl_exec_rig_advance_ms(&rig, 100);
    assert_string_equal(trace(), "text one");
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    sl_exec_rig_turn(&rig);
    check_same_bytes();
    finish();
}

static void check_unlogged(void)
{
    assert_int_equal(rig.last->event_case, SL_EVENT(ERROR));
    assert_int_equal(rig.last->sequence, 0);
    assert_true(rig.last->error->retryable);
    assert_non_null(rig.last->error->usage);
    assert_int_equal(rig.ending.status, SL_ABORTED);
    assert_string_equal(rig.ending.reason, "STORE_UNAVAILABLE");
    assert_true(rig.ending.is_unlogged);
}

/* AL-5.28, AL-5.1 */
static void a_store_that_stays_away_ends_the_run(void **state)
{
    (void)state;
    static const struct {
        enum sl_store_durability durability;
        const char *expected;
    } rows[] = {
        { SL_STORE_ASYNC, "text one|complete 1 INTERRUPTED|error STORE_UNAVAILABLE" },
        { SL_STORE_SYNC, "error STORE_UNAVAILABLE" },
    };
    for (size_t i = 0; i < SL_COUNT(rows); i++) {
        start(rows[i].durability);
        store.failure = SL_UNAVAILABLE;
        sl_fake_model_text(&rig.models, "one");
        sl_exec_rig_turn(&rig);
        sl_exec_rig_advance_ms(&rig, 29999);
        assert_false(rig.has_ended);
        sl_exec_rig_advance_ms(&rig, 1);
        assert_true(rig.has_ended);
        assert_string_equal(trace(), rows[i].expected);
        check_unlogged();
        /* The store is back: the run is closed in it, behind what it has (AL-5.1). */
        store.failure = SL_OK;
        sl_exec_rig_advance_ms(&rig, 3000);
        check_closed(5, rows[i].durability == SL_STORE_ASYNC); /* the append was there to repeat */
        assert_int_equal(store.lost_after, rows[i].durability == SL_STORE_ASYNC ? 3 : 0);
        finish();
    }
}

/* AL-5.28: limits.store_retry */
static void how_long_the_store_may_be_away_is_a_limit(void **state)
{
    (void)state;
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_store_retry);
    prepare(SL_STORE_SYNC);
    rig.limits.store_retry = 1000;
    sl_exec_rig_start(&rig, "hello");
    (void)trace();
    store.failure = SL_RESOURCE_EXHAUSTED;
    sl_fake_model_text(&rig.models, "one");
    sl_exec_rig_advance_ms(&rig, 999);
    assert_false(rig.has_ended);
    sl_exec_rig_advance_ms(&rig, 1);
    assert_true(rig.has_ended);
    assert_string_equal(trace(), "error STORE_UNAVAILABLE");
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_store_retry), n_before + 1);
    /* It never comes back: nobody waits for ever, and nothing is left. */
    sl_exec_rig_advance_ms(&rig, 4000);
    assert_false(store.is_ended);
    finish();
}

/* The end itself fails: nobody sees it, and the run ends as one that cannot be recorded. */
static void an_end_that_is_not_stored_is_not_seen(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both); i++) {
        start(both[i]);
        sl_fake_model_text(&rig.models, "one");
        assert_string_equal(trace(), "text one");
        sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
        store.holds = true;
        while (store.n_ends == 0) {
            sl_exec_rig_turn(&rig);
            if (store.n_ends == 0) {
                sl_fake_store_answer(&store);
            }
        }
        assert_string_equal(trace(), "complete 1 END_TURN");
        store.holds = false;
        store.failure = SL_UNAVAILABLE;
        sl_fake_store_answer(&store);
        assert_string_equal(trace(), "");
        sl_exec_rig_advance_ms(&rig, 30000);
        assert_string_equal(trace(), "error STORE_UNAVAILABLE");
        check_unlogged();
        store.failure = SL_OK;
        sl_exec_rig_advance_ms(&rig, 3000);
        check_closed(5, false);
        finish();
    }
}

/* RL-G10 */
static void a_run_that_somebody_else_has_writes_nothing_more(void **state)
{
    (void)state;
    static const enum sl_status answers[] = { SL_ABORTED, SL_FAILED_PRECONDITION, SL_NOT_FOUND };
    for (size_t i = 0; i < SL_COUNT(both) * SL_COUNT(answers); i++) {
        start(both[i % 2]);
        store.failure = answers[i / 2];
        sl_fake_model_text(&rig.models, "one");
        const char *expected =
            both[i % 2] == SL_STORE_SYNC ? "" : "text one|complete 1 INTERRUPTED";
        assert_string_equal(trace(), expected);
        assert_true(rig.has_ended);
        assert_int_equal(rig.models.n_live, 0);
        assert_int_equal(rig.ending.status, SL_ABORTED);
        assert_string_equal(rig.ending.reason, "WORKER_LOST");
        bool is_last = false;
        assert_int_equal(sl_event_cursor_ready(&rig.cursor, SIZE_MAX, &is_last), 0);
        assert_true(is_last);
        assert_int_equal(store.n_appends, 3);
        assert_int_equal(store.n_ends, 0);
        finish();
    }
}

/* RL-S4: a page that is damaged is nobody's claim. The reader gets an event that says so. */
static void a_store_that_is_damaged_ends_the_run_at_once(void **state)
{
    (void)state;
    static const enum sl_status answers[] = { SL_DATA_LOSS, SL_INTERNAL };
    for (size_t i = 0; i < SL_COUNT(both) * SL_COUNT(answers); i++) {
        start(both[i % 2]);
        store.failure = answers[i / 2];
        sl_fake_model_text(&rig.models, "one");
        const char *expected = both[i % 2] == SL_STORE_SYNC
                                   ? "error STORE_UNAVAILABLE"
                                   : "text one|complete 1 INTERRUPTED|error STORE_UNAVAILABLE";
        assert_string_equal(trace(), expected);
        assert_true(rig.has_ended);
        check_unlogged();
        assert_int_equal(store.n_ends, 0);
        finish();
    }
}

/* AL-7.4: in a store append. */
static void a_cancel_does_not_wait_for_a_store_that_hangs(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both); i++) {
        start(both[i]);
        store.holds = true;
        sl_fake_model_text(&rig.models, "one");
        (void)trace();
        cancel();
        assert_int_equal(rig.models.n_live, 0); /* at once */
        sl_exec_rig_advance_ms(&rig, SL_RECORD_STOP_MS - 1);
        assert_false(rig.has_ended);
        sl_exec_rig_advance_ms(&rig, 1);
        assert_true(rig.has_ended);
        (void)trace();
        check_unlogged();
        /* The append is answered at last. */
        store.holds = false;
        sl_fake_store_answer(&store);
        sl_exec_rig_turn(&rig);
        check_closed(5, both[i] == SL_STORE_ASYNC);
        finish();
    }
}

/* AL-7.3: the claim stands, and the wait is shorter. */
static void a_cancel_of_a_run_that_is_ending_ends_the_wait(void **state)
{
    (void)state;
    start(SL_STORE_ASYNC);
    store.holds = true;
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    (void)trace();
    sl_exec_rig_advance_ms(&rig, 1000);
    cancel();
    sl_exec_rig_advance_ms(&rig, SL_RECORD_STOP_MS);
    assert_true(rig.has_ended);
    assert_string_equal(trace(), "error STORE_UNAVAILABLE");
    store.holds = false;
    sl_fake_store_answer(&store);
    finish();
}

/* The store works: a cancelled run ends in it, at once. */
static void a_cancel_is_recorded(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both); i++) {
        start(both[i]);
        sl_fake_model_text(&rig.models, "one");
        cancel();
        assert_string_equal(trace(), "text one|complete 1 INTERRUPTED|error CANCELLED");
        assert_int_equal(store.state, SL_STORE_STATE_CANCELLED);
        check_same_bytes();
        finish();
    }
}

/* ---- Without memory ----------------------------------------------------------------------------
 */

static size_t n_allocations, failing_allocation;

static bool fail_once(size_t size)
{
    (void)size;
    n_allocations++;
    return n_allocations != failing_allocation;
}

static bool fail_from_there(size_t size)
{
    (void)size;
    n_allocations++;
    return n_allocations < failing_allocation;
}

static void run_once(enum sl_store_durability durability, bool (*gate)(size_t size))
{
    uint8_t *room = NULL;
    start(durability);
    assert_int_equal(sl_buf_reserve(&store.bytes, 65536, &room), SL_OK); /* the test's own */
    rig.is_reading = false;
    n_allocations = 0;
    sl_mem_set_gate(gate);
    for (int i = 0; i < 40; i++) {
        sl_fake_model_text(&rig.models, "text that fills a segment, sooner or later");
        (void)sl_fake_loop_run(&rig.loop);
    }
    sl_fake_model_call(&rig.models, "p1", "add", "{\"a\":1}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    (void)sl_fake_loop_run(&rig.loop);
    if (rig.tools.n_live > 0) {
        sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "{\"r\":1}");
        (void)sl_fake_loop_run(&rig.loop);
    }
    sl_fake_model_text(&rig.models, "the answer");
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    (void)sl_fake_loop_run(&rig.loop);
    sl_mem_set_gate(NULL);
    assert_true(rig.has_ended);
    rig.is_reading = true;
    sl_exec_rig_turn(&rig);
}

/* AL-5.30: recorded, too. */
static void a_recorded_run_without_memory_ends_in_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both) * 2; i++) {
        bool (*const gate)(size_t size) = i < SL_COUNT(both) ? fail_once : fail_from_there;
        failing_allocation = SIZE_MAX;
        run_once(both[i % 2], gate);
        assert_int_equal(rig.ending.status, SL_OK);
        const size_t n = n_allocations;
        assert_true(n > 10);
        finish();
        for (failing_allocation = 1; failing_allocation <= n; failing_allocation++) {
            run_once(both[i % 2], gate);
            assert_true(rig.ending.code == SL_CODE(OUT_OF_MEMORY) || rig.ending.status == SL_OK);
            check_same_bytes();
            assert_true(store.is_ended);
            finish();
        }
    }
}

/* ---- Alone -------------------------------------------------------------------------------------
 */

/* A server that goes down does not wait for what is left to say. */
static void a_record_that_is_alone_gives_up_with_its_room(void **state)
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
    cancel();
    sl_exec_rig_advance_ms(&rig, SL_RECORD_STOP_MS);
    assert_true(rig.has_ended);
    assert_false(sl_list_is_empty(&room.alone));
    sl_record_room_stop(&room);
    assert_true(sl_list_is_empty(&room.alone));
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_store_gets_the_bytes_that_the_reader_gets),
        cmocka_unit_test(a_run_begins_when_its_start_is_stored),
        cmocka_unit_test(with_sync_an_event_is_stored_before_it_is_seen),
        cmocka_unit_test(with_async_only_the_last_event_waits),
        cmocka_unit_test(observers_see_no_more_than_the_first_reader),
        cmocka_unit_test(a_tool_starts_when_its_call_is_stored),
        cmocka_unit_test(a_tool_whose_call_is_not_stored_does_not_start),
        cmocka_unit_test(a_client_that_goes_starts_no_tool_whose_call_is_not_stored),
        cmocka_unit_test(a_run_pauses_when_the_store_says_so),
        cmocka_unit_test(a_run_without_reader_is_held_back_by_the_store),
        cmocka_unit_test(a_run_is_held_back_at_the_limit_of_what_waits),
        cmocka_unit_test(a_run_is_held_back_when_the_store_is_slow),
        cmocka_unit_test(a_store_that_fails_for_a_while_is_asked_again),
        cmocka_unit_test(an_append_that_was_stored_all_the_same_is_not_there_twice),
        cmocka_unit_test(a_store_that_stays_away_ends_the_run),
        cmocka_unit_test(how_long_the_store_may_be_away_is_a_limit),
        cmocka_unit_test(an_end_that_is_not_stored_is_not_seen),
        cmocka_unit_test(a_run_that_somebody_else_has_writes_nothing_more),
        cmocka_unit_test(a_store_that_is_damaged_ends_the_run_at_once),
        cmocka_unit_test(a_cancel_does_not_wait_for_a_store_that_hangs),
        cmocka_unit_test(a_cancel_of_a_run_that_is_ending_ends_the_wait),
        cmocka_unit_test(a_cancel_is_recorded),
        cmocka_unit_test(a_recorded_run_without_memory_ends_in_order),
        cmocka_unit_test(a_record_that_is_alone_gives_up_with_its_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
