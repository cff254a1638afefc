/* Agent files (AL-9): both shapes, every field, every mistake with its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/exec/agent.h"
#include "runtime/exec/encode.h"
#include "tests/fake/fake_loop.h"
#include "tests/fake/fake_model.h"
#include "tests/fake/fake_tool.h"

static struct sl_limits limits;
static struct sl_models models;
static struct sl_tools tools;
static struct sl_fake_loop loop;
static struct sl_agents *agents;
static char problems[8192];

static int open_agents(void **state)
{
    (void)state;
    sl_fake_loop_init(&loop);
    sl_limits_init(&limits);
    sl_fake_models_init(&models);
    sl_fake_tools_init(&tools, &loop.base);
    const struct sl_agents_options options = { .models = &models,
                                               .tools = &tools,
                                               .limits = &limits };
    return sl_agents_new(&options, &agents) == SL_OK ? 0 : -1;
}

static int close_agents(void **state)
{
    (void)state;
    agents = sl_agents_free(agents);
    sl_fake_loop_done(&loop);
    return tools.n_tools == 0 ? 0 : -1;
}

static void keep_problem(const char *line, void *user_data)
{
    (void)user_data;
    const size_t used = strlen(problems);
    (void)snprintf(problems + used, sizeof(problems) - used, "%s\n", line);
}

static enum sl_status load(const char *yaml)
{
    problems[0] = '\0';
    return sl_agents_add_yaml(agents, sl_slice_str(yaml), "a.yaml", keep_problem, NULL);
}

static const struct sl_agent *load_good(const char *yaml)
{
    if (load(yaml) != SL_OK) {
        fail_msg("%s", problems);
    }
    const struct sl_agent *agent = sl_agents_find(agents, "a");
    assert_non_null(agent);
    return agent;
}

/* `expected` is in what was said. */
static void check_bad(const char *yaml, const char *expected)
{
    const size_t n = sl_agents_size(agents);
    assert_int_equal(load(yaml), SL_INVALID_ARGUMENT);
    if (strstr(problems, expected) == NULL) {
        fail_msg("'%s' is not in:\n%s", expected, problems);
    }
    assert_int_equal(sl_agents_size(agents), n);
}

static void a_bound_of_cost_needs_prices(void **state)
{
    (void)state;
    sl_fake_model_price = (struct sl_model_price){ .is_known = true, .currency = "USD" };
    const struct sl_agent *agent =
        load_good("name: a\nmodel: m\nbudget: {max_cost_micros: 5000}\n");
    sl_fake_model_price.is_known = false;
    assert_int_equal(agent->budget_cost_micros, 5000);
    assert_string_equal(agent->price.currency, "USD");
}

static void a_flat_file_has_the_documented_defaults(void **state)
{
    (void)state;
    const struct sl_agent *agent = load_good("name: a\nmodel: m\n");
    assert_string_equal(agent->model, "m");
    assert_string_equal(agent->provider, "fake");
    assert_null(agent->instructions);
    assert_int_equal(agent->max_iterations, 10);
    assert_false(agent->restart_interrupted);
    assert_null(agent->output.schema_json);
    assert_int_equal(agent->run_timeout_ms, 3600000);
    assert_int_equal(agent->parallel_tools, 10);
    assert_int_equal(agent->heartbeat_ms, 15000);
    assert_int_equal(agent->on_disconnect, SL_DISCONNECT(CANCEL));
    assert_false(agent->has_durability);
    assert_int_equal(agent->slow_consumer, SL_SLOW_PAUSE);
    assert_null(agent->temperature);
    assert_int_equal(agent->max_tokens, 0);
    assert_int_equal(agent->memory, SL_MEMORY_STORE);
    assert_int_equal(strlen(agent->version), SL_AGENT_VERSION_CHARS);
}

