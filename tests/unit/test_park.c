/* Runs between two processes: they rest while they wait for a decision, are parked at the end of a
 * drain, and are taken up (reliability 3.7, 4.2; RL-X1). */
#include "runtime/exec/resume.h"
#include "tests/unit/test_record_rig.h"

#define ASKING                                                                                     \
    "name: a\nmodel: m\nheartbeat_ms: 0\ntools: [add, asked]\n"                                    \
    "approval: {approvers: [ann, bob], timeout_secs: 60}\n"

static struct sl_error err;
static uint64_t timeout_ms, max_tokens; /* of the next run; 0: as they are */

static void start_detached(const char *yaml, enum sl_store_durability durability)
{
    sl_exec_rig_init(&rig, yaml);
    sl_fake_store_init(&store);
    (void)sl_store_free(rig.store);
    rig.store = rig.env.store = &store.base;
    rig.settings.durability = durability;
    rig.settings.on_disconnect = SL_DISCONNECT(DETACH);
    rig.settings.cancel_on_reset = false;
    rig.caller = "carl";
    rig.settings.run_timeout_ms = timeout_ms > 0 ? timeout_ms : rig.settings.run_timeout_ms;
    rig.settings.max_tokens = max_tokens;
    timeout_ms = max_tokens = 0;
    sl_exec_rig_start(&rig, "hello");
    assert_memory_equal(trace(), "run a|start 1/", sizeof("run a|start 1/") - 1);
}

static void ask(const char *first, const char *second)
{
    sl_fake_model_call(&rig.models, "p1", first, "{\"b\": 1}");
    if (second != NULL) {
        sl_fake_model_call(&rig.models, "p2", second, "{}");
    }
    sl_fake_model_usage(&rig.models, 100, 10);
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
}

static enum sl_status decide(bool is_approved, const char *principal)
{
    const struct sl_approval_answer answer = {
        .approval_id = rig.approval_id,
        .digest = sl_slice_of(rig.approval_digest, SL_SHA256_BYTES),
        .is_approved = is_approved,
        .principal = principal,
        .comment = "",
    };
    return sl_run_decide(rig.run, &answer, &err);
}

/* The process is gone; the store is as it was then, and the reader has no more than the store. */
static void crash(void)
{
    const size_t n_bytes = store.bytes.size;
    const uint64_t stored = store.stored;
    const bool rests = store.rests;
    const enum sl_store_state state = store.state;
    assert_true(rig.bytes.size <= n_bytes);
    store.failure = SL_OK;
    sl_exec_rig_crash(&rig);
    store.bytes.size = n_bytes;
    store.stored = stored;
    store.rests = rests;
    store.state = state;
    store.is_ended = false;
}

/* The next process takes the run up. */
static const char *take_up(void)
{
    struct sl_buf resume;
    assert_true(store.rests);
    assert_false(store.is_ended);
    sl_buf_init(&resume, store.resume.max_bytes);
    assert_int_equal(sl_buf_add(&resume, sl_buf_slice(&store.resume)), SL_OK);
    sl_exec_rig_take_up(&rig, sl_buf_slice(&resume), store.stored);
    sl_buf_done(&resume);
    return trace();
}

static void park(void)
{
    assert_true(sl_run_park(rig.run));
}

static void check_parked(void)
{
    sl_exec_rig_turn(&rig);
    assert_true(rig.has_ended);
    assert_true(rig.ending.is_parked);
    assert_string_equal(rig.ending.reason, "DRAINING");
    assert_int_equal(rig.ending.status, SL_ABORTED);
    assert_true(store.rests);
    assert_false(store.is_ended);
    assert_int_equal(sl_store_n_open(&store.base), 0);
    check_same_bytes();
}

static void end(const char *expected)
{
    sl_fake_model_text(&rig.models, "bye");
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    assert_string_equal(trace(), expected);
    check_same_bytes();
    assert_int_equal(store.state, SL_STORE_STATE_DONE);
    finish();
}

