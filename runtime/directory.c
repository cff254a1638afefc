#include "runtime/directory.h"

#include <pthread.h>
#include <stdio.h>

#include "runtime/base/map.h"
#include "runtime/base/mem.h"
#include "runtime/directory_queue.h"
#include "runtime/directory_sessions.h"

/* Ended requests that are remembered at most, for each run that may be there. */
enum { REMEMBERED_PER_RUN = 2 };

struct sl_directory_request {
    UT_hash_handle hh;
    struct sl_list node; /* of the ended ones, oldest first */
    bool is_ended;
    uint64_t ended_ns;
    char run_id[SL_ID_BYTES];
    uint8_t digest[SL_SHA256_BYTES];
    size_t key_bytes;
    char key[]; /* the tenant, terminated, and its request id */
};

/* One that has runs. */
struct sl_directory_tenant {
    UT_hash_handle hh;
    uint64_t n_runs; /* running and waiting */
    struct sl_queue_line line;
    char name[]; /* terminated */
};

/* A key, until it is known whether it is needed. Longer ones than there can be find nothing. */
enum { KEY_BYTES = 1024 };
struct request_key {
    char bytes[KEY_BYTES];
    size_t size;
};

struct sl_directory {
    struct sl_directory_options options;
    struct {
        pthread_mutex_t lock;
        bool is_draining;
        struct sl_directory_queue queue;
        struct sl_list queued;
        struct sl_directory_session *sessions;
        struct sl_directory_counts counts;
        struct sl_directory_tenant *tenants;
        struct sl_directory_request *requests;
        struct sl_directory_run *runs;
        struct sl_list ended_requests;
        uint64_t n_ended_requests;
        uint64_t *runs_of_loop;
    } shared;
};

static void lock(struct sl_directory *directory)
{
    (void)pthread_mutex_lock(&directory->shared.lock);
}

static void unlock(struct sl_directory *directory)
{
    (void)pthread_mutex_unlock(&directory->shared.lock);
}

/* ---- Request ids -------------------------------------------------------------------------------
 */

/* uthash is macros, which the linter counts. */
// NOLINTBEGIN(readability-function-cognitive-complexity,readability-function-size)
static struct sl_directory_request *
find_request(const struct sl_directory *directory, const struct request_key *key)
{
    struct sl_directory_request *request = NULL;
    HASH_FIND(hh, directory->shared.requests, key->bytes, key->size, request);
    return request;
}

static bool add_request(struct sl_directory *directory, struct sl_directory_request *request)
{
    sl_map_oom = false;
    HASH_ADD(hh, directory->shared.requests, key, request->key_bytes, request);
    return !sl_map_oom;
}

static void remove_request(struct sl_directory *directory, struct sl_directory_request *request)
{
    HASH_DELETE(hh, directory->shared.requests, request);
}

static struct sl_directory_tenant *
find_tenant(const struct sl_directory *directory, const char *name)
{
    struct sl_directory_tenant *tenant = NULL;
    HASH_FIND(hh, directory->shared.tenants, name, strlen(name), tenant);
    return tenant;
}

static bool add_tenant(struct sl_directory *directory, struct sl_directory_tenant *tenant)
{
    sl_map_oom = false;
    HASH_ADD(hh, directory->shared.tenants, name, strlen(tenant->name), tenant);
    return !sl_map_oom;
}

static void remove_tenant(struct sl_directory *directory, struct sl_directory_tenant *tenant)
{
    HASH_DELETE(hh, directory->shared.tenants, tenant);
}

static bool add_run(struct sl_directory *directory, struct sl_directory_run *run)
{
    sl_map_oom = false;
    HASH_ADD(hh, directory->shared.runs, run_id, SL_ID_BYTES - 1, run);
    return !sl_map_oom;
}

static struct sl_directory_run *find_run(const struct sl_directory *directory, const char *run_id)
{
    struct sl_directory_run *run = NULL;
    HASH_FIND(hh, directory->shared.runs, run_id, SL_ID_BYTES - 1, run);
    return run;
}

static void remove_run(struct sl_directory *directory, struct sl_directory_run *run)
{
    HASH_DELETE(hh, directory->shared.runs, run);
}
// NOLINTEND(readability-function-cognitive-complexity,readability-function-size)

