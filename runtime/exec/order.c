#include "runtime/exec/order.h"

#include <inttypes.h>

#include "runtime/base/map.h"
#include "runtime/base/mem.h"

#define EVENT(name) SLUICE__V1__STREAM_EVENT__EVENT_##name
#define STOP(name)  SLUICE__V1__STOP_REASON__STOP_REASON_##name

enum { MAX_BRACKETS = 1000000 };

struct sl_event_order_bracket {
    UT_hash_handle hh;
    bool is_open;
    char id[]; /* terminated */
};

#define REFUSE(err, ...) sl_fail((err), SL_FAILED_PRECONDITION, __VA_ARGS__)

/* uthash is macros, which the linter counts. */
// NOLINTBEGIN(readability-function-cognitive-complexity,readability-function-size)
static struct sl_event_order_bracket *
find_bracket(struct sl_event_order_bracket *brackets, const char *id)
{
    struct sl_event_order_bracket *bracket = NULL;
    HASH_FIND(hh, brackets, id, strlen(id), bracket);
    return bracket;
}

static bool
add_bracket(struct sl_event_order_bracket **brackets, struct sl_event_order_bracket *bracket)
{
    sl_map_oom = false;
    HASH_ADD(hh, *brackets, id, strlen(bracket->id), bracket);
    return !sl_map_oom;
}
// NOLINTEND(readability-function-cognitive-complexity,readability-function-size)

static enum sl_status open_bracket(
    struct sl_event_order *order,
    struct sl_event_order_bracket **brackets,
    const char *id,
    struct sl_error *err)
{
    if (id[0] == '\0') {
        return REFUSE(err, "event %" PRIu64 ": an empty id", order->sequence);
    }
    if (find_bracket(*brackets, id) != NULL) {
        return REFUSE(err, "event %" PRIu64 ": the id %.64s is not new", order->sequence, id);
    }
    const size_t size = strlen(id);
    struct sl_event_order_bracket *bracket =
        order->n_brackets == MAX_BRACKETS ? NULL : sl_calloc(1, sizeof(*bracket) + size + 1);
    if (bracket == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "too many calls to follow");
    }
    bracket->is_open = true;
    memcpy(bracket->id, id, size);
    if (!add_bracket(brackets, bracket)) {
        (void)sl_free(bracket);
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "too many calls to follow");
    }
    order->n_brackets++;
    return SL_OK;
}

/* What was opened before the stream began is opened late. Each only once, as every other. */
static enum sl_status open_unseen(
    struct sl_event_order *order,
    struct sl_event_order_bracket **brackets,
    uint32_t *n_open,
    const char *id,
    struct sl_error *err)
{
    if (!order->has_unseen || find_bracket(*brackets, id) != NULL) {
        return SL_OK;
    }
    SL_TRY(open_bracket(order, brackets, id, err));
    (*n_open)++;
    return SL_OK;
}

static enum sl_status close_bracket(
    const struct sl_event_order *order,
    struct sl_event_order_bracket *brackets,
    const char *id,
    struct sl_error *err)
{
    struct sl_event_order_bracket *bracket = find_bracket(brackets, id);
    if (bracket == NULL || !bracket->is_open) {
        return REFUSE(
            err, "event %" PRIu64 ": nothing is open with the id %.64s", order->sequence, id);
    }
    bracket->is_open = false;
    return SL_OK;
}

static bool has_open(const struct sl_event_order *order)
{
    return order->n_open_calls > 0 || order->n_open_approvals > 0;
}

static enum sl_status
need(const struct sl_event_order *order, bool is_allowed, const char *what, struct sl_error *err)
{
    static const char *const names[] = { "NEW",     "READY", "MODEL",  "TOOLS",
                                         "CLOSING", "END",   "MIDDLE", "LATE" };
    if (is_allowed) {
        return SL_OK;
    }
    return REFUSE(
        err, "event %" PRIu64 ": %s in state %s", order->sequence, what, names[order->state]);
}

static enum sl_status
check_model(struct sl_event_order *order, const char *what, struct sl_error *err)
{
    const bool is_allowed = order->state == SL_ORDER_MODEL || order->state == SL_ORDER_MIDDLE;
    SL_TRY(need(order, is_allowed, what, err));
    order->state = SL_ORDER_MODEL;
    return SL_OK;
}

static bool is_somewhere(const struct sl_event_order *order)
{
    return order->state == SL_ORDER_MIDDLE || order->state == SL_ORDER_LATE;
}

