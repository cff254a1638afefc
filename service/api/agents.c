#include "service/api/agents.h"

#include <inttypes.h>
#include <stdio.h>

#include "runtime/base/mem.h"
#include "runtime/base/parse.h"

enum { PAGE_DEFAULT = 100, PAGE_MAX = 1000, TOKEN_MAX = INT32_MAX };

/* The messages only borrow: agents are there until the handler has returned to the loop, and the
 * reply is packed before; lists lie in the call's arena. protobuf-c has no const, and packing
 * changes nothing. */
static char *borrow(const char *text)
{
    return sl_unconst(text);
}

static enum sl_status
fill_labels(const struct sl_agent_info *info, struct sl_arena *arena, Sluice__V1__Agent *agent)
{
    agent->labels =
        sl_arena_calloc(arena, info->n_labels, sizeof(Sluice__V1__Agent__LabelsEntry *));
    Sluice__V1__Agent__LabelsEntry *entries =
        sl_arena_calloc(arena, info->n_labels, sizeof(*entries));
    if (info->n_labels > 0 && (agent->labels == NULL || entries == NULL)) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < info->n_labels; i++) {
        sluice__v1__agent__labels_entry__init(&entries[i]);
        entries[i].key = borrow(info->label_keys[i]);
        entries[i].value = borrow(info->label_values[i]);
        agent->labels[i] = &entries[i];
    }
    agent->n_labels = info->n_labels;
    return SL_OK;
}

static enum sl_status
fill_annotations(const struct sl_agent_info *info, struct sl_arena *arena, Sluice__V1__Agent *agent)
{
    agent->annotations =
        sl_arena_calloc(arena, info->n_annotations, sizeof(Sluice__V1__Agent__AnnotationsEntry *));
    Sluice__V1__Agent__AnnotationsEntry *entries =
        sl_arena_calloc(arena, info->n_annotations, sizeof(*entries));
    if (info->n_annotations > 0 && (agent->annotations == NULL || entries == NULL)) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < info->n_annotations; i++) {
        sluice__v1__agent__annotations_entry__init(&entries[i]);
        entries[i].key = borrow(info->annotation_keys[i]);
        entries[i].value = borrow(info->annotation_values[i]);
        agent->annotations[i] = &entries[i];
    }
    agent->n_annotations = info->n_annotations;
    return SL_OK;
}

static enum sl_status
fill_tools(const struct sl_agent_info *info, struct sl_arena *arena, Sluice__V1__Agent *agent)
{
    agent->tools = sl_arena_calloc(arena, info->n_tools, sizeof(Sluice__V1__ToolDefinition *));
    Sluice__V1__ToolDefinition *tools = sl_arena_calloc(arena, info->n_tools, sizeof(*tools));
    if (info->n_tools > 0 && (agent->tools == NULL || tools == NULL)) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < info->n_tools; i++) {
        sluice__v1__tool_definition__init(&tools[i]);
        tools[i].name = borrow(info->tools[i].name);
        tools[i].description = borrow(info->tools[i].description);
        tools[i].parameters_json = borrow(info->tools[i].parameters_json);
        agent->tools[i] = &tools[i];
    }
    agent->n_tools = info->n_tools;
    return SL_OK;
}

