/* One call of a tool.
 *
 *   start ─▶ CHECKING ─▶ WAITING ─slot─▶ RUNNING ─▶ ENDING ─end of the turn─▶ on_done
 *              │           │               │  ▲
 *              │           │               ▼  │ TIMEOUT, HTTP 503 …: idempotent tools only, at most
 * 3 attempts └───────────┴─ cancel    PAUSING (1 s, 2 s, ±20 %)
 *
 * Small arguments are checked at once, and small results written; those over SL_JOB_DOCUMENT_BYTES
 * on the pool (PM-1.6). The slot is held from the first attempt to the end, pauses included. */
#include <inttypes.h>
#include <stdio.h>

#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/base/random.h"
#include "runtime/base/utf8.h"
#include "runtime/tool/kind.h"
#include "runtime/tool/schema.h"

enum { MAX_ATTEMPTS = 3, FIRST_PAUSE_MS = 1000 };

enum state { CHECKING, WAITING, RUNNING, PAUSING, ENDING, DONE };
enum stop { GO_ON, STOP_CANCEL, STOP_TIMEOUT };

/* Large arguments: parsed, checked and freed on the pool. It outlives the call if it must. */
struct check {
    struct sl_job job;
    struct sl_tool_call *call; /* NULL: nobody waits any more */
    char *text;
    size_t size, max_bytes;
    json_t *parameters; /* counted: the tool may go */
    json_t *arguments;
    enum sl_status status;
    struct sl_error err;
};

struct sl_tool_call {
    struct sl_tools *tools;
    struct sl_loop *loop;
    struct sl_tool *tool;
    void (*on_done)(struct sl_tool_call *, const struct sl_tool_result *, void *);
    void (*on_output)(struct sl_tool_call *, bool, struct sl_slice, void *);
    void *user_data;
    char *key;
    struct check *check; /* NULL: the arguments are small */
    json_t *arguments;
    const struct sl_credentials *credentials; /* the run's */
    bool is_approved;
    struct {
        enum state state;
        enum stop stop; /* why the attempt was told to end */
        bool has_slot;
        struct sl_timer timer; /* end of the wait, the attempt or the pause */
        struct sl_task task;   /* on_done */
        struct sl_attempt *attempt;
        uint32_t n_attempts;
        uint64_t deadline_ns;
        uint64_t started_ns; /* first attempt; 0: none */
        uint64_t attempt_timeout_ms;
        struct sl_tool_outcome outcome;
    } own; /* the loop's thread */
    struct {
        struct sl_job job;
        uint8_t *text;
        size_t size;
        bool has_failed;
    } written; /* the result as JSON text */
    struct {
        struct sl_list node; /* in tools' waiting list, under its lock */
        bool is_granted;
        struct sl_task task;
    } wait;
};

/* ---- The end ------------------------------------------------------------------------------------
 */

/* JSON text of the result in a block of ours. Nothing when there is none. */
static bool dump(const json_t *json, uint8_t **ret_block, size_t *ret_size)
{
    if (json == NULL) {
        return true;
    }
    const size_t flags = JSON_COMPACT | JSON_ENCODE_ANY;
    const size_t size = json_dumpb(json, NULL, 0, flags);
    uint8_t *block = size == 0 ? NULL : sl_alloc(size);
    if (block == NULL || json_dumpb(json, (char *)block, size, flags) != size) {
        sl_free(block);
        return false;
    }
    *ret_block = block;
    *ret_size = size;
    return true;
}

static void clean_error(const char *error, char *room, size_t room_bytes)
{
    uint8_t repaired[sizeof((struct sl_tool_outcome){ 0 }.error) * 3];
    const size_t size = sl_utf8_repair(sl_slice_str(error), repaired);
    const size_t kept = sl_utf8_cut(sl_slice_of(repaired, size), room_bytes - 1);
    memcpy(room, repaired, kept);
    room[kept] = '\0';
}

static void write_result(struct sl_tool_call *call)
{
    struct sl_tool_outcome *outcome = &call->own.outcome;
    call->written.has_failed = !dump(outcome->result, &call->written.text, &call->written.size);
    outcome->result = (json_decref(outcome->result), NULL);
}

