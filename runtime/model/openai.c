/* Kind openai_chat: the stream of Chat Completions, as OpenAI and two dozen others speak it. */
#include "runtime/model/openai.h"

#include <math.h>

#include <jansson.h>

#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/base/utf8.h"
#include "runtime/model/delta_scan.h"
#include "runtime/model/json.h"
#include "runtime/model/openai_calls.h"
#include "runtime/model/openai_error.h"
#include "runtime/model/openai_opaque.h"
#include "runtime/model/provider.h"

struct sl_provider_stream {
    const struct sl_provider_settings *settings;
    sl_provider_emit_fn *emit;
    void *user_data;
    struct sl_calls calls;
    struct sl_model_usage usage;
    struct sl_buf scratch;
    struct sl_buf details; /* quirk reasoning_details_echo: a JSON list without its end; or empty */
    char *model;           /* of the answer; NULL: not known yet */
    char *finish;          /* the provider's word; NULL: not finished */
    uint64_t received_bytes;
    bool is_refusal;
    bool is_over; /* FINISH or FAIL was given, or the owner said stop */
};

/* ---- Chunks ---------------------------------------------------------------------------------- */

static void give(struct sl_provider_stream *stream, const struct sl_model_chunk *chunk)
{
    if (!stream->is_over && !stream->emit(stream->user_data, chunk)) {
        stream->is_over = true;
    }
}

static void give_fail(
    struct sl_provider_stream *stream,
    enum sl_model_fault fault,
    bool is_retryable,
    const char *message)
{
    give(
        stream, &(struct sl_model_chunk){
                    .kind = SL_CHUNK_FAIL,
                    .fault = fault,
                    .is_retryable = is_retryable,
                    .retry_after_ms = -1,
                    .message = message,
                    .received_bytes = stream->received_bytes,
                });
    stream->is_over = true;
}

static void
fail_by_status(struct sl_provider_stream *stream, enum sl_status status, const char *message)
{
    if (status == SL_RESOURCE_EXHAUSTED) {
        give_fail(stream, SL_FAULT_OUT_OF_MEMORY, false, "no memory for the answer");
    } else if (status == SL_OUT_OF_RANGE) {
        give_fail(stream, SL_FAULT_PROVIDER_LIMIT, false, message);
    } else if (status != SL_OK) {
        give_fail(stream, SL_FAULT_PROVIDER_PROTOCOL, false, message);
    }
}

static void
give_text(struct sl_provider_stream *stream, enum sl_model_chunk_kind kind, struct sl_slice text)
{
    if (text.size > 0) {
        stream->received_bytes += text.size;
        give(stream, &(struct sl_model_chunk){ .kind = kind, .text = text, .retry_after_ms = -1 });
    }
}

/* ---- Usage ----------------------------------------------------------------------------------- */

/* A count; false: it is missing, negative or no number. Saturates. */
static bool read_count(const json_t *object, const char *key, uint64_t *ret)
{
    const json_t *value = json_object_get(object, key);
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        *ret = (uint64_t)json_integer_value(value);
        return true;
    }
    if (json_is_real(value) && json_real_value(value) >= 0) {
        const double real = json_real_value(value);
        *ret = real >= 18446744073709551615.0 ? UINT64_MAX : (uint64_t)real;
        return true;
    }
    return false;
}

static void take_usage(struct sl_provider_stream *stream, const json_t *usage)
{
    struct sl_model_usage now = { 0 };
    const json_t *input = json_object_get(usage, "prompt_tokens_details");
    const json_t *output = json_object_get(usage, "completion_tokens_details");
    now.has_input = read_count(usage, "prompt_tokens", &now.input_tokens);
    now.has_output = read_count(usage, "completion_tokens", &now.output_tokens);
    (void)read_count(input, "cached_tokens", &now.cache_read_tokens);
    (void)read_count(input, "cache_write_tokens", &now.cache_write_tokens);
    (void)read_count(output, "reasoning_tokens", &now.reasoning_tokens);
    if (!now.has_input && !now.has_output) {
        return;
    }
    stream->usage = now;
    give(
        stream,
        &(struct sl_model_chunk){ .kind = SL_CHUNK_USAGE, .usage = now, .retry_after_ms = -1 });
}

