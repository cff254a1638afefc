/* Runs of agents with an output schema (AL-4.8, AL-5.8). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/loop.h"
#include "runtime/base/mem.h"
#include "runtime/exec/encode.h"
#include "tests/fake/exec_rig.h"

#define AGENT                                                                                      \
    "name: a\nmodel: m\nheartbeat_ms: 0\ntools: [add]\n"                                           \
    "output_schema: {type: object, properties: {n: {type: integer}}, required: [n]}\n"
#define RETRIES AGENT "on_validation_error: retry\n"

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

static void answer(const char *text, enum sl_model_finish finish)
{
    sl_fake_model_text(&rig.models, text);
    sl_fake_model_finish(&rig.models, finish, NULL);
}

static void an_answer_that_fits_is_a_success(void **state)
{
    (void)state;
    start(AGENT);
    answer("{\"n\":1}", SL_FINISH_END_TURN);
    assert_string_equal(trace(), "text {\"n\":1}|complete 1 END_TURN|done {\"n\":1}");
    sl_exec_rig_done(&rig);
}

/* AL-5.8: code, status, retryable; history "full". */
static void an_answer_that_does_not_fit_is_an_error(void **state)
{
    (void)state;
    start(AGENT);
    answer("one", SL_FINISH_END_TURN);
    assert_string_equal(trace(), "text one|complete 1 END_TURN|error OUTPUT_INVALID");
    assert_int_equal(rig.ending.status, SL_FAILED_PRECONDITION);
    assert_false(rig.last->error->retryable);
    assert_null(strstr(rig.last->error->message, "one"));
    assert_int_equal(rig.history.n_messages, 2);
    assert_true(sl_slice_equals(rig.history.messages[1].content, "one"));
    sl_exec_rig_done(&rig);
}

/* AL-4.8: the violation is a message of the user, and the next iteration begins. */
static void the_model_is_told_what_does_not_fit(void **state)
{
    (void)state;
    start(RETRIES);
    answer("one", SL_FINISH_END_TURN);
    assert_string_equal(trace(), "text one|complete 1 END_TURN|start 2/10");
    assert_non_null(strstr(rig.models.request, "user=hello;assistant=one;user=Your answer does"));
    assert_non_null(strstr(rig.models.request, "it is not JSON"));
    answer("{\"n\":1}", SL_FINISH_END_TURN);
    assert_string_equal(trace(), "text {\"n\":1}|complete 2 END_TURN|done {\"n\":1}");
    assert_int_equal(rig.last->done->total_iterations, 2);
    sl_exec_rig_done(&rig);
}

static void the_retries_of_a_run_are_counted(void **state)
{
    (void)state;
    start(RETRIES "max_retries: 2\n");
    answer("one", SL_FINISH_END_TURN);
    answer("two", SL_FINISH_END_TURN);
    assert_string_equal(
        trace(), "text one|complete 1 END_TURN|start 2/10|text two|complete 2 END_TURN|start 3/10");
    answer("three", SL_FINISH_END_TURN);
    assert_string_equal(trace(), "text three|complete 3 END_TURN|error OUTPUT_INVALID");
    sl_exec_rig_done(&rig);
    start(RETRIES); /* one, unless the file says otherwise */
    answer("one", SL_FINISH_END_TURN);
    answer("two", SL_FINISH_END_TURN);
    assert_non_null(strstr(trace(), "complete 2 END_TURN|error OUTPUT_INVALID"));
    sl_exec_rig_done(&rig);
}

static void a_retry_is_an_iteration(void **state)
{
    (void)state;
    start(RETRIES "max_iterations: 1\n");
    answer("one", SL_FINISH_END_TURN);
    assert_string_equal(trace(), "text one|complete 1 END_TURN|error MAX_ITERATIONS");
    sl_exec_rig_done(&rig);
}

static void a_violation_may_pass(void **state)
{
    (void)state;
    start(AGENT "on_validation_error: passthrough\n");
    answer("one", SL_FINISH_END_TURN);
    assert_string_equal(trace(), "text one|complete 1 END_TURN|done one");
    sl_exec_rig_done(&rig);
}

