/* The conversation that a recorded run leaves in the store: as it begins, as its session is saved,
 * and in the end. AL-6.6 */
#include "runtime/exec/session_codec.h"
#include "tests/unit/test_record_rig.h"

/* "user hello|assistant+add one|tool 1": the roles, the calls and the texts. */
static const char *show(const struct sl_buf *bytes)
{
    static const char *const roles[] = { [SL_CHAT_SYSTEM] = "system",
                                         [SL_CHAT_USER] = "user",
                                         [SL_CHAT_ASSISTANT] = "assistant",
                                         [SL_CHAT_TOOL] = "tool" };
    static char text[512];
    size_t used = 0;
    struct sl_history history;
    sl_history_init(&history, 1 << 24);
    assert_int_equal(sl_session_read(sl_buf_slice(bytes), &history), SL_OK);
    text[0] = '\0';
    for (size_t i = 0; i < history.n_messages; i++) {
        const struct sl_chat_message *message = &history.messages[i];
        used += (size_t)snprintf(
            text + used, sizeof(text) - used, "%s%s%s%s %.*s", i == 0 ? "" : "|",
            roles[message->role], message->n_calls > 0 ? "+" : "",
            message->n_calls > 0 ? message->calls[0].name : "", SL_SLICE_FMT(message->content));
    }
    sl_history_done(&history);
    return text;
}

static void give(enum sl_chat_role role, const char *text)
{
    const struct sl_chat_message message = { .role = role, .content = sl_slice_str(text) };
    assert_int_equal(sl_history_add(&rig.history, &message), SL_OK);
}

/* What GetRun tells of it as long as it is in memory. */
static void check_is_whole(void)
{
    struct sl_buf bytes;
    sl_buf_init(&bytes, 1 << 20);
    assert_true(rig.has_ended);
    assert_int_equal(sl_session_write(rig.history.messages, rig.history.n_messages, &bytes), SL_OK);
    assert_int_equal(store.ended_context.size, bytes.size);
    assert_memory_equal(store.ended_context.data, bytes.data, bytes.size);
    sl_buf_done(&bytes);
}

static void a_run_is_stored_with_what_it_begins_with(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both); i++) {
        sl_exec_rig_init(&rig, AGENT "max_context_messages: 2\n");
        sl_fake_store_init(&store);
        (void)sl_store_free(rig.store);
        rig.store = rig.env.store = &store.base;
        rig.settings.durability = both[i];
        give(SL_CHAT_SYSTEM, "be brief");
        give(SL_CHAT_USER, "one");
        give(SL_CHAT_ASSISTANT, "re: one");
        give(SL_CHAT_USER, "two");
        give(SL_CHAT_ASSISTANT, "re: two");
        sl_exec_rig_start(&rig, "three");
        /* What the model has: the first turn is too old. */
        assert_string_equal(
            show(&store.begun_context), "system be brief|user two|assistant re: two|user three");
        assert_string_equal(
            rig.models.request, "system=be brief;user=two;assistant=re: two;user=three;");
        sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
        finish();
    }
}

static void its_end_has_all_that_was_said(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both); i++) {
        start(both[i]);
        sl_fake_model_text(&rig.models, "one");
        sl_fake_model_call(&rig.models, "p1", "add", "{}");
        sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
        (void)trace();
        sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
        (void)trace();
        sl_fake_model_text(&rig.models, "two");
        sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
        (void)trace();
        assert_string_equal(
            show(&store.ended_context), "user hello|assistant+add one|tool 1|assistant two");
        check_is_whole();
        finish();
    }
}

