/* The conversation of a run whose owner is gone, told from its beginning and its events: the same
 * that the owner would have left, as far as they go. AL-5.27, AL-6.6 */
#include "runtime/exec/closing.h"
#include "runtime/exec/session_codec.h"
#include "tests/unit/test_record_rig.h"

enum { MOST_BYTES = 1 << 20 };

/* ---- What was told -----------------------------------------------------------------------------
 */

static struct {
    struct sl_buf context;
    bool is_session;
    uint64_t input_tokens;
    char text[1024];
} told;

/* "user hello|assistant+add one|tool 1": the roles, the calls and the texts. Calls and results are
 * pairs. */
static void show(struct sl_slice bytes)
{
    static const char *const roles[] = { [SL_CHAT_SYSTEM] = "system",
                                         [SL_CHAT_USER] = "user",
                                         [SL_CHAT_ASSISTANT] = "assistant",
                                         [SL_CHAT_TOOL] = "tool" };
    size_t used = 0;
    size_t n_results = 0;
    const struct sl_chat_call *calls = NULL;
    size_t n_calls = 0;
    struct sl_history history;
    sl_history_init(&history, 1 << 24);
    assert_int_equal(sl_session_read(bytes, &history), SL_OK);
    told.text[0] = '\0';
    for (size_t i = 0; i < history.n_messages; i++) {
        const struct sl_chat_message *message = &history.messages[i];
        if (message->role == SL_CHAT_TOOL) {
            assert_true(n_results < n_calls);
            assert_string_equal(
                message->call_id, n_results < n_calls ? calls[n_results].id : "none");
            n_results++;
        } else {
            assert_int_equal(n_results, n_calls);
            calls = message->calls;
            n_calls = message->n_calls;
            n_results = 0;
        }
        const size_t room = sizeof(told.text) - used;
        const int size = snprintf(
            told.text + used, room, "%s%s%s%s %.*s", i == 0 ? "" : "|", roles[message->role],
            message->n_calls > 0 ? "+" : "", message->n_calls > 0 ? message->calls[0].name : "",
            (int)(message->content.size > 60 ? 60 : message->content.size),
            message->content.size == 0 ? "" : (const char *)message->content.data);
        assert_in_range(size, 1, room - 1);
        used += (size_t)size;
    }
    assert_int_equal(n_results, n_calls);
    sl_history_done(&history);
}

static size_t event_bytes(const uint8_t *bytes)
{
    return SL_EVENT_PREFIX_BYTES + ((size_t)bytes[1] << 24 | (size_t)bytes[2] << 16 |
                                    (size_t)bytes[3] << 8 | (size_t)bytes[4]);
}

/* Bytes of the first `n_events` that the store has. */
static struct sl_slice events_of(size_t n_events)
{
    size_t at = 0;
    for (size_t i = 0; i < n_events; i++) {
        at += event_bytes(store.bytes.data + at);
        assert_true(at <= store.bytes.size);
    }
    return sl_slice_of(store.bytes.data, at);
}

static void forget(void)
{
    sl_buf_done(&told.context);
    told.text[0] = '\0';
}

static void tell(const struct sl_store_run *run, struct sl_slice events, Sluice__V1__ErrorCode code)
{
    struct sl_closing closing;
    struct sl_closing_events written = { .segment = NULL };
    const struct sl_closing_run known = { .run_id = "r", .agent = "a", .session_id = "" };
    const struct sl_ending ending = sl_ending_error(code);
    forget();
    sl_closing_init(&closing, 0);
    sl_closing_tell(&closing, run, &rig.limits);
    assert_int_equal(sl_closing_feed(&closing, events), SL_OK);
    assert_int_equal(sl_closing_write(&closing, &known, &ending, 1, &written), SL_OK);
    told.context = written.context;
    told.is_session = written.is_session;
    told.input_tokens = closing.used.input_tokens;
    (void)sl_segment_unref(written.segment);
    sl_closing_done(&closing);
    if (told.context.size > 0) {
        show(sl_buf_slice(&told.context));
    }
}

/* As if the owner had been lost behind its event number `n_events`. */
static const char *tell_first(size_t n_events)
{
    const struct sl_store_run run = { .context = sl_buf_slice(&store.begun_context),
                                      .context_state = SL_STORE_CONTEXT_BASE };
    tell(&run, events_of(n_events), SL_CODE(WORKER_LOST));
    return told.text;
}

