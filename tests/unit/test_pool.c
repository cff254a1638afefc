/* The threads of a server's pool, and what happens to them when the server goes. */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "service/rpc/pool.h"
#include "service/rpc/rpc.h"

enum {
    WAIT_S = 20,
    THREADS = 3,
    MIB = 1024 * 1024,
    TURNS = 5000,
    TURN_MS = 2,
    BOUND_BYTES = 65536,
    POURED = 36
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int n_begun, n_done;
    bool is_open;
    size_t stack_bytes;
    bool blocks_signals, blocks_faults;
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
    seen.blocks_faults = sigismember(&blocked, SIGSEGV) == 1 ||
                         sigismember(&blocked, SIGBUS) == 1 || sigismember(&blocked, SIGFPE) == 1 ||
                         sigismember(&blocked, SIGABRT) == 1 || sigismember(&blocked, SIGILL) == 1;
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
    const size_t stack_bytes = seen.stack_bytes;
    const bool blocks_signals = seen.blocks_signals;
    const bool blocks_faults = seen.blocks_faults;
    (void)pthread_mutex_unlock(&seen.lock);
    assert_true(stack_bytes >= MIB);
    assert_true(blocks_signals);
    assert_false(blocks_faults);
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

static int pour_most;
static atomic_int n_poured, n_drunk;

/* Sends until it may not, and is content. */
static enum sl_status on_pour(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)request;
    (void)user_data;
    static const uint8_t bytes[4096];
    change(&seen.n_begun, false);
    for (int i = 0; i < pour_most; i++) {
        if (sl_call_send_bytes(call, sl_slice_of(bytes, sizeof(bytes))) != SL_OK) {
            break;
        }
        atomic_fetch_add(&n_poured, 1);
    }
    change(&seen.n_done, false);
    return SL_OK;
}

static atomic_int pour_gave;

/* Reads nothing until the handler has returned, and then everything. */
static void *drink(void *address)
{
    static const struct sl_method_desc method = { .path = "/a.B/Pour", .kind = SL_BIDIRECTIONAL };
    struct sl_channel *channel = NULL;
    struct sl_client_call *call = NULL;
    struct sl_slice message;
    const struct sl_channel_options options = { .struct_size = sizeof(options),
                                                .stream_window_bytes = BOUND_BYTES };
    enum sl_status status = sl_channel_new(address, &options, &channel, NULL);
    if (status == SL_OK && sl_client_call_open(channel, &method, NULL, &call) == SL_OK) {
        status = sl_client_call_recv_bytes(call, &message);
        (void)await(&seen.n_done, 1);
        while (status == SL_OK) {
            atomic_fetch_add(&n_drunk, 1);
            status = sl_client_call_recv_bytes(call, &message);
        }
    }
    atomic_store(&pour_gave, (int)status);
    (void)sl_client_call_free(call);
    (void)sl_channel_free(channel);
    return NULL;
}

struct host {
    struct sl_server *server;
    pthread_t client;
    char address[64];
};

static void turn(const struct host *host, bool *ret_is_drained)
{
    struct pollfd wait = { .fd = sl_server_fd(host->server), .events = POLLIN };
    assert_int_equal(sl_server_step(host->server, ret_is_drained, NULL), SL_OK);
    (void)poll(&wait, 1, TURN_MS);
}

