#include "tests/fake/exec_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "runtime/base/event_log.h"
#include "runtime/base/mem.h"
#include "runtime/exec/encode.h"
#include "runtime/exec/resume.h"

enum { TRACE_BYTES = 16 * 1024 * 1024, SHOWN_TEXT_BYTES = 200, HISTORY_BYTES = 64 * 1024 * 1024 };

static void fail_on_problem(const char *line, void *user_data)
{
    (void)user_data;
    fail_msg("%s", line);
}

/* ---- The reader -------------------------------------------------------------------------------
 */

static void note(struct sl_exec_rig *rig, const char *fmt, ...) SL_PRINTF(2, 3);
static void note(struct sl_exec_rig *rig, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    assert_int_equal(
        sl_buf_addf(&rig->trace, "%s%s", rig->trace.size == 0 ? "" : "|", text), SL_OK);
}

static const char *enum_name(const ProtobufCEnumDescriptor *descriptor, int value, size_t skip)
{
    const ProtobufCEnumValue *found = protobuf_c_enum_descriptor_get_value(descriptor, value);
    return found == NULL ? "?" : found->name + skip;
}

#define STOP(value)                                                                                \
    enum_name(&sluice__v1__stop_reason__descriptor, (int)(value), sizeof("STOP_REASON_") - 1)
#define CODE(value)                                                                                \
    enum_name(&sluice__v1__error_code__descriptor, (int)(value), sizeof("ERROR_CODE_") - 1)
#define TOOL_CODE(value)                                                                           \
    enum_name(                                                                                     \
        &sluice__v1__tool_error_code__descriptor, (int)(value), sizeof("TOOL_ERROR_CODE_") - 1)

static void note_tool(struct sl_exec_rig *rig, const Sluice__V1__StreamEvent *event)
{
    if (event->event_case == SL_EVENT(TOOL_CALL_START)) {
        const Sluice__V1__ToolCallStart *start = event->tool_call_start;
        note(rig, "call %s %s %s", start->tool_id, start->tool_name, start->arguments_json);
    } else if (event->event_case == SL_EVENT(TOOL_CALL_COMPLETE)) {
        const Sluice__V1__ToolCallComplete *complete = event->tool_call_complete;
        note(
            rig, "tool %s %s%.*s", complete->tool_id,
            complete->success ? "" : TOOL_CODE(complete->error_code),
            complete->success ? SHOWN_TEXT_BYTES : 0, complete->result_json);
        assert_int_equal(complete->success, complete->error_code == 0);
    } else if (event->event_case == SL_EVENT(TOOL_PROGRESS)) {
        const Sluice__V1__ToolProgress *progress = event->tool_progress;
        note(
            rig, "progress %s %s%.*s", progress->tool_id,
            progress->output_stream == SLUICE__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDERR ? "!" : "",
            SHOWN_TEXT_BYTES, progress->output_chunk);
    } else if (event->event_case == SL_EVENT(TOOL_CALL_DELTA)) {
        const Sluice__V1__ToolCallDelta *delta = event->tool_call_delta;
        note(rig, "fragment %u %s %s", delta->index, delta->tool_name, delta->arguments_fragment);
    } else if (event->event_case == SL_EVENT(APPROVAL_REQUESTED)) {
        const Sluice__V1__ApprovalRequested *requested = event->approval_requested;
        note(
            rig, "ask %s %s %s", requested->tool_id, requested->tool_name,
            requested->arguments_json);
        assert_int_equal(requested->arguments_digest.len, SL_SHA256_BYTES);
        memcpy(rig->approval_digest, requested->arguments_digest.data, SL_SHA256_BYTES);
        (void)snprintf(rig->approval_id, sizeof(rig->approval_id), "%s", requested->approval_id);
        rig->expires_at_ms = requested->expires_at_ms;
    } else if (event->event_case == SL_EVENT(APPROVAL_DECIDED)) {
        const Sluice__V1__ApprovalDecided *decided = event->approval_decided;
        note(
            rig, "decided %s %s %s%s%s", decided->tool_id,
            enum_name(
                &sluice__v1__approval_decision__descriptor, (int)decided->decision,
                sizeof("APPROVAL_DECISION_") - 1),
            decided->decided_by, decided->comment[0] == '\0' ? "" : ": ", decided->comment);
    } else {
        fail_msg("an event of a kind that nobody expects: %d", (int)event->event_case);
    }
}

