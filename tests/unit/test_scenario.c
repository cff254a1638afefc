#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/model/provider.h"
#include "runtime/model/scenario.h"
#include "runtime/model/sse.h"
#include "tests/unit/test_model_sink.h"

static struct sl_scenario *parse(const char *yaml)
{
    struct sl_scenario *scenario = NULL;
    struct sl_error error = { .text = "" };
    if (sl_scenario_parse(sl_slice_str(yaml), "s.yaml", &scenario, &error) != SL_OK) {
        fail_msg("%s", error.text);
    }
    return scenario;
}

/* All pieces of a turn as the wire has them. */
static void render(
    const struct sl_scenario *scenario, const struct sl_scenario_facts *facts, struct sl_buf *wire)
{
    const struct sl_scenario_wire about = { .id = "chatcmpl-1", .model = "m", .created = 7 };
    struct sl_scenario_player *player = NULL;
    struct sl_scenario_piece piece = { .kind = SL_SCENARIO_TEXT };
    assert_int_equal(sl_scenario_play(scenario, facts, &player, NULL), SL_OK);
    while (piece.kind != SL_SCENARIO_END && piece.kind != SL_SCENARIO_HANG) {
        assert_int_equal(sl_scenario_next(player, &piece), SL_OK);
        assert_int_equal(sl_scenario_render(&piece, &about, wire), SL_OK);
    }
    sl_scenario_player_free(player);
}

struct reader {
    struct test_sink sink;
    struct sl_provider_stream *stream;
};

static bool emit(void *user_data, const struct sl_model_chunk *chunk)
{
    struct reader *reader = user_data;
    test_sink_on_chunk(&reader->sink, chunk);
    return !reader->sink.is_over;
}

static bool on_event(void *user_data, const struct sl_sse_event *event)
{
    struct reader *reader = user_data;
    return sl_provider_openai.on_event(reader->stream, event, NULL);
}

/* What our own provider reads of what was written. */
static void expect_read(const struct sl_buf *wire, const char *log)
{
    static const struct sl_quirks quirks;
    struct sl_limits limits;
    struct reader reader = { .stream = NULL };
    struct sl_sse sse;
    size_t used = 0;
    sl_limits_init(&limits);
    const struct sl_provider_settings settings = { .quirks = &quirks, .limits = &limits };
    test_sink_init(&reader.sink);
    sl_sse_init(&sse, limits.model_line, limits.model_event);
    assert_int_equal(
        sl_provider_openai.stream_new(&settings, emit, &reader, &reader.stream), SL_OK);
    (void)!sl_sse_feed(&sse, sl_buf_slice(wire), on_event, &reader, &used);
    assert_string_equal(test_sink_log(&reader.sink), log);
    sl_provider_openai.stream_free(reader.stream);
    sl_sse_done(&sse);
    test_sink_done(&reader.sink);
}

static void what_is_rendered_is_read_back(void **state)
{
    struct sl_buf wire;
    (void)state;
    struct sl_scenario *scenario = parse(
        "model: x\n"
        "turns:\n"
        "  - - thinking: \"hm \\\"\\n\"\n"
        "    - text: \"one two {{input}} {{iteration}} {{model}} {{last_tool_result}} {{x}} {{\"\n"
        "      pace: {unit: words, size: 2}\n"
        "    - text: \"\xC3\xA9t\xC3\xA9\"\n"
        "      pace: {unit: chars}\n"
        "    - tool_call: {name: f, arguments: {k: \"{{last_tool_result}}\"}, fragments: 5}\n"
        "    - tool_call: {name: g, arguments_text: \"{bad\"}\n"
        "    - usage: {input: 3, output: 4, cached: 1, reasoning: 2}\n");
    const struct sl_scenario_facts facts = {
        .input = sl_slice_str("IN"),
        .last_tool_result = sl_slice_str("a \"b\""),
        .model = "m",
        .iteration = 2,
    };
    sl_buf_init(&wire, 1 << 20);
    render(scenario, &facts, &wire);
    expect_read(
        &wire, "reasoning hm \"\n\n"
               "text one two IN 2 m a \"b\" {{x}} {{\xC3\xA9t\xC3\xA9\n"
               "usage 3 4 1 2\n"
               "call call_2_0 f {\"k\":\"a \\\"b\\\"\"}\n"
               "call call_2_1 g {bad\n"
               "finish TOOL_USE\n");
    assert_string_equal(sl_scenario_model(scenario), "x");
    sl_buf_done(&wire);
    sl_scenario_free(scenario);
}

