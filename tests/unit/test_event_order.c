/* The grammar of events (AL-3.2, AL-3.3): every rule, kept and broken. Streams are written as text:
 * one letter an event, see `feed`. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/exec/order.h"

#define EVENT(name) SLUICE__V1__STREAM_EVENT__EVENT_##name
#define STOP(name)  SLUICE__V1__STOP_REASON__STOP_REASON_##name

static struct sl_event_order order;
static struct sl_error err;

union payload {
    Sluice__V1__RunStarted started;
    Sluice__V1__IterationStart start;
    Sluice__V1__IterationComplete complete;
    Sluice__V1__TextDelta text;
    Sluice__V1__Thinking thinking;
    Sluice__V1__ToolCallDelta fragment;
    Sluice__V1__ToolCallStart call;
    Sluice__V1__ToolCallComplete tool;
    Sluice__V1__ToolProgress progress;
    Sluice__V1__ApprovalRequested requested;
    Sluice__V1__ApprovalDecided decided;
    Sluice__V1__Heartbeat heartbeat;
    Sluice__V1__RunDone done;
    Sluice__V1__RunError error;
};

static char ids[][4] = { "1", "2", "3" };

static Sluice__V1__StopReason stop_of(char letter)
{
    switch (letter) {
    case 'E':
        return STOP(END_TURN);
    case 'M':
        return STOP(MAX_TOKENS);
    case 'Q':
        return STOP(STOP_SEQUENCE);
    case 'U':
        return STOP(TOOL_USE);
    case 'F':
        return STOP(CONTENT_FILTER);
    case 'P':
        return STOP(PAUSE_TURN);
    default:
        return STOP(INTERRUPTED);
    }
}

/* R run started; S next iteration, A same one again; t text, k thinking, f fragment; 1 2 3 a call
 * with that id; E M Q U F P I complete with a stop reason; a b c call 1 2 3 done well, x y z
 * failed; p progress of call 1; r approval for call 1 asked, d decided, D decided CANCELLED; h
 * heartbeat, H one that speaks of the second event from here; O done, X error; ? an event that is
 * not known. */
static uint32_t iteration, attempt;
static Sluice__V1__StopReason last_stop;
static Sluice__V1__Usage usage;
static union payload payload;
static Sluice__V1__StreamEvent event;

static bool make_end(char letter)
{
    if (letter == 'R') {
        iteration = attempt = 0;
        last_stop = STOP(UNSPECIFIED);
        sluice__v1__run_started__init(&payload.started);
        event.event_case = EVENT(RUN_STARTED);
        event.run_started = &payload.started;
    } else if (letter == 'h' || letter == 'H') {
        sluice__v1__heartbeat__init(&payload.heartbeat);
        payload.heartbeat.last_sequence = order.sequence + (letter == 'H' ? 2 : 0);
        event.event_case = EVENT(HEARTBEAT);
        event.heartbeat = &payload.heartbeat;
    } else if (letter == 'O') {
        sluice__v1__run_done__init(&payload.done);
        payload.done.stop_reason = last_stop;
        payload.done.usage = &usage;
        event.event_case = EVENT(DONE);
        event.done = &payload.done;
    } else if (letter == 'X') {
        sluice__v1__run_error__init(&payload.error);
        payload.error.code = SLUICE__V1__ERROR_CODE__ERROR_CODE_INTERNAL;
        payload.error.usage = &usage;
        event.event_case = EVENT(ERROR);
        event.error = &payload.error;
    } else {
        return false;
    }
    return true;
}

