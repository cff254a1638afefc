/* Level 1 on both sides, through the public functions of the core alone (EM-2): client and server
 * are joined by a loop that carries bytes, and the clock is a number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service/rpc/rpc.h"

enum { ROOM_BYTES = 64 * 1024, TURNS = 10000, N_MESSAGES = 100, MESSAGE_BYTES = 64 * 1024 };

/* ---- Handlers -------------------------------------------------------------------------------- */

static struct {
    enum sl_call_end_kind kind;
    int n_ended, n_silent, n_received;
    struct sl_slice message; /* of talk: not sent yet */
    bool has_message;
} seen;

static enum sl_status on_echo(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)user_data;
    return sl_call_reply_bytes(call, request);
}

/* One message is received when the last was sent: a client that does not read is not read. */
static void talk_on(struct sl_call *call, void *user_data)
{
    (void)user_data;
    for (;;) {
        if (!seen.has_message) {
            const enum sl_status status = sl_call_recv_bytes(call, &seen.message);
            if (status == SL_END) {
                sl_call_finishf(call, SL_OK, "%s", "");
            }
            if (status != SL_OK) {
                return;
            }
            seen.n_received++;
            seen.has_message = true;
        }
        if (sl_call_send_bytes(call, seen.message) != SL_OK) {
            return;
        }
        seen.has_message = false;
    }
}

static void on_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    (void)user_data;
    seen.n_ended++;
    seen.kind = end->kind;
    sl_call_finishf(call, SL_CANCELLED, "%s", "");
}

static const struct sl_call_callbacks callbacks = { .struct_size = sizeof(callbacks),
                                                    .on_readable = talk_on,
                                                    .on_writable = talk_on,
                                                    .on_ended = on_ended };

static enum sl_status on_talk(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)request;
    (void)user_data;
    sl_call_set_callbacks(call, &callbacks, NULL);
    return SL_PENDING;
}

static enum sl_status on_silence(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)request;
    (void)user_data;
    static const struct sl_call_callbacks silent = { .struct_size = sizeof(silent),
                                                     .on_ended = on_ended };
    seen.n_silent++;
    sl_call_set_callbacks(call, &silent, NULL);
    return SL_PENDING;
}

static const struct sl_method_desc echo = { .path = "/a.B/Echo", .kind = SL_UNARY };
static const struct sl_method_desc talk = { .path = "/a.B/Talk", .kind = SL_BIDIRECTIONAL };
static const struct sl_method_desc silence = { .path = "/a.B/Silence", .kind = SL_UNARY };

/* ---- Two ends -------------------------------------------------------------------------------- */

struct pair {
    struct sl_channel_conn *client;
    struct sl_conn *server;
};

static struct {
    struct sl_server *server;
    struct sl_channel *channel;
    uint64_t now_ns;
    int n_outputs, n_readable, n_writable;
} rig;

static void on_output(void *user_data)
{
    (void)user_data;
    rig.n_outputs++;
}

static void on_readable(struct sl_client_call *call, void *user_data)
{
    (void)call;
    (void)user_data;
    rig.n_readable++;
}

static void on_writable(struct sl_client_call *call, void *user_data)
{
    (void)call;
    (void)user_data;
    rig.n_writable++;
}

static bool carry_up(struct pair *pair)
{
    static uint8_t room[ROOM_BYTES];
    const size_t n = sl_channel_conn_pull(pair->client, room, sizeof(room), rig.now_ns);
    if (n > 0 && pair->server != NULL) {
        assert_int_equal(sl_conn_feed(pair->server, sl_slice_of(room, n), rig.now_ns, NULL), SL_OK);
    }
    return n > 0;
}

static bool carry_down(struct pair *pair)
{
    static uint8_t room[ROOM_BYTES];
    const size_t n =
        pair->server == NULL ? 0 : sl_conn_pull(pair->server, room, sizeof(room), rig.now_ns);
    if (n > 0) {
        const enum sl_status status =
            sl_channel_conn_feed(pair->client, sl_slice_of(room, n), rig.now_ns, NULL);
        assert_true(status == SL_OK || status == SL_UNAVAILABLE);
    }
    return n > 0;
}

