/* One iteration: the gate, the request, the chunks of the answer, and what follows from its stop
 * reason (AL-4.4 to 4.8, AL-4.1). */
#include <inttypes.h>
#include <stdio.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/utf8.h"
#include "runtime/exec/run_metrics.h"
#include "runtime/exec/run_private.h"

/* Room for the request's other members, in an estimate of its size. */
enum { REQUEST_OVERHEAD_BYTES = 256, SESSION_MESSAGES = 10 };

void sl_run_copy_name(char *room, size_t room_bytes, const char *text)
{
    struct sl_slice slice = sl_slice_str(text);
    room[0] = '\0';
    if (slice.data != NULL && sl_utf8_is_clean(slice)) {
        const size_t size = sl_utf8_cut(slice, room_bytes - 1);
        memcpy(room, slice.data, size);
        room[size] = '\0';
    }
}

/* ---- The end of an answer ---------------------------------------------------------------------
 */

static void keep_facts(struct sl_run *run, const struct sl_model_chunk *chunk)
{
    struct sl_usage_facts *facts = &run->turn.facts;
    facts->request_bytes = chunk->request_bytes;
    facts->received_bytes = chunk->received_bytes;
    facts->lost_bytes = chunk->lost_bytes;
    facts->n_requests = chunk->n_requests;
}

/* AL-4.1. UNSPECIFIED: a failure, tool use without calls. */
static Sluice__V1__StopReason effective_stop(enum sl_model_finish finish, bool has_calls)
{
    switch (finish) {
    case SL_FINISH_TOOL_USE:
        return has_calls ? SL_STOP_REASON(TOOL_USE) : SL_STOP_REASON(UNSPECIFIED);
    case SL_FINISH_END_TURN:
    case SL_FINISH_UNKNOWN:
        return has_calls ? SL_STOP_REASON(TOOL_USE) : SL_STOP_REASON(END_TURN);
    case SL_FINISH_STOP_SEQUENCE:
        return has_calls ? SL_STOP_REASON(TOOL_USE) : SL_STOP_REASON(STOP_SEQUENCE);
    case SL_FINISH_MAX_TOKENS:
        return SL_STOP_REASON(MAX_TOKENS);
    case SL_FINISH_CONTENT_FILTER:
        return SL_STOP_REASON(CONTENT_FILTER);
    case SL_FINISH_PAUSE_TURN:
        return has_calls ? SL_STOP_REASON(TOOL_USE) : SL_STOP_REASON(PAUSE_TURN);
    }
    return SL_STOP_REASON(UNSPECIFIED);
}

bool sl_run_record_answer(struct sl_run *run)
{
    sl_collect_finish(&run->collect);
    struct sl_chat_call *calls = NULL;
    const size_t n_calls = run->tools.n_slots;
    if (n_calls == 0 && run->collect.text.size == 0) {
        return true; /* empty messages are not sent (AL-10) */
    }
    if (n_calls > 0) {
        calls = sl_calloc(n_calls, sizeof(*calls));
        if (calls == NULL) {
            sl_run_fail(run, SL_CODE(OUT_OF_MEMORY));
            return false;
        }
    }
    for (size_t i = 0; i < n_calls; i++) {
        const struct sl_tool_slot *slot = run->tools.slots[i];
        calls[i] = (struct sl_chat_call){
            .id = slot->call_id,
            .name = slot->name,
            .arguments_json = slot->arguments_json,
            .opaque_json = slot->opaque_json,
        };
    }
    const struct sl_chat_message message = {
        .role = SL_CHAT_ASSISTANT,
        .content = sl_buf_slice(&run->collect.text),
        .calls = calls,
        .n_calls = n_calls,
        .reasoning = sl_buf_slice(&run->collect.reasoning),
        .opaque_json = run->turn.opaque_json,
    };
    /* A part of it would be another conversation. */
    const bool is_whole = !run->collect.is_out_of_memory && !run->collect.is_truncated;
    const enum sl_status status =
        !is_whole ? SL_RESOURCE_EXHAUSTED : sl_history_add(&run->history, &message);
    (void)sl_free(calls);
    run->turn.is_recorded = status == SL_OK;
    if (status != SL_OK) {
        sl_run_fail_full(run);
    }
    return status == SL_OK;
}

