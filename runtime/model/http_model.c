/* A turn over HTTP: drives a provider (sans-I/O) with transfers, timers and retries.
 *
 *   gate ─▶ attempt: transfer ─▶ headers ─▶ SSE ─▶ provider ─▶ chunks ─▶ the turn's sink
 *             ▲                                                  │ FAIL, nothing given yet
 *             └────────────────────── wait ◀─────────────────────┘ */
#include "runtime/model/http_model.h"

#include <stdio.h>
#include <strings.h>

#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/base/random.h"
#include "runtime/base/utf8.h"

enum { HELD_BYTES = 65536 };

static struct sl_http_turn *of(struct sl_model_turn *turn)
{
    return SL_CONTAINER(turn, struct sl_http_turn, base);
}

/* ---- The end of an attempt --------------------------------------------------------------------
 */

/* `may_linger`: the answer is complete, and its connection may be used again. */
static void clear_attempt(struct sl_http_turn *self, bool may_linger)
{
    sl_timer_stop(&self->progress);
    if (self->attempt.transfer != NULL && may_linger) {
        self->attempt.transfer =
            sl_http_request_linger(self->attempt.transfer, self->entry->limits.model_end_grace);
    }
    self->attempt.transfer = sl_http_request_free(self->attempt.transfer);
    sl_http_turn_drop_job(self);
    /* The parser and the stream may be running further down in the stack: their memory goes with
     * the next attempt, or with the turn. */
    self->attempt.is_running = false;
}

static void release_attempt(struct sl_http_turn *self)
{
    self->attempt.stream =
        self->attempt.stream == NULL ? NULL : self->provider->stream_free(self->attempt.stream);
    sl_sse_done(&self->attempt.sse);
    sl_buf_done(&self->attempt.body);
    sl_buf_done(&self->attempt.held);
}

static uint64_t remaining_ms(const struct sl_http_turn *self)
{
    const uint64_t now_ns = sl_loop_now_ns(self->base.loop);
    return now_ns >= self->deadline_ns ? 0 : (self->deadline_ns - now_ns) / SL_NS_PER_MS;
}

/* Everything of the turn but its memory. */
static void end_turn(struct sl_http_turn *self, bool may_linger)
{
    clear_attempt(self, may_linger);
    sl_http_turn_drop_build(self);
    sl_timer_stop(&self->total);
    sl_timer_stop(&self->wait);
    if (sl_gate_leave(&self->entry->gate, &self->ticket) == SL_GATE_WAITING) {
        sl_turn_leave(&self->base); /* entered when the waiting began */
    }
}

static void give_end(struct sl_http_turn *self, struct sl_model_chunk *chunk)
{
    chunk->n_requests = self->n_requests;
    chunk->request_bytes = self->request_bytes;
    if (chunk->kind == SL_CHUNK_FINISH && self->request_bytes > self->request.body.size) {
        chunk->lost_bytes = self->request_bytes - self->request.body.size;
    }
    end_turn(self, chunk->kind == SL_CHUNK_FINISH);
    (void)sl_turn_emit(&self->base, chunk);
}

