/* Kind openai_chat without a network: streams in, chunks out; requests out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/base/metrics.h"
#include "runtime/base/random.h"
#include "runtime/model/delta_scan.h"
#include "runtime/model/json.h"
#include "runtime/model/openai_calls.h"
#include "runtime/model/openai_opaque.h"
#include "runtime/model/provider.h"
#include "tests/unit/test_model_sink.h"

struct world {
    struct sl_limits limits;
    struct sl_quirks quirks;
    struct sl_provider_settings settings;
    struct test_sink sink;
    struct sl_provider_stream *stream;
};

static bool emit(void *user_data, const struct sl_model_chunk *chunk)
{
    struct world *world = user_data;
    test_sink_on_chunk(&world->sink, chunk);
    return !world->sink.is_over;
}

static int set_up(void **state)
{
    static struct world world;
    world = (struct world){ .stream = NULL };
    sl_limits_init(&world.limits);
    world.settings = (struct sl_provider_settings){
        .base_url = "http://x/v1",
        .quirks = &world.quirks,
        .limits = &world.limits,
    };
    test_sink_init(&world.sink);
    *state = &world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    sl_provider_openai.stream_free(world->stream);
    test_sink_done(&world->sink);
    return 0;
}

static void open_stream(struct world *world)
{
    world->stream = sl_provider_openai.stream_free(world->stream);
    test_sink_done(&world->sink);
    test_sink_init(&world->sink);
    assert_int_equal(
        sl_provider_openai.stream_new(&world->settings, emit, world, &world->stream), SL_OK);
}

static void give(struct world *world, const char *data)
{
    const struct sl_sse_event event = { .data = sl_slice_str(data) };
    (void)sl_provider_openai.on_event(world->stream, &event, NULL);
}

/* Feeds the events (NULL-terminated list) and the end of the body, and compares. */
static void play(struct world *world, const char *const *events, const char *log)
{
    open_stream(world);
    for (size_t i = 0; events[i] != NULL; i++) {
        give(world, events[i]);
    }
    sl_provider_openai.on_end(world->stream);
    if (strcmp(test_sink_log(&world->sink), log) != 0) {
        fail_msg("%s\n---\n%s", log, test_sink_log(&world->sink));
    }
}

#define PLAY(world, log, ...) play((world), (const char *const[]){ __VA_ARGS__, NULL }, (log))
#define DELTA(text)           "{\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{" text "}}]}"
#define CALLS(text)           DELTA("\"tool_calls\":[" text "]")
#define FINISH(text)          "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"" text "\"}]}"
#define ARGS(text)            "\"function\":{\"arguments\":\"" text "\"}"
#define NAMED(text)           "\"function\":{\"name\":\"f\",\"arguments\":\"" text "\"}"

static void chunks_without_choices_or_delta_are_skipped(void **state)
{
    PLAY(
        *state, "text a\nfinish END_TURN\n", "{\"choices\":[],\"prompt_filter_results\":[]}",
        "{\"choices\":[{\"index\":0,\"content_filter_results\":{}}]}", "{}",
        "{\"choices\":null,\"x\":{\"y\":[1,2,{}]}}", DELTA("\"content\":null"),
        DELTA("\"content\":\"a\""), FINISH(""), FINISH("stop"), FINISH("stop"));
}

static void reasoning_comes_by_either_name_once(void **state)
{
    PLAY(
        *state, "reasoning abcd\ntext x\nfinish END_TURN\n", DELTA("\"reasoning_content\":\"a\""),
        DELTA("\"reasoning\":\"b\""), DELTA("\"reasoning\":\"c\",\"reasoning_content\":\"c\""),
        DELTA("\"reasoning\":\"d\",\"reasoning_content\":\"\""), DELTA("\"content\":\"x\""),
        FINISH("stop"));
    PLAY(
        *state, "reasoning ab\nfinish END_TURN\n",
        DELTA("\"reasoning_content\":\"a\",\"reasoning\":\"b\""), FINISH("stop"));
}

static void content_may_be_a_list_of_parts(void **state)
{
    PLAY(
        *state, "reasoning hm\ntext ab\nfinish END_TURN\n",
        DELTA("\"content\":[{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\",\"text\":"
              "\"hm\"}]},{\"type\":\"text\",\"text\":\"a\"}]"),
        DELTA("\"content\":[{\"type\":\"text\",\"text\":\"b\"}]"), FINISH("stop"));
}

