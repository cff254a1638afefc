#include <inttypes.h>
#include <stdio.h>

#include <jansson.h>

#include "runtime/base/crypto.h"
#include "runtime/base/mem.h"
#include "runtime/model/json.h"
#include "runtime/model/openai.h"

enum { URL_BYTES = 8192, HEADERS_BYTES = 65536 };

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

static enum sl_status add(struct sl_buf *buf, const char *text)
{
    return sl_buf_add_str(buf, text);
}

static enum sl_status add_json(struct sl_buf *buf, const char *text)
{
    return sl_json_add_string(buf, sl_slice_str(text));
}

/* ---- URL and headers ------------------------------------------------------------------------- */

static bool is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

static enum sl_status add_percent(struct sl_buf *url, const char *text)
{
    for (; *text != '\0'; text++) {
        SL_TRY(
            is_unreserved(*text) ? sl_buf_add_byte(url, (uint8_t)*text)
                                 : sl_buf_addf(url, "%%%02X", (unsigned)(uint8_t)*text));
    }
    return SL_OK;
}

static enum sl_status
build_url(const struct sl_provider_settings *settings, const char *model, struct sl_buf *url)
{
    const char *path =
        settings->quirks->path == NULL ? "/chat/completions" : settings->quirks->path;
    const char *hole = strstr(path, "{model}");
    SL_TRY(add(url, settings->base_url));
    if (hole == NULL) {
        return add(url, path);
    }
    SL_TRY(sl_buf_add(url, sl_slice_of(path, (size_t)(hole - path))));
    SL_TRY(add_percent(url, model));
    return add(url, hole + strlen("{model}"));
}

static enum sl_status add_header(struct sl_buf *headers, const char *name, const char *value)
{
    SL_TRY(sl_buf_addf(headers, "%s: %s", name, value));
    return sl_buf_add_byte(headers, '\0');
}

static enum sl_status build_headers(
    const struct sl_provider_settings *settings,
    const struct sl_model_request *request,
    struct sl_buf *headers)
{
    const struct sl_quirks *quirks = settings->quirks;
    SL_TRY(add_header(headers, "Content-Type", "application/json"));
    SL_TRY(add_header(headers, "Accept", "text/event-stream"));
    if (settings->key != NULL && quirks->auth == SL_AUTH_API_KEY) {
        SL_TRY(add_header(headers, "api-key", settings->key));
    } else if (settings->key != NULL) {
        SL_TRY(sl_buf_addf(headers, "Authorization: Bearer %s", settings->key));
        SL_TRY(sl_buf_add_byte(headers, '\0'));
    }
    if (quirks->idempotency_header != NULL && request->run_id != NULL) {
        SL_TRY(sl_buf_addf(
            headers, "%s: %s:%" PRIu32, quirks->idempotency_header, request->run_id,
            request->iteration));
        SL_TRY(sl_buf_add_byte(headers, '\0'));
    }
    return SL_OK;
}

/* ---- Messages -------------------------------------------------------------------------------- */

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
static enum sl_status add_id(const struct sl_quirks *quirks, const char *id, struct sl_buf *body)
{
    char hex[SL_SHA256_HEX_BYTES];
    if (quirks->tool_id_format == SL_ID_CALL24 || is_alnum9(id)) {
        return add_json(body, id);
    }
    SL_TRY(sl_sha256_hex(sl_slice_str(id), hex));
    return sl_buf_addf(body, "\"%.9s\"", hex);
}

/* The members of an object text, behind a comma: `{"a":1}` adds `,"a":1`. */
static enum sl_status add_members(const char *object, size_t max_depth, struct sl_buf *body)
{
    struct sl_slice text = sl_slice_str(object);
    if (!sl_json_is_object(text, max_depth)) {
        return SL_INVALID_ARGUMENT;
    }
    while (text.data[0] != '{') {
        text = sl_slice_of(text.data + 1, text.size - 1);
    }
    while (text.data[text.size - 1] != '}') {
        text.size--;
    }
    text = sl_slice_of(text.data + 1, text.size - 2);
    size_t blank = 0;
    while (blank < text.size && strchr(" \t\r\n", text.data[blank]) != NULL) {
        blank++;
    }
    if (blank == text.size) {
        return SL_OK;
    }
    SL_TRY(sl_buf_add_byte(body, ','));
    return sl_buf_add(body, text);
}

static enum sl_status add_call(
    const struct sl_provider_settings *settings,
    const struct sl_chat_call *call,
    struct sl_buf *body)
{
    SL_TRY(add(body, "{\"id\":"));
    SL_TRY(add_id(settings->quirks, call->id, body));
    SL_TRY(add(body, ",\"type\":\"function\",\"function\":{\"name\":"));
    SL_TRY(add_json(body, call->name));
    SL_TRY(add(body, ",\"arguments\":"));
    SL_TRY(add_json(body, call->arguments_json));
    SL_TRY(add(body, "}"));
    if (call->opaque_json != NULL) {
        SL_TRY(add_members(call->opaque_json, settings->limits->model_json_depth, body));
    }
    return add(body, "}");
}

