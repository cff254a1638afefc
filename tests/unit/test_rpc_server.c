/* The server on real sockets: levels 2 and 3, several loops, HTTP/1.1, and the drain. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "service/rpc/rpc.h"
#include "tests/wire/h2_pair.h"

enum { TURNS = 5000, TURN_MS = 2 };

/* ---- A client of a socket and a bare HTTP/2 session -------------------------------------------
 */

struct client {
    int fd;
    bool is_over;
    struct h2_side *side;
    struct h2_body body;
};

static int connect_to(const char *address)
{
    char host[64];
    uint16_t port = 0;
    bool is_unix = false;
    assert_int_equal(
        sl_parse_address(sl_slice_str(address), host, sizeof(host), &port, &is_unix), SL_OK);
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
    assert_int_equal(inet_pton(AF_INET, host, &to.sin_addr), 1);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static struct client *open_client(const char *address)
{
    struct client *client = calloc(1, sizeof(*client));
    assert_non_null(client);
    client->fd = connect_to(address);
    client->side = h2_side_new();
    h2_side_start(client->side, true);
    return client;
}

static void close_client(struct client *client)
{
    (void)close(client->fd);
    h2_side_free(client->side);
    free(client);
}

static void ask(struct client *client, const char *path)
{
    const struct sl_h2_header fields[] = {
        { .name = sl_slice_str(":method"), .value = sl_slice_str("POST") },
        { .name = sl_slice_str(":scheme"), .value = sl_slice_str("http") },
        { .name = sl_slice_str(":path"), .value = sl_slice_str(path) },
        { .name = sl_slice_str(":authority"), .value = sl_slice_str("x") },
        { .name = sl_slice_str("content-type"), .value = sl_slice_str("application/grpc") },
    };
    struct sl_h2_stream *stream = NULL;
    h2_body_init(&client->body, "\0\0\0\0\2hi", 7, true);
    assert_int_equal(
        sl_h2_request(client->side->session, fields, 5, &client->body.base, NULL, &stream), SL_OK);
}

/* Moves what there is, and waits for at most a turn. */
static void turn_client(struct client *client)
{
    uint8_t bytes[16384];
    const size_t n_out = h2_side_pull(client->side);
    if (n_out > 0) {
        (void)send(client->fd, client->side->room, n_out, MSG_NOSIGNAL);
    }
    struct pollfd wait = { .fd = client->fd, .events = POLLIN };
    if (poll(&wait, client->is_over ? 0 : 1, TURN_MS) <= 0) {
        return;
    }
    const ssize_t n = recv(client->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (n > 0) {
        (void)h2_side_feed(client->side, bytes, (size_t)n);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        client->is_over = true;
    }
}

/* ---- A server -------------------------------------------------------------------------------- */

struct bench {
    struct sl_server *server;
    const char *address;
    struct sl_call *pending;
    struct sl_timer finish;
    enum { FINISH_AT_ONCE, FINISH_LATER, FINISH_NEVER } how_ended_calls_finish;
    atomic_int n_started, n_ended, last_end;
    bool is_drained;
};

static enum sl_status echo(struct sl_call *call, struct sl_slice request, void *user_data)
{
    struct bench *bench = user_data;
    atomic_fetch_add(&bench->n_started, 1);
    return sl_call_reply_bytes(call, request);
}

static void finish_pending(void *user_data)
{
    struct bench *bench = user_data;
    sl_call_finishf(bench->pending, SL_ABORTED, "parked");
    bench->pending = NULL;
}

static void on_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    struct bench *bench = user_data;
    atomic_store(&bench->last_end, (int)end->kind);
    atomic_fetch_add(&bench->n_ended, 1);
    switch (bench->how_ended_calls_finish) {
    case FINISH_AT_ONCE:
        sl_call_finishf(call, SL_ABORTED, "parked");
        return;
    case FINISH_LATER:
        sl_timer_init(&bench->finish, sl_call_loop(call), finish_pending, bench);
        sl_timer_start_ms(&bench->finish, 5);
        return;
    case FINISH_NEVER:
        return;
    }
}

static enum sl_status hang(struct sl_call *call, struct sl_slice request, void *user_data)
{
    static const struct sl_call_callbacks callbacks = { .on_ended = on_ended };
    (void)request;
    struct bench *bench = user_data;
    bench->pending = call;
    sl_call_set_callbacks(call, &callbacks, bench);
    assert_int_equal(sl_call_send_headers(call), SL_OK);
    atomic_fetch_add(&bench->n_started, 1);
    return SL_PENDING;
}

static void open_bench(struct bench *bench, struct sl_loop *const *loops, size_t n_loops)
{
    *bench = (struct bench){ .address = NULL };
    const struct sl_server_options options = { .struct_size = sizeof(options),
                                               .loops = loops,
                                               .n_loops = n_loops };
    struct sl_error err;
    assert_int_equal(sl_server_new(&options, &bench->server), SL_OK);
    assert_int_equal(sl_server_add_raw(bench->server, "/t.S/Echo", SL_UNARY, echo, bench), SL_OK);
    assert_int_equal(
        sl_server_add_raw(bench->server, "/t.S/Hang", SL_SERVER_STREAMING, hang, bench), SL_OK);
    assert_int_equal(
        sl_server_listen(bench->server, "127.0.0.1:0", NULL, &bench->address, &err), SL_OK);
}

static void turn_both(struct bench *bench, struct client *client)
{
    struct sl_error err;
    turn_client(client);
    assert_int_equal(sl_server_step(bench->server, &bench->is_drained, &err), SL_OK);
}

/* True: `text` came. */
static bool wait_for(struct bench *bench, struct client *client, const char *text)
{
    for (int i = 0; i < TURNS; i++) {
        client->side->transcript[client->side->n_transcript] = '\0';
        if (strstr(client->side->transcript, text) != NULL) {
            return true;
        }
        if (bench == NULL) {
            turn_client(client);
        } else {
            turn_both(bench, client);
        }
    }
    return false;
}

/* ---- Cases ----------------------------------------------------------------------------------- */

static void stepped_server_answers_and_drains(void **state) /* EM-2, level 2 */
{
    (void)state;
    struct bench bench;
    open_bench(&bench, NULL, 0);
    assert_true(sl_server_fd(bench.server) >= 0);
    struct client *client = open_client(bench.address);
    ask(client, "/t.S/Echo");
    assert_true(wait_for(&bench, client, "1 trailers grpc-status=0 end"));
    struct sl_server_stats stats;
    sl_server_stats(bench.server, &stats);
    assert_int_equal(stats.connections, 1);
    assert_int_equal(stats.calls_finished, 1);
    sl_server_stop(bench.server, 0, NULL, NULL);
    assert_true(wait_for(&bench, client, "goaway 0 drain"));
    for (int i = 0; i < TURNS && !bench.is_drained; i++) {
        turn_both(&bench, client);
    }
    assert_true(bench.is_drained);
    close_client(client);
    sl_server_stats(bench.server, &stats);
    assert_int_equal(stats.connections, 0);
    bench.server = sl_server_free(bench.server);
}

static void lost_connection_is_told_to_the_handler(void **state) /* CN-2 */
{
    (void)state;
    struct bench bench;
    open_bench(&bench, NULL, 0);
    struct client *client = open_client(bench.address);
    ask(client, "/t.S/Hang");
    assert_true(wait_for(&bench, client, "1 response"));
    (void)shutdown(client->fd, SHUT_RDWR);
    for (int i = 0; i < TURNS && atomic_load(&bench.n_ended) == 0; i++) {
        turn_both(&bench, client);
    }
    assert_int_equal(atomic_load(&bench.last_end), SL_CALL_LOST);
    close_client(client);
    bench.server = sl_server_free(bench.server); /* with the listener open */
}

/* A call hangs, its client leaves, and the server is freed before it has noticed. The leak check
 * sees the call's record. */
static void free_behind_a_client_that_left(struct bench *bench)
{
    struct client *client = open_client(bench->address);
    ask(client, "/t.S/Hang");
    assert_true(wait_for(bench, client, "1 response"));
    close_client(client);
    bench->server = sl_server_free(bench->server);
    assert_int_equal(atomic_load(&bench->n_ended), 1); /* CN-7 */
    assert_int_equal(atomic_load(&bench->last_end), SL_CALL_LOST);
}

static void freeing_the_server_tells_the_handler_of_a_client_that_just_left(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, NULL, 0);
    free_behind_a_client_that_left(&bench);
}