/* The stream began among the tools of an iteration. */
static void enter_tools(struct sl_event_order *order, bool may_be_closing)
{
    if (is_somewhere(order)) {
        order->state = may_be_closing ? SL_ORDER_LATE : SL_ORDER_TOOLS;
    }
}

/* The calls that were not seen may be over, and so may be the iteration, whose number may not have
 * been seen either. */
static bool may_start_unseen(
    const struct sl_event_order *order, const Sluice__V1__IterationStart *start, bool is_next)
{
    const bool is_there = is_somewhere(order) || order->state == SL_ORDER_TOOLS;
    const bool is_number =
        order->iteration == 0 ? start->iteration > 0 && start->attempt > 0 : is_next;
    return order->has_unseen && is_there && is_number;
}

static enum sl_status check_iteration_start(
    struct sl_event_order *order, const Sluice__V1__IterationStart *start, struct sl_error *err)
{
    const bool is_next = start->iteration == order->iteration + 1 && start->attempt == 1;
    const bool is_second =
        order->has_unseen ? start->attempt > 1 : start->attempt == order->attempt + 1;
    const bool is_restart = start->iteration == order->iteration && is_second &&
                            order->stop_reason == STOP(INTERRUPTED);
    const bool is_retry = is_next && order->stop_reason == STOP(END_TURN);
    const bool is_allowed = (order->state == SL_ORDER_READY && (is_next || is_restart)) ||
                            (order->state == SL_ORDER_CLOSING && (is_restart || is_retry)) ||
                            may_start_unseen(order, start, is_next);
    SL_TRY(need(order, is_allowed && !has_open(order), "IterationStart", err));
    if (start->max_iterations > 0 && start->iteration > start->max_iterations) {
        return REFUSE(err, "event %" PRIu64 ": iteration over its maximum", order->sequence);
    }
    order->iteration = start->iteration;
    order->attempt = start->attempt;
    order->n_calls_of_iteration = 0;
    order->has_unseen = false; /* every call before it is over */
    order->state = SL_ORDER_MODEL;
    return SL_OK;
}

static enum sl_status check_iteration_complete(
    struct sl_event_order *order, const Sluice__V1__IterationComplete *done, struct sl_error *err)
{
    SL_TRY(check_model(order, "IterationComplete", err));
    if (done->iteration != order->iteration && order->iteration != 0) {
        return REFUSE(err, "event %" PRIu64 ": another iteration is open", order->sequence);
    }
    if (done->stop_reason == STOP(UNSPECIFIED)) {
        return REFUSE(err, "event %" PRIu64 ": no stop reason", order->sequence);
    }
    if (done->stop_reason == STOP(TOOL_USE) && order->n_calls_of_iteration == 0 &&
        !order->has_unseen) {
        return REFUSE(err, "event %" PRIu64 ": tool use without a call", order->sequence);
    }
    if (done->stop_reason == STOP(PAUSE_TURN) && order->n_calls_of_iteration > 0) {
        return REFUSE(err, "event %" PRIu64 ": a pause with a call", order->sequence);
    }
    if (done->usage == NULL) {
        return REFUSE(err, "event %" PRIu64 ": no usage", order->sequence);
    }
    order->iteration = done->iteration;
    order->stop_reason = done->stop_reason;
    order->state = done->stop_reason == STOP(TOOL_USE)     ? SL_ORDER_TOOLS
                   : done->stop_reason == STOP(PAUSE_TURN) ? SL_ORDER_READY
                                                           : SL_ORDER_CLOSING;
    return SL_OK;
}

static enum sl_status check_call_complete(
    struct sl_event_order *order, const Sluice__V1__ToolCallComplete *done, struct sl_error *err)
{
    enter_tools(order, !done->success);
    const bool is_allowed = order->state == SL_ORDER_TOOLS || order->state == SL_ORDER_LATE ||
                            (order->state == SL_ORDER_CLOSING && !done->success);
    SL_TRY(need(order, is_allowed, "ToolCallComplete", err));
    SL_TRY(open_unseen(order, &order->calls, &order->n_open_calls, done->tool_id, err));
    SL_TRY(close_bracket(order, order->calls, done->tool_id, err));
    order->n_open_calls--;
    if (order->state == SL_ORDER_TOOLS && !has_open(order) && !order->has_unseen) {
        order->state = SL_ORDER_READY;
    }
    return SL_OK;
}