/* Until nothing is left to carry. */
static void carry(struct pair *pair)
{
    for (int i = 0; i < TURNS; i++) {
        const bool went_up = carry_up(pair);
        if (!carry_down(pair) && !went_up) {
            return;
        }
    }
    fail_msg("the two never stop talking");
}

static struct pair join(void)
{
    const struct sl_channel_conn_options options = { .struct_size = sizeof(options),
                                                     .on_output = on_output };
    struct pair pair = { 0 };
    assert_int_equal(sl_channel_conn_new(rig.channel, &options, rig.now_ns, &pair.client), SL_OK);
    assert_int_equal(sl_conn_new(rig.server, NULL, &pair.server), SL_OK);
    return pair;
}

static void part(struct pair *pair)
{
    pair->client = sl_channel_conn_free(pair->client);
    pair->server = sl_conn_free(pair->server);
}

static void pass_ms(uint64_t ms)
{
    rig.now_ns += ms * SL_NS_PER_MS;
}

static void open_channel(const struct sl_channel_options *given)
{
    struct sl_channel_options options = *given;
    options.struct_size = sizeof(options);
    options.authority = "memory";
    assert_int_equal(sl_channel_new_core(&options, rig.now_ns, &rig.channel, NULL), SL_OK);
}

static int setup_server(void **state)
{
    (void)state;
    memset(&seen, 0, sizeof(seen));
    memset(&rig, 0, sizeof(rig));
    rig.now_ns = 5 * SL_NS_PER_S;
    assert_int_equal(sl_server_new(NULL, &rig.server), SL_OK);
    assert_int_equal(sl_server_add_raw(rig.server, echo.path, echo.kind, on_echo, NULL), SL_OK);
    assert_int_equal(sl_server_add_raw(rig.server, talk.path, talk.kind, on_talk, NULL), SL_OK);
    assert_int_equal(
        sl_server_add_raw(rig.server, silence.path, silence.kind, on_silence, NULL), SL_OK);
    return 0;
}

static int setup(void **state)
{
    (void)setup_server(state);
    open_channel(&(const struct sl_channel_options){ 0 });
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig.channel = sl_channel_free(rig.channel);
    rig.server = sl_server_free(rig.server);
    return 0;
}

static struct sl_client_call *
begin(const struct sl_method_desc *method, const struct sl_client_call_options *given)
{
    struct sl_client_call_options options = { 0 };
    if (given != NULL) {
        options = *given;
    }
    options.struct_size = sizeof(options);
    options.on_readable = on_readable;
    options.on_writable = on_writable;
    struct sl_client_call *call = NULL;
    assert_int_equal(sl_client_call_open(rig.channel, method, &options, &call), SL_OK);
    return call;
}

static struct sl_client_call *
ask(const struct sl_method_desc *method,
    const char *text,
    const struct sl_client_call_options *given)
{
    struct sl_client_call *call = begin(method, given);
    assert_int_equal(sl_client_call_send_bytes(call, sl_slice_str(text)), SL_OK);
    sl_client_call_close_send(call);
    return call;
}

static void assert_answer(struct sl_client_call *call, const char *text)
{
    struct sl_slice message;
    assert_int_equal(sl_client_call_recv_bytes(call, &message), SL_OK);
    assert_true(sl_slice_equals(message, text));
    assert_int_equal(sl_client_call_recv_bytes(call, &message), SL_END);
}

static void assert_over(struct sl_client_call *call, enum sl_status status)
{
    struct sl_slice message;
    assert_int_equal(sl_client_call_recv_bytes(call, &message), status);
    (void)sl_client_call_free(call);
}

/* ---- Calls ----------------------------------------------------------------------------------- */

