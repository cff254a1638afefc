#include <stdio.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/base/utf8.h"
#include "runtime/exec/run_metrics.h"
#include "runtime/exec/run_private.h"

enum { TEXT_HEAD_BYTES = 64 };

/* One writer: no locked instruction. */
static void add_relaxed(_Atomic uint64_t *counter, uint64_t n)
{
    const uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, value + n, memory_order_relaxed);
}

/* Debug builds check the order of every run's events, from the bytes that are in the log. */
#ifdef NDEBUG
static void check_order(struct sl_run *run)
{
    (void)run;
}
#else
static bool check_event(void *user_data, uint64_t sequence, struct sl_slice event)
{
    struct sl_run *run = user_data;
    struct sl_error err = { .status = SL_OK };
    (void)sequence;
    Sluice__V1__StreamEvent *message = sluice__v1__stream_event__unpack(
        NULL, event.size - SL_EVENT_PREFIX_BYTES, event.data + SL_EVENT_PREFIX_BYTES);
    const enum sl_status status =
        message == NULL ? SL_RESOURCE_EXHAUSTED : sl_event_order_check(&run->order, message, &err);
    if (status == SL_RESOURCE_EXHAUSTED) {
        run->is_order_off = true; /* no memory to check with */
    } else if (status != SL_OK) {
        sl_log(
            SL_ERROR, SL_LOG_EXEC, "run=%s msg=\"order broken\" why=\"%s\"", run->run_id, err.text);
        assert(false); /* a bug of ours, never input */
    }
    if (message != NULL) {
        sluice__v1__stream_event__free_unpacked(message, NULL);
    }
    return true;
}

static void check_order(struct sl_run *run)
{
    const uint64_t last = sl_event_channel_last_sequence(run->channel);
    if (!run->is_order_off) {
        sl_event_channel_visit(run->channel, last, last, check_event, run);
    }
}
#endif

static void note_appended(struct sl_run *run, const struct sl_encoded *encoded)
{
    const struct sl_run_env *env = run->env;
    add_relaxed(&env->stats->events, 1);
    add_relaxed(&env->stats->event_bytes, encoded->size_bytes);
    run->event_bytes += encoded->size_bytes;
    run->last_event_ns = sl_loop_now_ns(env->loop);
    if (encoded->is_full && !run->is_paused) {
        run->is_paused = true;
        sl_run_count_paused(1);
        run->n_pauses++;
        run->paused_since_ns = run->last_event_ns;
    }
    sl_collect_after(&run->collect, encoded->size_bytes);
    check_order(run);
}

/* No memory for an event: the run cannot go on. While it is ending, the log's spare room is there.
 * Without RunStarted there is no run that could end. */
static bool give_up(struct sl_run *run)
{
    run->is_order_off = true;
    if (run->is_begun) {
        sl_run_fail(run, SL_CODE(OUT_OF_MEMORY));
    }
    return false;
}

/* A single event may not be larger than its limit (limits.event). */
static bool is_too_large(const struct sl_run *run, const Sluice__V1__StreamEvent *event)
{
    return sluice__v1__stream_event__get_packed_size(event) > run->env->limits->event;
}

static bool append(struct sl_run *run, Sluice__V1__StreamEvent *event)
{
    struct sl_encoded encoded = { .size_bytes = 0 };
    const size_t size_bytes = sluice__v1__stream_event__get_packed_size(event) + TEXT_HEAD_BYTES;
    sl_collect_before(&run->collect, size_bytes);
    const uint64_t wall_ms = sl_loop_wall_ms(run->env->loop);
    enum sl_status status = sl_encode_event(run->channel, wall_ms, event, &encoded);
    if (status != SL_OK && run->is_claimed && sl_event_channel_open_spare(run->channel)) {
        status = sl_encode_event(run->channel, wall_ms, event, &encoded);
    }
    if (status != SL_OK) {
        return give_up(run);
    }
    note_appended(run, &encoded);
    return true;
}

bool sl_run_emit(struct sl_run *run, Sluice__V1__StreamEvent *event)
{
    if (!sl_run_emit_held(run)) {
        return false;
    }
    if (!run->is_claimed && is_too_large(run, event)) {
        struct sl_ending ending = sl_ending_error(SL_CODE(PROVIDER_LIMIT));
        sl_limit_reached(SL_LIMIT_event);
        sl_ending_say(&ending, "An event of the run is larger than its limit");
        sl_run_finish(run, &ending);
        return false;
    }
    return append(run, event);
}

