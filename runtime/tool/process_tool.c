/* The kind "process": a command line made of a template, its output, its end as JSON. */
#include <signal.h>
#include <stdio.h>

#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"
#include "runtime/tool/kind.h"
#include "runtime/tool/launch.h"
#include "runtime/tool/output.h"

struct process_attempt {
    struct sl_attempt base;
    struct sl_tools_loop *at;
    const struct sl_tool *tool;
    struct sl_process *process;
    struct sl_arena arena; /* words and environment of this start */
    struct sl_output output[2];
    struct sl_output_live live[2];
    bool wants_output;
    bool is_flood;
    bool is_out_of_memory;
};

/* ---- Words --------------------------------------------------------------------------------------
 */

/* A growing list; the template's size is no bound, since an array becomes several words. */
struct words {
    struct sl_arena *arena;
    const char **list;
    size_t n, capacity;
};

static bool add_word(struct words *words, const char *word)
{
    if (word == NULL) {
        return false;
    }
    if (words->n + 1 >= words->capacity) {
        const size_t capacity = words->capacity * 2 + 16;
        const char **list = sl_arena_calloc(words->arena, capacity, sizeof *list);
        if (list == NULL) {
            return false;
        }
        if (words->n > 0) {
            memcpy(list, words->list, words->n * sizeof *list);
        }
        words->list = list;
        words->capacity = capacity;
    }
    words->list[words->n++] = word;
    return true;
}

/* Text as it is, anything else as JSON. NULL: no memory. */
static const char *word_of(struct sl_arena *arena, const json_t *value)
{
    if (json_is_string(value)) {
        return sl_arena_dup(
            arena, sl_slice_of(json_string_value(value), json_string_length(value)));
    }
    const size_t flags = JSON_COMPACT | JSON_ENCODE_ANY;
    const size_t size = json_dumpb(value, NULL, 0, flags);
    char *word = size == 0 ? NULL : sl_arena_alloc(arena, size + 1);
    if (word != NULL) {
        word[json_dumpb(value, word, size, flags)] = '\0';
    }
    return word;
}

static bool add_value(
    struct words *words, const json_t *value, bool allows_dash, struct sl_tool_outcome *outcome)
{
    if (json_is_string(value) && !allows_dash && json_string_value(value)[0] == '-') {
        sl_outcome_fail(
            outcome, SL_TOOL_INVALID_ARGS,
            "an argument of this tool must not begin with '-': '%.60s'", json_string_value(value));
        return false;
    }
    if (add_word(words, word_of(words->arena, value))) {
        return true;
    }
    sl_outcome_fail(outcome, SL_TOOL_OUT_OF_MEMORY, "no memory for the tool's arguments");
    return false;
}

/* One word of the template: itself, or what the argument of this name says. An argument that is not
 * given leaves no word, an array leaves one for each of its items. */
static bool add_template_word(
    struct words *words,
    const char *word,
    const json_t *arguments,
    bool allows_dash,
    struct sl_tool_outcome *outcome)
{
    const size_t size = strlen(word);
    if (size <= 4 || strncmp(word, "{{", 2) != 0) {
        if (!add_word(words, word)) {
            sl_outcome_fail(outcome, SL_TOOL_OUT_OF_MEMORY, "no memory for the tool's arguments");
            return false;
        }
        return true;
    }
    char name[128];
    (void)snprintf(name, sizeof name, "%.*s", (int)(size - 4), word + 2);
    const json_t *value = json_object_get(arguments, name);
    if (value == NULL || json_is_null(value)) {
        return true;
    }
    if (!json_is_array(value)) {
        return add_value(words, value, allows_dash, outcome);
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        if (!add_value(words, json_array_get(value, i), allows_dash, outcome)) {
            return false;
        }
    }
    return true;
}

