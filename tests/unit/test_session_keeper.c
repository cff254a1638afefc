/* What a run stores of its conversation, and when (AL-4.10, AL-4.11, AL-5 "history", AL-6.6). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/exec/encode.h"
#include "runtime/exec/session.h"
#include "runtime/exec/session_codec.h"
#include "tests/fake/exec_rig.h"

#define AGENT "name: a\nmodel: m\nheartbeat_ms: 0\nparallel_tools: 1\ntools: [add]\n"

enum { STORE_RETRY_MS = 30000 }; /* as limits.store_retry is */

static struct sl_exec_rig rig;

/* ---- A store that answers when it is told to --------------------------------------------------
 */

static struct {
    struct sl_store base;
    enum sl_status says; /* PENDING: later */
    struct sl_store_request *pending;
    size_t n_saves;
    char stored[512]; /* what the last save had, as text */
} store;

static void show(struct sl_slice messages)
{
    static const char letters[] = { [SL_CHAT_SYSTEM] = 's',
                                    [SL_CHAT_USER] = 'u',
                                    [SL_CHAT_ASSISTANT] = 'a',
                                    [SL_CHAT_TOOL] = 't' };
    struct sl_history history;
    size_t used = 0;
    sl_history_init(&history, 1 << 24);
    assert_int_equal(sl_session_read(messages, &history), SL_OK);
    for (size_t i = 0; i < history.n_messages; i++) {
        const struct sl_chat_message *message = &history.messages[i];
        used += (size_t)snprintf(
            store.stored + used, sizeof(store.stored) - used, "%s%c%s:%.*s", i == 0 ? "" : "|",
            letters[message->role], message->n_calls > 0 ? "+" : "",
            (int)(message->content.size > 20 ? 20 : message->content.size),
            message->content.size > 0 ? (const char *)message->content.data : "");
    }
    sl_history_done(&history);
}

static enum sl_status submit(struct sl_store *base, struct sl_store_request *request)
{
    (void)base;
    if (request->kind != SL_STORE_SAVE) {
        return SL_OK;
    }
    const struct sl_store_save *save = SL_CONTAINER(request, struct sl_store_save, request);
    assert_null(store.pending); /* one at a time */
    assert_string_equal(save->session->tenant, "acme");
    assert_string_equal(save->session->agent, "a");
    assert_string_equal(save->session->session_id, "s1");
    assert_null(save->log);
    show(save->session->messages);
    store.n_saves++;
    store.pending = store.says == SL_PENDING ? request : NULL;
    return store.says;
}

static void free_nothing(struct sl_store *base)
{
    (void)base;
}

static void answer(enum sl_status status)
{
    assert_non_null(store.pending);
    sl_store_answer(SL_TAKE(store.pending), status, "as ordered");
    sl_exec_rig_turn(&rig);
}

static void init_with(const char *yaml, enum sl_status says)
{
    static const struct sl_store_ops ops = { .submit = submit, .free = free_nothing };
    memset(&store, 0, sizeof(store));
    store.base.ops = &ops;
    store.says = says;
    sl_exec_rig_init(&rig, yaml);
    rig.session_id = "s1";
    rig.session_store = &store.base;
}

static void init(enum sl_status says)
{
    init_with(AGENT, says);
}

static void done(void)
{
    assert_null(store.pending);
    sl_exec_rig_done(&rig);
}

static void cancel(void)
{
    const struct sl_ending ending = sl_ending_cancelled(SL_CANCEL_REASON(CANCEL_RPC));
    sl_run_cancel(rig.run, &ending);
    sl_exec_rig_turn(&rig);
}

/* ---- The rules ---------------------------------------------------------------------------------
 */

static void
check_rule(Sluice__V1__ErrorCode code, bool is_first, bool has_tool, enum sl_session_rule expected)
{
    const struct sl_ending ending = code == SL_CODE(UNSPECIFIED)
                                        ? sl_ending_done(SL_STOP_REASON(END_TURN))
                                        : sl_ending_error(code);
    assert_int_equal(sl_session_rule_of(&ending, is_first, has_tool), expected);
}