static void forget(struct sl_directory *directory, struct sl_directory_request *request)
{
    remove_request(directory, request);
    if (request->is_ended) {
        sl_list_remove(&request->node);
        directory->shared.n_ended_requests--;
    }
    (void)sl_free(request);
}

static void forget_old(struct sl_directory *directory, uint64_t now_ns)
{
    const uint64_t max = directory->options.max_runs * REMEMBERED_PER_RUN;
    struct sl_list *oldest = sl_list_first(&directory->shared.ended_requests);
    while (oldest != NULL) {
        struct sl_directory_request *request =
            SL_CONTAINER(oldest, struct sl_directory_request, node);
        if (directory->shared.n_ended_requests <= max &&
            now_ns - request->ended_ns < directory->options.request_keep_ns) {
            return;
        }
        forget(directory, request);
        oldest = sl_list_first(&directory->shared.ended_requests);
    }
}

/* False: no such key can be. */
static bool make_key(struct request_key *key, const char *tenant, const char *request_id)
{
    const size_t n_tenant = strlen(tenant) + 1;
    const size_t n_id = strlen(request_id);
    if (n_tenant + n_id > sizeof(key->bytes)) {
        return false;
    }
    memcpy(key->bytes, tenant, n_tenant);
    memcpy(key->bytes + n_tenant, request_id, n_id);
    key->size = n_tenant + n_id;
    return true;
}

static enum sl_admission remember(
    struct sl_directory *directory,
    const struct request_key *key,
    const struct sl_directory_ask *ask,
    struct sl_directory_request **ret_request)
{
    struct sl_directory_request *request = sl_calloc(1, sizeof(*request) + key->size);
    if (request == NULL) {
        return SL_ADMIT_NO_MEMORY;
    }
    memcpy(request->key, key->bytes, key->size);
    request->key_bytes = key->size;
    memcpy(request->digest, ask->digest, sizeof(request->digest));
    (void)snprintf(request->run_id, sizeof(request->run_id), "%s", ask->run_id);
    if (!add_request(directory, request)) {
        (void)sl_free(request);
        return SL_ADMIT_NO_MEMORY;
    }
    *ret_request = request;
    return SL_ADMIT_RUN;
}

/* ---- Tenants -----------------------------------------------------------------------------------
 */

/* The tenant, with one run more; NULL: no memory. */
static struct sl_directory_tenant *enter_tenant(struct sl_directory *directory, const char *name)
{
    struct sl_directory_tenant *tenant = find_tenant(directory, name);
    if (tenant == NULL) {
        const size_t size = strlen(name) + 1;
        tenant = sl_calloc(1, sizeof(*tenant) + size);
        if (tenant == NULL) {
            return NULL;
        }
        memcpy(tenant->name, name, size);
        sl_queue_line_init(&tenant->line);
        if (!add_tenant(directory, tenant)) {
            return sl_free(tenant);
        }
    }
    tenant->n_runs++;
    return tenant;
}

/* One without runs is forgotten: there are never more than runs. */
static void leave_tenant(struct sl_directory *directory, struct sl_ticket *ticket)
{
    struct sl_directory_tenant *tenant = SL_TAKE(ticket->tenant);
    if (tenant != NULL && --tenant->n_runs == 0) {
        remove_tenant(directory, tenant);
        (void)sl_free(tenant);
    }
}

static bool is_tenant_full(const struct sl_directory *directory, const char *name)
{
    const uint64_t max = directory->options.max_tenant_runs;
    const struct sl_directory_tenant *tenant = max == 0 ? NULL : find_tenant(directory, name);
    return tenant != NULL && tenant->n_runs >= max;
}

/* ---- Places ------------------------------------------------------------------------------------
 */

/* The reader's loop, unless it has over twice the runs of the least loaded one. */
static uint32_t choose_loop(const struct sl_directory *directory, uint32_t home)
{
    const uint64_t *runs = directory->shared.runs_of_loop;
    uint32_t least = home;
    for (uint32_t i = 0; i < directory->options.n_loops; i++) {
        if (runs[i] < runs[least]) {
            least = i;
        }
    }
    return runs[home] > 2 * runs[least] ? least : home;
}

static void take_slot(struct sl_directory *directory, struct sl_ticket *ticket)
{
    ticket->state = SL_TICKET_RUNNING;
    ticket->loop = choose_loop(directory, ticket->home);
    directory->shared.runs_of_loop[ticket->loop]++;
    ticket->tenant->line.n_running++;
    directory->shared.counts.running++;
}