/* The attempt has failed: another one, or the end of the turn. */
void sl_http_turn_fail(
    struct sl_http_turn *self,
    const struct sl_provider_error *error,
    uint32_t status,
    bool is_final)
{
    const struct sl_http_request *transfer = self->attempt.transfer;
    const char *after_ms = transfer == NULL ? NULL : sl_http_header(transfer, "retry-after-ms");
    const char *after = transfer == NULL ? NULL : sl_http_header(transfer, "retry-after");
    const char *should = transfer == NULL ? NULL : sl_http_header(transfer, "x-should-retry");
    int64_t asked_ms = -1;
    uint64_t wait_ms = 0;
    uint64_t random = 0;
    sl_random_bytes(&random, sizeof(random));
    if (!sl_retry_after_parse(after_ms, after, sl_loop_wall_ms(self->base.loop), &asked_ms) &&
        error->has_retry_after) {
        asked_ms = error->retry_after_ms;
    }
    const struct sl_retry_question question = {
        .is_retryable = error->is_retryable,
        .should_retry = status == 0 ? NULL : should,
        .has_output = self->has_output || is_final,
        .n_retries = self->n_retries,
        .max_retries = self->entry->limits.model_retries,
        .max_wait_ms = self->entry->limits.model_retry_after,
        .asked_ms = asked_ms,
        .remaining_ms = remaining_ms(self),
        .random = random,
    };
    const enum sl_retry_answer answer = sl_retry_decide(&question, &self->entry->budget, &wait_ms);
    if (answer == SL_RETRY_WAIT) {
        clear_attempt(self, false);
        self->n_retries++;
        sl_timer_start_ms(&self->wait, wait_ms);
        sl_turn_retry(&self->base, error->fault);
        return;
    }
    const bool is_too_long = answer == SL_RETRY_TOO_LONG;
    if (is_too_long && (uint64_t)asked_ms > question.max_wait_ms) {
        sl_limit_reached(SL_LIMIT_model_retry_after);
    } else if (
        error->is_retryable && !question.has_output && self->n_retries > 0 &&
        self->n_retries >= question.max_retries) {
        sl_limit_reached(SL_LIMIT_model_retries);
    }
    struct sl_model_chunk chunk = {
        .kind = SL_CHUNK_FAIL,
        .fault = is_too_long ? SL_FAULT_PROVIDER_RATE_LIMITED : error->fault,
        .retry_after_ms = asked_ms,
        .http_status = status,
        .message = error->text,
        .received_bytes = self->received_bytes,
    };
    chunk.is_retryable = sl_model_fault_is_retryable(chunk.fault);
    give_end(self, &chunk);
}

void sl_http_turn_fail_with(
    struct sl_http_turn *self, enum sl_model_fault fault, bool is_retryable, const char *text)
{
    struct sl_provider_error error = { .fault = fault, .is_retryable = is_retryable };
    (void)snprintf(error.text, sizeof(error.text), "%s", text);
    sl_http_turn_fail(self, &error, 0, false);
}

void sl_http_turn_fail_by_status(struct sl_http_turn *self, enum sl_status status)
{
    if (status == SL_OUT_OF_RANGE) {
        sl_http_turn_fail_with(
            self, SL_FAULT_PROVIDER_LIMIT, false, "a line or an event is too long");
    } else {
        sl_http_turn_fail_with(self, SL_FAULT_OUT_OF_MEMORY, false, "no memory for the answer");
    }
}

static void on_total(void *user_data)
{
    struct sl_http_turn *self = user_data;
    struct sl_provider_error error = { .fault = SL_FAULT_DEADLINE };
    (void)snprintf(error.text, sizeof(error.text), "the run's time is over");
    sl_turn_enter(&self->base);
    sl_http_turn_fail(self, &error, 0, true);
    sl_turn_leave(&self->base);
}

/* ---- Chunks of the provider --------------------------------------------------------------------
 */

static void on_progress(void *user_data)
{
    struct sl_http_turn *self = user_data;
    const uint64_t due_ns =
        self->last_chunk_ns + self->entry->limits.model_no_progress * SL_NS_PER_MS;
    sl_turn_enter(&self->base);
    if (self->attempt.is_finishing) {
        sl_limit_reached(SL_LIMIT_model_end_grace);
        self->provider->on_end(self->attempt.stream); /* what is known counts */
    } else if (sl_loop_now_ns(self->base.loop) < due_ns) {
        sl_timer_start(&self->progress, due_ns);
    } else {
        sl_limit_reached(SL_LIMIT_model_no_progress);
        sl_http_turn_fail_with(
            self, SL_FAULT_PROVIDER_TIMEOUT, true, "the stream makes no progress");
    }
    sl_turn_leave(&self->base);
}

