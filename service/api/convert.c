#include "service/api/convert.h"

#include <inttypes.h>

#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"

enum { REQUEST_ID_BYTES = 128, SESSION_ID_BYTES = 128 }; /* as struct sl_run_spec says */

/* Texts of fields that come later: a request that uses one is refused. */
struct refusal {
    bool is_used;
    const char *field;
};

static enum sl_status
refuse_unbuilt(const struct refusal *refusals, size_t n_refusals, struct sl_error *err)
{
    for (size_t i = 0; i < n_refusals; i++) {
        if (refusals[i].is_used) {
            return sl_fail(
                err, SL_INVALID_ARGUMENT, "%s is not supported by this server", refusals[i].field);
        }
    }
    return SL_OK;
}

static bool is_set(const char *text)
{
    return text != NULL && text[0] != '\0';
}

static enum sl_status check_request(
    const Sluice__V1__ExecuteRequest *request, const struct sl_limits *limits, struct sl_error *err)
{
    const struct refusal refusals[] = {
        { request->context != NULL && request->context->n_state_json > 0, "context.state_json" },
    };
    SL_TRY(refuse_unbuilt(refusals, SL_COUNT(refusals), err));
    if (!is_set(request->agent)) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "agent: must be given");
    }
    const size_t input_bytes = strlen(request->input);
    if (input_bytes > limits->input) {
        sl_limit_reached(SL_LIMIT_input);
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "input: %zu bytes, at most %" PRIu64, input_bytes,
            limits->input);
    }
    if (strlen(request->request_id) > REQUEST_ID_BYTES) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "request_id: at most %d bytes", (int)REQUEST_ID_BYTES);
    }
    if (strlen(request->session_id) > SESSION_ID_BYTES) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "session_id: at most %d bytes", (int)SESSION_ID_BYTES);
    }
    return SL_OK;
}

/* An enum field of proto3 may hold any number. */
static enum sl_status check_enum(const char *field, int value, int greatest, struct sl_error *err)
{
    if (value < 0 || value > greatest) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "%s: %d is no value of this enum", field, value);
    }
    return SL_OK;
}

static enum sl_status check_enums(const Sluice__V1__RunOptions *options, struct sl_error *err)
{
    SL_TRY(check_enum(
        "options.on_disconnect", (int)options->on_disconnect,
        SLUICE__V1__ON_DISCONNECT__ON_DISCONNECT_DETACH_FOR, err));
    SL_TRY(check_enum(
        "options.durability", (int)options->durability, SLUICE__V1__DURABILITY__DURABILITY_SYNC,
        err));
    SL_TRY(check_enum(
        "options.slow_consumer", (int)options->slow_consumer,
        SLUICE__V1__SLOW_CONSUMER__SLOW_CONSUMER_DISCONNECT, err));
    SL_TRY(check_enum(
        "options.session_policy", (int)options->session_policy,
        SLUICE__V1__SESSION_POLICY__SESSION_POLICY_INTERRUPT, err));
    return check_enum(
        "options.context_mode", (int)options->context_mode,
        SLUICE__V1__CONTEXT_MODE__CONTEXT_MODE_REPLACE, err);
}

static enum sl_status check_range(
    const char *field, uint64_t value, uint64_t least, uint64_t greatest, struct sl_error *err)
{
    if (value < least || value > greatest) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "options.%s: %" PRIu64 " is outside %" PRIu64 " to %" PRIu64,
            field, value, least, greatest);
    }
    return SL_OK;
}

static enum sl_status
convert_budget(const Sluice__V1__Budget *budget, struct sl_run_spec *spec, struct sl_error *err)
{
    if (budget == NULL) {
        return SL_OK;
    }
    if (budget->_max_tokens_case != 0) {
        SL_TRY(check_range("budget.max_tokens", budget->max_tokens, 1, UINT64_MAX, err));
        spec->has_max_tokens = true;
        spec->max_tokens = budget->max_tokens;
    }
    if (budget->_max_cost_micros_case != 0) {
        SL_TRY(check_range("budget.max_cost_micros", budget->max_cost_micros, 1, UINT64_MAX, err));
        spec->has_max_cost = true;
        spec->max_cost_micros = budget->max_cost_micros;
    }
    if (budget->_max_tool_calls_case != 0) {
        spec->has_max_tool_calls = true;
        spec->max_tool_calls = budget->max_tool_calls;
    }
    return SL_OK;
}

static enum sl_status convert_buffers(
    const Sluice__V1__RunOptions *options, struct sl_run_spec *spec, struct sl_error *err)
{
    if (options->_buffer_bytes_case != 0) {
        SL_TRY(check_range("buffer_bytes", options->buffer_bytes, 4096, 4194304, err));
        spec->has_buffer_bytes = true;
        spec->buffer_bytes = options->buffer_bytes;
    }
    if (options->_buffer_events_case != 0) {
        SL_TRY(check_range("buffer_events", options->buffer_events, 1, 10000, err));
        spec->has_buffer_events = true;
        spec->buffer_events = options->buffer_events;
    }
    SL_TRY(check_range("min_flush_ms", options->min_flush_ms, 0, 10000, err));
    if (options->max_delta_bytes != 0) {
        SL_TRY(check_range("max_delta_bytes", options->max_delta_bytes, 64, 65536, err));
    }
    spec->min_flush_ms = options->min_flush_ms;
    spec->max_delta_bytes = options->max_delta_bytes;
    return SL_OK;
}

