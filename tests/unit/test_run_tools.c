/* The tool phase of a run (AL-6): order, parallelism, failures, budgets, what the model gets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/exec/encode.h"
#include "tests/fake/exec_rig.h"

#define AGENT "name: a\nmodel: m\nheartbeat_ms: 0\ntools: [add, sub, denied, asked]\n"

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

static void end(void)
{
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    sl_exec_rig_done(&rig);
}

static void calls_run_and_their_results_go_to_the_model_in_call_order(void **state)
{
    (void)state;
    start(AGENT);
    sl_fake_model_text(&rig.models, "Let me see.");
    sl_fake_model_call(&rig.models, "p1", "add", "{\"a\":1}");
    sl_fake_model_call(&rig.models, "p2", "sub", "");
    assert_int_equal(rig.tools.n_started, 0); /* not before the iteration is complete */
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, "tool_calls");
    assert_string_equal(
        trace(), "text Let me see.|call tool_1 add {\"a\":1}|call tool_2 sub {}|"
                 "complete 1 TOOL_USE");
    assert_int_equal(rig.tools.n_started, 2);
    assert_string_equal(sl_fake_tool_arguments(&rig.tools, 0), "{\"a\":1}");
    sl_fake_tool_done(&rig.tools, 1, SL_TOOL_OK, "{\"r\":2}");
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "{\"r\":1}");
    assert_string_equal(trace(), "tool tool_2 {\"r\":2}|tool tool_1 {\"r\":1}|start 2/10");
    assert_string_equal(
        rig.models.request, "user=hello;assistant=Let me see.[p1:add{\"a\":1}][p2:sub{}];"
                            "tool={\"r\":1}<p1;tool={\"r\":2}<p2;");
    end();
}

