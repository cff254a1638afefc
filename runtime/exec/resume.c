#include "runtime/exec/resume.h"

#include "runtime/base/mem.h"
#include "runtime/exec/encode.h"
#include "runtime/exec/run_private.h"
#include "runtime/exec/session_codec.h"

enum {
    MAX_CALLS = 1024,  /* as limits.calls_per_iteration may have it */
    MAX_INPUTS = 1024, /* limits.user_inputs */
    LEAST_MARK_BYTES = 4096
};

/* ---- Is it sound? ------------------------------------------------------------------------------
 */

static bool is_digest(const ProtobufCBinaryData *bytes)
{
    return bytes->len == SL_SHA256_BYTES;
}

static const Sluice__Store__V1__ResumeApproval *
find_approval(const Sluice__Store__V1__Resume *message, const char *approval_id)
{
    for (size_t i = 0; i < message->n_approvals; i++) {
        if (strcmp(message->approvals[i]->approval_id, approval_id) == 0) {
            return message->approvals[i];
        }
    }
    return NULL;
}

static bool
is_call_sound(const Sluice__Store__V1__Resume *message, const Sluice__Store__V1__ResumeCall *call)
{
    const Sluice__Store__V1__ResumeApproval *approval = find_approval(message, call->approval_id);
    const bool has_approval = call->approval_id[0] != '\0';
    const uint32_t decision = approval == NULL ? 0 : approval->decision;
    if (strlen(call->tool_id) >= SL_TOOL_ID_BYTES || call->tool_id[0] == '\0' ||
        !is_digest(&call->digest) || has_approval != (approval != NULL) ||
        (call->arguments_json[0] != '\0' && !sl_history_is_object(call->arguments_json))) {
        return false;
    }
    switch (call->state) {
    case SL_RESUME_CALL(ASKED):
        return !has_approval;
    case SL_RESUME_CALL(PENDING):
        return has_approval && decision == SL_DECISION(UNSPECIFIED);
    case SL_RESUME_CALL(APPROVED):
        return !has_approval || decision == SL_DECISION(APPROVED);
    case SL_RESUME_CALL(DONE):
        return !has_approval || decision != SL_DECISION(UNSPECIFIED);
    case SL_RESUME_CALL(UNSPECIFIED):
    case _SLUICE__STORE__V1__RESUME_CALL_STATE_IS_INT_SIZE:
        break;
    }
    return false;
}

/* Whose approval is another's, too. */
static bool shares_approval(const Sluice__Store__V1__Resume *message, size_t index)
{
    bool is_shared = false;
    for (size_t i = 0; i < index && !is_shared; i++) {
        is_shared = strcmp(message->calls[i]->approval_id, message->calls[index]->approval_id) == 0;
    }
    return is_shared;
}

/* Those that were begun, or answered, come first. */
static bool are_calls_sound(const Sluice__Store__V1__Resume *message)
{
    bool has_asked = false;
    size_t n_pending = 0;
    for (size_t i = 0; i < message->n_calls; i++) {
        const Sluice__Store__V1__ResumeCall *call = message->calls[i];
        const bool is_asked = call->state == SL_RESUME_CALL(ASKED);
        if (!is_call_sound(message, call) || (has_asked && !is_asked)) {
            return false;
        }
        has_asked = is_asked;
        n_pending += call->state == SL_RESUME_CALL(PENDING) && !shares_approval(message, i);
    }
    size_t n_open = 0;
    for (size_t i = 0; i < message->n_approvals; i++) {
        n_open += message->approvals[i]->decision == SL_DECISION(UNSPECIFIED);
    }
    return n_open == n_pending; /* each is one call's */
}

static bool are_approvals_sound(const Sluice__Store__V1__Resume *message)
{
    for (size_t i = 0; i < message->n_approvals; i++) {
        const Sluice__Store__V1__ResumeApproval *approval = message->approvals[i];
        const size_t size = strlen(approval->approval_id);
        if (size == 0 || size >= SL_ID_BYTES || !is_digest(&approval->digest) ||
            approval->decision > SL_DECISION(CANCELLED) ||
            find_approval(message, approval->approval_id) != approval) {
            return false;
        }
    }
    return true;
}

static bool is_place_sound(const Sluice__Store__V1__Resume *message)
{
    switch (message->point) {
    case SL_RESUME_POINT(NEXT):
        return message->n_calls == 0;
    case SL_RESUME_POINT(AGAIN):
        return message->n_calls == 0 && message->iteration > 0 && message->attempt > 0;
    case SL_RESUME_POINT(TOOLS):
        return message->n_calls > 0 && message->iteration > 0 && message->attempt > 0;
    case SL_RESUME_POINT(UNSPECIFIED):
    case _SLUICE__STORE__V1__RESUME_POINT_IS_INT_SIZE:
        break;
    }
    return false;
}

static bool are_settings_sound(const Sluice__Store__V1__Resume *message)
{
    const Sluice__Store__V1__ResumeSettings *settings = message->settings;
    return settings != NULL && settings->max_iterations > 0 &&
           message->iteration <= settings->max_iterations &&
           (settings->on_disconnect == SL_DISCONNECT(DETACH) ||
            settings->on_disconnect == SL_DISCONNECT(DETACH_FOR));
}

static bool is_sound(const Sluice__Store__V1__Resume *message)
{
    return message->n_calls <= MAX_CALLS && message->n_approvals <= SL_RESUME_APPROVALS &&
           message->n_inputs <= MAX_INPUTS && message->budget != NULL &&
           is_digest(&message->budget->last_call) && are_settings_sound(message) &&
           is_place_sound(message) && are_approvals_sound(message) && are_calls_sound(message);
}