static void every_field_is_read(void **state)
{
    (void)state;
    const struct sl_agent *agent = load_good("apiVersion: aof.dev/v1\n"
                                             "kind: Agent\n"
                                             "metadata:\n"
                                             "  name: a\n"
                                             "  labels: {team: ops, yes: no}\n"
                                             "  annotations: {note: hi}\n"
                                             "spec:\n"
                                             "  model: m\n"
                                             "  provider: fake\n"
                                             "  system_prompt: be kind\n"
                                             "  tools: [add, sub]\n"
                                             "  memory: {type: None}\n"
                                             "  max_context_messages: 5\n"
                                             "  max_context_tokens: 1000\n"
                                             "  max_iterations: 7\n"
                                             "  temperature: 0.5\n"
                                             "  top_p: 1\n"
                                             "  max_tokens: 99\n"
                                             "  stop: [END, \"\\n\"]\n"
                                             "  reasoning: {effort: low, show: false}\n"
                                             "  run_timeout_secs: 60\n"
                                             "  parallel_tools: 2\n"
                                             "  heartbeat_ms: 1000\n"
                                             "  on_disconnect: DETACH_FOR\n"
                                             "  detach_ttl_secs: 30\n"
                                             "  slow_consumer: SPILL\n"
                                             "  durability: SYNC\n"
                                             "  tool_call_deltas: true\n"
                                             "  restart_interrupted: true\n"
                                             "  output_schema: {type: object}\n"
                                             "  validation_mode: lenient\n"
                                             "  on_validation_error: retry\n"
                                             "  max_retries: 3\n"
                                             "  budget: {max_tokens: 5000, max_tool_calls: 9}\n");
    assert_int_equal(agent->n_labels, 2);
    assert_string_equal(agent->label_keys[1], "yes");
    assert_string_equal(agent->label_values[1], "no");
    assert_int_equal(agent->n_annotations, 1);
    assert_string_equal(agent->instructions, "be kind");
    assert_int_equal(agent->n_tools, 2);
    assert_string_equal(agent->chat_tools[1].name, "sub");
    assert_int_equal(agent->memory, SL_MEMORY_NONE);
    assert_int_equal(agent->max_context_messages, 5);
    assert_int_equal(agent->max_context_tokens, 1000);
    assert_int_equal(agent->max_iterations, 7);
    assert_true(*agent->temperature == 0.5);
    assert_true(*agent->top_p == 1.0);
    assert_int_equal(agent->max_tokens, 99);
    assert_int_equal(agent->n_stop, 2);
    assert_string_equal(agent->stop[1], "\n");
    assert_string_equal(agent->reasoning_effort, "low");
    assert_true(agent->hides_reasoning);
    assert_int_equal(agent->run_timeout_ms, 60000);
    assert_int_equal(agent->parallel_tools, 2);
    assert_int_equal(agent->heartbeat_ms, 1000);
    assert_int_equal(agent->on_disconnect, SL_DISCONNECT(DETACH_FOR));
    assert_true(agent->has_durability);
    assert_int_equal(agent->durability, SL_STORE_SYNC);
    assert_int_equal(agent->slow_consumer, SL_SLOW_SPILL);
    assert_int_equal(agent->detach_ttl_ms, 30000);
    assert_true(agent->tool_call_deltas);
    assert_true(agent->restart_interrupted);
    assert_string_equal(agent->output.schema_json, "{\"type\":\"object\"}");
    assert_true(agent->output.is_lenient);
    assert_int_equal(agent->output.rule, SL_OUTPUT_RETRY);
    assert_int_equal(agent->output.max_retries, 3);
    assert_int_equal(agent->budget_tokens, 5000);
    assert_int_equal(agent->budget_tool_calls, 9);
}

#define FLAT "name: a\nmodel: m\n"

static void sessions_are_kept_where_the_agent_says(void **state)
{
    (void)state;
    assert_int_equal(load_good(FLAT "memory: InMemory\n")->memory, SL_MEMORY_PROCESS);
}

static void and_with_the_daemon_unless_it_says(void **state)
{
    (void)state;
    assert_int_equal(load_good(FLAT "memory: {type: Store}\n")->memory, SL_MEMORY_STORE);
}

