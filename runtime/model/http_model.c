/* A turn over HTTP: drives a provider (sans-I/O) with transfers, timers and retries.
 *
 *   gate ─▶ attempt: transfer ─▶ headers ─▶ SSE ─▶ provider ─▶ chunks ─▶ the turn's sink
 *             ▲                                                  │ FAIL, nothing given yet
 *             └────────────────────── wait ◀─────────────────────┘ */
#include <stdio.h>
#include <strings.h>

#include <uv.h>

#include "runtime/base/loop_uv.h"
#include "runtime/base/mem.h"
#include "runtime/base/random.h"
#include "runtime/base/utf8.h"
#include "runtime/model/http.h"
#include "runtime/model/json.h"
#include "runtime/model/models.h"
#include "runtime/model/turn.h"

/* Documents over this size are parsed on the pool (PM-1.6). */
enum { PARSE_HERE_BYTES = 262144, HELD_BYTES = 65536, MAX_HEADERS = 64 };

enum mode {
    MODE_NONE,   /* no headers yet */
    MODE_STREAM, /* SSE */
    MODE_REPLY,  /* one JSON document */
    MODE_ERROR   /* not 200: the body explains */
};

/* A document that is parsed on the pool. It outlives the turn if it must. */
struct parse_job {
    uv_work_t work;
    struct http_turn *turn; /* NULL: nobody waits any more */
    struct sl_buf text;
    struct sl_slice name;
    bool is_raw, is_cut, is_reply;
    size_t max_depth;
    enum sl_status status;
    json_t *document;
};

struct http_turn {
    struct sl_model_turn base;
    struct sl_model_entry *entry;
    const struct sl_provider *provider;
    struct sl_provider_settings settings;
    struct sl_provider_request request;
    const char *headers[MAX_HEADERS];
    struct sl_http *http;
    struct sl_gate_ticket ticket;
    struct sl_timer total;
    struct sl_timer wait;     /* before a retry, and for failures at the start */
    struct sl_timer progress; /* no progress; after the finish reason: the end grace */
    uint64_t deadline_ns, last_chunk_ns;
    unsigned n_retries;
    uint32_t n_requests;
    uint64_t request_bytes;
    bool has_output;
    enum sl_model_fault early_fault; /* why nothing could be sent */
    bool has_early_fault;
    struct { /* of one attempt */
        struct sl_http_request *transfer;
        struct sl_provider_stream *stream;
        struct sl_sse sse;
        struct sl_buf body; /* of errors and replies */
        enum mode mode;
        uint32_t status;
        bool is_running, is_finishing, has_chunk;
        struct parse_job *job;
        struct sl_buf held; /* came while the job runs */
        bool has_ended;     /* the transfer, while the job runs */
        struct sl_http_result result;
    } attempt;
};

static struct http_turn *of(struct sl_model_turn *turn)
{
    return SL_CONTAINER(turn, struct http_turn, base);
}

/* ---- The end of an attempt --------------------------------------------------------------------
 */

/* `may_linger`: the answer is complete, and its connection may be used again. */
static void clear_attempt(struct http_turn *self, bool may_linger)
{
    sl_timer_stop(&self->progress);
    if (self->attempt.transfer != NULL && may_linger) {
        self->attempt.transfer =
            sl_http_request_linger(self->attempt.transfer, self->entry->limits.model_end_grace);
    }
    self->attempt.transfer = sl_http_request_free(self->attempt.transfer);
    if (self->attempt.job != NULL) {
        (void)uv_cancel((uv_req_t *)&self->attempt.job->work);
        self->attempt.job->turn = NULL;
        self->attempt.job = NULL;
    }
    /* The parser and the stream may be running further down in the stack: their memory goes with
     * the next attempt, or with the turn. */
    self->attempt.is_running = false;
}

static void release_attempt(struct http_turn *self)
{
    self->attempt.stream =
        self->attempt.stream == NULL ? NULL : self->provider->stream_free(self->attempt.stream);
    sl_sse_done(&self->attempt.sse);
    sl_buf_done(&self->attempt.body);
    sl_buf_done(&self->attempt.held);
}

static uint64_t remaining_ms(const struct http_turn *self)
{
    const uint64_t now_ns = sl_loop_now_ns(self->base.loop);
    return now_ns >= self->deadline_ns ? 0 : (self->deadline_ns - now_ns) / SL_NS_PER_MS;
}

