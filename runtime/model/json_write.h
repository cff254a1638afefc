/* Writes JSON text into a buffer. The first failure is kept, and what follows it does nothing, so
 * that only the end has to be looked at. */
#ifndef SL_RUNTIME_MODEL_JSON_WRITE_H
#define SL_RUNTIME_MODEL_JSON_WRITE_H

#include "runtime/base/buf.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"

/* status: SL_OK; SL_OUT_OF_RANGE over the buffer's maximum; SL_RESOURCE_EXHAUSTED no memory; or
 * what the user put there. */
struct sl_json_out {
    struct sl_buf *buf;
    enum sl_status status;
};

/* As it is: punctuation, numbers, JSON made elsewhere. */
void sl_json_put(struct sl_json_out *out, const char *text);
void sl_json_put_bytes(struct sl_json_out *out, struct sl_slice bytes);
SL_PRINTF(2, 3) void sl_json_putf(struct sl_json_out *out, const char *fmt, ...);
/* In quotes, escaped. Bytes that are not UTF-8 become U+FFFD. */
void sl_json_put_string(struct sl_json_out *out, struct sl_slice text);
void sl_json_put_cstr(struct sl_json_out *out, const char *text);
/* Escaped, without the quotes. */
void sl_json_put_escaped(struct sl_json_out *out, struct sl_slice text);

#endif
