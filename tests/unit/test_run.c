/* A run without tools: iterations, text, usage, pace, heartbeats. */
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

#define AGENT "name: a\nmodel: m\nheartbeat_ms: 0\n"

static struct sl_exec_rig rig;

static void start(const char *yaml)
{
    sl_exec_rig_init(&rig, yaml);
    sl_exec_rig_start(&rig, "hello");
}

static const char *trace(void)
{
    sl_exec_rig_turn(&rig);
    return sl_exec_rig_trace(&rig);
}

static void an_answer_is_streamed_and_done(void **state)
{
    (void)state;
    start(AGENT "instructions: be kind\n");
    assert_string_equal(trace(), "run a|start 1/10");
    assert_string_equal(rig.models.request, "instructions=be kind;user=hello;");
    sl_fake_model_reasoning(&rig.models, "hm");
    sl_fake_model_text(&rig.models, "Hel");
    sl_fake_model_text(&rig.models, "lo");
    sl_fake_model_usage(&rig.models, 11, 7);
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, "stop");
    assert_string_equal(trace(), "thinking hm|text Hel|text lo|complete 1 END_TURN|done Hello");
    assert_int_equal(rig.last->done->input_tokens, 11);
    assert_int_equal(rig.last->done->output_tokens, 7);
    assert_int_equal(rig.last->done->total_iterations, 1);
    assert_int_equal(rig.last->done->usage->model_calls, 1);
    assert_false(rig.last->done->usage->estimated);
    assert_int_equal(rig.ending.status, SL_OK);
    assert_string_equal(rig.ending.reason, "");
    sl_exec_rig_done(&rig);
}

/* AL-4.1, rows without calls. */
static void the_stop_reason_decides_the_end(void **state)
{
    (void)state;
    static const struct {
        enum sl_model_finish finish;
        const char *expected;
    } rows[] = {
        { SL_FINISH_END_TURN, "complete 1 END_TURN|done x" },
        { SL_FINISH_STOP_SEQUENCE, "complete 1 STOP_SEQUENCE|done x" },
        { SL_FINISH_MAX_TOKENS, "complete 1 MAX_TOKENS|done x" },
        { SL_FINISH_UNKNOWN, "complete 1 END_TURN|done x" },
        { SL_FINISH_CONTENT_FILTER, "complete 1 CONTENT_FILTER|error CONTENT_FILTER" },
        { SL_FINISH_TOOL_USE, "complete 1 INTERRUPTED|error PROVIDER_PROTOCOL" },
    };
    for (size_t i = 0; i < SL_COUNT(rows); i++) {
        start(AGENT);
        sl_fake_model_text(&rig.models, "x");
        (void)trace();
        sl_fake_model_finish(&rig.models, rows[i].finish, "raw");
        assert_string_equal(trace(), rows[i].expected);
        sl_exec_rig_done(&rig);
    }
}

/* AL-4.1 */
static void a_pause_goes_on_with_what_was_said(void **state)
{
    (void)state;
    start(AGENT);
    sl_fake_model_text(&rig.models, "one");
    sl_fake_model_finish(&rig.models, SL_FINISH_PAUSE_TURN, "pause");
    assert_string_equal(trace(), "run a|start 1/10|text one|complete 1 PAUSE_TURN|start 2/10");
    assert_string_equal(rig.models.request, "user=hello;assistant=one;");
    sl_fake_model_text(&rig.models, "two");
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    assert_string_equal(trace(), "text two|complete 2 END_TURN|done two");
    sl_exec_rig_done(&rig);
}

/* AL-2.3 */
static void usage_that_is_not_reported_is_estimated(void **state)
{
    (void)state;
    start(AGENT);
    sl_fake_model_text(&rig.models, "12345");
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    (void)trace();
    assert_true(rig.last->done->usage->estimated);
    assert_int_equal(rig.last->done->usage->input_tokens, 100);
    assert_int_equal(rig.last->done->usage->output_tokens, 2);
    sl_exec_rig_done(&rig);
}

