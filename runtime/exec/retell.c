#include "runtime/exec/retell.h"

#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/exec/result_text.h"
#include "runtime/exec/session_codec.h"

/* A call of the unit; all in its arena, but for the result. */
struct told_call {
    struct sl_list node;
    const char *tool_id, *call_id, *name, *arguments_json;
    char *result; /* for the model; owned; NULL: there is none */
    bool is_error;
};

static struct told_call *call_of(struct sl_list *node)
{
    return SL_CONTAINER(node, struct told_call, node);
}

/* ---- Life --------------------------------------------------------------------------------------
 */

static void clear_unit(struct sl_retelling *retelling)
{
    SL_LIST_EACH(node, &retelling->unit.calls) {
        sl_list_remove(node);
        (void)sl_free(call_of(node)->result);
    }
    retelling->unit.n_calls = 0;
    sl_buf_clear(&retelling->unit.text);
    sl_buf_clear(&retelling->unit.reasoning);
    sl_arena_done(&retelling->unit.arena);
}

void sl_retelling_init(struct sl_retelling *retelling)
{
    *retelling = (struct sl_retelling){ .is_told = false };
    sl_history_init(&retelling->history, 0);
    sl_list_init(&retelling->unit.calls);
}

void sl_retelling_done(struct sl_retelling *retelling)
{
    clear_unit(retelling);
    sl_buf_done(&retelling->unit.text);
    sl_buf_done(&retelling->unit.reasoning);
    sl_history_done(&retelling->history);
    retelling->is_told = false;
}

/* Half a conversation would be another one. */
static void fall_silent(struct sl_retelling *retelling)
{
    sl_retelling_done(retelling);
}

void sl_retelling_begin(
    struct sl_retelling *retelling, struct sl_slice base, uint64_t known, size_t max_bytes)
{
    retelling->known = known;
    retelling->max_bytes = max_bytes;
    retelling->has_use = known > 0; /* the owner had saved it for that */
    sl_history_init(&retelling->history, max_bytes * 2);
    sl_buf_init(&retelling->unit.text, max_bytes);
    sl_buf_init(&retelling->unit.reasoning, max_bytes);
    sl_arena_init(&retelling->unit.arena, max_bytes);
    retelling->is_told = true;
    if (sl_session_read(base, &retelling->history) != SL_OK) {
        fall_silent(retelling);
    }
}

size_t sl_retelling_request_bytes(const struct sl_retelling *retelling)
{
    return retelling->is_told ? sl_history_bytes(&retelling->history) : 0;
}

/* ---- A unit ------------------------------------------------------------------------------------
 */