static void freeing_the_server_waits_for_a_handler_that_finishes_later(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, NULL, 0);
    bench.how_ended_calls_finish = FINISH_LATER;
    free_behind_a_client_that_left(&bench);
    assert_null(bench.pending);
}

static void freeing_the_server_gives_up_a_handler_that_never_finishes(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, NULL, 0);
    bench.how_ended_calls_finish = FINISH_NEVER;
    free_behind_a_client_that_left(&bench);
    assert_non_null(bench.pending);
}

/* The client is there and takes nothing: neither it nor the handler may hold the end up. */
static void freeing_the_server_gives_up_a_client_that_stays(void **state)
{
    (void)state;
    struct bench bench;
    open_bench(&bench, NULL, 0);
    bench.how_ended_calls_finish = FINISH_NEVER;
    struct client *client = open_client(bench.address);
    ask(client, "/t.S/Hang");
    assert_true(wait_for(&bench, client, "1 response"));
    bench.server = sl_server_free(bench.server);
    assert_int_equal(atomic_load(&bench.n_ended), 1);
    assert_int_equal(atomic_load(&bench.last_end), SL_CALL_DRAIN);
    close_client(client);
}

static void drain_lets_handlers_finish_by_themselves(void **state) /* CM-6 */
{
    (void)state;
    struct bench bench;
    open_bench(&bench, NULL, 0);
    struct client *client = open_client(bench.address);
    ask(client, "/t.S/Hang");
    assert_true(wait_for(&bench, client, "1 response"));
    sl_server_stop(bench.server, 60000, NULL, NULL);
    assert_true(wait_for(&bench, client, "goaway 0 drain"));
    assert_int_equal(atomic_load(&bench.n_ended), 0);
    sl_server_stop(bench.server, 10, NULL, NULL); /* hurries */
    assert_true(wait_for(&bench, client, "1 trailers grpc-status=10 grpc-message=parked end"));
    assert_int_equal(atomic_load(&bench.last_end), SL_CALL_DRAIN);
    for (int i = 0; i < TURNS && !bench.is_drained; i++) {
        turn_both(&bench, client);
    }
    assert_true(bench.is_drained);
    close_client(client);
    bench.server = sl_server_free(bench.server);
}