static void deliver(struct sl_tool_call *call)
{
    struct sl_tool_outcome *outcome = &call->own.outcome;
    uint8_t *text = call->written.text;
    if (call->written.has_failed) {
        sl_outcome_fail(outcome, SL_TOOL_OUT_OF_MEMORY, "no memory for the tool's result");
    }
    char error[sizeof outcome->error * 3];
    clean_error(outcome->error, error, sizeof error);
    const uint64_t now_ns = sl_loop_now_ns(call->loop);
    const struct sl_tool_result result = {
        .code = outcome->code,
        .error = error,
        .result_json = sl_slice_of(text, call->written.size),
        .is_truncated = outcome->is_truncated,
        .result_bytes = outcome->result_bytes,
        .attempts = call->own.n_attempts,
        .has_exit_code = outcome->has_exit_code,
        .exit_code = outcome->exit_code,
        .execution_time_ms =
            call->own.started_ns == 0 ? 0 : (now_ns - call->own.started_ns) / SL_NS_PER_MS,
    };
    call->own.state = DONE;
    (void)__atomic_sub_fetch(&call->tools->n_calls, 1, __ATOMIC_RELAXED);
    call->on_done(call, &result, call->user_data); /* may free the call */
    sl_free(text);
}

static void run_write(struct sl_job *job)
{
    write_result(SL_CONTAINER(job, struct sl_tool_call, written.job));
}

static void on_written(struct sl_job *job)
{
    deliver(SL_CONTAINER(job, struct sl_tool_call, written.job));
}

/* Bytes of the texts that a result is made of. */
static size_t text_bytes(json_t *result)
{
    const char *key;
    json_t *value;
    size_t n = json_string_length(result);
    json_object_foreach(result, key, value)
    {
        n += json_string_length(value);
    }
    return n;
}

static void end_call(struct sl_task *task)
{
    struct sl_tool_call *call = SL_CONTAINER(task, struct sl_tool_call, own.task);
    if (text_bytes(call->own.outcome.result) > SL_JOB_DOCUMENT_BYTES) {
        call->written.job = (struct sl_job){ .run = run_write, .on_done = on_written };
        sl_loop_offload(call->loop, &call->written.job);
        return;
    }
    write_result(call);
    deliver(call);
}

/* The outcome stands; on_done comes at the end of the turn, or when a large result is written. */
static void finish(struct sl_tool_call *call)
{
    sl_timer_stop(&call->own.timer);
    call->own.state = ENDING;
    if (call->own.has_slot) {
        call->own.has_slot = false;
        if (!call->own.outcome.is_unreaped) {
            sl_tools_give_back_slot(call->tools);
        }
    }
    sl_loop_defer(call->loop, &call->own.task);
}

static void describe_stop(struct sl_tool_call *call)
{
    struct sl_tool_outcome *outcome = &call->own.outcome;
    const char *name = call->tool->info.name;
    if (call->own.stop == STOP_CANCEL) {
        sl_outcome_fail(outcome, SL_TOOL_CANCELLED, "%s: cancelled", name);
    } else if (call->own.state <= WAITING) {
        sl_outcome_fail(
            outcome, SL_TOOL_TIMEOUT, "%s: the run's time ended before the tool could start", name);
    } else {
        const uint64_t ms = call->own.attempt_timeout_ms;
        if (ms >= call->tools->limits->tool_timeout) {
            sl_limit_reached(SL_LIMIT_tool_timeout);
        }
        sl_outcome_fail(
            outcome, SL_TOOL_TIMEOUT, "%s: no result after %" PRIu64 ".%03" PRIu64 " s, stopped",
            name, ms / 1000, ms % 1000);
    }
}

/* ---- Attempts -----------------------------------------------------------------------------------
 */

static uint64_t remaining_ms(const struct sl_tool_call *call)
{
    const uint64_t now_ns = sl_loop_now_ns(call->loop);
    return now_ns >= call->own.deadline_ns ? 0 : (call->own.deadline_ns - now_ns) / SL_NS_PER_MS;
}

