/* grpc.health.v1 as clients see it, over two HTTP/2 endpoints in memory. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/grpc/health/v1/health.sl.h"
#include "service/std/health.h"
#include "tests/fake/fake_loop.h"
#include "tests/unit/test_rpc_rig.h"

#define CHECK_PATH SL_GRPC__HEALTH__V1__HEALTH__CHECK__PATH
#define LIST_PATH  SL_GRPC__HEALTH__V1__HEALTH__LIST__PATH
#define WATCH_PATH SL_GRPC__HEALTH__V1__HEALTH__WATCH__PATH

enum { QUEUE = 4 }; /* messages of one call that may wait */
enum { SERVING = 1, NOT_SERVING = 2, SERVICE_UNKNOWN = 3 };

struct bench {
    struct sl_fake_loop loop;
    bool has_loop;
    struct sl_server *server;
    struct sl_health *health;
    struct rpc_peer peer;
};

static int open_bench(void **state, bool has_loop)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    assert_non_null(bench);
    sl_fake_loop_init(&bench->loop);
    bench->has_loop = has_loop;
    struct sl_loop *loop = &bench->loop.base;
    struct sl_limits limits;
    sl_limits_init(&limits);
    limits.buffer_events = QUEUE;
    limits.streams_per_connection = 64; /* as many closed ones are remembered (NG-20) */
    const struct sl_server_options options = { .struct_size = sizeof(options),
                                               .limits = &limits,
                                               .loops = has_loop ? &loop : NULL,
                                               .n_loops = has_loop ? 1 : 0 };
    assert_int_equal(sl_server_new(&options, &bench->server), SL_OK);
    assert_int_equal(sl_health_new(&bench->health), SL_OK);
    assert_int_equal(sl_health_register(bench->health, bench->server), SL_OK);
    rpc_peer_open(&bench->peer, bench->server, has_loop ? loop : NULL);
    (void)rpc_log(&bench->peer);
    *state = bench;
    return 0;
}

static int set_up(void **state)
{
    return open_bench(state, true);
}

static int set_up_without_loop(void **state)
{
    return open_bench(state, false);
}

static int tear_down(void **state)
{
    struct bench *bench = *state;
    rpc_peer_close(&bench->peer);
    assert_true(sl_fake_loop_run(&bench->loop));
    bench->server = sl_server_free(bench->server);
    bench->health = sl_health_free(bench->health);
    sl_fake_loop_done(&bench->loop);
    free(bench);
    return 0;
}

/* Lets everything happen that is under way. */
static void settle(struct bench *bench)
{
    assert_true(sl_fake_loop_run(&bench->loop));
    rpc_pump(&bench->peer);
    assert_true(sl_fake_loop_run(&bench->loop));
    rpc_pump(&bench->peer);
}

static struct rpc_stream *ask(struct bench *bench, const char *path, const char *name)
{
    Grpc__Health__V1__HealthCheckRequest request;
    grpc__health__v1__health_check_request__init(&request);
    char copy[64];
    (void)snprintf(copy, sizeof(copy), "%s", name);
    request.service = copy;
    uint8_t bytes[128];
    const size_t size = grpc__health__v1__health_check_request__pack(&request, bytes);
    struct rpc_stream *stream = rpc_open(&bench->peer, path, NULL);
    rpc_send(stream, bytes, size);
    rpc_end(stream);
    rpc_pump(&bench->peer);
    settle(bench);
    return stream;
}

/* The state in the next message; -1: none came. */
static int next_state(struct rpc_stream *stream)
{
    struct sl_slice bytes;
    if (!rpc_next(stream, &bytes)) {
        return -1;
    }
    Grpc__Health__V1__HealthCheckResponse *response =
        grpc__health__v1__health_check_response__unpack(NULL, bytes.size, bytes.data);
    assert_non_null(response);
    const int state = (int)response->status;
    grpc__health__v1__health_check_response__free_unpacked(response, NULL);
    return state;
}

static void set(struct bench *bench, const char *name, bool is_serving)
{
    assert_int_equal(sl_health_set(bench->health, name, is_serving), SL_OK);
}

static uint64_t n_running(const struct bench *bench)
{
    struct sl_server_stats stats;
    sl_server_stats(bench->server, &stats);
    return stats.calls_running;
}

