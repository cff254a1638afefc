#include <stdio.h>

#include "runtime/base/mem.h"
#include "runtime/base/utf8.h"
#include "runtime/model/json_write.h"
#include "runtime/model/scenario.h"
#include "runtime/model/scenario_steps.h"

enum { PLAYED_BYTES = SL_SCENARIO_TEXT_BYTES * 2 };

/* What follows the last step. */
enum tail { TAIL_STEPS, TAIL_FINISH, TAIL_USAGE, TAIL_END, TAIL_HANG };

struct sl_scenario_player {
    struct sl_scenario_facts facts;
    const struct sl_scenario_turn *turn;
    size_t step;        /* the one that is played */
    bool is_inside;     /* of a step that gives several pieces */
    struct sl_buf text; /* of that step, templates filled in */
    size_t at;          /* how much of it was given */
    uint64_t fragment;
    uint64_t wait_ms; /* of delay steps */
    uint32_t n_calls;
    uint64_t answer_bytes;
    bool has_finish, has_usage, has_begun;
    enum tail tail;
    char id[48];
};

/* ---- Choosing the turn ----------------------------------------------------------------------- */

static bool contains(struct sl_slice text, const char *part)
{
    return text.size > 0 && memmem(text.data, text.size, part, strlen(part)) != NULL;
}

static bool fits(const struct sl_scenario_turn *turn, struct sl_slice input, bool by_match)
{
    return by_match ? turn->match != NULL && contains(input, turn->match) : turn->match == NULL;
}

static const struct sl_scenario_turn *
choose_of(const struct sl_scenario *scenario, const struct sl_scenario_facts *facts, bool by_match)
{
    const struct sl_scenario_turn *chosen = NULL;
    uint32_t n = 0;
    for (size_t i = 0; i < scenario->n_turns; i++) {
        if (fits(&scenario->turns[i], facts->input, by_match)) {
            chosen = &scenario->turns[i];
            n++;
            if (n >= facts->iteration) {
                break;
            }
        }
    }
    return chosen;
}

/* ---- Templates ------------------------------------------------------------------------------- */

static void add_value(struct sl_json_out *out, struct sl_slice value, bool is_json)
{
    uint8_t room[SL_SCENARIO_TEMPLATE_BYTES * 3];
    value.size = sl_utf8_cut(value, SL_SCENARIO_TEMPLATE_BYTES);
    if (is_json) {
        sl_json_put_escaped(out, value);
    } else {
        sl_json_put_bytes(out, sl_slice_of(room, sl_utf8_repair(value, room)));
    }
}

/* Fills in the template that `rest` begins with, and gives its size; what is none stays as it is.
 */
static size_t add_template(
    const struct sl_scenario_facts *facts, const char *rest, bool is_json, struct sl_json_out *out)
{
    char number[16];
    (void)snprintf(number, sizeof(number), "%u", facts->iteration);
    const struct {
        const char *name;
        struct sl_slice value;
    } known[] = {
        { "{{input}}", facts->input },
        { "{{last_tool_result}}", facts->last_tool_result },
        { "{{iteration}}", sl_slice_str(number) },
        { "{{model}}", sl_slice_str(facts->model) },
    };
    for (size_t i = 0; i < SL_COUNT(known); i++) {
        const size_t n = strlen(known[i].name);
        if (strncmp(rest, known[i].name, n) == 0) {
            add_value(out, known[i].value, is_json);
            return n;
        }
    }
    sl_json_put(out, "{{");
    return 2;
}

static enum sl_status
fill_in(const struct sl_scenario_facts *facts, const char *text, bool is_json, struct sl_buf *buf)
{
    struct sl_json_out out = { .buf = buf };
    sl_buf_clear(buf);
    for (;;) {
        const char *open = strstr(text, "{{");
        const size_t plain = open == NULL ? strlen(text) : (size_t)(open - text);
        sl_json_put_bytes(&out, sl_slice_of(text, plain));
        if (open == NULL) {
            return out.status;
        }
        text = open + add_template(facts, open, is_json, &out);
    }
}

/* ---- Pieces ---------------------------------------------------------------------------------- */

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static size_t measure_words(struct sl_slice text, uint64_t n)
{
    size_t at = 0;
    for (uint64_t i = 0; i < n && at < text.size; i++) {
        while (at < text.size && is_blank(text.data[at])) {
            at++;
        }
        while (at < text.size && !is_blank(text.data[at])) {
            at++;
        }
    }
    while (at < text.size && is_blank(text.data[at])) {
        at++;
    }
    return at;
}