static bool has_room(const struct sl_directory *directory)
{
    const struct sl_directory_counts *counts = &directory->shared.counts;
    return counts->waiting + counts->queued < directory->options.max_waiting;
}

/* As much as there is to decide without a change. */
static enum sl_admission judge(const struct sl_directory *directory, const char *tenant)
{
    const struct sl_directory_counts *counts = &directory->shared.counts;
    if (directory->shared.is_draining) {
        return SL_ADMIT_DRAINING;
    }
    if (is_tenant_full(directory, tenant)) {
        return SL_ADMIT_TENANT_FULL;
    }
    if (counts->running < directory->options.max_runs && counts->waiting == 0) {
        return SL_ADMIT_RUN;
    }
    return has_room(directory) ? SL_ADMIT_WAIT : SL_ADMIT_FULL;
}

/* The same, for a session that somebody has. */
static enum sl_admission judge_queue(
    const struct sl_directory *directory,
    const struct sl_directory_session *session,
    enum sl_session_policy policy)
{
    if (policy == SL_SESSION_REJECT) {
        return SL_ADMIT_SESSION_BUSY;
    }
    if (session->n_waiting >= directory->options.max_session_queue) {
        return SL_ADMIT_SESSION_FULL;
    }
    return has_room(directory) ? SL_ADMIT_QUEUE : SL_ADMIT_FULL;
}

/* Who is refused may not keep a session that nobody had. */
static void drop_session(struct sl_directory *directory, struct sl_ticket *ticket, bool is_held)
{
    if (ticket->session != NULL && !is_held) {
        (void)sl_directory_sessions_pass_on(&directory->shared.sessions, ticket, true);
    }
    ticket->session = NULL;
}

static void enter(
    struct sl_directory *directory,
    struct sl_ticket *ticket,
    enum sl_admission verdict,
    char ret_run_id[SL_ID_BYTES])
{
    struct sl_directory_counts *counts = &directory->shared.counts;
    if (verdict == SL_ADMIT_RUN) {
        take_slot(directory, ticket);
    } else if (verdict == SL_ADMIT_WAIT) {
        ticket->state = SL_TICKET_WAITING;
        sl_directory_queue_add(&directory->shared.queue, &ticket->tenant->line, ticket);
        counts->waiting++;
    } else {
        ticket->state = SL_TICKET_QUEUED;
        sl_list_add_last(&directory->shared.queued, &ticket->node);
        counts->queued++;
        sl_directory_sessions_wait(ticket->session, ticket);
        (void)snprintf(
            ret_run_id, SL_ID_BYTES, "%s",
            ticket->interrupts ? ticket->session->holder->run_id : "");
    }
}

/* `verdict`: what there is without a session. */
static enum sl_admission take_session(
    struct sl_directory *directory,
    struct sl_ticket *ticket,
    const struct sl_directory_ask *ask,
    enum sl_admission verdict,
    bool *ret_is_held)
{
    if (ask->session_id == NULL || ask->session_id[0] == '\0') {
        return verdict;
    }
    ticket->session =
        sl_directory_sessions_take(&directory->shared.sessions, ask, ticket, ret_is_held);
    if (ticket->session == NULL) {
        return SL_ADMIT_NO_MEMORY;
    }
    return *ret_is_held ? judge_queue(directory, ticket->session, ask->policy) : verdict;
}