static void a_refusal_is_a_filter(void **state)
{
    PLAY(*state, "text no\nfinish CONTENT_FILTER\n", DELTA("\"refusal\":\"no\""), FINISH("stop"));
}

static void the_last_usage_counts_wherever_it_is(void **state)
{
    PLAY(
        *state, "usage 1 2 0 0\nusage 3 ?0 0 7\nfinish END_TURN\n",
        "{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}",
        "{\"choices\":[{\"finish_reason\":\"stop\"}]}",
        "{\"usage\":{\"prompt_tokens\":3,\"completion_tokens_details\":{\"reasoning_tokens\":7}}}",
        "[DONE]");
    PLAY(
        *state, "usage 5 6 0 0\nfinish END_TURN\n",
        "{\"choices\":[{\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":6}}]}",
        FINISH("stop"));
    PLAY(
        *state, "usage 8 9 0 0\nfinish END_TURN\n", FINISH("stop"),
        "{\"x_groq\":{\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":9}}}");
}

static void wild_counts_are_missing_or_saturate(void **state)
{
    PLAY(
        *state, "usage ?0 2 0 0\nfinish END_TURN\n", FINISH("stop"),
        "{\"usage\":{\"prompt_tokens\":-1,\"completion_tokens\":2}}");
    PLAY(
        *state, "usage 9223372036854775808 18446744073709551615 0 0\nfinish END_TURN\n",
        FINISH("stop"),
        "{\"usage\":{\"prompt_tokens\":9223372036854775808,\"completion_tokens\":1e30}}");
    PLAY(
        *state, "finish END_TURN\n", FINISH("stop"),
        "{\"usage\":{\"prompt_tokens\":\"x\",\"completion_tokens\":null}}");
}

static void every_finish_reason_is_mapped(void **state)
{
    static const char *const call =
        CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\"}}");
    PLAY(*state, "call a f {}\nfinish TOOL_USE\n", call, FINISH("tool_calls"));
    PLAY(*state, "call a f {}\nfinish TOOL_USE\n", call, FINISH("function_call"));
    PLAY(*state, "call a f {}\nfinish TOOL_USE\n", call, FINISH("stop"));
    PLAY(*state, "call a f {}\nfinish MAX_TOKENS\n", call, FINISH("length"));
    PLAY(*state, "call a f {}\nfinish UNKNOWN\n", call, FINISH("eos"));
    PLAY(*state, "finish CONTENT_FILTER\n", FINISH("content_filter"));
    PLAY(*state, "finish TOOL_USE\n", FINISH("tool_calls"));
    PLAY(*state, "fail PROVIDER_OVERLOADED retryable\n", FINISH("error"));
    PLAY(*state, "fail PROVIDER_TRUNCATED retryable\n", "[DONE]");
    PLAY(*state, "text a\nfail PROVIDER_TRUNCATED retryable\n", DELTA("\"content\":\"a\""));
}

static void done_may_be_an_end_by_setting(void **state)
{
    struct world *world = *state;
    world->quirks.done_is_end = true;
    PLAY(world, "text a\nfinish END_TURN\n", DELTA("\"content\":\"a\""), "[DONE]");
    PLAY(
        world, "call a f {}\nfinish TOOL_USE\n",
        CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\"}}"), "[DONE]");
}

/* ---- Calls (PM-2.3) ----------------------------------------------------------------------------
 */

static void arguments_count_as_memory_of_the_stream(void **state)
{
    struct world *world = *state;
    open_stream(world);
    const uint64_t before = sl_provider_openai.stream_bytes(world->stream);
    give(
        world, "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":"
               "{\"name\":\"f\",\"arguments\":\"{\\\"b\\\": 1\"}}]}}]}");
    const uint64_t after = sl_provider_openai.stream_bytes(world->stream);
    assert_true(after >= before + sizeof(struct sl_call_slot) + strlen("{\"b\": 1"));
}

static void fragments_are_joined_by_index(void **state)
{
    PLAY(
        *state, "call a f {\"x\":1}\ncall b g {}\nfinish TOOL_USE\n",
        CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}"),
        CALLS("{\"index\":1,\"id\":\"b\",\"function\":{\"name\":\"g\",\"arguments\":\"{\"}}"),
        CALLS("{\"index\":0," ARGS("{\\\"x\\\":") "}"),
        CALLS("{\"index\":1," ARGS("}") "},{\"index\":0," ARGS("1}") "}"), FINISH("tool_calls"));
}

