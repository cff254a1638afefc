/* Requests of clients as specs of runs: what is taken, and what is refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "service/api/convert.h"

static struct sl_limits limits;
static struct sl_arena arena;
static struct sl_run_spec spec;
static struct sl_error err;
static Sluice__V1__ExecuteRequest request;
static Sluice__V1__RunOptions options;
static Sluice__V1__Budget budget;
static Sluice__V1__Context context;

static int set_up(void **state)
{
    (void)state;
    sl_limits_init(&limits);
    sl_arena_init(&arena, 1 << 20);
    sluice__v1__execute_request__init(&request);
    sluice__v1__run_options__init(&options);
    sluice__v1__budget__init(&budget);
    sluice__v1__context__init(&context);
    request.agent = sl_unconst("demo");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sl_arena_done(&arena);
    return 0;
}

static enum sl_status convert(void)
{
    err = (struct sl_error){ .text = "" };
    return sl_convert_request(&request, &limits, &arena, &spec, &err);
}

static void assert_taken(void)
{
    if (convert() != SL_OK) {
        fail_msg("%s", err.text);
    }
}

static void assert_refused(const char *expected)
{
    assert_int_equal(convert(), SL_INVALID_ARGUMENT);
    if (strstr(err.text, expected) == NULL) {
        fail_msg("'%s' is not in '%s'", expected, err.text);
    }
}

/* ---- The request ----------------------------------------------------------------------------- */

static void only_the_agent_must_be_given(void **state)
{
    (void)state;
    assert_taken();
    assert_string_equal(spec.agent, "demo");
    assert_int_equal(spec.input.size, 0);
    assert_int_equal(spec.n_messages, 0);
    assert_int_equal(spec.on_disconnect, SL_RUN_DISCONNECT_DEFAULT);
    assert_false(
        spec.has_max_iterations || spec.has_run_timeout || spec.has_heartbeat ||
        spec.has_buffer_bytes || spec.has_buffer_events || spec.has_max_tokens ||
        spec.has_max_tool_calls || spec.has_cancel_on_reset);
    request.agent = sl_unconst("");
    assert_refused("agent");
}

static void input_and_request_id_have_limits(void **state)
{
    (void)state;
    static char id[130];
    limits.input = 5;
    request.input = sl_unconst("12345");
    memset(id, 'i', 129);
    id[128] = '\0';
    request.request_id = id;
    assert_taken();
    assert_true(sl_slice_equals(spec.input, "12345"));
    assert_string_equal(spec.request_id, id);
    id[128] = 'i';
    id[129] = '\0';
    assert_refused("request_id");
    id[0] = '\0';
    request.input = sl_unconst("123456");
    assert_refused("input: 6 bytes, at most 5");
}

static void metadata_and_credentials_are_passed_on(void **state)
{
    (void)state;
    Sluice__V1__ExecuteRequest__MetadataEntry kept =
        SLUICE__V1__EXECUTE_REQUEST__METADATA_ENTRY__INIT;
    Sluice__V1__ExecuteRequest__CredentialsEntry secret =
        SLUICE__V1__EXECUTE_REQUEST__CREDENTIALS_ENTRY__INIT;
    Sluice__V1__ExecuteRequest__MetadataEntry *metadata[] = { &kept };
    Sluice__V1__ExecuteRequest__CredentialsEntry *credentials[] = { &secret };
    kept.key = sl_unconst("team");
    kept.value = sl_unconst("docs");
    secret.key = sl_unconst("token");
    secret.value = sl_unconst("abc");
    request.n_metadata = request.n_credentials = 1;
    request.metadata = metadata;
    request.credentials = credentials;
    assert_taken();
    assert_int_equal(spec.n_metadata, 1);
    assert_string_equal(spec.metadata[0].key, "team");
    assert_string_equal(spec.metadata[0].value, "docs");
    assert_int_equal(spec.n_credentials, 1);
    assert_string_equal(spec.credentials[0].key, "token");
    assert_string_equal(spec.credentials[0].value, "abc");
    sluice__v1__execute_request__init(&request); /* it points into this function */
}