/* ---- Rest --------------------------------------------------------------------------------------
 */

/* AL-6.7, RL-4.2 */
static void a_run_that_waits_for_a_decision_survives_its_server(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both); i++) {
        start_detached(ASKING, both[i]);
        ask("add", "asked");
        (void)trace();
        assert_false(store.rests); /* a tool runs */
        sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "42");
        assert_string_equal(trace(), "tool tool_1 42");
        assert_true(store.rests);
        assert_int_equal(store.state, SL_STORE_STATE_WAITING);
        crash();
        const uint64_t expires_ms = rig.expires_at_ms;
        assert_string_equal(take_up(), "");
        assert_true(sl_run_is_waiting_approval(rig.run));
        assert_int_equal(sl_run_approvals(rig.run)->first->expires_at_ms, expires_ms);
        assert_int_equal(decide(true, "carl"), SL_PERMISSION_DENIED); /* who started it */
        assert_int_equal(decide(true, "ann"), SL_OK);
        assert_int_equal(decide(false, "bob"), SL_FAILED_PRECONDITION);
        assert_string_equal(trace(), "decided tool_2 APPROVED ann");
        assert_int_equal(rig.tools.n_started, 2);
        assert_string_equal(sl_fake_tool_arguments(&rig.tools, 1), "{}");
        assert_false(store.rests);
        assert_int_equal(store.state, SL_STORE_STATE_RUNNING);
        sl_fake_tool_done(&rig.tools, 1, SL_TOOL_OK, "43");
        assert_string_equal(trace(), "tool tool_2 43|start 2/10");
        assert_string_equal(
            rig.models.request,
            "user=hello;assistant=[p1:add{\"b\": 1}][p2:asked{}];tool=42<p1;tool=43<p2;");
        end("text bye|complete 2 END_TURN|done bye");
    }
}

/* Nobody has seen a decision that the next process may see otherwise, and what was decided is
 * stored before anything is done about it: RL-I3, AL-6.2. */
static void a_decision_is_stored_before_it_is_seen_or_acted_upon(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both); i++) {
        start_detached(ASKING, both[i]);
        ask("asked", NULL);
        (void)trace();
        assert_true(store.rests);
        store.holds = true;
        assert_int_equal(decide(true, "ann"), SL_OK);
        assert_string_equal(trace(), "");
        assert_int_equal(rig.tools.n_started, 0);
        assert_int_equal(store.n_pending, 1);
        store.holds = false;
        assert_string_equal(answer(), "decided tool_1 APPROVED ann");
        assert_int_equal(rig.tools.n_started, 1);
        assert_false(store.rests);
        sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
        assert_string_equal(trace(), "tool tool_1 1|start 2/10");
        end("text bye|complete 2 END_TURN|done bye");
    }
}

static void a_decision_that_was_not_stored_was_none(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both); i++) {
        start_detached(ASKING, both[i]);
        ask("asked", NULL);
        (void)trace();
        store.holds = true;
        assert_int_equal(decide(true, "ann"), SL_OK);
        (void)trace();
        store.holds = false;
        store.failure = SL_UNAVAILABLE;
        sl_fake_store_answer(&store);
        crash();
        assert_string_equal(take_up(), "");
        assert_int_equal(decide(false, "bob"), SL_OK);
        assert_string_equal(trace(), "decided tool_1 DENIED bob|tool tool_1 DENIED|start 2/10");
        end("text bye|complete 2 END_TURN|done bye");
    }
}