static void one_index_for_all_calls_is_told_apart_by_ids(void **state)
{
    PLAY(
        *state, "call a f {1}\ncall b g {2}\nfinish TOOL_USE\n",
        CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{1}\"}}"),
        CALLS("{\"index\":0,\"id\":\"b\",\"function\":{\"name\":\"g\",\"arguments\":\"{2\"}}"),
        CALLS("{\"index\":0," ARGS("}") "}"), FINISH("stop"));
}

static void calls_without_index_go_by_id_or_name(void **state)
{
    PLAY(
        *state, "call a f {1}\ncall b g {2}\nfinish TOOL_USE\n",
        CALLS("{\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{\"}}"),
        CALLS("{\"id\":\"b\",\"function\":{\"name\":\"g\",\"arguments\":\"{\"}}"),
        CALLS("{\"id\":\"a\"," ARGS("1}") "}"), CALLS("{" ARGS("2}") "}"), FINISH("tool_calls"));
    PLAY(
        *state, "call MINTED f {}\ncall MINTED g {2}\nfinish TOOL_USE\n",
        CALLS("{\"function\":{\"name\":\"f\"}}"),
        CALLS("{\"function\":{\"name\":\"g\",\"arguments\":\"{\"}}"), CALLS("{" ARGS("2}") "}"),
        FINISH("tool_calls"));
}

static void arguments_may_be_an_object(void **state)
{
    PLAY(
        *state, "call a f {\"x\":[1,2]}\nfinish TOOL_USE\n",
        CALLS("{\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":{\"x\": [1, 2]}}}"),
        FINISH("stop"));
}

static void repeated_ids_are_replaced(void **state)
{
    PLAY(
        *state, "call a f {}\ncall MINTED g {}\nfinish TOOL_USE\n",
        CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\"}}"),
        CALLS("{\"index\":1,\"id\":\"a\",\"function\":{\"name\":\"g\"}}"), FINISH("tool_calls"));
}

static void an_equal_name_may_be_repeated_and_another_may_not(void **state)
{
    PLAY(
        *state, "call a f {}\nfinish TOOL_USE\n",
        CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{\"}}"),
        CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"}\"}}"),
        CALLS("{\"index\":0,\"id\":\"\",\"function\":{\"name\":\"\"}}"), FINISH("tool_calls"));
    PLAY(
        *state, "fail PROVIDER_PROTOCOL\n",
        CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\"}}"),
        CALLS("{\"index\":0,\"function\":{\"name\":\"g\",\"arguments\":\"{1}\"}}"));
}

static void what_contradicts_itself_is_refused(void **state)
{
    PLAY(*state, "fail PROVIDER_PROTOCOL\n", CALLS("{" ARGS("{}") "}"));
    PLAY(*state, "fail PROVIDER_PROTOCOL\n", CALLS("{\"index\":0," ARGS("{}") "}"), FINISH("stop"));
    PLAY(
        *state, "call a f {}\nfail PROVIDER_PROTOCOL\n",
        CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\"}}"), FINISH("tool_calls"),
        CALLS("{\"index\":0," ARGS("1") "}"));
    PLAY(*state, "fail PROVIDER_PROTOCOL\n", "[1,2]");
    PLAY(*state, "fail PROVIDER_PROTOCOL\n", "nonsense");
}

static void a_call_that_was_cut_is_dropped(void **state)
{
    PLAY(
        *state, "call a f {\"x\":1}\nfinish MAX_TOKENS\n",
        CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":1}"
              "\"}}"),
        CALLS("{\"index\":1,\"id\":\"b\",\"function\":{\"name\":\"g\",\"arguments\":\"{\\\"y\\\"\"}"
              "}"),
        FINISH("length"));
}

static void unknown_members_of_a_call_are_kept(void **state)
{
    PLAY(
        *state,
        "call a f {} opaque {\"extra_content\":{\"google\":{\"thought_signature\":\"s\"}}}\n"
        "finish TOOL_USE\n",
        CALLS("{\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\"},"
              "\"extra_content\":{\"google\":{\"thought_signature\":\"s\"}}}"),
        FINISH("tool_calls"));
}

