/* Whether the libcurl that we run with can do what http.c needs. */
#ifndef SL_RUNTIME_MODEL_HTTP_LIBRARY_H
#define SL_RUNTIME_MODEL_HTTP_LIBRARY_H

#include "runtime/base/status.h"

/* Fails: SL_FAILED_PRECONDITION too old, or without a resolver that does not block, TLS, or a
 * thread-safe start. Thread: any. */
SL_CHECK enum sl_status sl_http_library_check(struct sl_error *err);

#endif
