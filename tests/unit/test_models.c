/* Names of models and providers (AL-9.2), presets, and the configuration. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/base/conf.h"
#include "runtime/base/mem.h"
#include "runtime/model/models.h"
#include "tests/fake/fake_loop.h"

static const char *const *variables; /* name, value, …, NULL */

static const char *env(const char *name)
{
    for (size_t i = 0; variables != NULL && variables[i] != NULL; i += 2) {
        if (strcmp(variables[i], name) == 0) {
            return variables[i + 1];
        }
    }
    return NULL;
}

struct world {
    struct sl_fake_loop fake;
    struct sl_limits limits;
    struct sl_models *models;
    struct sl_conf *conf;
};

static int set_up(void **state)
{
    static struct world world;
    world = (struct world){ .models = NULL };
    variables = NULL;
    sl_fake_loop_init(&world.fake);
    sl_limits_init(&world.limits);
    *state = &world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    sl_models_free(world->models);
    sl_conf_free(world->conf);
    sl_fake_loop_done(&world->fake);
    return 0;
}

static void open_models(struct world *world, const char *yaml)
{
    struct sl_loop *loops[] = { &world->fake.base };
    const struct sl_models_options options = {
        .loops = loops,
        .n_loops = 1,
        .limits = &world->limits,
        .env = env,
    };
    assert_int_equal(sl_models_new(&options, &world->models, NULL), SL_OK);
    if (yaml != NULL) {
        assert_int_equal(sl_conf_parse(sl_slice_str(yaml), "c.yaml", &world->conf), SL_OK);
        sl_models_configure(world->models, world->conf, sl_conf_document(world->conf, 0));
        sl_conf_end(world->conf, sl_conf_document(world->conf, 0));
    }
}

static void
expect_name(struct world *world, const char *model, const char *provider, const char *wanted)
{
    char got[128] = "error";
    const char *ret_provider = NULL;
    const char *ret_model = NULL;
    struct sl_error error = { .text = "" };
    if (sl_models_resolve(world->models, model, provider, &ret_provider, &ret_model, &error) ==
        SL_OK) {
        (void)snprintf(got, sizeof(got), "%s %s", ret_provider, ret_model);
    } else {
        assert_true(error.text[0] != '\0');
    }
    if (strcmp(got, wanted) != 0) {
        fail_msg("%s: %s (%s)", model, got, error.text);
    }
}

static void names_are_split_as_the_table_says(void **state)
{
    struct world *world = *state;
    open_models(world, NULL);
    expect_name(world, "llama3:8b", "ollama", "ollama llama3:8b");
    expect_name(world, "ollama:llama3:8b", NULL, "ollama llama3:8b");
    expect_name(world, "ollama:llama3:8b", "ollama", "ollama llama3:8b");
    expect_name(world, "ollama:ollama:x", "ollama", "ollama ollama:x");
    expect_name(world, "llama3:8b", NULL, "error");
    expect_name(world, "openai:gpt-4o", "openai", "openai gpt-4o");
    expect_name(world, "GPT:gpt-4o", NULL, "openai gpt-4o");
    expect_name(world, "gpt:gpt-4o", "OpenAI", "openai gpt-4o");
    expect_name(world, "groq:x", "openai", "openai groq:x");
    expect_name(world, ":x", NULL, "error");
    expect_name(world, ":x", "openai", "error");
    expect_name(world, "openai:", NULL, "error");
    expect_name(world, "openai:", "openai", "error");
    expect_name(world, "", "openai", "error");
    expect_name(world, "anthropic.claude-x-v2:0", NULL, "error");
    expect_name(world, "bedrock:x", NULL, "error");
    expect_name(world, "x", "aws", "error");
    expect_name(world, "x", "opnai", "error");
    expect_name(world, "claude:x", NULL, "error");
    expect_name(world, "x", "gemini", "error");
    expect_name(world, "azure:x", NULL, "error");
    expect_name(world, "scripted:nothing", NULL, "error");
    expect_name(world, "load:load", NULL, "load load");
}

static void the_default_provider_takes_what_names_none(void **state)
{
    struct world *world = *state;
    open_models(world, "default_provider: ollama\n");
    assert_int_equal(sl_conf_n_errors(world->conf), 0);
    expect_name(world, "llama3:8b", NULL, "ollama llama3:8b");
    expect_name(world, "anthropic.claude-x-v2:0", NULL, "ollama anthropic.claude-x-v2:0");
}

