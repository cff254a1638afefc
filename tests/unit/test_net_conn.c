#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "service/net/census.h"
#include "service/net/net.h"

enum { MAX_STEPS = 2000, MAX_CONNS = 32 };

/* One end of a connection: what it got, and what it has to send. */
struct end {
    struct sl_net_conn *conn;
    uint8_t *got;
    size_t n_got, got_capacity;
    const uint8_t *out;
    size_t n_out, n_sent;
    bool echoes;
    bool closes_when_sent;
    bool is_open, is_over;
    int n_over;
    enum sl_net_end how;
    char text[240];
};

struct world {
    struct sl_loop_uv *uv;
    struct sl_loop *loop;
    struct sl_limits limits;
    struct sl_net_listener *listener;
    struct sl_net_census *census;
    struct end servers[MAX_CONNS];
    size_t n_servers;
    struct end client;
    bool refuses, closes_in_accept;
    bool is_listener_closed;
};

/* ---- Callbacks ------------------------------------------------------------------------------- */

static void on_open(struct sl_net_conn *conn, void *user_data)
{
    struct end *end = user_data;
    assert_false(end->is_open);
    end->is_open = true;
    if (end->n_out > 0) {
        sl_net_conn_want_write(conn);
    }
}

static void on_bytes(struct sl_net_conn *conn, struct sl_slice bytes, void *user_data)
{
    struct end *end = user_data;
    assert_true(end->is_open);
    if (end->n_got + bytes.size > end->got_capacity) {
        end->got_capacity = 2 * (end->n_got + bytes.size);
        end->got = realloc(end->got, end->got_capacity);
    }
    memcpy(end->got + end->n_got, bytes.data, bytes.size);
    end->n_got += bytes.size;
    if (end->echoes) {
        end->out = end->got;
        end->n_out = end->n_got;
        sl_net_conn_want_write(conn);
    }
}

static size_t on_pull(struct sl_net_conn *conn, uint8_t *room, size_t room_bytes, void *user_data)
{
    struct end *end = user_data;
    size_t n = end->n_out - end->n_sent;
    assert_true(room_bytes >= 32768);
    n = n > room_bytes ? room_bytes : n;
    if (n > 0) {
        memcpy(room, end->out + end->n_sent, n);
    }
    end->n_sent += n;
    if (end->closes_when_sent && end->n_sent == end->n_out) {
        sl_net_conn_close(conn, false);
    }
    return n;
}

static void
on_end(struct sl_net_conn *conn, enum sl_net_end how, const struct sl_error *err, void *user_data)
{
    struct end *end = user_data;
    assert_ptr_equal(conn, end->conn);
    end->is_over = true;
    end->n_over++;
    end->how = how;
    (void)snprintf(end->text, sizeof(end->text), "%s", err->text);
    end->conn = NULL;
}

static const struct sl_net_callbacks callbacks = {
    .on_open = on_open, .on_bytes = on_bytes, .on_pull = on_pull, .on_end = on_end
};

static bool on_accept(
    struct sl_net_conn *conn,
    struct sl_loop *loop,
    void *user_data,
    const struct sl_net_callbacks **ret_callbacks,
    void **ret_conn_user)
{
    struct world *world = user_data;
    assert_ptr_equal(loop, world->loop);
    if (world->refuses) {
        return false;
    }
    struct end *end = &world->servers[world->n_servers++];
    end->conn = conn;
    *ret_callbacks = &callbacks;
    *ret_conn_user = end;
    if (world->closes_in_accept) {
        sl_net_conn_close(conn, false);
    }
    return true;
}

/* ---- The world ------------------------------------------------------------------------------- */

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof(*world));
    assert_int_equal(sl_loop_uv_new(0, &world->uv), SL_OK);
    world->loop = sl_loop_uv_base(world->uv);
    sl_limits_init(&world->limits);
    world->limits.linger = 100;
    *state = world;
    return 0;
}

static void on_listener_closed(void *user_data)
{
    struct world *world = user_data;
    world->is_listener_closed = true;
}

