/* Every way a run ends (AL-5), in every state (AL-7.4), with nothing left alive. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/exec/encode.h"
#include "tests/fake/exec_rig.h"

#define AGENT "name: a\nmodel: m\nheartbeat_ms: 0\nparallel_tools: 1\ntools: [add]\n"

static struct sl_exec_rig rig;

static const char *trace(void)
{
    sl_exec_rig_turn(&rig);
    return sl_exec_rig_trace(&rig);
}

/* ---- The model's failures ---------------------------------------------------------------------
 */

/* AL-5.6, AL-5.7, AL-5.9 to AL-5.19 */
static void every_fault_of_the_model_has_its_row(void **state)
{
    (void)state;
    static const struct {
        enum sl_model_fault fault;
        Sluice__V1__ErrorCode code;
        enum sl_status status;
        bool is_retryable;
    } rows[] = {
        { SL_FAULT_PROVIDER_UNREACHABLE, SL_CODE(PROVIDER_UNREACHABLE), SL_ABORTED, true },
        { SL_FAULT_PROVIDER_TLS, SL_CODE(PROVIDER_TLS), SL_FAILED_PRECONDITION, false },
        { SL_FAULT_PROVIDER_AUTH, SL_CODE(PROVIDER_AUTH), SL_FAILED_PRECONDITION, false },
        { SL_FAULT_PROVIDER_REJECTED, SL_CODE(PROVIDER_REJECTED), SL_FAILED_PRECONDITION, false },
        { SL_FAULT_PROVIDER_RATE_LIMITED, SL_CODE(PROVIDER_RATE_LIMITED), SL_RESOURCE_EXHAUSTED,
          true },
        { SL_FAULT_PROVIDER_QUOTA, SL_CODE(PROVIDER_QUOTA), SL_RESOURCE_EXHAUSTED, false },
        { SL_FAULT_PROVIDER_OVERLOADED, SL_CODE(PROVIDER_OVERLOADED), SL_ABORTED, true },
        { SL_FAULT_PROVIDER_TIMEOUT, SL_CODE(PROVIDER_TIMEOUT), SL_ABORTED, true },
        { SL_FAULT_PROVIDER_TRUNCATED, SL_CODE(PROVIDER_TRUNCATED), SL_ABORTED, true },
        { SL_FAULT_PROVIDER_PROTOCOL, SL_CODE(PROVIDER_PROTOCOL), SL_INTERNAL, false },
        { SL_FAULT_PROVIDER_LIMIT, SL_CODE(PROVIDER_LIMIT), SL_RESOURCE_EXHAUSTED, false },
        { SL_FAULT_CONTEXT_OVERFLOW, SL_CODE(CONTEXT_OVERFLOW), SL_FAILED_PRECONDITION, false },
        { SL_FAULT_DEADLINE, SL_CODE(DEADLINE_EXCEEDED), SL_DEADLINE_EXCEEDED, false },
        { SL_FAULT_OUT_OF_MEMORY, SL_CODE(OUT_OF_MEMORY), SL_RESOURCE_EXHAUSTED, true },
        { SL_FAULT_INTERNAL, SL_CODE(INTERNAL), SL_INTERNAL, false },
    };
    for (size_t i = 0; i < SL_COUNT(rows); i++) {
        sl_exec_rig_init(&rig, AGENT);
        sl_exec_rig_start(&rig, "hello");
        sl_fake_model_text(&rig.models, "par");
        sl_fake_model_fail(&rig.models, rows[i].fault, 0);
        sl_exec_rig_turn(&rig);
        const Sluice__V1__RunError *error = rig.last->error;
        assert_int_equal(rig.last->event_case, SL_EVENT(ERROR));
        assert_int_equal(error->code, rows[i].code);
        assert_int_equal(error->retryable, rows[i].is_retryable);
        assert_int_equal(rig.ending.status, rows[i].status);
        assert_true(error->usage->estimated);
        assert_int_equal(error->usage->output_tokens, 1);
        assert_null(strstr(error->message, "own words"));
        assert_int_equal(strlen(error->error_id), 32);
        sl_exec_rig_done(&rig);
    }
}

