/* The models that need no network: load, echo, scripted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/model/load.h"
#include "tests/fake/fake_loop.h"
#include "tests/unit/test_model_sink.h"

struct world {
    struct sl_fake_loop fake;
    struct sl_limits limits;
    struct sl_models *models;
    struct sl_model_turn *turn;
    struct test_sink sink;
};

static void make_models(struct world *world)
{
    struct sl_loop *loops[] = { &world->fake.base };
    const struct sl_models_options options = {
        .loops = loops,
        .n_loops = 1,
        .limits = &world->limits,
    };
    assert_int_equal(sl_models_new(&options, &world->models, NULL), SL_OK);
}

static int set_up(void **state)
{
    static struct world world;
    world = (struct world){ .turn = NULL };
    sl_fake_loop_init(&world.fake);
    sl_limits_init(&world.limits);
    test_sink_init(&world.sink);
    make_models(&world);
    *state = &world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    sl_model_turn_free(world->turn);
    assert_int_equal(sl_models_n_turns(world->models), 0);
    test_sink_done(&world->sink);
    sl_models_free(world->models);
    sl_fake_loop_done(&world->fake);
    return 0;
}

static void
start_iteration(struct world *world, const char *model, const char *input, uint32_t iteration)
{
    const char *provider = NULL;
    const char *name = NULL;
    const struct sl_model_sink sink = test_sink_of(&world->sink);
    struct sl_error error = { .text = "" };
    if (sl_models_resolve(world->models, model, NULL, &provider, &name, &error) != SL_OK) {
        fail_msg("%s", error.text);
    }
    const struct sl_model_request request = {
        .provider = provider,
        .model = name,
        .input = input,
        .iteration = iteration,
        .remaining_ms = 60000,
    };
    assert_int_equal(
        sl_model_turn_start(
            world->models, &world->fake.base, &request, &sink, &world->turn, &error),
        SL_OK);
    assert_int_equal(world->sink.n_chunks, 0);
}

static void start(struct world *world, const char *model, const char *input)
{
    start_iteration(world, model, input, 1);
}

static void add_scenario(struct world *world, const char *yaml)
{
    struct sl_error error = { .text = "" };
    if (sl_models_add_scenario(world->models, "s", sl_slice_str(yaml), &error) != SL_OK) {
        fail_msg("%s", error.text);
    }
}

/* ---- load -------------------------------------------------------------------------------------
 */

static void load_gives_exactly_what_was_ordered(void **state)
{
    struct world *world = *state;
    start(world, "load:load", "{\"events\": 1000, \"bytes\": 7}");
    assert_true(sl_fake_loop_run(&world->fake));
    assert_int_equal(world->sink.n_texts, 1000);
    assert_int_equal(world->sink.text.size, 7000);
    assert_true(world->sink.is_over);
    assert_int_equal(world->sink.end.kind, SL_CHUNK_FINISH);
    assert_non_null(strstr(test_sink_log(&world->sink), "usage 0 1000 0 0\nfinish END_TURN\n"));
}

static void load_takes_words_too(void **state)
{
    struct world *world = *state;
    start(world, "load:load", "events=3 bytes=5");
    assert_true(sl_fake_loop_run(&world->fake));
    assert_string_equal(
        test_sink_log(&world->sink), "text the qthe qthe q\nusage 0 3 0 0\nfinish END_TURN\n");
}

static void load_stops_while_the_reader_is_full_and_goes_on(void **state)
{
    struct world *world = *state;
    world->sink.full_after = 10;
    start(world, "load:load", "events=1000 bytes=1");
    assert_true(sl_fake_loop_run(&world->fake));
    assert_int_equal(world->sink.n_texts, 10);
    world->sink.full_after = 20;
    sl_model_turn_resume(world->turn);
    assert_int_equal(world->sink.n_texts, 20);
    world->sink.full_after = 0;
    sl_model_turn_resume(world->turn);
    assert_true(sl_fake_loop_run(&world->fake));
    assert_int_equal(world->sink.n_texts, 1000);
}

