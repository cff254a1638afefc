/* The tool phase of an iteration (AL-6): up to parallel_tools calls at once, started in call order,
 * completed as they end, answered to the model in call order. A failed call never ends the run. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/base/utf8.h"
#include "runtime/exec/result_text.h"
#include "runtime/exec/run_metrics.h"
#include "runtime/exec/run_private.h"

enum { PROGRESS_GAP_MS = 100, SHOWN_NAME_BYTES = 64 };

/* ---- A call is asked for -----------------------------------------------------------------------
 */

static bool is_id_taken(const struct sl_run *run, const char *id)
{
    for (size_t i = 0; i < run->tools.n_slots; i++) {
        if (strcmp(run->tools.slots[i]->call_id, id) == 0) {
            return true;
        }
    }
    return false;
}

/* Fills the texts; false: no memory. */
static bool
fill_slot(struct sl_run *run, struct sl_tool_slot *slot, const struct sl_model_chunk *chunk)
{
    const struct sl_slice arguments = chunk->text.size == 0 ? sl_slice_str("{}") : chunk->text;
    const char *provider_id =
        sl_history_text(&run->history, sl_slice_str(chunk->id == NULL ? "" : chunk->id));
    slot->run = run;
    slot->name = sl_history_text(&run->history, sl_slice_str(chunk->name));
    slot->arguments = sl_history_text(&run->history, arguments);
    if (chunk->opaque != NULL) {
        slot->opaque_json = sl_history_text(&run->history, sl_slice_str(chunk->opaque));
    }
    if (provider_id == NULL || slot->name == NULL || slot->arguments == NULL) {
        return false;
    }
    (void)snprintf(slot->tool_id, sizeof(slot->tool_id), "tool_%" PRIu32, ++run->tools.n_minted);
    const bool is_of_use = provider_id[0] != '\0' && !is_id_taken(run, provider_id);
    slot->provider_id = provider_id;
    slot->call_id = is_of_use ? provider_id : slot->tool_id;
    slot->is_cut = chunk->is_cut;
    slot->over_bytes = chunk->over_bytes;
    return true;
}

static bool grow(struct sl_run *run)
{
    if (run->tools.n_slots < run->tools.capacity) {
        return true;
    }
    const size_t capacity = run->tools.capacity == 0 ? 4 : run->tools.capacity * 2;
    struct sl_tool_slot **slots =
        sl_realloc(run->tools.slots, capacity * sizeof(struct sl_tool_slot *));
    if (slots == NULL) {
        return false;
    }
    run->tools.slots = slots;
    run->tools.capacity = capacity;
    return true;
}

static bool emit_start(struct sl_run *run, const struct sl_tool_slot *slot)
{
    Sluice__V1__ToolCallStart start;
    sluice__v1__tool_call_start__init(&start);
    start.tool_name = sl_pb_text(slot->name);
    start.tool_id = sl_pb_text(slot->tool_id);
    start.arguments_json = sl_pb_text(slot->arguments_json);
    start.provider_call_id = sl_pb_text(slot->provider_id);
    Sluice__V1__StreamEvent event;
    sluice__v1__stream_event__init(&event);
    event.event_case = SL_EVENT(TOOL_CALL_START);
    event.tool_call_start = &start;
    return sl_run_emit(run, &event);
}

/* The arguments are read: the call is counted and shown. False: the run is ending. */
static bool
take_arguments(struct sl_run *run, struct sl_tool_slot *slot, const struct sl_arguments *arguments)
{
    slot->arguments_json = arguments->is_object
                               ? slot->arguments
                               : sl_history_text(&run->history, sl_slice_str(arguments->wrapped));
    if (slot->arguments_json == NULL) {
        sl_run_fail_full(run);
        return false;
    }
    const enum sl_budget_verdict verdict = sl_budget_call(&run->budget, arguments->digest);
    if (run->tools.verdict == SL_BUDGET_OK) {
        run->tools.verdict = verdict;
    }
    memcpy(slot->digest, arguments->canonical, SL_SHA256_BYTES);
    if (!emit_start(run, slot)) {
        return false;
    }
    slot->state = SL_SLOT_ASKED;
    run->tools.n_read++;
    return true;
}