static uint64_t pause_ms(const struct sl_tool_call *call)
{
    const uint64_t base_ms = (uint64_t)FIRST_PAUSE_MS << (call->own.n_attempts - 1);
    return base_ms - base_ms / 5 + sl_random_below(base_ms * 2 / 5 + 1);
}

static void attempt_over(struct sl_tool_call *call);

static void begin_attempt(struct sl_tool_call *call)
{
    const uint64_t left_ms = remaining_ms(call);
    const uint64_t tool_ms = call->tool->info.timeout_ms;
    if (left_ms == 0) {
        call->own.stop = STOP_TIMEOUT;
        call->own.state = call->own.n_attempts == 0 ? WAITING : RUNNING;
        describe_stop(call);
        finish(call);
        return;
    }
    call->own.state = RUNNING;
    call->own.n_attempts++;
    call->own.attempt_timeout_ms = tool_ms < left_ms ? tool_ms : left_ms;
    if (call->own.started_ns == 0) {
        call->own.started_ns = sl_loop_now_ns(call->loop);
    }
    call->own.outcome.result = (json_decref(call->own.outcome.result), NULL);
    call->own.outcome = (struct sl_tool_outcome){ 0 };
    const struct sl_attempt_options options = {
        .call = call,
        .tools = call->tools,
        .loop = call->loop,
        .tool = call->tool,
        .arguments = call->arguments,
        .key = call->key,
        .credentials = call->credentials,
        .timeout_ms = call->own.attempt_timeout_ms,
        .wants_output = call->on_output != NULL,
    };
    if (call->tool->kind->run != NULL) {
        call->tool->kind->run(&options, &call->own.outcome);
        finish(call);
        return;
    }
    call->own.attempt = call->tool->kind->start(&options, &call->own.outcome);
    if (call->own.attempt == NULL) {
        finish(call);
        return;
    }
    sl_timer_start_ms(&call->own.timer, call->own.attempt_timeout_ms);
}

static void attempt_over(struct sl_tool_call *call)
{
    struct sl_tool_outcome *outcome = &call->own.outcome;
    sl_timer_stop(&call->own.timer);
    if (call->own.stop != GO_ON) {
        describe_stop(call);
        outcome->is_retryable = call->own.stop == STOP_TIMEOUT;
    }
    const uint64_t wait_ms = pause_ms(call);
    if (call->own.stop == STOP_CANCEL || !outcome->is_retryable || outcome->is_unreaped ||
        !call->tool->info.is_idempotent || call->own.n_attempts >= MAX_ATTEMPTS ||
        wait_ms >= remaining_ms(call)) {
        finish(call);
        return;
    }
    call->own.stop = GO_ON;
    call->own.state = PAUSING;
    sl_timer_start_ms(&call->own.timer, wait_ms);
}

void sl_attempt_ended(struct sl_attempt *attempt, struct sl_tool_outcome *outcome)
{
    struct sl_tool_call *call = attempt->call;
    assert(call->own.attempt == attempt && call->own.state == RUNNING);
    call->own.outcome = *outcome;
    outcome->result = NULL;
    call->own.attempt = NULL;
    attempt->kind->free(attempt);
    attempt_over(call);
}

void sl_attempt_output(struct sl_attempt *attempt, bool is_stderr, struct sl_slice text)
{
    struct sl_tool_call *call = attempt->call;
    if (call->on_output != NULL && call->own.stop == GO_ON) {
        call->on_output(call, is_stderr, text, call->user_data);
    }
}

/* ---- Checks ------------------------------------------------------------------------------------
 */

static enum sl_status check_text(
    struct sl_slice text,
    size_t max_bytes,
    json_t *parameters,
    json_t **ret_arguments,
    struct sl_error *err)
{
    SL_TRY(sl_schema_parse_object(text, max_bytes, ret_arguments, err));
    return sl_schema_validate(parameters, *ret_arguments, err);
}

