#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/test_h2_rig.h"

static const struct sl_h2_header abort_fields[] = { FIELD("grpc-status", "4") };

static void respond(struct sl_h2_stream *stream, struct h2_body *body)
{
    body->trailers = end_fields;
    body->n_trailers = 1;
    assert_int_equal(sl_h2_stream_respond(stream, response, 1, &body->base), SL_OK);
}

/* ---- Calls in order -------------------------------------------------------------------------- */

static void call_in_steps(struct pair *pair, size_t step)
{
    struct h2_body question;
    struct h2_body answer;
    start(pair);
    h2_body_init(&question, "ask", 3, true);
    h2_body_init(&answer, "reply", 5, true);
    struct sl_h2_stream *stream = NULL;
    assert_int_equal(
        sl_h2_request(pair->client->session, request, 4, &question.base, NULL, &stream), SL_OK);
    h2_pump(pair->client, pair->server, step);
    assert_string_equal(
        h2_transcript(pair->server),
        "1 request :method=POST :scheme=http :path=/a.B/C :authority=x\n"
        "1 data ask\n1 end\n");
    respond(pair->server->streams[0], &answer);
    h2_pump(pair->server, pair->client, step);
    assert_string_equal(h2_transcript(pair->server), "1 sent\n1 closed done 0\n");
    assert_string_equal(
        h2_transcript(pair->client),
        "1 sent\n1 response :status=200\n1 data reply\n1 trailers grpc-status=0 end\n1 end\n"
        "1 closed done 0\n");
    assert_int_equal(sl_h2_session_n_streams(pair->client->session), 0);
    assert_int_equal(sl_h2_session_n_streams(pair->server->session), 0);
}

static void a_call_goes_through(void **state)
{
    call_in_steps(*state, 0);
}

static void byte_by_byte_is_the_same(void **state)
{
    struct pair *pair = *state;
    h2_side_start(pair->client, true);
    h2_side_start(pair->server, false);
    h2_pump(pair->client, pair->server, 1);
    pair->client->session = sl_h2_session_free(pair->client->session);
    pair->server->session = sl_h2_session_free(pair->server->session);
    call_in_steps(pair, 1);
}

static void trailers_only_ends_at_once(void **state)
{
    struct pair *pair = *state;
    start(pair);
    (void)open_stream(pair, NULL);
    (void)h2_transcript(pair->server);
    assert_int_equal(sl_h2_stream_respond(pair->server->streams[0], response, 1, NULL), SL_OK);
    const size_t n = h2_side_pull(pair->server);
    assert_int_equal(h2_count_frames(pair->server->room, n, 0), 0);
    assert_int_equal(h2_count_frames(pair->server->room, n, 1), 1);
    assert_string_equal(h2_transcript(pair->server), "1 sent\n1 closed done 0\n");
}

/* NG-12, RS-7: the trailers leave, then RST_STREAM(NO_ERROR), and both sides call it done. */
static void an_early_end_resets_the_rest_of_the_request(void **state)
{
    struct pair *pair = *state;
    struct h2_body question;
    start(pair);
    h2_body_init(&question, "x", 1, false);
    (void)open_stream(pair, &question);
    (void)h2_transcript(pair->server);
    assert_int_equal(sl_h2_stream_respond(pair->server->streams[0], response, 1, NULL), SL_OK);
    h2_pump(pair->server, pair->client, 0);
    assert_string_equal(h2_transcript(pair->server), "1 sent\n1 closed done 0\n");
    assert_string_equal(
        h2_transcript(pair->client), "1 response :status=200 end\n1 end\n1 closed reset 0\n");
}

static void many_streams_share_one_pull(void **state)
{
    struct pair *pair = *state;
    struct h2_body bodies[32];
    start(pair);
    for (size_t i = 0; i < SL_COUNT(bodies); i++) {
        (void)open_stream(pair, NULL);
    }
    for (size_t i = 0; i < SL_COUNT(bodies); i++) {
        h2_body_init(&bodies[i], "0123456789", 10, true);
        respond(pair->server->streams[i], &bodies[i]);
    }
    const size_t n = h2_side_pull(pair->server);
    assert_int_equal(h2_count_frames(pair->server->room, n, 0), SL_COUNT(bodies));
    assert_int_equal(h2_count_frames(pair->server->room, n, 1), 2 * SL_COUNT(bodies));
    assert_int_equal(h2_side_pull(pair->server), 0);
}

