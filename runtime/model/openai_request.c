#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

#include "runtime/base/crypto.h"
#include "runtime/base/mem.h"
#include "runtime/model/json.h"
#include "runtime/model/json_write.h"
#include "runtime/model/openai.h"

enum { URL_BYTES = 8192, HEADERS_BYTES = 65536 };

/* What the functions that write the body share. */
struct writer {
    struct sl_json_out out;
    const struct sl_quirks *quirks;
    size_t max_depth;
};

void sl_provider_request_init(struct sl_provider_request *request, const struct sl_limits *limits)
{
    sl_buf_init(&request->url, URL_BYTES);
    sl_buf_init(&request->headers, HEADERS_BYTES);
    sl_buf_init(&request->body, limits->model_request);
}

void sl_provider_request_done(struct sl_provider_request *request)
{
    sl_buf_done(&request->url);
    sl_buf_done(&request->headers);
    sl_buf_done(&request->body);
}

/* ---- URL and headers
 * ----------------------------------------------------------------------------- */

static bool is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

static void put_percent(struct sl_json_out *url, const char *text)
{
    for (; *text != '\0'; text++) {
        if (is_unreserved(*text)) {
            sl_json_put_bytes(url, sl_slice_of(text, 1));
        } else {
            sl_json_putf(url, "%%%02X", (unsigned)(uint8_t)*text);
        }
    }
}

static enum sl_status
build_url(const struct sl_provider_settings *settings, const char *model, struct sl_buf *buf)
{
    struct sl_json_out url = { .buf = buf };
    const char *path =
        settings->quirks->path == NULL ? "/chat/completions" : settings->quirks->path;
    const char *hole = strstr(path, "{model}");
    sl_json_put(&url, settings->base_url);
    if (hole == NULL) {
        sl_json_put(&url, path);
    } else {
        sl_json_put_bytes(&url, sl_slice_of(path, (size_t)(hole - path)));
        put_percent(&url, model);
        sl_json_put(&url, hole + strlen("{model}"));
    }
    return url.status;
}

/* `name` ends in its colon and blank, or in those of a scheme. */
static void put_header(struct sl_json_out *headers, const char *name, const char *value)
{
    sl_json_put(headers, name);
    sl_json_put(headers, value);
    sl_json_put_bytes(headers, sl_slice_of("", 1)); /* the NUL between two */
}

static enum sl_status build_headers(
    const struct sl_provider_settings *settings,
    const struct sl_model_request *request,
    struct sl_buf *buf)
{
    struct sl_json_out headers = { .buf = buf };
    const struct sl_quirks *quirks = settings->quirks;
    put_header(&headers, "Content-Type: ", "application/json");
    put_header(&headers, "Accept: ", "text/event-stream");
    if (settings->key != NULL && quirks->auth == SL_AUTH_API_KEY) {
        put_header(&headers, "api-key: ", settings->key);
    } else if (settings->key != NULL) {
        put_header(&headers, "Authorization: Bearer ", settings->key);
    }
    if (quirks->idempotency_header != NULL && request->run_id != NULL) {
        char value[128];
        (void)snprintf(
            value, sizeof(value), ": %.64s:%" PRIu32, request->run_id, request->iteration);
        put_header(&headers, quirks->idempotency_header, value);
    }
    return headers.status;
}

/* ---- Messages
 * ------------------------------------------------------------------------------------ */

static bool is_alnum9(const char *id)
{
    size_t n = 0;
    for (; id[n] != '\0'; n++) {
        const char c = id[n];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))) {
            return false;
        }
    }
    return n == 9;
}

/* A call's id in the form that the entry wants: foreign ones become nine characters of their hash,
 * the same for the call and for its result. */
static void put_id(struct writer *writer, const char *id)
{
    char hex[SL_SHA256_HEX_BYTES];
    if (writer->quirks->tool_id_format == SL_ID_CALL24 || is_alnum9(id)) {
        sl_json_put_cstr(&writer->out, id);
    } else if (sl_sha256_hex(sl_slice_str(id), hex) == SL_OK) {
        sl_json_putf(&writer->out, "\"%.9s\"", hex);
    } else {
        writer->out.status = SL_RESOURCE_EXHAUSTED;
    }
}

static struct sl_slice trim(struct sl_slice text)
{
    while (text.size > 0 && strchr(" \t\r\n", text.data[0]) != NULL) {
        text = sl_slice_of(text.data + 1, text.size - 1);
    }
    while (text.size > 0 && strchr(" \t\r\n", text.data[text.size - 1]) != NULL) {
        text.size--;
    }
    return text;
}

/* The members of an object text, behind a comma: `{"a":1}` puts `,"a":1`. */
static void put_members(struct writer *writer, const char *object)
{
    struct sl_slice text = trim(sl_slice_str(object));
    if (!sl_json_is_object(text, writer->max_depth)) {
        writer->out.status = SL_INVALID_ARGUMENT;
        return;
    }
    text = trim(sl_slice_of(text.data + 1, text.size - 2));
    if (text.size > 0) {
        sl_json_put(&writer->out, ",");
        sl_json_put_bytes(&writer->out, text);
    }
}