static void split_long_text(void)
{
    char text[401];
    sl_exec_rig_start(&rig, "hello");
    (void)trace();
    for (size_t i = 0; i < 400; i += 2) {
        memcpy(text + i, "\xC3\xA9", 2);
    }
    text[400] = '\0';
    sl_fake_model_text(&rig.models, "x");
    sl_fake_model_text(&rig.models, text);
    sl_exec_rig_turn(&rig);
    assert_int_equal(rig.n_events, 2 + 1 + 7);
    assert_int_equal(strlen(rig.last->text_delta->delta), 400 - 6 * 64);
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    sl_exec_rig_turn(&rig);
    assert_int_equal(strlen(rig.last->done->content), 401);
    sl_exec_rig_done(&rig);
}

/* AL-2.2 */
static void long_text_is_split_between_characters(void **state)
{
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_delta);
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    rig.settings.max_delta_bytes = 65;
    split_long_text();
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_delta), n_before); /* the run asked for it */
    sl_exec_rig_init(&rig, AGENT);
    rig.limits.delta = 65;
    split_long_text();
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_delta), n_before + 6);
}

/* AL-8 */
static void neighbouring_deltas_are_merged_on_request(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    rig.settings.min_flush_ms = 50;
    rig.settings.max_delta_bytes = 64;
    sl_exec_rig_start(&rig, "hello");
    (void)trace();
    sl_fake_model_text(&rig.models, "a");
    sl_fake_model_text(&rig.models, "b");
    assert_string_equal(trace(), "");
    sl_exec_rig_advance_ms(&rig, 49);
    assert_string_equal(trace(), "");
    sl_exec_rig_advance_ms(&rig, 1);
    assert_string_equal(trace(), "text ab");
    sl_fake_model_text(&rig.models, "c");
    sl_fake_model_reasoning(&rig.models, "hm"); /* flushes what is held */
    assert_string_equal(trace(), "text c|thinking hm");
    sl_fake_model_text(&rig.models, "d");
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    assert_string_equal(trace(), "text d|complete 1 END_TURN|done abcd");
    sl_exec_rig_done(&rig);
}

/* AL-8 */
static void a_cancel_sends_held_text_first(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    rig.settings.min_flush_ms = 50;
    sl_exec_rig_start(&rig, "hello");
    sl_fake_model_text(&rig.models, "a");
    const struct sl_ending ending = sl_ending_cancelled(SL_CANCEL_REASON(CANCEL_RPC));
    sl_run_cancel(rig.run, &ending);
    assert_string_equal(trace(), "run a|start 1/10|text a|complete 1 INTERRUPTED|error CANCELLED");
    sl_exec_rig_done(&rig);
}

/* AL-8 */
static void a_failure_sends_held_text_first(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    rig.settings.min_flush_ms = 50;
    sl_exec_rig_start(&rig, "hello");
    sl_fake_model_text(&rig.models, "a");
    sl_fake_model_fail(&rig.models, SL_FAULT_PROVIDER_TRUNCATED, 0);
    assert_string_equal(
        trace(), "run a|start 1/10|text a|complete 1 INTERRUPTED|error PROVIDER_TRUNCATED");
    sl_exec_rig_done(&rig);
}

/* AL-8: ToolCallStart is one of the structural events. */
static void a_call_sends_held_text_first(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT "tools: [add]\n");
    rig.settings.min_flush_ms = 50;
    sl_exec_rig_start(&rig, "hello");
    (void)trace();
    sl_fake_model_text(&rig.models, "a");
    sl_fake_model_call(&rig.models, NULL, "add", "{}");
    assert_string_equal(trace(), "text a|call tool_1 add {}");
    sl_exec_rig_part(&rig, SL_RUN_GONE_RESET);
    sl_exec_rig_done(&rig);
}