/* Everything of the turn but its memory. */
static void end_turn(struct http_turn *self, bool may_linger)
{
    clear_attempt(self, may_linger);
    sl_timer_stop(&self->total);
    sl_timer_stop(&self->wait);
    if (sl_gate_leave(&self->entry->gate, &self->ticket) == SL_GATE_WAITING) {
        sl_turn_leave(&self->base); /* entered when the waiting began */
    }
}

static void give_end(struct http_turn *self, struct sl_model_chunk *chunk)
{
    chunk->n_requests = self->n_requests;
    chunk->request_bytes = self->request_bytes;
    end_turn(self, chunk->kind == SL_CHUNK_FINISH);
    (void)sl_turn_emit(&self->base, chunk);
}

/* The attempt has failed: another one, or the end of the turn. */
static void
fail(struct http_turn *self, const struct sl_provider_error *error, uint32_t status, bool is_final)
{
    const struct sl_http_request *transfer = self->attempt.transfer;
    const char *after_ms = transfer == NULL ? NULL : sl_http_header(transfer, "retry-after-ms");
    const char *after = transfer == NULL ? NULL : sl_http_header(transfer, "retry-after");
    const char *should = transfer == NULL ? NULL : sl_http_header(transfer, "x-should-retry");
    int64_t asked_ms = -1;
    uint64_t wait_ms = 0;
    uint64_t random = 0;
    sl_random_bytes(&random, sizeof(random));
    (void)sl_retry_after_parse(after_ms, after, sl_loop_wall_ms(self->base.loop), &asked_ms);
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
        sl_turn_phase(&self->base, SL_MODEL_RETRY_WAIT);
        return;
    }
    const bool is_too_long = answer == SL_RETRY_TOO_LONG;
    struct sl_model_chunk chunk = {
        .kind = SL_CHUNK_FAIL,
        .fault = is_too_long ? SL_FAULT_PROVIDER_RATE_LIMITED : error->fault,
        .retry_after_ms = asked_ms,
        .http_status = status,
        .message = error->text,
    };
    chunk.is_retryable = sl_model_fault_is_retryable(chunk.fault);
    give_end(self, &chunk);
}

static void
fail_with(struct http_turn *self, enum sl_model_fault fault, bool is_retryable, const char *text)
{
    struct sl_provider_error error = { .fault = fault, .is_retryable = is_retryable };
    (void)snprintf(error.text, sizeof(error.text), "%s", text);
    fail(self, &error, 0, false);
}

static void fail_by_status(struct http_turn *self, enum sl_status status)
{
    if (status == SL_OUT_OF_RANGE) {
        fail_with(self, SL_FAULT_PROVIDER_LIMIT, false, "a line or an event is too long");
    } else {
        fail_with(self, SL_FAULT_OUT_OF_MEMORY, false, "no memory for the answer");
    }
}

static void on_total(void *user_data)
{
    struct http_turn *self = user_data;
    struct sl_provider_error error = { .fault = SL_FAULT_DEADLINE };
    (void)snprintf(error.text, sizeof(error.text), "the run's time is over");
    sl_turn_enter(&self->base);
    fail(self, &error, 0, true);
    sl_turn_leave(&self->base);
}

/* ---- Chunks of the provider --------------------------------------------------------------------
 */

static void on_progress(void *user_data)
{
    struct http_turn *self = user_data;
    const uint64_t due_ns =
        self->last_chunk_ns + self->entry->limits.model_no_progress * SL_NS_PER_MS;
    sl_turn_enter(&self->base);
    if (self->attempt.is_finishing) {
        self->provider->on_end(self->attempt.stream); /* what is known counts */
    } else if (sl_loop_now_ns(self->base.loop) < due_ns) {
        sl_timer_start(&self->progress, due_ns);
    } else {
        fail_with(self, SL_FAULT_PROVIDER_TIMEOUT, true, "the stream makes no progress");
    }
    sl_turn_leave(&self->base);
}

static void fail_by_chunk(struct http_turn *self, const struct sl_model_chunk *chunk)
{
    struct sl_provider_error error = {
        .fault = chunk->fault,
        .is_retryable = chunk->is_retryable,
    };
    (void)snprintf(
        error.text, sizeof(error.text), "%s", chunk->message == NULL ? "" : chunk->message);
    fail(self, &error, 0, false);
}

