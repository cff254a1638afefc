/* How a recorded run ended: what its terminal event says. */
#ifndef SL_RUNTIME_EXEC_TERMINAL_H
#define SL_RUNTIME_EXEC_TERMINAL_H

#include "runtime/base/slice.h"
#include "runtime/exec/budget.h"
#include "runtime/exec/ending.h"

struct sl_terminal {
    struct sl_ending ending;
    struct sl_usage used;
};

/* `event` has no prefix. Fails: SL_DATA_LOSS it is no terminal event, or cannot be
 * read. */
SL_CHECK enum sl_status sl_terminal_read(struct sl_slice event, struct sl_terminal *ret_terminal);

/* NULL: nothing was used. */
struct sl_usage sl_terminal_usage(const Sluice__V1__Usage *usage);

#endif