/* AL-4.8. The iteration is complete. */
static void branch(struct sl_run *run, Sluice__V1__StopReason stop)
{
    if (stop == SL_STOP_REASON(TOOL_USE)) {
        sl_run_set_state(run, SL_RUN_STATE_TOOLS);
        if (sl_run_record_answer(run)) {
            sl_run_tools_begin(run);
        }
    } else if (stop == SL_STOP_REASON(PAUSE_TURN)) {
        sl_run_set_state(run, SL_RUN_STATE_READY);
        if (sl_run_record_answer(run)) {
            sl_run_next_iteration(run);
        }
    } else if (stop == SL_STOP_REASON(CONTENT_FILTER)) {
        sl_run_fail(run, SL_CODE(CONTENT_FILTER));
    } else if (run->turn.is_violation) {
        sl_run_answer_misfits(run);
    } else {
        const struct sl_ending ending = sl_ending_done(stop);
        sl_run_finish(run, &ending);
    }
}

/* NULL: there is none, or no memory for it, which ends nothing. */
static const char *keep_name(struct sl_run *run, const char *text)
{
    char name[SL_MODEL_NAME_BYTES];
    sl_run_copy_name(name, sizeof(name), text);
    return text == NULL ? NULL : sl_history_text(&run->history, sl_slice_str(name));
}

static void on_finish(struct sl_run *run, const struct sl_model_chunk *chunk)
{
    run->turn.raw = keep_name(run, chunk->raw);
    run->turn.answered_model = keep_name(run, chunk->answered_model);
    keep_facts(run, chunk);
    run->turn.finish = chunk->finish;
    if (chunk->finish == SL_FINISH_UNKNOWN) {
        SL_METRIC_ADD(sluice_provider_unknown_finish, 1, run->agent->provider);
    }
    run->turn.handle = sl_model_turn_free(run->turn.handle);
    run->turn.is_waiting = run->tools.n_read < run->tools.n_slots;
    if (!run->turn.is_waiting) {
        sl_run_answered(run);
    }
}

void sl_run_complete(struct sl_run *run)
{
    if (sl_run_emit_iteration_complete(run, run->turn.stop)) {
        branch(run, run->turn.stop);
    }
}

void sl_run_answered(struct sl_run *run)
{
    run->turn.stop = effective_stop(run->turn.finish, run->tools.n_slots > 0);
    run->turn.is_waiting = false;
    if (run->turn.stop == SL_STOP_REASON(UNSPECIFIED)) {
        sl_run_fail(run, SL_CODE(PROVIDER_PROTOCOL));
    } else if (sl_run_emit_held(run) && sl_run_answer_read(run)) {
        sl_run_complete(run);
    }
}

static Sluice__V1__ErrorCode code_of(enum sl_model_fault fault)
{
    switch (fault) {
    case SL_FAULT_PROVIDER_UNREACHABLE:
        return SL_CODE(PROVIDER_UNREACHABLE);
    case SL_FAULT_PROVIDER_TLS:
        return SL_CODE(PROVIDER_TLS);
    case SL_FAULT_PROVIDER_AUTH:
        return SL_CODE(PROVIDER_AUTH);
    case SL_FAULT_PROVIDER_REJECTED:
        return SL_CODE(PROVIDER_REJECTED);
    case SL_FAULT_PROVIDER_RATE_LIMITED:
        return SL_CODE(PROVIDER_RATE_LIMITED);
    case SL_FAULT_PROVIDER_QUOTA:
        return SL_CODE(PROVIDER_QUOTA);
    case SL_FAULT_PROVIDER_OVERLOADED:
        return SL_CODE(PROVIDER_OVERLOADED);
    case SL_FAULT_PROVIDER_TIMEOUT:
        return SL_CODE(PROVIDER_TIMEOUT);
    case SL_FAULT_PROVIDER_TRUNCATED:
        return SL_CODE(PROVIDER_TRUNCATED);
    case SL_FAULT_PROVIDER_PROTOCOL:
        return SL_CODE(PROVIDER_PROTOCOL);
    case SL_FAULT_PROVIDER_LIMIT:
        return SL_CODE(PROVIDER_LIMIT);
    case SL_FAULT_CONTEXT_OVERFLOW:
        return SL_CODE(CONTEXT_OVERFLOW);
    case SL_FAULT_DEADLINE:
        return SL_CODE(DEADLINE_EXCEEDED);
    case SL_FAULT_OUT_OF_MEMORY:
        return SL_CODE(OUT_OF_MEMORY);
    case SL_FAULT_INTERNAL:
        return SL_CODE(INTERNAL);
    }
    return SL_CODE(INTERNAL);
}