/* R8: no DATA item and no question more than one before the body is resumed. */
static void an_idle_body_is_left_alone_until_it_is_resumed(void **state)
{
    struct pair *pair = *state;
    struct h2_body answer;
    start(pair);
    (void)open_stream(pair, NULL);
    h2_body_init(&answer, "abcdef", 0, false);
    respond(pair->server->streams[0], &answer);
    h2_pump(pair->server, pair->client, 0);
    const size_t n_asked = answer.n_asked;
    assert_int_equal(h2_side_pull(pair->server), 0);
    assert_int_equal(answer.n_asked, n_asked);
    for (size_t i = 1; i <= 6; i++) {
        const size_t n_output = pair->server->n_output;
        answer.size = i;
        answer.is_ended = i == 6;
        sl_h2_stream_resume(pair->server->streams[0]);
        sl_h2_stream_resume(pair->server->streams[0]);
        assert_int_equal(pair->server->n_output, n_output + 1);
        h2_pump(pair->server, pair->client, 0);
    }
    assert_string_equal(
        h2_transcript(pair->client), "1 sent\n1 response :status=200\n1 data abcdef\n"
                                     "1 trailers grpc-status=0 end\n1 end\n1 closed done 0\n");
}

/* RS-8: an end without bytes gives trailers and no empty DATA. */
static void a_body_that_ends_empty_sends_only_trailers(void **state)
{
    struct pair *pair = *state;
    struct h2_body answer;
    start(pair);
    (void)open_stream(pair, NULL);
    h2_body_init(&answer, "abc", 3, false);
    respond(pair->server->streams[0], &answer);
    h2_pump(pair->server, pair->client, 0);
    answer.is_ended = true;
    sl_h2_stream_resume(pair->server->streams[0]);
    const size_t n = h2_side_pull(pair->server);
    assert_int_equal(h2_count_frames(pair->server->room, n, 0), 0);
    assert_int_equal(h2_count_frames(pair->server->room, n, 1), 1);
}

static void a_body_without_trailers_ends_with_its_last_frame(void **state)
{
    struct pair *pair = *state;
    struct h2_body answer;
    start(pair);
    (void)open_stream(pair, NULL);
    h2_body_init(&answer, "abc", 3, true);
    assert_int_equal(
        sl_h2_stream_respond(pair->server->streams[0], response, 1, &answer.base), SL_OK);
    h2_pump(pair->server, pair->client, 0);
    assert_string_equal(
        h2_transcript(pair->client),
        "1 sent\n1 response :status=200\n1 data abc\n1 end\n1 closed done 0\n");
}

static void a_header_block_larger_than_the_room_is_continued(void **state)
{
    struct pair *pair = *state;
    static uint8_t text[6000];
    memset(text, '#', sizeof(text));
    const struct sl_h2_header big[] = {
        response[0], { .name = sl_slice_str("x"), .value = sl_slice_of(text, sizeof(text)) }
    };
    struct h2_body answer;
    start(pair);
    (void)open_stream(pair, NULL);
    h2_body_init(&answer, "abc", 3, true);
    assert_int_equal(sl_h2_stream_respond(pair->server->streams[0], big, 2, &answer.base), SL_OK);
    for (size_t n = 1; n > 0;) {
        n = sl_h2_session_pull(pair->server->session, pair->server->room, 1100, 1);
        assert_int_equal(h2_side_feed(pair->client, pair->server->room, n), SL_OK);
    }
    const char *lines = h2_transcript(pair->client);
    assert_true(strlen(lines) > sizeof(text));
    assert_non_null(strstr(lines, "#\n1 data abc\n1 end\n1 closed done 0\n"));
}