static void load_gives_the_loop_back_between_its_bursts(void **state)
{
    struct world *world = *state;
    start(world, "load:load", "events=100000 bytes=1");
    sl_fake_loop_turn(&world->fake);
    assert_in_range(world->sink.n_texts, 1, 2000); /* about 100 microseconds' worth */
}

static void load_keeps_its_pace_and_never_forgives_lag(void **state)
{
    struct world *world = *state;
    start(world, "load:load", "events=100 bytes=1 rate=50");
    assert_true(sl_fake_loop_run(&world->fake));
    assert_int_equal(world->sink.n_texts, 1);
    sl_fake_loop_advance_ms(&world->fake, 20);
    assert_int_equal(world->sink.n_texts, 2);
    sl_fake_loop_advance_ms(&world->fake, 180);
    assert_int_equal(world->sink.n_texts, 11);
    world->sink.full_after = 11; /* the reader stands still for a second */
    sl_fake_loop_advance_ms(&world->fake, 1000);
    world->sink.full_after = 0;
    sl_model_turn_resume(world->turn);
    assert_true(sl_fake_loop_run(&world->fake));
    assert_int_equal(world->sink.n_texts, 61);
}

static void load_waits_before_the_first(void **state)
{
    struct world *world = *state;
    start(world, "load:load", "events=1 first_ms=30");
    sl_fake_loop_advance_ms(&world->fake, 29);
    assert_int_equal(world->sink.n_texts, 0);
    sl_model_turn_resume(world->turn); /* comes too early, and changes nothing */
    assert_int_equal(world->sink.n_texts, 0);
    sl_fake_loop_advance_ms(&world->fake, 1);
    assert_int_equal(world->sink.n_texts, 1);
}

static void load_hangs_after_one_delta(void **state)
{
    struct world *world = *state;
    start(world, "load:load", "{\"hang\": true}");
    sl_fake_loop_advance_ms(&world->fake, 100000);
    assert_int_equal(world->sink.n_chunks, 1);
    assert_false(world->sink.is_over);
}

static void load_fails_as_ordered(void **state)
{
    struct world *world = *state;
    start(world, "load:load", "events=9 bytes=1 fail_after=2 code=PROVIDER_RATE_LIMITED");
    assert_true(sl_fake_loop_run(&world->fake));
    assert_string_equal(
        test_sink_log(&world->sink),
        "text tt\nusage 0 2 0 0\nfail PROVIDER_RATE_LIMITED retryable\n");
}

static void load_stamps_and_seeds(void **state)
{
    struct world *world = *state;
    start(world, "load:load", "{\"events\":2,\"bytes\":64,\"seed\":7,\"stamp\":true}");
    assert_true(sl_fake_loop_run(&world->fake));
    assert_int_equal(world->sink.text.size, 128);
    assert_memory_equal(world->sink.text.data, "0 ", 2);
    assert_memory_equal(world->sink.text.data + 64, "1 ", 2);
    assert_memory_not_equal(world->sink.text.data + 40, world->sink.text.data + 104, 24);
}

/* The same for the same seed; another index or another size is another text. */
static void load_has_the_same_text_for_the_same_seed(void **state)
{
    struct world *world = *state;
    static const char *const inputs[] = { "events=3 bytes=40 seed=7 thinking=2",
                                          "{\"seed\":7,\"events\":3,\"bytes\":40,\"thinking\":2}",
                                          "events=3 bytes=40 seed=8 thinking=2" };
    char logs[SL_COUNT(inputs)][1024];
    for (size_t i = 0; i < SL_COUNT(inputs); i++) {
        start(world, "load:load", inputs[i]);
        assert_true(sl_fake_loop_run(&world->fake));
        (void)snprintf(logs[i], sizeof(logs[i]), "%s", test_sink_log(&world->sink));
        assert_memory_not_equal(world->sink.text.data, world->sink.text.data + 40, 40);
        world->turn = sl_model_turn_free(world->turn);
        test_sink_done(&world->sink);
        test_sink_init(&world->sink);
    }
    assert_string_equal(logs[0], logs[1]);
    assert_string_not_equal(logs[0], logs[2]);
}

