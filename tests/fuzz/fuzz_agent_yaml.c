/* Property: whatever the file says, it is either taken, and then every agent in it is complete and
 * within its bounds, or there is at least one message, and then nothing was taken. A file that was
 * taken once is refused the second time (its names are there), and its version is the same in
 * another registry. */
#include <stdlib.h>
#include <string.h>

#include "runtime/exec/agent.h"
#include "tests/fake/fake_model.h"
#include "tests/fake/fake_tool.h"
#include "tests/fuzz/fuzz.h"

static size_t n_problems;

static void count_problem(const char *line, void *user_data)
{
    (void)user_data;
    if (strncmp(line, "a.yaml:", 7) != 0) {
        abort();
    }
    n_problems++;
}

static void check_agent(const struct sl_agent *agent, const struct sl_limits *limits)
{
    const bool is_complete = agent->name != NULL && agent->name[0] != '\0' &&
                             strlen(agent->name) <= SL_AGENT_NAME_BYTES && agent->version != NULL &&
                             strlen(agent->version) == SL_AGENT_VERSION_CHARS &&
                             agent->model != NULL && agent->provider != NULL;
    const bool is_bounded =
        agent->max_iterations >= 1 && agent->max_iterations <= limits->iterations &&
        agent->run_timeout_ms >= 1 && agent->run_timeout_ms <= limits->run_timeout &&
        agent->parallel_tools >= 1 && agent->parallel_tools <= limits->parallel_tools &&
        agent->heartbeat_ms <= 60000;
    if (!is_complete || !is_bounded) {
        abort();
    }
    for (size_t i = 0; i < agent->n_tools; i++) {
        if (strcmp(agent->chat_tools[i].name, sl_tool_info(agent->tools[i])->name) != 0) {
            abort();
        }
    }
}

static void compare(const struct sl_agents *one, const struct sl_agents *two)
{
    const struct sl_agent *a = sl_agents_first(one);
    const struct sl_agent *b = sl_agents_first(two);
    for (; a != NULL && b != NULL; a = a->next, b = b->next) {
        if (strcmp(a->name, b->name) != 0 || strcmp(a->version, b->version) != 0 ||
            sl_agents_find(one, a->name) != a) {
            abort();
        }
    }
    if (a != b) {
        abort();
    }
}

static bool load(struct sl_agents *agents, struct sl_slice yaml)
{
    n_problems = 0;
    const enum sl_status status = sl_agents_add_yaml(agents, yaml, "a.yaml", count_problem, NULL);
    if ((status == SL_OK) != (n_problems == 0) ||
        (status != SL_OK && status != SL_INVALID_ARGUMENT)) {
        abort();
    }
    return status == SL_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_limits limits;
    struct sl_models models;
    struct sl_tools tools;
    struct sl_agents *one = NULL;
    struct sl_agents *two = NULL;
    sl_limits_init(&limits);
    sl_fake_models_init(&models);
    sl_fake_tools_init(&tools, NULL);
    const struct sl_agents_options options = { .models = &models,
                                               .tools = &tools,
                                               .limits = &limits };
    if (sl_agents_new(&options, &one) != SL_OK || sl_agents_new(&options, &two) != SL_OK) {
        abort();
    }
    const struct sl_slice yaml = sl_slice_of(data, size);
    const bool is_taken = load(one, yaml);
    if (is_taken != load(two, yaml) || (!is_taken && sl_agents_size(one) != 0) ||
        (is_taken && load(one, yaml))) {
        abort();
    }
    compare(one, two);
    for (const struct sl_agent *agent = sl_agents_first(one); agent != NULL; agent = agent->next) {
        check_agent(agent, &limits);
    }
    (void)sl_agents_free(one);
    (void)sl_agents_free(two);
    if (tools.n_tools != 0) {
        abort();
    }
    return 0;
}
