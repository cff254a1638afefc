/* The sessions that have a run, or wait for one: part of the directory, under its lock. */
#ifndef SL_RUNTIME_DIRECTORY_SESSIONS_H
#define SL_RUNTIME_DIRECTORY_SESSIONS_H

#include "runtime/directory.h"

/* One that somebody has. */
struct sl_directory_session {
    UT_hash_handle hh;
    struct sl_ticket *holder;
    struct sl_list waiting; /* sl_ticket.session_node, in their order */
    uint64_t n_waiting, n_interrupting;
    size_t key_bytes;
    char key[]; /* tenant, agent and session id, each terminated */
};

/* Finds it, or makes it with this holder; NULL: no memory. `*ret_is_held`: somebody else has it. */
struct sl_directory_session *sl_directory_sessions_take(
    struct sl_directory_session **sessions,
    const struct sl_directory_ask *ask,
    struct sl_ticket *ticket,
    bool *ret_is_held);
/* Behind those that came before, or with `ticket->interrupts` before those that do not. */
void sl_directory_sessions_wait(struct sl_directory_session *session, struct sl_ticket *ticket);
/* One that waits goes. */
void sl_directory_sessions_quit(struct sl_directory_session **sessions, struct sl_ticket *ticket);
/* The holder goes. Who has it next is taken out of the queue; NULL: nobody, and it is gone.
 * `keeps`: nobody gets it any more. */
struct sl_ticket *sl_directory_sessions_pass_on(
    struct sl_directory_session **sessions, struct sl_ticket *ticket, bool keeps);

#endif
