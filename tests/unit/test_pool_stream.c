/* Streams of handlers on the pool, at their end: nothing is missing in the middle of what a client
 * gets, and what was received can still be taken. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "service/rpc/rpc.h"

enum {
    WAIT_S = 20,
    TURNS = 100000,
    WINDOW_BYTES = 262144, /* what a client takes without reading */
    MARK_BYTES = 262144,   /* what may wait behind it */
    FIRST_BYTES = WINDOW_BYTES + 100000,
    BIG_BYTES = 200000, /* has no room behind the first, ... */
    SMALL_BYTES = 10    /* ... but this has */
};

static const struct sl_method_desc pour = { .path = "/test.Stream/Pour",
                                            .name = "Pour",
                                            .kind = SL_SERVER_STREAMING };
static const struct sl_method_desc keep = { .path = "/test.Stream/Keep",
                                            .name = "Keep",
                                            .kind = SL_BIDIRECTIONAL };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_told, is_ready, is_over;
    struct sl_message *taken, *taken_twice;
} seen = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static struct sl_server *server;
static pthread_t thread;
static struct sl_channel *channel;

static void set(bool *flag)
{
    (void)pthread_mutex_lock(&seen.lock);
    *flag = true;
    (void)pthread_cond_broadcast(&seen.changed);
    (void)pthread_mutex_unlock(&seen.lock);
}

static bool await(const bool *flag)
{
    struct timespec until = { 0 };
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S;
    (void)pthread_mutex_lock(&seen.lock);
    while (!*flag && pthread_cond_timedwait(&seen.changed, &seen.lock, &until) == 0) {
    }
    const bool is_set = *flag;
    (void)pthread_mutex_unlock(&seen.lock);
    return is_set;
}

/* ---- Handlers -------------------------------------------------------------------------------- */

static enum sl_status on_pour(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)request;
    (void)user_data;
    static const uint8_t bytes[FIRST_BYTES];
    struct sl_server_stats stats = { 0 };
    SL_TRY(sl_call_send_headers(call));
    (void)await(&seen.is_told); /* from here on the client does not read */
    SL_TRY(sl_call_send_bytes(call, sl_slice_of(bytes, FIRST_BYTES)));
    for (int i = 0; stats.bytes_out < WINDOW_BYTES && i < TURNS; i++) {
        (void)sl_call_is_idle(call); /* a turn of the loop */
        sl_server_stats(server, &stats);
    }
    SL_TRY(sl_call_send_bytes(call, sl_slice_of(bytes, BIG_BYTES)));
    (void)sl_call_is_idle(call); /* the loop has it, and finds no room */
    SL_TRY(sl_call_send_bytes(call, sl_slice_of(bytes, SMALL_BYTES)));
    set(&seen.is_ready);
    (void)!sl_call_wait_ms(call, UINT64_MAX);
    set(&seen.is_over);
    return SL_OK;
}

static enum sl_status on_keep(struct sl_call *call, struct sl_slice request, void *user_data)
{
    (void)user_data;
    SL_TRY(sl_call_recv_bytes(call, &request));
    SL_TRY(sl_call_send_headers(call));
    (void)!sl_call_wait_ms(call, UINT64_MAX);
    seen.taken = sl_message_take(call);
    seen.taken_twice = sl_message_take(call);
    const bool is_same = sl_slice_equals(request, "kept");
    if (is_same) {
        set(&seen.is_over);
    }
    return SL_OK;
}

/* ---- The two ends ---------------------------------------------------------------------------- */

static void *run(void *user_data)
{
    return sl_server_run(user_data, NULL) == SL_OK ? NULL : user_data;
}

static int set_up(void **state)
{
    (void)state;
    static const struct sl_service_options blocks = { .struct_size = sizeof(blocks),
                                                      .on_pool = true };
    struct sl_limits limits;
    sl_limits_init(&limits);
    limits.buffer = MARK_BYTES;
    const struct sl_server_options options = { .struct_size = sizeof(options),
                                               .limits = &limits,
                                               .n_pool_threads = 1 };
    const char *address = NULL;
    seen.is_told = seen.is_ready = seen.is_over = false;
    seen.taken = seen.taken_twice = NULL;
    assert_int_equal(sl_server_new(&options, &server), SL_OK);
    assert_int_equal(
        sl_server_add_raw_with(server, pour.path, pour.kind, on_pour, NULL, &blocks), SL_OK);
    assert_int_equal(
        sl_server_add_raw_with(server, keep.path, keep.kind, on_keep, NULL, &blocks), SL_OK);
    assert_int_equal(sl_server_listen(server, "127.0.0.1:0", NULL, &address, NULL), SL_OK);
    assert_int_equal(pthread_create(&thread, NULL, run, server), 0);
    assert_int_equal(sl_channel_new(address, NULL, &channel, NULL), SL_OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    channel = sl_channel_free(channel);
    sl_server_stop(server, 0, NULL, NULL);
    assert_int_equal(pthread_join(thread, NULL), 0);
    server = sl_server_free(server);
    (void)sl_message_free(seen.taken);
    (void)sl_message_free(seen.taken_twice);
    return 0;
}

/* ---- Tests ----------------------------------------------------------------------------------- */

static void behind_a_message_that_was_not_sent_comes_none(void **state)
{
    (void)state;
    struct sl_client_call *call = NULL;
    struct sl_slice message;
    assert_int_equal(sl_client_call_open(channel, &pour, NULL, &call), SL_OK);
    assert_int_equal(sl_client_call_send_bytes(call, sl_slice_str("")), SL_OK);
    sl_client_call_close_send(call);
    assert_non_null(sl_client_call_headers(call));
    set(&seen.is_told);
    assert_true(await(&seen.is_ready));
    sl_server_stop(server, 0, NULL, NULL);
    assert_true(await(&seen.is_over));
    enum sl_status status = SL_OK;
    while ((status = sl_client_call_recv_bytes(call, &message)) == SL_OK) {
        assert_int_equal(message.size, FIRST_BYTES);
    }
    assert_int_equal(status, SL_UNAVAILABLE); /* it is told that something is missing */
    (void)sl_client_call_free(call);
}

static void a_message_is_taken_behind_a_reset_em_3(void **state)
{
    (void)state;
    struct sl_client_call *call = NULL;
    assert_int_equal(sl_client_call_open(channel, &keep, NULL, &call), SL_OK);
    assert_int_equal(sl_client_call_send_bytes(call, sl_slice_str("kept")), SL_OK);
    assert_non_null(sl_client_call_headers(call)); /* it was received */
    struct sl_slice message;
    sl_client_call_cancel(call);
    assert_int_equal(sl_client_call_recv_bytes(call, &message), SL_CANCELLED);
    (void)sl_client_call_free(call);
    assert_true(await(&seen.is_over));
    assert_non_null(seen.taken);
    assert_null(seen.taken_twice);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(behind_a_message_that_was_not_sent_comes_none),
        CASE(a_message_is_taken_behind_a_reset_em_3),
    };
    return cmocka_run_group_tests_name("pool_stream", tests, NULL, NULL);
}