/* AL-5.1 to AL-5.31 */
static void every_ending_has_its_rule(void **state)
{
    (void)state;
    static const Sluice__V1__ErrorCode full[] = { SL_CODE(UNSPECIFIED), SL_CODE(MAX_ITERATIONS),
                                                  SL_CODE(OUTPUT_INVALID) };
    static const Sluice__V1__ErrorCode cut[] = {
        SL_CODE(BUDGET_EXCEEDED),    SL_CODE(LOOP_DETECTED),       SL_CODE(PROVIDER_UNREACHABLE),
        SL_CODE(PROVIDER_TLS),       SL_CODE(PROVIDER_AUTH),       SL_CODE(PROVIDER_RATE_LIMITED),
        SL_CODE(PROVIDER_QUOTA),     SL_CODE(PROVIDER_OVERLOADED), SL_CODE(PROVIDER_TIMEOUT),
        SL_CODE(PROVIDER_TRUNCATED), SL_CODE(PROVIDER_PROTOCOL),   SL_CODE(PROVIDER_LIMIT),
        SL_CODE(CANCELLED),          SL_CODE(DEADLINE_EXCEEDED),   SL_CODE(DRAINING),
        SL_CODE(WORKER_LOST),        SL_CODE(OUT_OF_MEMORY),       SL_CODE(INTERNAL),
    };
    static const Sluice__V1__ErrorCode none[] = { SL_CODE(STORE_UNAVAILABLE), SL_CODE(DATA_LOSS) };
    for (int i = 0; i < 4; i++) {
        const bool is_first = (i & 1) != 0;
        const bool has_tool = (i & 2) != 0;
        for (size_t k = 0; k < SL_COUNT(full); k++) {
            check_rule(full[k], is_first, has_tool, SL_SESSION_FULL);
        }
        for (size_t k = 0; k < SL_COUNT(cut); k++) {
            check_rule(cut[k], is_first, has_tool, SL_SESSION_CUT);
        }
        for (size_t k = 0; k < SL_COUNT(none); k++) {
            check_rule(none[k], is_first, has_tool, SL_SESSION_NONE);
        }
        check_rule(
            SL_CODE(CONTENT_FILTER), is_first, has_tool,
            has_tool ? SL_SESSION_CUT : SL_SESSION_NONE);
        check_rule(
            SL_CODE(CONTEXT_OVERFLOW), is_first, has_tool,
            is_first ? SL_SESSION_NONE : SL_SESSION_CUT);
        check_rule(
            SL_CODE(PROVIDER_REJECTED), is_first, has_tool,
            is_first ? SL_SESSION_NONE : SL_SESSION_CUT);
    }
}

/* AL-5.1 */
static void a_turn_is_stored_before_its_end_is_seen(void **state)
{
    (void)state;
    init(SL_PENDING);
    sl_exec_rig_start(&rig, "hello");
    sl_fake_model_text(&rig.models, "hi");
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, "x");
    sl_exec_rig_turn(&rig);
    assert_string_equal(store.stored, "u:hello|a:hi");
    assert_string_equal(sl_exec_rig_trace(&rig), "run a|start 1/10|text hi|complete 1 END_TURN");
    assert_int_equal(rig.n_settled, 0);
    answer(SL_OK);
    assert_string_equal(sl_exec_rig_trace(&rig), "done hi");
    assert_int_equal(rig.n_settled, 1);
    assert_int_equal(rig.n_events_when_settled, 4); /* and not the last one */
    assert_int_equal(store.n_saves, 1);
    done();
}

static void what_cannot_be_stored_is_no_success(void **state)
{
    (void)state;
    for (int later = 0; later < 2; later++) {
        init(later != 0 ? SL_PENDING : SL_UNAVAILABLE);
        sl_exec_rig_start(&rig, "hello");
        sl_fake_model_text(&rig.models, "hi");
        sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, "x");
        sl_exec_rig_turn(&rig);
        if (later != 0) {
            answer(SL_UNAVAILABLE);
        }
        assert_int_equal(rig.ending.code, SL_CODE(STORE_UNAVAILABLE));
        assert_int_equal(rig.last->error->code, SL_CODE(STORE_UNAVAILABLE));
        assert_int_equal(rig.n_settled, 1);
        done();
    }
}

