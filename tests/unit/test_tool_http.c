#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "tests/fake/tool_http.h"
#include "tests/fake/tool_rig.h"

static struct sl_tool_rig rig;
static struct sl_tool_try try;

static int set_up(void **state)
{
    (void)state;
    memset(&sl_fake_http, 0, sizeof sl_fake_http);
    sl_tool_rig_init(
        &rig, NULL,
        "tools: {http_request: {allow_hosts: [a.test, b.test, '*.c.test', '127.0.0.1:81'], "
        "max_body: 100KiB}}");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sl_tool_try_done(&try);
    sl_tool_rig_done(&rig);
    assert_int_equal(sl_fake_http.n_open, 0);
    return 0;
}

static void request(const struct sl_fake_answer *answers, size_t n, const char *arguments)
{
    sl_tool_try_done(&try);
    memset(&sl_fake_http, 0, sizeof sl_fake_http);
    sl_fake_http.answers = answers;
    sl_fake_http.n_answers = n;
    sl_tool_rig_call(&rig, &try, "- http_request", arguments);
}

#define HEADERS(index) sl_fake_http.requests[index].headers

static void an_answer_comes_back_as_json(void **state)
{
    (void)state;
    static const struct sl_fake_answer answer = { .status = 200, .body = "hello" };
    request(&answer, 1, "{\"url\":\"https://A.test/x\",\"headers\":{\"X-Key\":\"v\"}}");
    assert_int_equal(try.code, SL_TOOL_OK);
    assert_string_equal(
        try.json,
        "{\"status\":200,\"headers\":{\"content-type\":\"text/plain\"},\"body\":\"hello\"}");
    assert_string_equal(sl_fake_http.requests[0].method, "GET");
    assert_string_equal(sl_fake_http.requests[0].url, "https://a.test/x");
    assert_string_equal(HEADERS(0), "X-Key: v\nIdempotency-Key: run1:call1\n");
    assert_int_equal(try.result_bytes, 5);
}

static void a_bad_status_is_a_failure_with_its_body(void **state)
{
    (void)state;
    static const struct sl_fake_answer answer = { .status = 404, .body = "no" };
    request(&answer, 1, "{\"url\":\"https://a.test/\",\"method\":\"POST\",\"body\":\"x=1\"}");
    assert_int_equal(try.code, SL_TOOL_HTTP_ERROR);
    assert_string_equal(try.error, "HTTP status 404");
    assert_non_null(strstr(try.json, "\"body\":\"no\""));
    assert_string_equal(sl_fake_http.requests[0].body, "x=1");
}

static void each_end_of_a_transfer_has_its_code(void **state)
{
    (void)state;
    static const struct {
        enum sl_http_end end;
        enum sl_tool_code code;
    } table[] = {
        { SL_HTTP_UNREACHABLE, SL_TOOL_HTTP_ERROR }, { SL_HTTP_TLS, SL_TOOL_HTTP_ERROR },
        { SL_HTTP_TIMEOUT, SL_TOOL_TIMEOUT },        { SL_HTTP_TRUNCATED, SL_TOOL_HTTP_ERROR },
        { SL_HTTP_LIMIT, SL_TOOL_OUTPUT_LIMIT },     { SL_HTTP_DENIED, SL_TOOL_DENIED },
        { SL_HTTP_FAILED, SL_TOOL_HTTP_ERROR }
    };
    for (size_t i = 0; i < SL_COUNT(table); i++) {
        const struct sl_fake_answer answer = { .end = table[i].end };
        request(&answer, 1, "{\"url\":\"https://a.test/\"}");
        assert_int_equal(try.code, table[i].code);
        assert_true(try.error[0] != '\0');
    }
}

/* AL-6.2 */
static void a_busy_server_is_asked_again_when_idempotent(void **state)
{
    (void)state;
    static const struct sl_fake_answer answers[] = { { .status = 503 }, { .status = 200 } };
    sl_fake_http.answers = answers;
    sl_fake_http.n_answers = 2;
    sl_tool_rig_call(
        &rig, &try, "- {name: http_request, idempotent: true}", "{\"url\":\"https://a.test/\"}");
    assert_int_equal(try.code, SL_TOOL_OK);
    assert_int_equal(try.attempts, 2);
    assert_string_equal(HEADERS(0), HEADERS(1));
}

static void no_list_of_hosts_means_no_request(void **state)
{
    (void)state;
    struct sl_tool_rig other;
    sl_tool_rig_init(&other, NULL, NULL);
    sl_tool_rig_call(&other, &try, "- http", "{\"url\":\"https://a.test/\"}");
    assert_int_equal(try.code, SL_TOOL_DENIED);
    assert_non_null(strstr(try.error, "allow_hosts"));
    sl_tool_rig_done(&other);
    assert_int_equal(sl_fake_http.n_requests, 0);
}