/* AL-4.1 */
/* PM-2.4 (reasoning_details_echo): what the provider wants back stays with its own turn. */
static void opaque_state_goes_back_with_its_turn_only(void **state)
{
    (void)state;
    start(AGENT);
    sl_fake_model_call(&rig.models, "p1", "add", "{}");
    sl_fake_model_opaque(&rig.models, "[{\"k\":1}]");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
    sl_exec_rig_turn(&rig);
    assert_string_equal(
        rig.models.request, "user=hello;assistant=[p1:add{}]?[{\"k\":1}];tool=1<p1;");
    sl_fake_model_call(&rig.models, "p2", "sub", "{}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    sl_fake_tool_done(&rig.tools, 1, SL_TOOL_OK, "2");
    sl_exec_rig_turn(&rig);
    assert_string_equal(
        rig.models.request, "user=hello;assistant=[p1:add{}]?[{\"k\":1}];tool=1<p1;"
                            "assistant=[p2:sub{}];tool=2<p2;");
    end();
}

static void a_stop_with_calls_means_tool_use(void **state)
{
    (void)state;
    static const enum sl_model_finish finishes[] = { SL_FINISH_END_TURN, SL_FINISH_STOP_SEQUENCE,
                                                     SL_FINISH_UNKNOWN, SL_FINISH_TOOL_USE };
    for (size_t i = 0; i < SL_COUNT(finishes); i++) {
        start(AGENT);
        sl_fake_model_call(&rig.models, "p1", "add", "{}");
        sl_fake_model_finish(&rig.models, finishes[i], "stop");
        assert_string_equal(trace(), "call tool_1 add {}|complete 1 TOOL_USE");
        sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
        assert_string_equal(trace(), "tool tool_1 1|start 2/10");
        end();
    }
}

static void calls_of_a_bad_end_are_not_run(void **state)
{
    (void)state;
    static const struct {
        enum sl_model_finish finish;
        const char *expected;
    } rows[] = {
        { SL_FINISH_MAX_TOKENS, "call tool_1 add {}|complete 1 MAX_TOKENS|tool tool_1 NOT_RUN|"
                                "done " },
        { SL_FINISH_CONTENT_FILTER, "call tool_1 add {}|complete 1 CONTENT_FILTER|"
                                    "tool tool_1 NOT_RUN|error CONTENT_FILTER" },
    };
    for (size_t i = 0; i < SL_COUNT(rows); i++) {
        start(AGENT);
        sl_fake_model_call(&rig.models, "p1", "add", "{}");
        sl_fake_model_finish(&rig.models, rows[i].finish, "x");
        assert_string_equal(trace(), rows[i].expected);
        assert_int_equal(rig.tools.n_started, 0);
        sl_exec_rig_done(&rig);
    }
    start(AGENT);
    sl_fake_model_call(&rig.models, "p1", "add", "{}");
    sl_fake_model_fail(&rig.models, SL_FAULT_PROVIDER_TRUNCATED, 0);
    assert_string_equal(
        trace(), "call tool_1 add {}|complete 1 INTERRUPTED|tool tool_1 NOT_RUN|"
                 "error PROVIDER_TRUNCATED");
    sl_exec_rig_done(&rig);
}

static void call_eight_times_three_at_once(void)
{
    for (int i = 0; i < 8; i++) {
        char arguments[32];
        (void)snprintf(arguments, sizeof(arguments), "{\"n\":%d}", i);
        sl_fake_model_call(&rig.models, NULL, "add", arguments);
    }
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    sl_exec_rig_turn(&rig);
    for (size_t i = 0; i < 8; i++) {
        char arguments[32];
        (void)snprintf(arguments, sizeof(arguments), "{\"n\":%zu}", i);
        assert_string_equal(sl_fake_tool_arguments(&rig.tools, i), arguments);
        assert_int_equal(rig.tools.n_live, 8 - i < 3 ? 8 - i : 3);
        sl_fake_tool_done(&rig.tools, i, SL_TOOL_OK, "1");
        sl_exec_rig_turn(&rig);
    }
    assert_int_equal(rig.tools.n_most_live, 3);
    assert_int_equal(rig.models.n_started, 2);
    end();
}

static void no_more_than_the_parallel_limit_run_at_once(void **state)
{
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_parallel_tools);
    (void)state;
    start(AGENT "parallel_tools: 3\n");
    call_eight_times_three_at_once();
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_parallel_tools), n_before); /* the agent's own */
    sl_exec_rig_init(&rig, AGENT "parallel_tools: 3\n");
    rig.limits.parallel_tools = 3;
    sl_exec_rig_start(&rig, "hello");
    (void)trace();
    call_eight_times_three_at_once();
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_parallel_tools), n_before + 1); /* an answer */
}

static void a_failed_call_tells_the_model_why(void **state)
{
    (void)state;
    start(AGENT);
    sl_fake_model_call(&rig.models, "p1", "add", "{}");
    sl_fake_model_call(&rig.models, "p2", "nothing", "{}");
    sl_fake_model_call(&rig.models, "p3", "denied", "{}");
    sl_fake_model_call(&rig.models, "p4", "asked", "{}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    assert_string_equal(
        trace(), "call tool_1 add {}|call tool_2 nothing {}|call tool_3 denied {}|"
                 "call tool_4 asked {}|complete 1 TOOL_USE|tool tool_2 UNKNOWN_TOOL|"
                 "tool tool_3 DENIED|tool tool_4 DENIED");
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_EXIT_NONZERO, "{\"stdout\":\"x\"}");
    sl_exec_rig_turn(&rig);
    assert_non_null(strstr(
        rig.models.request,
        "tool!={\"error\":{\"code\":\"EXIT_NONZERO\",\"message\":\"the tool's own words\"},"
        "\"partial\":{\"stdout\":\"x\"}}<p1;"));
    assert_non_null(strstr(
        rig.models.request,
        "tool!={\"error\":{\"code\":\"UNKNOWN_TOOL\",\"message\":\"there is no tool 'nothing'\"}}"
        "<p2;"));
    end();
}

/* AL-6.1 */
static void arguments_that_are_no_object_are_kept_as_text(void **state)
{
    (void)state;
    start(AGENT);
    sl_fake_model_call(&rig.models, "p1", "add", "{\"a\":");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    assert_string_equal(
        trace(), "call tool_1 add {\"_invalid_arguments\":\"{\\\"a\\\":\"}|complete 1 TOOL_USE");
    assert_string_equal(
        sl_fake_tool_arguments(&rig.tools, 0), "{\"a\":"); /* it says what is wrong */
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_INVALID_ARGS, "");
    (void)trace();
    assert_non_null(strstr(rig.models.request, "[p1:add{\"_invalid_arguments\":\"{\\\"a\\\":\"}]"));
    end();
}

