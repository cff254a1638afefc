/* Requests that are built on the pool because they are large (PM-1.6), and what may happen
 * meanwhile. */
#include "runtime/model/models.h"
#include "tests/unit/test_http_world.h"

enum { POOL_THREADS = 4, LARGE = 400000, SMALL = 200000 };

#define OK_ANSWER HEAD CHUNK("\"content\":\"a\"", "\"stop\"") DONE

static const struct sl_fake_http_answer ok_answer = {
    .bytes = OK_ANSWER,
    .size = sizeof(OK_ANSWER) - 1,
    .end = SL_FAKE_CLOSE,
};

static size_t n_jobs(const struct world *world)
{
    return world->models->loops[0].n_jobs;
}

static void start_text(struct world *world, uint8_t c, size_t size, uint64_t remaining_ms)
{
    uint8_t *text = malloc(size);
    assert_non_null(text);
    memset(text, c, size);
    const struct sl_chat_message message = { .role = SL_CHAT_USER, .content = { text, size } };
    world->server.answers = &ok_answer;
    world->server.n_answers = 1;
    world->server.n_requests = 0;
    test_sink_done(&world->sink);
    test_sink_init(&world->sink);
    start_with(
        world, &(struct sl_model_request){
                   .messages = &message, .n_messages = 1, .remaining_ms = remaining_ms });
    free(text); /* the owner may go at once */
}

/* ---- A pool without a free thread ----------------------------------------------------------- */

struct gate {
    struct sl_job jobs[POOL_THREADS];
    pthread_mutex_t lock;
};

static struct gate gate = { .lock = PTHREAD_MUTEX_INITIALIZER };
static int n_waiting;

static void wait_at_gate(struct sl_job *job)
{
    (void)job;
    (void)pthread_mutex_lock(&gate.lock);
    (void)pthread_mutex_unlock(&gate.lock);
}

static void passed_gate(struct sl_job *job)
{
    (void)job;
    n_waiting--;
}

static void close_gate(struct world *world)
{
    (void)pthread_mutex_lock(&gate.lock);
    for (int i = 0; i < POOL_THREADS; i++) {
        gate.jobs[i] = (struct sl_job){ .run = wait_at_gate, .on_done = passed_gate };
        sl_loop_offload(world->loop, &gate.jobs[i]);
        n_waiting++;
    }
}

static void open_gate(struct world *world)
{
    (void)pthread_mutex_unlock(&gate.lock);
    for (int i = 0; i < 500 && n_waiting > 0; i++) {
        sl_loop_uv_step(world->uv, 20);
    }
    assert_int_equal(n_waiting, 0);
}

/* ---- Where it is built ------------------------------------------------------------------------
 */

static void only_a_large_request_goes_to_the_pool(void **state)
{
    static const struct {
        uint8_t c;
        size_t size;
        size_t n_jobs, body_size; /* of the text in the body */
    } cases[] = {
        { 'a', SMALL, 0, SMALL },
        { 'a', LARGE, 1, LARGE },
        { 1, SMALL, 1, (size_t)SMALL * 6 }, /* large only with its escapes */
    };
    struct world *world = *state;
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        start_text(world, cases[i].c, cases[i].size, 0);
        assert_int_equal(n_jobs(world), cases[i].n_jobs);
        run(world);
        expect(world, "text a\nfinish END_TURN\n");
        assert_int_equal(n_jobs(world), 0);
        world->turn = sl_model_turn_free(world->turn);
        const char *request = sl_fake_http_request(&world->server);
        const char *content = strstr(request, "\"content\":\"");
        assert_non_null(content);
        assert_int_equal(strcspn(content + 11, "\""), cases[i].body_size);
        assert_non_null(strstr(request, "Authorization: Bearer key-of-the-test\r\n"));
    }
}

