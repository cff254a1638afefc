/* Approvals, client-side tools and further input of a run (AL-6.7, AL-6.8). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/metrics.h"
#include "runtime/exec/client_result.h"
#include "runtime/exec/encode.h"
#include "tests/fake/exec_rig.h"

#define AGENT                                                                                      \
    "name: a\nmodel: m\nheartbeat_ms: 0\ntools: [add, asked]\n"                                    \
    "approval: {approvers: [ann, bob], timeout_secs: 60}\n"

static struct sl_exec_rig rig;
static struct sl_error err;

static void start_as(const char *yaml, const char *caller)
{
    sl_exec_rig_init(&rig, yaml);
    rig.caller = caller;
    sl_exec_rig_start(&rig, "hello");
    (void)sl_exec_rig_trace(&rig);
}

static const char *trace(void)
{
    sl_exec_rig_turn(&rig);
    return sl_exec_rig_trace(&rig);
}

static void end(void)
{
    if (!rig.has_ended) {
        sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    }
    sl_exec_rig_done(&rig);
}

/* The model asks for this tool once. */
static void ask(const char *name)
{
    sl_fake_model_call(&rig.models, "p1", name, "{\"b\": 1, \"a\": [2]}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    sl_exec_rig_turn(&rig);
}

static enum sl_status decide(bool is_approved, const char *principal, const char *comment)
{
    const struct sl_approval_answer answer = {
        .approval_id = rig.approval_id,
        .digest = sl_slice_of(rig.approval_digest, SL_SHA256_BYTES),
        .is_approved = is_approved,
        .principal = principal,
        .comment = comment,
    };
    return sl_run_decide(rig.run, &answer, &err);
}

/* ---- Decisions ---------------------------------------------------------------------------------
 */

static void an_approved_call_runs_and_only_then(void **state)
{
    (void)state;
    start_as(AGENT, "carl");
    ask("asked");
    assert_string_equal(
        sl_exec_rig_trace(&rig), "call tool_1 asked {\"b\": 1, \"a\": [2]}|complete 1 TOOL_USE|"
                                 "ask tool_1 asked {\"b\": 1, \"a\": [2]}");
    assert_int_equal(rig.tools.n_started, 0);
    assert_true(sl_run_is_waiting_approval(rig.run));
    uint8_t digest[SL_SHA256_BYTES]; /* of the canonical arguments, and nothing else */
    assert_int_equal(sl_sha256(sl_slice_str("{\"a\":[2],\"b\":1}"), digest), SL_OK);
    assert_memory_equal(rig.approval_digest, digest, SL_SHA256_BYTES);
    assert_int_equal(rig.expires_at_ms, sl_loop_wall_ms(&rig.loop.base) + 60000);
    assert_int_equal(decide(true, "ann", "fine"), SL_OK);
    assert_string_equal(trace(), "decided tool_1 APPROVED ann: fine");
    assert_int_equal(rig.tools.n_started, 1);
    assert_false(sl_run_is_waiting_approval(rig.run));
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
    assert_string_equal(trace(), "tool tool_1 1|start 2/10");
    end();
}

static void a_denied_one_does_not_and_the_model_is_told(void **state)
{
    (void)state;
    start_as(AGENT, "carl");
    ask("asked");
    (void)trace();
    assert_int_equal(decide(false, "bob", "never"), SL_OK);
    assert_string_equal(trace(), "decided tool_1 DENIED bob: never|tool tool_1 DENIED|start 2/10");
    assert_non_null(strstr(
        rig.models.request, "\"code\":\"DENIED\",\"message\":\"asked: denied: "
                            "never\""));
    assert_int_equal(rig.tools.n_started, 0);
    end();
}

static void nobody_decides_in_time(void **state)
{
    (void)state;
    start_as(AGENT, "carl");
    ask("asked");
    (void)trace();
    sl_exec_rig_advance_ms(&rig, 59999);
    assert_string_equal(trace(), "");
    sl_exec_rig_advance_ms(&rig, 1);
    assert_string_equal(trace(), "decided tool_1 EXPIRED |tool tool_1 APPROVAL_EXPIRED|start 2/10");
    assert_int_equal(decide(true, "ann", ""), SL_FAILED_PRECONDITION);
    end();
}

/* Each state of an approval, with each answer. */
static void only_the_first_decision_counts(void **state)
{
    static const bool answers[] = { true, false };
    (void)state;
    for (size_t first = 0; first < 3; first++) {
        start_as(AGENT, "carl");
        ask("asked");
        if (first < 2) {
            assert_int_equal(decide(answers[first], "ann", ""), SL_OK);
        } else {
            sl_exec_rig_advance_ms(&rig, 60000);
        }
        for (size_t i = 0; i < SL_COUNT(answers); i++) {
            assert_int_equal(decide(answers[i], "bob", ""), SL_FAILED_PRECONDITION);
        }
        if (first == 0) {
            sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
        }
        (void)trace();
        assert_int_equal(decide(true, "bob", ""), SL_FAILED_PRECONDITION); /* an iteration later */
        end();
    }
}

static void what_does_not_fit_decides_nothing(void **state)
{
    (void)state;
    static char long_comment[SL_APPROVAL_COMMENT_BYTES + 2];
    memset(long_comment, 'c', sizeof(long_comment) - 1);
    start_as(AGENT, "ann");
    ask("asked");
    (void)trace();
    assert_int_equal(decide(true, "ann", ""), SL_PERMISSION_DENIED); /* listed, but it is her run */
    assert_int_equal(decide(true, "carl", ""), SL_PERMISSION_DENIED);
    assert_int_equal(decide(true, "", ""), SL_PERMISSION_DENIED);
    assert_int_equal(decide(true, "bob", long_comment), SL_INVALID_ARGUMENT);
    rig.approval_digest[31] ^= 1;
    assert_int_equal(decide(true, "bob", ""), SL_INVALID_ARGUMENT);
    rig.approval_digest[31] ^= 1;
    char id[SL_ID_BYTES];
    memcpy(id, rig.approval_id, sizeof(id));
    rig.approval_id[0] = 'x';
    assert_int_equal(decide(true, "bob", ""), SL_NOT_FOUND);
    memcpy(rig.approval_id, id, sizeof(id));
    assert_string_equal(trace(), "");
    long_comment[SL_APPROVAL_COMMENT_BYTES] = '\0';
    assert_int_equal(decide(false, "bob", long_comment), SL_OK);
    (void)trace();
    end();
}

static void who_may_decide(void **state)
{
    static const struct {
        const char *approval, *caller, *principal;
        bool is_possible, may;
    } rows[] = {
        { "{}", "", "", false, false },
        { "{self: true}", "", "", true, true },
        { "{self: true}", "ann", "ann", true, true },
        { "{self: true}", "ann", "bob", true, false },
        { "{approvers: [ann]}", "", "ann", false, true }, /* no caller is known here */
        { "{approvers: [ann]}", "bob", "ann", true, true },
        { "{approvers: [ann]}", "ann", "ann", true, false },
        { "{approvers: [ann], self: true}", "ann", "ann", true, true },
        { "{approvers: ['*']}", "ann", "bob", true, true },
        { "{approvers: ['*']}", "ann", "ann", true, false },
        { "{approvers: ['*']}", "ann", "", true, false },
    };
    (void)state;
    for (size_t i = 0; i < SL_COUNT(rows); i++) {
        char yaml[256];
        (void)snprintf(
            yaml, sizeof(yaml), "name: a\nmodel: m\ntools: [asked]\napproval: %s\n",
            rows[i].approval);
        start_as(yaml, rows[i].caller);
        const struct sl_agent *agent = sl_agents_find(rig.agents, "a");
        assert_int_equal(sl_approval_is_possible(agent, rows[i].caller), rows[i].is_possible);
        assert_int_equal(
            sl_approval_may_decide(agent, rows[i].caller, rows[i].principal), rows[i].may);
        if (!rows[i].is_possible) { /* ask is deny */
            ask("asked");
            assert_non_null(strstr(sl_exec_rig_trace(&rig), "tool tool_1 DENIED|start 2/10"));
        }
        end();
    }
}

/* AL-7.4, AL-6.2: decided first, then completed; nothing of it is left. */
static void the_end_of_a_run_decides_what_is_open(void **state)
{
    static const char closed[] = "decided tool_1 CANCELLED |tool tool_1 CANCELLED|error ";
    (void)state;
    for (int how = 0; how < 4; how++) {
        start_as(AGENT "run_timeout_secs: 30\n", "carl");
        ask("asked");
        (void)trace();
        const struct sl_ending cancelled = sl_ending_cancelled(SL_CANCEL_REASON(CANCEL_RPC));
        const struct sl_ending draining = sl_ending_error(SL_CODE(DRAINING));
        switch (how) {
        case 0:
            sl_run_cancel(rig.run, &cancelled);
            break;
        case 1:
            sl_exec_rig_advance_ms(&rig, 30000);
            break;
        case 2:
            sl_run_cancel(rig.run, &draining);
            break;
        default:
            sl_run_reader_gone(rig.run, SL_RUN_GONE_RESET, 8);
            break;
        }
        assert_memory_equal(trace(), closed, sizeof(closed) - 1);
        assert_int_equal(rig.approvals.first->decision, SL_DECISION(CANCELLED));
        sl_exec_rig_done(&rig);
    }
}

static void a_call_that_waits_holds_no_other_and_keeps_its_turn(void **state)
{
    (void)state;
    start_as(AGENT "parallel_tools: 1\n", "carl");
    sl_fake_model_call(&rig.models, "p1", "asked", "{}");
    sl_fake_model_call(&rig.models, "p2", "add", "{}");
    sl_fake_model_call(&rig.models, "p3", "add", "{\"a\":1}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    (void)trace();
    assert_int_equal(rig.tools.n_live, 1);
    assert_false(sl_run_is_waiting_approval(rig.run));
    assert_int_equal(decide(true, "ann", ""), SL_OK);
    assert_int_equal(rig.tools.n_started, 1); /* there is no room yet */
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "2");
    (void)trace();
    assert_int_equal(rig.tools.n_started, 2);
    sl_fake_tool_done(&rig.tools, 1, SL_TOOL_OK, "1"); /* the approved one comes before the third */
    (void)trace();
    sl_fake_tool_done(&rig.tools, 2, SL_TOOL_OK, "3");
    (void)trace();
    assert_non_null(strstr(rig.models.request, "tool=1<p1;tool=2<p2;tool=3<p3;"));
    assert_int_equal(rig.tools.n_most_live, 1);
    end();
}

static void no_more_than_the_limit_wait_at_once(void **state)
{
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_approvals);
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    rig.limits.approvals = 1;
    rig.caller = "carl";
    sl_exec_rig_start(&rig, "hello");
    sl_fake_model_call(&rig.models, "p1", "asked", "{}");
    sl_fake_model_call(&rig.models, "p2", "asked", "{\"a\":1}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    assert_null(strstr(trace(), "ask tool_2"));
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_approvals), n_before + 1);
    assert_true(sl_run_is_waiting_approval(rig.run));
    assert_int_equal(decide(false, "ann", ""), SL_OK);
    assert_non_null(strstr(trace(), "ask tool_2"));
    assert_int_equal(decide(false, "ann", ""), SL_OK);
    (void)trace();
    end();
}

