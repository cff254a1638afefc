#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/base/random.h"
#include "runtime/exec/encode.h"
#include "runtime/exec/record_private.h"

enum {
    APPEND_BYTES = 256 * 1024, /* one more segment at most */
    SLOW_MS = 5000,            /* the run is held back then (RL-G1) */
    BEGIN_MS = 5000,           /* a start waits so long for the store */
    FIRST_RETRY_MS = 50,
    LAST_RETRY_MS = 2000,
    TEXT_BYTES = 4 * 1024 * 1024
};

static uint64_t now_ns(const struct sl_record *record)
{
    return sl_loop_now_ns(record->loop);
}

/* ---- Room --------------------------------------------------------------------------------------
 */

void sl_record_room_init(struct sl_record_room *room)
{
    *room = (struct sl_record_room){ .is_stopping = false };
    sl_list_init(&room->alone);
}

void sl_record_room_stop(struct sl_record_room *room)
{
    room->is_stopping = true;
    SL_LIST_EACH(node, &room->alone) {
        sl_record_go_on(SL_CONTAINER(node, struct sl_record, node));
    }
}

static void drop_append(struct sl_record *record)
{
    for (uint32_t i = 0; i < record->append.n_ranges; i++) {
        record->append.ranges[i].segment = sl_segment_unref(record->append.ranges[i].segment);
    }
    record->append.n_ranges = 0;
    record->append.resume = sl_slice_of(NULL, 0);
    sl_buf_done(&record->rest.sent);
    record->has_append = false;
}

static void drop_end(struct sl_record *record)
{
    record->end.range.segment = sl_segment_unref(record->end.range.segment);
}

static void free_record(struct sl_record *record)
{
    struct sl_record_room *room = record->is_alone ? record->room : NULL;
    sl_store_log_drop(record->store, &record->log);
    sl_loop_undefer(record->loop, &record->at_once);
    sl_timer_stop(&record->retry_timer);
    sl_timer_stop(&record->patience_timer);
    drop_append(record);
    drop_end(record);
    sl_event_cursor_close(&record->cursor);
    record->tail.segment = sl_segment_unref(record->tail.segment);
    sl_buf_done(&record->context);
    sl_buf_done(&record->messages);
    sl_buf_done(&record->rest.resume);
    sl_arena_done(&record->texts);
    sl_list_remove(&record->node);
    (void)sl_free(record);
    if (room != NULL && room->release != NULL) {
        room->release(room->user_data);
    }
}

/* ---- How long it waits -------------------------------------------------------------------------
 */

static void hold_if_behind(struct sl_record *record)
{
    if (record->is_alone) {
        return;
    }
    const struct sl_event_place head = sl_event_channel_head(record->cursor.channel);
    const uint64_t behind = head.offset - record->cursor.position;
    const uint64_t most = record->is_held ? record->most_behind / 2 : record->most_behind;
    record->is_held = record->is_slow || record->must_wait || behind >= most;
    sl_event_channel_hold(record->cursor.channel, record->is_held);
}

static void fail(struct sl_record *record, enum sl_record_fault fault, const char *why);

/* The timer may fire early: it looks again then. */
static void set_patience(struct sl_record *record)
{
    const uint64_t slow_ns = record->since_ns + SLOW_MS * SL_NS_PER_MS;
    const bool is_first = !record->is_slow && slow_ns < record->due_ns;
    const uint64_t next_ns = is_first ? slow_ns : record->due_ns;
    if (!sl_timer_is_running(&record->patience_timer) || next_ns < record->looks_ns) {
        record->looks_ns = next_ns;
        sl_timer_start(&record->patience_timer, next_ns);
    }
}

/* Something waits for the store from now on, unless something did already. */
static void begin_to_wait(struct sl_record *record)
{
    if (record->since_ns != 0 || record->is_alone) {
        return;
    }
    const uint64_t patience_ns = (record->has_begun ? record->retry_ms : BEGIN_MS) * SL_NS_PER_MS;
    record->since_ns = now_ns(record);
    record->due_ns = record->since_ns + patience_ns;
    if (record->stop_ns < record->due_ns) {
        record->due_ns = record->stop_ns;
    }
    set_patience(record);
}