static const struct sl_agent *load_other(const char *more)
{
    char yaml[256];
    (void)snprintf(yaml, sizeof(yaml), "name: b\nmodel: m\n%s", more);
    if (load(yaml) != SL_OK) {
        fail_msg("%s", problems);
    }
    return sl_agents_find(agents, "b");
}

static void approvers_are_listed_and_have_a_time(void **state)
{
    (void)state;
    const struct sl_agent *agent = load_good("name: a\nmodel: m\n");
    assert_int_equal(agent->n_approvers, 0);
    assert_int_equal(agent->approval_timeout_ms, 600000);
    assert_false(agent->approval_self);
    agent = load_other("approval: {approvers: [ann, '*'], timeout_secs: 5, self: true}\n");
    assert_int_equal(agent->n_approvers, 2);
    assert_string_equal(agent->approvers[0], "ann");
    assert_string_equal(agent->approvers[1], "*");
    assert_int_equal(agent->approval_timeout_ms, 5000);
    assert_true(agent->approval_self);
}

static void a_mistake_is_named_with_its_place(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *expected;
    } rows[] = {
        { "model: m\n", "name" },
        { "name: a\n", "model" },
        { "name: A\nmodel: m\n", "a.yaml:1:7: name: must be" },
        { "name: -a\nmodel: m\n", "a.yaml:1:7: name" },
        { "name: a\nmodel: m\nmodle: n\n", "did you mean" },
        { "name: a\nmodel: m\nprovider: nobody\n", "there is no provider 'nobody'" },
        { FLAT "instructions: x\nsystem_prompt: y\n", "a.yaml:4:16: system_prompt: is another" },
        { FLAT "tools: [add, add]\n", "there is another tool with the name 'add'" },
        { FLAT "tools: [no_such]\n", "a.yaml:3:9: tools[0]: there is no such tool" },
        { FLAT "tools: add\n", "a.yaml:3:" },
        { FLAT "memory: File:/x\n", "'store:'" },
        { FLAT "memory: {type: SQLite}\n", "'store:'" },
        { FLAT "memory: Elephant\n", "must be None" },
        { FLAT "mcp_servers: []\n", "mcp_servers: is not supported yet" },
        { FLAT "output_schema: {type: thing}\n", "output_schema: " },
        { FLAT "output_schema: text\n", "output_schema: " },
        { FLAT "validation_mode: lenient\n", "validation_mode: needs 'output_schema'" },
        { FLAT "max_retries: 2\n", "max_retries: needs 'output_schema'" },
        { FLAT "output_schema: {}\nvalidation_mode: coerce\n", "validation_mode: " },
        { FLAT "output_schema: {}\non_validation_error: ignore\n", "on_validation_error: " },
        { FLAT "output_schema: {}\nmax_retries: 2\n",
          "max_retries: is for on_validation_error: retry" },
        { FLAT "output_schema: {}\non_validation_error: retry\nmax_retries: 11\n",
          "max_retries: " },
        { FLAT "approval: {approvers: [[x]]}\n", "a.yaml:3:24: approval.approvers[0]" },
        { FLAT "approval: {approvers: x}\n", "a.yaml:3:" },
        { FLAT "approval: {approver: [x]}\n", "a.yaml:3:12: approval.approver: unknown" },
        { FLAT "approval: {timeout_secs: 0}\n", "a.yaml:3:26: approval.timeout_secs" },
        { FLAT "approval: {timeout_secs: 86401}\n", "approval.timeout_secs" },
        { FLAT "approval: {self: yes}\n", "a.yaml:3:18: approval.self" },
        { FLAT "durability: FULL\n", "durability" },
        { FLAT "slow_consumer: WAIT\n", "slow_consumer" },
        { FLAT "slow_consumer: SPILL\ndurability: NONE\n",
          "a.yaml:3:16: slow_consumer: SPILL needs durability ASYNC or SYNC" },
        { FLAT "slow_consumer: DISCONNECT\ndurability: NONE\n", "DISCONNECT needs durability" },
        { FLAT "budget: {max_cost_micros: 1}\n",
          "budget.max_cost_micros: needs 'prices' of model 'm' in the entry of provider 'fake'" },
        { FLAT "budget: {max_cost_micros: 0}\n", "max_cost_micros" },
        { FLAT "budget: {max_tool_calls: 101}\n", "budget.max_tool_calls" },
        { FLAT "budget: {max_tokes: 1}\n", "max_tokes" },
        { FLAT "max_iterations: 0\n", "max_iterations" },
        { FLAT "max_iterations: 1001\n", "max_iterations" },
        { FLAT "max_iterations: ten\n", "max_iterations" },
        { FLAT "temperature: 2.1\n", "temperature" },
        { FLAT "top_p: -1\n", "top_p" },
        { FLAT "stop: END\n", "stop" },
        { FLAT "stop: [\"\"]\n", "stop[0]: must be a text" },
        { FLAT "reasoning: {shown: true}\n", "shown" },
        { FLAT "heartbeat_ms: 999\n", "heartbeat_ms: must be 0 or 1000 to 60000" },
        { FLAT "heartbeat_ms: 60001\n", "heartbeat_ms" },
        { FLAT "parallel_tools: 11\n", "parallel_tools" },
        { FLAT "run_timeout_secs: 3601\n", "run_timeout_secs" },
        { FLAT "on_disconnect: DETACH_FOR\n", "needs 'detach_ttl_secs'" },
        { FLAT "on_disconnect: MAYBE\n", "on_disconnect" },
        { FLAT "tool_call_deltas: yes\n", "tool_call_deltas" },
        { FLAT "restart_interrupted: 2\n", "restart_interrupted" },
        { FLAT "instructions: sk-abcdefghijklmnopqrstuvwx\n", "looks like a key" },
        { FLAT "labels: {}\n", "labels" },
        { "apiVersion: v1\nkind: Agent\nmetadata: {name: a}\nspec: {model: m}\n", "apiVersion" },
        { "apiVersion: aof.dev/v1\nkind: Pod\nmetadata: {name: a}\nspec: {model: m}\n", "kind" },
        { "apiVersion: aof.dev/v1\nkind: Agent\nspec: {model: m}\n", "metadata" },
        { "apiVersion: aof.dev/v1\nkind: Agent\nmetadata: {name: a}\n", "spec" },
        { "kind: Agent\nmetadata: {name: a}\nspec: {model: m}\n", "apiVersion" },
        { "- a\n", "an agent is a map" },
        { "", "there is no agent" },
    };
    for (size_t i = 0; i < SL_COUNT(rows); i++) {
        check_bad(rows[i].yaml, rows[i].expected);
    }
}