static void a_heartbeat_says_that_it_waits(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    rig.settings.heartbeat_ms = 1000;
    rig.caller = "carl";
    sl_exec_rig_start(&rig, "hello");
    ask("asked");
    sl_exec_rig_advance_ms(&rig, 1000);
    assert_int_equal(rig.phase, SLUICE__V1__RUN_PHASE__RUN_PHASE_APPROVAL);
    assert_int_equal(rig.n_open_tools, 1);
    assert_int_equal(decide(true, "ann", ""), SL_OK);
    sl_exec_rig_advance_ms(&rig, 1000);
    assert_int_equal(rig.phase, SLUICE__V1__RUN_PHASE__RUN_PHASE_TOOLS);
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
    (void)trace();
    end();
}

static void nobody_is_asked_about_arguments_that_the_tool_refuses(void **state)
{
    (void)state;
    start_as(AGENT, "carl");
    sl_fake_model_call(&rig.models, "p1", "asked", "[1]");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    const char *text = trace();
    assert_null(strstr(text, "ask "));
    assert_non_null(strstr(text, "tool tool_1 INVALID_ARGS|start 2/10"));
    end();
}

/* ---- Tools of the client -----------------------------------------------------------------------
 */

static void start_with_client(const char *name, const char *more)
{
    char yaml[256];
    (void)snprintf(yaml, sizeof(yaml), "%s%s", AGENT, more);
    sl_exec_rig_init(&rig, yaml);
    rig.client_tools[0] = sl_fake_tool_new(&rig.tools, name);
    rig.n_client_tools = 1;
    rig.caller = "carl";
    sl_exec_rig_start(&rig, "hello");
    (void)sl_exec_rig_trace(&rig);
}