/* What the server says to these bytes until it ends the connection. */
static void converse(const char *text, char *got, size_t room)
{
    struct bench bench;
    struct sl_error err;
    open_bench(&bench, NULL, 0);
    const int fd = connect_to(bench.address);
    assert_true(send(fd, text, strlen(text), MSG_NOSIGNAL) > 0);
    size_t n_got = 0;
    bool is_over = false;
    for (int i = 0; i < TURNS && !is_over; i++) {
        assert_int_equal(sl_server_step(bench.server, &bench.is_drained, &err), SL_OK);
        struct pollfd wait = { .fd = fd, .events = POLLIN };
        if (poll(&wait, 1, TURN_MS) > 0) {
            const ssize_t n = recv(fd, got + n_got, room - 1 - n_got, MSG_DONTWAIT);
            is_over = n <= 0;
            n_got += n > 0 ? (size_t)n : 0;
        }
    }
    assert_true(is_over);
    got[n_got] = '\0';
    (void)close(fd);
    bench.server = sl_server_free(bench.server);
}

static void http1_gets_a_short_answer(void **state) /* CM-10 */
{
    (void)state;
    static const char *const requests[] = { "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                                            "POST /a.B/C HTTP/1.0\n\n" };
    for (size_t i = 0; i < SL_COUNT(requests); i++) {
        char got[1024];
        converse(requests[i], got, sizeof(got));
        assert_non_null(strstr(got, "HTTP/1.1 400 Bad Request"));
        assert_non_null(strstr(got, "gRPC on HTTP/2.\n"));
    }
}

/* RFC 9113, 3.4: a peer that speaks neither gets no words of a protocol that it did not choose. */
static void what_is_neither_a_preface_nor_http1_gets_silence(void **state)
{
    (void)state;
    static const char *const texts[] = { "INVALID CONNECTION PREFACE\r\n\r\n",
                                         "PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n", "\n",
                                         " HTTP/1.1\r\n\r\n" };
    for (size_t i = 0; i < SL_COUNT(texts); i++) {
        char got[1024];
        converse(texts[i], got, sizeof(got));
        assert_string_equal(got, "");
    }
}

static void *run_server(void *user_data)
{
    struct bench *bench = user_data;
    struct sl_error err;
    return sl_server_run(bench->server, &err) == SL_OK ? bench : NULL;
}

static void running_server_stops_from_another_thread(void **state) /* level 3 */
{
    (void)state;
    struct bench bench;
    open_bench(&bench, NULL, 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_server, &bench), 0);
    struct client *client = open_client(bench.address);
    ask(client, "/t.S/Echo");
    assert_true(wait_for(NULL, client, "1 trailers grpc-status=0 end"));
    close_client(client);
    sl_server_stop(bench.server, 1000, NULL, NULL);
    void *result = NULL;
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, &bench);
    bench.server = sl_server_free(bench.server);
}

