/* The conversation: repair (AL-6.6), the input, pruning. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/exec/history.h"

static struct sl_history history;
static char shown[4096];

/* u text, a text, s text; c a call with this id (with the assistant message before), t a result. */
static void add(const char *messages)
{
    for (const char *at = messages; *at != '\0'; at += 2) {
        char text[2] = { at[1], '\0' };
        const struct sl_chat_call call = { .id = text, .name = "n", .arguments_json = "{}" };
        struct sl_chat_message message = { .role = SL_CHAT_USER, .content = sl_slice_str(text) };
        if (at[1] == '-') {
            message.content = sl_slice_of(NULL, 0);
        }
        if (at[0] == 's') {
            message.role = SL_CHAT_SYSTEM;
        } else if (at[0] == 'a') {
            message.role = SL_CHAT_ASSISTANT;
        } else if (at[0] == 'c') {
            message.role = SL_CHAT_ASSISTANT;
            message.calls = &call;
            message.n_calls = 1;
        } else if (at[0] == 't') {
            message.role = SL_CHAT_TOOL;
            message.call_id = text;
        }
        assert_int_equal(sl_history_add(&history, &message), SL_OK);
    }
}

static const char *show(void)
{
    size_t used = 0;
    shown[0] = '\0';
    for (size_t i = 0; i < history.n_messages; i++) {
        const struct sl_chat_message *message = &history.messages[i];
        const char *kind = message->role == SL_CHAT_SYSTEM      ? "s"
                           : message->role == SL_CHAT_USER      ? "u"
                           : message->n_calls > 0               ? "c"
                           : message->role == SL_CHAT_ASSISTANT ? "a"
                                                                : "t";
        used += (size_t)snprintf(
            shown + used, sizeof(shown) - used, "%s%.*s%s", kind,
            message->content.size > 5 ? 1 : (int)message->content.size,
            message->content.size > 5 ? "!" : (const char *)message->content.data,
            i + 1 == history.turn_begin ? "|" : "");
    }
    return shown;
}

static void begin(const char *messages, const char *input)
{
    sl_history_init(&history, 1 << 20);
    add(messages);
    assert_int_equal(sl_history_begin_turn(&history, sl_slice_str(input)), SL_OK);
}

static void check(const char *messages, const char *input, const char *expected)
{
    begin(messages, input);
    assert_string_equal(show(), expected);
    sl_history_done(&history);
}

static void the_old_part_is_repaired(void **state)
{
    (void)state;
    check("", "x", "ux");
    check("u1a2", "x", "u1a2|ux");
    check("u1c2t2a3", "x", "u1c2t2a3|ux");
    check("u1c2", "x", "u1c2t!|ux");         /* a call without result gets one */
    check("u1c2a3", "x", "u1c2t!a3|ux");     /* not at the end either */
    check("u1t2a3", "x", "u1a3|ux");         /* a result without call is dropped */
    check("u1c2t2t3a4", "x", "u1c2t2a4|ux"); /* so is one of another call */
    check("u1c2t2t2", "x", "u1c2t2|ux");     /* and a second one */
    check("u1a-a2u-", "x", "u1a2|ux");       /* empty messages are dropped */
}

/* AL-6.6 */
static void repairs_are_counted(void **state)
{
    (void)state;
    static const struct {
        const char *messages;
        uint32_t n_repairs;
    } cases[] = { { "u1c2t2a3", 0 },   { "u1c2", 1 },     { "u1t2a3", 1 },
                  { "u1c2t2t3a4", 1 }, { "u1a-a2u-", 2 }, { "u1c2c3t2", 3 } };
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        begin(cases[i].messages, "x");
        assert_int_equal(history.n_repairs, cases[i].n_repairs);
        sl_history_done(&history);
    }
}

static void the_input_is_never_lost_and_never_doubled(void **state)
{
    (void)state;
    check("u1", "1", "u1");
    check("u1", "2", "u1|u2");
    check("u1a1", "1", "u1a1|u1");
    check("u1", "", "u1");
    check("", "", "");
}

static bool refuse(size_t size)
{
    (void)size;
    return false;
}

static void
check_end(const char *messages, const char *expected, const char *expected_without_memory)
{
    for (int has_memory = 0; has_memory < 2; has_memory++) {
        begin("u1a2", "x");
        add(messages);
        sl_mem_set_gate(has_memory == 1 ? NULL : refuse);
        sl_history_end(&history);
        sl_mem_set_gate(NULL);
        assert_string_equal(show(), has_memory == 1 ? expected : expected_without_memory);
        size_t bytes = 0;
        for (size_t i = 0; i < history.n_messages; i++) {
            bytes += history.messages[i].content.size;
            bytes += history.messages[i].n_calls * strlen("n{}");
        }
        assert_int_equal(sl_history_bytes(&history), bytes);
        sl_history_done(&history);
    }
}

/* AL-6.6: in whole units, or not at all. */
static void no_call_stays_without_result(void **state)
{
    (void)state;
    check_end("", "u1a2|ux", "u1a2|ux");
    check_end("a3", "u1a2|uxa3", "u1a2|uxa3");
    check_end("c3t3c4t4a5", "u1a2|uxc3t3c4t4a5", "u1a2|uxc3t3c4t4a5");
    check_end("c3t3c4", "u1a2|uxc3t3c4t!", "u1a2|uxc3t3");
    check_end("c3", "u1a2|uxc3t!", "u1a2|ux");
}

