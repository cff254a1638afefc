/* Tools of a run's client (AL-6.8). The run waits for their results; here is only what is checked.
 */
#include <stdlib.h>

#include "runtime/base/mem.h"
#include "runtime/tool/kind.h"
#include "runtime/tool/schema.h"

enum { NAME_BYTES = 64, OUTPUT_BYTES = 65536, SCHEMA_BYTES = 1048576 };

const struct sl_tool_kind sl_tool_kind_client = { .name = "client" };

static bool is_name(const char *name)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    const size_t size = strlen(name);
    return size > 0 && size <= NAME_BYTES && strspn(name, letters) == size;
}

/* No schema means: any object. */
static enum sl_status
read_schema(const char *parameters_json, json_t **ret_parameters, struct sl_error *err)
{
    const bool has_schema = parameters_json != NULL && parameters_json[0] != '\0';
    const char *text = has_schema ? parameters_json : "{\"type\":\"object\"}";
    SL_TRY(sl_schema_parse_object(sl_slice_str(text), SCHEMA_BYTES, ret_parameters, err));
    return sl_schema_check(*ret_parameters, err);
}

static enum sl_status
fill(struct sl_tool *tool, const struct sl_tools *tools, const char *name, const char *description)
{
    char *dump = json_dumps(tool->parameters, JSON_COMPACT);
    tool->info = (struct sl_tool_info){
        .name = sl_arena_dup(&tool->arena, sl_slice_str(name)),
        .description = sl_arena_dup(&tool->arena, sl_slice_str(description)),
        .parameters_json = sl_arena_dup(&tool->arena, sl_slice_str(dump)),
        .timeout_ms = tools->limits->client_tool,
        .max_output_bytes = OUTPUT_BYTES,
        .policy = tools->default_policy,
    };
    const bool has_memory = dump != NULL && tool->info.name != NULL &&
                            tool->info.description != NULL && tool->info.parameters_json != NULL;
    free(dump);
    tool->max_arguments_bytes = (size_t)tools->limits->tool_arguments;
    return has_memory ? SL_OK : SL_RESOURCE_EXHAUSTED;
}

enum sl_status sl_tools_add_client(
    const struct sl_tools *tools,
    const char *name,
    const char *description,
    const char *parameters_json,
    struct sl_tool **ret_tool,
    struct sl_error *err)
{
    if (!is_name(name)) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "name: must be 1 to %d of a-z, A-Z, 0-9, '_', '-'",
            (int)NAME_BYTES);
    }
    struct sl_tool *tool = sl_tool_new(&sl_tool_kind_client);
    if (tool == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "out of memory");
    }
    struct sl_error wrong = { .text = "" };
    enum sl_status status = read_schema(parameters_json, &tool->parameters, &wrong);
    if (status != SL_OK) {
        status = sl_fail(err, status, "parameters_json: %.200s", wrong.text);
    } else if (fill(tool, tools, name, description) != SL_OK) {
        status = sl_fail(err, SL_RESOURCE_EXHAUSTED, "out of memory");
    }
    if (status != SL_OK) {
        (void)sl_tool_unref(tool);
        return status;
    }
    *ret_tool = tool;
    return SL_OK;
}