static void
find_usage(struct sl_provider_stream *stream, const json_t *document, const json_t *choice)
{
    const json_t *usage = json_object_get(document, "usage");
    if (!json_is_object(usage)) {
        usage = json_object_get(choice, "usage");
    }
    if (!json_is_object(usage)) {
        usage = json_object_get(json_object_get(document, "x_groq"), "usage");
    }
    if (json_is_object(usage)) {
        take_usage(stream, usage);
    }
}

/* ---- Text ------------------------------------------------------------------------------------ */

static void
take_string(struct sl_provider_stream *stream, enum sl_model_chunk_kind kind, const json_t *value)
{
    struct sl_slice text = { 0 };
    const enum sl_status status = sl_json_text(value, &stream->scratch, &text);
    if (status != SL_OK) {
        fail_by_status(stream, status, NULL);
        return;
    }
    give_text(stream, kind, text);
}

/* Content as a list of parts; thinking parts hold a list of their own. */
static void take_parts(struct sl_provider_stream *stream, const json_t *parts)
{
    size_t i = 0;
    const json_t *part = NULL;
    json_array_foreach(parts, i, part)
    {
        const json_t *thinking = json_object_get(part, "thinking");
        size_t j = 0;
        const json_t *inner = NULL;
        take_string(stream, SL_CHUNK_TEXT, json_object_get(part, "text"));
        json_array_foreach(thinking, j, inner)
        {
            take_string(stream, SL_CHUNK_REASONING, json_object_get(inner, "text"));
        }
    }
}

static void take_reasoning(struct sl_provider_stream *stream, const json_t *delta)
{
    const json_t *first = json_object_get(delta, "reasoning_content");
    const json_t *second = json_object_get(delta, "reasoning");
    take_string(stream, SL_CHUNK_REASONING, first);
    if (!sl_slice_equal(sl_json_slice(first), sl_json_slice(second))) {
        take_string(stream, SL_CHUNK_REASONING, second);
    }
}

/* Quirk reasoning_details_echo: what the provider wants back, element by element as it came. */

/* `list`: the text of a JSON list. */
static enum sl_status add_details(struct sl_provider_stream *stream, struct sl_slice list)
{
    struct sl_buf *details = &stream->details;
    if (list.size <= 2) {
        return SL_OK;
    }
    if (list.size > details->max_bytes - details->size) { /* its brackets: a comma, and the end */
        sl_limit_reached(SL_LIMIT_tool_arguments);
        return SL_OUT_OF_RANGE;
    }
    SL_TRY(sl_buf_add_byte(details, details->size == 0 ? '[' : ','));
    return sl_buf_add(details, sl_slice_of(list.data + 1, list.size - 2));
}

static void take_details(struct sl_provider_stream *stream, json_t *delta)
{
    json_t *text = NULL;
    if (!stream->settings->quirks->reasoning_details_echo) {
        return;
    }
    enum sl_status status = sl_opaque_details(delta, &text);
    if (status == SL_OK) {
        status = add_details(stream, sl_json_slice(text));
    }
    fail_by_status(stream, status, "the reasoning details are too long");
    json_decref(text);
}

static void give_details(struct sl_provider_stream *stream)
{
    if (stream->details.size == 0 || stream->is_over) {
        return;
    }
    if (sl_buf_add_byte(&stream->details, ']') != SL_OK) {
        fail_by_status(stream, SL_RESOURCE_EXHAUSTED, NULL);
        return;
    }
    give(
        stream, &(struct sl_model_chunk){
                    .kind = SL_CHUNK_OPAQUE,
                    .text = sl_buf_slice(&stream->details),
                    .retry_after_ms = -1,
                });
}

/* ---- Calls ----------------------------------------------------------------------------------- */

