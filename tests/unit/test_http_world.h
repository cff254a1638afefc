/* A fake server, models that know only it, and a sink: for the tests of models over HTTP. */
#ifndef SL_TESTS_UNIT_TEST_HTTP_WORLD_H
#define SL_TESTS_UNIT_TEST_HTTP_WORLD_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/base/loop_uv.h"
#include "runtime/base/metrics.h"
#include "tests/fake/fake_http_server.h"
#include "tests/unit/test_model_sink.h"

#define HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
#define CHUNK(delta, finish)                                                                       \
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m-1\",\"choices\":"      \
    "[{\"index\":0,\"delta\":{" delta "},\"finish_reason\":" finish "}]}\n\n"
#define USAGE                                                                                      \
    "data: {\"object\":\"chat.completion.chunk\",\"model\":\"m-1\",\"choices\":[],\"usage\":"      \
    "{\"prompt_tokens\":9,\"completion_tokens\":4,\"prompt_tokens_details\":{\"cached_tokens\":3}" \
    "}}\n\n"
#define DONE "data: [DONE]\n\n"
#define STORY                                                                                      \
    CHUNK("\"role\":\"assistant\",\"content\":\"\"", "null")                                       \
    CHUNK("\"content\":\"Hel\"", "null")                                                           \
    CHUNK("\"content\":\"lo \\ud83d\\ude00\xC3\xA9\"", "null")                                     \
    CHUNK("", "\"stop\"")
#define STORY_LOG "text Hello \xF0\x9F\x98\x80\xC3\xA9\n"

struct world {
    struct sl_loop_uv *uv;
    struct sl_loop *loop;
    struct sl_fake_http server;
    struct sl_limits limits;
    struct sl_models *models;
    struct sl_model_turn *turn;
    struct test_sink sink;
    bool is_closed;
};

static char base_url[64];

static inline const char *env(const char *name)
{
    if (strcmp(name, "OPENAI_BASE_URL") == 0) {
        return base_url;
    }
    return strcmp(name, "OPENAI_API_KEY") == 0 ? "key-of-the-test" : NULL;
}

static inline void open_models(struct world *world)
{
    struct sl_loop *loops[] = { world->loop };
    const struct sl_models_options options = {
        .loops = loops,
        .n_loops = 1,
        .limits = &world->limits,
        .env = env,
    };
    assert_int_equal(sl_models_new(&options, &world->models, NULL), SL_OK);
}

static inline void on_closed(void *user_data)
{
    struct world *world = user_data;
    world->is_closed = true;
}

static inline void close_models(struct world *world)
{
    world->is_closed = false;
    sl_models_close_loop(world->models, world->loop, on_closed, world);
    assert_false(world->is_closed);
    for (int i = 0; i < 100 && !world->is_closed; i++) {
        sl_loop_uv_step(world->uv, 20);
    }
    assert_true(world->is_closed);
    world->models = sl_models_free(world->models);
}

static inline int set_up(void **state)
{
    static struct world world;
    (void)signal(SIGPIPE, SIG_IGN);
    world = (struct world){ .turn = NULL };
    assert_int_equal(sl_loop_uv_new(0, &world.uv), SL_OK);
    world.loop = sl_loop_uv_base(world.uv);
    sl_loop_uv_step(world.uv, 0); /* the loop's thread is this one */
    sl_fake_http_open(&world.server, sl_loop_uv_handle(world.loop));
    (void)snprintf(base_url, sizeof(base_url), "%s", world.server.url);
    sl_limits_init(&world.limits);
    world.limits.model_retries = 0;
    test_sink_init(&world.sink);
    open_models(&world);
    *state = &world;
    return 0;
}

static inline int tear_down(void **state)
{
    struct world *world = *state;
    world->turn = sl_model_turn_free(world->turn);
    assert_int_equal(sl_models_n_turns(world->models), 0);
    close_models(world);
    sl_fake_http_close(&world->server);
    sl_loop_uv_step(world->uv, 0);
    sl_loop_uv_free(world->uv);
    test_sink_done(&world->sink);
    return 0;
}

/* Other limits for the models of this test. */
static inline void set_limits(struct world *world)
{
    close_models(world);
    open_models(world);
}

static inline void start_with(struct world *world, struct sl_model_request *request)
{
    const struct sl_model_sink sink = test_sink_of(&world->sink);
    struct sl_error error = { .text = "" };
    request->provider = "openai";
    request->model = "m";
    request->run_id = "run";
    request->iteration = 1;
    request->remaining_ms = request->remaining_ms == 0 ? 20000 : request->remaining_ms;
    if (sl_model_turn_start(world->models, world->loop, request, &sink, &world->turn, &error) !=
        SL_OK) {
        fail_msg("%s", error.text);
    }
    assert_int_equal(world->sink.n_chunks, 0);
}

static inline void start(struct world *world)
{
    static const struct sl_chat_message message = {
        .role = SL_CHAT_USER,
        .content = { .data = (const uint8_t *)"Hi", .size = 2 },
    };
    struct sl_model_request request = { .messages = &message, .n_messages = 1 };
    start_with(world, &request);
}

/* Turns the loop until the answer is over, at most ten seconds. */
static inline void run(struct world *world)
{
    const uint64_t end_ns = sl_loop_now_ns(world->loop) + 10 * SL_NS_PER_S;
    while (!world->sink.is_over && sl_loop_now_ns(world->loop) < end_ns) {
        sl_loop_uv_step(world->uv, 100);
    }
    assert_true(world->sink.is_over);
}

/* Turns the loop for so long. */
static inline void wait_ms(struct world *world, uint64_t ms)
{
    const uint64_t end_ns = sl_loop_now_ns(world->loop) + ms * SL_NS_PER_MS;
    while (sl_loop_now_ns(world->loop) < end_ns) {
        sl_loop_uv_step(world->uv, 10);
    }
}

static inline void ask(struct world *world, const struct sl_fake_http_answer *answers, size_t n)
{
    world->server.answers = answers;
    world->server.n_answers = n;
    world->server.n_requests = 0;
    test_sink_done(&world->sink);
    test_sink_init(&world->sink);
    start(world);
    run(world);
    world->turn = sl_model_turn_free(world->turn);
}

static inline void ask_text(struct world *world, const char *bytes)
{
    const struct sl_fake_http_answer answer = {
        .bytes = bytes,
        .size = strlen(bytes),
        .end = SL_FAKE_CLOSE,
    };
    ask(world, &answer, 1);
}

static inline void expect(struct world *world, const char *log)
{
    assert_string_equal(test_sink_log(&world->sink), log);
}

#endif
