/* What a person sees of a run, on a terminal and in a file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "service/cli/view.h"
#include "tests/fake/fake_loop.h"

static struct sl_fake_loop loop;
static struct sl_view view;
static FILE *out;
static char *seen;
static size_t n_seen;

static size_t n_columns;

static size_t columns(void)
{
    return n_columns;
}

static void open_view(bool is_terminal, bool has_colours)
{
    const struct sl_view_style style = { is_terminal, has_colours, columns };
    n_columns = 0;
    sl_fake_loop_init(&loop);
    out = open_memstream(&seen, &n_seen);
    assert_non_null(out);
    sl_view_init(&view, out, &style, &loop.base);
}

static int set_up(void **state)
{
    (void)state;
    open_view(false, false);
    return 0;
}

static int set_up_terminal(void **state)
{
    (void)state;
    open_view(true, true);
    return 0;
}

static int set_up_without_colours(void **state)
{
    (void)state;
    open_view(true, false);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sl_view_done(&view);
    sl_fake_loop_done(&loop);
    (void)fclose(out);
    free(seen);
    return 0;
}

static void assert_seen(const char *expected)
{
    (void)fflush(out);
    assert_string_equal(seen, expected);
}

static void assert_contains(const char *expected)
{
    (void)fflush(out);
    if (strstr(seen, expected) == NULL) {
        fail_msg("expected\n%s\nin\n%s", expected, seen);
    }
}

static void show_text(const char *text)
{
    Sluice__V1__TextDelta delta = SLUICE__V1__TEXT_DELTA__INIT;
    Sluice__V1__StreamEvent event = SLUICE__V1__STREAM_EVENT__INIT;
    delta.delta = sl_unconst(text);
    event.event_case = SLUICE__V1__STREAM_EVENT__EVENT_TEXT_DELTA;
    event.text_delta = &delta;
    sl_view_event(&view, &event);
}

static void show_thinking(const char *text)
{
    Sluice__V1__Thinking thinking = SLUICE__V1__THINKING__INIT;
    Sluice__V1__StreamEvent event = SLUICE__V1__STREAM_EVENT__INIT;
    thinking.content = sl_unconst(text);
    event.event_case = SLUICE__V1__STREAM_EVENT__EVENT_THINKING;
    event.thinking = &thinking;
    sl_view_event(&view, &event);
}

static void start_tool(const char *id, const char *name, const char *arguments)
{
    Sluice__V1__ToolCallStart start = SLUICE__V1__TOOL_CALL_START__INIT;
    Sluice__V1__StreamEvent event = SLUICE__V1__STREAM_EVENT__INIT;
    start.tool_id = sl_unconst(id);
    start.tool_name = sl_unconst(name);
    start.arguments_json = sl_unconst(arguments);
    event.event_case = SLUICE__V1__STREAM_EVENT__EVENT_TOOL_CALL_START;
    event.tool_call_start = &start;
    sl_view_event(&view, &event);
}

/* `error` NULL: it went well. */
static void end_tool(const char *id, const char *name, const char *result, const char *error)
{
    Sluice__V1__ToolCallComplete complete = SLUICE__V1__TOOL_CALL_COMPLETE__INIT;
    Sluice__V1__StreamEvent event = SLUICE__V1__STREAM_EVENT__INIT;
    complete.tool_id = sl_unconst(id);
    complete.tool_name = sl_unconst(name);
    complete.result_json = sl_unconst(result);
    complete.error = sl_unconst(error == NULL ? "" : error);
    complete.success = error == NULL;
    complete.execution_time_ms = 12;
    event.event_case = SLUICE__V1__STREAM_EVENT__EVENT_TOOL_CALL_COMPLETE;
    event.tool_call_complete = &complete;
    sl_view_event(&view, &event);
}

/* ---- In a file ------------------------------------------------------------------------------- */

static void text_runs_on_and_its_line_is_ended(void **state)
{
    (void)state;
    show_text("Hello, ");
    show_text("world.");
    assert_seen("Hello, world.");
    sl_view_done(&view);
    assert_seen("Hello, world.\n");
}

static void thinking_is_told_from_text(void **state)
{
    (void)state;
    show_thinking("hm ");
    show_thinking("hm");
    show_text("Yes.");
    sl_view_done(&view);
    assert_seen("(thinking) hm hm\nYes.\n");
}