static void load_gives_bursts_at_the_mean_rate(void **state)
{
    struct world *world = *state;
    start(world, "load:load", "events=100 bytes=1 rate=50 burst=10");
    assert_true(sl_fake_loop_run(&world->fake));
    assert_int_equal(world->sink.n_texts, 10);
    sl_fake_loop_advance_ms(&world->fake, 199);
    assert_int_equal(world->sink.n_texts, 10);
    sl_fake_loop_advance_ms(&world->fake, 1);
    assert_int_equal(world->sink.n_texts, 20);
    sl_fake_loop_advance_ms(&world->fake, 1600);
    assert_int_equal(world->sink.n_texts, 100);
    assert_true(world->sink.is_over);
}

/* When each delta came, with millisecond steps. */
static void take_times(struct world *world, const char *input, uint64_t times[], size_t n_times)
{
    test_sink_done(&world->sink);
    test_sink_init(&world->sink);
    start(world, "load:load", input);
    assert_true(sl_fake_loop_run(&world->fake));
    size_t n_seen = 0;
    for (uint64_t ms = 0; n_seen < n_times; ms++) {
        assert_true(ms < 100000);
        for (; n_seen < world->sink.n_texts; n_seen++) {
            times[n_seen] = ms;
        }
        sl_fake_loop_advance_ms(&world->fake, 1);
    }
    assert_int_equal(n_seen, n_times);
    world->turn = sl_model_turn_free(world->turn);
}

static void load_jitters_within_its_bound_and_in_order(void **state)
{
    enum { N = 50 };
    struct world *world = *state;
    uint64_t times[N];
    uint64_t again[N];
    take_times(world, "events=50 bytes=1 rate=20 jitter_ms=30 seed=3", times, N);
    size_t n_late = 0;
    for (size_t k = 0; k < N; k++) {
        assert_in_range(times[k], k * 50, k * 50 + 31);
        n_late += times[k] > k * 50 + 10;
    }
    assert_in_range(n_late, 10, 45); /* about two thirds */
    take_times(world, "events=50 bytes=1 rate=20 jitter_ms=30 seed=3", again, N);
    assert_memory_equal(times, again, sizeof(times));
    take_times(world, "events=50 bytes=1 rate=20 jitter_ms=30 seed=4", again, N);
    assert_memory_not_equal(times, again, sizeof(times));
    /* Larger than the distance: nothing overtakes, and the last ones still come in time. */
    take_times(world, "events=50 bytes=1 rate=1000 jitter_ms=200", times, N);
    assert_in_range(times[N - 1], 49, 250);
    /* A group stays together. */
    take_times(world, "events=50 bytes=1 rate=100 jitter_ms=20 burst=5", times, N);
    for (size_t k = 0; k < N; k++) {
        assert_int_equal(times[k], times[k - k % 5]);
    }
}

static void load_thinks_before_it_speaks(void **state)
{
    struct world *world = *state;
    world->sink.joins = false;
    start(world, "load:load", "events=1 bytes=3 thinking=2 rate=1 first_ms=5");
    sl_fake_loop_advance_ms(&world->fake, 4);
    assert_int_equal(world->sink.n_chunks, 0);
    sl_fake_loop_advance_ms(&world->fake, 1);
    assert_string_equal(
        test_sink_log(&world->sink),
        "reasoning the\nreasoning the\ntext the\nusage 0 3 0 2\nfinish END_TURN\n");
}

static void load_thinks_no_faster_than_it_is_read(void **state)
{
    struct world *world = *state;
    start(world, "load:load", "events=1 bytes=1 thinking=100000");
    sl_fake_loop_turn(&world->fake);
    assert_in_range(world->sink.n_chunks, 1, 2000);
    assert_true(sl_fake_loop_run(&world->fake));
    assert_int_equal(world->sink.n_chunks, 100001 + 2);
}