/* ---- Runs --------------------------------------------------------------------------------------
 */

/* One answer with calls of these ids, and their results. */
static void
call_tools(const char *first_id, const char *second_id, enum sl_tool_code code, const char *result)
{
    const size_t n_before = rig.tools.n_started;
    sl_fake_model_reasoning(&rig.models, "hm");
    sl_fake_model_text(&rig.models, "let me ");
    sl_fake_model_text(&rig.models, "see");
    sl_fake_model_call(&rig.models, first_id, "add", "{\"a\":1}");
    sl_fake_model_call(&rig.models, second_id, "add", "no object");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    (void)trace();
    sl_fake_tool_done(&rig.tools, n_before + 1, code, result);
    (void)trace();
    sl_fake_tool_done(&rig.tools, n_before, SL_TOOL_OK, "1");
    (void)trace();
}

static void end_in_order(void)
{
    sl_fake_model_reasoning(&rig.models, "so");
    sl_fake_model_text(&rig.models, "two");
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    (void)trace();
    assert_true(rig.has_ended);
    assert_true(store.is_ended);
}

static void check_is_the_owners(void)
{
    assert_int_equal(told.context.size, store.ended_context.size);
    assert_memory_equal(told.context.data, store.ended_context.data, told.context.size);
}

static void end_test(void)
{
    forget();
    finish();
}

/* ---- Tests -------------------------------------------------------------------------------------
 */

/* Byte by byte what the owner left, of every shape of a run that ended. */
static void what_is_told_is_what_the_owner_would_have_left(void **state)
{
    (void)state;
    static const struct {
        const char *first_id, *second_id;
        enum sl_tool_code code;
        const char *result;
    } cases[] = {
        { "p1", "p2", SL_TOOL_OK, "{\"r\":2}" },
        { "p1", "p1", SL_TOOL_OK, "" },
        { "", "", SL_TOOL_EXIT_NONZERO, "{\"out\":1}" },
        { "", "p2", SL_TOOL_TIMEOUT, "" },
    };
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        prepare(SL_STORE_SYNC);
        const struct sl_chat_message old = { .role = SL_CHAT_SYSTEM,
                                             .content = sl_slice_str("be brief") };
        assert_int_equal(sl_history_add(&rig.history, &old), SL_OK);
        sl_exec_rig_start(&rig, "hello");
        (void)trace();
        call_tools(cases[i].first_id, cases[i].second_id, cases[i].code, cases[i].result);
        call_tools("p1", "p3", SL_TOOL_OK, "3"); /* ids may come again in another answer */
        end_in_order();
        (void)tell_first(store.stored - 1);
        check_is_the_owners();
        assert_true(told.is_session);
        end_test();
    }
}

static void a_run_that_was_cut_is_told_as_far_as_it_came(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "", /* nothing was stored: what is known is how it begins */
        "",
        "",
        "", /* RunStarted, IterationStart, Thinking */
        "|assistant let me ",
        "|assistant let me see",
        "|assistant+add let me see|tool ?",
        "|assistant+add let me see|tool ?|tool ?",
        "|assistant+add let me see|tool ?|tool ?", /* IterationComplete */
        "|assistant+add let me see|tool ?|tool {\"r\":2}",
        "|assistant+add let me see|tool 1|tool {\"r\":2}",
        "|assistant+add let me see|tool 1|tool {\"r\":2}", /* IterationStart, Thinking, text */
        "|assistant+add let me see|tool 1|tool {\"r\":2}",
        "|assistant+add let me see|tool 1|tool {\"r\":2}|assistant two",
    };
    static const char unknown[] =
        "{\"error\":{\"code\":\"OUTCOME_UNKNOWN\",\"message\":\"the server was";
    start(SL_STORE_SYNC);
    call_tools("p1", "p2", SL_TOOL_OK, "{\"r\":2}");
    end_in_order();
    for (size_t n = 0; n < SL_COUNT(expected); n++) {
        char whole[512] = "user hello";
        size_t used = strlen(whole);
        for (const char *at = expected[n]; *at != '\0'; at++) {
            const char *part = *at == '?' ? unknown : (char[]){ *at, '\0' };
            used += (size_t)snprintf(whole + used, sizeof(whole) - used, "%s", part);
        }
        assert_string_equal(tell_first(n), whole);
        assert_int_equal(told.is_session, n >= 4); /* cut becomes none without any use */
    }
    end_test();
}

