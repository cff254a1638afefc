/* Calls that wait for somebody's decision (AL-6.7):
 *
 *   ask: ApprovalRequested ─▶ PENDING ─ sl_run_decide, expiry, end of the run ─▶ ApprovalDecided
 *                                  approved ─▶ APPROVED: the call runs when there is room
 *                                  otherwise ─▶ a failed call, and the run goes on */
#include <inttypes.h>
#include <stdio.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/utf8.h"
#include "runtime/exec/run_private.h"

enum { TOLD_COMMENT_BYTES = 120, MS_PER_S = 1000 };

static struct sl_tool_slot *find_slot(const struct sl_run *run, const struct sl_approval *approval)
{
    for (size_t i = 0; i < run->tools.n_slots; i++) {
        if (run->tools.slots[i]->approval == approval) {
            return run->tools.slots[i];
        }
    }
    return NULL;
}

static bool emit_requested(struct sl_tool_slot *slot)
{
    const struct sl_approval *approval = slot->approval;
    Sluice__V1__ApprovalRequested requested;
    sluice__v1__approval_requested__init(&requested);
    requested.approval_id = sl_pb_text(approval->approval_id);
    requested.tool_id = slot->tool_id;
    requested.tool_name = sl_pb_text(slot->name);
    requested.arguments_json = sl_pb_text(slot->arguments_json);
    requested.arguments_digest.data = sl_unconst(approval->digest);
    requested.arguments_digest.len = SL_SHA256_BYTES;
    requested.expires_at_ms = approval->expires_at_ms;
    Sluice__V1__StreamEvent event;
    sluice__v1__stream_event__init(&event);
    event.event_case = SL_EVENT(APPROVAL_REQUESTED);
    event.approval_requested = &requested;
    return sl_run_emit(slot->run, &event);
}

static void log_decided(const struct sl_tool_slot *slot)
{
    static const char *const names[] = { "?", "APPROVED", "DENIED", "EXPIRED", "CANCELLED" };
    const struct sl_approval *approval = slot->approval;
    const char *by = approval->decided_by == NULL ? "" : approval->decided_by;
    sl_log(
        SL_INFO, SL_LOG_EXEC,
        "run=%s msg=\"approval\" approval=%s call=%s tool=%s decision=%s digest=%02x%02x%02x%02x "
        "by=%s",
        slot->run->run_id, approval->approval_id, slot->tool_id,
        SL_LOG_QUOTE(sl_slice_str(slot->name)), names[approval->decision], approval->digest[0],
        approval->digest[1], approval->digest[2], approval->digest[3],
        SL_LOG_QUOTE(sl_slice_str(by)));
}

/* The approval has its decision: everybody is told. */
static void tell_decided(struct sl_tool_slot *slot)
{
    struct sl_run *run = slot->run;
    const struct sl_approval *approval = slot->approval;
    sl_timer_stop(&slot->wait_timer);
    run->tools.n_pending--;
    slot->state = SL_SLOT_APPROVED;
    run->tools.n_approved++;
    log_decided(slot);
    Sluice__V1__ApprovalDecided decided;
    sluice__v1__approval_decided__init(&decided);
    decided.approval_id = sl_pb_text(approval->approval_id);
    decided.tool_id = slot->tool_id;
    decided.decision = approval->decision;
    decided.decided_by = sl_pb_text(approval->decided_by == NULL ? "" : approval->decided_by);
    decided.comment = sl_pb_text(approval->comment == NULL ? "" : approval->comment);
    Sluice__V1__StreamEvent event;
    sluice__v1__stream_event__init(&event);
    event.event_case = SL_EVENT(APPROVAL_DECIDED);
    event.approval_decided = &decided;
    if (!sl_run_emit(run, &event)) {
        run->is_order_off = true;
    }
}

static void on_expired(void *user_data)
{
    struct sl_tool_slot *slot = user_data;
    struct sl_run *run = slot->run;
    slot->approval->decision = SL_DECISION(EXPIRED);
    tell_decided(slot);
    sl_run_slot_fail(
        slot, SL_TOOL_APPROVAL_EXPIRED, "%s: nobody approved it within %" PRIu64 " s", slot->name,
        run->agent->approval_timeout_ms / MS_PER_S);
    sl_run_tools_go_on(run);
}

void sl_run_approval_ask(struct sl_tool_slot *slot)
{
    struct sl_run *run = slot->run;
    const char *caller = run->options.caller == NULL ? "" : run->options.caller;
    if (!sl_approval_is_possible(run->agent, caller)) {
        sl_run_slot_fail(
            slot, SL_TOOL_DENIED, "%s: needs an approval, and nobody can give it", slot->name);
        return;
    }
    slot->approval = sl_approvals_add(&run->approvals, slot->digest);
    if (slot->approval == NULL) {
        sl_run_slot_fail(slot, SL_TOOL_OUT_OF_MEMORY, "%s: no memory", slot->name);
        return;
    }
    const uint64_t timeout_ms = run->agent->approval_timeout_ms;
    slot->approval->expires_at_ms = sl_loop_wall_ms(run->env->loop) + timeout_ms;
    if (!emit_requested(slot)) { /* the run is ending, and nobody heard of it */
        slot->approval->decision = SL_DECISION(CANCELLED);
        return;
    }
    slot->state = SL_SLOT_PENDING;
    run->tools.n_pending++;
    sl_timer_init(&slot->wait_timer, run->env->loop, on_expired, slot);
    sl_timer_start_ms(&slot->wait_timer, timeout_ms);
}

