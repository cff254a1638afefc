#include "tests/fake/fake_tool.h"

#include <string.h>

#include "runtime/base/conf.h"
#include "runtime/base/mem.h"

struct sl_tool {
    struct sl_tools *tools;
    unsigned n_refs;
    struct sl_tool_info info;
    char name[64];
};

struct sl_tool_call {
    struct sl_tools *tools;
    struct sl_tool_call_options options;
    char *arguments;
    size_t index;
    struct sl_task cancel_task;
    bool is_cancelled, is_done;
};

void sl_fake_tools_init(struct sl_tools *tools, struct sl_loop *loop)
{
    *tools = (struct sl_tools){ .loop = loop, .start_status = SL_OK };
}

const char *sl_tool_code_name(enum sl_tool_code code)
{
    static const char *const names[] = { "OK",
                                         "INVALID_ARGS",
                                         "UNKNOWN_TOOL",
                                         "DENIED",
                                         "APPROVAL_EXPIRED",
                                         "TIMEOUT",
                                         "CANCELLED",
                                         "EXIT_NONZERO",
                                         "KILLED",
                                         "SPAWN_FAILED",
                                         "OUTPUT_LIMIT",
                                         "OUT_OF_MEMORY",
                                         "HTTP_ERROR",
                                         "MCP_DISCONNECTED",
                                         "MCP_PROTOCOL",
                                         "MCP_TOOL_ERROR",
                                         "NOT_RUN",
                                         "OUTCOME_UNKNOWN",
                                         "INTERNAL" };
    return names[code];
}

static struct sl_tool *make_tool(struct sl_tools *tools, const char *name)
{
    struct sl_tool *tool = sl_calloc(1, sizeof(*tool));
    if (tool == NULL) {
        return NULL;
    }
    tool->tools = tools;
    tool->n_refs = 1;
    strncpy(tool->name, name, sizeof(tool->name) - 1);
    tool->info = (struct sl_tool_info){
        .name = tool->name,
        .description = "A tool of the test.",
        .parameters_json = "{\"type\":\"object\"}",
        .timeout_ms = 60000,
        .max_output_bytes = 65536,
        .policy = strncmp(name, "denied", 6) == 0  ? SL_TOOL_DENY
                  : strncmp(name, "asked", 5) == 0 ? SL_TOOL_ASK
                                                   : SL_TOOL_ALLOW,
    };
    tools->n_tools++;
    return tool;
}

struct sl_tool *sl_fake_tool_new(struct sl_tools *tools, const char *name)
{
    return make_tool(tools, name);
}

struct sl_tool *
sl_tools_from_conf(struct sl_tools *tools, struct sl_conf *conf, const struct sl_conf_node *entry)
{
    const char *name = sl_conf_text(entry);
    if (sl_conf_kind(entry) != SL_CONF_SCALAR || strncmp(name, "no_", 3) == 0) {
        sl_conf_error(conf, entry, "there is no such tool");
        return NULL;
    }
    struct sl_tool *tool = make_tool(tools, name);
    if (tool == NULL) {
        sl_conf_error(conf, entry, "no memory");
    }
    return tool;
}

struct sl_tool *sl_tool_ref(struct sl_tool *tool)
{
    tool->n_refs++;
    return tool;
}

struct sl_tool *sl_tool_unref(struct sl_tool *tool)
{
    if (tool != NULL && --tool->n_refs == 0) {
        tool->tools->n_tools--;
        (void)sl_free(tool);
    }
    return NULL;
}

const struct sl_tool_info *sl_tool_info(const struct sl_tool *tool)
{
    return &tool->info;
}

enum sl_status sl_tool_check_arguments(
    const struct sl_tool *tool, struct sl_slice arguments_json, struct sl_error *err)
{
    (void)tool;
    return arguments_json.size == 0 || arguments_json.data[arguments_json.size - 1] == '}'
               ? SL_OK
               : sl_fail(err, SL_INVALID_ARGUMENT, "no object");
}

static void finish(struct sl_tool_call *call, enum sl_tool_code code, const char *result_json)
{
    const struct sl_tool_result result = {
        .code = code,
        .error = code == SL_TOOL_OK ? "" : "the tool's own words",
        .result_json = sl_slice_str(result_json),
        .result_bytes = strlen(result_json),
        .attempts = call->tools->has_no_room ? 0 : 1,
        .has_exit_code = code == SL_TOOL_EXIT_NONZERO,
        .exit_code = 3,
        .execution_time_ms = 7,
    };
    call->is_done = true;
    call->options.on_done(call, &result, call->options.user_data);
}

static void run_cancel(struct sl_task *task)
{
    struct sl_tool_call *call = SL_CONTAINER(task, struct sl_tool_call, cancel_task);
    finish(call, SL_TOOL_CANCELLED, "");
}

enum sl_status sl_tool_call_start(
    struct sl_tools *tools,
    struct sl_loop *loop,
    const struct sl_tool_call_options *options,
    struct sl_tool_call **ret_call)
{
    (void)loop;
    if (tools->start_status != SL_OK || tools->n_started == SL_FAKE_TOOL_CALLS) {
        return SL_RESOURCE_EXHAUSTED;
    }
    struct sl_tool_call *call = sl_calloc(1, sizeof(*call));
    if (call == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    call->arguments =
        sl_strndup((const char *)options->arguments_json.data, options->arguments_json.size);
    if (call->arguments == NULL) {
        (void)sl_free(call);
        return SL_RESOURCE_EXHAUSTED;
    }
    call->tools = tools;
    call->options = *options;
    call->index = tools->n_started;
    call->cancel_task.run = run_cancel;
    tools->calls[tools->n_started++] = call;
    tools->remaining_ms = options->remaining_ms;
    tools->n_live++;
    if (tools->n_live > tools->n_most_live) {
        tools->n_most_live = tools->n_live;
    }
    *ret_call = call;
    return SL_OK;
}

uint64_t sl_tool_call_bytes(const struct sl_tool_call *call)
{
    return sizeof(*call) + call->tools->call_bytes;
}

void sl_tool_call_cancel(struct sl_tool_call *call)
{
    if (call->is_cancelled) {
        return;
    }
    call->is_cancelled = true;
    call->tools->n_cancelled++;
    if (!call->tools->ignores_cancel) {
        sl_loop_defer(call->tools->loop, &call->cancel_task);
    }
}

struct sl_tool_call *sl_tool_call_free(struct sl_tool_call *call)
{
    if (call != NULL) {
        assert(call->is_done);
        call->tools->calls[call->index] = NULL;
        call->tools->n_live--;
        (void)sl_free(call->arguments);
    }
    return sl_free(call);
}

void sl_fake_tool_done(
    struct sl_tools *tools, size_t index, enum sl_tool_code code, const char *result_json)
{
    assert(index < tools->n_started && tools->calls[index] != NULL);
    finish(tools->calls[index], code, result_json);
}

void sl_fake_tool_output(struct sl_tools *tools, size_t index, bool is_stderr, const char *text)
{
    struct sl_tool_call *call = tools->calls[index];
    call->options.on_output(call, is_stderr, sl_slice_str(text), call->options.user_data);
}

const char *sl_fake_tool_arguments(const struct sl_tools *tools, size_t index)
{
    return tools->calls[index]->arguments;
}

const struct sl_credentials *sl_fake_tool_credentials(const struct sl_tools *tools, size_t index)
{
    return tools->calls[index]->options.credentials;
}
