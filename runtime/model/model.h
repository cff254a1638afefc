/* Models: one request to a provider, and what it answers, normalised.
 *
 *   sl_models            every configured provider; constant while runs use it
 *     └ sl_model_turn    one model response (with its retries), on one loop
 *          ─▶ sl_model_sink   chunks, as they come
 *
 * A turn gives chunks until exactly one FINISH or FAIL, after which only its owner's free follows.
 * Providers are sans-I/O (bytes in, chunks out); http.h does the transfers. */
#ifndef SL_RUNTIME_MODEL_MODEL_H
#define SL_RUNTIME_MODEL_MODEL_H

#include "runtime/base/limits.h"
#include "runtime/base/loop.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"

struct sl_models;
struct sl_model_turn;
struct sl_conf;
struct sl_conf_node;

/* ---- The conversation that is sent -------------------------------------------------------------
 */

enum sl_chat_role { SL_CHAT_SYSTEM, SL_CHAT_USER, SL_CHAT_ASSISTANT, SL_CHAT_TOOL };

struct sl_chat_call {
    const char *id; /* the provider's id, or ours when it gave none */
    const char *name;
    const char *arguments_json; /* always a valid JSON object */
    const char *opaque_json;    /* members to send back unchanged (PM-2.3.5); NULL: none */
};

struct sl_chat_message {
    enum sl_chat_role role;
    struct sl_slice content;
    const struct sl_chat_call *calls; /* ASSISTANT */
    size_t n_calls;
    const char *call_id;   /* TOOL: which call this answers */
    const char *tool_name; /* TOOL */
    bool is_error;         /* TOOL */
    struct sl_slice
        reasoning;           /* ASSISTANT: for providers that want it back (quirk reasoning_echo) */
    const char *opaque_json; /* ASSISTANT: what SL_CHUNK_OPAQUE gave; NULL: nothing */
};

struct sl_chat_tool {
    const char *name, *description, *parameters_json;
};

struct sl_model_request {
    const char *provider; /* entry's name, as sl_models_resolve gave it */
    const char *model;
    const char *system; /* NULL: none */
    const struct sl_chat_message *messages;
    size_t n_messages;
    const struct sl_chat_tool *tools;
    size_t n_tools;
    const double *temperature, *top_p; /* NULL: not sent */
    uint64_t max_tokens;               /* 0: not sent */
    const char *const *stop;           /* n_stop texts */
    size_t n_stop;
    const char *reasoning_effort;   /* NULL: not sent */
    const char *output_schema_json; /* NULL: not sent */
    uint64_t remaining_ms;          /* the run's; the total timer of the transfer */
    const char *run_id;             /* idempotency header, scripted seed */
    uint32_t iteration;
    const char *input; /* the run's input: echo, load and scenarios look at it */
};

/* ---- What comes back ---------------------------------------------------------------------------
 */

enum sl_model_finish {
    SL_FINISH_END_TURN,
    SL_FINISH_MAX_TOKENS,
    SL_FINISH_STOP_SEQUENCE,
    SL_FINISH_TOOL_USE,
    SL_FINISH_CONTENT_FILTER,
    SL_FINISH_PAUSE_TURN,
    SL_FINISH_UNKNOWN /* END_TURN or TOOL_USE by the calls; the raw text says more */
};

/* Codes of PM-1.8; the same names as in sluice.v1.ErrorCode. */
enum sl_model_fault {
    SL_FAULT_PROVIDER_UNREACHABLE,
    SL_FAULT_PROVIDER_TLS,
    SL_FAULT_PROVIDER_AUTH,
    SL_FAULT_PROVIDER_REJECTED,
    SL_FAULT_PROVIDER_RATE_LIMITED,
    SL_FAULT_PROVIDER_QUOTA,
    SL_FAULT_PROVIDER_OVERLOADED,
    SL_FAULT_PROVIDER_TIMEOUT,
    SL_FAULT_PROVIDER_TRUNCATED,
    SL_FAULT_PROVIDER_PROTOCOL,
    SL_FAULT_PROVIDER_LIMIT,
    SL_FAULT_CONTEXT_OVERFLOW,
    SL_FAULT_DEADLINE, /* remaining_ms is over */
    SL_FAULT_OUT_OF_MEMORY,
    SL_FAULT_INTERNAL
};