static void a_unary_call_passes_without_io_em_2(void **state)
{
    (void)state;
    assert_false(sl_channel_wants_conn(rig.channel));
    struct sl_client_call *call = ask(&echo, "one", NULL);
    struct sl_slice message;
    assert_int_equal(sl_client_call_recv_bytes(call, &message), SL_AGAIN);
    assert_true(sl_channel_wants_conn(rig.channel));
    struct pair pair = join();
    assert_false(sl_channel_wants_conn(rig.channel));
    carry(&pair);
    assert_true(rig.n_readable > 0);
    assert_answer(call, "one");
    (void)sl_client_call_free(call);

    /* What is asked outside of feed and pull says that it wants out. */
    call = begin(&talk, NULL);
    carry(&pair);
    const int n_outputs = rig.n_outputs;
    assert_int_equal(sl_client_call_send_bytes(call, sl_slice_str("two")), SL_OK);
    assert_true(rig.n_outputs > n_outputs);
    sl_client_call_close_send(call);
    carry(&pair);
    assert_answer(call, "two");
    (void)sl_client_call_free(call);
    part(&pair);
}

static bool send_number(struct sl_client_call *call, int number)
{
    static uint8_t bytes[MESSAGE_BYTES];
    bytes[0] = (uint8_t)number;
    const enum sl_status status =
        sl_client_call_send_bytes(call, sl_slice_of(bytes, sizeof(bytes)));
    assert_true(status == SL_OK || status == SL_AGAIN);
    return status == SL_OK;
}

/* Sends what fits until carrying makes no more room. */
static int send_all(struct sl_client_call *call, struct pair *pair, int n_sent)
{
    for (int before = -1; before != n_sent && n_sent < N_MESSAGES;) {
        before = n_sent;
        while (n_sent < N_MESSAGES && send_number(call, n_sent)) {
            n_sent++;
        }
        carry(pair);
    }
    return n_sent;
}

static void streams_hold_back_both_ways_and_lose_nothing(void **state)
{
    (void)state;
    struct pair pair = join();
    struct sl_client_call *call = begin(&talk, NULL);
    /* Nobody receives: the windows and queues of both sides fill, and the client has to wait. */
    int n_sent = send_all(call, &pair, 0);
    assert_in_range(n_sent, 1, N_MESSAGES - 1);
    assert_true(seen.has_message);
    const int n_writable = rig.n_writable;
    int n_received = 0;
    struct sl_slice message;
    for (int i = 0; i < TURNS && n_received < N_MESSAGES; i++) {
        while (sl_client_call_recv_bytes(call, &message) == SL_OK) {
            assert_int_equal(message.size, MESSAGE_BYTES);
            assert_int_equal(message.data[0], (uint8_t)n_received++);
        }
        carry(&pair);
        n_sent = send_all(call, &pair, n_sent);
    }
    assert_int_equal(n_received, N_MESSAGES);
    assert_int_equal(seen.n_received, N_MESSAGES);
    assert_true(rig.n_writable > n_writable);
    sl_client_call_close_send(call);
    carry(&pair);
    assert_over(call, SL_END);
    part(&pair);
}

static void a_deadline_passes_by_the_clock_that_is_passed_in(void **state)
{
    (void)state;
    struct pair pair = join();
    carry(&pair);
    pass_ms(1000000);
    sl_channel_turn(rig.channel, rig.now_ns);
    struct sl_client_call *call =
        ask(&silence, "", &(struct sl_client_call_options){ .timeout_ms = 1000 });
    carry(&pair);
    assert_int_equal(seen.n_silent, 1);
    assert_int_equal(sl_channel_due_ns(rig.channel), rig.now_ns + SL_NS_PER_S);
    assert_int_equal(sl_channel_conn_due_ns(pair.client), rig.now_ns + SL_NS_PER_S);
    pass_ms(999);
    assert_int_equal(sl_channel_conn_feed(pair.client, sl_slice_str(""), rig.now_ns, NULL), SL_OK);
    assert_int_equal(sl_client_call_status(call), SL_PENDING);
    pass_ms(1);
    assert_int_equal(sl_channel_conn_feed(pair.client, sl_slice_str(""), rig.now_ns, NULL), SL_OK);
    assert_over(call, SL_DEADLINE_EXCEEDED);
    carry(&pair);
    assert_int_equal(seen.n_ended, 1);
    part(&pair);
}