/* Half a call is none. */
static void drop_next(struct sl_run *run)
{
    struct sl_tool_slot **slots = run->tools.slots;
    const size_t at = run->tools.n_read;
    (void)sl_free(slots[at]);
    run->tools.n_slots--;
    memmove(&slots[at], &slots[at + 1], (run->tools.n_slots - at) * sizeof(struct sl_tool_slot *));
}

/* Takes what was read of the next call. */
static void take_read(struct sl_run *run, enum sl_status status, struct sl_arguments *arguments)
{
    struct sl_tool_slot *slot = run->tools.slots[run->tools.n_read];
    if (status != SL_OK) {
        sl_run_fail(run, SL_CODE(OUT_OF_MEMORY));
        return;
    }
    if (slot->is_cut && !arguments->is_object) {
        drop_next(run);
    } else {
        (void)take_arguments(run, slot, arguments);
    }
    (void)sl_free(arguments->wrapped);
}

static void read_more(struct sl_run *run);

static void on_read(void *user_data, enum sl_status status, struct sl_arguments *arguments)
{
    struct sl_run *run = user_data;
    run->tools.job = NULL;
    take_read(run, status, arguments);
    read_more(run);
    if (run->turn.is_waiting && !run->is_claimed && run->tools.n_read == run->tools.n_slots) {
        sl_run_answered(run);
    }
}

/* One after the other, so that the events keep the order of the calls. */
static void read_more(struct sl_run *run)
{
    while (run->tools.job == NULL && !run->is_claimed && run->tools.n_read < run->tools.n_slots) {
        const struct sl_tool_slot *slot = run->tools.slots[run->tools.n_read];
        struct sl_arguments arguments = { .wrapped = NULL };
        if (strlen(slot->arguments) <= SL_JOB_DOCUMENT_BYTES) {
            const bool is_whole = slot->over_bytes == 0;
            const enum sl_status status =
                sl_arguments_read(slot->name, slot->arguments, is_whole, &arguments);
            take_read(run, status, &arguments);
            continue;
        }
        run->tools.job =
            sl_arguments_start(run->env->loop, slot->name, slot->arguments, on_read, run);
        if (run->tools.job == NULL) {
            sl_run_fail(run, SL_CODE(OUT_OF_MEMORY));
        }
    }
}

void sl_run_tool_asked(struct sl_run *run, const struct sl_model_chunk *chunk)
{
    run->turn.facts.received_bytes += chunk->text.size;
    if (run->tools.n_slots >= run->env->limits->calls_per_iteration) {
        sl_limit_reached(SL_LIMIT_calls_per_iteration);
        struct sl_ending ending = sl_ending_error(SL_CODE(PROVIDER_LIMIT));
        sl_ending_say(&ending, "The model asked for too many tool calls at once");
        sl_run_finish(run, &ending);
        return;
    }
    struct sl_tool_slot *slot = sl_calloc(1, sizeof(*slot));
    if (slot == NULL || !grow(run) || !fill_slot(run, slot, chunk)) {
        (void)sl_free(slot);
        sl_run_fail_full(run);
        return;
    }
    sl_buf_init(&slot->progress.held, SL_PROGRESS_BYTES + 8);
    run->tools.slots[run->tools.n_slots++] = slot;
    read_more(run);
}

/* ---- A call is answered ------------------------------------------------------------------------
 */

static void emit_complete(
    struct sl_run *run, const struct sl_tool_slot *slot, const struct sl_tool_result *result)
{
    const size_t size = sl_utf8_cut(result->result_json, run->env->limits->tool_result_event);
    char *result_json = sl_strndup((const char *)result->result_json.data, size);
    Sluice__V1__ToolCallComplete complete;
    sluice__v1__tool_call_complete__init(&complete);
    complete.tool_name = sl_pb_text(slot->name);
    complete.tool_id = sl_pb_text(slot->tool_id);
    complete.success = result->code == SL_TOOL_OK;
    complete.execution_time_ms = result->execution_time_ms;
    complete.error = sl_pb_text(result->error == NULL ? "" : result->error);
    complete.error_code = (Sluice__V1__ToolErrorCode)result->code; /* the same numbers */
    complete.result_json = result_json == NULL ? sl_pb_text("") : result_json;
    complete.result_truncated = result->is_truncated || size < result->result_json.size;
    complete.result_bytes = result->result_bytes;
    if (size < result->result_json.size) {
        sl_limit_reached(SL_LIMIT_tool_result_event);
    }
    complete.attempts = result->attempts;
    if (result->has_exit_code) {
        complete._exit_code_case = SLUICE__V1__TOOL_CALL_COMPLETE___EXIT_CODE_EXIT_CODE;
        complete.exit_code = result->exit_code;
    }
    Sluice__V1__StreamEvent event;
    sluice__v1__stream_event__init(&event);
    event.event_case = SL_EVENT(TOOL_CALL_COMPLETE);
    event.tool_call_complete = &complete;
    const bool is_out = sl_run_emit(run, &event);
    (void)sl_free(result_json);
    if (!is_out) {
        run->is_order_off = true;
    }
}