static enum sl_admission admit(
    struct sl_directory *directory,
    struct sl_ticket *ticket,
    const struct sl_directory_ask *ask,
    char ret_run_id[SL_ID_BYTES])
{
    const char *tenant = ask->tenant == NULL ? "" : ask->tenant;
    struct request_key key;
    const bool has_id = ask->request_id != NULL && ask->request_id[0] != '\0' &&
                        make_key(&key, tenant, ask->request_id);
    const struct sl_directory_request *known = has_id ? find_request(directory, &key) : NULL;
    if (known != NULL) {
        memcpy(ret_run_id, known->run_id, SL_ID_BYTES);
        const bool is_same = memcmp(known->digest, ask->digest, sizeof(known->digest)) == 0;
        return !is_same          ? SL_ADMIT_REQUEST_ID
               : known->is_ended ? SL_ADMIT_KNOWN_OVER
                                 : SL_ADMIT_KNOWN;
    }
    enum sl_admission verdict = judge(directory, tenant);
    bool is_held = false;
    if (verdict != SL_ADMIT_DRAINING && verdict != SL_ADMIT_TENANT_FULL) {
        verdict = take_session(directory, ticket, ask, verdict, &is_held);
    }
    if (verdict < SL_ADMIT_DRAINING && has_id) {
        verdict = remember(directory, &key, ask, &ticket->request) == SL_ADMIT_NO_MEMORY
                      ? SL_ADMIT_NO_MEMORY
                      : verdict;
    }
    if (verdict < SL_ADMIT_DRAINING) {
        ticket->tenant = enter_tenant(directory, tenant);
        verdict = ticket->tenant == NULL ? SL_ADMIT_NO_MEMORY : verdict;
    }
    if (verdict < SL_ADMIT_DRAINING) {
        enter(directory, ticket, verdict, ret_run_id);
        return verdict;
    }
    if (ticket->request != NULL) {
        forget(directory, SL_TAKE(ticket->request));
    }
    drop_session(directory, ticket, is_held);
    return verdict;
}

enum sl_admission sl_directory_admit(
    struct sl_directory *directory,
    struct sl_ticket *ticket,
    const struct sl_directory_ask *ask,
    char ret_run_id[SL_ID_BYTES])
{
    *ticket = (struct sl_ticket){ .state = SL_TICKET_NONE,
                                  .home = ask->home,
                                  .interrupts = ask->policy == SL_SESSION_INTERRUPT,
                                  .run_id = ask->run_id };
    lock(directory);
    sl_directory_queue_tick(&directory->shared.queue, ask->now_ns);
    forget_old(directory, ask->now_ns);
    const enum sl_admission verdict = admit(directory, ticket, ask, ret_run_id);
    if (verdict >= SL_ADMIT_DRAINING) {
        directory->shared.counts.refused++;
    }
    unlock(directory);
    return verdict;
}

enum sl_admission sl_directory_take_up(
    struct sl_directory *directory, struct sl_ticket *ticket, const struct sl_directory_ask *ask)
{
    char other[SL_ID_BYTES];
    *ticket =
        (struct sl_ticket){ .state = SL_TICKET_NONE, .home = ask->home, .run_id = ask->run_id };
    lock(directory);
    const struct sl_directory_options options = directory->options;
    directory->options.max_tenant_runs = 0;
    directory->options.max_runs = UINT64_MAX;
    const enum sl_admission verdict = admit(directory, ticket, ask, other);
    directory->options = options;
    unlock(directory);
    return verdict;
}

/* A run that was there is remembered for a while; one that never was is not. */
static void
end_request(struct sl_directory *directory, struct sl_ticket *ticket, bool was_run, uint64_t now_ns)
{
    struct sl_directory_request *request = SL_TAKE(ticket->request);
    if (request == NULL) {
        return;
    }
    if (!was_run) {
        forget(directory, request);
        return;
    }
    request->is_ended = true;
    request->ended_ns = now_ns;
    sl_list_add_last(&directory->shared.ended_requests, &request->node);
    directory->shared.n_ended_requests++;
    forget_old(directory, now_ns);
}

static struct sl_ticket *admit_waiting(struct sl_directory *directory)
{
    if (directory->shared.is_draining ||
        directory->shared.counts.running >= directory->options.max_runs) {
        return NULL;
    }
    struct sl_ticket *next =
        sl_directory_queue_next(&directory->shared.queue, directory->options.max_runs);
    if (next != NULL) {
        directory->shared.counts.waiting--;
        take_slot(directory, next);
    }
    return next;
}

struct sl_ticket *sl_directory_leave(
    struct sl_directory *directory, struct sl_ticket *ticket, bool was_run, uint64_t now_ns)
{
    lock(directory);
    struct sl_ticket *next = NULL;
    if (ticket->state == SL_TICKET_RUNNING) {
        ticket->state = SL_TICKET_NONE;
        sl_directory_queue_tick(&directory->shared.queue, now_ns);
        sl_directory_queue_freed(&directory->shared.queue);
        ticket->tenant->line.n_running--;
        directory->shared.runs_of_loop[ticket->loop]--;
        directory->shared.counts.running--;
        directory->shared.counts.started += was_run ? 1 : 0;
        directory->shared.counts.ended += was_run ? 1 : 0;
        directory->shared.counts.refused += was_run ? 0 : 1;
        end_request(directory, ticket, was_run, now_ns);
        leave_tenant(directory, ticket);
        next = admit_waiting(directory);
    }
    unlock(directory);
    return next;
}

