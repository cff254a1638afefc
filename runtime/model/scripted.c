/* Provider "scripted": plays a scenario in the process, with the retries that a request over HTTP
 * would have. */
#include <strings.h>

#include "runtime/base/mem.h"
#include "runtime/base/utf8.h"
#include "runtime/model/call_arguments.h"
#include "runtime/model/openai_error.h"
#include "runtime/model/timed_turn.h"

enum { SCRIPTED_PIECES_PER_TURN = 256 };

struct scripted_turn {
    struct sl_timed_turn timed;
    const struct sl_model_entry *entry;
    struct sl_retry_budget *budget;
    const struct sl_scenario *scenario;
    struct sl_scenario_player *player;
    struct sl_scenario_facts facts;
    uint64_t deadline_ns;
    uint64_t piece_due_ns;
    struct sl_scenario_piece piece; /* read, not given yet */
    bool has_piece, has_output, is_hanging;
    struct sl_buf arguments; /* of the call that is coming */
    bool is_over;            /* its arguments are longer than their limit */
    uint32_t n_calls;
    struct sl_model_usage usage;
    char finish[64];
    uint64_t received_bytes;
    unsigned n_retries;
    char *model, *input, *tool_result;
};

static struct scripted_turn *of(struct sl_timed_turn *turn)
{
    return SL_CONTAINER(turn, struct scripted_turn, timed);
}

/* ---- Endings --------------------------------------------------------------------------------- */

static enum sl_model_finish map_finish(const char *text, uint32_t n_calls)
{
    if (strcmp(text, "stop") == 0) {
        return n_calls > 0 ? SL_FINISH_TOOL_USE : SL_FINISH_END_TURN;
    }
    if (strcmp(text, "tool_calls") == 0) {
        return SL_FINISH_TOOL_USE;
    }
    if (strcmp(text, "length") == 0) {
        return SL_FINISH_MAX_TOKENS;
    }
    return strcmp(text, "content_filter") == 0 ? SL_FINISH_CONTENT_FILTER : SL_FINISH_UNKNOWN;
}

static void give_finish(struct scripted_turn *self)
{
    sl_retry_budget_succeed(self->budget);
    (void)sl_turn_emit(
        &self->timed.base, &(struct sl_model_chunk){
                               .kind = SL_CHUNK_FINISH,
                               .finish = map_finish(self->finish, self->n_calls),
                               .raw = self->finish,
                               .answered_model = sl_scenario_model(self->scenario),
                               .request_bytes = self->facts.request_bytes,
                               .received_bytes = self->received_bytes,
                               .n_requests = self->n_retries + 1,
                               .retry_after_ms = -1,
                           });
}

static void give_fail(
    struct scripted_turn *self,
    const struct sl_provider_error *error,
    uint32_t status,
    int64_t retry_after_ms)
{
    (void)sl_turn_emit(
        &self->timed.base, &(struct sl_model_chunk){
                               .kind = SL_CHUNK_FAIL,
                               .fault = error->fault,
                               .is_retryable = sl_model_fault_is_retryable(error->fault),
                               .retry_after_ms = retry_after_ms,
                               .http_status = status,
                               .message = error->text,
                               .request_bytes = status == 0 ? self->facts.request_bytes : 0,
                               .received_bytes = self->received_bytes,
                               .n_requests = self->n_retries + 1,
                           });
}

static uint64_t remaining_ms(const struct scripted_turn *self)
{
    const uint64_t now_ns = sl_loop_now_ns(self->timed.base.loop);
    return now_ns >= self->deadline_ns ? 0 : (self->deadline_ns - now_ns) / SL_NS_PER_MS;
}

static enum sl_status open_player(struct scripted_turn *self, struct sl_error *err)
{
    self->player = sl_scenario_player_free(self->player);
    self->has_piece = false;
    return sl_scenario_play(self->scenario, &self->facts, &self->player, err);
}

/* The attempt has failed: again, or the end. */
static void end_attempt(
    struct scripted_turn *self, struct sl_provider_error *error, uint32_t status, int64_t asked_ms)
{
    uint64_t wait_ms = 0;
    const struct sl_retry_question question = {
        .is_retryable = error->is_retryable,
        .has_output = self->has_output,
        .n_retries = self->n_retries,
        .max_retries = self->entry->limits.model_retries,
        .max_wait_ms = self->entry->limits.model_retry_after,
        .asked_ms = asked_ms,
        .remaining_ms = remaining_ms(self),
    };
    switch (sl_retry_decide(&question, self->budget, &wait_ms)) {
    case SL_RETRY_NO:
        give_fail(self, error, status, asked_ms);
        return;
    case SL_RETRY_TOO_LONG:
        error->fault = SL_FAULT_PROVIDER_RATE_LIMITED;
        give_fail(self, error, status, (int64_t)wait_ms);
        return;
    case SL_RETRY_WAIT:
        break;
    }
    self->n_retries++;
    self->facts.attempt++;
    if (open_player(self, NULL) != SL_OK) {
        sl_turn_fail(&self->timed.base, SL_FAULT_OUT_OF_MEMORY, "no memory for a scenario");
        return;
    }
    sl_timer_start(
        &self->timed.timer, sl_loop_now_ns(self->timed.base.loop) + wait_ms * SL_NS_PER_MS);
    sl_turn_retry(&self->timed.base, error->fault);
}