static void fail_by_chunk(struct sl_http_turn *self, const struct sl_model_chunk *chunk)
{
    struct sl_provider_error error = {
        .fault = chunk->fault,
        .is_retryable = chunk->is_retryable,
        .has_retry_after = chunk->retry_after_ms >= 0,
        .retry_after_ms = chunk->retry_after_ms,
    };
    (void)snprintf(
        error.text, sizeof(error.text), "%s", chunk->message == NULL ? "" : chunk->message);
    sl_http_turn_fail(self, &error, 0, false);
}

static bool on_chunk(void *user_data, const struct sl_model_chunk *chunk)
{
    struct sl_http_turn *self = user_data;
    struct sl_model_chunk copy = *chunk;
    if (!self->attempt.is_running) {
        return false;
    }
    if (chunk->kind != SL_CHUNK_OPAQUE) {
        self->last_chunk_ns = sl_loop_now_ns(self->base.loop);
    }
    switch (chunk->kind) {
    case SL_CHUNK_FAIL:
        fail_by_chunk(self, chunk);
        return false;
    case SL_CHUNK_FINISH:
        sl_retry_budget_succeed(&self->entry->budget);
        give_end(self, &copy);
        return false;
    case SL_CHUNK_TEXT:
    case SL_CHUNK_REASONING:
    case SL_CHUNK_CALL_FRAGMENT:
        self->received_bytes += chunk->text.size;
        self->has_output = true;
        break;
    case SL_CHUNK_CALL: /* its fragments were counted */
        self->has_output = true;
        break;
    case SL_CHUNK_OPAQUE:
    case SL_CHUNK_USAGE:
        break;
    }
    if (!self->attempt.has_chunk) {
        self->attempt.has_chunk = true;
        sl_turn_phase(&self->base, SL_MODEL_STREAM);
    }
    return sl_turn_emit(&self->base, chunk) && self->attempt.is_running;
}

/* Which of libcurl's or our timers it was. */
static void count_timer(const char *timer)
{
    sl_limit_reached(
        strcmp(timer, "connect") == 0 ? SL_LIMIT_model_connect
        : strcmp(timer, "idle") == 0  ? SL_LIMIT_model_idle
                                      : SL_LIMIT_model_first_byte);
}

static void fail_transfer(struct sl_http_turn *self, const struct sl_http_result *result)
{
    switch (result->end) {
    case SL_HTTP_DONE:
    case SL_HTTP_DENIED:
    case SL_HTTP_UNREACHABLE:
        sl_http_turn_fail_with(self, SL_FAULT_PROVIDER_UNREACHABLE, true, result->text);
        break;
    case SL_HTTP_TLS:
        sl_http_turn_fail_with(self, SL_FAULT_PROVIDER_TLS, false, result->text);
        break;
    case SL_HTTP_TIMEOUT:
        count_timer(result->timer);
        sl_http_turn_fail_with(
            self,
            strcmp(result->timer, "connect") == 0 ? SL_FAULT_PROVIDER_UNREACHABLE
                                                  : SL_FAULT_PROVIDER_TIMEOUT,
            true, result->text);
        break;
    case SL_HTTP_TRUNCATED:
        sl_http_turn_fail_with(self, SL_FAULT_PROVIDER_TRUNCATED, true, result->text);
        break;
    case SL_HTTP_LIMIT:
        sl_limit_reached(SL_LIMIT_model_stream);
        sl_http_turn_fail_with(self, SL_FAULT_PROVIDER_LIMIT, false, result->text);
        break;
    case SL_HTTP_FAILED:
        sl_http_turn_fail_with(
            self, result->is_bad_reply ? SL_FAULT_PROVIDER_PROTOCOL : SL_FAULT_OUT_OF_MEMORY, false,
            result->text);
        break;
    }
}