static size_t measure_chars(struct sl_slice text, uint64_t n)
{
    size_t at = 0;
    for (uint64_t i = 0; i < n && at < text.size; i++) {
        at++;
        while (at < text.size && (text.data[at] & 0xC0) == 0x80) {
            at++;
        }
    }
    return at;
}

static size_t measure_piece(const struct sl_step *step, struct sl_slice rest)
{
    switch (step->pace.unit) {
    case SL_PACE_WHOLE:
        break;
    case SL_PACE_WORDS:
        return measure_words(rest, step->pace.size);
    case SL_PACE_CHARS:
        return measure_chars(rest, step->pace.size);
    }
    return rest.size;
}

static struct sl_slice rest_of(const struct sl_scenario_player *player)
{
    const struct sl_slice text = sl_buf_slice(&player->text);
    return sl_slice_of(text.data + player->at, text.size - player->at);
}

static void next_step(struct sl_scenario_player *player)
{
    player->step++;
    player->is_inside = false;
    player->at = 0;
    player->fragment = 0;
}

/* Gives false when the step has nothing (more) to give. */
static bool play_text(
    struct sl_scenario_player *player, const struct sl_step *step, struct sl_scenario_piece *piece)
{
    const struct sl_slice rest = rest_of(player);
    if (rest.size == 0) {
        next_step(player);
        return false;
    }
    piece->kind = step->kind == SL_STEP_TEXT ? SL_SCENARIO_TEXT : SL_SCENARIO_THINKING;
    piece->text = sl_slice_of(rest.data, measure_piece(step, rest));
    piece->delay_ms += step->pace.delay_ms;
    player->at += piece->text.size;
    player->answer_bytes += piece->text.size;
    return true;
}

static bool play_call(
    struct sl_scenario_player *player, const struct sl_step *step, struct sl_scenario_piece *piece)
{
    const struct sl_slice text = sl_buf_slice(&player->text);
    const uint64_t left = step->fragments - player->fragment;
    if (left == 0) {
        player->n_calls++;
        next_step(player);
        return false;
    }
    const struct sl_slice rest = rest_of(player);
    size_t n = left == 1 ? rest.size : sl_utf8_cut(rest, rest.size / left);
    player->fragment++;
    piece->kind = SL_SCENARIO_CALL;
    piece->index = player->n_calls;
    piece->name = step->name;
    piece->id = step->id;
    if (step->id == NULL) {
        (void)snprintf(
            player->id, sizeof(player->id), "call_%u_%u", player->facts.iteration, piece->index);
        piece->id = player->id;
    }
    piece->is_first = player->fragment == 1;
    piece->is_last = left == 1;
    piece->text = sl_slice_of(text.data + player->at, n);
    player->at += n;
    player->answer_bytes += n;
    return true;
}

static bool play_error(
    struct sl_scenario_player *player, const struct sl_step *step, struct sl_scenario_piece *piece)
{
    next_step(player);
    if (step->attempts > 0 && player->facts.attempt >= step->attempts) {
        return false;
    }
    piece->kind = SL_SCENARIO_ERROR;
    piece->status = (uint32_t)step->status;
    piece->code = step->code;
    piece->message = step->message;
    piece->retry_after = step->retry_after;
    player->tail = TAIL_END;
    return true;
}

static bool play_usage(
    struct sl_scenario_player *player, const struct sl_step *step, struct sl_scenario_piece *piece)
{
    next_step(player);
    player->has_usage = true;
    if (step->is_none) {
        return false;
    }
    piece->kind = SL_SCENARIO_USAGE;
    piece->input_tokens = step->input_tokens;
    piece->output_tokens = step->output_tokens;
    piece->cached_tokens = step->cached_tokens;
    piece->reasoning_tokens = step->reasoning_tokens;
    return true;
}

/* The steps that are one piece, or none. */
static bool play_single(
    struct sl_scenario_player *player, const struct sl_step *step, struct sl_scenario_piece *piece)
{
    next_step(player);
    switch (step->kind) {
    case SL_STEP_FINISH:
        player->has_finish = true;
        piece->kind = SL_SCENARIO_FINISH;
        break;
    case SL_STEP_RAW:
        piece->kind = SL_SCENARIO_RAW;
        break;
    case SL_STEP_HANG:
        piece->kind = SL_SCENARIO_HANG;
        player->tail = TAIL_HANG;
        break;
    case SL_STEP_CUT:
        piece->kind = SL_SCENARIO_CUT;
        player->tail = TAIL_END;
        break;
    case SL_STEP_DELAY:
    case SL_STEP_TEXT:
    case SL_STEP_THINKING:
    case SL_STEP_CALL:
    case SL_STEP_USAGE:
    case SL_STEP_ERROR:
        player->wait_ms += step->delay_ms;
        return false;
    }
    piece->text = sl_slice_str(step->text);
    return true;
}

