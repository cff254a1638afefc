#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/log.h"
#include "runtime/base/log_text.h"
#include "runtime/base/mem.h"

static char line[8192];
static int n_lines;

static void keep(const char *text, size_t size, void *user_data)
{
    (void)user_data;
    assert_true(size <= 4096); /* one write to a pipe */
    assert_int_equal(text[size - 1], '\n');
    assert_null(memchr(text, '\n', size - 1));
    memcpy(line, text, size - 1);
    line[size - 1] = '\0';
    n_lines++;
}

static void start(enum sl_log_level level, enum sl_log_format format)
{
    sl_log_setup(-1, level, format);
    sl_log_set_sink(keep, NULL);
    n_lines = 0;
    line[0] = '\0';
}

/* What follows the time. */
static const char *rest(void)
{
    const char *found = strstr(line, "level");
    return found == NULL ? "" : found;
}

static void a_line_is_logfmt_with_time_level_and_subject(void **state)
{
    (void)state;
    start(SL_INFO, SL_LOG_LOGFMT);
    errno = 17;
    sl_log(SL_WARN, SL_LOG_RPC, "call=%d msg=\"opened\"", 17);
    assert_int_equal(errno, 17);
    assert_string_equal(rest(), "level=warn subject=rpc call=17 msg=\"opened\"");
    assert_memory_equal(line, "ts=20", 5);
    assert_int_equal(line[strlen("ts=2026-11-22T10:00:00.123")], 'Z');
}

static int n_evaluated;

static int evaluate(void)
{
    return ++n_evaluated;
}

static void the_level_is_checked_before_the_arguments_are_evaluated(void **state)
{
    (void)state;
    start(SL_INFO, SL_LOG_LOGFMT);
    sl_log(SL_DEBUG, SL_LOG_NET, "n=%d", evaluate());
    assert_int_equal(n_evaluated, 0);
    assert_int_equal(n_lines, 0);
    start(SL_DEBUG, SL_LOG_LOGFMT);
    sl_log(SL_DEBUG, SL_LOG_NET, "n=%d", evaluate());
    assert_int_equal(n_lines, 1);
}

static void a_line_stays_one_line(void **state)
{
    (void)state;
    start(SL_INFO, SL_LOG_LOGFMT);
    sl_log(SL_INFO, SL_LOG_MAIN, "name=%s", "a\nlevel=error\x1b[31m\xff");
    assert_string_equal(rest(), "level=info subject=main name=a level=error [31m?");
}

static void quoted_values_are_escaped_and_cut_at_a_whole_escape(void **state) /* MD-6, AT-20 */
{
    (void)state;
    char room[64];
    assert_string_equal(
        sl_log_quote(sl_slice_str("a \"b\" \\ \n\x7f\xff\xE2\x82\xAC\xC2\x85"), room, sizeof(room)),
        "\"a \\\"b\\\" \\\\ \\x0A\\x7F\\xFF\xE2\x82\xAC\\xC2\\x85\"");
    assert_string_equal(sl_log_quote(sl_slice_of("a\0b", 3), room, sizeof(room)), "\"a\\x00b\"");
    assert_string_equal(sl_log_quote(sl_slice_str("abc\nd"), room, 8), "\"abc\"");
    assert_string_equal(sl_log_quote(sl_slice_str("abc\nd"), room, 10), "\"abc\\x0A\"");
    assert_string_equal(sl_log_quote(sl_slice_str("ab\xE2\x82\xAC"), room, 7), "\"ab\"");
    assert_string_equal(sl_log_quote(sl_slice_str("\xE2\xff"), room, 9), "\"\\xE2\"");
    assert_string_equal(sl_log_quote(sl_slice_str("abc"), room, 3), "\"\"");
    assert_string_equal(SL_LOG_QUOTE(sl_slice_of(NULL, 0)), "\"\"");
}

