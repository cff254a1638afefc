/* What the client of a Converse stream brings to its run (AL-6.8): tools that it runs itself, and
 * further words of the user.
 *
 *   ToolCallStart ─▶ CLIENT ─ sl_run_tool_result, limits.client_tool, end of the run ─▶ DONE
 *        └─ a result that comes before the call begins is kept for it */
#include <inttypes.h>
#include <stdio.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/exec/run_private.h"

enum { MS_PER_S = 1000 };

/* ---- Tools -------------------------------------------------------------------------------------
 */

enum sl_status sl_run_client_init(struct sl_run *run)
{
    const size_t n_own = run->agent->n_tools;
    const size_t n_client = run->options.n_client_tools;
    if (n_client == 0) {
        return SL_OK;
    }
    struct sl_chat_tool *tools = sl_calloc(n_own + n_client, sizeof(*tools));
    if (tools == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    for (size_t i = 0; i < n_own; i++) {
        tools[i] = run->agent->chat_tools[i];
    }
    for (size_t i = 0; i < n_client; i++) {
        const struct sl_tool_info *info = sl_tool_info(run->options.client_tools[i]);
        tools[n_own + i] = (struct sl_chat_tool){ .name = info->name,
                                                  .description = info->description,
                                                  .parameters_json = info->parameters_json };
    }
    run->client.chat_tools = tools;
    run->client.tools = run->options.client_tools;
    run->client.n_tools = n_client;
    return SL_OK;
}

void sl_run_client_done(struct sl_run *run)
{
    run->client.chat_tools = sl_free(run->client.chat_tools);
    (void)sl_free(run->client.inputs);
    run->client.inputs = NULL;
}

void sl_run_client_forget(struct sl_tool_slot *slot)
{
    sl_client_result_done(&slot->early);
}

static void take_result(struct sl_tool_slot *slot, struct sl_client_result *result)
{
    const struct sl_run *run = slot->run;
    const uint64_t ns = sl_loop_now_ns(run->env->loop) - slot->client_since_ns;
    const char *json = result->result_json == NULL ? "" : result->result_json;
    const struct sl_tool_result answer = {
        .code = result->error == NULL ? SL_TOOL_OK : SL_TOOL_MCP_TOOL_ERROR,
        .error = result->error,
        .result_json = sl_slice_str(json),
        .is_truncated = result->is_truncated,
        .result_bytes = result->result_bytes,
        .attempts = 1,
        .execution_time_ms = ns / SL_NS_PER_MS,
    };
    sl_timer_stop(&slot->wait_timer);
    sl_run_slot_answer(slot, &answer);
    sl_client_result_done(result);
}

static void on_late(void *user_data)
{
    struct sl_tool_slot *slot = user_data;
    const uint64_t most_ms = slot->run->env->limits->client_tool;
    sl_limit_reached(SL_LIMIT_client_tool);
    sl_run_slot_fail(
        slot, SL_TOOL_TIMEOUT, "%s: no result from the client after %" PRIu64 " s", slot->name,
        most_ms / MS_PER_S);
    sl_run_tools_go_on(slot->run);
}

void sl_run_client_begin(struct sl_tool_slot *slot, struct sl_tool *tool)
{
    struct sl_run *run = slot->run;
    struct sl_exec_stats *stats = run->env->stats;
    const uint64_t n_calls = atomic_load_explicit(&stats->tool_calls, memory_order_relaxed);
    (void)tool;
    atomic_store_explicit(&stats->tool_calls, n_calls + 1, memory_order_relaxed);
    slot->state = SL_SLOT_CLIENT;
    slot->client_since_ns = sl_loop_now_ns(run->env->loop);
    run->tools.n_client++;
    sl_timer_init(&slot->wait_timer, run->env->loop, on_late, slot);
    if (slot->early.is_there) {
        take_result(slot, &slot->early);
    } else {
        sl_timer_start_ms(&slot->wait_timer, run->env->limits->client_tool);
    }
}

void sl_run_client_gone(struct sl_run *run)
{
    run->client.n_tools = 0;
    for (size_t i = 0; i < run->tools.n_begun; i++) {
        struct sl_tool_slot *slot = run->tools.slots[i];
        if (slot->state == SL_SLOT_CLIENT) {
            sl_timer_stop(&slot->wait_timer);
            sl_run_slot_fail(
                slot, SL_TOOL_OUTCOME_UNKNOWN,
                "%s: the client that ran it is gone; nobody knows what became of it", slot->name);
        }
    }
    if (run->state == SL_RUN_STATE_TOOLS && run->tools.n_begun > 0) { /* or they wait to begin */
        sl_run_tools_go_on(run);
    }
}

static struct sl_tool_slot *find_slot(const struct sl_run *run, const char *tool_id)
{
    for (size_t i = 0; i < run->tools.n_read; i++) {
        if (strcmp(run->tools.slots[i]->tool_id, tool_id) == 0) {
            return run->tools.slots[i];
        }
    }
    return NULL;
}

/* Of an earlier iteration: whoever is late gets no error for it. */
static bool was_asked(const struct sl_run *run, const char *tool_id)
{
    char text[SL_TOOL_ID_BYTES];
    bool is_it = false;
    for (uint32_t i = 1; i <= run->tools.n_minted && !is_it; i++) {
        (void)snprintf(text, sizeof(text), "tool_%" PRIu32, i);
        is_it = strcmp(text, tool_id) == 0;
    }
    return is_it;
}

enum sl_status sl_run_tool_result(
    struct sl_run *run,
    const char *tool_id,
    struct sl_slice result,
    struct sl_slice error,
    struct sl_error *err)
{
    SL_ON_LOOP(run->env->loop);
    bool is_client = false;
    struct sl_tool_slot *slot = find_slot(run, tool_id);
    if (slot == NULL && was_asked(run, tool_id)) {
        return SL_OK;
    }
    if (slot == NULL) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "tool_result.tool_id: there is no such call");
    }
    struct sl_tool *tool = sl_run_find_tool(run, slot->name, &is_client);
    if (tool == NULL || !is_client) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "tool_result.tool_id: that call is not the client's");
    }
    if (run->is_claimed || slot->state == SL_SLOT_DONE || slot->early.is_there) {
        return SL_OK; /* the first one counts */
    }
    struct sl_client_result made;
    if (sl_client_result_make(result, error, (size_t)sl_tool_info(tool)->max_output_bytes, &made) !=
        SL_OK) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "out of memory");
    }
    if (slot->state != SL_SLOT_CLIENT) {
        slot->early = made;
        return SL_OK;
    }
    take_result(slot, &made);
    sl_run_tools_go_on(run);
    return SL_OK;
}