/* A decision may come while the store still takes the rest, or before it could be sent. */
static void a_rest_may_be_over_before_it_is_stored(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both) * 4; i++) {
        const size_t n_answered = i / SL_COUNT(both);
        start_detached(ASKING, both[i % SL_COUNT(both)]);
        store.holds = true;
        ask("asked", NULL);
        (void)trace();
        while (rig.run != NULL && sl_run_approvals(rig.run)->first == NULL) {
            (void)answer();
        }
        for (size_t n = 0; n < n_answered && store.n_pending > 0; n++) {
            (void)answer();
        }
        const struct sl_approval *approval = sl_run_approvals(rig.run)->first;
        (void)snprintf(rig.approval_id, sizeof(rig.approval_id), "%s", approval->approval_id);
        memcpy(rig.approval_digest, approval->digest, SL_SHA256_BYTES);
        const uint64_t before = sl_event_channel_last_sequence(sl_run_channel(rig.run));
        assert_int_equal(decide(true, "ann"), SL_OK);
        (void)trace();
        while (store.n_pending > 0) {
            (void)answer();
            assert_true(!store.rests || store.stored <= before); /* never with the decision */
        }
        assert_int_equal(rig.tools.n_started, 1);
        assert_false(store.rests);
        store.holds = false;
        sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
        (void)trace();
        end("text bye|complete 2 END_TURN|done bye");
    }
}

/* What it takes to go on is another by then: it is not sent at all. */
static void a_rest_that_waits_for_the_store_is_forgotten(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both); i++) {
        start_detached(ASKING, both[i]);
        ask("asked", "add");
        (void)trace();
        store.holds = true;
        sl_fake_tool_output(&rig.tools, 0, false, "an append is under way");
        (void)trace();
        assert_int_equal(store.n_pending, 1);
        sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
        assert_true(sl_run_is_waiting_approval(rig.run));
        assert_int_equal(decide(true, "ann"), SL_OK);
        (void)trace();
        while (store.n_pending > 0) {
            (void)answer();
            assert_false(store.rests);
        }
        assert_int_equal(rig.tools.n_started, 2);
        store.holds = false;
        sl_fake_tool_done(&rig.tools, 1, SL_TOOL_OK, "1");
        (void)trace();
        end("text bye|complete 2 END_TURN|done bye");
    }
}

static void nobody_decides_while_no_server_is_there(void **state)
{
    (void)state;
    start_detached(ASKING, SL_STORE_ASYNC);
    ask("asked", NULL);
    (void)trace();
    sl_exec_rig_advance_ms(&rig, 59000);
    assert_string_equal(trace(), "");
    crash();
    sl_fake_loop_advance_ms(&rig.loop, 999);
    assert_string_equal(take_up(), ""); /* it has a millisecond */
    sl_exec_rig_advance_ms(&rig, 1);
    assert_string_equal(trace(), "decided tool_1 EXPIRED |tool tool_1 APPROVAL_EXPIRED|start 2/10");
    end("text bye|complete 2 END_TURN|done bye");
}

static void the_end_of_a_run_ends_its_rest(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both); i++) {
        start_detached(ASKING, both[i]);
        ask("asked", NULL);
        (void)trace();
        assert_true(store.rests);
        store.holds = true;
        cancel();
        assert_string_equal(trace(), ""); /* as long as the store says that it rests */
        store.holds = false;
        assert_string_equal(
            answer(), "decided tool_1 CANCELLED |tool tool_1 CANCELLED|error CANCELLED");
        check_same_bytes();
        assert_int_equal(store.state, SL_STORE_STATE_CANCELLED);
        finish();
    }
}

/* ---- Parking -----------------------------------------------------------------------------------
 */

static void check_attempts(uint32_t iteration, uint32_t attempt)
{
    struct sl_resume resume;
    assert_int_equal(sl_resume_read(sl_buf_slice(&store.resume), &resume), SL_OK);
    assert_int_equal(resume.message->iteration, iteration);
    assert_int_equal(resume.message->attempt, attempt);
    sl_resume_done(&resume);
}

