/* The threads of a server's pool, and what happens to them when the server goes. */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "service/rpc/pool.h"
#include "service/rpc/rpc.h"

enum { WAIT_S = 20, THREADS = 3, MIB = 1024 * 1024, TURNS = 5000, TURN_MS = 2 };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int n_begun, n_done;
    bool is_open;
    size_t stack_bytes;
    bool blocks_signals;
} seen = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void change(int *counter, bool opens)
{
    (void)pthread_mutex_lock(&seen.lock);
    if (counter != NULL) {
        (*counter)++;
    }
    seen.is_open = seen.is_open || opens;
    (void)pthread_cond_broadcast(&seen.changed);
    (void)pthread_mutex_unlock(&seen.lock);
}

/* Waits for a number, or for the gate. */
static int await(const int *counter, int value)
{
    struct timespec until = { 0 };
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S;
    (void)pthread_mutex_lock(&seen.lock);
    while ((counter == NULL ? !seen.is_open : *counter < value) &&
           pthread_cond_timedwait(&seen.changed, &seen.lock, &until) == 0) {
    }
    const int found = counter == NULL ? 0 : *counter;
    (void)pthread_mutex_unlock(&seen.lock);
    return found;
}

static void run(struct sl_pool_work *work)
{
    (void)work;
    pthread_attr_t attributes;
    sigset_t blocked;
    (void)pthread_getattr_np(pthread_self(), &attributes);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    (void)pthread_mutex_lock(&seen.lock);
    (void)pthread_attr_getstacksize(&attributes, &seen.stack_bytes);
    seen.blocks_signals = sigismember(&blocked, SIGTERM) == 1;
    (void)pthread_mutex_unlock(&seen.lock);
    (void)pthread_attr_destroy(&attributes);
    change(&seen.n_begun, false);
    (void)await(NULL, 0);
}

static void done(struct sl_pool_work *work)
{
    (void)work;
    change(&seen.n_done, false);
}

static struct sl_pool *pool;
static struct sl_pool_work works[THREADS + 2];

static int setup(void **state)
{
    (void)state;
    seen.n_begun = seen.n_done = 0;
    seen.is_open = false;
    for (size_t i = 0; i < SL_COUNT(works); i++) {
        works[i] = (struct sl_pool_work){ .run = run, .done = done };
        sl_list_init(&works[i].node);
    }
    return sl_pool_new(THREADS, &pool) == SL_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    change(NULL, true);
    pool = sl_pool_free(pool);
    return 0;
}

static void as_many_run_at_once_as_there_are_threads(void **state)
{
    (void)state;
    assert_false(sl_pool_is_busy(pool));
    for (size_t i = 0; i < THREADS + 2; i++) {
        assert_true(pool->add(pool, &works[i], 2));
    }
    assert_int_equal(await(&seen.n_begun, THREADS), THREADS);
    assert_true(sl_pool_is_busy(pool));
    change(NULL, true);
    assert_int_equal(await(&seen.n_done, THREADS + 2), THREADS + 2);
}

static void one_too_many_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < THREADS + 1; i++) {
        assert_true(pool->add(pool, &works[i], 1));
    }
    assert_false(pool->add(pool, &works[THREADS + 1], 1));
    assert_int_equal(await(&seen.n_begun, THREADS), THREADS);
    assert_false(pool->add(pool, &works[THREADS + 1], 1));
    assert_true(pool->add(pool, &works[THREADS + 1], 2));
}

static void what_waits_can_be_taken_back_and_what_runs_cannot(void **state)
{
    (void)state;
    for (size_t i = 0; i < THREADS + 1; i++) {
        assert_true(pool->add(pool, &works[i], 1));
    }
    assert_int_equal(await(&seen.n_begun, THREADS), THREADS);
    assert_true(pool->take_back(pool, &works[THREADS]));
    assert_false(pool->take_back(pool, &works[THREADS]));
    assert_false(pool->take_back(pool, &works[0]));
    change(NULL, true);
    assert_int_equal(await(&seen.n_done, THREADS), THREADS);
    assert_false(sl_pool_is_busy(pool));
    assert_int_equal(await(&seen.n_begun, THREADS), THREADS);
}