static enum sl_status check_progress(
    struct sl_event_order *order, const char *tool_id, const char *what, struct sl_error *err)
{
    enter_tools(order, false);
    SL_TRY(need(order, order->state == SL_ORDER_TOOLS, what, err));
    SL_TRY(open_unseen(order, &order->calls, &order->n_open_calls, tool_id, err));
    const struct sl_event_order_bracket *call = find_bracket(order->calls, tool_id);
    if (call == NULL || !call->is_open) {
        return REFUSE(
            err, "event %" PRIu64 ": %s of a call that is not open", order->sequence, what);
    }
    return SL_OK;
}

static enum sl_status check_decided(
    struct sl_event_order *order, const Sluice__V1__ApprovalDecided *decided, struct sl_error *err)
{
    const bool is_cancelled =
        decided->decision == SLUICE__V1__APPROVAL_DECISION__APPROVAL_DECISION_CANCELLED;
    enter_tools(order, is_cancelled);
    const bool is_allowed = order->state == SL_ORDER_TOOLS || order->state == SL_ORDER_LATE ||
                            (order->state == SL_ORDER_CLOSING && is_cancelled);
    SL_TRY(need(order, is_allowed, "ApprovalDecided", err));
    SL_TRY(
        open_unseen(order, &order->approvals, &order->n_open_approvals, decided->approval_id, err));
    SL_TRY(close_bracket(order, order->approvals, decided->approval_id, err));
    order->n_open_approvals--;
    return SL_OK;
}

static enum sl_status
check_done(struct sl_event_order *order, const Sluice__V1__RunDone *done, struct sl_error *err)
{
    const bool is_middle = is_somewhere(order);
    const Sluice__V1__StopReason stop = is_middle ? done->stop_reason : order->stop_reason;
    const bool is_success =
        stop == STOP(END_TURN) || stop == STOP(MAX_TOKENS) || stop == STOP(STOP_SEQUENCE);
    const bool is_there = is_middle || order->state == SL_ORDER_CLOSING;
    SL_TRY(need(order, is_there && is_success && !has_open(order), "RunDone", err));
    if (done->usage == NULL || done->stop_reason != stop ||
        done->input_tokens != done->usage->input_tokens ||
        done->output_tokens != done->usage->output_tokens) {
        return REFUSE(
            err, "event %" PRIu64 ": RunDone contradicts itself or the run", order->sequence);
    }
    order->state = SL_ORDER_END;
    return SL_OK;
}

static enum sl_status
check_error(struct sl_event_order *order, const Sluice__V1__RunError *error, struct sl_error *err)
{
    const bool is_between = order->state == SL_ORDER_READY || order->state == SL_ORDER_TOOLS ||
                            order->state == SL_ORDER_CLOSING || is_somewhere(order);
    SL_TRY(need(order, is_between && !has_open(order), "RunError", err));
    if (error->code == SLUICE__V1__ERROR_CODE__ERROR_CODE_UNSPECIFIED || error->usage == NULL) {
        return REFUSE(err, "event %" PRIu64 ": RunError without code or usage", order->sequence);
    }
    order->state = SL_ORDER_END;
    return SL_OK;
}

/* AL-5.28: it stands outside of the log, which may break off anywhere before it. */
static enum sl_status check_unlogged(
    struct sl_event_order *order, const Sluice__V1__RunError *error, struct sl_error *err)
{
    const bool is_between = order->state != SL_ORDER_NEW && order->state != SL_ORDER_END;
    SL_TRY(need(order, is_between, "RunError without sequence", err));
    if (error->usage == NULL) {
        return REFUSE(err, "the RunError after event %" PRIu64 ": no usage", order->sequence);
    }
    order->state = SL_ORDER_END;
    return SL_OK;
}

static enum sl_status check_call_start(
    struct sl_event_order *order, const Sluice__V1__ToolCallStart *start, struct sl_error *err)
{
    SL_TRY(check_model(order, "ToolCallStart", err));
    SL_TRY(open_bracket(order, &order->calls, start->tool_id, err));
    order->n_open_calls++;
    order->n_calls_of_iteration++;
    return SL_OK;
}

static enum sl_status check_requested(
    struct sl_event_order *order,
    const Sluice__V1__ApprovalRequested *requested,
    struct sl_error *err)
{
    SL_TRY(check_progress(order, requested->tool_id, "ApprovalRequested", err));
    SL_TRY(open_bracket(order, &order->approvals, requested->approval_id, err));
    order->n_open_approvals++;
    return SL_OK;
}