static void stop_waiting(struct sl_record *record)
{
    record->since_ns = 0;
    record->is_slow = false;
    record->must_wait = false;
    record->next_retry_ms = FIRST_RETRY_MS;
    sl_timer_stop(&record->retry_timer);
}

static void on_patience_timer(void *user_data)
{
    struct sl_record *record = user_data;
    if (record->is_alone || record->since_ns == 0) {
        return;
    }
    if (now_ns(record) >= record->due_ns) {
        if (record->has_begun && record->stop_ns == SL_NEVER_NS) {
            sl_limit_reached(SL_LIMIT_store_retry);
        }
        fail(record, SL_RECORD_UNAVAILABLE, "the store does not answer, or cannot write");
        return;
    }
    record->is_slow = now_ns(record) >= record->since_ns + SLOW_MS * SL_NS_PER_MS;
    hold_if_behind(record);
    set_patience(record);
}

static void retry_later(struct sl_record *record)
{
    const uint64_t delay_ms = record->next_retry_ms / 2 + sl_random_below(record->next_retry_ms);
    record->next_retry_ms =
        record->next_retry_ms * 2 < LAST_RETRY_MS ? record->next_retry_ms * 2 : LAST_RETRY_MS;
    sl_timer_start_ms(&record->retry_timer, delay_ms);
}

static void on_retry_timer(void *user_data)
{
    sl_record_go_on(user_data);
}

/* ---- Faults ------------------------------------------------------------------------------------
 */

static void tell_refused(struct sl_record *record, enum sl_status status, const char *why)
{
    const struct sl_record_answer answer = {
        .status = status,
        .why = why,
        .found_run_id = status == SL_ALREADY_EXISTS ? record->begin.found_run_id : "",
        .found_same = record->begin.found_same,
    };
    record->callbacks.on_begun(record->callbacks.user_data, &answer);
}

static void fail(struct sl_record *record, enum sl_record_fault fault, const char *why)
{
    record->is_failed = true;
    sl_timer_stop(&record->retry_timer);
    sl_timer_stop(&record->patience_timer);
    sl_log(
        SL_ERROR, SL_LOG_EXEC, "run=%s msg=\"%s\" why=\"%s\"", record->run.run_id,
        fault == SL_RECORD_FENCED ? "somebody else has the run" : "not recorded any more",
        why == NULL ? "" : why);
    if (record->has_begun) {
        record->callbacks.on_fault(record->callbacks.user_data, fault);
    } else {
        tell_refused(record, SL_UNAVAILABLE, why);
    }
}

static bool is_passing(enum sl_status status)
{
    return status == SL_UNAVAILABLE || status == SL_RESOURCE_EXHAUSTED;
}

/* Somebody else writes the run, or has removed it; a damaged database says nothing of that. */
static bool is_fenced(enum sl_status status)
{
    return status == SL_ABORTED || status == SL_FAILED_PRECONDITION || status == SL_NOT_FOUND;
}

/* An append or the end went wrong. */
static void take_failure(struct sl_record *record, const struct sl_store_request *request)
{
    if (is_passing(request->status)) {
        if (record->is_alone || !record->is_failed) {
            retry_later(record);
        }
        return;
    }
    record->state = SL_RECORD_OVER;
    if (record->is_alone) {
        sl_record_go_on(record);
    } else if (!record->is_failed) {
        fail(
            record, is_fenced(request->status) ? SL_RECORD_FENCED : SL_RECORD_UNAVAILABLE,
            request->why);
    }
}

/* ---- Answers -----------------------------------------------------------------------------------
 */

static void on_begin_done(struct sl_store_request *request)
{
    struct sl_record *record = SL_CONTAINER(request, struct sl_record, begin.request);
    record->is_busy = false;
    record->run.context = sl_slice_of(NULL, 0);
    sl_buf_done(&record->context);
    record->state = request->status == SL_OK      ? SL_RECORD_OPEN
                    : is_passing(request->status) ? SL_RECORD_UNSURE
                                                  : SL_RECORD_OVER;
    if (record->is_alone && record->state == SL_RECORD_UNSURE) {
        retry_later(record);
    } else if (record->is_alone || request->status == SL_OK) {
        sl_record_go_on(record);
    } else if (!record->is_failed) {
        record->is_failed = true;
        tell_refused(record, request->status, request->why);
    }
}

