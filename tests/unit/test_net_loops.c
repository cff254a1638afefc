/* One listener, several loops, each on its thread. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "service/net/net.h"

enum { N_LOOPS = 3, N_CLIENTS = 30, MAX_STEPS = 2000 };

struct world;

struct worker {
    struct world *world;
    struct sl_loop_uv *uv;
    pthread_t thread;
    _Atomic size_t n_conns;
    struct sl_net_conn *conns[N_CLIENTS];
    struct sl_task closing;
};

struct client {
    struct sl_net_conn *conn;
    bool got_answer, is_over;
};

struct world {
    struct sl_limits limits;
    struct worker workers[N_LOOPS];
    struct sl_loop *loops[N_LOOPS];
    struct sl_net_listener *listener;
    struct sl_loop_uv *uv;
    struct client clients[N_CLIENTS];
};

/* ---- Servers: say one byte ------------------------------------------------------------------- */

struct served {
    struct worker *worker;
    size_t slot;
    bool is_said;
};

static void served_open(struct sl_net_conn *conn, void *user_data)
{
    (void)user_data;
    sl_net_conn_want_write(conn);
}

static void served_bytes(struct sl_net_conn *conn, struct sl_slice bytes, void *user_data)
{
    (void)conn;
    (void)bytes;
    (void)user_data;
}

static size_t
served_pull(struct sl_net_conn *conn, uint8_t *room, size_t room_bytes, void *user_data)
{
    (void)conn;
    (void)room_bytes;
    struct served *served = user_data;
    const size_t n = served->is_said ? 0 : 1;
    room[0] = '!';
    served->is_said = true;
    return n;
}

static void served_end(
    struct sl_net_conn *conn, enum sl_net_end how, const struct sl_error *err, void *user_data)
{
    (void)conn;
    (void)how;
    (void)err;
    struct served *served = user_data;
    served->worker->conns[served->slot] = NULL;
    free(served);
}

static bool on_accept(
    struct sl_net_conn *conn,
    struct sl_loop *loop,
    void *user_data,
    const struct sl_net_callbacks **ret_callbacks,
    void **ret_conn_user)
{
    static const struct sl_net_callbacks callbacks = { .on_open = served_open,
                                                       .on_bytes = served_bytes,
                                                       .on_pull = served_pull,
                                                       .on_end = served_end };
    struct world *world = user_data;
    struct worker *worker = &world->workers[loop->index];
    assert_true(sl_loop_is_current(loop));
    struct served *served = calloc(1, sizeof(*served));
    served->worker = worker;
    served->slot = atomic_fetch_add(&worker->n_conns, 1);
    worker->conns[served->slot] = conn;
    *ret_callbacks = &callbacks;
    *ret_conn_user = served;
    return true;
}

static void *run_worker(void *argument)
{
    struct worker *worker = argument;
    sl_loop_uv_run(worker->uv);
    return NULL;
}

/* Ends everything on the worker's own loop, then the loop. */
static void run_closing(struct sl_task *task)
{
    struct worker *worker = SL_CONTAINER(task, struct worker, closing);
    if (worker == &worker->world->workers[0]) {
        sl_net_listener_close(worker->world->listener, NULL, NULL);
    }
    for (size_t i = 0; i < N_CLIENTS; i++) {
        if (worker->conns[i] != NULL) {
            sl_net_conn_close(worker->conns[i], true);
        }
    }
    sl_loop_uv_stop(worker->uv);
}

/* ---- Clients, on the test's own loop -----------------------------------------------------------
 */

static void client_open(struct sl_net_conn *conn, void *user_data)
{
    (void)conn;
    (void)user_data;
}

static void client_bytes(struct sl_net_conn *conn, struct sl_slice bytes, void *user_data)
{
    (void)conn;
    struct client *client = user_data;
    client->got_answer = bytes.size == 1 && bytes.data[0] == '!';
}

