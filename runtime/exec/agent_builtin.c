#include "runtime/exec/agent_builtin.h"

#include <string.h>

static const char demo_yaml[] = "name: demo\n"
                                "provider: scripted\n"
                                "model: demo\n"
                                "instructions: You show what a run looks like.\n"
                                "tools: [current_time, system_info]\n";

/* Two iterations before the answer: two tools at once, then one more, so that every kind of event
 * of an ordinary run is seen. */
static const char demo_scenario[] =
    "model: demo-1\n"
    "turns:\n"
    "  - steps:\n"
    "      - thinking: \"I should look at the clock and at the machine before I answer.\"\n"
    "        pace: {unit: words, size: 2, delay_ms: 30}\n"
    "      - text: \"Let me look at the clock and at this machine. \"\n"
    "        pace: {unit: words, size: 1, delay_ms: 45}\n"
    "      - tool_call: {name: current_time, arguments: {}, fragments: 2}\n"
    "      - tool_call: {name: system_info, arguments: {}, fragments: 2}\n"
    "      - usage: {input: 182, output: 41, reasoning: 16}\n"
    "      - finish: tool_calls\n"
    "  - steps:\n"
    "      - thinking: \"Both answered. One more look at the clock shows how long that took.\"\n"
    "        pace: {unit: words, size: 2, delay_ms: 30}\n"
    "      - text: \"Both tools ran at the same time. I look at the clock once more. \"\n"
    "        pace: {unit: words, size: 1, delay_ms: 45}\n"
    "      - tool_call: {name: current_time, arguments: {}, fragments: 1}\n"
    "      - usage: {input: 291, output: 33, cached: 182, reasoning: 15}\n"
    "      - finish: tool_calls\n"
    "  - steps:\n"
    "      - text: \"You said: {{input}}\\n\\nThe last tool answered: "
    "{{last_tool_result}}\\n\\n\"\n"
    "        pace: {unit: words, size: 1, delay_ms: 20}\n"
    "      - text: \"That is a run: three iterations, three tool calls, two of them in parallel, "
    "and\n"
    "          every event in order. Cancel the stream at any time and everything stops. \"\n"
    "        pace: {unit: words, size: 1, delay_ms: 45}\n"
    "      - usage: {input: 377, output: 88, cached: 291}\n"
    "      - finish: stop\n";

static const char echo_yaml[] = "name: echo\n"
                                "provider: echo\n"
                                "model: echo\n"
                                "memory: None\n"
                                "durability: NONE\n";

static const char load_yaml[] = "name: load\n"
                                "provider: load\n"
                                "model: load\n"
                                "memory: None\n"
                                "durability: NONE\n"
                                "heartbeat_ms: 0\n"
                                "tools: [current_time]\n"
                                "max_iterations: 2\n";

const struct sl_agent_builtin sl_agent_builtins[] = {
    { .name = "demo", .yaml = demo_yaml, .scenario_name = "demo", .scenario = demo_scenario },
    { .name = "echo", .yaml = echo_yaml, .is_never_recorded = true },
    { .name = "load", .yaml = load_yaml, .is_never_recorded = true, .omits_content = true },
};
const size_t sl_agent_n_builtins = sizeof(sl_agent_builtins) / sizeof(sl_agent_builtins[0]);

const struct sl_agent_builtin *sl_agent_builtin_find(const char *name)
{
    for (size_t i = 0; i < sl_agent_n_builtins; i++) {
        if (strcmp(sl_agent_builtins[i].name, name) == 0) {
            return &sl_agent_builtins[i];
        }
    }
    return NULL;
}
