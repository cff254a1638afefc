#include "runtime/stored.h"

#include <inttypes.h>
#include <stdio.h>

#include "runtime/base/event_log.h"
#include "runtime/base/mem.h"
#include "runtime/exec/terminal.h"
#include "runtime/known.h"

/* What the log has lost and the store has not got yet is on its way. */
enum { RETRY_MS = 10 };
/* A store that opens its file again needs a moment, and is waited for so long (RL-S2). */
enum { STORE_RETRY_MS = 100, PATIENCE_MS = 5000 };

struct sl_stored {
    struct sl_run_stream *stream; /* referenced while `is_busy` */
    struct sl_run_refusal fallback;
    struct sl_store_get get;
    struct sl_store_read read; /* its answer is the page */
    bool is_busy;              /* a request, or the way back, is under way */
    bool is_closed;
    bool has_begun;        /* something was read: the store has this run */
    bool wants_wake;       /* _ready said 0 */
    bool is_last;          /* the page's end is the run's */
    bool wants_log;        /* the same, but the run may have to say more about it */
    bool may_rejoin;       /* the run's loop has, or had, its log */
    enum sl_status failed; /* of a request that could not be made; told by the timer */
    uint64_t failing_ns;   /* since then nothing can be read; 0: it can */
    bool is_run_over;      /* as the run's loop said, when it was asked last */
    uint64_t counted;      /* in the stream's stored_bytes */
    size_t at;             /* of the page, taken */
    uint64_t event_left;
    uint64_t sequence;
    struct sl_timer retry_timer;
    struct sl_task rejoin_task; /* to the run's loop, and back */
    enum sl_status rejoined;
    struct sl_terminal terminal;
    struct sl_run_ending ending;
};

static void read_on(struct sl_stored *stored);
static void try_again(struct sl_stored *stored);

/* ---- Life --------------------------------------------------------------------------------------
 */

static void on_retry_timer(void *user_data)
{
    try_again(user_data);
}

/* Once a page: whoever asks is on another loop. */
static void count(struct sl_stored *stored, uint64_t bytes)
{
    (void)atomic_fetch_add_explicit(
        &stored->stream->stored_bytes, bytes - stored->counted, memory_order_relaxed);
    stored->counted = bytes;
}

static struct sl_stored *
new_stored(struct sl_run_stream *stream, const struct sl_run_refusal *fallback)
{
    struct sl_stored *stored = sl_calloc(1, sizeof(*stored));
    if (stored != NULL) {
        stored->stream = stream;
        stored->fallback = *fallback;
        stored->may_rejoin = stream->owner != NULL;
        stored->sequence = stream->attach.after_sequence;
        sl_timer_init(&stored->retry_timer, stream->reader_loop, on_retry_timer, stored);
        count(stored, sizeof(*stored));
        sl_runtime_hold(stream->runtime); /* the store's answers come before it is idle */
    }
    return stored;
}

static void free_stored(struct sl_stored *stored)
{
    struct sl_runtime *runtime = stored->stream->runtime;
    sl_store_request_done(&stored->read.request);
    sl_store_request_done(&stored->get.request);
    count(stored, 0);
    (void)sl_free(stored);
    sl_runtime_release(runtime);
}

static void begin_work(struct sl_stored *stored)
{
    stored->is_busy = true;
    sl_run_stream_ref(stored->stream);
}

/* False: the reader went meanwhile, and nothing is left of it. */
static bool end_work(struct sl_stored *stored)
{
    struct sl_run_stream *stream = stored->stream;
    const bool is_closed = stored->is_closed;
    stored->is_busy = false;
    if (is_closed) {
        free_stored(stored);
    }
    sl_run_stream_unref(stream); /* the reader has one, unless it is closed */
    return !is_closed;
}

struct sl_stored *sl_stored_close(struct sl_stored *stored)
{
    if (stored == NULL) {
        return NULL;
    }
    stored->is_closed = true;
    sl_timer_stop(&stored->retry_timer);
    if (!stored->is_busy) {
        free_stored(stored);
        return NULL;
    }
    if (stored->get.request.store != NULL) {
        sl_store_take_back(&stored->get.request);
    }
    if (stored->read.request.store != NULL) {
        sl_store_take_back(&stored->read.request);
    }
    return NULL;
}

