/* From the messages of sluice.v1 to what the runtime takes, with every check that needs no runtime.
 */
#ifndef SL_SERVICE_API_CONVERT_H
#define SL_SERVICE_API_CONVERT_H

#include "proto/sluice/v1/runtime.pb-c.h"
#include "runtime/base/arena.h"
#include "runtime/base/limits.h"
#include "runtime/runtime.h"

/* Fills `spec` from `request`; texts are borrowed from it, lists lie in `arena`. A field that this
 * server does not implement is refused, never ignored. Fails: SL_INVALID_ARGUMENT naming the field
 * in `err`; SL_RESOURCE_EXHAUSTED no memory. */
SL_CHECK enum sl_status sl_convert_request(
    const Sluice__V1__ExecuteRequest *request,
    const struct sl_limits *limits,
    struct sl_arena *arena,
    struct sl_run_spec *spec,
    struct sl_error *err);

#endif