static bool make_words(
    struct words *words,
    const struct sl_process_template *template,
    const json_t *arguments,
    struct sl_tool_outcome *outcome)
{
    bool allows_dash = template->allows_dashes;
    for (size_t i = 0; template->argv[i] != NULL; i++) {
        if (!add_template_word(words, template->argv[i], arguments, allows_dash, outcome)) {
            return false;
        }
        allows_dash = allows_dash || strcmp(template->argv[i], "--") == 0;
    }
    return true; /* the list is terminated: one entry more than words is always there, and NULL */
}

/* Where the tool finds its credentials: the number of a descriptor, never a value. */
static const char credentials_variable[] = "SLUICE_CREDENTIALS_FD=4";
_Static_assert(SL_LAUNCH_CREDENTIALS_FD == 4, "the variable names the descriptor");

static const char *const *make_environment(
    struct sl_arena *arena,
    const struct sl_process_template *template,
    const char *key,
    bool has_credentials)
{
    struct words words = { .arena = arena };
    for (size_t i = 0; template->environment[i] != NULL; i++) {
        if (!add_word(&words, template->environment[i])) {
            return NULL;
        }
    }
    if (has_credentials && !add_word(&words, credentials_variable)) {
        return NULL;
    }
    const size_t size = strlen(key) + sizeof "SLUICE_IDEMPOTENCY_KEY=";
    char *text = sl_arena_alloc(arena, size);
    if (text != NULL) {
        (void)snprintf(text, size, "SLUICE_IDEMPOTENCY_KEY=%s", key);
    }
    return add_word(&words, text) ? words.list : NULL;
}

/* ---- Output -------------------------------------------------------------------------------------
 */

struct giving {
    struct process_attempt *attempt;
    bool is_stderr;
};

static void give(struct sl_slice text, void *user_data)
{
    struct giving *giving = user_data;
    sl_attempt_output(&giving->attempt->base, giving->is_stderr, text);
}

static void output(bool is_stderr, struct sl_slice bytes, void *user_data)
{
    struct process_attempt *attempt = user_data;
    if (attempt->is_flood) {
        return;
    }
    if (sl_output_add(&attempt->output[is_stderr], bytes) != SL_OK) {
        attempt->is_out_of_memory = true;
        sl_process_kill(attempt->process);
        return;
    }
    if (attempt->output[0].total_bytes + attempt->output[1].total_bytes >
        attempt->at->tools->limits->tool_output_kill) {
        attempt->is_flood = true;
        sl_limit_reached(SL_LIMIT_tool_output_kill);
        sl_process_kill(attempt->process);
        return;
    }
    if (attempt->wants_output) {
        struct giving giving = { .attempt = attempt, .is_stderr = is_stderr };
        sl_output_live_add(&attempt->live[is_stderr], bytes, false, give, &giving);
    }
}

/* ---- The end ------------------------------------------------------------------------------------
 */

static json_t *
text_of(const struct sl_output *output, size_t max_bytes, struct sl_tool_outcome *outcome)
{
    struct sl_buf text;
    bool is_cut = false;
    json_t *json = NULL;
    sl_buf_init(&text, max_bytes * 3 + 1024);
    if (sl_output_text(output, max_bytes, &text, &is_cut) == SL_OK) {
        json = json_stringn(text.size == 0 ? "" : (const char *)text.data, text.size);
    }
    sl_buf_done(&text);
    outcome->is_truncated = outcome->is_truncated || is_cut;
    if (is_cut) {
        sl_limit_reached(SL_LIMIT_tool_output_edge);
    }
    return json;
}

static size_t kept_bytes(const struct sl_output *output)
{
    return output->head.size + output->tail_size;
}

/* The two streams share the tool's max_output_bytes: stderr takes what it needs, but not more than
 * half when stdout needs the rest. */