static size_t
client_pull(struct sl_net_conn *conn, uint8_t *room, size_t room_bytes, void *user_data)
{
    (void)conn;
    room[0] = 0;
    (void)room_bytes;
    (void)user_data;
    return 0;
}

static void client_end(
    struct sl_net_conn *conn, enum sl_net_end how, const struct sl_error *err, void *user_data)
{
    (void)conn;
    (void)how;
    (void)err;
    struct client *client = user_data;
    client->is_over = true;
    client->conn = NULL;
}

static const struct sl_net_callbacks client_callbacks = {
    .on_open = client_open, .on_bytes = client_bytes, .on_pull = client_pull, .on_end = client_end
};

/* ---- The case -------------------------------------------------------------------------------- */

static void start(struct world *world)
{
    struct sl_error err = { .status = SL_OK };
    sl_limits_init(&world->limits);
    for (uint32_t i = 0; i < N_LOOPS; i++) {
        struct worker *worker = &world->workers[i];
        assert_int_equal(sl_loop_uv_new(i, &worker->uv), SL_OK);
        worker->world = world;
        worker->closing.run = run_closing;
        world->loops[i] = sl_loop_uv_base(worker->uv);
    }
    const struct sl_net_listen_options options = { .address = "127.0.0.1:0",
                                                   .limits = &world->limits,
                                                   .loops = world->loops,
                                                   .n_loops = N_LOOPS,
                                                   .on_accept = on_accept,
                                                   .user_data = world };
    assert_int_equal(sl_net_listen(&options, &world->listener, &err), SL_OK);
    assert_int_equal(sl_loop_uv_new(N_LOOPS, &world->uv), SL_OK);
    for (size_t i = 0; i < N_LOOPS; i++) {
        assert_int_equal(
            pthread_create(&world->workers[i].thread, NULL, run_worker, &world->workers[i]), 0);
    }
}

static void connect_one(struct world *world, struct client *client)
{
    struct sl_error err = { .status = SL_OK };
    const struct sl_net_connect_options options = { .address =
                                                        sl_net_listener_address(world->listener),
                                                    .timeout_ms = 5000 };
    assert_int_equal(
        sl_net_connect(
            sl_loop_uv_base(world->uv), &options, &client_callbacks, client, &client->conn, &err),
        SL_OK);
}

static bool is_all(const struct world *world, bool over)
{
    for (size_t i = 0; i < N_CLIENTS; i++) {
        const struct client *client = &world->clients[i];
        if (over ? !client->is_over : !client->got_answer) {
            return false;
        }
    }
    return true;
}

/* CM-11 */
static void connections_are_spread_evenly_over_the_loops(void **state)
{
    (void)state;
    struct world *world = calloc(1, sizeof(*world));
    start(world);
    for (size_t i = 0; i < N_CLIENTS; i++) {
        connect_one(world, &world->clients[i]);
    }
    for (int i = 0; i < MAX_STEPS && !is_all(world, false); i++) {
        sl_loop_uv_step(world->uv, 20);
    }
    assert_true(is_all(world, false));
    for (size_t i = 0; i < N_LOOPS; i++) {
        assert_int_equal(atomic_load(&world->workers[i].n_conns), N_CLIENTS / N_LOOPS);
    }
    for (size_t i = 0; i < N_LOOPS; i++) {
        sl_loop_post(world->loops[i], &world->workers[i].closing);
    }
    for (int i = 0; i < MAX_STEPS && !is_all(world, true); i++) {
        sl_loop_uv_step(world->uv, 20);
    }
    assert_true(is_all(world, true));
    for (size_t i = 0; i < N_LOOPS; i++) {
        assert_int_equal(pthread_join(world->workers[i].thread, NULL), 0);
    }
    for (size_t i = 0; i < N_LOOPS; i++) {
        (void)sl_loop_uv_free(world->workers[i].uv);
    }
    (void)sl_loop_uv_free(world->uv);
    free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connections_are_spread_evenly_over_the_loops),
    };
    return cmocka_run_group_tests_name("net_loops", tests, NULL, NULL);
}
