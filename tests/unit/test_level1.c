/* Level 1 through the public functions alone (EM-2): the test owns the server's socket, reads and
 * writes its bytes, and passes in the time; our client is on the other side, on a loop that the
 * test steps. Everything happens in one thread. */
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "service/rpc/rpc.h"

enum { TURNS = 20000, TURN_MS = 2, ROOM_BYTES = 64 * 1024, BIG_BYTES = 1024 * 1024 };

/* ---- Handlers, as at every level ------------------------------------------------------------- */

static int n_lost;

static enum sl_status on_echo(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)user_data;
    assert_null(sl_call_loop(call));
    return sl_call_reply_bytes(call, request);
}

static enum sl_status on_twice(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)user_data;
    SL_TRY(sl_call_send_bytes(call, request));
    return sl_call_send_bytes(call, request);
}

static void talk_on(struct sl_call *call, void *user_data)
{
    (void)user_data;
    struct sl_slice message;
    enum sl_status status = SL_OK;
    while ((status = sl_call_recv_bytes(call, &message)) == SL_OK) {
        assert_int_equal(sl_call_send_bytes(call, message), SL_OK);
    }
    if (status == SL_END) {
        sl_call_finishf(call, SL_OK, "%s", "");
    }
}

static void on_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    (void)user_data;
    n_lost += end->kind == SL_CALL_LOST ? 1 : 0;
    sl_call_finishf(call, SL_CANCELLED, "%s", "");
}

static enum sl_status on_talk(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)request;
    (void)user_data;
    static const struct sl_call_callbacks callbacks = { .struct_size = sizeof(callbacks),
                                                        .on_readable = talk_on,
                                                        .on_ended = on_ended };
    sl_call_set_callbacks(call, &callbacks, NULL);
    return SL_PENDING;
}

static const struct sl_method_desc echo = { .path = "/a.B/Echo", .kind = SL_UNARY };
static const struct sl_method_desc twice = { .path = "/a.B/Twice", .kind = SL_SERVER_STREAMING };
static const struct sl_method_desc talk = { .path = "/a.B/Talk", .kind = SL_BIDIRECTIONAL };
static const struct sl_method_desc pooled = { .path = "/a.B/Pooled", .kind = SL_UNARY };

/* ---- The two ends ---------------------------------------------------------------------------- */

static struct {
    struct sl_server *server;
    struct sl_conn *conn;
    int listen_fd, fd; /* -1: not yet */
    struct sl_loop_uv *loop;
    struct sl_channel *channel;
} rig;

static uint64_t now_ns(void)
{
    struct timespec now = { 0 };
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SL_NS_PER_S + (uint64_t)now.tv_nsec;
}

static void send_all(const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        const ssize_t n = send(rig.fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            bytes += n;
            size -= (size_t)n;
        } else {
            sl_loop_uv_step(rig.loop, TURN_MS); /* the client reads */
        }
    }
}

static void turn_server(void)
{
    static uint8_t room[ROOM_BYTES];
    const ssize_t n = recv(rig.fd, room, sizeof(room), MSG_DONTWAIT);
    const size_t n_read = n > 0 ? (size_t)n : 0;
    assert_int_equal(sl_conn_feed(rig.conn, sl_slice_of(room, n_read), now_ns(), NULL), SL_OK);
    size_t size = 0;
    while ((size = sl_conn_pull(rig.conn, room, sizeof(room), now_ns())) > 0) {
        send_all(room, size);
    }
}

static void turn(void)
{
    sl_loop_uv_step(rig.loop, 0);
    if (rig.fd < 0) {
        rig.fd = accept4(rig.listen_fd, NULL, NULL, SOCK_NONBLOCK);
    }
    if (rig.fd >= 0 && rig.conn != NULL) {
        turn_server();
    }
    struct pollfd waits[] = { { .fd = rig.fd < 0 ? rig.listen_fd : rig.fd, .events = POLLIN },
                              { .fd = sl_loop_uv_fd(rig.loop), .events = POLLIN } };
    (void)poll(waits, 2, TURN_MS);
}

static void listen_somewhere(char *address, size_t room)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof(at);
    rig.fd = -1;
    rig.listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(rig.listen_fd, (const struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(rig.listen_fd, 1), 0);
    assert_int_equal(getsockname(rig.listen_fd, (struct sockaddr *)&at, &size), 0);
    (void)snprintf(address, room, "127.0.0.1:%u", (unsigned)ntohs(at.sin_port));
}

