/* The insides of a turn over HTTP, for http_model.c (attempts, transfers, retries),
 * http_model_build.c (what is sent) and http_model_body.c (what comes). */
#ifndef SL_RUNTIME_MODEL_HTTP_MODEL_H
#define SL_RUNTIME_MODEL_HTTP_MODEL_H

#include "runtime/model/http.h"
#include "runtime/model/models.h"
#include "runtime/model/turn.h"

enum sl_http_mode {
    SL_HTTP_MODE_NONE,   /* no headers yet */
    SL_HTTP_MODE_STREAM, /* SSE */
    SL_HTTP_MODE_REPLY,  /* one JSON document */
    SL_HTTP_MODE_ERROR   /* not 200: the body explains */
};

enum { SL_HTTP_TURN_HEADERS = 64 };

struct sl_parse_job;
struct sl_build_job;

struct sl_http_turn {
    struct sl_model_turn base;
    struct sl_model_entry *entry;
    const struct sl_provider *provider;
    struct sl_provider_settings settings;
    struct sl_provider_request request;
    struct sl_build_job *build; /* the request is being built on the pool */
    const char *headers[SL_HTTP_TURN_HEADERS];
    struct sl_http *http;
    struct sl_gate_ticket ticket;
    struct sl_timer total;
    struct sl_timer wait;     /* before a retry, and for failures at the start */
    struct sl_timer progress; /* no progress; after the finish reason: the end grace */
    uint64_t deadline_ns, last_chunk_ns;
    unsigned n_retries;
    uint32_t n_requests;
    uint64_t request_bytes;
    uint64_t received_bytes; /* text, reasoning and arguments that were given on */
    bool has_output;
    enum sl_model_fault early_fault; /* why nothing could be sent */
    bool has_early_fault;
    struct { /* of one attempt */
        struct sl_http_request *transfer;
        struct sl_provider_stream *stream;
        struct sl_sse sse;
        struct sl_buf body; /* of errors and replies */
        enum sl_http_mode mode;
        uint32_t status;
        bool is_running, is_finishing, has_chunk;
        struct sl_parse_job *job;
        struct sl_buf held; /* came while the job runs */
        bool has_ended;     /* the transfer, while the job runs */
        struct sl_http_result result;
    } attempt;
};

/* ---- http_model.c
 * -------------------------------------------------------------------------------- */

/* The attempt has failed: another one, or the end of the turn. `status`: the HTTP status that said
 * so; 0: another fault. `is_final`: no retry. */
void sl_http_turn_fail(
    struct sl_http_turn *self,
    const struct sl_provider_error *error,
    uint32_t status,
    bool is_final);
void sl_http_turn_fail_with(
    struct sl_http_turn *self, enum sl_model_fault fault, bool is_retryable, const char *text);
/* Of the SSE parser, or of a buffer. */
void sl_http_turn_fail_by_status(struct sl_http_turn *self, enum sl_status status);

/* The request was built on the pool, or could not be. */
void sl_http_turn_built(struct sl_http_turn *self, enum sl_status status);

/* ---- http_model_build.c
 * -------------------------------------------------------------------------- */

/* Builds the request. Fails: SL_AGAIN the pool does it, and sl_http_turn_built() comes later; else
 * as build_request. */
enum sl_status
sl_http_turn_build(struct sl_http_turn *self, const struct sl_model_request *request);
/* Nobody waits for the request any more. */
void sl_http_turn_drop_build(struct sl_http_turn *self);

/* ---- http_model_body.c
 * --------------------------------------------------------------------------- */

/* Bytes of the stream. */
void sl_http_turn_feed(struct sl_http_turn *self, struct sl_slice bytes);
/* Bytes of an error or of a reply. */
void sl_http_turn_keep_body(struct sl_http_turn *self, struct sl_slice bytes);
/* The transfer ended by itself, and nothing is parsed any more. */
void sl_http_turn_end_body(struct sl_http_turn *self);
/* The status explains the end, and what came of the body. */
void sl_http_turn_end_error(struct sl_http_turn *self);
/* Memory of the turn: what is sent and what came, but for the jobs of the pool. */
uint64_t sl_http_turn_bytes(struct sl_model_turn *base);
/* Nobody waits for the document any more. */
void sl_http_turn_drop_job(struct sl_http_turn *self);

#endif
