#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/model/http.h"
#include "runtime/tool/kind.h"
#include "runtime/tool/schema.h"

/* Names of enum sl_tool_code, in its order; those of sluice.v1.ToolErrorCode. */
static const char *const code_names[] = {
    [SL_TOOL_OK] = "OK",
    [SL_TOOL_INVALID_ARGS] = "INVALID_ARGS",
    [SL_TOOL_UNKNOWN_TOOL] = "UNKNOWN_TOOL",
    [SL_TOOL_DENIED] = "DENIED",
    [SL_TOOL_APPROVAL_EXPIRED] = "APPROVAL_EXPIRED",
    [SL_TOOL_TIMEOUT] = "TIMEOUT",
    [SL_TOOL_CANCELLED] = "CANCELLED",
    [SL_TOOL_EXIT_NONZERO] = "EXIT_NONZERO",
    [SL_TOOL_KILLED] = "KILLED",
    [SL_TOOL_SPAWN_FAILED] = "SPAWN_FAILED",
    [SL_TOOL_OUTPUT_LIMIT] = "OUTPUT_LIMIT",
    [SL_TOOL_OUT_OF_MEMORY] = "OUT_OF_MEMORY",
    [SL_TOOL_HTTP_ERROR] = "HTTP_ERROR",
    [SL_TOOL_MCP_DISCONNECTED] = "MCP_DISCONNECTED",
    [SL_TOOL_MCP_PROTOCOL] = "MCP_PROTOCOL",
    [SL_TOOL_MCP_TOOL_ERROR] = "MCP_TOOL_ERROR",
    [SL_TOOL_NOT_RUN] = "NOT_RUN",
    [SL_TOOL_OUTCOME_UNKNOWN] = "OUTCOME_UNKNOWN",
    [SL_TOOL_INTERNAL] = "INTERNAL",
};

const char *sl_tool_code_name(enum sl_tool_code code)
{
    return (size_t)code < SL_COUNT(code_names) ? code_names[code] : "?";
}

void sl_outcome_fail(struct sl_tool_outcome *outcome, enum sl_tool_code code, const char *fmt, ...)
{
    outcome->code = code;
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(outcome->error, sizeof outcome->error, fmt, args);
    va_end(args);
}

/* ---- Tools --------------------------------------------------------------------------------------
 */

struct sl_tool *sl_tool_new(const struct sl_tool_kind *kind)
{
    struct sl_tool *tool = sl_calloc(1, sizeof *tool);
    if (tool != NULL) {
        tool->kind = kind;
        tool->n_refs = 1;
        sl_arena_init(&tool->arena, 0);
    }
    return tool;
}

struct sl_tool *sl_tool_ref(struct sl_tool *tool)
{
    (void)__atomic_add_fetch(&tool->n_refs, 1, __ATOMIC_RELAXED);
    return tool;
}

