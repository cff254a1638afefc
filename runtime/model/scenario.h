/* Scenarios: what a scripted model says, written in YAML, and a player that gives it piece by
 * piece. No I/O, no clock: the caller waits `delay_ms` before each piece. The same scenario, the
 * same facts and the same attempt give the same pieces. docs/scenarios.md is the user's page.
 *
 *   model: demo-1                  # the model's name in answers (optional)
 *   turns:                         # a turn answers one request of the agent loop
 *     - steps:
 *         - thinking: "The user wants the time."
 *         - text: "Let me look. {{input}}"
 *           pace: {unit: words, size: 1, delay_ms: 40}
 *         - tool_call: {name: now, arguments: {zone: UTC}, id: call_1, fragments: 3}
 *         - tool_call: {name: add, arguments: {a: 1, b: 2}}
 *         - usage: {input: 10, output: 5, cached: 2, reasoning: 1}
 *         - finish: tool_calls
 *     - steps:
 *         - text: "It is {{last_tool_result}}."
 *     - match: weather             # only for an input that has this text
 *       steps: [{text: "Sunny."}]
 *
 * Choice of the turn: of the turns whose `match` is in the input, or, if there is none, of those
 * without `match`, number `iteration`; the last one repeats.
 *
 * Steps (one of these keys each):
 *   text, thinking   a text; beside it `pace` {unit: words|chars|whole, size: 1, delay_ms: 0}
 *   tool_call        {name, arguments (a map) or arguments_text (any text), id, fragments: 1}
 *   usage            {input, output, cached, reasoning}, or `none`; without this step the usage is
 * a quarter of the bytes finish           stop, tool_calls, length, content_filter, or any other
 * text; without this step stop, or tool_calls after a tool_call error            {status: 429} an
 * HTTP error, or {in_band: true, code: server_error} in the stream; also message, retry_after
 * (seconds), attempts (only the first N attempts fail, later ones skip the step) delay_ms waits
 *   hang: true       says nothing any more
 *   cut: true        breaks the connection off
 *   raw              a line of the SSE stream as it is (HTTP only)
 * Templates in text, thinking and arguments: {{input}}, {{last_tool_result}}, {{iteration}},
 * {{model}}; each is cut at 4 KiB. */
#ifndef SL_RUNTIME_MODEL_SCENARIO_H
#define SL_RUNTIME_MODEL_SCENARIO_H

#include "runtime/base/buf.h"
#include "runtime/base/limits.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"

struct sl_scenario; /* constant after parsing; any thread */
struct sl_scenario_player;
struct sl_conf;

enum {
    SL_SCENARIO_TURNS = 256,
    SL_SCENARIO_STEPS = 1024, /* of a turn */
    SL_SCENARIO_TEMPLATE_BYTES = 4096,
    SL_SCENARIO_TEXT_BYTES = 262144 /* of a step, templates filled in */
};

/* Parses the text. `file` is for messages. Owns: the caller; sl_scenario_free(). Fails:
 * SL_INVALID_ARGUMENT with the first mistake ("file:line:column: path: message");
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_scenario_parse(
    struct sl_slice yaml,
    const char *file,
    struct sl_scenario **ret_scenario,
    struct sl_error *err);
/* From a file that was read already; every mistake stays in `conf`. Fails: SL_INVALID_ARGUMENT
 * there are some; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_scenario_from_conf(struct sl_conf *conf, struct sl_scenario **ret_scenario);
struct sl_scenario *sl_scenario_free(struct sl_scenario *scenario);
/* The model's name in answers; NULL: as asked. */
const char *sl_scenario_model(const struct sl_scenario *scenario);

/* ---- Playing ----------------------------------------------------------------------------------
 */

/* What the scenario may look at. Borrowed by the player until it is freed. */
struct sl_scenario_facts {
    struct sl_slice input;            /* the last user message */
    struct sl_slice last_tool_result; /* empty: none */
    const char *model;                /* as asked */
    uint32_t iteration;               /* 1, 2, … */
    uint32_t attempt;                 /* 0, 1, … of the same request */
    uint64_t request_bytes;           /* for the usage that is made up */
};

