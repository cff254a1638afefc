#include "runtime/queued.h"

#include "runtime/base/mem.h"
#include "runtime/query_private.h"

enum { RUN_BYTES = 256 }; /* as of any run in a reply */

void sl_queued_begin(struct sl_run_stream *stream)
{
    struct sl_runtime_loop *at = &stream->runtime->loops[stream->reader_loop->index];
    if (sl_list_is_empty(&stream->reader.queued_node)) {
        stream->reader.queued_ms = sl_loop_wall_ms(stream->reader_loop);
        sl_list_add_last(&at->loop.queued, &stream->reader.queued_node);
    }
}

void sl_queued_end(struct sl_run_stream *stream)
{
    sl_list_remove(&stream->reader.queued_node);
}

static bool is_or_any(const char *text, const char *wanted)
{
    return wanted[0] == '\0' || strcmp(text, wanted) == 0;
}

static const char *session_id_of(const struct sl_run_stream *stream)
{
    return stream->start.session_id == NULL ? "" : stream->start.session_id;
}

bool sl_queued_fits(const struct sl_run_stream *stream, const struct sl_run_ask *ask)
{
    return strcmp(stream->tenant, ask->tenant) == 0 &&
           is_or_any(stream->start.agent->name, ask->agent) &&
           is_or_any(session_id_of(stream), ask->session_id) &&
           (ask->stage == SL_RUN_STAGE_ANY || ask->stage == SL_RUN_STAGE_QUEUED);
}

uint64_t sl_queued_bytes(const struct sl_run_stream *stream)
{
    uint64_t bytes = RUN_BYTES;
    for (size_t i = 0; i < stream->start.n_metadata; i++) {
        bytes += strlen(stream->start.metadata[i].key) + strlen(stream->start.metadata[i].value);
    }
    return bytes;
}

struct sl_run_stream *
sl_queued_find(const struct sl_runtime_loop *at, const char *run_id, const char *tenant)
{
    SL_LIST_EACH(node, &at->loop.queued) {
        struct sl_run_stream *stream = SL_CONTAINER(node, struct sl_run_stream, reader.queued_node);
        if (strcmp(stream->run_id, run_id) == 0 && strcmp(stream->tenant, tenant) == 0) {
            return stream;
        }
    }
    return NULL;
}

static enum sl_status
copy_metadata(const struct sl_run_stream *stream, struct sl_arena *arena, struct sl_run_info *info)
{
    const size_t n = stream->start.n_metadata;
    struct sl_run_pair *pairs = sl_arena_calloc(arena, n + 1, sizeof(*pairs));
    bool is_whole = pairs != NULL;
    for (size_t i = 0; i < n && is_whole; i++) {
        pairs[i].key = sl_arena_dup(arena, sl_slice_str(stream->start.metadata[i].key));
        pairs[i].value = sl_arena_dup(arena, sl_slice_str(stream->start.metadata[i].value));
        is_whole = pairs[i].key != NULL && pairs[i].value != NULL;
    }
    info->metadata = pairs;
    info->n_metadata = n;
    return is_whole ? SL_OK : SL_RESOURCE_EXHAUSTED;
}

enum sl_status sl_queued_fill(
    const struct sl_run_stream *stream, struct sl_arena *arena, struct sl_run_info *ret_info)
{
    *ret_info = (struct sl_run_info){
        .run_id = sl_arena_dup(arena, sl_slice_str(stream->run_id)),
        .agent = sl_arena_dup(arena, sl_slice_str(stream->start.agent->name)),
        .session_id = sl_arena_dup(arena, sl_slice_str(session_id_of(stream))),
        .stage = SL_RUN_STAGE_QUEUED,
        .created_at_ms = stream->reader.queued_ms,
    };
    if (ret_info->run_id == NULL || ret_info->agent == NULL || ret_info->session_id == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    return copy_metadata(stream, arena, ret_info);
}

/* ---- One run -----------------------------------------------------------------------------------
 */

/* At home. It may have begun while the loops were asked. */
static void run_not_queued(struct sl_task *task)
{
    struct sl_run_query *query = SL_CONTAINER(task, struct sl_run_query, task);
    if (query->is_closed) {
        sl_query_go_home(query, SL_CANCELLED);
    } else if (!sl_query_ask_run(query)) {
        sl_query_ask_store(query);
    }
}

static enum sl_status answer(struct sl_run_query *query, struct sl_run_stream *stream)
{
    query->answer.n_runs = 1;
    query->infos = sl_arena_calloc(&query->arena, 1, sizeof(*query->infos));
    if (query->infos == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    SL_TRY(sl_queued_fill(stream, &query->arena, &query->infos[0]));
    query->infos[0].context_absent = "the run has not begun";
    if (query->ask.kind == SL_RUN_ASK_CANCEL) {
        query->infos[0].stage = SL_RUN_STAGE_CANCELLED;
        sl_run_stream_drop(stream);
    }
    return SL_OK;
}

static void run_queued(struct sl_task *task)
{
    struct sl_run_query *query = SL_CONTAINER(task, struct sl_run_query, task);
    const struct sl_runtime *runtime = query->runtime;
    struct sl_run_stream *stream =
        sl_queued_find(&runtime->loops[query->list.loop], query->ask.run_id, query->ask.tenant);
    if (stream != NULL) {
        sl_query_go_home(query, answer(query, stream));
    } else if (query->list.loop + 1 < runtime->n_loops) {
        sl_query_go_to(query, query->list.loop + 1);
    } else {
        query->task.run = run_not_queued;
        sl_loop_post(query->home, &query->task);
    }
}

bool sl_queued_ask(struct sl_run_query *query)
{
    struct sl_directory_counts counts;
    sl_directory_count(query->runtime->directory, &counts);
    if (counts.queued + counts.waiting == 0) {
        return false;
    }
    query->task.run = run_queued;
    sl_query_go_to(query, 0);
    return true;
}