static enum sl_status give(const char *tool_id, const char *result, const char *error)
{
    return sl_run_tool_result(rig.run, tool_id, sl_slice_str(result), sl_slice_str(error), &err);
}

static void the_client_s_result_is_the_tool_s(void **state)
{
    (void)state;
    start_with_client("mine", "");
    ask("mine");
    (void)trace();
    assert_int_equal(rig.tools.n_started, 0);
    assert_int_equal(give("tool_1", "{\"x\": 1}", ""), SL_OK);
    assert_string_equal(trace(), "tool tool_1 {\"x\": 1}|start 2/10");
    assert_non_null(strstr(rig.models.request, "tool={\"x\": 1}<p1;"));
    assert_int_equal(give("tool_1", "2", ""), SL_OK); /* late: ignored */
    ask("mine");
    (void)trace();
    assert_int_equal(give("tool_2", "", "no disk"), SL_OK);
    assert_string_equal(trace(), "tool tool_2 MCP_TOOL_ERROR|start 3/10");
    assert_non_null(strstr(rig.models.request, "\"message\":\"no disk\""));
    end();
}

static void a_result_may_come_before_its_call_begins(void **state)
{
    (void)state;
    start_with_client("mine", "parallel_tools: 1\n");
    sl_fake_model_call(&rig.models, "p1", "add", "{}");
    sl_fake_model_call(&rig.models, "p2", "mine", "{}");
    assert_int_equal(give("tool_2", "7", ""), SL_OK);
    assert_int_equal(give("tool_2", "8", ""), SL_OK);
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    assert_null(strstr(trace(), "tool tool_2"));
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
    assert_string_equal(trace(), "tool tool_1 1|tool tool_2 7|start 2/10");
    end();
}

