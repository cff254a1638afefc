/* A run and its reader: how they find each other, on one loop or on two, and how they part.
 *
 *   reader's loop                          run's loop
 *   sl_run_start ─(slot)─▶ place ──begin_task──▶ begin: run, log, RunStarted
 *        on_started ◀──────────── started_task ◀──┘
 *        _ready, _take ◀═══ cursor, or relay ═══  log
 *        _close ─────────── close_task ─────────▶ the run's policy decides
 *
 * On one loop there are no posts in between. */
#include <stdio.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/exec/encode.h"
#include "runtime/known.h"
#include "runtime/query.h"
#include "runtime/queued.h"
#include "runtime/runtime_private.h"
#include "runtime/stored.h"

/* Until one of a tenant's runs may be over: nobody knows, and its others ask again, too. */
enum { TENANT_RETRY_MS = 1000 };

struct sl_run_stream *sl_run_stream_of(struct sl_ticket *ticket)
{
    return SL_CONTAINER(ticket, struct sl_run_stream, ticket);
}

bool sl_run_stream_is_closed(const struct sl_run_stream *stream)
{
    return atomic_load_explicit(&stream->is_closed, memory_order_acquire);
}

void sl_run_stream_ref(struct sl_run_stream *stream)
{
    (void)atomic_fetch_add_explicit(&stream->n_refs, 1, memory_order_relaxed);
}

static void forget_start(struct sl_run_stream *stream)
{
    sl_history_done(&stream->start.history);
    stream->start.input = stream->start.peer = stream->start.caller = NULL; /* which were in it */
    stream->start.session_id = NULL;
    stream->start.metadata = NULL;
    stream->start.request_id = NULL;
    stream->start.credentials = sl_credentials_free(stream->start.credentials);
    sl_run_drop_client_tools(stream);
}

static void free_stream(struct sl_run_stream *stream)
{
    forget_start(stream);
    (void)sl_free(stream);
}

static void run_gone(struct sl_task *task)
{
    struct sl_run_stream *stream = SL_CONTAINER(task, struct sl_run_stream, close_task);
    const struct sl_run_callbacks callbacks = stream->callbacks;
    free_stream(stream);
    callbacks.on_gone(callbacks.user_data);
}

/* The last reference is gone when the run is over, and so is every task: a reader that left early
 * is told, on its loop. */