static void all_mistakes_of_a_file_are_reported(void **state)
{
    (void)state;
    check_bad("name: A\nmodel: m\nmax_iterations: 0\nbogus: 1\n---\nname: b\n", "a.yaml:6:");
    assert_non_null(strstr(problems, "a.yaml:1:"));
    assert_non_null(strstr(problems, "a.yaml:3:"));
    assert_non_null(strstr(problems, "a.yaml:4:"));
}

static void names_are_unique(void **state)
{
    (void)state;
    check_bad(FLAT "---\n" FLAT, "there is another agent with the name 'a'");
    (void)load_good(FLAT);
    check_bad(FLAT, "there is another agent with the name 'a'");
}

static void agents_stand_in_order_of_their_names(void **state)
{
    (void)state;
    assert_int_equal(
        load("name: c\nmodel: m\n---\nname: a\nmodel: m\n---\nname: b\nmodel: m\n"), SL_OK);
    const struct sl_agent *agent = sl_agents_first(agents);
    static const char *const names[] = { "a", "b", "c" };
    for (size_t i = 0; i < SL_COUNT(names); i++, agent = agent->next) {
        assert_string_equal(agent->name, names[i]);
    }
    assert_null(agent);
    assert_null(sl_agents_find(agents, "A"));
    assert_null(sl_agents_find(agents, "ab"));
}