_Static_assert(
    (int)SL_TOOL_INTERNAL == (int)SLUICE__V1__TOOL_ERROR_CODE__TOOL_ERROR_CODE_INTERNAL &&
        (int)SL_TOOL_NOT_RUN == (int)SLUICE__V1__TOOL_ERROR_CODE__TOOL_ERROR_CODE_NOT_RUN,
    "tool codes have the numbers of the API");

void sl_run_slot_answer(struct sl_tool_slot *slot, const struct sl_tool_result *result)
{
    struct sl_run *run = slot->run;
    if (slot->state == SL_SLOT_DONE) {
        return;
    }
    run->tools.n_approved -= slot->state == SL_SLOT_APPROVED;
    run->tools.n_client -= slot->state == SL_SLOT_CLIENT;
    slot->state = SL_SLOT_DONE;
    slot->is_error = result->code != SL_TOOL_OK;
    slot->result = sl_result_text(result);
    emit_complete(run, slot, result);
    sl_run_count_tool(run, slot->name, result);
    if (slot->result == NULL) {
        sl_run_fail(run, SL_CODE(OUT_OF_MEMORY));
    }
}

void sl_run_slot_fail(struct sl_tool_slot *slot, enum sl_tool_code code, const char *fmt, ...)
{
    char text[256];
    va_list args;
    va_start(args, fmt);
    const int size = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (size >= (int)sizeof(text)) { /* perhaps inside a character */
        text[sl_utf8_cut(sl_slice_str(text), sizeof(text) - 2)] = '\0';
    }
    const struct sl_tool_result result = { .code = code, .error = text };
    sl_run_slot_answer(slot, &result);
}

/* ---- Live output -------------------------------------------------------------------------------
 */

static void emit_progress(struct sl_tool_slot *slot)
{
    struct sl_run *run = slot->run;
    struct sl_tool_progress *progress = &slot->progress;
    const char *text = progress->held.size == 0 ? NULL : sl_buf_cstr(&progress->held);
    if (text == NULL || run->is_claimed || sl_event_channel_is_full(run->channel)) {
        run->progress_dropped_bytes += progress->held.size;
        sl_buf_clear(&progress->held);
        return;
    }
    Sluice__V1__ToolProgress message;
    sluice__v1__tool_progress__init(&message);
    message.tool_id = slot->tool_id;
    message.output_chunk = sl_pb_text(text);
    message.output_stream = progress->is_stderr ? SLUICE__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDERR
                                                : SLUICE__V1__OUTPUT_STREAM__OUTPUT_STREAM_STDOUT;
    Sluice__V1__StreamEvent event;
    sluice__v1__stream_event__init(&event);
    event.event_case = SL_EVENT(TOOL_PROGRESS);
    event.tool_progress = &message;
    progress->next_ns = sl_loop_now_ns(run->env->loop) + PROGRESS_GAP_MS * SL_NS_PER_MS;
    (void)sl_run_emit(run, &event);
    sl_buf_clear(&progress->held);
}

static void on_progress_timer(void *user_data)
{
    emit_progress(user_data);
}

