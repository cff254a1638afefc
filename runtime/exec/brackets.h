/* What closes the log of a run that has ended before its end could be stored (AL-5.28, AL-3.3.2):
 * reads what the store has, and says which events close what is open there.
 *
 * Everything happens on its loop, and is bounded by the log. */
#ifndef SL_RUNTIME_EXEC_BRACKETS_H
#define SL_RUNTIME_EXEC_BRACKETS_H

#include "runtime/exec/closing.h"

/* Embedded in its owner, who fills the first part. */
struct sl_brackets {
    struct sl_store *store;
    struct sl_loop *loop;
    const char *run_id;
    uint64_t stored; /* last sequence that is */
    /* Once, perhaps from inside of _begin: SL_OK; SL_CANCELLED it was told to stop; SL_DATA_LOSS
     * nobody knows what is open; otherwise as sl_store_read(): it may begin again. */
    void (*on_done)(struct sl_brackets *brackets, enum sl_status status);
    bool must_stop; /* may be set at any time */

    /* Of the answer. */
    struct sl_segment *segment; /* owned by the owner; NULL: nothing is open */
    uint64_t last_sequence;     /* of it */

    struct sl_closing closing;
    struct sl_store_read read;
};

void sl_brackets_begin(struct sl_brackets *brackets);

#endif
