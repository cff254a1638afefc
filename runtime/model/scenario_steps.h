/* What a scenario is made of; for scenario*.c only. */
#ifndef SL_RUNTIME_MODEL_SCENARIO_STEPS_H
#define SL_RUNTIME_MODEL_SCENARIO_STEPS_H

#include "runtime/base/arena.h"
#include "runtime/model/scenario.h"

enum sl_step_kind {
    SL_STEP_TEXT,
    SL_STEP_THINKING,
    SL_STEP_CALL,
    SL_STEP_USAGE,
    SL_STEP_FINISH,
    SL_STEP_ERROR,
    SL_STEP_DELAY,
    SL_STEP_HANG,
    SL_STEP_CUT,
    SL_STEP_RAW
};

enum sl_pace_unit { SL_PACE_WHOLE, SL_PACE_WORDS, SL_PACE_CHARS };

struct sl_step {
    enum sl_step_kind kind;
    const char *text; /* TEXT, THINKING, RAW; CALL: arguments; FINISH: the word */
    struct {
        enum sl_pace_unit unit;
        uint64_t size, delay_ms;
    } pace;
    const char *id, *name; /* CALL */
    uint64_t fragments;
    bool is_json; /* CALL: templates are filled in as JSON text */
    bool is_none; /* USAGE */
    uint64_t input_tokens, output_tokens, cached_tokens, reasoning_tokens;
    uint64_t status, attempts; /* ERROR; attempts 0: always */
    const char *code, *message;
    double retry_after;
    uint64_t delay_ms;
};

struct sl_scenario_turn {
    const char *match; /* NULL: for any input */
    struct sl_step *steps;
    size_t n_steps;
};

struct sl_scenario {
    struct sl_arena arena;
    const char *model;
    struct sl_scenario_turn *turns;
    size_t n_turns;
};

#endif