/* AL-7.2: as long as nothing has been written for the next process. */
static void a_run_that_is_cancelled_while_it_is_parked_ends_so(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both); i++) {
        start_detached(ASKING, both[i]);
        ask("add", "asked");
        (void)trace();
        rig.tools.ignores_cancel = true;
        park();
        sl_exec_rig_turn(&rig);
        assert_false(rig.has_ended); /* the tool is not dead yet */
        cancel();
        sl_fake_tool_done(&rig.tools, 0, SL_TOOL_CANCELLED, "");
        sl_exec_rig_turn(&rig);
        assert_true(rig.has_ended);
        assert_false(rig.ending.is_parked);
        assert_int_equal(rig.ending.code, SL_CODE(CANCELLED));
        assert_false(store.rests);
        assert_true(store.is_ended);
        assert_int_equal(store.state, SL_STORE_STATE_CANCELLED);
        check_same_bytes();
        finish();
    }
}

/* RL-3.7: in each state of the model's answer; the iteration begins again, and what was used
 * counts. */
static void an_answer_is_cut_off_and_asked_for_again(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both) * 4; i++) {
        const size_t how = i / SL_COUNT(both);
        start_detached(AGENT, both[i % SL_COUNT(both)]);
        if (how == 1) {
            sl_fake_model_phase(&rig.models, SL_MODEL_STREAM);
            sl_fake_model_text(&rig.models, "half a sen");
        } else if (how == 2) {
            sl_fake_model_retry(&rig.models, SL_FAULT_PROVIDER_OVERLOADED);
        } else if (how == 3) {
            sl_fake_model_text(&rig.models, "I look it up");
            sl_fake_model_call(&rig.models, "p1", "add", "{}");
        }
        (void)trace();
        park();
        const char *seen = trace();
        assert_string_equal(
            seen,
            how == 3 ? "complete 1 INTERRUPTED|tool tool_1 NOT_RUN" : "complete 1 INTERRUPTED");
        check_parked();
        assert_int_equal(store.state, SL_STORE_STATE_RUNNING);
        check_attempts(1, 1);
        assert_string_equal(take_up(), "start 1/10|attempt 2");
        assert_string_equal(rig.models.request, "user=hello;");
        assert_true(sl_run_usage(rig.run)->is_estimated);
        sl_fake_model_text(&rig.models, "whole");
        (void)trace();
        park(); /* and once more */
        check_parked();
        assert_string_equal(trace(), "complete 1 INTERRUPTED");
        check_attempts(1, 2);
        assert_string_equal(take_up(), "start 1/10|attempt 3");
        sl_fake_model_call(&rig.models, "p1", "add", "{}");
        sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
        (void)trace();
        sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
        (void)trace();
        end("text bye|complete 2 END_TURN|done bye");
    }
}

static void a_paused_answer_is_cut_off_too(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    sl_fake_store_init(&store);
    (void)sl_store_free(rig.store);
    rig.store = rig.env.store = &store.base;
    rig.settings.durability = SL_STORE_ASYNC;
    rig.settings.on_disconnect = SL_DISCONNECT(DETACH);
    rig.settings.mark_bytes = 4096;
    sl_exec_rig_start(&rig, "hello");
    (void)trace();
    rig.is_reading = false;
    char text[5000];
    memset(text, 'x', sizeof(text));
    sl_fake_model_bytes(&rig.models, sl_slice_of(text, sizeof(text)));
    sl_exec_rig_turn(&rig);
    assert_false(sl_fake_model_may_read(&rig.models));
    park();
    sl_exec_rig_turn(&rig);
    assert_true(rig.ending.is_parked); /* nobody waits for the reader */
    rig.is_reading = true;
    sl_exec_rig_turn(&rig);
    check_parked();
    (void)sl_exec_rig_trace(&rig);
    assert_string_equal(take_up(), "start 1/10|attempt 2");
    end("text bye|complete 1 END_TURN|done bye");
}