static void run_check(struct sl_job *job)
{
    struct check *check = SL_CONTAINER(job, struct check, job);
    check->status = check_text(
        sl_slice_of(check->text, check->size), check->max_bytes, check->parameters,
        &check->arguments, &check->err);
    check->text = sl_free(check->text);
}

static void run_release(struct sl_job *job)
{
    struct check *check = SL_CONTAINER(job, struct check, job);
    json_decref(check->arguments);
}

static void released(struct sl_job *job)
{
    struct check *check = SL_CONTAINER(job, struct check, job);
    json_decref(check->parameters);
    sl_free(check->text);
    sl_free(check);
}

/* Frees the arguments where they were made. */
static void release(struct check *check, struct sl_loop *loop)
{
    check->job.run = run_release;
    check->job.on_done = released;
    sl_loop_offload(loop, &check->job);
}

/* The check that runs is of no use any more. */
static void leave_check(struct sl_tool_call *call)
{
    struct check *check = SL_TAKE(call->check);
    check->call = NULL;
    sl_job_take_back(&check->job);
}

/* The call goes, and its arguments. */
static void drop_check(struct sl_tool_call *call)
{
    struct check *check = SL_TAKE(call->check);
    if (check == NULL) {
        json_decref(call->arguments);
    } else if (call->arguments != NULL) {
        check->arguments = SL_TAKE(call->arguments);
        release(check, call->loop);
    } else {
        released(&check->job);
    }
}

/* ---- Slots --------------------------------------------------------------------------------------
 */

static void granted(struct sl_task *task)
{
    struct sl_tool_call *call = SL_CONTAINER(task, struct sl_tool_call, wait.task);
    call->own.has_slot = true;
    sl_timer_stop(&call->own.timer);
    if (call->own.stop != GO_ON) { /* stopped while the slot was on its way */
        describe_stop(call);
        finish(call);
        return;
    }
    begin_attempt(call);
}

/* The lock is held. It cannot end before it has been told. */
static void grant_first(struct sl_tool_slots *slots)
{
    struct sl_list *first = sl_list_first(&slots->waiting);
    struct sl_tool_call *call = SL_CONTAINER(first, struct sl_tool_call, wait.node);
    sl_list_remove(first);
    call->wait.is_granted = true;
    sl_loop_post(call->loop, &call->wait.task);
}

void sl_tools_give_back_slot(struct sl_tools *tools)
{
    struct sl_tool_slots *slots = tools->slots;
    (void)pthread_mutex_lock(&slots->lock);
    if (sl_list_is_empty(&slots->waiting) || slots->n_running > slots->max) {
        slots->n_running--;
    } else {
        grant_first(slots);
    }
    (void)pthread_mutex_unlock(&slots->lock);
}

void sl_tool_slots_set_max(struct sl_tool_slots *slots, uint64_t max)
{
    (void)pthread_mutex_lock(&slots->lock);
    slots->max = (size_t)max;
    while (slots->n_running < slots->max && !sl_list_is_empty(&slots->waiting)) {
        slots->n_running++;
        grant_first(slots);
    }
    (void)pthread_mutex_unlock(&slots->lock);
}

/* True: the call has a slot. False: it waits. */
static bool take_slot(struct sl_tool_call *call)
{
    struct sl_tool_slots *slots = call->tools->slots;
    (void)pthread_mutex_lock(&slots->lock);
    const bool is_free = slots->n_running < slots->max && sl_list_is_empty(&slots->waiting);
    if (is_free) {
        slots->n_running++;
    } else {
        sl_list_add_last(&slots->waiting, &call->wait.node);
        sl_limit_reached(SL_LIMIT_tools);
    }
    (void)pthread_mutex_unlock(&slots->lock);
    return is_free;
}

/* True: it does not wait any more. False: the slot is on its way and must be awaited. */
static bool leave_queue(struct sl_tool_call *call)
{
    struct sl_tool_slots *slots = call->tools->slots;
    (void)pthread_mutex_lock(&slots->lock);
    const bool is_out = !call->wait.is_granted;
    if (is_out) {
        sl_list_remove(&call->wait.node);
    }
    (void)pthread_mutex_unlock(&slots->lock);
    return is_out;
}

