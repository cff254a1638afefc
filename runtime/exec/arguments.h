/* The arguments of a tool call as a run needs them: an object for the history, and a digest by
 * which equal calls are known. Large ones are read on the pool (PM-1.6). */
#ifndef SL_RUNTIME_EXEC_ARGUMENTS_H
#define SL_RUNTIME_EXEC_ARGUMENTS_H

#include "runtime/base/crypto.h"
#include "runtime/base/loop.h"
#include "runtime/base/status.h"

struct sl_arguments {
    bool is_object; /* the text is a JSON object without repeated keys, and can stay as it is */
    char *wrapped;  /* else: an object that holds the text (AL-6.1); sl_free(). NULL: is_object */
    uint8_t digest[SL_SHA256_BYTES];    /* of the name and the canonical form */
    uint8_t canonical[SL_SHA256_BYTES]; /* of the canonical form: compact, keys in order */
};

struct sl_arguments_job;

/* `is_whole` false: `text` is just the beginning of what the model sent, and is no object whatever
 * it looks like. Fails: SL_RESOURCE_EXHAUSTED. Thread: any. */
SL_CHECK enum sl_status sl_arguments_read(
    const char *name, const char *text, bool is_whole, struct sl_arguments *ret_arguments);

/* The job has ended; `arguments` belongs to the receiver when the status is SL_OK. */
typedef void(sl_arguments_fn)(
    void *user_data, enum sl_status status, struct sl_arguments *arguments);

/* The same on the pool, of copies. `on_read` comes once, later, unless the job is dropped. NULL: no
 * memory. Thread: loop. */
SL_CHECK struct sl_arguments_job *sl_arguments_start(
    struct sl_loop *loop,
    const char *name,
    const char *text,
    sl_arguments_fn *on_read,
    void *user_data);
/* Nobody waits any more; what the pool still has goes by itself. Accepts NULL; gives NULL. */
struct sl_arguments_job *sl_arguments_drop(struct sl_arguments_job *job);

#endif