static void *run_loop(void *user_data)
{
    sl_loop_uv_run(user_data);
    return NULL;
}

static void on_drained(void *user_data)
{
    atomic_store((atomic_int *)user_data, 1);
}

static void foreign_loops_share_the_connections(void **state)
{
    (void)state;
    enum { LOOPS = 2, CLIENTS = 4 };
    struct sl_loop_uv *uv[LOOPS];
    struct sl_loop *loops[LOOPS];
    pthread_t threads[LOOPS];
    for (uint32_t i = 0; i < LOOPS; i++) {
        assert_int_equal(sl_loop_uv_new(i, &uv[i]), SL_OK);
        loops[i] = sl_loop_uv_base(uv[i]);
    }
    struct bench bench;
    open_bench(&bench, loops, LOOPS);
    for (uint32_t i = 0; i < LOOPS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, run_loop, uv[i]), 0);
    }
    struct client *clients[CLIENTS];
    for (size_t i = 0; i < CLIENTS; i++) {
        clients[i] = open_client(bench.address);
        ask(clients[i], i % 2 == 0 ? "/t.S/Echo" : "/t.S/Hang");
        assert_true(wait_for(NULL, clients[i], i % 2 == 0 ? "grpc-status=0" : "1 response"));
    }
    atomic_int is_drained = 0;
    sl_server_stop(bench.server, 0, on_drained, &is_drained);
    for (int i = 0; i < TURNS && atomic_load(&is_drained) == 0; i++) {
        for (size_t k = 0; k < CLIENTS; k++) {
            turn_client(clients[k]);
        }
    }
    assert_int_equal(atomic_load(&is_drained), 1);
    assert_int_equal(atomic_load(&bench.n_ended), CLIENTS / 2);
    for (size_t i = 0; i < LOOPS; i++) {
        sl_loop_uv_stop(uv[i]);
    }
    for (size_t i = 0; i < LOOPS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    struct sl_server_stats stats;
    sl_server_stats(bench.server, &stats);
    assert_int_equal(stats.connections_total, CLIENTS);
    assert_int_equal(stats.calls_running, 0);
    bench.server = sl_server_free(bench.server);
    for (size_t i = 0; i < CLIENTS; i++) {
        close_client(clients[i]);
    }
    while (sl_loop_drain(loops[0]) || sl_loop_drain(loops[1])) {
    }
    for (size_t i = 0; i < LOOPS; i++) {
        uv[i] = sl_loop_uv_free(uv[i]);
    }
}

