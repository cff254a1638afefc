#include "runtime/exec/closing.h"

#include <stdio.h>

#include "runtime/base/buf.h"
#include "runtime/base/event_log.h"
#include "runtime/exec/encode.h"
#include "runtime/exec/run_private.h"
#include "runtime/exec/session.h"
#include "runtime/exec/terminal.h"

enum {
    MAX_OPEN = 4096,                    /* of calls and approvals; a model answer has fewer */
    MAX_EVENTS_BYTES = 8 * 1024 * 1024, /* of those that close it */
    BYTES_PER_TOKEN = 4                 /* of an estimate (AL-2.3) */
};

/* A call without its result, or an approval without its decision. */
struct bracket {
    struct sl_list node;
    uint64_t opened_ms;
    const char *tool_id, *name; /* of the tool; or the approval's id */
    char texts[];
};

/* ---- What is open ------------------------------------------------------------------------------
 */

void sl_closing_init(struct sl_closing *closing, uint64_t after_sequence)
{
    *closing = (struct sl_closing){ .sequence = after_sequence };
    sl_list_init(&closing->calls);
    sl_list_init(&closing->approvals);
    sl_retelling_init(&closing->retelling);
}

void sl_closing_tell(
    struct sl_closing *closing, const struct sl_store_run *run, const struct sl_limits *limits)
{
    /* Without the events in between it would be another conversation. */
    if (run->context_state == SL_STORE_CONTEXT_BASE && closing->sequence <= run->context_sequence) {
        sl_retelling_begin(
            &closing->retelling, run->context, run->context_sequence, limits->run_context);
    }
}

static void drop_bracket(struct sl_closing *closing, struct bracket *bracket)
{
    sl_list_remove(&bracket->node);
    closing->n_open--;
    (void)sl_free(bracket);
}

static void drop_all(struct sl_closing *closing, struct sl_list *brackets)
{
    SL_LIST_EACH(node, brackets) {
        drop_bracket(closing, SL_CONTAINER(node, struct bracket, node));
    }
}

void sl_closing_done(struct sl_closing *closing)
{
    drop_all(closing, &closing->calls);
    drop_all(closing, &closing->approvals);
    sl_retelling_done(&closing->retelling);
    closing->provider = sl_free(closing->provider);
    closing->model = sl_free(closing->model);
}

