/* A scenario in OpenAI's words: chunks and errors out, requests in. */
#include <inttypes.h>

#include <jansson.h>

#include "runtime/base/mem.h"
#include "runtime/model/json.h"
#include "runtime/model/json_write.h"
#include "runtime/model/scenario.h"

struct sl_scenario_request {
    json_t *document;
    struct sl_scenario_facts facts;
    bool wants_usage, streams;
};

/* ---- Out ---------------------------------------------------------------------------------------
 */

static void put_head(struct sl_json_out *out, const struct sl_scenario_wire *wire)
{
    sl_json_put(out, "data: {\"id\":");
    sl_json_put_cstr(out, wire->id);
    sl_json_putf(
        out,
        ",\"object\":\"chat.completion.chunk\",\"created\":%" PRIu64 ",\"model\":", wire->created);
    sl_json_put_cstr(out, wire->model);
}

static void put_call(struct sl_json_out *out, const struct sl_scenario_piece *piece)
{
    sl_json_putf(out, "\"tool_calls\":[{\"index\":%" PRIu32, piece->index);
    if (piece->is_first) {
        sl_json_put(out, ",\"id\":");
        sl_json_put_cstr(out, piece->id);
        sl_json_put(out, ",\"type\":\"function\"");
    }
    sl_json_put(out, ",\"function\":{");
    if (piece->is_first) {
        sl_json_put(out, "\"name\":");
        sl_json_put_cstr(out, piece->name);
        sl_json_put(out, ",");
    }
    sl_json_put(out, "\"arguments\":");
    sl_json_put_string(out, piece->text);
    sl_json_put(out, "}}]");
}

static void put_delta(struct sl_json_out *out, const struct sl_scenario_piece *piece)
{
    if (piece->kind == SL_SCENARIO_CALL) {
        put_call(out, piece);
    } else if (piece->kind != SL_SCENARIO_FINISH) {
        const bool is_text = piece->kind == SL_SCENARIO_TEXT;
        sl_json_put(out, is_text ? "\"content\":" : "\"reasoning_content\":");
        sl_json_put_string(out, piece->text);
    }
}

static void put_chunk(
    struct sl_json_out *out,
    const struct sl_scenario_piece *piece,
    const struct sl_scenario_wire *wire)
{
    const bool is_finish = piece->kind == SL_SCENARIO_FINISH;
    put_head(out, wire);
    sl_json_put(out, ",\"choices\":[{\"index\":0,\"delta\":{");
    if (piece->is_opening) {
        sl_json_putf(out, "\"role\":\"assistant\"%s", is_finish ? "" : ",");
    }
    put_delta(out, piece);
    sl_json_put(out, "},\"finish_reason\":");
    if (is_finish) {
        sl_json_put_string(out, piece->text);
    } else {
        sl_json_put(out, "null");
    }
    sl_json_put(out, "}]}\n\n");
}

static void put_usage(
    struct sl_json_out *out,
    const struct sl_scenario_piece *piece,
    const struct sl_scenario_wire *wire)
{
    put_head(out, wire);
    sl_json_putf(
        out,
        ",\"choices\":[],\"usage\":{\"prompt_tokens\":%" PRIu64 ",\"completion_tokens\":%" PRIu64
        ",\"total_tokens\":%" PRIu64 ",\"prompt_tokens_details\":{\"cached_tokens\":%" PRIu64
        "},\"completion_tokens_details\":{\"reasoning_tokens\":%" PRIu64 "}}}\n\n",
        piece->input_tokens, piece->output_tokens, piece->input_tokens + piece->output_tokens,
        piece->cached_tokens, piece->reasoning_tokens);
}

static void put_error(struct sl_json_out *out, const struct sl_scenario_piece *piece)
{
    sl_json_put(out, "{\"error\":{\"message\":");
    sl_json_put_cstr(out, piece->message);
    sl_json_put(out, ",\"type\":");
    sl_json_put_cstr(out, piece->code == NULL ? "error" : piece->code);
    sl_json_put(out, ",\"param\":null,\"code\":");
    if (piece->code == NULL) {
        sl_json_put(out, "null");
    } else {
        sl_json_put_cstr(out, piece->code);
    }
    sl_json_put(out, "}}");
}