void sl_run_approval_cancel(struct sl_tool_slot *slot)
{
    slot->approval->decision = SL_DECISION(CANCELLED);
    tell_decided(slot);
}

void sl_run_approval_wait(struct sl_tool_slot *slot)
{
    struct sl_loop *loop = slot->run->env->loop;
    const uint64_t now_ms = sl_loop_wall_ms(loop);
    const uint64_t expires_ms = slot->approval->expires_at_ms;
    sl_timer_init(&slot->wait_timer, loop, on_expired, slot);
    sl_timer_start_ms(&slot->wait_timer, expires_ms > now_ms ? expires_ms - now_ms : 0);
}

static enum sl_status restore_one(struct sl_run *run, const Sluice__Store__V1__ResumeApproval *from)
{
    struct sl_approval *approval = sl_approvals_add(&run->approvals, from->digest.data);
    if (approval == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    (void)snprintf(approval->approval_id, sizeof(approval->approval_id), "%s", from->approval_id);
    approval->expires_at_ms = from->expires_at_ms;
    const Sluice__V1__ApprovalDecision decision = (Sluice__V1__ApprovalDecision)from->decision;
    return decision == SL_DECISION(UNSPECIFIED)
               ? SL_OK
               : sl_approval_set(approval, decision, from->decided_by, from->comment);
}

/* The latest first, as they are kept. */
enum sl_status
sl_run_approvals_restore(struct sl_run *run, const Sluice__Store__V1__Resume *message)
{
    enum sl_status status = SL_OK;
    for (size_t i = message->n_approvals; i-- > 0 && status == SL_OK;) {
        status = restore_one(run, message->approvals[i]);
    }
    return status;
}

bool sl_run_is_waiting_approval(const struct sl_run *run)
{
    return run->state == SL_RUN_STATE_TOOLS && run->tools.n_pending > 0 &&
           run->tools.n_running + run->tools.n_client + run->tools.n_approved == 0;
}

static enum sl_status check_answer(
    const struct sl_run *run,
    const struct sl_approval *approval,
    const struct sl_approval_answer *answer,
    struct sl_error *err)
{
    const char *caller = run->options.caller == NULL ? "" : run->options.caller;
    if (!sl_approval_may_decide(run->agent, caller, answer->principal)) {
        return sl_fail(
            err, SL_PERMISSION_DENIED,
            strcmp(caller, answer->principal) == 0
                ? "who started the run may not approve its calls himself"
                : "this caller is no approver of the agent");
    }
    if (answer->digest.size != SL_SHA256_BYTES ||
        memcmp(answer->digest.data, approval->digest, SL_SHA256_BYTES) != 0) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT,
            "answer.arguments_digest: not that of the arguments which wait for approval");
    }
    if (strlen(answer->comment) > SL_APPROVAL_COMMENT_BYTES) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "answer.comment: at most %d bytes",
            (int)SL_APPROVAL_COMMENT_BYTES);
    }
    return SL_OK;
}

enum sl_status
sl_run_decide(struct sl_run *run, const struct sl_approval_answer *answer, struct sl_error *err)
{
    SL_ON_LOOP(run->env->loop);
    struct sl_approval *approval = NULL;
    SL_TRY(sl_approvals_find_open(&run->approvals, answer->approval_id, &approval, err));
    SL_TRY(check_answer(run, approval, answer, err));
    struct sl_tool_slot *slot = find_slot(run, approval);
    assert(slot != NULL && slot->state == SL_SLOT_PENDING);
    if (sl_approval_set(
            approval, answer->is_approved ? SL_DECISION(APPROVED) : SL_DECISION(DENIED),
            answer->principal, answer->comment) != SL_OK) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "out of memory");
    }
    tell_decided(slot);
    if (!answer->is_approved && !run->is_claimed) {
        const struct sl_slice comment = sl_slice_str(answer->comment);
        sl_run_slot_fail(
            slot, SL_TOOL_DENIED, "%s: denied%s%.*s", slot->name, comment.size == 0 ? "" : ": ",
            (int)sl_utf8_cut(comment, TOLD_COMMENT_BYTES), answer->comment);
    }
    sl_run_tools_go_on(run);
    return SL_OK;
}

const struct sl_approvals *sl_run_approvals(const struct sl_run *run)
{
    return &run->approvals;
}

struct sl_approvals sl_run_take_approvals(struct sl_run *run)
{
    const struct sl_approvals approvals = run->approvals;
    run->approvals = (struct sl_approvals){ .first = NULL };
    return approvals;
}