static void
on_output(struct sl_tool_call *call, bool is_stderr, struct sl_slice text, void *user_data)
{
    struct sl_tool_slot *slot = user_data;
    struct sl_run *run = slot->run;
    struct sl_tool_progress *progress = &slot->progress;
    (void)call;
    const bool may_send = sl_loop_now_ns(run->env->loop) >= progress->next_ns;
    if (progress->held.size > 0 && progress->is_stderr != is_stderr && may_send) {
        emit_progress(slot);
    } else if (progress->held.size > 0 && progress->is_stderr != is_stderr) {
        run->progress_dropped_bytes += text.size;
        return;
    }
    const size_t size = sl_utf8_cut(text, SL_PROGRESS_BYTES - progress->held.size);
    run->progress_dropped_bytes += text.size - size;
    progress->is_stderr = is_stderr;
    if (size > 0 && sl_buf_add(&progress->held, sl_slice_of(text.data, size)) != SL_OK) {
        run->progress_dropped_bytes += size;
    }
    if (sl_loop_now_ns(run->env->loop) >= progress->next_ns) {
        emit_progress(slot);
    } else if (!sl_timer_is_running(&progress->timer)) {
        sl_timer_start(&progress->timer, progress->next_ns);
    }
}

/* What is still held at the end goes only if its time has come: the result has it, too. */
static void end_progress(struct sl_tool_slot *slot)
{
    struct sl_tool_progress *progress = &slot->progress;
    sl_timer_stop(&progress->timer);
    if (sl_loop_now_ns(slot->run->env->loop) >= progress->next_ns) {
        emit_progress(slot);
    } else {
        slot->run->progress_dropped_bytes += progress->held.size;
    }
    sl_buf_done(&progress->held);
}

/* ---- Running -----------------------------------------------------------------------------------
 */

/* It was cancelled because the server goes. One that had not begun waits for the next. */
static void leave_call(struct sl_tool_slot *slot, const struct sl_tool_result *result)
{
    if (result->attempts == 0) {
        slot->state = SL_SLOT_APPROVED;
        slot->run->tools.n_approved++;
        slot->run->tools.n_executed--;
        return;
    }
    struct sl_tool_result unknown = *result;
    unknown.code = SL_TOOL_OUTCOME_UNKNOWN;
    unknown.error = "the server went down while it ran; nobody knows what became of it";
    sl_run_slot_answer(slot, &unknown);
}

static void on_done(struct sl_tool_call *call, const struct sl_tool_result *result, void *user_data)
{
    struct sl_tool_slot *slot = user_data;
    struct sl_run *run = slot->run;
    end_progress(slot);
    if (run->rest.is_parking && result->code == SL_TOOL_CANCELLED) {
        leave_call(slot, result);
    } else {
        sl_run_slot_answer(slot, result);
    }
    slot->call = sl_tool_call_free(call);
    run->tools.n_running--;
    if (run->is_claimed) {
        sl_run_finish_go_on(run);
    } else {
        sl_run_tools_go_on(run);
    }
}

const struct sl_chat_tool *sl_run_chat_tools(const struct sl_run *run, size_t *ret_n)
{
    *ret_n = run->agent->n_tools + run->client.n_tools;
    return run->client.chat_tools != NULL ? run->client.chat_tools : run->agent->chat_tools;
}

struct sl_tool *sl_run_find_tool(const struct sl_run *run, const char *name, bool *ret_is_client)
{
    size_t n = 0;
    const struct sl_chat_tool *tools = sl_run_chat_tools(run, &n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(tools[i].name, name) == 0) {
            *ret_is_client = i >= run->agent->n_tools;
            return *ret_is_client ? run->client.tools[i - run->agent->n_tools]
                                  : run->agent->tools[i];
        }
    }
    return NULL;
}

static void start_call(struct sl_tool_slot *slot, struct sl_tool *tool)
{
    struct sl_run *run = slot->run;
    const struct sl_tool_call_options options = {
        .tool = tool,
        .arguments_json = sl_slice_str(slot->arguments),
        .run_id = run->run_id,
        .tool_id = slot->tool_id,
        .remaining_ms = sl_run_remaining_ms(run),
        .credentials = run->credentials,
        .is_approved = slot->approval != NULL,
        .on_done = on_done,
        .on_output = on_output,
        .user_data = slot,
    };
    struct sl_exec_stats *stats = run->env->stats;
    const uint64_t n_calls = atomic_load_explicit(&stats->tool_calls, memory_order_relaxed);
    sl_timer_init(&slot->progress.timer, run->env->loop, on_progress_timer, slot);
    if (sl_tool_call_start(run->env->tools, run->env->loop, &options, &slot->call) != SL_OK) {
        sl_run_slot_fail(slot, SL_TOOL_OUT_OF_MEMORY, "%s: no memory", slot->name);
        return;
    }
    atomic_store_explicit(&stats->tool_calls, n_calls + 1, memory_order_relaxed);
    slot->state = SL_SLOT_RUNNING;
    run->tools.n_running++;
    run->tools.n_executed++;
}