static uint64_t over_bytes(const struct sl_provider_stream *stream, const struct sl_call_slot *slot)
{
    return slot->is_over ? stream->settings->limits->tool_arguments : 0;
}

static void give_fragment(struct sl_provider_stream *stream, size_t i, struct sl_slice text)
{
    const struct sl_call_slot *slot = &stream->calls.slots[i];
    stream->received_bytes += text.size;
    give(
        stream, &(struct sl_model_chunk){
                    .kind = SL_CHUNK_CALL_FRAGMENT,
                    .text = text,
                    .index = (uint32_t)i,
                    .id = slot->id,
                    .name = slot->name,
                    .over_bytes = over_bytes(stream, slot),
                    .retry_after_ms = -1,
                });
}

static void add_fragment(struct sl_provider_stream *stream, json_t *call, struct sl_slice arguments)
{
    const json_t *function = json_object_get(call, "function");
    const json_t *index = json_object_get(call, "index");
    const struct sl_call_fragment fragment = {
        .has_index = json_is_integer(index) && json_integer_value(index) >= 0,
        .index = json_integer_value(index),
        .id = sl_json_cstr(json_object_get(call, "id")),
        .name = sl_json_cstr(json_object_get(function, "name")),
        .arguments = arguments,
        .call = call,
    };
    size_t slot = 0;
    const enum sl_status status = sl_calls_add(&stream->calls, &fragment, &slot);
    if (status != SL_OK) {
        fail_by_status(
            stream, status,
            status == SL_OUT_OF_RANGE ? "too many tool calls, or too long ones"
                                      : "the fragments of a tool call contradict each other");
        return;
    }
    give_fragment(stream, slot, arguments);
}

static void take_call(struct sl_provider_stream *stream, json_t *call)
{
    const json_t *arguments = json_object_get(json_object_get(call, "function"), "arguments");
    struct sl_slice text = { 0 };
    if (!json_is_object(call)) {
        return;
    }
    if (json_is_object(arguments)) {
        char *dump = json_dumps(arguments, JSON_COMPACT);
        if (dump == NULL) {
            fail_by_status(stream, SL_RESOURCE_EXHAUSTED, NULL);
            return;
        }
        add_fragment(stream, call, sl_slice_str(dump));
        free(dump);
        return;
    }
    const enum sl_status status = sl_json_text(arguments, &stream->scratch, &text);
    if (status != SL_OK) {
        fail_by_status(stream, status, NULL);
        return;
    }
    add_fragment(stream, call, text);
}

static void take_calls(struct sl_provider_stream *stream, const json_t *list)
{
    size_t i = 0;
    json_t *call = NULL;
    if (json_array_size(list) == 0) {
        return;
    }
    if (stream->finish != NULL) {
        fail_by_status(stream, SL_INVALID_ARGUMENT, "a tool call goes on after the finish reason");
        return;
    }
    json_array_foreach(list, i, call)
    {
        if (!stream->is_over) {
            take_call(stream, call);
        }
    }
}

/* ---- The finish reason ----------------------------------------------------------------------- */

static bool is_blank_text(struct sl_slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] != ' ' && text.data[i] != '\n' && text.data[i] != '\t' &&
            text.data[i] != '\r') {
            return false;
        }
    }
    return true;
}

static bool is_object(const struct sl_provider_stream *stream, struct sl_slice text)
{
    return sl_json_is_object(text, stream->settings->limits->model_json_depth);
}

