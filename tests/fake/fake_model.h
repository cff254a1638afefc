/* A model that says what the test tells it to: model.h without any provider. Turns are answered by
 * hand, from outside of the loop. */
#ifndef SL_TESTS_FAKE_FAKE_MODEL_H
#define SL_TESTS_FAKE_FAKE_MODEL_H

#include "runtime/base/buf.h"
#include "runtime/model/model.h"

struct sl_models {
    struct sl_model_turn *turn; /* the last one that was started and not freed */
    size_t n_started, n_live, n_resumed;
    uint64_t turn_bytes;           /* what a turn says that it takes, besides itself */
    enum sl_status start_status;   /* what the next start gives */
    enum sl_status check_status;   /* what sl_models_check gives */
    char request[8192];            /* the last one, as text: "system=…;user=…;assistant=…" */
    struct sl_model_request asked; /* its plain members; pointers are not valid */
};

/* Of all models; not known unless a test says so. */
extern struct sl_model_price sl_fake_model_price;

void sl_fake_models_init(struct sl_models *models);

/* A turn is there. */
bool sl_fake_model_is_asked(const struct sl_models *models);
/* False: the transfer would be held back. */
bool sl_fake_model_may_read(const struct sl_models *models);
void sl_fake_model_text(struct sl_models *models, const char *text);
void sl_fake_model_bytes(struct sl_models *models, struct sl_slice text);
void sl_fake_model_reasoning(struct sl_models *models, const char *text);
void sl_fake_model_fragment(
    struct sl_models *models, uint32_t index, const char *name, const char *text);
void sl_fake_model_call(
    struct sl_models *models, const char *id, const char *name, const char *arguments);
/* Of an answer that was cut. */
void sl_fake_model_cut_call(struct sl_models *models, const char *id, const char *arguments);
/* `arguments` is the beginning of more than `over_bytes`. */
void sl_fake_model_long_call(
    struct sl_models *models, const char *id, const char *arguments, uint64_t over_bytes);
void sl_fake_model_opaque(struct sl_models *models, const char *text);
void sl_fake_model_usage(struct sl_models *models, uint64_t input, uint64_t output);
void sl_fake_model_finish(struct sl_models *models, enum sl_model_finish finish, const char *raw);
void sl_fake_model_fail(struct sl_models *models, enum sl_model_fault fault, uint32_t http_status);
void sl_fake_model_phase(struct sl_models *models, enum sl_model_phase phase);
void sl_fake_model_retry(struct sl_models *models, enum sl_model_fault fault);

#endif
