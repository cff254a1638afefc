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

/* What is asked of the store. */
struct sl_session_save {
    struct sl_store_save save;
    struct sl_run *run;
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

static void on_saved(struct sl_store_request *request)
{
    struct sl_run *run = SL_CONTAINER(request, struct sl_session_save, save.request)->run;
    struct sl_session_keeper *keeper = &run->session;
    keeper->is_saving = false;
    take_verdict(run, request->status, request->why);
    sl_store_request_done(request);
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
    keeper->save->run = run;
    keeper->save->save = (struct sl_store_save){
        .request = { .loop = run->env->loop, .on_done = on_saved },
        .log = is_of_end(run) ? sl_record_log(run->record) : NULL,
        .session = &keeper->now,
        .context_sequence = context_sequence(run),
    };
    const enum sl_status status = sl_store_save(keeper->store, &keeper->save->save);
    keeper->is_saving = status == SL_PENDING;
    if (!keeper->is_saving) {
        take_verdict(run, status, NULL);
        sl_store_request_done(&keeper->save->save.request);
    }
    return !keeper->is_saving;
}

enum sl_status sl_run_session_init(struct sl_run *run)
{
    struct sl_session_keeper *keeper = &run->session;
    if (run->options.session_id == NULL) {
        return SL_OK;
    }
    keeper->save = sl_calloc(1, sizeof(*keeper->save));
    if (keeper->save == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    keeper->store = run->options.session_store;
    keeper->now = (struct sl_store_session){
        .tenant = run->options.tenant == NULL ? "" : run->options.tenant,
        .agent = run->agent->name,
        .session_id = run->options.session_id,
    };
    sl_buf_init(&keeper->bytes, (size_t)run->env->limits->session_size);
    return SL_OK;
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
        keeper->is_settling = true;
        return false;
    }
    if (keeper->store == NULL || is_of_end(run) || run->rest.is_parking || !is_to_be_stored(run) ||
        !make(run)) {
        return true;
    }
    keeper->is_last = true;
    keeper->is_settling = !save(run);
    return !keeper->is_settling;
}

const struct sl_store_session *sl_run_session_of_end(struct sl_run *run)
{
    return run->session.store != NULL && is_of_end(run) && is_to_be_stored(run) && make(run)
               ? &run->session.now
               : NULL;
}
