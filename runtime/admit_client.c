/* The tools that a client brings to its run (AL-6.8): counted, named, and with a schema. */
#include <inttypes.h>

#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/runtime_private.h"

#define REFUSE_INVALID(stream, ...)                                                                \
    sl_run_refuse((stream), SL_INVALID_ARGUMENT, "INVALID_REQUEST", __VA_ARGS__)

static bool check_sizes(struct sl_run_stream *stream, const struct sl_run_spec *spec)
{
    const struct sl_limits *limits = &stream->generation->limits;
    size_t bytes = 0;
    if (spec->n_client_tools > limits->client_tools) {
        sl_limit_reached(SL_LIMIT_client_tools);
        REFUSE_INVALID(
            stream, "options.client_tools: %zu of them, at most %" PRIu64, spec->n_client_tools,
            limits->client_tools);
        return false;
    }
    for (size_t i = 0; i < spec->n_client_tools; i++) {
        const struct sl_agent_tool *tool = &spec->client_tools[i];
        bytes += sl_slice_str(tool->name).size + sl_slice_str(tool->description).size +
                 sl_slice_str(tool->parameters_json).size;
    }
    if (bytes > limits->client_tools_size) {
        sl_limit_reached(SL_LIMIT_client_tools_size);
        REFUSE_INVALID(
            stream, "options.client_tools: %zu bytes, at most %" PRIu64, bytes,
            limits->client_tools_size);
        return false;
    }
    return true;
}

static bool is_taken(const struct sl_run_stream *stream, const char *name)
{
    const struct sl_agent *agent = stream->start.agent;
    for (size_t i = 0; i < agent->n_tools; i++) {
        if (strcmp(agent->chat_tools[i].name, name) == 0) {
            return true;
        }
    }
    for (size_t i = 0; i < stream->start.n_client_tools; i++) {
        if (strcmp(sl_tool_info(stream->start.client_tools[i])->name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* False: it was refused, or `*ret_status` says that there is no memory. */
static bool add_tool(
    struct sl_run_stream *stream,
    const struct sl_agent_tool *given,
    size_t index,
    enum sl_status *ret_status)
{
    struct sl_error err = { .text = "" };
    struct sl_tool *tool = NULL;
    const char *name = given->name == NULL ? "" : given->name;
    const enum sl_status status = sl_tools_add_client(
        stream->generation->tools, name, given->description, given->parameters_json, &tool, &err);
    if (status == SL_RESOURCE_EXHAUSTED) {
        *ret_status = status;
        return false;
    }
    if (status != SL_OK) {
        REFUSE_INVALID(stream, "options.client_tools[%zu].%s", index, err.text);
        return false;
    }
    if (is_taken(stream, name)) {
        REFUSE_INVALID(
            stream, "options.client_tools[%zu].name: there is another tool '%s'", index, name);
        (void)sl_tool_unref(tool);
        return false;
    }
    stream->start.client_tools[stream->start.n_client_tools++] = tool;
    return true;
}

enum sl_status sl_run_admit_client_tools(
    struct sl_run_stream *stream, const struct sl_run_spec *spec, bool *ret_is_accepted)
{
    enum sl_status status = SL_OK;
    *ret_is_accepted = check_sizes(stream, spec);
    if (!*ret_is_accepted || spec->n_client_tools == 0) {
        return SL_OK;
    }
    stream->start.client_tools = sl_calloc(spec->n_client_tools, sizeof(struct sl_tool *));
    if (stream->start.client_tools == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < spec->n_client_tools && *ret_is_accepted; i++) {
        *ret_is_accepted = add_tool(stream, &spec->client_tools[i], i, &status);
    }
    return status;
}

void sl_run_drop_client_tools(struct sl_run_stream *stream)
{
    for (size_t i = 0; i < stream->start.n_client_tools; i++) {
        (void)sl_tool_unref(stream->start.client_tools[i]);
    }
    stream->start.n_client_tools = 0;
    stream->start.client_tools = sl_free(stream->start.client_tools);
}
