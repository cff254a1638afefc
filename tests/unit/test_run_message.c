/* What is known of a run as messages of the API. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/sluice/v1/events.pb-c.h"
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_without_a_terminal_event_has_no_ending),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