static void expect_usable(struct world *world, const char *provider, const char *text)
{
    struct sl_error error = { .text = "" };
    const enum sl_status status = sl_models_check(world->models, provider, &error);
    assert_int_equal(status, text == NULL ? SL_OK : SL_FAILED_PRECONDITION);
    if (text != NULL && strstr(error.text, text) == NULL) {
        fail_msg("%s", error.text);
    }
}

static void a_preset_without_its_key_says_which(void **state)
{
    struct world *world = *state;
    open_models(world, NULL);
    expect_usable(world, "openai", "OPENAI_API_KEY is not set");
    expect_usable(world, "groq", "GROQ_API_KEY is not set");
    expect_usable(world, "ollama", NULL);
    expect_usable(world, "load", NULL);
    expect_usable(world, "nobody", "unknown provider");
    assert_string_equal(
        sl_models_entry(world->models, "ollama")->base_url, "http://127.0.0.1:11434/v1");
}

static void the_environment_is_enough(void **state)
{
    static const char *const set[] = {
        "OPENAI_API_KEY",
        "k1",
        "OPENAI_BASE_URL",
        "http://127.0.0.1:1/v1/",
        "OLLAMA_HOST",
        "0.0.0.0",
        "SLUICE_BASE_URL",
        "https://models.example/v1",
        "SLUICE_API_KEY",
        "k2",
        NULL,
    };
    struct world *world = *state;
    variables = set;
    open_models(world, NULL);
    const struct sl_model_entry *openai = sl_models_entry(world->models, "openai");
    const struct sl_model_entry *standard = sl_models_entry(world->models, "default");
    assert_string_equal(openai->base_url, "http://127.0.0.1:1/v1");
    assert_string_equal(openai->key, "k1");
    assert_string_equal(
        sl_models_entry(world->models, "ollama")->base_url, "http://127.0.0.1:11434/v1");
    assert_string_equal(standard->base_url, "https://models.example/v1");
    assert_string_equal(standard->key, "k2");
    expect_name(world, "any:thing", NULL, "default any:thing");
    expect_usable(world, "openai", NULL);
}

static void a_variable_that_is_no_url_is_named(void **state)
{
    static const char *const set[] = {
        "OPENAI_API_KEY",
        "k1",
        "OPENAI_BASE_URL",
        "models.example/v1",
        "OLLAMA_HOST",
        "user@box",
        "SLUICE_BASE_URL",
        "${SLUICE_BASE_URL:-}",
        NULL,
    };
    struct world *world = *state;
    variables = set;
    open_models(world, NULL);
    expect_usable(world, "openai", "OPENAI_BASE_URL must begin with http:// or https://");
    expect_usable(world, "ollama", "OLLAMA_HOST may have no blanks, user, query or fragment");
    expect_usable(world, "default", "SLUICE_BASE_URL must begin with http:// or https://");
}

static void ollama_is_found_where_its_variables_say(void **state)
{
    static const char *const cases[][2] = {
        { "box", "http://box:11434/v1" },         { "box:99", "http://box:99/v1" },
        { "http://box:99/", "http://box:99/v1" }, { "https://box", "https://box/v1" },
        { "[::1]", "http://[::1]:11434/v1" },     { "0.0.0.0:99", "http://127.0.0.1:99/v1" },
    };
    struct world *world = *state;
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        const char *const set[] = { "OLLAMA_HOST", cases[i][0], NULL };
        variables = set;
        open_models(world, NULL);
        assert_string_equal(sl_models_entry(world->models, "ollama")->base_url, cases[i][1]);
        world->models = sl_models_free(world->models);
    }
}

