/* A scenario in OpenAI's words: chunks and errors out, requests in. */
#include <inttypes.h>

#include <jansson.h>

#include "runtime/base/mem.h"
#include "runtime/model/json.h"
#include "runtime/model/scenario.h"

struct sl_scenario_request {
    json_t *document;
    struct sl_scenario_facts facts;
    bool wants_usage, streams;
};

/* ---- Out ------------------------------------------------------------------------------------- */

static enum sl_status add_head(const struct sl_scenario_wire *wire, struct sl_buf *buf)
{
    SL_TRY(sl_buf_add_str(buf, "data: {\"id\":"));
    SL_TRY(sl_json_add_string(buf, sl_slice_str(wire->id)));
    SL_TRY(sl_buf_addf(
        buf,
        ",\"object\":\"chat.completion.chunk\",\"created\":%" PRIu64 ",\"model\":", wire->created));
    return sl_json_add_string(buf, sl_slice_str(wire->model));
}

static enum sl_status add_call(const struct sl_scenario_piece *piece, struct sl_buf *buf)
{
    SL_TRY(sl_buf_addf(buf, "\"tool_calls\":[{\"index\":%" PRIu32, piece->index));
    if (piece->is_first) {
        SL_TRY(sl_buf_add_str(buf, ",\"id\":"));
        SL_TRY(sl_json_add_string(buf, sl_slice_str(piece->id)));
        SL_TRY(sl_buf_add_str(buf, ",\"type\":\"function\""));
    }
    SL_TRY(sl_buf_add_str(buf, ",\"function\":{"));
    if (piece->is_first) {
        SL_TRY(sl_buf_add_str(buf, "\"name\":"));
        SL_TRY(sl_json_add_string(buf, sl_slice_str(piece->name)));
        SL_TRY(sl_buf_add_byte(buf, ','));
    }
    SL_TRY(sl_buf_add_str(buf, "\"arguments\":"));
    SL_TRY(sl_json_add_string(buf, piece->text));
    return sl_buf_add_str(buf, "}}]");
}

static enum sl_status add_delta(const struct sl_scenario_piece *piece, struct sl_buf *buf)
{
    if (piece->kind == SL_SCENARIO_CALL) {
        return add_call(piece, buf);
    }
    if (piece->kind == SL_SCENARIO_FINISH) {
        return SL_OK;
    }
    SL_TRY(sl_buf_add_str(
        buf, piece->kind == SL_SCENARIO_TEXT ? "\"content\":" : "\"reasoning_content\":"));
    return sl_json_add_string(buf, piece->text);
}

static enum sl_status add_chunk(
    const struct sl_scenario_piece *piece, const struct sl_scenario_wire *wire, struct sl_buf *buf)
{
    const bool is_finish = piece->kind == SL_SCENARIO_FINISH;
    SL_TRY(add_head(wire, buf));
    SL_TRY(sl_buf_add_str(buf, ",\"choices\":[{\"index\":0,\"delta\":{"));
    if (piece->is_opening) {
        SL_TRY(sl_buf_addf(buf, "\"role\":\"assistant\"%s", is_finish ? "" : ","));
    }
    SL_TRY(add_delta(piece, buf));
    SL_TRY(sl_buf_add_str(buf, "},\"finish_reason\":"));
    SL_TRY(is_finish ? sl_json_add_string(buf, piece->text) : sl_buf_add_str(buf, "null"));
    return sl_buf_add_str(buf, "}]}\n\n");
}

static enum sl_status add_usage(
    const struct sl_scenario_piece *piece, const struct sl_scenario_wire *wire, struct sl_buf *buf)
{
    SL_TRY(add_head(wire, buf));
    return sl_buf_addf(
        buf,
        ",\"choices\":[],\"usage\":{\"prompt_tokens\":%" PRIu64 ",\"completion_tokens\":%" PRIu64
        ",\"total_tokens\":%" PRIu64 ",\"prompt_tokens_details\":{\"cached_tokens\":%" PRIu64
        "},\"completion_tokens_details\":{\"reasoning_tokens\":%" PRIu64 "}}}\n\n",
        piece->input_tokens, piece->output_tokens, piece->input_tokens + piece->output_tokens,
        piece->cached_tokens, piece->reasoning_tokens);
}

enum sl_status sl_scenario_render_error(const struct sl_scenario_piece *piece, struct sl_buf *buf)
{
    SL_TRY(sl_buf_add_str(buf, "{\"error\":{\"message\":"));
    SL_TRY(sl_json_add_string(buf, sl_slice_str(piece->message)));
    SL_TRY(sl_buf_add_str(buf, ",\"type\":"));
    SL_TRY(sl_json_add_string(buf, sl_slice_str(piece->code == NULL ? "error" : piece->code)));
    SL_TRY(sl_buf_add_str(buf, ",\"param\":null,\"code\":"));
    SL_TRY(
        piece->code == NULL ? sl_buf_add_str(buf, "null")
                            : sl_json_add_string(buf, sl_slice_str(piece->code)));
    return sl_buf_add_str(buf, "}}");
}

enum sl_status sl_scenario_render(
    const struct sl_scenario_piece *piece, const struct sl_scenario_wire *wire, struct sl_buf *buf)
{
    switch (piece->kind) {
    case SL_SCENARIO_TEXT:
    case SL_SCENARIO_THINKING:
    case SL_SCENARIO_CALL:
    case SL_SCENARIO_FINISH:
        return add_chunk(piece, wire, buf);
    case SL_SCENARIO_USAGE:
        return add_usage(piece, wire, buf);
    case SL_SCENARIO_ERROR:
        SL_TRY(sl_buf_add_str(buf, "data: "));
        SL_TRY(sl_scenario_render_error(piece, buf));
        return sl_buf_add_str(buf, "\n\n");
    case SL_SCENARIO_RAW:
        SL_TRY(sl_buf_add(buf, piece->text));
        return sl_buf_add_str(buf, "\n\n");
    case SL_SCENARIO_END:
        return sl_buf_add_str(buf, "data: [DONE]\n\n");
    case SL_SCENARIO_HANG:
    case SL_SCENARIO_CUT:
        break;
    }
    return SL_OK;
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
