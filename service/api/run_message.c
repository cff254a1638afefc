#include "service/api/run_message.h"

#include "runtime/base/mem.h"
#include "service/rpc/rpc.h"

/* The messages only borrow what the answer holds until the reply is packed. protobuf-c has no
 * const, and packing changes nothing. */
static char *borrow(const char *text)
{
    return sl_unconst(text == NULL ? "" : text);
}

Sluice__V1__RunState sl_run_message_state(enum sl_run_stage stage)
{
    switch (stage) {
    case SL_RUN_STAGE_QUEUED:
        return SLUICE__V1__RUN_STATE__RUN_STATE_QUEUED;
    case SL_RUN_STAGE_RUNNING:
        return SLUICE__V1__RUN_STATE__RUN_STATE_RUNNING;
    case SL_RUN_STAGE_WAITING_APPROVAL:
        return SLUICE__V1__RUN_STATE__RUN_STATE_WAITING_APPROVAL;
    case SL_RUN_STAGE_DONE:
        return SLUICE__V1__RUN_STATE__RUN_STATE_DONE;
    case SL_RUN_STAGE_FAILED:
        return SLUICE__V1__RUN_STATE__RUN_STATE_FAILED;
    case SL_RUN_STAGE_CANCELLED:
        return SLUICE__V1__RUN_STATE__RUN_STATE_CANCELLED;
    case SL_RUN_STAGE_ANY:
        break;
    }
    return SLUICE__V1__RUN_STATE__RUN_STATE_UNSPECIFIED;
}

/* The last event says how it ended; unless there was no memory for such a one. */
static enum sl_status fill_ending(
    const struct sl_run_info *info,
    const struct sl_limits *limits,
    struct sl_arena *arena,
    Sluice__V1__Run *run)
{
    struct sl_error err;
    void *message;
    if (info->terminal.size == 0) {
        return SL_OK;
    }
    SL_TRY(sl_codec_proto.decode(
        limits, &sluice__v1__stream_event__descriptor, info->terminal, arena, &message, &err));
    const Sluice__V1__StreamEvent *event = message;
    if (event->event_case == SLUICE__V1__STREAM_EVENT__EVENT_DONE) {
        run->ending_case = SLUICE__V1__RUN__ENDING_DONE;
        run->done = event->done;
    } else if (event->event_case == SLUICE__V1__STREAM_EVENT__EVENT_ERROR) {
        run->ending_case = SLUICE__V1__RUN__ENDING_ERROR;
        run->error = event->error;
    }
    return SL_OK;
}

