/* The text of the current iteration, taken from the run's own log when it is needed (AL-2.2): at
 * the end, and on the way just before it would leave the log's window. A short answer is never
 * copied before its end. */
#ifndef SL_RUNTIME_EXEC_COLLECT_H
#define SL_RUNTIME_EXEC_COLLECT_H

#include "runtime/base/buf.h"
#include "runtime/base/event_channel.h"

struct sl_collect {
    struct sl_event_channel *channel;
    bool is_off; /* nobody wants the text */
    size_t window_bytes;
    uint64_t next_sequence; /* the first event that was not looked at */
    size_t pending_bytes;   /* of the events from there on */
    struct sl_buf text, reasoning;
    bool is_truncated; /* text over its maximum was left out */
    bool is_out_of_memory;
};

void sl_collect_init(
    struct sl_collect *collect,
    struct sl_event_channel *channel,
    size_t window_bytes,
    size_t max_text_bytes);
void sl_collect_done(struct sl_collect *collect);
/* A new iteration: forgets the last one. */
void sl_collect_begin(struct sl_collect *collect);
/* An event of at most `size_bytes` is about to be appended. */
void sl_collect_before(struct sl_collect *collect, size_t size_bytes);
/* It was appended. */
void sl_collect_after(struct sl_collect *collect, size_t size_bytes);
/* Takes what is left; `text` and `reasoning` are complete then. */
void sl_collect_finish(struct sl_collect *collect);

#endif