static bool make_iteration(char letter)
{
    if (letter == 'S' || letter == 'A') {
        iteration += letter == 'S' ? 1 : 0;
        attempt = letter == 'S' ? 1 : attempt + 1;
        sluice__v1__iteration_start__init(&payload.start);
        payload.start.iteration = iteration;
        payload.start.attempt = attempt;
        payload.start.max_iterations = 3;
        event.event_case = EVENT(ITERATION_START);
        event.iteration_start = &payload.start;
    } else if (strchr("EMQUFPI", letter) != NULL) {
        sluice__v1__iteration_complete__init(&payload.complete);
        last_stop = stop_of(letter);
        payload.complete.iteration = iteration;
        payload.complete.stop_reason = last_stop;
        payload.complete.usage = &usage;
        event.event_case = EVENT(ITERATION_COMPLETE);
        event.iteration_complete = &payload.complete;
    } else if (letter == 't') {
        sluice__v1__text_delta__init(&payload.text);
        event.event_case = EVENT(TEXT_DELTA);
        event.text_delta = &payload.text;
    } else if (letter == 'k') {
        sluice__v1__thinking__init(&payload.thinking);
        event.event_case = EVENT(THINKING);
        event.thinking = &payload.thinking;
    } else if (letter == 'f') {
        sluice__v1__tool_call_delta__init(&payload.fragment);
        event.event_case = EVENT(TOOL_CALL_DELTA);
        event.tool_call_delta = &payload.fragment;
    } else {
        return false;
    }
    return true;
}

static void make_tool(char letter)
{
    if (letter >= '1' && letter <= '3') {
        sluice__v1__tool_call_start__init(&payload.call);
        payload.call.tool_id = ids[letter - '1'];
        event.event_case = EVENT(TOOL_CALL_START);
        event.tool_call_start = &payload.call;
    } else if (strchr("abcxyz", letter) != NULL) {
        sluice__v1__tool_call_complete__init(&payload.tool);
        payload.tool.success = letter < 'x';
        payload.tool.tool_id = ids[letter < 'x' ? letter - 'a' : letter - 'x'];
        event.event_case = EVENT(TOOL_CALL_COMPLETE);
        event.tool_call_complete = &payload.tool;
    } else if (letter == 'p') {
        sluice__v1__tool_progress__init(&payload.progress);
        payload.progress.tool_id = ids[0];
        event.event_case = EVENT(TOOL_PROGRESS);
        event.tool_progress = &payload.progress;
    } else if (letter == 'r') {
        sluice__v1__approval_requested__init(&payload.requested);
        payload.requested.tool_id = ids[0];
        payload.requested.approval_id = ids[0];
        event.event_case = EVENT(APPROVAL_REQUESTED);
        event.approval_requested = &payload.requested;
    } else if (letter == 'd' || letter == 'D') {
        sluice__v1__approval_decided__init(&payload.decided);
        payload.decided.tool_id = ids[0];
        payload.decided.approval_id = ids[0];
        payload.decided.decision = letter == 'd'
                                       ? SLUICE__V1__APPROVAL_DECISION__APPROVAL_DECISION_APPROVED
                                       : SLUICE__V1__APPROVAL_DECISION__APPROVAL_DECISION_CANCELLED;
        event.event_case = EVENT(APPROVAL_DECIDED);
        event.approval_decided = &payload.decided;
    }
}

static enum sl_status feed(char letter)
{
    sluice__v1__stream_event__init(&event);
    sluice__v1__usage__init(&usage);
    event.sequence = letter == 'h' || letter == 'H' ? 0 : order.sequence + 1;
    if (!make_end(letter) && !make_iteration(letter)) {
        make_tool(letter);
    }
    return sl_event_order_check(&order, &event, &err);
}

static enum sl_status check(const char *stream)
{
    enum sl_status status = SL_OK;
    order = (struct sl_event_order){ .state = SL_ORDER_NEW };
    for (const char *at = stream; *at != '\0' && status == SL_OK; at++) {
        status = feed(*at);
    }
    if (status == SL_OK) {
        status = sl_event_order_finish(&order, &err);
    }
    sl_event_order_done(&order);
    return status;
}