static enum sl_status
convert_times(const Sluice__V1__RunOptions *options, struct sl_run_spec *spec, struct sl_error *err)
{
    if (options->_run_timeout_ms_case != 0) {
        SL_TRY(check_range("run_timeout_ms", options->run_timeout_ms, 1, 604800000, err));
        spec->has_run_timeout = true;
        spec->run_timeout_ms = options->run_timeout_ms;
    }
    if (options->_heartbeat_ms_case != 0) {
        const uint32_t least = options->heartbeat_ms != 0 ? 1000 : 0; /* 0: none */
        SL_TRY(check_range("heartbeat_ms", options->heartbeat_ms, least, 60000, err));
        spec->has_heartbeat = true;
        spec->heartbeat_ms = options->heartbeat_ms;
    }
    return SL_OK;
}

static enum sl_status convert_disconnect(
    const Sluice__V1__RunOptions *options, struct sl_run_spec *spec, struct sl_error *err)
{
    spec->on_disconnect = (enum sl_run_on_disconnect)options->on_disconnect;
    /* Without one the agent's stands, and without a policy the agent's decides whether it may have
     * one: the runtime checks that. */
    if (options->detach_ttl_ms != 0) {
        if (spec->on_disconnect == SL_RUN_CANCEL || spec->on_disconnect == SL_RUN_DETACH) {
            return sl_fail(
                err, SL_INVALID_ARGUMENT,
                "options.detach_ttl_ms: only with on_disconnect DETACH_FOR");
        }
        SL_TRY(check_range("detach_ttl_ms", options->detach_ttl_ms, 1000, 86400000, err));
    }
    spec->detach_ttl_ms = options->detach_ttl_ms;
    if (options->_cancel_on_reset_case != 0) {
        spec->has_cancel_on_reset = true;
        spec->cancel_on_reset = options->cancel_on_reset != 0;
    }
    return SL_OK;
}

static void convert_session(const Sluice__V1__RunOptions *options, struct sl_run_spec *spec)
{
    static const enum sl_run_session_policy policies[] = {
        [SLUICE__V1__SESSION_POLICY__SESSION_POLICY_UNSPECIFIED] = SL_RUN_SESSION_REJECT,
        [SLUICE__V1__SESSION_POLICY__SESSION_POLICY_REJECT] = SL_RUN_SESSION_REJECT,
        [SLUICE__V1__SESSION_POLICY__SESSION_POLICY_ENQUEUE] = SL_RUN_SESSION_ENQUEUE,
        [SLUICE__V1__SESSION_POLICY__SESSION_POLICY_INTERRUPT] = SL_RUN_SESSION_INTERRUPT,
    };
    spec->session_policy = policies[options->session_policy];
    spec->replaces_session =
        options->context_mode == SLUICE__V1__CONTEXT_MODE__CONTEXT_MODE_REPLACE;
}

static enum sl_status convert_options(
    const Sluice__V1__RunOptions *options, struct sl_run_spec *spec, struct sl_error *err)
{
    if (options == NULL) {
        return SL_OK;
    }
    SL_TRY(check_enums(options, err));
    if (options->_max_iterations_case != 0) {
        SL_TRY(check_range("max_iterations", options->max_iterations, 1, 1000, err));
        spec->has_max_iterations = true;
        spec->max_iterations = options->max_iterations;
    }
    SL_TRY(convert_times(options, spec, err));
    SL_TRY(convert_disconnect(options, spec, err));
    convert_session(options, spec);
    spec->durability = (enum sl_run_durability)options->durability;
    spec->slow_consumer = (enum sl_run_slow_consumer)options->slow_consumer;
    spec->tool_call_deltas = options->tool_call_deltas != 0;
    spec->omit_content = options->omit_content != 0;
    SL_TRY(convert_buffers(options, spec, err));
    return convert_budget(options->budget, spec, err);
}

static enum sl_status convert_client_tools(
    const Sluice__V1__RunOptions *options,
    struct sl_arena *arena,
    struct sl_run_spec *spec,
    struct sl_error *err)
{
    const size_t n = options == NULL ? 0 : options->n_client_tools;
    struct sl_agent_tool *tools = sl_arena_calloc(arena, n + 1, sizeof(*tools));
    if (tools == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        const Sluice__V1__ToolDefinition *tool = options->client_tools[i];
        tools[i] = (struct sl_agent_tool){ .name = tool->name,
                                           .description = tool->description,
                                           .parameters_json = tool->parameters_json };
    }
    spec->client_tools = tools;
    spec->n_client_tools = n;
    return SL_OK;
}