/* AL-2.2 */
static void the_final_text_outlives_the_window(void **state)
{
    (void)state;
    static const uint32_t windows[] = { 0, 100, 4096, 65536 };
    for (size_t i = 0; i < SL_COUNT(windows); i++) {
        sl_exec_rig_init(&rig, AGENT);
        rig.env.window_bytes = windows[i];
        sl_exec_rig_start(&rig, "hello");
        for (int n = 0; n < 5000; n++) {
            sl_fake_model_text(&rig.models, "0123456789abcdef");
            if (n % 7 == 0) {
                sl_exec_rig_turn(&rig);
            }
        }
        sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
        sl_exec_rig_turn(&rig);
        assert_int_equal(strlen(rig.last->done->content), 80000);
        for (size_t at = 0; at < 80000; at += 16) {
            assert_memory_equal(rig.last->done->content + at, "0123456789abcdef", 16);
        }
        assert_false(rig.last->done->content_truncated);
        sl_exec_rig_done(&rig);
    }
}

/* AL-2.2 */
static void the_final_text_is_cut_at_its_limit(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    rig.limits.final_text = 1025;
    sl_exec_rig_start(&rig, "hello");
    for (int n = 0; n < 1000; n++) {
        sl_fake_model_text(&rig.models, "\xC3\xA9");
    }
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    sl_exec_rig_turn(&rig);
    assert_int_equal(strlen(rig.last->done->content), 1024);
    assert_true(rig.last->done->content_truncated);
    sl_exec_rig_done(&rig);
}

/* The limit of an event is the final text's, too: Execute could not read it otherwise. */
static void the_final_text_fits_into_an_event(void **state)
{
    (void)state;
    char text[1001];
    memset(text, 'x', sizeof(text) - 1);
    text[1000] = '\0';
    sl_exec_rig_init(&rig, AGENT);
    rig.limits.event = 65536;
    sl_exec_rig_start(&rig, "hello");
    for (int n = 0; n < 100; n++) {
        sl_fake_model_text(&rig.models, text);
    }
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    sl_exec_rig_turn(&rig);
    assert_in_range(strlen(rig.last->done->content), 60000, 65536);
    assert_true(sluice__v1__stream_event__get_packed_size(rig.last) <= 65536);
    assert_true(rig.last->done->content_truncated);
    sl_exec_rig_done(&rig);
}

/* AL-2.2 */
static void content_is_left_out_on_request(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    rig.settings.omit_content = true;
    sl_exec_rig_start(&rig, "hello");
    sl_fake_model_text(&rig.models, "x");
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    sl_exec_rig_turn(&rig);
    assert_string_equal(rig.last->done->content, "");
    assert_false(rig.last->done->content_truncated);
    sl_exec_rig_done(&rig);
}

/* AL-8 */
static void a_slow_reader_holds_the_model_back(void **state)
{
    (void)state;
    char text[1001];
    memset(text, 'x', sizeof(text) - 1);
    text[1000] = '\0';
    sl_exec_rig_init(&rig, AGENT);
    rig.settings.mark_bytes = 8192;
    rig.is_reading = false;
    sl_exec_rig_start(&rig, "hello");
    int n_sent = 0;
    while (sl_fake_model_may_read(&rig.models) && n_sent < 100) {
        sl_fake_model_text(&rig.models, text);
        n_sent++;
    }
    assert_int_equal(n_sent, 8);
    sl_exec_rig_turn(&rig);
    assert_int_equal(rig.models.n_resumed, 0);
    sl_exec_rig_read(&rig, 3000);
    sl_exec_rig_turn(&rig);
    assert_int_equal(rig.models.n_resumed, 0); /* not at half yet */
    sl_exec_rig_read(&rig, 3000);
    sl_exec_rig_turn(&rig);
    assert_int_equal(rig.models.n_resumed, 1);
    assert_true(sl_fake_model_may_read(&rig.models));
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    sl_exec_rig_done(&rig);
}