/* A verdict is for one answer. */
static void an_answer_that_is_not_read_has_no_verdict(void **state)
{
    (void)state;
    start(RETRIES);
    answer("one", SL_FINISH_END_TURN);
    (void)trace();
    answer("tw", SL_FINISH_MAX_TOKENS);
    assert_string_equal(trace(), "text tw|complete 2 MAX_TOKENS|done tw");
    sl_exec_rig_done(&rig);
}

/* AL-4.8 speaks of END_TURN: what was cut says so itself, and tools come first. */
static void only_a_last_answer_is_read(void **state)
{
    (void)state;
    start(AGENT);
    answer("{\"n\":", SL_FINISH_MAX_TOKENS);
    assert_string_equal(trace(), "text {\"n\":|complete 1 MAX_TOKENS|done {\"n\":");
    sl_exec_rig_done(&rig);
    start(AGENT);
    sl_fake_model_call(&rig.models, "p1", "add", "{}");
    answer("I add.", SL_FINISH_END_TURN);
    sl_exec_rig_turn(&rig);
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
    (void)trace();
    answer("{\"n\":1}", SL_FINISH_END_TURN);
    assert_string_equal(trace(), "text {\"n\":1}|complete 2 END_TURN|done {\"n\":1}");
    sl_exec_rig_done(&rig);
}

static void a_lenient_answer_keeps_its_words(void **state)
{
    (void)state;
    start(AGENT "validation_mode: lenient\n");
    answer("Here:\n```json\n{\"n\":1}\n```", SL_FINISH_END_TURN);
    assert_non_null(strstr(trace(), "done Here:\n```json\n{\"n\":1}\n```"));
    sl_exec_rig_done(&rig);
}

/* The text is whole when it is looked at, however it was split and merged. */
static void held_text_is_read_too(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    rig.settings.min_flush_ms = 1000;
    sl_exec_rig_start(&rig, "hello");
    sl_fake_model_text(&rig.models, "{\"n\"");
    answer(":1}", SL_FINISH_END_TURN);
    assert_non_null(strstr(trace(), "done {\"n\":1}"));
    sl_exec_rig_done(&rig);
}

/* ---- Large answers (PM-1.6) -------------------------------------------------------------------
 */

/* More than a loop reads itself. */
static void answer_at_length(const char *end)
{
    static char text[65536];
    memset(text, ' ', sizeof(text) - 1);
    for (size_t n = 0; n <= SL_JOB_DOCUMENT_BYTES / (sizeof(text) - 1); n++) {
        sl_fake_model_text(&rig.models, text);
    }
    answer(end, SL_FINISH_END_TURN);
}

static void a_large_answer_is_read_on_the_pool(void **state)
{
    (void)state;
    for (int is_good = 0; is_good < 2; is_good++) {
        start(AGENT);
        rig.settings.mark_bytes = 4 * 1024 * 1024;
        rig.loop.holds_jobs = true;
        answer_at_length(is_good == 1 ? "{\"n\":1}" : "{\"n\":\"1\"}");
        assert_null(strstr(trace(), "complete"));
        rig.loop.holds_jobs = false;
        const char *end = trace();
        assert_int_equal(strncmp(end, "complete 1 END_TURN|", 20), 0);
        assert_int_equal(rig.last->event_case, is_good == 1 ? SL_EVENT(DONE) : SL_EVENT(ERROR));
        sl_exec_rig_done(&rig);
    }
}

/* Nothing is left of the job when its verdict is there. */
static void a_run_can_be_cancelled_after_its_answer_was_read(void **state)
{
    (void)state;
    start(RETRIES);
    answer_at_length("{}");
    assert_non_null(strstr(trace(), "complete 1 END_TURN|start 2/10"));
    const struct sl_ending ending = sl_ending_cancelled(SL_CANCEL_REASON(CANCEL_RPC));
    sl_run_cancel(rig.run, &ending);
    assert_string_equal(trace(), "complete 2 INTERRUPTED|error CANCELLED");
    sl_exec_rig_done(&rig);
}