static void close_end(struct end *end)
{
    if (end->conn != NULL) {
        sl_net_conn_close(end->conn, true);
    }
    free(end->got);
    end->got = NULL;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    for (size_t i = 0; i < world->n_servers; i++) {
        close_end(&world->servers[i]);
    }
    close_end(&world->client);
    if (world->listener != NULL) {
        sl_net_listener_close(world->listener, on_listener_closed, world);
    }
    (void)sl_loop_uv_free(world->uv);
    assert_true(world->listener == NULL || world->is_listener_closed);
    free(world);
    return 0;
}

static void listen_small(struct world *world, const char *address, uint32_t send_buffer_bytes)
{
    struct sl_error err = { .status = SL_OK };
    const struct sl_net_listen_options options = { .address = address,
                                                   .limits = &world->limits,
                                                   .census = world->census,
                                                   .loops = &world->loop,
                                                   .n_loops = 1,
                                                   .on_accept = on_accept,
                                                   .user_data = world,
                                                   .send_buffer_bytes = send_buffer_bytes };
    if (sl_net_listen(&options, &world->listener, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
}

static void listen_at(struct world *world, const char *address)
{
    listen_small(world, address, 0);
}

static void connect_to(struct world *world, const char *address, struct end *end)
{
    struct sl_error err = { .status = SL_OK };
    const struct sl_net_connect_options options = { .address = address, .timeout_ms = 5000 };
    if (sl_net_connect(world->loop, &options, &callbacks, end, &end->conn, &err) != SL_OK) {
        fail_msg("%s", err.text);
    }
    assert_false(end->is_open);
    assert_false(end->is_over);
}

static void connect_client(struct world *world)
{
    connect_to(world, sl_net_listener_address(world->listener), &world->client);
}

/* Turns until the condition holds; a bounded number of them. */
#define TURN_UNTIL(world, condition)                                                               \
    do {                                                                                           \
        for (int step = 0; !(condition); step++) {                                                 \
            assert_true(step < MAX_STEPS);                                                         \
            sl_loop_uv_step((world)->uv, 20);                                                      \
        }                                                                                          \
    } while (0)

static uint8_t *pattern(size_t size)
{
    uint8_t *bytes = malloc(size);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(i * 31 + i / 65521);
    }
    return bytes;
}

/* ---- Cases ----------------------------------------------------------------------------------- */

static void echo_through(struct world *world, size_t size)
{
    uint8_t *bytes = pattern(size);
    world->servers[0].echoes = true;
    world->client.out = bytes;
    world->client.n_out = size;
    connect_client(world);
    TURN_UNTIL(world, world->client.n_got == size);
    assert_memory_equal(world->client.got, bytes, size);
    free(bytes);
}

static void bytes_go_there_and_back(void **state)
{
    listen_at(*state, "127.0.0.1:0");
    echo_through(*state, 5);
}

static void more_bytes_than_a_block_go_there_and_back(void **state)
{
    listen_at(*state, "127.0.0.1:0");
    echo_through(*state, 3000001);
}

static void a_socket_that_takes_little_at_once_gets_all(void **state)
{
    listen_small(*state, "127.0.0.1:0", 4096);
    echo_through(*state, 1000001);
}

static void ipv6_and_ipv4_reach_a_dual_stack_listener(void **state)
{
    struct world *world = *state;
    char address[64];
    listen_at(world, "[::]:0");
    assert_int_not_equal(sl_net_listener_port(world->listener), 0);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", sl_net_listener_port(world->listener));
    connect_to(world, address, &world->client);
    TURN_UNTIL(world, world->client.is_open && world->n_servers == 1);
    assert_non_null(strstr(sl_net_conn_peer(world->client.conn), "127.0.0.1:"));
}

static void a_name_is_looked_up(void **state)
{
    struct world *world = *state;
    char address[64];
    listen_at(world, "127.0.0.1:0");
    (void)snprintf(address, sizeof(address), "ip6-localhost:1");
    connect_to(world, address, &world->client);
    TURN_UNTIL(world, world->client.is_over);
    assert_int_equal(world->client.how, SL_NET_END_RESET);
}

static void a_look_up_can_be_given_up(void **state)
{
    struct world *world = *state;
    connect_to(world, "no-such-host.invalid:1", &world->client);
    sl_net_conn_close(world->client.conn, false);
    assert_false(world->client.is_over); /* never inside a call */
    TURN_UNTIL(world, world->client.is_over);
    assert_int_equal(world->client.how, SL_NET_END_CLOSED);
}

static void unix_sockets_work_and_leave_nothing_behind(void **state)
{
    struct world *world = *state;
    char path[64];
    char address[80];
    (void)snprintf(path, sizeof(path), "/tmp/sl_net_%d.sock", (int)getpid());
    (void)snprintf(address, sizeof(address), "unix:%s", path);
    listen_at(world, address);
    echo_through(world, 1000);
    assert_string_equal(sl_net_conn_peer(world->client.conn), address);
    sl_net_listener_close(world->listener, on_listener_closed, world);
    TURN_UNTIL(world, world->is_listener_closed);
    assert_int_not_equal(access(path, F_OK), 0);
    world->listener = NULL;
}

/* A socket file that a dead server left is taken over; one of a living server is not. */
static void only_a_stale_socket_file_is_taken_over(void **state)
{
    struct world *world = *state;
    struct sl_error err = { .status = SL_OK };
    struct sockaddr_un left = { .sun_family = AF_UNIX };
    struct sl_net_listener *second = NULL;
    char address[120];
    (void)snprintf(left.sun_path, sizeof(left.sun_path), "/tmp/sl_net_%d.left", (int)getpid());
    (void)snprintf(address, sizeof(address), "unix:%s", left.sun_path);
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&left, sizeof(left)), 0);
    (void)close(fd);
    listen_at(world, address);
    const struct sl_net_listen_options options = { .address = address,
                                                   .limits = &world->limits,
                                                   .loops = &world->loop,
                                                   .n_loops = 1,
                                                   .on_accept = on_accept,
                                                   .user_data = world };
    assert_int_equal(sl_net_listen(&options, &second, &err), SL_ALREADY_EXISTS);
    world->servers[1].echoes = true; /* the first one is the question whether somebody is there */
    echo_through(world, 10);
}

