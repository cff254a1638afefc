/* Events as lines of JSON and back. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "service/cli/message_json.h"

static struct sl_arena arena;
static struct sl_error err;

static int set_up(void **state)
{
    (void)state;
    sl_arena_init(&arena, 1 << 20);
    err = (struct sl_error){ .text = "" };
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sl_arena_done(&arena);
    return 0;
}

static char *dump(json_t *json)
{
    assert_non_null(json);
    char *text = json_dumps(json, JSON_COMPACT);
    assert_non_null(text);
    json_decref(json);
    return text;
}

static void assert_json(const Sluice__V1__StreamEvent *event, const char *expected)
{
    char *text = dump(sl_event_to_json(event));
    assert_string_equal(text, expected);
    free(text);
}

static enum sl_status read_event(const char *text, Sluice__V1__StreamEvent **ret_event)
{
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    const enum sl_status status = sl_event_from_json(json, &arena, ret_event, &err);
    json_decref(json);
    return status;
}

static Sluice__V1__StreamEvent *event_of(const char *text)
{
    Sluice__V1__StreamEvent *event = NULL;
    if (read_event(text, &event) != SL_OK) {
        fail_msg("%s: %s", text, err.text);
    }
    assert_non_null(event);
    return event;
}

static void assert_refused(const char *text, const char *message)
{
    Sluice__V1__StreamEvent *event = NULL;
    assert_int_equal(read_event(text, &event), SL_INVALID_ARGUMENT);
    assert_null(event);
    if (strstr(err.text, message) == NULL) {
        fail_msg("%s: '%s', expected '%s'", text, err.text, message);
    }
}

#define HEAD(type) "{\"type\":\"" type "\",\"sequence\":7,\"timestamp_ms\":1700000000000"

/* ---- To JSON --------------------------------------------------------------------------------- */

static void an_event_is_flat_and_its_envelope_comes_first(void **state)
{
    (void)state;
    Sluice__V1__TextDelta delta = SLUICE__V1__TEXT_DELTA__INIT;
    Sluice__V1__StreamEvent event = SLUICE__V1__STREAM_EVENT__INIT;
    event.sequence = 7;
    event.timestamp_ms = UINT64_C(1700000000000);
    event.event_case = SLUICE__V1__STREAM_EVENT__EVENT_TEXT_DELTA;
    event.text_delta = &delta;
    delta.delta = sl_unconst("a \"b\"\nä");
    assert_json(&event, HEAD("text_delta") ",\"delta\":\"a \\\"b\\\"\\nä\"}");
}

static void enums_lose_their_prefix_and_unknown_ones_are_numbers(void **state)
{
    (void)state;
    Sluice__V1__RunDone done = SLUICE__V1__RUN_DONE__INIT;
    done.stop_reason = SLUICE__V1__STOP_REASON__STOP_REASON_END_TURN;
    json_t *json = sl_message_to_json(&done.base);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "stop_reason")), "END_TURN");
    assert_null(json_object_get(json, "usage"));
    json_decref(json);
    done.stop_reason = (Sluice__V1__StopReason)77;
    json = sl_message_to_json(&done.base);
    assert_int_equal(json_integer_value(json_object_get(json, "stop_reason")), 77);
    json_decref(json);
}

static void optional_fields_are_there_only_when_they_are_set(void **state)
{
    (void)state;
    Sluice__V1__ToolCallComplete complete = SLUICE__V1__TOOL_CALL_COMPLETE__INIT;
    json_t *json = sl_message_to_json(&complete.base);
    assert_null(json_object_get(json, "exit_code"));
    assert_true(json_is_false(json_object_get(json, "success")));
    json_decref(json);
    complete._exit_code_case = SLUICE__V1__TOOL_CALL_COMPLETE___EXIT_CODE_EXIT_CODE;
    complete.exit_code = -9;
    json = sl_message_to_json(&complete.base);
    assert_int_equal(json_integer_value(json_object_get(json, "exit_code")), -9);
    json_decref(json);
}