/* AL-7.4 */
static void a_run_can_be_cancelled_while_its_answer_is_read(void **state)
{
    (void)state;
    for (int has_begun = 0; has_begun < 2; has_begun++) {
        start(AGENT);
        rig.loop.holds_jobs = true;
        answer_at_length("{\"n\":1}");
        (void)trace();
        if (has_begun == 1) {
            sl_fake_loop_begin_jobs(&rig.loop);
        }
        const struct sl_ending ending = sl_ending_cancelled(SL_CANCEL_REASON(CANCEL_RPC));
        sl_run_cancel(rig.run, &ending);
        assert_string_equal(trace(), "complete 1 INTERRUPTED|error CANCELLED");
        assert_true(rig.has_ended);
        rig.loop.holds_jobs = false; /* the run is gone, and the pool not done */
        assert_string_equal(trace(), "");
        sl_exec_rig_done(&rig);
    }
}

/* What RunDone may have is no bound for what is looked at. */
static void the_final_texts_limit_does_not_cut_what_is_read(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, "name: a\nmodel: m\nheartbeat_ms: 0\noutput_schema: {type: object}\n");
    rig.limits.final_text = 4;
    sl_exec_rig_start(&rig, "hello");
    answer("{\"n\":1}", SL_FINISH_END_TURN);
    sl_exec_rig_turn(&rig);
    assert_int_equal(rig.last->event_case, SL_EVENT(DONE));
    assert_true(rig.last->done->content_truncated);
    sl_exec_rig_done(&rig);
}

static void an_answer_that_was_cut_is_not_read(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, "name: a\nmodel: m\nheartbeat_ms: 0\noutput_schema: {}\n");
    rig.limits.final_text = rig.limits.model_request = 1024;
    sl_exec_rig_start(&rig, "hello");
    for (int i = 0; i < 200; i++) {
        sl_fake_model_text(&rig.models, "0123456789");
    }
    answer("0", SL_FINISH_END_TURN);
    sl_exec_rig_turn(&rig);
    assert_int_equal(rig.ending.code, SL_CODE(PROVIDER_LIMIT));
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

/* An answer that does not fit, small or large, and one that does. Jansson's memory is not ours. */
static void run_once(bool is_large)
{
    sl_exec_rig_init(&rig, RETRIES);
    sl_exec_rig_start(&rig, "hello");
    n_allocations = 0;
    rig.is_reading = false;
    sl_mem_set_gate(fail_once);
    if (is_large) {
        answer_at_length("{}");
    } else {
        answer("{}", SL_FINISH_END_TURN);
    }
    (void)sl_fake_loop_run(&rig.loop);
    answer("{\"n\":1}", SL_FINISH_END_TURN);
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
    for (int is_large = 0; is_large < 2; is_large++) {
        failing_allocation = SIZE_MAX;
        run_once(is_large == 1);
        assert_int_equal(rig.ending.status, SL_OK);
        const size_t n = n_allocations;
        sl_exec_rig_done(&rig);
        size_t n_failed = 0;
        for (failing_allocation = 1; failing_allocation <= n; failing_allocation++) {
            run_once(is_large == 1);
            n_failed += rig.ending.status == SL_OK ? 0 : 1;
            sl_exec_rig_done(&rig);
        }
        assert_true(n_failed > 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_that_fits_is_a_success),
        cmocka_unit_test(an_answer_that_does_not_fit_is_an_error),
        cmocka_unit_test(the_model_is_told_what_does_not_fit),
        cmocka_unit_test(the_retries_of_a_run_are_counted),
        cmocka_unit_test(a_retry_is_an_iteration),
        cmocka_unit_test(a_violation_may_pass),
        cmocka_unit_test(an_answer_that_is_not_read_has_no_verdict),
        cmocka_unit_test(only_a_last_answer_is_read),
        cmocka_unit_test(a_lenient_answer_keeps_its_words),
        cmocka_unit_test(held_text_is_read_too),
        cmocka_unit_test(a_large_answer_is_read_on_the_pool),
        cmocka_unit_test(a_run_can_be_cancelled_after_its_answer_was_read),
        cmocka_unit_test(a_run_can_be_cancelled_while_its_answer_is_read),
        cmocka_unit_test(the_final_texts_limit_does_not_cut_what_is_read),
        cmocka_unit_test(an_answer_that_was_cut_is_not_read),
        cmocka_unit_test(a_refused_allocation_ends_the_run_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
