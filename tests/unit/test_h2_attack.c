/* Hand-made bytes against a server session: grpc.md, section 3. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "tests/wire/h2_pair.h"

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE };
enum { CONTINUATION = 9, END_STREAM = 1, END_HEADERS = 4, PADDED = 8 };

static struct h2_wire wire;

static int set_up(void **state)
{
    struct h2_side *server = h2_side_new();
    server->is_silent = true;
    h2_side_start(server, false);
    h2_side_greet(server);
    h2_wire_clear(&wire);
    *state = server;
    return 0;
}

static int tear_down(void **state)
{
    h2_side_free(*state);
    return 0;
}

/* The session ended itself: all streams lost, GOAWAY with this code and text, then nothing. */
static void assert_over(struct h2_side *server, const char *fault, uint32_t code, const char *debug)
{
    assert_non_null(sl_h2_session_fault(server->session));
    assert_string_equal(sl_h2_session_fault(server->session), fault);
    assert_int_equal(h2_side_feed(server, "x", 1), SL_UNAVAILABLE);
    const size_t n = h2_side_pull(server);
    size_t size = 0;
    const uint8_t *goaway = h2_find_frame(server->room, n, GOAWAY, &size);
    assert_non_null(goaway);
    assert_int_equal(goaway[7], code);
    assert_int_equal(size, 8 + strlen(debug));
    assert_memory_equal(goaway + 8, debug, strlen(debug));
    assert_int_equal(h2_side_pull(server), 0);
    assert_true(sl_h2_session_wants_close(server->session));
    assert_int_equal(sl_h2_session_n_streams(server->session), 0);
}

/* Feeds it `n` times, reading the answers; the number of the round in which the session ended, or
 * n. */
static size_t feed_rounds(struct h2_side *server, size_t n)
{
    const size_t size = wire.size;
    for (size_t i = 0; i < n; i++) {
        if (h2_side_feed(server, wire.bytes, size) != SL_OK) {
            return i;
        }
        (void)h2_side_pull(server);
        if (sl_h2_session_fault(server->session) != NULL) {
            return i;
        }
    }
    return n;
}

/* ---- AT-1, AT-2 ------------------------------------------------------------------------------ */

static void at_1_rapid_resets_end_the_connection(void **state)
{
    struct h2_side *server = *state;
    size_t i = 0;
    for (; i < 10000; i++) {
        h2_wire_request(&wire, (uint32_t)(1 + 2 * i), true);
        h2_wire_reset(&wire, (uint32_t)(1 + 2 * i), SL_H2_CANCEL);
        if (h2_side_feed_wire(server, &wire) != SL_OK) {
            break;
        }
        (void)h2_side_pull(server);
    }
    assert_int_equal(i, server->limits.reset_burst);
    assert_int_equal(server->n_closed, server->n_headers);
    assert_over(server, "rapid_reset", SL_H2_ENHANCE_YOUR_CALM, "rapid_reset");
}

static struct h2_body answer;

static void answer_something(struct h2_side *side, struct sl_h2_stream *stream)
{
    static const struct sl_h2_header fields[] = { { .name = { (const uint8_t *)":status", 7 },
                                                    .value = { (const uint8_t *)"200", 3 } } };
    side->n_streams = 0;
    h2_body_init(&answer, "event", 5, false);
    assert_int_equal(sl_h2_stream_respond(stream, fields, 1, &answer.base), SL_OK);
}

static void at_1_cancels_of_streams_that_run_do_not_count(void **state) /* NG-1 */
{
    struct h2_side *server = *state;
    server->on_request = answer_something;
    for (uint32_t i = 0; i < 8000; i++) { /* NG-1: more than nghttp2's bucket would bear */
        h2_wire_request(&wire, 1 + 2 * i, true);
        assert_int_equal(h2_side_feed_wire(server, &wire), SL_OK);
        (void)h2_side_pull(server);
        h2_wire_reset(&wire, 1 + 2 * i, SL_H2_CANCEL);
        assert_int_equal(h2_side_feed_wire(server, &wire), SL_OK);
    }
    assert_int_equal(server->n_closed, 8000);
}

