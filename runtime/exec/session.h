/* The session of a run (AL-6.6): what the conversation of the run that has it is stored as.
 *
 *   a tool phase is complete ─▶ _phase: stored so far, while the run goes on
 *   nothing of the run is alive ─▶ _settle: stored as its end says ─▶ terminal event
 *
 * Only one request to the store is under way at a time; what comes meanwhile waits for the next. */
#ifndef SL_RUNTIME_EXEC_SESSION_H
#define SL_RUNTIME_EXEC_SESSION_H

#include "runtime/exec/ending.h"
#include "runtime/exec/run.h"

/* AL-5, column "history": of the turn, what is stored. */
enum sl_session_rule {
    SL_SESSION_FULL, /* all of it */
    SL_SESSION_CUT,  /* as far as it came; nothing, if that is nothing of use */
    SL_SESSION_NONE  /* nothing */
};

/* `is_first`: the end came in the first iteration, or before; `has_tool`: some tool was run. */
enum sl_session_rule
sl_session_rule_of(const struct sl_ending *ending, bool is_first, bool has_tool);

struct sl_session_save;

/* Part of a run. All zero: the run has no session. */
struct sl_session_keeper {
    struct sl_store *store; /* NULL: the run has no session */
    struct sl_store_session now;
    struct sl_buf bytes;          /* of `now` */
    struct sl_session_save *save; /* with `store`; NULL: given up */
    bool is_saving;               /* on_done of `save` will come */
    bool is_settling;             /* sl_run_settled() waits for it, but not for ever */
    bool is_last;                 /* what is being saved is the end's */
};

/* Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_run_session_init(struct sl_run *run);
void sl_run_session_done(struct sl_run *run);
/* The results of all calls are in the conversation. */
void sl_run_session_phase(struct sl_run *run);
/* The conversation is complete, and the ending is claimed. True: it is stored, or nothing is to be
 * stored. False: sl_run_settled() comes, when the store has answered or limits.store_retry is over,
 * for a run that is stopped SL_RECORD_STOP_MS. A success whose conversation cannot be stored is
 * none: the ending says so. */
SL_CHECK bool sl_run_session_settle(struct sl_run *run);
/* The run is stopped: an end that waits for the store does so for SL_RECORD_STOP_MS at most. */
void sl_run_session_hurry(struct sl_run *run);
/* For the run's own end transaction; NULL: nothing, or _settle has stored it. Its messages are
 * those of the keeper's `bytes`. */
const struct sl_store_session *sl_run_session_of_end(struct sl_run *run);
/* The run is recorded where its session is. */
bool sl_run_session_is_of_end(const struct sl_run *run);
/* What the keeper has may be kept as the run's own conversation, too: limits.run_context. */
bool sl_run_session_is_context(const struct sl_run *run);

#endif
