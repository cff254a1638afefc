#include "runtime/model/openai_error.h"

#include <stdio.h>
#include <strings.h>

#include "runtime/base/log_text.h"
#include "runtime/base/mem.h"
#include "runtime/base/utf8.h"
#include "runtime/model/json.h"
#include "runtime/model/retry.h"

struct rule {
    const char *word;
    enum sl_model_fault fault;
    bool is_retryable;
};

/* Types and codes, as vendors spell them. */
static const struct rule rules[] = {
    { "context_length_exceeded", SL_FAULT_CONTEXT_OVERFLOW, false },
    { "string_above_max_length", SL_FAULT_PROVIDER_REJECTED, false },
    { "insufficient_quota", SL_FAULT_PROVIDER_QUOTA, false },
    { "billing_error", SL_FAULT_PROVIDER_QUOTA, false },
    { "billing_hard_limit_reached", SL_FAULT_PROVIDER_QUOTA, false },
    { "authentication_error", SL_FAULT_PROVIDER_AUTH, false },
    { "permission_error", SL_FAULT_PROVIDER_AUTH, false },
    { "invalid_api_key", SL_FAULT_PROVIDER_AUTH, false },
    { "rate_limit_error", SL_FAULT_PROVIDER_RATE_LIMITED, true },
    { "rate_limit_exceeded", SL_FAULT_PROVIDER_RATE_LIMITED, true },
    { "RESOURCE_EXHAUSTED", SL_FAULT_PROVIDER_RATE_LIMITED, true },
    { "overloaded_error", SL_FAULT_PROVIDER_OVERLOADED, true },
    { "api_error", SL_FAULT_PROVIDER_OVERLOADED, true },
    { "timeout_error", SL_FAULT_PROVIDER_OVERLOADED, true },
    { "server_error", SL_FAULT_PROVIDER_OVERLOADED, true },
    { "UNAVAILABLE", SL_FAULT_PROVIDER_OVERLOADED, true },
    { "INTERNAL", SL_FAULT_PROVIDER_OVERLOADED, true },
    { "invalid_prompt", SL_FAULT_PROVIDER_REJECTED, false },
    { "invalid_request_error", SL_FAULT_PROVIDER_REJECTED, false },
    { "not_found_error", SL_FAULT_PROVIDER_REJECTED, false },
    { "model_not_found", SL_FAULT_PROVIDER_REJECTED, false },
};

static const struct rule *find_rule(const char *word)
{
    for (size_t i = 0; word != NULL && i < SL_COUNT(rules); i++) {
        if (strcasecmp(word, rules[i].word) == 0) {
            return &rules[i];
        }
    }
    return NULL;
}

static bool says_too_long(const char *message)
{
    static const char *const texts[] = {
        "context_length_exceeded",
        "prompt is too long",
        "maximum context",
        "exceeds the context",
    };
    for (size_t i = 0; message != NULL && i < SL_COUNT(texts); i++) {
        if (strcasestr(message, texts[i]) != NULL) {
            return true;
        }
    }
    return false;
}

static struct rule from_status(uint32_t status)
{
    if (status == 401 || status == 403) {
        return (struct rule){ .fault = SL_FAULT_PROVIDER_AUTH };
    }
    if (status == 402) {
        return (struct rule){ .fault = SL_FAULT_PROVIDER_QUOTA };
    }
    if (status == 429) {
        return (struct rule){ .fault = SL_FAULT_PROVIDER_RATE_LIMITED, .is_retryable = true };
    }
    if (status == 408 || status == 409 || status >= 500) {
        return (struct rule){ .fault = SL_FAULT_PROVIDER_OVERLOADED, .is_retryable = true };
    }
    if (status >= 300) {
        return (struct rule){ .fault = SL_FAULT_PROVIDER_REJECTED };
    }
    return (struct rule){ .fault = SL_FAULT_PROVIDER_PROTOCOL };
}

/* The status decides, except where a code says more: a quota among the rate limits, a context that
 * is too long and whatever else has a name among the rejected. In the stream there is no status,
 * and words decide. */