static bool on_chunk(void *user_data, const struct sl_model_chunk *chunk)
{
    struct http_turn *self = user_data;
    struct sl_model_chunk copy = *chunk;
    if (!self->attempt.is_running) {
        return false;
    }
    self->last_chunk_ns = sl_loop_now_ns(self->base.loop);
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
    case SL_CHUNK_CALL:
        self->has_output = true;
        break;
    case SL_CHUNK_USAGE:
        break;
    }
    if (!self->attempt.has_chunk) {
        self->attempt.has_chunk = true;
        sl_turn_phase(&self->base, SL_MODEL_STREAM);
    }
    return sl_turn_emit(&self->base, chunk) && self->attempt.is_running;
}

/* ---- Documents that are parsed on the pool ------------------------------------------------------
 */

static void run_parse(uv_work_t *work)
{
    struct parse_job *job = work->data;
    job->status = sl_json_parse(sl_buf_slice(&job->text), job->max_depth, &job->document);
}

static void feed(struct http_turn *self, struct sl_slice bytes);
static void end_body(struct http_turn *self);

/* What came while the document was parsed. */
static void go_on(struct http_turn *self)
{
    struct sl_buf held = self->attempt.held;
    sl_buf_init(&self->attempt.held, held.max_bytes);
    feed(self, sl_buf_slice(&held));
    sl_buf_done(&held);
    if (!self->attempt.is_running || self->attempt.job != NULL) {
        return;
    }
    if (self->attempt.has_ended) {
        end_body(self);
    } else if (self->attempt.transfer != NULL) {
        sl_http_resume(self->attempt.transfer);
    }
}

static void fail_reply(struct http_turn *self, enum sl_status status)
{
    if (status == SL_INVALID_ARGUMENT) {
        fail_with(self, SL_FAULT_PROVIDER_PROTOCOL, false, "the reply is not JSON");
    } else if (status == SL_OUT_OF_RANGE) {
        fail_with(self, SL_FAULT_PROVIDER_LIMIT, false, "the reply is nested too deep");
    } else {
        fail_by_status(self, status);
    }
}

static void take_parsed(struct http_turn *self, struct parse_job *job)
{
    const struct sl_sse_event event = {
        .name = job->name,
        .data = sl_buf_slice(&job->text),
        .is_raw = job->is_raw,
        .is_cut = job->is_cut,
    };
    if (job->is_reply && job->status == SL_OK) {
        self->provider->on_reply(self->attempt.stream, job->document);
    } else if (job->is_reply) {
        fail_reply(self, job->status);
    } else if (job->status == SL_OK) {
        (void)self->provider->on_event(self->attempt.stream, &event, job->document);
    } else if (job->is_cut && job->status == SL_INVALID_ARGUMENT) {
        if (self->provider->is_finishing(self->attempt.stream)) {
            return;
        }
        fail_with(self, SL_FAULT_PROVIDER_TRUNCATED, true, "the stream ended inside an event");
    } else if (job->status == SL_INVALID_ARGUMENT && !job->is_raw) {
        fail_with(self, SL_FAULT_PROVIDER_PROTOCOL, false, "an event is not JSON");
    } else if (!job->is_raw) {
        fail_by_status(self, job->status);
    }
}

static void on_parsed(uv_work_t *work, int status)
{
    struct parse_job *job = work->data;
    struct http_turn *self = job->turn;
    if (status != 0 && job->status == SL_OK && job->document == NULL) {
        job->status = SL_RESOURCE_EXHAUSTED;
    }
    if (self != NULL) {
        sl_turn_enter(&self->base);
        self->attempt.job = NULL;
        take_parsed(self, job);
        if (self->attempt.is_running) {
            go_on(self);
        }
        sl_turn_leave(&self->base);
    }
    json_decref(job->document);
    sl_buf_done(&job->text);
    sl_free(job);
}