/* ---- Further input -----------------------------------------------------------------------------
 */

enum sl_status sl_run_user_input(struct sl_run *run, struct sl_slice text, struct sl_error *err)
{
    const struct sl_limits *limits = run->env->limits;
    SL_ON_LOOP(run->env->loop);
    if (run->is_claimed) {
        return sl_fail(err, SL_FAILED_PRECONDITION, "the run had its last iteration");
    }
    if (text.size == 0) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "user_input.text: must be given");
    }
    if (text.size > limits->input) {
        sl_limit_reached(SL_LIMIT_input);
        return sl_fail(
            err, SL_INVALID_ARGUMENT, "user_input.text: %zu bytes, at most %" PRIu64, text.size,
            limits->input);
    }
    if (run->client.n_inputs >= limits->user_inputs) {
        sl_limit_reached(SL_LIMIT_user_inputs);
        return SL_AGAIN;
    }
    if (run->client.inputs == NULL) {
        run->client.inputs = sl_calloc(limits->user_inputs, sizeof(*run->client.inputs));
    }
    const char *kept = run->client.inputs == NULL ? NULL : sl_history_text(&run->history, text);
    if (kept == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "user_input: no room for it");
    }
    run->client.inputs[run->client.n_inputs++] = kept;
    if (run->rest.is_resting) {
        sl_run_rest(run); /* with it */
    }
    return SL_OK;
}

bool sl_run_inputs_take(struct sl_run *run)
{
    const size_t n = run->client.n_inputs;
    for (size_t i = 0; i < n; i++) {
        const struct sl_chat_message message = { .role = SL_CHAT_USER,
                                                 .content = sl_slice_str(run->client.inputs[i]) };
        if (sl_history_add(&run->history, &message) != SL_OK) {
            sl_run_fail_full(run);
            return false;
        }
    }
    run->client.n_inputs = 0;
    if (n > 0 && run->options.on_inputs_taken != NULL) {
        run->options.on_inputs_taken(run->options.user_data);
    }
    return true;
}

bool sl_run_has_unheard_input(const struct sl_run *run)
{
    return run->client.n_inputs > 0;
}