static void output_is_told_once_until_it_is_pulled(void **state)
{
    struct pair *pair = *state;
    start(pair);
    const size_t n_output = pair->server->n_output;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sl_h2_session_ping(pair->server->session, 7), SL_OK);
        assert_int_equal(sl_h2_session_ping(pair->server->session, 8), SL_OK);
        assert_int_equal(pair->server->n_output, n_output + 1 + (size_t)i);
        assert_int_equal(h2_side_pull(pair->server), 34);
    }
}

/* ---- Flow control ---------------------------------------------------------------------------- */

static void big_body(struct pair *pair, size_t room_bytes)
{
    enum { SIZE = 3000000 };
    struct h2_body answer;
    uint8_t *bytes = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++) {
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    }
    start(pair);
    pair->client->is_silent = true;
    (void)open_stream(pair, NULL);
    h2_body_init(&answer, bytes, SIZE, true);
    respond(pair->server->streams[0], &answer);
    for (size_t n = 1; n > 0;) {
        n = sl_h2_session_pull(pair->server->session, pair->server->room, room_bytes, 1);
        assert_true(n <= room_bytes);
        assert_int_equal(h2_side_feed(pair->client, pair->server->room, n), SL_OK);
        const size_t back = h2_side_pull(pair->client);
        assert_int_equal(h2_side_feed(pair->server, pair->client->room, back), SL_OK);
        n += back;
    }
    assert_int_equal(pair->client->n_data_bytes, SIZE);
    assert_int_equal(pair->client->n_closed, 1);
    free(bytes);
}

static void a_big_body_passes_in_large_blocks(void **state)
{
    big_body(*state, H2_ROOM_BYTES);
}

static void a_big_body_passes_in_small_blocks(void **state)
{
    big_body(*state, 2000);
}

static void a_closed_window_stops_the_body(void **state)
{
    struct pair *pair = *state;
    struct h2_body answer;
    static uint8_t bytes[1 << 20];
    pair->client->keeps_credit = true;
    pair->client->limits.stream_window = 65535;
    pair->client->is_silent = true;
    start(pair);
    struct sl_h2_stream *stream = open_stream(pair, NULL);
    h2_body_init(&answer, bytes, sizeof(bytes), true);
    respond(pair->server->streams[0], &answer);
    h2_pump(pair->server, pair->client, 0);
    assert_int_equal(answer.sent, 65535);
    assert_true(sl_h2_stream_is_blocked(pair->server->streams[0]));
    sl_h2_stream_consume(stream, 65535);
    h2_pump(pair->client, pair->server, 0);
    assert_int_equal(answer.sent, 2 * 65535);
}

/* FC-8: a stream with much data does not delay an event of another. */
static void a_small_event_overtakes_a_big_body(void **state)
{
    struct pair *pair = *state;
    struct h2_body big;
    struct h2_body small;
    static uint8_t bytes[1 << 20];
    start(pair);
    pair->client->is_silent = true;
    (void)open_stream(pair, NULL);
    (void)open_stream(pair, NULL);
    h2_body_init(&big, bytes, sizeof(bytes), true);
    h2_body_init(&small, "event", 5, true);
    respond(pair->server->streams[0], &big);
    (void)sl_h2_session_pull(pair->server->session, pair->server->room, 40000, 1);
    respond(pair->server->streams[1], &small);
    (void)sl_h2_session_pull(pair->server->session, pair->server->room, 40000, 1);
    assert_int_equal(small.sent, 5);
    assert_true(big.sent < 80000);
}

/* FC-8: it has one frame for each round of the others, however many they are. */
static void a_big_body_waits_for_every_small_one(void **state)
{
    enum { N_SMALL = 31, BIG_FRAME = 16384 };
    struct pair *pair = *state;
    struct h2_body bodies[1 + N_SMALL];
    static uint8_t bytes[1 << 20];
    start(pair);
    pair->client->is_silent = true;
    for (size_t i = 0; i <= N_SMALL; i++) {
        (void)open_stream(pair, NULL);
        h2_body_init(&bodies[i], bytes, 0, false);
        respond(pair->server->streams[i], &bodies[i]);
    }
    h2_pump(pair->server, pair->client, 0);
    for (size_t i = 0; i <= N_SMALL; i++) {
        bodies[i].size = i == 0 ? sizeof(bytes) : 5;
        sl_h2_stream_resume(pair->server->streams[i]);
    }
    (void)sl_h2_session_pull(pair->server->session, pair->server->room, 40000, 1);
    for (size_t i = 1; i <= N_SMALL; i++) {
        assert_int_equal(bodies[i].sent, 5);
    }
    assert_true(bodies[0].sent > BIG_FRAME); /* the rest of the room is its own */
}

