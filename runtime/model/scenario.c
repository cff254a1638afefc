#include "runtime/model/scenario.h"

#include <stdlib.h>

#include <jansson.h>

#include "runtime/base/conf.h"
#include "runtime/base/mem.h"
#include "runtime/model/scenario_steps.h"

enum { SCENARIO_BYTES = 16 << 20 };

#define STEP_MS_MAX UINT64_C(86400000)
#define TOKENS_MAX  UINT64_C(1000000000000000)

/* What the parsing functions share. */
struct reader {
    struct sl_conf *conf;
    struct sl_arena *arena;
    bool is_out_of_memory;
};

static const char *const step_names[] = {
    [SL_STEP_TEXT] = "text",      [SL_STEP_THINKING] = "thinking", [SL_STEP_CALL] = "tool_call",
    [SL_STEP_USAGE] = "usage",    [SL_STEP_FINISH] = "finish",     [SL_STEP_ERROR] = "error",
    [SL_STEP_DELAY] = "delay_ms", [SL_STEP_HANG] = "hang",         [SL_STEP_CUT] = "cut",
    [SL_STEP_RAW] = "raw",
};

static const char *keep(struct reader *reader, struct sl_slice text)
{
    const char *copy = sl_arena_dup(reader->arena, text);
    if (copy == NULL) {
        reader->is_out_of_memory = true;
        return "";
    }
    return copy;
}

static void read_text(
    struct reader *reader,
    const struct sl_conf_node *map,
    const char *key,
    enum sl_conf_need need,
    const char **ret)
{
    const char *text = NULL;
    if (sl_conf_str(reader->conf, map, key, need, &text)) {
        if (strlen(text) > SL_SCENARIO_TEXT_BYTES) {
            sl_conf_error(
                reader->conf, map, "%s has more than %d bytes", key, SL_SCENARIO_TEXT_BYTES);
            return;
        }
        *ret = keep(reader, sl_slice_str(text));
    }
}

/* ---- Steps ----------------------------------------------------------------------------------- */

static void read_pace(struct reader *reader, const struct sl_conf_node *map, struct sl_step *step)
{
    static const char *const units[] = { "whole", "words", "chars", NULL };
    const struct sl_conf_node *pace = sl_conf_get_map(reader->conf, map, "pace", SL_OPTIONAL);
    int unit = pace == NULL ? SL_PACE_WHOLE : SL_PACE_WORDS;
    step->pace.size = 1;
    (void)sl_conf_enum(reader->conf, pace, "unit", units, &unit);
    (void)sl_conf_u64(reader->conf, pace, "size", 1, 1000000, &step->pace.size);
    (void)sl_conf_u64(reader->conf, pace, "delay_ms", 0, STEP_MS_MAX, &step->pace.delay_ms);
    step->pace.unit = (enum sl_pace_unit)unit;
    if (pace != NULL) {
        sl_conf_end(reader->conf, pace);
    }
}

/* The arguments as compact JSON text. */
static void
read_arguments(struct reader *reader, const struct sl_conf_node *call, struct sl_step *step)
{
    const struct sl_conf_node *map = sl_conf_get_map(reader->conf, call, "arguments", SL_OPTIONAL);
    step->text = "{}";
    step->is_json = true;
    if (map == NULL) {
        if (sl_conf_get(reader->conf, call, "arguments_text", SL_OPTIONAL) != NULL) {
            step->is_json = false;
            read_text(reader, call, "arguments_text", SL_REQUIRED, &step->text);
        }
        return;
    }
    if (sl_conf_get(reader->conf, call, "arguments_text", SL_OPTIONAL) != NULL) {
        sl_conf_error(reader->conf, call, "either arguments or arguments_text, not both");
    }
    json_t *tree = sl_conf_to_json(map);
    char *text = tree == NULL ? NULL : json_dumps(tree, JSON_COMPACT);
    json_decref(tree);
    if (text == NULL) {
        reader->is_out_of_memory = true;
        return;
    }
    if (strlen(text) > SL_SCENARIO_TEXT_BYTES) {
        sl_conf_error(
            reader->conf, map, "arguments have more than %d bytes", SL_SCENARIO_TEXT_BYTES);
    } else {
        step->text = keep(reader, sl_slice_str(text));
    }
    free(text);
}

static void read_call(struct reader *reader, const struct sl_conf_node *map, struct sl_step *step)
{
    const struct sl_conf_node *call = sl_conf_get_map(reader->conf, map, "tool_call", SL_REQUIRED);
    if (call == NULL) {
        return;
    }
    step->fragments = 1;
    read_text(reader, call, "name", SL_REQUIRED, &step->name);
    read_text(reader, call, "id", SL_OPTIONAL, &step->id);
    (void)sl_conf_u64(reader->conf, call, "fragments", 1, 10000, &step->fragments);
    read_arguments(reader, call, step);
    sl_conf_end(reader->conf, call);
}

