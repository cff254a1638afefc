/* Runs whose owner is gone, at the start: each is claimed, and taken up if it rested, or else read
 * and closed (AL-5.27, RL-X1).
 *
 *   claim ┬▶ it goes on (take_up.c) ─────────────────────────────┬▶ claim the next …
 *         └▶ read* ─▶ what is open is closed ─▶ append ─▶ end ───┘
 *
 * A few at once, so that they share commits; what is remembered of a run is its conversation. */
#include <inttypes.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/exec/closing.h"
#include "runtime/exec/encode.h"
#include "runtime/runtime_private.h"

enum { JOBS = 8, MAX_TRIES = 5, RETRY_MS = 100 }; /* of a store that opens its file again */

struct recovery;

/* One run after the other. */
struct job {
    struct recovery *recovery;
    struct sl_store_log log;
    struct sl_store_recover claim; /* has the run's texts until the job has ended it */
    struct sl_store_read read;
    struct sl_store_append append;
    struct sl_store_end end;
    struct sl_closing closing;
    struct sl_closing_events events;
    struct sl_store_session session; /* of the end */
    struct sl_taking taking;
    unsigned n_tries;
    struct sl_timer retry_timer;
    void (*again)(struct job *job);
    bool is_damaged;
};

struct recovery {
    struct sl_runtime *runtime;
    struct sl_loop *loop;
    void (*on_done)(enum sl_status status, void *user_data);
    void *user_data;
    struct sl_task done_task;
    enum sl_status status; /* the first that was not good */
    uint64_t n_taken, n_ended, n_failed;
    size_t n_jobs;
    struct job jobs[JOBS];
};

static void claim(struct job *job);
static void read_on(struct job *job);
static void append(struct job *job);
static void end(struct job *job);

static struct sl_store_request request_of(const struct job *job, sl_store_done_fn *on_done)
{
    return (struct sl_store_request){ .loop = job->recovery->loop, .on_done = on_done };
}

/* ---- Done --------------------------------------------------------------------------------------
 */

static void run_done(struct sl_task *task)
{
    struct recovery *recovery = SL_CONTAINER(task, struct recovery, done_task);
    if (recovery->n_taken > 0 || recovery->n_ended > 0 || recovery->n_failed > 0) {
        sl_log(
            SL_WARN, SL_LOG_STORE,
            "taken_up=%" PRIu64 " ended=%" PRIu64 " failed=%" PRIu64
            " msg=\"runs had lost their owner\"",
            recovery->n_taken, recovery->n_ended, recovery->n_failed);
    }
    atomic_store_explicit(&recovery->runtime->n_recovered, recovery->n_ended, memory_order_relaxed);
    void (*on_done)(enum sl_status status, void *user_data) = recovery->on_done;
    void *user_data = recovery->user_data;
    const enum sl_status status = recovery->status;
    (void)sl_free(recovery);
    on_done(status, user_data);
}

static void stop_job(struct job *job, enum sl_status status)
{
    struct recovery *recovery = job->recovery;
    if (recovery->status == SL_OK && status != SL_END) {
        recovery->status = status;
    }
    if (--recovery->n_jobs == 0) {
        sl_loop_post(recovery->loop, &recovery->done_task);
    }
}

static void leave_run(struct job *job)
{
    sl_store_request_done(&job->claim.request);
    sl_closing_done(&job->closing);
    sl_closing_init(&job->closing, 0); /* of the next one, which may need none */
    job->events.segment = sl_segment_unref(job->events.segment);
    sl_buf_done(&job->events.context);
    job->n_tries = 0;
}

static void on_retry_timer(void *user_data)
{
    struct job *job = user_data;
    job->again(job);
}

/* True: `again` comes a little later. */
static bool tries_again(struct job *job, enum sl_status status, void (*again)(struct job *job))
{
    const bool is_passing = status == SL_UNAVAILABLE || status == SL_RESOURCE_EXHAUSTED;
    if (!is_passing || ++job->n_tries == MAX_TRIES) {
        return false;
    }
    job->again = again;
    sl_timer_start_ms(&job->retry_timer, (uint64_t)job->n_tries * RETRY_MS);
    return true;
}

/* This run stays as it is until the next start; the others go on. */
static void give_up(struct job *job, enum sl_status status, const char *doing)
{
    sl_log(
        SL_ERROR, SL_LOG_STORE, "run=%s status=%s msg=\"cannot be ended\" doing=%s",
        job->claim.run.run_id, sl_status_name(status), doing);
    job->recovery->n_failed++;
    sl_store_log_drop(job->recovery->runtime->store, &job->log);
    leave_run(job);
    claim(job);
}

