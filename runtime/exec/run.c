#include "runtime/exec/run.h"

#include <inttypes.h>
#include <stdio.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/exec/run_metrics.h"
#include "runtime/exec/run_private.h"

enum { SPARE_BYTES = 1024, MAX_HELD_SLACK_BYTES = 8, MAX_OPEN_IDS = 64 };

void sl_run_set_state(struct sl_run *run, enum sl_run_state state)
{
    static const unsigned allowed[] = {
        [SL_RUN_STATE_NEW] = 1U << SL_RUN_STATE_READY | 1U << SL_RUN_STATE_TOOLS,
        [SL_RUN_STATE_READY] = 1U << SL_RUN_STATE_MODEL | 1U << SL_RUN_STATE_CLOSING,
        [SL_RUN_STATE_MODEL] =
            1U << SL_RUN_STATE_TOOLS | 1U << SL_RUN_STATE_READY | 1U << SL_RUN_STATE_CLOSING,
        [SL_RUN_STATE_TOOLS] = 1U << SL_RUN_STATE_READY | 1U << SL_RUN_STATE_CLOSING,
        [SL_RUN_STATE_CLOSING] = 1U << SL_RUN_STATE_ENDED,
        [SL_RUN_STATE_ENDED] = 0,
    };
    assert((allowed[run->state] & 1U << state) != 0);
    (void)allowed;
    run->state = state;
}

uint64_t sl_run_remaining_ms(const struct sl_run *run)
{
    const uint64_t now_ns = sl_loop_now_ns(run->env->loop);
    const uint64_t left_ms =
        run->deadline_ns > now_ns ? (run->deadline_ns - now_ns) / SL_NS_PER_MS : 0;
    return left_ms == 0 ? 1 : left_ms;
}

uint64_t sl_run_elapsed_ms(const struct sl_run *run)
{
    return (sl_loop_now_ns(run->env->loop) - run->started_ns) / SL_NS_PER_MS;
}

/* ---- Heartbeats --------------------------------------------------------------------------------
 */

static Sluice__V1__RunPhase phase_of(const struct sl_run *run)
{
    switch (run->state) {
    case SL_RUN_STATE_TOOLS:
        return sl_run_is_waiting_approval(run) ? SLUICE__V1__RUN_PHASE__RUN_PHASE_APPROVAL
                                               : SLUICE__V1__RUN_PHASE__RUN_PHASE_TOOLS;
    case SL_RUN_STATE_CLOSING:
    case SL_RUN_STATE_ENDED:
        return SLUICE__V1__RUN_PHASE__RUN_PHASE_CLOSING;
    case SL_RUN_STATE_NEW:
    case SL_RUN_STATE_READY:
    case SL_RUN_STATE_MODEL:
        break;
    }
    if (sl_event_channel_is_full(run->channel)) {
        return SLUICE__V1__RUN_PHASE__RUN_PHASE_PAUSED;
    }
    switch (run->turn.phase) {
    case SL_MODEL_WAIT:
        return SLUICE__V1__RUN_PHASE__RUN_PHASE_MODEL_WAIT;
    case SL_MODEL_STREAM:
        return SLUICE__V1__RUN_PHASE__RUN_PHASE_MODEL_STREAM;
    case SL_MODEL_RETRY_WAIT:
        return SLUICE__V1__RUN_PHASE__RUN_PHASE_RETRY_WAIT;
    }
    return SLUICE__V1__RUN_PHASE__RUN_PHASE_UNSPECIFIED;
}

static void send_heartbeat(struct sl_run *run)
{
    char *open_ids[MAX_OPEN_IDS];
    Sluice__V1__Heartbeat heartbeat;
    sluice__v1__heartbeat__init(&heartbeat);
    heartbeat.phase = phase_of(run);
    heartbeat.elapsed_ms = sl_run_elapsed_ms(run);
    heartbeat.last_sequence = sl_event_channel_shown_sequence(run->channel);
    heartbeat.open_tool_ids = open_ids;
    for (size_t i = 0; i < run->tools.n_slots && heartbeat.n_open_tool_ids < MAX_OPEN_IDS; i++) {
        const enum sl_tool_slot_state state = run->tools.slots[i]->state;
        if (state != SL_SLOT_UNREAD && state != SL_SLOT_DONE) {
            open_ids[heartbeat.n_open_tool_ids++] = run->tools.slots[i]->tool_id;
        }
    }
    Sluice__V1__StreamEvent event;
    sluice__v1__stream_event__init(&event);
    event.timestamp_ms = sl_loop_wall_ms(run->env->loop);
    event.event_case = SL_EVENT(HEARTBEAT);
    event.heartbeat = &heartbeat;
    uint8_t room[MAX_OPEN_IDS * (SL_TOOL_ID_BYTES + 2) + 128];
    const size_t size = sluice__v1__stream_event__get_packed_size(&event);
    if (size <= sizeof(room)) {
        (void)sluice__v1__stream_event__pack(&event, room);
        run->options.on_heartbeat(run->options.user_data, sl_slice_of(room, size));
    }
}