static void a_result_that_came_for_a_call_that_never_begins_is_forgotten(void **state)
{
    (void)state;
    start_with_client("mine", "");
    sl_fake_model_call(&rig.models, "p1", "mine", "{}");
    sl_exec_rig_turn(&rig);
    assert_int_equal(give("tool_1", "7", ""), SL_OK);
    sl_fake_model_finish(&rig.models, SL_FINISH_CONTENT_FILTER, NULL);
    assert_non_null(strstr(trace(), "tool tool_1 NOT_RUN|error CONTENT_FILTER"));
    sl_exec_rig_done(&rig);
}

static void a_client_has_so_long(void **state)
{
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_client_tool);
    (void)state;
    start_with_client("mine", "");
    ask("mine");
    (void)trace();
    sl_exec_rig_advance_ms(&rig, 299999);
    assert_string_equal(trace(), "");
    sl_exec_rig_advance_ms(&rig, 1);
    assert_string_equal(trace(), "tool tool_1 TIMEOUT|start 2/10");
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_client_tool), n_before + 1);
    end();
}

static void results_for_other_calls_are_refused(void **state)
{
    (void)state;
    start_with_client("mine", "");
    ask("add");
    assert_int_equal(give("tool_1", "1", ""), SL_INVALID_ARGUMENT);
    assert_int_equal(give("tool_2", "1", ""), SL_INVALID_ARGUMENT);
    assert_int_equal(give("", "1", ""), SL_INVALID_ARGUMENT);
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
    (void)trace();
    end();
}