static void put_call(struct writer *writer, const struct sl_chat_call *call)
{
    sl_json_put(&writer->out, "{\"id\":");
    put_id(writer, call->id);
    sl_json_put(&writer->out, ",\"type\":\"function\",\"function\":{\"name\":");
    sl_json_put_cstr(&writer->out, call->name);
    sl_json_put(&writer->out, ",\"arguments\":");
    sl_json_put_cstr(&writer->out, call->arguments_json);
    sl_json_put(&writer->out, "}");
    if (call->opaque_json != NULL) {
        put_members(writer, call->opaque_json);
    }
    sl_json_put(&writer->out, "}");
}

static void put_reasoning(struct writer *writer, const struct sl_chat_message *message)
{
    const enum sl_quirk_echo echo = writer->quirks->reasoning_echo;
    if (echo == SL_ECHO_NONE || message->n_calls == 0 || message->reasoning.size == 0) {
        return;
    }
    sl_json_put(
        &writer->out, echo == SL_ECHO_REASONING ? ",\"reasoning\":" : ",\"reasoning_content\":");
    sl_json_put_string(&writer->out, message->reasoning);
}

static void put_details(struct writer *writer, const struct sl_chat_message *message)
{
    if (writer->quirks->reasoning_details_echo && message->opaque_json != NULL) {
        sl_json_put(&writer->out, ",\"reasoning_details\":");
        sl_json_put(&writer->out, message->opaque_json);
    }
}

static void put_assistant(struct writer *writer, const struct sl_chat_message *message)
{
    sl_json_put(&writer->out, "{\"role\":\"assistant\",\"content\":");
    if (message->content.size == 0 && message->n_calls > 0) {
        sl_json_put(&writer->out, "null");
    } else {
        sl_json_put_string(&writer->out, message->content);
    }
    put_reasoning(writer, message);
    put_details(writer, message);
    for (size_t i = 0; i < message->n_calls; i++) {
        sl_json_put(&writer->out, i == 0 ? ",\"tool_calls\":[" : ",");
        put_call(writer, &message->calls[i]);
    }
    sl_json_put(&writer->out, message->n_calls > 0 ? "]}" : "}");
}

static void put_plain(struct writer *writer, const char *role, struct sl_slice content)
{
    sl_json_putf(&writer->out, "{\"role\":\"%s\",\"content\":", role);
    sl_json_put_string(&writer->out, content);
    sl_json_put(&writer->out, "}");
}

static void put_result(struct writer *writer, const struct sl_chat_message *message)
{
    sl_json_put(&writer->out, "{\"role\":\"tool\",\"tool_call_id\":");
    put_id(writer, message->call_id);
    sl_json_put(&writer->out, ",\"content\":");
    sl_json_put_string(&writer->out, message->content);
    sl_json_put(&writer->out, "}");
}

static void put_message(struct writer *writer, const struct sl_chat_message *message)
{
    switch (message->role) {
    case SL_CHAT_SYSTEM:
        put_plain(
            writer, writer->quirks->developer_role ? "developer" : "system", message->content);
        break;
    case SL_CHAT_USER:
        put_plain(writer, "user", message->content);
        break;
    case SL_CHAT_ASSISTANT:
        put_assistant(writer, message);
        break;
    case SL_CHAT_TOOL:
        put_result(writer, message);
        break;
    }
}

static void put_messages(struct writer *writer, const struct sl_model_request *request)
{
    const char *comma = "";
    sl_json_put(&writer->out, ",\"messages\":[");
    if (request->system != NULL) {
        const struct sl_chat_message system = {
            .role = SL_CHAT_SYSTEM,
            .content = sl_slice_str(request->system),
        };
        put_message(writer, &system);
        comma = ",";
    }
    for (size_t i = 0; i < request->n_messages; i++) {
        sl_json_put(&writer->out, comma);
        put_message(writer, &request->messages[i]);
        comma = ",";
    }
    sl_json_put(&writer->out, "]");
}

/* ---- Options
 * ------------------------------------------------------------------------------------- */

static void put_tools(struct writer *writer, const struct sl_model_request *request)
{
    for (size_t i = 0; i < request->n_tools; i++) {
        const struct sl_chat_tool *tool = &request->tools[i];
        sl_json_put(&writer->out, i == 0 ? ",\"tools\":[" : ",");
        sl_json_put(&writer->out, "{\"type\":\"function\",\"function\":{\"name\":");
        sl_json_put_cstr(&writer->out, tool->name);
        sl_json_put(&writer->out, ",\"description\":");
        sl_json_put_cstr(&writer->out, tool->description);
        sl_json_put(&writer->out, ",\"parameters\":");
        sl_json_put(
            &writer->out,
            tool->parameters_json == NULL ? "{\"type\":\"object\"}" : tool->parameters_json);
        sl_json_put(&writer->out, "}}");
    }
    sl_json_put(&writer->out, request->n_tools > 0 ? "]" : "");
}

/* False: extra_body has an option of this name, which counts. */
static bool wants(const struct writer *writer, const char *name)
{
    return json_object_get(writer->quirks->extra_body, name) == NULL;
}