/* ---- To the reader -----------------------------------------------------------------------------
 */

static void wake(struct sl_stored *stored)
{
    struct sl_run_stream *stream = stored->stream;
    if (stored->wants_wake) {
        stored->wants_wake = false;
        stream->callbacks.on_readable(stream, stream->callbacks.user_data);
    }
}

static void lose(struct sl_stored *stored, const struct sl_run_refusal *refusal)
{
    struct sl_run_stream *stream = stored->stream;
    if (stream->callbacks.on_lost != NULL) {
        stream->callbacks.on_lost(stream, refusal, stream->callbacks.user_data);
    }
}

SL_PRINTF(4, 5)
static void lose_because(
    struct sl_stored *stored, enum sl_status status, const char *reason, const char *fmt, ...)
{
    struct sl_run_refusal refusal = { .status = status, .reason = reason };
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(refusal.text, sizeof(refusal.text), fmt, args);
    va_end(args);
    refusal.floor = stored->read.run.floor;
    refusal.last_sequence = stored->read.run.last_sequence;
    lose(stored, &refusal);
}

/* The stream has begun: what cannot be given any more is never UNAVAILABLE (AL-5.1). */
static void lose_for(struct sl_stored *stored, enum sl_status status)
{
    if (status == SL_NOT_FOUND && !stored->has_begun) {
        lose(stored, &stored->fallback);
    } else if (status == SL_NOT_FOUND || status == SL_OUT_OF_RANGE) {
        lose_because(
            stored, SL_OUT_OF_RANGE, "BELOW_RETENTION", "these events are not kept any more");
    } else if (status == SL_DATA_LOSS) {
        lose_because(
            stored, SL_DATA_LOSS, "DATA_LOSS",
            "events behind %" PRIu64 " are damaged or missing in the store", stored->sequence);
    } else {
        lose_because(
            stored, SL_ABORTED, "STORE_UNAVAILABLE",
            "the store cannot be read: go on behind %" PRIu64, stored->sequence);
    }
}

/* ---- Back to the log ---------------------------------------------------------------------------
 */

static void run_rejoined(struct sl_task *task)
{
    struct sl_stored *stored = SL_CONTAINER(task, struct sl_stored, rejoin_task);
    struct sl_run_stream *stream = stored->stream;
    if (!end_work(stored)) {
        return;
    }
    if (stored->rejoined == SL_OK) {
        const bool wants_wake = stored->wants_wake;
        stream->reader.stored = sl_stored_close(stored);
        if (wants_wake) {
            stream->callbacks.on_readable(stream, stream->callbacks.user_data);
        }
        return;
    }
    if (stream->is_remote) {
        sl_event_relay_close(SL_TAKE(stream->reader.relay));
    }
    if (stored->wants_log && stored->is_run_over) {
        stored->is_last = true; /* nobody knows more about it */
        wake(stored);
        return;
    }
    read_on(stored);
}

/* On the run's loop. */
static void run_rejoin(struct sl_task *task)
{
    struct sl_stored *stored = SL_CONTAINER(task, struct sl_stored, rejoin_task);
    struct sl_run_stream *stream = stored->stream;
    struct sl_known_run *known = NULL;
    const enum sl_cursor_kind kind =
        stream->is_observer ? SL_CURSOR_OBSERVER : SL_CURSOR_FOREGROUND;
    stored->rejoined = SL_CANCELLED;
    if (!sl_run_stream_is_closed(stream)) {
        known = sl_known_find(stream->owner, stream->run_id, stream->tenant);
        stored->is_run_over = known == NULL || known->has_ended;
        stored->rejoined = known == NULL
                               ? SL_NOT_FOUND
                               : sl_run_stream_join(stream, known->channel, kind, stored->sequence);
    }
    if (stored->rejoined == SL_OK && stream->is_observer && stream->run.known == NULL) {
        sl_known_add_reader(known, stream);
    }
    task->run = run_rejoined;
    sl_loop_post(stream->reader_loop, task);
}