/* AL-6.6: per completed tool phase and at the end, in whole units. */
static void each_tool_phase_is_stored_whole(void **state)
{
    (void)state;
    init(SL_OK);
    sl_exec_rig_start(&rig, "add");
    sl_fake_model_call(&rig.models, "c1", "add", "{}");
    sl_fake_model_call(&rig.models, "c2", "add", "{}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, "x");
    sl_exec_rig_turn(&rig);
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "{\"sum\":1}");
    sl_exec_rig_turn(&rig);
    assert_int_equal(store.n_saves, 0); /* half of it is nothing */
    sl_fake_tool_done(&rig.tools, 1, SL_TOOL_OK, "{\"sum\":2}");
    sl_exec_rig_turn(&rig);
    assert_int_equal(store.n_saves, 1);
    assert_string_equal(store.stored, "u:add|a+:|t:{\"sum\":1}|t:{\"sum\":2}");
    sl_fake_model_text(&rig.models, "3");
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, "x");
    sl_exec_rig_turn(&rig);
    assert_int_equal(store.n_saves, 2);
    assert_string_equal(store.stored, "u:add|a+:|t:{\"sum\":1}|t:{\"sum\":2}|a:3");
    done();
}

static void the_end_waits_for_what_is_being_stored(void **state)
{
    (void)state;
    init(SL_PENDING);
    sl_exec_rig_start(&rig, "add");
    sl_fake_model_call(&rig.models, "c1", "add", "{}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, "x");
    sl_exec_rig_turn(&rig);
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "{}");
    sl_exec_rig_turn(&rig);
    assert_int_equal(store.n_saves, 1);
    sl_fake_model_text(&rig.models, "3");
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, "x");
    sl_exec_rig_turn(&rig);
    assert_int_equal(store.n_saves, 1);
    answer(SL_UNAVAILABLE); /* the phase is in the end, too */
    assert_int_equal(store.n_saves, 2);
    assert_int_equal(rig.n_settled, 0);
    answer(SL_OK);
    assert_int_equal(rig.ending.code, SL_CODE(UNSPECIFIED));
    done();
}

/* AL-7.3, AL-7.4: no end waits for ever for a store that hangs, whose answer finds nobody. */
static void an_end_does_not_wait_for_ever_for_its_session(void **state)
{
    (void)state;
    for (int is_phase = 0; is_phase < 2; is_phase++) {
        init(SL_PENDING);
        sl_exec_rig_start(&rig, "add");
        if (is_phase != 0) {
            sl_fake_model_call(&rig.models, "c1", "add", "{}");
            sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, "x");
            sl_exec_rig_turn(&rig);
            sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "{}");
            sl_exec_rig_turn(&rig);
        }
        sl_fake_model_text(&rig.models, "3");
        sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, "x");
        sl_exec_rig_turn(&rig);
        const uint64_t before = sl_limit_n_reached(SL_LIMIT_store_retry);
        sl_exec_rig_advance_ms(&rig, STORE_RETRY_MS - 1);
        assert_int_equal(rig.n_settled, 0);
        sl_exec_rig_advance_ms(&rig, 1);
        assert_int_equal(rig.n_settled, 1);
        assert_int_equal(rig.ending.code, SL_CODE(STORE_UNAVAILABLE));
        assert_int_equal(sl_limit_n_reached(SL_LIMIT_store_retry), before + 1);
        assert_true(rig.has_ended);
        answer(SL_OK); /* nobody is there any more */
        done();
    }
}

static void a_cancel_waits_for_its_session_for_three_seconds(void **state)
{
    (void)state;
    for (int is_late = 0; is_late < 2; is_late++) {
        init(SL_PENDING);
        sl_exec_rig_start(&rig, "add");
        sl_fake_model_text(&rig.models, "3");
        if (is_late != 0) { /* the cancel comes when the end waits already */
            sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, "x");
        }
        sl_exec_rig_turn(&rig);
        cancel();
        assert_int_equal(store.n_saves, 1);
        sl_exec_rig_advance_ms(&rig, SL_RECORD_STOP_MS - 1);
        assert_int_equal(rig.n_settled, 0);
        sl_exec_rig_advance_ms(&rig, 1);
        assert_int_equal(rig.n_settled, 1);
        assert_int_equal(
            rig.ending.code, is_late != 0 ? SL_CODE(STORE_UNAVAILABLE) : SL_CODE(CANCELLED));
        assert_true(rig.has_ended);
        answer(SL_OK); /* nobody is there any more */
        done();
    }
}

