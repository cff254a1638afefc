#include "runtime/model/load.h"

#include <stdio.h>
#include <time.h>

#include "runtime/base/mem.h"
#include "runtime/base/random.h"
#include "runtime/model/models.h"
#include "runtime/model/turn.h"

/* What one turn of the loop may give, so that the other runs have their time. */
enum { LOAD_EVENTS_PER_TURN = 1024, LOAD_BYTES_PER_TURN = 262144 };

struct load_turn {
    struct sl_model_turn base;
    struct sl_load_order order;
    struct sl_timer timer; /* the next event is due, or the next turn of the loop */
    uint64_t start_ns;     /* t0 */
    uint64_t n_given;
    uint64_t n_wanted; /* deltas before the end, the error or the silence */
    uint8_t text[];
};

static struct load_turn *of(struct sl_model_turn *turn)
{
    return SL_CONTAINER(turn, struct load_turn, base);
}

static uint64_t due_ns(const struct load_turn *self)
{
    if (self->order.rate <= 0) {
        return self->start_ns;
    }
    return self->start_ns +
           (uint64_t)((double)self->n_given / self->order.rate * (double)SL_NS_PER_S);
}

/* ---- Text ------------------------------------------------------------------------------------ */

static void fill_plain(struct load_turn *self)
{
    static const char words[] = "the quick brown fox jumps over the lazy dog ";
    for (size_t i = 0; i < self->order.bytes; i++) {
        self->text[i] = (uint8_t)words[i % (sizeof(words) - 1)];
    }
}

static void fill_seeded(struct load_turn *self)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 .";
    uint64_t state = self->order.seed ^ (self->n_given * UINT64_C(0x9E3779B97F4A7C15));
    uint64_t bits = 0;
    for (size_t i = 0; i < self->order.bytes; i++) {
        if (i % 10 == 0) {
            bits = sl_random_next(&state);
        }
        self->text[i] = (uint8_t)letters[bits & 63];
        bits >>= 6;
    }
}

static void put_stamp(struct load_turn *self)
{
    char stamp[SL_LOAD_STAMP_BYTES];
    struct timespec now = { 0 };
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    const int n = snprintf(
        stamp, sizeof(stamp), "%llu %llu ", (unsigned long long)self->n_given,
        (unsigned long long)now.tv_sec * SL_NS_PER_S + (unsigned long long)now.tv_nsec);
    memcpy(self->text, stamp, (size_t)n);
}

/* ---- Giving ---------------------------------------------------------------------------------- */

static bool give_delta(struct load_turn *self, struct sl_model_chunk *chunk)
{
    if (self->order.has_seed) {
        fill_seeded(self);
    }
    if (self->order.stamp) {
        put_stamp(self);
    }
    self->n_given++;
    return sl_turn_emit(&self->base, chunk);
}

static void give_end(struct load_turn *self)
{
    struct sl_model_chunk chunk = {
        .retry_after_ms = -1,
        .kind = SL_CHUNK_USAGE,
        .usage = {
            .has_input = true,
            .has_output = true,
            .output_tokens = self->n_given,
        },
    };
    if (!sl_turn_emit(&self->base, &chunk)) {
        return;
    }
    if (self->order.has_fail_after && self->n_given >= self->order.fail_after) {
        chunk.kind = SL_CHUNK_FAIL;
        chunk.fault = self->order.code;
        chunk.is_retryable = sl_model_fault_is_retryable(self->order.code);
        chunk.message = "as ordered by fail_after";
    } else {
        chunk.kind = SL_CHUNK_FINISH;
        chunk.finish = SL_FINISH_END_TURN;
    }
    chunk.n_requests = 1;
    chunk.received_bytes = self->n_given * self->order.bytes;
    (void)sl_turn_emit(&self->base, &chunk);
}

/* Gives what is due, as long as the reader takes it. Inside a bracket. */
static void pump(struct load_turn *self)
{
    struct sl_model_chunk chunk = {
        .kind = SL_CHUNK_TEXT,
        .text = { .data = self->text, .size = self->order.bytes },
        .retry_after_ms = -1,
    };
    const bool is_paced = self->order.rate > 0 || self->n_given == 0;
    size_t left = LOAD_EVENTS_PER_TURN;
    size_t bytes_left = LOAD_BYTES_PER_TURN;
    while (self->n_given < self->n_wanted) {
        if (sl_turn_is_full(&self->base)) {
            return; /* resume comes */
        }
        if (is_paced && due_ns(self) > sl_loop_now_ns(self->base.loop)) {
            sl_timer_start(&self->timer, due_ns(self));
            return;
        }
        if (left == 0 || bytes_left < self->order.bytes) {
            sl_timer_start(&self->timer, sl_loop_now_ns(self->base.loop));
            return;
        }
        left--;
        bytes_left -= self->order.bytes;
        if (!give_delta(self, &chunk)) {
            return;
        }
    }
    if (!self->order.hang) {
        give_end(self);
    }
}

static void on_timer(void *user_data)
{
    struct load_turn *self = user_data;
    sl_turn_enter(&self->base);
    pump(self);
    sl_turn_leave(&self->base);
}

static void resume(struct sl_model_turn *turn)
{
    struct load_turn *self = of(turn);
    /* Inside its own pump it goes on by itself; before the first turn, or while it is not yet time,
     * the timer runs. */
    if (turn->depth == 1 && !sl_timer_is_running(&self->timer)) {
        pump(self);
    }
}

static void stop(struct sl_model_turn *turn)
{
    sl_timer_stop(&of(turn)->timer);
}

static void destroy(struct sl_model_turn *turn)
{
    sl_free(of(turn));
}

enum sl_status sl_load_turn_start(
    const struct sl_turn_start *start, struct sl_model_turn **ret_turn, struct sl_error *err)
{
    static const struct sl_turn_ops ops = { .resume = resume, .stop = stop, .destroy = destroy };
    struct sl_load_order order;
    SL_TRY(sl_load_parse(sl_slice_str(start->request->input), &order, err));
    struct load_turn *self = sl_alloc(sizeof(*self) + order.bytes);
    if (self == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for a turn");
    }
    sl_turn_init(&self->base, &ops, start->models, start->loop, start->sink);
    self->order = order;
    self->start_ns = sl_loop_now_ns(start->loop) + order.first_ms * SL_NS_PER_MS;
    self->n_given = 0;
    self->n_wanted = order.hang ? 1 : order.events;
    if (order.has_fail_after && order.fail_after < self->n_wanted) {
        self->n_wanted = order.fail_after;
    }
    fill_plain(self);
    sl_timer_init(&self->timer, start->loop, on_timer, self);
    sl_timer_start(&self->timer, self->start_ns);
    *ret_turn = &self->base;
    return SL_OK;
}