static void a_file_that_is_no_socket_is_left_alone(void **state)
{
    struct world *world = *state;
    struct sl_error err = { .status = SL_OK };
    struct sl_net_listener *listener = NULL;
    char path[64];
    char address[80];
    (void)snprintf(path, sizeof(path), "/tmp/sl_net_%d.txt", (int)getpid());
    (void)snprintf(address, sizeof(address), "unix:%s", path);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    (void)fclose(file);
    const struct sl_net_listen_options options = { .address = address,
                                                   .limits = &world->limits,
                                                   .loops = &world->loop,
                                                   .n_loops = 1,
                                                   .on_accept = on_accept,
                                                   .user_data = world };
    assert_int_equal(sl_net_listen(&options, &listener, &err), SL_ALREADY_EXISTS);
    assert_int_equal(unlink(path), 0);
}

static void a_second_listener_is_refused_with_the_address(void **state)
{
    struct world *world = *state;
    struct sl_error err = { .status = SL_OK };
    struct sl_net_listener *second = NULL;
    listen_at(world, "127.0.0.1:0");
    const struct sl_net_listen_options options = { .address =
                                                       sl_net_listener_address(world->listener),
                                                   .limits = &world->limits,
                                                   .loops = &world->loop,
                                                   .n_loops = 1,
                                                   .on_accept = on_accept,
                                                   .user_data = world };
    assert_int_equal(sl_net_listen(&options, &second, &err), SL_ALREADY_EXISTS);
    assert_non_null(strstr(err.text, sl_net_listener_address(world->listener)));
}

static void bad_addresses_are_refused(void **state)
{
    static const char *const bad[] = { "", "127.0.0.1", "127.0.0.1:x", "no.such.name:80", "unix:" };
    struct world *world = *state;
    for (size_t i = 0; i < SL_COUNT(bad); i++) {
        struct sl_error err = { .status = SL_OK };
        const struct sl_net_listen_options options = { .address = bad[i],
                                                       .limits = &world->limits,
                                                       .loops = &world->loop,
                                                       .n_loops = 1,
                                                       .on_accept = on_accept };
        struct sl_net_listener *listener = NULL;
        assert_int_equal(sl_net_listen(&options, &listener, &err), SL_INVALID_ARGUMENT);
        assert_true(err.text[0] != '\0');
    }
}