static void what_is_not_built_is_refused_by_name(void **state)
{
    (void)state;
    Sluice__V1__Context__StateJsonEntry entry = SLUICE__V1__CONTEXT__STATE_JSON_ENTRY__INIT;
    Sluice__V1__Context__StateJsonEntry *entries[] = { &entry };
    Sluice__V1__ToolDefinition tool = SLUICE__V1__TOOL_DEFINITION__INIT;
    Sluice__V1__ToolDefinition *tools[] = { &tool };
    request.context = &context;
    context.n_state_json = 1;
    context.state_json = entries;
    assert_refused("context.state_json");
    request.context = NULL;
    request.options = &options;
    options.n_client_tools = 1;
    options.client_tools = tools;
    assert_taken(); /* where there is somebody who can answer; the handlers know */
    assert_int_equal(spec.n_client_tools, 1);
    options.n_client_tools = 0;
    options.budget = &budget;
    budget._max_cost_micros_case = SLUICE__V1__BUDGET___MAX_COST_MICROS_MAX_COST_MICROS;
    budget.max_cost_micros = 0;
    assert_refused("budget.max_cost_micros");
    budget.max_cost_micros = 7;
    assert_taken();
    assert_true(spec.has_max_cost);
    assert_int_equal(spec.max_cost_micros, 7);
    budget._max_cost_micros_case = SLUICE__V1__BUDGET___MAX_COST_MICROS__NOT_SET;
    assert_taken();
}

static void a_session_and_its_rules_are_taken(void **state)
{
    (void)state;
    char id[130] = "";
    memset(id, 's', 129);
    request.options = &options;
    request.session_id = id;
    assert_refused("session_id: at most 128 bytes");
    id[128] = '\0';
    options.session_policy = SLUICE__V1__SESSION_POLICY__SESSION_POLICY_UNSPECIFIED;
    assert_taken();
    assert_string_equal(spec.session_id, id);
    assert_int_equal(spec.session_policy, SL_RUN_SESSION_REJECT);
    assert_false(spec.replaces_session);
    options.session_policy = SLUICE__V1__SESSION_POLICY__SESSION_POLICY_REJECT;
    assert_taken();
    assert_int_equal(spec.session_policy, SL_RUN_SESSION_REJECT);
    options.session_policy = SLUICE__V1__SESSION_POLICY__SESSION_POLICY_ENQUEUE;
    assert_taken();
    assert_int_equal(spec.session_policy, SL_RUN_SESSION_ENQUEUE);
    options.session_policy = SLUICE__V1__SESSION_POLICY__SESSION_POLICY_INTERRUPT;
    options.context_mode = SLUICE__V1__CONTEXT_MODE__CONTEXT_MODE_REPLACE;
    assert_taken();
    assert_int_equal(spec.session_policy, SL_RUN_SESSION_INTERRUPT);
    assert_true(spec.replaces_session);
    sluice__v1__execute_request__init(&request); /* it points into this function */
}

static void an_enum_that_does_not_exist_is_refused(void **state)
{
    (void)state;
    request.options = &options;
    options.on_disconnect = (Sluice__V1__OnDisconnect)4;
    assert_refused("options.on_disconnect: 4");
    options.on_disconnect = (Sluice__V1__OnDisconnect)(-1);
    assert_refused("options.on_disconnect: -1");
    options.on_disconnect = SLUICE__V1__ON_DISCONNECT__ON_DISCONNECT_UNSPECIFIED;
    options.durability = (Sluice__V1__Durability)99;
    assert_refused("options.durability: 99");
    options.durability = SLUICE__V1__DURABILITY__DURABILITY_UNSPECIFIED;
    options.slow_consumer = (Sluice__V1__SlowConsumer)99;
    assert_refused("options.slow_consumer: 99");
}

/* ---- Options --------------------------------------------------------------------------------- */

static void numbers_are_taken_within_their_range(void **state)
{
    (void)state;
    request.options = &options;
    options._max_iterations_case = SLUICE__V1__RUN_OPTIONS___MAX_ITERATIONS_MAX_ITERATIONS;
    options.max_iterations = 1000;
    options._run_timeout_ms_case = SLUICE__V1__RUN_OPTIONS___RUN_TIMEOUT_MS_RUN_TIMEOUT_MS;
    options.run_timeout_ms = 604800000;
    options._buffer_bytes_case = SLUICE__V1__RUN_OPTIONS___BUFFER_BYTES_BUFFER_BYTES;
    options.buffer_bytes = 4096;
    options._buffer_events_case = SLUICE__V1__RUN_OPTIONS___BUFFER_EVENTS_BUFFER_EVENTS;
    options.buffer_events = 10000;
    options.min_flush_ms = 10000;
    options.max_delta_bytes = 65536;
    options.tool_call_deltas = 1;
    options.omit_content = 1;
    assert_taken();
    assert_true(spec.has_max_iterations && spec.max_iterations == 1000);
    assert_true(spec.has_run_timeout && spec.run_timeout_ms == 604800000);
    assert_true(spec.has_buffer_bytes && spec.buffer_bytes == 4096);
    assert_true(spec.has_buffer_events && spec.buffer_events == 10000);
    assert_int_equal(spec.min_flush_ms, 10000);
    assert_int_equal(spec.max_delta_bytes, 65536);
    assert_true(spec.tool_call_deltas && spec.omit_content);
    options.max_iterations = 0;
    assert_refused("options.max_iterations: 0 is outside 1 to 1000");
    options.max_iterations = 1001;
    assert_refused("options.max_iterations");
    options.max_iterations = 1;
    options.run_timeout_ms = 0;
    assert_refused("options.run_timeout_ms");
    options.run_timeout_ms = 1;
    options.buffer_bytes = 4095;
    assert_refused("options.buffer_bytes");
    options.buffer_bytes = 4194304;
    options.buffer_events = 0;
    assert_refused("options.buffer_events");
    options.buffer_events = 1;
    options.min_flush_ms = 10001;
    assert_refused("options.min_flush_ms");
    options.min_flush_ms = 0;
    options.max_delta_bytes = 65537;
    assert_refused("options.max_delta_bytes");
    options.max_delta_bytes = 63;
    assert_refused("options.max_delta_bytes: 63");
    options.max_delta_bytes = 64;
    assert_taken();
}

