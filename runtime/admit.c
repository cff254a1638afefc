/* What a request may ask for (AL-5.3, AL-9): its spec is checked, the agent's and the server's
 * limits are applied, and the conversation is copied. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/base/utf8.h"
#include "runtime/exec/encode.h"
#include "runtime/runtime_private.h"

enum {
    MIN_HEARTBEAT_MS = 1000,
    MAX_HEARTBEAT_MS = 60000,
    MIN_BUFFER_BYTES = 4096,
    MAX_BUFFER_BYTES = 4 * 1024 * 1024,
    MAX_BUFFER_EVENTS = 10000,
    MAX_FLUSH_MS = 10000,
    MIN_DELTA_BYTES = 64,
    MIN_DETACH_MS = 1000,
    MAX_DETACH_MS = 24 * 3600 * 1000,
    HISTORY_FACTOR = 2 /* of the largest request: it is copied, and grows */
};

void sl_run_refuse(
    struct sl_run_stream *stream, enum sl_status status, const char *reason, const char *fmt, ...)
{
    struct sl_run_refusal *refusal = &stream->refusal;
    va_list args;
    va_start(args, fmt);
    const int size = vsnprintf(refusal->text, sizeof(refusal->text), fmt, args);
    va_end(args);
    if (size >= (int)sizeof(refusal->text)) {
        const struct sl_slice text = sl_slice_str(refusal->text);
        refusal->text[sl_utf8_cut(text, sizeof(refusal->text) - 4)] = '\0';
    }
    SL_METRIC_ADD(sluice_refusals, 1, "run", reason);
    refusal->status = status;
    refusal->reason = reason;
    stream->is_refused = true;
}

#define REFUSE_INVALID(stream, ...)                                                                \
    sl_run_refuse((stream), SL_INVALID_ARGUMENT, "INVALID_REQUEST", __VA_ARGS__)

/* ---- Options -----------------------------------------------------------------------------------
 */

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static bool is_within(
    struct sl_run_stream *stream, const char *name, uint64_t value, uint64_t min, uint64_t max)
{
    if (value < min || value > max) {
        REFUSE_INVALID(stream, "%s must be %" PRIu64 " to %" PRIu64, name, min, max);
        return false;
    }
    return true;
}

static bool set_disconnect(struct sl_run_stream *stream, const struct sl_run_spec *spec)
{
    struct sl_run_settings *settings = &stream->start.settings;
    const struct sl_agent *agent = stream->start.agent;
    settings->detach_ttl_ms = spec->detach_ttl_ms != 0 ? spec->detach_ttl_ms : agent->detach_ttl_ms;
    switch (spec->on_disconnect) {
    case SL_RUN_DISCONNECT_DEFAULT:
        settings->on_disconnect = agent->on_disconnect;
        break;
    case SL_RUN_CANCEL:
        settings->on_disconnect = SL_DISCONNECT(CANCEL);
        break;
    case SL_RUN_DETACH:
        settings->on_disconnect = SL_DISCONNECT(DETACH);
        break;
    case SL_RUN_DETACH_FOR:
        settings->on_disconnect = SL_DISCONNECT(DETACH_FOR);
        break;
    }
    const bool is_cancel = settings->on_disconnect == SL_DISCONNECT(CANCEL);
    settings->cancel_on_reset = spec->has_cancel_on_reset ? spec->cancel_on_reset : is_cancel;
    if (settings->on_disconnect == SL_DISCONNECT(DETACH_FOR)) {
        return is_within(
            stream, "detach_ttl_ms", settings->detach_ttl_ms, MIN_DETACH_MS, MAX_DETACH_MS);
    }
    if (spec->detach_ttl_ms != 0) {
        REFUSE_INVALID(stream, "detach_ttl_ms is for on_disconnect DETACH_FOR");
        return false;
    }
    return true;
}

