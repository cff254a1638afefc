#include "runtime/model/timed_turn.h"

#include "runtime/base/mem.h"

static struct sl_timed_turn *of(struct sl_model_turn *turn)
{
    return SL_CONTAINER(turn, struct sl_timed_turn, base);
}

static void on_timer(void *user_data)
{
    struct sl_timed_turn *self = user_data;
    sl_turn_enter(&self->base);
    self->ops->pump(self);
    sl_turn_leave(&self->base);
}

static void resume(struct sl_model_turn *turn)
{
    struct sl_timed_turn *self = of(turn);
    /* Inside its own pump it goes on by itself; before the first turn, or while it is not yet time,
     * the timer runs. */
    if (turn->depth == 1 && !sl_timer_is_running(&self->timer)) {
        self->ops->pump(self);
    }
}

static void stop(struct sl_model_turn *turn)
{
    sl_timer_stop(&of(turn)->timer);
}

static void destroy(struct sl_model_turn *turn)
{
    struct sl_timed_turn *self = of(turn);
    self->ops->destroy(self);
}

void sl_timed_turn_init(
    struct sl_timed_turn *turn,
    const struct sl_timed_turn_ops *ops,
    const struct sl_turn_start *start)
{
    static const struct sl_turn_ops turn_ops = { .resume = resume,
                                                 .stop = stop,
                                                 .destroy = destroy };
    sl_turn_init(&turn->base, &turn_ops, start->models, start->loop, start->sink);
    turn->ops = ops;
    sl_timer_init(&turn->timer, start->loop, on_timer, turn);
}