/* What the provider said is for the server's log only (AL-2.2). */
static void log_fault(
    const struct sl_run *run, const struct sl_ending *ending, const char *message, uint32_t status)
{
    sl_log(
        SL_WARN, SL_LOG_EXEC,
        "run=%s msg=\"model failed\" provider=%s code=%s http_status=%" PRIu32
        " error_id=%s detail=%s",
        run->run_id, run->agent->provider, ending->reason, status, ending->error_id,
        SL_LOG_QUOTE(sl_slice_str(message)));
}

static void on_fail(struct sl_run *run, const struct sl_model_chunk *chunk)
{
    struct sl_ending ending = sl_ending_error(code_of(chunk->fault));
    ending.provider_status = chunk->http_status;
    if (ending.is_retryable && chunk->retry_after_ms >= 0) {
        ending.has_retry_after = true;
        ending.retry_after_ms = (uint64_t)chunk->retry_after_ms;
    }
    log_fault(run, &ending, chunk->message, chunk->http_status);
    SL_METRIC_ADD(sluice_provider_errors, 1, run->agent->provider, ending.reason);
    keep_facts(run, chunk);
    /* Never sent, or answered with an HTTP error. */
    run->turn.facts.is_unused = chunk->request_bytes == 0 && chunk->received_bytes == 0;
    run->turn.handle = sl_model_turn_free(run->turn.handle);
    run->turn.failure = ending.reason;
    if (!sl_run_restart(run, &ending)) {
        sl_run_finish(run, &ending);
    }
}

/* ---- Chunks ------------------------------------------------------------------------------------
 */

static void on_fragment(struct sl_run *run, const struct sl_model_chunk *chunk)
{
    run->turn.facts.received_bytes += chunk->text.size;
    if (!run->settings.tool_call_deltas || chunk->over_bytes > 0) {
        return;
    }
    /* The text of a fragment may end inside a character; strings of events may not. */
    struct sl_buf fragment;
    uint8_t *room = NULL;
    sl_buf_init(&fragment, sl_utf8_repaired_max(chunk->text.size) + 1);
    Sluice__V1__ToolCallDelta delta;
    sluice__v1__tool_call_delta__init(&delta);
    char tool_name[SL_MODEL_NAME_BYTES];
    sl_run_copy_name(tool_name, sizeof(tool_name), chunk->name);
    if (sl_buf_reserve(&fragment, fragment.max_bytes, &room) == SL_OK) {
        room[sl_utf8_repair(chunk->text, room)] = '\0';
        delta.index = chunk->index;
        delta.tool_name = tool_name;
        delta.arguments_fragment = (char *)room;
        Sluice__V1__StreamEvent event;
        sluice__v1__stream_event__init(&event);
        event.event_case = SL_EVENT(TOOL_CALL_DELTA);
        event.tool_call_delta = &delta;
        (void)sl_run_emit(run, &event);
    } else {
        sl_run_fail(run, SL_CODE(OUT_OF_MEMORY));
    }
    sl_buf_done(&fragment);
}

static void on_text(struct sl_run *run, const struct sl_model_chunk *chunk)
{
    run->turn.facts.received_bytes += chunk->text.size;
    (void)sl_run_emit_text(run, SL_ENCODE_TEXT_DELTA, chunk->text);
}

static void on_reasoning(struct sl_run *run, const struct sl_model_chunk *chunk)
{
    run->turn.facts.received_bytes += chunk->text.size;
    if (!run->agent->hides_reasoning) {
        (void)sl_run_emit_text(run, SL_ENCODE_THINKING, chunk->text);
    } else if (sl_buf_add(&run->collect.reasoning, chunk->text) != SL_OK) {
        /* Only some providers want it back, and none needs more than that. */
        sl_log(SL_DEBUG, SL_LOG_EXEC, "run=%s msg=\"reasoning cut, ignoring\"", run->run_id);
    }
}

static void on_opaque(struct sl_run *run, const struct sl_model_chunk *chunk)
{
    run->turn.opaque_json = sl_history_text(&run->history, chunk->text);
    if (run->turn.opaque_json == NULL) {
        sl_run_fail_full(run);
    }
}