static bool set_heartbeat(struct sl_run_stream *stream, const struct sl_run_spec *spec)
{
    struct sl_run_settings *settings = &stream->start.settings;
    settings->heartbeat_ms = (uint32_t)stream->start.agent->heartbeat_ms;
    if (!spec->has_heartbeat) {
        return true;
    }
    settings->heartbeat_ms = spec->heartbeat_ms;
    return spec->heartbeat_ms == 0 || is_within(
                                          stream, "heartbeat_ms, unless 0,", spec->heartbeat_ms,
                                          MIN_HEARTBEAT_MS, MAX_HEARTBEAT_MS);
}

uint32_t sl_run_mark_bytes(const struct sl_run_stream *stream, size_t n_connection_streams)
{
    const uint64_t n_streams = n_connection_streams == 0 ? 1 : n_connection_streams;
    const uint64_t share = stream->reader.connection_bytes / n_streams;
    return (uint32_t)least(
        stream->reader.asked_bytes, share < MIN_BUFFER_BYTES ? MIN_BUFFER_BYTES : share);
}

static bool set_marks(struct sl_run_stream *stream, const struct sl_run_spec *spec)
{
    const struct sl_limits *limits = &stream->generation->limits;
    struct sl_run_settings *settings = &stream->start.settings;
    if (spec->has_buffer_bytes &&
        !is_within(
            stream, "buffer_bytes", spec->buffer_bytes, MIN_BUFFER_BYTES, MAX_BUFFER_BYTES)) {
        return false;
    }
    if (spec->has_buffer_events &&
        !is_within(stream, "buffer_events", spec->buffer_events, 1, MAX_BUFFER_EVENTS)) {
        return false;
    }
    stream->reader.asked_bytes = spec->has_buffer_bytes ? spec->buffer_bytes : limits->buffer;
    stream->reader.connection_bytes = limits->connection_send;
    settings->mark_bytes = sl_run_mark_bytes(stream, spec->n_connection_streams);
    atomic_init(&stream->mark_bytes, settings->mark_bytes);
    settings->mark_events =
        spec->has_buffer_events ? spec->buffer_events : (uint32_t)limits->buffer_events;
    return true;
}

static bool set_budget(struct sl_run_stream *stream, const struct sl_run_spec *spec)
{
    const struct sl_agent *agent = stream->start.agent;
    struct sl_run_settings *settings = &stream->start.settings;
    settings->max_tokens = agent->budget_tokens;
    settings->max_tool_calls = stream->generation->limits.calls_per_run;
    if (agent->budget_tool_calls > 0) {
        settings->max_tool_calls = least(settings->max_tool_calls, agent->budget_tool_calls);
    }
    if (spec->has_max_tokens) {
        if (!is_within(stream, "budget.max_tokens", spec->max_tokens, 1, INT64_MAX)) {
            return false;
        }
        settings->max_tokens = settings->max_tokens == 0
                                   ? spec->max_tokens
                                   : least(settings->max_tokens, spec->max_tokens);
    }
    settings->max_cost_micros = agent->budget_cost_micros;
    if (spec->has_max_cost && !agent->price.is_known) {
        REFUSE_INVALID(
            stream, "options.budget.max_cost_micros: the model of agent '%s' has no prices",
            agent->name);
        return false;
    }
    if (spec->has_max_cost) {
        if (!is_within(stream, "budget.max_cost_micros", spec->max_cost_micros, 1, INT64_MAX)) {
            return false;
        }
        settings->max_cost_micros = settings->max_cost_micros == 0
                                        ? spec->max_cost_micros
                                        : least(settings->max_cost_micros, spec->max_cost_micros);
    }
    if (spec->has_max_tool_calls) {
        settings->max_tool_calls = least(settings->max_tool_calls, spec->max_tool_calls);
    }
    return true;
}