/* ---- Check and List -------------------------------------------------------------------------- */

static int check_state(struct bench *bench, const char *name)
{
    struct rpc_stream *stream = ask(bench, CHECK_PATH, name);
    const int state = next_state(stream);
    assert_true(stream->is_closed);
    rpc_stream_free(stream);
    return state;
}

static void check_knows_the_whole_server_and_what_was_set_SV_1(void **state)
{
    struct bench *bench = *state;
    assert_int_equal(check_state(bench, ""), SERVING);
    set(bench, "a.B", false);
    assert_int_equal(check_state(bench, "a.B"), NOT_SERVING);
    set(bench, "a.B", true);
    assert_int_equal(check_state(bench, "a.B"), SERVING);
    assert_int_equal(check_state(bench, ""), SERVING);
}

static void check_of_an_unknown_name_is_not_found_SV_1(void **state)
{
    struct bench *bench = *state;
    assert_int_equal(check_state(bench, "a.C"), -1);
    assert_log(&bench->peer, "grpc-status=5");
}

static Grpc__Health__V1__HealthListResponse *list(struct bench *bench)
{
    struct rpc_stream *stream = rpc_unary(&bench->peer, LIST_PATH, NULL, "");
    settle(bench);
    struct sl_slice bytes;
    Grpc__Health__V1__HealthListResponse *response = NULL;
    if (rpc_next(stream, &bytes)) {
        response = grpc__health__v1__health_list_response__unpack(NULL, bytes.size, bytes.data);
        assert_non_null(response);
    }
    rpc_stream_free(stream);
    return response;
}

static void list_gives_every_name_with_its_state_SV_3(void **state)
{
    struct bench *bench = *state;
    set(bench, "a.B", false);
    Grpc__Health__V1__HealthListResponse *response = list(bench);
    assert_non_null(response);
    assert_int_equal(response->n_statuses, 2);
    for (size_t i = 0; i < 2; i++) {
        const bool is_whole = response->statuses[i]->key[0] == '\0';
        assert_string_equal(response->statuses[i]->key, is_whole ? "" : "a.B");
        assert_int_equal(response->statuses[i]->value->status, is_whole ? SERVING : NOT_SERVING);
    }
    grpc__health__v1__health_list_response__free_unpacked(response, NULL);
}

static void list_of_more_than_100_names_is_refused_SV_3(void **state)
{
    struct bench *bench = *state;
    for (int i = 1; i < 100; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "service.%d", i);
        set(bench, name, true);
    }
    Grpc__Health__V1__HealthListResponse *response = list(bench);
    assert_non_null(response);
    assert_int_equal(response->n_statuses, 100);
    grpc__health__v1__health_list_response__free_unpacked(response, NULL);
    set(bench, "one.more", true);
    assert_null(list(bench));
    assert_log(&bench->peer, "grpc-status=8");
}

/* ---- Watch ----------------------------------------------------------------------------------- */

static void watch_sends_the_state_at_once_and_then_only_changes_SV_2(void **state)
{
    struct bench *bench = *state;
    struct rpc_stream *stream = ask(bench, WATCH_PATH, "");
    assert_int_equal(next_state(stream), SERVING);
    assert_int_equal(next_state(stream), -1);
    set(bench, "", true);
    set(bench, "other", false);
    settle(bench);
    assert_int_equal(next_state(stream), -1);
    set(bench, "", false);
    settle(bench);
    assert_int_equal(next_state(stream), NOT_SERVING);
    assert_int_equal(next_state(stream), -1);
    assert_false(stream->is_closed);
    rpc_stream_free(stream);
    settle(bench);
    assert_int_equal(n_running(bench), 0);
}

static void changes_of_one_turn_are_merged_SV_2(void **state)
{
    struct bench *bench = *state;
    struct rpc_stream *stream = ask(bench, WATCH_PATH, "");
    assert_int_equal(next_state(stream), SERVING);
    set(bench, "", false);
    set(bench, "", true);
    set(bench, "", false);
    settle(bench);
    assert_int_equal(next_state(stream), NOT_SERVING);
    assert_int_equal(next_state(stream), -1);
    set(bench, "", true);
    set(bench, "", false);
    settle(bench);
    assert_int_equal(next_state(stream), -1); /* nothing to tell */
    rpc_stream_free(stream);
}