/* AL-8 */
static void an_ending_passes_a_full_log(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    rig.settings.mark_events = 4;
    rig.is_reading = false;
    sl_exec_rig_start(&rig, "hello");
    sl_fake_model_text(&rig.models, "a");
    sl_fake_model_text(&rig.models, "b");
    assert_false(sl_fake_model_may_read(&rig.models));
    const struct sl_ending ending = sl_ending_cancelled(SL_CANCEL_REASON(CANCEL_RPC));
    sl_run_cancel(rig.run, &ending);
    assert_int_equal(rig.models.n_live, 0);
    rig.is_reading = true;
    assert_string_equal(
        trace(), "run a|start 1/10|text a|text b|complete 1 INTERRUPTED|error CANCELLED");
    sl_exec_rig_done(&rig);
}

/* AL-2.2 */
static void heartbeats_come_only_in_silence(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    rig.settings.heartbeat_ms = 1000;
    sl_exec_rig_start(&rig, "hello");
    sl_exec_rig_advance_ms(&rig, 999);
    assert_int_equal(rig.n_heartbeats, 0);
    sl_fake_model_phase(&rig.models, SL_MODEL_STREAM);
    sl_fake_model_text(&rig.models, "x");
    sl_exec_rig_advance_ms(&rig, 999);
    assert_int_equal(rig.n_heartbeats, 0);
    sl_exec_rig_advance_ms(&rig, 1);
    assert_int_equal(rig.n_heartbeats, 1);
    assert_int_equal(rig.phase, SLUICE__V1__RUN_PHASE__RUN_PHASE_MODEL_STREAM);
    sl_exec_rig_advance_ms(&rig, 3000);
    assert_int_equal(rig.n_heartbeats, 4);
    sl_fake_model_retry(&rig.models, SL_FAULT_PROVIDER_OVERLOADED);
    sl_exec_rig_advance_ms(&rig, 1000);
    assert_int_equal(rig.phase, SLUICE__V1__RUN_PHASE__RUN_PHASE_RETRY_WAIT);
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    sl_exec_rig_done(&rig);
}

static void beat(Sluice__V1__RunPhase phase, uint64_t last_sequence, size_t n_open_tools)
{
    const size_t n_before = rig.n_heartbeats;
    sl_exec_rig_advance_ms(&rig, 2000);
    assert_true(rig.n_heartbeats > n_before);
    assert_int_equal(rig.phase, phase);
    assert_int_equal(rig.last_sequence, last_sequence);
    assert_int_equal(rig.n_open_tools, n_open_tools);
}

/* AL-2.2 */
static void a_heartbeat_says_what_the_run_is_at(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT "tools: [add]\n");
    rig.settings.heartbeat_ms = 1000;
    rig.settings.mark_events = 2;
    sl_exec_rig_start(&rig, "hello");
    beat(SLUICE__V1__RUN_PHASE__RUN_PHASE_MODEL_WAIT, 2, 0);
    rig.is_reading = false;
    sl_fake_model_text(&rig.models, "a");
    sl_fake_model_text(&rig.models, "b");
    beat(SLUICE__V1__RUN_PHASE__RUN_PHASE_PAUSED, 4, 0);
    rig.is_reading = true;
    sl_exec_rig_turn(&rig);
    sl_fake_model_call(&rig.models, NULL, "add", "{\"a\":1}");
    sl_fake_model_call(&rig.models, NULL, "add", "{\"a\":2}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    sl_exec_rig_turn(&rig);
    beat(SLUICE__V1__RUN_PHASE__RUN_PHASE_TOOLS, 7, 2);
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
    sl_exec_rig_turn(&rig);
    beat(SLUICE__V1__RUN_PHASE__RUN_PHASE_TOOLS, 8, 1);
    assert_in_range(rig.elapsed_ms, 7000, 8000);
    sl_exec_rig_part(&rig, SL_RUN_GONE_RESET);
    sl_exec_rig_done(&rig);
}