struct sl_ticket *sl_directory_admit_waiting(struct sl_directory *directory)
{
    lock(directory);
    struct sl_ticket *next = admit_waiting(directory);
    unlock(directory);
    return next;
}

void sl_directory_set_options(
    struct sl_directory *directory, const struct sl_directory_options *options)
{
    lock(directory);
    directory->options.max_runs = options->max_runs;
    directory->options.max_waiting = options->max_waiting;
    directory->options.max_tenant_runs = options->max_tenant_runs;
    directory->options.max_session_queue = options->max_session_queue;
    directory->options.request_keep_ns = options->request_keep_ns;
    unlock(directory);
}

/* One that waits for its session, for its turn or for a slot does not get it. */
static void refuse(struct sl_directory *directory, struct sl_ticket *ticket)
{
    struct sl_directory_counts *counts = &directory->shared.counts;
    if (ticket->state == SL_TICKET_WAITING) {
        counts->waiting--;
        sl_directory_queue_remove(&directory->shared.queue, ticket);
    } else {
        counts->queued--;
    }
    if (ticket->state == SL_TICKET_QUEUED) {
        sl_directory_sessions_quit(&directory->shared.sessions, ticket);
        sl_list_remove(&ticket->node);
    }
    ticket->state = SL_TICKET_NONE;
    counts->refused++;
    end_request(directory, ticket, false, 0);
    leave_tenant(directory, ticket);
}

bool sl_directory_abandon(struct sl_directory *directory, struct sl_ticket *ticket)
{
    lock(directory);
    const bool was_waiting =
        ticket->state == SL_TICKET_WAITING || ticket->state == SL_TICKET_QUEUED;
    if (was_waiting) {
        refuse(directory, ticket);
    }
    unlock(directory);
    return was_waiting;
}

/* ---- Sessions ----------------------------------------------------------------------------------
 */

struct sl_ticket *
sl_directory_leave_session(struct sl_directory *directory, struct sl_ticket *ticket)
{
    struct sl_ticket *next = NULL;
    lock(directory);
    if (ticket->session != NULL && ticket->session->holder == ticket) {
        next = sl_directory_sessions_pass_on(
            &directory->shared.sessions, ticket, directory->shared.is_draining);
    }
    if (next != NULL) {
        sl_list_remove(&next->node);
        next->state = SL_TICKET_TURN;
    }
    unlock(directory);
    return next;
}

enum sl_admission sl_directory_ask_slot(struct sl_directory *directory, struct sl_ticket *ticket)
{
    enum sl_admission verdict = SL_ADMIT_DRAINING;
    lock(directory);
    struct sl_directory_counts *counts = &directory->shared.counts;
    if (directory->shared.is_draining) {
        refuse(directory, ticket);
    } else if (counts->running < directory->options.max_runs && counts->waiting == 0) {
        counts->queued--;
        take_slot(directory, ticket);
        verdict = SL_ADMIT_RUN;
    } else {
        counts->queued--;
        counts->waiting++;
        ticket->state = SL_TICKET_WAITING;
        sl_directory_queue_add(&directory->shared.queue, &ticket->tenant->line, ticket);
        verdict = SL_ADMIT_WAIT;
    }
    unlock(directory);
    return verdict;
}

void sl_directory_drop_turn(struct sl_directory *directory, struct sl_ticket *ticket)
{
    lock(directory);
    refuse(directory, ticket);
    unlock(directory);
}

bool sl_directory_is_interrupted(struct sl_directory *directory, const struct sl_ticket *ticket)
{
    lock(directory);
    const bool is_interrupted = ticket->session != NULL && ticket->session->holder == ticket &&
                                ticket->session->n_interrupting > 0;
    unlock(directory);
    return is_interrupted;
}

/* ---- Where runs are ----------------------------------------------------------------------------
 */