static void an_event_of_a_later_version_is_skipped(void **state) /* PB-11 */
{
    (void)state;
    Sluice__V1__StreamEvent event = SLUICE__V1__STREAM_EVENT__INIT;
    show_text("Yes");
    sl_view_event(&view, &event);
    event.event_case = (Sluice__V1__StreamEvent__EventCase)9999;
    sl_view_event(&view, &event);
    show_text(".");
    assert_seen("Yes.");
}

static void control_characters_become_dots_in_text(void **state)
{
    (void)state;
    show_text("a\x1b[2Jb\rc\x7f"
              "d\xc2\x9b"
              "e\tf\ng ä€");
    assert_seen("a.[2Jb.c.d.e\tf\ng ä€");
}

static void tools_show_arguments_result_and_time(void **state)
{
    (void)state;
    start_tool("t1", "add", "{\"a\":1,\n\"b\":2}");
    end_tool("t1", "add", "3", NULL);
    start_tool("t2", "div", "{}");
    end_tool("t2", "div", "", "by\tzero\x1b");
    assert_seen("→ add {\"a\":1, \"b\":2}\n"
                "✓ add 12 ms 3\n"
                "→ div {}\n"
                "✗ div 12 ms by zero.\n");
}

static void a_long_line_is_cut_between_characters(void **state)
{
    (void)state;
    char arguments[301];
    for (size_t i = 0; i < 300; i += 3) {
        memcpy(arguments + i, "€", 3);
    }
    arguments[300] = '\0';
    arguments[0] = 'x'; /* shifts the border into a character */
    arguments[1] = 'y';
    arguments[2] = 'z';
    memmove(arguments, arguments + 1, 300);
    start_tool("t", "cut", arguments);
    (void)fflush(out);
    const char *cut = strstr(seen, "…");
    assert_non_null(cut);
    const char *start = strstr(seen, "yz");
    assert_non_null(start);
    assert_int_equal((cut - start - 2) % 3, 0);
    assert_true(cut - start <= 120 && cut - start > 116);
}

static void the_end_tells_iterations_time_and_tokens(void **state)
{
    (void)state;
    Sluice__V1__Usage usage = SLUICE__V1__USAGE__INIT;
    Sluice__V1__RunDone done = SLUICE__V1__RUN_DONE__INIT;
    Sluice__V1__StreamEvent event = SLUICE__V1__STREAM_EVENT__INIT;
    usage.input_tokens = 10;
    usage.output_tokens = 20;
    usage.cache_read_tokens = 5;
    usage.reasoning_tokens = 6;
    usage.estimated = 1;
    done.total_iterations = 2;
    done.execution_time_ms = 1500;
    done.usage = &usage;
    event.event_case = SLUICE__V1__STREAM_EVENT__EVENT_DONE;
    event.done = &done;
    show_text("text");
    sl_view_event(&view, &event);
    assert_seen("text\n✓ done: 2 iterations, 1.5 s, about 10 tokens in, 20 out, 5 cached, "
                "6 thinking\n");
    usage._cost_micros_case = SLUICE__V1__USAGE___COST_MICROS_COST_MICROS;
    usage.cost_micros = 12003280;
    usage.currency = sl_unconst("EUR\033[1m");
    sl_view_event(&view, &event);
    assert_contains("6 thinking, 12.003280 EUR");
    assert_null(strstr(seen, "\033[1m"));
}

static void show_error(int code, const char *message, const char *id)
{
    Sluice__V1__RunError error = SLUICE__V1__RUN_ERROR__INIT;
    Sluice__V1__StreamEvent event = SLUICE__V1__STREAM_EVENT__INIT;
    error.code = (Sluice__V1__ErrorCode)code;
    error.message = sl_unconst(message);
    error.error_id = sl_unconst(id);
    event.event_case = SLUICE__V1__STREAM_EVENT__EVENT_ERROR;
    event.error = &error;
    sl_view_event(&view, &event);
}

static void a_failure_tells_code_message_and_id(void **state)
{
    (void)state;
    show_error(SLUICE__V1__ERROR_CODE__ERROR_CODE_PROVIDER_AUTH, "no\nkey", "");
    assert_seen("✗ PROVIDER_AUTH: no key (0.0 s)\n");
    show_error(
        9999, "new",
        "e\x1b"
        "1");
    assert_contains("✗ error: new (0.0 s, error id e.1)\n");
}