static void a_cancel_reaches_the_server(void **state)
{
    (void)state;
    struct pair pair = join();
    struct sl_client_call *call = ask(&silence, "", NULL);
    carry(&pair);
    const int n_outputs = rig.n_outputs;
    sl_client_call_cancel(call);
    assert_true(rig.n_outputs > n_outputs);
    assert_int_equal(sl_channel_due_ns(rig.channel), 0); /* a callback is owed */
    carry(&pair);
    assert_int_equal(seen.n_ended, 1);
    assert_int_equal(seen.kind, SL_CALL_RESET);
    assert_over(call, SL_CANCELLED);
    part(&pair);
}

/* The call that a handler makes for its own. */
static struct sl_client_call *inner;

static enum sl_status on_forward(struct sl_call *call, struct sl_slice request, void *user_data)
{
    inner = ask(&silence, "", &(struct sl_client_call_options){ .parent = call });
    return on_silence(call, request, user_data);
}

static void a_call_made_for_another_ends_with_it(void **state)
{
    (void)state;
    static const struct sl_method_desc forward = { .path = "/a.B/Forward", .kind = SL_UNARY };
    assert_int_equal(
        sl_server_add_raw(rig.server, forward.path, forward.kind, on_forward, NULL), SL_OK);
    struct pair pair = join();
    struct sl_client_call *outer = ask(&forward, "", NULL);
    carry(&pair);
    assert_int_equal(seen.n_silent, 2);
    sl_client_call_cancel(outer);
    carry(&pair);
    assert_int_equal(seen.n_ended, 2);
    assert_string_equal(
        sl_client_call_error(inner)->text, "the call that this one was made for is over");
    assert_over(inner, SL_CANCELLED);
    assert_over(outer, SL_CANCELLED);
    part(&pair);
}

/* ---- Connections ----------------------------------------------------------------------------- */

static void after_a_goaway_new_calls_use_the_next_connection(void **state)
{
    (void)state;
    struct pair first = join();
    struct sl_client_call *old = begin(&talk, NULL);
    carry(&first);
    struct sl_channel_conn *too_many = NULL;
    assert_int_equal(
        sl_channel_conn_new(rig.channel, NULL, rig.now_ns, &too_many), SL_ALREADY_EXISTS);
    sl_conn_drain(first.server, 60000);
    carry(&first);
    struct sl_client_call *new = ask(&echo, "new", NULL);
    carry(&first);
    assert_true(sl_channel_wants_conn(rig.channel));
    struct pair second = join();
    carry(&second);
    assert_answer(new, "new");
    (void)sl_client_call_free(new);

    assert_int_equal(sl_client_call_send_bytes(old, sl_slice_str("old")), SL_OK);
    sl_client_call_close_send(old);
    assert_false(sl_channel_conn_wants_close(first.client));
    carry(&first);
    assert_answer(old, "old");
    (void)sl_client_call_free(old);
    assert_true(sl_channel_conn_wants_close(first.client));
    assert_false(sl_channel_conn_wants_close(second.client));
    part(&first);
    part(&second);
}

static void a_lost_connection_ends_what_the_server_has_seen(void **state)
{
    (void)state;
    struct pair pair = join();
    struct sl_client_call *call = ask(&silence, "", NULL);
    carry(&pair);
    const int n_readable = rig.n_readable;
    part(&pair);
    assert_int_equal(seen.kind, SL_CALL_LOST);
    assert_int_equal(rig.n_readable, n_readable); /* callbacks run in a turn */
    assert_int_equal(sl_channel_due_ns(rig.channel), 0);
    sl_channel_turn(rig.channel, rig.now_ns);
    assert_true(rig.n_readable > n_readable);
    assert_string_equal(sl_client_call_error(call)->text, "memory: connection lost");
    assert_over(call, SL_UNAVAILABLE);
}

