/* The client's connections, limits and interceptors, with a clock of the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "service/h2/session_impl.h"
#include "service/rpc/compress.h"
#include "tests/wire/client_rig.h"

static const struct sl_method_desc unary = { .path = "/test.Service/Unary",
                                             .name = "Unary",
                                             .kind = SL_UNARY };
static const struct sl_method_desc talk = { .path = "/test.Service/Talk",
                                            .name = "Talk",
                                            .kind = SL_BIDIRECTIONAL };

static const struct rig_answer fine = { .kind = RIG_OK };
static const struct rig_answer silence = { .kind = RIG_SILENCE };

static struct client_rig rig;

static int setup(void **state)
{
    (void)state;
    client_rig_init(&rig);
    client_rig_script(&rig, &fine, 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    client_rig_done(&rig);
    return 0;
}

static void expect_end(struct sl_client_call *call, enum sl_status status, const char *text)
{
    const struct sl_error *err = sl_client_call_error(call);
    if (sl_client_call_status(call) != status || strstr(err->text, text) == NULL) {
        print_error("%s: %s\n", sl_status_name(sl_client_call_status(call)), err->text);
    }
    assert_int_equal(sl_client_call_status(call), status);
    assert_non_null(strstr(err->text, text));
    (void)sl_client_call_free(call);
}

static struct sl_client_call *wait_call(void)
{
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .wait_for_ready = true };
    return client_rig_call(&rig, &unary, &options, "x");
}

/* ---- Connecting ------------------------------------------------------------------------------ */

/* Milliseconds until the next try. */
static uint64_t time_to_connect(void)
{
    const size_t n = rig.n_connects;
    uint64_t ms = 0;
    while (rig.n_connects == n && ms < 200000) {
        client_rig_advance_ms(&rig, 1);
        ms++;
    }
    return ms;
}

static void connections_are_tried_with_backoff_rt_5(void **state)
{
    (void)state;
    client_rig_channel(&rig, NULL);
    rig.door = RIG_CLOSED;
    struct sl_client_call *call = wait_call();
    double ms = 1000;
    for (int i = 0; i < 14; i++) {
        assert_in_range(time_to_connect(), (uint64_t)(ms * 0.8) - 1, (uint64_t)(ms * 1.2) + 1);
        ms = ms * 1.6 < 120000 ? ms * 1.6 : 120000;
    }
    rig.door = RIG_OPEN;
    client_rig_advance_ms(&rig, 144001);
    expect_end(call, SL_OK, "");
    /* It was a good one: the next backoff is the first again. */
    rig.door = RIG_CLOSED;
    client_rig_lose(&rig, 0);
    call = wait_call();
    assert_in_range(time_to_connect(), 799, 1201);
    (void)sl_client_call_free(call);
}

static void a_server_that_greets_and_leaves_is_not_asked_without_pause(void **state)
{
    (void)state;
    client_rig_channel(&rig, NULL);
    for (enum rig_manner manner = RIG_LEAVES; manner <= RIG_DROPS; manner++) {
        rig.manner = manner;
        const size_t n = rig.n_connects;
        struct sl_client_call *call = wait_call();
        client_rig_advance_ms(&rig, 10000);
        assert_int_equal(sl_client_call_status(call), SL_PENDING);
        assert_in_range(rig.n_connects - n, 3, 14);
        rig.manner = RIG_STAYS;
        client_rig_advance_ms(&rig, 10000);
        expect_end(call, SL_OK, "");
        client_rig_lose(&rig, rig.n_conns - 1);
    }
}

static void connecting_takes_only_so_long(void **state)
{
    (void)state;
    client_rig_channel(&rig, &(struct sl_channel_options){ .connect_timeout_ms = 5000 });
    rig.door = RIG_NOBODY;
    struct sl_client_call *call = client_rig_call(&rig, &unary, NULL, "x");
    client_rig_advance_ms(&rig, 4999);
    assert_int_equal(sl_client_call_status(call), SL_PENDING);
    client_rig_advance_ms(&rig, 1);
    expect_end(call, SL_UNAVAILABLE, "takes too long");
}