static void nobody_at_the_address_is_told_by_on_end(void **state)
{
    struct world *world = *state;
    connect_to(world, "127.0.0.1:1", &world->client);
    TURN_UNTIL(world, world->client.is_over);
    assert_int_equal(world->client.how, SL_NET_END_RESET);
    assert_non_null(strstr(world->client.text, "refused"));
}

/* CM-7: the last bytes arrive although the peer goes on sending. */
static void an_orderly_close_delivers_everything(void **state)
{
    struct world *world = *state;
    enum { SIZE = 400000 };
    uint8_t *bytes = pattern(SIZE);
    uint8_t *flood = pattern(2000000);
    listen_at(world, "127.0.0.1:0");
    world->limits.linger = 2000;
    world->servers[0].out = bytes;
    world->servers[0].n_out = SIZE;
    world->servers[0].closes_when_sent = true;
    world->client.out = flood;
    world->client.n_out = 2000000;
    connect_client(world);
    TURN_UNTIL(world, world->client.is_over && world->servers[0].is_over);
    assert_int_equal(world->client.n_got, SIZE);
    assert_int_equal(world->client.how, SL_NET_END_FIN);
    assert_int_equal(world->servers[0].how, SL_NET_END_CLOSED);
    assert_int_equal(world->servers[0].n_over, 1);
    assert_int_equal(sl_net_listener_n_conns(world->listener), 0);
    free(bytes);
    free(flood);
}

static void lingering_has_an_end(void **state)
{
    struct world *world = *state;
    listen_at(world, "127.0.0.1:0");
    connect_client(world);
    TURN_UNTIL(world, world->n_servers == 1);
    sl_net_conn_pause_read(world->client.conn, true); /* it will not see the FIN, nor answer it */
    sl_net_conn_close(world->servers[0].conn, false);
    sl_net_conn_close(world->servers[0].conn, false);
    TURN_UNTIL(world, world->servers[0].is_over);
    assert_int_equal(world->servers[0].how, SL_NET_END_CLOSED);
}

static void a_peer_that_never_reads_is_given_up(void **state) /* CM-13, AT-13 */
{
    struct world *world = *state;
    enum { SIZE = 20000000 };
    uint8_t *bytes = pattern(SIZE);
    world->limits.stall = 100;
    listen_small(world, "127.0.0.1:0", 4096);
    connect_client(world);
    TURN_UNTIL(world, world->n_servers == 1 && world->client.is_open);
    sl_net_conn_pause_read(world->client.conn, true);
    world->servers[0].out = bytes;
    world->servers[0].n_out = SIZE;
    sl_net_conn_want_write(world->servers[0].conn);
    TURN_UNTIL(world, world->servers[0].is_over);
    assert_int_equal(world->servers[0].how, SL_NET_END_TIMEOUT);
    assert_non_null(strstr(world->servers[0].text, "the peer does not read"));
    free(bytes);
}