/* Takes a copy of the text. False: memory is gone, and that was told. */
static bool start_job(struct http_turn *self, const struct sl_sse_event *event, bool is_reply)
{
    struct parse_job *job = sl_calloc(1, sizeof(*job));
    if (job == NULL) {
        fail_by_status(self, SL_RESOURCE_EXHAUSTED);
        return false;
    }
    sl_buf_init(&job->text, event->data.size);
    job->work.data = job;
    job->turn = self;
    job->is_raw = event->is_raw;
    job->is_cut = event->is_cut;
    job->is_reply = is_reply;
    job->max_depth = self->entry->limits.model_json_depth;
    /* The only name that means anything. */
    job->name = sl_slice_equals(event->name, "error") ? sl_slice_str("error") : sl_slice_of("", 0);
    if (sl_buf_add(&job->text, event->data) != SL_OK ||
        uv_queue_work(sl_loop_uv_handle(self->base.loop), &job->work, run_parse, on_parsed) != 0) {
        sl_buf_done(&job->text);
        sl_free(job);
        fail_by_status(self, SL_RESOURCE_EXHAUSTED);
        return false;
    }
    self->attempt.job = job;
    return true;
}

/* ---- The body -----------------------------------------------------------------------------------
 */

static bool on_event(void *user_data, const struct sl_sse_event *event)
{
    struct http_turn *self = user_data;
    if (event->data.size > PARSE_HERE_BYTES &&
        self->provider->needs_document(self->attempt.stream, event)) {
        (void)start_job(self, event, false);
        return false; /* it goes on when the document is there */
    }
    (void)self->provider->on_event(self->attempt.stream, event, NULL);
    return self->attempt.is_running && sl_turn_is_live(&self->base);
}

/* After the finish reason only a short time is waited for what may follow. */
static void watch_finish(struct http_turn *self)
{
    if (self->attempt.is_running && !self->attempt.is_finishing &&
        self->provider->is_finishing(self->attempt.stream)) {
        self->attempt.is_finishing = true;
        sl_timer_start_ms(&self->progress, self->entry->limits.model_end_grace);
    }
}

static void feed(struct http_turn *self, struct sl_slice bytes)
{
    size_t used = 0;
    if (bytes.size == 0 || !self->attempt.is_running) {
        return;
    }
    const enum sl_status status = sl_sse_feed(&self->attempt.sse, bytes, on_event, self, &used);
    if (!self->attempt.is_running) {
        return;
    }
    if (status != SL_OK && status != SL_AGAIN) {
        fail_by_status(self, status);
        return;
    }
    if (self->attempt.job != NULL && used < bytes.size &&
        sl_buf_add(&self->attempt.held, sl_slice_of(bytes.data + used, bytes.size - used)) !=
            SL_OK) {
        fail_by_status(self, SL_RESOURCE_EXHAUSTED);
        return;
    }
    watch_finish(self);
}

static void end_reply(struct http_turn *self)
{
    json_t *document = NULL;
    const struct sl_sse_event event = { .data = sl_buf_slice(&self->attempt.body) };
    if (event.data.size > PARSE_HERE_BYTES) {
        (void)start_job(self, &event, true);
        return;
    }
    const enum sl_status status =
        sl_json_parse(event.data, self->entry->limits.model_json_depth, &document);
    if (status != SL_OK) {
        fail_reply(self, status);
        return;
    }
    self->provider->on_reply(self->attempt.stream, document);
    json_decref(document);
}

static void end_stream(struct http_turn *self)
{
    const enum sl_status status = sl_sse_finish(&self->attempt.sse, on_event, self);
    if (!self->attempt.is_running || self->attempt.job != NULL) {
        return;
    }
    if (status != SL_OK && status != SL_AGAIN) {
        fail_by_status(self, status);
    } else {
        self->provider->on_end(self->attempt.stream);
    }
}

static void end_error(struct http_turn *self)
{
    struct sl_provider_error error;
    self->provider->map_error(
        self->attempt.status, sl_buf_slice(&self->attempt.body), &self->entry->limits, &error);
    self->request_bytes -= self->request.body.size; /* it was answered, and used nothing */
    fail(self, &error, self->attempt.status, false);
}

/* The transfer ended by itself, and nothing is parsed any more. */
static void end_body(struct http_turn *self)
{
    switch (self->attempt.mode) {
    case MODE_NONE:
        fail_with(self, SL_FAULT_PROVIDER_PROTOCOL, false, "an answer without headers");
        break;
    case MODE_STREAM:
        end_stream(self);
        break;
    case MODE_REPLY:
        end_reply(self);
        break;
    case MODE_ERROR:
        end_error(self);
        break;
    }
}

