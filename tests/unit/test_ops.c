/* The operations port as a whole, on real loops: what it says when one of them hangs. What HTTP it
 * understands is tested from outside, by tests/e2e/test_ops.py. */
#include <arpa/inet.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "runtime/base/parse.h"
#include "runtime/runtime.h"
#include "service/ops/ops.h"
#include "service/rpc/rpc.h"

enum { LOOPS = 2, ANSWER_BYTES = 262144 };

struct bench {
    struct sl_loop_uv *uv[LOOPS];
    struct sl_loop *loops[LOOPS];
    pthread_t threads[LOOPS];
    bool is_running[LOOPS];
    struct sl_runtime *runtime;
    struct sl_server *server;
    struct sl_ops *ops;
    char answer[ANSWER_BYTES];
};

static const char *no_env(const char *name)
{
    (void)name;
    return NULL;
}

static void *run_loop(void *user_data)
{
    sl_loop_uv_run(user_data);
    return NULL;
}

static void start_loop(struct bench *bench, size_t i)
{
    assert_int_equal(pthread_create(&bench->threads[i], NULL, run_loop, bench->uv[i]), 0);
    bench->is_running[i] = true;
}

static int setup(void **state)
{
    static const char *const nothing[] = { NULL };
    struct bench *bench = sl_calloc(1, sizeof(*bench));
    struct sl_limits limits;
    struct sl_error err;
    assert_non_null(bench);
    sl_limits_init(&limits);
    for (uint32_t i = 0; i < LOOPS; i++) {
        assert_int_equal(sl_loop_uv_new(i, &bench->uv[i]), SL_OK);
        bench->loops[i] = sl_loop_uv_base(bench->uv[i]);
    }
    const struct sl_runtime_options runtime = { .loops = bench->loops,
                                                .n_loops = LOOPS,
                                                .limits = &limits,
                                                .env = no_env,
                                                .environment = nothing };
    assert_int_equal(sl_runtime_new(&runtime, &bench->runtime, &err), SL_OK);
    const struct sl_server_options server = {
        .struct_size = sizeof(server), .limits = &limits, .loops = bench->loops, .n_loops = LOOPS
    };
    assert_int_equal(sl_server_new(&server, &bench->server), SL_OK);
    const struct sl_ops_options ops = { .address = "127.0.0.1:0",
                                        .has_dump = true,
                                        .limits = &limits,
                                        .loops = bench->loops,
                                        .n_loops = LOOPS,
                                        .server = bench->server,
                                        .runtime = bench->runtime };
    assert_int_equal(sl_ops_new(&ops, &bench->ops, &err), SL_OK);
    assert_int_equal(sl_ops_start(bench->ops, &err), SL_OK);
    *state = bench;
    return 0;
}

static void on_idle(void *user_data)
{
    (void)sem_post(user_data);
}

static int teardown(void **state)
{
    struct bench *bench = *state;
    sem_t idle;
    (void)sem_init(&idle, 0, 0);
    for (size_t i = 0; i < LOOPS; i++) {
        if (!bench->is_running[i]) {
            start_loop(bench, i);
        }
    }
    sl_runtime_stop(bench->runtime, on_idle, &idle);
    (void)sem_wait(&idle);
    for (size_t i = 0; i < LOOPS; i++) {
        sl_loop_uv_stop(bench->uv[i]);
        (void)pthread_join(bench->threads[i], NULL);
    }
    sl_ops_close(bench->ops);
    (void)sl_server_free(bench->server);
    (void)sl_runtime_free(bench->runtime);
    for (size_t i = 0; i < LOOPS; i++) {
        (void)sl_loop_uv_free(bench->uv[i]);
    }
    (void)sl_ops_free(bench->ops);
    (void)sem_destroy(&idle);
    (void)sl_free(bench);
    return 0;
}