static bool set_limits(struct sl_run_stream *stream, const struct sl_run_spec *spec)
{
    const struct sl_limits *limits = &stream->generation->limits;
    const struct sl_agent *agent = stream->start.agent;
    struct sl_run_settings *settings = &stream->start.settings;
    if (spec->has_max_iterations &&
        !is_within(stream, "max_iterations", spec->max_iterations, 1, limits->iterations)) {
        return false;
    }
    if (spec->has_run_timeout &&
        !is_within(stream, "run_timeout_ms", spec->run_timeout_ms, 1, INT64_MAX)) {
        return false;
    }
    if (!is_within(stream, "min_flush_ms", spec->min_flush_ms, 0, MAX_FLUSH_MS) ||
        (spec->max_delta_bytes != 0 &&
         !is_within(
             stream, "max_delta_bytes, unless 0,", spec->max_delta_bytes, MIN_DELTA_BYTES,
             limits->delta))) {
        return false;
    }
    settings->max_iterations = (uint32_t)agent->max_iterations;
    if (spec->has_max_iterations) {
        settings->max_iterations = (uint32_t)least(agent->max_iterations, spec->max_iterations);
    }
    settings->run_timeout_ms = agent->run_timeout_ms;
    if (spec->has_run_timeout) {
        settings->run_timeout_ms = least(agent->run_timeout_ms, spec->run_timeout_ms);
    }
    settings->call_deadline_ns = spec->deadline_ns == 0 ? SL_NEVER_NS : spec->deadline_ns;
    settings->tool_call_deltas = agent->tool_call_deltas || spec->tool_call_deltas;
    settings->omit_content = spec->omit_content;
    settings->min_flush_ms = spec->min_flush_ms;
    settings->max_delta_bytes = spec->max_delta_bytes;
    return true;
}

/* ---- The conversation --------------------------------------------------------------------------
 */

static size_t message_bytes(const struct sl_run_message *message)
{
    size_t bytes = message->content.size;
    for (size_t i = 0; i < message->n_calls; i++) {
        bytes += sl_slice_str(message->calls[i].id).size +
                 sl_slice_str(message->calls[i].name).size +
                 sl_slice_str(message->calls[i].arguments_json).size;
    }
    return bytes + sl_slice_str(message->call_id).size + sl_slice_str(message->tool_name).size;
}

static bool
check_message(struct sl_run_stream *stream, const struct sl_run_message *message, size_t index)
{
    const bool is_tool = message->role == SL_RUN_TOOL;
    if ((unsigned)message->role > SL_RUN_TOOL) {
        REFUSE_INVALID(stream, "context.messages[%zu].role is unknown", index);
        return false;
    }
    if (message->n_calls > 0 && message->role != SL_RUN_ASSISTANT) {
        REFUSE_INVALID(stream, "context.messages[%zu]: only ASSISTANT has tool_calls", index);
        return false;
    }
    if (is_tool && sl_slice_str(message->call_id).size == 0) {
        REFUSE_INVALID(stream, "context.messages[%zu]: TOOL needs tool_call_id", index);
        return false;
    }
    for (size_t i = 0; i < message->n_calls; i++) {
        const struct sl_run_call *call = &message->calls[i];
        const struct sl_slice arguments = sl_slice_str(call->arguments_json);
        if (sl_slice_str(call->id).size == 0 || sl_slice_str(call->name).size == 0) {
            REFUSE_INVALID(
                stream, "context.messages[%zu].tool_calls[%zu] needs id and name", index, i);
            return false;
        }
        if (arguments.size > stream->generation->limits.tool_arguments ||
            (arguments.size > 0 && !sl_history_is_object(call->arguments_json))) {
            REFUSE_INVALID(
                stream, "context.messages[%zu].tool_calls[%zu].arguments_json is no JSON object",
                index, i);
            return false;
        }
    }
    return true;
}

