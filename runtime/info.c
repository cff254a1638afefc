/* What is known of a run, copied for somebody on another loop. */
#include "runtime/base/mem.h"
#include "runtime/exec/encode.h"
#include "runtime/query.h"

enum sl_run_stage sl_run_info_stage(const struct sl_known_run *known)
{
    if (!known->has_ended) {
        return known->run != NULL && sl_run_is_waiting_approval(known->run)
                   ? SL_RUN_STAGE_WAITING_APPROVAL
                   : SL_RUN_STAGE_RUNNING;
    }
    const Sluice__V1__ErrorCode code = known->end.ending.code;
    if (known->end.ending.is_parked) {
        return SL_RUN_STAGE_RUNNING;
    }
    return code == SL_CODE(UNSPECIFIED) ? SL_RUN_STAGE_DONE
           : code == SL_CODE(CANCELLED) ? SL_RUN_STAGE_CANCELLED
                                        : SL_RUN_STAGE_FAILED;
}

static enum sl_status
copy_terminal(const struct sl_known_run *known, struct sl_arena *arena, struct sl_slice *ret_bytes)
{
    const struct sl_slice event = sl_event_channel_last_event(known->channel);
    if (event.size == 0) { /* not even the first one */
        return SL_OK;
    }
    const size_t size = event.size - SL_EVENT_PREFIX_BYTES;
    uint8_t *room = sl_arena_alloc(arena, size);
    if (room == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    memcpy(room, event.data + SL_EVENT_PREFIX_BYTES, size);
    *ret_bytes = sl_slice_of(room, size);
    return SL_OK;
}

struct sl_run_usage sl_run_info_usage(const struct sl_usage *used)
{
    struct sl_run_usage usage = {
        .input_tokens = used->input_tokens,
        .output_tokens = used->output_tokens,
        .cache_read_tokens = used->cache_read_tokens,
        .cache_write_tokens = used->cache_write_tokens,
        .reasoning_tokens = used->reasoning_tokens,
        .model_calls = used->model_calls,
        .is_estimated = used->is_estimated,
        .has_cost = used->has_cost,
        .cost_micros = used->cost_micros,
    };
    memcpy(usage.currency, used->currency, sizeof(usage.currency));
    return usage;
}

static enum sl_status
copy_metadata(const struct sl_known_run *known, struct sl_arena *arena, struct sl_run_info *info)
{
    struct sl_run_pair *pairs = sl_arena_calloc(arena, known->n_metadata + 1, sizeof(*pairs));
    if (pairs == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < known->n_metadata; i++) {
        pairs[i].key = sl_arena_dup(arena, sl_slice_str(known->metadata[i].key));
        pairs[i].value = sl_arena_dup(arena, sl_slice_str(known->metadata[i].value));
        if (pairs[i].key == NULL || pairs[i].value == NULL) {
            return SL_RESOURCE_EXHAUSTED;
        }
    }
    info->metadata = pairs;
    info->n_metadata = known->n_metadata;
    return SL_OK;
}

/* ---- The conversation --------------------------------------------------------------------------
 */

/* NULL stays NULL; false: no memory. */
static bool copy_text(struct sl_arena *arena, const char *text, const char **ret_copy)
{
    *ret_copy = text == NULL ? NULL : sl_arena_dup(arena, sl_slice_str(text));
    return text == NULL || *ret_copy != NULL;
}

static enum sl_status
copy_calls(const struct sl_chat_message *from, struct sl_arena *arena, struct sl_run_message *to)
{
    struct sl_run_call *calls = sl_arena_calloc(arena, from->n_calls + 1, sizeof(*calls));
    bool is_whole = calls != NULL;
    for (size_t i = 0; i < from->n_calls && is_whole; i++) {
        is_whole = copy_text(arena, from->calls[i].id, &calls[i].id) &&
                   copy_text(arena, from->calls[i].name, &calls[i].name) &&
                   copy_text(arena, from->calls[i].arguments_json, &calls[i].arguments_json);
    }
    to->calls = calls;
    to->n_calls = from->n_calls;
    return is_whole ? SL_OK : SL_RESOURCE_EXHAUSTED;
}

static enum sl_status
copy_message(const struct sl_chat_message *from, struct sl_arena *arena, struct sl_run_message *to)
{
    static const enum sl_run_role roles[] = {
        [SL_CHAT_SYSTEM] = SL_RUN_SYSTEM,
        [SL_CHAT_USER] = SL_RUN_USER,
        [SL_CHAT_ASSISTANT] = SL_RUN_ASSISTANT,
        [SL_CHAT_TOOL] = SL_RUN_TOOL,
    };
    char *content = sl_arena_dup(arena, from->content);
    if (content == NULL || !copy_text(arena, from->call_id, &to->call_id) ||
        !copy_text(arena, from->tool_name, &to->tool_name)) {
        return SL_RESOURCE_EXHAUSTED;
    }
    to->role = roles[from->role];
    to->content = sl_slice_of(content, from->content.size);
    to->is_error = from->is_error;
    return copy_calls(from, arena, to);
}

enum sl_status sl_run_info_fill_context(
    const struct sl_history *history, struct sl_arena *arena, struct sl_run_info *info)
{
    struct sl_run_message *messages =
        sl_arena_calloc(arena, history->n_messages + 1, sizeof(*messages));
    if (messages == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < history->n_messages; i++) {
        SL_TRY(copy_message(&history->messages[i], arena, &messages[i]));
    }
    info->messages = messages;
    info->n_messages = history->n_messages;
    return SL_OK;
}

enum sl_status sl_run_info_fill(
    const struct sl_known_run *known,
    bool wants_context,
    struct sl_arena *arena,
    struct sl_run_info *ret_info)
{
    const struct sl_usage *used = known->run != NULL ? sl_run_usage(known->run) : &known->end.used;
    *ret_info = (struct sl_run_info){
        .stage = sl_run_info_stage(known),
        .created_at_ms = known->created_ms,
        .last_sequence = sl_event_channel_shown_sequence(known->channel),
        .usage = sl_run_info_usage(used),
    };
    ret_info->run_id = sl_arena_dup(arena, sl_slice_str(known->entry.run_id));
    ret_info->agent = sl_arena_dup(arena, sl_slice_str(known->agent));
    ret_info->session_id = sl_arena_dup(arena, sl_slice_str(known->session_id));
    if (ret_info->run_id == NULL || ret_info->agent == NULL || ret_info->session_id == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    if (known->has_ended) {
        ret_info->ended_at_ms = known->end.ended_ms;
        SL_TRY(copy_terminal(known, arena, &ret_info->terminal));
    }
    SL_TRY(copy_metadata(known, arena, ret_info));
    const struct sl_history *history =
        known->run != NULL ? sl_run_history(known->run) : &known->end.history;
    return wants_context ? sl_run_info_fill_context(history, arena, ret_info) : SL_OK;
}