/* The vectors of CVE-2025-8671 that reset the stream, one after the other. */
static void at_1_an_honest_client_may_cancel_all_the_time(void **state) /* NG-1 */
{
    struct h2_side *server = *state;
    const uint64_t gap_ns = UINT64_C(6000000); /* 5,000 in 30 s, of streams without an answer */
    for (uint32_t i = 0; i < 5000; i++) {
        server->now_ns += gap_ns;
        h2_wire_request(&wire, 1 + 2 * i, true);
        h2_wire_reset(&wire, 1 + 2 * i, SL_H2_CANCEL);
        assert_int_equal(h2_side_feed_wire(server, &wire), SL_OK);
        (void)h2_side_pull(server);
    }
    assert_int_equal(server->n_closed, 5000);
    assert_null(sl_h2_session_fault(server->session));
}

static void at_2_resets_that_the_client_provokes_are_counted(void **state) /* NG-3 */
{
    struct h2_side *server = *state;
    static const uint8_t much[] = { 0x7F, 0xFF, 0xFF, 0xFF };
    static const uint8_t upper[] = { 0, 1, 'X', 1, 'y' };
    uint8_t block[256];
    size_t n = 0;
    n += h2_hpack(block + n, ":method", "POST");
    n += h2_hpack(block + n, ":scheme", "http");
    n += h2_hpack(block + n, ":path", "/a.B/C");
    n += h2_hpack(block + n, ":authority", "x");
    n += h2_hpack(block + n, "content-length", "10");
    size_t i = 0;
    for (; i < 2000; i++) {
        const uint32_t id = (uint32_t)(1 + 2 * i);
        switch (i % 3) {
        case 0: /* a window above 2^31-1 */
            h2_wire_request(&wire, id, false);
            h2_wire_frame(&wire, WINDOW_UPDATE, 0, id, much, 4);
            break;
        case 1: /* a name in upper case */
            h2_wire_frame(&wire, HEADERS, END_STREAM | END_HEADERS, id, upper, sizeof(upper));
            break;
        default: /* another length than announced */
            h2_wire_frame(&wire, HEADERS, END_HEADERS, id, block, n);
            h2_wire_frame(&wire, DATA, END_STREAM, id, "abc", 3);
            break;
        }
        if (h2_side_feed_wire(server, &wire) != SL_OK) {
            break;
        }
        const size_t size = h2_side_pull(server);
        if (sl_h2_session_fault(server->session) != NULL) {
            size_t length = 0;
            assert_non_null(h2_find_frame(server->room, size, GOAWAY, &length));
            break;
        }
        assert_int_equal(h2_count_frames(server->room, size, RST_STREAM), 1);
    }
    assert_int_equal(i, server->limits.own_reset_burst);
    assert_string_equal(sl_h2_session_fault(server->session), "own_resets");
    assert_int_equal(sl_h2_session_n_streams(server->session), 0);
    assert_int_equal(h2_side_feed(server, "x", 1), SL_UNAVAILABLE);
}

/* ---- AT-3 ------------------------------------------------------------------------------------ */

static void at_3_streams_above_the_limit_are_refused(void **state) /* NG-6 */
{
    struct h2_side *server = *state;
    const size_t max = (size_t)server->limits.streams_per_connection;
    for (size_t i = 0; i < max + 5; i++) { /* our SETTINGS were not acknowledged */
        h2_wire_request(&wire, (uint32_t)(1 + 2 * i), false);
        assert_int_equal(h2_side_feed_wire(server, &wire), SL_OK);
    }
    const size_t n = h2_side_pull(server);
    assert_int_equal(h2_count_frames(server->room, n, RST_STREAM), 5);
    assert_int_equal(server->n_headers, max);
    h2_wire_frame(&wire, SETTINGS, 1, 0, NULL, 0);
    h2_wire_request(&wire, (uint32_t)(1 + 2 * (max + 5)), false);
    (void)h2_side_feed_wire(server, &wire);
    (void)h2_side_pull(server);
    assert_string_equal(sl_h2_session_fault(server->session), "protocol_error");
    assert_int_equal(server->n_lost, max);
    assert_true(sl_h2_session_wants_close(server->session));
    assert_int_equal(h2_side_feed(server, "x", 1), SL_UNAVAILABLE);
}

/* ---- AT-4, AT-5, AT-6, AT-10 ------------------------------------------------------------------
 */

