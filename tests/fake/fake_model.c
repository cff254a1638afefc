#include "tests/fake/fake_model.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"

struct sl_model_price sl_fake_model_price;

struct sl_model_turn {
    struct sl_models *models;
    struct sl_model_sink sink;
    uint64_t request_bytes, received_bytes;
};

void sl_fake_models_init(struct sl_models *models)
{
    *models = (struct sl_models){ .start_status = SL_OK, .check_status = SL_OK };
}

/* ---- model.h ----------------------------------------------------------------------------------
 */

static void describe(struct sl_models *models, const struct sl_model_request *request)
{
    static const char *const roles[] = { "system", "user", "assistant", "tool" };
    struct sl_buf buf;
    enum sl_status status = SL_OK;
    sl_buf_init(&buf, sizeof(models->request) - 1);
    if (request->system != NULL) {
        status = sl_buf_addf(&buf, "instructions=%s;", request->system);
    }
    for (size_t i = 0; i < request->n_messages && status == SL_OK; i++) {
        const struct sl_chat_message *message = &request->messages[i];
        status = sl_buf_addf(
            &buf, "%s%s=%.*s", roles[message->role], message->is_error ? "!" : "",
            (int)(message->content.size > 512 ? 512 : message->content.size),
            (const char *)message->content.data);
        for (size_t k = 0; k < message->n_calls && status == SL_OK; k++) {
            status = sl_buf_addf(
                &buf, "[%s:%s%s]", message->calls[k].id, message->calls[k].name,
                message->calls[k].arguments_json);
        }
        if (message->opaque_json != NULL && status == SL_OK) {
            status = sl_buf_addf(&buf, "?%s", message->opaque_json);
        }
        if (message->call_id != NULL && status == SL_OK) {
            status = sl_buf_addf(&buf, "<%s", message->call_id);
        }
        if (status == SL_OK) {
            status = sl_buf_add_str(&buf, ";");
        }
    }
    (void)snprintf(
        models->request, sizeof(models->request), "%.*s", (int)buf.size, (const char *)buf.data);
    sl_buf_done(&buf);
}

enum sl_status sl_model_turn_start(
    struct sl_models *models,
    struct sl_loop *loop,
    const struct sl_model_request *request,
    const struct sl_model_sink *sink,
    struct sl_model_turn **ret_turn,
    struct sl_error *err)
{
    (void)loop;
    if (models->start_status != SL_OK) {
        return sl_fail(err, models->start_status, "the fake model does not start");
    }
    struct sl_model_turn *turn = sl_calloc(1, sizeof(*turn));
    if (turn == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory");
    }
    turn->models = models;
    turn->sink = *sink;
    turn->request_bytes = 400;
    models->turn = turn;
    models->n_started++;
    models->n_live++;
    models->asked = *request;
    describe(models, request);
    *ret_turn = turn;
    return SL_OK;
}

void sl_model_turn_resume(struct sl_model_turn *turn)
{
    turn->models->n_resumed++;
}

uint64_t sl_model_turn_bytes(struct sl_model_turn *turn)
{
    return sizeof(*turn) + turn->models->turn_bytes;
}

struct sl_model_turn *sl_model_turn_free(struct sl_model_turn *turn)
{
    if (turn != NULL) {
        turn->models->n_live--;
        if (turn->models->turn == turn) {
            turn->models->turn = NULL;
        }
    }
    return sl_free(turn);
}

enum sl_status sl_models_resolve(
    const struct sl_models *models,
    const char *model,
    const char *provider,
    const char **ret_provider,
    const char **ret_model,
    struct sl_error *err)
{
    (void)models;
    if (provider != NULL && strcmp(provider, "nobody") == 0) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "there is no provider 'nobody'");
    }
    *ret_provider = "fake";
    *ret_model = model;
    return SL_OK;
}

enum sl_status
sl_models_check(const struct sl_models *models, const char *provider, struct sl_error *err)
{
    (void)provider;
    return models->check_status == SL_OK
               ? SL_OK
               : sl_fail(err, models->check_status, "the key of 'fake' cannot be had");
}

struct sl_model_price
sl_models_price(const struct sl_models *models, const char *provider, const char *model)
{
    (void)models;
    (void)provider;
    (void)model;
    return sl_fake_model_price;
}

enum sl_status sl_models_add_scenario(
    struct sl_models *models, const char *model, struct sl_slice yaml, struct sl_error *err)
{
    (void)models;
    (void)model;
    (void)yaml;
    (void)err;
    return SL_OK;
}

/* ---- The test's side --------------------------------------------------------------------------
 */

bool sl_fake_model_is_asked(const struct sl_models *models)
{
    return models->turn != NULL;
}

