/* Answers that were cut off and are asked for again (AL-4.8). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/exec/encode.h"
#include "tests/fake/exec_rig.h"

#define AGENT    "name: a\nmodel: m\nheartbeat_ms: 0\ntools: [add]\n"
#define RESTARTS AGENT "restart_interrupted: true\n"

static struct sl_exec_rig rig;

static void start(const char *yaml)
{
    sl_exec_rig_init(&rig, yaml);
    sl_exec_rig_start(&rig, "hello");
    (void)sl_exec_rig_trace(&rig);
}

static const char *trace(void)
{
    sl_exec_rig_turn(&rig);
    return sl_exec_rig_trace(&rig);
}

static void cut(const char *text)
{
    sl_fake_model_text(&rig.models, text);
    sl_fake_model_fail(&rig.models, SL_FAULT_PROVIDER_TRUNCATED, 0);
}

/* AL-4.8: the same iteration, the next attempt, and nothing of the text before. */
static void a_cut_answer_is_asked_for_again(void **state)
{
    (void)state;
    start(RESTARTS);
    cut("wrong");
    assert_string_equal(trace(), "text wrong|complete 1 INTERRUPTED|start 1/10|attempt 2");
    assert_string_equal(rig.models.request, "user=hello;");
    sl_fake_model_text(&rig.models, "right");
    sl_fake_model_usage(&rig.models, 10, 2);
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    assert_string_equal(trace(), "text right|complete 1 END_TURN|done right");
    assert_int_equal(rig.last->done->total_iterations, 1);
    assert_int_equal(rig.last->done->usage->model_calls, 2);
    assert_true(rig.last->done->usage->estimated); /* what was cut off was used, too (AL-2.3) */
    assert_true(rig.last->done->output_tokens > 2);
    assert_int_equal(rig.history.n_messages, 2);
    assert_true(sl_slice_equals(rig.history.messages[1].content, "right"));
    sl_exec_rig_done(&rig);
}

static void nothing_is_asked_for_again_unless_the_agent_says_so(void **state)
{
    (void)state;
    start(AGENT);
    cut("half");
    assert_string_equal(trace(), "text half|complete 1 INTERRUPTED|error PROVIDER_TRUNCATED");
    sl_exec_rig_done(&rig);
}

/* AL-4.8: at most two in a run, wherever in it. */
static void the_restarts_of_a_run_are_counted(void **state)
{
    (void)state;
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_restarts);
    start(RESTARTS);
    cut("one");
    (void)trace();
    sl_fake_model_call(&rig.models, NULL, "add", "{}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    sl_exec_rig_turn(&rig);
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
    (void)trace();
    cut("two");
    assert_string_equal(trace(), "text two|complete 2 INTERRUPTED|start 2/10|attempt 2");
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_restarts), n_before);
    cut("three");
    assert_string_equal(trace(), "text three|complete 2 INTERRUPTED|error PROVIDER_TRUNCATED");
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_restarts), n_before + 1);
    sl_exec_rig_done(&rig);
}

static void how_many_restarts_there_are_is_a_limit(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, RESTARTS);
    rig.limits.restarts = 0;
    sl_exec_rig_start(&rig, "hello");
    (void)trace();
    cut("half");
    assert_string_equal(trace(), "text half|complete 1 INTERRUPTED|error PROVIDER_TRUNCATED");
    sl_exec_rig_done(&rig);
}

/* AL-3.2: no call is open when the iteration begins again; AL-4.2: and none of them counts. */
static void calls_of_a_cut_answer_are_over_and_forgotten(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, RESTARTS);
    rig.settings.max_tool_calls = 1;
    sl_exec_rig_start(&rig, "hello");
    (void)trace();
    sl_fake_model_call(&rig.models, "p1", "add", "{\"a\":1}");
    sl_fake_model_fail(&rig.models, SL_FAULT_PROVIDER_OVERLOADED, 0);
    assert_string_equal(
        trace(), "call tool_1 add {\"a\":1}|complete 1 INTERRUPTED|tool tool_1 NOT_RUN|"
                 "start 1/10|attempt 2");
    sl_fake_model_call(&rig.models, "p1", "add", "{\"a\":1}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    assert_string_equal(trace(), "call tool_2 add {\"a\":1}|complete 1 TOOL_USE");
    assert_int_equal(rig.tools.n_started, 1);
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
    (void)trace();
    assert_string_equal(rig.models.request, "user=hello;assistant=[p1:add{\"a\":1}];tool=1<p1;");
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    sl_exec_rig_done(&rig);
}

