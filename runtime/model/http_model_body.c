/* What comes over HTTP: the stream, replies, errors, and documents that are parsed on the pool. */
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/model/http_model.h"
#include "runtime/model/json.h"

/* A document that is parsed on the pool. It outlives the turn if it must. */
struct sl_parse_job {
    struct sl_job job;
    struct sl_http_turn *turn; /* NULL: nobody waits any more */
    struct sl_buf text;
    struct sl_slice name;
    struct sl_models *models;
    const struct sl_provider *provider;
    bool is_raw, is_cut, is_reply;
    size_t max_depth;
    enum sl_status status;
    json_t *document;
};

/* ---- Documents that are parsed on the pool ------------------------------------------------------
 */

static struct sl_parse_job *of(struct sl_job *job)
{
    return SL_CONTAINER(job, struct sl_parse_job, job);
}

static void run_parse(struct sl_job *work)
{
    struct sl_parse_job *job = of(work);
    job->status = sl_json_parse(sl_buf_slice(&job->text), job->max_depth, &job->document);
    if (job->status == SL_OK) {
        job->status = job->provider->prepare(job->document);
    }
}

/* A large tree takes long to free, too. */
static void run_release(struct sl_job *work)
{
    struct sl_parse_job *job = of(work);
    json_decref(job->document);
    sl_buf_done(&job->text);
}

static void on_released(struct sl_job *work)
{
    struct sl_parse_job *job = of(work);
    sl_models_count_job(job->models, work->loop, -1);
    sl_free(job);
}

static void release(struct sl_parse_job *job)
{
    job->job.run = run_release;
    job->job.on_done = on_released;
    sl_loop_offload(job->job.loop, &job->job);
}

/* What came while the document was parsed. */
static void go_on(struct sl_http_turn *self)
{
    struct sl_buf held = self->attempt.held;
    sl_buf_init(&self->attempt.held, held.max_bytes);
    sl_http_turn_feed(self, sl_buf_slice(&held));
    sl_buf_done(&held);
    if (!self->attempt.is_running || self->attempt.job != NULL) {
        return;
    }
    if (self->attempt.has_ended) {
        sl_http_turn_end_body(self);
    } else if (self->attempt.transfer != NULL) {
        sl_http_resume(self->attempt.transfer);
    }
}

static void fail_deep(struct sl_http_turn *self, const char *text)
{
    sl_limit_reached(SL_LIMIT_model_json_depth);
    sl_http_turn_fail_with(self, SL_FAULT_PROVIDER_LIMIT, false, text);
}

static void fail_reply(struct sl_http_turn *self, enum sl_status status)
{
    if (status == SL_INVALID_ARGUMENT) {
        sl_http_turn_fail_with(self, SL_FAULT_PROVIDER_PROTOCOL, false, "the reply is not JSON");
    } else if (status == SL_OUT_OF_RANGE) {
        fail_deep(self, "the reply is nested too deep");
    } else {
        sl_http_turn_fail_by_status(self, status);
    }
}

static void take_parsed(struct sl_http_turn *self, struct sl_parse_job *job)
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
        sl_http_turn_fail_with(
            self, SL_FAULT_PROVIDER_TRUNCATED, true, "the stream ended inside an event");
    } else if (job->status == SL_INVALID_ARGUMENT && !job->is_raw) {
        sl_http_turn_fail_with(self, SL_FAULT_PROVIDER_PROTOCOL, false, "an event is not JSON");
    } else if (job->status == SL_OUT_OF_RANGE && !job->is_raw) {
        fail_deep(self, "an event is nested too deep");
    } else if (!job->is_raw) {
        sl_http_turn_fail_by_status(self, job->status);
    }
}

static void on_parsed(struct sl_job *work)
{
    struct sl_parse_job *job = of(work);
    struct sl_http_turn *self = job->turn;
    if (self != NULL) {
        sl_turn_enter(&self->base);
        self->attempt.job = NULL;
        take_parsed(self, job);
        if (self->attempt.is_running) {
            go_on(self);
        }
        sl_turn_leave(&self->base);
    }
    release(job);
}

void sl_http_turn_drop_job(struct sl_http_turn *self)
{
    if (self->attempt.job != NULL) {
        sl_job_take_back(&self->attempt.job->job);
        self->attempt.job->turn = NULL;
        self->attempt.job = NULL;
    }
}

/* Takes a copy of the text. False: memory is gone, and that was told. */
static bool start_job(struct sl_http_turn *self, const struct sl_sse_event *event, bool is_reply)
{
    struct sl_parse_job *job = sl_calloc(1, sizeof(*job));
    if (job == NULL) {
        sl_http_turn_fail_by_status(self, SL_RESOURCE_EXHAUSTED);
        return false;
    }
    sl_buf_init(&job->text, event->data.size);
    job->job = (struct sl_job){ .run = run_parse, .on_done = on_parsed };
    job->turn = self;
    job->models = self->base.models;
    job->provider = self->provider;
    job->is_raw = event->is_raw;
    job->is_cut = event->is_cut;
    job->is_reply = is_reply;
    job->max_depth = self->entry->limits.model_json_depth;
    /* The only name that means anything. */
    job->name = sl_slice_equals(event->name, "error") ? sl_slice_str("error") : sl_slice_of("", 0);
    if (sl_buf_add(&job->text, event->data) != SL_OK) {
        sl_buf_done(&job->text);
        sl_free(job);
        sl_http_turn_fail_by_status(self, SL_RESOURCE_EXHAUSTED);
        return false;
    }
    sl_models_count_job(job->models, self->base.loop, 1);
    self->attempt.job = job;
    sl_loop_offload(self->base.loop, &job->job);
    return true;
}

