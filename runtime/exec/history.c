#include "runtime/exec/history.h"

#include <jansson.h>

#include "runtime/base/mem.h"
#include "runtime/base/utf8.h"

enum { BYTES_PER_TOKEN = 4 };

#define NOT_EXECUTED "{\"error\":{\"code\":\"NOT_RUN\",\"message\":\"not executed: run ended\"}}"
#define NOT_KEPT                                                                                   \
    "{\"error\":{\"code\":\"OUTCOME_UNKNOWN\",\"message\":\"the result was not kept\"}}"

void sl_history_init(struct sl_history *history, size_t max_bytes)
{
    *history = (struct sl_history){ .messages = NULL };
    sl_arena_init(&history->arena, max_bytes);
}

void sl_history_done(struct sl_history *history)
{
    history->messages = sl_free(history->messages);
    sl_arena_done(&history->arena);
    history->n_messages = history->capacity = history->n_stored = 0;
}

char *sl_history_text(struct sl_history *history, struct sl_slice text)
{
    if (sl_utf8_is_clean(text)) {
        return sl_arena_dup(&history->arena, text);
    }
    const size_t max_bytes = sl_utf8_repaired_max(text.size);
    char *room = sl_arena_alloc(&history->arena, max_bytes + 1);
    if (room == NULL) {
        return NULL;
    }
    room[sl_utf8_repair(text, (uint8_t *)room)] = '\0';
    return room;
}

/* NULL stays NULL. */
static bool copy_text(struct sl_history *history, const char *text, const char **ret_copy)
{
    *ret_copy = text == NULL ? NULL : sl_history_text(history, sl_slice_str(text));
    return text == NULL || *ret_copy != NULL;
}

static bool copy_slice(struct sl_history *history, struct sl_slice text, struct sl_slice *ret_copy)
{
    *ret_copy = sl_slice_of(NULL, 0);
    if (text.size == 0) {
        return true;
    }
    const char *copy = sl_history_text(history, text);
    if (copy == NULL) {
        return false;
    }
    *ret_copy = sl_slice_str(copy);
    return true;
}

static bool copy_calls(
    struct sl_history *history, const struct sl_chat_message *from, struct sl_chat_message *to)
{
    to->calls = NULL;
    if (from->n_calls == 0) {
        return true;
    }
    struct sl_chat_call *calls = sl_arena_calloc(&history->arena, from->n_calls, sizeof(*calls));
    if (calls == NULL) {
        return false;
    }
    for (size_t i = 0; i < from->n_calls; i++) {
        const struct sl_chat_call *call = &from->calls[i];
        const char *arguments = call->arguments_json == NULL ? "{}" : call->arguments_json;
        if (!copy_text(history, call->id == NULL ? "" : call->id, &calls[i].id) ||
            !copy_text(history, call->name == NULL ? "" : call->name, &calls[i].name) ||
            !copy_text(history, arguments, &calls[i].arguments_json) ||
            !copy_text(history, call->opaque_json, &calls[i].opaque_json)) {
            return false;
        }
    }
    to->calls = calls;
    return true;
}

static size_t message_bytes(const struct sl_chat_message *message)
{
    size_t bytes = message->content.size + message->reasoning.size;
    bytes += message->opaque_json == NULL ? 0 : strlen(message->opaque_json);
    for (size_t i = 0; i < message->n_calls; i++) {
        bytes += strlen(message->calls[i].name) + strlen(message->calls[i].arguments_json);
    }
    return bytes;
}

