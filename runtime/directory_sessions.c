#include "runtime/directory_sessions.h"

#include "runtime/base/mem.h"

/* uthash is macros, which the linter counts. */
// NOLINTBEGIN(readability-function-cognitive-complexity,readability-function-size)
static struct sl_directory_session *
find(struct sl_directory_session *sessions, const struct sl_directory_session *like)
{
    struct sl_directory_session *session = NULL;
    HASH_FIND(hh, sessions, like->key, like->key_bytes, session);
    return session;
}

static bool add(struct sl_directory_session **sessions, struct sl_directory_session *session)
{
    sl_map_oom = false;
    HASH_ADD(hh, *sessions, key, session->key_bytes, session);
    return !sl_map_oom;
}

static void drop(struct sl_directory_session **sessions, struct sl_directory_session *session)
{
    HASH_DELETE(hh, *sessions, session);
}
// NOLINTEND(readability-function-cognitive-complexity,readability-function-size)

static struct sl_directory_session *make(const struct sl_directory_ask *ask)
{
    const char *names[] = { ask->tenant == NULL ? "" : ask->tenant,
                            ask->agent == NULL ? "" : ask->agent, ask->session_id };
    size_t key_bytes = 0;
    for (size_t i = 0; i < SL_COUNT(names); i++) {
        key_bytes += strlen(names[i]) + 1;
    }
    struct sl_directory_session *session = sl_calloc(1, sizeof(*session) + key_bytes);
    if (session == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < SL_COUNT(names); i++) {
        const size_t size = strlen(names[i]) + 1;
        memcpy(session->key + session->key_bytes, names[i], size);
        session->key_bytes += size;
    }
    sl_list_init(&session->waiting);
    return session;
}

struct sl_directory_session *sl_directory_sessions_take(
    struct sl_directory_session **sessions,
    const struct sl_directory_ask *ask,
    struct sl_ticket *ticket,
    bool *ret_is_held)
{
    struct sl_directory_session *fresh = make(ask);
    *ret_is_held = false;
    if (fresh == NULL) {
        return NULL;
    }
    struct sl_directory_session *session = find(*sessions, fresh);
    if (session != NULL) {
        *ret_is_held = true;
        (void)sl_free(fresh);
        return session;
    }
    if (!add(sessions, fresh)) {
        return sl_free(fresh);
    }
    fresh->holder = ticket;
    return fresh;
}

void sl_directory_sessions_wait(struct sl_directory_session *session, struct sl_ticket *ticket)
{
    struct sl_list *before = &session->waiting; /* the end */
    if (ticket->interrupts) {
        before = session->waiting.next;
        while (before != &session->waiting &&
               SL_CONTAINER(before, struct sl_ticket, session_node)->interrupts) {
            before = before->next;
        }
    }
    sl_list_add_last(before, &ticket->session_node); /* right before it */
    session->n_waiting++;
    session->n_interrupting += ticket->interrupts ? 1 : 0;
}

static void stop_waiting(struct sl_ticket *ticket)
{
    sl_list_remove(&ticket->session_node);
    ticket->session->n_waiting--;
    ticket->session->n_interrupting -= ticket->interrupts ? 1 : 0;
}

/* One that nobody has or waits for is forgotten. */
static void
forget_unused(struct sl_directory_session **sessions, struct sl_directory_session *session)
{
    if (session->holder == NULL && session->n_waiting == 0) {
        drop(sessions, session);
        (void)sl_free(session);
    }
}

void sl_directory_sessions_quit(struct sl_directory_session **sessions, struct sl_ticket *ticket)
{
    stop_waiting(ticket);
    forget_unused(sessions, SL_TAKE(ticket->session));
}

struct sl_ticket *sl_directory_sessions_pass_on(
    struct sl_directory_session **sessions, struct sl_ticket *ticket, bool keeps)
{
    struct sl_directory_session *session = SL_TAKE(ticket->session);
    struct sl_list *first = keeps ? NULL : sl_list_first(&session->waiting);
    if (first != NULL) {
        struct sl_ticket *next = SL_CONTAINER(first, struct sl_ticket, session_node);
        stop_waiting(next);
        session->holder = next;
        return next;
    }
    session->holder = NULL;
    forget_unused(sessions, session);
    return NULL;
}