static void long_lines_are_cut_with_their_quotes_closed(void **state)
{
    (void)state;
    char text[10000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    start(SL_INFO, SL_LOG_LOGFMT);
    for (size_t size = 2900; size < 9999; size += 61) {
        sl_log_write(SL_INFO, SL_LOG_MAIN, "text=\"%.*s\\\" \\x41 %s\"", (int)size, text, text);
        const size_t n = strlen(line);
        assert_string_equal(line + n - strlen("\" cut=true"), "\" cut=true");
    }
}

/* The place behind the value in quotes that begins at `at`. */
static const char *skip_quoted(const char *at)
{
    for (at++; *at != '"'; at++) {
        at += *at == '\\' ? 1 : 0;
        assert_true(*at != '\0');
    }
    return at + 1;
}

static void a_cut_never_leaves_half_an_escape(void **state)
{
    (void)state;
    char text[4000];
    for (size_t i = 0; i < sizeof(text); i++) {
        text[i] = i % 2 == 0 ? '\\' : '"';
    }
    start(SL_INFO, SL_LOG_LOGFMT);
    for (int size = 3100; size < 3200; size++) {
        sl_log_write(SL_INFO, SL_LOG_MAIN, "t=\"%.*s", size, text);
        assert_string_equal(skip_quoted(strstr(line, "t=\"") + 2), " cut=true");
    }
}

static void json_has_the_same_members_with_their_types(void **state)
{
    (void)state;
    start(SL_INFO, SL_LOG_JSON);
    sl_log(
        SL_INFO, SL_LOG_EXEC,
        "run=%s n=%d f=1.5 neg=-3 ok=true zip=007 long=12345678901234567 dot=1. opened msg=%s e=",
        "ab12", 5, SL_LOG_QUOTE(sl_slice_str("a \"q\" \\ \n\xff\xE2\x82\xAC")));
    assert_string_equal(
        rest(),
        "level\":\"info\",\"subject\":\"exec\",\"run\":\"ab12\",\"n\":5,\"f\":1.5,\"neg\":-3,"
        "\"ok\":true,\"zip\":\"007\",\"long\":\"12345678901234567\",\"dot\":\"1.\",\"opened\":true,"
        "\"msg\":\"a \\\"q\\\" \\\\ \\u000A\\\\xFF\xE2\x82\xAC\",\"e\":\"\"}");
    assert_memory_equal(line, "{\"ts\":\"20", 9);
}

static void json_that_does_not_fit_is_cut_at_a_member(void **state)
{
    (void)state;
    char room[64];
    const struct sl_slice text =
        sl_slice_str("a=1 b=\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\" c=2");
    const size_t size = sl_log_text_to_json(text, room, sizeof(room));
    assert_true(sl_slice_equals(sl_slice_of(room, size), ",\"a\":1,\"cut\":true}"));
    const size_t fits = sl_log_text_to_json(sl_slice_str("a=1  b=2 "), room, sizeof(room));
    assert_true(sl_slice_equals(sl_slice_of(room, fits), ",\"a\":1,\"b\":2}"));
    char controls[3000];
    memset(controls, 1, sizeof(controls));
    char quoted[13000];
    start(SL_INFO, SL_LOG_JSON);
    sl_log(
        SL_INFO, SL_LOG_MAIN, "a=1 b=%s",
        sl_log_quote(sl_slice_of(controls, sizeof(controls)), quoted, sizeof(quoted)));
    assert_string_equal(line + strlen(line) - 18, ",\"a\":1,\"cut\":true}");
}

static void the_level_may_change(void **state)
{
    (void)state;
    start(SL_INFO, SL_LOG_LOGFMT);
    sl_log_set_level(SL_ERROR);
    assert_false(sl_log_is_on(SL_INFO, SL_LOG_MAIN));
    sl_log_set_level(SL_DEBUG);
    assert_true(sl_log_is_on(SL_DEBUG, SL_LOG_MAIN));
    sl_log_set_level(SL_INFO);
}

static void secrets_never_appear(void **state)
{
    (void)state;
    static const char *const secrets[] = { "hunter2-hunter2", "with \"quotes\" and \\",
                                           "line\nbreak-secret" };
    for (size_t i = 0; i < SL_COUNT(secrets); i++) {
        sl_log_add_secret(secrets[i]);
    }
    for (int i = 0; i < 2000;
         i++) { /* reloads read the same ones again: there is room for others */
        sl_log_add_secret(secrets[0]);
    }
    sl_log_add_secret("of the last reload");
    sl_log_add_secret("short"); /* too short to be searched for */
    start(SL_INFO, SL_LOG_LOGFMT);
    sl_log(SL_INFO, SL_LOG_MAIN, "a=hunter2-hunter2 b=xhunter2-hunter2x c=short");
    assert_string_equal(rest(), "level=info subject=main a=*** b=x***x c=short");
    for (size_t i = 0; i < SL_COUNT(secrets); i++) {
        char room[32];
        char long_text[300];
        sl_log(SL_INFO, SL_LOG_MAIN, "a=%s", SL_LOG_QUOTE(sl_slice_str(secrets[i])));
        assert_string_equal(rest(), "level=info subject=main a=\"***\"");
        (void)snprintf(long_text, sizeof(long_text), "0123456789012345678%s", secrets[i]);
        assert_string_equal(
            sl_log_quote(sl_slice_str(long_text), room, 26),
            "\"0123456789012345678***\""); /* cut behind it, not inside */
        (void)sl_log_quote(sl_slice_str(secrets[i]), room, sizeof(room));
        assert_string_equal(room, "\"***\"");
    }
    sl_log(SL_INFO, SL_LOG_MAIN, "a=\"of the last reload\"");
    assert_string_equal(rest(), "level=info subject=main a=\"***\"");
    /* Escaped by somebody else. */
    sl_log(SL_INFO, SL_LOG_MAIN, "a=\"with \\\"quotes\\\" and \\\\\" b=\"line\\x0Abreak-secret\"");
    assert_string_equal(rest(), "level=info subject=main a=\"***\" b=\"***\"");
    /* The beginning of one, where the text was cut. */
    char room[64];
    const size_t size = sl_log_text_scrub(sl_slice_str("x=hunter2-h"), true, room);
    assert_true(sl_slice_equals(sl_slice_of(room, size), "x=***"));
}

static void what_looks_like_a_secret_is_masked(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        { "key=sk-abcdefghijklmnopqrst", "key=***" },
        { "key=sk-proj_ABC-0123456789012345 x", "key=*** x" },
        { "key=sk-abcdefghijklmnopqrs", "key=sk-abcdefghijklmnopqrs" }, /* 19 */
        { "task-abcdefghijklmnopqrstuvwxyz", "task-abcdefghijklmnopqrstuvwxyz" },
        { "Token: Bearer abc.def-1~+/=, x", "Token: Bearer ***, x" },
        /* PM-1.1: headers that carry keys and cookies. */
        { "Authorization: Bearer abc.def-1~+/=, x", "Authorization: ***, x" },
        { "authorization:Basic abc", "authorization:***" },
        { "X-Api-Key: abc", "X-Api-Key: ***" },
        { "x-goog-api-key: abcd\nb: c", "x-goog-api-key: ***\nb: c" },
        { "{\"api-key\": \"abc\",\"b\":1}", "{\"api-key\": \"***\",\"b\":1}" },
        { "{\"api-key\":\"abc\"}", "{\"api-key\":\"***\"}" },
        { "Set-Cookie: a=b; c=d", "Set-Cookie: ***" },
        { "cookies: abc", "cookies: abc" },
        { "cookie:", "cookie:" },
        { "BEARER x bearer yy", "BEARER * bearer **" },
        { "Bearer  x", "Bearer  x" },
        { "a -----BEGIN KEY-----\\nabc\\n-----END KEY----- b", "a *** b" },
        { "a -----BEGIN KEY-----\\nabc", "a ***" },
        { "a -----END KEY-----", "a -----END KEY-----" },
    };
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        char room[128];
        const size_t size = sl_log_text_scrub(sl_slice_str(cases[i][0]), false, room);
        assert_true(sl_slice_equals(sl_slice_of(room, size), cases[i][1]));
    }
}