static void load_asks_for_tools_in_an_answer_before_the_text(void **state)
{
    struct world *world = *state;
    start(world, "load:load", "events=2 bytes=1 tools=3 thinking=1 first_ms=10 hang=true");
    assert_true(sl_fake_loop_run(&world->fake)); /* not held up by first_ms */
    assert_string_equal(
        test_sink_log(&world->sink), "call load_0 current_time {\"format\":\"iso8601\"}\n"
                                     "call load_1 current_time {\"format\":\"unix\"}\n"
                                     "call load_2 current_time {\"format\":\"iso8601\"}\n"
                                     "usage 0 3 0 0\nfinish TOOL_USE\n");
    world->turn = sl_model_turn_free(world->turn);
    test_sink_done(&world->sink);
    test_sink_init(&world->sink);
    start_iteration(world, "load:load", "events=2 bytes=1 tools=3 thinking=1 first_ms=10", 2);
    sl_fake_loop_advance_ms(&world->fake, 9);
    assert_int_equal(world->sink.n_chunks, 0);
    sl_fake_loop_advance_ms(&world->fake, 1);
    assert_string_equal(
        test_sink_log(&world->sink), "reasoning t\ntext tt\nusage 0 3 0 1\nfinish END_TURN\n");
}

static void load_waits_for_ever_for_what_is_never_due(void **state)
{
    struct world *world = *state;
    start(world, "load:load", "events=2 bytes=1 rate=1e-300");
    sl_fake_loop_advance_ms(&world->fake, 100000000);
    assert_int_equal(world->sink.n_texts, 1);
}

static enum sl_status check_load(struct world *world, const char *input, const char **ret_reason)
{
    struct sl_error error = { .text = "" };
    const enum sl_status status =
        sl_models_check_input(world->models, "load", sl_slice_str(input), ret_reason, &error);
    assert_true(status == SL_OK || strncmp(error.text, "load: ", 6) == 0);
    return status;
}

static void load_refuses_what_it_does_not_know(void **state)
{
    static const char *const bad[] = {
        "{\"event\": 1}",
        "events=-1",
        "events=1000000000001",
        "{\"events\":\"5\"}",
        "bytes=0",
        "bytes=65537",
        "{\"bytes\":[1]}",
        "rate=nan",
        "rate=-1",
        "rate=1000000001",
        "first_ms=86400001",
        "jitter_ms=5",
        "rate=0 jitter_ms=5",
        "rate=1 jitter_ms=86400001",
        "burst=2",
        "rate=1 burst=0",
        "rate=1 burst=1000001",
        "thinking=1000001",
        "thinking=true",
        "tools=65",
        "tools=x",
        "hang=1",
        "hang=true fail_after=1",
        "fail_after=-1",
        "code=PROVIDER_TIMEOUT",
        "fail_after=1 code=NOTHING",
        "seed=18446744073709551616",
        "stamp=yes",
        "stamp=true bytes=47",
        "refuse=1",
        "refuse",
        "refuse=server_full",
        "{\"refuse\": 8}",
        "{\"refuse\": true}",
        "events=1 events=2",
        "hello",
        "{",
    };
    static const char *const good[] = {
        "",
        "{\"rate\": 2.5}",
        "hang",
        "rate=1000000000 burst=1000000 jitter_ms=86400000",
        "thinking=1000000 tools=64 first_ms=86400000",
        "seed=18446744073709551615,stamp,bytes=48",
        "fail_after=0 code=PROVIDER_TIMEOUT",
    };
    struct world *world = *state;
    struct sl_error error;
    const char *reason = NULL;
    for (size_t i = 0; i < SL_COUNT(bad); i++) {
        if (check_load(world, bad[i], &reason) != SL_INVALID_ARGUMENT) {
            fail_msg("taken: %s", bad[i]);
        }
        assert_string_equal(reason, "INVALID_REQUEST");
    }
    for (size_t i = 0; i < SL_COUNT(good); i++) {
        if (check_load(world, good[i], &reason) != SL_OK) {
            fail_msg("refused: %s", good[i]);
        }
    }
    assert_int_equal(
        sl_models_check_input(world->models, "echo", sl_slice_str("{"), &reason, &error), SL_OK);
}

