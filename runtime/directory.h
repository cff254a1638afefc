/* What the loops share: how many runs there are and where, who waits for a slot, which sessions
 * have a run, and which request ids are known. One lock, held for a look-up or a count and never
 * across a call.
 *
 *   admit ─▶ RUNNING ───────────────▶ leave ─▶ gives the slot to who is next
 *        ├─▶ WAITING ─(slot)─▶ RUNNING                     in the order of directory_queue.h
 *        │           └─(time, close)─▶ abandon
 *        └─▶ QUEUED ─(leave_session of another)─▶ TURN ─ ask_slot ─▶ RUNNING, WAITING
 *                    └─(time, close)─▶ abandon
 *
 * Who is not QUEUED has his session's lock, if he has a session, until he gives it back. */
#ifndef SL_RUNTIME_DIRECTORY_H
#define SL_RUNTIME_DIRECTORY_H

#include "runtime/base/crypto.h"
#include "runtime/base/list.h"
#include "runtime/base/map.h"
#include "runtime/base/status.h"
#include "runtime/runtime.h"

enum { SL_REQUEST_ID_MAX_BYTES = 128, SL_SESSION_ID_MAX_BYTES = 128 };

struct sl_directory;
struct sl_directory_request;
struct sl_directory_tenant;
struct sl_directory_session; /* directory_sessions.h */
struct sl_queue_line;        /* directory_queue.h */

enum sl_ticket_state {
    SL_TICKET_NONE,
    SL_TICKET_QUEUED, /* for its session */
    SL_TICKET_TURN,   /* it has the session's lock, and has not asked for a slot */
    SL_TICKET_WAITING,
    SL_TICKET_RUNNING
};

/* A run's place in the directory, embedded in its owner. All zero is one that has none. The fields
 * are the directory's. */
struct sl_ticket {
    struct sl_list node; /* WAITING, QUEUED: of all of them */
    enum sl_ticket_state state;
    uint32_t home; /* loop of the reader */
    uint32_t loop; /* RUNNING: where it runs */
    struct sl_directory_request *request;
    struct sl_directory_tenant *tenant;   /* all but NONE */
    struct sl_directory_session *session; /* NULL: none, or given back */
    struct sl_list session_node;          /* QUEUED: of those of the session */
    bool interrupts;
    struct sl_queue_line *line; /* WAITING: of its tenant */
    struct sl_list line_node;   /* WAITING: of those of the tenant */
    uint64_t since_ns;          /* WAITING */
    bool is_short;      /* WAITING: the queue is slow, and who comes now need not wait for long */
    const char *run_id; /* borrowed from the owner */
};

struct sl_directory_options {
    uint32_t n_loops;
    uint64_t max_runs, max_waiting;
    uint64_t max_tenant_runs; /* running and waiting ones; 0: as many as there may be */
    uint64_t max_session_queue;
    uint64_t request_keep_ns; /* request ids stay known so long after the end */
};

/* Owns: the caller. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_directory_new(const struct sl_directory_options *options, struct sl_directory **ret_directory);
/* Accepts NULL; gives NULL. */
struct sl_directory *sl_directory_free(struct sl_directory *directory);

/* Counts and times from now on; n_loops stays. Fewer runs: those that are there go on. More: the
 * caller must ask sl_directory_admit_waiting() until it gives nobody. Thread: any. */
void sl_directory_set_options(
    struct sl_directory *directory, const struct sl_directory_options *options);
/* Gives a slot that is free to who is next, and is given back RUNNING; NULL: none is
 * free, or nobody waits. Thread: any. */
SL_CHECK struct sl_ticket *sl_directory_admit_waiting(struct sl_directory *directory);

enum sl_admission {
    SL_ADMIT_RUN,        /* ticket->loop is set */
    SL_ADMIT_WAIT,       /* sl_directory_leave of another one will give it a slot */
    SL_ADMIT_QUEUE,      /* sl_directory_leave_session of another one will give it its turn.
                          * `ret_run_id`: who is to be interrupted; "": nobody */
    SL_ADMIT_KNOWN,      /* the same request has a run, or waits for one: `ret_run_id` */
    SL_ADMIT_KNOWN_OVER, /* the same, and that run has ended */
    SL_ADMIT_DRAINING,   /* from here on: refused */
    SL_ADMIT_FULL,
    SL_ADMIT_TENANT_FULL, /* the tenant has all that it may have */
    SL_ADMIT_REQUEST_ID,  /* another request with this id has a run: `ret_run_id` */
    SL_ADMIT_SESSION_BUSY,
    SL_ADMIT_SESSION_FULL, /* as many wait for the session as may */
    SL_ADMIT_NO_MEMORY
};

enum sl_session_policy { SL_SESSION_REJECT, SL_SESSION_ENQUEUE, SL_SESSION_INTERRUPT };