/* A socket that is connected to a new listener. */
static int connect_plainly(struct world *world)
{
    struct sockaddr_in to = { .sin_family = AF_INET };
    listen_at(world, "127.0.0.1:0");
    to.sin_port = htons(sl_net_listener_port(world->listener));
    assert_int_equal(inet_pton(AF_INET, "127.0.0.1", &to.sin_addr), 1);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

/* The second write finds the reset that the first one drew, which is EPIPE. */
static void writing_to_a_peer_that_left_raises_no_signal(void **state) /* CN-2 */
{
    struct world *world = *state;
    struct end *server = &world->servers[0];
    const int fd = connect_plainly(world);
    TURN_UNTIL(world, server->is_open);
    sl_net_conn_pause_read(server->conn, true); /* so that it does not see the end */
    assert_int_equal(close(fd), 0);
    server->out = (const uint8_t *)"ab";
    server->n_out = 1;
    sl_net_conn_want_write(server->conn);
    TURN_UNTIL(world, server->n_sent == 1);
    assert_false(server->is_over);
    server->n_out = 2;
    sl_net_conn_want_write(server->conn);
    TURN_UNTIL(world, server->is_over);
    assert_int_equal(server->how, SL_NET_END_RESET);
    assert_non_null(strstr(server->text, "broken pipe"));
}

/* A client whose last words are followed by a reset, both before the server's loop turns. */
static void expect_words_and_reset(struct world *world, const char *words, const char *answer)
{
    const size_t n_words = strlen(words);
    const struct linger at_once = { .l_onoff = 1 };
    world->servers[0].out = (const uint8_t *)answer;
    world->servers[0].n_out = strlen(answer);
    const int fd = connect_plainly(world);
    assert_int_equal(send(fd, words, n_words, MSG_NOSIGNAL), n_words);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
    assert_int_equal(close(fd), 0);
    TURN_UNTIL(world, world->servers[0].is_over);
    assert_int_equal(world->servers[0].n_got, n_words);
    assert_memory_equal(world->servers[0].got, words, n_words);
    assert_int_equal(world->servers[0].how, SL_NET_END_RESET);
    assert_non_null(strstr(world->servers[0].text, "connection lost: connection reset by peer"));
}

static void what_came_before_a_reset_is_read(void **state)
{
    expect_words_and_reset(*state, "last words", "");
}

static void a_reset_without_a_word_is_a_reset(void **state)
{
    expect_words_and_reset(*state, "", "");
}

static void what_came_before_a_reset_is_read_when_writing_fails_first(void **state)
{
    expect_words_and_reset(*state, "last words", "an answer");
}

static void closing_now_is_still_told_later(void **state)
{
    struct world *world = *state;
    listen_at(world, "127.0.0.1:0");
    connect_client(world);
    TURN_UNTIL(world, world->n_servers == 1 && world->client.is_open);
    sl_net_conn_close(world->servers[0].conn, true);
    sl_net_conn_close(world->servers[0].conn, true);
    assert_false(world->servers[0].is_over);
    TURN_UNTIL(world, world->servers[0].is_over && world->client.is_over);
    assert_int_equal(world->servers[0].n_over, 1);
}

static void a_paused_reader_holds_the_sender_back(void **state)
{
    struct world *world = *state;
    enum { SIZE = 40000000 };
    uint8_t *bytes = pattern(SIZE);
    listen_at(world, "127.0.0.1:0");
    connect_client(world);
    TURN_UNTIL(world, world->n_servers == 1 && world->client.is_open);
    sl_net_conn_pause_read(world->client.conn, true);
    world->servers[0].out = bytes;
    world->servers[0].n_out = SIZE;
    sl_net_conn_want_write(world->servers[0].conn);
    TURN_UNTIL(world, sl_net_conn_n_unsent(world->servers[0].conn) > 0);
    for (int i = 0; i < 20; i++) {
        sl_loop_uv_step(world->uv, 1);
    }
    assert_int_equal(world->client.n_got, 0);
    assert_true(world->servers[0].n_sent < SIZE);
    assert_true(sl_net_conn_n_unsent(world->servers[0].conn) <= SL_NET_BLOCK_BYTES);
    sl_net_conn_pause_read(world->client.conn, false);
    TURN_UNTIL(world, world->client.n_got == SIZE);
    assert_memory_equal(world->client.got, bytes, SIZE);
    free(bytes);
}

static void too_many_connections_of_one_address_are_closed(void **state)
{
    struct world *world = *state;
    struct end clients[4] = { { .conn = NULL } };
    world->limits.connections_per_address = 2;
    listen_at(world, "127.0.0.1:0");
    for (size_t i = 0; i < SL_COUNT(clients); i++) {
        connect_to(world, sl_net_listener_address(world->listener), &clients[i]);
        TURN_UNTIL(world, clients[i].is_open || clients[i].is_over);
    }
    TURN_UNTIL(world, clients[2].is_over && clients[3].is_over);
    assert_int_equal(world->n_servers, 2);
    assert_int_equal(sl_net_listener_n_conns(world->listener), 2);
    close_end(&clients[0]);
    TURN_UNTIL(world, sl_net_listener_n_conns(world->listener) == 1);
    struct end late = { .conn = NULL };
    connect_to(world, sl_net_listener_address(world->listener), &late);
    TURN_UNTIL(world, world->n_servers == 3);
    close_end(&clients[1]);
    close_end(&late);
    TURN_UNTIL(world, late.is_over);
}

/* CM-12: two listeners of a server have one limit, for all and for each address. */
static void listeners_that_share_a_census_share_their_limits(void **state)
{
    struct world *world = *state;
    struct end clients[3] = { { .conn = NULL } };
    struct end late = { .conn = NULL };
    world->census = sl_net_census_new();
    assert_non_null(world->census);
    world->limits.connections = 2;
    listen_at(world, "127.0.0.1:0");
    struct sl_net_listener *first = world->listener;
    listen_at(world, "127.0.0.1:0");
    connect_to(world, sl_net_listener_address(first), &clients[0]);
    connect_to(world, sl_net_listener_address(world->listener), &clients[1]);
    TURN_UNTIL(world, clients[0].is_open && clients[1].is_open && world->n_servers == 2);
    connect_to(world, sl_net_listener_address(world->listener), &clients[2]);
    TURN_UNTIL(world, clients[2].is_over);
    close_end(&clients[0]);
    TURN_UNTIL(world, sl_net_listener_n_conns(first) == 0);
    connect_to(world, sl_net_listener_address(world->listener), &late);
    TURN_UNTIL(world, world->n_servers == 3);
    assert_int_equal(sl_net_listener_n_conns(world->listener), 2);
    sl_net_listener_close(first, NULL, NULL);
    close_end(&clients[1]);
    close_end(&late);
    TURN_UNTIL(world, late.is_over);
    world->census = sl_net_census_unref(world->census);
}

/* -1: none. The descriptor of this process that is a connection from, or to, this port. */
static int fd_of_port(uint16_t port, int (*name)(int, struct sockaddr *, socklen_t *))
{
    for (int fd = 3; fd < 256; fd++) {
        struct sockaddr_in ours = { .sin_family = AF_UNSPEC };
        struct sockaddr_in theirs = { .sin_family = AF_UNSPEC };
        socklen_t n_ours = sizeof(ours);
        socklen_t n_theirs = sizeof(theirs);
        if (getpeername(fd, (struct sockaddr *)&theirs, &n_theirs) == 0 &&
            name(fd, (struct sockaddr *)&ours, &n_ours) == 0 && ours.sin_family == AF_INET &&
            ntohs(ours.sin_port) == port) {
            return fd;
        }
    }
    return -1;
}

static int socket_option(int fd, int option)
{
    int value = 0;
    socklen_t size = sizeof(value);
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, option, &value, &size), 0);
    return value;
}

