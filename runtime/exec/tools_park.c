/* The calls of a run that goes from one process to the next: what becomes of those that are open,
 * and how they are made again. */
#include <stdio.h>

#include "runtime/base/mem.h"
#include "runtime/exec/run_private.h"

void sl_run_tools_park(struct sl_run *run, bool is_cut)
{
    run->tools.job = sl_arguments_drop(run->tools.job);
    for (size_t i = 0; i < run->tools.n_slots; i++) {
        struct sl_tool_slot *slot = run->tools.slots[i];
        switch (slot->state) {
        case SL_SLOT_ASKED:
            if (is_cut) {
                sl_run_slot_fail(
                    slot, SL_TOOL_NOT_RUN, "%s: not executed: the answer was cut off", slot->name);
            }
            break;
        case SL_SLOT_CLIENT:
            sl_timer_stop(&slot->wait_timer);
            sl_run_slot_fail(
                slot, SL_TOOL_OUTCOME_UNKNOWN,
                "%s: the server went down while the client ran it; nobody knows what became of it",
                slot->name);
            break;
        case SL_SLOT_RUNNING:
            sl_tool_call_cancel(slot->call);
            break;
        case SL_SLOT_UNREAD: /* nobody knows of it */
        case SL_SLOT_PENDING:
        case SL_SLOT_APPROVED:
        case SL_SLOT_DONE:
            break;
        }
    }
}

/* ---- Again -------------------------------------------------------------------------------------
 */

static enum sl_tool_slot_state state_of(const Sluice__Store__V1__ResumeCall *call)
{
    return call->state == SL_RESUME_CALL(PENDING)    ? SL_SLOT_PENDING
           : call->state == SL_RESUME_CALL(APPROVED) ? SL_SLOT_APPROVED
           : call->state == SL_RESUME_CALL(DONE)     ? SL_SLOT_DONE
                                                     : SL_SLOT_ASKED;
}

static const char *keep(struct sl_run *run, const char *text)
{
    return sl_history_text(&run->history, sl_slice_str(text));
}

/* Fills the texts; false: no memory. */
static bool
fill_slot(struct sl_run *run, struct sl_tool_slot *slot, const Sluice__Store__V1__ResumeCall *call)
{
    slot->run = run;
    slot->state = state_of(call);
    (void)snprintf(slot->tool_id, sizeof(slot->tool_id), "%s", call->tool_id);
    slot->name = keep(run, call->name);
    slot->provider_id = keep(run, call->provider_id);
    slot->call_id = keep(run, call->call_id);
    slot->arguments = keep(run, call->arguments);
    slot->arguments_json =
        call->arguments_json[0] == '\0' ? slot->arguments : keep(run, call->arguments_json);
    slot->over_bytes = call->over_bytes;
    memcpy(slot->digest, call->digest.data, SL_SHA256_BYTES);
    slot->approval = sl_approvals_find(&run->approvals, call->approval_id);
    slot->is_error = call->is_error;
    if (slot->state == SL_SLOT_DONE) {
        slot->result = sl_strdup(call->result);
    }
    sl_buf_init(&slot->progress.held, SL_PROGRESS_BYTES + 8);
    return slot->name != NULL && slot->provider_id != NULL && slot->call_id != NULL &&
           slot->arguments != NULL && slot->arguments_json != NULL &&
           (slot->state != SL_SLOT_DONE || slot->result != NULL);
}

static void count_slot(struct sl_run *run, const struct sl_tool_slot *slot)
{
    run->tools.n_read++;
    run->tools.n_begun += slot->state != SL_SLOT_ASKED;
    run->tools.n_pending += slot->state == SL_SLOT_PENDING;
    run->tools.n_approved += slot->state == SL_SLOT_APPROVED;
}

enum sl_status sl_run_tools_restore(struct sl_run *run, const Sluice__Store__V1__Resume *message)
{
    if (message->n_calls == 0) {
        return SL_OK;
    }
    run->tools.slots = sl_calloc(message->n_calls, sizeof(struct sl_tool_slot *));
    if (run->tools.slots == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    run->tools.capacity = message->n_calls;
    for (size_t i = 0; i < message->n_calls; i++) {
        struct sl_tool_slot *slot = sl_calloc(1, sizeof(*slot));
        if (slot == NULL) {
            return SL_RESOURCE_EXHAUSTED;
        }
        run->tools.slots[run->tools.n_slots++] = slot; /* freed with the run, whole or not */
        if (!fill_slot(run, slot, message->calls[i])) {
            return SL_RESOURCE_EXHAUSTED;
        }
        count_slot(run, slot);
    }
    run->turn.is_recorded = true; /* the answer is in the conversation */
    return SL_OK;
}