static void end_by_error(struct scripted_turn *self, const struct sl_scenario_piece *piece)
{
    struct sl_provider_error error = { 0 };
    sl_openai_map_error(piece->status, piece->code, piece->code, piece->message, &error);
    const int64_t asked_ms = piece->retry_after < 0 ? -1 : (int64_t)(piece->retry_after * 1000);
    end_attempt(self, &error, piece->status, asked_ms);
}

static void end_by_cut(struct scripted_turn *self)
{
    struct sl_provider_error error = {
        .fault = SL_FAULT_PROVIDER_TRUNCATED,
        .is_retryable = true,
        .text = "cut by the scenario",
    };
    end_attempt(self, &error, 0, -1);
}

/* ---- Pieces ---------------------------------------------------------------------------------- */

static void give_text(struct scripted_turn *self, const struct sl_scenario_piece *piece)
{
    self->has_output = true;
    self->received_bytes += piece->text.size;
    (void)sl_turn_emit(
        &self->timed.base,
        &(struct sl_model_chunk){
            .kind = piece->kind == SL_SCENARIO_TEXT ? SL_CHUNK_TEXT : SL_CHUNK_REASONING,
            .text = piece->text,
            .retry_after_ms = -1,
        });
}

static void give_call(struct scripted_turn *self, const struct sl_scenario_piece *piece)
{
    struct sl_model_chunk chunk = {
        .kind = SL_CHUNK_CALL_FRAGMENT,
        .text = piece->text,
        .index = piece->index,
        .id = piece->id,
        .name = piece->name,
        .retry_after_ms = -1,
    };
    self->has_output = true;
    self->received_bytes += piece->text.size;
    if (piece->is_first) {
        self->n_calls++;
        sl_buf_clear(&self->arguments);
        self->is_over = false;
    }
    if (self->n_calls > self->entry->limits.calls_per_iteration) {
        sl_turn_fail(&self->timed.base, SL_FAULT_PROVIDER_LIMIT, "too many tool calls");
        return;
    }
    if (sl_call_arguments_add(&self->arguments, piece->text, &self->is_over) != SL_OK) {
        sl_turn_fail(
            &self->timed.base, SL_FAULT_OUT_OF_MEMORY, "no memory for the arguments of a call");
        return;
    }
    chunk.over_bytes = self->is_over ? self->entry->limits.tool_arguments : 0;
    if (!sl_turn_emit(&self->timed.base, &chunk) || !piece->is_last) {
        return;
    }
    chunk.kind = SL_CHUNK_CALL;
    chunk.text = self->arguments.size == 0 ? sl_slice_str("{}") : sl_buf_slice(&self->arguments);
    (void)sl_turn_emit(&self->timed.base, &chunk);
}

static void give_usage(struct scripted_turn *self, const struct sl_scenario_piece *piece)
{
    (void)sl_turn_emit(
        &self->timed.base,
        &(struct sl_model_chunk){
            .kind = SL_CHUNK_USAGE,
            .retry_after_ms = -1,
            .usage = {
                .has_input = true,
                .has_output = true,
                .input_tokens = piece->input_tokens,
                .output_tokens = piece->output_tokens,
                .cache_read_tokens = piece->cached_tokens,
                .reasoning_tokens = piece->reasoning_tokens,
            },
        });
}

static void give_piece(struct scripted_turn *self, const struct sl_scenario_piece *piece)
{
    switch (piece->kind) {
    case SL_SCENARIO_TEXT:
    case SL_SCENARIO_THINKING:
        give_text(self, piece);
        break;
    case SL_SCENARIO_CALL:
        give_call(self, piece);
        break;
    case SL_SCENARIO_USAGE:
        give_usage(self, piece);
        break;
    case SL_SCENARIO_FINISH: {
        /* It is given at the end, because usage may follow. */
        const size_t n = sl_utf8_cut(piece->text, sizeof(self->finish) - 1);
        memcpy(self->finish, piece->text.data, n);
        self->finish[n] = '\0';
        break;
    }
    case SL_SCENARIO_ERROR:
        end_by_error(self, piece);
        break;
    case SL_SCENARIO_HANG:
        self->is_hanging = true;
        sl_timer_start(&self->timed.timer, self->deadline_ns);
        break;
    case SL_SCENARIO_CUT:
        end_by_cut(self);
        break;
    case SL_SCENARIO_RAW:
        break; /* has a meaning over HTTP only */
    case SL_SCENARIO_END:
        give_finish(self);
        break;
    }
}

