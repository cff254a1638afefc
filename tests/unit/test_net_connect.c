/* A name with several addresses. The resolver is played here: its answer is what the test says. */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "service/net/net.h"

enum { MAX_STEPS = 2000, MAX_FOUND = 20, FILLERS = 4 };

static struct {
    uv_getaddrinfo_t *request;
    uv_getaddrinfo_cb callback;
    struct addrinfo found[MAX_FOUND];
    struct sockaddr_storage addresses[MAX_FOUND];
    size_t n_found, n_freed;
} resolver;

static struct {
    struct sl_loop_uv *uv;
    struct sl_net_conn *conn;
    bool is_open, is_over;
    enum sl_net_end how;
    char text[240], peer[80];
} world;

/* ---- In place of libuv's --------------------------------------------------------------------- */

int uv_getaddrinfo(
    uv_loop_t *loop,
    uv_getaddrinfo_t *request,
    uv_getaddrinfo_cb callback,
    const char *node,
    const char *service,
    const struct addrinfo *hints)
{
    (void)loop;
    (void)hints;
    assert_string_equal(node, "many.example");
    assert_string_equal(service, "1");
    resolver.request = request;
    resolver.callback = callback;
    return 0;
}

void uv_freeaddrinfo(struct addrinfo *found)
{
    resolver.n_freed += found == resolver.found;
}

static void answer(void)
{
    for (size_t i = 0; i + 1 < resolver.n_found; i++) {
        resolver.found[i].ai_next = &resolver.found[i + 1];
    }
    resolver.callback(resolver.request, 0, resolver.found);
    assert_int_equal(resolver.n_freed, 1);
}

/* ---- Sockets --------------------------------------------------------------------------------- */

static void add_found(const void *address, size_t size)
{
    const size_t i = resolver.n_found++;
    memcpy(&resolver.addresses[i], address, size);
    resolver.found[i] = (struct addrinfo){ .ai_family = resolver.addresses[i].ss_family,
                                           .ai_addr = (struct sockaddr *)&resolver.addresses[i],
                                           .ai_addrlen = (socklen_t)size };
}

/* A listening socket, whose address the resolver finds. */
static int listen_v4(int backlog)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof(address);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(fd, backlog), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    add_found(&address, sizeof(address));
    return fd;
}

/* Another family than the rest, which is all that counts here. */
static int listen_unix(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    (void)snprintf(
        address.sun_path, sizeof(address.sun_path), "/tmp/sl_connect_%d.sock", (int)getpid());
    (void)unlink(address.sun_path);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 8), 0);
    add_found(&address, sizeof(address));
    return fd;
}

static void find_nobody(void)
{
    (void)close(listen_v4(8)); /* refuses */
}

static bool is_asked(int fd)
{
    const int accepted = accept(fd, NULL, NULL);
    if (accepted >= 0) {
        (void)close(accepted);
    }
    return accepted >= 0;
}

/* A queue without room: who comes gets no answer. */
static int listen_deaf(int *fillers)
{
    const int fd = listen_v4(0);
    const struct sockaddr *address = resolver.found[resolver.n_found - 1].ai_addr;
    for (int i = 0; i < FILLERS; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        const int rv = connect(fillers[i], address, sizeof(struct sockaddr_in));
        assert_true(rv == 0 || errno == EINPROGRESS);
    }
    return fd;
}

/* ---- The client ------------------------------------------------------------------------------ */

static void on_open(struct sl_net_conn *conn, void *user_data)
{
    (void)user_data;
    world.is_open = true;
    (void)snprintf(world.peer, sizeof(world.peer), "%s", sl_net_conn_peer(conn));
}

static void on_bytes(struct sl_net_conn *conn, struct sl_slice bytes, void *user_data)
{
    (void)conn;
    (void)bytes;
    (void)user_data;
}

// NOLINTNEXTLINE(readability-non-const-parameter): the signature of the callback
static size_t on_pull(struct sl_net_conn *conn, uint8_t *room, size_t room_bytes, void *user_data)
{
    (void)conn;
    (void)room;
    (void)room_bytes;
    (void)user_data;
    return 0;
}

static void
on_end(struct sl_net_conn *conn, enum sl_net_end how, const struct sl_error *err, void *user_data)
{
    (void)conn;
    (void)user_data;
    assert_false(world.is_over);
    world.is_over = true;
    world.conn = NULL;
    world.how = how;
    (void)snprintf(world.text, sizeof(world.text), "%s", err->text);
}

static const struct sl_net_callbacks callbacks = {
    .on_open = on_open, .on_bytes = on_bytes, .on_pull = on_pull, .on_end = on_end
};