/* Unknown and 0 are kept apart. */
struct sl_model_usage {
    bool has_input, has_output;
    uint64_t input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens;
};

enum sl_model_chunk_kind {
    SL_CHUNK_TEXT,          /* text: clean UTF-8, not empty, whole characters */
    SL_CHUNK_REASONING,     /* text */
    SL_CHUNK_CALL_FRAGMENT, /* index, name (once known), text = arguments fragment */
    SL_CHUNK_CALL,   /* index, id, name, text = whole arguments as sent (may not parse), opaque */
    SL_CHUNK_OPAQUE, /* text: JSON of the turn, to be sent back unchanged; at most one, before
                        FINISH */
    SL_CHUNK_USAGE,  /* usage: replaces what came earlier */
    SL_CHUNK_FINISH, /* finish, raw */
    SL_CHUNK_FAIL    /* fault, is_retryable, retry_after_ms, http_status, message */
};

enum { SL_CALL_HEAD_BYTES = 4096 };

/* All pointers are valid in the callback only. */
struct sl_model_chunk {
    enum sl_model_chunk_kind kind;
    struct sl_slice text;
    uint32_t index;
    const char *id, *name, *opaque;
    /* CALL: the answer was cut (length) and the arguments are large: nobody has looked whether they
     * are an object, and if they are not, this is no call (PM-2.3.3). */
    bool is_cut;
    /* CALL: > 0: the arguments had more than so many bytes, and `text` is only their beginning, at
     * most SL_CALL_HEAD_BYTES (T8). CALL_FRAGMENT: > 0: it belongs to what is left out. */
    uint64_t over_bytes;
    struct sl_model_usage usage;
    enum sl_model_finish finish;
    const char *raw; /* the provider's own finish reason; NULL: none */
    enum sl_model_fault fault;
    bool is_retryable;
    int64_t retry_after_ms;     /* -1: unknown */
    uint32_t http_status;       /* 0: none */
    const char *message;        /* for the server log only; scrubbed */
    const char *answered_model; /* FINISH: the model name of the answer; NULL: as asked */
    /* FINISH and FAIL: bytes for the estimate where usage is missing (AL-2.3). `request_bytes`:
     * bodies of the requests that reached the provider and were not answered with an HTTP error; 0:
     * nothing was used. `received_bytes`: text, reasoning and arguments. */
    uint64_t request_bytes, received_bytes;
    /* FINISH: the part of `request_bytes` that belongs to earlier attempts, of which no usage was
     * reported. */
    uint64_t lost_bytes;
    uint32_t n_requests; /* FINISH and FAIL: requests that reached the provider */
};

enum sl_model_phase { SL_MODEL_WAIT, SL_MODEL_STREAM, SL_MODEL_RETRY_WAIT };

struct sl_model_sink {
    void (*on_chunk)(void *user_data, const struct sl_model_chunk *chunk);
    /* Asked before each network read is taken: true holds the transfer back until
     * sl_model_turn_resume() (AL-8). */
    bool (*is_full)(void *user_data);
    /* May be NULL. Not called for RETRY_WAIT, which begins with on_retry. */
    void (*on_phase)(void *user_data, enum sl_model_phase phase);
    /* The request has failed with `fault`, and is sent again after a pause. May be NULL. */
    void (*on_retry)(void *user_data, enum sl_model_fault fault);
    void *user_data;
};

/* Starts a turn. Chunks never come from inside this call. A provider that was not resolved is
 * SL_NOT_FOUND. Owns: the caller; sl_model_turn_free(). Copies what it needs of `request`. Thread:
 * loop. Fails: SL_NOT_FOUND; SL_FAILED_PRECONDITION the key cannot be had (named);
 * SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_model_turn_start(
    struct sl_models *models,
    struct sl_loop *loop,
    const struct sl_model_request *request,
    const struct sl_model_sink *sink,
    struct sl_model_turn **ret_turn,
    struct sl_error *err);
/* The sink has room again. Chunks may come from inside this call. */
void sl_model_turn_resume(struct sl_model_turn *turn);
/* Memory of its buffers, as far as it is known: a provider's request and what is read of its
 * answer. Not there: JSON trees, and what libcurl has. Thread: loop. */
