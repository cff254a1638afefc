/* The bytes that wait in all send queues of the process: those of calls, and the unread part of
 * runs' logs. Above a limit (limits.send_total) every queue keeps to SL_SEND_LEAST_MARK, so that
 * producers pause; nothing is dropped.
 *
 * An owner (a connection, a log) counts its own bytes and hands over the difference once it is a
 * step: the hot path touches nothing that is shared but to read it. So the sum may be wrong by a
 * step for each owner. */
#ifndef SL_RUNTIME_BASE_SEND_TOTAL_H
#define SL_RUNTIME_BASE_SEND_TOTAL_H

#include <stdbool.h>
#include <stdint.h>

enum { SL_SEND_TOTAL_STEP = 4096, SL_SEND_LEAST_MARK = 4096 };

/* Replaces an owner's share by `bytes`. Thread: the owner's. Never fails. */
void sl_send_total_set(uint64_t *share, uint64_t bytes);

/* The same, when it is worth it: a step away, or nothing left. */
static inline void sl_send_total_note(uint64_t *share, uint64_t bytes)
{
    const uint64_t apart = bytes > *share ? bytes - *share : *share - bytes;
    if (apart >= SL_SEND_TOTAL_STEP || (bytes == 0 && *share > 0)) {
        sl_send_total_set(share, bytes);
    }
}

/* Thread: any. */
uint64_t sl_send_total_bytes(void);
bool sl_send_total_is_over(uint64_t max_bytes);

#endif