/* There is room for it, and nobody has anything against it. */
static void begin_slot(struct sl_tool_slot *slot)
{
    bool is_client = false;
    struct sl_tool *tool = sl_run_find_tool(slot->run, slot->name, &is_client);
    slot->run->tools.n_approved -= slot->state == SL_SLOT_APPROVED;
    slot->state = SL_SLOT_ASKED;
    if (tool == NULL) { /* it was the client's, who is gone */
        sl_run_slot_fail(
            slot, SL_TOOL_UNKNOWN_TOOL, "%s: the client that had this tool is gone", slot->name);
    } else if (is_client) {
        sl_run_client_begin(slot, tool);
    } else {
        start_call(slot, tool);
    }
}

/* False: the call has failed. */
static bool check_arguments(struct sl_tool_slot *slot, const struct sl_tool *tool)
{
    struct sl_error err = { .text = "" };
    if (slot->over_bytes > 0) { /* T8 */
        sl_run_slot_fail(
            slot, SL_TOOL_INVALID_ARGS,
            "%s: the arguments have more than %" PRIu64 " bytes, which is the most allowed",
            slot->name, slot->over_bytes);
        return false;
    }
    if (tool == NULL ||
        sl_tool_check_arguments(tool, sl_slice_str(slot->arguments), &err) == SL_OK) {
        return true;
    }
    sl_run_slot_fail(slot, SL_TOOL_INVALID_ARGS, "%s: %s", slot->name, err.text);
    return false;
}

/* A tool that is not listed does not exist (AL-6.7). Nobody is asked about arguments that the tool
 * would refuse. */
static void start_slot(struct sl_tool_slot *slot)
{
    bool is_client = false;
    struct sl_tool *tool = sl_run_find_tool(slot->run, slot->name, &is_client);
    if (tool == NULL) {
        const size_t size = sl_utf8_cut(sl_slice_str(slot->name), SHOWN_NAME_BYTES);
        sl_run_slot_fail(
            slot, SL_TOOL_UNKNOWN_TOOL, "there is no tool '%.*s'", (int)size, slot->name);
        return;
    }
    switch (sl_tool_info(tool)->policy) {
    case SL_TOOL_ALLOW:
        if (check_arguments(slot, is_client ? tool : NULL)) { /* others check for themselves */
            begin_slot(slot);
        }
        break;
    case SL_TOOL_DENY:
        sl_run_slot_fail(slot, SL_TOOL_DENIED, "%s: denied by policy", slot->name);
        break;
    case SL_TOOL_ASK:
        if (check_arguments(slot, tool)) {
            sl_run_approval_ask(slot);
        }
        break;
    }
}

bool sl_run_tools_record(struct sl_run *run)
{
    while (run->tools.n_recorded < run->tools.n_slots) {
        const struct sl_tool_slot *slot = run->tools.slots[run->tools.n_recorded];
        assert(slot != NULL);
        if (slot->result == NULL) {
            return false;
        }
        const struct sl_chat_message message = {
            .role = SL_CHAT_TOOL,
            .content = sl_slice_str(slot->result),
            .call_id = slot->call_id,
            .tool_name = slot->name,
            .is_error = slot->is_error,
        };
        if (sl_history_add(&run->history, &message) != SL_OK) {
            return false;
        }
        run->tools.n_recorded++;
    }
    return true;
}

/* All calls are answered. */
static void go_on(struct sl_run *run)
{
    if (!sl_run_tools_record(run)) {
        sl_run_fail_full(run);
        return;
    }
    sl_run_session_phase(run);
    sl_run_set_state(run, SL_RUN_STATE_READY);
    sl_run_next_iteration(run);
}

static bool has_room(const struct sl_run *run)
{
    return !run->is_claimed &&
           run->tools.n_running + run->tools.n_client < run->agent->parallel_tools;
}

/* In call order: first those that somebody has approved meanwhile. NULL: none can begin now. */
static struct sl_tool_slot *next_slot(struct sl_run *run)
{
    for (size_t i = 0; i < run->tools.n_begun && run->tools.n_approved > 0; i++) {
        if (run->tools.slots[i]->state == SL_SLOT_APPROVED) {
            return run->tools.slots[i];
        }
    }
    if (run->tools.n_begun == run->tools.n_slots) {
        return NULL;
    }
    if (run->tools.n_pending >= run->env->limits->approvals) {
        sl_limit_reached(SL_LIMIT_approvals);
        return NULL;
    }
    return run->tools.slots[run->tools.n_begun++];
}