static bool append_text(struct sl_run *run, enum sl_encode_text kind, struct sl_slice text)
{
    struct sl_encoded encoded = { .size_bytes = 0 };
    sl_collect_before(&run->collect, text.size + TEXT_HEAD_BYTES);
    if (sl_encode_text(run->channel, kind, sl_loop_wall_ms(run->env->loop), text, &encoded) !=
        SL_OK) {
        return give_up(run);
    }
    note_appended(run, &encoded);
    return true;
}

/* Pieces of at most max_delta_bytes, cut between characters. */
static bool append_split(struct sl_run *run, enum sl_encode_text kind, struct sl_slice text)
{
    while (text.size > run->max_delta_bytes) {
        const size_t size = sl_utf8_cut(text, run->max_delta_bytes);
        if (size == 0) {
            break; /* no piece of it is small enough; it cannot be longer than one character */
        }
        if (!append_text(run, kind, sl_slice_of(text.data, size))) {
            return false;
        }
        if (run->max_delta_bytes >= run->env->limits->delta) {
            sl_limit_reached(SL_LIMIT_delta);
        }
        text = sl_slice_of(text.data + size, text.size - size);
    }
    return text.size == 0 || append_text(run, kind, text);
}

bool sl_run_emit_held(struct sl_run *run)
{
    if (run->hold.size == 0) {
        return true;
    }
    sl_timer_stop(&run->flush_timer);
    const struct sl_slice text = sl_buf_slice(&run->hold);
    const bool is_out = append_split(run, SL_ENCODE_TEXT_DELTA, text);
    sl_buf_clear(&run->hold);
    return is_out;
}

/* Text waits for its neighbours for min_flush_ms, or until there is enough for one delta. */
static bool hold_text(struct sl_run *run, struct sl_slice text)
{
    if (run->hold.size + text.size > run->max_delta_bytes && !sl_run_emit_held(run)) {
        return false;
    }
    if (text.size >= run->max_delta_bytes) {
        return append_split(run, SL_ENCODE_TEXT_DELTA, text);
    }
    if (run->hold.size == 0) {
        sl_timer_start_ms(&run->flush_timer, run->settings.min_flush_ms);
    }
    return sl_buf_add(&run->hold, text) == SL_OK || give_up(run);
}

bool sl_run_emit_text(struct sl_run *run, enum sl_encode_text kind, struct sl_slice text)
{
    if (text.size == 0) {
        return true;
    }
    if (kind == SL_ENCODE_TEXT_DELTA && run->settings.min_flush_ms > 0) {
        return hold_text(run, text);
    }
    return sl_run_emit_held(run) && append_split(run, kind, text);
}

Sluice__V1__Usage sl_run_usage_message(const struct sl_usage *usage)
{
    Sluice__V1__Usage message;
    sluice__v1__usage__init(&message);
    message.input_tokens = usage->input_tokens;
    message.output_tokens = usage->output_tokens;
    message.cache_read_tokens = usage->cache_read_tokens;
    message.cache_write_tokens = usage->cache_write_tokens;
    message.reasoning_tokens = usage->reasoning_tokens;
    message.model_calls = usage->model_calls;
    message.estimated = usage->is_estimated;
    if (usage->has_cost) {
        message._cost_micros_case = SLUICE__V1__USAGE___COST_MICROS_COST_MICROS;
        message.cost_micros = usage->cost_micros;
        message.currency = sl_pb_text(usage->currency);
    }
    return message;
}

bool sl_run_emit_iteration_complete(struct sl_run *run, Sluice__V1__StopReason stop_reason)
{
    struct sl_usage usage = sl_usage_of(&run->turn.facts);
    sl_usage_price(&usage, &run->agent->price);
    sl_usage_add(&run->budget.used, &usage);
    sl_run_count_answer(run, &usage);
    Sluice__V1__Usage usage_message = sl_run_usage_message(&usage);
    char model[SL_MODEL_NAME_BYTES];
    const char *answered = run->turn.answered_model;
    sl_run_copy_name(model, sizeof(model), answered == NULL ? run->agent->model : answered);
    Sluice__V1__IterationComplete complete;
    sluice__v1__iteration_complete__init(&complete);
    complete.iteration = run->iteration;
    complete.stop_reason = stop_reason;
    complete.provider_stop_reason = sl_pb_text(run->turn.raw == NULL ? "" : run->turn.raw);
    complete.usage = &usage_message;
    complete.provider = sl_pb_text(run->agent->provider);
    complete.model = model;
    Sluice__V1__StreamEvent event;
    sluice__v1__stream_event__init(&event);
    event.event_case = SL_EVENT(ITERATION_COMPLETE);
    event.iteration_complete = &complete;
    run->turn.is_open = false;
    run->last_stop = stop_reason;
    return sl_run_emit(run, &event);
}