static void a_policy_tries_again_on_the_next_connection(void **state)
{
    (void)state;
    const struct sl_method_config method = {
        .struct_size = sizeof(method),
        .retry = { .max_attempts = 3,
                   .initial_backoff_ms = 100,
                   .max_backoff_ms = 100,
                   .backoff_multiplier = 1,
                   .retryable = SL_RETRY_ON(SL_UNAVAILABLE) },
    };
    const struct sl_service_config config = { .struct_size = sizeof(config),
                                              .methods = &method,
                                              .n_methods = 1 };
    open_channel(&(const struct sl_channel_options){ .service_config = &config });
    struct pair pair = join();
    carry(&pair);
    struct sl_client_call *call = ask(&echo, "again", NULL);
    assert_true(carry_up(&pair)); /* the answer never comes */
    part(&pair);
    assert_int_equal(sl_client_call_status(call), SL_PENDING);
    assert_false(sl_channel_wants_conn(rig.channel)); /* backoff */
    pass_ms(120);
    assert_true(sl_channel_due_ns(rig.channel) <= rig.now_ns);
    sl_channel_turn(rig.channel, rig.now_ns);
    assert_true(sl_channel_wants_conn(rig.channel));
    pair = join();
    carry(&pair);
    assert_answer(call, "again");
    assert_int_equal(sl_client_call_previous_attempts(call), 1);
    (void)sl_client_call_free(call);
    part(&pair);
}

static void without_a_connection_calls_fail_fast_or_wait(void **state)
{
    (void)state;
    struct sl_client_call *call = ask(&echo, "", NULL);
    struct sl_client_call *patient =
        ask(&echo, "at last", &(struct sl_client_call_options){ .wait_for_ready = true });
    sl_channel_turn(rig.channel, rig.now_ns);
    sl_channel_conn_failed(rig.channel, "connection refused", rig.now_ns);
    assert_string_equal(sl_client_call_error(call)->text, "memory: connection refused");
    assert_int_equal(sl_client_call_error(call)->origin, SL_ORIGIN_TRANSPORT);
    assert_over(call, SL_UNAVAILABLE);
    assert_false(sl_channel_wants_conn(rig.channel));
    pass_ms(1200);
    assert_true(sl_channel_due_ns(rig.channel) <= rig.now_ns);
    sl_channel_turn(rig.channel, rig.now_ns);
    assert_true(sl_channel_wants_conn(rig.channel));
    struct pair pair = join();
    carry(&pair);
    assert_answer(patient, "at last");
    (void)sl_client_call_free(patient);
    part(&pair);
}

static void a_server_that_does_not_answer_pings_is_given_up(void **state)
{
    (void)state;
    open_channel(&(const struct sl_channel_options){ .keepalive_ms = 60000 });
    struct pair pair = join();
    struct sl_client_call *call = ask(&silence, "", NULL);
    carry(&pair);
    pass_ms(60000);
    assert_int_equal(sl_channel_conn_feed(pair.client, sl_slice_str(""), rig.now_ns, NULL), SL_OK);
    pair.server = sl_conn_free(pair.server);
    assert_true(carry_up(&pair)); /* the PING, which nobody hears */
    pass_ms(60000);
    struct sl_error err = { 0 };
    assert_int_equal(
        sl_channel_conn_feed(pair.client, sl_slice_str(""), rig.now_ns, &err), SL_UNAVAILABLE);
    assert_string_equal(err.text, "memory: the server does not answer (keepalive)");
    assert_true(sl_channel_conn_wants_close(pair.client));
    part(&pair);
    assert_over(call, SL_UNAVAILABLE);
}

static void bytes_that_are_not_http2_end_the_connection(void **state)
{
    (void)state;
    static uint8_t room[ROOM_BYTES];
    const struct sl_slice bytes = sl_slice_str("HTTP/1.1 400 Bad Request\r\n\r\n");
    struct pair pair = join();
    struct sl_client_call *call = ask(&echo, "", NULL);
    const enum sl_status status = sl_channel_conn_feed(pair.client, bytes, rig.now_ns, NULL);
    assert_true(status == SL_OK || status == SL_UNAVAILABLE); /* a GOAWAY may be left to send */
    for (int i = 0; i < TURNS && !sl_channel_conn_wants_close(pair.client); i++) {
        (void)sl_channel_conn_pull(pair.client, room, sizeof(room), rig.now_ns);
    }
    assert_true(sl_channel_conn_wants_close(pair.client));
    assert_int_equal(sl_channel_conn_feed(pair.client, bytes, rig.now_ns, NULL), SL_UNAVAILABLE);
    part(&pair);
    sl_channel_turn(rig.channel, rig.now_ns);
    assert_over(call, SL_UNAVAILABLE);
}