static void note_event(struct sl_exec_rig *rig, const Sluice__V1__StreamEvent *event)
{
    if (event->event_case == SL_EVENT(RUN_STARTED)) {
        note(rig, "run %s", event->run_started->agent_name);
    } else if (event->event_case == SL_EVENT(ITERATION_START)) {
        const Sluice__V1__IterationStart *start = event->iteration_start;
        note(rig, "start %u/%u", start->iteration, start->max_iterations);
        if (start->attempt != 1) {
            note(rig, "attempt %u", start->attempt);
        }
    } else if (event->event_case == SL_EVENT(TEXT_DELTA)) {
        note(rig, "text %.*s", SHOWN_TEXT_BYTES, event->text_delta->delta);
    } else if (event->event_case == SL_EVENT(THINKING)) {
        note(rig, "thinking %.*s", SHOWN_TEXT_BYTES, event->thinking->content);
    } else if (event->event_case == SL_EVENT(ITERATION_COMPLETE)) {
        const Sluice__V1__IterationComplete *complete = event->iteration_complete;
        note(rig, "complete %u %s", complete->iteration, STOP(complete->stop_reason));
    } else if (event->event_case == SL_EVENT(DONE)) {
        note(rig, "done %.*s", SHOWN_TEXT_BYTES, event->done->content);
    } else if (event->event_case == SL_EVENT(ERROR)) {
        note(rig, "error %s", CODE(event->error->code));
    } else {
        note_tool(rig, event);
    }
}

static void take_event(struct sl_exec_rig *rig, const uint8_t *bytes, size_t size)
{
    struct sl_error err = { .text = "" };
    Sluice__V1__StreamEvent *event = sluice__v1__stream_event__unpack(
        NULL, size - SL_EVENT_PREFIX_BYTES, bytes + SL_EVENT_PREFIX_BYTES);
    assert_non_null(event);
    if (sl_event_order_check(&rig->order, event, &err) != SL_OK) {
        fail_msg("%s, after %s", err.text, sl_buf_cstr(&rig->trace));
    }
    note_event(rig, event);
    rig->n_events++;
    if (rig->last != NULL) {
        sluice__v1__stream_event__free_unpacked(rig->last, NULL);
    }
    rig->last = event;
}

void sl_exec_rig_read(struct sl_exec_rig *rig, size_t max)
{
    size_t left = max;
    while (rig->cursor.channel != NULL && left > 0) {
        struct sl_segment *segment = NULL;
        const struct sl_slice bytes = sl_event_cursor_peek(&rig->cursor, left, true, &segment);
        if (bytes.size == 0) {
            return;
        }
        for (size_t at = 0; at < bytes.size;) {
            const size_t size = sl_event_size(bytes.data + at);
            assert_int_equal(sl_buf_add(&rig->bytes, sl_slice_of(bytes.data + at, size)), SL_OK);
            take_event(rig, bytes.data + at, size);
            at += size;
        }
        sl_event_cursor_skip(&rig->cursor, bytes.size);
        left = bytes.size < left ? left - bytes.size : 0;
    }
}

static void on_readable(struct sl_event_cursor *cursor)
{
    struct sl_exec_rig *rig = SL_CONTAINER(cursor, struct sl_exec_rig, cursor);
    if (rig->is_reading) {
        sl_exec_rig_read(rig, SIZE_MAX);
    }
}

const char *sl_exec_rig_trace(struct sl_exec_rig *rig)
{
    static _Thread_local char *text;
    (void)sl_free(text);
    text = sl_strndup((const char *)rig->trace.data, rig->trace.size);
    assert_non_null(text);
    sl_buf_clear(&rig->trace);
    return text;
}

