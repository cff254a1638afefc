#include "runtime/model/load.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "runtime/base/mem.h"
#include "runtime/base/random.h"
#include "runtime/model/timed_turn.h"

/* What one turn of the loop may give, so that the other runs have their time. */
enum { LOAD_EVENTS_PER_TURN = 1024, LOAD_BYTES_PER_TURN = 262144 };

/* Keep the series of random numbers apart. */
#define LOAD_MIX           UINT64_C(0x9E3779B97F4A7C15)
#define LOAD_JITTER_SALT   UINT64_C(0x6A09E667F3BCC908)
#define LOAD_THINKING_SALT UINT64_C(0xBB67AE8584CAA73B)
#define LOAD_NEVER_NS      1e18 /* 31 years: later is the same, and fits */

struct load_turn {
    struct sl_timed_turn timed;
    struct sl_load_order order;
    uint64_t start_ns;   /* t0 */
    uint64_t due_ns;     /* of the next delta, with a rate */
    uint64_t n_given;    /* reasoning and deltas */
    uint64_t n_wanted;   /* of them, before the end, the error or the silence */
    uint64_t n_calls;    /* of this answer, which has nothing else then */
    const uint8_t *text; /* `own`, or what all plain turns share */
    uint8_t own[];
};

static struct load_turn *of(struct sl_timed_turn *turn)
{
    return SL_CONTAINER(turn, struct load_turn, timed);
}

/* Deltas that were given; once all reasoning is out. */
static uint64_t n_deltas(const struct load_turn *self)
{
    return self->n_given - self->order.thinking;
}

/* ---- Times ----------------------------------------------------------------------------------- */

/* 0 to jitter_ms, the same for the whole group. */
static uint64_t jitter_ns(const struct sl_load_order *order, uint64_t group)
{
    uint64_t state = order->seed ^ ((group + 1) * LOAD_MIX) ^ LOAD_JITTER_SALT;
    return sl_random_next(&state) % (order->jitter_ms * SL_NS_PER_MS + 1);
}

/* For a rate. Delta k is due with the first one of its group. One that is due before the one in
 * front of it goes right behind that, so the order is kept. */
static void set_due(struct load_turn *self)
{
    const struct sl_load_order *order = &self->order;
    const uint64_t k = n_deltas(self) - n_deltas(self) % order->burst;
    const double after_ns = (double)k / order->rate * (double)SL_NS_PER_S;
    uint64_t due_ns =
        self->start_ns + (after_ns < LOAD_NEVER_NS ? (uint64_t)after_ns : (uint64_t)LOAD_NEVER_NS);
    if (order->jitter_ms > 0) {
        due_ns += jitter_ns(order, k);
    }
    self->due_ns = due_ns;
}

/* ---- Text ------------------------------------------------------------------------------------ */

/* Of all turns whose text is always the same. */
static pthread_once_t plain_once = PTHREAD_ONCE_INIT;
static uint8_t plain[SL_LOAD_BYTES_MAX];

static void fill_plain(void)
{
    static const char words[] = "the quick brown fox jumps over the lazy dog ";
    for (size_t i = 0; i < sizeof(plain); i++) {
        plain[i] = (uint8_t)words[i % (sizeof(words) - 1)];
    }
}

static void fill_seeded(struct load_turn *self, uint64_t seed, uint64_t index)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 .";
    uint64_t state = seed ^ (index * LOAD_MIX);
    uint64_t bits = 0;
    for (size_t i = 0; i < self->order.bytes; i++) {
        if (i % 10 == 0) {
            bits = sl_random_next(&state);
        }
        self->own[i] = (uint8_t)letters[bits & 63];
        bits >>= 6;
    }
}

static void put_stamp(struct load_turn *self)
{
    char stamp[SL_LOAD_STAMP_BYTES];
    struct timespec now = { 0 };
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    const int n = snprintf(
        stamp, sizeof(stamp), "%llu %llu ", (unsigned long long)n_deltas(self),
        (unsigned long long)now.tv_sec * SL_NS_PER_S + (unsigned long long)now.tv_nsec);
    memcpy(self->own, stamp, (size_t)n);
}

/* The words stay behind a stamp. */
static bool has_own_text(const struct sl_load_order *order)
{
    return order->has_seed || order->stamp;
}

static void init_text(struct load_turn *self)
{
    (void)pthread_once(&plain_once, fill_plain);
    self->text = plain;
    if (has_own_text(&self->order)) {
        memcpy(self->own, plain, self->order.bytes);
        self->text = self->own;
    }
}

/* ---- Giving ---------------------------------------------------------------------------------- */

/* Without these knobs every piece is the same text. */
static bool is_plain(const struct sl_load_order *order)
{
    return order->thinking == 0 && !order->has_seed && !order->stamp;
}

/* Fills in what the next piece is and says. */
static void dress(struct load_turn *self, struct sl_model_chunk *chunk)
{
    const struct sl_load_order *order = &self->order;
    const bool is_thought = self->n_given < order->thinking;
    chunk->kind = is_thought ? SL_CHUNK_REASONING : SL_CHUNK_TEXT;
    if (order->has_seed && is_thought) {
        fill_seeded(self, order->seed ^ LOAD_THINKING_SALT, self->n_given);
    } else if (order->has_seed) {
        fill_seeded(self, order->seed, n_deltas(self));
    }
    if (order->stamp && !is_thought) {
        put_stamp(self);
    }
}