/* Reads the next piece; false: memory is gone, and that was told. */
static bool read_piece(struct scripted_turn *self)
{
    if (self->has_piece) {
        return true;
    }
    if (sl_scenario_next(self->player, &self->piece) != SL_OK) {
        sl_turn_fail(&self->timed.base, SL_FAULT_OUT_OF_MEMORY, "no memory for a scenario");
        return false;
    }
    self->has_piece = true;
    self->piece_due_ns =
        sl_loop_now_ns(self->timed.base.loop) + self->piece.delay_ms * SL_NS_PER_MS;
    return true;
}

static void pump(struct sl_timed_turn *turn)
{
    struct scripted_turn *self = of(turn);
    size_t left = SCRIPTED_PIECES_PER_TURN;
    while (sl_turn_is_live(&self->timed.base) && !sl_timer_is_running(&self->timed.timer)) {
        const uint64_t now_ns = sl_loop_now_ns(self->timed.base.loop);
        if (now_ns >= self->deadline_ns) {
            sl_turn_fail(&self->timed.base, SL_FAULT_DEADLINE, "the run's time is over");
            return;
        }
        if (self->is_hanging || sl_turn_is_full(&self->timed.base) || !read_piece(self)) {
            return;
        }
        if (left-- == 0 || self->piece_due_ns > now_ns) {
            const uint64_t due_ns = self->piece_due_ns > now_ns ? self->piece_due_ns : now_ns;
            sl_timer_start(
                &self->timed.timer, due_ns < self->deadline_ns ? due_ns : self->deadline_ns);
            return;
        }
        self->has_piece = false;
        if (self->piece.is_opening) {
            sl_turn_phase(&self->timed.base, SL_MODEL_STREAM);
        }
        give_piece(self, &self->piece);
    }
}

static void destroy(struct sl_timed_turn *turn)
{
    struct scripted_turn *self = of(turn);
    sl_scenario_player_free(self->player);
    sl_buf_done(&self->arguments);
    sl_free(self->model);
    sl_free(self->input);
    sl_free(self->tool_result);
    sl_free(self);
}

/* ---- Start ----------------------------------------------------------------------------------- */

/* Copies what the templates can ask for. */
static enum sl_status copy_facts(struct scripted_turn *self, const struct sl_model_request *request)
{
    struct sl_slice result = sl_slice_of(NULL, 0);
    uint64_t bytes = request->system == NULL ? 0 : strlen(request->system);
    for (size_t i = 0; i < request->n_messages; i++) {
        const struct sl_chat_message *message = &request->messages[i];
        bytes += message->content.size;
        if (message->role == SL_CHAT_TOOL) {
            result = message->content;
        } else if (message->role == SL_CHAT_USER) {
            result = sl_slice_of(NULL, 0);
        }
    }
    result.size = sl_utf8_cut(result, SL_SCENARIO_TEMPLATE_BYTES);
    self->model = sl_strdup(request->model);
    self->input = sl_strdup(request->input == NULL ? "" : request->input);
    self->tool_result = sl_strndup((const char *)result.data, result.size);
    if (self->model == NULL || self->input == NULL || self->tool_result == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    self->facts = (struct sl_scenario_facts){
        .input = sl_slice_str(self->input),
        .last_tool_result = sl_slice_of(self->tool_result, result.size),
        .model = self->model,
        .iteration = request->iteration == 0 ? 1 : request->iteration,
        .request_bytes = bytes,
    };
    return SL_OK;
}

enum sl_status sl_scripted_turn_start(
    const struct sl_turn_start *start, struct sl_model_turn **ret_turn, struct sl_error *err)
{
    static const struct sl_timed_turn_ops ops = { .pump = pump, .destroy = destroy };
    const struct sl_model_request *request = start->request;
    const struct sl_scenario *scenario =
        sl_models_scenario(start->models, start->entry, request->model);
    if (scenario == NULL) {
        return sl_fail(err, SL_NOT_FOUND, "there is no scenario '%s'", request->model);
    }
    struct scripted_turn *self = sl_calloc(1, sizeof(*self));
    if (self == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for a turn");
    }
    const uint64_t now_ns = sl_loop_now_ns(start->loop);
    sl_timed_turn_init(&self->timed, &ops, start);
    sl_buf_init(&self->arguments, start->entry->limits.tool_arguments);
    self->entry = start->entry;
    self->budget = &start->entry->budget;
    self->scenario = scenario;
    self->deadline_ns =
        request->remaining_ms == 0 ? SL_NEVER_NS : now_ns + request->remaining_ms * SL_NS_PER_MS;
    enum sl_status status = copy_facts(self, request);
    if (status == SL_OK) {
        status = open_player(self, err);
    }
    if (status != SL_OK) {
        sl_model_turn_free(&self->timed.base);
        return sl_fail(err, status, "scenario '%s': no turn fits, or no memory", request->model);
    }
    sl_timer_start(&self->timed.timer, now_ns);
    *ret_turn = &self->timed.base;
    return SL_OK;
}
