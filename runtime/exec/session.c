#include "runtime/exec/session.h"

#include "runtime/base/log.h"
#include "runtime/exec/run_private.h"
#include "runtime/exec/session_codec.h"

enum { BYTES_PER_TOKEN = 4 };

enum sl_session_rule
sl_session_rule_of(const struct sl_ending *ending, bool is_first, bool has_tool)
{
    switch (ending->code) {
    case SL_CODE(UNSPECIFIED): /* RunDone */
    case SL_CODE(MAX_ITERATIONS):
    case SL_CODE(OUTPUT_INVALID):
        return SL_SESSION_FULL;
    case SL_CODE(CONTENT_FILTER):
        return has_tool ? SL_SESSION_CUT : SL_SESSION_NONE;
    case SL_CODE(CONTEXT_OVERFLOW):
    case SL_CODE(PROVIDER_REJECTED):
        return is_first ? SL_SESSION_NONE : SL_SESSION_CUT;
    case SL_CODE(STORE_UNAVAILABLE): /* as it is stored */
    case SL_CODE(DATA_LOSS):
        return SL_SESSION_NONE;
    case SL_CODE(BUDGET_EXCEEDED):
    case SL_CODE(LOOP_DETECTED):
    case SL_CODE(PROVIDER_UNREACHABLE):
    case SL_CODE(PROVIDER_TLS):
    case SL_CODE(PROVIDER_AUTH):
    case SL_CODE(PROVIDER_RATE_LIMITED):
    case SL_CODE(PROVIDER_QUOTA):
    case SL_CODE(PROVIDER_OVERLOADED):
    case SL_CODE(PROVIDER_TIMEOUT):
    case SL_CODE(PROVIDER_TRUNCATED):
    case SL_CODE(PROVIDER_PROTOCOL):
    case SL_CODE(PROVIDER_LIMIT):
    case SL_CODE(CANCELLED):
    case SL_CODE(DEADLINE_EXCEEDED):
    case SL_CODE(DRAINING):
    case SL_CODE(WORKER_LOST):
    case SL_CODE(OUT_OF_MEMORY):
    case SL_CODE(INTERNAL):
    case _SLUICE__V1__ERROR_CODE_IS_INT_SIZE:
        break;
    }
    return SL_SESSION_CUT;
}

/* Some text of the model, or something that a tool did. */
static bool has_use(const struct sl_run *run)
{
    if (run->tools.n_executed > 0) {
        return true;
    }
    for (size_t i = run->history.turn_begin; i < run->history.n_messages; i++) {
        const struct sl_chat_message *message = &run->history.messages[i];
        if (message->role == SL_CHAT_ASSISTANT && message->content.size > 0) {
            return true;
        }
    }
    return false;
}

static bool is_to_be_stored(const struct sl_run *run)
{
    switch (
        sl_session_rule_of(run->options.ending, run->iteration <= 1, run->tools.n_executed > 0)) {
    case SL_SESSION_FULL:
        return true;
    case SL_SESSION_CUT:
        return has_use(run);
    case SL_SESSION_NONE:
        break;
    }
    return false;
}

/* The conversation as bytes. Old turns go until it fits. False: it does not, or there is no memory
 * for it. */
static bool make(struct sl_run *run)
{
    struct sl_session_keeper *keeper = &run->session;
    struct sl_history *history = &run->history;
    for (uint64_t room = run->env->limits->session_size / BYTES_PER_TOKEN; room > 0; room /= 2) {
        sl_buf_clear(&keeper->bytes);
        if (sl_session_write(history->messages, history->n_messages, &keeper->bytes) == SL_OK) {
            keeper->now.messages = sl_buf_slice(&keeper->bytes);
            return true;
        }
        sl_limit_reached(SL_LIMIT_session_size);
        sl_history_prune(history, 0, room / 2 > 0 ? room / 2 : 1);
    }
    sl_log(
        SL_WARN, SL_LOG_EXEC, "run=%s msg=\"the turn is too large for its session, not stored\"",
        run->run_id);
    return false;
}

/* What is asked of the store. It has all that it points to: a store that hangs may answer when the
 * run is gone. */
struct sl_session_save {
    struct sl_store_save save;
    struct sl_run *run; /* NULL: it is gone */
    struct sl_loop *loop;
    struct sl_timer wait_timer; /* the end waits for it */
    uint64_t due_ns;
    struct sl_record *record;    /* held, its log is named; NULL: none */
    struct sl_record_room *room; /* held when the run is gone; NULL: nobody asks */
    struct sl_store_session session;
    struct sl_buf bytes; /* when the run is gone */
    char texts[];
};

