/* A conversation as bytes: what is written comes back, and nothing else is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/exec/session_codec.h"

enum { MAX_BYTES = 1 << 20 };

static struct sl_history history;
static struct sl_buf buf;

static void add(const struct sl_chat_message *message)
{
    assert_int_equal(sl_history_add(&history, message), SL_OK);
}

/* One message of every kind, with everything that it can have. */
static void fill(void)
{
    const struct sl_chat_call calls[] = {
        { .id = "c1",
          .name = "add",
          .arguments_json = "{\"a\":1}",
          .opaque_json = "{\"s\":\"1\"}" },
        { .id = "", .name = "sub", .arguments_json = "{}" },
    };
    const struct sl_chat_message messages[] = {
        { .role = SL_CHAT_SYSTEM, .content = sl_slice_str("be kind") },
        { .role = SL_CHAT_USER, .content = sl_slice_str("h\xC3\xA4?") },
        { .role = SL_CHAT_ASSISTANT,
          .content = sl_slice_str("let me see"),
          .calls = calls,
          .n_calls = 2,
          .reasoning = sl_slice_str("hm"),
          .opaque_json = "[{\"signature\":\"abc\"}]" },
        { .role = SL_CHAT_TOOL, .content = sl_slice_str("2"), .call_id = "c1", .tool_name = "add" },
        { .role = SL_CHAT_TOOL, .content = sl_slice_str("no"), .call_id = "", .is_error = true },
        { .role = SL_CHAT_ASSISTANT },
    };
    sl_history_init(&history, MAX_BYTES);
    for (size_t i = 0; i < SL_COUNT(messages); i++) {
        add(&messages[i]);
    }
}

static void write_all(void)
{
    sl_buf_init(&buf, MAX_BYTES);
    assert_int_equal(sl_session_write(history.messages, history.n_messages, &buf), SL_OK);
}

static int close_all(void **state)
{
    (void)state;
    sl_history_done(&history);
    sl_buf_done(&buf);
    return 0;
}

static void check_texts(const char *a, const char *b)
{
    assert_int_equal(a == NULL, b == NULL);
    if (a != NULL) {
        assert_string_equal(a, b);
    }
}

static void check_same(const struct sl_chat_message *a, const struct sl_chat_message *b)
{
    assert_int_equal(a->role, b->role);
    assert_true(sl_slice_equal(a->content, b->content));
    assert_true(sl_slice_equal(a->reasoning, b->reasoning));
    check_texts(a->call_id, b->call_id);
    check_texts(a->tool_name, b->tool_name);
    check_texts(a->opaque_json, b->opaque_json);
    assert_int_equal(a->is_error, b->is_error);
    assert_int_equal(a->n_calls, b->n_calls);
    for (size_t i = 0; i < a->n_calls; i++) {
        assert_string_equal(a->calls[i].id, b->calls[i].id);
        assert_string_equal(a->calls[i].name, b->calls[i].name);
        assert_string_equal(a->calls[i].arguments_json, b->calls[i].arguments_json);
        check_texts(a->calls[i].opaque_json, b->calls[i].opaque_json);
    }
}

static void everything_comes_back(void **state)
{
    (void)state;
    struct sl_history read;
    fill();
    write_all();
    sl_history_init(&read, MAX_BYTES);
    assert_int_equal(sl_session_read(sl_buf_slice(&buf), &read), SL_OK);
    assert_int_equal(read.n_messages, history.n_messages);
    for (size_t i = 0; i < read.n_messages; i++) {
        check_same(&read.messages[i], &history.messages[i]);
    }
    assert_int_equal(sl_history_bytes(&read), sl_history_bytes(&history));
    sl_history_done(&read);
}

/* Whoever changes the form makes a new version: there are stores with this one. */
static void the_form_of_version_1_stays(void **state)
{
    (void)state;
    static const char form[] = "\x01\x03"
                               "\x01\x02hi"
                               "\x62\x00\x02{}\x01"
                               "\x01"
                               "c\x01n\x02{}\x01\x02[]"
                               "\x0F\x01r\x01"
                               "c\x01n";
    const struct sl_chat_call call = {
        .id = "c", .name = "n", .arguments_json = "{}", .opaque_json = "[]"
    };
    const struct sl_chat_message user = { .role = SL_CHAT_USER, .content = sl_slice_str("hi") };
    const struct sl_chat_message asks = {
        .role = SL_CHAT_ASSISTANT, .calls = &call, .n_calls = 1, .opaque_json = "{}"
    };
    const struct sl_chat_message result = { .role = SL_CHAT_TOOL,
                                            .content = sl_slice_str("r"),
                                            .call_id = "c",
                                            .tool_name = "n",
                                            .is_error = true };
    sl_history_init(&history, MAX_BYTES);
    add(&user);
    add(&asks);
    add(&result);
    write_all();
    assert_int_equal(buf.size, sizeof(form) - 1);
    assert_memory_equal(buf.data, form, buf.size);
}