/* Due heartbeat_ms after the last event; events move it only when it fires, so that they stay
 * cheap. */
static void on_heartbeat_timer(void *user_data)
{
    struct sl_run *run = user_data;
    const uint64_t now_ns = sl_loop_now_ns(run->env->loop);
    const uint64_t gap_ns = run->settings.heartbeat_ms * SL_NS_PER_MS;
    uint64_t due_ns = run->last_event_ns + gap_ns;
    if (due_ns <= now_ns) {
        due_ns = now_ns + gap_ns;
        send_heartbeat(run);
    }
    sl_timer_start(&run->heartbeat_timer, due_ns);
}

/* ---- Timers and wake-ups -----------------------------------------------------------------------
 */

static void on_flush_timer(void *user_data)
{
    (void)sl_run_emit_held(user_data);
}

static void on_deadline_timer(void *user_data)
{
    struct sl_run *run = user_data;
    if (run->settings.run_timeout_ms >= run->env->limits->run_timeout &&
        run->deadline_ns != run->settings.call_deadline_ns) {
        sl_limit_reached(SL_LIMIT_run_timeout);
    }
    sl_run_fail(run, SL_CODE(DEADLINE_EXCEEDED));
}

static void on_detach_timer(void *user_data)
{
    const struct sl_ending ending = sl_ending_cancelled(SL_CANCEL_REASON(DETACH_TTL));
    sl_run_finish(user_data, &ending);
}

/* The reader has made room. It is inside its own function: the model goes on at the end of the
 * turn. */
static void on_writable(void *user_data)
{
    struct sl_run *run = user_data;
    sl_loop_defer(run->env->loop, &run->resume_task);
}

void sl_run_end_pause(struct sl_run *run)
{
    if (run->is_paused) {
        run->is_paused = false;
        sl_run_count_paused(-1);
        run->paused_ns += sl_loop_now_ns(run->env->loop) - run->paused_since_ns;
    }
}

static void run_resume(struct sl_task *task)
{
    struct sl_run *run = SL_CONTAINER(task, struct sl_run, resume_task);
    if (sl_event_channel_is_full(run->channel)) {
        return; /* again */
    }
    sl_run_end_pause(run);
    if (run->turn.handle != NULL) {
        sl_model_turn_resume(run->turn.handle);
    }
}

static void run_ended(struct sl_task *task)
{
    struct sl_run *run = SL_CONTAINER(task, struct sl_run, ended_task);
    run->options.on_ended(run->options.user_data);
}

/* ---- Life --------------------------------------------------------------------------------------
 */

static uint32_t window_bytes(const struct sl_run *run)
{
    return run->settings.window_bytes > 0 ? run->settings.window_bytes : run->env->window_bytes;
}

static enum sl_status open_channel(struct sl_run *run)
{
    const struct sl_event_channel_options options = {
        .mark_bytes = run->settings.mark_bytes,
        .mark_events = run->settings.mark_events,
        .window_bytes = window_bytes(run),
        .after_sequence = run->options.after_sequence,
        .spare_bytes = SPARE_BYTES,
        .send_total_bytes = run->env->limits->send_total,
        .on_writable = on_writable,
        .user_data = run,
    };
    return sl_event_channel_new(run->env->loop, &options, &run->channel);
}

static uint64_t find_deadline(const struct sl_run *run)
{
    const uint64_t own_ns = run->started_ns + run->settings.run_timeout_ms * SL_NS_PER_MS;
    const bool is_bound = run->settings.on_disconnect == SL_DISCONNECT(CANCEL);
    return is_bound && run->settings.call_deadline_ns < own_ns ? run->settings.call_deadline_ns
                                                               : own_ns;
}

