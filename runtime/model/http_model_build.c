/* The request of a turn: built on the loop while it is small, and on the pool when it is not
 * (PM-1.6).
 *
 * A small one is built at once, with a maximum of SL_JOB_DOCUMENT_BYTES; escapes may show only then
 * that it is large. A large one is built from a copy: the conversation is its owner's, who may go
 * meanwhile. */
#include "runtime/base/arena.h"
#include "runtime/base/mem.h"
#include "runtime/model/http_model.h"

/* It outlives the turn if it must. */
struct sl_build_job {
    struct sl_job job;
    struct sl_http_turn *turn; /* NULL: nobody waits any more */
    struct sl_models *models;
    const struct sl_provider *provider;
    struct sl_provider_settings settings;
    struct sl_arena arena; /* of the copy */
    struct sl_model_request request;
    struct sl_provider_request built;
    enum sl_status status;
};

/* ---- How large it is at least ------------------------------------------------------------------
 */

static size_t size_of(const char *text)
{
    return text == NULL ? 0 : strlen(text);
}

static size_t measure_message(const struct sl_chat_message *message)
{
    size_t bytes = message->content.size + message->reasoning.size + size_of(message->opaque_json);
    for (size_t i = 0; i < message->n_calls; i++) {
        bytes += strlen(message->calls[i].name) + strlen(message->calls[i].arguments_json) +
                 size_of(message->calls[i].opaque_json);
    }
    return bytes;
}

/* Texts only, without escapes. */
static size_t measure(const struct sl_model_request *request)
{
    size_t bytes = size_of(request->system) + size_of(request->output_schema_json);
    for (size_t i = 0; i < request->n_messages; i++) {
        bytes += measure_message(&request->messages[i]);
    }
    for (size_t i = 0; i < request->n_tools; i++) {
        bytes +=
            size_of(request->tools[i].description) + size_of(request->tools[i].parameters_json);
    }
    return bytes;
}

/* ---- The copy ----------------------------------------------------------------------------------
 */

/* NULL stays NULL; a refusal shows in the arena. */
static const char *copy_text(struct sl_arena *arena, const char *text)
{
    return text == NULL ? NULL : sl_arena_dup(arena, sl_slice_str(text));
}

static struct sl_slice copy_slice(struct sl_arena *arena, struct sl_slice text)
{
    const char *copy = text.size == 0 ? NULL : sl_arena_dup(arena, text);
    return sl_slice_of(copy, copy == NULL ? 0 : text.size);
}

/* A list of `n` elements of `size` bytes, as it is. NULL: it is empty, or was refused. */
static void *copy_list(struct sl_arena *arena, const void *list, size_t n, size_t size)
{
    void *copy = n == 0 ? NULL : sl_arena_calloc(arena, n, size);
    if (copy != NULL) {
        memcpy(copy, list, n * size);
    }
    return copy;
}

static void copy_calls(struct sl_arena *arena, struct sl_chat_message *message)
{
    struct sl_chat_call *calls =
        copy_list(arena, message->calls, message->n_calls, sizeof(*message->calls));
    message->calls = calls;
    for (size_t i = 0; calls != NULL && i < message->n_calls; i++) {
        calls[i].id = copy_text(arena, calls[i].id);
        calls[i].name = copy_text(arena, calls[i].name);
        calls[i].arguments_json = copy_text(arena, calls[i].arguments_json);
        calls[i].opaque_json = copy_text(arena, calls[i].opaque_json);
    }
}

static void copy_messages(struct sl_arena *arena, struct sl_model_request *request)
{
    struct sl_chat_message *messages =
        copy_list(arena, request->messages, request->n_messages, sizeof(*request->messages));
    request->messages = messages;
    for (size_t i = 0; messages != NULL && i < request->n_messages; i++) {
        messages[i].content = copy_slice(arena, messages[i].content);
        messages[i].reasoning = copy_slice(arena, messages[i].reasoning);
        messages[i].call_id = copy_text(arena, messages[i].call_id);
        messages[i].tool_name = copy_text(arena, messages[i].tool_name);
        messages[i].opaque_json = copy_text(arena, messages[i].opaque_json);
        copy_calls(arena, &messages[i]);
    }
}

static void copy_tools(struct sl_arena *arena, struct sl_model_request *request)
{
    struct sl_chat_tool *tools =
        copy_list(arena, request->tools, request->n_tools, sizeof(*request->tools));
    request->tools = tools;
    for (size_t i = 0; tools != NULL && i < request->n_tools; i++) {
        tools[i].name = copy_text(arena, tools[i].name);
        tools[i].description = copy_text(arena, tools[i].description);
        tools[i].parameters_json = copy_text(arena, tools[i].parameters_json);
    }
}