static void at_4_continuations_that_come_byte_by_byte_count_as_frames(void **state)
{
    struct h2_side *server = *state;
    h2_wire_frame(&wire, HEADERS, 0, 1, NULL, 0);
    for (int i = 0; i < 9; i++) {
        h2_wire_frame(&wire, CONTINUATION, 0, 1, NULL, 0);
    }
    const size_t last = wire.size - 1;
    for (size_t i = 0; i < last; i++) {
        assert_int_equal(h2_side_feed(server, wire.bytes + i, 1), SL_OK);
    }
    assert_true(sl_h2_session_in_headers(server->session));
    assert_int_equal(h2_side_feed(server, wire.bytes + last, 1), SL_UNAVAILABLE);
    h2_wire_clear(&wire);
    assert_over(server, "continuation_flood", SL_H2_ENHANCE_YOUR_CALM, "continuation_flood");
}

static void at_4_the_ninth_continuation_ends_the_connection(void **state) /* NG-9 */
{
    struct h2_side *server = *state;
    h2_wire_frame(&wire, HEADERS, 0, 1, NULL, 0);
    for (int i = 0; i < 8; i++) {
        h2_wire_frame(&wire, CONTINUATION, 0, 1, NULL, 0);
    }
    assert_int_equal(h2_side_feed_wire(server, &wire), SL_OK);
    assert_true(sl_h2_session_in_headers(server->session));
    h2_wire_frame(&wire, CONTINUATION, 0, 1, NULL, 0);
    assert_int_equal(h2_side_feed_wire(server, &wire), SL_UNAVAILABLE);
    assert_over(server, "continuation_flood", SL_H2_ENHANCE_YOUR_CALM, "continuation_flood");
}

static size_t request_fields(uint8_t *block)
{
    size_t n = 0;
    n += h2_hpack(block + n, ":method", "POST");
    n += h2_hpack(block + n, ":scheme", "http");
    n += h2_hpack(block + n, ":path", "/a.B/C");
    n += h2_hpack(block + n, ":authority", "x");
    return n;
}

static void at_5_a_list_over_the_soft_limit_is_told_and_not_kept(void **state) /* NG-5 */
{
    struct h2_side *server = *state;
    static uint8_t block[16000];
    char value[101];
    memset(value, 'v', 100);
    value[100] = '\0';
    server->is_silent = false;
    size_t n = request_fields(block);
    for (int i = 0; i < 80; i++) {
        n += h2_hpack(block + n, "x", value);
    }
    h2_wire_frame(&wire, HEADERS, END_STREAM | END_HEADERS, 1, block, n);
    assert_int_equal(h2_side_feed_wire(server, &wire), SL_OK);
    const char *lines = h2_transcript(server);
    assert_non_null(strstr(lines, " over end\n"));
    assert_true(strlen(lines) < server->limits.header_list_soft);
}

static void expect_reset(struct h2_side *server, uint32_t id)
{
    assert_int_equal(h2_side_feed_wire(server, &wire), SL_OK);
    size_t n = h2_side_pull(server);
    size_t size = 0;
    const uint8_t *reset = h2_find_frame(server->room, n, RST_STREAM, &size);
    assert_non_null(reset);
    assert_int_equal(reset[3], SL_H2_INTERNAL_ERROR);
    assert_int_equal(server->n_headers, 0); /* nobody was told of it */
    h2_wire_request(&wire, id + 2, true);   /* the connection stays usable */
    assert_int_equal(h2_side_feed_wire(server, &wire), SL_OK);
    assert_int_equal(server->n_headers, 1);
}

static void at_5_too_many_tiny_fields_reset_the_stream(void **state)
{
    static uint8_t block[8000];
    size_t n = request_fields(block);
    for (int i = 0; i < 500; i++) {
        n += h2_hpack(block + n, "x", "");
    }
    h2_wire_frame(&wire, HEADERS, END_STREAM | END_HEADERS, 1, block, n);
    expect_reset(*state, 1);
}

static void bomb(void **state, size_t n_references)
{
    static uint8_t block[16000];
    size_t n = request_fields(block);
    block[n++] = 0x40; /* literal with indexing: one entry of 3.9 KB */
    block[n++] = 1;
    block[n++] = 'a';
    block[n++] = 0x7F; /* 127 + 3773 */
    block[n++] = 0xBD;
    block[n++] = 0x1D;
    memset(block + n, 'v', 3900);
    n += 3900;
    memset(block + n, 0x80 | 62, n_references); /* each byte is that entry again */
    n += n_references;
    h2_wire_frame(&wire, HEADERS, END_STREAM | END_HEADERS, 1, block, n);
    expect_reset(*state, 1);
}

static void at_6_a_table_bomb_resets_the_stream(void **state) /* NG-5 */
{
    bomb(state, 10000);
}