/* The run is gone, and its beginning may have been committed, whatever was said of it (RL-G6). */
static void on_looked(struct sl_store_request *request)
{
    struct sl_record *record = SL_CONTAINER(request, struct sl_record, look.request);
    const enum sl_status status = request->status;
    record->is_busy = false;
    sl_store_request_done(request);
    if (is_passing(status)) {
        retry_later(record);
        return;
    }
    record->is_found = status == SL_OK;
    record->state = record->is_found ? SL_RECORD_UNSURE : SL_RECORD_OVER;
    sl_record_go_on(record);
}

static void note_stored(struct sl_record *record)
{
    const bool has_woken = record->rest.is_there && !record->append.rests;
    drop_append(record);
    record->stored = record->sent.sequence;
    stop_waiting(record);
    if (record->is_alone) {
        return;
    }
    sl_event_cursor_pass(&record->cursor, record->sent);
    if (record->log.durability == SL_STORE_SYNC) {
        sl_event_channel_show(record->cursor.channel, record->sent);
    }
    if (has_woken) {
        sl_record_rest_ended(record);
    }
    hold_if_behind(record);
}

static void on_append_done(struct sl_store_request *request)
{
    struct sl_record *record = SL_CONTAINER(request, struct sl_record, append.request);
    record->is_busy = false;
    if (request->status != SL_OK) {
        take_failure(record, request);
        return;
    }
    const bool has_rested =
        record->append.rests && !record->rest.is_wanted && !record->rest.is_wake_asked;
    note_stored(record);
    if (record->is_alone || record->is_failed) {
        sl_record_go_on(record);
    } else if (!record->has_begun) {
        const struct sl_record_answer answer = { .status = SL_OK, .found_run_id = "" };
        record->has_begun = true;
        sl_record_go_on(record);
        record->callbacks.on_begun(record->callbacks.user_data, &answer);
    } else {
        sl_record_tell_stored(record, has_rested);
    }
}

static void on_end_done(struct sl_store_request *request)
{
    struct sl_record *record = SL_CONTAINER(request, struct sl_record, end.request);
    record->is_busy = false;
    drop_end(record);
    if (request->status != SL_OK) {
        take_failure(record, request);
        return;
    }
    record->state = SL_RECORD_OVER;
    stop_waiting(record);
    if (record->is_alone) {
        sl_record_go_on(record);
    } else if (!record->is_failed) {
        record->callbacks.on_ended(record->callbacks.user_data);
    }
}

/* ---- Requests ----------------------------------------------------------------------------------
 */

static void run_at_once(struct sl_task *task)
{
    struct sl_record *record = SL_CONTAINER(task, struct sl_record, at_once);
    struct sl_store_request *request = record->answered;
    request->on_done(request);
}

/* The store has taken a request, or answered it with its call. */
static void sent(struct sl_record *record, struct sl_store_request *request, enum sl_status status)
{
    record->is_busy = true;
    record->must_wait = status == SL_AGAIN;
    if (status == SL_PENDING || status == SL_AGAIN) {
        return;
    }
    request->status = status;
    request->why = "the store has refused it";
    record->answered = request;
    sl_loop_defer(record->loop, &record->at_once);
}

static void send_begin(struct sl_record *record)
{
    struct sl_store_begin *begin = &record->begin;
    begin->request.loop = record->loop;
    begin->request.on_done = on_begin_done;
    begin->log = &record->log;
    begin->run = &record->run;
    begin_to_wait(record);
    sent(record, &begin->request, sl_store_begin_run(record->store, begin));
}

static void send_look(struct sl_record *record)
{
    record->look = (struct sl_store_get){
        .request = { .loop = record->loop, .on_done = on_looked },
        .run_id = record->run.run_id,
        .tenant = record->run.tenant,
    };
    sent(record, &record->look.request, sl_store_get(record->store, &record->look));
}