void sl_run_tools_go_on(struct sl_run *run)
{
    struct sl_tool_slot *slot;
    if (!run->is_claimed && !sl_run_wake(run)) {
        return;
    }
    if (!run->is_claimed && !sl_run_lease_wait(run, sl_run_tools_go_on)) {
        return;
    }
    while (has_room(run) && (slot = next_slot(run)) != NULL) {
        if (slot->state == SL_SLOT_APPROVED) {
            begin_slot(slot);
        } else {
            start_slot(slot);
        }
    }
    if (run->is_claimed || run->state != SL_RUN_STATE_TOOLS) {
        return;
    }
    const size_t n_open =
        run->tools.n_running + run->tools.n_client + run->tools.n_pending + run->tools.n_approved;
    if (run->tools.n_begun == run->tools.n_slots && n_open == 0) {
        go_on(run);
        return;
    }
    if (sl_run_is_waiting_approval(run)) {
        sl_run_rest(run);
    } else if (!has_room(run) && run->tools.n_begun < run->tools.n_slots) {
        if (!run->tools.must_wait &&
            run->agent->parallel_tools >= run->env->limits->parallel_tools) {
            sl_limit_reached(SL_LIMIT_parallel_tools);
        }
        run->tools.must_wait = true;
    }
}

void sl_run_tools_begin(struct sl_run *run)
{
    switch (run->tools.verdict) {
    case SL_BUDGET_OK:
        /* What nobody knows of is not done (AL-6.2). */
        if (sl_run_record_wait(run, sl_run_tools_go_on)) {
            sl_run_tools_go_on(run);
        }
        break;
    case SL_BUDGET_CALLS: {
        struct sl_ending ending = sl_ending_error(SL_CODE(BUDGET_EXCEEDED));
        if (run->budget.max_calls >= run->env->limits->calls_per_run) {
            sl_limit_reached(SL_LIMIT_calls_per_run);
        }
        sl_ending_say(
            &ending, "More than %" PRIu64 " tool calls in one run", run->budget.max_calls);
        sl_run_finish(run, &ending);
        break;
    }
    case SL_BUDGET_LOOP:
        sl_limit_reached(SL_LIMIT_loop_guard);
        sl_run_fail(run, SL_CODE(LOOP_DETECTED));
        break;
    }
}

void sl_run_tools_cancel(struct sl_run *run, enum sl_tool_code code)
{
    run->tools.job = sl_arguments_drop(run->tools.job);
    for (size_t i = 0; i < run->tools.n_slots; i++) {
        struct sl_tool_slot *slot = run->tools.slots[i];
        switch (slot->state) {
        case SL_SLOT_UNREAD:
            break; /* nobody knows of it */
        case SL_SLOT_PENDING:
            sl_run_approval_cancel(slot);
            sl_run_slot_fail(slot, code, "%s: not executed: run ended", slot->name);
            break;
        case SL_SLOT_ASKED:
        case SL_SLOT_APPROVED:
            sl_run_slot_fail(slot, code, "%s: not executed: run ended", slot->name);
            break;
        case SL_SLOT_CLIENT:
            sl_timer_stop(&slot->wait_timer);
            sl_run_slot_fail(slot, SL_TOOL_CANCELLED, "%s: the run ended", slot->name);
            break;
        case SL_SLOT_RUNNING:
            sl_tool_call_cancel(slot->call);
            break;
        case SL_SLOT_DONE:
            break;
        }
    }
}

void sl_run_tools_clear(struct sl_run *run)
{
    assert(run->tools.n_running == 0);
    for (size_t i = 0; i < run->tools.n_slots; i++) {
        struct sl_tool_slot *slot = run->tools.slots[i];
        sl_buf_done(&slot->progress.held);
        sl_run_client_forget(slot);
        (void)sl_free(slot->result);
        (void)sl_free(slot);
    }
    run->tools.n_slots = run->tools.n_read = run->tools.n_begun = run->tools.n_recorded = 0;
    run->tools.must_wait = false;
    run->tools.verdict = SL_BUDGET_OK;
}