static enum sl_status read_bytes(const void *bytes, size_t size)
{
    struct sl_history read;
    const struct sl_chat_message before = { .role = SL_CHAT_USER, .content = sl_slice_str("x") };
    sl_history_init(&read, MAX_BYTES);
    assert_int_equal(sl_history_add(&read, &before), SL_OK);
    const enum sl_status status = sl_session_read(sl_slice_of(bytes, size), &read);
    if (status != SL_OK) {
        assert_int_equal(read.n_messages, 1); /* all or none */
        assert_int_equal(sl_history_bytes(&read), 1);
    }
    sl_history_done(&read);
    return status;
}

static void a_part_of_it_is_refused(void **state)
{
    (void)state;
    fill();
    write_all();
    for (size_t size = 0; size < buf.size; size++) {
        assert_int_equal(read_bytes(buf.data, size), SL_DATA_LOSS);
    }
    assert_int_equal(sl_buf_add_byte(&buf, 0), SL_OK);
    assert_int_equal(read_bytes(buf.data, buf.size), SL_DATA_LOSS); /* something behind it */
}

/* Every byte, with every value: refused, or read as what it then says; nothing worse. */
static void damaged_bytes_do_no_harm(void **state)
{
    (void)state;
    size_t n_refused = 0;
    fill();
    write_all();
    for (size_t i = 0; i < buf.size; i++) {
        const uint8_t was = buf.data[i];
        for (unsigned value = 0; value < 256; value++) {
            buf.data[i] = (uint8_t)value;
            const enum sl_status status = read_bytes(buf.data, buf.size);
            assert_true(status == SL_OK || status == SL_DATA_LOSS || status == SL_UNIMPLEMENTED);
            n_refused += status != SL_OK;
        }
        buf.data[i] = was;
    }
    assert_true(n_refused > buf.size * 100);
}

#define CHECK(bytes, expected) assert_int_equal(read_bytes(bytes, sizeof(bytes) - 1), expected)

static void what_nobody_writes_is_refused(void **state)
{
    (void)state;
    CHECK("\x01\x00", SL_OK);
    CHECK("\x00\x00", SL_DATA_LOSS);
    CHECK("\x02\x00", SL_UNIMPLEMENTED); /* a newer version */
    CHECK("\x01\x80\x00", SL_DATA_LOSS); /* not the shortest form */
    CHECK("\x01\xFF\xFF\xFF\xFF\x7F", SL_DATA_LOSS);
    CHECK("\x01\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", SL_DATA_LOSS);
    CHECK("\x01\x01\x01\x01\xFF", SL_DATA_LOSS);                        /* not UTF-8 */
    CHECK("\x01\x01\x01\x01\x00", SL_DATA_LOSS);                        /* NUL */
    CHECK("\x01\x01\x80\x00", SL_DATA_LOSS);                            /* an unknown flag */
    CHECK("\x01\x01\x05\x00", SL_DATA_LOSS);                            /* a user's error */
    CHECK("\x01\x01\x12\x00\x00", SL_DATA_LOSS);                        /* no reasoning */
    CHECK("\x01\x01\x42\x00\x00", SL_DATA_LOSS);                        /* no calls */
    CHECK("\x01\x01\x42\x00\x01\x00\x00\x02[]\x00", SL_DATA_LOSS);      /* arguments: no object */
    CHECK("\x01\x01\x42\x00\x01\x00\x00\x02{}\x02", SL_DATA_LOSS);      /* neither 0 nor 1 */
    CHECK("\x01\x01\x42\x00\x01\x00\x00\x02{}\x01\x01{", SL_DATA_LOSS); /* no JSON */
    CHECK("\x01\x01\x22\x00\x01{", SL_DATA_LOSS);
    CHECK("\x01\x01\x42\x00\x01\x00\x00\x02{}\x00", SL_OK);
    CHECK("\x01\x01\x03\x00\x00", SL_OK);
}

static void it_is_not_larger_than_it_may_be(void **state)
{
    (void)state;
    fill();
    write_all();
    struct sl_buf small;
    sl_buf_init(&small, buf.size - 1);
    assert_int_equal(
        sl_session_write(history.messages, history.n_messages, &small), SL_RESOURCE_EXHAUSTED);
    sl_buf_done(&small);
    struct sl_history narrow;
    sl_history_init(&narrow, 64);
    assert_int_equal(sl_session_read(sl_buf_slice(&buf), &narrow), SL_RESOURCE_EXHAUSTED);
    assert_int_equal(narrow.n_messages, 0);
    sl_history_done(&narrow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(everything_comes_back, close_all),
        cmocka_unit_test_teardown(the_form_of_version_1_stays, close_all),
        cmocka_unit_test_teardown(a_part_of_it_is_refused, close_all),
        cmocka_unit_test_teardown(damaged_bytes_do_no_harm, close_all),
        cmocka_unit_test(what_nobody_writes_is_refused),
        cmocka_unit_test_teardown(it_is_not_larger_than_it_may_be, close_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