/* AL-5.29: a log that is damaged tells nothing of a session. */
static void the_ending_says_whether_the_session_gets_it(void **state)
{
    (void)state;
    start(SL_STORE_SYNC);
    end_in_order();
    const struct sl_store_run run = { .context = sl_buf_slice(&store.begun_context),
                                      .context_state = SL_STORE_CONTEXT_BASE };
    tell(&run, events_of(4), SL_CODE(DATA_LOSS));
    assert_false(told.is_session);
    tell(&run, events_of(4), SL_CODE(WORKER_LOST));
    assert_true(told.is_session);
    end_test();
}

/* What the session was saved with is not told again: it has whole results, too. */
static void it_goes_on_behind_what_was_saved(void **state)
{
    (void)state;
    start(SL_STORE_SYNC);
    call_tools("p1", "p2", SL_TOOL_OK, "{\"r\":2}");
    end_in_order();
    struct sl_history history;
    struct sl_buf base;
    sl_history_init(&history, MOST_BYTES);
    sl_buf_init(&base, MOST_BYTES);
    const struct sl_chat_message message = { .role = SL_CHAT_USER,
                                             .content = sl_slice_str("as saved") };
    assert_int_equal(sl_history_add(&history, &message), SL_OK);
    assert_int_equal(sl_session_write(history.messages, history.n_messages, &base), SL_OK);
    const struct sl_store_run run = { .context = sl_buf_slice(&base),
                                      .context_state = SL_STORE_CONTEXT_BASE,
                                      .context_sequence = 10 };
    tell(&run, events_of(10), SL_CODE(WORKER_LOST));
    assert_string_equal(told.text, "user as saved");
    assert_true(told.is_session); /* the owner had saved it, so there was some use */
    tell(&run, events_of(13), SL_CODE(WORKER_LOST));
    assert_string_equal(told.text, "user as saved|assistant two");
    sl_history_done(&history);
    sl_buf_done(&base);
    end_test();
}

static void nothing_is_told_without_a_beginning(void **state)
{
    (void)state;
    start(SL_STORE_SYNC);
    end_in_order();
    struct sl_store_run run = { .context = sl_buf_slice(&store.begun_context) };
    static const enum sl_store_context states[] = { SL_STORE_CONTEXT_NONE, SL_STORE_CONTEXT_DAMAGED,
                                                    SL_STORE_CONTEXT_FINAL };
    for (size_t i = 0; i < SL_COUNT(states); i++) {
        run.context_state = states[i];
        tell(&run, events_of(4), SL_CODE(WORKER_LOST));
        assert_int_equal(told.context.size, 0);
        assert_false(told.is_session);
    }
    run.context_state = SL_STORE_CONTEXT_BASE;
    run.context = sl_slice_str("\001\005no conversation");
    tell(&run, events_of(4), SL_CODE(WORKER_LOST));
    assert_int_equal(told.context.size, 0);
    end_test();
}

/* limits.run_context, wherever it is reached; the log is closed all the same. */
static void what_is_too_large_is_not_told(void **state)
{
    (void)state;
    static char text[3000];
    memset(text, 'x', sizeof(text) - 1);
    for (int in_result = 0; in_result < 2; in_result++) {
        start(SL_STORE_SYNC);
        rig.limits.run_context = 65536;
        if (in_result) {
            static char result[3002];
            (void)snprintf(result, sizeof(result), "\"%s\"", text);
            call_tools("p1", "p2", SL_TOOL_OK, result);
        } else {
            sl_fake_model_text(&rig.models, text);
        }
        end_in_order();
        (void)tell_first(store.stored - 1);
        check_is_the_owners();
        for (uint64_t limit = 1024; limit < 3000; limit += 512) {
            rig.limits.run_context = limit;
            (void)tell_first(store.stored - 1);
            assert_int_equal(told.context.size, 0);
            assert_false(told.is_session);
        }
        end_test();
    }
}