enum sl_scenario_kind {
    SL_SCENARIO_TEXT,     /* text */
    SL_SCENARIO_THINKING, /* text */
    SL_SCENARIO_CALL,     /* index, id, name; text is a fragment of the arguments */
    SL_SCENARIO_USAGE,
    SL_SCENARIO_FINISH, /* text: the provider's word */
    SL_SCENARIO_ERROR,  /* error; the answer is over */
    SL_SCENARIO_HANG,   /* nothing follows, ever */
    SL_SCENARIO_CUT,    /* the answer is over, without an end */
    SL_SCENARIO_RAW,    /* text */
    SL_SCENARIO_END     /* the answer is over; asked again, the same */
};

/* Slices and texts are valid until the next call of the player. */
struct sl_scenario_piece {
    enum sl_scenario_kind kind;
    uint64_t delay_ms; /* to be waited before this piece is given */
    bool is_opening;   /* the first piece of the answer */
    struct sl_slice text;
    uint32_t index;         /* CALL: 0, 1, … */
    const char *id, *name;  /* CALL */
    bool is_first, is_last; /* CALL: fragment of its call */
    uint64_t input_tokens, output_tokens, cached_tokens, reasoning_tokens;
    uint32_t status;       /* ERROR: HTTP status; 0: in the stream */
    const char *code;      /* ERROR; NULL: none */
    const char *message;   /* ERROR; never NULL */
    double retry_after;    /* ERROR, seconds; < 0: none */
    uint64_t answer_bytes; /* END: text, thinking and arguments given */
};

/* Fails: SL_NOT_FOUND no turn fits; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_scenario_play(
    const struct sl_scenario *scenario,
    const struct sl_scenario_facts *facts,
    struct sl_scenario_player **ret_player,
    struct sl_error *err);
/* The next piece. Fails: SL_OUT_OF_RANGE a text over its maximum; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_scenario_next(struct sl_scenario_player *player, struct sl_scenario_piece *ret_piece);
struct sl_scenario_player *sl_scenario_player_free(struct sl_scenario_player *player);

/* ---- As OpenAI's wire format (for `sluice mock-model`) -----------------------------------------
 */

struct sl_scenario_wire {
    const char *id;    /* "chatcmpl-1" */
    const char *model; /* in answers */
    uint64_t created;  /* seconds */
};

/* Adds the SSE event(s) of a piece, complete with `data: ` and the empty line: a
 * chat.completion.chunk, the error, the raw line, `[DONE]` for END; nothing for HANG and CUT.
 * Fails: SL_OUT_OF_RANGE over the buffer's maximum; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_scenario_render(
    const struct sl_scenario_piece *piece, const struct sl_scenario_wire *wire, struct sl_buf *buf);
/* Adds the JSON body of an HTTP error. */
SL_CHECK enum sl_status
sl_scenario_render_error(const struct sl_scenario_piece *piece, struct sl_buf *buf);

/* The facts of a chat/completions request. Owns: the caller; sl_scenario_request_free(). Fails:
 * SL_INVALID_ARGUMENT not such a request; SL_OUT_OF_RANGE nested too deep; SL_RESOURCE_EXHAUSTED.
 */
struct sl_scenario_request;
SL_CHECK enum sl_status sl_scenario_request_parse(
    struct sl_slice body,
    const struct sl_limits *limits,
    struct sl_scenario_request **ret_request,
    struct sl_error *err);
struct sl_scenario_request *sl_scenario_request_free(struct sl_scenario_request *request);
/* Attempt 0; the caller, who knows about repeats, may set another. Valid as long as the request. */
struct sl_scenario_facts sl_scenario_request_facts(const struct sl_scenario_request *request);
/* The request asked for usage (`stream_options.include_usage`), or does not stream. */
bool sl_scenario_request_wants_usage(const struct sl_scenario_request *request);
bool sl_scenario_request_streams(const struct sl_scenario_request *request);

#endif