static void a_full_pipe_drops_lines_and_does_not_wait(void **state)
{
    (void)state;
    int fds[2];
    char text[65536];
    assert_int_equal(pipe(fds), 0); /* in blocking mode, as stderr is */
    sl_log_set_sink(NULL, NULL);
    sl_log_setup(fds[1], SL_INFO, SL_LOG_LOGFMT);
    const uint64_t before = sl_log_dropped();
    for (int i = 0; i < 5000; i++) {
        sl_log(SL_INFO, SL_LOG_MAIN, "i=%d", i);
    }
    assert_true(sl_log_dropped() > before);
    const ssize_t n = read(fds[0], text, sizeof(text));
    assert_true(n > 0);
    assert_int_equal(text[n - 1], '\n');
    sl_log(SL_INFO, SL_LOG_MAIN, "again=1");
    const ssize_t again = read(fds[0], text, sizeof(text) - 1);
    assert_true(again > 0);
    text[again] = '\0';
    assert_non_null(strstr(text, "again=1\n"));
    sl_log_setup(-1, SL_INFO, SL_LOG_LOGFMT);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

/* Every line that was begun stands at the start of a line; gives the number of those that were cut.
 */
static int count_short_lines(const char *text)
{
    int n_short = 0;
    for (const char *at = text; (at = strstr(at, "ts=")) != NULL; at++) {
        const char *end = strchr(at, '\n');
        assert_true(at == text || at[-1] == '\n');
        n_short += end != NULL && end - at < 3000 ? 1 : 0;
    }
    return n_short;
}

/* Logs through a socket with a small buffer and reads now and then; gives the number of cut lines.
 */
static int count_torn(int buffer_bytes)
{
    int fds[2];
    char text[65536];
    char filler[3000];
    size_t size = 0;
    memset(filler, 'x', sizeof(filler) - 1);
    filler[sizeof(filler) - 1] = '\0';
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(
        setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof(buffer_bytes)), 0);
    sl_log_set_sink(NULL, NULL);
    sl_log_setup(fds[1], SL_INFO, SL_LOG_LOGFMT);
    for (int i = 0; i < 15; i++) {
        sl_log_write(SL_INFO, SL_LOG_MAIN, "i=%d f=%s", i, filler);
        if (i % 5 == 4) {
            const ssize_t n = read(fds[0], text + size, sizeof(text) - 1 - size);
            assert_true(n > 0);
            size += (size_t)n;
        }
    }
    text[size] = '\0';
    sl_log_setup(-1, SL_INFO, SL_LOG_LOGFMT);
    (void)close(fds[0]);
    (void)close(fds[1]);
    return count_short_lines(text);
}

