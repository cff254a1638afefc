/* The grammar of a run's events (AL-3.2, AL-3.3) as a checker: feed every event in order, then
 * finish. It knows nothing of how events are made, so that tests, debug builds and readers of
 * recorded streams can use it.
 *
 *   NEW ─RunStarted▶ READY ─IterationStart▶ MODEL ─IterationComplete▶ TOOLS │ CLOSING ─▶ END */
#ifndef SL_RUNTIME_EXEC_ORDER_H
#define SL_RUNTIME_EXEC_ORDER_H

#include <stdbool.h>

#include "proto/sluice/v1/events.pb-c.h"
#include "runtime/base/status.h"

enum sl_event_order_state {
    SL_ORDER_NEW,
    SL_ORDER_READY,
    SL_ORDER_MODEL,
    SL_ORDER_TOOLS,
    SL_ORDER_CLOSING,
    SL_ORDER_END,
    /* Of a stream that begins inside its run, when it is not known yet where that stands: anywhere;
     * TOOLS or CLOSING. */
    SL_ORDER_MIDDLE,
    SL_ORDER_LATE
};

struct sl_event_order_bracket;

/* All zero is the start. */
struct sl_event_order {
    enum sl_event_order_state state;
    uint64_t sequence;  /* of the last logged event */
    uint64_t promised;  /* the highest event that a heartbeat spoke of */
    uint32_t iteration; /* the last one that was started */
    uint32_t attempt;
    Sluice__V1__StopReason stop_reason; /* of the last IterationComplete */
    bool has_unseen; /* calls may be open that were asked for before the stream began */
    uint32_t n_open_calls, n_open_approvals, n_calls_of_iteration;
    struct sl_event_order_bracket *calls, *approvals; /* every one that was seen */
    uint64_t n_brackets;
};

/* For a stream that begins behind the event `after` of its run; 0: at the beginning. What was
 * before is not known: until the next IterationStart everything is accepted that some beginning
 * would allow. On an order that is all zero. */
void sl_event_order_resume(struct sl_event_order *order, uint64_t after);
/* Takes the next event; one that is unset is newer than this program and counts by its sequence
 * only. Fails: SL_FAILED_PRECONDITION it may not stand here (`err` says why);
 * SL_RESOURCE_EXHAUSTED no memory, or over a million calls. */
SL_CHECK enum sl_status sl_event_order_check(
    struct sl_event_order *order, const Sluice__V1__StreamEvent *event, struct sl_error *err);
/* The stream ended here. Fails: SL_FAILED_PRECONDITION there was no terminal event, or a heartbeat
 * spoke of events that never came. */
SL_CHECK enum sl_status
sl_event_order_finish(const struct sl_event_order *order, struct sl_error *err);
/* Releases what it remembers. */
void sl_event_order_done(struct sl_event_order *order);

#endif