/* ---- What it says ------------------------------------------------------------------------------
 */

enum sl_status sl_resume_read(struct sl_slice bytes, struct sl_resume *ret_resume)
{
    ret_resume->message = sluice__store__v1__resume__unpack(NULL, bytes.size, bytes.data);
    if (ret_resume->message == NULL) {
        return SL_DATA_LOSS; /* want of memory is told in the same way */
    }
    const uint32_t version = ret_resume->message->version;
    if (version == SL_RESUME_VERSION && is_sound(ret_resume->message)) {
        return SL_OK;
    }
    sl_resume_done(ret_resume);
    return version > SL_RESUME_VERSION ? SL_UNIMPLEMENTED : SL_DATA_LOSS;
}

void sl_resume_done(struct sl_resume *resume)
{
    if (resume->message != NULL) {
        sluice__store__v1__resume__free_unpacked(SL_TAKE(resume->message), NULL);
    }
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint32_t within(uint64_t value, uint64_t min, uint64_t max)
{
    return (uint32_t)(value < min ? min : least(value, max));
}

void sl_resume_settings(
    const struct sl_resume *resume,
    const struct sl_limits *limits,
    enum sl_store_durability durability,
    struct sl_run_settings *ret_settings)
{
    const Sluice__Store__V1__ResumeSettings *message = resume->message->settings;
    *ret_settings = (struct sl_run_settings){
        .max_iterations = message->max_iterations,
        .run_timeout_ms = message->run_timeout_ms,
        .call_deadline_ns = SL_NEVER_NS,
        .heartbeat_ms = message->heartbeat_ms,
        .on_disconnect = (Sluice__V1__OnDisconnect)message->on_disconnect,
        .detach_ttl_ms = message->detach_ttl_ms,
        .cancel_on_reset = message->cancel_on_reset,
        .tool_call_deltas = message->tool_call_deltas,
        .omit_content = message->omit_content,
        .min_flush_ms = message->min_flush_ms,
        .max_delta_bytes = within(message->max_delta_bytes, 0, limits->delta),
        .mark_bytes = within(message->mark_bytes, LEAST_MARK_BYTES, limits->buffer),
        .mark_events = within(message->mark_events, 1, limits->buffer_events),
        .max_tokens = message->max_tokens,
        .max_tool_calls = message->max_tool_calls,
        .max_cost_micros = message->max_cost_micros,
        .durability = durability,
    };
}

/* The results of the calls of message `index` follow it, in call order. */
static bool has_results(const struct sl_history *history, size_t index)
{
    const struct sl_chat_message *message = &history->messages[index];
    bool is_whole = history->n_messages - index > message->n_calls;
    for (size_t i = 0; i < message->n_calls && is_whole; i++) {
        const struct sl_chat_message *result = &history->messages[index + 1 + i];
        is_whole =
            result->role == SL_CHAT_TOOL && strcmp(result->call_id, message->calls[i].id) == 0;
    }
    return is_whole;
}

/* The last message asks for the calls that are open. */
static bool
asks_for_calls(const Sluice__Store__V1__Resume *resume, const struct sl_chat_message *message)
{
    bool is_it = message->n_calls == resume->n_calls;
    for (size_t i = 0; i < message->n_calls && is_it; i++) {
        is_it = strcmp(message->calls[i].id, resume->calls[i]->call_id) == 0;
    }
    return is_it;
}

/* No call is without its result, and no result without its call (AL-6.6), but for those that are
 * open. */
static bool
is_conversation_sound(const Sluice__Store__V1__Resume *resume, const struct sl_history *history)
{
    const bool has_open = resume->point == SL_RESUME_POINT(TOOLS);
    const size_t n = history->n_messages - (has_open && history->n_messages > 0 ? 1 : 0);
    bool is_sound = resume->turn_begin <= n && resume->n_stored <= resume->turn_begin;
    for (size_t i = 0; i < n && is_sound;) {
        const struct sl_chat_message *message = &history->messages[i];
        is_sound = message->role != SL_CHAT_TOOL && has_results(history, i);
        i += 1 + message->n_calls;
        is_sound = is_sound && i <= n;
    }
    return is_sound && (!has_open ||
                        (history->n_messages > 0 && asks_for_calls(resume, &history->messages[n])));
}

enum sl_status sl_resume_conversation(const struct sl_resume *resume, struct sl_history *history)
{
    const Sluice__Store__V1__Resume *message = resume->message;
    assert(history->n_messages == 0);
    SL_TRY(sl_session_read(
        sl_slice_of(message->conversation.data, message->conversation.len), history));
    if (!is_conversation_sound(message, history)) {
        sl_history_cut(history, 0);
        return SL_DATA_LOSS;
    }
    history->turn_begin = (size_t)message->turn_begin;
    history->n_stored = (size_t)message->n_stored;
    return SL_OK;
}

struct sl_slice sl_resume_turn_input(const struct sl_history *history)
{
    return history->turn_begin < history->n_messages
               ? history->messages[history->turn_begin].content
               : sl_slice_of(NULL, 0);
}

const char *sl_resume_input(const struct sl_resume *resume, const struct sl_history *history)
{
    const struct sl_slice input = sl_resume_turn_input(history);
    return resume->message->input[0] != '\0' ? resume->message->input
           : input.data == NULL              ? ""
                                             : (const char *)input.data; /* terminated */
}