static void a_torn_line_is_ended_before_the_next(void **state)
{
    (void)state;
    int n_torn = 0;
    for (int buffer_bytes = 1000; buffer_bytes <= 12000; buffer_bytes += 200) {
        n_torn += count_torn(buffer_bytes); /* which one tears a line is the kernel's affair */
    }
    assert_true(n_torn > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_logfmt_with_time_level_and_subject),
        cmocka_unit_test(the_level_is_checked_before_the_arguments_are_evaluated),
        cmocka_unit_test(a_line_stays_one_line),
        cmocka_unit_test(quoted_values_are_escaped_and_cut_at_a_whole_escape),
        cmocka_unit_test(long_lines_are_cut_with_their_quotes_closed),
        cmocka_unit_test(a_cut_never_leaves_half_an_escape),
        cmocka_unit_test(json_has_the_same_members_with_their_types),
        cmocka_unit_test(json_that_does_not_fit_is_cut_at_a_member),
        cmocka_unit_test(the_level_may_change),
        cmocka_unit_test(secrets_never_appear),
        cmocka_unit_test(what_looks_like_a_secret_is_masked),
        cmocka_unit_test(a_full_pipe_drops_lines_and_does_not_wait),
        cmocka_unit_test(a_torn_line_is_ended_before_the_next),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