static void an_entry_is_read_whole(void **state)
{
    static const char *const set[] = { "MY_KEY", "secret-of-mine\n", NULL };
    struct world *world = *state;
    variables = set;
    open_models(
        world,
        "providers:\n"
        "  - name: mine\n"
        "    kind: openai_chat\n"
        "    base_url: http://localhost:8000/v1/\n"
        "    api_key: env:MY_KEY\n"
        "    headers: {X-Team: blue, X-Key: env:MY_KEY}\n"
        "    proxy: none\n"
        "    http2: true\n"
        "    max_concurrent: 3\n"
        "    timers: {connect: 1s, first_byte: 600s, idle: 5s, no_progress: 6s, end_grace: 50ms}\n"
        "    caps: {line: 4KiB, arguments: 2KiB, calls: 7}\n"
        "    retry: {max: 0, retry_after_max: 3s}\n"
        "    quirks:\n"
        "      max_tokens_field: max_completion_tokens\n"
        "      system_role: developer\n"
        "      stream_usage: never\n"
        "      reasoning_echo: reasoning\n"
        "      reasoning_details_echo: true\n"
        "      done_without_finish: end_turn\n"
        "      tool_id_format: alnum9\n"
        "      auth: api-key\n"
        "      path: \"/x/{model}/y\"\n"
        "      parallel_tool_calls: false\n"
        "      idempotency_header: Idempotency-Key\n"
        "      extra_body: {thinking: {type: enabled}}\n"
        "default_provider: mine\n");
    for (size_t i = 0; i < sl_conf_n_errors(world->conf); i++) {
        fail_msg("%s", sl_conf_error_at(world->conf, i));
    }
    const struct sl_model_entry *entry = sl_models_entry(world->models, "mine");
    assert_non_null(entry);
    assert_string_equal(entry->base_url, "http://localhost:8000/v1");
    assert_string_equal(entry->key, "secret-of-mine");
    assert_string_equal(entry->headers[0], "X-Team: blue");
    assert_string_equal(entry->headers[1], "X-Key: secret-of-mine");
    assert_null(entry->headers[2]);
    assert_null(entry->proxy);
    assert_true(entry->http2);
    assert_int_equal(entry->gate.max, 3);
    assert_int_equal(entry->limits.model_first_byte, 600000);
    assert_int_equal(entry->limits.model_end_grace, 50);
    assert_int_equal(entry->limits.model_line, 4096);
    assert_int_equal(entry->limits.tool_arguments, 2048);
    assert_int_equal(entry->limits.calls_per_iteration, 7);
    assert_int_equal(entry->limits.model_retries, 0);
    assert_int_equal(entry->limits.model_retry_after, 3000);
    assert_int_equal(entry->quirks.max_tokens_field, SL_MAX_TOKENS_COMPLETION);
    assert_true(entry->quirks.developer_role && entry->quirks.no_stream_usage);
    assert_true(entry->quirks.done_is_end);
    assert_int_equal(entry->quirks.reasoning_echo, SL_ECHO_REASONING);
    assert_true(entry->quirks.reasoning_details_echo);
    assert_int_equal(entry->quirks.tool_id_format, SL_ID_ALNUM9);
    assert_int_equal(entry->quirks.auth, SL_AUTH_API_KEY);
    assert_int_equal(entry->quirks.parallel_tool_calls, SL_PARALLEL_FALSE);
    assert_string_equal(entry->quirks.path, "/x/{model}/y");
    assert_non_null(entry->quirks.extra_body);
    expect_name(world, "x", NULL, "mine x");
    expect_name(world, "MINE:x", NULL, "mine x");
}

static void a_preset_is_completed_by_an_entry_of_its_name(void **state)
{
    static const char *const set[] = { "K", "some-key", NULL };
    struct world *world = *state;
    variables = set;
    open_models(
        world,
        "providers: [{name: deepseek, base_url: \"https://api.example\", api_key: \"env:K\"}]\n");
    assert_int_equal(sl_conf_n_errors(world->conf), 0);
    const struct sl_model_entry *entry = sl_models_entry(world->models, "deepseek");
    assert_int_equal(entry->quirks.reasoning_echo, SL_ECHO_REASONING_CONTENT);
    expect_name(world, "deepseek:r", NULL, "deepseek r");
    assert_false(entry->quirks.reasoning_details_echo);
    assert_true(sl_models_entry(world->models, "openrouter")->quirks.reasoning_details_echo);
}

#define ENTRY(keys) "providers: [{name: a, kind: openai_chat, base_url: \"http://x\", " keys "}]"

