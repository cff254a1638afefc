#include "runtime/model/turn.h"

#include "runtime/model/models.h"

void sl_turn_init(
    struct sl_model_turn *turn,
    const struct sl_turn_ops *ops,
    struct sl_models *models,
    struct sl_loop *loop,
    const struct sl_model_sink *sink)
{
    *turn = (struct sl_model_turn){
        .ops = ops,
        .models = models,
        .loop = loop,
        .sink = *sink,
    };
    sl_models_count_turn(models, 1);
}

void sl_turn_enter(struct sl_model_turn *turn)
{
    turn->depth++;
}

void sl_turn_leave(struct sl_model_turn *turn)
{
    turn->depth--;
    if (turn->depth == 0 && turn->is_stopped) {
        turn->ops->destroy(turn);
    }
}

bool sl_turn_emit(struct sl_model_turn *turn, const struct sl_model_chunk *chunk)
{
    if (!sl_turn_is_live(turn)) {
        return false;
    }
    turn->is_over = chunk->kind == SL_CHUNK_FINISH || chunk->kind == SL_CHUNK_FAIL;
    turn->sink.on_chunk(turn->sink.user_data, chunk);
    return sl_turn_is_live(turn);
}

void sl_turn_phase(struct sl_model_turn *turn, enum sl_model_phase phase)
{
    if (sl_turn_is_live(turn) && turn->sink.on_phase != NULL) {
        turn->sink.on_phase(turn->sink.user_data, phase);
    }
}

void sl_turn_retry(struct sl_model_turn *turn, enum sl_model_fault fault)
{
    if (sl_turn_is_live(turn) && turn->sink.on_retry != NULL) {
        turn->sink.on_retry(turn->sink.user_data, fault);
    }
}

void sl_turn_fail(struct sl_model_turn *turn, enum sl_model_fault fault, const char *message)
{
    (void)sl_turn_emit(
        turn, &(struct sl_model_chunk){
                  .kind = SL_CHUNK_FAIL,
                  .fault = fault,
                  .retry_after_ms = -1,
                  .message = message,
              });
}

void sl_model_turn_resume(struct sl_model_turn *turn)
{
    SL_ON_LOOP(turn->loop);
    if (!sl_turn_is_live(turn)) {
        return;
    }
    sl_turn_enter(turn);
    turn->ops->resume(turn);
    sl_turn_leave(turn);
}

uint64_t sl_model_turn_bytes(struct sl_model_turn *turn)
{
    SL_ON_LOOP(turn->loop);
    return turn->ops->bytes == NULL ? sizeof(*turn) : turn->ops->bytes(turn);
}

struct sl_model_turn *sl_model_turn_free(struct sl_model_turn *turn)
{
    if (turn == NULL || turn->is_stopped) {
        return NULL;
    }
    SL_ON_LOOP(turn->loop);
    turn->is_stopped = true;
    sl_models_count_turn(turn->models, -1);
    sl_turn_enter(turn);
    turn->ops->stop(turn);
    sl_turn_leave(turn);
    return NULL;
}