static void end_transfer(struct sl_http_turn *self)
{
    const struct sl_http_result *result = &self->attempt.result;
    if (result->end == SL_HTTP_DONE) {
        sl_http_turn_end_body(self);
    } else if (self->attempt.mode == SL_HTTP_MODE_ERROR && result->end == SL_HTTP_TRUNCATED) {
        sl_http_turn_end_error(self);
    } else if (self->attempt.is_finishing && result->end != SL_HTTP_LIMIT) {
        self->provider->on_end(self->attempt.stream); /* only the end mark is missing */
    } else {
        fail_transfer(self, result);
    }
}

/* ---- Callbacks of the transfer ------------------------------------------------------------------
 */

/* Whatever its parameters are. */
static bool is_type(const char *text, const char *type)
{
    const size_t n = strlen(type);
    return text != NULL && strncasecmp(text, type, n) == 0 && strchr(" \t;", text[n]) != NULL;
}

static void on_headers(struct sl_http_request *transfer, uint32_t status, void *user_data)
{
    struct sl_http_turn *self = user_data;
    const char *type = sl_http_header(transfer, "content-type");
    self->attempt.status = status;
    if (status != 200) {
        self->attempt.mode = SL_HTTP_MODE_ERROR;
    } else if (is_type(type, "text/event-stream")) {
        self->attempt.mode = SL_HTTP_MODE_STREAM;
    } else if (is_type(type, "application/json")) {
        self->attempt.mode = SL_HTTP_MODE_REPLY;
    }
}

static bool on_full(void *user_data)
{
    struct sl_http_turn *self = user_data;
    const bool is_full = self->attempt.job != NULL || (self->attempt.mode == SL_HTTP_MODE_STREAM &&
                                                       sl_turn_is_full(&self->base));
    if (is_full) {
        sl_timer_stop(&self->progress); /* a slow reader trips no timer of the provider */
    }
    return is_full;
}

static void restart_progress(struct sl_http_turn *self)
{
    if (!self->attempt.is_running || self->attempt.mode != SL_HTTP_MODE_STREAM ||
        sl_timer_is_running(&self->progress)) {
        return;
    }
    self->last_chunk_ns = sl_loop_now_ns(self->base.loop);
    sl_timer_start_ms(
        &self->progress, self->attempt.is_finishing ? self->entry->limits.model_end_grace
                                                    : self->entry->limits.model_no_progress);
}

static bool is_encoded(const struct sl_http_request *transfer)
{
    const char *encoding = sl_http_header(transfer, "content-encoding");
    return encoding != NULL && *encoding != '\0' && strcasecmp(encoding, "identity") != 0;
}

static bool on_body(struct sl_http_request *transfer, struct sl_slice bytes, void *user_data)
{
    struct sl_http_turn *self = user_data;
    sl_turn_enter(&self->base);
    if (self->attempt.mode == SL_HTTP_MODE_REPLY) {
        self->attempt.body.max_bytes = self->entry->limits.model_reply;
    }
    if (self->attempt.mode == SL_HTTP_MODE_NONE) {
        sl_http_turn_fail_with(
            self, SL_FAULT_PROVIDER_PROTOCOL, false, "an answer of an unexpected type");
    } else if (self->attempt.status == 200 && is_encoded(transfer)) {
        sl_http_turn_fail_with(self, SL_FAULT_PROVIDER_PROTOCOL, false, "a compressed answer");
    } else if (self->attempt.mode == SL_HTTP_MODE_STREAM) {
        restart_progress(self);
        sl_http_turn_feed(self, bytes);
    } else {
        sl_http_turn_keep_body(self, bytes);
    }
    const bool goes_on = self->attempt.is_running && sl_turn_is_live(&self->base);
    sl_turn_leave(&self->base);
    return goes_on;
}

/* Requests that were answered, or may have been seen, count. */
static void
on_end(struct sl_http_request *transfer, const struct sl_http_result *result, void *user_data)
{
    struct sl_http_turn *self = user_data;
    (void)transfer;
    sl_turn_enter(&self->base);
    if (!result->was_sent) {
        self->n_requests--;
        self->request_bytes -= self->request.body.size;
    }
    self->attempt.result = *result;
    self->attempt.has_ended = true;
    if (self->attempt.job == NULL) {
        end_transfer(self);
    }
    sl_turn_leave(&self->base);
}