/* ---- The end -----------------------------------------------------------------------------------
 */

static void ended(struct job *job, enum sl_status status)
{
    if (tries_again(job, status, end)) {
        return;
    }
    if (status != SL_OK) {
        give_up(job, status, "end");
        return;
    }
    sl_log(
        SL_INFO, SL_LOG_STORE, "run=%s agent=%s msg=\"ended: its owner was lost\" last=%" PRIu64,
        job->claim.run.run_id, job->claim.run.agent, job->events.last_sequence);
    job->recovery->n_ended++;
    leave_run(job);
    claim(job);
}

static void on_ended(struct sl_store_request *request)
{
    ended(SL_CONTAINER(request, struct job, end.request), request->status);
}

/* NULL: it stays as it is. */
static const struct sl_store_session *session_of(struct job *job)
{
    const struct sl_store_run *run = &job->claim.run;
    const struct sl_slice messages = sl_buf_slice(&job->events.context);
    const struct sl_limits *limits = sl_runtime_limits(job->recovery->runtime, job->recovery->loop);
    if (!job->events.is_session || run->session_id[0] == '\0' || limits == NULL ||
        messages.size > limits->session_size) {
        return NULL;
    }
    job->session = (struct sl_store_session){ .tenant = run->tenant,
                                              .agent = run->agent,
                                              .session_id = run->session_id,
                                              .messages = messages };
    return &job->session;
}

static void end(struct job *job)
{
    struct sl_segment *segment = job->events.segment;
    job->end = (struct sl_store_end){
        .request = request_of(job, on_ended),
        .log = &job->log,
        .sequence = job->events.last_sequence,
        .range = { .segment = segment, .from = job->events.terminal_from, .to = segment->used },
        .state = SL_STORE_STATE_FAILED,
        .ended_ms = sl_loop_wall_ms(job->recovery->loop),
        .session = session_of(job),
        .session_if_own = true,
        .context = sl_buf_slice(&job->events.context),
    };
    const enum sl_status status = sl_store_end_run(job->recovery->runtime->store, &job->end);
    if (status != SL_PENDING) {
        ended(job, status);
    }
}

static void appended(struct job *job, enum sl_status status)
{
    if (tries_again(job, status, append)) {
        return;
    }
    if (status != SL_OK) {
        give_up(job, status, "append");
    } else {
        end(job);
    }
}

static void on_appended(struct sl_store_request *request)
{
    appended(SL_CONTAINER(request, struct job, append.request), request->status);
}

/* What stands before the terminal event. */
static void append(struct job *job)
{
    struct sl_closing_events *events = &job->events;
    if (events->first_sequence == events->last_sequence) {
        end(job);
        return;
    }
    job->append = (struct sl_store_append){
        .request = request_of(job, on_appended),
        .log = &job->log,
        .first_sequence = events->first_sequence,
        .last_sequence = events->last_sequence - 1,
        .ranges = { { .segment = events->segment, .to = events->terminal_from } },
        .n_ranges = 1,
    };
    const enum sl_status status = sl_store_append(job->recovery->runtime->store, &job->append);
    if (status != SL_PENDING && status != SL_AGAIN) {
        appended(job, status);
    }
}

/* ---- What is there -----------------------------------------------------------------------------
 */

/* A log that cannot be read to its end cannot be closed in order either, and says so (AL-5.29). */
static void close_log(struct job *job)
{
    const struct sl_store_run *run = &job->claim.run;
    const struct sl_closing_run known = {
        .run_id = run->run_id,
        .agent = run->agent,
        .session_id = run->session_id,
        .on_disconnect = run->on_disconnect,
        .created_ms = run->created_ms,
    };
    struct sl_ending ending =
        sl_ending_error(job->is_damaged ? SL_CODE(DATA_LOSS) : SL_CODE(WORKER_LOST));
    if (!job->is_damaged && job->taking.why[0] != '\0') {
        sl_ending_say(&ending, "%s", job->taking.why);
    }
    const enum sl_status status = sl_closing_write(
        &job->closing, &known, &ending, sl_loop_wall_ms(job->recovery->loop), &job->events);
    if (status != SL_OK) {
        give_up(job, status, "close");
        return;
    }
    append(job);
}

static void found_damage(struct job *job)
{
    sl_closing_done(&job->closing);
    sl_closing_init(&job->closing, job->claim.run.last_sequence);
    job->is_damaged = true;
    close_log(job);
}