/* ---- The run ----------------------------------------------------------------------------------
 */

static void on_heartbeat(void *user_data, struct sl_slice message)
{
    struct sl_exec_rig *rig = user_data;
    Sluice__V1__StreamEvent *event =
        sluice__v1__stream_event__unpack(NULL, message.size, message.data);
    assert_non_null(event);
    assert_int_equal(event->event_case, SL_EVENT(HEARTBEAT));
    assert_int_equal(event->sequence, 0);
    rig->n_heartbeats++;
    rig->phase = event->heartbeat->phase;
    rig->last_sequence = event->heartbeat->last_sequence;
    rig->elapsed_ms = event->heartbeat->elapsed_ms;
    rig->n_open_tools = event->heartbeat->n_open_tool_ids;
    sluice__v1__stream_event__free_unpacked(event, NULL);
}

static void on_settled(void *user_data)
{
    struct sl_exec_rig *rig = user_data;
    rig->n_settled++;
    rig->n_events_when_settled = rig->n_events;
    assert_int_equal(rig->models.n_live, 0);
    assert_int_equal(rig->tools.n_live, 0);
}

static void on_inputs_taken(void *user_data)
{
    struct sl_exec_rig *rig = user_data;
    rig->n_inputs_taken++;
}

static void on_ending(void *user_data, const struct sl_ending *ending)
{
    struct sl_exec_rig *rig = user_data;
    assert_ptr_equal(ending, &rig->ending);
    assert_int_equal(rig->n_settled, 1);
    assert_int_equal(rig->models.n_live, 0); /* AL-3.3.5 */
    assert_int_equal(rig->tools.n_live, 0);
}

static void on_begun(void *user_data, const struct sl_record_answer *answer)
{
    struct sl_exec_rig *rig = user_data;
    assert_false(rig->has_begun || rig->is_refused);
    rig->has_begun = answer->status == SL_OK;
    rig->is_refused = !rig->has_begun;
    if (rig->is_refused) {
        rig->refused_status = answer->status;
        rig->found_same = answer->found_same;
        (void)snprintf(rig->found_run_id, sizeof(rig->found_run_id), "%s", answer->found_run_id);
        rig->run = sl_run_free(rig->run);
        rig->has_ended = true;
    }
}

static void on_ended(void *user_data)
{
    struct sl_exec_rig *rig = user_data;
    struct sl_usage used;
    assert_false(rig->has_ended);
    rig->has_ended = true;
    sl_history_done(&rig->history);
    sl_run_take_rest(rig->run, &rig->history, &used);
    rig->has_unheard = sl_run_has_unheard_input(rig->run);
    rig->approvals = sl_run_take_approvals(rig->run);
    rig->run = sl_run_free(rig->run);
}

void sl_exec_rig_init(struct sl_exec_rig *rig, const char *yaml)
{
    *rig = (struct sl_exec_rig){ .is_reading = true };
    sl_fake_loop_init(&rig->loop);
    sl_limits_init(&rig->limits);
    sl_fake_models_init(&rig->models);
    sl_fake_tools_init(&rig->tools, &rig->loop.base);
    sl_buf_init(&rig->trace, TRACE_BYTES);
    sl_buf_init(&rig->bytes, TRACE_BYTES);
    sl_history_init(&rig->history, HISTORY_BYTES);
    assert_int_equal(sl_store_memory_new(&rig->store), SL_OK);
    const struct sl_agents_options options = { .models = &rig->models,
                                               .tools = &rig->tools,
                                               .limits = &rig->limits };
    assert_int_equal(sl_agents_new(&options, &rig->agents), SL_OK);
    assert_int_equal(
        sl_agents_add_yaml(rig->agents, sl_slice_str(yaml), "a.yaml", fail_on_problem, NULL),
        SL_OK);
    const struct sl_agent *agent = sl_agents_find(rig->agents, "a");
    assert_non_null(agent);
    rig->env = (struct sl_run_env){ .loop = &rig->loop.base,
                                    .limits = &rig->limits,
                                    .models = &rig->models,
                                    .tools = &rig->tools,
                                    .store = rig->store,
                                    .stats = &rig->stats,
                                    .window_bytes = 16384 };
    rig->settings = (struct sl_run_settings){
        .max_iterations = (uint32_t)agent->max_iterations,
        .run_timeout_ms = agent->run_timeout_ms,
        .call_deadline_ns = SL_NEVER_NS,
        .on_disconnect = SL_DISCONNECT(CANCEL),
        .cancel_on_reset = true,
        .mark_bytes = 65536,
        .mark_events = 1024,
        .max_tool_calls = 100,
    };
}