static enum sl_status add_assistant(
    const struct sl_provider_settings *settings,
    const struct sl_chat_message *message,
    struct sl_buf *body)
{
    const enum sl_quirk_echo echo = settings->quirks->reasoning_echo;
    SL_TRY(add(body, "{\"role\":\"assistant\",\"content\":"));
    SL_TRY(
        message->content.size == 0 && message->n_calls > 0
            ? add(body, "null")
            : sl_json_add_string(body, message->content));
    if (echo != SL_ECHO_NONE && message->n_calls > 0 && message->reasoning.size > 0) {
        SL_TRY(
            add(body, echo == SL_ECHO_REASONING ? ",\"reasoning\":" : ",\"reasoning_content\":"));
        SL_TRY(sl_json_add_string(body, message->reasoning));
    }
    for (size_t i = 0; i < message->n_calls; i++) {
        SL_TRY(add(body, i == 0 ? ",\"tool_calls\":[" : ","));
        SL_TRY(add_call(settings, &message->calls[i], body));
    }
    return add(body, message->n_calls > 0 ? "]}" : "}");
}

static enum sl_status add_plain(const char *role, struct sl_slice content, struct sl_buf *body)
{
    SL_TRY(sl_buf_addf(body, "{\"role\":\"%s\",\"content\":", role));
    SL_TRY(sl_json_add_string(body, content));
    return add(body, "}");
}

static enum sl_status add_result(
    const struct sl_provider_settings *settings,
    const struct sl_chat_message *message,
    struct sl_buf *body)
{
    SL_TRY(add(body, "{\"role\":\"tool\",\"tool_call_id\":"));
    SL_TRY(add_id(settings->quirks, message->call_id, body));
    SL_TRY(add(body, ",\"content\":"));
    SL_TRY(sl_json_add_string(body, message->content));
    return add(body, "}");
}

static enum sl_status add_message(
    const struct sl_provider_settings *settings,
    const struct sl_chat_message *message,
    struct sl_buf *body)
{
    switch (message->role) {
    case SL_CHAT_SYSTEM:
        return add_plain(
            settings->quirks->developer_role ? "developer" : "system", message->content, body);
    case SL_CHAT_USER:
        return add_plain("user", message->content, body);
    case SL_CHAT_ASSISTANT:
        return add_assistant(settings, message, body);
    case SL_CHAT_TOOL:
        break;
    }
    return add_result(settings, message, body);
}

static enum sl_status add_messages(
    const struct sl_provider_settings *settings,
    const struct sl_model_request *request,
    struct sl_buf *body)
{
    bool is_first = true;
    SL_TRY(add(body, ",\"messages\":["));
    if (request->system != NULL) {
        const struct sl_chat_message system = {
            .role = SL_CHAT_SYSTEM,
            .content = sl_slice_str(request->system),
        };
        SL_TRY(add_message(settings, &system, body));
        is_first = false;
    }
    for (size_t i = 0; i < request->n_messages; i++) {
        SL_TRY(is_first ? SL_OK : add(body, ","));
        SL_TRY(add_message(settings, &request->messages[i], body));
        is_first = false;
    }
    return add(body, "]");
}

/* ---- Options --------------------------------------------------------------------------------- */

static enum sl_status add_tools(const struct sl_model_request *request, struct sl_buf *body)
{
    for (size_t i = 0; i < request->n_tools; i++) {
        const struct sl_chat_tool *tool = &request->tools[i];
        SL_TRY(add(body, i == 0 ? ",\"tools\":[" : ","));
        SL_TRY(add(body, "{\"type\":\"function\",\"function\":{\"name\":"));
        SL_TRY(add_json(body, tool->name));
        SL_TRY(add(body, ",\"description\":"));
        SL_TRY(add_json(body, tool->description == NULL ? "" : tool->description));
        SL_TRY(add(body, ",\"parameters\":"));
        SL_TRY(add(
            body, tool->parameters_json == NULL ? "{\"type\":\"object\"}" : tool->parameters_json));
        SL_TRY(add(body, "}}"));
    }
    return request->n_tools == 0 ? SL_OK : add(body, "]");
}

/* The name of an option that is to be written; false: extra_body has its own. */
static bool wants(const struct sl_quirks *quirks, const char *name)
{
    return quirks->extra_body == NULL || json_object_get(quirks->extra_body, name) == NULL;
}