/* ---- Cut, and none -----------------------------------------------------------------------------
 */

/* AL-5.21 */
static void a_cut_turn_keeps_what_was_said(void **state)
{
    (void)state;
    init(SL_OK);
    sl_exec_rig_start(&rig, "hello");
    sl_fake_model_text(&rig.models, "hi the");
    sl_exec_rig_turn(&rig);
    cancel();
    assert_string_equal(store.stored, "u:hello|a:hi the");
    done();
}

static void a_cut_turn_in_which_nothing_was_said_is_none(void **state)
{
    (void)state;
    init(SL_OK);
    sl_exec_rig_start(&rig, "hello");
    cancel();
    assert_int_equal(store.n_saves, 0);
    assert_int_equal(rig.n_settled, 1);
    done();
}

static void a_cut_tool_phase_has_all_its_results(void **state)
{
    (void)state;
    init(SL_OK);
    sl_exec_rig_start(&rig, "add");
    sl_fake_model_call(&rig.models, "c1", "add", "{}");
    sl_fake_model_call(&rig.models, "c2", "add", "{}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, "x");
    sl_exec_rig_turn(&rig);
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "{\"sum\":1}");
    sl_exec_rig_turn(&rig);
    cancel();
    sl_exec_rig_advance_ms(&rig, 5000);
    assert_string_equal(store.stored, "u:add|a+:|t:{\"sum\":1}|t:{\"error\":{\"code\":\"CA");
    done();
}

/* A tool that nobody knows has done nothing. */
static void calls_that_were_not_run_are_of_no_use(void **state)
{
    (void)state;
    init(SL_OK);
    sl_exec_rig_start(&rig, "add");
    sl_fake_model_call(&rig.models, "c1", "nobody", "{}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, "x");
    sl_exec_rig_turn(&rig);
    cancel();
    assert_int_equal(store.n_saves, 0);
    done();
}

/* AL-5.6 */
static void what_was_filtered_is_not_stored(void **state)
{
    (void)state;
    init(SL_OK);
    sl_exec_rig_start(&rig, "hello");
    sl_fake_model_text(&rig.models, "bad");
    sl_fake_model_finish(&rig.models, SL_FINISH_CONTENT_FILTER, "x");
    sl_exec_rig_turn(&rig);
    assert_int_equal(store.n_saves, 0);
    done();

    init(SL_OK);
    sl_exec_rig_start(&rig, "add");
    sl_fake_model_call(&rig.models, "c1", "add", "{}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, "x");
    sl_exec_rig_turn(&rig);
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "{}");
    sl_exec_rig_turn(&rig);
    sl_fake_model_text(&rig.models, "bad");
    sl_fake_model_finish(&rig.models, SL_FINISH_CONTENT_FILTER, "x");
    sl_exec_rig_turn(&rig);
    assert_string_equal(store.stored, "u:add|a+:|t:{}");
    done();
}

/* AL-5.2: the unfinished call is dropped. */
static void an_answer_that_was_too_long_is_stored_without_its_call(void **state)
{
    (void)state;
    init(SL_OK);
    sl_exec_rig_start(&rig, "add");
    sl_fake_model_text(&rig.models, "so");
    sl_fake_model_call(&rig.models, "c1", "add", "{}");
    sl_fake_model_finish(&rig.models, SL_FINISH_MAX_TOKENS, "x");
    sl_exec_rig_turn(&rig);
    assert_string_equal(store.stored, "u:add|a:so");
    done();
}

/* AL-5.12: the request itself may be what the provider does not take. */
static void a_refused_request_is_not_remembered(void **state)
{
    (void)state;
    init(SL_OK);
    sl_exec_rig_start(&rig, "hello");
    sl_fake_model_text(&rig.models, "par");
    sl_fake_model_fail(&rig.models, SL_FAULT_PROVIDER_REJECTED, 400);
    sl_exec_rig_turn(&rig);
    assert_int_equal(store.n_saves, 0);
    done();
}

/* ---- Sizes -------------------------------------------------------------------------------------
 */

static void add_old(const char *text, size_t size)
{
    static char room[4096];
    memset(room, 'x', sizeof(room));
    for (size_t i = 0; text[i] != '\0'; i++) {
        room[i] = text[i];
    }
    const struct sl_chat_message message = { .role = SL_CHAT_USER,
                                             .content = sl_slice_of(room, size) };
    assert_int_equal(sl_history_add(&rig.history, &message), SL_OK);
}

/* limits.session_size */
static void the_oldest_turns_go_when_a_session_is_too_large(void **state)
{
    (void)state;
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_session_size);
    init(SL_OK);
    rig.limits.session_size = 2048;
    add_old("one", 1500);
    add_old("two", 600);
    sl_exec_rig_start(&rig, "hello");
    sl_fake_model_text(&rig.models, "hi");
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, "x");
    sl_exec_rig_turn(&rig);
    assert_string_equal(store.stored, "u:twoxxxxxxxxxxxxxxxxx|u:hello|a:hi");
    assert_true(sl_limit_n_reached(SL_LIMIT_session_size) > n_before);
    done();
}