struct sl_directory_ask {
    uint32_t home;          /* loop of the reader */
    const char *tenant;     /* NULL or "": the one there is without identities */
    const char *run_id;     /* of the run that wants the slot; stays as long as the ticket */
    const char *request_id; /* of the tenant; NULL or "": none */
    const uint8_t *digest;  /* of what is asked for, SL_SHA256_BYTES; with a request id */
    const char *agent;
    const char *session_id;        /* of the tenant and the agent; NULL or "": none */
    enum sl_session_policy policy; /* when the session has a run */
    uint64_t now_ns;
};

/* Asks for the session, if there is one, and then for a slot; a request id that is known comes
 * before both. Request ids, and sessions, of two tenants never meet. Thread: any. */
SL_CHECK enum sl_admission sl_directory_admit(
    struct sl_directory *directory,
    struct sl_ticket *ticket,
    const struct sl_directory_ask *ask,
    char ret_run_id[SL_ID_BYTES]);
/* A slot for a run that was admitted by another process, and goes on in this one: no bound holds it
 * back, and it counts. RUN; SESSION_BUSY, REQUEST_ID: another run has its session, or its request;
 * NO_MEMORY. `ask->policy` is REJECT. Before anybody is admitted. Thread: any. */
SL_CHECK enum sl_admission sl_directory_take_up(
    struct sl_directory *directory, struct sl_ticket *ticket, const struct sl_directory_ask *ask);
/* A run is over (or never began): its slot goes to who is next, and is given back RUNNING; NULL:
 * nobody. Thread: any. */
SL_CHECK struct sl_ticket *sl_directory_leave(
    struct sl_directory *directory, struct sl_ticket *ticket, bool was_run, uint64_t now_ns);
/* Stops waiting. False: it has a slot or its turn meanwhile. The session, if it has that, is still
 * to be given back. Thread: any. */
SL_CHECK bool sl_directory_abandon(struct sl_directory *directory, struct sl_ticket *ticket);

/* ---- Sessions (AL-6.6) -------------------------------------------------------------------------
 * Of those that wait, the ones that interrupt come first, and else who came first. */

/* The session is free; harmless without one. Whoever has it next is given back, and is told to ask
 * for his slot; NULL: nobody. Thread: any. */
SL_CHECK struct sl_ticket *
sl_directory_leave_session(struct sl_directory *directory, struct sl_ticket *ticket);
/* In its TURN: RUN, WAIT or DRAINING. The queue for slots has kept a place for it. Thread: any. */
SL_CHECK enum sl_admission
sl_directory_ask_slot(struct sl_directory *directory, struct sl_ticket *ticket);
/* Gives its turn back. Thread: any. */
void sl_directory_drop_turn(struct sl_directory *directory, struct sl_ticket *ticket);
/* Somebody waits for the end of this one, who has come to interrupt it. Thread: any. */
bool sl_directory_is_interrupted(struct sl_directory *directory, const struct sl_ticket *ticket);

/* ---- Where runs are ----------------------------------------------------------------------------
 */

/* That somebody else than its reader can find the run. Embedded in what its loop keeps of it; the
 * fields are the directory's. */
struct sl_directory_run {
    UT_hash_handle hh;
    uint32_t loop;
    char run_id[SL_ID_BYTES];
};

/* Thread: any. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_directory_add_run(
    struct sl_directory *directory,
    struct sl_directory_run *run,
    const char *run_id,
    uint32_t loop);
/* Thread: any. */
void sl_directory_remove_run(struct sl_directory *directory, struct sl_directory_run *run);
/* The loop that knows more. False: there is no such run. Thread: any. */
SL_CHECK bool
sl_directory_find_run(struct sl_directory *directory, const char *run_id, uint32_t *ret_loop);
/* The same, for the loop where it is: what is found stays while the loop does not remove it. NULL:
 * there is none. */
struct sl_directory_run *sl_directory_run_at(struct sl_directory *directory, const char *run_id);

/* ---- The end -----------------------------------------------------------------------------------
 */

/* Nobody is admitted from now on. Thread: any. */
void sl_directory_drain(struct sl_directory *directory);
/* Takes out one that waits for a slot or its session, while draining; NULL: none. Thread: any. */
struct sl_ticket *sl_directory_take_waiting(struct sl_directory *directory);

struct sl_directory_counts {
    uint64_t started, ended, running, waiting, refused;
    uint64_t queued; /* for their sessions */
};
/* After which time one who is refused for want of a slot may come again: how long he would have
 * waited, or `otherwise` when nobody knows. Thread: any. */
uint64_t sl_directory_wait_ms(struct sl_directory *directory, uint64_t otherwise_ms);
void sl_directory_count(struct sl_directory *directory, struct sl_directory_counts *ret_counts);
/* Counts a refusal that the directory has not seen. */
void sl_directory_count_refused(struct sl_directory *directory);

#endif
