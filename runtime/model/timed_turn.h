/* A turn that a timer drives, as all of the providers without a network: it gives its pieces when
 * they are due, a number of them in one turn of the loop. */
#ifndef SL_RUNTIME_MODEL_TIMED_TURN_H
#define SL_RUNTIME_MODEL_TIMED_TURN_H

#include "runtime/model/models.h"
#include "runtime/model/turn.h"

struct sl_timed_turn;

struct sl_timed_turn_ops {
    /* Gives what is due, as long as the reader takes it, and starts the timer when something is
     * left. Inside a bracket, and not while the timer runs. */
    void (*pump)(struct sl_timed_turn *turn);
    /* Releases the memory. */
    void (*destroy)(struct sl_timed_turn *turn);
};

struct sl_timed_turn {
    struct sl_model_turn base;
    const struct sl_timed_turn_ops *ops;
    struct sl_timer timer; /* the next piece is due, or the next turn of the loop */
};

/* Begins when the owner starts the timer. `ops` is borrowed for as long as the turn lives. Thread:
 * the loop of `start`. */
void sl_timed_turn_init(
    struct sl_timed_turn *turn,
    const struct sl_timed_turn_ops *ops,
    const struct sl_turn_start *start);

#endif