static enum sl_status
fill_agent(const struct sl_agent_info *info, struct sl_arena *arena, Sluice__V1__Agent **ret_agent)
{
    Sluice__V1__Agent *agent = sl_arena_alloc(arena, sizeof(*agent));
    if (agent == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    sluice__v1__agent__init(agent);
    agent->name = borrow(info->name);
    agent->version = borrow(info->version);
    agent->model = borrow(info->model);
    agent->provider = borrow(info->provider);
    agent->problems = sl_arena_calloc(arena, info->n_problems, sizeof(agent->problems[0]));
    if (info->n_problems > 0 && agent->problems == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < info->n_problems; i++) {
        agent->problems[i] = borrow(info->problems[i]);
    }
    agent->n_problems = info->n_problems;
    SL_TRY(fill_labels(info, arena, agent));
    SL_TRY(fill_annotations(info, arena, agent));
    SL_TRY(fill_tools(info, arena, agent));
    *ret_agent = agent;
    return SL_OK;
}

static enum sl_status refuse_token(struct sl_call *call)
{
    const struct sl_metadatum info = { sl_slice_str("run_started"), sl_slice_str("false") };
    const struct sl_call_status status = { .code = SL_INVALID_ARGUMENT,
                                           .message = "page_token: not a token of this server",
                                           .reason = "INVALID_REQUEST",
                                           .info = &info,
                                           .n_info = 1 };
    return sl_call_fail(call, &status);
}

/* The part of what the caller may see that is his page. `*ret_n_seen` is how many he may see: up to
 * the page's end, and one more where it is not the last. */
static enum sl_status fill_page(
    const struct sl_runtime *runtime,
    const struct sl_identity *identity,
    struct sl_call *call,
    uint64_t first,
    uint64_t size,
    Sluice__V1__ListAgentsResponse *reply,
    uint64_t *ret_n_seen)
{
    const struct sl_loop *loop = sl_call_loop(call);
    const uint64_t n_agents = sl_runtime_n_agents(runtime, loop);
    uint64_t n_seen = 0;
    for (uint64_t i = 0; i < n_agents && n_seen <= first + size; i++) {
        const struct sl_agent_info *info = sl_runtime_agent_at(runtime, loop, i);
        if (!sl_identify_may_see(identity, call, info->name)) {
            continue;
        }
        n_seen++;
        if (n_seen <= first || n_seen > first + size) {
            continue;
        }
        SL_TRY(fill_agent(info, sl_call_arena(call), &reply->agents[reply->n_agents]));
        reply->n_agents++;
    }
    *ret_n_seen = n_seen;
    return SL_OK;
}

enum sl_status sl_agents_list(
    const struct sl_runtime *runtime,
    struct sl_identify *identify,
    struct sl_call *call,
    const Sluice__V1__ListAgentsRequest *request,
    Sluice__V1__ListAgentsResponse *reply)
{
    struct sl_arena *arena = sl_call_arena(call);
    const struct sl_loop *loop = sl_call_loop(call);
    if (sl_runtime_limits(runtime, loop) == NULL) {
        return SL_UNAVAILABLE;
    }
    const uint64_t n_agents = sl_runtime_n_agents(runtime, loop);
    uint64_t first = 0; /* of those that the caller may see: the others do not show in the token */
    uint64_t n_seen = 0;
    if (request->page_token[0] != '\0' &&
        sl_parse_u64(sl_slice_str(request->page_token), 0, TOKEN_MAX, &first) != SL_OK) {
        return refuse_token(call);
    }
    uint64_t size = request->page_size == 0 ? PAGE_DEFAULT : request->page_size;
    size = size > PAGE_MAX ? PAGE_MAX : size;
    const uint64_t n_left = first < n_agents ? n_agents - first : 0;
    size = size > n_left ? n_left : size;
    reply->agents = sl_arena_calloc(arena, size, sizeof(Sluice__V1__Agent *));
    if (reply->agents == NULL && size > 0) {
        return SL_RESOURCE_EXHAUSTED;
    }
    struct sl_identity *identity = sl_identify_take(identify);
    const enum sl_status status = fill_page(runtime, identity, call, first, size, reply, &n_seen);
    (void)sl_identity_unref(identity);
    SL_TRY(status);
    if (n_seen < first) {
        return refuse_token(call);
    }
    if (n_seen > first + size) {
        char token[24];
        (void)snprintf(token, sizeof(token), "%" PRIu64, first + size);
        reply->next_page_token = sl_arena_dup(arena, sl_slice_str(token));
        return reply->next_page_token == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
    }
    return SL_OK;
}