void sl_run_stream_unref(struct sl_run_stream *stream)
{
    if (atomic_fetch_sub_explicit(&stream->n_refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    if (!stream->wants_gone) {
        free_stream(stream);
        return;
    }
    stream->close_task = (struct sl_task){ .run = run_gone };
    sl_loop_post(stream->reader_loop, &stream->close_task);
}

/* ---- The slot ----------------------------------------------------------------------------------
 */

/* Gives the slot back; whoever waits longest gets it. The runtime may be gone afterwards. */
static void leave(struct sl_run_stream *stream, bool was_run, uint64_t now_ns)
{
    struct sl_runtime *runtime = stream->runtime;
    sl_run_leave_session(stream);
    struct sl_ticket *next =
        sl_directory_leave(runtime->directory, &stream->ticket, was_run, now_ns);
    if (next != NULL) {
        struct sl_run_stream *waiting = sl_run_stream_of(next);
        sl_loop_post(waiting->reader_loop, &waiting->admit_task);
    }
    sl_generation_unref(stream->generation);
}

/* ---- To the reader -----------------------------------------------------------------------------
 */

/* Tells the reader how it went; on his loop, and from no function of his. Takes a reference. */
static void tell_started(struct sl_run_stream *stream)
{
    if (!sl_run_stream_is_closed(stream)) {
        const struct sl_run_callbacks *callbacks = &stream->callbacks;
        stream->reader.is_started = !stream->is_refused;
        callbacks->on_started(
            stream, stream->run_id, stream->is_refused ? &stream->refusal : NULL,
            callbacks->user_data);
    }
    if (!sl_run_stream_is_closed(stream) && stream->reader.is_started &&
        stream->reader.wants_early) {
        stream->callbacks.on_readable(stream, stream->callbacks.user_data);
    }
    sl_run_stream_unref(stream);
}

static void run_started(struct sl_task *task)
{
    tell_started(SL_CONTAINER(task, struct sl_run_stream, started_task));
}

void sl_run_stream_tell_later(struct sl_run_stream *stream)
{
    sl_run_stream_ref(stream);
    sl_loop_post(stream->reader_loop, &stream->started_task);
}

static void on_cursor_readable(struct sl_event_cursor *cursor)
{
    struct sl_run_stream *stream = SL_CONTAINER(cursor, struct sl_run_stream, reader.cursor);
    stream->callbacks.on_readable(stream, stream->callbacks.user_data);
}

static void on_relay_readable(void *user_data)
{
    struct sl_run_stream *stream = user_data;
    if (stream->reader.is_started) {
        stream->callbacks.on_readable(stream, stream->callbacks.user_data);
    } else {
        stream->reader.wants_early = true;
    }
}

/* ---- On the run's loop -------------------------------------------------------------------------
 */

struct sl_run_ending sl_run_ending_of(const struct sl_ending *ending)
{
    return (struct sl_run_ending){
        .status = ending->status,
        .reason = ending->reason,
        .message = ending->message,
        .retry_after_ms = ending->has_retry_after ? (int64_t)ending->retry_after_ms : 0,
        .is_unlogged = ending->is_unlogged,
    };
}

void sl_run_stream_set_ending(struct sl_run_stream *stream, const struct sl_ending *ending)
{
    stream->ending = *ending;
    stream->public_ending = sl_run_ending_of(&stream->ending);
}

static void on_settled(void *user_data)
{
    sl_run_leave_session(user_data);
}

/* There is room for who waits with another input. */
static void on_inputs_taken(void *user_data)
{
    struct sl_run_stream *stream = user_data;
    sl_run_queries_retry(&stream->run.known->waiters, stream->run.known);
}

static void on_ending(void *user_data, const struct sl_ending *ending)
{
    struct sl_run_stream *stream = user_data;
    sl_run_stream_set_ending(stream, ending);
    if (ending->status == SL_OK && sl_run_has_unheard_input(stream->run.run)) {
        stream->public_ending.status = SL_FAILED_PRECONDITION; /* of this reader only (AL-6.8) */
        stream->public_ending.reason = "INPUT_REFUSED";
        stream->public_ending.message = "the run is done; it had its last iteration before input";
    }
    sl_known_ending(stream->run.known, ending);
}

static void on_ended(void *user_data)
{
    struct sl_run_stream *stream = user_data;
    struct sl_runtime_loop *at = stream->owner;
    const uint64_t now_ns = sl_loop_now_ns(at->base);
    sl_list_remove(&stream->run.node);
    sl_known_ended(SL_TAKE(stream->run.known));
    stream->run.run = sl_run_free(stream->run.run);
    leave(stream, true, now_ns);
    sl_run_stream_unref(stream);
}

enum sl_status sl_run_stream_join(
    struct sl_run_stream *stream,
    struct sl_event_channel *channel,
    enum sl_cursor_kind kind,
    uint64_t after_sequence)
{
    if (stream->is_remote) {
        return sl_event_relay_attach(stream->reader.relay, channel, kind, after_sequence);
    }
    return sl_event_cursor_open(
        &stream->reader.cursor, channel, kind, after_sequence, on_cursor_readable);
}

static void on_begun(void *user_data, const struct sl_record_answer *answer);

static enum sl_status make_run(struct sl_run_stream *stream)
{
    const bool has_request_id = sl_slice_str(stream->start.request_id).size > 0;
    const struct sl_run_options options = {
        .env = &stream->generation->loops[stream->owner->base->index].env,
        .agent = stream->start.agent,
        .settings = &stream->start.settings,
        .run_id = stream->run_id,
        .history = &stream->start.history,
        .input = stream->start.input,
        .peer = stream->start.peer,
        .tenant = stream->tenant,
        .session_id = stream->start.session_id,
        .after_sequence = stream->start.after_sequence,
        .session_store = stream->start.session_store,
        .request_id = stream->start.request_id,
        .digest = sl_slice_of(stream->start.digest, has_request_id ? SL_SHA256_BYTES : 0),
        .metadata = stream->start.metadata,
        .n_metadata = stream->start.n_metadata,
        .credentials = &stream->start.credentials,
        .caller = stream->start.caller,
        .client_tools = stream->start.client_tools,
        .n_client_tools = stream->start.n_client_tools,
        .on_inputs_taken = on_inputs_taken,
        .on_heartbeat = sl_run_stream_heartbeat,
        .on_begun = on_begun,
        .ending = &stream->ending,
        .on_settled = on_settled,
        .on_ending = on_ending,
        .on_ended = on_ended,
        .user_data = stream,
    };
    return sl_run_new(&options, &stream->run.run);
}

/* Makes it known, and joins the two: from the first event on the reader is there. */
static enum sl_status open_run(struct sl_run_stream *stream)
{
    SL_TRY(sl_known_begin(stream));
    sl_run_stream_spill(stream);
    SL_TRY(sl_run_stream_join(stream, sl_run_channel(stream->run.run), SL_CURSOR_FOREGROUND, 0));
    return sl_run_begin(stream->run.run);
}

/* There is no run after all. */
static void undo_begin(struct sl_run_stream *stream)
{
    sl_list_remove(&stream->run.node);
    sl_run_stream_spill_end(stream);
    stream->run.known = sl_known_drop(stream->run.known);
    if (!stream->is_remote) {
        sl_event_cursor_close(&stream->reader.cursor);
    }
    stream->run.run = sl_run_free(stream->run.run);
}

/* SL_PENDING: on_begun tells. */
static enum sl_status begin(struct sl_run_stream *stream)
{
    const uint32_t window_bytes = sl_known_reserve_window(stream);
    stream->start.settings.window_bytes = window_bytes;
    enum sl_status status = make_run(stream);
    if (status == SL_OK) {
        sl_list_add_last(&stream->owner->loop.streams, &stream->run.node);
        status = open_run(stream);
    }
    if (status == SL_OK || status == SL_PENDING) {
        sl_run_heed_session(stream);
        return status;
    }
    if (stream->run.known == NULL) {
        sl_known_release_window(stream->runtime, window_bytes);
    }
    undo_begin(stream);
    return status;
}

bool sl_run_stream_take_up(
    struct sl_run_stream *stream, const struct sl_resume *resume, struct sl_store_log *log)
{
    const uint32_t window_bytes = sl_known_reserve_window(stream);
    stream->start.settings.window_bytes = window_bytes;
    enum sl_status status = make_run(stream);
    if (status == SL_OK) {
        sl_list_add_last(&stream->owner->loop.streams, &stream->run.node);
        status = sl_known_begin(stream);
    }
    if (status == SL_OK) {
        stream->run.known->created_ms = stream->start.created_ms;
        status = sl_run_take_up(stream->run.run, resume, log);
    }
    if (status == SL_OK) {
        return true;
    }
    if (stream->run.known == NULL) {
        sl_known_release_window(stream->runtime, window_bytes);
    }
    undo_begin(stream);
    leave(stream, false, sl_loop_now_ns(stream->owner->base));
    sl_run_stream_unref(stream);
    return false;
}

/* It has begun, or was refused. */
static void tell(struct sl_run_stream *stream)
{
    if (stream->is_remote) {
        sl_run_stream_tell_later(stream);
    } else {
        sl_run_stream_ref(stream);
        tell_started(stream);
    }
}

static void on_begun(void *user_data, const struct sl_record_answer *answer)
{
    struct sl_run_stream *stream = user_data;
    const uint64_t now_ns = sl_loop_now_ns(stream->owner->base);
    if (answer->status == SL_OK) {
        tell(stream);
        return;
    }
    sl_log(
        SL_WARN, SL_LOG_EXEC, "run=%s msg=\"not begun\" status=%s why=\"%s\"", stream->run_id,
        sl_status_name(answer->status), answer->why == NULL ? "" : answer->why);
    sl_run_stream_end_known(stream, answer->status);
    undo_begin(stream);
    if (answer->status == SL_ALREADY_EXISTS && answer->found_same) {
        (void)snprintf(stream->run_id, sizeof(stream->run_id), "%s", answer->found_run_id);
        forget_start(stream);
        sl_runtime_hold(stream->runtime); /* the slot's goes */
        leave(stream, false, now_ns);
        sl_run_stream_follow_found(stream);
        return;
    }
    sl_run_stream_refuse_begin(stream, answer);
    tell(stream);
    leave(stream, false, now_ns);
    sl_run_stream_unref(stream);
}

/* The run's own reference is the one that `place` took. */
static void begin_loaded(struct sl_run_stream *stream)
{
    struct sl_runtime_loop *at = stream->owner;
    const uint64_t now_ns = sl_loop_now_ns(at->base);
    enum sl_status status = SL_UNAVAILABLE;
    if (sl_run_stream_is_closed(stream)) {
        stream->is_refused = true; /* nobody wants it any more, and nobody will hear */
    } else if (at->loop.is_stopping) {
        sl_run_refuse(stream, SL_UNAVAILABLE, "DRAINING", "the server is going down");
    } else if (stream->is_refused) {
        status = SL_FAILED_PRECONDITION; /* its session could not be loaded */
    } else {
        status = begin(stream);
        if (status == SL_PENDING) {
            return;
        }
        if (status != SL_OK) {
            sl_run_refuse(stream, SL_RESOURCE_EXHAUSTED, "SERVER_FULL", "no memory for a run");
        }
    }
    tell(stream);
    if (status != SL_OK) {
        leave(stream, false, now_ns);
        sl_run_stream_unref(stream);
    }
}

static void run_begin(struct sl_task *task)
{
    struct sl_run_stream *stream = SL_CONTAINER(task, struct sl_run_stream, begin_task);
    if (sl_run_stream_is_closed(stream) || stream->owner->loop.is_stopping) {
        begin_loaded(stream);
    } else {
        sl_run_load_session(stream, begin_loaded);
    }
}

static enum sl_run_gone gone_of(enum sl_run_close how)
{
    switch (how) {
    case SL_RUN_CLOSE_READ:
        return SL_RUN_GONE_READ;
    case SL_RUN_CLOSE_RESET:
        return SL_RUN_GONE_RESET;
    case SL_RUN_CLOSE_LOST:
        return SL_RUN_GONE_LOST;
    case SL_RUN_CLOSE_DEADLINE:
        return SL_RUN_GONE_DEADLINE;
    case SL_RUN_CLOSE_DRAIN:
        return SL_RUN_GONE_DRAIN;
    }
    return SL_RUN_GONE_LOST;
}

static void part(struct sl_run_stream *stream)
{
    sl_run_observer_part(stream);
    sl_run_stream_spill_end(stream);
    if (stream->run.run != NULL && !stream->run.is_cut) {
        sl_run_reader_gone(stream->run.run, gone_of(stream->close_how), stream->close_code);
    }
}

static void run_close(struct sl_task *task)
{
    struct sl_run_stream *stream = SL_CONTAINER(task, struct sl_run_stream, close_task);
    part(stream);
    sl_run_stream_unref(stream);
}

static void run_mark(struct sl_task *task)
{
    struct sl_run_stream *stream = SL_CONTAINER(task, struct sl_run_stream, mark_task);
    atomic_store(&stream->is_mark_sent, false); /* first: what comes now is seen, or sent again */
    if (stream->run.run != NULL) {
        sl_run_set_mark(stream->run.run, atomic_load(&stream->mark_bytes));
    }
    sl_run_stream_unref(stream);
}

/* ---- On the reader's loop ----------------------------------------------------------------------
 */

enum sl_status sl_run_stream_open_relay(struct sl_run_stream *stream)
{
    return sl_event_relay_new(
        stream->reader_loop, stream->owner->base, on_relay_readable, stream, &stream->reader.relay);
}

/* The stream has a slot: its run goes to the loop that was chosen. Takes a reference. */
static void place(struct sl_run_stream *stream)
{
    struct sl_runtime *runtime = stream->runtime;
    stream->owner = &runtime->loops[stream->ticket.loop];
    stream->is_remote = stream->owner->base != stream->reader_loop;
    if (!stream->is_remote) {
        sl_loop_defer(stream->reader_loop, &stream->begin_task);
        return;
    }
    if (sl_run_stream_open_relay(stream) == SL_OK) {
        sl_loop_post(stream->owner->base, &stream->begin_task);
        return;
    }
    sl_run_refuse(stream, SL_RESOURCE_EXHAUSTED, "SERVER_FULL", "no memory for a run");
    sl_run_stream_tell_later(stream);
    leave(stream, false, sl_loop_now_ns(stream->reader_loop));
    sl_run_stream_unref(stream);
}

static void refuse_dropped(struct sl_run_stream *stream)
{
    sl_run_refuse(stream, SL_CANCELLED, "CANCELLED", "cancelled before it began");
}

/* Takes the wait's references. */
static void refuse_turn(struct sl_run_stream *stream)
{
    if (stream->reader.is_dropped) {
        refuse_dropped(stream);
    } else {
        sl_run_refuse(stream, SL_UNAVAILABLE, "DRAINING", "the server is going down");
    }
    sl_run_leave_session(stream);
    sl_generation_unref(stream->generation);
    tell_started(stream);
}

static void wait_for_slot(struct sl_run_stream *stream)
{
    const uint64_t wait_ns = sl_run_wait_ms(stream) * SL_NS_PER_MS;
    const uint64_t due_ns = sl_loop_now_ns(stream->reader_loop) + wait_ns;
    const uint64_t deadline_ns = stream->start.settings.call_deadline_ns;
    sl_limit_reached(SL_LIMIT_runs);
    stream->reader.is_waiting = true;
    sl_queued_begin(stream);
    sl_timer_start(&stream->reader.wait_timer, deadline_ns < due_ns ? deadline_ns : due_ns);
}

/* Its session is free. It has the wait's references. */
static void take_turn(struct sl_run_stream *stream)
{
    struct sl_directory *directory = stream->runtime->directory;
    enum sl_admission verdict = SL_ADMIT_DRAINING;
    if (sl_run_stream_is_closed(stream) || stream->reader.is_dropped) {
        sl_directory_drop_turn(directory, &stream->ticket);
    } else {
        verdict = sl_directory_ask_slot(directory, &stream->ticket);
    }
    if (verdict == SL_ADMIT_RUN) {
        place(stream);
    } else if (verdict == SL_ADMIT_WAIT) {
        wait_for_slot(stream);
    } else {
        refuse_turn(stream);
    }
}

/* The wait is over: its session or a slot is free, or the server goes down. */
static void run_admit(struct sl_task *task)
{
    struct sl_run_stream *stream = SL_CONTAINER(task, struct sl_run_stream, admit_task);
    stream->reader.is_waiting = stream->reader.is_queued = false;
    sl_queued_end(stream);
    sl_timer_stop(&stream->reader.wait_timer);
    if (stream->ticket.state == SL_TICKET_TURN) {
        take_turn(stream);
        return;
    }
    if (stream->ticket.state != SL_TICKET_RUNNING) {
        refuse_turn(stream);
        return;
    }
    if (!sl_run_stream_is_closed(stream) && !stream->reader.is_dropped) {
        place(stream);
        return;
    }
    if (!sl_run_stream_is_closed(stream)) {
        refuse_dropped(stream);
        sl_run_stream_tell_later(stream);
    }
    leave(stream, false, sl_loop_now_ns(stream->reader_loop));
    sl_run_stream_unref(stream);
}

/* Leaves the queue; false: the slot has come meanwhile, and run_admit with it. */
static bool stop_waiting(struct sl_run_stream *stream)
{
    if (!sl_directory_abandon(stream->runtime->directory, &stream->ticket)) {
        return false;
    }
    sl_run_leave_session(stream);
    sl_queued_end(stream);
    stream->reader.is_waiting = false;
    sl_timer_stop(&stream->reader.wait_timer);
    sl_generation_unref(stream->generation);
    sl_run_stream_unref(stream);
    return true;
}

/* The call's own deadline may be the one that has passed, and its timer come after this one. */
static void refuse_late(struct sl_run_stream *stream, bool was_short, uint64_t retry_ms)
{
    if (sl_loop_now_ns(stream->reader_loop) >= stream->start.settings.call_deadline_ns) {
        sl_run_refuse(
            stream, SL_DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED",
            "the deadline has passed before %s became free",
            stream->reader.is_queued ? "the session" : "a run slot");
        return;
    }
    if (!was_short) {
        sl_limit_reached(SL_LIMIT_run_wait);
    }
    sl_run_refuse(stream, SL_RESOURCE_EXHAUSTED, "SERVER_FULL", "no run slot became free in time");
    stream->refusal.retry_after_ms = (int64_t)retry_ms;
}

static void on_wait_timer(void *user_data)
{
    struct sl_run_stream *stream = user_data;
    /* Before the generation goes, and the ticket's place. */
    const bool was_short = stream->ticket.is_short;
    const uint64_t retry_ms = sl_run_retry_ms(stream);
    sl_run_stream_ref(stream);
    if (stop_waiting(stream)) {
        refuse_late(stream, was_short, retry_ms);
        sl_run_stream_ref(stream);
        tell_started(stream);
    }
    sl_run_stream_unref(stream);
}

/* What has its turn or a slot meanwhile does not use it. */
void sl_run_stream_drop(struct sl_run_stream *stream)
{
    stream->reader.is_dropped = true;
    sl_run_stream_ref(stream);
    if (stop_waiting(stream)) {
        refuse_dropped(stream);
        sl_run_stream_ref(stream);
        tell_started(stream);
    }
    sl_run_stream_unref(stream);
}

/* The same request has come before: its run is followed from the start, and this one gives its
 * place back, and what it was to start with. Takes a reference. */
static void follow_known(struct sl_run_stream *stream, const char *run_id, bool is_over)
{
    stream->attach.wants_only_end = stream->start.wants_only_end;
    stream->attach.is_repeat = true;
    stream->attach.was_over = is_over;
    forget_start(stream);
    sl_run_observe(stream, run_id);
    sl_generation_unref(stream->generation);
    sl_run_stream_unref(stream);
}

/* Asks the directory. The slot, or the wait for it, has a reference of its own, and one to the
 * generation. */
static void ask_for_slot(struct sl_run_stream *stream, const struct sl_run_spec *spec)
{
    struct sl_runtime *runtime = stream->runtime;
    char known[SL_ID_BYTES] = "";
    sl_run_stream_ref(stream);
    sl_generation_ref(stream->generation);
    const struct sl_directory_ask ask = { .home = stream->reader_loop->index,
                                          .tenant = spec->tenant,
                                          .run_id = stream->run_id,
                                          .request_id = spec->request_id,
                                          .digest = stream->start.digest,
                                          .agent = spec->agent,
                                          .session_id = spec->session_id,
                                          .policy = (enum sl_session_policy)spec->session_policy,
                                          .now_ns = sl_loop_now_ns(stream->reader_loop) };
    const enum sl_admission verdict =
        sl_directory_admit(runtime->directory, &stream->ticket, &ask, known);
    switch (verdict) {
    case SL_ADMIT_RUN:
        place(stream);
        return;
    case SL_ADMIT_WAIT:
        wait_for_slot(stream);
        return;
    case SL_ADMIT_QUEUE:
        sl_run_wait_for_session(stream, known);
        return;
    case SL_ADMIT_DRAINING:
        sl_run_refuse(stream, SL_UNAVAILABLE, "DRAINING", "the server is going down");
        break;
    case SL_ADMIT_FULL:
        sl_limit_reached(SL_LIMIT_run_queue);
        sl_run_refuse(stream, SL_RESOURCE_EXHAUSTED, "SERVER_FULL", "too many runs are waiting");
        stream->refusal.retry_after_ms = (int64_t)sl_run_retry_ms(stream);
        break;
    case SL_ADMIT_TENANT_FULL:
        sl_limit_reached(SL_LIMIT_runs_per_tenant);
        sl_run_refuse(
            stream, SL_RESOURCE_EXHAUSTED, "TENANT_LIMIT",
            "this tenant has as many runs as it may have");
        stream->refusal.retry_after_ms = (int64_t)sl_run_spread_ms(TENANT_RETRY_MS);
        break;
    case SL_ADMIT_KNOWN:
    case SL_ADMIT_KNOWN_OVER:
        follow_known(stream, known, verdict == SL_ADMIT_KNOWN_OVER);
        return;
    case SL_ADMIT_REQUEST_ID:
        sl_run_refuse(
            stream, SL_ALREADY_EXISTS, "REQUEST_ID_REUSED",
            "another request with this request_id started run %s", known);
        break;
    case SL_ADMIT_SESSION_BUSY:
    case SL_ADMIT_SESSION_FULL:
        sl_run_refuse_session(stream, verdict == SL_ADMIT_SESSION_FULL);
        break;
    case SL_ADMIT_NO_MEMORY:
        sl_run_refuse(stream, SL_RESOURCE_EXHAUSTED, "SERVER_FULL", "no memory for a run");
        break;
    }
    sl_run_stream_tell_later(stream);
    sl_generation_unref(stream->generation);
    sl_run_stream_unref(stream);
}

struct sl_run_stream *sl_run_stream_new(
    struct sl_runtime *runtime,
    struct sl_loop *loop,
    const char *tenant,
    const struct sl_run_callbacks *callbacks)
{
    const size_t tenant_bytes = tenant == NULL ? 0 : strlen(tenant);
    struct sl_run_stream *stream = sl_calloc(1, sizeof(*stream) + tenant_bytes + 1);
    if (stream == NULL) {
        return NULL;
    }
    if (tenant_bytes > 0) {
        memcpy(stream->texts, tenant, tenant_bytes);
    }
    stream->tenant = stream->texts;
    stream->runtime = runtime;
    stream->reader_loop = loop;
    stream->callbacks = *callbacks;
    atomic_init(&stream->n_refs, 1);
    atomic_init(&stream->is_closed, false);
    atomic_init(&stream->is_mark_sent, false);
    stream->mark_task.run = run_mark;
    stream->admit_task.run = run_admit;
    stream->begin_task.run = run_begin;
    stream->started_task.run = run_started;
    stream->close_task.run = run_close;
    sl_list_init(&stream->run.node);
    sl_list_init(&stream->reader.queued_node);
    sl_list_init(&stream->run.reader_node);
    sl_timer_init(&stream->reader.wait_timer, loop, on_wait_timer, stream);
    return stream;
}

enum sl_status sl_run_start(
    struct sl_runtime *runtime,
    struct sl_loop *loop,
    const struct sl_run_spec *spec,
    const struct sl_run_callbacks *callbacks,
    struct sl_run_stream **ret_stream)
{
    SL_ON_LOOP(loop);
    struct sl_run_stream *stream = sl_run_stream_new(runtime, loop, spec->tenant, callbacks);
    if (stream == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    sl_random_id(stream->run_id);
    stream->generation = runtime->loops[loop->index].loop.current;
    if (stream->generation == NULL) {
        sl_run_refuse(stream, SL_UNAVAILABLE, "DRAINING", "the server is going down");
        sl_directory_count_refused(runtime->directory);
        sl_run_stream_tell_later(stream);
        *ret_stream = stream;
        return SL_OK;
    }
    bool is_accepted = false;
    const enum sl_status status = sl_run_admit_spec(stream, spec, &is_accepted);
    if (status != SL_OK) {
        sl_run_stream_unref(stream);
        return status;
    }
    if (is_accepted) {
        ask_for_slot(stream, spec);
    } else {
        sl_directory_count_refused(runtime->directory);
        sl_run_stream_tell_later(stream);
    }
    *ret_stream = stream;
    return SL_OK;
}

void sl_run_stream_close(struct sl_run_stream *stream, enum sl_run_close how, uint32_t code)
{
    if (stream == NULL) {
        return;
    }
    SL_ON_LOOP(stream->reader_loop);
    stream->close_how = how;
    stream->close_code = code;
    atomic_store_explicit(&stream->is_closed, true, memory_order_release);
    if (stream->reader.is_waiting) {
        (void)stop_waiting(stream);
    }
    sl_timer_stop(&stream->reader.wait_timer);
    sl_loop_undefer(stream->reader_loop, &stream->lost_task);
    if (stream->is_remote && (stream->reader.relay != NULL || stream->reader.stored != NULL)) {
        sl_event_relay_close(stream->reader.relay);
        sl_run_stream_ref(stream);
        sl_loop_post(stream->owner->base, &stream->close_task);
    } else if (!stream->is_remote) {
        sl_event_cursor_close(&stream->reader.cursor);
        part(stream);
    }
    stream->reader.stored = sl_stored_close(stream->reader.stored);
    sl_run_stream_unref(stream);
}

void sl_run_stream_leave(struct sl_run_stream *stream, enum sl_run_close how, uint32_t code)
{
    stream->wants_gone = true;
    sl_run_stream_close(stream, how, code);
}