/* False: there is no memory for it now. */
static bool rejoin(struct sl_stored *stored)
{
    struct sl_run_stream *stream = stored->stream;
    if (stream->is_remote && sl_run_stream_open_relay(stream) != SL_OK) {
        return false;
    }
    begin_work(stored);
    stored->rejoin_task.run = run_rejoin;
    sl_loop_post(stream->owner->base, &stored->rejoin_task);
    return true;
}

/* ---- Pages -------------------------------------------------------------------------------------
 */

/* The run's last event is the last of the page. */
static enum sl_status read_ending(struct sl_stored *stored)
{
    struct sl_slice bytes = stored->read.bytes;
    struct sl_slice event = bytes;
    while (bytes.size > 0) {
        const size_t size = sl_event_size(bytes.data);
        event = sl_slice_of(bytes.data + SL_EVENT_PREFIX_BYTES, size - SL_EVENT_PREFIX_BYTES);
        bytes = sl_slice_of(bytes.data + size, bytes.size - size);
    }
    SL_TRY(sl_terminal_read(event, &stored->terminal));
    stored->ending = sl_run_ending_of(&stored->terminal.ending);
    return SL_OK;
}

static bool is_ended(const struct sl_store_run *run)
{
    return run->ended_ms > 0;
}

/* Of the reader who started it: he may have said something that it did not hear (AL-6.8). */
static bool has_more_to_say(const struct sl_stored *stored)
{
    return !stored->stream->is_observer && stored->ending.status == SL_OK && stored->may_rejoin;
}

static void take_page(struct sl_stored *stored)
{
    const struct sl_store_read *read = &stored->read;
    enum sl_status status = SL_OK;
    if (is_ended(&read->run) && read->last_sequence == read->run.last_sequence) {
        status = read_ending(stored);
        stored->wants_log = has_more_to_say(stored);
        stored->is_last = !stored->wants_log;
    }
    if (status != SL_OK) {
        lose_for(stored, status);
    } else {
        wake(stored);
    }
}

/* False: it is no fault that passes, or has not passed in time. */
static bool waits_for_store(struct sl_stored *stored, enum sl_status status)
{
    const uint64_t now_ns = sl_loop_now_ns(stored->stream->reader_loop);
    stored->failing_ns = stored->failing_ns == 0 ? now_ns : stored->failing_ns;
    if ((status != SL_UNAVAILABLE && status != SL_RESOURCE_EXHAUSTED) ||
        now_ns - stored->failing_ns >= PATIENCE_MS * SL_NS_PER_MS) {
        return false;
    }
    sl_timer_start_ms(&stored->retry_timer, STORE_RETRY_MS);
    return true;
}

/* Nothing new: of a run that goes on in this process it will come, in the store or in the log; the
 * last of one that is over may be on its way. */
static void found_nothing(struct sl_stored *stored)
{
    const struct sl_run_stream *stream = stored->stream;
    if (stored->may_rejoin && !stored->is_run_over) {
        sl_timer_start_ms(&stored->retry_timer, RETRY_MS);
    } else if (stream->runtime->loops[stream->reader_loop->index].loop.current == NULL) {
        lose_because(
            stored, SL_ABORTED, "DRAINING", "the server is going down: go on behind %" PRIu64,
            stored->sequence); /* the run is parked (AL-5.2) */
    } else if (!waits_for_store(stored, SL_UNAVAILABLE)) {
        lose_for(stored, SL_UNAVAILABLE);
    }
}

static void read_failed(struct sl_stored *stored, enum sl_status status)
{
    if (!waits_for_store(stored, status)) {
        lose_for(stored, status);
    }
}

static void page_read(struct sl_stored *stored, enum sl_status status)
{
    if (!end_work(stored)) {
        return;
    }
    if (status != SL_OK) {
        read_failed(stored, status);
        return;
    }
    stored->has_begun = true;
    count(stored, sizeof(*stored) + stored->read.request.memory.used_bytes);
    if (stored->read.bytes.size > 0) {
        stored->failing_ns = 0;
        take_page(stored);
    } else {
        found_nothing(stored);
    }
}

static void on_read(struct sl_store_request *request)
{
    page_read(SL_CONTAINER(request, struct sl_stored, read.request), request->status);
}