static enum sl_status open_step(struct sl_scenario_player *player, const struct sl_step *step)
{
    if (player->is_inside) {
        return SL_OK;
    }
    player->is_inside = true;
    if (step->kind != SL_STEP_TEXT && step->kind != SL_STEP_THINKING &&
        step->kind != SL_STEP_CALL) {
        return SL_OK;
    }
    return fill_in(&player->facts, step->text, step->is_json, &player->text);
}

static bool play_step(
    struct sl_scenario_player *player, const struct sl_step *step, struct sl_scenario_piece *piece)
{
    piece->delay_ms = player->wait_ms;
    switch (step->kind) {
    case SL_STEP_TEXT:
    case SL_STEP_THINKING:
        return play_text(player, step, piece);
    case SL_STEP_CALL:
        return play_call(player, step, piece);
    case SL_STEP_USAGE:
        return play_usage(player, step, piece);
    case SL_STEP_ERROR:
        return play_error(player, step, piece);
    case SL_STEP_FINISH:
    case SL_STEP_DELAY:
    case SL_STEP_HANG:
    case SL_STEP_CUT:
    case SL_STEP_RAW:
        break;
    }
    return play_single(player, step, piece);
}

/* What the steps left out: a finish reason, the usage, the end. */
static void play_tail(struct sl_scenario_player *player, struct sl_scenario_piece *piece)
{
    piece->delay_ms = player->wait_ms;
    if (player->tail == TAIL_STEPS) {
        player->tail = player->has_finish ? TAIL_USAGE : TAIL_FINISH;
    }
    if (player->tail == TAIL_FINISH) {
        player->tail = TAIL_USAGE;
        piece->kind = SL_SCENARIO_FINISH;
        piece->text = sl_slice_str(player->n_calls > 0 ? "tool_calls" : "stop");
        return;
    }
    if (player->tail == TAIL_USAGE) {
        player->tail = TAIL_END;
        if (!player->has_usage) {
            piece->kind = SL_SCENARIO_USAGE;
            piece->input_tokens = (player->facts.request_bytes + 3) / 4;
            piece->output_tokens = (player->answer_bytes + 3) / 4;
            return;
        }
    }
    piece->kind = player->tail == TAIL_HANG ? SL_SCENARIO_HANG : SL_SCENARIO_END;
    piece->answer_bytes = player->answer_bytes;
}

/* ---- Public ---------------------------------------------------------------------------------- */

enum sl_status sl_scenario_play(
    const struct sl_scenario *scenario,
    const struct sl_scenario_facts *facts,
    struct sl_scenario_player **ret_player,
    struct sl_error *err)
{
    const struct sl_scenario_turn *turn = choose_of(scenario, facts, true);
    if (turn == NULL) {
        turn = choose_of(scenario, facts, false);
    }
    if (turn == NULL) {
        return sl_fail(err, SL_NOT_FOUND, "no turn of the scenario fits the input");
    }
    struct sl_scenario_player *player = sl_calloc(1, sizeof(*player));
    if (player == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for a scenario");
    }
    player->facts = *facts;
    player->turn = turn;
    sl_buf_init(&player->text, PLAYED_BYTES);
    *ret_player = player;
    return SL_OK;
}

enum sl_status
sl_scenario_next(struct sl_scenario_player *player, struct sl_scenario_piece *ret_piece)
{
    struct sl_scenario_piece piece = { .retry_after = -1, .is_opening = !player->has_begun };
    bool has_piece = false;
    while (!has_piece && player->tail == TAIL_STEPS && player->step < player->turn->n_steps) {
        const struct sl_step *step = &player->turn->steps[player->step];
        SL_TRY(open_step(player, step));
        has_piece = play_step(player, step, &piece);
    }
    if (!has_piece) {
        play_tail(player, &piece);
    }
    player->wait_ms = 0;
    player->has_begun = true;
    *ret_piece = piece;
    return SL_OK;
}

struct sl_scenario_player *sl_scenario_player_free(struct sl_scenario_player *player)
{
    if (player != NULL) {
        sl_buf_done(&player->text);
    }
    return sl_free(player);
}