static void on_chunk(void *user_data, const struct sl_model_chunk *chunk)
{
    struct sl_run *run = user_data;
    if (run->is_claimed) {
        return;
    }
    if (run->counted.is_measured && chunk->kind <= SL_CHUNK_CALL) {
        sl_run_count_chunk(run);
    }
    switch (chunk->kind) {
    case SL_CHUNK_TEXT:
        on_text(run, chunk);
        break;
    case SL_CHUNK_REASONING:
        on_reasoning(run, chunk);
        break;
    case SL_CHUNK_CALL_FRAGMENT:
        on_fragment(run, chunk);
        break;
    case SL_CHUNK_CALL:
        sl_run_tool_asked(run, chunk);
        break;
    case SL_CHUNK_OPAQUE:
        on_opaque(run, chunk);
        break;
    case SL_CHUNK_USAGE:
        run->turn.facts.reported = chunk->usage;
        break;
    case SL_CHUNK_FINISH:
        on_finish(run, chunk);
        break;
    case SL_CHUNK_FAIL:
        on_fail(run, chunk);
        break;
    }
}

static bool is_full(void *user_data)
{
    const struct sl_run *run = user_data;
    return sl_event_channel_is_full(run->channel);
}

static void on_phase(void *user_data, enum sl_model_phase phase)
{
    struct sl_run *run = user_data;
    run->turn.phase = phase;
}

static void on_retry(void *user_data, enum sl_model_fault fault)
{
    struct sl_run *run = user_data;
    run->turn.phase = SL_MODEL_RETRY_WAIT;
    run->turn.n_retries++;
    const struct sl_ending ending = sl_ending_error(code_of(fault));
    SL_METRIC_ADD(sluice_provider_retries, 1, run->agent->provider, ending.reason);
}

/* ---- The request -------------------------------------------------------------------------------
 */

static size_t estimate_request(const struct sl_run *run)
{
    size_t bytes = REQUEST_OVERHEAD_BYTES + sl_history_bytes(&run->history);
    bytes += run->agent->instructions == NULL ? 0 : strlen(run->agent->instructions);
    bytes += run->agent->output.schema_json == NULL ? 0 : strlen(run->agent->output.schema_json);
    size_t n_tools = 0;
    const struct sl_chat_tool *tools = sl_run_chat_tools(run, &n_tools);
    for (size_t i = 0; i < n_tools; i++) {
        const struct sl_chat_tool *tool = &tools[i];
        bytes += strlen(tool->name) + strlen(tool->description) + strlen(tool->parameters_json);
    }
    return bytes;
}

static struct sl_model_request make_request(const struct sl_run *run)
{
    const struct sl_agent *agent = run->agent;
    size_t n_tools = 0;
    const struct sl_chat_tool *tools = sl_run_chat_tools(run, &n_tools);
    return (struct sl_model_request){
        .provider = agent->provider,
        .model = agent->model,
        .system = agent->instructions,
        .messages = run->history.messages,
        .n_messages = run->history.n_messages,
        .tools = tools,
        .n_tools = n_tools,
        .temperature = agent->temperature,
        .top_p = agent->top_p,
        .max_tokens = agent->max_tokens,
        .stop = agent->stop,
        .n_stop = agent->n_stop,
        .reasoning_effort = agent->reasoning_effort,
        .output_schema_json = agent->output.schema_json,
        .remaining_ms = sl_run_remaining_ms(run),
        .run_id = run->run_id,
        .iteration = run->iteration,
        .input = run->options.input,
    };
}

static Sluice__V1__ErrorCode code_of_start(enum sl_status status)
{
    if (status == SL_RESOURCE_EXHAUSTED) {
        return SL_CODE(OUT_OF_MEMORY);
    }
    if (status == SL_FAILED_PRECONDITION) {
        return SL_CODE(PROVIDER_AUTH);
    }
    return status == SL_INVALID_ARGUMENT ? SL_CODE(PROVIDER_REJECTED) : SL_CODE(INTERNAL);
}

