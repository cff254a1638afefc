/* Server-sent events: bytes in, events out (PM-1.5). Incremental: any split of the bytes gives the
 * same events. No I/O.
 *
 *   bytes ─▶ lines (LF, CR, CRLF) ─▶ fields ─▶ empty line: the event goes out
 *
 * Text is made valid per complete line: what is not UTF-8, and NUL, becomes U+FFFD. An event whose
 * data is one line lying whole in the bytes that are fed is given without a copy. */
#ifndef SL_RUNTIME_MODEL_SSE_H
#define SL_RUNTIME_MODEL_SSE_H

#include "runtime/base/buf.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"

/* A raw block is bare JSON between the events: `{` or `[` at the beginning of a line. */
enum { SL_SSE_RAW_BYTES = 65536, SL_SSE_ID_BYTES = 1024 };

/* Slices are valid in the callback only. */
struct sl_sse_event {
    struct sl_slice name; /* empty: none was given */
    struct sl_slice data;
    bool is_raw; /* bare JSON; only an error in it means anything */
    bool is_cut; /* the body ended before the empty line */
};

/* False: stop here; sl_sse_feed then gives SL_AGAIN. */
typedef bool(sl_sse_event_fn)(void *user_data, const struct sl_sse_event *event);

struct sl_sse {
    size_t max_event;
    struct sl_buf line; /* an unfinished line */
    struct sl_buf data, name, raw, id;
    struct sl_buf repaired;   /* the line that is read now, made valid */
    struct sl_slice borrowed; /* data that still lies in the bytes being fed */
    uint64_t retry_ms;
    uint8_t n_bom; /* bytes of the mark seen; 3: no longer looked for */
    bool has_data, is_borrowed, must_skip_lf, is_in_raw, has_retry;
};

/* `max_line` and `max_event` > 0. Allocates nothing. */
void sl_sse_init(struct sl_sse *sse, size_t max_line, size_t max_event);
void sl_sse_done(struct sl_sse *sse);
/* Memory of its buffers. */
size_t sl_sse_memory(const struct sl_sse *sse);

/* Takes the next bytes. `*ret_used` is set in every case: all of them on success, and those up to
 * the end of the event at which the callback said stop (feed the rest later).
 * Fails: SL_AGAIN stopped; SL_OUT_OF_RANGE a line, an event or a raw block is too long;
 * SL_RESOURCE_EXHAUSTED no memory. After the last two the stream cannot go on. */
SL_CHECK enum sl_status sl_sse_feed(
    struct sl_sse *sse,
    struct sl_slice bytes,
    sl_sse_event_fn *on_event,
    void *user_data,
    size_t *ret_used);

/* The body has ended: gives what is still there, an event with data as `is_cut`. Fails as
 * sl_sse_feed; after SL_AGAIN it is called again for the rest. */
SL_CHECK enum sl_status
sl_sse_finish(struct sl_sse *sse, sl_sse_event_fn *on_event, void *user_data);

/* The last `id:`; empty: none. Valid until the next feed. */
struct sl_slice sl_sse_last_id(const struct sl_sse *sse);
/* The last `retry:`; false: none. */
bool sl_sse_retry_ms(const struct sl_sse *sse, uint64_t *ret_ms);

#endif