/* PM-2.4: kept in order and unchanged, whatever is in them, and given before the end. */
static void reasoning_details_are_kept_by_setting(void **state)
{
    struct world *world = *state;
    const char *first = DELTA(
        "\"reasoning\":\"w\",\"reasoning_details\":[{\"type\":\"reasoning.text\",\"text\":\"w\","
        "\"signature\":null},{\"z\":1,\"a\":-2.5}]");
    const char *second = DELTA("\"content\":\"t\",\"reasoning_details\":[]");
    const char *third = DELTA("\"reasoning_details\":[{\"data\":\"\\u0000\xC3\xA9\"},7]");
    const char *last = FINISH("stop");
    static const char log[] =
        "reasoning w\ntext t\n"
        "opaque "
        "[{\"type\":\"reasoning.text\",\"text\":\"w\",\"signature\":null},{\"z\":1,\"a\":-2.5},"
        "{\"data\":\"\\u0000\xC3\xA9\"},7]\nfinish END_TURN\n";
    PLAY(world, "reasoning w\ntext t\nfinish END_TURN\n", first, second, third, last);
    world->quirks.reasoning_details_echo = true;
    PLAY(world, log, first, second, third, last);
    world->limits.tool_arguments = 20;
    PLAY(
        world, "opaque [\"0123456789012345\"]\nfinish END_TURN\n",
        DELTA("\"reasoning_details\":[\"0123456789012345\"]"), FINISH("stop"));
    PLAY(
        world, "fail PROVIDER_LIMIT\n", DELTA("\"reasoning_details\":[\"01234567\"]"),
        DELTA("\"reasoning_details\":[\"01234567\"]"));
}

/* PM-1.6: what was parsed and prepared on the pool gives the same. */
static void a_prepared_document_gives_the_same_chunks(void **state)
{
    static const char *const events[] = {
        DELTA("\"content\":\"t\",\"reasoning_details\":[{\"a\":1},2]"),
        DELTA("\"reasoning_details\":[]"),
        DELTA("\"reasoning_details\":[3]"),
        "{\"choices\":[{\"message\":{\"content\":\"u\",\"reasoning_details\":[4]}}]}",
        "{}",
        CALLS("{\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":{\"x\":[1,{}]}},\"q\":null,"
              "\"extra_content\":{\"s\":\"\\u00e9\"},\"\\\"k\":1},7"),
        CALLS("{\"id\":\"a\",\"extra_content\":{\"s\":2}}"),
        FINISH("tool_calls"),
    };
    static const char log[] =
        "text tu\n"
        "call a f {\"x\":[1,{}]} opaque {\"extra_content\":{\"s\":2},\"\\\"k\":1}\n"
        "opaque [{\"a\":1},2,3,4]\nfinish TOOL_USE\n";
    struct world *world = *state;
    world->quirks.reasoning_details_echo = true;
    for (int is_prepared = 0; is_prepared < 2; is_prepared++) {
        open_stream(world);
        for (size_t i = 0; i < SL_COUNT(events); i++) {
            json_t *document = NULL;
            const struct sl_sse_event event = { .data = sl_slice_str(events[i]) };
            assert_int_equal(sl_json_parse(event.data, 128, &document), SL_OK);
            if (is_prepared == 1) {
                assert_int_equal(sl_provider_openai.prepare(document), SL_OK);
            }
            (void)sl_provider_openai.on_event(world->stream, &event, document);
            json_decref(document);
        }
        sl_provider_openai.on_end(world->stream);
        assert_string_equal(test_sink_log(&world->sink), log);
    }
    json_t *list = json_array();
    assert_int_equal(sl_provider_openai.prepare(list), SL_OK);
    json_decref(list);
}

/* The texts are written once, on the pool: what they were made of is not looked at again. */
static void what_was_prepared_is_not_written_again(void **state)
{
    json_t *text = NULL;
    json_t *document = NULL;
    (void)state;
    const struct sl_slice json = sl_slice_str(
        "{\"choices\":[{\"delta\":{\"reasoning_details\":[1],\"tool_calls\":[{\"x\":[2]}]}}]}");
    assert_int_equal(sl_json_parse(json, 128, &document), SL_OK);
    json_t *delta =
        json_object_get(json_array_get(json_object_get(document, "choices"), 0), "delta");
    json_t *call = json_array_get(json_object_get(delta, "tool_calls"), 0);
    assert_int_equal(sl_opaque_prepare(document), SL_OK);
    assert_int_equal(json_array_clear(json_object_get(delta, "reasoning_details")), 0);
    assert_int_equal(json_array_clear(json_object_get(call, "x")), 0);
    assert_int_equal(sl_opaque_details(delta, &text), SL_OK);
    assert_string_equal(json_string_value(text), "[1]");
    json_decref(text);
    json_t *members = sl_opaque_members(call);
    assert_string_equal(json_string_value(json_object_get(members, "x")), "[2]");
    json_decref(members);
    json_decref(document);
}

/* T8: the run answers the call; of what is too long for it just the beginning is kept. */
static void too_long_arguments_are_cut_and_say_so(void **state)
{
    struct world *world = *state;
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_tool_arguments);
    world->limits.tool_arguments = 4;
    PLAY(
        world, "call a f 1234... OVER\nfinish TOOL_USE\n",
        CALLS("{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\"}}"),
        CALLS("{\"index\":0," ARGS("12") "}"), CALLS("{\"index\":0," ARGS("345") "}"),
        CALLS("{\"index\":0," ARGS("6") "}"), FINISH("tool_calls"));
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_tool_arguments), n_before + 1);
    PLAY(
        world, "call a f {\"\"}\ncall b f 123... OVER\nfinish TOOL_USE\n",
        CALLS("{\"index\":0,\"id\":\"a\"," NAMED("{\\\"\\\"}") "},"
                                                               "{\"index\":1,\"id\":\"b\"," NAMED(
                                                                   "123\xC3\xA9") "}"),
        FINISH("tool_calls"));
    /* It looks whole, and is not: blanks behind an object. */
    PLAY(
        world, "call a f {}  ... OVER\nfinish TOOL_USE\n",
        CALLS("{\"index\":0,\"id\":\"a\"," NAMED("{}   ") "}"), FINISH("tool_calls"));
    PLAY(
        world, "finish MAX_TOKENS\n", CALLS("{\"index\":0,\"id\":\"a\"," NAMED("{}   ") "}"),
        FINISH("length"));
}

