/* What a store keeps of a run that rests: its writer. */
#include "runtime/exec/encode.h"
#include "runtime/exec/run_private.h"
#include "runtime/exec/session_codec.h"

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The message, and what it points to besides the run. */
struct writer {
    Sluice__Store__V1__Resume message;
    Sluice__Store__V1__ResumeSettings settings;
    Sluice__Store__V1__ResumeBudget budget;
    struct sl_arena arena; /* of the lists */
    struct sl_buf conversation;
};

static ProtobufCBinaryData digest_of(const uint8_t digest[SL_SHA256_BYTES])
{
    return (ProtobufCBinaryData){ .len = SL_SHA256_BYTES, .data = sl_unconst(digest) };
}

static char *text(const char *value)
{
    return sl_pb_text(value == NULL ? "" : value);
}

static void put_settings(struct writer *writer, const struct sl_run_settings *settings)
{
    Sluice__Store__V1__ResumeSettings *message = &writer->settings;
    sluice__store__v1__resume_settings__init(message);
    message->max_iterations = settings->max_iterations;
    message->run_timeout_ms = settings->run_timeout_ms;
    message->heartbeat_ms = settings->heartbeat_ms;
    message->on_disconnect = settings->on_disconnect;
    message->detach_ttl_ms = settings->detach_ttl_ms;
    message->cancel_on_reset = settings->cancel_on_reset;
    message->tool_call_deltas = settings->tool_call_deltas;
    message->omit_content = settings->omit_content;
    message->min_flush_ms = settings->min_flush_ms;
    message->max_delta_bytes = settings->max_delta_bytes;
    message->mark_bytes = settings->mark_bytes;
    message->mark_events = settings->mark_events;
    message->max_tokens = settings->max_tokens;
    message->max_tool_calls = settings->max_tool_calls;
    message->max_cost_micros = settings->max_cost_micros;
    writer->message.settings = message;
}

static void put_budget(struct writer *writer, const struct sl_budget *budget)
{
    Sluice__Store__V1__ResumeBudget *message = &writer->budget;
    sluice__store__v1__resume_budget__init(message);
    message->n_calls = budget->n_calls;
    message->n_same = budget->n_same;
    message->last_call = digest_of(budget->last_call);
    message->input_tokens = budget->used.input_tokens;
    message->output_tokens = budget->used.output_tokens;
    message->cache_read_tokens = budget->used.cache_read_tokens;
    message->cache_write_tokens = budget->used.cache_write_tokens;
    message->reasoning_tokens = budget->used.reasoning_tokens;
    message->model_calls = budget->used.model_calls;
    message->estimated = budget->used.is_estimated;
    message->has_cost = budget->used.has_cost;
    message->currency = sl_unconst(budget->used.currency);
    message->cost_micros = budget->used.cost_micros;
    writer->message.budget = message;
}

static Sluice__Store__V1__ResumeCallState state_of(const struct sl_tool_slot *slot)
{
    switch (slot->state) {
    case SL_SLOT_PENDING:
        return SL_RESUME_CALL(PENDING);
    case SL_SLOT_APPROVED:
        return SL_RESUME_CALL(APPROVED);
    case SL_SLOT_DONE:
        return SL_RESUME_CALL(DONE);
    case SL_SLOT_UNREAD:
    case SL_SLOT_ASKED:
    case SL_SLOT_RUNNING:
    case SL_SLOT_CLIENT:
        break;
    }
    assert(slot->state == SL_SLOT_ASKED); /* nothing of a run that rests is alive */
    return SL_RESUME_CALL(ASKED);
}

static void fill_call(Sluice__Store__V1__ResumeCall *call, const struct sl_tool_slot *slot)
{
    sluice__store__v1__resume_call__init(call);
    call->state = state_of(slot);
    call->tool_id = text(slot->tool_id);
    call->name = text(slot->name);
    call->provider_id = text(slot->provider_id);
    call->call_id = text(slot->call_id);
    call->arguments = text(slot->arguments);
    call->arguments_json =
        text(slot->arguments_json == slot->arguments ? "" : slot->arguments_json);
    call->digest = digest_of(slot->digest);
    call->over_bytes = slot->over_bytes;
    call->approval_id = text(slot->approval == NULL ? "" : slot->approval->approval_id);
    call->result = text(slot->result);
    call->is_error = slot->is_error;
}

static enum sl_status put_calls(struct writer *writer, const struct sl_run *run)
{
    const size_t n = run->tools.n_slots;
    Sluice__Store__V1__ResumeCall *calls = sl_arena_calloc(&writer->arena, n + 1, sizeof(*calls));
    Sluice__Store__V1__ResumeCall **list =
        sl_arena_calloc(&writer->arena, n + 1, sizeof(Sluice__Store__V1__ResumeCall *));
    if (calls == NULL || list == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < n; i++) {
        fill_call(&calls[i], run->tools.slots[i]);
        list[i] = &calls[i];
    }
    writer->message.calls = list;
    writer->message.n_calls = n;
    return SL_OK;
}