static enum sl_status grow(struct sl_history *history)
{
    if (history->n_messages < history->capacity) {
        return SL_OK;
    }
    const size_t capacity = history->capacity == 0 ? 2 : history->capacity * 2;
    struct sl_chat_message *messages = sl_realloc(history->messages, capacity * sizeof(*messages));
    if (messages == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    history->messages = messages;
    history->capacity = capacity;
    return SL_OK;
}

enum sl_status sl_history_add(struct sl_history *history, const struct sl_chat_message *message)
{
    SL_TRY(grow(history));
    struct sl_chat_message copy = *message;
    if (!copy_slice(history, message->content, &copy.content) ||
        !copy_slice(history, message->reasoning, &copy.reasoning) ||
        !copy_text(history, message->call_id, &copy.call_id) ||
        !copy_text(history, message->tool_name, &copy.tool_name) ||
        !copy_text(history, message->opaque_json, &copy.opaque_json) ||
        !copy_calls(history, message, &copy)) {
        return SL_RESOURCE_EXHAUSTED;
    }
    history->messages[history->n_messages++] = copy;
    history->content_bytes += message_bytes(&copy);
    return SL_OK;
}

void sl_history_cut(struct sl_history *history, size_t n_messages)
{
    while (history->n_messages > n_messages) {
        history->content_bytes -= message_bytes(&history->messages[--history->n_messages]);
    }
}

/* A system message with this text is among the stored ones. */
static bool
is_stored(const struct sl_history *history, size_t n_given, const struct sl_chat_message *message)
{
    for (size_t i = n_given; i < history->n_messages; i++) {
        if (message->role == SL_CHAT_SYSTEM && history->messages[i].role == SL_CHAT_SYSTEM &&
            sl_slice_equal(history->messages[i].content, message->content)) {
            return true;
        }
    }
    return false;
}

enum sl_status sl_history_put_stored(struct sl_history *history, size_t n_given)
{
    const size_t n_stored = history->n_messages - n_given;
    if (n_stored == 0) {
        return SL_OK;
    }
    struct sl_chat_message *messages = sl_calloc(history->capacity, sizeof(*messages));
    if (messages == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    size_t n = n_stored;
    memcpy(messages, history->messages + n_given, n_stored * sizeof(*messages));
    for (size_t i = 0; i < n_given; i++) {
        if (is_stored(history, n_given, &history->messages[i])) {
            history->content_bytes -= message_bytes(&history->messages[i]);
        } else {
            messages[n++] = history->messages[i];
        }
    }
    (void)sl_free(history->messages);
    history->messages = messages;
    history->n_messages = n;
    history->n_stored = n_stored;
    return SL_OK;
}

/* The result of `id` among the tool messages [from, to); `to`: none. */
static size_t find_result(const struct sl_history *history, size_t from, size_t to, const char *id)
{
    for (size_t i = from; i < to; i++) {
        const char *answers = history->messages[i].call_id;
        if (answers != NULL && strcmp(answers, id) == 0) {
            return i;
        }
    }
    return to;
}

/* What was repaired, message by message; texts stay where they are. */
struct repair {
    const char *missing; /* the result of a call that has none */
    struct sl_chat_message *messages;
    size_t n_messages, capacity;
    uint32_t n_repairs;
};

static void put(struct repair *repair, const struct sl_chat_message *message)
{
    repair->messages[repair->n_messages++] = *message;
}

/* Gives each call of the assistant message at `index` its result, in call order. The results stand
 * in the tool messages behind it, up to `end`. */
static void
repair_calls(struct repair *repair, const struct sl_history *history, size_t index, size_t end)
{
    const struct sl_chat_message *message = &history->messages[index];
    size_t n_answered = 0;
    for (size_t i = 0; i < message->n_calls; i++) {
        const struct sl_chat_call *call = &message->calls[i];
        const size_t at = find_result(history, index + 1, end, call->id);
        if (at < end) {
            struct sl_chat_message result = history->messages[at];
            result.tool_name = call->name;
            put(repair, &result);
            n_answered++;
            continue;
        }
        const struct sl_chat_message synthetic = {
            .role = SL_CHAT_TOOL,
            .content = sl_slice_str(repair->missing),
            .call_id = call->id,
            .tool_name = call->name,
            .is_error = true,
        };
        put(repair, &synthetic);
        repair->n_repairs++;
    }
    const size_t n_results = end - index - 1;
    if (n_results > n_answered) {
        repair->n_repairs += (uint32_t)(n_results - n_answered);
    }
}

static bool is_empty(const struct sl_chat_message *message)
{
    return message->content.size == 0 && message->n_calls == 0 && message->role != SL_CHAT_TOOL;
}

/* `missing`: static. */
static enum sl_status repair_all(struct sl_history *history, const char *missing)
{
    size_t n_calls = 0;
    for (size_t i = 0; i < history->n_messages; i++) {
        n_calls += history->messages[i].n_calls;
    }
    struct repair repair = { .missing = missing, .capacity = history->n_messages + n_calls + 1 };
    repair.messages = sl_calloc(repair.capacity, sizeof(*repair.messages));
    if (repair.messages == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    size_t n_stored = 0;
    for (size_t i = 0; i < history->n_messages;) {
        const struct sl_chat_message *message = &history->messages[i];
        size_t end = i + 1;
        if (is_empty(message) || message->role == SL_CHAT_TOOL) {
            repair.n_repairs++;
            i = end;
            continue;
        }
        put(&repair, message);
        if (message->n_calls > 0) {
            while (end < history->n_messages && history->messages[end].role == SL_CHAT_TOOL) {
                end++;
            }
            repair_calls(&repair, history, i, end);
        }
        n_stored = i < history->n_stored ? repair.n_messages : n_stored;
        i = end;
    }
    (void)sl_free(history->messages);
    history->messages = repair.messages;
    history->n_messages = repair.n_messages;
    history->capacity = repair.capacity;
    history->n_stored = n_stored;
    history->n_repairs += repair.n_repairs;
    history->content_bytes = 0;
    for (size_t i = 0; i < repair.n_messages; i++) {
        history->content_bytes += message_bytes(&repair.messages[i]);
    }
    return SL_OK;
}

enum sl_status sl_history_begin_turn(struct sl_history *history, struct sl_slice input)
{
    SL_TRY(repair_all(history, NOT_EXECUTED));
    history->turn_begin = history->n_messages;
    if (history->n_messages > history->n_stored) {
        const struct sl_chat_message *last = &history->messages[history->n_messages - 1];
        if (last->role == SL_CHAT_USER &&
            (input.size == 0 || sl_slice_equal(last->content, input))) {
            history->turn_begin--;
            return SL_OK;
        }
    }
    if (input.size == 0) {
        return SL_OK;
    }
    const struct sl_chat_message message = { .role = SL_CHAT_USER, .content = input };
    return sl_history_add(history, &message);
}

static bool is_answered(const struct sl_history *history, size_t index)
{
    const struct sl_chat_message *message = &history->messages[index];
    for (size_t i = 0; i < message->n_calls; i++) {
        if (find_result(history, index + 1, history->n_messages, message->calls[i].id) ==
            history->n_messages) {
            return false;
        }
    }
    return true;
}

void sl_history_end(struct sl_history *history)
{
    size_t last = history->n_messages;
    while (last > history->turn_begin && history->messages[last - 1].n_calls == 0) {
        last--;
    }
    if (last <= history->turn_begin || is_answered(history, last - 1) ||
        repair_all(history, NOT_KEPT) == SL_OK) {
        return;
    }
    for (size_t i = last - 1; i < history->n_messages; i++) {
        history->content_bytes -= message_bytes(&history->messages[i]);
    }
    history->n_messages = last - 1;
}

bool sl_history_is_object(const char *text)
{
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    const bool is_object = json_is_object(json);
    json_decref(json);
    return is_object;
}

size_t sl_history_bytes(const struct sl_history *history)
{
    return history->content_bytes;
}

/* Behind the turn that begins at `from`: the next user message, or the current turn. */
static size_t turn_end(const struct sl_history *history, size_t from)
{
    size_t end = from + 1;
    while (end < history->turn_begin && history->messages[end].role != SL_CHAT_USER) {
        end++;
    }
    return end;
}

/* Removes the messages [from, to) that are not system messages. */
static void drop(struct sl_history *history, size_t from, size_t to)
{
    size_t kept = from;
    for (size_t i = from; i < history->n_messages; i++) {
        if (i < to && history->messages[i].role != SL_CHAT_SYSTEM) {
            history->content_bytes -= message_bytes(&history->messages[i]);
            continue;
        }
        history->messages[kept++] = history->messages[i];
    }
    history->turn_begin -= history->n_messages - kept;
    history->n_messages = kept;
}

void sl_history_prune(struct sl_history *history, size_t max_messages, uint64_t max_tokens)
{
    for (;;) {
        size_t n_old = 0;
        size_t oldest = history->turn_begin;
        for (size_t i = history->turn_begin; i-- > 0;) {
            if (history->messages[i].role != SL_CHAT_SYSTEM) {
                n_old++;
                oldest = i;
            }
        }
        const bool is_long = max_messages > 0 && n_old > max_messages;
        const bool is_big = max_tokens > 0 && history->content_bytes / BYTES_PER_TOKEN > max_tokens;
        if (n_old == 0 || (!is_long && !is_big)) {
            return;
        }
        drop(history, oldest, turn_end(history, oldest));
    }
}