/* limits.tool_result_event: what the event has is all that there is. */
static void a_long_result_is_as_long_as_in_its_event(void **state)
{
    (void)state;
    static char result[5002];
    memset(result, '1', sizeof(result) - 1);
    prepare(SL_STORE_SYNC);
    rig.limits.tool_result_event = 1024;
    sl_exec_rig_start(&rig, "hello");
    (void)trace();
    call_tools("p1", "p2", SL_TOOL_OK, result);
    end_in_order();
    (void)tell_first(store.stored - 1);
    assert_in_range(store.ended_context.size, 5000, 6000);
    assert_in_range(told.context.size, 1024, 2000);
    end_test();
}

/* AL-2.3: the request that was cut had the conversation so far. */
static void the_request_that_was_cut_is_estimated_from_the_conversation(void **state)
{
    (void)state;
    static char text[4001];
    memset(text, 'x', sizeof(text) - 1);
    prepare(SL_STORE_SYNC);
    sl_exec_rig_start(&rig, text);
    (void)trace();
    end_in_order();
    (void)tell_first(2);
    assert_int_equal(told.input_tokens, 1000);
    const struct sl_store_run unknown = { .context_state = SL_STORE_CONTEXT_NONE };
    tell(&unknown, events_of(2), SL_CODE(WORKER_LOST));
    assert_int_equal(told.input_tokens, 1); /* not zero */
    end_test();
}

/* ---- Without memory ----------------------------------------------------------------------------
 */

static size_t n_allocations, failing_allocation;

static bool fail_once(size_t size)
{
    (void)size;
    return ++n_allocations != failing_allocation;
}

/* The log is closed, or there is no memory for that; half a conversation is never told. */
static void a_conversation_without_memory_is_not_told(void **state)
{
    (void)state;
    start(SL_STORE_SYNC);
    call_tools("p1", "p2", SL_TOOL_OK, "{\"r\":2}");
    end_in_order();
    const struct sl_store_run run = { .context = sl_buf_slice(&store.begun_context),
                                      .context_state = SL_STORE_CONTEXT_BASE };
    const struct sl_closing_run known = { .run_id = "r", .agent = "a", .session_id = "" };
    const struct sl_ending ending = sl_ending_error(SL_CODE(WORKER_LOST));
    const struct sl_slice events = events_of(store.stored - 1);
    size_t n = SIZE_MAX;
    for (failing_allocation = 0; failing_allocation <= n; failing_allocation++) {
        struct sl_closing closing;
        struct sl_closing_events written = { .segment = NULL };
        n_allocations = 0;
        sl_mem_set_gate(fail_once);
        sl_closing_init(&closing, 0);
        sl_closing_tell(&closing, &run, &rig.limits);
        enum sl_status status = sl_closing_feed(&closing, events);
        if (status == SL_OK) {
            status = sl_closing_write(&closing, &known, &ending, 1, &written);
        }
        sl_mem_set_gate(NULL);
        n = failing_allocation == 0 ? n_allocations : n;
        assert_true(status == SL_OK || status == SL_RESOURCE_EXHAUSTED);
        if (written.context.size > 0) {
            assert_int_equal(written.context.size, store.ended_context.size);
            assert_memory_equal(
                written.context.data, store.ended_context.data, written.context.size);
        }
        assert_int_equal(written.is_session, written.context.size > 0);
        assert_true(failing_allocation > 0 || written.is_session);
        (void)sl_segment_unref(written.segment);
        sl_buf_done(&written.context);
        sl_closing_done(&closing);
    }
    assert_true(n > 10);
    end_test();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_told_is_what_the_owner_would_have_left),
        cmocka_unit_test(a_run_that_was_cut_is_told_as_far_as_it_came),
        cmocka_unit_test(the_ending_says_whether_the_session_gets_it),
        cmocka_unit_test(it_goes_on_behind_what_was_saved),
        cmocka_unit_test(nothing_is_told_without_a_beginning),
        cmocka_unit_test(what_is_too_large_is_not_told),
        cmocka_unit_test(a_long_result_is_as_long_as_in_its_event),
        cmocka_unit_test(the_request_that_was_cut_is_estimated_from_the_conversation),
        cmocka_unit_test(a_conversation_without_memory_is_not_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