static enum sl_status
fill_usage(const struct sl_run_usage *from, struct sl_arena *arena, Sluice__V1__Run *run)
{
    Sluice__V1__Usage *usage = sl_arena_alloc(arena, sizeof(*usage));
    if (usage == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    sluice__v1__usage__init(usage);
    usage->input_tokens = from->input_tokens;
    usage->output_tokens = from->output_tokens;
    usage->cache_read_tokens = from->cache_read_tokens;
    usage->cache_write_tokens = from->cache_write_tokens;
    usage->reasoning_tokens = from->reasoning_tokens;
    usage->model_calls = from->model_calls;
    usage->estimated = from->is_estimated;
    if (from->has_cost) {
        usage->_cost_micros_case = SLUICE__V1__USAGE___COST_MICROS_COST_MICROS;
        usage->cost_micros = from->cost_micros;
        usage->currency = sl_arena_dup(arena, sl_slice_str(from->currency));
        SL_TRY(usage->currency == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK);
    }
    run->usage = usage;
    return SL_OK;
}

static enum sl_status
fill_metadata(const struct sl_run_info *info, struct sl_arena *arena, Sluice__V1__Run *run)
{
    Sluice__V1__Run__MetadataEntry *entries =
        sl_arena_calloc(arena, info->n_metadata + 1, sizeof(*entries));
    run->metadata =
        sl_arena_calloc(arena, info->n_metadata + 1, sizeof(Sluice__V1__Run__MetadataEntry *));
    if (entries == NULL || run->metadata == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < info->n_metadata; i++) {
        sluice__v1__run__metadata_entry__init(&entries[i]);
        entries[i].key = borrow(info->metadata[i].key);
        entries[i].value = borrow(info->metadata[i].value);
        run->metadata[i] = &entries[i];
    }
    run->n_metadata = info->n_metadata;
    return SL_OK;
}

enum sl_status sl_run_message_fill(
    const struct sl_run_info *info,
    const struct sl_limits *limits,
    struct sl_arena *arena,
    Sluice__V1__Run **ret_run)
{
    Sluice__V1__Run *run = sl_arena_alloc(arena, sizeof(*run));
    if (run == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    sluice__v1__run__init(run);
    run->run_id = borrow(info->run_id);
    run->agent = borrow(info->agent);
    run->session_id = borrow(info->session_id);
    run->state = sl_run_message_state(info->stage);
    run->created_at_ms = info->created_at_ms;
    run->ended_at_ms = info->ended_at_ms;
    run->last_sequence = info->last_sequence;
    SL_TRY(fill_ending(info, limits, arena, run));
    SL_TRY(fill_usage(&info->usage, arena, run));
    SL_TRY(fill_metadata(info, arena, run));
    *ret_run = run;
    return SL_OK;
}

/* ---- The conversation --------------------------------------------------------------------------
 */

static enum sl_status
fill_calls(const struct sl_run_message *from, struct sl_arena *arena, Sluice__V1__Message *message)
{
    Sluice__V1__ToolCall *calls = sl_arena_calloc(arena, from->n_calls + 1, sizeof(*calls));
    message->tool_calls = sl_arena_calloc(arena, from->n_calls + 1, sizeof(Sluice__V1__ToolCall *));
    if (calls == NULL || message->tool_calls == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < from->n_calls; i++) {
        sluice__v1__tool_call__init(&calls[i]);
        calls[i].id = borrow(from->calls[i].id);
        calls[i].name = borrow(from->calls[i].name);
        calls[i].arguments_json = borrow(from->calls[i].arguments_json);
        message->tool_calls[i] = &calls[i];
    }
    message->n_tool_calls = from->n_calls;
    return SL_OK;
}

static enum sl_status fill_message(
    const struct sl_run_message *from, struct sl_arena *arena, Sluice__V1__Message *message)
{
    static const Sluice__V1__Role roles[] = {
        [SL_RUN_SYSTEM] = SLUICE__V1__ROLE__ROLE_SYSTEM,
        [SL_RUN_USER] = SLUICE__V1__ROLE__ROLE_USER,
        [SL_RUN_ASSISTANT] = SLUICE__V1__ROLE__ROLE_ASSISTANT,
        [SL_RUN_TOOL] = SLUICE__V1__ROLE__ROLE_TOOL,
    };
    sluice__v1__message__init(message);
    message->role = roles[from->role];
    message->tool_call_id = borrow(from->call_id);
    message->tool_name = borrow(from->tool_name);
    message->is_error = from->is_error;
    message->content = borrow((const char *)from->content.data);
    return fill_calls(from, arena, message);
}

enum sl_status sl_run_message_fill_context(
    const struct sl_run_info *info, struct sl_arena *arena, Sluice__V1__GetRunResponse *reply)
{
    if (info->context_absent != NULL) {
        reply->context_absent = sl_unconst(info->context_absent);
        return SL_OK;
    }
    Sluice__V1__Context *context = sl_arena_alloc(arena, sizeof(*context));
    Sluice__V1__Message *messages = sl_arena_calloc(arena, info->n_messages + 1, sizeof(*messages));
    if (context == NULL || messages == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    sluice__v1__context__init(context);
    context->messages = sl_arena_calloc(arena, info->n_messages + 1, sizeof(Sluice__V1__Message *));
    if (context->messages == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < info->n_messages; i++) {
        SL_TRY(fill_message(&info->messages[i], arena, &messages[i]));
        context->messages[i] = &messages[i];
    }
    context->n_messages = info->n_messages;
    reply->context = context;
    return SL_OK;
}