/* ---- Ends that are not in order -------------------------------------------------------------- */

static void an_abort_drops_the_body_and_sends_its_trailers(void **state) /* NG-18 */
{
    struct pair *pair = *state;
    struct h2_body answer;
    static uint8_t bytes[1 << 20];
    pair->client->keeps_credit = true;
    start(pair);
    (void)open_stream(pair, NULL);
    h2_body_init(&answer, bytes, sizeof(bytes), true);
    respond(pair->server->streams[0], &answer);
    h2_pump(pair->server, pair->client, 0);
    (void)h2_transcript(pair->client);
    assert_int_equal(sl_h2_stream_abort(pair->server->streams[0], abort_fields, 1), SL_OK);
    assert_int_equal(
        sl_h2_stream_abort(pair->server->streams[0], abort_fields, 1), SL_FAILED_PRECONDITION);
    h2_pump(pair->server, pair->client, 0);
    assert_string_equal(
        h2_transcript(pair->client), "1 trailers grpc-status=4 end\n1 end\n1 closed done 0\n");
}

static void a_reset_by_the_client_reaches_the_server(void **state)
{
    struct pair *pair = *state;
    struct h2_body answer;
    start(pair);
    struct sl_h2_stream *stream = open_stream(pair, NULL);
    h2_body_init(&answer, "abc", 3, false);
    respond(pair->server->streams[0], &answer);
    h2_pump(pair->server, pair->client, 0);
    (void)h2_transcript(pair->server);
    (void)h2_transcript(pair->client);
    sl_h2_stream_reset(stream, SL_H2_CANCEL);
    assert_int_equal(pair->client->n_closed, 0);
    h2_pump(pair->client, pair->server, 0);
    assert_string_equal(h2_transcript(pair->server), "1 closed reset 8\n");
    assert_string_equal(h2_transcript(pair->client), "1 closed ours 8\n");
}

static void a_request_that_was_not_sent_yet_can_be_reset(void **state)
{
    struct pair *pair = *state;
    struct sl_h2_stream *stream = NULL;
    start(pair);
    assert_int_equal(sl_h2_request(pair->client->session, request, 4, NULL, NULL, &stream), SL_OK);
    sl_h2_stream_reset(stream, SL_H2_CANCEL);
    h2_pump(pair->client, pair->server, 0);
    assert_string_equal(h2_transcript(pair->client), "1 closed ours 8\n");
    assert_string_equal(h2_transcript(pair->server), "");
}

static void a_refusal_means_unprocessed(void **state)
{
    struct pair *pair = *state;
    start(pair);
    (void)open_stream(pair, NULL);
    (void)h2_transcript(pair->client);
    sl_h2_stream_reset(pair->server->streams[0], SL_H2_REFUSED_STREAM);
    h2_pump(pair->server, pair->client, 0);
    assert_string_equal(h2_transcript(pair->client), "1 closed unprocessed 7\n");
}

static void a_lost_connection_ends_all_streams_in_order(void **state)
{
    struct pair *pair = *state;
    start(pair);
    (void)open_stream(pair, NULL);
    (void)open_stream(pair, NULL);
    (void)h2_transcript(pair->server);
    sl_h2_session_lost(pair->server->session);
    assert_string_equal(h2_transcript(pair->server), "1 closed lost 0\n3 closed lost 0\n");
    assert_int_equal(h2_side_pull(pair->server), 0);
    assert_true(sl_h2_session_wants_close(pair->server->session));
}

/* ---- Connection ------------------------------------------------------------------------------ */

