/* Provider "load": a stream of text deltas as a load tool orders it, from its input:
 *
 *   {"events": 1000, "bytes": 100, "rate": 50}      or      events=1000 bytes=100 rate=50
 *
 *   events      deltas, default 100                 bytes     of each, 1 to 65,536, default 100
 *   rate        deltas a second; 0 (default): as fast as the reader takes them. Delta k is due at
 *               t0 + k / rate; lag is never forgiven
 *   first_ms    t0 is so long after the start
 *   hang        one delta, then nothing
 *   fail_after  a model error after so many deltas; `code` says which (PROVIDER_OVERLOADED)
 *   seed        the text is a function of seed, index and bytes
 *   stamp       each delta begins with its index and CLOCK_MONOTONIC nanoseconds (bytes >= 48)
 * Any other key is an error. */
#ifndef SL_RUNTIME_MODEL_LOAD_H
#define SL_RUNTIME_MODEL_LOAD_H

#include "runtime/base/slice.h"
#include "runtime/base/status.h"
#include "runtime/model/model.h"

enum { SL_LOAD_BYTES_MAX = 65536, SL_LOAD_STAMP_BYTES = 48 };

struct sl_load_order {
    uint64_t events, bytes, first_ms, fail_after, seed;
    double rate;
    bool hang, has_fail_after, has_seed, stamp;
    enum sl_model_fault code;
};

/* Fails: SL_INVALID_ARGUMENT, named in `err`. Thread: any. */
SL_CHECK enum sl_status
sl_load_parse(struct sl_slice input, struct sl_load_order *ret_order, struct sl_error *err);

#endif