/* The two ends of the one connection: the server's first. */
static void connect_pair(struct world *world, int fds[2])
{
    listen_at(world, "127.0.0.1:0");
    connect_client(world);
    TURN_UNTIL(world, world->n_servers == 1 && world->client.is_open);
    const uint16_t port = sl_net_listener_port(world->listener);
    fds[0] = fd_of_port(port, getsockname);
    fds[1] = fd_of_port(port, getpeername);
    assert_int_not_equal(fds[0], fds[1]);
}

static void sockets_send_at_once_and_keep_little(void **state) /* FC-7, CM-1 */
{
    struct world *world = *state;
    int fds[2];
    connect_pair(world, fds);
    for (size_t i = 0; i < SL_COUNT(fds); i++) {
        assert_true(fds[i] >= 0);
        assert_int_equal(socket_option(fds[i], TCP_NODELAY), 1);
        assert_int_equal(socket_option(fds[i], TCP_NOTSENT_LOWAT), 64 * 1024);
    }
    assert_int_equal(socket_option(fds[0], TCP_USER_TIMEOUT), 70 * 1000);
    assert_int_equal(socket_option(fds[1], TCP_USER_TIMEOUT), 50 * 1000);
}

/* Linux ends a connection whose peer reads nothing for so long (CM-13 is ours). */
static void the_system_is_as_patient_as_the_limits(void **state) /* CM-1, CM-13 */
{
    struct world *world = *state;
    world->limits.stall = 600000;
    int fds[2];
    connect_pair(world, fds);
    assert_int_equal(socket_option(fds[0], TCP_USER_TIMEOUT), 610 * 1000);
}

static void the_system_is_as_patient_as_keepalive(void **state) /* CM-1 */
{
    struct world *world = *state;
    world->limits.keepalive_time = 10000;
    world->limits.keepalive_timeout = 100000;
    int fds[2];
    connect_pair(world, fds);
    assert_int_equal(socket_option(fds[0], TCP_USER_TIMEOUT), 120 * 1000);
}