static void a_tool_that_runs_is_killed_and_its_outcome_unknown(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both); i++) {
        start_detached(AGENT, both[i]);
        ask("add", "add");
        (void)trace();
        rig.tools.ignores_cancel = true;
        park();
        (void)trace();
        assert_false(rig.has_ended);                       /* not before everything of it is dead */
        sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "7"); /* it was quicker */
        sl_fake_tool_done(&rig.tools, 1, SL_TOOL_CANCELLED, "");
        assert_string_equal(trace(), "tool tool_1 7|tool tool_2 OUTCOME_UNKNOWN");
        check_parked();
        rig.tools.ignores_cancel = false;
        assert_string_equal(take_up(), "start 2/10");
        assert_non_null(strstr(rig.models.request, "tool=7<p1;tool!={\"error\""));
        assert_non_null(strstr(rig.models.request, "OUTCOME_UNKNOWN"));
        assert_int_equal(rig.tools.n_started, 2);
        assert_int_equal(sl_run_usage(rig.run)->input_tokens, 100);
        end("text bye|complete 2 END_TURN|done bye");
    }
}

/* Calls behind parallel_tools were not begun. */
static void what_was_not_begun_is_begun_by_the_next(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both); i++) {
        start_detached(AGENT "parallel_tools: 1\n", both[i]);
        ask("add", "add");
        (void)trace();
        park();
        assert_string_equal(trace(), "tool tool_1 OUTCOME_UNKNOWN");
        check_parked();
        store.holds = true;
        assert_string_equal(take_up(), "");
        assert_int_equal(rig.tools.n_started, 1); /* the store does not know yet */
        store.holds = false;
        (void)answer();
        assert_int_equal(rig.tools.n_started, 2);
        assert_false(store.rests);
        sl_fake_tool_done(&rig.tools, 1, SL_TOOL_OK, "8");
        assert_string_equal(trace(), "tool tool_2 8|start 2/10");
        end("text bye|complete 2 END_TURN|done bye");
    }
}

/* It waited for a place among those of the process. */
static void a_call_that_had_no_room_yet_is_not_lost(void **state)
{
    (void)state;
    start_detached(AGENT, SL_STORE_ASYNC);
    ask("add", NULL);
    (void)trace();
    rig.tools.has_no_room = true;
    park();
    assert_string_equal(trace(), "");
    check_parked();
    rig.tools.has_no_room = false;
    assert_string_equal(take_up(), "");
    assert_int_equal(rig.tools.n_started, 2);
    sl_fake_tool_done(&rig.tools, 1, SL_TOOL_OK, "8");
    assert_string_equal(trace(), "tool tool_1 8|start 2/10");
    end("text bye|complete 2 END_TURN|done bye");
}

/* AL-6.8: the client is gone with its stream; what it ran nobody knows, what it did not run nobody
 * can run. */
static void the_tools_of_a_client_are_gone(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        sl_exec_rig_init(&rig, AGENT "parallel_tools: 1\n");
        sl_fake_store_init(&store);
        (void)sl_store_free(rig.store);
        rig.store = rig.env.store = &store.base;
        rig.settings.durability = SL_STORE_SYNC;
        rig.settings.on_disconnect = SL_DISCONNECT(DETACH);
        rig.client_tools[0] = sl_fake_tool_new(&rig.tools, "mine");
        rig.n_client_tools = 1;
        sl_exec_rig_start(&rig, "hello");
        (void)trace();
        ask(i == 0 ? "mine" : "add", i == 0 ? NULL : "mine");
        (void)trace();
        park();
        assert_string_equal(trace(), "tool tool_1 OUTCOME_UNKNOWN");
        check_parked();
        assert_string_equal(
            take_up(), i == 0 ? "start 2/10" : "tool tool_2 UNKNOWN_TOOL|start 2/10");
        end("text bye|complete 2 END_TURN|done bye");
    }
}