/* ---- Attempts
 * ------------------------------------------------------------------------------------ */

static enum sl_status open_attempt(struct sl_http_turn *self)
{
    static const struct sl_http_callbacks callbacks = {
        .on_headers = on_headers,
        .is_full = on_full,
        .on_body = on_body,
        .on_end = on_end,
    };
    const struct sl_limits *limits = &self->entry->limits;
    const struct sl_http_options options = {
        .method = "POST",
        .url = sl_buf_cstr(&self->request.url),
        .headers = self->headers,
        .body = sl_buf_slice(&self->request.body),
        .connect_ms = limits->model_connect,
        .first_byte_ms = limits->model_first_byte,
        .idle_ms = limits->model_idle,
        .max_body_bytes = limits->model_stream,
        .proxy = self->entry->proxy,
        .http2 = self->entry->http2,
    };
    SL_TRY(self->provider->stream_new(&self->settings, on_chunk, self, &self->attempt.stream));
    return options.url == NULL
               ? SL_RESOURCE_EXHAUSTED
               : sl_http_start(
                     self->http, &options, &callbacks, self, &self->attempt.transfer, NULL);
}

static void start_attempt(struct sl_http_turn *self)
{
    const struct sl_limits *limits = &self->entry->limits;
    release_attempt(self);
    self->attempt.mode = SL_HTTP_MODE_NONE;
    self->attempt.status = 0;
    self->attempt.is_finishing = self->attempt.has_chunk = self->attempt.has_ended = false;
    self->attempt.is_running = true;
    sl_sse_init(&self->attempt.sse, limits->model_line, limits->model_event);
    sl_buf_init(&self->attempt.body, limits->model_error_body);
    sl_buf_init(&self->attempt.held, HELD_BYTES);
    const enum sl_status status = open_attempt(self);
    if (status == SL_OK) {
        self->n_requests++;
        self->request_bytes += self->request.body.size;
    } else if (status == SL_INVALID_ARGUMENT) {
        sl_http_turn_fail_with(
            self, SL_FAULT_INTERNAL, false, "the provider's URL or headers cannot be used");
    } else {
        sl_http_turn_fail_by_status(self, SL_RESOURCE_EXHAUSTED);
    }
}

static void on_wait(void *user_data)
{
    struct sl_http_turn *self = user_data;
    sl_turn_enter(&self->base);
    if (self->has_early_fault) {
        sl_http_turn_fail_with(self, self->early_fault, false, "the request cannot be sent");
    } else {
        sl_turn_phase(&self->base, SL_MODEL_WAIT);
        if (sl_turn_is_live(&self->base)) {
            start_attempt(self);
        }
    }
    sl_turn_leave(&self->base);
}

/* The gate opened for a turn that has waited. */
static void on_open(void *user_data)
{
    struct sl_http_turn *self = user_data;
    if (sl_turn_is_live(&self->base)) {
        start_attempt(self);
    } else {
        (void)sl_gate_leave(&self->entry->gate, &self->ticket);
    }
    sl_turn_leave(&self->base); /* entered when the waiting began */
}

/* ---- Life
 * ---------------------------------------------------------------------------------------- */

static void resume(struct sl_model_turn *turn)
{
    struct sl_http_turn *self = of(turn);
    if (turn->depth > 1 || self->attempt.transfer == NULL || self->attempt.job != NULL) {
        return;
    }
    if (sl_http_is_paused(self->attempt.transfer)) {
        restart_progress(self);
        sl_http_resume(self->attempt.transfer);
    }
}

static void stop(struct sl_model_turn *turn)
{
    end_turn(of(turn), false);
}

