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
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_model_request);
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
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_model_request), n_before);
}

/* Everything that a request points to, in one block that goes as soon as the turn has started. */
struct owned {
    char model_text[8], schema[LARGE + 16], name[2][4], id[2][4], arguments[2][16], opaque[16],
        details[8], description[4], parameters[24], stop_text[8], effort[8];
    double temperature, top_p;
    const char *stop[1];
    struct sl_chat_tool tools[2];
    struct sl_chat_call calls[2];
    struct sl_chat_message messages[3];
};

static void fill(struct owned *own, size_t schema_bytes)
{
    *own = (struct owned){
        .model_text = "text",
        .name = { "f", "g" },
        .id = { "c1", "c2" },
        .arguments = { "{\"a\":1}", "{}" },
        .opaque = "{\"x\":2}",
        .details = "[1]",
        .description = "D",
        .parameters = "{\"type\":\"object\"}",
        .stop_text = "END",
        .effort = "low",
        .temperature = 0.5,
        .top_p = 0.25,
    };
    (void)snprintf(own->schema, sizeof(own->schema), "{\"a\":\"%*s\"}", (int)schema_bytes, "");
    own->stop[0] = own->stop_text;
    for (int i = 0; i < 2; i++) {
        own->tools[i] = (struct sl_chat_tool){ own->name[i], own->description, own->parameters };
        own->calls[i] = (struct sl_chat_call){ own->id[i], own->name[i], own->arguments[i],
                                               i == 0 ? own->opaque : NULL };
    }
    const struct sl_slice text = sl_slice_str(own->model_text);
    own->messages[0] = (struct sl_chat_message){ .role = SL_CHAT_USER, .content = text };
    own->messages[1] = (struct sl_chat_message){ .role = SL_CHAT_ASSISTANT,
                                                 .content = text,
                                                 .calls = own->calls,
                                                 .n_calls = 2,
                                                 .reasoning = text,
                                                 .opaque_json = own->details };
    own->messages[2] = (struct sl_chat_message){
        .role = SL_CHAT_TOOL, .content = text, .call_id = own->id[0], .tool_name = own->name[0]
    };
}

static void start_owned(struct world *world, size_t schema_bytes)
{
    struct owned *own = malloc(sizeof(*own));
    assert_non_null(own);
    fill(own, schema_bytes);
    test_sink_done(&world->sink);
    test_sink_init(&world->sink);
    start_with(
        world, &(struct sl_model_request){
                   .system = own->model_text,
                   .messages = own->messages,
                   .n_messages = SL_COUNT(own->messages),
                   .tools = own->tools,
                   .n_tools = 2,
                   .temperature = &own->temperature,
                   .top_p = &own->top_p,
                   .max_tokens = 7,
                   .stop = own->stop,
                   .n_stop = 1,
                   .reasoning_effort = own->effort,
                   .output_schema_json = own->schema,
               });
    memset(own, 'x', sizeof(*own));
    free(own);
}

/* All that a request can have, built both ways, is the same. */
static void the_pool_builds_the_same_request(void **state)
{
    struct world *world = *state;
    struct sl_quirks *quirks = &sl_models_entry(world->models, "openai")->quirks;
    quirks->reasoning_echo = SL_ECHO_REASONING;
    quirks->reasoning_details_echo = true;
    quirks->idempotency_header = "Idempotency-Key";
    char *bodies[2] = { NULL };
    world->server.answers = &ok_answer;
    world->server.n_answers = 1;
    for (int i = 0; i < 2; i++) {
        start_owned(world, i == 0 ? 1 : LARGE);
        assert_int_equal(n_jobs(world), i);
        run(world);
        world->turn = sl_model_turn_free(world->turn);
        const char *request = sl_fake_http_request(&world->server);
        assert_non_null(strstr(request, "Idempotency-Key: run:1\r\n"));
        const char *body = strstr(request, "\r\n\r\n");
        assert_non_null(body);
        bodies[i] = strdup(body + 4);
        assert_non_null(bodies[i]);
    }
    const size_t n_head = (size_t)(strstr(bodies[0], "{\"a\":\"") - bodies[0]) + 6;
    assert_memory_equal(bodies[0], bodies[1], n_head);
    assert_string_equal(strrchr(bodies[0], ' ') + 1, strrchr(bodies[1], ' ') + 1);
    free(bodies[0]);
    free(bodies[1]);
}

static void a_large_request_over_the_limit_fails_without_a_copy(void **state)
{
    struct world *world = *state;
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_model_request);
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
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_model_request), n_before + 2);
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
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread looks yet */
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