static void connect_for(uint64_t timeout_ms)
{
    struct sl_error err;
    const struct sl_net_connect_options options = { .address = "many.example:1",
                                                    .timeout_ms = timeout_ms };
    assert_int_equal(
        sl_net_connect(sl_loop_uv_base(world.uv), &options, &callbacks, NULL, &world.conn, &err),
        SL_OK);
    answer();
    assert_false(world.is_open);
    assert_false(world.is_over);
    for (int i = 0; i < MAX_STEPS && !world.is_open && !world.is_over; i++) {
        sl_loop_uv_step(world.uv, 20);
    }
}

static int setup(void **state)
{
    (void)state;
    memset(&resolver, 0, sizeof(resolver));
    memset(&world, 0, sizeof(world));
    return sl_loop_uv_new(0, &world.uv) == SL_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    if (world.conn != NULL) {
        sl_net_conn_close(world.conn, true);
    }
    for (int i = 0; i < MAX_STEPS && world.conn != NULL; i++) {
        sl_loop_uv_step(world.uv, 20);
    }
    sl_loop_uv_step(world.uv, 0);
    world.uv = sl_loop_uv_free(world.uv);
    return 0;
}

/* ---- Cases ----------------------------------------------------------------------------------- */

static void who_refuses_is_followed_by_the_next(void **state)
{
    (void)state;
    find_nobody();
    find_nobody();
    const int good = listen_v4(8);
    connect_for(5000);
    assert_true(world.is_open);
    assert_true(is_asked(good));
    char port[16];
    const struct sockaddr_in *address = (const void *)&resolver.addresses[2];
    (void)snprintf(port, sizeof(port), ":%u", ntohs(address->sin_port));
    assert_non_null(strstr(world.peer, port));
    (void)close(good);
}

/* The first never answers: waiting for it alone would use up the time. */
static void who_does_not_answer_is_not_waited_for_alone(void **state)
{
    (void)state;
    int fillers[2][FILLERS];
    const int deaf[] = { listen_deaf(fillers[0]), listen_deaf(fillers[1]) };
    const int good = listen_v4(8);
    connect_for(20000);
    assert_true(world.is_open);
    assert_true(is_asked(good));
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < FILLERS; k++) {
            (void)close(fillers[i][k]);
        }
        (void)close(deaf[i]);
    }
    (void)close(good);
}

static void families_take_turns(void **state)
{
    (void)state;
    find_nobody();
    const int second = listen_v4(8);
    const int other = listen_unix();
    connect_for(5000);
    assert_true(world.is_open);
    assert_true(is_asked(other));
    assert_false(is_asked(second));
    (void)close(second);
    (void)close(other);
}

static void when_all_refuse_the_last_reason_is_told(void **state)
{
    (void)state;
    for (int i = 0; i < MAX_FOUND; i++) { /* more than are tried */
        find_nobody();
    }
    connect_for(5000);
    assert_true(world.is_over);
    assert_int_equal(world.how, SL_NET_END_RESET);
    assert_non_null(strstr(world.text, "127.0.0.1:"));
    assert_non_null(strstr(world.text, "connection refused"));
}

static void the_time_is_that_of_all_addresses(void **state)
{
    (void)state;
    int fillers[FILLERS];
    const int deaf = listen_deaf(fillers);
    find_nobody();
    connect_for(400); /* the second is asked meanwhile, and refuses */
    assert_true(world.is_over);
    assert_int_equal(world.how, SL_NET_END_TIMEOUT);
    for (int k = 0; k < FILLERS; k++) {
        (void)close(fillers[k]);
    }
    (void)close(deaf);
}

static void what_is_tried_can_be_given_up(void **state)
{
    (void)state;
    int fillers[FILLERS];
    const int deaf = listen_deaf(fillers);
    struct sl_error err;
    const struct sl_net_connect_options options = { .address = "many.example:1",
                                                    .timeout_ms = 5000 };
    assert_int_equal(
        sl_net_connect(sl_loop_uv_base(world.uv), &options, &callbacks, NULL, &world.conn, &err),
        SL_OK);
    answer();
    sl_net_conn_close(world.conn, false);
    assert_false(world.is_over);
    sl_loop_uv_step(world.uv, 0);
    assert_true(world.is_over);
    assert_int_equal(world.how, SL_NET_END_CLOSED);
    for (int k = 0; k < FILLERS; k++) {
        (void)close(fillers[k]);
    }
    (void)close(deaf);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(who_refuses_is_followed_by_the_next),
        T(who_does_not_answer_is_not_waited_for_alone),
        T(families_take_turns),
        T(when_all_refuse_the_last_reason_is_told),
        T(the_time_is_that_of_all_addresses),
        T(what_is_tried_can_be_given_up),
    };
    return cmocka_run_group_tests_name("net_connect", tests, NULL, NULL);
}