/* AL-5.3 to AL-5.31: gRPC status, retryable, and the message where AOF's is kept (AL-2.2). */
static void every_row_has_its_status_and_retry_flag(void **state)
{
    (void)state;
    static const struct {
        Sluice__V1__ErrorCode code;
        const char *name;
        enum sl_status status;
        bool is_retryable;
        const char *message; /* NULL: ours */
    } rows[] = {
        { SL_CODE(MAX_ITERATIONS), "MAX_ITERATIONS", SL_RESOURCE_EXHAUSTED, false, NULL },
        { SL_CODE(BUDGET_EXCEEDED), "BUDGET_EXCEEDED", SL_RESOURCE_EXHAUSTED, false, NULL },
        { SL_CODE(LOOP_DETECTED), "LOOP_DETECTED", SL_RESOURCE_EXHAUSTED, false, NULL },
        { SL_CODE(CONTENT_FILTER), "CONTENT_FILTER", SL_FAILED_PRECONDITION, false,
          "Content filter triggered by model" },
        { SL_CODE(CONTEXT_OVERFLOW), "CONTEXT_OVERFLOW", SL_FAILED_PRECONDITION, false, NULL },
        { SL_CODE(OUTPUT_INVALID), "OUTPUT_INVALID", SL_FAILED_PRECONDITION, false, NULL },
        { SL_CODE(PROVIDER_UNREACHABLE), "PROVIDER_UNREACHABLE", SL_ABORTED, true, NULL },
        { SL_CODE(PROVIDER_TLS), "PROVIDER_TLS", SL_FAILED_PRECONDITION, false, NULL },
        { SL_CODE(PROVIDER_AUTH), "PROVIDER_AUTH", SL_FAILED_PRECONDITION, false, NULL },
        { SL_CODE(PROVIDER_REJECTED), "PROVIDER_REJECTED", SL_FAILED_PRECONDITION, false, NULL },
        { SL_CODE(PROVIDER_RATE_LIMITED), "PROVIDER_RATE_LIMITED", SL_RESOURCE_EXHAUSTED, true,
          NULL },
        { SL_CODE(PROVIDER_QUOTA), "PROVIDER_QUOTA", SL_RESOURCE_EXHAUSTED, false, NULL },
        { SL_CODE(PROVIDER_OVERLOADED), "PROVIDER_OVERLOADED", SL_ABORTED, true, NULL },
        { SL_CODE(PROVIDER_TIMEOUT), "PROVIDER_TIMEOUT", SL_ABORTED, true, NULL },
        { SL_CODE(PROVIDER_TRUNCATED), "PROVIDER_TRUNCATED", SL_ABORTED, true, NULL },
        { SL_CODE(PROVIDER_PROTOCOL), "PROVIDER_PROTOCOL", SL_INTERNAL, false, NULL },
        { SL_CODE(PROVIDER_LIMIT), "PROVIDER_LIMIT", SL_RESOURCE_EXHAUSTED, false, NULL },
        { SL_CODE(CANCELLED), "CANCELLED", SL_CANCELLED, false, "Execution cancelled" },
        { SL_CODE(DEADLINE_EXCEEDED), "DEADLINE_EXCEEDED", SL_DEADLINE_EXCEEDED, false, NULL },
        { SL_CODE(DRAINING), "DRAINING", SL_ABORTED, true, NULL },
        { SL_CODE(WORKER_LOST), "WORKER_LOST", SL_ABORTED, true, NULL },
        { SL_CODE(STORE_UNAVAILABLE), "STORE_UNAVAILABLE", SL_ABORTED, true, NULL },
        { SL_CODE(DATA_LOSS), "DATA_LOSS", SL_DATA_LOSS, false, NULL },
        { SL_CODE(OUT_OF_MEMORY), "OUT_OF_MEMORY", SL_RESOURCE_EXHAUSTED, true, NULL },
        { SL_CODE(INTERNAL), "INTERNAL", SL_INTERNAL, false, NULL },
    };
    /* Each code of the API but UNSPECIFIED has a row. */
    assert_int_equal(SL_COUNT(rows), sluice__v1__error_code__descriptor.n_values - 1);
    for (size_t i = 0; i < SL_COUNT(rows); i++) {
        const struct sl_ending ending = sl_ending_error(rows[i].code);
        assert_int_equal(ending.code, rows[i].code);
        assert_string_equal(ending.reason, rows[i].name);
        assert_int_equal(ending.status, rows[i].status);
        assert_int_equal(ending.is_retryable, rows[i].is_retryable);
        if (rows[i].message != NULL) {
            assert_string_equal(ending.message, rows[i].message);
        }
    }
}