static void threads_have_room_for_unpacking_and_leave_signals_alone_pb_1(void **state)
{
    (void)state;
    assert_true(pool->add(pool, &works[0], 0));
    assert_int_equal(await(&seen.n_begun, 1), 1);
    (void)pthread_mutex_lock(&seen.lock);
    assert_true(seen.stack_bytes >= MIB);
    assert_true(seen.blocks_signals);
    (void)pthread_mutex_unlock(&seen.lock);
    sigset_t ours;
    (void)pthread_sigmask(SIG_SETMASK, NULL, &ours);
    assert_int_equal(sigismember(&ours, SIGTERM), 0);
}

/* ---- A server that goes ---------------------------------------------------------------------- */

static atomic_int recv_gave;

static enum sl_status on_listen(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)request;
    (void)user_data;
    struct sl_slice message;
    change(&seen.n_begun, false);
    atomic_store(&recv_gave, (int)sl_call_recv_bytes(call, &message));
    change(&seen.n_done, false);
    return SL_OK;
}

static void *call_it(void *address)
{
    static const struct sl_method_desc method = { .path = "/a.B/Listen", .kind = SL_BIDIRECTIONAL };
    struct sl_channel *channel = NULL;
    struct sl_client_call *call = NULL;
    struct sl_slice message;
    if (sl_channel_new(address, NULL, &channel, NULL) == SL_OK &&
        sl_client_call_open(channel, &method, NULL, &call) == SL_OK) {
        (void)!sl_client_call_recv_bytes(call, &message); /* until the server goes */
    }
    (void)sl_client_call_free(call);
    (void)sl_channel_free(channel);
    return NULL;
}

/* Nobody has stopped it, and nobody runs it any more. */
static void freeing_a_server_wakes_its_handlers_and_waits_for_them(void **state)
{
    (void)state;
    static const struct sl_service_options on_pool = { .struct_size = sizeof(on_pool),
                                                       .on_pool = true };
    const struct sl_server_options options = { .struct_size = sizeof(options),
                                               .n_pool_threads = 1 };
    struct sl_server *server = NULL;
    const char *address = NULL;
    bool is_drained = false;
    pthread_t client;
    assert_int_equal(sl_server_new(&options, &server), SL_OK);
    assert_int_equal(
        sl_server_add_raw_with(server, "/a.B/Listen", SL_BIDIRECTIONAL, on_listen, NULL, &on_pool),
        SL_OK);
    assert_int_equal(sl_server_listen(server, "127.0.0.1:0", NULL, &address, NULL), SL_OK);
    char copy[64] = "";
    (void)strncpy(copy, address, sizeof(copy) - 1);
    assert_int_equal(pthread_create(&client, NULL, call_it, copy), 0);
    for (int i = 0; i < TURNS; i++) {
        assert_int_equal(sl_server_step(server, &is_drained, NULL), SL_OK);
        (void)pthread_mutex_lock(&seen.lock);
        const bool has_begun = seen.n_begun > 0;
        (void)pthread_mutex_unlock(&seen.lock);
        if (has_begun) {
            break;
        }
        struct pollfd wait = { .fd = sl_server_fd(server), .events = POLLIN };
        (void)poll(&wait, 1, TURN_MS);
    }
    assert_int_equal(await(&seen.n_begun, 1), 1);
    server = sl_server_free(server);
    assert_int_equal(await(&seen.n_done, 1), 1);
    assert_int_equal(atomic_load(&recv_gave), SL_UNAVAILABLE);
    assert_int_equal(pthread_join(client, NULL), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(as_many_run_at_once_as_there_are_threads),
        CASE(one_too_many_is_refused),
        CASE(what_waits_can_be_taken_back_and_what_runs_cannot),
        CASE(threads_have_room_for_unpacking_and_leave_signals_alone_pb_1),
        CASE(freeing_a_server_wakes_its_handlers_and_waits_for_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
