/* How a run ends (AL-5): what each error code means for the stream's status, for a retry, and in
 * words. */
#ifndef SL_RUNTIME_EXEC_ENDING_H
#define SL_RUNTIME_EXEC_ENDING_H

#include "proto/sluice/v1/events.pb-c.h"
#include "runtime/base/random.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"

struct sl_ending {
    Sluice__V1__ErrorCode code; /* UNSPECIFIED: RunDone */
    Sluice__V1__CancelReason cancel_reason;
    Sluice__V1__StopReason stop_reason; /* of RunDone */
    enum sl_status status;              /* of the stream */
    const char *reason;                 /* name of `code`; "" for RunDone */
    bool is_retryable;
    bool has_retry_after;
    bool is_unlogged; /* its event is behind the log, and has no sequence (AL-5.1) */
    uint64_t retry_after_ms;
    uint32_t provider_status; /* HTTP status of the provider; 0: none */
    char message[112];        /* for people */
    char error_id[SL_ID_BYTES];
    bool is_parked; /* the run has not ended: it goes on elsewhere, and there is no event of this */
};

/* A success. */
struct sl_ending sl_ending_done(Sluice__V1__StopReason stop_reason);
/* A failure, with the table's status, retry flag and message, and a fresh error id. */
struct sl_ending sl_ending_error(Sluice__V1__ErrorCode code);
/* AL-5.20 to 5.24. */
struct sl_ending sl_ending_cancelled(Sluice__V1__CancelReason reason);
/* Replaces the message. */
SL_PRINTF(2, 3) void sl_ending_say(struct sl_ending *ending, const char *fmt, ...);

/* "CLIENT_RESET"; "" for none. */
const char *sl_ending_cancel_name(Sluice__V1__CancelReason reason);

#endif
