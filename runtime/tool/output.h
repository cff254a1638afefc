/* What is kept of a tool's output (AL-6.4): the first and the last bytes, and clean text made of
 * them.
 *
 *   [first 32 KiB] [... 123456 bytes omitted ...] [last 32 KiB]
 *
 * Any bytes come in, in any pieces. Text goes out: invalid UTF-8 and NUL are U+FFFD, and nothing is
 * cut in the middle of a character. Memory: twice the edge, taken as it is needed. */
#ifndef SL_RUNTIME_TOOL_OUTPUT_H
#define SL_RUNTIME_TOOL_OUTPUT_H

#include "runtime/base/buf.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"

struct sl_output {
    size_t edge_bytes;
    uint64_t total_bytes; /* that came in */
    struct sl_buf head;
    uint8_t *tail; /* ring of edge_bytes; NULL: not needed yet */
    size_t tail_at;
    size_t tail_size;
};

/* `edge_bytes` >= 4. */
void sl_output_init(struct sl_output *output, size_t edge_bytes);
/* Fails: SL_RESOURCE_EXHAUSTED no memory; what came in is counted all the same. */
SL_CHECK enum sl_status sl_output_add(struct sl_output *output, struct sl_slice bytes);
void sl_output_done(struct sl_output *output);
/* Memory that it has taken. */
size_t sl_output_memory(const struct sl_output *output);

/* Adds the text of it, of at most about `max_bytes` bytes (the note about what is missing comes on
 * top). Gives whether something is missing. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_output_text(
    const struct sl_output *output, size_t max_bytes, struct sl_buf *text, bool *ret_is_cut);

/* The same cut for a text that is there as a whole. */
SL_CHECK enum sl_status
sl_output_cut(struct sl_slice whole, size_t max_bytes, struct sl_buf *text, bool *ret_is_cut);

/* Live output: pieces as they come, given on as clean text without a character cut in two. All zero
 * is the start. */
struct sl_output_live {
    uint8_t carry[4]; /* beginning of a character */
    size_t carry_size;
};

enum { SL_OUTPUT_LIVE_BYTES = 4096 };

/* Calls `give` for each piece of clean text, each at most 3 * SL_OUTPUT_LIVE_BYTES long. With
 * `is_last` also for a character that stays unfinished. */
void sl_output_live_add(
    struct sl_output_live *live,
    struct sl_slice bytes,
    bool is_last,
    void (*give)(struct sl_slice text, void *user_data),
    void *user_data);

#endif