/* Reliability 8.4 */
static void hosts_and_addresses_are_guarded(void **state)
{
    (void)state;
    static const struct sl_fake_answer inside = { .status = 200, .address = "169.254.169.254" };
    request(&inside, 1, "{\"url\":\"https://a.test/\"}");
    assert_int_equal(try.code, SL_TOOL_DENIED);
    static const char *const bad[] = { "https://d.test/", "https://c.test/", "http://a.test/",
                                       "https://127.0.0.1:81/", "https://a.test:81/" };
    for (size_t i = 0; i < SL_COUNT(bad); i++) {
        char arguments[128];
        (void)snprintf(arguments, sizeof arguments, "{\"url\":\"%s\"}", bad[i]);
        request(&inside, 1, arguments);
        assert_int_equal(try.code, SL_TOOL_DENIED);
        assert_int_equal(sl_fake_http.n_requests, 0);
    }
}

static void an_entry_can_only_narrow_the_list(void **state)
{
    (void)state;
    static const struct sl_fake_answer answer = { .status = 200 };
    static const char entry[] = "- {name: http_request, config: {allow_hosts: [b.test, d.test]}}";
    static const struct {
        const char *arguments;
        enum sl_tool_code code;
    } table[] = { { "{\"url\":\"https://b.test/\"}", SL_TOOL_OK },
                  { "{\"url\":\"https://a.test/\"}", SL_TOOL_DENIED },
                  { "{\"url\":\"https://d.test/\"}", SL_TOOL_DENIED } };
    sl_fake_http.answers = &answer;
    sl_fake_http.n_answers = 1;
    for (size_t i = 0; i < SL_COUNT(table); i++) {
        sl_tool_try_done(&try);
        sl_tool_rig_call(&rig, &try, entry, table[i].arguments);
        assert_int_equal(try.code, table[i].code);
    }
}

static void bad_urls_and_headers_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{}",
        "{\"url\":\"\"}",
        "{\"url\":\"ftp://a.test/\"}",
        "{\"url\":\"https://u@a.test/\"}",
        "{\"url\":\"https://a.test/\",\"method\":\"TRACE\"}",
        "{\"url\":\"https://a.test/\",\"headers\":{\"Host\":\"b.test\"}}",
        "{\"url\":\"https://a.test/\",\"headers\":{\"a b\":\"c\"}}",
        "{\"url\":\"https://a.test/\",\"headers\":{\"\":\"c\"}}",
        "{\"url\":\"https://a.test/\",\"headers\":{\"a\":\"b\\r\\nc: d\"}}",
        "{\"url\":\"https://a.test/\",\"headers\":{\"idempotency-key\":\"1\"}}",
        "{\"url\":\"https://a.test/\",\"headers\":{\"Proxy-Authorization\":\"1\"}}",
    };
    static const struct sl_fake_answer answer = { .status = 200 };
    for (size_t i = 0; i < SL_COUNT(bad); i++) {
        request(&answer, 1, bad[i]);
        if (try.code != SL_TOOL_INVALID_ARGS) {
            fail_msg("%s: %s", bad[i], sl_tool_code_name(try.code));
        }
        assert_int_equal(sl_fake_http.n_requests, 0);
    }
}

/* Reliability 8.4 */
static void redirects_are_followed_three_times(void **state)
{
    (void)state;
    static const struct sl_fake_answer answers[] = { { .status = 302, .location = "/2" },
                                                     { .status = 307, .location = "3" },
                                                     { .status = 308, .location = "?4" },
                                                     { .status = 200, .body = "end" } };
    request(answers, 4, "{\"url\":\"https://a.test/1\"}");
    assert_int_equal(try.code, SL_TOOL_OK);
    assert_non_null(strstr(try.json, "\"url\":\"https://a.test/3?4\""));
    static const struct sl_fake_answer circle = { .status = 302, .location = "/" };
    request(&circle, 1, "{\"url\":\"https://a.test/\"}");
    assert_int_equal(try.code, SL_TOOL_HTTP_ERROR);
    assert_int_equal(sl_fake_http.n_requests, 4);
}

/* Reliability 8.4 */
static void a_redirect_is_checked_like_the_first_request(void **state)
{
    (void)state;
    static const char *const bad[] = { "https://evil.test/", "http://a.test/",
                                       "https://169.254.169.254/", "//127.0.0.1/" };
    for (size_t i = 0; i < SL_COUNT(bad); i++) {
        const struct sl_fake_answer answer = { .status = 302, .location = bad[i] };
        request(&answer, 1, "{\"url\":\"https://a.test/\"}");
        assert_int_equal(try.code, SL_TOOL_DENIED);
        assert_int_equal(sl_fake_http.n_requests, 1);
    }
    static const struct sl_fake_answer odd = { .status = 302, .location = "https://u@b.test/" };
    request(&odd, 1, "{\"url\":\"https://a.test/\"}");
    assert_int_equal(try.code, SL_TOOL_HTTP_ERROR);
}