static void a_turn_that_is_too_large_is_not_stored(void **state)
{
    (void)state;
    init(SL_OK);
    rig.limits.session_size = 1024;
    add_old("one", 100);
    char text[2000];
    memset(text, 'y', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    sl_exec_rig_start(&rig, text);
    sl_fake_model_text(&rig.models, "hi");
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, "x");
    sl_exec_rig_turn(&rig);
    assert_int_equal(store.n_saves, 0);
    assert_int_equal(rig.ending.code, SL_CODE(UNSPECIFIED));
    done();
}

/* Ten old messages at most, unless the agent says otherwise. */
static void a_session_does_not_grow_for_ever(void **state)
{
    (void)state;
    static const struct {
        const char *yaml;
        size_t n_kept;
    } rows[] = { { AGENT, 10 }, { AGENT "max_context_messages: 12\n", 12 } };
    for (size_t row = 0; row < SL_COUNT(rows); row++) {
        init_with(rows[row].yaml, SL_OK);
        for (int i = 0; i < 15; i++) {
            add_old("m", 1);
        }
        sl_exec_rig_start(&rig, "q");
        sl_fake_model_text(&rig.models, "r");
        sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, "x");
        sl_exec_rig_turn(&rig);
        size_t n = 0;
        for (const char *at = store.stored; (at = strstr(at, "u:m")) != NULL; at++) {
            n++;
        }
        assert_int_equal(n, rows[row].n_kept);
        done();
    }
}

static void a_run_without_session_stores_nothing(void **state)
{
    (void)state;
    init(SL_OK);
    rig.session_id = NULL;
    sl_exec_rig_start(&rig, "hello");
    sl_fake_model_text(&rig.models, "hi");
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, "x");
    sl_exec_rig_turn(&rig);
    assert_int_equal(store.n_saves, 0);
    assert_int_equal(rig.n_settled, 1);
    done();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_ending_has_its_rule),
        cmocka_unit_test(a_turn_is_stored_before_its_end_is_seen),
        cmocka_unit_test(what_cannot_be_stored_is_no_success),
        cmocka_unit_test(each_tool_phase_is_stored_whole),
        cmocka_unit_test(the_end_waits_for_what_is_being_stored),
        cmocka_unit_test(an_end_does_not_wait_for_ever_for_its_session),
        cmocka_unit_test(a_cancel_waits_for_its_session_for_three_seconds),
        cmocka_unit_test(a_cut_turn_keeps_what_was_said),
        cmocka_unit_test(a_cut_turn_in_which_nothing_was_said_is_none),
        cmocka_unit_test(a_cut_tool_phase_has_all_its_results),
        cmocka_unit_test(calls_that_were_not_run_are_of_no_use),
        cmocka_unit_test(what_was_filtered_is_not_stored),
        cmocka_unit_test(an_answer_that_was_too_long_is_stored_without_its_call),
        cmocka_unit_test(a_refused_request_is_not_remembered),
        cmocka_unit_test(the_oldest_turns_go_when_a_session_is_too_large),
        cmocka_unit_test(a_turn_that_is_too_large_is_not_stored),
        cmocka_unit_test(a_session_does_not_grow_for_ever),
        cmocka_unit_test(a_run_without_session_stores_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