static void at_5_a_list_over_the_hard_limit_resets_the_stream(void **state)
{
    bomb(state, 9); /* 4 KB with each */
}

/* ---- AT-7 to AT-12 ----------------------------------------------------------------------------
 */

static void at_7_a_ping_flood_ends_with_too_many_pings(void **state) /* NG-7 */
{
    struct h2_side *server = *state;
    h2_wire_frame(&wire, PING, 0, 0, "12345678", 8);
    const size_t n = feed_rounds(server, 10000);
    assert_int_equal(n, 3);
    assert_over(server, "ping_flood", SL_H2_ENHANCE_YOUR_CALM, "too_many_pings");
}

static void a_ping_is_answered(void **state)
{
    struct h2_side *server = *state;
    h2_wire_frame(&wire, PING, 0, 0, "12345678", 8);
    assert_int_equal(h2_side_feed_wire(server, &wire), SL_OK);
    const size_t n = h2_side_pull(server);
    size_t size = 0;
    const uint8_t *pong = h2_find_frame(server->room, n, PING, &size);
    assert_non_null(pong);
    assert_int_equal(pong[-5], 1); /* ACK */
    assert_memory_equal(pong, "12345678", 8);
}

static void at_7_a_ping_after_each_event_survives(void **state)
{
    struct h2_side *server = *state;
    server->on_request = answer_something;
    h2_wire_request(&wire, 1, true);
    assert_int_equal(h2_side_feed_wire(server, &wire), SL_OK);
    for (int i = 0; i < 2000; i++) {
        (void)h2_side_pull(server);
        answer.sent = 0;
        sl_h2_stream_resume(server->streams[0]);
        assert_true(h2_side_pull(server) > 0);
        h2_wire_frame(&wire, PING, 0, 0, "12345678", 8);
        assert_int_equal(h2_side_feed_wire(server, &wire), SL_OK);
    }
}

static void at_8_a_settings_flood_ends_the_connection(void **state)
{
    struct h2_side *server = *state;
    for (int i = 0; i < 100; i++) {
        h2_wire_request(&wire, (uint32_t)(1 + 2 * i), false);
    }
    assert_int_equal(h2_side_feed_wire(server, &wire), SL_OK);
    static const uint8_t small[] = { 0, 4, 0, 0, 0, 1 };
    static const uint8_t large[] = { 0, 4, 0, 1, 0, 0 };
    h2_wire_frame(&wire, SETTINGS, 0, 0, small, 6);
    h2_wire_frame(&wire, SETTINGS, 0, 0, large, 6);
    assert_true(feed_rounds(server, 10000) < server->limits.settings_burst);
    assert_int_equal(server->n_lost, 100);
    assert_over(server, "settings_flood", SL_H2_ENHANCE_YOUR_CALM, "settings_flood");
}

static void at_9_empty_data_ends_the_connection(void **state)
{
    struct h2_side *server = *state;
    h2_wire_request(&wire, 1, false);
    assert_int_equal(h2_side_feed_wire(server, &wire), SL_OK);
    h2_wire_frame(&wire, DATA, 0, 1, NULL, 0);
    assert_int_equal(feed_rounds(server, 10000), server->limits.empty_frames);
    assert_over(server, "empty_frames", SL_H2_ENHANCE_YOUR_CALM, "empty_frames");
}

static void at_9_padding_only_is_empty_too(void **state)
{
    struct h2_side *server = *state;
    const uint8_t padding[] = { 3, 0, 0, 0 };
    h2_wire_request(&wire, 1, false);
    assert_int_equal(h2_side_feed_wire(server, &wire), SL_OK);
    h2_wire_frame(&wire, DATA, PADDED, 1, padding, sizeof(padding));
    assert_int_equal(feed_rounds(server, 10000), server->limits.empty_frames);
    assert_over(server, "empty_frames", SL_H2_ENHANCE_YOUR_CALM, "empty_frames");
}

static void small_padded_data_with_content_is_honest(void **state)
{
    struct h2_side *server = *state;
    const uint8_t padded[] = { 3, 'x', 0, 0, 0 };
    h2_wire_request(&wire, 1, false);
    assert_int_equal(h2_side_feed_wire(server, &wire), SL_OK);
    h2_wire_frame(&wire, DATA, PADDED, 1, padded, sizeof(padded));
    assert_int_equal(feed_rounds(server, 1000), 1000);
    assert_int_equal(server->n_data_bytes, 1000);
}

