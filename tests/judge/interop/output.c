#include "tests/judge/interop/output.h"

#include "runtime/base/mem.h"

uint8_t output_zeros[OUTPUT_MAX_BYTES];

/* One response that is to be sent. */
struct response {
    struct response *next;
    size_t n_bytes;
    uint64_t pause_us;
    bool is_plain; /* may not be compressed */
};

struct output {
    struct sl_call *call;
    enum output_kind kind;
    struct response *first, *last, *unused;
    struct sl_timer pause;
    bool is_pausing; /* for the first response */
    bool has_paused;
    bool is_input_over;
    const char *message; /* of a status that was asked for */
};

static void work_on(struct output *output);

/* ---- What is asked for ----------------------------------------------------------------------- */

/* The status goes with the call's end, whenever that is. */
static enum sl_status keep_status(struct output *output, const Grpc__Testing__EchoStatus *status)
{
    if (status == NULL || status->code == 0) {
        return SL_OK;
    }
    output->message = sl_arena_dup(sl_call_arena(output->call), sl_slice_str(status->message));
    return output->message == NULL ? SL_RESOURCE_EXHAUSTED : (enum sl_status)status->code;
}

static enum sl_status
add_response(struct output *output, const Grpc__Testing__ResponseParameters *wanted)
{
    if (wanted->size < 0 || wanted->size > OUTPUT_MAX_BYTES || wanted->interval_us < 0) {
        return SL_INVALID_ARGUMENT;
    }
    struct response *response = output->unused;
    if (response != NULL) {
        output->unused = response->next;
    } else {
        response = sl_arena_calloc(sl_call_arena(output->call), 1, sizeof(*response));
    }
    if (response == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    *response =
        (struct response){ .n_bytes = (size_t)wanted->size,
                           .pause_us = (uint64_t)wanted->interval_us,
                           .is_plain = wanted->compressed == NULL || !wanted->compressed->value };
    if (output->first == NULL) {
        output->first = response;
    } else {
        output->last->next = response;
    }
    output->last = response;
    return SL_OK;
}

static enum sl_status
add_request(struct output *output, const Grpc__Testing__StreamingOutputCallRequest *request)
{
    for (size_t i = 0; i < request->n_response_parameters; i++) {
        SL_TRY(add_response(output, request->response_parameters[i]));
    }
    return keep_status(output, request->response_status);
}

/* ---- Turns ----------------------------------------------------------------------------------- */

static void on_pause_over(void *user_data)
{
    struct output *output = user_data;
    output->is_pausing = false;
    output->has_paused = true;
    work_on(output);
}

/* True: the first response has to wait. */
static bool must_pause(struct output *output)
{
    if (output->is_pausing) {
        return true;
    }
    const uint64_t pause_us = output->first->pause_us;
    if (output->has_paused || pause_us == 0) {
        return false;
    }
    output->is_pausing = true;
    sl_timer_start(
        &output->pause,
        sl_loop_now_ns(sl_call_loop(output->call)) + pause_us * (SL_NS_PER_MS / 1000));
    return true;
}

static enum sl_status send_first(struct output *output)
{
    struct response *response = output->first;
    Grpc__Testing__Payload payload;
    Grpc__Testing__StreamingOutputCallResponse message;
    grpc__testing__payload__init(&payload);
    grpc__testing__streaming_output_call_response__init(&message);
    payload.body = (ProtobufCBinaryData){ .len = response->n_bytes, .data = output_zeros };
    message.payload = &payload;
    sl_call_set_compressing(output->call, !response->is_plain);
    SL_TRY(sl_call_send(output->call, &message));
    output->first = response->next;
    response->next = output->unused;
    output->unused = response;
    output->has_paused = false;
    return SL_OK;
}

static enum sl_status receive(struct output *output)
{
    void *request;
    const enum sl_status status = sl_call_recv(output->call, &request);
    if (status == SL_END) {
        output->is_input_over = true;
        return SL_OK;
    }
    SL_TRY(status);
    return add_request(output, request);
}

/* SL_AGAIN: a callback or the timer goes on. SL_END: everything is sent. */
static enum sl_status turn(struct output *output)
{
    const bool may_send = output->kind != OUTPUT_AT_END || output->is_input_over;
    if (may_send && output->first != NULL) {
        return must_pause(output) ? SL_AGAIN : send_first(output);
    }
    return output->is_input_over ? SL_END : receive(output);
}

static struct sl_call_status end_of(const struct output *output, enum sl_status status)
{
    return (struct sl_call_status){ .code = status == SL_END ? SL_OK : status,
                                    .message = output->message };
}

static void finish(struct output *output, enum sl_status status)
{
    const struct sl_call_status end = end_of(output, status);
    sl_timer_stop(&output->pause);
    sl_call_finish(output->call, &end);
}

static enum sl_status run_turns(struct output *output)
{
    enum sl_status status;
    do {
        status = turn(output);
    } while (status == SL_OK);
    return status;
}

static void work_on(struct output *output)
{
    const enum sl_status status = run_turns(output);
    if (status != SL_AGAIN) {
        finish(output, status);
    }
}

static void on_ready(struct sl_call *call, void *user_data)
{
    (void)call;
    work_on(user_data);
}

static void on_ended(struct sl_call *call, const struct sl_call_end *end, void *user_data)
{
    (void)call;
    (void)end;
    finish(user_data, SL_CANCELLED);
}

enum sl_status output_start(
    struct sl_call *call,
    enum output_kind kind,
    const Grpc__Testing__StreamingOutputCallRequest *request)
{
    static const struct sl_call_callbacks callbacks = { .on_readable = on_ready,
                                                        .on_writable = on_ready,
                                                        .on_ended = on_ended };
    struct output *output = sl_arena_calloc(sl_call_arena(call), 1, sizeof(*output));
    if (output == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    output->call = call;
    output->kind = kind;
    sl_timer_init(&output->pause, sl_call_loop(call), on_pause_over, output);
    SL_TRY(sl_call_set_encoding(call, "gzip"));
    sl_call_set_callbacks(call, &callbacks, output);
    enum sl_status status = SL_OK;
    if (request != NULL) {
        output->is_input_over = true;
        status = add_request(output, request);
    }
    status = status == SL_OK ? run_turns(output) : status;
    if (status == SL_AGAIN) {
        return SL_PENDING;
    }
    const struct sl_call_status end = end_of(output, status);
    sl_timer_stop(&output->pause);
    return sl_call_fail(call, &end);
}
