/* A run that rests in the store goes on in this process: with the agent of that name, as it is
 * today, in a slot of its own, known to everybody who asks, and without a reader until one comes.
 *
 *   home: read, agent, place ─▶ the run's loop: sl_run_stream_take_up ─▶ home: on_done */
#include <stdio.h>

#include "runtime/base/mem.h"
#include "runtime/base/utf8.h"
#include "runtime/runtime_private.h"

enum { HISTORY_FACTOR = 2 /* as of a run that starts */ };

SL_PRINTF(2, 3)
static bool refuse(struct sl_taking *taking, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(taking->why, sizeof(taking->why), fmt, args);
    va_end(args);
    taking->why[sl_utf8_cut(sl_slice_str(taking->why), sizeof(taking->why) - 1)] = '\0';
    return false;
}

static const char unreadable[] = "What was kept of the run cannot be read";
static const char no_memory[] = "There is no memory to take the run up";

/* ---- What it is made of ------------------------------------------------------------------------
 */

static bool read_resume(struct sl_taking *taking)
{
    switch ((int)sl_resume_read(taking->run->resume, &taking->resume)) {
    case SL_OK:
        return true;
    case SL_UNIMPLEMENTED:
        return refuse(taking, "A newer server has parked the run");
    default:
        return refuse(taking, "%s", unreadable);
    }
}

static bool find_agent(struct sl_taking *taking, struct sl_generation *generation)
{
    const char *name = taking->run->agent;
    struct sl_error err = { .text = "" };
    const struct sl_agent *agent = sl_agents_find(generation->agents, name);
    if (agent == NULL) {
        return refuse(taking, "Its agent is not there any more: %s", name);
    }
    if (sl_models_check(generation->models, agent->provider, &err) != SL_OK) {
        return refuse(taking, "Its agent cannot run any more: %s", err.text);
    }
    taking->stream->start.agent = agent;
    return true;
}

static const char *keep(struct sl_run_stream *stream, const char *text)
{
    return sl_history_text(&stream->start.history, sl_slice_str(text == NULL ? "" : text));
}

static bool keep_metadata(struct sl_run_stream *stream, const struct sl_store_run *run)
{
    struct sl_store_pair *pairs =
        sl_arena_calloc(&stream->start.history.arena, run->n_metadata + 1, sizeof(*pairs));
    bool is_whole = pairs != NULL;
    for (size_t i = 0; i < run->n_metadata && is_whole; i++) {
        pairs[i].key = keep(stream, run->metadata[i].key);
        pairs[i].value = keep(stream, run->metadata[i].value);
        is_whole = pairs[i].key != NULL && pairs[i].value != NULL;
    }
    stream->start.metadata = pairs;
    stream->start.n_metadata = run->n_metadata;
    return is_whole;
}

static bool keep_session(struct sl_run_stream *stream, const struct sl_store_run *run)
{
    if (sl_slice_str(run->session_id).size == 0 || stream->start.agent->memory == SL_MEMORY_NONE) {
        return true;
    }
    stream->start.session_id = keep(stream, run->session_id);
    stream->start.session_store = sl_run_session_store(stream->runtime, stream->start.agent);
    return stream->start.session_id != NULL;
}

static bool keep_texts(struct sl_taking *taking)
{
    struct sl_run_stream *stream = taking->stream;
    const struct sl_store_run *run = taking->run;
    const Sluice__Store__V1__Resume *message = taking->resume.message;
    stream->start.input = keep(stream, sl_resume_input(&taking->resume, &stream->start.history));
    stream->start.peer = keep(stream, message->peer);
    stream->start.caller = keep(stream, message->caller);
    stream->start.request_id = keep(stream, run->request_id);
    memcpy(
        stream->start.digest, run->digest.data,
        run->digest.size == SL_SHA256_BYTES ? SL_SHA256_BYTES : 0);
    return stream->start.input != NULL && stream->start.peer != NULL &&
           stream->start.caller != NULL && stream->start.request_id != NULL &&
           keep_metadata(stream, run) && keep_session(stream, run);
}

