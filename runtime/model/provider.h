/* A wire format of model providers: requests out, bytes in, normalised chunks out. No I/O.
 *
 *   build_request ─▶ method, URL, headers, body
 *   stream_new ─▶ on_event … (or on_reply) ─▶ on_end ─▶ chunks through `emit`, the last one FINISH
 *                                                       or FAIL */
#ifndef SL_RUNTIME_MODEL_PROVIDER_H
#define SL_RUNTIME_MODEL_PROVIDER_H

#include <jansson.h>

#include "runtime/base/buf.h"
#include "runtime/model/model.h"
#include "runtime/model/sse.h"

enum sl_quirk_max_tokens { SL_MAX_TOKENS_PLAIN, SL_MAX_TOKENS_COMPLETION };
enum sl_quirk_echo { SL_ECHO_NONE, SL_ECHO_REASONING_CONTENT, SL_ECHO_REASONING };
enum sl_quirk_auth { SL_AUTH_BEARER, SL_AUTH_API_KEY };
enum sl_quirk_id { SL_ID_CALL24, SL_ID_ALNUM9 };
enum sl_quirk_parallel { SL_PARALLEL_UNSET, SL_PARALLEL_TRUE, SL_PARALLEL_FALSE };

/* PM-2.4. All zero is the default. */
struct sl_quirks {
    enum sl_quirk_max_tokens max_tokens_field;
    bool developer_role;  /* system_role: developer */
    bool no_stream_usage; /* stream_usage: never */
    bool no_obfuscation;  /* openai_stream_options */
    bool done_is_end;     /* done_without_finish: end_turn */
    enum sl_quirk_echo reasoning_echo;
    bool reasoning_details_echo;
    enum sl_quirk_id tool_id_format;
    enum sl_quirk_auth auth;
    enum sl_quirk_parallel parallel_tool_calls;
    const char *path;               /* NULL: "/chat/completions"; "{model}" is filled in */
    const char *idempotency_header; /* NULL: not sent */
    json_t *extra_body;             /* NULL: none */
};

struct sl_provider_settings {
    const char *base_url; /* without a slash at the end */
    const char *key;      /* NULL: none */
    const struct sl_quirks *quirks;
    const struct sl_limits *limits;
};

/* Owned by the caller of build_request: sl_provider_request_done(). */
struct sl_provider_request {
    struct sl_buf url, body;
    struct sl_buf headers; /* "Name: value\0" each */
};

struct sl_provider_error {
    enum sl_model_fault fault;
    bool is_retryable;
    bool has_retry_after;
    int64_t retry_after_ms; /* has_retry_after: what the body asks for */
    char text[501];         /* for the log */
};

/* False: stop, the owner takes nothing more. */
typedef bool(sl_provider_emit_fn)(void *user_data, const struct sl_model_chunk *chunk);

struct sl_provider_stream; /* each provider has its own */

struct sl_provider {
    const char *kind;
    /* Fails: SL_OUT_OF_RANGE over the limit; SL_INVALID_ARGUMENT something cannot be sent (named);
     * SL_RESOURCE_EXHAUSTED. `*ret_request` must be done in any case. */
    enum sl_status (*build_request)(
        const struct sl_provider_settings *settings,
        const struct sl_model_request *request,
        struct sl_provider_request *ret_request,
        struct sl_error *err);
    /* Fails: SL_RESOURCE_EXHAUSTED. */
    enum sl_status (*stream_new)(
        const struct sl_provider_settings *settings,
        sl_provider_emit_fn *emit,
        void *user_data,
        struct sl_provider_stream **ret_stream);
    struct sl_provider_stream *(*stream_free)(struct sl_provider_stream *stream);
    /* Memory of it; not there: JSON trees. */
    uint64_t (*stream_bytes)(const struct sl_provider_stream *stream);
    /* False: the stream is over, take no more. `document` is the event's data, parsed elsewhere;
     * NULL: not parsed yet. Borrows both. */
    bool (*on_event)(
        struct sl_provider_stream *stream, const struct sl_sse_event *event, json_t *document);
    /* For a document that is parsed elsewhere, there, before on_event or on_reply: does what would
     * take long on a loop. Thread: any. Fails: SL_RESOURCE_EXHAUSTED. */
    enum sl_status (*prepare)(json_t *document);
    /* True when on_event would parse `data` with jansson (so a large one can be parsed elsewhere).
     */
    bool (*needs_document)(struct sl_provider_stream *stream, const struct sl_sse_event *event);
    /* An answer that is one JSON document. */
    void (*on_reply)(struct sl_provider_stream *stream, json_t *document);
    /* The body has ended, or nothing more is waited for: FINISH, or FAIL when it is not complete.
     */
    void (*on_end)(struct sl_provider_stream *stream);
    /* The finish reason has come: what follows is waited for only a short time. */
    bool (*is_finishing)(const struct sl_provider_stream *stream);
    /* An HTTP status that is not 200, with what came of its body. */
    void (*map_error)(
        uint32_t status,
        struct sl_slice body,
        const struct sl_limits *limits,
        struct sl_provider_error *ret_error);
};

extern const struct sl_provider sl_provider_openai;

void sl_provider_request_init(struct sl_provider_request *request, const struct sl_limits *limits);
void sl_provider_request_done(struct sl_provider_request *request);

#endif