static void log_failure(const struct sl_run *run, enum sl_status status, const char *why)
{
    sl_log(
        SL_ERROR, SL_LOG_EXEC, "run=%s msg=\"the conversation is not stored\" status=%s detail=%s",
        run->run_id, sl_status_name(status), SL_LOG_QUOTE(sl_slice_str(why == NULL ? "" : why)));
}

/* What was answered with a success is remembered, or it was none. */
static void take_verdict(struct sl_run *run, enum sl_status status, const char *why)
{
    if (status == SL_OK) {
        return;
    }
    log_failure(run, status, why);
    if (run->session.is_last && run->options.ending->code == SL_CODE(UNSPECIFIED)) {
        *run->options.ending = sl_ending_error(SL_CODE(STORE_UNAVAILABLE));
    }
}

/* The store has answered. */
static void answered(struct sl_session_save *job)
{
    sl_store_request_done(&job->save.request);
    job->record = sl_record_release(job->record);
}

static void free_alone(struct sl_session_save *job)
{
    struct sl_record_room *room = job->room;
    answered(job);
    sl_buf_done(&job->bytes);
    (void)sl_free(job);
    if (room != NULL && room->release != NULL) {
        room->release(room->user_data);
    }
}

static void on_saved(struct sl_store_request *request)
{
    struct sl_session_save *job = SL_CONTAINER(request, struct sl_session_save, save.request);
    struct sl_run *run = job->run;
    if (run == NULL) {
        free_alone(job);
        return;
    }
    struct sl_session_keeper *keeper = &run->session;
    keeper->is_saving = false;
    sl_timer_stop(&job->wait_timer);
    take_verdict(run, request->status, request->why);
    answered(job);
    if (!keeper->is_settling) {
        return;
    }
    keeper->is_settling = false;
    if (keeper->is_last || sl_run_session_settle(run)) {
        sl_run_settled(run);
    }
}

bool sl_run_session_is_of_end(const struct sl_run *run)
{
    return sl_run_is_recorded(run) && run->session.store == run->env->store;
}

bool sl_run_session_is_context(const struct sl_run *run)
{
    const bool fits = run->session.bytes.size <= run->env->limits->run_context;
    if (!fits) {
        sl_limit_reached(SL_LIMIT_run_context);
    }
    return fits;
}

/* The run's end transaction has it. */
static bool is_of_end(const struct sl_run *run)
{
    return run->record != NULL && sl_run_session_is_of_end(run);
}

/* Of what is saved while the run goes on: up to which event it is the run's conversation. */
static uint64_t context_sequence(const struct sl_run *run)
{
    return is_of_end(run) && sl_run_session_is_context(run)
               ? sl_event_channel_last_sequence(run->channel)
               : 0;
}

/* True: it is stored, or will never be. */
static bool save(struct sl_run *run)
{
    struct sl_session_keeper *keeper = &run->session;
    struct sl_session_save *job = keeper->save;
    job->session.messages = keeper->now.messages;
    job->record = is_of_end(run) ? sl_record_hold(run->record) : NULL;
    job->save = (struct sl_store_save){
        .request = { .loop = run->env->loop, .on_done = on_saved },
        .log = job->record == NULL ? NULL : sl_record_log(job->record),
        .session = &job->session,
        .context_sequence = context_sequence(run),
    };
    const enum sl_status status = sl_store_save(keeper->store, &job->save);
    keeper->is_saving = status == SL_PENDING;
    if (!keeper->is_saving) {
        take_verdict(run, status, NULL);
        answered(job);
    }
    return !keeper->is_saving;
}

/* ---- A store that does not answer --------------------------------------------------------------
 */

/* What is being saved goes on without the run. */
static void leave(struct sl_run *run)
{
    struct sl_session_keeper *keeper = &run->session;
    struct sl_session_save *job = SL_TAKE(keeper->save);
    keeper->is_saving = false;
    job->run = NULL;
    job->bytes = keeper->bytes;
    sl_buf_init(&keeper->bytes, keeper->bytes.max_bytes);
    job->room = run->env->records;
    if (job->room != NULL && job->room->hold != NULL) {
        job->room->hold(job->room->user_data);
    }
}