static enum sl_status add_number(
    const struct sl_quirks *quirks, const char *name, const double *value, struct sl_buf *body)
{
    char text[40];
    if (value == NULL || !wants(quirks, name)) {
        return SL_OK;
    }
    json_t *number = json_real(*value); /* NULL too when it is not finite */
    const size_t n =
        number == NULL
            ? 0
            : json_dumpb(number, text, sizeof(text), JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    json_decref(number);
    if (n == 0 || n > sizeof(text)) {
        return SL_INVALID_ARGUMENT;
    }
    SL_TRY(sl_buf_addf(body, ",\"%s\":", name));
    return sl_buf_add(body, sl_slice_of(text, n));
}

static enum sl_status add_stop(
    const struct sl_quirks *quirks, const struct sl_model_request *request, struct sl_buf *body)
{
    if (request->n_stop == 0 || !wants(quirks, "stop")) {
        return SL_OK;
    }
    for (size_t i = 0; i < request->n_stop; i++) {
        SL_TRY(add(body, i == 0 ? ",\"stop\":[" : ","));
        SL_TRY(add_json(body, request->stop[i]));
    }
    return add(body, "]");
}

static enum sl_status add_sampling(
    const struct sl_quirks *quirks, const struct sl_model_request *request, struct sl_buf *body)
{
    const char *max_tokens = quirks->max_tokens_field == SL_MAX_TOKENS_COMPLETION
                                 ? "max_completion_tokens"
                                 : "max_tokens";
    SL_TRY(add_number(quirks, "temperature", request->temperature, body));
    SL_TRY(add_number(quirks, "top_p", request->top_p, body));
    if (request->max_tokens > 0 && wants(quirks, max_tokens)) {
        SL_TRY(sl_buf_addf(body, ",\"%s\":%" PRIu64, max_tokens, request->max_tokens));
    }
    SL_TRY(add_stop(quirks, request, body));
    if (request->reasoning_effort != NULL && wants(quirks, "reasoning_effort")) {
        SL_TRY(add(body, ",\"reasoning_effort\":"));
        SL_TRY(add_json(body, request->reasoning_effort));
    }
    if (quirks->parallel_tool_calls != SL_PARALLEL_UNSET && request->n_tools > 0 &&
        wants(quirks, "parallel_tool_calls")) {
        SL_TRY(sl_buf_addf(
            body, ",\"parallel_tool_calls\":%s",
            quirks->parallel_tool_calls == SL_PARALLEL_TRUE ? "true" : "false"));
    }
    return SL_OK;
}

static enum sl_status add_schema(
    const struct sl_quirks *quirks, const struct sl_model_request *request, struct sl_buf *body)
{
    if (request->output_schema_json == NULL || !wants(quirks, "response_format")) {
        return SL_OK;
    }
    SL_TRY(
        add(body, ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":"
                  "{\"name\":\"output\",\"schema\":"));
    SL_TRY(add(body, request->output_schema_json));
    return add(body, "}}");
}

static enum sl_status add_stream_options(const struct sl_quirks *quirks, struct sl_buf *body)
{
    if (quirks->no_stream_usage || !wants(quirks, "stream_options")) {
        return SL_OK;
    }
    SL_TRY(add(body, ",\"stream_options\":{\"include_usage\":true"));
    if (quirks->no_obfuscation) {
        SL_TRY(add(body, ",\"include_obfuscation\":false"));
    }
    return add(body, "}");
}

static enum sl_status
add_extra(const struct sl_quirks *quirks, size_t max_depth, struct sl_buf *body)
{
    if (quirks->extra_body == NULL) {
        return SL_OK;
    }
    char *text = json_dumps(quirks->extra_body, JSON_COMPACT);
    if (text == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    const enum sl_status status = add_members(text, max_depth, body);
    free(text);
    return status;
}

static enum sl_status build_body(
    const struct sl_provider_settings *settings,
    const struct sl_model_request *request,
    struct sl_buf *body)
{
    const struct sl_quirks *quirks = settings->quirks;
    SL_TRY(add(body, "{\"model\":"));
    SL_TRY(add_json(body, request->model));
    SL_TRY(add(body, ",\"stream\":true"));
    SL_TRY(add_stream_options(quirks, body));
    SL_TRY(add_messages(settings, request, body));
    SL_TRY(add_tools(request, body));
    SL_TRY(add_sampling(quirks, request, body));
    SL_TRY(add_schema(quirks, request, body));
    SL_TRY(add_extra(quirks, settings->limits->model_json_depth, body));
    return add(body, "}");
}

/* Bytes that the body has at least; so a refusal for its size is told from one for memory. */
static uint64_t measure(const struct sl_model_request *request)
{
    uint64_t bytes = request->system == NULL ? 0 : strlen(request->system);
    for (size_t i = 0; i < request->n_messages; i++) {
        bytes += request->messages[i].content.size;
    }
    return bytes;
}

enum sl_status sl_openai_build_request(
    const struct sl_provider_settings *settings,
    const struct sl_model_request *request,
    struct sl_provider_request *ret_request,
    struct sl_error *err)
{
    const uint64_t max = settings->limits->model_request;
    sl_provider_request_init(ret_request, settings->limits);
    SL_TRY(build_url(settings, request->model, &ret_request->url));
    SL_TRY(build_headers(settings, request, &ret_request->headers));
    const enum sl_status status = measure(request) > max
                                      ? SL_RESOURCE_EXHAUSTED
                                      : build_body(settings, request, &ret_request->body);
    if (status == SL_RESOURCE_EXHAUSTED &&
        (measure(request) > max || ret_request->body.size > max / 2)) {
        return sl_fail(err, SL_OUT_OF_RANGE, "the request has more than %" PRIu64 " bytes", max);
    }
    if (status == SL_INVALID_ARGUMENT) {
        return sl_fail(err, status, "the request has a part that is not JSON");
    }
    return status == SL_OK ? SL_OK : sl_fail(err, status, "no memory for the request");
}