static json_t *make_result(struct process_attempt *attempt, struct sl_tool_outcome *outcome)
{
    const size_t max_bytes = (size_t)attempt->tool->info.max_output_bytes;
    const size_t out = kept_bytes(&attempt->output[0]);
    const size_t error = kept_bytes(&attempt->output[1]);
    const size_t left = out < max_bytes / 2 ? max_bytes - out : max_bytes - max_bytes / 2;
    const size_t error_max = error < left ? error : left;
    json_t *json = json_object();
    json_t *exit_code = outcome->has_exit_code ? json_integer(outcome->exit_code) : json_null();
    if (json_object_set_new(
            json, "stdout", text_of(&attempt->output[0], max_bytes - error_max, outcome)) != 0 ||
        json_object_set_new(json, "stderr", text_of(&attempt->output[1], error_max, outcome)) !=
            0 ||
        json_object_set(json, "exit_code", exit_code) != 0) {
        json = (json_decref(json), NULL);
    }
    json_decref(exit_code);
    return json;
}

static void describe(
    const struct process_attempt *attempt,
    const struct sl_process_end *end,
    struct sl_tool_outcome *outcome)
{
    const char *name = attempt->tool->info.name;
    switch (end->how) {
    case SL_PROCESS_EXITED:
        outcome->has_exit_code = true;
        outcome->exit_code = end->value;
        if (end->value != 0) {
            sl_outcome_fail(
                outcome, SL_TOOL_EXIT_NONZERO, "%s: exited with code %d", name, end->value);
        }
        break;
    case SL_PROCESS_SIGNALLED:
        sl_outcome_fail(
            outcome, SL_TOOL_KILLED, "%s: killed by signal %d (%s)", name, end->value,
            sigabbrev_np(end->value) == NULL ? "?" : sigabbrev_np(end->value));
        break;
    case SL_PROCESS_NOT_STARTED:
        sl_outcome_fail(
            outcome, SL_TOOL_SPAWN_FAILED, "%s: cannot start '%.60s': %s", name,
            attempt->tool->process.argv[0], strerrordesc_np(end->value));
        break;
    case SL_PROCESS_LOST:
        sl_outcome_fail(outcome, SL_TOOL_KILLED, "%s: its supervisor was killed", name);
        break;
    }
}

static void ended(const struct sl_process_end *end, void *user_data)
{
    struct process_attempt *attempt = user_data;
    struct sl_tool_outcome outcome = { .is_unreaped = end->is_unreaped };
    describe(attempt, end, &outcome);
    outcome.result_bytes = attempt->output[0].total_bytes + attempt->output[1].total_bytes;
    if (attempt->is_flood) {
        sl_outcome_fail(
            &outcome, SL_TOOL_OUTPUT_LIMIT, "%s: killed after %llu bytes of output",
            attempt->tool->info.name, (unsigned long long)outcome.result_bytes);
    } else if (attempt->is_out_of_memory) {
        sl_outcome_fail(&outcome, SL_TOOL_OUT_OF_MEMORY, "no memory for the tool's output");
    } else if (attempt->wants_output) {
        for (int i = 0; i < 2; i++) {
            struct giving giving = { .attempt = attempt, .is_stderr = i == 1 };
            sl_output_live_add(&attempt->live[i], (struct sl_slice){ 0 }, true, give, &giving);
        }
    }
    if (end->how != SL_PROCESS_NOT_STARTED) {
        outcome.result = make_result(attempt, &outcome);
        if (outcome.result == NULL) {
            sl_outcome_fail(&outcome, SL_TOOL_OUT_OF_MEMORY, "no memory for the tool's output");
        }
    }
    sl_attempt_ended(&attempt->base, &outcome);
}

/* ---- Kind ---------------------------------------------------------------------------------------
 */

static void free_attempt(struct sl_attempt *base)
{
    struct process_attempt *attempt = SL_CONTAINER(base, struct process_attempt, base);
    attempt->process = sl_process_free(attempt->process);
    sl_output_done(&attempt->output[0]);
    sl_output_done(&attempt->output[1]);
    sl_arena_done(&attempt->arena);
    sl_free(attempt);
}

static void stop_attempt(struct sl_attempt *base)
{
    sl_process_stop(SL_CONTAINER(base, struct process_attempt, base)->process);
}

