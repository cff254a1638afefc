#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/tool/kind.h"
#include "tests/fake/tool_rig.h"

static struct sl_tool_rig rig;

static int set_up(void **state)
{
    (void)state;
    sl_tool_rig_init(&rig, "/bin/true", NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sl_tool_rig_done(&rig);
    return 0;
}

static void a_name_is_a_builtin_with_its_defaults(void **state)
{
    (void)state;
    struct sl_tool *tool = sl_tool_rig_tool(&rig, "- http");
    const struct sl_tool_info *info = sl_tool_info(tool);
    assert_string_equal(info->name, "http_request");
    assert_int_equal(info->timeout_ms, 30000);
    assert_int_equal(info->max_output_bytes, 65536);
    assert_false(info->is_idempotent);
    assert_int_equal(info->policy, SL_TOOL_ALLOW);
    json_t *schema = json_loads(info->parameters_json, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(schema, "type")), "object");
    json_decref(schema);
    (void)sl_tool_unref(tool);
}

static void a_map_changes_the_defaults(void **state)
{
    (void)state;
    struct sl_tool *tool = sl_tool_rig_tool(
        &rig, "- {name: current_time, source: builtin, enabled: true, timeout_secs: 5, idempotent: "
              "false, policy: ask, max_output_bytes: 2KiB}");
    const struct sl_tool_info *info = sl_tool_info(tool);
    assert_int_equal(info->timeout_ms, 5000);
    assert_int_equal(info->max_output_bytes, 2048);
    assert_false(info->is_idempotent);
    assert_int_equal(info->policy, SL_TOOL_ASK);
    struct sl_tool *same = sl_tool_ref(tool);
    (void)sl_tool_unref(tool);
    assert_string_equal(sl_tool_info(same)->name, "current_time");
    (void)sl_tool_unref(same);
}

static void a_disabled_tool_is_nothing_without_an_error(void **state)
{
    (void)state;
    struct sl_conf *conf = NULL;
    assert_int_equal(
        sl_conf_parse(sl_slice_str("- {name: current_time, enabled: false}"), "a.yaml", &conf),
        SL_OK);
    assert_null(sl_tools_from_conf(rig.tools, conf, sl_conf_at(sl_conf_document(conf, 0), 0)));
    assert_int_equal(sl_conf_n_errors(conf), 0);
    (void)sl_conf_free(conf);
}

static void a_process_tool_is_described(void **state)
{
    (void)state;
    struct sl_tool *tool = sl_tool_rig_tool(
        &rig, "- type: Process\n"
              "  name: grep\n"
              "  description: Searches.\n"
              "  idempotent: true\n"
              "  timeout_secs: 7\n"
              "  parameters:\n"
              "    type: object\n"
              "    properties: {what: {type: string}}\n"
              "    required: [what]\n"
              "  config: {command: [grep, -r, --, '{{what}}', /srv]}\n");
    const struct sl_tool_info *info = sl_tool_info(tool);
    assert_string_equal(info->name, "grep");
    assert_string_equal(info->description, "Searches.");
    assert_true(info->is_idempotent);
    assert_int_equal(info->timeout_ms, 7000);
    struct sl_error err = { 0 };
    assert_int_equal(sl_tool_check_arguments(tool, sl_slice_str("{\"what\":\"x\"}"), &err), SL_OK);
    assert_int_equal(sl_tool_check_arguments(tool, sl_slice_str(""), &err), SL_INVALID_ARGUMENT);
    assert_string_equal(err.text, "/: 'what' is missing");
    (void)sl_tool_unref(tool);
}

#define PROCESS(rest) "- {type: Process, name: x, description: d, " rest "}"

