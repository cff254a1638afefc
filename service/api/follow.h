/* A call that follows a run: the run's log becomes the call's source, and its ending the call's
 * status. ExecuteStreaming and Attach are this; Execute and StartRun use parts of it.
 *
 *   init ─▶ sl_run_start, sl_run_attach ─▶ on_started ─▶ open ─▶ … ─▶ finish_read
 *                                                     └─▶ refuse
 *   the client goes, or the server does; an observer is lost; the caller is revoked ─▶ finish */
#ifndef SL_SERVICE_API_FOLLOW_H
#define SL_SERVICE_API_FOLLOW_H

#include "runtime/runtime.h"
#include "service/api/recheck.h"
#include "service/rpc/rpc.h"

enum { SL_FOLLOW_INFOS = 3, SL_FOLLOW_NUMBER_BYTES = 24 };

/* Lies in the call's arena, in its owner or alone: it lives until the call is finished. The fields
 * are read by the owner, who sets `stream`, and may set `on_finish` and, for a call that can be
 * nothing else, `is_observer`. */
struct sl_follow {
    struct sl_call *call;
    struct sl_run_stream *stream;
    const char *run_id; /* NULL: no run exists yet */
    bool is_observer;   /* somebody else started the run */
    struct sl_call_source source;
    struct sl_recheck recheck;                   /* the owner starts it, before the stream */
    void (*on_finish)(struct sl_follow *follow); /* may be NULL: what the owner has to free */
    /* What the ErrorInfo of an ending says, and its numbers. */
    struct sl_metadatum info[SL_FOLLOW_INFOS];
    char sequence[SL_FOLLOW_NUMBER_BYTES], floor[SL_FOLLOW_NUMBER_BYTES];
};

void sl_follow_init(struct sl_follow *follow, struct sl_call *call);

/* The stream's, with the follow as user data. on_started opens, and sets the source. */
extern const struct sl_run_callbacks sl_follow_run_callbacks;
/* The call's, with the same user data. A client that goes ends the run as that says; an observer's
 * end means nothing. */
extern const struct sl_call_callbacks sl_follow_call_callbacks;

/* Ends call and stream. Nothing of `follow` may be touched after any of these. */
void sl_follow_finish(
    struct sl_follow *follow,
    enum sl_run_close how,
    uint32_t code,
    const struct sl_call_status *status);
/* The run has ended and everything of it was read: its ending is the call's. */
void sl_follow_finish_read(struct sl_follow *follow);
/* Says in `status` that the run was started, and the last event that its client has: for a stream
 * that ends before its run, or whose run may go on elsewhere (AL-5.2). */
void sl_follow_say_place(struct sl_follow *follow, struct sl_call_status *status);
void sl_follow_refuse(struct sl_follow *follow, const struct sl_run_refusal *refusal);
/* The run exists, and the call cannot go on for want of memory. */
void sl_follow_fail(struct sl_follow *follow, enum sl_status code, const char *message);

/* The run exists: notes its id (valid as long as the stream) and adds the headers that tell it.
 * Fails: as sl_call_add_header(). */
SL_CHECK enum sl_status sl_follow_open(struct sl_follow *follow, const char *run_id);

#endif
