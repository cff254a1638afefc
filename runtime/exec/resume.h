/* What it takes to take a run up again, as bytes: what a store keeps of one that rests.
 *
 *   sl_resume_write (run_private.h) ─▶ sluice.store.v1.Resume ─▶ sl_resume_read ─▶ settings,
 * conversation ─▶ sl_run_take_up
 *
 * Everything of the run is in it but what the store knows itself (struct sl_store_run) and the
 * request's credentials, which are never stored. What was not written by this is refused. */
#ifndef SL_RUNTIME_EXEC_RESUME_H
#define SL_RUNTIME_EXEC_RESUME_H

#include "proto/sluice/store/v1/resume.pb-c.h"
#include "runtime/exec/history.h"
#include "runtime/exec/run.h"

#define SL_RESUME_POINT(name) SLUICE__STORE__V1__RESUME_POINT__RESUME_POINT_##name
#define SL_RESUME_CALL(name)  SLUICE__STORE__V1__RESUME_CALL_STATE__RESUME_CALL_STATE_##name

enum {
    SL_RESUME_VERSION = 1,
    SL_RESUME_APPROVALS = 4096 /* of a run, decided or not, at most */
};

/* Its message is whole: what refers to something is right, and what is to be there is. */
struct sl_resume {
    Sluice__Store__V1__Resume *message;
};

/* Owns: the caller; sl_resume_done(). Thread: any. Fails: SL_DATA_LOSS this is no such message;
 * SL_UNIMPLEMENTED a newer version wrote it; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_resume_read(struct sl_slice bytes, struct sl_resume *ret_resume);
/* Harmless on all zero. */
void sl_resume_done(struct sl_resume *resume);

/* What was agreed on at the start; what is beyond today's bounds of memory is within them. */
void sl_resume_settings(
    const struct sl_resume *resume,
    const struct sl_limits *limits,
    enum sl_store_durability durability,
    struct sl_run_settings *ret_settings);
/* Fills an empty history. Fails: SL_DATA_LOSS; SL_UNIMPLEMENTED; SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_resume_conversation(const struct sl_resume *resume, struct sl_history *history);
/* The first message of the turn; empty: there is none. */
struct sl_slice sl_resume_turn_input(const struct sl_history *history);
/* The input of the turn; valid as long as both. */
const char *sl_resume_input(const struct sl_resume *resume, const struct sl_history *history);

#endif