static void at_11_one_byte_windows_end_the_connection(void **state)
{
    struct h2_side *server = *state;
    static uint8_t bytes[1 << 20];
    static const uint8_t zero_window[] = { 0, 4, 0, 0, 0, 0 };
    static const uint8_t one[] = { 0, 0, 0, 1 };
    server->on_request = answer_something;
    h2_wire_frame(&wire, SETTINGS, 0, 0, zero_window, 6);
    h2_wire_request(&wire, 1, true);
    assert_int_equal(h2_side_feed_wire(server, &wire), SL_OK);
    answer.data = bytes;
    answer.size = sizeof(bytes);
    (void)h2_side_pull(server);
    assert_int_equal(answer.sent, 0);
    h2_wire_frame(&wire, WINDOW_UPDATE, 0, 1, one, 4);
    assert_int_equal(feed_rounds(server, 10000), 102);
    assert_int_equal(answer.sent, 102); /* an honest small window is served, for a while */
    assert_over(server, "window_update_flood", SL_H2_ENHANCE_YOUR_CALM, "window_update_flood");
}

static void at_12_priority_churn_ends_the_connection(void **state) /* NG-13 */
{
    struct h2_side *server = *state;
    const uint8_t priority[] = { 0, 0, 0, 0, 15 };
    size_t i = 0;
    for (; i < 1000000; i++) {
        h2_wire_frame(&wire, PRIORITY, 0, (uint32_t)(3 + 2 * i), priority, 5);
        if (h2_side_feed_wire(server, &wire) != SL_OK) {
            break;
        }
    }
    assert_int_equal(i, server->limits.priority_per_stream);
    assert_over(server, "priority_flood", SL_H2_ENHANCE_YOUR_CALM, "priority_flood");
}

/* ---- Frames that nghttp2 drops without a word ------------------------------------------------ */

enum { PRIORITY_UPDATE = 16, UNKNOWN = 0x42, BLOCK_BYTES = 16384 };

static const uint8_t block[BLOCK_BYTES];

static void frames_of_unknown_types_have_a_budget(void **state)
{
    struct h2_side *server = *state;
    h2_wire_frame(&wire, UNKNOWN, 0, 1, block, 100);
    assert_int_equal(feed_rounds(server, 10000), server->limits.unknown_frames - 1);
    assert_over(server, "unknown_frames", SL_H2_ENHANCE_YOUR_CALM, "unknown_frames");
}

static void answers_to_no_ping_have_a_budget(void **state) /* NG-7 */
{
    struct h2_side *server = *state;
    h2_wire_frame(&wire, PING, 1, 0, "12345678", 8);
    assert_int_equal(feed_rounds(server, 10000), server->limits.unknown_frames - 1);
    assert_over(server, "useless_frames", SL_H2_ENHANCE_YOUR_CALM, "useless_frames");
}

static void goaways_have_a_budget(void **state) /* NG-7 */
{
    struct h2_side *server = *state;
    h2_wire_request(&wire, 1, true);
    assert_int_equal(h2_side_feed_wire(server, &wire), SL_OK);
    h2_wire_frame(&wire, GOAWAY, 0, 0, "\0\0\0\0\0\0\0\0", 8);
    assert_int_equal(feed_rounds(server, 10000), 2 * server->limits.unknown_frames - 1);
    assert_over(server, "useless_frames", SL_H2_ENHANCE_YOUR_CALM, "useless_frames");
}

static void answers_to_our_pings_are_honest(void **state)
{
    struct h2_side *server = *state;
    h2_wire_frame(&wire, PING, 1, 0, "12345678", 8);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(sl_h2_session_ping(server->session, 1), SL_OK);
        (void)h2_side_pull(server);
        assert_int_equal(h2_side_feed(server, wire.bytes, wire.size), SL_OK);
    }
    assert_null(sl_h2_session_fault(server->session));
}

static void an_extension_frame_with_each_request_is_honest(void **state)
{
    struct h2_side *server = *state;
    server->on_request = answer_something;
    for (uint32_t i = 0; i < 1000; i++) {
        h2_wire_frame(&wire, PRIORITY_UPDATE, 0, 0, "\0\0\0\1u=1", 7);
        h2_wire_request(&wire, 1 + 2 * i, true);
        assert_int_equal(h2_side_feed_wire(server, &wire), SL_OK);
        (void)h2_side_pull(server);
        h2_wire_reset(&wire, 1 + 2 * i, SL_H2_CANCEL);
        assert_int_equal(h2_side_feed_wire(server, &wire), SL_OK);
    }
}