/* `given` and `stored`: messages as of add(). */
static void
check_stored(const char *given, const char *stored, const char *input, const char *expected)
{
    sl_history_init(&history, 1 << 20);
    add(given);
    const size_t n_given = history.n_messages;
    add(stored);
    assert_int_equal(sl_history_put_stored(&history, n_given), SL_OK);
    assert_int_equal(sl_history_begin_turn(&history, sl_slice_str(input)), SL_OK);
    assert_string_equal(show(), expected);
    size_t bytes = 0;
    for (size_t i = 0; i < history.n_messages; i++) {
        bytes += history.messages[i].content.size;
        bytes += history.messages[i].n_calls * strlen("n{}");
    }
    assert_int_equal(sl_history_bytes(&history), bytes);
    sl_history_done(&history);
}

/* AL-6.6: the history, what is given, the input; and the input is never lost. */
static void what_is_stored_comes_before_what_is_given(void **state)
{
    (void)state;
    check_stored("", "", "x", "ux");
    check_stored("", "u1a2", "x", "u1a2|ux");
    check_stored("u3a4", "u1a2", "x", "u1a2u3a4|ux");
    check_stored("u3a4ux", "u1a2", "x", "u1a2u3a4|ux");
    check_stored("", "u1a2ux", "x", "u1a2ux|ux"); /* it was said before, and is said again */
    check_stored("a-", "u1a2ux", "x", "u1a2ux|ux");
    check_stored("ux", "u1a2ux", "x", "u1a2ux|ux");
    check_stored("", "u1", "", "u1|");
    check_stored("", "u1c2u3", "x", "u1c2t!u3|ux"); /* old damage */
    check_stored("t2", "u1c2", "x", "u1c2t2|ux");
    check_stored("s1s2u3", "s1u4a5", "x", "s1u4a5s2u3|ux");
    check_stored("u1a2", "u1a2", "x", "u1a2u1a2|ux");
}

static void whole_old_turns_are_dropped(void **state)
{
    (void)state;
    begin("s0u1a2u3c4t4a5u6a7", "x");
    sl_history_prune(&history, 7, 0);
    assert_string_equal(show(), "s0u3c4t4a5u6a7|ux");
    sl_history_prune(&history, 5, 0);
    assert_string_equal(show(), "s0u6a7|ux");
    sl_history_prune(&history, 1, 0);
    assert_string_equal(show(), "s0|ux");
    sl_history_done(&history);

    begin("u1a2u3a4", "x");
    assert_int_equal(sl_history_bytes(&history), 5);
    sl_history_prune(&history, 0, 1);
    assert_string_equal(show(), "u1a2u3a4|ux"); /* five bytes are one token and a bit */
    sl_history_done(&history);

    begin("u1a2u3a4", "a long input that is over every bound");
    sl_history_prune(&history, 0, 2);
    assert_string_equal(show(), "u!"); /* the current turn stays */
    assert_int_equal(sl_history_bytes(&history), 37);
    sl_history_done(&history);
}

static void texts_are_cleaned(void **state)
{
    (void)state;
    sl_history_init(&history, 1 << 20);
    const struct sl_chat_message message = { .role = SL_CHAT_USER,
                                             .content = sl_slice_of("a\0b\xFF", 4) };
    assert_int_equal(sl_history_add(&history, &message), SL_OK);
    assert_true(sl_slice_equals(
        history.messages[0].content, "a\xEF\xBF\xBD"
                                     "b\xEF\xBF\xBD"));
    sl_history_done(&history);
}

static void its_size_is_bounded(void **state)
{
    (void)state;
    char text[1000];
    memset(text, 'x', sizeof(text));
    sl_history_init(&history, 65536);
    const struct sl_chat_message message = { .role = SL_CHAT_USER,
                                             .content = sl_slice_of(text, sizeof(text)) };
    size_t n = 0;
    while (sl_history_add(&history, &message) == SL_OK) {
        n++;
        assert_true(n < 100);
    }
    assert_true(n > 20);
    assert_int_equal(history.n_messages, n);
    sl_history_done(&history);
}

static void only_an_object_is_an_object(void **state)
{
    (void)state;
    assert_true(sl_history_is_object("{}"));
    assert_true(sl_history_is_object(" {\"a\": [1]} "));
    assert_false(sl_history_is_object("[]"));
    assert_false(sl_history_is_object("1"));
    assert_false(sl_history_is_object(""));
    assert_false(sl_history_is_object("{} x"));
    assert_false(sl_history_is_object("{\"a\":1,\"a\":2}"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_old_part_is_repaired),
        cmocka_unit_test(repairs_are_counted),
        cmocka_unit_test(the_input_is_never_lost_and_never_doubled),
        cmocka_unit_test(no_call_stays_without_result),
        cmocka_unit_test(what_is_stored_comes_before_what_is_given),
        cmocka_unit_test(whole_old_turns_are_dropped),
        cmocka_unit_test(texts_are_cleaned),
        cmocka_unit_test(its_size_is_bounded),
        cmocka_unit_test(only_an_object_is_an_object),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