static const struct {
    const char *entry, *error;
} mistakes[] = {
    { "- current_tim", "did you mean 'current_time'" },
    { "- shell", "not supported yet by this build" },
    { "- git", "not supported yet by this build" },
    { "- whatever", "there is no tool 'whatever'" },
    { "- [a]", "must be a tool's name or a map" },
    { "- {name: kubectl}", "not supported yet by this build" },
    { "- {type: Shell}", "not supported yet by this build" },
    { "- {type: MCP}", "not supported yet by this build" },
    { "- {type: Proces}", "there is no type 'Proces'" },
    { "- {name: x, source: mcp}", "not supported yet by this build" },
    { "- {source: builtin}", "name" },
    { "- {name: current_time, timeout_sec: 1}", "timeout_secs" },
    { "- {name: current_time, timeout_secs: 0}", "timeout_secs" },
    { "- {name: current_time, timeout_secs: 3601}", "timeout_secs" },
    { "- {name: current_time, max_output_bytes: 1000}", "max_output_bytes" },
    { "- {name: current_time, policy: maybe}", "policy" },
    { "- {name: current_time, forward: [a]}", "only a tool of type Process" },
    { "- {name: current_time, config: {a: b}}", "a" },
    { "- {name: http_request, config: {allow_hosts: ['https://a.b']}}", "not a host" },
    { "- {type: Process, description: d, config: {command: [a]}}", "name" },
    { "- {type: Process, name: 'a b', description: d, config: {command: [a]}}", "letters" },
    { "- {type: Process, name: x, config: {command: [a]}}", "description" },
    { "- {type: Process, name: x, description: d}", "config" },
    { PROCESS("config: {}"), "command" },
    { PROCESS("config: {command: []}"), "must name a program" },
    { PROCESS("config: {command: ['']}"), "must be a program" },
    { PROCESS("config: {command: ['{{a}}']}"), "must be a program" },
    { PROCESS("config: {command: [bin/x]}"), "PATH" },
    { PROCESS("config: {command: [x, '{{a}}']}"), "there is no parameter 'a'" },
    { PROCESS("config: {command: [x, 'a={{a}}']}"), "whole word" },
    { PROCESS("config: {command: [x], cwd: tmp}"), "must begin with '/'" },
    { PROCESS("config: {command: [x], env: {'A B': c}}"), "environment" },
    { PROCESS("config: {command: [x], env: {SLUICE_A: c}}"), "environment" },
    { PROCESS("config: {command: [x], env: {A: 'env:KEY'}}"), "secrets" },
    { PROCESS("config: {command: [x], stdin: pipe}"), "stdin" },
    { PROCESS("config: {command: [x], shell: true}"), "shell" },
    { PROCESS("config: {command: [x]}, parameters: {type: objekt}"), "type" },
    { PROCESS("config: {command: [x]}, parameters: {pattern: a}"), "pattern" },
};

static void mistakes_are_named_at_their_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < SL_COUNT(mistakes); i++) {
        char room[512];
        sl_tool_rig_mistake(&rig, mistakes[i].entry, room);
        if (strncmp(room, "test.yaml:1:", 12) != 0 || strstr(room, mistakes[i].error) == NULL) {
            fail_msg("%s: %s", mistakes[i].entry, room);
        }
    }
}

static void the_daemon_s_policy_is_the_default(void **state)
{
    (void)state;
    struct sl_tool_rig other;
    sl_tool_rig_init(&other, NULL, "tools: {default_policy: deny}");
    struct sl_tool *tool = sl_tool_rig_tool(&other, "- system_info");
    assert_int_equal(sl_tool_info(tool)->policy, SL_TOOL_DENY);
    (void)sl_tool_unref(tool);
    tool = sl_tool_rig_tool(&other, "- {name: system_info, policy: allow}");
    assert_int_equal(sl_tool_info(tool)->policy, SL_TOOL_ALLOW);
    (void)sl_tool_unref(tool);
    sl_tool_rig_done(&other);
}

static void the_daemon_s_configuration_is_checked(void **state)
{
    (void)state;
    static const char *const bad[] = { "tools: {defaultpolicy: deny}",
                                       "tools: {http_request: {allow_hosts: ['a b']}}",
                                       "tools: {http_request: {allow_hosts: a}}",
                                       "tools: {http_request: {allow_private: yes}}",
                                       "tools: {http_request: {max_body: 1}}",
                                       "tools: []" };
    for (size_t i = 0; i < SL_COUNT(bad); i++) {
        struct sl_conf *conf = NULL;
        assert_int_equal(sl_conf_parse(sl_slice_str(bad[i]), "c.yaml", &conf), SL_OK);
        sl_tools_configure(rig.tools, conf, sl_conf_document(conf, 0));
        assert_int_equal(sl_conf_n_errors(conf), 1);
        (void)sl_conf_free(conf);
    }
}