/* Takes what is in the log: false, nothing. */
static bool fill_append(struct sl_record *record)
{
    struct sl_store_append *append = &record->append;
    struct sl_event_range ranges[SL_STORE_RANGES];
    const size_t n = record->is_alone ? 0
                                      : sl_event_cursor_collect(
                                            &record->cursor, record->until, APPEND_BYTES, ranges,
                                            SL_STORE_RANGES, &record->sent);
    append->first_sequence = record->stored + 1;
    append->last_sequence = record->sent.sequence;
    for (size_t i = 0; i < n; i++) {
        append->ranges[i] = (struct sl_store_range){ .segment = sl_segment_ref(ranges[i].segment),
                                                     .from = ranges[i].from,
                                                     .to = ranges[i].to };
    }
    append->n_ranges = (uint32_t)n;
    const bool has_state = sl_record_add_state(record);
    record->has_append = n > 0 || has_state;
    return record->has_append;
}

static void send_append(struct sl_record *record)
{
    record->append.request.loop = record->loop;
    record->append.request.on_done = on_append_done;
    record->append.log = &record->log;
    begin_to_wait(record);
    sent(record, &record->append.request, sl_store_append(record->store, &record->append));
    if (record->must_wait) {
        hold_if_behind(record);
    }
}

static void send_end(struct sl_record *record, struct sl_store_range range)
{
    struct sl_store_end *end = &record->end;
    end->request.loop = record->loop;
    end->request.on_done = on_end_done;
    end->log = &record->log;
    end->range = range;
    end->sequence = record->stored + 1;
    end->ended_ms = sl_loop_wall_ms(record->loop);
    begin_to_wait(record);
    sent(record, &end->request, sl_store_end_run(record->store, end));
}

/* The terminal event is in the log. */
static void send_own_end(struct sl_record *record)
{
    struct sl_event_range range;
    struct sl_event_place behind;
    const struct sl_event_place head = sl_event_channel_head(record->cursor.channel);
    const size_t n =
        sl_event_cursor_collect(&record->cursor, head, SIZE_MAX / 2, &range, 1, &behind);
    assert(n == 1 && behind.sequence == record->until.sequence + 1);
    (void)n;
    (void)sl_segment_ref(range.segment);
    send_end(
        record,
        (struct sl_store_range){ .segment = range.segment, .from = range.from, .to = range.to });
}

static void on_brackets(struct sl_brackets *brackets, enum sl_status status)
{
    struct sl_record *record = SL_CONTAINER(brackets, struct sl_record, brackets);
    record->is_busy = false;
    if (is_passing(status)) {
        retry_later(record);
        return;
    }
    record->has_brackets = true; /* of a log that is damaged there are none */
    if (brackets->segment != NULL) {
        record->append.first_sequence = record->stored + 1;
        record->append.last_sequence = record->sent.sequence = brackets->last_sequence;
        record->append.ranges[0] =
            (struct sl_store_range){ .segment = brackets->segment, .to = brackets->segment->used };
        record->append.n_ranges = 1;
        record->append.state = SL_STORE_STATE_ANY;
        record->append.has_lost = record->tail.sent > record->stored;
    }
    sl_record_go_on(record);
}

/* The end closes no bracket that is open in what is stored (AL-3.3.2). */
static void find_brackets(struct sl_record *record)
{
    record->brackets = (struct sl_brackets){ .store = record->store,
                                             .loop = record->loop,
                                             .run_id = record->run.run_id,
                                             .stored = record->stored,
                                             .on_done = on_brackets };
    record->is_busy = true;
    sl_brackets_begin(&record->brackets);
}

/* The run is gone: how it ended comes behind what is stored. */
static void send_last_end(struct sl_record *record)
{
    struct sl_segment *segment = sl_encode_numbered(record->tail.segment, record->stored + 1);
    if (segment == NULL) {
        retry_later(record);
        return;
    }
    record->end.session = NULL;
    record->end.state = record->tail.state;
    record->end.has_lost = record->tail.sent > record->stored;
    send_end(record, (struct sl_store_range){ .segment = segment, .to = segment->used });
}

