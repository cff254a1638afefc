#include "runtime/exec/account.h"

#include "runtime/exec/record_private.h"
#include "runtime/exec/run_private.h"

static uint64_t text_bytes(const char *text)
{
    return text == NULL ? 0 : strlen(text) + 1;
}

/* ---- Records -----------------------------------------------------------------------------------
 */

/* The requests that the store has are left alone: their memory is the store's until they end. */
static uint64_t record_bytes(const struct sl_record *record)
{
    return sizeof(*record) + record->texts.used_bytes + record->context.capacity +
           record->messages.capacity + record->rest.resume.capacity + record->rest.sent.capacity;
}

static uint64_t segment_bytes(const struct sl_segment *segment)
{
    return segment == NULL ? 0 : sizeof(*segment) + segment->capacity;
}

/* Of a record without its run: no log has them any more. */
static uint64_t own_segments(const struct sl_record *record)
{
    const struct sl_segment *last = NULL;
    uint64_t bytes = segment_bytes(record->tail.segment);
    for (uint32_t i = 0; i < record->append.n_ranges; i++) {
        const struct sl_segment *segment = record->append.ranges[i].segment;
        bytes += segment == last ? 0 : segment_bytes(segment);
        last = segment;
    }
    return bytes;
}

uint64_t sl_record_room_bytes(const struct sl_record_room *room)
{
    uint64_t bytes = 0;
    SL_LIST_EACH(node, &room->alone) {
        const struct sl_record *record = SL_CONTAINER(node, struct sl_record, node);
        bytes += record_bytes(record) + own_segments(record);
    }
    return bytes;
}

/* ---- Runs --------------------------------------------------------------------------------------
 */

uint64_t sl_history_memory(const struct sl_history *history)
{
    return history->arena.used_bytes + history->capacity * sizeof(struct sl_chat_message);
}

static uint64_t slot_bytes(const struct sl_tool_slot *slot)
{
    const uint64_t call = slot->call == NULL ? 0 : sl_tool_call_bytes(slot->call);
    return sizeof(*slot) + call + text_bytes(slot->result) + slot->progress.held.capacity;
}

static uint64_t approval_bytes(const struct sl_approvals *approvals)
{
    uint64_t bytes = 0;
    for (const struct sl_approval *it = approvals->first; it != NULL; it = it->next) {
        bytes += sizeof(*it) + text_bytes(it->decided_by) + text_bytes(it->comment);
    }
    return bytes;
}

static uint64_t client_bytes(const struct sl_run *run)
{
    const size_t n_tools = run->agent->n_tools + run->options.n_client_tools;
    uint64_t bytes = run->client.chat_tools == NULL ? 0 : n_tools * sizeof(struct sl_chat_tool);
    if (run->client.inputs != NULL) {
        bytes += run->env->limits->user_inputs * sizeof(*run->client.inputs);
    }
    for (size_t i = 0; i < run->tools.n_slots; i++) {
        const struct sl_client_result *early = &run->tools.slots[i]->early;
        bytes += text_bytes(early->result_json) + text_bytes(early->error);
    }
    return bytes;
}

static uint64_t tool_bytes(const struct sl_run *run)
{
    uint64_t bytes = run->tools.capacity * sizeof(struct sl_tool_slot *);
    for (size_t i = 0; i < run->tools.n_slots; i++) {
        bytes += slot_bytes(run->tools.slots[i]);
    }
    return bytes;
}

void sl_run_account(const struct sl_run *run, struct sl_account *ret_account)
{
    SL_ON_LOOP(run->env->loop);
    *ret_account = (struct sl_account){
        .own = sizeof(*run) + approval_bytes(&run->approvals) + text_bytes(run->turn.violation),
        .log = sl_event_channel_bytes(run->channel),
        .conversation = sl_history_memory(&run->history),
        .text = run->hold.capacity + run->collect.text.capacity + run->collect.reasoning.capacity,
        .tools = tool_bytes(run),
        .client = client_bytes(run),
        .store =
            run->session.bytes.capacity + (run->record == NULL ? 0 : record_bytes(run->record)),
        .model = run->turn.handle == NULL ? 0 : sl_model_turn_bytes(run->turn.handle),
    };
}
