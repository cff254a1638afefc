/* The kind "http": one request of http_request, its redirects (at most 3, each checked like the
 * first) and its answer as JSON. */
#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/base/utf8.h"
#include "runtime/model/http.h"
#include "runtime/tool/kind.h"
#include "runtime/tool/output.h"

enum { MAX_REDIRECTS = 3, MAX_HEADERS = 40 };

struct http_attempt {
    struct sl_attempt base;
    struct sl_tools_loop *at;
    const struct sl_tool *tool;
    const json_t *arguments;
    const char *key;
    uint64_t end_ns; /* of the attempt */
    struct sl_http_request *request;
    struct sl_egress_url url;
    const char *method;
    bool is_elsewhere; /* a redirect has led to another host, port or scheme */
    bool has_body;
    int n_redirects;
    struct sl_output body;
    bool is_out_of_memory;
    bool is_stopped;
    struct sl_arena arena; /* header lines */
    struct sl_task task;   /* the end, when it was decided inside another call */
    struct sl_tool_outcome outcome;
};

/* ---- Request ------------------------------------------------------------------------------------
 */

/* Set by the client or by us, or dangerous to let in. */
static const char *const refused_headers[] = {
    "host",    "content-length", "transfer-encoding", "connection",      "te", "upgrade",
    "trailer", "expect",         "keep-alive",        "idempotency-key",
};

/* What may follow a redirect to another host: nothing that could be a credential. */
static const char *const harmless_headers[] = { "accept", "accept-language", "content-type",
                                                "user-agent" };