/* AL-5.20 to AL-5.24 */
static void every_cancel_has_its_retry_flag(void **state)
{
    (void)state;
    static const struct {
        Sluice__V1__CancelReason reason;
        const char *name;
        bool is_retryable;
    } rows[] = {
        { SL_CANCEL_REASON(CLIENT_RESET), "CLIENT_RESET", false },
        { SL_CANCEL_REASON(CANCEL_RPC), "CANCEL_RPC", false },
        { SL_CANCEL_REASON(CLIENT_DISCONNECTED), "CLIENT_DISCONNECTED", true },
        { SL_CANCEL_REASON(DETACH_TTL), "DETACH_TTL", true },
        { SL_CANCEL_REASON(SESSION_INTERRUPTED), "SESSION_INTERRUPTED", false },
    };
    assert_int_equal(SL_COUNT(rows), sluice__v1__cancel_reason__descriptor.n_values - 1);
    for (size_t i = 0; i < SL_COUNT(rows); i++) {
        const struct sl_ending ending = sl_ending_cancelled(rows[i].reason);
        assert_int_equal(ending.cancel_reason, rows[i].reason);
        assert_int_equal(ending.is_retryable, rows[i].is_retryable);
        assert_string_equal(sl_ending_cancel_name(rows[i].reason), rows[i].name);
    }
}

/* RT-2: generic retry layers would start a second run. */
static void no_run_that_has_begun_ends_as_unavailable(void **state)
{
    (void)state;
    for (int code = 0; code < 64; code++) {
        const struct sl_ending ending = sl_ending_error((Sluice__V1__ErrorCode)code);
        assert_int_not_equal(ending.status, SL_UNAVAILABLE);
        assert_int_not_equal(ending.status, SL_OK);
    }
    for (int reason = 0; reason < 8; reason++) {
        const struct sl_ending ending = sl_ending_cancelled((Sluice__V1__CancelReason)reason);
        assert_int_equal(ending.status, SL_CANCELLED);
    }
}

/* AL-2.3 */
static void an_http_error_used_nothing_and_may_say_when_to_retry(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    sl_exec_rig_start(&rig, "hello");
    sl_fake_model_fail(&rig.models, SL_FAULT_PROVIDER_RATE_LIMITED, 429);
    sl_exec_rig_turn(&rig);
    const Sluice__V1__RunError *error = rig.last->error;
    assert_int_equal(error->provider_status, 429);
    assert_int_equal(error->retry_after_ms, 1500);
    assert_false(error->usage->estimated);
    assert_int_equal(error->usage->input_tokens, 0);
    assert_int_equal(error->usage->model_calls, 1);
    sl_exec_rig_done(&rig);
}

static void a_model_that_does_not_start_ends_the_run(void **state)
{
    (void)state;
    static const struct {
        enum sl_status status;
        const char *expected;
    } rows[] = {
        { SL_FAILED_PRECONDITION, "run a|start 1/10|complete 1 INTERRUPTED|error PROVIDER_AUTH" },
        { SL_RESOURCE_EXHAUSTED, "run a|start 1/10|complete 1 INTERRUPTED|error OUT_OF_MEMORY" },
        { SL_INVALID_ARGUMENT, "run a|start 1/10|complete 1 INTERRUPTED|error PROVIDER_REJECTED" },
        { SL_NOT_FOUND, "run a|start 1/10|complete 1 INTERRUPTED|error INTERNAL" },
    };
    for (size_t i = 0; i < SL_COUNT(rows); i++) {
        sl_exec_rig_init(&rig, AGENT);
        rig.models.start_status = rows[i].status;
        sl_exec_rig_start(&rig, "hello");
        assert_string_equal(trace(), rows[i].expected);
        assert_false(rig.last->error->usage->estimated);
        sl_exec_rig_done(&rig);
    }
}