/* What is kept of an answer. Before tools it goes into the next request, whole; else only RunDone
 * has it. */
static uint64_t most_text(const struct sl_run *run)
{
    const struct sl_limits *limits = run->env->limits;
    const bool goes_on =
        run->agent->n_tools + run->client.n_tools > 0 || run->agent->output.schema_json != NULL;
    return goes_on && limits->model_request > limits->final_text ? limits->model_request
                                                                 : limits->final_text;
}

static void init_rest(struct sl_run *run)
{
    const struct sl_limits *limits = run->env->limits;
    struct sl_loop *loop = run->env->loop;
    run->max_delta_bytes = limits->delta;
    if (run->settings.max_delta_bytes > 0 && run->settings.max_delta_bytes < limits->delta) {
        run->max_delta_bytes = run->settings.max_delta_bytes;
    }
    sl_buf_init(&run->hold, run->max_delta_bytes + MAX_HELD_SLACK_BYTES);
    sl_collect_init(&run->collect, run->channel, window_bytes(run), most_text(run));
    run->collect.is_off = run->agent->omits_content;
    run->budget = (struct sl_budget){
        .max_tokens = run->settings.max_tokens,
        .max_cost_micros = run->settings.max_cost_micros,
        .max_calls = run->settings.max_tool_calls,
        .max_same = limits->loop_guard,
    };
    sl_timer_init(&run->flush_timer, loop, on_flush_timer, run);
    sl_timer_init(&run->deadline_timer, loop, on_deadline_timer, run);
    sl_timer_init(&run->heartbeat_timer, loop, on_heartbeat_timer, run);
    sl_timer_init(&run->detach_timer, loop, on_detach_timer, run);
    run->resume_task.run = run_resume;
    run->ended_task.run = run_ended;
}