static void reset_at_once(struct h2_side *side, struct sl_h2_stream *stream)
{
    side->n_streams = 0;
    sl_h2_stream_reset(stream, SL_H2_REFUSED_STREAM);
}

/* Stream 1 is opened by the client and reset by the server; gives what may come for it from then
 * on.
 */
static uint64_t close_stream_one(struct h2_side *server)
{
    server->on_request = reset_at_once;
    h2_wire_request(&wire, 1, false);
    assert_int_equal(h2_side_feed_wire(server, &wire), SL_OK);
    (void)h2_side_pull(server);
    return server->limits.closed_stream + server->limits.stream_window + 2 * UINT64_C(64);
}

static void data_for_a_closed_stream_has_a_budget(void **state)
{
    struct h2_side *server = *state;
    const uint64_t left = close_stream_one(server);
    h2_wire_frame(&wire, DATA, 0, 1, block, BLOCK_BYTES);
    assert_int_equal(feed_rounds(server, 10000), left / BLOCK_BYTES);
    assert_over(server, "closed_stream", SL_H2_ENHANCE_YOUR_CALM, "closed_stream");
}

static void headers_for_a_closed_stream_have_a_budget(void **state)
{
    struct h2_side *server = *state;
    const uint64_t left = close_stream_one(server);
    h2_wire_request(&wire, 1, true);
    const size_t cost = wire.size - 9 + 64;
    assert_int_equal(feed_rounds(server, 100000), left / cost);
    assert_over(server, "closed_stream", SL_H2_ENHANCE_YOUR_CALM, "closed_stream");
}

static void resets_of_a_closed_stream_have_a_budget(void **state) /* NG-1, AT-1 */
{
    struct h2_side *server = *state;
    const uint64_t left = close_stream_one(server);
    h2_wire_reset(&wire, 1, SL_H2_CANCEL);
    assert_int_equal(feed_rounds(server, 100000), left / 64);
    assert_over(server, "closed_stream", SL_H2_ENHANCE_YOUR_CALM, "closed_stream");
}

/* The client hears of the reset only when its whole window, the trailers and its own reset are on
 * the wire. */
static void what_is_in_flight_when_the_server_ends_a_stream_is_honest(void **state)
{
    struct h2_side *server = *state;
    server->on_request = reset_at_once;
    for (uint32_t i = 0; i < 200; i++) {
        const uint32_t id = 1 + 2 * i;
        h2_wire_request(&wire, id, false);
        assert_int_equal(h2_side_feed_wire(server, &wire), SL_OK);
        (void)h2_side_pull(server);
        for (size_t sent = 0; sent < server->limits.stream_window; sent += BLOCK_BYTES) {
            h2_wire_frame(&wire, DATA, 0, id, block, BLOCK_BYTES);
        }
        uint8_t field[32];
        const size_t size = h2_hpack(field, "x-end", "yes");
        h2_wire_frame(&wire, HEADERS, END_STREAM | END_HEADERS, id, field, size);
        h2_wire_reset(&wire, id, SL_H2_CANCEL);
        assert_int_equal(h2_side_feed_wire(server, &wire), SL_OK);
        (void)h2_side_pull(server);
        assert_null(sl_h2_session_fault(server->session));
    }
}

/* ---- Broken protocol ---------------------------------------------------------------------------
 */

static void http_1_is_a_bad_preface_without_an_answer(void **state)
{
    (void)state;
    struct h2_side *server = h2_side_new();
    h2_side_start(server, false);
    assert_int_equal(h2_side_feed(server, "GET / HTTP/1.1\r\n\r\n", 18), SL_UNAVAILABLE);
    assert_string_equal(sl_h2_session_fault(server->session), "bad_preface");
    assert_int_equal(h2_side_pull(server), 0);
    assert_true(sl_h2_session_wants_close(server->session));
    h2_side_free(server);
}