static void give_call(struct sl_provider_stream *stream, size_t i, bool is_cut)
{
    const struct sl_call_slot *slot = &stream->calls.slots[i];
    struct sl_slice text = sl_buf_slice(&slot->arguments);
    char *opaque = NULL;
    if (!slot->is_over && is_blank_text(text)) {
        text = sl_slice_str("{}");
    }
    const bool is_large = text.size > SL_JOB_DOCUMENT_BYTES;
    if (is_cut && (slot->is_over || (!is_large && !is_object(stream, text)))) {
        return; /* half a call is none */
    }
    if (slot->opaque != NULL) {
        opaque = sl_calls_opaque(&stream->calls, slot);
        if (opaque == NULL) {
            fail_by_status(stream, SL_RESOURCE_EXHAUSTED, NULL);
            return;
        }
    }
    give(
        stream, &(struct sl_model_chunk){
                    .kind = SL_CHUNK_CALL,
                    .text = text,
                    .index = (uint32_t)i,
                    .id = slot->id,
                    .name = slot->name,
                    .opaque = opaque,
                    .is_cut = is_cut && is_large,
                    .over_bytes = over_bytes(stream, slot),
                    .retry_after_ms = -1,
                });
    sl_free(opaque);
}

static void give_calls(struct sl_provider_stream *stream)
{
    const size_t n = stream->calls.n_slots;
    const bool is_cut = strcmp(stream->finish, "length") == 0;
    if (n == 0) {
        return;
    }
    size_t *order = sl_calloc(n, sizeof(*order));
    const enum sl_status status =
        order == NULL
            ? SL_RESOURCE_EXHAUSTED
            : sl_calls_close(&stream->calls, stream->settings->quirks->tool_id_format, order);
    fail_by_status(stream, status, "a tool call has no name");
    for (size_t i = 0; status == SL_OK && i < n && !stream->is_over; i++) {
        give_call(stream, order[i], is_cut);
    }
    sl_free(order);
}

static void take_finish(struct sl_provider_stream *stream, const json_t *value)
{
    const char *text = sl_json_cstr(value);
    if (text == NULL || stream->finish != NULL) {
        return;
    }
    if (strcmp(text, "error") == 0) {
        give_fail(stream, SL_FAULT_PROVIDER_OVERLOADED, true, "the finish reason is \"error\"");
        return;
    }
    const size_t n = sl_utf8_cut(sl_slice_str(text), 128);
    stream->finish = sl_strndup(text, n);
    if (stream->finish == NULL) {
        fail_by_status(stream, SL_RESOURCE_EXHAUSTED, NULL);
        return;
    }
    give_calls(stream);
}

static enum sl_model_finish map_finish(const struct sl_provider_stream *stream)
{
    static const struct {
        const char *word;
        enum sl_model_finish finish;
    } words[] = {
        { "tool_calls", SL_FINISH_TOOL_USE },
        { "function_call", SL_FINISH_TOOL_USE },
        { "length", SL_FINISH_MAX_TOKENS },
        { "content_filter", SL_FINISH_CONTENT_FILTER },
    };
    if (stream->is_refusal) {
        return SL_FINISH_CONTENT_FILTER;
    }
    if (strcmp(stream->finish, "stop") == 0) {
        return stream->calls.n_slots > 0 ? SL_FINISH_TOOL_USE : SL_FINISH_END_TURN;
    }
    for (size_t i = 0; i < SL_COUNT(words); i++) {
        if (strcmp(stream->finish, words[i].word) == 0) {
            return words[i].finish;
        }
    }
    return SL_FINISH_UNKNOWN;
}

static void give_finish(struct sl_provider_stream *stream)
{
    give_details(stream);
    give(
        stream, &(struct sl_model_chunk){
                    .kind = SL_CHUNK_FINISH,
                    .finish = map_finish(stream),
                    .raw = stream->finish,
                    .answered_model = stream->model,
                    .received_bytes = stream->received_bytes,
                    .retry_after_ms = -1,
                });
    stream->is_over = true;
}

/* ---- Events ---------------------------------------------------------------------------------- */

static bool has_error(const struct sl_sse_event *event, const json_t *document)
{
    const json_t *error = json_object_get(document, "error");
    return (error != NULL && !json_is_null(error) && !json_is_false(error)) ||
           sl_slice_equals(sl_json_slice(json_object_get(document, "object")), "error") ||
           (event != NULL && sl_slice_equals(event->name, "error"));
}