static bool is_among(const char *name, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcasecmp(name, list[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_header(const char *name, const char *value)
{
    const size_t size = strlen(name);
    if (size == 0 || size > 128) {
        return false;
    }
    for (const char *p = name; *p != '\0'; p++) {
        const bool is_alnum =
            (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9');
        if (!is_alnum && strchr("!#$%&'*+-.^_`|~", *p) == NULL) {
            return false;
        }
    }
    for (const unsigned char *p = (const unsigned char *)value; *p != '\0'; p++) {
        if ((*p < ' ' && *p != '\t') || *p == 0x7F) {
            return false;
        }
    }
    return true;
}

static bool check_headers(const json_t *arguments, struct sl_tool_outcome *outcome)
{
    json_t *headers = json_object_get(arguments, "headers");
    for (void *at = json_object_iter(headers); at != NULL;
         at = json_object_iter_next(headers, at)) {
        const char *name = json_object_iter_key(at);
        const char *value = json_string_value(json_object_iter_value(at));
        if (value == NULL || !is_header(name, value) || strncasecmp(name, "proxy-", 6) == 0 ||
            is_among(name, refused_headers, SL_COUNT(refused_headers))) {
            sl_outcome_fail(
                outcome, SL_TOOL_INVALID_ARGS, "the header '%.60s' cannot be set", name);
            return false;
        }
    }
    return true;
}

static const char *header_line(struct sl_arena *arena, const char *name, const char *value)
{
    const size_t size = strlen(name) + strlen(value) + 3;
    char *line = sl_arena_alloc(arena, size);
    if (line != NULL) {
        (void)snprintf(line, size, "%s: %s", name, value);
    }
    return line;
}

/* NULL: no memory. */
static const char **make_headers(struct http_attempt *attempt)
{
    const char **lines = sl_arena_calloc(&attempt->arena, MAX_HEADERS, sizeof *lines);
    size_t n = 0;
    json_t *headers = json_object_get(attempt->arguments, "headers");
    bool is_good = lines != NULL;
    for (void *at = json_object_iter(headers); at != NULL && is_good && n + 2 < MAX_HEADERS;
         at = json_object_iter_next(headers, at)) {
        const char *name = json_object_iter_key(at);
        const bool is_kept =
            !attempt->is_elsewhere || is_among(name, harmless_headers, SL_COUNT(harmless_headers));
        if (is_kept && (attempt->has_body || strcasecmp(name, "content-type") != 0)) {
            lines[n] =
                header_line(&attempt->arena, name, json_string_value(json_object_iter_value(at)));
            is_good = lines[n++] != NULL;
        }
    }
    if (is_good && !attempt->is_elsewhere) {
        lines[n] = header_line(&attempt->arena, "Idempotency-Key", attempt->key);
        is_good = lines[n] != NULL;
    }
    return is_good ? lines : NULL;
}

static bool is_allowed(struct http_attempt *attempt, struct sl_error *err)
{
    return sl_egress_allows(attempt->tool->egress, &attempt->url, err) == SL_OK &&
           (attempt->tool->narrow_egress == NULL ||
            sl_egress_allows(attempt->tool->narrow_egress, &attempt->url, err) == SL_OK);
}

static bool allow_address(const char *address, uint16_t port, void *user_data)
{
    (void)port; /* the URL's, which was checked */
    const struct http_attempt *attempt = user_data;
    return sl_egress_allows_address(attempt->tool->egress, address);
}

static void
http_ended(struct sl_http_request *request, const struct sl_http_result *result, void *user_data);

static bool take_body(struct sl_http_request *request, struct sl_slice bytes, void *user_data)
{
    (void)request;
    struct http_attempt *attempt = user_data;
    if (sl_output_add(&attempt->body, bytes) != SL_OK) {
        attempt->is_out_of_memory = true;
    }
    return true; /* the end still comes, with max_body_bytes as the bound */
}

/* False: the outcome says why not. */
static bool send_request(struct http_attempt *attempt)
{
    static const struct sl_http_callbacks callbacks = { .on_body = take_body,
                                                        .on_end = http_ended };
    struct sl_tool_outcome *outcome = &attempt->outcome;
    struct sl_error err = { 0 };
    if (!is_allowed(attempt, &err)) {
        sl_outcome_fail(outcome, SL_TOOL_DENIED, "%s", err.text);
        return false;
    }
    const char **headers = make_headers(attempt);
    if (headers == NULL) {
        sl_outcome_fail(outcome, SL_TOOL_OUT_OF_MEMORY, "no memory for the request");
        return false;
    }
    const uint64_t now_ns = sl_loop_now_ns(attempt->at->loop);
    const uint64_t left_ms =
        attempt->end_ns > now_ns ? (attempt->end_ns - now_ns) / SL_NS_PER_MS : 0;
    const json_t *body = attempt->has_body ? json_object_get(attempt->arguments, "body") : NULL;
    const struct sl_http_options options = {
        .method = attempt->method,
        .url = attempt->url.url,
        .headers = headers,
        .body = sl_slice_of(json_string_value(body), json_string_length(body)),
        .connect_ms = attempt->at->tools->limits->model_connect,
        .total_ms = left_ms + 1,
        .max_body_bytes = attempt->tool->max_body_bytes,
        .http2 = attempt->url.is_https,
        .allow_address = allow_address,
    };
    const enum sl_status status =
        sl_http_start(attempt->at->http, &options, &callbacks, attempt, &attempt->request, &err);
    if (status != SL_OK) {
        sl_outcome_fail(
            outcome, status == SL_RESOURCE_EXHAUSTED ? SL_TOOL_OUT_OF_MEMORY : SL_TOOL_INVALID_ARGS,
            "%s", err.text);
    }
    return status == SL_OK;
}

/* ---- Answer -------------------------------------------------------------------------------------
 */

/* Bytes of the peer as a JSON string. NULL: no memory. */
static json_t *clean_string(struct sl_slice bytes)
{
    struct sl_buf text;
    bool is_cut = false;
    json_t *json = NULL;
    sl_buf_init(&text, 16384);
    if (sl_output_cut(bytes, 4096, &text, &is_cut) == SL_OK) {
        json = json_stringn(text.size == 0 ? "" : (const char *)text.data, text.size);
    }
    sl_buf_done(&text);
    return json;
}

static json_t *headers_of(const struct sl_http_request *request)
{
    static const char *const shown[] = { "content-type", "content-length", "content-language",
                                         "date",         "etag",           "last-modified",
                                         "location",     "retry-after",    "link" };
    json_t *headers = json_object();
    for (size_t i = 0; i < SL_COUNT(shown); i++) {
        const char *value = sl_http_header(request, shown[i]);
        if (value != NULL &&
            json_object_set_new(headers, shown[i], clean_string(sl_slice_str(value))) != 0) {
            json_decref(headers);
            return NULL;
        }
    }
    return headers;
}

static json_t *body_of(struct http_attempt *attempt)
{
    const size_t max_bytes = (size_t)attempt->tool->info.max_output_bytes;
    struct sl_buf text;
    bool is_cut = false;
    json_t *json = NULL;
    sl_buf_init(&text, max_bytes * 3 + 1024);
    if (sl_output_text(&attempt->body, max_bytes, &text, &is_cut) == SL_OK) {
        json = json_stringn(text.size == 0 ? "" : (const char *)text.data, text.size);
    }
    sl_buf_done(&text);
    attempt->outcome.is_truncated = is_cut;
    if (is_cut) {
        sl_limit_reached(SL_LIMIT_tool_output_edge);
    }
    return json;
}

static void
set_result(struct http_attempt *attempt, const struct sl_http_request *request, uint32_t status)
{
    json_t *json = json_object();
    if (json_object_set_new(json, "status", json_integer((json_int_t)status)) != 0 ||
        json_object_set_new(json, "headers", headers_of(request)) != 0 ||
        json_object_set_new(json, "body", body_of(attempt)) != 0 ||
        (attempt->n_redirects > 0 &&
         json_object_set_new(json, "url", json_string(attempt->url.url)) != 0)) {
        json_decref(json);
        json = NULL;
        sl_outcome_fail(
            &attempt->outcome, SL_TOOL_OUT_OF_MEMORY, "no memory for the answer's body");
    }
    attempt->outcome.result = json;
    attempt->outcome.result_bytes = attempt->body.total_bytes;
}

static bool is_redirect(uint32_t status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static bool is_same_origin(const struct sl_egress_url *a, const struct sl_egress_url *b)
{
    return a->is_https == b->is_https && a->port == b->port && strcmp(a->host, b->host) == 0;
}

/* True: the next request is on its way. False: the outcome says why not. */
static bool follow(struct http_attempt *attempt, const char *location, uint32_t status)
{
    struct sl_egress_url next;
    struct sl_error err = { 0 };
    if (attempt->n_redirects >= MAX_REDIRECTS) {
        sl_outcome_fail(
            &attempt->outcome, SL_TOOL_HTTP_ERROR, "more than %d redirects", MAX_REDIRECTS);
        return false;
    }
    if (sl_egress_resolve(&attempt->url, sl_slice_str(location), &next, &err) != SL_OK) {
        sl_outcome_fail(&attempt->outcome, SL_TOOL_HTTP_ERROR, "redirected, but %s", err.text);
        return false;
    }
    attempt->n_redirects++;
    attempt->is_elsewhere = attempt->is_elsewhere || !is_same_origin(&attempt->url, &next);
    attempt->url = next;
    const bool is_post = strcmp(attempt->method, "POST") == 0;
    if ((status == 303 && strcmp(attempt->method, "HEAD") != 0) ||
        ((status == 301 || status == 302) && is_post)) {
        attempt->method = "GET";
        attempt->has_body = false;
    }
    attempt->request = sl_http_request_free(attempt->request);
    const size_t edge_bytes = attempt->body.edge_bytes;
    sl_output_done(&attempt->body);
    sl_output_init(&attempt->body, edge_bytes);
    return send_request(attempt);
}

static void describe_status(struct http_attempt *attempt, uint32_t status)
{
    struct sl_tool_outcome *outcome = &attempt->outcome;
    if (attempt->is_out_of_memory) {
        sl_outcome_fail(outcome, SL_TOOL_OUT_OF_MEMORY, "no memory for the answer's body");
    } else if (status >= 400) {
        sl_outcome_fail(outcome, SL_TOOL_HTTP_ERROR, "HTTP status %" PRIu32, status);
        outcome->is_retryable = status == 429 || (status >= 502 && status <= 504);
    }
}

static void describe_end(struct http_attempt *attempt, const struct sl_http_result *result)
{
    struct sl_tool_outcome *outcome = &attempt->outcome;
    const char *host = attempt->url.host;
    switch (result->end) {
    case SL_HTTP_DONE:
        describe_status(attempt, result->status);
        break;
    case SL_HTTP_UNREACHABLE:
        sl_outcome_fail(outcome, SL_TOOL_HTTP_ERROR, "%.100s cannot be reached", host);
        break;
    case SL_HTTP_TLS:
        sl_outcome_fail(
            outcome, SL_TOOL_HTTP_ERROR, "%.100s: TLS failed, or its certificate is not trusted",
            host);
        break;
    case SL_HTTP_TIMEOUT:
        sl_outcome_fail(
            outcome, SL_TOOL_TIMEOUT, "%.100s: no answer in time (%s)", host,
            result->timer == NULL ? "total" : result->timer);
        outcome->is_retryable = true;
        break;
    case SL_HTTP_TRUNCATED:
        sl_outcome_fail(outcome, SL_TOOL_HTTP_ERROR, "%.100s: the answer broke off", host);
        break;
    case SL_HTTP_LIMIT:
        sl_limit_reached(SL_LIMIT_tool_http_body);
        sl_outcome_fail(
            outcome, SL_TOOL_OUTPUT_LIMIT, "%.100s: the answer is larger than %" PRIu64 " bytes",
            host, attempt->tool->max_body_bytes);
        break;
    case SL_HTTP_DENIED:
        sl_outcome_fail(outcome, SL_TOOL_DENIED, "%.100s: its address is not a public one", host);
        break;
    case SL_HTTP_FAILED:
        sl_outcome_fail(outcome, SL_TOOL_HTTP_ERROR, "%.100s: the request failed", host);
        break;
    }
}

static void
http_ended(struct sl_http_request *request, const struct sl_http_result *result, void *user_data)
{
    struct http_attempt *attempt = user_data;
    const char *location = sl_http_header(request, "location");
    if (result->end == SL_HTTP_DONE && is_redirect(result->status) && location != NULL) {
        if (follow(attempt, location, result->status)) {
            return;
        }
    } else {
        describe_end(attempt, result);
        if (result->status != 0) {
            set_result(attempt, request, result->status);
        }
    }
    sl_attempt_ended(&attempt->base, &attempt->outcome);
}

/* ---- Kind ---------------------------------------------------------------------------------------
 */

static void stopped(struct sl_task *task)
{
    struct http_attempt *attempt = SL_CONTAINER(task, struct http_attempt, task);
    sl_attempt_ended(&attempt->base, &attempt->outcome);
}

static void stop_attempt(struct sl_attempt *base)
{
    struct http_attempt *attempt = SL_CONTAINER(base, struct http_attempt, base);
    if (!attempt->is_stopped) {
        attempt->is_stopped = true;
        attempt->request = sl_http_request_free(attempt->request);
        sl_loop_defer(attempt->at->loop, &attempt->task);
    }
}

static void free_attempt(struct sl_attempt *base)
{
    struct http_attempt *attempt = SL_CONTAINER(base, struct http_attempt, base);
    attempt->request = sl_http_request_free(attempt->request);
    json_decref(attempt->outcome.result);
    sl_output_done(&attempt->body);
    sl_arena_done(&attempt->arena);
    sl_free(attempt);
}

static bool begin(struct http_attempt *attempt)
{
    struct sl_tool_outcome *outcome = &attempt->outcome;
    struct sl_error err = { 0 };
    const json_t *url = json_object_get(attempt->arguments, "url");
    const struct sl_slice text = sl_slice_of(json_string_value(url), json_string_length(url));
    if (sl_egress_parse(text, &attempt->url, &err) != SL_OK) {
        sl_outcome_fail(outcome, SL_TOOL_INVALID_ARGS, "%s", err.text);
        return false;
    }
    if (!check_headers(attempt->arguments, outcome)) {
        return false;
    }
    if (attempt->at->http == NULL &&
        sl_http_new(attempt->at->loop, attempt->at->tools->limits, &attempt->at->http, &err) !=
            SL_OK) {
        sl_outcome_fail(outcome, SL_TOOL_INTERNAL, "%s", err.text);
        return false;
    }
    return send_request(attempt);
}

static struct sl_attempt *
start_attempt(const struct sl_attempt_options *options, struct sl_tool_outcome *outcome)
{
    struct http_attempt *attempt = sl_calloc(1, sizeof *attempt);
    if (attempt == NULL) {
        sl_outcome_fail(outcome, SL_TOOL_OUT_OF_MEMORY, "no memory for the request");
        return NULL;
    }
    attempt->base = (struct sl_attempt){ .kind = &sl_tool_kind_http, .call = options->call };
    attempt->at = sl_tools_loop_of(options->tools, options->loop);
    attempt->tool = options->tool;
    attempt->arguments = options->arguments;
    attempt->key = options->key;
    attempt->end_ns = sl_loop_now_ns(options->loop) + options->timeout_ms * SL_NS_PER_MS;
    attempt->task.run = stopped;
    const char *method = json_string_value(json_object_get(options->arguments, "method"));
    attempt->method = method == NULL ? "GET" : method;
    attempt->has_body = json_object_get(options->arguments, "body") != NULL;
    sl_arena_init(&attempt->arena, 0);
    sl_output_init(&attempt->body, (size_t)options->tools->limits->tool_output_edge);
    if (attempt->at == NULL) {
        sl_outcome_fail(&attempt->outcome, SL_TOOL_INTERNAL, "this loop has no tools");
    } else if (begin(attempt)) {
        return &attempt->base;
    }
    *outcome = attempt->outcome;
    attempt->outcome.result = NULL;
    free_attempt(&attempt->base);
    return NULL;
}

static uint64_t attempt_bytes(struct sl_attempt *base)
{
    const struct http_attempt *attempt = SL_CONTAINER(base, struct http_attempt, base);
    return sizeof(*attempt) + attempt->arena.used_bytes + sl_output_memory(&attempt->body);
}

const struct sl_tool_kind sl_tool_kind_http = { .name = "http",
                                                .start = start_attempt,
                                                .stop = stop_attempt,
                                                .bytes = attempt_bytes,
                                                .free = free_attempt };
