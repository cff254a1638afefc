/* One run's way into the store: its log is read by a cursor, and what is committed goes there in
 * appends, one at a time; what comes meanwhile is the next one.
 *
 *   new ─▶ [begin] ─ RunStarted is stored: on_begun ─▶ [append]* ─ sl_record_end ─▶ [end] ─
 * on_ended └─ on_begun: refused         └─ on_fault ─▶ give_up ─▶ [append, end]: alone
 *
 * With SYNC readers get what is stored and nothing else. A record that is behind holds the run back
 * (AL-8): by bytes, by time, or because the store says so. A store that cannot write is asked again
 * for limits.store_retry, then the run is told (AL-5.28). One that knows another owner of the run
 * is not asked again (RL-G10).
 *
 * A record that rests: the store has all of the log, and what it takes to take the run up, and the
 * run will do nothing of itself. Readers get nothing more until the store knows that this is over,
 * whatever the durability; so nobody has seen an event that the next owner writes otherwise.
 *
 *   [append]* ─ sl_record_let_rest ─▶ [append: rests] ─▶ on_rested ─ (events, sl_record_wake) ─▶
 * [append] sl_record_take_up: of a run that another process left so
 *
 * Everything happens on the run's loop. Callbacks come from tasks and timers, never from inside a
 * function of the record, which may be given up in any of them. */
#ifndef SL_RUNTIME_EXEC_RECORD_H
#define SL_RUNTIME_EXEC_RECORD_H

#include "runtime/base/event_channel.h"
#include "runtime/base/limits.h"
#include "runtime/store/store.h"

enum { SL_RECORD_STOP_MS = 3000 }; /* a stopped run waits so long for the store (AL-7.3) */

/* The records of a loop that have no run any more, but something to say to the store. */
struct sl_record_room {
    struct sl_list alone;
    bool is_stopping;
    /* For each of them; may be NULL. */
    void (*hold)(void *user_data);
    void (*release)(void *user_data);
    void *user_data;
};
void sl_record_room_init(struct sl_record_room *room);
/* They give up, and so do those to come: the store is going to be closed. */
void sl_record_room_stop(struct sl_record_room *room);

/* How the beginning went. Valid in the call. */
struct sl_record_answer {
    /* SL_OK: RunStarted is stored. Otherwise there is no run: as sl_store_begin_run(), or
     * SL_UNAVAILABLE. */
    enum sl_status status;
    const char *why;          /* for the log; NULL: nothing to add */
    const char *found_run_id; /* SL_ALREADY_EXISTS; else "" */
    bool found_same;
};

enum sl_record_fault {
    SL_RECORD_SOUND,
    SL_RECORD_UNAVAILABLE, /* the store cannot write */
    SL_RECORD_FENCED       /* somebody else has the run */
};

struct sl_record_callbacks {
    void (*on_begun)(void *user_data, const struct sl_record_answer *answer);
    /* What sl_record_await() waits for is stored; or sl_record_wake(). */
    void (*on_stored)(void *user_data);
    /* May be NULL. The store has it as a run that rests, and the record was not woken since. */
    void (*on_rested)(void *user_data);
    /* Nothing more will be stored: give it up. After a beginning that went well, once. */
    void (*on_fault)(void *user_data, enum sl_record_fault fault);
    /* The terminal event is stored, and all before it. */
    void (*on_ended)(void *user_data);
    void *user_data;
};

struct sl_record_options {
    struct sl_loop *loop;
    struct sl_store *store;
    struct sl_record_room *room; /* NULL: nobody asks for those that are alone */
    struct sl_event_channel *channel;
    const struct sl_limits *limits;
    const struct sl_store_run *run; /* copied; durability is not NONE */
    struct sl_buf *context;         /* what the run begins with, in the form that is kept: taken */
    struct sl_record_callbacks callbacks;
};

struct sl_record;

/* Begins it. Owns: the caller; sl_record_give_up(). Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_record_new(const struct sl_record_options *options, struct sl_record **ret_record);

/* True: the events up to `sequence` are stored. False: on_stored comes when they are. */
bool sl_record_await(struct sl_record *record, uint64_t sequence);
/* The same for a run that rests in the store, and which this process has claimed: `log` is taken.
 * The channel begins behind what is stored. Nothing comes by itself. Fails: SL_RESOURCE_EXHAUSTED.
 */
SL_CHECK enum sl_status sl_record_take_up(
    const struct sl_record_options *options,
    struct sl_store_log *log,
    struct sl_record **ret_record);

/* All that is in the log, and `resume`, which is taken: the run rests. `state`: as it is then. It
 * can be said again, when `resume` is another. */
void sl_record_let_rest(struct sl_record *record, enum sl_store_state state, struct sl_buf *resume);
/* The run does something again. True: it did not rest, as far as the store knows. False: on_stored
 * comes when the store knows. */
bool sl_record_wake(struct sl_record *record);
/* Readers get what is stored, and no more. */
bool sl_record_is_resting(const struct sl_record *record);

/* For what else is written of the run: whoever has asked the store for it holds the record until
 * that is answered, also when the run has given it up. _hold gives `record`; _release accepts NULL,
 * gives NULL, and may free it. */
struct sl_store_log *sl_record_log(struct sl_record *record);
struct sl_record *sl_record_hold(struct sl_record *record);
struct sl_record *sl_record_release(struct sl_record *record);
uint64_t sl_record_stored(const struct sl_record *record);

/* What the run leaves behind: its conversation in the form that is kept. */
struct sl_record_rest {
    struct sl_buf *messages; /* taken */
    bool is_context;         /* it is kept with the run, */
    bool is_session;         /* and as its session; otherwise that stays as it is */
};

/* The last event of the log, behind `from`, is the terminal one: on_ended, or on_fault. */
void sl_record_end(
    struct sl_record *record,
    struct sl_event_place from,
    enum sl_store_state state,
    const struct sl_record_rest *rest);
/* From now on it waits at most SL_RECORD_STOP_MS for the store. */
void sl_record_hurry(struct sl_record *record);

/* How a run ended that is not recorded. */
struct sl_record_tail {
    struct sl_segment *segment; /* a terminal event without sequence; owned by the record */
    enum sl_store_state state;
    uint64_t sent;          /* last sequence that readers got */
    struct sl_buf *context; /* the conversation, taken, unless sl_record_end() has one; or empty */
};

/* The run goes. What is under way is waited for; with `tail` it then tries for limits.store_retry
 * to end the run in the store with that, behind what is stored. Before the log is cut. Accepts
 * NULL; gives NULL. */
struct sl_record *sl_record_give_up(struct sl_record *record, const struct sl_record_tail *tail);

#endif