static void what_is_no_number_is_null(void **state)
{
    (void)state;
    Sluice__V1__ToolProgress progress = SLUICE__V1__TOOL_PROGRESS__INIT;
    progress.progress = (double)NAN;
    json_t *json = sl_message_to_json(&progress.base);
    assert_non_null(json);
    assert_true(json_is_null(json_object_get(json, "progress")));
    json_decref(json);
    progress.progress = (double)INFINITY;
    json = sl_message_to_json(&progress.base);
    assert_non_null(json);
    assert_true(json_is_null(json_object_get(json, "progress")));
    json_decref(json);
}

static void an_event_from_the_future_is_unknown(void **state)
{
    (void)state;
    Sluice__V1__StreamEvent event = SLUICE__V1__STREAM_EVENT__INIT;
    event.sequence = 3;
    assert_json(&event, "{\"type\":\"unknown\",\"sequence\":3,\"timestamp_ms\":0}");
    assert_int_equal(event_of(HEAD("unknown") ",\"new\":1}")->event_case, 0);
}

/* ---- And back -------------------------------------------------------------------------------- */

static void assert_round(const char *text)
{
    assert_json(event_of(text), text);
}

static void every_kind_of_field_comes_back(void **state)
{
    (void)state;
    assert_round(HEAD("text_delta") ",\"delta\":\"x\"}");
    assert_round(
        HEAD("tool_call_complete") ",\"tool_name\":\"add\",\"tool_id\":\"t1\",\"success\":true,"
                                   "\"execution_time_ms\":12,\"error\":\"\","
                                   "\"error_code\":\"UNSPECIFIED\",\"result_json\":\"{}\","
                                   "\"result_truncated\":false,\"result_bytes\":2,\"attempts\":1,"
                                   "\"exit_code\":-1}");
    assert_round(HEAD("heartbeat") ",\"phase\":\"TOOLS\",\"elapsed_ms\":9223372036854775807,"
                                   "\"last_sequence\":6,\"open_tool_ids\":[\"a\",\"b\",\"\"]}");
    assert_round(
        HEAD("approval_requested") ",\"approval_id\":\"a\",\"tool_id\":\"t\",\"tool_name\":\"n\","
                                   "\"arguments_json\":\"{}\",\"arguments_digest\":\"AAEC/w\","
                                   "\"expires_at_ms\":1}");
    assert_round(
        HEAD("tool_progress") ",\"tool_id\":\"t\",\"progress\":0.5,\"total\":null,\"message\":\"\","
                              "\"output_chunk\":\"\",\"output_stream\":\"STDERR\"}");
}

static void messages_in_messages_come_back(void **state)
{
    (void)state;
    const Sluice__V1__StreamEvent *event = event_of(
        HEAD("done") ",\"content\":\"c\",\"usage\":{\"input_tokens\":5,\"cost_micros\":0}}");
    assert_non_null(event->done->usage);
    assert_int_equal(event->done->usage->input_tokens, 5);
    assert_int_not_equal(event->done->usage->_cost_micros_case, 0);
    assert_string_equal(event->done->usage->currency, "");
}

static void an_enum_may_come_by_name_or_number(void **state)
{
    (void)state;
    assert_int_equal(
        event_of(HEAD("error") ",\"code\":\"DRAINING\"}")->error->code,
        SLUICE__V1__ERROR_CODE__ERROR_CODE_DRAINING);
    assert_int_equal(event_of(HEAD("error") ",\"code\":20}")->error->code, 20);
    assert_int_equal(event_of(HEAD("error") ",\"code\":999}")->error->code, 999);
    assert_refused(HEAD("error") ",\"code\":\"ERROR_CODE_DRAINING\"}", "code");
    assert_refused(HEAD("error") ",\"code\":4294967316}", "code");
    assert_refused(HEAD("error") ",\"code\":true}", "code");
}

static void an_event_without_its_envelope_is_refused(void **state)
{
    (void)state;
    assert_refused("{}", "\"type\"");
    assert_refused("[]", "\"type\"");
    assert_refused("{\"type\":\"text_delta\",\"timestamp_ms\":1}", "\"sequence\"");
    assert_refused("{\"type\":\"text_delta\",\"sequence\":-1,\"timestamp_ms\":1}", "\"sequence\"");
    assert_refused(
        "{\"type\":\"text_delta\",\"sequence\":1,\"timestamp_ms\":\"1\"}", "\"timestamp_ms\"");
    assert_refused("{\"type\":5,\"sequence\":1,\"timestamp_ms\":1}", "\"type\"");
}