static void read_on(struct sl_stored *stored)
{
    struct sl_run_stream *stream = stored->stream;
    const struct sl_store_run run = stored->read.run; /* for what is said if this fails */
    sl_store_request_done(&stored->read.request);
    count(stored, sizeof(*stored));
    stored->at = 0; /* of nothing, until there is another page */
    stored->read = (struct sl_store_read){
        .request = { .loop = stream->reader_loop, .on_done = on_read },
        .run_id = stream->run_id,
        .tenant = stream->tenant,
        .after_sequence = stored->sequence,
        .run = run,
    };
    begin_work(stored);
    const enum sl_status status = sl_store_read(stream->runtime->store, &stored->read);
    if (status != SL_PENDING) {
        stored->failed = status; /* not told from inside of _ready */
        sl_timer_start_ms(&stored->retry_timer, RETRY_MS);
        (void)end_work(stored);
    }
}

static void try_again(struct sl_stored *stored)
{
    const enum sl_status failed = stored->failed;
    stored->failed = SL_OK;
    if (failed != SL_OK) {
        read_failed(stored, failed);
    } else if (!stored->may_rejoin || !rejoin(stored)) { /* it also tells whether the run goes on */
        read_on(stored);
    }
}

/* The page is taken. */
static void go_on(struct sl_stored *stored)
{
    const struct sl_store_read *read = &stored->read;
    const bool has_caught_up = stored->has_begun && stored->sequence >= read->run.last_sequence;
    if (!has_caught_up || !stored->may_rejoin || !rejoin(stored)) {
        read_on(stored);
    }
}

/* ---- Taking ------------------------------------------------------------------------------------
 */

size_t sl_stored_ready(struct sl_stored *stored, size_t max, bool *ret_is_last)
{
    const size_t left = stored->is_busy ? 0 : stored->read.bytes.size - stored->at;
    const size_t ready = left < max ? left : max;
    *ret_is_last = stored->is_last && ready == left;
    if (ready == 0 && !*ret_is_last && max > 0) {
        stored->wants_wake = true;
        if (!stored->is_busy && !sl_timer_is_running(&stored->retry_timer)) {
            go_on(stored);
        }
    }
    return ready;
}

void sl_stored_take(struct sl_stored *stored, uint8_t *dst, size_t n)
{
    const uint8_t *bytes = stored->read.bytes.data + stored->at;
    assert(!stored->is_busy && n <= stored->read.bytes.size - stored->at);
    memcpy(dst, bytes, n);
    stored->at += n;
    while (n > 0) {
        if (stored->event_left == 0) {
            stored->event_left = sl_event_size(bytes);
        }
        const size_t step = stored->event_left < n ? (size_t)stored->event_left : n;
        stored->event_left -= step;
        stored->sequence += stored->event_left == 0 ? 1 : 0;
        bytes += step;
        n -= step;
    }
}

bool sl_stored_at_border(const struct sl_stored *stored)
{
    return stored->event_left == 0;
}

uint64_t sl_stored_sequence(const struct sl_stored *stored)
{
    return stored->sequence;
}

const struct sl_run_ending *sl_stored_ending(const struct sl_stored *stored)
{
    return &stored->ending;
}

/* ---- The way in --------------------------------------------------------------------------------
 */

static void refuse(struct sl_stored *stored, enum sl_status status)
{
    struct sl_run_stream *stream = stored->stream;
    if (status == SL_NOT_FOUND) {
        stream->refusal = stored->fallback;
        stream->is_refused = true;
    } else if (status == SL_RESOURCE_EXHAUSTED) {
        sl_run_refuse(stream, status, "SERVER_FULL", "no memory for a reader");
    } else {
        sl_run_refuse(stream, SL_UNAVAILABLE, "STORE_UNAVAILABLE", "the store cannot be read");
    }
}

/* RL-C19 */
static void
refuse_cursor(struct sl_run_stream *stream, const struct sl_store_run *run, bool is_lost)
{
    const uint64_t after = stream->attach.after_sequence;
    if (is_lost) {
        sl_run_refuse(
            stream, SL_DATA_LOSS, "DATA_LOSS",
            "events behind %" PRIu64 " were lost with their server, and after_sequence is %" PRIu64,
            run->is_recovered ? run->recovered_after : run->last_sequence, after);
    } else if (after > run->last_sequence) {
        sl_run_refuse(
            stream, SL_OUT_OF_RANGE, "BEYOND_LOG",
            "the run's last event is %" PRIu64 ", and after_sequence %" PRIu64, run->last_sequence,
            after);
    } else {
        sl_run_refuse(
            stream, SL_OUT_OF_RANGE, "BELOW_RETENTION",
            "the oldest event that is kept is %" PRIu64 ", and after_sequence %" PRIu64, run->floor,
            after);
    }
    stream->refusal.floor = run->floor;
    stream->refusal.last_sequence = run->last_sequence;
}