/* AL-4, step 3 */
static void the_context_goes_before_the_input(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT "max_context_messages: 2\n");
    static const char *const texts[] = { "one", "two", "three", "four" };
    for (size_t i = 0; i < SL_COUNT(texts); i++) {
        const struct sl_chat_message message = { .role =
                                                     i % 2 == 0 ? SL_CHAT_USER : SL_CHAT_ASSISTANT,
                                                 .content = sl_slice_str(texts[i]) };
        assert_int_equal(sl_history_add(&rig.history, &message), SL_OK);
    }
    sl_exec_rig_start(&rig, "hello");
    assert_string_equal(rig.models.request, "user=three;assistant=four;user=hello;");
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    sl_exec_rig_done(&rig);
}

static void reasoning_can_be_hidden(void **state)
{
    (void)state;
    start(AGENT "reasoning: {show: false, effort: high}\n");
    assert_string_equal(rig.models.asked.reasoning_effort, "high");
    (void)trace();
    sl_fake_model_reasoning(&rig.models, "secret thoughts");
    sl_fake_model_text(&rig.models, "x");
    assert_string_equal(trace(), "text x");
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    sl_exec_rig_done(&rig);
}

/* The rig's store, looked at when a run begins. */
static struct {
    const struct sl_store_ops *plain;
    char seen[64];
} watching;

static enum sl_status watch_run(struct sl_store *store, struct sl_store_request *request)
{
    if (request->kind == SL_STORE_BEGIN) {
        const struct sl_store_run *run = SL_CONTAINER(request, struct sl_store_begin, request)->run;
        for (size_t i = 0; i < run->n_metadata; i++) {
            const size_t size = strlen(watching.seen);
            (void)snprintf(
                watching.seen + size, sizeof(watching.seen) - size, "%s=%s;", run->metadata[i].key,
                run->metadata[i].value);
        }
    }
    return watching.plain->submit(store, request);
}

static void metadata_goes_into_the_record_of_the_run(void **state)
{
    (void)state;
    static const struct sl_store_pair metadata[] = { { "team", "docs" }, { "order", "1" } };
    sl_exec_rig_init(&rig, AGENT);
    watching.plain = rig.store->ops;
    struct sl_store_ops ops = *rig.store->ops;
    ops.submit = watch_run;
    rig.store->ops = &ops;
    rig.metadata = metadata;
    rig.n_metadata = 2;
    sl_exec_rig_start(&rig, "hello");
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    sl_exec_rig_turn(&rig);
    sl_exec_rig_done(&rig);
    assert_string_equal(watching.seen, "team=docs;order=1;");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metadata_goes_into_the_record_of_the_run),
        cmocka_unit_test(an_answer_is_streamed_and_done),
        cmocka_unit_test(the_stop_reason_decides_the_end),
        cmocka_unit_test(a_pause_goes_on_with_what_was_said),
        cmocka_unit_test(usage_that_is_not_reported_is_estimated),
        cmocka_unit_test(long_text_is_split_between_characters),
        cmocka_unit_test(neighbouring_deltas_are_merged_on_request),
        cmocka_unit_test(a_cancel_sends_held_text_first),
        cmocka_unit_test(a_failure_sends_held_text_first),
        cmocka_unit_test(a_call_sends_held_text_first),
        cmocka_unit_test(the_final_text_outlives_the_window),
        cmocka_unit_test(the_final_text_is_cut_at_its_limit),
        cmocka_unit_test(the_final_text_fits_into_an_event),
        cmocka_unit_test(content_is_left_out_on_request),
        cmocka_unit_test(a_slow_reader_holds_the_model_back),
        cmocka_unit_test(an_ending_passes_a_full_log),
        cmocka_unit_test(heartbeats_come_only_in_silence),
        cmocka_unit_test(a_heartbeat_says_what_the_run_is_at),
        cmocka_unit_test(the_context_goes_before_the_input),
        cmocka_unit_test(reasoning_can_be_hidden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