static struct rule decide(uint32_t status, const char *type, const char *code, const char *message)
{
    const struct rule *by_code = find_rule(code);
    const struct rule *by_type = find_rule(type);
    const struct rule *rule = by_code != NULL ? by_code : by_type;
    const bool may_be_too_long = status == 0 || status == 400 || status == 413 || status == 422;
    if (may_be_too_long &&
        ((rule != NULL && rule->fault == SL_FAULT_CONTEXT_OVERFLOW) || says_too_long(message))) {
        return (struct rule){ .fault = SL_FAULT_CONTEXT_OVERFLOW };
    }
    const struct rule by_status = from_status(status);
    const bool is_vague = status >= 400 && by_status.fault == SL_FAULT_PROVIDER_REJECTED;
    const bool is_quota = rule != NULL && rule->fault == SL_FAULT_PROVIDER_QUOTA;
    if (rule != NULL && rule->fault != SL_FAULT_CONTEXT_OVERFLOW &&
        (status == 0 || is_vague || (status == 429 && is_quota))) {
        return *rule;
    }
    if (status != 0) {
        return by_status;
    }
    return (struct rule){ .fault = SL_FAULT_PROVIDER_OVERLOADED, .is_retryable = true };
}

static void keep_text(struct sl_provider_error *error, const char *text)
{
    const struct sl_slice slice = sl_slice_str(text);
    const size_t n = sl_utf8_cut(slice, sizeof(error->text) - 1);
    const size_t kept = sl_log_text_scrub(sl_slice_of(slice.data, n), n < slice.size, error->text);
    error->text[kept] = '\0';
}

void sl_openai_map_error(
    uint32_t status,
    const char *type,
    const char *code,
    const char *message,
    struct sl_provider_error *ret_error)
{
    const struct rule rule = decide(status, type, code, message);
    *ret_error = (struct sl_provider_error){
        .fault = rule.fault,
        .is_retryable = rule.is_retryable,
    };
    if (message != NULL) {
        keep_text(ret_error, message);
    } else if (status != 0) {
        (void)snprintf(ret_error->text, sizeof(ret_error->text), "HTTP status %u", status);
    } else {
        keep_text(ret_error, "an error without a message");
    }
}

static const char *find_message(const json_t *document, const json_t *error)
{
    const char *text = sl_json_cstr(json_object_get(error, "message"));
    if (text == NULL) {
        text = sl_json_cstr(json_object_get(document, "message"));
    }
    if (text == NULL) {
        text = sl_json_cstr(error);
    }
    return text != NULL ? text : sl_json_cstr(json_object_get(document, "detail"));
}

/* google.rpc.RetryInfo among the details of an error: "12.5s". */
static void find_delay(const json_t *error, struct sl_provider_error *ret_error)
{
    size_t i = 0;
    const json_t *detail = NULL;
    json_array_foreach(json_object_get(error, "details"), i, detail)
    {
        char seconds[32];
        const struct sl_slice delay = sl_json_slice(json_object_get(detail, "retryDelay"));
        if (delay.size < 2 || delay.size > sizeof(seconds) || delay.data[delay.size - 1] != 's') {
            continue;
        }
        memcpy(seconds, delay.data, delay.size - 1);
        seconds[delay.size - 1] = '\0';
        ret_error->has_retry_after =
            sl_retry_after_parse(NULL, seconds, 0, &ret_error->retry_after_ms);
    }
}

void sl_openai_map_document(
    uint32_t status, const json_t *document, struct sl_provider_error *ret_error)
{
    const json_t *error = json_object_get(document, "error");
    const json_t *holder = json_is_object(error) ? error : document;
    const json_t *code = json_object_get(holder, "code");
    const char *word = sl_json_cstr(code);
    /* Some put the HTTP status, or its name, into the document of a stream. */
    if (status == 0 && json_is_integer(code) && json_integer_value(code) >= 300 &&
        json_integer_value(code) <= 599) {
        status = (uint32_t)json_integer_value(code);
    }
    if (word == NULL) {
        word = sl_json_cstr(json_object_get(holder, "status"));
    }
    sl_openai_map_error(
        status, sl_json_cstr(json_object_get(holder, "type")), word, find_message(document, error),
        ret_error);
    find_delay(error, ret_error);
}

void sl_openai_map_body(
    uint32_t status,
    struct sl_slice body,
    const struct sl_limits *limits,
    struct sl_provider_error *ret_error)
{
    json_t *document = NULL;
    if (sl_json_parse(body, limits->model_json_depth, &document) == SL_OK) {
        /* Gemini's compatibility endpoint wraps the object into a list. */
        const json_t *first = json_is_array(document) ? json_array_get(document, 0) : document;
        sl_openai_map_document(status, first, ret_error);
    } else {
        sl_openai_map_error(status, NULL, NULL, NULL, ret_error);
    }
    json_decref(document);
}