static void calls_and_arguments_have_limits(void **state)
{
    struct world *world = *state;
    world->limits.calls_per_iteration = 2;
    PLAY(
        world, "fail PROVIDER_LIMIT\n",
        CALLS("{\"index\":0,\"function\":{\"name\":\"f\"}},{\"index\":1,\"function\":{\"name\":"
              "\"f\"}},{\"index\":2,\"function\":{\"name\":\"f\"}}"));
    world->limits.tool_arguments = 20;
    PLAY(
        world, "call a f {} opaque {\"x\":\"01234567\"}\nfinish TOOL_USE\n",
        CALLS("{\"id\":\"a\",\"function\":{\"name\":\"f\"},\"x\":\"01234567\"}"),
        FINISH("tool_calls"));
    PLAY(
        world, "fail PROVIDER_LIMIT\n",
        CALLS("{\"id\":\"a\",\"function\":{\"name\":\"f\"},\"x\":\"012345678\"}"));
    world->limits.model_json_depth = 8;
    const uint64_t n_before = sl_limit_n_reached(SL_LIMIT_model_json_depth);
    PLAY(world, "fail PROVIDER_LIMIT\n", "{\"a\":[[[[[[[[1]]]]]]]]}");
    assert_int_equal(sl_limit_n_reached(SL_LIMIT_model_json_depth), n_before + 1);
}

/* Any order of the fragments of several calls gives the same calls. */
static void any_interleaving_gives_the_same_calls(void **state)
{
    enum { CALLS_N = 4, PARTS = 3 };
    struct world *world = *state;
    uint64_t random = 1;
    for (int round = 0; round < 200; round++) {
        int next[CALLS_N] = { 0 };
        open_stream(world);
        for (int left = CALLS_N * PARTS; left > 0;) {
            const int i = (int)(sl_random_next(&random) % CALLS_N);
            char event[256];
            if (next[i] == PARTS) {
                continue;
            }
            if (next[i] == 0) {
                (void)snprintf(
                    event, sizeof(event),
                    CALLS("{\"index\":%d,\"id\":\"c%d\",\"function\":{\"name\":\"f%d\","
                          "\"arguments\":\"%d\"}}"),
                    i, i, i, i);
            } else {
                (void)snprintf(
                    event, sizeof(event), CALLS("{\"index\":%d," ARGS(",%d") "}"), i, next[i]);
            }
            next[i]++;
            left--;
            give(world, event);
        }
        give(world, FINISH("tool_calls"));
        sl_provider_openai.on_end(world->stream);
        assert_string_equal(
            test_sink_log(&world->sink),
            "call c0 f0 0,1,2\ncall c1 f1 1,1,2\ncall c2 f2 2,1,2\ncall c3 f3 3,1,2\n"
            "finish TOOL_USE\n");
    }
}

