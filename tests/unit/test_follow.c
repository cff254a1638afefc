/* When the command line attaches again, and how runs look in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "service/cli/follow.h"
#include "service/cli/run_print.h"

static bool is_lost(enum sl_status status, enum sl_error_origin origin, const char *reason)
{
    return sl_cli_follow_is_lost(status, origin, sl_slice_str(reason));
}

/* AL-5.2: what a stream ends with while its run goes on. */
static void an_end_that_says_nothing_about_the_run_is_a_loss(void **state)
{
    (void)state;
    assert_true(is_lost(SL_UNAVAILABLE, SL_ORIGIN_TRANSPORT, ""));
    assert_true(is_lost(SL_UNAVAILABLE, SL_ORIGIN_PEER, "DRAINING"));
    assert_true(is_lost(SL_ABORTED, SL_ORIGIN_PEER, "DRAINING"));
    assert_true(is_lost(SL_RESOURCE_EXHAUSTED, SL_ORIGIN_PEER, "STALLED"));
    assert_true(is_lost(SL_RESOURCE_EXHAUSTED, SL_ORIGIN_PEER, "")); /* ENHANCE_YOUR_CALM */
}

static void an_answer_is_no_loss(void **state)
{
    (void)state;
    assert_false(is_lost(SL_OK, SL_ORIGIN_PEER, ""));
    assert_false(is_lost(SL_NOT_FOUND, SL_ORIGIN_PEER, "RUN_NOT_FOUND"));
    assert_false(is_lost(SL_OUT_OF_RANGE, SL_ORIGIN_PEER, "BELOW_RETENTION"));
    assert_false(is_lost(SL_ABORTED, SL_ORIGIN_PEER, "PROVIDER_OVERLOADED"));
    assert_false(is_lost(SL_RESOURCE_EXHAUSTED, SL_ORIGIN_PEER, "SERVER_FULL"));
    assert_false(is_lost(SL_RESOURCE_EXHAUSTED, SL_ORIGIN_LOCAL, "")); /* a message too large */
    assert_false(is_lost(SL_DEADLINE_EXCEEDED, SL_ORIGIN_LOCAL, ""));
}

static void pauses_grow_to_a_bound(void **state)
{
    (void)state;
    static const uint64_t pauses[SL_CLI_ATTACH_TRIES] = { 250,  500,  1000, 2000,
                                                          4000, 8000, 8000, 8000 };
    for (unsigned i = 0; i < SL_CLI_ATTACH_TRIES; i++) {
        assert_int_equal(sl_cli_follow_pause_ms(i), pauses[i]);
    }
    assert_int_equal(sl_cli_follow_pause_ms(UINT32_MAX), 8000);
}

/* ---- How runs look -----------------------------------------------------------------------------
 */

static char *text;
static size_t n_text;
static FILE *out;

static int set_up(void **state)
{
    (void)state;
    out = open_memstream(&text, &n_text);
    return out == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)fclose(out);
    free(text); /* of open_memstream */
    return 0;
}

static Sluice__V1__Run make_run(void)
{
    static char id[] = "0123456789abcdef0123456789abcdef";
    static char agent[] = "echo";
    Sluice__V1__Run run;
    sluice__v1__run__init(&run);
    run.run_id = id;
    run.agent = agent;
    run.state = SLUICE__V1__RUN_STATE__RUN_STATE_RUNNING;
    run.created_at_ms = UINT64_C(1700000000000);
    run.last_sequence = 7;
    return run;
}

static void states_have_the_names_that_they_are_asked_by(void **state)
{
    (void)state;
    static const char *const names[] = { "queued", "running", "waiting_approval",
                                         "done",   "failed",  "cancelled" };
    char room[SL_RUN_STATE_BYTES];
    Sluice__V1__RunState found;
    for (size_t i = 0; i < SL_COUNT(names); i++) {
        assert_int_equal(sl_run_state_find(names[i], &found), SL_OK);
        assert_int_equal(found, (int)i + 1);
        sl_run_state_name(found, room);
        assert_string_equal(room, names[i]);
    }
    assert_int_equal(sl_run_state_find("unspecified", &found), SL_INVALID_ARGUMENT);
    assert_int_equal(sl_run_state_find("DONE", &found), SL_INVALID_ARGUMENT);
    assert_int_equal(sl_run_state_find("", &found), SL_INVALID_ARGUMENT);
}

static void a_row_has_the_time_until_now_or_until_the_end(void **state)
{
    (void)state;
    Sluice__V1__Run run = make_run();
    sl_run_print_row(out, &run, run.created_at_ms + 1500);
    run.ended_at_ms = run.created_at_ms + 250;
    run.state = SLUICE__V1__RUN_STATE__RUN_STATE_DONE;
    sl_run_print_row(out, &run, run.created_at_ms + 9000);
    run.ended_at_ms = 0; /* its server's clock is ahead of ours */
    sl_run_print_row(out, &run, run.created_at_ms - 1);
    (void)fflush(out);
    assert_non_null(strstr(text, " running          2023-11-14T22:13:20Z      1.5 s 7\n"));
    assert_non_null(strstr(text, " done             2023-11-14T22:13:20Z      0.2 s 7\n"));
    assert_non_null(strstr(text, " done             2023-11-14T22:13:20Z      0.0 s 7\n"));
}

static void what_a_run_says_cannot_move_the_cursor(void **state)
{
    (void)state;
    static char evil[] = "a\x1b[2Jb\n";
    Sluice__V1__Run run = make_run();
    Sluice__V1__RunError error;
    sluice__v1__run_error__init(&error);
    error.message = evil;
    run.agent = run.node = run.session_id = evil;
    run.ending_case = SLUICE__V1__RUN__ENDING_ERROR;
    run.error = &error;
    Sluice__V1__Message message;
    sluice__v1__message__init(&message);
    message.content = message.tool_name = evil;
    Sluice__V1__Message *messages[] = { &message };
    Sluice__V1__Context context;
    sluice__v1__context__init(&context);
    context.messages = messages;
    context.n_messages = 1;
    sl_run_print_row(out, &run, 0);
    sl_run_print_page(out, &run, 0);
    sl_run_print_context(out, &context);
    (void)fflush(out);
    assert_null(strchr(text, '\x1b'));
    assert_non_null(strstr(text, "agent     a.[2Jb \n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_end_that_says_nothing_about_the_run_is_a_loss),
        cmocka_unit_test(an_answer_is_no_loss),
        cmocka_unit_test(pauses_grow_to_a_bound),
        cmocka_unit_test(states_have_the_names_that_they_are_asked_by),
        cmocka_unit_test_setup_teardown(
            a_row_has_the_time_until_now_or_until_the_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_run_says_cannot_move_the_cursor, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