/* The connection is not pulled, so that messages stay in the queue. */
static void a_slow_watcher_gets_the_newest_state_when_there_is_room_SV_2(void **state)
{
    struct bench *bench = *state;
    struct rpc_stream *stream = ask(bench, WATCH_PATH, "");
    assert_int_equal(next_state(stream), SERVING);
    for (int i = 0; i < 10 * QUEUE + 1; i++) {
        set(bench, "", i % 2 != 0);
        assert_true(sl_fake_loop_run(&bench->loop));
    }
    settle(bench);
    int n_states = 0;
    int last = -1;
    for (int next = next_state(stream); next != -1; next = next_state(stream)) {
        assert_int_not_equal(next, last);
        last = next;
        n_states++;
    }
    assert_int_equal(last, NOT_SERVING);
    assert_in_range(n_states, 2, 2 * QUEUE);
    rpc_stream_free(stream);
}

static void an_unknown_name_is_watched_until_it_is_known_SV_2(void **state)
{
    struct bench *bench = *state;
    struct rpc_stream *stream = ask(bench, WATCH_PATH, "later");
    assert_int_equal(next_state(stream), SERVICE_UNKNOWN);
    assert_false(stream->is_closed);
    set(bench, "later", true);
    settle(bench);
    assert_int_equal(next_state(stream), SERVING);
    rpc_stream_free(stream);
}

static void a_thousand_cancelled_watches_leave_nothing_SV_2(void **state)
{
    struct bench *bench = *state;
    bench->peer.client->is_silent = true;
    uint64_t memory_bytes = 0;
    for (int i = 0; i < 1000; i++) {
        if (i == 500) {
            memory_bytes = sl_conn_memory_bytes(bench->peer.conn);
        }
        struct rpc_stream *stream = ask(bench, WATCH_PATH, i % 2 == 0 ? "" : "unknown");
        assert_true(next_state(stream) > 0);
        rpc_stream_free(stream);
        settle(bench);
        assert_int_equal(n_running(bench), 0);
    }
    assert_int_equal(sl_conn_memory_bytes(bench->peer.conn), memory_bytes);
}

static void many_watches_at_once_are_told_and_leave_nothing_SV_2(void **state)
{
    struct bench *bench = *state;
    enum { N_WATCHES = 60 };
    struct rpc_stream *streams[N_WATCHES];
    bench->peer.client->is_silent = true;
    for (int round = 0; round < 17; round++) { /* a thousand again */
        set(bench, "", true);
        for (int i = 0; i < N_WATCHES; i++) {
            streams[i] = ask(bench, WATCH_PATH, "");
            assert_int_equal(next_state(streams[i]), SERVING);
        }
        assert_int_equal(n_running(bench), N_WATCHES);
        set(bench, "", false);
        settle(bench);
        for (int i = 0; i < N_WATCHES; i++) {
            assert_int_equal(next_state(streams[i]), NOT_SERVING);
            assert_int_equal(next_state(streams[i]), -1);
            rpc_stream_free(streams[i]);
        }
        settle(bench);
        assert_int_equal(n_running(bench), 0);
    }
}

static void a_watch_that_ends_while_it_is_being_told_is_freed_later(void **state)
{
    struct bench *bench = *state;
    struct rpc_stream *stream = ask(bench, WATCH_PATH, "");
    set(bench, "", false); /* posted */
    rpc_stream_free(stream);
    rpc_pump(&bench->peer); /* ended before the task runs */
    assert_int_equal(n_running(bench), 0);
    settle(bench);
}

static void lost_connections_end_their_watches(void **state)
{
    struct bench *bench = *state;
    struct rpc_stream *stream = ask(bench, WATCH_PATH, "");
    sl_conn_lost(bench->peer.conn);
    settle(bench);
    assert_int_equal(n_running(bench), 0);
    set(bench, "", false);
    rpc_stream_free(stream);
}

static void *set_often(void *argument)
{
    struct bench *bench = argument;
    for (int i = 0; i < 1000; i++) {
        if (sl_health_set(bench->health, "", i % 2 != 0) != SL_OK) {
            abort();
        }
    }
    return NULL;
}