/* ---- Errors and odd text ------------------------------------------------------------------------
 */

static void errors_in_the_stream_are_mapped(void **state)
{
    PLAY(*state, "fail PROVIDER_OVERLOADED retryable\n", "{\"error\":\"overloaded\"}");
    PLAY(
        *state, "fail PROVIDER_QUOTA\n",
        "{\"error\":{\"message\":\"x\",\"code\":\"insufficient_quota\"}}");
    PLAY(
        *state, "fail CONTEXT_OVERFLOW\n",
        "{\"error\":{\"message\":\"maximum context length is "
        "4\",\"type\":\"invalid_request_error\"}}");
    PLAY(
        *state, "text a\nfail PROVIDER_RATE_LIMITED retryable\n", DELTA("\"content\":\"a\""),
        "{\"object\":\"error\",\"message\":\"x\",\"code\":429}");
    PLAY(*state, "finish END_TURN\n", "{\"error\":null}", FINISH("stop"));
    open_stream(*state);
    const struct sl_sse_event event = {
        .name = sl_slice_str("error"),
        .data = sl_slice_str("{\"type\":\"authentication_error\"}"),
    };
    assert_false(sl_provider_openai.on_event(((struct world *)*state)->stream, &event, NULL));
    assert_int_equal(((struct world *)*state)->sink.fault, SL_FAULT_PROVIDER_AUTH);
}

static void odd_text_is_made_clean(void **state) /* PB-3 */
{
    for (int i = 0; i < 2;
         i++) { /* first by jansson, which learns the model; then by the scanner */
        PLAY(
            *state,
            "text a\xEF\xBF\xBD\xEF\xBF\xBD"
            "b\xF0\x9F\x98\x80\n\"/\nfinish END_TURN\n",
            i == 0 ? DELTA("\"content\":\"\"") : "{}",
            DELTA("\"content\":\"a\\ud83d\\u0000b\\ud83d\\ude00\\n\\\"\\/\""), FINISH("stop"));
    }
}

/* ---- The scanner --------------------------------------------------------------------------------
 */

static void the_scanner_knows_the_usual_shapes(void **state)
{
    static const char *const known[] = {
        DELTA("\"content\":\"a\""),
        "{\"id\":\"c-1\",\"object\":\"chat.completion.chunk\",\"created\":1694268190,\"model\":"
        "\"gpt\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp\",\"choices\":[{"
        "\"index\":0,"
        "\"delta\":{\"content\":\"a\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null,"
        "\"obfuscation\":\"xyz\"}",
        " { \"choices\" : [ { \"delta\" : { \"content\" : \"a\" , \"tool_calls\" : [ ] } ,"
        " \"content_filter_results\":{\"hate\":{\"filtered\":false,\"n\":-1.5}} } ] } ",
        DELTA(
            "\"role\":\"assistant\",\"content\":\"a\",\"reasoning_content\":null,\"refusal\":null"),
        DELTA("\"content\":\"a\",\"reasoning_details\":[]"),
    };
    static const char *const unknown[] = {
        DELTA("\"content\":\"a\",\"content\":\"b\""),
        DELTA("\"refusal\":\"a\""),
        DELTA("\"content\":[]"),
        DELTA("\"content\":\"a\",\"reasoning_details\":[{}]"),
        DELTA("\"content\":\"a"),
        FINISH("stop"),
        DELTA("\"content\":\"a\"") "x",
        "{\"choices\":[]}",
        "{\"choices\":[{\"delta\":{}},{}]}",
        "{\"error\":{},\"choices\":[{\"delta\":{}}]}",
        "{\"usage\":{},\"choices\":[{\"delta\":{}}]}",
        "{\"object\":\"error\",\"choices\":[{\"delta\":{}}]}",
        "{\"\\u0065rror\":1,\"choices\":[{\"delta\":{}}]}",
        DELTA("\"content\":\"a\\x\""),
        DELTA("\"content\":\"a\nb\""),
        "",
        "{\"x\":01,\"choices\":[{\"delta\":{}}]}",
        "{\"x\":1e5,\"choices\":[{\"delta\":{}}]}",
    };
    struct sl_buf scratch;
    struct sl_delta delta;
    (void)state;
    sl_buf_init(&scratch, 100000);
    for (size_t i = 0; i < SL_COUNT(known); i++) {
        if (!sl_delta_scan(sl_slice_str(known[i]), &scratch, &delta)) {
            fail_msg("%s", known[i]);
        }
        assert_true(sl_slice_equals(delta.content, "a"));
    }
    for (size_t i = 0; i < SL_COUNT(unknown); i++) {
        if (sl_delta_scan(sl_slice_str(unknown[i]), &scratch, &delta)) {
            fail_msg("%s", unknown[i]);
        }
    }
    for (size_t n = 0; n < strlen(known[1]);
         n++) { /* truncated everywhere, in a block of its size */
        char *copy = malloc(n + 1);
        assert_non_null(copy);
        memcpy(copy, known[1], n);
        assert_false(sl_delta_scan(sl_slice_of(copy, n), &scratch, &delta));
        free(copy);
    }
    sl_buf_done(&scratch);
}

