/* Rules for the use of nghttp2 that no other test reaches: what it does not send, streams that are
 * over, and streams behind the last GOAWAY. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/log.h"
#include "service/h2/session_impl.h"
#include "tests/unit/test_h2_rig.h"

static uint8_t text[1 << 17];
static size_t n_late, n_taken; /* streams that do_everything() saw, and what was done for it */

static int set_up(void **state)
{
    memset(text, 'a', sizeof(text));
    n_late = n_taken = 0;
    return pair_set_up(state);
}

static int tear_down(void **state)
{
    sl_log_set_sink(NULL, NULL);
    return pair_tear_down(state);
}

/* ---- NG-11 ----------------------------------------------------------------------------------- */

static void keep_line(const char *line, size_t size, void *user_data)
{
    assert_true(size < 512);
    memcpy(user_data, line, size);
    ((char *)user_data)[size] = '\0';
}

/* RS-9 keeps such a list from nghttp2, so it is given by hand. */
static void headers_that_are_not_sent_reset_the_stream(void **state) /* NG-11 */
{
    struct pair *pair = *state;
    static char line[512];
    start(pair);
    (void)open_stream(pair, NULL);
    (void)h2_transcript(pair->client);
    sl_log_setup(-1, SL_INFO, SL_LOG_LOGFMT);
    sl_log_set_sink(keep_line, line);
    uint8_t name[] = ":status", value[] = "200", long_name[] = "x";
    const nghttp2_nv fields[] = {
        { .name = name, .namelen = 7, .value = value, .valuelen = 3 },
        { .name = long_name, .namelen = 1, .value = text, .valuelen = 70000 },
    };
    assert_int_equal(
        nghttp2_submit_headers(
            pair->server->session->ng, NGHTTP2_FLAG_END_STREAM, 1, NULL, fields, 2, NULL),
        0);
    h2_pump(pair->server, pair->client, 0);
    assert_string_equal(h2_transcript(pair->client), "1 closed reset 2\n");
    assert_int_equal(pair->server->n_closed, 1);
    assert_non_null(strstr(line, "level=warn subject=h2 "));
    assert_non_null(strstr(line, " stream=1 "));
}

static void the_largest_list_is_sent(void **state) /* NG-11, RS-9 */
{
    struct pair *pair = *state;
    pair->client->limits.header_list_soft = 65536;
    pair->client->limits.header_list_hard = 131072;
    start(pair);
    (void)open_stream(pair, NULL);
    const size_t most = SL_H2_LIST_MAX - (7 + 3 + 32) - (1 + 32);
    struct sl_h2_header fields[] = {
        response[0], { .name = sl_slice_str("x"), .value = sl_slice_of(text, most + 1) }
    };
    struct sl_h2_stream *stream = pair->server->streams[0];
    pair->client->is_silent = true;
    assert_int_equal(sl_h2_stream_respond(stream, fields, 2, NULL), SL_RESOURCE_EXHAUSTED);
    fields[1].value.size = most;
    assert_int_equal(sl_h2_stream_respond(stream, fields, 2, NULL), SL_OK);
    h2_pump(pair->server, pair->client, 0);
    assert_int_equal(pair->client->n_headers, 1);
    assert_int_equal(pair->client->n_ends, 1);
}

/* ---- NG-16 ----------------------------------------------------------------------------------- */

/* What an owner may try on a stream that is over. */
static void do_everything(struct h2_side *side, struct sl_h2_stream *stream)
{
    static struct h2_body late;
    (void)side;
    n_late++;
    h2_body_init(&late, "late", 4, true);
    n_taken += sl_h2_stream_respond(stream, response, 1, &late.base) != SL_CANCELLED;
    n_taken += sl_h2_stream_abort(stream, end_fields, 1) != SL_CANCELLED;
    sl_h2_stream_resume(stream);
    sl_h2_stream_reset(stream, SL_H2_CANCEL);
}