/* Large arguments wait for the pool, and nobody has seen their call. */
static void a_call_that_is_still_read_is_dropped(void **state)
{
    (void)state;
    static char large[SL_JOB_DOCUMENT_BYTES + 16];
    memset(large, ' ', sizeof(large) - 1);
    large[0] = '{';
    large[sizeof(large) - 2] = '}';
    start(RESTARTS);
    rig.loop.holds_jobs = true;
    sl_fake_model_call(&rig.models, "p1", "add", large);
    sl_fake_model_fail(&rig.models, SL_FAULT_PROVIDER_TIMEOUT, 0);
    assert_string_equal(trace(), "complete 1 INTERRUPTED|start 1/10|attempt 2");
    rig.loop.holds_jobs = false;
    sl_exec_rig_turn(&rig);
    assert_int_equal(rig.tools.n_started, 0);
    sl_fake_model_text(&rig.models, "right");
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    assert_string_equal(trace(), "text right|complete 1 END_TURN|done right");
    sl_exec_rig_done(&rig);
}

/* AL-8: what waited to be merged goes out with its own attempt. */
static void held_text_belongs_to_its_attempt(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, RESTARTS);
    rig.settings.min_flush_ms = 1000;
    sl_exec_rig_start(&rig, "hello");
    (void)trace();
    cut("held");
    assert_string_equal(trace(), "text held|complete 1 INTERRUPTED|start 1/10|attempt 2");
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    assert_string_equal(trace(), "complete 1 END_TURN|done ");
    sl_exec_rig_done(&rig);
}

static void only_what_may_pass_is_asked_for_again(void **state)
{
    (void)state;
    static const enum sl_model_fault ends[] = {
        SL_FAULT_PROVIDER_TLS,     SL_FAULT_PROVIDER_AUTH,     SL_FAULT_PROVIDER_REJECTED,
        SL_FAULT_PROVIDER_QUOTA,   SL_FAULT_PROVIDER_PROTOCOL, SL_FAULT_PROVIDER_LIMIT,
        SL_FAULT_CONTEXT_OVERFLOW, SL_FAULT_DEADLINE,          SL_FAULT_OUT_OF_MEMORY,
        SL_FAULT_INTERNAL,
    };
    static const enum sl_model_fault passes[] = {
        SL_FAULT_PROVIDER_UNREACHABLE, SL_FAULT_PROVIDER_RATE_LIMITED, SL_FAULT_PROVIDER_OVERLOADED,
        SL_FAULT_PROVIDER_TIMEOUT,     SL_FAULT_PROVIDER_TRUNCATED,
    };
    for (size_t i = 0; i < SL_COUNT(ends); i++) {
        start(RESTARTS);
        sl_fake_model_text(&rig.models, "x");
        sl_fake_model_fail(&rig.models, ends[i], 0);
        sl_exec_rig_turn(&rig);
        assert_int_equal(rig.models.n_started, 1);
        sl_exec_rig_done(&rig);
    }
    for (size_t i = 0; i < SL_COUNT(passes); i++) {
        start(RESTARTS);
        sl_fake_model_text(&rig.models, "x");
        sl_fake_model_fail(&rig.models, passes[i], 0);
        sl_exec_rig_turn(&rig);
        assert_int_equal(rig.models.n_started, 2);
        sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
        sl_exec_rig_done(&rig);
    }
}

/* AL-4.5: before the answer has begun the provider's own retries decide. */
static void an_answer_that_never_began_is_not_asked_for_again(void **state)
{
    (void)state;
    start(RESTARTS);
    sl_fake_model_fail(&rig.models, SL_FAULT_PROVIDER_OVERLOADED, 503);
    assert_string_equal(trace(), "complete 1 INTERRUPTED|error PROVIDER_OVERLOADED");
    sl_exec_rig_done(&rig);
}

static void who_says_how_long_to_wait_is_not_asked_again(void **state)
{
    (void)state;
    start(RESTARTS);
    sl_fake_model_text(&rig.models, "x");
    sl_fake_model_fail(&rig.models, SL_FAULT_PROVIDER_RATE_LIMITED, 429);
    assert_string_equal(trace(), "text x|complete 1 INTERRUPTED|error PROVIDER_RATE_LIMITED");
    assert_int_equal(rig.last->error->retry_after_ms, 1500);
    sl_exec_rig_done(&rig);
}