struct sl_tool *sl_tool_unref(struct sl_tool *tool)
{
    if (tool != NULL && __atomic_sub_fetch(&tool->n_refs, 1, __ATOMIC_ACQ_REL) == 0) {
        json_decref(tool->parameters);
        sl_arena_done(&tool->arena);
        sl_free(tool);
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
    json_t *arguments = NULL;
    SL_TRY(sl_schema_parse_object(arguments_json, tool->max_arguments_bytes, &arguments, err));
    const enum sl_status status = sl_schema_validate(tool->parameters, arguments, err);
    json_decref(arguments);
    return status;
}

/* ---- Slots --------------------------------------------------------------------------------------
 */

enum sl_status sl_tool_slots_new(uint64_t max, struct sl_tool_slots **ret_slots)
{
    struct sl_tool_slots *slots = sl_calloc(1, sizeof *slots);
    if (slots == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    slots->max = (size_t)max;
    sl_list_init(&slots->waiting);
    (void)pthread_mutex_init(&slots->lock, NULL);
    *ret_slots = slots;
    return SL_OK;
}

struct sl_tool_slots *sl_tool_slots_free(struct sl_tool_slots *slots)
{
    if (slots != NULL) {
        (void)pthread_mutex_destroy(&slots->lock);
        sl_free(slots);
    }
    return NULL;
}

/* ---- The set ------------------------------------------------------------------------------------
 */

/* The value of NAME among "NAME=value" texts. */
static const char *find_variable(const char *const *environment, const char *name)
{
    const size_t size = strlen(name);
    for (; environment != NULL && *environment != NULL; environment++) {
        if (strncmp(*environment, name, size) == 0 && (*environment)[size] == '=') {
            return *environment + size + 1;
        }
    }
    return NULL;
}

/* A copy, or `fallback` when the variable is not set; NULL with `fallback` NULL. False: no memory.
 */
static bool copy_variable(
    struct sl_tools *tools,
    const struct sl_tools_options *options,
    const char *name,
    const char *fallback,
    const char **ret_value)
{
    const char *value = find_variable(options->environment, name);
    if (value == NULL || *value == '\0') {
        *ret_value = fallback;
        return true;
    }
    *ret_value = sl_arena_dup(&tools->arena, sl_slice_str(value));
    return *ret_value != NULL;
}

static void process_gone(struct sl_process_room *room)
{
    sl_tools_loop_check(SL_CONTAINER(room, struct sl_tools_loop, room));
}

/* The slot of its call was kept for it. */
static void process_died_late(struct sl_process_room *room)
{
    sl_tools_give_back_slot(SL_CONTAINER(room, struct sl_tools_loop, room)->tools);
}

static bool take_slots(struct sl_tools *tools, const struct sl_tools_options *options)
{
    tools->slots = options->slots;
    tools->owns_slots = options->slots == NULL;
    return !tools->owns_slots || sl_tool_slots_new(options->limits->tools, &tools->slots) == SL_OK;
}

static bool copy_options(struct sl_tools *tools, const struct sl_tools_options *options)
{
    if (!take_slots(tools, options)) {
        return false;
    }
    tools->loops = sl_calloc(options->n_loops + 1, sizeof *tools->loops);
    if (tools->loops == NULL) {
        return false;
    }
    tools->n_loops = options->n_loops;
    for (size_t i = 0; i < options->n_loops; i++) {
        tools->loops[i].tools = tools;
        tools->loops[i].loop = options->loops[i];
        tools->loops[i].room = (struct sl_process_room){ .loop = options->loops[i],
                                                         .limits = options->limits,
                                                         .n_children = &tools->n_children,
                                                         .on_gone = process_gone,
                                                         .on_late_end = process_died_late };
        sl_list_init(&tools->loops[i].room.processes);
    }
    if (options->launcher != NULL) {
        tools->launcher = sl_arena_dup(&tools->arena, sl_slice_str(options->launcher));
        if (tools->launcher == NULL) {
            return false;
        }
    }
    for (size_t i = 0; i < options->n_loops; i++) {
        tools->loops[i].room.launcher = tools->launcher;
    }
    return copy_variable(tools, options, "PATH", "/usr/local/bin:/usr/bin:/bin", &tools->path) &&
           copy_variable(tools, options, "LANG", "C.UTF-8", &tools->lang) &&
           copy_variable(tools, options, "TZ", NULL, &tools->time_zone);
}

enum sl_status sl_tools_new(
    const struct sl_tools_options *options, struct sl_tools **ret_tools, struct sl_error *err)
{
    struct sl_tools *tools = sl_calloc(1, sizeof *tools);
    if (tools == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for tools");
    }
    tools->limits = options->limits;
    tools->default_policy = SL_TOOL_ALLOW;
    tools->http_max_body_bytes = options->limits->tool_http_body;
    if (tools->http_max_body_bytes > options->limits->tool_output_kill) {
        tools->http_max_body_bytes = options->limits->tool_output_kill;
    }
    sl_arena_init(&tools->arena, 0);
    if (!copy_options(tools, options)) {
        (void)sl_tools_free(tools);
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for tools");
    }
    *ret_tools = tools;
    return SL_OK;
}

struct sl_tools *sl_tools_free(struct sl_tools *tools)
{
    if (tools != NULL) {
        if (tools->owns_slots) {
            (void)sl_tool_slots_free(tools->slots);
        }
        sl_arena_done(&tools->arena);
        sl_free(tools->loops);
        sl_free(tools);
    }
    return NULL;
}

size_t sl_tools_n_calls(const struct sl_tools *tools)
{
    return __atomic_load_n(&tools->n_calls, __ATOMIC_RELAXED);
}

size_t sl_tools_n_children(const struct sl_tools *tools)
{
    return __atomic_load_n(&tools->n_children, __ATOMIC_RELAXED);
}

void sl_tools_each_child(
    struct sl_tools *tools,
    const struct sl_loop *loop,
    void (*visit)(const struct sl_tool_child *child, void *user_data),
    void *user_data)
{
    struct sl_tools_loop *at = sl_tools_loop_of(tools, loop);
    if (at != NULL) {
        sl_process_room_each(&at->room, visit, user_data);
    }
}

struct sl_tools_loop *sl_tools_loop_of(struct sl_tools *tools, const struct sl_loop *loop)
{
    for (size_t i = 0; i < tools->n_loops; i++) {
        if (tools->loops[i].loop == loop) {
            return &tools->loops[i];
        }
    }
    return NULL;
}

/* ---- Closing ------------------------------------------------------------------------------------
 */

static void http_closed(void *user_data)
{
    struct sl_tools_loop *at = user_data;
    at->http = NULL;
    at->is_http_closing = false;
    sl_tools_loop_check(at);
}

static void say_closed(struct sl_task *task)
{
    struct sl_tools_loop *at = SL_CONTAINER(task, struct sl_tools_loop, task);
    void (*on_closed)(void *) = SL_TAKE(at->on_closed);
    if (on_closed != NULL) {
        on_closed(at->user_data);
    }
}

void sl_tools_loop_check(struct sl_tools_loop *at)
{
    if (at->on_closed == NULL || !sl_list_is_empty(&at->room.processes) || at->is_http_closing) {
        return;
    }
    if (at->http != NULL) {
        at->is_http_closing = true;
        sl_http_close(at->http, http_closed, at);
        return;
    }
    at->task.run = say_closed;
    sl_loop_defer(at->loop, &at->task);
}

void sl_tools_close_loop(
    struct sl_tools *tools,
    struct sl_loop *loop,
    void (*on_closed)(void *user_data),
    void *user_data)
{
    struct sl_tools_loop *at = sl_tools_loop_of(tools, loop);
    assert(at != NULL);
    at->on_closed = on_closed;
    at->user_data = user_data;
    sl_process_room_close(&at->room);
    sl_tools_loop_check(at);
}