/* AL-6.6: after any ending, cancel included. */
static void so_has_that_of_a_run_that_is_stopped(void **state)
{
    (void)state;
    start(SL_STORE_SYNC);
    sl_fake_model_text(&rig.models, "half an ans");
    (void)trace();
    cancel();
    (void)trace();
    assert_string_equal(show(&store.ended_context), "user hello|assistant half an ans");
    check_is_whole();
    finish();

    start(SL_STORE_SYNC);
    sl_fake_model_call(&rig.models, "p1", "add", "{}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    (void)trace();
    cancel();
    (void)trace();
    assert_true(strncmp(show(&store.ended_context), "user hello|assistant+add |tool {", 32) == 0);
    check_is_whole();
    finish();
}

/* AL-5.28, AL-5.1 */
static void the_store_gets_it_also_when_it_comes_back_later(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(both); i++) {
        start(both[i]);
        store.failure = SL_UNAVAILABLE;
        sl_fake_model_text(&rig.models, "one");
        sl_exec_rig_turn(&rig);
        sl_exec_rig_advance_ms(&rig, 30000);
        assert_true(rig.has_ended);
        store.failure = SL_OK;
        sl_exec_rig_advance_ms(&rig, 3000);
        assert_true(store.is_ended);
        assert_string_equal(show(&store.ended_context), "user hello|assistant one");
        finish();
        /* Or only the end was not stored. */
        start(both[i]);
        sl_fake_model_text(&rig.models, "one");
        (void)trace();
        store.failure = SL_UNAVAILABLE;
        sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
        sl_exec_rig_turn(&rig);
        sl_exec_rig_advance_ms(&rig, 30000);
        assert_true(rig.has_ended);
        store.failure = SL_OK;
        sl_exec_rig_advance_ms(&rig, 3000);
        assert_true(store.is_ended);
        assert_string_equal(show(&store.ended_context), "user hello|assistant one");
        finish();
    }
}

/* limits.run_context */
static void one_that_is_too_large_is_not_stored_and_the_run_goes_on(void **state)
{
    (void)state;
    static char text[2000];
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_run_context);
    memset(text, 'x', sizeof(text) - 1);
    for (int with_session = 0; with_session < 2; with_session++) {
        prepare(SL_STORE_SYNC);
        rig.limits.run_context = 1024;
        rig.session_id = with_session ? "s" : NULL;
        rig.session_store = &store.base;
        sl_exec_rig_start(&rig, "hello");
        assert_string_equal(show(&store.begun_context), "user hello");
        sl_fake_model_text(&rig.models, text);
        sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
        (void)trace();
        assert_true(rig.has_ended);
        assert_int_equal(rig.ending.status, SL_OK);
        assert_int_equal(store.ended_context.size, 0);
        assert_int_equal(store.messages[0] != '\0', with_session); /* it has its own limit */
        assert_true(sl_limit_n_reached(SL_LIMIT_run_context) > n_before + (size_t)with_session);
        finish();
    }
    prepare(SL_STORE_SYNC);
    rig.limits.run_context = 1024;
    sl_exec_rig_start(&rig, text);
    assert_true(rig.has_begun);
    assert_int_equal(store.begun_context.size, 0);
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    finish();
}

static void what_is_saved_of_a_session_is_the_runs_conversation_so_far(void **state)
{
    (void)state;
    for (int is_large = 0; is_large < 2; is_large++) {
        prepare(SL_STORE_SYNC);
        rig.limits.run_context = is_large ? 1024 : 4096;
        rig.session_id = "s";
        rig.session_store = &store.base;
        sl_exec_rig_start(&rig, "hello");
        (void)trace();
        sl_fake_model_call(&rig.models, "p1", "add", "{}");
        sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
        (void)trace();
        static char result[2000];
        memset(result, '1', sizeof(result) - 1);
        sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, result);
        (void)trace();
        assert_int_equal(store.n_saves, 1);
        /* RunStarted, IterationStart, ToolCallStart, IterationComplete, ToolCallComplete */
        assert_int_equal(store.saved_sequence, is_large ? 0 : 5);
        sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
        finish();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_is_stored_with_what_it_begins_with),
        cmocka_unit_test(its_end_has_all_that_was_said),
        cmocka_unit_test(so_has_that_of_a_run_that_is_stopped),
        cmocka_unit_test(the_store_gets_it_also_when_it_comes_back_later),
        cmocka_unit_test(one_that_is_too_large_is_not_stored_and_the_run_goes_on),
        cmocka_unit_test(what_is_saved_of_a_session_is_the_runs_conversation_so_far),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