enum sl_status sl_directory_add_run(
    struct sl_directory *directory, struct sl_directory_run *run, const char *run_id, uint32_t loop)
{
    run->loop = loop;
    (void)snprintf(run->run_id, sizeof(run->run_id), "%s", run_id);
    lock(directory);
    const bool is_added = add_run(directory, run);
    unlock(directory);
    return is_added ? SL_OK : SL_RESOURCE_EXHAUSTED;
}

void sl_directory_remove_run(struct sl_directory *directory, struct sl_directory_run *run)
{
    lock(directory);
    remove_run(directory, run);
    unlock(directory);
}

struct sl_directory_run *sl_directory_run_at(struct sl_directory *directory, const char *run_id)
{
    if (strlen(run_id) != SL_ID_BYTES - 1) {
        return NULL;
    }
    lock(directory);
    struct sl_directory_run *run = find_run(directory, run_id);
    unlock(directory);
    return run;
}

bool sl_directory_find_run(struct sl_directory *directory, const char *run_id, uint32_t *ret_loop)
{
    if (strlen(run_id) != SL_ID_BYTES - 1) {
        return false;
    }
    lock(directory);
    const struct sl_directory_run *run = find_run(directory, run_id);
    if (run != NULL) {
        *ret_loop = run->loop;
    }
    unlock(directory);
    return run != NULL;
}

/* ---- The end -----------------------------------------------------------------------------------
 */

void sl_directory_drain(struct sl_directory *directory)
{
    lock(directory);
    directory->shared.is_draining = true;
    unlock(directory);
}

struct sl_ticket *sl_directory_take_waiting(struct sl_directory *directory)
{
    lock(directory);
    struct sl_list *node = sl_list_first(&directory->shared.queue.waiting);
    node = node != NULL ? node : sl_list_first(&directory->shared.queued);
    struct sl_ticket *ticket = NULL;
    if (node != NULL) {
        ticket = SL_CONTAINER(node, struct sl_ticket, node);
        refuse(directory, ticket);
    }
    unlock(directory);
    return ticket;
}

uint64_t sl_directory_wait_ms(struct sl_directory *directory, uint64_t otherwise_ms)
{
    lock(directory);
    const uint64_t wait_ms =
        sl_directory_queue_wait_ms(&directory->shared.queue, directory->shared.counts.waiting);
    unlock(directory);
    return wait_ms == 0 ? otherwise_ms : wait_ms;
}

void sl_directory_count(struct sl_directory *directory, struct sl_directory_counts *ret_counts)
{
    lock(directory);
    *ret_counts = directory->shared.counts;
    unlock(directory);
    ret_counts->started += ret_counts->running;
}

void sl_directory_count_refused(struct sl_directory *directory)
{
    lock(directory);
    directory->shared.counts.refused++;
    unlock(directory);
}

enum sl_status
sl_directory_new(const struct sl_directory_options *options, struct sl_directory **ret_directory)
{
    struct sl_directory *directory = sl_calloc(1, sizeof(*directory));
    uint64_t *runs_of_loop = sl_calloc(options->n_loops, sizeof(*runs_of_loop));
    if (directory == NULL || runs_of_loop == NULL) {
        (void)sl_free(runs_of_loop);
        (void)sl_free(directory);
        return SL_RESOURCE_EXHAUSTED;
    }
    directory->options = *options;
    directory->shared.runs_of_loop = runs_of_loop;
    sl_directory_queue_init(&directory->shared.queue);
    sl_list_init(&directory->shared.queued);
    sl_list_init(&directory->shared.ended_requests);
    (void)pthread_mutex_init(&directory->shared.lock, NULL);
    *ret_directory = directory;
    return SL_OK;
}

struct sl_directory *sl_directory_free(struct sl_directory *directory)
{
    if (directory == NULL) {
        return NULL;
    }
    struct sl_directory_request *request = directory->shared.requests;
    while (request != NULL) {
        struct sl_directory_request *next = request->hh.next;
        forget(directory, request);
        request = next;
    }
    while (directory->shared.tenants != NULL) { /* whose runs never left */
        struct sl_directory_tenant *tenant = directory->shared.tenants;
        remove_tenant(directory, tenant);
        (void)sl_free(tenant);
    }
    (void)pthread_mutex_destroy(&directory->shared.lock);
    (void)sl_free(directory->shared.runs_of_loop);
    return sl_free(directory);
}
