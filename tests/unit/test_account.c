/* What memory a run takes, part by part (reliability 5.2). */
#include "runtime/exec/account.h"
#include "runtime/exec/record_private.h"
#include "runtime/exec/run_private.h"
#include "tests/unit/test_record_rig.h"

#define TOOLS                                                                                      \
    "name: a\nmodel: m\nheartbeat_ms: 0\ntools: [add, asked]\napproval: {approvers: [ann]}\n"

static void start_as(const char *caller)
{
    sl_exec_rig_init(&rig, TOOLS);
    rig.caller = caller;
    sl_exec_rig_start(&rig, "hello");
}

static struct sl_account look(void)
{
    struct sl_account account;
    sl_exec_rig_turn(&rig);
    sl_run_account(rig.run, &account);
    assert_int_equal(account.readers, 0); /* they are not the run's */
    return account;
}

static void end(void)
{
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    sl_exec_rig_done(&rig);
}

static void ask(const char *tool, const char *arguments)
{
    sl_fake_model_call(&rig.models, "p1", tool, arguments);
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
}

static void the_sum_is_that_of_the_parts(void **state)
{
    (void)state;
#define ONE(name) .name = UINT64_C(1),
    const struct sl_account ones = { SL_ACCOUNT_MAP(ONE) };
    assert_int_equal(sl_account_total(&ones), sizeof(ones) / sizeof(uint64_t));
#undef ONE
}

static void a_log_counts_with_its_segments(void **state)
{
    (void)state;
    start_as(NULL);
    rig.is_reading = false;
    const struct sl_account before = look();
    for (int i = 0; i < 1000; i++) {
        sl_fake_model_text(&rig.models, "0123456789abcdef");
    }
    const struct sl_account after = look();
    assert_true(after.log >= before.log + 16000);
    assert_int_equal(after.log, sl_event_channel_bytes(sl_run_channel(rig.run)));
    assert_int_equal(after.conversation, before.conversation);
    rig.is_reading = true;
    end();
}

static void a_conversation_counts_with_what_waits_to_join_it(void **state)
{
    static char text[20000];
    struct sl_error err = { .text = "" };
    (void)state;
    memset(text, 'x', sizeof(text));
    start_as("carl");
    const struct sl_account before = look();
    assert_int_equal(before.client, 0);
    assert_int_equal(sl_run_user_input(rig.run, sl_slice_of(text, sizeof(text)), &err), SL_OK);
    const struct sl_account after = look();
    assert_true(after.conversation >= before.conversation + sizeof(text));
    assert_int_equal(after.client, rig.limits.user_inputs * sizeof(char *));
    end();
}

static void the_text_of_an_answer_counts_when_it_is_collected_or_held_back(void **state)
{
    (void)state;
    sl_exec_rig_init(&rig, TOOLS);
    rig.env.window_bytes = 100;
    rig.settings.min_flush_ms = 1;
    sl_exec_rig_start(&rig, "hello");
    assert_int_equal(look().text, 0);
    sl_fake_model_text(&rig.models, "held");
    const uint64_t held = look().text;
    assert_true(held >= 4);
    sl_exec_rig_advance_ms(&rig, 2);
    for (int i = 0; i < 2000; i++) {
        sl_fake_model_text(&rig.models, "0123456789abcdef");
        sl_exec_rig_advance_ms(&rig, 2);
    }
    assert_true(look().text >= held + 30000);
    end();
}

static void a_call_counts_with_its_output_until_it_is_over_and_its_result_is_kept(void **state)
{
    static char result[10001];
    (void)state;
    memset(result, '1', sizeof(result) - 1);
    rig.tools.call_bytes = 0;
    start_as(NULL);
    const uint64_t before = look().tools;
    ask("add", "{}");
    sl_fake_model_finish(&rig.models, SL_FINISH_TOOL_USE, NULL);
    const uint64_t running = look().tools;
    assert_true(running >= before + sizeof(struct sl_tool_slot));
    rig.tools.call_bytes = 70000;
    assert_int_equal(look().tools, running + 70000);
    sl_fake_tool_output(&rig.tools, 0, false, "one");
    sl_fake_tool_output(&rig.tools, 0, false, "two");
    assert_true(look().tools >= running + 70000 + 3); /* the second one waits */
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, result);
    const struct sl_account after = look();
    assert_true(after.tools < running);
    assert_true(after.conversation > sizeof(result)); /* where the model finds it */
    end();
}

static void a_result_counts_while_another_call_goes_on(void **state)
{
    static char result[10001];
    (void)state;
    memset(result, '1', sizeof(result) - 1);
    start_as(NULL);
    sl_fake_model_call(&rig.models, "p1", "add", "{}");
    ask("add", "{\"b\":1}");
    const uint64_t before = look().tools;
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, result);
    assert_in_range(look().tools, before + 9000, before + 11000);
    sl_fake_tool_done(&rig.tools, 1, SL_TOOL_OK, "1");
    (void)look();
    end();
}