static void the_version_follows_the_definition_and_not_its_form(void **state)
{
    (void)state;
    char versions[3][SL_AGENT_VERSION_CHARS + 1];
    static const char *const yamls[] = { "name: a\nmodel: m\nstop: [x]\n",
                                         "# again\nstop: [ x ]\nmodel: m\nname: a\n",
                                         "name: a\nmodel: m\nstop: [y]\n" };
    for (size_t i = 0; i < SL_COUNT(yamls); i++) {
        (void)snprintf(versions[i], sizeof(versions[i]), "%s", load_good(yamls[i])->version);
        assert_int_equal(close_agents(state), 0);
        assert_int_equal(open_agents(state), 0);
    }
    assert_string_equal(versions[0], versions[1]);
    assert_string_not_equal(versions[0], versions[2]);
}

static void a_provider_that_cannot_be_used_is_a_problem_of_the_agent(void **state)
{
    (void)state;
    models.check_status = SL_FAILED_PRECONDITION;
    const struct sl_agent *agent = load_good(FLAT);
    assert_string_equal(agent->problem, "the key of 'fake' cannot be had");
}

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void a_broken_file_of_a_folder_is_left_out(void **state)
{
    (void)state;
    char folder[] = "/tmp/sluice-agents-XXXXXX";
    struct sl_error err = { .text = "" };
    assert_non_null(mkdtemp(folder));
    write_file(folder, "one.yaml", "name: one\nmodel: m\n");
    write_file(folder, "two.yml", "name: two\nmodel: m\nbogus: 1\n");
    write_file(folder, "three.yml", "name: three\nmodel: m\n");
    write_file(folder, ".hidden.yaml", "bogus");
    write_file(folder, "notes.txt", "bogus");
    problems[0] = '\0';
    assert_int_equal(sl_agents_add_path(agents, folder, keep_problem, NULL, &err), SL_OK);
    assert_int_equal(sl_agents_size(agents), 2);
    assert_non_null(strstr(problems, "two.yml:3:1: bogus"));
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/one.yaml", folder);
    problems[0] = '\0';
    assert_int_equal(sl_agents_add_path(agents, path, keep_problem, NULL, &err), SL_OK);
    assert_non_null(strstr(problems, "there is another agent"));
    static const char *const names[] = { "one.yaml", "two.yml", "three.yml", ".hidden.yaml",
                                         "notes.txt" };
    for (size_t i = 0; i < SL_COUNT(names); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(sl_agents_add_path(agents, folder, keep_problem, NULL, &err), SL_NOT_FOUND);
}

static size_t n_allocations, failing_allocation;

static bool fail_once(size_t size)
{
    (void)size;
    return ++n_allocations != failing_allocation;
}

static void a_refused_allocation_is_handed_up(void **state)
{
    for (failing_allocation = 1; failing_allocation < 200; failing_allocation++) {
        n_allocations = 0;
        problems[0] = '\0';
        sl_mem_set_gate(fail_once);
        const enum sl_status status = sl_agents_add_yaml(
            agents, sl_slice_str(FLAT "tools: [add]\n"), "a.yaml", keep_problem, NULL);
        sl_mem_set_gate(NULL);
        assert_int_equal(sl_agents_size(agents), status == SL_OK ? 1 : 0);
        assert_int_equal(close_agents(state), 0);
        assert_int_equal(open_agents(state), 0);
        if (n_allocations < failing_allocation) {
            return; /* none was refused */
        }
    }
    fail();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_agents, close_agents)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_bound_of_cost_needs_prices),
        TEST(a_flat_file_has_the_documented_defaults),
        TEST(every_field_is_read),
        TEST(sessions_are_kept_where_the_agent_says),
        TEST(and_with_the_daemon_unless_it_says),
        TEST(approvers_are_listed_and_have_a_time),
        TEST(a_mistake_is_named_with_its_place),
        TEST(all_mistakes_of_a_file_are_reported),
        TEST(names_are_unique),
        TEST(agents_stand_in_order_of_their_names),
        TEST(the_version_follows_the_definition_and_not_its_form),
        TEST(a_provider_that_cannot_be_used_is_a_problem_of_the_agent),
        TEST(a_broken_file_of_a_folder_is_left_out),
        TEST(a_refused_allocation_is_handed_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
