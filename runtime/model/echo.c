/* Provider "echo": gives its input back, a word at a time. */
#include "runtime/base/mem.h"
#include "runtime/base/utf8.h"
#include "runtime/model/timed_turn.h"

enum { ECHO_EVENTS_PER_TURN = 256, ECHO_WORD_BYTES = 4096 };

struct echo_turn {
    struct sl_timed_turn timed;
    uint64_t n_words;
    size_t at;
    size_t size;
    uint8_t text[];
};

static struct echo_turn *of(struct sl_timed_turn *turn)
{
    return SL_CONTAINER(turn, struct echo_turn, timed);
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* The next word with the blanks behind it; very long ones come in pieces. */
static struct sl_slice next_word(const struct echo_turn *self)
{
    size_t end = self->at;
    while (end < self->size && is_blank(self->text[end])) {
        end++;
    }
    while (end < self->size && !is_blank(self->text[end])) {
        end++;
    }
    while (end < self->size && is_blank(self->text[end])) {
        end++;
    }
    const struct sl_slice word = sl_slice_of(self->text + self->at, end - self->at);
    return sl_slice_of(word.data, sl_utf8_cut(word, ECHO_WORD_BYTES));
}

static void give_end(struct echo_turn *self)
{
    struct sl_model_chunk chunk = {
        .retry_after_ms = -1,
        .kind = SL_CHUNK_USAGE,
        .usage = {
            .has_input = true,
            .has_output = true,
            .input_tokens = self->n_words,
            .output_tokens = self->n_words,
        },
    };
    if (!sl_turn_emit(&self->timed.base, &chunk)) {
        return;
    }
    chunk.kind = SL_CHUNK_FINISH;
    chunk.finish = SL_FINISH_END_TURN;
    chunk.n_requests = 1;
    chunk.received_bytes = self->size;
    (void)sl_turn_emit(&self->timed.base, &chunk);
}

static void pump(struct sl_timed_turn *turn)
{
    struct echo_turn *self = of(turn);
    size_t left = ECHO_EVENTS_PER_TURN;
    while (self->at < self->size) {
        if (sl_turn_is_full(&self->timed.base)) {
            return;
        }
        if (left-- == 0) {
            sl_timer_start(&self->timed.timer, sl_loop_now_ns(self->timed.base.loop));
            return;
        }
        const struct sl_model_chunk chunk = {
            .kind = SL_CHUNK_TEXT,
            .text = next_word(self),
            .retry_after_ms = -1,
        };
        self->at += chunk.text.size;
        self->n_words++;
        if (!sl_turn_emit(&self->timed.base, &chunk)) {
            return;
        }
    }
    give_end(self);
}

static void destroy(struct sl_timed_turn *turn)
{
    sl_free(of(turn));
}

enum sl_status sl_echo_turn_start(
    const struct sl_turn_start *start, struct sl_model_turn **ret_turn, struct sl_error *err)
{
    static const struct sl_timed_turn_ops ops = { .pump = pump, .destroy = destroy };
    const struct sl_slice input = sl_slice_str(start->request->input);
    const bool is_clean = sl_utf8_is_clean(input);
    const size_t room = is_clean ? input.size : sl_utf8_repaired_max(input.size);
    struct echo_turn *self = sl_alloc(sizeof(*self) + room);
    if (self == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for a turn");
    }
    sl_timed_turn_init(&self->timed, &ops, start);
    self->n_words = 0;
    self->at = 0;
    self->size = sl_utf8_repair(input, self->text);
    sl_timer_start(&self->timed.timer, sl_loop_now_ns(start->loop));
    *ret_turn = &self->timed.base;
    return SL_OK;
}