static void a_client_s_tool_may_need_an_approval(void **state)
{
    (void)state;
    start_with_client("asked_mine", "");
    ask("asked_mine");
    assert_int_equal(give("tool_1", "1", ""), SL_OK);
    assert_null(strstr(trace(), "tool tool_1"));
    assert_int_equal(decide(true, "ann", ""), SL_OK);
    assert_string_equal(trace(), "decided tool_1 APPROVED ann|tool tool_1 1|start 2/10");
    end();
}

static void a_client_that_is_gone_answers_nothing(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT "parallel_tools: 1\n");
    rig.settings.on_disconnect = SL_DISCONNECT(DETACH);
    rig.settings.cancel_on_reset = false;
    rig.client_tools[0] = sl_fake_tool_new(&rig.tools, "mine");
    rig.n_client_tools = 1;
    sl_exec_rig_start(&rig, "hello");
    sl_fake_model_call(&rig.models, "p1", "mine", "{}");
    sl_fake_model_call(&rig.models, "p2", "mine", "{\"a\":1}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    (void)trace();
    sl_run_reader_gone(rig.run, SL_RUN_GONE_LOST, 0);
    assert_string_equal(trace(), "tool tool_1 OUTCOME_UNKNOWN|tool tool_2 UNKNOWN_TOOL|start 2/10");
    end();
}

static void the_end_of_a_run_ends_the_client_s_calls(void **state)
{
    const struct sl_ending cancelled = sl_ending_cancelled(SL_CANCEL_REASON(CANCEL_RPC));
    (void)state;
    start_with_client("mine", "");
    ask("mine");
    (void)trace();
    sl_run_cancel(rig.run, &cancelled);
    assert_string_equal(trace(), "tool tool_1 CANCELLED|error CANCELLED");
    sl_exec_rig_done(&rig);
}

static void a_result_is_json_whatever_the_client_wrote(void **state)
{
    static const struct {
        const char *text, *expected;
    } rows[] = {
        { "{\"a\": 1}", "{\"a\": 1}" },
        { "[1,2]", "[1,2]" },
        { "\"x\"", "\"x\"" },
        { "null", "null" },
        { "plain \"text\"", "\"plain \\\"text\\\"\"" },
        { "{\"a\":", "\"{\\\"a\\\":\"" },
        { "{\"a\":1,\"a\":2}", "\"{\\\"a\\\":1,\\\"a\\\":2}\"" },
        { "12 34", "\"12 34\"" },
    };
    struct sl_client_result result;
    (void)state;
    for (size_t i = 0; i < SL_COUNT(rows); i++) {
        assert_int_equal(
            sl_client_result_make(sl_slice_str(rows[i].text), sl_slice_str(""), 64, &result),
            SL_OK);
        assert_string_equal(result.result_json, rows[i].expected);
        assert_null(result.error);
        assert_false(result.is_truncated);
        sl_client_result_done(&result);
    }
    const struct sl_slice cut = sl_slice_str("[1,2,3,4,\"\xc3\xa9\xc3\xa9\xc3\xa9\",5,6,7,8,9]");
    assert_int_equal(sl_client_result_make(cut, sl_slice_str("e"), 22, &result), SL_OK);
    assert_string_equal(
        result.result_json, "\"[1,2,3,4,\\\"\\n[... 7 bytes omitted ...]\\n,5,6,7,8,9]\"");
    assert_true(result.is_truncated);
    assert_int_equal(result.result_bytes, cut.size);
    assert_string_equal(result.error, "e");
    sl_client_result_done(&result);
}