/* ---- Requests
 * ------------------------------------------------------------------------------------ */

static char *
build(struct world *world, const struct sl_model_request *request, enum sl_status wanted)
{
    struct sl_provider_request built;
    assert_int_equal(
        sl_provider_openai.build_request(&world->settings, request, &built, NULL), wanted);
    char *body = NULL;
    if (wanted == SL_OK) {
        assert_true(sl_json_is_object(sl_buf_slice(&built.body), 128));
        body = sl_buf_take(&built.body);
        assert_non_null(body);
    }
    sl_provider_request_done(&built);
    return body;
}

static const struct sl_chat_call the_call = {
    .id = "call_x",
    .name = "f",
    .arguments_json = "{\"a\":1}",
    .opaque_json = " {\"extra\":{\"b\":2}} ",
};
static const struct sl_chat_message conversation[] = {
    { .role = SL_CHAT_USER, .content = { (const uint8_t *)"U\"\n", 3 } },
    { .role = SL_CHAT_ASSISTANT,
      .calls = &the_call,
      .n_calls = 1,
      .reasoning = { (const uint8_t *)"why", 3 },
      .opaque_json = "[{\"d\":1}]" },
    { .role = SL_CHAT_TOOL, .content = { (const uint8_t *)"R", 1 }, .call_id = "call_x" },
    { .role = SL_CHAT_ASSISTANT, .content = { (const uint8_t *)"T", 1 } },
};

static void a_request_has_what_the_agent_set_and_no_more(void **state)
{
    static const double temperature = 0.5;
    static const char *const stop[] = { "END" };
    static const struct sl_chat_tool tool = {
        .name = "f",
        .description = "D",
        .parameters_json = "{\"type\":\"object\"}",
    };
    struct world *world = *state;
    struct sl_model_request request = {
        .model = "m",
        .system = "S",
        .messages = conversation,
        .n_messages = 4,
    };
    char *body = build(world, &request, SL_OK);
    assert_string_equal(
        body,
        "{\"model\":\"m\",\"stream\":true,\"stream_options\":{\"include_usage\":true},\"messages\":"
        "["
        "{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"U\\\"\\n\"},"
        "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"call_x\",\"type\":"
        "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"},\"extra\":{"
        "\"b\":2}}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"call_x\",\"content\":\"R\"},"
        "{\"role\":\"assistant\",\"content\":\"T\"}]}");
    sl_free(body);
    request = (struct sl_model_request){
        .model = "m",
        .tools = &tool,
        .n_tools = 1,
        .temperature = &temperature,
        .top_p = &temperature,
        .max_tokens = 7,
        .stop = stop,
        .n_stop = 1,
        .reasoning_effort = "low",
        .output_schema_json = "{}",
    };
    world->quirks.parallel_tool_calls = SL_PARALLEL_FALSE;
    world->quirks.no_stream_usage = true;
    world->quirks.extra_body = json_pack("{s:b,s:i}", "x", 1, "top_p", 1);
    body = build(world, &request, SL_OK);
    assert_string_equal(
        body,
        "{\"model\":\"m\",\"stream\":true,\"messages\":[],\"tools\":[{\"type\":\"function\","
        "\"function\":{\"name\":\"f\",\"description\":\"D\",\"parameters\":{\"type\":\"object\"}}}]"
        ","
        "\"temperature\":0.5,\"max_tokens\":7,\"stop\":[\"END\"],\"reasoning_effort\":\"low\","
        "\"parallel_tool_calls\":false,\"response_format\":{\"type\":\"json_schema\",\"json_"
        "schema\":"
        "{\"name\":\"output\",\"schema\":{}}},\"x\":true,\"top_p\":1}");
    sl_free(body);
    json_decref(world->quirks.extra_body);
}