static void go_on_alone(struct sl_record *record)
{
    const bool may_try = record->state != SL_RECORD_OVER && record->tail.segment != NULL &&
                         now_ns(record) < record->alone_ns &&
                         (record->room == NULL || !record->room->is_stopping);
    if (!may_try && record->n_holds == 0) {
        free_record(record);
    } else if (!may_try) {
        return; /* the last sl_record_release() comes here again */
    } else if (record->state == SL_RECORD_UNSURE && record->is_found) {
        send_begin(record); /* again, which only finds it */
    } else if (record->state == SL_RECORD_UNSURE) {
        send_look(record);
    } else if (record->append.n_ranges > 0) {
        record->append.rests = false; /* it does not go on */
        send_append(record);
    } else if (!record->has_brackets) {
        find_brackets(record);
    } else {
        send_last_end(record);
    }
}

void sl_record_go_on(struct sl_record *record)
{
    if (record->is_busy) {
        record->brackets.must_stop = record->room != NULL && record->room->is_stopping;
        return;
    }
    if (record->is_alone) {
        go_on_alone(record);
        return;
    }
    if (record->state != SL_RECORD_OPEN || record->is_failed ||
        sl_timer_is_running(&record->retry_timer)) {
        return;
    }
    if (record->has_append || fill_append(record)) {
        send_append(record);
    } else if (record->has_end) {
        send_own_end(record);
    }
}

static void on_readable(struct sl_event_cursor *cursor)
{
    struct sl_record *record = SL_CONTAINER(cursor, struct sl_record, cursor);
    hold_if_behind(record);
    sl_record_go_on(record);
}

/* ---- Life --------------------------------------------------------------------------------------
 */

static void take_buf(struct sl_buf *buf, struct sl_buf *from)
{
    *buf = *from;
    sl_buf_init(from, from->max_bytes);
}

static const char *keep(struct sl_record *record, const char *text)
{
    return sl_arena_dup(&record->texts, sl_slice_str(text == NULL ? "" : text));
}

static bool keep_metadata(struct sl_record *record, const struct sl_store_run *from)
{
    struct sl_store_pair *pairs =
        sl_arena_calloc(&record->texts, from->n_metadata + 1, sizeof(*pairs));
    bool is_whole = pairs != NULL;
    for (size_t i = 0; i < from->n_metadata && is_whole; i++) {
        pairs[i].key = keep(record, from->metadata[i].key);
        pairs[i].value = keep(record, from->metadata[i].value);
        is_whole = pairs[i].key != NULL && pairs[i].value != NULL;
    }
    record->run.metadata = pairs;
    return is_whole;
}

/* A record may outlive its run. */
static bool keep_run(struct sl_record *record, const struct sl_store_run *from)
{
    struct sl_store_run *run = &record->run;
    *run = *from;
    run->run_id = keep(record, from->run_id);
    run->tenant = keep(record, from->tenant);
    run->agent = keep(record, from->agent);
    run->session_id = keep(record, from->session_id);
    run->request_id = keep(record, from->request_id);
    run->resume = sl_slice_of(NULL, 0);
    run->context = sl_buf_slice(&record->context);
    const char *digest = sl_arena_dup(&record->texts, from->digest);
    run->digest = sl_slice_of(digest, from->digest.size);
    return run->run_id != NULL && run->tenant != NULL && run->agent != NULL &&
           run->session_id != NULL && run->request_id != NULL && digest != NULL &&
           keep_metadata(record, from);
}

struct sl_record *sl_record_make(const struct sl_record_options *options, uint64_t after_sequence)
{
    SL_ON_LOOP(options->loop);
    struct sl_record *record = sl_calloc(1, sizeof(*record));
    if (record == NULL) {
        return NULL;
    }
    record->loop = options->loop;
    record->store = options->store;
    record->room = options->room;
    record->callbacks = options->callbacks;
    record->retry_ms = options->limits->store_retry;
    record->most_behind = options->limits->store_queue_run;
    record->next_retry_ms = FIRST_RETRY_MS;
    record->stop_ns = SL_NEVER_NS;
    record->until.offset = UINT64_MAX;
    record->at_once.run = run_at_once;
    sl_list_init(&record->node);
    sl_arena_init(&record->texts, TEXT_BYTES);
    sl_buf_init(&record->messages, 0);
    sl_buf_init(&record->rest.resume, SIZE_MAX);
    sl_buf_init(&record->rest.sent, SIZE_MAX);
    take_buf(&record->context, options->context);
    sl_timer_init(&record->retry_timer, record->loop, on_retry_timer, record);
    sl_timer_init(&record->patience_timer, record->loop, on_patience_timer, record);
    if (!keep_run(record, options->run) || sl_event_cursor_open(
                                               &record->cursor, options->channel, SL_CURSOR_RECORD,
                                               after_sequence, on_readable) != SL_OK) {
        free_record(record);
        return NULL;
    }
    return record;
}