/* CM-5: the ACK of a PING that came first would prove nothing. */
static void a_ping_follows_the_goaway_before_it(void **state)
{
    struct pair *pair = *state;
    start(pair);
    struct sl_h2_session *session = pair->server->session;
    sl_h2_session_goaway(session, true, SL_H2_NO_ERROR, NULL);
    assert_int_equal(sl_h2_session_ping(session, 1), SL_OK);
    assert_int_equal(h2_side_pull(pair->server), 17 + 17);
    assert_int_equal(pair->server->room[3], 7);
    assert_int_equal(pair->server->room[17 + 3], 6);
    assert_int_equal(sl_h2_session_ping(session, 2), SL_OK);
    assert_int_equal(h2_side_pull(pair->server), 17);
    assert_int_equal(pair->server->room[3], 6);
}

static void a_drain_has_two_steps(void **state)
{
    struct pair *pair = *state;
    start(pair);
    (void)open_stream(pair, NULL);
    sl_h2_session_goaway(pair->server->session, true, SL_H2_NO_ERROR, NULL);
    assert_int_equal(sl_h2_session_ping(pair->server->session, 0x0106010800030309), SL_OK);
    struct sl_h2_stream *stream = NULL;
    assert_int_equal(/* in flight while the first GOAWAY travels */
                     sl_h2_request(pair->client->session, request, 4, NULL, NULL, &stream), SL_OK);
    (void)h2_transcript(pair->server);
    h2_pump(pair->client, pair->server, 0);
    assert_string_equal(
        h2_transcript(pair->server),
        "3 request :method=POST :scheme=http :path=/a.B/C :authority=x end\n3 end\n"
        "pong 106010800030309\n");
    sl_h2_session_goaway(pair->server->session, false, SL_H2_NO_ERROR, "max_age");
    h2_pump(pair->server, pair->client, 0);
    assert_string_equal(
        h2_transcript(pair->client), "1 sent\n3 sent\ngoaway 0 \ngoaway 0 max_age\n");
    assert_int_equal(
        sl_h2_request(pair->client->session, request, 4, NULL, NULL, &stream), SL_UNAVAILABLE);
    assert_false(sl_h2_session_wants_close(pair->server->session));
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(sl_h2_stream_respond(pair->server->streams[i], response, 1, NULL), SL_OK);
    }
    h2_pump(pair->server, pair->client, 0);
    assert_true(sl_h2_session_wants_close(pair->server->session));
    assert_true(sl_h2_session_wants_close(pair->client->session));
    assert_null(sl_h2_session_fault(pair->server->session));
}

static void the_limit_of_streams_is_told_to_the_client(void **state)
{
    struct pair *pair = *state;
    struct sl_h2_stream *stream = NULL;
    pair->server->limits.streams_per_connection = 2;
    start(pair);
    (void)open_stream(pair, NULL);
    (void)open_stream(pair, NULL);
    assert_int_equal(
        sl_h2_request(pair->client->session, request, 4, NULL, NULL, &stream), SL_AGAIN);
    assert_int_equal(sl_h2_stream_respond(pair->server->streams[0], response, 1, NULL), SL_OK);
    h2_pump(pair->server, pair->client, 0);
    (void)open_stream(pair, NULL);
}

/* RS-9 */
static void a_list_over_the_peers_limit_is_refused(void **state)
{
    struct pair *pair = *state;
    static uint8_t text[4000];
    memset(text, 'a', sizeof(text));
    const struct sl_h2_header big[] = {
        response[0], { .name = sl_slice_str("x"), .value = sl_slice_of(text, sizeof(text)) }
    };
    pair->client->limits.header_list_soft = 2000;
    start(pair);
    (void)open_stream(pair, NULL);
    struct sl_h2_stream *stream = pair->server->streams[0];
    assert_int_equal(sl_h2_session_header_room(pair->server->session), 2000);
    assert_int_equal(sl_h2_stream_respond(stream, big, 2, NULL), SL_RESOURCE_EXHAUSTED);
    assert_int_equal(sl_h2_stream_respond(stream, response, 1, NULL), SL_OK);
    assert_int_equal(sl_h2_stream_respond(stream, response, 1, NULL), SL_FAILED_PRECONDITION);
}