/* ---- The body -----------------------------------------------------------------------------------
 */

static bool on_event(void *user_data, const struct sl_sse_event *event)
{
    struct sl_http_turn *self = user_data;
    if (event->data.size > SL_JOB_DOCUMENT_BYTES &&
        self->provider->needs_document(self->attempt.stream, event)) {
        (void)start_job(self, event, false);
        return false; /* it goes on when the document is there */
    }
    (void)self->provider->on_event(self->attempt.stream, event, NULL);
    return self->attempt.is_running && sl_turn_is_live(&self->base);
}

/* After the finish reason only a short time is waited for what may follow. */
static void watch_finish(struct sl_http_turn *self)
{
    if (self->attempt.is_running && !self->attempt.is_finishing &&
        self->provider->is_finishing(self->attempt.stream)) {
        self->attempt.is_finishing = true;
        sl_timer_start_ms(&self->progress, self->entry->limits.model_end_grace);
    }
}

void sl_http_turn_feed(struct sl_http_turn *self, struct sl_slice bytes)
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
        sl_http_turn_fail_by_status(self, status);
        return;
    }
    if (self->attempt.job != NULL && used < bytes.size &&
        sl_buf_add(&self->attempt.held, sl_slice_of(bytes.data + used, bytes.size - used)) !=
            SL_OK) {
        sl_http_turn_fail_by_status(self, SL_RESOURCE_EXHAUSTED);
        return;
    }
    watch_finish(self);
}

static void end_reply(struct sl_http_turn *self)
{
    json_t *document = NULL;
    const struct sl_sse_event event = { .data = sl_buf_slice(&self->attempt.body) };
    if (event.data.size > SL_JOB_DOCUMENT_BYTES) {
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

static void end_stream(struct sl_http_turn *self)
{
    const enum sl_status status = sl_sse_finish(&self->attempt.sse, on_event, self);
    if (!self->attempt.is_running || self->attempt.job != NULL) {
        return;
    }
    if (status != SL_OK && status != SL_AGAIN) {
        sl_http_turn_fail_by_status(self, status);
    } else {
        self->provider->on_end(self->attempt.stream);
    }
}

void sl_http_turn_end_error(struct sl_http_turn *self)
{
    struct sl_provider_error error;
    struct sl_slice body = sl_buf_slice(&self->attempt.body);
    if (body.size > SL_JOB_DOCUMENT_BYTES) {
        body.size = 0; /* no explanation is that long: the status has to do */
    }
    self->provider->map_error(self->attempt.status, body, &self->entry->limits, &error);
    self->request_bytes -= self->request.body.size; /* it was answered, and used nothing */
    sl_http_turn_fail(self, &error, self->attempt.status, false);
}

/* The transfer ended by itself, and nothing is parsed any more. */
void sl_http_turn_end_body(struct sl_http_turn *self)
{
    switch (self->attempt.mode) {
    case SL_HTTP_MODE_NONE:
        sl_http_turn_fail_with(
            self, SL_FAULT_PROVIDER_PROTOCOL, false, "an answer without headers");
        break;
    case SL_HTTP_MODE_STREAM:
        end_stream(self);
        break;
    case SL_HTTP_MODE_REPLY:
        end_reply(self);
        break;
    case SL_HTTP_MODE_ERROR:
        sl_http_turn_end_error(self);
        break;
    }
}

/* Errors are cut at their limit; replies must not pass theirs. */
void sl_http_turn_keep_body(struct sl_http_turn *self, struct sl_slice bytes)
{
    struct sl_buf *body = &self->attempt.body;
    const size_t room = body->max_bytes - body->size;
    const bool is_over = bytes.size > room;
    if (is_over) {
        sl_limit_reached(
            self->attempt.mode == SL_HTTP_MODE_REPLY ? SL_LIMIT_model_reply
                                                     : SL_LIMIT_model_error_body);
    }
    if (is_over && self->attempt.mode == SL_HTTP_MODE_REPLY) {
        sl_http_turn_fail_with(self, SL_FAULT_PROVIDER_LIMIT, false, "the reply is too long");
        return;
    }
    bytes.size = is_over ? room : bytes.size;
    if (sl_buf_add(body, bytes) != SL_OK) {
        sl_http_turn_fail_by_status(self, SL_RESOURCE_EXHAUSTED);
    } else if (is_over) {
        sl_http_turn_end_error(self);
    }
}

uint64_t sl_http_turn_bytes(struct sl_model_turn *base)
{
    const struct sl_http_turn *self = SL_CONTAINER(base, struct sl_http_turn, base);
    const struct sl_provider_request *request = &self->request;
    const struct sl_provider_stream *stream = self->attempt.stream;
    return sizeof(*self) + request->url.capacity + request->headers.capacity +
           request->body.capacity +
           (self->attempt.transfer == NULL ? 0 : request->body.size) + /* its copy */
           sl_sse_memory(&self->attempt.sse) + self->attempt.body.capacity +
           self->attempt.held.capacity +
           (stream == NULL ? 0 : self->provider->stream_bytes(stream));
}