static void a_protocol_error_is_said_in_a_goaway_and_loses_the_streams(void **state)
{
    struct h2_side *server = *state;
    h2_wire_request(&wire, 1, false);
    h2_wire_frame(&wire, DATA, 0, 0, "abc", 3); /* stream 0 */
    (void)h2_side_feed_wire(server, &wire);
    const size_t n = h2_side_pull(server);
    size_t size = 0;
    assert_non_null(h2_find_frame(server->room, n, GOAWAY, &size));
    assert_int_equal(h2_count_frames(server->room, n, GOAWAY), 1);
    assert_int_equal(h2_side_pull(server), 0);
    assert_int_equal(server->n_lost, 1);
    assert_string_equal(sl_h2_session_fault(server->session), "protocol_error");
    assert_true(sl_h2_session_wants_close(server->session));
}

/* Nothing that ends in the middle of the input may do more than wait. */
static void a_request_that_is_cut_anywhere_waits(void **state)
{
    (void)state;
    h2_wire_magic(&wire);
    h2_wire_frame(&wire, SETTINGS, 0, 0, NULL, 0);
    h2_wire_request(&wire, 1, false);
    h2_wire_frame(&wire, DATA, END_STREAM, 1, "hello", 5);
    for (size_t cut = 0; cut < wire.size; cut++) {
        struct h2_side *server = h2_side_new();
        h2_side_start(server, false);
        uint8_t *exact = malloc(cut + 1);
        memcpy(exact, wire.bytes, cut);
        assert_int_equal(h2_side_feed(server, exact, cut), SL_OK);
        assert_int_equal(server->n_ends, 0);
        assert_null(sl_h2_session_fault(server->session));
        const size_t n_open = server->n_headers;
        free(exact);
        sl_h2_session_lost(server->session);
        assert_int_equal(server->n_lost, n_open);
        h2_side_free(server);
    }
    h2_wire_clear(&wire);
}

static void a_slow_header_block_can_be_seen(void **state)
{
    struct h2_side *server = *state;
    h2_wire_request(&wire, 1, true);
    assert_false(sl_h2_session_in_headers(server->session));
    assert_int_equal(h2_side_feed(server, wire.bytes, 12), SL_OK);
    assert_true(sl_h2_session_in_headers(server->session));
    assert_int_equal(h2_side_feed(server, wire.bytes + 12, wire.size - 12), SL_OK);
    assert_false(sl_h2_session_in_headers(server->session));
    h2_wire_clear(&wire);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(at_1_rapid_resets_end_the_connection),
        CASE(at_1_cancels_of_streams_that_run_do_not_count),
        CASE(at_1_an_honest_client_may_cancel_all_the_time),
        CASE(at_2_resets_that_the_client_provokes_are_counted),
        CASE(at_3_streams_above_the_limit_are_refused),
        CASE(at_4_the_ninth_continuation_ends_the_connection),
        CASE(at_4_continuations_that_come_byte_by_byte_count_as_frames),
        CASE(at_5_a_list_over_the_soft_limit_is_told_and_not_kept),
        CASE(at_5_too_many_tiny_fields_reset_the_stream),
        CASE(at_5_a_list_over_the_hard_limit_resets_the_stream),
        CASE(at_6_a_table_bomb_resets_the_stream),
        CASE(at_7_a_ping_flood_ends_with_too_many_pings),
        CASE(a_ping_is_answered),
        CASE(at_7_a_ping_after_each_event_survives),
        CASE(at_8_a_settings_flood_ends_the_connection),
        CASE(at_9_empty_data_ends_the_connection),
        CASE(at_9_padding_only_is_empty_too),
        CASE(small_padded_data_with_content_is_honest),
        CASE(at_11_one_byte_windows_end_the_connection),
        CASE(at_12_priority_churn_ends_the_connection),
        CASE(frames_of_unknown_types_have_a_budget),
        CASE(answers_to_no_ping_have_a_budget),
        CASE(goaways_have_a_budget),
        CASE(answers_to_our_pings_are_honest),
        CASE(an_extension_frame_with_each_request_is_honest),
        CASE(data_for_a_closed_stream_has_a_budget),
        CASE(headers_for_a_closed_stream_have_a_budget),
        CASE(resets_of_a_closed_stream_have_a_budget),
        CASE(what_is_in_flight_when_the_server_ends_a_stream_is_honest),
        CASE(http_1_is_a_bad_preface_without_an_answer),
        CASE(a_protocol_error_is_said_in_a_goaway_and_loses_the_streams),
        CASE(a_request_that_is_cut_anywhere_waits),
        CASE(a_slow_header_block_can_be_seen),
    };
    return cmocka_run_group_tests_name("h2_attack", tests, NULL, NULL);
}