static void a_goaway_lets_open_calls_go_on_cm_5(void **state)
{
    (void)state;
    client_rig_channel(&rig, NULL);
    client_rig_script(&rig, &silence, 1);
    struct sl_client_call *old = client_rig_call(&rig, &unary, NULL, "x");
    sl_h2_session_goaway(rig.conns[0]->side->session, true, SL_H2_NO_ERROR, "max_age");
    client_rig_turn(&rig);
    assert_int_equal(sl_client_call_status(old), SL_PENDING);
    client_rig_script(&rig, &fine, 1);
    expect_end(client_rig_call(&rig, &unary, NULL, "x"), SL_OK, "");
    assert_int_equal(rig.n_conns, 2);
    assert_non_null(rig.conns[0]->net);
    sl_h2_stream_reset(rig.conns[0]->side->streams[0], SL_H2_INTERNAL_ERROR);
    client_rig_turn(&rig);
    expect_end(old, SL_INTERNAL, "INTERNAL_ERROR");
    assert_null(rig.conns[0]->net); /* it ends with its last call */
    assert_non_null(rig.conns[1]->net);
}

static void calls_wait_for_the_servers_limit_of_streams(void **state)
{
    (void)state;
    rig.server_limits.streams_per_connection = 2;
    client_rig_channel(&rig, NULL);
    client_rig_script(&rig, &silence, 1);
    struct sl_client_call *calls[4];
    for (int i = 0; i < 4; i++) {
        calls[i] = client_rig_call(&rig, &unary, NULL, "x");
    }
    assert_int_equal(rig.n_requests, 2);
    assert_int_equal(sl_channel_stats(rig.channel).n_limit_waits, 2);
    assert_int_equal(sl_channel_stats(rig.channel).stream_limit, 2);
    calls[0] = sl_client_call_free(calls[0]);
    client_rig_turn(&rig);
    assert_int_equal(rig.n_requests, 3);
    /* The server goes: who still waits does not wait for it. */
    sl_h2_session_goaway(rig.conns[0]->side->session, true, SL_H2_NO_ERROR, "");
    client_rig_turn(&rig);
    assert_int_equal(rig.n_conns, 2);
    assert_int_equal(rig.n_requests, 4);
    for (int i = 1; i < 4; i++) {
        assert_int_equal(sl_client_call_status(calls[i]), SL_PENDING);
        (void)sl_client_call_free(calls[i]);
    }
}

static void say_limit(uint32_t limit)
{
    struct sl_h2_session *session = rig.conns[0]->side->session;
    const nghttp2_settings_entry entry = { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limit };
    assert_int_equal(nghttp2_submit_settings(session->ng, NGHTTP2_FLAG_NONE, &entry, 1), 0);
    sl_h2_session_tell(session);
    client_rig_turn(&rig);
}

static void a_limit_that_is_raised_lets_waiting_calls_go(void **state)
{
    (void)state;
    rig.server_limits.streams_per_connection = 1;
    client_rig_channel(&rig, NULL);
    client_rig_script(&rig, &silence, 1);
    struct sl_client_call *first = client_rig_call(&rig, &unary, NULL, "x");
    client_rig_script(&rig, &fine, 1);
    struct sl_client_call *second = client_rig_call(&rig, &unary, NULL, "x");
    assert_int_equal(sl_client_call_status(second), SL_PENDING);
    say_limit(2);
    assert_int_equal(rig.n_conns, 1);
    expect_end(second, SL_OK, "");
    (void)sl_client_call_free(first);
}

static void set_flag(void *user_data)
{
    *(bool *)user_data = true;
}

