#include "runtime/exec/output.h"

#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/tool/schema.h"

struct sl_output_job {
    struct sl_job job;
    struct sl_output output; /* its schema is counted: the agent may go */
    char *text;
    size_t size;
    sl_output_fn *on_checked; /* NULL: nobody waits any more */
    void *user_data;
    enum sl_status status;
    struct sl_error err;
};

static struct sl_slice skip(struct sl_slice text, size_t n)
{
    return sl_slice_of(text.data + n, text.size - n);
}

/* Where `mark` begins; false: nowhere. */
static bool find(struct sl_slice text, const char *mark, size_t *ret_at)
{
    const uint8_t *found = text.size == 0 ? NULL : memmem(text.data, text.size, mark, strlen(mark));
    *ret_at = found == NULL ? 0 : (size_t)(found - text.data);
    return found != NULL;
}

/* What stands in the first fenced code block; without one the whole text. */
static struct sl_slice unfence(struct sl_slice text)
{
    size_t at = 0;
    if (!find(text, "```", &at)) {
        return text;
    }
    const struct sl_slice behind = skip(text, at);
    if (!find(behind, "\n", &at)) {
        return text;
    }
    struct sl_slice block = skip(behind, at + 1);
    if (find(block, "```", &at)) {
        block.size = at;
    }
    return block;
}

enum sl_status
sl_output_check(const struct sl_output *output, struct sl_slice text, struct sl_error *err)
{
    json_error_t wrong;
    const struct sl_slice meant = output->is_lenient ? unfence(text) : text;
    json_t *value = json_loadb(
        meant.size == 0 ? "" : (const char *)meant.data, meant.size,
        JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &wrong);
    if (value == NULL) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "it is not JSON: line %d, column %d: %.120s", wrong.line,
            wrong.column, wrong.text);
    }
    const enum sl_status status = sl_schema_validate(output->schema, value, err);
    json_decref(value);
    return status;
}

/* ---- On the pool ------------------------------------------------------------------------------
 */

static void run_check(struct sl_job *job)
{
    struct sl_output_job *self = SL_CONTAINER(job, struct sl_output_job, job);
    self->status = sl_output_check(
        &self->output, sl_slice_of((const uint8_t *)self->text, self->size), &self->err);
}

static void free_job(struct sl_output_job *job)
{
    json_decref(job->output.schema);
    sl_free(job->text);
    sl_free(job);
}

static void on_done(struct sl_job *job)
{
    struct sl_output_job *self = SL_CONTAINER(job, struct sl_output_job, job);
    if (self->on_checked != NULL) {
        self->on_checked(self->user_data, self->status, &self->err);
    }
    free_job(self);
}

struct sl_output_job *sl_output_start(
    struct sl_loop *loop,
    const struct sl_output *output,
    struct sl_slice text,
    sl_output_fn *on_checked,
    void *user_data)
{
    struct sl_output_job *job = sl_calloc(1, sizeof(*job));
    char *copy = job == NULL ? NULL : sl_strndup((const char *)text.data, text.size);
    if (copy == NULL) {
        sl_free(job);
        return NULL;
    }
    *job = (struct sl_output_job){
        .job = { .run = run_check, .on_done = on_done },
        .output = *output,
        .text = copy,
        .size = text.size,
        .on_checked = on_checked,
        .user_data = user_data,
    };
    (void)json_incref(job->output.schema);
    sl_loop_offload(loop, &job->job);
    return job;
}

struct sl_output_job *sl_output_drop(struct sl_output_job *job)
{
    if (job != NULL) {
        job->on_checked = NULL;
        sl_job_take_back(&job->job);
    }
    return NULL;
}