/* A server that the test steps, until the handler runs. */
static void start_host(
    struct host *host, const char *path, sl_raw_fn *handler, void *(*run_client)(void *address))
{
    static const struct sl_service_options on_pool = { .struct_size = sizeof(on_pool),
                                                       .on_pool = true };
    struct sl_limits limits;
    sl_limits_init(&limits);
    limits.buffer = BOUND_BYTES;
    const struct sl_server_options options = { .struct_size = sizeof(options),
                                               .limits = &limits,
                                               .n_pool_threads = 1 };
    const char *address = NULL;
    bool is_drained = false;
    atomic_store(&n_poured, 0);
    atomic_store(&n_drunk, 0);
    *host = (struct host){ 0 };
    assert_int_equal(sl_server_new(&options, &host->server), SL_OK);
    assert_int_equal(
        sl_server_add_raw_with(host->server, path, SL_BIDIRECTIONAL, handler, NULL, &on_pool),
        SL_OK);
    assert_int_equal(sl_server_listen(host->server, "127.0.0.1:0", NULL, &address, NULL), SL_OK);
    (void)snprintf(host->address, sizeof(host->address), "%s", address);
    assert_int_equal(pthread_create(&host->client, NULL, run_client, host->address), 0);
    bool has_begun = false;
    for (int i = 0; i < TURNS && !has_begun; i++) {
        turn(host, &is_drained);
        (void)pthread_mutex_lock(&seen.lock);
        has_begun = seen.n_begun > 0;
        (void)pthread_mutex_unlock(&seen.lock);
    }
    assert_true(has_begun);
}

/* Nobody has stopped it, and nobody runs it any more. */
static void freeing_a_server_wakes_its_handlers_and_waits_for_them(void **state)
{
    (void)state;
    struct host host;
    start_host(&host, "/a.B/Listen", on_listen, call_it);
    host.server = sl_server_free(host.server);
    assert_int_equal(await(&seen.n_done, 1), 1);
    assert_int_equal(atomic_load(&recv_gave), SL_UNAVAILABLE);
    assert_int_equal(pthread_join(host.client, NULL), 0);
}

/* Queue and window hold 30 messages, and the outbox 7: the rest follows when the client reads. */
static void what_was_sent_before_the_return_is_sent(void **state)
{
    (void)state;
    struct host host;
    bool is_drained = false;
    pour_most = POURED;
    start_host(&host, "/a.B/Pour", on_pour, drink);
    sl_server_stop(host.server, (uint64_t)WAIT_S * 1000, NULL, NULL); /* when the call is over */
    for (int i = 0; i < TURNS && !is_drained; i++) {
        turn(&host, &is_drained);
    }
    assert_int_equal(pthread_join(host.client, NULL), 0);
    assert_int_equal(atomic_load(&n_drunk), POURED);
    assert_int_equal(atomic_load(&pour_gave), SL_END);
    host.server = sl_server_free(host.server);
}

static void a_stream_that_lost_a_message_does_not_end_well(void **state)
{
    (void)state;
    struct host host;
    bool is_drained = false;
    pour_most = INT32_MAX;
    start_host(&host, "/a.B/Pour", on_pour, drink);
    for (int i = 0; i < TURNS && atomic_load(&n_poured) < POURED; i++) {
        turn(&host, &is_drained); /* until some wait in the outbox */
    }
    sl_server_stop(host.server, 0, NULL, NULL);
    for (int i = 0; i < TURNS && !is_drained; i++) {
        turn(&host, &is_drained);
    }
    assert_true(is_drained);
    assert_int_equal(pthread_join(host.client, NULL), 0);
    assert_int_equal(atomic_load(&pour_gave), SL_UNAVAILABLE);
    host.server = sl_server_free(host.server);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static void a_stop_before_the_server_runs_is_not_lost(void **state)
{
    (void)state;
    struct sl_server *server = NULL;
    assert_int_equal(sl_server_new(NULL, &server), SL_OK);
    sl_server_stop(server, 0, NULL, NULL);
    assert_int_equal(sl_server_listen(server, "127.0.0.1:0", NULL, NULL, NULL), SL_OK);
    assert_int_equal(sl_server_run(server, NULL), SL_OK); /* returns */
    (void)sl_server_free(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stop_before_the_server_runs_is_not_lost),
        CASE(as_many_run_at_once_as_there_are_threads),
        CASE(one_too_many_is_refused),
        CASE(what_waits_can_be_taken_back_and_what_runs_cannot),
        CASE(threads_have_room_for_unpacking_and_leave_signals_alone_pb_1),
        CASE(freeing_a_server_wakes_its_handlers_and_waits_for_them),
        CASE(what_was_sent_before_the_return_is_sent),
        CASE(a_stream_that_lost_a_message_does_not_end_well),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