/* The channel's own timer runs, and other timers are its neighbours in the loop's heap. */
static void freeing_a_channel_that_waits_to_connect_harms_no_timer(void **state)
{
    (void)state;
    struct sl_timer timers[8];
    bool has_fired[8] = { false };
    client_rig_channel(&rig, NULL);
    client_rig_script(&rig, &silence, 1);
    struct sl_client_call *old = client_rig_call(&rig, &unary, NULL, "x");
    rig.door = RIG_CLOSED;
    sl_h2_session_goaway(rig.conns[0]->side->session, true, SL_H2_NO_ERROR, "");
    client_rig_turn(&rig);
    struct sl_client_call *next = wait_call();
    assert_int_equal(sl_client_call_status(next), SL_PENDING);
    for (size_t i = 0; i < SL_COUNT(timers); i++) {
        sl_timer_init(&timers[i], &rig.loop.base, set_flag, &has_fired[i]);
        sl_timer_start_ms(&timers[i], 5000 + i);
    }
    rig.channel = sl_channel_free(rig.channel);
    (void)sl_client_call_free(old);
    (void)sl_client_call_free(next);
    client_rig_advance_ms(&rig, 6000);
    for (size_t i = 0; i < SL_COUNT(timers); i++) {
        assert_true(has_fired[i]);
    }
}

/* ---- Keepalive ------------------------------------------------------------------------------- */

static uint64_t n_pings(size_t conn)
{
    struct sl_h2_stats stats;
    sl_h2_session_stats(rig.conns[conn]->side->session, &stats);
    return stats.pings_in;
}

static void silence_with_a_call_open_is_asked_about(void **state)
{
    (void)state;
    rig.limits.keepalive_timeout = 2000;
    client_rig_channel(&rig, &(struct sl_channel_options){ .keepalive_ms = 10000 });
    client_rig_script(&rig, &silence, 1);
    struct sl_client_call *call = client_rig_call(&rig, &unary, NULL, "x");
    client_rig_advance_ms(&rig, 9999);
    assert_int_equal(n_pings(0), 0);
    client_rig_advance_ms(&rig, 1);
    assert_int_equal(n_pings(0), 1);
    client_rig_advance_ms(&rig, 10000);
    assert_int_equal(n_pings(0), 2);
    rig.conns[0]->is_mute = true;
    client_rig_advance_ms(&rig, 11999);
    assert_int_equal(sl_client_call_status(call), SL_PENDING);
    client_rig_advance_ms(&rig, 1);
    expect_end(call, SL_UNAVAILABLE, "keepalive");
}

static void a_time_without_end_between_pings_is_long(void **state)
{
    (void)state;
    client_rig_channel(&rig, &(struct sl_channel_options){ .keepalive_ms = UINT64_MAX });
    client_rig_script(&rig, &silence, 1);
    struct sl_client_call *call = client_rig_call(&rig, &unary, NULL, "x");
    client_rig_advance_ms(&rig, 100000); /* ends: no timer is due again and again */
    assert_int_equal(n_pings(0), 0);
    (void)sl_client_call_free(call);
}

static void without_calls_pings_need_permission(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        client_rig_channel(
            &rig, &(struct sl_channel_options){ .keepalive_ms = 400000,
                                                .keepalive_without_calls = i == 1 });
        expect_end(client_rig_call(&rig, &unary, NULL, "x"), SL_OK, "");
        client_rig_advance_ms(&rig, 900000);
        assert_int_equal(n_pings(rig.n_conns - 1), i == 1 ? 2 : 0);
        rig.channel = sl_channel_free(rig.channel);
        client_rig_turn(&rig);
    }
}

static void too_many_pings_double_the_time_between_them_rt_5(void **state)
{
    (void)state;
    client_rig_channel(&rig, &(struct sl_channel_options){ .keepalive_ms = 10000 });
    client_rig_script(&rig, &silence, 1);
    static const char *const words[] = { "other", "too_many_pings" };
    for (size_t i = 0; i < SL_COUNT(words); i++) {
        struct sl_client_call *call = client_rig_call(&rig, &unary, NULL, "x");
        sl_h2_session_goaway(rig.conns[i]->side->session, false, SL_H2_ENHANCE_YOUR_CALM, words[i]);
        client_rig_turn(&rig);
        (void)sl_client_call_free(call);
        client_rig_turn(&rig);
        call = client_rig_call(&rig, &unary, NULL, "x");
        assert_int_equal(rig.n_conns, i + 2);
        client_rig_advance_ms(&rig, 10000);
        assert_int_equal(n_pings(i + 1), i == 0 ? 1 : 0);
        client_rig_advance_ms(&rig, 10000);
        assert_int_equal(n_pings(i + 1), i == 0 ? 2 : 1);
        (void)sl_client_call_free(call);
        client_rig_turn(&rig);
    }
}