/* ---- Life ------------------------------------------------------------------------------------ */

static void a_freed_channel_says_goodbye_and_calls_outlive_it(void **state)
{
    (void)state;
    struct pair pair = join();
    struct sl_client_call *call = ask(&silence, "", NULL);
    struct sl_client_call *unread = ask(&echo, "", NULL);
    carry(&pair);
    const int n_readable = rig.n_readable;
    rig.channel = sl_channel_free(rig.channel);
    assert_false(sl_channel_conn_wants_close(pair.client));
    carry(&pair); /* RST_STREAM and GOAWAY */
    assert_int_equal(seen.n_ended, 1);
    assert_true(sl_channel_conn_wants_close(pair.client));
    part(&pair);
    assert_int_equal(rig.n_readable, n_readable);
    sl_client_call_cancel(call);
    assert_over(call, SL_CANCELLED);
    sl_client_call_cancel(unread);
    assert_over(unread, SL_CANCELLED);
}

static void a_channel_that_never_had_a_connection_frees_its_calls(void **state)
{
    (void)state;
    struct sl_client_call *call =
        ask(&echo, "", &(struct sl_client_call_options){ .timeout_ms = 1000 });
    rig.channel = sl_channel_free(rig.channel);
    assert_over(call, SL_CANCELLED);
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    struct sl_channel *channel = NULL;
    struct sl_channel_options options = { .struct_size = sizeof(options) };
    assert_int_equal(sl_channel_new_core(NULL, 1, &channel, NULL), SL_INVALID_ARGUMENT);
    assert_int_equal(sl_channel_new_core(&options, 1, &channel, NULL), SL_INVALID_ARGUMENT);
    options.authority = "a";
    options.authorization = "\n";
    assert_int_equal(sl_channel_new_core(&options, 1, &channel, NULL), SL_INVALID_ARGUMENT);
    const struct sl_channel_conn_options conn = { .struct_size = sizeof(conn) + 1 };
    struct sl_channel_conn *ret_conn = NULL;
    assert_int_equal(sl_channel_conn_new(rig.channel, &conn, 1, &ret_conn), SL_INVALID_ARGUMENT);

    /* Nobody can wait. */
    void *reply = NULL;
    struct sl_client_call *call = NULL;
    assert_int_equal(
        sl_client_unary(rig.channel, &echo, NULL, NULL, &reply, &call), SL_FAILED_PRECONDITION);
    call = begin(&echo, NULL);
    assert_int_equal(sl_client_call_finish(call, &reply), SL_FAILED_PRECONDITION);
    assert_null(sl_client_call_headers(call));
    (void)sl_client_call_free(call);
}

#define CASE(name)        cmocka_unit_test_setup_teardown(name, setup, teardown)
#define SERVER_CASE(name) cmocka_unit_test_setup_teardown(name, setup_server, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_unary_call_passes_without_io_em_2),
        CASE(streams_hold_back_both_ways_and_lose_nothing),
        CASE(a_deadline_passes_by_the_clock_that_is_passed_in),
        CASE(a_cancel_reaches_the_server),
        CASE(a_call_made_for_another_ends_with_it),
        CASE(after_a_goaway_new_calls_use_the_next_connection),
        CASE(a_lost_connection_ends_what_the_server_has_seen),
        SERVER_CASE(a_policy_tries_again_on_the_next_connection),
        CASE(without_a_connection_calls_fail_fast_or_wait),
        SERVER_CASE(a_server_that_does_not_answer_pings_is_given_up),
        CASE(bytes_that_are_not_http2_end_the_connection),
        CASE(a_freed_channel_says_goodbye_and_calls_outlive_it),
        CASE(a_channel_that_never_had_a_connection_frees_its_calls),
        CASE(what_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