static void fail_transfer(struct http_turn *self, const struct sl_http_result *result)
{
    switch (result->end) {
    case SL_HTTP_DONE:
    case SL_HTTP_DENIED:
    case SL_HTTP_UNREACHABLE:
        fail_with(self, SL_FAULT_PROVIDER_UNREACHABLE, true, result->text);
        break;
    case SL_HTTP_TLS:
        fail_with(self, SL_FAULT_PROVIDER_TLS, false, result->text);
        break;
    case SL_HTTP_TIMEOUT:
        fail_with(
            self,
            strcmp(result->timer, "connect") == 0 ? SL_FAULT_PROVIDER_UNREACHABLE
                                                  : SL_FAULT_PROVIDER_TIMEOUT,
            true, result->text);
        break;
    case SL_HTTP_TRUNCATED:
        fail_with(self, SL_FAULT_PROVIDER_TRUNCATED, true, result->text);
        break;
    case SL_HTTP_LIMIT:
        fail_with(self, SL_FAULT_PROVIDER_LIMIT, false, result->text);
        break;
    case SL_HTTP_FAILED:
        fail_with(
            self, result->is_bad_reply ? SL_FAULT_PROVIDER_PROTOCOL : SL_FAULT_OUT_OF_MEMORY, false,
            result->text);
        break;
    }
}

static void end_transfer(struct http_turn *self)
{
    const struct sl_http_result *result = &self->attempt.result;
    if (result->end == SL_HTTP_DONE) {
        end_body(self);
    } else if (self->attempt.mode == MODE_ERROR && result->end == SL_HTTP_TRUNCATED) {
        end_error(self);
    } else if (self->attempt.is_finishing && result->end != SL_HTTP_LIMIT) {
        self->provider->on_end(self->attempt.stream); /* only the end mark is missing */
    } else {
        fail_transfer(self, result);
    }
}

/* ---- Callbacks of the transfer ------------------------------------------------------------------
 */

static bool starts_with(const char *text, const char *prefix)
{
    return text != NULL && strncasecmp(text, prefix, strlen(prefix)) == 0;
}

static void on_headers(struct sl_http_request *transfer, uint32_t status, void *user_data)
{
    struct http_turn *self = user_data;
    const char *type = sl_http_header(transfer, "content-type");
    self->attempt.status = status;
    if (status != 200) {
        self->attempt.mode = MODE_ERROR;
    } else if (starts_with(type, "text/event-stream")) {
        self->attempt.mode = MODE_STREAM;
    } else if (starts_with(type, "application/json")) {
        self->attempt.mode = MODE_REPLY;
    }
}

static bool on_full(void *user_data)
{
    struct http_turn *self = user_data;
    const bool is_full = self->attempt.job != NULL ||
                         (self->attempt.mode == MODE_STREAM && sl_turn_is_full(&self->base));
    if (is_full) {
        sl_timer_stop(&self->progress); /* a slow reader trips no timer of the provider */
    }
    return is_full;
}

static void restart_progress(struct http_turn *self)
{
    if (!self->attempt.is_running || self->attempt.mode != MODE_STREAM ||
        sl_timer_is_running(&self->progress)) {
        return;
    }
    self->last_chunk_ns = sl_loop_now_ns(self->base.loop);
    sl_timer_start_ms(
        &self->progress, self->attempt.is_finishing ? self->entry->limits.model_end_grace
                                                    : self->entry->limits.model_no_progress);
}

/* Errors are cut at their limit; replies must not pass theirs. */
static void keep_body(struct http_turn *self, struct sl_slice bytes)
{
    struct sl_buf *body = &self->attempt.body;
    const size_t room = body->max_bytes - body->size;
    const bool is_over = bytes.size > room;
    if (is_over && self->attempt.mode == MODE_REPLY) {
        fail_with(self, SL_FAULT_PROVIDER_LIMIT, false, "the reply is too long");
        return;
    }
    bytes.size = is_over ? room : bytes.size;
    if (sl_buf_add(body, bytes) != SL_OK) {
        fail_by_status(self, SL_RESOURCE_EXHAUSTED);
    } else if (is_over) {
        end_error(self);
    }
}

static bool is_encoded(const struct sl_http_request *transfer)
{
    const char *encoding = sl_http_header(transfer, "content-encoding");
    return encoding != NULL && *encoding != '\0' && strcasecmp(encoding, "identity") != 0;
}