static void take_error(struct sl_provider_stream *stream, const json_t *document)
{
    struct sl_provider_error error;
    sl_openai_map_document(0, document, &error);
    give(
        stream, &(struct sl_model_chunk){
                    .kind = SL_CHUNK_FAIL,
                    .fault = error.fault,
                    .is_retryable = error.is_retryable,
                    .retry_after_ms = error.has_retry_after ? error.retry_after_ms : -1,
                    .message = error.text,
                    .received_bytes = stream->received_bytes,
                });
    stream->is_over = true;
}

static void take_model(struct sl_provider_stream *stream, const json_t *document)
{
    const char *model = sl_json_cstr(json_object_get(document, "model"));
    if (stream->model == NULL && model != NULL && strlen(model) <= 256) {
        stream->model = sl_strdup(model); /* without memory it stays unknown */
    }
}

static void take_document(struct sl_provider_stream *stream, const json_t *document)
{
    const json_t *choice = json_array_get(json_object_get(document, "choices"), 0);
    json_t *delta = json_object_get(choice, "delta");
    if (!json_is_object(delta)) {
        delta = json_object_get(choice, "message");
    }
    take_model(stream, document);
    take_reasoning(stream, delta);
    take_details(stream, delta);
    const json_t *content = json_object_get(delta, "content");
    if (json_is_array(content)) {
        take_parts(stream, content);
    } else {
        take_string(stream, SL_CHUNK_TEXT, content);
    }
    const json_t *refusal = json_object_get(delta, "refusal");
    stream->is_refusal |= sl_json_slice(refusal).size > 0;
    take_string(stream, SL_CHUNK_TEXT, refusal);
    take_calls(stream, json_object_get(delta, "tool_calls"));
    find_usage(stream, document, choice);
    take_finish(stream, json_object_get(choice, "finish_reason"));
}

static void fail_json(
    struct sl_provider_stream *stream, const struct sl_sse_event *event, enum sl_status status)
{
    if (event->is_cut && status == SL_INVALID_ARGUMENT && stream->finish != NULL) {
        return; /* half of an end mark; the answer itself is complete */
    }
    if (event->is_cut && status == SL_INVALID_ARGUMENT) {
        give_fail(stream, SL_FAULT_PROVIDER_TRUNCATED, true, "the stream ended inside an event");
        return;
    }
    if (status == SL_OUT_OF_RANGE) {
        sl_limit_reached(SL_LIMIT_model_json_depth);
    }
    fail_by_status(
        stream, status,
        status == SL_OUT_OF_RANGE ? "an event is nested too deep" : "an event is not JSON");
}

static void
take_parsed(struct sl_provider_stream *stream, const struct sl_sse_event *event, json_t *document)
{
    if (event->is_raw && json_is_array(document)) {
        document = json_array_get(document, 0); /* Gemini wraps an error into a list */
    }
    if (has_error(event, document)) {
        take_error(stream, document);
    } else if (!event->is_raw && json_is_object(document)) {
        take_document(stream, document);
    } else if (!event->is_raw) {
        fail_by_status(stream, SL_INVALID_ARGUMENT, "an event is not a JSON object");
    }
}

static bool is_done(const struct sl_sse_event *event)
{
    return !event->is_raw && sl_slice_equals(event->data, "[DONE]");
}

/* The end marker. */
static void take_done(struct sl_provider_stream *stream)
{
    if (stream->finish == NULL && stream->settings->quirks->done_is_end) {
        stream->finish = sl_strdup(stream->calls.n_slots > 0 ? "tool_calls" : "stop");
        if (stream->finish != NULL) {
            give_calls(stream);
        }
    }
    if (stream->finish == NULL) {
        give_fail(
            stream, SL_FAULT_PROVIDER_TRUNCATED, true, "the stream ended without a finish reason");
    } else if (!stream->is_over) {
        give_finish(stream);
    }
}