static struct sl_run_options options_of(struct sl_exec_rig *rig, const char *input)
{
    return (struct sl_run_options){
        .env = &rig->env,
        .agent = sl_agents_find(rig->agents, "a"),
        .settings = &rig->settings,
        .run_id = "0123456789abcdef0123456789abcdef",
        .history = &rig->history,
        .input = input,
        .peer = "",
        .tenant = rig->tenant == NULL ? "acme" : rig->tenant,
        .session_id = rig->session_id,
        .session_store = rig->session_store,
        .request_id = rig->request_id,
        .digest = rig->digest,
        .metadata = rig->metadata,
        .n_metadata = rig->n_metadata,
        .on_begun = on_begun,
        .credentials = &rig->credentials,
        .caller = rig->caller,
        .client_tools = rig->client_tools,
        .n_client_tools = rig->n_client_tools,
        .on_inputs_taken = on_inputs_taken,
        .on_heartbeat = on_heartbeat,
        .ending = &rig->ending,
        .on_settled = on_settled,
        .on_ending = on_ending,
        .on_ended = on_ended,
        .user_data = rig,
    };
}

void sl_exec_rig_start(struct sl_exec_rig *rig, const char *input)
{
    assert_int_equal(sl_history_begin_turn(&rig->history, sl_slice_str(input)), SL_OK);
    const struct sl_run_options options = options_of(rig, input);
    assert_int_equal(sl_run_new(&options, &rig->run), SL_OK);
    assert_int_equal(
        sl_event_cursor_open(
            &rig->cursor, sl_run_channel(rig->run), SL_CURSOR_FOREGROUND, 0, on_readable),
        SL_OK);
    const bool is_recorded = rig->settings.durability != SL_STORE_NONE;
    assert_int_equal(sl_run_begin(rig->run), is_recorded ? SL_PENDING : SL_OK);
    sl_exec_rig_turn(rig);
}

void sl_exec_rig_crash(struct sl_exec_rig *rig)
{
    const struct sl_ending ending = sl_ending_error(SL_CODE(INTERNAL));
    const bool was_reading = rig->is_reading;
    rig->is_reading = false;
    sl_event_cursor_close(&rig->cursor);
    if (!rig->has_ended) {
        sl_run_cancel(rig->run, &ending);
        sl_exec_rig_turn(rig);
    }
    if (!rig->has_ended) {
        sl_exec_rig_advance_ms(rig, 5000); /* the store is asked again */
    }
    assert_true(rig->has_ended);
    rig->is_reading = was_reading;
}

