#include "service/cli/json_input.h"

#include <errno.h>
#include <unistd.h>

#include "runtime/base/mem.h"

static bool is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

enum sl_status sl_json_input_open_text(struct sl_json_input *input, struct sl_slice text)
{
    *input = (struct sl_json_input){ .is_complete = true };
    sl_buf_init(&input->text, text.size + 1);
    return sl_buf_add(&input->text, text);
}

/* ---- stdin ------------------------------------------------------------------------------------
 */

/* Hands a block over and waits until it was taken. False: that is enough. */
static bool hand_over(struct sl_json_input *input, size_t size)
{
    (void)pthread_mutex_lock(&input->shared.lock);
    input->shared.size = size;
    input->shared.is_end = size == 0;
    sl_loop_post(input->loop, &input->task);
    while (input->shared.size > 0 && !input->shared.is_stopping) {
        (void)pthread_cond_wait(&input->shared.taken, &input->shared.lock);
    }
    const bool is_more = size > 0 && !input->shared.is_stopping;
    (void)pthread_mutex_unlock(&input->shared.lock);
    return is_more;
}

/* Cancelled only while it reads: anywhere else it may hold a lock. */
static void *read_stdin(void *user_data)
{
    struct sl_json_input *input = user_data;
    bool is_more = true;
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    while (is_more) {
        (void)pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
        const ssize_t n = read(STDIN_FILENO, input->shared.block, sizeof(input->shared.block));
        (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
        if (n >= 0 || errno != EINTR) {
            is_more = hand_over(input, n < 0 ? 0 : (size_t)n);
        }
    }
    return NULL;
}

static void run_task(struct sl_task *task)
{
    struct sl_json_input *input = SL_CONTAINER(task, struct sl_json_input, task);
    input->is_waiting = false;
    if (input->has_thread) {
        input->on_more(input->user_data);
    }
}

enum sl_status sl_json_input_open_stdin(
    struct sl_json_input *input,
    struct sl_loop *loop,
    void (*on_more)(void *user_data),
    void *user_data)
{
    *input = (struct sl_json_input){
        .loop = loop, .on_more = on_more, .user_data = user_data, .is_waiting = true
    };
    sl_buf_init(&input->text, SL_JSON_INPUT_MAX_BYTES);
    input->task.run = run_task;
    if (pthread_mutex_init(&input->shared.lock, NULL) != 0 ||
        pthread_cond_init(&input->shared.taken, NULL) != 0 ||
        pthread_create(&input->thread, NULL, read_stdin, input) != 0) {
        return SL_RESOURCE_EXHAUSTED;
    }
    input->has_thread = true;
    return SL_OK;
}

/* Takes the block that the thread has, and lets it read on. SL_AGAIN: it has none. */
static enum sl_status take_block(struct sl_json_input *input)
{
    if (input->is_waiting) {
        return SL_AGAIN;
    }
    (void)pthread_mutex_lock(&input->shared.lock);
    const enum sl_status status =
        sl_buf_add(&input->text, sl_slice_of(input->shared.block, input->shared.size));
    input->is_complete = input->shared.is_end;
    input->is_waiting = !input->is_complete;
    input->shared.size = 0;
    (void)pthread_cond_signal(&input->shared.taken);
    (void)pthread_mutex_unlock(&input->shared.lock);
    return status;
}

void sl_json_input_done(struct sl_json_input *input)
{
    if (input->has_thread) {
        (void)pthread_mutex_lock(&input->shared.lock);
        input->shared.is_stopping = true;
        (void)pthread_cond_signal(&input->shared.taken);
        (void)pthread_mutex_unlock(&input->shared.lock);
        (void)pthread_cancel(input->thread);
        (void)pthread_join(input->thread, NULL);
        (void)pthread_cond_destroy(&input->shared.taken);
        (void)pthread_mutex_destroy(&input->shared.lock);
        input->has_thread = false;
    }
    sl_buf_done(&input->text);
}

/* ---- Values -----------------------------------------------------------------------------------
 */

/* The value that the text begins with. SL_AGAIN: it may be unfinished. */
static enum sl_status
take_value(struct sl_json_input *input, json_t **ret_json, struct sl_error *err)
{
    enum { FLAGS = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL };
    json_error_t json_err;
    json_t *json = json_loadb(
        (const char *)input->text.data, input->text.size, FLAGS | JSON_DISABLE_EOF_CHECK,
        &json_err);
    const enum json_error_code code =
        json == NULL ? json_error_code(&json_err) : json_error_unknown;
    if (json != NULL) {
        input->n_values++;
        sl_buf_consume(&input->text, (size_t)json_err.position);
        *ret_json = json;
        return SL_OK;
    }
    /* A text that ends too early may also be taken for a wrong token that stands at its end. */
    const bool is_at_end = json_err.position >= 0 && (size_t)json_err.position >= input->text.size;
    if (!input->is_complete && (code == json_error_premature_end_of_input || is_at_end)) {
        return SL_AGAIN;
    }
    return sl_fail(
        err, SL_INVALID_ARGUMENT, "value %llu is no JSON: line %d, column %d: %.120s",
        (unsigned long long)input->n_values + 1, json_err.line, json_err.column, json_err.text);
}

enum sl_status
sl_json_input_next(struct sl_json_input *input, json_t **ret_json, struct sl_error *err)
{
    enum sl_status status = SL_OK;
    while (status == SL_OK) {
        size_t n_spaces = 0;
        while (n_spaces < input->text.size && is_space(input->text.data[n_spaces])) {
            n_spaces++;
        }
        sl_buf_consume(&input->text, n_spaces);
        status = input->text.size == 0 ? SL_AGAIN : take_value(input, ret_json, err);
        if (status != SL_AGAIN) {
            return status;
        }
        if (input->is_complete) {
            return SL_END;
        }
        status = take_block(input);
    }
    return status == SL_AGAIN
               ? SL_AGAIN
               : sl_fail(err, status, "a JSON value over %d bytes", SL_JSON_INPUT_MAX_BYTES);
}