static enum sl_status open_bracket(
    struct sl_closing *closing, struct sl_list *brackets, const char *tool_id, const char *name)
{
    const size_t id_bytes = strlen(tool_id) + 1;
    const size_t name_bytes = strlen(name) + 1;
    struct bracket *bracket =
        closing->n_open == MAX_OPEN ? NULL : sl_calloc(1, sizeof(*bracket) + id_bytes + name_bytes);
    if (bracket == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    memcpy(bracket->texts, tool_id, id_bytes);
    memcpy(bracket->texts + id_bytes, name, name_bytes);
    bracket->tool_id = bracket->texts;
    bracket->name = bracket->texts + id_bytes;
    bracket->opened_ms = closing->last_ms;
    sl_list_add_last(brackets, &bracket->node);
    closing->n_open++;
    return SL_OK;
}

/* Of an approval: by its own id, which is its name here. */
static void
close_bracket(struct sl_closing *closing, struct sl_list *brackets, const char *id, bool is_call)
{
    SL_LIST_EACH(node, brackets) {
        struct bracket *bracket = SL_CONTAINER(node, struct bracket, node);
        if (strcmp(is_call ? bracket->tool_id : bracket->name, id) == 0) {
            drop_bracket(closing, bracket);
            return;
        }
    }
}

/* ---- Reading -----------------------------------------------------------------------------------
 */

static enum sl_status
note_started(struct sl_closing *closing, const Sluice__V1__RunStarted *started)
{
    closing->provider = sl_strdup(started->provider);
    closing->model = sl_strdup(started->model);
    return closing->provider == NULL || closing->model == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
}

static void
note_iteration_complete(struct sl_closing *closing, const Sluice__V1__IterationComplete *complete)
{
    const struct sl_usage used = sl_terminal_usage(complete->usage);
    closing->is_iteration_open = false;
    closing->next_input_tokens = used.input_tokens + used.output_tokens;
    sl_usage_add(&closing->used, &used);
}

static enum sl_status note(struct sl_closing *closing, const Sluice__V1__StreamEvent *event)
{
    switch (event->event_case) {
    case SL_EVENT(RUN_STARTED):
        return note_started(closing, event->run_started);
    case SL_EVENT(ITERATION_START):
        closing->is_iteration_open = true;
        closing->iteration = event->iteration_start->iteration;
        closing->open_bytes = 0;
        break;
    case SL_EVENT(ITERATION_COMPLETE):
        note_iteration_complete(closing, event->iteration_complete);
        break;
    case SL_EVENT(TOOL_CALL_START):
        closing->open_bytes += strlen(event->tool_call_start->arguments_json);
        return open_bracket(
            closing, &closing->calls, event->tool_call_start->tool_id,
            event->tool_call_start->tool_name);
    case SL_EVENT(TOOL_CALL_COMPLETE):
        close_bracket(closing, &closing->calls, event->tool_call_complete->tool_id, true);
        break;
    case SL_EVENT(APPROVAL_REQUESTED):
        return open_bracket(
            closing, &closing->approvals, event->approval_requested->tool_id,
            event->approval_requested->approval_id);
    case SL_EVENT(APPROVAL_DECIDED):
        close_bracket(closing, &closing->approvals, event->approval_decided->approval_id, false);
        break;
    case SL_EVENT(DONE):
    case SL_EVENT(ERROR):
        closing->is_over = true;
        break;
    case SL_EVENT(TEXT_DELTA):
    case SL_EVENT(THINKING):
    case SL_EVENT(TOOL_CALL_DELTA):
    case SL_EVENT(TOOL_PROGRESS):
    case SL_EVENT(HEARTBEAT):
    case SLUICE__V1__STREAM_EVENT__EVENT__NOT_SET: /* newer than this: it counts by its sequence */
    case _SLUICE__V1__STREAM_EVENT__EVENT__CASE_IS_INT_SIZE:
        break;
    }
    return SL_OK;
}

/* Nearly all there is. */
static void note_text(struct sl_closing *closing, enum sl_encode_text kind, struct sl_slice text)
{
    closing->open_bytes += text.size;
    closing->sequence++;
    sl_retelling_text(&closing->retelling, closing->sequence, kind, text);
}

static enum sl_status feed_one(struct sl_closing *closing, struct sl_slice event)
{
    enum sl_encode_text kind;
    struct sl_slice text;
    if (sl_encode_text_of(event, &kind, &text)) {
        note_text(closing, kind, text);
        return SL_OK;
    }
    Sluice__V1__StreamEvent *message = sluice__v1__stream_event__unpack(
        NULL, event.size - SL_EVENT_PREFIX_BYTES, event.data + SL_EVENT_PREFIX_BYTES);
    if (message == NULL || message->sequence != closing->sequence + 1) {
        if (message != NULL) {
            sluice__v1__stream_event__free_unpacked(message, NULL);
        }
        return SL_DATA_LOSS;
    }
    closing->sequence++;
    closing->last_ms = message->timestamp_ms;
    closing->begun_ms = closing->begun_ms == 0 ? message->timestamp_ms : closing->begun_ms;
    sl_retelling_event(&closing->retelling, closing->sequence, message);
    const enum sl_status status = note(closing, message);
    sluice__v1__stream_event__free_unpacked(message, NULL);
    return status;
}

enum sl_status sl_closing_feed(struct sl_closing *closing, struct sl_slice events)
{
    while (events.size > 0) {
        const size_t size =
            events.size < SL_EVENT_PREFIX_BYTES ? SIZE_MAX : sl_event_size(events.data);
        if (size > events.size) {
            return SL_DATA_LOSS;
        }
        SL_TRY(feed_one(closing, sl_slice_of(events.data, size)));
        events = sl_slice_of(events.data + size, events.size - size);
    }
    return SL_OK;
}

/* ---- Writing -----------------------------------------------------------------------------------
 */

struct writer {
    struct sl_closing *closing;
    struct sl_buf bytes;
    uint64_t now_ms;
    uint32_t last_from; /* where the last event begins */
};

static enum sl_status put(struct writer *writer, Sluice__V1__StreamEvent *event)
{
    event->sequence = writer->closing->sequence + 1;
    event->timestamp_ms = writer->now_ms;
    writer->last_from = (uint32_t)writer->bytes.size;
    SL_TRY(sl_encode_into(&writer->bytes, event));
    writer->closing->sequence++;
    return SL_OK;
}

/* Nothing of it was recorded, not even that: what is known is said. */
static enum sl_status put_started(struct writer *writer, const struct sl_closing_run *run)
{
    Sluice__V1__RunStarted started;
    sluice__v1__run_started__init(&started);
    started.run_id = sl_pb_text(run->run_id);
    started.agent_name = sl_pb_text(run->agent);
    started.session_id = sl_pb_text(run->session_id);
    started.on_disconnect = (Sluice__V1__OnDisconnect)run->on_disconnect;
    Sluice__V1__StreamEvent event;
    sluice__v1__stream_event__init(&event);
    event.event_case = SL_EVENT(RUN_STARTED);
    event.run_started = &started;
    writer->closing->begun_ms = run->created_ms;
    writer->closing->last_ms = run->created_ms;
    return put(writer, &event);
}

static uint64_t tokens_of(uint64_t bytes)
{
    return (bytes + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN;
}

/* Nobody knows how large the request was: it had the conversation so far, and all of the iteration
 * before, and is not zero (AL-2.3). */
static struct sl_usage estimate(const struct sl_closing *closing)
{
    const uint64_t before = closing->next_input_tokens;
    const uint64_t told = tokens_of(sl_retelling_request_bytes(&closing->retelling));
    const uint64_t known = before > told ? before : told;
    return (struct sl_usage){
        .input_tokens = known == 0 ? 1 : known,
        .output_tokens = tokens_of(closing->open_bytes),
        .model_calls = 1,
        .is_estimated = true,
    };
}

static enum sl_status put_iteration_complete(struct writer *writer)
{
    struct sl_closing *closing = writer->closing;
    const struct sl_usage used = estimate(closing);
    Sluice__V1__Usage usage = sl_run_usage_message(&used);
    Sluice__V1__IterationComplete complete;
    sluice__v1__iteration_complete__init(&complete);
    complete.iteration = closing->iteration;
    complete.stop_reason = SL_STOP_REASON(INTERRUPTED);
    complete.usage = &usage;
    complete.provider = closing->provider == NULL ? sl_pb_text("") : closing->provider;
    complete.model = closing->model == NULL ? sl_pb_text("") : closing->model;
    Sluice__V1__StreamEvent event;
    sluice__v1__stream_event__init(&event);
    event.event_case = SL_EVENT(ITERATION_COMPLETE);
    event.iteration_complete = &complete;
    closing->is_iteration_open = false;
    sl_usage_add(&closing->used, &used);
    return put(writer, &event);
}

static enum sl_status put_decided(struct writer *writer, const struct bracket *approval)
{
    Sluice__V1__ApprovalDecided decided;
    sluice__v1__approval_decided__init(&decided);
    decided.approval_id = sl_pb_text(approval->name);
    decided.tool_id = sl_pb_text(approval->tool_id);
    decided.decision = SLUICE__V1__APPROVAL_DECISION__APPROVAL_DECISION_CANCELLED;
    Sluice__V1__StreamEvent event;
    sluice__v1__stream_event__init(&event);
    event.event_case = SL_EVENT(APPROVAL_DECIDED);
    event.approval_decided = &decided;
    return put(writer, &event);
}

/* It may have run, or not. Its time is what was seen of it. */
static enum sl_status put_call_complete(struct writer *writer, const struct bracket *call)
{
    const uint64_t last_ms = writer->closing->last_ms;
    Sluice__V1__ToolCallComplete complete;
    sluice__v1__tool_call_complete__init(&complete);
    complete.tool_name = sl_pb_text(call->name);
    complete.tool_id = sl_pb_text(call->tool_id);
    complete.execution_time_ms = last_ms > call->opened_ms ? last_ms - call->opened_ms : 0;
    complete.error = sl_pb_text(SL_RETELL_LOST);
    complete.error_code = SLUICE__V1__TOOL_ERROR_CODE__TOOL_ERROR_CODE_OUTCOME_UNKNOWN;
    Sluice__V1__StreamEvent event;
    sluice__v1__stream_event__init(&event);
    event.event_case = SL_EVENT(TOOL_CALL_COMPLETE);
    event.tool_call_complete = &complete;
    return put(writer, &event);
}

static enum sl_status put_error(struct writer *writer, const struct sl_ending *ending)
{
    const struct sl_closing *closing = writer->closing;
    Sluice__V1__Usage usage = sl_run_usage_message(&closing->used);
    Sluice__V1__RunError error;
    sluice__v1__run_error__init(&error);
    error.message = sl_pb_text(ending->message);
    error.code = ending->code;
    error.retryable = ending->is_retryable;
    error.error_id = sl_pb_text(ending->error_id);
    error.total_iterations = closing->iteration;
    error.execution_time_ms =
        closing->last_ms > closing->begun_ms ? closing->last_ms - closing->begun_ms : 0;
    error.usage = &usage;
    Sluice__V1__StreamEvent event;
    sluice__v1__stream_event__init(&event);
    event.event_case = SL_EVENT(ERROR);
    event.error = &error;
    return put(writer, &event);
}

static enum sl_status put_brackets(struct writer *writer)
{
    const struct sl_closing *closing = writer->closing;
    if (closing->is_iteration_open) {
        SL_TRY(put_iteration_complete(writer));
    }
    SL_LIST_EACH(node, &closing->approvals) {
        SL_TRY(put_decided(writer, SL_CONTAINER(node, struct bracket, node)));
    }
    SL_LIST_EACH(node, &closing->calls) {
        SL_TRY(put_call_complete(writer, SL_CONTAINER(node, struct bracket, node)));
    }
    return SL_OK;
}

static enum sl_status
put_all(struct writer *writer, const struct sl_closing_run *run, const struct sl_ending *ending)
{
    if (writer->closing->sequence == 0) {
        SL_TRY(put_started(writer, run));
    }
    SL_TRY(put_brackets(writer));
    return put_error(writer, ending);
}

static enum sl_status to_segment(const struct writer *writer, struct sl_closing_events *ret_events)
{
    const struct sl_slice bytes = sl_buf_slice(&writer->bytes);
    struct sl_segment *segment = sl_segment_new((uint32_t)bytes.size);
    if (segment == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    memcpy(segment->bytes, bytes.data, bytes.size);
    segment->used = (uint32_t)bytes.size;
    ret_events->segment = segment;
    ret_events->last_sequence = writer->closing->sequence;
    ret_events->terminal_from = writer->last_from;
    return SL_OK;
}

/* AL-5, column "history": a log that is damaged tells nothing. */
static void
tell(struct sl_closing *closing, const struct sl_ending *ending, struct sl_closing_events *ret)
{
    const bool is_first = closing->iteration <= 1;
    const bool has_use = closing->retelling.is_told && closing->retelling.has_use;
    const enum sl_session_rule rule = sl_session_rule_of(ending, is_first, has_use);
    sl_retelling_end(&closing->retelling, &ret->context);
    ret->is_session = rule == SL_SESSION_CUT && ret->context.size > 0 && closing->retelling.has_use;
}

enum sl_status sl_closing_write(
    struct sl_closing *closing,
    const struct sl_closing_run *run,
    const struct sl_ending *ending,
    uint64_t now_ms,
    struct sl_closing_events *ret_events)
{
    struct writer writer = { .closing = closing, .now_ms = now_ms };
    if (closing->is_over) {
        return SL_FAILED_PRECONDITION;
    }
    ret_events->first_sequence = closing->sequence + 1;
    sl_buf_init(&writer.bytes, MAX_EVENTS_BYTES);
    enum sl_status status = put_all(&writer, run, ending);
    if (status == SL_OK) {
        status = to_segment(&writer, ret_events);
    }
    sl_buf_done(&writer.bytes);
    if (status == SL_OK) {
        tell(closing, ending, ret_events);
    }
    closing->is_over = status == SL_OK;
    return status;
}

enum sl_status sl_closing_write_brackets(
    struct sl_closing *closing, uint64_t now_ms, struct sl_closing_events *ret_events)
{
    struct writer writer = { .closing = closing, .now_ms = now_ms };
    if (closing->is_over) {
        return SL_FAILED_PRECONDITION;
    }
    *ret_events = (struct sl_closing_events){ .first_sequence = closing->sequence + 1 };
    sl_buf_init(&writer.bytes, MAX_EVENTS_BYTES);
    enum sl_status status = put_brackets(&writer);
    if (status == SL_OK && writer.bytes.size > 0) {
        status = to_segment(&writer, ret_events);
    }
    sl_buf_done(&writer.bytes);
    closing->is_over = status == SL_OK;
    return status;
}