/* ---- Cancel in every state --------------------------------------------------------------------
 */

enum place {
    IN_WAIT,
    IN_STREAM,
    IN_PAUSE,
    IN_RETRY,
    IN_READING,      /* large arguments wait for the pool, and more is to come */
    IN_LAST_READING, /* they are on the pool, and the answer is complete */
    IN_TOOLS,
    IN_LAST_TOOL,
    N_PLACES
};

static const char *large_arguments(void)
{
    static char text[SL_JOB_DOCUMENT_BYTES + 16];
    (void)snprintf(text, sizeof(text), "{%*s}", SL_JOB_DOCUMENT_BYTES, "");
    return text;
}

/* Brings a run into a state. */
static void go_to(enum place place)
{
    rig.is_reading = place != IN_PAUSE;
    if (place == IN_PAUSE) {
        rig.settings.mark_events = 3;
    }
    sl_exec_rig_start(&rig, "hello");
    switch (place) {
    case IN_WAIT:
    case N_PLACES:
        break;
    case IN_STREAM:
        sl_fake_model_phase(&rig.models, SL_MODEL_STREAM);
        sl_fake_model_text(&rig.models, "some");
        break;
    case IN_PAUSE:
        sl_fake_model_text(&rig.models, "some");
        assert_false(sl_fake_model_may_read(&rig.models));
        break;
    case IN_RETRY:
        sl_fake_model_retry(&rig.models, SL_FAULT_PROVIDER_OVERLOADED);
        break;
    case IN_READING:
    case IN_LAST_READING:
        rig.loop.holds_jobs = true;
        sl_fake_model_call(&rig.models, "p1", "add", large_arguments());
        sl_fake_model_call(&rig.models, "p2", "add", "{\"a\":2}");
        if (place == IN_LAST_READING) {
            sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
            sl_fake_loop_begin_jobs(&rig.loop);
        }
        break;
    case IN_TOOLS:
    case IN_LAST_TOOL:
        sl_fake_model_call(&rig.models, "p1", "add", "{\"a\":1}");
        if (place == IN_TOOLS) {
            sl_fake_model_call(&rig.models, "p2", "add", "{\"a\":2}");
        }
        sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
        break;
    }
    sl_exec_rig_turn(&rig);
    (void)sl_exec_rig_trace(&rig);
}

static const char *const expected_end[] = {
    [IN_WAIT] = "complete 1 INTERRUPTED|error CANCELLED",
    [IN_STREAM] = "complete 1 INTERRUPTED|error CANCELLED",
    [IN_PAUSE] = "run a|start 1/10|text some|complete 1 INTERRUPTED|error CANCELLED",
    [IN_RETRY] = "complete 1 INTERRUPTED|error CANCELLED",
    [IN_READING] = "complete 1 INTERRUPTED|error CANCELLED",
    [IN_LAST_READING] = "complete 1 INTERRUPTED|error CANCELLED",
    [IN_TOOLS] = "tool tool_2 CANCELLED|tool tool_1 CANCELLED|error CANCELLED",
    [IN_LAST_TOOL] = "tool tool_1 CANCELLED|error CANCELLED",
};

/* AL-7.4 */
static void a_cancel_works_in_every_state(void **state)
{
    (void)state;
    for (int place = 0; place < N_PLACES; place++) {
        sl_exec_rig_init(&rig, AGENT);
        go_to((enum place)place);
        const struct sl_ending ending = sl_ending_cancelled(SL_CANCEL_REASON(CANCEL_RPC));
        sl_run_cancel(rig.run, &ending);
        assert_int_equal(rig.models.n_live, 0); /* at once */
        sl_run_cancel(rig.run, &ending);        /* again: nothing changes */
        rig.is_reading = true;
        assert_string_equal(trace(), expected_end[place]);
        assert_int_equal(rig.last->error->cancel_reason, SL_CANCEL_REASON(CANCEL_RPC));
        assert_string_equal(rig.last->error->message, "Execution cancelled");
        assert_int_equal(rig.ending.status, SL_CANCELLED);
        sl_exec_rig_done(&rig);
    }
}