static void read_usage(struct reader *reader, const struct sl_conf_node *map, struct sl_step *step)
{
    const struct sl_conf_node *usage = sl_conf_get(reader->conf, map, "usage", SL_REQUIRED);
    if (usage != NULL && sl_conf_kind(usage) == SL_CONF_SCALAR &&
        strcmp(sl_conf_text(usage), "none") == 0) {
        step->is_none = true;
        return;
    }
    usage = sl_conf_get_map(reader->conf, map, "usage", SL_REQUIRED);
    if (usage == NULL) {
        return;
    }
    (void)sl_conf_u64(reader->conf, usage, "input", 0, TOKENS_MAX, &step->input_tokens);
    (void)sl_conf_u64(reader->conf, usage, "output", 0, TOKENS_MAX, &step->output_tokens);
    (void)sl_conf_u64(reader->conf, usage, "cached", 0, TOKENS_MAX, &step->cached_tokens);
    (void)sl_conf_u64(reader->conf, usage, "reasoning", 0, TOKENS_MAX, &step->reasoning_tokens);
    sl_conf_end(reader->conf, usage);
}

static void read_error(struct reader *reader, const struct sl_conf_node *map, struct sl_step *step)
{
    const struct sl_conf_node *error = sl_conf_get_map(reader->conf, map, "error", SL_REQUIRED);
    bool is_in_band = false;
    step->message = "as the scenario says";
    step->retry_after = -1;
    if (error == NULL) {
        return;
    }
    const bool has_status = sl_conf_u64(reader->conf, error, "status", 300, 599, &step->status);
    (void)sl_conf_bool(reader->conf, error, "in_band", &is_in_band);
    read_text(reader, error, "code", SL_OPTIONAL, &step->code);
    read_text(reader, error, "message", SL_OPTIONAL, &step->message);
    (void)sl_conf_double(reader->conf, error, "retry_after", 0, 1e6, &step->retry_after);
    (void)sl_conf_u64(reader->conf, error, "attempts", 1, 1000, &step->attempts);
    sl_conf_end(reader->conf, error);
    if (has_status == is_in_band) {
        sl_conf_error(reader->conf, error, "an error has a status or is in_band");
    }
}

static void read_true(struct reader *reader, const struct sl_conf_node *map, const char *key)
{
    bool is_on = true;
    if (sl_conf_bool(reader->conf, map, key, &is_on) && !is_on) {
        sl_conf_error(reader->conf, map, "%s can only be true", key);
    }
}

/* The one key that says what the step is; -1: there is none, or more than one. */
static int find_kind(struct reader *reader, const struct sl_conf_node *map)
{
    int kind = -1;
    int n = 0;
    for (size_t i = 0; i < SL_COUNT(step_names); i++) {
        if (sl_conf_get(reader->conf, map, step_names[i], SL_OPTIONAL) != NULL) {
            kind = (int)i;
            n++;
        }
    }
    if (n != 1) {
        sl_conf_error(
            reader->conf, map,
            "a step has one of: text, thinking, tool_call, usage, finish, error, delay_ms, hang, "
            "cut, raw");
        return -1;
    }
    return kind;
}

static void read_step(struct reader *reader, const struct sl_conf_node *map, struct sl_step *step)
{
    if (sl_conf_kind(map) != SL_CONF_MAP) {
        sl_conf_error(reader->conf, map, "a step is a map");
        return;
    }
    const int kind = find_kind(reader, map);
    if (kind < 0) {
        return;
    }
    step->kind = (enum sl_step_kind)kind;
    step->text = "";
    switch (step->kind) {
    case SL_STEP_TEXT:
    case SL_STEP_THINKING:
        read_text(reader, map, step_names[kind], SL_REQUIRED, &step->text);
        read_pace(reader, map, step);
        break;
    case SL_STEP_FINISH:
    case SL_STEP_RAW:
        read_text(reader, map, step_names[kind], SL_REQUIRED, &step->text);
        break;
    case SL_STEP_CALL:
        read_call(reader, map, step);
        break;
    case SL_STEP_USAGE:
        read_usage(reader, map, step);
        break;
    case SL_STEP_ERROR:
        read_error(reader, map, step);
        break;
    case SL_STEP_DELAY:
        (void)sl_conf_u64(reader->conf, map, "delay_ms", 0, STEP_MS_MAX, &step->delay_ms);
        break;
    case SL_STEP_HANG:
    case SL_STEP_CUT:
        read_true(reader, map, step_names[kind]);
        break;
    }
    sl_conf_end(reader->conf, map);
}

/* ---- Turns ----------------------------------------------------------------------------------- */