/* ---- Stopping -----------------------------------------------------------------------------------
 */

static void stop(struct sl_tool_call *call, enum stop why)
{
    if (call->own.state >= ENDING) {
        return;
    }
    if (call->own.stop != STOP_CANCEL) {
        call->own.stop = why;
    }
    if (call->own.state == RUNNING) {
        sl_timer_stop(&call->own.timer);
        call->own.attempt->kind->stop(call->own.attempt);
        return;
    }
    if (call->own.state == CHECKING) {
        leave_check(call);
    }
    const bool is_out = call->own.state == CHECKING || call->own.state == PAUSING;
    if (is_out || leave_queue(call)) {
        describe_stop(call);
        finish(call);
    }
}

static void time_is_up(void *user_data)
{
    struct sl_tool_call *call = user_data;
    if (call->own.state == PAUSING) {
        begin_attempt(call);
    } else {
        stop(call, STOP_TIMEOUT);
    }
}

uint64_t sl_tool_call_bytes(const struct sl_tool_call *call)
{
    SL_ON_LOOP(call->loop);
    struct sl_attempt *attempt = call->own.attempt;
    return sizeof(*call) + (call->check == NULL ? 0 : sizeof(*call->check) + call->check->size) +
           (attempt == NULL ? 0 : attempt->kind->bytes(attempt));
}

void sl_tool_call_cancel(struct sl_tool_call *call)
{
    SL_ON_LOOP(call->loop);
    stop(call, STOP_CANCEL);
}

/* ---- Start and free -----------------------------------------------------------------------------
 */

/* Until it runs, only the run's time bounds it. */
static void watch_deadline(struct sl_tool_call *call)
{
    if (call->own.deadline_ns < SL_NEVER_NS - 1) {
        sl_timer_start(&call->own.timer, call->own.deadline_ns);
    }
}

/* The arguments are known to be right or wrong. */
static void checked(struct sl_tool_call *call, enum sl_status status, const struct sl_error *err)
{
    sl_timer_stop(&call->own.timer);
    call->own.state = WAITING;
    if (status != SL_OK) {
        sl_outcome_fail(
            &call->own.outcome,
            status == SL_RESOURCE_EXHAUSTED ? SL_TOOL_OUT_OF_MEMORY : SL_TOOL_INVALID_ARGS, "%s",
            err->text);
        finish(call);
    } else if (take_slot(call)) {
        call->own.has_slot = true;
        begin_attempt(call);
    } else {
        watch_deadline(call);
    }
}

static void on_checked(struct sl_job *job)
{
    struct check *check = SL_CONTAINER(job, struct check, job);
    struct sl_tool_call *call = check->call;
    if (call == NULL) {
        release(check, job->loop);
        return;
    }
    call->arguments = SL_TAKE(check->arguments);
    checked(call, check->status, &check->err);
}

static bool start_check(struct sl_tool_call *call, struct sl_slice text)
{
    struct check *check = sl_calloc(1, sizeof *check);
    if (check == NULL) {
        return false;
    }
    check->text = sl_strndup((const char *)text.data, text.size);
    if (check->text == NULL) {
        sl_free(check);
        return false;
    }
    check->job = (struct sl_job){ .run = run_check, .on_done = on_checked };
    check->call = call;
    check->size = text.size;
    check->max_bytes = call->tools->limits->tool_arguments;
    check->parameters = json_incref(call->tool->parameters);
    call->check = check;
    sl_loop_offload(call->loop, &check->job);
    return true;
}

static bool has_credentials(struct sl_tool_call *call)
{
    const struct sl_tool_info *info = &call->tool->info;
    for (size_t i = 0; info->forward != NULL && info->forward[i] != NULL; i++) {
        if (sl_credentials_find(call->credentials, info->forward[i]) == NULL) {
            sl_outcome_fail(
                &call->own.outcome, SL_TOOL_DENIED,
                "%s: needs the credential '%s', which this run does not have", info->name,
                info->forward[i]);
            return false;
        }
    }
    return true;
}