uint64_t sl_model_turn_bytes(struct sl_model_turn *turn);
/* Ends it, at any time, also from inside on_chunk: the transfer is removed and its socket closed
 * (cancel) before this returns, or at the end of the turn of the loop when called from a callback.
 * No chunk follows. Accepts NULL; gives NULL. */
struct sl_model_turn *sl_model_turn_free(struct sl_model_turn *turn);

/* ---- Providers ---------------------------------------------------------------------------------
 */

struct sl_models_options {
    struct sl_loop *const *loops;
    size_t n_loops;
    const struct sl_limits *limits;       /* borrowed */
    const char *(*env)(const char *name); /* NULL result: not set */
};

/* Presets and built-ins (scripted, echo, load) are there from the start. Owns: sl_models_free(). */
SL_CHECK enum sl_status sl_models_new(
    const struct sl_models_options *options, struct sl_models **ret_models, struct sl_error *err);
/* Reads `providers:` (a list of entries, PM-1.1) and `default_provider:` of the configuration's top
 * map. Every mistake is recorded in `conf`. Before runs exist. */
void sl_models_configure(
    struct sl_models *models, struct sl_conf *conf, const struct sl_conf_node *top);
/* AL-9.2: which provider and model an agent means. Texts live as long as `models` (provider) and as
 * `model`. Fails: SL_INVALID_ARGUMENT, with the reason in `err`. */
SL_CHECK enum sl_status sl_models_resolve(
    const struct sl_models *models,
    const char *model,
    const char *provider,
    const char **ret_provider,
    const char **ret_model,
    struct sl_error *err);
/* Checks that the entry could be used: its key can be had. Fails: SL_FAILED_PRECONDITION. */
SL_CHECK enum sl_status
sl_models_check(const struct sl_models *models, const char *provider, struct sl_error *err);
/* What one token costs, in 10^-12 of the currency. */
enum { SL_CURRENCY_BYTES = 4 };
struct sl_model_price {
    bool is_known;
    char currency[SL_CURRENCY_BYTES]; /* "USD" */
    uint64_t input_picos, output_picos, cache_read_picos, cache_write_picos;
};
/* Of the provider and model that sl_models_resolve() gave; not known: nobody has said. Thread: any.
 */
struct sl_model_price
sl_models_price(const struct sl_models *models, const char *provider, const char *model);
/* Adds the scenario (scenario.h's YAML) that provider "scripted" plays for this model name. */
SL_CHECK enum sl_status sl_models_add_scenario(
    struct sl_models *models, const char *model, struct sl_slice yaml, struct sl_error *err);
/* Closes idle connections of a loop; on that loop, once no turn is left there. on_closed on the
 * loop. */
void sl_models_close_loop(
    struct sl_models *models,
    struct sl_loop *loop,
    void (*on_closed)(void *user_data),
    void *user_data);
/* After all loops were closed. */
struct sl_models *sl_models_free(struct sl_models *models);

/* Whether the provider takes this input at all; only "load" refuses some. For the admission of a
 * run. Fails: the status of the refusal, with its reason (AL-5.3) in `*ret_reason`, which is
 * static, and a text in `err`; mostly SL_INVALID_ARGUMENT. Thread: any. */
SL_CHECK enum sl_status sl_models_check_input(
    const struct sl_models *models,
    const char *provider,
    struct sl_slice input,
    const char **ret_reason,
    struct sl_error *err);
/* The same for "load": JSON or key=value words, see load.h. */
SL_CHECK enum sl_status
sl_model_load_check(struct sl_slice input, const char **ret_reason, struct sl_error *err);

/* "PROVIDER_TIMEOUT" */
const char *sl_model_fault_name(enum sl_model_fault fault);
bool sl_model_fault_from_name(struct sl_slice name, enum sl_model_fault *ret_fault);
/* The column "retryable" of AL-5 for the fault. */
bool sl_model_fault_is_retryable(enum sl_model_fault fault);

/* Turns that are not freed yet, for gauges and leak checks. */
size_t sl_models_n_turns(const struct sl_models *models);

#endif