static void errors_and_raw_lines_are_rendered(void **state)
{
    struct sl_buf wire;
    (void)state;
    struct sl_scenario *scenario =
        parse("turns:\n"
              "  - - raw: \": comment\"\n"
              "    - error: {in_band: true, code: rate_limit_exceeded, message: \"s\\\"low\"}\n"
              "    - text: never\n");
    const struct sl_scenario_facts facts = { .model = "m", .iteration = 1 };
    sl_buf_init(&wire, 1 << 20);
    render(scenario, &facts, &wire);
    assert_non_null(strstr(sl_buf_cstr(&wire), ": comment\n\ndata: {\"error\":"));
    expect_read(&wire, "fail PROVIDER_RATE_LIMITED retryable\n");
    sl_buf_done(&wire);
    sl_scenario_free(scenario);
}

static void usage_may_be_left_out(void **state)
{
    struct sl_buf wire;
    (void)state;
    struct sl_scenario *scenario =
        parse("turns:\n  - [{text: a}, {usage: none}, {finish: length}]\n");
    const struct sl_scenario_facts facts = { .model = "m", .iteration = 1 };
    sl_buf_init(&wire, 1 << 20);
    render(scenario, &facts, &wire);
    expect_read(&wire, "text a\nfinish MAX_TOKENS\n");
    sl_buf_done(&wire);
    sl_scenario_free(scenario);
}

static void turns_are_chosen_by_match_and_iteration(void **state)
{
    static const struct {
        const char *input;
        uint32_t iteration;
        const char *text;
    } cases[] = {
        { "x", 1, "one" },      { "x", 2, "two" },      { "x", 9, "two" },
        { "a cat", 1, "meow" }, { "a cat", 2, "purr" }, { "cat dog", 5, "woof" },
    };
    (void)state;
    struct sl_scenario *scenario = parse("turns:\n"
                                         "  - - text: one\n"
                                         "  - {match: cat, steps: [{text: meow}]}\n"
                                         "  - steps: [{text: two}]\n"
                                         "  - {match: cat, steps: [{text: purr}]}\n"
                                         "  - {match: dog, steps: [{text: woof}]}\n");
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        const struct sl_scenario_facts facts = {
            .input = sl_slice_str(cases[i].input),
            .model = "m",
            .iteration = cases[i].iteration,
        };
        struct sl_scenario_player *player = NULL;
        struct sl_scenario_piece piece;
        assert_int_equal(sl_scenario_play(scenario, &facts, &player, NULL), SL_OK);
        assert_int_equal(sl_scenario_next(player, &piece), SL_OK);
        assert_true(sl_slice_equals(piece.text, cases[i].text));
        sl_scenario_player_free(player);
    }
    sl_scenario_free(scenario);
    scenario = parse("turns:\n  - {match: cat, steps: []}\n");
    const struct sl_scenario_facts facts = { .model = "m", .iteration = 1 };
    struct sl_scenario_player *player = NULL;
    assert_int_equal(sl_scenario_play(scenario, &facts, &player, NULL), SL_NOT_FOUND);
    sl_scenario_free(scenario);
}

static void templates_are_bounded(void **state)
{
    (void)state;
    char *input = malloc(100000);
    assert_non_null(input);
    memset(input, 'a', 100000);
    const struct sl_scenario_facts facts = {
        .input = sl_slice_of(input, 100000),
        .model = "m",
        .iteration = 1,
    };
    struct sl_scenario *scenario = parse("turns:\n  - - text: \"{{input}}{{input}}\"\n");
    struct sl_scenario_player *player = NULL;
    struct sl_scenario_piece piece;
    assert_int_equal(sl_scenario_play(scenario, &facts, &player, NULL), SL_OK);
    assert_int_equal(sl_scenario_next(player, &piece), SL_OK);
    assert_int_equal(piece.text.size, 2 * SL_SCENARIO_TEMPLATE_BYTES);
    sl_scenario_player_free(player);
    sl_scenario_free(scenario);
    struct sl_buf yaml; /* more than the player holds */
    sl_buf_init(&yaml, 1 << 20);
    assert_int_equal(sl_buf_add_str(&yaml, "turns:\n  - - text: \""), SL_OK);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(sl_buf_add_str(&yaml, "{{input}}"), SL_OK);
    }
    assert_int_equal(sl_buf_add_str(&yaml, "\"\n"), SL_OK);
    scenario = parse(sl_buf_cstr(&yaml));
    assert_int_equal(sl_scenario_play(scenario, &facts, &player, NULL), SL_OK);
    assert_int_equal(sl_scenario_next(player, &piece), SL_OUT_OF_RANGE);
    sl_scenario_player_free(player);
    sl_scenario_free(scenario);
    sl_buf_done(&yaml);
    free(input);
}