static void ask_model(struct sl_run *run)
{
    const struct sl_model_request request = make_request(run);
    const struct sl_model_sink sink = { .on_chunk = on_chunk,
                                        .is_full = is_full,
                                        .on_phase = on_phase,
                                        .on_retry = on_retry,
                                        .user_data = run };
    struct sl_error err = { .status = SL_OK };
    run->turn.facts.request_bytes = estimate_request(run);
    sl_run_count_request(run);
    const uint64_t n_turns =
        atomic_load_explicit(&run->env->stats->model_turns, memory_order_relaxed);
    atomic_store_explicit(&run->env->stats->model_turns, n_turns + 1, memory_order_relaxed);
    const enum sl_status status = sl_model_turn_start(
        run->env->models, run->env->loop, &request, &sink, &run->turn.handle, &err);
    if (status != SL_OK) {
        const struct sl_ending ending = sl_ending_error(code_of_start(status));
        run->turn.facts.is_unused = true;
        log_fault(run, &ending, err.text, 0);
        SL_METRIC_ADD(sluice_provider_errors, 1, run->agent->provider, ending.reason);
        sl_run_finish(run, &ending);
    }
}

static bool emit_iteration_start(struct sl_run *run)
{
    Sluice__V1__IterationStart start;
    sluice__v1__iteration_start__init(&start);
    start.iteration = run->iteration;
    start.max_iterations = run->settings.max_iterations;
    start.attempt = run->attempt;
    Sluice__V1__StreamEvent event;
    sluice__v1__stream_event__init(&event);
    event.event_case = SL_EVENT(ITERATION_START);
    event.iteration_start = &start;
    return sl_run_emit(run, &event);
}

/* True: this iteration may begin, or begin again. */
static bool pass_gate(struct sl_run *run, uint32_t iteration)
{
    if (run->is_claimed) {
        return false;
    }
    if (sl_loop_now_ns(run->env->loop) >= run->deadline_ns) {
        sl_run_fail(run, SL_CODE(DEADLINE_EXCEEDED));
        return false;
    }
    if (sl_budget_is_spent(&run->budget)) {
        sl_run_fail(run, SL_CODE(BUDGET_EXCEEDED));
        return false;
    }
    if (iteration > run->settings.max_iterations) {
        struct sl_ending ending = sl_ending_error(SL_CODE(MAX_ITERATIONS));
        if (run->settings.max_iterations >= run->env->limits->iterations) {
            sl_limit_reached(SL_LIMIT_iterations);
        }
        sl_ending_say(
            &ending, "Exceeded max iterations (%" PRIu32 ")", run->settings.max_iterations);
        sl_run_finish(run, &ending);
        return false;
    }
    return true;
}

/* A session grows with each run: it has a bound, also without one in the agent's file. */
static size_t most_old_messages(const struct sl_run *run)
{
    const bool is_bound = run->agent->max_context_messages == 0 && run->session.store != NULL;
    return is_bound ? SESSION_MESSAGES : run->agent->max_context_messages;
}

static void begin_iteration(struct sl_run *run, uint32_t iteration, uint32_t attempt)
{
    if (!pass_gate(run, iteration)) {
        return;
    }
    sl_run_tools_clear(run);
    run->iteration = iteration;
    run->attempt = attempt;
    run->turn.phase = SL_MODEL_WAIT;
    run->turn.n_retries = 0;
    run->turn.facts = (struct sl_usage_facts){ .n_requests = 0 };
    run->turn.is_waiting = false;
    run->turn.is_recorded = false;
    run->turn.failure = NULL;
    run->turn.is_violation = false;
    run->turn.before = run->budget;
    run->turn.raw = run->turn.answered_model = NULL;
    run->turn.opaque_json = NULL;
    sl_collect_begin(&run->collect); /* first: an end from here on has no text of the last one */
    if (!emit_iteration_start(run)) {
        return;
    }
    run->turn.is_open = true;
    sl_run_set_state(run, SL_RUN_STATE_MODEL);
    if (!sl_run_inputs_take(run)) {
        return;
    }
    sl_run_prune(run);
    ask_model(run);
}

void sl_run_prune(struct sl_run *run)
{
    sl_history_prune(&run->history, most_old_messages(run), run->agent->max_context_tokens);
}

void sl_run_next_iteration(struct sl_run *run)
{
    if (run->is_claimed || sl_run_lease_wait(run, sl_run_next_iteration)) {
        begin_iteration(run, run->iteration + 1, 1);
    }
}

void sl_run_repeat_iteration(struct sl_run *run)
{
    if (run->is_claimed || sl_run_lease_wait(run, sl_run_repeat_iteration)) {
        begin_iteration(run, run->iteration, run->attempt + 1);
    }
}