/* A header block of 136 bytes a field, as a server may send that does not look at our SETTINGS. */
static void say_fields(uint32_t stream, size_t n_fields, bool is_end)
{
    static struct h2_wire wire;
    static uint8_t block[1 << 15];
    char value[101];
    memset(value, 'v', 100);
    value[100] = '\0';
    size_t n = 0;
    block[n++] = 0x88; /* :status 200 */
    n += h2_hpack(block + n, "content-type", "application/grpc");
    if (is_end) {
        n += h2_hpack(block + n, "grpc-status", "0");
    }
    for (size_t i = 0; i < n_fields; i++) {
        n += h2_hpack(block + n, "x-aa", value);
    }
    h2_wire_clear(&wire);
    h2_wire_frame(&wire, 1, is_end ? 5 : 4, stream, block, n);
    client_rig_say(rig.conns[0], (const char *)wire.bytes, wire.size);
    client_rig_turn(&rig);
}

/* ---- Answers --------------------------------------------------------------------------------- */

static void an_answer_may_come_before_the_end_of_the_request(void **state)
{
    (void)state;
    client_rig_channel(&rig, NULL);
    const struct rig_answer early = { .kind = RIG_OK, .at_once = true };
    client_rig_script(&rig, &early, 1);
    struct sl_client_call *call;
    assert_int_equal(sl_client_call_open(rig.channel, &talk, NULL, &call), SL_OK);
    client_rig_turn(&rig); /* trailers, and the server's RST_STREAM(NO_ERROR) behind them */
    struct sl_slice message;
    assert_int_equal(sl_client_call_recv_bytes(call, &message), SL_OK);
    assert_int_equal(sl_client_call_recv_bytes(call, &message), SL_END);
    assert_int_equal(sl_client_call_send_bytes(call, sl_slice_str("late")), SL_END);
    expect_end(call, SL_OK, "");
    client_rig_turn(&rig);
    assert_int_equal(sl_h2_session_n_streams(rig.conns[0]->side->session), 0);
    expect_end(client_rig_call(&rig, &unary, NULL, "x"), SL_OK, ""); /* the connection lives */
}

static void a_reset_without_error_and_without_trailers_is_internal_st_4(void **state)
{
    (void)state;
    client_rig_channel(&rig, NULL);
    const struct rig_answer reset = { .kind = RIG_RESET, .code = SL_H2_NO_ERROR };
    client_rig_script(&rig, &reset, 1);
    expect_end(client_rig_call(&rig, &unary, NULL, "x"), SL_INTERNAL, "NO_ERROR (0)");
}

/* The server's clock was a little faster. */
static void a_deadline_that_has_passed_is_a_better_reason_than_cancel_st_4(void **state)
{
    (void)state;
    client_rig_channel(&rig, NULL);
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .timeout_ms = 100 };
    client_rig_script(&rig, &silence, 1);
    struct sl_client_call *call = client_rig_call(&rig, &unary, &options, "x");
    rig.loop.now_ns += 100 * SL_NS_PER_MS;
    sl_loop_set_time(&rig.loop.base, rig.loop.now_ns, 0, false); /* no timer has run */
    client_rig_say(rig.conns[0], "\0\0\4\3\0\0\0\0\1\0\0\0\x08", 13);
    expect_end(call, SL_DEADLINE_EXCEEDED, "deadline");
}