/* May the tool be called at all? False: the outcome says why not. */
static bool is_allowed(struct sl_tool_call *call)
{
    struct sl_tool_outcome *outcome = &call->own.outcome;
    const struct sl_tool_info *info = &call->tool->info;
    if (info->policy == SL_TOOL_DENY) {
        sl_outcome_fail(outcome, SL_TOOL_DENIED, "%s: not allowed by its policy", info->name);
        return false;
    }
    if (info->policy == SL_TOOL_ASK && !call->is_approved) {
        sl_outcome_fail(
            outcome, SL_TOOL_DENIED, "%s: needs an approval, and nobody can give one", info->name);
        return false;
    }
    return has_credentials(call);
}

static void begin(struct sl_tool_call *call, struct sl_slice arguments_json)
{
    struct sl_error err = { 0 };
    const size_t max_bytes = call->tools->limits->tool_arguments;
    if (!is_allowed(call)) {
        finish(call);
    } else if (arguments_json.size <= SL_JOB_DOCUMENT_BYTES || arguments_json.size > max_bytes) {
        if (arguments_json.size > max_bytes) {
            sl_limit_reached(SL_LIMIT_tool_arguments);
        }
        const enum sl_status status =
            check_text(arguments_json, max_bytes, call->tool->parameters, &call->arguments, &err);
        checked(call, status, &err);
    } else if (start_check(call, arguments_json)) {
        watch_deadline(call);
    } else {
        checked(call, sl_fail(&err, SL_RESOURCE_EXHAUSTED, "no memory"), &err);
    }
}

static char *make_key(const struct sl_tool_call_options *options)
{
    const size_t size = strlen(options->run_id) + strlen(options->tool_id) + 2;
    char *key = sl_alloc(size);
    if (key != NULL) {
        (void)snprintf(key, size, "%s:%s", options->run_id, options->tool_id);
    }
    return key;
}

static struct sl_tool_call *
make_call(struct sl_tools *tools, struct sl_loop *loop, const struct sl_tool_call_options *options)
{
    struct sl_tool_call *call = sl_calloc(1, sizeof *call);
    if (call == NULL) {
        return NULL;
    }
    call->key = make_key(options);
    if (call->key == NULL) {
        sl_free(call);
        return NULL;
    }
    call->tools = tools;
    call->loop = loop;
    call->tool = sl_tool_ref(options->tool);
    call->credentials = options->credentials;
    call->is_approved = options->is_approved;
    call->on_done = options->on_done;
    call->on_output = options->on_output;
    call->user_data = options->user_data;
    call->own.task.run = end_call;
    call->wait.task.run = granted;
    sl_list_init(&call->wait.node);
    sl_timer_init(&call->own.timer, loop, time_is_up, call);
    const uint64_t now_ns = sl_loop_now_ns(loop);
    const uint64_t most_ms = (SL_NEVER_NS - 1 - now_ns) / SL_NS_PER_MS;
    const uint64_t left_ms = options->remaining_ms < most_ms ? options->remaining_ms : most_ms;
    call->own.deadline_ns = now_ns + left_ms * SL_NS_PER_MS;
    return call;
}

enum sl_status sl_tool_call_start(
    struct sl_tools *tools,
    struct sl_loop *loop,
    const struct sl_tool_call_options *options,
    struct sl_tool_call **ret_call)
{
    SL_ON_LOOP(loop);
    struct sl_tool_call *call = make_call(tools, loop, options);
    if (call == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    (void)__atomic_add_fetch(&tools->n_calls, 1, __ATOMIC_RELAXED);
    *ret_call = call;
    begin(call, options->arguments_json);
    return SL_OK;
}

struct sl_tool_call *sl_tool_call_free(struct sl_tool_call *call)
{
    if (call != NULL) {
        assert(call->own.state == DONE);
        json_decref(call->own.outcome.result);
        drop_check(call);
        (void)sl_tool_unref(call->tool);
        sl_free(call->key);
        sl_free(call);
    }
    return NULL;
}