/* AL-5.3 */
static void load_refuses_a_start_as_ordered(void **state)
{
    static const struct {
        const char *reason;
        enum sl_status status;
    } rows[] = {
        { "UNAUTHENTICATED", SL_UNAUTHENTICATED },    { "FORBIDDEN", SL_PERMISSION_DENIED },
        { "AGENT_NOT_FOUND", SL_NOT_FOUND },          { "INVALID_REQUEST", SL_INVALID_ARGUMENT },
        { "REQUEST_ID_REUSED", SL_ALREADY_EXISTS },   { "SESSION_BUSY", SL_ABORTED },
        { "AGENT_DISABLED", SL_FAILED_PRECONDITION }, { "TENANT_LIMIT", SL_RESOURCE_EXHAUSTED },
        { "SERVER_FULL", SL_RESOURCE_EXHAUSTED },     { "DRAINING", SL_UNAVAILABLE },
    };
    struct world *world = *state;
    for (size_t i = 0; i < SL_COUNT(rows); i++) {
        char input[64];
        const char *reason = NULL;
        (void)snprintf(input, sizeof(input), "refuse=%s", rows[i].reason);
        assert_int_equal(check_load(world, input, &reason), rows[i].status);
        assert_string_equal(reason, rows[i].reason);
        (void)snprintf(input, sizeof(input), "{\"refuse\": \"%s\"}", rows[i].reason);
        assert_int_equal(check_load(world, input, &reason), rows[i].status);
    }
}

static void load_may_be_freed_inside_a_chunk(void **state)
{
    struct world *world = *state;
    world->sink.turn = &world->turn;
    world->sink.free_after = 3;
    start(world, "load:load", "events=100");
    assert_true(sl_fake_loop_run(&world->fake));
    assert_int_equal(world->sink.n_chunks, 3);
    assert_null(world->turn);
    assert_int_equal(sl_models_n_turns(world->models), 0);
}

/* ---- echo -------------------------------------------------------------------------------------
 */

static void echo_gives_the_input_back_by_words(void **state)
{
    struct world *world = *state;
    world->sink.joins = false;
    start(world, "echo:echo", "Hello  big\nworld ");
    assert_true(sl_fake_loop_run(&world->fake));
    assert_string_equal(
        test_sink_log(&world->sink),
        "text Hello  \ntext big\n\ntext world \nusage 3 3 0 0\nfinish END_TURN\n");
}

static void echo_of_nothing_is_nothing(void **state)
{
    struct world *world = *state;
    start(world, "echo:echo", "");
    assert_true(sl_fake_loop_run(&world->fake));
    assert_string_equal(test_sink_log(&world->sink), "usage 0 0 0 0\nfinish END_TURN\n");
}

static void echo_repairs_what_is_not_text(void **state)
{
    struct world *world = *state;
    start(
        world, "echo:echo",
        "a\xff"
        "b");
    assert_true(sl_fake_loop_run(&world->fake));
    assert_string_equal(
        test_sink_log(&world->sink), "text a\xEF\xBF\xBD"
                                     "b\nusage 1 1 0 0\nfinish END_TURN\n");
}

/* ---- scripted ---------------------------------------------------------------------------------
 */