enum sl_status sl_run_new(const struct sl_run_options *options, struct sl_run **ret_run)
{
    SL_ON_LOOP(options->env->loop);
    struct sl_run *run = sl_calloc(1, sizeof(*run));
    if (run == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    run->env = options->env;
    run->agent = options->agent;
    run->settings = *options->settings;
    run->options = *options;
    (void)snprintf(run->run_id, sizeof(run->run_id), "%s", options->run_id);
    if (sl_run_client_init(run) != SL_OK || sl_run_session_init(run) != SL_OK ||
        open_channel(run) != SL_OK) {
        sl_run_client_done(run);
        sl_run_session_done(run);
        (void)sl_free(run);
        return SL_RESOURCE_EXHAUSTED;
    }
    init_rest(run);
    run->history = *options->history;
    sl_history_init(options->history, options->history->arena.max_bytes);
    if (options->credentials != NULL) {
        run->credentials = SL_TAKE(*options->credentials);
    }
    *ret_run = run;
    return SL_OK;
}

void sl_run_set_mark(struct sl_run *run, uint32_t mark_bytes)
{
    run->settings.mark_bytes = mark_bytes;
    sl_event_channel_set_mark(run->channel, mark_bytes, run->settings.mark_events);
}

struct sl_event_channel *sl_run_channel(struct sl_run *run)
{
    return run->channel;
}

static bool emit_started(struct sl_run *run)
{
    Sluice__V1__RunStarted started;
    sluice__v1__run_started__init(&started);
    started.run_id = run->run_id;
    started.agent_name = sl_pb_text(run->agent->name);
    started.agent_version = sl_pb_text(run->agent->version);
    started.model = sl_pb_text(run->agent->model);
    started.provider = sl_pb_text(run->agent->provider);
    started.session_id = sl_pb_text(run->options.session_id);
    started.max_iterations = run->settings.max_iterations;
    started.deadline_ms =
        sl_loop_wall_ms(run->env->loop) + (run->deadline_ns - run->started_ns) / SL_NS_PER_MS;
    started.on_disconnect = run->settings.on_disconnect;
    Sluice__V1__StreamEvent event;
    sluice__v1__stream_event__init(&event);
    event.event_case = SL_EVENT(RUN_STARTED);
    event.run_started = &started;
    return sl_run_emit(run, &event);
}

/* The store only counts it, and answers at once. */
static enum sl_status begin_unrecorded(struct sl_run *run)
{
    const struct sl_store_run record = { .run_id = run->run_id,
                                         .agent = run->agent->name,
                                         .metadata = run->options.metadata,
                                         .n_metadata = run->options.n_metadata,
                                         .durability = SL_STORE_NONE };
    struct sl_store_begin begin = { .log = &run->store_log, .run = &record };
    SL_TRY(sl_store_begin_run(run->env->store, &begin));
    if (!emit_started(run)) {
        sl_store_log_drop(run->env->store, &run->store_log);
        return SL_RESOURCE_EXHAUSTED;
    }
    sl_run_go(run);
    return SL_OK;
}

/* Nobody sees anything of it before the store has it. */
static enum sl_status begin_recorded(struct sl_run *run)
{
    sl_event_channel_show(run->channel, sl_event_channel_head(run->channel));
    if (!emit_started(run)) {
        return SL_RESOURCE_EXHAUSTED;
    }
    SL_TRY(sl_run_record_begin(run));
    return SL_PENDING;
}

enum sl_status sl_run_begin(struct sl_run *run)
{
    SL_ON_LOOP(run->env->loop);
    run->started_ns = sl_loop_now_ns(run->env->loop);
    run->deadline_ns = find_deadline(run);
    if (run->deadline_ns < run->started_ns) {
        run->deadline_ns = run->started_ns; /* over already: it ends in the first gate */
    }
    const bool is_recorded = run->settings.durability != SL_STORE_NONE;
    return is_recorded ? begin_recorded(run) : begin_unrecorded(run);
}

void sl_run_begin_life(struct sl_run *run)
{
    run->is_begun = true;
    sl_run_count_begin(run);
    if (run->is_reader_gone) {
        sl_run_count_detached(run);
    }
    sl_timer_start(&run->deadline_timer, run->deadline_ns);
    if (run->settings.heartbeat_ms > 0) {
        sl_timer_start_ms(&run->heartbeat_timer, run->settings.heartbeat_ms);
    }
}

void sl_run_go(struct sl_run *run)
{
    sl_run_begin_life(run);
    sl_log(
        SL_INFO, SL_LOG_EXEC,
        "run=%s msg=\"started\" agent=%s version=%s provider=%s loop=%" PRIu32 " peer=%s",
        run->run_id, run->agent->name, run->agent->version, run->agent->provider,
        run->env->loop->index, SL_LOG_QUOTE(sl_slice_str(run->options.peer)));
    sl_run_set_state(run, SL_RUN_STATE_READY);
    sl_run_next_iteration(run);
}

void sl_run_cancel(struct sl_run *run, const struct sl_ending *ending)
{
    SL_ON_LOOP(run->env->loop);
    if (sl_run_park_cancel(run, ending)) {
        return;
    }
    if (run->is_claimed) {
        sl_run_record_hurry(run);
    }
    sl_run_finish(run, ending);
}

/* A lost connection (AL-7.1). */
static void follow_policy(struct sl_run *run)
{
    if (run->settings.on_disconnect == SL_DISCONNECT(CANCEL)) {
        const struct sl_ending ending = sl_ending_cancelled(SL_CANCEL_REASON(CLIENT_DISCONNECTED));
        sl_run_finish(run, &ending);
    } else if (run->settings.on_disconnect == SL_DISCONNECT(DETACH_FOR) && !run->is_observed) {
        sl_timer_start_ms(&run->detach_timer, run->settings.detach_ttl_ms);
    }
}

void sl_run_set_observed(struct sl_run *run, bool is_observed)
{
    SL_ON_LOOP(run->env->loop);
    run->is_observed = is_observed;
    if (is_observed) {
        sl_timer_stop(&run->detach_timer);
    } else if (run->is_reader_gone && !run->is_claimed) {
        follow_policy(run);
    }
}

const struct sl_limits *sl_run_limits(const struct sl_run *run)
{
    return run->env->limits;
}

bool sl_run_is_recorded(const struct sl_run *run)
{
    return run->settings.durability != SL_STORE_NONE;
}

const struct sl_history *sl_run_history(const struct sl_run *run)
{
    return &run->history;
}

const struct sl_usage *sl_run_usage(const struct sl_run *run)
{
    return &run->budget.used;
}

void sl_run_take_rest(struct sl_run *run, struct sl_history *ret_history, struct sl_usage *ret_used)
{
    SL_ON_LOOP(run->env->loop);
    assert(run->state == SL_RUN_STATE_ENDED);
    *ret_used = run->budget.used;
    *ret_history = run->history;
    sl_history_init(&run->history, run->history.arena.max_bytes);
}

void sl_run_reader_gone(struct sl_run *run, enum sl_run_gone how, uint32_t code)
{
    SL_ON_LOOP(run->env->loop);
    if (run->is_claimed) {
        return;
    }
    run->reset_code = code;
    switch (how) {
    case SL_RUN_GONE_READ:
        break;
    case SL_RUN_GONE_RESET:
        if (run->settings.cancel_on_reset) {
            const struct sl_ending ending = sl_ending_cancelled(SL_CANCEL_REASON(CLIENT_RESET));
            sl_run_finish(run, &ending);
        } else {
            follow_policy(run);
        }
        break;
    case SL_RUN_GONE_LOST:
        follow_policy(run);
        break;
    case SL_RUN_GONE_DEADLINE:
        if (run->settings.on_disconnect == SL_DISCONNECT(CANCEL)) {
            sl_run_fail(run, SL_CODE(DEADLINE_EXCEEDED));
        } else {
            follow_policy(run);
        }
        break;
    case SL_RUN_GONE_SLOW:
        if (run->settings.on_disconnect == SL_DISCONNECT(CANCEL)) {
            run->settings.on_disconnect = SL_DISCONNECT(DETACH);
        }
        follow_policy(run);
        break;
    case SL_RUN_GONE_DRAIN:
        if (!sl_run_park(run)) {
            sl_run_fail(run, SL_CODE(DRAINING));
        }
        break;
    }
    if (!run->is_claimed) {
        run->is_reader_gone = how != SL_RUN_GONE_READ;
        if (run->is_begun) {
            sl_run_count_detached(run);
        }
        if (run->is_reader_gone && run->client.n_tools > 0) {
            sl_run_client_gone(run);
        }
    }
}

void sl_run_look(const struct sl_run *run, struct sl_run_look *ret_look)
{
    static const char *const states[] = {
        [SL_RUN_STATE_NEW] = "new",         [SL_RUN_STATE_READY] = "ready",
        [SL_RUN_STATE_MODEL] = "model",     [SL_RUN_STATE_TOOLS] = "tools",
        [SL_RUN_STATE_CLOSING] = "closing", [SL_RUN_STATE_ENDED] = "ended",
    };
    SL_ON_LOOP(run->env->loop);
    *ret_look = (struct sl_run_look){
        .agent = run->agent->name,
        .peer = run->options.peer == NULL ? "" : run->options.peer,
        .state = sl_run_is_waiting_approval(run) ? "approval" : states[run->state],
        .on_disconnect = run->settings.on_disconnect == SL_DISCONNECT(CANCEL)   ? "cancel"
                         : run->settings.on_disconnect == SL_DISCONNECT(DETACH) ? "detach"
                                                                                : "detach_for",
        .age_ms = run->is_begun ? sl_run_elapsed_ms(run) : 0,
        .iteration = run->iteration,
        .unread = sl_event_channel_lag(run->channel),
        .is_paused = run->is_paused,
        .is_detached = run->counted.is_detached,
    };
}

struct sl_run *sl_run_free(struct sl_run *run)
{
    if (run == NULL) {
        return NULL;
    }
    assert(!run->is_starting && (!run->is_begun || run->state == SL_RUN_STATE_ENDED));
    sl_lease_forget(&run->lease);
    (void)sl_free(run->turn.violation);
    sl_run_end_pause(run); /* of one that was refused, as the timer */
    sl_timer_stop(&run->detach_timer);
    sl_run_tools_clear(run);
    (void)sl_free(run->tools.slots);
    sl_approvals_done(&run->approvals);
    sl_run_client_done(run);
    sl_loop_undefer(run->env->loop, &run->resume_task);
    sl_loop_undefer(run->env->loop, &run->ended_task);
    sl_event_channel_detach_producer(run->channel);
    run->channel = sl_event_channel_unref(run->channel);
    sl_collect_done(&run->collect);
    sl_buf_done(&run->hold);
    sl_run_session_done(run);
    sl_history_done(&run->history);
    run->credentials = sl_credentials_free(run->credentials);
    sl_event_order_done(&run->order);
    return sl_free(run);
}