static void copy_stop(struct sl_arena *arena, struct sl_model_request *request)
{
    const char **stop = copy_list(arena, request->stop, request->n_stop, sizeof(*request->stop));
    request->stop = stop;
    for (size_t i = 0; stop != NULL && i < request->n_stop; i++) {
        stop[i] = copy_text(arena, stop[i]);
    }
}

/* False: no memory. */
static bool copy_request(struct sl_arena *arena, struct sl_model_request *request)
{
    request->provider = copy_text(arena, request->provider);
    request->model = copy_text(arena, request->model);
    request->system = copy_text(arena, request->system);
    request->reasoning_effort = copy_text(arena, request->reasoning_effort);
    request->output_schema_json = copy_text(arena, request->output_schema_json);
    request->run_id = copy_text(arena, request->run_id);
    request->input = NULL;
    request->temperature =
        copy_list(arena, request->temperature, request->temperature != NULL, sizeof(double));
    request->top_p = copy_list(arena, request->top_p, request->top_p != NULL, sizeof(double));
    copy_messages(arena, request);
    copy_tools(arena, request);
    copy_stop(arena, request);
    return !arena->is_refused;
}

/* ---- The job -----------------------------------------------------------------------------------
 */

static void run_build(struct sl_job *job)
{
    struct sl_build_job *build = SL_CONTAINER(job, struct sl_build_job, job);
    build->status =
        build->provider->build_request(&build->settings, &build->request, &build->built, NULL);
    sl_arena_done(&build->arena);
}

static void on_built(struct sl_job *job)
{
    struct sl_build_job *build = SL_CONTAINER(job, struct sl_build_job, job);
    struct sl_http_turn *self = build->turn;
    if (self != NULL) {
        sl_turn_enter(&self->base);
        self->build = NULL;
        sl_provider_request_done(&self->request);
        self->request = build->built;
        build->built = (struct sl_provider_request){ .url = { .data = NULL } };
        sl_http_turn_built(self, build->status);
        sl_turn_leave(&self->base);
    }
    sl_models_count_job(build->models, job->loop, -1);
    sl_provider_request_done(&build->built);
    sl_arena_done(&build->arena);
    sl_free(build);
}

void sl_http_turn_drop_build(struct sl_http_turn *self)
{
    if (self->build != NULL) {
        sl_job_take_back(&self->build->job);
        self->build->turn = NULL;
        self->build = NULL;
    }
}

/* False: no memory. */
static bool start_job(struct sl_http_turn *self, const struct sl_model_request *request)
{
    struct sl_build_job *build = sl_calloc(1, sizeof(*build));
    if (build == NULL) {
        return false;
    }
    *build = (struct sl_build_job){
        .job = { .run = run_build, .on_done = on_built },
        .turn = self,
        .models = self->base.models,
        .provider = self->provider,
        .settings = self->settings,
        .request = *request,
    };
    sl_arena_init(&build->arena, 0); /* what it copies was measured */
    if (!copy_request(&build->arena, &build->request)) {
        sl_arena_done(&build->arena);
        sl_free(build);
        return false;
    }
    sl_models_count_job(build->models, self->base.loop, 1);
    self->build = build;
    sl_loop_offload(self->base.loop, &build->job);
    return true;
}

/* Builds a request that is not larger than a loop may build. Fails: SL_OUT_OF_RANGE it is. */
static enum sl_status build_here(struct sl_http_turn *self, const struct sl_model_request *request)
{
    struct sl_limits limits = *self->settings.limits;
    struct sl_provider_settings settings = self->settings;
    if (limits.model_request > SL_JOB_DOCUMENT_BYTES) {
        limits.model_request = SL_JOB_DOCUMENT_BYTES;
    }
    settings.limits = &limits;
    return self->provider->build_request(&settings, request, &self->request, NULL);
}

enum sl_status sl_http_turn_build(struct sl_http_turn *self, const struct sl_model_request *request)
{
    const size_t max_bytes = self->settings.limits->model_request;
    const size_t least_bytes = measure(request);
    sl_provider_request_init(&self->request, self->settings.limits);
    if (least_bytes > max_bytes) {
        return SL_OUT_OF_RANGE;
    }
    if (least_bytes <= SL_JOB_DOCUMENT_BYTES) {
        const enum sl_status status = build_here(self, request);
        if (status != SL_OUT_OF_RANGE || max_bytes <= SL_JOB_DOCUMENT_BYTES) {
            return status;
        }
        sl_provider_request_done(&self->request);
    }
    return start_job(self, request) ? SL_AGAIN : SL_RESOURCE_EXHAUSTED;
}