/* AL-6.6, AL-5 "cut": what the tools gave is kept, and calls that gave nothing say why. */
static void a_cancel_among_tools_leaves_a_conversation(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    sl_exec_rig_start(&rig, "hello");
    sl_fake_model_text(&rig.models, "I add.");
    sl_fake_model_call(&rig.models, "p1", "add", "{\"a\":1}");
    sl_fake_model_call(&rig.models, "p2", "add", "{\"a\":2}");
    sl_fake_model_call(&rig.models, "p3", "add", "{\"a\":3}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    sl_exec_rig_turn(&rig);
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "{\"r\":1}");
    sl_exec_rig_turn(&rig);
    assert_int_equal(rig.tools.n_live, 1);
    const struct sl_ending ending = sl_ending_cancelled(SL_CANCEL_REASON(CANCEL_RPC));
    sl_run_cancel(rig.run, &ending);
    sl_exec_rig_turn(&rig);
    assert_int_equal(rig.history.n_messages, 5);
    const struct sl_chat_message *messages = rig.history.messages;
    assert_int_equal(messages[0].role, SL_CHAT_USER);
    assert_true(sl_slice_equals(messages[1].content, "I add."));
    assert_int_equal(messages[1].n_calls, 3);
    assert_true(sl_slice_equals(messages[2].content, "{\"r\":1}"));
    assert_false(messages[2].is_error);
    for (int i = 3; i < 5; i++) {
        assert_true(messages[i].is_error);
        assert_non_null(strstr((const char *)messages[i].content.data, "\"CANCELLED\""));
    }
    assert_non_null(strstr((const char *)messages[4].content.data, "not executed: run ended"));
    sl_exec_rig_done(&rig);
}

/* AL-2.3: also of an answer that is cut off. */
static void a_cancel_counts_every_request_that_was_made(void **state)
{
    (void)state;
    for (uint32_t n_requests = 1; n_requests <= 3; n_requests++) {
        for (int in_pause = 0; in_pause < 2; in_pause++) {
            sl_exec_rig_init(&rig, AGENT);
            sl_exec_rig_start(&rig, "hello");
            for (uint32_t i = 1; i < n_requests; i++) {
                sl_fake_model_retry(&rig.models, SL_FAULT_PROVIDER_OVERLOADED);
                sl_fake_model_phase(&rig.models, SL_MODEL_WAIT);
            }
            if (in_pause == 1) {
                sl_fake_model_retry(&rig.models, SL_FAULT_PROVIDER_OVERLOADED);
            }
            const struct sl_ending ending = sl_ending_cancelled(SL_CANCEL_REASON(CANCEL_RPC));
            sl_run_cancel(rig.run, &ending);
            sl_exec_rig_turn(&rig);
            assert_int_equal(rig.last->error->usage->model_calls, n_requests);
            assert_true(rig.last->error->usage->estimated);
            sl_exec_rig_done(&rig);
        }
    }
}

/* AL-5.25 */
static void a_deadline_works_in_every_state(void **state)
{
    (void)state;
    for (int place = 0; place < N_PLACES; place++) {
        sl_exec_rig_init(&rig, AGENT);
        rig.settings.run_timeout_ms = 5000;
        go_to((enum place)place);
        sl_exec_rig_advance_ms(&rig, 4999);
        assert_false(rig.has_ended);
        sl_exec_rig_advance_ms(&rig, 1);
        assert_true(rig.has_ended);
        assert_int_equal(rig.ending.code, SL_CODE(DEADLINE_EXCEEDED));
        assert_int_equal(rig.ending.status, SL_DEADLINE_EXCEEDED);
        sl_exec_rig_done(&rig);
    }
}

/* AL-4.2 */
static void the_calls_deadline_binds_only_with_cancel(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        sl_exec_rig_init(&rig, AGENT);
        rig.settings.call_deadline_ns = SL_FAKE_START_NS + 1000 * SL_NS_PER_MS;
        rig.settings.run_timeout_ms = 5000;
        rig.settings.on_disconnect = i == 0 ? SL_DISCONNECT(CANCEL) : SL_DISCONNECT(DETACH);
        sl_exec_rig_start(&rig, "hello");
        assert_int_equal(rig.models.asked.remaining_ms, i == 0 ? 1000 : 5000);
        sl_exec_rig_advance_ms(&rig, 1000);
        assert_int_equal(rig.has_ended, i == 0);
        sl_exec_rig_advance_ms(&rig, 4000);
        assert_true(rig.has_ended);
        sl_exec_rig_done(&rig);
    }
}