static void a_refused_connection_is_closed(void **state)
{
    struct world *world = *state;
    world->refuses = true;
    listen_at(world, "127.0.0.1:0");
    connect_client(world);
    TURN_UNTIL(world, world->client.is_over);
    assert_int_equal(world->n_servers, 0);
    assert_int_equal(sl_net_listener_n_conns(world->listener), 0);
}

static void an_owner_may_close_while_it_accepts(void **state)
{
    struct world *world = *state;
    world->closes_in_accept = true;
    listen_at(world, "127.0.0.1:0");
    connect_client(world);
    TURN_UNTIL(world, world->client.is_over && world->servers[0].is_over);
    assert_false(world->servers[0].is_open);
    assert_int_equal(world->servers[0].how, SL_NET_END_CLOSED);
    assert_int_equal(world->servers[0].n_over, 1);
}

/* CM-12 */
static void without_descriptors_accepting_waits_and_goes_on(void **state) /* AT-18 */
{
    struct world *world = *state;
    struct rlimit old;
    listen_at(world, "127.0.0.1:0");
    connect_client(world);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    const int next = dup(0);
    (void)close(next);
    const struct rlimit tight = { .rlim_cur = (rlim_t)next, .rlim_max = old.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    int n_turns = 0;
    for (const uint64_t start = uv_hrtime(); uv_hrtime() - start < 80 * SL_NS_PER_MS; n_turns++) {
        sl_loop_uv_step(world->uv, 20);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(world->n_servers, 0);
    assert_true(n_turns < 50); /* a spin would be thousands */
    TURN_UNTIL(world, world->n_servers == 1);
}

static void connections_outlive_their_listener(void **state)
{
    struct world *world = *state;
    listen_at(world, "127.0.0.1:0");
    world->servers[0].echoes = true;
    connect_client(world);
    TURN_UNTIL(world, world->n_servers == 1 && world->client.is_open);
    sl_net_listener_close(world->listener, on_listener_closed, world);
    world->listener = NULL;
    TURN_UNTIL(world, world->is_listener_closed);
    world->client.out = (const uint8_t *)"hello";
    world->client.n_out = 5;
    sl_net_conn_want_write(world->client.conn);
    TURN_UNTIL(world, world->client.n_got == 5);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(bytes_go_there_and_back),
        CASE(more_bytes_than_a_block_go_there_and_back),
        CASE(a_socket_that_takes_little_at_once_gets_all),
        CASE(ipv6_and_ipv4_reach_a_dual_stack_listener),
        CASE(a_name_is_looked_up),
        CASE(a_look_up_can_be_given_up),
        CASE(unix_sockets_work_and_leave_nothing_behind),
        CASE(only_a_stale_socket_file_is_taken_over),
        CASE(a_file_that_is_no_socket_is_left_alone),
        CASE(a_second_listener_is_refused_with_the_address),
        CASE(an_owner_may_close_while_it_accepts),
        CASE(bad_addresses_are_refused),
        CASE(nobody_at_the_address_is_told_by_on_end),
        CASE(an_orderly_close_delivers_everything),
        CASE(lingering_has_an_end),
        CASE(a_peer_that_never_reads_is_given_up),
        CASE(writing_to_a_peer_that_left_raises_no_signal),
        CASE(what_came_before_a_reset_is_read),
        CASE(a_reset_without_a_word_is_a_reset),
        CASE(what_came_before_a_reset_is_read_when_writing_fails_first),
        CASE(closing_now_is_still_told_later),
        CASE(a_paused_reader_holds_the_sender_back),
        CASE(too_many_connections_of_one_address_are_closed),
        CASE(listeners_that_share_a_census_share_their_limits),
        CASE(sockets_send_at_once_and_keep_little),
        CASE(the_system_is_as_patient_as_the_limits),
        CASE(the_system_is_as_patient_as_keepalive),
        CASE(a_refused_connection_is_closed),
        CASE(without_descriptors_accepting_waits_and_goes_on),
        CASE(connections_outlive_their_listener),
    };
    return cmocka_run_group_tests_name("net_conn", tests, NULL, NULL);
}
