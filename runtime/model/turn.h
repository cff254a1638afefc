/* What every kind of turn has in common: the sink, and a life that outlasts its own callbacks.
 *
 * Each entry from outside (a timer, a transfer, resume) is bracketed by enter and leave. A turn
 * that is freed inside is stopped at once and goes when the last bracket closes. */
#ifndef SL_RUNTIME_MODEL_TURN_H
#define SL_RUNTIME_MODEL_TURN_H

#include "runtime/model/model.h"

struct sl_turn_ops {
    void (*resume)(struct sl_model_turn *turn);
    /* No callback may come after this. Called once. */
    void (*stop)(struct sl_model_turn *turn);
    /* Memory of it; NULL: it has next to nothing. */
    uint64_t (*bytes)(struct sl_model_turn *turn);
    /* Releases the memory. */
    void (*destroy)(struct sl_model_turn *turn);
};

struct sl_model_turn {
    const struct sl_turn_ops *ops;
    struct sl_models *models;
    struct sl_loop *loop;
    struct sl_model_sink sink;
    unsigned depth;
    bool is_stopped; /* the owner has freed it */
    bool is_over;    /* FINISH or FAIL was given */
};

void sl_turn_init(
    struct sl_model_turn *turn,
    const struct sl_turn_ops *ops,
    struct sl_models *models,
    struct sl_loop *loop,
    const struct sl_model_sink *sink);

void sl_turn_enter(struct sl_model_turn *turn);
/* The turn may be gone afterwards. */
void sl_turn_leave(struct sl_model_turn *turn);

/* Gives a chunk, unless the turn is stopped or over. False: it is now. Inside a bracket only. */
bool sl_turn_emit(struct sl_model_turn *turn, const struct sl_model_chunk *chunk);
void sl_turn_phase(struct sl_model_turn *turn, enum sl_model_phase phase);
/* The pause before another request begins. */
void sl_turn_retry(struct sl_model_turn *turn, enum sl_model_fault fault);

/* Gives FAIL. */
void sl_turn_fail(struct sl_model_turn *turn, enum sl_model_fault fault, const char *message);

static inline bool sl_turn_is_full(const struct sl_model_turn *turn)
{
    return turn->sink.is_full(turn->sink.user_data);
}

/* True while chunks may still be given. */
static inline bool sl_turn_is_live(const struct sl_model_turn *turn)
{
    return !turn->is_stopped && !turn->is_over;
}

#endif