/* AL-4.4: the gate is there for each attempt. */
static void a_spent_budget_allows_no_restart(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, RESTARTS);
    rig.settings.max_tokens = 1;
    sl_exec_rig_start(&rig, "hello");
    (void)trace();
    cut("some text");
    assert_string_equal(trace(), "text some text|complete 1 INTERRUPTED|error BUDGET_EXCEEDED");
    sl_exec_rig_done(&rig);
}

static void the_last_iteration_may_begin_again(void **state)
{
    (void)state;
    start(RESTARTS "max_iterations: 1\n");
    cut("wrong");
    assert_string_equal(trace(), "text wrong|complete 1 INTERRUPTED|start 1/1|attempt 2");
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    assert_string_equal(trace(), "complete 1 END_TURN|done ");
    sl_exec_rig_done(&rig);
}

/* AL-7.4: the second attempt is cancelled as the first one would be. */
static void a_second_attempt_can_be_cancelled(void **state)
{
    (void)state;
    start(RESTARTS);
    cut("wrong");
    (void)trace();
    const struct sl_ending ending = sl_ending_cancelled(SL_CANCEL_REASON(CANCEL_RPC));
    sl_run_cancel(rig.run, &ending);
    assert_string_equal(trace(), "complete 1 INTERRUPTED|error CANCELLED");
    assert_int_equal(rig.last->error->total_iterations, 1);
    assert_int_equal(rig.last->error->usage->model_calls, 2);
    sl_exec_rig_done(&rig);
}

/* ---- Memory -----------------------------------------------------------------------------------
 */

static size_t n_allocations, failing_allocation;

static bool fail_once(size_t size)
{
    (void)size;
    n_allocations++;
    return n_allocations != failing_allocation;
}

/* A call, a cut, and an answer; how it ends depends on where memory was refused. */
static void run_once(void)
{
    sl_exec_rig_init(&rig, RESTARTS);
    sl_exec_rig_start(&rig, "hello");
    n_allocations = 0;
    rig.is_reading = false;
    sl_mem_set_gate(fail_once);
    sl_fake_model_call(&rig.models, "p1", "add", "{\"a\":1}");
    cut("wrong");
    sl_fake_model_text(&rig.models, "right");
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    (void)sl_fake_loop_run(&rig.loop);
    sl_mem_set_gate(NULL);
    rig.is_reading = true;
    sl_exec_rig_turn(&rig);
    assert_true(rig.has_ended);
    assert_true(rig.ending.code == SL_CODE(OUT_OF_MEMORY) || rig.ending.status == SL_OK);
}

/* AL-5.30 */
static void a_refused_allocation_ends_the_run_in_order(void **state)
{
    (void)state;
    failing_allocation = SIZE_MAX;
    run_once();
    assert_int_equal(rig.ending.status, SL_OK);
    const size_t n = n_allocations;
    sl_exec_rig_done(&rig);
    assert_true(n > 4);
    size_t n_failed = 0;
    for (failing_allocation = 1; failing_allocation <= n; failing_allocation++) {
        run_once();
        n_failed += rig.ending.status == SL_OK ? 0 : 1;
        sl_exec_rig_done(&rig);
    }
    assert_true(n_failed > 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cut_answer_is_asked_for_again),
        cmocka_unit_test(nothing_is_asked_for_again_unless_the_agent_says_so),
        cmocka_unit_test(the_restarts_of_a_run_are_counted),
        cmocka_unit_test(how_many_restarts_there_are_is_a_limit),
        cmocka_unit_test(calls_of_a_cut_answer_are_over_and_forgotten),
        cmocka_unit_test(a_call_that_is_still_read_is_dropped),
        cmocka_unit_test(held_text_belongs_to_its_attempt),
        cmocka_unit_test(only_what_may_pass_is_asked_for_again),
        cmocka_unit_test(an_answer_that_never_began_is_not_asked_for_again),
        cmocka_unit_test(who_says_how_long_to_wait_is_not_asked_again),
        cmocka_unit_test(a_spent_budget_allows_no_restart),
        cmocka_unit_test(the_last_iteration_may_begin_again),
        cmocka_unit_test(a_second_attempt_can_be_cancelled),
        cmocka_unit_test(a_refused_allocation_ends_the_run_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