static void an_ok_without_its_message_is_unimplemented(void **state)
{
    (void)state;
    client_rig_channel(&rig, NULL);
    const struct rig_answer answers[] = { { .kind = RIG_LATE, .status = "0" },
                                          { .kind = RIG_TRAILERS_ONLY, .status = "0" } };
    client_rig_script(&rig, answers, 2);
    for (int i = 0; i < 2; i++) {
        expect_end(client_rig_call(&rig, &unary, NULL, "x"), SL_UNIMPLEMENTED, "without a message");
    }
    expect_end(client_rig_call(&rig, &talk, NULL, "x"), SL_OK, ""); /* a stream may be empty */
}

static void what_the_server_does_not_want_is_reset(void **state)
{
    (void)state;
    client_rig_channel(&rig, NULL);
    client_rig_script(&rig, &silence, 1);
    struct sl_client_call *call;
    assert_int_equal(sl_client_call_open(rig.channel, &talk, NULL, &call), SL_OK);
    client_rig_turn(&rig);
    say_fields(1, 0, true); /* and no RST_STREAM */
    struct sl_h2_stats stats;
    sl_h2_session_stats(rig.conns[0]->side->session, &stats);
    assert_int_equal(stats.resets_in, 1);
    expect_end(call, SL_OK, "");
}

/* ---- Limits ---------------------------------------------------------------------------------- */

static void headers_over_the_limits_end_the_call_alone(void **state)
{
    (void)state;
    static const size_t sizes[] = { 40, 40, 100, 100 }; /* two over the soft limit, two the hard */
    rig.limits.header_list_soft = 4096;
    rig.limits.header_list_hard = 8192;
    client_rig_channel(&rig, NULL);
    for (uint32_t i = 0; i < SL_COUNT(sizes); i++) {
        client_rig_script(&rig, &silence, 1);
        struct sl_client_call *call = client_rig_call(&rig, &unary, NULL, "x");
        say_fields(2 * i + 1, sizes[i], i % 2 == 1);
        expect_end(call, SL_RESOURCE_EXHAUSTED, "over the limit");
    }
    client_rig_script(&rig, &fine, 1);
    expect_end(client_rig_call(&rig, &unary, NULL, "x"), SL_OK, "");
    assert_int_equal(rig.n_conns, 1);
}

static void more_fields_than_the_limit_end_the_call_alone(void **state)
{
    (void)state;
    rig.limits.header_fields = 6;
    client_rig_channel(&rig, NULL);
    struct rig_answer answer = { .kind = RIG_OK, .fields = { "a", "1", "b", "2", "c", "3" } };
    client_rig_script(&rig, &answer, 1);
    expect_end(client_rig_call(&rig, &unary, NULL, "x"), SL_OK, "");
    rig.limits.header_fields = 4;
    rig.channel = sl_channel_free(rig.channel);
    client_rig_channel(&rig, NULL);
    client_rig_script(&rig, &answer, 1);
    expect_end(client_rig_call(&rig, &unary, NULL, "x"), SL_RESOURCE_EXHAUSTED, "over the limit");
    client_rig_script(&rig, &fine, 1);
    expect_end(client_rig_call(&rig, &unary, NULL, "x"), SL_OK, "");
}

/* A response whose body is these bytes. */
static struct sl_client_call *
answer_with(const struct sl_method_desc *method, const char *encoding, struct sl_slice bytes)
{
    static struct h2_body body;
    static const struct sl_h2_header done = { .name = { (const uint8_t *)"grpc-status", 11 },
                                              .value = { (const uint8_t *)"0", 1 } };
    client_rig_script(&rig, &silence, 1);
    struct sl_client_call *call = client_rig_call(&rig, method, NULL, "x");
    struct h2_side *side = rig.conns[rig.n_conns - 1]->side;
    struct sl_h2_stream *stream = side->streams[side->n_streams - 1];
    const struct sl_h2_header fields[] = {
        { .name = sl_slice_str(":status"), .value = sl_slice_str("200") },
        { .name = sl_slice_str("content-type"), .value = sl_slice_str("application/grpc") },
        { .name = sl_slice_str("grpc-encoding"), .value = sl_slice_str(encoding) },
    };
    h2_body_init(&body, bytes.data, bytes.size, true);
    body.trailers = &done;
    body.n_trailers = 1;
    assert_int_equal(sl_h2_stream_respond(stream, fields, SL_COUNT(fields), &body.base), SL_OK);
    client_rig_turn(&rig);
    return call;
}

