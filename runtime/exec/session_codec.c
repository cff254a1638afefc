#include "runtime/exec/session_codec.h"

#include <jansson.h>

#include "runtime/base/mem.h"
#include "runtime/base/utf8.h"

enum {
    VERSION = 1,
    ROLE_MASK = 0x03,
    /* TOOL */
    IS_ERROR = 0x04,
    HAS_TOOL_NAME = 0x08,
    /* ASSISTANT */
    HAS_REASONING = 0x10,
    HAS_OPAQUE = 0x20,
    HAS_CALLS = 0x40,
    MIN_MESSAGE_BYTES = 2,
    MIN_CALL_BYTES = 4
};

/* ---- Writing -----------------------------------------------------------------------------------
 */

static enum sl_status put_number(struct sl_buf *buf, uint64_t value)
{
    while (value >= 0x80) {
        SL_TRY(sl_buf_add_byte(buf, (uint8_t)(value | 0x80)));
        value >>= 7;
    }
    return sl_buf_add_byte(buf, (uint8_t)value);
}

static enum sl_status put_text(struct sl_buf *buf, struct sl_slice text)
{
    SL_TRY(put_number(buf, text.size));
    return sl_buf_add(buf, text);
}

static enum sl_status put_str(struct sl_buf *buf, const char *text)
{
    return put_text(buf, sl_slice_str(text));
}

static enum sl_status put_call(struct sl_buf *buf, const struct sl_chat_call *call)
{
    SL_TRY(put_str(buf, call->id));
    SL_TRY(put_str(buf, call->name));
    SL_TRY(put_str(buf, call->arguments_json));
    SL_TRY(sl_buf_add_byte(buf, call->opaque_json != NULL));
    return call->opaque_json == NULL ? SL_OK : put_str(buf, call->opaque_json);
}

static enum sl_status put_assistant(struct sl_buf *buf, const struct sl_chat_message *message)
{
    const unsigned flags = SL_CHAT_ASSISTANT | (message->reasoning.size > 0 ? HAS_REASONING : 0U) |
                           (message->opaque_json != NULL ? HAS_OPAQUE : 0U) |
                           (message->n_calls > 0 ? HAS_CALLS : 0U);
    SL_TRY(sl_buf_add_byte(buf, (uint8_t)flags));
    SL_TRY(put_text(buf, message->content));
    if (message->reasoning.size > 0) {
        SL_TRY(put_text(buf, message->reasoning));
    }
    if (message->opaque_json != NULL) {
        SL_TRY(put_str(buf, message->opaque_json));
    }
    if (message->n_calls > 0) {
        SL_TRY(put_number(buf, message->n_calls));
    }
    for (size_t i = 0; i < message->n_calls; i++) {
        SL_TRY(put_call(buf, &message->calls[i]));
    }
    return SL_OK;
}

static enum sl_status put_tool(struct sl_buf *buf, const struct sl_chat_message *message)
{
    const unsigned flags = SL_CHAT_TOOL | (message->is_error ? IS_ERROR : 0U) |
                           (message->tool_name != NULL ? HAS_TOOL_NAME : 0U);
    SL_TRY(sl_buf_add_byte(buf, (uint8_t)flags));
    SL_TRY(put_text(buf, message->content));
    SL_TRY(put_str(buf, message->call_id));
    return message->tool_name == NULL ? SL_OK : put_str(buf, message->tool_name);
}

static enum sl_status put_message(struct sl_buf *buf, const struct sl_chat_message *message)
{
    switch (message->role) {
    case SL_CHAT_ASSISTANT:
        return put_assistant(buf, message);
    case SL_CHAT_TOOL:
        return put_tool(buf, message);
    case SL_CHAT_SYSTEM:
    case SL_CHAT_USER:
        break;
    }
    SL_TRY(sl_buf_add_byte(buf, (uint8_t)message->role));
    return put_text(buf, message->content);
}

enum sl_status
sl_session_write(const struct sl_chat_message *messages, size_t n_messages, struct sl_buf *buf)
{
    SL_TRY(sl_buf_add_byte(buf, VERSION));
    SL_TRY(put_number(buf, n_messages));
    for (size_t i = 0; i < n_messages; i++) {
        SL_TRY(put_message(buf, &messages[i]));
    }
    return SL_OK;
}

/* ---- Reading -----------------------------------------------------------------------------------
 */

struct reader {
    const uint8_t *at, *end;
    struct sl_arena arena; /* the texts of one message, terminated */
    bool is_out_of_memory;
};

static size_t left(const struct reader *reader)
{
    return (size_t)(reader->end - reader->at);
}

static bool take_byte(struct reader *reader, unsigned *ret_byte)
{
    if (left(reader) == 0) {
        return false;
    }
    *ret_byte = *reader->at++;
    return true;
}

/* At most what is left: it is a size, or a count of what has a size. */
static bool take_number(struct reader *reader, size_t *ret_value)
{
    uint64_t value = 0;
    unsigned byte = 0x80;
    for (unsigned shift = 0; (byte & 0x80) != 0; shift += 7) {
        if (shift > 28 || !take_byte(reader, &byte)) {
            return false;
        }
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte == 0 && shift > 0) {
            return false; /* not the shortest form */
        }
    }
    *ret_value = (size_t)value;
    return value <= left(reader);
}