static void mistakes_are_named(void **state)
{
    static const char *const cases[] = {
        "",
        "[]",
        "turns: []",
        "turns: 5",
        "turns: [5]",
        "turns: [{}]",
        "turns: [[5]]",
        "turns: [[{}]]",
        "turns: [[{txt: a}]]",
        "turns: [[{text: a, finish: stop}]]",
        "turns: [[{text: a, pace: {unit: lines}}]]",
        "turns: [[{text: a, pace: {size: 0}}]]",
        "turns: [[{finish: stop, pace: {}}]]",
        "turns: [[{tool_call: {}}]]",
        "turns: [[{tool_call: {name: f, arguments: 5}}]]",
        "turns: [[{tool_call: {name: f, arguments: {}, arguments_text: x}}]]",
        "turns: [[{tool_call: {name: f, fragments: 0}}]]",
        "turns: [[{usage: much}]]",
        "turns: [[{usage: {input: -1}}]]",
        "turns: [[{error: {}}]]",
        "turns: [[{error: {status: 200}}]]",
        "turns: [[{error: {status: 500, in_band: true}}]]",
        "turns: [[{hang: false}]]",
        "turns: [[{delay_ms: x}]]",
        "turns: [[{text: a}]]\nmore: 1",
        "turns: [[{text: a}]]\n---\nturns: [[{text: a}]]",
        "turns: [",
    };
    (void)state;
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        struct sl_scenario *scenario = NULL;
        struct sl_error error = { .text = "" };
        if (sl_scenario_parse(sl_slice_str(cases[i]), "s.yaml", &scenario, &error) !=
            SL_INVALID_ARGUMENT) {
            fail_msg("taken: %s", cases[i]);
        }
        assert_non_null(strstr(error.text, "s.yaml"));
    }
}

static void a_request_shows_its_facts(void **state)
{
    static const char body[] =
        "{\"model\":\"m\",\"stream\":true,\"stream_options\":{\"include_usage\":true},\"messages\":"
        "["
        "{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"old\"},"
        "{\"role\":\"assistant\",\"content\":\"A\"},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"new\"}]},"
        "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"c\",\"content\":\"R\"}]}";
    struct sl_limits limits;
    struct sl_scenario_request *request = NULL;
    (void)state;
    sl_limits_init(&limits);
    assert_int_equal(sl_scenario_request_parse(sl_slice_str(body), &limits, &request, NULL), SL_OK);
    const struct sl_scenario_facts facts = sl_scenario_request_facts(request);
    assert_true(sl_slice_equals(facts.input, "new"));
    assert_true(sl_slice_equals(facts.last_tool_result, "R"));
    assert_string_equal(facts.model, "m");
    assert_int_equal(facts.iteration, 2);
    assert_int_equal(facts.request_bytes, sizeof(body) - 1);
    assert_true(sl_scenario_request_streams(request));
    assert_true(sl_scenario_request_wants_usage(request));
    sl_scenario_request_free(request);
    static const char *const bad[] = {
        "", "{", "[]", "{}", "{\"model\":\"m\"}", "{\"model\":1,\"messages\":[]}"
    };
    for (size_t i = 0; i < SL_COUNT(bad); i++) {
        assert_int_equal(
            sl_scenario_request_parse(sl_slice_str(bad[i]), &limits, &request, NULL),
            SL_INVALID_ARGUMENT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_rendered_is_read_back),
        cmocka_unit_test(errors_and_raw_lines_are_rendered),
        cmocka_unit_test(usage_may_be_left_out),
        cmocka_unit_test(turns_are_chosen_by_match_and_iteration),
        cmocka_unit_test(templates_are_bounded),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(a_request_shows_its_facts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