/* AL-7.3: an end that was asked for does not wait for long, and no end for ever. */
static void on_wait_over(void *user_data)
{
    struct sl_run *run = ((struct sl_session_save *)user_data)->run;
    struct sl_session_keeper *keeper = &run->session;
    if (!sl_run_is_stopped(run)) {
        sl_limit_reached(SL_LIMIT_store_retry);
    }
    leave(run);
    keeper->is_settling = false;
    keeper->is_last = keeper->is_last || !is_of_end(run);
    take_verdict(run, SL_UNAVAILABLE, "the store does not answer");
    sl_run_settled(run);
}

/* The end waits for what is being saved. */
static void wait(struct sl_run *run)
{
    struct sl_session_save *job = run->session.save;
    const uint64_t retry_ms = run->env->limits->store_retry;
    run->session.is_settling = true;
    job->due_ns = sl_loop_now_ns(job->loop) + retry_ms * SL_NS_PER_MS;
    sl_timer_start(&job->wait_timer, job->due_ns);
    if (sl_run_is_stopped(run)) {
        sl_run_session_hurry(run);
    }
}

void sl_run_session_hurry(struct sl_run *run)
{
    struct sl_session_save *job = run->session.save;
    if (!run->session.is_settling) {
        return;
    }
    const uint64_t due_ns = sl_loop_now_ns(job->loop) + SL_RECORD_STOP_MS * SL_NS_PER_MS;
    if (due_ns < job->due_ns) {
        job->due_ns = due_ns;
        sl_timer_start(&job->wait_timer, due_ns);
    }
}

/* ---- Life --------------------------------------------------------------------------------------
 */

/* NULL: no memory. */
static struct sl_session_save *make_save(struct sl_run *run)
{
    const struct sl_store_session *now = &run->session.now;
    const char *const from[] = { now->tenant, now->agent, now->session_id };
    size_t sizes[SL_COUNT(from)];
    size_t total = 0;
    for (size_t i = 0; i < SL_COUNT(from); i++) {
        sizes[i] = strlen(from[i]) + 1;
        total += sizes[i];
    }
    struct sl_session_save *job = sl_calloc(1, sizeof(*job) + total);
    if (job == NULL) {
        return NULL;
    }
    const char **const to[] = { &job->session.tenant, &job->session.agent,
                                &job->session.session_id };
    char *at = job->texts;
    for (size_t i = 0; i < SL_COUNT(from); i++) {
        memcpy(at, from[i], sizes[i]);
        *to[i] = at;
        at += sizes[i];
    }
    job->run = run;
    job->loop = run->env->loop;
    sl_timer_init(&job->wait_timer, job->loop, on_wait_over, job);
    return job;
}

enum sl_status sl_run_session_init(struct sl_run *run)
{
    struct sl_session_keeper *keeper = &run->session;
    if (run->options.session_id == NULL) {
        return SL_OK;
    }
    keeper->store = run->options.session_store;
    keeper->now = (struct sl_store_session){
        .tenant = run->options.tenant == NULL ? "" : run->options.tenant,
        .agent = run->agent->name,
        .session_id = run->options.session_id,
    };
    sl_buf_init(&keeper->bytes, (size_t)run->env->limits->session_size);
    keeper->save = make_save(run);
    return keeper->save == NULL ? SL_RESOURCE_EXHAUSTED : SL_OK;
}

void sl_run_session_done(struct sl_run *run)
{
    assert(!run->session.is_saving);
    if (run->session.store != NULL) {
        sl_buf_done(&run->session.bytes);
    }
    run->session.save = sl_free(run->session.save);
}

void sl_run_session_phase(struct sl_run *run)
{
    const struct sl_session_keeper *keeper = &run->session;
    if (keeper->store != NULL && !keeper->is_saving && has_use(run) && make(run)) {
        (void)save(run);
    }
}

bool sl_run_session_settle(struct sl_run *run)
{
    struct sl_session_keeper *keeper = &run->session;
    if (keeper->is_saving) {
        wait(run);
        return false;
    }
    if (keeper->store == NULL || is_of_end(run) || run->rest.is_parking || !is_to_be_stored(run) ||
        !make(run)) {
        return true;
    }
    keeper->is_last = true;
    if (save(run)) {
        return true;
    }
    wait(run);
    return false;
}

const struct sl_store_session *sl_run_session_of_end(struct sl_run *run)
{
    return run->session.store != NULL && is_of_end(run) && is_to_be_stored(run) && make(run)
               ? &run->session.now
               : NULL;
}