enum sl_status sl_record_new(const struct sl_record_options *options, struct sl_record **ret_record)
{
    *ret_record = sl_record_make(options, 0);
    if (*ret_record == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    send_begin(*ret_record);
    return SL_OK;
}

bool sl_record_await(struct sl_record *record, uint64_t sequence)
{
    record->awaited = record->stored >= sequence ? 0 : sequence;
    return record->awaited == 0;
}

struct sl_record *sl_record_hold(struct sl_record *record)
{
    record->n_holds++;
    return record;
}

struct sl_record *sl_record_release(struct sl_record *record)
{
    if (record != NULL && --record->n_holds == 0 && record->is_alone) {
        sl_record_go_on(record);
    }
    return NULL;
}

struct sl_store_log *sl_record_log(struct sl_record *record)
{
    return &record->log;
}

uint64_t sl_record_stored(const struct sl_record *record)
{
    return record->stored;
}

void sl_record_end(
    struct sl_record *record,
    struct sl_event_place from,
    enum sl_store_state state,
    const struct sl_record_rest *rest)
{
    record->has_end = true;
    record->until = from;
    record->awaited = 0;
    record->rest.is_wanted = record->rest.is_wake_asked = false;
    record->end.state = state;
    take_buf(&record->messages, rest->messages);
    if (rest->is_context) {
        record->end.context = sl_buf_slice(&record->messages);
    }
    if (rest->is_session) {
        record->session = (struct sl_store_session){
            .tenant = record->run.tenant,
            .agent = record->run.agent,
            .session_id = record->run.session_id,
            .messages = sl_buf_slice(&record->messages),
        };
        record->end.session = &record->session;
    }
    sl_record_go_on(record);
}

void sl_record_hurry(struct sl_record *record)
{
    if (record->stop_ns != SL_NEVER_NS) {
        return;
    }
    record->stop_ns = now_ns(record) + SL_RECORD_STOP_MS * SL_NS_PER_MS;
    if (record->since_ns != 0 && record->stop_ns < record->due_ns) {
        record->due_ns = record->stop_ns;
        set_patience(record);
    }
}

static void join_room(struct sl_record *record)
{
    struct sl_record_room *room = record->room;
    if (room != NULL) {
        sl_list_add_last(&room->alone, &record->node);
        if (room->hold != NULL) {
            room->hold(room->user_data);
        }
    }
}

struct sl_record *sl_record_give_up(struct sl_record *record, const struct sl_record_tail *tail)
{
    if (record == NULL) {
        return NULL;
    }
    record->rest.is_wanted = false;
    if (tail != NULL) {
        record->tail = *tail;
        if (!record->has_end) {
            take_buf(&record->messages, tail->context);
            record->end.context = sl_buf_slice(&record->messages);
        }
        if (record->stored == 0 && record->append.n_ranges == 0) {
            (void)fill_append(record); /* RunStarted is not sent yet, and comes before the end */
        }
    }
    sl_event_channel_hold(record->cursor.channel, false);
    sl_event_cursor_close(&record->cursor);
    sl_timer_stop(&record->patience_timer);
    sl_timer_stop(&record->retry_timer);
    if (!record->is_busy && record->n_holds == 0 &&
        (record->state == SL_RECORD_OVER || tail == NULL)) {
        free_record(record);
        return NULL;
    }
    record->is_alone = true;
    record->alone_ns = now_ns(record) + record->retry_ms * SL_NS_PER_MS;
    join_room(record);
    if (record->state == SL_RECORD_UNSURE) {
        sl_record_go_on(record);
    } else if (!record->is_busy) {
        retry_later(record); /* it has just failed */
    }
    return NULL;
}