static bool check_sizes(struct sl_run_stream *stream, const struct sl_run_spec *spec)
{
    const struct sl_limits *limits = &stream->generation->limits;
    if (spec->input.size > limits->input) {
        sl_limit_reached(SL_LIMIT_input);
        REFUSE_INVALID(stream, "input is larger than %" PRIu64 " bytes", limits->input);
        return false;
    }
    size_t bytes = 0;
    for (size_t i = 0; i < spec->n_messages; i++) {
        bytes += message_bytes(&spec->messages[i]);
        if (!check_message(stream, &spec->messages[i], i)) {
            return false;
        }
    }
    if (bytes > limits->context) {
        sl_limit_reached(SL_LIMIT_context);
        REFUSE_INVALID(stream, "context is larger than %" PRIu64 " bytes", limits->context);
        return false;
    }
    return true;
}

static enum sl_status copy_message(struct sl_run_stream *stream, const struct sl_run_message *from)
{
    static const enum sl_chat_role roles[] = { [SL_RUN_SYSTEM] = SL_CHAT_SYSTEM,
                                               [SL_RUN_USER] = SL_CHAT_USER,
                                               [SL_RUN_ASSISTANT] = SL_CHAT_ASSISTANT,
                                               [SL_RUN_TOOL] = SL_CHAT_TOOL };
    struct sl_chat_message message = {
        .role = roles[from->role],
        .content = from->content,
        .n_calls = from->n_calls,
        .call_id = from->call_id,
        .tool_name = from->tool_name,
        .is_error = from->is_error,
    };
    struct sl_chat_call *calls = NULL;
    if (from->n_calls > 0) {
        calls = sl_calloc(from->n_calls, sizeof(*calls));
        if (calls == NULL) {
            return SL_RESOURCE_EXHAUSTED;
        }
    }
    for (size_t i = 0; i < from->n_calls; i++) {
        const char *arguments = from->calls[i].arguments_json;
        calls[i] = (struct sl_chat_call){
            .id = from->calls[i].id,
            .name = from->calls[i].name,
            .arguments_json = sl_slice_str(arguments).size == 0 ? "{}" : arguments,
        };
    }
    message.calls = calls;
    const enum sl_status status = sl_history_add(&stream->start.history, &message);
    (void)sl_free(calls);
    return status;
}

static enum sl_status
copy_conversation(struct sl_run_stream *stream, const struct sl_run_spec *spec)
{
    struct sl_history *history = &stream->start.history;
    for (size_t i = 0; i < spec->n_messages; i++) {
        SL_TRY(copy_message(stream, &spec->messages[i]));
    }
    if (stream->start.session_id == NULL) {
        SL_TRY(sl_history_begin_turn(history, spec->input));
    }
    stream->start.input = sl_history_text(history, spec->input);
    stream->start.peer = sl_history_text(history, sl_slice_str(spec->peer));
    stream->start.request_id = sl_history_text(history, sl_slice_str(spec->request_id));
    if (spec->principal != NULL) {
        stream->start.caller = sl_history_text(history, sl_slice_str(spec->principal));
        SL_TRY(stream->start.caller == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK);
    }
    const bool is_whole = stream->start.input != NULL && stream->start.peer != NULL &&
                          stream->start.request_id != NULL;
    return is_whole ? SL_OK : SL_RESOURCE_EXHAUSTED;
}

/* ---- The whole ---------------------------------------------------------------------------------
 */