static enum sl_status add_answer(struct sl_retelling *retelling)
{
    const size_t n_calls = retelling->unit.n_calls;
    struct sl_chat_call *calls =
        sl_arena_calloc(&retelling->unit.arena, n_calls + 1, sizeof(*calls));
    if (calls == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    size_t n = 0;
    SL_LIST_EACH(node, &retelling->unit.calls) {
        const struct told_call *call = call_of(node);
        calls[n++] = (struct sl_chat_call){ .id = call->call_id,
                                            .name = call->name,
                                            .arguments_json = call->arguments_json };
    }
    const struct sl_chat_message message = {
        .role = SL_CHAT_ASSISTANT,
        .content = sl_buf_slice(&retelling->unit.text),
        /* Providers want it back with calls only, and so the owner keeps it. */
        .reasoning = n_calls > 0 ? sl_buf_slice(&retelling->unit.reasoning) : sl_slice_of(NULL, 0),
        .calls = calls,
        .n_calls = n_calls,
    };
    return sl_history_add(&retelling->history, &message);
}

static enum sl_status add_result(struct sl_retelling *retelling, struct told_call *call)
{
    if (call->result == NULL) {
        const struct sl_tool_result unknown = { .code = SL_TOOL_OUTCOME_UNKNOWN,
                                                .error = SL_RETELL_LOST };
        call->result = sl_result_text(&unknown);
        call->is_error = true;
        retelling->has_use = true; /* it may have run */
    }
    if (call->result == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    const struct sl_chat_message message = {
        .role = SL_CHAT_TOOL,
        .content = sl_slice_str(call->result),
        .call_id = call->call_id,
        .tool_name = call->name,
        .is_error = call->is_error,
    };
    return sl_history_add(&retelling->history, &message);
}

static enum sl_status add_unit(struct sl_retelling *retelling)
{
    if (retelling->unit.text.size == 0 && retelling->unit.n_calls == 0) {
        return SL_OK; /* empty messages are not sent (AL-10) */
    }
    retelling->has_use |= retelling->unit.text.size > 0;
    SL_TRY(add_answer(retelling));
    SL_LIST_EACH(node, &retelling->unit.calls) {
        SL_TRY(add_result(retelling, call_of(node)));
    }
    return SL_OK;
}

static void end_unit(struct sl_retelling *retelling)
{
    if (add_unit(retelling) == SL_OK) {
        clear_unit(retelling);
    } else {
        fall_silent(retelling);
    }
}

/* ---- Events ------------------------------------------------------------------------------------
 */

static bool is_news(const struct sl_retelling *retelling, uint64_t sequence)
{
    return retelling->is_told && sequence > retelling->known;
}

void sl_retelling_text(
    struct sl_retelling *retelling,
    uint64_t sequence,
    enum sl_encode_text kind,
    struct sl_slice text)
{
    struct sl_buf *buf =
        kind == SL_ENCODE_TEXT_DELTA ? &retelling->unit.text : &retelling->unit.reasoning;
    if (is_news(retelling, sequence) && sl_buf_add(buf, text) != SL_OK) {
        fall_silent(retelling);
    }
}

static bool is_id_taken(const struct sl_retelling *retelling, const char *id)
{
    SL_LIST_EACH(node, &retelling->unit.calls) {
        if (strcmp(call_of(node)->call_id, id) == 0) {
            return true;
        }
    }
    return false;
}

/* The ids are those that the model was told, by the same rule. False: no room. */
static bool add_call(struct sl_retelling *retelling, const Sluice__V1__ToolCallStart *start)
{
    struct sl_arena *arena = &retelling->unit.arena;
    const bool is_of_use =
        start->provider_call_id[0] != '\0' && !is_id_taken(retelling, start->provider_call_id);
    struct told_call *call = sl_arena_calloc(arena, 1, sizeof(*call));
    if (call == NULL) {
        return false;
    }
    call->tool_id = sl_arena_dup(arena, sl_slice_str(start->tool_id));
    call->name = sl_arena_dup(arena, sl_slice_str(start->tool_name));
    call->arguments_json = sl_arena_dup(arena, sl_slice_str(start->arguments_json));
    call->call_id =
        is_of_use ? sl_arena_dup(arena, sl_slice_str(start->provider_call_id)) : call->tool_id;
    if (call->tool_id == NULL || call->name == NULL || call->arguments_json == NULL ||
        call->call_id == NULL) {
        return false;
    }
    sl_list_add_last(&retelling->unit.calls, &call->node);
    retelling->unit.n_calls++;
    return true;
}

/* False: no memory. Of a call that nobody knows nothing is told. */
static bool
answer_call(struct sl_retelling *retelling, const Sluice__V1__ToolCallComplete *complete)
{
    SL_LIST_EACH(node, &retelling->unit.calls) {
        struct told_call *call = call_of(node);
        if (call->result == NULL && strcmp(call->tool_id, complete->tool_id) == 0) {
            const struct sl_tool_result result = {
                .code = (enum sl_tool_code)complete->error_code, /* the same numbers */
                .error = complete->error,
                .result_json = sl_slice_str(complete->result_json),
            };
            retelling->has_use |= complete->attempts > 0 || complete->success ||
                                  result.code == SL_TOOL_OUTCOME_UNKNOWN;
            call->is_error = !complete->success;
            call->result = sl_result_text(&result);
            return call->result != NULL;
        }
    }
    return true;
}

void sl_retelling_event(
    struct sl_retelling *retelling, uint64_t sequence, const Sluice__V1__StreamEvent *event)
{
    bool is_told = true;
    if (!is_news(retelling, sequence)) {
        return;
    }
    switch ((int)event->event_case) {
    case SL_EVENT(ITERATION_START):
        if (event->iteration_start->attempt > 1) {
            clear_unit(retelling); /* what came before is void */
        } else {
            end_unit(retelling);
        }
        return;
    case SL_EVENT(ITERATION_COMPLETE):
        if (event->iteration_complete->stop_reason == SL_STOP_REASON(CONTENT_FILTER)) {
            clear_unit(retelling); /* the text that was filtered (AL-5.6) */
        }
        return;
    case SL_EVENT(TOOL_CALL_START):
        is_told = add_call(retelling, event->tool_call_start);
        break;
    case SL_EVENT(TOOL_CALL_COMPLETE):
        is_told = answer_call(retelling, event->tool_call_complete);
        break;
    default: /* it is no part of a conversation */
        return;
    }
    if (!is_told) {
        fall_silent(retelling);
    }
}

/* ---- The end -----------------------------------------------------------------------------------
 */

void sl_retelling_end(struct sl_retelling *retelling, struct sl_buf *ret_bytes)
{
    const struct sl_history *history = &retelling->history;
    sl_buf_init(ret_bytes, retelling->max_bytes);
    if (retelling->is_told) {
        end_unit(retelling);
    }
    if (retelling->is_told &&
        sl_session_write(history->messages, history->n_messages, ret_bytes) != SL_OK) {
        fall_silent(retelling);
        sl_buf_done(ret_bytes);
    }
}