static enum sl_status convert_calls(
    const Sluice__V1__Message *message,
    size_t index,
    struct sl_arena *arena,
    struct sl_run_message *out,
    struct sl_error *err)
{
    struct sl_run_call *calls = sl_arena_calloc(arena, message->n_tool_calls, sizeof(*calls));
    if (calls == NULL && message->n_tool_calls > 0) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "out of memory");
    }
    for (size_t i = 0; i < message->n_tool_calls; i++) {
        const Sluice__V1__ToolCall *call = message->tool_calls[i];
        if (!is_set(call->id) || !is_set(call->name)) {
            return sl_fail(
                err, SL_INVALID_ARGUMENT,
                "context.messages[%zu].tool_calls[%zu]: id and name must be given", index, i);
        }
        calls[i] =
            (struct sl_run_call){ .id = call->id,
                                  .name = call->name,
                                  .arguments_json =
                                      is_set(call->arguments_json) ? call->arguments_json : "{}" };
    }
    out->calls = calls;
    out->n_calls = message->n_tool_calls;
    return SL_OK;
}

static enum sl_status convert_message(
    const Sluice__V1__Message *message,
    size_t index,
    struct sl_arena *arena,
    struct sl_run_message *out,
    struct sl_error *err)
{
    static const enum sl_run_role roles[] = {
        [SLUICE__V1__ROLE__ROLE_SYSTEM] = SL_RUN_SYSTEM,
        [SLUICE__V1__ROLE__ROLE_USER] = SL_RUN_USER,
        [SLUICE__V1__ROLE__ROLE_ASSISTANT] = SL_RUN_ASSISTANT,
        [SLUICE__V1__ROLE__ROLE_TOOL] = SL_RUN_TOOL,
    };
    const int role = (int)message->role;
    if (role < SLUICE__V1__ROLE__ROLE_SYSTEM || role > SLUICE__V1__ROLE__ROLE_TOOL) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "context.messages[%zu].role: must be given", index);
    }
    out->role = roles[role];
    if (message->n_tool_calls > 0 && out->role != SL_RUN_ASSISTANT) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT,
            "context.messages[%zu].tool_calls: only in messages of role ASSISTANT", index);
    }
    if (out->role == SL_RUN_TOOL && !is_set(message->tool_call_id)) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT,
            "context.messages[%zu].tool_call_id: must be given with role TOOL", index);
    }
    out->content = sl_slice_str(message->content);
    out->call_id = message->tool_call_id;
    out->tool_name = message->tool_name;
    out->is_error = message->is_error != 0;
    return convert_calls(message, index, arena, out, err);
}

static enum sl_status convert_context(
    const Sluice__V1__Context *context,
    const struct sl_limits *limits,
    struct sl_arena *arena,
    struct sl_run_spec *spec,
    struct sl_error *err)
{
    if (context == NULL || context->n_messages == 0) {
        return SL_OK;
    }
    const size_t packed_bytes = sluice__v1__context__get_packed_size(context);
    if (packed_bytes > limits->context) {
        sl_limit_reached(SL_LIMIT_context);
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "context: %zu bytes, at most %" PRIu64, packed_bytes,
            limits->context);
    }
    struct sl_run_message *messages =
        sl_arena_calloc(arena, context->n_messages, sizeof(*messages));
    if (messages == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "out of memory");
    }
    for (size_t i = 0; i < context->n_messages; i++) {
        SL_TRY(convert_message(context->messages[i], i, arena, &messages[i], err));
    }
    spec->messages = messages;
    spec->n_messages = context->n_messages;
    return SL_OK;
}

static enum sl_status convert_pairs(
    const Sluice__V1__ExecuteRequest *request,
    struct sl_arena *arena,
    struct sl_run_spec *spec,
    struct sl_error *err)
{
    const size_t n = request->n_metadata + request->n_credentials;
    struct sl_run_pair *pairs = sl_arena_calloc(arena, n + 1, sizeof(*pairs));
    if (pairs == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "out of memory");
    }
    for (size_t i = 0; i < request->n_metadata; i++) {
        pairs[i] = (struct sl_run_pair){ request->metadata[i]->key, request->metadata[i]->value };
    }
    spec->metadata = pairs;
    spec->n_metadata = request->n_metadata;
    pairs += request->n_metadata;
    for (size_t i = 0; i < request->n_credentials; i++) {
        pairs[i] =
            (struct sl_run_pair){ request->credentials[i]->key, request->credentials[i]->value };
    }
    spec->credentials = pairs;
    spec->n_credentials = request->n_credentials;
    return SL_OK;
}

enum sl_status sl_convert_request(
    const Sluice__V1__ExecuteRequest *request,
    const struct sl_limits *limits,
    struct sl_arena *arena,
    struct sl_run_spec *spec,
    struct sl_error *err)
{
    *spec = (struct sl_run_spec){ 0 };
    SL_TRY(check_request(request, limits, err));
    spec->agent = request->agent;
    spec->input = sl_slice_str(request->input);
    spec->session_id = request->session_id;
    spec->request_id = request->request_id;
    SL_TRY(convert_options(request->options, spec, err));
    SL_TRY(convert_client_tools(request->options, arena, spec, err));
    SL_TRY(convert_pairs(request, arena, spec, err));
    return convert_context(request->context, limits, arena, spec, err);
}