static void a_message_over_the_limit_is_refused_by_its_prefix_fr_3(void **state)
{
    (void)state;
    static uint8_t bytes[5 + 2049];
    rig.limits.message_recv = 2048;
    client_rig_channel(&rig, NULL);
    struct sl_slice message;
    for (int i = 0; i < 2; i++) {
        bytes[3] = 8;
        bytes[4] = (uint8_t)i;
        struct sl_client_call *call =
            answer_with(&unary, "identity", sl_slice_of(bytes, sizeof(bytes) - 1 + (size_t)i));
        assert_int_equal(
            sl_client_call_recv_bytes(call, &message), i == 0 ? SL_OK : SL_RESOURCE_EXHAUSTED);
        (void)sl_client_call_free(call);
    }
}

static void decompression_is_capped_fr_4(void **state)
{
    (void)state;
    static uint8_t zeros[2049];
    rig.limits.message_recv = 2048;
    client_rig_channel(&rig, NULL);
    struct sl_slice message;
    for (size_t i = 0; i < 2; i++) {
        struct sl_buf packed;
        uint8_t *prefix;
        sl_buf_init(&packed, 65536);
        assert_int_equal(sl_buf_reserve(&packed, 5, &prefix), SL_OK);
        sl_buf_commit(&packed, 5);
        assert_int_equal(
            sl_compress(SL_ENCODING_GZIP, sl_slice_of(zeros, 2048 + i), &packed), SL_OK);
        memset(packed.data, 0, 5);
        packed.data[0] = 1;
        packed.data[4] = (uint8_t)(packed.size - 5);
        assert_true(packed.size < 256);
        struct sl_client_call *call = answer_with(&unary, "gzip", sl_buf_slice(&packed));
        assert_int_equal(
            sl_client_call_recv_bytes(call, &message), i == 0 ? SL_OK : SL_RESOURCE_EXHAUSTED);
        (void)sl_client_call_free(call);
        sl_buf_done(&packed);
    }
}

/* ---- Interceptors ---------------------------------------------------------------------------- */

static char trace[1024];

static void note(const char *who, const char *what, int n)
{
    const size_t size = strlen(trace);
    (void)snprintf(trace + size, sizeof(trace) - size, "%s.%s(%d) ", who, what, n);
}

static enum sl_status fail_with;
static uint64_t limit_ms;

static enum sl_status on_start(struct sl_client_call *call, struct sl_error *err, void *user_data)
{
    note(user_data, "start", 0);
    if (strcmp(user_data, "auth") == 0) {
        assert_int_equal(
            sl_client_call_add_metadata(
                call, sl_slice_str("authorization"), sl_slice_str("Bearer token")),
            SL_OK);
        assert_int_equal(
            sl_client_call_add_metadata(call, sl_slice_str("grpc-x"), sl_slice_str("y")),
            SL_INVALID_ARGUMENT);
        assert_string_equal(sl_client_call_method(call)->path, unary.path);
        if (limit_ms > 0) {
            assert_int_equal(sl_client_call_limit_time(call, limit_ms), SL_OK);
        }
        if (fail_with != SL_OK) {
            return sl_fail(err, fail_with, "no token can be had");
        }
    }
    return SL_OK;
}

static void
on_headers(struct sl_client_call *call, const struct sl_metadata *headers, void *user_data)
{
    struct sl_slice value;
    note(user_data, "headers", (int)headers->n_items);
    assert_true(sl_metadata_get(headers, "a", 0, &value));
    assert_int_equal(
        sl_client_call_add_metadata(call, sl_slice_str("late"), value), SL_FAILED_PRECONDITION);
    assert_int_equal(sl_client_call_limit_time(call, 1), SL_FAILED_PRECONDITION);
}

static void on_message_out(struct sl_client_call *call, struct sl_slice message, void *user_data)
{
    (void)call;
    note(user_data, "out", (int)message.size);
}