static void assert_late(struct pair *pair, size_t n)
{
    assert_int_equal(n_late, n);
    assert_int_equal(n_taken, 0);
    assert_int_equal(h2_side_pull(pair->server), 0);
    assert_null(sl_h2_session_fault(pair->server->session));
}

static void nothing_is_submitted_on_a_stream_that_was_reset(void **state) /* NG-16 */
{
    struct pair *pair = *state;
    start(pair);
    struct sl_h2_stream *stream = open_stream(pair, NULL);
    pair->server->on_closed = do_everything;
    sl_h2_stream_reset(stream, SL_H2_CANCEL);
    const size_t n = h2_side_pull(pair->client);
    assert_int_equal(h2_side_feed(pair->server, pair->client->room, n), SL_OK);
    assert_late(pair, 1);
}

static void nothing_is_submitted_on_a_stream_that_is_done(void **state) /* NG-16 */
{
    struct pair *pair = *state;
    start(pair);
    (void)open_stream(pair, NULL);
    pair->server->on_closed = do_everything;
    assert_int_equal(sl_h2_stream_respond(pair->server->streams[0], response, 1, NULL), SL_OK);
    assert_true(h2_side_pull(pair->server) > 0);
    assert_late(pair, 1);
}

static void nothing_is_submitted_on_streams_that_were_lost(void **state) /* NG-16, NG-19 */
{
    struct pair *pair = *state;
    start(pair);
    (void)open_stream(pair, NULL);
    (void)open_stream(pair, NULL);
    pair->server->on_closed = do_everything;
    sl_h2_session_lost(pair->server->session);
    assert_late(pair, 2);
}

static void a_session_that_wants_nothing_wants_to_be_closed(void **state) /* NG-16 */
{
    struct pair *pair = *state;
    start(pair);
    (void)open_stream(pair, NULL);
    sl_h2_session_goaway(pair->server->session, false, SL_H2_NO_ERROR, "drain");
    assert_false(sl_h2_session_wants_close(pair->server->session));
    h2_pump(pair->server, pair->client, 0);
    assert_false(sl_h2_session_wants_close(pair->server->session));
    assert_int_equal(sl_h2_stream_respond(pair->server->streams[0], response, 1, NULL), SL_OK);
    assert_false(sl_h2_session_wants_close(pair->server->session));
    h2_pump(pair->server, pair->client, 0);
    assert_true(sl_h2_session_wants_close(pair->server->session));
}

/* ---- ADM-8 ----------------------------------------------------------------------------------- */

static void streams_above_the_announced_id_are_ignored(void **state) /* ADM-8, RT-4 */
{
    struct pair *pair = *state;
    struct sl_h2_stream *late = NULL;
    start(pair);
    (void)open_stream(pair, NULL);
    sl_h2_session_goaway(pair->server->session, false, SL_H2_NO_ERROR, "drain");
    assert_true(h2_side_pull(pair->server) > 0); /* on its way while the client goes on */
    assert_int_equal(
        sl_h2_request(pair->client->session, request, SL_COUNT(request), NULL, NULL, &late), SL_OK);
    h2_pump(pair->client, pair->server, 0);
    assert_int_equal(pair->server->n_headers, 1);
    assert_int_equal(pair->client->n_closed, 0); /* no answer of any kind */
    assert_int_equal(sl_h2_stream_respond(pair->server->streams[0], response, 1, NULL), SL_OK);
    (void)h2_transcript(pair->client);
    h2_pump(pair->server, pair->client, 0);
    assert_string_equal(
        h2_transcript(pair->client), "1 response :status=200 end\n1 end\n1 closed done 0\n");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(headers_that_are_not_sent_reset_the_stream),
        CASE(the_largest_list_is_sent),
        CASE(nothing_is_submitted_on_a_stream_that_was_reset),
        CASE(nothing_is_submitted_on_a_stream_that_is_done),
        CASE(nothing_is_submitted_on_streams_that_were_lost),
        CASE(a_session_that_wants_nothing_wants_to_be_closed),
        CASE(streams_above_the_announced_id_are_ignored),
    };
    return cmocka_run_group_tests_name("h2_rules", tests, NULL, NULL);
}