static void states_may_be_set_on_other_threads(void **state)
{
    struct bench *bench = *state;
    struct rpc_stream *stream = ask(bench, WATCH_PATH, "");
    pthread_t thread;
    set(bench, "", false);
    assert_int_equal(pthread_create(&thread, NULL, set_often, bench), 0);
    for (int i = 0; i < 50; i++) { /* beside a thread that posts the loop need not come to rest */
        sl_fake_loop_turn(&bench->loop);
        rpc_pump(&bench->peer);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    settle(bench);
    int last = -1;
    for (int next = next_state(stream); next != -1; next = next_state(stream)) {
        assert_int_not_equal(next, last);
        last = next;
    }
    assert_int_equal(last, SERVING);
    rpc_stream_free(stream);
}

static void a_connection_without_a_loop_is_told_directly(void **state)
{
    struct bench *bench = *state;
    struct rpc_stream *first = ask(bench, WATCH_PATH, "");
    struct rpc_stream *second = ask(bench, WATCH_PATH, "");
    set(bench, "", false);
    rpc_pump(&bench->peer);
    assert_int_equal(next_state(first), SERVING);
    assert_int_equal(next_state(first), NOT_SERVING);
    assert_int_equal(next_state(second), SERVING);
    assert_int_equal(next_state(second), NOT_SERVING);
    sl_health_shutdown(bench->health);
    rpc_pump(&bench->peer);
    assert_true(first->is_closed);
    assert_true(second->is_closed);
    rpc_stream_free(first);
    rpc_stream_free(second);
}

/* ---- Shutdown -------------------------------------------------------------------------------- */

static void after_shutdown_nothing_serves_and_sets_are_ignored_SV_4(void **state)
{
    struct bench *bench = *state;
    set(bench, "a.B", true);
    sl_health_shutdown(bench->health);
    sl_health_shutdown(bench->health);
    set(bench, "a.B", true);
    set(bench, "new", true);
    assert_int_equal(check_state(bench, ""), NOT_SERVING);
    assert_int_equal(check_state(bench, "a.B"), NOT_SERVING);
    assert_int_equal(check_state(bench, "new"), -1);
}

static void watchers_are_told_of_the_shutdown_and_ended_SV_4(void **state)
{
    struct bench *bench = *state;
    struct rpc_stream *known = ask(bench, WATCH_PATH, "");
    struct rpc_stream *unknown = ask(bench, WATCH_PATH, "unknown");
    sl_health_shutdown(bench->health);
    settle(bench);
    assert_int_equal(next_state(known), SERVING);
    assert_int_equal(next_state(known), NOT_SERVING);
    assert_int_equal(next_state(unknown), SERVICE_UNKNOWN);
    assert_int_equal(next_state(unknown), -1);
    assert_true(known->is_closed);
    assert_true(unknown->is_closed);
    assert_log(&bench->peer, "grpc-status=14");
    struct rpc_stream *late = ask(bench, WATCH_PATH, "");
    assert_int_equal(next_state(late), NOT_SERVING);
    assert_true(late->is_closed);
    assert_int_equal(n_running(bench), 0);
    rpc_stream_free(known);
    rpc_stream_free(unknown);
    rpc_stream_free(late);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(check_knows_the_whole_server_and_what_was_set_SV_1),
        CASE(check_of_an_unknown_name_is_not_found_SV_1),
        CASE(list_gives_every_name_with_its_state_SV_3),
        CASE(list_of_more_than_100_names_is_refused_SV_3),
        CASE(watch_sends_the_state_at_once_and_then_only_changes_SV_2),
        CASE(changes_of_one_turn_are_merged_SV_2),
        CASE(a_slow_watcher_gets_the_newest_state_when_there_is_room_SV_2),
        CASE(an_unknown_name_is_watched_until_it_is_known_SV_2),
        CASE(a_thousand_cancelled_watches_leave_nothing_SV_2),
        CASE(many_watches_at_once_are_told_and_leave_nothing_SV_2),
        CASE(a_watch_that_ends_while_it_is_being_told_is_freed_later),
        CASE(lost_connections_end_their_watches),
        CASE(states_may_be_set_on_other_threads),
        cmocka_unit_test_setup_teardown(
            a_connection_without_a_loop_is_told_directly, set_up_without_loop, tear_down),
        CASE(after_shutdown_nothing_serves_and_sets_are_ignored_SV_4),
        CASE(watchers_are_told_of_the_shutdown_and_ended_SV_4),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