static void on_message_in(struct sl_client_call *call, struct sl_slice message, void *user_data)
{
    (void)call;
    note(user_data, "in", (int)message.size);
}

static void on_end(struct sl_client_call *call, enum sl_status status, void *user_data)
{
    assert_int_equal(sl_client_call_status(call), status);
    note(user_data, "end", (int)status);
}

static void open_intercepted(const struct sl_service_config *config)
{
    static char trace_name[] = "trace";
    static char auth_name[] = "auth";
    const struct sl_client_interceptor chain[] = {
        { .struct_size = sizeof(chain[0]),
          .on_start = on_start,
          .on_headers = on_headers,
          .on_message_out = on_message_out,
          .on_message_in = on_message_in,
          .on_end = on_end,
          .user_data = trace_name },
        { .struct_size = sizeof(chain[0]),
          .on_start = on_start,
          .on_message_in = on_message_in,
          .on_end = on_end,
          .user_data = auth_name },
        { .struct_size = sizeof(chain[0]) },
    };
    trace[0] = '\0';
    fail_with = SL_OK;
    limit_ms = 0;
    client_rig_channel(
        &rig, &(struct sl_channel_options){ .interceptors = chain,
                                            .n_interceptors = SL_COUNT(chain),
                                            .service_config = config });
}

static void interceptors_see_a_call_from_both_sides_op_1(void **state)
{
    (void)state;
    open_intercepted(NULL);
    const struct rig_answer answer = { .kind = RIG_OK, .fields = { "a", "1" } };
    client_rig_script(&rig, &answer, 1);
    const struct sl_metadatum own = { sl_slice_str("x-own"), sl_slice_str("1") };
    const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                    .metadata = &own,
                                                    .n_metadata = 1 };
    struct sl_client_call *call = client_rig_call(&rig, &unary, &options, "hello");
    const char *log = client_rig_log(&rig);
    assert_non_null(strstr(log, "x-own=1"));
    assert_non_null(strstr(log, "authorization=Bearer token(secret)"));
    assert_null(strstr(log, "late="));
    struct sl_slice message;
    assert_int_equal(sl_client_call_recv_bytes(call, &message), SL_OK);
    assert_string_equal(
        trace, "trace.start(0) auth.start(0) trace.out(5) trace.headers(1) auth.end(0) "
               "trace.end(0) auth.in(0) trace.in(0) ");
    expect_end(call, SL_OK, "");
}

static void an_interceptor_may_end_the_call_op_1(void **state)
{
    (void)state;
    open_intercepted(NULL);
    fail_with = SL_UNAUTHENTICATED;
    struct sl_client_call *call = client_rig_call(&rig, &unary, NULL, "x");
    assert_string_equal(trace, "trace.start(0) auth.start(0) trace.end(16) ");
    assert_int_equal(sl_client_call_error(call)->origin, SL_ORIGIN_LOCAL);
    expect_end(call, SL_UNAUTHENTICATED, "no token can be had");
    assert_int_equal(rig.n_connects, 0);
}

static void an_interceptor_may_shorten_the_time(void **state)
{
    (void)state;
    open_intercepted(NULL);
    client_rig_script(&rig, &silence, 1);
    limit_ms = 300;
    for (uint64_t own_ms = 200; own_ms <= 400; own_ms += 200) {
        const struct sl_client_call_options options = { .struct_size = sizeof(options),
                                                        .timeout_ms = own_ms };
        const uint64_t least_ms = own_ms < 300 ? own_ms : 300;
        struct sl_client_call *call = client_rig_call(&rig, &unary, &options, "x");
        client_rig_advance_ms(&rig, least_ms - 1);
        assert_int_equal(sl_client_call_status(call), SL_PENDING);
        client_rig_advance_ms(&rig, 1);
        expect_end(call, SL_DEADLINE_EXCEEDED, "deadline");
    }
    assert_non_null(strstr(trace, "auth.end(4) trace.end(4) "));
}