static void current_time_tells_the_time(void **state)
{
    (void)state;
    struct sl_tool_try try;
    sl_tool_rig_call(&rig, &try, "- current_time", "");
    assert_int_equal(try.code, SL_TOOL_OK);
    json_t *json = json_loads(try.json, 0, NULL);
    const char *time = json_string_value(json_object_get(json, "time"));
    assert_int_equal(strlen(time), 20);
    assert_int_equal(time[19], 'Z');
    assert_true(json_integer_value(json_object_get(json, "unix")) > 1700000000);
    json_decref(json);
    sl_tool_try_done(&try);
    sl_tool_rig_call(&rig, &try, "- current_time", "{\"timezone\":\"-03:30\"}");
    assert_non_null(strstr(try.json, "-03:30\",\"timezone\":\"-03:30\""));
    sl_tool_try_done(&try);
    sl_tool_rig_call(&rig, &try, "- current_time", "{\"format\":\"unix\"}");
    assert_int_equal(strncmp(try.json, "{\"time\":1", 9), 0);
    sl_tool_try_done(&try);
    sl_tool_rig_call(&rig, &try, "- current_time", "{\"timezone\":\"Mars\"}");
    assert_int_equal(try.code, SL_TOOL_INVALID_ARGS);
    sl_tool_try_done(&try);
}

static void system_info_names_no_machine(void **state)
{
    (void)state;
    struct sl_tool_try try;
    char host[256] = "";
    (void)gethostname(host, sizeof host - 1);
    sl_tool_rig_call(&rig, &try, "- system_info", "");
    assert_int_equal(try.code, SL_TOOL_OK);
    assert_non_null(strstr(try.json, "\"os\":\"Linux\""));
    assert_true(host[0] == '\0' || strstr(try.json, host) == NULL);
    sl_tool_try_done(&try);
}

static size_t n_allowed;

static bool allow_some(size_t size)
{
    (void)size;
    return n_allowed == 0 ? false : (n_allowed--, true);
}

/* The k-th allocation and all later ones fail: an error or a tool, never a crash or a leak. */
static void no_memory_is_an_error_of_the_file(void **state)
{
    (void)state;
    struct sl_conf *conf = NULL;
    assert_int_equal(
        sl_conf_parse(
            sl_slice_str(
                "- {type: Process, name: x, description: d, config: {command: [a, b], env: "
                "{A: b}, cwd: /tmp}}"),
            "a.yaml", &conf),
        SL_OK);
    const struct sl_conf_node *entry = sl_conf_at(sl_conf_document(conf, 0), 0);
    struct sl_tool *tool = NULL;
    for (size_t k = 0; k < 200 && tool == NULL; k++) {
        n_allowed = k;
        sl_mem_set_gate(allow_some);
        tool = sl_tools_from_conf(rig.tools, conf, entry);
        sl_mem_set_gate(NULL);
    }
    assert_non_null(tool);
    (void)sl_tool_unref(tool);
    (void)sl_conf_free(conf);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_name_is_a_builtin_with_its_defaults),
        TEST(a_map_changes_the_defaults),
        TEST(a_disabled_tool_is_nothing_without_an_error),
        TEST(a_process_tool_is_described),
        TEST(mistakes_are_named_at_their_place),
        TEST(the_daemon_s_policy_is_the_default),
        TEST(the_daemon_s_configuration_is_checked),
        TEST(current_time_tells_the_time),
        TEST(system_info_names_no_machine),
        TEST(no_memory_is_an_error_of_the_file),
    };
    return cmocka_run_group_tests_name("tool_registry", tests, NULL, NULL);
}