/* T8, AL-6.1: nothing is run with half of its arguments, whatever they look like. */
static void arguments_over_the_limit_are_refused_and_told(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    rig.settings.tool_call_deltas = true;
    sl_exec_rig_start(&rig, "hello");
    (void)trace();
    sl_fake_model_long_call(&rig.models, "p1", "{\"a\":1}", 1024);
    sl_fake_model_call(&rig.models, "p2", "add", "{\"a\":1}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    assert_string_equal(
        trace(), "call tool_1 add {\"_invalid_arguments\":\"{\\\"a\\\":1}\"}|"
                 "call tool_2 add {\"a\":1}|complete 1 TOOL_USE|tool tool_1 INVALID_ARGS");
    assert_string_equal(sl_fake_tool_arguments(&rig.tools, 0), "{\"a\":1}");
    assert_int_equal(rig.tools.n_live, 1);
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
    (void)trace();
    assert_non_null(strstr(
        rig.models.request,
        "tool!={\"error\":{\"code\":\"INVALID_ARGS\",\"message\":\"add: the arguments have more "
        "than 1024 bytes, which is the most allowed\"}}<p1;"));
    end();
}

/* PM-1.6: arguments of over 256 KiB, a JSON object or not. */
static const char *large(bool is_object)
{
    static char text[SL_JOB_DOCUMENT_BYTES + 32];
    (void)snprintf(text, sizeof(text), "{\"a\":1%*s", SL_JOB_DOCUMENT_BYTES, is_object ? "}" : "");
    return text;
}

static void large_arguments_are_read_on_the_pool_and_in_order(void **state)
{
    (void)state;
    start(AGENT);
    rig.loop.holds_jobs = true;
    sl_fake_model_call(&rig.models, "p1", "add", "{\"a\":1}");
    assert_string_equal(trace(), "call tool_1 add {\"a\":1}");
    assert_int_equal(rig.loop.n_jobs, 0); /* small ones are not */
    sl_fake_model_call(&rig.models, "p2", "sub", large(true));
    sl_fake_model_call(&rig.models, "p3", "add", "{\"a\":3}");
    sl_fake_model_call(&rig.models, "p4", "sub", large(false));
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    assert_string_equal(trace(), "");
    assert_int_equal(rig.loop.n_jobs, 1);
    assert_int_equal(rig.models.n_live, 0); /* the answer is complete, its connection free */
    sl_fake_loop_end_jobs(&rig.loop);
    const char *first = trace();
    assert_memory_equal(first, "call tool_2 sub {\"a\":1 ", 22);
    assert_non_null(strstr(first, "|call tool_3 add {\"a\":3}"));
    assert_null(strstr(first, "complete"));
    sl_fake_loop_end_jobs(&rig.loop);
    const char *second = trace();
    assert_memory_equal(second, "call tool_4 sub {\"_invalid_arguments\":\"{\\\"a\\\":1 ", 45);
    assert_non_null(strstr(second, "|complete 1 TOOL_USE"));
    assert_int_equal(rig.loop.n_jobs, 2);
    assert_int_equal(rig.tools.n_started, 4);
    assert_int_equal(strlen(sl_fake_tool_arguments(&rig.tools, 1)), SL_JOB_DOCUMENT_BYTES + 6);
    for (size_t i = 0; i < 4; i++) {
        sl_fake_tool_done(&rig.tools, i, SL_TOOL_OK, "1");
    }
    (void)trace();
    end();
}

static void large_calls_that_are_the_same_are_a_loop(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    rig.limits.loop_guard = 2;
    sl_exec_rig_start(&rig, "hello");
    sl_fake_model_call(&rig.models, "p1", "add", large(true));
    sl_fake_model_call(&rig.models, "p2", "add", "{\"a\":1}"); /* the same in canonical form */
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    (void)trace();
    assert_int_equal(rig.ending.code, SL_CODE(LOOP_DETECTED));
    sl_exec_rig_done(&rig);
}