static bool try_scan(struct sl_provider_stream *stream, const struct sl_sse_event *event)
{
    struct sl_delta delta;
    if (stream->model == NULL || event->is_raw || event->name.size > 0 ||
        !sl_delta_scan(event->data, &stream->scratch, &delta)) {
        return false;
    }
    give_text(stream, SL_CHUNK_REASONING, delta.reasoning);
    give_text(stream, SL_CHUNK_TEXT, delta.content);
    return true;
}

static bool
on_event(struct sl_provider_stream *stream, const struct sl_sse_event *event, json_t *document)
{
    json_t *parsed = NULL;
    if (stream->is_over || (event->data.size == 0 && !event->is_raw)) {
        return !stream->is_over;
    }
    if (is_done(event)) {
        take_done(stream);
        return !stream->is_over;
    }
    if (document != NULL) {
        take_parsed(stream, event, document);
        return !stream->is_over;
    }
    if (try_scan(stream, event)) {
        return !stream->is_over;
    }
    const enum sl_status status =
        sl_json_parse(event->data, stream->settings->limits->model_json_depth, &parsed);
    if (status == SL_OK) {
        take_parsed(stream, event, parsed);
        json_decref(parsed);
    } else if (!event->is_raw) {
        fail_json(stream, event, status);
    }
    return !stream->is_over;
}

static bool needs_document(struct sl_provider_stream *stream, const struct sl_sse_event *event)
{
    struct sl_delta delta;
    return !is_done(event) && (stream->model == NULL || event->is_raw || event->name.size > 0 ||
                               !sl_delta_scan(event->data, &stream->scratch, &delta));
}

static void on_end(struct sl_provider_stream *stream)
{
    if (stream->is_over) {
        return;
    }
    if (stream->finish != NULL) {
        give_finish(stream);
    } else {
        give_fail(
            stream, SL_FAULT_PROVIDER_TRUNCATED, true, "the stream ended without a finish reason");
    }
}

static void on_reply(struct sl_provider_stream *stream, json_t *document)
{
    if (has_error(NULL, document)) {
        take_error(stream, document);
    } else if (json_is_object(document)) {
        take_document(stream, document);
        on_end(stream);
    } else {
        fail_by_status(stream, SL_INVALID_ARGUMENT, "the reply is not a JSON object");
    }
}

static bool is_finishing(const struct sl_provider_stream *stream)
{
    return stream->finish != NULL;
}

static enum sl_status stream_new(
    const struct sl_provider_settings *settings,
    sl_provider_emit_fn *emit,
    void *user_data,
    struct sl_provider_stream **ret_stream)
{
    struct sl_provider_stream *stream = sl_calloc(1, sizeof(*stream));
    if (stream == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    stream->settings = settings;
    stream->emit = emit;
    stream->user_data = user_data;
    sl_calls_init(&stream->calls, settings->limits);
    sl_buf_init(&stream->details, settings->limits->tool_arguments);
    sl_buf_init(&stream->scratch, sl_utf8_repaired_max(settings->limits->model_event));
    *ret_stream = stream;
    return SL_OK;
}

static struct sl_provider_stream *stream_free(struct sl_provider_stream *stream)
{
    if (stream != NULL) {
        sl_calls_done(&stream->calls);
        sl_buf_done(&stream->details);
        sl_buf_done(&stream->scratch);
        sl_free(stream->model);
        sl_free(stream->finish);
    }
    return sl_free(stream);
}

static uint64_t stream_bytes(const struct sl_provider_stream *stream)
{
    return sizeof(*stream) + sl_calls_memory(&stream->calls) + stream->scratch.capacity +
           stream->details.capacity;
}

const struct sl_provider sl_provider_openai = {
    .kind = "openai_chat",
    .build_request = sl_openai_build_request,
    .stream_new = stream_new,
    .stream_free = stream_free,
    .stream_bytes = stream_bytes,
    .on_event = on_event,
    .prepare = sl_opaque_prepare,
    .needs_document = needs_document,
    .on_reply = on_reply,
    .on_end = on_end,
    .is_finishing = is_finishing,
    .map_error = sl_openai_map_body,
};