static const char *const good[] = {
    "RStttEO",    "RStMO",       "RSQO",        "RX",       "RStIX",     "RS1UaSEO",
    "RS12UbaSEO", "RS1UpppxSEO", "RStkf1UaSEO", "RSPSEO",   "RS1MxO",    "RS1FxX",
    "RSFX",       "RStIAEO",     "RS1UrdaSEO",  "RS1UrDxX", "RS1UxX",    "RhShthEhO",
    "R?S?t?E?O",  "RHSEO",       "RSESEO",      "RS12IxyX", "RS1IxAtEO", "RS1UaX",
};

static void streams_in_order_are_accepted(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(good); i++) {
        if (check(good[i]) != SL_OK) {
            fail_msg("%s: %s", good[i], err.text);
        }
    }
}

static void streams_out_of_order_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "R",
        "RS",
        "RSt",
        "RStE", /* no terminal event */
        "SEO",
        "hRSEO",
        "RRSEO",
        "tRSEO", /* no, or two beginnings */
        "RSO",
        "RStX",
        "RtSEO",
        "RSEtO", /* not in this state */
        "RSEOO",
        "RSEOX",
        "RSEOt",
        "RSEOh",
        "RSEO?", /* after the end */
        "RSEX1",
        "RSUaSEO",
        "RS1UbSEO",
        "RS1UaaSEO", /* brackets of calls */
        "RS11UaSEO",
        "RS1UaS1UaSEO", /* an id twice */
        "RS1UO",
        "RS1UX",
        "RS1USEO",
        "RS1EO",
        "RS1MO", /* an open call at the end */
        "RS1MaO",
        "RS1PaSEO",
        "RSFO",
        "RSIO",
        "RSPO", /* what may not follow */
        "RS1UbpSEO",
        "RSpEO",
        "RS1UapSEO", /* progress of a closed call */
        "RS1UrxX",
        "RS1UddaSEO",
        "RS1UrddaSEO",
        "RS1UrraSEO", /* brackets of approvals */
        "RS1MDxO",
        "RSEAEO",
        "RSMSEO",
        "RSSEO",
        "RS1U2aSEO",
        "RSPSPSPSEO",
        "RSEHO", /* a heartbeat of an event that never comes */
    };
    for (size_t i = 0; i < SL_COUNT(bad); i++) {
        if (check(bad[i]) != SL_FAILED_PRECONDITION) {
            fail_msg("'%s' was accepted", bad[i]);
        }
    }
}

/* The stream is cut at the '|': what is before it nobody checks. */
static enum sl_status check_tail(const char *stream)
{
    enum sl_status status = SL_OK;
    order = (struct sl_event_order){ .state = SL_ORDER_NEW };
    for (const char *at = stream; *at != '\0' && status == SL_OK; at++) {
        if (*at != '|') {
            status = feed(*at);
            continue;
        }
        const uint64_t after = order.sequence;
        sl_event_order_done(&order);
        sl_event_order_resume(&order, after);
    }
    if (status == SL_OK) {
        status = sl_event_order_finish(&order, &err);
    }
    sl_event_order_done(&order);
    return status;
}

static void accept_every_tail(const char *stream)
{
    char text[64];
    for (size_t cut = 0; cut < strlen(stream); cut++) {
        (void)snprintf(text, sizeof(text), "%.*s|%s", (int)cut, stream, stream + cut);
        if (check_tail(text) != SL_OK) {
            fail_msg("%s: %s", text, err.text);
        }
    }
}

static void every_tail_of_a_stream_in_order_is_accepted(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(good); i++) {
        accept_every_tail(good[i]);
    }
}

static void tails_out_of_order_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "RSt|",          "RSt|t",     "RSt|R",      "RSt|RSEO",  "RSt|tO",   "RSt|tX",
        "RS1U|aaSEO",    "RS1U|pSEO", "RS1U|atEO",  "RS1U|aO",   "RS1U|aSO", "RS1U|aSEOt",
        "RS1U|aS1UaSEO", "RSt|EtO",   "RSt|EO?",    "RS1Ur|dda", "RSt|FO",   "RSt|E1UaSEO",
        "RS1U|aStA",     "RSt|t1E1",  "RSt|tUSSEO", "RS|tMSEO",
    };
    for (size_t i = 0; i < SL_COUNT(bad); i++) {
        if (check_tail(bad[i]) != SL_FAILED_PRECONDITION) {
            fail_msg("'%s' was accepted", bad[i]);
        }
    }
}

