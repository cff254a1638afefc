#include "runtime/exec/arguments.h"

#include <stdlib.h>

#include <jansson.h>

#include "runtime/base/mem.h"
#include "runtime/exec/budget.h"

struct sl_arguments_job {
    struct sl_job job;
    char *name, *text;
    sl_arguments_fn *on_read; /* NULL: nobody waits any more */
    void *user_data;
    enum sl_status status;
    struct sl_arguments arguments;
};

/* History must stay valid for the next request (AL-6.1). */
static json_t *wrap(const char *text, char **ret_wrapped)
{
    json_t *json = json_pack("{s:s}", "_invalid_arguments", text);
    char *dump = json == NULL ? NULL : json_dumps(json, JSON_COMPACT);
    *ret_wrapped = dump == NULL ? NULL : sl_strdup(dump);
    free(dump);
    return json;
}

enum sl_status sl_arguments_read(
    const char *name, const char *text, bool is_whole, struct sl_arguments *ret_arguments)
{
    struct sl_arguments arguments = { .wrapped = NULL };
    json_t *json = is_whole ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    arguments.is_object = json_is_object(json);
    if (!arguments.is_object) {
        json_decref(json);
        json = wrap(text, &arguments.wrapped);
    }
    char *canonical = json == NULL ? NULL : json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(json);
    enum sl_status status = SL_RESOURCE_EXHAUSTED;
    if (canonical != NULL && (arguments.is_object || arguments.wrapped != NULL)) {
        status = sl_budget_digest(name, sl_slice_str(canonical), arguments.digest);
    }
    if (status == SL_OK) {
        status = sl_sha256(sl_slice_str(canonical), arguments.canonical);
    }
    free(canonical);
    if (status != SL_OK) {
        sl_free(arguments.wrapped);
        return status;
    }
    *ret_arguments = arguments;
    return SL_OK;
}

/* ---- On the pool ------------------------------------------------------------------------------
 */

static void run_read(struct sl_job *job)
{
    struct sl_arguments_job *self = SL_CONTAINER(job, struct sl_arguments_job, job);
    self->status = sl_arguments_read(self->name, self->text, true, &self->arguments);
}

static void free_job(struct sl_arguments_job *job)
{
    sl_free(job->name);
    sl_free(job->text);
    sl_free(job->arguments.wrapped);
    sl_free(job);
}

static void on_done(struct sl_job *job)
{
    struct sl_arguments_job *self = SL_CONTAINER(job, struct sl_arguments_job, job);
    if (self->on_read != NULL) {
        struct sl_arguments arguments = self->arguments;
        self->arguments.wrapped = NULL;
        self->on_read(self->user_data, self->status, &arguments);
    }
    free_job(self);
}

struct sl_arguments_job *sl_arguments_start(
    struct sl_loop *loop,
    const char *name,
    const char *text,
    sl_arguments_fn *on_read,
    void *user_data)
{
    struct sl_arguments_job *job = sl_calloc(1, sizeof(*job));
    if (job == NULL) {
        return NULL;
    }
    job->name = sl_strdup(name);
    job->text = sl_strdup(text);
    if (job->name == NULL || job->text == NULL) {
        free_job(job);
        return NULL;
    }
    job->job = (struct sl_job){ .run = run_read, .on_done = on_done };
    job->on_read = on_read;
    job->user_data = user_data;
    sl_loop_offload(loop, &job->job);
    return job;
}

struct sl_arguments_job *sl_arguments_drop(struct sl_arguments_job *job)
{
    if (job != NULL) {
        job->on_read = NULL;
        sl_job_take_back(&job->job);
    }
    return NULL;
}