static int setup(void **state)
{
    (void)state;
    static const struct sl_service_options on_pool = { .struct_size = sizeof(on_pool),
                                                       .on_pool = true };
    const struct sl_server_options options = { .struct_size = sizeof(options),
                                               .n_pool_threads = 1 };
    char address[32];
    n_lost = 0;
    listen_somewhere(address, sizeof(address));
    assert_int_equal(sl_server_new(&options, &rig.server), SL_OK);
    assert_int_equal(sl_server_add_raw(rig.server, echo.path, echo.kind, on_echo, NULL), SL_OK);
    assert_int_equal(sl_server_add_raw(rig.server, twice.path, twice.kind, on_twice, NULL), SL_OK);
    assert_int_equal(sl_server_add_raw(rig.server, talk.path, talk.kind, on_talk, NULL), SL_OK);
    assert_int_equal(
        sl_server_add_raw_with(rig.server, pooled.path, pooled.kind, on_echo, NULL, &on_pool),
        SL_OK);
    assert_int_equal(sl_conn_new(rig.server, NULL, &rig.conn), SL_OK);
    assert_int_equal(sl_loop_uv_new(0, &rig.loop), SL_OK);
    const struct sl_channel_options channel = { .struct_size = sizeof(channel),
                                                .loop = sl_loop_uv_base(rig.loop) };
    assert_int_equal(sl_channel_new(address, &channel, &rig.channel, NULL), SL_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig.channel = sl_channel_free(rig.channel);
    rig.conn = sl_conn_free(rig.conn);
    rig.server = sl_server_free(rig.server);
    (void)close(rig.fd);
    (void)close(rig.listen_fd);
    for (int i = 0; i < 10; i++) {
        sl_loop_uv_step(rig.loop, 0); /* the channel closes on it */
    }
    rig.loop = sl_loop_uv_free(rig.loop);
    return 0;
}

static struct sl_client_call *
ask(const struct sl_method_desc *method, struct sl_slice message, bool is_all)
{
    struct sl_client_call *call = NULL;
    assert_int_equal(sl_client_call_open(rig.channel, method, NULL, &call), SL_OK);
    assert_int_equal(sl_client_call_send_bytes(call, message), SL_OK);
    if (is_all) {
        sl_client_call_close_send(call);
    }
    return call;
}

static enum sl_status receive(struct sl_client_call *call, struct sl_slice *ret_message)
{
    for (int i = 0; i < TURNS; i++) {
        const enum sl_status status = sl_client_call_recv_bytes(call, ret_message);
        if (status != SL_AGAIN) {
            return status;
        }
        turn();
    }
    return SL_AGAIN;
}

/* ---- Cases ----------------------------------------------------------------------------------- */

static void calls_of_every_kind_pass(void **state)
{
    (void)state;
    struct sl_slice message;
    struct sl_client_call *call = ask(&echo, sl_slice_str("one"), true);
    assert_int_equal(receive(call, &message), SL_OK);
    assert_true(sl_slice_equals(message, "one"));
    assert_int_equal(receive(call, &message), SL_END);
    (void)sl_client_call_free(call);

    call = ask(&twice, sl_slice_str("two"), true);
    assert_int_equal(receive(call, &message), SL_OK);
    assert_int_equal(receive(call, &message), SL_OK);
    assert_true(sl_slice_equals(message, "two"));
    assert_int_equal(receive(call, &message), SL_END);
    (void)sl_client_call_free(call);

    call = ask(&talk, sl_slice_str("three"), false);
    assert_int_equal(receive(call, &message), SL_OK);
    assert_true(sl_slice_equals(message, "three"));
    sl_client_call_close_send(call);
    assert_int_equal(receive(call, &message), SL_END);
    (void)sl_client_call_free(call);
}

static void a_message_larger_than_every_window_passes(void **state)
{
    (void)state;
    uint8_t *bytes = sl_alloc(BIG_BYTES);
    assert_non_null(bytes);
    memset(bytes, 'x', BIG_BYTES);
    struct sl_slice message;
    struct sl_client_call *call = ask(&echo, sl_slice_of(bytes, BIG_BYTES), true);
    assert_int_equal(receive(call, &message), SL_OK);
    assert_true(sl_slice_equal(message, sl_slice_of(bytes, BIG_BYTES)));
    (void)sl_client_call_free(call);
    (void)sl_free(bytes);
}

/* The pool answers through a loop, and there is none. */
static void methods_on_the_pool_are_not_served(void **state)
{
    (void)state;
    struct sl_slice message;
    struct sl_client_call *call = ask(&pooled, sl_slice_str(""), true);
    assert_int_equal(receive(call, &message), SL_UNIMPLEMENTED);
    (void)sl_client_call_free(call);
}

static void timers_say_when_they_are_due(void **state)
{
    (void)state;
    turn();
    assert_int_equal(sl_conn_feed(rig.conn, sl_slice_str(""), now_ns(), NULL), SL_OK);
    assert_true(sl_conn_due_ns(rig.conn) != SL_NEVER_NS); /* the preface */
    assert_false(sl_conn_wants_close(rig.conn));
}

static void freeing_a_connection_loses_its_calls_cn_2(void **state)
{
    (void)state;
    struct sl_slice message;
    struct sl_client_call *call = ask(&talk, sl_slice_str("hi"), false);
    assert_int_equal(receive(call, &message), SL_OK);
    rig.conn = sl_conn_free(rig.conn);
    assert_int_equal(n_lost, 1);
    (void)shutdown(rig.fd, SHUT_RDWR);
    assert_int_equal(receive(call, &message), SL_UNAVAILABLE);
    (void)sl_client_call_free(call);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(calls_of_every_kind_pass),
        CASE(a_message_larger_than_every_window_passes),
        CASE(methods_on_the_pool_are_not_served),
        CASE(timers_say_when_they_are_due),
        CASE(freeing_a_connection_loses_its_calls_cn_2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