static void trailers_over_the_limit_reset_the_stream(void **state)
{
    struct pair *pair = *state;
    static uint8_t text[4000];
    memset(text, 'a', sizeof(text));
    const struct sl_h2_header big = { .name = sl_slice_str("x"),
                                      .value = sl_slice_of(text, sizeof(text)) };
    struct h2_body answer;
    pair->client->limits.header_list_soft = 2000;
    start(pair);
    (void)open_stream(pair, NULL);
    h2_body_init(&answer, "abc", 3, true);
    respond(pair->server->streams[0], &answer);
    answer.trailers = &big;
    (void)h2_transcript(pair->client);
    h2_pump(pair->server, pair->client, 0);
    assert_string_equal(h2_transcript(pair->client), "1 response :status=200\n1 closed reset 2\n");
}

static void secrets_are_marked_on_both_sides(void **state) /* NG-17 */
{
    struct pair *pair = *state;
    struct sl_h2_header fields[5];
    struct sl_h2_stream *stream = NULL;
    memcpy(fields, request, sizeof(request));
    fields[4] = (struct sl_h2_header)FIELD("x-api-key", "secretsecretsecretsecret");
    fields[4].is_secret = true;
    start(pair);
    for (int i = 0; i < 2; i++) { /* a field in the table would be one byte the second time */
        assert_int_equal(
            sl_h2_request(pair->client->session, fields, 5, NULL, NULL, &stream), SL_OK);
        const size_t n = h2_side_pull(pair->client);
        assert_true(n > 25);
        assert_int_equal(h2_side_feed(pair->server, pair->client->room, n), SL_OK);
        assert_non_null(
            strstr(h2_transcript(pair->server), "x-api-key=secretsecretsecretsecret(secret)"));
    }
}

/* NG-10, FC-1: data that nobody wants any more does not use the window up. */
static void uploads_that_end_early_leave_the_window_whole(void **state)
{
    struct pair *pair = *state;
    static uint8_t bytes[60000];
    pair->server->is_silent = pair->client->is_silent = true;
    start(pair);
    for (int i = 0; i < 200; i++) {
        struct h2_body question;
        struct sl_h2_stream *stream = NULL;
        h2_body_init(&question, bytes, sizeof(bytes), false);
        pair->server->n_streams = 0;
        assert_int_equal(
            sl_h2_request(pair->client->session, request, 4, &question.base, NULL, &stream), SL_OK);
        const size_t n = h2_side_pull(pair->client);
        assert_true(n > sizeof(bytes));
        assert_int_equal(h2_side_feed(pair->server, pair->client->room, 300), SL_OK);
        sl_h2_stream_reset(pair->server->streams[0], SL_H2_CANCEL);
        assert_int_equal(h2_side_feed(pair->server, pair->client->room + 300, n - 300), SL_OK);
        h2_pump(pair->server, pair->client, 0);
    }
    assert_true(sl_h2_session_send_window(pair->client->session) >= 1048576 / 2);
}

static void bytes_of_a_closed_stream_can_be_given_back_later(void **state)
{
    struct pair *pair = *state;
    static uint8_t bytes[60000];
    pair->server->is_silent = pair->client->is_silent = true;
    pair->server->keeps_credit = true;
    start(pair);
    for (int i = 0; i < 100; i++) {
        struct h2_body question;
        h2_body_init(&question, bytes, sizeof(bytes), true);
        pair->server->n_streams = 0;
        (void)open_stream(pair, &question);
        assert_int_equal(sl_h2_stream_respond(pair->server->streams[0], response, 1, NULL), SL_OK);
        h2_pump(pair->server, pair->client, 0);
        assert_int_equal(sl_h2_session_n_streams(pair->server->session), 0);
        sl_h2_session_consume(pair->server->session, sizeof(bytes));
        h2_pump(pair->server, pair->client, 0);
    }
    assert_int_equal(pair->server->n_data_bytes, 100 * sizeof(bytes));
}