/* PM-2.3.3 */
static void a_large_call_that_was_cut_is_none(void **state)
{
    (void)state;
    start(AGENT);
    sl_fake_model_cut_call(&rig.models, "p1", large(false));
    sl_fake_model_cut_call(&rig.models, "p2", large(true));
    sl_fake_model_cut_call(&rig.models, "p3", large(false));
    sl_fake_model_finish(&rig.models, SL_FINISH_MAX_TOKENS, "length");
    const char *text = trace();
    assert_memory_equal(text, "call tool_2 add {\"a\":1 ", 22);
    assert_non_null(strstr(text, "|complete 1 MAX_TOKENS|tool tool_2 NOT_RUN|"));
    assert_null(strstr(text, "tool_1"));
    assert_null(strstr(text, "tool_3"));
    sl_exec_rig_done(&rig);
}

static void ids_that_repeat_are_replaced_for_the_model(void **state)
{
    (void)state;
    start(AGENT);
    sl_fake_model_call(&rig.models, "p", "add", "{\"a\":1}");
    sl_fake_model_call(&rig.models, "p", "add", "{\"a\":2}");
    sl_fake_model_call(&rig.models, NULL, "add", "{\"a\":3}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    sl_exec_rig_turn(&rig);
    for (size_t i = 0; i < 3; i++) {
        sl_fake_tool_done(&rig.tools, i, SL_TOOL_OK, i == 0 ? "1" : i == 1 ? "2" : "3");
    }
    sl_exec_rig_turn(&rig);
    assert_non_null(strstr(rig.models.request, "tool=1<p;tool=2<tool_2;tool=3<tool_3;"));
    end();
}

/* With two calls allowed, by the request or by the limit. */
static void call_three_times(void)
{
    sl_exec_rig_start(&rig, "hello");
    (void)trace();
    sl_fake_model_call(&rig.models, "p1", "add", "{\"a\":1}");
    sl_fake_model_call(&rig.models, "p2", "add", "{\"a\":2}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    sl_exec_rig_turn(&rig);
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
    sl_fake_tool_done(&rig.tools, 1, SL_TOOL_OK, "1");
    (void)trace();
    sl_fake_model_call(&rig.models, "p3", "add", "{\"a\":3}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    assert_string_equal(
        trace(), "call tool_3 add {\"a\":3}|complete 2 TOOL_USE|tool tool_3 NOT_RUN|"
                 "error BUDGET_EXCEEDED");
    assert_int_equal(rig.ending.status, SL_RESOURCE_EXHAUSTED);
    sl_exec_rig_done(&rig);
}

/* AL-5.4 */
static void too_many_calls_end_the_run(void **state)
{
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_calls_per_run);
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    rig.settings.max_tool_calls = 2;
    call_three_times();
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_calls_per_run), n_before);
    sl_exec_rig_init(&rig, AGENT);
    rig.settings.max_tool_calls = rig.limits.calls_per_run = 2;
    call_three_times();
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_calls_per_run), n_before + 1);
}

/* AL-5.19 */
static void too_many_calls_at_once_are_a_fault_of_the_provider(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    rig.limits.calls_per_iteration = 1;
    sl_exec_rig_start(&rig, "hello");
    (void)trace();
    sl_fake_model_call(&rig.models, "p1", "add", "{}");
    sl_fake_model_call(&rig.models, "p2", "add", "{}");
    assert_string_equal(
        trace(), "call tool_1 add {}|complete 1 INTERRUPTED|tool tool_1 NOT_RUN|"
                 "error PROVIDER_LIMIT");
    sl_exec_rig_done(&rig);
}