static void a_heartbeat_is_none_or_a_second_at_least(void **state)
{
    (void)state;
    request.options = &options;
    options._heartbeat_ms_case = SLUICE__V1__RUN_OPTIONS___HEARTBEAT_MS_HEARTBEAT_MS;
    options.heartbeat_ms = 0;
    assert_taken();
    assert_true(spec.has_heartbeat && spec.heartbeat_ms == 0);
    options.heartbeat_ms = 1;
    assert_refused("options.heartbeat_ms: 1 is outside 1000 to 60000");
    options.heartbeat_ms = 60000;
    assert_taken();
    options.heartbeat_ms = 60001;
    assert_refused("options.heartbeat_ms");
}

static void a_detach_time_belongs_to_detach_for(void **state)
{
    (void)state;
    request.options = &options;
    options.detach_ttl_ms = 5000;
    assert_taken(); /* the agent's policy decides */
    options.on_disconnect = SLUICE__V1__ON_DISCONNECT__ON_DISCONNECT_CANCEL;
    assert_refused("options.detach_ttl_ms: only with");
    options.on_disconnect = SLUICE__V1__ON_DISCONNECT__ON_DISCONNECT_DETACH;
    assert_refused("options.detach_ttl_ms: only with");
    options.on_disconnect = SLUICE__V1__ON_DISCONNECT__ON_DISCONNECT_DETACH_FOR;
    options._cancel_on_reset_case = SLUICE__V1__RUN_OPTIONS___CANCEL_ON_RESET_CANCEL_ON_RESET;
    assert_taken();
    assert_int_equal(spec.on_disconnect, SL_RUN_DETACH_FOR);
    assert_int_equal(spec.durability, SL_RUN_DURABILITY_DEFAULT);
    options.durability = SLUICE__V1__DURABILITY__DURABILITY_SYNC;
    assert_taken();
    assert_int_equal(spec.durability, SL_RUN_DURABILITY_SYNC);
    options.durability = SLUICE__V1__DURABILITY__DURABILITY_UNSPECIFIED;
    assert_int_equal(spec.slow_consumer, SL_RUN_SLOW_DEFAULT);
    options.slow_consumer = SLUICE__V1__SLOW_CONSUMER__SLOW_CONSUMER_DISCONNECT;
    assert_taken(); /* whether there is a store, the runtime knows */
    assert_int_equal(spec.slow_consumer, SL_RUN_SLOW_DISCONNECT);
    options.slow_consumer = SLUICE__V1__SLOW_CONSUMER__SLOW_CONSUMER_UNSPECIFIED;
    assert_int_equal(spec.detach_ttl_ms, 5000);
    assert_true(spec.has_cancel_on_reset);
    assert_false(spec.cancel_on_reset);
    options.detach_ttl_ms = 999;
    assert_refused("options.detach_ttl_ms: 999");
    options.detach_ttl_ms = 86400001;
    assert_refused("options.detach_ttl_ms: 86400001");
    options.detach_ttl_ms = 0;
    assert_taken(); /* the agent's time, if it has one */
}

static void a_budget_of_no_tool_calls_is_one(void **state)
{
    (void)state;
    request.options = &options;
    options.budget = &budget;
    budget._max_tool_calls_case = SLUICE__V1__BUDGET___MAX_TOOL_CALLS_MAX_TOOL_CALLS;
    budget._max_tokens_case = SLUICE__V1__BUDGET___MAX_TOKENS_MAX_TOKENS;
    budget.max_tokens = UINT64_MAX;
    assert_taken();
    assert_true(spec.has_max_tool_calls && spec.max_tool_calls == 0);
    assert_true(spec.has_max_tokens && spec.max_tokens == UINT64_MAX);
    budget.max_tokens = 0;
    assert_refused("options.budget.max_tokens");
}