/* ---- Further input -----------------------------------------------------------------------------
 */

static void input_waits_for_the_next_iteration(void **state)
{
    (void)state;
    start_as(AGENT, "carl");
    assert_int_equal(sl_run_user_input(rig.run, sl_slice_str("one"), &err), SL_OK);
    ask("add");
    assert_int_equal(sl_run_user_input(rig.run, sl_slice_str("two"), &err), SL_OK);
    assert_int_equal(rig.n_inputs_taken, 0);
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
    (void)trace();
    assert_int_equal(rig.n_inputs_taken, 1);
    assert_non_null(strstr(rig.models.request, "tool=1<p1;user=one;user=two;"));
    end();
    assert_false(rig.has_unheard);
}

static void so_much_input_waits(void **state)
{
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_user_inputs);
    (void)state;
    start_as(AGENT, "carl");
    ask("add");
    for (uint64_t i = 0; i < rig.limits.user_inputs; i++) {
        assert_int_equal(sl_run_user_input(rig.run, sl_slice_str("x"), &err), SL_OK);
    }
    assert_int_equal(sl_run_user_input(rig.run, sl_slice_str("x"), &err), SL_AGAIN);
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_user_inputs), n_before + 1);
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
    (void)trace();
    assert_int_equal(sl_run_user_input(rig.run, sl_slice_str("x"), &err), SL_OK);
    end();
    assert_true(rig.has_unheard); /* the last one came too late */
}

static void input_has_a_size_and_an_end(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    rig.limits.input = 4;
    sl_exec_rig_start(&rig, "hello");
    assert_int_equal(sl_run_user_input(rig.run, sl_slice_str(""), &err), SL_INVALID_ARGUMENT);
    assert_int_equal(sl_run_user_input(rig.run, sl_slice_str("12345"), &err), SL_INVALID_ARGUMENT);
    const struct sl_ending cancelled = sl_ending_cancelled(SL_CANCEL_REASON(CANCEL_RPC));
    sl_run_cancel(rig.run, &cancelled);
    assert_int_equal(sl_run_user_input(rig.run, sl_slice_str("x"), &err), SL_FAILED_PRECONDITION);
    sl_exec_rig_done(&rig);
}

#define TEST(name) cmocka_unit_test(name)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_approved_call_runs_and_only_then),
        TEST(a_denied_one_does_not_and_the_model_is_told),
        TEST(nobody_decides_in_time),
        TEST(only_the_first_decision_counts),
        TEST(what_does_not_fit_decides_nothing),
        TEST(who_may_decide),
        TEST(the_end_of_a_run_decides_what_is_open),
        TEST(a_call_that_waits_holds_no_other_and_keeps_its_turn),
        TEST(no_more_than_the_limit_wait_at_once),
        TEST(a_heartbeat_says_that_it_waits),
        TEST(nobody_is_asked_about_arguments_that_the_tool_refuses),
        TEST(the_client_s_result_is_the_tool_s),
        TEST(a_result_may_come_before_its_call_begins),
        TEST(a_result_that_came_for_a_call_that_never_begins_is_forgotten),
        TEST(a_client_has_so_long),
        TEST(results_for_other_calls_are_refused),
        TEST(a_client_s_tool_may_need_an_approval),
        TEST(a_client_that_is_gone_answers_nothing),
        TEST(the_end_of_a_run_ends_the_client_s_calls),
        TEST(a_result_is_json_whatever_the_client_wrote),
        TEST(input_waits_for_the_next_iteration),
        TEST(so_much_input_waits),
        TEST(input_has_a_size_and_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