/* AL-10: what the model has said goes back whole, however little RunDone may have. */
static void the_final_texts_limit_does_not_cut_the_conversation(void **state)
{
    (void)state;
    char text[301];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    sl_exec_rig_init(&rig, AGENT);
    rig.limits.final_text = 100;
    sl_exec_rig_start(&rig, "hello");
    sl_fake_model_text(&rig.models, text);
    sl_fake_model_call(&rig.models, NULL, "add", "{}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    sl_exec_rig_turn(&rig);
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
    sl_exec_rig_turn(&rig);
    assert_non_null(strstr(rig.models.request, text));
    sl_fake_model_text(&rig.models, text);
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    sl_exec_rig_turn(&rig);
    assert_int_equal(strlen(rig.last->done->content), 100);
    assert_true(rig.last->done->content_truncated);
    sl_exec_rig_done(&rig);
}

/* Of an agent without tools nothing more is kept; that it asks for one all the same is its end. */
static void a_conversation_that_would_be_cut_ends_the_run(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, "name: a\nmodel: m\nheartbeat_ms: 0\n");
    rig.limits.final_text = 1024;
    sl_exec_rig_start(&rig, "hello");
    for (int i = 0; i < 200; i++) {
        sl_fake_model_text(&rig.models, "0123456789");
    }
    sl_fake_model_call(&rig.models, NULL, "add", "{}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    sl_exec_rig_turn(&rig);
    assert_int_equal(rig.ending.code, SL_CODE(PROVIDER_LIMIT));
    sl_exec_rig_done(&rig);
}

/* AL-4.2: the arguments are compared in canonical form. */
static void the_same_call_five_times_is_a_loop(void **state)
{
    (void)state;
    start(AGENT);
    for (size_t i = 0; i < 4; i++) {
        sl_fake_model_call(
            &rig.models, NULL, "add", i % 2 == 0 ? "{\"a\":1,\"b\":2}" : "{ \"b\":2, \"a\":1 }");
        sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
        sl_exec_rig_turn(&rig);
        sl_fake_tool_done(&rig.tools, i, SL_TOOL_OK, "1");
        (void)trace();
    }
    sl_fake_model_call(&rig.models, NULL, "add", "{\"b\":2,\"a\":1}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    assert_string_equal(
        trace(), "call tool_5 add {\"b\":2,\"a\":1}|complete 5 TOOL_USE|tool tool_5 NOT_RUN|"
                 "error LOOP_DETECTED");
    assert_int_equal(rig.tools.n_started, 4);
    sl_exec_rig_done(&rig);
}

/* AL-5.4 */
static void the_token_budget_is_looked_at_before_each_iteration(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    rig.settings.max_tokens = 100;
    sl_exec_rig_start(&rig, "hello");
    (void)trace();
    sl_fake_model_call(&rig.models, NULL, "add", "{}");
    sl_fake_model_usage(&rig.models, 60, 40);
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    sl_exec_rig_turn(&rig);
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
    assert_string_equal(
        trace(), "call tool_1 add {}|complete 1 TOOL_USE|tool tool_1 1|error BUDGET_EXCEEDED");
    assert_int_equal(rig.last->error->usage->input_tokens, 60);
    sl_exec_rig_done(&rig);
}

/* AL-5.4, AL-2.3: the cost of each iteration, and of the run. */
static void the_cost_budget_is_looked_at_before_each_iteration(void **state)
{
    (void)state;
    sl_fake_model_price = (struct sl_model_price){
        .is_known = true, .currency = "USD", .input_picos = 1000000, .output_picos = 2000000
    };
    sl_exec_rig_init(&rig, AGENT);
    sl_fake_model_price.is_known = false;
    rig.settings.max_cost_micros = 280;
    sl_exec_rig_start(&rig, "hello");
    for (size_t i = 0; i < 2; i++) {
        sl_fake_model_call(&rig.models, NULL, "add", "{}");
        sl_fake_model_usage(&rig.models, 60, 40);
        sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
        sl_exec_rig_turn(&rig);
        assert_int_equal(rig.last->event_case, SL_EVENT(ITERATION_COMPLETE));
        assert_int_equal(rig.last->iteration_complete->usage->cost_micros, 140);
        assert_string_equal(rig.last->iteration_complete->usage->currency, "USD");
        sl_fake_tool_done(&rig.tools, i, SL_TOOL_OK, "1");
        sl_exec_rig_turn(&rig);
    }
    assert_int_equal(rig.last->event_case, SL_EVENT(ERROR));
    assert_int_equal(rig.last->error->code, SL_CODE(BUDGET_EXCEEDED));
    assert_int_equal(rig.last->error->usage->cost_micros, 280);
    assert_string_equal(rig.last->error->usage->currency, "USD");
    sl_exec_rig_done(&rig);
}

static void ask_for_another_iteration(void)
{
    sl_fake_model_call(&rig.models, NULL, "add", "{}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    sl_exec_rig_turn(&rig);
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
    assert_string_equal(
        trace(), "call tool_1 add {}|complete 1 TOOL_USE|tool tool_1 1|error MAX_ITERATIONS");
    assert_string_equal(rig.last->error->message, "Exceeded max iterations (1)");
    sl_exec_rig_done(&rig);
}

/* AL-5.3 */
static void the_last_iteration_may_not_ask_for_another(void **state)
{
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_iterations);
    (void)state;
    start(AGENT "max_iterations: 1\n");
    ask_for_another_iteration();
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_iterations), n_before);
    sl_exec_rig_init(&rig, AGENT "max_iterations: 1\n");
    rig.limits.iterations = 1;
    sl_exec_rig_start(&rig, "hello");
    (void)trace();
    ask_for_another_iteration();
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_iterations), n_before + 1);
}