static void scripted_plays_texts_calls_and_usage(void **state)
{
    struct world *world = *state;
    add_scenario(
        world, "turns:\n"
               "  - steps:\n"
               "      - thinking: hmm\n"
               "      - text: \"You said {{input}}.\"\n"
               "      - tool_call: {name: add, arguments: {a: 1, b: \"{{input}}\"}, fragments: 3}\n"
               "      - tool_call: {name: now, id: x}\n"
               "      - usage: {input: 10, output: 5, cached: 2, reasoning: 1}\n"
               "      - finish: tool_calls\n"
               "  - - text: done\n");
    start(world, "scripted:s", "a \"b\"");
    assert_true(sl_fake_loop_run(&world->fake));
    assert_string_equal(
        test_sink_log(&world->sink), "reasoning hmm\n"
                                     "text You said a \"b\".\n"
                                     "call call_1_0 add {\"a\":1,\"b\":\"a \\\"b\\\"\"}\n"
                                     "call x now {}\n"
                                     "usage 10 5 2 1\n"
                                     "finish TOOL_USE\n");
}

static void scripted_repeats_its_last_turn(void **state)
{
    struct world *world = *state;
    add_scenario(world, "turns:\n  - - text: one\n  - - text: two\n  - match: x\n    steps: []\n");
    start_iteration(world, "scripted:s", "hello", 7);
    assert_true(sl_fake_loop_run(&world->fake));
    assert_string_equal(test_sink_log(&world->sink), "text two\nusage 0 1 0 0\nfinish END_TURN\n");
}

static void scripted_keeps_the_pace(void **state)
{
    struct world *world = *state;
    add_scenario(
        world, "turns:\n"
               "  - - delay_ms: 100\n"
               "    - text: \"one two three\"\n"
               "      pace: {unit: words, size: 1, delay_ms: 40}\n");
    start(world, "scripted:s", "");
    sl_fake_loop_advance_ms(&world->fake, 139);
    assert_int_equal(world->sink.n_texts, 0);
    sl_fake_loop_advance_ms(&world->fake, 1);
    assert_int_equal(world->sink.n_texts, 1);
    sl_fake_loop_advance_ms(&world->fake, 40);
    assert_int_equal(world->sink.n_texts, 2);
    sl_fake_loop_advance_ms(&world->fake, 40);
    assert_int_equal(world->sink.n_texts, 3);
    assert_true(world->sink.is_over);
}

static void scripted_tries_again_after_an_error(void **state)
{
    struct world *world = *state;
    add_scenario(
        world, "turns:\n"
               "  - - error: {status: 503, message: busy, attempts: 2}\n"
               "    - text: fine\n");
    start(world, "scripted:s", "");
    sl_fake_loop_advance_ms(&world->fake, 5000);
    assert_string_equal(test_sink_log(&world->sink), "text fine\nusage 0 1 0 0\nfinish END_TURN\n");
    assert_int_equal(world->sink.n_retry_waits, 2);
    assert_int_equal(world->sink.retried, SL_FAULT_PROVIDER_OVERLOADED);
    assert_int_equal(world->sink.end.n_requests, 3);
}

/* T8 */
static void scripted_cuts_arguments_that_are_too_long(void **state)
{
    struct world *world = *state;
    sl_models_free(world->models);
    world->limits.tool_arguments = 8;
    make_models(world);
    add_scenario(
        world, "turns:\n"
               "  - - tool_call: {name: f, id: a, arguments: {k: \"0123456789\"}}\n"
               "    - tool_call: {name: f, id: b, arguments: {}}\n");
    start(world, "scripted:s", "");
    sl_fake_loop_advance_ms(&world->fake, 5000);
    assert_non_null(strstr(test_sink_log(&world->sink), "call a f {\"k\":\"01... OVER\n"));
    assert_non_null(strstr(test_sink_log(&world->sink), "call b f {}\n"));
    assert_non_null(strstr(test_sink_log(&world->sink), "finish TOOL_USE\n"));
}

static void scripted_does_not_try_again_once_it_has_spoken(void **state)
{
    struct world *world = *state;
    add_scenario(
        world, "turns:\n  - - text: half\n    - error: {in_band: true, code: server_error}\n");
    start(world, "scripted:s", "");
    sl_fake_loop_advance_ms(&world->fake, 5000);
    assert_string_equal(
        test_sink_log(&world->sink), "text half\nfail PROVIDER_OVERLOADED retryable\n");
}