/* Whoever is connected keeps the limits that it came with; the listener's count at once. */
static void limits_change_for_new_connections(void **state)
{
    (void)state;
    struct bench bench;
    struct sl_limits limits;
    open_bench(&bench, NULL, 0);
    struct client *first = open_client(bench.address);
    ask(first, "/t.S/Hang");
    assert_true(wait_for(&bench, first, "1 response"));
    struct sl_call *call = bench.pending;
    sl_limits_init(&limits);
    limits.message_recv = 4321;
    assert_int_equal(sl_server_reload(bench.server, &limits, NULL, 0), SL_OK);
    assert_int_equal(sl_call_limits(call)->message_recv, 4194304);
    struct client *second = open_client(bench.address);
    ask(second, "/t.S/Hang");
    assert_true(wait_for(&bench, second, "1 response"));
    assert_ptr_not_equal(bench.pending, call);
    assert_int_equal(sl_call_limits(bench.pending)->message_recv, 4321);
    assert_int_equal(sl_call_limits(call)->message_recv, 4194304);
    limits.connections = 2;
    assert_int_equal(sl_server_reload(bench.server, &limits, NULL, 0), SL_OK);
    turn_both(&bench, first); /* the listener hears of it */
    struct client *third = open_client(bench.address);
    for (int i = 0; i < TURNS && !third->is_over; i++) {
        turn_both(&bench, third);
    }
    assert_true(third->is_over);
    sl_server_stop(bench.server, 0, NULL, NULL);
    for (int i = 0; i < TURNS && !bench.is_drained; i++) {
        turn_both(&bench, first);
        turn_client(second);
    }
    assert_true(bench.is_drained);
    close_client(first);
    close_client(second);
    close_client(third);
    bench.server = sl_server_free(bench.server);
}

static void address_in_use_is_refused(void **state)
{
    (void)state;
    struct bench bench;
    struct sl_error err;
    open_bench(&bench, NULL, 0);
    assert_int_equal(
        sl_server_listen(bench.server, bench.address, NULL, NULL, &err), SL_ALREADY_EXISTS);
    bench.server = sl_server_free(bench.server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stepped_server_answers_and_drains),
        cmocka_unit_test(lost_connection_is_told_to_the_handler),
        cmocka_unit_test(freeing_the_server_tells_the_handler_of_a_client_that_just_left),
        cmocka_unit_test(freeing_the_server_waits_for_a_handler_that_finishes_later),
        cmocka_unit_test(freeing_the_server_gives_up_a_handler_that_never_finishes),
        cmocka_unit_test(freeing_the_server_gives_up_a_client_that_stays),
        cmocka_unit_test(drain_lets_handlers_finish_by_themselves),
        cmocka_unit_test(http1_gets_a_short_answer),
        cmocka_unit_test(what_is_neither_a_preface_nor_http1_gets_silence),
        cmocka_unit_test(running_server_stops_from_another_thread),
        cmocka_unit_test(foreign_loops_share_the_connections),
        cmocka_unit_test(limits_change_for_new_connections),
        cmocka_unit_test(address_in_use_is_refused),
    };
    return cmocka_run_group_tests_name("rpc_server", tests, NULL, NULL);
}