/* All that a request can have, built on both ways, is the same. */
static void the_pool_builds_the_same_request(void **state)
{
    static const double temperature = 0.5;
    static const double top_p = 0.25;
    static const char *const stop[] = { "END", "STOP" };
    static const struct sl_chat_tool tools[] = {
        { .name = "f", .description = "D", .parameters_json = "{\"type\":\"object\"}" },
        { .name = "g", .description = "E", .parameters_json = "{\"type\":\"object\"}" },
    };
    static const struct sl_chat_call calls[] = {
        { .id = "c1", .name = "f", .arguments_json = "{\"a\":1}", .opaque_json = "{\"x\":2}" },
        { .id = "c2", .name = "g", .arguments_json = "{}" },
    };
    static const struct sl_chat_message messages[] = {
        { .role = SL_CHAT_USER, .content = { (const uint8_t *)"U", 1 } },
        { .role = SL_CHAT_ASSISTANT,
          .content = { (const uint8_t *)"A", 1 },
          .calls = calls,
          .n_calls = 2,
          .reasoning = { (const uint8_t *)"R", 1 },
          .opaque_json = "[1]" },
        { .role = SL_CHAT_TOOL,
          .content = { (const uint8_t *)"1", 1 },
          .call_id = "c1",
          .tool_name = "f" },
        { .role = SL_CHAT_TOOL,
          .content = { (const uint8_t *)"2", 1 },
          .call_id = "c2",
          .tool_name = "g",
          .is_error = true },
    };
    struct world *world = *state;
    struct sl_quirks *quirks = &sl_models_entry(world->models, "openai")->quirks;
    quirks->reasoning_echo = SL_ECHO_REASONING;
    quirks->reasoning_details_echo = true;
    quirks->idempotency_header = "Idempotency-Key";
    char *schema = malloc(LARGE + 16);
    assert_non_null(schema);
    char *bodies[2] = { NULL };
    world->server.answers = &ok_answer;
    world->server.n_answers = 1;
    for (int i = 0; i < 2; i++) {
        (void)snprintf(schema, LARGE + 16, "{\"a\":\"%*s\"}", i == 0 ? 1 : LARGE, "");
        test_sink_done(&world->sink);
        test_sink_init(&world->sink);
        start_with(
            world, &(struct sl_model_request){
                       .system = "S",
                       .messages = messages,
                       .n_messages = SL_COUNT(messages),
                       .tools = tools,
                       .n_tools = 2,
                       .temperature = &temperature,
                       .top_p = &top_p,
                       .max_tokens = 7,
                       .stop = stop,
                       .n_stop = 2,
                       .reasoning_effort = "low",
                       .output_schema_json = schema,
                   });
        assert_int_equal(n_jobs(world), i);
        memset(schema, 'x', LARGE);
        run(world);
        world->turn = sl_model_turn_free(world->turn);
        const char *request = sl_fake_http_request(&world->server);
        assert_non_null(strstr(request, "Idempotency-Key: run:1\r\n"));
        const char *body = strstr(request, "\r\n\r\n");
        assert_non_null(body);
        bodies[i] = strdup(body + 4);
    }
    const size_t n_head = (size_t)(strstr(bodies[0], "{\"a\":\"") - bodies[0]) + 6;
    assert_memory_equal(bodies[0], bodies[1], n_head);
    assert_string_equal(strrchr(bodies[0], ' ') + 1, strrchr(bodies[1], ' ') + 1);
    free(bodies[0]);
    free(bodies[1]);
    free(schema);
}

static void a_large_request_over_the_limit_fails_without_a_copy(void **state)
{
    struct world *world = *state;
    world->limits.model_request = 300000;
    set_limits(world);
    start_text(world, 'a', LARGE, 0);
    assert_int_equal(n_jobs(world), 0);
    run(world);
    expect(world, "fail PROVIDER_LIMIT\n");
    world->turn = sl_model_turn_free(world->turn);
    start_text(world, '\n', SMALL, 0); /* over it with its escapes only */
    assert_int_equal(n_jobs(world), 1);
    run(world);
    expect(world, "fail PROVIDER_LIMIT\n");
    assert_int_equal(world->server.n_requests, 0);
}

/* ---- Meanwhile (AL-7.4) ------------------------------------------------------------------------
 */

static void a_turn_may_go_while_its_request_is_built(void **state)
{
    struct world *world = *state;
    for (int is_begun = 0; is_begun < 2; is_begun++) {
        if (is_begun == 0) {
            close_gate(world);
        }
        start_text(world, 'a', LARGE, 0);
        world->turn = sl_model_turn_free(world->turn);
        assert_int_equal(sl_models_n_turns(world->models), 0);
        if (is_begun == 0) {
            open_gate(world);
        }
        for (int i = 0; i < 500 && n_jobs(world) > 0; i++) {
            sl_loop_uv_step(world->uv, 20);
        }
        assert_int_equal(n_jobs(world), 0);
        assert_int_equal(world->server.n_requests, 0);
        assert_int_equal(world->sink.n_chunks, 0);
    }
}

static void the_runs_time_passes_while_a_request_is_built(void **state)
{
    struct world *world = *state;
    close_gate(world);
    start_text(world, 'a', LARGE, 30);
    run(world);
    expect(world, "fail DEADLINE_EXCEEDED\n");
    assert_int_equal(world->sink.end.n_requests, 0);
    assert_int_equal(world->sink.end.request_bytes, 0);
    world->turn = sl_model_turn_free(world->turn);
    open_gate(world);
    assert_int_equal(world->server.n_requests, 0);
}

/* The loop is not closed before the job is back; tear_down sees to the rest. */
static void the_loop_waits_for_the_job(void **state)
{
    struct world *world = *state;
    start_text(world, 'a', LARGE, 0);
    world->turn = sl_model_turn_free(world->turn);
}

int main(void)
{
    (void)setenv("UV_THREADPOOL_SIZE", "4", 1);
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        CASE(only_a_large_request_goes_to_the_pool),
        CASE(the_pool_builds_the_same_request),
        CASE(a_large_request_over_the_limit_fails_without_a_copy),
        CASE(a_turn_may_go_while_its_request_is_built),
        CASE(the_runs_time_passes_while_a_request_is_built),
        CASE(the_loop_waits_for_the_job),
#undef CASE
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
