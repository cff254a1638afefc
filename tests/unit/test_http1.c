#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "service/gateway/http1.h"

static const char plain[] = "POST /v1/chat HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
static const char chunked[] = "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
                              "3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\nX: y\r\n\r\n";
static const char bare[] = "\r\nGET / HTTP/1.0\nA:  b \t\n\n";

/* Feeds in pieces of `step`; gives the last status. */
static enum sl_status feed(struct sl_http1 *http1, const char *text, size_t size, size_t step)
{
    struct sl_error err;
    enum sl_status status = SL_AGAIN;
    for (size_t at = 0; at < size && status == SL_AGAIN;) {
        const size_t n = size - at < step ? size - at : step;
        size_t taken;
        status = sl_http1_feed(http1, sl_slice_of(text + at, n), &taken, &err);
        at += n;
    }
    return status;
}

static void a_request_reads_the_same_in_every_split(void **state)
{
    static const char *const texts[] = { plain, chunked };
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        for (size_t step = 1; step <= strlen(texts[i]); step++) {
            struct sl_http1 http1;
            sl_http1_init(&http1, 100);
            assert_int_equal(feed(&http1, texts[i], strlen(texts[i]), step), SL_OK);
            assert_true(sl_slice_equals(http1.request.method, "POST"));
            assert_true(sl_slice_equals(http1.request.body, "hello"));
            assert_true(http1.request.keeps_alive);
            sl_http1_done(&http1);
        }
    }
}

static void every_truncated_request_asks_for_more(void **state)
{
    (void)state;
    for (size_t size = 1; size < strlen(chunked); size++) {
        struct sl_http1 http1;
        sl_http1_init(&http1, 100);
        assert_int_equal(feed(&http1, chunked, size, 7), SL_AGAIN);
        sl_http1_done(&http1);
    }
}

static void the_first_empty_line_ends_the_head(void **state)
{
    static const char *const ends[] = { "\r\n\r\n", "\n\n", "\n\r\n", "\r\n\n" };
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct sl_http1 http1;
        char text[100];
        (void)snprintf(
            text, sizeof(text), "POST / HTTP/1.1\r\nContent-Length: 9%sA: b\r\n\r\nx", ends[i]);
        sl_http1_init(&http1, 100);
        assert_int_equal(feed(&http1, text, strlen(text), 1), SL_OK);
        assert_true(sl_slice_equals(http1.request.body, "A: b\r\n\r\nx"));
        sl_http1_done(&http1);
    }
}

static void bare_line_feeds_and_old_versions_are_read(void **state)
{
    struct sl_http1 http1;
    struct sl_slice value;
    (void)state;
    sl_http1_init(&http1, 100);
    assert_int_equal(feed(&http1, bare, strlen(bare), 100), SL_OK);
    assert_false(http1.request.keeps_alive);
    assert_true(sl_http1_field(&http1.request, "a", &value));
    assert_true(sl_slice_equals(value, "b"));
    sl_http1_done(&http1);
}

static void two_requests_in_one_read_come_one_by_one(void **state)
{
    struct sl_http1 http1;
    struct sl_error err;
    size_t taken;
    char both[256];
    (void)state;
    const size_t one = strlen(plain);
    assert_int_equal(snprintf(both, sizeof(both), "%s%s", plain, plain), 2 * one);
    sl_http1_init(&http1, 100);
    assert_int_equal(sl_http1_feed(&http1, sl_slice_of(both, 2 * one), &taken, &err), SL_OK);
    assert_int_equal(taken, one);
    sl_http1_next(&http1);
    assert_int_equal(sl_http1_feed(&http1, sl_slice_of(both + taken, one), &taken, &err), SL_OK);
    assert_true(sl_slice_equals(http1.request.body, "hello"));
    sl_http1_done(&http1);
}

static void what_two_parsers_could_read_differently_is_refused(void **state)
{
    static const struct {
        const char *text;
        enum sl_status status;
    } cases[] = {
        { "GET  / HTTP/1.1\r\n\r\n", SL_INVALID_ARGUMENT },
        { "GET / HTTP/2.0\r\n\r\n", SL_INVALID_ARGUMENT },
        { "GET / HTTP/1.1\r\nA : b\r\n\r\n", SL_INVALID_ARGUMENT },
        { "GET / HTTP/1.1\r\n folded\r\n\r\n", SL_INVALID_ARGUMENT },
        { "GET / HTTP/1.1\r\nA: b\x01\r\n\r\n", SL_INVALID_ARGUMENT },
        { "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", SL_INVALID_ARGUMENT },
        { "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
          SL_INVALID_ARGUMENT },
        { "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", SL_INVALID_ARGUMENT },
        { "GET / HTTP/1.1\r\nContent-Length: 101\r\n\r\n", SL_RESOURCE_EXHAUSTED },
        { "GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", SL_UNIMPLEMENTED },
        { "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", SL_INVALID_ARGUMENT },
        { "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", SL_INVALID_ARGUMENT },
        { "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\n", SL_INVALID_ARGUMENT },
        { "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n", SL_RESOURCE_EXHAUSTED },
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sl_http1 http1;
        sl_http1_init(&http1, 100);
        assert_int_equal(feed(&http1, cases[i].text, strlen(cases[i].text), 1), cases[i].status);
        sl_http1_done(&http1);
    }
}

static void an_endless_head_is_cut_at_its_limit(void **state)
{
    struct sl_http1 http1;
    struct sl_error err;
    size_t taken;
    char block[1024];
    enum sl_status status = SL_AGAIN;
    (void)state;
    memset(block, 'a', sizeof(block));
    sl_http1_init(&http1, 100);
    for (size_t i = 0; i <= SL_HTTP1_HEAD_BYTES / sizeof(block) && status == SL_AGAIN; i++) {
        status = sl_http1_feed(&http1, sl_slice_of(block, sizeof(block)), &taken, &err);
    }
    assert_int_equal(status, SL_RESOURCE_EXHAUSTED);
    sl_http1_done(&http1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_reads_the_same_in_every_split),
        cmocka_unit_test(every_truncated_request_asks_for_more),
        cmocka_unit_test(the_first_empty_line_ends_the_head),
        cmocka_unit_test(bare_line_feeds_and_old_versions_are_read),
        cmocka_unit_test(two_requests_in_one_read_come_one_by_one),
        cmocka_unit_test(what_two_parsers_could_read_differently_is_refused),
        cmocka_unit_test(an_endless_head_is_cut_at_its_limit),
    };
    return cmocka_run_group_tests_name("http1", tests, NULL, NULL);
}