static void iterations_and_attempts_are_shown(void **state)
{
    (void)state;
    Sluice__V1__IterationStart start = SLUICE__V1__ITERATION_START__INIT;
    Sluice__V1__StreamEvent event = SLUICE__V1__STREAM_EVENT__INIT;
    event.event_case = SLUICE__V1__STREAM_EVENT__EVENT_ITERATION_START;
    event.iteration_start = &start;
    start.iteration = 1;
    start.max_iterations = 5;
    start.attempt = 1;
    sl_view_event(&view, &event);
    start.attempt = 2;
    sl_view_event(&view, &event);
    assert_seen("── iteration 1 of 5 ──\n── iteration 1 of 5, attempt 2 ──\n");
}

static void an_event_from_the_future_is_passed_over(void **state)
{
    (void)state;
    Sluice__V1__StreamEvent event = SLUICE__V1__STREAM_EVENT__INIT;
    sl_view_event(&view, &event);
    assert_seen("");
}

static void a_file_gets_no_escape_sequence(void **state)
{
    (void)state;
    start_tool("t", "slow", "{}");
    sl_fake_loop_advance_ms(&loop, 1000);
    end_tool("t", "slow", "1", NULL);
    show_thinking("hm");
    show_text("yes");
    show_error(1, "m", "");
    sl_view_done(&view);
    (void)fflush(out);
    assert_null(strchr(seen, '\x1b'));
    assert_null(strchr(seen, '\r'));
}

/* ---- On a terminal --------------------------------------------------------------------------- */

static void the_spinner_names_open_tools_and_is_wiped(void **state)
{
    (void)state;
    sl_fake_loop_advance_ms(&loop, 100);
    assert_contains("waiting 0.1 s");
    start_tool("t1", "one", "{}");
    start_tool("t2", "two", "{}");
    sl_fake_loop_advance_ms(&loop, 500);
    assert_contains("one 0.5 s, two 0.5 s");
    end_tool("t1", "one", "", NULL);
    sl_fake_loop_advance_ms(&loop, 100);
    assert_contains(" two 0.6 s");
    end_tool("t2", "two", "", NULL);
    sl_view_done(&view);
    (void)fflush(out);
    const char *wiped = seen;
    for (const char *at = seen; (at = strstr(at, "\r\x1b[K")) != NULL; at++) {
        wiped = at;
    }
    assert_null(strstr(wiped, " s\x1b[0m"));
}

static void a_line_of_somebody_elses_begins_its_own_line_on_a_terminal(void **state)
{
    (void)state;
    show_text("text");
    sl_view_interrupt(&view);
    assert_contains("text\x1b[0m\n");
    sl_fake_loop_advance_ms(&loop, 200);
    sl_view_interrupt(&view);
    assert_int_equal(strcmp(seen + n_seen - 4, "\r\x1b[K"), 0);
}

static void in_a_file_the_text_goes_on(void **state)
{
    (void)state;
    show_text("one ");
    sl_view_interrupt(&view);
    show_text("line");
    sl_view_done(&view);
    assert_string_equal(seen, "one line\n");
}

static void the_spinner_waits_while_text_runs(void **state)
{
    (void)state;
    show_text("text");
    (void)fflush(out);
    const size_t before = n_seen;
    sl_fake_loop_advance_ms(&loop, 1000);
    (void)fflush(out);
    assert_int_equal(n_seen, before);
}

static void a_tools_name_cannot_move_the_cursor_in_the_spinner(void **state)
{
    (void)state;
    start_tool("t", "bad\x1b[2J\nname", "{}");
    sl_fake_loop_advance_ms(&loop, 200);
    (void)fflush(out);
    assert_null(strstr(seen, "\x1b[2J"));
    assert_contains("bad.[2J name 0.2 s");
}

static void a_tool_with_a_long_id_is_forgotten_at_its_end(void **state)
{
    (void)state;
    char id[201];
    memset(id, 'i', 200);
    id[200] = '\0';
    start_tool(id, "long", "{}");
    assert_int_equal(view.n_tools, 1);
    end_tool(id, "long", "", NULL);
    assert_int_equal(view.n_tools, 0);
}