static bool check_agent(struct sl_run_stream *stream, const struct sl_run_spec *spec)
{
    const struct sl_slice name = sl_slice_str(spec->agent);
    struct sl_error err = { .status = SL_OK };
    if (name.size == 0) {
        REFUSE_INVALID(stream, "agent is empty");
        return false;
    }
    const struct sl_agent *agent = sl_agents_find(stream->generation->agents, spec->agent);
    if (agent == NULL) {
        const size_t size = sl_utf8_cut(name, SL_AGENT_NAME_BYTES);
        sl_run_refuse(
            stream, SL_NOT_FOUND, "AGENT_NOT_FOUND", "there is no agent '%.*s'", (int)size,
            spec->agent);
        return false;
    }
    stream->start.agent = agent;
    if (sl_models_check(stream->generation->models, agent->provider, &err) != SL_OK) {
        sl_run_refuse(stream, SL_FAILED_PRECONDITION, "AGENT_DISABLED", "%s", err.text);
        return false;
    }
    const char *reason = NULL;
    const enum sl_status status = sl_models_check_input(
        stream->generation->models, agent->provider, spec->input, &reason, &err);
    if (status != SL_OK) {
        sl_run_refuse(stream, status, reason, "%s", err.text);
        if (status == SL_RESOURCE_EXHAUSTED) {
            stream->refusal.retry_after_ms = (int64_t)stream->generation->limits.run_wait;
        }
    }
    return status == SL_OK;
}

static bool check_ids(struct sl_run_stream *stream, const struct sl_run_spec *spec)
{
    const struct sl_slice session = sl_slice_str(spec->session_id);
    if (session.size > SL_SESSION_ID_MAX_BYTES || !sl_utf8_is_clean(session)) {
        REFUSE_INVALID(
            stream, "session_id must be text of at most %d bytes", (int)SL_SESSION_ID_MAX_BYTES);
        return false;
    }
    if (sl_slice_str(spec->request_id).size > SL_REQUEST_ID_MAX_BYTES) {
        REFUSE_INVALID(stream, "request_id is longer than %d bytes", (int)SL_REQUEST_ID_MAX_BYTES);
        return false;
    }
    return true;
}

/* False: the agent has no sessions. */
static bool check_session(struct sl_run_stream *stream, const struct sl_run_spec *spec)
{
    if (sl_slice_str(spec->session_id).size > 0 && stream->start.agent->memory == SL_MEMORY_NONE) {
        REFUSE_INVALID(
            stream, "session_id: agent '%s' keeps no sessions (memory: None)",
            stream->start.agent->name);
        return false;
    }
    return true;
}

static enum sl_status set_session(struct sl_run_stream *stream, const struct sl_run_spec *spec)
{
    if (sl_slice_str(spec->session_id).size == 0) {
        return SL_OK;
    }
    stream->start.session_id =
        sl_history_text(&stream->start.history, sl_slice_str(spec->session_id));
    stream->start.session_store = sl_run_session_store(stream->runtime, stream->start.agent);
    stream->start.replaces_session = spec->replaces_session;
    return stream->start.session_id == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
}

enum sl_status sl_run_admit_spec(
    struct sl_run_stream *stream, const struct sl_run_spec *spec, bool *ret_is_accepted)
{
    const struct sl_limits *limits = &stream->generation->limits;
    sl_history_init(&stream->start.history, limits->model_request * HISTORY_FACTOR);
    *ret_is_accepted = check_ids(stream, spec) && check_sizes(stream, spec) &&
                       check_agent(stream, spec) && check_session(stream, spec) &&
                       set_limits(stream, spec) && set_heartbeat(stream, spec) &&
                       set_disconnect(stream, spec) && set_marks(stream, spec) &&
                       set_budget(stream, spec) && sl_run_set_durability(stream, spec) &&
                       sl_run_set_slow_consumer(stream, spec) && sl_run_check_pairs(stream, spec);
    if (!*ret_is_accepted) {
        return SL_OK;
    }
    SL_TRY(sl_run_admit_client_tools(stream, spec, ret_is_accepted));
    if (!*ret_is_accepted) {
        return SL_OK;
    }
    stream->start.wants_only_end = spec->wants_only_end;
    if (sl_slice_str(spec->request_id).size > 0) {
        SL_TRY(sl_run_spec_digest(spec, stream->start.digest));
    }
    SL_TRY(sl_run_copy_pairs(stream, spec));
    SL_TRY(set_session(stream, spec));
    return copy_conversation(stream, spec);
}