enum sl_status sl_scenario_render_error(const struct sl_scenario_piece *piece, struct sl_buf *buf)
{
    struct sl_json_out out = { .buf = buf };
    put_error(&out, piece);
    return out.status;
}

enum sl_status sl_scenario_render(
    const struct sl_scenario_piece *piece, const struct sl_scenario_wire *wire, struct sl_buf *buf)
{
    struct sl_json_out out = { .buf = buf };
    switch (piece->kind) {
    case SL_SCENARIO_TEXT:
    case SL_SCENARIO_THINKING:
    case SL_SCENARIO_CALL:
    case SL_SCENARIO_FINISH:
        put_chunk(&out, piece, wire);
        break;
    case SL_SCENARIO_USAGE:
        put_usage(&out, piece, wire);
        break;
    case SL_SCENARIO_ERROR:
        sl_json_put(&out, "data: ");
        put_error(&out, piece);
        sl_json_put(&out, "\n\n");
        break;
    case SL_SCENARIO_RAW:
        sl_json_put_bytes(&out, piece->text);
        sl_json_put(&out, "\n\n");
        break;
    case SL_SCENARIO_END:
        sl_json_put(&out, "data: [DONE]\n\n");
        break;
    case SL_SCENARIO_HANG:
    case SL_SCENARIO_CUT:
        break;
    }
    return out.status;
}

/* ---- In -------------------------------------------------------------------------------------- */

/* The text of a message: a string, or the first text part. */
static struct sl_slice content_of(const json_t *message)
{
    const json_t *content = json_object_get(message, "content");
    size_t i = 0;
    const json_t *part = NULL;
    if (!json_is_array(content)) {
        return sl_json_slice(content);
    }
    json_array_foreach(content, i, part)
    {
        const json_t *text = json_object_get(part, "text");
        if (json_is_string(text)) {
            return sl_json_slice(text);
        }
    }
    return sl_slice_of(NULL, 0);
}

static void read_message(struct sl_scenario_facts *facts, const json_t *message)
{
    const struct sl_slice role = sl_json_slice(json_object_get(message, "role"));
    if (sl_slice_equals(role, "user")) {
        facts->input = content_of(message);
        facts->last_tool_result = sl_slice_of(NULL, 0);
        facts->iteration = 1;
    } else if (sl_slice_equals(role, "assistant")) {
        facts->iteration++;
    } else if (sl_slice_equals(role, "tool")) {
        facts->last_tool_result = content_of(message);
    }
}

enum sl_status sl_scenario_request_parse(
    struct sl_slice body,
    const struct sl_limits *limits,
    struct sl_scenario_request **ret_request,
    struct sl_error *err)
{
    json_t *document = NULL;
    size_t i = 0;
    const json_t *message = NULL;
    const enum sl_status status = sl_json_parse(body, limits->model_json_depth, &document);
    if (status != SL_OK) {
        return sl_fail(err, status, "the body is not JSON");
    }
    const json_t *messages = json_object_get(document, "messages");
    const char *model = sl_json_cstr(json_object_get(document, "model"));
    struct sl_scenario_request *request = sl_calloc(1, sizeof(*request));
    if (!json_is_array(messages) || model == NULL || request == NULL) {
        const bool is_full = request == NULL;
        sl_free(request);
        json_decref(document);
        return is_full ? sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for a request")
                       : sl_fail(err, SL_INVALID_ARGUMENT, "a request has a model and messages");
    }
    request->document = document;
    request->facts.model = model;
    request->facts.iteration = 1;
    request->facts.request_bytes = body.size;
    json_array_foreach(messages, i, message)
    {
        read_message(&request->facts, message);
    }
    request->streams = json_is_true(json_object_get(document, "stream"));
    request->wants_usage =
        !request->streams ||
        json_is_true(json_object_get(json_object_get(document, "stream_options"), "include_usage"));
    *ret_request = request;
    return SL_OK;
}

struct sl_scenario_request *sl_scenario_request_free(struct sl_scenario_request *request)
{
    if (request != NULL) {
        json_decref(request->document);
    }
    return sl_free(request);
}

struct sl_scenario_facts sl_scenario_request_facts(const struct sl_scenario_request *request)
{
    return request->facts;
}

bool sl_scenario_request_wants_usage(const struct sl_scenario_request *request)
{
    return request->wants_usage;
}

bool sl_scenario_request_streams(const struct sl_scenario_request *request)
{
    return request->streams;
}