void sl_exec_rig_take_up(struct sl_exec_rig *rig, struct sl_slice bytes, uint64_t stored)
{
    struct sl_resume resume = { NULL };
    struct sl_store_log log = { .durability = rig->settings.durability, .stored = stored };
    assert_true(rig->has_ended);
    sl_event_cursor_close(&rig->cursor);
    sl_approvals_done(&rig->approvals);
    sl_history_done(&rig->history);
    rig->has_ended = false;
    rig->n_settled = 0;
    if (rig->order.sequence == 0) { /* the reader saw nothing of it before */
        sl_event_order_resume(&rig->order, stored);
    }
    assert_int_equal(sl_resume_read(bytes, &resume), SL_OK);
    sl_resume_settings(&resume, &rig->limits, rig->settings.durability, &rig->settings);
    assert_int_equal(sl_resume_conversation(&resume, &rig->history), SL_OK);
    const char *input = sl_resume_input(&resume, &rig->history);
    struct sl_run_options options =
        options_of(rig, sl_history_text(&rig->history, sl_slice_str(input)));
    options.after_sequence = stored;
    options.caller = sl_history_text(&rig->history, sl_slice_str(resume.message->caller));
    options.n_client_tools = 0;
    assert_int_equal(sl_run_new(&options, &rig->run), SL_OK);
    assert_int_equal(
        sl_event_cursor_open(
            &rig->cursor, sl_run_channel(rig->run), SL_CURSOR_OBSERVER, stored, on_readable),
        SL_OK);
    assert_int_equal(sl_run_take_up(rig->run, &resume, &log), SL_OK);
    sl_exec_rig_turn(rig);
    sl_resume_done(&resume);
}

void sl_exec_rig_turn(struct sl_exec_rig *rig)
{
    if (rig->is_reading) {
        sl_exec_rig_read(rig, SIZE_MAX);
    }
    assert_true(sl_fake_loop_run(&rig->loop));
    if (rig->is_reading) {
        sl_exec_rig_read(rig, SIZE_MAX);
    }
}

void sl_exec_rig_advance_ms(struct sl_exec_rig *rig, uint64_t ms)
{
    sl_fake_loop_advance_ms(&rig->loop, ms);
    sl_exec_rig_turn(rig);
}

void sl_exec_rig_part(struct sl_exec_rig *rig, enum sl_run_gone how)
{
    sl_event_cursor_close(&rig->cursor);
    sl_run_reader_gone(rig->run, how, 8);
}

/* AL-6.6: each call has its result, in order, and each result its call. */
static void check_conversation(const struct sl_history *history)
{
    size_t i = 0;
    while (i < history->n_messages) {
        const struct sl_chat_message *message = &history->messages[i++];
        assert_int_not_equal(message->role, SL_CHAT_TOOL);
        for (size_t call = 0; call < message->n_calls; call++) {
            assert_true(i < history->n_messages);
            assert_int_equal(history->messages[i].role, SL_CHAT_TOOL);
            assert_string_equal(history->messages[i++].call_id, message->calls[call].id);
        }
    }
}

void sl_exec_rig_done(struct sl_exec_rig *rig)
{
    struct sl_error err = { .text = "" };
    rig->is_reading = true;
    sl_exec_rig_turn(rig);
    assert_true(rig->has_ended);
    check_conversation(&rig->history);
    const bool has_terminal = !rig->is_refused && rig->ending.code != SL_CODE(OUT_OF_MEMORY) &&
                              rig->ending.code != SL_CODE(WORKER_LOST) && !rig->ending.is_parked;
    if (rig->cursor.channel != NULL && has_terminal) {
        assert_int_equal(sl_event_order_finish(&rig->order, &err), SL_OK);
    }
    sl_event_cursor_close(&rig->cursor);
    assert_int_equal(rig->models.n_live, 0);
    assert_int_equal(rig->tools.n_live, 0);
    assert_int_equal(sl_store_n_open(rig->store), 0);
    (void)sl_agents_free(rig->agents);
    for (size_t i = 0; i < rig->n_client_tools; i++) {
        (void)sl_tool_unref(rig->client_tools[i]);
    }
    sl_approvals_done(&rig->approvals);
    assert_int_equal(rig->tools.n_tools, 0);
    sl_history_done(&rig->history);
    (void)sl_store_free(rig->store);
    sl_event_order_done(&rig->order);
    sl_buf_done(&rig->trace);
    sl_buf_done(&rig->bytes);
    if (rig->last != NULL) {
        sluice__v1__stream_event__free_unpacked(rig->last, NULL);
    }
    assert_int_equal(sl_loop_next_due_ns(&rig->loop.base), SL_NEVER_NS);
    sl_fake_loop_done(&rig->loop);
}