static void what_the_client_brings_counts(void **state)
{
    static char result[10001];
    struct sl_error err = { .text = "" };
    (void)state;
    memset(result, '1', sizeof(result) - 1);
    sl_exec_rig_init(&rig, TOOLS);
    rig.client_tools[0] = sl_fake_tool_new(&rig.tools, "asked_theirs");
    rig.n_client_tools = 1;
    rig.caller = "carl";
    sl_exec_rig_start(&rig, "hello");
    const uint64_t before = look().client;
    assert_int_equal(before, 3 * sizeof(struct sl_chat_tool));
    ask("asked_theirs", "{}");
    (void)look();
    assert_int_equal(
        sl_run_tool_result(rig.run, "tool_1", sl_slice_str(result), sl_slice_str(""), &err), SL_OK);
    assert_true(look().client >= before + sizeof(result)); /* it came before it was asked for */
    const struct sl_ending ending = sl_ending_cancelled(SL_CANCEL_REASON(CANCEL_RPC));
    sl_run_cancel(rig.run, &ending);
    sl_exec_rig_turn(&rig);
    sl_exec_rig_done(&rig);
}

static void an_approval_counts_with_who_decided(void **state)
{
    static char comment[1001];
    struct sl_error err = { .text = "" };
    (void)state;
    memset(comment, 'c', sizeof(comment) - 1);
    start_as("carl");
    const uint64_t before = look().own;
    assert_true(before >= sizeof(struct sl_run));
    ask("asked", "{}");
    const uint64_t asked = look().own;
    assert_int_equal(asked, before + sizeof(struct sl_approval));
    const struct sl_approval_answer answer = {
        .approval_id = rig.approval_id,
        .digest = sl_slice_of(rig.approval_digest, SL_SHA256_BYTES),
        .principal = "ann",
        .comment = comment,
    };
    assert_int_equal(sl_run_decide(rig.run, &answer, &err), SL_OK);
    assert_int_equal(look().own, asked + sizeof("ann") + sizeof(comment));
    end();
}

static void a_response_counts_as_long_as_it_is_read(void **state)
{
    (void)state;
    start_as(NULL);
    rig.models.turn_bytes = 0;
    const uint64_t before = look().model;
    assert_true(before > 0);
    rig.models.turn_bytes = 5000;
    assert_int_equal(look().model, before + 5000);
    ask("add", "{}");
    assert_int_equal(look().model, 0);
    sl_fake_tool_done(&rig.tools, 0, SL_TOOL_OK, "1");
    (void)look();
    end();
}

static void what_waits_for_the_store_counts(void **state)
{
    static char text[20001];
    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    prepare(SL_STORE_ASYNC);
    store.holds = true;
    sl_exec_rig_start(&rig, text);
    const uint64_t waiting = look().store;
    assert_true(waiting >= sizeof(struct sl_record) + sizeof(text)); /* its conversation */
    (void)answer();
    const uint64_t after = look().store;
    assert_true(after >= sizeof(struct sl_record));
    assert_true(after < waiting - sizeof(text) + 1);
    store.holds = false;
    (void)answer();
    sl_fake_model_finish(&rig.models, SL_FINISH_END_TURN, NULL);
    (void)trace();
    finish();
}

/* The run is gone, and its events are still on their way. */
static void a_record_without_its_run_counts_with_its_segments(void **state)
{
    struct sl_record_room room;
    (void)state;
    sl_record_room_init(&room);
    prepare(SL_STORE_ASYNC);
    rig.env.records = &room;
    sl_exec_rig_start(&rig, "hello");
    store.failure = SL_UNAVAILABLE;
    sl_fake_model_text(&rig.models, "text");
    (void)trace();
    assert_int_equal(sl_record_room_bytes(&room), 0); /* it is the run's */
    cancel();
    (void)trace();
    sl_exec_rig_advance_ms(&rig, SL_RECORD_STOP_MS);
    assert_true(rig.has_ended);
    assert_false(sl_list_is_empty(&room.alone));
    const struct sl_record *record =
        SL_CONTAINER(sl_list_first(&room.alone), struct sl_record, node);
    assert_true(record->append.n_ranges > 0);
    const struct sl_segment *segment = record->append.ranges[0].segment;
    assert_true(sl_record_room_bytes(&room) >= sizeof(*record) + segment->capacity);
    sl_record_room_stop(&room);
    assert_int_equal(sl_record_room_bytes(&room), 0);
    store.failure = SL_OK;
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sum_is_that_of_the_parts),
        cmocka_unit_test(a_log_counts_with_its_segments),
        cmocka_unit_test(a_conversation_counts_with_what_waits_to_join_it),
        cmocka_unit_test(the_text_of_an_answer_counts_when_it_is_collected_or_held_back),
        cmocka_unit_test(a_call_counts_with_its_output_until_it_is_over_and_its_result_is_kept),
        cmocka_unit_test(a_result_counts_while_another_call_goes_on),
        cmocka_unit_test(what_the_client_brings_counts),
        cmocka_unit_test(an_approval_counts_with_who_decided),
        cmocka_unit_test(a_response_counts_as_long_as_it_is_read),
        cmocka_unit_test(what_waits_for_the_store_counts),
        cmocka_unit_test(a_record_without_its_run_counts_with_its_segments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