/* AL-4.2: the deadline is one number, for tools and for every request. */
static void what_is_left_of_the_time_is_passed_on(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    rig.settings.run_timeout_ms = 5000;
    sl_exec_rig_start(&rig, "hello");
    sl_exec_rig_advance_ms(&rig, 1000);
    sl_fake_model_call(&rig.models, NULL, "add", "{}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    sl_exec_rig_turn(&rig);
    assert_int_equal(rig.tools.remaining_ms, 4000);
    sl_exec_rig_advance_ms(&rig, 1500);
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
    sl_exec_rig_turn(&rig);
    assert_int_equal(rig.models.asked.remaining_ms, 2500);
    sl_exec_rig_advance_ms(&rig, 2499);
    assert_false(rig.has_ended);
    sl_exec_rig_advance_ms(&rig, 1);
    assert_int_equal(rig.ending.code, SL_CODE(DEADLINE_EXCEEDED));
    sl_exec_rig_done(&rig);
}

static void a_run_that_is_late_already_ends_at_once(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    rig.settings.call_deadline_ns = SL_FAKE_START_NS - 1;
    sl_exec_rig_start(&rig, "hello");
    assert_string_equal(trace(), "run a|error DEADLINE_EXCEEDED");
    assert_int_equal(rig.models.n_started, 0);
    sl_exec_rig_done(&rig);
}

/* AL-3.3.5 */
static void the_end_waits_for_a_tool_that_does_not_die(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    rig.tools.ignores_cancel = true;
    rig.settings.heartbeat_ms = 1000;
    go_to(IN_TOOLS);
    const struct sl_ending ending = sl_ending_cancelled(SL_CANCEL_REASON(CANCEL_RPC));
    sl_run_cancel(rig.run, &ending);
    assert_string_equal(trace(), "tool tool_2 CANCELLED");
    assert_int_equal(rig.tools.n_cancelled, 1);
    sl_exec_rig_advance_ms(&rig, 2500);
    assert_false(rig.has_ended);
    assert_int_equal(rig.phase, SLUICE__V1__RUN_PHASE__RUN_PHASE_CLOSING);
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_CANCELLED, "");
    assert_string_equal(trace(), "tool tool_1 CANCELLED|error CANCELLED");
    sl_exec_rig_done(&rig);
}

/* AL-4, step 11 */
static void the_first_cause_wins(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    rig.tools.ignores_cancel = true;
    go_to(IN_LAST_TOOL);
    sl_exec_rig_part(&rig, SL_RUN_GONE_RESET);
    const struct sl_ending ending = sl_ending_error(SL_CODE(DRAINING));
    sl_run_cancel(rig.run, &ending);
    sl_exec_rig_advance_ms(&rig, 3600000); /* the deadline, too */
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_CANCELLED, "");
    sl_exec_rig_turn(&rig);
    assert_int_equal(rig.ending.code, SL_CODE(CANCELLED));
    assert_int_equal(rig.ending.cancel_reason, SL_CANCEL_REASON(CLIENT_RESET));
    sl_exec_rig_done(&rig);
}

/* ---- The reader goes (AL-7.1) -----------------------------------------------------------------
 */