/* Reliability 8.4 */
static void credentials_do_not_follow_to_another_host(void **state)
{
    (void)state;
    static const struct sl_fake_answer answers[] = {
        { .status = 307, .location = "/same" },
        { .status = 307, .location = "https://b.test/" },
        { .status = 307, .location = "https://a.test/back" },
        { .status = 200 },
    };
    request(
        answers, 4,
        "{\"url\":\"https://a.test/\",\"method\":\"PUT\",\"body\":\"b\",\"headers\":{"
        "\"Authorization\":\"s\",\"X-Api-Key\":\"s\",\"Accept\":\"text/*\",\"Content-Type\":\"a/"
        "b\"}}");
    assert_int_equal(try.code, SL_TOOL_OK);
    assert_non_null(strstr(HEADERS(1), "Authorization: s\n"));
    assert_string_equal(HEADERS(2), "Accept: text/*\nContent-Type: a/b\n");
    assert_string_equal(HEADERS(3), HEADERS(2)); /* and they do not come back */
    assert_string_equal(sl_fake_http.requests[3].method, "PUT");
    assert_string_equal(sl_fake_http.requests[3].body, "b");
}

static void a_redirected_post_becomes_a_get(void **state)
{
    (void)state;
    static const struct sl_fake_answer answers[] = { { .status = 303, .location = "/2" },
                                                     { .status = 200 } };
    request(
        answers, 2,
        "{\"url\":\"https://a.test/\",\"method\":\"POST\",\"body\":\"b\",\"headers\":{"
        "\"Content-Type\":\"a/b\"}}");
    assert_string_equal(sl_fake_http.requests[1].method, "GET");
    assert_string_equal(sl_fake_http.requests[1].body, "");
    assert_string_equal(HEADERS(1), "Idempotency-Key: run1:call1\n");
}

static void a_large_body_is_cut_and_a_larger_one_refused(void **state)
{
    (void)state;
    static char block[1025];
    memset(block, 'x', 1024);
    const struct sl_fake_answer large = { .status = 200, .body = block, .body_repeats = 98 };
    request(&large, 1, "{\"url\":\"https://a.test/\"}");
    assert_int_equal(try.code, SL_TOOL_OK);
    assert_true(try.is_truncated);
    assert_int_equal(try.result_bytes, 99 * 1024);
    assert_non_null(strstr(try.json, "bytes omitted"));
    assert_true(strlen(try.json) < 66000);
    const struct sl_fake_answer larger = { .status = 200, .body = block, .body_repeats = 200 };
    request(&larger, 1, "{\"url\":\"https://a.test/\"}");
    assert_int_equal(try.code, SL_TOOL_OUTPUT_LIMIT);
}

static void a_cancel_closes_the_transfer(void **state)
{
    (void)state;
    static const struct sl_fake_answer silent = { .hangs = true };
    sl_fake_http.answers = &silent;
    sl_fake_http.n_answers = 1;
    struct sl_tool *tool = sl_tool_rig_tool(&rig, "- http_request");
    sl_tool_rig_start(&rig, &try, tool, "{\"url\":\"https://a.test/\"}");
    (void)sl_tool_unref(tool);
    sl_loop_uv_step(rig.uv, 0);
    assert_int_equal(sl_fake_http.n_open, 1);
    sl_tool_call_cancel(try.call);
    assert_int_equal(sl_fake_http.n_open, 0);
    sl_tool_rig_finish(&rig, &try);
    assert_int_equal(try.code, SL_TOOL_CANCELLED);
}

static void a_silent_server_times_out(void **state)
{
    (void)state;
    static const struct sl_fake_answer silent = { .hangs = true };
    sl_fake_http.answers = &silent;
    sl_fake_http.n_answers = 1;
    sl_tool_rig_call(
        &rig, &try, "- {name: http_request, timeout_secs: 1}", "{\"url\":\"https://a.test/\"}");
    assert_int_equal(try.code, SL_TOOL_TIMEOUT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_answer_comes_back_as_json),
        TEST(a_bad_status_is_a_failure_with_its_body),
        TEST(each_end_of_a_transfer_has_its_code),
        TEST(a_busy_server_is_asked_again_when_idempotent),
        TEST(no_list_of_hosts_means_no_request),
        TEST(hosts_and_addresses_are_guarded),
        TEST(an_entry_can_only_narrow_the_list),
        TEST(bad_urls_and_headers_are_refused),
        TEST(redirects_are_followed_three_times),
        TEST(a_redirect_is_checked_like_the_first_request),
        TEST(credentials_do_not_follow_to_another_host),
        TEST(a_redirected_post_becomes_a_get),
        TEST(a_large_body_is_cut_and_a_larger_one_refused),
        TEST(a_cancel_closes_the_transfer),
        TEST(a_silent_server_times_out),
    };
    return cmocka_run_group_tests_name("tool_http", tests, NULL, NULL);
}