static void
read_steps(struct reader *reader, const struct sl_conf_node *list, struct sl_scenario_turn *turn)
{
    const size_t n = sl_conf_size(list);
    if (n > SL_SCENARIO_STEPS) {
        sl_conf_error(reader->conf, list, "more than %d steps", SL_SCENARIO_STEPS);
        return;
    }
    turn->steps = sl_arena_calloc(reader->arena, n == 0 ? 1 : n, sizeof(struct sl_step));
    if (turn->steps == NULL) {
        reader->is_out_of_memory = true;
        return;
    }
    turn->n_steps = n;
    for (size_t i = 0; i < n; i++) {
        read_step(reader, sl_conf_at(list, i), &turn->steps[i]);
    }
}

static void
read_turn(struct reader *reader, const struct sl_conf_node *node, struct sl_scenario_turn *turn)
{
    if (sl_conf_kind(node) == SL_CONF_LIST) {
        read_steps(reader, node, turn);
        return;
    }
    if (sl_conf_kind(node) != SL_CONF_MAP) {
        sl_conf_error(reader->conf, node, "a turn is a map with steps, or a list of steps");
        return;
    }
    read_text(reader, node, "match", SL_OPTIONAL, &turn->match);
    const struct sl_conf_node *steps = sl_conf_get_list(reader->conf, node, "steps", SL_REQUIRED);
    if (steps != NULL) {
        read_steps(reader, steps, turn);
    }
    sl_conf_end(reader->conf, node);
}

static void read_scenario(struct reader *reader, struct sl_scenario *scenario)
{
    if (sl_conf_n_errors(reader->conf) > 0) {
        return; /* syntax */
    }
    if (sl_conf_n_documents(reader->conf) != 1) {
        sl_conf_error(reader->conf, NULL, "a scenario is one document");
        return;
    }
    const struct sl_conf_node *top = sl_conf_document(reader->conf, 0);
    if (sl_conf_kind(top) != SL_CONF_MAP) {
        sl_conf_error(reader->conf, top, "a scenario is a map with turns");
        return;
    }
    read_text(reader, top, "model", SL_OPTIONAL, &scenario->model);
    const struct sl_conf_node *turns = sl_conf_get_list(reader->conf, top, "turns", SL_REQUIRED);
    const size_t n = turns == NULL ? 0 : sl_conf_size(turns);
    if (turns != NULL && (n == 0 || n > SL_SCENARIO_TURNS)) {
        sl_conf_error(reader->conf, turns, "a scenario has 1 to %d turns", SL_SCENARIO_TURNS);
    } else if (n > 0) {
        scenario->turns = sl_arena_calloc(reader->arena, n, sizeof(struct sl_scenario_turn));
        reader->is_out_of_memory |= scenario->turns == NULL;
        scenario->n_turns = scenario->turns == NULL ? 0 : n;
        for (size_t i = 0; i < scenario->n_turns; i++) {
            read_turn(reader, sl_conf_at(turns, i), &scenario->turns[i]);
        }
    }
    sl_conf_end(reader->conf, top);
}

enum sl_status sl_scenario_from_conf(struct sl_conf *conf, struct sl_scenario **ret_scenario)
{
    struct sl_scenario *scenario = sl_calloc(1, sizeof(*scenario));
    if (scenario == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    sl_arena_init(&scenario->arena, SCENARIO_BYTES);
    struct reader reader = { .conf = conf, .arena = &scenario->arena };
    read_scenario(&reader, scenario);
    if (reader.is_out_of_memory || sl_conf_n_errors(conf) > 0) {
        sl_scenario_free(scenario);
        return reader.is_out_of_memory ? SL_RESOURCE_EXHAUSTED : SL_INVALID_ARGUMENT;
    }
    *ret_scenario = scenario;
    return SL_OK;
}

enum sl_status sl_scenario_parse(
    struct sl_slice yaml, const char *file, struct sl_scenario **ret_scenario, struct sl_error *err)
{
    struct sl_conf *conf = NULL;
    enum sl_status status = sl_conf_parse(yaml, file, &conf);
    if (status == SL_OK) {
        status = sl_scenario_from_conf(conf, ret_scenario);
    }
    if (status == SL_INVALID_ARGUMENT) {
        (void)sl_fail(err, status, "%s", sl_conf_error_at(conf, 0));
    } else if (status != SL_OK) {
        (void)sl_fail(err, status, "no memory for scenario '%s'", file);
    }
    sl_conf_free(conf);
    return status;
}

struct sl_scenario *sl_scenario_free(struct sl_scenario *scenario)
{
    if (scenario != NULL) {
        sl_arena_done(&scenario->arena);
    }
    return sl_free(scenario);
}

const char *sl_scenario_model(const struct sl_scenario *scenario)
{
    return scenario->model;
}