static void destroy(struct sl_model_turn *turn)
{
    struct sl_http_turn *self = of(turn);
    release_attempt(self);
    sl_provider_request_done(&self->request);
    sl_free(self);
}

/* The provider's headers and the entry's, in one list. */
static enum sl_status collect_headers(struct sl_http_turn *self)
{
    const struct sl_slice own = sl_buf_slice(&self->request.headers);
    size_t n = 0;
    for (size_t at = 0; at < own.size && n < SL_HTTP_TURN_HEADERS - 1; n++) {
        self->headers[n] = (const char *)own.data + at;
        at += strlen(self->headers[n]) + 1;
    }
    for (size_t i = 0; self->entry->headers[i] != NULL; i++) {
        if (n == SL_HTTP_TURN_HEADERS - 1) {
            return SL_RESOURCE_EXHAUSTED;
        }
        self->headers[n++] = self->entry->headers[i];
    }
    self->headers[n] = NULL;
    return SL_OK;
}

/* What fails in building a request is told as a chunk, as every other failure of the turn. */
static void note_built(struct sl_http_turn *self, enum sl_status status)
{
    if (status == SL_OK) {
        status = collect_headers(self);
    }
    if (status == SL_OUT_OF_RANGE) {
        sl_limit_reached(SL_LIMIT_model_request);
    }
    self->has_early_fault = status != SL_OK;
    self->early_fault = status == SL_OUT_OF_RANGE       ? SL_FAULT_PROVIDER_LIMIT
                        : status == SL_INVALID_ARGUMENT ? SL_FAULT_INTERNAL
                                                        : SL_FAULT_OUT_OF_MEMORY;
}

/* To the gate, with a request or with the reason why there is none. */
static void line_up(struct sl_http_turn *self)
{
    if (self->has_early_fault || sl_gate_enter(&self->entry->gate, &self->ticket)) {
        sl_timer_start_ms(&self->wait, 0); /* no chunk comes from inside the start */
    } else {
        sl_turn_enter(&self->base); /* until the gate opens, or the turn leaves the line */
    }
}

void sl_http_turn_built(struct sl_http_turn *self, enum sl_status status)
{
    note_built(self, status);
    line_up(self);
}

static void begin(struct sl_http_turn *self, const struct sl_model_request *request)
{
    if (request->remaining_ms > 0) {
        self->deadline_ns = sl_loop_now_ns(self->base.loop) + request->remaining_ms * SL_NS_PER_MS;
        sl_timer_start(&self->total, self->deadline_ns);
    }
    const enum sl_status status = sl_http_turn_build(self, request);
    if (status != SL_AGAIN) {
        sl_http_turn_built(self, status);
    }
}

enum sl_status sl_http_turn_start(
    const struct sl_turn_start *start, struct sl_model_turn **ret_turn, struct sl_error *err)
{
    static const struct sl_turn_ops ops = {
        .resume = resume, .stop = stop, .bytes = sl_http_turn_bytes, .destroy = destroy
    };
    struct sl_http *http = NULL;
    SL_TRY(sl_models_http(start->models, start->loop, &http, err));
    struct sl_http_turn *self = sl_calloc(1, sizeof(*self));
    if (self == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for a turn");
    }
    sl_turn_init(&self->base, &ops, start->models, start->loop, start->sink);
    self->entry = start->entry;
    self->provider = &sl_provider_openai;
    self->settings = (struct sl_provider_settings){
        .base_url = start->entry->base_url,
        .key = start->entry->key,
        .quirks = &start->entry->quirks,
        .limits = &start->entry->limits,
    };
    self->http = http;
    self->deadline_ns = SL_NEVER_NS;
    sl_gate_ticket_init(&self->ticket, start->loop, on_open, self);
    sl_timer_init(&self->total, start->loop, on_total, self);
    sl_timer_init(&self->wait, start->loop, on_wait, self);
    sl_timer_init(&self->progress, start->loop, on_progress, self);
    begin(self, start->request);
    *ret_turn = &self->base;
    return SL_OK;
}