/* AL-5.20, AL-5.22, AL-5.25, AL-5.26 */
static void the_policy_decides_when_the_reader_goes(void **state)
{
    (void)state;
    static const struct {
        Sluice__V1__OnDisconnect policy;
        bool cancel_on_reset;
        enum sl_run_gone how;
        Sluice__V1__ErrorCode code; /* UNSPECIFIED: goes on */
        Sluice__V1__CancelReason reason;
        bool is_retryable;
    } rows[] = {
        { SL_DISCONNECT(CANCEL), true, SL_RUN_GONE_RESET, SL_CODE(CANCELLED),
          SL_CANCEL_REASON(CLIENT_RESET), false },
        { SL_DISCONNECT(CANCEL), false, SL_RUN_GONE_RESET, SL_CODE(CANCELLED),
          SL_CANCEL_REASON(CLIENT_DISCONNECTED), true },
        { SL_DISCONNECT(CANCEL), true, SL_RUN_GONE_LOST, SL_CODE(CANCELLED),
          SL_CANCEL_REASON(CLIENT_DISCONNECTED), true },
        { SL_DISCONNECT(CANCEL), true, SL_RUN_GONE_DEADLINE, SL_CODE(DEADLINE_EXCEEDED), 0, false },
        { SL_DISCONNECT(CANCEL), true, SL_RUN_GONE_DRAIN, SL_CODE(DRAINING), 0, true },
        { SL_DISCONNECT(CANCEL), true, SL_RUN_GONE_READ, 0, 0, false },
        { SL_DISCONNECT(DETACH), true, SL_RUN_GONE_RESET, SL_CODE(CANCELLED),
          SL_CANCEL_REASON(CLIENT_RESET), false },
        { SL_DISCONNECT(DETACH), false, SL_RUN_GONE_RESET, 0, 0, false },
        { SL_DISCONNECT(DETACH), false, SL_RUN_GONE_LOST, 0, 0, false },
        { SL_DISCONNECT(DETACH), false, SL_RUN_GONE_DEADLINE, 0, 0, false },
        { SL_DISCONNECT(DETACH_FOR), false, SL_RUN_GONE_LOST, 0, 0, false },
    };
    for (size_t i = 0; i < SL_COUNT(rows); i++) {
        sl_exec_rig_init(&rig, AGENT);
        rig.settings.on_disconnect = rows[i].policy;
        rig.settings.cancel_on_reset = rows[i].cancel_on_reset;
        rig.settings.detach_ttl_ms = 5000;
        go_to(IN_STREAM);
        sl_exec_rig_part(&rig, rows[i].how);
        sl_exec_rig_turn(&rig);
        assert_int_equal(rig.has_ended, rows[i].code != 0);
        if (!rig.has_ended) {
            sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
            sl_exec_rig_turn(&rig);
        }
        assert_int_equal(rig.ending.code, rows[i].code);
        assert_int_equal(rig.ending.cancel_reason, rows[i].reason);
        assert_int_equal(rig.ending.is_retryable, rows[i].is_retryable);
        sl_exec_rig_done(&rig);
    }
}

/* AL-8 */
static void a_detached_run_is_not_held_back(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    rig.settings.on_disconnect = SL_DISCONNECT(DETACH);
    rig.settings.cancel_on_reset = false;
    go_to(IN_PAUSE);
    sl_exec_rig_part(&rig, SL_RUN_GONE_LOST);
    sl_exec_rig_turn(&rig);
    assert_int_equal(rig.models.n_resumed, 1);
    for (int i = 0; i < 10000; i++) {
        assert_true(sl_fake_model_may_read(&rig.models));
        sl_fake_model_text(&rig.models, "0123456789");
    }
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    sl_exec_rig_turn(&rig);
    assert_int_equal(rig.ending.status, SL_OK);
    sl_exec_rig_done(&rig);
}

/* AL-5.23 */
static void the_time_of_a_detached_run_runs_out(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, AGENT);
    rig.settings.on_disconnect = SL_DISCONNECT(DETACH_FOR);
    rig.settings.cancel_on_reset = false;
    rig.settings.detach_ttl_ms = 2000;
    go_to(IN_STREAM);
    sl_exec_rig_part(&rig, SL_RUN_GONE_LOST);
    sl_exec_rig_advance_ms(&rig, 1999);
    assert_false(rig.has_ended);
    sl_exec_rig_advance_ms(&rig, 1);
    assert_true(rig.has_ended);
    assert_int_equal(rig.ending.cancel_reason, SL_CANCEL_REASON(DETACH_TTL));
    sl_exec_rig_done(&rig);
}

/* ---- Memory -----------------------------------------------------------------------------------
 */

static size_t n_allocations, failing_allocation;

static bool fail_from_here(size_t size)
{
    (void)size;
    n_allocations++;
    return n_allocations < failing_allocation;
}