static bool take_text(struct reader *reader, struct sl_slice *ret_text)
{
    size_t size = 0;
    if (!take_number(reader, &size)) {
        return false;
    }
    *ret_text = sl_slice_of(reader->at, size);
    reader->at += size;
    return sl_utf8_is_clean(*ret_text);
}

static bool take_str(struct reader *reader, const char **ret_text)
{
    struct sl_slice text;
    if (!take_text(reader, &text)) {
        return false;
    }
    *ret_text = sl_arena_dup(&reader->arena, text);
    reader->is_out_of_memory |= *ret_text == NULL;
    return *ret_text != NULL;
}

static bool is_json(const char *text)
{
    json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
    const bool is_valid = json != NULL;
    json_decref(json);
    return is_valid;
}

static bool take_json(struct reader *reader, const char **ret_text)
{
    return take_str(reader, ret_text) && is_json(*ret_text);
}

static bool take_call(struct reader *reader, struct sl_chat_call *call)
{
    unsigned has_opaque = 0;
    return take_str(reader, &call->id) && take_str(reader, &call->name) &&
           take_str(reader, &call->arguments_json) && sl_history_is_object(call->arguments_json) &&
           take_byte(reader, &has_opaque) && has_opaque <= 1 &&
           (has_opaque == 0 || take_json(reader, &call->opaque_json));
}

static bool take_calls(struct reader *reader, struct sl_chat_message *message)
{
    if (!take_number(reader, &message->n_calls) || message->n_calls == 0 ||
        message->n_calls > left(reader) / MIN_CALL_BYTES) {
        return false;
    }
    struct sl_chat_call *calls = sl_arena_calloc(&reader->arena, message->n_calls, sizeof(*calls));
    if (calls == NULL) {
        reader->is_out_of_memory = true;
        return false;
    }
    message->calls = calls;
    for (size_t i = 0; i < message->n_calls; i++) {
        if (!take_call(reader, &calls[i])) {
            return false;
        }
    }
    return true;
}

static bool take_assistant(struct reader *reader, unsigned flags, struct sl_chat_message *message)
{
    if ((flags & HAS_REASONING) != 0 &&
        (!take_text(reader, &message->reasoning) || message->reasoning.size == 0)) {
        return false;
    }
    if ((flags & HAS_OPAQUE) != 0 && !take_json(reader, &message->opaque_json)) {
        return false;
    }
    return (flags & HAS_CALLS) == 0 || take_calls(reader, message);
}

static bool take_message(struct reader *reader, struct sl_chat_message *message)
{
    static const unsigned allowed[] = {
        [SL_CHAT_SYSTEM] = 0,
        [SL_CHAT_USER] = 0,
        [SL_CHAT_ASSISTANT] = HAS_REASONING | HAS_OPAQUE | HAS_CALLS,
        [SL_CHAT_TOOL] = IS_ERROR | HAS_TOOL_NAME,
    };
    unsigned flags = 0;
    if (!take_byte(reader, &flags)) {
        return false;
    }
    *message = (struct sl_chat_message){ .role = (enum sl_chat_role)(flags & ROLE_MASK) };
    flags &= ~(unsigned)ROLE_MASK;
    if ((flags & ~allowed[message->role]) != 0 || !take_text(reader, &message->content)) {
        return false;
    }
    if (message->role == SL_CHAT_ASSISTANT) {
        return take_assistant(reader, flags, message);
    }
    message->is_error = (flags & IS_ERROR) != 0;
    return message->role != SL_CHAT_TOOL ||
           (take_str(reader, &message->call_id) &&
            ((flags & HAS_TOOL_NAME) == 0 || take_str(reader, &message->tool_name)));
}

static enum sl_status read_messages(struct reader *reader, struct sl_history *history, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct sl_chat_message message;
        enum sl_status status = SL_OK;
        if (!take_message(reader, &message)) {
            status = reader->is_out_of_memory ? SL_RESOURCE_EXHAUSTED : SL_DATA_LOSS;
        } else {
            status = sl_history_add(history, &message);
        }
        sl_arena_done(&reader->arena);
        SL_TRY(status);
    }
    return left(reader) == 0 ? SL_OK : SL_DATA_LOSS;
}

enum sl_status sl_session_read(struct sl_slice bytes, struct sl_history *history)
{
    struct reader reader = { .at = bytes.data, .end = bytes.data + bytes.size };
    const size_t n_before = history->n_messages;
    unsigned version = 0;
    size_t n = 0;
    if (bytes.size == 0 || !take_byte(&reader, &version) || version == 0) {
        return SL_DATA_LOSS;
    }
    if (version != VERSION) {
        return SL_UNIMPLEMENTED;
    }
    if (!take_number(&reader, &n) || n > left(&reader) / MIN_MESSAGE_BYTES) {
        return SL_DATA_LOSS;
    }
    sl_arena_init(&reader.arena, 0);
    const enum sl_status status = read_messages(&reader, history, n);
    if (status != SL_OK) {
        sl_history_cut(history, n_before);
    }
    return status;
}