/* Not in the hot path, which has a copy of its own of what is called here. */
static bool give_seldom(struct load_turn *self, const struct sl_model_chunk *chunk)
{
    return sl_turn_emit(&self->timed.base, chunk);
}

/* One call; two neighbours differ, or they would be taken for a loop (AL-4.2). */
static bool give_call(struct load_turn *self, uint64_t index)
{
    char id[32];
    (void)snprintf(id, sizeof(id), "load_%llu", (unsigned long long)index);
    const struct sl_model_chunk chunk = {
        .kind = SL_CHUNK_CALL,
        .index = (uint32_t)index,
        .name = "current_time",
        .id = id,
        .text = sl_slice_str(index % 2 == 0 ? "{\"format\":\"iso8601\"}" : "{\"format\":\"unix\"}"),
        .retry_after_ms = -1,
    };
    return give_seldom(self, &chunk);
}

static void give_end(struct load_turn *self)
{
    const struct sl_load_order *order = &self->order;
    struct sl_model_chunk chunk = {
        .retry_after_ms = -1,
        .kind = SL_CHUNK_USAGE,
        .usage = {
            .has_input = true,
            .has_output = true,
            .output_tokens = self->n_calls + self->n_given,
            .reasoning_tokens = self->n_calls > 0 ? 0 : order->thinking,
        },
    };
    if (!give_seldom(self, &chunk)) {
        return;
    }
    chunk.kind = SL_CHUNK_FINISH;
    chunk.finish = self->n_calls > 0 ? SL_FINISH_TOOL_USE : SL_FINISH_END_TURN;
    if (self->n_calls == 0 && order->has_fail_after && n_deltas(self) >= order->fail_after) {
        chunk.kind = SL_CHUNK_FAIL;
        chunk.fault = order->code;
        chunk.is_retryable = sl_model_fault_is_retryable(order->code);
        chunk.message = "as ordered by fail_after";
    }
    chunk.n_requests = 1;
    chunk.received_bytes = self->n_given * order->bytes;
    (void)give_seldom(self, &chunk);
}

static bool give_calls(struct load_turn *self)
{
    for (uint64_t i = 0; i < self->n_calls; i++) {
        if (!give_call(self, i)) {
            return false;
        }
    }
    return true;
}

/* Whether the next piece has to wait. The reasoning is due at t0, as is the first delta without a
 * rate. */
static bool is_early(struct load_turn *self)
{
    if (self->n_given < self->order.thinking) {
        return false;
    }
    set_due(self);
    return self->due_ns > sl_loop_now_ns(self->timed.base.loop);
}

/* Not before t0: until then the timer runs. */
static void pump(struct sl_timed_turn *turn)
{
    struct load_turn *self = of(turn);
    struct sl_model_chunk chunk = {
        .kind = SL_CHUNK_TEXT,
        .text = { .data = self->text, .size = self->order.bytes },
        .retry_after_ms = -1,
    };
    const bool is_paced = self->order.rate > 0;
    const bool is_same = is_plain(&self->order);
    size_t left = LOAD_EVENTS_PER_TURN;
    size_t bytes_left = LOAD_BYTES_PER_TURN;
    if (!give_calls(self)) {
        return;
    }
    while (self->n_given < self->n_wanted) {
        if (sl_turn_is_full(&self->timed.base)) {
            return; /* resume comes */
        }
        if (is_paced && is_early(self)) {
            sl_timer_start(&self->timed.timer, self->due_ns);
            return;
        }
        if (left == 0 || bytes_left < self->order.bytes) {
            sl_timer_start(&self->timed.timer, sl_loop_now_ns(self->timed.base.loop));
            return;
        }
        left--;
        bytes_left -= self->order.bytes;
        if (!is_same) {
            dress(self, &chunk);
        }
        self->n_given++;
        if (!sl_turn_emit(&self->timed.base, &chunk)) {
            return;
        }
    }
    if (!self->order.hang || self->n_calls > 0) {
        give_end(self);
    }
}

static void destroy(struct sl_timed_turn *turn)
{
    sl_free(of(turn));
}

/* Reasoning and deltas before the end, the error or the silence. */
static uint64_t wanted_of(const struct sl_load_order *order, uint64_t n_calls)
{
    if (n_calls > 0) {
        return 0;
    }
    const uint64_t n_deltas = order->hang ? 1 : order->events;
    return order->thinking +
           (order->has_fail_after && order->fail_after < n_deltas ? order->fail_after : n_deltas);
}

enum sl_status sl_load_turn_start(
    const struct sl_turn_start *start, struct sl_model_turn **ret_turn, struct sl_error *err)
{
    static const struct sl_timed_turn_ops ops = { .pump = pump, .destroy = destroy };
    struct sl_load_order order;
    SL_TRY(sl_load_parse(sl_slice_str(start->request->input), &order, err));
    struct load_turn *self = sl_alloc(sizeof(*self) + (has_own_text(&order) ? order.bytes : 0));
    if (self == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for a turn");
    }
    sl_timed_turn_init(&self->timed, &ops, start);
    self->order = order;
    self->n_calls = start->request->iteration == 1 ? order.tools : 0;
    self->start_ns = sl_loop_now_ns(start->loop);
    if (self->n_calls == 0) {
        self->start_ns += order.first_ms * SL_NS_PER_MS;
    }
    self->n_given = 0;
    self->n_wanted = wanted_of(&order, self->n_calls);
    init_text(self);
    sl_timer_start(&self->timed.timer, self->start_ns);
    *ret_turn = &self->timed.base;
    return SL_OK;
}
