/* The conversation of a run whose owner is gone (AL-5.27): what the store has of it, and then what
 * the events say that came behind that.
 *
 *   init ─▶ begin ─▶ text | event … ─▶ end ─▶ done
 *
 * An answer and the results of its calls are one unit: it is added when the next iteration begins,
 * or in the end. It is worse than what the owner had in one thing: results are as long as in their
 * events. Whoever cannot tell it, for want of memory or because it is too large, is silent from
 * there on, and nothing fails. */
#ifndef SL_RUNTIME_EXEC_RETELL_H
#define SL_RUNTIME_EXEC_RETELL_H

#include "runtime/base/buf.h"
#include "runtime/base/list.h"
#include "runtime/exec/encode.h"
#include "runtime/exec/history.h"

#define SL_RETELL_LOST "the server was lost: the call may have run, or not"

struct sl_retelling {
    bool is_told; /* otherwise nobody knows it */
    struct sl_history history;
    uint64_t known; /* events up to this one are in it already */
    size_t max_bytes;
    bool has_use; /* of this turn: some text of the model, or a tool that ran */

    struct { /* the iteration that is open, or was the last */
        struct sl_buf text, reasoning;
        struct sl_arena arena; /* of the calls */
        struct sl_list calls;  /* in their order */
        size_t n_calls;
    } unit;
};

void sl_retelling_init(struct sl_retelling *retelling);
void sl_retelling_done(struct sl_retelling *retelling);
/* `base` is the conversation in the form that is kept, with the events up to `known`. What is told
 * is silent over about `max_bytes`. */
void sl_retelling_begin(
    struct sl_retelling *retelling, struct sl_slice base, uint64_t known, size_t max_bytes);

/* The next event is a text; or another one. */
void sl_retelling_text(
    struct sl_retelling *retelling,
    uint64_t sequence,
    enum sl_encode_text kind,
    struct sl_slice text);
void sl_retelling_event(
    struct sl_retelling *retelling, uint64_t sequence, const Sluice__V1__StreamEvent *event);

/* Bytes of what the open iteration asked the model with; 0: nobody knows. */
size_t sl_retelling_request_bytes(const struct sl_retelling *retelling);

/* Calls without result get one that says that nobody knows it, and `ret_bytes` the whole in the
 * form that is kept. Empty: it is not told. Owns: the caller; sl_buf_done(). Once. */
void sl_retelling_end(struct sl_retelling *retelling, struct sl_buf *ret_bytes);

#endif