static void an_informational_response_is_told_apart(void **state)
{
    struct pair *pair = *state;
    static struct h2_wire wire;
    uint8_t block[64];
    struct sl_h2_stream *stream = NULL;
    h2_side_start(pair->client, true);
    assert_int_equal(sl_h2_request(pair->client->session, request, 4, NULL, NULL, &stream), SL_OK);
    (void)h2_side_pull(pair->client);
    h2_wire_clear(&wire);
    h2_wire_frame(&wire, 4, 0, 0, NULL, 0);
    h2_wire_frame(&wire, 1, 4, 1, block, h2_hpack(block, ":status", "103"));
    h2_wire_frame(&wire, 1, 4, 1, block, h2_hpack(block, ":status", "200"));
    h2_wire_frame(&wire, 1, 5, 1, block, h2_hpack(block, "grpc-status", "0"));
    assert_int_equal(h2_side_feed_wire(pair->client, &wire), SL_OK);
    assert_string_equal(
        h2_transcript(pair->client), "1 sent\n1 informational :status=103\n1 response :status=200\n"
                                     "1 trailers grpc-status=0 end\n1 end\n1 closed done 0\n");
}

static size_t allocations_left;

static bool may_allocate(size_t size)
{
    (void)size;
    if (allocations_left == 0) {
        return false;
    }
    allocations_left--;
    return true;
}

/* Each allocation of a call fails once; every stream still ends, and nothing leaks. */
static void running_out_of_memory_anywhere_is_survived(void **state)
{
    (void)state;
    for (size_t k = 0; k < 120; k++) {
        struct pair pair = { .client = h2_side_new(), .server = h2_side_new() };
        struct h2_body answer;
        start(&pair);
        h2_body_init(&answer, "abc", 3, true);
        answer.trailers = end_fields;
        answer.n_trailers = 1;
        allocations_left = k;
        sl_mem_set_gate(may_allocate);
        struct sl_h2_stream *stream = NULL;
        if (sl_h2_request(pair.client->session, request, 4, NULL, NULL, &stream) == SL_OK) {
            h2_pump(pair.client, pair.server, 0);
            if (pair.server->streams[0] != NULL) {
                (void)!sl_h2_stream_respond(pair.server->streams[0], response, 1, &answer.base);
            }
            h2_pump(pair.client, pair.server, 0);
        }
        sl_mem_set_gate(NULL);
        h2_side_free(pair.client);
        h2_side_free(pair.server);
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, pair_set_up, pair_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_call_goes_through),
        CASE(byte_by_byte_is_the_same),
        CASE(trailers_only_ends_at_once),
        CASE(an_early_end_resets_the_rest_of_the_request),
        CASE(many_streams_share_one_pull),
        CASE(an_idle_body_is_left_alone_until_it_is_resumed),
        CASE(a_body_that_ends_empty_sends_only_trailers),
        CASE(a_body_without_trailers_ends_with_its_last_frame),
        CASE(a_header_block_larger_than_the_room_is_continued),
        CASE(output_is_told_once_until_it_is_pulled),
        CASE(a_big_body_passes_in_large_blocks),
        CASE(a_big_body_passes_in_small_blocks),
        CASE(a_closed_window_stops_the_body),
        CASE(a_small_event_overtakes_a_big_body),
        CASE(a_big_body_waits_for_every_small_one),
        CASE(an_abort_drops_the_body_and_sends_its_trailers),
        CASE(a_reset_by_the_client_reaches_the_server),
        CASE(a_request_that_was_not_sent_yet_can_be_reset),
        CASE(a_refusal_means_unprocessed),
        CASE(a_lost_connection_ends_all_streams_in_order),
        CASE(a_ping_follows_the_goaway_before_it),
        CASE(a_drain_has_two_steps),
        CASE(the_limit_of_streams_is_told_to_the_client),
        CASE(a_list_over_the_peers_limit_is_refused),
        CASE(trailers_over_the_limit_reset_the_stream),
        CASE(secrets_are_marked_on_both_sides),
        CASE(uploads_that_end_early_leave_the_window_whole),
        CASE(bytes_of_a_closed_stream_can_be_given_back_later),
        CASE(an_informational_response_is_told_apart),
        cmocka_unit_test(running_out_of_memory_anywhere_is_survived),
    };
    return cmocka_run_group_tests_name("h2_session", tests, NULL, NULL);
}
