/* Ends a recorded log whose owner is gone: reads its events, in order, and then says which events
 * close what is open (AL-3.2, AL-5.27).
 *
 *   init ─▶ feed* ─▶ write ─▶ done
 *
 * It remembers what is open, and sums; and the conversation, if the store has its beginning. Never
 * the events themselves. */
#ifndef SL_RUNTIME_EXEC_CLOSING_H
#define SL_RUNTIME_EXEC_CLOSING_H

#include "runtime/base/event_channel.h"
#include "runtime/base/list.h"
#include "runtime/exec/budget.h"
#include "runtime/exec/ending.h"
#include "runtime/exec/retell.h"
#include "runtime/store/store.h"

/* What is known of a run without its events: for a log that has none. Borrowed for the calls. */
struct sl_closing_run {
    const char *run_id, *agent, *session_id;
    uint32_t on_disconnect; /* number of sluice.v1.OnDisconnect */
    uint64_t created_ms;
};

struct sl_closing {
    uint64_t sequence; /* of the last event that was fed, or written */
    bool is_over;      /* it was a terminal one */
    bool is_iteration_open;
    uint32_t iteration;
    uint64_t begun_ms, last_ms; /* times of the first and the last event, Unix */
    uint64_t open_bytes;        /* of the open iteration: text, reasoning, arguments */
    uint64_t next_input_tokens; /* what the iteration before had: this one sent all of it again */
    struct sl_usage used;       /* of the iterations that are complete */
    struct sl_list calls, approvals; /* that are open, in their order */
    size_t n_open;
    char *provider, *model; /* as RunStarted says; NULL: not known */
    struct sl_retelling retelling;
};

/* The events that are fed follow `after_sequence`. */
void sl_closing_init(struct sl_closing *closing, uint64_t after_sequence);
/* The conversation is told from what the store has of it (of sl_store_recover()), unless it is over
 * limits.run_context or nobody knows how it began. Before the first event. */
void sl_closing_tell(
    struct sl_closing *closing, const struct sl_store_run *run, const struct sl_limits *limits);
/* Whole framed events. Fails: SL_DATA_LOSS they cannot be read, or do not follow each other;
 * SL_RESOURCE_EXHAUSTED no memory, or more is open than a run may have. */
SL_CHECK enum sl_status sl_closing_feed(struct sl_closing *closing, struct sl_slice events);

struct sl_closing_events {
    struct sl_segment *segment; /* owned by the caller: sl_segment_unref() */
    uint64_t first_sequence, last_sequence;
    uint32_t terminal_from; /* the terminal event begins there, and reaches to the end */
    struct sl_buf context;  /* the conversation in the form that is kept; empty: it is not told.
                             * Owned by the caller: sl_buf_done() */
    bool is_session;        /* it is what is kept of the run's session, too (AL-5) */
};
/* The events that end the log; times are `now_ms`, Unix. Once. Fails: SL_RESOURCE_EXHAUSTED;
 * SL_FAILED_PRECONDITION it has ended. */
SL_CHECK enum sl_status sl_closing_write(
    struct sl_closing *closing,
    const struct sl_closing_run *run,
    const struct sl_ending *ending,
    uint64_t now_ms,
    struct sl_closing_events *ret_events);
/* The same without the terminal event, for who has one: brackets only, and no conversation. No
 * segment: nothing is open. */
SL_CHECK enum sl_status sl_closing_write_brackets(
    struct sl_closing *closing, uint64_t now_ms, struct sl_closing_events *ret_events);
void sl_closing_done(struct sl_closing *closing);

#endif