static void what_is_no_event_is_refused(void **state)
{
    (void)state;
    assert_refused(HEAD("sequence") "}", "type 'sequence'");
    assert_refused(HEAD("") "}", "type ''");
    assert_refused(HEAD("text_deltas") "}", "type 'text_deltas'");
}

static void unknown_members_and_wrong_types_are_named(void **state)
{
    (void)state;
    assert_refused(HEAD("text_delta") ",\"dleta\":\"x\"}", "TextDelta: no member 'dleta'");
    assert_refused(HEAD("text_delta") ",\"delta\":5}", "delta: a value of the wrong type");
    assert_refused(HEAD("text_delta") ",\"delta\":null}", "delta: a value of the wrong type");
    assert_refused(HEAD("done") ",\"usage\":[]}", "Usage: not an object");
    assert_refused(HEAD("done") ",\"usage\":null}", "Usage: not an object");
    assert_refused(HEAD("done") ",\"usage\":{\"sequence\":1}}", "Usage: no member 'sequence'");
    assert_refused(HEAD("done") ",\"content_truncated\":1}", "content_truncated");
    assert_refused(HEAD("heartbeat") ",\"open_tool_ids\":\"a\"}", "open_tool_ids");
    assert_refused(HEAD("heartbeat") ",\"open_tool_ids\":[1]}", "open_tool_ids");
    assert_refused(HEAD("tool_progress") ",\"progress\":\"1\"}", "progress");
    assert_refused(
        HEAD("approval_requested") ",\"arguments_digest\":\"A*==\"}", "arguments_digest");
    assert_refused(HEAD("approval_requested") ",\"arguments_digest\":1}", "arguments_digest");
}

static void numbers_beyond_their_field_are_refused(void **state)
{
    (void)state;
    assert_refused(HEAD("iteration_start") ",\"iteration\":4294967296}", "iteration");
    assert_refused(HEAD("iteration_start") ",\"iteration\":-1}", "iteration");
    assert_refused(HEAD("iteration_start") ",\"iteration\":1.0}", "iteration");
    assert_refused(HEAD("done") ",\"execution_time_ms\":-1}", "execution_time_ms");
    assert_refused(HEAD("tool_call_complete") ",\"exit_code\":2147483648}", "exit_code");
    assert_int_equal(
        event_of(HEAD("iteration_start") ",\"iteration\":4294967295}")->iteration_start->iteration,
        UINT32_MAX);
}

static void an_arena_that_is_full_is_told_from_bad_input(void **state)
{
    (void)state;
    enum { ROOM_BYTES = 8 * 1024 };
    static const char start[] = HEAD("text_delta") ",\"delta\":\"";
    static char fill[ROOM_BYTES * 2], text[sizeof(start) + sizeof(fill) + 2];
    memset(fill, 'x', sizeof(fill) - 1);
    assert_in_range(
        snprintf(text, sizeof(text), "%s%s\"}", start, fill), sizeof(fill), sizeof(text) - 1);
    sl_arena_done(&arena);
    sl_arena_init(&arena, ROOM_BYTES);
    Sluice__V1__StreamEvent *event = NULL;
    assert_int_equal(read_event(text, &event), SL_RESOURCE_EXHAUSTED);
    assert_string_equal(err.text, "out of memory");
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(an_event_is_flat_and_its_envelope_comes_first),
        CASE(enums_lose_their_prefix_and_unknown_ones_are_numbers),
        CASE(optional_fields_are_there_only_when_they_are_set),
        CASE(what_is_no_number_is_null),
        CASE(an_event_from_the_future_is_unknown),
        CASE(every_kind_of_field_comes_back),
        CASE(messages_in_messages_come_back),
        CASE(an_enum_may_come_by_name_or_number),
        CASE(an_event_without_its_envelope_is_refused),
        CASE(what_is_no_event_is_refused),
        CASE(unknown_members_and_wrong_types_are_named),
        CASE(numbers_beyond_their_field_are_refused),
        CASE(an_arena_that_is_full_is_told_from_bad_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
