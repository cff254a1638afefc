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

static int set_up(void **state)
{
    static struct world world;
    struct sl_loop *loops[] = { &world.fake.base };
    world = (struct world){ .turn = NULL };
    sl_fake_loop_init(&world.fake);
    sl_limits_init(&world.limits);
    test_sink_init(&world.sink);
    const struct sl_models_options options = {
        .loops = loops,
        .n_loops = 1,
        .limits = &world.limits,
    };
    assert_int_equal(sl_models_new(&options, &world.models, NULL), SL_OK);
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

static void load_refuses_what_it_does_not_know(void **state)
{
    static const char *const bad[] = {
        "{\"event\": 1}",  "bytes=0",      "bytes=65537",         "events=-1",
        "rate=nan",        "hello",        "{\"events\":\"5\"}",  "{",
        "{\"bytes\":[1]}", "code=NOTHING", "stamp=true bytes=47", "refuse=1",
    };
    struct world *world = *state;
    struct sl_error error;
    for (size_t i = 0; i < SL_COUNT(bad); i++) {
        if (sl_models_check_input(world->models, "load", sl_slice_str(bad[i]), &error) !=
            SL_INVALID_ARGUMENT) {
            fail_msg("taken: %s", bad[i]);
        }
    }
    assert_int_equal(
        sl_models_check_input(world->models, "echo", sl_slice_str("{"), &error), SL_OK);
    assert_int_equal(sl_model_load_check(sl_slice_str(""), &error), SL_OK);
    assert_int_equal(sl_model_load_check(sl_slice_str("{\"rate\": 2.5}"), &error), SL_OK);
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
    assert_int_equal(world->sink.end.n_requests, 3);
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
        CASE(load_refuses_what_it_does_not_know),
        CASE(load_may_be_freed_inside_a_chunk),
        CASE(echo_gives_the_input_back_by_words),
        CASE(echo_of_nothing_is_nothing),
        CASE(echo_repairs_what_is_not_text),
        CASE(scripted_plays_texts_calls_and_usage),
        CASE(scripted_repeats_its_last_turn),
        CASE(scripted_keeps_the_pace),
        CASE(scripted_tries_again_after_an_error),
        CASE(scripted_does_not_try_again_once_it_has_spoken),
        CASE(scripted_hands_a_long_wait_up),
        CASE(scripted_hangs_until_the_time_is_over),
        CASE(scripted_cut_is_truncated),
        CASE(scripted_may_be_freed_at_any_chunk),
#undef CASE
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