static void
fill_approval(Sluice__Store__V1__ResumeApproval *message, const struct sl_approval *approval)
{
    sluice__store__v1__resume_approval__init(message);
    message->approval_id = text(approval->approval_id);
    message->digest = digest_of(approval->digest);
    message->expires_at_ms = approval->expires_at_ms;
    message->decision = approval->decision;
    message->decided_by = text(approval->decided_by);
    message->comment = text(approval->comment);
}

static enum sl_status put_approvals(struct writer *writer, const struct sl_run *run)
{
    size_t n = 0;
    for (const struct sl_approval *one = run->approvals.first; one != NULL; one = one->next) {
        n++;
    }
    if (n > SL_RESUME_APPROVALS) {
        return SL_RESOURCE_EXHAUSTED;
    }
    Sluice__Store__V1__ResumeApproval *approvals =
        sl_arena_calloc(&writer->arena, n + 1, sizeof(*approvals));
    Sluice__Store__V1__ResumeApproval **list =
        sl_arena_calloc(&writer->arena, n + 1, sizeof(Sluice__Store__V1__ResumeApproval *));
    if (approvals == NULL || list == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    writer->message.approvals = list;
    for (const struct sl_approval *one = run->approvals.first; one != NULL; one = one->next) {
        list[writer->message.n_approvals] = &approvals[writer->message.n_approvals];
        fill_approval(list[writer->message.n_approvals++], one);
    }
    return SL_OK;
}

static enum sl_status put_inputs(struct writer *writer, const struct sl_run *run)
{
    char **list = sl_arena_calloc(&writer->arena, run->client.n_inputs + 1, sizeof(char *));
    if (list == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < run->client.n_inputs; i++) {
        list[i] = text(run->client.inputs[i]);
    }
    writer->message.inputs = list;
    writer->message.n_inputs = run->client.n_inputs;
    return SL_OK;
}

static enum sl_status put_conversation(struct writer *writer, const struct sl_run *run)
{
    Sluice__Store__V1__Resume *message = &writer->message;
    const struct sl_history *history = &run->history;
    const struct sl_slice input = sl_slice_str(run->options.input);
    SL_TRY(sl_session_write(history->messages, history->n_messages, &writer->conversation));
    message->conversation.data = writer->conversation.data;
    message->conversation.len = writer->conversation.size;
    message->turn_begin = history->turn_begin;
    message->n_stored = least(history->n_stored, history->turn_begin); /* old turns may be pruned */
    message->input =
        text(sl_slice_equal(sl_resume_turn_input(history), input) ? "" : run->options.input);
    return SL_OK;
}

static void put_place(struct writer *writer, const struct sl_run *run)
{
    Sluice__Store__V1__Resume *message = &writer->message;
    const uint64_t wall_ms = sl_loop_wall_ms(run->env->loop);
    const uint64_t now_ns = sl_loop_now_ns(run->env->loop);
    const uint64_t left_ns = run->deadline_ns > now_ns ? run->deadline_ns - now_ns : 0;
    message->version = SL_RESUME_VERSION;
    message->iteration = run->iteration;
    message->attempt = run->attempt;
    message->started_at_ms = wall_ms - least(wall_ms, sl_run_elapsed_ms(run));
    message->deadline_ms = wall_ms + left_ns / SL_NS_PER_MS;
    message->caller = text(run->options.caller);
    message->peer = text(run->options.peer);
    message->n_minted = run->tools.n_minted;
    message->n_executed = run->tools.n_executed;
    message->n_restarts = run->n_restarts;
    message->n_output_retries = run->n_output_retries;
}

static enum sl_status pack(const struct writer *writer, struct sl_buf *buf)
{
    uint8_t *room = NULL;
    const size_t size = sluice__store__v1__resume__get_packed_size(&writer->message);
    SL_TRY(sl_buf_reserve(buf, size, &room));
    (void)sluice__store__v1__resume__pack(&writer->message, room);
    sl_buf_commit(buf, size);
    return SL_OK;
}

static enum sl_status put_all(struct writer *writer, const struct sl_run *run, bool has_calls)
{
    put_place(writer, run);
    put_settings(writer, &run->settings);
    put_budget(writer, &run->budget);
    SL_TRY(put_conversation(writer, run));
    SL_TRY(has_calls ? put_calls(writer, run) : SL_OK);
    SL_TRY(put_approvals(writer, run));
    return put_inputs(writer, run);
}

enum sl_status
sl_resume_write(const struct sl_run *run, Sluice__Store__V1__ResumePoint point, struct sl_buf *buf)
{
    struct writer writer = { .message = SLUICE__STORE__V1__RESUME__INIT };
    writer.message.point = point;
    sl_arena_init(&writer.arena, 0);
    sl_buf_init(&writer.conversation, buf->max_bytes);
    enum sl_status status = put_all(&writer, run, point == SL_RESUME_POINT(TOOLS));
    if (status == SL_OK) {
        status = pack(&writer, buf);
    }
    sl_buf_done(&writer.conversation);
    sl_arena_done(&writer.arena);
    return status;
}
