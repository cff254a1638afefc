/* What is known of a run as messages of the API. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/sluice/v1/events.pb-c.h"
#include "runtime/base/mem.h"
#include "service/api/run_message.h"

enum { EVENT_BYTES = 256 };

/* A run that failed without memory for its last event: that is a text then. */
static void a_run_without_a_terminal_event_has_no_ending(void **state)
{
    uint8_t bytes[EVENT_BYTES];
    struct sl_arena arena;
    struct sl_limits limits;
    Sluice__V1__Run *run = NULL;
    Sluice__V1__TextDelta text = SLUICE__V1__TEXT_DELTA__INIT;
    Sluice__V1__StreamEvent event = SLUICE__V1__STREAM_EVENT__INIT;
    (void)state;
    sl_limits_init(&limits);
    sl_arena_init(&arena, 0);
    event.event_case = SLUICE__V1__STREAM_EVENT__EVENT_TEXT_DELTA;
    event.text_delta = &text;
    assert_in_range(sluice__v1__stream_event__get_packed_size(&event), 1, EVENT_BYTES);
    const size_t size = sluice__v1__stream_event__pack(&event, bytes);
    const struct sl_run_info info = { .run_id = "1",
                                      .agent = "load",
                                      .stage = SL_RUN_STAGE_FAILED,
                                      .terminal = sl_slice_of(bytes, size) };
    assert_int_equal(sl_run_message_fill(&info, &limits, &arena, &run), SL_OK);
    assert_int_equal(run->state, SLUICE__V1__RUN_STATE__RUN_STATE_FAILED);
    assert_int_equal(run->ending_case, SLUICE__V1__RUN__ENDING__NOT_SET);
    sl_arena_done(&arena);
}

static void the_texts_of_a_conversation_are_not_copied_again(void **state)
{
    static const char text[] = "one two";
    struct sl_arena arena;
    Sluice__V1__GetRunResponse reply;
    (void)state;
    sluice__v1__get_run_response__init(&reply);
    sl_arena_init(&arena, 0);
    const struct sl_run_message messages[] = {
        { .role = SL_RUN_USER, .content = sl_slice_str(text) },
        { .role = SL_RUN_ASSISTANT, .content = sl_slice_str("") },
    };
    const struct sl_run_info info = { .messages = messages, .n_messages = SL_COUNT(messages) };
    assert_int_equal(sl_run_message_fill_context(&info, &arena, &reply), SL_OK);
    const Sluice__V1__Context *context = reply.context;
    assert_int_equal(context->n_messages, SL_COUNT(messages));
    assert_ptr_equal(context->messages[0]->content, text);
    assert_string_equal(context->messages[1]->content, "");
    sl_arena_done(&arena);
}

static void a_conversation_that_is_absent_is_not_an_empty_one(void **state)
{
    struct sl_arena arena;
    Sluice__V1__GetRunResponse reply;
    (void)state;
    sl_arena_init(&arena, 0);
    sluice__v1__get_run_response__init(&reply);
    struct sl_run_info info = { .context_absent = "too large" };
    assert_int_equal(sl_run_message_fill_context(&info, &arena, &reply), SL_OK);
    assert_null(reply.context);
    assert_string_equal(reply.context_absent, "too large");
    sluice__v1__get_run_response__init(&reply);
    info.context_absent = NULL;
    assert_int_equal(sl_run_message_fill_context(&info, &arena, &reply), SL_OK);
    assert_non_null(reply.context);
    assert_string_equal(reply.context_absent, "");
    sl_arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_texts_of_a_conversation_are_not_copied_again),
        cmocka_unit_test(a_conversation_that_is_absent_is_not_an_empty_one),
        cmocka_unit_test(a_run_without_a_terminal_event_has_no_ending),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