/* Gives the descriptor. */
static int ask(struct bench *bench, const char *path)
{
    const char *port = strrchr(sl_ops_address(bench->ops), ':') + 1;
    uint64_t number = 0;
    assert_int_equal(sl_parse_u64(sl_slice_str(port), 1, 65535, &number), SL_OK);
    const struct sockaddr_in to = { .sin_family = AF_INET,
                                    .sin_port = htons((uint16_t)number),
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    char request[128];
    const int size =
        snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nConnection: close\r\n\r\n", path);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(write(fd, request, (size_t)size), size);
    return fd;
}

/* The whole answer. */
static const char *read_answer(struct bench *bench, int fd)
{
    size_t n = 0;
    ssize_t got = 1;
    while (got > 0 && n < ANSWER_BYTES - 1) {
        got = read(fd, bench->answer + n, ANSWER_BYTES - 1 - n);
        n += got > 0 ? (size_t)got : 0;
    }
    (void)close(fd);
    bench->answer[n] = '\0';
    return bench->answer;
}

static const char *get(struct bench *bench, const char *path)
{
    return read_answer(bench, ask(bench, path));
}

static void assert_answer(struct bench *bench, const char *path, const char *line, const char *part)
{
    const char *answer = get(bench, path);
    if (strncmp(answer, line, strlen(line)) != 0 || strstr(answer, part) == NULL) {
        fail_msg("%s: %s", path, answer);
    }
}

/* X8: it is the loops that answer, not the port's own thread. */
static void a_loop_that_hangs_is_unhealthy_and_one_that_goes_on_is_well(void **state)
{
    struct bench *bench = *state;
    start_loop(bench, 0);
    assert_answer(
        bench, "/healthz", "HTTP/1.1 503 ", "\r\n\r\n1 of 2 loops did not answer within 1000 ms\n");
    assert_answer(bench, "/healthz", "HTTP/1.1 503 ", "1 of 2 loops"); /* asked only once */
    start_loop(bench, 1);
    assert_answer(bench, "/healthz", "HTTP/1.1 200 ", "\r\n\r\nok\n");
}

static void an_answer_that_is_late_for_one_question_is_in_time_for_the_next(void **state)
{
    struct bench *bench = *state;
    start_loop(bench, 0);
    assert_answer(bench, "/healthz", "HTTP/1.1 503 ", "1 of 2 loops");
    const int fd = ask(bench, "/healthz");
    for (int i = 0; i < 2; i++) { /* when these are answered, that one is read */
        assert_answer(bench, "/readyz", "HTTP/1.1 503 ", "starting");
    }
    start_loop(bench, 1);
    assert_memory_equal(read_answer(bench, fd), "HTTP/1.1 200 ", 13);
}

static void a_dump_tells_which_loop_gave_no_answer(void **state)
{
    struct bench *bench = *state;
    start_loop(bench, 1);
    assert_answer(bench, "/debug/dump", "HTTP/1.1 200 ", "{\"index\":0,\"error\":\"no answer\"}");
    assert_non_null(strstr(bench->answer, "{\"index\":1,\"late_ms\":"));
    start_loop(bench, 0);
    assert_answer(bench, "/debug/dump", "HTTP/1.1 200 ", "{\"index\":0,\"late_ms\":");
    assert_null(strstr(bench->answer, "no answer"));
}

static void it_is_not_ready_before_somebody_says_so(void **state)
{
    struct bench *bench = *state;
    assert_answer(bench, "/readyz", "HTTP/1.1 503 ", "\r\n\r\nstarting\n");
    sl_ops_set_unready(bench->ops, NULL);
    assert_answer(bench, "/readyz", "HTTP/1.1 200 ", "\r\n\r\nready\n");
    sl_ops_set_unready(bench->ops, "draining");
    assert_answer(bench, "/readyz", "HTTP/1.1 503 ", "\r\n\r\ndraining\n");
}

static void metrics_need_no_answer_of_the_loops(void **state)
{
    struct bench *bench = *state;
    assert_answer(bench, "/metrics", "HTTP/1.1 200 ", "\nprocess_start_time_seconds 1");
}

/* A question that never came back is no harm at the end. */
static void it_ends_while_a_loop_still_has_its_question(void **state)
{
    struct bench *bench = *state;
    assert_answer(bench, "/debug/dump", "HTTP/1.1 200 ", "no answer");
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(a_loop_that_hangs_is_unhealthy_and_one_that_goes_on_is_well),
        CASE(an_answer_that_is_late_for_one_question_is_in_time_for_the_next),
        CASE(a_dump_tells_which_loop_gave_no_answer),
        CASE(it_is_not_ready_before_somebody_says_so),
        CASE(metrics_need_no_answer_of_the_loops),
        CASE(it_ends_while_a_loop_still_has_its_question),
    };
    return cmocka_run_group_tests_name("ops", tests, NULL, NULL);
}