static void an_approval_stays_open(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both) * 2; i++) {
        const bool is_all = i >= SL_COUNT(both);
        start_detached(ASKING, both[i % SL_COUNT(both)]);
        ask("asked", is_all ? NULL : "add");
        (void)trace();
        park();
        assert_string_equal(trace(), is_all ? "" : "tool tool_2 OUTCOME_UNKNOWN");
        check_parked();
        assert_int_equal(store.state, SL_STORE_STATE_WAITING);
        assert_string_equal(take_up(), "");
        assert_int_equal(decide(true, "ann"), SL_OK);
        assert_string_equal(trace(), "decided tool_1 APPROVED ann");
        sl_fake_tool_done(&rig.tools, rig.tools.n_started - 1, SL_TOOL_OK, "9");
        assert_string_equal(trace(), "tool tool_1 9|start 2/10");
        end("text bye|complete 2 END_TURN|done bye");
    }
}

/* ---- What goes on where it was ------------------------------------------------------------------
 */

static void time_goes_on(void **state)
{
    (void)state;
    timeout_ms = 10000;
    start_detached(AGENT, SL_STORE_ASYNC);
    sl_exec_rig_advance_ms(&rig, 4000);
    park();
    check_parked();
    (void)sl_exec_rig_trace(&rig);
    sl_fake_loop_advance_ms(&rig.loop, 3000);
    assert_string_equal(take_up(), "start 1/10|attempt 2");
    sl_exec_rig_advance_ms(&rig, 2999);
    assert_string_equal(trace(), "");
    sl_exec_rig_advance_ms(&rig, 1);
    assert_string_equal(trace(), "complete 1 INTERRUPTED|error DEADLINE_EXCEEDED");
    assert_int_equal(rig.last->error->execution_time_ms, 10000);
    check_same_bytes();
    finish();
}

/* AL-5.25 */
static void a_deadline_that_has_passed_ends_it_at_once(void **state)
{
    (void)state;
    timeout_ms = 10000;
    start_detached(ASKING, SL_STORE_SYNC);
    ask("asked", NULL);
    (void)trace();
    crash();
    sl_fake_loop_advance_ms(&rig.loop, 11000);
    assert_string_equal(
        take_up(), "decided tool_1 CANCELLED |tool tool_1 CANCELLED|error DEADLINE_EXCEEDED");
    finish();
}

static const char *call_add(void)
{
    sl_fake_model_call(&rig.models, "p", "add", "{}");
    sl_fake_model_usage(&rig.models, 100, 10);
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    return trace();
}

/* AL-4.2: five times the same call, of which two processes made two each. */
static void the_loop_guard_goes_on(void **state)
{
    (void)state;
    start_detached(AGENT, SL_STORE_ASYNC);
    for (uint32_t i = 0; i < 4; i++) {
        (void)call_add();
        sl_fake_tool_done(&rig.tools, i, SL_TOOL_OK, "1");
        (void)trace();
        if (i % 2 == 1) {
            sl_fake_model_call(&rig.models, "p", "add", "{}"); /* cut off: it does not count */
            (void)trace();
            park();
            (void)trace();
            check_parked();
            (void)take_up();
        }
    }
    assert_non_null(
        strstr(call_add(), "complete 5 TOOL_USE|tool tool_7 NOT_RUN|error LOOP_DETECTED"));
    assert_true(rig.last->error->usage->input_tokens >= 500);
    check_same_bytes();
    finish();
}

static void the_token_budget_and_the_iterations_go_on(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        max_tokens = i == 0 ? 150 : 0;
        start_detached(i == 0 ? AGENT : AGENT "max_iterations: 1\n", SL_STORE_ASYNC);
        (void)call_add();
        park();
        (void)trace();
        check_parked();
        assert_string_equal(take_up(), i == 0 ? "start 2/10" : "error MAX_ITERATIONS");
        if (i == 0) {
            (void)call_add();
            sl_fake_tool_done(&rig.tools, 1, SL_TOOL_OK, "1");
            assert_string_equal(trace(), "tool tool_2 1|error BUDGET_EXCEEDED");
        }
        check_same_bytes();
        finish();
    }
}