static void every_mistake_is_an_error(void **state)
{
    static const char *const cases[] = {
        "providers: [{name: a, kind: openai_chat}]",
        "providers: [{name: a, base_url: \"http://x\"}]",
        "providers: [{kind: openai_chat, base_url: \"http://x\"}]",
        "providers: [{name: a, kind: anthropic, base_url: \"http://x\"}]",
        "providers: [{name: a, kind: nothing, base_url: \"http://x\"}]",
        "providers: [{name: \"a:b\", kind: openai_chat, base_url: \"http://x\"}]",
        "providers: [{name: aws, kind: openai_chat, base_url: \"http://x\"}]",
        "providers: [{name: a, kind: openai_chat, base_url: \"ftp://x\"}]",
        "providers: [{name: a, kind: openai_chat, base_url: \"http://u:p@x\"}]",
        ENTRY("api_key: sk-1234"),
        ENTRY("prices: {}"),
        ENTRY("prices: {currency: USD}"),
        ENTRY("prices: {models: {m: {input: 1, output: 1}}}"),
        ENTRY("prices: {currency: usd, models: {m: {input: 1, output: 1}}}"),
        ENTRY("prices: {currency: EURO, models: {m: {input: 1, output: 1}}}"),
        ENTRY("prices: {currency: USD, models: {m: {input: 1}}}"),
        ENTRY("prices: {currency: USD, models: {m: {output: 1}}}"),
        ENTRY("prices: {currency: USD, models: {m: 5}}"),
        ENTRY("prices: {currency: USD, models: {m: {input: -1, output: 1}}}"),
        ENTRY("prices: {currency: USD, models: {m: {input: 1, output: 1, other: 1}}}"),
        ENTRY("prices: {currency: USD, models: {m: {input: 1, output: 1}}, more: 1}"),
        ENTRY("timers: {conect: 1s}"),
        ENTRY("headers: {\"a b\": c}"),
        ENTRY("headers: {A: \"b\\nc\"}"),
        ENTRY("headers: {A: Bearer abcdefghijklmnopqrstuvwxyz}"),
        ENTRY("quirks: {extra_body: {model: y}}"),
        "providers: [{name: groq, retry: {max: 1}}, {name: GROQ, retry: {max: 1}}]",
        "providers: [{name: a, kind: scripted}]",
        "providers: [{name: a, kind: scripted, scenario: /nowhere.yaml}]",
        "providers: [5]",
        "default_provider: nobody",
    };
    struct world *world = *state;
    for (size_t i = 0; i < SL_COUNT(cases); i++) {
        open_models(world, cases[i]);
        if (sl_conf_n_errors(world->conf) == 0) {
            fail_msg("taken: %s", cases[i]);
        }
        world->models = sl_models_free(world->models);
        world->conf = sl_conf_free(world->conf);
    }
}

static void prices_are_those_of_the_model(void **state)
{
    struct world *world = *state;
    open_models(
        world, "providers:\n"
               "  - name: a\n"
               "    kind: openai_chat\n"
               "    base_url: \"http://x\"\n"
               "    prices:\n"
               "      currency: EUR\n"
               "      models:\n"
               "        \"*\": {input: 2, output: 4}\n"
               "        m-1: {input: 0.15, output: 0.6, cache_read: 0.0375, cache_write: 0}\n"
               "  - {name: b, kind: openai_chat, base_url: \"http://x\"}\n");
    assert_int_equal(sl_conf_n_errors(world->conf), 0);
    struct sl_model_price price = sl_models_price(world->models, "a", "m-1");
    assert_true(price.is_known);
    assert_string_equal(price.currency, "EUR");
    assert_int_equal(price.input_picos, 150000);
    assert_int_equal(price.output_picos, 600000);
    assert_int_equal(price.cache_read_picos, 37500);
    assert_int_equal(price.cache_write_picos, 0);
    price = sl_models_price(world->models, "a", "m-2"); /* any other */
    assert_int_equal(price.input_picos, 2000000);
    assert_int_equal(price.cache_read_picos, 2000000); /* as the input, unless it is said */
    assert_int_equal(price.cache_write_picos, 2000000);
    assert_string_equal(price.currency, "EUR");
    assert_false(sl_models_price(world->models, "b", "m-1").is_known);
    assert_false(sl_models_price(world->models, "openai", "m-1").is_known);
}

static void a_key_that_cannot_be_had_shows_in_the_check(void **state)
{
    struct world *world = *state;
    open_models(
        world,
        "providers:\n"
        "  - {name: a, kind: openai_chat, base_url: \"http://x\", api_key: env:NOT_SET}\n"
        "  - {name: b, kind: openai_chat, base_url: \"http://x\", api_key: file:/nowhere/key}\n");
    assert_int_equal(sl_conf_n_errors(world->conf), 0);
    expect_usable(world, "a", "NOT_SET is not set");
    expect_usable(world, "b", "/nowhere/key cannot be read");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        CASE(names_are_split_as_the_table_says),
        CASE(the_default_provider_takes_what_names_none),
        CASE(a_preset_without_its_key_says_which),
        CASE(the_environment_is_enough),
        CASE(a_variable_that_is_no_url_is_named),
        CASE(ollama_is_found_where_its_variables_say),
        CASE(an_entry_is_read_whole),
        CASE(a_preset_is_completed_by_an_entry_of_its_name),
        CASE(every_mistake_is_an_error),
        CASE(prices_are_those_of_the_model),
        CASE(a_key_that_cannot_be_had_shows_in_the_check),
#undef CASE
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
