/* What a run may use, and what it has used (AL-2.3, AL-4.2). */
#ifndef SL_RUNTIME_EXEC_BUDGET_H
#define SL_RUNTIME_EXEC_BUDGET_H

#include "runtime/base/crypto.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"
#include "runtime/model/model.h"

/* Counters saturate. */
struct sl_usage {
    uint64_t input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens;
    uint32_t model_calls;
    bool is_estimated;                /* some part was not reported */
    bool has_cost;                    /* of all parts that have prices */
    char currency[SL_CURRENCY_BYTES]; /* "" without a cost */
    uint64_t cost_micros;
};

/* What is known of one model response. */
struct sl_usage_facts {
    struct sl_model_usage reported;
    uint64_t request_bytes, received_bytes;
    uint64_t lost_bytes; /* of request_bytes: attempts before the one that was reported */
    uint32_t n_requests; /* that reached the provider */
    bool is_unused;      /* provably nothing was used: never sent, or answered with an HTTP error */
};

/* The usage of one response: as reported, else a quarter of the bytes. Zero never stands for
 * "unknown". */
struct sl_usage sl_usage_of(const struct sl_usage_facts *facts);
/* Adds what it costs, rounded up; nothing when the price is not known. */
void sl_usage_price(struct sl_usage *usage, const struct sl_model_price *price);
void sl_usage_add(struct sl_usage *total, const struct sl_usage *part);

enum sl_budget_verdict {
    SL_BUDGET_OK,
    SL_BUDGET_CALLS, /* more calls than the run may make */
    SL_BUDGET_LOOP   /* the same call too often in a row */
};

struct sl_budget {
    uint64_t max_tokens;      /* 0: no bound */
    uint64_t max_cost_micros; /* 0: no bound */
    uint64_t max_calls;
    uint64_t max_same; /* the same call in a row: this one ends the run */
    uint64_t n_calls, n_same;
    uint8_t last_call[SL_SHA256_BYTES];
    struct sl_usage used;
};

/* By which equal calls are known: their name and canonical arguments. Thread: any. Fails:
 * SL_RESOURCE_EXHAUSTED no memory. */
SL_CHECK enum sl_status sl_budget_digest(
    const char *name, struct sl_slice canonical_arguments, uint8_t ret_digest[SL_SHA256_BYTES]);
/* Counts a call. */
enum sl_budget_verdict
sl_budget_call(struct sl_budget *budget, const uint8_t digest[SL_SHA256_BYTES]);
/* True when nothing is left for another iteration. */
bool sl_budget_is_spent(const struct sl_budget *budget);

#endif