/* The credentials are in our memory for the time of the start only, besides the run's own copy. */
static enum sl_status start_process(
    struct process_attempt *attempt,
    const struct sl_attempt_options *options,
    struct sl_process_options *process,
    struct sl_error *err)
{
    const char *const *forward = options->tool->info.forward;
    uint8_t *block = NULL;
    size_t size = 0;
    if (forward != NULL &&
        sl_credentials_write(options->credentials, forward, &block, &size) != SL_OK) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory to start the tool");
    }
    process->credentials = sl_slice_of(block, size);
    const enum sl_status status =
        sl_process_start(&attempt->at->room, process, &attempt->process, err);
    (void)sl_credentials_wipe(block, size);
    return status;
}

static bool launch(
    struct process_attempt *attempt,
    const struct sl_attempt_options *options,
    struct sl_tool_outcome *outcome)
{
    const struct sl_process_template *template = &options->tool->process;
    struct words words = { .arena = &attempt->arena };
    if (!make_words(&words, template, options->arguments, outcome)) {
        return false;
    }
    struct sl_process_options process = {
        .argv = words.list,
        .environment = make_environment(
            &attempt->arena, template, options->key, options->tool->info.forward != NULL),
        .cwd = template->cwd,
        .tool = options->tool->info.name,
        .key = options->key,
        .on_output = output,
        .on_end = ended,
        .user_data = attempt,
    };
    const char *input =
        template->has_arguments_on_stdin ? word_of(&attempt->arena, options->arguments) : "";
    if (process.environment == NULL || input == NULL) {
        sl_outcome_fail(outcome, SL_TOOL_OUT_OF_MEMORY, "no memory to start the tool");
        return false;
    }
    process.input = sl_slice_str(input);
    struct sl_error err = { 0 };
    const enum sl_status status = start_process(attempt, options, &process, &err);
    if (status != SL_OK) {
        sl_outcome_fail(
            outcome, status == SL_RESOURCE_EXHAUSTED ? SL_TOOL_OUT_OF_MEMORY : SL_TOOL_SPAWN_FAILED,
            "%s: %s", options->tool->info.name, err.text);
    }
    return status == SL_OK;
}

static struct sl_attempt *
start_attempt(const struct sl_attempt_options *options, struct sl_tool_outcome *outcome)
{
    struct process_attempt *attempt = sl_calloc(1, sizeof *attempt);
    if (attempt == NULL) {
        sl_outcome_fail(outcome, SL_TOOL_OUT_OF_MEMORY, "no memory to start the tool");
        return NULL;
    }
    attempt->base = (struct sl_attempt){ .kind = &sl_tool_kind_process, .call = options->call };
    attempt->at = sl_tools_loop_of(options->tools, options->loop);
    attempt->tool = options->tool;
    attempt->wants_output = options->wants_output;
    sl_arena_init(&attempt->arena, 0);
    const size_t edge_bytes = (size_t)options->tools->limits->tool_output_edge;
    sl_output_init(&attempt->output[0], edge_bytes);
    sl_output_init(&attempt->output[1], edge_bytes);
    if (attempt->at == NULL) {
        sl_outcome_fail(outcome, SL_TOOL_INTERNAL, "this loop has no tools");
    } else if (launch(attempt, options, outcome)) {
        return &attempt->base;
    }
    free_attempt(&attempt->base);
    return NULL;
}

static uint64_t attempt_bytes(struct sl_attempt *base)
{
    const struct process_attempt *attempt = SL_CONTAINER(base, struct process_attempt, base);
    return sizeof(*attempt) + attempt->arena.used_bytes + sl_output_memory(&attempt->output[0]) +
           sl_output_memory(&attempt->output[1]);
}

const struct sl_tool_kind sl_tool_kind_process = {
    .name = "process",
    .takes_credentials = true,
    .start = start_attempt,
    .stop = stop_attempt,
    .bytes = attempt_bytes,
    .free = free_attempt,
};