static void quirks_change_the_request(void **state)
{
    struct world *world = *state;
    const struct sl_model_request request = {
        .model = "m/x",
        .system = "S",
        .messages = conversation,
        .n_messages = 4,
        .max_tokens = 7,
        .run_id = "r",
        .iteration = 2,
    };
    world->quirks = (struct sl_quirks){
        .max_tokens_field = SL_MAX_TOKENS_COMPLETION,
        .developer_role = true,
        .no_obfuscation = true,
        .reasoning_echo = SL_ECHO_REASONING_CONTENT,
        .reasoning_details_echo = true,
        .tool_id_format = SL_ID_ALNUM9,
        .auth = SL_AUTH_API_KEY,
        .path = "/d/{model}/c?v=1",
        .idempotency_header = "Idempotency-Key",
    };
    world->settings.key = "k";
    struct sl_provider_request built;
    assert_int_equal(
        sl_provider_openai.build_request(&world->settings, &request, &built, NULL), SL_OK);
    assert_string_equal(sl_buf_cstr(&built.url), "http://x/v1/d/m%2Fx/c?v=1");
    const struct sl_slice headers = sl_buf_slice(&built.headers);
    assert_non_null(memmem(headers.data, headers.size, "api-key: k", 11));
    assert_non_null(memmem(headers.data, headers.size, "Idempotency-Key: r:2", 21));
    const char *body = sl_buf_cstr(&built.body);
    assert_non_null(strstr(body, "\"role\":\"developer\""));
    assert_non_null(strstr(body, "{\"include_usage\":true,\"include_obfuscation\":false}"));
    assert_non_null(strstr(body, "\"max_completion_tokens\":7"));
    assert_non_null(
        strstr(body, "\"reasoning_content\":\"why\",\"reasoning_details\":[{\"d\":1}]"));
    assert_null(strstr(body, "call_x"));
    const char *id = strstr(body, "\"id\":\"") + 6;
    const char *result = strstr(body, "\"tool_call_id\":\"") + 16;
    assert_memory_equal(id, result, 10); /* nine characters and the quote */
    sl_provider_request_done(&built);
}

static void a_request_over_its_limit_is_refused(void **state)
{
    struct world *world = *state;
    uint8_t text[4096] = { 0 };
    const struct sl_chat_message message = {
        .role = SL_CHAT_USER,
        .content = { text, sizeof(text) },
    };
    const struct sl_model_request request = {
        .model = "m",
        .messages = &message,
        .n_messages = 1,
    };
    world->limits.model_request = 4000;
    (void)build(world, &request, SL_OUT_OF_RANGE);
    world->limits.model_request = 6000; /* escaped it is longer */
    memset(text, 1, sizeof(text));
    (void)build(world, &request, SL_OUT_OF_RANGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        CASE(chunks_without_choices_or_delta_are_skipped),
        CASE(reasoning_comes_by_either_name_once),
        CASE(content_may_be_a_list_of_parts),
        CASE(a_refusal_is_a_filter),
        CASE(the_last_usage_counts_wherever_it_is),
        CASE(wild_counts_are_missing_or_saturate),
        CASE(every_finish_reason_is_mapped),
        CASE(done_may_be_an_end_by_setting),
        CASE(arguments_count_as_memory_of_the_stream),
        CASE(fragments_are_joined_by_index),
        CASE(one_index_for_all_calls_is_told_apart_by_ids),
        CASE(calls_without_index_go_by_id_or_name),
        CASE(arguments_may_be_an_object),
        CASE(repeated_ids_are_replaced),
        CASE(an_equal_name_may_be_repeated_and_another_may_not),
        CASE(what_contradicts_itself_is_refused),
        CASE(a_call_that_was_cut_is_dropped),
        CASE(unknown_members_of_a_call_are_kept),
        CASE(reasoning_details_are_kept_by_setting),
        CASE(a_prepared_document_gives_the_same_chunks),
        CASE(what_was_prepared_is_not_written_again),
        CASE(too_long_arguments_are_cut_and_say_so),
        CASE(calls_and_arguments_have_limits),
        CASE(any_interleaving_gives_the_same_calls),
        CASE(errors_in_the_stream_are_mapped),
        CASE(odd_text_is_made_clean),
        CASE(the_scanner_knows_the_usual_shapes),
        CASE(a_request_has_what_the_agent_set_and_no_more),
        CASE(quirks_change_the_request),
        CASE(a_request_over_its_limit_is_refused),
#undef CASE
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