static void a_tail_begins_right_behind_what_was_seen(void **state)
{
    (void)state;
    static const uint64_t wrong[] = { 1, 6, 8 };
    Sluice__V1__TextDelta text;
    sluice__v1__text_delta__init(&text);
    for (size_t i = 0; i <= SL_COUNT(wrong); i++) {
        Sluice__V1__StreamEvent message;
        sluice__v1__stream_event__init(&message);
        message.event_case = EVENT(TEXT_DELTA);
        message.text_delta = &text;
        message.sequence = i < SL_COUNT(wrong) ? wrong[i] : 7;
        order = (struct sl_event_order){ .state = SL_ORDER_NEW };
        sl_event_order_resume(&order, 6);
        assert_int_equal(
            sl_event_order_check(&order, &message, &err),
            i < SL_COUNT(wrong) ? SL_FAILED_PRECONDITION : SL_OK);
        sl_event_order_done(&order);
    }
}

/* PB-11: an event that is newer than our file is skipped, and its sequence counts. */
static void sequences_have_no_gap(void **state)
{
    (void)state;
    static const uint64_t wrong[] = { 0, 1, 3, UINT64_MAX };
    for (size_t i = 0; i < SL_COUNT(wrong); i++) {
        Sluice__V1__RunStarted started;
        sluice__v1__run_started__init(&started);
        Sluice__V1__StreamEvent message;
        sluice__v1__stream_event__init(&message);
        message.event_case = EVENT(RUN_STARTED);
        message.run_started = &started;
        message.sequence = 1;
        order = (struct sl_event_order){ .state = SL_ORDER_NEW };
        assert_int_equal(sl_event_order_check(&order, &message, &err), SL_OK);
        message.event_case = EVENT(_NOT_SET);
        message.sequence = wrong[i];
        assert_int_equal(sl_event_order_check(&order, &message, &err), SL_FAILED_PRECONDITION);
        sl_event_order_done(&order);
    }
}

static void a_terminal_event_has_usage_and_agrees_with_itself(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        Sluice__V1__Usage total;
        sluice__v1__usage__init(&total);
        Sluice__V1__RunDone done;
        sluice__v1__run_done__init(&done);
        Sluice__V1__StreamEvent message;
        sluice__v1__stream_event__init(&message);
        message.event_case = EVENT(DONE);
        message.done = &done;
        done.usage = i == 0 ? NULL : &total;
        done.stop_reason = i == 1 ? STOP(MAX_TOKENS) : STOP(END_TURN);
        done.input_tokens = i == 2 ? 1 : 0;
        order = (struct sl_event_order){ .state = SL_ORDER_NEW };
        assert_int_equal(feed('R'), SL_OK);
        assert_int_equal(feed('S'), SL_OK);
        assert_int_equal(feed('E'), SL_OK);
        message.sequence = 4;
        assert_int_equal(
            sl_event_order_check(&order, &message, &err), i == 3 ? SL_OK : SL_FAILED_PRECONDITION);
        sl_event_order_done(&order);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_in_order_are_accepted),
        cmocka_unit_test(streams_out_of_order_are_refused),
        cmocka_unit_test(every_tail_of_a_stream_in_order_is_accepted),
        cmocka_unit_test(tails_out_of_order_are_refused),
        cmocka_unit_test(a_tail_begins_right_behind_what_was_seen),
        cmocka_unit_test(sequences_have_no_gap),
        cmocka_unit_test(a_terminal_event_has_usage_and_agrees_with_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