bool sl_fake_model_may_read(const struct sl_models *models)
{
    return models->turn != NULL && !models->turn->sink.is_full(models->turn->sink.user_data);
}

static void send(struct sl_models *models, const struct sl_model_chunk *chunk)
{
    struct sl_model_turn *turn = models->turn;
    if (turn != NULL) {
        turn->sink.on_chunk(turn->sink.user_data, chunk);
    }
}

static void count(struct sl_models *models, size_t size)
{
    if (models->turn != NULL) {
        models->turn->received_bytes += size;
    }
}

void sl_fake_model_bytes(struct sl_models *models, struct sl_slice text)
{
    count(models, text.size);
    send(models, &(struct sl_model_chunk){ .kind = SL_CHUNK_TEXT, .text = text });
}

void sl_fake_model_text(struct sl_models *models, const char *text)
{
    sl_fake_model_bytes(models, sl_slice_str(text));
}

void sl_fake_model_reasoning(struct sl_models *models, const char *text)
{
    count(models, strlen(text));
    send(
        models, &(struct sl_model_chunk){ .kind = SL_CHUNK_REASONING, .text = sl_slice_str(text) });
}

void sl_fake_model_fragment(
    struct sl_models *models, uint32_t index, const char *name, const char *text)
{
    send(
        models, &(struct sl_model_chunk){ .kind = SL_CHUNK_CALL_FRAGMENT,
                                          .index = index,
                                          .name = name,
                                          .text = sl_slice_str(text) });
}

void sl_fake_model_call(
    struct sl_models *models, const char *id, const char *name, const char *arguments)
{
    count(models, strlen(arguments));
    send(
        models,
        &(struct sl_model_chunk){
            .kind = SL_CHUNK_CALL, .id = id, .name = name, .text = sl_slice_str(arguments) });
}

void sl_fake_model_cut_call(struct sl_models *models, const char *id, const char *arguments)
{
    send(
        models, &(struct sl_model_chunk){ .kind = SL_CHUNK_CALL,
                                          .id = id,
                                          .name = "add",
                                          .text = sl_slice_str(arguments),
                                          .is_cut = true });
}

void sl_fake_model_long_call(
    struct sl_models *models, const char *id, const char *arguments, uint64_t over_bytes)
{
    send(
        models, &(struct sl_model_chunk){ .kind = SL_CHUNK_CALL,
                                          .id = id,
                                          .name = "add",
                                          .text = sl_slice_str(arguments),
                                          .over_bytes = over_bytes });
}

void sl_fake_model_opaque(struct sl_models *models, const char *text)
{
    send(models, &(struct sl_model_chunk){ .kind = SL_CHUNK_OPAQUE, .text = sl_slice_str(text) });
}

void sl_fake_model_usage(struct sl_models *models, uint64_t input, uint64_t output)
{
    send(
        models, &(struct sl_model_chunk){ .kind = SL_CHUNK_USAGE,
                                          .usage = { .has_input = true,
                                                     .has_output = true,
                                                     .input_tokens = input,
                                                     .output_tokens = output } });
}

void sl_fake_model_finish(struct sl_models *models, enum sl_model_finish finish, const char *raw)
{
    const struct sl_model_turn *turn = models->turn;
    send(
        models, &(struct sl_model_chunk){ .kind = SL_CHUNK_FINISH,
                                          .finish = finish,
                                          .raw = raw,
                                          .answered_model = "fake-1",
                                          .request_bytes = turn == NULL ? 0 : turn->request_bytes,
                                          .received_bytes = turn == NULL ? 0 : turn->received_bytes,
                                          .n_requests = 1 });
}

void sl_fake_model_fail(struct sl_models *models, enum sl_model_fault fault, uint32_t http_status)
{
    const struct sl_model_turn *turn = models->turn;
    send(
        models, &(struct sl_model_chunk){
                    .kind = SL_CHUNK_FAIL,
                    .fault = fault,
                    .http_status = http_status,
                    .retry_after_ms = http_status == 429 ? 1500 : -1,
                    .message = "the provider's own words",
                    .request_bytes = turn == NULL || http_status >= 400 ? 0 : turn->request_bytes,
                    .received_bytes = turn == NULL ? 0 : turn->received_bytes,
                    .n_requests = 1 });
}

void sl_fake_model_phase(struct sl_models *models, enum sl_model_phase phase)
{
    if (models->turn != NULL) {
        models->turn->sink.on_phase(models->turn->sink.user_data, phase);
    }
}

void sl_fake_model_retry(struct sl_models *models, enum sl_model_fault fault)
{
    if (models->turn != NULL) {
        models->turn->sink.on_retry(models->turn->sink.user_data, fault);
    }
}