static bool on_body(struct sl_http_request *transfer, struct sl_slice bytes, void *user_data)
{
    struct http_turn *self = user_data;
    sl_turn_enter(&self->base);
    if (self->attempt.mode == MODE_REPLY) {
        self->attempt.body.max_bytes = self->entry->limits.model_reply;
    }
    if (self->attempt.mode == MODE_NONE) {
        fail_with(self, SL_FAULT_PROVIDER_PROTOCOL, false, "an answer of an unexpected type");
    } else if (self->attempt.status == 200 && is_encoded(transfer)) {
        fail_with(self, SL_FAULT_PROVIDER_PROTOCOL, false, "a compressed answer");
    } else if (self->attempt.mode == MODE_STREAM) {
        restart_progress(self);
        feed(self, bytes);
    } else {
        keep_body(self, bytes);
    }
    const bool goes_on = self->attempt.is_running && sl_turn_is_live(&self->base);
    sl_turn_leave(&self->base);
    return goes_on;
}

/* Requests that were answered, or may have been seen, count. */
static void
on_end(struct sl_http_request *transfer, const struct sl_http_result *result, void *user_data)
{
    struct http_turn *self = user_data;
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

static enum sl_status open_attempt(struct http_turn *self)
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

static void start_attempt(struct http_turn *self)
{
    const struct sl_limits *limits = &self->entry->limits;
    release_attempt(self);
    self->attempt.mode = MODE_NONE;
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
        fail_with(self, SL_FAULT_INTERNAL, false, "the provider's URL or headers cannot be used");
    } else {
        fail_by_status(self, SL_RESOURCE_EXHAUSTED);
    }
}

static void on_wait(void *user_data)
{
    struct http_turn *self = user_data;
    sl_turn_enter(&self->base);
    if (self->has_early_fault) {
        fail_with(self, self->early_fault, false, "the request cannot be sent");
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
    struct http_turn *self = user_data;
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
    struct http_turn *self = of(turn);
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
    struct http_turn *self = of(turn);
    release_attempt(self);
    sl_provider_request_done(&self->request);
    sl_free(self);
}

/* The provider's headers and the entry's, in one list. */
static enum sl_status collect_headers(struct http_turn *self)
{
    const struct sl_slice own = sl_buf_slice(&self->request.headers);
    size_t n = 0;
    for (size_t at = 0; at < own.size && n < MAX_HEADERS - 1; n++) {
        self->headers[n] = (const char *)own.data + at;
        at += strlen(self->headers[n]) + 1;
    }
    for (size_t i = 0; self->entry->headers[i] != NULL; i++) {
        if (n == MAX_HEADERS - 1) {
            return SL_RESOURCE_EXHAUSTED;
        }
        self->headers[n++] = self->entry->headers[i];
    }
    self->headers[n] = NULL;
    return SL_OK;
}

/* What fails in building a request is told as a chunk, as every other failure of the turn. */
static void build(struct http_turn *self, const struct sl_model_request *request)
{
    enum sl_status status =
        self->provider->build_request(&self->settings, request, &self->request, NULL);
    if (status == SL_OK) {
        status = collect_headers(self);
    }
    self->has_early_fault = status != SL_OK;
    self->early_fault = status == SL_OUT_OF_RANGE       ? SL_FAULT_PROVIDER_LIMIT
                        : status == SL_INVALID_ARGUMENT ? SL_FAULT_INTERNAL
                                                        : SL_FAULT_OUT_OF_MEMORY;
}

static void begin(struct http_turn *self, uint64_t remaining)
{
    if (remaining > 0) {
        self->deadline_ns = sl_loop_now_ns(self->base.loop) + remaining * SL_NS_PER_MS;
        sl_timer_start(&self->total, self->deadline_ns);
    }
    if (self->has_early_fault || sl_gate_enter(&self->entry->gate, &self->ticket)) {
        sl_timer_start_ms(&self->wait, 0); /* no chunk comes from inside the start */
    } else {
        sl_turn_enter(&self->base); /* until the gate opens, or the turn leaves the line */
    }
}

enum sl_status sl_http_turn_start(
    const struct sl_turn_start *start, struct sl_model_turn **ret_turn, struct sl_error *err)
{
    static const struct sl_turn_ops ops = { .resume = resume, .stop = stop, .destroy = destroy };
    struct sl_http *http = NULL;
    SL_TRY(sl_models_http(start->models, start->loop, &http, err));
    struct http_turn *self = sl_calloc(1, sizeof(*self));
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
    build(self, start->request);
    begin(self, start->request->remaining_ms);
    *ret_turn = &self->base;
    return SL_OK;
}