static void more_tools_than_places_are_still_shown(void **state)
{
    (void)state;
    for (int i = 0; i < SL_VIEW_TOOLS + 10; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "%d", i);
        start_tool(id, id, "{}");
    }
    assert_int_equal(view.n_tools, SL_VIEW_TOOLS);
    assert_contains("73");
    end_tool("70", "70", "", NULL);
    assert_int_equal(view.n_tools, SL_VIEW_TOOLS);
}

/* Columns of the spinner's line that was drawn last: its glyph and what is behind it. */
static size_t width_of_spinner(void)
{
    (void)fflush(out);
    const char *line = seen;
    for (const char *at = seen; (at = strstr(at, "\x1b[2m")) != NULL; at++) {
        line = at + 4;
    }
    size_t n = 0;
    for (; *line != '\0' && *line != '\x1b'; line++) {
        n += ((unsigned char)*line & 0xC0) != 0x80;
    }
    return n;
}

static void the_spinner_is_never_wider_than_the_terminal(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "tool_%d", i);
        start_tool(id, id, "{}");
    }
    n_columns = 20;
    sl_fake_loop_advance_ms(&loop, 100);
    assert_int_equal(width_of_spinner(), 19);
    n_columns = 12; /* the window was made smaller */
    sl_fake_loop_advance_ms(&loop, 100);
    assert_int_equal(width_of_spinner(), 11);
    n_columns = 2;
    sl_fake_loop_advance_ms(&loop, 100);
    assert_true(width_of_spinner() <= 3);
    n_columns = 0; /* unknown */
    sl_fake_loop_advance_ms(&loop, 100);
    assert_int_equal(width_of_spinner(), 79);
}

static void a_wide_name_counts_twice_in_the_spinner(void **state)
{
    (void)state;
    start_tool("t", "漢字漢字漢字漢字漢字", "{}");
    n_columns = 13;
    sl_fake_loop_advance_ms(&loop, 100);
    assert_contains("漢字漢字漢");
    assert_int_equal(width_of_spinner(), 2 + 5);
}

static void without_colours_the_spinner_turns_and_nothing_else_is_escaped(void **state)
{
    (void)state;
    sl_fake_loop_advance_ms(&loop, 100);
    show_thinking("hm");
    show_error(1, "m", "");
    sl_view_done(&view);
    (void)fflush(out);
    assert_contains("waiting 0.1 s\r\x1b[K(thinking) hm\n");
    for (const char *at = seen; (at = strchr(at, '\x1b')) != NULL; at++) {
        assert_int_equal(at[2], 'K');
    }
}

static void text_that_ends_its_line_is_not_followed_by_an_empty_one(void **state)
{
    (void)state;
    show_text("Hello.\r\n");
    sl_view_done(&view);
    assert_seen("Hello.\n");
}

#define CASE(test)     cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define PLAIN(test)    cmocka_unit_test_setup_teardown(test, set_up_without_colours, tear_down)
#define TERMINAL(test) cmocka_unit_test_setup_teardown(test, set_up_terminal, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(text_runs_on_and_its_line_is_ended),
        CASE(thinking_is_told_from_text),
        CASE(an_event_of_a_later_version_is_skipped),
        CASE(control_characters_become_dots_in_text),
        CASE(tools_show_arguments_result_and_time),
        CASE(a_long_line_is_cut_between_characters),
        CASE(the_end_tells_iterations_time_and_tokens),
        CASE(a_failure_tells_code_message_and_id),
        CASE(iterations_and_attempts_are_shown),
        CASE(an_event_from_the_future_is_passed_over),
        CASE(a_file_gets_no_escape_sequence),
        CASE(in_a_file_the_text_goes_on),
        TERMINAL(a_line_of_somebody_elses_begins_its_own_line_on_a_terminal),
        CASE(text_that_ends_its_line_is_not_followed_by_an_empty_one),
        PLAIN(without_colours_the_spinner_turns_and_nothing_else_is_escaped),
        TERMINAL(the_spinner_is_never_wider_than_the_terminal),
        TERMINAL(a_wide_name_counts_twice_in_the_spinner),
        TERMINAL(the_spinner_names_open_tools_and_is_wiped),
        TERMINAL(the_spinner_waits_while_text_runs),
        TERMINAL(a_tools_name_cannot_move_the_cursor_in_the_spinner),
        TERMINAL(a_tool_with_a_long_id_is_forgotten_at_its_end),
        TERMINAL(more_tools_than_places_are_still_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