static void scripted_hands_a_long_wait_up(void **state)
{
    struct world *world = *state;
    add_scenario(world, "turns:\n  - - error: {status: 503, retry_after: 120}\n");
    start(world, "scripted:s", "");
    assert_true(sl_fake_loop_run(&world->fake));
    assert_string_equal(test_sink_log(&world->sink), "fail PROVIDER_RATE_LIMITED retryable\n");
    assert_int_equal(world->sink.end.retry_after_ms, 120000);
}

static void scripted_hangs_until_the_time_is_over(void **state)
{
    struct world *world = *state;
    add_scenario(world, "turns:\n  - - text: a\n    - hang: true\n");
    start(world, "scripted:s", "");
    sl_fake_loop_advance_ms(&world->fake, 59999);
    assert_false(world->sink.is_over);
    sl_fake_loop_advance_ms(&world->fake, 1);
    assert_string_equal(test_sink_log(&world->sink), "text a\nfail DEADLINE_EXCEEDED\n");
}

static void scripted_cut_is_truncated(void **state)
{
    struct world *world = *state;
    add_scenario(world, "turns:\n  - - text: a\n    - cut: true\n");
    start(world, "scripted:s", "");
    assert_true(sl_fake_loop_run(&world->fake));
    assert_string_equal(test_sink_log(&world->sink), "text a\nfail PROVIDER_TRUNCATED retryable\n");
}

static void scripted_may_be_freed_at_any_chunk(void **state)
{
    struct world *world = *state;
    add_scenario(
        world,
        "turns:\n  - - text: a b c\n      pace: {unit: words}\n    - tool_call: {name: f}\n");
    for (size_t i = 1; i <= 7; i++) {
        test_sink_done(&world->sink);
        test_sink_init(&world->sink);
        world->sink.turn = &world->turn;
        world->sink.free_after = i;
        start(world, "scripted:s", "");
        assert_true(sl_fake_loop_run(&world->fake));
        assert_null(world->turn);
        assert_int_equal(world->sink.n_chunks, i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        CASE(load_gives_exactly_what_was_ordered),
        CASE(load_takes_words_too),
        CASE(load_stops_while_the_reader_is_full_and_goes_on),
        CASE(load_gives_the_loop_back_between_its_bursts),
        CASE(load_keeps_its_pace_and_never_forgives_lag),
        CASE(load_waits_before_the_first),
        CASE(load_hangs_after_one_delta),
        CASE(load_fails_as_ordered),
        CASE(load_stamps_and_seeds),
        CASE(load_has_the_same_text_for_the_same_seed),
        CASE(load_gives_bursts_at_the_mean_rate),
        CASE(load_jitters_within_its_bound_and_in_order),
        CASE(load_thinks_before_it_speaks),
        CASE(load_thinks_no_faster_than_it_is_read),
        CASE(load_asks_for_tools_in_an_answer_before_the_text),
        CASE(load_waits_for_ever_for_what_is_never_due),
        CASE(load_refuses_what_it_does_not_know),
        CASE(load_refuses_a_start_as_ordered),
        CASE(load_may_be_freed_inside_a_chunk),
        CASE(echo_gives_the_input_back_by_words),
        CASE(echo_of_nothing_is_nothing),
        CASE(echo_repairs_what_is_not_text),
        CASE(scripted_plays_texts_calls_and_usage),
        CASE(scripted_repeats_its_last_turn),
        CASE(scripted_keeps_the_pace),
        CASE(scripted_tries_again_after_an_error),
        CASE(scripted_cuts_arguments_that_are_too_long),
        CASE(scripted_does_not_try_again_once_it_has_spoken),
        CASE(scripted_hands_a_long_wait_up),
        CASE(scripted_hangs_until_the_time_is_over),
        CASE(scripted_cut_is_truncated),
        CASE(scripted_may_be_freed_at_any_chunk),
#undef CASE
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