static void put_number(struct writer *writer, const char *name, const double *value)
{
    char text[40];
    if (value == NULL || !wants(writer, name)) {
        return;
    }
    json_t *number = json_real(*value); /* NULL too when it is not finite */
    const size_t n =
        number == NULL
            ? 0
            : json_dumpb(number, text, sizeof(text), JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    json_decref(number);
    if (n == 0 || n > sizeof(text)) {
        writer->out.status = SL_INVALID_ARGUMENT;
        return;
    }
    sl_json_putf(&writer->out, ",\"%s\":%.*s", name, (int)n, text);
}

static void put_stop(struct writer *writer, const struct sl_model_request *request)
{
    if (request->n_stop == 0 || !wants(writer, "stop")) {
        return;
    }
    for (size_t i = 0; i < request->n_stop; i++) {
        sl_json_put(&writer->out, i == 0 ? ",\"stop\":[" : ",");
        sl_json_put_cstr(&writer->out, request->stop[i]);
    }
    sl_json_put(&writer->out, "]");
}

static void put_limits(struct writer *writer, const struct sl_model_request *request)
{
    const bool is_new = writer->quirks->max_tokens_field == SL_MAX_TOKENS_COMPLETION;
    const char *name = is_new ? "max_completion_tokens" : "max_tokens";
    if (request->max_tokens > 0 && wants(writer, name)) {
        sl_json_putf(&writer->out, ",\"%s\":%" PRIu64, name, request->max_tokens);
    }
    put_stop(writer, request);
}

static void put_behaviour(struct writer *writer, const struct sl_model_request *request)
{
    const enum sl_quirk_parallel parallel = writer->quirks->parallel_tool_calls;
    if (request->reasoning_effort != NULL && wants(writer, "reasoning_effort")) {
        sl_json_put(&writer->out, ",\"reasoning_effort\":");
        sl_json_put_cstr(&writer->out, request->reasoning_effort);
    }
    if (parallel != SL_PARALLEL_UNSET && request->n_tools > 0 &&
        wants(writer, "parallel_tool_calls")) {
        sl_json_putf(
            &writer->out, ",\"parallel_tool_calls\":%s",
            parallel == SL_PARALLEL_TRUE ? "true" : "false");
    }
    if (request->output_schema_json != NULL && wants(writer, "response_format")) {
        sl_json_put(
            &writer->out, ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":"
                          "{\"name\":\"output\",\"schema\":");
        sl_json_put(&writer->out, request->output_schema_json);
        sl_json_put(&writer->out, "}}");
    }
}

static void put_stream_options(struct writer *writer)
{
    if (writer->quirks->no_stream_usage || !wants(writer, "stream_options")) {
        return;
    }
    sl_json_put(&writer->out, ",\"stream_options\":{\"include_usage\":true");
    sl_json_put(
        &writer->out, writer->quirks->no_obfuscation ? ",\"include_obfuscation\":false}" : "}");
}

static void put_extra(struct writer *writer)
{
    if (writer->quirks->extra_body == NULL) {
        return;
    }
    char *text = json_dumps(writer->quirks->extra_body, JSON_COMPACT);
    if (text == NULL) {
        writer->out.status = SL_RESOURCE_EXHAUSTED;
        return;
    }
    put_members(writer, text);
    free(text);
}

static enum sl_status build_body(
    const struct sl_provider_settings *settings,
    const struct sl_model_request *request,
    struct sl_buf *body)
{
    struct writer writer = {
        .out = { .buf = body },
        .quirks = settings->quirks,
        .max_depth = settings->limits->model_json_depth,
    };
    sl_json_put(&writer.out, "{\"model\":");
    sl_json_put_cstr(&writer.out, request->model);
    sl_json_put(&writer.out, ",\"stream\":true");
    put_stream_options(&writer);
    put_messages(&writer, request);
    put_tools(&writer, request);
    put_number(&writer, "temperature", request->temperature);
    put_number(&writer, "top_p", request->top_p);
    put_limits(&writer, request);
    put_behaviour(&writer, request);
    put_extra(&writer);
    sl_json_put(&writer.out, "}");
    return writer.out.status;
}

enum sl_status sl_openai_build_request(
    const struct sl_provider_settings *settings,
    const struct sl_model_request *request,
    struct sl_provider_request *ret_request,
    struct sl_error *err)
{
    sl_provider_request_init(ret_request, settings->limits);
    SL_TRY(build_url(settings, request->model, &ret_request->url));
    SL_TRY(build_headers(settings, request, &ret_request->headers));
    const enum sl_status status = build_body(settings, request, &ret_request->body);
    if (status == SL_OUT_OF_RANGE) {
        return sl_fail(
            err, status, "the request has more than %" PRIu64 " bytes",
            settings->limits->model_request);
    }
    if (status == SL_INVALID_ARGUMENT) {
        return sl_fail(err, status, "the request has a part that is not JSON");
    }
    return status == SL_OK ? SL_OK : sl_fail(err, status, "no memory for the request");
}
