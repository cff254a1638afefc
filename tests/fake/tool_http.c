#include "tests/fake/tool_http.h"

#include <assert.h>
#include <stdio.h>

#include "runtime/base/mem.h"

struct sl_fake_http_log sl_fake_http;

struct sl_http {
    struct sl_loop *loop;
    void (*on_closed)(void *user_data);
    void *user_data;
    struct sl_task task;
};

struct sl_http_request {
    struct sl_http *http;
    struct sl_http_callbacks callbacks;
    void *user_data;
    const struct sl_fake_answer *answer;
    bool is_denied;
    bool is_running, is_freed;
    uint64_t max_body_bytes;
    struct sl_task task;
};

enum sl_status sl_http_new(
    struct sl_loop *loop,
    const struct sl_limits *limits,
    struct sl_http **ret_http,
    struct sl_error *err)
{
    (void)limits;
    struct sl_http *http = sl_calloc(1, sizeof *http);
    if (http == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory");
    }
    http->loop = loop;
    *ret_http = http;
    return SL_OK;
}

static void closed(struct sl_task *task)
{
    struct sl_http *http = SL_CONTAINER(task, struct sl_http, task);
    void (*on_closed)(void *) = http->on_closed;
    void *user_data = http->user_data;
    sl_free(http);
    on_closed(user_data);
}

void sl_http_close(struct sl_http *http, void (*on_closed)(void *user_data), void *user_data)
{
    http->on_closed = on_closed;
    http->user_data = user_data;
    http->task.run = closed;
    sl_loop_defer(http->loop, &http->task);
}

/* Gives the whole answer, or as much of it as is allowed. */
static void answer(struct sl_task *task)
{
    struct sl_http_request *request = SL_CONTAINER(task, struct sl_http_request, task);
    const struct sl_fake_answer *plan = request->answer;
    struct sl_http_result result = { .end = request->is_denied ? SL_HTTP_DENIED : plan->end };
    uint64_t given = 0;
    request->is_running = true;
    if (!request->is_denied && plan->status != 0) {
        result.status = plan->status;
        const struct sl_slice piece = sl_slice_str(plan->body);
        for (size_t i = 0; i <= plan->body_repeats && !request->is_freed; i++) {
            given += piece.size;
            if (request->max_body_bytes > 0 && given > request->max_body_bytes) {
                result.end = SL_HTTP_LIMIT;
                break;
            }
            if (piece.size > 0) {
                (void)request->callbacks.on_body(request, piece, request->user_data);
            }
        }
    }
    if (!request->is_freed) {
        request->callbacks.on_end(request, &result, request->user_data);
    }
    request->is_running = false;
    if (request->is_freed) {
        sl_free(request);
    }
}

enum sl_status sl_http_start(
    struct sl_http *http,
    const struct sl_http_options *options,
    const struct sl_http_callbacks *callbacks,
    void *user_data,
    struct sl_http_request **ret_request,
    struct sl_error *err)
{
    struct sl_http_request *request = sl_calloc(1, sizeof *request);
    if (request == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory");
    }
    const size_t n = sl_fake_http.n_requests++;
    assert(options->proxy == NULL); /* a tool uses none, whatever the environment says */
    if (n < SL_FAKE_HTTP_MAX) {
        size_t size = 0;
        (void)snprintf(
            sl_fake_http.requests[n].method, sizeof sl_fake_http.requests[n].method, "%s",
            options->method);
        (void)snprintf(
            sl_fake_http.requests[n].url, sizeof sl_fake_http.requests[n].url, "%s", options->url);
        (void)snprintf(
            sl_fake_http.requests[n].body, SL_FAKE_HTTP_TEXT, "%.*s", SL_SLICE_FMT(options->body));
        for (size_t i = 0; options->headers[i] != NULL; i++) {
            size += (size_t)snprintf(
                sl_fake_http.requests[n].headers + size, SL_FAKE_HTTP_TEXT - size, "%s\n",
                options->headers[i]);
        }
    }
    *request = (struct sl_http_request){ .http = http,
                                         .callbacks = *callbacks,
                                         .user_data = user_data,
                                         .max_body_bytes = options->max_body_bytes };
    const size_t last = sl_fake_http.n_answers - 1;
    request->answer = &sl_fake_http.answers[n < last ? n : last];
    const char *address =
        request->answer->address == NULL ? "93.184.216.34" : request->answer->address;
    request->is_denied = !options->allow_address(address, 443, user_data);
    request->task.run = answer;
    sl_fake_http.n_open++;
    if (!request->answer->hangs) {
        sl_loop_defer(http->loop, &request->task);
    }
    *ret_request = request;
    return SL_OK;
}

struct sl_http_request *sl_http_request_free(struct sl_http_request *request)
{
    if (request != NULL) {
        sl_fake_http.n_open--;
        sl_loop_undefer(request->http->loop, &request->task);
        request->is_freed = true;
        if (!request->is_running) {
            sl_free(request);
        }
    }
    return NULL;
}

const char *sl_http_header(const struct sl_http_request *request, const char *name)
{
    if (strcmp(name, "location") == 0) {
        return request->answer->location;
    }
    return strcmp(name, "content-type") == 0 ? "text/plain" : NULL;
}