static bool fill_start(struct sl_taking *taking)
{
    struct sl_run_stream *stream = taking->stream;
    const struct sl_limits *limits = &stream->generation->limits;
    const struct sl_store_run *run = taking->run;
    sl_history_init(&stream->start.history, limits->model_request * HISTORY_FACTOR);
    const enum sl_status status = sl_resume_conversation(&taking->resume, &stream->start.history);
    if (status != SL_OK) {
        return refuse(taking, "%s", status == SL_RESOURCE_EXHAUSTED ? no_memory : unreadable);
    }
    sl_resume_settings(&taking->resume, limits, run->durability, &stream->start.settings);
    stream->start.after_sequence = run->last_sequence;
    stream->start.created_ms = run->created_ms;
    (void)snprintf(stream->run_id, sizeof(stream->run_id), "%s", run->run_id);
    return keep_texts(taking) || refuse(taking, "%s", no_memory);
}

/* ---- Its place ---------------------------------------------------------------------------------
 */

static bool take_place(struct sl_taking *taking)
{
    struct sl_run_stream *stream = taking->stream;
    const struct sl_directory_ask ask = { .home = taking->home->index,
                                          .tenant = stream->tenant,
                                          .run_id = stream->run_id,
                                          .request_id = stream->start.request_id,
                                          .digest = stream->start.digest,
                                          .agent = stream->start.agent->name,
                                          .session_id = stream->start.session_id,
                                          .policy = SL_SESSION_REJECT,
                                          .now_ns = sl_loop_now_ns(taking->home) };
    switch ((int)sl_directory_take_up(stream->runtime->directory, &stream->ticket, &ask)) {
    case SL_ADMIT_RUN:
        stream->owner = &stream->runtime->loops[stream->ticket.loop];
        stream->reader_loop = stream->owner->base; /* where nobody reads */
        return true;
    case SL_ADMIT_NO_MEMORY:
        return refuse(taking, "%s", no_memory);
    default:
        return refuse(taking, "Another run has its session or its request");
    }
}

static bool prepare(struct sl_taking *taking)
{
    static const struct sl_run_callbacks nobody = { .user_data = NULL };
    struct sl_runtime *runtime = taking->runtime;
    struct sl_generation *generation = runtime->loops[taking->home->index].loop.current;
    if (!read_resume(taking)) {
        return false;
    }
    if (generation == NULL) {
        return refuse(taking, "The server is going down");
    }
    taking->stream = sl_run_stream_new(runtime, taking->home, taking->run->tenant, &nobody);
    if (taking->stream == NULL) {
        return refuse(taking, "%s", no_memory);
    }
    atomic_store(&taking->stream->is_closed, true);
    taking->stream->generation = generation;
    return find_agent(taking, generation) && fill_start(taking) && take_place(taking);
}

/* ---- The way -----------------------------------------------------------------------------------
 */

static void run_done(struct sl_task *task)
{
    struct sl_taking *taking = SL_CONTAINER(task, struct sl_taking, task);
    sl_resume_done(&taking->resume);
    taking->on_done(taking);
}

static void go_home(struct sl_taking *taking)
{
    taking->task.run = run_done;
    sl_loop_post(taking->home, &taking->task);
}

/* On the run's loop. */
static void run_take(struct sl_task *task)
{
    struct sl_taking *taking = SL_CONTAINER(task, struct sl_taking, task);
    taking->is_taken = sl_run_stream_take_up(taking->stream, &taking->resume, taking->log);
    if (!taking->is_taken) {
        (void)refuse(taking, "%s", no_memory);
    }
    go_home(taking);
}

void sl_taking_begin(struct sl_taking *taking)
{
    SL_ON_LOOP(taking->home);
    if (!prepare(taking)) {
        if (taking->stream != NULL) {
            sl_run_stream_unref(SL_TAKE(taking->stream));
        }
        go_home(taking);
        return;
    }
    sl_generation_ref(taking->stream->generation);
    taking->task.run = run_take;
    sl_loop_post(taking->stream->owner->base, &taking->task);
}