static enum sl_status check_logged(
    struct sl_event_order *order, const Sluice__V1__StreamEvent *event, struct sl_error *err)
{
    switch (event->event_case) {
    case EVENT(RUN_STARTED):
        SL_TRY(need(order, order->state == SL_ORDER_NEW, "RunStarted", err));
        order->state = SL_ORDER_READY;
        return SL_OK;
    case EVENT(TEXT_DELTA):
        return check_model(order, "TextDelta", err);
    case EVENT(THINKING):
        return check_model(order, "Thinking", err);
    case EVENT(TOOL_CALL_DELTA):
        return check_model(order, "ToolCallDelta", err);
    case EVENT(TOOL_CALL_START):
        return check_call_start(order, event->tool_call_start, err);
    case EVENT(TOOL_CALL_COMPLETE):
        return check_call_complete(order, event->tool_call_complete, err);
    case EVENT(ITERATION_START):
        return check_iteration_start(order, event->iteration_start, err);
    case EVENT(ITERATION_COMPLETE):
        return check_iteration_complete(order, event->iteration_complete, err);
    case EVENT(TOOL_PROGRESS):
        return check_progress(order, event->tool_progress->tool_id, "ToolProgress", err);
    case EVENT(APPROVAL_REQUESTED):
        return check_requested(order, event->approval_requested, err);
    case EVENT(APPROVAL_DECIDED):
        return check_decided(order, event->approval_decided, err);
    case EVENT(DONE):
        return check_done(order, event->done, err);
    case EVENT(ERROR):
        return check_error(order, event->error, err);
    case EVENT(HEARTBEAT):
    case EVENT(_NOT_SET):
    case _SLUICE__V1__STREAM_EVENT__EVENT__CASE_IS_INT_SIZE: /* what protobuf-c adds */
    default:                                                 /* newer than this file */
        return need(
            order, order->state != SL_ORDER_NEW && order->state != SL_ORDER_END, "an unknown event",
            err);
    }
}

void sl_event_order_resume(struct sl_event_order *order, uint64_t after)
{
    if (after > 0) {
        order->state = SL_ORDER_MIDDLE;
        order->sequence = after;
        order->has_unseen = true;
    }
}

enum sl_status sl_event_order_check(
    struct sl_event_order *order, const Sluice__V1__StreamEvent *event, struct sl_error *err)
{
    if (event->event_case == EVENT(HEARTBEAT)) {
        const bool is_between = order->state != SL_ORDER_NEW && order->state != SL_ORDER_END;
        SL_TRY(need(order, is_between, "Heartbeat", err));
        if (event->sequence != 0 || event->heartbeat->last_sequence < order->sequence) {
            return REFUSE(err, "heartbeat after event %" PRIu64 ": its sequence", order->sequence);
        }
        if (event->heartbeat->last_sequence > order->promised) {
            order->promised = event->heartbeat->last_sequence;
        }
        return SL_OK;
    }
    if (event->sequence == 0 && event->event_case == EVENT(ERROR) &&
        event->error->code == SLUICE__V1__ERROR_CODE__ERROR_CODE_STORE_UNAVAILABLE) {
        return check_unlogged(order, event->error, err);
    }
    if (event->sequence != order->sequence + 1) {
        return REFUSE(
            err, "event %" PRIu64 " follows event %" PRIu64, event->sequence, order->sequence);
    }
    order->sequence = event->sequence;
    return check_logged(order, event, err);
}

enum sl_status sl_event_order_finish(const struct sl_event_order *order, struct sl_error *err)
{
    if (order->state != SL_ORDER_END) {
        return REFUSE(err, "no terminal event after event %" PRIu64, order->sequence);
    }
    if (order->sequence < order->promised) {
        return REFUSE(
            err, "a heartbeat spoke of event %" PRIu64 ", the last one is %" PRIu64,
            order->promised, order->sequence);
    }
    return SL_OK;
}

// NOLINTBEGIN(readability-function-cognitive-complexity,readability-function-size)
static void free_brackets(struct sl_event_order_bracket **brackets)
{
    struct sl_event_order_bracket *bracket = *brackets;
    while (bracket != NULL) {
        struct sl_event_order_bracket *next = bracket->hh.next;
        HASH_DELETE(hh, *brackets, bracket);
        (void)sl_free(bracket);
        bracket = next;
    }
}
// NOLINTEND(readability-function-cognitive-complexity,readability-function-size)

void sl_event_order_done(struct sl_event_order *order)
{
    free_brackets(&order->calls);
    free_brackets(&order->approvals);
    *order = (struct sl_event_order){ .state = SL_ORDER_NEW };
}