/* ---- What cannot be parked ----------------------------------------------------------------------
 */

static void who_is_not_parked(void **state)
{
    (void)state;
    start(SL_STORE_ASYNC); /* CANCEL */
    assert_false(sl_run_park(rig.run));
    assert_false(rig.has_ended);
    cancel();
    assert_false(sl_run_park(rig.run)); /* it is ending */
    finish();
}

/* AL-6.1: they are never stored. */
static void credentials_do_not_outlive_their_server(void **state)
{
    const struct sl_credential list[] = { { "token", "abc" } };
    (void)state;
    prepare(SL_STORE_ASYNC);
    assert_int_equal(sl_credentials_new(list, 1, &rig.credentials), SL_OK);
    rig.settings.on_disconnect = SL_DISCONNECT(DETACH);
    sl_exec_rig_start(&rig, "hello");
    assert_false(sl_run_park(rig.run));
    cancel();
    finish();
}

/* AL-5.26, row 28: the store cannot take it. */
static void a_store_that_fails_parks_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both); i++) {
        start_detached(ASKING, both[i]);
        ask("asked", NULL);
        (void)trace();
        store.failure = SL_UNAVAILABLE;
        park();
        sl_exec_rig_advance_ms(&rig, SL_RECORD_STOP_MS);
        assert_true(rig.has_ended);
        assert_false(rig.ending.is_parked);
        assert_string_equal(trace(), "error STORE_UNAVAILABLE");
        store.failure = SL_OK;
        sl_exec_rig_advance_ms(&rig, 60000);
        finish();
    }
}

static void what_is_too_large_is_not_parked(void **state)
{
    (void)state;
    start_detached(AGENT, SL_STORE_ASYNC);
    rig.limits.store_queue = 100;
    park();
    assert_string_equal(trace(), "complete 1 INTERRUPTED|error DRAINING");
    assert_false(rig.ending.is_parked);
    assert_int_equal(store.state, SL_STORE_STATE_FAILED);
    check_same_bytes();
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_that_waits_for_a_decision_survives_its_server),
        cmocka_unit_test(a_decision_is_stored_before_it_is_seen_or_acted_upon),
        cmocka_unit_test(a_decision_that_was_not_stored_was_none),
        cmocka_unit_test(a_rest_may_be_over_before_it_is_stored),
        cmocka_unit_test(a_rest_that_waits_for_the_store_is_forgotten),
        cmocka_unit_test(nobody_decides_while_no_server_is_there),
        cmocka_unit_test(the_end_of_a_run_ends_its_rest),
        cmocka_unit_test(a_run_that_is_cancelled_while_it_is_parked_ends_so),
        cmocka_unit_test(an_answer_is_cut_off_and_asked_for_again),
        cmocka_unit_test(a_paused_answer_is_cut_off_too),
        cmocka_unit_test(a_tool_that_runs_is_killed_and_its_outcome_unknown),
        cmocka_unit_test(what_was_not_begun_is_begun_by_the_next),
        cmocka_unit_test(a_call_that_had_no_room_yet_is_not_lost),
        cmocka_unit_test(the_tools_of_a_client_are_gone),
        cmocka_unit_test(an_approval_stays_open),
        cmocka_unit_test(time_goes_on),
        cmocka_unit_test(a_deadline_that_has_passed_ends_it_at_once),
        cmocka_unit_test(the_loop_guard_goes_on),
        cmocka_unit_test(the_token_budget_and_the_iterations_go_on),
        cmocka_unit_test(who_is_not_parked),
        cmocka_unit_test(credentials_do_not_outlive_their_server),
        cmocka_unit_test(a_store_that_fails_parks_nothing),
        cmocka_unit_test(what_is_too_large_is_not_parked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
