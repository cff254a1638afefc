/* JSON values one after the other, from a text or from standard input as it comes.
 *
 * stdin is read by a thread of its own, a block at a time: the next block is read when this one has
 * been taken apart, so that a slow server holds back whoever writes. */
#ifndef SL_SERVICE_CLI_JSON_INPUT_H
#define SL_SERVICE_CLI_JSON_INPUT_H

#include <pthread.h>

#include <jansson.h>

#include "runtime/base/buf.h"
#include "runtime/base/loop.h"
#include "runtime/base/status.h"

enum { SL_JSON_INPUT_MAX_BYTES = 64 * 1024 * 1024 }; /* of one value */

struct sl_json_input {
    struct sl_buf text; /* not taken apart yet */
    uint64_t n_values;
    bool is_complete; /* no more text will come */
    void (*on_more)(void *user_data);
    void *user_data;
    struct sl_loop *loop; /* NULL: a text */
    struct sl_task task;
    pthread_t thread;
    bool has_thread, is_waiting;
    struct {
        pthread_mutex_t lock;
        pthread_cond_t taken;
        uint8_t block[16384];
        size_t size;
        bool is_end, is_stopping;
    } shared;
};

/* Copies `text`. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_json_input_open_text(struct sl_json_input *input, struct sl_slice text);
/* `on_more` is called on the loop when sl_json_input_next() has more to say than SL_AGAIN. Fails:
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_json_input_open_stdin(
    struct sl_json_input *input,
    struct sl_loop *loop,
    void (*on_more)(void *user_data),
    void *user_data);
/* Gives: json_decref(). SL_AGAIN: later; SL_END: there are no more. Fails: SL_INVALID_ARGUMENT no
 * JSON, with the number of the value; SL_RESOURCE_EXHAUSTED a value over 64 MiB. */
SL_CHECK enum sl_status
sl_json_input_next(struct sl_json_input *input, json_t **ret_json, struct sl_error *err);
/* Ends the thread, also while it reads. Accepts what was never opened (all zero). */
void sl_json_input_done(struct sl_json_input *input);

#endif