static void choose_start(struct sl_run_stream *stream, const struct sl_store_run *run)
{
    if (stream->attach.wants_only_end) {
        stream->attach.after_sequence = is_ended(run) ? run->last_sequence - 1 : run->floor - 1;
    }
}

/* A reader that has read everything of a run that has ended needs the ending all the same. */
static enum sl_status take_terminal(struct sl_stored *stored)
{
    const struct sl_store_run *run = &stored->get.run;
    if (!is_ended(run) || stored->sequence < run->last_sequence) {
        return SL_OK;
    }
    if (run->terminal.size <= SL_EVENT_PREFIX_BYTES) {
        return SL_DATA_LOSS;
    }
    stored->is_last = true;
    SL_TRY(sl_terminal_read(
        sl_slice_of(
            run->terminal.data + SL_EVENT_PREFIX_BYTES, run->terminal.size - SL_EVENT_PREFIX_BYTES),
        &stored->terminal));
    stored->ending = sl_run_ending_of(&stored->terminal.ending);
    return SL_OK;
}

static void look_done(struct sl_stored *stored, enum sl_status status)
{
    struct sl_run_stream *stream = stored->stream;
    if (!end_work(stored)) {
        return;
    }
    if (status == SL_OK) {
        choose_start(stream, &stored->get.run);
        stored->sequence = stream->attach.after_sequence;
        const enum sl_status verdict =
            sl_store_check_cursor(&stored->get.run, stream->attach.after_sequence);
        if (verdict != SL_OK) {
            refuse_cursor(stream, &stored->get.run, verdict != SL_OUT_OF_RANGE);
        } else if (take_terminal(stored) != SL_OK) {
            refuse_cursor(stream, &stored->get.run, true);
        }
    } else {
        refuse(stored, status);
    }
    sl_store_request_done(&stored->get.request);
    stored->get.request.store = NULL;
    sl_run_stream_tell_later(stream);
}

static void on_looked(struct sl_store_request *request)
{
    look_done(SL_CONTAINER(request, struct sl_stored, get.request), request->status);
}

static void look(struct sl_stored *stored)
{
    struct sl_run_stream *stream = stored->stream;
    stored->get = (struct sl_store_get){
        .request = { .loop = stream->reader_loop, .on_done = on_looked },
        .run_id = stream->run_id,
        .tenant = stream->tenant,
    };
    begin_work(stored);
    const enum sl_status status = sl_store_get(stream->runtime->store, &stored->get);
    if (status != SL_PENDING) {
        look_done(stored, status);
    }
}

void sl_stored_open(struct sl_run_stream *stream, const struct sl_run_refusal *fallback)
{
    stream->reader.stored = new_stored(stream, fallback);
    if (stream->reader.stored == NULL) {
        sl_run_refuse(stream, SL_RESOURCE_EXHAUSTED, "SERVER_FULL", "no memory for a reader");
        sl_run_stream_tell_later(stream);
        return;
    }
    if (stream->is_remote) {
        sl_event_relay_close(SL_TAKE(stream->reader.relay));
    }
    look(stream->reader.stored);
}

bool sl_stored_fall(struct sl_run_stream *stream, const struct sl_run_refusal *fallback)
{
    struct sl_stored *stored = new_stored(stream, fallback);
    if (stored == NULL) {
        return false;
    }
    stored->sequence = sl_run_stream_sequence(stream);
    stored->wants_wake = true; /* that is how it was found */
    if (stream->is_remote) {
        sl_event_relay_close(SL_TAKE(stream->reader.relay));
    } else {
        sl_event_cursor_close(&stream->reader.cursor);
    }
    stream->reader.stored = stored;
    read_on(stored);
    return true;
}
