/* When a failed request is sent again, and how long that waits (PM-1.7). No clock: time is passed
 * in.
 */
#ifndef SL_RUNTIME_MODEL_RETRY_H
#define SL_RUNTIME_MODEL_RETRY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/slice.h"
#include "runtime/base/status.h"

/* Shared by all runs that use an entry (the form of gRFC A6): 10 tokens, one less per retry, a
 * tenth more per success, retries only above 5. Thread: any. */
struct sl_retry_budget {
    atomic_int milli;
};

void sl_retry_budget_init(struct sl_retry_budget *budget);
/* True: a retry is allowed, and counted. */
bool sl_retry_budget_take(struct sl_retry_budget *budget);
void sl_retry_budget_succeed(struct sl_retry_budget *budget);

/* The wait that an answer asks for: `retry-after-ms`, else `Retry-After` in seconds (fractions
 * allowed) or as a date. Either may be NULL. `wall_ms` is now, Unix time. False: none, or one that
 * makes no sense (negative, past, not a number). Saturates at INT64_MAX. */
bool sl_retry_after_parse(
    const char *after_ms, const char *after, uint64_t wall_ms, int64_t *ret_ms);

/* An HTTP date in any of its three forms (RFC 9110, 5.6.7) as Unix seconds. Fails:
 * SL_INVALID_ARGUMENT. */
SL_CHECK enum sl_status sl_retry_date_parse(struct sl_slice text, int64_t *ret_seconds);

/* min(0.5 * 2^n, 8) s, less up to a quarter. `random` is any number. */
uint64_t sl_retry_backoff_ms(unsigned n, uint64_t random);

enum sl_retry_answer {
    SL_RETRY_NO,
    SL_RETRY_WAIT,    /* *ret_wait_ms, then again */
    SL_RETRY_TOO_LONG /* the wait that was asked for is too long: *ret_wait_ms */
};

struct sl_retry_question {
    bool is_retryable;        /* by its kind */
    const char *should_retry; /* header x-should-retry; NULL: none */
    bool has_output;          /* something of this answer was given on already */
    unsigned n_retries;       /* made so far */
    uint64_t max_retries, max_wait_ms;
    int64_t asked_ms; /* -1: none */
    uint64_t remaining_ms;
    uint64_t random;
};

/* Takes from `budget` only when the answer is WAIT. */
enum sl_retry_answer sl_retry_decide(
    const struct sl_retry_question *question,
    struct sl_retry_budget *budget,
    uint64_t *ret_wait_ms);

#endif