/* ---- Context --------------------------------------------------------------------------------- */

static Sluice__V1__ToolCall tool_call;
static Sluice__V1__ToolCall *tool_calls[] = { &tool_call };
static Sluice__V1__Message message[2];
static Sluice__V1__Message *messages[] = { &message[0], &message[1] };

/* A call of the assistant and its result. */
static void fill_context(void)
{
    sluice__v1__tool_call__init(&tool_call);
    tool_call.id = sl_unconst("c1");
    tool_call.name = sl_unconst("add");
    sluice__v1__message__init(&message[0]);
    message[0].role = SLUICE__V1__ROLE__ROLE_ASSISTANT;
    message[0].content = sl_unconst("let me see");
    message[0].n_tool_calls = 1;
    message[0].tool_calls = tool_calls;
    sluice__v1__message__init(&message[1]);
    message[1].role = SLUICE__V1__ROLE__ROLE_TOOL;
    message[1].content = sl_unconst("3");
    message[1].tool_call_id = sl_unconst("c1");
    message[1].tool_name = sl_unconst("add");
    message[1].is_error = 1;
    context.n_messages = 2;
    context.messages = messages;
    request.context = &context;
}

static void messages_keep_their_order_and_calls(void **state)
{
    (void)state;
    fill_context();
    assert_taken();
    assert_int_equal(spec.n_messages, 2);
    assert_int_equal(spec.messages[0].role, SL_RUN_ASSISTANT);
    assert_true(sl_slice_equals(spec.messages[0].content, "let me see"));
    assert_int_equal(spec.messages[0].n_calls, 1);
    assert_string_equal(spec.messages[0].calls[0].name, "add");
    assert_string_equal(spec.messages[0].calls[0].arguments_json, "{}");
    assert_int_equal(spec.messages[1].role, SL_RUN_TOOL);
    assert_string_equal(spec.messages[1].call_id, "c1");
    assert_true(spec.messages[1].is_error);
}

static void messages_that_do_not_fit_are_refused_with_their_index(void **state)
{
    (void)state;
    fill_context();
    message[1].role = SLUICE__V1__ROLE__ROLE_UNSPECIFIED;
    assert_refused("context.messages[1].role");
    message[1].role = (Sluice__V1__Role)9;
    assert_refused("context.messages[1].role");
    message[1].role = SLUICE__V1__ROLE__ROLE_TOOL;
    message[1].tool_call_id = sl_unconst("");
    assert_refused("context.messages[1].tool_call_id");
    fill_context();
    tool_call.name = sl_unconst("");
    assert_refused("context.messages[0].tool_calls[0]");
    fill_context();
    message[0].role = SLUICE__V1__ROLE__ROLE_USER;
    assert_refused("context.messages[0].tool_calls: only");
}

static void a_context_over_its_limit_is_refused(void **state)
{
    (void)state;
    fill_context();
    limits.context = sluice__v1__context__get_packed_size(&context);
    assert_taken();
    limits.context--;
    assert_refused("context:");
}

static void an_arena_that_is_full_is_no_fault_of_the_request(void **state)
{
    (void)state;
    static Sluice__V1__Message *many[4096];
    fill_context();
    for (size_t i = 0; i < SL_COUNT(many); i++) {
        many[i] = &message[1];
    }
    context.n_messages = SL_COUNT(many);
    context.messages = many;
    sl_arena_done(&arena);
    sl_arena_init(&arena, 65536);
    assert_int_equal(convert(), SL_RESOURCE_EXHAUSTED);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(only_the_agent_must_be_given),
        CASE(input_and_request_id_have_limits),
        CASE(metadata_and_credentials_are_passed_on),
        CASE(what_is_not_built_is_refused_by_name),
        CASE(a_session_and_its_rules_are_taken),
        CASE(an_enum_that_does_not_exist_is_refused),
        CASE(numbers_are_taken_within_their_range),
        CASE(a_heartbeat_is_none_or_a_second_at_least),
        CASE(a_detach_time_belongs_to_detach_for),
        CASE(a_budget_of_no_tool_calls_is_one),
        CASE(messages_keep_their_order_and_calls),
        CASE(messages_that_do_not_fit_are_refused_with_their_index),
        CASE(a_context_over_its_limit_is_refused),
        CASE(an_arena_that_is_full_is_no_fault_of_the_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