static void retries_happen_inside_of_the_interceptors(void **state)
{
    (void)state;
    const struct sl_method_config all = { .struct_size = sizeof(all),
                                          .retry = { .max_attempts = 2,
                                                     .initial_backoff_ms = 10,
                                                     .max_backoff_ms = 10,
                                                     .backoff_multiplier = 1,
                                                     .retryable = SL_RETRY_ON(SL_UNAVAILABLE) } };
    open_intercepted(&(struct sl_service_config){
        .struct_size = sizeof(struct sl_service_config), .methods = &all, .n_methods = 1 });
    const struct rig_answer answers[] = { { .kind = RIG_TRAILERS_ONLY, .status = "14" },
                                          { .kind = RIG_TRAILERS_ONLY, .status = "5" } };
    client_rig_script(&rig, answers, 2);
    struct sl_client_call *call = client_rig_call(&rig, &unary, NULL, "x");
    client_rig_advance_ms(&rig, 20);
    assert_non_null(strstr(client_rig_log(&rig), "authorization=Bearer token"));
    assert_string_equal(
        trace, "trace.start(0) auth.start(0) trace.out(1) auth.end(5) trace.end(5) ");
    expect_end(call, SL_NOT_FOUND, "");
}

static void an_end_is_told_once_whoever_decides_it(void **state)
{
    (void)state;
    open_intercepted(NULL);
    client_rig_script(&rig, &silence, 1);
    struct sl_client_call *call = client_rig_call(&rig, &unary, NULL, "x");
    trace[0] = '\0';
    sl_client_call_cancel(call);
    (void)sl_client_call_free(call);
    client_rig_turn(&rig);
    assert_string_equal(trace, "auth.end(1) trace.end(1) ");
    call = client_rig_call(&rig, &unary, NULL, "x");
    trace[0] = '\0';
    rig.channel = sl_channel_free(rig.channel);
    assert_string_equal(trace, "auth.end(1) trace.end(1) ");
    expect_end(call, SL_CANCELLED, "channel");
}

static void an_interceptor_without_size_is_refused(void **state)
{
    (void)state;
    const struct sl_client_interceptor one = { 0 };
    const struct sl_channel_options options = { .struct_size = sizeof(options),
                                                .loop = &rig.loop.base,
                                                .interceptors = &one,
                                                .n_interceptors = 1 };
    struct sl_channel *channel;
    assert_int_equal(sl_channel_new("memory:1", &options, &channel, NULL), SL_INVALID_ARGUMENT);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(connections_are_tried_with_backoff_rt_5),
        T(a_server_that_greets_and_leaves_is_not_asked_without_pause),
        T(connecting_takes_only_so_long),
        T(a_goaway_lets_open_calls_go_on_cm_5),
        T(calls_wait_for_the_servers_limit_of_streams),
        T(a_limit_that_is_raised_lets_waiting_calls_go),
        T(freeing_a_channel_that_waits_to_connect_harms_no_timer),
        T(silence_with_a_call_open_is_asked_about),
        T(a_time_without_end_between_pings_is_long),
        T(without_calls_pings_need_permission),
        T(too_many_pings_double_the_time_between_them_rt_5),
        T(an_answer_may_come_before_the_end_of_the_request),
        T(a_reset_without_error_and_without_trailers_is_internal_st_4),
        T(what_the_server_does_not_want_is_reset),
        T(a_deadline_that_has_passed_is_a_better_reason_than_cancel_st_4),
        T(an_ok_without_its_message_is_unimplemented),
        T(headers_over_the_limits_end_the_call_alone),
        T(more_fields_than_the_limit_end_the_call_alone),
        T(a_message_over_the_limit_is_refused_by_its_prefix_fr_3),
        T(decompression_is_capped_fr_4),
        T(interceptors_see_a_call_from_both_sides_op_1),
        T(an_interceptor_may_end_the_call_op_1),
        T(an_interceptor_may_shorten_the_time),
        T(retries_happen_inside_of_the_interceptors),
        T(an_end_is_told_once_whoever_decides_it),
        T(an_interceptor_without_size_is_refused),
    };
    return cmocka_run_group_tests_name("rpc_client", tests, NULL, NULL);
}
