/* What the answers of an agent must look like (AL-9, output_schema): JSON that fits a schema. Large
 * ones are read on the pool (PM-1.6). */
#ifndef SL_RUNTIME_EXEC_OUTPUT_H
#define SL_RUNTIME_EXEC_OUTPUT_H

#include <jansson.h>

#include "runtime/base/loop.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"

/* What becomes of a run whose last answer does not fit. */
enum sl_output_rule {
    SL_OUTPUT_FAIL,
    SL_OUTPUT_RETRY, /* the model is told, and may answer again */
    SL_OUTPUT_PASS   /* it is a success all the same */
};

/* All zero: any text will do. */
struct sl_output {
    const char *schema_json; /* NULL: there is no schema */
    json_t *schema;          /* the same; never changed */
    bool is_lenient;         /* of an answer with a fenced code block that block is meant */
    enum sl_output_rule rule;
    uint64_t max_retries; /* of a run */
};

/* Does the text fit? Thread: any. Fails: SL_INVALID_ARGUMENT it does not, and `err` tells the model
 * why. */
SL_CHECK enum sl_status
sl_output_check(const struct sl_output *output, struct sl_slice text, struct sl_error *err);

struct sl_output_job;

/* The status of the check, or SL_RESOURCE_EXHAUSTED. */
typedef void(sl_output_fn)(void *user_data, enum sl_status status, const struct sl_error *err);

/* The same on the pool, of a copy. `on_checked` comes once, later, unless the job is dropped. NULL:
 * no memory. Thread: loop. */
SL_CHECK struct sl_output_job *sl_output_start(
    struct sl_loop *loop,
    const struct sl_output *output,
    struct sl_slice text,
    sl_output_fn *on_checked,
    void *user_data);
/* Nobody waits any more; what the pool still has goes by itself. Accepts NULL; gives NULL. */
struct sl_output_job *sl_output_drop(struct sl_output_job *job);

#endif
