/* Provider "load": a stream of text deltas as a load tool orders it, from its input:
 *
 *   {"events": 1000, "bytes": 100, "rate": 50}      or      events=1000 bytes=100 rate=50
 *
 *   events      deltas, default 100                 bytes     of each, 1 to 65,536, default 100
 *   rate        deltas a second; 0 (default): as fast as the reader takes them. Delta k is due at
 *               t0 + k / rate; lag is never forgiven
 *   first_ms    t0 is so long after the start of the answer that has the deltas
 *   burst       B: delta k is due when delta k - k % B is, so the mean rate stays
 *   jitter_ms   J: 0 to J ms later, by seed and group; never before the delta in front of it
 *   thinking    so many reasoning chunks of `bytes` before the first delta, all due at t0
 *   tools       the first of two answers asks for so many calls of current_time
 *   hang        one delta, then nothing
 *   fail_after  a model error after so many deltas; `code` says which (PROVIDER_OVERLOADED)
 *   seed        the text is a function of seed, index and bytes
 *   stamp       each delta begins with its index and CLOCK_MONOTONIC nanoseconds (bytes >= 48)
 *   refuse      the run is not started; the value is the reason, as SERVER_FULL
 * Any other key is an error, and so is one that can have no effect. */
#ifndef SL_RUNTIME_MODEL_LOAD_H
#define SL_RUNTIME_MODEL_LOAD_H

#include "runtime/base/slice.h"
#include "runtime/base/status.h"
#include "runtime/model/model.h"

enum { SL_LOAD_BYTES_MAX = 65536, SL_LOAD_STAMP_BYTES = 48, SL_LOAD_TOOLS_MAX = 64 };

/* How a start is refused. */
struct sl_load_refusal {
    const char *reason;
    enum sl_status status;
};

struct sl_load_order {
    uint64_t events, bytes, first_ms, jitter_ms, burst, thinking, tools, fail_after, seed;
    double rate;
    bool hang, has_fail_after, has_seed, stamp;
    enum sl_model_fault code;
    const struct sl_load_refusal *refuse; /* NULL: not */
};

/* Fails: SL_INVALID_ARGUMENT, named in `err`; SL_RESOURCE_EXHAUSTED. Thread: any. */
SL_CHECK enum sl_status
sl_load_parse(struct sl_slice input, struct sl_load_order *ret_order, struct sl_error *err);

#endif