static bool fail_once(size_t size)
{
    (void)size;
    n_allocations++;
    return n_allocations != failing_allocation;
}

/* A whole run with a tool; how it ends depends on where memory was refused. */
static void run_once(bool (*gate)(size_t size))
{
    sl_exec_rig_init(&rig, AGENT);
    rig.is_reading = false;
    sl_exec_rig_start(&rig, "hello");
    n_allocations = 0;
    sl_mem_set_gate(gate);
    for (int i = 0; i < 40; i++) {
        sl_fake_model_text(&rig.models, "text that fills a segment, sooner or later");
    }
    sl_fake_model_call(&rig.models, "p1", "add", "{\"a\":1}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    (void)sl_fake_loop_run(&rig.loop);
    if (rig.tools.n_live > 0) {
        sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "{\"r\":1}");
    }
    sl_fake_model_text(&rig.models, "the answer");
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    (void)sl_fake_loop_run(&rig.loop);
    sl_mem_set_gate(NULL);
    assert_true(rig.has_ended);
    rig.is_reading = true;
    sl_exec_rig_turn(&rig);
}

/* AL-5.30: wherever memory is refused once, the run ends in order, and says so. */
static void a_refused_allocation_ends_the_run_in_order(void **state)
{
    (void)state;
    failing_allocation = SIZE_MAX;
    run_once(fail_once);
    assert_int_equal(rig.ending.status, SL_OK);
    const size_t n = n_allocations;
    sl_exec_rig_done(&rig);
    assert_true(n > 20);
    size_t n_failed = 0;
    for (failing_allocation = 1; failing_allocation <= n; failing_allocation++) {
        run_once(fail_once);
        n_failed += rig.ending.code == SL_CODE(OUT_OF_MEMORY) ? 1 : 0;
        assert_true(rig.ending.code == SL_CODE(OUT_OF_MEMORY) || rig.ending.status == SL_OK);
        assert_int_equal(
            rig.last->event_case, rig.ending.status == SL_OK ? SL_EVENT(DONE) : SL_EVENT(ERROR));
        sl_exec_rig_done(&rig);
    }
    assert_true(n_failed > n / 3);
}

static void memory_that_is_gone_for_good_still_ends_the_run(void **state) /* AL-5.30 */
{
    (void)state;
    for (failing_allocation = 1; failing_allocation <= 60; failing_allocation++) {
        run_once(fail_from_here);
        const bool is_ok = rig.ending.status == SL_OK;
        assert_true(is_ok || rig.ending.code == SL_CODE(OUT_OF_MEMORY));
        assert_int_equal(rig.last->event_case, is_ok ? SL_EVENT(DONE) : SL_EVENT(ERROR));
        sl_exec_rig_done(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_fault_of_the_model_has_its_row),
        cmocka_unit_test(every_row_has_its_status_and_retry_flag),
        cmocka_unit_test(every_cancel_has_its_retry_flag),
        cmocka_unit_test(no_run_that_has_begun_ends_as_unavailable),
        cmocka_unit_test(an_http_error_used_nothing_and_may_say_when_to_retry),
        cmocka_unit_test(a_model_that_does_not_start_ends_the_run),
        cmocka_unit_test(a_cancel_works_in_every_state),
        cmocka_unit_test(a_cancel_among_tools_leaves_a_conversation),
        cmocka_unit_test(a_cancel_counts_every_request_that_was_made),
        cmocka_unit_test(a_deadline_works_in_every_state),
        cmocka_unit_test(the_calls_deadline_binds_only_with_cancel),
        cmocka_unit_test(what_is_left_of_the_time_is_passed_on),
        cmocka_unit_test(a_run_that_is_late_already_ends_at_once),
        cmocka_unit_test(the_end_waits_for_a_tool_that_does_not_die),
        cmocka_unit_test(the_first_cause_wins),
        cmocka_unit_test(the_policy_decides_when_the_reader_goes),
        cmocka_unit_test(a_detached_run_is_not_held_back),
        cmocka_unit_test(the_time_of_a_detached_run_runs_out),
        cmocka_unit_test(a_refused_allocation_ends_the_run_in_order),
        cmocka_unit_test(memory_that_is_gone_for_good_still_ends_the_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