/* Answers whether there is more to read. */
static enum sl_status take_page(struct job *job)
{
    const struct sl_store_read *read = &job->read;
    SL_TRY(sl_closing_feed(&job->closing, read->bytes));
    if (job->closing.sequence >= job->claim.run.last_sequence) {
        return SL_END;
    }
    return read->bytes.size == 0 ? SL_DATA_LOSS : SL_OK;
}

static void page_read(struct job *job, enum sl_status status)
{
    status = status == SL_OK ? take_page(job) : status;
    sl_store_request_done(&job->read.request);
    if (status == SL_OK) {
        read_on(job);
    } else if (status == SL_END) {
        close_log(job);
    } else if (status == SL_DATA_LOSS) {
        found_damage(job);
    } else if (!tries_again(job, status, read_on)) {
        give_up(job, status, "read");
    }
}

static void on_read(struct sl_store_request *request)
{
    page_read(SL_CONTAINER(request, struct job, read.request), request->status);
}

static void read_on(struct job *job)
{
    if (job->closing.sequence >= job->claim.run.last_sequence) {
        close_log(job);
        return;
    }
    job->read = (struct sl_store_read){
        .request = request_of(job, on_read),
        .run_id = job->claim.run.run_id,
        .after_sequence = job->closing.sequence,
    };
    const enum sl_status status = sl_store_read(job->recovery->runtime->store, &job->read);
    if (status != SL_PENDING) {
        page_read(job, status);
    }
}

/* ---- Claiming ----------------------------------------------------------------------------------
 */

static void close_run(struct job *job)
{
    const struct sl_store_run *run = &job->claim.run;
    const uint64_t floor = run->floor == 0 ? 1 : run->floor;
    const struct sl_limits *limits = sl_runtime_limits(job->recovery->runtime, job->recovery->loop);
    sl_closing_init(&job->closing, floor - 1);
    if (limits != NULL) {
        sl_closing_tell(&job->closing, run, limits);
    }
    read_on(job);
}

static void on_taken(struct sl_taking *taking)
{
    struct job *job = SL_CONTAINER(taking, struct job, taking);
    if (!taking->is_taken) {
        close_run(job);
        return;
    }
    job->recovery->n_taken++;
    leave_run(job);
    claim(job);
}

/* Nothing behind its last event was seen by anybody. One that ends with its reader never rests. */
static bool can_go_on(const struct sl_store_run *run)
{
    return run->is_rested && run->resume.size > 0;
}

static void take(struct job *job)
{
    job->is_damaged = false;
    job->events = (struct sl_closing_events){ .segment = NULL };
    job->taking = (struct sl_taking){ .runtime = job->recovery->runtime,
                                      .home = job->recovery->loop,
                                      .run = &job->claim.run,
                                      .log = &job->log,
                                      .on_done = on_taken };
    if (can_go_on(&job->claim.run)) {
        sl_taking_begin(&job->taking);
    } else {
        close_run(job);
    }
}

static void not_claimed(struct job *job, enum sl_status status)
{
    if (!tries_again(job, status, claim)) {
        stop_job(job, status);
    }
}

static void on_claimed(struct sl_store_request *request)
{
    struct job *job = SL_CONTAINER(request, struct job, claim.request);
    if (request->status == SL_OK) {
        take(job);
        return;
    }
    const enum sl_status status = request->status;
    sl_store_request_done(request);
    not_claimed(job, status);
}

static void claim(struct job *job)
{
    job->claim =
        (struct sl_store_recover){ .request = request_of(job, on_claimed), .log = &job->log };
    const enum sl_status status = sl_store_recover(job->recovery->runtime->store, &job->claim);
    if (status != SL_PENDING) {
        not_claimed(job, status);
    }
}

enum sl_status sl_runtime_recover(
    struct sl_runtime *runtime,
    struct sl_loop *loop,
    void (*on_done)(enum sl_status status, void *user_data),
    void *user_data)
{
    struct recovery *recovery = sl_calloc(1, sizeof(*recovery));
    if (recovery == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    recovery->runtime = runtime;
    recovery->loop = loop;
    recovery->on_done = on_done;
    recovery->user_data = user_data;
    recovery->done_task.run = run_done;
    recovery->n_jobs = JOBS;
    for (size_t i = 0; i < JOBS; i++) {
        struct job *job = &recovery->jobs[i];
        job->recovery = recovery;
        sl_timer_init(&job->retry_timer, loop, on_retry_timer, job);
        sl_closing_init(&job->closing, 0);
        claim(job);
    }
    return SL_OK;
}
