/* Several streams of one run: what they share must be the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "service/cli/streams.h"

static struct sl_cli_streams streams;
static struct sl_error err;

static int tear_down(void **state)
{
    (void)state;
    sl_cli_streams_done(&streams);
    return 0;
}

/* A stream behind the event `after`, of one letter an event. */
static enum sl_status add(const char *name, uint64_t after, const char *events)
{
    enum sl_status status = SL_OK;
    sl_cli_streams_begin(&streams, name, after);
    for (const char *at = events; *at != '\0' && status == SL_OK; at++) {
        status = sl_cli_streams_add(&streams, sl_slice_of(at, 1), &err);
    }
    return status;
}

static void events_of_the_same_sequence_are_compared(void **state)
{
    (void)state;
    assert_int_equal(add("whole", 0, "abcdef"), SL_OK);
    assert_int_equal(add("tail", 3, "def"), SL_OK);
    assert_int_equal(add("middle", 1, "bc"), SL_OK);
    assert_int_equal(streams.n_same, 5);
}

static void the_first_event_that_differs_is_named_with_its_stream(void **state)
{
    (void)state;
    assert_int_equal(add("whole", 0, "abcdef"), SL_OK);
    assert_int_equal(add("other", 2, "cdXf"), SL_FAILED_PRECONDITION);
    assert_string_equal(err.text, "event 5 has other bytes than in whole");
}

static void every_earlier_stream_counts(void **state)
{
    (void)state;
    assert_int_equal(add("head", 0, "abc"), SL_OK);
    assert_int_equal(add("tail", 2, "cde"), SL_OK);
    assert_int_equal(add("third", 0, "abcdX"), SL_FAILED_PRECONDITION);
    assert_string_equal(err.text, "event 5 has other bytes than in tail");
}

static void events_that_only_one_stream_has_are_nothing_to_compare(void **state)
{
    (void)state;
    assert_int_equal(add("head", 0, "ab"), SL_OK);
    assert_int_equal(add("far", UINT64_C(1) << 62, "xy"), SL_OK);
    assert_int_equal(add("next", 2, "cd"), SL_OK);
    assert_int_equal(streams.n_same, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(events_of_the_same_sequence_are_compared, tear_down),
        cmocka_unit_test_teardown(the_first_event_that_differs_is_named_with_its_stream, tear_down),
        cmocka_unit_test_teardown(every_earlier_stream_counts, tear_down),
        cmocka_unit_test_teardown(
            events_that_only_one_stream_has_are_nothing_to_compare, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