/* AL-2.2 */
static void fragments_are_shown_on_request(void **state)
{
    (void)state;
    start(AGENT);
    sl_fake_model_fragment(&rig.models, 0, "add", "{\"a");
    assert_string_equal(trace(), "");
    end();
    sl_exec_rig_init(&rig, AGENT);
    rig.settings.tool_call_deltas = true;
    sl_exec_rig_start(&rig, "hello");
    (void)trace();
    sl_fake_model_fragment(&rig.models, 0, "add", "{\"\xC3");
    assert_string_equal(trace(), "fragment 0 add {\"\xEF\xBF\xBD");
    end();
}

/* AL-2.2: at most ten a second, 4 KiB each, the rest merged or dropped. */
static void live_output_is_merged_and_bounded(void **state)
{
    (void)state;
    start(AGENT);
    sl_fake_model_call(&rig.models, NULL, "add", "{}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    (void)trace();
    sl_fake_tool_output(&rig.tools, 0, false, "one ");
    sl_fake_tool_output(&rig.tools, 0, false, "two ");
    sl_fake_tool_output(&rig.tools, 0, false, "three");
    assert_string_equal(trace(), "progress tool_1 one ");
    sl_exec_rig_advance_ms(&rig, 99);
    assert_string_equal(trace(), "");
    sl_exec_rig_advance_ms(&rig, 1);
    assert_string_equal(trace(), "progress tool_1 two three");
    char text[10001];
    memset(text, 'x', 10000);
    text[10000] = '\0';
    sl_exec_rig_advance_ms(&rig, 100);
    sl_fake_tool_output(&rig.tools, 0, true, text);
    sl_exec_rig_turn(&rig);
    assert_int_equal(strlen(rig.last->tool_progress->output_chunk), 4096);
    assert_int_equal(
        rig.last->tool_progress->output_stream, SLUICE__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDERR);
    (void)trace();
    sl_fake_tool_output(&rig.tools, 0, false, "late");
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
    assert_string_equal(trace(), "tool tool_1 1|start 2/10");
    end();
}

/* AL-2.2 */
static void a_large_result_is_cut_in_the_event_only(void **state)
{
    (void)state;
    char *text = sl_alloc(100001);
    assert_non_null(text);
    memset(text, 'x', 100000);
    text[0] = text[99999] = '"';
    text[100000] = '\0';
    start(AGENT);
    sl_fake_model_call(&rig.models, NULL, "add", "{}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    sl_exec_rig_turn(&rig);
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, text);
    sl_exec_rig_read(&rig, 1);
    assert_int_equal(rig.last->event_case, SL_EVENT(TOOL_CALL_COMPLETE));
    assert_int_equal(strlen(rig.last->tool_call_complete->result_json), 32768);
    assert_true(rig.last->tool_call_complete->result_truncated);
    assert_int_equal(rig.last->tool_call_complete->result_bytes, 100000);
    end();
    (void)sl_free(text);
}

/* AL-6.1: the calls of a run get what its request brought; the run owns it. */
static void a_call_gets_the_credentials_of_its_run(void **state)
{
    (void)state;
    const struct sl_credential list[] = { { "token", "abc" } };
    sl_exec_rig_init(&rig, AGENT);
    assert_int_equal(sl_credentials_new(list, 1, &rig.credentials), SL_OK);
    sl_exec_rig_start(&rig, "hello");
    assert_null(rig.credentials);
    sl_fake_model_call(&rig.models, NULL, "add", "{}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    sl_exec_rig_turn(&rig);
    assert_string_equal(
        sl_credentials_find(sl_fake_tool_credentials(&rig.tools, 0), "token"), "abc");
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
    sl_exec_rig_turn(&rig);
    (void)trace();
    end();
}

/* The limit tool_result_event. */
static void the_cut_of_a_result_can_be_set(void **state)
{
    (void)state;
    start(AGENT);
    rig.limits.tool_result_event = 3;
    sl_fake_model_call(&rig.models, NULL, "add", "{}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    sl_exec_rig_turn(&rig);
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "\"\xC3\xA9\xC3\xA9\"");
    sl_exec_rig_read(&rig, 1);
    assert_string_equal(rig.last->tool_call_complete->result_json, "\"\xC3\xA9");
    assert_true(rig.last->tool_call_complete->result_truncated);
    end();
}

/* The limit loop_guard. */
static void the_length_of_a_loop_can_be_set(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    rig.limits.loop_guard = 2;
    sl_exec_rig_start(&rig, "hello");
    sl_fake_model_call(&rig.models, NULL, "add", "{}");
    sl_fake_model_call(&rig.models, NULL, "add", "{}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    sl_exec_rig_turn(&rig);
    assert_non_null(strstr(trace(), "LOOP_DETECTED"));
    sl_exec_rig_done(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_run_and_their_results_go_to_the_model_in_call_order),
        cmocka_unit_test(opaque_state_goes_back_with_its_turn_only),
        cmocka_unit_test(a_stop_with_calls_means_tool_use),
        cmocka_unit_test(calls_of_a_bad_end_are_not_run),
        cmocka_unit_test(no_more_than_the_parallel_limit_run_at_once),
        cmocka_unit_test(a_failed_call_tells_the_model_why),
        cmocka_unit_test(arguments_that_are_no_object_are_kept_as_text),
        cmocka_unit_test(arguments_over_the_limit_are_refused_and_told),
        cmocka_unit_test(large_arguments_are_read_on_the_pool_and_in_order),
        cmocka_unit_test(large_calls_that_are_the_same_are_a_loop),
        cmocka_unit_test(a_large_call_that_was_cut_is_none),
        cmocka_unit_test(ids_that_repeat_are_replaced_for_the_model),
        cmocka_unit_test(too_many_calls_end_the_run),
        cmocka_unit_test(too_many_calls_at_once_are_a_fault_of_the_provider),
        cmocka_unit_test(the_final_texts_limit_does_not_cut_the_conversation),
        cmocka_unit_test(a_conversation_that_would_be_cut_ends_the_run),
        cmocka_unit_test(the_same_call_five_times_is_a_loop),
        cmocka_unit_test(the_token_budget_is_looked_at_before_each_iteration),
        cmocka_unit_test(the_cost_budget_is_looked_at_before_each_iteration),
        cmocka_unit_test(the_last_iteration_may_not_ask_for_another),
        cmocka_unit_test(fragments_are_shown_on_request),
        cmocka_unit_test(live_output_is_merged_and_bounded),
        cmocka_unit_test(a_large_result_is_cut_in_the_event_only),
        cmocka_unit_test(a_call_gets_the_credentials_of_its_run),
        cmocka_unit_test(the_cut_of_a_result_can_be_set),
        cmocka_unit_test(the_length_of_a_loop_can_be_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
